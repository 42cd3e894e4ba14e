/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18, in one place.
 *
 * The code is written in the newest spelling; older servers get it from the
 * definitions below.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPAT_H
#define TEMPO_ACCESS_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "tempo_pg needs PostgreSQL 15 or later"
#endif

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/rel.h"

/* 16: relation file nodes became relation file locators */
#if PG_VERSION_NUM >= 160000
#include "storage/relfilelocator.h"
#else
#include "storage/relfilenode.h"
#define RelFileLocator RelFileNode
#define RelFileLocatorBackend RelFileNodeBackend
#define RelFileNumber Oid
#define spcOid spcNode
#define dbOid dbNode
#define relNumber relNode
#define rd_locator rd_node
#define smgr_rlocator smgr_rnode
#endif

/* 16: one ownership check for every class of object */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class.h"
#define tempo_owns_relation(relid, roleid) object_ownercheck(RelationRelationId, relid, roleid)
#else
#define tempo_owns_relation(relid, roleid) pg_class_ownercheck(relid, roleid)
#endif

/* 16: input functions report soft errors */
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#define tempo_input_error(context, ...) ereturn(context, (Datum) 0, __VA_ARGS__)
#else
#define tempo_input_error(context, ...) ereport(ERROR, __VA_ARGS__)
#endif

/* 16: table_tuple_update() says which indexes need new entries */
#if PG_VERSION_NUM >= 160000
#define TEMPO_UPDATE_INDEXES_TYPE TU_UpdateIndexes
#define TEMPO_UPDATE_INDEXES_NONE TU_None
#else
#define TEMPO_UPDATE_INDEXES_TYPE bool
#define TEMPO_UPDATE_INDEXES_NONE false
#endif

/* 16: user attributes of a range table entry moved to RTEPermissionInfo */
#if PG_VERSION_NUM >= 160000
#define TEMPO_HAS_PERMINFOS 1
#endif

/* 17: a backend's number is ProcNumber, and the invalid one has a new name */
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#define TEMPO_INVALID_BACKEND INVALID_PROC_NUMBER
#else
#include "storage/backendid.h"
#define TEMPO_INVALID_BACKEND InvalidBackendId
#endif

/* 17: a set of wait events belongs to a resource owner, not to a memory context; wait events are named after what is shown */
#if PG_VERSION_NUM >= 170000
#define tempo_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#else
#define tempo_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, nevents)
#define WAIT_EVENT_MESSAGE_QUEUE_RECEIVE WAIT_EVENT_MQ_RECEIVE
#define WAIT_EVENT_MESSAGE_QUEUE_SEND WAIT_EVENT_MQ_SEND
#endif

/* 18: ExecutorRun_hook lost "execute_once" */
#if PG_VERSION_NUM >= 180000
#define TEMPO_EXECUTOR_RUN_PARAMS QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define TEMPO_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define TEMPO_EXECUTOR_RUN_PARAMS QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define TEMPO_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

/* 18: the names of EXPLAIN's parts moved to headers of their own */
#if PG_VERSION_NUM >= 180000
#define TEMPO_EXPLAIN_HEADER "commands/explain_format.h"
#define TEMPO_EXPLAIN_RTABLE_SIZE(es) ((es)->rtable_size) /* without that of GROUP BY */
#else
#define TEMPO_EXPLAIN_RTABLE_SIZE(es) list_length((es)->rtable)
#define TEMPO_EXPLAIN_HEADER "commands/explain.h"
#endif

/* 16: VACUUM can leave out the table itself and the database's statistics, and is given its context */
#if PG_VERSION_NUM >= 160000
#define TEMPO_VACUUM_OPTIONS (VACOPT_PROCESS_MAIN | VACOPT_SKIP_DATABASE_STATS)
#define TEMPO_VACUUM_CONTEXT(context) (context),
#else
#define TEMPO_VACUUM_OPTIONS 0
#define TEMPO_VACUUM_CONTEXT(context)
#endif

/* 18: what an ordering operator does is no longer a B-tree's strategy, but has its number */
#if PG_VERSION_NUM >= 180000
typedef CompareType TempoCompare;
#else
typedef int16 TempoCompare;
#endif

#endif /* TEMPO_ACCESS_COMPAT_H */
