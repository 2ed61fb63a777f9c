/*
 * estimate.h — how many rows the planner expected before conditions that have moved up.
 */
#ifndef PGL_PLAN_ESTIMATE_H
#define PGL_PLAN_ESTIMATE_H

#include "nodes/pg_list.h"

/* Rows before these clauses, of which so many were expected to be left. */
extern double pgl_estimate_before(double left, List *clauses);

#endif
