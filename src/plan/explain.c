/*
 * explain.c — what EXPLAIN says about the node.
 *
 * Without ANALYZE, an upper bound of the calls; with it, what happened.  In text a few lines of
 * prose, as buffers and WAL have; otherwise one property each.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"

#include "../pg/compat.h"
#include "scan.h"
#include "site.h"

#define NANO 1e9

/* ---- counting ---- */

static void
count_usage(PglScanStats *stats, const PglOutcome *outcome)
{
	stats->input_tokens += Max(outcome->usage.input_tokens, 0);
	stats->output_tokens += Max(outcome->usage.output_tokens, 0);
	if (outcome->cost_nano_usd >= 0)
		stats->cost_nano_usd += outcome->cost_nano_usd;
	else
		stats->unpriced += outcome->attempts > 0;
}

void
pgl_scan_count(PglScanState *scan, const PglOutcome *outcome)
{
	PglScanStats *stats = &scan->stats;

	stats->failures += outcome->sqlstate != 0;
	if (outcome->source && strcmp(outcome->source, "memo") == 0)
	{
		stats->memo_hits++;
		return;
	}
	if (outcome->source && strcmp(outcome->source, "journal") == 0)
	{
		stats->journal_hits++;
		return;
	}
	stats->calls++;
	stats->retries += Max(outcome->attempts - 1, 0);
	stats->fallbacks += outcome->sqlstate == 0 && outcome->fallback_depth > 0;
	stats->queue_us += outcome->queue_us;
	stats->model_us += Max(outcome->total_us - outcome->queue_us, 0);
	count_usage(stats, outcome);
}

/* ---- showing ---- */

/* Is it the first of those that make the same call? */
static bool
is_first(const PglProgram *program, int step)
{
	int i;

	for (i = 0; i < step; i++)
		if (equal(list_nth(program->steps, i), list_nth(program->steps, step)))
			return false;
	return true;
}

static List *
add_name(List *names, char *name)
{
	ListCell *cell;

	foreach (cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return names;
	return lappend(names, name);
}

/* How many different calls are made for a row, and of what. */
static int
list_calls(const PglProgram *program, List **names)
{
	int n = 0;
	int i;

	for (i = 0; i < list_length(program->steps); i++)
	{
		PglSite site;

		if (!list_nth_int(program->is_call, i) || !is_first(program, i))
			continue;
		pgl_site_read(list_nth(program->steps, i), &site);
		*names = add_name(*names, get_func_name(site.function));
		n++;
	}
	return n;
}

static void
explain_plan(PglScanState *scan, ExplainState *es)
{
	CustomScan *plan = (CustomScan *) scan->css.ss.ps.plan;
	PglProgram program = pgl_node_program(plan);
	List *names = NIL;
	int calls = list_calls(&program, &names);

	ExplainPropertyList("Functions", names, es);
	if (es->costs)
		ExplainPropertyFloat("Estimated Calls", NULL, outerPlan(plan)->plan_rows * calls, 0, es);
}

static void
indent(ExplainState *es)
{
	appendStringInfoSpaces(es->str, es->indent * 2);
}

static void
explain_text(const PglScanStats *stats, ExplainState *es)
{
	indent(es);
	appendStringInfo(es->str,
					 "Calls: " INT64_FORMAT "  Memo Hits: " INT64_FORMAT
					 "  Journal Hits: " INT64_FORMAT "  Failures: " INT64_FORMAT
					 "  Retries: " INT64_FORMAT "  Fallbacks: " INT64_FORMAT "\n",
					 stats->calls, stats->memo_hits, stats->journal_hits, stats->failures,
					 stats->retries, stats->fallbacks);
	if (stats->skipped + stats->null_inputs + stats->discarded > 0)
	{
		indent(es);
		appendStringInfo(es->str,
						 "Not Called: " INT64_FORMAT " by condition, " INT64_FORMAT
						 " for NULL  Discarded: " INT64_FORMAT "\n",
						 stats->skipped, stats->null_inputs, stats->discarded);
	}
	indent(es);
	appendStringInfo(
		es->str, "Tokens: input=" INT64_FORMAT " output=" INT64_FORMAT "  Cost: %.6f US dollars",
		stats->input_tokens, stats->output_tokens, stats->cost_nano_usd / NANO);
	if (stats->unpriced > 0)
		appendStringInfo(es->str, ", " INT64_FORMAT " calls without a price", stats->unpriced);
	appendStringInfoChar(es->str, '\n');
	if (es->timing)
	{
		indent(es);
		appendStringInfo(es->str, "Call Times: quota=%.3f model=%.3f  Waited: %.3f ms\n",
						 stats->queue_us / 1000.0, stats->model_us / 1000.0,
						 stats->wait_us / 1000.0);
	}
}

static void
explain_properties(const PglScanStats *stats, ExplainState *es)
{
	ExplainPropertyInteger("Calls", NULL, stats->calls, es);
	ExplainPropertyInteger("Memo Hits", NULL, stats->memo_hits, es);
	ExplainPropertyInteger("Journal Hits", NULL, stats->journal_hits, es);
	ExplainPropertyInteger("Failures", NULL, stats->failures, es);
	ExplainPropertyInteger("Retries", NULL, stats->retries, es);
	ExplainPropertyInteger("Fallbacks", NULL, stats->fallbacks, es);
	ExplainPropertyInteger("Not Called by Condition", NULL, stats->skipped, es);
	ExplainPropertyInteger("Not Called for NULL", NULL, stats->null_inputs, es);
	ExplainPropertyInteger("Discarded", NULL, stats->discarded, es);
	ExplainPropertyInteger("Input Tokens", NULL, stats->input_tokens, es);
	ExplainPropertyInteger("Output Tokens", NULL, stats->output_tokens, es);
	ExplainPropertyFloat("Cost", "US dollars", stats->cost_nano_usd / NANO, 9, es);
	ExplainPropertyInteger("Calls without Price", NULL, stats->unpriced, es);
	if (!es->timing)
		return;
	ExplainPropertyFloat("Quota Time", "ms", stats->queue_us / 1000.0, 3, es);
	ExplainPropertyFloat("Model Time", "ms", stats->model_us / 1000.0, 3, es);
	ExplainPropertyFloat("Waited", "ms", stats->wait_us / 1000.0, 3, es);
}

/* How well the window was filled depends on the moment, as memory does. */
static void
explain_window(const PglScanStats *stats, ExplainState *es)
{
	if (es->format == EXPLAIN_FORMAT_TEXT)
	{
		indent(es);
		appendStringInfo(es->str, "Peak in Flight: %d  Rows Ahead: %d  Memory: %zukB\n",
						 stats->peak_in_flight, stats->peak_rows,
						 (stats->peak_bytes + 1023) / 1024);
		return;
	}
	ExplainPropertyInteger("Peak in Flight", NULL, stats->peak_in_flight, es);
	ExplainPropertyInteger("Peak Rows Ahead", NULL, stats->peak_rows, es);
	ExplainPropertyInteger("Peak Memory", "kB", (int64) ((stats->peak_bytes + 1023) / 1024), es);
}

void
pgl_scan_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	PglScanState *scan = (PglScanState *) node;

	explain_plan(scan, es);
	if (!es->analyze)
		return;
	if (es->format == EXPLAIN_FORMAT_TEXT)
		explain_text(&scan->stats, es);
	else
		explain_properties(&scan->stats, es);
	explain_window(&scan->stats, es);
}
