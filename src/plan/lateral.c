/*
 * lateral.c — see lateral.h.
 *
 * The inner side must give exactly one row: a projection of nothing, or a scan of one function that
 * returns no set.  It is planned again for each row of the outer side, by Params; these become the
 * columns that they stand for.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

#include "lateral.h"
#include "node.h"
#include "place.h"
#include "site.h"

typedef struct Lateral
{
	NestLoop *loop;
	int nouter;       /* columns of the outer side */
	List *computed;   /* expressions of the inner side, over the outer one */
	Index scan;       /* relation of the function scan; 0: the inner side is a projection */
	bool returns_row; /* the function's columns are those of its row */
	List *inner;      /* targets of the inner side, over the lower projection */
	bool impossible;
} Lateral;

/* ---- from the inner side to the lower projection ---- */

static Node *
replace_params(Node *node, void *context)
{
	Lateral *lateral = context;
	ListCell *cell;

	if (node == NULL)
		return NULL;
	if (IsA(node, SubPlan))
		lateral->impossible = true;
	if (IsA(node, Param) && castNode(Param, node)->paramkind == PARAM_EXEC)
		foreach (cell, lateral->loop->nestParams)
			if (lfirst_node(NestLoopParam, cell)->paramno == castNode(Param, node)->paramid)
				return copyObject((Node *) lfirst_node(NestLoopParam, cell)->paramval);
	return expression_tree_mutator(node, replace_params, context);
}

static Node *
computed_column(const Lateral *lateral, int n)
{
	Node *expression = list_nth(lateral->computed, n);

	return (Node *) makeVar(OUTER_VAR, lateral->nouter + n + 1, exprType(expression),
							exprTypmod(expression), exprCollation(expression), 0);
}

static void
read_projection(Lateral *lateral, Plan *inner)
{
	ListCell *cell;

	foreach (cell, inner->targetlist)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		lateral->computed =
			lappend(lateral->computed, replace_params((Node *) target->expr, lateral));
		lateral->inner =
			lappend(lateral->inner, computed_column(lateral, list_length(lateral->inner)));
	}
}

/* A column of the function scan, as it comes out of the lower projection. */
static Node *
replace_scan_columns(Node *node, void *context)
{
	Lateral *lateral = context;
	Var *var = (Var *) node;
	FieldSelect *field;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Var) || var->varno != lateral->scan)
		return expression_tree_mutator(node, replace_scan_columns, context);
	if (var->varattno <= 0)
		lateral->impossible = true;
	if (!lateral->returns_row)
		return computed_column(lateral, 0);
	field = makeNode(FieldSelect);
	field->arg = (Expr *) computed_column(lateral, 0);
	field->fieldnum = var->varattno;
	field->resulttype = var->vartype;
	field->resulttypmod = var->vartypmod;
	field->resultcollid = var->varcollid;
	return (Node *) field;
}

/* An expression of the function scan, over the lower projection: it begins with the outer side. */
static Node *
over_projection(Node *node, Lateral *lateral)
{
	return replace_scan_columns(replace_params(node, lateral), lateral);
}

static void
read_function(Lateral *lateral, FunctionScan *inner)
{
	RangeTblFunction *function = linitial_node(RangeTblFunction, inner->functions);
	ListCell *cell;

	lateral->scan = inner->scan.scanrelid;
	lateral->returns_row = type_is_rowtype(exprType(function->funcexpr));
	/* Columns of a function that returns just any record are declared in the query. */
	if (exprType(function->funcexpr) == RECORDOID)
		lateral->impossible = true;
	lateral->computed = list_make1(replace_params(function->funcexpr, lateral));
	foreach (cell, inner->scan.plan.targetlist)
		lateral->inner =
			lappend(lateral->inner,
					over_projection((Node *) lfirst_node(TargetEntry, cell)->expr, lateral));
}

/* ---- from the join to the upper projection ---- */

static Node *
replace_inner(Node *node, void *context)
{
	const Lateral *lateral = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && castNode(Var, node)->varno == INNER_VAR)
		return copyObject(list_nth(lateral->inner, castNode(Var, node)->varattno - 1));
	return expression_tree_mutator(node, replace_inner, context);
}

static Result *
project(Plan *below, List *targets, const Plan *like)
{
	Result *result = makeNode(Result);

	result->plan.targetlist = targets;
	result->plan.lefttree = below;
	result->plan.startup_cost = like->startup_cost;
	result->plan.total_cost = like->total_cost;
	result->plan.plan_rows = like->plan_rows;
	result->plan.plan_width = like->plan_width;
	result->plan.parallel_safe = like->parallel_safe;
	result->plan.extParam = bms_copy(like->extParam);
	result->plan.allParam = bms_copy(like->allParam);
	return result;
}

/* The outer side, and what the inner side computes. */
static Plan *
lower_projection(const Lateral *lateral)
{
	Plan *outer = lateral->loop->join.plan.lefttree;
	List *targets = pgl_node_pass_through(outer->targetlist, OUTER_VAR);
	ListCell *cell;

	foreach (cell, lateral->computed)
		targets =
			lappend(targets, makeTargetEntry(lfirst(cell), list_length(targets) + 1, NULL, false));
	return (Plan *) project(outer, targets, &lateral->loop->join.plan);
}

/* All conditions of the join, over the lower projection. */
static List *
conditions(Lateral *lateral)
{
	Plan *loop = &lateral->loop->join.plan;
	List *result =
		lateral->scan ? (List *) over_projection((Node *) loop->righttree->qual, lateral) : NIL;

	result =
		list_concat(result, (List *) replace_inner((Node *) lateral->loop->join.joinqual, lateral));
	return list_concat(result, (List *) replace_inner((Node *) loop->qual, lateral));
}

/* ---- into the node ---- */

/* An expression over the node's targets, as one over its row. */
static Node *
replace_targets(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && castNode(Var, node)->varno == OUTER_VAR)
		return copyObject(
			(Node *) list_nth_node(TargetEntry, context, castNode(Var, node)->varattno - 1)->expr);
	return expression_tree_mutator(node, replace_targets, context);
}

/* May a target be computed more than once? */
static bool
may_repeat(List *targets)
{
	ListCell *cell;

	foreach (cell, targets)
		if (pgl_site_inside((Node *) lfirst(cell)) ||
			pgl_site_exceeds((Node *) lfirst(cell), PGL_STABLE))
			return false;
	return true;
}

/* The loop's targets and conditions on top of the node; NULL if there is no way. */
static Plan *
finish(Lateral *lateral, CustomScan *node)
{
	Plan *loop = &lateral->loop->join.plan;
	Plan *plan = &node->scan.plan;
	List *below = plan->targetlist;
	List *targets = (List *) replace_inner((Node *) loop->targetlist, lateral);
	List *clauses = conditions(lateral);
	Plan *upper;

	if (lateral->impossible || (clauses != NIL && !may_repeat(below)) ||
		pgl_site_inside((Node *) clauses))
		return NULL;
	plan->qual = (List *) replace_targets((Node *) clauses, below);
	plan->initPlan = list_concat(loop->initPlan, plan->initPlan);
	if (may_repeat(below) && !pgl_site_inside((Node *) targets))
	{
		plan->targetlist = (List *) replace_targets((Node *) targets, below);
		return plan;
	}
	upper = (Plan *) project(plan, targets, loop);
	return pgl_place_above(upper);
}

static bool
gives_one_row(Plan *inner)
{
	if (inner->initPlan != NIL)
		return false;
	if (IsA(inner, Result))
		return inner->lefttree == NULL && inner->qual == NIL &&
			   ((Result *) inner)->resconstantqual == NULL &&
			   pgl_site_inside((Node *) inner->targetlist);
	if (IsA(inner, FunctionScan))
	{
		FunctionScan *scan = (FunctionScan *) inner;
		RangeTblFunction *function = linitial_node(RangeTblFunction, scan->functions);

		return !scan->funcordinality && list_length(scan->functions) == 1 &&
			   pgl_site_is(function->funcexpr);
	}
	return false;
}

/* A row without a match is there all the same, but then nothing may be filtered. */
static bool
keeps_unmatched(const NestLoop *loop)
{
	return loop->join.jointype == JOIN_LEFT && loop->join.joinqual == NIL &&
		   loop->join.plan.righttree->qual == NIL;
}

Plan *
pgl_lateral_flatten(Plan *plan)
{
	Lateral lateral = {0};
	Plan *placed;

	if (!IsA(plan, NestLoop) || !gives_one_row(plan->righttree))
		return plan;
	lateral.loop = (NestLoop *) plan;
	if (lateral.loop->join.jointype != JOIN_INNER && !keeps_unmatched(lateral.loop))
		return plan;
	lateral.nouter = list_length(plan->lefttree->targetlist);
	if (IsA(plan->righttree, Result))
		read_projection(&lateral, plan->righttree);
	else
		read_function(&lateral, (FunctionScan *) plan->righttree);
	if (lateral.impossible)
		return plan;
	placed = pgl_place_above(lower_projection(&lateral));
	if (!pgl_node_is(placed))
		return plan;
	placed = finish(&lateral, (CustomScan *) placed);
	return placed ? placed : plan;
}
