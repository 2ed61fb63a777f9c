/*
 * credential.c — from a reference to a key: environment, credential directory, AWS profile.
 *
 * The references a shard may name are those the server's own user can read, so only superusers
 * write them; here we make sure that a name stays a name (no path, no dots) and that a file is what
 * the administrator put there: for file: a regular file, not a link, owned by the server's user,
 * closed to everybody else.  For profile: the paths come from the server's environment and are read
 * as AWS's own tools read them.
 *
 * Values are cached in a fixed table of this backend, the least recently used entry gives way.  A
 * file is looked at (stat) at most once a second and read again when it is another file, or has
 * another size or modification time.  While a value is known, a file that is gone, half written or
 * damaged changes nothing: the last good value serves on, and `why` says what is wrong.  A key that
 * was revoked is found out by the provider's rejection, not by us.
 *
 * Nothing here throws: no palloc, no elog, no virtual file descriptors.  Every buffer that held a
 * secret is wiped, and no message contains anything but names.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/ini.h"
#include "../pg/guc.h"
#include "credential.h"

#define MAX_ENTRIES 64
#define MAX_REFERENCE 80 /* "profile:" and a name of 63 */
#define MAX_NAME 63
#define MAX_FILE_BYTES (64 * 1024)
#define CHECK_INTERVAL_US INT64_C(1000000)
/* For how long calls that were signed before a rotation may still come back rejected. */
#define ROTATION_GRACE_US INT64_C(30000000)

typedef enum CredentialKind
{
	KIND_ENV,
	KIND_FILE,
	KIND_PROFILE
} CredentialKind;

/* What tells one version of a file from another; all zero when it does not exist. */
typedef struct FileStamp
{
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified;
} FileStamp;

/* One or two files behind a reference: profile has credentials and config. */
#define MAX_FILES 2

typedef struct Source
{
	CredentialKind kind;
	const char *name; /* points into the reference */
	int nfiles;
	char path[MAX_FILES][MAXPGPATH];
} Source;

typedef struct Entry
{
	char reference[MAX_REFERENCE]; /* "" if free */
	PglCredential value;
	FileStamp stamps[MAX_FILES];
	int64 checked_us;
	int64 replaced_us; /* when a different value took the place of another; 0 = never */
	uint64 last_use;
} Entry;

/* A whole file in memory, with secrets; release_file wipes it. */
typedef struct FileText
{
	char *data;
	size_t len;
} FileText;

static Entry entries[MAX_ENTRIES];
static uint64 use_counter = 0;

/* Always false, so that callers can return it. */
static bool fail(char *why, size_t why_size, const char *format, ...) pg_attribute_printf(3, 4);

static bool
fail(char *why, size_t why_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, why_size, format, args);
	va_end(args);
	return false;
}

/* ---- references ---- */

static bool
name_valid(const char *name, bool for_env)
{
	const char *allowed = for_env
							  ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
							  : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t len = strlen(name);

	return len >= 1 && len <= MAX_NAME && strspn(name, allowed) == len && name[0] != '.' &&
		   strstr(name, "..") == NULL;
}

static bool
join_path(char *path, const char *directory, const char *name)
{
	int len = snprintf(path, MAXPGPATH, "%s/%s", directory, name);

	return directory[0] == '/' && len > 0 && len < MAXPGPATH;
}

static bool
locate_file(Source *source, char *why, size_t why_size)
{
	const char *directory = pgl_guc_credential_directory;

	if (directory == NULL || directory[0] == '\0')
		return fail(why, why_size, "pgllm.credential_directory is not set");
	if (!join_path(source->path[0], directory, source->name))
		return fail(why, why_size, "pgllm.credential_directory is not a usable absolute path");
	source->nfiles = 1;
	return true;
}

/* A path below HOME, as AWS's tools use it, else below the home directory of the server's user. */
static bool
locate_below_home(const char *name, char *path)
{
	const char *home = getenv("HOME");
	struct passwd entry;
	struct passwd *found = NULL;
	char strings[1024];

	if (home == NULL || home[0] != '/')
	{
		if (getpwuid_r(geteuid(), &entry, strings, sizeof(strings), &found) != 0 || found == NULL)
			return false;
		home = entry.pw_dir;
	}
	return join_path(path, home, name);
}

static bool
locate_aws_file(const char *variable, const char *below_home, char *path)
{
	const char *given = getenv(variable);

	if (given == NULL || given[0] == '\0')
		return locate_below_home(below_home, path);
	return given[0] == '/' && snprintf(path, MAXPGPATH, "%s", given) < MAXPGPATH;
}

static bool
locate_profile(Source *source, char *why, size_t why_size)
{
	if (!locate_aws_file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", source->path[0]) ||
		!locate_aws_file("AWS_CONFIG_FILE", ".aws/config", source->path[1]))
		return fail(why, why_size, "the server has no usable home directory or AWS file settings");
	source->nfiles = 2;
	return true;
}

static bool
parse_reference(const char *reference, Source *source, char *why, size_t why_size)
{
	memset(source, 0, sizeof(*source));
	source->name = strchr(reference, ':');
	if (source->name == NULL || strlen(reference) >= MAX_REFERENCE)
		return fail(why, why_size, "a credential is named as env:, file: or profile: and a name");
	source->name++;
	if (strncmp(reference, "env:", 4) == 0)
		source->kind = KIND_ENV;
	else if (strncmp(reference, "file:", 5) == 0)
		source->kind = KIND_FILE;
	else if (strncmp(reference, "profile:", 8) == 0)
		source->kind = KIND_PROFILE;
	else
		return fail(why, why_size, "a credential is named as env:, file: or profile: and a name");
	if (!name_valid(source->name, source->kind == KIND_ENV))
		return fail(why, why_size, "the name in a credential reference has invalid characters");
	if (source->kind == KIND_FILE)
		return locate_file(source, why, why_size);
	if (source->kind == KIND_PROFILE)
		return locate_profile(source, why, why_size);
	return true;
}

/* ---- values ---- */

/* Printable ASCII without space: what AWS issues, and what can stand in a header. */
static bool
copy_value(char *dst, size_t size, const char *value)
{
	size_t len = strlen(value);

	if (len >= size)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (value[i] <= ' ' || value[i] > '~')
			return false;
	}
	memcpy(dst, value, len + 1);
	return true;
}

/* Fill a credential from its three parts; empty counts as absent. */
static bool
make_credential(const char *access_key, const char *secret_key, const char *token,
				const char *where, PglCredential *out, char *why, size_t why_size)
{
	memset(out, 0, sizeof(*out));
	if (access_key[0] == '\0' && secret_key[0] == '\0')
		return fail(why, why_size, "%s has no access key", where);
	if (access_key[0] == '\0' || secret_key[0] == '\0')
		return fail(why, why_size, "%s has only one half of a key: id and secret are both needed",
					where);
	if (copy_value(out->access_key, sizeof(out->access_key), access_key) &&
		copy_value(out->secret_key, sizeof(out->secret_key), secret_key) &&
		copy_value(out->session_token, sizeof(out->session_token), token))
		return true;
	explicit_bzero(out, sizeof(*out));
	return fail(why, why_size, "%s holds a key that is too long or has invalid characters", where);
}

static const char *
environment_value(const char *prefix, const char *suffix)
{
	char variable[MAX_NAME + 32];
	const char *value;

	snprintf(variable, sizeof(variable), "%s_%s", prefix, suffix);
	value = getenv(variable);
	return value != NULL ? value : "";
}

static bool
load_environment(const Source *source, PglCredential *out, char *why, size_t why_size)
{
	char where[MAX_NAME + 32];

	snprintf(where, sizeof(where), "environment prefix \"%s\"", source->name);
	return make_credential(environment_value(source->name, "ACCESS_KEY_ID"),
						   environment_value(source->name, "SECRET_ACCESS_KEY"),
						   environment_value(source->name, "SESSION_TOKEN"), where, out, why,
						   why_size);
}

/* ---- files ---- */

/* All zero if there is no such file. */
static void
take_stamp(const char *path, FileStamp *stamp)
{
	struct stat status;

	memset(stamp, 0, sizeof(*stamp)); /* padding too: stamps are compared as bytes */
	if (stat(path, &status) != 0)
		return;
	stamp->device = status.st_dev;
	stamp->inode = status.st_ino;
	stamp->size = status.st_size;
	stamp->modified = status.st_mtim;
}

static void
release_file(FileText *file)
{
	if (file->data != NULL)
		explicit_bzero(file->data, MAX_FILE_BYTES);
	free(file->data);
	file->data = NULL;
	file->len = 0;
}

/* May this open file be read?  `strict` for file: references. */
static bool
check_file(const struct stat *status, bool strict, const char *where, char *why, size_t why_size)
{
	if (!S_ISREG(status->st_mode))
		return fail(why, why_size, "%s is not a regular file", where);
	if (strict && status->st_uid != geteuid())
		return fail(why, why_size, "%s is not owned by the server's user", where);
	if (strict && (status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return fail(why, why_size, "%s is open to group or others; it must have mode 0600 or less",
					where);
	if (status->st_size > MAX_FILE_BYTES)
		return fail(why, why_size, "%s is larger than 64 kB", where);
	return true;
}

/* Read up to the cap.  False on a read error or if the file has grown past the cap. */
static bool
read_all(int fd, FileText *file)
{
	char extra;
	ssize_t got;

	while (file->len < MAX_FILE_BYTES)
	{
		got = read(fd, file->data + file->len, MAX_FILE_BYTES - file->len);
		if (got == 0)
			return true;
		if (got > 0)
			file->len += (size_t) got;
		else if (errno != EINTR)
			return false;
	}
	return read(fd, &extra, 1) == 0;
}

/*
 * The whole file.  O_NONBLOCK: opening a FIFO must not hang the backend.  The checks are made on
 * the open descriptor, so that nothing can be swapped in between.
 */
static bool
read_file(const char *path, bool strict, const char *where, FileText *file, char *why,
		  size_t why_size)
{
	struct stat status;
	int fd;
	bool ok;

	memset(file, 0, sizeof(*file));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (strict ? O_NOFOLLOW : 0));
	if (fd < 0)
		return fail(why, why_size, "%s cannot be opened: %s", where,
					errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	if (fstat(fd, &status) != 0)
		ok = fail(why, why_size, "%s cannot be examined", where);
	else
		ok = check_file(&status, strict, where, why, why_size);
	if (ok)
	{
		file->data = malloc(MAX_FILE_BYTES);
		ok = (file->data != NULL && read_all(fd, file)) ||
			 fail(why, why_size, "%s cannot be read", where);
	}
	close(fd);
	if (!ok)
		release_file(file);
	return ok;
}

/* ---- loading ---- */

/* The three values of one section (NULL: of a file without sections). */
static bool
load_section(const FileText *file, const char *section, const char *where, PglCredential *out,
			 char *why, size_t why_size)
{
	static const char *const keys[] = {"aws_access_key_id", "aws_secret_access_key",
									   "aws_session_token"};
	PglBuf values[3];
	bool ok;

	for (int i = 0; i < 3; i++)
	{
		pgl_buf_init(&values[i], MAX_FILE_BYTES);
		pgl_ini_lookup(file->data, file->len, section, keys[i], &values[i]);
	}
	ok = make_credential(pgl_buf_str(&values[0]), pgl_buf_str(&values[1]), pgl_buf_str(&values[2]),
						 where, out, why, why_size);
	for (int i = 0; i < 3; i++)
		pgl_buf_wipe(&values[i]);
	return ok;
}

static bool
load_file(const Source *source, PglCredential *out, char *why, size_t why_size)
{
	char where[MAX_NAME + 32];
	FileText file;
	bool ok;

	snprintf(where, sizeof(where), "credential file \"%s\"", source->name);
	if (!read_file(source->path[0], true, where, &file, why, why_size))
		return false;
	ok = load_section(&file, NULL, where, out, why, why_size);
	release_file(&file);
	return ok;
}

/*
 * Key id, secret and token are taken from one file, never mixed: the credentials file if it knows
 * the profile's key, else the config file.  There sections are called "profile NAME", but
 * "default".
 */
static bool
load_profile(const Source *source, PglCredential *out, char *why, size_t why_size)
{
	static const char *const files[MAX_FILES] = {"the AWS credentials file", "the AWS config file"};
	char section[MAX_NAME + 16];
	char where[MAX_NAME + 64];
	FileText file;
	bool ok = false;

	for (int i = 0; i < MAX_FILES && !ok; i++)
	{
		bool prefixed = i == 1 && strcmp(source->name, "default") != 0;

		if (!read_file(source->path[i], false, files[i], &file, why, why_size))
			continue;
		snprintf(section, sizeof(section), "%s%s", prefixed ? "profile " : "", source->name);
		snprintf(where, sizeof(where), "profile \"%s\" of %s", source->name, files[i]);
		ok = load_section(&file, section, where, out, why, why_size);
		release_file(&file);
	}
	if (!ok)
		fail(why, why_size,
			 "no usable key for profile \"%s\" in the AWS files of the server's user",
			 source->name);
	return ok;
}

/*
 * Read the value from its source.  The stamps are taken first: a file that changes while it is read
 * will not look up to date afterwards.
 */
static bool
load_value(const Source *source, FileStamp *stamps, PglCredential *out, char *why, size_t why_size)
{
	memset(stamps, 0, MAX_FILES * sizeof(*stamps));
	for (int i = 0; i < source->nfiles; i++)
		take_stamp(source->path[i], &stamps[i]);
	switch (source->kind)
	{
		case KIND_ENV:
			return load_environment(source, out, why, why_size);
		case KIND_FILE:
			return load_file(source, out, why, why_size);
		case KIND_PROFILE:
			return load_profile(source, out, why, why_size);
	}
	return false;
}

/* ---- cache ---- */

static Entry *
find_entry(const char *reference)
{
	for (int i = 0; i < MAX_ENTRIES && reference[0] != '\0'; i++)
	{
		if (strcmp(entries[i].reference, reference) == 0)
			return &entries[i];
	}
	return NULL;
}

/* A free place, else that of the least recently used value, wiped. */
static Entry *
claim_entry(const char *reference)
{
	Entry *victim = &entries[0];

	for (int i = 1; i < MAX_ENTRIES; i++)
	{
		if (entries[i].last_use < victim->last_use)
			victim = &entries[i];
	}
	explicit_bzero(victim, sizeof(*victim));
	snprintf(victim->reference, sizeof(victim->reference), "%s", reference);
	return victim;
}

static bool
same_value(const PglCredential *a, const PglCredential *b)
{
	return strcmp(a->access_key, b->access_key) == 0 && strcmp(a->secret_key, b->secret_key) == 0 &&
		   strcmp(a->session_token, b->session_token) == 0;
}

/* Are the files still those the entry was read from? */
static bool
files_unchanged(const Source *source, const Entry *entry)
{
	for (int i = 0; i < source->nfiles; i++)
	{
		FileStamp stamp;

		take_stamp(source->path[i], &stamp);
		if (memcmp(&stamp, &entry->stamps[i], sizeof(stamp)) != 0)
			return false;
	}
	return true;
}

/* Read the source again into the entry, made if there is none.  NULL: no value, old or new. */
static Entry *
reload_entry(const char *reference, const Source *source, Entry *entry, char *why, size_t why_size)
{
	PglCredential fresh;
	FileStamp stamps[MAX_FILES];
	int64 now_us = pgl_clock_us();

	if (load_value(source, stamps, &fresh, why, why_size))
	{
		if (entry == NULL)
			entry = claim_entry(reference);
		else if (!same_value(&entry->value, &fresh))
			entry->replaced_us = now_us;
		explicit_bzero(&entry->value, sizeof(entry->value));
		entry->value = fresh;
		memcpy(entry->stamps, stamps, sizeof(stamps));
		explicit_bzero(&fresh, sizeof(fresh));
	}
	if (entry != NULL)
		entry->checked_us = now_us;
	return entry;
}

const PglCredential *
pgl_credential_get(const char *reference, char *why, size_t why_size)
{
	Source source;
	Entry *entry = find_entry(reference);
	int64 now_us = pgl_clock_us();

	why[0] = '\0';
	if (entry == NULL || now_us - entry->checked_us >= CHECK_INTERVAL_US)
	{
		if (!parse_reference(reference, &source, why, why_size))
			return entry != NULL ? &entry->value : NULL;
		if (entry != NULL && files_unchanged(&source, entry))
			entry->checked_us = now_us;
		else
			entry = reload_entry(reference, &source, entry, why, why_size);
	}
	if (entry == NULL)
		return NULL;
	entry->last_use = ++use_counter;
	return &entry->value;
}

/*
 * When keys rotate, all calls in flight were signed with the old one and come here one after the
 * other. The first finds the new value; for the others nothing differs any more, yet another
 * attempt makes sense for them too.  So a replacement counts as a difference for a while.  A value
 * that is wrong from the start gains nothing by that.
 */
bool
pgl_credential_refresh(const char *reference)
{
	Source source;
	char why[256];
	Entry *entry = find_entry(reference);

	if (!parse_reference(reference, &source, why, sizeof(why)))
		return false;
	if (entry == NULL) /* given way to others meanwhile: whatever is read now is worth a try */
		return reload_entry(reference, &source, NULL, why, sizeof(why)) != NULL;
	if (source.kind != KIND_ENV)
		reload_entry(reference, &source, entry, why, sizeof(why));
	return entry->replaced_us != 0 && pgl_clock_us() - entry->replaced_us < ROTATION_GRACE_US;
}
