/*
 * limit.c — the table of live limits and the tickets of those who wait for them.
 *
 * Limits sit in an array, so that a lease can name one by its index; a shared hash finds the index
 * of a key.  A limit may only be evicted while idle, hence an index held by a lease or a ticket
 * stays good. Tickets of one limit form a list in order of arrival; the list is short, as it is the
 * queue.
 *
 * A budget is evicted only while it has nothing spent or reserved in a period that still runs, and
 * not within a minute of its preparation: between that and the decision it must not go.
 *
 * Everything here runs under the lock of state.h, unless it says otherwise.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "limit.h"

#define NONE (-1)
#define NOT_TAKEN INT64_C(-1) /* the dimension was not limited when the lease began */
#define KEEP_BUDGET_US INT64_C(60000000)
#define DEAF_US \
	INT64_C(1000000) /* who has not stirred for so long after a wake-up is not listening */

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

typedef struct LimitTable
{
	uint64_t next_sequence;
	int first_free_limit;
	int nfree_limits;
	int nwindows; /* domains whose window has a bound */
	int first_free_ticket;
} LimitTable;

typedef struct LimitIndex
{
	PglLimitKey key;
	int index;
} LimitIndex;

static LimitTable *table = NULL;
static PglLimit *limits = NULL;
static PglTicket *tickets = NULL;
static HTAB *index_by_key = NULL;

uint64_t
pgl_limit_shmem_size(void)
{
	Size size = MAXALIGN(sizeof(LimitTable));

	size = add_size(size, mul_size(pgl_guc_max_limits, sizeof(PglLimit)));
	size = add_size(size, mul_size(pgl_guc_max_leases, sizeof(PglTicket)));
	size = add_size(size, hash_estimate_size(pgl_guc_max_limits, sizeof(LimitIndex)));
	return size;
}

void
pgl_limit_shmem_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(PglLimitKey), .entrysize = sizeof(LimitIndex)};
	bool found;
	int i;

	table = ShmemInitStruct("pgllm limit table", sizeof(LimitTable), &found);
	limits =
		ShmemInitStruct("pgllm limits", mul_size(pgl_guc_max_limits, sizeof(PglLimit)), &found);
	tickets =
		ShmemInitStruct("pgllm tickets", mul_size(pgl_guc_max_leases, sizeof(PglTicket)), &found);
	index_by_key = ShmemInitHash("pgllm limit index", pgl_guc_max_limits, pgl_guc_max_limits, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	if (found)
		return;
	memset(limits, 0, sizeof(PglLimit) * pgl_guc_max_limits);
	memset(tickets, 0, sizeof(PglTicket) * pgl_guc_max_leases);
	table->next_sequence = 1;
	table->first_free_limit = 0;
	table->nfree_limits = pgl_guc_max_limits;
	table->first_free_ticket = 0;
	for (i = 0; i < pgl_guc_max_limits; i++)
		limits[i].next_free = i + 1 < pgl_guc_max_limits ? i + 1 : NONE;
	for (i = 0; i < pgl_guc_max_leases; i++)
		tickets[i].next = i + 1 < pgl_guc_max_leases ? i + 1 : NONE;
}

static bool
is_idle_budget(const PglLimit *limit, int64_t now_us)
{
	return now_us - limit->prepared_us > KEEP_BUDGET_US &&
		   pgl_budget_is_idle(&limit->budget, now_us);
}

/* Would dropping the limit lose anything? */
static bool
is_idle(const PglLimit *limit, int64_t now_us)
{
	return limit->used && limit->in_flight == 0 && limit->ntickets == 0 &&
		   pgl_congestion_window(&limit->congestion, 0, now_us) == 0 &&
		   (!limit->has_cost || is_idle_budget(limit, now_us)) &&
		   (!limit->has_requests || pgl_window_is_idle(&limit->requests, now_us)) &&
		   (!limit->has_tokens || pgl_window_is_idle(&limit->tokens, now_us));
}

static void
drop_limit(int i)
{
	hash_search(index_by_key, &limits[i].key, HASH_REMOVE, NULL);
	table->nwindows -= limits[i].congestion.window > 0;
	limits[i].used = false;
	limits[i].next_free = table->first_free_limit;
	table->first_free_limit = i;
	table->nfree_limits++;
}

bool
pgl_limit_has_room(int count)
{
	return table->nfree_limits >= count;
}

bool
pgl_limit_make_room(int count, int64_t now_us)
{
	int i;

	for (i = 0; i < pgl_guc_max_limits; i++)
		if (is_idle(&limits[i], now_us))
			drop_limit(i);
	return table->nfree_limits >= count;
}

static void
apply_window(PglWindow *window, bool *has, int64_t limit, int64_t burst, PglWindowKind kind,
			 int64_t now_us)
{
	int64_t capacity = kind == PGL_WINDOW_BUCKET && burst > 0 ? burst : limit;

	if (limit > 0 && window->window_us == 0)
		pgl_window_init(window, kind, limit, capacity, PGL_LIMIT_WINDOW_US, now_us);
	else if (limit > 0 &&
			 (window->limit != limit || window->burst != capacity || window->kind != kind))
		pgl_window_resize(window, kind, limit, capacity, now_us);
	*has = limit > 0;
}

static void
apply_terms(PglLimit *limit, const PglBudgetTerms *terms, bool newest, int64_t now_us)
{
	if (!limit->has_cost)
		pgl_budget_init(&limit->budget, terms, now_us);
	else if (newest)
		pgl_budget_change(&limit->budget, terms, now_us);
	limit->has_cost = true;
	pgl_budget_roll(&limit->budget, terms);
}

static void
apply_spec(PglLimit *limit, const PglLimitSpec *spec, int64_t now_us)
{
	bool newest = spec->loaded_at >= limit->loaded_at;

	if (spec->budget)
		apply_terms(limit, spec->budget, newest, now_us);
	if (!newest)
		return;
	limit->loaded_at = spec->loaded_at;
	limit->shadow = spec->shadow;
	limit->soft = spec->soft;
	if (limit->has_cost)
		return;
	limit->max_inflight = spec->max_inflight;
	apply_window(&limit->requests, &limit->has_requests, spec->rpm, spec->burst_requests,
				 spec->window_kind, now_us);
	apply_window(&limit->tokens, &limit->has_tokens, spec->tpm, spec->burst_tokens,
				 spec->window_kind, now_us);
}

int
pgl_limit_peek(const PglLimitKey *key)
{
	LimitIndex *entry = hash_search(index_by_key, key, HASH_FIND, NULL);

	return entry ? entry->index : NONE;
}

int
pgl_limit_find(const PglLimitSpec *spec, int64_t now_us)
{
	int i = pgl_limit_peek(&spec->key);
	LimitIndex *entry;

	if (i == NONE)
	{
		if (table->first_free_limit == NONE)
			return NONE;
		entry = hash_search(index_by_key, &spec->key, HASH_ENTER_NULL, NULL);
		if (entry == NULL)
			return NONE;
		i = table->first_free_limit;
		table->first_free_limit = limits[i].next_free;
		table->nfree_limits--;
		entry->index = i;
		memset(&limits[i], 0, sizeof(PglLimit));
		limits[i].used = true;
		limits[i].key = spec->key;
		limits[i].first_ticket = NONE;
		limits[i].lock_holder = NONE;
		pgl_shmem_copy_name(limits[i].name, spec->name);
		pgl_shmem_copy_name(limits[i].subject, spec->subject);
	}
	apply_spec(&limits[i], spec, now_us);
	return i;
}

/* Fold one window's answer into the verdict. */
static void
judge_window(int64_t wait_us, PglDimension dimension, PglLimitVerdict *verdict)
{
	if (wait_us == 0)
		return;
	verdict->pass = false;
	verdict->binding |= 1 << dimension;
	if (wait_us == PGL_WINDOW_NEVER)
		verdict->never = true;
	else
		verdict->wait_us = Max(verdict->wait_us, wait_us);
}

static PglBudgetVerdict
budget_state(const PglBudget *budget, int64_t needed, int64_t now_us)
{
	return (PglBudgetVerdict){.limit = budget->terms.limit,
							  .spent = pgl_budget_spent(budget, now_us),
							  .reserved = budget->reserved,
							  .needed = needed,
							  .end = budget->terms.rolling ? 0 : budget->terms.end};
}

static void
judge_budget(const PglBudget *budget, int64_t nano_usd, int64_t now_us, PglLimitVerdict *verdict)
{
	int64_t wait_us = pgl_budget_wait(budget, nano_usd, now_us);

	verdict->budget = budget_state(budget, nano_usd, now_us);
	if (wait_us == 0)
		return;
	verdict->pass = false;
	verdict->binding |= 1 << PGL_DIM_COST;
	verdict->never = wait_us == PGL_WINDOW_NEVER;
	verdict->wait_us = Max(wait_us, 0);
}

static void
wake(int t)
{
	if (!tickets[t].woken)
		tickets[t].woken_us = pgl_clock_us();
	tickets[t].woken = true;
	SetLatch(pgl_proc_latch(tickets[t].proc));
}

/* Was it woken, and does nothing?  Who sleeps in the lock manager's queue cannot hear. */
static bool
is_deaf(const PglTicket *ticket, int64_t now_us)
{
	return ticket->woken && !ticket->by_lock && now_us - ticket->woken_us > DEAF_US;
}

/* The oldest ticket whose owner listens. */
static int
first_listening(const PglLimit *limit, int64_t now_us)
{
	int t = limit->first_ticket;

	while (t != NONE && is_deaf(&tickets[t], now_us))
		t = tickets[t].next;
	return t;
}

/*
 * The window of a domain, and its queue: `first` is the ticket ahead, NONE if it is the caller's
 * turn.  Among those who queue for other things the rules of those things apply.
 */
static void
judge_congestion(const PglLimit *limit, int first, int64_t now_us, PglLimitVerdict *verdict)
{
	int64_t wait_us = pgl_congestion_wait(&limit->congestion, limit->in_flight, now_us);

	if (wait_us == 0 && (first == NONE || !tickets[first].for_window))
		return;
	/* There is room, by a stall perhaps: the first one takes it, or shows that it is deaf. */
	if (wait_us == 0)
		wake(first);
	verdict->pass = false;
	verdict->busy = verdict->binding == 0;
	verdict->window = limit->congestion.window;
	verdict->look_us = wait_us > 0 ? wait_us : DEAF_US;
}

void
pgl_limit_check(int i, const PglDemand *demand, int ticket, int64_t now_us,
				PglLimitVerdict *verdict)
{
	const PglLimit *limit = &limits[i];
	int first = first_listening(limit, now_us);

	memset(verdict, 0, sizeof(*verdict));
	verdict->pass = true;
	if (limit->has_requests)
		judge_window(pgl_window_wait(&limit->requests, 1, now_us), PGL_DIM_REQUESTS, verdict);
	if (limit->has_tokens)
		judge_window(pgl_window_wait(&limit->tokens, demand->tokens, now_us), PGL_DIM_TOKENS,
					 verdict);
	if (limit->has_cost)
		judge_budget(&limit->budget, demand->nano_usd, now_us, verdict);
	if (limit->max_inflight > 0 && limit->in_flight >= limit->max_inflight)
	{
		verdict->pass = false;
		verdict->binding |= 1 << PGL_DIM_IN_FLIGHT;
	}
	if (first != NONE && first != ticket &&
		(ticket == PGL_NO_TICKET || tickets[first].sequence < tickets[ticket].sequence))
	{
		verdict->pass = false;
		verdict->queued = true;
	}
	if (limit->key.scope == PGL_SCOPE_DOMAIN)
		judge_congestion(limit, verdict->queued ? first : NONE, now_us, verdict);
}

void
pgl_limit_check_fresh(const PglLimitSpec *spec, const PglDemand *demand, PglLimitVerdict *verdict)
{
	int64_t capacity = spec->window_kind == PGL_WINDOW_BUCKET && spec->burst_tokens > 0
						   ? spec->burst_tokens
						   : spec->tpm;

	memset(verdict, 0, sizeof(*verdict));
	verdict->pass = spec->tpm == 0 || demand->tokens <= capacity;
	verdict->never = !verdict->pass;
	if (verdict->never)
		verdict->binding = 1 << PGL_DIM_TOKENS;
}

/* How many windows have a bound is what pgl_limit_any_window tells. */
static void
count_window(int before, int after)
{
	table->nwindows += (after > 0) - (before > 0);
}

PglLimitDebit
pgl_limit_debit(int i, const PglDemand *demand, int64_t now_us)
{
	PglLimit *limit = &limits[i];
	PglLimitDebit debit = {
		.limit = i, .demand = *demand, .request_stamp = NOT_TAKEN, .token_stamp = NOT_TAKEN};

	if (limit->has_requests)
		debit.request_stamp = pgl_window_take(&limit->requests, 1, now_us);
	if (limit->has_tokens)
		debit.token_stamp = pgl_window_take(&limit->tokens, demand->tokens, now_us);
	if (limit->has_cost)
		debit.epoch = pgl_budget_reserve(&limit->budget, demand->nano_usd);
	if (limit->congestion.window > 0)
	{
		int before = limit->congestion.window;

		pgl_congestion_enter(&limit->congestion, limit->in_flight, now_us);
		count_window(before, limit->congestion.window);
	}
	limit->in_flight++;
	return debit;
}

/*
 * It is the first one's turn, and that of the first one who listens.  If it sleeps in the lock
 * manager's queue it cannot hear us: the holder of the lock, ahead of it there, takes its place.
 */
static void
wake_first(const PglLimit *limit)
{
	int first = limit->first_ticket;

	if (first == NONE)
		return;
	wake(first);
	first = first_listening(limit, pgl_clock_us());
	if (first == NONE)
		return;
	wake(first);
	if (tickets[first].by_lock && limit->lock_holder != NONE && limit->lock_holder != first)
		wake(limit->lock_holder);
}

void
pgl_limit_settle(const PglLimitDebit *debit, int requests, int64_t tokens, int64_t nano_usd,
				 int64_t now_us)
{
	PglLimit *limit = &limits[debit->limit];

	if (limit->has_requests && debit->request_stamp != NOT_TAKEN)
		pgl_window_settle(&limit->requests, debit->request_stamp, 1, requests, now_us);
	if (limit->has_tokens && debit->token_stamp != NOT_TAKEN)
		pgl_window_settle(&limit->tokens, debit->token_stamp, debit->demand.tokens, tokens, now_us);
	if (limit->has_cost)
		pgl_budget_settle(&limit->budget, debit->epoch, debit->demand.nano_usd, nano_usd, now_us);
	if (limit->congestion.window > 0)
		pgl_congestion_leave(&limit->congestion, limit->in_flight, now_us);
	limit->in_flight--;
	Assert(limit->in_flight >= 0);
	wake_first(limit);
}

int
pgl_limit_in_flight(int i)
{
	return limits[i].in_flight;
}

uint32_t
pgl_limit_epoch(int i)
{
	return limits[i].congestion.epoch;
}

bool
pgl_limit_throttled(int i, uint32_t epoch, int64_t now_us)
{
	PglCongestion *congestion = &limits[i].congestion;
	int before = congestion->window;
	bool is_new = pgl_congestion_throttled(congestion, epoch, limits[i].in_flight, now_us);

	count_window(before, congestion->window);
	return is_new;
}

bool
pgl_limit_timed_out(int i, uint32_t epoch, int64_t now_us)
{
	PglCongestion *congestion = &limits[i].congestion;
	int before = congestion->window;
	bool is_new = pgl_congestion_timed_out(congestion, epoch, limits[i].in_flight, now_us);

	count_window(before, congestion->window);
	return is_new;
}

void
pgl_limit_succeeded(int i, uint32_t epoch, int64_t latency_us, int64_t tokens, int64_t now_us)
{
	PglCongestion *congestion = &limits[i].congestion;
	int before = congestion->window;

	pgl_congestion_succeeded(congestion, epoch, limits[i].in_flight, latency_us, tokens, now_us);
	count_window(before, congestion->window);
}

int
pgl_limit_window(const PglLimitKey *key, int64_t now_us)
{
	int i = pgl_limit_peek(key);

	return i == NONE ? 0
					 : pgl_congestion_window(&limits[i].congestion, limits[i].in_flight, now_us);
}

bool
pgl_limit_any_window(void)
{
	return table->nwindows > 0;
}

void
pgl_limit_lift_windows(uint32_t database, const char *domain)
{
	int i;

	pgl_shmem_lock();
	for (i = 0; i < pgl_guc_max_limits; i++)
	{
		PglLimit *limit = &limits[i];

		if (!limit->used || limit->key.scope != PGL_SCOPE_DOMAIN ||
			limit->key.database != database || (domain && strcmp(limit->name, domain) != 0))
			continue;
		count_window(limit->congestion.window, 0);
		pgl_congestion_lift(&limit->congestion);
		wake_first(limit);
	}
	pgl_shmem_unlock();
}

int
pgl_limit_prepare_budget(const PglLimitSpec *spec, int64_t now_us, bool *loaded,
						 PglBudgetMark *mark)
{
	int i;

	if (pgl_limit_peek(&spec->key) == NONE && !pgl_limit_has_room(1))
		(void) pgl_limit_make_room(1, now_us);
	i = pgl_limit_find(spec, now_us);
	if (i == NONE)
		return NONE;
	limits[i].prepared_us = now_us;
	*loaded = limits[i].budget.loaded;
	*mark = pgl_budget_mark(&limits[i].budget, now_us);
	return i;
}

void
pgl_limit_load_budget(const PglLimitSpec *spec, const PglBudgetMark *mark,
					  const PglBudgetEntry *entries, int nentries, bool force, int64_t now_us)
{
	int i = pgl_limit_peek(&spec->key);
	PglBudget *budget;

	if (i == NONE)
		return;
	budget = &limits[i].budget;
	if (budget->loaded || (!force && !pgl_budget_same_period(&budget->terms, spec->budget)))
		return;
	(void) pgl_budget_load(budget, mark, entries, nentries, force, now_us);
	wake_first(&limits[i]);
}

int
pgl_limit_reach_budget(int i, int64_t now_us, PglBudgetVerdict *state)
{
	PglBudget *budget = &limits[i].budget;

	*state = budget_state(budget, 0, now_us);
	return limits[i].shadow ? 0 : pgl_budget_reach(budget, now_us);
}

void
pgl_limit_reload_budgets(uint32_t database)
{
	int i;

	for (i = 0; i < pgl_guc_max_limits; i++)
		if (limits[i].used && limits[i].has_cost && limits[i].key.database == database)
			pgl_budget_forget(&limits[i].budget);
}

/*
 * Put a ticket into the list of its limit, behind all that arrived before it.  A former first one
 * that finds itself second is woken, for it may hold the advisory lock that the newcomer will want.
 */
static void
link_ticket(int t, int i)
{
	int *link = &limits[i].first_ticket;

	while (*link != NONE && tickets[*link].sequence < tickets[t].sequence)
		link = &tickets[*link].next;
	if (link == &limits[i].first_ticket)
		wake_first(&limits[i]);
	tickets[t].next = *link;
	*link = t;
	tickets[t].limit = i;
	limits[i].ntickets++;
	if (link == &limits[i].first_ticket && limits[i].lock_holder != NONE)
		wake_first(&limits[i]);
}

/*
 * Take it out.  If it was the first, or has passed one who does not listen, the next one's turn has
 * come.
 */
static void
unlink_ticket(int t)
{
	PglLimit *limit = &limits[tickets[t].limit];
	int *link = &limit->first_ticket;
	bool was_first = first_listening(limit, pgl_clock_us()) == t || *link == t;

	while (*link != t)
		link = &tickets[*link].next;
	*link = tickets[t].next;
	limit->ntickets--;
	if (was_first)
		wake_first(limit);
}

/*
 * The lock manager knows no deadline of ours, so a call may sleep in its queue only if everybody
 * ahead gives up no later than it does: then it has reached the lock by its own deadline.
 */
bool
pgl_ticket_may_lock(int limit, int64_t deadline_us)
{
	int t;

	for (t = limits[limit].first_ticket; t != NONE; t = tickets[t].next)
		if (tickets[t].by_lock && tickets[t].deadline_us > deadline_us)
			return false;
	return true;
}

int
pgl_ticket_take(int limit, const PglTicketTerms *terms)
{
	int t = table->first_free_ticket;

	if (t == NONE)
		return PGL_NO_TICKET;
	table->first_free_ticket = tickets[t].next;
	tickets[t] =
		(PglTicket){.used = true,
					.by_lock = terms->by_lock,
					.for_window = terms->for_window,
					.pid = MyProcPid,
					.proc = pgl_my_proc_number(),
					.sequence = terms->arrival > 0 ? terms->arrival : table->next_sequence++,
					.deadline_us = terms->deadline_us};
	link_ticket(t, limit);
	return t;
}

/* Leave the list of the present limit, and the lock if it was held. */
static void
leave_limit(int t)
{
	PglLimit *limit = &limits[tickets[t].limit];

	if (limit->lock_holder == t)
		limit->lock_holder = NONE;
	unlink_ticket(t);
}

bool
pgl_ticket_move(int t, int limit, const PglTicketTerms *terms)
{
	tickets[t].for_window = terms->for_window;
	if (tickets[t].limit != limit)
	{
		leave_limit(t);
		tickets[t].by_lock = terms->by_lock;
		link_ticket(t, limit);
	}
	return tickets[t].by_lock;
}

uint64_t
pgl_ticket_drop(int t)
{
	Assert(tickets[t].used && tickets[t].pid == MyProcPid);
	leave_limit(t);
	tickets[t].used = false;
	tickets[t].next = table->first_free_ticket;
	table->first_free_ticket = t;
	return tickets[t].sequence;
}

void
pgl_ticket_reached_lock(int t)
{
	int limit = tickets[t].limit;
	uint64_t mine = tickets[t].sequence;
	int other;

	limits[limit].lock_holder = t;
	for (other = limits[limit].first_ticket; other != t; other = tickets[other].next)
		if (tickets[other].by_lock)
			break;
	if (other == t)
		return;
	/* Swap the places of the two: re-link both under each other's number. */
	unlink_ticket(t);
	unlink_ticket(other);
	tickets[t].sequence = tickets[other].sequence;
	tickets[other].sequence = mine;
	link_ticket(t, limit);
	link_ticket(other, limit);
}

bool
pgl_ticket_was_woken(int t)
{
	bool woken = tickets[t].woken;

	tickets[t].woken = false;
	return woken;
}

void
pgl_ticket_drop_all_mine(void)
{
	int t;

	for (t = 0; t < pgl_guc_max_leases; t++)
		if (tickets[t].used && tickets[t].pid == MyProcPid)
			(void) pgl_ticket_drop(t);
}

/* Fill one row of the view; window is NULL for the in-flight dimension. */
static void
fill_view(PglLimitView *row, const PglLimit *limit, PglDimension dimension, const PglWindow *window,
		  int64_t now_us)
{
	row->key = limit->key;
	memcpy(row->name, limit->name, PGL_NAME_SIZE);
	memcpy(row->subject, limit->subject, PGL_NAME_SIZE);
	row->dimension = dimension;
	row->waiters = limit->ntickets;
	row->shadow = limit->shadow;
	if (window)
	{
		row->window_kind = window->kind;
		row->max = window->burst;
		row->available = pgl_window_available(window, now_us);
		row->next_us = row->available > 0 ? 0 : pgl_window_wait(window, 1, now_us);
	}
	else
	{
		row->learnt = limit->max_inflight == 0;
		row->max = row->learnt ? limit->congestion.window : limit->max_inflight;
		row->available = row->max - limit->in_flight;
		row->next_us = row->available > 0 ? 0 : -1;
	}
}

int
pgl_limit_view(uint32_t database, PglLimitView **rows)
{
	PglLimitView *out = palloc_extended(sizeof(PglLimitView) * PGL_DIM_COUNT * pgl_guc_max_limits,
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < pgl_guc_max_limits; i++)
	{
		const PglLimit *limit = &limits[i];

		if (!limit->used || limit->key.database != database)
			continue;
		if (limit->has_requests)
			fill_view(&out[n++], limit, PGL_DIM_REQUESTS, &limit->requests, now_us);
		if (limit->has_tokens)
			fill_view(&out[n++], limit, PGL_DIM_TOKENS, &limit->tokens, now_us);
		if (limit->max_inflight > 0 || limit->congestion.window > 0)
			fill_view(&out[n++], limit, PGL_DIM_IN_FLIGHT, NULL, now_us);
	}
	pgl_shmem_unlock();
	*rows = out;
	return n;
}

int
pgl_limit_view_windows(uint32_t database, PglWindowView **rows)
{
	PglWindowView *out = palloc_extended(sizeof(PglWindowView) * pgl_guc_max_limits,
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < pgl_guc_max_limits; i++)
	{
		const PglLimit *limit = &limits[i];

		if (!limit->used || limit->key.database != database || limit->key.scope != PGL_SCOPE_DOMAIN)
			continue;
		memcpy(out[n].domain, limit->name, PGL_NAME_SIZE);
		out[n].in_flight = limit->in_flight;
		out[n].window = pgl_congestion_window(&limit->congestion, limit->in_flight, now_us);
		out[n].decreases = limit->congestion.decreases;
		out[n].last_sign = limit->congestion.last_sign;
		out[n].decreased_us = now_us - limit->congestion.decreased_us;
		n++;
	}
	pgl_shmem_unlock();
	*rows = out;
	return n;
}

static void
fill_budget_view(PglBudgetView *row, const PglLimit *limit, int64_t now_us)
{
	row->quota_id = (int64_t) limit->key.id;
	memcpy(row->subject, limit->subject, PGL_NAME_SIZE);
	row->soft = limit->soft;
	row->shadow = limit->shadow;
	row->loaded = limit->budget.loaded;
	row->terms = limit->budget.terms;
	row->spent = pgl_budget_spent(&limit->budget, now_us);
	row->reserved = limit->budget.reserved;
	row->percent = limit->budget.percent;
	row->waiters = limit->ntickets;
}

int
pgl_limit_view_budgets(uint32_t database, PglBudgetView **rows)
{
	PglBudgetView *out = palloc_extended(sizeof(PglBudgetView) * pgl_guc_max_limits,
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int64_t now_us = pgl_clock_us();
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < pgl_guc_max_limits; i++)
		if (limits[i].used && limits[i].has_cost && limits[i].key.database == database)
			fill_budget_view(&out[n++], &limits[i], now_us);
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
