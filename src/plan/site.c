/*
 * site.c — see site.h.
 *
 * Whether a function is one of the family is remembered per OID, until anything in pg_proc changes.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "../pg/compat.h"
#include "shadow.h"
#include "site.h"

#define LIBRARY "$libdir/pgllm"

typedef struct KnownFunction
{
	Oid oid;
	const PglFunction *callable; /* NULL: not of the family */
} KnownFunction;

static HTAB *known = NULL;
static bool known_is_stale = false;

/* Also while the table is being read: so it only takes a note. */
static void
forget_functions(Datum arg, int cache, uint32 hash)
{
	known_is_stale = true;
}

void
pgl_site_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, forget_functions, (Datum) 0);
}

/* Functions that switch the user or settings around themselves stay whole. */
static const PglFunction *
look_up(Oid oid)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	const PglFunction *callable = NULL;
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prolang == ClanguageId && !form->prosecdef && !form->proretset &&
		heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) &&
		!heap_attisnull(tuple, Anum_pg_proc_probin, NULL))
	{
		bool is_null;
		Datum library = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &is_null);
		Datum symbol = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);

		if (strcmp(TextDatumGetCString(library), LIBRARY) == 0)
			callable = pgl_function_find(TextDatumGetCString(symbol));
	}
	ReleaseSysCache(tuple);
	return FmgrHookIsNeeded(oid) ? NULL : callable;
}

static const PglFunction *
callable_of(Oid oid)
{
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(KnownFunction)};
	const PglFunction *callable;
	KnownFunction *entry;

	if (oid < FirstUnpinnedObjectId)
		return NULL;
	if (known_is_stale && known)
	{
		hash_destroy(known);
		known = NULL;
	}
	if (known == NULL)
	{
		known = hash_create("pgllm functions", 64, &ctl, HASH_ELEM | HASH_BLOBS);
		known_is_stale = false;
	}
	entry = hash_search(known, &oid, HASH_FIND, NULL);
	if (entry)
		return entry->callable;
	callable = look_up(oid);
	if (known_is_stale)
		return callable;
	entry = hash_search(known, &oid, HASH_ENTER, NULL);
	entry->callable = callable;
	return callable;
}

bool
pgl_site_is(Node *node)
{
	if (IsA(node, FuncExpr) && !castNode(FuncExpr, node)->funcretset &&
		callable_of(castNode(FuncExpr, node)->funcid))
		return true;
	return pgl_shadow_is_site(node);
}

void
pgl_site_read(Node *node, PglSite *site)
{
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = castNode(FuncExpr, node);

		site->function = call->funcid;
		site->args = call->args;
		site->collation = call->inputcollid;
		site->callable = callable_of(call->funcid);
	}
	else
	{
		OpExpr *operator= castNode(OpExpr, node);

		site->function = operator->opfuncid;
		site->args = operator->args;
		site->collation = operator->inputcollid;
		site->callable = NULL;
	}
}

static bool
inside_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return pgl_site_is(node) || expression_tree_walker(node, inside_walker, context);
}

bool
pgl_site_inside(Node *node)
{
	return inside_walker(node, NULL);
}

/* Volatile, but their values depend on nothing that an evaluation a few rows earlier would change.
 */
static bool
is_harmless(Oid function)
{
	switch (function)
	{
		case F_NEXTVAL:
		case F_RANDOM:
		case F_CLOCK_TIMESTAMP:
		case F_TIMEOFDAY:
		case F_GEN_RANDOM_UUID:
			return true;
		default:
			return false;
	}
}

static bool
is_worse(Oid function, void *context)
{
	PglVolatility limit = *(PglVolatility *) context;

	switch (func_volatile(function))
	{
		case PROVOLATILE_IMMUTABLE:
			return false;
		case PROVOLATILE_STABLE:
			return limit < PGL_STABLE;
		default:
			return limit < (is_harmless(function) ? PGL_HARMLESS : PGL_VOLATILE);
	}
}

static bool
volatility_walker(Node *node, void *context)
{
	PglVolatility limit = *(PglVolatility *) context;

	if (node == NULL)
		return false;
	if (pgl_site_is(node))
	{
		PglSite site;

		/* What a model answers depends on nothing but the arguments. */
		pgl_site_read(node, &site);
		if (site.callable == NULL && is_worse(site.function, context))
			return true;
	}
	else if (check_functions_in_node(node, is_worse, context))
		return true;
	if ((IsA(node, SubPlan) || IsA(node, SQLValueFunction)) && limit < PGL_STABLE)
		return true;
	if (IsA(node, NextValueExpr) && limit < PGL_HARMLESS)
		return true;
	return expression_tree_walker(node, volatility_walker, context);
}

bool
pgl_site_exceeds(Node *node, PglVolatility limit)
{
	return volatility_walker(node, &limit);
}

/* The planner records every function that is not built in, for the plan's invalidation. */
bool
pgl_site_possible(const PlannedStmt *statement)
{
	ListCell *cell;

	if (pgl_shadow_is_on())
		return true;
	foreach (cell, statement->invalItems)
		if (lfirst_node(PlanInvalItem, cell)->cacheId == PROCOID)
			return true;
	return false;
}
