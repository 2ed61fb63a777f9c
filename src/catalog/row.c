/*
 * row.c — from rows of SPI to C values that live as long as a snapshot.
 *
 * Scratch memory is the current context, which is SPI's and goes with SPI_finish; only results are
 * copied to the snapshot's context, so that nothing detoasted is left there.
 */
#include "postgres.h"
#include "../pg/compat.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "internal.h"

static Datum
take_column(PglRow *row, bool *isnull)
{
	return SPI_getbinval(row->tuple, row->desc, ++row->column, isnull);
}

static const char *
keep_text(PglRow *row, Datum value)
{
	return MemoryContextStrdup(row->context, TextDatumGetCString(value));
}

const char *
pgl_catalog_row_text(PglRow *row)
{
	bool isnull;
	Datum value = take_column(row, &isnull);

	return isnull ? NULL : keep_text(row, value);
}

int64
pgl_catalog_row_int8(PglRow *row, int64 if_null)
{
	bool isnull;
	Datum value = take_column(row, &isnull);

	return isnull ? if_null : DatumGetInt64(value);
}

int
pgl_catalog_row_int4(PglRow *row, int if_null)
{
	bool isnull;
	Datum value = take_column(row, &isnull);

	return isnull ? if_null : DatumGetInt32(value);
}

bool
pgl_catalog_row_bool(PglRow *row)
{
	bool isnull;
	Datum value = take_column(row, &isnull);

	return !isnull && DatumGetBool(value);
}

/* An empty array is not NULL: a tenant with no model allowed differs from one with all allowed. */
const char *const *
pgl_catalog_row_texts(PglRow *row, int *count)
{
	bool isnull;
	Datum value = take_column(row, &isnull);
	Datum *elements;
	bool *nulls;
	const char **texts;

	*count = 0;
	if (isnull)
		return NULL;
	pgl_deconstruct_text_array(DatumGetArrayTypeP(value), &elements, &nulls, count);
	texts = MemoryContextAlloc(row->context, (*count + 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		texts[i] = nulls[i] ? "" : keep_text(row, elements[i]);
	texts[*count] = NULL;
	return texts;
}

int
pgl_catalog_row_choice(PglRow *row, const char *const *words)
{
	bool isnull;
	Datum value = take_column(row, &isnull);
	char *word;

	if (isnull)
		return -1;
	word = TextDatumGetCString(value);
	for (int i = 0; words[i] != NULL; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	elog(ERROR, "unexpected value \"%s\" in a configuration table of pgllm", word);
}

PglItems
pgl_catalog_read_items(PglLoader *loader, const char *query, size_t size, PglFillItem fill)
{
	MemoryContext context = loader->snapshot->context;
	Oid types[] = {TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(loader->now)};
	PglItems result;

	query = psprintf(query, loader->extension->schema_name);
	if (SPI_execute_with_args(query, 1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read a configuration table of pgllm");
	result.count = (int) SPI_processed;
	result.items = MemoryContextAllocHuge(context, (result.count + 1) * sizeof(void *));
	for (int i = 0; i < result.count; i++)
	{
		PglRow row = {context, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 0};

		result.items[i] = MemoryContextAllocZero(context, size);
		fill(loader, &row, result.items[i]);
	}
	SPI_freetuptable(SPI_tuptable);
	return result;
}

static int
compare_name(const void *name, const void *item)
{
	return strcmp(name, **(const char *const *const *) item);
}

void *
pgl_catalog_find_item(const PglItems *items, const char *name)
{
	void **found = bsearch(name, items->items, items->count, sizeof(void *), compare_name);

	return found == NULL ? NULL : *found;
}
