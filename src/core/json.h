/*
 * json.h — write JSON into a buffer, and pull values out of JSON without a tree.
 *
 * The scanner reads replies of model providers.  jsonb does not serve there: it throws on bad input
 * and refuses \u0000 and lone surrogates, which models do send.  The scanner never allocates by
 * itself, never recurses deeper than PGL_JSON_MAX_DEPTH, and reports errors by a sticky status:
 * after the first error every call returns false, so a reader checks once, at the end.
 *
 * Reading an object:
 *		if (pgl_json_begin_object(&scan))
 *			while (pgl_json_next_key(&scan, &key))
 *				if (pgl_json_key_is(&key, "usage")) ... read one value ...
 *				else pgl_json_skip(&scan);
 * Exactly one value must be read or skipped after each key and each true pgl_json_next_element.
 * A begin_* that meets a value of another type skips it and returns false, without an error:
 * unknown and surprising members are normal in provider replies.  The get_* functions do the same.
 */
#ifndef PGL_CORE_JSON_H
#define PGL_CORE_JSON_H

#include <stdint.h>

#include "buf.h"

#define PGL_JSON_MAX_DEPTH 64

typedef enum PglJsonStatus
{
	PGL_JSON_OK = 0,
	PGL_JSON_SYNTAX,   /* not JSON, or trailing garbage */
	PGL_JSON_TOO_DEEP, /* more than PGL_JSON_MAX_DEPTH levels */
	PGL_JSON_NUL,      /* a requested string holds \u0000, which no text value can store */
	PGL_JSON_ENCODING, /* a requested string is not valid UTF-8 */
	PGL_JSON_TOO_LARGE /* the output buffer reached its cap */
} PglJsonStatus;

/* A key as it stands between its quotes: escapes are not decoded, as no key of ours needs them. */
typedef struct PglJsonKey
{
	const char *start;
	size_t len;
} PglJsonKey;

typedef struct PglJsonScan
{
	const char *pos;
	const char *end;
	int depth;
	bool has_value; /* a value was begun: at the top there is only one */
	PglJsonStatus status;
	uint64_t is_object; /* bit per open level: object or array */
	uint64_t has_items; /* bit per open level: a member was read already */
} PglJsonScan;

extern void pgl_json_scan_init(PglJsonScan *scan, const char *text, size_t len);
extern bool pgl_json_begin_object(PglJsonScan *scan);
extern bool pgl_json_next_key(PglJsonScan *scan, PglJsonKey *key); /* false at '}' (consumed) */
extern bool pgl_json_begin_array(PglJsonScan *scan);
extern bool pgl_json_next_element(PglJsonScan *scan); /* false at ']' (consumed) */
extern bool pgl_json_key_is(const PglJsonKey *key, const char *name);
extern bool pgl_json_get_string(PglJsonScan *scan, PglBuf *out); /* appends decoded UTF-8 */
extern bool pgl_json_get_int(PglJsonScan *scan, int64_t *out);   /* 12, 12.0, 1e3; clamps */
extern bool pgl_json_get_bool(PglJsonScan *scan, bool *out);
extern bool pgl_json_skip(PglJsonScan *scan);
/* True when the whole text was one well-formed value and nothing but white space follows. */
extern bool pgl_json_finish(PglJsonScan *scan);
extern const char *pgl_json_status_text(PglJsonStatus status);

/* Writers: append to the buffer; its `failed` flag tells of trouble. */
extern void pgl_json_put_string(PglBuf *out, const char *utf8, size_t len); /* with the quotes */
extern void pgl_json_put_key(PglBuf *out, const char *key); /* ["," if needed] "key": */

#endif
