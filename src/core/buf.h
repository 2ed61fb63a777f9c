/*
 * buf.h — a growing byte buffer with a mandatory cap.
 *
 * Memory comes from malloc, never from PostgreSQL: libcurl callbacks and shared parsers use it, and
 * neither may throw.  A failed append (cap reached or out of memory) sets `failed` and changes
 * nothing else; later appends fail too, so a writer checks once, at the end.  The data is always
 * NUL-terminated when it exists.  The owner calls pgl_buf_free, or pgl_buf_wipe for secrets.
 */
#ifndef PGL_CORE_BUF_H
#define PGL_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct PglBuf
{
	char *data; /* NULL until the first append */
	size_t len; /* bytes in use, without the terminating NUL */
	size_t cap; /* bytes allocated */
	size_t max; /* len never exceeds this */
	bool failed;
} PglBuf;

extern void pgl_buf_init(PglBuf *buf, size_t max);
extern void pgl_buf_reset(PglBuf *buf); /* empty and not failed; keeps the allocation */
/* Empty, for another use; a block that is too large to keep, or for the new cap, is freed. */
extern void pgl_buf_recycle(PglBuf *buf, size_t max);
extern void pgl_buf_free(PglBuf *buf);
extern void pgl_buf_blank(PglBuf *buf); /* overwrite, then reset */
extern void pgl_buf_wipe(PglBuf *buf);  /* overwrite, then free */
extern bool pgl_buf_append(PglBuf *buf, const void *bytes, size_t len);
extern bool pgl_buf_append_str(PglBuf *buf, const char *text);
extern bool pgl_buf_append_char(PglBuf *buf, char c);
extern bool pgl_buf_append_int(PglBuf *buf, long long value);
extern const char *pgl_buf_str(const PglBuf *buf); /* never NULL */

#endif
