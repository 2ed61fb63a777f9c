/*
 * utility.h — calls from inside utility statements.
 */
#ifndef PGL_SQL_UTILITY_H
#define PGL_SQL_UTILITY_H

extern void pgl_utility_init(void);   /* from _PG_init: installs the hook */
extern void pgl_utility_refuse(void); /* ereport if the present context must not call */

#endif
