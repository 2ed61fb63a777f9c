/*
 * transfer.c — the life of a transfer: start, end, callback, release.
 *
 * A transfer is malloc'ed and RUNNING from the start, or WAITING while its origin has no room (see
 * origin.c).  It ENDs in exactly one way: libcurl is done with it, its deadline passes, or the
 * connection it counted on fails.  At that moment libcurl forgets what it was to send, and it joins
 * the list of those whose done callback is due; the callback is called at the end of the turn,
 * outside libcurl, so it may start new transfers.  The starter releases it in any state; one that
 * is still running is taken away from libcurl.
 *
 * What is released is kept IDLE with its libcurl handle, set up for its origin, and used for the
 * next transfer there: the one used last first, as it is still in the processor's caches.
 *
 * Deadlines are in a pairing heap: the first one costs nothing to find and a transfer that ends in
 * time costs no scan.  Only pgl_transfer_start throws, before anything is started.
 */
#include "postgres.h"

#include <stdlib.h>

#include "miscadmin.h"

#include "../core/clock.h"
#include "mux.h"
#include "origin.h"
#include "sockets.h"
#include "transfer.h"

/* As many as statements commonly have in flight; each has about 8 kB, less than its connection. */
#define MAX_IDLE 256

static int compare_deadlines(const pairingheap_node *a, const pairingheap_node *b, void *arg);

static pid_t owner_pid;
static dlist_head idle = DLIST_STATIC_INIT(idle); /* the one used last first */
static int nidle;
static int in_flight; /* waiting or running */
static pairingheap deadlines = {.ph_compare = compare_deadlines};
static dlist_head ended = DLIST_STATIC_INIT(ended);

/* A pairing heap has its largest element first; ours is the earliest deadline. */
static int
compare_deadlines(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const PglTransfer *ta = pairingheap_const_container(PglTransfer, deadline_node, a);
	const PglTransfer *tb = pairingheap_const_container(PglTransfer, deadline_node, b);

	if (ta->deadline_us == tb->deadline_us)
		return 0;
	return ta->deadline_us < tb->deadline_us ? 1 : -1;
}

/* What another process left behind after a fork is not ours to use. */
static void
forget_after_fork(void)
{
	if (owner_pid == MyProcPid)
		return;
	owner_pid = MyProcPid;
	dlist_init(&idle);
	nidle = 0;
	in_flight = 0;
	pairingheap_reset(&deadlines);
	dlist_init(&ended);
	pgl_origin_forget_all();
}

static void
destroy(PglTransfer *transfer)
{
	if (transfer->easy != NULL)
		curl_easy_cleanup(transfer->easy);
	pgl_buf_free(&transfer->reply.body);
	free(transfer);
}

/* Keep it for the origin's next transfer, rather than the one that has been idle for longest. */
static void
keep(PglTransfer *transfer)
{
	if (nidle == MAX_IDLE)
	{
		PglTransfer *oldest = dlist_tail_element(PglTransfer, ended_node, &idle);

		dlist_delete(&oldest->ended_node);
		nidle--;
		destroy(oldest);
	}
	pgl_buf_recycle(&transfer->reply.body, transfer->reply.body.max);
	transfer->state = PGL_TRANSFER_IDLE;
	dlist_push_head(&idle, &transfer->ended_node);
	nidle++;
}

/* NULL: none is idle. */
static PglTransfer *
take_idle(const PglOrigin *origin)
{
	dlist_iter i;

	dlist_foreach (i, &idle)
	{
		PglTransfer *transfer = dlist_container(PglTransfer, ended_node, i.cur);

		if (transfer->origin != origin)
			continue;
		dlist_delete(&transfer->ended_node);
		nidle--;
		return transfer;
	}
	return NULL;
}

/* A transfer with a handle that is set up for the origin.  NULL, with the reason, on failure. */
static PglTransfer *
make_transfer(PglOrigin *origin, const PglHttpRequest *request, CURLcode *code)
{
	PglTransfer *transfer = calloc(1, sizeof(PglTransfer));

	*code = CURLE_OUT_OF_MEMORY;
	if (transfer == NULL)
		return NULL;
	transfer->origin = origin;
	transfer->easy = curl_easy_init();
	if (transfer->easy != NULL)
		*code = pgl_request_prepare(transfer, request);
	if (*code == CURLE_OK)
		return transfer;
	destroy(transfer);
	return NULL;
}

/* As if new, but for what stays from use to use. */
static void
renew(PglTransfer *transfer, size_t max_body)
{
	PglOrigin *origin = transfer->origin;
	CURL *easy = transfer->easy;
	PglBuf body = transfer->reply.body;

	memset(transfer, 0, sizeof(*transfer));
	transfer->origin = origin;
	transfer->easy = easy;
	pgl_buf_recycle(&body, max_body);
	transfer->reply.body = body;
}

/* libcurl may have closed sockets of unfinished connects without telling: see sockets.c. */
static void
reconcile_sockets(const PglTransfer *transfer)
{
	int i;

	for (i = 0; i < Min(transfer->sockets_opened, PGL_TRANSFER_SOCKETS); i++)
		pgl_socket_reconcile(transfer->sockets[i]);
}

/*
 * End of waiting or running: off the books.  Only handles whose exchange came to its end are used
 * again; one that failed, or was torn out of its work, is not trusted.
 */
static void
detach(PglTransfer *transfer, bool keep_handle)
{
	if (transfer->state == PGL_TRANSFER_RUNNING)
		pgl_mux_remove(transfer->easy);
	pgl_origin_leave(transfer);
	pairingheap_remove(&deadlines, &transfer->deadline_node);
	in_flight--;
	if (keep_handle)
		pgl_request_unset(transfer);
	else
	{
		curl_easy_cleanup(transfer->easy);
		transfer->easy = NULL;
	}
	reconcile_sockets(transfer);
}

/* Hand it to libcurl now, or let it wait for room at its origin.  False: libcurl has no memory. */
static bool
start_if_room(PglTransfer *transfer)
{
	transfer->state = PGL_TRANSFER_WAITING;
	if (!pgl_origin_has_room(transfer->origin))
		return true;
	transfer->state = PGL_TRANSFER_RUNNING;
	return pgl_mux_add(transfer->easy);
}

/*
 * A transfer ready to start, and started if its origin has room; not yet on our books.  NULL, with
 * the reason, on failure.
 */
static PglTransfer *
prepare(const PglHttpRequest *request, PglTransferDone done, void *arg, CURLcode *code)
{
	PglOrigin *origin = pgl_origin_find(request);
	PglTransfer *transfer = origin != NULL ? take_idle(origin) : NULL;

	*code = CURLE_OUT_OF_MEMORY;
	if (transfer == NULL && origin != NULL)
		transfer = make_transfer(origin, request, code);
	if (transfer == NULL)
		return NULL;
	renew(transfer, request->max_reply_bytes);
	transfer->done = done;
	transfer->arg = arg;
	transfer->scope = request->scope;
	transfer->started_us = pgl_clock_us();
	transfer->deadline_us = request->deadline_us;
	*code = pgl_request_set(transfer, request);
	if (*code == CURLE_OK && !start_if_room(transfer))
		*code = CURLE_OUT_OF_MEMORY;
	if (*code == CURLE_OK)
		return transfer;
	destroy(transfer);
	return NULL;
}

PglTransfer *
pgl_transfer_start(const PglHttpRequest *request, PglTransferDone done, void *arg)
{
	PglTransfer *transfer;
	CURLcode code;

	forget_after_fork();
	pgl_mux_ensure();
	if (!pgl_request_is_well_formed(request))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("HTTP header contains a line break, or there are too many")));
	transfer = prepare(request, done, arg, &code);
	if (transfer == NULL)
		ereport(ERROR, (errcode(code == CURLE_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY
															: ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("could not prepare an HTTP request: %s", curl_easy_strerror(code))));
	pgl_origin_enter(transfer);
	pairingheap_add(&deadlines, &transfer->deadline_node);
	in_flight++;
	return transfer;
}

/* The reply is filled in: hand the handle back and queue the done callback. */
static void
end(PglTransfer *transfer, bool keep_handle)
{
	detach(transfer, keep_handle);
	transfer->state = PGL_TRANSFER_ENDED;
	dlist_push_tail(&ended, &transfer->ended_node);
}

void
pgl_transfer_admit(void)
{
	PglTransfer *transfer;

	while ((transfer = pgl_origin_next_admissible()) != NULL)
	{
		if (!pgl_mux_add(transfer->easy))
		{
			pgl_reply_finish_refused(transfer);
			end(transfer, false);
			continue;
		}
		pgl_origin_leave(transfer);
		transfer->state = PGL_TRANSFER_RUNNING;
		pgl_origin_enter(transfer);
	}
}

/* It failed before its request went out; those that counted on its connection fail with it. */
static void
end_stranded(const PglTransfer *failed)
{
	PglTransfer *transfer;

	if (failed->request_sent ||
		(failed->reply.error != PGL_NET_DNS && failed->reply.error != PGL_NET_CONNECT &&
		 failed->reply.error != PGL_NET_TLS))
		return;
	while ((transfer = pgl_origin_next_stranded(failed->origin)) != NULL)
	{
		pgl_reply_finish_like(transfer, failed);
		end(transfer, false);
	}
}

void
pgl_transfer_collect(void)
{
	CURL *easy;
	CURLcode code;

	while ((easy = pgl_mux_next_ended(&code)) != NULL)
	{
		char *owner = NULL;
		PglTransfer *transfer;

		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
		transfer = (PglTransfer *) owner;
		pgl_reply_finish(transfer, code);
		end(transfer, code == CURLE_OK);
		end_stranded(transfer);
	}
}

void
pgl_transfer_expire(void)
{
	int64_t now_us;

	if (pairingheap_is_empty(&deadlines))
		return;
	now_us = pgl_clock_us();
	while (pgl_transfer_next_wake_us() <= now_us)
	{
		PglTransfer *transfer =
			pairingheap_container(PglTransfer, deadline_node, pairingheap_first(&deadlines));

		pgl_reply_finish_expired(transfer);
		end(transfer, false);
	}
}

/*
 * Call the done callbacks of those that have ended by now.  Each transfer is taken off the list
 * first and not touched afterwards, whatever its callback does to it.
 */
void
pgl_transfer_call_back(void)
{
	while (!dlist_is_empty(&ended))
	{
		PglTransfer *transfer =
			dlist_container(PglTransfer, ended_node, dlist_pop_head_node(&ended));

		transfer->state = PGL_TRANSFER_DONE;
		if (transfer->done != NULL)
			transfer->done(transfer, transfer->arg);
	}
}

void
pgl_transfer_release(PglTransfer *transfer)
{
	switch (transfer->state)
	{
		case PGL_TRANSFER_WAITING:
		case PGL_TRANSFER_RUNNING:
			detach(transfer, false);
			break;
		case PGL_TRANSFER_ENDED:
			dlist_delete(&transfer->ended_node);
			break;
		case PGL_TRANSFER_DONE:
		case PGL_TRANSFER_IDLE:
			break;
	}
	if (transfer->easy != NULL)
		keep(transfer);
	else
		destroy(transfer);
}

int64_t
pgl_transfer_next_wake_us(void)
{
	if (pairingheap_is_empty(&deadlines))
		return INT64_MAX;
	return pairingheap_container(PglTransfer, deadline_node, pairingheap_first(&deadlines))
		->deadline_us;
}

int
pgl_transfer_in_flight(void)
{
	return in_flight;
}
