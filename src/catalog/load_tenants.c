/*
 * load_tenants.c — routes, tenants and quotas of a snapshot.
 *
 * Every route has a row in llm_route_policy, which is its parent; rows of llm_route that are
 * switched off are left out.  Names that a tenant mentions (extra routes, models) stay text: they
 * may be gone by now, and then simply match nothing.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "internal.h"

static const char *const strategy_words[] = {"weighted", "sticky", "least_inflight",
											 "latency",  "price",  NULL};
static const char *const spill_words[] = {"always", "throttle", "outage", "never", NULL};
static const char *const per_words[] = {"shared", "tenant", "role", NULL};
static const char *const window_words[] = {"bucket", "strict", NULL};
static const char *const retention_words[] = {"none", "hash", "response", NULL};
static const char *const period_words[] = {"hour", "day", "month", NULL};
/* NULL is PGL_EXCEED_DEFAULT, the value before these. */
static const char *const exceed_words[] = {"error", "wait", "next_tier", NULL};

typedef struct RouteRow
{
	PglRoute *route;
	PglRouteEntry entry;
} RouteRow;

static void
fill_route(PglLoader *loader, PglRow *row, void *item)
{
	PglRoute *route = item;

	route->name = pgl_catalog_row_text(row);
	route->id = pgl_catalog_hash(route->name);
	route->strategy = (PglStrategy) pgl_catalog_row_choice(row, strategy_words);
	route->max_attempts = pgl_catalog_row_int4(row, 0);
	route->spill = (PglSpill) pgl_catalog_row_choice(row, spill_words);
}

static void
fill_entry(PglLoader *loader, PglRow *row, void *item)
{
	RouteRow *result = item;
	const char *route = pgl_catalog_row_text(row);
	const char *target;

	result->route = pgl_catalog_find_item(&loader->snapshot->routes, route);
	result->entry.tier = pgl_catalog_row_int4(row, 0);
	result->entry.weight = pgl_catalog_row_int4(row, 0);
	target = pgl_catalog_row_text(row);
	result->entry.target = pgl_catalog_find_item(&loader->snapshot->targets, target);
	if (result->route == NULL || result->entry.target == NULL)
		elog(ERROR, "route \"%s\" or its target \"%s\" is missing", route, target);
}

/* The rows come route by route, so the entries of each route lie side by side in one array. */
static void
load_entries(PglLoader *loader)
{
	PglItems rows;
	PglRouteEntry *entries;

	rows = pgl_catalog_read_items(
		loader,
		"SELECT route, tier, weight, target FROM %1$s.llm_route WHERE enabled"
		" ORDER BY route COLLATE \"C\", tier, target COLLATE \"C\"",
		sizeof(RouteRow), fill_entry);
	entries =
		MemoryContextAlloc(loader->snapshot->context, (rows.count + 1) * sizeof(PglRouteEntry));
	for (int i = 0; i < rows.count; i++)
	{
		RouteRow *row = rows.items[i];

		entries[i] = row->entry;
		if (row->route->nentries++ == 0)
			row->route->entries = &entries[i];
	}
}

static void
fill_tenant(PglLoader *loader, PglRow *row, void *item)
{
	PglTenant *tenant = item;

	tenant->name = pgl_catalog_row_text(row);
	tenant->id = pgl_catalog_hash(tenant->name);
	tenant->route = pgl_catalog_row_text(row);
	tenant->extra_routes = pgl_catalog_row_texts(row, &tenant->nextra_routes);
	tenant->geographies = pgl_catalog_row_texts(row, &tenant->ngeographies);
	tenant->models = pgl_catalog_row_texts(row, &tenant->nmodels);
	tenant->wait_at_limit = pgl_catalog_row_bool(row);
	tenant->max_wait_ms = pgl_catalog_row_int4(row, 0);
	tenant->retention = (PglRetention) pgl_catalog_row_choice(row, retention_words);
	tenant->cache = pgl_catalog_row_bool(row);
	tenant->cache_ttl_us = pgl_catalog_row_int8(row, 0);
	tenant->enabled = pgl_catalog_row_bool(row);
	tenant->grantees = pgl_catalog_row_texts(row, &tenant->ngrantees);
}

static void
fill_budget(PglRow *row, PglQuota *quota)
{
	int period;

	quota->budget_nano_usd = pgl_catalog_row_int8(row, -1);
	period = pgl_catalog_row_choice(row, period_words);
	quota->budget_period = (PglBudgetPeriod) Max(period, 0);
	quota->budget_rolling = pgl_catalog_row_bool(row);
	quota->budget_time_zone = pgl_catalog_row_text(row);
}

static void
fill_quota(PglLoader *loader, PglRow *row, void *item)
{
	PglQuota *quota = item;

	quota->quota_id = pgl_catalog_row_int8(row, 0);
	quota->tenant = pgl_catalog_row_text(row);
	quota->role = (Oid) pgl_catalog_row_int8(row, InvalidOid);
	quota->route = pgl_catalog_row_text(row);
	quota->model = pgl_catalog_row_text(row);
	quota->per = (PglQuotaPer) pgl_catalog_row_choice(row, per_words);
	quota->rpm = pgl_catalog_row_int8(row, 0);
	quota->tpm = pgl_catalog_row_int8(row, 0);
	quota->max_inflight = pgl_catalog_row_int4(row, 0);
	quota->burst_requests = pgl_catalog_row_int8(row, 0);
	quota->burst_tokens = pgl_catalog_row_int8(row, 0);
	quota->window_kind = (PglWindowKind) pgl_catalog_row_choice(row, window_words);
	quota->on_exceed = (PglOnExceed) (pgl_catalog_row_choice(row, exceed_words) + 1);
	quota->shadow = pgl_catalog_row_bool(row);
	quota->soft = pgl_catalog_row_bool(row);
	fill_budget(row, quota);
}

/* Quotas are ordered by tenant: each tenant gets its run of them, so that no call looks at others'.
 */
static void
hand_out_quotas(PglSnapshot *snapshot)
{
	PglTenant *tenant = NULL;

	snapshot->ngeneral_quotas = 0;
	for (int i = 0; i < snapshot->quotas.count; i++)
	{
		const PglQuota *quota = snapshot->quotas.items[i];

		if (quota->tenant == NULL)
		{
			snapshot->ngeneral_quotas++;
			continue;
		}
		if (tenant == NULL || strcmp(tenant->name, quota->tenant) != 0)
		{
			tenant = pgl_catalog_find_item(&snapshot->tenants, quota->tenant);
			if (tenant == NULL)
				elog(ERROR, "quota " INT64_FORMAT " has no tenant", quota->quota_id);
			tenant->quotas = (const PglQuota *const *) &snapshot->quotas.items[i];
		}
		tenant->nquotas++;
	}
}

void
pgl_catalog_load_tenants(PglLoader *loader)
{
	PglSnapshot *snapshot = loader->snapshot;

	snapshot->routes =
		pgl_catalog_read_items(loader,
							   "SELECT route, strategy, max_attempts, spill"
							   " FROM %1$s.llm_route_policy ORDER BY route COLLATE \"C\"",
							   sizeof(PglRoute), fill_route);
	load_entries(loader);
	snapshot->tenants =
		pgl_catalog_read_items(loader,
							   "SELECT t.tenant, t.route, t.extra_routes, t.geographies, t.models,"
							   " t.on_limit = 'wait', t.max_wait_ms, t.retention, t.cache,"
							   " (extract(epoch FROM t.cache_ttl) * 1000000)::int8, t.enabled,"
							   " ARRAY(SELECT g.grantee::text FROM %1$s.llm_tenant_grant AS g"
							   " WHERE g.tenant = t.tenant ORDER BY g.grantee)"
							   " FROM %1$s.llm_tenant AS t ORDER BY t.tenant COLLATE \"C\"",
							   sizeof(PglTenant), fill_tenant);
	snapshot->quotas = pgl_catalog_read_items(
		loader,
		"SELECT quota_id, tenant, role::oid::int8, route, model, per, rpm, tpm, max_inflight,"
		" burst_requests, burst_tokens, window_kind, on_exceed, mode = 'shadow', mode = 'soft',"
		" (budget_usd * 1000000000)::int8, budget_period, budget_window = 'rolling',"
		" budget_time_zone"
		" FROM %1$s.llm_quota ORDER BY tenant COLLATE \"C\" NULLS FIRST, quota_id",
		sizeof(PglQuota), fill_quota);
	hand_out_quotas(snapshot);
}
