/*
 * transfer.h — one HTTP exchange inside src/net.
 *
 * transfer.c owns its life: made, running, ended, freed.  origin.c groups transfers by server until
 * their requests are on their way.  request.c turns a PglHttpRequest into
 * options of a libcurl handle; reply.c receives what comes back and names what went wrong.  net.c
 * offers it all as net.h.  Everything is malloc'ed; nothing here throws unless it says so.
 */
#ifndef PGL_NET_TRANSFER_H
#define PGL_NET_TRANSFER_H

#include <curl/curl.h>

#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "net.h"

typedef struct PglOrigin PglOrigin;

typedef enum PglTransferState
{
	PGL_TRANSFER_WAITING, /* ready to start, when its origin has room */
	PGL_TRANSFER_RUNNING, /* libcurl has it */
	PGL_TRANSFER_ENDED,   /* reply complete, done callback still to be called */
	PGL_TRANSFER_DONE,    /* done callback called (or about to return) */
	PGL_TRANSFER_IDLE     /* released, kept for another exchange with its origin */
} PglTransferState;

#define PGL_TRANSFER_SOCKETS 4
#define PGL_TRANSFER_HEADERS 24

/*
 * Transfers are used again, for the same origin: making a handle of libcurl's and setting its
 * options costs as much as sending a request.
 */
struct PglTransfer
{
	/* What stays from use to use; so does the memory of reply.body. */
	PglOrigin *origin;
	CURL *easy; /* NULL: not to be used again */

	PglTransferState state;
	struct curl_slist headers[PGL_TRANSFER_HEADERS]; /* lines of the caller's, for libcurl */
	dlist_node origin_node;                          /* while it has not sent its request */
	PglTransferDone done;
	void *arg;
	PglHttpReply reply;
	PglNetScope scope;
	int64_t started_us;
	int64_t deadline_us;
	pairingheap_node deadline_node;
	dlist_node ended_node; /* among those that ended, or the idle ones */

	/* What the callbacks saw; reply.c turns it into reply.error. */
	size_t header_bytes;
	int header_lines;
	int sockets_opened;
	int sockets[PGL_TRANSFER_SOCKETS]; /* the last of them */
	bool request_sent;                 /* a connection stood and the request went out on it */
	bool address_denied;               /* by the policy of the scope */
	bool repeat_denied; /* closed without a reply; another try is the caller's decision */
	bool no_descriptor;
	bool too_large;
	bool out_of_memory;
};

/* transfer.c */
extern PglTransfer *pgl_transfer_start(const PglHttpRequest *request, PglTransferDone done,
									   void *arg); /* throws before anything is started */
extern void pgl_transfer_release(PglTransfer *transfer);
extern void pgl_transfer_admit(void);           /* those whose origin has room now */
extern void pgl_transfer_collect(void);         /* those libcurl is done with */
extern void pgl_transfer_expire(void);          /* those whose deadline has passed */
extern void pgl_transfer_call_back(void);       /* done callbacks of all that ended */
extern int64_t pgl_transfer_next_wake_us(void); /* first deadline, or INT64_MAX */
extern int pgl_transfer_in_flight(void);

/* request.c */
extern CURLcode pgl_request_prepare(PglTransfer *transfer, const PglHttpRequest *request);
extern CURLcode pgl_request_set(PglTransfer *transfer, const PglHttpRequest *request);
extern void pgl_request_unset(PglTransfer *transfer);
extern bool pgl_request_may_use_http2(const char *url);
extern bool pgl_request_is_well_formed(const PglHttpRequest *request);

/* reply.c: callbacks of libcurl (no throw, no palloc) and the verdict */
extern size_t pgl_reply_take_header(char *data, size_t size, size_t count, void *transfer);
extern size_t pgl_reply_take_body(char *data, size_t size, size_t count, void *transfer);
extern void pgl_reply_finish(PglTransfer *transfer, CURLcode code);
extern void pgl_reply_finish_expired(PglTransfer *transfer);
extern void pgl_reply_finish_like(PglTransfer *transfer, const PglTransfer *failed);
extern void pgl_reply_finish_refused(PglTransfer *transfer);

#endif
