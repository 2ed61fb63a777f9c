/*
 * pgllm.c — _PG_init: settings, shared memory, hooks.  Nothing else lives here.
 */
#include "postgres.h"

#include "call/call.h"
#include "catalog/catalog.h"
#include "pg/compat.h"
#include "pg/guc.h"
#include "plan/rewrite.h"
#include "plan/shadow.h"
#include "shmem/state.h"
#include "sql/database.h"
#include "sql/invoke.h"
#include "sql/toplevel.h"
#include "sql/utility.h"
#include "worker/worker.h"

PGL_MODULE_MAGIC("0.1.0");

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	pgl_shadow_init();
	pgl_guc_define();
	pgl_catalog_init();
	pgl_call_init();
	pgl_invoke_init();
	/* Shared memory and hooks need to be there from the start of the server. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	pgl_shmem_init();
	pgl_utility_init();
	pgl_toplevel_init();
	pgl_database_init();
	pgl_worker_init();
	pgl_rewrite_init();
}
