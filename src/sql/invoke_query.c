/*
 * invoke_query.c — llm_invoke_query: calls for all rows of a query, which has a key and a prompt.
 *
 * The query runs in a cursor, as the caller and in the snapshot of his statement, so that it is
 * read no faster than its prompts are called for.  A fetch has as many rows as fit into the room
 * there is if they are as large as the largest so far; the first has one.  Results go into a
 * tuplestore, which keeps what is beyond work_mem in a file.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "nodes/plannodes.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "../pg/compat.h"
#include "batch.h"
#include "options.h"
#include "query.h"
#include "result.h"

PG_FUNCTION_INFO_V1(pgl_llm_invoke_query);

#define MAX_ROWS_PER_FETCH 50
#define KEY_COLUMN 1
#define COLUMNS 2
#define MAX_KEY_SHOWN 64

typedef struct Rows
{
	Portal portal;
	SPITupleTable *fetched;
	uint64 next;    /* in fetched */
	size_t largest; /* row so far */
	ReturnSetInfo *results;
} Rows;

/* More rows; false: there are none.  Large values of a table are not fetched with their row. */
static bool
fetch(Rows *rows, size_t room)
{
	size_t fitting = rows->largest == 0 ? 1 : room / rows->largest;
	MemoryContext caller = CurrentMemoryContext;
	uint64 i;

	if (rows->fetched)
		SPI_freetuptable(rows->fetched);
	SPI_cursor_fetch(rows->portal, true, (long) Max(1, Min(fitting, MAX_ROWS_PER_FETCH)));
	MemoryContextSwitchTo(caller);
	rows->fetched = SPI_tuptable;
	rows->next = 0;
	for (i = 0; i < rows->fetched->numvals; i++)
		rows->largest = Max(rows->largest, rows->fetched->vals[i]->t_len);
	return rows->fetched->numvals > 0;
}

static void
refuse_empty(const PglBatchRow *row)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("prompt of row " INT64_FORMAT " must not be empty", row->number),
			 row->key ? errdetail("Its key is \"%.*s\".",
								  pg_mbcliplen(row->key, strlen(row->key), MAX_KEY_SHOWN), row->key)
					  : errdetail("Its key is null."),
			 errhint("Leave such rows out, or make their prompts null.")));
}

static bool
next_row(void *owner, size_t room, PglBatchRow *row)
{
	Rows *rows = owner;
	TupleDesc desc = rows->portal->tupDesc;
	HeapTuple tuple;
	Datum prompt;
	bool isnull;

	if ((rows->fetched == NULL || rows->next == rows->fetched->numvals) && !fetch(rows, room))
		return false;
	tuple = rows->fetched->vals[rows->next++];
	row->key = SPI_getvalue(tuple, desc, KEY_COLUMN);
	prompt = SPI_getbinval(tuple, desc, COLUMNS, &isnull);
	if (isnull)
		return true;
	row->prompt = DatumGetTextPP(prompt);
	if (VARSIZE_ANY_EXHDR(row->prompt) == 0)
		refuse_empty(row);
	return true;
}

static void
emit_result(void *owner, const PglBatchRow *row)
{
	Rows *rows = owner;
	Datum values[2] = {row->key ? CStringGetTextDatum(row->key) : (Datum) 0, row->value};
	bool nulls[2] = {row->key == NULL, row->isnull};

	tuplestore_putvalues(rows->results->setResult, rows->results->setDesc, values, nulls);
}

static void
check_columns(TupleDesc desc)
{
	if (desc->natts != COLUMNS)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("query must have two columns, a key and a prompt"),
						errdetail_plural("It has %d column.", "It has %d columns.", desc->natts,
										 desc->natts)));
	(void) pgl_query_prompt_column(desc);
}

Datum
pgl_llm_invoke_query(PG_FUNCTION_ARGS)
{
	Rows rows = {0};
	PglBatch batch = {.next = next_row, .emit = emit_result, .owner = &rows};

	pgl_options_read_call(fcinfo, &batch.args);
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("query must not be null")));
	rows.results = (ReturnSetInfo *) fcinfo->resultinfo;
	batch.result = pgl_result_type(TupleDescAttr(rows.results->setDesc, 1)->atttypid);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	rows.portal = pgl_query_open(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	check_columns(rows.portal->tupDesc);
	batch.expected = linitial_node(PlannedStmt, rows.portal->stmts)->planTree->plan_rows;
	pgl_batch_run(&batch);
	SPI_cursor_close(rows.portal);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	PG_RETURN_NULL();
}
