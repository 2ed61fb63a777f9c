/*
 * doctor.c — llm_check(): read the configuration and try every door, and say what to do.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "../call/call.h"
#include "../catalog/catalog.h"
#include "../catalog/credential.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "../shmem/state.h"
#include "utility.h"

PG_FUNCTION_INFO_V1(pgl_llm_check);

#define COLUMNS 5

static void
report(ReturnSetInfo *rsinfo, const char *kind, const char *name, bool ok, const char *message,
	   const char *hint)
{
	Datum values[COLUMNS] = {CStringGetTextDatum(kind), CStringGetTextDatum(name), BoolGetDatum(ok),
							 CStringGetTextDatum(message),
							 hint ? CStringGetTextDatum(hint) : (Datum) 0};
	bool nulls[COLUMNS] = {[4] = hint == NULL};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
check_shards(ReturnSetInfo *rsinfo, const PglSnapshot *snapshot)
{
	const PglShard *const *shards;
	int n = pgl_catalog_shards(snapshot, &shards);
	int i;

	for (i = 0; i < n; i++)
	{
		char why[256] = "";

		if (!shards[i]->enabled)
			report(rsinfo, "shard", shards[i]->name, true, "disabled", NULL);
		else if (!shards[i]->provider->needs_credential)
			report(rsinfo, "shard", shards[i]->name, true, "needs no credential", NULL);
		else if (pgl_credential_get(shards[i]->credential, why, sizeof(why)) == NULL)
			report(rsinfo, "shard", shards[i]->name, false, why,
				   "Credentials are read from the server's environment, from files in "
				   "pgllm.credential_directory, or from the shared credentials file of the "
				   "server's user.");
		else
			report(rsinfo, "shard", shards[i]->name, true,
				   psprintf("credential %s found", shards[i]->credential), NULL);
	}
}

static void
check_tenants(ReturnSetInfo *rsinfo, const PglSnapshot *snapshot)
{
	const PglTenant *const *tenants;
	int n = pgl_catalog_tenants(snapshot, &tenants);
	int i;

	for (i = 0; i < n; i++)
	{
		const PglTenant *tenant = tenants[i];
		const PglRoute *route = pgl_catalog_find_route(snapshot, tenant->route);

		if (!tenant->enabled)
			report(rsinfo, "tenant", tenant->name, true, "disabled", NULL);
		else if (route == NULL || route->nentries == 0)
			report(rsinfo, "tenant", tenant->name, false,
				   psprintf("route \"%s\" has no enabled targets", tenant->route),
				   "Add rows to llm_route, or enable them.");
		else if (tenant->ngrantees == 0)
			report(rsinfo, "tenant", tenant->name, true, "only superusers may speak for it",
				   psprintf("SELECT llm_grant_tenant(%s, 'some_role') lets a role call.",
							quote_literal_cstr(tenant->name)));
		else
			report(rsinfo, "tenant", tenant->name, true,
				   psprintf("route \"%s\" with %d targets, %d roles granted", tenant->route,
							route->nentries, tenant->ngrantees),
				   NULL);
	}
}

static void
check_quotas(ReturnSetInfo *rsinfo, const PglSnapshot *snapshot)
{
	const PglQuota *const *quotas;
	int n = pgl_catalog_quotas(snapshot, &quotas);
	int i;

	if (n == 0 && pgl_guc_require_quota)
		report(rsinfo, "quota", "", false, "there is no quota, so every call is refused",
			   "INSERT INTO llm_quota (rpm, tpm, per) VALUES (60, 100000, 'role'), or turn "
			   "pgllm.require_quota off.");
	for (i = 0; i < n; i++)
		if (OidIsValid(quotas[i]->role) && GetUserNameFromId(quotas[i]->role, true) == NULL)
			report(rsinfo, "quota", psprintf(INT64_FORMAT, quotas[i]->quota_id), false,
				   "its role was dropped", "The quota binds nobody: delete its row.");
}

static const char *
probe_hint(const PglOutcome *outcome)
{
	if (outcome->detail && strstr(outcome->detail, "not found"))
		return "Check model_id and region: many models are only offered by an inference profile "
			   "(us., eu., global. ...).";
	if (outcome->detail && strstr(outcome->detail, "connection"))
		return "Check region or endpoint, name resolution, firewall, and pgllm.ca_file.";
	if (outcome->detail && strstr(outcome->detail, "credentials"))
		return "Check that the credential is current and may bedrock:InvokeModel on this model.";
	return NULL;
}

static void
probe_target(ReturnSetInfo *rsinfo, const char *target)
{
	PglCall *call = pgl_call_start_probe(target);
	const PglOutcome *outcome;

	pgl_call_wait(call);
	outcome = pgl_call_outcome(call);
	if (outcome->response)
		report(rsinfo, "target", target, true,
			   psprintf("answered in %.1f ms", outcome->total_us / 1000.0), NULL);
	else if (outcome->refused)
		report(rsinfo, "target", target, true, "not probed: its limit is used up at the moment",
			   NULL);
	else
		report(rsinfo, "target", target, false,
			   psprintf("%s: %s", outcome->message, outcome->detail ? outcome->detail : ""),
			   probe_hint(outcome));
	pgl_call_free(call);
}

static void
check_targets(ReturnSetInfo *rsinfo, const PglSnapshot *snapshot, bool probe)
{
	const PglTarget *const *targets;
	int n = pgl_catalog_targets(snapshot, &targets);
	int i;

	for (i = 0; i < n; i++)
	{
		if (!targets[i]->enabled || !targets[i]->shard->enabled)
			report(rsinfo, "target", targets[i]->name, true, "disabled", NULL);
		else if (probe)
			probe_target(rsinfo, targets[i]->name);
		else
			report(rsinfo, "target", targets[i]->name, true, "not probed", NULL);
	}
}

Datum
pgl_llm_check(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool probe = PG_ARGISNULL(0) ? true : PG_GETARG_BOOL(0);
	const PglSnapshot *volatile snapshot;

	pgl_shmem_require();
	if (probe)
		pgl_utility_refuse();
	InitMaterializedSRF(fcinfo, 0);
	snapshot = pgl_catalog_pin();
	PG_TRY();
	{
		check_shards(rsinfo, snapshot);
		check_tenants(rsinfo, snapshot);
		check_quotas(rsinfo, snapshot);
		check_targets(rsinfo, snapshot, probe);
	}
	PG_FINALLY();
	{
		pgl_catalog_unpin(snapshot);
	}
	PG_END_TRY();
	PG_RETURN_NULL();
}
