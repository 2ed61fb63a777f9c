/*
 * guc.h — every setting of the extension.
 */
#ifndef PGL_PG_GUC_H
#define PGL_PG_GUC_H

#include <stdbool.h>

typedef enum PglInUtility
{
	PGL_IN_UTILITY_ERROR,
	PGL_IN_UTILITY_ALLOW
} PglInUtility;

typedef enum PglLedgerSync
{
	PGL_LEDGER_SYNC_OFF,    /* rows follow soon; a crash of the server may lose some */
	PGL_LEDGER_SYNC_RESULT, /* the row is durable before the answer is returned */
	PGL_LEDGER_SYNC_INTENT  /* and another before the first byte leaves */
} PglLedgerSync;

extern char *pgl_guc_ca_file;
extern bool pgl_guc_concurrent_scan;
extern int pgl_guc_connect_timeout; /* ms */
extern char *pgl_guc_credential_directory;
extern int pgl_guc_in_utility;
extern int pgl_guc_ledger_retention; /* days; 0: for ever */
extern int pgl_guc_ledger_size;
extern int pgl_guc_ledger_sync;
extern int pgl_guc_ledger_timeout; /* ms */
extern int pgl_guc_max_concurrency;
extern int pgl_guc_max_leases;
extern int pgl_guc_max_limits;
extern int pgl_guc_memo_size; /* kB */
extern bool pgl_guc_report;
extern bool pgl_guc_require_quota;
extern int pgl_guc_response_max_size; /* kB */
extern int pgl_guc_statement_max_calls;
extern double pgl_guc_statement_max_cost; /* US dollars; negative: not limited */
extern int pgl_guc_timeout;               /* ms */

extern void pgl_guc_define(void);

#endif
