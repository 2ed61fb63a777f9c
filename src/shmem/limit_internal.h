/*
 * limit_internal.h — what limit.c (limits), ticket.c (who waits for them) and limit_view.c (what
 * users see of them) share with each other, and with nobody else.  All of it is for holders of the
 * lock.
 */
#ifndef PGL_SHMEM_LIMIT_INTERNAL_H
#define PGL_SHMEM_LIMIT_INTERNAL_H

#include "limit.h"

#define NONE (-1)
/* Who has not stirred for so long after a wake-up is not listening. */
#define PGL_TICKET_DEAF_US INT64_C(1000000)

typedef struct PglLimit
{
	bool used;
	bool shadow;
	bool has_requests;
	bool has_tokens;
	bool has_cost;
	bool soft;
	PglLimitKey key;
	char name[PGL_NAME_SIZE];
	char subject[PGL_NAME_SIZE];
	union
	{
		struct
		{
			PglWindow requests;
			PglWindow tokens;
		};
		struct /* has_cost */
		{
			PglBudget budget;
			int64_t prepared_us; /* when a call last asked for it */
		};
	};
	int max_inflight;         /* 0 = not limited */
	int in_flight;            /* leases on this limit */
	PglCongestion congestion; /* of PGL_SCOPE_DOMAIN */
	int64_t loaded_at;        /* of the configuration it follows */
	int first_ticket;
	int lock_holder; /* ticket whose owner holds the advisory lock */
	int ntickets;
	int next_free;
} PglLimit;

typedef struct PglTicket
{
	bool used;
	bool by_lock;
	bool for_window; /* see PglTicketTerms */
	bool woken;
	int64_t woken_us;
	int pid;
	int proc;
	int limit;
	uint64_t sequence;   /* order of arrival */
	int64_t deadline_us; /* its owner gives up then */
	int next;            /* later one on the same limit, or next free slot */
} PglTicket;

typedef struct PglLimitTable
{
	uint64_t next_sequence;
	int first_free_limit;
	int nfree_limits;
	int nwindows; /* domains whose window has a bound */
	int first_free_ticket;
} PglLimitTable;

extern PglLimitTable *pgl_limit_table;
extern PglLimit *pgl_limits;
extern PglTicket *pgl_tickets;

/* ticket.c */
extern void pgl_ticket_wake(int t);
/* The oldest ticket whose owner listens. */
extern int pgl_ticket_first_listening(const PglLimit *limit, int64_t now_us);
/* Something may have come free: whose turn it is shall look. */
extern void pgl_ticket_wake_first(const PglLimit *limit);

#endif
