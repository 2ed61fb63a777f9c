/*
 * lateral.h — FROM docs, LATERAL llm_invoke(…): a nested loop around one row is a projection.
 */
#ifndef PGL_PLAN_LATERAL_H
#define PGL_PLAN_LATERAL_H

#include "nodes/plannodes.h"

/*
 * Two projections that do the same as the nested loop: the lower one computes what its inner side
 * computes, once per row of the outer side, the upper one the rest.  `plan` itself if it is not a
 * loop of that kind, or without call sites.
 */
extern Plan *pgl_lateral_flatten(Plan *plan);

#endif
