/*
 * activity.h — what each backend is doing now, one slot per process.
 *
 * Written by its owner under the lock, at moments when it holds the lock anyhow.
 */
#ifndef PGL_SHMEM_ACTIVITY_H
#define PGL_SHMEM_ACTIVITY_H

#include "state.h"

typedef enum PglActivityState
{
	PGL_ACTIVITY_IDLE,
	PGL_ACTIVITY_QUEUED,  /* waiting for a quota */
	PGL_ACTIVITY_CALLING, /* at least one attempt is out */
	PGL_ACTIVITY_BACKOFF  /* waiting before another attempt */
} PglActivityState;

typedef struct PglActivity
{
	int pid; /* 0: the slot was never used by this process */
	uint32_t database;
	uint32_t role;
	PglActivityState state;
	char tenant[PGL_NAME_SIZE];
	char target[PGL_NAME_SIZE];
	int64_t since; /* TimestampTz */
	int64_t started;
	int64_t done;
	int64_t failed;
	int in_flight;
} PglActivity;

extern uint64_t pgl_activity_shmem_size(void);
extern void pgl_activity_shmem_init(void);
extern PglActivity *pgl_activity_mine(void);      /* locked */
extern void pgl_activity_clear_mine(void);        /* locked; at exit */
extern int pgl_activity_view(PglActivity **rows); /* unlocked, palloc'ed */
extern const char *pgl_activity_state_name(PglActivityState state);

#endif
