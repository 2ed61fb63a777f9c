/*
 * balance.h — whose turn it is: credit of smooth weighted round robin, shared by all backends.
 *
 * Every pick gives each eligible member its weight as credit and takes the sum from the winner, the
 * member with most credit.  Over any W consecutive picks with all eligible (W = sum of weights)
 * each member is picked as often as its weight says, give or take one, and picks are interleaved.
 */
#ifndef PGL_SHMEM_BALANCE_H
#define PGL_SHMEM_BALANCE_H

#include "state.h"

typedef struct PglBalanceKey
{
	uint32_t database;
	uint32_t tier;
	uint64_t route;
	uint64_t target;
} PglBalanceKey;

extern uint64_t pgl_balance_shmem_size(void);
extern void pgl_balance_shmem_init(void);
extern int64_t pgl_balance_credit(const PglBalanceKey *key); /* locked */
/*
 * Locked.  Add to a member's credit: its weight for every pick it takes part in, minus the sum of
 * all weights (`total`) if it won.  Credit stays within one round, [-total, total].
 */
extern void pgl_balance_add(const PglBalanceKey *key, int64_t amount, int64_t total);

#endif
