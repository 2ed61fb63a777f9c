/*
 * launcher.c — starts a ledger writer for each database that needs one.
 *
 * Static worker, connected to no database: it can look into pg_database, and no further.  It is
 * woken when something is queued in a database without a writer.  Once after the server has
 * started, or was promoted, it sends a writer to each database: an earlier run may have left
 * intents there.  A writer that dies soon is started again after 1, 2, 4 .. 30 s; when there is no
 * worker slot, the records stay in shared memory, and backends that wait for them write the spill
 * file themselves.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "../core/clock.h"
#include "../shmem/spill.h"
#include "worker.h"

#define SECOND_US INT64_C(1000000)
#define SOON_US (2 * SECOND_US) /* an idle writer lives longer */
#define LONGEST_BACK_OFF_US (30 * SECOND_US)
#define LOG_INTERVAL_US (60 * SECOND_US)
#define POLL_MS 1000
#define IDLE_MS 60000

/* A writer that was started, or should be. */
typedef struct Started
{
	Oid database; /* InvalidOid: not used */
	BackgroundWorkerHandle *handle;
	int64_t started_us;
	int64_t back_off_us;
	int64_t not_before_us;
} Started;

PGDLLEXPORT void pgl_launcher_main(Datum arg);

static Started started[PGL_LEDGER_MAX_DATABASES];

void
pgl_worker_init(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, "pgllm ledger launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "pgllm ledger launcher");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "pgllm");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "pgl_launcher_main");
	RegisterBackgroundWorker(&worker);
}

/* ---- one writer ---- */

/* Gone for good, or half dropped. */
static bool
database_is_gone(Oid database)
{
	HeapTuple tuple;
	bool gone;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	gone = !HeapTupleIsValid(tuple) ||
		   ((Form_pg_database) GETSTRUCT(tuple))->datconnlimit == DATCONNLIMIT_INVALID_DB;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	CommitTransactionCommand();
	return gone;
}

static void
delay(Started *writer)
{
	writer->back_off_us =
		writer->back_off_us == 0 ? SECOND_US : Min(writer->back_off_us * 2, LONGEST_BACK_OFF_US);
	writer->not_before_us = pgl_clock_us() + writer->back_off_us;
}

static void
log_no_slot(Oid database)
{
	static int64_t last_us = 0;
	int64_t now_us = pgl_clock_us();

	if (last_us != 0 && now_us - last_us < LOG_INTERVAL_US)
		return;
	last_us = now_us;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no background worker slot for the ledger writer of database %u", database),
			 errdetail("Calls go on, and their records wait in files."),
			 errhint("Increase max_worker_processes.")));
}

static void
start_writer(Started *writer)
{
	BackgroundWorker worker;
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, "pgllm ledger writer for database %u", writer->database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "pgllm ledger writer");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "pgllm");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), PGL_WRITER_FUNCTION);
	worker.bgw_main_arg = ObjectIdGetDatum(writer->database);
	worker.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&worker, &writer->handle))
		writer->started_us = pgl_clock_us();
	else
	{
		writer->handle = NULL;
		log_no_slot(writer->database);
		delay(writer);
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Has it ended?  One that ended soon after its start, with work left, is not started again at once.
 * A database without the extension looks like that only once: its records are gone then.
 */
static bool
has_ended(Started *writer)
{
	pid_t pid;
	BgwHandleStatus status;

	if (writer->handle == NULL)
		return true;
	status = GetBackgroundWorkerPid(writer->handle, &pid);
	if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
		return false;
	pfree(writer->handle);
	writer->handle = NULL;
	if (pgl_clock_us() - writer->started_us < SOON_US)
		delay(writer);
	else
		writer->back_off_us = writer->not_before_us = 0;
	return true;
}

/* ---- all of them ---- */

/* An entry whose writer has ended, and that waits for nothing, is free for another database. */
static Started *
entry_of(Oid database)
{
	Started *unused = NULL;
	int i;

	for (i = 0; i < lengthof(started); i++)
	{
		if (started[i].database == database)
			return &started[i];
		if (unused == NULL &&
			(!OidIsValid(started[i].database) ||
			 (has_ended(&started[i]) && started[i].not_before_us <= pgl_clock_us())))
			unused = &started[i];
	}
	if (unused == NULL)
		return NULL;
	memset(unused, 0, sizeof(*unused));
	unused->database = database;
	return unused;
}

static void
serve(Oid database)
{
	Started *writer = entry_of(database);

	if (writer == NULL || !has_ended(writer) || writer->not_before_us > pgl_clock_us())
		return;
	if (database_is_gone(database))
	{
		pgl_ledger_discard(database);
		pgl_spill_remove(database);
	}
	else
		start_writer(writer);
}

/* A writer looks into each database that allows connections. */
static void
visit_all(void)
{
	Relation catalog;
	TableScanDesc scan;
	HeapTuple tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit != DATCONNLIMIT_INVALID_DB)
			pgl_ledger_want_writer(form->oid);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
}

/* Returns how long to sleep.  On a standby nobody tells us of the promotion. */
static long
serve_all(void)
{
	static uint32_t databases[PGL_LEDGER_MAX_DATABASES];
	bool later;
	int n = pgl_ledger_orphans(databases, lengthof(databases), RecoveryInProgress(), &later);
	int i;

	for (i = 0; i < n; i++)
		serve(databases[i]);
	return n > 0 || later ? POLL_MS : IDLE_MS;
}

static void
leave(int code, Datum arg)
{
	pgl_ledger_detach_launcher();
}

static void
start(void)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "pgllm ledger launcher", PGC_USERSET, PGC_S_OVERRIDE);
	pgl_shmem_require();
	pgl_ledger_attach_launcher();
	before_shmem_exit(leave, (Datum) 0);
}

void
pgl_launcher_main(Datum arg)
{
	bool visited = false;
	uint32_t wait_event;

	start();
	wait_event = pgl_wait_event_new("PgllmLedger");
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		long timeout_ms;

		if (!visited && !RecoveryInProgress())
		{
			visit_all();
			visited = true;
		}
		timeout_ms = serve_all();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
