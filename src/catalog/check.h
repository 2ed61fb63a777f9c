/*
 * check.h — the row that a check trigger looks at, and what its rules share.
 */
#ifndef PGL_CATALOG_CHECK_H
#define PGL_CATALOG_CHECK_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/array.h"

#include "internal.h"

typedef struct PglConfigRow
{
	TupleDesc desc;
	HeapTuple new;
	HeapTuple old; /* NULL for INSERT */
} PglConfigRow;

/* A rule throws, or changes nothing: the row is stored as it came. */
typedef void (*PglConfigRule)(const PglConfigRow *row);

/* Column as text; NULL for NULL.  Rules leave NULLs to the constraints, which are checked later. */
extern char *pgl_catalog_check_new(const PglConfigRow *row, const char *column);
extern char *pgl_catalog_check_old(const PglConfigRow *row, const char *column);
extern bool pgl_catalog_check_changed(const PglConfigRow *row, const char *column);
/*
 * First column of the first row of a query run as the owner, in which %1$s stands for the schema
 * and $1 for the value.  NULL if there is no row.
 */
extern char *pgl_catalog_check_lookup(const char *query, Oid type, Datum value);
extern char *pgl_catalog_check_lookup_text(const char *query, const char *value);

/* check_shard.c */
extern void pgl_catalog_check_shard(const PglConfigRow *row);
extern void pgl_catalog_check_target(const PglConfigRow *row);

#endif
