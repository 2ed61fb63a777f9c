/*
 * reprice.c — llm_budget_reload: budgets follow when the cost of past attempts has been changed.
 *
 * What budgets have spent is kept in shared memory and rebuilt from llm_ledger.  That may happen
 * only after the change is visible to others, so it is done when the transaction has committed.
 * There nothing may throw; the reload itself is work of somebody else, here it is only asked for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "../pg/compat.h"
#include "../shmem/limit.h"

PG_FUNCTION_INFO_V1(pgl_llm_budget_reload);

static bool reload_at_commit = false;

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (!reload_at_commit)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			reload_at_commit = false;
			pgl_limit_reload_budgets(MyDatabaseId);
			break;
		case XACT_EVENT_ABORT:
			reload_at_commit = false;
			break;
		case XACT_EVENT_PRE_PREPARE:
			/* COMMIT PREPARED comes later, perhaps in another session: nobody would tell budgets.
			 */
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot PREPARE a transaction that has changed costs"),
							errdetail("Budgets are read again when it commits.")));
			break;
		default:
			break;
	}
}

Datum
pgl_llm_budget_reload(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	pgl_shmem_require();
	if (!registered)
		RegisterXactCallback(at_end_of_transaction, NULL);
	registered = true;
	reload_at_commit = true;
	PG_RETURN_VOID();
}
