/*
 * test_cause.c — the routing table: every cause has a row, and the rows keep its promises.
 */
#include "unit.h"

#include <string.h>

#include "cause.h"

static void
test_table(void)
{
	bool named = true;
	bool unique = true;
	bool final = true;

	for (int i = 0; i < PGL_CAUSE_COUNT; i++)
	{
		const PglCauseRule *rule = pgl_cause_rule((PglCause) i);

		named = named && rule->name != NULL && rule->name[0] != '\0';
		for (int j = 0; j < i; j++)
			unique = unique && strcmp(rule->name, pgl_cause_name((PglCause) j)) != 0;
		if (!rule->try_next)
			final = final && rule->same_target == 0 && !rule->spend_retry && !rule->cool_domain &&
					!rule->breaker_failure;
	}
	CHECK(named, "every cause has a name");
	CHECK(unique, "names differ");
	CHECK(final, "a final cause leads to nothing else");
	CHECK_STR(pgl_cause_name((PglCause) 99), "unknown", "a value outside the enum has a name");
	CHECK(!pgl_cause_rule((PglCause) -1)->try_next, "and is final");
}

static void
test_rows(void)
{
	const PglCauseRule *throttled = pgl_cause_rule(PGL_CAUSE_THROTTLED);
	const PglCauseRule *unavailable = pgl_cause_rule(PGL_CAUSE_UNAVAILABLE);
	const PglCauseRule *timeout = pgl_cause_rule(PGL_CAUSE_TIMEOUT);
	const PglCauseRule *auth = pgl_cause_rule(PGL_CAUSE_AUTH);

	CHECK(throttled->cool_domain && !throttled->breaker_failure,
		  "throttling cools the domain, its breaker stays closed");
	CHECK(unavailable->cool_domain && unavailable->breaker_failure,
		  "503 cools the domain and counts as a failure");
	CHECK_INT(pgl_cause_rule(PGL_CAUSE_SERVER_ERROR)->same_target, 1,
			  "one retry on the same target after a server error");
	CHECK(timeout->other_endpoint && timeout->same_target == 0, "never the same after a timeout");
	CHECK(auth->cool_credential && !auth->cool_domain && !auth->breaker_failure,
		  "a wrong key says nothing about the domain");
	CHECK(pgl_cause_rule(PGL_CAUSE_CONTEXT_TOO_LONG)->larger_context, "larger context only");
	CHECK(!pgl_cause_rule(PGL_CAUSE_REFUSAL)->try_next, "a refusal is final");
}

void
test_cause(void)
{
	unit_suite("cause");
	test_table();
	test_rows();
}
