/*
 * run.h — for how many rows the executor runs.
 *
 * A cursor runs the executor again and again, for some rows each time, and between two runs its
 * client thinks for as long as it likes.  So nodes ask how many rows are still wanted, and at the
 * end of each such run everything in flight is waited for.
 */
#ifndef PGL_PLAN_RUN_H
#define PGL_PLAN_RUN_H

#include "nodes/execnodes.h"

typedef struct PglScanState PglScanState;

typedef struct PglRun
{
	struct PglRun *outer;
	const EState *estate;
	uint64 number; /* of this run, in this backend */
	uint64 count;  /* rows wanted; 0: all */
	bool is_loop;  /* a procedural language wants them, and goes on as long as it likes */
	List *scans;   /* PglScanStates that were active in it */
} PglRun;

/* The run of a node; NULL: outside of any, as for rechecks of concurrently changed rows. */
extern PglRun *pgl_run_of(const EState *estate);
extern void pgl_run_add(PglRun *run, PglScanState *scan);
extern void pgl_run_init(void); /* from _PG_init, with the server */

#endif
