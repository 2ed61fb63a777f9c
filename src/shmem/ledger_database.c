/*
 * ledger_database.c — who writes the ledger of which database, and how that fares.
 *
 * One entry per database that has, or had, something to write: its writer, what lies in its spill
 * file, when to try the tables again, what the view llm_ledger_status shows.  And the launcher, of
 * the whole server.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "ledger_internal.h"

#define FIRST_BACK_OFF_US INT64_C(1000000)
#define LONGEST_BACK_OFF_US INT64_C(30000000)

typedef struct Offices
{
	int launcher_pid; /* 0: none */
	ProcNumber launcher_proc;
	PglLedgerDatabase databases[PGL_LEDGER_MAX_DATABASES];
} Offices;

static Offices *offices = NULL;
static int own_index = NONE;

/* ---- start-up ---- */

uint64_t
pgl_ledger_databases_shmem_size(void)
{
	return MAXALIGN(sizeof(Offices));
}

static void
clear_database(PglLedgerDatabase *database, Oid oid)
{
	memset(database, 0, sizeof(*database));
	database->oid = oid;
	database->head = NONE;
	database->tail = NONE;
	database->writer_proc = INVALID_PROC_NUMBER;
	pg_atomic_init_u64(&database->durable, UINT64_MAX);
	pg_atomic_init_u64(&database->last, 0);
}

void
pgl_ledger_databases_shmem_init(void)
{
	bool found;
	int i;

	offices = ShmemInitStruct("pgllm ledger databases", sizeof(Offices), &found);
	if (found)
		return;
	offices->launcher_pid = 0;
	offices->launcher_proc = INVALID_PROC_NUMBER;
	for (i = 0; i < PGL_LEDGER_MAX_DATABASES; i++)
		clear_database(&offices->databases[i], InvalidOid);
}

/* ---- the table of databases ---- */

static int
search_database(Oid oid)
{
	int i;

	for (i = 0; i < PGL_LEDGER_MAX_DATABASES; i++)
		if (offices->databases[i].oid == oid)
			return i;
	return NONE;
}

static bool
is_idle(const PglLedgerDatabase *database)
{
	return database->queued == 0 && database->reserved == 0 && database->spilled == 0 &&
		   database->writer_pid == 0 && !database->wanted;
}

/* Locked.  Make an entry; NONE when as many databases have something to write. */
static int
add_database(Oid oid)
{
	int i = search_database(InvalidOid);
	int candidate;

	for (candidate = 0; i == NONE && candidate < PGL_LEDGER_MAX_DATABASES; candidate++)
		if (is_idle(&offices->databases[candidate]))
			i = candidate;
	if (i != NONE)
		clear_database(&offices->databases[i], oid);
	return i;
}

PglLedgerDatabase *
pgl_ledger_find_database(Oid oid)
{
	int i = search_database(oid);

	return i == NONE ? NULL : &offices->databases[i];
}

PglLedgerDatabase *
pgl_ledger_make_database(Oid oid)
{
	int i = search_database(oid);

	if (i == NONE)
		i = add_database(oid);
	return i == NONE ? NULL : &offices->databases[i];
}

PglLedgerDatabase *
pgl_ledger_own_database(void)
{
	if (own_index == NONE || offices->databases[own_index].oid != MyDatabaseId)
		own_index = search_database(MyDatabaseId);
	return own_index == NONE ? NULL : &offices->databases[own_index];
}

static void
wake(int pid, ProcNumber proc)
{
	if (pid != 0)
		SetLatch(pgl_proc_latch(proc));
}

void
pgl_ledger_wake_writer(const PglLedgerDatabase *database)
{
	if (database->writer_pid != 0)
		wake(database->writer_pid, database->writer_proc);
	else
		wake(offices->launcher_pid, offices->launcher_proc);
}

int
pgl_ledger_database_index(const PglLedgerDatabase *database)
{
	return database - offices->databases;
}

PglLedgerDatabase *
pgl_ledger_database_at(int index)
{
	return &offices->databases[index];
}

/* ---- writer and launcher ---- */

/* Locked.  What is left to write needs another. */
static void
forget_writer(PglLedgerDatabase *database)
{
	database->writer_pid = 0;
	database->writer_proc = INVALID_PROC_NUMBER;
	if (database->queued > 0 || database->wanted || database->spilled > 0)
		wake(offices->launcher_pid, offices->launcher_proc);
}

void
pgl_ledger_leave_office(void)
{
	PglLedgerDatabase *database = pgl_ledger_own_database();

	if (database != NULL && database->writer_pid == MyProcPid)
		forget_writer(database);
}

bool
pgl_ledger_attach_writer(void)
{
	PglLedgerDatabase *database;
	bool attached = false;

	pgl_shmem_lock();
	database = pgl_ledger_make_database(MyDatabaseId);
	if (database != NULL && database->writer_pid == 0)
	{
		database->writer_pid = MyProcPid;
		database->writer_proc = pgl_my_proc_number();
		database->wanted = database->dismissed = false;
		attached = true;
	}
	pgl_shmem_unlock();
	return attached;
}

/* Take the lock; the entry of the database, or NULL. */
static PglLedgerDatabase *
lock_database(Oid oid)
{
	pgl_shmem_lock();
	return pgl_ledger_find_database(oid);
}

void
pgl_ledger_dismiss_writer(uint32_t oid)
{
	PglLedgerDatabase *database = lock_database(oid);

	if (database != NULL && database->writer_pid != 0)
	{
		database->dismissed = true;
		pgl_ledger_wake_writer(database);
	}
	pgl_shmem_unlock();
}

bool
pgl_ledger_is_dismissed(void)
{
	PglLedgerDatabase *database = pgl_ledger_own_database();

	return database != NULL && database->dismissed;
}

void
pgl_ledger_detach_writer(void)
{
	pgl_shmem_lock();
	pgl_ledger_leave_office();
	pgl_shmem_unlock();
}

void
pgl_ledger_attach_launcher(void)
{
	pgl_shmem_lock();
	offices->launcher_pid = MyProcPid;
	offices->launcher_proc = pgl_my_proc_number();
	pgl_shmem_unlock();
}

void
pgl_ledger_detach_launcher(void)
{
	pgl_shmem_lock();
	if (offices->launcher_pid == MyProcPid)
		offices->launcher_pid = 0;
	pgl_shmem_unlock();
}

int
pgl_ledger_orphans(uint32_t *databases, int max, bool queued_only, bool *later)
{
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	*later = false;
	pgl_shmem_lock();
	for (i = 0; i < PGL_LEDGER_MAX_DATABASES && n < max; i++)
	{
		const PglLedgerDatabase *database = &offices->databases[i];
		bool due = database->queued > 0;

		if (!OidIsValid(database->oid) || database->writer_pid != 0)
			continue;
		if (!due && (database->wanted || database->spilled > 0))
		{
			due = !queued_only && database->retry_at_us <= now_us;
			*later |= !due;
		}
		if (due)
			databases[n++] = database->oid;
	}
	pgl_shmem_unlock();
	return n;
}

void
pgl_ledger_want_writer(uint32_t oid)
{
	PglLedgerDatabase *database;

	pgl_shmem_lock();
	database = pgl_ledger_make_database(oid);
	if (database != NULL)
	{
		database->wanted = database->writer_pid == 0;
		pgl_ledger_wake_writer(database);
	}
	pgl_shmem_unlock();
}

void
pgl_ledger_report_written(int rows)
{
	PglLedgerDatabase *database = lock_database(MyDatabaseId);

	if (database != NULL)
		database->written += rows;
	pgl_shmem_unlock();
}

void
pgl_ledger_report_failure(const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	PglLedgerDatabase *database = lock_database(MyDatabaseId);

	if (database != NULL)
	{
		database->failures++;
		database->last_error_at = now;
		strlcpy(database->last_error, message, sizeof(database->last_error));
	}
	pgl_shmem_unlock();
}

void
pgl_ledger_back_off(void)
{
	PglLedgerDatabase *database = lock_database(MyDatabaseId);

	if (database != NULL)
	{
		database->back_off_us = database->back_off_us == 0
									? FIRST_BACK_OFF_US
									: Min(database->back_off_us * 2, LONGEST_BACK_OFF_US);
		database->retry_at_us = pgl_clock_us() + database->back_off_us;
	}
	pgl_shmem_unlock();
}

void
pgl_ledger_works(void)
{
	PglLedgerDatabase *database = lock_database(MyDatabaseId);

	if (database != NULL)
	{
		database->back_off_us = 0;
		database->retry_at_us = 0;
	}
	pgl_shmem_unlock();
}

int64_t
pgl_ledger_retry_at(void)
{
	PglLedgerDatabase *database = lock_database(MyDatabaseId);
	int64_t at = database == NULL ? 0 : database->retry_at_us;

	pgl_shmem_unlock();
	return at;
}

void
pgl_ledger_report_spilled(uint32_t oid, int64_t change)
{
	PglLedgerDatabase *database;

	pgl_shmem_lock();
	database = pgl_ledger_make_database(oid);
	if (database != NULL)
		database->spilled = Max(database->spilled + change, 0);
	pgl_shmem_unlock();
}

void
pgl_ledger_set_spilled(uint32_t oid, int64_t count)
{
	PglLedgerDatabase *database;

	pgl_shmem_lock();
	database = count > 0 ? pgl_ledger_make_database(oid) : pgl_ledger_find_database(oid);
	if (database != NULL)
		database->spilled = count;
	pgl_shmem_unlock();
}

int64_t
pgl_ledger_spilled(uint32_t oid)
{
	PglLedgerDatabase *database = lock_database(oid);
	int64_t spilled = database == NULL ? 0 : database->spilled;

	pgl_shmem_unlock();
	return spilled;
}

void
pgl_ledger_set_recovered(void)
{
	PglLedgerDatabase *database = lock_database(MyDatabaseId);

	if (database != NULL)
		database->recovered = true;
	pgl_shmem_unlock();
}

bool
pgl_ledger_is_recovered(void)
{
	PglLedgerDatabase *database = lock_database(MyDatabaseId);
	bool recovered = database != NULL && database->recovered;

	pgl_shmem_unlock();
	return recovered;
}

int
pgl_ledger_queued_databases(uint32_t *databases, int max)
{
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < PGL_LEDGER_MAX_DATABASES && n < max; i++)
		if (offices->databases[i].queued > 0)
			databases[n++] = offices->databases[i].oid;
	pgl_shmem_unlock();
	return n;
}

/* ---- views ---- */

/* Locked. */
static void
fill_view(PglLedgerView *view, const PglLedgerDatabase *database, int64_t now_us)
{
	int64_t oldest_us = pgl_ledger_oldest(database);

	view->database = database->oid;
	view->writer_pid = database->writer_pid;
	view->queued = database->queued;
	view->oldest_us = oldest_us < 0 ? -1 : now_us - oldest_us;
	view->spilled = database->spilled;
	view->written = database->written;
	view->failures = database->failures;
	view->recovered = database->recovered;
	memcpy(view->last_error, database->last_error, sizeof(view->last_error));
	view->last_error_at = database->last_error_at;
	view->free_slots = pgl_ledger_free_slots();
	view->slots = pgl_guc_ledger_size;
}

int
pgl_ledger_view(PglLedgerView **rows)
{
	PglLedgerView *out = palloc(sizeof(PglLedgerView) * PGL_LEDGER_MAX_DATABASES);
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < PGL_LEDGER_MAX_DATABASES; i++)
		if (OidIsValid(offices->databases[i].oid))
			fill_view(&out[n++], &offices->databases[i], now_us);
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
