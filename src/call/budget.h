/*
 * budget.h — budgets of a call: which apply, in what period they are, and what was spent.
 *
 * The arithmetic is in core/budget.h, the live state in shmem/limit.h, the decision in admit.c.
 */
#ifndef PGL_CALL_BUDGET_H
#define PGL_CALL_BUDGET_H

#include "lib/stringinfo.h"

#include "admit.h"
#include "plan.h"

/* Worst case of an attempt on the target, rounded up; -1 when a price is not known. */
extern int64_t
pgl_budget_worst_case(const PglTarget *target, int64_t input_tokens, int64_t output_tokens);

/*
 * A budget of the plan: `rates` is the spec of the same row's other dimensions.  Its period is the
 * current one.  Lives as long as the plan.
 */
extern const PglLimitSpec *
pgl_budget_add(PglPlan *plan, const PglQuota *quota, const PglLimitSpec *rates);

/*
 * Take the shared lock with all budgets of the plan in their current period and loaded from the
 * ledger: a decision may follow.  Reads the ledger, and waits for its writer, only if a budget is
 * not live.  Throws as SQL does, and 55000 when the ledger is not there.
 */
extern void pgl_budget_lock(PglPlan *plan);

/* "Budget of quota 7 of "acme" allows 10.00 USD per day (...): ..." */
extern void pgl_budget_describe(StringInfo out, const PglObstacle *obstacle);
/* "0.45 USD per day" */
extern const char *pgl_budget_terms_text(const PglBudgetTerms *terms);

#endif
