/*
 * ledger.c — how far the ledger is, and waiting for it.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "../core/clock.h"
#include "../net/net.h"
#include "../shmem/ledger.h"

#define STATUS_COLUMNS 12
#define LOOK_AGAIN_US INT64_C(100000)

PG_FUNCTION_INFO_V1(pgl_llm_ledger_status);
PG_FUNCTION_INFO_V1(pgl_llm_flush);

static void
emit_status(ReturnSetInfo *rsinfo, const PglLedgerView *view)
{
	char *name = get_database_name(view->database);
	bool nulls[STATUS_COLUMNS] = {0};
	Datum values[STATUS_COLUMNS];

	nulls[0] = name == NULL;
	values[0] = name == NULL ? (Datum) 0 : DirectFunctionCall1(namein, CStringGetDatum(name));
	nulls[1] = view->writer_pid == 0;
	values[1] = Int32GetDatum(view->writer_pid);
	values[2] = Int64GetDatum(view->queued);
	nulls[3] = view->oldest_us < 0;
	values[3] = Float8GetDatum(view->oldest_us / 1000.0);
	values[4] = Int64GetDatum(view->spilled);
	values[5] = Int64GetDatum(view->written);
	values[6] = Int64GetDatum(view->failures);
	values[7] = BoolGetDatum(view->recovered);
	nulls[8] = view->last_error[0] == '\0';
	values[8] = CStringGetTextDatum(view->last_error);
	nulls[9] = view->last_error_at == 0;
	values[9] = TimestampTzGetDatum(view->last_error_at);
	values[10] = Int32GetDatum(view->free_slots);
	values[11] = Int32GetDatum(view->slots);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
pgl_llm_ledger_status(PG_FUNCTION_ARGS)
{
	PglLedgerView *views;
	int nviews;
	int i;

	pgl_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	nviews = pgl_ledger_view(&views);
	for (i = 0; i < nviews; i++)
		emit_status((ReturnSetInfo *) fcinfo->resultinfo, &views[i]);
	PG_RETURN_NULL();
}

static void
refuse_on_standby(void)
{
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("the ledger cannot be written during recovery"),
						errhint("Records wait in files of this server until it is promoted.")));
}

static uint32_t
wait_event(void)
{
	static uint32_t number = 0;

	if (number == 0)
		number = pgl_wait_event_new("PgllmLedger");
	return number;
}

/* What is taken off goes to the tables or to a file, and is counted there before it is off. */
static bool
is_flushed(uint64_t last)
{
	return pgl_ledger_is_recovered() && pgl_ledger_durable() >= last &&
		   pgl_ledger_spilled(MyDatabaseId) == 0;
}

Datum
pgl_llm_flush(PG_FUNCTION_ARGS)
{
	int64_t deadline_us = pgl_clock_us() + (int64_t) PG_GETARG_INT32(0) * 1000;
	uint64_t last;

	pgl_shmem_require();
	refuse_on_standby();
	last = pgl_ledger_last();
	while (!is_flushed(last))
	{
		int64_t now_us = pgl_clock_us();

		if (now_us >= deadline_us)
			PG_RETURN_BOOL(false);
		pgl_ledger_want_writer(MyDatabaseId);
		pgl_net_turn(Min(deadline_us, now_us + LOOK_AGAIN_US), wait_event());
	}
	PG_RETURN_BOOL(true);
}
