/*
 * rewrite.h — the planner hook: finished plans get nodes that keep many calls in flight.
 */
#ifndef PGL_PLAN_REWRITE_H
#define PGL_PLAN_REWRITE_H

extern void pgl_rewrite_init(void); /* from _PG_init, with the server */

#endif
