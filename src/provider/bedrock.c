/*
 * bedrock.c — Amazon Bedrock, operation Converse: the provider's table, and the signature.
 *
 * Bedrock authenticates with AWS Signature Version 4.  The service name is "bedrock" although the
 * host says bedrock-runtime.  All headers of the request are signed, and so is `host`, which
 * libcurl writes by itself with the very value of pgl_uri_put_authority.
 *
 * A signature is valid for five minutes and covers the time, so every attempt is signed anew, right
 * before it is sent.  The headers of a signature stand together at the end of the list, x-amz-date
 * first: dropping the old ones is cutting the list there.
 *
 * Secrets: the session token and the signature live in out->headers, which its owner wipes.
 */
#include "bedrock.h"

#include <string.h>

#include "../core/sigv4.h"

#define FIRST_SIGNATURE_HEADER "x-amz-date"
#define MAX_HEADER_NAME 64
#define MAX_AUTHORIZATION_BYTES 2048
#define MAX_AUTHORITY_BYTES 300

/* The header lines taken apart, as the signer wants them, and host. */
typedef struct SignedHeaders
{
	PglSigv4Header list[PGL_MAX_HEADERS + 1];
	char names[PGL_MAX_HEADERS][MAX_HEADER_NAME];
	int count;
} SignedHeaders;

static void
drop_signature(PglOutgoing *out)
{
	const char *lines[PGL_MAX_HEADERS];
	int count = pgl_outgoing_headers(out, lines);

	for (int i = 0; i < count; i++)
	{
		size_t keep = (size_t) (lines[i] - out->headers.data);

		if (strncmp(lines[i], FIRST_SIGNATURE_HEADER ":", strlen(FIRST_SIGNATURE_HEADER ":")) != 0)
			continue;
		memset(out->headers.data + keep, 0, out->headers.len - keep);
		out->headers.len = keep;
		out->nheaders = i;
		return;
	}
}

/* Take "name: value" lines apart.  False for a name that does not fit; ours all do. */
static bool
collect_headers(const PglOutgoing *out, const char *authority, SignedHeaders *signed_headers)
{
	const char *lines[PGL_MAX_HEADERS];
	int count = pgl_outgoing_headers(out, lines);

	for (int i = 0; i < count; i++)
	{
		const char *colon = strchr(lines[i], ':');
		size_t len = colon != NULL ? (size_t) (colon - lines[i]) : MAX_HEADER_NAME;

		if (len >= MAX_HEADER_NAME)
			return false;
		memcpy(signed_headers->names[i], lines[i], len);
		signed_headers->names[i][len] = '\0';
		signed_headers->list[i].name = signed_headers->names[i];
		signed_headers->list[i].value = colon + 2;
	}
	signed_headers->list[count].name = "host";
	signed_headers->list[count].value = authority;
	signed_headers->count = count + 1;
	return true;
}

static bool
compute_authorization(const PglProviderTarget *target, const PglCredential *credential,
					  const char *amz_date, const PglOutgoing *out, PglBuf *authorization)
{
	SignedHeaders headers;
	PglSigv4Request request = {0};
	PglBuf authority;
	bool ok;

	pgl_buf_init(&authority, MAX_AUTHORITY_BYTES);
	pgl_uri_put_authority(&authority, target->endpoint);
	ok = !authority.failed && collect_headers(out, pgl_buf_str(&authority), &headers);
	if (ok)
	{
		request.method = "POST";
		request.path = pgl_buf_str(&out->path);
		request.headers = headers.list;
		request.nheaders = headers.count;
		request.body = pgl_buf_str(&out->body);
		request.body_len = out->body.len;
		request.access_key = credential->access_key;
		request.secret_key = credential->secret_key;
		request.region = target->region;
		request.service = "bedrock";
		request.amz_date = amz_date;
		ok = pgl_sigv4_sign(&request, authorization, NULL);
	}
	pgl_buf_free(&authority);
	return ok;
}

/* Replace the signature's headers.  On failure the request is unsigned, not half signed. */
static bool
sign_request(const PglProviderTarget *target, const PglCredential *credential, int64_t unix_seconds,
			 PglOutgoing *out)
{
	char amz_date[PGL_SIGV4_DATE_SIZE];
	PglBuf authorization;
	bool ok;

	drop_signature(out);
	if (credential->access_key[0] == '\0' || credential->secret_key[0] == '\0')
		return false;
	pgl_buf_init(&authorization, MAX_AUTHORIZATION_BYTES);
	pgl_sigv4_format_date(unix_seconds, amz_date);
	ok = pgl_outgoing_add_header(out, FIRST_SIGNATURE_HEADER, amz_date);
	if (ok && credential->session_token[0] != '\0')
		ok = pgl_outgoing_add_header(out, "x-amz-security-token", credential->session_token);
	ok = ok && compute_authorization(target, credential, amz_date, out, &authorization);
	ok = ok && pgl_outgoing_add_header(out, "authorization", pgl_buf_str(&authorization));
	pgl_buf_wipe(&authorization);
	if (!ok)
		drop_signature(out);
	return ok;
}

const PglProvider pgl_provider_bedrock = {
	.name = "bedrock",
	.in_process = false,
	.needs_credential = true,
	.check_parameters = pgl_bedrock_check_parameters,
	.build = pgl_bedrock_build,
	.sign = sign_request,
	.read = pgl_bedrock_read,
	.answer = NULL,
};
