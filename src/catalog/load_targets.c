/*
 * load_targets.c — models, shards and targets of a snapshot, with limits and prices resolved.
 *
 * Limits.  Targets of one quota domain share one bucket, so they must agree about its size: each
 * gets the strictest rpm and tpm that any row of the domain states, disabled rows included, and the
 * strict window if any limited row asks for it.  A target without quota_domain is a domain by its
 * own name.
 *
 * Prices.  They are looked up by model and by the geography of the target, then by 'any', for each
 * component by itself; the SQL has already picked the newest row that is valid now.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "internal.h"

static const char *const geography_prefixes[] = {"us", "us-gov", "eu", "apac",
												 "jp", "au",     "ca", "global"};
static const char *const network_words[] = {"public", "private", "loopback", NULL};
static const char *const window_words[] = {"bucket", "strict", NULL};
static const char *const component_words[] = {"input", "output", "cache_read", "cache_write", NULL};

typedef struct Price
{
	const char *model;
	const char *geography;
	PglPriceComponent component;
	int64 nano_usd;
} Price;

static void
fill_model(PglLoader *loader, PglRow *row, void *item)
{
	PglModel *model = item;

	model->name = pgl_catalog_row_text(row);
	model->id = pgl_catalog_hash(model->name);
	model->context_window = pgl_catalog_row_int4(row, 0);
	model->max_output_tokens = pgl_catalog_row_int4(row, 0);
	model->output_burndown = pgl_catalog_row_int4(row, 1);
	model->can_text = pgl_catalog_row_bool(row);
}

/*
 * The check trigger keeps bad endpoints out; a row that came in around it (triggers disabled) must
 * not send a call anywhere, nor take the other shards down.
 */
static void
resolve_endpoint(PglShard *shard, const char *endpoint)
{
	const char *why = NULL;

	if (endpoint != NULL)
	{
		if (pgl_uri_parse_endpoint(endpoint, &shard->endpoint, &why))
			return;
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("shard \"%s\" is disabled: its endpoint is invalid", shard->name)));
		shard->enabled = false;
	}
	else if (!shard->provider->in_process && shard->region[0] != '\0')
		pgl_uri_bedrock_endpoint(shard->region, &shard->endpoint);
}

static void
fill_shard(PglLoader *loader, PglRow *row, void *item)
{
	PglShard *shard = item;
	const char *provider;

	shard->name = pgl_catalog_row_text(row);
	shard->id = pgl_catalog_hash(shard->name);
	provider = pgl_catalog_row_text(row);
	shard->provider = pgl_provider_find(provider);
	if (shard->provider == NULL)
		elog(ERROR, "provider \"%s\" of shard \"%s\" is unknown", provider, shard->name);
	shard->region = pgl_catalog_row_text(row);
	shard->credential = pgl_catalog_row_text(row);
	shard->credential_id = shard->credential == NULL ? 0 : pgl_catalog_hash(shard->credential);
	shard->network = (PglNetScope) pgl_catalog_row_choice(row, network_words);
	shard->enabled = pgl_catalog_row_bool(row);
	resolve_endpoint(shard, pgl_catalog_row_text(row));
}

/* "us" for us.anthropic.claude..., NULL for anthropic.claude...; ids in ARNs follow the last slash.
 */
static const char *
geography_of_model_id(const char *model_id)
{
	const char *slash = strncmp(model_id, "arn:", 4) == 0 ? strrchr(model_id, '/') : NULL;
	const char *id = slash == NULL ? model_id : slash + 1;

	for (size_t i = 0; i < lengthof(geography_prefixes); i++)
	{
		size_t len = strlen(geography_prefixes[i]);

		if (strncmp(id, geography_prefixes[i], len) == 0 && id[len] == '.')
			return geography_prefixes[i];
	}
	return NULL;
}

/* The first part of the Region, except where the names of AWS's geographies differ from it. */
static const char *
geography_of_region(MemoryContext context, const char *region)
{
	if (region[0] == '\0')
		return "any";
	if (strncmp(region, "us-gov-", 7) == 0)
		return "us-gov";
	if (strncmp(region, "ap-", 3) == 0)
		return "apac";
	return MemoryContextStrdup(context, pnstrdup(region, strcspn(region, "-")));
}

static void
resolve_geography(MemoryContext context, PglTarget *target)
{
	if (target->geography == NULL)
		target->geography = geography_of_model_id(target->model_id);
	if (target->geography == NULL)
		target->geography = geography_of_region(context, target->shard->region);
}

/* What goes to providers is UTF-8, whatever the encoding of the database. */
static const char *
to_utf8(MemoryContext context, const char *source)
{
	char *converted = pg_server_to_any(source, strlen(source), PG_UTF8);

	return converted == source ? source : MemoryContextStrdup(context, converted);
}

static void
fill_target(PglLoader *loader, PglRow *row, void *item)
{
	PglTarget *target = item;

	target->name = pgl_catalog_row_text(row);
	target->id = pgl_catalog_hash(target->name);
	target->shard = pgl_catalog_find_item(&loader->snapshot->shards, pgl_catalog_row_text(row));
	target->model = pgl_catalog_find_item(&loader->snapshot->models, pgl_catalog_row_text(row));
	if (target->shard == NULL || target->model == NULL)
		elog(ERROR, "target \"%s\" has no shard or no model", target->name);
	target->model_id = pgl_catalog_row_text(row);
	target->geography = pgl_catalog_row_text(row);
	target->domain = pgl_catalog_row_text(row);
	target->domain_id = pgl_catalog_hash(target->domain);
	target->rpm = pgl_catalog_row_int8(row, 0);
	target->tpm = pgl_catalog_row_int8(row, 0);
	target->max_inflight = pgl_catalog_row_int4(row, 0);
	target->window_kind = (PglWindowKind) pgl_catalog_row_choice(row, window_words);
	target->timeout_ms = pgl_catalog_row_int4(row, 0);
	target->max_tokens = pgl_catalog_row_int4(row, 0);
	target->parameters = to_utf8(row->context, pgl_catalog_row_text(row));
	target->enabled = pgl_catalog_row_bool(row);
	resolve_geography(row->context, target);
}

static void
fill_price(PglLoader *loader, PglRow *row, void *item)
{
	Price *price = item;

	price->model = pgl_catalog_row_text(row);
	price->geography = pgl_catalog_row_text(row);
	price->component = (PglPriceComponent) pgl_catalog_row_choice(row, component_words);
	price->nano_usd = pgl_catalog_row_int8(row, 0);
}

static void
fill_next_price(PglLoader *loader, PglRow *row, void *item)
{
	loader->snapshot->next_price_at = pgl_catalog_row_int8(row, DT_NOEND);
}

static int64
strictest(int64 a, int64 b)
{
	if (a == 0 || b == 0)
		return Max(a, b);
	return Min(a, b);
}

static void
share_limits(const PglItems *targets)
{
	for (int i = 0; i < targets->count; i++)
	{
		PglTarget *one = targets->items[i];

		for (int j = 0; j < i; j++)
		{
			PglTarget *other = targets->items[j];
			bool one_strict = one->window_kind == PGL_WINDOW_STRICT && (one->rpm || one->tpm);
			bool other_strict =
				other->window_kind == PGL_WINDOW_STRICT && (other->rpm || other->tpm);

			if (strcmp(one->domain, other->domain) != 0)
				continue;
			one->rpm = other->rpm = strictest(one->rpm, other->rpm);
			one->tpm = other->tpm = strictest(one->tpm, other->tpm);
			one->window_kind = other->window_kind =
				one_strict || other_strict ? PGL_WINDOW_STRICT : PGL_WINDOW_BUCKET;
		}
	}
}

/* Rows of 'any' come first, so that a row for the very geography overwrites them. */
static void
apply_prices(const PglItems *targets, const PglItems *prices)
{
	for (int i = 0; i < targets->count; i++)
	{
		PglTarget *target = targets->items[i];

		for (int c = 0; c < PGL_PRICE_COMPONENTS; c++)
			target->price[c] = PGL_PRICE_NONE;
		for (int p = 0; p < prices->count; p++)
		{
			const Price *price = prices->items[p];

			if (strcmp(price->model, target->model->name) == 0 &&
				(strcmp(price->geography, "any") == 0 ||
				 strcmp(price->geography, target->geography) == 0))
				target->price[price->component] = price->nano_usd;
		}
	}
}

static void
load_prices(PglLoader *loader)
{
	PglItems prices;

	prices = pgl_catalog_read_items(
		loader,
		"SELECT DISTINCT ON (geography <> 'any', model, geography, component)"
		" model, geography, component, (usd_per_million * 1000000000)::int8"
		" FROM %1$s.llm_price WHERE valid_from <= $1"
		" ORDER BY geography <> 'any', model, geography, component, valid_from DESC",
		sizeof(Price), fill_price);
	apply_prices(&loader->snapshot->targets, &prices);
	(void) pgl_catalog_read_items(
		loader, "SELECT min(valid_from) FROM %1$s.llm_price WHERE valid_from > $1", sizeof(char),
		fill_next_price);
}

void
pgl_catalog_load_targets(PglLoader *loader)
{
	PglSnapshot *snapshot = loader->snapshot;

	snapshot->models =
		pgl_catalog_read_items(loader,
							   "SELECT model, context_window, max_output_tokens, output_burndown,"
							   " 'text' = ANY (capabilities)"
							   " FROM %1$s.llm_model ORDER BY model COLLATE \"C\"",
							   sizeof(PglModel), fill_model);
	snapshot->shards = pgl_catalog_read_items(
		loader,
		"SELECT shard, provider, coalesce(region, ''), credential, network, enabled, endpoint"
		" FROM %1$s.llm_shard ORDER BY shard COLLATE \"C\"",
		sizeof(PglShard), fill_shard);
	snapshot->targets = pgl_catalog_read_items(
		loader,
		"SELECT target, shard, model, model_id, geography, coalesce(quota_domain, target),"
		" rpm, tpm, max_inflight, window_kind, timeout_ms, max_tokens, parameters::text, enabled"
		" FROM %1$s.llm_target ORDER BY target COLLATE \"C\"",
		sizeof(PglTarget), fill_target);
	share_limits(&snapshot->targets);
	load_prices(loader);
}
