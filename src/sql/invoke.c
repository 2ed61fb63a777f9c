/*
 * invoke.c — functions that make one call: llm_invoke and llm_try_invoke.
 *
 * Entry points only: check arguments, run the call, turn its outcome into a value.  NULL prompts
 * never call.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "../call/function.h"
#include "../call/progress.h"
#include "../pg/compat.h"
#include "invoke.h"
#include "options.h"
#include "result.h"

PG_FUNCTION_INFO_V1(pgl_llm_invoke);
PG_FUNCTION_INFO_V1(pgl_llm_try_invoke);

/* NULL: the prompt is NULL. */
static PglCall *
start_call(FunctionCallInfo fcinfo, PglCallGroup *group)
{
	PglCallArgs args;

	pgl_options_read_call(fcinfo, &args);
	if (PG_ARGISNULL(1))
		return NULL;
	pgl_options_set_prompt(&args, PG_GETARG_TEXT_PP(1));
	args.alone = group == NULL;
	return pgl_call_start(&args, group);
}

/* Both halves at once. */
static Datum
run_function(FunctionCallInfo fcinfo, Datum (*finish)(FunctionCallInfo fcinfo, PglCall *call))
{
	PglCall *call = start_call(fcinfo, NULL);
	Datum value;

	if (call == NULL)
		PG_RETURN_NULL();
	pgl_call_wait(call);
	value = finish(fcinfo, call);
	pgl_progress_row_done(NULL);
	return value;
}

/* ---- llm_invoke ---- */

static bool
invoke_fails(const PglOutcome *outcome)
{
	return outcome->sqlstate != 0;
}

static Datum
finish_invoke(FunctionCallInfo fcinfo, PglCall *call)
{
	const PglOutcome *outcome = pgl_call_outcome(call);
	text *response;

	pgl_call_report_budgets(call);
	if (invoke_fails(outcome))
		pgl_call_raise(call);
	response = cstring_to_text_with_len(outcome->response, outcome->response_len);
	pgl_call_free(call);
	PG_RETURN_TEXT_P(response);
}

Datum
pgl_llm_invoke(PG_FUNCTION_ARGS)
{
	return run_function(fcinfo, finish_invoke);
}

/* ---- llm_try_invoke ---- */

static bool
never_fails(const PglOutcome *outcome)
{
	return false;
}

/* The row type of llm_result, looked up once per function call site. */
static TupleDesc
result_type(FunctionCallInfo fcinfo)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (desc)
		return desc;
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	desc = BlessTupleDesc(CreateTupleDescCopy(desc));
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = desc;
	return desc;
}

static Datum
finish_try_invoke(FunctionCallInfo fcinfo, PglCall *call)
{
	HeapTuple row;

	pgl_call_report_budgets(call);
	row = pgl_result_form(pgl_call_outcome(call), result_type(fcinfo));
	pgl_call_free(call);
	PG_RETURN_DATUM(HeapTupleGetDatum(row));
}

Datum
pgl_llm_try_invoke(PG_FUNCTION_ARGS)
{
	return run_function(fcinfo, finish_try_invoke);
}

/* ---- the family ---- */

void
pgl_invoke_init(void)
{
	static const PglFunction invoke = {"pgl_llm_invoke", start_call, invoke_fails, finish_invoke};
	static const PglFunction try_invoke = {"pgl_llm_try_invoke", start_call, never_fails,
										   finish_try_invoke};

	pgl_function_register(&invoke);
	pgl_function_register(&try_invoke);
}
