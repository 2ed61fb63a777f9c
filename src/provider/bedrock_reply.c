/*
 * bedrock_reply.c — what Converse answered: text, stop reason, token counts.
 *
 * Only a complete, well-formed 200 with an array output.message.content is an answer.  The text is
 * all text blocks and all texts of citationsContent blocks, in their order; tool calls and
 * reasoning are no part of it.  Unknown members and unknown blocks are normal and skipped.
 *
 * Stop reasons map to our own words or to a cause, see stop_rules.  If a guardrail or a filter
 * stepped in, its canned sentence must not pass for an answer: the text is dropped.
 *
 * Token counts are kept also with a failure: what was produced is billed.  That is why a text that
 * cannot be stored (an escaped NUL) leads to a second pass which skips the text and reads the rest.
 */
#include "bedrock.h"

#include <string.h>
#include <time.h>

#include "../core/json.h"
#include "../core/retry.h"

/* More tokens than any model has: such a count is damage, not usage. */
#define MAX_TOKEN_COUNT (INT64_C(1) << 40)

typedef struct ConverseReply
{
	bool want_text; /* false: check that the content is an array, skip the rest of it */
	bool has_content;
	char stop_reason[sizeof(((PglReply *) 0)->finish_reason)];
	PglUsage usage;       /* as the provider counts */
	int64_t total_tokens; /* -1 if not reported */
	int64_t server_ms;
} ConverseReply;

typedef struct StopRule
{
	const char *word;
	const char *finish_reason; /* NULL: the provider's own word */
	PglCause cause;
	const char *message;
} StopRule;

static const StopRule stop_rules[] = {
	{"end_turn", "stop", PGL_CAUSE_NONE, NULL},
	{"stop_sequence", "stop", PGL_CAUSE_NONE, NULL},
	{"max_tokens", "length", PGL_CAUSE_NONE, NULL},
	{"guardrail_intervened", NULL, PGL_CAUSE_REFUSAL,
	 "a guardrail blocked the prompt or the answer"},
	{"content_filtered", NULL, PGL_CAUSE_REFUSAL, "the provider's filter blocked the answer"},
	{"refusal", NULL, PGL_CAUSE_REFUSAL, "the model declined to answer"},
	{"model_context_window_exceeded", NULL, PGL_CAUSE_CONTEXT_TOO_LONG,
	 "prompt and answer do not fit the model's context window"},
	{"malformed_model_output", NULL, PGL_CAUSE_SERVER_ERROR, "the model's output was malformed"},
	{"malformed_tool_use", NULL, PGL_CAUSE_SERVER_ERROR, "the model's tool use was malformed"},
};

#define STOP_RULE_COUNT (sizeof(stop_rules) / sizeof(stop_rules[0]))

/* ---- body ---- */

/* A short string of the provider's, into a field; other types leave it alone. */
static void
read_word(PglJsonScan *scan, char *dst, size_t size)
{
	PglBuf word;

	/* Decoded text is never longer than its JSON. */
	pgl_buf_init(&word, (size_t) (scan->end - scan->pos));
	if (pgl_json_get_string(scan, &word))
		pgl_provider_copy_text(dst, size, pgl_buf_str(&word), word.len);
	pgl_buf_free(&word);
}

/* {"text": ...} */
static void
read_text_member(PglJsonScan *scan, PglBuf *text)
{
	PglJsonKey key;

	if (!pgl_json_begin_object(scan))
		return;
	while (pgl_json_next_key(scan, &key))
	{
		if (pgl_json_key_is(&key, "text"))
			pgl_json_get_string(scan, text);
		else
			pgl_json_skip(scan);
	}
}

/* {"content": [{"text": ...}, ...], "citations": [...]}: text that bears citations. */
static void
read_cited_text(PglJsonScan *scan, PglBuf *text)
{
	PglJsonKey key;

	if (!pgl_json_begin_object(scan))
		return;
	while (pgl_json_next_key(scan, &key))
	{
		if (!pgl_json_key_is(&key, "content"))
			pgl_json_skip(scan);
		else if (pgl_json_begin_array(scan))
		{
			while (pgl_json_next_element(scan))
				read_text_member(scan, text);
		}
	}
}

static void
read_block(PglJsonScan *scan, PglBuf *text)
{
	PglJsonKey key;

	if (!pgl_json_begin_object(scan))
		return;
	while (pgl_json_next_key(scan, &key))
	{
		if (pgl_json_key_is(&key, "text"))
			pgl_json_get_string(scan, text);
		else if (pgl_json_key_is(&key, "citationsContent"))
			read_cited_text(scan, text);
		else
			pgl_json_skip(scan);
	}
}

static void
read_content(PglJsonScan *scan, ConverseReply *reply, PglBuf *text)
{
	pgl_buf_reset(text); /* should the member come twice, the last one counts */
	reply->has_content = pgl_json_begin_array(scan);
	if (!reply->has_content)
		return;
	while (pgl_json_next_element(scan))
	{
		if (reply->want_text)
			read_block(scan, text);
		else
			pgl_json_skip(scan);
	}
}

/* {"message": {"content": [...]}} */
static void
read_output(PglJsonScan *scan, ConverseReply *reply, PglBuf *text)
{
	PglJsonKey key;

	if (!pgl_json_begin_object(scan))
		return;
	while (pgl_json_next_key(scan, &key))
	{
		if (!pgl_json_key_is(&key, "message"))
			pgl_json_skip(scan);
		else if (pgl_json_begin_object(scan))
		{
			while (pgl_json_next_key(scan, &key))
			{
				if (pgl_json_key_is(&key, "content"))
					read_content(scan, reply, text);
				else
					pgl_json_skip(scan);
			}
		}
	}
}

static void
read_count(PglJsonScan *scan, int64_t *count)
{
	int64_t value;

	if (pgl_json_get_int(scan, &value) && value >= 0 && value <= MAX_TOKEN_COUNT)
		*count = value;
}

static void
read_usage(PglJsonScan *scan, ConverseReply *reply)
{
	PglJsonKey key;

	if (!pgl_json_begin_object(scan))
		return;
	while (pgl_json_next_key(scan, &key))
	{
		if (pgl_json_key_is(&key, "inputTokens"))
			read_count(scan, &reply->usage.input_tokens);
		else if (pgl_json_key_is(&key, "outputTokens"))
			read_count(scan, &reply->usage.output_tokens);
		else if (pgl_json_key_is(&key, "cacheReadInputTokens"))
			read_count(scan, &reply->usage.cache_read_tokens);
		else if (pgl_json_key_is(&key, "cacheWriteInputTokens"))
			read_count(scan, &reply->usage.cache_write_tokens);
		else if (pgl_json_key_is(&key, "totalTokens"))
			read_count(scan, &reply->total_tokens);
		else
			pgl_json_skip(scan);
	}
}

static void
read_metrics(PglJsonScan *scan, ConverseReply *reply)
{
	PglJsonKey key;

	if (!pgl_json_begin_object(scan))
		return;
	while (pgl_json_next_key(scan, &key))
	{
		if (pgl_json_key_is(&key, "latencyMs"))
			read_count(scan, &reply->server_ms);
		else
			pgl_json_skip(scan);
	}
}

/* One pass over the body. */
static PglJsonStatus
read_converse(const PglBuf *body, bool want_text, ConverseReply *reply, PglBuf *text)
{
	PglJsonScan scan;
	PglJsonKey key;

	memset(reply, 0, sizeof(*reply));
	reply->want_text = want_text;
	reply->usage = (PglUsage){-1, -1, -1, -1};
	reply->total_tokens = -1;
	reply->server_ms = -1;
	pgl_json_scan_init(&scan, pgl_buf_str(body), body->len);
	if (pgl_json_begin_object(&scan))
	{
		while (pgl_json_next_key(&scan, &key))
		{
			if (pgl_json_key_is(&key, "output"))
				read_output(&scan, reply, text);
			else if (pgl_json_key_is(&key, "stopReason"))
				read_word(&scan, reply->stop_reason, sizeof(reply->stop_reason));
			else if (pgl_json_key_is(&key, "usage"))
				read_usage(&scan, reply);
			else if (pgl_json_key_is(&key, "metrics"))
				read_metrics(&scan, reply);
			else
				pgl_json_skip(&scan);
		}
	}
	pgl_json_finish(&scan);
	return scan.status;
}

/* ---- meaning ---- */

/*
 * Most models leave cached tokens out of inputTokens, some count them in.  The total tells which;
 * when it fits neither way, or is missing, the common form is assumed.
 */
static PglUsage
normalize_usage(const ConverseReply *reply)
{
	PglUsage usage = reply->usage;
	int64_t cached = (usage.cache_read_tokens > 0 ? usage.cache_read_tokens : 0) +
					 (usage.cache_write_tokens > 0 ? usage.cache_write_tokens : 0);

	if (cached == 0 || usage.input_tokens < 0 || usage.output_tokens < 0)
		return usage;
	if (usage.input_tokens + usage.output_tokens == reply->total_tokens)
		usage.input_tokens = usage.input_tokens > cached ? usage.input_tokens - cached : 0;
	return usage;
}

static void
apply_stop_reason(const char *word, PglReply *out)
{
	const StopRule *rule = NULL;

	for (size_t i = 0; i < STOP_RULE_COUNT && rule == NULL; i++)
	{
		if (strcmp(stop_rules[i].word, word) == 0)
			rule = &stop_rules[i];
	}
	if (rule != NULL && rule->finish_reason != NULL)
		word = rule->finish_reason;
	else if (word[0] == '\0')
		word = "unknown";
	pgl_provider_copy_text(out->finish_reason, sizeof(out->finish_reason), word, strlen(word));
	if (rule != NULL && rule->cause != PGL_CAUSE_NONE)
		pgl_reply_fail(out, rule->cause, rule->message);
	else
		out->cause = PGL_CAUSE_NONE;
}

/* A body that is not a readable Converse reply. */
static void
report_damage(PglJsonStatus status, PglReply *out)
{
	switch (status)
	{
		case PGL_JSON_OK:
			pgl_reply_fail(out, PGL_CAUSE_SERVER_ERROR, "reply holds no message");
			break;
		case PGL_JSON_NUL:
			pgl_reply_fail(out, PGL_CAUSE_BAD_REPLY,
						   "reply contains \\u0000, which text cannot hold");
			break;
		case PGL_JSON_ENCODING:
			pgl_reply_fail(out, PGL_CAUSE_SERVER_ERROR, "reply is not valid UTF-8");
			break;
		case PGL_JSON_TOO_LARGE:
			pgl_reply_fail(out, PGL_CAUSE_SERVER_ERROR, "reply is larger than allowed");
			break;
		case PGL_JSON_SYNTAX:
		case PGL_JSON_TOO_DEEP:
			pgl_reply_fail(out, PGL_CAUSE_SERVER_ERROR, "reply is not valid JSON");
			break;
	}
}

static void
read_answer(const PglHttpReply *http, PglReply *out)
{
	ConverseReply reply;
	PglJsonStatus status = read_converse(&http->body, true, &reply, &out->text);
	bool readable = status == PGL_JSON_OK;

	if (status == PGL_JSON_NUL)
		readable = read_converse(&http->body, false, &reply, &out->text) == PGL_JSON_OK;
	if (readable)
	{
		out->usage = normalize_usage(&reply);
		out->server_ms = reply.server_ms;
	}
	if (status != PGL_JSON_OK || !reply.has_content)
		report_damage(status, out);
	else
		apply_stop_reason(reply.stop_reason, out);
}

/* Bedrock is not known to send a hint, but newer SDKs of AWS understand both headers. */
static int64_t
read_retry_hint(const PglHttpReply *http)
{
	int64_t now_us = (int64_t) time(NULL) * 1000000;
	int64_t hint_us = -1;

	if (http->retry_after_ms[0] != '\0')
		hint_us = pgl_retry_parse_hint(http->retry_after_ms, true, now_us);
	if (hint_us < 0 && http->retry_after[0] != '\0')
		hint_us = pgl_retry_parse_hint(http->retry_after, false, now_us);
	return hint_us;
}

void
pgl_bedrock_read(const PglHttpReply *http, PglReply *out)
{
	if (http->error != PGL_NET_OK)
	{
		pgl_reply_from_net_error(http, out);
		return;
	}
	pgl_reply_reset(out);
	out->status = http->status;
	pgl_provider_copy_text(out->request_id, sizeof(out->request_id), http->request_id,
						   strlen(http->request_id));
	if (http->status == 200)
	{
		read_answer(http, out);
		return;
	}
	pgl_bedrock_read_error(http, out);
	out->retry_hint_us = read_retry_hint(http);
}
