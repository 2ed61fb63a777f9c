/*
 * settled.c — wait for the ledger: see settled.h.
 *
 * The writer wakes those whose records it has written; somebody who only wants to read hears of
 * nothing, so it looks again from time to time.  That is rare: when a budget is used for the first
 * time since the server started.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "../core/clock.h"
#include "../net/net.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "../shmem/ledger.h"
#include "settled.h"
#include "wait.h"

#define LOOK_AGAIN_US INT64_C(10000)

static bool
is_settled(uint64_t last)
{
	return pgl_ledger_is_recovered() && pgl_ledger_spilled(MyDatabaseId) == 0 &&
		   pgl_ledger_durable() >= last;
}

void
pgl_ledger_require_settled(void)
{
	int64_t until_us = pgl_clock_us() + (int64_t) pgl_guc_ledger_timeout * 1000;
	uint64_t last = pgl_ledger_last();

	if (RecoveryInProgress())
		return;
	while (!is_settled(last))
	{
		int64_t now_us = pgl_clock_us();

		if (now_us >= until_us)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("what was paid for before is not known: the ledger is behind"),
					 errdetail("A budget or the journal is to be read, and records of earlier "
							   "calls are not in the tables yet."),
					 errhint("See llm_ledger_status and the server log; max_worker_processes may "
							 "be too low.")));
		pgl_ledger_want_writer(MyDatabaseId);
		pgl_net_turn(Min(until_us, now_us + LOOK_AGAIN_US), pgl_wait_event_quota());
	}
}
