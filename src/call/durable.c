/*
 * durable.c — waiting until records are durable, and helping when the ledger writer does not.
 *
 * A call that waits never blocks the others of its backend: it is watched by the engine, which asks
 * once per turn what has become durable; whoever takes records off sets our latch.  When nothing
 * has happened for pgllm.ledger_timeout, this backend writes what is queued to the spill file by
 * itself.  Rows are keyed by call and attempt, so it does not matter if the writer wakes up
 * meanwhile.  One helps at a time, and the others wait for him: only when that does not help either
 * within another pgllm.ledger_timeout is it given up.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "../shmem/spill.h"
#include "state.h"

#define HELP_BATCH 512
#define HELP_AGAIN_US INT64_C(50000)

void
pgl_durable_await(PglCall *call, PglCallPhase phase, uint64_t number)
{
	call->phase = phase;
	call->awaited = number;
	call->awaited_since_us = pgl_clock_us();
	pgl_engine_watch(call);
	pgl_engine_set_timer(call, call->awaited_since_us + (int64_t) pgl_guc_ledger_timeout * 1000);
}

/* Write a batch of a database's queue to its spill file; false: not now, or not possible. */
static bool
help(uint32_t database)
{
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgllm ledger batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	PglDrain drain;
	bool helped;

	pgl_ledger_copy(database, HELP_BATCH, false, &drain);
	helped = drain.count > 0 && pgl_spill_append(&drain, false);
	if (helped)
		pgl_ledger_take_off(&drain);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return helped;
}

int
pgl_durable_poll(PglCall *call)
{
	int64_t timeout_us = (int64_t) pgl_guc_ledger_timeout * 1000;
	int64_t help_us = call->awaited_since_us + timeout_us;
	int64_t now_us = pgl_clock_us();

	while (now_us >= help_us && pgl_ledger_durable() < call->awaited)
		if (!help(MyDatabaseId))
			break;
	if (pgl_ledger_durable() >= call->awaited)
		return 1;
	if (now_us >= help_us + timeout_us)
		return -1;
	pgl_engine_watch(call);
	pgl_engine_set_timer(call, now_us < help_us ? help_us : now_us + HELP_AGAIN_US);
	return 0;
}

void
pgl_durable_make_room(void)
{
	PglLedgerView *rows;
	int n = pgl_ledger_view(&rows);
	int longest = -1;
	int i;

	for (i = 0; i < n; i++)
		if (rows[i].queued > 0 && (longest < 0 || rows[i].queued > rows[longest].queued))
			longest = i;
	if (longest >= 0)
		(void) help(rows[longest].database);
	pfree(rows);
}

/*
 * The answer has no room in shared memory: write its record to the spill file at once.  The record
 * that is queued later, without the answer, is a second copy and will be ignored.
 */
void
pgl_durable_write_answer(PglCall *call, PglRecord *record)
{
	char *answer = call->outcome.response;
	PglDrain drain = {.database = MyDatabaseId, .count = 1, .records = record, .answers = &answer};

	if (!pgl_spill_append(&drain, true))
		ereport(ERROR, (errcode(ERRCODE_DISK_FULL), errmsg("answer could not be journaled"),
						errhint("See the server's log, and the view llm_ledger_status.")));
	record->has_answer = false;
}
