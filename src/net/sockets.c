/*
 * sockets.c — libcurl's sockets in PostgreSQL's book-keeping of descriptors.
 *
 * fd.c grants descriptors to code outside it, up to a limit, and keeps enough for tables and WAL.
 * Each socket is acquired when libcurl opens it and given back when libcurl closes it.  That alone
 * would leak: libcurl 7.88, for one, closes a socket whose connect has not finished (a cancelled
 * transfer, the loser of an IPv4/IPv6 race) without the callback.  So we remember the inode of
 * every socket by descriptor number.  A number that no longer has that inode was closed unseen, and
 * is given back when a transfer that opened it ends, or when the number comes up again.
 *
 * The same table remembers what epoll watches a socket for: see watch_socket in mux.c.
 *
 * Ownership: the table is malloc'ed, grows with the highest descriptor and lives as long as the
 * backend.  Nothing here throws or pallocs; it runs inside libcurl callbacks.
 */
#include "postgres.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "sockets.h"

#define FIRST_CAPACITY 128

typedef struct Socket
{
	ino_t inode; /* 0: not one of ours */
	PglSocketWatch watch;
} Socket;

static Socket *sockets; /* by descriptor */
static int capacity;

/* The inode behind a descriptor if it is a socket, else 0. */
static ino_t
socket_inode(int fd)
{
	struct stat info;

	return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino : 0;
}

/* Room for this descriptor in the table. */
static bool
ensure_capacity(int fd)
{
	int wanted = Max(capacity, FIRST_CAPACITY);
	Socket *grown;

	if (fd < capacity)
		return true;
	while (wanted <= fd)
		wanted *= 2;
	grown = realloc(sockets, wanted * sizeof(Socket));
	if (grown == NULL)
		return false;
	memset(grown + capacity, 0, (wanted - capacity) * sizeof(Socket));
	sockets = grown;
	capacity = wanted;
	return true;
}

static bool
is_ours(int fd)
{
	return fd >= 0 && fd < capacity && sockets[fd].inode != 0;
}

/* Strike a descriptor from the table and give it back to fd.c. */
static void
give_back(int fd)
{
	sockets[fd] = (Socket){0};
	ReleaseExternalFD();
}

/* Note a socket that fd.c has granted.  False: no memory. */
static bool
remember(int fd)
{
	if (!ensure_capacity(fd))
		return false;
	if (is_ours(fd))
		give_back(fd); /* the number is new again, so its last owner was closed */
	sockets[fd].inode = socket_inode(fd);
	return is_ours(fd);
}

/* A new socket, close-on-exec and counted by fd.c; -1 when the process may have no more. */
int
pgl_socket_open(int family, int type, int protocol)
{
	int fd;
	int saved_errno;

	if (!AcquireExternalFD())
		return -1; /* errno is EMFILE */
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	if (fd >= 0 && remember(fd))
		return fd;
	saved_errno = fd < 0 ? errno : ENOMEM;
	if (fd >= 0)
		(void) close(fd);
	ReleaseExternalFD();
	errno = saved_errno;
	return -1;
}

/*
 * CURLOPT_CLOSESOCKETFUNCTION.  Takes no data: a connection outlives the transfer that opened it,
 * so any pointer to that transfer would dangle.
 */
int
pgl_socket_close(void *unused, curl_socket_t fd)
{
	if (is_ours(fd))
		give_back(fd);
	return close(fd);
}

/* Give a descriptor back if the socket we opened under that number is gone. */
void
pgl_socket_reconcile(int fd)
{
	if (is_ours(fd) && socket_inode(fd) != sockets[fd].inode)
		give_back(fd);
}

PglSocketWatch *
pgl_socket_watch(int fd)
{
	return is_ours(fd) ? &sockets[fd].watch : NULL;
}

void
pgl_socket_forget_all(void)
{
	if (capacity > 0)
		memset(sockets, 0, capacity * sizeof(Socket));
}
