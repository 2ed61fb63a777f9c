/*
 * test_window.c — rate limits: worked examples, extreme numbers, and properties on random programs.
 */
#include "unit.h"

#include <string.h>

#include "window.h"
#include "window_model.h"

#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)
#define DAY (86400 * SECOND)
#define T0 (1000 * SECOND)

/* ---- examples ---- */

static void
test_bucket(void)
{
	PglWindowStamp stamp;
	PglWindow window;

	pgl_window_init(&window, PGL_WINDOW_BUCKET, 60, 10, MINUTE, T0);
	CHECK_INT(pgl_window_available(&window, T0), 10, "a new bucket is full");
	CHECK(pgl_window_is_idle(&window, T0), "and idle");
	CHECK_INT(pgl_window_wait(&window, 11, T0), PGL_WINDOW_NEVER, "never more than the capacity");
	CHECK_INT(pgl_window_wait(&window, 10, T0), 0, "all of it at once");
	stamp = pgl_window_take(&window, 10, T0);
	CHECK_INT(pgl_window_wait(&window, 1, T0), SECOND, "then one a second");
	CHECK_INT(pgl_window_wait(&window, 1, T0 + SECOND - 1), 1, "to the microsecond");
	CHECK_INT(pgl_window_available(&window, T0 + 3 * SECOND), 3, "three after three seconds");
	CHECK(!pgl_window_is_idle(&window, T0 + 10 * SECOND - 1), "not idle until");
	CHECK(pgl_window_is_idle(&window, T0 + 10 * SECOND), "full again");
	pgl_window_settle(&window, stamp, 10, 4, T0);
	CHECK_INT(pgl_window_available(&window, T0), 6, "unused units come back");
	pgl_window_settle(&window, stamp, 0, 100, T0);
	CHECK_INT(pgl_window_available(&window, T0), -94, "debt");
	CHECK_INT(pgl_window_wait(&window, 1, T0), 95 * SECOND, "is paid first");
	CHECK_INT(pgl_window_wait(&window, 1, T0 - 5 * SECOND), 100 * SECOND,
			  "a clock that steps back stands still");
	CHECK_INT(pgl_window_wait(&window, 0, T0), 0, "nothing passes always");
	pgl_window_settle(&window, stamp, 1000, 0, T0);
	CHECK_INT(pgl_window_available(&window, T0), 10, "a refund does not exceed the capacity");
}

static void
test_fractions(void)
{
	PglWindow window;

	pgl_window_init(&window, PGL_WINDOW_BUCKET, 7, 7, MINUTE, T0);
	pgl_window_take(&window, 7, T0);
	for (int64_t t = 1; t <= MINUTE; t += 9973)
		pgl_window_take(&window, 0, T0 + t);
	CHECK(!pgl_window_is_idle(&window, T0 + MINUTE - 1), "many small refills lose nothing");
	CHECK_INT(pgl_window_available(&window, T0 + MINUTE), 7, "and gain nothing");
}

static void
test_strict(void)
{
	PglWindowStamp early;
	PglWindowStamp late;
	PglWindow window;

	pgl_window_init(&window, PGL_WINDOW_STRICT, 3, 0, MINUTE, T0);
	CHECK_INT(pgl_window_wait(&window, 4, T0), PGL_WINDOW_NEVER, "never more than the limit");
	early = pgl_window_take(&window, 1, T0);
	late = pgl_window_take(&window, 2, T0 + 10 * SECOND);
	CHECK_INT(pgl_window_wait(&window, 1, T0 + 10 * SECOND), 51 * SECOND,
			  "a slot expires when it is 61 old");
	CHECK_INT(pgl_window_wait(&window, 2, T0 + 10 * SECOND), 61 * SECOND, "the next one later");
	CHECK_INT(pgl_window_available(&window, T0 + 61 * SECOND), 1, "the first unit is back");
	pgl_window_settle(&window, late, 2, 1, T0 + 20 * SECOND);
	CHECK_INT(pgl_window_available(&window, T0 + 20 * SECOND), 1, "a refund is usable at once");
	pgl_window_settle(&window, early, 1, 0, T0 + 65 * SECOND);
	CHECK_INT(pgl_window_available(&window, T0 + 65 * SECOND), 2, "refunds to old slots are lost");
	CHECK(pgl_window_is_idle(&window, T0 + 71 * SECOND), "idle when all have expired");
	CHECK_INT(pgl_window_available(&window, T0 + 100 * DAY), 3, "a jump clears the ring");
}

static void
test_strict_debt(void)
{
	PglWindowStamp stamp;
	PglWindow window;

	pgl_window_init(&window, PGL_WINDOW_STRICT, 10, 0, MINUTE, T0);
	stamp = pgl_window_take(&window, 10, T0);
	pgl_window_settle(&window, stamp, 10, 35, T0 + SECOND);
	CHECK_INT(pgl_window_available(&window, T0 + SECOND), -25, "debt of a strict window");
	CHECK_INT(pgl_window_available(&window, T0 + 61 * SECOND), -15, "ten of it a turn");
	CHECK_INT(pgl_window_available(&window, T0 + 122 * SECOND), -5, "another ten");
	CHECK_INT(pgl_window_available(&window, T0 + 183 * SECOND), 5, "the rest");
	CHECK_INT(pgl_window_available(&window, T0 + 244 * SECOND), 10, "all paid");
	CHECK_INT(pgl_window_wait(&window, 6, T0 + SECOND), 243 * SECOND, "the wait foresees it");
	pgl_window_settle(&window, stamp, 0, 1000 * 1000, T0 + SECOND);
	CHECK_INT(pgl_window_wait(&window, 10, T0 + SECOND), (100003 + 1) * 61 * SECOND - SECOND,
			  "debt of many windows");
	CHECK_INT(pgl_window_available(&window, T0 + 100003 * 61 * SECOND), 5, "paid over a long jump");
}

static void
test_resize(void)
{
	PglWindow window;

	pgl_window_init(&window, PGL_WINDOW_BUCKET, 10, 0, MINUTE, T0);
	pgl_window_take(&window, 4, T0);
	pgl_window_resize(&window, PGL_WINDOW_BUCKET, 100, 0, T0);
	CHECK_INT(pgl_window_available(&window, T0), 96, "a larger bucket: four stay used");
	pgl_window_resize(&window, PGL_WINDOW_BUCKET, 3, 0, T0);
	CHECK_INT(pgl_window_available(&window, T0), -1, "a smaller one: the same");
	pgl_window_resize(&window, PGL_WINDOW_STRICT, 10, 0, T0);
	CHECK_INT(pgl_window_available(&window, T0), 6, "bucket to strict");
	pgl_window_resize(&window, PGL_WINDOW_STRICT, 2, 0, T0);
	CHECK_INT(pgl_window_available(&window, T0), -2, "a smaller strict window");
	CHECK_INT(pgl_window_wait(&window, 1, T0), 61 * SECOND, "waits for its slot");
	pgl_window_resize(&window, PGL_WINDOW_BUCKET, 10, 20, T0);
	CHECK_INT(pgl_window_available(&window, T0), 16, "strict to bucket");
	pgl_window_take(&window, 50, T0);
	pgl_window_resize(&window, PGL_WINDOW_STRICT, 10, 0, T0);
	CHECK_INT(pgl_window_available(&window, T0), -44, "debt is carried over");
	pgl_window_resize(&window, PGL_WINDOW_STRICT, 0, 0, T0);
	CHECK_INT(pgl_window_wait(&window, 1, T0), PGL_WINDOW_NEVER, "a limit of 0 is closed");
	CHECK_INT(pgl_window_available(&window, T0 + 10 * DAY), -44, "and forgets nothing");
}

/* ---- extreme numbers ---- */

static void
test_extremes(void)
{
	static const PglWindowKind kinds[] = {PGL_WINDOW_BUCKET, PGL_WINDOW_STRICT};
	const int64_t limit = INT64_C(10000000000);
	PglWindowStamp stamp;
	PglWindow window;

	for (int k = 0; k < 2; k++)
	{
		int64_t turn = kinds[k] == PGL_WINDOW_BUCKET ? DAY : DAY / 60 * 61;

		pgl_window_init(&window, kinds[k], limit, limit, DAY, T0);
		stamp = pgl_window_take(&window, limit, 1440 * SECOND);
		CHECK_INT(pgl_window_wait(&window, limit, 1440 * SECOND), turn, "10^10 units a day, %d", k);
		CHECK_INT(pgl_window_available(&window, 1440 * SECOND + turn - 1),
				  kinds[k] == PGL_WINDOW_BUCKET ? limit - 1 : 0, "one microsecond early, %d", k);
		CHECK(pgl_window_is_idle(&window, INT64_MAX), "at the end of time, %d", k);
		pgl_window_settle(&window, stamp, 0, INT64_MAX, INT64_MAX);
		pgl_window_settle(&window, stamp, 0, INT64_MAX, INT64_MAX);
		CHECK(pgl_window_available(&window, INT64_MAX) < -limit, "debt saturates, %d", k);
		CHECK(pgl_window_wait(&window, 1, INT64_MAX) > 0, "and so does the wait, %d", k);
		pgl_window_settle(&window, stamp, INT64_MAX, INT64_MIN, INT64_MAX);
		pgl_window_take(&window, INT64_MIN, INT64_MIN);
		pgl_window_resize(&window, kinds[1 - k], INT64_MAX, INT64_MAX, INT64_MAX);
		pgl_window_resize(&window, kinds[k], INT64_MIN, INT64_MIN, 0);
		CHECK(pgl_window_wait(&window, 1, 0) == PGL_WINDOW_NEVER, "limits are clamped, %d", k);
	}
	pgl_window_init(&window, PGL_WINDOW_STRICT, 1, 1, 60, 1);
	pgl_window_settle(&window, 0, 0, INT64_MAX, 1);
	CHECK_INT(pgl_window_wait(&window, 1, 1), INT64_MAX, "a wait beyond the end of time");
	pgl_window_init(&window, PGL_WINDOW_STRICT, 1, 1, INT64_MAX, INT64_MAX);
	CHECK_INT(pgl_window_wait(&window, 1, INT64_MAX), 0, "the longest window");
	pgl_window_settle(&window, INT64_MIN, 1, 0, INT64_MAX);
	pgl_window_settle(&window, INT64_MAX, 1, 0, INT64_MAX);
	CHECK_INT(pgl_window_available(&window, INT64_MAX), 1, "a stamp from nowhere refunds nothing");
}

/* The largest limit there is, in windows from the shortest to the longest. */
static void
test_largest(void)
{
	static const PglWindowKind kinds[] = {PGL_WINDOW_BUCKET, PGL_WINDOW_STRICT};
	static const int64_t lengths[] = {1, MINUTE, 30 * DAY, INT64_MAX};
	const int64_t limit = PGL_WINDOW_MAX_LIMIT;
	PglWindowStamp stamp;
	PglWindow window;

	for (int i = 0; i < 8; i++)
	{
		pgl_window_init(&window, kinds[i % 2], INT64_MAX, INT64_MAX, lengths[i / 2], T0);
		stamp = pgl_window_take(&window, limit - 1, T0);
		CHECK_INT(pgl_window_available(&window, T0), 1, "all but one of 10^18, %d", i);
		CHECK_INT(pgl_window_wait(&window, 1, T0), 0, "the last one passes, %d", i);
		CHECK(pgl_window_wait(&window, 2, T0) > 0, "no more, %d", i);
		pgl_window_settle(&window, stamp, limit - 1, INT64_MAX, T0);
		CHECK(pgl_window_available(&window, T0) < -limit, "debt beyond the limit, %d", i);
		CHECK(pgl_window_wait(&window, limit, T0) > 0, "has a wait, %d", i);
		pgl_window_resize(&window, kinds[1 - i % 2], 1, 1, T0);
		CHECK(pgl_window_available(&window, T0) < -limit, "and outlives a change of kind, %d", i);
		CHECK(pgl_window_wait(&window, 1, T0) > 0, "as does the wait, %d", i);
	}
	pgl_window_init(&window, PGL_WINDOW_STRICT, limit, limit, 30 * DAY, T0);
	for (int i = 0; i < 60; i++)
		pgl_window_take(&window, limit / 60, T0 + i * DAY / 2);
	CHECK_INT(pgl_window_available(&window, T0 + 30 * DAY - 1), limit % 60, "sums of 60 slots");
	CHECK_INT(pgl_window_wait(&window, limit / 60 + limit % 60, T0 + 59 * DAY / 2),
			  61 * DAY / 2 - 59 * DAY / 2 - T0 % (DAY / 2), "and the first to expire");
}

/* ---- properties ---- */

/* 4,000 random programs of 200 bytes, half of them on strict windows. */
static void
test_programs(void)
{
	const char *difference = NULL;
	uint64_t seed = 42;
	uint8_t program[200];

	for (int i = 0; i < 4000 && difference == NULL; i++)
	{
		for (size_t j = 0; j < sizeof(program); j++)
			program[j] = (uint8_t) unit_random(&seed);
		difference = run_window_program(program, sizeof(program));
	}
	CHECK(difference == NULL, "random programs agree with the model%s%s",
		  difference != NULL ? ": " : "", difference != NULL ? difference : "");
}

#define HISTORY 400

typedef struct Admission
{
	int64_t at_us;
	int64_t amount;
	PglWindowStamp stamp;
	bool settled;
} Admission;

/* The largest sum of units that started in any closed interval of one window. */
static int64_t
busiest_window(const Admission *history, int count, int64_t window_us)
{
	int64_t busiest = 0;

	for (int first = 0; first < count; first++)
	{
		int64_t sum = 0;

		for (int i = first; i < count && history[i].at_us <= history[first].at_us + window_us; i++)
			sum += history[i].amount;
		busiest = sum > busiest ? sum : busiest;
	}
	return busiest;
}

/*
 * Calls arrive faster than the limit allows, some wait exactly as long as told, some give back part
 * of their reservation, at any time.  Returns the busiest window.
 */
static int64_t
run_admissions(uint64_t *seed, int64_t limit, int64_t window_us, int64_t *total)
{
	Admission history[HISTORY];
	int64_t now_us = 1 + (int64_t) (unit_random(seed) % (uint64_t) (3 * window_us));
	PglWindow window;
	int count = 0;

	*total = 0;
	pgl_window_init(&window, PGL_WINDOW_STRICT, limit, limit, window_us, now_us);
	while (count < HISTORY)
	{
		int64_t amount = 1 + (int64_t) (unit_random(seed) % (uint64_t) limit);
		int64_t wait = pgl_window_wait(&window, amount, now_us);
		Admission *old = count > 0 ? &history[unit_random(seed) % (uint64_t) count] : NULL;

		if (unit_random(seed) % 2 == 0)
		{
			now_us += wait;
			wait = 0;
		}
		if (wait == 0)
		{
			history[count].at_us = now_us;
			history[count].amount = amount;
			history[count].settled = false;
			history[count].stamp = pgl_window_take(&window, amount, now_us);
			count++;
			*total += amount;
		}
		if (old != NULL && !old->settled && unit_random(seed) % 4 == 0)
		{
			int64_t used = (int64_t) (unit_random(seed) % (uint64_t) (old->amount + 1));

			pgl_window_settle(&window, old->stamp, old->amount, used, now_us);
			*total -= old->amount - used;
			old->amount = used;
			old->settled = true;
		}
		now_us += (int64_t) (unit_random(seed) % (uint64_t) (window_us / 16 + 2));
	}
	return busiest_window(history, count, window_us);
}

static void
test_strict_invariant(void)
{
	int64_t admitted = 0;
	uint64_t seed = 4711;
	bool held = true;

	for (int i = 0; i < 500; i++)
	{
		int64_t limit = 1 + (int64_t) (unit_random(&seed) % 100);
		int64_t window_us = 1 + (int64_t) (unit_random(&seed) % (i % 2 ? 200 : 60 * 1000 * 1000));
		int64_t total;

		if (run_admissions(&seed, limit, window_us, &total) > limit)
			held = false;
		admitted += total;
	}
	CHECK(held, "no interval of one window ever exceeds the limit (%lld units admitted)",
		  (long long) admitted);
}

/* A caller who takes one unit as soon as it may gets limit units each 61/60 of a window. */
static void
test_strict_rate(void)
{
	int64_t now_us = T0;
	int64_t taken = 0;
	PglWindow window;

	pgl_window_init(&window, PGL_WINDOW_STRICT, 100, 0, MINUTE, now_us);
	for (;;)
	{
		now_us += pgl_window_wait(&window, 1, now_us);
		if (now_us >= T0 + 61 * MINUTE)
			break;
		pgl_window_take(&window, 1, now_us);
		taken++;
	}
	CHECK_INT(taken, 6000, "the price of strictness is one part in sixty");
}

void
test_window(void)
{
	unit_suite("window");
	test_bucket();
	test_fractions();
	test_strict();
	test_strict_debt();
	test_resize();
	test_extremes();
	test_largest();
	test_programs();
	test_strict_invariant();
	test_strict_rate();
}
