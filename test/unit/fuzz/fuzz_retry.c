/*
 * fuzz_retry.c — Retry-After texts: never negative, never beyond thirty years, "now" moves dates.
 */
#include "fuzz.h"

#include "retry.h"

#define LONGEST INT64_C(1000000000000000)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = copy_text(data, size);
	int64_t seconds = pgl_retry_parse_hint(text, false, 0);
	int64_t milliseconds = pgl_retry_parse_hint(text, true, 0);
	int64_t later = pgl_retry_parse_hint(text, false, INT64_C(1440938160000000));

	REQUIRE(seconds >= -1 && seconds <= LONGEST);
	REQUIRE(later >= -1 && later <= LONGEST);
	REQUIRE((seconds < 0) == (later < 0));
	REQUIRE(later <= seconds);
	REQUIRE(milliseconds >= -1 && milliseconds <= LONGEST);
	if (milliseconds >= 0)
		REQUIRE(seconds >= milliseconds && (seconds / 1000 <= milliseconds || seconds == LONGEST));
	free(text);
	return 0;
}
