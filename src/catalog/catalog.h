/*
 * catalog.h — the configuration tables as one cached, immutable snapshot.
 *
 * A snapshot is built by SQL as the extension's owner, with everything resolved: routes point to
 * targets, targets to shards and models.  It lives in its own memory context below TopMemoryContext
 * and is replaced, never changed: a statement trigger on the tables invalidates it in every backend
 * at commit.  Calls in flight pin the snapshot they were planned from; the last unpin frees it.
 *
 * Names are in the server encoding.  `id` fields are 64-bit hashes of names, the keys of shared
 * memory.
 */
#ifndef PGL_CATALOG_CATALOG_H
#define PGL_CATALOG_CATALOG_H

#include "../core/budget.h"
#include "../core/hostpolicy.h"
#include "../core/uri.h"
#include "../core/window.h"
#include "../provider/provider.h"

#define PGL_PRICE_NONE INT64_C(-1)

typedef enum PglPriceComponent
{
	PGL_PRICE_INPUT,
	PGL_PRICE_OUTPUT,
	PGL_PRICE_CACHE_READ,
	PGL_PRICE_CACHE_WRITE,
	PGL_PRICE_COMPONENTS
} PglPriceComponent;

typedef enum PglStrategy
{
	PGL_STRATEGY_WEIGHTED,
	PGL_STRATEGY_STICKY,
	PGL_STRATEGY_LEAST_INFLIGHT,
	PGL_STRATEGY_LATENCY,
	PGL_STRATEGY_PRICE
} PglStrategy;

typedef enum PglSpill
{
	PGL_SPILL_ALWAYS,
	PGL_SPILL_THROTTLE,
	PGL_SPILL_OUTAGE,
	PGL_SPILL_NEVER
} PglSpill;

typedef enum PglQuotaPer
{
	PGL_PER_SHARED,
	PGL_PER_TENANT,
	PGL_PER_ROLE
} PglQuotaPer;

typedef enum PglOnExceed
{
	PGL_EXCEED_DEFAULT, /* as the tenant's on_limit says */
	PGL_EXCEED_ERROR,
	PGL_EXCEED_WAIT,
	PGL_EXCEED_NEXT_TIER
} PglOnExceed;

typedef enum PglRetention
{
	PGL_RETENTION_NONE,
	PGL_RETENTION_HASH,    /* SHA-256 of prompts and answers in the ledger */
	PGL_RETENTION_RESPONSE /* and answers in the journal */
} PglRetention;

typedef struct PglModel
{
	const char *name;
	uint64_t id;
	int context_window;    /* 0 = unknown */
	int max_output_tokens; /* 0 = unknown */
	int output_burndown;
	bool can_text; /* capabilities contains "text" */
} PglModel;

typedef struct PglShard
{
	const char *name;
	uint64_t id;
	const PglProvider *provider;
	const char *region; /* "" if none */
	PglEndpoint endpoint;
	PglNetScope network;
	const char *credential; /* reference; NULL if none */
	uint64_t credential_id; /* breaker of the credential */
	bool enabled;
} PglShard;

typedef struct PglTarget
{
	const char *name;
	uint64_t id;
	const PglShard *shard;
	const PglModel *model;
	const char *model_id;
	const char *geography; /* never NULL: "any" when nothing tells */
	const char *domain;    /* quota domain, the target's own name by default */
	uint64_t domain_id;
	int64_t rpm; /* strictest of the domain; 0 = none */
	int64_t tpm;
	PglWindowKind window_kind;
	int max_inflight; /* 0 = none */
	int timeout_ms;   /* 0 = none */
	int max_tokens;
	const char *parameters;
	bool enabled;
	int64_t price[PGL_PRICE_COMPONENTS]; /* nano-USD per million tokens; PGL_PRICE_NONE = unknown */
} PglTarget;

typedef struct PglRouteEntry
{
	int tier;
	int weight;
	const PglTarget *target;
} PglRouteEntry;

typedef struct PglRoute
{
	const char *name;
	uint64_t id;
	PglStrategy strategy;
	int max_attempts;
	PglSpill spill;
	int nentries; /* enabled rows only, ordered by tier, then target name */
	const PglRouteEntry *entries;
} PglRoute;

typedef struct PglQuota
{
	int64_t quota_id;
	const char *tenant; /* selectors; NULL = any */
	unsigned int role;  /* OID; 0 = any */
	const char *route;
	const char *model;
	PglQuotaPer per;
	int64_t rpm; /* 0 = none, as for the others */
	int64_t tpm;
	int max_inflight;
	int64_t burst_requests;
	int64_t burst_tokens;
	PglWindowKind window_kind;
	PglOnExceed on_exceed;
	bool shadow;
	bool soft;
	int64_t budget_nano_usd; /* -1 = none */
	PglBudgetPeriod budget_period;
	bool budget_rolling;
	const char *budget_time_zone;
} PglQuota;

typedef struct PglTenant
{
	const char *name;
	uint64_t id;
	const char *route;
	const char *const *extra_routes;
	int nextra_routes;
	const char *const *geographies; /* NULL = any */
	int ngeographies;
	const char *const *models; /* NULL = any */
	int nmodels;
	bool wait_at_limit;
	int max_wait_ms;
	PglRetention retention;
	bool cache; /* default of the option */
	int64_t cache_ttl_us;
	bool enabled;
	const char *const *grantees;
	int ngrantees;
	const PglQuota *const *quotas; /* those that name this tenant */
	int nquotas;
} PglTenant;

typedef struct PglSnapshot PglSnapshot;

/*
 * The current snapshot, pinned for the caller.  Throws when the extension is not created in this
 * database, or when the tables cannot be read.  Unpin exactly once; unpinning never throws.
 */
extern const PglSnapshot *pgl_catalog_pin(void);
extern void pgl_catalog_unpin(const PglSnapshot *snapshot);

/*
 * When the snapshot was read, comparable between backends: live limits follow the newest
 * configuration they have met.  0 for one that may be older than the newest commit, or that holds
 * changes of the own transaction, which others must not be bound by before they are committed.
 */
extern int64_t pgl_catalog_loaded_at(const PglSnapshot *snapshot);

extern const PglTenant *pgl_catalog_find_tenant(const PglSnapshot *snapshot, const char *name);
extern const PglRoute *pgl_catalog_find_route(const PglSnapshot *snapshot, const char *name);
extern int pgl_catalog_targets(const PglSnapshot *snapshot, const PglTarget *const **targets);
extern int pgl_catalog_shards(const PglSnapshot *snapshot, const PglShard *const **shards);
extern int pgl_catalog_tenants(const PglSnapshot *snapshot, const PglTenant *const **tenants);
/* All quotas, or only those that name no tenant; the others hang at their tenant. */
extern int pgl_catalog_quotas(const PglSnapshot *snapshot, const PglQuota *const **quotas);
extern int pgl_catalog_general_quotas(const PglSnapshot *snapshot, const PglQuota *const **quotas);

/* Every name hash in shared memory comes from here, so that all layers agree. */
extern uint64_t pgl_catalog_hash(const char *text);
/* Register the invalidation callback; called once per backend by _PG_init's descendants. */
extern void pgl_catalog_init(void);

#endif
