/*
 * sigv4.c — AWS Signature Version 4 for one HTTP request.
 *
 * Three texts lead to the signature.  The canonical request is the HTTP request in a form both
 * sides can derive: method, path, query, headers, names of the headers, hash of the body.  The
 * string to sign names the algorithm, the time, the scope (date, Region, service) and the hash of
 * the canonical request.  The signature is its HMAC under a key derived from secret and scope.
 *
 * What goes wrong in practice: the path is encoded a second time (a model id's ':' is %3A on the
 * wire and %253A here), query parameters are sorted after encoding, headers by name alone, and the
 * body hashed must be the very bytes sent.
 *
 * OpenSSL objects are fetched once per process and reused: in OpenSSL 3 an implicit fetch costs
 * more than hashing a small request.  The texts hold the session token and are wiped, as are all
 * keys.
 */
#include "sigv4.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "uri.h"

#define SHA256_SIZE 32
#define CANONICAL_MAX ((size_t) 1024 * 1024)
#define KEY_CACHE_SIZE 8

/* ---- hashing ---- */

static EVP_MD *sha256_algorithm = NULL;
static EVP_MD_CTX *sha256_context = NULL;
static EVP_MAC_CTX *hmac_context = NULL;

static bool
prepare_sha256(void)
{
	if (sha256_context != NULL)
		return true;
	if (sha256_algorithm == NULL)
		sha256_algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (sha256_algorithm != NULL)
		sha256_context = EVP_MD_CTX_new();
	return sha256_context != NULL;
}

/* The context keeps its digest, so that later calls only set a key. */
static bool
prepare_hmac(void)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[2];
	EVP_MAC_CTX *context;
	EVP_MAC *algorithm;

	if (hmac_context != NULL)
		return true;
	algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (algorithm == NULL)
		return false;
	context = EVP_MAC_CTX_new(algorithm);
	EVP_MAC_free(algorithm); /* the context holds its own reference */
	if (context == NULL)
		return false;
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
	params[1] = OSSL_PARAM_construct_end();
	if (EVP_MAC_CTX_set_params(context, params) != 1)
	{
		EVP_MAC_CTX_free(context);
		return false;
	}
	hmac_context = context;
	return true;
}

static bool
compute_sha256(const void *bytes, size_t len, unsigned char out[SHA256_SIZE])
{
	return prepare_sha256() && EVP_DigestInit_ex2(sha256_context, sha256_algorithm, NULL) == 1 &&
		   EVP_DigestUpdate(sha256_context, bytes, len) == 1 &&
		   EVP_DigestFinal_ex(sha256_context, out, NULL) == 1;
}

static bool
compute_hmac(const void *key, size_t key_len, const char *text, size_t len,
			 unsigned char out[SHA256_SIZE])
{
	size_t out_len = 0;

	return prepare_hmac() && EVP_MAC_init(hmac_context, key, key_len, NULL) == 1 &&
		   EVP_MAC_update(hmac_context, (const unsigned char *) text, len) == 1 &&
		   EVP_MAC_final(hmac_context, out, &out_len, SHA256_SIZE) == 1 && out_len == SHA256_SIZE;
}

static void
write_hex(const unsigned char hash[SHA256_SIZE], char out[65])
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < SHA256_SIZE; i++)
	{
		out[i * 2] = hex[hash[i] >> 4];
		out[i * 2 + 1] = hex[hash[i] & 15];
	}
	out[64] = '\0';
}

void
pgl_sigv4_sha256_hex(const void *bytes, size_t len, char out[65])
{
	unsigned char hash[SHA256_SIZE];

	out[0] = '\0';
	if (compute_sha256(bytes, len, hash))
		write_hex(hash, out);
}

/* ---- signing keys ---- */

typedef struct SigningKey
{
	bool used;
	unsigned char fingerprint[SHA256_SIZE]; /* of secret, date, Region and service */
	unsigned char key[SHA256_SIZE];
} SigningKey;

static SigningKey key_cache[KEY_CACHE_SIZE];
static int key_cache_next = 0;

/* The HMAC context remembers its last key, so it goes too. */
void
pgl_sigv4_forget_keys(void)
{
	EVP_MAC_CTX_free(hmac_context);
	hmac_context = NULL;
	OPENSSL_cleanse(key_cache, sizeof(key_cache));
	key_cache_next = 0;
}

/* kDate, kRegion, kService, kSigning: each HMAC is the key of the next. */
static bool
derive_key(const PglSigv4Request *request, unsigned char key[SHA256_SIZE])
{
	PglBuf start;
	bool ok;

	pgl_buf_init(&start, CANONICAL_MAX);
	pgl_buf_append_str(&start, "AWS4");
	pgl_buf_append_str(&start, request->secret_key);
	ok = !start.failed && compute_hmac(start.data, start.len, request->amz_date, 8, key) &&
		 compute_hmac(key, SHA256_SIZE, request->region, strlen(request->region), key) &&
		 compute_hmac(key, SHA256_SIZE, request->service, strlen(request->service), key) &&
		 compute_hmac(key, SHA256_SIZE, "aws4_request", 12, key);
	pgl_buf_wipe(&start);
	return ok;
}

/* The NUL of each part keeps ("ab", "c") apart from ("a", "bc"). */
static bool
compute_fingerprint(const PglSigv4Request *request, unsigned char out[SHA256_SIZE])
{
	return prepare_sha256() && EVP_DigestInit_ex2(sha256_context, sha256_algorithm, NULL) == 1 &&
		   EVP_DigestUpdate(sha256_context, request->secret_key, strlen(request->secret_key) + 1) ==
			   1 &&
		   EVP_DigestUpdate(sha256_context, request->region, strlen(request->region) + 1) == 1 &&
		   EVP_DigestUpdate(sha256_context, request->service, strlen(request->service) + 1) == 1 &&
		   EVP_DigestUpdate(sha256_context, request->amz_date, 8) == 1 &&
		   EVP_DigestFinal_ex(sha256_context, out, NULL) == 1;
}

/* The signing key, from the cache or derived into its oldest entry; NULL if OpenSSL fails. */
static const unsigned char *
find_signing_key(const PglSigv4Request *request)
{
	unsigned char fingerprint[SHA256_SIZE];
	SigningKey *entry;

	if (!compute_fingerprint(request, fingerprint))
		return NULL;
	for (entry = key_cache; entry < key_cache + KEY_CACHE_SIZE; entry++)
	{
		if (entry->used && memcmp(entry->fingerprint, fingerprint, SHA256_SIZE) == 0)
			return entry->key;
	}
	entry = &key_cache[key_cache_next];
	entry->used = false;
	if (!derive_key(request, entry->key))
		return NULL;
	memcpy(entry->fingerprint, fingerprint, SHA256_SIZE);
	entry->used = true;
	key_cache_next = (key_cache_next + 1) % KEY_CACHE_SIZE;
	return entry->key;
}

/* ---- canonical path ---- */

/* Take back the last segment appended since `base`, together with its slash. */
static void
drop_last_segment(PglBuf *out, size_t base)
{
	while (out->len > base && out->data[--out->len] != '/')
		;
	if (out->data != NULL)
		out->data[out->len] = '\0';
}

/*
 * Encode the path segment by segment, leaving empty ones and "." out and letting ".." remove the
 * one before it.  A slash at the end stays, if there is anything before it.
 */
static void
put_normalized_path(PglBuf *out, const char *path)
{
	size_t base = out->len;
	const char *pos = path;
	char last = '/';

	while (*pos != '\0')
	{
		size_t len = strcspn(pos, "/");

		if (len == 2 && memcmp(pos, "..", 2) == 0)
			drop_last_segment(out, base);
		else if (len > 0 && !(len == 1 && *pos == '.'))
		{
			pgl_buf_append_char(out, '/');
			pgl_uri_encode_segment(out, pos, len);
		}
		last = pos[len];
		pos += len + (last == '/' ? 1 : 0);
	}
	if (last == '/' || out->len == base)
		pgl_buf_append_char(out, '/');
}

static void
put_canonical_path(PglBuf *out, const PglSigv4Request *request)
{
	const char *path = request->path == NULL ? "" : request->path;

	if (!request->keep_path || *path == '\0')
		put_normalized_path(out, path);
	else
		pgl_uri_encode_path(out, path, strlen(path));
}

/* ---- canonical query ---- */

typedef struct QueryParam
{
	size_t name; /* offsets into the buffer of encoded parts */
	size_t name_len;
	size_t value;
	size_t value_len;
} QueryParam;

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Append a name or value in canonical encoding.  The query on the wire is encoded already, in one
 * of several ways; the server decodes and encodes it anew, and so do we.  A lone % stands for
 * itself.
 */
static size_t
put_query_part(PglBuf *out, const char *text, size_t len)
{
	size_t start = out->len;
	size_t i = 0;

	while (i < len)
	{
		int high = i + 2 < len && text[i] == '%' ? hex_value(text[i + 1]) : -1;
		int low = high >= 0 ? hex_value(text[i + 2]) : -1;
		char c = low >= 0 ? (char) (high * 16 + low) : text[i];

		pgl_uri_encode_segment(out, &c, 1);
		i += low >= 0 ? 3 : 1;
	}
	return out->len - start;
}

static int
compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order != 0)
		return order;
	return a_len < b_len ? -1 : a_len > b_len;
}

/* Order by encoded name, then by encoded value. */
static int
compare_params(const char *parts, const QueryParam *a, const QueryParam *b)
{
	int order = compare_bytes(parts + a->name, a->name_len, parts + b->name, b->name_len);

	if (order != 0)
		return order;
	return compare_bytes(parts + a->value, a->value_len, parts + b->value, b->value_len);
}

/* Insertion sort: a handful of parameters, and no callback without context as in qsort. */
static void
sort_params(const char *parts, QueryParam *params, int count)
{
	for (int i = 1; i < count; i++)
	{
		QueryParam moving = params[i];
		int j;

		for (j = i; j > 0 && compare_params(parts, &moving, &params[j - 1]) < 0; j--)
			params[j] = params[j - 1];
		params[j] = moving;
	}
}

/* Split at '&' and encode.  Number of parameters, or -1 if there are too many. */
static int
split_query(const char *query, PglBuf *parts, QueryParam *params)
{
	int count = 0;

	while (*query != '\0')
	{
		size_t len = strcspn(query, "&");
		const char *equals = memchr(query, '=', len);
		size_t name_len = equals != NULL ? (size_t) (equals - query) : len;
		QueryParam *param = &params[count];

		if (len > 0)
		{
			if (count >= PGL_SIGV4_MAX_PARAMS)
				return -1;
			param->name = parts->len;
			param->name_len = put_query_part(parts, query, name_len);
			param->value = parts->len;
			param->value_len =
				equals != NULL ? put_query_part(parts, equals + 1, len - name_len - 1) : 0;
			count++;
		}
		query += len + (query[len] == '&' ? 1 : 0);
	}
	return count;
}

static bool
put_canonical_query(PglBuf *out, const char *query)
{
	QueryParam params[PGL_SIGV4_MAX_PARAMS];
	PglBuf parts;
	bool ok;
	int count;

	if (query == NULL || *query == '\0')
		return true;
	pgl_buf_init(&parts, CANONICAL_MAX);
	count = split_query(query, &parts, params);
	ok = count >= 0 && !parts.failed;
	if (ok)
		sort_params(pgl_buf_str(&parts), params, count);
	for (int i = 0; ok && i < count; i++)
	{
		if (i > 0)
			pgl_buf_append_char(out, '&');
		pgl_buf_append(out, pgl_buf_str(&parts) + params[i].name, params[i].name_len);
		pgl_buf_append_char(out, '=');
		pgl_buf_append(out, pgl_buf_str(&parts) + params[i].value, params[i].value_len);
	}
	pgl_buf_free(&parts);
	return ok;
}

/* ---- canonical headers ---- */

#define BLANKS " \t\n\v\f\r"

/* Append the value without white space around it and with inner runs of it as one space. */
static void
put_header_value(PglBuf *out, const char *value)
{
	const char *pos = value;
	bool first = true;

	for (;;)
	{
		const char *word;

		pos += strspn(pos, BLANKS);
		if (*pos == '\0')
			return;
		if (!first)
			pgl_buf_append_char(out, ' ');
		first = false;
		word = pos;
		pos += strcspn(pos, BLANKS);
		pgl_buf_append(out, word, (size_t) (pos - word));
	}
}

/* Sort by name only: headers of one name stay in the order sent. */
static bool
sort_headers(const PglSigv4Request *request, const PglSigv4Header **sorted)
{
	if (request->nheaders > PGL_SIGV4_MAX_HEADERS)
		return false;
	for (int i = 0; i < request->nheaders; i++)
	{
		int j;

		for (j = i; j > 0 && strcmp(request->headers[i].name, sorted[j - 1]->name) < 0; j--)
			sorted[j] = sorted[j - 1];
		sorted[j] = &request->headers[i];
	}
	return true;
}

static bool
same_name(const PglSigv4Header **sorted, int i)
{
	return i > 0 && strcmp(sorted[i]->name, sorted[i - 1]->name) == 0;
}

static void
put_canonical_headers(PglBuf *out, const PglSigv4Header **sorted, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (same_name(sorted, i))
			pgl_buf_append_char(out, ',');
		else
		{
			if (i > 0)
				pgl_buf_append_char(out, '\n');
			pgl_buf_append_str(out, sorted[i]->name);
			pgl_buf_append_char(out, ':');
		}
		put_header_value(out, sorted[i]->value);
	}
	pgl_buf_append_char(out, '\n');
}

static void
put_signed_names(PglBuf *out, const PglSigv4Header **sorted, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (same_name(sorted, i))
			continue;
		if (i > 0)
			pgl_buf_append_char(out, ';');
		pgl_buf_append_str(out, sorted[i]->name);
	}
}

/* ---- the three texts ---- */

static bool
put_canonical_request(PglBuf *out, const PglSigv4Request *request, const PglSigv4Header **sorted)
{
	char body_hash[65];

	pgl_sigv4_sha256_hex(request->body, request->body_len, body_hash);
	if (body_hash[0] == '\0')
		return false;
	pgl_buf_append_str(out, request->method);
	pgl_buf_append_char(out, '\n');
	put_canonical_path(out, request);
	pgl_buf_append_char(out, '\n');
	if (!put_canonical_query(out, request->query))
		return false;
	pgl_buf_append_char(out, '\n');
	put_canonical_headers(out, sorted, request->nheaders);
	pgl_buf_append_char(out, '\n');
	put_signed_names(out, sorted, request->nheaders);
	pgl_buf_append_char(out, '\n');
	pgl_buf_append(out, body_hash, 64);
	return !out->failed;
}

/* date/region/service/aws4_request */
static void
put_scope(PglBuf *out, const PglSigv4Request *request)
{
	pgl_buf_append(out, request->amz_date, 8);
	pgl_buf_append_char(out, '/');
	pgl_buf_append_str(out, request->region);
	pgl_buf_append_char(out, '/');
	pgl_buf_append_str(out, request->service);
	pgl_buf_append_str(out, "/aws4_request");
}

static bool
put_string_to_sign(PglBuf *out, const PglSigv4Request *request, const PglBuf *canonical)
{
	char hash[65];

	pgl_sigv4_sha256_hex(canonical->data, canonical->len, hash);
	if (hash[0] == '\0')
		return false;
	pgl_buf_append_str(out, "AWS4-HMAC-SHA256\n");
	pgl_buf_append_str(out, request->amz_date);
	pgl_buf_append_char(out, '\n');
	put_scope(out, request);
	pgl_buf_append_char(out, '\n');
	pgl_buf_append(out, hash, 64);
	return !out->failed;
}

static bool
compute_signature(const PglSigv4Request *request, const PglBuf *string_to_sign, char out[65])
{
	const unsigned char *key = find_signing_key(request);
	unsigned char mac[SHA256_SIZE];

	if (key == NULL ||
		!compute_hmac(key, SHA256_SIZE, string_to_sign->data, string_to_sign->len, mac))
		return false;
	write_hex(mac, out);
	return true;
}

static void
put_authorization(PglBuf *out, const PglSigv4Request *request, const PglSigv4Header **sorted,
				  const char *signature)
{
	pgl_buf_append_str(out, "AWS4-HMAC-SHA256 Credential=");
	pgl_buf_append_str(out, request->access_key);
	pgl_buf_append_char(out, '/');
	put_scope(out, request);
	pgl_buf_append_str(out, ", SignedHeaders=");
	put_signed_names(out, sorted, request->nheaders);
	pgl_buf_append_str(out, ", Signature=");
	pgl_buf_append_str(out, signature);
}

static void
copy_trace(PglSigv4Trace *trace, const PglBuf *canonical, const PglBuf *string_to_sign,
		   const char *signature)
{
	if (trace == NULL)
		return;
	if (trace->canonical_request != NULL)
		pgl_buf_append(trace->canonical_request, canonical->data, canonical->len);
	if (trace->string_to_sign != NULL)
		pgl_buf_append(trace->string_to_sign, string_to_sign->data, string_to_sign->len);
	memcpy(trace->signature, signature, 65);
}

bool
pgl_sigv4_sign(const PglSigv4Request *request, PglBuf *authorization, PglSigv4Trace *trace)
{
	const PglSigv4Header *sorted[PGL_SIGV4_MAX_HEADERS];
	char signature[65];
	PglBuf canonical;
	PglBuf string_to_sign;
	bool ok;

	if (strlen(request->amz_date) != PGL_SIGV4_DATE_SIZE - 1 || !sort_headers(request, sorted))
		return false;
	pgl_buf_init(&canonical, CANONICAL_MAX);
	pgl_buf_init(&string_to_sign, CANONICAL_MAX);
	ok = put_canonical_request(&canonical, request, sorted) &&
		 put_string_to_sign(&string_to_sign, request, &canonical) &&
		 compute_signature(request, &string_to_sign, signature);
	if (ok)
	{
		put_authorization(authorization, request, sorted, signature);
		copy_trace(trace, &canonical, &string_to_sign, signature);
	}
	pgl_buf_wipe(&canonical);
	pgl_buf_free(&string_to_sign);
	return ok && !authorization->failed;
}

/* A year that has not four digits gives the zero date, which no server accepts. */
void
pgl_sigv4_format_date(int64_t unix_seconds, char out[PGL_SIGV4_DATE_SIZE])
{
	time_t seconds = (time_t) unix_seconds;
	struct tm parts;

	if (gmtime_r(&seconds, &parts) == NULL || parts.tm_year < -900 || parts.tm_year > 8099 ||
		strftime(out, PGL_SIGV4_DATE_SIZE, "%Y%m%dT%H%M%SZ", &parts) != PGL_SIGV4_DATE_SIZE - 1)
		memcpy(out, "00000101T000000Z", PGL_SIGV4_DATE_SIZE);
}
