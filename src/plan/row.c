/*
 * row.c — rows of the ring: see scan.h.
 *
 * A row is a virtual tuple of the node's scan type: the input columns are copied at once, as the
 * child goes on to its next row, and results are filled in as they come.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "scan.h"

#define MAX_SPARE 1024

static PglRow *
new_row(PglScanState *scan)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->row_memory);
	PglRow *row = palloc(offsetof(PglRow, steps) + sizeof(PglStepRun) * scan->nsteps);

	row->slot = MakeSingleTupleTableSlot(scan->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor,
										 &TTSOpsVirtual);
	MemoryContextSwitchTo(caller);
	return row;
}

static void
copy_input(PglScanState *scan, TupleTableSlot *slot, TupleTableSlot *input)
{
	int natts = slot->tts_tupleDescriptor->natts;

	slot_getallattrs(input);
	memcpy(slot->tts_values, input->tts_values, sizeof(Datum) * scan->ninputs);
	memcpy(slot->tts_isnull, input->tts_isnull, sizeof(bool) * scan->ninputs);
	memset(slot->tts_isnull + scan->ninputs, true, sizeof(bool) * (natts - scan->ninputs));
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
}

void
pgl_row_charge(PglScanState *scan, PglRow *row, Size bytes)
{
	row->bytes += bytes;
	scan->bytes += bytes;
	scan->stats.peak_bytes = Max(scan->stats.peak_bytes, scan->bytes);
}

PglRow *
pgl_row_make(PglScanState *scan, TupleTableSlot *input)
{
	PglRow *row = scan->nspare > 0 ? scan->spare[--scan->nspare] : new_row(scan);
	char *data;
	int i;

	copy_input(scan, row->slot, input);
	row->is_open = false;
	row->number = scan->stats.rows;
	row->unfinished = row->failed = scan->nsteps;
	row->bytes = 0;
	for (i = 0; i < scan->nsteps; i++)
	{
		PglStepRun *run = &row->steps[i];

		memset(run, 0, sizeof(*run));
		run->row = row;
		run->step = i;
	}
	data = ((VirtualTupleTableSlot *) row->slot)->data;
	pgl_row_charge(scan, row,
				   offsetof(PglRow, steps) + sizeof(PglStepRun) * scan->nsteps +
					   (data ? GetMemoryChunkSpace(data) : 0));
	dlist_push_tail(&scan->ring, &row->node);
	scan->nrows++;
	scan->stats.rows++;
	scan->stats.peak_rows = Max(scan->stats.peak_rows, scan->nrows);
	return row;
}

static void
set_open(PglScanState *scan, PglRow *row, bool is_open)
{
	if (row->is_open == is_open)
		return;
	if (is_open)
		dlist_push_tail(&scan->open, &row->open_node);
	else
		dlist_delete(&row->open_node);
	row->is_open = is_open;
}

void
pgl_row_defer(PglScanState *scan, PglRow *row)
{
	set_open(scan, row, true);
}

/* Results are chunks of their own; inputs belong to the slot. */
static void
free_results(PglScanState *scan, PglRow *row)
{
	int i;

	for (i = 0; i < scan->nsteps; i++)
		if (row->steps[i].has_value)
			pfree(DatumGetPointer(row->steps[i].value));
}

static void
keep_spare(PglScanState *scan, PglRow *row)
{
	if (scan->spare == NULL)
		scan->spare = MemoryContextAlloc(scan->row_memory, sizeof(PglRow *) * MAX_SPARE);
	if (scan->nspare < MAX_SPARE)
	{
		scan->spare[scan->nspare++] = row;
		return;
	}
	ExecDropSingleTupleTableSlot(row->slot);
	pfree(row);
}

void
pgl_row_free(PglScanState *scan, PglRow *row)
{
	int i;

	set_open(scan, row, false);
	for (i = 0; i < scan->nsteps; i++)
		pgl_step_cancel(scan, &row->steps[i]);
	free_results(scan, row);
	ExecClearTuple(row->slot);
	scan->bytes -= row->bytes;
	keep_spare(scan, row);
}

void
pgl_row_set(PglScanState *scan, PglRow *row, int step, Datum value, bool is_null)
{
	const PglStep *described = &scan->steps[step];
	int column = described->column - 1;
	MemoryContext caller;

	if (is_null)
		return;
	caller = MemoryContextSwitchTo(scan->row_memory);
	value = datumCopy(value, described->typbyval, described->typlen);
	MemoryContextSwitchTo(caller);
	row->slot->tts_values[column] = value;
	row->slot->tts_isnull[column] = false;
	if (described->typbyval)
		return;
	row->steps[step].value = value;
	row->steps[step].has_value = true;
	pgl_row_charge(scan, row, GetMemoryChunkSpace(DatumGetPointer(value)));
}

void
pgl_row_step_ended(PglScanState *scan, PglStepRun *run, PglStepState state)
{
	PglRow *row = run->row;

	run->state = state;
	row->unfinished--;
	if (state == PGL_STEP_FAILED)
	{
		row->failed = Min(row->failed, run->step);
		scan->failed = scan->has_failed ? Min(scan->failed, row->number) : row->number;
		scan->has_failed = true;
	}
}

static bool
has_what_it_needs(const PglScanState *scan, const PglRow *row, int step)
{
	int needed = -1;

	while ((needed = bms_next_member(scan->steps[step].needs, needed)) >= 0)
		if (row->steps[needed].state != PGL_STEP_DONE)
			return false;
	return true;
}

/*
 * Steps need earlier steps only, so one pass is enough.  What comes after a failure is not run, in
 * this row or in another: the failure is raised first.
 */
void
pgl_row_advance(PglScanState *scan, PglRow *row)
{
	bool needs_room = false;
	int i;

	if (scan->has_failed && row->number > scan->failed)
	{
		set_open(scan, row, false);
		return;
	}
	for (i = 0; i < row->failed && i < scan->nsteps; i++)
	{
		PglStepRun *run = &row->steps[i];

		if (run->state != PGL_STEP_OPEN || !has_what_it_needs(scan, row, i))
			continue;
		pgl_step_run(scan, run);
		needs_room |= run->state == PGL_STEP_OPEN;
	}
	set_open(scan, row, needs_room);
}

/* All its steps have ended, or one has failed and all before it, which might fail first. */
bool
pgl_row_is_ready(const PglScanState *scan, const PglRow *row)
{
	int i;

	if (row->unfinished == 0)
		return true;
	if (row->failed == scan->nsteps)
		return false;
	for (i = 0; i < row->failed; i++)
		if (row->steps[i].state != PGL_STEP_DONE)
			return false;
	return true;
}
