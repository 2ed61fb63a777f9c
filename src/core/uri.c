/*
 * uri.c — percent-encoding of path segments and parsing of shard endpoints.
 *
 * A model id is one path segment, whatever it contains: its ':' and '/' are encoded once on the
 * wire, and once more in the canonical request of SigV4.  Everything that ends up in a URL passes
 * one of the checks here first, so that no table row can bend a request to another host or path.
 *
 * Parsing is stricter than RFC 3986: a shard endpoint is a scheme, a host and a port.  What is
 * refused includes everything that parsers disagree about (user info, backslashes, percent signs,
 * zone ids), because the host that is checked must be the host that libcurl connects to.
 */
#include "uri.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MODEL_ID_MAX 2048
#define REGION_MAX 32
#define HOST_MAX 253 /* RFC 1035 */
#define HTTPS_PORT 443
#define HTTP_PORT 80

static bool
is_lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool
is_alphanumeric(char c)
{
	return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

static bool
is_unreserved(char c)
{
	return is_alphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

/* ---- encoding ---- */

static void
encode_bytes(PglBuf *out, const char *text, size_t len, bool keep_slash)
{
	static const char hex[] = "0123456789ABCDEF";
	const char *pos = text;
	const char *end = text + len;

	while (pos < end)
	{
		const char *run = pos;
		unsigned char c;
		char escape[3];

		while (pos < end && (is_unreserved(*pos) || (keep_slash && *pos == '/')))
			pos++;
		pgl_buf_append(out, run, (size_t) (pos - run));
		if (pos >= end)
			return;
		c = (unsigned char) *pos++;
		escape[0] = '%';
		escape[1] = hex[c >> 4];
		escape[2] = hex[c & 15];
		pgl_buf_append(out, escape, sizeof(escape));
	}
}

void
pgl_uri_encode_segment(PglBuf *out, const char *text, size_t len)
{
	encode_bytes(out, text, len, false);
}

void
pgl_uri_encode_path(PglBuf *out, const char *text, size_t len)
{
	encode_bytes(out, text, len, true);
}

/* ---- names that become part of a URL ---- */

static bool
is_dot_segment(const char *start, size_t len)
{
	return (len == 1 && start[0] == '.') || (len == 2 && start[0] == '.' && start[1] == '.');
}

/*
 * Dot segments are refused between slashes too, although those are encoded: a proxy that decodes
 * %2F would otherwise see "/../".
 */
bool
pgl_uri_model_id_valid(const char *model_id)
{
	const char *segment = model_id;
	const char *pos;

	for (pos = model_id; *pos != '\0'; pos++)
	{
		if (pos - model_id >= MODEL_ID_MAX)
			return false;
		if (!is_alphanumeric(*pos) && strchr(":./_-", *pos) == NULL)
			return false;
		if (*pos != '/')
			continue;
		if (is_dot_segment(segment, (size_t) (pos - segment)))
			return false;
		segment = pos + 1;
	}
	return pos > model_id && !is_dot_segment(segment, (size_t) (pos - segment));
}

bool
pgl_uri_region_valid(const char *region)
{
	size_t len;

	for (len = 0; region[len] != '\0'; len++)
	{
		if (len >= REGION_MAX || (!is_lower_or_digit(region[len]) && region[len] != '-'))
			return false;
	}
	/* A host label neither starts nor ends with a dash. */
	return len > 0 && region[0] != '-' && region[len - 1] != '-';
}

/* ---- endpoints ---- */

static bool
refuse_endpoint(const char **why, const char *reason)
{
	if (why != NULL)
		*why = reason;
	return false;
}

static char
lower_char(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* The text behind the prefix, compared without case, or NULL. */
static const char *
skip_prefix(const char *text, const char *prefix)
{
	for (; *prefix != '\0'; prefix++, text++)
	{
		if (lower_char(*text) != *prefix)
			return NULL;
	}
	return text;
}

static bool
is_host_char(char c)
{
	return is_alphanumeric(c) || c == '-' || c == '.' || c == '_';
}

/* Copy the host name in lower case.  NULL if it is not one, else the text behind it. */
static const char *
parse_host_name(const char *text, char *host)
{
	size_t len = 0;

	while (is_host_char(text[len]))
	{
		if (len >= HOST_MAX)
			return NULL;
		/* An empty label, a leading or a trailing dot. */
		if (text[len] == '.' && (len == 0 || text[len - 1] == '.' || !is_host_char(text[len + 1])))
			return NULL;
		host[len] = lower_char(text[len]);
		len++;
	}
	host[len] = '\0';
	return len > 0 ? text + len : NULL;
}

/* The same for an IPv6 literal in brackets. */
static const char *
parse_host_ipv6(const char *text, char *host)
{
	char literal[INET6_ADDRSTRLEN];
	unsigned char address[16];
	size_t len = 0;

	while (text[len + 1] != ']')
	{
		if (text[len + 1] == '\0' || len + 1 >= sizeof(literal))
			return NULL;
		literal[len] = lower_char(text[len + 1]);
		len++;
	}
	literal[len] = '\0';
	if (inet_pton(AF_INET6, literal, address) != 1)
		return NULL;
	snprintf(host, HOST_MAX, "[%s]", literal);
	return text + len + 2;
}

/* The text behind ":port", or NULL.  No port at all leaves *port as it is. */
static const char *
parse_port(const char *text, int *port)
{
	int value = 0;
	int digits;

	if (*text != ':')
		return text;
	text++;
	for (digits = 0; text[digits] >= '0' && text[digits] <= '9'; digits++)
	{
		if (digits >= 5)
			return NULL;
		value = value * 10 + (text[digits] - '0');
	}
	if (value < 1 || value > 65535)
		return NULL;
	*port = value;
	return text + digits;
}

/* Why the rest of the text, behind host and port, is not acceptable; NULL if it is. */
static const char *
reject_rest(const char *rest)
{
	if (rest[0] == '/' && rest[1] == '\0')
		return NULL;
	switch (rest[0])
	{
		case '\0':
			return NULL;
		case '/':
			return "endpoint must not have a path";
		case '?':
			return "endpoint must not have a query";
		case '#':
			return "endpoint must not have a fragment";
		default:
			return "endpoint has an invalid host name or port";
	}
}

/* What is wrong with the characters of the text as a whole; NULL if nothing. */
static const char *
reject_characters(const char *text)
{
	for (; *text != '\0'; text++)
	{
		if ((unsigned char) *text <= 0x20 || *text == 0x7F)
			return "endpoint contains white space or a control character";
		if ((unsigned char) *text >= 0x80)
			return "endpoint contains a character outside ASCII";
		if (*text == '@')
			return "endpoint must not contain user information";
	}
	return NULL;
}

bool
pgl_uri_parse_endpoint(const char *text, PglEndpoint *out, const char **why)
{
	const char *reason = reject_characters(text);
	const char *pos;

	memset(out, 0, sizeof(*out));
	if (reason != NULL)
		return refuse_endpoint(why, reason);
	if ((pos = skip_prefix(text, "https://")) != NULL)
	{
		out->https = true;
		out->port = HTTPS_PORT;
	}
	else if ((pos = skip_prefix(text, "http://")) != NULL)
		out->port = HTTP_PORT;
	else
		return refuse_endpoint(why, "endpoint must start with https:// or http://");
	pos = *pos == '[' ? parse_host_ipv6(pos, out->host) : parse_host_name(pos, out->host);
	if (pos == NULL)
		return refuse_endpoint(why, "endpoint has an invalid host name");
	pos = parse_port(pos, &out->port);
	if (pos == NULL)
		return refuse_endpoint(why, "endpoint has an invalid port");
	reason = reject_rest(pos);
	if (reason != NULL)
		return refuse_endpoint(why, reason);
	return true;
}

void
pgl_uri_put_authority(PglBuf *out, const PglEndpoint *endpoint)
{
	pgl_buf_append_str(out, endpoint->host);
	if (endpoint->port != (endpoint->https ? HTTPS_PORT : HTTP_PORT))
	{
		pgl_buf_append_char(out, ':');
		pgl_buf_append_int(out, endpoint->port);
	}
}

void
pgl_uri_put_base(PglBuf *out, const PglEndpoint *endpoint)
{
	pgl_buf_append_str(out, endpoint->https ? "https://" : "http://");
	pgl_uri_put_authority(out, endpoint);
}

/* DNS suffix of the partition a Region belongs to; the ordinary one for Regions yet unknown. */
static const char *
partition_suffix(const char *region)
{
	static const struct
	{
		const char *region_prefix;
		const char *suffix;
	} partitions[] = {
		{"cn-", "amazonaws.com.cn"},    {"eusc-de-", "amazonaws.eu"},
		{"us-iso-", "c2s.ic.gov"},      {"us-isob-", "sc2s.sgov.gov"},
		{"eu-isoe-", "cloud.adc-e.uk"}, {"us-isof-", "csp.hci.ic.gov"},
	};

	for (size_t i = 0; i < sizeof(partitions) / sizeof(partitions[0]); i++)
	{
		const char *prefix = partitions[i].region_prefix;

		if (strncmp(region, prefix, strlen(prefix)) == 0)
			return partitions[i].suffix;
	}
	return "amazonaws.com"; /* aws and aws-us-gov */
}

void
pgl_uri_bedrock_endpoint(const char *region, PglEndpoint *out)
{
	memset(out, 0, sizeof(*out));
	out->https = true;
	out->port = HTTPS_PORT;
	snprintf(out->host, sizeof(out->host), "bedrock-runtime.%.*s.%s", REGION_MAX, region,
			 partition_suffix(region));
}
