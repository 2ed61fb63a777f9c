/*
 * tables.c — the SQL of the ledger writer: records become rows.
 *
 * The attempts of a batch are handed to one INSERT as a relation that lives in memory: routing to
 * partitions, indexes and snapshots are set up once per batch, not once per row.  The rest
 * (intents, answers) is one prepared statement each, executed per record.  Statements name their
 * tables with the schema, so the plan cache follows a DROP and CREATE of the extension by itself;
 * when the schema is another one, plans are forgotten.
 *
 * Records may come twice, and late: two may drain the same ones, and spill files are read again
 * after a crash.  So an attempt that is there already is skipped, an answer never replaces a newer
 * one, and an intent is skipped when its attempt is there.  In a batch intents come first, so that
 * each is gone when its attempt is there, in whatever order they came.
 *
 * Texts were cut to fit, perhaps inside a character.  One that the encoding rejects would stop the
 * ledger for good; they are repaired here, whatever they hold.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/queryenvironment.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "worker.h"

#define MAX_COLUMNS 48
#define ATTEMPTS "drained_attempts"

typedef struct Column
{
	const char *name;
	Oid type;
} Column;

/* In the order in which fill_row puts their values. */
static const Column columns[] = {
	{"started_at", TIMESTAMPTZOID},
	{"call_id", UUIDOID},
	{"attempt", INT4OID},
	{"outcome", TEXTOID},
	{"cause", TEXTOID},
	{"sqlstate", TEXTOID},
	{"error", TEXTOID},
	{"tenant", TEXTOID},
	{"session_role", NAMEOID},
	{"role", NAMEOID},
	{"role_id", OIDOID},
	{"query_id", INT8OID},
	{"route", TEXTOID},
	{"target", TEXTOID},
	{"shard", TEXTOID},
	{"region", TEXTOID},
	{"geography", TEXTOID},
	{"model", TEXTOID},
	{"fallback_depth", INT4OID},
	{"status", INT4OID},
	{"finish_reason", TEXTOID},
	{"provider_request_id", TEXTOID},
	{"reserved_tokens", INT8OID},
	{"input_tokens", INT8OID},
	{"output_tokens", INT8OID},
	{"cache_read_tokens", INT8OID},
	{"cache_write_tokens", INT8OID},
	{"price_input", INT8OID},
	{"price_output", INT8OID},
	{"price_cache_read", INT8OID},
	{"price_cache_write", INT8OID},
	{"charge", TEXTOID},
	{"reserved_nano_usd", INT8OID},
	{"cost_nano_usd", INT8OID},
	{"over_budget", BOOLOID},
	{"queue_ms", FLOAT8OID},
	{"prepare_ms", FLOAT8OID},
	{"connect_ms", FLOAT8OID},
	{"first_byte_ms", FLOAT8OID},
	{"total_ms", FLOAT8OID},
	{"prompt_sha256", BYTEAOID},
	{"response_sha256", BYTEAOID},
};

/* Values of a row under construction. */
typedef struct Row
{
	int n;
	Oid types[MAX_COLUMNS];
	Datum values[MAX_COLUMNS];
	char nulls[MAX_COLUMNS]; /* as SPI has them */
} Row;

/* Saved plans, all of one schema. */
static SPIPlanPtr attempt_plan = NULL;
static SPIPlanPtr intent_plan = NULL;
static SPIPlanPtr done_plan = NULL;
static SPIPlanPtr journal_plan = NULL;
static Oid planned_schema = InvalidOid;
static char planned_name[2 * NAMEDATALEN + 3] = "";

/* ---- values ---- */

static void
put(Row *row, Oid type, Datum value)
{
	row->types[row->n] = type;
	row->values[row->n] = value;
	row->nulls[row->n++] = ' ';
}

static void
put_null(Row *row, Oid type)
{
	row->types[row->n] = type;
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = 'n';
}

/* A copy that the server encoding accepts: a cut character goes, an invalid byte becomes '?'. */
static text *
valid_text(const char *from, size_t length)
{
	text *value;
	char *at;
	int left;

	length = pg_mbcliplen(from, length, length);
	value = cstring_to_text_with_len(from, length);
	at = VARDATA(value);
	left = length;
	while (!pg_verifymbstr(at, left, true))
	{
		int good = pg_encoding_verifymbstr(GetDatabaseEncoding(), at, left);

		at[good] = '?';
		at += good + 1;
		left -= good + 1;
	}
	return value;
}

/* A field that has a size and need not be terminated. */
static void
put_text(Row *row, const char *field, size_t size)
{
	put(row, TEXTOID, PointerGetDatum(valid_text(field, strnlen(field, size))));
}

static void
put_optional_text(Row *row, const char *field, size_t size)
{
	if (field[0] != '\0')
		put_text(row, field, size);
	else
		put_null(row, TEXTOID);
}

#define PUT_FIELD(row, record, field) \
	put_optional_text(row, (record)->field, sizeof((record)->field))

static void
put_word(Row *row, const char *word)
{
	put(row, TEXTOID, CStringGetTextDatum(word));
}

static void
put_role(Row *row, Oid oid)
{
	char *found = GetUserNameFromId(oid, true);
	Name name = palloc0(sizeof(NameData));

	namestrcpy(name, found ? found : psprintf("%u", oid));
	put(row, NAMEOID, NameGetDatum(name));
}

static void
put_int8(Row *row, int64_t value, int64_t unknown)
{
	if (value == unknown)
		put_null(row, INT8OID);
	else
		put(row, INT8OID, Int64GetDatum(value));
}

static void
put_ms(Row *row, int64_t us)
{
	if (us < 0)
		put_null(row, FLOAT8OID);
	else
		put(row, FLOAT8OID, Float8GetDatum(us / 1000.0));
}

static void
put_bytes(Row *row, const unsigned char *from, size_t length)
{
	put(row, BYTEAOID, PointerGetDatum(cstring_to_text_with_len((const char *) from, length)));
}

static void
put_hash(Row *row, const PglRecord *record, const unsigned char *hash)
{
	if (record->has_hashes)
		put_bytes(row, hash, 32);
	else
		put_null(row, BYTEAOID);
}

static void
put_uuid(Row *row, const PglRecord *record)
{
	pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

	memcpy(uuid->data, record->call_id, UUID_LEN);
	put(row, UUIDOID, UUIDPGetDatum(uuid));
}

static void
put_key(Row *row, const PglRecord *record)
{
	put(row, TIMESTAMPTZOID, TimestampTzGetDatum(record->started_at));
	put_uuid(row, record);
	put(row, INT4OID, Int32GetDatum(record->attempt));
}

/* ---- rows ---- */

/* Until the attempt is known to have ended, nobody knows what became of it. */
static const char *
outcome_word(const PglRecord *record)
{
	static const char *const words[] = {"success", "failed", "cancelled", "refused", "unknown"};

	if (record->kind == PGL_RECORD_INTENT || record->outcome >= lengthof(words))
		return "unknown";
	return words[record->outcome];
}

static const char *
charge_word(const PglRecord *record)
{
	static const char *const words[] = {"none", "usage", "reserved"};

	if (record->kind == PGL_RECORD_INTENT || record->charge >= lengthof(words))
		return "reserved";
	return words[record->charge];
}

static void
fill_what(Row *row, const PglRecord *record)
{
	put_word(row, outcome_word(record));
	PUT_FIELD(row, record, cause);
	if (record->sqlstate != 0)
		put_word(row, unpack_sql_state(record->sqlstate));
	else
		put_null(row, TEXTOID);
	PUT_FIELD(row, record, error);
}

static void
fill_who(Row *row, const PglRecord *record)
{
	put_text(row, record->tenant, sizeof(record->tenant));
	put_role(row, record->session_role);
	put_role(row, record->role);
	put(row, OIDOID, ObjectIdGetDatum(record->role));
	put_int8(row, record->query_id, 0);
}

static void
fill_where(Row *row, const PglRecord *record)
{
	PUT_FIELD(row, record, route);
	PUT_FIELD(row, record, target);
	PUT_FIELD(row, record, shard);
	PUT_FIELD(row, record, region);
	PUT_FIELD(row, record, geography);
	PUT_FIELD(row, record, model);
	put(row, INT4OID, Int32GetDatum(record->fallback_depth));
	if (record->status != 0)
		put(row, INT4OID, Int32GetDatum(record->status));
	else
		put_null(row, INT4OID);
	PUT_FIELD(row, record, finish_reason);
	PUT_FIELD(row, record, request_id);
}

static void
fill_cost(Row *row, const PglRecord *record)
{
	int i;

	put_int8(row, record->reserved_tokens, -1);
	put_int8(row, record->input_tokens, -1);
	put_int8(row, record->output_tokens, -1);
	put_int8(row, record->cache_read_tokens, -1);
	put_int8(row, record->cache_write_tokens, -1);
	for (i = 0; i < lengthof(record->price); i++)
		put_int8(row, record->price[i], -1);
	put_word(row, charge_word(record));
	put_int8(row, record->reserved_nano_usd, -1);
	put_int8(row,
			 record->kind == PGL_RECORD_INTENT ? record->reserved_nano_usd : record->cost_nano_usd,
			 -1);
	put(row, BOOLOID, BoolGetDatum(record->over_budget));
}

static void
fill_row(Row *row, const PglRecord *record)
{
	row->n = 0;
	put_key(row, record);
	fill_what(row, record);
	fill_who(row, record);
	fill_where(row, record);
	fill_cost(row, record);
	put_ms(row, record->queue_us);
	put_ms(row, record->prepare_us);
	put_ms(row, record->connect_us);
	put_ms(row, record->first_byte_us);
	put_ms(row, record->total_us);
	put_hash(row, record, record->prompt_sha256);
	put_hash(row, record, record->response_sha256);
	Assert(row->n == lengthof(columns));
}

/* ---- statements ---- */

void
pgl_tables_forget_plans(void)
{
	SPIPlanPtr *const plans[] = {&attempt_plan, &intent_plan, &done_plan, &journal_plan};
	int i;

	for (i = 0; i < lengthof(plans); i++)
	{
		if (*plans[i] != NULL)
			SPI_freeplan(*plans[i]);
		*plans[i] = NULL;
	}
}

static void
follow_schema(const PglExtension *extension)
{
	if (planned_schema == extension->schema && strcmp(planned_name, extension->schema_name) == 0)
		return;
	pgl_tables_forget_plans();
	planned_schema = extension->schema;
	strlcpy(planned_name, extension->schema_name, sizeof(planned_name));
}

/* Generic: values do not matter for one row by its key, and planning would cost more than it. */
static void
execute(SPIPlanPtr *plan, const char *sql, Row *row, int expected)
{
	int result;

	if (*plan == NULL)
	{
		SPIPlanPtr fresh = SPI_prepare_cursor(sql, row->n, row->types, CURSOR_OPT_GENERIC_PLAN);

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not prepare a statement of the ledger: %s",
				 SPI_result_code_string(SPI_result));
		*plan = fresh;
	}
	result = SPI_execute_plan(*plan, row->values, row->nulls, false, 0);
	if (result != expected)
		elog(ERROR, "statement of the ledger failed: %s", SPI_result_code_string(result));
}

/* "started_at, call_id, ..." */
static char *
column_list(void)
{
	StringInfoData list;
	int i;

	initStringInfo(&list);
	for (i = 0; i < lengthof(columns); i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", columns[i].name);
	return list.data;
}

/* "$1, $2, ..." */
static char *
parameter_list(int n)
{
	StringInfoData list;
	int i;

	initStringInfo(&list);
	for (i = 1; i <= n; i++)
		appendStringInfo(&list, "%s$%d", i > 1 ? ", " : "", i);
	return list.data;
}

static void
insert_intent(const PglRecord *record, Row *row, const char *schema)
{
	const char *sql = NULL;

	fill_row(row, record);
	put(row, INT8OID, Int64GetDatum(record->run));
	if (intent_plan == NULL)
		sql = psprintf("INSERT INTO %s.llm_intent (%s, run) SELECT %s WHERE NOT EXISTS "
					   "(SELECT FROM %s.llm_ledger AS l WHERE l.started_at "
					   "OPERATOR(pg_catalog.=) $1 AND l.call_id OPERATOR(pg_catalog.=) $2 AND "
					   "l.attempt OPERATOR(pg_catalog.=) $3) ON CONFLICT DO NOTHING",
					   schema, column_list(), parameter_list(row->n), schema);
	execute(&intent_plan, sql, row, SPI_OK_INSERT);
}

static void
delete_intent(const PglRecord *record, Row *row, const char *schema)
{
	const char *sql = NULL;

	row->n = 0;
	put_uuid(row, record);
	put(row, INT4OID, Int32GetDatum(record->attempt));
	if (done_plan == NULL)
		sql = psprintf("DELETE FROM %s.llm_intent WHERE call_id OPERATOR(pg_catalog.=) $1 "
					   "AND attempt OPERATOR(pg_catalog.=) $2",
					   schema);
	execute(&done_plan, sql, row, SPI_OK_DELETE);
}

static void
upsert_answer(const PglRecord *record, const char *answer, Row *row, const char *schema)
{
	const char *sql = NULL;

	row->n = 0;
	put_text(row, record->tenant, sizeof(record->tenant));
	put_bytes(row, record->journal_key, sizeof(record->journal_key));
	put(row, TEXTOID, PointerGetDatum(valid_text(answer, record->answer_length)));
	PUT_FIELD(row, record, finish_reason);
	PUT_FIELD(row, record, target);
	PUT_FIELD(row, record, model);
	put_int8(row, record->input_tokens, -1);
	put_int8(row, record->output_tokens, -1);
	put_bytes(row, record->prompt_sha256, sizeof(record->prompt_sha256));
	put_uuid(row, record);
	put(row, TIMESTAMPTZOID, TimestampTzGetDatum(record->started_at + Max(record->total_us, 0)));
	put(row, TIMESTAMPTZOID, TimestampTzGetDatum(record->expires_at));
	if (journal_plan == NULL)
		sql = psprintf(
			"INSERT INTO %s.llm_journal AS j (tenant, key, response, finish_reason, target, model, "
			"input_tokens, output_tokens, prompt_sha256, call_id, created_at, expires_at) "
			"VALUES (%s) "
			"ON CONFLICT (tenant, key) DO UPDATE SET response = EXCLUDED.response, "
			"finish_reason = EXCLUDED.finish_reason, target = EXCLUDED.target, "
			"model = EXCLUDED.model, input_tokens = EXCLUDED.input_tokens, "
			"output_tokens = EXCLUDED.output_tokens, prompt_sha256 = EXCLUDED.prompt_sha256, "
			"call_id = EXCLUDED.call_id, "
			"created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at "
			"WHERE j.created_at OPERATOR(pg_catalog.<=) EXCLUDED.created_at",
			schema, parameter_list(row->n));
	execute(&journal_plan, sql, row, SPI_OK_INSERT);
}

/* ---- the attempts of a batch ---- */

static TupleDesc
describe_columns(void)
{
	TupleDesc desc = CreateTemplateTupleDesc(lengthof(columns));
	int i;

	for (i = 0; i < lengthof(columns); i++)
		TupleDescInitEntry(desc, i + 1, columns[i].name, columns[i].type, -1, 0);
	return desc;
}

static void
put_attempt(const PglRecord *record, Row *row, EphemeralNamedRelation attempts)
{
	bool isnull[MAX_COLUMNS];
	int i;

	fill_row(row, record);
	for (i = 0; i < row->n; i++)
		isnull[i] = row->nulls[i] == 'n';
	tuplestore_putvalues(attempts->reldata, attempts->md.tupdesc, row->values, isnull);
	attempts->md.enrtuples++;
}

/* Returns how many rows are new in llm_ledger. */
static int
insert_attempts(EphemeralNamedRelation attempts, const char *schema)
{
	const char *sql = NULL;
	Row none = {0};
	int inserted;

	if (attempts->md.enrtuples == 0)
		return 0;
	if (SPI_register_relation(attempts) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register the attempts of a batch");
	if (attempt_plan == NULL)
		sql = psprintf("INSERT INTO %s.llm_ledger (%s) SELECT %s FROM " ATTEMPTS
					   " ON CONFLICT DO NOTHING",
					   schema, column_list(), column_list());
	execute(&attempt_plan, sql, &none, SPI_OK_INSERT);
	inserted = SPI_processed;
	SPI_unregister_relation(ATTEMPTS);
	return inserted;
}

/* Everything but the row of an attempt itself, which is put among the attempts of the batch. */
static void
write_record(const PglRecord *record, const char *answer, const PglExtension *extension,
			 EphemeralNamedRelation attempts)
{
	Row row;

	if (record->kind == PGL_RECORD_INTENT)
	{
		insert_intent(record, &row, extension->schema_name);
		return;
	}
	if (record->had_intent)
		delete_intent(record, &row, extension->schema_name);
	pgl_upkeep_ensure_partition(record->started_at, extension);
	put_attempt(record, &row, attempts);
	if (answer != NULL)
		upsert_answer(record, answer, &row, extension->schema_name);
}

/* The records of one kind. */
static void
write_records(const PglDrain *drain, bool intents, const PglExtension *extension,
			  EphemeralNamedRelation attempts)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pgllm ledger row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	int i;

	for (i = 0; i < drain->count; i++)
	{
		const PglRecord *record = &drain->records[i];

		if ((record->kind == PGL_RECORD_INTENT) != intents)
			continue;
		CHECK_FOR_INTERRUPTS();
		write_record(record, drain->answers[i], extension, attempts);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

int
pgl_tables_write(const PglDrain *drain, const PglExtension *extension)
{
	EphemeralNamedRelationData attempts = {
		.md = {.name = ATTEMPTS, .tupdesc = describe_columns(), .enrtype = ENR_NAMED_TUPLESTORE},
		.reldata = tuplestore_begin_heap(false, false, work_mem)};
	int inserted;

	follow_schema(extension);
	write_records(drain, true, extension, &attempts);
	write_records(drain, false, extension, &attempts);
	inserted = insert_attempts(&attempts, extension->schema_name);
	tuplestore_end(attempts.reldata);
	return inserted;
}

/* ---- intents of earlier runs ---- */

static void
ensure_partitions_of_intents(const PglExtension *extension)
{
	int i;
	int n;
	int64_t *days;

	if (SPI_execute(psprintf("SELECT DISTINCT pg_catalog.date_trunc('day', started_at, 'UTC') "
							 "FROM %s.llm_intent WHERE run OPERATOR(pg_catalog.<>) '%lld'",
							 extension->schema_name, (long long) pgl_ledger_run()),
					false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read llm_intent");
	n = SPI_processed;
	days = palloc(sizeof(int64_t) * Max(n, 1));
	for (i = 0; i < n; i++)
	{
		bool isnull;

		days[i] = DatumGetTimestampTz(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	for (i = 0; i < n; i++)
		pgl_upkeep_ensure_partition(days[i], extension);
}

int
pgl_tables_adopt_intents(const PglExtension *extension)
{
	char *list = column_list();

	follow_schema(extension);
	ensure_partitions_of_intents(extension);
	if (SPI_execute(psprintf("WITH gone AS (DELETE FROM %s.llm_intent WHERE "
							 "run OPERATOR(pg_catalog.<>) '%lld' RETURNING *) "
							 "INSERT INTO %s.llm_ledger (%s) SELECT %s FROM gone "
							 "ON CONFLICT DO NOTHING",
							 extension->schema_name, (long long) pgl_ledger_run(),
							 extension->schema_name, list, list),
					false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not adopt the rows of llm_intent");
	return SPI_processed;
}
