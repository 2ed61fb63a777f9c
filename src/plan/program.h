/*
 * program.h — expressions with call sites, parted into what can be done ahead and what is left.
 *
 * A program works on one row.  The row begins with the input columns; each step appends a column to
 * it.  A step is a call, or a condition that decides whether later calls are made.  It may have a
 * guard, and is left out, its column NULL, where the guard is not true.  A step depends on earlier
 * steps only.  What is left of the expressions finds results where calls were.
 *
 * So that no call is made that plain evaluation would not make, guards say exactly what CASE,
 * COALESCE, AND, OR and FILTER would have evaluated.  A call site inside anything whose evaluation
 * order is not known here stays where it is: it will be called there, one at a time.
 *
 * All Vars of inputs and results are Var(INDEX_VAR, column).
 */
#ifndef PGL_PLAN_PROGRAM_H
#define PGL_PLAN_PROGRAM_H

#include "nodes/primnodes.h"
#include "nodes/pg_list.h"

typedef struct PglProgram
{
	int ninputs;
	List *steps;   /* of Node: a call site is a call, anything else a condition */
	List *guards;  /* of Node or NULL, one per step */
	List *is_call; /* of int, likewise: a condition may look like a call site of shadow mode */
} PglProgram;

extern PglProgram *pgl_program_begin(int ninputs);
/* Take the call sites out of an expression that is evaluated where `guard` is true (NULL: always).
 */
extern Node *pgl_program_add(PglProgram *program, Node *expression, Node *guard);
/* As a step of its own; what is left is its column. */
extern Node *pgl_program_add_condition(PglProgram *program, Node *condition, Node *guard);
extern int pgl_program_ncalls(const PglProgram *program);
/* May its steps be evaluated ahead of their turn, next to what is left? */
extern bool pgl_program_is_sound(const PglProgram *program, List *left);
/* Columns of the row that hold results, as expressions over the inputs: for EXPLAIN. */
extern List *pgl_program_describe(const PglProgram *program, Index input_varno);

/* Pieces of guards. */
extern Node *pgl_guard_and(Node *guard, Node *condition, BoolTestType test);

#endif
