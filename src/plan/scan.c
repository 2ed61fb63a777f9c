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
#define TURN_EVERY_US INT64_C(2000)
#define ENOUGH_WINDOWS 2

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
	pgl_step_begin(scan, estate);
	pgl_ahead_begin(scan);
}

/* ---- the loop ---- */

static void
fetch(PglScanState *scan)
{
	TupleTableSlot *input = ExecProcNode(outerPlanState(scan));
	PglRow *row;

	if (TupIsNull(input))
	{
		scan->child_is_done = true;
		return;
	}
	row = pgl_row_make(scan, input);
	pgl_row_advance(scan, row);
}

/*
 * Rows that need no call, or whose answers were known, come as fast as they are read.  With nothing
 * in flight there is no reason to pile them up, beyond what another window of calls may begin with.
 */
static bool
has_plenty(const PglScanState *scan)
{
	return scan->in_flight + scan->followers == 0 &&
		   scan->nrows >= ENOUGH_WINDOWS * pgl_guc_max_concurrency;
}

/* Keep as many calls in flight as may be: first those of rows that are here, in their order. */
static void
fill(PglScanState *scan)
{
	dlist_mutable_iter iter;

	pgl_step_collect(scan);
	dlist_foreach_modify (iter, &scan->open)
	{
		if (!pgl_step_has_room(scan))
			return;
		pgl_row_advance(scan, dlist_container(PglRow, open_node, iter.cur));
	}
	while (!scan->child_is_done && !scan->has_failed && !has_plenty(scan) &&
		   pgl_step_has_room(scan) && pgl_ahead_may_fetch(scan))
	{
		CHECK_FOR_INTERRUPTS();
		fetch(scan);
	}
}

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
		return NULL;
	}
	pgl_ahead_emitted(scan);
	return ps->ps_ProjInfo ? ExecProject(ps->ps_ProjInfo) : row->slot;
}

static void
release_emitted(PglScanState *scan)
{
	if (scan->emitted)
		pgl_row_free(scan, scan->emitted);
	scan->emitted = NULL;
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
	while (scan->in_flight + scan->followers > 0)
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
	MemoryContextDelete(scan->row_memory);
	ExecEndNode(outerPlanState(node));
}
