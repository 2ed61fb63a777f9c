/*
 * share.c — identical calls are sent once: in a statement by the memo, between backends and over
 * time by the journal.
 *
 * A call whose key is known already gets that outcome.  One whose key is in flight follows: it
 * waits for the leader, and takes its place if the leader is given up.  Only a call that really
 * goes out counts for the limits of the statement.
 */
#include "postgres.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "../shmem/flight.h"
#include "journal.h"
#include "state.h"
#include "statement.h"

#define LOOK_AGAIN_US INT64_C(20000)

/* Somebody else's answer, already in call->outcome, is this call's. */
static void
take_over(PglCall *call, const char *source)
{
	call->outcome.source = source;
	call->outcome.cost_nano_usd = call->outcome.priced_nano_usd = 0;
	call->outcome.billed_input_tokens = call->outcome.billed_output_tokens = 0;
	call->outcome.unpriced = 0;
	call->outcome.total_us = pgl_clock_us() - call->started_us;
	if (call->outcome.response)
		pgl_outcome_judge(call);
	call->phase = PGL_CALL_DONE;
}

static void
follow(PglCall *call, PglFollow what)
{
	call->follows = what;
	call->phase = PGL_CALL_FOLLOWING;
	pgl_engine_watch(call);
	pgl_engine_set_timer(call, what == PGL_FOLLOW_FLIGHT
								   ? Min(call->deadline_us, pgl_clock_us() + LOOK_AGAIN_US)
								   : call->deadline_us);
}

/* The dearest candidate; -1: one has no price. */
static int64_t
worst_case(const PglPlan *plan)
{
	int64_t worst = 0;
	int c;

	for (c = 0; c < plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &plan->candidates[c];

		if (candidate->dropped)
			continue;
		if (candidate->worst_nano_usd < 0)
			return -1;
		worst = Max(worst, candidate->worst_nano_usd);
	}
	return worst;
}

/* Nobody else has the answer, or will have it: the call goes out, if its statement may pay. */
static void
go_live(PglCall *call)
{
	PglStatementVerdict verdict;

	call->statement_reserve = worst_case(call->plan);
	verdict = pgl_statement_take(call->statement_reserve);
	if (verdict == PGL_STATEMENT_WAIT)
	{
		follow(call, PGL_FOLLOW_ROOM);
		return;
	}
	if (verdict != PGL_STATEMENT_MAY)
	{
		pgl_statement_current()->progress.failures++;
		pgl_outcome_statement_limit(call, verdict);
		return;
	}
	call->statement = pgl_statement_current()->number;
	call->outcome.source = "live";
	call->is_live = true;
	call->phase = PGL_CALL_ADMITTING;
	pgl_meter_started(call);
}

/* The journal is asked after the key is claimed: what the last owner has paid for is there. */
static void
try_journal(PglCall *call)
{
	if (!call->uses_journal)
	{
		go_live(call);
		return;
	}
	call->owns_flight = call->owns_flight || pgl_flight_claim(call->key);
	if (!call->owns_flight)
	{
		follow(call, PGL_FOLLOW_FLIGHT);
		return;
	}
	if (!pgl_journal_find(call))
	{
		go_live(call);
		return;
	}
	pgl_meter_hit(call, true);
	take_over(call, "journal");
}

static void
try_memo(PglCall *call)
{
	PglMemoFound found =
		call->leads_memo ? PGL_MEMO_MISS : pgl_memo_look(call->key, call, &call->outcome);

	switch (found)
	{
		case PGL_MEMO_HIT:
			pgl_meter_hit(call, false);
			take_over(call, "memo");
			break;
		case PGL_MEMO_LEADING:
			follow(call, PGL_FOLLOW_MEMO);
			break;
		case PGL_MEMO_MISS:
			call->leads_memo = true;
			try_journal(call);
			break;
		case PGL_MEMO_OFF:
			try_journal(call);
			break;
	}
}

void
pgl_share_begin(PglCall *call, const PglCallArgs *args)
{
	if (args->sample || (pgl_guc_memo_size == 0 && !call->uses_journal))
	{
		go_live(call);
		return;
	}
	pgl_journal_make_key(call->plan, &call->request, call->key);
	call->has_key = true;
	try_memo(call);
}

void
pgl_share_look_again(PglCall *call)
{
	if (pgl_share_must_follow(call))
	{
		if (pgl_clock_us() >= call->deadline_us)
			pgl_outcome_deadline(call);
		else
			follow(call, call->follows);
		return;
	}
	switch (call->follows)
	{
		case PGL_FOLLOW_MEMO:
			try_memo(call);
			break;
		case PGL_FOLLOW_FLIGHT:
			try_journal(call);
			break;
		case PGL_FOLLOW_ROOM:
			go_live(call);
			break;
	}
}

bool
pgl_share_must_follow(const PglCall *call)
{
	switch (call->follows)
	{
		case PGL_FOLLOW_MEMO:
			return pgl_memo_is_led(call->key);
		case PGL_FOLLOW_FLIGHT:
			return pgl_flight_is_taken(call->key);
		case PGL_FOLLOW_ROOM:
			return pgl_statement_must_wait(call->statement_reserve);
	}
	return false;
}

void
pgl_share_keep(PglCall *call)
{
	if (call->leads_memo)
		pgl_memo_keep(call->key, call, &call->outcome);
	call->leads_memo = false;
	pgl_share_leave(call);
}

void
pgl_share_leave(PglCall *call)
{
	if (call->leads_memo)
		pgl_memo_abandon(call->key, call);
	if (call->owns_flight)
		pgl_flight_leave(call->key, call->answer_record);
	call->leads_memo = call->owns_flight = false;
	pgl_statement_release(call->statement, call->statement_reserve);
	call->statement = 0;
}
