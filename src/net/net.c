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

static bool forget_when_idle;

/*
 * libcurl closes idle connections only with the multi handle, so that goes, once nothing runs on
 * it.  Until then nothing unsafe is kept: connections with another CA file are not shared, and the
 * address of a kept one is checked before each request.
 */
static void
close_if_idle(void)
{
	if (!forget_when_idle || pgl_transfer_in_flight() > 0)
		return;
	forget_when_idle = false;
	pgl_mux_close();
	pgl_origin_free_idle();
}

PglTransfer *
pgl_net_start(const PglHttpRequest *request, PglTransferDone done, void *arg)
{
	close_if_idle();
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
pgl_net_turn(int64_t until_us, uint32_t wait_event)
{
	pgl_transfer_admit();
	pgl_mux_wait(Min(until_us, pgl_transfer_next_wake_us()), wait_event);
	pgl_mux_dispatch();
	pgl_transfer_collect();
	pgl_transfer_expire();
	pgl_transfer_call_back();
	close_if_idle();
}

int
pgl_net_in_flight(void)
{
	return pgl_transfer_in_flight();
}

void
pgl_net_forget_connections(void)
{
	forget_when_idle = true;
	close_if_idle();
}
