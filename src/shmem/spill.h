/*
 * spill.h — files that take ledger records when the table cannot.
 *
 * Used on a standby, while the table cannot be written (disk full, locked, no worker slot), and at
 * shutdown for what is still queued.  One file per database, pgllm/<oid>.spill below the data
 * directory; each record has its length and a CRC, an append ends with fsync, and a torn tail is
 * ignored.  The writer moves the file to pgllm/<oid>.loading, inserts its records (those that are
 * in the table already are skipped), and removes it after its commit.  Appends and that rename
 * exclude each other by an lwlock of their own, which is held across the I/O: nobody takes it with
 * the lock of state.h held.
 *
 * Nothing here throws, but for want of memory or descriptors when reading: failures are returned,
 * after a message in the server log.
 */
#ifndef PGL_SHMEM_SPILL_H
#define PGL_SHMEM_SPILL_H

#include "ledger.h"

extern uint64_t pgl_spill_shmem_size(void);
/* In the postmaster at start: also counts what lies in the files (pgl_ledger_set_spilled). */
extern void pgl_spill_shmem_init(void);
/* Append and fsync.  `wait` false: give up if somebody else is at the files. */
extern bool pgl_spill_append(const PglDrain *drain, bool wait);
/*
 * Writer only.  Start to load: false when there is nothing.  Then read batches until
 * pgl_spill_read returns none; pgl_spill_finish removes the file and corrects the count.
 * Without finish, for instance after an ERROR, the next begin starts over.
 */
extern bool pgl_spill_begin(uint32_t database);
extern int pgl_spill_read(int max, PglDrain *drain); /* palloc'ed */
extern void pgl_spill_finish(void);
/* In the postmaster, when all other processes are gone: append what is queued anywhere. */
extern void pgl_spill_everything(void);
/* The database is gone: remove its files. */
extern void pgl_spill_remove(uint32_t database);
/* Databases that have files, also those of which shared memory knows nothing. */
extern int pgl_spill_databases(uint32_t *databases, int max);

#endif
