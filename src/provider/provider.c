/*
 * provider.c — the registry of providers, and what all of them share.
 *
 * A new provider is one row of the registry.  The helpers below own the life of the two structures
 * that travel between the call engine and a provider.
 *
 * PglOutgoing is the request.  Its headers hold a signature and perhaps a session token, so freeing
 * it wipes them.  Every header goes through pgl_outgoing_add_header, which refuses line breaks:
 * nothing that comes from a table can smuggle a second header in.
 *
 * PglReply is the answer.  Every word of the provider that ends up in an error message or a view
 * goes through pgl_provider_copy_text, because it comes from the network: it may be long, not
 * UTF-8, or full of terminal escapes.
 *
 * Nothing here throws or knows PostgreSQL.
 */
#include "provider.h"

#include <stdint.h>
#include <string.h>

#define MAX_URL_BYTES 8192     /* a model id of 2048 bytes, each as %XX, and a host */
#define MAX_HEADER_BYTES 16384 /* a session token of 4095 bytes and a signature */

static const PglProvider *const registry[] = {&pgl_provider_bedrock, &pgl_provider_mock};

#define PROVIDER_COUNT ((int) (sizeof(registry) / sizeof(registry[0])))

/* What a failure below HTTP means for routing, and the words for it when libcurl has none. */
typedef struct NetErrorRule
{
	PglCause cause;
	const char *message;
} NetErrorRule;

static const NetErrorRule net_error_rules[] = {
	[PGL_NET_OK] = {PGL_CAUSE_SERVER_ERROR, "no reply"},
	[PGL_NET_DNS] = {PGL_CAUSE_CONNECTION, "host name does not resolve"},
	[PGL_NET_CONNECT] = {PGL_CAUSE_CONNECTION, "connection refused or host unreachable"},
	[PGL_NET_TLS] = {PGL_CAUSE_CONNECTION, "TLS handshake failed"},
	[PGL_NET_TIMEOUT] = {PGL_CAUSE_TIMEOUT, "no reply in time"},
	[PGL_NET_RESET] = {PGL_CAUSE_CONNECTION, "connection closed before the reply"},
	[PGL_NET_TRUNCATED] = {PGL_CAUSE_SERVER_ERROR, "connection closed inside the reply"},
	[PGL_NET_TOO_LARGE] = {PGL_CAUSE_SERVER_ERROR, "reply is larger than allowed"},
	[PGL_NET_POLICY] = {PGL_CAUSE_CONNECTION,
						"address of the endpoint is not allowed by the shard's network setting"},
	[PGL_NET_RESOURCES] = {PGL_CAUSE_SERVER_ERROR, "out of memory or file descriptors"},
	[PGL_NET_OTHER] = {PGL_CAUSE_SERVER_ERROR, "transfer failed"},
};

#define NET_ERROR_COUNT ((unsigned int) (sizeof(net_error_rules) / sizeof(net_error_rules[0])))

/* ---- registry ---- */

const PglProvider *
pgl_provider_find(const char *name)
{
	for (int i = 0; i < PROVIDER_COUNT; i++)
	{
		if (strcmp(registry[i]->name, name) == 0)
			return registry[i];
	}
	return NULL;
}

/* ---- request ---- */

void
pgl_outgoing_init(PglOutgoing *out)
{
	pgl_buf_init(&out->url, MAX_URL_BYTES);
	pgl_buf_init(&out->path, MAX_URL_BYTES);
	pgl_buf_init(&out->body, PGL_MAX_REQUEST_BYTES);
	pgl_buf_init(&out->headers, MAX_HEADER_BYTES);
	out->nheaders = 0;
}

void
pgl_outgoing_reset(PglOutgoing *out)
{
	pgl_buf_reset(&out->url);
	pgl_buf_reset(&out->path);
	pgl_buf_reset(&out->body);
	pgl_buf_reset(&out->headers);
	out->nheaders = 0;
}

void
pgl_outgoing_recycle(PglOutgoing *out)
{
	pgl_buf_recycle(&out->url, out->url.max);
	pgl_buf_recycle(&out->path, out->path.max);
	pgl_buf_recycle(&out->body, out->body.max);
	pgl_buf_blank(&out->headers);
	out->nheaders = 0;
}

void
pgl_outgoing_free(PglOutgoing *out)
{
	pgl_buf_free(&out->url);
	pgl_buf_free(&out->path);
	pgl_buf_free(&out->body);
	pgl_buf_wipe(&out->headers);
	out->nheaders = 0;
}

/*
 * Tab included: a value of ours never needs one.  Eight bytes at a time, as session tokens are
 * long: subtracting 0x20 borrows from the top bit of a byte below it, flipping 0x7F makes it zero,
 * and bytes from 0x80 on are taken out.  A borrow goes no further than a byte that counts anyway.
 */
static bool
has_control_character(const char *text, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t found = 0;
	uint64_t word;

	while (len > 0)
	{
		size_t step = len < sizeof(word) ? len : sizeof(word);

		word = ones * ' ';
		memcpy(&word, text, step);
		found |= ((word - ones * 0x20) | ((word ^ (ones * 0x7F)) - ones)) & ~word;
		text += step;
		len -= step;
	}
	return (found & (ones * 0x80)) != 0;
}

bool
pgl_outgoing_add_header(PglOutgoing *out, const char *name, const char *value)
{
	size_t name_len = strlen(name);
	size_t value_len = strlen(value);

	if (out->nheaders >= PGL_MAX_HEADERS ||
		name_len + value_len + 3 > out->headers.max - out->headers.len) /* ": " and the NUL */
		return false;
	if (name_len == 0 || has_control_character(name, name_len) || strchr(name, ':') != NULL ||
		has_control_character(value, value_len))
		return false;
	pgl_buf_append(&out->headers, name, name_len);
	pgl_buf_append(&out->headers, ": ", 2);
	if (!pgl_buf_append(&out->headers, value, value_len + 1)) /* with its NUL */
		return false;
	out->nheaders++;
	return true;
}

/* The lines point into the buffer: valid until a header is added or dropped. */
int
pgl_outgoing_headers(const PglOutgoing *out, const char *lines[PGL_MAX_HEADERS])
{
	const char *line = pgl_buf_str(&out->headers);

	for (int i = 0; i < out->nheaders; i++)
	{
		lines[i] = line;
		line += strlen(line) + 1;
	}
	return out->nheaders;
}

/* ---- reply ---- */

void
pgl_reply_init(PglReply *reply, size_t max_text)
{
	memset(reply, 0, sizeof(*reply));
	pgl_buf_init(&reply->text, max_text);
	pgl_reply_reset(reply);
}

void
pgl_reply_reset(PglReply *reply)
{
	PglBuf text = reply->text;

	memset(reply, 0, sizeof(*reply));
	pgl_buf_reset(&text);
	reply->text = text;
	reply->cause = PGL_CAUSE_SERVER_ERROR;
	reply->usage.input_tokens = -1;
	reply->usage.output_tokens = -1;
	reply->usage.cache_read_tokens = -1;
	reply->usage.cache_write_tokens = -1;
	reply->retry_hint_us = -1;
	reply->server_ms = -1;
}

void
pgl_reply_free(PglReply *reply)
{
	pgl_buf_free(&reply->text);
}

void
pgl_reply_fail(PglReply *reply, PglCause cause, const char *message)
{
	reply->cause = cause;
	pgl_buf_reset(&reply->text);
	pgl_reply_set_message(reply, message, strlen(message));
}

void
pgl_reply_set_message(PglReply *reply, const char *text, size_t len)
{
	pgl_provider_copy_text(reply->message, sizeof(reply->message), text, len);
}

/*
 * An error of libcurl's speaks for itself; a refusal by our own address policy does not (libcurl
 * only knows that the socket could not be opened), so that one always gets our words.
 */
void
pgl_reply_from_net_error(const PglHttpReply *http, PglReply *out)
{
	unsigned int index = (unsigned int) http->error;
	const NetErrorRule *rule =
		&net_error_rules[index < NET_ERROR_COUNT ? index : (unsigned int) PGL_NET_OTHER];

	pgl_reply_reset(out);
	pgl_reply_fail(out, rule->cause, rule->message);
	if (http->error != PGL_NET_POLICY && http->error_text[0] != '\0')
		pgl_reply_set_message(out, http->error_text, strlen(http->error_text));
	pgl_provider_copy_text(out->request_id, sizeof(out->request_id), http->request_id,
						   strlen(http->request_id));
}

/* ---- foreign text ---- */

/* Length of the well-formed UTF-8 sequence of `len` bytes or fewer at `p`, or 0. */
static size_t
utf8_sequence_length(const unsigned char *p, size_t len)
{
	size_t need = p[0] < 0x80 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;

	if (need == 1)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4 || need > len)
		return 0;
	for (size_t i = 1; i < need; i++)
	{
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
		(p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
		return 0; /* overlong, surrogate, or beyond U+10FFFF */
	return need;
}

/* C0, DEL, C1, and the line and paragraph separators: whatever could forge a line of a log. */
static bool
is_control_sequence(const unsigned char *p, size_t len)
{
	if (len == 1)
		return p[0] < 0x20 || p[0] == 0x7F;
	if (len == 2)
		return p[0] == 0xC2 && p[1] < 0xA0;
	return len == 3 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9);
}

void
pgl_provider_copy_text(char *dst, size_t size, const char *text, size_t len)
{
	const unsigned char *src = (const unsigned char *) text;
	size_t used = 0;
	size_t step;

	for (size_t i = 0; i < len; i += step)
	{
		size_t sequence = utf8_sequence_length(src + i, len - i);
		bool replace = sequence == 0 || is_control_sequence(src + i, sequence);

		step = sequence == 0 ? 1 : sequence;
		if (used + (replace ? 1 : sequence) >= size)
			break;
		if (replace)
			dst[used++] = sequence == 0 ? '?' : ' ';
		else
		{
			memcpy(dst + used, src + i, sequence);
			used += sequence;
		}
	}
	dst[used] = '\0';
}
