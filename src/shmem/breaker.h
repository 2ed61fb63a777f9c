/*
 * breaker.h — health of failure domains: cool-down, circuit breaker and retry budget.
 *
 * One entry per quota domain and per credential.
 *	cool-down   after throttling: nothing goes out until the provider's hint or 1, 2, 4 ... 60 s
 *passed breaker     closed -> open when at least 5 of the attempts of the last 10 s failed and they
 *are half of them or more; open -> half open after 5, 10 ... 60 s: exactly one probe; a good probe
 *-> ramp (one in ten, then one in two) -> closed; a bad one -> open again retry budget  tokens for
 *second attempts on the same domain, so that retries cannot become a storm Local refusals, cancels
 *and the caller's own mistakes are never recorded here.
 */
#ifndef PGL_SHMEM_BREAKER_H
#define PGL_SHMEM_BREAKER_H

#include "state.h"

typedef enum PglBreakerScope
{
	PGL_BREAKER_DOMAIN = 1,
	PGL_BREAKER_CREDENTIAL
} PglBreakerScope;

typedef enum PglBreakerState
{
	PGL_BREAKER_CLOSED,
	PGL_BREAKER_OPEN,
	PGL_BREAKER_HALF_OPEN, /* one probe is out */
	PGL_BREAKER_RAMP
} PglBreakerState;

typedef enum PglGate
{
	PGL_GATE_PASS,
	PGL_GATE_PROBE,   /* may pass as the single probe: pgl_breaker_enter claims it */
	PGL_GATE_COOLING, /* throttled a moment ago */
	PGL_GATE_RAMPING, /* recovering: held back this time, unless there is nobody else */
	PGL_GATE_OPEN     /* open, or a probe is out */
} PglGate;

typedef struct PglBreakerView
{
	uint32_t scope;
	char name[PGL_NAME_SIZE];
	PglBreakerState state;
	int failures;
	int successes;
	int opened;
	int64_t open_us;    /* until it reopens for a probe; 0 if not open */
	int64_t cooling_us; /* 0 if not cooling */
	int strikes;
	int retry_budget;
} PglBreakerView;

extern uint64_t pgl_breaker_shmem_size(void);
extern void pgl_breaker_shmem_init(void);

/* Locked.  Index, made if needed; -1 when the table is full (then nothing is guarded). */
extern int
pgl_breaker_find(uint32_t database, PglBreakerScope scope, uint64_t id, const char *name);
extern int pgl_breaker_peek(uint32_t database, PglBreakerScope scope, uint64_t id); /* locked */
/* Locked.  May an attempt pass?  *wait_us: until it may (0 = not known). */
extern PglGate pgl_breaker_gate(int breaker, int64_t now_us, int64_t *wait_us);
/* Locked.  An attempt was held back by PGL_GATE_RAMPING: the next one is nearer to its turn. */
extern void pgl_breaker_held_back(int breaker);
/* Locked.  An attempt passes the gate: in the ramp this takes its turn; a probe is claimed. */
extern bool pgl_breaker_enter(int breaker, int64_t now_us); /* true: it is the probe */
/* Locked.  Claim the probe of an open breaker before its time (all candidates are open). */
extern bool pgl_breaker_force_probe(int breaker);
extern void pgl_breaker_success(int breaker, bool probe, int64_t now_us); /* locked */
extern void pgl_breaker_failure(int breaker, bool probe, int64_t now_us); /* locked */
extern void pgl_breaker_neutral(int breaker, bool probe);                 /* locked */
/* Locked.  Cool down: the longer of what is set and the new value. */
extern void pgl_breaker_cool(int breaker, int64_t hint_us, uint32_t random, int64_t now_us);
extern bool pgl_breaker_take_retry(int breaker, int cost);   /* locked */
extern void pgl_breaker_give_retry(int breaker, int amount); /* locked */
extern void pgl_breaker_release_mine(void);                  /* locked; probes of a dying backend */

/* Unlocked.  Close all breakers of that name (NULL: all of the database); how many there were. */
extern int pgl_breaker_reset(uint32_t database, const char *name);
/* Unlocked: rows of llm_breaker for this database, palloc'ed. */
extern int pgl_breaker_view(uint32_t database, PglBreakerView **rows);

#endif
