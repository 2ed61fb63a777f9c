/*
 * toplevel.h — where top-level statements begin and end.
 */
#ifndef PGL_SQL_TOPLEVEL_H
#define PGL_SQL_TOPLEVEL_H

extern void pgl_toplevel_init(void); /* from _PG_init: installs the hooks */

#endif
