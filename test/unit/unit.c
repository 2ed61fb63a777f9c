/*
 * unit.c — the harness of unit.h, and main: run every suite.
 */
#include "unit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *suite = "";
static int passed = 0;
static int failed = 0;

void
unit_suite(const char *name)
{
	suite = name;
}

static void report(bool ok, const char *file, int line, const char *format, va_list args)
	__attribute__((format(printf, 4, 0)));

static void
report(bool ok, const char *file, int line, const char *format, va_list args)
{
	*(ok ? &passed : &failed) += 1;
	printf("%s %d - %s: ", ok ? "ok" : "not ok", passed + failed, suite);
	vprintf(format, args);
	printf("\n");
	if (!ok)
		printf("#   at %s:%d\n", file, line);
}

bool
unit_check(bool ok, const char *file, int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(ok, file, line, format, args);
	va_end(args);
	return ok;
}

bool
unit_check_int(long long got, long long want, const char *file, int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(got == want, file, line, format, args);
	va_end(args);
	if (got != want)
		printf("#   got %lld, want %lld\n", got, want);
	return got == want;
}

bool
unit_check_str(const char *got, const char *want, const char *file, int line, const char *format,
			   ...)
{
	bool ok = strcmp(got, want) == 0;
	va_list args;

	va_start(args, format);
	report(ok, file, line, format, args);
	va_end(args);
	if (!ok)
		printf("#   got  \"%s\"\n#   want \"%s\"\n", got, want);
	return ok;
}

/* splitmix64 */
uint64_t
unit_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

int
unit_finish(void)
{
	printf("1..%d\n%d passed, %d failed\n", passed + failed, passed, failed);
	return failed > 0;
}

int
main(void)
{
	test_budget();
	test_buf();
	test_json();
	test_uri();
	test_sigv4();
	test_window();
	test_cause();
	test_retry();
	test_congestion();
	test_hostpolicy();
	test_ini();
	test_provider();
	return unit_finish();
}
