/*
 * journal.c — keys of calls, and answers found in llm_journal: see journal.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "../catalog/owner.h"
#include "../pg/compat.h"
#include "journal.h"
#include "settled.h"
#include "state.h"

#define KEY_VERSION "pgllm journal 1"

/* ---- keys ---- */

static pg_cryptohash_ctx *
begin_hash(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute SHA-256")));
	return hash;
}

static void
end_hash(pg_cryptohash_ctx *hash, unsigned char out[PGL_KEY_SIZE])
{
	if (pgl_cryptohash_final(hash, out, PGL_KEY_SIZE) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute SHA-256")));
	pg_cryptohash_free(hash);
}

static void
add_bytes(pg_cryptohash_ctx *hash, const void *bytes, size_t len)
{
	uint64_t length = len;

	/* With its length, so that no two lists of fields look alike. */
	if (pg_cryptohash_update(hash, (const uint8 *) &length, sizeof(length)) < 0 ||
		pg_cryptohash_update(hash, bytes, len) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute SHA-256")));
}

static void
add_text(pg_cryptohash_ctx *hash, const char *value)
{
	char given = value != NULL;

	add_bytes(hash, &given, 1);
	if (value)
		add_bytes(hash, value, strlen(value));
}

static void
add_number(pg_cryptohash_ctx *hash, bool given, double number)
{
	add_bytes(hash, &given, sizeof(given));
	if (given)
		add_bytes(hash, &number, sizeof(number));
}

static bool
same_answers(const PglCandidate *a, const PglCandidate *b)
{
	return strcmp(a->target->model_id, b->target->model_id) == 0 &&
		   strcmp(a->target->parameters, b->target->parameters) == 0 &&
		   a->max_tokens == b->max_tokens;
}

/*
 * Who may answer: which models, not where they are hosted, nor which of them are in use now.  An
 * account that is switched off, or another one for the same models, must not make everything be
 * paid again.
 */
static void
add_candidates(pg_cryptohash_ctx *hash, const PglPlan *plan)
{
	int c;
	int earlier;

	for (c = 0; c < plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &plan->candidates[c];

		for (earlier = 0; earlier < c; earlier++)
			if (same_answers(&plan->candidates[earlier], candidate))
				break;
		if (earlier < c)
			continue;
		add_text(hash, candidate->target->model->name);
		add_text(hash, candidate->target->model_id);
		add_text(hash, candidate->target->parameters);
		add_number(hash, true, candidate->max_tokens);
	}
}

void
pgl_journal_make_key(const PglPlan *plan, const PglChatRequest *request,
					 unsigned char key[PGL_KEY_SIZE])
{
	pg_cryptohash_ctx *hash = begin_hash();
	int i;

	add_text(hash, KEY_VERSION);
	add_text(hash, plan->tenant->name);
	add_text(hash, plan->route->name);
	add_text(hash, plan->asked_model);
	add_bytes(hash, &plan->no_fallback, sizeof(plan->no_fallback));
	add_bytes(hash, &plan->sticky_hash, sizeof(plan->sticky_hash));
	add_candidates(hash, plan);
	add_text(hash, request->system);
	add_number(hash, request->has_temperature, request->temperature);
	add_number(hash, request->has_top_p, request->top_p);
	add_number(hash, true, request->nstop);
	for (i = 0; i < request->nstop; i++)
		add_text(hash, request->stop[i]);
	add_bytes(hash, request->prompt, request->prompt_len);
	end_hash(hash, key);
}

void
pgl_journal_sha256(const void *bytes, size_t len, unsigned char out[PGL_KEY_SIZE])
{
	pg_cryptohash_ctx *hash = begin_hash();

	if (pg_cryptohash_update(hash, bytes, len) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute SHA-256")));
	end_hash(hash, out);
}

/* ---- look-up ---- */

bool
pgl_journal_is_wanted(const PglTenant *tenant, const PglCallArgs *args)
{
	bool wanted = args->has_cache ? args->cache : tenant->cache;

	if (args->sample || !wanted)
		return false;
	if (tenant->retention != PGL_RETENTION_RESPONSE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"cache\" needs a tenant that keeps answers"),
						errdetail("Tenant \"%s\" does not.", tenant->name),
						errhint("Set llm_tenant.retention to response, or leave cache out.")));
	return true;
}

typedef struct Lookup
{
	PglCall *call;
	MemoryContext context; /* of what is found */
	bool found;
} Lookup;

static char *
column_text(HeapTuple row, TupleDesc desc, int column, MemoryContext context)
{
	char *value = SPI_getvalue(row, desc, column);

	return value ? MemoryContextStrdup(context, value) : NULL;
}

static int64_t
column_int8(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? -1 : DatumGetInt64(value);
}

static void
fill_outcome(Lookup *lookup, HeapTuple row, TupleDesc desc)
{
	PglOutcome *outcome = &lookup->call->outcome;
	bool isnull;
	Datum response = SPI_getbinval(row, desc, 1, &isnull);
	Datum call_id = SPI_getbinval(row, desc, 7, &isnull);
	text *answer = DatumGetTextPP(response);

	outcome->response_len = VARSIZE_ANY_EXHDR(answer);
	outcome->response = MemoryContextAllocHuge(lookup->context, outcome->response_len + 1);
	memcpy(outcome->response, VARDATA_ANY(answer), outcome->response_len);
	outcome->response[outcome->response_len] = '\0';
	outcome->finish_reason = column_text(row, desc, 2, lookup->context);
	outcome->target = column_text(row, desc, 3, lookup->context);
	outcome->model = column_text(row, desc, 4, lookup->context);
	outcome->usage.input_tokens = column_int8(row, desc, 5);
	outcome->usage.output_tokens = column_int8(row, desc, 6);
	outcome->usage.cache_read_tokens = outcome->usage.cache_write_tokens = -1;
	memcpy(outcome->call_id, DatumGetUUIDP(call_id)->data, UUID_LEN);
	outcome->attempts = 1;
	lookup->found = true;
}

static Datum
key_datum(const unsigned char key[PGL_KEY_SIZE])
{
	bytea *value = palloc(VARHDRSZ + PGL_KEY_SIZE);

	SET_VARSIZE(value, VARHDRSZ + PGL_KEY_SIZE);
	memcpy(VARDATA(value), key, PGL_KEY_SIZE);
	return PointerGetDatum(value);
}

/* What is committed counts, also in a transaction with an old snapshot. */
static void
push_newest_snapshot(void)
{
	PushActiveSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
}

static void
look_up(const PglExtension *extension, void *arg)
{
	Oid types[] = {TEXTOID, BYTEAOID};
	Lookup *lookup = arg;
	Datum values[] = {CStringGetTextDatum(lookup->call->plan->tenant->name),
					  key_datum(lookup->call->key)};

	push_newest_snapshot();
	if (SPI_execute_with_args(psprintf("SELECT response, finish_reason, target, model,"
									   " input_tokens, output_tokens, call_id"
									   " FROM %s.llm_journal WHERE tenant = $1 AND key = $2"
									   " AND expires_at > clock_timestamp()",
									   extension->schema_name),
							  2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read llm_journal");
	if (SPI_processed > 0)
		fill_outcome(lookup, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
	PopActiveSnapshot();
}

bool
pgl_journal_find(PglCall *call)
{
	Lookup lookup = {.call = call, .context = call->context};

	pgl_ledger_require_settled();
	pgl_catalog_run_as_owner(look_up, &lookup);
	return lookup.found;
}

/* ---- many at once ---- */

typedef struct KeyLookup
{
	const char *tenant;
	unsigned char (*keys)[PGL_KEY_SIZE];
	int n;
	bool *found;
} KeyLookup;

static void
look_up_keys(const PglExtension *extension, void *arg)
{
	KeyLookup *lookup = arg;
	Oid types[] = {TEXTOID, BYTEAARRAYOID};
	Datum *elements = palloc(sizeof(Datum) * lookup->n);
	Datum values[2];
	uint64 row;
	int i;

	for (i = 0; i < lookup->n; i++)
		elements[i] = key_datum(lookup->keys[i]);
	values[0] = CStringGetTextDatum(lookup->tenant);
	values[1] =
		PointerGetDatum(construct_array(elements, lookup->n, BYTEAOID, -1, false, TYPALIGN_INT));
	push_newest_snapshot();
	if (SPI_execute_with_args(psprintf("SELECT k.number FROM unnest($2) WITH ORDINALITY"
									   " AS k (key, number) JOIN %s.llm_journal AS j USING (key)"
									   " WHERE j.tenant = $1 AND j.expires_at > clock_timestamp()",
									   extension->schema_name),
							  2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read llm_journal");
	for (row = 0; row < SPI_processed; row++)
		lookup->found[column_int8(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1) - 1] = true;
	PopActiveSnapshot();
}

void
pgl_journal_find_keys(const char *tenant, unsigned char (*keys)[PGL_KEY_SIZE], int n, bool *found)
{
	KeyLookup lookup = {tenant, keys, n, found};

	memset(found, 0, sizeof(bool) * n);
	if (n > 0)
		pgl_catalog_run_as_owner(look_up_keys, &lookup);
}
