/*
 * ledger.h — records on their way to the tables llm_ledger, llm_intent and llm_journal.
 *
 * Spend must survive the ROLLBACK of whoever caused it, so it is not written by the caller's
 * transaction: it is put into one of a fixed number of slots here, and the ledger writer of the
 * database (worker/) inserts it in a transaction of its own.
 *
 *	free -> reserved   by an attempt that is admitted.  Nothing is sent without a place for its
 *	                   record, so settling can neither fail nor wait, not even in an abort.
 *	reserved -> queued when it is known what became of the attempt; the queue of a database is first
 *	                   in, first out
 *	queued -> free     when the record is durable: in the table, or in the spill file (spill.h).
 *	                   A record is durable when it is no longer queued: there is no other mark.
 *
 * Draining copies records from the head, writes them, and then takes them off.  Two may do so at
 * the same time (a backend helps out when the writer is stuck): the rows are keyed by call and
 * attempt, and the second copy of one is ignored.
 *
 * Answers for the journal, which have no place in a fixed-size record, lie beside (answer.h) and
 *are freed with the slot.
 */
#ifndef PGL_SHMEM_LEDGER_H
#define PGL_SHMEM_LEDGER_H

#include "state.h"

#define PGL_LEDGER_BUDGETS 4
#define PGL_LEDGER_MODEL_SIZE 128
#define PGL_NO_SLOT (-1)
#define PGL_LEDGER_MAX_DATABASES 1024
#define PGL_LEDGER_ERROR_SIZE 160

typedef enum PglRecordKind
{
	PGL_RECORD_INTENT = 1, /* an attempt is about to be sent: a row of llm_intent */
	PGL_RECORD_ATTEMPT     /* what became of it: a row of llm_ledger, its intent goes */
} PglRecordKind;

typedef enum PglRecordOutcome
{
	PGL_OUTCOME_SUCCESS,
	PGL_OUTCOME_FAILED,    /* the provider, or the way to it, said no: see cause */
	PGL_OUTCOME_CANCELLED, /* given up by the caller while it was out */
	PGL_OUTCOME_REFUSED,   /* by a limit, a budget or a breaker here: nothing was sent */
	PGL_OUTCOME_UNKNOWN    /* the server went down while it was out */
} PglRecordOutcome;

/* What the cost of a row rests on. */
typedef enum PglRecordCharge
{
	PGL_CHARGE_NONE,    /* not billed */
	PGL_CHARGE_USAGE,   /* tokens that the provider reported */
	PGL_CHARGE_RESERVED /* nobody knows what it used: the worst case that was reserved */
} PglRecordCharge;

/* Prices are nano-USD per million tokens; -1 is "not known" wherever a value is optional. */
typedef struct PglRecord
{
	uint32_t kind; /* PglRecordKind */
	uint32_t outcome;
	uint32_t charge;
	uint32_t session_role; /* OIDs */
	uint32_t role;         /* outside of SECURITY DEFINER functions: whom quotas bind */
	int32_t attempt;       /* from 1; 0: the call was refused before any */
	int32_t status;        /* HTTP status; 0: none */
	int32_t sqlstate;      /* refused calls: why; 0: none */
	bool over_budget;      /* a soft or shadow budget would have stopped it */
	bool had_intent;       /* an attempt: a record of kind intent was pushed before */
	int64_t run;           /* of the server, see pgl_ledger_run; set by pgl_ledger_push */
	unsigned char call_id[16];
	int64_t started_at; /* TimestampTz: when the attempt was admitted, or the call refused; the same
						 * in the intent and in the attempt, as it is part of the key */
	int64_t query_id;   /* 0: not computed */
	char tenant[PGL_NAME_SIZE];
	char route[PGL_NAME_SIZE];
	char target[PGL_NAME_SIZE]; /* "" for a call that was refused, as for the next four */
	char shard[PGL_NAME_SIZE];
	char region[40];
	char geography[20]; /* of the target: prices go by it */
	char model[PGL_LEDGER_MODEL_SIZE];
	char cause[24]; /* why it failed, as in core/cause.h; "" for a success */
	char error[160];
	char finish_reason[32];
	char request_id[64];
	int32_t fallback_depth;
	int64_t reserved_tokens;
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
	int64_t price[4]; /* by PglPriceComponent */
	int64_t reserved_nano_usd;
	int64_t cost_nano_usd;
	int64_t queue_us;   /* waiting for limits, before this attempt */
	int64_t prepare_us; /* build and sign */
	int64_t connect_us;
	int64_t first_byte_us;
	int64_t total_us;
	bool has_hashes; /* the tenant retains hashes */
	unsigned char prompt_sha256[32];
	unsigned char response_sha256[32];
	/* An answer for the journal goes along. */
	bool has_answer;
	unsigned char journal_key[32];
	int64_t expires_at;     /* TimestampTz */
	uint64_t answer;        /* dsa_pointer */
	uint32_t answer_length; /* bytes, in the server encoding */
} PglRecord;

/* A row of llm_ledger_status. */
typedef struct PglLedgerView
{
	uint32_t database;
	int writer_pid; /* 0: none running */
	int64_t queued;
	int64_t oldest_us; /* age of the oldest queued record; -1: none */
	int64_t spilled;   /* records in spill files, not in the table yet */
	int64_t written;   /* rows that reached the tables since the server started */
	int64_t failures;  /* of the writer, since the server started */
	bool recovered;    /* what an earlier run of the server left behind is in the tables */
	char last_error[PGL_LEDGER_ERROR_SIZE];
	int64_t last_error_at; /* TimestampTz; 0: never */
	int free_slots;        /* of the whole server */
	int slots;
} PglLedgerView;

extern uint64_t pgl_ledger_shmem_size(void);
extern void pgl_ledger_shmem_init(void);

/* ---- calls ---- */

/* Locked.  Take n free slots, all or none; they belong to this process. */
extern bool pgl_ledger_reserve(int n, int slots[]);
/* Locked.  Give a slot back that was not used; PGL_NO_SLOT is allowed.  Resets *slot. */
extern void pgl_ledger_unreserve(int *slot);
/*
 * Locked.  Queue the record.  `urgent`: somebody waits until it is durable, so the writer is woken;
 * others are written within a second, many at a time.  Returns its number, never 0; resets *slot.
 */
extern uint64_t pgl_ledger_push(int *slot, const PglRecord *record, bool urgent);
/* Unlocked.  All records of this database with at most this number are durable. */
extern uint64_t pgl_ledger_durable(void);
/* Unlocked.  Number of the last record queued by anybody in this database; 0: none yet. */
extern uint64_t pgl_ledger_last(void);
/* Locked, at backend exit: slots that were reserved and not used, and the office of writer. */
extern void pgl_ledger_unreserve_mine(void);

/* ---- draining: the writer, a helping backend, the postmaster at the end ---- */

/* A copy of queued records, in memory of the drainer. */
typedef struct PglDrain
{
	uint32_t database;
	int count;
	uint64_t last; /* number of the last one */
	PglRecord *records;
	char **answers; /* per record: NUL-terminated, or NULL */
} PglDrain;

/*
 * Unlocked.  Copy up to `max` records from the head of a database's queue, palloc'ed.  With `wait`
 * false: nothing if somebody else is copying or taking off at this moment.
 */
extern void pgl_ledger_copy(uint32_t database, int max, bool wait, PglDrain *drain);
/* Unlocked.  They are durable: take them off, wake whoever waits for that. */
extern void pgl_ledger_take_off(const PglDrain *drain);
/* Unlocked.  Take all records off and drop them: the database, or the extension in it, is gone. */
extern void pgl_ledger_discard(uint32_t database);

/* ---- writer and launcher ---- */

/* Unlocked.  This process is the writer of its database from now on; false: there is one. */
extern bool pgl_ledger_attach_writer(void);
extern void pgl_ledger_detach_writer(void);
/* Unlocked.  The writer of a database, if there is one, leaves when it has nothing left to write:
 * somebody wants the database without sessions. */
extern void pgl_ledger_dismiss_writer(uint32_t database);
extern bool pgl_ledger_is_dismissed(void); /* unlocked; the writer of this database */
/* Unlocked.  This process is the launcher: it is woken when a database needs a writer. */
extern void pgl_ledger_attach_launcher(void);
extern void pgl_ledger_detach_launcher(void);
/*
 * Unlocked.  Databases without a writer, and with something to write: queued, and unless
 * `queued_only`, as on a standby, wanted or spilled.  Where the tables fail, spilled records wait
 * for the time of pgl_ledger_back_off; *later is set when there are such.
 */
extern int pgl_ledger_orphans(uint32_t *databases, int max, bool queued_only, bool *later);
/* Unlocked.  Ask for a writer for a database although nothing is queued. */
extern void pgl_ledger_want_writer(uint32_t database);
extern void pgl_ledger_report_written(int rows);
extern void pgl_ledger_report_failure(const char *message);
/*
 * Unlocked.  The tables of this database failed, or work again.  After a failure they are not tried
 * before pgl_ledger_retry_at (pgl_clock_us), 1, 2, 4 .. 30 s later; 0: now.  Kept here, so that a
 * writer need not stay, and block DROP DATABASE, only to remember it.
 */
extern void pgl_ledger_back_off(void);
extern void pgl_ledger_works(void);
extern int64_t pgl_ledger_retry_at(void);
/* Unlocked.  The number of records in spill files has changed by so much. */
extern void pgl_ledger_report_spilled(uint32_t database, int64_t change);
extern void pgl_ledger_set_spilled(uint32_t database, int64_t count);
extern int64_t pgl_ledger_spilled(uint32_t database);
/* Unlocked.  What an earlier run left behind (spill file, intents) is in the tables. */
extern void pgl_ledger_set_recovered(void);
extern bool pgl_ledger_is_recovered(void);
/* A number of this run of the server: intents of other runs have lost their callers. */
extern int64_t pgl_ledger_run(void);

/* Unlocked.  Databases with something in the queue, whether or not they have a writer. */
extern int pgl_ledger_queued_databases(uint32_t *databases, int max);

/* Unlocked: rows of llm_ledger_status, all databases, palloc'ed. */
extern int pgl_ledger_view(PglLedgerView **rows);

#endif
