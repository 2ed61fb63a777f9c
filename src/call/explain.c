/*
 * explain.c — what a call would do, without doing it: the plan, a look at the limits, the request.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "admit.h"
#include "budget.h"
#include "explain.h"

static const char *
limit_text(const PglLimitSpec *limit)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, limit->key.scope == PGL_SCOPE_DOMAIN   ? "domain "
								 : limit->key.scope == PGL_SCOPE_TARGET ? "target "
								 : limit->key.scope == PGL_SCOPE_BUDGET ? "budget of "
																		: "");
	appendStringInfoString(&out, limit->name);
	if (limit->subject[0])
		appendStringInfo(&out, " of %s", limit->subject);
	if (limit->rpm > 0)
		appendStringInfo(&out, ", " INT64_FORMAT " requests per minute", limit->rpm);
	if (limit->tpm > 0)
		appendStringInfo(&out, ", " INT64_FORMAT " tokens per minute", limit->tpm);
	if (limit->max_inflight > 0)
		appendStringInfo(&out, ", %d in flight", limit->max_inflight);
	if (limit->budget)
		appendStringInfo(&out, ", %s", pgl_budget_terms_text(limit->budget));
	if (limit->soft)
		appendStringInfoString(&out, ", soft");
	if (limit->shadow)
		appendStringInfoString(&out, ", shadow");
	return out.data;
}

static bool
limits_something(const PglLimitSpec *limit)
{
	return limit->budget || limit->rpm > 0 || limit->tpm > 0 || limit->max_inflight > 0;
}

static void
list_limits(const PglPlan *plan, const PglCandidate *candidate, PglExplanation *row)
{
	int i;

	row->limits = palloc(sizeof(char *) * (plan->nlimits + candidate->nlimits));
	for (i = 0; i < plan->nlimits; i++)
		row->limits[row->nlimits++] = limit_text(&plan->limits[i]);
	for (i = 0; i < candidate->nlimits; i++)
		if (limits_something(&candidate->limits[i]))
			row->limits[row->nlimits++] = limit_text(&candidate->limits[i]);
}

static const char *
budget_text(const PglObstacle *obstacle)
{
	StringInfoData out;

	initStringInfo(&out);
	pgl_budget_describe(&out, obstacle);
	out.data[0] = pg_tolower((unsigned char) out.data[0]);
	out.data[out.len - 1] = '\0'; /* a reason is no sentence */
	return out.data;
}

static const char *
window_text(const PglObstacle *obstacle)
{
	if (obstacle->verdict.window == 0)
		return psprintf("domain %s is busy", obstacle->limit->name);
	return psprintf("domain %s is busy, %d in flight", obstacle->limit->name,
					obstacle->verdict.window);
}

static const char *
reason_text(const PglCandidate *candidate, const PglObstacle *obstacle)
{
	switch (obstacle->block)
	{
		case PGL_BLOCK_DROPPED:
			return candidate->dropped;
		case PGL_BLOCK_LIMIT:
			if (obstacle->limit->budget)
				return budget_text(obstacle);
			return psprintf("%s %s", obstacle->verdict.never ? "larger than" : "limit of",
							limit_text(obstacle->limit));
		case PGL_BLOCK_BUSY:
			return window_text(obstacle);
		default:
			return pgl_block_name(obstacle->block);
	}
}

static void
fill_row(const PglPlan *plan, const PglAdmission *admission, int c, const PglObstacle *obstacle,
		 PglExplanation *row)
{
	const PglCandidate *candidate = &plan->candidates[c];
	const PglTarget *target = candidate->target;
	bool refused = admission->decision == PGL_DECISION_REFUSED;

	if (refused && obstacle->block != PGL_BLOCK_DROPPED)
		obstacle = &admission->binding[0];
	row->tier = candidate->tier;
	row->target = pstrdup(target->name);
	row->shard = pstrdup(target->shard->name);
	row->region = target->shard->region[0] ? pstrdup(target->shard->region) : NULL;
	row->model = pstrdup(target->model->name);
	row->geography = pstrdup(target->geography);
	row->reserved_tokens = candidate->reserve_tokens;
	row->eligible = obstacle->block == PGL_BLOCK_NONE;
	if (!row->eligible)
		row->reason = pstrdup(reason_text(candidate, obstacle));
	row->wait_us = obstacle->wait_us;
	row->waits = !row->eligible && obstacle->wait_us > 0 && !obstacle->verdict.never;
	list_limits(plan, candidate, row);
}

static size_t
utf8_length(const char *source, size_t len)
{
	char *converted = pg_server_to_any(source, len, PG_UTF8);

	return converted == source ? len : strlen(converted);
}

static size_t
input_bytes(const PglCallArgs *args)
{
	return utf8_length(args->prompt, args->prompt_len) +
		   (args->system ? utf8_length(args->system, strlen(args->system)) : 0);
}

int
pgl_explain_call(const PglCallArgs *args, PglExplanation **rows)
{
	const PglSnapshot *volatile pinned = NULL;
	PglAdmission admission;
	PglObstacle *obstacles;
	PglPlan *plan;
	volatile int n = 0;
	int i;

	PG_TRY();
	{
		plan = pgl_plan_build(args, input_bytes(args), (const PglSnapshot **) &pinned);
		n = plan->ncandidates;
		*rows = palloc0(sizeof(PglExplanation) * n);
		obstacles = palloc(sizeof(PglObstacle) * n);
		pgl_budget_lock(plan);
		pgl_admit_examine(plan, pgl_clock_us(), obstacles, &admission);
		pgl_shmem_unlock();
		for (i = 0; i < n; i++)
			fill_row(plan, &admission, plan->order[i], &obstacles[plan->order[i]], &(*rows)[i]);
	}
	PG_FINALLY();
	{
		if (pinned)
			pgl_catalog_unpin(pinned);
	}
	PG_END_TRY();
	return n;
}

/* The first candidate in order that may be used at all. */
static const PglCandidate *
first_candidate(const PglPlan *plan)
{
	int i;

	for (i = 0; i < plan->ncandidates; i++)
		if (plan->candidates[plan->order[i]].dropped == NULL)
			return &plan->candidates[plan->order[i]];
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no target of route \"%s\" may be used for this call", plan->route->name),
			 errhint("SELECT * FROM llm_explain(...) tells why.")));
}

static void
render_candidate(const PglCandidate *candidate, const PglCallArgs *args, PglOutgoing *outgoing,
				 PglRendering *out)
{
	const PglTarget *target = candidate->target;
	PglProviderTarget provider_target = {.region = target->shard->region,
										 .endpoint = &target->shard->endpoint,
										 .model_id = target->model_id,
										 .parameters = target->parameters};
	PglChatRequest request = {
		.system =
			args->system ? pg_server_to_any(args->system, strlen(args->system), PG_UTF8) : NULL,
		.prompt = pg_server_to_any(args->prompt, args->prompt_len, PG_UTF8),
		.prompt_len = utf8_length(args->prompt, args->prompt_len),
		.max_tokens = candidate->max_tokens,
		.has_temperature = args->has_temperature,
		.has_top_p = args->has_top_p,
		.temperature = args->temperature,
		.top_p = args->top_p,
		.stop = args->stop,
		.nstop = args->nstop,
	};
	const char *why = NULL;

	out->target = pstrdup(target->name);
	if (target->shard->provider->in_process)
		return;
	if (!target->shard->provider->build(&provider_target, &request, outgoing, &why))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("request could not be built"), errdetail("%s.", why)));
	out->url = pstrdup(pgl_buf_str(&outgoing->url));
	out->body = pstrdup(pgl_buf_str(&outgoing->body));
}

void
pgl_render_call(const PglCallArgs *args, PglRendering *out)
{
	const PglSnapshot *volatile pinned = NULL;
	PglAdmission admission;
	PglObstacle *obstacles;
	PglOutgoing outgoing;
	PglPlan *plan;

	pgl_outgoing_init(&outgoing);
	PG_TRY();
	{
		plan = pgl_plan_build(args, input_bytes(args), (const PglSnapshot **) &pinned);
		obstacles = palloc(sizeof(PglObstacle) * plan->ncandidates);
		pgl_budget_lock(plan);
		pgl_admit_examine(plan, pgl_clock_us(), obstacles, &admission);
		pgl_shmem_unlock();
		render_candidate(first_candidate(plan), args, &outgoing, out);
	}
	PG_FINALLY();
	{
		pgl_outgoing_free(&outgoing);
		if (pinned)
			pgl_catalog_unpin(pinned);
	}
	PG_END_TRY();
}
