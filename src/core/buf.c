/*
 * buf.c — a growing byte buffer with a mandatory cap.
 *
 * The one place in core/ that calls malloc.  Capacity doubles, so a reply that arrives in many
 * small pieces costs amortised constant time per byte, and never exceeds max + 1 (for the NUL).
 *
 * Small buffers may hold secrets (keys, tokens, signed requests), so growing one copies it and
 * wipes the old block instead of leaving the content behind in the heap, as realloc would.  Large
 * ones hold prompts and replies; there realloc may move pages instead of bytes.
 */
#include "buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY ((size_t) 512)
#define WIPE_ON_GROW_BELOW ((size_t) 64 * 1024)
#define RECYCLED_CAPACITY ((size_t) 16 * 1024)

/* memset that the optimiser may not drop: the asm claims to read the memory afterwards. */
static void
wipe_bytes(void *bytes, size_t len)
{
	memset(bytes, 0, len);
	__asm__ __volatile__("" : : "r"(bytes) : "memory");
}

static char *
move_block(char *old, size_t old_cap, size_t new_cap)
{
	char *new;

	if (old == NULL)
		return malloc(new_cap);
	if (old_cap >= WIPE_ON_GROW_BELOW)
		return realloc(old, new_cap);
	new = malloc(new_cap);
	if (new == NULL)
		return NULL;
	memcpy(new, old, old_cap);
	wipe_bytes(old, old_cap);
	free(old);
	return new;
}

/* Make room for `extra` more bytes and the NUL; on failure only `failed` changes. */
static bool
reserve_bytes(PglBuf *buf, size_t extra)
{
	size_t needed;
	size_t cap;
	char *data;

	if (buf->failed)
		return false;
	if (extra > buf->max - buf->len || buf->len + extra == SIZE_MAX)
	{
		buf->failed = true;
		return false;
	}
	needed = buf->len + extra + 1;
	if (needed <= buf->cap)
		return true;
	cap = buf->cap == 0 ? FIRST_CAPACITY : buf->cap;
	while (cap < needed)
		cap = cap > SIZE_MAX / 2 ? needed : cap * 2;
	if (cap - 1 > buf->max)
		cap = buf->max + 1;
	data = move_block(buf->data, buf->cap, cap);
	if (data == NULL)
	{
		buf->failed = true;
		return false;
	}
	buf->data = data;
	buf->cap = cap;
	return true;
}

void
pgl_buf_init(PglBuf *buf, size_t max)
{
	memset(buf, 0, sizeof(*buf));
	buf->max = max;
}

void
pgl_buf_reset(PglBuf *buf)
{
	buf->len = 0;
	buf->failed = false;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

void
pgl_buf_recycle(PglBuf *buf, size_t max)
{
	if (buf->cap > RECYCLED_CAPACITY || buf->cap > max)
		pgl_buf_free(buf);
	pgl_buf_reset(buf);
	buf->max = max;
}

void
pgl_buf_free(PglBuf *buf)
{
	free(buf->data);
	pgl_buf_init(buf, buf->max);
}

/* The whole allocation is overwritten: a reset buffer still holds what it held before. */
void
pgl_buf_blank(PglBuf *buf)
{
	if (buf->data != NULL)
		wipe_bytes(buf->data, buf->cap);
	pgl_buf_reset(buf);
}

void
pgl_buf_wipe(PglBuf *buf)
{
	pgl_buf_blank(buf);
	pgl_buf_free(buf);
}

bool
pgl_buf_append(PglBuf *buf, const void *bytes, size_t len)
{
	/* What is allocated never exceeds max + 1, so room for the NUL means room under the cap. */
	if ((buf->failed || len >= buf->cap - buf->len) && !reserve_bytes(buf, len))
		return false;
	if (len > 0)
		memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return true;
}

bool
pgl_buf_append_str(PglBuf *buf, const char *text)
{
	return pgl_buf_append(buf, text, strlen(text));
}

bool
pgl_buf_append_char(PglBuf *buf, char c)
{
	return pgl_buf_append(buf, &c, 1);
}

bool
pgl_buf_append_int(PglBuf *buf, long long value)
{
	char digits[24];
	int len;

	len = snprintf(digits, sizeof(digits), "%lld", value);
	return pgl_buf_append(buf, digits, (size_t) len);
}

const char *
pgl_buf_str(const PglBuf *buf)
{
	return buf->data == NULL ? "" : buf->data;
}
