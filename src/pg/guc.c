/*
 * guc.c — every setting of the extension, in alphabetical order.
 *
 * The context of a setting follows the threat: what names files or opens doors is for the server's
 * configuration only, what bounds others is for superusers, what only bounds the session itself is
 * free.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "guc.h"

char *pgl_guc_ca_file = NULL;
bool pgl_guc_concurrent_scan = true;
int pgl_guc_connect_timeout = 10000;
char *pgl_guc_credential_directory = NULL;
int pgl_guc_in_utility = PGL_IN_UTILITY_ERROR;
int pgl_guc_ledger_retention = 400;
int pgl_guc_ledger_size = 8192;
int pgl_guc_ledger_sync = PGL_LEDGER_SYNC_RESULT;
int pgl_guc_ledger_timeout = 5000;
int pgl_guc_max_concurrency = 32;
int pgl_guc_max_leases = 4096;
int pgl_guc_max_limits = 2048;
int pgl_guc_memo_size = 65536;
bool pgl_guc_report = false;
bool pgl_guc_require_quota = true;
int pgl_guc_response_max_size = 8192;
int pgl_guc_statement_max_calls = 1000;
double pgl_guc_statement_max_cost = -1;
int pgl_guc_timeout = 60000;

static const struct config_enum_entry in_utility_options[] = {
	{"error", PGL_IN_UTILITY_ERROR, false},
	{"allow", PGL_IN_UTILITY_ALLOW, false},
	{NULL, 0, false},
};

static const struct config_enum_entry ledger_sync_options[] = {
	{"off", PGL_LEDGER_SYNC_OFF, false},
	{"result", PGL_LEDGER_SYNC_RESULT, false},
	{"intent", PGL_LEDGER_SYNC_INTENT, false},
	{NULL, 0, false},
};

/* Sizes of shared memory: they can only be set, and even defined, while the server starts. */
static void
define_sizes(void)
{
	DefineCustomIntVariable(
		"pgllm.ledger_size", "Records of calls that shared memory holds for the ledger.",
		"An attempt needs one while it is out and until it is written, two with "
		"pgllm.ledger_sync = intent.",
		&pgl_guc_ledger_size, 8192, 64, 1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.max_leases", "Most leases in the whole server; a call in flight holds up to two.",
		NULL, &pgl_guc_max_leases, 4096, 16, 1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.max_limits", "Most limits, breakers and counted names kept in shared memory, each.",
		NULL, &pgl_guc_max_limits, 2048, 16, 1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

void
pgl_guc_define(void)
{
	if (process_shared_preload_libraries_in_progress)
		define_sizes();
	DefineCustomStringVariable(
		"pgllm.ca_file", "File with the certificate authorities trusted for model endpoints.",
		"Empty: the system's bundle.", &pgl_guc_ca_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgllm.concurrent_scan",
							 "Keep several model calls of one statement in flight.",
							 "When off, a statement makes one call after the other.",
							 &pgl_guc_concurrent_scan, true, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.connect_timeout", "Longest time to resolve a name, connect and shake hands.", NULL,
		&pgl_guc_connect_timeout, 10000, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("pgllm.credential_directory",
							   "Directory of the credentials that shards name as file:NAME.",
							   "Empty: file references are refused.", &pgl_guc_credential_directory,
							   "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"pgllm.in_utility", "Whether calls may run inside utility statements.",
		"REFRESH MATERIALIZED VIEW, table rewrites, COPY FROM and logical apply "
		"would spend money without a visible query.",
		&pgl_guc_in_utility, PGL_IN_UTILITY_ERROR, in_utility_options, PGC_USERSET, 0, NULL, NULL,
		NULL);
	DefineCustomIntVariable("pgllm.ledger_retention", "Days that rows of llm_ledger are kept.",
							"Whole days are dropped; 0 keeps them for ever.",
							&pgl_guc_ledger_retention, 400, 0, 100000, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	DefineCustomEnumVariable("pgllm.ledger_sync", "When the row of a call must be durable.",
							 "off: within a second; result: before the answer is returned; intent: "
							 "also before the request "
							 "leaves, so that a crash of the server forgets nothing.",
							 &pgl_guc_ledger_sync, PGL_LEDGER_SYNC_RESULT, ledger_sync_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.ledger_timeout",
		"Longest wait for the ledger before a backend writes to the spill file.", NULL,
		&pgl_guc_ledger_timeout, 5000, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.max_concurrency", "Most calls that one statement keeps in flight.", NULL,
		&pgl_guc_max_concurrency, 32, 1, 10000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.memo_size", "Memory for answers that a statement may ask for again.",
		"Identical calls of one statement are sent once; 0 turns that off.", &pgl_guc_memo_size,
		65536, 0, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgllm.report",
							 "Report calls, tokens and cost at the end of each statement.", NULL,
							 &pgl_guc_report, false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgllm.require_quota", "Refuse calls that no row of llm_quota limits.",
							 NULL, &pgl_guc_require_quota, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pgllm.response_max_size", "Largest reply that is accepted.", NULL,
							&pgl_guc_response_max_size, 8192, 1, 1024 * 1024, PGC_SUSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.statement_max_calls", "Most calls that one top-level statement may make.",
		"Functions and triggers inside it count. -1: not limited.", &pgl_guc_statement_max_calls,
		1000, -1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable(
		"pgllm.statement_max_cost", "Most US dollars that one top-level statement may spend.",
		"The worst case of each call counts until it is known. -1: not limited.",
		&pgl_guc_statement_max_cost, -1, -1, 1e9, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pgllm.timeout", "Longest time a call may take: queueing, retries and fallbacks included.",
		"The option timeout_ms of a call and statement_timeout may shorten it.", &pgl_guc_timeout,
		60000, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	MarkGUCPrefixReserved("pgllm");
}
