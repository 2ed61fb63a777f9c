/*
 * database.c — before a command that wants a database without sessions, its ledger writer is sent
 * away.
 *
 * DROP DATABASE, CREATE DATABASE from a template, a new name and a new tablespace wait five seconds
 * for the sessions of the database to end.  The writer is one that nobody would think of.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "../pg/compat.h"
#include "../shmem/ledger.h"
#include "database.h"

static ProcessUtility_hook_type previous_hook = NULL;

static const char *
option_value(List *options, const char *name)
{
	ListCell *cell;

	foreach (cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

/* The database that must be without sessions; NULL: none. */
static const char *
wanted_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			return option_value(((CreatedbStmt *) statement)->options, "template");
		case T_AlterDatabaseStmt:
			return option_value(((AlterDatabaseStmt *) statement)->options, "tablespace")
					   ? ((AlterDatabaseStmt *) statement)->dbname
					   : NULL;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->renameType == OBJECT_DATABASE
					   ? ((RenameStmt *) statement)->subname
					   : NULL;
		default:
			return NULL;
	}
}

static void
dismiss_writer(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (OidIsValid(database))
		pgl_ledger_dismiss_writer(database);
}

static void
run_utility(PlannedStmt *pstmt, const char *source, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	const char *name = wanted_database(pstmt->utilityStmt);

	if (name != NULL)
		dismiss_writer(name);
	if (previous_hook)
		previous_hook(pstmt, source, read_only_tree, context, params, environment, dest,
					  completion);
	else
		standard_ProcessUtility(pstmt, source, read_only_tree, context, params, environment, dest,
								completion);
}

void
pgl_database_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}
