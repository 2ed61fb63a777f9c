/*
 * owner.h — the identity of the extension, and SQL with the rights of its owner.
 *
 * For what pgllm reads and writes in its own tables on behalf of users who have no privilege on
 * them.  Only SQL written in this source, with schema-qualified names, may run so; names and values
 * of users come in as parameters.
 */
#ifndef PGL_CATALOG_OWNER_H
#define PGL_CATALOG_OWNER_H

typedef struct PglExtension
{
	Oid oid;
	Oid owner;
	Oid schema;
	const char *schema_name; /* quoted for use in SQL */
} PglExtension;

/* Is the extension created here, or perhaps just being created or dropped? */
extern bool pgl_catalog_may_have_extension(void);
/*
 * Call body with SPI connected, as the owner of the extension, with search_path pinned.  Everything
 * is put back afterwards, also when body throws.  Throws when the extension is not created.
 */
typedef void (*PglOwnerBody)(const PglExtension *extension, void *arg);
extern void pgl_catalog_run_as_owner(PglOwnerBody body, void *arg);
/* How often an error has ended one of them: only an abort tidies up after it. */
extern uint64_t pgl_catalog_broken_off(void);

#endif
