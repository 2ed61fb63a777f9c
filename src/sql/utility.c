/*
 * utility.c — refuse calls where no visible query asks for them.
 *
 * REFRESH MATERIALIZED VIEW, table rewrites and validations, defaults and checks fired by COPY FROM
 * (hence the restore of a dump), and logical replication's apply would spend money without anybody having
 * written a query.  They are refused unless pgllm.in_utility = allow.  A trigger is a query somebody wrote:
 * calls from triggers are let through.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "replication/logicalworker.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"

#include "../pg/compat.h"
#include "../pg/guc.h"
#include "utility.h"

static ProcessUtility_hook_type previous_hook = NULL;
static const char *current_utility = NULL; /* name of the innermost statement that must not call */

static const char *
guarded_name(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_RefreshMatViewStmt:
			return "REFRESH MATERIALIZED VIEW";
		case T_AlterTableStmt:
			return "ALTER TABLE";
		case T_CopyStmt:
			return ((const CopyStmt *) statement)->is_from ? "COPY FROM" : NULL;
		default:
			return NULL;
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *queryEnv,
			DestReceiver *dest, QueryCompletion *qc)
{
	const char *outer = current_utility;

	current_utility = guarded_name(pstmt->utilityStmt);
	PG_TRY();
	{
		if (previous_hook)
			previous_hook(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		else
			standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv,
									dest, qc);
	}
	PG_FINALLY();
	{
		current_utility = outer;
	}
	PG_END_TRY();
}

void
pgl_utility_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}

void
pgl_utility_refuse(void)
{
	const char *where = IsLogicalWorker() ? "logical replication" : current_utility;

	if (where == NULL || pgl_guc_in_utility == PGL_IN_UTILITY_ALLOW)
		return;
	if (DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("model calls are not allowed inside %s", where),
					errdetail("They would spend money without a visible query."),
					errhint("Set pgllm.in_utility to allow if that is what you want.")));
}
