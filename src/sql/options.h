/*
 * options.h — arguments of the SQL functions, checked and turned into PglCallArgs.
 */
#ifndef PGL_SQL_OPTIONS_H
#define PGL_SQL_OPTIONS_H

#include "fmgr.h"
#include "utils/jsonb.h"

#include "../call/call.h"

/* What all calling functions begin with: may calls be made here, tenant and options, which are
 * arguments 0 and 2.  Argument 1 is the function's own. */
extern void pgl_options_read_call(FunctionCallInfo fcinfo, PglCallArgs *args);
/* Empty arguments for a tenant; NULL tenant: error.  `tenant` is NULL or a text. */
extern void pgl_options_init(PglCallArgs *args, const text *tenant);
/* Read the options object; unknown keys and values of a wrong type or range are errors (22023). */
extern void pgl_options_read(PglCallArgs *args, Jsonb *options);
/* The prompt, which must not be empty. */
extern void pgl_options_set_prompt(PglCallArgs *args, const text *prompt);

#endif
