/*
 * ticket.c — tickets: who waits for a limit, in order of arrival.
 *
 * Tickets of one limit form a list; the list is short, as it is the queue.  How a waiter sleeps is
 * decided in call/queue.c; here it is only known whether it can hear a latch.
 *
 * Everything here runs under the lock of state.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "limit_internal.h"

void
pgl_ticket_wake(int t)
{
	if (!pgl_tickets[t].woken)
		pgl_tickets[t].woken_us = pgl_clock_us();
	pgl_tickets[t].woken = true;
	SetLatch(pgl_proc_latch(pgl_tickets[t].proc));
}

/* Was it woken, and does nothing?  Who sleeps in the lock manager's queue cannot hear. */
static bool
is_deaf(const PglTicket *ticket, int64_t now_us)
{
	return ticket->woken && !ticket->by_lock && now_us - ticket->woken_us > PGL_TICKET_DEAF_US;
}

/* The oldest ticket whose owner listens. */
int
pgl_ticket_first_listening(const PglLimit *limit, int64_t now_us)
{
	int t = limit->first_ticket;

	while (t != NONE && is_deaf(&pgl_tickets[t], now_us))
		t = pgl_tickets[t].next;
	return t;
}

/*
 * It is the first one's turn, and that of the first one who listens.  If it sleeps in the lock
 * manager's queue it cannot hear us: the holder of the lock, ahead of it there, takes its place.
 */
void
pgl_ticket_wake_first(const PglLimit *limit)
{
	int first = limit->first_ticket;

	if (first == NONE)
		return;
	pgl_ticket_wake(first);
	first = pgl_ticket_first_listening(limit, pgl_clock_us());
	if (first == NONE)
		return;
	pgl_ticket_wake(first);
	if (pgl_tickets[first].by_lock && limit->lock_holder != NONE && limit->lock_holder != first)
		pgl_ticket_wake(limit->lock_holder);
}

/*
 * Put a ticket into the list of its limit, behind all that arrived before it.  A former first one
 * that finds itself second is woken, for it may hold the advisory lock that the newcomer will want.
 */
static void
link_ticket(int t, int i)
{
	int *link = &pgl_limits[i].first_ticket;

	while (*link != NONE && pgl_tickets[*link].sequence < pgl_tickets[t].sequence)
		link = &pgl_tickets[*link].next;
	if (link == &pgl_limits[i].first_ticket)
		pgl_ticket_wake_first(&pgl_limits[i]);
	pgl_tickets[t].next = *link;
	*link = t;
	pgl_tickets[t].limit = i;
	pgl_limits[i].ntickets++;
	if (link == &pgl_limits[i].first_ticket && pgl_limits[i].lock_holder != NONE)
		pgl_ticket_wake_first(&pgl_limits[i]);
}

/*
 * Take it out.  If it was the first, or has passed one who does not listen, the next one's turn has
 * come.
 */
static void
unlink_ticket(int t)
{
	PglLimit *limit = &pgl_limits[pgl_tickets[t].limit];
	int *link = &limit->first_ticket;
	bool was_first = pgl_ticket_first_listening(limit, pgl_clock_us()) == t || *link == t;

	while (*link != t)
		link = &pgl_tickets[*link].next;
	*link = pgl_tickets[t].next;
	limit->ntickets--;
	if (was_first)
		pgl_ticket_wake_first(limit);
}

/*
 * The lock manager knows no deadline of ours, so a call may sleep in its queue only if everybody
 * ahead gives up no later than it does: then it has reached the lock by its own deadline.
 */
bool
pgl_ticket_may_lock(int limit, int64_t deadline_us)
{
	int t;

	for (t = pgl_limits[limit].first_ticket; t != NONE; t = pgl_tickets[t].next)
		if (pgl_tickets[t].by_lock && pgl_tickets[t].deadline_us > deadline_us)
			return false;
	return true;
}

int
pgl_ticket_take(int limit, const PglTicketTerms *terms)
{
	int t = pgl_limit_table->first_free_ticket;

	if (t == NONE)
		return PGL_NO_TICKET;
	pgl_limit_table->first_free_ticket = pgl_tickets[t].next;
	pgl_tickets[t] = (PglTicket){.used = true,
								 .by_lock = terms->by_lock,
								 .for_window = terms->for_window,
								 .pid = MyProcPid,
								 .proc = pgl_my_proc_number(),
								 .sequence = terms->arrival > 0 ? terms->arrival
																: pgl_limit_table->next_sequence++,
								 .deadline_us = terms->deadline_us};
	link_ticket(t, limit);
	return t;
}

/* Leave the list of the present limit, and the lock if it was held. */
static void
leave_limit(int t)
{
	PglLimit *limit = &pgl_limits[pgl_tickets[t].limit];

	if (limit->lock_holder == t)
		limit->lock_holder = NONE;
	unlink_ticket(t);
}

bool
pgl_ticket_move(int t, int limit, const PglTicketTerms *terms)
{
	pgl_tickets[t].for_window = terms->for_window;
	if (pgl_tickets[t].limit != limit)
	{
		leave_limit(t);
		pgl_tickets[t].by_lock = terms->by_lock;
		link_ticket(t, limit);
	}
	return pgl_tickets[t].by_lock;
}

uint64_t
pgl_ticket_drop(int t)
{
	Assert(pgl_tickets[t].used && pgl_tickets[t].pid == MyProcPid);
	leave_limit(t);
	pgl_tickets[t].used = false;
	pgl_tickets[t].next = pgl_limit_table->first_free_ticket;
	pgl_limit_table->first_free_ticket = t;
	return pgl_tickets[t].sequence;
}

void
pgl_ticket_reached_lock(int t)
{
	int limit = pgl_tickets[t].limit;
	uint64_t mine = pgl_tickets[t].sequence;
	int other;

	pgl_limits[limit].lock_holder = t;
	for (other = pgl_limits[limit].first_ticket; other != t; other = pgl_tickets[other].next)
		if (pgl_tickets[other].by_lock)
			break;
	if (other == t)
		return;
	/* Swap the places of the two: re-link both under each other's number. */
	unlink_ticket(t);
	unlink_ticket(other);
	pgl_tickets[t].sequence = pgl_tickets[other].sequence;
	pgl_tickets[other].sequence = mine;
	link_ticket(t, limit);
	link_ticket(other, limit);
}

bool
pgl_ticket_was_woken(int t)
{
	bool woken = pgl_tickets[t].woken;

	pgl_tickets[t].woken = false;
	return woken;
}

void
pgl_ticket_drop_all_mine(void)
{
	int t;

	for (t = 0; t < pgl_guc_max_leases; t++)
		if (pgl_tickets[t].used && pgl_tickets[t].pid == MyProcPid)
			(void) pgl_ticket_drop(t);
}
