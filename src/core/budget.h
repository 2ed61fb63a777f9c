/*
 * budget.h — the arithmetic of a budget: what was spent and what is reserved in one period.
 *
 * Amounts are nano-USD.  An attempt reserves its worst case and settles to what it really cost, so
 * spent + reserved never exceeds the limit, unless an attempt costs more than its worst case (its
 * input was underestimated) or the budget is not enforced.  Both are kept as they are: the amount
 * available then is negative.
 *
 * Two kinds.  A calendar budget counts from one beginning of an hour, day or month to the next;
 * whoever comes with the next period rolls it over, and what was reserved before is settled into
 * nothing, as the period it belongs to is gone.  A rolling one counts what was spent in the last
 * hour, 24 hours or 30 days, in a strict window that has room for any amount: it only remembers
 * when money was spent, and the limit may change at any time.
 *
 * A budget begins unread: what was spent before must be loaded from the ledger first.  As nothing
 * here locks, settlements may come in between; the mark taken before the ledger is read tells.
 *
 * Times named _us are the monotonic clock; start and end of a period are the wall clock and only
 * compared.
 */
#ifndef PGL_CORE_BUDGET_H
#define PGL_CORE_BUDGET_H

#include "window.h"

#define PGL_BUDGET_MAX PGL_WINDOW_MAX_LIMIT /* no amount is larger */
#define PGL_BUDGET_UNKNOWN INT64_C(-2)      /* a wait: until a reservation is given back */
#define PGL_USD_SIZE 32

typedef enum PglBudgetPeriod
{
	PGL_PERIOD_HOUR,
	PGL_PERIOD_DAY,
	PGL_PERIOD_MONTH /* rolling: 30 days */
} PglBudgetPeriod;

typedef struct PglBudgetTerms
{
	int64_t limit;
	PglBudgetPeriod period;
	bool rolling;
	uint64_t zone;  /* calendar: hash of the time zone, as for the next three */
	int64_t start;  /* of the current period, TimestampTz */
	int64_t end;    /* of the current period, exclusive */
	int64_t end_us; /* the same moment */
} PglBudgetTerms;

typedef struct PglBudget
{
	PglBudgetTerms terms;
	bool loaded;
	uint64_t epoch; /* counts periods: a debit of an earlier one is settled into nothing */
	uint64_t settlements;
	int64_t reserved;
	int64_t spent;    /* calendar; a rolling one has it in its window */
	int percent;      /* highest mark reached in this period: 0, 80 or 100 */
	int64_t until_us; /* rolling: when the mark is forgotten */
	PglWindow window; /* rolling */
} PglBudget;

/* Something spent before now. */
typedef struct PglBudgetEntry
{
	int64_t age_us;
	int64_t amount;
} PglBudgetEntry;

/* How things stood before the ledger was read. */
typedef struct PglBudgetMark
{
	uint64_t settlements;
	int64_t spent;
} PglBudgetMark;

extern int64_t pgl_budget_period_us(PglBudgetPeriod period); /* of a rolling budget */
extern int64_t pgl_budget_slot_us(PglBudgetPeriod period);   /* finest time that one remembers */

extern void pgl_budget_init(PglBudget *budget, const PglBudgetTerms *terms, int64_t now_us);
/*
 * Follow changed configuration.  A changed limit keeps what was used; a changed kind of period
 * keeps what is reserved, and must be loaded again.
 */
extern void pgl_budget_change(PglBudget *budget, const PglBudgetTerms *terms, int64_t now_us);
/* Of the same kind, and for a calendar budget the very same period? */
extern bool pgl_budget_same_period(const PglBudgetTerms *a, const PglBudgetTerms *b);
/* Begin the period of the terms, if it is a later one of the same kind. */
extern void pgl_budget_roll(PglBudget *budget, const PglBudgetTerms *terms);

extern int64_t pgl_budget_spent(const PglBudget *budget, int64_t now_us);
extern int64_t pgl_budget_available(const PglBudget *budget, int64_t now_us); /* may be negative */
/*
 * Until `amount` could pass: 0 now; PGL_WINDOW_NEVER if it exceeds the limit; PGL_BUDGET_UNKNOWN if
 * what is reserved would have to be given back; else the time until money spent has expired.
 */
extern int64_t pgl_budget_wait(const PglBudget *budget, int64_t amount, int64_t now_us);

/* Reserve without a check.  The epoch goes into the settlement. */
extern uint64_t pgl_budget_reserve(PglBudget *budget, int64_t amount);
extern void pgl_budget_settle(PglBudget *budget, uint64_t epoch, int64_t reserved, int64_t used,
							  int64_t now_us);
/* The mark that spent + reserved has newly reached: 80, 100 or 0; each once in a period. */
extern int pgl_budget_reach(PglBudget *budget, int64_t now_us);

extern PglBudgetMark pgl_budget_mark(const PglBudget *budget, int64_t now_us);
/*
 * Take over what the ledger says, oldest entry first.  False: something was settled since the mark,
 * and may or may not be in what was read.  With `force` it is counted in any case, maybe twice:
 * rather too much than too little.
 */
extern bool
pgl_budget_load(PglBudget *budget, const PglBudgetMark *mark, const PglBudgetEntry *entries,
				int nentries, bool force, int64_t now_us);
/* What was spent has changed in the ledger: it must be read again, also by who has just read it. */
extern void pgl_budget_forget(PglBudget *budget);
/* True when forgetting the budget loses nothing that the ledger does not know, nor a period. */
extern bool pgl_budget_is_idle(const PglBudget *budget, int64_t now_us);

/* "0.45", "12.000000001": at least two decimals, no zeros behind. */
extern const char *pgl_usd_text(int64_t nano_usd, char out[PGL_USD_SIZE]);

#endif
