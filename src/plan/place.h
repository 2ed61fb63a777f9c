/*
 * place.h — put the node where a plan node evaluates call sites.
 *
 * Above a plan node, for its target list and filters: it then computes only what these are made of,
 * its leaves, and the node above it the rest.  Below it, for arguments of aggregates, window
 * aggregates and set-returning functions, which it computes for each row of its child.
 *
 * All or nothing: in any doubt a plan node is left as it is, as evaluating calls one at a time is
 * always right.
 */
#ifndef PGL_PLAN_PLACE_H
#define PGL_PLAN_PLACE_H

#include "nodes/plannodes.h"

/* The plan to put in the place of `plan`: the node above it, or itself. */
extern Plan *pgl_place_above(Plan *plan);
extern void pgl_place_below(Plan *plan);

#endif
