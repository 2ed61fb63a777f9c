/*
 * memo.c — the table behind memo.h.
 *
 * An entry has a leader while its first call is in flight, and an outcome after that.  Everything
 * lives in one memory context that goes with the statement; the outcomes themselves are chunks of
 * their own, so that old ones can be freed.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "memo.h"

#define FAILURE_LASTS_US INT64_C(100000)
#define FIRST_SIZE 256

typedef struct MemoEntry
{
	unsigned char key[PGL_KEY_SIZE];
	const PglCall *leader; /* NULL: outcome is there */
	dlist_node node;       /* by age, once it has an outcome */
	MemoryContext context; /* of the outcome */
	PglOutcome outcome;
	Size size;
	int64_t kept_us;
} MemoEntry;

static MemoryContext context = NULL;
static HTAB *entries = NULL;
static dlist_head by_age = DLIST_STATIC_INIT(by_age);
static Size total = 0; /* of the outcomes */

static HTAB *
table(void)
{
	HASHCTL ctl = {.keysize = PGL_KEY_SIZE, .entrysize = sizeof(MemoEntry)};

	if (entries)
		return entries;
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pgllm memo", ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = context;
	entries = hash_create("pgllm memo", FIRST_SIZE, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return entries;
}

void
pgl_memo_forget(void)
{
	if (entries == NULL)
		return;
	entries = NULL;
	dlist_init(&by_age);
	total = 0;
	MemoryContextReset(context);
}

static void
drop(MemoEntry *entry)
{
	if (entry->context)
	{
		dlist_delete(&entry->node);
		total -= entry->size;
		MemoryContextDelete(entry->context);
	}
	hash_search(entries, entry->key, HASH_REMOVE, NULL);
}

static const char *
copy_text(const char *value)
{
	return value ? pstrdup(value) : NULL;
}

/* Into the current context: the texts of an outcome point into its call. */
static void
copy_outcome(PglOutcome *to, const PglOutcome *from)
{
	*to = *from;
	to->message = copy_text(from->message);
	to->detail = copy_text(from->detail);
	to->hint = copy_text(from->hint);
	if (from->response)
	{
		to->response = MemoryContextAllocHuge(CurrentMemoryContext, from->response_len + 1);
		memcpy(to->response, from->response, from->response_len + 1);
	}
	to->finish_reason = copy_text(from->finish_reason);
	to->route = copy_text(from->route);
	to->target = copy_text(from->target);
	to->shard = copy_text(from->shard);
	to->region = copy_text(from->region);
	to->model = copy_text(from->model);
	to->request_id = copy_text(from->request_id);
}

static bool
is_failure(const PglOutcome *outcome)
{
	return outcome->response == NULL;
}

PglMemoFound
pgl_memo_look(const unsigned char key[PGL_KEY_SIZE], PglCall *call, PglOutcome *outcome)
{
	MemoEntry *entry;
	bool found;

	if (pgl_guc_memo_size == 0)
		return PGL_MEMO_OFF;
	entry = hash_search(table(), key, HASH_ENTER, &found);
	if (found && entry->leader != NULL)
		return entry->leader == call ? PGL_MEMO_MISS : PGL_MEMO_LEADING;
	if (found && is_failure(&entry->outcome) && pgl_clock_us() - entry->kept_us > FAILURE_LASTS_US)
	{
		drop(entry);
		entry = hash_search(entries, key, HASH_ENTER, &found);
	}
	if (found)
	{
		copy_outcome(outcome, &entry->outcome);
		return PGL_MEMO_HIT;
	}
	entry->leader = call;
	entry->context = NULL;
	return PGL_MEMO_MISS;
}

bool
pgl_memo_is_led(const unsigned char key[PGL_KEY_SIZE])
{
	MemoEntry *entry = entries ? hash_search(entries, key, HASH_FIND, NULL) : NULL;

	return entry != NULL && entry->leader != NULL;
}

/* The oldest go first; what has just come in may go at once, if it alone is too large. */
static void
make_room(void)
{
	Size max = (Size) pgl_guc_memo_size * 1024;

	while (!dlist_is_empty(&by_age) && total > max)
		drop(dlist_container(MemoEntry, node, dlist_head_node(&by_age)));
}

static MemoEntry *
entry_led_by(const unsigned char key[PGL_KEY_SIZE], const PglCall *call)
{
	MemoEntry *entry = entries ? hash_search(entries, key, HASH_FIND, NULL) : NULL;

	return entry && entry->leader == call ? entry : NULL;
}

void
pgl_memo_keep(const unsigned char key[PGL_KEY_SIZE], const PglCall *call, const PglOutcome *outcome)
{
	MemoEntry *entry = entry_led_by(key, call);
	MemoryContext caller;
	MemoryContext own;

	if (entry == NULL)
		return;
	own = AllocSetContextCreate(context, "pgllm memo entry", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(own);
	copy_outcome(&entry->outcome, outcome);
	MemoryContextSwitchTo(caller);
	entry->context = own;
	entry->leader = NULL;
	entry->size = sizeof(MemoEntry) + MemoryContextMemAllocated(own, true);
	entry->kept_us = pgl_clock_us();
	total += entry->size;
	dlist_push_tail(&by_age, &entry->node);
	make_room();
}

void
pgl_memo_abandon(const unsigned char key[PGL_KEY_SIZE], const PglCall *call)
{
	MemoEntry *entry = entry_led_by(key, call);

	if (entry)
		drop(entry);
}
