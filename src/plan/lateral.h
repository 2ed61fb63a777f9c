/*
 * lateral.h — FROM docs, LATERAL llm_invoke(…): a nested loop around one row is a projection.
 */
#ifndef PGL_PLAN_LATERAL_H
#define PGL_PLAN_LATERAL_H

#include "nodes/plannodes.h"

/* A node in the place of the nested loop, whose outer side has been rewritten; `plan` itself if it
 * is not a loop of that kind. */
extern Plan *pgl_lateral_flatten(Plan *plan);

#endif
