/*-------------------------------------------------------------------------
 *
 * traceql.h
 *	  What the rest of the library needs of TraceQL; its SQL functions are
 *	  in sql/install/50-traceql.sql.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_TRACEQL_H
#define TEMPO_TRACEQL_TRACEQL_H

/* Defines tempo_pg.max_trace_duration and tempo_pg.compare_memory. */
extern void tempo_traceql_init(void);

#endif /* TEMPO_TRACEQL_TRACEQL_H */
