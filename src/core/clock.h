/*
 * clock.h — the clock of deadlines, limits and latencies.
 */
#ifndef PGL_CORE_CLOCK_H
#define PGL_CORE_CLOCK_H

#include <stdint.h>

extern int64_t pgl_clock_us(void); /* CLOCK_MONOTONIC, microseconds, the same for all processes */

#endif
