/*
 * statement.h — what one top-level statement has called and spent, over all functions and triggers
 * inside it: the limits pgllm.statement_max_calls and pgllm.statement_max_cost, and the report.
 *
 * Backend-local; what others see of it is in progress.c.  The hooks in sql/toplevel.c say where
 * statements begin and end.
 */
#ifndef PGL_CALL_STATEMENT_H
#define PGL_CALL_STATEMENT_H

#include "../shmem/activity.h"

typedef struct PglStatement
{
	uint64_t number;           /* in this backend, from 1 */
	int64_t reserved_nano_usd; /* worst case of the calls in flight */
	PglProgress progress;
} PglStatement;

extern PglStatement *pgl_statement_current(void);
extern void pgl_statement_begin(void);
/* Emits the report, if it is wanted and there was a call. */
extern void pgl_statement_end(void);
/* It is over, however that came; does not throw.  Calls may still be out, and are given up next. */
extern void pgl_statement_close(void);

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
