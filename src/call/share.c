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

/* Nobody else has the answer, or will have it: the call goes out. */
static void
go_live(PglCall *call)
{
	int64_t worst = -1;
	int c;

	for (c = 0; c < call->plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &call->plan->candidates[c];

		if (candidate->dropped)
			continue;
		worst = Max(worst, candidate->worst_nano_usd);
		if (candidate->worst_nano_usd < 0)
		{
			worst = -1;
			break;
		}
	}
	pgl_statement_take(worst);
	call->statement = pgl_statement_current()->number;
	call->statement_reserve = worst;
	call->outcome.source = "live";
	call->is_live = true;
	call->phase = PGL_CALL_ADMITTING;
	pgl_meter_started(call);
}

/* Somebody else's answer, already in call->outcome, is this call's. */
static void
take_over(PglCall *call, const char *source)
{
	call->outcome.source = source;
	call->outcome.cost_nano_usd = 0;
	call->outcome.total_us = pgl_clock_us() - call->started_us;
	if (call->outcome.response)
		pgl_outcome_judge(call);
	call->phase = PGL_CALL_DONE;
}

static void
follow(PglCall *call, bool memo)
{
	call->follows_memo = memo;
	call->phase = PGL_CALL_FOLLOWING;
	pgl_engine_watch(call);
	pgl_engine_set_timer(call, memo ? call->deadline_us
									: Min(call->deadline_us, pgl_clock_us() + LOOK_AGAIN_US));
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
		follow(call, false);
		return;
	}
	if (!pgl_journal_find(call))
	{
		go_live(call);
		return;
	}
	pgl_statement_current()->journal_hits++;
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
			pgl_statement_current()->memo_hits++;
			take_over(call, "memo");
			break;
		case PGL_MEMO_LEADING:
			follow(call, true);
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
	call->uses_journal = pgl_journal_is_wanted(call->plan->tenant, args);
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
	if (pgl_share_is_led(call))
	{
		if (pgl_clock_us() >= call->deadline_us)
			pgl_outcome_deadline(call);
		else
			follow(call, call->follows_memo);
		return;
	}
	if (call->follows_memo)
		try_memo(call);
	else
		try_journal(call);
}

bool
pgl_share_is_led(const PglCall *call)
{
	return call->follows_memo ? pgl_memo_is_led(call->key) : pgl_flight_is_taken(call->key);
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
