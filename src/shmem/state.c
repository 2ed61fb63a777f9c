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
#include "answer.h"
#include "balance.h"
#include "breaker.h"
#include "flight.h"
#include "lease.h"
#include "ledger.h"
#include "limit.h"
#include "spill.h"
#include "stat.h"
#include "state.h"

#define TRANCHE "pgllm"
#define LOCKS (PGL_LWLOCK_SPILL + 1)

static LWLockPadded *locks = NULL;
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
	RequestAddinShmemSpace(pgl_flight_shmem_size());
	RequestAddinShmemSpace(pgl_ledger_shmem_size());
	RequestAddinShmemSpace(pgl_answer_shmem_size());
	RequestAddinShmemSpace(pgl_spill_shmem_size());
	RequestNamedLWLockTranche(TRANCHE, LOCKS);
}

/*
 * The server stops, and every other process is gone: what still waits for the tables goes to the
 * spill files.  With an exit code something has crashed, and shared memory cannot be trusted.  An
 * immediate shutdown comes with code 0 too, but may have killed a process inside a critical
 * section; whatever that lock protects is left alone then, as after a crash.
 */
static void
save_ledger(int code, Datum arg)
{
	int i;

	if (code != 0)
		return;
	for (i = 0; i < LOCKS; i++)
	{
		if (!LWLockConditionalAcquire(&locks[i].lock, LW_EXCLUSIVE))
			return;
		LWLockRelease(&locks[i].lock);
	}
	pgl_spill_everything();
}

static void
attach_memory(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	locks = GetNamedLWLockTranche(TRANCHE);
	pgl_limit_shmem_init();
	pgl_lease_shmem_init();
	pgl_breaker_shmem_init();
	pgl_balance_shmem_init();
	pgl_stat_shmem_init();
	pgl_activity_shmem_init();
	pgl_flight_shmem_init();
	pgl_ledger_shmem_init();
	pgl_answer_shmem_init();
	pgl_spill_shmem_init();
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		on_shmem_exit(save_ledger, (Datum) 0);
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
	pgl_flight_leave_mine();
	pgl_ledger_unreserve_mine();
	pgl_shmem_unlock();
}

void
pgl_shmem_require(void)
{
	static int armed_for = 0;

	if (locks == NULL)
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
	LWLockAcquire(&locks[PGL_LWLOCK_MAIN].lock, LW_EXCLUSIVE);
}

void
pgl_shmem_unlock(void)
{
	LWLockRelease(&locks[PGL_LWLOCK_MAIN].lock);
}

LWLock *
pgl_shmem_lwlock(PglShmemLock which)
{
	return &locks[which].lock;
}

void
pgl_shmem_copy_name(char dest[PGL_NAME_SIZE], const char *name)
{
	strlcpy(dest, name ? name : "", PGL_NAME_SIZE);
}
