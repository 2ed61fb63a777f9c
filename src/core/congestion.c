/*
 * congestion.c — the window of attempts in flight: see congestion.h for its rules.
 */
#include "congestion.h"

#include <stddef.h>

#define MAX_WINDOW 1000000 /* beyond it there is no bound */
#define DECREASE_NUMERATOR 7
#define DECREASE_DENOMINATOR 10
#define HOLD 8 /* windows' worth of successes before what was too much is tried again */
#define REST_US INT64_C(10000000)
#define MAX_DOUBLED 5
#define STALL_US INT64_C(10000000)
#define SLOW_FACTOR 4
#define SLOW_SHARE 8       /* one part in so many */
#define TOKENS_OF_FRAME 32 /* what an answer takes besides its tokens, in tokens */
#define SCALE 16           /* of times per token */
#define RECENT_WEIGHT 8
#define FALL_WEIGHT 16
#define RISE_WEIGHT 128
#define MAX_TOKENS INT64_C(1000000000)

static int
larger(int a, int b)
{
	return a > b ? a : b;
}

static int
smaller(int a, int b)
{
	return a < b ? a : b;
}

void
pgl_congestion_lift(PglCongestion *congestion)
{
	congestion->window = congestion->too_many = congestion->credit = 0;
	congestion->slow = congestion->doubled = 0;
	congestion->is_limiting = false;
}

static void
set_window(PglCongestion *congestion, int window)
{
	if (window > MAX_WINDOW)
		pgl_congestion_lift(congestion);
	else
		congestion->window = window;
}

/* A window that was not full for a while is widened; at most MAX_DOUBLED rounds. */
static void
rest(PglCongestion *congestion, int in_flight, int64_t now_us)
{
	while (in_flight < congestion->window && now_us - congestion->used_up_us >= REST_US)
	{
		congestion->used_up_us += REST_US;
		congestion->is_limiting = false;
		if (congestion->doubled++ == MAX_DOUBLED)
			pgl_congestion_lift(congestion);
		else
			set_window(congestion, congestion->window * 2);
	}
}

int
pgl_congestion_window(const PglCongestion *congestion, int in_flight, int64_t now_us)
{
	PglCongestion rested = *congestion;

	rest(&rested, in_flight, now_us);
	return rested.window;
}

int64_t
pgl_congestion_wait(const PglCongestion *congestion, int in_flight, int64_t now_us)
{
	int64_t wait_us = congestion->progress_us + STALL_US - now_us;

	/* A full window does not rest, so there is nothing to bring up to date. */
	if (congestion->window == 0 || in_flight < congestion->window || wait_us < 0)
		return 0;
	return wait_us;
}

/* It is full now. */
static void
use_up(PglCongestion *congestion, int64_t now_us)
{
	congestion->used_up_us = now_us;
	congestion->doubled = 0;
}

void
pgl_congestion_enter(PglCongestion *congestion, int in_flight, int64_t now_us)
{
	rest(congestion, in_flight, now_us);
	if (congestion->window == 0 || in_flight + 1 < congestion->window)
		return;
	congestion->is_limiting = true;
	use_up(congestion, now_us);
	if (in_flight >= congestion->window)
		congestion->progress_us = now_us;
}

void
pgl_congestion_leave(PglCongestion *congestion, int in_flight, int64_t now_us)
{
	congestion->progress_us = now_us;
	if (congestion->window > 0 && in_flight >= congestion->window)
		use_up(congestion, now_us);
}

/* The attempts in flight are one burst, and too many. */
static void
begin_event(PglCongestion *congestion, PglCongestionSign sign, int in_flight, int64_t now_us)
{
	rest(congestion, in_flight, now_us);
	/* After an earlier decrease there may be more in flight than the window: not its doing. */
	congestion->burst =
		congestion->window > 0 ? smaller(in_flight, congestion->window) : larger(in_flight, 1);
	congestion->refused = 0;
	congestion->epoch++;
	congestion->last_sign = sign;
	congestion->decreased_us = congestion->progress_us = now_us;
	congestion->decreases++;
	congestion->is_limiting = false;
	use_up(congestion, now_us);
}

static void
shrink(PglCongestion *congestion, int window)
{
	window = larger(window, 1);
	if (congestion->window == 0 || window < congestion->window)
		congestion->window = window;
	congestion->credit = congestion->slow = 0;
}

static int
decreased(int burst)
{
	return (int) ((int64_t) burst * DECREASE_NUMERATOR / DECREASE_DENOMINATOR);
}

bool
pgl_congestion_throttled(PglCongestion *congestion, uint32_t epoch, int in_flight, int64_t now_us)
{
	bool is_new = epoch == congestion->epoch;
	int taken;

	if (!is_new && (congestion->window == 0 || epoch != congestion->epoch - 1))
		return false;
	if (is_new)
		begin_event(congestion, PGL_CONGESTION_THROTTLED, in_flight, now_us);
	if (congestion->refused < congestion->burst)
		congestion->refused++;
	taken = congestion->burst - congestion->refused;
	congestion->too_many = taken + 1;
	shrink(congestion, smaller(decreased(congestion->burst), taken));
	return is_new;
}

bool
pgl_congestion_timed_out(PglCongestion *congestion, uint32_t epoch, int in_flight, int64_t now_us)
{
	if (epoch != congestion->epoch || in_flight < 2)
		return false;
	begin_event(congestion, PGL_CONGESTION_TIMEOUT, in_flight, now_us);
	congestion->too_many = congestion->burst;
	shrink(congestion, decreased(congestion->burst));
	return true;
}

static int64_t
approach(int64_t average, int64_t sample, int weight)
{
	return average == 0 ? sample : average + (sample - average) / weight;
}

/*
 * Answers differ in length, so their times are compared per token.  What is usual falls with the
 * sample, and rises slowly: by a part of itself at most, however slow a sample is.
 */
static void
learn_latency(PglCongestion *congestion, int64_t latency_us, int64_t tokens)
{
	int64_t usual = congestion->usual;
	int64_t sample;

	if (latency_us < 0 || latency_us > INT64_MAX / SCALE || tokens > MAX_TOKENS)
		return;
	sample = latency_us * SCALE / ((tokens > 0 ? tokens : 0) + TOKENS_OF_FRAME);
	congestion->recent = approach(congestion->recent, sample, RECENT_WEIGHT);
	if (usual > 0 && sample > usual * 2)
		sample = usual * 2;
	congestion->usual = approach(usual, sample, sample < usual ? FALL_WEIGHT : RISE_WEIGHT);
}

static void
grow(PglCongestion *congestion)
{
	int64_t needed = congestion->window;

	if (congestion->window + 1 == congestion->too_many)
		needed *= HOLD;
	congestion->credit += larger(congestion->window - congestion->too_many, 1);
	if (congestion->credit < needed)
		return;
	congestion->credit = 0;
	set_window(congestion, congestion->window + 1);
}

/* The window is full, and what comes out of it comes late. */
static void
note_slowness(PglCongestion *congestion, int in_flight, int64_t now_us)
{
	int least = larger(congestion->too_many / 2, 1);
	int window = congestion->window;

	if (++congestion->slow < window)
		return;
	congestion->slow = 0;
	if (window <= least)
		return;
	begin_event(congestion, PGL_CONGESTION_SLOW, in_flight, now_us);
	shrink(congestion, larger(window - larger(window / SLOW_SHARE, 1), least));
}

void
pgl_congestion_succeeded(PglCongestion *congestion, uint32_t epoch, int in_flight,
						 int64_t latency_us, int64_t tokens, int64_t now_us)
{
	learn_latency(congestion, latency_us, tokens);
	rest(congestion, in_flight, now_us);
	if (in_flight < congestion->window - congestion->window / 2)
		congestion->is_limiting = false;
	if (congestion->window == 0 || !congestion->is_limiting || epoch != congestion->epoch)
		return;
	if (congestion->recent / SLOW_FACTOR > congestion->usual)
		note_slowness(congestion, in_flight, now_us);
	else
	{
		congestion->slow = 0;
		grow(congestion);
	}
}

const char *
pgl_congestion_sign_name(PglCongestionSign sign)
{
	static const char *const names[] = {NULL, "throttled", "timeout", "slow"};

	return (unsigned int) sign < sizeof(names) / sizeof(names[0]) ? names[sign] : NULL;
}
