/*
 * journal.h — answers that were paid for are not paid for again.
 *
 * With the option cache a call first looks into llm_journal for the answer to the same tenant,
 * candidates, parameters and prompt.  An answer is queued for the journal together with its ledger
 * record, written in the same transaction, and durable before it is returned; so a call that is
 * repeated after a ROLLBACK, a crash or a time-out finds it.
 */
#ifndef PGL_CALL_JOURNAL_H
#define PGL_CALL_JOURNAL_H

#include "state.h"

/* SHA-256 of all that decides the answer; the same in memo and journal. */
extern void pgl_journal_make_key(const PglCall *call, unsigned char key[PGL_KEY_SIZE]);
/* Throws 22023 if the call asks for the journal and its tenant keeps no answers. */
extern bool pgl_journal_is_wanted(const PglTenant *tenant, const PglCallArgs *args);
/*
 * Look the answer up; true: call->outcome is filled.  Reads the newest committed state, after what
 * an earlier run of the server left behind has been loaded.  Throws what SQL throws.
 */
extern bool pgl_journal_find(PglCall *call);
extern void pgl_journal_sha256(const void *bytes, size_t len, unsigned char out[PGL_KEY_SIZE]);

#endif
