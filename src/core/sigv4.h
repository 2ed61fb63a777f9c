/*
 * sigv4.h — AWS Signature Version 4 for one HTTP request.
 *
 * The rules are AWS's "Signature Version 4 signing process": six-part canonical request, string to
 * sign, four-step key.  For every service but S3 the canonical path is the path on the wire encoded
 * once more.  The caller lists every header to sign, host and x-amz-date included; names are lower
 * case.  Sign right before sending: a signature is valid for five minutes.
 *
 * Signing keys are cached (secret, date, Region, service -> key) in a small static table; the table
 * is process-local and holds derived keys only, which is why it may outlive a call.
 */
#ifndef PGL_CORE_SIGV4_H
#define PGL_CORE_SIGV4_H

#include <stdint.h>

#include "buf.h"

#define PGL_SIGV4_DATE_SIZE 17 /* YYYYMMDD'T'HHMMSS'Z' and the NUL */
#define PGL_SIGV4_MAX_HEADERS 32
#define PGL_SIGV4_MAX_PARAMS 32 /* in the query */

typedef struct PglSigv4Header
{
	const char *name; /* lower case */
	const char *value;
} PglSigv4Header;

typedef struct PglSigv4Request
{
	const char *method;
	const char *path;  /* as on the wire */
	const char *query; /* as on the wire, without '?'; NULL or "" for none */
	const PglSigv4Header *headers;
	int nheaders;
	const char *body;
	size_t body_len;
	const char *access_key;
	const char *secret_key;
	const char *region;
	const char *service;
	const char *amz_date; /* from pgl_sigv4_format_date */
	bool keep_path;       /* true: do not normalise dot segments and slashes (tests of the suite) */
} PglSigv4Request;

/* Intermediate products, for tests; any buffer may be NULL. */
typedef struct PglSigv4Trace
{
	PglBuf *canonical_request;
	PglBuf *string_to_sign;
	char signature[65];
} PglSigv4Trace;

extern void pgl_sigv4_format_date(int64_t unix_seconds, char out[PGL_SIGV4_DATE_SIZE]);
/*
 * Append the value of the Authorization header.  False on OpenSSL failure, a full buffer, or more
 * headers or parameters than the limits above.
 */
extern bool
pgl_sigv4_sign(const PglSigv4Request *request, PglBuf *authorization, PglSigv4Trace *trace);
/* Empty text if OpenSSL fails. */
extern void pgl_sigv4_sha256_hex(const void *bytes, size_t len, char out[65]);
extern void pgl_sigv4_forget_keys(void); /* wipe the key cache */

#endif
