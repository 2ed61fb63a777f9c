/*
 * views.c — the set-returning functions behind the views on shared memory.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "../call/queue.h"
#include "../pg/compat.h"
#include "../shmem/activity.h"
#include "../shmem/breaker.h"
#include "../shmem/lease.h"
#include "../shmem/limit.h"
#include "../shmem/stat.h"
#include "result.h"

PG_FUNCTION_INFO_V1(pgl_llm_stat_target);
PG_FUNCTION_INFO_V1(pgl_llm_stat_tenant);
PG_FUNCTION_INFO_V1(pgl_llm_stat_reset);
PG_FUNCTION_INFO_V1(pgl_llm_stat_activity);
PG_FUNCTION_INFO_V1(pgl_llm_bucket);
PG_FUNCTION_INFO_V1(pgl_llm_breaker);
PG_FUNCTION_INFO_V1(pgl_llm_budget);
PG_FUNCTION_INFO_V1(pgl_llm_breaker_reset);
PG_FUNCTION_INFO_V1(pgl_llm_lease);

#define MAX_COLUMNS 20

/* A row under construction. */
typedef struct Row
{
	Datum values[MAX_COLUMNS];
	bool nulls[MAX_COLUMNS];
	int n;
} Row;

static ReturnSetInfo *
begin_rows(FunctionCallInfo fcinfo)
{
	pgl_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	return (ReturnSetInfo *) fcinfo->resultinfo;
}

static void
emit(ReturnSetInfo *rsinfo, Row *row)
{
	Assert(row->n == rsinfo->setDesc->natts);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row->values, row->nulls);
	memset(row, 0, sizeof(*row));
}

static void
put(Row *row, Datum value)
{
	row->values[row->n++] = value;
}

static void
put_null(Row *row)
{
	row->nulls[row->n++] = true;
}

static void
put_text(Row *row, const char *value)
{
	if (value && value[0])
		put(row, CStringGetTextDatum(value));
	else
		put_null(row);
}

static void
put_int64(Row *row, int64_t value)
{
	put(row, Int64GetDatum(value));
}

/* Milliseconds of a time that may be unknown (negative). */
static void
put_ms(Row *row, int64_t us)
{
	if (us >= 0)
		put(row, Int64GetDatum((us + 999) / 1000));
	else
		put_null(row);
}

static void
put_latencies(Row *row, const PglStatCounters *counters)
{
	static const double shares[] = {0.5, 0.95, 0.99};
	int i;

	if (counters->latency_count == 0)
	{
		for (i = 0; i < 1 + (int) lengthof(shares); i++)
			put_null(row);
		return;
	}
	put(row, Float8GetDatum(counters->latency_sum_us / 1000.0 / counters->latency_count));
	for (i = 0; i < (int) lengthof(shares); i++)
		put(row, Float8GetDatum(pgl_stat_percentile(counters, shares[i]) / 1000.0));
}

static uint64_t
in_flight_of(const PglLeaseView *leases, int nleases, const char *target)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < nleases; i++)
		n += strcmp(leases[i].target, target) == 0;
	return n;
}

Datum
pgl_llm_stat_target(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	PglStatView *stats;
	PglLeaseView *leases;
	int nstats = pgl_stat_view(MyDatabaseId, PGL_STAT_TARGET, &stats);
	int nleases = pgl_lease_view(MyDatabaseId, &leases);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nstats; i++)
	{
		const PglStatCounters *counters = &stats[i].counters;

		put_text(&row, stats[i].name);
		put_int64(&row, counters->calls);
		put_int64(&row, counters->successes);
		put_int64(&row, counters->throttled);
		put_int64(&row, counters->failures);
		put_int64(&row, counters->refused_locally);
		put(&row, Int32GetDatum(in_flight_of(leases, nleases, stats[i].name)));
		put_int64(&row, counters->input_tokens);
		put_int64(&row, counters->output_tokens);
		put(&row, pgl_result_cost(counters->cost_nano_usd));
		put_int64(&row, counters->unpriced);
		put_latencies(&row, counters);
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}

Datum
pgl_llm_stat_tenant(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	PglStatView *stats;
	int nstats = pgl_stat_view(MyDatabaseId, PGL_STAT_TENANT, &stats);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nstats; i++)
	{
		const PglStatCounters *counters = &stats[i].counters;

		put_text(&row, stats[i].name);
		put_int64(&row, counters->calls);
		put_int64(&row, counters->successes);
		put_int64(&row, counters->throttled);
		put_int64(&row, counters->failures);
		put_int64(&row, counters->attempts);
		put_int64(&row, counters->retries);
		put_int64(&row, counters->fallbacks);
		put_int64(&row, counters->waits);
		put_int64(&row, counters->memo_hits);
		put_int64(&row, counters->journal_hits);
		put_int64(&row, counters->input_tokens);
		put_int64(&row, counters->output_tokens);
		put(&row, pgl_result_cost(counters->cost_nano_usd));
		put_int64(&row, counters->unpriced);
		put_int64(&row, counters->shadow_refusals);
		put_latencies(&row, counters);
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}

Datum
pgl_llm_stat_reset(PG_FUNCTION_ARGS)
{
	pgl_shmem_require();
	pgl_stat_reset(MyDatabaseId);
	PG_RETURN_VOID();
}

Datum
pgl_llm_stat_activity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	bool sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	PglActivity *slots;
	int nslots = pgl_activity_view(&slots);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nslots; i++)
	{
		const PglActivity *slot = &slots[i];
		char *database;
		char *role;

		if (!OidIsValid(slot->role) || !(sees_all || has_privs_of_role(GetUserId(), slot->role)))
			continue;
		database = get_database_name(slot->database);
		role = GetUserNameFromId(slot->role, true);
		put(&row, Int32GetDatum(slot->pid));
		if (database)
			put(&row, DirectFunctionCall1(namein, CStringGetDatum(database)));
		else
			put_null(&row);
		if (role)
			put(&row, DirectFunctionCall1(namein, CStringGetDatum(role)));
		else
			put_null(&row);
		put_text(&row, slot->tenant);
		put_text(&row, pgl_activity_state_name(slot->state));
		put_text(&row, slot->target);
		put(&row, TimestampTzGetDatum(slot->since));
		put_int64(&row, slot->started);
		put_int64(&row, slot->done);
		put_int64(&row, slot->failed);
		put(&row, Int32GetDatum(slot->in_flight));
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}

Datum
pgl_llm_bucket(PG_FUNCTION_ARGS)
{
	static const char *const scopes[] = {"", "domain", "target", "quota"};
	static const char *const dimensions[] = {"requests", "tokens", "in_flight"};
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	PglLimitView *limits;
	int nlimits = pgl_limit_view(MyDatabaseId, &limits);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nlimits; i++)
	{
		const PglLimitView *limit = &limits[i];

		put_text(&row, scopes[limit->key.scope]);
		put_text(&row, limit->name);
		put_text(&row, limit->subject);
		put_text(&row, dimensions[limit->dimension]);
		put_text(&row, limit->learnt                             ? "learnt"
					   : limit->dimension == PGL_DIM_IN_FLIGHT   ? "count"
					   : limit->window_kind == PGL_WINDOW_STRICT ? "strict"
																 : "bucket");
		put_int64(&row, limit->max);
		put_int64(&row, limit->available);
		put(&row, Int32GetDatum(limit->waiters));
		put_ms(&row, limit->next_us);
		put_text(&row, limit->shadow ? "shadow" : "enforce");
		put(&row, ObjectIdGetDatum((Oid) (pgl_queue_lock_id(&limit->key) >> 32)));
		put(&row, ObjectIdGetDatum((Oid) pgl_queue_lock_id(&limit->key)));
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}

/* What is not read from the ledger yet is not known. */
static void
put_usd(Row *row, int64_t nano_usd, bool known)
{
	if (known)
		put(row, pgl_result_cost(nano_usd));
	else
		put_null(row);
}

static void
put_time(Row *row, int64_t at, bool known)
{
	if (known)
		put(row, TimestampTzGetDatum(at));
	else
		put_null(row);
}

Datum
pgl_llm_budget(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	PglBudgetView *budgets;
	int nbudgets = pgl_limit_view_budgets(MyDatabaseId, &budgets);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nbudgets; i++)
	{
		const PglBudgetView *budget = &budgets[i];
		const PglBudgetTerms *terms = &budget->terms;

		put_int64(&row, budget->quota_id);
		put_text(&row, budget->subject);
		put_text(&row, budget->shadow ? "shadow" : budget->soft ? "soft" : "enforce");
		put_time(&row, terms->start, !terms->rolling);
		put_time(&row, terms->end, !terms->rolling);
		put_usd(&row, terms->limit, true);
		put_usd(&row, budget->spent, budget->loaded);
		put_usd(&row, budget->reserved, true);
		put_usd(&row, terms->limit - budget->spent - budget->reserved, budget->loaded);
		put(&row, Int32GetDatum(budget->percent));
		put(&row, Int32GetDatum(budget->waiters));
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}

/* The window of a domain; a credential has none, nor has a domain that nobody calls any more. */
static void
put_window(Row *row, const PglBreakerView *breaker, const PglWindowView *windows, int nwindows)
{
	const PglWindowView *window = NULL;
	int i;

	for (i = 0; i < nwindows && breaker->scope == PGL_BREAKER_DOMAIN; i++)
		if (strcmp(windows[i].domain, breaker->name) == 0)
			window = &windows[i];
	if (window == NULL)
	{
		for (i = 0; i < 5; i++)
			put_null(row);
		return;
	}
	put(row, Int32GetDatum(window->in_flight));
	if (window->window > 0)
		put(row, Int32GetDatum(window->window));
	else
		put_null(row);
	put_int64(row, window->decreases);
	put_text(row, pgl_congestion_sign_name(window->last_sign));
	put_time(row, GetCurrentTimestamp() - window->decreased_us, window->decreases > 0);
}

Datum
pgl_llm_breaker(PG_FUNCTION_ARGS)
{
	static const char *const states[] = {"closed", "open", "half_open", "ramp"};
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	PglBreakerView *breakers;
	PglWindowView *windows;
	int nbreakers = pgl_breaker_view(MyDatabaseId, &breakers);
	int nwindows = pgl_limit_view_windows(MyDatabaseId, &windows);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nbreakers; i++)
	{
		const PglBreakerView *breaker = &breakers[i];

		put_text(&row, breaker->scope == PGL_BREAKER_DOMAIN ? "domain" : "credential");
		put_text(&row, breaker->name);
		put_text(&row, states[breaker->state]);
		put(&row, Int32GetDatum(breaker->failures));
		put(&row, Int32GetDatum(breaker->successes));
		put(&row, Int32GetDatum(breaker->opened));
		put_ms(&row, breaker->open_us);
		put_ms(&row, breaker->cooling_us);
		put(&row, Int32GetDatum(breaker->strikes));
		put(&row, Int32GetDatum(breaker->retry_budget));
		put_window(&row, breaker, windows, nwindows);
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}

Datum
pgl_llm_breaker_reset(PG_FUNCTION_ARGS)
{
	const char *name = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	pgl_shmem_require();
	pgl_limit_lift_windows(MyDatabaseId, name);
	PG_RETURN_INT32(pgl_breaker_reset(MyDatabaseId, name));
}

Datum
pgl_llm_lease(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = begin_rows(fcinfo);
	PglLeaseView *leases;
	int nleases = pgl_lease_view(MyDatabaseId, &leases);
	Row row = {.n = 0};
	int i;

	for (i = 0; i < nleases; i++)
	{
		put(&row, Int32GetDatum(leases[i].index));
		put(&row, Int32GetDatum(leases[i].pid));
		put_text(&row, leases[i].tenant);
		put_text(&row, leases[i].target);
		put_int64(&row, leases[i].reserved_tokens);
		put_ms(&row, leases[i].age_us);
		emit(rsinfo, &row);
	}
	PG_RETURN_NULL();
}
