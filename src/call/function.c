/*
 * function.c — the register behind function.h.
 */
#include "postgres.h"

#include "function.h"

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
