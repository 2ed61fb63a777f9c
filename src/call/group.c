/*
 * group.c — the calls of one starter, and which of them have ended: see call.h.
 *
 * A group lies in query memory, its calls do not, and either may go first.  A call that is freed
 * takes itself off the lists of its group; a group whose memory goes lets its calls go.  So neither
 * ever points to what is gone.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "../pg/compat.h"
#include "state.h"

static void
let_go(dlist_head *list)
{
	dlist_iter iter;

	dlist_foreach (iter, list)
		dlist_container(PglCall, group_node, iter.cur)->group = NULL;
}

/* Does not throw: it runs while memory is being freed. */
static void
dissolve(void *arg)
{
	PglCallGroup *group = arg;

	let_go(&group->running);
	let_go(&group->done);
}

PglCallGroup *
pgl_call_group_make(void)
{
	PglCallGroup *group = palloc(sizeof(PglCallGroup));

	dlist_init(&group->running);
	dlist_init(&group->done);
	group->gone.func = dissolve;
	group->gone.arg = group;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &group->gone);
	return group;
}

void
pgl_group_join(PglCallGroup *group, PglCall *call)
{
	call->group = group;
	dlist_push_tail(&group->running, &call->group_node);
}

void
pgl_group_leave(PglCall *call)
{
	if (call->group)
		dlist_delete(&call->group_node);
	call->group = NULL;
}

void
pgl_group_tell(PglCall *call)
{
	PglCallGroup *group = call->group;

	if (group == NULL)
		return;
	dlist_delete(&call->group_node);
	dlist_push_tail(&group->done, &call->group_node);
}

PglCall *
pgl_call_next_done(PglCallGroup *group)
{
	PglCall *call;

	if (dlist_is_empty(&group->done))
		return NULL;
	call = dlist_container(PglCall, group_node, dlist_head_node(&group->done));
	pgl_group_leave(call);
	return call;
}
