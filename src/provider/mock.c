/*
 * mock.c — a provider without a network: fixed or echoed answers, and failures on demand.
 *
 * Regression tests, demonstrations and dry runs of a route configuration use it.  What it does is
 * written in llm_target.parameters:
 *
 *	reply           text of the answer, "mock reply" by default
 *	echo            true: the answer is the prompt
 *	latency_ms      how long an attempt takes
 *	script          array of outcomes, one per attempt, in the words of `outcomes` below;
 *	                behind its end every attempt is "ok"
 *	repeat          true: behind its end the script starts over
 *	retry_after_ms  hint that comes with "throttled" and "unavailable"
 *	finish_reason   of "ok" answers that fit max_tokens, "stop" by default
 *	input_tokens, output_tokens, cache_read_tokens, cache_write_tokens
 *	                what is reported; by default four bytes are a token and nothing is cached
 *
 * Which entry of the script is due is the caller's knowledge (`ordinal`): nothing here has a state.
 */
#include "provider.h"

#include <stddef.h>
#include <string.h>

#include "parameters.h"

#define BYTES_PER_TOKEN 4
#define MAX_SCRIPT 1000
#define MAX_LATENCY_MS INT64_C(3600000)
#define MAX_TOKENS INT64_C(1000000000)
#define HANG_US INT64_C(3600000000)

/* What an entry of the script stands for; a failure looks like that of a real provider. */
typedef struct Outcome
{
	const char *word;
	PglCause cause;
	int status;
	const char *error_name;
	const char *message;
} Outcome;

enum
{
	OUTCOME_OK,
	OUTCOME_LENGTH,
	OUTCOME_HANG,
	OUTCOME_REFUSAL,
	OUTCOME_BAD_REPLY
	/* the rest needs no number */
};

static const Outcome outcomes[] = {
	[OUTCOME_OK] = {"ok", PGL_CAUSE_NONE, 200, "", ""},
	[OUTCOME_LENGTH] = {"length", PGL_CAUSE_NONE, 200, "", ""},
	[OUTCOME_HANG] = {"hang", PGL_CAUSE_NONE, 200, "", ""},
	[OUTCOME_REFUSAL] = {"refusal", PGL_CAUSE_REFUSAL, 200, "", "the model declined to answer"},
	[OUTCOME_BAD_REPLY] = {"bad_reply", PGL_CAUSE_BAD_REPLY, 200, "",
						   "reply contains \\u0000, which text cannot hold"},
	{"throttled", PGL_CAUSE_THROTTLED, 429, "ThrottlingException",
	 "Too many requests, please wait before trying again."},
	{"unavailable", PGL_CAUSE_UNAVAILABLE, 503, "ServiceUnavailableException",
	 "The service is unable to process your request."},
	{"server_error", PGL_CAUSE_SERVER_ERROR, 500, "InternalServerException",
	 "The system encountered an unexpected error during processing."},
	{"connection", PGL_CAUSE_CONNECTION, 0, "", "connection refused or host unreachable"},
	{"timeout", PGL_CAUSE_TIMEOUT, 0, "", "no reply in time"},
	{"context_too_long", PGL_CAUSE_CONTEXT_TOO_LONG, 400, "ValidationException",
	 "Input is too long for requested model."},
	{"auth", PGL_CAUSE_AUTH, 403, "UnrecognizedClientException",
	 "The security token included in the request is invalid."},
	{"not_found", PGL_CAUSE_NOT_FOUND, 404, "ResourceNotFoundException",
	 "The resource you requested does not exist."},
	{"quota_exhausted", PGL_CAUSE_QUOTA_EXHAUSTED, 400, "ServiceQuotaExceededException",
	 "Your request exceeds the service quota for your account."},
	{"bad_request", PGL_CAUSE_BAD_REQUEST, 400, "ValidationException",
	 "The input fails to satisfy the constraints of the service."},
};

#define OUTCOME_COUNT ((int) (sizeof(outcomes) / sizeof(outcomes[0])))

typedef struct MockParameters
{
	PglJsonValue reply;
	PglJsonValue finish_reason;
	bool echo;
	bool repeat;
	int64_t latency_ms;
	int64_t retry_after_ms; /* -1: no hint; as for the others, -1 means not given */
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
	unsigned char script[MAX_SCRIPT]; /* indexes of `outcomes` */
	int nscript;
} MockParameters;

/* ---- parameters ---- */

static const struct
{
	const char *name;
	PglValueType type;
	size_t offset;
	int64_t max; /* of numbers; the least is always 0 */
	const char *complaint;
} fields[] = {
	{"reply", PGL_VALUE_STRING, offsetof(MockParameters, reply), 0, "reply must be a string"},
	{"finish_reason", PGL_VALUE_STRING, offsetof(MockParameters, finish_reason), 0,
	 "finish_reason must be a string"},
	{"echo", PGL_VALUE_BOOL, offsetof(MockParameters, echo), 0, "echo must be true or false"},
	{"repeat", PGL_VALUE_BOOL, offsetof(MockParameters, repeat), 0, "repeat must be true or false"},
	{"latency_ms", PGL_VALUE_NUMBER, offsetof(MockParameters, latency_ms), MAX_LATENCY_MS,
	 "latency_ms must be a whole number from 0 to 3600000"},
	{"retry_after_ms", PGL_VALUE_NUMBER, offsetof(MockParameters, retry_after_ms), MAX_LATENCY_MS,
	 "retry_after_ms must be a whole number from 0 to 3600000"},
	{"input_tokens", PGL_VALUE_NUMBER, offsetof(MockParameters, input_tokens), MAX_TOKENS,
	 "input_tokens must be a whole number from 0 to 1000000000"},
	{"output_tokens", PGL_VALUE_NUMBER, offsetof(MockParameters, output_tokens), MAX_TOKENS,
	 "output_tokens must be a whole number from 0 to 1000000000"},
	{"cache_read_tokens", PGL_VALUE_NUMBER, offsetof(MockParameters, cache_read_tokens), MAX_TOKENS,
	 "cache_read_tokens must be a whole number from 0 to 1000000000"},
	{"cache_write_tokens", PGL_VALUE_NUMBER, offsetof(MockParameters, cache_write_tokens),
	 MAX_TOKENS, "cache_write_tokens must be a whole number from 0 to 1000000000"},
};

#define FIELD_COUNT ((int) (sizeof(fields) / sizeof(fields[0])))

static int
find_outcome(const PglJsonValue *word)
{
	for (int i = 0; i < OUTCOME_COUNT; i++)
	{
		if (pgl_parameters_is_word(word, outcomes[i].word))
			return i;
	}
	return -1;
}

static const char *
read_script(const PglJsonValue *value, MockParameters *out)
{
	PglJsonScan scan;
	PglJsonValue word;
	int outcome;

	pgl_parameters_enter(value, &scan);
	if (!pgl_json_begin_array(&scan))
		return "script must be an array of strings";
	out->nscript = 0;
	while (pgl_json_next_element(&scan) && pgl_parameters_take(&scan, &word))
	{
		outcome = find_outcome(&word);
		if (outcome < 0)
			return "script may hold ok, length, hang, refusal, bad_reply, throttled, unavailable, "
				   "server_error, connection, timeout, context_too_long, auth, not_found, "
				   "quota_exhausted and bad_request";
		if (out->nscript >= MAX_SCRIPT)
			return "script must not have more than 1000 entries";
		out->script[out->nscript++] = (unsigned char) outcome;
	}
	return NULL;
}

/* Store a value of the table's type at its place. */
static bool
store_field(int field, const PglJsonValue *value, MockParameters *out)
{
	char *place = (char *) out + fields[field].offset;

	if (value->type != fields[field].type)
		return false;
	if (value->type == PGL_VALUE_NUMBER)
		return pgl_parameters_get_int(value, 0, fields[field].max, (int64_t *) (void *) place);
	if (value->type == PGL_VALUE_BOOL)
		*(bool *) place = value->start[0] == 't';
	else
		*(PglJsonValue *) (void *) place = *value;
	return true;
}

static const char *
read_parameter(const PglJsonKey *key, const PglJsonValue *value, MockParameters *out)
{
	if (pgl_json_key_is(key, "script"))
		return read_script(value, out);
	for (int i = 0; i < FIELD_COUNT; i++)
	{
		if (pgl_json_key_is(key, fields[i].name))
			return store_field(i, value, out) ? NULL : fields[i].complaint;
	}
	return "mock understands the parameters reply, echo, latency_ms, script, repeat, "
		   "retry_after_ms, "
		   "finish_reason, input_tokens, output_tokens, cache_read_tokens and cache_write_tokens";
}

/* NULL if the object is fine, else a constant sentence. */
static const char *
read_parameters(const char *json, MockParameters *out)
{
	PglJsonScan scan;
	PglJsonKey key;
	PglJsonValue value;
	const char *complaint;

	memset(out, 0, sizeof(*out));
	out->retry_after_ms = -1;
	out->input_tokens = -1;
	out->output_tokens = -1;
	out->cache_read_tokens = -1;
	out->cache_write_tokens = -1;
	pgl_json_scan_init(&scan, json, strlen(json));
	if (!pgl_json_begin_object(&scan))
		return "parameters must be a JSON object";
	while (pgl_json_next_key(&scan, &key) && pgl_parameters_take(&scan, &value))
	{
		complaint = read_parameter(&key, &value, out);
		if (complaint != NULL)
			return complaint;
	}
	return pgl_json_finish(&scan) ? NULL : "parameters must be a JSON object";
}

static const char *
check_parameters(const char *json)
{
	MockParameters ignored;

	return read_parameters(json, &ignored);
}

/* ---- answers ---- */

static int64_t
tokens_of_bytes(size_t bytes)
{
	return (int64_t) ((bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN);
}

/* Decode a JSON string that was found well-formed; absent: nothing. */
static void
append_string(const PglJsonValue *value, PglBuf *out)
{
	PglJsonScan scan;

	if (value->type != PGL_VALUE_STRING)
		return;
	pgl_parameters_enter(value, &scan);
	pgl_json_get_string(&scan, out);
}

static int
outcome_of_attempt(const MockParameters *parameters, uint64_t ordinal)
{
	if (parameters->nscript == 0)
		return OUTCOME_OK;
	if (parameters->repeat)
		ordinal %= (uint64_t) parameters->nscript;
	if (ordinal >= (uint64_t) parameters->nscript)
		return OUTCOME_OK;
	return parameters->script[ordinal];
}

static void
set_usage(const MockParameters *parameters, const PglChatRequest *request, PglReply *out)
{
	size_t input_bytes = request->prompt_len;

	if (request->system != NULL)
		input_bytes += strlen(request->system);
	out->usage.input_tokens =
		parameters->input_tokens >= 0 ? parameters->input_tokens : tokens_of_bytes(input_bytes);
	out->usage.output_tokens =
		parameters->output_tokens >= 0 ? parameters->output_tokens : tokens_of_bytes(out->text.len);
	out->usage.cache_read_tokens =
		parameters->cache_read_tokens >= 0 ? parameters->cache_read_tokens : 0;
	out->usage.cache_write_tokens =
		parameters->cache_write_tokens >= 0 ? parameters->cache_write_tokens : 0;
}

/* Cut the text to what max_tokens allows, at a character boundary.  True if something was cut. */
static bool
cut_text(PglBuf *text, int max_tokens)
{
	size_t limit = max_tokens > 0 ? (size_t) max_tokens * BYTES_PER_TOKEN : 0;

	if (text->len <= limit)
		return false;
	while (limit > 0 && ((unsigned char) text->data[limit] & 0xC0) == 0x80)
		limit--;
	text->len = limit;
	text->data[limit] = '\0';
	return true;
}

/* Text, finish reason and usage of an attempt that gets an answer. */
static void
write_answer(const MockParameters *parameters, const PglChatRequest *request, bool length,
			 PglReply *out)
{
	PglBuf word;

	if (parameters->echo)
		pgl_buf_append(&out->text, request->prompt, request->prompt_len);
	else if (parameters->reply.type == PGL_VALUE_STRING)
		append_string(&parameters->reply, &out->text);
	else
		pgl_buf_append_str(&out->text, "mock reply");
	if (out->text.failed)
	{
		pgl_reply_fail(out, PGL_CAUSE_SERVER_ERROR, "reply is larger than allowed");
		return;
	}
	out->cause = PGL_CAUSE_NONE;
	pgl_buf_init(&word, parameters->finish_reason.len);
	append_string(&parameters->finish_reason, &word);
	if (cut_text(&out->text, request->max_tokens) || length)
		pgl_provider_copy_text(out->finish_reason, sizeof(out->finish_reason), "length", 6);
	else
		pgl_provider_copy_text(out->finish_reason, sizeof(out->finish_reason),
							   word.len > 0 ? word.data : "stop", word.len > 0 ? word.len : 4);
	pgl_buf_free(&word);
	set_usage(parameters, request, out);
}

/* A refused or damaged answer costs tokens; an error does not. */
static void
write_failure(const MockParameters *parameters, const PglChatRequest *request, int index,
			  PglReply *out)
{
	const Outcome *outcome = &outcomes[index];

	pgl_reply_fail(out, outcome->cause, outcome->message);
	pgl_provider_copy_text(out->error_name, sizeof(out->error_name), outcome->error_name,
						   strlen(outcome->error_name));
	if (index == OUTCOME_REFUSAL)
		pgl_provider_copy_text(out->finish_reason, sizeof(out->finish_reason), "refusal", 7);
	if (index == OUTCOME_REFUSAL || index == OUTCOME_BAD_REPLY)
		set_usage(parameters, request, out);
	if (parameters->retry_after_ms >= 0 &&
		(outcome->cause == PGL_CAUSE_THROTTLED || outcome->cause == PGL_CAUSE_UNAVAILABLE))
		out->retry_hint_us = parameters->retry_after_ms * 1000;
}

static void
answer_request(const PglProviderTarget *target, const PglChatRequest *request, uint64_t ordinal,
			   PglReply *out, int64_t *latency_us)
{
	MockParameters parameters;
	const char *complaint = read_parameters(target->parameters, &parameters);
	int outcome;

	pgl_reply_reset(out);
	*latency_us = 0;
	if (complaint != NULL)
	{
		pgl_reply_fail(out, PGL_CAUSE_BAD_REQUEST, complaint);
		return;
	}
	outcome = outcome_of_attempt(&parameters, ordinal);
	*latency_us = outcome == OUTCOME_HANG ? HANG_US : parameters.latency_ms * 1000;
	out->status = outcomes[outcome].status;
	if (outcomes[outcome].cause == PGL_CAUSE_NONE)
		write_answer(&parameters, request, outcome == OUTCOME_LENGTH, out);
	else
		write_failure(&parameters, request, outcome, out);
	if (out->status != 0)
		out->server_ms = *latency_us / 1000;
}

const PglProvider pgl_provider_mock = {
	.name = "mock",
	.in_process = true,
	.needs_credential = false,
	.check_parameters = check_parameters,
	.build = NULL,
	.sign = NULL,
	.read = NULL,
	.answer = answer_request,
};
