/*
 * admit.c — routing and admission in one critical section: see admit.h.
 *
 * Order of questions: limits of tenant and role (once per call) → candidates by tier, in the order
 * of the strategy, those not yet tried first → cool-down, breaker, retry budget, limits of the
 * candidate, budgets among them.  A budget that binds ends the search, unless it says next_tier:
 * with another candidate the call would cost something else, but the answer is meant to be no.
 */
#include "postgres.h"

#include "../core/retry.h"
#include "../pg/compat.h"
#include "admit.h"
#include "rank.h"

#define LOOK_AGAIN_US INT64_C(50000)

/* Everything the helpers below share; lives for one decision. */
typedef struct Decider
{
	PglPlan *plan;
	PglAdmitState *state;
	bool dry;
	bool has_siblings;
	int64_t now_us;
	PglObstacle *obstacles;
	PglAdmission *out;
	/* Live limits behind the specs; -1 for those a dry run found no state for. */
	int call_limits[PGL_CALL_MAX_LIMITS];
	int ncall_limits;
	bool over_budget; /* the candidate exceeds a budget that does not enforce */
	bool refused;     /* by a budget of a candidate */
} Decider;

/* Look at one spec; returns the live limit, or -1 for a fresh one in a dry run. */
static int
check_spec(const Decider *decider, const PglLimitSpec *spec, const PglDemand *demand,
		   PglLimitVerdict *verdict)
{
	int limit = decider->dry ? pgl_limit_peek(&spec->key) : pgl_limit_find(spec, decider->now_us);

	if (limit >= 0)
		pgl_limit_check(limit, demand, decider->state->ticket, decider->now_us, verdict);
	else
		pgl_limit_check_fresh(spec, demand, verdict);
	return limit;
}

/* A budget that does not enforce is debited in any case: what is spent is spent. */
static void
pass_watched_budget(Decider *decider, const PglLimitSpec *spec, PglLimitVerdict *verdict)
{
	bool over = (verdict->binding & (1 << PGL_DIM_COST)) != 0;

	decider->over_budget |= over;
	decider->out->shadow_refusal |= over && spec->shadow;
	verdict->pass = true;
}

/*
 * Check a list of specs.  Enforced ones that bind go to obstacles[]; limits that pass are
 * collected for the lease.  A shadow limit that would refuse is noted and left out.
 */
static int
check_specs(Decider *decider, const PglLimitSpec *specs, int nspecs, const PglDemand *demand,
			int *limits, int *nlimits, PglObstacle *obstacles)
{
	int nbinding = 0;
	int i;

	*nlimits = 0;
	decider->over_budget = false;
	for (i = 0; i < nspecs; i++)
	{
		PglLimitVerdict verdict;
		int limit = check_spec(decider, &specs[i], demand, &verdict);

		if (specs[i].budget && (specs[i].soft || specs[i].shadow))
			pass_watched_budget(decider, &specs[i], &verdict);
		if (verdict.pass && limit >= 0)
			limits[(*nlimits)++] = limit;
		else if (!verdict.pass && specs[i].shadow)
			decider->out->shadow_refusal = true;
		else if (!verdict.pass)
			obstacles[nbinding++] =
				(PglObstacle){.block = verdict.busy ? PGL_BLOCK_BUSY : PGL_BLOCK_LIMIT,
							  .limit = &specs[i],
							  .verdict = verdict,
							  .wait_us = verdict.wait_us};
	}
	return nbinding;
}

/*
 * Of several binding limits the one that takes longest is the one to queue on; a busy domain is
 * waited for when nothing else is in the way.
 */
static const PglObstacle *
longest_obstacle(const PglObstacle *obstacles, int n)
{
	const PglObstacle *longest = &obstacles[0];
	int i;

	for (i = 1; i < n; i++)
	{
		if (longest->verdict.never)
			break;
		if (longest->block == PGL_BLOCK_BUSY || obstacles[i].verdict.never ||
			obstacles[i].wait_us > longest->wait_us)
			longest = &obstacles[i];
	}
	return longest;
}

/*
 * Is it only a place in flight or reserved money that is missing, with calls of the same statement
 * out that will give theirs back?  A statement must not be refused because of itself, so that is
 * waited for in any case.
 */
static bool
waits_for_sibling(const Decider *decider, const PglObstacle *obstacle)
{
	const PglLimitVerdict *verdict = &obstacle->verdict;

	if (!decider->has_siblings || verdict->never)
		return false;
	if (obstacle->limit->budget)
		return verdict->wait_us == 0 && verdict->budget.reserved > 0;
	return obstacle->limit->max_inflight > 0 && (verdict->binding & ~(1 << PGL_DIM_IN_FLIGHT)) == 0;
}

static bool
may_wait_for(const Decider *decider, const PglObstacle *obstacle)
{
	return !obstacle->verdict.never &&
		   (obstacle->limit->may_wait || waits_for_sibling(decider, obstacle));
}

/* The limits in out->binding keep the call from any candidate: it is refused, or must wait. */
static void
refuse_call(Decider *decider)
{
	PglAdmission *out = decider->out;
	const PglObstacle *longest = longest_obstacle(out->binding, out->nbinding);
	int i;

	out->decision = PGL_DECISION_REFUSED;
	out->wait_limit = longest->limit;
	out->wait_us = longest->wait_us;
	out->can_wait = out->wait_for_sibling = true;
	for (i = 0; i < out->nbinding; i++)
	{
		out->can_wait &= may_wait_for(decider, &out->binding[i]);
		out->wait_for_sibling &= waits_for_sibling(decider, &out->binding[i]);
	}
}

/* Limits of tenant and role.  False: the call is refused, or must wait. */
static bool
pass_call_limits(Decider *decider)
{
	PglDemand demand = {.tokens = decider->plan->reserve_tokens};
	PglAdmission *out = decider->out;

	if (decider->state->call_lease.index >= 0)
		return true;
	out->nbinding = check_specs(decider, decider->plan->limits, decider->plan->nlimits, &demand,
								decider->call_limits, &decider->ncall_limits, out->binding);
	if (out->nbinding > 0)
		refuse_call(decider);
	return out->nbinding == 0;
}

/* Of the obstacles of a candidate, the budgets that end the search; they go to out->binding. */
static bool
refused_by_budget(Decider *decider, const PglObstacle *obstacles, int n)
{
	PglAdmission *out = decider->out;
	int i;

	out->nbinding = 0;
	for (i = 0; i < n; i++)
		if (obstacles[i].limit->budget && !obstacles[i].limit->next_tier)
			out->binding[out->nbinding++] = obstacles[i];
	if (out->nbinding > 0)
		refuse_call(decider);
	return out->nbinding > 0;
}

static PglDemand
candidate_demand(const PglCandidate *candidate)
{
	return (PglDemand){.tokens = candidate->reserve_tokens,
					   .nano_usd = Max(candidate->worst_nano_usd, 0)};
}

/* What the attempt has brought to a mark is reported once the lock is gone. */
static void
note_marks(Decider *decider, const PglCandidate *candidate)
{
	PglAdmitState *state = decider->state;
	int i;

	for (i = 0; i < candidate->nlimits; i++)
	{
		const PglLimitSpec *spec = &candidate->limits[i];
		PglBudgetNotice notice = {.limit = spec};

		if (spec->budget == NULL)
			continue;
		notice.percent =
			pgl_limit_reach_budget(pgl_limit_peek(&spec->key), decider->now_us, &notice.state);
		if (notice.percent > 0 && state->nnotices < PGL_MAX_NOTICES)
			state->notices[state->nnotices++] = notice;
	}
}

/* May the call leave its first choice for this candidate? */
static bool
may_spill(const Decider *decider, int c)
{
	const PglAdmitState *state = decider->state;

	if (state->first_choice < 0 || state->first_choice == c)
		return true;
	switch (decider->plan->route->spill)
	{
		case PGL_SPILL_ALWAYS:
			return true;
		case PGL_SPILL_THROTTLE:
			return state->first_block == PGL_BLOCK_LIMIT || state->first_block == PGL_BLOCK_BUSY ||
				   state->first_block == PGL_BLOCK_COOLING;
		case PGL_SPILL_OUTAGE:
			return state->first_failed || state->first_block == PGL_BLOCK_OPEN;
		case PGL_SPILL_NEVER:
			return false;
	}
	return true;
}

/* The breakers of domain and credential; a dry run makes none that are not there yet. */
static void
find_breakers(const Decider *decider, const PglTarget *target, int breakers[2])
{
	const PglShard *shard = target->shard;
	uint32_t database = decider->plan->database;

	breakers[1] = -1;
	if (decider->dry)
	{
		breakers[0] = pgl_breaker_peek(database, PGL_BREAKER_DOMAIN, target->domain_id);
		if (shard->credential)
			breakers[1] = pgl_breaker_peek(database, PGL_BREAKER_CREDENTIAL, shard->credential_id);
		return;
	}
	breakers[0] = pgl_breaker_find(database, PGL_BREAKER_DOMAIN, target->domain_id, target->domain);
	if (shard->credential)
		breakers[1] = pgl_breaker_find(database, PGL_BREAKER_CREDENTIAL, shard->credential_id,
									   shard->credential);
}

/* The gates of a candidate's quota domain and credential.  True: open, or ready for a probe. */
static bool
pass_gates(const Decider *decider, const PglCandidate *candidate, PglObstacle *obstacle,
		   int breakers[2])
{
	/* The more severe block has the higher number. */
	static const PglBlock block_of_gate[] = {[PGL_GATE_COOLING] = PGL_BLOCK_COOLING,
											 [PGL_GATE_RAMPING] = PGL_BLOCK_RAMPING,
											 [PGL_GATE_OPEN] = PGL_BLOCK_OPEN};
	const PglTarget *target = candidate->target;
	bool pass = true;
	int i;

	find_breakers(decider, target, breakers);
	for (i = 0; i < 2 && decider->plan->tenant; i++)
	{
		int64_t wait_us;
		PglGate gate = pgl_breaker_gate(breakers[i], decider->now_us, &wait_us);

		if (gate == PGL_GATE_PASS || gate == PGL_GATE_PROBE)
			continue;
		pass = false;
		obstacle->block = Max(obstacle->block, block_of_gate[gate]);
		obstacle->wait_us = Max(obstacle->wait_us, wait_us);
		if (gate == PGL_GATE_RAMPING && !decider->dry)
			pgl_breaker_held_back(breakers[i]);
	}
	return pass;
}

/* Take everything: leases, the turn in the tier, the probe.  Nothing can fail from here on. */
static void
take_candidate(Decider *decider, int c, const int *limits, int nlimits, const int breakers[2])
{
	PglPlan *plan = decider->plan;
	PglAdmitState *state = decider->state;
	PglCandidate *candidate = &plan->candidates[c];
	const char *tenant = plan->tenant ? plan->tenant->name : "";
	PglDemand call_demand = {.tokens = plan->reserve_tokens};
	PglDemand demand = candidate_demand(candidate);

	decider->out->over_budget = decider->over_budget;
	decider->out->decision = PGL_DECISION_GO;
	decider->out->candidate = c;
	if (decider->dry)
		return;
	decider->out->domain_limit = limits[PGL_DOMAIN_SPEC];
	if (state->call_lease.index < 0 && decider->ncall_limits > 0)
		state->call_lease =
			pgl_lease_take(decider->call_limits, decider->ncall_limits, &call_demand, tenant, "",
						   plan->database, decider->now_us);
	state->attempt_lease = pgl_lease_take(limits, nlimits, &demand, tenant, candidate->target->name,
										  plan->database, decider->now_us);
	decider->out->epoch = pgl_limit_epoch(decider->out->domain_limit);
	note_marks(decider, candidate);
	decider->out->domain_probe = pgl_breaker_enter(breakers[0], decider->now_us);
	decider->out->credential_probe = pgl_breaker_enter(breakers[1], decider->now_us);
}

/* Try to let candidate c go.  False: its obstacle says why not. */
static bool
try_candidate(Decider *decider, int c, bool retry_pass)
{
	PglCandidate *candidate = &decider->plan->candidates[c];
	PglObstacle *obstacle = &decider->obstacles[c];
	PglObstacle binding[PGL_CALL_MAX_LIMITS];
	int limits[PGL_CALL_MAX_LIMITS];
	int breakers[2];
	int nlimits;
	PglDemand demand;
	int n;

	if (!may_spill(decider, c))
	{
		obstacle->block = PGL_BLOCK_SPILL;
		return false;
	}
	if (!pass_gates(decider, candidate, obstacle, breakers))
		return false;
	if (decider->now_us < candidate->not_before_us)
	{
		obstacle->block = PGL_BLOCK_BACKOFF;
		obstacle->wait_us = candidate->not_before_us - decider->now_us;
		return false;
	}
	demand = candidate_demand(candidate);
	n = check_specs(decider, candidate->limits, candidate->nlimits, &demand, limits, &nlimits,
					binding);
	if (n > 0)
	{
		*obstacle = *longest_obstacle(binding, n);
		decider->refused = !decider->dry && refused_by_budget(decider, binding, n);
		return false;
	}
	if (retry_pass && candidate->retry_cost > 0 && !decider->dry &&
		!pgl_breaker_take_retry(breakers[0], candidate->retry_cost))
	{
		obstacle->block = PGL_BLOCK_RETRY_BUDGET;
		return false;
	}
	take_candidate(decider, c, limits, nlimits, breakers);
	return true;
}

/* A pass over the candidates: those never tried, or those that may be tried again. */
static bool
try_candidates(Decider *decider, bool retry_pass)
{
	PglPlan *plan = decider->plan;
	PglAdmitState *state = decider->state;
	int i;

	for (i = 0; i < plan->ncandidates; i++)
	{
		int c = plan->order[i];
		const PglCandidate *candidate = &plan->candidates[c];

		if (candidate->dropped || candidate->excluded ||
			candidate->tries >= candidate->tries_allowed)
		{
			decider->obstacles[c].block = candidate->dropped ? PGL_BLOCK_DROPPED : PGL_BLOCK_TRIED;
			continue;
		}
		if ((candidate->tries > 0) != retry_pass)
			continue;
		if (state->first_choice < 0)
			state->first_choice = c;
		if (try_candidate(decider, c, retry_pass))
		{
			if (!decider->dry && !retry_pass)
				pgl_rank_book_turn(plan, decider->obstacles, c);
			return true;
		}
		if (decider->refused)
			return false;
		/* A back-off after a failure is no throttling, though it shows as cooling. */
		if (c == state->first_choice && state->first_block == PGL_BLOCK_NONE &&
			decider->now_us >= candidate->not_before_us)
			state->first_block = decider->obstacles[c].block;
	}
	return false;
}

/*
 * Breakers keep every candidate out.  Whom to send all the same: one that is recovering, else the
 * one that reopens first, as the single probe; -1 if there is something to wait for, or a probe is
 * out already.
 */
static int
least_broken(const Decider *decider)
{
	int best = -1;
	int c;

	for (c = 0; c < decider->plan->ncandidates; c++)
		if (decider->obstacles[c].block == PGL_BLOCK_RAMPING)
			return c;
	for (c = 0; c < decider->plan->ncandidates; c++)
	{
		const PglObstacle *obstacle = &decider->obstacles[c];

		if (obstacle->block == PGL_BLOCK_BACKOFF || obstacle->block == PGL_BLOCK_COOLING ||
			obstacle->block == PGL_BLOCK_BUSY ||
			(obstacle->block == PGL_BLOCK_LIMIT && may_wait_for(decider, obstacle)))
			return -1;
		if (obstacle->block == PGL_BLOCK_OPEN && obstacle->wait_us > 0 &&
			(best < 0 || obstacle->wait_us < decider->obstacles[best].wait_us))
			best = c;
	}
	return best;
}

static bool
try_least_broken(Decider *decider)
{
	int c = least_broken(decider);
	PglObstacle binding[PGL_CALL_MAX_LIMITS];
	int limits[PGL_CALL_MAX_LIMITS];
	PglCandidate *candidate;
	PglDemand demand;
	int breakers[2];
	int nlimits;
	int n;

	if (c < 0)
		return false;
	candidate = &decider->plan->candidates[c];
	if (decider->now_us < candidate->not_before_us)
		return false;
	find_breakers(decider, candidate->target, breakers);
	demand = candidate_demand(candidate);
	n = check_specs(decider, candidate->limits, candidate->nlimits, &demand, limits, &nlimits,
					binding);
	if (n > 0)
	{
		/* A breaker that would let it pass is nothing to give up for; a place will be free. */
		if (longest_obstacle(binding, n)->block == PGL_BLOCK_BUSY)
			decider->obstacles[c] = *longest_obstacle(binding, n);
		return false;
	}
	take_candidate(decider, c, limits, nlimits, breakers);
	decider->out->domain_probe |= pgl_breaker_force_probe(breakers[0]);
	decider->out->credential_probe |= pgl_breaker_force_probe(breakers[1]);
	return true;
}

/* Is waiting for a better than waiting for b?  What is known to come beats what may come any time.
 */
static bool
comes_sooner(const PglObstacle *a, const PglObstacle *b)
{
	if (b == NULL || (a->wait_us > 0) != (b->wait_us > 0))
		return b == NULL || a->wait_us > 0;
	return a->wait_us < b->wait_us;
}

static bool
can_wait_out(const Decider *decider, const PglObstacle *obstacle)
{
	switch (obstacle->block)
	{
		case PGL_BLOCK_LIMIT:
			return may_wait_for(decider, obstacle);
		case PGL_BLOCK_BUSY:
		case PGL_BLOCK_BACKOFF:
		case PGL_BLOCK_COOLING:
			return true;
		default:
			return false;
	}
}

/*
 * Nobody can go: is there something worth waiting for, and what comes first?  There is one ticket
 * and one timer: a busy domain gets the ticket, what is known to come the timer.
 */
static void
find_earliest(Decider *decider)
{
	PglAdmission *out = decider->out;
	const PglObstacle *best = NULL;
	const PglObstacle *busy = NULL;
	int unknown = 0;
	int c;

	out->decision = PGL_DECISION_EXHAUSTED;
	for (c = 0; c < decider->plan->ncandidates; c++)
	{
		const PglObstacle *obstacle = &decider->obstacles[c];

		if (obstacle->block < PGL_BLOCK_LIMIT || obstacle->block > PGL_BLOCK_OPEN)
			continue;
		out->decision = PGL_DECISION_BLOCKED;
		if (!can_wait_out(decider, obstacle))
			continue;
		unknown += obstacle->wait_us == 0;
		if (obstacle->block == PGL_BLOCK_BUSY && busy == NULL)
			busy = obstacle;
		if (comes_sooner(obstacle, best))
			best = obstacle;
	}
	if (best == NULL)
		return;
	out->can_wait = true;
	out->wait_us = best->wait_us;
	if (busy)
	{
		out->wait_limit = busy->limit;
		out->wait_for_window = true;
		out->look_us = busy->verdict.look_us;
	}
	else if (best->block == PGL_BLOCK_LIMIT)
	{
		out->wait_limit = best->limit;
		out->wait_for_sibling = waits_for_sibling(decider, best);
	}
	/* One ticket, several places that may become free: look again now and then. */
	if (unknown > (busy != NULL || best->wait_us == 0))
		out->look_us = LOOK_AGAIN_US;
}

/* Room for the limits of the plan that are not live yet; counted only when room is scarce. */
static bool
make_room(const PglPlan *plan, int64_t now_us)
{
	int missing = 0;
	int c;
	int i;

	if (pgl_limit_has_room(plan->max_new_limits))
		return true;
	for (i = 0; i < plan->nlimits; i++)
		missing += pgl_limit_peek(&plan->limits[i].key) < 0;
	for (c = 0; c < plan->ncandidates; c++)
		for (i = 0; i < plan->candidates[c].nlimits; i++)
			missing += pgl_limit_peek(&plan->candidates[c].limits[i].key) < 0;
	return pgl_limit_has_room(missing) || pgl_limit_make_room(missing, now_us);
}

void
pgl_admit(PglPlan *plan, PglAdmitState *state, bool has_siblings, int64_t now_us,
		  PglObstacle *obstacles, PglAdmission *out)
{
	Decider decider = {.plan = plan,
					   .state = state,
					   .has_siblings = has_siblings,
					   .now_us = now_us,
					   .obstacles = obstacles,
					   .out = out};

	memset(out, 0, offsetof(PglAdmission, binding));
	memset(obstacles, 0, sizeof(PglObstacle) * plan->ncandidates);
	out->obstacles = obstacles;
	if (!pgl_lease_available(2) || !make_room(plan, now_us))
		out->decision = PGL_DECISION_NO_MEMORY;
	else if (pass_call_limits(&decider))
	{
		pgl_rank_candidates(plan);
		if (!try_candidates(&decider, false) && !decider.refused &&
			!try_candidates(&decider, true) && !decider.refused && !try_least_broken(&decider))
			find_earliest(&decider);
	}
}

void
pgl_admit_examine(PglPlan *plan, int64_t now_us, PglObstacle *obstacles, PglAdmission *out)
{
	PglAdmitState state = {.call_lease = PGL_NO_LEASE,
						   .attempt_lease = PGL_NO_LEASE,
						   .ticket = PGL_NO_TICKET,
						   .first_choice = -1};
	Decider decider = {.plan = plan,
					   .state = &state,
					   .dry = true,
					   .now_us = now_us,
					   .obstacles = obstacles,
					   .out = out};
	int c;

	memset(out, 0, offsetof(PglAdmission, binding));
	memset(obstacles, 0, sizeof(PglObstacle) * plan->ncandidates);
	pass_call_limits(&decider);
	pgl_rank_candidates(plan);
	for (c = 0; c < plan->ncandidates; c++)
	{
		if (plan->candidates[c].dropped)
			obstacles[c].block = PGL_BLOCK_DROPPED;
		else
			try_candidate(&decider, c, false);
	}
}

const char *
pgl_block_name(PglBlock block)
{
	static const char *const names[] = {"none",
										"not allowed",
										"tried",
										"limit",
										"busy",
										"backing off",
										"cooling down",
										"breaker ramping up",
										"breaker open",
										"retry budget spent",
										"kept on the first choice"};

	return names[block];
}
