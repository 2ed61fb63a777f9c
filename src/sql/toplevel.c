/*
 * toplevel.c — where top-level statements begin and end, for the limits and the memo of a
 * statement (call/statement.h).
 *
 * A statement is top-level when no executor run, no utility command and no trigger surrounds it;
 * triggers that were deferred run at COMMIT, in nothing else.  Queries begin at ExecutorStart and
 * end at ExecutorEnd; their AFTER triggers run in between, in ExecutorFinish.  Utility commands
 * (CALL, DO, CREATE TABLE AS, COPY, FETCH ...) begin and end with themselves.  An error unwinds to
 * the abort of the transaction or of a savepoint's, with nothing around it; what only ends by that,
 * or by COMMIT, is closed without a report, and the next statement begins anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"

#include "../call/statement.h"
#include "../pg/compat.h"
#include "toplevel.h"

static ExecutorStart_hook_type previous_start = NULL;
static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;
static ExecutorEnd_hook_type previous_end = NULL;
static ProcessUtility_hook_type previous_utility = NULL;
static int depth = 0;

static bool
is_top_level(void)
{
	return depth == 0 && DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) == 0;
}

static void
start(QueryDesc *query, int eflags)
{
	if (is_top_level())
		pgl_statement_begin();
	if (previous_start)
		previous_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
run(PGL_EXECUTOR_RUN_PARAMETERS)
{
	depth++;
	PG_TRY();
	{
		if (previous_run)
			previous_run(PGL_EXECUTOR_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(PGL_EXECUTOR_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		depth--;
	}
	PG_END_TRY();
}

static void
finish(QueryDesc *query)
{
	depth++;
	PG_TRY();
	{
		if (previous_finish)
			previous_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		depth--;
	}
	PG_END_TRY();
}

static void
end(QueryDesc *query)
{
	if (previous_end)
		previous_end(query);
	else
		standard_ExecutorEnd(query);
	if (is_top_level())
		pgl_statement_end();
}

static void
utility(PlannedStmt *pstmt, const char *source, bool read_only_tree, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest,
		QueryCompletion *completion)
{
	if (is_top_level())
		pgl_statement_begin();
	depth++;
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
		depth--;
	}
	PG_END_TRY();
	if (is_top_level())
		pgl_statement_end();
}

static void
close_with_transaction(XactEvent event, void *arg)
{
	if ((event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) &&
		is_top_level())
		pgl_statement_close();
}

static void
close_with_subtransaction(SubXactEvent event, SubTransactionId own, SubTransactionId parent,
						  void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && is_top_level())
		pgl_statement_close();
}

void
pgl_toplevel_init(void)
{
	RegisterXactCallback(close_with_transaction, NULL);
	RegisterSubXactCallback(close_with_subtransaction, NULL);
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = run;
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish;
	previous_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
