/*
 * writer.c — the ledger writer of a database.
 *
 * It drains the queue into the tables, one transaction per batch.  When the tables fail, it appends
 * to the spill file instead, so that the backends that wait for durability go on, and tries the
 * tables again after 1, 2, 4 .. 30 s.  On a standby there is only the file.
 *
 * Order of things, on which "never lost, never twice" rests:
 *
 *	take off the queue   only after the commit, or after the fsync of the file
 *	remove the file      only after the commit of its last batch
 *
 * Dying anywhere between means that a record comes again, and tables.c skips what is there.
 *
 * It leaves after a minute without work, or when it is dismissed: DROP DATABASE and its like wait
 * five seconds for the sessions of a database to end (sql/database.c).  The launcher starts another
 *when there is work.  Transactions that wait in spite of lock_timeout end with SIGTERM like any
 *backend's.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../shmem/spill.h"
#include "worker.h"

#define BATCH 1000
#define SECOND_US INT64_C(1000000)
#define IDLE_US (60 * SECOND_US)
#define UPKEEP_US (60 * SECOND_US)
#define LOG_INTERVAL_US (60 * SECOND_US)

/* What one transaction does, with SPI connected and as the owner of the extension. */
typedef struct Work
{
	const PglDrain *drain; /* NULL: none */
	int written;
	bool more;
} Work;

PGDLLEXPORT void pgl_writer_main(Datum database);

static int64_t idle_since_us = 0;
static int64_t upkeep_at_us = 0;
static MemoryContext batch_context = NULL;
static bool tables_failed = false; /* while draining, since do_work began */

/* ---- transactions ---- */

static void
log_failure(const char *message)
{
	static int64_t last_us = 0;
	int64_t now_us = pgl_clock_us();

	if (last_us != 0 && now_us - last_us < LOG_INTERVAL_US)
		return;
	last_us = now_us;
	ereport(LOG,
			(errmsg("ledger writer could not write to its tables: %s", message),
			 errhint("Records are kept in files until it works again; see llm_ledger_status.")));
}

/* In a catch block: end the transaction and keep what happened for the operator. */
static void
recover_from_error(void)
{
	ErrorData *error;

	error_context_stack = NULL;
	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	MemoryContextSwitchTo(batch_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(batch_context);
	log_failure(error->message);
	pgl_ledger_report_failure(error->message);
	FreeErrorData(error);
	pgl_tables_forget_plans();
	pgl_upkeep_forget();
	RESUME_INTERRUPTS();
}

static void
begin_transaction(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(batch_context);
}

/* Run body as the owner in a transaction of its own; false: it failed, and was reported. */
static bool
transact(const char *activity, PglOwnerBody body, Work *work)
{
	volatile bool done = false;

	PG_TRY();
	{
		begin_transaction(activity);
		pgl_catalog_run_as_owner(body, work);
		end_transaction();
		done = true;
	}
	PG_CATCH();
	{
		recover_from_error();
	}
	PG_END_TRY();
	pgstat_report_activity(STATE_IDLE, NULL);
	return done;
}

static void
write_body(const PglExtension *extension, void *arg)
{
	Work *work = arg;

	work->written = pgl_tables_write(work->drain, extension);
}

static void
adopt_body(const PglExtension *extension, void *arg)
{
	Work *work = arg;

	work->written = pgl_tables_adopt_intents(extension);
}

static void
upkeep_body(const PglExtension *extension, void *arg)
{
	pgl_upkeep_run(extension);
}

static void
drop_body(const PglExtension *extension, void *arg)
{
	Work *work = arg;

	work->more = pgl_upkeep_drop_old(extension);
}

static bool
write_drain(const PglDrain *drain)
{
	Work work = {.drain = drain};

	if (!transact("writing ledger records", write_body, &work))
		return false;
	pgl_ledger_report_written(work.written);
	return true;
}

/*
 * Nobody will ever want records of a database without the extension.  While the transaction that
 * creates it goes on, calls in it can be made, and their records wait in the file.
 */
static bool
extension_exists(void)
{
	volatile bool exists = true;

	PG_TRY();
	{
		begin_transaction("looking for the extension");
		exists = pgl_catalog_may_have_extension();
		end_transaction();
	}
	PG_CATCH();
	{
		recover_from_error();
	}
	PG_END_TRY();
	return exists;
}

/* ---- the queue and the file ---- */

/*
 * Drain one batch, to the tables unless they are known to fail.  False: nothing was queued, or it
 * could not be kept anywhere and stays queued.
 */
static bool
drain_batch(bool tables)
{
	PglDrain drain;
	bool durable;

	MemoryContextReset(batch_context);
	pgl_ledger_copy(MyDatabaseId, BATCH, true, &drain);
	if (drain.count == 0)
		return false;
	idle_since_us = pgl_clock_us();
	durable = tables && write_drain(&drain);
	if (tables && !durable)
	{
		tables_failed = true;
		pgl_ledger_back_off();
	}
	if (!durable)
		durable = pgl_spill_append(&drain, true);
	if (durable)
		pgl_ledger_take_off(&drain);
	return durable;
}

/*
 * Load what lies in files.  Those who wait for what they have just queued are served in between, so
 * a large file does not hold them up, nor they the file: batches take turns.  Nothing depends on
 * the order, see tables.c.  The time to try again that an earlier failure has set is over, or this
 * would not run: a later one is a new failure.
 */
static bool
load_records(void)
{
	PglDrain drain;

	for (;;)
	{
		MemoryContextReset(batch_context);
		if (pgl_spill_read(BATCH, &drain) == 0)
			return true;
		if (!write_drain(&drain))
			return false;
		(void) drain_batch(true);
		if (tables_failed)
			return false;
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
load_spilled(void)
{
	volatile bool loaded = true;

	PG_TRY();
	{
		while (loaded && pgl_spill_begin(MyDatabaseId))
		{
			loaded = load_records();
			if (loaded)
				pgl_spill_finish();
		}
	}
	PG_CATCH();
	{
		recover_from_error();
		loaded = false;
	}
	PG_END_TRY();
	return loaded;
}

/* What earlier runs, or failures of the tables, have left behind; false: it failed again. */
static bool
catch_up(void)
{
	Work work = {0};

	if (pgl_ledger_spilled(MyDatabaseId) > 0 || !pgl_ledger_is_recovered())
		if (!load_spilled())
			return false;
	if (pgl_ledger_is_recovered())
		return true;
	if (!transact("adopting intents of earlier runs", adopt_body, &work))
		return false;
	pgl_ledger_report_written(work.written);
	pgl_ledger_set_recovered();
	return true;
}

static void
do_upkeep(void)
{
	Work work = {0};

	upkeep_at_us = pgl_clock_us() + UPKEEP_US;
	transact("making partitions, deleting expired answers", upkeep_body, &work);
	while (transact("dropping old partitions", drop_body, &work) && work.more)
		CHECK_FOR_INTERRUPTS();
}

/* ---- the loop ---- */

static bool
needs_catch_up(void)
{
	return !pgl_ledger_is_recovered() || pgl_ledger_spilled(MyDatabaseId) > 0;
}

/* Everything that can be done now. */
static void
do_work(void)
{
	bool writable = !RecoveryInProgress();
	int64_t retry_at_us = pgl_ledger_retry_at();
	bool tables = writable && retry_at_us <= pgl_clock_us();

	tables_failed = false;
	if (tables && (needs_catch_up() || retry_at_us != 0))
	{
		if (catch_up())
			pgl_ledger_works();
		else if (!tables_failed)
			pgl_ledger_back_off();
		tables = pgl_ledger_retry_at() == 0;
	}
	while (drain_batch(tables && !tables_failed))
		CHECK_FOR_INTERRUPTS();
	if (tables && !tables_failed && pgl_clock_us() >= upkeep_at_us)
		do_upkeep();
}

/* Time to leave: no work for a while, and none that will be due soon. */
static bool
is_idle(void)
{
	return pgl_ledger_durable() == UINT64_MAX &&
		   (pgl_ledger_is_dismissed() || pgl_clock_us() - idle_since_us >= IDLE_US);
}

/* Commits of the ledger are what others wait for: they are never asynchronous. */
static void
keep_commits_durable(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
sleep_until_work(void)
{
	static uint32_t wait_event = 0;

	if (wait_event == 0)
		wait_event = pgl_wait_event_new("PgllmLedger");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		keep_commits_durable();
	}
}

/*
 * Settings of the database or of the superuser must not stop the ledger.  The writer gives up a
 * lock before deadlock_timeout makes somebody else, in DROP EXTENSION for instance, the victim.
 * Without seqscans: rows are found by their keys, in plans that are kept; one made while a table
 * was empty would scan it later.
 */
static void
choose_settings(void)
{
	static const char *const settings[][2] = {
		{"statement_timeout", "0"},
		{"lock_timeout", "500ms"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"search_path", "pg_catalog, pg_temp"},
		{"default_tablespace", ""},
		{"check_function_bodies", "on"},
		{"enable_seqscan", "off"},
		{"application_name", "pgllm ledger writer"},
		{"auto_explain.log_min_duration", "-1"}, /* it would log answers */
	};
	int i;

	for (i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	pgl_disable_transaction_timeout();
	keep_commits_durable();
}

static void
leave(int code, Datum arg)
{
	pgl_ledger_detach_writer();
}

static void
start(Oid database)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	/* Records of a database that is closed for connections are written all the same. */
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	choose_settings();
	pgl_shmem_require();
	batch_context =
		AllocSetContextCreate(TopMemoryContext, "pgllm ledger batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(batch_context);
}

void
pgl_writer_main(Datum database)
{
	bool in_doubt = true;

	start(DatumGetObjectId(database));
	if (!pgl_ledger_attach_writer())
		proc_exit(0);
	before_shmem_exit(leave, (Datum) 0);
	idle_since_us = pgl_clock_us();
	while (!is_idle())
	{
		/* When all is well the extension is there: nothing is looked up for each batch. */
		if (in_doubt && !extension_exists())
		{
			pgl_ledger_discard(MyDatabaseId);
			pgl_spill_remove(MyDatabaseId);
			break;
		}
		do_work();
		in_doubt = pgl_ledger_retry_at() != 0;
		sleep_until_work();
	}
	proc_exit(0);
}
