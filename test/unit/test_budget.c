/*
 * test_budget.c — budgets: periods, reservations, marks, and what the ledger says.
 */
#include "unit.h"

#include <string.h>

#include "budget.h"

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define CENT INT64_C(10000000)
#define T0 (5 * SECOND)

static PglBudgetTerms
calendar(int64_t limit, int64_t start)
{
	return (PglBudgetTerms){.limit = limit,
							.period = PGL_PERIOD_DAY,
							.zone = 7,
							.start = start,
							.end = start + DAY,
							.end_us = start + DAY};
}

static PglBudgetTerms
rolling(int64_t limit)
{
	return (PglBudgetTerms){.limit = limit, .period = PGL_PERIOD_DAY, .rolling = true};
}

static void
test_calendar(void)
{
	PglBudgetTerms terms = calendar(45 * CENT, 0);
	PglBudget budget;
	uint64_t epoch;

	pgl_budget_init(&budget, &terms, T0);
	CHECK_INT(pgl_budget_wait(&budget, 46 * CENT, T0), PGL_WINDOW_NEVER, "more than the limit");
	for (int i = 0; i < 3; i++)
	{
		CHECK_INT(pgl_budget_wait(&budget, 15 * CENT, T0), 0, "15 of 45, number %d", i);
		epoch = pgl_budget_reserve(&budget, 15 * CENT);
	}
	CHECK_INT(pgl_budget_wait(&budget, 1, T0), PGL_BUDGET_UNKNOWN, "full of reservations");
	CHECK_INT(pgl_budget_wait(&budget, 0, T0), 0, "what costs nothing passes");
	pgl_budget_settle(&budget, epoch, 15 * CENT, 5 * CENT, T0);
	CHECK_INT(pgl_budget_available(&budget, T0), 10 * CENT, "a settlement gives back");
	pgl_budget_settle(&budget, epoch, 15 * CENT, 35 * CENT, T0);
	CHECK_INT(pgl_budget_available(&budget, T0), -10 * CENT, "an overshoot is kept");
	CHECK_INT(pgl_budget_wait(&budget, 10 * CENT, T0), DAY - T0, "spent money waits for the end");
	terms.limit = 100 * CENT;
	pgl_budget_change(&budget, &terms, T0);
	CHECK_INT(pgl_budget_available(&budget, T0), 45 * CENT, "a changed limit keeps what was used");
	terms = calendar(100 * CENT, DAY);
	pgl_budget_roll(&budget, &terms);
	CHECK_INT(pgl_budget_available(&budget, DAY), 100 * CENT, "the next period is empty");
	pgl_budget_settle(&budget, epoch, 15 * CENT, 15 * CENT, DAY);
	CHECK_INT(pgl_budget_available(&budget, DAY), 100 * CENT, "a debit of the last one is gone");
	terms = calendar(100 * CENT, 0);
	pgl_budget_reserve(&budget, CENT);
	pgl_budget_roll(&budget, &terms);
	CHECK_INT(pgl_budget_available(&budget, DAY), 99 * CENT, "a period never comes back");
}

static void
test_rolling(void)
{
	PglBudgetTerms terms = rolling(10 * CENT);
	PglBudget budget;
	uint64_t epoch;

	pgl_budget_init(&budget, &terms, T0);
	epoch = pgl_budget_reserve(&budget, 6 * CENT);
	CHECK_INT(pgl_budget_wait(&budget, 5 * CENT, T0), PGL_BUDGET_UNKNOWN, "reserved");
	pgl_budget_settle(&budget, epoch, 6 * CENT, 6 * CENT, T0);
	CHECK(pgl_budget_wait(&budget, 5 * CENT, T0) > 24 * HOUR, "spent: a day and a slot");
	CHECK(pgl_budget_wait(&budget, 5 * CENT, T0) <= 25 * HOUR, "but not much more");
	CHECK_INT(pgl_budget_wait(&budget, 5 * CENT, T0 + 25 * HOUR), 0, "then it has expired");
	epoch = pgl_budget_reserve(&budget, 0);
	pgl_budget_settle(&budget, epoch, 0, 50 * CENT, T0 + HOUR);
	CHECK_INT(pgl_budget_available(&budget, T0 + HOUR), -46 * CENT, "far beyond the limit");
	CHECK_INT(pgl_budget_available(&budget, T0 + 26 * HOUR), 10 * CENT,
			  "expires as a whole: there is no debt");
	terms.limit = 0;
	pgl_budget_change(&budget, &terms, T0 + HOUR);
	CHECK_INT(pgl_budget_spent(&budget, T0 + HOUR), 56 * CENT, "a limit of nothing keeps usage");
	CHECK_INT(pgl_budget_wait(&budget, 1, T0), PGL_WINDOW_NEVER, "and lets nothing pass");
}

static void
test_load(void)
{
	static const PglBudgetEntry entries[] = {
		{3 * DAY, 100 * CENT}, {DAY - HOUR, 3 * CENT}, {0, 4 * CENT}};
	PglBudgetTerms terms = rolling(10 * CENT);
	PglBudget budget;
	PglBudgetMark mark;
	uint64_t epoch;

	pgl_budget_init(&budget, &terms, T0);
	epoch = pgl_budget_reserve(&budget, CENT);
	mark = pgl_budget_mark(&budget, T0);
	CHECK(pgl_budget_load(&budget, &mark, entries, 3, false, T0) && budget.loaded, "loads");
	CHECK_INT(pgl_budget_available(&budget, T0), 2 * CENT, "7 spent, 1 reserved");
	CHECK_INT(pgl_budget_available(&budget, T0 + 2 * HOUR), 5 * CENT, "the older one expires");
	mark = pgl_budget_mark(&budget, T0);
	pgl_budget_settle(&budget, epoch, CENT, CENT, T0);
	CHECK(!pgl_budget_load(&budget, &mark, entries, 3, false, T0), "a settlement in between");
	CHECK(pgl_budget_load(&budget, &mark, entries, 3, true, T0), "counts by force");
	CHECK_INT(pgl_budget_available(&budget, T0), 2 * CENT, "8 spent");

	terms = calendar(10 * CENT, 0);
	pgl_budget_change(&budget, &terms, T0);
	CHECK(!budget.loaded && pgl_budget_spent(&budget, T0) == 0, "another kind is read anew");
	mark = pgl_budget_mark(&budget, T0);
	pgl_budget_load(&budget, &mark, entries + 1, 2, false, T0);
	CHECK_INT(pgl_budget_spent(&budget, T0), 7 * CENT, "the sum of a period");
	CHECK(!pgl_budget_is_idle(&budget, T0), "worth keeping");
	CHECK(pgl_budget_is_idle(&budget, DAY), "until the period is over");
	pgl_budget_forget(&budget);
	mark = pgl_budget_mark(&budget, T0);
	pgl_budget_forget(&budget);
	CHECK(!budget.loaded && !pgl_budget_load(&budget, &mark, entries + 1, 1, false, T0),
		  "read before the ledger was changed");
}

static void
test_marks(void)
{
	PglBudgetTerms terms = calendar(100, 0);
	PglBudget budget;
	uint64_t epoch;

	pgl_budget_init(&budget, &terms, T0);
	epoch = pgl_budget_reserve(&budget, 79);
	CHECK_INT(pgl_budget_reach(&budget, T0), 0, "79 percent");
	pgl_budget_reserve(&budget, 1);
	CHECK_INT(pgl_budget_reach(&budget, T0), 80, "80 percent");
	CHECK_INT(pgl_budget_reach(&budget, T0), 0, "once");
	pgl_budget_reserve(&budget, 50);
	CHECK_INT(pgl_budget_reach(&budget, T0), 100, "100 percent");
	pgl_budget_settle(&budget, epoch, 79, 0, T0);
	CHECK_INT(pgl_budget_reach(&budget, T0), 0, "no mark on the way down");
	terms.limit = 1000;
	pgl_budget_change(&budget, &terms, T0);
	pgl_budget_reserve(&budget, 800);
	CHECK_INT(pgl_budget_reach(&budget, T0), 80, "a higher limit has marks of its own");
	terms = calendar(0, 0);
	pgl_budget_init(&budget, &terms, T0);
	CHECK_INT(pgl_budget_reach(&budget, T0), 0, "nothing of nothing");
	pgl_budget_reserve(&budget, 1);
	CHECK_INT(pgl_budget_reach(&budget, T0), 100, "something of nothing");
}

static void
test_extremes(void)
{
	PglBudgetTerms terms = rolling(INT64_MAX);
	PglBudget budget;
	uint64_t epoch;

	for (int i = 0; i < 2; i++)
	{
		pgl_budget_init(&budget, &terms, T0);
		epoch = pgl_budget_reserve(&budget, INT64_MAX);
		pgl_budget_reserve(&budget, INT64_MAX);
		CHECK_INT(pgl_budget_available(&budget, T0), 0, "amounts saturate, %d", i);
		pgl_budget_settle(&budget, epoch, INT64_MAX, INT64_MAX, T0);
		pgl_budget_settle(&budget, epoch, INT64_MIN, INT64_MIN, T0);
		pgl_budget_settle(&budget, epoch, 0, INT64_MAX, T0);
		CHECK(pgl_budget_available(&budget, T0) <= 0, "and never come back, %d", i);
		CHECK(pgl_budget_wait(&budget, PGL_BUDGET_MAX, T0) != 0, "nothing passes, %d", i);
		terms = calendar(INT64_MAX, 0);
	}
}

static void
test_usd(void)
{
	static const struct
	{
		int64_t nano_usd;
		const char *text;
	} cases[] = {{0, "0.00"},
				 {450000000, "0.45"},
				 {1, "0.000000001"},
				 {12000000000, "12.00"},
				 {1500000, "0.0015"},
				 {-150000000, "-0.15"},
				 {INT64_MIN, "-9223372036.854775808"}};
	char out[PGL_USD_SIZE];

	for (size_t i = 0; i < COUNT_OF(cases); i++)
		CHECK_STR(pgl_usd_text(cases[i].nano_usd, out), cases[i].text, "US dollars %zu", i);
}

void
test_budget(void)
{
	unit_suite("budget");
	test_calendar();
	test_rolling();
	test_load();
	test_marks();
	test_extremes();
	test_usd();
}
