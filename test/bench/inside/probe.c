/*
 * probe.c — stop-watches inside the backend.
 *
 * Compiled into the library of the benchmark's copy of the tree, never into the product.  It times
 * calls of any SQL function with the signature of llm_invoke, one by one, without the executor in
 * between, and whole statements; CPU time is the backend's own (getrusage), so client, upstream and
 * other backends do not count.
 */
#include "postgres.h"

#include <sys/resource.h>
#include <time.h>

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "../pg/compat.h"

PG_FUNCTION_INFO_V1(bench_calls);
PG_FUNCTION_INFO_V1(bench_cpu);
PG_FUNCTION_INFO_V1(bench_nop);
PG_FUNCTION_INFO_V1(bench_statement);

static int64
clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64
cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64CONST(1000000) +
		   usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static int
compare_floats(const void *a, const void *b)
{
	float8 left = *(const float8 *) a;
	float8 right = *(const float8 *) b;

	return left < right ? -1 : left > right;
}

static Datum
form_row(FunctionCallInfo fcinfo, Datum *values)
{
	bool nulls[8] = {false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* bench_nop(tenant, prompt, options) → prompt: the floor of every call */
Datum
bench_nop(PG_FUNCTION_ARGS)
{
	return PG_GETARG_DATUM(1);
}

/* bench_calls(function, tenant, prompt, calls) → p50_us, p99_us, max_us, mean_us, cpu_us per call
 */
Datum
bench_calls(PG_FUNCTION_ARGS)
{
	int calls = PG_GETARG_INT32(3);
	float8 *each = palloc(sizeof(float8) * calls);
	Datum options = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "bench call", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	FmgrInfo function;
	Datum values[5];
	int64 began;
	int64 cpu;
	int i;

	fmgr_info(PG_GETARG_OID(0), &function);
	caller = MemoryContextSwitchTo(context);
	began = clock_ns();
	cpu = cpu_us();
	for (i = 0; i < calls; i++)
	{
		int64 start = clock_ns();

		(void) FunctionCall3(&function, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), options);
		each[i] = (clock_ns() - start) / 1000.0;
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(caller);
	values[3] = Float8GetDatum((clock_ns() - began) / 1000.0 / calls);
	values[4] = Float8GetDatum((float8) (cpu_us() - cpu) / calls);
	qsort(each, calls, sizeof(float8), compare_floats);
	values[0] = Float8GetDatum(each[calls / 2]);
	values[1] = Float8GetDatum(each[(int64) calls * 99 / 100]);
	values[2] = Float8GetDatum(each[calls - 1]);
	return form_row(fcinfo, values);
}

/* bench_cpu() → µs that this backend, with all its threads, has used so far */
Datum
bench_cpu(PG_FUNCTION_ARGS)
{
	return Float8GetDatum((float8) cpu_us());
}

/* bench_statement(sql) → wall_us, cpu_us, first column of the first row as bigint */
Datum
bench_statement(PG_FUNCTION_ARGS)
{
	char *sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64 began = clock_ns();
	int64 cpu = cpu_us();
	Datum values[3];
	bool null = true;

	SPI_connect();
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "the statement failed");
	values[0] = Float8GetDatum((clock_ns() - began) / 1000.0);
	values[1] = Float8GetDatum((float8) (cpu_us() - cpu));
	values[2] = Int64GetDatum(0);
	if (SPI_processed > 0)
		values[2] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
	if (null)
		values[2] = Int64GetDatum(-1);
	SPI_finish();
	return form_row(fcinfo, values);
}
