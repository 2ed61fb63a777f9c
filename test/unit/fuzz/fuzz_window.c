/*
 * fuzz_window.c — random programs of limits, time and calls against the naive model.
 */
#include "fuzz.h"

#include "window_model.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *difference = run_window_program(data, size < 256 ? size : 256);

	if (difference != NULL)
		fprintf(stderr, "%s\n", difference);
	REQUIRE(difference == NULL);
	return 0;
}
