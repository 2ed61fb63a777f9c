/*
 * congestion.h — how many attempts a quota domain bears in flight, learnt from what becomes of
 * them.
 *
 * A provider seldom says how much it takes at once; it throws back what is too much.  The window is
 * what may be in flight: additive increase, multiplicative decrease, as TCP does it.
 *
 *	start     without bound.  Nothing is slowed down before the provider complains.
 *	throttle  the attempts in flight are one burst, and its refusals one congestion event: the
 *	          window becomes 7/10 of the burst, and no more than the part of it that was not thrown
 *	          back, as that is what the provider took.  Only an attempt that was admitted after the
 *	          last decrease (its epoch) can begin another event.
 *	timeout   7/10 of the burst, too, if the timed-out attempt was not alone.
 *	growth    while the window is what limits: one place per window's worth of successes up to the
 *	          number that was too many; eight windows' worth for the step to that number itself,
 *	          because a refusal costs a cool-down; faster and faster beyond it, up to twice per
 *	          window's worth, since the provider's limit must have changed.
 *	slowness  answers four times slower than usual, per token, while the window is full: no growth;
 *	          after a window's worth of them one eighth less, but not below half of what was too
 *	          much.  Without a bound nothing is concluded from slowness: a server that batches is
 *	          slower when it is busy, and does more.
 *	rest      for every ten seconds in which the window was never full it doubles, and after a
 *	          minute it is without bound again.
 *	stall     a full window in which nothing has ended for ten seconds lets one more pass: whoever
 *	          holds the places may be asleep, and nobody must starve behind him.
 *
 * Integers only, on a clock given by the caller (microseconds).  Zeroed memory is a new window.
 * Nothing here locks: the caller does.
 */
#ifndef PGL_CORE_CONGESTION_H
#define PGL_CORE_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

typedef enum PglCongestionSign
{
	PGL_CONGESTION_NONE,
	PGL_CONGESTION_THROTTLED,
	PGL_CONGESTION_TIMEOUT,
	PGL_CONGESTION_SLOW
} PglCongestionSign;

typedef struct PglCongestion
{
	int window;          /* attempts that may be in flight; 0: without bound */
	int too_many;        /* so many were, at the last decrease */
	int credit;          /* of successes, towards the next place */
	int burst;           /* in flight at the last decrease */
	int refused;         /* ... and thrown back of them */
	int slow;            /* slow answers in a row */
	int doubled;         /* times, since the window was last full */
	bool is_limiting;    /* it was full, and half of it still is */
	uint32_t epoch;      /* of attempts admitted since the last decrease */
	int64_t used_up_us;  /* when the window was last full, or doubled */
	int64_t progress_us; /* when an attempt last ended, or was let through by a stall */
	int64_t usual;       /* time per token of an answer; 0: not known */
	int64_t recent;      /* ... of the last few */
	PglCongestionSign last_sign;
	int64_t decreased_us;
	int64_t decreases;
} PglCongestion;

/* The window now: 0 is without bound. */
extern int pgl_congestion_window(const PglCongestion *congestion, int in_flight, int64_t now_us);
/*
 * May one more join those in flight?  0: yes, else microseconds until the stall rule lets it; what
 * ends before makes room earlier.
 */
extern int64_t pgl_congestion_wait(const PglCongestion *congestion, int in_flight, int64_t now_us);
/* One more joins those in flight.  Its epoch is congestion->epoch. */
extern void pgl_congestion_enter(PglCongestion *congestion, int in_flight, int64_t now_us);
/* One leaves, for whatever reason; in_flight counts it still. */
extern void pgl_congestion_leave(PglCongestion *congestion, int in_flight, int64_t now_us);

/*
 * What became of an attempt; in_flight counts it still.  True: a throttle or timeout that began a
 * congestion event, false: one that belongs to an earlier one, or says nothing.
 */
extern bool
pgl_congestion_throttled(PglCongestion *congestion, uint32_t epoch, int in_flight, int64_t now_us);
extern bool
pgl_congestion_timed_out(PglCongestion *congestion, uint32_t epoch, int in_flight, int64_t now_us);
/* `tokens` of the answer; less than 0 is not known. */
extern void pgl_congestion_succeeded(PglCongestion *congestion, uint32_t epoch, int in_flight,
									 int64_t latency_us, int64_t tokens, int64_t now_us);

extern void pgl_congestion_lift(PglCongestion *congestion); /* without bound, from now on */
extern const char *pgl_congestion_sign_name(PglCongestionSign sign); /* NULL: none */

#endif
