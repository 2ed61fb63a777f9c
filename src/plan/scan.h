/*
 * scan.h — the executor's side of the node: many rows of the child in a ring, their calls in
 * flight, results in order.
 *
 *	scan.c     the node's life, and the loop: fill, wait, emit
 *	row.c      the ring: rows, their memory, the steps of each
 *	step.c     one step of one row: guard, arguments, call, result
 *	ahead.c    how far ahead rows may be fetched
 *	explain.c  what EXPLAIN says
 *
 * Memory: rows live in a context of the node, so does what their calls have answered.  A call has
 * memory of its own and belongs to the resource owner that ran the executor when it was started;
 * after an error that one frees it, and nobody looks at the node again.
 */
#ifndef PGL_PLAN_SCAN_H
#define PGL_PLAN_SCAN_H

#include "nodes/execnodes.h"
#include "lib/ilist.h"
#include "nodes/extensible.h"

#include "../call/function.h"
#include "../call/progress.h"
#include "node.h"
#include "run.h"

/* A step of the program, ready to be run. */
typedef struct PglStep
{
	AttrNumber column; /* of its result */
	int16 typlen;
	bool typbyval;
	Bitmapset *needs; /* steps whose results it uses */
	int same_as;      /* an earlier step that makes the same call; -1: none */
	ExprState *guard; /* NULL: none */
	bool is_call;
	ExprState *condition; /* if it is none */
	int nargs;
	ExprState **args;
	FmgrInfo function;
	FunctionCallInfo fcinfo;
	const PglFunction *callable; /* NULL: a shadow call */
} PglStep;

typedef enum PglStepState
{
	PGL_STEP_OPEN, /* needs results, or room for another call */
	PGL_STEP_RUNNING,
	PGL_STEP_DONE,
	PGL_STEP_FAILED /* raised when the row's turn comes */
} PglStepState;

typedef struct PglRow PglRow;

typedef struct PglStepRun
{
	PglStepState state;
	PglRow *row;
	int step;
	bool counts;        /* among the calls in flight */
	PglCall *call;      /* RUNNING, or FAILED by it */
	ErrorData *mistake; /* or by this */
	Datum value;        /* if it is passed by reference: for its release */
	bool has_value;
	int delay; /* of a shadow call: turns until it is delivered */
	dlist_node shadow_node;
} PglStepRun;

struct PglRow
{
	dlist_node node; /* in the ring */
	dlist_node open_node;
	bool is_open;  /* has a step that only needs room */
	uint64 number; /* of the rows fetched */
	TupleTableSlot *slot;
	int unfinished; /* steps neither DONE nor FAILED */
	int failed;     /* first step that FAILED; number of steps: none */
	Size bytes;     /* of its columns and calls */
	PglStepRun steps[FLEXIBLE_ARRAY_MEMBER];
};

/* For EXPLAIN ANALYZE. */
typedef struct PglScanStats
{
	int64 rows; /* fetched */
	int64 calls;
	int64 memo_hits;
	int64 journal_hits;
	int64 skipped;     /* by their guards */
	int64 null_inputs; /* NULL, without a call */
	int64 failures;
	int64 retries;
	int64 fallbacks;
	int64 input_tokens;
	int64 output_tokens;
	int64 cost_nano_usd;
	int64 unpriced;
	int64 queue_us;
	int64 model_us;
	int64 wait_us;   /* the node had nothing to do but wait */
	int64 discarded; /* started, and not asked for */
	int peak_in_flight;
	int peak_rows;
	Size peak_bytes;
} PglScanStats;

struct PglScanState
{
	CustomScanState css;
	PglRowDemand demand;
	int ninputs;
	int nsteps;
	PglStep *steps;
	ExprContext *step_context;

	/* Rows. */
	MemoryContext row_memory;
	dlist_head ring;
	dlist_head open;
	PglRow *emitted; /* what the last slot points into */
	PglRow **spare;
	int nspare;
	int nrows; /* in the ring */
	Size bytes;
	bool child_is_done;
	bool in_batches; /* nothing is out while the child or the plan nodes above run */
	bool has_failed; /* a row in the ring: no more are fetched */
	uint64 failed;   /* number of the first one: nothing more is done for those after it */

	/* Calls. */
	PglCallGroup *calls;
	int in_flight;
	int followers; /* wait for the same call of another row, and are not counted there */
	dlist_head shadows;
	int64_t last_turn_us;

	/* How far ahead. */
	PglRun *run;
	uint64 run_number;
	uint64 run_emitted;
	uint64 emitted_rows; /* since the last rescan */
	uint64 taken_rows;   /* the same, and those that were filtered out */
	ExprState *limit_count;
	ExprState *limit_offset;
	bool limit_is_known;
	bool has_limit;
	uint64 limit;
	bool has_told; /* the statement what is to be expected, in this run and scan */
	PglRowSource source;

	PglScanStats stats;
};

extern const CustomScanMethods pgl_scan_methods;
extern void pgl_scan_init(void); /* from _PG_init */
/* Wait for everything in flight: the executor stops here for now. */
extern void pgl_scan_settle(PglScanState *scan);

/* row.c */
extern PglRow *pgl_row_make(PglScanState *scan, TupleTableSlot *input);
extern void pgl_row_free(PglScanState *scan, PglRow *row);
extern void pgl_row_defer(PglScanState *scan, PglRow *row); /* it is open, and not begun yet */
/* Run the steps that can be run. */
extern void pgl_row_advance(PglScanState *scan, PglRow *row);
extern bool pgl_row_is_ready(const PglScanState *scan, const PglRow *row);
extern void pgl_row_set(PglScanState *scan, PglRow *row, int step, Datum value, bool is_null);
extern void pgl_row_charge(PglScanState *scan, PglRow *row, Size bytes);
extern void pgl_row_step_ended(PglScanState *scan, PglStepRun *run, PglStepState state);

/* step.c */
extern void pgl_step_begin(PglScanState *scan, EState *estate);
extern bool pgl_step_has_room(const PglScanState *scan);
extern void pgl_step_run(PglScanState *scan, PglStepRun *run);
extern void pgl_step_collect(PglScanState *scan); /* what has come to its end */
extern void pgl_step_turn(PglScanState *scan);    /* wait until something has */
extern void pgl_step_cancel(PglScanState *scan, PglStepRun *run);
extern void pgl_step_raise(PglScanState *scan, PglStepRun *run) __attribute__((noreturn));

/* ahead.c */
extern void pgl_ahead_begin(PglScanState *scan);
extern void pgl_ahead_enter(PglScanState *scan); /* the node is asked for a row */
extern bool pgl_ahead_may_fetch(const PglScanState *scan);
extern void pgl_ahead_taken(PglScanState *scan, bool emitted); /* a row, or it was filtered out */
extern void pgl_ahead_child_is_done(PglScanState *scan);
extern void pgl_ahead_restart(PglScanState *scan);

/* explain.c */
extern void pgl_scan_explain(CustomScanState *node, List *ancestors, struct ExplainState *es);
extern void pgl_scan_count(PglScanState *scan, const PglOutcome *outcome);

#endif
