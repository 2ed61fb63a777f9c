/*
 * memo.h — one statement's answers, so that identical calls in it are sent once.
 *
 * The second call with a key gets the outcome of the first, also while that is still in flight.
 * A failure is remembered for a moment only: long enough for `(llm_try_invoke(...)).*`, which
 * PostgreSQL turns into one call per column, and too short for a loop that tries again.
 *
 * Bounded by pgllm.memo_size: beyond it the oldest answers go.  Backend-local.
 */
#ifndef PGL_CALL_MEMO_H
#define PGL_CALL_MEMO_H

#include "call.h"

#define PGL_KEY_SIZE 32

typedef enum PglMemoFound
{
	PGL_MEMO_MISS,    /* the caller is the first: it leads */
	PGL_MEMO_HIT,     /* *outcome is filled, in the current memory context */
	PGL_MEMO_LEADING, /* somebody else leads: ask again when it is woken */
	PGL_MEMO_OFF
} PglMemoFound;

/* Look a key up for this call; on a miss the call becomes the leader of the key. */
extern PglMemoFound
pgl_memo_look(const unsigned char key[PGL_KEY_SIZE], PglCall *call, PglOutcome *outcome);
extern bool pgl_memo_is_led(const unsigned char key[PGL_KEY_SIZE]); /* does not throw */
/* The leader has come to an end: keep its outcome. */
extern void pgl_memo_keep(const unsigned char key[PGL_KEY_SIZE], const PglCall *call,
						  const PglOutcome *outcome);
/* The leader is given up without an outcome.  Does not throw. */
extern void pgl_memo_abandon(const unsigned char key[PGL_KEY_SIZE], const PglCall *call);
extern void pgl_memo_forget(void); /* all: the statement is over.  Does not throw */

#endif
