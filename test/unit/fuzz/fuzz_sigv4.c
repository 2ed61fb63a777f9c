/*
 * fuzz_sigv4.c — canonical requests of arbitrary paths, queries and headers.
 *
 * The lines of the input are path, query, header values; what follows an empty line is the body.
 */
#include "fuzz.h"

#include "sigv4.h"

#define OUT_MAX ((size_t) 256 * 1024)

static const char *const header_names[] = {"host",         "x-amz-date", "content-type",
										   "x-amz-target", "accept",     "accept"};

#define MAX_HEADERS ((int) (sizeof(header_names) / sizeof(header_names[0])))

/* Cut the next line off. */
static char *
next_line(char **rest)
{
	char *line = *rest;
	char *newline = strchr(line, '\n');

	*rest = newline != NULL ? newline + 1 : line + strlen(line);
	if (newline != NULL)
		*newline = '\0';
	return line;
}

/* The path is absolute and has neither empty nor dot segments, only unreserved bytes and escapes.
 */
static void
check_path(const char *path, size_t len)
{
	REQUIRE(len > 0 && path[0] == '/');
	for (size_t i = 0; i < len; i++)
	{
		size_t segment;

		REQUIRE(path[i] > 0x20 && path[i] < 0x7F && path[i] != '?' && path[i] != ':');
		if (path[i] != '/')
			continue;
		segment = strcspn(path + i + 1, "/\n");
		REQUIRE(segment > 0 || i + 1 == len);
		REQUIRE(!(segment == 1 && path[i + 1] == '.'));
		REQUIRE(!(segment == 2 && path[i + 1] == '.' && path[i + 2] == '.'));
	}
}

/*
 * Parameters are in order, and each has one '='.  Ordering whole parameters would not do: '=' sorts
 * above '-'.
 */
static void
check_query(const char *query, size_t len)
{
	const char *last = NULL;
	size_t last_len = 0;
	size_t pos = 0;

	while (pos < len)
	{
		const char *param = query + pos;
		size_t name_len = strcspn(param, "=&\n");
		size_t param_len = strcspn(param, "&\n");
		size_t shorter = name_len < last_len ? name_len : last_len;

		REQUIRE(param[name_len] == '=' &&
				memchr(param + name_len + 1, '=', param_len - name_len - 1) == NULL);
		if (last != NULL)
		{
			int order = memcmp(last, param, shorter);

			REQUIRE(order < 0 || (order == 0 && last_len <= name_len));
		}
		last = param;
		last_len = name_len;
		pos += param_len + 1;
	}
}

static void
check_canonical(const char *canonical)
{
	const char *path = strchr(canonical, '\n') + 1;
	size_t path_len = strcspn(path, "\n");
	const char *query = path + path_len + 1;
	size_t query_len = strcspn(query, "\n");
	int lines = 0;

	check_path(path, path_len);
	check_query(query, query_len);
	for (const char *c = canonical; *c != '\0'; c++)
		lines += *c == '\n';
	/* method, path, query, one line per header name, blank, names; the hash has no newline */
	REQUIRE(lines >= 5 && lines <= 5 + MAX_HEADERS);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = copy_text(data, size);
	PglSigv4Header headers[MAX_HEADERS];
	PglSigv4Trace trace = {NULL, NULL, ""};
	PglSigv4Request request = {.method = "POST",
							   .headers = headers,
							   .access_key = "AKIDEXAMPLE",
							   .secret_key = "secret",
							   .region = "us-east-1",
							   .service = "bedrock",
							   .amz_date = "20150830T123600Z"};
	char first[65];
	char *rest = text;
	PglBuf authorization;
	PglBuf canonical;

	pgl_buf_init(&authorization, OUT_MAX);
	pgl_buf_init(&canonical, OUT_MAX);
	trace.canonical_request = &canonical;
	request.path = next_line(&rest);
	request.query = next_line(&rest);
	while (request.nheaders < MAX_HEADERS && *rest != '\n' && *rest != '\0')
	{
		headers[request.nheaders].name = header_names[request.nheaders];
		headers[request.nheaders++].value = next_line(&rest);
	}
	request.body = rest;
	request.body_len = strlen(rest);
	if (pgl_sigv4_sign(&request, &authorization, &trace))
	{
		check_canonical(pgl_buf_str(&canonical));
		REQUIRE(strlen(trace.signature) == 64);
		memcpy(first, trace.signature, sizeof(first));
		pgl_buf_reset(&authorization);
		request.keep_path = false;
		REQUIRE(pgl_sigv4_sign(&request, &authorization, &trace));
		REQUIRE(strcmp(first, trace.signature) == 0);
		request.keep_path = true;
		REQUIRE(pgl_sigv4_sign(&request, &authorization, NULL));
	}
	pgl_buf_free(&authorization);
	pgl_buf_free(&canonical);
	free(text);
	return 0;
}
