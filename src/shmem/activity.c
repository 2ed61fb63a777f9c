/*
 * activity.c — the array of what each process is doing.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "../pg/compat.h"
#include "activity.h"

static PglActivity *slots = NULL;

uint64_t
pgl_activity_shmem_size(void)
{
	return mul_size(pgl_shmem_max_procs(), sizeof(PglActivity));
}

void
pgl_activity_shmem_init(void)
{
	Size size = pgl_activity_shmem_size();
	bool found;

	slots = ShmemInitStruct("pgllm activity", size, &found);
	if (!found)
		memset(slots, 0, size);
}

PglActivity *
pgl_activity_mine(void)
{
	PglActivity *slot = &slots[pgl_my_proc_number()];

	if (slot->pid != MyProcPid)
	{
		memset(slot, 0, sizeof(*slot));
		slot->pid = MyProcPid;
		slot->database = MyDatabaseId;
	}
	return slot;
}

void
pgl_activity_clear_mine(void)
{
	memset(&slots[pgl_my_proc_number()], 0, sizeof(PglActivity));
}

int
pgl_activity_view(PglActivity **rows)
{
	int max = pgl_shmem_max_procs();
	PglActivity *out = palloc(sizeof(PglActivity) * max);
	int n = 0;
	int i;

	pgl_shmem_lock();
	for (i = 0; i < max; i++)
		if (slots[i].pid != 0)
			out[n++] = slots[i];
	pgl_shmem_unlock();
	*rows = out;
	return n;
}

const char *
pgl_activity_state_name(PglActivityState state)
{
	static const char *const names[] = {"idle", "running", "queued", "calling", "backoff"};

	return names[state];
}
