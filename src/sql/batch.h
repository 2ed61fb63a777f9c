/*
 * batch.h — many prompts, answered in their order with many calls in flight.
 *
 * The caller says where prompts come from and where results go; the batch decides when to start the
 * next call.  Memory is bounded: prompts in flight, and results that wait for a slower one before
 * them, take up to work_mem.
 */
#ifndef PGL_SQL_BATCH_H
#define PGL_SQL_BATCH_H

#include "access/tupdesc.h"

#include "../call/call.h"

typedef struct PglBatchRow
{
	int64 number;       /* from 1, in the order of the prompts */
	const text *prompt; /* NULL: no call, and a NULL result */
	const char *key;    /* of the source's own; may be NULL */
	Datum value;        /* the result */
	bool isnull;
} PglBatchRow;

typedef struct PglBatch
{
	PglCallArgs args; /* of all calls; the prompt is set for each */
	/* Row type of results: llm_result, blessed.  NULL: results are texts, and a failure is raised
	 * when its turn has come. */
	TupleDesc result;
	/* Fill in prompt and key of the next row; false: there is none, and it is not asked again. Room
	 * is how many bytes may still be held.  What it allocates lives until it is asked again. */
	bool (*next)(void *owner, size_t room, PglBatchRow *row);
	/* Take the result of a row; it is freed afterwards. */
	void (*emit)(void *owner, const PglBatchRow *row);
	void *owner;
	double expected; /* rows of the source */
} PglBatch;

/* Throws on mistakes of the caller, on interrupts, what `next` and `emit` throw, and failures of
 * calls if they are not data.  Calls in flight are then cancelled by their resource owner. */
extern void pgl_batch_run(PglBatch *batch);

#endif
