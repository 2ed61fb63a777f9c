/*
 * bedrock_request.c — a chat request as a POST of Bedrock's operation Converse.
 *
 * URL: /model/{model id}/converse.  The model id is one path segment, percent-encoded once, also
 * when it is an ARN with slashes; the signer encodes the path once more by itself.
 *
 * Body: messages, system and inferenceConfig come from the request.  maxTokens is always sent,
 * because the reservation rests on it; a sampling parameter only if the user set it, because newer
 * models refuse some of them, or some pairs.  The rest comes from llm_target.parameters:
 *
 *	additional_model_request_fields  object, copied as it is: what only this model understands
 *	request_metadata                 object of 1 to 16 strings, shown in the invocation log
 *	performance                      "standard" or "optimized"
 *	service_tier                     "priority", "default", "flex" or "reserved"
 *	guardrail                        {"id": ..., "version": ...}
 *
 * One table drives both the check when a row is written and the reading before a call.
 */
#include "bedrock.h"

#include <stdio.h>
#include <string.h>

#include "parameters.h"

#define MAX_METADATA_PAIRS 16
#define MAX_SAMPLING_VALUE 1000.0
#define DECIMALS 1000000000 /* sampling values are sent with up to nine decimals */
#define DECIMAL_PLACES 9

#define NOT_UNDERSTOOD                                                                       \
	"bedrock understands the parameters additional_model_request_fields, request_metadata, " \
	"performance, service_tier and guardrail"

/* The parameters found, as slices of the text; PGL_VALUE_ABSENT if not given. */
typedef struct BedrockParameters
{
	PglJsonValue fields;
	PglJsonValue metadata;
	PglJsonValue performance;
	PglJsonValue tier;
	PglJsonValue guardrail_id;
	PglJsonValue guardrail_version;
} BedrockParameters;

/* ---- parameters ---- */

/* What is wrong with a value, or NULL; may take more than one slice out of it. */
typedef const char *(*ParameterReader)(const PglJsonValue *value, BedrockParameters *out);

static const char *
read_fields(const PglJsonValue *value, BedrockParameters *out)
{
	if (value->type != PGL_VALUE_OBJECT)
		return "additional_model_request_fields must be an object";
	out->fields = *value;
	return NULL;
}

static const char *
read_metadata(const PglJsonValue *value, BedrockParameters *out)
{
	static const char *const complaint = "request_metadata must be an object of 1 to 16 strings";
	PglJsonScan scan;
	PglJsonKey key;
	PglJsonValue item;
	int count = 0;

	pgl_parameters_enter(value, &scan);
	if (!pgl_json_begin_object(&scan))
		return complaint;
	while (pgl_json_next_key(&scan, &key))
	{
		if (!pgl_parameters_take(&scan, &item) || item.type != PGL_VALUE_STRING || key.len == 0)
			return complaint;
		count++;
	}
	if (count < 1 || count > MAX_METADATA_PAIRS)
		return complaint;
	out->metadata = *value;
	return NULL;
}

static const char *
read_performance(const PglJsonValue *value, BedrockParameters *out)
{
	if (!pgl_parameters_is_word(value, "standard") && !pgl_parameters_is_word(value, "optimized"))
		return "performance must be \"standard\" or \"optimized\"";
	out->performance = *value;
	return NULL;
}

static const char *
read_tier(const PglJsonValue *value, BedrockParameters *out)
{
	static const char *const tiers[] = {"priority", "default", "flex", "reserved"};

	for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++)
	{
		if (pgl_parameters_is_word(value, tiers[i]))
		{
			out->tier = *value;
			return NULL;
		}
	}
	return "service_tier must be \"priority\", \"default\", \"flex\" or \"reserved\"";
}

static const char *
read_guardrail(const PglJsonValue *value, BedrockParameters *out)
{
	static const char *const complaint =
		"guardrail must be an object with the non-empty strings id and version";
	PglJsonScan scan;
	PglJsonKey key;
	PglJsonValue item;

	pgl_parameters_enter(value, &scan);
	if (!pgl_json_begin_object(&scan))
		return complaint;
	while (pgl_json_next_key(&scan, &key))
	{
		if (!pgl_parameters_take(&scan, &item) || item.type != PGL_VALUE_STRING ||
			pgl_parameters_is_empty_string(&item))
			return complaint;
		if (pgl_json_key_is(&key, "id"))
			out->guardrail_id = item;
		else if (pgl_json_key_is(&key, "version"))
			out->guardrail_version = item;
		else
			return complaint;
	}
	if (out->guardrail_id.type == PGL_VALUE_ABSENT ||
		out->guardrail_version.type == PGL_VALUE_ABSENT)
		return complaint;
	return NULL;
}

static const struct
{
	const char *name;
	ParameterReader read;
} parameter_readers[] = {
	{"additional_model_request_fields", read_fields},
	{"request_metadata", read_metadata},
	{"performance", read_performance},
	{"service_tier", read_tier},
	{"guardrail", read_guardrail},
};

#define READER_COUNT (sizeof(parameter_readers) / sizeof(parameter_readers[0]))

static const char *
read_parameter(const PglJsonKey *key, const PglJsonValue *value, BedrockParameters *out)
{
	for (size_t i = 0; i < READER_COUNT; i++)
	{
		if (pgl_json_key_is(key, parameter_readers[i].name))
			return parameter_readers[i].read(value, out);
	}
	return NOT_UNDERSTOOD;
}

/* NULL if the object is fine, else a constant sentence. */
static const char *
read_parameters(const char *json, BedrockParameters *out)
{
	PglJsonScan scan;
	PglJsonKey key;
	PglJsonValue value;
	const char *complaint;

	memset(out, 0, sizeof(*out));
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

const char *
pgl_bedrock_check_parameters(const char *json)
{
	BedrockParameters ignored;

	return read_parameters(json, &ignored);
}

/* ---- body ---- */

/* {"text": ...} */
static void
put_text_block(PglBuf *body, const char *text, size_t len)
{
	pgl_buf_append_str(body, "{\"text\":");
	pgl_json_put_string(body, text, len);
	pgl_buf_append_char(body, '}');
}

/*
 * A value between 0 and MAX_SAMPLING_VALUE as a JSON number.  Not by printf: its decimal point
 * follows the locale.
 */
static void
put_decimal(PglBuf *body, double value)
{
	int64_t scaled = (int64_t) (value * DECIMALS + 0.5);
	int64_t rest = scaled % DECIMALS;
	char digits[DECIMAL_PLACES];
	int len = DECIMAL_PLACES;

	pgl_buf_append_int(body, scaled / DECIMALS);
	if (rest == 0)
		return;
	for (int i = DECIMAL_PLACES - 1; i >= 0; i--, rest /= 10)
		digits[i] = (char) ('0' + rest % 10);
	while (digits[len - 1] == '0')
		len--;
	pgl_buf_append_char(body, '.');
	pgl_buf_append(body, digits, (size_t) len);
}

static void
put_inference_config(PglBuf *body, const PglChatRequest *request)
{
	pgl_json_put_key(body, "inferenceConfig");
	pgl_buf_append_char(body, '{');
	pgl_json_put_key(body, "maxTokens");
	pgl_buf_append_int(body, request->max_tokens);
	if (request->has_temperature)
	{
		pgl_json_put_key(body, "temperature");
		put_decimal(body, request->temperature);
	}
	if (request->has_top_p)
	{
		pgl_json_put_key(body, "topP");
		put_decimal(body, request->top_p);
	}
	if (request->nstop > 0)
	{
		pgl_json_put_key(body, "stopSequences");
		for (int i = 0; i < request->nstop; i++)
		{
			pgl_buf_append_char(body, i == 0 ? '[' : ',');
			pgl_json_put_string(body, request->stop[i], strlen(request->stop[i]));
		}
		pgl_buf_append_char(body, ']');
	}
	pgl_buf_append_char(body, '}');
}

/* "key": {"member": value}, or nothing if the value is absent. */
static void
put_wrapped(PglBuf *body, const char *key, const char *member, const PglJsonValue *value)
{
	if (value->type == PGL_VALUE_ABSENT)
		return;
	pgl_json_put_key(body, key);
	pgl_buf_append_char(body, '{');
	pgl_json_put_key(body, member);
	pgl_buf_append(body, value->start, value->len);
	pgl_buf_append_char(body, '}');
}

static void
put_verbatim(PglBuf *body, const char *key, const PglJsonValue *value)
{
	if (value->type == PGL_VALUE_ABSENT)
		return;
	pgl_json_put_key(body, key);
	pgl_buf_append(body, value->start, value->len);
}

static void
put_parameters(PglBuf *body, const BedrockParameters *parameters)
{
	put_verbatim(body, "additionalModelRequestFields", &parameters->fields);
	put_verbatim(body, "requestMetadata", &parameters->metadata);
	put_wrapped(body, "performanceConfig", "latency", &parameters->performance);
	put_wrapped(body, "serviceTier", "type", &parameters->tier);
	if (parameters->guardrail_id.type == PGL_VALUE_ABSENT)
		return;
	pgl_json_put_key(body, "guardrailConfig");
	pgl_buf_append_char(body, '{');
	put_verbatim(body, "guardrailIdentifier", &parameters->guardrail_id);
	put_verbatim(body, "guardrailVersion", &parameters->guardrail_version);
	pgl_buf_append_char(body, '}');
}

static void
put_body(PglBuf *body, const PglChatRequest *request, const BedrockParameters *parameters)
{
	pgl_buf_append_str(body, "{\"messages\":[{\"role\":\"user\",\"content\":[");
	put_text_block(body, request->prompt, request->prompt_len);
	pgl_buf_append_str(body, "]}]");
	if (request->system != NULL && request->system[0] != '\0') /* an empty block is refused */
	{
		pgl_json_put_key(body, "system");
		pgl_buf_append_char(body, '[');
		put_text_block(body, request->system, strlen(request->system));
		pgl_buf_append_char(body, ']');
	}
	put_inference_config(body, request);
	put_parameters(body, parameters);
	pgl_buf_append_char(body, '}');
}

/* ---- request ---- */

/* Written so that NaN fails. */
static bool
sampling_value_valid(bool given, double value)
{
	return !given || (value >= 0.0 && value <= MAX_SAMPLING_VALUE);
}

/* What no provider would accept, or what would not make valid JSON; NULL if there is nothing. */
static const char *
check_request(const PglProviderTarget *target, const PglChatRequest *request)
{
	if (!pgl_uri_model_id_valid(target->model_id))
		return "model_id is not a valid Bedrock model id";
	if (request->max_tokens < 1)
		return "max_tokens must be at least 1";
	if (!sampling_value_valid(request->has_temperature, request->temperature))
		return "temperature is out of range";
	if (!sampling_value_valid(request->has_top_p, request->top_p))
		return "top_p is out of range";
	for (int i = 0; i < request->nstop; i++)
	{
		if (request->stop[i] == NULL || request->stop[i][0] == '\0')
			return "a stop sequence must not be empty";
	}
	return NULL;
}

static void
put_url(PglOutgoing *out, const PglProviderTarget *target)
{
	pgl_buf_append_str(&out->path, "/model/");
	pgl_uri_encode_segment(&out->path, target->model_id, strlen(target->model_id));
	pgl_buf_append_str(&out->path, "/converse");
	pgl_uri_put_base(&out->url, target->endpoint);
	pgl_buf_append_str(&out->url, pgl_buf_str(&out->path));
}

/* As AWS's SDKs name a call and its attempts, so that their logs and ours can be joined. */
static bool
add_identity(PglOutgoing *out, const PglChatRequest *request)
{
	char attempt[32];

	if (request->call_id == NULL)
		return true;
	snprintf(attempt, sizeof(attempt), "attempt=%d", request->attempt);
	return pgl_outgoing_add_header(out, "amz-sdk-invocation-id", request->call_id) &&
		   pgl_outgoing_add_header(out, "amz-sdk-request", attempt);
}

bool
pgl_bedrock_build(const PglProviderTarget *target, const PglChatRequest *request, PglOutgoing *out,
				  const char **why)
{
	BedrockParameters parameters;

	pgl_outgoing_reset(out);
	*why = check_request(target, request);
	if (*why == NULL)
		*why = read_parameters(target->parameters, &parameters);
	if (*why != NULL)
		return false;
	put_url(out, target);
	put_body(&out->body, request, &parameters);
	if (out->url.failed || out->path.failed)
		*why = "URL is too long";
	else if (out->body.failed)
		*why = "request is larger than 32 MB, or memory is exhausted";
	else if (!pgl_outgoing_add_header(out, "content-type", "application/json") ||
			 !pgl_outgoing_add_header(out, "accept", "application/json") ||
			 !add_identity(out, request))
		*why = "memory is exhausted";
	return *why == NULL;
}
