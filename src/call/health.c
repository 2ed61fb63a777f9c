/*
 * health.c — what an attempt tells about its quota domain and its credential.
 *
 * Only what the provider did counts.  Not counted are attempts that never left, failures for lack
 * of our own resources, and time-outs that only a caller's short patience made: a tenant that asks
 * for an answer within a millisecond must not open the breaker for everybody.  A breaker's probe is
 * a resource like a lease: every attempt that was let through as one gives it back, whatever
 * becomes of it.
 */
#include "postgres.h"

#include "../core/clock.h"
#include "../core/retry.h"
#include "../pg/compat.h"
#include "state.h"

/* So long must a target without a timeout_ms of its own have been silent for a time-out to count.
 */
#define SILENCE_US INT64_C(10000000)

typedef struct Breakers
{
	int domain;
	int credential; /* -1: the target needs none */
} Breakers;

static Breakers
breakers_of(const PglCall *call)
{
	const PglTarget *target = call->plan->candidates[call->candidate].target;
	uint32_t database = call->plan->database;
	Breakers breakers = {
		.domain = pgl_breaker_peek(database, PGL_BREAKER_DOMAIN, target->domain_id),
		.credential = -1,
	};

	if (target->shard->credential)
		breakers.credential =
			pgl_breaker_peek(database, PGL_BREAKER_CREDENTIAL, target->shard->credential_id);
	return breakers;
}

void
pgl_health_forget(PglCall *call)
{
	Breakers breakers = breakers_of(call);

	pgl_breaker_neutral(breakers.domain, call->admission.domain_probe);
	pgl_breaker_neutral(breakers.credential, call->admission.credential_probe);
	call->admission.domain_probe = call->admission.credential_probe = false;
}

/* Did the target fail, or was only the caller in a hurry? */
static bool
is_failure_of_target(const PglCall *call, PglCause cause, int64_t now_us)
{
	int timeout_ms = call->plan->candidates[call->candidate].target->timeout_ms;

	if (!pgl_cause_rule(cause)->breaker_failure || call->local_failure)
		return false;
	return cause != PGL_CAUSE_TIMEOUT ||
		   now_us - call->attempt_us >= (timeout_ms > 0 ? (int64_t) timeout_ms * 1000 : SILENCE_US);
}

/*
 * Steer the window of the domain.  A domain that is throttled or short of capacity has too much in
 * flight; so has one that runs into time-outs.  An exhausted account says nothing about that.
 */
void
pgl_health_report(PglCall *call, PglCause cause)
{
	int limit = call->admission.domain_limit;
	uint32_t epoch = call->admission.epoch;
	int64_t now_us = pgl_clock_us();

	call->same_congestion = false;
	if (!call->sent)
		return;
	switch (cause)
	{
		case PGL_CAUSE_NONE:
			pgl_limit_succeeded(limit, epoch, now_us - call->attempt_us,
								call->reply.usage.output_tokens, now_us);
			break;
		case PGL_CAUSE_THROTTLED:
		case PGL_CAUSE_UNAVAILABLE:
			call->same_congestion = !pgl_limit_throttled(limit, epoch, now_us);
			break;
		case PGL_CAUSE_TIMEOUT:
			if (is_failure_of_target(call, cause, now_us))
				(void) pgl_limit_timed_out(limit, epoch, now_us);
			break;
		default:
			break;
	}
}

static void
record_domain(PglCall *call, int domain, PglCause cause, int64_t now_us)
{
	const PglCauseRule *rule = pgl_cause_rule(cause);
	bool probe = call->admission.domain_probe;

	if (cause == PGL_CAUSE_NONE)
	{
		pgl_breaker_success(domain, probe, now_us);
		if (call->nattempts == 1)
			pgl_breaker_give_retry(domain, PGL_RETRY_REFUND);
	}
	else if (is_failure_of_target(call, cause, now_us))
		pgl_breaker_failure(domain, probe, now_us);
	else if (probe && call->reply.status > 0 && !rule->breaker_failure && !rule->cool_domain)
		pgl_breaker_success(domain, probe, now_us); /* it answered, if only to decline */
	else
		pgl_breaker_neutral(domain, probe);
	if (rule->cool_domain)
		pgl_breaker_cool(domain, call->reply.retry_hint_us, (uint32_t) pgl_random_u64(), now_us);
}

static void
record_credential(PglCall *call, int credential, PglCause cause, int64_t now_us)
{
	bool probe = call->admission.credential_probe;

	if (pgl_cause_rule(cause)->cool_credential)
	{
		pgl_breaker_failure(credential, probe, now_us);
		pgl_breaker_cool(credential, -1, (uint32_t) pgl_random_u64(), now_us);
	}
	else if (call->reply.status > 0)
		pgl_breaker_success(credential, probe, now_us); /* it was accepted */
	else
		pgl_breaker_neutral(credential, probe);
}

void
pgl_health_record(PglCall *call, PglCause cause)
{
	Breakers breakers = breakers_of(call);
	int64_t now_us = pgl_clock_us();

	if (!call->sent && cause != PGL_CAUSE_AUTH)
	{
		pgl_health_forget(call);
		return;
	}
	record_domain(call, breakers.domain, cause, now_us);
	record_credential(call, breakers.credential, cause, now_us);
	call->admission.domain_probe = call->admission.credential_probe = false;
}
