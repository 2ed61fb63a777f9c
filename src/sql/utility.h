/*
 * utility.h — calls from inside utility statements.
 */
#ifndef PGL_SQL_UTILITY_H
#define PGL_SQL_UTILITY_H

extern void pgl_utility_init(void);   /* from _PG_init: installs the hook */
extern void pgl_utility_refuse(void); /* ereport if the present context must not call */

/*
 * While forbidden, no setting lets a call through: for a function that runs queries of its caller
 * and promises to call nothing.  Returns what to give to pgl_utility_permit when it is done, also
 * after an error: functions nest.
 */
extern const char *pgl_utility_forbid(const char *function);
extern void pgl_utility_permit(const char *outer);

#endif
