/*
 * statement.c — counters and limits of one top-level statement: see statement.h.
 *
 * The limit of cost is exact because what is spent plus the worst case of every call in flight
 * never exceeds it: a call reserves its dearest candidate before it starts, and gets another
 * attempt only while the sum, what its failed attempts cost included, still fits.
 */
#include "postgres.h"

#include <math.h>

#include "../pg/errors.h"
#include "../pg/guc.h"
#include "memo.h"
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

static void
refuse_calls(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_LM_STATEMENT_LIMIT),
			 errmsg("statement has made all %d calls it may make", pgl_guc_statement_max_calls),
			 errhint("Raise pgllm.statement_max_calls, or process fewer rows at a time.")));
}

static void
refuse_cost(int64_t worst_nano_usd)
{
	if (worst_nano_usd < 0)
		ereport(ERROR, (errcode(ERRCODE_LM_STATEMENT_LIMIT),
						errmsg("a call without a price cannot keep pgllm.statement_max_cost"),
						errhint("Prices are rows of llm_price.")));
	ereport(ERROR,
			(errcode(ERRCODE_LM_STATEMENT_LIMIT), errmsg("statement has spent what it may spend"),
			 errdetail("Spent %.9f, in flight at worst %.9f, this call at worst %.9f of "
					   "%.9f US dollars.",
					   current.cost_nano_usd / NANO, current.reserved_nano_usd / NANO,
					   worst_nano_usd / NANO, pgl_guc_statement_max_cost),
			 errhint("Raise pgllm.statement_max_cost, or lower max_tokens.")));
}

static bool
fits(int64_t worst_nano_usd, int64_t reserved_nano_usd)
{
	return pgl_guc_statement_max_cost < 0 ||
		   (worst_nano_usd >= 0 &&
			current.cost_nano_usd + reserved_nano_usd <= max_nano_usd() - worst_nano_usd);
}

static bool
has_made_all_calls(void)
{
	return pgl_guc_statement_max_calls >= 0 && current.calls >= pgl_guc_statement_max_calls;
}

bool
pgl_statement_must_wait(int64_t worst_nano_usd)
{
	return !has_made_all_calls() && !fits(worst_nano_usd, current.reserved_nano_usd) &&
		   fits(worst_nano_usd, 0);
}

void
pgl_statement_take(int64_t worst_nano_usd)
{
	if (has_made_all_calls())
		refuse_calls();
	if (!fits(worst_nano_usd, current.reserved_nano_usd))
		refuse_cost(worst_nano_usd);
	current.calls++;
	current.reserved_nano_usd += Max(worst_nano_usd, 0);
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
