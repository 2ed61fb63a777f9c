/*
 * function.c — the register behind function.h, and starting ahead of time.
 */
#include "postgres.h"

#include "utils/elog.h"

#include "../catalog/owner.h"
#include "function.h"
#include "state.h"

#define MAX_FUNCTIONS 32

static const PglFunction *functions[MAX_FUNCTIONS];
static int nfunctions = 0;

void
pgl_function_register(const PglFunction *function)
{
	if (nfunctions == MAX_FUNCTIONS)
		elog(ERROR, "too many pgllm functions");
	functions[nfunctions++] = function;
}

const PglFunction *
pgl_function_find(const char *symbol)
{
	int i;

	for (i = 0; i < nfunctions; i++)
		if (strcmp(functions[i]->symbol, symbol) == 0)
			return functions[i];
	return NULL;
}

/*
 * Errors in what the caller has asked for.  They are found by looking at arguments and at the
 * configuration, before anything has been changed, so they can be caught without a subtransaction.
 */
static bool
is_mistake(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_INVALID_PARAMETER_VALUE:
		case ERRCODE_NULL_VALUE_NOT_ALLOWED:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_CHARACTER_NOT_IN_REPERTOIRE:
		case ERRCODE_UNTRANSLATABLE_CHARACTER:
			return true;
		default:
			return false;
	}
}

/*
 * How much there is that only an abort clears up: calls that have been accepted, and SQL of ours
 * that an error has broken off.
 */
static uint64
unfinished_business(void)
{
	return (uint64) pgl_engine_unfinished() + pgl_catalog_broken_off();
}

PglCall *
pgl_function_start(const PglFunction *function, FunctionCallInfo fcinfo, PglCallGroup *group,
				   MemoryContext context, ErrorData **mistake)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64 unfinished = unfinished_business();
	PglCall *volatile call = NULL;

	*mistake = NULL;
	PG_TRY();
	{
		call = function->start(fcinfo, group);
	}
	PG_CATCH();
	{
		if (!is_mistake(geterrcode()) || unfinished_business() != unfinished)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		*mistake = CopyErrorData();
		FlushErrorState();
		MemoryContextSwitchTo(caller);
	}
	PG_END_TRY();
	return call;
}
