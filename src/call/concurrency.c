/*
 * concurrency.c — see concurrency.h.
 */
#include "postgres.h"

#include "../core/clock.h"
#include "../pg/guc.h"
#include "../shmem/activity.h"
#include "concurrency.h"
#include "state.h"

#define MAX_DOMAINS 16
#define UNLIMITED PG_INT32_MAX

/* A quota domain, and how many calls the targets in it may have in flight by configuration. */
typedef struct Domain
{
	PglLimitKey key;
	int places;
} Domain;

/* What the plan noted last allows; without one, anything. */
static int call_places = UNLIMITED;
static int candidate_places = UNLIMITED; /* of all domains together, without their windows */
static Domain domains[MAX_DOMAINS];
static int ndomains = 0;
static uint64_t kind = 0;     /* what it was for */
static bool is_mixed = false; /* ... and others before it for something else */

static int
add_places(int a, int b)
{
	return a > UNLIMITED - b ? UNLIMITED : a + b;
}

/* The strictest in-flight limit of the list. */
static int
places_of(const PglLimitSpec *limits, int nlimits)
{
	int places = UNLIMITED;
	int i;

	for (i = 0; i < nlimits; i++)
		if (limits[i].max_inflight > 0 && !limits[i].shadow)
			places = Min(places, limits[i].max_inflight);
	return places;
}

/* Is it a target that an earlier tier of the plan has counted? */
static bool
is_counted(const PglPlan *plan, int c)
{
	int earlier;

	for (earlier = 0; earlier < c; earlier++)
		if (plan->candidates[earlier].target == plan->candidates[c].target &&
			plan->candidates[earlier].dropped == NULL)
			return true;
	return false;
}

static void
note_candidate(const PglCandidate *candidate)
{
	const PglLimitKey *key = &candidate->limits[PGL_DOMAIN_SPEC].key;
	int places = places_of(candidate->limits, candidate->nlimits);
	int d;

	candidate_places = add_places(candidate_places, places);
	for (d = 0; d < ndomains && d < MAX_DOMAINS; d++)
		if (domains[d].key.id == key->id)
			break;
	if (d < ndomains && d < MAX_DOMAINS)
		domains[d].places = add_places(domains[d].places, places);
	else if (ndomains++ < MAX_DOMAINS)
		domains[d] = (Domain){.key = *key, .places = places};
}

/* Calls of one kind draw on the same quotas and domains. */
static uint64_t
kind_of(const PglPlan *plan)
{
	uint64_t hash = plan->tenant->id ^ (plan->route->id * UINT64_C(0x9e3779b97f4a7c15));
	int c;

	for (c = 0; c < plan->ncandidates; c++)
		hash = hash * 31 + (plan->candidates[c].dropped == NULL);
	return hash;
}

void
pgl_concurrency_note(const PglPlan *plan)
{
	uint64_t last = kind;
	int c;

	kind = kind_of(plan);
	/* The first of several: what was before is forgotten. */
	is_mixed = pgl_engine_unfinished() > 1 && (is_mixed || kind != last);
	call_places = places_of(plan->limits, plan->nlimits);
	candidate_places = ndomains = 0;
	for (c = 0; c < plan->ncandidates; c++)
		if (plan->candidates[c].dropped == NULL && !is_counted(plan, c))
			note_candidate(&plan->candidates[c]);
}

/* With their windows.  More domains than are kept are not worth the arithmetic. */
static int
places_of_domains(void)
{
	int64_t now_us = pgl_clock_us();
	int places = 0;
	int d;

	if (ndomains > MAX_DOMAINS)
		return candidate_places;
	pgl_shmem_lock();
	for (d = 0; d < ndomains; d++)
	{
		int window = pgl_limit_window(&domains[d].key, now_us);

		places =
			add_places(places, window > 0 ? Min(window, domains[d].places) : domains[d].places);
	}
	pgl_shmem_unlock();
	return places;
}

/* How many calls like the last one may be in flight. */
static int
places_of_kind(void)
{
	int places = Min(call_places, candidate_places);

	return pgl_limit_any_window() ? Min(places, places_of_domains()) : places;
}

bool
pgl_concurrency_has_room(int in_flight)
{
	int places;

	if (in_flight == 0)
		return true;
	/* Several that ask, of one statement or of one inside another, share what it may have out. */
	if (pgl_activity_mine()->in_flight >= pgl_guc_max_concurrency)
		return false;
	if (in_flight >= pgl_guc_max_concurrency || is_mixed)
		return in_flight < pgl_guc_max_concurrency;
	places = places_of_kind();
	return in_flight < places || (in_flight == places && pgl_activity_mine()->in_flight == 0);
}
