/*
 * explain.c — llm_explain and llm_render: what a call would do.
 */
#include "postgres.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/tuplestore.h"

#include "../call/explain.h"
#include "../pg/compat.h"
#include "../shmem/state.h"
#include "options.h"

PG_FUNCTION_INFO_V1(pgl_llm_explain);
PG_FUNCTION_INFO_V1(pgl_llm_render);

#define EXPLAIN_COLUMNS 11

static Datum
text_array(const char **texts, int n)
{
	Datum *elements = palloc(sizeof(Datum) * Max(n, 1));
	int i;

	for (i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
emit_row(ReturnSetInfo *rsinfo, const PglExplanation *row)
{
	Datum values[EXPLAIN_COLUMNS] = {
		Int32GetDatum(row->tier),
		CStringGetTextDatum(row->target),
		CStringGetTextDatum(row->shard),
		row->region ? CStringGetTextDatum(row->region) : (Datum) 0,
		CStringGetTextDatum(row->model),
		CStringGetTextDatum(row->geography),
		BoolGetDatum(row->eligible),
		row->reason ? CStringGetTextDatum(row->reason) : (Datum) 0,
		Int64GetDatum(row->reserved_tokens),
		Int64GetDatum((row->wait_us + 999) / 1000),
		text_array(row->limits, row->nlimits),
	};
	bool nulls[EXPLAIN_COLUMNS] = {
		[3] = row->region == NULL, [7] = row->reason == NULL, [9] = !row->eligible && !row->waits};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Arguments as for a call; false when the prompt is NULL. */
static bool
read_arguments(FunctionCallInfo fcinfo, PglCallArgs *args)
{
	pgl_shmem_require();
	pgl_options_init(args, PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
		pgl_options_read(args, PG_GETARG_JSONB_P(2));
	if (PG_ARGISNULL(1))
		return false;
	pgl_options_set_prompt(args, PG_GETARG_TEXT_PP(1));
	return true;
}

Datum
pgl_llm_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PglExplanation *rows;
	PglCallArgs args;
	int n;
	int i;

	InitMaterializedSRF(fcinfo, 0);
	if (!read_arguments(fcinfo, &args))
		PG_RETURN_NULL();
	n = pgl_explain_call(&args, &rows);
	for (i = 0; i < n; i++)
		emit_row(rsinfo, &rows[i]);
	PG_RETURN_NULL();
}

Datum
pgl_llm_render(PG_FUNCTION_ARGS)
{
	PglRendering rendering = {0};
	StringInfoData json;
	PglCallArgs args;

	if (!read_arguments(fcinfo, &args))
		PG_RETURN_NULL();
	pgl_render_call(&args, &rendering);
	initStringInfo(&json);
	appendStringInfoString(&json, "{\"target\": ");
	escape_json(&json, rendering.target);
	if (rendering.url)
	{
		appendStringInfoString(&json, ", \"method\": \"POST\", \"url\": ");
		escape_json(&json, rendering.url);
		appendStringInfo(&json, ", \"body\": %s",
						 pg_any_to_server(rendering.body, strlen(rendering.body), PG_UTF8));
	}
	appendStringInfoChar(&json, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}
