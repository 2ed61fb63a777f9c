/*
 * check_shard.c — which shards and targets may be stored.
 *
 * An endpoint decides where prompts go and for whom requests are signed, so endpoint and network
 * are for superusers, and so is giving a shard that has them another provider or credential.  Back
 * to the defaults may go whoever may update the table.  Texts that may be a secret put in the wrong
 * column (endpoint, credential) are never repeated in a message.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "check.h"

static bool
is_loopback_v6(const char *host)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6};
	size_t len = strlen(host);

	return len > 2 && host[0] == '[' && host[len - 1] == ']' &&
		   inet_pton(AF_INET6, pnstrdup(host + 1, len - 2), &address.sin6_addr) == 1 &&
		   pgl_hostpolicy_allows((struct sockaddr *) &address, PGL_NET_LOOPBACK);
}

static bool
is_loopback_host(const char *host)
{
	struct sockaddr_in address = {.sin_family = AF_INET};

	if (strcmp(host, "localhost") == 0 || is_loopback_v6(host))
		return true;
	return inet_pton(AF_INET, host, &address.sin_addr) == 1 &&
		   pgl_hostpolicy_allows((struct sockaddr *) &address, PGL_NET_LOOPBACK);
}

static void
check_endpoint(const char *shard, const char *endpoint, bool loopback)
{
	PglEndpoint parsed;
	const char *why = "unknown";

	if (!pgl_uri_parse_endpoint(endpoint, &parsed, &why))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid shard \"%s\": %s", shard, why),
						errhint("An endpoint is https://host or https://host:port.")));
	if (!parsed.https && !loopback)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("endpoint of shard \"%s\" must use https", shard),
						errhint("Plain http is for shards with network loopback only.")));
	if (loopback && !is_loopback_host(parsed.host))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("endpoint of shard \"%s\" is not a loopback host", shard),
						errdetail("With network loopback the host is an address in 127.0.0.0/8, "
								  "[::1] or localhost.")));
}

static void
check_superuser(const PglConfigRow *row, const char *shard)
{
	bool changed =
		pgl_catalog_check_changed(row, "endpoint") || pgl_catalog_check_changed(row, "network") ||
		pgl_catalog_check_changed(row, "provider") || pgl_catalog_check_changed(row, "credential");

	if (changed && !superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for endpoint and network of shard \"%s\"", shard),
						errdetail("Only superusers may decide where requests are sent."),
						errhint("Leave endpoint NULL and network public: the endpoint then follows "
								"from the Region.")));
}

static bool
is_ascii_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool
is_credential_name(const char *name)
{
	for (const char *c = name; *c != '\0'; c++)
	{
		if (!is_ascii_alnum(*c) && *c != '_' && (c == name || strchr(".-", *c) == NULL))
			return false;
	}
	return name[0] != '\0' && strlen(name) <= 63;
}

/* As the constraint on the column, whose message however would print the row. */
static bool
is_credential_reference(const char *reference)
{
	static const char *const kinds[] = {"env:", "file:", "profile:"};

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		size_t len = strlen(kinds[i]);

		if (strncmp(reference, kinds[i], len) == 0)
			return is_credential_name(reference + len);
	}
	return false;
}

static void
check_parameters(const char *provider, const char *target, const char *parameters)
{
	const PglProvider *found = pgl_provider_find(provider);
	const char *why = NULL;

	if (found != NULL)
		why = found->check_parameters(
			pg_server_to_any(parameters, (int) strlen(parameters), PG_UTF8));
	if (why != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("parameters of target \"%s\" do not suit provider \"%s\"", target,
							   provider),
						errdetail("The provider says: %s.", why)));
}

typedef struct ShardChange
{
	char *shard; /* its old name, by which the targets still know it */
	char *provider;
} ShardChange;

/* Body of run_as_owner: with another provider, the targets' parameters mean something else. */
static void
check_targets_of_shard(const PglExtension *extension, void *arg)
{
	const ShardChange *change = arg;
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(change->shard)};
	const char *query = psprintf("SELECT target, parameters::text FROM %s.llm_target"
								 " WHERE shard = $1",
								 extension->schema_name);

	if (SPI_execute_with_args(query, 1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the targets of a shard");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		check_parameters(change->provider, SPI_getvalue(tuple, desc, 1),
						 SPI_getvalue(tuple, desc, 2));
	}
}

void
pgl_catalog_check_shard(const PglConfigRow *row)
{
	char *shard = pgl_catalog_check_new(row, "shard");
	char *provider = pgl_catalog_check_new(row, "provider");
	char *endpoint = pgl_catalog_check_new(row, "endpoint");
	char *network = pgl_catalog_check_new(row, "network");
	char *credential = pgl_catalog_check_new(row, "credential");
	bool loopback;

	if (shard == NULL || provider == NULL || network == NULL)
		return;
	loopback = strcmp(network, "loopback") == 0;
	if (endpoint != NULL || strcmp(network, "public") != 0)
		check_superuser(row, shard);
	if (endpoint != NULL)
		check_endpoint(shard, endpoint, loopback);
	else if (loopback && strcmp(provider, "mock") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("shard \"%s\" with network loopback needs an endpoint", shard)));
	if (credential != NULL && !is_credential_reference(credential))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("credential of shard \"%s\" is not a reference", shard),
				 errhint("Give env:PREFIX, file:NAME or profile:NAME, never the secret itself.")));
	if (row->old != NULL && pgl_catalog_check_changed(row, "provider"))
	{
		ShardChange change = {pgl_catalog_check_old(row, "shard"), provider};

		pgl_catalog_run_as_owner(check_targets_of_shard, &change);
	}
}

static void
check_max_tokens(const PglConfigRow *row, const char *target)
{
	char *max_tokens = pgl_catalog_check_new(row, "max_tokens");
	char *model = pgl_catalog_check_new(row, "model");
	char *most;

	if (max_tokens == NULL || model == NULL ||
		!(pgl_catalog_check_changed(row, "max_tokens") || pgl_catalog_check_changed(row, "model")))
		return;
	most = pgl_catalog_check_lookup_text(
		"SELECT max_output_tokens FROM %1$s.llm_model WHERE model = $1", model);
	if (most != NULL && atoi(max_tokens) > atoi(most))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_tokens of target \"%s\" is more than its model can answer", target),
				 errdetail("max_output_tokens of model \"%s\" is %s.", model, most)));
}

void
pgl_catalog_check_target(const PglConfigRow *row)
{
	char *target = pgl_catalog_check_new(row, "target");
	char *shard = pgl_catalog_check_new(row, "shard");
	char *parameters = pgl_catalog_check_new(row, "parameters");
	char *provider;

	if (target == NULL)
		return;
	check_max_tokens(row, target);
	if (shard == NULL || parameters == NULL ||
		!(pgl_catalog_check_changed(row, "shard") || pgl_catalog_check_changed(row, "parameters")))
		return;
	provider = pgl_catalog_check_lookup_text("SELECT provider FROM %1$s.llm_shard WHERE shard = $1",
											 shard);
	if (provider != NULL)
		check_parameters(provider, target, parameters);
}
