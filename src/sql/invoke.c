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

#include "../call/call.h"
#include "../pg/compat.h"
#include "options.h"
#include "result.h"

PG_FUNCTION_INFO_V1(pgl_llm_invoke);
PG_FUNCTION_INFO_V1(pgl_llm_try_invoke);

static PglCall *
run_call(FunctionCallInfo fcinfo)
{
	PglCallArgs args;
	PglCall *call;

	pgl_options_read_call(fcinfo, &args);
	if (PG_ARGISNULL(1))
		return NULL;
	pgl_options_set_prompt(&args, PG_GETARG_TEXT_PP(1));
	args.alone = true;
	call = pgl_call_start(&args, NULL);
	pgl_call_wait(call);
	pgl_call_report_budgets(call);
	return call;
}

Datum
pgl_llm_invoke(PG_FUNCTION_ARGS)
{
	PglCall *call = run_call(fcinfo);
	const PglOutcome *outcome;
	text *response;

	if (call == NULL)
		PG_RETURN_NULL();
	outcome = pgl_call_outcome(call);
	if (outcome->sqlstate != 0)
		pgl_call_raise(call);
	response = cstring_to_text_with_len(outcome->response, outcome->response_len);
	pgl_call_free(call);
	PG_RETURN_TEXT_P(response);
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

Datum
pgl_llm_try_invoke(PG_FUNCTION_ARGS)
{
	PglCall *call = run_call(fcinfo);
	HeapTuple row;

	if (call == NULL)
		PG_RETURN_NULL();
	row = pgl_result_form(pgl_call_outcome(call), result_type(fcinfo));
	pgl_call_free(call);
	PG_RETURN_DATUM(HeapTupleGetDatum(row));
}
