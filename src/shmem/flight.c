/*
 * flight.c — the table of journaled calls in flight.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "../pg/compat.h"
#include "../pg/guc.h"
#include "flight.h"
#include "ledger.h"

/* Those who are woken at once; any others look again by themselves. */
#define FOLLOWERS 4

typedef struct FlightKey
{
	uint32_t database;
	unsigned char key[PGL_FLIGHT_KEY_SIZE];
} FlightKey;

typedef struct Flight
{
	FlightKey key;
	int pid;         /* of the owner; 0: it has left, the answer is on its way to the table */
	uint64_t number; /* pid 0: the record to become durable */
	int nfollowers;
	ProcNumber followers[FOLLOWERS];
} Flight;

static HTAB *flights = NULL;

uint64_t
pgl_flight_shmem_size(void)
{
	return hash_estimate_size(pgl_guc_max_leases, sizeof(Flight));
}

void
pgl_flight_shmem_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(FlightKey), .entrysize = sizeof(Flight)};

	flights = ShmemInitHash("pgllm flights", pgl_guc_max_leases, pgl_guc_max_leases, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static FlightKey
key_of(const unsigned char bytes[PGL_FLIGHT_KEY_SIZE])
{
	FlightKey key = {.database = MyDatabaseId};

	memcpy(key.key, bytes, PGL_FLIGHT_KEY_SIZE);
	return key;
}

static void
land(Flight *flight)
{
	int i;

	for (i = 0; i < flight->nfollowers; i++)
		SetLatch(pgl_proc_latch(flight->followers[i]));
	hash_search(flights, &flight->key, HASH_REMOVE, NULL);
}

/* Locked.  The flight of the key, unless it has landed; durable was asked for before the lock. */
static Flight *
find(const FlightKey *key, uint64_t durable)
{
	Flight *flight = hash_search(flights, key, HASH_FIND, NULL);

	if (flight && flight->pid == 0 && flight->number <= durable)
	{
		land(flight);
		return NULL;
	}
	return flight;
}

static void
follow(Flight *flight)
{
	ProcNumber me = pgl_my_proc_number();
	int i;

	for (i = 0; i < flight->nfollowers; i++)
		if (flight->followers[i] == me)
			return;
	if (flight->nfollowers < FOLLOWERS)
		flight->followers[flight->nfollowers++] = me;
}

/* Locked.  Land all of this database whose answers are durable: nobody has asked for them since. */
static void
land_durable(uint64_t durable)
{
	HASH_SEQ_STATUS scan;
	Flight *flight;

	hash_seq_init(&scan, flights);
	while ((flight = hash_seq_search(&scan)) != NULL)
		if (flight->pid == 0 && flight->key.database == MyDatabaseId && flight->number <= durable)
			land(flight);
}

/* Locked.  An entry for a key that has none; NULL: the table is full. */
static Flight *
add(const FlightKey *key, uint64_t durable)
{
	Flight *flight = hash_search(flights, key, HASH_ENTER_NULL, NULL);

	if (flight != NULL)
		return flight;
	land_durable(durable);
	return hash_search(flights, key, HASH_ENTER_NULL, NULL);
}

bool
pgl_flight_claim(const unsigned char bytes[PGL_FLIGHT_KEY_SIZE])
{
	FlightKey key = key_of(bytes);
	uint64_t durable = pgl_ledger_durable();
	Flight *flight;
	bool mine;

	pgl_shmem_lock();
	flight = find(&key, durable);
	mine = flight == NULL;
	if (flight)
		follow(flight);
	else if ((flight = add(&key, durable)) != NULL)
	{
		flight->pid = MyProcPid;
		flight->number = 0;
		flight->nfollowers = 0;
	}
	pgl_shmem_unlock();
	return mine;
}

bool
pgl_flight_is_taken(const unsigned char bytes[PGL_FLIGHT_KEY_SIZE])
{
	FlightKey key = key_of(bytes);
	uint64_t durable = pgl_ledger_durable();
	bool taken;

	pgl_shmem_lock();
	taken = find(&key, durable) != NULL;
	pgl_shmem_unlock();
	return taken;
}

void
pgl_flight_leave(const unsigned char bytes[PGL_FLIGHT_KEY_SIZE], uint64_t number)
{
	FlightKey key = key_of(bytes);
	uint64_t durable = pgl_ledger_durable();
	Flight *flight;

	pgl_shmem_lock();
	flight = hash_search(flights, &key, HASH_FIND, NULL);
	if (flight && flight->pid == MyProcPid && number <= durable)
		land(flight);
	else if (flight && flight->pid == MyProcPid)
	{
		flight->pid = 0;
		flight->number = number;
	}
	pgl_shmem_unlock();
}

void
pgl_flight_leave_mine(void)
{
	HASH_SEQ_STATUS scan;
	Flight *flight;

	hash_seq_init(&scan, flights);
	while ((flight = hash_seq_search(&scan)) != NULL)
		if (flight->pid == MyProcPid)
			land(flight);
}
