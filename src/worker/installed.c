/*-------------------------------------------------------------------------
 *
 * installed.c
 *	  Whether the database has what requests need, for all workers the same.
 *
 * Receivers and the API give the same reason, and /ready knows it as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "worker/installed.h"
#include "worker/process.h"

#define SCHEMA "tempo"

/* The name that a schema of the extension has now; NULL if there is none. */
static const char *
schema_of_extension(Oid extension)
{
	Relation    depend = table_open(DependRelationId, AccessShareLock);
	const char *name = NULL;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple   tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
	            ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, lengthof(key), key);
	while (name == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend dependency = (Form_pg_depend) GETSTRUCT(tuple);

		if (dependency->classid == NamespaceRelationId && dependency->deptype == DEPENDENCY_EXTENSION)
			name = get_namespace_name(dependency->objid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return name;
}

const char *
installed_fault(const char **hint)
{
	static const char *const tables[] = {"spans", "segment_directory", "segment_deletions"};
	Oid                      extension = get_extension_oid("tempo_pg", true);
	Oid                      schema;

	if (!OidIsValid(extension))
	{
		*hint = "Run CREATE EXTENSION tempo_pg there, or set tempo_pg.database.";
		return psprintf("extension tempo_pg is not installed in database \"%s\"", tempo_database);
	}
	schema = get_namespace_oid(SCHEMA, true);
	if (!OidIsValid(schema))
	{
		const char *name = schema_of_extension(extension);

		*hint = name == NULL ? "Drop extension tempo_pg and create it again." :
		                       psprintf("It must not be renamed. Run ALTER SCHEMA %s RENAME TO " SCHEMA " there.", quote_identifier(name));
		return psprintf("extension tempo_pg has no schema \"" SCHEMA "\" in database \"%s\"", tempo_database);
	}
	for (int i = 0; i < lengthof(tables); i++)
	{
		if (OidIsValid(get_relname_relid(tables[i], schema)))
			continue;
		*hint = "It must not be renamed, moved or dropped. Give it its name back with ALTER TABLE, or drop the extension and create it again.";
		return psprintf("table " SCHEMA ".%s of extension tempo_pg does not exist in database \"%s\"", tables[i], tempo_database);
	}
	return NULL;
}
