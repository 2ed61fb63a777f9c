/*
 * stat.c — the tables of counters.
 */
#include "postgres.h"

#include <math.h>

#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "../pg/guc.h"
#include "stat.h"

#define FIRST_CLASS_US 100.0
#define GROWTH 1.2
#define EWMA_WEIGHT 0.2

typedef struct StatKey
{
	uint32_t database;
	uint32_t kind;
	uint64_t id;
} StatKey;

typedef struct StatEntry
{
	StatKey key;
	char name[PGL_NAME_SIZE];
	PglStatCounters counters;
} StatEntry;

static HTAB *stats = NULL;

uint64_t
pgl_stat_shmem_size(void)
{
	return hash_estimate_size(pgl_guc_max_limits, sizeof(StatEntry));
}

void
pgl_stat_shmem_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(StatKey), .entrysize = sizeof(StatEntry)};

	stats = ShmemInitHash("pgllm stats", pgl_guc_max_limits, pgl_guc_max_limits, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

PglStatCounters *
pgl_stat_find(uint32_t database, PglStatKind kind, uint64_t id, const char *name)
{
	static PglStatCounters overflow; /* process-local: what it gets is lost */
	StatKey key = {.database = database, .kind = kind, .id = id};
	bool found;
	StatEntry *entry = hash_search(stats, &key, HASH_ENTER_NULL, &found);

	if (entry == NULL)
		return &overflow;
	if (!found)
	{
		pgl_shmem_copy_name(entry->name, name);
		memset(&entry->counters, 0, sizeof(entry->counters));
	}
	return &entry->counters;
}

void
pgl_stat_add_latency(PglStatCounters *counters, int64_t us)
{
	int class = us <= FIRST_CLASS_US ? 0 : (int) (log(us / FIRST_CLASS_US) / log(GROWTH)) + 1;

	counters->histogram[Min(class, PGL_STAT_CLASSES - 1)]++;
	counters->latency_sum_us += us;
	counters->latency_ewma_us =
		counters->latency_count == 0
			? us
			: counters->latency_ewma_us + EWMA_WEIGHT * (us - counters->latency_ewma_us);
	counters->latency_count++;
}

double
pgl_stat_percentile(const PglStatCounters *counters, double share)
{
	double rank = share * counters->latency_count;
	int64_t seen = 0;
	int class;

	if (counters->latency_count == 0)
		return -1;
	for (class = 0; class < PGL_STAT_CLASSES - 1; class ++)
	{
		seen += counters->histogram[class];
		if (seen >= rank)
			break;
	}
	/* The middle of the class, on the scale on which classes are equally wide. */
	return FIRST_CLASS_US * pow(GROWTH, class - 0.5);
}

void
pgl_stat_reset(uint32_t database)
{
	HASH_SEQ_STATUS scan;
	StatEntry *entry;

	pgl_shmem_lock();
	hash_seq_init(&scan, stats);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->key.database == database)
			hash_search(stats, &entry->key, HASH_REMOVE, NULL);
	pgl_shmem_unlock();
}

int
pgl_stat_view(uint32_t database, PglStatKind kind, PglStatView **rows)
{
	PglStatView *out = palloc_extended(sizeof(PglStatView) * pgl_guc_max_limits, MCXT_ALLOC_HUGE);
	HASH_SEQ_STATUS scan;
	StatEntry *entry;
	int n = 0;

	pgl_shmem_lock();
	hash_seq_init(&scan, stats);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database != database || entry->key.kind != kind || n == pgl_guc_max_limits)
			continue;
		memcpy(out[n].name, entry->name, PGL_NAME_SIZE);
		out[n++].counters = entry->counters;
	}
	pgl_shmem_unlock();
	*rows = out;
	return n;
}
