/*
 * demand.h — how far each node may look ahead, by what the plan nodes above it will ask for.
 */
#ifndef PGL_PLAN_DEMAND_H
#define PGL_PLAN_DEMAND_H

#include "nodes/plannodes.h"

extern void pgl_demand_set(PlannedStmt *statement);

#endif
