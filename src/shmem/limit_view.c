/*
 * limit_view.c — what users see of limits, windows and budgets.
 *
 * The rows are copied under the lock, which these functions take, into palloc'ed memory.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "limit_internal.h"

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
		const PglLimit *limit = &pgl_limits[i];

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
		const PglLimit *limit = &pgl_limits[i];

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
		if (pgl_limits[i].used && pgl_limits[i].has_cost && pgl_limits[i].key.database == database)
			fill_budget_view(&out[n++], &pgl_limits[i], now_us);
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
