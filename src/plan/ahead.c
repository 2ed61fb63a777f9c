/*
 * ahead.c — how far ahead of their turn rows may be fetched: see scan.h and demand.h.
 *
 * A row that has been fetched has had its call made, so:
 *
 *	all rows will be asked for   as far as memory allows
 *	so many will be              no further than that
 *	nobody knows                 slow start: no more rows ahead than have been taken
 *
 * One row may always be fetched when none is there, as it has been asked for.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"

#include "../pg/guc.h"
#include "scan.h"

/* More would not help: what is in flight is bounded otherwise, rows without calls are quick. */
#define MAX_ROWS 10000

void
pgl_ahead_begin(PglScanState *scan)
{
	CustomScan *plan = (CustomScan *) scan->css.ss.ps.plan;
	PlanState *parent = &scan->css.ss.ps;

	scan->demand = pgl_node_demand(plan);
	scan->limit_count = ExecInitExpr((Expr *) pgl_node_limit_count(plan), parent);
	scan->limit_offset = ExecInitExpr((Expr *) pgl_node_limit_offset(plan), parent);
}

void
pgl_ahead_restart(PglScanState *scan)
{
	scan->emitted_rows = 0;
	scan->limit_is_known = false;
}

static uint64
evaluate(PglScanState *scan, ExprState *expression, bool *is_null)
{
	int64 value;

	*is_null = true;
	if (expression == NULL)
		return 0;
	value = DatumGetInt64(ExecEvalExprSwitchContext(expression, scan->step_context, is_null));
	return *is_null || value < 0 ? 0 : (uint64) value;
}

static void
read_limit(PglScanState *scan)
{
	bool has_no_count;
	bool has_no_offset;
	uint64 count;

	if (scan->limit_is_known || scan->demand != PGL_DEMAND_LIMITED)
		return;
	ResetExprContext(scan->step_context);
	count = evaluate(scan, scan->limit_count, &has_no_count);
	scan->limit = count + evaluate(scan, scan->limit_offset, &has_no_offset);
	scan->has_limit = !has_no_count;
	scan->limit_is_known = true;
}

static void
note_run(PglScanState *scan)
{
	PglRun *run = pgl_run_of(scan->css.ss.ps.state);

	scan->run = run;
	if (run == NULL || run->number == scan->run_number)
		return;
	scan->run_number = run->number;
	scan->run_emitted = 0;
	pgl_run_add(run, scan);
}

void
pgl_ahead_enter(PglScanState *scan)
{
	read_limit(scan);
	note_run(scan);
}

void
pgl_ahead_emitted(PglScanState *scan)
{
	scan->emitted_rows++;
	scan->run_emitted++;
}

static bool
may_start_slowly(const PglScanState *scan)
{
	return (uint64) scan->nrows < scan->emitted_rows;
}

/*
 * Rows that the run still wants; those in the ring are on their way already.  A client's FETCH gets
 * what it asks for and no call more.  A loop fetches 1 row at a time, or 10, or 50, whatever it
 * will do: more is begun, slowly.
 */
static bool
may_for_run(const PglScanState *scan)
{
	const PglRun *run = scan->run;

	if (run == NULL || run->count == 0)
		return true;
	if (scan->demand != PGL_DEMAND_RUN &&
		(uint64) scan->nrows < run->count - Min(scan->run_emitted, run->count))
		return true;
	switch (scan->demand)
	{
		case PGL_DEMAND_RUN_EXACT:
			return false;
		case PGL_DEMAND_RUN_ROWS:
			return run->is_loop && may_start_slowly(scan);
		default:
			return may_start_slowly(scan);
	}
}

bool
pgl_ahead_may_fetch(const PglScanState *scan)
{
	if (scan->nrows == 0)
		return true;
	if (scan->nrows >= MAX_ROWS || scan->bytes >= (Size) work_mem * 1024)
		return false;
	switch (scan->demand)
	{
		case PGL_DEMAND_ALL:
			return true;
		case PGL_DEMAND_RUN:
		case PGL_DEMAND_RUN_ROWS:
		case PGL_DEMAND_RUN_EXACT:
			return may_for_run(scan);
		case PGL_DEMAND_LIMITED:
			if (scan->has_limit)
				return scan->emitted_rows + scan->nrows < scan->limit;
			break;
		case PGL_DEMAND_UNKNOWN:
			break;
	}
	return may_start_slowly(scan);
}
