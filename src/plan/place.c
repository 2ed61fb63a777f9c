/*
 * place.c — see place.h.
 *
 * The plan is finished: its expressions refer to their inputs by position, and whatever takes the
 * place of a plan node must have the same columns, with the same labels.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"

#include "../pg/compat.h"
#include "estimate.h"
#include "node.h"
#include "place.h"
#include "program.h"
#include "shadow.h"
#include "site.h"

/* ---- what a plan node filters with ---- */

/*
 * The filter whose clauses may move up; NULL: none.  Conditions of an outer, semi or anti join say
 * which rows match, not which are kept.
 */
static List **
movable_filter(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_TableFuncScan:
		case T_ValuesScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_WorkTableScan:
		case T_Agg:
		case T_Group:
			return &plan->qual;
		case T_ForeignScan:
			/* One that changes rows by itself is known to ModifyTable as its child. */
			return ((ForeignScan *) plan)->operation == CMD_SELECT ? &plan->qual : NULL;
		case T_NestLoop:
		case T_HashJoin:
			if (((Join *) plan)->jointype == JOIN_INNER && plan->qual == NIL)
				return &((Join *) plan)->joinqual;
			return &plan->qual;
		case T_MergeJoin:
			return &plan->qual;
		default:
			return NULL;
	}
}

static bool
evaluates_targets(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Result:
		case T_ProjectSet:
		case T_WindowAgg:
		case T_Gather:
		case T_GatherMerge:
			return true;
		default:
			return movable_filter(plan) != NULL;
	}
}

/*
 * The first clause with a call and all after it: neither is a call made that an earlier clause
 * would have prevented, nor does a later one see rows that a barrier was to keep from it.
 */
static List *
clauses_to_move(List **filter)
{
	int i;

	if (filter)
		for (i = 0; i < list_length(*filter); i++)
			if (pgl_site_inside(list_nth(*filter, i)))
				return list_copy_tail(*filter, i);
	return NIL;
}

static void
take_clauses(Plan *plan, List **filter, List *moved)
{
	if (moved == NIL)
		return;
	*filter = list_truncate(list_copy(*filter), list_length(*filter) - list_length(moved));
	/* That one match suffices may rest on a clause that is no longer there. */
	if (filter != &plan->qual)
		((Join *) plan)->inner_unique = false;
}

/* ---- leaves ---- */

/* Only the plan node itself can compute these. */
static bool
is_leaf(Node *node)
{
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Aggref:
		case T_WindowFunc:
		case T_GroupingFunc:
			return true;
		case T_FuncExpr:
			return castNode(FuncExpr, node)->funcretset;
		case T_OpExpr:
			return castNode(OpExpr, node)->opretset;
		default:
			return pgl_is_leaf_of_newer_version(node);
	}
}

static TargetEntry *
append_leaf(List **leaves, Node *node)
{
	TargetEntry *leaf =
		makeTargetEntry(copyObject((Expr *) node), list_length(*leaves) + 1, NULL, false);

	*leaves = lappend(*leaves, leaf);
	return leaf;
}

static Node *
column_of(const TargetEntry *leaf)
{
	Node *node = (Node *) leaf->expr;

	return (Node *) makeVar(INDEX_VAR, leaf->resno, exprType(node), exprTypmod(node),
							exprCollation(node), 0);
}

/* Replace leaves by columns, adding what is not there yet. */
static Node *
take_leaves(Node *node, void *context)
{
	List **leaves = context;
	ListCell *cell;

	if (node == NULL)
		return NULL;
	if (!is_leaf(node))
		return expression_tree_mutator(node, take_leaves, context);
	foreach (cell, *leaves)
		if (equal(lfirst_node(TargetEntry, cell)->expr, node))
			return column_of(lfirst_node(TargetEntry, cell));
	return column_of(append_leaf(leaves, node));
}

/* Junk columns are found by their names, also below row locks, so each is a leaf of its own. */
static List *
take_target_leaves(List *targets, List **leaves)
{
	List *result = NIL;
	ListCell *cell;

	foreach (cell, targets)
	{
		TargetEntry *target = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		if (target->resjunk && is_leaf((Node *) target->expr))
		{
			TargetEntry *leaf = append_leaf(leaves, (Node *) target->expr);

			pgl_node_copy_label(leaf, target);
			target->expr = (Expr *) column_of(leaf);
		}
		else
			target->expr = (Expr *) take_leaves((Node *) target->expr, leaves);
		result = lappend(result, target);
	}
	return result;
}

/* ---- above ---- */

static bool
hazard_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CurrentOfExpr))
		return true;
	/* Its junk column and its Params must stay in one node. */
	if (IsA(node, SubPlan) && castNode(SubPlan, node)->subLinkType == MULTIEXPR_SUBLINK)
		return true;
	return expression_tree_walker(node, hazard_walker, context);
}

/* Each clause is evaluated only where those before it are true, and targets where all are. */
static List *
add_clauses(PglProgram *program, List *clauses, bool calls_follow, Node **guard)
{
	List *left = NIL;
	int i;

	for (i = 0; i < list_length(clauses); i++)
	{
		Node *clause = list_nth(clauses, i);
		bool decides = calls_follow;
		int j;

		for (j = i + 1; j < list_length(clauses); j++)
			decides |= pgl_site_inside(list_nth(clauses, j));
		if (decides)
		{
			clause = pgl_program_add_condition(program, clause, *guard);
			*guard = pgl_guard_and(*guard, clause, IS_TRUE);
		}
		else
			clause = pgl_program_add(program, clause, *guard);
		left = lappend(left, clause);
	}
	return left;
}

static List *
add_targets(PglProgram *program, List *targets, Node *guard)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		TargetEntry *target = lfirst_node(TargetEntry, cell);

		target->expr = (Expr *) pgl_program_add(program, (Node *) target->expr, guard);
	}
	return targets;
}

/* Take targets and clauses apart; NULL if that would not be right. */
static PglProgram *
part(List *targets, List *moved, List **leaves, List **new_targets, List **new_filter)
{
	PglProgram *program;
	Node *guard = NULL;
	List *clauses;

	if (hazard_walker((Node *) targets, NULL) || hazard_walker((Node *) moved, NULL))
		return NULL;
	*leaves = NIL;
	*new_targets = take_target_leaves(targets, leaves);
	clauses = (List *) take_leaves((Node *) moved, leaves);
	program = pgl_program_begin(list_length(*leaves));
	*new_filter = add_clauses(program, clauses, pgl_site_inside((Node *) *new_targets), &guard);
	*new_targets = add_targets(program, *new_targets, guard);
	if (pgl_program_ncalls(program) == 0 ||
		!pgl_program_is_sound(program, list_concat_copy(*new_targets, *new_filter)))
		return NULL;
	return program;
}

/* INSERT, UPDATE or DELETE ... RETURNING: above the changes, which are done ahead. */
static Plan *
place_above_returning(ModifyTable *plan)
{
	List *leaves;
	List *targets;
	List *filter;
	PglProgram *program;

	if (list_length(plan->returningLists) != 1 || !pgl_site_inside((Node *) plan->returningLists) ||
		!bms_is_empty(plan->fdwDirectModifyPlans))
		return &plan->plan;
	program = part(linitial(plan->returningLists), NIL, &leaves, &targets, &filter);
	if (program == NULL)
		return &plan->plan;
	plan->returningLists = list_make1(leaves);
	plan->plan.targetlist = copyObject(leaves);
	return (Plan *) pgl_node_make(&plan->plan, targets, NIL, program);
}

/* One row and one call: nothing to overlap with.  It may queue for a limit by lock (call/queue.c).
 */
static bool
is_single_call(const Plan *plan, const PglProgram *program)
{
	return IsA(plan, Result) && plan->lefttree == NULL && pgl_program_ncalls(program) == 1 &&
		   !pgl_shadow_is_on();
}

Plan *
pgl_place_above(Plan *plan)
{
	List **filter;
	List *moved;
	List *leaves;
	List *targets;
	List *clauses;
	PglProgram *program;
	CustomScan *node;

	if (IsA(plan, ModifyTable))
		return place_above_returning((ModifyTable *) plan);
	if (!evaluates_targets(plan))
		return plan;
	filter = movable_filter(plan);
	moved = clauses_to_move(filter);
	if (moved == NIL && !pgl_site_inside((Node *) plan->targetlist))
		return plan;
	program = part(plan->targetlist, moved, &leaves, &targets, &clauses);
	if (program == NULL || is_single_call(plan, program))
		return plan;
	take_clauses(plan, filter, moved);
	plan->targetlist = leaves;
	/* A scan that waits asynchronously is asked by its Append, and by nobody else. */
	plan->async_capable = false;
	node = pgl_node_make(plan, targets, clauses, program);
	plan->plan_rows = pgl_estimate_before(plan->plan_rows, moved);
	return (Plan *) node;
}

/* ---- below ---- */

typedef struct BelowContext
{
	PglProgram *program;
	List *done;     /* Aggrefs: one that occurs twice is computed once */
	List *replaced; /* by these */
} BelowContext;

static Node *
change_varno(Node *node, void *context)
{
	const Index *from_to = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && castNode(Var, node)->varno == from_to[0])
	{
		Var *var = copyObject(castNode(Var, node));

		var->varno = from_to[1];
		return (Node *) var;
	}
	return expression_tree_mutator(node, change_varno, context);
}

static Node *
to_row(Node *node)
{
	Index from_to[2] = {OUTER_VAR, INDEX_VAR};

	return change_varno(node, from_to);
}

static Node *
from_row(Node *node)
{
	Index from_to[2] = {INDEX_VAR, OUTER_VAR};

	return change_varno(node, from_to);
}

/* Arguments that are evaluated where FILTER is true. */
static List *
add_arguments(PglProgram *program, List *args, Expr **filter)
{
	Node *guard = NULL;

	args = (List *) to_row((Node *) args);
	if (*filter && pgl_site_inside((Node *) args))
	{
		Node *condition = pgl_program_add_condition(program, to_row((Node *) *filter), NULL);

		guard = pgl_guard_and(NULL, condition, IS_TRUE);
		*filter = (Expr *) from_row(condition);
	}
	else if (*filter)
		*filter = (Expr *) from_row(pgl_program_add(program, to_row((Node *) *filter), NULL));
	return (List *) from_row(pgl_program_add(program, (Node *) args, guard));
}

static Node *
replace_aggref(Aggref *aggref, BelowContext *below)
{
	Aggref *result;
	ListCell *done;
	ListCell *replaced;

	if (!pgl_site_inside((Node *) aggref->args) && !pgl_site_inside((Node *) aggref->aggfilter))
		return (Node *) copyObject(aggref);
	forboth(done, below->done, replaced,
			below->replaced) if (lfirst_node(Aggref, done)->aggno ==
								 aggref->aggno) return copyObject(lfirst(replaced));
	result = copyObject(aggref);
	result->args = add_arguments(below->program, result->args, &result->aggfilter);
	below->done = lappend(below->done, aggref);
	below->replaced = lappend(below->replaced, result);
	return (Node *) result;
}

/* Only aggregates take each row's arguments exactly once. */
static Node *
replace_window_function(WindowFunc *function, BelowContext *below)
{
	WindowFunc *result = copyObject(function);

	if (function->winagg)
		result->args = add_arguments(below->program, result->args, &result->aggfilter);
	return (Node *) result;
}

static Node *
replace_below(Node *node, void *context)
{
	BelowContext *below = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
		return replace_aggref(castNode(Aggref, node), below);
	if (IsA(node, WindowFunc))
		return replace_window_function(castNode(WindowFunc, node), below);
	if (is_leaf(node) && !IsA(node, Var) && expression_returns_set(node))
	{
		Expr *none = NULL;
		Node *result = copyObject(node);
		List **args = IsA(node, FuncExpr) ? &castNode(FuncExpr, result)->args
										  : &castNode(OpExpr, result)->args;

		*args = add_arguments(below->program, *args, &none);
		return result;
	}
	return expression_tree_mutator(node, replace_below, context);
}

void
pgl_place_below(Plan *plan)
{
	BelowContext below = {NULL, NIL, NIL};
	Plan *child = plan->lefttree;
	List *targets;
	List *filter;

	if (child == NULL || !(IsA(plan, WindowAgg) || IsA(plan, ProjectSet) || IsA(plan, Agg)))
		return;
	if (IsA(plan, Agg) && DO_AGGSPLIT_COMBINE(((Agg *) plan)->aggsplit))
		return;
	if (!pgl_site_inside((Node *) plan->targetlist) && !pgl_site_inside((Node *) plan->qual))
		return;
	below.program = pgl_program_begin(list_length(child->targetlist));
	targets = (List *) replace_below((Node *) plan->targetlist, &below);
	filter = (List *) replace_below((Node *) plan->qual, &below);
	if (pgl_program_ncalls(below.program) == 0 ||
		!pgl_program_is_sound(below.program, list_concat_copy(targets, filter)))
		return;
	plan->targetlist = targets;
	plan->qual = filter;
	plan->lefttree = (Plan *) pgl_node_make_below(plan, below.program);
}
