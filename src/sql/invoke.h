/*
 * invoke.h — the calling functions, for those that run them in two halves (call/function.h).
 */
#ifndef PGL_SQL_INVOKE_H
#define PGL_SQL_INVOKE_H

extern void pgl_invoke_init(void); /* from _PG_init */

#endif
