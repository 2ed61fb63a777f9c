/*
 * queue.c — waiting for a limit, first come first served.
 *
 * A waiting call holds a ticket on the limit that binds it (shmem/limit.h), which keeps later
 *arrivals behind it.  How it sleeps depends on its backend:
 *
 *	by lock   the backend has no other call: it queues on the limit's advisory lock, an ordinary
 *	          transaction-level lock with a class of its own in pg_locks.  The lock manager keeps
 *the order of arrival, shows who waits for whom, and serves lock_timeout and deadlock checks. The
 *holder is the head of the queue; it sleeps until its units have flowed in, takes them and lets the
 *next one have the lock.  It never holds the lock across network I/O.  The lock manager knows no
 *deadline but lock_timeout, whose error could not be taken back soundly; so nobody sleeps there
 *behind somebody who may outstay him. by timer  all others, above all calls with siblings in
 *flight, which must not block: a timer set to the refill, and the latch when somebody gives
 *something back.
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

static int length = 0;

int
pgl_queue_length(void)
{
	return length;
}

/*
 * Take a ticket for the limit that the decision named, or move there, keeping the place.  In the
 * critical section of the decision: whatever is given back from now on, we hear of it.
 */
bool
pgl_queue_join(PglCall *call, int64_t deadline_us)
{
	int limit = pgl_limit_peek(&call->admission.wait_limit->key);
	PglTicketTerms terms = {
		.by_lock =
			call->alone && pgl_engine_unfinished() == 1 && pgl_ticket_may_lock(limit, deadline_us),
		.for_window = call->admission.wait_for_window,
		.deadline_us = deadline_us,
		.arrival = call->admit.arrival,
	};

	if (call->admit.ticket != PGL_NO_TICKET)
	{
		call->queued_by_lock = pgl_ticket_move(call->admit.ticket, limit, &terms);
		return true;
	}
	call->admit.ticket = pgl_ticket_take(limit, &terms);
	call->queued_by_lock = terms.by_lock;
	length += call->admit.ticket != PGL_NO_TICKET;
	return call->admit.ticket != PGL_NO_TICKET;
}

void
pgl_queue_leave(PglCall *call)
{
	if (call->admit.ticket == PGL_NO_TICKET)
		return;
	pgl_shmem_lock();
	call->admit.arrival = pgl_ticket_drop(call->admit.ticket);
	pgl_shmem_unlock();
	pgl_queue_forget(call);
}

/* Its ticket was dropped. */
void
pgl_queue_forget(PglCall *call)
{
	call->admit.ticket = PGL_NO_TICKET;
	length--;
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

	set_lock_tag(&tag, &key);
	LockAcquire(&tag, ExclusiveLock, false, false);
	wait_as_head(call, &key);
	LockRelease(&tag, ExclusiveLock, false);
}
