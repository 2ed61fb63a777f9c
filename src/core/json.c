/*
 * json.c — the JSON writer and the pull scanner.
 *
 * One set of functions moves the scanner: begin_*, next_* and the scalar readers.  Skipping a value
 * is the same walk with nobody looking, so skipped and requested parts obey the same grammar.  The
 * nesting is kept in two 64-bit words of the scanner (one bit per level), which is why nothing
 * here recurses and why PGL_JSON_MAX_DEPTH is 64.
 *
 * Strings are the hot part: a model's answer is one long string.  They are examined eight bytes at
 * a time and copied in runs between escapes.  Only a requested string is checked for valid UTF-8;
 * skipped ones are checked for syntax.
 */
#include "json.h"

#include <string.h>

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))
#define HIGH_BITS EACH_BYTE(0x80)

static const char replacement_char[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Record the first error.  Always false, so that callers can return it. */
static bool
set_error(PglJsonScan *scan, PglJsonStatus status)
{
	if (scan->status == PGL_JSON_OK)
		scan->status = status;
	return false;
}

static bool
set_syntax_error(PglJsonScan *scan)
{
	return set_error(scan, PGL_JSON_SYNTAX);
}

/* ---- characters ---- */

/*
 * A word whose lowest set bit is in the first byte that equals `byte`.  Above it borrows may set
 * bits that mean nothing.
 */
static uint64_t
mark_byte(uint64_t word, unsigned char byte)
{
	uint64_t zeroed = word ^ EACH_BYTE(byte);

	return (zeroed - EACH_BYTE(1)) & ~zeroed & HIGH_BITS;
}

/* The same for bytes below 0x20. */
static uint64_t
mark_controls(uint64_t word)
{
	return (word - EACH_BYTE(0x20)) & ~word & HIGH_BITS;
}

static bool
byte_is_special(unsigned char byte, bool stop_at_high)
{
	return byte == '"' || byte == '\\' || byte < 0x20 || (stop_at_high && byte >= 0x80);
}

/*
 * First byte at or after `pos` that ends a run of plain characters: quote, backslash, control
 * character and, if asked for, any byte of a multi-byte sequence.
 */
static inline const char *
find_special(const char *pos, const char *end, bool stop_at_high)
{
	for (; end - pos >= 8; pos += 8)
	{
		uint64_t word;
		uint64_t marks;

		memcpy(&word, pos, sizeof(word));
		marks = mark_byte(word, '"') | mark_byte(word, '\\') | mark_controls(word);
		if (stop_at_high)
			marks |= word & HIGH_BITS;
		if (marks == 0)
			continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		return pos + __builtin_ctzll(marks) / 8;
#else
		break; /* the bytes are looked at one by one below */
#endif
	}
	while (pos < end && !byte_is_special((unsigned char) *pos, stop_at_high))
		pos++;
	return pos;
}

static void
skip_space(PglJsonScan *scan)
{
	while (scan->pos < scan->end &&
		   (*scan->pos == ' ' || *scan->pos == '\n' || *scan->pos == '\r' || *scan->pos == '\t'))
		scan->pos++;
}

static bool
take_char(PglJsonScan *scan, char c)
{
	if (scan->pos >= scan->end || *scan->pos != c)
		return false;
	scan->pos++;
	return true;
}

static bool
is_digit(const PglJsonScan *scan)
{
	return scan->pos < scan->end && *scan->pos >= '0' && *scan->pos <= '9';
}

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

/* Length of the well-formed UTF-8 sequence at `pos` (Unicode table 3-7), or 0. */
static int
utf8_length(const char *pos, const char *end)
{
	const unsigned char *p = (const unsigned char *) pos;
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	int len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 0;
	len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	if (end - pos < len)
		return 0;
	if (p[0] == 0xE0)
		low = 0xA0; /* shorter forms exist */
	else if (p[0] == 0xED)
		high = 0x9F; /* surrogates */
	else if (p[0] == 0xF0)
		low = 0x90; /* shorter forms exist */
	else if (p[0] == 0xF4)
		high = 0x8F; /* beyond U+10FFFF */
	if (p[1] < low || p[1] > high)
		return 0;
	for (int i = 2; i < len; i++)
	{
		if (p[i] < 0x80 || p[i] > 0xBF)
			return 0;
	}
	return len;
}

static void
put_code_point(PglBuf *out, uint32_t code)
{
	char utf8[4];
	size_t len;

	if (code < 0x80)
	{
		utf8[0] = (char) code;
		len = 1;
	}
	else if (code < 0x800)
	{
		utf8[0] = (char) (0xC0 | (code >> 6));
		utf8[1] = (char) (0x80 | (code & 0x3F));
		len = 2;
	}
	else if (code < 0x10000)
	{
		utf8[0] = (char) (0xE0 | (code >> 12));
		utf8[1] = (char) (0x80 | ((code >> 6) & 0x3F));
		utf8[2] = (char) (0x80 | (code & 0x3F));
		len = 3;
	}
	else
	{
		utf8[0] = (char) (0xF0 | (code >> 18));
		utf8[1] = (char) (0x80 | ((code >> 12) & 0x3F));
		utf8[2] = (char) (0x80 | ((code >> 6) & 0x3F));
		utf8[3] = (char) (0x80 | (code & 0x3F));
		len = 4;
	}
	pgl_buf_append(out, utf8, len);
}

/* ---- strings ---- */

/* The four digits at `pos` as a number, or -1. */
static int32_t
read_hex4(const char *pos, const char *end)
{
	int32_t value = 0;

	if (end - pos < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int digit = hex_value(pos[i]);

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/* The character that a one-letter escape stands for, or -1; 'u' is not one of them. */
static int
short_escape(char letter)
{
	switch (letter)
	{
		case '"':
		case '\\':
		case '/':
			return letter;
		case 'b':
			return '\b';
		case 'f':
			return '\f';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case 't':
			return '\t';
		default:
			return -1;
	}
}

/*
 * Decode the \uXXXX whose digits start at the position; the \u itself is consumed.  A high
 * surrogate takes a following low one with it.  Surrogates without a partner become U+FFFD, as
 * every Unicode decoder does: models send them when an answer is cut inside an emoji.
 */
static bool
decode_unicode_escape(PglJsonScan *scan, PglBuf *out)
{
	int32_t code = read_hex4(scan->pos, scan->end);
	int32_t low;

	if (code < 0)
		return set_syntax_error(scan);
	if (code == 0)
		return set_error(scan, PGL_JSON_NUL);
	scan->pos += 4;
	if (code < 0xD800 || code > 0xDFFF)
	{
		put_code_point(out, (uint32_t) code);
		return true;
	}
	if (code < 0xDC00 && scan->end - scan->pos >= 6 && scan->pos[0] == '\\' && scan->pos[1] == 'u')
	{
		low = read_hex4(scan->pos + 2, scan->end);
		if (low >= 0xDC00 && low <= 0xDFFF)
		{
			scan->pos += 6;
			put_code_point(out, 0x10000 + (((uint32_t) code - 0xD800) << 10) +
									((uint32_t) low - 0xDC00));
			return true;
		}
	}
	pgl_buf_append(out, replacement_char, 3);
	return true;
}

/* Decode the escape at the position, which is behind its backslash. */
static bool
decode_escape(PglJsonScan *scan, PglBuf *out)
{
	int c;

	if (take_char(scan, 'u'))
		return decode_unicode_escape(scan, out);
	if (scan->pos >= scan->end)
		return set_syntax_error(scan);
	c = short_escape(*scan->pos);
	if (c < 0)
		return set_syntax_error(scan);
	scan->pos++;
	pgl_buf_append_char(out, (char) c);
	return true;
}

/* End of the run of plain, valid characters at the position, or NULL if it is not UTF-8. */
static const char *
find_run_end(const PglJsonScan *scan)
{
	const char *pos = scan->pos;

	for (;;)
	{
		pos = find_special(pos, scan->end, true);
		if (pos >= scan->end || (unsigned char) *pos < 0x80)
			return pos;
		while (pos < scan->end && (unsigned char) *pos >= 0x80)
		{
			int len = utf8_length(pos, scan->end);

			if (len == 0)
				return NULL;
			pos += len;
		}
	}
}

/* Append the string whose opening quote is consumed. */
static bool
decode_string(PglJsonScan *scan, PglBuf *out)
{
	for (;;)
	{
		const char *run_end = find_run_end(scan);

		if (run_end == NULL)
			return set_error(scan, PGL_JSON_ENCODING);
		pgl_buf_append(out, scan->pos, (size_t) (run_end - scan->pos));
		scan->pos = run_end;
		if (take_char(scan, '"'))
			return out->failed ? set_error(scan, PGL_JSON_TOO_LARGE) : true;
		if (!take_char(scan, '\\'))
			return set_syntax_error(scan); /* control character or end of text */
		if (!decode_escape(scan, out))
			return false;
		if (out->failed)
			return set_error(scan, PGL_JSON_TOO_LARGE);
	}
}

/* Pass the string whose opening quote is consumed, checking its syntax. */
static bool
skip_string(PglJsonScan *scan)
{
	for (;;)
	{
		scan->pos = find_special(scan->pos, scan->end, false);
		if (take_char(scan, '"'))
			return true;
		if (!take_char(scan, '\\') || scan->pos >= scan->end)
			return set_syntax_error(scan);
		if (take_char(scan, 'u'))
		{
			if (read_hex4(scan->pos, scan->end) < 0)
				return set_syntax_error(scan);
			scan->pos += 4;
		}
		else if (short_escape(*scan->pos) < 0)
			return set_syntax_error(scan);
		else
			scan->pos++;
	}
}

/* ---- numbers and literals ---- */

static bool
skip_digits(PglJsonScan *scan)
{
	if (!is_digit(scan))
		return set_syntax_error(scan);
	while (is_digit(scan))
		scan->pos++;
	return true;
}

static bool
skip_number(PglJsonScan *scan)
{
	take_char(scan, '-');
	if (!take_char(scan, '0') && !skip_digits(scan))
		return false;
	if (take_char(scan, '.') && !skip_digits(scan))
		return false;
	if (take_char(scan, 'e') || take_char(scan, 'E'))
	{
		if (!take_char(scan, '+'))
			take_char(scan, '-');
		return skip_digits(scan);
	}
	return true;
}

static bool
take_literal(PglJsonScan *scan, const char *literal)
{
	size_t len = strlen(literal);

	if ((size_t) (scan->end - scan->pos) < len || memcmp(scan->pos, literal, len) != 0)
		return false;
	scan->pos += len;
	return true;
}

/* The exponent that starts at `pos` ('e' or the end of the number), saturating far out. */
static int64_t
read_exponent(const char *pos, const char *end)
{
	const int64_t far = INT64_C(1000000000000000);
	bool negative = false;
	int64_t value = 0;

	if (pos < end)
		pos++; /* 'e' */
	if (pos < end && (*pos == '+' || *pos == '-'))
		negative = (*pos++ == '-');
	for (; pos < end; pos++)
	{
		if (value < far)
			value = value * 10 + (*pos - '0');
	}
	return negative ? -value : value;
}

/*
 * Integer part of a well-formed number, exact, clamped to int64.  A double would lose digits above
 * 2^53.  The digits are read as one row in which the exponent moves the point.
 */
static int64_t
convert_number(const char *pos, const char *end)
{
	bool negative = (*pos == '-');
	const char *mantissa = pos + (negative ? 1 : 0);
	const char *mantissa_end = mantissa;
	const char *point = NULL;
	int64_t places;
	uint64_t value = 0;

	while (mantissa_end < end && *mantissa_end != 'e' && *mantissa_end != 'E')
	{
		if (*mantissa_end == '.')
			point = mantissa_end;
		mantissa_end++;
	}
	/* How many digits stand before the point once the exponent is applied. */
	places = (point != NULL ? point : mantissa_end) - mantissa;
	places += read_exponent(mantissa_end, end);
	for (pos = mantissa; places > 0; places--)
	{
		if (pos == point)
			pos++;
		if (pos >= mantissa_end && value == 0)
			break; /* zero times any power of ten */
		if (value > (uint64_t) INT64_MAX / 10)
			return negative ? INT64_MIN : INT64_MAX;
		value = value * 10 + (pos < mantissa_end ? (uint64_t) (*pos++ - '0') : 0);
	}
	if (value > (uint64_t) INT64_MAX)
		return negative ? INT64_MIN : INT64_MAX;
	return negative ? -(int64_t) value : (int64_t) value;
}

/* ---- structure ---- */

static bool
push_level(PglJsonScan *scan, bool is_object)
{
	uint64_t bit;

	if (scan->depth >= PGL_JSON_MAX_DEPTH)
		return set_error(scan, PGL_JSON_TOO_DEEP);
	bit = UINT64_C(1) << scan->depth++;
	scan->has_items &= ~bit;
	if (is_object)
		scan->is_object |= bit;
	else
		scan->is_object &= ~bit;
	return true;
}

static bool
in_object(const PglJsonScan *scan)
{
	return ((scan->is_object >> (scan->depth - 1)) & 1) != 0;
}

/*
 * Step to the next member of the open container: past the comma, or out of it.  True if a member
 * follows.
 */
static bool
next_member(PglJsonScan *scan, bool is_object)
{
	uint64_t bit;

	if (scan->status != PGL_JSON_OK)
		return false;
	if (scan->depth == 0 || in_object(scan) != is_object)
		return set_syntax_error(scan); /* the reader lost its place */
	skip_space(scan);
	bit = UINT64_C(1) << (scan->depth - 1);
	if (take_char(scan, is_object ? '}' : ']'))
	{
		scan->depth--;
		return false;
	}
	if ((scan->has_items & bit) != 0 && !take_char(scan, ','))
		return set_syntax_error(scan);
	scan->has_items |= bit;
	return true;
}

/*
 * Get ready to read a value: first character in *first.  At the top there is only one value, so a
 * second one is an error.
 */
static bool
start_value(PglJsonScan *scan, char *first)
{
	if (scan->status != PGL_JSON_OK)
		return false;
	skip_space(scan);
	if (scan->pos >= scan->end || (scan->depth == 0 && scan->has_value))
		return set_syntax_error(scan);
	scan->has_value = true;
	*first = *scan->pos;
	return true;
}

/* Pass a scalar, or enter a container. */
static bool
skip_or_enter(PglJsonScan *scan, char first)
{
	switch (first)
	{
		case '{':
		case '[':
			scan->pos++;
			return push_level(scan, first == '{');
		case '"':
			scan->pos++;
			return skip_string(scan);
		case 't':
			return take_literal(scan, "true") ? true : set_syntax_error(scan);
		case 'f':
			return take_literal(scan, "false") ? true : set_syntax_error(scan);
		case 'n':
			return take_literal(scan, "null") ? true : set_syntax_error(scan);
		default:
			return skip_number(scan);
	}
}

/* Pass the value that starts with `first`: walk until the level we came from is reached again. */
static bool
skip_started_value(PglJsonScan *scan, char first)
{
	int base = scan->depth;

	for (;;)
	{
		bool more = false;

		if (!skip_or_enter(scan, first))
			return false;
		while (scan->depth > base && !more)
		{
			PglJsonKey key;

			more = in_object(scan) ? pgl_json_next_key(scan, &key) : pgl_json_next_element(scan);
			if (scan->status != PGL_JSON_OK)
				return false;
		}
		if (!more)
			return true;
		if (!start_value(scan, &first))
			return false;
	}
}

/* Enter the container that the value is, or pass a value of another type and return false. */
static bool
begin_container(PglJsonScan *scan, char bracket)
{
	char first;

	if (!start_value(scan, &first))
		return false;
	if (first != bracket)
	{
		skip_started_value(scan, first);
		return false;
	}
	scan->pos++;
	return push_level(scan, bracket == '{');
}

void
pgl_json_scan_init(PglJsonScan *scan, const char *text, size_t len)
{
	memset(scan, 0, sizeof(*scan));
	scan->pos = text;
	scan->end = text + len;
}

bool
pgl_json_begin_object(PglJsonScan *scan)
{
	return begin_container(scan, '{');
}

bool
pgl_json_begin_array(PglJsonScan *scan)
{
	return begin_container(scan, '[');
}

bool
pgl_json_next_element(PglJsonScan *scan)
{
	return next_member(scan, false);
}

bool
pgl_json_next_key(PglJsonScan *scan, PglJsonKey *key)
{
	if (!next_member(scan, true))
		return false;
	skip_space(scan);
	if (!take_char(scan, '"'))
		return set_syntax_error(scan);
	key->start = scan->pos;
	if (!skip_string(scan))
		return false;
	key->len = (size_t) (scan->pos - 1 - key->start);
	skip_space(scan);
	if (!take_char(scan, ':'))
		return set_syntax_error(scan);
	return true;
}

bool
pgl_json_key_is(const PglJsonKey *key, const char *name)
{
	return strlen(name) == key->len && memcmp(key->start, name, key->len) == 0;
}

/* On failure `out` is as long as it was before. */
bool
pgl_json_get_string(PglJsonScan *scan, PglBuf *out)
{
	size_t old_len = out->len;
	char first;

	if (!start_value(scan, &first))
		return false;
	if (first != '"')
	{
		skip_started_value(scan, first);
		return false;
	}
	scan->pos++;
	if (decode_string(scan, out))
		return true;
	out->len = old_len;
	if (out->data != NULL)
		out->data[old_len] = '\0';
	return false;
}

/* Fractions are cut off: 12.7 is 12. */
bool
pgl_json_get_int(PglJsonScan *scan, int64_t *out)
{
	const char *start;
	char first;

	if (!start_value(scan, &first))
		return false;
	if (first != '-' && (first < '0' || first > '9'))
	{
		skip_started_value(scan, first);
		return false;
	}
	start = scan->pos;
	if (!skip_number(scan))
		return false;
	*out = convert_number(start, scan->pos);
	return true;
}

bool
pgl_json_get_bool(PglJsonScan *scan, bool *out)
{
	char first;

	if (!start_value(scan, &first) || !skip_started_value(scan, first))
		return false;
	if (first != 't' && first != 'f')
		return false;
	*out = (first == 't');
	return true;
}

bool
pgl_json_skip(PglJsonScan *scan)
{
	char first;

	return start_value(scan, &first) && skip_started_value(scan, first);
}

bool
pgl_json_finish(PglJsonScan *scan)
{
	if (scan->status != PGL_JSON_OK)
		return false;
	skip_space(scan);
	if (scan->depth != 0 || !scan->has_value || scan->pos != scan->end)
		return set_syntax_error(scan);
	return true;
}

const char *
pgl_json_status_text(PglJsonStatus status)
{
	switch (status)
	{
		case PGL_JSON_OK:
			return "no error";
		case PGL_JSON_SYNTAX:
			return "malformed JSON";
		case PGL_JSON_TOO_DEEP:
			return "JSON nested too deeply";
		case PGL_JSON_NUL:
			return "JSON string contains \\u0000";
		case PGL_JSON_ENCODING:
			return "JSON string is not valid UTF-8";
		case PGL_JSON_TOO_LARGE:
			return "JSON string is too large";
	}
	return "unknown JSON status";
}

/* ---- writing ---- */

static void
put_escaped(PglBuf *out, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[0x20] = {
		['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
	char escape[6] = "\\u00";

	if (c >= 0x20)
		escape[1] = (char) c; /* quote or backslash */
	else if (letters[c] != '\0')
		escape[1] = letters[c];
	else
	{
		escape[4] = hex[c >> 4];
		escape[5] = hex[c & 15];
		pgl_buf_append(out, escape, 6);
		return;
	}
	pgl_buf_append(out, escape, 2);
}

void
pgl_json_put_string(PglBuf *out, const char *utf8, size_t len)
{
	const char *pos = utf8;
	const char *end = utf8 + len;

	pgl_buf_append_char(out, '"');
	while (pos < end)
	{
		const char *run_end = find_special(pos, end, false);

		pgl_buf_append(out, pos, (size_t) (run_end - pos));
		pos = run_end;
		if (pos < end)
			put_escaped(out, (unsigned char) *pos++);
	}
	pgl_buf_append_char(out, '"');
}

/* No comma after an opening bracket or another comma; a complete value ends in neither. */
void
pgl_json_put_key(PglBuf *out, const char *key)
{
	char last = out->len > 0 ? out->data[out->len - 1] : '{';

	if (last != '{' && last != '[' && last != ',')
		pgl_buf_append_char(out, ',');
	pgl_json_put_string(out, key, strlen(key));
	pgl_buf_append_char(out, ':');
}
