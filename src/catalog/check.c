/*
 * check.c — the triggers of the configuration tables.
 *
 * llm_config_check keeps out rows that no constraint can judge, so that a mistake fails at INSERT
 * and not at the first call.  A rule looks at a column only when it is new or changed: what was
 * stored once can be stored again, and a rename that cascades through the tables is not stopped by
 * a role dropped long ago. Look-ups run as the owner of the extension, as a DBA may have been
 * granted one table only.
 *
 * Restores.  Names without a foreign key (roles, elements of arrays) may be missing while a dump is
 * being read: tables come in an order of their own, and roles may have been left behind.  One such
 * row must not fail the COPY of a whole table.  pg_dump switches check_function_bodies off at the
 * head of each script, just because objects may be mentioned before they exist; while it is off, a
 * missing name is a warning.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "check.h"

typedef struct Lookup
{
	const char *query;
	Oid type;
	Datum value;
	MemoryContext context; /* of the result */
	char *found;
} Lookup;

PG_FUNCTION_INFO_V1(pgl_config_check);
PG_FUNCTION_INFO_V1(pgl_config_changed);

static char *
column_text(HeapTuple tuple, TupleDesc desc, const char *column)
{
	int number = SPI_fnumber(desc, column);

	if (number <= 0)
		elog(ERROR, "configuration table has no column \"%s\"", column);
	return SPI_getvalue(tuple, desc, number);
}

char *
pgl_catalog_check_new(const PglConfigRow *row, const char *column)
{
	return column_text(row->new, row->desc, column);
}

char *
pgl_catalog_check_old(const PglConfigRow *row, const char *column)
{
	return row->old == NULL ? NULL : column_text(row->old, row->desc, column);
}

bool
pgl_catalog_check_changed(const PglConfigRow *row, const char *column)
{
	char *before = pgl_catalog_check_old(row, column);
	char *after = pgl_catalog_check_new(row, column);

	if (row->old == NULL || before == NULL || after == NULL)
		return row->old == NULL || before != after;
	return strcmp(before, after) != 0;
}

/* Not read-only: what the surrounding command has changed so far (a cascading rename) must be seen.
 */
static void
run_lookup(const PglExtension *extension, void *arg)
{
	Lookup *lookup = arg;
	const char *query = psprintf(lookup->query, extension->schema_name);
	char *value;

	if (SPI_execute_with_args(query, 1, &lookup->type, &lookup->value, NULL, false, 1) < 0)
		elog(ERROR, "could not look up a configuration row of pgllm");
	if (SPI_tuptable == NULL || SPI_processed == 0)
		return;
	value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (value != NULL)
		lookup->found = MemoryContextStrdup(lookup->context, value);
}

char *
pgl_catalog_check_lookup(const char *query, Oid type, Datum value)
{
	Lookup lookup = {query, type, value, CurrentMemoryContext, NULL};

	pgl_catalog_run_as_owner(run_lookup, &lookup);
	return lookup.found;
}

char *
pgl_catalog_check_lookup_text(const char *query, const char *value)
{
	return pgl_catalog_check_lookup(query, TEXTOID, CStringGetTextDatum(value));
}

static int
missing_name_level(void)
{
	return check_function_bodies ? ERROR : WARNING;
}

static void
check_role_exists(const PglConfigRow *row, const char *column, const char *hint)
{
	char *role = pgl_catalog_check_new(row, column);

	if (role == NULL || !pgl_catalog_check_changed(row, column) ||
		OidIsValid(get_role_oid(role, true)))
		return;
	ereport(missing_name_level(),
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", role),
			 errhint("%s", hint)));
}

/* There is a foreign key to llm_route_policy, but its message would point to the wrong table. */
static void
check_route_exists(const PglConfigRow *row)
{
	char *route = pgl_catalog_check_new(row, "route");

	if (route == NULL || !pgl_catalog_check_changed(row, "route") ||
		pgl_catalog_check_lookup_text("SELECT 1 FROM %1$s.llm_route_policy WHERE route = $1",
									  route))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FOREIGN_KEY_VIOLATION), errmsg("route \"%s\" does not exist", route),
			 errhint("Insert the targets of the route into llm_route first.")));
}

/* `query` finds an element of the array $1 that is no row of the other table. */
static void
check_elements_exist(const PglConfigRow *row, const char *column, const char *kind,
					 const char *query, const char *table)
{
	bool isnull;
	Datum value = SPI_getbinval(row->new, row->desc, SPI_fnumber(row->desc, column), &isnull);
	char *missing;

	if (isnull || !pgl_catalog_check_changed(row, column))
		return;
	missing = pgl_catalog_check_lookup(query, TEXTARRAYOID, value);
	if (missing != NULL)
		ereport(missing_name_level(),
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("%s \"%s\" in %s does not exist", kind, missing, column),
				 errhint("Insert the %s into %s first.", kind, table)));
}

/* A route comes into being with its first row; its policy is the parent that all others refer to.
 */
static void
make_route_policy(const PglConfigRow *row)
{
	char *route = pgl_catalog_check_new(row, "route");

	if (route != NULL && pgl_catalog_check_changed(row, "route"))
		(void) pgl_catalog_check_lookup_text("INSERT INTO %1$s.llm_route_policy (route) VALUES ($1)"
											 " ON CONFLICT DO NOTHING",
											 route);
}

static void
check_tenant(const PglConfigRow *row)
{
	check_route_exists(row);
	check_elements_exist(row, "extra_routes", "route",
						 "SELECT name FROM unnest($1) AS name WHERE NOT EXISTS"
						 " (SELECT FROM %1$s.llm_route_policy AS p WHERE p.route = name)",
						 "llm_route");
	check_elements_exist(row, "models", "model",
						 "SELECT name FROM unnest($1) AS name WHERE NOT EXISTS"
						 " (SELECT FROM %1$s.llm_model AS m WHERE m.model = name)",
						 "llm_model");
}

static void
check_tenant_grant(const PglConfigRow *row)
{
	char *grantee = pgl_catalog_check_new(row, "grantee");

	if (grantee != NULL && strcmp(grantee, "public") != 0)
		check_role_exists(row, "grantee", "Name a role, or public for every role.");
}

/* By the very look-up that finds it when a period begins. */
static void
check_time_zone(const PglConfigRow *row)
{
	char *name = pgl_catalog_check_new(row, "budget_time_zone");

	if (name == NULL || !pgl_catalog_check_changed(row, "budget_time_zone") ||
		(strlen(name) <= TZ_STRLEN_MAX && pg_tzset(name) != NULL))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("time zone \"%s\" in budget_time_zone is not known", name),
		 errhint("Use a name that pg_timezone_names lists, for example Europe/Berlin or UTC.")));
}

static void
check_quota(const PglConfigRow *row)
{
	check_route_exists(row);
	check_time_zone(row);
}

static const struct
{
	const char *table;
	PglConfigRule rule;
} rules[] = {
	{"llm_shard", pgl_catalog_check_shard},
	{"llm_target", pgl_catalog_check_target},
	{"llm_route", make_route_policy},
	{"llm_tenant", check_tenant},
	{"llm_quota", check_quota},
	{"llm_tenant_grant", check_tenant_grant},
};

/* BEFORE INSERT OR UPDATE, FOR EACH ROW: the row unchanged, or an error. */
Datum
pgl_config_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	PglConfigRow row = {0};

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("llm_config_check is for BEFORE INSERT OR UPDATE FOR EACH ROW")));

	row.desc = RelationGetDescr(trigger->tg_relation);
	row.new = trigger->tg_trigtuple;
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		row.old = trigger->tg_trigtuple;
		row.new = trigger->tg_newtuple;
	}
	for (size_t i = 0; i < lengthof(rules); i++)
	{
		if (strcmp(rules[i].table, RelationGetRelationName(trigger->tg_relation)) == 0)
			rules[i].rule(&row);
	}
	return PointerGetDatum(row.new);
}

/* AFTER, FOR EACH STATEMENT: every backend reads the tables anew once this transaction commits. */
Datum
pgl_config_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("llm_config_changed was not called as a trigger")));
	pgl_catalog_note_own_change();
	CacheInvalidateRelcacheByRelid(RelationGetRelid(trigger->tg_relation));
	return PointerGetDatum(NULL);
}
