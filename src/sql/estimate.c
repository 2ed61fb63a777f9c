/*
 * estimate.c — llm_estimate: what it would cost to call for every row of a query, without a call.
 *
 * One plan is built for the options, as for a call with an empty prompt: it authorises the tenant
 * and knows candidates, prices and limits.  A prompt then is nothing but a number of bytes.  The
 * query runs in a cursor, as the caller, in chunks of rows, with the transaction set to read-only
 * and with calls forbidden, so that a query with llm_invoke in it does not spend what was to be
 * estimated.  What grows with the rows is the table of digests of distinct prompts.
 *
 * Two sums are kept.  The upper one takes every prompt for a call, counts tokens as reservations
 * do, and picks the dearest candidate and an answer of full length.  The lower one takes each
 * distinct prompt once, unless its answer is in the journal and would be used, counts tokens on the
 * low side, and picks the cheapest candidate and no answer.  The cost of calls that all succeed at
 * once lies between the two.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/numeric.h"

#include "../call/journal.h"
#include "../call/plan.h"
#include "../pg/compat.h"
#include "../shmem/state.h"
#include "options.h"
#include "query.h"
#include "utility.h"

PG_FUNCTION_INFO_V1(pgl_llm_estimate);

#define ESTIMATE_COLUMNS 9
#define ROWS_PER_FETCH 500

/* Not a cryptographic digest: who makes two of his prompts collide fools himself. */
typedef struct PromptDigest
{
	uint64 half[2];
} PromptDigest;

/* A prompt that the journal has not been asked for yet. */
typedef struct Pending
{
	int n;
	unsigned char keys[ROWS_PER_FETCH][PGL_KEY_SIZE];
	size_t bytes[ROWS_PER_FETCH];
} Pending;

/* Sums are in nano-USD per million tokens times tokens, as prices come. */
typedef struct Estimate
{
	const PglPlan *plan;
	size_t system_bytes;    /* of the option system, sent with each prompt */
	PglChatRequest request; /* the options, for keys of the journal */
	Pending *pending;       /* NULL: calls would not use the journal */
	HTAB *seen;
	MemoryContext scratch; /* reset after each row */
	int64 rows;
	int64 prompts;
	int64 distinct;
	int64 cached; /* distinct prompts whose answers are in the journal */
	int64 input_tokens;
	int64 least_input_tokens; /* of distinct prompts */
	int64 max_output_tokens;
	__int128 least_cost;
	__int128 most_cost;
	bool least_unknown; /* a price that is needed is missing */
	bool most_unknown;
} Estimate;

/* ---- one prompt ---- */

static bool
is_new(Estimate *estimate, const char *prompt, int len)
{
	PromptDigest digest = {{hash_bytes_extended((const unsigned char *) prompt, len, 0),
							hash_bytes_extended((const unsigned char *) prompt, len,
												UINT64CONST(0x9e3779b97f4a7c15))}};
	bool found;

	hash_search(estimate->seen, &digest, HASH_ENTER, &found);
	return !found;
}

/* The dearest of the candidates that may take a prompt of this size. */
static void
add_prompt(Estimate *estimate, size_t bytes)
{
	int64 input = pgl_plan_most_input(bytes);
	__int128 most = 0;
	int64 output = 0;
	bool eligible = false;
	int c;

	estimate->prompts++;
	for (c = 0; c < estimate->plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &estimate->plan->candidates[c];
		const int64 *price = candidate->target->price;

		if (candidate->dropped || !pgl_plan_fits(candidate, bytes))
			continue;
		eligible = true;
		output = Max(output, candidate->max_tokens);
		estimate->most_unknown |=
			price[PGL_PRICE_INPUT] == PGL_PRICE_NONE || price[PGL_PRICE_OUTPUT] == PGL_PRICE_NONE;
		most = Max(most, (__int128) input * price[PGL_PRICE_INPUT] +
							 (__int128) candidate->max_tokens * price[PGL_PRICE_OUTPUT]);
	}
	if (!eligible)
		return;
	estimate->input_tokens += input;
	estimate->max_output_tokens += output;
	estimate->most_cost += most;
}

/* The cheapest of them, for a prompt that will be sent. */
static void
add_distinct(Estimate *estimate, size_t bytes)
{
	int64 input = pgl_plan_least_input(bytes);
	__int128 least = -1;
	int c;

	for (c = 0; c < estimate->plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &estimate->plan->candidates[c];
		int64 price = candidate->target->price[PGL_PRICE_INPUT];

		if (candidate->dropped || !pgl_plan_fits(candidate, bytes))
			continue;
		estimate->least_unknown |= price == PGL_PRICE_NONE;
		least = least < 0 ? (__int128) input * price : Min(least, (__int128) input * price);
	}
	if (least < 0)
		return;
	estimate->least_input_tokens += input;
	estimate->least_cost += least;
}

/* What is in the journal is not sent. */
static void
ask_journal(Estimate *estimate)
{
	Pending *pending = estimate->pending;
	bool found[ROWS_PER_FETCH];
	int i;

	if (pending == NULL)
		return;
	pgl_journal_find_keys(estimate->plan->tenant->name, pending->keys, pending->n, found);
	for (i = 0; i < pending->n; i++)
	{
		estimate->cached += found[i];
		if (!found[i])
			add_distinct(estimate, pending->bytes[i]);
	}
	pending->n = 0;
}

static void
note_distinct(Estimate *estimate, const char *utf8, size_t len, size_t bytes)
{
	Pending *pending = estimate->pending;

	estimate->distinct++;
	if (pending == NULL)
	{
		add_distinct(estimate, bytes);
		return;
	}
	estimate->request.prompt = utf8;
	estimate->request.prompt_len = len;
	pgl_journal_make_key(estimate->plan, &estimate->request, pending->keys[pending->n]);
	pending->bytes[pending->n++] = bytes;
}

static void
add_row(Estimate *estimate, Datum value, bool isnull)
{
	text *prompt;
	char *bytes;
	int len;
	char *utf8;
	size_t utf8_len;

	estimate->rows++;
	if (isnull)
		return;
	prompt = DatumGetTextPP(value);
	bytes = VARDATA_ANY(prompt);
	len = VARSIZE_ANY_EXHDR(prompt);
	if (len == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("prompt of row " INT64_FORMAT " must not be empty", estimate->rows),
						errhint("A call with it would be an error too; leave such rows out.")));
	utf8 = pg_server_to_any(bytes, len, PG_UTF8);
	utf8_len = utf8 == bytes ? (size_t) len : strlen(utf8);
	add_prompt(estimate, estimate->system_bytes + utf8_len);
	if (is_new(estimate, bytes, len))
		note_distinct(estimate, utf8, utf8_len, estimate->system_bytes + utf8_len);
}

/* ---- the query ---- */

static void
read_rows(Estimate *estimate, const char *sql)
{
	Portal portal = pgl_query_open(sql);
	int column = pgl_query_prompt_column(portal->tupDesc);
	MemoryContext caller = CurrentMemoryContext;

	for (;;)
	{
		SPITupleTable *table;
		uint64 i;

		SPI_cursor_fetch(portal, true, ROWS_PER_FETCH);
		table = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		for (i = 0; i < table->numvals; i++)
		{
			bool isnull;
			Datum value = SPI_getbinval(table->vals[i], table->tupdesc, column, &isnull);

			CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(estimate->scratch);
			add_row(estimate, value, isnull);
			MemoryContextSwitchTo(caller);
			MemoryContextReset(estimate->scratch);
		}
		SPI_freetuptable(table);
		ask_journal(estimate);
	}
	SPI_cursor_close(portal);
}

/*
 * The planner may run immutable functions and execution any, so all of it is read-only.  The
 * variable itself: 17 and later do not let a function set transaction_read_only for its own time.
 */
static void
run_query(Estimate *estimate, const char *sql)
{
	bool was_read_only = XactReadOnly;
	const char *outer = pgl_utility_forbid("llm_estimate");

	PG_TRY();
	{
		XactReadOnly = true;
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "could not connect to SPI");
		read_rows(estimate, sql);
		if (SPI_finish() != SPI_OK_FINISH)
			elog(ERROR, "could not disconnect from SPI");
	}
	PG_FINALLY();
	{
		XactReadOnly = was_read_only;
		pgl_utility_permit(outer);
	}
	PG_END_TRY();
}

/* ---- how long it takes at least ---- */

/* One dimension of a limit: what it lets pass at once, and then per minute. */
typedef struct Rate
{
	const PglLimitSpec *limit;
	double burst;
	double per_minute;
} Rate;

static bool
rate_of(const PglLimitSpec *limit, PglDimension dimension, Rate *rate)
{
	int64 per_minute = dimension == PGL_DIM_REQUESTS ? limit->rpm : limit->tpm;
	int64 burst = dimension == PGL_DIM_REQUESTS ? limit->burst_requests : limit->burst_tokens;

	if (limit->shadow || per_minute <= 0)
		return false;
	rate->limit = limit;
	rate->per_minute = per_minute;
	rate->burst = burst > 0 ? burst : per_minute;
	return true;
}

static double
seconds_at(double amount, double burst, double per_minute)
{
	return amount <= burst ? 0 : (amount - burst) / per_minute * 60;
}

/* The slowest of the limits that bind together. */
static double
seconds_of_limits(const PglLimitSpec *limits, int n, PglDimension dimension, double amount,
				  Rate *slowest)
{
	double longest = 0;
	int i;

	slowest->limit = NULL;
	for (i = 0; i < n; i++)
	{
		Rate rate;
		double seconds;

		if (!rate_of(&limits[i], dimension, &rate))
			continue;
		seconds = seconds_at(amount, rate.burst, rate.per_minute);
		longest = Max(longest, seconds);
		if (slowest->limit == NULL || rate.per_minute < slowest->per_minute)
			*slowest = rate;
	}
	return longest;
}

/*
 * Candidates add up: each gives what its slowest limit lets pass, one that several share counts
 * once.  A candidate without a limit takes everything at once.
 */
static double
seconds_of_candidates(const PglPlan *plan, PglDimension dimension, double amount)
{
	Rate *rates = palloc(sizeof(Rate) * Max(plan->ncandidates, 1));
	double burst = 0;
	double per_minute = 0;
	int n = 0;
	int c;

	for (c = 0; c < plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &plan->candidates[c];
		Rate rate;
		int i;

		if (candidate->dropped)
			continue;
		(void) seconds_of_limits(candidate->limits, candidate->nlimits, dimension, amount, &rate);
		if (rate.limit == NULL)
			return 0;
		for (i = 0; i < n; i++)
			if (memcmp(&rates[i].limit->key, &rate.limit->key, sizeof(PglLimitKey)) == 0)
				break;
		if (i < n)
			continue;
		rates[n++] = rate;
		burst += rate.burst;
		per_minute += rate.per_minute;
	}
	return n == 0 ? 0 : seconds_at(amount, burst, per_minute);
}

static double
least_seconds(const Estimate *estimate)
{
	const double amount[] = {[PGL_DIM_REQUESTS] = (double) (estimate->distinct - estimate->cached),
							 [PGL_DIM_TOKENS] = (double) estimate->least_input_tokens};
	double longest = 0;
	PglDimension dimension;

	for (dimension = PGL_DIM_REQUESTS; dimension <= PGL_DIM_TOKENS; dimension++)
	{
		Rate slowest;
		double call = seconds_of_limits(estimate->plan->limits, estimate->plan->nlimits, dimension,
										amount[dimension], &slowest);
		double candidates = seconds_of_candidates(estimate->plan, dimension, amount[dimension]);

		longest = Max(longest, Max(call, candidates));
	}
	return longest;
}

/* ---- the row ---- */

/* US dollars, to the nearest nano. */
static Datum
usd(__int128 total)
{
	Numeric nano = int64_to_numeric((int64) ((total + 500000) / 1000000));

	return DirectFunctionCall2(numeric_mul, NumericGetDatum(nano),
							   DirectFunctionCall3(numeric_in, CStringGetDatum("0.000000001"),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

static Datum
form_row(FunctionCallInfo fcinfo, const Estimate *estimate)
{
	TupleDesc desc;
	Datum values[ESTIMATE_COLUMNS] = {
		Int64GetDatum(estimate->rows),
		Int64GetDatum(estimate->prompts),
		Int64GetDatum(estimate->distinct),
		Int64GetDatum(estimate->cached),
		Int64GetDatum(estimate->input_tokens),
		Int64GetDatum(estimate->max_output_tokens),
		usd(estimate->least_cost),
		usd(estimate->most_cost),
		Float8GetDatum(least_seconds(estimate)),
	};
	bool nulls[ESTIMATE_COLUMNS] = {[6] = estimate->least_unknown, [7] = estimate->most_unknown};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static HTAB *
make_seen(void)
{
	HASHCTL control = {.keysize = sizeof(PromptDigest),
					   .entrysize = sizeof(PromptDigest),
					   .hcxt = CurrentMemoryContext};

	return hash_create("pgllm prompts", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

Datum
pgl_llm_estimate(PG_FUNCTION_ARGS)
{
	const PglSnapshot *volatile pinned = NULL;
	Estimate estimate = {0};
	PglCallArgs args;
	Datum row = (Datum) 0;

	pgl_shmem_require();
	pgl_options_init(&args, PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(2))
		pgl_options_read(&args, PG_GETARG_JSONB_P(2));
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("query must not be null")));
	pgl_call_make_request(&args, &estimate.request);
	estimate.system_bytes = estimate.request.system ? strlen(estimate.request.system) : 0;
	estimate.seen = make_seen();
	estimate.scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pgllm prompt", ALLOCSET_DEFAULT_SIZES);
	PG_TRY();
	{
		estimate.plan =
			pgl_plan_build(&args, estimate.system_bytes, (const PglSnapshot **) &pinned);
		if (pgl_journal_is_wanted(estimate.plan->tenant, &args))
			estimate.pending = palloc0(sizeof(Pending));
		run_query(&estimate, text_to_cstring(PG_GETARG_TEXT_PP(1)));
		row = form_row(fcinfo, &estimate);
	}
	PG_FINALLY();
	{
		if (pinned)
			pgl_catalog_unpin(pinned);
	}
	PG_END_TRY();
	hash_destroy(estimate.seen);
	PG_RETURN_DATUM(row);
}
