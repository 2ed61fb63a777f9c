/*
 * step.c — one step of one row: see scan.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "../call/concurrency.h"
#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "scan.h"
#include "shadow.h"
#include "site.h"

/* Calls that wait for the same call of another row cost memory only. */
#define FOLLOWERS_PER_CALL 4

/* ---- preparing ---- */

/* As the executor does for a function call that it evaluates itself. */
static void
check_privilege(Oid function)
{
	AclResult result = object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

typedef struct NeedsContext
{
	int ninputs;
	Bitmapset *needs;
} NeedsContext;

static bool
note_needs(Node *node, void *context)
{
	NeedsContext *needs = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var) && castNode(Var, node)->varattno > needs->ninputs)
		needs->needs =
			bms_add_member(needs->needs, castNode(Var, node)->varattno - needs->ninputs - 1);
	return expression_tree_walker(node, note_needs, context);
}

static void
prepare_call(PglScanState *scan, PglStep *step, Node *node)
{
	PlanState *parent = &scan->css.ss.ps;
	PglSite site;
	ListCell *cell;

	pgl_site_read(node, &site);
	check_privilege(site.function);
	step->callable = site.callable;
	fmgr_info(site.function, &step->function);
	fmgr_info_set_expr(node, &step->function);
	step->nargs = list_length(site.args);
	step->args = palloc(sizeof(ExprState *) * step->nargs);
	step->fcinfo = palloc0(SizeForFunctionCallInfo(step->nargs));
	InitFunctionCallInfoData(*step->fcinfo, &step->function, step->nargs, site.collation, NULL,
							 NULL);
	step->nargs = 0;
	foreach (cell, site.args)
		step->args[step->nargs++] = ExecInitExpr(lfirst(cell), parent);
}

/* (llm_try_invoke(...)).* is one call site per column. */
static int
find_same(const PglProgram *program, int step)
{
	int earlier;

	for (earlier = 0; earlier < step; earlier++)
		if (list_nth_int(program->is_call, earlier) &&
			equal(list_nth(program->steps, earlier), list_nth(program->steps, step)) &&
			equal(list_nth(program->guards, earlier), list_nth(program->guards, step)))
			return earlier;
	return -1;
}

void
pgl_step_begin(PglScanState *scan, EState *estate)
{
	PlanState *parent = &scan->css.ss.ps;
	PglProgram program = pgl_node_program((CustomScan *) parent->plan);
	int i;

	scan->ninputs = program.ninputs;
	scan->nsteps = list_length(program.steps);
	scan->steps = palloc0(sizeof(PglStep) * scan->nsteps);
	scan->step_context = CreateExprContext(estate);
	for (i = 0; i < scan->nsteps; i++)
	{
		PglStep *step = &scan->steps[i];
		Node *node = list_nth(program.steps, i);
		Node *guard = list_nth(program.guards, i);
		NeedsContext needs = {scan->ninputs, NULL};

		step->column = scan->ninputs + i + 1;
		get_typlenbyval(exprType(node), &step->typlen, &step->typbyval);
		step->is_call = list_nth_int(program.is_call, i);
		step->guard = guard ? ExecInitQual(list_make1(guard), parent) : NULL;
		if (step->is_call)
			prepare_call(scan, step, node);
		else
			step->condition = ExecInitExpr((Expr *) node, parent);
		note_needs(node, &needs);
		note_needs(guard, &needs);
		step->same_as = step->is_call ? find_same(&program, i) : -1;
		if (step->same_as >= 0)
			needs.needs = bms_add_member(needs.needs, step->same_as);
		step->needs = needs.needs;
	}
}

/* ---- running ---- */

static void
count_in_flight(PglScanState *scan, PglStepRun *run, bool counts)
{
	run->counts = counts;
	if (counts)
		scan->in_flight++;
	else
		scan->followers++;
	scan->stats.peak_in_flight = Max(scan->stats.peak_in_flight, scan->in_flight);
}

static void
uncount_in_flight(PglScanState *scan, PglStepRun *run)
{
	if (run->counts)
		scan->in_flight--;
	else
		scan->followers--;
}

bool
pgl_step_has_room(const PglScanState *scan)
{
	if (!pgl_guc_concurrent_scan)
		return scan->in_flight + scan->followers == 0;
	return scan->followers < FOLLOWERS_PER_CALL * pgl_guc_max_concurrency &&
		   pgl_concurrency_has_room(scan->in_flight);
}

/* Other steps of the row that make the same call have its value, as a memo would give it to them.
 */
static void
share_value(PglScanState *scan, PglRow *row, int step, Datum value, bool is_null)
{
	int i;

	for (i = step + 1; i < scan->nsteps; i++)
	{
		if (scan->steps[i].same_as != step)
			continue;
		pgl_row_set(scan, row, i, value, is_null);
		pgl_row_step_ended(scan, &row->steps[i], PGL_STEP_DONE);
		scan->stats.memo_hits++;
	}
}

static int
count_same(const PglScanState *scan, int step)
{
	int n = 0;
	int i;

	for (i = step + 1; i < scan->nsteps; i++)
		n += scan->steps[i].same_as == step;
	return n;
}

/* The call is done: its value goes into the row, its failure waits for the row's turn. */
static void
finish(PglScanState *scan, PglStepRun *run)
{
	const PglStep *step = &scan->steps[run->step];
	PglCall *call = run->call;
	const PglOutcome *outcome = pgl_call_outcome(call);
	bool is_shared;
	MemoryContext caller;
	Datum value;

	pgl_scan_count(scan, outcome);
	if (step->callable->fails(outcome))
	{
		pgl_row_step_ended(scan, run, PGL_STEP_FAILED);
		return;
	}
	is_shared = pgl_call_share(call, count_same(scan, run->step));
	ResetExprContext(scan->step_context);
	caller = MemoryContextSwitchTo(scan->step_context->ecxt_per_tuple_memory);
	run->call = NULL;
	step->fcinfo->isnull = false;
	value = step->callable->finish(step->fcinfo, call);
	MemoryContextSwitchTo(caller);
	pgl_row_set(scan, run->row, run->step, value, step->fcinfo->isnull);
	pgl_row_step_ended(scan, run, PGL_STEP_DONE);
	if (is_shared)
		share_value(scan, run->row, run->step, value, step->fcinfo->isnull);
}

static void
start_call(PglScanState *scan, PglStepRun *run)
{
	const PglStep *step = &scan->steps[run->step];
	PglCall *call;

	call = pgl_function_start(step->callable, step->fcinfo, scan->calls, scan->row_memory,
							  &run->mistake);
	if (run->mistake)
	{
		pgl_row_step_ended(scan, run, PGL_STEP_FAILED);
		return;
	}
	if (call == NULL)
	{
		scan->stats.null_inputs++;
		pgl_row_step_ended(scan, run, PGL_STEP_DONE);
		return;
	}
	run->call = call;
	pgl_call_set_tag(call, (int64_t) (intptr_t) run);
	if (pgl_call_is_done(call))
	{
		finish(scan, run);
		return;
	}
	run->state = PGL_STEP_RUNNING;
	count_in_flight(scan, run, !pgl_call_is_following(call));
	pgl_row_charge(scan, run->row, pgl_call_payload(call));
}

/* Evaluated at once, delivered some turns later. */
static void
start_shadow(PglScanState *scan, PglStepRun *run)
{
	const PglStep *step = &scan->steps[run->step];
	Datum value;

	step->fcinfo->isnull = false;
	value = FunctionCallInvoke(step->fcinfo);
	pgl_row_set(scan, run->row, run->step, value, step->fcinfo->isnull);
	pgl_shadow_count();
	run->delay = pgl_shadow_delay();
	if (run->delay == 0)
	{
		pgl_row_step_ended(scan, run, PGL_STEP_DONE);
		return;
	}
	run->state = PGL_STEP_RUNNING;
	dlist_push_tail(&scan->shadows, &run->shadow_node);
	count_in_flight(scan, run, true);
}

static bool
evaluate_args(PglScanState *scan, const PglStep *step)
{
	FunctionCallInfo fcinfo = step->fcinfo;
	bool any_null = false;
	int i;

	for (i = 0; i < step->nargs; i++)
	{
		fcinfo->args[i].value =
			ExecEvalExpr(step->args[i], scan->step_context, &fcinfo->args[i].isnull);
		any_null |= fcinfo->args[i].isnull;
	}
	return !(any_null && step->function.fn_strict);
}

static void
run_call(PglScanState *scan, PglStepRun *run)
{
	const PglStep *step = &scan->steps[run->step];

	if (!evaluate_args(scan, step))
	{
		scan->stats.null_inputs++;
		pgl_row_step_ended(scan, run, PGL_STEP_DONE);
	}
	else if (step->callable)
		start_call(scan, run);
	else
		start_shadow(scan, run);
}

static bool
guard_holds(PglScanState *scan, const PglStep *step)
{
	return step->guard == NULL || ExecQual(step->guard, scan->step_context);
}

/* Leaves it open if there is no room for another call. */
void
pgl_step_run(PglScanState *scan, PglStepRun *run)
{
	const PglStep *step = &scan->steps[run->step];
	ExprContext *context = scan->step_context;
	MemoryContext caller;

	ResetExprContext(context);
	context->ecxt_scantuple = run->row->slot;
	caller = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
	if (!guard_holds(scan, step))
	{
		scan->stats.skipped += step->is_call;
		pgl_row_step_ended(scan, run, PGL_STEP_DONE);
	}
	else if (!step->is_call)
	{
		bool is_null;
		Datum value = ExecEvalExpr(step->condition, context, &is_null);

		pgl_row_set(scan, run->row, run->step, value, is_null);
		pgl_row_step_ended(scan, run, PGL_STEP_DONE);
	}
	else if (pgl_step_has_room(scan))
		run_call(scan, run);
	MemoryContextSwitchTo(caller);
}

/* ---- ending ---- */

static void
deliver_shadows(PglScanState *scan)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &scan->shadows)
	{
		PglStepRun *run = dlist_container(PglStepRun, shadow_node, iter.cur);

		if (--run->delay > 0)
			continue;
		dlist_delete(&run->shadow_node);
		uncount_in_flight(scan, run);
		pgl_row_step_ended(scan, run, PGL_STEP_DONE);
		pgl_row_advance(scan, run->row);
	}
}

void
pgl_step_collect(PglScanState *scan)
{
	PglCall *call;

	while ((call = pgl_call_next_done(scan->calls)) != NULL)
	{
		PglStepRun *run = (PglStepRun *) (intptr_t) pgl_call_tag(call);

		/* It was done before it left. */
		if (run->state != PGL_STEP_RUNNING)
			continue;
		uncount_in_flight(scan, run);
		finish(scan, run);
		pgl_row_advance(scan, run->row);
	}
}

void
pgl_step_turn(PglScanState *scan)
{
	int64_t began_us;

	if (!dlist_is_empty(&scan->shadows))
	{
		deliver_shadows(scan);
		return;
	}
	began_us = pgl_clock_us();
	pgl_call_drive();
	scan->last_turn_us = pgl_clock_us();
	scan->stats.wait_us += scan->last_turn_us - began_us;
}

void
pgl_step_cancel(PglScanState *scan, PglStepRun *run)
{
	if (run->state == PGL_STEP_RUNNING)
	{
		uncount_in_flight(scan, run);
		scan->stats.discarded++;
		if (run->delay > 0)
			dlist_delete(&run->shadow_node);
	}
	if (run->call)
		pgl_call_free(run->call);
	if (run->mistake)
		FreeErrorData(run->mistake);
	run->call = NULL;
	run->mistake = NULL;
	run->state = PGL_STEP_OPEN;
}

void
pgl_step_raise(PglScanState *scan, PglStepRun *run)
{
	const PglStep *step = &scan->steps[run->step];

	if (run->mistake)
		ReThrowError(run->mistake);
	step->callable->finish(step->fcinfo, run->call);
	elog(ERROR, "a failed call has a value");
}
