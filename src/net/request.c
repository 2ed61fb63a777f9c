/*
 * request.c — a PglHttpRequest as options of a libcurl handle.
 *
 * A handle is made for one origin and stays with it.  What all requests to an origin have in common
 * is set once, `prepare`; whatever may differ between two of them is set for every request, `set`,
 * and pointers into the caller's memory are taken back when it ends, `unset`: nothing of one
 * request can leak into the next.  The choices that protect the database are all here: only https
 * (http for loopback), no redirects, no proxy, netrc or cookies, TLS always verified, and the
 * address policy.
 *
 * The policy is asked twice.  When a socket is opened, about the resolved address it will connect
 * to; and when the request is about to go out, about the address of the connection it goes out on,
 * which may be a kept one that a shard with wider rights opened.
 *
 * Ownership: URL and CA file are copied by libcurl; header lines, which may hold secrets, and the
 * body belong to the caller, who wipes and frees them.  Nothing throws; callbacks do not palloc.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "mux.h"
#include "origin.h"
#include "sockets.h"
#include "transfer.h"

#define DNS_CACHE_S 300L
#define MAX_IDLE_S 55L        /* servers close idle connections after 60 s and more */
#define MAX_LIFETIME_S 1800L  /* moved endpoints and revoked certificates are noticed */
#define SAFETY_NET_MS 3600000 /* libcurl's own timeout: it does not know of deadlines put off */

/* The empty Expect: keeps large bodies from waiting for "100 Continue". */
static const char *const own_headers[] = {"Expect:", "User-Agent: pgllm/0.1"};

#define OWN_HEADERS ((int) lengthof(own_headers))

/*
 * HTTP/2 over TLS: a thousand calls share one connection, hence one handshake and one descriptor.
 * With connections that are warm already HTTP/1.1 costs a quarter less CPU, but opening a thousand
 * of them takes seconds.  Plain http has no negotiation and stays with HTTP/1.1.
 */
bool
pgl_request_may_use_http2(const char *url)
{
	return pg_strncasecmp(url, "https:", 6) == 0 && pgl_mux_has_http2();
}

/* --- callbacks: no throw, no palloc --- */

/*
 * Remember which sockets this transfer opened.  There are at most a few attempts at a time, so the
 * one that makes room is closed by now or the connection itself.
 */
static void
note_socket(PglTransfer *transfer, int fd)
{
	int *place = &transfer->sockets[transfer->sockets_opened % PGL_TRANSFER_SOCKETS];

	if (transfer->sockets_opened >= PGL_TRANSFER_SOCKETS)
		pgl_socket_reconcile(*place);
	*place = fd;
	transfer->sockets_opened++;
}

/* CURLOPT_OPENSOCKETFUNCTION */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	PglTransfer *transfer = arg;
	int fd;

	if (!pgl_hostpolicy_allows(&address->addr, transfer->scope))
	{
		transfer->address_denied = true;
		return CURL_SOCKET_BAD;
	}
	fd = pgl_socket_open(address->family, address->socktype, address->protocol);
	if (fd < 0)
	{
		/* A host without IPv6 is not short of descriptors. */
		if (errno != EAFNOSUPPORT)
			transfer->no_descriptor = true;
		return CURL_SOCKET_BAD;
	}
	note_socket(transfer, fd);
	return fd;
}

/* Does the policy of this scope allow the numeric address? */
static bool
is_address_allowed(const char *address, PglNetScope scope)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		return pgl_hostpolicy_allows((struct sockaddr *) &v4, scope);
	if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1)
		return pgl_hostpolicy_allows((struct sockaddr *) &v6, scope);
	return false;
}

/* CURLOPT_PREREQFUNCTION: the connection stands, the request goes out next. */
static int
check_connection(void *arg, char *peer_address, char *own_address, int peer_port, int own_port)
{
	PglTransfer *transfer = arg;

	if (!is_address_allowed(peer_address, transfer->scope))
	{
		transfer->address_denied = true;
		return CURL_PREREQFUNC_ABORT;
	}
	if (transfer->request_sent)
	{
		/* libcurl would repeat the request on another connection; it may have been served, and
		 * billed. */
		transfer->repeat_denied = true;
		return CURL_PREREQFUNC_ABORT;
	}
	pgl_origin_note_connected(transfer);
	return CURL_PREREQFUNC_OK;
}

/* --- header lines --- */

/* No line break can be smuggled into the request through a header value. */
bool
pgl_request_is_well_formed(const PglHttpRequest *request)
{
	int i;

	if (request->nheaders > PGL_TRANSFER_HEADERS - OWN_HEADERS)
		return false;
	for (i = 0; i < request->nheaders; i++)
	{
		if (strpbrk(request->headers[i], "\r\n") != NULL)
			return false;
	}
	return true;
}

/* Chain the lines after those of our own.  libcurl only reads them. */
static void
chain_headers(PglTransfer *transfer, const PglHttpRequest *request)
{
	struct curl_slist *line = transfer->headers;
	int i;

	for (i = 0; i < OWN_HEADERS + request->nheaders; i++, line++)
	{
		line->data =
			(char *) (i < OWN_HEADERS ? own_headers[i] : request->headers[i - OWN_HEADERS]);
		line->next = line + 1;
	}
	line[-1].next = NULL;
}

/* --- options --- */

/* The first failure is kept; later options are skipped. */
#define SET(option, value)                                \
	do                                                    \
	{                                                     \
		if (code == CURLE_OK)                             \
			code = curl_easy_setopt(easy, option, value); \
	} while (0)

/* What is sent by this request, and for how long. */
CURLcode
pgl_request_set(PglTransfer *transfer, const PglHttpRequest *request)
{
	CURL *easy = transfer->easy;
	CURLcode code = CURLE_OK;
	int64_t left_ms = (transfer->deadline_us - transfer->started_us) / 1000;

	chain_headers(transfer, request);
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	SET(CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) Min(request->max_reply_bytes, INT64_MAX));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout_ms);
	left_ms = Min(Max(left_ms, 0), INT_MAX - SAFETY_NET_MS);
	SET(CURLOPT_TIMEOUT_MS, (long) (left_ms + SAFETY_NET_MS));
	return code;
}

/* libcurl is done with it: nothing points to the caller's memory any more. */
void
pgl_request_unset(PglTransfer *transfer)
{
	(void) curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, NULL);
	(void) curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, "");
}

/* How requests are sent and where replies go. */
static CURLcode
set_exchange(CURL *easy, PglTransfer *transfer)
{
	CURLcode code = CURLE_OK;

	SET(CURLOPT_PATH_AS_IS, 1L); /* the path is signed: not a byte may change */
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_HEADERFUNCTION, pgl_reply_take_header);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_WRITEFUNCTION, pgl_reply_take_body);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->reply.error_text);
	SET(CURLOPT_PRIVATE, transfer);
	return code;
}

/* What may be connected to, and how it must prove itself. */
static CURLcode
set_protection(CURL *easy, PglTransfer *transfer, const PglHttpRequest *request)
{
	CURLcode code = CURLE_OK;
	bool has_ca_file = request->ca_file != NULL && request->ca_file[0] != '\0';

	SET(CURLOPT_PROTOCOLS_STR, request->scope == PGL_NET_LOOPBACK ? "https,http" : "https");
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_CLOSESOCKETFUNCTION, pgl_socket_close);
	SET(CURLOPT_PREREQFUNCTION, check_connection);
	SET(CURLOPT_PREREQDATA, transfer);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, ""); /* also none from the environment */
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (has_ca_file)
		SET(CURLOPT_CAINFO, request->ca_file);
	/* With a CA directory libcurl parses the bundle again for every connection: 45 ms each. */
	if (has_ca_file || pgl_mux_has_builtin_ca_file())
		SET(CURLOPT_CAPATH, NULL);
	return code;
}

/* How the connection behaves. */
static CURLcode
set_transport(CURL *easy, const PglHttpRequest *request)
{
	CURLcode code = CURLE_OK;
	bool may_use_http2 = pgl_request_may_use_http2(request->url);

	SET(CURLOPT_NOSIGNAL, 1L);   /* SIGALRM belongs to PostgreSQL */
	SET(CURLOPT_QUICK_EXIT, 1L); /* a cancel does not wait for the name server */
	SET(CURLOPT_HTTP_VERSION,
		(long) (may_use_http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	SET(CURLOPT_PIPEWAIT, may_use_http2 ? 1L : 0L); /* rather a stream than a connection */
	SET(CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_S);
	SET(CURLOPT_MAXLIFETIME_CONN, MAX_LIFETIME_S);
	return code;
}

#undef SET

/* Set what all requests to the origin of `request` have in common, on transfer->easy, which is new.
 */
CURLcode
pgl_request_prepare(PglTransfer *transfer, const PglHttpRequest *request)
{
	CURL *easy = transfer->easy;
	CURLcode code = set_exchange(easy, transfer);

	if (code == CURLE_OK)
		code = set_protection(easy, transfer, request);
	if (code == CURLE_OK)
		code = set_transport(easy, request);
	return code;
}
