/*
 * call.h — one call's life, and many calls in flight.
 *
 * A call is started, driven, read and freed.  Starting checks the caller's arguments and privileges
 * and throws on mistakes; from then on failure is data, and only interrupts throw.  Driving one
 * call drives all calls of the backend.
 *
 * Groups: a function that runs a statement may do so while the statement around it has calls in
 * flight, and drives those too.  So whoever starts several calls has a group, and is told of the
 * end of his own only.  A group lives in the memory context in which it was made.  It may go before
 * its calls, which then belong to none, or after them: on ERROR query memory is freed before
 * resource owners run, elsewhere it is the other way round.
 *
 * Ownership: a call belongs to the resource owner that was current when it started.  The starter
 * frees it; if an ERROR or a (sub)transaction abort comes first, its resource owner does: the
 * transfer is cancelled, leases are abandoned, queue places given up, memory freed.
 */
#ifndef PGL_CALL_CALL_H
#define PGL_CALL_CALL_H

#include "../provider/provider.h"

typedef struct PglCall PglCall;
typedef struct PglCallGroup PglCallGroup;

/* What the caller asks for.  Strings are in the server encoding and are copied. */
typedef struct PglCallArgs
{
	const char *tenant;
	const char *prompt;
	size_t prompt_len;
	const char *route; /* NULL: not given, as for the other strings */
	const char *model;
	const char *system;
	const char *sticky_key;
	const char **stop;
	int nstop;
	int max_tokens;  /* 0: not given */
	int timeout_ms;  /* 0: not given */
	int max_wait_ms; /* -1: not given */
	bool has_temperature;
	bool has_top_p;
	double temperature;
	double top_p;
	bool no_fallback;
	bool allow_truncated;
	bool sample; /* an answer of its own: neither memo nor journal */
	bool has_cache;
	bool cache; /* use the journal; the tenant says if it is not given */
	bool alone; /* the caller starts no other before this one is done: it may sleep on a lock */
} PglCallArgs;

/* What became of it.  Everything lives as long as the call. */
typedef struct PglOutcome
{
	int sqlstate; /* 0: success; LM008 comes with a response */
	bool refused; /* by a limit: nothing was sent */
	const char *message;
	const char *detail;
	const char *hint;
	char *response; /* server encoding; NULL on failure */
	size_t response_len;
	const char *source;        /* where the answer came from: live, memo, journal */
	const char *finish_reason; /* NULL as long as no model answered, as for target and its kin */
	const char *route;
	const char *target;
	const char *shard;
	const char *region;
	const char *model;
	const char *request_id;
	int attempts;
	int fallback_depth; /* candidates passed over or failed before the one that answered */
	PglUsage usage;
	int64_t cost_nano_usd; /* -1: no price known */
	int64_t queue_us;
	int64_t connect_us; /* -1: none, as for first_byte_us */
	int64_t first_byte_us;
	int64_t total_us;
	unsigned char call_id[16]; /* UUID, version 7 */
} PglOutcome;

/* What is asked of a model, in UTF-8, palloc'ed; without a prompt if args has none. */
extern void pgl_call_make_request(const PglCallArgs *args, PglChatRequest *request);
extern PglCallGroup *pgl_call_group_make(void); /* freed with the current context, never alone */
/* With a group, or NULL: the starter waits for this one call. */
extern PglCall *pgl_call_start(const PglCallArgs *args, PglCallGroup *group);
/* A call of at most one token to one target, past tenants, quotas and breakers, but within the
 * limits of the target itself: the doctor's probe. */
extern PglCall *pgl_call_start_probe(const char *target);
extern bool pgl_call_is_done(const PglCall *call);
extern void pgl_call_wait(PglCall *call); /* until done; throws interrupts only */
extern bool
pgl_call_is_following(const PglCall *call); /* waits for the same call of somebody else */
/* May so many others that ask the same in the same statement have its answer?  Then they are
 * counted.
 */
extern bool pgl_call_share(PglCall *call, int others);
extern size_t pgl_call_payload(const PglCall *call); /* bytes of prompt, request and answer */
extern void pgl_call_poll(void);                     /* as pgl_call_drive, without waiting */
extern void pgl_call_drive(void); /* wait for something to happen to any call, and act on it */
extern void pgl_call_poll(void);  /* act on what has happened, without waiting */
/* A call of the group that has come to its end, in the order in which they did; each once, after
 * which the call is in no group.  NULL: none. */
extern PglCall *pgl_call_next_done(PglCallGroup *group);
extern void pgl_call_set_tag(PglCall *call, int64_t tag); /* to find it again then */
extern int64_t pgl_call_tag(const PglCall *call);
/* NOTICEs about budgets that the call has brought to a mark; once done, each once. */
extern void pgl_call_report_budgets(PglCall *call);
extern const PglOutcome *pgl_call_outcome(const PglCall *call); /* once done */
extern void
pgl_call_raise(const PglCall *call) __attribute__((noreturn)); /* its failure as ERROR */
extern void pgl_call_free(PglCall *call);
extern void pgl_call_init(void); /* from _PG_init */

#endif
