/*
 * test_buf.c — growth, the cap, and the sticky failure of buf.c.
 */
#include "unit.h"

#include <limits.h>
#include <string.h>

static void
test_append(void)
{
	PglBuf buf;

	pgl_buf_init(&buf, 1000);
	CHECK_STR(pgl_buf_str(&buf), "", "an unused buffer is an empty text");
	CHECK(buf.data == NULL, "and owns no memory");
	pgl_buf_append(&buf, "ab", 2);
	pgl_buf_append_str(&buf, "cd");
	pgl_buf_append_char(&buf, 'e');
	pgl_buf_append_int(&buf, LLONG_MIN);
	CHECK_STR(pgl_buf_str(&buf), "abcde-9223372036854775808", "pieces are joined");
	CHECK_INT((long long) buf.len, 25, "length without the NUL");
	pgl_buf_append(&buf, "x\0y", 3);
	CHECK(buf.len == 28 && memcmp(buf.data + 25, "x\0y", 4) == 0, "NUL bytes are data");
	pgl_buf_reset(&buf);
	CHECK(buf.len == 0 && buf.cap > 0 && *pgl_buf_str(&buf) == '\0', "reset keeps the allocation");
	pgl_buf_free(&buf);
	CHECK(buf.data == NULL && buf.max == 1000, "free keeps the cap");
	pgl_buf_free(&buf);
}

static void
test_cap(void)
{
	PglBuf buf;

	pgl_buf_init(&buf, 3);
	CHECK(pgl_buf_append_str(&buf, "abc"), "exactly max bytes fit");
	CHECK_INT((long long) buf.cap, 4, "no more is allocated than max and the NUL");
	CHECK(!pgl_buf_append_char(&buf, 'd') && buf.failed, "one more fails");
	CHECK_STR(pgl_buf_str(&buf), "abc", "and changes nothing");
	CHECK(!pgl_buf_append(&buf, "", 0), "the failure is sticky");
	pgl_buf_reset(&buf);
	CHECK(pgl_buf_append_str(&buf, "x"), "until a reset");
	pgl_buf_wipe(&buf);

	pgl_buf_init(&buf, 0);
	CHECK(pgl_buf_append(&buf, "", 0) && !pgl_buf_append_char(&buf, 'x'), "a cap of 0");
	pgl_buf_free(&buf);
	pgl_buf_init(&buf, SIZE_MAX);
	pgl_buf_append_char(&buf, 'x');
	CHECK(!pgl_buf_append(&buf, "x", SIZE_MAX - 1), "sizes that overflow fail");
	pgl_buf_free(&buf);
}

static void
test_growth(void)
{
	bool same = true;
	PglBuf buf;

	pgl_buf_init(&buf, 1000 * 1000);
	for (int i = 0; i < 300 * 1000; i++)
		pgl_buf_append_char(&buf, (char) (i * 7));
	for (int i = 0; i < 300 * 1000; i++)
		same = same && buf.data[i] == (char) (i * 7);
	CHECK(same && buf.len == 300 * 1000, "content survives growth, by copy and by realloc");
	pgl_buf_wipe(&buf);
}

void
test_buf(void)
{
	unit_suite("buf");
	test_append();
	test_cap();
	test_growth();
}
