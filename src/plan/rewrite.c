/*
 * rewrite.c — see rewrite.h.
 *
 * The planner does its work as ever; then its plan is changed, from the leaves to the root.  After
 * that all expressions refer to their inputs by position, and a plan node may be replaced by
 * another with the same columns without anything above it noticing.
 *
 * A statement without call sites leaves here at once: plans name the functions that they use.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/planmain.h"
#include "optimizer/planner.h"

#include "../pg/compat.h"
#include "../pg/guc.h"
#include "demand.h"
#include "hoist.h"
#include "lateral.h"
#include "node.h"
#include "place.h"
#include "rewrite.h"
#include "run.h"
#include "scan.h"
#include "site.h"
#include "walk.h"

/* Plan nodes have numbers by which parallel workers find their part; those of the planner are
 * small.
 */
#define FIRST_NODE_ID 1000000

static planner_hook_type previous_planner = NULL;

static Plan *rewrite(Plan *plan, int cursor_options);

static void
rewrite_list(List *plans, int cursor_options)
{
	ListCell *cell;

	foreach (cell, plans)
		lfirst(cell) = rewrite(lfirst(cell), cursor_options);
}

/* The planner took the inner side of a merge join for one that can go back to a mark. */
static void
restore_marks(MergeJoin *join)
{
	Plan *inner = join->join.plan.righttree;

	if (pgl_node_is(inner) && !join->skip_mark_restore)
		join->join.plan.righttree = materialize_finished_plan(inner);
}

static void
rewrite_children(Plan *plan, int cursor_options)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			rewrite_list(((Append *) plan)->appendplans, cursor_options);
			return;
		case T_MergeAppend:
			rewrite_list(((MergeAppend *) plan)->mergeplans, cursor_options);
			return;
		case T_SubqueryScan:
			((SubqueryScan *) plan)->subplan =
				rewrite(((SubqueryScan *) plan)->subplan, cursor_options);
			return;
		case T_ForeignScan:
		case T_CustomScan:
			return;
		case T_ModifyTable:
			/* A foreign scan that changes rows by itself must not do so ahead of RETURNING. */
			if (!bms_is_empty(((ModifyTable *) plan)->fdwDirectModifyPlans))
				return;
			plan->lefttree = rewrite(plan->lefttree, cursor_options);
			return;
		default:
			plan->lefttree = rewrite(plan->lefttree, cursor_options);
			plan->righttree = rewrite(plan->righttree, cursor_options);
			return;
	}
}

static Plan *
rewrite(Plan *plan, int cursor_options)
{
	if (plan == NULL)
		return NULL;
	check_stack_depth();
	rewrite_children(plan, cursor_options);
	plan = pgl_lateral_flatten(plan);
	if (pgl_node_is(plan))
		return plan;
	if (IsA(plan, MergeJoin))
		restore_marks((MergeJoin *) plan);
	pgl_place_below(plan);
	return pgl_place_above(pgl_hoist(plan, cursor_options));
}

/* PL/pgSQL recognises `SELECT expression` by the shape of its plan, and evaluates it by itself. */
static bool
is_simple_expression(const Query *query)
{
	return query->commandType == CMD_SELECT && query->rtable == NIL && query->cteList == NIL &&
		   query->setOperations == NULL && !query->hasSubLinks &&
		   list_length(query->targetList) == 1;
}

static void
number_node(Plan *plan, void *context)
{
	int *next = context;

	if (pgl_node_is(plan) || plan->plan_node_id == 0)
		plan->plan_node_id = (*next)++;
}

static void
rewrite_statement(PlannedStmt *statement, int cursor_options)
{
	int next_id = FIRST_NODE_ID;
	Plan *root = statement->planTree;

	rewrite_list(statement->subplans, cursor_options);
	statement->planTree = rewrite(root, cursor_options);
	if (statement->planTree != root && (cursor_options & CURSOR_OPT_SCROLL) &&
		!ExecSupportsBackwardScan(statement->planTree))
		statement->planTree = materialize_finished_plan(statement->planTree);
	pgl_demand_set(statement);
	pgl_walk_statement(statement, number_node, &next_id);
}

static PlannedStmt *
plan_statement(Query *query, const char *source, int cursor_options, ParamListInfo params)
{
	bool simple = is_simple_expression(query);
	PlannedStmt *statement = previous_planner
								 ? previous_planner(query, source, cursor_options, params)
								 : standard_planner(query, source, cursor_options, params);

	if (pgl_guc_concurrent_scan && !simple && statement->commandType != CMD_UTILITY &&
		pgl_site_possible(statement))
		rewrite_statement(statement, cursor_options);
	return statement;
}

void
pgl_rewrite_init(void)
{
	pgl_site_init();
	pgl_scan_init();
	pgl_run_init();
	previous_planner = planner_hook;
	planner_hook = plan_statement;
}
