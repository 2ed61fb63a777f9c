/*
 * rank.c — whose turn it is among the targets of a tier: the strategies of a route.
 */
#include "postgres.h"

#include <math.h>

#include "../pg/compat.h"
#include "../shmem/balance.h"
#include "../shmem/stat.h"
#include "rank.h"

static PglBalanceKey
balance_key(const PglPlan *plan, const PglCandidate *candidate)
{
	return (PglBalanceKey){.database = plan->database,
						   .tier = candidate->tier,
						   .route = plan->route->id,
						   .target = candidate->target->id};
}

static double
expected_price(const PglTarget *target)
{
	if (target->price[PGL_PRICE_INPUT] == PGL_PRICE_NONE ||
		target->price[PGL_PRICE_OUTPUT] == PGL_PRICE_NONE)
		return INFINITY;
	return (double) target->price[PGL_PRICE_INPUT] + (double) target->price[PGL_PRICE_OUTPUT];
}

/* Rendezvous hashing: each unit has a favourite, shares follow the weights, and both are stable. */
static double
sticky_score(const PglPlan *plan, const PglCandidate *candidate)
{
	uint64_t mixed = plan->sticky_hash ^ candidate->target->id;

	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	mixed ^= mixed >> 31;
	return candidate->weight / -log(((mixed >> 11) + 0.5) / 9007199254740992.0);
}

/* Higher goes first. */
static double
candidate_score(const PglPlan *plan, const PglCandidate *candidate)
{
	PglBalanceKey key = balance_key(plan, candidate);
	PglLimitKey target_key = {plan->database, PGL_SCOPE_TARGET, candidate->target->id, 0};
	int limit;

	if (candidate->weight == 0)
		return -INFINITY;
	switch (plan->route->strategy)
	{
		case PGL_STRATEGY_WEIGHTED:
			return pgl_balance_credit(&key) + candidate->weight;
		case PGL_STRATEGY_STICKY:
			return sticky_score(plan, candidate);
		case PGL_STRATEGY_LEAST_INFLIGHT:
			limit = pgl_limit_peek(&target_key);
			return limit < 0 ? 0 : -pgl_limit_in_flight(limit);
		case PGL_STRATEGY_LATENCY:
			return -pgl_stat_find(plan->database, PGL_STAT_TARGET, candidate->target->id,
								  candidate->target->name)
						->latency_ewma_us;
		case PGL_STRATEGY_PRICE:
			return -expected_price(candidate->target);
	}
	return 0;
}

void
pgl_rank_candidates(PglPlan *plan)
{
	int *order = plan->order;
	double *scores = plan->scores;
	int i;
	int j;

	for (i = 0; i < plan->ncandidates; i++)
	{
		const PglCandidate *candidate = &plan->candidates[i];

		scores[i] = candidate_score(plan, candidate);
		/* Insertion sort: candidates are few, and already ordered by tier. */
		for (j = i; j > 0; j--)
		{
			const PglCandidate *before = &plan->candidates[order[j - 1]];

			if (before->tier < candidate->tier || scores[order[j - 1]] >= scores[i])
				break;
			order[j] = order[j - 1];
		}
		order[j] = i;
	}
}

/* May the candidate take part in the turn that the winner won? */
static bool
takes_part(const PglPlan *plan, const PglObstacle *obstacles, int winner, int c)
{
	const PglCandidate *candidate = &plan->candidates[c];

	if (c == winner)
		return true;
	return candidate->tier == plan->candidates[winner].tier && candidate->dropped == NULL &&
		   candidate->tries == 0 && obstacles[c].block == PGL_BLOCK_NONE;
}

void
pgl_rank_book_turn(const PglPlan *plan, const PglObstacle *obstacles, int winner)
{
	int64_t total = 0;
	int c;

	if (plan->tenant == NULL || plan->route->strategy != PGL_STRATEGY_WEIGHTED)
		return;
	for (c = 0; c < plan->ncandidates; c++)
		if (takes_part(plan, obstacles, winner, c))
			total += plan->candidates[c].weight;
	for (c = 0; c < plan->ncandidates; c++)
	{
		PglBalanceKey key = balance_key(plan, &plan->candidates[c]);

		if (takes_part(plan, obstacles, winner, c))
			pgl_balance_add(&key, plan->candidates[c].weight - (c == winner ? total : 0), total);
	}
}
