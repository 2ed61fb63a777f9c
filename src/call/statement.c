/*
 * statement.c — counters and limits of one top-level statement: see statement.h.
 *
 * The limit of cost is exact because what is spent plus the worst case of every call in flight
 * never exceeds it: a call reserves its dearest candidate before it starts, and gets another
 * attempt only while the sum, what its failed attempts cost included, still fits.
 */
#include "postgres.h"

#include <math.h>

#include "../pg/guc.h"
#include "memo.h"
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
	pgl_memo_forget();
	memset(&current, 0, sizeof(current));
	current.number = number + 1;
}

static void
report(void)
{
	if (current.unpriced > 0)
		ereport(
			NOTICE,
			(errmsg("pgllm: " INT64_FORMAT " calls, " INT64_FORMAT " input and " INT64_FORMAT
					" output tokens, %.6f US dollars and " INT64_FORMAT " attempts without a price",
					current.calls, current.input_tokens, current.output_tokens,
					current.cost_nano_usd / NANO, current.unpriced),
			 errdetail("memo hits " INT64_FORMAT ", journal hits " INT64_FORMAT
					   ", failures " INT64_FORMAT ", retries " INT64_FORMAT
					   ", fallbacks " INT64_FORMAT,
					   current.memo_hits, current.journal_hits, current.failures, current.retries,
					   current.fallbacks)));
	else
		ereport(NOTICE, (errmsg("pgllm: " INT64_FORMAT " calls, " INT64_FORMAT
								" input and " INT64_FORMAT " output tokens, %.6f US dollars",
								current.calls, current.input_tokens, current.output_tokens,
								current.cost_nano_usd / NANO),
						 errdetail("memo hits " INT64_FORMAT ", journal hits " INT64_FORMAT
								   ", failures " INT64_FORMAT ", retries " INT64_FORMAT
								   ", fallbacks " INT64_FORMAT,
								   current.memo_hits, current.journal_hits, current.failures,
								   current.retries, current.fallbacks)));
}

void
pgl_statement_end(void)
{
	if (pgl_guc_report && current.calls + current.memo_hits + current.journal_hits > 0)
		report();
	pgl_statement_begin();
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
		   current.cost_nano_usd + reserved_nano_usd <= max_nano_usd() - worst_nano_usd;
}

static PglStatementVerdict
judge(int64_t worst_nano_usd)
{
	if (pgl_guc_statement_max_calls >= 0 && current.calls >= pgl_guc_statement_max_calls)
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
		current.calls++;
		current.reserved_nano_usd += Max(worst_nano_usd, 0);
	}
	return verdict;
}

bool
pgl_statement_has_room(void)
{
	return pgl_guc_statement_max_cost < 0 ||
		   current.cost_nano_usd + current.reserved_nano_usd <= max_nano_usd();
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
		current.cost_nano_usd += Max(nano_usd, 0);
}
