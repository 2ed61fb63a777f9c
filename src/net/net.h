/*
 * net.h — the network loop of a backend: HTTP transfers in flight, and the one place where we wait.
 *
 * One libcurl multi handle per backend, made at first use and kept for the backend's life with its
 * connections and TLS sessions.  libcurl's sockets live in our own epoll instance; the backend
 * waits only for that descriptor and its latch, so every interrupt PostgreSQL knows is served at
 * once.
 *
 * Ownership: a transfer belongs to its starter, who must call pgl_net_release exactly once, at any
 * time but not from inside the done callback; releasing a running transfer cancels it.  Transfers
 * are malloc'ed, because a failed query's memory is freed before its resources are released.
 * Nothing here throws from inside a libcurl callback; pgl_net_turn throws what
 * CHECK_FOR_INTERRUPTS throws.
 */
#ifndef PGL_NET_NET_H
#define PGL_NET_NET_H

#include <stdint.h>

#include "../core/buf.h"
#include "../core/hostpolicy.h"

typedef struct PglTransfer PglTransfer;

/* What went wrong below HTTP.  Anything but PGL_NET_OK means: no usable status. */
typedef enum PglNetError
{
	PGL_NET_OK = 0,
	PGL_NET_DNS,       /* the name does not resolve, or not within the connect timeout */
	PGL_NET_CONNECT,   /* refused, unreachable, or not within the connect timeout */
	PGL_NET_TLS,       /* handshake or certificate */
	PGL_NET_TIMEOUT,   /* the deadline passed */
	PGL_NET_RESET,     /* closed or reset before the first byte of the reply */
	PGL_NET_TRUNCATED, /* closed or reset inside the reply */
	PGL_NET_TOO_LARGE, /* reply or headers over the cap */
	PGL_NET_POLICY,    /* the address or scheme is not allowed for this shard */
	PGL_NET_RESOURCES, /* out of memory or descriptors */
	PGL_NET_OTHER
} PglNetError;

/* URL and CA file are copied; headers and body must stay valid until the transfer ends. */
typedef struct PglHttpRequest
{
	const char *url;            /* POST goes here */
	const char *const *headers; /* "Name: value" lines */
	int nheaders;
	const char *body;
	size_t body_len;
	PglNetScope scope;
	int64_t deadline_us;    /* on the clock of core/clock.h */
	int connect_timeout_ms; /* 0: libcurl's default */
	size_t max_reply_bytes; /* cap on the decoded body */
	const char *ca_file;    /* NULL or "": the system's bundle */
} PglHttpRequest;

typedef struct PglHttpReply
{
	PglNetError error;
	char error_text[256]; /* libcurl's words; never holds a header or a body */
	int status;
	char content_type[64];
	char request_id[64];     /* x-amzn-requestid or request-id or x-request-id */
	char error_type[128];    /* x-amzn-errortype */
	char retry_after[64];    /* retry-after */
	char retry_after_ms[32]; /* x-amz-retry-after */
	PglBuf body;
	bool got_bytes;     /* any byte of a reply arrived */
	bool reused;        /* over a connection that another transfer opened */
	int64_t dns_us;     /* phases, each from the start of the transfer */
	int64_t connect_us; /* TCP and TLS done */
	int64_t first_byte_us;
	int64_t total_us;
} PglHttpReply;

typedef void (*PglTransferDone)(PglTransfer *transfer, void *arg); /* must not throw */

/*
 * Start a transfer.  Throws only before anything is started: out of memory or descriptors in
 * libcurl's set-up, an unsuitable libcurl, a line break inside a header.
 */
extern PglTransfer *pgl_net_start(const PglHttpRequest *request, PglTransferDone done, void *arg);
extern const PglHttpReply *pgl_net_reply(const PglTransfer *transfer); /* valid once done */
extern void pgl_net_release(PglTransfer *transfer);
/* Later by so much; to be done with all transfers alike, as they are kept in order of deadlines. */
extern void pgl_net_postpone(PglTransfer *transfer, int64_t us);
/*
 * One turn of the loop: wait until a socket is ready, a transfer's own timer fires, the latch is
 * set or `until_us` is reached; serve interrupts; move transfers; call done callbacks.
 */
extern void pgl_net_turn(int64_t until_us, uint32_t wait_event);
extern int pgl_net_in_flight(void);

#endif
