/*
 * node.c — see node.h.
 */
#include "postgres.h"

#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#include "node.h"
#include "scan.h"

/* Positions in custom_exprs and custom_private. */
enum
{
	EXPRS_STEPS,
	EXPRS_GUARDS,
	EXPRS_LIMIT
};

enum
{
	PRIVATE_NUMBERS, /* number of inputs, demand, whether in batches */
	PRIVATE_IS_CALL
};

bool
pgl_node_is(const Plan *plan)
{
	return plan && IsA(plan, CustomScan) &&
		   ((const CustomScan *) plan)->methods == &pgl_scan_methods;
}

/* What ModifyTable, row marks and the client's column headings find targets by. */
void
pgl_node_copy_label(TargetEntry *to, const TargetEntry *from)
{
	to->resname = from->resname;
	to->resjunk = from->resjunk;
	to->ressortgroupref = from->ressortgroupref;
	to->resorigtbl = from->resorigtbl;
	to->resorigcol = from->resorigcol;
}

List *
pgl_node_pass_through(List *below, Index varno)
{
	List *targets = NIL;
	ListCell *cell;

	foreach (cell, below)
	{
		TargetEntry *from = lfirst_node(TargetEntry, cell);
		Var *var = makeVar(varno, from->resno, exprType((Node *) from->expr),
						   exprTypmod((Node *) from->expr), exprCollation((Node *) from->expr), 0);
		TargetEntry *to = makeTargetEntry((Expr *) var, from->resno, NULL, false);

		pgl_node_copy_label(to, from);
		targets = lappend(targets, to);
	}
	return targets;
}

static List *
describe_row(Plan *child, const PglProgram *program)
{
	List *targets = pgl_node_pass_through(child->targetlist, OUTER_VAR);
	ListCell *cell;

	foreach (cell, pgl_program_describe(program, OUTER_VAR))
		targets =
			lappend(targets, makeTargetEntry(lfirst(cell), list_length(targets) + 1, NULL, false));
	return targets;
}

CustomScan *
pgl_node_make(Plan *child, List *targetlist, List *qual, const PglProgram *program)
{
	CustomScan *node = makeNode(CustomScan);
	Plan *plan = &node->scan.plan;

	plan->startup_cost = child->startup_cost;
	plan->total_cost = child->total_cost;
	plan->plan_rows = child->plan_rows;
	plan->plan_width = child->plan_width;
	plan->parallel_safe = child->parallel_safe;
	plan->targetlist = targetlist;
	plan->qual = qual;
	plan->lefttree = child;
	plan->extParam = bms_copy(child->extParam);
	plan->allParam = bms_copy(child->allParam);
	/* What the child's InitPlans compute may be used in what has moved up. */
	plan->initPlan = child->initPlan;
	child->initPlan = NIL;
	node->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	node->custom_scan_tlist = describe_row(child, program);
	node->custom_exprs = list_make3(program->steps, program->guards, NIL);
	node->custom_private =
		list_make2(list_make3_int(program->ninputs, PGL_DEMAND_UNKNOWN, false), program->is_call);
	node->methods = &pgl_scan_methods;
	return node;
}

CustomScan *
pgl_node_make_below(Plan *plan, const PglProgram *program)
{
	Plan *child = plan->lefttree;
	List *targets = pgl_node_pass_through(child->targetlist, INDEX_VAR);
	CustomScan *node;
	int i;

	for (i = 0; i < list_length(program->steps); i++)
	{
		Node *step = list_nth(program->steps, i);
		Var *column = makeVar(INDEX_VAR, program->ninputs + i + 1, exprType(step), exprTypmod(step),
							  exprCollation(step), 0);

		targets = lappend(targets,
						  makeTargetEntry((Expr *) column, list_length(targets) + 1, NULL, false));
	}
	node = pgl_node_make(child, targets, NIL, program);
	/* Steps may use Params that only the plan node above did before. */
	node->scan.plan.extParam = bms_add_members(node->scan.plan.extParam, plan->extParam);
	node->scan.plan.allParam = bms_add_members(node->scan.plan.allParam, plan->extParam);
	return node;
}

PglProgram
pgl_node_program(const CustomScan *node)
{
	PglProgram program = {
		.ninputs = linitial_int(list_nth(node->custom_private, PRIVATE_NUMBERS)),
		.steps = list_nth(node->custom_exprs, EXPRS_STEPS),
		.guards = list_nth(node->custom_exprs, EXPRS_GUARDS),
		.is_call = list_nth(node->custom_private, PRIVATE_IS_CALL),
	};

	return program;
}

PglRowDemand
pgl_node_demand(const CustomScan *node)
{
	return (PglRowDemand) lsecond_int(list_nth(node->custom_private, PRIVATE_NUMBERS));
}

void
pgl_node_set_demand(CustomScan *node, PglRowDemand demand, Node *limit_count, Node *limit_offset)
{
	lsecond_int(list_nth(node->custom_private, PRIVATE_NUMBERS)) = demand;
	list_nth_cell(node->custom_exprs, EXPRS_LIMIT)->ptr_value =
		demand == PGL_DEMAND_LIMITED ? list_make2(copyObject(limit_count), copyObject(limit_offset))
									 : NIL;
}

bool
pgl_node_in_batches(const CustomScan *node)
{
	return lthird_int(list_nth(node->custom_private, PRIVATE_NUMBERS));
}

void
pgl_node_set_in_batches(CustomScan *node, bool in_batches)
{
	lthird_int(list_nth(node->custom_private, PRIVATE_NUMBERS)) = in_batches;
}

static Node *
limit_part(const CustomScan *node, int n)
{
	List *limit = list_nth(node->custom_exprs, EXPRS_LIMIT);

	return limit == NIL ? NULL : list_nth(limit, n);
}

Node *
pgl_node_limit_count(const CustomScan *node)
{
	return limit_part(node, 0);
}

Node *
pgl_node_limit_offset(const CustomScan *node)
{
	return limit_part(node, 1);
}
