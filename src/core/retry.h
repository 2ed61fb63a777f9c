/*
 * retry.h — how long to wait before another attempt, and whether one may be spent at all.
 *
 * Full jitter (wait = random * min(cap, base * 2^n)) and the retry budget are AWS's "standard"
 * retry mode: a budget of 500, a retry costs 5 (10 after a timeout), a first-try success gives 1
 * back.
 */
#ifndef PGL_CORE_RETRY_H
#define PGL_CORE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#define PGL_RETRY_BUDGET_MAX 500
#define PGL_RETRY_COST 5
#define PGL_RETRY_COST_TIMEOUT 10
#define PGL_RETRY_REFUND 1

/* `random` is uniform over 32 bits; the result lies in [0, min(cap, base << round)]. */
extern int64_t pgl_retry_backoff_us(int round, int64_t base_us, int64_t cap_us, uint32_t random);
/*
 * Cool-down of a quota domain: the provider's hint if it gave one (>= 0), else 1, 2, 4 ... 60 s for
 * the `strikes`-th throttling in a row (0 = first), with up to 10 % jitter added.  Hints are capped
 * at ten minutes.
 */
extern int64_t pgl_retry_cooldown_us(int strikes, int64_t hint_us, uint32_t random);
/*
 * Value of Retry-After (seconds, decimals allowed, or an HTTP date) or, with `milliseconds`, of
 * x-amz-retry-after.  Returns microseconds from now, or -1 if the text says nothing usable.
 */
extern int64_t pgl_retry_parse_hint(const char *value, bool milliseconds, int64_t now_unix_us);
/* Take `cost` from the budget; false, taking nothing, when it does not suffice. */
extern bool pgl_retry_budget_take(int32_t *budget, int32_t cost);
extern void pgl_retry_budget_give(int32_t *budget, int32_t amount);

#endif
