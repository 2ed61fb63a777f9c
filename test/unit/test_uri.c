/*
 * test_uri.c — encoding, model ids, Regions and endpoints.
 */
#include "unit.h"

#include <string.h>

#include "uri.h"

static void
test_encoding(void)
{
	char all[256];
	bool kept = true;
	PglBuf out;

	pgl_buf_init(&out, 4096);
	pgl_uri_encode_segment(&out, "anthropic.claude-v1:0/x~_", 25);
	CHECK_STR(pgl_buf_str(&out), "anthropic.claude-v1%3A0%2Fx~_", "one segment");
	pgl_buf_reset(&out);
	pgl_uri_encode_path(&out, "/model/a%3Ab", 12);
	CHECK_STR(pgl_buf_str(&out), "/model/a%253Ab", "a path is encoded once more");
	pgl_buf_reset(&out);
	for (int i = 0; i < 256; i++)
		all[i] = (char) i;
	pgl_uri_encode_segment(&out, all, sizeof(all));
	CHECK_INT((long long) out.len, 66 + 3 * 190, "66 characters are unreserved");
	for (size_t i = 0; i < out.len; i++)
		kept = kept && (unsigned char) out.data[i] > 0x20 && (unsigned char) out.data[i] < 0x7F;
	CHECK(kept && strstr(pgl_buf_str(&out), "%00%01") == out.data, "NUL and high bytes too");
	pgl_buf_free(&out);
}

static void
test_names(void)
{
	static const char *const good_models[] = {
		"anthropic.claude-3-haiku-20240307-v1:0",
		"global.anthropic.claude-sonnet-4-6",
		"arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123def456",
		"...",
		"a/..b",
	};
	static const char *const bad_models[] = {
		"", ".", "..", "../x", "x/..", "x/../y", "x/./y", "a b", "a%2Fb", "a?b", "a#b", "a\\b", "é",
	};
	static const char *const good_regions[] = {"us-east-1", "eusc-de-east-1", "x"};
	static const char *const bad_regions[] = {
		"",           "us_east_1", "us.east",
		"US-EAST-1",  "-us",       "us-",
		"us-east-1/", "a b",       "abcdefghijklmnopqrstuvwxyz0123456",
	};
	char longest[2050];

	for (size_t i = 0; i < COUNT_OF(good_models); i++)
		CHECK(pgl_uri_model_id_valid(good_models[i]), "model \"%s\"", good_models[i]);
	for (size_t i = 0; i < COUNT_OF(bad_models); i++)
		CHECK(!pgl_uri_model_id_valid(bad_models[i]), "not a model: \"%s\"", bad_models[i]);
	memset(longest, 'x', sizeof(longest));
	longest[2049] = '\0';
	CHECK(!pgl_uri_model_id_valid(longest), "2049 characters are too many");
	longest[2048] = '\0';
	CHECK(pgl_uri_model_id_valid(longest), "2048 are not");
	for (size_t i = 0; i < COUNT_OF(good_regions); i++)
		CHECK(pgl_uri_region_valid(good_regions[i]), "Region \"%s\"", good_regions[i]);
	for (size_t i = 0; i < COUNT_OF(bad_regions); i++)
		CHECK(!pgl_uri_region_valid(bad_regions[i]), "not a Region: \"%s\"", bad_regions[i]);
}

/* What the endpoint is written as again; NULL: refused. */
static const struct
{
	const char *text;
	const char *base;
} endpoints[] = {
	{"https://bedrock-runtime.us-east-1.amazonaws.com",
	 "https://bedrock-runtime.us-east-1.amazonaws.com"},
	{"HTTPS://Example.COM:443/", "https://example.com"},
	{"https://example.com:8443", "https://example.com:8443"},
	{"http://localhost", "http://localhost"},
	{"http://localhost:80", "http://localhost"},
	{"http://localhost:443", "http://localhost:443"},
	{"http://127.0.0.1:8080/", "http://127.0.0.1:8080"},
	{"http://my_service:1", "http://my_service:1"},
	{"https://[::1]:65535", "https://[::1]:65535"},
	{"https://[2001:DB8::A]", "https://[2001:db8::a]"},
	{"https://[::ffff:10.0.0.1]/", "https://[::ffff:10.0.0.1]"},
	{"", NULL},
	{"example.com", NULL},
	{"ftp://example.com", NULL},
	{"https:/example.com", NULL},
	{"https://", NULL},
	{"https:///", NULL},
	{"https://:443", NULL},
	{"https://user@example.com", NULL},
	{"https://user:pass@example.com", NULL},
	{"https://example.com@evil.example", NULL},
	{"https://example.com/path", NULL},
	{"https://example.com//", NULL},
	{"https://example.com?x", NULL},
	{"https://example.com/?x", NULL},
	{"https://example.com#x", NULL},
	{"https://example.com:", NULL},
	{"https://example.com:0", NULL},
	{"https://example.com:65536", NULL},
	{"https://example.com:000443", NULL},
	{"https://example.com:4a", NULL},
	{"https://example.com:-1", NULL},
	{"https://example.com:443:443", NULL},
	{"https://example..com", NULL},
	{"https://.example.com", NULL},
	{"https://example.com.", NULL},
	{"https://exa mple.com", NULL},
	{"https://example.com\n", NULL},
	{" https://example.com", NULL},
	{"https://example.com\\x", NULL},
	{"https://ex%61mple.com", NULL},
	{"https://ex\xC3\xA4mple.com", NULL},
	{"https://[::1", NULL},
	{"https://[]", NULL},
	{"https://[::1%25eth0]", NULL},
	{"https://[fe80::1%eth0]", NULL},
	{"https://[1.2.3.4]", NULL},
	{"https://[::1]x", NULL},
	{"https://[1:2:3:4:5:6:7:8:9]", NULL},
	{"https://[::::::::::::::::::::::::::::::::::::::::::::::::::::::::::]", NULL},
};

static void
test_endpoints(void)
{
	char longest[8 + 300];
	PglEndpoint endpoint;
	const char *why;
	PglBuf out;

	pgl_buf_init(&out, 1000);
	for (size_t i = 0; i < COUNT_OF(endpoints); i++)
	{
		bool ok;

		pgl_buf_reset(&out);
		why = NULL;
		ok = pgl_uri_parse_endpoint(endpoints[i].text, &endpoint, &why);
		if (ok)
			pgl_uri_put_base(&out, &endpoint);
		if (endpoints[i].base != NULL)
			CHECK_STR(pgl_buf_str(&out), endpoints[i].base, "endpoint %s", endpoints[i].text);
		else
			CHECK(!ok && why != NULL, "refused: \"%s\" (%s)", endpoints[i].text,
				  why != NULL ? why : "no reason");
	}
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "https://", 8);
	longest[8 + 254] = '\0';
	CHECK(!pgl_uri_parse_endpoint(longest, &endpoint, NULL), "a host of 254 characters is refused");
	longest[8 + 253] = '\0';
	CHECK(pgl_uri_parse_endpoint(longest, &endpoint, NULL), "one of 253 is not");

	CHECK(pgl_uri_parse_endpoint("https://h:8443", &endpoint, NULL) && endpoint.port == 8443 &&
			  endpoint.https,
		  "scheme and port are told");
	pgl_buf_reset(&out);
	pgl_uri_put_authority(&out, &endpoint);
	CHECK_STR(pgl_buf_str(&out), "h:8443", "authority as signed");
	pgl_buf_free(&out);
}

static void
test_bedrock_hosts(void)
{
	static const char *const hosts[][2] = {
		{"us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"},
		{"eu-west-3", "bedrock-runtime.eu-west-3.amazonaws.com"},
		{"us-gov-west-1", "bedrock-runtime.us-gov-west-1.amazonaws.com"},
		{"cn-north-1", "bedrock-runtime.cn-north-1.amazonaws.com.cn"},
		{"eusc-de-east-1", "bedrock-runtime.eusc-de-east-1.amazonaws.eu"},
		{"us-iso-east-1", "bedrock-runtime.us-iso-east-1.c2s.ic.gov"},
		{"us-isob-east-1", "bedrock-runtime.us-isob-east-1.sc2s.sgov.gov"},
		{"eu-isoe-west-1", "bedrock-runtime.eu-isoe-west-1.cloud.adc-e.uk"},
		{"us-isof-south-1", "bedrock-runtime.us-isof-south-1.csp.hci.ic.gov"},
		{"zz-new-1", "bedrock-runtime.zz-new-1.amazonaws.com"},
	};
	PglEndpoint endpoint;

	for (size_t i = 0; i < COUNT_OF(hosts); i++)
	{
		pgl_uri_bedrock_endpoint(hosts[i][0], &endpoint);
		CHECK_STR(endpoint.host, hosts[i][1], "host of %s", hosts[i][0]);
	}
	CHECK(endpoint.https && endpoint.port == 443, "over TLS");
}

void
test_uri(void)
{
	unit_suite("uri");
	test_encoding();
	test_names();
	test_endpoints();
	test_bedrock_hosts();
}
