/*
 * lease.c — the table of leases.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "lease.h"

#define NONE (-1)

typedef struct PglLease
{
	bool used;
	int pid;
	uint32_t database;
	uint64_t generation;
	int64_t started_us;
	PglDemand demand;
	char tenant[PGL_NAME_SIZE];
	char target[PGL_NAME_SIZE];
	int ndebits;
	PglLimitDebit debits[PGL_CALL_MAX_LIMITS];
	int next_free;
} PglLease;

typedef struct LeaseTable
{
	uint64_t next_generation;
	int first_free;
} LeaseTable;

static LeaseTable *table = NULL;
static PglLease *leases = NULL;

uint64_t
pgl_lease_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(LeaseTable)), mul_size(pgl_guc_max_leases, sizeof(PglLease)));
}

void
pgl_lease_shmem_init(void)
{
	bool found;
	int i;

	table = ShmemInitStruct("pgllm lease table", sizeof(LeaseTable), &found);
	leases =
		ShmemInitStruct("pgllm leases", mul_size(pgl_guc_max_leases, sizeof(PglLease)), &found);
	if (found)
		return;
	memset(leases, 0, sizeof(PglLease) * pgl_guc_max_leases);
	table->next_generation = 1;
	table->first_free = 0;
	for (i = 0; i < pgl_guc_max_leases; i++)
		leases[i].next_free = i + 1 < pgl_guc_max_leases ? i + 1 : NONE;
}

bool
pgl_lease_available(int count)
{
	int i = table->first_free;

	while (count > 1 && i != NONE)
	{
		i = leases[i].next_free;
		count--;
	}
	return i != NONE;
}

PglLeaseHandle
pgl_lease_take(const int *limits, int nlimits, const PglDemand *demand, const char *tenant,
			   const char *target, uint32_t database, int64_t now_us)
{
	int i = table->first_free;
	PglLease *lease;
	int n;

	if (i == NONE)
		return PGL_NO_LEASE;
	lease = &leases[i];
	table->first_free = lease->next_free;
	lease->used = true;
	lease->pid = MyProcPid;
	lease->database = database;
	lease->generation = table->next_generation++;
	lease->started_us = now_us;
	lease->demand = *demand;
	lease->ndebits = nlimits;
	pgl_shmem_copy_name(lease->tenant, tenant);
	pgl_shmem_copy_name(lease->target, target);
	for (n = 0; n < nlimits; n++)
		lease->debits[n] = pgl_limit_debit(limits[n], demand, now_us);
	return (PglLeaseHandle){.index = i, .generation = lease->generation};
}

/* The lease behind a handle, or NULL if it was released before. */
static PglLease *
lease_of(const PglLeaseHandle *handle)
{
	PglLease *lease;

	if (handle->index < 0)
		return NULL;
	lease = &leases[handle->index];
	return lease->used && lease->generation == handle->generation ? lease : NULL;
}

static void
release_lease(PglLease *lease, int requests, int64_t tokens, int64_t nano_usd, int64_t now_us)
{
	int n;

	for (n = 0; n < lease->ndebits; n++)
		pgl_limit_settle(&lease->debits[n], requests, tokens, nano_usd, now_us);
	lease->used = false;
	lease->next_free = table->first_free;
	table->first_free = lease - leases;
}

/* Released as if all of it had been used. */
static void
keep_all(PglLease *lease, int64_t now_us)
{
	release_lease(lease, 1, lease->demand.tokens, lease->demand.nano_usd, now_us);
}

void
pgl_lease_settle(PglLeaseHandle *handle, int requests, int64_t tokens, int64_t nano_usd,
				 int64_t now_us)
{
	PglLease *lease = lease_of(handle);

	*handle = PGL_NO_LEASE;
	if (lease)
		release_lease(lease, requests, tokens, nano_usd, now_us);
}

void
pgl_lease_abandon(PglLeaseHandle *handle, int64_t now_us)
{
	PglLease *lease = lease_of(handle);

	*handle = PGL_NO_LEASE;
	if (lease)
		keep_all(lease, now_us);
}

int
pgl_lease_abandon_mine(int64_t now_us)
{
	int released = 0;
	int i;

	for (i = 0; i < pgl_guc_max_leases; i++)
		if (leases[i].used && leases[i].pid == MyProcPid)
		{
			keep_all(&leases[i], now_us);
			released++;
		}
	return released;
}

int
pgl_lease_view(uint32_t database, PglLeaseView **rows)
{
	PglLeaseView *out = palloc_extended(sizeof(PglLeaseView) * pgl_guc_max_leases,
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < pgl_guc_max_leases; i++)
	{
		const PglLease *lease = &leases[i];

		if (!lease->used || lease->database != database)
			continue;
		out[n].index = i;
		out[n].pid = lease->pid;
		memcpy(out[n].tenant, lease->tenant, PGL_NAME_SIZE);
		memcpy(out[n].target, lease->target, PGL_NAME_SIZE);
		out[n].reserved_tokens = lease->demand.tokens;
		out[n].age_us = now_us - lease->started_us;
		n++;
	}
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
