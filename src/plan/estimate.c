/*
 * estimate.c — see estimate.h.
 *
 * A finished plan says only how many rows are left.  The planner knows nothing about what a model
 * answers, so it has guessed by the kind of the condition alone; the same guesses, backwards, tell
 * for how many rows calls will be made.  Where it rounded up to one row, that is too many.
 */
#include "postgres.h"

#include <math.h>

#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

#include "../pg/compat.h"
#include "estimate.h"
#include "site.h"

static double share(Node *clause);

static double
share_of_operator(Oid operator)
{
	switch (get_oprrest(operator))
	{
		case F_EQSEL:
			return DEFAULT_EQ_SEL;
		case F_NEQSEL:
			return 1 - DEFAULT_EQ_SEL;
		case F_LIKESEL:
		case F_ICLIKESEL:
		case F_REGEXEQSEL:
		case F_ICREGEXEQSEL:
		case F_PREFIXSEL:
			return DEFAULT_MATCH_SEL;
		case F_NLIKESEL:
		case F_ICNLIKESEL:
		case F_REGEXNESEL:
		case F_ICREGEXNESEL:
			return 1 - DEFAULT_MATCH_SEL;
		default:
			return DEFAULT_INEQ_SEL;
	}
}

static int
elements(Node *array)
{
	if (IsA(array, ArrayExpr))
		return list_length(castNode(ArrayExpr, array)->elements);
	if (IsA(array, Const) && !castNode(Const, array)->constisnull)
	{
		ArrayType *value = DatumGetArrayTypeP(castNode(Const, array)->constvalue);

		return ArrayGetNItems(ARR_NDIM(value), ARR_DIMS(value));
	}
	return 10;
}

static double
share_of_any(ScalarArrayOpExpr *clause)
{
	double one = share_of_operator(clause->opno);
	int n = elements(lsecond(clause->args));

	return clause->useOr ? Min(one * n, 1) : pow(one, n);
}

static double
share_of_all(List *clauses)
{
	double all = 1;
	ListCell *cell;

	foreach (cell, clauses)
		all *= share(lfirst(cell));
	return all;
}

static double
share_of_some(List *clauses)
{
	double none = 1;
	ListCell *cell;

	foreach (cell, clauses)
		none *= 1 - share(lfirst(cell));
	return 1 - none;
}

static double
share_of_bool(const BoolExpr *clause)
{
	switch (clause->boolop)
	{
		case AND_EXPR:
			return share_of_all(clause->args);
		case OR_EXPR:
			return share_of_some(clause->args);
		case NOT_EXPR:
			break;
	}
	return 1 - share(linitial(clause->args));
}

static double
share(Node *clause)
{
	switch (nodeTag(clause))
	{
		case T_BoolExpr:
			return share_of_bool(castNode(BoolExpr, clause));
		case T_OpExpr:
			return share_of_operator(castNode(OpExpr, clause)->opno);
		case T_ScalarArrayOpExpr:
			return share_of_any(castNode(ScalarArrayOpExpr, clause));
		case T_NullTest:
			return castNode(NullTest, clause)->nulltesttype == IS_NULL ? DEFAULT_UNK_SEL
																	   : DEFAULT_NOT_UNK_SEL;
		case T_FuncExpr:
			return DEFAULT_INEQ_SEL;
		default:
			return 0.5;
	}
}

double
pgl_estimate_before(double left, List *clauses)
{
	double kept = 1;
	ListCell *cell;

	/* What needs no call was estimated by what is known about the table. */
	foreach (cell, clauses)
		if (pgl_site_inside(lfirst(cell)))
			kept *= share(lfirst(cell));
	return clamp_row_est(left / Max(kept, 1e-9));
}
