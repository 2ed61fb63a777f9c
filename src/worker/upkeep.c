/*
 * upkeep.c — partitions of llm_ledger made ahead and dropped, expired answers deleted.
 *
 * One partition per day (UTC), named llm_ledger_YYYYMMDD.  It is made as a table of its own and
 * then attached, which needs no lock that readers or writers of llm_ledger would notice; CREATE
 * TABLE .. PARTITION OF would stop them all.  To drop one does take such a lock, so that is tried
 * for a moment only, and again later.
 *
 * Partitions are no members of the extension: pg_dump treats them as the user's tables, rows
 * included.  DROP EXTENSION drops them with llm_ledger.  Each has its own primary key: one of
 * llm_ledger would be given to a partition when a restore attaches it, before the dump's own
 * statement makes it, which then fails.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "executor/spi.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "../pg/guc.h"
#include "worker.h"

#define PREFIX "llm_ledger_"
#define NAME_SIZE (sizeof(PREFIX) + 16)
#define DAYS_AHEAD 2
#define KNOWN_DAYS 16
#define EXPIRED_PER_BATCH "10000"

/* Days whose partition is there, of the table known_parent. */
static int known[KNOWN_DAYS];
static int nknown = 0;
static Oid known_parent = InvalidOid;

/* ---- days ---- */

/* Days since 2000-01-01 UTC, also before it. */
static int
day_of(TimestampTz at)
{
	int64 day = at / USECS_PER_DAY;

	return (int) (at % USECS_PER_DAY < 0 ? day - 1 : day);
}

static void
name_day(char name[NAME_SIZE], int day)
{
	int year, month, date;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &date);
	snprintf(name, NAME_SIZE, PREFIX "%04d%02d%02d", year, month, date);
}

/* 'YYYY-MM-DD 00:00:00+00' */
static char *
start_of(int day)
{
	int year, month, date;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &date);
	return psprintf("'%04d-%02d-%02d 00:00:00+00'", year, month, date);
}

void
pgl_upkeep_forget(void)
{
	nknown = 0;
}

static bool
is_known(int day, Oid parent)
{
	int i;

	if (known_parent != parent)
		nknown = 0;
	known_parent = parent;
	for (i = 0; i < nknown; i++)
		if (known[i] == day)
			return true;
	return false;
}

static void
note_known(int day)
{
	if (nknown == KNOWN_DAYS)
		nknown = 0;
	known[nknown++] = day;
}

/* ---- making ---- */

static void
run(char *sql, int expected)
{
	int result = SPI_execute(sql, false, 0);

	if (result != expected)
		elog(ERROR, "statement of the ledger's upkeep failed: %s", SPI_result_code_string(result));
	pfree(sql);
}

static Oid
parent_of(const PglExtension *extension)
{
	Oid parent = get_relname_relid("llm_ledger", extension->schema);

	if (!OidIsValid(parent))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table %s.llm_ledger does not exist", extension->schema_name)));
	return parent;
}

/*
 * Is there a partition for that moment, one of ours or one that the DBA made: for a month, say, or
 * a default one?
 */
static bool
is_covered(TimestampTz at, Oid parent)
{
	Relation relation = table_open(parent, AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(relation);
	PartitionBoundInfo bounds = RelationGetPartitionDesc(relation, true)->boundinfo;
	Datum value = TimestampTzGetDatum(at);
	bool covered = false;

	if (bounds != NULL)
	{
		bool equal;
		int bound = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, bounds, 1,
												  &value, &equal);

		covered = bounds->indexes[bound + 1] >= 0 || bounds->default_index >= 0;
	}
	table_close(relation, AccessShareLock);
	return covered;
}

/*
 * The rows are reached through llm_ledger, whose privileges then count.  Default privileges of the
 * owner may have granted the table itself to others.
 */
static void
take_privileges(const char *schema, const char *name, const PglExtension *extension)
{
	char *list;

	run(psprintf("REVOKE ALL ON TABLE %s.%s FROM PUBLIC", schema, name), SPI_OK_UTILITY);
	run(psprintf("SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(r.rolname), ', ') "
				 "FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a, "
				 "pg_catalog.pg_roles AS r WHERE c.relname OPERATOR(pg_catalog.=) '%s' "
				 "AND c.relnamespace OPERATOR(pg_catalog.=) '%u' "
				 "AND r.oid OPERATOR(pg_catalog.=) a.grantee "
				 "AND r.oid OPERATOR(pg_catalog.<>) c.relowner",
				 name, extension->schema),
		SPI_OK_SELECT);
	list = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (list != NULL)
		run(psprintf("REVOKE ALL ON TABLE %s.%s FROM %s", schema, name, list), SPI_OK_UTILITY);
}

/* A table of that name that is not attached was made by an interrupted restore, or detached. */
static void
make_partition(int day, const char *name, const PglExtension *extension)
{
	const char *schema = extension->schema_name;

	if (!OidIsValid(get_relname_relid(name, extension->schema)))
	{
		run(psprintf("CREATE TABLE %s.%s (LIKE %s.llm_ledger INCLUDING ALL)", schema, name, schema),
			SPI_OK_UTILITY);
		run(psprintf("ALTER TABLE %s.%s ADD PRIMARY KEY (started_at, call_id, attempt)", schema,
					 name),
			SPI_OK_UTILITY);
		take_privileges(schema, name, extension);
	}
	run(psprintf("ALTER TABLE %s.llm_ledger ATTACH PARTITION %s.%s FOR VALUES FROM (%s) TO (%s)",
				 schema, schema, name, start_of(day), start_of(day + 1)),
		SPI_OK_UTILITY);
}

static void
ensure_day(int day, const PglExtension *extension)
{
	Oid parent = parent_of(extension);
	char name[NAME_SIZE];

	if (is_known(day, parent))
		return;
	name_day(name, day);
	if (!is_covered((TimestampTz) day * USECS_PER_DAY, parent))
		make_partition(day, name, extension);
	note_known(day);
}

void
pgl_upkeep_ensure_partition(int64_t at, const PglExtension *extension)
{
	ensure_day(day_of(at), extension);
}

/* ---- once a minute ---- */

/* Bounded, as answers may be large; what is left goes the next time. */
static void
delete_expired(const PglExtension *extension)
{
	run(psprintf("DELETE FROM %s.llm_journal WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
				 "SELECT ctid FROM %s.llm_journal WHERE expires_at "
				 "OPERATOR(pg_catalog.<=) pg_catalog.now() LIMIT " EXPIRED_PER_BATCH
				 " FOR UPDATE SKIP LOCKED))",
				 extension->schema_name, extension->schema_name),
		SPI_OK_DELETE);
}

void
pgl_upkeep_run(const PglExtension *extension)
{
	int today = day_of(GetCurrentTimestamp());
	int i;

	for (i = 0; i <= DAYS_AHEAD; i++)
		ensure_day(today + i, extension);
	delete_expired(extension);
}

/* The oldest partition of ours that lies wholly before the day; NULL: none.  Quoted, with schema.
 */
static char *
oldest_before(int day, const PglExtension *extension)
{
	char limit[NAME_SIZE];

	name_day(limit, day);
	run(psprintf("SELECT c.oid::pg_catalog.regclass::pg_catalog.text "
				 "FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c "
				 "ON c.oid OPERATOR(pg_catalog.=) i.inhrelid "
				 "WHERE i.inhparent OPERATOR(pg_catalog.=) '%u' "
				 "AND c.relname::pg_catalog.text OPERATOR(pg_catalog.~) '^" PREFIX "[0-9]{8}$' "
				 "AND c.relname OPERATOR(pg_catalog.<) '%s' ORDER BY c.relname LIMIT 1",
				 parent_of(extension), limit),
		SPI_OK_SELECT);
	return SPI_processed == 0 ? NULL
							  : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* To wait for the lock would make everybody else wait behind us. */
static void
wait_briefly(void)
{
	(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

bool
pgl_upkeep_drop_old(const PglExtension *extension)
{
	char *name;

	if (pgl_guc_ledger_retention == 0)
		return false;
	name = oldest_before(day_of(GetCurrentTimestamp()) - pgl_guc_ledger_retention, extension);
	if (name == NULL)
		return false;
	wait_briefly();
	run(psprintf("DROP TABLE %s", name), SPI_OK_UTILITY);
	pgl_upkeep_forget();
	return true;
}
