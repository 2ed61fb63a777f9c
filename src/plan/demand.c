/*
 * demand.c — see demand.h.
 *
 * A model call costs money, so none is made for a row that nobody will ask for.  Going down from
 * the root, each plan node knows how many rows are asked of it, and says how many it will ask of
 * its children.  The root is asked for all rows, unless the executor is run for some (a cursor).
 * What is read to its end whatever happens above (a sort, a hash table, changes) asks for all.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"

#include "../pg/compat.h"
#include "demand.h"
#include "node.h"
#include "walk.h"

static void visit(Plan *plan, PglRowDemand demand);

/* Of the child of something that reads on as long as it is asked itself, maybe not row by row. */
static PglRowDemand
lazily(PglRowDemand demand)
{
	switch (demand)
	{
		case PGL_DEMAND_ALL:
			return PGL_DEMAND_ALL;
		case PGL_DEMAND_RUN:
		case PGL_DEMAND_RUN_ROWS:
		case PGL_DEMAND_RUN_EXACT:
			return PGL_DEMAND_RUN;
		default:
			return PGL_DEMAND_UNKNOWN;
	}
}

/* Of the child of something that gives at most a row for each row. */
static PglRowDemand
row_by_row(PglRowDemand demand)
{
	return demand == PGL_DEMAND_RUN_ROWS ? demand : lazily(demand);
}

static void
visit_join(Join *join, PglRowDemand demand)
{
	bool stops_early =
		join->inner_unique || join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI;

	switch (nodeTag(join))
	{
		case T_NestLoop:
			visit(join->plan.lefttree, lazily(demand));
			visit(join->plan.righttree, stops_early ? PGL_DEMAND_UNKNOWN : lazily(demand));
			break;
		case T_HashJoin:
			/* An empty inner side ends the join. */
			visit(join->plan.lefttree, join->jointype == JOIN_LEFT || join->jointype == JOIN_ANTI ||
											   join->jointype == JOIN_FULL
										   ? lazily(demand)
										   : PGL_DEMAND_UNKNOWN);
			visit(join->plan.righttree, lazily(demand));
			break;
		default:
			visit(join->plan.lefttree, PGL_DEMAND_UNKNOWN);
			visit(join->plan.righttree, PGL_DEMAND_UNKNOWN);
			break;
	}
}

/* Below changes: all rows, as what has RETURNING cut short above is still done in the end. */
static PglRowDemand
below_changes(ModifyTable *plan, PglRowDemand demand)
{
	if (!plan->canSetTag || plan->returningLists == NIL)
		return PGL_DEMAND_ALL;
	return lazily(demand);
}

static void
visit_node(CustomScan *node, PglRowDemand demand)
{
	Plan *child = node->scan.plan.lefttree;

	if (IsA(child, ModifyTable) && demand == PGL_DEMAND_RUN_ROWS)
		demand = PGL_DEMAND_RUN_EXACT;
	pgl_node_set_demand(node, demand, NULL, NULL);
	visit(child, node->scan.plan.qual == NIL ? row_by_row(demand) : lazily(demand));
}

static void
visit_limit(Limit *limit, PglRowDemand demand)
{
	Plan *child = limit->plan.lefttree;

	visit(child, PGL_DEMAND_UNKNOWN);
	if (pgl_node_is(child) && limit->limitOption == LIMIT_OPTION_COUNT && limit->limitCount)
		pgl_node_set_demand((CustomScan *) child, PGL_DEMAND_LIMITED, limit->limitCount,
							limit->limitOffset);
}

static void
visit_children(Plan *plan, PglRowDemand demand)
{
	ListCell *cell;

	foreach (cell, pgl_walk_children(plan))
		visit(lfirst(cell), demand);
}

static void
visit(Plan *plan, PglRowDemand demand)
{
	if (plan == NULL)
		return;
	if (pgl_node_is(plan))
	{
		visit_node((CustomScan *) plan, demand);
		return;
	}
	switch (nodeTag(plan))
	{
		case T_NestLoop:
		case T_HashJoin:
		case T_MergeJoin:
			visit_join((Join *) plan, demand);
			break;
		case T_ModifyTable:
			visit_children(plan, below_changes((ModifyTable *) plan, demand));
			break;
		case T_Limit:
			visit_limit((Limit *) plan, demand);
			break;
		case T_Sort:
		case T_Hash:
			visit_children(plan, PGL_DEMAND_ALL);
			break;
		case T_Agg:
			visit_children(plan, ((Agg *) plan)->aggstrategy == AGG_SORTED ? lazily(demand)
																		   : PGL_DEMAND_ALL);
			break;
		case T_Result:
		case T_SubqueryScan:
			visit_children(plan, plan->qual == NIL ? row_by_row(demand) : lazily(demand));
			break;
		case T_WindowAgg:
			visit_children(plan, pgl_window_stops_early((WindowAgg *) plan) ? PGL_DEMAND_UNKNOWN
																			: lazily(demand));
			break;
		case T_LockRows:
		case T_Material:
			visit_children(plan, row_by_row(demand));
			break;
		case T_Append:
		case T_MergeAppend:
		case T_IncrementalSort:
		case T_Gather:
		case T_GatherMerge:
		case T_ProjectSet:
		case T_Unique:
		case T_Group:
		case T_SetOp:
		case T_RecursiveUnion:
			visit_children(plan, lazily(demand));
			break;
		default:
			visit_children(plan, PGL_DEMAND_UNKNOWN);
			break;
	}
}

/* Subplans that are read to their end at once: ARRAY(SELECT …), and those that are hashed. */
typedef struct SubplanDemands
{
	int n;
	PglRowDemand *demands;
} SubplanDemands;

static bool
note_subplans(Node *node, void *context)
{
	SubplanDemands *subplans = context;

	if (node == NULL)
		return false;
	if (IsA(node, SubPlan))
	{
		SubPlan *subplan = castNode(SubPlan, node);

		if ((subplan->subLinkType == ARRAY_SUBLINK || subplan->useHashTable) &&
			subplan->plan_id <= subplans->n)
			subplans->demands[subplan->plan_id - 1] = PGL_DEMAND_ALL;
	}
	return expression_tree_walker(node, note_subplans, context);
}

static void
note_plan(Plan *plan, void *context)
{
	note_subplans((Node *) plan->targetlist, context);
	note_subplans((Node *) plan->qual, context);
	note_subplans((Node *) plan->initPlan, context);
	if (pgl_node_is(plan))
		note_subplans((Node *) ((CustomScan *) plan)->custom_exprs, context);
}

/* ---- batches ---- */

static void
note_locks(Plan *plan, void *context)
{
	bool *may_wait = context;

	if (IsA(plan, ModifyTable))
		*may_wait |= ((ModifyTable *) plan)->operation != CMD_INSERT ||
					 ((ModifyTable *) plan)->onConflictAction == ONCONFLICT_UPDATE;
}

/* Rows that are locked, other than by an INSERT, may be locked by others. */
static bool
may_wait_for_locks(PlannedStmt *statement)
{
	bool may_wait = false;
	ListCell *cell;

	foreach (cell, statement->rowMarks)
	{
		PlanRowMark *mark = lfirst_node(PlanRowMark, cell);

		may_wait |=
			RowMarkRequiresRowShareLock(mark->markType) && mark->waitPolicy == LockWaitBlock;
	}
	if (!may_wait)
		pgl_walk_statement(statement, note_locks, &may_wait);
	return may_wait;
}

static void
set_in_batches(Plan *plan, void *context)
{
	if (pgl_node_is(plan))
		pgl_node_set_in_batches((CustomScan *) plan, *(bool *) context);
}

void
pgl_demand_set(PlannedStmt *statement)
{
	SubplanDemands subplans = {list_length(statement->subplans), NULL};
	ListCell *cell;
	int i = 0;
	bool in_batches;

	subplans.demands = palloc0(sizeof(PglRowDemand) * Max(subplans.n, 1));
	pgl_walk_statement(statement, note_plan, &subplans);
	visit(statement->planTree, PGL_DEMAND_RUN_ROWS);
	foreach (cell, statement->subplans)
		visit(lfirst(cell), subplans.demands[i++]);
	in_batches = may_wait_for_locks(statement);
	pgl_walk_statement(statement, set_in_batches, &in_batches);
}
