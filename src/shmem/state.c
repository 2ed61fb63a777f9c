/*
 * state.c — shared memory start-up, the lock, and clean-up when a backend exits.
 *
 * Each module of this folder sizes and initialises its own part; the hooks here call them in turn.
 * A backend arms its exit callback at its first call, so sessions that never call cost nothing.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "activity.h"
#include "balance.h"
#include "breaker.h"
#include "lease.h"
#include "limit.h"
#include "stat.h"
#include "state.h"

#define TRANCHE "pgllm"

static LWLock *shared_lock = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* Processes that can own a slot: backends, workers, auxiliaries. */
int
pgl_shmem_max_procs(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(pgl_limit_shmem_size());
	RequestAddinShmemSpace(pgl_lease_shmem_size());
	RequestAddinShmemSpace(pgl_breaker_shmem_size());
	RequestAddinShmemSpace(pgl_balance_shmem_size());
	RequestAddinShmemSpace(pgl_stat_shmem_size());
	RequestAddinShmemSpace(pgl_activity_shmem_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
attach_memory(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pgl_limit_shmem_init();
	pgl_lease_shmem_init();
	pgl_breaker_shmem_init();
	pgl_balance_shmem_init();
	pgl_stat_shmem_init();
	pgl_activity_shmem_init();
	shared_lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	LWLockRelease(AddinShmemInitLock);
}

void
pgl_shmem_init(void)
{
	PGL_INSTALL_SHMEM_REQUEST(request_memory, previous_request_hook);
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_memory;
}

/*
 * A backend leaves.  Its transaction was aborted before, which gave back what its calls held; this
 * is the net below, so that nothing can stay behind, and whoever waited is woken.
 */
static void
release_everything(int code, Datum arg)
{
	pgl_shmem_lock();
	pgl_ticket_drop_all_mine();
	pgl_lease_abandon_mine(pgl_clock_us());
	pgl_breaker_release_mine();
	pgl_activity_clear_mine();
	pgl_shmem_unlock();
}

void
pgl_shmem_require(void)
{
	static int armed_for = 0;

	if (shared_lock == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("pgllm must be loaded via shared_preload_libraries"),
						errhint("Add pgllm to shared_preload_libraries and restart the server.")));
	if (armed_for != MyProcPid)
	{
		on_shmem_exit(release_everything, (Datum) 0);
		armed_for = MyProcPid;
	}
}

void
pgl_shmem_lock(void)
{
	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
}

void
pgl_shmem_unlock(void)
{
	LWLockRelease(shared_lock);
}

void
pgl_shmem_copy_name(char dest[PGL_NAME_SIZE], const char *name)
{
	strlcpy(dest, name ? name : "", PGL_NAME_SIZE);
}
