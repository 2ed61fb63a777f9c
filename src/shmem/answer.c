/*
 * answer.c — the area of answers: see answer.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/memutils.h"

#include "answer.h"

#define AREA_SIZE (32 * 1024 * 1024)

static void *place = NULL;
static dsa_area *area = NULL; /* attached at first use */

uint64_t
pgl_answer_shmem_size(void)
{
	return AREA_SIZE;
}

void
pgl_answer_shmem_init(void)
{
	bool found;
	dsa_area *created;

	place = ShmemInitStruct("pgllm answers", AREA_SIZE, &found);
	if (found)
		return;
	created =
		dsa_create_in_place(place, AREA_SIZE, pgl_shmem_lwlock(PGL_LWLOCK_FLUSH)->tranche, NULL);
	dsa_pin(created);
	dsa_set_size_limit(created, AREA_SIZE);
	dsa_detach(created);
}

static dsa_area *
attach(void)
{
	MemoryContext caller;

	if (area != NULL)
		return area;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	area = dsa_attach_in_place(place, NULL);
	MemoryContextSwitchTo(caller);
	dsa_pin_mapping(area);
	if (IsUnderPostmaster)
		on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(place));
	return area;
}

uint64_t
pgl_answer_keep(const char *from, uint32_t length)
{
	dsa_pointer answer;

	if (length >= AREA_SIZE)
		return InvalidDsaPointer;
	answer = dsa_allocate_extended(attach(), (size_t) length + 1, DSA_ALLOC_NO_OOM);
	if (DsaPointerIsValid(answer))
		memcpy(dsa_get_address(area, answer), from, length);
	return answer;
}

char *
pgl_answer_copy(uint64_t answer, uint32_t length)
{
	char *copy;

	if (!DsaPointerIsValid(answer))
		return NULL;
	copy = palloc_extended((Size) length + 1, MCXT_ALLOC_HUGE);
	memcpy(copy, dsa_get_address(attach(), answer), length);
	copy[length] = '\0';
	return copy;
}

void
pgl_answer_free(uint64_t answer)
{
	if (DsaPointerIsValid(answer))
		dsa_free(attach(), answer);
}
