/*
 * test_congestion.c — the window of attempts in flight: worked examples, a naive model that keeps
 * the whole history, and simulated providers.
 */
#include "unit.h"

#include <string.h>

#include "congestion.h"

#define SECOND INT64_C(1000000)
#define T0 (1000 * SECOND)

/* ---- examples ---- */

static void
succeed(PglCongestion *c, int n, int in_flight, int64_t now_us)
{
	for (int i = 0; i < n; i++)
		pgl_congestion_succeeded(c, c->epoch, in_flight, SECOND, 100, now_us);
}

/* Bounded to `window` by a burst of which so many were taken, and used up. */
static PglCongestion
bounded(int burst, int taken)
{
	PglCongestion c = {.window = 0};
	uint32_t epoch = c.epoch;

	for (int i = 0; i < burst - taken; i++)
		pgl_congestion_throttled(&c, epoch, burst - i, T0);
	for (int i = 0; i < c.window; i++)
		pgl_congestion_enter(&c, i, T0);
	return c;
}

static void
test_start(void)
{
	PglCongestion c = {.window = 0};

	CHECK_INT(pgl_congestion_window(&c, 1, T0), 0, "a new window has no bound");
	CHECK_INT(pgl_congestion_wait(&c, 1000000, T0), 0, "and lets everything pass");
	pgl_congestion_enter(&c, 1000, T0);
	succeed(&c, 1000, 1000, T0);
	CHECK_INT(pgl_congestion_window(&c, 1, T0), 0, "success does not change that");
	CHECK(!pgl_congestion_timed_out(&c, 0, 1, T0), "a timeout of a lone attempt says nothing");
	CHECK_INT(c.decreases, 0, "nor does it count");
}

static void
test_burst(void)
{
	PglCongestion c = {.window = 0};

	CHECK(pgl_congestion_throttled(&c, 0, 64, T0), "the first refusal of a burst is an event");
	CHECK_INT(c.window, 44, "seven tenths of the burst");
	CHECK(!pgl_congestion_throttled(&c, 0, 63, T0), "the second is the same event");
	for (int i = 3; i <= 56; i++)
		pgl_congestion_throttled(&c, 0, 65 - i, T0 + SECOND);
	CHECK_INT(c.window, 8, "in the end what was taken of the burst");
	CHECK_INT(c.decreases, 1, "one decrease");
	CHECK(!pgl_congestion_timed_out(&c, 0, 8, T0), "a timeout of that burst is the same event");
	CHECK_INT(c.window, 8, "and changes nothing");
	CHECK(pgl_congestion_throttled(&c, 1, 8, T0),
		  "an attempt admitted afterwards is another event");
	CHECK_INT(c.window, 5, "seven tenths again");
	CHECK(!pgl_congestion_throttled(&c, 0, 8, T0),
		  "an attempt of the event before the last is late");
	CHECK_INT(c.refused, 1, "and forgotten");
	for (int i = 0; i < 20; i++)
		pgl_congestion_throttled(&c, 1, 8, T0);
	CHECK_INT(c.window, 1, "never less than one");
	pgl_congestion_throttled(&c, 2, 50, T0);
	CHECK_INT(c.burst, 1, "what was in flight before the decrease is no burst of the small window");
}

static void
test_wait(void)
{
	PglCongestion c = bounded(20, 4);

	CHECK_INT(c.window, 4, "a window of four");
	CHECK_INT(pgl_congestion_wait(&c, 3, T0), 0, "has a fourth place");
	CHECK_INT(pgl_congestion_wait(&c, 4, T0), 10 * SECOND, "and no fifth");
	CHECK_INT(pgl_congestion_wait(&c, 20, T0), 10 * SECOND, "however many are in flight");
	pgl_congestion_leave(&c, 4, T0 + 3 * SECOND);
	CHECK_INT(pgl_congestion_wait(&c, 4, T0 + 9 * SECOND), 4 * SECOND, "something has ended");
	pgl_congestion_enter(&c, 3, T0 + 11 * SECOND);
	CHECK_INT(pgl_congestion_wait(&c, 4, T0 + 13 * SECOND), 0, "nothing for ten seconds: a stall");
	pgl_congestion_enter(&c, 4, T0 + 13 * SECOND);
	CHECK_INT(pgl_congestion_wait(&c, 5, T0 + 13 * SECOND), 10 * SECOND, "which lets one pass");
	CHECK_INT(pgl_congestion_window(&c, 5, T0 + 60 * SECOND), 4, "a full window does not rest");
}

static void
test_growth(void)
{
	PglCongestion c = bounded(9, 8);

	CHECK_INT(c.window, 6, "one of nine was too many: six");
	succeed(&c, 5, 6, T0);
	CHECK_INT(c.window, 6, "five successes are not enough");
	succeed(&c, 1, 6, T0);
	CHECK_INT(c.window, 7, "six are");
	succeed(&c, 7, 7, T0);
	CHECK_INT(c.window, 8, "then seven");
	succeed(&c, 63, 8, T0);
	CHECK_INT(c.window, 8, "eight times eight before nine is tried again");
	succeed(&c, 1, 8, T0);
	CHECK_INT(c.window, 9, "now");
	succeed(&c, 9, 9, T0);
	CHECK_INT(c.window, 10, "nine is borne: on it goes");
	succeed(&c, 10, 10, T0);
	CHECK_INT(c.window, 11, "one more");
	succeed(&c, 11 + 6 + 5, 12, T0);
	CHECK(c.window >= 13, "and faster, the further it gets");
	for (int i = 0; i < 100; i++)
		succeed(&c, 1, c.window, T0);
	CHECK(c.window > 64, "a lifted limit is found soon (%d)", c.window);
}

static void
test_no_growth(void)
{
	PglCongestion c = bounded(9, 8);
	PglCongestion unused = bounded(9, 8);
	PglCongestion full = bounded(9, 8);

	pgl_congestion_succeeded(&c, c.epoch - 1, 6, SECOND, 100, T0);
	CHECK_INT(c.credit, 0, "a success admitted before the decrease does not count");
	succeed(&unused, 1, 2, T0);
	CHECK(!unused.is_limiting, "a window that is less than half full does not limit");
	succeed(&unused, 100, 2, T0);
	CHECK_INT(unused.window, 6, "so it does not grow");
	for (int i = 6; i > 0; i--)
		succeed(&full, 1, i, T0);
	CHECK_INT(full.credit, 4, "of six that end together half are credited, and the one before");
}

static void
test_rest(void)
{
	PglCongestion c = bounded(20, 4);

	CHECK_INT(pgl_congestion_window(&c, 1, T0 + 10 * SECOND - 1), 4, "ten seconds");
	CHECK_INT(pgl_congestion_window(&c, 1, T0 + 10 * SECOND), 8, "of rest double it");
	CHECK_INT(pgl_congestion_window(&c, 1, T0 + 50 * SECOND), 128, "five times");
	CHECK_INT(pgl_congestion_window(&c, 1, T0 + 60 * SECOND), 0, "then there is no bound");
	CHECK_INT(c.window, 4, "looking changes nothing");
	pgl_congestion_enter(&c, 1, T0 + 25 * SECOND);
	CHECK_INT(c.window, 16, "using does");
	pgl_congestion_enter(&c, 15, T0 + 29 * SECOND);
	CHECK_INT(pgl_congestion_window(&c, 1, T0 + 38 * SECOND), 16, "a window used up");
	CHECK_INT(pgl_congestion_window(&c, 1, T0 + 39 * SECOND), 32, "begins its rest anew");
	CHECK_INT(pgl_congestion_window(&c, 1, INT64_MAX), 0, "the end of time");
	pgl_congestion_lift(&c);
	CHECK_INT(pgl_congestion_wait(&c, 1000, T0), 0, "lifted by hand");
}

static void
test_timeout(void)
{
	PglCongestion c = {.window = 0};

	CHECK(pgl_congestion_timed_out(&c, 0, 10, T0), "a timeout among ten");
	CHECK_INT(c.window, 7, "leaves seven");
	CHECK(!pgl_congestion_timed_out(&c, 0, 9, T0), "the next of the same burst");
	CHECK_INT(c.window, 7, "changes nothing");
	CHECK_STR(pgl_congestion_sign_name(c.last_sign), "timeout", "its sign has a name");
	CHECK(pgl_congestion_sign_name((PglCongestionSign) 99) == NULL, "others have none");
}

static void
answer(PglCongestion *c, int n, int64_t latency_us, int64_t tokens)
{
	for (int i = 0; i < n; i++)
		pgl_congestion_succeeded(c, c->epoch, c->window, latency_us, tokens, T0);
}

static void
refill(PglCongestion *c)
{
	for (int i = 0; i < c->window; i++)
		pgl_congestion_enter(c, i, T0);
}

static void
test_slowness(void)
{
	PglCongestion c = bounded(100, 40);
	PglCongestion unbounded = {.window = 0};
	int grown;

	answer(&c, 100, SECOND, 10);
	answer(&c, 400, 8 * SECOND, 500);
	grown = c.window;
	CHECK(grown > 40, "longer answers take longer, and are no sign");
	answer(&c, 20, 60 * SECOND, 10);
	refill(&c);
	answer(&c, grown, 60 * SECOND, 10);
	CHECK(c.window < grown, "the same answers much slower than usual are");
	CHECK_INT(c.last_sign, PGL_CONGESTION_SLOW, "and said to be");
	CHECK(c.window >= grown - grown / 8 - 1, "an eighth at most");
	for (int i = 0; i < 20; i++)
	{
		refill(&c);
		answer(&c, c.window, 60 * SECOND, 10);
	}
	CHECK(c.window >= c.too_many / 2, "not below half of what was too much (%d)", c.window);
	answer(&unbounded, 100, SECOND, 10);
	answer(&unbounded, 1000, 60 * SECOND, 10);
	CHECK_INT(unbounded.window, 0, "without a bound slowness says nothing");
	pgl_congestion_succeeded(&unbounded, 0, 1, INT64_MAX, INT64_MAX / 2, T0);
	pgl_congestion_succeeded(&unbounded, 0, 1, -1, -1, T0);
	CHECK(unbounded.recent >= 0, "absurd numbers do no harm");
}

/* ---- random programs against a naive model ---- */

#define HISTORY 3000

/*
 * The model has no epochs.  It keeps every attempt with the moment of its admission, counted in
 * events, and looks the whole history through for each question.
 */
typedef struct Attempt
{
	int admitted_at;
	uint32_t epoch; /* what the module said */
	bool out;
	bool refused;
} Attempt;

typedef struct Model
{
	Attempt attempts[HISTORY];
	int count;
	int event;
	int decreased_at; /* the last decrease, and the one before */
	int decreased_before;
	int burst;
	int window;
	bool any_decrease;
} Model;

static int
model_in_flight(const Model *model)
{
	int n = 0;

	for (int i = 0; i < model->count; i++)
		n += model->attempts[i].out;
	return n;
}

/* Refused of those that were admitted between the last two decreases. */
static int
model_refused(const Model *model)
{
	int n = 0;

	for (int i = 0; i < model->count; i++)
		n += model->attempts[i].refused && model->attempts[i].admitted_at < model->decreased_at &&
			 model->attempts[i].admitted_at > model->decreased_before;
	return n;
}

static void
model_throttle(Model *model, Attempt *attempt)
{
	int in_flight = model_in_flight(model);
	int taken;
	int window;

	attempt->refused = true;
	if (!model->any_decrease || attempt->admitted_at > model->decreased_at)
	{
		model->decreased_before = model->any_decrease ? model->decreased_at : -1;
		model->decreased_at = model->event;
		model->any_decrease = true;
		model->burst = model->window > 0 && model->window < in_flight ? model->window : in_flight;
	}
	else if (attempt->admitted_at < model->decreased_before)
		return;
	taken = model->burst - model_refused(model);
	window = taken < model->burst * 7 / 10 ? taken : model->burst * 7 / 10;
	if (window < 1)
		window = 1;
	if (model->window == 0 || window < model->window)
		model->window = window;
}

static bool
run_program(uint64_t *seed)
{
	static Model model;
	PglCongestion c = {.window = 0};
	int most = 2 + (int) (unit_random(seed) % 60);
	int throttle_share = 1 + (int) (unit_random(seed) % 10);
	int64_t now_us = T0;

	memset(&model, 0, sizeof(model));
	model.decreased_before = -1;
	while (model.count < HISTORY)
	{
		int in_flight = model_in_flight(&model);
		bool may = pgl_congestion_wait(&c, in_flight, now_us) == 0;
		int before = c.window;
		Attempt *attempt;

		model.event++;
		now_us += 1 + (int64_t) (unit_random(seed) % 1000);
		if (may != (c.window == 0 || in_flight < c.window))
			return false;
		if (in_flight == 0 && !may)
			return false; /* one always may */
		if (may && in_flight < most && unit_random(seed) % 3 != 0)
		{
			pgl_congestion_enter(&c, in_flight, now_us);
			model.attempts[model.count++] =
				(Attempt){.admitted_at = model.event, .epoch = c.epoch, .out = true};
			continue;
		}
		if (in_flight == 0)
			continue;
		do
			attempt = &model.attempts[unit_random(seed) % (uint64_t) model.count];
		while (!attempt->out);
		if (unit_random(seed) % (uint64_t) throttle_share == 0)
		{
			int64_t decreases = c.decreases;
			bool is_new = pgl_congestion_throttled(&c, attempt->epoch, in_flight, now_us);

			model_throttle(&model, attempt);
			if (c.window != model.window || is_new != (c.decreases == decreases + 1))
				return false;
		}
		else
		{
			pgl_congestion_succeeded(&c, attempt->epoch, in_flight, SECOND, 50, now_us);
			/* growth is additive: at most one place per success, and only a bounded window's */
			if (c.window < before || c.window > before + (before > 0))
				return false;
			if (c.window > before && attempt->admitted_at < model.decreased_at)
				return false;
			model.window = c.window;
		}
		attempt->out = false;
		pgl_congestion_leave(&c, in_flight, now_us);
	}
	return true;
}

static void
test_programs(void)
{
	uint64_t seed = 20240;
	bool same = true;

	for (int i = 0; i < 40 && same; i++)
		same = run_program(&seed);
	CHECK(same, "40 random programs agree with the model");
}

/* ---- simulated providers ---- */

#define CALLS 2000

typedef struct Provider
{
	int capacity;        /* attempts it takes at a time */
	int lifted_at;       /* ... until so many calls are done; 0: for ever */
	int most;            /* callers that want to be in flight */
	int64_t cooldown_us; /* what the caller does after a refusal */
} Provider;

typedef struct Result
{
	int throttled;
	int tail_throttled; /* in the second half */
	int64_t busy;       /* sum of attempts taken, over all steps of the second half */
	int64_t steps;
	int last_window;
} Result;

/* Each call takes ten steps of 100 ms; refusals come at once. */
static Result
simulate(const Provider *provider)
{
	PglCongestion c = {.window = 0};
	Result result = {0};
	int ends[16] = {0}; /* attempts that end at a step, by step modulo 16 */
	uint32_t epochs[16] = {0};
	int64_t cool_until = 0;
	int taken = 0;
	int done = 0;

	for (int64_t step = 0; done < CALLS && step < 1000000; step++)
	{
		int64_t now_us = T0 + step * SECOND / 10;
		int slot = (int) (step % 16);
		int capacity =
			provider->lifted_at > 0 && done >= provider->lifted_at ? 1000000 : provider->capacity;
		int burst = taken;
		uint32_t epoch;
		int refused = 0;

		while (ends[slot] > 0)
		{
			pgl_congestion_succeeded(&c, epochs[slot], taken, SECOND, 20, now_us);
			pgl_congestion_leave(&c, taken, now_us);
			ends[slot]--;
			taken--;
			done++;
		}
		burst = taken;
		epoch = c.epoch;
		while (now_us >= cool_until && burst < provider->most &&
			   pgl_congestion_wait(&c, burst, now_us) == 0)
		{
			pgl_congestion_enter(&c, burst, now_us);
			epoch = c.epoch;
			burst++;
		}
		while (burst > taken && taken < capacity)
		{
			ends[(slot + 10) % 16]++;
			epochs[(slot + 10) % 16] = epoch;
			taken++;
		}
		for (refused = burst - taken; refused > 0; refused--)
		{
			pgl_congestion_throttled(&c, epoch, burst, now_us);
			pgl_congestion_leave(&c, burst--, now_us);
			cool_until = now_us + provider->cooldown_us;
			result.throttled++;
			result.tail_throttled += done > CALLS / 2;
		}
		if (done > CALLS / 2)
		{
			result.steps++;
			result.busy += taken;
		}
	}
	result.last_window = c.window;
	return result;
}

static void
test_providers(void)
{
	static const int capacities[] = {1, 2, 3, 8, 20, 50};
	Provider lifted = {.capacity = 4, .lifted_at = 300, .most = 64, .cooldown_us = SECOND};
	Provider enough = {.capacity = 300, .most = 256, .cooldown_us = SECOND};
	Result result;

	for (size_t i = 0; i < COUNT_OF(capacities); i++)
	{
		Provider provider = {.capacity = capacities[i], .most = 64, .cooldown_us = SECOND};

		result = simulate(&provider);
		CHECK(result.throttled <= 64 + CALLS / 4,
			  "a provider of %d at a time: %d refusals of %d answers", capacities[i],
			  result.throttled, CALLS);
		CHECK(result.tail_throttled * 8 <= CALLS,
			  "a provider of %d at a time: %d in the second half", capacities[i],
			  result.tail_throttled);
		CHECK(result.busy * 10 >= result.steps * capacities[i] * 6,
			  "a provider of %d at a time: %lld tenths of it are used", capacities[i],
			  (long long) (result.busy * 10 / (result.steps * capacities[i])));
	}
	result = simulate(&enough);
	CHECK_INT(result.throttled + result.last_window, 0, "a provider of enough is never held back");
	result = simulate(&lifted);
	CHECK(result.last_window == 0 || result.last_window >= 60, "a lifted limit is found (%d)",
		  result.last_window);
	CHECK_INT(result.tail_throttled, 0, "without further refusals");
}

void
test_congestion(void)
{
	unit_suite("congestion");
	test_start();
	test_burst();
	test_wait();
	test_growth();
	test_no_growth();
	test_rest();
	test_timeout();
	test_slowness();
	test_programs();
	test_providers();
}
