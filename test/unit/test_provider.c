/*
 * test_provider.c — the providers: golden requests, signatures, every error and reply form.
 *
 * Bodies of errors are captures or follow the published service model; the signatures are worked
 * vectors on which two independent implementations agree.
 *
 * Each function below is one check of the log; within it, every expectation that is not met prints
 * a line of its own.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"

#define HOST "https://bedrock-runtime.us-east-1.amazonaws.com"
#define HAIKU "anthropic.claude-3-haiku-20240307-v1:0"
#define PROFILE_ARN \
	"arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123def456"
#define NOT_JSON "reply is not valid JSON"

static const PglProvider *const bedrock = &pgl_provider_bedrock;
static const PglProvider *const mock = &pgl_provider_mock;

extern void test_provider(void);

/* ---- helpers ---- */

#define EXPECT(cond) expect_true((cond), #cond, __LINE__)
#define EXPECT_INT(got, want) expect_int((long long) (got), (long long) (want), __LINE__)
#define EXPECT_STR(got, want) expect_str((got), (want), __LINE__)

static int unmet; /* expectations of the current test */

static void
expect_true(bool ok, const char *condition, int line)
{
	if (!ok)
		printf("#   line %d, expectation %d: %s\n", line, ++unmet, condition);
}

static void
expect_int(long long got, long long want, int line)
{
	if (got != want)
		printf("#   line %d, expectation %d: got %lld, want %lld\n", line, ++unmet, got, want);
}

static void
expect_str(const char *got, const char *want, int line)
{
	if (strcmp(got, want) != 0)
		printf("#   line %d, expectation %d:\n#   got  \"%s\"\n#   want \"%s\"\n", line, ++unmet,
			   got, want);
}

static PglProviderTarget
make_target(PglEndpoint *endpoint, const char *url, const char *region, const char *model_id,
			const char *parameters)
{
	PglProviderTarget target = {region, endpoint, model_id, parameters};
	const char *why;

	EXPECT(pgl_uri_parse_endpoint(url, endpoint, &why));
	return target;
}

static PglChatRequest
make_request(const char *system, const char *prompt)
{
	PglChatRequest request = {0};

	request.system = system;
	request.prompt = prompt;
	request.prompt_len = strlen(prompt);
	request.max_tokens = 100;
	return request;
}

/* A reply of `status` with this error type ("" for none) and body. */
static PglHttpReply *
make_http(int status, const char *error_type, const char *body, size_t len)
{
	PglHttpReply *http = calloc(1, sizeof(*http));

	http->status = status;
	http->got_bytes = true;
	snprintf(http->error_type, sizeof(http->error_type), "%s", error_type);
	snprintf(http->request_id, sizeof(http->request_id), "req-1");
	pgl_buf_init(&http->body, 1 << 20);
	pgl_buf_append(&http->body, body, len);
	return http;
}

static void
free_http(PglHttpReply *http)
{
	pgl_buf_free(&http->body);
	free(http);
}

/* Read one reply; the caller frees it. */
static void
read_reply(int status, const char *error_type, const char *body, PglReply *reply)
{
	PglHttpReply *http = make_http(status, error_type, body, strlen(body));

	pgl_reply_init(reply, 1 << 20);
	bedrock->read(http, reply);
	free_http(http);
}

static PglCause
cause_of(int status, const char *error_type, const char *body)
{
	PglReply reply;

	read_reply(status, error_type, body, &reply);
	EXPECT_INT(reply.status, status);
	EXPECT_INT(reply.text.len, 0);
	EXPECT(reply.message[0] != '\0');
	pgl_reply_free(&reply);
	return reply.cause;
}

/* Body of a request with these parameters, as text. */
static void
expect_body(const PglChatRequest *request, const char *parameters, const char *expected)
{
	PglEndpoint endpoint;
	PglProviderTarget target = make_target(&endpoint, HOST, "us-east-1", HAIKU, parameters);
	PglOutgoing out;
	const char *why = NULL;

	pgl_outgoing_init(&out);
	EXPECT(bedrock->build(&target, request, &out, &why));
	EXPECT(why == NULL);
	EXPECT_STR(pgl_buf_str(&out.body), expected);
	pgl_outgoing_free(&out);
}

static void
expect_refused(const PglChatRequest *request, const char *model_id, const char *parameters,
			   const char *expected)
{
	PglEndpoint endpoint;
	PglProviderTarget target = make_target(&endpoint, HOST, "us-east-1", model_id, parameters);
	PglOutgoing out;
	const char *why = NULL;

	pgl_outgoing_init(&out);
	EXPECT(!bedrock->build(&target, request, &out, &why));
	EXPECT_STR(why != NULL ? why : "(null)", expected);
	pgl_outgoing_free(&out);
}

/* ---- registry and helpers ---- */

static void
test_registry(void)
{
	EXPECT(pgl_provider_find("bedrock") == bedrock);
	EXPECT(pgl_provider_find("mock") == mock);
	EXPECT(pgl_provider_find("") == NULL);
	EXPECT(pgl_provider_find("openai") == NULL);
	EXPECT(bedrock->needs_credential && !bedrock->in_process);
	EXPECT(!mock->needs_credential && mock->in_process);
}

static void
test_headers(void)
{
	PglOutgoing out;
	const char *lines[PGL_MAX_HEADERS];
	char *huge = calloc(1, 20000);

	memset(huge, 'x', 19999);
	pgl_outgoing_init(&out);
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 0);
	EXPECT(!pgl_outgoing_add_header(&out, "a", "x\r\nb: y"));
	EXPECT(!pgl_outgoing_add_header(&out, "a\n", "x"));
	EXPECT(!pgl_outgoing_add_header(&out, "a: b", "x"));
	EXPECT(!pgl_outgoing_add_header(&out, "", "x"));
	EXPECT(!pgl_outgoing_add_header(&out, "a", huge));
	EXPECT(pgl_outgoing_add_header(&out, "a", "1"));
	EXPECT(pgl_outgoing_add_header(&out, "empty", ""));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 2);
	EXPECT_STR(lines[0], "a: 1");
	EXPECT_STR(lines[1], "empty: ");
	for (int i = 2; i < PGL_MAX_HEADERS; i++)
		EXPECT(pgl_outgoing_add_header(&out, "h", "v"));
	EXPECT(!pgl_outgoing_add_header(&out, "h", "v"));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), PGL_MAX_HEADERS);
	pgl_outgoing_free(&out);
	free(huge);
}

static void
expect_copy(size_t size, const char *text, const char *expected)
{
	char copy[64];

	memset(copy, 'Z', sizeof(copy));
	pgl_provider_copy_text(copy, size, text, strlen(text));
	EXPECT_STR(copy, expected);
}

static void
test_copy_text(void)
{
	expect_copy(64, "plain", "plain");
	expect_copy(64, "a\r\nb\tc\x1b[31m\x7f", "a  b c [31m ");
	expect_copy(64, "c1 \xC2\x85 ls \xE2\x80\xA8 ok \xC2\xA0", "c1   ls   ok \xC2\xA0");
	expect_copy(6, "12345\xC3\xA9", "12345");
	expect_copy(7, "12345\xC3\xA9", "12345");
	expect_copy(8, "12345\xC3\xA9", "12345\xC3\xA9");
	expect_copy(4, "\xF0\x9F\x98\x80", "");
	expect_copy(5, "\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80");
	expect_copy(64, "bad \xFF\xC3. \xED\xA0\x80 \xC0\xAF end\xE2\x82", "bad ??. ??? ?? end??");
	expect_copy(1, "x", "");
}

static void
test_message_is_clipped(void)
{
	PglReply reply;
	char long_text[1200];

	for (size_t i = 0; i < sizeof(long_text); i += 2)
		memcpy(long_text + i, "\xC3\xA9", 2);
	pgl_reply_init(&reply, 10);
	EXPECT_INT(reply.cause, PGL_CAUSE_SERVER_ERROR);
	pgl_reply_set_message(&reply, long_text, sizeof(long_text));
	EXPECT_INT(strlen(reply.message), 510);
	pgl_reply_free(&reply);
}

static void
test_net_errors(void)
{
	static const PglCause expected[] = {
		[PGL_NET_DNS] = PGL_CAUSE_CONNECTION,         [PGL_NET_CONNECT] = PGL_CAUSE_CONNECTION,
		[PGL_NET_TLS] = PGL_CAUSE_CONNECTION,         [PGL_NET_TIMEOUT] = PGL_CAUSE_TIMEOUT,
		[PGL_NET_RESET] = PGL_CAUSE_CONNECTION,       [PGL_NET_TRUNCATED] = PGL_CAUSE_SERVER_ERROR,
		[PGL_NET_TOO_LARGE] = PGL_CAUSE_SERVER_ERROR, [PGL_NET_POLICY] = PGL_CAUSE_CONNECTION,
		[PGL_NET_RESOURCES] = PGL_CAUSE_SERVER_ERROR, [PGL_NET_OTHER] = PGL_CAUSE_SERVER_ERROR,
	};
	PglHttpReply *http = make_http(200, "", "{\"output\":{}}", 13);
	PglReply reply;

	pgl_reply_init(&reply, 1000);
	for (int error = PGL_NET_DNS; error <= PGL_NET_OTHER; error++)
	{
		http->error = (PglNetError) error;
		http->error_text[0] = '\0';
		bedrock->read(http, &reply);
		EXPECT_INT(reply.cause, expected[error]);
		EXPECT_INT(reply.status, 0);
		EXPECT(reply.message[0] != '\0');
		snprintf(http->error_text, sizeof(http->error_text), "curl\nsays");
		bedrock->read(http, &reply);
		if (error == PGL_NET_POLICY)
			EXPECT_STR(reply.message,
					   "address of the endpoint is not allowed by the shard's network setting");
		else
			EXPECT_STR(reply.message, "curl says");
	}
	http->error = (PglNetError) 99;
	bedrock->read(http, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_SERVER_ERROR);
	pgl_reply_free(&reply);
	free_http(http);
}

/* ---- bedrock: request ---- */

static void
test_golden_body(void)
{
	static const char *const stop[] = {"END", "a\"b\n"};
	PglChatRequest request = make_request(NULL, "Hello");

	expect_body(&request, "{}",
				"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"Hello\"}]}],"
				"\"inferenceConfig\":{\"maxTokens\":100}}");
	request = make_request("Be \"brief\".", "tab\there \\ \x01 \xC3\xA9");
	request.max_tokens = 7;
	request.has_temperature = true;
	request.temperature = 0.2;
	request.has_top_p = true;
	request.top_p = 1.0;
	request.stop = stop;
	request.nstop = 2;
	expect_body(&request, "{}",
				"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":"
				"\"tab\\there \\\\ \\u0001 \xC3\xA9\"}]}],"
				"\"system\":[{\"text\":\"Be \\\"brief\\\".\"}],"
				"\"inferenceConfig\":{\"maxTokens\":7,\"temperature\":0.2,\"topP\":1,"
				"\"stopSequences\":[\"END\",\"a\\\"b\\n\"]}}");
	request = make_request("", "x");
	request.has_temperature = true;
	request.temperature = 0.0;
	expect_body(&request, "{}",
				"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}],"
				"\"inferenceConfig\":{\"maxTokens\":100,\"temperature\":0}}");
}

static void
test_decimals(void)
{
	static const struct
	{
		double value;
		const char *text;
	} cases[] = {{0.1, "0.1"},          {0.7, "0.7"},
				 {0.95, "0.95"},        {0.333333333333, "0.333333333"},
				 {1.5, "1.5"},          {0.05, "0.05"},
				 {1e-9, "0.000000001"}, {1e-12, "0"},
				 {0.9999999999, "1"},   {1000.0, "1000"}};
	PglChatRequest request = make_request(NULL, "x");
	char expected[200];

	request.has_top_p = true;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		request.top_p = cases[i].value;
		snprintf(expected, sizeof(expected),
				 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}],"
				 "\"inferenceConfig\":{\"maxTokens\":100,\"topP\":%s}}",
				 cases[i].text);
		expect_body(&request, "{}", expected);
	}
}

static void
test_parameters_in_body(void)
{
	PglChatRequest request = make_request(NULL, "x");

	expect_body(
		&request,
		"{\"additional_model_request_fields\": {\"top_k\": 5, \"a\": [1, {\"b\": \"}\\\"\"}]},"
		" \"request_metadata\": {\"team\": \"x\"}, \"performance\": \"optimized\","
		" \"service_tier\": \"flex\", \"guardrail\": {\"version\": \"1\", \"id\": \"gr1\"}}",
		"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}],"
		"\"inferenceConfig\":{\"maxTokens\":100},"
		"\"additionalModelRequestFields\":{\"top_k\": 5, \"a\": [1, {\"b\": \"}\\\"\"}]},"
		"\"requestMetadata\":{\"team\": \"x\"},"
		"\"performanceConfig\":{\"latency\":\"optimized\"},"
		"\"serviceTier\":{\"type\":\"flex\"},"
		"\"guardrailConfig\":{\"guardrailIdentifier\":\"gr1\",\"guardrailVersion\":\"1\"}}");
}

static void
test_refused_requests(void)
{
	static const char *const stop[] = {""};
	PglChatRequest request = make_request(NULL, "x");

	expect_refused(&request, "..", "{}", "model_id is not a valid Bedrock model id");
	expect_refused(&request, "a b", "{}", "model_id is not a valid Bedrock model id");
	expect_refused(&request, HAIKU, "[]", "parameters must be a JSON object");
	expect_refused(&request, HAIKU, "{\"performance\":1}",
				   "performance must be \"standard\" or \"optimized\"");
	request.max_tokens = 0;
	expect_refused(&request, HAIKU, "{}", "max_tokens must be at least 1");
	request = make_request(NULL, "x");
	request.has_temperature = true;
	request.temperature = 0.0 / (request.max_tokens - 100.0);
	expect_refused(&request, HAIKU, "{}", "temperature is out of range");
	request.temperature = -0.1;
	expect_refused(&request, HAIKU, "{}", "temperature is out of range");
	request.has_temperature = false;
	request.has_top_p = true;
	request.top_p = 1e300;
	expect_refused(&request, HAIKU, "{}", "top_p is out of range");
	request.has_top_p = false;
	request.stop = stop;
	request.nstop = 1;
	expect_refused(&request, HAIKU, "{}", "a stop sequence must not be empty");
}

static void
test_request_too_large(void)
{
	size_t len = PGL_MAX_REQUEST_BYTES;
	char *prompt = malloc(len + 1);
	PglChatRequest request;

	memset(prompt, 'x', len);
	prompt[len] = '\0';
	request = make_request(NULL, prompt);
	expect_refused(&request, HAIKU, "{}", "request is larger than 32 MB, or memory is exhausted");
	free(prompt);
}

static void
expect_url(const char *endpoint_text, const char *model_id, const char *url, const char *path)
{
	PglEndpoint endpoint;
	PglProviderTarget target = make_target(&endpoint, endpoint_text, "us-east-1", model_id, "{}");
	PglChatRequest request = make_request(NULL, "x");
	PglOutgoing out;
	const char *lines[PGL_MAX_HEADERS];
	const char *why;

	pgl_outgoing_init(&out);
	for (int round = 0; round < 2; round++) /* build starts over, also in a used structure */
	{
		EXPECT(bedrock->build(&target, &request, &out, &why));
		EXPECT_STR(pgl_buf_str(&out.url), url);
		EXPECT_STR(pgl_buf_str(&out.path), path);
		EXPECT_INT(pgl_outgoing_headers(&out, lines), 2);
		EXPECT_STR(lines[0], "content-type: application/json");
		EXPECT_STR(lines[1], "accept: application/json");
	}
	pgl_outgoing_free(&out);
}

static void
test_urls(void)
{
	expect_url(HOST, HAIKU, HOST "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
			   "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse");
	expect_url("http://127.0.0.1:8080", PROFILE_ARN,
			   "http://127.0.0.1:8080/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012"
			   "%3Aapplication-inference-profile%2Fabc123def456/converse",
			   "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012"
			   "%3Aapplication-inference-profile%2Fabc123def456/converse");
	expect_url(HOST ":443", "global.anthropic.claude-sonnet-4-6",
			   HOST "/model/global.anthropic.claude-sonnet-4-6/converse",
			   "/model/global.anthropic.claude-sonnet-4-6/converse");
}

/* ---- bedrock: signature ---- */

#define SIGNED_BODY "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"Hello\"}]}]}"
#define VECTOR_TIME INT64_C(1440938160) /* 20150830T123600Z */

static PglCredential
example_credential(const char *token)
{
	PglCredential credential = {0};

	snprintf(credential.access_key, sizeof(credential.access_key), "AKIDEXAMPLE");
	snprintf(credential.secret_key, sizeof(credential.secret_key),
			 "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
	snprintf(credential.session_token, sizeof(credential.session_token), "%s", token);
	return credential;
}

static void
test_signature_without_token(void)
{
	static const char *const expected =
		"authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/"
		"aws4_request, SignedHeaders=content-type;host;x-amz-date, "
		"Signature=19f9ff5f31b96d4983cc87f7191e49e8c39475e434ea6b9d581028226bdc060c";
	PglEndpoint endpoint;
	PglProviderTarget target = make_target(&endpoint, HOST, "us-east-1", HAIKU, "{}");
	PglCredential credential = example_credential("");
	PglCredential with_token = example_credential("EXAMPLETOKEN//==");
	PglOutgoing out;
	const char *lines[PGL_MAX_HEADERS];

	pgl_outgoing_init(&out);
	pgl_buf_append_str(&out.path, "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse");
	pgl_buf_append_str(&out.body, SIGNED_BODY);
	pgl_outgoing_add_header(&out, "content-type", "application/json");
	/* A former signature, with a token and another time, leaves nothing behind. */
	EXPECT(bedrock->sign(&target, &with_token, VECTOR_TIME + 1000, &out));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 4);
	EXPECT(bedrock->sign(&target, &credential, VECTOR_TIME, &out));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 3);
	EXPECT_STR(lines[0], "content-type: application/json");
	EXPECT_STR(lines[1], "x-amz-date: 20150830T123600Z");
	EXPECT_STR(lines[2], expected);
	pgl_outgoing_free(&out);
}

static void
test_signature_with_token(void)
{
	PglEndpoint endpoint;
	PglProviderTarget target =
		make_target(&endpoint, "https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1",
					PROFILE_ARN, "{}");
	PglCredential credential = example_credential("EXAMPLETOKEN//==");
	PglOutgoing out;
	const char *lines[PGL_MAX_HEADERS];

	pgl_outgoing_init(&out);
	pgl_buf_append_str(&out.path,
					   "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012"
					   "%3Aapplication-inference-profile%2Fabc123def456/converse-stream");
	pgl_buf_append_str(&out.body, SIGNED_BODY);
	pgl_outgoing_add_header(&out, "accept", "application/vnd.amazon.eventstream");
	pgl_outgoing_add_header(&out, "content-type", "application/json");
	EXPECT(bedrock->sign(&target, &credential, VECTOR_TIME, &out));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 5);
	EXPECT_STR(lines[3], "x-amz-security-token: EXAMPLETOKEN//==");
	EXPECT(strstr(lines[4],
				  "SignedHeaders=accept;content-type;host;x-amz-date;"
				  "x-amz-security-token, Signature="
				  "34fac59d56487f25c5098f288f14423534944dd3acc9288da33d17d298406f48") != NULL);
	pgl_outgoing_free(&out);
}

static void
test_signature_failure(void)
{
	PglEndpoint endpoint;
	PglProviderTarget target = make_target(&endpoint, HOST, "us-east-1", HAIKU, "{}");
	PglChatRequest request = make_request(NULL, "x");
	PglCredential credential = example_credential("bad\ntoken");
	PglOutgoing out;
	const char *lines[PGL_MAX_HEADERS];
	const char *why;

	pgl_outgoing_init(&out);
	EXPECT(bedrock->build(&target, &request, &out, &why));
	EXPECT(!bedrock->sign(&target, &credential, VECTOR_TIME, &out));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 2);
	credential.session_token[0] = '\0';
	EXPECT(bedrock->sign(&target, &credential, VECTOR_TIME, &out));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 4);
	credential.secret_key[0] = '\0';
	EXPECT(!bedrock->sign(&target, &credential, VECTOR_TIME, &out));
	EXPECT_INT(pgl_outgoing_headers(&out, lines), 2);
	pgl_outgoing_free(&out);
}

/* ---- bedrock: answers ---- */

#define ANSWER(content, stop, usage)                                        \
	"{\"output\":{\"message\":{\"role\":\"assistant\",\"content\":" content \
	"}},\"stopReason\":\"" stop "\",\"usage\":" usage ",\"metrics\":{\"latencyMs\":321}}"
#define USAGE "{\"inputTokens\":10,\"outputTokens\":5,\"totalTokens\":15}"

static void
expect_answer(const char *body, const char *text, const char *finish_reason)
{
	PglReply reply;

	read_reply(200, "", body, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	EXPECT_STR(pgl_buf_str(&reply.text), text);
	EXPECT_STR(reply.finish_reason, finish_reason);
	EXPECT_STR(reply.message, "");
	pgl_reply_free(&reply);
}

static void
test_plain_answer(void)
{
	PglReply reply;

	read_reply(200, "", ANSWER("[{\"text\":\"Hi\"}]", "end_turn", USAGE), &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	EXPECT_STR(pgl_buf_str(&reply.text), "Hi");
	EXPECT_STR(reply.finish_reason, "stop");
	EXPECT_STR(reply.request_id, "req-1");
	EXPECT_INT(reply.status, 200);
	EXPECT_INT(reply.usage.input_tokens, 10);
	EXPECT_INT(reply.usage.output_tokens, 5);
	EXPECT_INT(reply.usage.cache_read_tokens, -1);
	EXPECT_INT(reply.usage.cache_write_tokens, -1);
	EXPECT_INT(reply.server_ms, 321);
	EXPECT_INT(reply.retry_hint_us, -1);
	pgl_reply_free(&reply);
}

static void
test_blocks(void)
{
	expect_answer(ANSWER("[]", "end_turn", USAGE), "", "stop");
	expect_answer(ANSWER("[{\"text\":\"a\"},{\"reasoningContent\":{\"reasoningText\":{\"text\":"
						 "\"no\"}}},{\"toolUse\":{\"name\":\"f\",\"input\":{\"text\":\"no\"}}},"
						 "{\"citationsContent\":{\"citations\":[{\"text\":\"no\"}],\"content\":"
						 "[{\"text\":\"b\"},{\"x\":1},{\"text\":\"c\"}]}},{\"text\":\"d\"}]",
						 "tool_use", USAGE),
				  "abcd", "tool_use");
	expect_answer(ANSWER("[null,7,\"x\",[],{\"text\":null},{\"citationsContent\":3},"
						 "{\"citationsContent\":{\"content\":{}}},{\"text\":\"z\"}]",
						 "stop_sequence", USAGE),
				  "z", "stop");
	expect_answer(ANSWER("[{\"text\":\"\\ud83d\\ude00 \\u00e9\\n\\\"\"}]", "max_tokens", USAGE),
				  "\xF0\x9F\x98\x80 \xC3\xA9\n\"", "length");
	expect_answer(ANSWER("[{\"text\":\"a\\ud800b\\udc00\"}]", "end_turn", USAGE),
				  "a\xEF\xBF\xBD"
				  "b\xEF\xBF\xBD",
				  "stop");
	expect_answer("{\"output\":{\"message\":{\"content\":[{\"text\":\"old\"}],"
				  "\"content\":[{\"text\":\"new\"}]}}}",
				  "new", "unknown");
	expect_answer(ANSWER("[{\"text\":\"x\"}]", "a_brand_new_reason", USAGE), "x",
				  "a_brand_new_reason");
}

static void
expect_stop(const char *body, PglCause cause, const char *finish_reason, const char *message)
{
	PglReply reply;

	read_reply(200, "", body, &reply);
	EXPECT_INT(reply.cause, cause);
	EXPECT_STR(pgl_buf_str(&reply.text), "");
	EXPECT_STR(reply.finish_reason, finish_reason);
	EXPECT_STR(reply.message, message);
	EXPECT_INT(reply.usage.output_tokens, 5); /* what was produced is billed */
	pgl_reply_free(&reply);
}

static void
test_stop_reasons(void)
{
	expect_stop(ANSWER("[{\"text\":\"Sorry.\"}]", "guardrail_intervened", USAGE), PGL_CAUSE_REFUSAL,
				"guardrail_intervened", "a guardrail blocked the prompt or the answer");
	expect_stop(ANSWER("[{\"text\":\"x\"}]", "content_filtered", USAGE), PGL_CAUSE_REFUSAL,
				"content_filtered", "the provider's filter blocked the answer");
	expect_stop(ANSWER("[]", "refusal", USAGE), PGL_CAUSE_REFUSAL, "refusal",
				"the model declined to answer");
	expect_stop(ANSWER("[{\"text\":\"x\"}]", "model_context_window_exceeded", USAGE),
				PGL_CAUSE_CONTEXT_TOO_LONG, "model_context_window_exceeded",
				"prompt and answer do not fit the model's context window");
	expect_stop(ANSWER("[{\"text\":\"x\"}]", "malformed_model_output", USAGE),
				PGL_CAUSE_SERVER_ERROR, "malformed_model_output",
				"the model's output was malformed");
	expect_stop(ANSWER("[{\"text\":\"x\"}]", "malformed_tool_use", USAGE), PGL_CAUSE_SERVER_ERROR,
				"malformed_tool_use", "the model's tool use was malformed");
}

static void
expect_usage(const char *usage, int64_t input, int64_t output, int64_t cache_read,
			 int64_t cache_write)
{
	char body[600];
	PglReply reply;

	snprintf(body, sizeof(body),
			 "{\"usage\":%s,\"stopReason\":\"end_turn\",\"output\":{\"message\":{\"content\":[]}}}",
			 usage);
	read_reply(200, "", body, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	EXPECT_INT(reply.usage.input_tokens, input);
	EXPECT_INT(reply.usage.output_tokens, output);
	EXPECT_INT(reply.usage.cache_read_tokens, cache_read);
	EXPECT_INT(reply.usage.cache_write_tokens, cache_write);
	pgl_reply_free(&reply);
}

static void
test_usage(void)
{
	/* Exclusive: a captured record of a Claude model. */
	expect_usage("{\"inputTokens\":3,\"cacheWriteInputTokens\":24479,\"cacheReadInputTokens\":0,"
				 "\"outputTokens\":52,\"totalTokens\":24534}",
				 3, 52, 0, 24479);
	/* Inclusive. */
	expect_usage("{\"inputTokens\":1000,\"cacheReadInputTokens\":900,\"outputTokens\":50,"
				 "\"totalTokens\":1050}",
				 100, 50, 900, -1);
	expect_usage("{\"inputTokens\":1000,\"cacheReadInputTokens\":600,\"cacheWriteInputTokens\":300,"
				 "\"outputTokens\":50,\"totalTokens\":1050}",
				 100, 50, 600, 300);
	expect_usage("{\"inputTokens\":10,\"cacheReadInputTokens\":900,\"outputTokens\":50,"
				 "\"totalTokens\":60}",
				 0, 50, 900, -1);
	/* No total, or one that fits neither way. */
	expect_usage("{\"inputTokens\":10,\"cacheReadInputTokens\":9,\"outputTokens\":5}", 10, 5, 9,
				 -1);
	expect_usage("{\"inputTokens\":10,\"cacheReadInputTokens\":9,\"outputTokens\":5,"
				 "\"totalTokens\":999}",
				 10, 5, 9, -1);
	/* Not reported, or nonsense. */
	expect_usage("{}", -1, -1, -1, -1);
	expect_usage("null", -1, -1, -1, -1);
	expect_usage("{\"inputTokens\":-5,\"outputTokens\":\"7\",\"cacheReadInputTokens\":1e300}", -1,
				 -1, -1, -1);
	expect_usage("{\"inputTokens\":12.0,\"outputTokens\":1e3}", 12, 1000, -1, -1);
}

static void
expect_damage(const char *body, PglCause cause, const char *message)
{
	PglReply reply;

	read_reply(200, "", body, &reply);
	EXPECT_INT(reply.cause, cause);
	EXPECT_STR(reply.message, message);
	EXPECT_STR(pgl_buf_str(&reply.text), "");
	pgl_reply_free(&reply);
}

static void
test_damaged_answers(void)
{
	static const char complete[] = ANSWER("[{\"text\":\"Hi\"}]", "end_turn", USAGE);
	char cut[sizeof(complete)];
	char deep[600];

	for (size_t len = 0; len < sizeof(complete) - 1; len++)
	{
		memcpy(cut, complete, len);
		cut[len] = '\0';
		expect_damage(cut, PGL_CAUSE_SERVER_ERROR, NOT_JSON);
	}
	memset(deep, '[', sizeof(deep));
	memcpy(deep, "{\"output\":", 10);
	deep[sizeof(deep) - 1] = '\0';
	expect_damage(deep, PGL_CAUSE_SERVER_ERROR, NOT_JSON);
	expect_damage("<html><body>502</body></html>", PGL_CAUSE_SERVER_ERROR, NOT_JSON);
	expect_damage(ANSWER("[{\"text\":\"Hi\"}]", "end_turn", USAGE) "}", PGL_CAUSE_SERVER_ERROR,
				  NOT_JSON);
	expect_damage(ANSWER("[{\"text\":\"a\xFF\"}]", "end_turn", USAGE), PGL_CAUSE_SERVER_ERROR,
				  "reply is not valid UTF-8");
	expect_damage("{}", PGL_CAUSE_SERVER_ERROR, "reply holds no message");
	expect_damage("[]", PGL_CAUSE_SERVER_ERROR, "reply holds no message");
	expect_damage("null", PGL_CAUSE_SERVER_ERROR, "reply holds no message");
	expect_damage("{\"output\":null}", PGL_CAUSE_SERVER_ERROR, "reply holds no message");
	expect_damage("{\"output\":{\"message\":{\"content\":{\"text\":\"x\"}}}}",
				  PGL_CAUSE_SERVER_ERROR, "reply holds no message");
	expect_damage("{\"message\":\"surprise\"}", PGL_CAUSE_SERVER_ERROR, "reply holds no message");
}

static void
test_nul_in_answer(void)
{
	PglReply reply;

	read_reply(200, "", ANSWER("[{\"text\":\"before\\u0000after\"}]", "end_turn", USAGE), &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_BAD_REPLY);
	EXPECT_STR(reply.message, "reply contains \\u0000, which text cannot hold");
	EXPECT_STR(pgl_buf_str(&reply.text), "");
	EXPECT_INT(reply.usage.input_tokens, 10);
	EXPECT_INT(reply.usage.output_tokens, 5);
	pgl_reply_free(&reply);
	/* Where nobody looks, it does no harm. */
	expect_answer(
		ANSWER("[{\"text\":\"x\"},{\"toolUse\":{\"input\":\"\\u0000\"}}]", "end_turn", USAGE), "x",
		"stop");
}

static void
test_text_over_cap(void)
{
	const char *body = ANSWER("[{\"text\":\"0123456789\"}]", "end_turn", USAGE);
	PglHttpReply *http = make_http(200, "", body, strlen(body));
	PglReply reply;

	pgl_reply_init(&reply, 9);
	bedrock->read(http, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_SERVER_ERROR);
	EXPECT_STR(reply.message, "reply is larger than allowed");
	pgl_reply_free(&reply);
	pgl_reply_init(&reply, 10);
	bedrock->read(http, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	pgl_reply_free(&reply);
	free_http(http);
}

/* ---- bedrock: errors ---- */

#define MESSAGE(text) "{\"message\":\"" text "\"}"
#define CORAL ":http://internal.amazon.com/coral/com.amazon.bedrock/"

static const struct
{
	int status;
	const char *error_type;
	const char *body;
	PglCause cause;
} error_cases[] = {
	/* the service model */
	{403, "AccessDeniedException" CORAL, MESSAGE("no"), PGL_CAUSE_AUTH},
	{400, "ValidationException" CORAL, MESSAGE("no"), PGL_CAUSE_BAD_REQUEST},
	{404, "ResourceNotFoundException" CORAL, MESSAGE("no"), PGL_CAUSE_NOT_FOUND},
	{429, "ThrottlingException" CORAL, MESSAGE("no"), PGL_CAUSE_THROTTLED},
	{429, "ModelNotReadyException" CORAL, MESSAGE("no"), PGL_CAUSE_UNAVAILABLE},
	{408, "ModelTimeoutException" CORAL, MESSAGE("no"), PGL_CAUSE_SERVER_ERROR},
	{424, "ModelErrorException" CORAL, MESSAGE("no"), PGL_CAUSE_SERVER_ERROR},
	{424, "ModelStreamErrorException" CORAL, MESSAGE("no"), PGL_CAUSE_SERVER_ERROR},
	{400, "ServiceQuotaExceededException" CORAL, MESSAGE("no"), PGL_CAUSE_QUOTA_EXHAUSTED},
	{400, "ConflictException" CORAL, MESSAGE("no"), PGL_CAUSE_BAD_REQUEST},
	{500, "InternalServerException" CORAL, MESSAGE("no"), PGL_CAUSE_SERVER_ERROR},
	{503, "ServiceUnavailableException" CORAL, MESSAGE("no"), PGL_CAUSE_UNAVAILABLE},
	/* the front end */
	{403, "ExpiredTokenException", MESSAGE("no"), PGL_CAUSE_AUTH},
	{403, "UnrecognizedClientException", MESSAGE("no"), PGL_CAUSE_AUTH},
	{403, "InvalidSignatureException", MESSAGE("no"), PGL_CAUSE_AUTH},
	{400, "IncompleteSignature", MESSAGE("no"), PGL_CAUSE_AUTH},
	{403, "MissingAuthenticationTokenException", MESSAGE("no"), PGL_CAUSE_AUTH},
	{400, "RequestExpired", MESSAGE("no"), PGL_CAUSE_AUTH},
	{403, "MPAgreementBeingCreated", MESSAGE("no"), PGL_CAUSE_NOT_FOUND},
	{404, "FTUFormNotFilled", MESSAGE("no"), PGL_CAUSE_NOT_FOUND},
	{404, "UnknownOperationException", MESSAGE("no"), PGL_CAUSE_NOT_FOUND},
	{400, "Throttling", MESSAGE("no"), PGL_CAUSE_THROTTLED},
	{500, "InternalFailure", MESSAGE("no"), PGL_CAUSE_SERVER_ERROR},
	{503, "ServiceUnavailable", MESSAGE("no"), PGL_CAUSE_UNAVAILABLE},
	/* no name: the status */
	{400, "", MESSAGE("no"), PGL_CAUSE_BAD_REQUEST},
	{401, "", MESSAGE("no"), PGL_CAUSE_AUTH},
	{403, "", "<html>Forbidden</html>", PGL_CAUSE_AUTH},
	{404, "", "", PGL_CAUSE_NOT_FOUND},
	{408, "", "", PGL_CAUSE_SERVER_ERROR},
	{413, "", "", PGL_CAUSE_BAD_REQUEST},
	{424, "", "", PGL_CAUSE_SERVER_ERROR},
	{429, "", "", PGL_CAUSE_THROTTLED},
	{500, "", "", PGL_CAUSE_SERVER_ERROR},
	{502, "", "<html>Bad Gateway</html>", PGL_CAUSE_SERVER_ERROR},
	{503, "", "<html>", PGL_CAUSE_UNAVAILABLE},
	{504, "", "[1", PGL_CAUSE_SERVER_ERROR},
	{599, "NeverHeardOfException", "{}", PGL_CAUSE_SERVER_ERROR},
	{301, "", "", PGL_CAUSE_SERVER_ERROR},
	{204, "", "", PGL_CAUSE_SERVER_ERROR},
	{0, "", "", PGL_CAUSE_SERVER_ERROR},
	/* the message */
	{429, "ThrottlingException", MESSAGE("Too many tokens, please wait before trying again."),
	 PGL_CAUSE_THROTTLED},
	{429, "ThrottlingException",
	 MESSAGE("Too many tokens per day, please wait before trying again."),
	 PGL_CAUSE_QUOTA_EXHAUSTED},
	{429, "", MESSAGE("Too many tokens per day, please wait before trying again."),
	 PGL_CAUSE_QUOTA_EXHAUSTED},
	{429, "", MESSAGE("Model is not ready for inference."), PGL_CAUSE_UNAVAILABLE},
	{400, "", MESSAGE("Too many tokens, please wait before trying again."), PGL_CAUSE_THROTTLED},
	{400, "ValidationException", MESSAGE("Input is too long for requested model."),
	 PGL_CAUSE_CONTEXT_TOO_LONG},
	{400, "ValidationException",
	 MESSAGE("The model returned the following errors: prompt is too long: 210000 tokens > 200000 "
			 "maximum"),
	 PGL_CAUSE_CONTEXT_TOO_LONG},
	{400, "ValidationException",
	 MESSAGE("input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000"),
	 PGL_CAUSE_CONTEXT_TOO_LONG},
	{400, "ValidationException", MESSAGE("This model's maximum context length is 8192 tokens."),
	 PGL_CAUSE_CONTEXT_TOO_LONG},
	{400, "ValidationException",
	 MESSAGE("Invocation of model ID x with on-demand throughput isn\\u2019t supported."),
	 PGL_CAUSE_NOT_FOUND},
	{400, "ValidationException", MESSAGE("The provided model identifier is invalid."),
	 PGL_CAUSE_NOT_FOUND},
	{503, "ServiceUnavailableException",
	 MESSAGE("Too many connections, please wait before trying again."), PGL_CAUSE_UNAVAILABLE},
	/* a name wins over a status that says something else */
	{500, "ThrottlingException", MESSAGE("no"), PGL_CAUSE_THROTTLED},
};

static void
test_error_causes(void)
{
	for (size_t i = 0; i < sizeof(error_cases) / sizeof(error_cases[0]); i++)
	{
		PglCause cause =
			cause_of(error_cases[i].status, error_cases[i].error_type, error_cases[i].body);

		if (cause != error_cases[i].cause)
			printf("#   %d %s %s\n", error_cases[i].status, error_cases[i].error_type,
				   error_cases[i].body);
		EXPECT_INT(cause, error_cases[i].cause);
	}
}

static void
expect_error(const char *error_type, const char *body, const char *name, const char *message)
{
	PglReply reply;

	read_reply(400, error_type, body, &reply);
	EXPECT_STR(reply.error_name, name);
	EXPECT_STR(reply.message, message);
	EXPECT_STR(reply.request_id, "req-1");
	pgl_reply_free(&reply);
}

static void
test_error_forms(void)
{
	expect_error("com.amazon.coral.service#XException:http://a#b/", MESSAGE("m"), "XException",
				 "m");
	expect_error("a#b#XException", "{\"Message\":\"M\"}", "XException", "M");
	expect_error("", "{\"__type\":\"com.amazon#YException\",\"message\":\"m\"}", "YException", "m");
	expect_error("", "{\"code\":\"ZException:uri\",\"message\":\"m\"}", "ZException", "m");
	expect_error("", "{\"Code\":\"ZException\",\"code\":7,\"message\":null,\"Message\":\"m\"}",
				 "ZException", "m");
	expect_error("X", "{\"code\":\"Y\",\"message\":\"line\\r\\nbreak\\u001b[0m\"}", "X",
				 "line  break [0m");
	expect_error("X", "{}", "X", "HTTP status 400 with no message");
	expect_error("X", "", "X", "HTTP status 400 with an empty body");
	expect_error("X", "<html>", "X", "HTTP status 400 with a body that is not valid JSON");
	expect_error("X", "{\"message\":\"cut off", "X",
				 "HTTP status 400 with a body that is not valid JSON");
	expect_error("X", "{\"message\":\"a\\u0000b\"}", "X",
				 "HTTP status 400 with a body that is not valid JSON");
	expect_error("#", "{\"message\":\"m\"}", "", "m");
	/* The rest of such a message quotes the request, session token included. */
	expect_error("InvalidSignatureException",
				 MESSAGE("The signature does not match.\\n\\nThe Canonical String\\n"
						 "x-amz-security-token:SECRET"),
				 "InvalidSignatureException", "The signature does not match.");
}

static void
test_retry_hints(void)
{
	PglHttpReply *http = make_http(429, "ThrottlingException", "{}", 2);
	PglReply reply;

	pgl_reply_init(&reply, 100);
	bedrock->read(http, &reply);
	EXPECT_INT(reply.retry_hint_us, -1);
	snprintf(http->retry_after, sizeof(http->retry_after), "2");
	bedrock->read(http, &reply);
	EXPECT_INT(reply.retry_hint_us, 2000000);
	snprintf(http->retry_after_ms, sizeof(http->retry_after_ms), "1500");
	bedrock->read(http, &reply);
	EXPECT_INT(reply.retry_hint_us, 1500000);
	snprintf(http->retry_after_ms, sizeof(http->retry_after_ms), "soon");
	bedrock->read(http, &reply);
	EXPECT_INT(reply.retry_hint_us, 2000000);
	pgl_reply_free(&reply);
	free_http(http);
}

/* A structure that held an answer must not lend anything to the next attempt. */
static void
test_reply_is_reused(void)
{
	const char *body = ANSWER("[{\"text\":\"Hi\"}]", "max_tokens", USAGE);
	PglHttpReply *good = make_http(200, "", body, strlen(body));
	PglHttpReply *bad = make_http(500, "", "", 0);
	PglReply reply;

	pgl_reply_init(&reply, 100);
	bedrock->read(good, &reply);
	bedrock->read(bad, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_SERVER_ERROR);
	EXPECT_STR(pgl_buf_str(&reply.text), "");
	EXPECT_STR(reply.finish_reason, "");
	EXPECT_INT(reply.usage.output_tokens, -1);
	bedrock->read(good, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	EXPECT_STR(pgl_buf_str(&reply.text), "Hi");
	EXPECT_STR(reply.error_name, "");
	EXPECT_STR(reply.message, "");
	pgl_reply_free(&reply);
	free_http(good);
	free_http(bad);
}

/* ---- parameters ---- */

static void
test_bedrock_parameters(void)
{
	static const char *const good[] = {
		"{}",
		" { } ",
		"{\"additional_model_request_fields\":{}}",
		"{\"request_metadata\":{\"a\":\"\"}}",
		"{\"service_tier\":\"reserved\",\"performance\":\"standard\"}",
		"{\"guardrail\":{\"id\":\"arn:aws:bedrock:x\",\"version\":\"DRAFT\"}}",
	};
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{",
		"{\"reply\":\"x\"}",
		"{\"additional_model_request_fields\":[]}",
		"{\"additional_model_request_fields\":null}",
		"{\"request_metadata\":{}}",
		"{\"request_metadata\":{\"a\":1}}",
		"{\"request_metadata\":\"a\"}",
		"{\"request_metadata\":{\"1\":\"\",\"2\":\"\",\"3\":\"\",\"4\":\"\",\"5\":\"\",\"6\":\"\","
		"\"7\":\"\",\"8\":\"\",\"9\":\"\",\"10\":\"\",\"11\":\"\",\"12\":\"\",\"13\":\"\","
		"\"14\":\"\",\"15\":\"\",\"16\":\"\",\"17\":\"\"}}",
		"{\"performance\":\"fast\"}",
		"{\"service_tier\":\"gold\"}",
		"{\"service_tier\":true}",
		"{\"guardrail\":\"gr1\"}",
		"{\"guardrail\":{\"id\":\"gr1\"}}",
		"{\"guardrail\":{\"id\":\"gr1\",\"version\":1}}",
		"{\"guardrail\":{\"id\":\"\",\"version\":\"1\"}}",
		"{\"guardrail\":{\"id\":\"a\",\"version\":\"1\",\"trace\":\"enabled\"}}",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		EXPECT_STR(bedrock->check_parameters(good[i]) == NULL ? good[i] : "", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		EXPECT_STR(bedrock->check_parameters(bad[i]) != NULL ? bad[i] : "", bad[i]);
}

static void
test_mock_parameters(void)
{
	static const char *const good[] = {
		"{}",
		"{\"reply\":\"\",\"echo\":false,\"latency_ms\":3600000,\"repeat\":true}",
		"{\"script\":[]}",
		"{\"script\":[\"ok\",\"throttled\",\"unavailable\",\"server_error\",\"connection\","
		"\"timeout\",\"context_too_long\",\"auth\",\"not_found\",\"quota_exhausted\",\"refusal\","
		"\"bad_request\",\"bad_reply\",\"length\",\"hang\"]}",
		"{\"retry_after_ms\":0,\"input_tokens\":1,\"output_tokens\":2,\"cache_read_tokens\":3,"
		"\"cache_write_tokens\":4,\"finish_reason\":\"stop\"}",
	};
	static const char *const bad[] = {
		"",
		"7",
		"{\"unknown\":1}",
		"{\"reply\":1}",
		"{\"reply\":null}",
		"{\"echo\":\"true\"}",
		"{\"latency_ms\":-1}",
		"{\"latency_ms\":1.5}",
		"{\"latency_ms\":\"1\"}",
		"{\"latency_ms\":3600001}",
		"{\"latency_ms\":99999999999999999999}",
		"{\"script\":\"ok\"}",
		"{\"script\":[\"OK\"]}",
		"{\"script\":[1]}",
		"{\"output_tokens\":true}",
		"{\"finish_reason\":[]}",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		EXPECT_STR(mock->check_parameters(good[i]) == NULL ? good[i] : "", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		EXPECT_STR(mock->check_parameters(bad[i]) != NULL ? bad[i] : "", bad[i]);
}

/* ---- mock ---- */

static int64_t
ask_mock(const char *parameters, const PglChatRequest *request, uint64_t ordinal, PglReply *reply)
{
	PglProviderTarget target = {"", NULL, "m", parameters};
	int64_t latency_us = -1;

	mock->answer(&target, request, ordinal, reply, &latency_us);
	return latency_us;
}

static void
expect_mock(const char *parameters, const PglChatRequest *request, const char *text,
			const char *finish_reason, int64_t input, int64_t output)
{
	PglReply reply;

	pgl_reply_init(&reply, 1000);
	ask_mock(parameters, request, 0, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	EXPECT_STR(pgl_buf_str(&reply.text), text);
	EXPECT_STR(reply.finish_reason, finish_reason);
	EXPECT_INT(reply.usage.input_tokens, input);
	EXPECT_INT(reply.usage.output_tokens, output);
	pgl_reply_free(&reply);
}

static void
test_mock_answers(void)
{
	PglChatRequest request = make_request("12345", "1234");

	expect_mock("{}", &request, "mock reply", "stop", 3, 3);
	expect_mock("{\"reply\":\"a\\n\\u00e9\"}", &request, "a\n\xC3\xA9", "stop", 3, 1);
	expect_mock("{\"reply\":\"\"}", &request, "", "stop", 3, 0);
	expect_mock("{\"echo\":true,\"reply\":\"x\"}", &request, "1234", "stop", 3, 1);
	expect_mock("{\"input_tokens\":7,\"output_tokens\":8}", &request, "mock reply", "stop", 7, 8);
	expect_mock("{\"finish_reason\":\"tool_use\"}", &request, "mock reply", "tool_use", 3, 3);
	expect_mock("{\"script\":[\"length\"]}", &request, "mock reply", "length", 3, 3);
	request.max_tokens = 2;
	expect_mock("{\"finish_reason\":\"stop\"}", &request, "mock rep", "length", 3, 2);
	request.max_tokens = 1;
	expect_mock("{\"reply\":\"abc\\u00e9\"}", &request, "abc", "length", 3, 1);
	expect_mock("{\"reply\":\"abcd\"}", &request, "abcd", "stop", 3, 1);
}

static void
test_mock_script(void)
{
	static const char *const words[] = {
		"ok",      "throttled",        "unavailable", "server_error", "connection",
		"timeout", "context_too_long", "auth",        "not_found",    "quota_exhausted",
		"refusal", "bad_request",      "bad_reply",   "length",       "hang"};
	static const PglCause causes[] = {PGL_CAUSE_NONE,
									  PGL_CAUSE_THROTTLED,
									  PGL_CAUSE_UNAVAILABLE,
									  PGL_CAUSE_SERVER_ERROR,
									  PGL_CAUSE_CONNECTION,
									  PGL_CAUSE_TIMEOUT,
									  PGL_CAUSE_CONTEXT_TOO_LONG,
									  PGL_CAUSE_AUTH,
									  PGL_CAUSE_NOT_FOUND,
									  PGL_CAUSE_QUOTA_EXHAUSTED,
									  PGL_CAUSE_REFUSAL,
									  PGL_CAUSE_BAD_REQUEST,
									  PGL_CAUSE_BAD_REPLY,
									  PGL_CAUSE_NONE,
									  PGL_CAUSE_NONE};
	PglChatRequest request = make_request(NULL, "x");
	PglReply reply;
	char parameters[100];

	pgl_reply_init(&reply, 1000);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		int64_t latency_us;

		snprintf(parameters, sizeof(parameters), "{\"script\":[\"%s\"],\"latency_ms\":5}",
				 words[i]);
		latency_us = ask_mock(parameters, &request, 0, &reply);
		EXPECT_INT(reply.cause, causes[i]);
		EXPECT((reply.cause == PGL_CAUSE_NONE) == (reply.message[0] == '\0'));
		EXPECT((reply.cause == PGL_CAUSE_NONE) == (reply.text.len > 0));
		EXPECT_INT(latency_us, strcmp(words[i], "hang") == 0 ? INT64_C(3600000000) : INT64_C(5000));
		ask_mock(parameters, &request, 1, &reply);
		EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	}
	pgl_reply_free(&reply);
}

static void
test_mock_ordinals(void)
{
	static const char *const once = "{\"script\":[\"throttled\",\"ok\",\"auth\"],"
									"\"retry_after_ms\":250}";
	static const char *const again = "{\"script\":[\"throttled\",\"ok\",\"auth\"],\"repeat\":true}";
	PglChatRequest request = make_request(NULL, "x");
	PglReply reply;

	pgl_reply_init(&reply, 1000);
	ask_mock(once, &request, 0, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_THROTTLED);
	EXPECT_STR(reply.error_name, "ThrottlingException");
	EXPECT_INT(reply.status, 429);
	EXPECT_INT(reply.retry_hint_us, 250000);
	EXPECT_INT(reply.usage.input_tokens, -1);
	ask_mock(once, &request, 2, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_AUTH);
	EXPECT_INT(reply.retry_hint_us, -1);
	ask_mock(once, &request, 3, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	ask_mock(again, &request, 3, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_THROTTLED);
	EXPECT_INT(reply.retry_hint_us, -1);
	ask_mock(again, &request, UINT64_MAX, &reply); /* 2^64 - 1 is a multiple of 3 */
	EXPECT_INT(reply.cause, PGL_CAUSE_THROTTLED);
	ask_mock("{\"script\":[],\"repeat\":true}", &request, 5, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_NONE);
	ask_mock("{\"nonsense\":1}", &request, 0, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_BAD_REQUEST);
	pgl_reply_free(&reply);
	pgl_reply_init(&reply, 5);
	ask_mock("{}", &request, 0, &reply);
	EXPECT_INT(reply.cause, PGL_CAUSE_SERVER_ERROR);
	pgl_reply_free(&reply);
}

static void
run(void (*test)(void), const char *text)
{
	unmet = 0;
	test();
	CHECK_INT(unmet, 0, "%s", text);
}

void
test_provider(void)
{
	unit_suite("provider");
	run(test_registry, "providers are found by name");
	run(test_headers, "headers are single lines, and not too many");
	run(test_copy_text, "foreign text is made harmless and cut at characters");
	run(test_message_is_clipped, "a long message is cut at a character");
	run(test_net_errors, "failures below HTTP become causes");
	run(test_golden_body, "golden bodies");
	run(test_decimals, "sampling values are exact decimals");
	run(test_parameters_in_body, "parameters of the target are passed on");
	run(test_refused_requests, "requests that cannot succeed are refused");
	run(test_request_too_large, "a request over the cap is refused");
	run(test_urls, "the model id is encoded once in the URL");
	run(test_signature_without_token, "worked signature, and re-signing leaves nothing behind");
	run(test_signature_with_token, "worked signature with session token and ARN");
	run(test_signature_failure, "a failed signature leaves the request unsigned");
	run(test_plain_answer, "a plain answer");
	run(test_blocks, "text and cited text are joined, other blocks skipped");
	run(test_stop_reasons, "stop reasons that are no answer drop the text");
	run(test_usage, "cached tokens are told apart, whichever way they are counted");
	run(test_damaged_answers, "damaged answers are server errors, cut off at any byte");
	run(test_nul_in_answer, "an escaped NUL is a bad reply with its usage");
	run(test_text_over_cap, "a text over the cap is refused");
	run(test_error_causes, "every modelled error has its cause");
	run(test_error_forms, "forms of error names and messages");
	run(test_retry_hints, "hints to wait");
	run(test_reply_is_reused, "a reused reply keeps nothing");
	run(test_bedrock_parameters, "parameters of bedrock are checked");
	run(test_mock_parameters, "parameters of mock are checked");
	run(test_mock_answers, "answers of mock");
	run(test_mock_script, "words of the script");
	run(test_mock_ordinals, "script by number of the attempt");
}
