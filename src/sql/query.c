/*
 * query.c — see query.h.
 *
 * What the text may be is decided by its own plan.  Functions in it do what they may do: who wants
 * more makes the transaction read-only meanwhile.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"

#include "../pg/compat.h"
#include "query.h"

static void
check_query(SPIPlanPtr query)
{
	CachedPlanSource *source;
	Query *tree;

	if (list_length(SPI_plan_get_plan_sources(query)) != 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("query must be one SELECT statement")));
	source = linitial(SPI_plan_get_plan_sources(query));
	tree = list_length(source->query_list) == 1 ? linitial_node(Query, source->query_list) : NULL;
	if (tree == NULL || tree->commandType != CMD_SELECT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("query must be one SELECT statement")));
	if (tree->hasModifyingCTE || tree->rowMarks != NIL)
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("query must not change or lock rows")));
}

int
pgl_query_prompt_column(TupleDesc desc)
{
	Oid type =
		desc->natts > 0 ? getBaseType(TupleDescAttr(desc, desc->natts - 1)->atttypid) : InvalidOid;

	if (type != TEXTOID && type != VARCHAROID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("last column of the query must be the prompt, of type text"),
						OidIsValid(type) ? errdetail("It is of type %s.", format_type_be(type)) : 0,
						errhint("Cast it to text.")));
	return desc->natts;
}

Portal
pgl_query_open(const char *sql)
{
	SPIPlanPtr query = SPI_prepare(sql, 0, NULL);

	if (query == NULL)
		elog(ERROR, "could not prepare the query: %s", SPI_result_code_string(SPI_result));
	check_query(query);
	return SPI_cursor_open(NULL, query, NULL, NULL, true);
}
