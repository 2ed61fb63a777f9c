/*
 * walk.h — the children of a plan node, and all plan nodes of a statement.
 */
#ifndef PGL_PLAN_WALK_H
#define PGL_PLAN_WALK_H

#include "nodes/plannodes.h"

extern List *pgl_walk_children(Plan *plan); /* palloc'ed; those that are not of another provider */
extern void
pgl_walk_statement(PlannedStmt *statement, void (*visit)(Plan *plan, void *context), void *context);

#endif
