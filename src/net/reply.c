/*
 * reply.c — what comes back: header lines, body bytes, and the name of what went wrong.
 *
 * The two callbacks run inside libcurl, so they neither throw nor palloc: a longjmp out of a
 * callback would leave the multi handle unusable for ever.  Whatever they dislike is noted in the
 * transfer and a short count is returned; libcurl then ends the transfer and `classify` finds the
 * note.  Both are capped: the body by the request, the headers by the constants below.
 *
 * Texts taken from the peer are reduced to printable ASCII here, so that callers may put them into
 * a message whatever the encoding of the database.
 */
#include "postgres.h"

#include <string.h>

#include "../core/clock.h"
#include "transfer.h"

#define MAX_HEADER_BYTES (64 * 1024)
#define MAX_HEADER_LINES 200

StaticAssertDecl(sizeof(((PglHttpReply *) 0)->error_text) >= CURL_ERROR_SIZE,
				 "libcurl writes its words into error_text");

/* Where the value of a header goes. */
typedef struct HeaderField
{
	const char *name;
	bool is_best; /* replaces a value that is there already; others yield to it */
	size_t offset;
	size_t size;
} HeaderField;

#define PLACE(member) offsetof(PglHttpReply, member), sizeof(((PglHttpReply *) 0)->member)

static const HeaderField header_fields[] = {
	{"content-type", false, PLACE(content_type)},
	{"x-amzn-requestid", true, PLACE(request_id)},
	{"request-id", false, PLACE(request_id)},
	{"x-request-id", false, PLACE(request_id)},
	{"x-amzn-errortype", false, PLACE(error_type)},
	{"retry-after", false, PLACE(retry_after)},
	{"x-amz-retry-after", false, PLACE(retry_after_ms)},
};

/* The first byte of a reply has arrived. */
static void
note_first_byte(PglTransfer *transfer)
{
	if (transfer->reply.got_bytes)
		return;
	transfer->reply.got_bytes = true;
	transfer->reply.first_byte_us = pgl_clock_us() - transfer->started_us;
}

/* A status line starts over: an interim reply (1xx) came before the final one. */
static void
forget_headers(PglHttpReply *reply)
{
	size_t i;

	for (i = 0; i < lengthof(header_fields); i++)
		*((char *) reply + header_fields[i].offset) = '\0';
}

/* Copy len bytes, cut to the size of the field, as printable ASCII. */
static void
copy_printable(char *to, size_t size, const char *from, size_t len)
{
	size_t i;

	len = Min(len, size - 1);
	for (i = 0; i < len; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
	to[len] = '\0';
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Keep the value of "name: value" if it is one of ours. */
static void
keep_header(PglHttpReply *reply, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	const char *end = line + len;
	const char *value;
	size_t name_len;
	size_t i;

	if (colon == NULL)
		return;
	name_len = colon - line;
	for (value = colon + 1; value < end && is_blank(*value); value++)
		;
	for (; end > value && is_blank(end[-1]); end--)
		;
	for (i = 0; i < lengthof(header_fields); i++)
	{
		const HeaderField *field = &header_fields[i];

		if (strlen(field->name) == name_len && pg_strncasecmp(field->name, line, name_len) == 0)
		{
			char *to = (char *) reply + field->offset;

			if (*to == '\0' || field->is_best)
				copy_printable(to, field->size, value, end - value);
			return;
		}
	}
}

/* CURLOPT_HEADERFUNCTION: one line, without a terminating NUL.  No throw, no palloc. */
size_t
pgl_reply_take_header(char *data, size_t size, size_t count, void *arg)
{
	PglTransfer *transfer = arg;
	size_t len = size * count;

	note_first_byte(transfer);
	transfer->header_bytes += len;
	transfer->header_lines++;
	if (transfer->header_bytes > MAX_HEADER_BYTES || transfer->header_lines > MAX_HEADER_LINES)
	{
		transfer->too_large = true;
		return 0;
	}
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
		forget_headers(&transfer->reply);
	else
		keep_header(&transfer->reply, data, len);
	return len;
}

/* CURLOPT_WRITEFUNCTION: decoded body bytes.  No throw, no palloc. */
size_t
pgl_reply_take_body(char *data, size_t size, size_t count, void *arg)
{
	PglTransfer *transfer = arg;
	PglBuf *body = &transfer->reply.body;
	size_t len = size * count;

	note_first_byte(transfer);
	if (pgl_buf_append(body, data, len))
		return len;
	if (len > body->max - body->len)
		transfer->too_large = true;
	else
		transfer->out_of_memory = true;
	return 0;
}

/* No connection came about.  A denied address counts only if no allowed one was tried. */
static PglNetError
classify_connect(const PglTransfer *transfer)
{
	if (transfer->sockets_opened > 0)
		return PGL_NET_CONNECT;
	if (transfer->no_descriptor)
		return PGL_NET_RESOURCES;
	return transfer->address_denied ? PGL_NET_POLICY : PGL_NET_CONNECT;
}

/* The deadlines are ours, so a timeout of libcurl's is the one for connecting. */
static PglNetError
classify_timeout(const PglTransfer *transfer)
{
	if (transfer->request_sent || pgl_clock_us() >= transfer->deadline_us)
		return PGL_NET_TIMEOUT;
	return transfer->sockets_opened > 0 ? PGL_NET_CONNECT : PGL_NET_DNS;
}

/* Does the result mean that the peer could not prove itself, or that we could not ask it to? */
static bool
is_tls_failure(CURLcode code)
{
	switch (code)
	{
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_ENGINE_INITFAILED:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_USE_SSL_FAILED:
			return true;
		default:
			return false;
	}
}

/* libcurl's result and the callbacks' notes as one of our errors. */
static PglNetError
classify(const PglTransfer *transfer, CURLcode code)
{
	if (code == CURLE_OK)
		return PGL_NET_OK;
	if (transfer->too_large)
		return PGL_NET_TOO_LARGE;
	if (transfer->out_of_memory)
		return PGL_NET_RESOURCES;
	if (is_tls_failure(code))
		return PGL_NET_TLS;
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			return PGL_NET_DNS;
		case CURLE_COULDNT_CONNECT:
			return classify_connect(transfer);
		case CURLE_OPERATION_TIMEDOUT:
			return classify_timeout(transfer);
		case CURLE_ABORTED_BY_CALLBACK:
			return transfer->repeat_denied ? PGL_NET_RESET : PGL_NET_POLICY;
		case CURLE_UNSUPPORTED_PROTOCOL:
			/* Of our URL, or of the peer, when what it answered is not HTTP. */
			return transfer->request_sent ? PGL_NET_OTHER : PGL_NET_POLICY;
		case CURLE_FILESIZE_EXCEEDED:
#if LIBCURL_VERSION_NUM >= 0x080600
		case CURLE_TOO_LARGE:
#endif
			return PGL_NET_TOO_LARGE;
		case CURLE_OUT_OF_MEMORY:
			/* Before 8.6 libcurl calls a header line over its own cap "out of memory" as well. */
			return transfer->reply.got_bytes ? PGL_NET_TOO_LARGE : PGL_NET_RESOURCES;
		case CURLE_PARTIAL_FILE:
			return PGL_NET_TRUNCATED;
		case CURLE_GOT_NOTHING:
		case CURLE_SEND_ERROR:
		case CURLE_SEND_FAIL_REWIND:
		case CURLE_RECV_ERROR:
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
			return transfer->reply.got_bytes ? PGL_NET_TRUNCATED : PGL_NET_RESET;
		default:
			return PGL_NET_OTHER;
	}
}

/* Phases as libcurl saw them; a kept connection had none to set up. */
static void
read_timings(PglTransfer *transfer)
{
	PglHttpReply *reply = &transfer->reply;
	curl_off_t dns_us = 0;
	curl_off_t tcp_us = 0;
	curl_off_t tls_us = 0;

	reply->total_us = pgl_clock_us() - transfer->started_us;
	reply->reused = transfer->request_sent && transfer->sockets_opened == 0;
	if (reply->reused)
		return;
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_NAMELOOKUP_TIME_T, &dns_us);
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_CONNECT_TIME_T, &tcp_us);
	(void) curl_easy_getinfo(transfer->easy, CURLINFO_APPCONNECT_TIME_T, &tls_us);
	reply->dns_us = dns_us;
	reply->connect_us = Max(tcp_us, tls_us);
}

/* Fill in the reply of a transfer libcurl has ended with `code`; its handle is still there. */
void
pgl_reply_finish(PglTransfer *transfer, CURLcode code)
{
	PglHttpReply *reply = &transfer->reply;
	long status = 0;
	size_t len;

	read_timings(transfer);
	reply->error = classify(transfer, code);
	if (reply->error == PGL_NET_OK)
	{
		(void) curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
		reply->status = (int) status;
		reply->error_text[0] = '\0'; /* of an attempt libcurl repeated by itself */
		return;
	}
	if (reply->error == PGL_NET_TOO_LARGE)
		strlcpy(reply->error_text, "reply is larger than allowed", sizeof(reply->error_text));
	else if (transfer->repeat_denied)
		strlcpy(reply->error_text, "connection was closed without a reply",
				sizeof(reply->error_text));
	else if (reply->error_text[0] == '\0')
		strlcpy(reply->error_text, curl_easy_strerror(code), sizeof(reply->error_text));
	len = strnlen(reply->error_text, sizeof(reply->error_text) - 1);
	copy_printable(reply->error_text, sizeof(reply->error_text), reply->error_text, len);
}

/* The deadline has passed while libcurl was at work. */
void
pgl_reply_finish_expired(PglTransfer *transfer)
{
	PglHttpReply *reply = &transfer->reply;
	const char *phase = "before a connection was made";

	read_timings(transfer);
	reply->error = PGL_NET_TIMEOUT;
	if (reply->got_bytes)
		phase = "inside the reply";
	else if (transfer->request_sent)
		phase = "waiting for the reply";
	snprintf(reply->error_text, sizeof(reply->error_text), "deadline passed %s", phase);
}

/* The connection it waited for failed, and its own would too. */
void
pgl_reply_finish_like(PglTransfer *transfer, const PglTransfer *failed)
{
	PglHttpReply *reply = &transfer->reply;

	reply->total_us = pgl_clock_us() - transfer->started_us;
	reply->error = failed->reply.error;
	strlcpy(reply->error_text, failed->reply.error_text, sizeof(reply->error_text));
}

/* libcurl did not take it; that means out of memory. */
void
pgl_reply_finish_refused(PglTransfer *transfer)
{
	PglHttpReply *reply = &transfer->reply;

	reply->total_us = pgl_clock_us() - transfer->started_us;
	reply->error = PGL_NET_RESOURCES;
	strlcpy(reply->error_text, "out of memory", sizeof(reply->error_text));
}
