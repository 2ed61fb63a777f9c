/*
 * meter.c — counters and activity: what happened, counted when it happened.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../shmem/activity.h"
#include "../shmem/stat.h"
#include "progress.h"
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

/* Locked.  Show what the backend does now, and for whom; a target if an attempt begins. */
static void
show_activity(const PglCall *call, const char *target)
{
	PglActivity *slot = pgl_activity_mine();

	slot->since = GetCurrentTimestamp();
	pgl_shmem_copy_name(slot->tenant, call->plan->tenant ? call->plan->tenant->name : "");
	if (target)
		pgl_shmem_copy_name(slot->target, target);
	pgl_progress_show();
}

void
pgl_meter_started(PglCall *call)
{
	PglStatCounters *tenant;

	pgl_progress_begin();
	pgl_shmem_lock();
	tenant = tenant_counters(call);
	if (tenant)
		tenant->calls++;
	pgl_activity_mine()->started++;
	pgl_progress_show();
	pgl_shmem_unlock();
}

void
pgl_meter_hit(PglCall *call, bool journal)
{
	PglProgress *progress = &pgl_statement_current()->progress;
	PglStatCounters *tenant;

	pgl_progress_begin();
	progress->memo_hits += !journal;
	progress->journal_hits += journal;
	pgl_shmem_lock();
	tenant = tenant_counters(call);
	if (tenant)
	{
		tenant->memo_hits += !journal;
		tenant->journal_hits += journal;
	}
	pgl_progress_show();
	pgl_shmem_unlock();
}

void
pgl_meter_phase(PglCall *call)
{
	PglStatCounters *tenant;

	pgl_shmem_lock();
	show_activity(call, NULL);
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
	pgl_activity_mine()->in_flight++;
	show_activity(call, chosen->target->name);
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
	PglProgress *progress = &pgl_statement_current()->progress;
	PglOutcome *outcome = &call->outcome;

	if (bill->nano_usd < 0)
	{
		progress->unpriced++;
		outcome->unpriced++;
	}
	else
	{
		progress->cost_nano_usd += bill->nano_usd;
		outcome->priced_nano_usd += bill->nano_usd;
	}
	outcome->cost_nano_usd = outcome->unpriced > 0 ? -1 : outcome->priced_nano_usd;
}

static void
add_tokens(PglCall *call, const PglUsage *usage)
{
	PglProgress *progress = &pgl_statement_current()->progress;

	progress->input_tokens += Max(usage->input_tokens, 0);
	progress->output_tokens += Max(usage->output_tokens, 0);
	call->outcome.billed_input_tokens += Max(usage->input_tokens, 0);
	call->outcome.billed_output_tokens += Max(usage->output_tokens, 0);
}

void
pgl_meter_attempt(PglCall *call, PglCause cause, const PglBill *bill)
{
	const PglTarget *target = call->plan->candidates[call->candidate].target;
	PglStatCounters *counters = target_counters(call, target);
	const PglUsage *usage = &call->reply.usage;

	pgl_activity_mine()->in_flight--;
	if (cause == PGL_CAUSE_NONE)
		pgl_stat_add_latency(counters, pgl_clock_us() - call->attempt_us);
	if (cause == PGL_CAUSE_THROTTLED || cause == PGL_CAUSE_QUOTA_EXHAUSTED)
		counters->throttled++;
	else if (cause != PGL_CAUSE_NONE)
		counters->failures++;
	counters->successes += cause == PGL_CAUSE_NONE;
	pgl_statement_current()->progress.retries += call->nattempts > 1;
	if (bill->charge != PGL_CHARGE_NONE)
	{
		add_cost(call, bill);
		add_tokens(call, usage);
	}
	pgl_progress_show();
	if (bill->charge == PGL_CHARGE_NONE)
		return;
	counters->input_tokens += Max(usage->input_tokens, 0);
	counters->output_tokens += Max(usage->output_tokens, 0);
	counters->cost_nano_usd += Max(bill->nano_usd, 0);
	counters->unpriced += bill->nano_usd < 0;
}

/* The call is over, or given up in the middle; it counts among those of the engine no more. */
void
pgl_meter_done(PglCall *call)
{
	bool answered = call->phase == PGL_CALL_DONE && call->outcome.response != NULL;
	PglProgress *progress = &pgl_statement_current()->progress;
	PglStatCounters *tenant;
	PglActivity *slot;

	pgl_shmem_lock();
	tenant = tenant_counters(call);
	slot = pgl_activity_mine();
	if (call->attempt_open)
		slot->in_flight--;
	slot->done++;
	slot->failed += !answered;
	progress->failures += !answered;
	progress->fallbacks += answered && call->outcome.fallback_depth > 0;
	pgl_progress_show();
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
