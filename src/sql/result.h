/*
 * result.h — an outcome as a row of type llm_result.
 */
#ifndef PGL_SQL_RESULT_H
#define PGL_SQL_RESULT_H

#include "access/htup.h"
#include "access/tupdesc.h"

#include "../call/call.h"

extern TupleDesc pgl_result_type(Oid type); /* of llm_result, whose OID this is; blessed */
extern HeapTuple pgl_result_form(const PglOutcome *outcome, TupleDesc desc);
extern Datum pgl_result_cost(int64_t nano_usd); /* numeric US dollars */

#endif
