/*
 * program.c — see program.h.
 *
 * The expression is walked in the order of its evaluation, with the guard that applies.  A
 * construct that evaluates its arguments one after the other, depending on their values, gets its
 * conditions turned into steps, but only those that calls come after.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#include "../pg/compat.h"
#include "program.h"
#include "site.h"

typedef struct AddContext
{
	PglProgram *program;
	Node *guard;
} AddContext;

PglProgram *
pgl_program_begin(int ninputs)
{
	PglProgram *program = palloc0(sizeof(PglProgram));

	program->ninputs = ninputs;
	return program;
}

int
pgl_program_ncalls(const PglProgram *program)
{
	int n = 0;
	ListCell *cell;

	foreach (cell, program->is_call)
		n += lfirst_int(cell);
	return n;
}

/* Append a step; the result is its column. */
static Node *
append_step(PglProgram *program, Node *expression, Node *guard, bool is_call)
{
	program->steps = lappend(program->steps, expression);
	program->guards = lappend(program->guards, guard);
	program->is_call = lappend_int(program->is_call, is_call);
	return (Node *) makeVar(INDEX_VAR, program->ninputs + list_length(program->steps),
							exprType(expression), exprTypmod(expression), exprCollation(expression),
							0);
}

/* ---- guards ---- */

static Node *
and_guards(Node *left, Node *right)
{
	if (left == NULL)
		return right;
	return (Node *) makeBoolExpr(AND_EXPR, list_make2(copyObject(left), right), -1);
}

Node *
pgl_guard_and(Node *guard, Node *condition, BoolTestType test)
{
	BooleanTest *node = makeNode(BooleanTest);

	node->arg = (Expr *) copyObject(condition);
	node->booltesttype = test;
	node->location = -1;
	return and_guards(guard, (Node *) node);
}

static Node *
guard_and_null(Node *guard, Node *value)
{
	NullTest *node = makeNode(NullTest);

	node->arg = (Expr *) copyObject(value);
	node->nulltesttype = IS_NULL;
	node->argisrow = false;
	node->location = -1;
	return and_guards(guard, (Node *) node);
}

/* ---- constructs that decide what they evaluate ---- */

static Node *
add(PglProgram *program, Node *expression, Node *guard)
{
	return pgl_program_add(program, expression, guard);
}

Node *
pgl_program_add_condition(PglProgram *program, Node *condition, Node *guard)
{
	Node *left = add(program, condition, guard);

	/* A bare result needs no step of its own; with a guard it is NULL where that is not true. */
	if (IsA(left, Var) && castNode(Var, left)->varattno > program->ninputs)
		return left;
	return append_step(program, left, guard, false);
}

/* Is there a call site in the list, from its n-th element on? */
static bool
inside_from(List *list, int n)
{
	ListCell *cell;

	for_each_from (cell, list, n)
		if (pgl_site_inside(lfirst(cell)))
			return true;
	return false;
}

static Node *
add_and_or(PglProgram *program, BoolExpr *node, Node *guard)
{
	BoolTestType go_on = node->boolop == AND_EXPR ? IS_NOT_FALSE : IS_NOT_TRUE;
	BoolExpr *result = copyObject(node);
	int i;

	result->args = NIL;
	for (i = 0; i < list_length(node->args); i++)
	{
		Node *arg = list_nth(node->args, i);

		if (inside_from(node->args, i + 1))
		{
			arg = pgl_program_add_condition(program, arg, guard);
			guard = pgl_guard_and(guard, arg, go_on);
		}
		else
			arg = add(program, arg, guard);
		result->args = lappend(result->args, arg);
	}
	return (Node *) result;
}

static Node *
add_coalesce(PglProgram *program, CoalesceExpr *node, Node *guard)
{
	CoalesceExpr *result = copyObject(node);
	int i;

	result->args = NIL;
	for (i = 0; i < list_length(node->args); i++)
	{
		Node *arg = list_nth(node->args, i);

		if (inside_from(node->args, i + 1))
		{
			arg = pgl_program_add_condition(program, arg, guard);
			guard = guard_and_null(guard, arg);
		}
		else
			arg = add(program, arg, guard);
		result->args = lappend(result->args, arg);
	}
	return (Node *) result;
}

/* Replace what stands for the operand of this CASE, and of no other inside it. */
static Node *
replace_case_test(Node *node, void *operand)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, CaseTestExpr))
		return copyObject((Node *) operand);
	if (IsA(node, CaseExpr) && castNode(CaseExpr, node)->arg != NULL)
	{
		CaseExpr *inner = copyObject(castNode(CaseExpr, node));

		inner->arg = (Expr *) replace_case_test((Node *) inner->arg, operand);
		return (Node *) inner;
	}
	if (IsA(node, ArrayCoerceExpr))
	{
		ArrayCoerceExpr *inner = copyObject(castNode(ArrayCoerceExpr, node));

		inner->arg = (Expr *) replace_case_test((Node *) inner->arg, operand);
		return (Node *) inner;
	}
	return expression_tree_mutator(node, replace_case_test, operand);
}

/* Are there call sites in the result of WHEN number n, in a later WHEN or in ELSE? */
static bool
inside_case_after(const CaseExpr *node, int n)
{
	ListCell *cell;

	if (pgl_site_inside((Node *) list_nth_node(CaseWhen, node->args, n)->result))
		return true;
	for_each_from (cell, node->args, n + 1)
	{
		CaseWhen *when = lfirst_node(CaseWhen, cell);

		if (pgl_site_inside((Node *) when->expr) || pgl_site_inside((Node *) when->result))
			return true;
	}
	return pgl_site_inside((Node *) node->defresult);
}

static Node *
add_case(PglProgram *program, CaseExpr *node, Node *guard)
{
	CaseExpr *result = copyObject(node);
	int i;

	if (result->arg)
	{
		Node *operand = pgl_program_add_condition(program, (Node *) result->arg, guard);

		for (i = 0; i < list_length(result->args); i++)
		{
			CaseWhen *when = list_nth_node(CaseWhen, result->args, i);

			when->expr = (Expr *) replace_case_test((Node *) when->expr, operand);
		}
		result->arg = NULL;
	}
	for (i = 0; i < list_length(result->args); i++)
	{
		CaseWhen *when = list_nth_node(CaseWhen, result->args, i);
		Node *within = guard;

		if (inside_case_after(node, i))
		{
			when->expr = (Expr *) pgl_program_add_condition(program, (Node *) when->expr, guard);
			within = pgl_guard_and(guard, (Node *) when->expr, IS_TRUE);
			guard = pgl_guard_and(guard, (Node *) when->expr, IS_NOT_TRUE);
		}
		else
			when->expr = (Expr *) add(program, (Node *) when->expr, guard);
		when->result = (Expr *) add(program, (Node *) when->result, within);
	}
	result->defresult = (Expr *) add(program, (Node *) result->defresult, guard);
	return (Node *) result;
}

/* ---- the walk ---- */

/* Does it evaluate all its arguments, whatever their values? */
static bool
is_unconditional(Node *node)
{
	switch (nodeTag(node))
	{
		case T_FuncExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_CollateExpr:
		case T_FieldSelect:
		case T_RowExpr:
		case T_ArrayExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_CoerceToDomain:
		case T_ConvertRowtypeExpr:
		case T_List:
		case T_TargetEntry:
			return true;
		case T_BoolExpr:
			return castNode(BoolExpr, node)->boolop == NOT_EXPR;
		case T_ArrayCoerceExpr:
			return !pgl_site_inside((Node *) castNode(ArrayCoerceExpr, node)->elemexpr);
		default:
			return false;
	}
}

/* container[…]: the container comes first, and always. */
static Node *
add_subscripts(PglProgram *program, SubscriptingRef *node, Node *guard)
{
	SubscriptingRef *result = copyObject(node);

	if (node->refassgnexpr == NULL && !pgl_site_inside((Node *) node->refupperindexpr) &&
		!pgl_site_inside((Node *) node->reflowerindexpr))
		result->refexpr = (Expr *) add(program, (Node *) result->refexpr, guard);
	return (Node *) result;
}

static Node *
add_mutator(Node *node, void *context)
{
	AddContext *add_context = context;

	return add(add_context->program, node, add_context->guard);
}

static Node *
add_children(PglProgram *program, Node *node, Node *guard)
{
	AddContext context = {program, guard};

	return expression_tree_mutator(node, add_mutator, &context);
}

Node *
pgl_program_add(PglProgram *program, Node *expression, Node *guard)
{
	if (expression == NULL || !pgl_site_inside(expression))
		return expression;
	if (pgl_site_is(expression))
		return append_step(program, add_children(program, expression, guard), guard, true);
	if (is_unconditional(expression))
		return add_children(program, expression, guard);
	switch (nodeTag(expression))
	{
		case T_BoolExpr:
			return add_and_or(program, castNode(BoolExpr, expression), guard);
		case T_CoalesceExpr:
			return add_coalesce(program, castNode(CoalesceExpr, expression), guard);
		case T_CaseExpr:
			return add_case(program, castNode(CaseExpr, expression), guard);
		case T_SubscriptingRef:
			return add_subscripts(program, castNode(SubscriptingRef, expression), guard);
		default:
			return expression;
	}
}

/* ---- may it be done ahead? ---- */

static bool
uses_results(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return castNode(Var, node)->varattno > ((const PglProgram *) context)->ninputs;
	return expression_tree_walker(node, uses_results, context);
}

static bool
steps_exceed(const PglProgram *program, PglVolatility limit)
{
	return pgl_site_exceeds((Node *) program->steps, limit) ||
		   pgl_site_exceeds((Node *) program->guards, limit);
}

/*
 * Steps run ahead of what is left, in the order of rows; those that need results run when these
 * come, in any order.  So steps must have no side effects and see none: none but harmless ones,
 * where they need no results; and next to something volatile that is left they must not even look.
 */
bool
pgl_program_is_sound(const PglProgram *program, List *left)
{
	ListCell *step;
	ListCell *guard;

	if (steps_exceed(program, PGL_HARMLESS))
		return false;
	forboth(step, program->steps, guard,
			program->guards) if ((uses_results(lfirst(step), (void *) program) ||
								  uses_results(lfirst(guard), (void *) program)) &&
								 (pgl_site_exceeds(lfirst(step), PGL_STABLE) ||
								  pgl_site_exceeds(lfirst(guard), PGL_STABLE))) return false;
	return !pgl_site_exceeds((Node *) left, PGL_HARMLESS) || !steps_exceed(program, PGL_IMMUTABLE);
}

/* ---- EXPLAIN ---- */

typedef struct DescribeContext
{
	const PglProgram *program;
	Index input_varno;
	List *described;
} DescribeContext;

static Node *
describe_mutator(Node *node, void *context)
{
	DescribeContext *describe = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var *var = copyObject(castNode(Var, node));

		if (var->varattno > describe->program->ninputs)
			return copyObject(
				list_nth(describe->described, var->varattno - describe->program->ninputs - 1));
		var->varno = describe->input_varno;
		return (Node *) var;
	}
	return expression_tree_mutator(node, describe_mutator, context);
}

List *
pgl_program_describe(const PglProgram *program, Index input_varno)
{
	DescribeContext context = {program, input_varno, NIL};
	ListCell *cell;

	foreach (cell, program->steps)
		context.described = lappend(context.described, describe_mutator(lfirst(cell), &context));
	return context.described;
}
