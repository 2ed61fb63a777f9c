/*
 * concurrency.c — see concurrency.h.
 */
#include "postgres.h"

#include "../pg/guc.h"
#include "concurrency.h"

bool
pgl_concurrency_has_room(int in_flight)
{
	return in_flight == 0 || in_flight < pgl_guc_max_concurrency;
}
