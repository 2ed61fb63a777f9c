/*
 * breaker.c — the table of breakers: see breaker.h for the states and their numbers.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "../core/retry.h"
#include "../core/clock.h"
#include "../pg/guc.h"
#include "breaker.h"

#define NONE (-1)
#define SLOTS 10
#define SLOT_US INT64_C(1000000)
#define MIN_FAILURES 5
#define FAILURE_SHARE 2 /* one in so many */
#define OPEN_US INT64_C(5000000)
#define OPEN_MAX_US INT64_C(60000000)
#define RAMP_STEP 5 /* successes to the next stage */

typedef struct PglBreaker
{
	bool used;
	uint32_t scope;
	uint32_t database;
	char name[PGL_NAME_SIZE];
	PglBreakerState state;
	int64_t slot; /* number of the newest slot */
	uint16_t failures[SLOTS];
	uint16_t successes[SLOTS];
	int opened;         /* times in a row without closing */
	int64_t open_until; /* PGL_BREAKER_OPEN: when a probe may go */
	int probe_pid;      /* PGL_BREAKER_HALF_OPEN: who probes */
	int ramp_percent;
	int ramp_turn;
	int ramp_successes;
	int strikes; /* throttlings in a row */
	int64_t cool_until;
	int32_t retry_budget;
} PglBreaker;

typedef struct BreakerKey
{
	uint32_t database;
	uint32_t scope;
	uint64_t id;
} BreakerKey;

typedef struct BreakerIndex
{
	BreakerKey key;
	int index;
} BreakerIndex;

typedef struct BreakerTable
{
	int count;
} BreakerTable;

static BreakerTable *table = NULL;
static PglBreaker *breakers = NULL;
static HTAB *index_by_key = NULL;

uint64_t
pgl_breaker_shmem_size(void)
{
	Size size = MAXALIGN(sizeof(BreakerTable));

	size = add_size(size, mul_size(pgl_guc_max_limits, sizeof(PglBreaker)));
	return add_size(size, hash_estimate_size(pgl_guc_max_limits, sizeof(BreakerIndex)));
}

void
pgl_breaker_shmem_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(BreakerKey), .entrysize = sizeof(BreakerIndex)};
	bool found;

	table = ShmemInitStruct("pgllm breaker table", sizeof(BreakerTable), &found);
	breakers =
		ShmemInitStruct("pgllm breakers", mul_size(pgl_guc_max_limits, sizeof(PglBreaker)), &found);
	index_by_key = ShmemInitHash("pgllm breaker index", pgl_guc_max_limits, pgl_guc_max_limits,
								 &ctl, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	if (found)
		return;
	table->count = 0;
	memset(breakers, 0, sizeof(PglBreaker) * pgl_guc_max_limits);
}

int
pgl_breaker_peek(uint32_t database, PglBreakerScope scope, uint64_t id)
{
	BreakerKey key = {.database = database, .scope = scope, .id = id};
	BreakerIndex *entry = hash_search(index_by_key, &key, HASH_FIND, NULL);

	return entry ? entry->index : NONE;
}

int
pgl_breaker_find(uint32_t database, PglBreakerScope scope, uint64_t id, const char *name)
{
	BreakerKey key = {.database = database, .scope = scope, .id = id};
	int i = pgl_breaker_peek(database, scope, id);
	BreakerIndex *entry;

	if (i != NONE || table->count == pgl_guc_max_limits)
		return i;
	entry = hash_search(index_by_key, &key, HASH_ENTER_NULL, NULL);
	if (entry == NULL)
		return NONE;
	i = entry->index = table->count++;
	breakers[i] = (PglBreaker){.used = true,
							   .scope = scope,
							   .database = database,
							   .state = PGL_BREAKER_CLOSED,
							   .retry_budget = PGL_RETRY_BUDGET_MAX};
	pgl_shmem_copy_name(breakers[i].name, name);
	return i;
}

/* Forget the seconds that have gone by since the last look. */
static void
advance_slots(PglBreaker *breaker, int64_t now_us)
{
	int64_t slot = now_us / SLOT_US;
	int64_t s;

	if (slot <= breaker->slot)
		return;
	for (s = Max(breaker->slot + 1, slot - SLOTS + 1); s <= slot; s++)
		breaker->failures[s % SLOTS] = breaker->successes[s % SLOTS] = 0;
	breaker->slot = slot;
}

static void
sum_slots(const PglBreaker *breaker, int *failures, int *successes)
{
	int s;

	*failures = *successes = 0;
	for (s = 0; s < SLOTS; s++)
	{
		*failures += breaker->failures[s];
		*successes += breaker->successes[s];
	}
}

PglGate
pgl_breaker_gate(int i, int64_t now_us, int64_t *wait_us)
{
	const PglBreaker *breaker;

	*wait_us = 0;
	if (i == NONE)
		return PGL_GATE_PASS;
	breaker = &breakers[i];
	if (now_us < breaker->cool_until)
	{
		*wait_us = breaker->cool_until - now_us;
		return PGL_GATE_COOLING;
	}
	switch (breaker->state)
	{
		case PGL_BREAKER_CLOSED:
			return PGL_GATE_PASS;
		case PGL_BREAKER_OPEN:
			if (now_us >= breaker->open_until)
				return PGL_GATE_PROBE;
			*wait_us = breaker->open_until - now_us;
			return PGL_GATE_OPEN;
		case PGL_BREAKER_HALF_OPEN:
			return PGL_GATE_OPEN;
		case PGL_BREAKER_RAMP:
			return (breaker->ramp_turn + 1) * breaker->ramp_percent / 100 >
						   breaker->ramp_turn * breaker->ramp_percent / 100
					   ? PGL_GATE_PASS
					   : PGL_GATE_RAMPING;
	}
	return PGL_GATE_PASS;
}

void
pgl_breaker_held_back(int i)
{
	if (i != NONE && breakers[i].state == PGL_BREAKER_RAMP)
		breakers[i].ramp_turn = (breakers[i].ramp_turn + 1) % 100;
}

bool
pgl_breaker_enter(int i, int64_t now_us)
{
	if (i == NONE)
		return false;
	pgl_breaker_held_back(i);
	if (breakers[i].state == PGL_BREAKER_OPEN && now_us >= breakers[i].open_until)
		return pgl_breaker_force_probe(i);
	return false;
}

bool
pgl_breaker_force_probe(int i)
{
	if (i == NONE || breakers[i].state != PGL_BREAKER_OPEN)
		return false;
	breakers[i].state = PGL_BREAKER_HALF_OPEN;
	breakers[i].probe_pid = MyProcPid;
	return true;
}

static void
open_breaker(PglBreaker *breaker, int64_t now_us)
{
	int shift = Min(breaker->opened, 4);
	int64_t until = now_us + Min(OPEN_US << shift, OPEN_MAX_US);

	breaker->state = PGL_BREAKER_OPEN;
	breaker->opened++;
	breaker->probe_pid = 0;
	breaker->open_until = Max(breaker->open_until, until);
}

static void
close_breaker(PglBreaker *breaker)
{
	breaker->state = PGL_BREAKER_CLOSED;
	breaker->opened = 0;
	memset(breaker->failures, 0, sizeof(breaker->failures));
	memset(breaker->successes, 0, sizeof(breaker->successes));
}

/* A success while ramping: enough of them lead to the next stage, and in the end to closed. */
static void
climb_ramp(PglBreaker *breaker)
{
	if (++breaker->ramp_successes < RAMP_STEP)
		return;
	breaker->ramp_successes = 0;
	if (breaker->ramp_percent >= 50)
		close_breaker(breaker);
	else
		breaker->ramp_percent = 50;
}

void
pgl_breaker_success(int i, bool probe, int64_t now_us)
{
	PglBreaker *breaker;

	if (i == NONE)
		return;
	breaker = &breakers[i];
	breaker->strikes = 0;
	advance_slots(breaker, now_us);
	if (breaker->successes[breaker->slot % SLOTS] < UINT16_MAX)
		breaker->successes[breaker->slot % SLOTS]++;
	if (probe && breaker->state == PGL_BREAKER_HALF_OPEN)
	{
		breaker->state = PGL_BREAKER_RAMP;
		breaker->probe_pid = 0;
		breaker->ramp_percent = 10;
		breaker->ramp_turn = 0;
		breaker->ramp_successes = 0;
	}
	else if (breaker->state == PGL_BREAKER_RAMP)
		climb_ramp(breaker);
}

void
pgl_breaker_failure(int i, bool probe, int64_t now_us)
{
	PglBreaker *breaker;
	int failures;
	int successes;

	if (i == NONE)
		return;
	breaker = &breakers[i];
	advance_slots(breaker, now_us);
	if (breaker->failures[breaker->slot % SLOTS] < UINT16_MAX)
		breaker->failures[breaker->slot % SLOTS]++;
	sum_slots(breaker, &failures, &successes);
	if ((probe && breaker->state == PGL_BREAKER_HALF_OPEN) || breaker->state == PGL_BREAKER_RAMP)
		open_breaker(breaker, now_us);
	else if (breaker->state == PGL_BREAKER_CLOSED && failures >= MIN_FAILURES &&
			 failures * FAILURE_SHARE >= failures + successes)
		open_breaker(breaker, now_us);
}

void
pgl_breaker_neutral(int i, bool probe)
{
	if (i == NONE || !probe || breakers[i].state != PGL_BREAKER_HALF_OPEN)
		return;
	breakers[i].state = PGL_BREAKER_OPEN;
	breakers[i].probe_pid = 0;
}

void
pgl_breaker_cool(int i, int64_t hint_us, uint32_t random, int64_t now_us)
{
	PglBreaker *breaker;

	if (i == NONE)
		return;
	breaker = &breakers[i];
	/* Replies to calls that left before the cool-down began are one strike together. */
	if (now_us >= breaker->cool_until)
		breaker->strikes++;
	breaker->cool_until = Max(
		breaker->cool_until, now_us + pgl_retry_cooldown_us(breaker->strikes - 1, hint_us, random));
}

bool
pgl_breaker_take_retry(int i, int cost)
{
	return i == NONE || pgl_retry_budget_take(&breakers[i].retry_budget, cost);
}

void
pgl_breaker_give_retry(int i, int amount)
{
	if (i != NONE)
		pgl_retry_budget_give(&breakers[i].retry_budget, amount);
}

void
pgl_breaker_release_mine(void)
{
	int i;

	for (i = 0; i < table->count; i++)
		if (breakers[i].probe_pid == MyProcPid)
			pgl_breaker_neutral(i, true);
}

int
pgl_breaker_reset(uint32_t database, const char *name)
{
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < table->count; i++)
	{
		PglBreaker *breaker = &breakers[i];

		if (breaker->database != database || (name && strcmp(breaker->name, name) != 0))
			continue;
		close_breaker(breaker);
		breaker->probe_pid = 0;
		breaker->open_until = breaker->cool_until = 0;
		breaker->strikes = 0;
		breaker->retry_budget = PGL_RETRY_BUDGET_MAX;
		n++;
	}
	pgl_shmem_unlock();
	return n;
}

int
pgl_breaker_view(uint32_t database, PglBreakerView **rows)
{
	PglBreakerView *out = palloc_extended(sizeof(PglBreakerView) * pgl_guc_max_limits,
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < table->count; i++)
	{
		PglBreaker *breaker = &breakers[i];
		PglBreakerView *row = &out[n];

		if (breaker->database != database)
			continue;
		n++;
		advance_slots(breaker, now_us);
		sum_slots(breaker, &row->failures, &row->successes);
		row->scope = breaker->scope;
		memcpy(row->name, breaker->name, PGL_NAME_SIZE);
		row->state = breaker->state;
		row->opened = breaker->opened;
		row->open_us =
			breaker->state == PGL_BREAKER_OPEN ? Max(breaker->open_until - now_us, 0) : 0;
		row->cooling_us = Max(breaker->cool_until - now_us, 0);
		row->strikes = breaker->strikes;
		row->retry_budget = breaker->retry_budget;
	}
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
