/*
 * bedrock_error.c — why Bedrock refused a request, from its name, its status and its words.
 *
 * In this order, because the first is the most exact:
 *
 * 1. The name: header x-amzn-ErrorType, else "code", "Code" or "__type" of the body, without what
 *    precedes '#' and what follows ':'.  The status can mislead: an exceeded quota is a 400, a
 *    model that is not ready is a 429, and STS throttles with 400.
 * 2. The HTTP status, for answers of proxies and load balancers, which bear no name.
 * 3. The message, only to refine what came out of 1 and 2: a context that is too long is an
 *    ordinary ValidationException, and only the words tell a daily quota from a rate.  Beware of
 *    "too many tokens": it is a rate limit, no overflow of the context.
 *
 * Each step is a table.  The body is never trusted: it may be empty, HTML, or cut off.
 */
#include "bedrock.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "../core/json.h"

/* Names without "Exception", which some front ends leave out. */
static const struct
{
	const char *name;
	PglCause cause;
} name_rules[] = {
	{"Throttling", PGL_CAUSE_THROTTLED},
	{"Throttled", PGL_CAUSE_THROTTLED},
	{"RequestThrottled", PGL_CAUSE_THROTTLED},
	{"TooManyRequests", PGL_CAUSE_THROTTLED},
	{"ProvisionedThroughputExceeded", PGL_CAUSE_THROTTLED},
	{"TransactionInProgress", PGL_CAUSE_THROTTLED},
	{"RequestLimitExceeded", PGL_CAUSE_THROTTLED},
	{"BandwidthLimitExceeded", PGL_CAUSE_THROTTLED},
	{"LimitExceeded", PGL_CAUSE_THROTTLED},
	{"SlowDown", PGL_CAUSE_THROTTLED},
	{"PriorRequestNotComplete", PGL_CAUSE_THROTTLED},
	{"EC2Throttled", PGL_CAUSE_THROTTLED},
	{"ServiceUnavailable", PGL_CAUSE_UNAVAILABLE},
	{"ModelNotReady", PGL_CAUSE_UNAVAILABLE},
	{"InternalServer", PGL_CAUSE_SERVER_ERROR},
	{"InternalServerError", PGL_CAUSE_SERVER_ERROR},
	{"InternalFailure", PGL_CAUSE_SERVER_ERROR},
	{"ModelTimeout", PGL_CAUSE_SERVER_ERROR},
	{"ModelError", PGL_CAUSE_SERVER_ERROR},
	{"ModelStreamError", PGL_CAUSE_SERVER_ERROR},
	{"RequestTimeout", PGL_CAUSE_SERVER_ERROR},
	{"AccessDenied", PGL_CAUSE_AUTH},
	{"ExpiredToken", PGL_CAUSE_AUTH},
	{"UnrecognizedClient", PGL_CAUSE_AUTH},
	{"InvalidSignature", PGL_CAUSE_AUTH},
	{"SignatureDoesNotMatch", PGL_CAUSE_AUTH},
	{"IncompleteSignature", PGL_CAUSE_AUTH},
	{"InvalidClientTokenId", PGL_CAUSE_AUTH},
	{"InvalidAccessKeyId", PGL_CAUSE_AUTH},
	{"MissingAuthenticationToken", PGL_CAUSE_AUTH},
	{"NotAuthorized", PGL_CAUSE_AUTH},
	{"OptInRequired", PGL_CAUSE_AUTH},
	{"RequestExpired", PGL_CAUSE_AUTH},
	{"ResourceNotFound", PGL_CAUSE_NOT_FOUND},
	{"UnknownOperation", PGL_CAUSE_NOT_FOUND},
	{"MPAgreementBeingCreated", PGL_CAUSE_NOT_FOUND}, /* a subscription of this model is pending */
	{"FTUFormNotFilled", PGL_CAUSE_NOT_FOUND},        /* use-case form of this vendor is missing */
	{"ServiceQuotaExceeded", PGL_CAUSE_QUOTA_EXHAUSTED},
	{"Validation", PGL_CAUSE_BAD_REQUEST},
	{"Serialization", PGL_CAUSE_BAD_REQUEST},
};

/* First matching row; the ranges at the end catch the rest. */
static const struct
{
	int first;
	int last;
	PglCause cause;
} status_rules[] = {
	{401, 401, PGL_CAUSE_AUTH},         {403, 403, PGL_CAUSE_AUTH},
	{404, 404, PGL_CAUSE_NOT_FOUND},    {408, 408, PGL_CAUSE_SERVER_ERROR},
	{424, 424, PGL_CAUSE_SERVER_ERROR}, {429, 429, PGL_CAUSE_THROTTLED},
	{400, 499, PGL_CAUSE_BAD_REQUEST},  {503, 503, PGL_CAUSE_UNAVAILABLE},
};

/* `from` becomes `to` if the message contains the words, in any case.  First matching row. */
static const struct
{
	PglCause from;
	const char *words;
	PglCause to;
} message_rules[] = {
	{PGL_CAUSE_THROTTLED, "per day", PGL_CAUSE_QUOTA_EXHAUSTED},
	{PGL_CAUSE_THROTTLED, "not ready for inference", PGL_CAUSE_UNAVAILABLE},
	{PGL_CAUSE_AUTH, "access to the model", PGL_CAUSE_NOT_FOUND},
	{PGL_CAUSE_BAD_REQUEST, "too many tokens per day", PGL_CAUSE_QUOTA_EXHAUSTED},
	{PGL_CAUSE_BAD_REQUEST, "too many tokens", PGL_CAUSE_THROTTLED},
	{PGL_CAUSE_BAD_REQUEST, "too many requests", PGL_CAUSE_THROTTLED},
	{PGL_CAUSE_BAD_REQUEST, "service quota", PGL_CAUSE_QUOTA_EXHAUSTED},
	{PGL_CAUSE_BAD_REQUEST, "security token included in the request", PGL_CAUSE_AUTH},
	{PGL_CAUSE_BAD_REQUEST, "input is too long", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "prompt is too long", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "too many input tokens", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "input tokens exceed", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "exceed context limit", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "maximum context", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "context length", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "context window", PGL_CAUSE_CONTEXT_TOO_LONG},
	{PGL_CAUSE_BAD_REQUEST, "on-demand throughput", PGL_CAUSE_NOT_FOUND},
	{PGL_CAUSE_BAD_REQUEST, "model identifier is invalid", PGL_CAUSE_NOT_FOUND},
};

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

/* ---- classification ---- */

static PglCause
cause_of_name(const char *name)
{
	static const char suffix[] = "Exception";
	const size_t suffix_len = sizeof(suffix) - 1;
	size_t len = strlen(name);

	if (len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0)
		len -= suffix_len;
	for (size_t i = 0; i < COUNT_OF(name_rules); i++)
	{
		if (strlen(name_rules[i].name) == len && memcmp(name_rules[i].name, name, len) == 0)
			return name_rules[i].cause;
	}
	return PGL_CAUSE_NONE;
}

/* Other 5xx, and anything that Bedrock never sends: the server's fault, worth another try. */
static PglCause
cause_of_status(int status)
{
	for (size_t i = 0; i < COUNT_OF(status_rules); i++)
	{
		if (status >= status_rules[i].first && status <= status_rules[i].last)
			return status_rules[i].cause;
	}
	return PGL_CAUSE_SERVER_ERROR;
}

static bool
contains_words(const char *text, const char *words)
{
	size_t len = strlen(words);

	for (; *text != '\0'; text++)
	{
		if (strncasecmp(text, words, len) == 0)
			return true;
	}
	return false;
}

PglCause
pgl_bedrock_classify(int status, const char *name, const char *message)
{
	PglCause cause = cause_of_name(name);

	if (cause == PGL_CAUSE_NONE)
		cause = cause_of_status(status);
	for (size_t i = 0; i < COUNT_OF(message_rules); i++)
	{
		if (message_rules[i].from == cause && contains_words(message, message_rules[i].words))
			return message_rules[i].to;
	}
	return cause;
}

/* ---- reading ---- */

/* "namespace#Name:uri" -> "Name" */
static void
copy_error_name(PglReply *out, const char *text)
{
	size_t end = strcspn(text, ":");
	size_t start = end;

	while (start > 0 && text[start - 1] != '#')
		start--;
	pgl_provider_copy_text(out->error_name, sizeof(out->error_name), text + start, end - start);
}

/* Take message and name out of the body; false, with neither, if it is not JSON. */
static bool
read_error_body(const PglHttpReply *http, PglBuf *message, PglBuf *name)
{
	PglJsonScan scan;
	PglJsonKey key;

	pgl_json_scan_init(&scan, pgl_buf_str(&http->body), http->body.len);
	if (pgl_json_begin_object(&scan))
	{
		while (pgl_json_next_key(&scan, &key))
		{
			if (message->len == 0 &&
				(pgl_json_key_is(&key, "message") || pgl_json_key_is(&key, "Message")))
				pgl_json_get_string(&scan, message);
			else if (name->len == 0 &&
					 (pgl_json_key_is(&key, "code") || pgl_json_key_is(&key, "Code") ||
					  pgl_json_key_is(&key, "__type")))
				pgl_json_get_string(&scan, name);
			else
				pgl_json_skip(&scan);
		}
	}
	if (pgl_json_finish(&scan))
		return true;
	pgl_buf_reset(message);
	pgl_buf_reset(name);
	return false;
}

/*
 * The provider's words, or ours if it has none.  A complaint about a signature may go on to quote
 * the signed request, session token included: of such a message only the first line is kept.
 */
static void
copy_error_message(const PglHttpReply *http, const PglBuf *message, bool readable, PglReply *out)
{
	char fallback[64];
	size_t len = message->len;

	if (len == 0)
	{
		snprintf(fallback, sizeof(fallback), "HTTP status %d with %s", http->status,
				 http->body.len == 0 ? "an empty body"
				 : readable          ? "no message"
									 : "a body that is not valid JSON");
		pgl_reply_set_message(out, fallback, strlen(fallback));
		return;
	}
	if (out->cause == PGL_CAUSE_AUTH)
		len = strcspn(message->data, "\r\n");
	pgl_reply_set_message(out, message->data, len);
}

void
pgl_bedrock_read_error(const PglHttpReply *http, PglReply *out)
{
	PglBuf message;
	PglBuf name;
	bool readable;

	pgl_buf_init(&message, http->body.len);
	pgl_buf_init(&name, http->body.len);
	readable = read_error_body(http, &message, &name);
	copy_error_name(out, http->error_type[0] != '\0' ? http->error_type : pgl_buf_str(&name));
	out->cause = pgl_bedrock_classify(http->status, out->error_name, pgl_buf_str(&message));
	copy_error_message(http, &message, readable, out);
	pgl_buf_free(&message);
	pgl_buf_free(&name);
}
