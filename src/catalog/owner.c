/*
 * owner.c — the identity of the extension, and SQL with the rights of its owner.
 *
 * Users of llm_invoke have no privilege on the configuration tables, and a DBA may have been
 * granted one table but not the others.  What this module reads for them it reads as the owner of
 * the extension, inside a security-restricted operation, with a search_path that nobody else can
 * put objects in.  Only SQL written here, with schema-qualified tables, runs so; names and values
 * of users come in as parameters.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "internal.h"

#define EXTENSION_NAME "pgllm"

static uint64_t broken_off = 0;

/* Begin to look for the row of the extension; a NULL snapshot is that of catalogs. */
static SysScanDesc
begin_scan(Relation catalog, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(EXTENSION_NAME));
	return systable_beginscan(catalog, ExtensionNameIndexId, true, snapshot, 1, &key);
}

bool
pgl_catalog_may_have_extension(void)
{
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	SnapshotData dirty;
	SysScanDesc scan;
	bool found;

	InitDirtySnapshot(dirty);
	scan = begin_scan(catalog, &dirty);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* False when it is not created here.  The schema's name is in the current context. */
static bool
find_extension(PglExtension *extension)
{
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	SysScanDesc scan = begin_scan(catalog, NULL);
	HeapTuple tuple = systable_getnext(scan);

	memset(extension, 0, sizeof(*extension));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		char *name = get_namespace_name(form->extnamespace);

		extension->oid = form->oid;
		extension->owner = form->extowner;
		extension->schema = form->extnamespace;
		extension->schema_name = name == NULL ? NULL : quote_identifier(name);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return extension->schema_name != NULL;
}

static void
require_extension(PglExtension *extension)
{
	if (!find_extension(extension))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("extension \"%s\" is not created in this database", EXTENSION_NAME),
						errhint("Run CREATE EXTENSION %s.", EXTENSION_NAME)));
}

/* GUC_ACTION_SAVE, which ends with the level, is the one action that parallel mode allows. */
static void
pin_search_path(void)
{
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
pgl_catalog_run_as_owner(PglOwnerBody body, void *arg)
{
	PglExtension extension;
	Oid caller;
	int caller_context;
	int guc_level;

	require_extension(&extension);

	GetUserIdAndSecContext(&caller, &caller_context);
	guc_level = NewGUCNestLevel();
	PG_TRY();
	{
		SetUserIdAndSecContext(extension.owner, caller_context | SECURITY_LOCAL_USERID_CHANGE |
													SECURITY_RESTRICTED_OPERATION);
		pin_search_path();
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "could not connect to SPI");
		body(&extension, arg);
		if (SPI_finish() != SPI_OK_FINISH)
			elog(ERROR, "could not disconnect from SPI");
	}
	PG_CATCH();
	{
		broken_off++;
		AtEOXact_GUC(false, guc_level);
		SetUserIdAndSecContext(caller, caller_context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(caller, caller_context);
}

uint64_t
pgl_catalog_broken_off(void)
{
	return broken_off;
}
