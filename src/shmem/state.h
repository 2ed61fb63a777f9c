/*
 * state.h — the shared memory of the extension: one lock, and what it protects.
 *
 * Everything that must be decided together — limits, leases, queue tickets, breakers, balancing
 * credit and counters — sits behind ONE lwlock.  That is what makes admission all-or-nothing over
 * any set of limits without a lock order to get wrong; a critical section takes well under a
 * microsecond, which is hundreds of thousands of calls per second more than any model provider
 * serves.
 *
 * Rules under the lock: no I/O, no SQL, no ereport, no palloc, no libcurl.  Functions whose comment
 * says "locked" expect the caller to hold it.  Shared structures hold indexes and ids, never
 * pointers.
 *
 * Two more locks serve what cannot be done under that one: the flush lock while ledger records are
 * copied or freed, the spill lock across the I/O on spill files.  Order: spill, flush, main; a
 * holder of the main lock takes no other.
 *
 * Needs shared_preload_libraries.  A crash of any backend makes the postmaster start over with
 * fresh shared memory, so nothing here can be left behind by kill -9.
 */
#ifndef PGL_SHMEM_STATE_H
#define PGL_SHMEM_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define PGL_NAME_SIZE 64 /* names of configuration rows are at most 63 bytes */

typedef enum PglShmemLock
{
	PGL_LWLOCK_MAIN,
	PGL_LWLOCK_FLUSH, /* ledger.c */
	PGL_LWLOCK_SPILL  /* spill.c */
} PglShmemLock;

struct LWLock;

extern void pgl_shmem_init(void);    /* from _PG_init: installs the hooks */
extern void pgl_shmem_require(void); /* ereport unless ready; also arms the exit callback */
extern void pgl_shmem_lock(void);
extern void pgl_shmem_unlock(void);
extern struct LWLock *pgl_shmem_lwlock(PglShmemLock which);
extern int pgl_shmem_max_procs(void);
/* Copy at most PGL_NAME_SIZE - 1 bytes, cutting at a character boundary is the reader's business.
 */
extern void pgl_shmem_copy_name(char dest[PGL_NAME_SIZE], const char *name);

#endif
