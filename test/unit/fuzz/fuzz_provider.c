/*
 * fuzz_provider.c — libFuzzer target: whatever arrives over the wire, the reader of Bedrock's
 * replies ends with a cause, a text or none, and fields that are valid strings.
 *
 * Input: two bytes of status, then the error type up to a line feed, then the body.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* What every reader of a reply relies on. */
static void
check_reply(const PglReply *reply)
{
	require(reply->cause >= PGL_CAUSE_NONE && reply->cause < PGL_CAUSE_COUNT);
	require(memchr(reply->message, '\0', sizeof(reply->message)) != NULL);
	require(memchr(reply->error_name, '\0', sizeof(reply->error_name)) != NULL);
	require(memchr(reply->finish_reason, '\0', sizeof(reply->finish_reason)) != NULL);
	require(strpbrk(reply->message, "\r\n\t\x1b") == NULL);
	require(reply->usage.input_tokens >= -1 && reply->usage.output_tokens >= -1);
	require(reply->usage.cache_read_tokens >= -1 && reply->usage.cache_write_tokens >= -1);
	if (reply->cause == PGL_CAUSE_NONE)
	{
		require(reply->status == 200 && reply->message[0] == '\0');
		require(reply->text.len == 0 || strlen(reply->text.data) == reply->text.len);
	}
	else
		require(reply->text.len == 0 && reply->message[0] != '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PglHttpReply http;
	PglReply reply;
	size_t len = 0;

	if (size < 2)
		return 0;
	memset(&http, 0, sizeof(http));
	http.status = data[0] < 128 ? 200 : 100 + (data[0] * 256 + data[1]) % 500;
	data += 2;
	size -= 2;
	while (len < size && data[len] != '\n')
		len++;
	if (len < sizeof(http.error_type))
		memcpy(http.error_type, data, len);
	if (len < size)
		len++;
	pgl_buf_init(&http.body, 1 << 20);
	pgl_buf_append(&http.body, data + len, size - len);
	pgl_reply_init(&reply, 4096);
	pgl_provider_bedrock.read(&http, &reply);
	check_reply(&reply);
	pgl_reply_free(&reply);
	pgl_buf_free(&http.body);
	return 0;
}
