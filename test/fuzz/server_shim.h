/*-------------------------------------------------------------------------
 *
 * server_shim.h
 *	  As much of a PostgreSQL server as the TraceQL parser and evaluator call:
 *	  memory, errors, lists.  Errors jump out of SHIM_TRY; everything that was
 *	  allocated is freed by shim_reset().
 *
 *-------------------------------------------------------------------------
 */
#ifndef SERVER_SHIM_H
#define SERVER_SHIM_H

#include <setjmp.h>

extern sigjmp_buf *shim_handler;

/* of the last error */
extern int  shim_sqlstate;
extern char shim_message[4096];

/* The most that may be allocated before shim_reset(); more is a failure. */
extern size_t shim_memory_limit;

extern void shim_reset(void);

/*
 * Runs "statement"; "ok" tells whether it raised no error.  Where the stack
 * is deep is measured from here.
 */
extern void shim_stack_base(void *base);

#define SHIM_TRY(ok, statement) \
	do \
	{ \
		sigjmp_buf here; \
		shim_handler = &here; \
		shim_stack_base(__builtin_frame_address(0)); \
		if (sigsetjmp(here, 0) == 0) \
		{ \
			statement; \
			(ok) = true; \
		} \
		else \
			(ok) = false; \
		shim_handler = NULL; \
	} while (0)

/* Seeds: one file per line of "queries" in the corpus folder of "--seeds FOLDER" */
extern void shim_write_seeds(int argc, char **argv, const char *queries);

#endif /* SERVER_SHIM_H */
