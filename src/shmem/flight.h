/*
 * flight.h — journaled calls that are out now, so that no two backends pay for the same one.
 *
 * The first to claim a key owns it until its answer is durable in the journal, or it gives up.
 * Others look again when they are woken, or after a moment: then they find the answer, or may claim
 * the key themselves.  If the owner leaves between queueing its answer and its being durable, the
 * key stays taken until it is.
 */
#ifndef PGL_SHMEM_FLIGHT_H
#define PGL_SHMEM_FLIGHT_H

#include "state.h"

#define PGL_FLIGHT_KEY_SIZE 32

extern uint64_t pgl_flight_shmem_size(void);
extern void pgl_flight_shmem_init(void);

/* Unlocked.  True: the key is mine, or the table is full and nobody guards it. */
extern bool pgl_flight_claim(const unsigned char key[PGL_FLIGHT_KEY_SIZE]);
/* Unlocked.  Is it somebody else's? */
extern bool pgl_flight_is_taken(const unsigned char key[PGL_FLIGHT_KEY_SIZE]);
/*
 * Unlocked.  Leave it; nothing happens if it is not mine.  `number`: the record with the answer,
 * which may not be durable yet; 0: there is none.
 */
extern void pgl_flight_leave(const unsigned char key[PGL_FLIGHT_KEY_SIZE], uint64_t number);
extern void pgl_flight_leave_mine(void); /* locked, at backend exit */

#endif
