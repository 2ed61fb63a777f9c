/*
 * worker.h — background workers: the launcher, and one ledger writer per database.
 *
 *	launcher.c     static, connected to no database; starts a writer where one is needed
 *	writer.c       dynamic, one per database with work: drains the ledger, exits when idle
 *	tables.c       the SQL of the writer: rows of llm_ledger, llm_intent and llm_journal
 *	upkeep.c       partitions made ahead and dropped, expired answers of the journal
 */
#ifndef PGL_WORKER_WORKER_H
#define PGL_WORKER_WORKER_H

#include "../catalog/owner.h"
#include "../shmem/ledger.h"

extern void pgl_worker_init(void); /* from _PG_init, while preloading: register the launcher */

/* tables.c; in a transaction, as the owner of the extension, with SPI connected; they throw. */
extern int pgl_tables_write(const PglDrain *drain, const PglExtension *extension); /* new rows */
extern int pgl_tables_adopt_intents(const PglExtension *extension); /* of earlier runs */
extern void pgl_tables_forget_plans(void); /* after the extension was dropped or altered */

/* upkeep.c; likewise */
extern void
pgl_upkeep_ensure_partition(int64_t at, const PglExtension *extension); /* TimestampTz */
/* After an abort: partitions that were made may be gone again. */
extern void pgl_upkeep_forget(void);
/* Partitions ahead, expired answers: about once a minute. */
extern void pgl_upkeep_run(const PglExtension *extension);
/* Drop one partition that is older than pgllm.ledger_retention; false: there is none. */
extern bool pgl_upkeep_drop_old(const PglExtension *extension);

/* writer.c: one per database; the argument is the OID of the database. */
#define PGL_WRITER_FUNCTION "pgl_writer_main"

#endif
