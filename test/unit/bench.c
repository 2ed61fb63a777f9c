/*
 * bench.c — nanoseconds of the hot paths of src/core.
 *
 * CPU time, not elapsed time, and the fastest of many short trials, as the others only measure what
 * else the machine was doing.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "json.h"
#include "sigv4.h"
#include "uri.h"
#include "window.h"

#define TRIALS 30

static volatile int64_t sink; /* keeps results alive */

static int64_t
cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
measure(const char *name, void (*work)(void), int rounds)
{
	double best = 1e18;

	for (int try = 0; try < TRIALS; try++)
	{
		int64_t start = cpu_ns();
		double each;

		for (int i = 0; i < rounds; i++)
			work();
		each = (double) (cpu_ns() - start) / rounds;
		best = each < best ? each : best;
	}
	printf("%-44s %12.1f ns\n", name, best);
}

/* ---- JSON ---- */

static PglBuf reply;
static PglBuf chinese;
static PglBuf large;
static PglBuf text;

static void
make_reply(PglBuf *out, const char *piece, size_t text_len)
{
	pgl_buf_init(out, (size_t) 64 * 1024 * 1024);
	pgl_buf_append_str(out,
					   "{\"metrics\":{\"latencyMs\":1275},\"output\":{\"message\":{\"content\":"
					   "[{\"text\":\"");
	while (out->len < text_len)
		pgl_buf_append_str(out, piece);
	pgl_buf_append_str(out, "\"}],\"role\":\"assistant\"}},\"stopReason\":\"end_turn\",\"usage\":"
							"{\"cacheReadInputTokens\":0,\"cacheWriteInputTokens\":0,"
							"\"inputTokens\":30,\"outputTokens\":628,\"totalTokens\":658}}");
}

static void
read_member(PglJsonScan *scan, const PglJsonKey *key)
{
	PglJsonKey inner;
	int64_t tokens;

	if (pgl_json_key_is(key, "text") || pgl_json_key_is(key, "stopReason"))
		pgl_json_get_string(scan, &text);
	else if (pgl_json_key_is(key, "content"))
	{
		if (pgl_json_begin_array(scan))
		{
			while (pgl_json_next_element(scan))
			{
				if (pgl_json_begin_object(scan))
				{
					while (pgl_json_next_key(scan, &inner))
						read_member(scan, &inner);
				}
			}
		}
	}
	else if (pgl_json_key_is(key, "inputTokens") || pgl_json_key_is(key, "outputTokens"))
	{
		if (pgl_json_get_int(scan, &tokens))
			sink += tokens;
	}
	else if (pgl_json_key_is(key, "output") || pgl_json_key_is(key, "message") ||
			 pgl_json_key_is(key, "usage"))
	{
		if (pgl_json_begin_object(scan))
		{
			while (pgl_json_next_key(scan, &inner))
				read_member(scan, &inner);
		}
	}
	else
		pgl_json_skip(scan);
}

static void
scan_reply(const PglBuf *json)
{
	PglJsonScan scan;
	PglJsonKey key;

	pgl_buf_reset(&text);
	pgl_json_scan_init(&scan, json->data, json->len);
	if (pgl_json_begin_object(&scan))
	{
		while (pgl_json_next_key(&scan, &key))
			read_member(&scan, &key);
	}
	sink += pgl_json_finish(&scan);
}

static void
scan_small_reply(void)
{
	scan_reply(&reply);
}

static void
scan_chinese_reply(void)
{
	scan_reply(&chinese);
}

static void
scan_large_reply(void)
{
	scan_reply(&large);
}

static void
put_prompt(void)
{
	static PglBuf out;

	if (out.max == 0)
		pgl_buf_init(&out, 1 << 20);
	pgl_buf_reset(&out);
	pgl_json_put_string(&out, reply.data, reply.len);
	sink += (int64_t) out.len;
}

/* ---- signing ---- */

static char body[4096];

static void
sign_body(size_t len)
{
	static const PglSigv4Header headers[] = {
		{"content-type", "application/json"},
		{"host", "bedrock-runtime.us-east-1.amazonaws.com"},
		{"x-amz-date", "20150830T123600Z"},
	};
	PglSigv4Request request = {
		.method = "POST",
		.path = "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
		.headers = headers,
		.nheaders = 3,
		.body = body,
		.body_len = len,
		.access_key = "AKIDEXAMPLE",
		.secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		.region = "us-east-1",
		.service = "bedrock",
		.amz_date = "20150830T123600Z",
	};
	static PglBuf authorization;

	if (authorization.max == 0)
		pgl_buf_init(&authorization, 4096);
	pgl_buf_reset(&authorization);
	sink += pgl_sigv4_sign(&request, &authorization, NULL);
}

static void
hash_1k(void)
{
	char hash[65];

	pgl_sigv4_sha256_hex(body, 1024, hash);
	sink += hash[0];
}

static void
hash_nothing(void)
{
	char hash[65];

	pgl_sigv4_sha256_hex(body, 0, hash);
	sink += hash[0];
}

static void
sign_1k(void)
{
	sign_body(1024);
}

static void
sign_4k(void)
{
	sign_body(4096);
}

static void
sign_with_new_key(void)
{
	pgl_sigv4_forget_keys();
	sign_body(1024);
}

static void
encode_model(void)
{
	static PglBuf out;

	if (out.max == 0)
		pgl_buf_init(&out, 4096);
	pgl_buf_reset(&out);
	pgl_uri_encode_segment(&out, "anthropic.claude-3-haiku-20240307-v1:0", 38);
	sink += (int64_t) out.len;
}

/* ---- limits ---- */

static PglWindow bucket;
static PglWindow strict;
static int64_t clock_us = 1000000;

static void
admit(PglWindow *window)
{
	clock_us += 7;
	if (pgl_window_wait(window, 3, clock_us) == 0)
	{
		PglWindowStamp stamp = pgl_window_take(window, 3, clock_us);

		pgl_window_settle(window, stamp, 3, 2, clock_us);
	}
	else
		sink++;
}

static void
admit_bucket(void)
{
	admit(&bucket);
}

static void
admit_strict(void)
{
	admit(&strict);
}

static void
refuse_strict(void)
{
	sink += pgl_window_wait(&strict, 10000000000, clock_us);
}

int
main(void)
{
	pgl_buf_init(&text, (size_t) 64 * 1024 * 1024);
	make_reply(&reply, "The review praises the battery\\nand the screen. ", 400);
	make_reply(&chinese, "\xE8\xBF\x99\xE6\x98\xAF\xE4\xB8\x80\xE4\xB8\xAA\xE6\xB5\x8B\xE8\xAF\x95",
			   400);
	make_reply(&large, "The review praises the battery\\nand the screen. ", 20 * 1024 * 1024);
	pgl_window_init(&bucket, PGL_WINDOW_BUCKET, 10000000000, 10000000000, 60000000, clock_us);
	pgl_window_init(&strict, PGL_WINDOW_STRICT, 10000000000, 10000000000, 60000000, clock_us);
	memset(body, 'x', sizeof(body));

	printf("Converse reply of %zu bytes\n", reply.len);
	measure("json: read reply", scan_small_reply, 20000);
	measure("json: read reply, Chinese text", scan_chinese_reply, 20000);
	measure("json: read reply of 20 MB", scan_large_reply, 1);
	measure("json: write the reply as a string", put_prompt, 20000);
	measure("sigv4: hash nothing", hash_nothing, 5000);
	measure("sigv4: hash 1 KB", hash_1k, 5000);
	measure("sigv4: sign 1 KB", sign_1k, 5000);
	measure("sigv4: sign 4 KB", sign_4k, 5000);
	measure("sigv4: sign 1 KB, key not cached", sign_with_new_key, 2000);
	measure("uri: encode a model id", encode_model, 50000);
	measure("window: wait + take + settle, bucket", admit_bucket, 50000);
	measure("window: wait + take + settle, strict", admit_strict, 50000);
	measure("window: refuse, strict", refuse_strict, 50000);
	return 0;
}
