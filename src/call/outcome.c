/*
 * outcome.c — the end of a call: its answer, or an error that says what happened and what to do.
 *
 * Messages follow PostgreSQL's style.  DETAIL has one sentence per binding limit, attempt and
 * candidate that was passed over, and ends with retry_after_ms where a time is known.  Prompts and
 * answers never appear; the provider's own words do, cut to a line.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/errors.h"
#include "../pg/guc.h"
#include "budget.h"
#include "state.h"

#define BUDGET_NEVER_HINT "Lower max_tokens or shorten the prompt; waiting does not help."

/* Our own words around names are in the server encoding; a provider's message is UTF-8. */
static char *
from_utf8(const char *source, size_t len, size_t *out_len)
{
	Oid conversion;
	char *converted;
	int read;

	*out_len = len;
	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return pnstrdup(source, len);
	conversion = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(conversion) || len > MaxAllocSize / MAX_CONVERSION_GROWTH - 1)
		return NULL;
	converted = palloc(len * MAX_CONVERSION_GROWTH + 1);
	read = pg_do_encoding_conversion_buf(
		conversion, PG_UTF8, GetDatabaseEncoding(),
		unconstify(unsigned char *, (const unsigned char *) source), len,
		(unsigned char *) converted, len * MAX_CONVERSION_GROWTH + 1, true);
	if (read != len)
		return NULL;
	*out_len = strlen(converted);
	return converted;
}

/* What a provider said, in the server encoding. */
const char *
pgl_outcome_words(const char *message)
{
	size_t len;
	const char *words = from_utf8(message, strlen(message), &len);

	return words ? words : "(in another encoding)";
}

static void
set_identity(PglCall *call)
{
	PglOutcome *outcome = &call->outcome;
	const PglTarget *target;

	outcome->total_us = pgl_clock_us() - call->started_us;
	outcome->attempts = call->nattempts;
	if (call->nattempts == 0)
		return;
	target = call->plan->candidates[call->candidate].target;
	outcome->target = target->name;
	outcome->shard = target->shard->name;
	outcome->region = target->shard->region[0] ? target->shard->region : NULL;
	outcome->model = target->model->name;
	outcome->usage = call->reply.usage;
	outcome->request_id =
		call->reply.request_id[0] ? pgl_outcome_words(call->reply.request_id) : NULL;
	outcome->finish_reason =
		call->reply.finish_reason[0] ? pgl_outcome_words(call->reply.finish_reason) : NULL;
}

/* The outcome is known; it is returned when its record is durable, if that is asked for. */
static void
conclude(PglCall *call)
{
	if (call->last_record > 0 && (call->wants_durable || call->answer_record > 0))
		pgl_durable_await(call, PGL_CALL_RECORDING, call->last_record);
	else
		call->phase = PGL_CALL_DONE;
}

/* Give back what the call still holds; a refusal gets its record. */
static void
close_call(PglCall *call)
{
	bool refused = call->nattempts == 0 && call->slot != PGL_NO_SLOT;
	PglRecord record;

	if (refused)
		pgl_record_refused(call, &record);
	pgl_shmem_lock();
	pgl_lease_settle(&call->admit.call_lease, call->any_arrived, call->billed_tokens, 0,
					 pgl_clock_us());
	if (refused)
		(void) pgl_ledger_push(&call->slot, &record, false);
	pgl_ledger_unreserve(&call->slot);
	pgl_ledger_unreserve(&call->intent_slot);
	pgl_shmem_unlock();
}

static void
fail(PglCall *call, int sqlstate, const char *message, const char *detail, const char *hint)
{
	PglOutcome *outcome = &call->outcome;

	set_identity(call);
	outcome->sqlstate = sqlstate;
	outcome->response = NULL;
	outcome->message = message;
	outcome->detail = detail && detail[0] ? detail : NULL;
	outcome->hint = hint;
	close_call(call);
	conclude(call);
}

static void
begin_sentence(StringInfo detail)
{
	if (detail->len > 0)
		appendStringInfoChar(detail, ' ');
}

static void
describe_limit(StringInfo detail, const PglObstacle *obstacle, int64_t needed_tokens)
{
	static const char *const dimensions[] = {"requests per minute", "tokens per minute",
											 "calls in flight"};
	const PglLimitSpec *limit = obstacle->limit;
	const int64_t maximum[] = {limit->rpm, limit->tpm, limit->max_inflight};
	int d;

	begin_sentence(detail);
	if (limit->budget)
	{
		pgl_budget_describe(detail, obstacle);
		return;
	}
	switch (limit->key.scope)
	{
		case PGL_SCOPE_DOMAIN:
			appendStringInfo(detail, "Quota domain \"%s\"", limit->name);
			break;
		case PGL_SCOPE_TARGET:
			appendStringInfo(detail, "Target \"%s\"", limit->name);
			break;
		default:
			appendStringInfo(detail, "%c%s", pg_toupper(limit->name[0]), limit->name + 1);
	}
	if (limit->subject[0])
		appendStringInfo(detail, " of \"%s\"", limit->subject);
	if (obstacle->verdict.binding == 0)
		appendStringInfoString(detail, " has earlier calls in its queue");
	for (d = 0; d < lengthof(maximum); d++)
		if (obstacle->verdict.binding & (1 << d))
			appendStringInfo(detail, " is limited (%s: " INT64_FORMAT ")", dimensions[d],
							 maximum[d]);
	if (obstacle->verdict.never)
		appendStringInfo(detail, " and the call needs " INT64_FORMAT " tokens", needed_tokens);
	appendStringInfoChar(detail, '.');
}

static void
describe_window(StringInfo detail, const PglObstacle *obstacle)
{
	appendStringInfo(detail, "Quota domain \"%s\" is busy", obstacle->limit->name);
	if (obstacle->verdict.window > 0)
		appendStringInfo(detail, " (at most %d calls in flight since it was last throttled)",
						 obstacle->verdict.window);
	appendStringInfoChar(detail, '.');
}

static void
describe_retry_after(StringInfo detail, int64_t wait_us)
{
	if (wait_us <= 0)
		return;
	begin_sentence(detail);
	appendStringInfo(detail, "retry_after_ms=" INT64_FORMAT, (wait_us + 999) / 1000);
}

static void
describe_attempts(StringInfo detail, const PglCall *call)
{
	int i;

	for (i = 0; i < Min(call->nattempts, PGL_CALL_MAX_ATTEMPTS); i++)
	{
		const PglAttempt *attempt = &call->failures[i];

		begin_sentence(detail);
		appendStringInfo(detail, "Attempt %d on \"%s\": %s", i + 1, attempt->target->name,
						 pgl_cause_name(attempt->cause));
		if (attempt->status > 0)
			appendStringInfo(detail, ", status %d", attempt->status);
		if (attempt->error_name[0])
			appendStringInfo(detail, ", %s", pgl_outcome_words(attempt->error_name));
		if (attempt->message[0])
			appendStringInfo(detail, " (%s)", pgl_outcome_words(attempt->message));
		appendStringInfoChar(detail, '.');
	}
}

static void
describe_candidates(StringInfo detail, const PglCall *call)
{
	int c;

	for (c = 0; c < call->plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &call->plan->candidates[c];
		const PglObstacle *obstacle = &call->obstacles[c];

		if (candidate->tries > 0 && obstacle->block == PGL_BLOCK_TRIED)
			continue;
		if (obstacle->block == PGL_BLOCK_NONE || obstacle->block == PGL_BLOCK_TRIED)
			continue;
		if (obstacle->block == PGL_BLOCK_LIMIT)
		{
			describe_limit(detail, obstacle, candidate->reserve_tokens);
			continue;
		}
		begin_sentence(detail);
		if (obstacle->block == PGL_BLOCK_BUSY)
		{
			describe_window(detail, obstacle);
			continue;
		}
		appendStringInfo(detail, "Target \"%s\": %s.", candidate->target->name,
						 obstacle->block == PGL_BLOCK_DROPPED ? candidate->dropped
															  : pgl_block_name(obstacle->block));
	}
}

void
pgl_outcome_refused(PglCall *call)
{
	const PglAdmission *admission = &call->admission;
	const char *tenant = call->plan->tenant ? call->plan->tenant->name : "";
	bool budget = admission->binding[0].limit->budget != NULL;
	bool never = false;
	StringInfoData detail;
	int64_t wait_us = 0;
	int i;

	initStringInfo(&detail);
	describe_attempts(&detail, call);
	for (i = 0; i < admission->nbinding; i++)
	{
		const PglObstacle *obstacle = &admission->binding[i];

		describe_limit(&detail, obstacle, call->plan->reserve_tokens);
		never |= obstacle->verdict.never;
		wait_us = Max(wait_us, obstacle->wait_us);
	}
	if (!never)
		describe_retry_after(&detail, wait_us);
	call->outcome.refused = call->nattempts == 0;
	if (budget)
		fail(call, ERRCODE_LM_BUDGET, psprintf("budget exceeded for tenant \"%s\"", tenant),
			 detail.data, never ? BUDGET_NEVER_HINT : NULL);
	else if (never)
		fail(call, ERRCODE_LM_QUOTA,
			 psprintf("call is larger than a quota of tenant \"%s\" can ever grant", tenant),
			 detail.data, "Lower max_tokens or shorten the prompt; waiting does not help.");
	else
		fail(call, ERRCODE_LM_QUOTA, psprintf("quota exceeded for tenant \"%s\"", tenant),
			 detail.data, NULL);
}

void
pgl_outcome_no_memory(PglCall *call)
{
	fail(call, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		 "no room in shared memory for another call in flight", NULL,
		 "Raise pgllm.max_leases or pgllm.max_limits.");
}

/* Is every failure so far of a kind that passes by itself when quotas refill? */
static bool
only_throttled(const PglCall *call)
{
	bool any = false;
	int i;

	for (i = 0; i < Min(call->nattempts, PGL_CALL_MAX_ATTEMPTS); i++)
	{
		PglCause cause = call->failures[i].cause;

		if (cause != PGL_CAUSE_THROTTLED && cause != PGL_CAUSE_QUOTA_EXHAUSTED)
			return false;
		any = true;
	}
	for (i = 0; i < call->plan->ncandidates; i++)
	{
		PglBlock block = call->obstacles[i].block;

		if (block == PGL_BLOCK_OPEN || block == PGL_BLOCK_RETRY_BUDGET)
			return false;
		any |= block == PGL_BLOCK_LIMIT || block == PGL_BLOCK_BUSY || block == PGL_BLOCK_COOLING;
	}
	return any;
}

static bool
all_attempts_are(const PglCall *call, PglCause cause)
{
	int i;

	for (i = 0; i < Min(call->nattempts, PGL_CALL_MAX_ATTEMPTS); i++)
		if (call->failures[i].cause != cause)
			return false;
	return call->nattempts > 0;
}

/* No attempt was made: all candidates were dropped, at least one of them for this reason. */
static bool
all_dropped(const PglCall *call, const char *reason)
{
	bool any = false;
	int c;

	for (c = 0; c < call->plan->ncandidates; c++)
	{
		const char *dropped = call->plan->candidates[c].dropped;

		if (dropped == NULL)
			return false;
		any |= strcmp(dropped, reason) == 0;
	}
	return any;
}

/* No attempt was made, and budgets alone keep every candidate out.  *never: waiting does not help.
 */
static bool
only_over_budget(const PglCall *call, bool *never)
{
	bool any = false;
	int c;

	*never = true;
	for (c = 0; c < call->plan->ncandidates; c++)
	{
		const PglObstacle *obstacle = &call->obstacles[c];

		if (call->plan->candidates[c].dropped)
			continue;
		if (obstacle->block != PGL_BLOCK_LIMIT || obstacle->limit->budget == NULL)
			return false;
		any = true;
		*never &= obstacle->verdict.never;
	}
	return any && call->nattempts == 0;
}

static int64_t
earliest_wait(const PglCall *call)
{
	int64_t earliest = 0;
	int c;

	for (c = 0; c < call->plan->ncandidates; c++)
	{
		int64_t wait_us = call->obstacles[c].wait_us;

		if (wait_us > 0 && (earliest == 0 || wait_us < earliest))
			earliest = wait_us;
	}
	return earliest;
}

void
pgl_outcome_failed(PglCall *call)
{
	const char *route = call->plan->route->name;
	StringInfoData detail;
	bool never;

	initStringInfo(&detail);
	describe_attempts(&detail, call);
	describe_candidates(&detail, call);
	call->outcome.refused = call->nattempts == 0;
	if (all_dropped(call, PGL_DROPPED_NO_PRICE))
		fail(call, ERRCODE_LM_BUDGET,
			 psprintf("no price is known for any target of route \"%s\"", route), detail.data,
			 "Insert the prices of their input and output tokens into llm_price.");
	else if (only_over_budget(call, &never))
	{
		if (!never)
			describe_retry_after(&detail, earliest_wait(call));
		fail(call, ERRCODE_LM_BUDGET,
			 psprintf("budget exceeded for tenant \"%s\"", call->plan->tenant->name), detail.data,
			 never ? BUDGET_NEVER_HINT : NULL);
	}
	else if (all_attempts_are(call, PGL_CAUSE_CONTEXT_TOO_LONG) ||
			 all_dropped(call, PGL_DROPPED_TOO_SMALL))
		fail(call, ERRCODE_LM_CONTEXT_TOO_LONG,
			 psprintf("prompt is too long for every model of route \"%s\"", route), detail.data,
			 "Shorten the prompt, lower max_tokens, or add a model with a larger context window.");
	else if (all_attempts_are(call, PGL_CAUSE_AUTH))
		fail(call, ERRCODE_LM_CREDENTIALS,
			 psprintf("no credential was accepted for route \"%s\"", route), detail.data,
			 "SELECT * FROM llm_check() tells which credential or permission is missing.");
	else if (only_throttled(call))
	{
		describe_retry_after(&detail, earliest_wait(call));
		fail(call, ERRCODE_LM_THROTTLED,
			 psprintf("every target of route \"%s\" is throttled", route), detail.data,
			 "Try again later, let calls wait with max_wait_ms, or add targets to the route.");
	}
	else
		fail(call, ERRCODE_LM_ALL_FAILED, psprintf("no target of route \"%s\" could answer", route),
			 detail.data, NULL);
}

void
pgl_outcome_deadline(PglCall *call)
{
	StringInfoData detail;

	initStringInfo(&detail);
	describe_attempts(&detail, call);
	fail(call, ERRCODE_LM_DEADLINE,
		 psprintf("deadline of " INT64_FORMAT " ms passed",
				  (call->deadline_us - call->started_us) / 1000),
		 detail.data, "The deadline is the option timeout_ms, at most pgllm.timeout.");
}

void
pgl_outcome_final_cause(PglCall *call, PglCause cause)
{
	StringInfoData detail;

	initStringInfo(&detail);
	describe_attempts(&detail, call);
	switch (cause)
	{
		case PGL_CAUSE_REFUSAL:
			fail(call, ERRCODE_LM_REFUSAL, "the model or a guardrail declined to answer",
				 detail.data, NULL);
			break;
		case PGL_CAUSE_BAD_REPLY:
			fail(call, ERRCODE_UNTRANSLATABLE_CHARACTER, "answer cannot be stored as text",
				 detail.data, NULL);
			break;
		default:
			fail(call, ERRCODE_LM_ALL_FAILED, "the provider rejected the request", detail.data,
				 NULL);
	}
}

static void
fail_conversion(PglCall *call)
{
	fail(call, ERRCODE_UNTRANSLATABLE_CHARACTER,
		 psprintf("answer has characters that encoding \"%s\" cannot hold",
				  GetDatabaseEncodingName()),
		 NULL, "Use a database with encoding UTF8.");
}

/* Candidates before the current one, in the order of tiers and of this call's attempts. */
int
pgl_outcome_depth(const PglCall *call)
{
	int depth = 0;
	int c;

	for (c = 0; c < call->plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &call->plan->candidates[c];

		if (c != call->candidate && candidate->dropped == NULL &&
			(candidate->tries > 0 || call->obstacles[c].block != PGL_BLOCK_NONE))
			depth++;
	}
	return depth;
}

void
pgl_outcome_convert(PglCall *call)
{
	PglOutcome *outcome = &call->outcome;

	outcome->response =
		from_utf8(pgl_buf_str(&call->reply.text), call->reply.text.len, &outcome->response_len);
}

void
pgl_outcome_judge(PglCall *call)
{
	PglOutcome *outcome = &call->outcome;

	outcome->sqlstate = 0;
	outcome->message = outcome->detail = outcome->hint = NULL;
	if (outcome->finish_reason == NULL || strcmp(outcome->finish_reason, "length") != 0 ||
		call->allow_truncated)
		return;
	outcome->sqlstate = ERRCODE_LM_TRUNCATED;
	outcome->message = call->request.max_tokens > 0
						   ? psprintf("answer was cut at max_tokens (%d)", call->request.max_tokens)
						   : "answer was cut at max_tokens";
	outcome->hint = "Raise the option max_tokens, or pass allow_truncated to accept cut answers.";
}

void
pgl_outcome_succeed(PglCall *call)
{
	if (call->outcome.response == NULL)
	{
		fail_conversion(call);
		return;
	}
	set_identity(call);
	call->outcome.fallback_depth = call->attempt_depth;
	pgl_outcome_judge(call);
	close_call(call);
	conclude(call);
}

/* The answer is there, and the ledger refuses to take its record: it must not be returned. */
void
pgl_outcome_not_recorded(PglCall *call)
{
	PglOutcome *outcome = &call->outcome;

	outcome->sqlstate = ERRCODE_DISK_FULL;
	outcome->response = NULL;
	outcome->message = "call could not be recorded in the ledger";
	outcome->detail = "Its record is kept in memory until it can be written.";
	outcome->hint = "See the view llm_ledger_status and the server's log.";
	call->phase = PGL_CALL_DONE;
}

void
pgl_outcome_ledger_full(PglCall *call)
{
	call->outcome.refused = call->nattempts == 0;
	fail(call, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "ledger is full, so nothing more is sent",
		 "Records of earlier calls wait in memory and cannot be written.",
		 "See the view llm_ledger_status and the server's log; pgllm.ledger_size is how many fit.");
}

void
pgl_outcome_statement_limit(PglCall *call, PglStatementVerdict verdict)
{
	const PglStatement *statement = pgl_statement_current();
	char spent[PGL_USD_SIZE];
	char worst[PGL_USD_SIZE];
	StringInfoData detail;

	initStringInfo(&detail);
	describe_attempts(&detail, call);
	if (verdict == PGL_STATEMENT_NO_CALLS)
		fail(call, ERRCODE_LM_STATEMENT_LIMIT,
			 psprintf("statement has made all %d calls it may make", pgl_guc_statement_max_calls),
			 detail.data, "Raise pgllm.statement_max_calls, or process fewer rows at a time.");
	else if (verdict == PGL_STATEMENT_NO_PRICE)
		fail(call, ERRCODE_LM_STATEMENT_LIMIT,
			 "a call without a price cannot keep pgllm.statement_max_cost", detail.data,
			 "Prices are rows of llm_price.");
	else
	{
		begin_sentence(&detail);
		appendStringInfo(&detail, "It may spend %g USD: %s spent, up to %s needed.",
						 pgl_guc_statement_max_cost,
						 pgl_usd_text(statement->progress.cost_nano_usd, spent),
						 pgl_usd_text(call->statement_reserve, worst));
		fail(call, ERRCODE_LM_STATEMENT_LIMIT, "statement has spent what it may spend", detail.data,
			 "Raise pgllm.statement_max_cost, or lower max_tokens.");
	}
}

void
pgl_call_raise(const PglCall *call)
{
	const PglOutcome *outcome = &call->outcome;

	ereport(ERROR, (errcode(outcome->sqlstate), errmsg("%s", outcome->message),
					outcome->detail ? errdetail("%s", outcome->detail) : 0,
					outcome->hint ? errhint("%s", outcome->hint) : 0));
	pg_unreachable();
}
