/*
 * progress.c — see progress.h.
 *
 * The statement's counters are backend-local, and copied into the backend's slot whenever a call
 * makes it take the lock.  Rows that need no call would not be seen then, so they are looked after
 * by the clock; never is the lock taken for each row.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/backend_status.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../shmem/activity.h"
#include "progress.h"
#include "state.h"
#include "statement.h"

#define PUBLISH_EVERY_US INT64_C(100000)

static int64_t published_us = 0;

void
pgl_progress_begin(void)
{
	PglProgress *progress = &pgl_statement_current()->progress;

	if (progress->since != 0)
		return;
	pgl_shmem_require();
	progress->calls_since = GetCurrentTimestamp();
	progress->since = GetCurrentStatementStartTimestamp();
	if (progress->since == 0)
		progress->since = progress->calls_since;
	progress->query_id = (int64_t) pgstat_get_my_query_id();
}

/* ---- rows ---- */

static void
publish_sometimes(void)
{
	int64_t now_us = pgl_clock_us();

	if (now_us - published_us < PUBLISH_EVERY_US)
		return;
	published_us = now_us;
	pgl_progress_publish();
}

void
pgl_progress_expect(PglRowSource *source, double rows)
{
	PglStatement *statement = pgl_statement_current();

	pgl_progress_begin();
	if (source->statement != statement->number)
		*source = (PglRowSource){.statement = statement->number};
	rows += source->done;
	statement->progress.expects_rows = true;
	statement->progress.rows_expected += rows - source->expected;
	source->expected = rows;
	publish_sometimes();
}

void
pgl_progress_row_done(PglRowSource *source)
{
	PglStatement *statement = pgl_statement_current();

	pgl_progress_begin();
	statement->progress.rows_done++;
	if (source && source->statement == statement->number)
	{
		source->done++;
		statement->progress.rows_taken++;
	}
	publish_sometimes();
}

void
pgl_progress_finish(PglRowSource *source)
{
	if (source->statement == pgl_statement_current()->number)
		pgl_progress_expect(source, 0);
}

/* ---- for others to see ---- */

/* What the backend does, or waits for. */
static PglActivityState
state_now(const PglActivity *slot)
{
	if (slot->in_flight > 0)
		return PGL_ACTIVITY_CALLING;
	if (pgl_queue_length() > 0)
		return PGL_ACTIVITY_QUEUED;
	if (pgl_engine_backing_off() > 0)
		return PGL_ACTIVITY_BACKOFF;
	/* An answer that is being recorded, or the same call of another backend. */
	if (pgl_engine_unfinished() > 0)
		return PGL_ACTIVITY_CALLING;
	return pgl_statement_current()->progress.ended ? PGL_ACTIVITY_IDLE : PGL_ACTIVITY_RUNNING;
}

void
pgl_progress_show(void)
{
	const PglProgress *progress = &pgl_statement_current()->progress;
	PglActivity *slot = pgl_activity_mine();
	PglActivityState state = state_now(slot);

	slot->role = GetOuterUserId();
	if (slot->state != state)
		slot->since = GetCurrentTimestamp();
	slot->state = state;
	if (state != PGL_ACTIVITY_CALLING)
		slot->target[0] = '\0';
	if (progress->since != 0)
		slot->statement = *progress;
}

void
pgl_progress_publish(void)
{
	pgl_shmem_lock();
	pgl_progress_show();
	pgl_shmem_unlock();
}
