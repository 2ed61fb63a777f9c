/*
 * parameters.c — values of llm_target.parameters as slices of its text.
 *
 * See parameters.h.  Nothing is allocated; a slice lives as long as the text it points into.
 */
#include "parameters.h"

#include <string.h>

static PglValueType
type_of_first_character(char c)
{
	switch (c)
	{
		case '{':
			return PGL_VALUE_OBJECT;
		case '[':
			return PGL_VALUE_ARRAY;
		case '"':
			return PGL_VALUE_STRING;
		case 't':
		case 'f':
			return PGL_VALUE_BOOL;
		case 'n':
			return PGL_VALUE_NULL;
		default:
			return PGL_VALUE_NUMBER;
	}
}

bool
pgl_parameters_take(PglJsonScan *scan, PglJsonValue *value)
{
	const char *start = scan->pos;

	if (!pgl_json_skip(scan))
		return false;
	while (start < scan->pos && strchr(" \t\r\n", *start) != NULL)
		start++;
	value->start = start;
	value->len = (size_t) (scan->pos - start);
	value->type = type_of_first_character(*start);
	return true;
}

bool
pgl_parameters_is_word(const PglJsonValue *value, const char *word)
{
	size_t len = strlen(word);

	return value->type == PGL_VALUE_STRING && value->len == len + 2 &&
		   memcmp(value->start + 1, word, len) == 0;
}

bool
pgl_parameters_is_empty_string(const PglJsonValue *value)
{
	return value->type == PGL_VALUE_STRING && value->len == 2;
}

/* Fractions are refused, and so is "1e3", which nobody writes for a count. */
bool
pgl_parameters_get_int(const PglJsonValue *value, int64_t min, int64_t max, int64_t *out)
{
	PglJsonScan scan;
	int64_t number;

	if (value->type != PGL_VALUE_NUMBER || memchr(value->start, '.', value->len) != NULL ||
		memchr(value->start, 'e', value->len) != NULL ||
		memchr(value->start, 'E', value->len) != NULL)
		return false;
	pgl_parameters_enter(value, &scan);
	if (!pgl_json_get_int(&scan, &number) || number < min || number > max)
		return false;
	*out = number;
	return true;
}

void
pgl_parameters_enter(const PglJsonValue *value, PglJsonScan *scan)
{
	pgl_json_scan_init(scan, value->start, value->len);
}
