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

#include "../shmem/ledger.h"

extern void pgl_worker_init(void); /* from _PG_init, while preloading: register the launcher */

/* tables.c; in a transaction, as the owner of the extension, with SPI connected; they throw. */
extern void pgl_tables_write(const PglDrain *drain, const char *schema); /* rows of one batch */
extern void pgl_tables_adopt_intents(const char *schema);                /* of earlier runs */
extern void pgl_tables_forget_plans(void); /* after the extension was dropped or altered */

/* upkeep.c; likewise */
extern void pgl_upkeep_ensure_partition(int64_t at, const char *schema); /* for a TimestampTz */
extern void pgl_upkeep_run(const char *schema); /* ahead, retention, expiry: about once a minute */

#endif
