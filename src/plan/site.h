/*
 * site.h — call sites: the places in a plan's expressions where a model is called.
 *
 * A call site is a call of a function of the family (call/function.h), recognised by its C symbol
 * and library, so that renamed functions and those that users declare over the same symbol count.
 * In a build with PGL_SHADOW any other function may be taken for one: see shadow.h.
 *
 * Nothing here changes an expression.
 */
#ifndef PGL_PLAN_SITE_H
#define PGL_PLAN_SITE_H

#include "nodes/plannodes.h"

#include "../call/function.h"

/* What a call site calls. */
typedef struct PglSite
{
	Oid function;
	List *args;
	Oid collation;               /* of the input */
	const PglFunction *callable; /* NULL: in shadow mode, any other function */
} PglSite;

extern bool pgl_site_is(Node *node);
extern void pgl_site_read(Node *node, PglSite *site); /* of a node that is one */
/* Is there one in the expression?  Those in arguments of aggregates and the like count. */
extern bool pgl_site_inside(Node *node);

/* How far an expression's value may change between two evaluations, call sites not counted. */
typedef enum PglVolatility
{
	PGL_IMMUTABLE,
	PGL_STABLE,
	PGL_HARMLESS, /* volatile, but nobody notices when it is evaluated ahead: random() */
	PGL_VOLATILE
} PglVolatility;

extern bool pgl_site_exceeds(Node *node, PglVolatility limit);
/* May the statement have call sites at all?  Cheap, and true in doubt. */
extern bool pgl_site_possible(const PlannedStmt *statement);
extern void pgl_site_init(void); /* from _PG_init */

#endif
