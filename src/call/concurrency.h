/*
 * concurrency.h — how many calls a statement keeps in flight.
 *
 * Whoever runs many calls of one statement asks before each start.  Backend-local; does not throw.
 */
#ifndef PGL_CALL_CONCURRENCY_H
#define PGL_CALL_CONCURRENCY_H

#include <stdbool.h>

/* May one more call be started by somebody who has so many unfinished ones?  One always may. */
extern bool pgl_concurrency_has_room(int in_flight);

#endif
