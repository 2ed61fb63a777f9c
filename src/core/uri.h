/*
 * uri.h — percent-encoding of path segments and parsing of shard endpoints.
 */
#ifndef PGL_CORE_URI_H
#define PGL_CORE_URI_H

#include "buf.h"

typedef struct PglEndpoint
{
	bool https;
	char host[256]; /* lower case; IPv6 literals keep their brackets */
	int port;       /* always set: 443 or 80 if the text has none */
} PglEndpoint;

/* Encode every byte but A-Z a-z 0-9 - . _ ~ as %XX, upper case: one path segment as AWS wants it.
 */
extern void pgl_uri_encode_segment(PglBuf *out, const char *text, size_t len);
/* As above but '/' stays: the canonical path of SigV4, made from the path that goes over the wire.
 */
extern void pgl_uri_encode_path(PglBuf *out, const char *text, size_t len);
/* Model ids are [A-Za-z0-9:./_-]{1,2048} and no dot segment ("." or ".."), so no URL can be bent.
 */
extern bool pgl_uri_model_id_valid(const char *model_id);
/*
 * Parse "http[s]://host[:port]" with nothing after it (one trailing slash is allowed).  False, with
 * a constant reason in *why, for user info, path, query, fragment, bad port, control characters.
 */
extern bool pgl_uri_parse_endpoint(const char *text, PglEndpoint *out, const char **why);
/* Append scheme://host[:port], leaving a default port out; and only host[:port], as signed. */
extern void pgl_uri_put_base(PglBuf *out, const PglEndpoint *endpoint);
extern void pgl_uri_put_authority(PglBuf *out, const PglEndpoint *endpoint);
/* A Region name is lower-case letters, digits and dashes, 1-32 long, as it becomes part of a host.
 */
extern bool pgl_uri_region_valid(const char *region);
/* bedrock-runtime host of a Region, DNS suffix by partition (AWS endpoint rule set). */
extern void pgl_uri_bedrock_endpoint(const char *region, PglEndpoint *out);

#endif
