/*
 * cause.h — why an attempt failed, and what the caller of it should do next.
 *
 * The table in cause.c is the routing policy in one place (switch first, wait last).  Providers map
 * their wire errors to a cause; the call engine obeys the row.
 */
#ifndef PGL_CORE_CAUSE_H
#define PGL_CORE_CAUSE_H

#include <stdbool.h>

typedef enum PglCause
{
	PGL_CAUSE_NONE = 0,         /* the attempt succeeded */
	PGL_CAUSE_THROTTLED,        /* 429 and its kin: the provider's quota */
	PGL_CAUSE_UNAVAILABLE,      /* 503: capacity of the service, or a model that is not ready */
	PGL_CAUSE_SERVER_ERROR,     /* other 5xx, 408, 424, damaged or oversized replies */
	PGL_CAUSE_CONNECTION,       /* DNS, connect, TLS, reset before the first byte */
	PGL_CAUSE_TIMEOUT,          /* no byte in time */
	PGL_CAUSE_CONTEXT_TOO_LONG, /* the prompt does not fit this model */
	PGL_CAUSE_AUTH,             /* 401, 403: signature, key or permission */
	PGL_CAUSE_NOT_FOUND,        /* 404, or a 400 that only concerns this model id */
	PGL_CAUSE_QUOTA_EXHAUSTED,  /* account quota that no waiting cures (daily, or 400 quota) */
	PGL_CAUSE_REFUSAL,          /* the model or a guardrail declined: final, an answer of its own */
	PGL_CAUSE_BAD_REQUEST,      /* any other 4xx: the caller's fault, final */
	PGL_CAUSE_BAD_REPLY,        /* a well-formed reply that cannot be stored as text: final */
	PGL_CAUSE_COUNT
} PglCause;

typedef struct PglCauseRule
{
	const char *name;     /* as shown in DETAIL and views */
	bool try_next;        /* another candidate may help */
	int same_target;      /* retries allowed on the same target (after all others) */
	bool cool_domain;     /* the quota domain cools down */
	bool cool_credential; /* the credential cools down */
	bool larger_context;  /* only candidates with a larger context window may follow */
	bool breaker_failure; /* counts as a failure of the domain's breaker */
	bool other_endpoint;  /* never the same endpoint again in this call */
	bool spend_retry;     /* a further attempt takes a token from the retry budget */
} PglCauseRule;

extern const PglCauseRule *pgl_cause_rule(PglCause cause);
extern const char *pgl_cause_name(PglCause cause);

#endif
