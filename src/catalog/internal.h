/*
 * internal.h — what the files of catalog/ share with each other, and with nobody else.
 *
 *	owner.c         who owns the extension; run SQL as that role
 *	row.c           a row of a configuration table -> C values in the memory of a snapshot
 *	load_targets.c  llm_model, llm_price, llm_shard, llm_target
 *	load_tenants.c  llm_route_policy, llm_route, llm_tenant, llm_tenant_grant, llm_quota
 *	catalog.c       the current snapshot: build, invalidate, pin, search
 *	check.c         the triggers of the tables, which keep wrong rows out
 */
#ifndef PGL_CATALOG_INTERNAL_H
#define PGL_CATALOG_INTERNAL_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "utils/palloc.h"

#include "catalog.h"
#include "owner.h"

/* Pointers to the structs of one kind, ordered by name (bytewise), all but those of quotas. */
typedef struct PglItems
{
	void **items;
	int count;
} PglItems;

struct PglSnapshot
{
	MemoryContext context; /* holds everything, this struct included */
	int pins;
	int64 loaded_at;           /* see pgl_catalog_loaded_at */
	TimestampTz next_price_at; /* when the earliest price of the future becomes valid */
	PglItems models;
	PglItems shards;
	PglItems targets;
	PglItems routes;
	PglItems tenants;
	PglItems quotas;     /* by tenant, those without one first */
	int ngeneral_quotas; /* without a tenant */
};

/* A load in progress; what it allocates for good goes to snapshot->context. */
typedef struct PglLoader
{
	const PglExtension *extension;
	PglSnapshot *snapshot;
	TimestampTz now; /* prices are those of this moment */
} PglLoader;

/* One row; its columns are taken in the order of the SELECT list. */
typedef struct PglRow
{
	MemoryContext context; /* for the values that outlive the row */
	HeapTuple tuple;
	TupleDesc desc;
	int column; /* last one taken, from 1 */
} PglRow;

/* row.c */

extern const char *pgl_catalog_row_text(PglRow *row); /* NULL for NULL, also below */
extern int64 pgl_catalog_row_int8(PglRow *row, int64 if_null);
extern int pgl_catalog_row_int4(PglRow *row, int if_null);
extern bool pgl_catalog_row_bool(PglRow *row);
extern const char *const *pgl_catalog_row_texts(PglRow *row, int *count);
/* Position of the word in a NULL-terminated list; -1 for NULL; an unlisted word is an error. */
extern int pgl_catalog_row_choice(PglRow *row, const char *const *words);

/*
 * Run a query, in which %1$s stands for the schema and $1 for loader->now, and make an item of
 * every row: `size` zeroed bytes, filled in by `fill`.
 */
typedef void (*PglFillItem)(PglLoader *loader, PglRow *row, void *item);
extern PglItems
pgl_catalog_read_items(PglLoader *loader, const char *query, size_t size, PglFillItem fill);
/* By name, which must be the first field; NULL if there is none. */
extern void *pgl_catalog_find_item(const PglItems *items, const char *name);

/* load_targets.c, load_tenants.c: in this order, as the latter refer to the former. */

extern void pgl_catalog_load_targets(PglLoader *loader);
extern void pgl_catalog_load_tenants(PglLoader *loader);

extern void pgl_catalog_note_own_change(void); /* by the running transaction */

#endif
