/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  What the table access method's callbacks cannot do: refuse statements
 *	  before they have done anything, flush buffered rows in time, and delete
 *	  directory rows when a relation is dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/ddl.h"

#include "access/compact_stat.h"
#include "access/deletions.h"
#include "access/directory.h"
#include "access/insert_buffer.h"
#include "access/pages.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"

static ExecutorStart_hook_type  prev_executor_start = NULL;
static ExecutorRun_hook_type    prev_executor_run = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static object_access_hook_type  prev_object_access = NULL;

/* -------------------------------------------------------------- executor */

/*
 * Is a range table entry a table of ours?
 */
static bool
is_ours(PlannedStmt *statement, Index rti, char **name)
{
	RangeTblEntry *entry = rt_fetch(rti, statement->rtable);

	if (entry->rtekind != RTE_RELATION || !tempo_relation_oid(entry->relid))
		return false;
	*name = get_rel_name(entry->relid);
	return true;
}

/* Refuses a data-modifying plan node that would change rows of ours. */
static void
check_modify(PlannedStmt *statement, Plan *plan)
{
	ModifyTable *modify = (ModifyTable *) plan;
	bool         updates = false;
	ListCell    *cell;
	ListCell    *action;
	char        *name;

	if (plan == NULL || !IsA(plan, ModifyTable) || modify->operation == CMD_INSERT)
		return;
	updates = modify->operation == CMD_UPDATE;
	foreach (cell, modify->mergeActionLists)
		foreach (action, (List *) lfirst(cell))
		{
			MergeAction *merge = lfirst_node(MergeAction, action);

			updates |= merge->commandType == CMD_UPDATE;
		}
	if (!updates)
		return;
	foreach (cell, modify->resultRelations)
	{
		if (!is_ours(statement, lfirst_int(cell), &name))
			continue;
		TEMPO_UNSUPPORTED(errmsg("cannot update table \"%s\"", name), TEMPO_HINT_UPDATE);
	}
}

/*
 * Foreign keys' own queries are let through: they lock, update or delete
 * rows of ours only where a row refers to the one that changes, and then the
 * access method's callbacks refuse.
 */
static void
check_statement(PlannedStmt *statement)
{
	ListCell *cell;
	char     *name;

	if (InNoForceRLSOperation())
		return;
	/* ModifyTable is only ever at the top of a plan or of a CTE's */
	check_modify(statement, statement->planTree);
	foreach (cell, statement->subplans)
		check_modify(statement, (Plan *) lfirst(cell));
	foreach (cell, statement->rowMarks)
	{
		PlanRowMark *mark = lfirst_node(PlanRowMark, cell);

		if (RowMarkRequiresRowShareLock(mark->markType) && !mark->isParent &&
		    is_ours(statement, mark->rti, &name))
			TEMPO_UNSUPPORTED(errmsg("cannot lock rows of table \"%s\"", name), TEMPO_HINT_LOCK);
	}
}

/*
 * Own rows must be in segments before the relation is read, and before
 * parallel workers look for them.
 */
static void
flush_for(PlannedStmt *statement)
{
	ListCell *cell;

	if (IsInParallelMode() || !tempo_has_inserts(InvalidOid))
		return;
	if (statement->parallelModeNeeded)
		tempo_flush_inserts(InvalidOid);
	else
		foreach (cell, statement->relationOids)
			if (tempo_has_inserts(lfirst_oid(cell)))
				tempo_flush_inserts(lfirst_oid(cell));
}

/*
 * What could not be flushed, being an outer subtransaction's, is only in our
 * memory: then there must be no workers.  The plan may be cached, so its
 * top node is copied.
 */
static void
forbid_workers(QueryDesc *query)
{
	PlannedStmt *copy = makeNode(PlannedStmt);

	*copy = *query->plannedstmt;
	copy->parallelModeNeeded = false;
	query->plannedstmt = copy;
}

static void
tempo_executor_start(QueryDesc *query, int eflags)
{
	flush_for(query->plannedstmt);
	if (query->plannedstmt->parallelModeNeeded &&
	    (tempo_has_inserts(InvalidOid) || tempo_deletions_pending(InvalidOid)))
		forbid_workers(query);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	/* afterwards, so that a missing privilege is reported first */
	check_statement(query->plannedstmt);
}

static bool
has_returning(PlannedStmt *statement)
{
	ListCell *cell;

	if (!statement->hasReturning && !statement->hasModifyingCTE)
		return false;
	if (statement->hasReturning)
		return true;
	foreach (cell, statement->subplans)
	{
		Plan *plan = lfirst(cell);

		if (plan != NULL && IsA(plan, ModifyTable) && ((ModifyTable *) plan)->returningLists != NIL)
			return true;
	}
	return false;
}

static void
tempo_executor_run(TEMPO_EXECUTOR_RUN_PARAMS)
{
	bool outer = tempo_insert_returning;

	/* an error resets it at the latest at the end of the transaction */
	tempo_insert_returning = has_returning(queryDesc->plannedstmt);
	PG_TRY();
	{
		if (prev_executor_run)
			prev_executor_run(TEMPO_EXECUTOR_RUN_ARGS);
		else
			standard_ExecutorRun(TEMPO_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		tempo_insert_returning = outer;
	}
	PG_END_TRY();
}

static void
tempo_executor_finish(QueryDesc *query)
{
	if (!IsInParallelMode())
	{
		tempo_flush_inserts(InvalidOid);
		tempo_flush_deletions();
	}
	if (prev_executor_finish)
		prev_executor_finish(query);
	else
		standard_ExecutorFinish(query);
	if (!IsInParallelMode())
	{
		tempo_flush_inserts(InvalidOid);
		tempo_flush_deletions();
	}
}

/* --------------------------------------------------------------- utility */

/*
 * Is the table that a statement names ours, or with "children" one of those
 * below it?  *name is the one found.
 */
static bool
names_ours(const RangeVar *range, bool children, char **name)
{
	Oid       relid = RangeVarGetRelid(range, NoLock, true);
	List     *relids;
	ListCell *cell;

	if (!OidIsValid(relid))
		return false;
	relids = children && range->inh ? find_all_inheritors(relid, NoLock, NULL) : list_make1_oid(relid);
	foreach (cell, relids)
	{
		if (tempo_relation_oid(lfirst_oid(cell)))
		{
			*name = get_rel_name(lfirst_oid(cell));
			return true;
		}
	}
	return false;
}

static void
refuse_columns(const char *name)
{
	TEMPO_UNSUPPORTED(errmsg("cannot change the columns of table \"%s\"", name),
	                  errhint("A table of spans has the columns of tempo.spans, no more and no less."));
}

static void
refuse_inheritance(const char *name)
{
	TEMPO_UNSUPPORTED(errmsg("table \"%s\" cannot take part in inheritance", name),
	                  errhint("Use partitioning instead."));
}

static void
check_alter_table(AlterTableStmt *statement)
{
	ListCell *cell;
	char     *name;

	foreach (cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		switch (command->subtype)
		{
			case AT_AddColumn:
			case AT_DropColumn:
			case AT_AlterColumnType:
				if (names_ours(statement->relation, true, &name))
					refuse_columns(name);
				break;
			case AT_AddInherit:
				if (names_ours(statement->relation, false, &name) ||
				    names_ours(castNode(RangeVar, command->def), false, &name))
					refuse_inheritance(name);
				break;
			case AT_ClusterOn:
				if (names_ours(statement->relation, false, &name))
					TEMPO_UNSUPPORTED(errmsg("cannot cluster table \"%s\"", name), TEMPO_HINT_INDEX);
				break;
			default:
				break;
		}
	}
}

static void
check_create_table(CreateStmt *statement)
{
	ListCell *cell;
	char     *name;

	if (statement->inhRelations == NIL || statement->partbound != NULL)
		return;
	foreach (cell, statement->inhRelations)
		if (names_ours(lfirst_node(RangeVar, cell), false, &name))
			refuse_inheritance(name);
	if (tempo_access_method(get_table_am_oid(statement->accessMethod ? statement->accessMethod :
	                                                                   default_table_access_method,
	                                         true)))
		refuse_inheritance(statement->relation->relname);
}

/*
 * DROP EXTENSION locks tables as their dependencies have it.  Writers, queries
 * and the compaction worker lock them in another order, and one of them, or
 * the DROP, would end in a deadlock: wait for them first, in theirs.
 */
static void
lock_before_drop(const DropStmt *drop)
{
	static const char *const names[] = {"api_tokens", "overrides", "spans"};
	bool                     ours = false;
	Oid                      schema;
	ListCell                *lc;

	if (drop->removeType != OBJECT_EXTENSION || XactReadOnly)
		return;
	foreach (lc, drop->objects)
		ours |= strcmp(strVal(lfirst(lc)), "tempo_pg") == 0;
	schema = ours ? get_namespace_oid("tempo", true) : InvalidOid;
	if (!OidIsValid(schema))
		return;
	for (int i = 0; i < lengthof(names); i++)
	{
		Oid relid = get_relname_relid(names[i], schema);

		if (OidIsValid(relid) && tempo_owns_relation(relid, GetUserId()))
			LockRelationOid(relid, AccessExclusiveLock);
	}
}

static void
check_utility(Node *statement)
{
	char *name;

	switch (nodeTag(statement))
	{
		case T_IndexStmt:
			/* before CREATE INDEX CONCURRENTLY has committed an invalid index */
			if (names_ours(((IndexStmt *) statement)->relation, false, &name))
				TEMPO_UNSUPPORTED(errmsg("table \"%s\" cannot have an index, nor a constraint that needs one", name),
				                  TEMPO_HINT_INDEX);
			break;
		case T_ClusterStmt:
			if (((ClusterStmt *) statement)->relation != NULL &&
			    names_ours(((ClusterStmt *) statement)->relation, false, &name))
				TEMPO_UNSUPPORTED(errmsg("cannot cluster table \"%s\"", name), TEMPO_HINT_INDEX);
			break;
		case T_AlterTableStmt:
			check_alter_table((AlterTableStmt *) statement);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_COLUMN &&
			    names_ours(((RenameStmt *) statement)->relation, true, &name))
				refuse_columns(name);
			break;
		case T_CreateStmt:
			check_create_table((CreateStmt *) statement);
			break;
		case T_DropStmt:
			lock_before_drop((DropStmt *) statement);
			break;
		default:
			break;
	}
}

static void
tempo_process_utility(PlannedStmt *statement, const char *query, bool readonly_tree,
                      ProcessUtilityContext context, ParamListInfo params,
                      QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	/*
	 * A savepoint must find the buffers of its parent flushed.  An aborted
	 * transaction has none and can look up nothing.
	 */
	if (!IsAbortedTransactionBlockState())
	{
		tempo_flush_inserts(InvalidOid);
		check_utility(statement->utilityStmt);
	}
	if (prev_process_utility)
		prev_process_utility(statement, query, readonly_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query, readonly_tree, context, params, environment, dest, completion);
	/* COPY does not always say that it is done */
	if (tempo_has_inserts(InvalidOid) && IsTransactionState())
		tempo_flush_inserts(InvalidOid);
}

/* --------------------------------------------------------- object access */

static void
forget_relation(Oid relid)
{
	Relation        rel;
	TempoMetaHeader meta;

	/* DROP holds the lock */
	rel = relation_open(relid, NoLock);
	if (tempo_meta_read(rel, &meta))
		tempo_directory_forget(meta.storage_id);
	relation_close(rel, NoLock);
}

/* May a table be dropped although this is why its rows of the directory stay? */
static bool
is_unreadable(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_DATA_CORRUPTED:
		case ERRCODE_INDEX_CORRUPTED:
		case ERRCODE_UNDEFINED_FILE:
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_IO_ERROR:
			return true;
		default:
			return false;
	}
}

/*
 * DROP must work also for a table that is damaged or of another version, or
 * there would be no way to get rid of it.  What it leaves in the directory
 * belongs to no table then, and orphans.c finds it.
 */
static void
forget_if_readable(Oid relid)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		forget_relation(relid);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (!is_unreadable(error->sqlerrcode))
			ReThrowError(error);
		ereport(WARNING,
		        (errcode(error->sqlerrcode),
		         errmsg("the segments of table \"%s\" could not be removed from the directory", get_rel_name(relid)),
		         errdetail("%s", error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

static void
tempo_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);
	/* statistics of what is kept after all begin anew */
	if (class_id == DatabaseRelationId && access == OAT_DROP)
		tempo_stat_forget(object_id, InvalidOid);
	if (class_id != RelationRelationId)
		return;
	if (access == OAT_DROP && sub_id == 0)
	{
		if (!tempo_relation_oid(object_id))
			return;
		forget_if_readable(object_id);
		tempo_stat_forget(MyDatabaseId, object_id);
	}
	else if (access == OAT_POST_CREATE && sub_id > 0 && tempo_relation_oid(object_id))
		refuse_columns(get_rel_name(object_id));
}

void
tempo_hooks_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = tempo_executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = tempo_executor_run;
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = tempo_executor_finish;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = tempo_process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = tempo_object_access;
}
