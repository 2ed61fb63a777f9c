/*
 * progress.h — how far the statement is, as llm_stat_activity shows it to others.
 *
 * Calls are counted where they happen (meter.c).  Rows come from sources, each of which says how
 * many it expects: scans and batches; what they have in common is that many rows are on their way.
 * A call outside of them is a row that nobody has expected.
 */
#ifndef PGL_CALL_PROGRESS_H
#define PGL_CALL_PROGRESS_H

#include <stdint.h>

/* Zero at first; in the memory of whoever hands the rows on. */
typedef struct PglRowSource
{
	uint64_t statement; /* what follows is its part in this statement */
	double expected;
	int64_t done;
} PglRowSource;

/* The statement calls, or will: there is something to show from now on. */
extern void pgl_progress_begin(void);
/* So many rows are still to come from the source in this statement.  May be said again. */
extern void pgl_progress_expect(PglRowSource *source, double rows);
/* The calls of a row are done, and it is handed on.  NULL: of no source. */
extern void pgl_progress_row_done(PglRowSource *source);
/* Nothing more comes of the source; if it was used in this statement at all. */
extern void pgl_progress_finish(PglRowSource *source);
/* Let others see it: by whoever holds the lock anyhow, or for its own sake.  Do not throw. */
extern void pgl_progress_show(void); /* locked */
extern void pgl_progress_publish(void);

#endif
