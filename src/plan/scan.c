/*
 * scan.c — see scan.h.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "utils/memutils.h"

#include "../call/call.h"
#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "scan.h"

/* While others take their time with the rows, answers and requests must not be left lying. */
#define TURN_EVERY_US INT64_C(1000)
#define ENOUGH_WINDOWS 2
/* A batch has so many windows of rows, that its last calls, when few are left, count for little. */
#define BATCH_WINDOWS 8
#define BATCH_MEMORY 4 /* part of work_mem for its rows; prompts, requests and answers follow */

static Node *create_state(CustomScan *node);
static void begin(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *next_row(CustomScanState *node);
static void end(CustomScanState *node);
static void restart(CustomScanState *node);

const CustomScanMethods pgl_scan_methods = {
	.CustomName = "ConcurrentCalls",
	.CreateCustomScanState = create_state,
};

/* No shutdown: it would come after each FETCH. */
static const CustomExecMethods exec_methods = {
	.CustomName = "ConcurrentCalls",
	.BeginCustomScan = begin,
	.ExecCustomScan = next_row,
	.EndCustomScan = end,
	.ReScanCustomScan = restart,
	.ExplainCustomScan = pgl_scan_explain,
};

void
pgl_scan_init(void)
{
	RegisterCustomScanMethods(&pgl_scan_methods);
}

static Node *
create_state(CustomScan *node)
{
	PglScanState *scan = palloc0(sizeof(PglScanState));

	NodeSetTag(scan, T_CustomScanState);
	scan->css.methods = &exec_methods;
	return (Node *) scan;
}

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	PglScanState *scan = (PglScanState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	if (eflags & (EXEC_FLAG_BACKWARD | EXEC_FLAG_MARK))
		elog(ERROR, "concurrent calls cannot be read backwards");
	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags);
	dlist_init(&scan->ring);
	dlist_init(&scan->open);
	dlist_init(&scan->shadows);
	scan->row_memory =
		AllocSetContextCreate(estate->es_query_cxt, "pgllm rows", ALLOCSET_DEFAULT_SIZES);
	scan->calls = pgl_call_group_make();
	scan->in_batches = pgl_node_in_batches(plan);
	pgl_step_begin(scan, estate);
	pgl_ahead_begin(scan);
}

/* ---- the loop ---- */

/* The next row of the child; NULL: there is none. */
static PglRow *
fetch(PglScanState *scan)
{
	TupleTableSlot *input = ExecProcNode(outerPlanState(scan));

	if (!TupIsNull(input))
		return pgl_row_make(scan, input);
	scan->child_is_done = true;
	pgl_ahead_child_is_done(scan);
	return NULL;
}

/* A turn of the network between rows, now and then. */
static void
look_after_calls(PglScanState *scan)
{
	int64_t now_us;

	if (scan->in_flight == 0)
		return;
	now_us = pgl_clock_us();
	if (now_us - scan->last_turn_us < TURN_EVERY_US)
		return;
	scan->last_turn_us = now_us;
	pgl_call_poll();
}

/* Steps of rows that are here and only needed room, in the order of the rows. */
static void
advance_open(PglScanState *scan)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &scan->open)
	{
		if (!pgl_step_has_room(scan))
			return;
		pgl_row_advance(scan, dlist_container(PglRow, open_node, iter.cur));
		look_after_calls(scan);
	}
}

static int
calls_out(const PglScanState *scan)
{
	return scan->in_flight + scan->followers;
}

/*
 * Rows that need no call, or whose answers were known, come as fast as they are read.  With nothing
 * in flight there is no reason to pile them up, beyond what another window of calls may begin with.
 */
static bool
has_plenty(const PglScanState *scan)
{
	return calls_out(scan) == 0 && scan->nrows >= ENOUGH_WINDOWS * pgl_guc_max_concurrency;
}

/* Keep as many calls in flight as may be. */
static void
fill(PglScanState *scan)
{
	pgl_step_collect(scan);
	advance_open(scan);
	while (!scan->child_is_done && !scan->has_failed && !has_plenty(scan) &&
		   pgl_step_has_room(scan) && pgl_ahead_may_fetch(scan))
	{
		PglRow *row;

		CHECK_FOR_INTERRUPTS();
		row = fetch(scan);
		if (row)
			pgl_row_advance(scan, row);
		look_after_calls(scan);
	}
}

/* ---- in batches ---- */

static void
fetch_batch(PglScanState *scan)
{
	while (!scan->child_is_done && scan->nrows < BATCH_WINDOWS * pgl_guc_max_concurrency &&
		   scan->bytes < (Size) work_mem * 1024 / BATCH_MEMORY && pgl_ahead_may_fetch(scan))
	{
		PglRow *row;

		CHECK_FOR_INTERRUPTS();
		row = fetch(scan);
		if (row)
			pgl_row_defer(scan, row);
	}
}

/*
 * A statement that waits for a lock of another session while it has calls in flight, or a place in
 * a queue, may wait for somebody who waits for these: nobody would see that deadlock.  So
 * statements that lock rows work in batches: they fetch rows, then make their calls, then emit the
 * rows; the child and the plan nodes above, which may wait, run while nothing is out.
 */
static void
fill_batch(PglScanState *scan)
{
	if (dlist_is_empty(&scan->ring))
		fetch_batch(scan);
	for (;;)
	{
		pgl_step_collect(scan);
		advance_open(scan);
		if (calls_out(scan) == 0)
			return;
		pgl_step_turn(scan);
	}
}

/* ---- */

static void
raise_failure(PglScanState *scan, PglRow *row)
{
	pgl_step_raise(scan, &row->steps[row->failed]);
}

/* The row as the plan nodes above see it; NULL when it is filtered out. */
static TupleTableSlot *
emit(PglScanState *scan, PglRow *row)
{
	PlanState *ps = &scan->css.ss.ps;
	ExprContext *context = ps->ps_ExprContext;

	dlist_delete(&row->node);
	scan->nrows--;
	scan->emitted = row;
	ResetExprContext(context);
	context->ecxt_scantuple = row->slot;
	if (ps->qual && !ExecQual(ps->qual, context))
	{
		InstrCountFiltered1(ps, 1);
		pgl_ahead_taken(scan, false);
		return NULL;
	}
	pgl_ahead_taken(scan, true);
	return ps->ps_ProjInfo ? ExecProject(ps->ps_ProjInfo) : row->slot;
}

static void
release_emitted(PglScanState *scan)
{
	if (scan->emitted)
		pgl_row_free(scan, scan->emitted);
	scan->emitted = NULL;
}

static TupleTableSlot *
next_row(CustomScanState *node)
{
	PglScanState *scan = (PglScanState *) node;

	pgl_ahead_enter(scan);
	for (;;)
	{
		PglRow *row;
		TupleTableSlot *slot;

		CHECK_FOR_INTERRUPTS();
		release_emitted(scan);
		if (scan->in_batches)
			fill_batch(scan);
		else
			fill(scan);
		if (dlist_is_empty(&scan->ring))
			return NULL;
		row = dlist_head_element(PglRow, node, &scan->ring);
		if (!pgl_row_is_ready(scan, row))
		{
			pgl_step_turn(scan);
			continue;
		}
		if (row->failed < scan->nsteps)
			raise_failure(scan, row);
		look_after_calls(scan);
		slot = emit(scan, row);
		if (slot)
			return slot;
	}
}

void
pgl_scan_settle(PglScanState *scan)
{
	pgl_step_collect(scan);
	while (calls_out(scan) > 0)
	{
		pgl_step_turn(scan);
		pgl_step_collect(scan);
	}
}

/* ---- the end ---- */

static void
drop_rows(PglScanState *scan)
{
	release_emitted(scan);
	while (!dlist_is_empty(&scan->ring))
	{
		PglRow *row = dlist_head_element(PglRow, node, &scan->ring);

		dlist_delete(&row->node);
		scan->nrows--;
		pgl_row_free(scan, row);
	}
	scan->child_is_done = scan->has_failed = false;
}

static void
restart(CustomScanState *node)
{
	PglScanState *scan = (PglScanState *) node;

	drop_rows(scan);
	pgl_ahead_restart(scan);
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

static void
end(CustomScanState *node)
{
	PglScanState *scan = (PglScanState *) node;

	drop_rows(scan);
	pgl_progress_finish(&scan->source);
	MemoryContextDelete(scan->row_memory);
	ExecEndNode(outerPlanState(node));
}
