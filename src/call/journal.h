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

#include "memo.h"
#include "plan.h"

/* SHA-256 of all that decides the answer; the same in memo and journal. */
extern void pgl_journal_make_key(const PglPlan *plan, const PglChatRequest *request,
								 unsigned char key[PGL_KEY_SIZE]);
/* Throws 22023 if the call asks for the journal and its tenant keeps no answers. */
extern bool pgl_journal_is_wanted(const PglTenant *tenant, const PglCallArgs *args);
/*
 * Look the answer up; true: call->outcome is filled.  Reads the newest committed state, after what
 * an earlier run of the server left behind has been loaded.  Throws what SQL throws.
 */
extern bool pgl_journal_find(PglCall *call);
/* Which of the keys would be found: found[i] is set for those. */
extern void
pgl_journal_find_keys(const char *tenant, unsigned char (*keys)[PGL_KEY_SIZE], int n, bool *found);
extern void pgl_journal_sha256(const void *bytes, size_t len, unsigned char out[PGL_KEY_SIZE]);

#endif
