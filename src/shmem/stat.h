/*
 * stat.h — counters per tenant and per target since the server started.
 *
 * Counted in shared memory at the moment it happens, so a ROLLBACK takes nothing back.  Latencies
 * go into a histogram whose classes grow by a fifth from 0.1 ms on, so a percentile above that is
 * within 10 %.
 */
#ifndef PGL_SHMEM_STAT_H
#define PGL_SHMEM_STAT_H

#include "state.h"

#define PGL_STAT_CLASSES 100

typedef enum PglStatKind
{
	PGL_STAT_TENANT = 1,
	PGL_STAT_TARGET
} PglStatKind;

typedef struct PglStatCounters
{
	int64_t calls; /* tenant: calls; target: attempts that left */
	int64_t successes;
	int64_t throttled; /* target: throttled by the provider; tenant: refused by a limit */
	int64_t failures;
	int64_t refused_locally; /* target: passed over because a limit or breaker said no */
	int64_t attempts;        /* tenant */
	int64_t retries;         /* tenant: attempts beyond the first */
	int64_t fallbacks;       /* tenant: calls answered by another target than the first choice */
	int64_t waits;           /* tenant: calls that queued for a limit */
	int64_t memo_hits;       /* tenant: calls answered by the memo of a statement */
	int64_t journal_hits;    /* tenant: calls answered by the journal */
	int64_t shadow_refusals; /* tenant: what shadow limits would have refused */
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cost_nano_usd;
	int64_t unpriced; /* answers that no price was known for */
	int64_t latency_sum_us;
	int64_t latency_count;
	double latency_ewma_us;
	uint32_t histogram[PGL_STAT_CLASSES];
} PglStatCounters;

typedef struct PglStatView
{
	char name[PGL_NAME_SIZE];
	PglStatCounters counters;
} PglStatView;

extern uint64_t pgl_stat_shmem_size(void);
extern void pgl_stat_shmem_init(void);

/* Locked.  Counters to add to; never NULL (a full table yields a shared overflow entry). */
extern PglStatCounters *
pgl_stat_find(uint32_t database, PglStatKind kind, uint64_t id, const char *name);
extern void pgl_stat_add_latency(PglStatCounters *counters, int64_t us); /* locked */
/* Value below which the given share (0..1) of the latencies lies, in microseconds; -1 if none. */
extern double pgl_stat_percentile(const PglStatCounters *counters, double share);
extern void pgl_stat_reset(uint32_t database); /* unlocked */
/* Unlocked: rows of one kind for this database, palloc'ed. */
extern int pgl_stat_view(uint32_t database, PglStatKind kind, PglStatView **rows);

#endif
