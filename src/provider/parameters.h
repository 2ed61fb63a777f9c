/*
 * parameters.h — reading the JSON of llm_target.parameters, for the providers only.
 *
 * The text comes from a jsonb column, so it is well-formed; what must be checked is its meaning.  A
 * value is taken as the slice of the text it covers: that gives its type at once and lets a
 * provider copy what it only passes on, without decoding and encoding it again.
 */
#ifndef PGL_PROVIDER_PARAMETERS_H
#define PGL_PROVIDER_PARAMETERS_H

#include "../core/json.h"

typedef enum PglValueType
{
	PGL_VALUE_ABSENT = 0,
	PGL_VALUE_OBJECT,
	PGL_VALUE_ARRAY,
	PGL_VALUE_STRING,
	PGL_VALUE_NUMBER,
	PGL_VALUE_BOOL,
	PGL_VALUE_NULL
} PglValueType;

/* Points into the scanned text. */
typedef struct PglJsonValue
{
	PglValueType type;
	const char *start;
	size_t len;
} PglJsonValue;

/* Read the next value, whatever it is.  False on malformed JSON: the scan's status tells. */
extern bool pgl_parameters_take(PglJsonScan *scan, PglJsonValue *value);
/* Is the value the JSON string "word"?  Only for words that need no escape. */
extern bool pgl_parameters_is_word(const PglJsonValue *value, const char *word);
extern bool pgl_parameters_is_empty_string(const PglJsonValue *value);
/* A whole number within the bounds; false, leaving *out alone, for anything else. */
extern bool
pgl_parameters_get_int(const PglJsonValue *value, int64_t min, int64_t max, int64_t *out);
/* Start reading inside an object or array. */
extern void pgl_parameters_enter(const PglJsonValue *value, PglJsonScan *scan);

#endif
