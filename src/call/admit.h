/*
 * admit.h — the moment of decision: which candidate may go now, and if none, what to do about it.
 *
 * Routing and admission are one critical section: the limits of tenant and role, the order inside
 * the tiers, cool-downs, breakers and the limits of each candidate are looked at, and the first
 * candidate that passes everything takes all its debits, or nothing changes at all.
 */
#ifndef PGL_CALL_ADMIT_H
#define PGL_CALL_ADMIT_H

#include "../shmem/breaker.h"
#include "../shmem/lease.h"
#include "plan.h"

/* Why a candidate cannot go now. */
typedef enum PglBlock
{
	PGL_BLOCK_NONE,
	PGL_BLOCK_DROPPED,      /* never for this call: see dropped */
	PGL_BLOCK_TRIED,        /* it had its tries */
	PGL_BLOCK_LIMIT,        /* a limit of its own */
	PGL_BLOCK_BUSY,         /* the window of its domain is full: see shmem/limit.h */
	PGL_BLOCK_BACKOFF,      /* it failed a moment ago, in this call */
	PGL_BLOCK_COOLING,      /* its domain or credential was throttled or rejected a moment ago */
	PGL_BLOCK_RAMPING,      /* its breaker has just closed: it gets a part of the calls */
	PGL_BLOCK_OPEN,         /* its breaker is open */
	PGL_BLOCK_RETRY_BUDGET, /* too many retries on its domain */
	PGL_BLOCK_SPILL         /* the route's policy keeps the call on its first choice */
} PglBlock;

typedef struct PglObstacle
{
	PglBlock block;
	const PglLimitSpec *limit; /* LIMIT: the one that binds longest; BUSY: that of the domain */
	PglLimitVerdict verdict;
	int64_t wait_us; /* until it could go; 0: not known */
} PglObstacle;

typedef enum PglDecision
{
	PGL_DECISION_GO,         /* candidate and leases are set */
	PGL_DECISION_REFUSED,    /* a limit of tenant or role, or a budget: no candidate can help */
	PGL_DECISION_BLOCKED,    /* every candidate left is blocked for the moment */
	PGL_DECISION_EXHAUSTED,  /* no candidate is left */
	PGL_DECISION_NO_MEMORY,  /* shared memory has no room for another lease or limit */
	PGL_DECISION_LEDGER_FULL /* nor for another record: not decided here but before */
} PglDecision;

#define PGL_MAX_OBSTACLES PGL_CALL_MAX_LIMITS

typedef struct PglAdmission
{
	PglDecision decision;
	int candidate;
	bool domain_probe; /* the attempt is the probe of a half-open breaker */
	bool credential_probe;
	int domain_limit; /* PGL_DECISION_GO: the live limit of the quota domain */
	uint32_t epoch;   /* ... and of its window */
	/* PGL_DECISION_BLOCKED and EXHAUSTED: per candidate. */
	PglObstacle *obstacles;
	/* What to wait for: the limit to queue on (NULL: only time), and until when (0: not known). */
	const PglLimitSpec *wait_limit;
	bool can_wait;         /* waiting is allowed and can help */
	bool wait_for_sibling; /* ... for a place that a call of the same statement will give back */
	bool wait_for_window;  /* ... or for one in the window of a domain: both come soon */
	int64_t wait_us;
	int64_t look_us;     /* while waiting, look again after so long; 0: no need */
	bool shadow_refusal; /* a shadow limit would have refused */
	bool over_budget;    /* the attempt exceeds a soft or shadow budget */
	/* PGL_DECISION_REFUSED: the binding limits.  At the end, as only so many are ever set. */
	int nbinding;
	PglObstacle binding[PGL_MAX_OBSTACLES];
} PglAdmission;

/* A budget that an attempt has brought to a mark: 80 or 100 percent. */
typedef struct PglBudgetNotice
{
	const PglLimitSpec *limit;
	int percent;
	PglBudgetVerdict state;
} PglBudgetNotice;

#define PGL_MAX_NOTICES 8

/* What admission must know of the call besides its plan. */
typedef struct PglAdmitState
{
	PglLeaseHandle call_lease;    /* limits of tenant and role, held over all attempts */
	PglLeaseHandle attempt_lease; /* limits of the candidate */
	int ticket;                   /* place in a queue, or PGL_NO_TICKET */
	uint64_t arrival;             /* its place in the order of arrival, once it had a ticket */
	int first_choice;             /* candidate the strategy picked at first; -1 */
	PglBlock first_block;         /* why the call left it */
	bool first_failed;            /* it left it because an attempt failed (outage) */
	int nnotices;                 /* to be reported when the call is done */
	PglBudgetNotice notices[PGL_MAX_NOTICES];
} PglAdmitState;

/*
 * Locked, by pgl_budget_lock.  Decide, and take what is needed; `obstacles` has room for all
 * candidates of the plan.
 * has_siblings: other calls of this backend are in flight, or in a queue because some are.
 */
extern void pgl_admit(PglPlan *plan, PglAdmitState *state, bool has_siblings, int64_t now_us,
					  PglObstacle *obstacles, PglAdmission *out);
/* Likewise.  Look at every candidate, in any case and without any effect; plan->order ranks them.
 */
extern void
pgl_admit_examine(PglPlan *plan, int64_t now_us, PglObstacle *obstacles, PglAdmission *out);
extern const char *pgl_block_name(PglBlock block);

#endif
