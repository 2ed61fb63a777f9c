/*
 * admissions.c — admission, routing and settlement alone: no provider, no executor, no metering.
 *
 * The smallest unit that decides: lock, decide, unlock; lock, settle the leases, tell the breaker,
 * unlock.  It reaches into the call layer; if that layer changes shape and this file no longer
 * compiles, the benchmark leaves it out and says so.
 */
#include "postgres.h"

#include <time.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "../call/admit.h"
#include "../call/budget.h"
#include "../core/clock.h"
#include "../pg/compat.h"
#include "../shmem/state.h"

PG_FUNCTION_INFO_V1(bench_admissions);

/* Classes of the histogram: 32 per power of two, from 1 ns. */
#define CLASSES 1024
#define PER_OCTAVE 32

static int64
clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000000 + now.tv_nsec;
}

static int
class_of(int64 ns)
{
	int octave;

	if (ns < PER_OCTAVE)
		return (int) Max(ns, 0);
	octave = 63 - __builtin_clzll((uint64) ns);
	return Min(CLASSES - 1, (octave - 4) * PER_OCTAVE + (int) ((ns >> (octave - 5)) - PER_OCTAVE));
}

static PglAdmitState
fresh_state(void)
{
	return (PglAdmitState){.call_lease = PGL_NO_LEASE,
						   .attempt_lease = PGL_NO_LEASE,
						   .ticket = PGL_NO_TICKET,
						   .first_choice = -1};
}

/* One admission with its settlement.  True: it was let through. */
static bool
admit_and_settle(PglPlan *plan, PglObstacle *obstacles, PglAdmission *admission)
{
	PglAdmitState state = fresh_state();
	const PglTarget *target;
	int64_t now_us;
	int64_t used;

	pgl_budget_lock(plan);
	now_us = pgl_clock_us();
	pgl_admit(plan, &state, false, now_us, obstacles, admission);
	pgl_shmem_unlock();
	if (admission->decision != PGL_DECISION_GO)
		return false;
	target = plan->candidates[admission->candidate].target;
	used = plan->candidates[admission->candidate].reserve_tokens / 2;
	now_us = pgl_clock_us();
	pgl_shmem_lock();
	pgl_lease_settle(&state.attempt_lease, 1, used, 0, now_us);
	pgl_lease_settle(&state.call_lease, 1, used, 0, now_us);
	pgl_breaker_success(pgl_breaker_peek(plan->database, PGL_BREAKER_DOMAIN, target->domain_id),
						admission->domain_probe, now_us);
	pgl_shmem_unlock();
	return true;
}

static ArrayType *
histogram_array(const int64 *histogram)
{
	Datum *items = palloc(sizeof(Datum) * CLASSES);
	int i;

	for (i = 0; i < CLASSES; i++)
		items[i] = Int64GetDatum(histogram[i]);
	return construct_array(items, CLASSES, INT8OID, 8, true, 'd');
}

/* bench_admissions(tenant, milliseconds, plan_each) → decisions, admitted, histogram of ns */
Datum
bench_admissions(PG_FUNCTION_ARGS)
{
	PglCallArgs args = {.tenant = text_to_cstring(PG_GETARG_TEXT_PP(0)),
						.prompt = "x",
						.prompt_len = 1,
						.max_wait_ms = -1};
	int64 stop_ns = clock_ns() + PG_GETARG_INT32(1) * INT64CONST(1000000);
	bool plan_each = PG_GETARG_BOOL(2);
	int64 *histogram = palloc0(sizeof(int64) * CLASSES);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "bench plan", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PglAdmission *admission = MemoryContextAllocZero(caller, sizeof(PglAdmission));
	const PglSnapshot *snapshot;
	PglPlan *plan = NULL;
	PglObstacle *obstacles = NULL;
	int64 decisions = 0;
	int64 admitted = 0;
	int64 now_ns;
	Datum values[3];
	bool nulls[3] = {false};
	TupleDesc desc;

	pgl_shmem_require();
	do
	{
		int64 start_ns = clock_ns();

		if (plan == NULL)
		{
			plan = pgl_plan_build(&args, args.prompt_len, &snapshot);
			obstacles = palloc0(sizeof(PglObstacle) * plan->ncandidates);
		}
		admitted += admit_and_settle(plan, obstacles, admission);
		decisions++;
		if (plan_each)
		{
			pgl_catalog_unpin(snapshot);
			MemoryContextReset(context);
			plan = NULL;
		}
		now_ns = clock_ns();
		histogram[class_of(now_ns - start_ns)]++;
		CHECK_FOR_INTERRUPTS();
	} while (now_ns < stop_ns);
	if (plan)
		pgl_catalog_unpin(snapshot);
	MemoryContextSwitchTo(caller);
	values[0] = Int64GetDatum(decisions);
	values[1] = Int64GetDatum(admitted);
	values[2] = PointerGetDatum(histogram_array(histogram));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
