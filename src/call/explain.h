/*
 * explain.h — what a call would do, without doing it.
 */
#ifndef PGL_CALL_EXPLAIN_H
#define PGL_CALL_EXPLAIN_H

#include "call.h"

typedef struct PglExplanation
{
	int tier;
	const char *target;
	const char *shard;
	const char *region; /* NULL if none */
	const char *model;
	const char *geography;
	bool eligible;      /* it could go at this moment */
	const char *reason; /* NULL when eligible */
	int64_t reserved_tokens;
	int64_t wait_us; /* 0: none, or not known */
	bool waits;      /* not eligible, but wait_us tells when it will be */
	int nlimits;
	const char **limits; /* names of the limits it must pass */
} PglExplanation;

/* Rows in the order in which candidates would be tried; palloc'ed.  Throws as starting a call does.
 */
extern int pgl_explain_call(const PglCallArgs *args, PglExplanation **rows);

typedef struct PglRendering
{
	const char *target;
	const char *url;  /* NULL, as body, for in-process providers, which send nothing */
	const char *body; /* JSON, UTF-8 */
} PglRendering;

/* What the first candidate would be sent; palloc'ed. */
extern void pgl_render_call(const PglCallArgs *args, PglRendering *out);

#endif
