/*
 * budget.c — the arithmetic of a budget.
 */
#include "budget.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HOUR_US INT64_C(3600000000)
#define LOW_MARK 80
#define HIGH_MARK 100

/*
 * The monotonic clock may begin at the start of the machine, and money was spent before.  The
 * window of a rolling budget lives later by more than its length, so no time in it is negative.
 */
#define SHIFT_US (100 * 24 * HOUR_US)

static int64_t
clamp_amount(int64_t amount)
{
	if (amount < 0)
		return 0;
	return amount > PGL_BUDGET_MAX ? PGL_BUDGET_MAX : amount;
}

static int64_t
add_amounts(int64_t a, int64_t b)
{
	return clamp_amount(a + b); /* both at most PGL_BUDGET_MAX: no overflow */
}

int64_t
pgl_budget_period_us(PglBudgetPeriod period)
{
	switch (period)
	{
		case PGL_PERIOD_HOUR:
			return HOUR_US;
		case PGL_PERIOD_DAY:
			return 24 * HOUR_US;
		case PGL_PERIOD_MONTH:
			return 30 * 24 * HOUR_US;
	}
	return HOUR_US;
}

int64_t
pgl_budget_slot_us(PglBudgetPeriod period)
{
	return pgl_budget_period_us(period) / (PGL_WINDOW_SLOTS - 1);
}

static void
empty_window(PglBudget *budget, int64_t from_us)
{
	pgl_window_init(&budget->window, PGL_WINDOW_STRICT, PGL_BUDGET_MAX, PGL_BUDGET_MAX,
					pgl_budget_period_us(budget->terms.period), from_us + SHIFT_US);
}

void
pgl_budget_init(PglBudget *budget, const PglBudgetTerms *terms, int64_t now_us)
{
	memset(budget, 0, sizeof(*budget));
	budget->terms = *terms;
	budget->terms.limit = clamp_amount(terms->limit);
	empty_window(budget, now_us);
}

static bool
same_kind(const PglBudgetTerms *a, const PglBudgetTerms *b)
{
	return a->rolling == b->rolling && a->period == b->period && (a->rolling || a->zone == b->zone);
}

bool
pgl_budget_same_period(const PglBudgetTerms *a, const PglBudgetTerms *b)
{
	return same_kind(a, b) && (a->rolling || a->start == b->start);
}

static int
percent_reached(const PglBudget *budget, int64_t now_us)
{
	int64_t used = add_amounts(pgl_budget_spent(budget, now_us), budget->reserved);

	if (used == 0)
		return 0;
	if (used >= budget->terms.limit)
		return HIGH_MARK;
	return (__int128) used * 100 >= (__int128) budget->terms.limit * LOW_MARK ? LOW_MARK : 0;
}

/* A mark that a higher limit takes back can be reached again. */
static void
change_limit(PglBudget *budget, int64_t limit, int64_t now_us)
{
	int percent;

	if (limit == budget->terms.limit)
		return;
	budget->terms.limit = limit;
	percent = percent_reached(budget, now_us);
	if (percent < budget->percent)
		budget->percent = percent;
}

void
pgl_budget_change(PglBudget *budget, const PglBudgetTerms *terms, int64_t now_us)
{
	int64_t limit = clamp_amount(terms->limit);

	if (!same_kind(&budget->terms, terms))
	{
		budget->terms = *terms;
		budget->loaded = false;
		budget->percent = 0;
		budget->spent = 0;
		empty_window(budget, now_us);
	}
	change_limit(budget, limit, now_us);
}

void
pgl_budget_roll(PglBudget *budget, const PglBudgetTerms *terms)
{
	if (terms->rolling || !same_kind(&budget->terms, terms) || terms->start < budget->terms.start)
		return;
	budget->terms.end = terms->end;
	budget->terms.end_us = terms->end_us; /* the wall clock may have been set */
	if (terms->start == budget->terms.start)
		return;
	budget->terms.start = terms->start;
	budget->epoch++;
	budget->spent = 0;
	budget->reserved = 0;
	budget->percent = 0;
}

int64_t
pgl_budget_spent(const PglBudget *budget, int64_t now_us)
{
	if (!budget->terms.rolling)
		return budget->spent;
	return PGL_BUDGET_MAX - pgl_window_available(&budget->window, now_us + SHIFT_US);
}

int64_t
pgl_budget_available(const PglBudget *budget, int64_t now_us)
{
	return budget->terms.limit - pgl_budget_spent(budget, now_us) - budget->reserved;
}

/* Until what was spent alone would leave room for the amount. */
static int64_t
wait_for_expiry(const PglBudget *budget, int64_t amount, int64_t now_us)
{
	int64_t wait;

	if (budget->terms.rolling)
		wait = pgl_window_wait(&budget->window, PGL_BUDGET_MAX - budget->terms.limit + amount,
							   now_us + SHIFT_US);
	else
		wait = budget->terms.end_us - now_us;
	return wait > 0 ? wait : 1;
}

int64_t
pgl_budget_wait(const PglBudget *budget, int64_t amount, int64_t now_us)
{
	int64_t spent;

	amount = clamp_amount(amount);
	if (amount == 0)
		return 0;
	if (amount > budget->terms.limit)
		return PGL_WINDOW_NEVER;
	spent = pgl_budget_spent(budget, now_us);
	if (amount <= budget->terms.limit - spent - budget->reserved)
		return 0;
	if (amount <= budget->terms.limit - spent)
		return PGL_BUDGET_UNKNOWN;
	return wait_for_expiry(budget, amount, now_us);
}

uint64_t
pgl_budget_reserve(PglBudget *budget, int64_t amount)
{
	budget->reserved = add_amounts(budget->reserved, clamp_amount(amount));
	return budget->epoch;
}

static void
spend(PglBudget *budget, int64_t amount, int64_t at_us)
{
	if (budget->terms.rolling)
		pgl_window_take(&budget->window, clamp_amount(amount), at_us + SHIFT_US);
	else
		budget->spent = add_amounts(budget->spent, clamp_amount(amount));
}

void
pgl_budget_settle(PglBudget *budget, uint64_t epoch, int64_t reserved, int64_t used, int64_t now_us)
{
	if (epoch != budget->epoch)
		return;
	budget->reserved = clamp_amount(budget->reserved - clamp_amount(reserved));
	budget->settlements++;
	spend(budget, used, now_us);
}

int
pgl_budget_reach(PglBudget *budget, int64_t now_us)
{
	int percent = percent_reached(budget, now_us);

	if (budget->terms.rolling && budget->percent > 0 && now_us >= budget->until_us)
		budget->percent = 0;
	if (percent <= budget->percent)
		return 0;
	budget->percent = percent;
	budget->until_us = now_us + pgl_budget_period_us(budget->terms.period);
	return percent;
}

PglBudgetMark
pgl_budget_mark(const PglBudget *budget, int64_t now_us)
{
	return (PglBudgetMark){budget->settlements, pgl_budget_spent(budget, now_us)};
}

bool
pgl_budget_load(PglBudget *budget, const PglBudgetMark *mark, const PglBudgetEntry *entries,
				int nentries, bool force, int64_t now_us)
{
	int64_t since = clamp_amount(pgl_budget_spent(budget, now_us) - mark->spent);
	int64_t length_us = pgl_budget_period_us(budget->terms.period);

	if (budget->settlements != mark->settlements && !force)
		return false;
	budget->spent = 0;
	empty_window(budget, now_us - 2 * length_us);
	for (int i = 0; i < nentries; i++)
	{
		int64_t age_us = entries[i].age_us > 0 ? entries[i].age_us : 0;

		if (!budget->terms.rolling || age_us < 2 * length_us)
			spend(budget, entries[i].amount, now_us - age_us);
	}
	if (budget->settlements != mark->settlements)
		spend(budget, since, now_us);
	budget->loaded = true;
	return true;
}

void
pgl_budget_forget(PglBudget *budget)
{
	budget->loaded = false;
	budget->settlements++;
}

bool
pgl_budget_is_idle(const PglBudget *budget, int64_t now_us)
{
	if (budget->reserved > 0)
		return false;
	if (!budget->terms.rolling && now_us >= budget->terms.end_us)
		return true;
	return !budget->loaded || pgl_budget_spent(budget, now_us) == 0;
}

const char *
pgl_usd_text(int64_t nano_usd, char out[PGL_USD_SIZE])
{
	uint64_t amount = nano_usd < 0 ? 0 - (uint64_t) nano_usd : (uint64_t) nano_usd;
	int len = snprintf(out, PGL_USD_SIZE, "%s%" PRIu64 ".%09" PRIu64, nano_usd < 0 ? "-" : "",
					   amount / 1000000000, amount % 1000000000);

	for (int zeros = 0; zeros < 7 && out[len - 1] == '0'; zeros++)
		out[--len] = '\0';
	return out;
}
