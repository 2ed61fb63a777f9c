/*
 * result.c — an outcome as a row of type llm_result.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "../pg/compat.h"
#include "result.h"

#define COLUMNS 23

typedef struct Row
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	int n;
} Row;

static void
put(Row *row, Datum value)
{
	row->values[row->n++] = value;
}

static void
put_null(Row *row)
{
	row->nulls[row->n++] = true;
}

static void
put_text(Row *row, const char *value)
{
	if (value)
		put(row, CStringGetTextDatum(value));
	else
		put_null(row);
}

/* Token counts that the provider did not report, and times that did not happen, are NULL. */
static void
put_count(Row *row, int64_t count, bool known)
{
	if (known && count >= 0)
		put(row, Int64GetDatum(count));
	else
		put_null(row);
}

static void
put_ms(Row *row, int64_t us)
{
	if (us >= 0)
		put(row, Float8GetDatum(us / 1000.0));
	else
		put_null(row);
}

Datum
pgl_result_cost(int64_t nano_usd)
{
	return NumericGetDatum(int64_div_fast_to_numeric(nano_usd, 9));
}

static void
put_answer(Row *row, const PglOutcome *outcome)
{
	if (outcome->response)
		put(row,
			PointerGetDatum(cstring_to_text_with_len(outcome->response, outcome->response_len)));
	else
		put_null(row);
	if (outcome->response)
		put_null(row);
	else
		put_text(row, outcome->detail ? psprintf("%s: %s", outcome->message, outcome->detail)
									  : outcome->message);
	put_text(row, outcome->sqlstate ? unpack_sql_state(outcome->sqlstate) : NULL);
	put_text(row, outcome->finish_reason);
}

static void
put_path(Row *row, const PglOutcome *outcome)
{
	put_text(row, outcome->route);
	put_text(row, outcome->target);
	put_text(row, outcome->shard);
	put_text(row, outcome->region);
	put_text(row, outcome->model);
	put(row, Int32GetDatum(outcome->attempts));
	put(row, Int32GetDatum(outcome->fallback_depth));
	put_text(row, outcome->attempts > 0 ? outcome->source : NULL);
}

TupleDesc
pgl_result_type(Oid type)
{
	return BlessTupleDesc(lookup_rowtype_tupdesc_copy(type, -1));
}

HeapTuple
pgl_result_form(const PglOutcome *outcome, TupleDesc desc)
{
	bool answered = outcome->response != NULL;
	pg_uuid_t *call_id = palloc(sizeof(pg_uuid_t));
	Row row = {.n = 0};

	put_answer(&row, outcome);
	put_path(&row, outcome);
	put_count(&row, outcome->usage.input_tokens, answered);
	put_count(&row, outcome->usage.output_tokens, answered);
	put_count(&row, outcome->usage.cache_read_tokens, answered);
	put_count(&row, outcome->usage.cache_write_tokens, answered);
	if (answered && outcome->cost_nano_usd >= 0)
		put(&row, pgl_result_cost(outcome->cost_nano_usd));
	else
		put_null(&row);
	put_ms(&row, outcome->queue_us);
	put_ms(&row, outcome->connect_us);
	put_ms(&row, outcome->first_byte_us);
	put_ms(&row, outcome->total_us);
	memcpy(call_id->data, outcome->call_id, UUID_LEN);
	put(&row, UUIDPGetDatum(call_id));
	put_text(&row, outcome->request_id);
	Assert(row.n == COLUMNS);
	if (desc->natts != COLUMNS)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("type llm_result does not match this version of the library"),
						errhint("Run ALTER EXTENSION pgllm UPDATE.")));
	return heap_form_tuple(desc, row.values, row.nulls);
}
