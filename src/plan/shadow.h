/*
 * shadow.h — for tests of the scan itself: any function is taken for a call.
 *
 * In a build with -DPGL_SHADOW and pgllm.shadow = functions, each call of a function that is not
 * volatile, in any statement, is evaluated where a model call would be started, and delivered some
 * turns later.  With operators, calls of operators as well.  The results of PostgreSQL's own test
 * suites must not change.  In any other build all of this is off, and compiles to nothing.
 */
#ifndef PGL_PLAN_SHADOW_H
#define PGL_PLAN_SHADOW_H

#include "nodes/nodes.h"

#ifdef PGL_SHADOW
extern bool pgl_shadow_is_on(void);
extern bool pgl_shadow_is_site(Node *node);
extern void pgl_shadow_count(void); /* one more call */
extern int pgl_shadow_delay(void);  /* turns until the next one is delivered, 0 to 3 */
extern void pgl_shadow_init(void);  /* from _PG_init, before pgl_guc_define */
#else
#define pgl_shadow_is_on() false
#define pgl_shadow_is_site(node) false
#define pgl_shadow_count() ((void) 0)
#define pgl_shadow_delay() 0
#define pgl_shadow_init() ((void) 0)
#endif

#endif
