/*
 * call.c — birth and death of a call.
 *
 * A call and all that it points to live in a memory context of their own below TopMemoryContext,
 * never in query memory: on ERROR query memory is freed before resource owners run, and a transfer
 * still points into the call then.  The resource owner callback below is the net under every exit
 * that is not pgl_call_free: error, cancel, statement_timeout, subtransaction abort.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../core/clock.h"
#include "../pg/compat.h"
#include "../pg/guc.h"
#include "concurrency.h"
#include "journal.h"
#include "state.h"

#define REQUEST_OVERHEAD 4096
#define CALL_BLOCK_SIZE (16 * 1024) /* holds all of an ordinary call */
#define MAX_SPARE 16                /* so many are over between two turns that start others */

/*
 * What a finished call leaves to a later one: its memory context with the first block, and its
 * buffers, all of them empty.  The last one left is the first one taken, as it is still in the
 * processor's caches.
 */
typedef struct Remains
{
	MemoryContext context;
	PglOutgoing outgoing;
	PglBuf text;
} Remains;

static Remains spare[MAX_SPARE];
static int nspare = 0;

static void
release_calls(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	dlist_mutable_iter iter;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS)
		return;
	dlist_foreach_modify (iter, pgl_engine_calls())
	{
		PglCall *call = dlist_container(PglCall, node, iter.cur);

		if (call->owner != CurrentResourceOwner)
			continue;
		if (isCommit)
			elog(WARNING, "pgllm call leaked: it was not freed by its starter");
		pgl_call_free(call);
	}
}

void
pgl_call_init(void)
{
	RegisterResourceReleaseCallback(release_calls, NULL);
}

/* UUID version 7: sortable by time, so that a ledger keyed by it stays clustered. */
static void
make_call_id(unsigned char id[16])
{
	int64_t ms = (GetCurrentTimestamp() +
				  (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * USECS_PER_SEC) /
				 1000;
	uint64_t random[2] = {pgl_random_u64(), pgl_random_u64()};
	int i;

	memcpy(id, random, 16);
	for (i = 0; i < 6; i++)
		id[i] = (unsigned char) (ms >> (40 - 8 * i));
	id[6] = 0x70 | (id[6] & 0x0f);
	id[8] = 0x80 | (id[8] & 0x3f);
}

static char *
uuid_text(const unsigned char id[16])
{
	static const char digits[] = "0123456789abcdef";
	char *id_text = palloc(37);
	char *to = id_text;
	int i;

	for (i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digits[id[i] >> 4];
		*to++ = digits[id[i] & 15];
	}
	*to = '\0';
	return id_text;
}

/* The text in UTF-8, in the current context; throws if it cannot be converted. */
static char *
to_utf8(const char *source, size_t len)
{
	char *converted = pg_server_to_any(source, len, PG_UTF8);

	return converted == source ? pnstrdup(source, len) : converted;
}

void
pgl_call_make_request(const PglCallArgs *args, PglChatRequest *request)
{
	const char **stop = palloc(sizeof(char *) * Max(args->nstop, 1));
	int i;

	memset(request, 0, sizeof(*request));
	if (args->prompt)
	{
		request->prompt = to_utf8(args->prompt, args->prompt_len);
		request->prompt_len = strlen(request->prompt);
	}
	if (args->system)
		request->system = to_utf8(args->system, strlen(args->system));
	for (i = 0; i < args->nstop; i++)
		stop[i] = to_utf8(args->stop[i], strlen(args->stop[i]));
	request->stop = stop;
	request->nstop = args->nstop;
	request->has_temperature = args->has_temperature;
	request->temperature = args->temperature;
	request->has_top_p = args->has_top_p;
	request->top_p = args->top_p;
}

static Remains
take_remains(void)
{
	Remains fresh = {0};

	if (nspare > 0)
		return spare[--nspare];
	fresh.context = AllocSetContextCreate(TopMemoryContext, "pgllm call", CALL_BLOCK_SIZE,
										  CALL_BLOCK_SIZE, ALLOCSET_DEFAULT_MAXSIZE);
	pgl_outgoing_init(&fresh.outgoing);
	return fresh;
}

/* Does not throw.  The call is part of it. */
static void
leave_remains(PglCall *call)
{
	Remains *remains = &spare[nspare];

	if (nspare == MAX_SPARE)
	{
		pgl_outgoing_free(&call->outgoing);
		pgl_reply_free(&call->reply);
		MemoryContextDelete(call->context);
		return;
	}
	nspare++;
	pgl_outgoing_recycle(&call->outgoing);
	pgl_buf_recycle(&call->reply.text, call->reply.text.max);
	remains->outgoing = call->outgoing;
	remains->text = call->reply.text;
	remains->context = call->context;
	MemoryContextReset(remains->context);
}

/* A call that is registered with its resource owner from its first moment, but has no plan yet. */
static PglCall *
make_call(void)
{
	Remains remains = take_remains();
	PglCall *call = MemoryContextAllocZero(remains.context, sizeof(PglCall));

	call->context = remains.context;
	call->owner = CurrentResourceOwner;
	call->candidate = -1;
	call->admit.call_lease = PGL_NO_LEASE;
	call->admit.attempt_lease = PGL_NO_LEASE;
	call->admit.ticket = PGL_NO_TICKET;
	call->admit.first_choice = -1;
	call->phase = PGL_CALL_ADMITTING;
	call->slot = call->intent_slot = PGL_NO_SLOT;
	call->outgoing = remains.outgoing;
	pgl_reply_init(&call->reply, 0);
	call->reply.text = remains.text;
	pgl_buf_recycle(&call->reply.text, (size_t) pgl_guc_response_max_size * 1024);
	pgl_engine_add(call);
	return call;
}

static void
set_deadlines(PglCall *call, int timeout_ms)
{
	int ms = timeout_ms > 0 ? Min(timeout_ms, pgl_guc_timeout) : pgl_guc_timeout;

	call->started_us = pgl_clock_us();
	call->deadline_us = call->started_us + (int64_t) ms * 1000;
	call->wait_deadline_us =
		Min(call->deadline_us, call->started_us + (int64_t) call->plan->max_wait_ms * 1000);
}

static void
begin(PglCall *call)
{
	make_call_id(call->outcome.call_id);
	call->request.call_id = uuid_text(call->outcome.call_id);
	call->obstacles = palloc0(sizeof(PglObstacle) * call->plan->ncandidates);
	call->outcome.route = call->plan->route->name;
	call->outcome.cost_nano_usd = -1;
	call->outcome.connect_us = call->outcome.first_byte_us = -1;
	pgl_record_identify(call);
}

/* As far as it gets without waiting. */
static void
set_off(PglCall *call)
{
	pgl_engine_make_ready(call);
	pgl_engine_advance(call);
}

/* What the caller asks for, and whether he may; throws on his mistakes. */
static void
take_order(PglCall *call, const PglCallArgs *args)
{
	size_t input_bytes;

	pgl_call_make_request(args, &call->request);
	call->allow_truncated = args->allow_truncated;
	call->alone = args->alone;
	input_bytes =
		call->request.prompt_len + (call->request.system ? strlen(call->request.system) : 0);
	if (input_bytes > PGL_MAX_REQUEST_BYTES / 2 - REQUEST_OVERHEAD)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("prompt is too large"),
						errdetail("It has %zu bytes; at most %d are sent.", input_bytes,
								  PGL_MAX_REQUEST_BYTES / 2 - REQUEST_OVERHEAD)));
	call->plan = pgl_plan_build(args, input_bytes, &call->snapshot);
	call->uses_journal = pgl_journal_is_wanted(call->plan->tenant, args);
	pgl_concurrency_note(call->plan);
}

PglCall *
pgl_call_start(const PglCallArgs *args, PglCallGroup *group)
{
	PglCall *call = make_call();
	MemoryContext caller = MemoryContextSwitchTo(call->context);

	PG_TRY();
	{
		take_order(call, args);
	}
	PG_CATCH();
	{
		/* The error may be kept for later, and the statement go on. */
		MemoryContextSwitchTo(caller);
		pgl_call_free(call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	set_deadlines(call, args->timeout_ms);
	begin(call);
	if (group)
		pgl_group_join(group, call);
	pgl_share_begin(call, args);
	set_off(call);
	MemoryContextSwitchTo(caller);
	return call;
}

PglCall *
pgl_call_start_probe(const char *target)
{
	PglCallArgs args = {.prompt = "ping", .prompt_len = 4, .max_wait_ms = -1};
	PglCall *call = make_call();
	MemoryContext caller = MemoryContextSwitchTo(call->context);

	pgl_call_make_request(&args, &call->request);
	call->allow_truncated = true;
	call->plan = pgl_plan_build_probe(target, &call->snapshot);
	set_deadlines(call, 0);
	begin(call);
	call->is_live = true;
	call->outcome.source = "live";
	pgl_meter_started(call);
	set_off(call);
	MemoryContextSwitchTo(caller);
	return call;
}

void
pgl_call_set_tag(PglCall *call, int64_t tag)
{
	call->tag = tag;
}

int64_t
pgl_call_tag(const PglCall *call)
{
	return call->tag;
}

bool
pgl_call_is_done(const PglCall *call)
{
	return call->phase == PGL_CALL_DONE;
}

bool
pgl_call_is_following(const PglCall *call)
{
	return call->phase == PGL_CALL_FOLLOWING && call->follows != PGL_FOLLOW_ROOM;
}

bool
pgl_call_share(PglCall *call, int others)
{
	int i;

	if (!call->has_key || pgl_guc_memo_size == 0)
		return false;
	for (i = 0; i < others; i++)
		pgl_meter_hit(call, false);
	return true;
}

/* What else a call holds does not depend on what is asked and answered. */
size_t
pgl_call_payload(const PglCall *call)
{
	return call->request.prompt_len + call->outgoing.body.len + call->reply.text.len;
}

void
pgl_call_wait(PglCall *call)
{
	while (call->phase != PGL_CALL_DONE)
	{
		if (call->phase == PGL_CALL_QUEUED && call->queued_by_lock)
		{
			pgl_queue_block(call);
			pgl_engine_attend();
		}
		else
			pgl_call_drive();
	}
}

const PglOutcome *
pgl_call_outcome(const PglCall *call)
{
	Assert(call->phase == PGL_CALL_DONE);
	return &call->outcome;
}

/* Does not throw: it also runs while a transaction aborts. */
void
pgl_call_free(PglCall *call)
{
	bool unfinished = call->phase != PGL_CALL_DONE;

	pgl_attempt_cancel(call);
	pgl_queue_leave(call);
	pgl_share_leave(call);
	pgl_engine_remove(call);
	if (unfinished && call->is_live)
		pgl_meter_done(call);
	if (call->snapshot)
		pgl_catalog_unpin(call->snapshot);
	leave_remains(call);
}
