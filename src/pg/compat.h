/*
 * compat.h — every difference between the PostgreSQL versions that pgllm builds on.
 *
 * Include it right after postgres.h.  It is the only file that may look at PG_VERSION_NUM:
 * elsewhere the code reads as if there were one version, mostly the newest.  An entry names the
 * version that changed something and offers the newer spelling to older servers, or a pgl_ name
 * where no spelling fits all. 15, 17 and 18 are built and tested; 14 and 16 are kept right by
 * review.
 */
#ifndef PGL_PG_COMPAT_H
#define PGL_PG_COMPAT_H

#if PG_VERSION_NUM < 140000
#error "pgllm requires PostgreSQL 14 or later"
#endif

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "commands/explain.h"
#include "nodes/plannodes.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* 16 moved VARDATA and its family out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * Modules are compiled with -fvisibility=hidden, and what the server looks up by name must be
 * visible all the same.  16 does that by PGDLLEXPORT, also in PG_FUNCTION_INFO_V1; before, it is
 * empty on Unix and the macro declares the function without it.
 */
#if PG_VERSION_NUM < 160000 && !defined(WIN32)
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(funcname)                                               \
	extern PGDLLEXPORT Datum funcname(PG_FUNCTION_ARGS);                            \
	extern PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_, funcname)(void); \
	const Pg_finfo_record *CppConcat(pg_finfo_, funcname)(void)                     \
	{                                                                               \
		static const Pg_finfo_record my_finfo = {1};                                \
		return &my_finfo;                                                           \
	}                                                                               \
	extern int no_such_variable

extern PGDLLEXPORT void _PG_init(void);
#endif

/* 18 lets a module tell its name and version. */
#if PG_VERSION_NUM >= 180000
#define PGL_MODULE_MAGIC(version_text) PG_MODULE_MAGIC_EXT(.name = "pgllm", .version = version_text)
#else
#define PGL_MODULE_MAGIC(version_text) PG_MODULE_MAGIC
#endif

/* 15 reserves a prefix; 14 only warns about settings of that prefix that nobody has defined. */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/*
 * 15 wants shared memory to be asked for in shmem_request_hook and nowhere else; 14 has no such
 * hook and wants it asked for in _PG_init.
 */
#if PG_VERSION_NUM >= 150000
#define PGL_INSTALL_SHMEM_REQUEST(request, previous) \
	do                                               \
	{                                                \
		(previous) = shmem_request_hook;             \
		shmem_request_hook = (request);              \
	} while (0)
#else
typedef void (*shmem_request_hook_type)(void);
#define PGL_INSTALL_SHMEM_REQUEST(request, previous) \
	do                                               \
	{                                                \
		(previous) = NULL;                           \
		(request)();                                 \
	} while (0)
#endif

/* 17 replaced BackendIds by proc numbers, which index ProcGlobal->allProcs in all versions. */
#if PG_VERSION_NUM < 170000
typedef int ProcNumber;
#undef GetNumberFromPGProc
#define GetNumberFromPGProc(proc) ((ProcNumber) ((proc) - &ProcGlobal->allProcs[0]))
#undef INVALID_PROC_NUMBER
#define INVALID_PROC_NUMBER (-1)
#endif

/* Number of this process, INVALID_PROC_NUMBER while it has no PGPROC. */
static inline ProcNumber
pgl_my_proc_number(void)
{
	return MyProc == NULL ? INVALID_PROC_NUMBER : GetNumberFromPGProc(MyProc);
}

/* Setting the latch of a process that is gone wakes its successor for nothing, which is harmless.
 */
static inline Latch *
pgl_proc_latch(ProcNumber number)
{
	return &ProcGlobal->allProcs[number].procLatch;
}

/*
 * 17 has named wait events.  To be called in a backend, not in _PG_init: it needs shared memory.
 * Keep the number: there are 128 in the server, and asking twice for a name is a lookup under a
 * lock.
 */
static inline uint32
pgl_wait_event_new(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}

/* 17 ties wait event sets to resource owners; without one, as here, a set lives as long as the
 * backend. */
static inline WaitEventSet *
pgl_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

/* 17 gave process types names of one form. */
#if PG_VERSION_NUM < 170000
#define AmAutoVacuumWorkerProcess() IsAutoVacuumWorkerProcess()
#endif

/* 18 dropped the parameter execute_once of ExecutorRun. */
#if PG_VERSION_NUM >= 180000
#define PGL_EXECUTOR_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define PGL_EXECUTOR_RUN_ARGUMENTS query, direction, count
#else
#define PGL_EXECUTOR_RUN_PARAMETERS \
	QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define PGL_EXECUTOR_RUN_ARGUMENTS query, direction, count, execute_once
#endif

/* 17 has a timeout for whole transactions. */
static inline void
pgl_disable_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
}

/* 15 wants to know how much room there is for a digest. */
#if PG_VERSION_NUM >= 150000
#define pgl_cryptohash_final(context, out, size) pg_cryptohash_final(context, out, size)
#else
#define pgl_cryptohash_final(context, out, size) pg_cryptohash_final(context, out)
#endif

/* 15 has a generator of its own for every process; 14 seeds random() in each. */
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#endif

static inline uint64
pgl_random_u64(void)
{
#if PG_VERSION_NUM >= 150000
	return pg_prng_uint64(&pg_global_prng_state);
#else
	return ((uint64) random() << 42) ^ ((uint64) random() << 21) ^ (uint64) random();
#endif
}

/* 15.1 named InitMaterializedSRF; in 15.0 it is SetSingleFuncCall, in 14 it is missing. */
#if PG_VERSION_NUM == 150000
#define MAT_SRF_USE_EXPECTED_DESC SRF_SINGLE_USE_EXPECTED
#define MAT_SRF_BLESS SRF_SINGLE_BLESS
#define InitMaterializedSRF(fcinfo, flags) SetSingleFuncCall(fcinfo, flags)
#elif PG_VERSION_NUM < 150000
#define MAT_SRF_USE_EXPECTED_DESC 0x01
#define MAT_SRF_BLESS 0x02

static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		!(rsinfo->allowedModes & SFRM_Materialize) ||
		((flags & MAT_SRF_USE_EXPECTED_DESC) && rsinfo->expectedDesc == NULL))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("set-valued function called in context that cannot accept a set")));
	caller = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	rsinfo->returnMode = SFRM_Materialize;
	if (flags & MAT_SRF_USE_EXPECTED_DESC)
		rsinfo->setDesc = CreateTupleDescCopy(rsinfo->expectedDesc);
	else if (get_call_result_type(fcinfo, NULL, &rsinfo->setDesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (flags & MAT_SRF_BLESS)
		BlessTupleDesc(rsinfo->setDesc);
	rsinfo->setResult = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
											  false, work_mem);
	MemoryContextSwitchTo(caller);
}
#endif

/* 17 has two random(), and tells them apart. */
#if PG_VERSION_NUM >= 170000
#define F_RANDOM F_RANDOM_
#endif

/* Expressions that only the plan node that they stand in can compute: 17 and 18 have more. */
static inline bool
pgl_is_leaf_of_newer_version(const Node *node)
{
#if PG_VERSION_NUM >= 180000
	if (IsA(node, ReturningExpr))
		return true;
#endif
#if PG_VERSION_NUM >= 170000
	return IsA(node, MergeSupportFunc);
#else
	return false;
#endif
}

/* 15 stops reading where a condition on a window function can no longer be true. */
static inline bool
pgl_window_stops_early(const WindowAgg *window)
{
#if PG_VERSION_NUM >= 150000
	return window->runCondition != NIL;
#else
	return false;
#endif
}

/* 16 checks privileges on any kind of object with one function. */
#if PG_VERSION_NUM < 160000
#define object_aclcheck(class_id, object, role, mode) pg_proc_aclcheck(object, role, mode)
#endif

/* 18 gave ExplainState and its output functions headers of their own. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* 16 marks a database whose DROP was interrupted, and minor releases of older versions do. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB (-2)
#endif

/* 16 knows the layout of built-in element types by itself; pgllm has arrays of text only. */
static inline void
pgl_deconstruct_text_array(ArrayType *array, Datum **elements, bool **nulls, int *count)
{
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, elements, nulls, count);
}

#endif
