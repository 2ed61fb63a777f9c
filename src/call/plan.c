/*
 * plan.c — build the plan of a call: see plan.h.
 *
 * Permission is checked for the current user (SECURITY DEFINER functions lend theirs on purpose);
 * role quotas bind the user outside of such functions, so nobody sheds a quota by calling one.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "../pg/compat.h"
#include "../pg/guc.h"
#include "budget.h"
#include "plan.h"

/*
 * Input tokens are estimated from bytes: three per token errs on the high side for every tokenizer
 * in use, so a reservation seldom falls short.  Six bytes per token errs on the low side: a prompt
 * that is too long even so cannot fit.
 */
#define BYTES_PER_TOKEN_HIGH 3
#define BYTES_PER_TOKEN_LOW 6
#define TOKENS_OF_FRAME 8 /* roles and separators around the prompt */

static bool
list_has(const char *const *list, int n, const char *name)
{
	int i;

	for (i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static void
check_grant(const PglTenant *tenant)
{
	Oid user = GetUserId();
	int i;

	for (i = 0; i < tenant->ngrantees; i++)
	{
		Oid role;

		if (strcmp(tenant->grantees[i], "public") == 0)
			return;
		role = get_role_oid(tenant->grantees[i], true);
		if (OidIsValid(role) && has_privs_of_role(user, role))
			return;
	}
	if (superuser_arg(user))
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("role \"%s\" may not call for tenant \"%s\"",
						   GetUserNameFromId(user, false), tenant->name),
					errhint("A superuser can allow it with SELECT llm_grant_tenant(%s, %s).",
							quote_literal_cstr(tenant->name),
							quote_literal_cstr(GetUserNameFromId(user, false)))));
}

static const PglTenant *
find_tenant(const PglSnapshot *snapshot, const char *name)
{
	const PglTenant *tenant = pgl_catalog_find_tenant(snapshot, name);

	if (tenant == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("tenant \"%s\" does not exist", name),
				 errhint("Tenants are rows of llm_tenant.")));
	check_grant(tenant);
	if (!tenant->enabled)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("tenant \"%s\" is disabled", name)));
	return tenant;
}

static const PglRoute *
find_route(const PglSnapshot *snapshot, const PglTenant *tenant, const char *asked)
{
	const char *name = asked ? asked : tenant->route;
	const PglRoute *route;

	if (asked && strcmp(asked, tenant->route) != 0 &&
		!list_has(tenant->extra_routes, tenant->nextra_routes, asked))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("tenant \"%s\" may not use route \"%s\"", tenant->name, asked),
						errhint("Its routes are llm_tenant.route and extra_routes.")));
	route = pgl_catalog_find_route(snapshot, name);
	if (route == NULL || route->nentries == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("route \"%s\" has no enabled targets", name),
						errhint("The targets of a route are rows of llm_route.")));
	return route;
}

static void
check_model(const PglRoute *route, const char *model)
{
	int i;

	for (i = 0; i < route->nentries; i++)
		if (strcmp(route->entries[i].target->model->name, model) == 0)
			return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("route \"%s\" has no target with model \"%s\"", route->name, model),
					errhint("SELECT * FROM llm_explain(...) lists the candidates of a call.")));
}

int64_t
pgl_plan_most_input(size_t input_bytes)
{
	return input_bytes / BYTES_PER_TOKEN_HIGH + TOKENS_OF_FRAME;
}

int64_t
pgl_plan_least_input(size_t input_bytes)
{
	return input_bytes / BYTES_PER_TOKEN_LOW;
}

bool
pgl_plan_fits(const PglCandidate *candidate, size_t input_bytes)
{
	int window = candidate->target->model->context_window;

	return window == 0 || pgl_plan_least_input(input_bytes) + candidate->max_tokens <= window;
}

/* Why a candidate may not be used for this call at all, or NULL. */
static const char *
drop_reason(const PglPlan *plan, const PglCandidate *candidate, const PglCallArgs *args,
			size_t input_bytes)
{
	const PglTarget *target = candidate->target;
	const PglModel *model = target->model;
	const PglTenant *tenant = plan->tenant;

	if (!target->enabled)
		return "target is disabled";
	if (!target->shard->enabled)
		return "shard is disabled";
	if (tenant->geographies &&
		!list_has(tenant->geographies, tenant->ngeographies, target->geography))
		return "outside the tenant's geographies";
	if (tenant->models && !list_has(tenant->models, tenant->nmodels, model->name))
		return "model not allowed for the tenant";
	if (args->model && strcmp(args->model, model->name) != 0)
		return "not the model asked for";
	if (!model->can_text)
		return "model cannot answer text";
	if (args->no_fallback && candidate->tier > plan->candidates[0].tier)
		return "fallback not allowed by the caller";
	if (model->max_output_tokens > 0 && candidate->max_tokens > model->max_output_tokens)
		return "max_tokens exceeds what the model can answer";
	if (!pgl_plan_fits(candidate, input_bytes))
		return PGL_DROPPED_TOO_SMALL;
	return NULL;
}

static void
add_limit(PglLimitSpec *limits, int *n, const PglLimitSpec *spec)
{
	if (*n == PGL_CALL_MAX_LIMITS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("more than %d limits apply to one call", PGL_CALL_MAX_LIMITS),
						errhint("Merge rows of llm_quota.")));
	limits[(*n)++] = *spec;
}

/*
 * The provider's side: what the quota domain and the target allow.  A domain without rates is a
 * limit all the same, for its window; it comes first (PGL_DOMAIN_SPEC).
 */
static void
add_target_limits(const PglPlan *plan, PglCandidate *candidate)
{
	const PglTarget *target = candidate->target;
	PglLimitSpec spec = {
		.key = {plan->database, PGL_SCOPE_DOMAIN, target->domain_id, 0},
		.name = target->domain,
		.subject = "",
		.rpm = target->rpm,
		.tpm = target->tpm,
		.window_kind = target->window_kind,
		.may_wait = plan->may_wait,
		.next_tier = true,
		.loaded_at = pgl_catalog_loaded_at(plan->snapshot),
	};

	add_limit(candidate->limits, &candidate->nlimits, &spec);
	spec.key.scope = PGL_SCOPE_TARGET;
	spec.key.id = target->id;
	spec.name = target->name;
	spec.rpm = spec.tpm = 0;
	spec.max_inflight = target->max_inflight;
	add_limit(candidate->limits, &candidate->nlimits, &spec);
}

static bool
quota_matches(const PglQuota *quota, const PglPlan *plan, Oid user)
{
	if (quota->route && strcmp(quota->route, plan->route->name) != 0)
		return false;
	return !OidIsValid(quota->role) || is_member_of_role_nosuper(user, quota->role);
}

static PglLimitSpec
quota_spec(const PglQuota *quota, const PglPlan *plan, Oid user)
{
	PglLimitSpec spec = {
		.key = {plan->database, PGL_SCOPE_QUOTA, quota->quota_id, 0},
		.subject = "",
		.rpm = quota->rpm,
		.tpm = quota->tpm,
		.burst_requests = quota->burst_requests,
		.burst_tokens = quota->burst_tokens,
		.max_inflight = quota->max_inflight,
		.window_kind = quota->window_kind,
		.shadow = quota->shadow,
		.may_wait = quota->on_exceed == PGL_EXCEED_WAIT ||
					(quota->on_exceed != PGL_EXCEED_ERROR && plan->may_wait),
		.next_tier = quota->on_exceed == PGL_EXCEED_NEXT_TIER || quota->model != NULL,
		.loaded_at = pgl_catalog_loaded_at(plan->snapshot),
	};

	spec.name = psprintf("quota " INT64_FORMAT, quota->quota_id);
	if (quota->per == PGL_PER_TENANT)
	{
		spec.key.subject = plan->tenant->id;
		spec.subject = plan->tenant->name;
	}
	else if (quota->per == PGL_PER_ROLE)
	{
		spec.key.subject = user;
		spec.subject = GetUserNameFromId(user, false);
	}
	return spec;
}

static bool
concerns(const PglQuota *quota, const PglCandidate *candidate)
{
	return quota->model == NULL || strcmp(quota->model, candidate->target->model->name) == 0;
}

/* Rates and calls in flight: of the call as a whole, or of each candidate. */
static void
add_rates(PglPlan *plan, const PglQuota *quota, const PglLimitSpec *spec)
{
	int c;

	if (spec->rpm == 0 && spec->tpm == 0 && spec->max_inflight == 0)
		return;
	if (!spec->next_tier)
		add_limit(plan->limits, &plan->nlimits, spec);
	for (c = 0; spec->next_tier && c < plan->ncandidates; c++)
		if (concerns(quota, &plan->candidates[c]))
			add_limit(plan->candidates[c].limits, &plan->candidates[c].nlimits, spec);
}

/*
 * A budget belongs to the candidates, as their prices differ.  What has no price may cost anything:
 * it is out, unless the budget only watches.
 */
static void
add_budget(PglPlan *plan, const PglQuota *quota, const PglLimitSpec *rates)
{
	const PglLimitSpec *spec = NULL;
	int c;

	for (c = 0; c < plan->ncandidates; c++)
	{
		PglCandidate *candidate = &plan->candidates[c];

		if (candidate->dropped || !concerns(quota, candidate))
			continue;
		if (candidate->worst_nano_usd < 0 && !quota->shadow)
		{
			candidate->dropped = PGL_DROPPED_NO_PRICE;
			continue;
		}
		if (spec == NULL)
			spec = pgl_budget_add(plan, quota, rates);
		add_limit(candidate->limits, &candidate->nlimits, spec);
	}
}

/*
 * Quotas of the call as a whole bind every candidate; those of a model only its candidates. Returns
 * how many of the list are enforced on the call.
 */
static int
add_matching_quotas(PglPlan *plan, const PglQuota *const *quotas, int nquotas, Oid user)
{
	int matching = 0;
	int i;

	for (i = 0; i < nquotas; i++)
	{
		PglLimitSpec spec;

		if (!quota_matches(quotas[i], plan, user))
			continue;
		spec = quota_spec(quotas[i], plan, user);
		matching += !quotas[i]->shadow && !quotas[i]->soft;
		add_rates(plan, quotas[i], &spec);
		if (quotas[i]->budget_nano_usd >= 0)
			add_budget(plan, quotas[i], &spec);
	}
	return matching;
}

static void
add_quotas(PglPlan *plan)
{
	Oid user = GetOuterUserId();
	const PglQuota *const *general;
	int ngeneral = pgl_catalog_general_quotas(plan->snapshot, &general);
	int matching = add_matching_quotas(plan, general, ngeneral, user) +
				   add_matching_quotas(plan, plan->tenant->quotas, plan->tenant->nquotas, user);

	if (matching == 0 && pgl_guc_require_quota)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("no quota applies to role \"%s\" and tenant \"%s\"",
					GetUserNameFromId(user, false), plan->tenant->name),
			 errhint("Give it one, for example: INSERT INTO llm_quota (role, rpm, tpm) VALUES (%s, "
					 "60, 100000); or turn pgllm.require_quota off.",
					 quote_literal_cstr(GetUserNameFromId(user, false)))));
}

static void
fill_candidate(PglPlan *plan, PglCandidate *candidate, const PglRouteEntry *entry,
			   int asked_max_tokens)
{
	memset(candidate, 0, offsetof(PglCandidate, limits));
	candidate->target = entry->target;
	candidate->tier = entry->tier;
	candidate->weight = entry->weight;
	candidate->max_tokens = asked_max_tokens > 0 ? asked_max_tokens : entry->target->max_tokens;
	candidate->reserve_tokens = plan->input_estimate + candidate->max_tokens;
	candidate->worst_nano_usd =
		pgl_budget_worst_case(entry->target, plan->input_estimate, candidate->max_tokens);
	candidate->tries_allowed = 1;
	add_target_limits(plan, candidate);
}

/* What admission would otherwise have to work out, or allocate, under its lock. */
static void
prepare_admission(PglPlan *plan)
{
	int c;

	plan->order = palloc(sizeof(int) * plan->ncandidates);
	plan->scores = palloc(sizeof(double) * plan->ncandidates);
	plan->max_new_limits = plan->nlimits;
	for (c = 0; c < plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &plan->candidates[c];

		plan->max_new_limits += candidate->nlimits;
		if (candidate->dropped == NULL)
			plan->reserve_tokens = Max(plan->reserve_tokens, candidate->reserve_tokens);
	}
}

/* Lists of limits have room for more than most calls meet, and are left as they are. */
static PglPlan *
make_plan(void)
{
	PglPlan *plan = palloc(sizeof(PglPlan));

	memset(plan, 0, offsetof(PglPlan, limits));
	plan->snapshot = pgl_catalog_pin();
	plan->database = MyDatabaseId;
	return plan;
}

PglPlan *
pgl_plan_build(const PglCallArgs *args, size_t input_bytes, const PglSnapshot **pinned)
{
	PglPlan *plan = make_plan();
	int c;

	*pinned = plan->snapshot;
	plan->tenant = find_tenant(plan->snapshot, args->tenant);
	plan->route = find_route(plan->snapshot, plan->tenant, args->route);
	if (args->model)
		check_model(plan->route, args->model);
	plan->max_wait_ms = args->max_wait_ms >= 0 ? Min(args->max_wait_ms, plan->tenant->max_wait_ms)
											   : plan->tenant->max_wait_ms;
	plan->may_wait = args->max_wait_ms >= 0 ? args->max_wait_ms > 0 : plan->tenant->wait_at_limit;
	plan->asked_model = args->model ? pstrdup(args->model) : NULL;
	plan->no_fallback = args->no_fallback;
	plan->sticky_hash = pgl_catalog_hash(args->sticky_key ? args->sticky_key : plan->tenant->name);
	plan->input_estimate = pgl_plan_most_input(input_bytes);
	plan->ncandidates = plan->route->nentries;
	plan->candidates = palloc(sizeof(PglCandidate) * plan->ncandidates);
	for (c = 0; c < plan->ncandidates; c++)
	{
		PglCandidate *candidate = &plan->candidates[c];

		fill_candidate(plan, candidate, &plan->route->entries[c], args->max_tokens);
		candidate->dropped = drop_reason(plan, candidate, args, input_bytes);
	}
	add_quotas(plan);
	prepare_admission(plan);
	return plan;
}

PglPlan *
pgl_plan_build_probe(const char *name, const PglSnapshot **pinned)
{
	PglPlan *plan = make_plan();
	PglRoute *route = palloc0(sizeof(PglRoute));
	const PglTarget *const *targets;
	int ntargets;
	int i;

	*pinned = plan->snapshot;
	route->name = "llm_check";
	route->max_attempts = 1;
	plan->route = route;
	plan->input_estimate = TOKENS_OF_FRAME;
	plan->candidates = palloc(sizeof(PglCandidate));
	ntargets = pgl_catalog_targets(plan->snapshot, &targets);
	for (i = 0; i < ntargets && plan->ncandidates == 0; i++)
		if (strcmp(targets[i]->name, name) == 0)
		{
			PglRouteEntry entry = {.target = targets[i], .weight = 1};

			fill_candidate(plan, &plan->candidates[plan->ncandidates++], &entry, 1);
		}
	if (plan->ncandidates == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("target \"%s\" does not exist", name)));
	prepare_admission(plan);
	return plan;
}
