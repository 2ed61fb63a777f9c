/*
 * node.h — the plan node: a custom scan that runs a program (program.h) over the rows of its child.
 *
 *	lefttree           where rows come from; column i of it is input i of the program
 *	custom_scan_tlist  the program's row: the inputs, then the results, as they were in the query
 *	targetlist, qual   what is left, over that row
 *	custom_exprs       steps, guards, the bound of demand LIMITED
 *	custom_private     the integers below
 *
 * Everything in it is a Node, so that plans can be copied, cached and sent to parallel workers.
 */
#ifndef PGL_PLAN_NODE_H
#define PGL_PLAN_NODE_H

#include "nodes/plannodes.h"

#include "program.h"

/* How many of the node's rows will be asked for; hence how far it may look ahead (demand.c). */
typedef enum PglRowDemand
{
	PGL_DEMAND_UNKNOWN,   /* maybe not all */
	PGL_DEMAND_ALL,       /* all, or an error */
	PGL_DEMAND_RUN,       /* all, unless the executor is run for a number of rows */
	PGL_DEMAND_RUN_ROWS,  /* the same, and each row of the node is one of those */
	PGL_DEMAND_RUN_EXACT, /* the same, and below are changes that must not happen for more rows */
	PGL_DEMAND_LIMITED    /* no more than LIMIT and OFFSET above it say */
} PglRowDemand;

extern CustomScan *
pgl_node_make(Plan *child, List *targetlist, List *qual, const PglProgram *program);
/* Between a plan node and its child: passes the child's columns through, and adds the results. */
extern CustomScan *pgl_node_make_below(Plan *plan, const PglProgram *program);
extern bool pgl_node_is(const Plan *plan);
extern PglProgram pgl_node_program(const CustomScan *node); /* lists are the node's own */
extern PglRowDemand pgl_node_demand(const CustomScan *node);
extern void
pgl_node_set_demand(CustomScan *node, PglRowDemand demand, Node *limit_count, Node *limit_offset);
/* Whether others' locks may be waited for while rows are fetched or after they are emitted. */
extern bool pgl_node_in_batches(const CustomScan *node);
extern void pgl_node_set_in_batches(CustomScan *node, bool in_batches);
extern Node *pgl_node_limit_count(const CustomScan *node);
extern Node *pgl_node_limit_offset(const CustomScan *node);
/* Targets that pass the columns of `below` through, as Vars of this kind, with their labels. */
extern List *pgl_node_pass_through(List *below, Index varno);
extern void pgl_node_copy_label(TargetEntry *to, const TargetEntry *from);

#endif
