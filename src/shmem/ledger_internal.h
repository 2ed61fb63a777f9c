/*
 * ledger_internal.h — what ledger.c (records) and ledger_database.c (who writes them) share with
 * each other, and with nobody else.
 */
#ifndef PGL_SHMEM_LEDGER_INTERNAL_H
#define PGL_SHMEM_LEDGER_INTERNAL_H

#include "port/atomics.h"

#include "../pg/compat.h"
#include "ledger.h"

#define NONE (-1)

/* What is known of a database.  An entry is reused when nothing of it is in the way. */
typedef struct PglLedgerDatabase
{
	Oid oid; /* InvalidOid: not used */

	/* Its queue, see ledger.c. */
	int head;
	int tail;
	int64_t queued;
	int64_t reserved;
	pg_atomic_uint64 durable; /* UINT64_MAX while the queue is empty */
	pg_atomic_uint64 last;

	/* Its writer, and how that fares, see ledger_database.c. */
	int writer_pid; /* 0: none */
	ProcNumber writer_proc;
	bool wanted;
	bool dismissed; /* its writer shall leave */
	bool recovered;
	int64_t back_off_us; /* 0: the tables work */
	int64_t retry_at_us;
	int64_t spilled;
	int64_t written;
	int64_t failures;
	char last_error[PGL_LEDGER_ERROR_SIZE];
	int64_t last_error_at;
} PglLedgerDatabase;

extern uint64_t pgl_ledger_databases_shmem_size(void);
extern void pgl_ledger_databases_shmem_init(void);

/* Locked.  The entry of a database; NULL if it has none. */
extern PglLedgerDatabase *pgl_ledger_find_database(Oid oid);
/* Locked.  Likewise, made if need be; NULL: no room. */
extern PglLedgerDatabase *pgl_ledger_make_database(Oid oid);
/* Of this process; NULL if it has none.  Without the lock only its atomics may be looked at. */
extern PglLedgerDatabase *pgl_ledger_own_database(void);
extern int pgl_ledger_database_index(const PglLedgerDatabase *database);
extern PglLedgerDatabase *pgl_ledger_database_at(int index);
/* Locked.  Its writer; if there is none the launcher, who starts one. */
extern void pgl_ledger_wake_writer(const PglLedgerDatabase *database);
/* Locked, at exit.  This process is no writer any more. */
extern void pgl_ledger_leave_office(void);

/* ledger.c; locked: when the first record in the queue was queued, on the clock of pgl_clock_us;
 * -1: there is none. */
extern int64_t pgl_ledger_oldest(const PglLedgerDatabase *database);
extern int pgl_ledger_free_slots(void); /* locked */

#endif
