/*
 * spent.c — sums of llm_ledger for a budget: see spent.h.
 *
 * SQL filters by time, which prunes partitions, and by names.  Roles are filtered here, as a call
 * belongs to a role and all that it is a member of: membership is that of now, since the ledger
 * keeps only who called.
 *
 * An attempt whose cost is not known, as a price is missing for something that it used, counts with
 * its worst case, as it did when it was settled.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "internal.h"
#include "spent.h"

/* $3 to $5 are NULL where any name will do. */
#define SPENT_QUERY                                                                    \
	"SELECT role_id, trunc(extract(epoch FROM started_at - $1) * 1000000 / $6)::int8," \
	" sum(coalesce(cost_nano_usd, reserved_nano_usd))::int8 FROM %s.llm_ledger"        \
	" WHERE started_at >= $1 AND started_at < $2"                                      \
	" AND coalesce(cost_nano_usd, reserved_nano_usd) > 0"                              \
	" AND ($3 IS NULL OR tenant = $3) AND ($4 IS NULL OR route = $4)"                  \
	" AND ($5 IS NULL OR model = $5) GROUP BY 1, 2 ORDER BY 2"
#define NPARAMETERS 6

typedef struct Reading
{
	const PglSpentQuery *query;
	MemoryContext context; /* of the entries */
	PglBudgetEntry *entries;
	int count;
} Reading;

static bool
role_matches(const PglSpentQuery *query, Oid role)
{
	Oid wanted = query->quota->role;

	if (OidIsValid(query->role))
		return role == query->role;
	if (!OidIsValid(wanted) || role == wanted)
		return true;
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)) &&
		   is_member_of_role_nosuper(role, wanted);
}

static void
set_name(Datum *value, char *null, const char *name)
{
	*null = name == NULL ? 'n' : ' ';
	*value = name == NULL ? (Datum) 0 : CStringGetTextDatum(name);
}

static void
run_query(const PglSpentQuery *query, const char *schema_name)
{
	Oid types[NPARAMETERS] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
	Datum values[NPARAMETERS] = {TimestampTzGetDatum(query->since),
								 TimestampTzGetDatum(query->until)};
	char nulls[NPARAMETERS + 1] = "      ";

	set_name(&values[2], &nulls[2], query->tenant ? query->tenant : query->quota->tenant);
	set_name(&values[3], &nulls[3], query->quota->route);
	set_name(&values[4], &nulls[4], query->quota->model);
	values[5] = Int64GetDatum(query->slot_us > 0 ? query->slot_us : PG_INT64_MAX);
	if (SPI_execute_with_args(psprintf(SPENT_QUERY, schema_name), NPARAMETERS, types, values, nulls,
							  true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the ledger of pgllm");
}

/* All of a slot counts as spent at its end: rather too long than too short. */
static int64_t
age_of_slot(const PglSpentQuery *query, int64_t slot)
{
	return query->slot_us > 0 ? query->now - (query->since + (slot + 1) * query->slot_us) : 0;
}

/* Rows come slot by slot; those of different roles are added up. */
static void
add_row(Reading *reading, Oid role, int64_t slot, int64_t amount)
{
	int64_t age_us = age_of_slot(reading->query, slot);
	PglBudgetEntry *entries = reading->entries;
	int n = reading->count;

	if (!role_matches(reading->query, role))
		return;
	if (n > 0 && entries[n - 1].age_us == age_us)
		entries[n - 1].amount += amount;
	else
		entries[reading->count++] = (PglBudgetEntry){age_us, amount};
}

/* Body of run_as_owner: with the newest snapshot, as when the configuration is read. */
static void
read_ledger(const PglExtension *extension, void *arg)
{
	Reading *reading = arg;

	PushActiveSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	run_query(reading->query, extension->schema_name);
	reading->entries =
		MemoryContextAllocHuge(reading->context, (SPI_processed + 1) * sizeof(PglBudgetEntry));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;

		add_row(reading, DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull)),
				DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull)),
				DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull)));
	}
	SPI_freetuptable(SPI_tuptable);
	PopActiveSnapshot();
}

int
pgl_catalog_read_spent(const PglSpentQuery *query, PglBudgetEntry **entries)
{
	Reading reading = {query, CurrentMemoryContext, NULL, 0};

	pgl_catalog_run_as_owner(read_ledger, &reading);
	*entries = reading.entries;
	return reading.count;
}
