/*
 * activity.h — what each backend is doing now, one slot per process.
 *
 * Written by its owner under the lock: at moments when it holds the lock anyhow, and now and then
 * while the rows of a statement need no calls (call/progress.c).
 */
#ifndef PGL_SHMEM_ACTIVITY_H
#define PGL_SHMEM_ACTIVITY_H

#include "state.h"

typedef enum PglActivityState
{
	PGL_ACTIVITY_IDLE,    /* no statement that calls runs */
	PGL_ACTIVITY_RUNNING, /* one does, and has nothing out */
	PGL_ACTIVITY_QUEUED,  /* waiting for a quota */
	PGL_ACTIVITY_CALLING, /* at least one attempt is out */
	PGL_ACTIVITY_BACKOFF  /* waiting before another attempt */
} PglActivityState;

/* What a statement has done so far; times are TimestampTz. */
typedef struct PglProgress
{
	int64_t since;       /* when it began; 0: it has not called */
	int64_t calls_since; /* when it had its first call, or expected its first row */
	int64_t ended;       /* 0: it runs */
	int64_t query_id;    /* 0: not computed */
	int64_t rows_done;   /* all calls of the row are done, and it was handed on */
	int64_t rows_taken;  /* of these, rows that had been expected */
	bool expects_rows;
	double rows_expected;
	int64_t calls; /* that were not answered from memo or journal */
	int64_t memo_hits;
	int64_t journal_hits;
	int64_t failures;
	int64_t retries; /* attempts beyond the first of a call */
	int64_t fallbacks;
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cost_nano_usd;
	int64_t unpriced; /* billed attempts without a price */
} PglProgress;

typedef struct PglActivity
{
	int pid; /* 0: the slot was never used by this process */
	uint32_t database;
	uint32_t role;
	PglActivityState state;
	char tenant[PGL_NAME_SIZE];
	char target[PGL_NAME_SIZE];
	int64_t since; /* TimestampTz */
	int64_t started;
	int64_t done;
	int64_t failed;
	int in_flight;
	PglProgress statement; /* that runs, or ran last, of those that call */
} PglActivity;

extern uint64_t pgl_activity_shmem_size(void);
extern void pgl_activity_shmem_init(void);
extern PglActivity *pgl_activity_mine(void);      /* locked */
extern void pgl_activity_clear_mine(void);        /* locked; at exit */
extern int pgl_activity_view(PglActivity **rows); /* unlocked, palloc'ed */
extern const char *pgl_activity_state_name(PglActivityState state);

#endif
