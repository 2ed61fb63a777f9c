/*
 * wait.h — wait events, and how much time the statement has left.
 */
#ifndef PGL_CALL_WAIT_H
#define PGL_CALL_WAIT_H

#include <stdint.h>

extern uint32_t pgl_wait_event_http(void);
extern uint32_t pgl_wait_event_quota(void);
extern uint32_t pgl_wait_event_backoff(void);
extern uint32_t pgl_wait_event_ledger(void);
/* When statement_timeout will fire, on the clock of pgl_clock_us; INT64_MAX if it is not armed. */
extern int64_t pgl_wait_statement_deadline_us(void);

#endif
