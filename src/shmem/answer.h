/*
 * answer.h — answers on their way to the journal, named by ledger records.
 *
 * They lie in a DSA area inside the main shared memory, which does not grow: growing would need
 * /dev/shm, which throws when it is full, and which the postmaster could not read at the end.  When
 * there is no room the caller writes the answer to the spill file by itself.
 */
#ifndef PGL_SHMEM_ANSWER_H
#define PGL_SHMEM_ANSWER_H

#include "state.h"

extern uint64_t pgl_answer_shmem_size(void);
extern void pgl_answer_shmem_init(void);

/* Unlocked.  A copy that a record can name; 0 when there is no room.  Does not throw for that. */
extern uint64_t pgl_answer_keep(const char *from, uint32_t length);
/* Unlocked.  NUL-terminated, palloc'ed; NULL for 0. */
extern char *pgl_answer_copy(uint64_t answer, uint32_t length);
extern void pgl_answer_free(uint64_t answer); /* 0 is allowed */

#endif
