/*
 * test_retry.c — bounds of the waits, the budget, and the texts of Retry-After.
 */
#include "unit.h"

#include "retry.h"

#define SECOND INT64_C(1000000)
#define NOW (INT64_C(784111700) * SECOND) /* 77 s before 1994-11-06 08:49:37 */

static void
test_backoff(void)
{
	bool bounded = true;
	uint64_t seed = 1;

	CHECK_INT(pgl_retry_backoff_us(0, 1000, 20 * SECOND, 0), 0, "full jitter starts at 0");
	CHECK_INT(pgl_retry_backoff_us(0, 1000, 20 * SECOND, UINT32_MAX), 1000, "and ends at base");
	CHECK_INT(pgl_retry_backoff_us(3, 1000, 20 * SECOND, UINT32_MAX), 8000, "which doubles");
	CHECK_INT(pgl_retry_backoff_us(40, 1000, 20 * SECOND, UINT32_MAX), 20 * SECOND - 1 + 1,
			  "up to the cap");
	CHECK_INT(pgl_retry_backoff_us(3, 1000, 20 * SECOND, UINT32_C(1) << 31), 4000, "the middle");
	CHECK_INT(pgl_retry_backoff_us(-1, 1000, SECOND, UINT32_MAX), 1000, "negative rounds count 0");
	CHECK_INT(pgl_retry_backoff_us(1, 0, SECOND, UINT32_MAX), 0, "no base, no wait");
	for (int i = 0; i < 10000; i++)
	{
		int round = (int) (unit_random(&seed) % 100);
		int64_t base = (int64_t) (unit_random(&seed) >> (unit_random(&seed) % 60 + 1));
		int64_t cap = (int64_t) (unit_random(&seed) >> (unit_random(&seed) % 60 + 1));
		int64_t wait = pgl_retry_backoff_us(round, base, cap, (uint32_t) unit_random(&seed));

		bounded = bounded && wait >= 0 && wait <= cap;
	}
	CHECK(bounded, "never beyond the cap, whatever the arguments");
}

static void
test_cooldown(void)
{
	static const int seconds[] = {1, 2, 4, 8, 16, 32, 60, 60};

	for (int i = 0; i < (int) COUNT_OF(seconds); i++)
		CHECK_INT(pgl_retry_cooldown_us(i, -1, 0), seconds[i] * SECOND, "cool-down, strike %d", i);
	CHECK_INT(pgl_retry_cooldown_us(1000, -1, UINT32_MAX), 66 * SECOND, "10 %% of jitter at most");
	CHECK_INT(pgl_retry_cooldown_us(5, 7 * SECOND, 0), 7 * SECOND, "a hint wins");
	CHECK_INT(pgl_retry_cooldown_us(5, 0, UINT32_MAX), 0, "even a hint of 0");
	CHECK_INT(pgl_retry_cooldown_us(0, INT64_MAX, 0), 600 * SECOND, "but not beyond ten minutes");
}

static void
test_retry_budget(void)
{
	int32_t budget = 12;

	CHECK(pgl_retry_budget_take(&budget, PGL_RETRY_COST_TIMEOUT) && budget == 2, "take 10 of 12");
	CHECK(!pgl_retry_budget_take(&budget, PGL_RETRY_COST) && budget == 2, "5 of 2 takes nothing");
	pgl_retry_budget_give(&budget, PGL_RETRY_REFUND);
	CHECK_INT(budget, 3, "give 1");
	pgl_retry_budget_give(&budget, INT32_MAX);
	CHECK_INT(budget, PGL_RETRY_BUDGET_MAX, "never above the maximum");
}

static const struct
{
	const char *value;
	bool milliseconds;
	int64_t want;
} hints[] = {
	{"0", false, 0},
	{"120", false, 120 * SECOND},
	{" 2 ", false, 2 * SECOND},
	{"1.5", false, 1500000},
	{"1.", false, SECOND},
	{"0.0000019", false, 1},
	{"1500", true, 1500000},
	{"1.5", true, 1500},
	{"99999999999999999999999999", false, INT64_C(1000000000) * SECOND},
	{"", false, -1},
	{" ", false, -1},
	{"-1", false, -1},
	{"+1", false, -1},
	{".5", false, -1},
	{"1e3", false, -1},
	{"1 2", false, -1},
	{"soon", false, -1},
	{"soon", true, -1},
	{"Sun, 06 Nov 1994 08:49:37 GMT", false, 77 * SECOND},
	{"Sunday, 06-Nov-94 08:49:37 GMT", false, 77 * SECOND},
	{"Sun Nov  6 08:49:37 1994", false, 77 * SECOND},
	{"Sun, 06 Nov 1994 08:49:37 GMT", true, -1},
	{"Sat, 05 Nov 1994 08:49:37 GMT", false, 0},
	{"Mon, 07 Nov 1994 08:49:37 GMT", false, 86477 * SECOND},
	{"Sun, 06 Nov 1994 24:00:00 GMT", false, -1},
	{"Sun, 06 Nov 1994 08:60:00 GMT", false, -1},
	{"Sun, 06 Nov 1994 08:49 GMT", false, -1},
	{"Sun, 32 Nov 1994 08:49:37 GMT", false, -1},
	{"Sun, 06 Foo 1994 08:49:37 GMT", false, -1},
	{"Sun, 06 Nov 1994", false, -1},
	{"06 Nov 1994 08:49:37 17", false, -1},
	{"Fri, 31 Dec 9999 23:59:59 GMT", false, INT64_C(1000000000) * SECOND},
};

static void
test_hints(void)
{
	for (size_t i = 0; i < COUNT_OF(hints); i++)
		CHECK_INT(pgl_retry_parse_hint(hints[i].value, hints[i].milliseconds, NOW), hints[i].want,
				  "hint \"%s\"%s", hints[i].value, hints[i].milliseconds ? " in ms" : "");
	CHECK_INT(pgl_retry_parse_hint(NULL, false, NOW), -1, "no hint");
	/* Dates that only a correct calendar gets right. */
	CHECK_INT(pgl_retry_parse_hint("Thu, 29 Feb 2024 00:00:00 GMT", false,
								   (INT64_C(1709164800) - 5) * SECOND),
			  5 * SECOND, "29 February 2024");
	CHECK_INT(pgl_retry_parse_hint("Fri, 01 Mar 2024 00:00:00 GMT", false,
								   (INT64_C(1709251200) - 5) * SECOND),
			  5 * SECOND, "1 March 2024");
	CHECK_INT(pgl_retry_parse_hint("Thu, 31 Dec 2026 23:59:60 GMT", false,
								   (INT64_C(1798761599) - 5) * SECOND),
			  5 * SECOND, "a leap second");
}

void
test_retry(void)
{
	unit_suite("retry");
	test_backoff();
	test_cooldown();
	test_retry_budget();
	test_hints();
}
