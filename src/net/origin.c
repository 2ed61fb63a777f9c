/*
 * origin.c — transfers by the server they go to, until their request is on its way.
 *
 * With HTTP/2 a thousand calls fit on a few connections, but libcurl looks for a place at the
 * moment a transfer starts: a thousand that start together fill the first connection (servers
 * commonly allow 128 streams) and open one more each for the rest, with a handshake every time.  So
 * at most MAX_CONNECTING transfers of an origin look for a place at once; the others wait here, in
 * order of arrival, and by the time they are admitted there are connections with free streams.
 *
 * Transfers that wait for another one's connection would also wait for its failure, then connect in
 * turn and fail one after the other, each after its own timeout.  When an origin cannot be reached
 * and nothing else runs on it, all that depended on that attempt are "stranded" and fail with it.
 *
 * An origin is a scheme, host and port together with what decides whether they may be connected to:
 * scope and CA file.  Origins are malloc'ed and kept in a short list for the life of the backend;
 * they point to transfers but do not own them.
 */
#include "postgres.h"

#include <stdlib.h>
#include <string.h>

#include "origin.h"

#define MAX_CONNECTING 32

struct PglOrigin
{
	PglOrigin *next;
	bool is_staged;        /* HTTP/2 is possible: connect a few at a time */
	dlist_head waiting;    /* not yet known to libcurl */
	dlist_head connecting; /* known to libcurl, request not sent yet */
	int nwaiting;
	int nconnecting;
	int nactive; /* request sent */
	PglNetScope scope;
	char *ca_file;
	size_t url_len;
	char url[FLEXIBLE_ARRAY_MEMBER]; /* scheme://host:port, then the CA file */
};

static PglOrigin *origins;
static int total_waiting;

/* Length of "scheme://host:port". */
static size_t
origin_length(const char *url)
{
	const char *host = strstr(url, "://");

	return host == NULL ? strlen(url) : (host + 3 - url) + strcspn(host + 3, "/?#");
}

static PglOrigin *
make_origin(const PglHttpRequest *request, const char *ca_file, size_t url_len)
{
	size_t ca_size = strlen(ca_file) + 1;
	PglOrigin *origin = calloc(1, offsetof(PglOrigin, url) + url_len + 1 + ca_size);

	if (origin == NULL)
		return NULL;
	origin->is_staged = pgl_request_may_use_http2(request->url);
	dlist_init(&origin->waiting);
	dlist_init(&origin->connecting);
	origin->scope = request->scope;
	origin->url_len = url_len;
	memcpy(origin->url, request->url, url_len);
	origin->ca_file = origin->url + url_len + 1;
	memcpy(origin->ca_file, ca_file, ca_size);
	origin->next = origins;
	origins = origin;
	return origin;
}

PglOrigin *
pgl_origin_find(const PglHttpRequest *request)
{
	const char *ca_file = request->ca_file != NULL ? request->ca_file : "";
	size_t url_len = origin_length(request->url);
	PglOrigin *origin;

	for (origin = origins; origin != NULL; origin = origin->next)
	{
		if (origin->scope == request->scope && origin->url_len == url_len &&
			memcmp(origin->url, request->url, url_len) == 0 &&
			strcmp(origin->ca_file, ca_file) == 0)
			return origin;
	}
	return make_origin(request, ca_file, url_len);
}

/* May one more transfer look for a connection?  Those that wait already come first. */
bool
pgl_origin_has_room(const PglOrigin *origin)
{
	return !origin->is_staged || (origin->nwaiting == 0 && origin->nconnecting < MAX_CONNECTING);
}

void
pgl_origin_enter(PglTransfer *transfer)
{
	PglOrigin *origin = transfer->origin;

	if (transfer->state == PGL_TRANSFER_WAITING)
	{
		dlist_push_tail(&origin->waiting, &transfer->origin_node);
		origin->nwaiting++;
		total_waiting++;
	}
	else
	{
		dlist_push_tail(&origin->connecting, &transfer->origin_node);
		origin->nconnecting++;
	}
}

/* The request goes out. */
void
pgl_origin_note_connected(PglTransfer *transfer)
{
	pgl_origin_leave(transfer);
	transfer->request_sent = true;
	transfer->origin->nactive++;
}

void
pgl_origin_leave(PglTransfer *transfer)
{
	PglOrigin *origin = transfer->origin;

	if (transfer->request_sent)
	{
		origin->nactive--;
		return;
	}
	dlist_delete(&transfer->origin_node);
	if (transfer->state == PGL_TRANSFER_WAITING)
	{
		origin->nwaiting--;
		total_waiting--;
	}
	else
		origin->nconnecting--;
}

/* The first in line of an origin that has room. */
PglTransfer *
pgl_origin_next_admissible(void)
{
	PglOrigin *origin;

	if (total_waiting == 0)
		return NULL;
	for (origin = origins; origin != NULL; origin = origin->next)
	{
		if (origin->nwaiting > 0 && origin->nconnecting < MAX_CONNECTING)
			return dlist_head_element(PglTransfer, origin_node, &origin->waiting);
	}
	return NULL;
}

/*
 * After a failed attempt to connect: the next transfer that has no attempt of its own.  None while
 * requests run on the origin, since it can be reached then.
 */
PglTransfer *
pgl_origin_next_stranded(const PglOrigin *origin)
{
	dlist_iter i;

	if (origin->nactive > 0)
		return NULL;
	dlist_foreach (i, (dlist_head *) &origin->connecting)
	{
		PglTransfer *transfer = dlist_container(PglTransfer, origin_node, i.cur);

		if (transfer->sockets_opened == 0)
			return transfer;
	}
	if (origin->nwaiting == 0)
		return NULL;
	return dlist_container(PglTransfer, origin_node, origin->waiting.head.next);
}

void
pgl_origin_forget_all(void)
{
	origins = NULL;
	total_waiting = 0;
}
