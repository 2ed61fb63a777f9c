/*
 * fuzz_uri.c — endpoints that are accepted mean the same when written and read again; encoding can
 * be undone; valid names need no encoding that could surprise.
 */
#include "fuzz.h"

#include "uri.h"

static void
check_endpoint(const char *text)
{
	PglEndpoint endpoint;
	PglEndpoint again;
	const char *why = NULL;
	PglBuf base;

	if (!pgl_uri_parse_endpoint(text, &endpoint, &why))
	{
		REQUIRE(why != NULL);
		return;
	}
	REQUIRE(endpoint.port >= 1 && endpoint.port <= 65535 && endpoint.host[0] != '\0');
	REQUIRE(strpbrk(endpoint.host, "/\\@?#% \t\r\n") == NULL);
	REQUIRE(endpoint.host[0] == '[' || strchr(endpoint.host, ':') == NULL);
	pgl_buf_init(&base, 1000);
	pgl_uri_put_base(&base, &endpoint);
	REQUIRE(pgl_uri_parse_endpoint(pgl_buf_str(&base), &again, &why));
	REQUIRE(memcmp(&endpoint, &again, sizeof(endpoint)) == 0);
	pgl_buf_free(&base);
}

static int
hex_digit(char c)
{
	const char *digits = "0123456789ABCDEF";
	const char *found = c != '\0' ? strchr(digits, c) : NULL;

	REQUIRE(found != NULL);
	return (int) (found - digits);
}

static void
check_encoding(const uint8_t *data, size_t size)
{
	size_t done = 0;
	PglBuf out;

	pgl_buf_init(&out, size * 3);
	pgl_uri_encode_segment(&out, (const char *) data, size);
	REQUIRE(!out.failed);
	for (size_t i = 0; i < out.len; i++, done++)
	{
		int byte = (unsigned char) out.data[i];

		REQUIRE(byte != '/' && byte < 0x7F && byte > 0x20);
		if (byte == '%')
		{
			byte = hex_digit(out.data[i + 1]) * 16 + hex_digit(out.data[i + 2]);
			i += 2;
		}
		REQUIRE(done < size && byte == data[done]);
	}
	REQUIRE(done == size);
	pgl_buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = copy_text(data, size);
	PglEndpoint endpoint;
	PglEndpoint again;
	PglBuf base;

	check_endpoint(text);
	check_encoding(data, size);
	if (pgl_uri_model_id_valid(text))
		REQUIRE(strstr(text, "/../") == NULL && strcmp(text, "..") != 0 && strlen(text) <= 2048);
	if (pgl_uri_region_valid(text))
	{
		pgl_uri_bedrock_endpoint(text, &endpoint);
		pgl_buf_init(&base, 1000);
		pgl_uri_put_base(&base, &endpoint);
		REQUIRE(pgl_uri_parse_endpoint(pgl_buf_str(&base), &again, NULL));
		REQUIRE(memcmp(&endpoint, &again, sizeof(endpoint)) == 0);
		pgl_buf_free(&base);
	}
	free(text);
	return 0;
}
