/*
 * arrays.c — calls for all prompts of an array: llm_invoke_many, llm_invoke_array and
 * llm_try_invoke_array.
 *
 * They differ in what becomes of results: rows, or elements of an array with the bounds of the
 * prompts.  A mistake in one of the prompts is found before the first call leaves.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "../pg/compat.h"
#include "batch.h"
#include "options.h"
#include "result.h"

PG_FUNCTION_INFO_V1(pgl_llm_invoke_many);
PG_FUNCTION_INFO_V1(pgl_llm_invoke_array);
PG_FUNCTION_INFO_V1(pgl_llm_try_invoke_array);

typedef struct Prompts
{
	Datum *values;
	bool *nulls;
	int n;
	int next;
	/* Where results go: one of these. */
	ReturnSetInfo *rows;
	ArrayBuildState *elements;
} Prompts;

/* ---- the source ---- */

static void
read_prompts(Prompts *prompts, ArrayType *array)
{
	int i;

	pgl_deconstruct_text_array(array, &prompts->values, &prompts->nulls, &prompts->n);
	for (i = 0; i < prompts->n; i++)
		if (!prompts->nulls[i] && VARSIZE_ANY_EXHDR(DatumGetPointer(prompts->values[i])) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("prompt %d must not be empty", i + 1)));
}

static bool
next_prompt(void *owner, size_t room, PglBatchRow *row)
{
	Prompts *prompts = owner;
	int i = prompts->next;

	if (i == prompts->n)
		return false;
	prompts->next++;
	row->prompt = prompts->nulls[i] ? NULL : DatumGetTextPP(prompts->values[i]);
	return true;
}

/* ---- results as rows ---- */

static void
emit_row(void *owner, const PglBatchRow *row)
{
	Prompts *prompts = owner;
	Datum values[2] = {Int64GetDatum(row->number), row->value};
	bool nulls[2] = {false, row->isnull};

	tuplestore_putvalues(prompts->rows->setResult, prompts->rows->setDesc, values, nulls);
}

Datum
pgl_llm_invoke_many(PG_FUNCTION_ARGS)
{
	Prompts prompts = {0};
	PglBatch batch = {.next = next_prompt, .emit = emit_row, .owner = &prompts};

	pgl_options_read_call(fcinfo, &batch.args);
	InitMaterializedSRF(fcinfo, 0);
	prompts.rows = (ReturnSetInfo *) fcinfo->resultinfo;
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	read_prompts(&prompts, PG_GETARG_ARRAYTYPE_P(1));
	batch.result = pgl_result_type(TupleDescAttr(prompts.rows->setDesc, 1)->atttypid);
	batch.expected = prompts.n;
	pgl_batch_run(&batch);
	PG_RETURN_NULL();
}

/* ---- results as an array ---- */

static void
emit_element(void *owner, const PglBatchRow *row)
{
	Prompts *prompts = owner;
	ArrayBuildState *elements = prompts->elements;

	(void) accumArrayResult(elements, row->value, row->isnull, elements->element_type,
							elements->mcontext);
}

/* Element by element an array of the given type, as long as the one of the prompts. */
static Datum
run_array(PglBatch *batch, ArrayType *array, Oid element_type)
{
	Prompts prompts = {0};

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("prompts must be a one-dimensional array"),
						errdetail("It has %d dimensions.", ARR_NDIM(array))));
	if (ARR_NDIM(array) == 0)
		return PointerGetDatum(construct_empty_array(element_type));
	read_prompts(&prompts, array);
	prompts.elements = initArrayResult(element_type, CurrentMemoryContext, true);
	batch->next = next_prompt;
	batch->emit = emit_element;
	batch->owner = &prompts;
	batch->expected = prompts.n;
	pgl_batch_run(batch);
	return makeMdArrayResult(prompts.elements, 1, ARR_DIMS(array), ARR_LBOUND(array),
							 CurrentMemoryContext, true);
}

Datum
pgl_llm_invoke_array(PG_FUNCTION_ARGS)
{
	PglBatch batch = {.result = NULL};

	pgl_options_read_call(fcinfo, &batch.args);
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(run_array(&batch, PG_GETARG_ARRAYTYPE_P(1), TEXTOID));
}

Datum
pgl_llm_try_invoke_array(PG_FUNCTION_ARGS)
{
	PglBatch batch = {.result = NULL};
	Oid element_type;

	pgl_options_read_call(fcinfo, &batch.args);
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	element_type = get_element_type(get_func_rettype(fcinfo->flinfo->fn_oid));
	if (!OidIsValid(element_type))
		elog(ERROR, "return type must be an array");
	batch.result = pgl_result_type(element_type);
	PG_RETURN_DATUM(run_array(&batch, PG_GETARG_ARRAYTYPE_P(1), element_type));
}
