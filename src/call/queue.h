/*
 * queue.h — the advisory locks of the extension.
 */
#ifndef PGL_CALL_QUEUE_H
#define PGL_CALL_QUEUE_H

#include "../shmem/limit.h"

/* field4 of our advisory lock tags: SQL uses 1 and 2, so pg_locks.objsubid tells ours apart. */
#define PGL_LOCK_CLASS 19533

/* Key of the lock of a limit: its halves are classid and objid in pg_locks. */
extern uint64_t pgl_queue_lock_id(const PglLimitKey *key);

#endif
