/*
 * run.c — see run.h.
 *
 * The stack of runs is on the C stack: an error leaves it behind together with the nodes' states.
 */
#include "postgres.h"

#include "executor/executor.h"

#include "../pg/compat.h"
#include "run.h"
#include "scan.h"

static ExecutorRun_hook_type previous_run = NULL;
static PglRun *current = NULL;
static uint64 runs = 0;

PglRun *
pgl_run_of(const EState *estate)
{
	PglRun *run;

	for (run = current; run; run = run->outer)
		if (run->estate == estate)
			return run;
	return NULL;
}

void
pgl_run_add(PglRun *run, PglScanState *scan)
{
	MemoryContext caller = MemoryContextSwitchTo(run->estate->es_query_cxt);

	run->scans = lappend(run->scans, scan);
	MemoryContextSwitchTo(caller);
}

static void
settle(PglRun *run)
{
	ListCell *cell;

	foreach (cell, run->scans)
		pgl_scan_settle(lfirst(cell));
	list_free(run->scans);
}

static void
run_executor(PGL_EXECUTOR_RUN_PARAMETERS)
{
	PglRun run = {
		.outer = current,
		.estate = query->estate,
		.number = ++runs,
		.count = count,
		.is_loop = query->dest && query->dest->mydest == DestSPI,
	};

	current = &run;
	PG_TRY();
	{
		if (previous_run)
			previous_run(PGL_EXECUTOR_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(PGL_EXECUTOR_RUN_ARGUMENTS);
		if (count > 0)
			settle(&run);
	}
	PG_FINALLY();
	{
		current = run.outer;
	}
	PG_END_TRY();
}

void
pgl_run_init(void)
{
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = run_executor;
}
