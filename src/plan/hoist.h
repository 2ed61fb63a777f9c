/*
 * hoist.h — move the node up, past plan nodes that neither use nor change its results.
 *
 *	Limit     calls only for rows that LIMIT and OFFSET leave
 *	LockRows  calls only for rows that were locked, on their newest version
 *	Append    one window over all partitions
 */
#ifndef PGL_PLAN_HOIST_H
#define PGL_PLAN_HOIST_H

#include "nodes/plannodes.h"

/* The plan to put in the place of `plan`, whose children have been treated. */
extern Plan *pgl_hoist(Plan *plan, int cursor_options);

#endif
