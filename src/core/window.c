/*
 * window.c — the arithmetic of rate limits.
 *
 * Bucket.  The level is level + fraction / window_us units.  One microsecond brings limit /
 * window_us units, so in steps of 1 / window_us everything is an integer and nothing is lost to
 * rounding.  With 10^18 units a day such a product needs 97 bits; it lives in 128 bits while being
 * computed and is stored as whole units and a fraction.
 *
 * Strict.  Time is cut into slots of ceil(window / 60).  The newest slot and the 60 before it cover
 * at least one window back from any instant within the newest, so a sum of at most `limit` over the
 * ring bounds every interval of one window.  A unit counts until its slot is 61 old.
 *
 * Debt of a strict window is what does not fit into the ring.  When a slot expires, the capacity it
 * frees goes to the debt first, as usage of the slot that begins at that moment: the ring entry,
 * which both slots share, simply keeps its units.  Hence the number available grows by exactly the
 * units that expire, with or without debt, and the time of an admission can be computed.
 */
#include "window.h"

#include <string.h>

typedef __int128 Wide;

/*
 * No level or amount is larger than this, more than twice PGL_WINDOW_MAX_LIMIT: sums of a limit, a
 * full ring and such an amount fit 64 bits, and such an amount times any window fits 128.
 */
#define AMOUNT_MAX (INT64_MAX / 4)

static int64_t
clamp(Wide value, int64_t low, int64_t high)
{
	if (value < low)
		return low;
	return value > high ? high : (int64_t) value;
}

static int64_t
min_int64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
max_int64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Of two positive numbers, rounded up. */
static Wide
divide_up(Wide a, Wide b)
{
	return (a + b - 1) / b;
}

/* ---- buckets ---- */

/* The level at a time, in units of 1 / window_us. */
static Wide
bucket_value(const PglWindow *window, int64_t now_us)
{
	Wide value = (Wide) window->level * window->window_us + window->fraction;
	Wide full = (Wide) window->burst * window->window_us;

	if (now_us > window->last_us)
		value += (Wide) window->limit * (now_us - window->last_us);
	return value < full ? value : full;
}

static Wide
divide_down(Wide a, int64_t b)
{
	Wide quotient = a / b;

	return a % b < 0 ? quotient - 1 : quotient;
}

static void
refill_bucket(PglWindow *window, int64_t now_us)
{
	Wide value = bucket_value(window, now_us);
	Wide units = divide_down(value, window->window_us);

	window->level = clamp(units, -AMOUNT_MAX, AMOUNT_MAX);
	window->fraction = (int64_t) (value - units * window->window_us);
	window->last_us = max_int64(window->last_us, now_us);
}

/* Add units, or take them if negative; what exceeds the capacity is lost. */
static void
add_to_bucket(PglWindow *window, int64_t amount)
{
	window->level = clamp((Wide) window->level + amount, -AMOUNT_MAX, AMOUNT_MAX);
	if (window->level >= window->burst)
	{
		window->level = window->burst;
		window->fraction = 0;
	}
}

static int64_t
wait_for_bucket(const PglWindow *window, int64_t amount, int64_t now_us)
{
	Wide missing = (Wide) amount * window->window_us - bucket_value(window, now_us);
	Wide wait;

	if (missing <= 0)
		return 0;
	if (window->limit == 0)
		return PGL_WINDOW_NEVER;
	wait = divide_up(missing, window->limit);
	if (now_us < window->last_us)
		wait += window->last_us - now_us; /* the clock stands still until then */
	return clamp(wait, 0, INT64_MAX);
}

/* ---- strict windows ---- */

static int64_t
slot_length(const PglWindow *window)
{
	return (window->window_us - 1) / (PGL_WINDOW_SLOTS - 1) + 1;
}

static int64_t
sum_slots(const PglWindow *window)
{
	int64_t total = 0;

	for (int i = 0; i < PGL_WINDOW_SLOTS; i++)
		total += window->slots[i];
	return total;
}

static int64_t *
slot_at(PglWindow *window, int64_t number)
{
	return &window->slots[number % PGL_WINDOW_SLOTS];
}

/* Move debt into the newest slot, as far as there is room. */
static void
pay_debt(PglWindow *window)
{
	int64_t room;
	int64_t paid;

	if (window->level == 0)
		return;
	room = max_int64(window->limit - sum_slots(window), 0);
	paid = min_int64(room, -window->level);
	*slot_at(window, window->last_us) += paid;
	window->level += paid;
}

/* Begin the next slot; units that expire with its predecessor in the ring. */
static int64_t
step_slot(PglWindow *window)
{
	int64_t *slot = slot_at(window, ++window->last_us);
	int64_t expired = *slot;

	*slot = 0;
	pay_debt(window);
	return expired;
}

/*
 * Pass `turns` whole turns of the ring at once.  With debt for all of them and no usage beyond the
 * limit, each turn expires the whole ring and fills it with the same amounts from the debt again.
 */
static void
turn_ring(PglWindow *window, int64_t turns, int64_t total)
{
	window->last_us += turns * PGL_WINDOW_SLOTS;
	window->level += turns * total;
}

/* How many whole turns the debt lasts; 0 while usage exceeds the limit (it was lowered). */
static int64_t
turns_of_debt(const PglWindow *window, int64_t total)
{
	if (total == 0 || total > window->limit)
		return 0;
	return -window->level / total;
}

/*
 * Bring the ring to the slot of `now_us`.  After one turn usage is within the limit; whole turns
 * paid by debt are skipped; one more turn spends the rest of the debt, and another empties the
 * ring.  So four turns are enough, however far the clock jumped.
 */
static void
advance_ring(PglWindow *window, int64_t now_us)
{
	int64_t target = now_us / slot_length(window);
	int64_t total;
	int64_t turns;

	if (target <= window->last_us)
		return;
	for (int i = 0; i < PGL_WINDOW_SLOTS && window->last_us < target; i++)
		step_slot(window);
	total = sum_slots(window);
	if (total > 0 && window->last_us < target)
	{
		turns = (target - window->last_us) / PGL_WINDOW_SLOTS;
		turn_ring(window, min_int64(turns, turns_of_debt(window, total)), total);
		for (int i = 0; i < 2 * PGL_WINDOW_SLOTS && window->last_us < target; i++)
			step_slot(window);
	}
	window->last_us = target; /* the rest of the way would change nothing */
}

/* Units used now: into the newest slot as far as there is room, else debt. */
static void
book_usage(PglWindow *window, int64_t amount)
{
	window->level = clamp((Wide) window->level - amount, -AMOUNT_MAX, 0);
	pay_debt(window);
}

/* Take unused units out of the slot they were booked in, and the rest out of the debt. */
static void
refund_usage(PglWindow *window, PglWindowStamp stamp, int64_t amount)
{
	int64_t number = stamp / slot_length(window);
	int64_t *slot;
	int64_t taken;

	if (number < 0 || number <= window->last_us - PGL_WINDOW_SLOTS || number > window->last_us)
		return;
	slot = slot_at(window, number);
	taken = min_int64(*slot, amount);
	*slot -= taken;
	window->level = min_int64(window->level + (amount - taken), 0);
	pay_debt(window);
}

static int64_t
strict_available(const PglWindow *window)
{
	return window->limit - sum_slots(window) + window->level;
}

/* Until enough units have expired.  Works on a copy that it moves forward. */
static int64_t
wait_for_ring(const PglWindow *window, int64_t amount, int64_t now_us)
{
	PglWindow future = *window;
	int64_t missing;
	int64_t total;
	int64_t turns;

	advance_ring(&future, now_us);
	missing = amount - strict_available(&future);
	if (missing <= 0)
		return 0;
	for (int i = 0; i < PGL_WINDOW_SLOTS && missing > 0; i++)
		missing -= step_slot(&future);
	total = sum_slots(&future);
	if (missing > 0 && total > 0)
	{
		turns = min_int64(turns_of_debt(&future, total), (missing - 1) / total);
		if (turns > (INT64_MAX - future.last_us) / PGL_WINDOW_SLOTS - 3)
			return INT64_MAX;
		turn_ring(&future, turns, total);
		missing -= turns * total;
	}
	while (missing > 0)
		missing -= step_slot(&future);
	return clamp((Wide) future.last_us * slot_length(window) - now_us, 0, INT64_MAX);
}

/* ---- both kinds ---- */

static void
advance_window(PglWindow *window, int64_t now_us)
{
	if (window->kind == PGL_WINDOW_BUCKET)
		refill_bucket(window, now_us);
	else
		advance_ring(window, now_us);
}

/* Units that are not available: a bucket's count as used when they are only partly refilled. */
static int64_t
used_units(const PglWindow *window)
{
	if (window->kind == PGL_WINDOW_BUCKET)
		return window->burst - window->level;
	return sum_slots(window) - window->level;
}

static void
set_limits(PglWindow *window, PglWindowKind kind, int64_t limit, int64_t burst)
{
	window->kind = kind;
	window->limit = clamp(limit, 0, PGL_WINDOW_MAX_LIMIT);
	window->burst = clamp(burst, 0, PGL_WINDOW_MAX_LIMIT);
	if (kind == PGL_WINDOW_STRICT || burst <= 0)
		window->burst = window->limit;
}

/* Start over as the given kind with all units used that `used` says. */
static void
restart_window(PglWindow *window, int64_t used, int64_t now_us)
{
	memset(window->slots, 0, sizeof(window->slots));
	window->fraction = 0;
	window->level = 0;
	if (window->kind == PGL_WINDOW_BUCKET)
	{
		window->last_us = now_us;
		window->level = clamp((Wide) window->burst - used, -AMOUNT_MAX, window->burst);
	}
	else
	{
		window->last_us = now_us / slot_length(window);
		book_usage(window, used);
	}
}

/* The latest time the window knows of: its own clock never steps back. */
static int64_t
window_now(const PglWindow *window, int64_t now_us)
{
	int64_t last_us = window->last_us;

	if (window->kind == PGL_WINDOW_STRICT)
		last_us *= slot_length(window);
	return max_int64(last_us, now_us);
}

void
pgl_window_init(PglWindow *window, PglWindowKind kind, int64_t limit, int64_t burst,
				int64_t window_us, int64_t now_us)
{
	memset(window, 0, sizeof(*window));
	window->window_us = max_int64(window_us, 1);
	set_limits(window, kind, limit, burst);
	restart_window(window, 0, max_int64(now_us, 1));
}

void
pgl_window_resize(PglWindow *window, PglWindowKind kind, int64_t limit, int64_t burst,
				  int64_t now_us)
{
	PglWindowKind old_kind = window->kind;
	int64_t old_burst = window->burst;
	int64_t used;

	now_us = window_now(window, now_us);
	advance_window(window, now_us);
	used = used_units(window);
	set_limits(window, kind, limit, burst);
	if (kind != old_kind)
		restart_window(window, used, now_us);
	else if (kind == PGL_WINDOW_BUCKET)
		add_to_bucket(window, window->burst - old_burst);
	else
		pay_debt(window);
}

int64_t
pgl_window_available(const PglWindow *window, int64_t now_us)
{
	PglWindow current;

	if (window->kind == PGL_WINDOW_BUCKET)
		return clamp(divide_down(bucket_value(window, now_us), window->window_us), -AMOUNT_MAX,
					 AMOUNT_MAX);
	current = *window;
	advance_ring(&current, now_us);
	return strict_available(&current);
}

/* Nothing passes at any time, debt or not: it asks for nothing. */
int64_t
pgl_window_wait(const PglWindow *window, int64_t amount, int64_t now_us)
{
	if (amount <= 0)
		return 0;
	if (amount > window->burst)
		return PGL_WINDOW_NEVER;
	if (window->kind == PGL_WINDOW_BUCKET)
		return wait_for_bucket(window, amount, now_us);
	return wait_for_ring(window, amount, now_us);
}

PglWindowStamp
pgl_window_take(PglWindow *window, int64_t amount, int64_t now_us)
{
	now_us = window_now(window, now_us);
	amount = clamp(amount, 0, AMOUNT_MAX);
	advance_window(window, now_us);
	if (window->kind == PGL_WINDOW_BUCKET)
		add_to_bucket(window, -amount);
	else
		book_usage(window, amount);
	return now_us;
}

/*
 * What was used beyond the reservation is booked now, not back then: only from now on can later
 * admissions make up for it.
 */
void
pgl_window_settle(PglWindow *window, PglWindowStamp stamp, int64_t reserved, int64_t used,
				  int64_t now_us)
{
	int64_t surplus = clamp(used, 0, AMOUNT_MAX) - clamp(reserved, 0, AMOUNT_MAX);

	advance_window(window, window_now(window, now_us));
	if (window->kind == PGL_WINDOW_BUCKET)
		add_to_bucket(window, -surplus);
	else if (surplus > 0)
		book_usage(window, surplus);
	else if (surplus < 0)
		refund_usage(window, stamp, -surplus);
}

bool
pgl_window_is_idle(const PglWindow *window, int64_t now_us)
{
	return pgl_window_available(window, now_us) >= window->burst;
}
