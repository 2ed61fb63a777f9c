/*
 * meter.c — counters and activity: what happened, counted when it happened.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../shmem/activity.h"
#include "../shmem/stat.h"
#include "state.h"
#include "statement.h"

static PglStatCounters *
tenant_counters(const PglCall *call)
{
	const PglTenant *tenant = call->plan->tenant;

	return tenant ? pgl_stat_find(call->plan->database, PGL_STAT_TENANT, tenant->id, tenant->name)
				  : NULL;
}

static PglStatCounters *
target_counters(const PglCall *call, const PglTarget *target)
{
	return pgl_stat_find(call->plan->database, PGL_STAT_TARGET, target->id, target->name);
}

/* Locked.  Show the phase of the call as what the backend does now. */
static void
show_activity(const PglCall *call, PglActivityState state)
{
	PglActivity *slot = pgl_activity_mine();

	slot->role = GetOuterUserId();
	slot->since = GetCurrentTimestamp();
	slot->state = state;
	pgl_shmem_copy_name(slot->tenant, call->plan->tenant ? call->plan->tenant->name : "");
	pgl_shmem_copy_name(slot->target, call->candidate >= 0 && state == PGL_ACTIVITY_CALLING
										  ? call->plan->candidates[call->candidate].target->name
										  : "");
}

void
pgl_meter_started(PglCall *call)
{
	PglStatCounters *tenant;

	pgl_shmem_lock();
	tenant = tenant_counters(call);
	if (tenant)
		tenant->calls++;
	pgl_activity_mine()->started++;
	pgl_shmem_unlock();
}

void
pgl_meter_hit(PglCall *call, bool journal)
{
	PglStatement *statement = pgl_statement_current();
	PglStatCounters *tenant;

	statement->memo_hits += !journal;
	statement->journal_hits += journal;
	pgl_shmem_lock();
	tenant = tenant_counters(call);
	if (tenant)
	{
		tenant->memo_hits += !journal;
		tenant->journal_hits += journal;
	}
	pgl_shmem_unlock();
}

void
pgl_meter_phase(PglCall *call)
{
	PglStatCounters *tenant;

	pgl_shmem_lock();
	show_activity(call,
				  call->phase == PGL_CALL_QUEUED ? PGL_ACTIVITY_QUEUED : PGL_ACTIVITY_BACKOFF);
	tenant = tenant_counters(call);
	if (tenant && call->phase == PGL_CALL_QUEUED && !call->counted_as_waiting)
		tenant->waits++;
	call->counted_as_waiting |= call->phase == PGL_CALL_QUEUED;
	pgl_shmem_unlock();
}

void
pgl_meter_admitted(PglCall *call)
{
	const PglCandidate *chosen = &call->plan->candidates[call->admission.candidate];
	PglStatCounters *target = target_counters(call, chosen->target);
	PglStatCounters *tenant = tenant_counters(call);
	int c;

	call->ordinal = target->calls++;
	if (tenant)
	{
		tenant->attempts++;
		tenant->retries += call->nattempts > 0;
		tenant->shadow_refusals += call->admission.shadow_refusal && call->nattempts == 0;
	}
	for (c = 0; c < call->plan->ncandidates; c++)
		if (call->obstacles[c].block >= PGL_BLOCK_LIMIT)
			target_counters(call, call->plan->candidates[c].target)->refused_locally++;
	call->candidate = call->admission.candidate;
	show_activity(call, PGL_ACTIVITY_CALLING);
	pgl_activity_mine()->in_flight++;
	call->attempt_open = true;
}

/* Nano-USD, rounded to the nearest; -1 when a price of a kind that was used is not known. */
int64_t
pgl_meter_cost(const PglTarget *target, const PglUsage *usage)
{
	const int64_t tokens[PGL_PRICE_COMPONENTS] = {
		[PGL_PRICE_INPUT] = usage->input_tokens,
		[PGL_PRICE_OUTPUT] = usage->output_tokens,
		[PGL_PRICE_CACHE_READ] = usage->cache_read_tokens,
		[PGL_PRICE_CACHE_WRITE] = usage->cache_write_tokens,
	};
	__int128 total = 0;
	int i;

	if (usage->input_tokens < 0 || usage->output_tokens < 0)
		return -1;
	for (i = 0; i < PGL_PRICE_COMPONENTS; i++)
	{
		if (tokens[i] <= 0)
			continue;
		if (target->price[i] == PGL_PRICE_NONE)
			return -1;
		total += (__int128) tokens[i] * target->price[i];
	}
	return (int64_t) ((total + 500000) / 1000000);
}

/* What the statement has spent, and what the call has. */
static void
add_cost(PglCall *call, const PglBill *bill)
{
	PglStatement *statement = pgl_statement_current();

	if (bill->charge == PGL_CHARGE_NONE)
		return;
	if (bill->nano_usd < 0)
		statement->unpriced++;
	else
		statement->cost_nano_usd += bill->nano_usd;
	call->cost_unknown |= bill->nano_usd < 0;
	call->outcome.cost_nano_usd =
		call->cost_unknown ? -1 : Max(call->outcome.cost_nano_usd, 0) + bill->nano_usd;
}

void
pgl_meter_attempt(PglCall *call, PglCause cause, const PglBill *bill)
{
	const PglTarget *target = call->plan->candidates[call->candidate].target;
	PglStatCounters *counters = target_counters(call, target);
	PglStatement *statement = pgl_statement_current();
	const PglUsage *usage = &call->reply.usage;

	pgl_activity_mine()->in_flight--;
	if (cause == PGL_CAUSE_NONE)
		pgl_stat_add_latency(counters, pgl_clock_us() - call->attempt_us);
	if (cause == PGL_CAUSE_THROTTLED || cause == PGL_CAUSE_QUOTA_EXHAUSTED)
		counters->throttled++;
	else if (cause != PGL_CAUSE_NONE)
		counters->failures++;
	counters->successes += cause == PGL_CAUSE_NONE;
	statement->retries += call->nattempts > 1;
	add_cost(call, bill);
	if (bill->charge == PGL_CHARGE_NONE)
		return;
	counters->input_tokens += Max(usage->input_tokens, 0);
	counters->output_tokens += Max(usage->output_tokens, 0);
	counters->cost_nano_usd += Max(bill->nano_usd, 0);
	counters->unpriced += bill->nano_usd < 0;
	statement->input_tokens += Max(usage->input_tokens, 0);
	statement->output_tokens += Max(usage->output_tokens, 0);
}

/* The call is over, or given up in the middle. */
void
pgl_meter_done(PglCall *call)
{
	bool finished = call->phase == PGL_CALL_DONE;
	bool answered = finished && call->outcome.response != NULL;
	PglStatCounters *tenant;
	PglActivity *slot;

	pgl_shmem_lock();
	tenant = tenant_counters(call);
	slot = pgl_activity_mine();
	if (call->attempt_open)
		slot->in_flight--;
	slot->done++;
	slot->failed += !answered;
	if (pgl_engine_unfinished() - !finished == 0)
		slot->state = PGL_ACTIVITY_IDLE;
	pgl_statement_current()->failures += !answered;
	pgl_statement_current()->fallbacks += answered && call->outcome.fallback_depth > 0;
	if (tenant && answered)
	{
		tenant->successes++;
		tenant->fallbacks += call->outcome.fallback_depth > 0;
		tenant->input_tokens += Max(call->reply.usage.input_tokens, 0);
		tenant->output_tokens += Max(call->reply.usage.output_tokens, 0);
		tenant->cost_nano_usd += Max(call->outcome.cost_nano_usd, 0);
		tenant->unpriced += call->outcome.cost_nano_usd < 0;
		pgl_stat_add_latency(tenant, call->outcome.total_us);
	}
	else if (tenant && call->outcome.refused)
		tenant->throttled++;
	else if (tenant)
		tenant->failures++;
	pgl_shmem_unlock();
}
