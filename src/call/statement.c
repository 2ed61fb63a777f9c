/*
 * statement.c — counters and limits of one top-level statement: see statement.h.
 *
 * The limit of cost is exact because what is spent plus the worst case of every call in flight
 * never exceeds it: a call reserves its dearest candidate before it starts, and gets another
 * attempt only while the sum, what its failed attempts cost included, still fits.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "../pg/guc.h"
#include "memo.h"
#include "progress.h"
#include "state.h"
#include "statement.h"

#define NANO 1e9

static PglStatement current = {.number = 1};

PglStatement *
pgl_statement_current(void)
{
	return &current;
}

void
pgl_statement_begin(void)
{
	uint64_t number = current.number;

	/* What a call runs for itself, its own look-ups above all, is part of its statement. */
	if (pgl_engine_unfinished() > 0)
		return;
	pgl_statement_close();
	pgl_memo_forget();
	memset(&current, 0, sizeof(current));
	current.number = number + 1;
}

static void
report(void)
{
	const PglProgress *did = &current.progress;

	if (did->calls + did->memo_hits + did->journal_hits == 0)
		return;
	if (did->unpriced > 0)
		ereport(
			NOTICE,
			(errmsg("pgllm: " INT64_FORMAT " calls, " INT64_FORMAT " input and " INT64_FORMAT
					" output tokens, %.6f US dollars and " INT64_FORMAT " attempts without a price",
					did->calls, did->input_tokens, did->output_tokens, did->cost_nano_usd / NANO,
					did->unpriced),
			 errdetail(
				 "memo hits " INT64_FORMAT ", journal hits " INT64_FORMAT ", failures " INT64_FORMAT
				 ", retries " INT64_FORMAT ", fallbacks " INT64_FORMAT,
				 did->memo_hits, did->journal_hits, did->failures, did->retries, did->fallbacks)));
	else
		ereport(
			NOTICE,
			(errmsg("pgllm: " INT64_FORMAT " calls, " INT64_FORMAT " input and " INT64_FORMAT
					" output tokens, %.6f US dollars",
					did->calls, did->input_tokens, did->output_tokens, did->cost_nano_usd / NANO),
			 errdetail(
				 "memo hits " INT64_FORMAT ", journal hits " INT64_FORMAT ", failures " INT64_FORMAT
				 ", retries " INT64_FORMAT ", fallbacks " INT64_FORMAT,
				 did->memo_hits, did->journal_hits, did->failures, did->retries, did->fallbacks)));
}

void
pgl_statement_end(void)
{
	if (pgl_engine_unfinished() > 0)
		return;
	if (pgl_guc_report)
		report();
	pgl_statement_begin();
}

void
pgl_statement_close(void)
{
	if (current.progress.since == 0 || current.progress.ended != 0)
		return;
	current.progress.ended = GetCurrentTimestamp();
	pgl_progress_publish();
}

static int64_t
max_nano_usd(void)
{
	return (int64_t) fmin(rint(pgl_guc_statement_max_cost * NANO), (double) (INT64_MAX / 2));
}

static bool
fits(int64_t worst_nano_usd, int64_t reserved_nano_usd)
{
	return pgl_guc_statement_max_cost < 0 ||
		   current.progress.cost_nano_usd + reserved_nano_usd <= max_nano_usd() - worst_nano_usd;
}

static PglStatementVerdict
judge(int64_t worst_nano_usd)
{
	if (pgl_guc_statement_max_calls >= 0 && current.progress.calls >= pgl_guc_statement_max_calls)
		return PGL_STATEMENT_NO_CALLS;
	if (pgl_guc_statement_max_cost >= 0 && worst_nano_usd < 0)
		return PGL_STATEMENT_NO_PRICE;
	if (fits(worst_nano_usd, current.reserved_nano_usd))
		return PGL_STATEMENT_MAY;
	return fits(worst_nano_usd, 0) ? PGL_STATEMENT_WAIT : PGL_STATEMENT_NO_MONEY;
}

bool
pgl_statement_must_wait(int64_t worst_nano_usd)
{
	return judge(worst_nano_usd) == PGL_STATEMENT_WAIT;
}

PglStatementVerdict
pgl_statement_take(int64_t worst_nano_usd)
{
	PglStatementVerdict verdict = judge(worst_nano_usd);

	if (verdict == PGL_STATEMENT_MAY)
	{
		current.progress.calls++;
		current.reserved_nano_usd += Max(worst_nano_usd, 0);
	}
	return verdict;
}

bool
pgl_statement_has_room(void)
{
	return pgl_guc_statement_max_cost < 0 ||
		   current.progress.cost_nano_usd + current.reserved_nano_usd <= max_nano_usd();
}

void
pgl_statement_release(uint64_t number, int64_t nano_usd)
{
	if (number == current.number)
		current.reserved_nano_usd -= Max(nano_usd, 0);
}

void
pgl_statement_abandon(uint64_t number, int64_t nano_usd)
{
	if (number == current.number)
		current.progress.cost_nano_usd += Max(nano_usd, 0);
}
