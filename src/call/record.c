/*
 * record.c — what happened, as records for the ledger: see shmem/ledger.h.
 *
 * One record per attempt, and one for a call that was refused before any.  What must not throw
 * (a call that is given up while its transaction aborts) only copies what is there; the words of
 * the provider are converted before.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "../shmem/answer.h"
#include "journal.h"
#include "state.h"

void
pgl_record_identify(PglCall *call)
{
	call->session_role = GetSessionUserId();
	call->role = GetOuterUserId();
	call->query_id = (int64_t) pgstat_get_my_query_id();
	call->wants_durable = pgl_guc_ledger_sync >= PGL_LEDGER_SYNC_RESULT;
}

int
pgl_record_slots(const PglCall *call)
{
	return pgl_guc_ledger_sync == PGL_LEDGER_SYNC_INTENT ? 2 : 1;
}

/*
 * What the provider will bill.  A reply with usage is billed by it, refusals included.  An error
 * reply used its request and no tokens; a connection that never stood used nothing.  Where nobody
 * can know (a time-out, a connection cut in the middle, a cancel) the reservation counts.
 */
PglBill
pgl_record_bill(const PglCall *call, PglCause cause)
{
	const PglCandidate *candidate = &call->plan->candidates[call->candidate];
	const PglUsage *usage = &call->reply.usage;

	if (!call->arrived)
		return (PglBill){.charge = PGL_CHARGE_NONE};
	if (usage->input_tokens >= 0 && usage->output_tokens >= 0)
		return (PglBill){.charge = PGL_CHARGE_USAGE,
						 .tokens = usage->input_tokens + Max(usage->cache_write_tokens, 0) +
								   usage->output_tokens * candidate->target->model->output_burndown,
						 .nano_usd = pgl_meter_cost(candidate->target, usage)};
	if (cause == PGL_CAUSE_NONE || call->reply.status == 0 || call->reply.status == 200)
		return (PglBill){.charge = PGL_CHARGE_RESERVED,
						 .tokens = candidate->reserve_tokens,
						 .nano_usd = candidate->worst_nano_usd};
	return (PglBill){.charge = PGL_CHARGE_NONE};
}

static void
put_text(char *to, size_t size, const char *from)
{
	int len = from ? (int) strlen(from) : 0;

	if (len >= size)
		len = pg_mbcliplen(from, len, (int) size - 1);
	if (len > 0)
		memcpy(to, from, len);
	to[len] = '\0';
}

static void
put_call(const PglCall *call, PglRecord *record)
{
	memset(record, 0, sizeof(*record));
	record->kind = PGL_RECORD_ATTEMPT;
	record->session_role = call->session_role;
	record->role = call->role;
	record->query_id = call->query_id;
	memcpy(record->call_id, call->outcome.call_id, sizeof(record->call_id));
	put_text(record->tenant, sizeof(record->tenant),
			 call->plan->tenant ? call->plan->tenant->name : call->plan->route->name);
	put_text(record->route, sizeof(record->route), call->plan->route->name);
	record->input_tokens = record->output_tokens = -1;
	record->cache_read_tokens = record->cache_write_tokens = -1;
	record->reserved_tokens = record->reserved_nano_usd = -1;
	record->price[0] = record->price[1] = record->price[2] = record->price[3] = -1;
	record->connect_us = record->first_byte_us = record->prepare_us = -1;
	record->queue_us = call->outcome.queue_us - call->queue_reported_us;
}

/* The attempt that is going on, or has just ended. */
static void
put_attempt(const PglCall *call, PglRecord *record)
{
	const PglCandidate *candidate = &call->plan->candidates[call->candidate];
	const PglTarget *target = candidate->target;
	int i;

	put_call(call, record);
	record->attempt = call->nattempts;
	record->started_at = call->attempt_at;
	put_text(record->target, sizeof(record->target), target->name);
	put_text(record->shard, sizeof(record->shard), target->shard->name);
	put_text(record->region, sizeof(record->region), target->shard->region);
	put_text(record->geography, sizeof(record->geography), target->geography);
	put_text(record->model, sizeof(record->model), target->model->name);
	for (i = 0; i < PGL_PRICE_COMPONENTS; i++)
		record->price[i] = target->price[i];
	record->reserved_tokens = candidate->reserve_tokens;
	record->reserved_nano_usd = candidate->worst_nano_usd;
	record->fallback_depth = call->attempt_depth;
	record->over_budget = call->admission.over_budget;
	record->had_intent = call->had_intent;
	record->prepare_us = call->prepare_us;
	record->total_us = pgl_clock_us() - call->attempt_us;
}

static void
put_usage(const PglUsage *usage, PglRecord *record)
{
	record->input_tokens = usage->input_tokens;
	record->output_tokens = usage->output_tokens;
	record->cache_read_tokens = usage->cache_read_tokens;
	record->cache_write_tokens = usage->cache_write_tokens;
}

static void
put_error(const PglReply *reply, PglCause cause, PglRecord *record)
{
	put_text(record->cause, sizeof(record->cause), pgl_cause_name(cause));
	put_text(record->error, sizeof(record->error),
			 pgl_outcome_words(psprintf("%s%s%s", reply->error_name,
										reply->error_name[0] && reply->message[0] ? ": " : "",
										reply->message)));
}

void
pgl_record_attempt(const PglCall *call, PglCause cause, const PglBill *bill, PglRecord *record)
{
	const PglReply *reply = &call->reply;

	put_attempt(call, record);
	record->outcome = cause == PGL_CAUSE_NONE ? PGL_OUTCOME_SUCCESS : PGL_OUTCOME_FAILED;
	record->status = reply->status;
	if (cause != PGL_CAUSE_NONE)
		put_error(reply, cause, record);
	put_text(record->finish_reason, sizeof(record->finish_reason),
			 pgl_outcome_words(reply->finish_reason));
	put_text(record->request_id, sizeof(record->request_id), pgl_outcome_words(reply->request_id));
	put_usage(&reply->usage, record);
	record->charge = bill->charge;
	record->cost_nano_usd = bill->nano_usd;
	record->connect_us = call->outcome.connect_us;
	record->first_byte_us = call->outcome.first_byte_us;
}

void
pgl_record_cancelled(const PglCall *call, PglRecord *record)
{
	put_attempt(call, record);
	record->outcome = PGL_OUTCOME_CANCELLED;
	if (call->sent)
	{
		record->charge = PGL_CHARGE_RESERVED;
		record->cost_nano_usd = record->reserved_nano_usd;
	}
}

void
pgl_record_intent(const PglCall *call, PglRecord *record)
{
	put_attempt(call, record);
	record->kind = PGL_RECORD_INTENT;
	record->outcome = PGL_OUTCOME_UNKNOWN;
	record->charge = PGL_CHARGE_RESERVED;
	record->cost_nano_usd = record->reserved_nano_usd;
}

void
pgl_record_refused(const PglCall *call, PglRecord *record)
{
	put_call(call, record);
	record->outcome = PGL_OUTCOME_REFUSED;
	record->started_at = GetCurrentTimestamp();
	record->sqlstate = call->outcome.sqlstate;
	record->total_us = call->outcome.total_us;
}

/*
 * What the tenant keeps of prompt and answer.  If the area for answers is full, this backend
 * writes the answer to the spill file by itself, which is slower and just as durable.
 */
void
pgl_record_add_answer(PglCall *call, PglRecord *record)
{
	const PglOutcome *outcome = &call->outcome;
	const PglTenant *tenant = call->plan->tenant;

	if (tenant == NULL || tenant->retention == PGL_RETENTION_NONE)
		return;
	record->has_hashes = true;
	pgl_journal_sha256(call->request.prompt, call->request.prompt_len, record->prompt_sha256);
	pgl_journal_sha256(pgl_buf_str(&call->reply.text), call->reply.text.len,
					   record->response_sha256);
	if (!call->uses_journal || outcome->response == NULL)
		return;
	record->has_answer = true;
	memcpy(record->journal_key, call->key, PGL_KEY_SIZE);
	record->expires_at = record->started_at + Max(record->total_us, 0) + tenant->cache_ttl_us;
	record->answer_length = (uint32_t) outcome->response_len;
	record->answer = pgl_answer_keep(outcome->response, record->answer_length);
	if (record->answer == 0)
		pgl_durable_write_answer(call, record);
}
