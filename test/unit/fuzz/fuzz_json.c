/*
 * fuzz_json.c — the JSON scanner against a recursive validator, and strings there and back.
 */
#include "fuzz.h"

#include "json.h"

#define OUT_MAX ((size_t) 64 * 1024)

/* ---- a second opinion: the grammar of RFC 8259, as recursive functions ---- */

typedef struct Text
{
	const char *pos;
	const char *end;
} Text;

static bool valid_value(Text *text, int depth);

static int
peek(const Text *text)
{
	return text->pos < text->end ? (unsigned char) *text->pos : -1;
}

static bool
eat(Text *text, int c)
{
	if (peek(text) != c)
		return false;
	text->pos++;
	return true;
}

static void
eat_space(Text *text)
{
	while (eat(text, ' ') || eat(text, '\t') || eat(text, '\r') || eat(text, '\n'))
		;
}

static bool
eat_digits(Text *text)
{
	int count = 0;

	for (; peek(text) >= '0' && peek(text) <= '9'; count++)
		text->pos++;
	return count > 0;
}

static bool
valid_number(Text *text)
{
	eat(text, '-');
	if (!eat(text, '0') && !eat_digits(text))
		return false;
	if (eat(text, '.') && !eat_digits(text))
		return false;
	if (eat(text, 'e') || eat(text, 'E'))
	{
		if (!eat(text, '-'))
			eat(text, '+');
		return eat_digits(text);
	}
	return true;
}

static bool
valid_string(Text *text)
{
	if (!eat(text, '"'))
		return false;
	while (peek(text) >= 0x20)
	{
		int c = peek(text);

		text->pos++;
		if (c == '"')
			return true;
		if (c != '\\')
			continue;
		c = peek(text);
		if (c <= 0 || strchr("\"\\/bfnrtu", c) == NULL)
			return false;
		text->pos++;
		for (int i = 0; c == 'u' && i < 4; i++)
		{
			int digit = peek(text);

			if (digit <= 0 || strchr("0123456789abcdefABCDEF", digit) == NULL)
				return false;
			text->pos++;
		}
	}
	return false;
}

static bool
valid_members(Text *text, bool is_object, int depth)
{
	int close = is_object ? '}' : ']';

	text->pos++;
	eat_space(text);
	if (eat(text, close))
		return true;
	for (;;)
	{
		if (is_object)
		{
			eat_space(text);
			if (!valid_string(text))
				return false;
			eat_space(text);
			if (!eat(text, ':'))
				return false;
		}
		if (!valid_value(text, depth))
			return false;
		if (eat(text, close))
			return true;
		if (!eat(text, ','))
			return false;
	}
}

static bool
valid_literal(Text *text, const char *literal)
{
	for (; *literal != '\0'; literal++)
	{
		if (!eat(text, *literal))
			return false;
	}
	return true;
}

static bool
valid_value(Text *text, int depth)
{
	bool ok;

	eat_space(text);
	switch (peek(text))
	{
		case '{':
		case '[':
			ok = depth < PGL_JSON_MAX_DEPTH && valid_members(text, peek(text) == '{', depth + 1);
			break;
		case '"':
			ok = valid_string(text);
			break;
		case 't':
			ok = valid_literal(text, "true");
			break;
		case 'f':
			ok = valid_literal(text, "false");
			break;
		case 'n':
			ok = valid_literal(text, "null");
			break;
		default:
			ok = valid_number(text);
			break;
	}
	eat_space(text);
	return ok;
}

/* ---- readers ---- */

/* Read the value at the position with whatever function suits the first letter of its key. */
static void
read_value(PglJsonScan *scan, char how, PglBuf *out)
{
	PglJsonKey key;
	int64_t number;
	bool flag;

	switch (how)
	{
		case 's':
			pgl_json_get_string(scan, out);
			break;
		case 'i':
			pgl_json_get_int(scan, &number);
			break;
		case 'b':
			pgl_json_get_bool(scan, &flag);
			break;
		case 'k':
			pgl_json_skip(scan);
			break;
		case 'a':
			if (pgl_json_begin_array(scan))
			{
				while (pgl_json_next_element(scan))
					read_value(scan, scan->depth % 2 ? 'o' : 's', out);
			}
			break;
		default:
			if (pgl_json_begin_object(scan))
			{
				while (pgl_json_next_key(scan, &key))
					read_value(scan, key.len > 0 ? key.start[0] : 'a', out);
			}
			break;
	}
}

/* A string that was read is valid: written and read again it is the same. */
static void
check_round_trip(const char *text, size_t len)
{
	PglJsonScan scan;
	PglBuf first;
	PglBuf json;
	PglBuf again;

	pgl_buf_init(&first, OUT_MAX);
	pgl_buf_init(&json, OUT_MAX * 6 + 2);
	pgl_buf_init(&again, OUT_MAX);
	pgl_json_scan_init(&scan, text, len);
	if (pgl_json_get_string(&scan, &first))
	{
		REQUIRE(memchr(first.data, '\0', first.len) == NULL);
		pgl_json_put_string(&json, first.data, first.len);
		pgl_json_scan_init(&scan, json.data, json.len);
		REQUIRE(pgl_json_get_string(&scan, &again) && pgl_json_finish(&scan));
		REQUIRE(again.len == first.len && memcmp(again.data, first.data, first.len) == 0);
	}
	else
		REQUIRE(first.len == 0);
	pgl_buf_free(&first);
	pgl_buf_free(&json);
	pgl_buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char readers[] = "sibkao";
	char *exact = malloc(size > 0 ? size : 1);
	Text text = {exact, exact + size};
	PglJsonScan scan;
	PglBuf out;
	bool valid;

	if (size > 0)
		memcpy(exact, data, size);
	valid = valid_value(&text, 0) && text.pos == text.end;
	pgl_json_scan_init(&scan, exact, size);
	pgl_json_skip(&scan);
	REQUIRE(pgl_json_finish(&scan) == valid);
	for (size_t i = 0; i < sizeof(readers) - 1; i++)
	{
		pgl_buf_init(&out, OUT_MAX);
		pgl_json_scan_init(&scan, exact, size);
		read_value(&scan, readers[i], &out);
		if (pgl_json_finish(&scan))
			REQUIRE(valid);
		else
			REQUIRE(!valid || scan.status == PGL_JSON_NUL || scan.status == PGL_JSON_ENCODING);
		pgl_buf_free(&out);
	}
	check_round_trip(exact, size);
	free(exact);
	return 0;
}
