/*
 * batch.c — the window of a batch: calls in flight, and results that wait for their turn.
 *
 * The window holds rows in the order of their prompts.  At its head stands the row that is due
 * next; results behind it wait, so that slow calls do not keep fast ones from being started.  How
 * many calls are in flight is decided in call/concurrency.h.  How far the window reaches ahead is
 * bounded by bytes, and by a number of rows for those that cost no bytes.  One row is always let
 * in.
 *
 * After a failure that will be raised nothing more is started: rows before it may still be out, and
 * one of them may fail too; rows behind it are not needed.
 *
 * Memory: rows live in a context of the batch, what is made for one row only in another that is
 * reset after it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "../call/concurrency.h"
#include "../call/progress.h"
#include "../pg/compat.h"
#include "batch.h"
#include "options.h"
#include "result.h"

#define MAX_ROWS 10000
#define COPIES 2 /* of a prompt while its call is out: as UTF-8, and in the request */

typedef struct Entry
{
	dlist_node node;
	PglBatchRow row;
	size_t bytes;    /* held for it */
	bool is_out;     /* its call is in flight */
	PglCall *failed; /* its failure is to be raised */
} Entry;

typedef struct Window
{
	PglBatch *batch;
	PglCallGroup *group;
	dlist_head entries; /* head: due next */
	int rows;
	int in_flight;
	int64 taken; /* rows taken from the source */
	size_t bytes;
	bool no_more;        /* rows are to be taken from the source */
	PglRowSource source; /* what the statement expects */
	MemoryContext context;
	MemoryContext scratch; /* reset after each row */
} Window;

static size_t
budget(void)
{
	return (size_t) work_mem * 1024;
}

static bool
has_room(const Window *window)
{
	if (window->no_more)
		return false;
	if (window->rows == 0)
		return true;
	return window->rows < MAX_ROWS && window->bytes < budget() &&
		   pgl_concurrency_has_room(window->in_flight);
}

/* ---- into the window ---- */

/* Of a row without its prompt and its result. */
static size_t
bare_size(const Entry *entry)
{
	return sizeof(Entry) + (entry->row.key ? strlen(entry->row.key) + 1 : 0);
}

static void
hold(Window *window, Entry *entry, size_t bytes)
{
	window->bytes += bytes - entry->bytes;
	entry->bytes = bytes;
}

static void
start_call(Window *window, Entry *entry, const text *prompt)
{
	PglCallArgs *args = &window->batch->args;
	size_t bytes = VARSIZE_ANY_EXHDR(prompt) + (args->system ? strlen(args->system) : 0);
	PglCall *call;

	pgl_options_set_prompt(args, prompt);
	call = pgl_call_start(args, window->group);
	pgl_call_set_tag(call, (intptr_t) entry);
	entry->is_out = true;
	window->in_flight++;
	hold(window, entry, bare_size(entry) + COPIES * bytes);
}

static Entry *
add_entry(Window *window, const PglBatchRow *row)
{
	Entry *entry = MemoryContextAllocZero(window->context, sizeof(Entry));

	entry->row.number = row->number;
	entry->row.isnull = true;
	if (row->key)
		entry->row.key = MemoryContextStrdup(window->context, row->key);
	dlist_push_tail(&window->entries, &entry->node);
	window->rows++;
	hold(window, entry, bare_size(entry));
	return entry;
}

/* The next row of the source, with its call. */
static void
take_row(Window *window)
{
	PglBatch *batch = window->batch;
	PglBatchRow row = {.number = window->taken + 1};
	size_t room = budget() > window->bytes ? budget() - window->bytes : 0;
	MemoryContext caller;

	MemoryContextReset(window->scratch);
	caller = MemoryContextSwitchTo(window->scratch);
	if (batch->next(batch->owner, room, &row))
	{
		Entry *entry = add_entry(window, &row);

		window->taken++;
		if (row.prompt)
			start_call(window, entry, row.prompt);
	}
	else
	{
		window->no_more = true;
		pgl_progress_expect(&window->source, window->rows);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(window->scratch);
}

/* ---- out of it ---- */

/* The result of a call that is done, in the memory of the window. */
static Datum
keep_result(Window *window, const PglOutcome *outcome)
{
	TupleDesc result = window->batch->result;
	MemoryContext caller;
	Datum value;

	if (result == NULL)
	{
		caller = MemoryContextSwitchTo(window->context);
		value = PointerGetDatum(cstring_to_text_with_len(outcome->response, outcome->response_len));
	}
	else
	{
		HeapTuple tuple;

		caller = MemoryContextSwitchTo(window->scratch);
		tuple = pgl_result_form(outcome, result);
		MemoryContextSwitchTo(window->context);
		value = heap_copy_tuple_as_datum(tuple, result);
		MemoryContextReset(window->scratch);
	}
	MemoryContextSwitchTo(caller);
	return value;
}

static void
finish_call(Window *window, PglCall *call)
{
	Entry *entry = (Entry *) (intptr_t) pgl_call_tag(call);
	const PglOutcome *outcome = pgl_call_outcome(call);

	pgl_call_report_budgets(call);
	entry->is_out = false;
	window->in_flight--;
	if (window->batch->result == NULL && outcome->sqlstate != 0)
	{
		entry->failed = call;
		window->no_more = true;
		return;
	}
	entry->row.value = keep_result(window, outcome);
	entry->row.isnull = false;
	hold(window, entry, bare_size(entry) + VARSIZE_ANY(DatumGetPointer(entry->row.value)));
	pgl_call_free(call);
}

static void
name_prompt(void *arg)
{
	errcontext("prompt " INT64_FORMAT, ((const Entry *) arg)->row.number);
}

static void
raise_failure(Entry *entry)
{
	ErrorContextCallback where = {
		.previous = error_context_stack, .callback = name_prompt, .arg = entry};

	error_context_stack = &where;
	pgl_call_raise(entry->failed);
}

static void
drop(Window *window, Entry *entry)
{
	dlist_delete(&entry->node);
	window->rows--;
	hold(window, entry, 0);
	if (!entry->row.isnull)
		pfree(DatumGetPointer(entry->row.value));
	if (entry->row.key)
		pfree(unconstify(char *, entry->row.key));
	pfree(entry);
}

/* Rows whose turn has come. */
static void
emit_rows(Window *window)
{
	PglBatch *batch = window->batch;

	while (!dlist_is_empty(&window->entries))
	{
		Entry *entry = dlist_container(Entry, node, dlist_head_node(&window->entries));
		MemoryContext caller;

		if (entry->is_out)
			return;
		if (entry->failed)
			raise_failure(entry);
		caller = MemoryContextSwitchTo(window->scratch);
		batch->emit(batch->owner, &entry->row);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(window->scratch);
		drop(window, entry);
		pgl_progress_row_done(&window->source);
	}
}

static void
open_window(Window *window, PglBatch *batch)
{
	MemoryContext caller;

	memset(window, 0, sizeof(*window));
	window->batch = batch;
	window->context =
		AllocSetContextCreate(CurrentMemoryContext, "pgllm batch", ALLOCSET_DEFAULT_SIZES);
	window->scratch =
		AllocSetContextCreate(window->context, "pgllm batch row", ALLOCSET_DEFAULT_SIZES);
	dlist_init(&window->entries);
	caller = MemoryContextSwitchTo(window->context);
	window->group = pgl_call_group_make();
	MemoryContextSwitchTo(caller);
}

void
pgl_batch_run(PglBatch *batch)
{
	Window window;

	open_window(&window, batch);
	pgl_progress_expect(&window.source, batch->expected);
	while (window.rows > 0 || !window.no_more)
	{
		PglCall *call;

		CHECK_FOR_INTERRUPTS();
		/* What is in the window but not due waits for a call that is out: there is one. */
		if (has_room(&window))
		{
			take_row(&window);
			pgl_call_poll();
		}
		else
			pgl_call_drive();
		while ((call = pgl_call_next_done(window.group)) != NULL)
			finish_call(&window, call);
		emit_rows(&window);
	}
	MemoryContextDelete(window.context);
}
