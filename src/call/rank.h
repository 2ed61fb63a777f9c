/*
 * rank.h — whose turn it is among the targets of a tier: the strategies of a route.
 */
#ifndef PGL_CALL_RANK_H
#define PGL_CALL_RANK_H

#include "admit.h"

/* Locked.  Put plan->order into the order in which candidates would be tried now. */
extern void pgl_rank_candidates(PglPlan *plan);
/*
 * Locked.  Book the turn of a first try under smooth weighted round robin: the members of the
 * winner's tier that could have been picked took part in it.
 */
extern void pgl_rank_book_turn(const PglPlan *plan, const PglObstacle *obstacles, int winner);

#endif
