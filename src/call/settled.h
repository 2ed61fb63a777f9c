/*
 * settled.h — the ledger table as the truth: wait until it holds everything that has happened.
 */
#ifndef PGL_CALL_SETTLED_H
#define PGL_CALL_SETTLED_H

/*
 * Return once all records of this database that were queued before, and what an earlier run of the
 * server left behind, are in the table.  Throws interrupts, and 55000 when that takes longer than
 * pgllm.ledger_timeout.  On a standby there is nothing to wait for: nothing is written there.
 */
extern void pgl_ledger_require_settled(void);

#endif
