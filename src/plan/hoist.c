/*
 * hoist.c — see hoist.h.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"

#include "hoist.h"
#include "node.h"

/* ---- past a plan node that passes its only child's rows on ---- */

/* Targets as they were, with the labels of the plan node whose place the node takes. */
static void
take_labels(CustomScan *node, List *labels)
{
	ListCell *to;
	ListCell *from;

	forboth(to, node->scan.plan.targetlist, from, labels)
		pgl_node_copy_label(lfirst_node(TargetEntry, to), lfirst_node(TargetEntry, from));
}

/* The node takes the place of a plan node above it, as what that one is to the rest of the plan. */
static void
take_place(CustomScan *node, Plan *plan)
{
	Plan *own = &node->scan.plan;

	take_labels(node, plan->targetlist);
	own->lefttree = plan;
	own->startup_cost = plan->startup_cost;
	own->total_cost = plan->total_cost;
	own->plan_rows = plan->plan_rows;
	own->parallel_safe = plan->parallel_safe;
	own->extParam = bms_copy(plan->extParam);
	own->allParam = bms_copy(plan->allParam);
	own->initPlan = list_concat(plan->initPlan, own->initPlan);
	plan->initPlan = NIL;
}

static Plan *
hoist_past(Plan *plan)
{
	CustomScan *node = (CustomScan *) plan->lefttree;
	Plan *below = node->scan.plan.lefttree;

	take_place(node, plan);
	plan->lefttree = below;
	plan->targetlist = pgl_node_pass_through(below->targetlist, OUTER_VAR);
	plan->plan_width = below->plan_width;
	return (Plan *) node;
}

/* ---- past an Append ---- */

static bool
same_expressions(List *left, List *right)
{
	ListCell *l;
	ListCell *r;

	if (list_length(left) != list_length(right))
		return false;
	forboth(l, left, r, right) if (!equal(lfirst_node(TargetEntry, l)->expr,
										  lfirst_node(TargetEntry, r)->expr)) return false;
	return true;
}

static bool
same_types(List *left, List *right)
{
	ListCell *l;
	ListCell *r;

	if (list_length(left) != list_length(right))
		return false;
	forboth(l, left, r, right)
	{
		Node *a = (Node *) lfirst_node(TargetEntry, l)->expr;
		Node *b = (Node *) lfirst_node(TargetEntry, r)->expr;

		if (exprType(a) != exprType(b) || exprTypmod(a) != exprTypmod(b) ||
			exprCollation(a) != exprCollation(b))
			return false;
	}
	return true;
}

/* Do both the same over rows of the same kind? */
static bool
is_like(const CustomScan *left, const CustomScan *right)
{
	const Plan *l = &left->scan.plan;
	const Plan *r = &right->scan.plan;

	return equal(left->custom_exprs, right->custom_exprs) &&
		   equal(left->custom_private, right->custom_private) && equal(l->qual, r->qual) &&
		   same_expressions(l->targetlist, r->targetlist) &&
		   same_types(l->lefttree->targetlist, r->lefttree->targetlist);
}

static bool
all_alike(List *plans)
{
	ListCell *cell;

	foreach (cell, plans)
	{
		Plan *plan = lfirst(cell);

		if (!pgl_node_is(plan) || plan->initPlan != NIL ||
			!is_like(linitial(plans), (CustomScan *) plan))
			return false;
	}
	return plans != NIL;
}

static Plan *
hoist_past_append(Append *append)
{
	CustomScan *node = linitial(append->appendplans);
	List *below = node->scan.plan.lefttree->targetlist;
	ListCell *cell;

	foreach (cell, append->appendplans)
		lfirst(cell) = ((Plan *) lfirst(cell))->lefttree;
	take_place(node, &append->plan);
	append->plan.targetlist = pgl_node_pass_through(below, OUTER_VAR);
	return (Plan *) node;
}

/* Scans that were to wait asynchronously, and are wrapped now, do not. */
static void
count_async(Append *append)
{
	ListCell *cell;

	append->nasyncplans = 0;
	foreach (cell, append->appendplans)
		append->nasyncplans += ((Plan *) lfirst(cell))->async_capable;
}

Plan *
pgl_hoist(Plan *plan, int cursor_options)
{
	bool over_node = pgl_node_is(plan->lefttree) && plan->lefttree->qual == NIL;

	switch (nodeTag(plan))
	{
		case T_Limit:
			if (over_node && ((Limit *) plan)->limitOption == LIMIT_OPTION_COUNT)
				return hoist_past(plan);
			return plan;
		case T_LockRows:
			/* WHERE CURRENT OF must find the row that the client saw last. */
			if (over_node && !(cursor_options & CURSOR_OPT_FAST_PLAN))
				return hoist_past(plan);
			return plan;
		case T_Append:
			if (all_alike(((Append *) plan)->appendplans))
				return hoist_past_append((Append *) plan);
			count_async((Append *) plan);
			return plan;
		default:
			return plan;
	}
}
