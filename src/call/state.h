/*
 * state.h — the inside of a call, shared by the files of this folder and nobody else.
 *
 *	ADMITTING  wants a decision (admit.h)
 *	QUEUED     holds a ticket for a limit; its turn comes by timer or by being woken
 *	BACKOFF    waits for a cool-down or before another try, by timer
 *	FOLLOWING  the same call is in flight already, in this statement or in another backend; or the
 *	           calls of this statement in flight may spend all that it may
 *	INTENDING  waits until the record that it is about to leave is durable
 *	SENDING    a transfer is in flight
 *	ANSWERING  an in-process provider takes its time, by timer
 *	RECORDING  the outcome is known, and waits until its record is durable
 *	DONE       the outcome is final
 */
#ifndef PGL_CALL_STATE_H
#define PGL_CALL_STATE_H

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "utils/palloc.h"
#include "utils/resowner.h"

#include "datatype/timestamp.h"

#include "../shmem/ledger.h"
#include "admit.h"
#include "call.h"
#include "memo.h"
#include "statement.h"

/* llm_route_policy allows 16 attempts; a credential that was read anew adds one. */
#define PGL_CALL_MAX_ATTEMPTS 17

typedef enum PglCallPhase
{
	PGL_CALL_ADMITTING,
	PGL_CALL_QUEUED,
	PGL_CALL_BACKOFF,
	PGL_CALL_FOLLOWING,
	PGL_CALL_INTENDING,
	PGL_CALL_SENDING,
	PGL_CALL_ANSWERING,
	PGL_CALL_RECORDING,
	PGL_CALL_DONE
} PglCallPhase;

typedef struct PglAttempt
{
	const PglTarget *target;
	PglCause cause;
	int status;
	char error_name[96];
	char message[256];
} PglAttempt;

/* Whom a call in FOLLOWING waits for. */
typedef enum PglFollow
{
	PGL_FOLLOW_MEMO,   /* the same call of this statement */
	PGL_FOLLOW_FLIGHT, /* the same call of another backend */
	PGL_FOLLOW_ROOM    /* others of this statement, which have reserved what it may still spend */
} PglFollow;

/* What an attempt is taken to have used. */
typedef struct PglBill
{
	PglRecordCharge charge;
	int64_t tokens;   /* of the quotas */
	int64_t nano_usd; /* -1: no price known */
} PglBill;

struct PglCall
{
	dlist_node node;       /* in the list of all calls of this backend */
	dlist_node ready_node; /* in the list of calls with something to do */
	bool is_ready;
	PglCallGroup *group;   /* NULL: none, or it has been told of the end */
	dlist_node group_node; /* in one of its lists */
	int64_t tag;           /* the starter's own mark */
	pairingheap_node timer;
	bool has_timer;
	int64_t timer_us;
	ResourceOwner owner;
	MemoryContext context; /* holds everything below, this struct included */
	PglCallPhase phase;

	/* What is asked for, in UTF-8. */
	PglChatRequest request;
	bool allow_truncated;
	bool alone; /* see PglCallArgs */
	PglPlan *plan;
	const PglSnapshot *snapshot; /* pinned */
	int64_t started_us;
	int64_t deadline_us;
	int64_t wait_deadline_us; /* last moment of waiting in queues */

	/* Where it is. */
	PglAdmitState admit;
	PglAdmission admission;
	PglObstacle *obstacles;
	int candidate;
	int64_t queued_since_us; /* 0: not waiting */
	bool queued_by_lock;
	bool must_wait; /* what the last decision came to */
	int64_t wait_until_us;
	int64_t attempt_us;
	int64_t attempt_deadline_us;
	PglTransfer *transfer;
	PglOutgoing outgoing;
	PglReply reply;
	int64_t answer_us; /* in-process: when the answer is due */
	bool credential_refreshed;
	int64_t billed_tokens; /* quota tokens of all attempts so far */
	bool attempt_open;     /* admitted, not settled yet */
	bool arrived;          /* the provider may have seen the current attempt */
	bool any_arrived;      /* or one before it */
	bool same_congestion;  /* it was thrown back with others of a burst */
	bool local_failure;    /* it failed for lack of memory or descriptors here */
	bool counted_as_waiting;
	uint64_t ordinal; /* attempts on the target before this one: the mock provider's script counts
						 them */
	bool sent;        /* the current attempt has left: its outcome matters for the bill */

	/* Metering: record.c. */
	Oid session_role;
	Oid role; /* outside of SECURITY DEFINER functions */
	int64_t query_id;
	TimestampTz attempt_at;
	int64_t prepare_us;        /* of the current attempt: build and sign */
	int64_t queue_reported_us; /* part of outcome.queue_us that earlier records hold */
	int slot;                  /* in the ledger, for the attempt to come or the refusal */
	int intent_slot;
	bool had_intent;
	int attempt_depth;      /* candidates passed over or failed before the current one */
	bool wants_durable;     /* before the outcome is returned */
	uint64_t last_record;   /* number of the last record of this call; 0: none */
	uint64_t answer_record; /* number of the record that carries the answer to the journal */
	int64_t ledger_full_since_us;
	uint64_t statement;        /* number of the statement that pays */
	int64_t statement_reserve; /* worst case, nano-USD; -1: no price known */

	/* Waiting for a record or for another call: see engine.c. */
	dlist_node watch_node;
	bool is_watched;
	uint64_t awaited; /* number of the record that must be durable first */
	int64_t awaited_since_us;

	/* Sharing: share.c. */
	bool has_key;
	unsigned char key[PGL_KEY_SIZE];
	bool leads_memo;
	PglFollow follows; /* FOLLOWING: what it waits for */
	bool uses_journal;
	bool owns_flight;
	bool is_live; /* it goes, or went, out by itself */

	int nattempts;
	PglAttempt *failures; /* by number of the attempt; NULL: none has failed */
	PglOutcome outcome;
};

/* A starter's calls that it has not been told of: see call.h. */
struct PglCallGroup
{
	dlist_head running;
	dlist_head done;
	MemoryContextCallback gone;
};

/* group.c */
extern void pgl_group_join(PglCallGroup *group, PglCall *call);
extern void pgl_group_tell(PglCall *call);  /* it is DONE */
extern void pgl_group_leave(PglCall *call); /* does not throw, as the one before */

/* engine.c */
extern void pgl_engine_watch(PglCall *call); /* until what it waits for has come */
extern void pgl_engine_attend(void);         /* until now somebody has looked after the calls */
extern void pgl_engine_add(PglCall *call);
extern void pgl_engine_remove(PglCall *call);
extern void pgl_engine_set_timer(PglCall *call, int64_t at_us);
extern void pgl_engine_clear_timer(PglCall *call);
extern void pgl_engine_make_ready(PglCall *call); /* no-throw: from transfer callbacks */
extern int pgl_engine_unfinished(void);
extern int pgl_engine_backing_off(void);
extern dlist_head *pgl_engine_calls(void);
extern void pgl_engine_advance(PglCall *call);

/* attempt.c */
extern void pgl_attempt_start(PglCall *call);    /* the admitted candidate */
extern void pgl_attempt_intended(PglCall *call); /* its intent is durable, or cannot be */
extern void pgl_attempt_finish(PglCall *call);   /* the reply is there, or the time is over */
extern void pgl_attempt_cancel(PglCall *call);   /* drop what is in flight; does not throw */

/* health.c; all locked */
extern void pgl_health_report(PglCall *call, PglCause cause); /* before the attempt is settled */
extern void pgl_health_record(PglCall *call, PglCause cause);
extern void pgl_health_forget(PglCall *call); /* the attempt tells nothing */

/* queue.c */
extern bool pgl_queue_join(PglCall *call, int64_t deadline_us); /* locked; false: no room */
extern void pgl_queue_block(PglCall *call);  /* sleep in the queue of the advisory lock */
extern void pgl_queue_leave(PglCall *call);  /* does not throw */
extern void pgl_queue_forget(PglCall *call); /* its ticket was dropped with the decision */
extern int pgl_queue_length(void);           /* calls of this backend that hold a ticket */

/* record.c: what happened, for the ledger */
extern void pgl_record_identify(PglCall *call);   /* who calls, from which query */
extern int pgl_record_slots(const PglCall *call); /* that an attempt needs */
extern PglBill pgl_record_bill(const PglCall *call, PglCause cause);
extern void
pgl_record_attempt(const PglCall *call, PglCause cause, const PglBill *bill, PglRecord *record);
extern void pgl_record_cancelled(const PglCall *call, PglRecord *record); /* does not throw */
extern void pgl_record_refused(const PglCall *call, PglRecord *record);
extern void pgl_record_intent(const PglCall *call, PglRecord *record);
extern void pgl_record_add_answer(PglCall *call, PglRecord *record);

/* durable.c: waiting for the ledger */
extern void pgl_durable_await(PglCall *call, PglCallPhase phase, uint64_t number);
/* 1: durable; 0: not yet, the wait goes on; -1: it cannot be made so */
extern int pgl_durable_poll(PglCall *call);
/* For an answer that has no room in shared memory; throws when it cannot be written. */
extern void pgl_durable_write_answer(PglCall *call, PglRecord *record);
extern void pgl_durable_make_room(void); /* try to take records of anybody off a full ledger */

/* share.c: identical calls */
extern void pgl_share_begin(PglCall *call, const PglCallArgs *args); /* sets the phase */
extern void pgl_share_look_again(PglCall *call);                     /* FOLLOWING */
extern bool pgl_share_must_follow(const PglCall *call);              /* does not throw */
extern void pgl_share_keep(PglCall *call);                           /* it is DONE */
extern void pgl_share_leave(PglCall *call);                          /* does not throw */

/* outcome.c */
extern const char *pgl_outcome_words(const char *utf8); /* in the server encoding */
extern void pgl_outcome_convert(PglCall *call);         /* the answer, before it is settled */
extern int pgl_outcome_depth(const PglCall *call);      /* candidates before the current one */
extern void pgl_outcome_judge(PglCall *call);           /* is the answer cut? */
extern void pgl_outcome_not_recorded(PglCall *call);
extern void pgl_outcome_ledger_full(PglCall *call);
extern void pgl_outcome_statement_limit(PglCall *call, PglStatementVerdict verdict);
extern void pgl_outcome_succeed(PglCall *call);
extern void pgl_outcome_refused(PglCall *call); /* limits of tenant or role, LM002 */
extern void pgl_outcome_no_memory(PglCall *call);
extern void pgl_outcome_failed(PglCall *call); /* no candidate left, or all blocked */
extern void pgl_outcome_final_cause(PglCall *call, PglCause cause);
extern void pgl_outcome_deadline(PglCall *call);

/* meter.c: counters and activity */
extern void pgl_meter_started(PglCall *call);
extern void pgl_meter_hit(PglCall *call, bool journal); /* answered without being sent */
extern void pgl_meter_phase(PglCall *call);             /* its phase has changed */
extern void pgl_meter_admitted(PglCall *call);          /* locked */
extern void pgl_meter_attempt(PglCall *call, PglCause cause, const PglBill *bill); /* locked */
extern void pgl_meter_done(PglCall *call);
extern int64_t pgl_meter_cost(const PglTarget *target, const PglUsage *usage);

#endif
