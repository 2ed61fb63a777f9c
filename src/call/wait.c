/*
 * wait.c — wait events, and how much time the statement has left.
 *
 * PostgreSQL 17 and later show the names PgllmHttp, PgllmQuota, PgllmBackoff and PgllmLedger in
 * pg_stat_activity; before, all of them are "Extension".
 */
#include "postgres.h"

#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "wait.h"

static uint32_t
event_number(uint32_t *number, const char *name)
{
	if (*number == 0)
		*number = pgl_wait_event_new(name);
	return *number;
}

uint32_t
pgl_wait_event_http(void)
{
	static uint32_t number = 0;

	return event_number(&number, "PgllmHttp");
}

uint32_t
pgl_wait_event_quota(void)
{
	static uint32_t number = 0;

	return event_number(&number, "PgllmQuota");
}

uint32_t
pgl_wait_event_backoff(void)
{
	static uint32_t number = 0;

	return event_number(&number, "PgllmBackoff");
}

uint32_t
pgl_wait_event_ledger(void)
{
	static uint32_t number = 0;

	return event_number(&number, "PgllmLedger");
}

int64_t
pgl_wait_statement_deadline_us(void)
{
	if (!get_timeout_active(STATEMENT_TIMEOUT))
		return INT64_MAX;
	return pgl_clock_us() + (get_timeout_finish_time(STATEMENT_TIMEOUT) - GetCurrentTimestamp());
}
