/*
 * spill.c — files of ledger records that could not go to the tables.
 *
 * A file is a header and entries.  The header tells the layout of the record, so a file that
 * another version of pgllm has left is recognised; it is moved aside, for a human, and never read
 * as something else nor dropped.  An entry is a length and a CRC, then the record and its answer.
 *
 * Appending ends with fsync.  When it fails, the file is cut back to what it was.  So that a cut
 * that fails too cannot leave rubbish in the middle of the file, the length up to which each file
 * is good is remembered in shared memory, and an append starts by restoring it.  At the start of
 * the server torn tails are cut off.
 *
 * All of this may run in the postmaster, and while a backend exits: plain descriptors, a buffer on
 * the stack, and messages of level LOG.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "../pg/compat.h"
#include "spill.h"

#define DIRECTORY "pgllm"
#define MAGIC 0x50474c53 /* "PGLS" */
#define VERSION 1        /* of what is around the records; their own layout is told by their size */
#define BUFFER_SIZE 8192
#define LOG_INTERVAL_US INT64_C(60000000)

typedef struct Header
{
	uint32_t magic;
	uint32_t version;
	uint32_t record_size;
	uint32_t unused;
} Header;

typedef struct Entry
{
	uint32_t length; /* of what follows: the record and its answer */
	uint32_t crc;
} Entry;

/* Length up to which the .spill of a database is good. */
typedef struct GoodLength
{
	Oid database;
	int64_t length;
} GoodLength;

typedef struct Spill
{
	int count;
	GoodLength files[PGL_LEDGER_MAX_DATABASES];
} Spill;

/* What is written, in pieces of BUFFER_SIZE. */
typedef struct Output
{
	int fd;
	int used;
	bool failed;
	char buffer[BUFFER_SIZE];
} Output;

/* The file that this writer loads. */
typedef struct Loading
{
	Oid database; /* InvalidOid: none */
	off_t position;
	off_t size;
	int64_t records;
} Loading;

static Spill *spill = NULL;
static Loading loading = {InvalidOid, 0, 0, 0};

/* ---- names, messages ---- */

static void
name_file(char path[MAXPGPATH], Oid database, const char *suffix)
{
	snprintf(path, MAXPGPATH, "%s/%u.%s", DIRECTORY, database, suffix);
}

/* Failures repeat every second while a disk is full: one message a minute. */
static void
log_failure(const char *action, const char *path)
{
	static TimestampTz last = 0;
	int code = errno;
	TimestampTz now = GetCurrentTimestamp();

	if (now - last < LOG_INTERVAL_US && now >= last)
		return;
	last = now;
	errno = code;
	ereport(LOG, (errcode_for_file_access(),
				  errmsg("could not %s ledger spill file \"%s\": %m", action, path)));
	errno = code;
}

/* ---- the table of good lengths; under the spill lock ---- */

static GoodLength *
good_length_of(Oid database)
{
	int i;

	for (i = 0; i < spill->count; i++)
		if (spill->files[i].database == database)
			return &spill->files[i];
	return NULL;
}

static void
set_good_length(Oid database, int64_t length)
{
	GoodLength *file = good_length_of(database);

	if (file == NULL && spill->count < lengthof(spill->files))
		file = &spill->files[spill->count++];
	if (file == NULL)
		return;
	file->database = database;
	file->length = length;
}

static void
forget_good_length(Oid database)
{
	GoodLength *file = good_length_of(database);

	if (file != NULL)
		*file = spill->files[--spill->count];
}

/* ---- reading ---- */

/* Read exactly so many bytes; false at the end of the file or on an error. */
static bool
read_fully(int fd, void *to, size_t length)
{
	char *at = to;

	while (length > 0)
	{
		ssize_t n = read(fd, at, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		length -= n;
	}
	return true;
}

static bool
is_our_header(const Header *header)
{
	return header->magic == MAGIC && header->version == VERSION &&
		   header->record_size == sizeof(PglRecord);
}

/* Over an entry whose CRC is right; false: this is where the good part ends. */
static bool
skip_entry(int fd)
{
	char buffer[BUFFER_SIZE];
	Entry entry;
	pg_crc32c crc;
	uint32_t left;

	if (!read_fully(fd, &entry, sizeof(entry)) || entry.length < sizeof(PglRecord))
		return false;
	INIT_CRC32C(crc);
	for (left = entry.length; left > 0;)
	{
		uint32_t n = Min(left, sizeof(buffer));

		if (!read_fully(fd, buffer, n))
			return false;
		COMP_CRC32C(crc, buffer, n);
		left -= n;
	}
	FIN_CRC32C(crc);
	return EQ_CRC32C(crc, entry.crc);
}

/* Count the good records of an open file and tell where they end; -1: the header is not ours. */
static int64_t
scan_file(int fd, off_t *end)
{
	Header header;
	int64_t records = 0;

	*end = 0;
	if (lseek(fd, 0, SEEK_SET) != 0 || !read_fully(fd, &header, sizeof(header)))
		return 0;
	if (!is_our_header(&header))
		return -1;
	*end = sizeof(header);
	while (skip_entry(fd))
	{
		*end = lseek(fd, 0, SEEK_CUR);
		records++;
	}
	return records;
}

/* A file that cannot be read: out of the way, under a name that is not used yet. */
static bool
move_aside(const char *path, const char *why)
{
	char aside[MAXPGPATH];

	snprintf(aside, sizeof(aside), "%s." INT64_FORMAT ".unreadable", path,
			 (int64) GetCurrentTimestamp());
	if (durable_rename(path, aside, LOG) != 0)
		return false;
	ereport(LOG, (errmsg("ledger spill file \"%s\" %s", path, why),
				  errdetail("It was renamed to \"%s\".", aside),
				  errhint("Load it with the version that wrote it, or delete it.")));
	return true;
}

/* ---- appending ---- */

static void
flush_output(Output *output)
{
	int done = 0;

	while (!output->failed && done < output->used)
	{
		ssize_t n = write(output->fd, output->buffer + done, output->used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC;
		if (n <= 0)
			output->failed = true;
		else
			done += n;
	}
	output->used = 0;
}

static void
put_bytes(Output *output, const void *from, size_t length)
{
	const char *at = from;

	while (length > 0 && !output->failed)
	{
		size_t n = Min(length, (size_t) (BUFFER_SIZE - output->used));

		memcpy(output->buffer + output->used, at, n);
		output->used += n;
		at += n;
		length -= n;
		if (output->used == BUFFER_SIZE)
			flush_output(output);
	}
}

/* The pointer to the answer would mean nothing in a file; its bytes follow the record. */
static void
put_record(Output *output, const PglRecord *record, const char *answer)
{
	PglRecord copy = *record;
	Entry entry;
	pg_crc32c crc;

	copy.answer = 0;
	copy.has_answer = answer != NULL;
	if (answer == NULL)
		copy.answer_length = 0;
	entry.length = sizeof(copy) + copy.answer_length;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &copy, sizeof(copy));
	if (answer != NULL)
		COMP_CRC32C(crc, answer, copy.answer_length);
	FIN_CRC32C(crc);
	entry.crc = crc;
	put_bytes(output, &entry, sizeof(entry));
	put_bytes(output, &copy, sizeof(copy));
	if (answer != NULL)
		put_bytes(output, answer, copy.answer_length);
}

static bool
make_directory(void)
{
	if (MakePGDirectory(DIRECTORY) == 0)
		return fsync_fname_ext(".", true, false, LOG) == 0;
	return errno == EEXIST;
}

/* Bring the file to the length up to which it is good, and go there; -1 on failure. */
static off_t
seek_good_end(int fd, Oid database)
{
	const GoodLength *known = good_length_of(database);
	off_t end;

	if (known != NULL)
		end = known->length;
	else
		scan_file(fd, &end);
	if (ftruncate(fd, end) != 0 || lseek(fd, end, SEEK_SET) != end)
		return -1;
	set_good_length(database, end);
	return end;
}

static bool
has_foreign_header(int fd)
{
	Header header;

	return lseek(fd, 0, SEEK_SET) == 0 && read_fully(fd, &header, sizeof(header)) &&
		   !is_our_header(&header);
}

/* Open the file for appending, without a header of another version; -1 on failure. */
static int
open_for_append(const char *path, Oid database)
{
	int fd = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);

	if (fd < 0 || !has_foreign_header(fd))
		return fd;
	close(fd);
	if (!move_aside(path, "was written by another version of pgllm"))
		return -1;
	forget_good_length(database);
	return BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
}

static bool
write_records(int fd, off_t end, const PglDrain *drain)
{
	Output output;
	int i;

	output.fd = fd;
	output.used = 0;
	output.failed = false;
	if (end == 0)
	{
		Header header = {MAGIC, VERSION, sizeof(PglRecord), 0};

		put_bytes(&output, &header, sizeof(header));
	}
	for (i = 0; i < drain->count; i++)
		put_record(&output, &drain->records[i], drain->answers[i]);
	flush_output(&output);
	return !output.failed && pg_fsync(fd) == 0;
}

/* Under the spill lock. */
static bool
append_to_file(const PglDrain *drain)
{
	char path[MAXPGPATH];
	off_t end = -1;
	bool written;
	int fd;

	name_file(path, drain->database, "spill");
	if (!make_directory() || (fd = open_for_append(path, drain->database)) < 0)
	{
		log_failure("open", path);
		return false;
	}
	end = seek_good_end(fd, drain->database);
	written = end >= 0 && write_records(fd, end, drain) &&
			  (end > 0 || fsync_fname_ext(DIRECTORY, true, false, LOG) == 0);
	if (written)
		set_good_length(drain->database, lseek(fd, 0, SEEK_CUR));
	else
	{
		log_failure("write", path);
		if (end >= 0 && ftruncate(fd, end) != 0)
			log_failure("cut back", path);
	}
	close(fd);
	return written;
}

static bool
lock_spill(bool wait)
{
	LWLock *lock = pgl_shmem_lwlock(PGL_LWLOCK_SPILL);

	if (!wait)
		return LWLockConditionalAcquire(lock, LW_EXCLUSIVE);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	return true;
}

static void
unlock_spill(void)
{
	LWLockRelease(pgl_shmem_lwlock(PGL_LWLOCK_SPILL));
}

bool
pgl_spill_append(const PglDrain *drain, bool wait)
{
	bool written;

	if (drain->count == 0)
		return true;
	if (!lock_spill(wait))
		return false;
	written = append_to_file(drain);
	if (written)
		pgl_ledger_report_spilled(drain->database, drain->count);
	unlock_spill();
	return written;
}

void
pgl_spill_everything(void)
{
	uint32_t databases[PGL_LEDGER_MAX_DATABASES];
	int n = pgl_ledger_queued_databases(databases, lengthof(databases));
	int i;

	for (i = 0; i < n; i++)
	{
		PglDrain drain;

		do
		{
			pgl_ledger_copy(databases[i], 100, true, &drain);
			if (!pgl_spill_append(&drain, true))
			{
				ereport(LOG, (errmsg("ledger records of database %u are lost", databases[i])));
				break;
			}
			pgl_ledger_take_off(&drain);
		} while (drain.count > 0);
	}
}

/* ---- loading ---- */

static bool
file_exists(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0;
}

/* Under the spill lock: after this, appends make a new .spill. */
static bool
start_loading(Oid database, const char *path)
{
	char from[MAXPGPATH];

	if (file_exists(path)) /* of a load that did not end */
		return true;
	name_file(from, database, "spill");
	if (!file_exists(from))
	{
		pgl_ledger_set_spilled(database, 0);
		return false;
	}
	if (durable_rename(from, path, LOG) != 0)
		return false;
	forget_good_length(database);
	return true;
}

bool
pgl_spill_begin(uint32_t database)
{
	char path[MAXPGPATH];
	bool started;
	int fd;

	loading.database = InvalidOid;
	name_file(path, database, "loading");
	lock_spill(true);
	started = start_loading(database, path);
	unlock_spill();
	if (!started)
		return false;
	fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
	{
		log_failure("open", path);
		return false;
	}
	if (has_foreign_header(fd))
	{
		close(fd);
		return move_aside(path, "was written by another version of pgllm") &&
			   pgl_spill_begin(database);
	}
	loading.size = lseek(fd, 0, SEEK_END);
	close(fd);
	loading.database = database;
	loading.position = sizeof(Header);
	loading.records = 0;
	return true;
}

/* One entry, palloc'ed answer; false: no more. */
static bool
read_record(int fd, PglRecord *record, char **answer)
{
	Entry entry;
	pg_crc32c crc;

	if (!read_fully(fd, &entry, sizeof(entry)) || entry.length < sizeof(*record) ||
		!read_fully(fd, record, sizeof(*record)) ||
		record->answer_length != entry.length - sizeof(*record) ||
		record->answer_length > loading.size)
		return false;
	*answer = NULL;
	if (record->has_answer)
	{
		*answer = palloc_extended((Size) record->answer_length + 1, MCXT_ALLOC_HUGE);
		if (!read_fully(fd, *answer, record->answer_length))
			return false;
		(*answer)[record->answer_length] = '\0';
	}
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, record, sizeof(*record));
	if (*answer != NULL)
		COMP_CRC32C(crc, *answer, record->answer_length);
	FIN_CRC32C(crc);
	return EQ_CRC32C(crc, entry.crc);
}

int
pgl_spill_read(int max, PglDrain *drain)
{
	char path[MAXPGPATH];
	int fd;

	memset(drain, 0, sizeof(*drain));
	drain->database = loading.database;
	drain->records = palloc_extended(mul_size(max, sizeof(PglRecord)), MCXT_ALLOC_HUGE);
	drain->answers = palloc0(sizeof(char *) * max);
	name_file(path, loading.database, "loading");
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 || lseek(fd, loading.position, SEEK_SET) != loading.position)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not read ledger spill file \"%s\": %m", path)));
	while (drain->count < max &&
		   read_record(fd, &drain->records[drain->count], &drain->answers[drain->count]))
	{
		drain->count++;
		loading.position = lseek(fd, 0, SEEK_CUR);
	}
	CloseTransientFile(fd);
	loading.records += drain->count;
	return drain->count;
}

/* A file that ends in something unreadable is kept; what could be read is in the tables. */
void
pgl_spill_finish(void)
{
	char path[MAXPGPATH];
	bool gone;

	name_file(path, loading.database, "loading");
	lock_spill(true);
	gone = loading.position < loading.size ? move_aside(path, "is damaged")
										   : durable_unlink(path, LOG) == 0;
	if (gone)
		pgl_ledger_report_spilled(loading.database, -loading.records);
	unlock_spill();
	loading.database = InvalidOid;
}

/* ---- the directory ---- */

void
pgl_spill_remove(uint32_t database)
{
	static const char *const suffixes[] = {"spill", "loading"};
	char path[MAXPGPATH];
	int i;

	lock_spill(true);
	for (i = 0; i < lengthof(suffixes); i++)
	{
		name_file(path, database, suffixes[i]);
		if (file_exists(path))
			durable_unlink(path, LOG);
	}
	forget_good_length(database);
	pgl_ledger_set_spilled(database, 0);
	unlock_spill();
}

static bool
contains(const uint32_t *databases, int n, uint32_t database)
{
	while (n-- > 0)
		if (databases[n] == database)
			return true;
	return false;
}

int
pgl_spill_databases(uint32_t *databases, int max)
{
	DIR *directory;
	struct dirent *entry;
	int n = 0;

	if (!file_exists(DIRECTORY))
		return 0;
	directory = AllocateDir(DIRECTORY);
	while (n < max && (entry = ReadDirExtended(directory, DIRECTORY, LOG)) != NULL)
	{
		char *suffix;
		unsigned long oid = strtoul(entry->d_name, &suffix, 10);

		if (strcmp(suffix, ".spill") != 0 && strcmp(suffix, ".loading") != 0)
			continue;
		if (OidIsValid((Oid) oid) && !contains(databases, n, oid))
			databases[n++] = oid;
	}
	FreeDir(directory);
	return n;
}

/*
 * While the server starts: how many records a file holds.  A torn tail is cut off, since appends
 * would follow it.
 */
static int64_t
take_stock(Oid database, const char *suffix, bool for_append)
{
	char path[MAXPGPATH];
	int64_t records;
	off_t end;
	int fd;

	name_file(path, database, suffix);
	fd = BasicOpenFile(path, O_RDWR | PG_BINARY);
	if (fd < 0)
		return 0;
	records = scan_file(fd, &end);
	if (records >= 0 && for_append)
	{
		if (ftruncate(fd, end) != 0)
			log_failure("cut back", path);
		set_good_length(database, end);
	}
	close(fd);
	if (records < 0)
		move_aside(path, "was written by another version of pgllm");
	return Max(records, 0);
}

uint64_t
pgl_spill_shmem_size(void)
{
	return MAXALIGN(sizeof(Spill));
}

void
pgl_spill_shmem_init(void)
{
	uint32_t databases[PGL_LEDGER_MAX_DATABASES];
	bool found;
	int n;
	int i;

	spill = ShmemInitStruct("pgllm spill", sizeof(Spill), &found);
	if (found)
		return;
	memset(spill, 0, sizeof(*spill));
	n = pgl_spill_databases(databases, lengthof(databases));
	for (i = 0; i < n; i++)
		pgl_ledger_set_spilled(databases[i], take_stock(databases[i], "spill", true) +
												 take_stock(databases[i], "loading", false));
}
