/*
 * unit.h — a few macros for tests of src/core.
 *
 * Every check prints one line, "ok N - suite: text" or "not ok N - suite: text" with the place and
 * the difference.  unit_finish prints the totals and gives the exit status.  A property that is
 * tried on many inputs is one check, so that the log stays readable.
 */
#ifndef PGL_TEST_UNIT_H
#define PGL_TEST_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

#define CHECK(cond, ...) unit_check((cond), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_INT(got, want, ...) unit_check_int((got), (want), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_STR(got, want, ...) unit_check_str((got), (want), __FILE__, __LINE__, __VA_ARGS__)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

extern void unit_suite(const char *name);
extern bool unit_check(bool ok, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
extern bool unit_check_int(long long got, long long want, const char *file, int line,
						   const char *format, ...) __attribute__((format(printf, 5, 6)));
extern bool unit_check_str(const char *got, const char *want, const char *file, int line,
						   const char *format, ...) __attribute__((format(printf, 5, 6)));
extern uint64_t unit_random(uint64_t *state); /* the same sequence on every run */
extern int unit_finish(void);

extern void test_budget(void);
extern void test_buf(void);
extern void test_cause(void);
extern void test_congestion(void);
extern void test_hostpolicy(void);
extern void test_ini(void);
extern void test_json(void);
extern void test_provider(void);
extern void test_retry(void);
extern void test_sigv4(void);
extern void test_uri(void);
extern void test_window(void);

#endif
