/*
 * net.c — the public face of the network loop; see net.h for the contract.
 *
 * A turn has a fixed order: admit what has room, wait, serve interrupts, let libcurl work, collect
 * what ended, end what is overdue, call back.  Only waiting and interrupts throw, and at that point
 * nothing is half done: a query that is cancelled leaves every transfer intact for its starter to
 * release.
 *
 *     pgl_net_turn ─┬─> mux.c       multi handle, epoll, timer, latch
 *                   └─> transfer.c  start, end, call back
 *                         ├─> origin.c   who may connect now
 *                         ├─> request.c  options  ──> sockets.c  descriptors
 *                         └─> reply.c    what came back
 */
#include "postgres.h"

#include "../core/clock.h"
#include "mux.h"
#include "origin.h"
#include "transfer.h"

PglTransfer *
pgl_net_start(const PglHttpRequest *request, PglTransferDone done, void *arg)
{
	return pgl_transfer_start(request, done, arg);
}

const PglHttpReply *
pgl_net_reply(const PglTransfer *transfer)
{
	return &transfer->reply;
}

void
pgl_net_release(PglTransfer *transfer)
{
	pgl_transfer_release(transfer);
}

void
pgl_net_postpone(PglTransfer *transfer, int64_t us)
{
	transfer->deadline_us += us;
}

void
pgl_net_turn(int64_t until_us, uint32_t wait_event)
{
	pgl_transfer_admit();
	pgl_mux_wait(Min(until_us, pgl_transfer_next_wake_us()), wait_event);
	pgl_mux_dispatch();
	pgl_transfer_collect();
	pgl_transfer_expire();
	pgl_transfer_call_back();
}

int
pgl_net_in_flight(void)
{
	return pgl_transfer_in_flight();
}
