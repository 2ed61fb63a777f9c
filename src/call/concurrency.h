/*
 * concurrency.h — how many calls a statement keeps in flight.
 *
 * Whoever runs many calls of one statement asks before each start.  The answer is the least of
 * pgllm.max_concurrency, of what the quotas of tenant and role let be in flight, and of what the
 * candidates bear together: their own limits, and the windows of their domains.  More would only
 * wait, at the expense of its deadline, or be refused where calls one after the other pass.
 *
 * The plan of the next call is not known before it is started; it is taken to be that of the last.
 * If nothing is out and all wait, one more is started, as it may be of another kind.  Once the
 * calls have turned out to differ, as by tenant, only pgllm.max_concurrency binds until all are
 * done: no kind must hold up another.  Backend-local; does not throw.
 */
#ifndef PGL_CALL_CONCURRENCY_H
#define PGL_CALL_CONCURRENCY_H

#include <stdbool.h>

struct PglPlan;

extern void pgl_concurrency_note(const struct PglPlan *plan); /* a call has been started */
/* May one more call be started by somebody who has so many unfinished ones?  One always may. */
extern bool pgl_concurrency_has_room(int in_flight);

#endif
