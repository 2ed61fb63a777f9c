/*
 * mux.c — libcurl's multi handle, its epoll descriptor and its timer; the only wait of the loop.
 *
 * How it fits together.  libcurl tells `watch_socket` which sockets it cares for, and we keep them
 * in one level-triggered epoll instance; it tells `set_timer` when it wants to be called next, and
 * we only note the time.  The backend then waits for three things at once: its latch, the death of
 * the postmaster, and the epoll descriptor, which is readable when any socket is.  So cancel,
 * timeouts, barriers and terminated clients are served as in any other wait of PostgreSQL, whatever
 * the number of sockets, and a turn costs nothing for the sockets that are quiet.
 *
 * Ownership: everything is static and lives until the backend ends; nothing is cleaned up at exit,
 * because that may join resolver threads.  A process that finds handles of another pid forgets
 * them. Descriptors: every socket and the epoll descriptor are reported to fd.c, which grants
 * external descriptors up to a third of what the process may open; connections are capped below
 * that, and libcurl queues the rest. Throwing: pgl_mux_ensure and pgl_mux_wait may; callbacks and
 * everything else never do. Portability: epoll is Linux's.  A kqueue variant would replace this
 * file only.
 */
#include "postgres.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "../core/clock.h"
#include "../pg/compat.h"

#include "mux.h"
#include "net.h"
#include "sockets.h"

#define OLDEST_LIBCURL 0x075500  /* 7.85.0: CURLOPT_PROTOCOLS_STR */
#define EVENT_BATCH 64           /* sockets taken from epoll at once */
#define LONGEST_DISPATCH_US 2000 /* then ended calls and interrupts are looked at */
#define NO_TIMER INT64_MAX
#define LONGEST_WAIT_US (INT64CONST(3600) * 1000000)
#define MAX_CONNECTIONS 4096L
#define MIN_CONNECTIONS 8L
#define MAX_STREAMS_PER_CONNECTION 2000L /* the default of 100 opens new connections and fails */

typedef struct Mux
{
	pid_t owner; /* process that made the handles */
	CURLM *multi;
	int epoll_fd;
	WaitEventSet *wait_set; /* latch, death of the postmaster, epoll_fd */
	int64_t timer_us;       /* when libcurl wants to be called, or NO_TIMER */
	int nready;
	struct epoll_event ready[EVENT_BATCH];
	bool initialized; /* curl_global_init done, features known */
	bool has_http2;
	bool has_builtin_ca_file;
} Mux;

static Mux mux = {.epoll_fd = -1, .timer_us = NO_TIMER};

/* Handles from before a fork are another process's: never touched, not even to close them. */
static bool
have_multi(void)
{
	return mux.multi != NULL && mux.owner == MyProcPid;
}

/*
 * libcurl's resolver threads inherit the signal mask; with all signals blocked they never run a
 * handler of PostgreSQL's, which may only run in the main thread.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* --- libcurl's callbacks: no throw, no palloc --- */

/* CURLMOPT_TIMERFUNCTION */
static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	mux.timer_us = timeout_ms < 0 ? NO_TIMER : pgl_clock_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

/* Errors mean that it was closed already, and closing removed it. */
static void
unwatch_socket(int fd, PglSocketWatch *watch)
{
	(void) epoll_ctl(mux.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	if (watch != NULL)
		watch->events = 0;
}

/*
 * CURLMOPT_SOCKETFUNCTION: mirror libcurl's interest into epoll.  A refusal by the kernel (out of
 * memory for watches) is not reported: libcurl would declare the whole multi handle dead, whereas
 * the one transfer that stays unwatched ends at its deadline.
 *
 * Between two requests a connection stays watched for reading, which saves two system calls a
 * request.  Only that: a socket that is still connecting may be closed without our knowing, and one
 * that is not ours (of the resolver) is closed without our knowing as well.
 */
static int
watch_socket(CURL *easy, curl_socket_t socket, int what, void *arg, void *per_socket)
{
	PglSocketWatch *watch = pgl_socket_watch(socket);
	struct epoll_event event = {.data.fd = socket};

	if (what == CURL_POLL_REMOVE)
	{
		if (watch != NULL && watch->events == EPOLLIN)
			watch->is_idle = true;
		else
			unwatch_socket(socket, watch);
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (watch == NULL || watch->events != event.events)
	{
		if (epoll_ctl(mux.epoll_fd, EPOLL_CTL_ADD, socket, &event) != 0 && errno == EEXIST)
			(void) epoll_ctl(mux.epoll_fd, EPOLL_CTL_MOD, socket, &event);
	}
	if (watch != NULL)
		*watch = (PglSocketWatch){.events = event.events};
	return 0;
}

/* --- set-up --- */

/* Is this libcurl able to live in a backend?  Throws if not. */
static void
check_libcurl(void)
{
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);

	if (info->version_num < OLDEST_LIBCURL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("libcurl %s is too old", info->version),
						errhint("Install libcurl 7.85 or later.")));
	if ((info->features & CURL_VERSION_ASYNCHDNS) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("libcurl resolves names synchronously"),
						errdetail("A slow name server could not be interrupted."),
						errhint("Install a libcurl built with the threaded resolver or c-ares.")));
	if ((info->features & CURL_VERSION_SSL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("libcurl is built without TLS")));
	mux.has_http2 = (info->features & CURL_VERSION_HTTP2) != 0;
	mux.has_builtin_ca_file = info->cainfo != NULL;
}

/* curl_global_init in the process that uses it: in the postmaster it may start threads. */
static void
ensure_libcurl(void)
{
	sigset_t saved;
	CURLcode code;

	if (mux.initialized)
		return;
	check_libcurl();
	block_signals(&saved);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	restore_signals(&saved);
	if (code != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
						errmsg("could not initialize libcurl: %s", curl_easy_strerror(code))));
	mux.initialized = true;
}

/* The epoll descriptor.  Throws. */
static void
open_epoll(void)
{
	if (!AcquireExternalFD())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("too many open files for a network connection"),
						errhint("Raise max_files_per_process and the limit of open files.")));
	mux.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (mux.epoll_fd < 0)
	{
		int saved_errno = errno;

		ReleaseExternalFD();
		errno = saved_errno;
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not create an epoll descriptor: %m")));
	}
}

/*
 * How many connections may be open.  fd.c grants a third of max_safe_fds to everything outside it;
 * an eighth of that is left to others (dblink, postgres_fdw) and to racing IPv4/IPv6 attempts.
 */
static long
connection_limit(void)
{
	long granted = max_safe_fds / 3;
	long limit = granted - granted / 8 - 2;

	return Max(MIN_CONNECTIONS, Min(limit, MAX_CONNECTIONS));
}

/* Every option exists in the oldest libcurl allowed, so a failure means out of memory. */
static bool
configure_multi(CURLM *multi)
{
	CURLMcode code = CURLM_OK;
	long limit = connection_limit();

#define SET(option, value)                                  \
	do                                                      \
	{                                                       \
		if (code == CURLM_OK)                               \
			code = curl_multi_setopt(multi, option, value); \
	} while (0)
	SET(CURLMOPT_SOCKETFUNCTION, watch_socket);
	SET(CURLMOPT_TIMERFUNCTION, set_timer);
	SET(CURLMOPT_MAX_TOTAL_CONNECTIONS, limit);
	SET(CURLMOPT_MAXCONNECTS, limit); /* what was opened for a window is kept for the next */
	SET(CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	SET(CURLMOPT_MAX_CONCURRENT_STREAMS, MAX_STREAMS_PER_CONNECTION);
#undef SET
#if LIBCURL_VERSION_NUM >= 0x081400
	/* 8.20: resolver threads belong to the multi; an older library at run time refuses, fine. */
	(void) curl_multi_setopt(multi, CURLMOPT_QUICK_EXIT, 1L);
#endif
	return code == CURLM_OK;
}

/* Make the handles at first use in this process. */
void
pgl_mux_ensure(void)
{
	sigset_t saved;

	if (have_multi())
		return;
	if (mux.owner != MyProcPid)
	{
		mux.multi = NULL;
		mux.epoll_fd = -1;
		mux.wait_set = NULL;
		mux.timer_us = NO_TIMER;
		mux.nready = 0;
		mux.initialized = false;
		pgl_socket_forget_all();
		mux.owner = MyProcPid;
	}
	ensure_libcurl();
	if (mux.epoll_fd < 0)
		open_epoll();
	block_signals(&saved);
	mux.multi = curl_multi_init();
	restore_signals(&saved);
	if (mux.multi != NULL && !configure_multi(mux.multi))
	{
		(void) curl_multi_cleanup(mux.multi);
		mux.multi = NULL;
	}
	if (mux.multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory in libcurl")));
}

bool
pgl_mux_has_http2(void)
{
	return mux.has_http2;
}

bool
pgl_mux_has_builtin_ca_file(void)
{
	return mux.has_builtin_ca_file;
}

/* Starts no resolver thread, so signals stay as they are; that happens when dispatching. */
bool
pgl_mux_add(CURL *easy)
{
	return curl_multi_add_handle(mux.multi, easy) == CURLM_OK;
}

/* Fast even while a name is being resolved, thanks to CURLOPT_QUICK_EXIT on every handle. */
void
pgl_mux_remove(CURL *easy)
{
	(void) curl_multi_remove_handle(mux.multi, easy);
}

/* --- the loop --- */

/* Take up to one batch of ready sockets out of epoll, without waiting. */
static int
poll_sockets(void)
{
	int n;

	if (!have_multi())
		return 0;
	n = epoll_wait(mux.epoll_fd, mux.ready, EVENT_BATCH, 0);
	return Max(n, 0); /* EINTR: nothing this time */
}

/*
 * The set of what a backend waits for, made once: building it anew for every wait, as
 * WaitLatchOrSocket does, costs six system calls.
 */
static void
ensure_wait_set(void)
{
	WaitEventSet *set;

	if (mux.wait_set != NULL)
		return;
	set = pgl_create_wait_event_set(3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	if (IsUnderPostmaster)
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, mux.epoll_fd, NULL, NULL);
	mux.wait_set = set;
}

/* Block until a socket is ready, the latch is set or wait_us have passed. */
static void
wait_for_event(int64_t wait_us, uint32_t wait_event)
{
	long timeout_ms = (long) ((Min(wait_us, LONGEST_WAIT_US) + 999) / 1000);
	WaitEvent event = {0};

	if (have_multi())
	{
		ensure_wait_set();
		(void) WaitEventSetWait(mux.wait_set, timeout_ms, &event, 1, wait_event);
	}
	else
		event.events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 timeout_ms, wait_event);
	if (event.events & WL_LATCH_SET)
		ResetLatch(MyLatch);
}

/*
 * Wait for something to do, at most until wake_us, and serve interrupts.  When sockets are ready
 * or the timer is due already there is no wait, hence none of its system calls: that is the normal
 * state of a busy loop.  Nothing is lost when the interrupt throws, as epoll is level-triggered.
 */
void
pgl_mux_wait(int64_t wake_us, uint32_t wait_event)
{
	int64_t now_us = pgl_clock_us();

	wake_us = Min(wake_us, mux.timer_us);
	mux.nready = poll_sockets();
	if (mux.nready == 0 && wake_us > now_us)
	{
		wait_for_event(wake_us - now_us, wait_event);
		CHECK_FOR_INTERRUPTS();
		mux.nready = poll_sockets();
		return;
	}
	CHECK_FOR_INTERRUPTS();
}

/*
 * Tell libcurl about one ready socket.  When an idle one is ready, its peer has closed it or says
 * something unasked; libcurl finds out before the next request.  Until then nobody listens.
 */
static void
dispatch_socket(const struct epoll_event *event)
{
	PglSocketWatch *watch = pgl_socket_watch(event->data.fd);
	int mask = 0;
	int running;

	if (watch != NULL && watch->is_idle)
	{
		unwatch_socket(event->data.fd, watch);
		return;
	}
	if (event->events & EPOLLIN)
		mask |= CURL_CSELECT_IN;
	if (event->events & EPOLLOUT)
		mask |= CURL_CSELECT_OUT;
	if (event->events & (EPOLLERR | EPOLLHUP))
		mask |= CURL_CSELECT_ERR;
	(void) curl_multi_socket_action(mux.multi, event->data.fd, mask, &running);
}

/*
 * Batch after batch of ready sockets until none is left or the time is up: a hundred handshakes
 * take a while, and who has its reply shall not wait for everybody else's before it sends the next
 * request.  Those left over are still ready in the next turn, after interrupts.
 */
static void
dispatch_sockets(int64_t stop_us)
{
	int i = 0;

	while (i < mux.nready)
	{
		dispatch_socket(&mux.ready[i++]);
		if (pgl_clock_us() >= stop_us)
			break;
		if (i == EVENT_BATCH)
		{
			mux.nready = poll_sockets();
			i = 0;
		}
	}
	mux.nready = 0;
}

/* Let libcurl work on what pgl_mux_wait found: ready sockets, then its timer. */
void
pgl_mux_dispatch(void)
{
	sigset_t saved;
	int64_t now_us = pgl_clock_us();
	int running;

	if (!have_multi() || (mux.nready == 0 && mux.timer_us > now_us))
		return;
	block_signals(&saved);
	dispatch_sockets(now_us + LONGEST_DISPATCH_US);
	if (mux.timer_us <= pgl_clock_us())
	{
		/* Spent before the call: libcurl sets the next one from inside. */
		mux.timer_us = NO_TIMER;
		(void) curl_multi_socket_action(mux.multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	restore_signals(&saved);
}

/* The next handle that libcurl is done with; it is still attached. */
CURL *
pgl_mux_next_ended(CURLcode *result)
{
	CURLMsg *message;
	int left;

	if (!have_multi())
		return NULL;
	while ((message = curl_multi_info_read(mux.multi, &left)) != NULL)
	{
		if (message->msg != CURLMSG_DONE)
			continue;
		*result = message->data.result;
		return message->easy_handle;
	}
	return NULL;
}
