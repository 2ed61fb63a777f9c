/*
 * spent.h — what the ledger says of the calls that a row of llm_quota selects.
 *
 * This is how a budget remembers, over a restart of the server and a changed configuration.  The
 * caller has made sure that what it must see is in the table (call/settled.h).
 */
#ifndef PGL_CATALOG_SPENT_H
#define PGL_CATALOG_SPENT_H

#include "catalog.h"

typedef struct PglSpentQuery
{
	const PglQuota *quota; /* its selectors */
	const char *tenant;    /* only this tenant's calls, whatever the quota says; NULL: any */
	unsigned int role;     /* only calls of this very role; 0: any that the quota selects */
	int64_t since;         /* TimestampTz, inclusive */
	int64_t until;         /* TimestampTz, exclusive */
	int64_t slot_us;       /* one entry per so much time; 0: one for all */
	int64_t now;           /* TimestampTz: what ages are counted from */
} PglSpentQuery;

/*
 * Number of entries, oldest first, palloc'ed in the current context.  The newest committed state is
 * read.  Attempts whose cost is not known count as nothing.  Throws what SQL throws.
 */
extern int pgl_catalog_read_spent(const PglSpentQuery *query, PglBudgetEntry **entries);

#endif
