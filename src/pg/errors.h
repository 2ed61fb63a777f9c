/*
 * errors.h — the SQLSTATEs of the extension: class LM, usable in PL/pgSQL as SQLSTATE 'LM001'.
 */
#ifndef PGL_PG_ERRORS_H
#define PGL_PG_ERRORS_H

#include "utils/elog.h"

#define ERRCODE_LM_THROTTLED MAKE_SQLSTATE('L', 'M', '0', '0', '1')
#define ERRCODE_LM_QUOTA MAKE_SQLSTATE('L', 'M', '0', '0', '2')
#define ERRCODE_LM_ALL_FAILED MAKE_SQLSTATE('L', 'M', '0', '0', '3')
#define ERRCODE_LM_DEADLINE MAKE_SQLSTATE('L', 'M', '0', '0', '4')
#define ERRCODE_LM_REFUSAL MAKE_SQLSTATE('L', 'M', '0', '0', '6')
#define ERRCODE_LM_CONTEXT_TOO_LONG MAKE_SQLSTATE('L', 'M', '0', '0', '7')
#define ERRCODE_LM_TRUNCATED MAKE_SQLSTATE('L', 'M', '0', '0', '8')
#define ERRCODE_LM_CREDENTIALS MAKE_SQLSTATE('L', 'M', '0', '0', '9')
#define ERRCODE_LM_STATEMENT_LIMIT MAKE_SQLSTATE('L', 'M', '0', '1', '0')
#define ERRCODE_LM_BUDGET MAKE_SQLSTATE('L', 'M', '0', '1', '1')

#endif
