/*
 * catalog.c — the current snapshot of the configuration: when it is built, and when it is freed.
 *
 * A statement trigger on each table registers a relcache invalidation of that table, the one
 * message that PostgreSQL delivers exactly when we need it: in the changing transaction at the end
 * of the command, in all other backends (and on standbys) after commit, and once more in the
 * changing backend at rollback, of a savepoint too.  DROP EXTENSION and TRUNCATE invalidate the
 * tables by themselves.
 *
 * The callback only counts.  A snapshot is stale when invalidations came after its load began;
 * messages that arrive during the load are therefore noticed after it.  The OIDs of the tables are
 * remembered before the first one is read.
 *
 * A snapshot is allocated below the caller's context and moved below TopMemoryContext when
 * complete: an error on the way frees it.  It is freed when it is neither current nor pinned.
 * Backend-local, no locks.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "internal.h"

/* A load overtaken by changes more often than this is used once, and built anew at the next pin. */
#define MAX_LOADS 3

static const char *const table_names[] = {"llm_model",  "llm_price",        "llm_shard",
										  "llm_target", "llm_route_policy", "llm_route",
										  "llm_tenant", "llm_tenant_grant", "llm_quota"};

static PglSnapshot *current = NULL;
static uint64 invalidations = 1; /* counted up by the callback */
static uint64 loaded_at = 0;     /* value of `invalidations` when the load of `current` began */
static TransactionId changing_xid = InvalidTransactionId; /* that last changed the tables here */
static bool provisional = false; /* `current` was read with a snapshot that may have been old */
static Oid table_oids[lengthof(table_names)];

static void
note_invalidation(Datum arg, Oid relid)
{
	bool ours = relid == InvalidOid;

	for (size_t i = 0; !ours && i < lengthof(table_oids); i++)
		ours = table_oids[i] == relid;
	if (ours)
		invalidations++;
}

void
pgl_catalog_init(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(note_invalidation, (Datum) 0);
	registered = true;
}

static void
remember_tables(const PglExtension *extension)
{
	for (size_t i = 0; i < lengthof(table_names); i++)
		table_oids[i] = get_relname_relid(table_names[i], extension->schema);
}

/*
 * Body of run_as_owner.  The newest committed state is what counts, even in a REPEATABLE READ
 * transaction with an old snapshot: limits and routes are no data of the query.  Parallel mode
 * allows no new snapshot.
 */
static void
load_tables(const PglExtension *extension, void *arg)
{
	PglLoader *loader = arg;

	loader->extension = extension;
	remember_tables(extension);
	PushActiveSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	pgl_catalog_load_targets(loader);
	pgl_catalog_load_tenants(loader);
	PopActiveSnapshot();
}

void
pgl_catalog_note_own_change(void)
{
	changing_xid = GetTopTransactionId();
}

static bool
changed_by_own_transaction(void)
{
	return TransactionIdIsValid(changing_xid) && changing_xid == GetTopTransactionIdIfAny();
}

static PglSnapshot *
build_snapshot(void)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgllm catalog", ALLOCSET_DEFAULT_SIZES);
	PglLoader loader = {NULL, MemoryContextAllocZero(context, sizeof(PglSnapshot)),
						GetCurrentTimestamp()};

	loader.snapshot->context = context;
	if (!IsInParallelMode() && !changed_by_own_transaction())
		loader.snapshot->loaded_at = loader.now;
	pgl_catalog_run_as_owner(load_tables, &loader);
	MemoryContextSetParent(context, TopMemoryContext);
	return loader.snapshot;
}

static void
free_unused(PglSnapshot *snapshot)
{
	if (snapshot != NULL && snapshot->pins == 0 && snapshot != current)
		MemoryContextDelete(snapshot->context);
}

static bool
is_stale(void)
{
	return current == NULL || loaded_at != invalidations || (provisional && !IsInParallelMode()) ||
		   (current->next_price_at != DT_NOEND && GetCurrentTimestamp() >= current->next_price_at);
}

static void
replace_current(void)
{
	uint64 began = invalidations;
	PglSnapshot *fresh = build_snapshot();
	PglSnapshot *old = current;

	current = fresh;
	loaded_at = began;
	provisional = IsInParallelMode();
	free_unused(old);
}

const PglSnapshot *
pgl_catalog_pin(void)
{
	pgl_catalog_init();
	AcceptInvalidationMessages();
	for (int i = 0; i < MAX_LOADS && is_stale(); i++)
		replace_current();
	current->pins++;
	return current;
}

void
pgl_catalog_unpin(const PglSnapshot *snapshot)
{
	PglSnapshot *mine = (PglSnapshot *) snapshot;

	Assert(mine->pins > 0);
	mine->pins--;
	free_unused(mine);
}

int64_t
pgl_catalog_loaded_at(const PglSnapshot *snapshot)
{
	return snapshot->loaded_at;
}

const PglTenant *
pgl_catalog_find_tenant(const PglSnapshot *snapshot, const char *name)
{
	return pgl_catalog_find_item(&snapshot->tenants, name);
}

const PglRoute *
pgl_catalog_find_route(const PglSnapshot *snapshot, const char *name)
{
	return pgl_catalog_find_item(&snapshot->routes, name);
}

int
pgl_catalog_targets(const PglSnapshot *snapshot, const PglTarget *const **targets)
{
	*targets = (const PglTarget *const *) snapshot->targets.items;
	return snapshot->targets.count;
}

int
pgl_catalog_shards(const PglSnapshot *snapshot, const PglShard *const **shards)
{
	*shards = (const PglShard *const *) snapshot->shards.items;
	return snapshot->shards.count;
}

int
pgl_catalog_tenants(const PglSnapshot *snapshot, const PglTenant *const **tenants)
{
	*tenants = (const PglTenant *const *) snapshot->tenants.items;
	return snapshot->tenants.count;
}

int
pgl_catalog_quotas(const PglSnapshot *snapshot, const PglQuota *const **quotas)
{
	*quotas = (const PglQuota *const *) snapshot->quotas.items;
	return snapshot->quotas.count;
}

int
pgl_catalog_general_quotas(const PglSnapshot *snapshot, const PglQuota *const **quotas)
{
	*quotas = (const PglQuota *const *) snapshot->quotas.items;
	return snapshot->ngeneral_quotas;
}

/* 0 marks a free slot in shared memory, so no name may have it. */
uint64_t
pgl_catalog_hash(const char *name)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) name, (int) strlen(name), 0);

	return hash == 0 ? 1 : hash;
}
