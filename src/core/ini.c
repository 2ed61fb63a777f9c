/*
 * ini.c — look a value up in an AWS-style credentials or config file.
 *
 * The file is read once from top to bottom for each question: it is small, and keeping nothing
 * means that no copy of a secret is left behind.
 *
 * A line is blank, a comment, "[section]", "key = value", or nested.  Nested lines belong to the
 * setting above (s3 = ... and the like): they are indented deeper than the key above them in the
 * same section.  A file whose lines are all indented alike is therefore read normally, as botocore
 * does.  Keys are compared without case, section names with it.
 */
#include "ini.h"

#include <string.h>

typedef struct Span
{
	const char *start;
	const char *end;
} Span;

typedef enum LineKind
{
	LINE_OTHER, /* blank, comment, nested, or not understood */
	LINE_SECTION,
	LINE_SETTING
} LineKind;

typedef struct IniReader
{
	const char *pos;
	const char *end;
	int key_indent; /* of the last key in this section; -1: none yet */
	Span name;      /* name of the section, or of the key */
	Span value;
} IniReader;

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static Span
trim_span(const char *start, const char *end)
{
	Span span;

	while (start < end && is_blank(*start))
		start++;
	while (end > start && is_blank(end[-1]))
		end--;
	span.start = start;
	span.end = end;
	return span;
}

static void
init_reader(IniReader *reader, const char *text, size_t len)
{
	memset(reader, 0, sizeof(*reader));
	reader->pos = text;
	reader->end = text + len;
	reader->key_indent = -1;
	/* Editors on Windows start a file with a byte order mark. */
	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		reader->pos += 3;
}

/* A header without its bracket still ends the section above: its keys must not leak in there. */
static LineKind
read_section(IniReader *reader, Span line)
{
	const char *bracket = memchr(line.start, ']', (size_t) (line.end - line.start));

	if (bracket == NULL)
		bracket = line.start + 1; /* a section without a name */
	reader->name = trim_span(line.start + 1, bracket);
	reader->key_indent = -1;
	return LINE_SECTION;
}

static LineKind
read_setting(IniReader *reader, Span line, int indent)
{
	const char *equals = memchr(line.start, '=', (size_t) (line.end - line.start));

	if (equals == NULL)
		return LINE_OTHER;
	reader->name = trim_span(line.start, equals);
	reader->value = trim_span(equals + 1, line.end);
	reader->key_indent = indent;
	return LINE_SETTING;
}

/* Take the next line; false at the end of the text. */
static bool
next_line(IniReader *reader, LineKind *kind)
{
	const char *start = reader->pos;
	const char *newline;
	Span line;
	int indent;

	if (start >= reader->end)
		return false;
	newline = memchr(start, '\n', (size_t) (reader->end - start));
	if (newline == NULL)
		newline = reader->end;
	reader->pos = newline < reader->end ? newline + 1 : newline;
	line = trim_span(start, newline);
	indent = line.start - start < 1000 ? (int) (line.start - start) : 1000;
	if (line.start == line.end || *line.start == '#' || *line.start == ';')
		*kind = LINE_OTHER;
	else if (reader->key_indent >= 0 && indent > reader->key_indent)
		*kind = LINE_OTHER; /* nested */
	else if (*line.start == '[')
		*kind = read_section(reader, line);
	else
		*kind = read_setting(reader, line, indent);
	return true;
}

/* Is the name of the header line `wanted`?  Runs of white space inside count as one space. */
static bool
section_is(Span name, const char *wanted)
{
	const char *pos = name.start;

	for (; *wanted != '\0'; wanted++)
	{
		if (pos >= name.end)
			return false;
		if (*wanted != (is_blank(*pos) ? ' ' : *pos))
			return false;
		if (is_blank(*pos))
		{
			while (pos < name.end && is_blank(*pos))
				pos++;
		}
		else
			pos++;
	}
	return pos == name.end;
}

static char
lower_char(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool
key_is(Span name, const char *wanted)
{
	const char *pos = name.start;

	for (; *wanted != '\0'; wanted++, pos++)
	{
		if (pos >= name.end || lower_char(*pos) != lower_char(*wanted))
			return false;
	}
	return pos == name.end;
}

bool
pgl_ini_lookup(const char *text, size_t len, const char *section, const char *key, PglBuf *value)
{
	bool in_section = (section == NULL);
	bool found = false;
	Span last = {NULL, NULL};
	IniReader reader;
	LineKind kind;

	init_reader(&reader, text, len);
	while (next_line(&reader, &kind))
	{
		if (kind == LINE_SECTION)
			in_section = section != NULL && section_is(reader.name, section);
		else if (kind == LINE_SETTING && in_section && key_is(reader.name, key))
		{
			last = reader.value;
			found = true;
		}
	}
	return found && pgl_buf_append(value, last.start, (size_t) (last.end - last.start));
}

bool
pgl_ini_has_section(const char *text, size_t len, const char *section)
{
	IniReader reader;
	LineKind kind;

	init_reader(&reader, text, len);
	while (next_line(&reader, &kind))
	{
		if (kind == LINE_SECTION && section_is(reader.name, section))
			return true;
	}
	return false;
}
