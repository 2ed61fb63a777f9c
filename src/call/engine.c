/*
 * engine.c — drive all calls of the backend: timers, wake-ups, replies.
 *
 * A call with something to do is on the ready list; nothing else is looked at, so a thousand calls
 * in flight cost no more per event than one.  Advancing a call takes it through as many phases as
 * it can go without waiting.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "storage/latch.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "../shmem/activity.h"
#include "budget.h"
#include "state.h"
#include "wait.h"

#define FAR_FUTURE_US INT64_C(3600000000)
#define LEDGER_LOOK_AGAIN_US INT64_C(10000)
#define ABSENCE_US INT64_C(100000) /* shorter ones are nobody's loss */

static int compare_timers(const pairingheap_node *a, const pairingheap_node *b, void *arg);

static dlist_head calls = DLIST_STATIC_INIT(calls);
static dlist_head ready = DLIST_STATIC_INIT(ready);
static dlist_head watched = DLIST_STATIC_INIT(watched); /* wait for the ledger or another call */
static pairingheap timers = {compare_timers, NULL, NULL};
static int unfinished = 0;
static int backing_off = 0;     /* in BACKOFF */
static int64_t attended_us = 0; /* when somebody last looked after the calls */

static PglCall *
call_of_timer(pairingheap_node *node)
{
	return pairingheap_container(PglCall, timer, node);
}

/* The heap gives the largest first: the earliest timer counts as the largest. */
static int
compare_timers(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int64_t left = pairingheap_const_container(PglCall, timer, a)->timer_us;
	int64_t right = pairingheap_const_container(PglCall, timer, b)->timer_us;

	return left < right ? 1 : left > right ? -1 : 0;
}

dlist_head *
pgl_engine_calls(void)
{
	return &calls;
}

int
pgl_engine_unfinished(void)
{
	return unfinished;
}

int
pgl_engine_backing_off(void)
{
	return backing_off;
}

void
pgl_engine_attend(void)
{
	attended_us = pgl_clock_us();
}

/*
 * A statement with calls in flight may be elsewhere for a while: waiting for the lock of a row, or
 * for a client that does not read.  The calls did not have that time: what has come meanwhile was
 * not taken, and what could have gone out was not sent.
 */
static void
forgive_absence(void)
{
	int64_t absent_us = pgl_clock_us() - attended_us;
	dlist_iter iter;

	if (unfinished == 0 || absent_us < ABSENCE_US)
		return;
	dlist_foreach (iter, &calls)
	{
		PglCall *call = dlist_container(PglCall, node, iter.cur);

		if (call->phase == PGL_CALL_DONE)
			continue;
		call->deadline_us += absent_us;
		call->wait_deadline_us += absent_us;
		if (call->transfer)
			pgl_net_postpone(call->transfer, absent_us);
	}
}

void
pgl_engine_add(PglCall *call)
{
	forgive_absence();
	pgl_engine_attend();
	dlist_push_tail(&calls, &call->node);
	unfinished++;
}

void
pgl_engine_watch(PglCall *call)
{
	if (call->is_watched)
		return;
	call->is_watched = true;
	dlist_push_tail(&watched, &call->watch_node);
}

static void
unwatch(PglCall *call)
{
	if (call->is_watched)
		dlist_delete(&call->watch_node);
	call->is_watched = false;
}

static void
retire(PglCall *call)
{
	unwatch(call);
	pgl_engine_clear_timer(call);
	if (call->is_ready)
		dlist_delete(&call->ready_node);
	call->is_ready = false;
	backing_off -= call->phase == PGL_CALL_BACKOFF;
	unfinished--;
}

void
pgl_engine_remove(PglCall *call)
{
	if (call->phase != PGL_CALL_DONE)
		retire(call);
	pgl_group_leave(call);
	dlist_delete(&call->node);
}

void
pgl_engine_set_timer(PglCall *call, int64_t at_us)
{
	pgl_engine_clear_timer(call);
	call->timer_us = at_us;
	pairingheap_add(&timers, &call->timer);
	call->has_timer = true;
}

void
pgl_engine_clear_timer(PglCall *call)
{
	if (call->has_timer)
		pairingheap_remove(&timers, &call->timer);
	call->has_timer = false;
}

void
pgl_engine_make_ready(PglCall *call)
{
	if (call->is_ready)
		return;
	call->is_ready = true;
	dlist_push_tail(&ready, &call->ready_node);
}

/* Until when a call that was not admitted may wait; in the past if it may not. */
static int64_t
end_of_patience(const PglCall *call, int64_t statement_deadline_us)
{
	const PglAdmission *admission = &call->admission;
	int64_t last_us = Min(call->deadline_us, statement_deadline_us);

	if (!admission->can_wait)
		return 0;
	/*
	 * A cool-down ends soon, and so do calls of our own and those that fill a window; a limit is
	 * waited for as long as agreed.
	 */
	if (admission->wait_limit && !admission->wait_for_sibling && !admission->wait_for_window)
		last_us = Min(last_us, call->wait_deadline_us);
	return last_us;
}

/* Locked.  Room in the ledger for what the decision will lead to. */
static bool
reserve_record(PglCall *call)
{
	int slots[2] = {PGL_NO_SLOT, PGL_NO_SLOT};

	Assert(call->slot == PGL_NO_SLOT && call->intent_slot == PGL_NO_SLOT);
	if (!pgl_ledger_reserve(pgl_record_slots(call), slots))
		return false;
	call->slot = slots[0];
	call->intent_slot = slots[1];
	return true;
}

/* Does another call of this backend hold, or wait for, what it will give back? */
static bool
has_siblings(const PglCall *call)
{
	int queued_siblings = pgl_queue_length() - (call->admit.ticket != PGL_NO_TICKET);
	dlist_iter iter;

	if (pgl_activity_mine()->in_flight > 0 || queued_siblings > 0)
		return true;
	/* One that waits for a cool-down keeps its place in the quotas of tenant and role. */
	dlist_foreach (iter, &calls)
	{
		const PglCall *other = dlist_container(PglCall, node, iter.cur);

		if (other != call && other->admit.call_lease.index >= 0)
			return true;
	}
	return false;
}

/* Locked.  Ask for a decision; what must be done at once with it is. */
static void
decide_locked(PglCall *call, int64_t now_us, int64_t statement_deadline_us)
{
	PglAdmission *admission = &call->admission;
	int64_t last_us;

	call->must_wait = false;
	if (!reserve_record(call))
	{
		memset(admission, 0, offsetof(PglAdmission, binding));
		admission->decision = PGL_DECISION_LEDGER_FULL;
		return;
	}
	pgl_admit(call->plan, &call->admit, has_siblings(call), now_us, call->obstacles, admission);
	if (admission->decision == PGL_DECISION_GO)
	{
		if (call->admit.ticket != PGL_NO_TICKET)
		{
			call->admit.arrival = pgl_ticket_drop(call->admit.ticket);
			pgl_queue_forget(call);
		}
		pgl_meter_admitted(call);
		return;
	}
	last_us = end_of_patience(call, statement_deadline_us);
	call->wait_until_us = admission->wait_us > 0 ? now_us + admission->wait_us : last_us;
	call->must_wait = now_us < last_us && call->wait_until_us <= last_us;
	if (admission->look_us > 0)
		call->wait_until_us = Min(call->wait_until_us, now_us + admission->look_us);
	if (call->must_wait && admission->wait_limit && !pgl_queue_join(call, last_us))
		admission->decision = PGL_DECISION_NO_MEMORY;
	else if (call->must_wait)
	{
		pgl_ledger_unreserve(&call->slot);
		pgl_ledger_unreserve(&call->intent_slot);
	}
}

static void
begin_wait(PglCall *call, int64_t now_us)
{
	if (call->queued_since_us == 0)
		call->queued_since_us = now_us;
	if (call->admission.wait_limit)
		call->phase = PGL_CALL_QUEUED;
	else
	{
		pgl_queue_leave(call);
		call->phase = PGL_CALL_BACKOFF;
		backing_off++;
	}
	pgl_engine_set_timer(call, call->wait_until_us);
	pgl_meter_phase(call);
}

/* No record is free: look again soon, help when that takes too long, and give up in the end. */
static void
wait_for_ledger(PglCall *call, int64_t now_us)
{
	int64_t patience_us = (int64_t) pgl_guc_ledger_timeout * 1000;
	int64_t waited_us;

	if (call->ledger_full_since_us == 0)
		call->ledger_full_since_us = now_us;
	waited_us = now_us - call->ledger_full_since_us;
	if (now_us >= call->deadline_us || waited_us >= 2 * patience_us)
	{
		pgl_outcome_ledger_full(call);
		return;
	}
	if (waited_us >= patience_us)
		pgl_durable_make_room();
	call->admission.wait_limit = NULL;
	call->wait_until_us = Min(call->deadline_us, now_us + LEDGER_LOOK_AGAIN_US);
	begin_wait(call, now_us);
}

static void
end_wait(PglCall *call, int64_t now_us)
{
	if (call->queued_since_us > 0)
		call->outcome.queue_us += now_us - call->queued_since_us;
	call->queued_since_us = 0;
}

static void
decide(PglCall *call)
{
	int64_t statement_deadline_us = pgl_wait_statement_deadline_us();
	PglDecision decision;
	int64_t now_us;

	pgl_budget_lock(call->plan);
	now_us = pgl_clock_us();
	decide_locked(call, now_us, statement_deadline_us);
	pgl_shmem_unlock();

	decision = call->admission.decision;
	if (call->must_wait && (decision == PGL_DECISION_REFUSED || decision == PGL_DECISION_BLOCKED))
	{
		begin_wait(call, now_us);
		return;
	}
	if (decision == PGL_DECISION_LEDGER_FULL)
	{
		wait_for_ledger(call, now_us);
		return;
	}
	call->ledger_full_since_us = 0;
	end_wait(call, now_us);
	switch (decision)
	{
		case PGL_DECISION_GO:
			pgl_attempt_start(call);
			break;
		case PGL_DECISION_REFUSED:
			pgl_outcome_refused(call);
			break;
		case PGL_DECISION_BLOCKED:
		case PGL_DECISION_EXHAUSTED:
			pgl_outcome_failed(call);
			break;
		case PGL_DECISION_NO_MEMORY:
			pgl_outcome_no_memory(call);
			break;
		case PGL_DECISION_LEDGER_FULL:
			break;
	}
}

/* The outcome waits for its record. */
static void
finish_recording(PglCall *call)
{
	int durable = pgl_durable_poll(call);

	if (durable > 0)
		call->phase = PGL_CALL_DONE;
	else if (durable < 0)
		pgl_outcome_not_recorded(call);
}

/* Nothing more happens to the call: whoever waits for it may look. */
static void
end_call(PglCall *call)
{
	pgl_queue_leave(call);
	retire(call);
	pgl_group_tell(call);
	if (call->is_live)
		pgl_meter_done(call);
	pgl_share_keep(call);
}

void
pgl_engine_advance(PglCall *call)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);

	if (call->is_ready)
		dlist_delete(&call->ready_node);
	call->is_ready = false;
	unwatch(call);
	pgl_engine_clear_timer(call);
	backing_off -= call->phase == PGL_CALL_BACKOFF;
	do
	{
		switch (call->phase)
		{
			case PGL_CALL_ADMITTING:
			case PGL_CALL_QUEUED:
			case PGL_CALL_BACKOFF:
				call->phase = PGL_CALL_ADMITTING;
				decide(call);
				break;
			case PGL_CALL_FOLLOWING:
				pgl_share_look_again(call);
				break;
			case PGL_CALL_INTENDING:
				pgl_attempt_intended(call);
				break;
			case PGL_CALL_SENDING:
			case PGL_CALL_ANSWERING:
				pgl_attempt_finish(call);
				break;
			case PGL_CALL_RECORDING:
				finish_recording(call);
				break;
			case PGL_CALL_DONE:
				break;
		}
	} while (call->phase == PGL_CALL_ADMITTING);
	if (call->phase == PGL_CALL_DONE)
		end_call(call);
	MemoryContextSwitchTo(caller);
}

/* Has what the call waits for come? */
static bool
has_come(const PglCall *call, uint64_t durable)
{
	return call->phase == PGL_CALL_FOLLOWING ? !pgl_share_must_follow(call)
											 : call->awaited <= durable;
}

static void
collect_watched(void)
{
	uint64_t durable;
	dlist_iter iter;

	if (dlist_is_empty(&watched))
		return;
	durable = pgl_ledger_durable();
	dlist_foreach (iter, &watched)
	{
		PglCall *call = dlist_container(PglCall, watch_node, iter.cur);

		if (has_come(call, durable))
			pgl_engine_make_ready(call);
	}
}

/* Move what has become due to the ready list. */
static void
collect_due(int64_t now_us)
{
	dlist_iter iter;

	while (!pairingheap_is_empty(&timers))
	{
		PglCall *call = call_of_timer(pairingheap_first(&timers));

		if (call->timer_us > now_us)
			break;
		pgl_engine_clear_timer(call);
		pgl_engine_make_ready(call);
	}
	collect_watched();
	if (pgl_queue_length() == 0)
		return;
	dlist_foreach (iter, &calls)
	{
		PglCall *call = dlist_container(PglCall, node, iter.cur);

		if (call->phase == PGL_CALL_QUEUED && pgl_ticket_was_woken(call->admit.ticket))
			pgl_engine_make_ready(call);
	}
}

/* What the backend is waiting for, as its wait event shows it. */
static uint32
wait_event_now(void)
{
	if (pgl_net_in_flight() > 0)
		return pgl_wait_event_http();
	if (!dlist_is_empty(&watched))
		return pgl_wait_event_ledger();
	return pgl_queue_length() > 0 ? pgl_wait_event_quota() : pgl_wait_event_backoff();
}

/* One turn: wait until something happens, at most until then, and act on it. */
static void
turn(int64_t until_us)
{
	forgive_absence();
	collect_due(pgl_clock_us());
	if (!dlist_is_empty(&ready))
		until_us = 0;
	else if (!pairingheap_is_empty(&timers))
		until_us = Min(until_us, call_of_timer(pairingheap_first(&timers))->timer_us);
	pgl_net_turn(until_us, wait_event_now());
	collect_due(pgl_clock_us());
	while (!dlist_is_empty(&ready))
		pgl_engine_advance(dlist_container(PglCall, ready_node, dlist_head_node(&ready)));
	pgl_engine_attend();
}

void
pgl_call_drive(void)
{
	turn(pgl_clock_us() + FAR_FUTURE_US);
}

void
pgl_call_poll(void)
{
	turn(0);
}
