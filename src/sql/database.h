/*
 * database.h — commands that want a database without sessions.
 */
#ifndef PGL_SQL_DATABASE_H
#define PGL_SQL_DATABASE_H

extern void pgl_database_init(void); /* from _PG_init: installs the hook */

#endif
