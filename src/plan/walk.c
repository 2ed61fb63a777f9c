/*
 * walk.c — see walk.h.
 *
 * What belongs to a foreign data wrapper or to another custom scan is not ours to look at.
 */
#include "postgres.h"

#include "node.h"
#include "walk.h"

List *
pgl_walk_children(Plan *plan)
{
	List *children = NIL;

	switch (nodeTag(plan))
	{
		case T_Append:
			return list_copy(((Append *) plan)->appendplans);
		case T_MergeAppend:
			return list_copy(((MergeAppend *) plan)->mergeplans);
		case T_SubqueryScan:
			return list_make1(((SubqueryScan *) plan)->subplan);
		case T_ForeignScan:
		case T_BitmapAnd:
		case T_BitmapOr:
			return NIL;
		case T_CustomScan:
			if (!pgl_node_is(plan))
				return NIL;
			break;
		default:
			break;
	}
	if (plan->lefttree)
		children = lappend(children, plan->lefttree);
	if (plan->righttree)
		children = lappend(children, plan->righttree);
	return children;
}

static void
visit_tree(Plan *plan, void (*visit)(Plan *plan, void *context), void *context)
{
	ListCell *cell;

	if (plan == NULL)
		return;
	visit(plan, context);
	foreach (cell, pgl_walk_children(plan))
		visit_tree(lfirst(cell), visit, context);
}

void
pgl_walk_statement(PlannedStmt *statement, void (*visit)(Plan *plan, void *context), void *context)
{
	ListCell *cell;

	visit_tree(statement->planTree, visit, context);
	foreach (cell, statement->subplans)
		visit_tree(lfirst(cell), visit, context);
}
