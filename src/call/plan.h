/*
 * plan.h — who may call what: authorisation, candidates, and the limits each must pass.
 *
 * A plan is made once per call from a pinned configuration snapshot.  Authority is decided here for
 * every candidate, fallbacks included: geography, models, capabilities, context window.  What
 * changes from moment to moment (limits, breakers, whose turn it is) is decided in admit.h.
 */
#ifndef PGL_CALL_PLAN_H
#define PGL_CALL_PLAN_H

#include "../catalog/catalog.h"
#include "../shmem/limit.h"
#include "call.h"

/* A budget that applies to some candidates, whose limits contain `spec`. */
typedef struct PglPlanBudget
{
	const PglQuota *quota;
	PglLimitSpec spec;
	PglBudgetTerms terms; /* spec.budget; follows the clock */
	bool loaded;          /* the live one, when last looked at */
	PglBudgetMark mark;   /* ... before the ledger is read */
	struct PglPlanBudget *next;
} PglPlanBudget;

/* Reasons of `dropped` that decide which error a call ends with. */
#define PGL_DROPPED_TOO_SMALL "context window too small"
#define PGL_DROPPED_NO_PRICE "no price known, and a budget applies"

#define PGL_DOMAIN_SPEC 0 /* among the limits of a candidate */

typedef struct PglCandidate
{
	const PglTarget *target;
	int tier;
	int weight;
	const char *dropped;    /* why it may not be used at all; NULL if it may */
	int max_tokens;         /* sent, and reserved */
	int64_t reserve_tokens; /* input estimate + max_tokens */
	int64_t worst_nano_usd; /* most that an attempt may cost; -1: a price is not known */
	/* What happened to it in this call. */
	int tries;
	int tries_allowed;     /* grows when its failure allows another try on the same target */
	bool excluded;         /* never again in this call */
	int64_t not_before_us; /* back-off before another try */
	int retry_cost;        /* of another try, from the retry budget of its domain; 0: free */
	int nlimits;           /* domain (first), target, budgets, and quotas of it alone */
	PglLimitSpec limits[PGL_CALL_MAX_LIMITS];
} PglCandidate;

typedef struct PglPlan
{
	const PglSnapshot *snapshot;
	const PglTenant *tenant; /* NULL: the doctor's probe */
	const PglRoute *route;
	int ncandidates;
	PglCandidate *candidates; /* by tier, as in the route */
	PglPlanBudget *budgets;
	int64_t reserve_tokens; /* for those limits: the largest of the candidates */
	int64_t input_estimate;
	bool may_wait;
	int max_wait_ms;
	uint64_t sticky_hash;
	const char *asked_model; /* NULL: any */
	bool no_fallback;
	uint32_t database;
	int max_new_limits; /* limits that a decision may have to make */
	int *order;         /* scratch of admission, which must not allocate under its lock */
	double *scores;
	int nlimits; /* limits of tenant and role, the same for all candidates */
	PglLimitSpec limits[PGL_CALL_MAX_LIMITS];
} PglPlan;

/*
 * Throws on caller mistakes.  The plan is palloc'ed in the current memory context and pins the
 * snapshot, which the caller must have stored before anything else can throw: hence the out
 * parameter.
 */
extern PglPlan *
pgl_plan_build(const PglCallArgs *args, size_t input_bytes, const PglSnapshot **pinned);
/*
 * What the plan supposes of so many bytes of input: tokens on the high side, as it reserves them;
 * on the low side; and whether the candidate's context window may hold them at all.
 */
extern int64_t pgl_plan_most_input(size_t input_bytes);
extern int64_t pgl_plan_least_input(size_t input_bytes);
extern bool pgl_plan_fits(const PglCandidate *candidate, size_t input_bytes);
extern PglPlan *pgl_plan_build_probe(const char *target, const PglSnapshot **pinned);

#endif
