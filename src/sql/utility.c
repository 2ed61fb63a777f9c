/*
 * utility.c — refuse calls where no visible query asks for them.
 *
 * REFRESH MATERIALIZED VIEW, table rewrites and validations, index builds, defaults and checks
 * fired by COPY FROM (hence the restore of a dump), vacuum and logical replication's apply would
 * spend money without anybody having written a query.  They are refused unless pgllm.in_utility =
 * allow.  A trigger is a query somebody wrote: calls from triggers are let through.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "postmaster/autovacuum.h"
#include "replication/logicalworker.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"

#include "../pg/compat.h"
#include "../pg/guc.h"
#include "utility.h"

static ProcessUtility_hook_type previous_hook = NULL;
static const char *current_utility = NULL; /* name of the innermost statement that must not call */
static int depth_at_entry = 0;             /* triggers around it: those inside it may call */
static const char *forbidden_by = NULL;    /* function that promises to call nothing */

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

static const char *
guarded_name(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_RefreshMatViewStmt:
			return "REFRESH MATERIALIZED VIEW";
		case T_AlterTableStmt:
			return "ALTER TABLE";
		case T_AlterDomainStmt:
			return "ALTER DOMAIN";
		case T_IndexStmt:
			return "CREATE INDEX";
		case T_ReindexStmt:
			return "REINDEX";
		case T_ClusterStmt:
			return "CLUSTER";
		case T_VacuumStmt:
			return "VACUUM or ANALYZE";
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
	int outer_depth = depth_at_entry;
	const char *name = guarded_name(pstmt->utilityStmt);

	if (name)
	{
		current_utility = name;
		depth_at_entry = trigger_depth();
	}
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
		depth_at_entry = outer_depth;
	}
	PG_END_TRY();
}

void
pgl_utility_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}

const char *
pgl_utility_forbid(const char *function)
{
	const char *outer = forbidden_by;

	forbidden_by = function;
	return outer;
}

void
pgl_utility_permit(const char *outer)
{
	forbidden_by = outer;
}

void
pgl_utility_refuse(void)
{
	const char *where = IsLogicalWorker()             ? "logical replication"
						: AmAutoVacuumWorkerProcess() ? "autovacuum"
													  : current_utility;

	if (forbidden_by)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("model calls are not allowed inside %s", forbidden_by)));
	if (where == NULL || pgl_guc_in_utility == PGL_IN_UTILITY_ALLOW)
		return;
	if (trigger_depth() > depth_at_entry)
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("model calls are not allowed inside %s", where),
					errdetail("They would spend money without a visible query."),
					errhint("Set pgllm.in_utility to allow if that is what you want.")));
}
