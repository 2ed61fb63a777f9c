/*
 * limit.c — the table of live limits: what they grant, and what is given back.
 *
 * Limits sit in an array, so that a lease can name one by its index; a shared hash finds the index
 * of a key.  A limit may only be evicted while idle, hence an index held by a lease or a ticket
 * stays good.  Those who wait for one are in ticket.c, what users see of it is in limit_view.c.
 *
 * A budget is evicted only while it has nothing spent or reserved in a period that still runs, and
 * not within a minute of its preparation: between that and the decision it must not go.
 *
 * Everything here runs under the lock of state.h, unless it says otherwise.
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "limit_internal.h"

#define NOT_TAKEN INT64_C(-1) /* the dimension was not limited when the lease began */
#define KEEP_BUDGET_US INT64_C(60000000)

typedef struct LimitIndex
{
	PglLimitKey key;
	int index;
} LimitIndex;

PglLimitTable *pgl_limit_table = NULL;
PglLimit *pgl_limits = NULL;
PglTicket *pgl_tickets = NULL;
static HTAB *index_by_key = NULL;

uint64_t
pgl_limit_shmem_size(void)
{
	Size size = MAXALIGN(sizeof(PglLimitTable));

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

	pgl_limit_table = ShmemInitStruct("pgllm limit table", sizeof(PglLimitTable), &found);
	pgl_limits =
		ShmemInitStruct("pgllm limits", mul_size(pgl_guc_max_limits, sizeof(PglLimit)), &found);
	pgl_tickets =
		ShmemInitStruct("pgllm tickets", mul_size(pgl_guc_max_leases, sizeof(PglTicket)), &found);
	index_by_key = ShmemInitHash("pgllm limit index", pgl_guc_max_limits, pgl_guc_max_limits, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	if (found)
		return;
	memset(pgl_limits, 0, sizeof(PglLimit) * pgl_guc_max_limits);
	memset(pgl_tickets, 0, sizeof(PglTicket) * pgl_guc_max_leases);
	pgl_limit_table->next_sequence = 1;
	pgl_limit_table->first_free_limit = 0;
	pgl_limit_table->nfree_limits = pgl_guc_max_limits;
	pgl_limit_table->first_free_ticket = 0;
	for (i = 0; i < pgl_guc_max_limits; i++)
		pgl_limits[i].next_free = i + 1 < pgl_guc_max_limits ? i + 1 : NONE;
	for (i = 0; i < pgl_guc_max_leases; i++)
		pgl_tickets[i].next = i + 1 < pgl_guc_max_leases ? i + 1 : NONE;
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
	hash_search(index_by_key, &pgl_limits[i].key, HASH_REMOVE, NULL);
	pgl_limit_table->nwindows -= pgl_limits[i].congestion.window > 0;
	pgl_limits[i].used = false;
	pgl_limits[i].next_free = pgl_limit_table->first_free_limit;
	pgl_limit_table->first_free_limit = i;
	pgl_limit_table->nfree_limits++;
}

bool
pgl_limit_has_room(int count)
{
	return pgl_limit_table->nfree_limits >= count;
}

bool
pgl_limit_make_room(int count, int64_t now_us)
{
	int i;

	for (i = 0; i < pgl_guc_max_limits; i++)
		if (is_idle(&pgl_limits[i], now_us))
			drop_limit(i);
	return pgl_limit_table->nfree_limits >= count;
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
		if (pgl_limit_table->first_free_limit == NONE)
			return NONE;
		entry = hash_search(index_by_key, &spec->key, HASH_ENTER_NULL, NULL);
		if (entry == NULL)
			return NONE;
		i = pgl_limit_table->first_free_limit;
		pgl_limit_table->first_free_limit = pgl_limits[i].next_free;
		pgl_limit_table->nfree_limits--;
		entry->index = i;
		memset(&pgl_limits[i], 0, sizeof(PglLimit));
		pgl_limits[i].used = true;
		pgl_limits[i].key = spec->key;
		pgl_limits[i].first_ticket = NONE;
		pgl_limits[i].lock_holder = NONE;
		pgl_shmem_copy_name(pgl_limits[i].name, spec->name);
		pgl_shmem_copy_name(pgl_limits[i].subject, spec->subject);
	}
	apply_spec(&pgl_limits[i], spec, now_us);
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

/*
 * The window of a domain, and its queue: `first` is the ticket ahead, NONE if it is the caller's
 * turn.  Among those who queue for other things the rules of those things apply.
 */
static void
judge_congestion(const PglLimit *limit, int first, int64_t now_us, PglLimitVerdict *verdict)
{
	int64_t wait_us = pgl_congestion_wait(&limit->congestion, limit->in_flight, now_us);

	if (wait_us == 0 && (first == NONE || !pgl_tickets[first].for_window))
		return;
	/* There is room, by a stall perhaps: the first one takes it, or shows that it is deaf. */
	if (wait_us == 0)
		pgl_ticket_wake(first);
	verdict->pass = false;
	verdict->busy = verdict->binding == 0;
	verdict->window = limit->congestion.window;
	verdict->look_us = wait_us > 0 ? wait_us : PGL_TICKET_DEAF_US;
}

void
pgl_limit_check(int i, const PglDemand *demand, int ticket, int64_t now_us,
				PglLimitVerdict *verdict)
{
	const PglLimit *limit = &pgl_limits[i];
	int first = pgl_ticket_first_listening(limit, now_us);

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
		(ticket == PGL_NO_TICKET || pgl_tickets[first].sequence < pgl_tickets[ticket].sequence))
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
	pgl_limit_table->nwindows += (after > 0) - (before > 0);
}

PglLimitDebit
pgl_limit_debit(int i, const PglDemand *demand, int64_t now_us)
{
	PglLimit *limit = &pgl_limits[i];
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

void
pgl_limit_settle(const PglLimitDebit *debit, int requests, int64_t tokens, int64_t nano_usd,
				 int64_t now_us)
{
	PglLimit *limit = &pgl_limits[debit->limit];

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
	pgl_ticket_wake_first(limit);
}

int
pgl_limit_in_flight(int i)
{
	return pgl_limits[i].in_flight;
}

uint32_t
pgl_limit_epoch(int i)
{
	return pgl_limits[i].congestion.epoch;
}

bool
pgl_limit_throttled(int i, uint32_t epoch, int64_t now_us)
{
	PglCongestion *congestion = &pgl_limits[i].congestion;
	int before = congestion->window;
	bool is_new = pgl_congestion_throttled(congestion, epoch, pgl_limits[i].in_flight, now_us);

	count_window(before, congestion->window);
	return is_new;
}

bool
pgl_limit_timed_out(int i, uint32_t epoch, int64_t now_us)
{
	PglCongestion *congestion = &pgl_limits[i].congestion;
	int before = congestion->window;
	bool is_new = pgl_congestion_timed_out(congestion, epoch, pgl_limits[i].in_flight, now_us);

	count_window(before, congestion->window);
	return is_new;
}

void
pgl_limit_succeeded(int i, uint32_t epoch, int64_t latency_us, int64_t tokens, int64_t now_us)
{
	PglCongestion *congestion = &pgl_limits[i].congestion;
	int before = congestion->window;

	pgl_congestion_succeeded(congestion, epoch, pgl_limits[i].in_flight, latency_us, tokens,
							 now_us);
	count_window(before, congestion->window);
}

int
pgl_limit_window(const PglLimitKey *key, int64_t now_us)
{
	int i = pgl_limit_peek(key);

	return i == NONE
			   ? 0
			   : pgl_congestion_window(&pgl_limits[i].congestion, pgl_limits[i].in_flight, now_us);
}

bool
pgl_limit_any_window(void)
{
	return pgl_limit_table->nwindows > 0;
}

void
pgl_limit_lift_windows(uint32_t database, const char *domain)
{
	int i;

	pgl_shmem_lock();
	for (i = 0; i < pgl_guc_max_limits; i++)
	{
		PglLimit *limit = &pgl_limits[i];

		if (!limit->used || limit->key.scope != PGL_SCOPE_DOMAIN ||
			limit->key.database != database || (domain && strcmp(limit->name, domain) != 0))
			continue;
		count_window(limit->congestion.window, 0);
		pgl_congestion_lift(&limit->congestion);
		pgl_ticket_wake_first(limit);
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
	pgl_limits[i].prepared_us = now_us;
	*loaded = pgl_limits[i].budget.loaded;
	*mark = pgl_budget_mark(&pgl_limits[i].budget, now_us);
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
	budget = &pgl_limits[i].budget;
	if (budget->loaded || (!force && !pgl_budget_same_period(&budget->terms, spec->budget)))
		return;
	(void) pgl_budget_load(budget, mark, entries, nentries, force, now_us);
	pgl_ticket_wake_first(&pgl_limits[i]);
}

int
pgl_limit_reach_budget(int i, int64_t now_us, PglBudgetVerdict *state)
{
	PglBudget *budget = &pgl_limits[i].budget;

	*state = budget_state(budget, 0, now_us);
	return pgl_limits[i].shadow ? 0 : pgl_budget_reach(budget, now_us);
}

void
pgl_limit_reload_budgets(uint32_t database)
{
	int i;

	for (i = 0; i < pgl_guc_max_limits; i++)
		if (pgl_limits[i].used && pgl_limits[i].has_cost && pgl_limits[i].key.database == database)
			pgl_budget_forget(&pgl_limits[i].budget);
}
