/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  Life of a tempo relation beside its rows: files, statements, hooks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_DDL_H
#define TEMPO_ACCESS_DDL_H

#include "access/compat.h"
#include "commands/vacuum.h"

/* tempo_relation: is it a table or materialized view of this access method? */
extern bool tempo_relation(Relation rel);
extern bool tempo_relation_oid(Oid relid);

/* tempo_access_method: is it ours, under whatever name? */
extern bool tempo_access_method(Oid am);

/* storage_file.c: callbacks that create, empty and copy files */
extern void tempo_relation_set_new_file(Relation rel, const RelFileLocator *newfile, char persistence,
                                        TransactionId *freeze_xid, MultiXactId *min_multi);
extern void tempo_relation_nontransactional_truncate(Relation rel);
extern void tempo_relation_copy_data(Relation rel, const RelFileLocator *newfile);
extern void tempo_relation_copy_for_cluster(Relation old_table, Relation new_table, Relation old_index,
                                            bool use_sort, TransactionId oldest_xmin,
                                            TransactionId *xid_cutoff, MultiXactId *multi_cutoff,
                                            double *num_tuples, double *tups_vacuumed,
                                            double *tups_recently_dead);

/*
 * tempo_vacuum_params, tempo_vacuum: VACUUM of some tables outside of a
 * transaction block, as autovacuum does it: locked ones are passed by.
 * "context" lives longer than the transactions that it takes.
 */
static inline void
tempo_vacuum_params(VacuumParams *params)
{
	memset(params, 0, sizeof(*params));
	params->options = VACOPT_VACUUM | VACOPT_SKIP_LOCKED | VACOPT_PROCESS_TOAST | TEMPO_VACUUM_OPTIONS;
	params->freeze_min_age = params->freeze_table_age = -1;
	params->multixact_freeze_min_age = params->multixact_freeze_table_age = -1;
	params->log_min_duration = -1;
	/* index_cleanup and truncate, zero, are as the table's options say */
	params->nworkers = -1;
}

static inline void
tempo_vacuum(List *relations, VacuumParams *params, MemoryContext context)
{
	vacuum(relations, params, NULL, TEMPO_VACUUM_CONTEXT(context) true);
}

/* vacuum.c */
extern void tempo_relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy strategy);
extern void tempo_relation_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages,
                                         double *tuples, double *allvisfrac);

/* tempo_end_is_free: would VACUUM make the file shorter, if the table was not in use? */
extern bool tempo_end_is_free(Relation rel);

/*
 * tempo_reclaim: puts the blocks that no directory row owns any more on the
 * free list; returns how many are free.
 */
extern BlockNumber tempo_reclaim(Relation rel);

/* hooks.c: what the callbacks cannot refuse early enough, and clean-up at DROP */
extern void tempo_hooks_init(void);

/* TEMPO_UNSUPPORTED: ereport arguments are the message and the hint */
#define TEMPO_UNSUPPORTED(message, hint) \
	ereport(ERROR, \
	        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), \
	         message, hint))

#define TEMPO_HINT_INDEX \
	errhint("None is needed: traces, times and attribute values are found through the segments themselves.")
#define TEMPO_HINT_UPDATE \
	errhint("Spans are immutable. Insert a new span instead.")
#define TEMPO_HINT_LOCK \
	errhint("Spans are immutable, so a plain SELECT sees a row that stays as it is.")

#endif /* TEMPO_ACCESS_DDL_H */
