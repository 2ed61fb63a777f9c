/*
 * query.h — a query that a function is given as text: checked, and run in a cursor as the caller.
 */
#ifndef PGL_SQL_QUERY_H
#define PGL_SQL_QUERY_H

#include "access/tupdesc.h"
#include "utils/portal.h"

/* A cursor over one SELECT that neither changes nor locks rows; an error if the text is anything
 * else.  Within SPI. */
extern Portal pgl_query_open(const char *sql);
/* Number of the last column, which must be the prompt, else an error. */
extern int pgl_query_prompt_column(TupleDesc desc);

#endif
