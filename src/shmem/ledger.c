/*
 * ledger.c — slots and queues of ledger records.
 *
 * A slot is a small header; its record lies in an array beside, so that walking headers touches
 * little memory.  Free slots and the queue of each database are singly linked by index.
 *
 * Under the main lock only ends of lists move.  The records themselves are copied, and their
 * answers freed, under the flush lock: a queued record does not change until it is taken off, and
 * only the holder of the flush lock takes off.  So whoever holds it may walk the queue from the
 * head over as many records as it counted under the main lock.  It must not follow the link of the
 * last one: a push may be writing it.
 *
 * What waiting backends look at, the number of the first record that is not durable, is an atomic,
 * so that they need no lock to go back to sleep.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "answer.h"
#include "ledger.h"

#define NONE (-1)
#define MANY 256 /* so many records are worth a transaction, though nobody waits */
#define LONGEST_BACK_OFF_US INT64_C(30000000)

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_RESERVED,
	SLOT_QUEUED
} SlotState;

typedef struct Slot
{
	SlotState state;
	int next; /* free list, or queue */
	int pid;  /* of whom it is, or who pushed */
	ProcNumber proc;
	int database; /* index */
	uint64_t number;
	int64_t queued_us;
} Slot;

/* What is known of a database.  An entry is reused when nothing of it is in the way. */
typedef struct Database
{
	Oid oid; /* InvalidOid: not used */
	int head;
	int tail;
	int64_t queued;
	int64_t reserved;
	pg_atomic_uint64 durable; /* UINT64_MAX while the queue is empty */
	pg_atomic_uint64 last;
	int writer_pid; /* 0: none */
	ProcNumber writer_proc;
	bool wanted;
	bool dismissed; /* its writer shall leave */
	bool recovered;
	int64_t back_off_us; /* 0: the tables work */
	int64_t retry_at_us;
	int64_t spilled;
	int64_t written;
	int64_t failures;
	char last_error[PGL_LEDGER_ERROR_SIZE];
	int64_t last_error_at;
} Database;

typedef struct Ledger
{
	int64_t run;
	uint64_t next_number;
	int first_free;
	int free_slots;
	int launcher_pid;
	ProcNumber launcher_proc;
	Database databases[PGL_LEDGER_MAX_DATABASES];
} Ledger;

static Ledger *ledger = NULL;
static Slot *slots = NULL;
static PglRecord *records = NULL;
static int own_index = NONE;
static int own_reserved = 0; /* slots reserved by this process: most exits need no search */

/* ---- start-up ---- */

uint64_t
pgl_ledger_shmem_size(void)
{
	Size size = MAXALIGN(sizeof(Ledger));

	size = add_size(size, MAXALIGN(mul_size(pgl_guc_ledger_size, sizeof(Slot))));
	return add_size(size, MAXALIGN(mul_size(pgl_guc_ledger_size, sizeof(PglRecord))));
}

static void
clear_database(Database *database, Oid oid)
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
pgl_ledger_shmem_init(void)
{
	Size slots_size = mul_size(pgl_guc_ledger_size, sizeof(Slot));
	bool found;
	int i;

	ledger = ShmemInitStruct("pgllm ledger", sizeof(Ledger), &found);
	slots = ShmemInitStruct("pgllm ledger slots", slots_size, &found);
	records = ShmemInitStruct("pgllm ledger records",
							  mul_size(pgl_guc_ledger_size, sizeof(PglRecord)), &found);
	if (found)
		return;
	memset(ledger, 0, sizeof(*ledger));
	memset(slots, 0, slots_size);
	ledger->run = GetCurrentTimestamp();
	ledger->next_number = 1;
	ledger->free_slots = pgl_guc_ledger_size;
	ledger->launcher_proc = INVALID_PROC_NUMBER;
	for (i = 0; i < pgl_guc_ledger_size; i++)
		slots[i].next = i + 1 < pgl_guc_ledger_size ? i + 1 : NONE;
	for (i = 0; i < PGL_LEDGER_MAX_DATABASES; i++)
		clear_database(&ledger->databases[i], InvalidOid);
}

/* ---- the table of databases ---- */

static int
search_database(Oid oid)
{
	int i;

	for (i = 0; i < PGL_LEDGER_MAX_DATABASES; i++)
		if (ledger->databases[i].oid == oid)
			return i;
	return NONE;
}

static bool
is_idle(const Database *database)
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
		if (is_idle(&ledger->databases[candidate]))
			i = candidate;
	if (i != NONE)
		clear_database(&ledger->databases[i], oid);
	return i;
}

/* Locked.  The entry of a database; NULL if it has none. */
static Database *
database_of(Oid oid)
{
	int i = search_database(oid);

	return i == NONE ? NULL : &ledger->databases[i];
}

/* Locked.  Likewise, made if need be; NULL: no room. */
static Database *
make_database(Oid oid)
{
	int i = search_database(oid);

	if (i == NONE)
		i = add_database(oid);
	return i == NONE ? NULL : &ledger->databases[i];
}

/* Of this process; NULL if it has none.  Without the lock only its atomics may be looked at. */
static Database *
own_database(void)
{
	if (own_index == NONE || ledger->databases[own_index].oid != MyDatabaseId)
		own_index = search_database(MyDatabaseId);
	return own_index == NONE ? NULL : &ledger->databases[own_index];
}

static void
wake(int pid, ProcNumber proc)
{
	if (pid != 0)
		SetLatch(pgl_proc_latch(proc));
}

/* Locked. */
static void
wake_writer(const Database *database)
{
	if (database->writer_pid != 0)
		wake(database->writer_pid, database->writer_proc);
	else
		wake(ledger->launcher_pid, ledger->launcher_proc);
}

/* ---- calls ---- */

/* Locked. */
static void
put_free(int index)
{
	slots[index].state = SLOT_FREE;
	slots[index].next = ledger->first_free;
	ledger->first_free = index;
	ledger->free_slots++;
}

bool
pgl_ledger_reserve(int n, int taken[])
{
	Database *database = make_database(MyDatabaseId);
	int i;

	if (database == NULL || ledger->free_slots < n)
		return false;
	for (i = 0; i < n; i++)
	{
		Slot *slot = &slots[ledger->first_free];

		taken[i] = ledger->first_free;
		ledger->first_free = slot->next;
		slot->state = SLOT_RESERVED;
		slot->pid = MyProcPid;
		slot->proc = pgl_my_proc_number();
		slot->database = database - ledger->databases;
	}
	ledger->free_slots -= n;
	database->reserved += n;
	own_reserved += n;
	return true;
}

void
pgl_ledger_unreserve(int *slot)
{
	if (*slot == PGL_NO_SLOT)
		return;
	ledger->databases[slots[*slot].database].reserved--;
	put_free(*slot);
	own_reserved--;
	*slot = PGL_NO_SLOT;
}

/* Locked. */
static void
append(Database *database, int index)
{
	if (database->tail == NONE)
	{
		database->head = index;
		pg_atomic_write_u64(&database->durable, slots[index].number - 1);
	}
	else
		slots[database->tail].next = index;
	database->tail = index;
	database->queued++;
	pg_atomic_write_u64(&database->last, slots[index].number);
}

uint64_t
pgl_ledger_push(int *taken, const PglRecord *record, bool urgent)
{
	int index = *taken;
	Slot *slot = &slots[index];
	Database *database = &ledger->databases[slot->database];

	slot->state = SLOT_QUEUED;
	slot->next = NONE;
	slot->number = ledger->next_number++;
	slot->queued_us = pgl_clock_us();
	records[index] = *record;
	records[index].run = ledger->run;
	append(database, index);
	database->reserved--;
	own_reserved--;
	if (urgent || database->writer_pid == 0 || database->queued >= MANY)
		wake_writer(database);
	*taken = PGL_NO_SLOT;
	return slot->number;
}

uint64_t
pgl_ledger_durable(void)
{
	Database *database = own_database();

	return database == NULL ? UINT64_MAX : pg_atomic_read_u64(&database->durable);
}

uint64_t
pgl_ledger_last(void)
{
	Database *database = own_database();

	return database == NULL ? 0 : pg_atomic_read_u64(&database->last);
}

static void
forget_writer(Database *database)
{
	database->writer_pid = 0;
	database->writer_proc = INVALID_PROC_NUMBER;
	if (database->queued > 0 || database->wanted || database->spilled > 0)
		wake(ledger->launcher_pid, ledger->launcher_proc);
}

void
pgl_ledger_unreserve_mine(void)
{
	Database *database = own_database();
	int i;

	if (database != NULL && database->writer_pid == MyProcPid)
		forget_writer(database);
	for (i = 0; own_reserved > 0 && i < pgl_guc_ledger_size; i++)
	{
		int index = i;

		if (slots[i].state == SLOT_RESERVED && slots[i].pid == MyProcPid)
			pgl_ledger_unreserve(&index);
	}
}

/* ---- draining ---- */

/* NULL: the record has none.  Under the flush lock. */
static char *
copy_answer(const PglRecord *record)
{
	return record->has_answer ? pgl_answer_copy(record->answer, record->answer_length) : NULL;
}

static bool
lock_flush(bool wait)
{
	LWLock *lock = pgl_shmem_lwlock(PGL_LWLOCK_FLUSH);

	if (!wait)
		return LWLockConditionalAcquire(lock, LW_EXCLUSIVE);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	return true;
}

static void
unlock_flush(void)
{
	LWLockRelease(pgl_shmem_lwlock(PGL_LWLOCK_FLUSH));
}

/* The queue as it is now: its head, and how many may be walked over under the flush lock. */
static int
look_at_queue(Oid oid, int64_t *count)
{
	Database *database;
	int head = NONE;

	pgl_shmem_lock();
	database = database_of(oid);
	*count = database == NULL ? 0 : database->queued;
	if (database != NULL)
		head = database->head;
	pgl_shmem_unlock();
	return head;
}

void
pgl_ledger_copy(uint32_t database, int max, bool wait, PglDrain *drain)
{
	int64_t count;
	int index;
	int i;

	memset(drain, 0, sizeof(*drain));
	drain->database = database;
	if (!lock_flush(wait))
		return;
	index = look_at_queue(database, &count);
	drain->count = Min(count, max);
	if (drain->count > 0)
	{
		drain->records =
			palloc_extended(mul_size(drain->count, sizeof(PglRecord)), MCXT_ALLOC_HUGE);
		drain->answers = palloc0(sizeof(char *) * drain->count);
	}
	for (i = 0; i < drain->count; i++)
	{
		if (i > 0)
			index = slots[index].next;
		drain->records[i] = records[index];
		drain->answers[i] = copy_answer(&records[index]);
		drain->last = slots[index].number;
	}
	unlock_flush();
}

/*
 * Under the flush lock.  Free the answers of those of the first `count` queued records whose number
 * is at most `last`.  Returns how many there are; *end is the last of them.
 */
static int
release_records(int head, int64_t count, uint64_t last, int *end)
{
	int index = head;
	int n = 0;

	*end = NONE;
	while (n < count && slots[index].number <= last)
	{
		PglRecord *record = &records[index];

		if (record->has_answer)
			pgl_answer_free(record->answer);
		record->has_answer = false;
		*end = index;
		if (++n < count)
			index = slots[index].next;
	}
	return n;
}

/* Move the first n slots of a queue, of which `end` is the last, to the free list. */
static void
cut_queue(Oid oid, int n, int end)
{
	Database *database;
	int head;

	pgl_shmem_lock();
	database = database_of(oid);
	head = database->head;
	database->head = slots[end].next;
	if (database->head == NONE)
		database->tail = NONE;
	database->queued -= n;
	pg_atomic_write_u64(&database->durable,
						database->head == NONE ? UINT64_MAX : slots[database->head].number - 1);
	slots[end].next = ledger->first_free;
	ledger->first_free = head;
	ledger->free_slots += n;
	pgl_shmem_unlock();
}

/* The latches come last: who is woken must find that its records are off. */
static void
take_off(Oid oid, uint64_t last)
{
	bool *woken = palloc0(sizeof(bool) * pgl_shmem_max_procs()); /* by proc number */
	int64_t count;
	int index;
	int end;
	int n;
	int i;

	lock_flush(true);
	index = look_at_queue(oid, &count);
	n = release_records(index, count, last, &end);
	for (i = 0; i < n; i++)
	{
		if (i > 0)
			index = slots[index].next;
		slots[index].state = SLOT_FREE;
		woken[slots[index].proc] = true;
	}
	if (n > 0)
		cut_queue(oid, n, end);
	unlock_flush();
	for (i = 0; i < pgl_shmem_max_procs(); i++)
		if (woken[i])
			SetLatch(pgl_proc_latch(i));
	pfree(woken);
}

void
pgl_ledger_take_off(const PglDrain *drain)
{
	take_off(drain->database, drain->last);
}

void
pgl_ledger_discard(uint32_t database)
{
	take_off(database, UINT64_MAX);
}

/* ---- writer and launcher ---- */

bool
pgl_ledger_attach_writer(void)
{
	Database *database;
	bool attached = false;

	pgl_shmem_lock();
	database = make_database(MyDatabaseId);
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

void
pgl_ledger_dismiss_writer(uint32_t oid)
{
	Database *database;

	pgl_shmem_lock();
	database = database_of(oid);
	if (database != NULL && database->writer_pid != 0)
	{
		database->dismissed = true;
		wake_writer(database);
	}
	pgl_shmem_unlock();
}

bool
pgl_ledger_is_dismissed(void)
{
	Database *database = own_database();

	return database != NULL && database->dismissed;
}

void
pgl_ledger_detach_writer(void)
{
	Database *database = own_database();

	pgl_shmem_lock();
	if (database != NULL && database->writer_pid == MyProcPid)
		forget_writer(database);
	pgl_shmem_unlock();
}

void
pgl_ledger_attach_launcher(void)
{
	pgl_shmem_lock();
	ledger->launcher_pid = MyProcPid;
	ledger->launcher_proc = pgl_my_proc_number();
	pgl_shmem_unlock();
}

void
pgl_ledger_detach_launcher(void)
{
	pgl_shmem_lock();
	if (ledger->launcher_pid == MyProcPid)
		ledger->launcher_pid = 0;
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
		const Database *database = &ledger->databases[i];
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
	Database *database;

	pgl_shmem_lock();
	database = make_database(oid);
	if (database != NULL)
	{
		database->wanted = database->writer_pid == 0;
		wake_writer(database);
	}
	pgl_shmem_unlock();
}

void
pgl_ledger_report_written(int rows)
{
	Database *database;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
	if (database != NULL)
		database->written += rows;
	pgl_shmem_unlock();
}

void
pgl_ledger_report_failure(const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	Database *database;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
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
	Database *database;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
	if (database != NULL)
	{
		database->back_off_us = database->back_off_us == 0
									? INT64_C(1000000)
									: Min(database->back_off_us * 2, LONGEST_BACK_OFF_US);
		database->retry_at_us = pgl_clock_us() + database->back_off_us;
	}
	pgl_shmem_unlock();
}

void
pgl_ledger_works(void)
{
	Database *database;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
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
	Database *database;
	int64_t at = 0;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
	if (database != NULL)
		at = database->retry_at_us;
	pgl_shmem_unlock();
	return at;
}

void
pgl_ledger_report_spilled(uint32_t oid, int64_t change)
{
	Database *database;

	pgl_shmem_lock();
	database = make_database(oid);
	if (database != NULL)
		database->spilled = Max(database->spilled + change, 0);
	pgl_shmem_unlock();
}

void
pgl_ledger_set_spilled(uint32_t oid, int64_t count)
{
	Database *database;

	pgl_shmem_lock();
	database = count > 0 ? make_database(oid) : database_of(oid);
	if (database != NULL)
		database->spilled = count;
	pgl_shmem_unlock();
}

int64_t
pgl_ledger_spilled(uint32_t oid)
{
	Database *database;
	int64_t spilled;

	pgl_shmem_lock();
	database = database_of(oid);
	spilled = database == NULL ? 0 : database->spilled;
	pgl_shmem_unlock();
	return spilled;
}

void
pgl_ledger_set_recovered(void)
{
	Database *database;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
	if (database != NULL)
		database->recovered = true;
	pgl_shmem_unlock();
}

bool
pgl_ledger_is_recovered(void)
{
	Database *database;
	bool recovered;

	pgl_shmem_lock();
	database = database_of(MyDatabaseId);
	recovered = database != NULL && database->recovered;
	pgl_shmem_unlock();
	return recovered;
}

int64_t
pgl_ledger_run(void)
{
	return ledger->run;
}

int
pgl_ledger_queued_databases(uint32_t *databases, int max)
{
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < PGL_LEDGER_MAX_DATABASES && n < max; i++)
		if (ledger->databases[i].queued > 0)
			databases[n++] = ledger->databases[i].oid;
	pgl_shmem_unlock();
	return n;
}

/* ---- views ---- */

/* Locked. */
static void
fill_view(PglLedgerView *view, const Database *database, int64_t now_us)
{
	view->database = database->oid;
	view->writer_pid = database->writer_pid;
	view->queued = database->queued;
	view->oldest_us = database->head == NONE ? -1 : now_us - slots[database->head].queued_us;
	view->spilled = database->spilled;
	view->written = database->written;
	view->failures = database->failures;
	view->recovered = database->recovered;
	memcpy(view->last_error, database->last_error, sizeof(view->last_error));
	view->last_error_at = database->last_error_at;
	view->free_slots = ledger->free_slots;
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
		if (OidIsValid(ledger->databases[i].oid))
			fill_view(&out[n++], &ledger->databases[i], now_us);
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
