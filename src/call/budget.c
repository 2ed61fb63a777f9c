/*
 * budget.c — budgets of a call: see budget.h.
 *
 * Period.  Its beginning and end are worked out here, outside the lock, by PostgreSQL's own
 * functions on time zones: a day of 23 or 25 hours is one.  A call can queue over midnight, so
 * before each decision the end is compared with the clock.  There is no job that resets anything.
 *
 * Reading.  A budget without live state is never taken for empty: what was spent is in the ledger.
 * The order makes it exact: make the live budget, unread, and mark how often it was settled; wait
 * until all records are in the table; read it with a new snapshot; load, unless something was
 * settled meanwhile, for that may or may not have been read.  A settlement and its record are
 * queued in one critical section, hence what was settled before the mark is among the records that
 * were waited for.  After a few rounds doubt is counted as spent.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "../catalog/spent.h"
#include "../core/clock.h"
#include "../pg/compat.h"
#include "budget.h"
#include "settled.h"
#include "state.h"

#define MAX_ROUNDS 5
#define TOKENS_PER_PRICE 1000000

static const char *const period_names[] = {"hour", "day", "month"};
static const char *const rolling_names[] = {"any hour", "any 24 hours", "any 30 days"};

int64_t
pgl_budget_worst_case(const PglTarget *target, int64_t input_tokens, int64_t output_tokens)
{
	__int128 total;

	if (target->price[PGL_PRICE_INPUT] == PGL_PRICE_NONE ||
		target->price[PGL_PRICE_OUTPUT] == PGL_PRICE_NONE)
		return -1;
	total = (__int128) input_tokens * target->price[PGL_PRICE_INPUT] +
			(__int128) output_tokens * target->price[PGL_PRICE_OUTPUT];
	total = (total + TOKENS_PER_PRICE - 1) / TOKENS_PER_PRICE;
	return total > PGL_BUDGET_MAX ? PGL_BUDGET_MAX : (int64_t) total;
}

/* ---- periods ---- */

static TimestampTz
begin_of_period(const PglQuota *quota, TimestampTz at)
{
	return DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_trunc_zone, CStringGetTextDatum(period_names[quota->budget_period]),
		TimestampTzGetDatum(at), CStringGetTextDatum(quota->budget_time_zone)));
}

/* Days and months are added to the local time, as they differ in length; hours do not. */
static TimestampTz
end_of_period(const PglQuota *quota, TimestampTz start)
{
	Interval length = {.day = quota->budget_period == PGL_PERIOD_DAY,
					   .month = quota->budget_period == PGL_PERIOD_MONTH};
	Datum zone = CStringGetTextDatum(quota->budget_time_zone);
	Datum local;

	if (quota->budget_period == PGL_PERIOD_HOUR)
		return start + USECS_PER_HOUR;
	local = DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(start));
	local = DirectFunctionCall2(timestamp_pl_interval, local, IntervalPGetDatum(&length));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone, local));
}

/* Where clocks are put back at midnight, a day may seem to begin later than now: it is the one
 * before. */
static void
set_period(PglPlanBudget *budget, TimestampTz now)
{
	TimestampTz start;

	if (budget->terms.rolling)
		return;
	start = begin_of_period(budget->quota, now);
	if (start > now)
		start = begin_of_period(budget->quota, start - 1);
	budget->terms.start = start;
	budget->terms.end = end_of_period(budget->quota, start);
	budget->terms.end_us = pgl_clock_us() + (budget->terms.end - now);
}

static void
refresh_periods(PglPlan *plan)
{
	TimestampTz now;
	PglPlanBudget *budget;

	if (plan->budgets == NULL)
		return;
	now = GetCurrentTimestamp();
	for (budget = plan->budgets; budget; budget = budget->next)
		if (!budget->terms.rolling && now >= budget->terms.end)
			set_period(budget, now);
}

/* ---- the plan ---- */

const PglLimitSpec *
pgl_budget_add(PglPlan *plan, const PglQuota *quota, const PglLimitSpec *rates)
{
	PglPlanBudget *budget = palloc0(sizeof(PglPlanBudget));

	budget->quota = quota;
	budget->terms.limit = quota->budget_nano_usd;
	budget->terms.period = quota->budget_period;
	budget->terms.rolling = quota->budget_rolling;
	budget->terms.zone = pgl_catalog_hash(quota->budget_time_zone);
	set_period(budget, GetCurrentTimestamp());
	budget->spec = *rates;
	budget->spec.key.scope = PGL_SCOPE_BUDGET;
	budget->spec.rpm = budget->spec.tpm = 0;
	budget->spec.burst_requests = budget->spec.burst_tokens = 0;
	budget->spec.max_inflight = 0;
	budget->spec.budget = &budget->terms;
	budget->spec.soft = quota->soft;
	budget->next = plan->budgets;
	plan->budgets = budget;
	return &budget->spec;
}

/* ---- reading what was spent ---- */

static int
read_spent(const PglPlanBudget *budget, PglBudgetEntry **entries)
{
	const PglBudgetTerms *terms = &budget->terms;
	TimestampTz now = GetCurrentTimestamp();
	PglSpentQuery query = {
		.quota = budget->quota, .since = terms->start, .until = terms->end, .now = now};

	if (terms->rolling)
	{
		query.slot_us = pgl_budget_slot_us(terms->period);
		query.since = now - pgl_budget_period_us(terms->period) - query.slot_us;
		query.until = DT_NOEND;
	}
	if (budget->quota->per == PGL_PER_TENANT)
		query.tenant = budget->spec.subject;
	else if (budget->quota->per == PGL_PER_ROLE)
		query.role = (Oid) budget->spec.key.subject;
	return pgl_catalog_read_spent(&query, entries);
}

/* Locked.  Make all budgets live; true if none has to be read. */
static bool
prepare_budgets(PglPlan *plan, bool *full)
{
	int64_t now_us = pgl_clock_us();
	bool ready = true;
	PglPlanBudget *budget;

	*full = false;
	for (budget = plan->budgets; budget; budget = budget->next)
	{
		if (pgl_limit_prepare_budget(&budget->spec, now_us, &budget->loaded, &budget->mark) < 0)
			*full = true;
		ready &= budget->loaded;
	}
	return ready;
}

static void
load_budgets(PglPlan *plan, bool force)
{
	PglPlanBudget *budget;

	pgl_ledger_require_settled();
	for (budget = plan->budgets; budget; budget = budget->next)
	{
		PglBudgetEntry *entries;
		int nentries;

		if (budget->loaded)
			continue;
		nentries = read_spent(budget, &entries);
		pgl_shmem_lock();
		pgl_limit_load_budget(&budget->spec, &budget->mark, entries, nentries, force,
							  pgl_clock_us());
		pgl_shmem_unlock();
		pfree(entries);
	}
}

void
pgl_budget_lock(PglPlan *plan)
{
	bool full;
	int round;

	for (round = 1;; round++)
	{
		refresh_periods(plan);
		pgl_shmem_lock();
		if (plan->budgets == NULL || (prepare_budgets(plan, &full) && !full))
			return;
		pgl_shmem_unlock();
		if (full)
			ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
							errmsg("no room in shared memory for another budget"),
							errhint("Raise pgllm.max_limits.")));
		CHECK_FOR_INTERRUPTS();
		load_budgets(plan, round >= MAX_ROUNDS);
	}
}

/* ---- words ---- */

const char *
pgl_budget_terms_text(const PglBudgetTerms *terms)
{
	char usd[PGL_USD_SIZE];

	return psprintf("%s USD %s %s", pgl_usd_text(terms->limit, usd), terms->rolling ? "in" : "per",
					terms->rolling ? rolling_names[terms->period] : period_names[terms->period]);
}

static void
describe_name(StringInfo out, const char *head, const PglLimitSpec *spec)
{
	appendStringInfo(out, "%s of %s", head, spec->name);
	if (spec->subject[0])
		appendStringInfo(out, " of \"%s\"", spec->subject);
}

void
pgl_budget_describe(StringInfo out, const PglObstacle *obstacle)
{
	const PglBudgetVerdict *budget = &obstacle->verdict.budget;
	char spent[PGL_USD_SIZE];
	char reserved[PGL_USD_SIZE];
	char needed[PGL_USD_SIZE];

	describe_name(out, "Budget", obstacle->limit);
	appendStringInfo(out, " allows %s: %s spent, %s reserved, %s needed",
					 pgl_budget_terms_text(obstacle->limit->budget),
					 pgl_usd_text(budget->spent, spent), pgl_usd_text(budget->reserved, reserved),
					 pgl_usd_text(budget->needed, needed));
	if (obstacle->verdict.binding == 0)
		appendStringInfoString(out, "; earlier calls are in its queue");
	if (budget->end != 0)
		appendStringInfo(out, "; the period ends at %s", timestamptz_to_str(budget->end));
	appendStringInfoChar(out, '.');
}

static void
report_notice(const PglBudgetNotice *notice)
{
	const PglBudgetVerdict *state = &notice->state;
	char spent[PGL_USD_SIZE];
	char reserved[PGL_USD_SIZE];
	StringInfoData message;

	initStringInfo(&message);
	describe_name(&message, "budget", notice->limit);
	ereport(NOTICE, (errmsg("%s has reached %d percent", message.data, notice->percent),
					 errdetail("It allows %s: %s spent, %s reserved.",
							   pgl_budget_terms_text(notice->limit->budget),
							   pgl_usd_text(state->spent, spent),
							   pgl_usd_text(state->reserved, reserved))));
	pfree(message.data);
}

void
pgl_call_report_budgets(PglCall *call)
{
	int i;

	for (i = 0; i < call->admit.nnotices; i++)
		report_notice(&call->admit.notices[i]);
	call->admit.nnotices = 0;
}
