/*
 * statement.h — what one top-level statement has called and spent, over all functions and triggers
 * inside it: the limits pgllm.statement_max_calls and pgllm.statement_max_cost, and the report.
 *
 * Backend-local; no locks.  The hooks in sql/toplevel.c say where statements begin and end.
 */
#ifndef PGL_CALL_STATEMENT_H
#define PGL_CALL_STATEMENT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct PglStatement
{
	uint64_t number; /* in this backend, from 1 */
	int64_t calls;   /* that were not answered from memo or journal */
	int64_t memo_hits;
	int64_t journal_hits;
	int64_t failures;
	int64_t retries; /* attempts beyond the first of a call */
	int64_t fallbacks;
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cost_nano_usd;
	int64_t unpriced;          /* billed attempts without a price */
	int64_t reserved_nano_usd; /* worst case of the calls in flight */
} PglStatement;

extern PglStatement *pgl_statement_current(void);
extern void pgl_statement_begin(void);
/* Emits the report, if it is wanted and there was a call. */
extern void pgl_statement_end(void);

typedef enum PglStatementVerdict
{
	PGL_STATEMENT_MAY,
	PGL_STATEMENT_WAIT,     /* calls in flight have reserved what is left; they may give it back */
	PGL_STATEMENT_NO_CALLS, /* it has made all its calls */
	PGL_STATEMENT_NO_MONEY,
	PGL_STATEMENT_NO_PRICE /* it is limited, and the call's price is not known */
} PglStatementVerdict;

/*
 * May the statement make one more call, that may cost so much at worst (-1: not known)?  If so it
 * is counted, and the money is reserved until pgl_statement_release.
 */
extern PglStatementVerdict pgl_statement_take(int64_t worst_nano_usd);
/* Would the answer be PGL_STATEMENT_WAIT? */
extern bool pgl_statement_must_wait(int64_t worst_nano_usd);
/* Does what is spent and reserved still keep the limit?  Asked before another attempt. */
extern bool pgl_statement_has_room(void);
/* Give a reservation back; of another statement than the current one it is gone already. */
extern void pgl_statement_release(uint64_t number, int64_t nano_usd);
/* What an attempt may have cost that was given up while it was out (-1: not known); likewise. */
extern void pgl_statement_abandon(uint64_t number, int64_t nano_usd);

#endif
