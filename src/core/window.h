/*
 * window.h — the arithmetic of rate limits: how much may pass, when the rest may, what to give
 * back.
 *
 * Two kinds.  PGL_WINDOW_BUCKET is a token bucket: `burst` units at most, `limit` units flow in per
 * window.  PGL_WINDOW_STRICT never lets more than `limit` units start within ANY interval of one
 * window: usage is kept in 61 slots of window/60 each and the oldest, partly expired slot counts
 * whole, which costs at most 1/60 of the sustained rate.
 *
 * Pure integer arithmetic on a clock given by the caller (microseconds, monotonic, never 0 or
 * less). A clock that steps back is treated as standing still.  Nothing here locks: the caller
 * does. Settling may drive the level below zero; such debt delays later admissions and is never
 * forgotten: in a strict window it takes over the capacity of expiring slots until it is paid.
 */
#ifndef PGL_CORE_WINDOW_H
#define PGL_CORE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define PGL_WINDOW_SLOTS 61
#define PGL_WINDOW_MAX_LIMIT INT64_C(1000000000000000000) /* 10^18: a billion USD in nano-USD */
#define PGL_WINDOW_NEVER INT64_C(-1)

typedef enum PglWindowKind
{
	PGL_WINDOW_BUCKET,
	PGL_WINDOW_STRICT
} PglWindowKind;

typedef struct PglWindow
{
	PglWindowKind kind;
	int64_t limit;     /* units per window */
	int64_t burst;     /* capacity of a bucket; equals limit for a strict window */
	int64_t window_us; /* length of the window */
	int64_t last_us;   /* bucket: last refill; strict: number of the newest slot */
	int64_t level;     /* bucket: whole units left, negative: debt; strict: 0, or minus the debt */
	int64_t fraction;  /* bucket: part of the next unit, in units of 1 / window_us */
	int64_t slots[PGL_WINDOW_SLOTS]; /* strict: units per slot, indexed by slot number modulo 61 */
} PglWindow;

/* When a debit was booked; a refund goes back to that slot if it has not expired. */
typedef int64_t PglWindowStamp;

/* A `burst` of 0 means: as the limit.  Amounts and limits below 0 count as 0. */
extern void pgl_window_init(PglWindow *window, PglWindowKind kind, int64_t limit, int64_t burst,
							int64_t window_us, int64_t now_us);
/* Apply changed limits; what was used stays used.  A changed kind carries the usage over. */
extern void pgl_window_resize(PglWindow *window, PglWindowKind kind, int64_t limit, int64_t burst,
							  int64_t now_us);
extern int64_t pgl_window_available(const PglWindow *window, int64_t now_us); /* negative: debt */
/* Microseconds until `amount` could pass: 0 now, PGL_WINDOW_NEVER if it exceeds the capacity. */
extern int64_t pgl_window_wait(const PglWindow *window, int64_t amount, int64_t now_us);
/* Debit without a check: the caller has asked pgl_window_wait in the same critical section. */
extern PglWindowStamp pgl_window_take(PglWindow *window, int64_t amount, int64_t now_us);
/* Replace a reservation by what was really used (0 = full refund). */
extern void pgl_window_settle(PglWindow *window, PglWindowStamp stamp, int64_t reserved,
							  int64_t used, int64_t now_us);
/* True when forgetting the window would lose nothing: full, without debt. */
extern bool pgl_window_is_idle(const PglWindow *window, int64_t now_us);

#endif
