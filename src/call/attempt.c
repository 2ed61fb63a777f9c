/*
 * attempt.c — one attempt: build, sign, send; read, classify, settle, and decide what comes next.
 *
 * Settling follows what the provider will bill (pgl_record_bill).  In the critical section in which
 * an attempt is settled its record is queued for the ledger, in a slot that was reserved when it
 * was admitted: no attempt is ever settled and not recorded, or the other way round.
 */
#include "postgres.h"

#include <time.h>

#include "utils/timestamp.h"

#include "../catalog/credential.h"
#include "../core/clock.h"
#include "../core/retry.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "../shmem/stat.h"
#include "state.h"
#include "statement.h"

#define BACKOFF_BASE_US INT64_C(50000)
#define BACKOFF_CAP_US INT64_C(20000000)
#define SUCCESSOR_SHARE                                                       \
	4 /* of the time left, one part in so many is kept for the next candidate \
	   */

static const PglTarget *
current_target(const PglCall *call)
{
	return call->plan->candidates[call->candidate].target;
}

static PglProviderTarget
provider_target(const PglTarget *target)
{
	return (PglProviderTarget){.region = target->shard->region,
							   .endpoint = &target->shard->endpoint,
							   .model_id = target->model_id,
							   .parameters = target->parameters};
}

/* Is there a candidate that could still follow the current one? */
static bool
has_successor(const PglCall *call)
{
	int c;

	if (call->nattempts >= call->plan->route->max_attempts)
		return false;
	for (c = 0; c < call->plan->ncandidates; c++)
	{
		const PglCandidate *candidate = &call->plan->candidates[c];

		if (c != call->candidate && !candidate->dropped && !candidate->excluded &&
			candidate->tries < candidate->tries_allowed)
			return true;
	}
	return false;
}

/* An attempt ends early enough for the next candidate to have a chance. */
static int64_t
attempt_deadline(const PglCall *call)
{
	int64_t left = call->deadline_us - call->attempt_us;
	int timeout_ms = current_target(call)->timeout_ms;

	if (has_successor(call))
		left -= left / SUCCESSOR_SHARE;
	if (timeout_ms > 0)
		left = Min(left, (int64_t) timeout_ms * 1000);
	return call->attempt_us + left;
}

/* The attempt never left: the reply is made up here. */
static void
fail_unsent(PglCall *call, PglCause cause, const char *message)
{
	call->sent = false;
	pgl_reply_fail(&call->reply, cause, message);
	pgl_attempt_finish(call);
}

static void
transfer_done(PglTransfer *transfer, void *arg)
{
	pgl_engine_make_ready(arg);
}

static void
send_request(PglCall *call)
{
	const PglShard *shard = current_target(call)->shard;
	const char *lines[PGL_MAX_HEADERS];
	PglHttpRequest http = {
		.url = pgl_buf_str(&call->outgoing.url),
		.headers = lines,
		.nheaders = pgl_outgoing_headers(&call->outgoing, lines),
		.body = pgl_buf_str(&call->outgoing.body),
		.body_len = call->outgoing.body.len,
		.scope = shard->network,
		.deadline_us = call->attempt_deadline_us,
		.connect_timeout_ms = pgl_guc_connect_timeout,
		.max_reply_bytes = (size_t) pgl_guc_response_max_size * 1024,
		.ca_file = pgl_guc_ca_file,
	};

	call->prepare_us = pgl_clock_us() - call->attempt_us;
	call->transfer = pgl_net_start(&http, transfer_done, call);
	call->sent = true;
	call->phase = PGL_CALL_SENDING;
}

/* Sign for this very moment, and send. */
static void
sign_and_send(PglCall *call)
{
	const PglShard *shard = current_target(call)->shard;
	PglProviderTarget target = provider_target(current_target(call));
	const PglCredential *credential = NULL;
	char why[256];

	if (shard->provider->needs_credential)
	{
		credential = pgl_credential_get(shard->credential, why, sizeof(why));
		if (credential == NULL)
		{
			fail_unsent(call, PGL_CAUSE_AUTH, why);
			return;
		}
	}
	if (!shard->provider->sign(&target, credential, time(NULL), &call->outgoing))
		fail_unsent(call, PGL_CAUSE_BAD_REQUEST, "request could not be signed");
	else
		send_request(call);
}

static void
answer_in_process(PglCall *call)
{
	PglProviderTarget target = provider_target(current_target(call));
	int64_t latency_us = 0;

	current_target(call)->shard->provider->answer(&target, &call->request, call->ordinal,
												  &call->reply, &latency_us);
	call->sent = true;
	call->phase = PGL_CALL_ANSWERING;
	call->answer_us = call->attempt_us + latency_us;
	if (latency_us == 0)
		pgl_attempt_finish(call);
	else
		pgl_engine_set_timer(call, Min(call->answer_us, call->attempt_deadline_us));
}

/* Build the request and let it go. */
static void
launch(PglCall *call)
{
	PglCandidate *candidate = &call->plan->candidates[call->candidate];
	const PglProvider *provider = candidate->target->shard->provider;
	PglProviderTarget target = provider_target(candidate->target);
	const char *why = NULL;

	if (provider->in_process)
		answer_in_process(call);
	else if (!provider->build(&target, &call->request, &call->outgoing, &why))
		fail_unsent(call, PGL_CAUSE_BAD_REQUEST, why);
	else
		sign_and_send(call);
}

/* Announce the attempt to the ledger; it goes on when that is durable. */
static void
announce(PglCall *call)
{
	PglRecord record;
	uint64_t number;

	pgl_record_intent(call, &record);
	pgl_shmem_lock();
	number = pgl_ledger_push(&call->intent_slot, &record, true);
	pgl_shmem_unlock();
	call->had_intent = true;
	pgl_durable_await(call, PGL_CALL_INTENDING, number);
}

void
pgl_attempt_start(PglCall *call)
{
	PglCandidate *candidate = &call->plan->candidates[call->admission.candidate];

	call->candidate = call->admission.candidate;
	candidate->tries++;
	call->nattempts++;
	call->attempt_us = pgl_clock_us();
	call->attempt_at = GetCurrentTimestamp();
	call->attempt_depth = pgl_outcome_depth(call);
	call->attempt_deadline_us = attempt_deadline(call);
	call->arrived = call->local_failure = call->had_intent = false;
	call->prepare_us = call->outcome.connect_us = call->outcome.first_byte_us = -1;
	call->request.max_tokens = candidate->max_tokens;
	call->request.attempt = call->nattempts;
	pgl_reply_reset(&call->reply);
	if (call->intent_slot != PGL_NO_SLOT)
		announce(call);
	else
		launch(call);
}

void
pgl_attempt_intended(PglCall *call)
{
	int durable = pgl_durable_poll(call);

	if (durable > 0)
		launch(call);
	else if (durable < 0)
	{
		call->local_failure = true;
		fail_unsent(call, PGL_CAUSE_CONNECTION, "the ledger cannot be written");
	}
}

static void
read_timings(PglCall *call, const PglHttpReply *http)
{
	call->outcome.connect_us = http->reused ? -1 : http->connect_us;
	call->outcome.first_byte_us = http->first_byte_us;
}

/* Could the provider have seen the request? */
static bool
may_have_arrived(PglNetError error)
{
	switch (error)
	{
		case PGL_NET_DNS:
		case PGL_NET_CONNECT:
		case PGL_NET_TLS:
		case PGL_NET_POLICY:
		case PGL_NET_RESOURCES:
			return false;
		default:
			return true;
	}
}

/* Read the reply into call->reply. */
static void
take_reply(PglCall *call)
{
	if (call->phase == PGL_CALL_SENDING)
	{
		const PglHttpReply *http = pgl_net_reply(call->transfer);

		call->arrived = may_have_arrived(http->error);
		call->local_failure = http->error == PGL_NET_RESOURCES;
		read_timings(call, http);
		current_target(call)->shard->provider->read(http, &call->reply);
		pgl_net_release(call->transfer);
		call->transfer = NULL;
	}
	else if (call->phase == PGL_CALL_ANSWERING)
	{
		if (call->answer_us > call->attempt_deadline_us)
			pgl_reply_fail(&call->reply, PGL_CAUSE_TIMEOUT, "no reply in time");
		call->arrived = call->reply.cause != PGL_CAUSE_CONNECTION;
	}
}

/* What budgets are charged: the worst case also where what was reported cannot be priced. */
static int64_t
cost_for_budgets(const PglCall *call, const PglBill *bill)
{
	return bill->charge == PGL_CHARGE_NONE ? 0
		   : bill->nano_usd >= 0           ? bill->nano_usd
								 : Max(call->plan->candidates[call->candidate].worst_nano_usd, 0);
}

/* Locked.  The attempt is settled and recorded; after a success so is the call. */
static void
settle_attempt(PglCall *call, PglCause cause, const PglBill *bill, const PglRecord *record,
			   int64_t now_us)
{
	call->billed_tokens += bill->tokens;
	call->any_arrived |= call->arrived;
	pgl_lease_settle(&call->admit.attempt_lease, call->arrived, bill->tokens,
					 cost_for_budgets(call, bill), now_us);
	if (cause == PGL_CAUSE_NONE)
		pgl_lease_settle(&call->admit.call_lease, 1, call->billed_tokens, 0, now_us);
	call->last_record =
		pgl_ledger_push(&call->slot, record, call->wants_durable || record->has_answer);
	pgl_ledger_unreserve(&call->intent_slot);
	if (record->has_answer)
		call->answer_record = call->last_record;
	call->queue_reported_us = call->outcome.queue_us;
	call->attempt_open = false;
}

/* A failure is told about, should the call fail in the end. */
static void
note_failure(PglCall *call, PglCause cause)
{
	PglAttempt *attempt;

	if (call->nattempts > PGL_CALL_MAX_ATTEMPTS)
		return;
	if (call->failures == NULL)
		call->failures = palloc0(sizeof(PglAttempt) * PGL_CALL_MAX_ATTEMPTS);
	attempt = &call->failures[call->nattempts - 1];
	attempt->target = current_target(call);
	attempt->cause = cause;
	attempt->status = call->reply.status;
	strlcpy(attempt->error_name, call->reply.error_name, sizeof(attempt->error_name));
	strlcpy(attempt->message, call->reply.message, sizeof(attempt->message));
}

/* A window of unknown size may be larger, unless it is the same model's. */
static bool
has_larger_context(const PglTarget *other, const PglTarget *failed)
{
	if (other->model == failed->model)
		return false;
	return other->model->context_window == 0 || failed->model->context_window == 0 ||
		   other->model->context_window > failed->model->context_window;
}

/* What the failure means for the candidates of this call. */
static void
mark_candidates(PglCall *call, PglCause cause)
{
	const PglCauseRule *rule = pgl_cause_rule(cause);
	PglCandidate *failed = &call->plan->candidates[call->candidate];
	int c;

	failed->tries_allowed = 1 + rule->same_target;
	/* One congestion is one retry, however many of a burst were thrown back: the window holds. */
	failed->retry_cost = !rule->spend_retry || call->same_congestion ? 0
						 : cause == PGL_CAUSE_TIMEOUT                ? PGL_RETRY_COST_TIMEOUT
																	 : PGL_RETRY_COST;
	failed->not_before_us =
		pgl_clock_us() + pgl_retry_backoff_us(failed->tries - 1, BACKOFF_BASE_US, BACKOFF_CAP_US,
											  (uint32_t) pgl_random_u64());
	call->admit.first_failed |= call->candidate == call->admit.first_choice;
	if (call->candidate == call->admit.first_choice && rule->cool_domain)
		call->admit.first_block = PGL_BLOCK_COOLING;
	for (c = 0; c < call->plan->ncandidates; c++)
	{
		PglCandidate *other = &call->plan->candidates[c];

		if (rule->other_endpoint && other->target == failed->target)
			other->excluded = true;
		if (rule->larger_context && !has_larger_context(other->target, failed->target))
			other->excluded = true;
	}
}

/* The provider rejected the credential: a value read anew earns the same target one more attempt.
 */
static bool
retry_with_fresh_credential(PglCall *call, PglCause cause)
{
	const char *reference = current_target(call)->shard->credential;

	if (cause != PGL_CAUSE_AUTH || !call->sent || call->credential_refreshed || reference == NULL)
		return false;
	call->credential_refreshed = true;
	return pgl_credential_refresh(reference);
}

static void
fail_attempt(PglCall *call, PglCause cause, bool fresh_credential)
{
	const PglCauseRule *rule = pgl_cause_rule(cause);

	mark_candidates(call, cause);
	if (fresh_credential)
	{
		/* as if it had not been tried: before any fallback */
		call->plan->candidates[call->candidate].tries--;
		call->plan->candidates[call->candidate].not_before_us = 0;
	}
	if (!rule->try_next && !fresh_credential)
		pgl_outcome_final_cause(call, cause);
	else if (call->nattempts >= call->plan->route->max_attempts + call->credential_refreshed)
		pgl_outcome_failed(call);
	else if (pgl_clock_us() >= call->deadline_us)
		pgl_outcome_deadline(call);
	else if (!pgl_statement_has_room())
		pgl_outcome_statement_limit(call, PGL_STATEMENT_NO_MONEY);
	else
		call->phase = PGL_CALL_ADMITTING;
}

/* Settle, record and count what has come of the attempt. */
static void
close_attempt(PglCall *call, PglCause cause, bool fresh_credential)
{
	PglBill bill = pgl_record_bill(call, cause);
	PglRecord record;

	pgl_record_attempt(call, cause, &bill, &record);
	if (cause == PGL_CAUSE_NONE)
		pgl_record_add_answer(call, &record);
	pgl_shmem_lock();
	pgl_health_report(call, cause);
	settle_attempt(call, cause, &bill, &record, pgl_clock_us());
	if (fresh_credential)
		pgl_health_forget(call);
	else
		pgl_health_record(call, cause);
	pgl_meter_attempt(call, cause, &bill);
	pgl_shmem_unlock();
	call->sent = false;
}

void
pgl_attempt_finish(PglCall *call)
{
	bool fresh_credential;
	PglCause cause;

	take_reply(call);
	cause = call->reply.cause;
	fresh_credential = retry_with_fresh_credential(call, cause);
	if (cause == PGL_CAUSE_NONE)
		pgl_outcome_convert(call);
	else
		note_failure(call, cause);
	close_attempt(call, cause, fresh_credential);
	if (cause == PGL_CAUSE_NONE)
		pgl_outcome_succeed(call);
	else
		fail_attempt(call, cause, fresh_credential);
}

/* Locked.  What is in flight is given up: if it left, nobody knows what it will be billed. */
static void
abandon_attempt(PglCall *call, const PglRecord *record, int64_t now_us)
{
	const PglCandidate *candidate = &call->plan->candidates[call->candidate];

	pgl_health_forget(call);
	if (call->sent)
	{
		pgl_lease_abandon(&call->admit.attempt_lease, now_us);
		pgl_statement_abandon(call->statement, candidate->worst_nano_usd);
		call->billed_tokens += candidate->reserve_tokens;
		call->any_arrived = true;
	}
	else
		pgl_lease_settle(&call->admit.attempt_lease, 0, 0, 0, now_us);
	(void) pgl_ledger_push(&call->slot, record, false);
}

/* The call ends here and now, whatever it is doing: nothing may throw. */
void
pgl_attempt_cancel(PglCall *call)
{
	int64_t now_us = pgl_clock_us();
	PglRecord record;

	if (call->transfer)
		pgl_net_release(call->transfer);
	call->transfer = NULL;
	if (!call->attempt_open && call->admit.call_lease.index < 0 && call->slot == PGL_NO_SLOT &&
		call->intent_slot == PGL_NO_SLOT)
		return;
	if (call->attempt_open)
		pgl_record_cancelled(call, &record);
	pgl_shmem_lock();
	if (call->attempt_open)
		abandon_attempt(call, &record, now_us);
	pgl_lease_settle(&call->admit.call_lease, call->any_arrived, call->billed_tokens, 0, now_us);
	pgl_ledger_unreserve(&call->slot);
	pgl_ledger_unreserve(&call->intent_slot);
	pgl_shmem_unlock();
}
