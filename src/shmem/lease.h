/*
 * lease.h — capacity held by calls in flight.
 *
 * An admitted call holds a lease: what it debited, and whose it is.  Calls in flight are counted by
 * leases and nothing else.  A lease is released exactly once — settled after the reply, or given up
 * on error, cancel, timeout, (sub)transaction abort or backend exit; the generation in the handle
 * makes a second release a no-op.
 */
#ifndef PGL_SHMEM_LEASE_H
#define PGL_SHMEM_LEASE_H

#include "limit.h"

typedef struct PglLeaseHandle
{
	int index; /* -1: none */
	uint64_t generation;
} PglLeaseHandle;

#define PGL_NO_LEASE ((PglLeaseHandle){-1, 0})

typedef struct PglLeaseView
{
	int index;
	int pid;
	char tenant[PGL_NAME_SIZE];
	char target[PGL_NAME_SIZE];
	int64_t reserved_tokens;
	int64_t age_us;
} PglLeaseView;

extern uint64_t pgl_lease_shmem_size(void);
extern void pgl_lease_shmem_init(void);

/* Locked.  Debit the given limits together.  index -1 when pgllm.max_leases are in use. */
extern PglLeaseHandle
pgl_lease_take(const int *limits, int nlimits, const PglDemand *demand, const char *tenant,
			   const char *target, uint32_t database, int64_t now_us);
extern bool pgl_lease_available(int count); /* locked: so many pgl_lease_take would succeed */
/*
 * Locked.  What was used: requests (0 or 1), tokens, nano-USD.  When the ledger's record of an
 * attempt is queued (pgl_ledger_push), it must be in the same critical section: a budget that is
 * read from the ledger relies on it.
 */
extern void pgl_lease_settle(PglLeaseHandle *lease, int requests, int64_t tokens, int64_t nano_usd,
							 int64_t now_us);
/* Locked.  The outcome is not known: the reservation stays debited, the place in flight is freed.
 */
extern void pgl_lease_abandon(PglLeaseHandle *lease, int64_t now_us);
/* Locked, at backend exit.  Returns how many there were. */
extern int pgl_lease_abandon_mine(int64_t now_us);

/* Unlocked: rows of llm_lease for this database, palloc'ed.  target is "" for a lease on limits of
 * tenant and role, which a call keeps over all its attempts. */
extern int pgl_lease_view(uint32_t database, PglLeaseView **rows);

#endif
