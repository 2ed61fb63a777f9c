/*
 * cause.c — the routing policy as one table: what follows each kind of failure.
 *
 * Switch first, wait last.  A row says: may another candidate help, how often may the same target
 * be asked again once the others are used up, what cools down, what the next candidate must be
 * like, and what the failure says about the health of the domain.  What a row leaves out is false
 * or 0; a row with only a name is final.
 *
 * A throttled domain is healthy, it is merely full: it cools down, but its breaker does not count
 * that.  A wrong key or an unknown model says nothing about the domain either.  Retries that add
 * load to a provider in trouble spend a token of the retry budget; moving on because a model is the
 * wrong one does not.
 */
#include "cause.h"

#include <stddef.h>

/*
 * A throttled target may be asked again as soon as its cool-down is over: the attempt budget and
 * the deadline of the call are the bounds, not this number.
 */
#define AFTER_COOLDOWN 1000

/* clang-format off */
static const PglCauseRule rules[PGL_CAUSE_COUNT] = {
	[PGL_CAUSE_NONE] = {.name = "success"},
	[PGL_CAUSE_THROTTLED] = {
		.name = "throttled",
		.try_next = true,
		.same_target = AFTER_COOLDOWN,
		.cool_domain = true,
		.spend_retry = true,
	},
	[PGL_CAUSE_UNAVAILABLE] = {
		.name = "unavailable",
		.try_next = true,
		.same_target = AFTER_COOLDOWN,
		.cool_domain = true,
		.breaker_failure = true,
		.spend_retry = true,
	},
	[PGL_CAUSE_SERVER_ERROR] = {
		.name = "server error",
		.try_next = true,
		.same_target = 1,
		.breaker_failure = true,
		.spend_retry = true,
	},
	[PGL_CAUSE_CONNECTION] = {
		.name = "connection",
		.try_next = true,
		.same_target = 1,
		.breaker_failure = true,
		.spend_retry = true,
	},
	[PGL_CAUSE_TIMEOUT] = {
		.name = "timeout",
		.try_next = true,
		.other_endpoint = true,
		.breaker_failure = true,
		.spend_retry = true,
	},
	[PGL_CAUSE_CONTEXT_TOO_LONG] = {
		.name = "context too long",
		.try_next = true,
		.larger_context = true,
	},
	[PGL_CAUSE_AUTH] = {
		.name = "credentials",
		.try_next = true,
		.cool_credential = true,
	},
	[PGL_CAUSE_NOT_FOUND] = {
		.name = "not found",
		.try_next = true,
	},
	[PGL_CAUSE_QUOTA_EXHAUSTED] = {
		.name = "quota exhausted",
		.try_next = true,
		.cool_domain = true,
	},
	[PGL_CAUSE_REFUSAL] = {.name = "refusal"},
	[PGL_CAUSE_BAD_REQUEST] = {.name = "bad request"},
	[PGL_CAUSE_BAD_REPLY] = {.name = "bad reply"},
};
/* clang-format on */

/* A value outside the enum gets the most cautious row: final. */
const PglCauseRule *
pgl_cause_rule(PglCause cause)
{
	if ((unsigned int) cause >= (unsigned int) PGL_CAUSE_COUNT)
		return &rules[PGL_CAUSE_BAD_REQUEST];
	return &rules[cause];
}

const char *
pgl_cause_name(PglCause cause)
{
	if ((unsigned int) cause >= (unsigned int) PGL_CAUSE_COUNT)
		return "unknown";
	return rules[cause].name;
}
