/*
 * invoke.c — the calling functions: llm_invoke, llm_try_invoke, llm_invoke_many.
 *
 * Entry points only: check arguments, run calls, turn outcomes into values.  NULL prompts never
 * call.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "../call/call.h"
#include "../call/concurrency.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "../shmem/state.h"
#include "options.h"
#include "result.h"
#include "utility.h"

PG_FUNCTION_INFO_V1(pgl_llm_invoke);
PG_FUNCTION_INFO_V1(pgl_llm_try_invoke);
PG_FUNCTION_INFO_V1(pgl_llm_invoke_many);

/* What all three share: preconditions, tenant, options.  Argument 1 is the function's own. */
static void
read_common(FunctionCallInfo fcinfo, PglCallArgs *args)
{
	pgl_shmem_require();
	pgl_utility_refuse();
	pgl_options_init(args, PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
		pgl_options_read(args, PG_GETARG_JSONB_P(2));
}

static PglCall *
run_call(FunctionCallInfo fcinfo)
{
	PglCallArgs args;
	PglCall *call;

	read_common(fcinfo, &args);
	if (PG_ARGISNULL(1))
		return NULL;
	pgl_options_set_prompt(&args, PG_GETARG_TEXT_PP(1));
	args.alone = true;
	call = pgl_call_start(&args);
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

/* Answers that wait for a slower one before them are kept; not more than so many windows of them.
 */
#define MAX_AHEAD 8

/* State of one llm_invoke_many: a window of calls over an array of prompts. */
typedef struct Batch
{
	PglCallArgs args;
	Datum *prompts;
	bool *nulls;
	int nprompts;
	int next;        /* first prompt not started */
	int emitted;     /* rows that are in the tuplestore */
	HeapTuple *rows; /* per prompt: finished, waiting for its turn */
	bool *finished;
	int in_flight;
	TupleDesc result_desc;
	ReturnSetInfo *rsinfo;
	MemoryContext scratch; /* reset after each row */
} Batch;

static void
finish_call(Batch *batch, PglCall *call)
{
	int i = (int) pgl_call_tag(call);
	MemoryContext caller = MemoryContextSwitchTo(batch->scratch);
	HeapTuple row = pgl_result_form(pgl_call_outcome(call), batch->result_desc);

	pgl_call_report_budgets(call);
	MemoryContextSwitchTo(caller);
	batch->rows[i] = heap_copytuple(row);
	MemoryContextReset(batch->scratch);
	batch->finished[i] = true;
	batch->in_flight--;
	pgl_call_free(call);
}

static void
start_next(Batch *batch)
{
	int i = batch->next++;
	PglCall *call;

	if (batch->nulls[i])
	{
		batch->finished[i] = true;
		return;
	}
	pgl_options_set_prompt(&batch->args, DatumGetTextPP(batch->prompts[i]));
	call = pgl_call_start(&batch->args);
	pgl_call_set_tag(call, i);
	batch->in_flight++;
}

/* Rows whose turn has come go to the caller. */
static void
emit_finished(Batch *batch)
{
	for (; batch->emitted < batch->next && batch->finished[batch->emitted]; batch->emitted++)
	{
		HeapTuple row = batch->rows[batch->emitted];
		Datum values[2] = {Int64GetDatum(batch->emitted + 1),
						   row ? HeapTupleGetDatum(row) : (Datum) 0};
		bool nulls[2] = {false, row == NULL};

		tuplestore_putvalues(batch->rsinfo->setResult, batch->rsinfo->setDesc, values, nulls);
		if (row)
			heap_freetuple(row);
		batch->rows[batch->emitted] = NULL;
	}
}

/* A mistake in one of the prompts is found before the first call leaves. */
static void
check_prompts(const Batch *batch)
{
	int i;

	for (i = 0; i < batch->nprompts; i++)
		if (!batch->nulls[i] && VARSIZE_ANY_EXHDR(DatumGetPointer(batch->prompts[i])) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("prompt %d must not be empty", i + 1)));
}

static void
run_batch(Batch *batch)
{
	PglCall *call;

	check_prompts(batch);
	while (batch->emitted < batch->nprompts)
	{
		CHECK_FOR_INTERRUPTS();
		while (batch->next < batch->nprompts && pgl_concurrency_has_room(batch->in_flight) &&
			   batch->next - batch->emitted < MAX_AHEAD * pgl_guc_max_concurrency)
		{
			start_next(batch);
			CHECK_FOR_INTERRUPTS();
		}
		while ((call = pgl_call_next_done()) != NULL)
			finish_call(batch, call);
		emit_finished(batch);
		if (batch->in_flight > 0)
			pgl_call_drive();
	}
}

Datum
pgl_llm_invoke_many(PG_FUNCTION_ARGS)
{
	Batch batch = {0};
	Form_pg_attribute attribute;

	read_common(fcinfo, &batch.args);
	InitMaterializedSRF(fcinfo, 0);
	batch.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	pgl_deconstruct_text_array(PG_GETARG_ARRAYTYPE_P(1), &batch.prompts, &batch.nulls,
							   &batch.nprompts);
	attribute = TupleDescAttr(batch.rsinfo->setDesc, 1);
	batch.result_desc = lookup_rowtype_tupdesc_copy(attribute->atttypid, attribute->atttypmod);
	BlessTupleDesc(batch.result_desc);
	batch.scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgllm row", ALLOCSET_DEFAULT_SIZES);
	batch.rows = palloc0(sizeof(HeapTuple) * Max(batch.nprompts, 1));
	batch.finished = palloc0(sizeof(bool) * Max(batch.nprompts, 1));
	run_batch(&batch);
	PG_RETURN_NULL();
}
