/*
 * options.c — arguments of the SQL functions.
 *
 * Options are a jsonb object so that the functions never need another signature.  The table below
 * is the whole list; a key that is not in it is an error, for a misspelt option that is ignored
 * costs money.
 */
#include "postgres.h"

#include <limits.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "../pg/compat.h"
#include "../shmem/state.h"
#include "options.h"
#include "utility.h"

#define MAX_STOP 16

typedef enum OptionType
{
	OPTION_TEXT,
	OPTION_INT,
	OPTION_NUMBER,
	OPTION_BOOL,
	OPTION_TEXTS
} OptionType;

typedef struct Option
{
	const char *name;
	OptionType type;
	size_t offset; /* in PglCallArgs */
	double min;
	double max;
	size_t flag_offset; /* a bool to set along with the value; 0: none */
} Option;

#define FIELD(name) offsetof(PglCallArgs, name)

static const Option options_known[] = {
	{"allow_fallback", OPTION_BOOL, FIELD(no_fallback), 0, 0, 0},
	{"allow_truncated", OPTION_BOOL, FIELD(allow_truncated), 0, 0, 0},
	{"cache", OPTION_BOOL, FIELD(cache), 0, 0, FIELD(has_cache)},
	{"max_tokens", OPTION_INT, FIELD(max_tokens), 1, INT_MAX, 0},
	{"max_wait_ms", OPTION_INT, FIELD(max_wait_ms), 0, INT_MAX, 0},
	{"model", OPTION_TEXT, FIELD(model), 0, 0, 0},
	{"route", OPTION_TEXT, FIELD(route), 0, 0, 0},
	{"sample", OPTION_BOOL, FIELD(sample), 0, 0, 0},
	{"sticky_key", OPTION_TEXT, FIELD(sticky_key), 0, 0, 0},
	{"stop", OPTION_TEXTS, FIELD(stop), 0, 0, 0},
	{"system", OPTION_TEXT, FIELD(system), 0, 0, 0},
	{"temperature", OPTION_NUMBER, FIELD(temperature), 0, 2, FIELD(has_temperature)},
	{"timeout_ms", OPTION_INT, FIELD(timeout_ms), 1, INT_MAX, 0},
	{"top_p", OPTION_NUMBER, FIELD(top_p), 0, 1, FIELD(has_top_p)},
};

static const char *
known_names(void)
{
	StringInfoData names;
	size_t i;

	initStringInfo(&names);
	for (i = 0; i < lengthof(options_known); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", options_known[i].name);
	return names.data;
}

static const Option *
find_option(const JsonbValue *key)
{
	size_t i;

	for (i = 0; i < lengthof(options_known); i++)
		if (strlen(options_known[i].name) == (size_t) key->val.string.len &&
			memcmp(options_known[i].name, key->val.string.val, key->val.string.len) == 0)
			return &options_known[i];
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown option \"%.*s\"",
						   pg_mbcliplen(key->val.string.val, key->val.string.len, 64),
						   key->val.string.val),
					errhint("Options are %s.", known_names())));
}

static void
wrong_type(const Option *option)
{
	static const char *const types[] = {"a string", "an integer", "a number", "true or false",
										"an array of strings"};

	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"%s\" must be %s", option->name, types[option->type])));
}

static char *
read_text(const Option *option, const JsonbValue *value)
{
	if (value->type != jbvString)
		wrong_type(option);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static double
read_number(const Option *option, const JsonbValue *value)
{
	double number;

	if (value->type != jbvNumeric)
		wrong_type(option);
	number =
		DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	if (number < option->min || number > option->max)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" must lie between %.0f and %.0f", option->name,
							   option->min, option->max)));
	if (option->type == OPTION_INT && number != (int) number)
		wrong_type(option);
	return number;
}

static void
set_scalar(PglCallArgs *args, const Option *option, const JsonbValue *value)
{
	char *field = (char *) args + option->offset;

	switch (option->type)
	{
		case OPTION_TEXT:
			*(const char **) field = read_text(option, value);
			break;
		case OPTION_INT:
			*(int *) field = (int) read_number(option, value);
			break;
		case OPTION_NUMBER:
			*(double *) field = read_number(option, value);
			break;
		case OPTION_BOOL:
			if (value->type != jbvBool)
				wrong_type(option);
			/* The one option whose default is true is kept as its negation. */
			*(bool *) field = value->val.boolean != (option->offset == FIELD(no_fallback));
			break;
		case OPTION_TEXTS:
			wrong_type(option);
			break;
	}
	if (option->flag_offset > 0)
		*(bool *) ((char *) args + option->flag_offset) = true;
}

static void
read_texts(PglCallArgs *args, const Option *option, JsonbIterator **iterator)
{
	JsonbValue value;
	JsonbIteratorToken token;

	args->stop = palloc(sizeof(char *) * MAX_STOP);
	args->nstop = 0;
	while ((token = JsonbIteratorNext(iterator, &value, true)) == WJB_ELEM)
	{
		if (args->nstop == MAX_STOP)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" has more than %d entries", option->name, MAX_STOP)));
		args->stop[args->nstop++] = read_text(option, &value);
	}
}

void
pgl_options_read(PglCallArgs *args, Jsonb *options)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue value;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object"),
				 errhint("Options are %s.", known_names())));
	if (JB_ROOT_COUNT(options) == 0)
		return;
	iterator = JsonbIteratorInit(&options->root);
	JsonbIteratorNext(&iterator, &value, false);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) == WJB_KEY)
	{
		const Option *option = find_option(&value);

		token = JsonbIteratorNext(&iterator, &value, false);
		if (token == WJB_BEGIN_ARRAY && option->type == OPTION_TEXTS)
			read_texts(args, option, &iterator);
		else if (token != WJB_VALUE)
			wrong_type(option);
		else if (value.type != jbvNull)
			set_scalar(args, option, &value);
	}
}

void
pgl_options_init(PglCallArgs *args, const text *tenant)
{
	if (tenant == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("tenant must not be null")));
	memset(args, 0, sizeof(*args));
	args->tenant = text_to_cstring(tenant);
	args->max_wait_ms = -1;
}

void
pgl_options_set_prompt(PglCallArgs *args, const text *prompt)
{
	args->prompt_len = VARSIZE_ANY_EXHDR(prompt);
	args->prompt = VARDATA_ANY(prompt);
	if (args->prompt_len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("prompt must not be empty")));
}

void
pgl_options_read_call(FunctionCallInfo fcinfo, PglCallArgs *args)
{
	pgl_shmem_require();
	pgl_utility_refuse();
	pgl_options_init(args, PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
		pgl_options_read(args, PG_GETARG_JSONB_P(2));
}
