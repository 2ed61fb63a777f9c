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
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "answer.h"
#include "ledger_internal.h"

#define MANY 256 /* so many records are worth a transaction, though nobody waits */

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

typedef struct Ledger
{
	int64_t run;
	uint64_t next_number;
	int first_free;
	int free_slots;
} Ledger;

static Ledger *ledger = NULL;
static Slot *slots = NULL;
static PglRecord *records = NULL;
static int own_reserved = 0; /* slots reserved by this process: most exits need no search */

/* ---- start-up ---- */

uint64_t
pgl_ledger_shmem_size(void)
{
	Size size = MAXALIGN(sizeof(Ledger));

	size = add_size(size, MAXALIGN(mul_size(pgl_guc_ledger_size, sizeof(Slot))));
	size = add_size(size, MAXALIGN(mul_size(pgl_guc_ledger_size, sizeof(PglRecord))));
	return add_size(size, pgl_ledger_databases_shmem_size());
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
	pgl_ledger_databases_shmem_init();
	if (found)
		return;
	memset(ledger, 0, sizeof(*ledger));
	memset(slots, 0, slots_size);
	ledger->run = GetCurrentTimestamp();
	ledger->next_number = 1;
	ledger->free_slots = pgl_guc_ledger_size;
	for (i = 0; i < pgl_guc_ledger_size; i++)
		slots[i].next = i + 1 < pgl_guc_ledger_size ? i + 1 : NONE;
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
	PglLedgerDatabase *database = pgl_ledger_own_database();
	int i;

	if (database == NULL)
		database = pgl_ledger_make_database(MyDatabaseId);
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
		slot->database = pgl_ledger_database_index(database);
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
	pgl_ledger_database_at(slots[*slot].database)->reserved--;
	put_free(*slot);
	own_reserved--;
	*slot = PGL_NO_SLOT;
}

/* Locked. */
static void
append(PglLedgerDatabase *database, int index)
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
	PglLedgerDatabase *database = pgl_ledger_database_at(slot->database);

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
		pgl_ledger_wake_writer(database);
	*taken = PGL_NO_SLOT;
	return slot->number;
}

uint64_t
pgl_ledger_durable(void)
{
	PglLedgerDatabase *database = pgl_ledger_own_database();

	return database == NULL ? UINT64_MAX : pg_atomic_read_u64(&database->durable);
}

uint64_t
pgl_ledger_last(void)
{
	PglLedgerDatabase *database = pgl_ledger_own_database();

	return database == NULL ? 0 : pg_atomic_read_u64(&database->last);
}

void
pgl_ledger_unreserve_mine(void)
{
	int i;

	pgl_ledger_leave_office();
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
	PglLedgerDatabase *database;
	int head = NONE;

	pgl_shmem_lock();
	database = pgl_ledger_find_database(oid);
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
	PglLedgerDatabase *database;
	int head;

	pgl_shmem_lock();
	database = pgl_ledger_find_database(oid);
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

int64_t
pgl_ledger_oldest(const PglLedgerDatabase *database)
{
	return database->head == NONE ? -1 : slots[database->head].queued_us;
}

int
pgl_ledger_free_slots(void)
{
	return ledger->free_slots;
}

int64_t
pgl_ledger_run(void)
{
	return ledger->run;
}
