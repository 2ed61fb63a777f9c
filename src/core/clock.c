/*
 * clock.c — the clock of deadlines, limits and latencies.
 */
#include "clock.h"

#include <time.h>

int64_t
pgl_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
