/*
 * limit.h — live limits: what has been used of every rate and in-flight limit, and who queues for
 * it.
 *
 * A limit is one row of configuration applied to one subject: a quota domain, a target, or a quota
 * row for a tenant or a role.  It has up to three dimensions: requests and tokens per minute
 * (windows of core/window.h) and calls in flight.  It is made when a call first meets it, follows
 * changed configuration without forgetting what was used, and is dropped when its slot is needed
 * and nothing would be lost: full windows, no lease, nobody waiting.
 *
 * The limit of a quota domain has a window of attempts in flight besides, which is not configured
 * but learnt (core/congestion.h).  Whoever finds it full waits for a place, whatever is configured
 * about waiting: it is shared by all, and something leaves it soon.
 *
 * The queue: a call that must wait holds a ticket on the limit that binds it.  Tickets are ordered
 * by arrival; while a limit has tickets, only the oldest may take from it, so that nobody
 * overtakes.  One that was woken and has not stirred for a second is passed over meanwhile: its
 * backend may be waiting for its client, which does not read.
 */
#ifndef PGL_SHMEM_LIMIT_H
#define PGL_SHMEM_LIMIT_H

#include "../core/budget.h"
#include "../core/congestion.h"
#include "state.h"

#define PGL_CALL_MAX_LIMITS 16
#define PGL_LIMIT_WINDOW_US INT64_C(60000000)
#define PGL_NO_TICKET (-1)

typedef enum PglLimitScope
{
	PGL_SCOPE_DOMAIN = 1, /* provider quota shared by the targets of a domain */
	PGL_SCOPE_TARGET,     /* calls in flight on one target */
	PGL_SCOPE_QUOTA,      /* a row of llm_quota: its rates and calls in flight */
	PGL_SCOPE_BUDGET      /* a row of llm_quota: its budget */
} PglLimitScope;

typedef enum PglDimension
{
	PGL_DIM_REQUESTS,
	PGL_DIM_TOKENS,
	PGL_DIM_IN_FLIGHT,
	PGL_DIM_COST, /* nano-USD: a budget */
	PGL_DIM_COUNT
} PglDimension;

typedef struct PglLimitKey
{
	uint32_t database;
	uint32_t scope;
	uint64_t id;      /* hash of the name, or the quota's id */
	uint64_t subject; /* hash of the tenant, OID of the role, or 0 */
} PglLimitKey;

/* What configuration says of a limit; a plan carries these, admission matches them to live limits.
 */
typedef struct PglLimitSpec
{
	PglLimitKey key;
	const char *name;
	const char *subject; /* "" if shared */
	int64_t rpm;         /* 0 = this dimension is not limited, as for the others */
	int64_t tpm;
	int64_t burst_requests;
	int64_t burst_tokens;
	int max_inflight;
	PglWindowKind window_kind;
	bool shadow;
	bool may_wait;                /* a call may queue for it */
	bool next_tier;               /* exhausted: another candidate may help */
	const PglBudgetTerms *budget; /* PGL_SCOPE_BUDGET: the one dimension it has; else NULL */
	bool soft;                    /* a budget that lets everything pass, and says so */
	int64_t
		loaded_at; /* when its configuration was read: an older spec does not undo a newer one */
} PglLimitSpec;

/* What an attempt asks for, besides one request and one place in flight. */
typedef struct PglDemand
{
	int64_t tokens;
	int64_t nano_usd;
} PglDemand;

/* How a budget stood when it was asked. */
typedef struct PglBudgetVerdict
{
	int64_t limit;
	int64_t spent;
	int64_t reserved;
	int64_t needed;
	int64_t end; /* of the period, TimestampTz; 0: rolling */
} PglBudgetVerdict;

/* The answer to "may this pass now?" for one spec; binding = the dimensions that say no. */
typedef struct PglLimitVerdict
{
	bool pass;
	bool never;      /* larger than the capacity: no waiting helps */
	bool queued;     /* others wait in front */
	bool busy;       /* only the window of the domain is full, or has a queue */
	uint8_t binding; /* bit per PglDimension */
	int window;      /* busy: its size; 0: it has no bound any more */
	int64_t wait_us; /* until it could pass; 0 with !pass: not known (in flight, or a queue) */
	int64_t look_us; /* busy: look again then in any case */
	PglBudgetVerdict budget;
} PglLimitVerdict;

/* A row of llm_bucket. */
typedef struct PglLimitView
{
	PglLimitKey key;
	char name[PGL_NAME_SIZE];
	char subject[PGL_NAME_SIZE];
	PglDimension dimension;
	PglWindowKind window_kind;
	int64_t max;
	int64_t available;
	int64_t next_us; /* until one more unit passes; -1 not known */
	int waiters;
	bool shadow;
	bool learnt; /* in flight: the window of a domain */
} PglLimitView;

/* The window of a quota domain, for llm_breaker. */
typedef struct PglWindowView
{
	char domain[PGL_NAME_SIZE];
	int in_flight;
	int window; /* 0: without bound */
	int64_t decreases;
	PglCongestionSign last_sign;
	int64_t decreased_us; /* ago */
} PglWindowView;

/* A row of llm_budget. */
typedef struct PglBudgetView
{
	int64_t quota_id;
	char subject[PGL_NAME_SIZE];
	bool soft;
	bool shadow;
	bool loaded;
	PglBudgetTerms terms;
	int64_t spent;
	int64_t reserved;
	int percent;
	int waiters;
} PglBudgetView;

extern uint64_t pgl_limit_shmem_size(void);
extern void pgl_limit_shmem_init(void);

/*
 * Locked.  Make room for the limits of a decision that have no live state yet, at most `count`, by
 * dropping idle ones; done once before it, so that no index changes its meaning in the middle.
 */
extern bool pgl_limit_has_room(int count);
extern bool pgl_limit_make_room(int count, int64_t now_us);
/* Locked.  Index of the live limit, made or adjusted to the spec; -1 when the table is full. */
extern int pgl_limit_find(const PglLimitSpec *spec, int64_t now_us);
/* Locked.  Index of an existing limit without making one; -1 if there is none. */
extern int pgl_limit_peek(const PglLimitKey *key);
/* Locked.  `ticket` is the caller's own ticket or PGL_NO_TICKET. */
extern void pgl_limit_check(int limit, const PglDemand *demand, int ticket, int64_t now_us,
							PglLimitVerdict *verdict);
/* The same for a limit that has no live state yet: only the capacity matters. */
extern void
pgl_limit_check_fresh(const PglLimitSpec *spec, const PglDemand *demand, PglLimitVerdict *verdict);

typedef struct PglLimitDebit
{
	int limit;
	PglDemand demand;
	PglWindowStamp request_stamp;
	PglWindowStamp token_stamp;
	uint64_t epoch; /* of the budget: the period it was taken in */
} PglLimitDebit;

/* Locked.  Take one request, the demand and one place in flight. */
extern PglLimitDebit pgl_limit_debit(int limit, const PglDemand *demand, int64_t now_us);
/* Locked.  Settle a debit: requests used (0 or 1), tokens and nano-USD used; the place in flight is
 * given back. */
extern void pgl_limit_settle(const PglLimitDebit *debit, int requests, int64_t tokens,
							 int64_t nano_usd, int64_t now_us);
extern int pgl_limit_in_flight(int limit); /* locked */

/*
 * Locked.  The window of a quota domain.  An attempt remembers the epoch in which it was admitted,
 * and reports what became of it before its debit is settled.  True: it began a congestion event.
 */
extern uint32_t pgl_limit_epoch(int limit);
extern bool pgl_limit_throttled(int limit, uint32_t epoch, int64_t now_us);
extern bool pgl_limit_timed_out(int limit, uint32_t epoch, int64_t now_us);
extern void
pgl_limit_succeeded(int limit, uint32_t epoch, int64_t latency_us, int64_t tokens, int64_t now_us);
extern int pgl_limit_window(const PglLimitKey *key, int64_t now_us); /* locked; 0: no bound */
extern bool pgl_limit_any_window(void); /* unlocked read: may any domain have a bound? */
/* Unlocked.  Lift the windows of that domain (NULL: all of the database). */
extern void pgl_limit_lift_windows(uint32_t database, const char *domain);

/*
 * Locked.  Make the live limit of a budget, or bring it to the period of its spec; it is not
 * evicted for a minute.  Returns its index, -1 when the table is full.  *loaded: it may be used;
 * otherwise *mark is for pgl_limit_load_budget, to be called once the ledger has been read.
 */
extern int pgl_limit_prepare_budget(const PglLimitSpec *spec, int64_t now_us, bool *loaded,
									PglBudgetMark *mark);
/*
 * Locked.  Take over what the ledger says of the budget's period, unless somebody else has done so
 * meanwhile.  Without `force` no effect if something was settled since the mark (pgl_budget_load),
 * or if the period is another by now: prepare, and read again.
 */
extern void
pgl_limit_load_budget(const PglLimitSpec *spec, const PglBudgetMark *mark,
					  const PglBudgetEntry *entries, int nentries, bool force, int64_t now_us);
/* Locked.  The mark that a budget has newly reached, in percent; 0: none. */
extern int pgl_limit_reach_budget(int limit, int64_t now_us, PglBudgetVerdict *state);
/*
 * Locked.  The ledger has been changed: all budgets of the database are read from it again before
 * they are used next.  What calls in flight have reserved stays.
 */
extern void pgl_limit_reload_budgets(uint32_t database);

typedef struct PglTicketTerms
{
	bool by_lock;
	bool for_window;     /* it waits for a place in the window, and for nothing else */
	int64_t deadline_us; /* its owner gives up then */
	uint64_t arrival;    /* its place in the order of arrival; 0: the last */
} PglTicketTerms;

/*
 * Locked.  Queue for a limit.  A ticket keeps its place in the order of arrival when it moves to
 * another limit.  `by_lock`: its owner sleeps in the queue of the limit's advisory lock, which it
 * may only if nobody ahead of it there can outstay it (pgl_ticket_may_lock).  -1: no slot left.
 */
extern bool pgl_ticket_may_lock(int limit, int64_t deadline_us);
extern int pgl_ticket_take(int limit, const PglTicketTerms *terms);
/* True: it sleeps by lock there. */
extern bool pgl_ticket_move(int ticket, int limit, const PglTicketTerms *terms);
/* Wakes the next; returns its place in the order of arrival, for a later ticket of the same call.
 */
extern uint64_t pgl_ticket_drop(int ticket);
/*
 * Locked.  The owner now holds the advisory lock of the limit: its ticket becomes the oldest of
 * those that queue by lock.  The lock manager's queue is the authority among them; this keeps the
 * two alike.
 */
extern void pgl_ticket_reached_lock(int ticket);
extern bool pgl_ticket_was_woken(int ticket); /* unlocked read; clears the mark */
extern void pgl_ticket_drop_all_mine(void);   /* locked; at backend exit */

/* Unlocked: rows of llm_bucket for this database, palloc'ed. */
extern int pgl_limit_view(uint32_t database, PglLimitView **rows);
/* The same for the windows of domains, */
extern int pgl_limit_view_windows(uint32_t database, PglWindowView **rows);
/* and for llm_budget. */
extern int pgl_limit_view_budgets(uint32_t database, PglBudgetView **rows);

#endif
