/*
 * queue.c — waiting for a limit, first come first served.
 *
 * A waiting call holds a ticket on the limit that binds it (shmem/limit.h), which keeps later arrivals
 * behind it.  How it sleeps depends on its backend:
 *
 *	by lock   the backend has no other call: it queues on the limit's advisory lock, an ordinary
 *	          transaction-level lock with a class of its own in pg_locks.  The lock manager keeps the
 *	          order of arrival, shows who waits for whom, and serves lock_timeout and deadlock checks.
 *	          The holder is the head of the queue; it sleeps until its units have flowed in, takes them and
 *	          lets the next one have the lock.  It never holds the lock across network I/O.
 *	by timer  other calls of the backend are in flight, so it must not block: a timer set to the refill,
 *	          and the latch when somebody gives something back.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "queue.h"
#include "state.h"
#include "wait.h"

/* Take a ticket for the limit that the last decision named, or move there, keeping the place. */
static void
hold_ticket(PglCall *call, bool by_lock)
{
	int limit;

	pgl_shmem_lock();
	limit = pgl_limit_peek(&call->admission.wait_limit->key);
	if (limit >= 0 && call->admit.ticket == PGL_NO_TICKET)
		call->admit.ticket = pgl_ticket_take(limit, by_lock);
	else if (limit >= 0)
		pgl_ticket_move(call->admit.ticket, limit, by_lock);
	pgl_shmem_unlock();
}

void
pgl_queue_join(PglCall *call)
{
	bool had_ticket = call->admit.ticket != PGL_NO_TICKET;
	int64_t wait_us = call->admission.wait_us;

	hold_ticket(call, false);
	if (call->admit.ticket == PGL_NO_TICKET)
	{
		pgl_outcome_no_memory(call);
		return;
	}
	if (!had_ticket)
		pgl_engine_count_queued(1);
	call->phase = PGL_CALL_QUEUED;
	/* Not known how long (calls in flight, others in front): a release wakes us, the end of patience too. */
	pgl_engine_set_timer(call,
						 wait_us > 0 ? pgl_clock_us() + wait_us : call->wait_deadline_us);
}

void
pgl_queue_leave(PglCall *call)
{
	if (call->admit.ticket == PGL_NO_TICKET)
		return;
	pgl_shmem_lock();
	pgl_ticket_drop(call->admit.ticket);
	pgl_shmem_unlock();
	call->admit.ticket = PGL_NO_TICKET;
	pgl_engine_count_queued(-1);
}

uint64_t
pgl_queue_lock_id(const PglLimitKey *key)
{
	return key->id ^ (key->subject * UINT64_C(0x9e3779b97f4a7c15)) ^ key->scope;
}

static void
set_lock_tag(LOCKTAG *tag, const PglLimitKey *key)
{
	uint64_t id = pgl_queue_lock_id(key);

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (id >> 32), (uint32) id, PGL_LOCK_CLASS);
}

/*
 * Queue on the advisory lock until the deadline.  True: we hold it.  The deadline rides on lock_timeout,
 * the only one that LockAcquire knows; when it was ours that fired, the error is taken back, which is
 * sound because the lock manager has cleaned up its wait before it reports.
 */
static bool
acquire_lock(const LOCKTAG *tag, int64_t deadline_us)
{
	MemoryContext context = CurrentMemoryContext;
	int users_timeout = LockTimeout;
	int64_t left_ms = Max((deadline_us - pgl_clock_us()) / 1000, 1);
	volatile bool acquired = false;

	if (users_timeout > 0 && users_timeout <= left_ms)
	{
		LockAcquire(tag, ExclusiveLock, false, false);
		return true;
	}
	LockTimeout = (int) Min(left_ms, INT_MAX);
	PG_TRY();
	{
		LockAcquire(tag, ExclusiveLock, false, false);
		acquired = true;
		LockTimeout = users_timeout;
	}
	PG_CATCH();
	{
		LockTimeout = users_timeout;
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return acquired;
}

/* At the head of the queue: until admitted, refused, or sent to another limit. */
static void
wait_as_head(PglCall *call, const PglLimitKey *key)
{
	for (;;)
	{
		/* Somebody may have moved here from another limit with an earlier arrival. */
		pgl_shmem_lock();
		pgl_ticket_reached_lock(call->admit.ticket);
		pgl_shmem_unlock();
		pgl_engine_advance(call);
		if (call->phase != PGL_CALL_QUEUED ||
			memcmp(key, &call->admission.wait_limit->key, sizeof(*key)) != 0)
			return;
		while (pgl_clock_us() < call->timer_us && !pgl_ticket_was_woken(call->admit.ticket))
			pgl_net_turn(call->timer_us, pgl_wait_event_quota());
	}
}

void
pgl_queue_block(PglCall *call)
{
	PglLimitKey key = call->admission.wait_limit->key;
	LOCKTAG tag;

	hold_ticket(call, true);
	set_lock_tag(&tag, &key);
	if (!acquire_lock(&tag, call->wait_deadline_us))
	{
		/* Patience is over: one last decision, which will refuse unless units are there by chance. */
		pgl_engine_advance(call);
		return;
	}
	wait_as_head(call, &key);
	LockRelease(&tag, ExclusiveLock, false);
}
