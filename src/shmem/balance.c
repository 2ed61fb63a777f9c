/*
 * balance.c — the table of round-robin credits.
 */
#include "postgres.h"

#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "../pg/guc.h"
#include "balance.h"

typedef struct Credit
{
	PglBalanceKey key;
	int64_t credit;
} Credit;

static HTAB *credits = NULL;

uint64_t
pgl_balance_shmem_size(void)
{
	return hash_estimate_size(pgl_guc_max_limits, sizeof(Credit));
}

void
pgl_balance_shmem_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(PglBalanceKey), .entrysize = sizeof(Credit)};

	credits = ShmemInitHash("pgllm balance", pgl_guc_max_limits, pgl_guc_max_limits, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

int64_t
pgl_balance_credit(const PglBalanceKey *key)
{
	Credit *entry = hash_search(credits, key, HASH_FIND, NULL);

	return entry ? entry->credit : 0;
}

/* With the table full a member keeps no credit: the balance gets coarser, nothing breaks. */
void
pgl_balance_add(const PglBalanceKey *key, int64_t amount, int64_t total)
{
	bool found;
	Credit *entry = hash_search(credits, key, HASH_ENTER_NULL, &found);

	if (entry == NULL)
		return;
	entry->credit = (found ? entry->credit : 0) + amount;
	entry->credit = Max(Min(entry->credit, total), -total);
}
