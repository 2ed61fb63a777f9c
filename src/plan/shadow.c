/*
 * shadow.c — see shadow.h.
 *
 * EXPLAIN shows plans as they would be without it: PostgreSQL's suites compare them.
 */
#include "postgres.h"

#include "shadow.h"

#ifdef PGL_SHADOW

#include "catalog/pg_proc.h"
#include "nodes/plannodes.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "../pg/compat.h"

enum
{
	SHADOW_OFF,
	SHADOW_FUNCTIONS,
	SHADOW_OPERATORS
};

static const struct config_enum_entry shadow_options[] = {
	{"off", SHADOW_OFF, false},
	{"functions", SHADOW_FUNCTIONS, false},
	{"operators", SHADOW_OPERATORS, false},
	{NULL, 0, false},
};

static int shadow = SHADOW_OFF;
static int calls = 0;
static bool explaining = false;
static ProcessUtility_hook_type previous_utility = NULL;

static void
run_utility(PlannedStmt *pstmt, const char *source, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	bool outer = explaining;

	explaining |= IsA(pstmt->utilityStmt, ExplainStmt);
	PG_TRY();
	{
		if (previous_utility)
			previous_utility(pstmt, source, read_only_tree, context, params, environment, dest,
							 completion);
		else
			standard_ProcessUtility(pstmt, source, read_only_tree, context, params, environment,
									dest, completion);
	}
	PG_FINALLY();
	{
		explaining = outer;
	}
	PG_END_TRY();
}

bool
pgl_shadow_is_on(void)
{
	return shadow != SHADOW_OFF && !explaining;
}

bool
pgl_shadow_is_site(Node *node)
{
	Oid function = InvalidOid;

	if (!pgl_shadow_is_on())
		return false;
	if (IsA(node, FuncExpr) && !((FuncExpr *) node)->funcretset)
		function = ((FuncExpr *) node)->funcid;
	else if (IsA(node, OpExpr) && !((OpExpr *) node)->opretset && shadow == SHADOW_OPERATORS)
		function = ((OpExpr *) node)->opfuncid;
	return OidIsValid(function) && func_volatile(function) != PROVOLATILE_VOLATILE;
}

void
pgl_shadow_count(void)
{
	calls++;
}

int
pgl_shadow_delay(void)
{
	return (int) (pgl_random_u64() % 4);
}

static const char *
show_calls(void)
{
	static char shown[16];

	snprintf(shown, sizeof(shown), "%d", calls);
	return shown;
}

void
pgl_shadow_init(void)
{
	DefineCustomEnumVariable("pgllm.shadow", "Take any function for a model call.",
							 "For tests of the scan itself.", &shadow, SHADOW_OFF, shadow_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pgllm.shadow_calls", "Shadow calls that this backend has made.", NULL,
							&calls, 0, 0, INT_MAX, PGC_INTERNAL, 0, NULL, NULL, show_calls);
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}

#endif
