/*
 * provider.h — bytes <-> meaning for one vendor protocol.
 *
 * A provider turns a chat request into an HTTP request, signs it, and turns the HTTP reply into
 * text, token counts and a cause.  It knows no sockets, no SQL and no PostgreSQL: like core/ it is
 * plain C that reports by value, so that it can be tested and fuzzed alone.  A provider that is
 * `in_process` (mock) answers by itself; the call engine then waits for its latency instead of for
 * a socket.  Such a provider leaves build, sign and read NULL; the others leave answer NULL.
 *
 * All text here is UTF-8; the call layer converts from and to the server encoding.
 */
#ifndef PGL_PROVIDER_PROVIDER_H
#define PGL_PROVIDER_PROVIDER_H

#include "../core/buf.h"
#include "../core/cause.h"
#include "../core/uri.h"
#include "../net/net.h"

#define PGL_MAX_HEADERS 16
#define PGL_MAX_REQUEST_BYTES (32 * 1024 * 1024)

/* The part of a target that a provider needs. */
typedef struct PglProviderTarget
{
	const char *region;
	const PglEndpoint *endpoint;
	const char *model_id;
	const char *parameters; /* JSON object text of llm_target.parameters, UTF-8 */
} PglProviderTarget;

typedef struct PglChatRequest
{
	const char *system; /* NULL: none */
	const char *prompt;
	size_t prompt_len;
	int max_tokens; /* always sent: the reservation rests on it */
	bool has_temperature;
	bool has_top_p;
	double temperature;
	double top_p;
	const char *const *stop; /* stop sequences */
	int nstop;
	const char *call_id; /* sent along, to be found in logs; NULL: none */
	int attempt;         /* of the call, from 1 */
} PglChatRequest;

typedef struct PglCredential
{
	char access_key[132];
	char secret_key[132];
	char session_token[4096]; /* "" if none */
} PglCredential;

/* An HTTP request on its way out; buffers are reused from attempt to attempt. */
typedef struct PglOutgoing
{
	PglBuf url;
	PglBuf path; /* the part of url that is signed */
	PglBuf body;
	PglBuf headers; /* "name: value" lines, each with its NUL; names in lower case */
	int nheaders;
} PglOutgoing;

typedef struct PglUsage
{
	int64_t input_tokens; /* without cached tokens; -1 = not reported, as for the others */
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
} PglUsage;

typedef struct PglReply
{
	PglCause cause;      /* PGL_CAUSE_NONE: text holds the answer */
	int status;          /* HTTP status, 0 if there was none */
	char error_name[96]; /* the provider's name of the error, e.g. ThrottlingException */
	char message[512];   /* the provider's words, cut at a character boundary; no line breaks */
	PglBuf text;
	char finish_reason[48]; /* stop, length, refusal, or the provider's own word */
	PglUsage usage;
	char request_id[64];
	int64_t retry_hint_us; /* wait asked for by the provider; -1 if none */
	int64_t server_ms;     /* latency the provider reports; -1 if none */
} PglReply;

typedef struct PglProvider
{
	const char *name;
	bool in_process;
	bool needs_credential;
	/* NULL if the parameters object is fine, else a constant description of what is wrong. */
	const char *(*check_parameters)(const char *json);
	/* Build url, path, body and unsigned headers.  False: *why names the reason. */
	bool (*build)(const PglProviderTarget *target, const PglChatRequest *request, PglOutgoing *out,
				  const char **why);
	/* Add the authorization headers for this moment; called again for every attempt. */
	bool (*sign)(const PglProviderTarget *target, const PglCredential *credential,
				 int64_t unix_seconds, PglOutgoing *out);
	/* Read a reply, any PglNetError and status.  Overwrites `out`, always fills `cause`. */
	void (*read)(const PglHttpReply *http, PglReply *out);
	/* in_process only: the answer to the `ordinal`-th attempt (0 = first) and its latency. */
	void (*answer)(const PglProviderTarget *target, const PglChatRequest *request, uint64_t ordinal,
				   PglReply *out, int64_t *latency_us);
} PglProvider;

extern const PglProvider *pgl_provider_find(const char *name); /* NULL: no such provider */

extern const PglProvider pgl_provider_bedrock;
extern const PglProvider pgl_provider_mock;

/* Shared by providers. */
extern void pgl_outgoing_init(PglOutgoing *out);
extern void pgl_outgoing_reset(PglOutgoing *out); /* empty, for another target; build does it */
/* Both wipe the headers, which hold credentials. */
extern void pgl_outgoing_recycle(PglOutgoing *out); /* empty, for another call */
extern void pgl_outgoing_free(PglOutgoing *out);
/* False, adding nothing, if there are too many or the text would not be one header line. */
extern bool pgl_outgoing_add_header(PglOutgoing *out, const char *name, const char *value);
extern int pgl_outgoing_headers(const PglOutgoing *out, const char *lines[PGL_MAX_HEADERS]);
/* A fresh reply has cause SERVER_ERROR: one that nobody filled is no success. */
extern void pgl_reply_init(PglReply *reply, size_t max_text);
extern void pgl_reply_reset(PglReply *reply); /* as fresh, keeping the buffer of the text */
extern void pgl_reply_free(PglReply *reply);
/* Give up on the reply: cause and constant message are set, a partial text is dropped. */
extern void pgl_reply_fail(PglReply *reply, PglCause cause, const char *message);
extern void pgl_reply_set_message(PglReply *reply, const char *text, size_t len);
/* Copy foreign text: valid UTF-8, no control characters, cut at a character boundary. */
extern void pgl_provider_copy_text(char *dst, size_t size, const char *text, size_t len);
extern void pgl_reply_from_net_error(const PglHttpReply *http, PglReply *out);

#endif
