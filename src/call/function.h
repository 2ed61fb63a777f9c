/*
 * function.h — SQL functions that make one call each, in two halves, so that many of them can be
 * out at once.
 *
 * A function of the family registers its halves under the name of its C symbol.  Whoever executes a
 * statement can then start calls for rows to come, and finish each when its row's turn has come.
 * fmgr's entry point of the same function does both at once.
 */
#ifndef PGL_CALL_FUNCTION_H
#define PGL_CALL_FUNCTION_H

#include "fmgr.h"
#include "utils/elog.h"
#include "utils/palloc.h"

#include "call.h"

typedef struct PglFunction
{
	const char *symbol; /* the C symbol, as in pg_proc.prosrc */
	/* Check the arguments and start the call; NULL: the result is NULL, without a call.  Throws on
	 * mistakes of the caller. */
	PglCall *(*start)(FunctionCallInfo fcinfo, PglCallGroup *group);
	/* Will finish raise an error? */
	bool (*fails)(const PglOutcome *outcome);
	/* The value of a call that is done, in the current context, or its failure as an ERROR.  The
	 * call is freed in the first case, and by its resource owner in the second.  Does not look at
	 * the arguments: they may be gone. */
	Datum (*finish)(FunctionCallInfo fcinfo, PglCall *call);
} PglFunction;

extern void
pgl_function_register(const PglFunction *function); /* from _PG_init; kept, not copied */
/*
 * Start a call whose turn has not come yet.  A mistake of the caller is no error then, as the
 * statement may never ask for this row: it goes to *mistake, in `context`, and the result is NULL.
 */
extern PglCall *pgl_function_start(const PglFunction *function, FunctionCallInfo fcinfo,
								   PglCallGroup *group, MemoryContext context, ErrorData **mistake);
extern const PglFunction *pgl_function_find(const char *symbol); /* NULL: none of the family */

#endif
