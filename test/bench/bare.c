/*
 * bare.c — the rival of every latency figure: the same calls by libcurl alone.
 *
 * What a careful programmer would write without pgllm: kept connections, the body of the same
 * request, and, with --sign and --scan, the same signature and the same reading of the reply
 * through src/core.  No limits, no routing, no metering, no PostgreSQL.  One call at a time runs
 * through an easy handle, more through a multi handle driven by epoll.
 *
 *	bare --url URL [--calls N] [--warm N] [--inflight N] [--sign] [--scan] [--prompt BYTES]
 *	     [--token BYTES] [--ca FILE] [--http2] [--capath]
 *	bare --spin ROUNDS            a fixed loop: how fast is this machine just now?
 *
 * Prints one JSON object: calls, microseconds of wall and CPU time, percentiles of one call.
 */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "json.h"
#include "sigv4.h"

#define MODEL_PATH "/model/bench.model-v1%3A0/converse"
#define MAX_REPLY (1024 * 1024)
#define EVENTS 64

typedef struct Options
{
	const char *base;
	const char *authority;
	const char *ca_file;
	int calls;
	int warm;
	int inflight;
	int prompt_bytes;
	int token_bytes;
	bool sign;
	bool scan;
	bool http2;
	bool capath; /* leave libcurl's default directory of authorities on */
} Options;

/* One place in flight. */
typedef struct Slot
{
	CURL *easy;
	struct curl_slist *headers;
	PglBuf reply;
	PglBuf answer;
	int64_t started_ns;
} Slot;

static Options options = {.calls = 1000, .inflight = 1, .prompt_bytes = 850, .token_bytes = 880};
static PglBuf body;
static char *token;
static char url[512];
static double *latencies_us;
static int started;
static int finished;
static int failed;
static CURLM *multi;
static int epoll_fd;
static int64_t multi_timer_ns = -1;

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t
cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000) +
		   usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void
die(const char *message)
{
	fprintf(stderr, "bare: %s\n", message);
	exit(1);
}

/* ---- request ---- */

static void
make_body(void)
{
	pgl_buf_init(&body, MAX_REPLY);
	pgl_buf_append_str(&body, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"");
	for (int i = 0; i < options.prompt_bytes; i++)
		pgl_buf_append_char(&body, 'x');
	pgl_buf_append_str(&body, "\"}]}],\"inferenceConfig\":{\"maxTokens\":1024}}");
}

static void
add_header(Slot *slot, const char *name, const char *value)
{
	char line[8192];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	slot->headers = curl_slist_append(slot->headers, line);
}

static void
add_signature(Slot *slot)
{
	char date[PGL_SIGV4_DATE_SIZE];
	PglBuf authorization;
	PglSigv4Header headers[] = {{"content-type", "application/json"},
								{"accept", "application/json"},
								{"x-amz-date", date},
								{"x-amz-security-token", token},
								{"host", options.authority}};
	PglSigv4Request request = {.method = "POST",
							   .path = MODEL_PATH,
							   .headers = headers,
							   .nheaders = 5,
							   .body = body.data,
							   .body_len = body.len,
							   .access_key = "AKIABENCHMARK0000001",
							   .secret_key = "benchmark-secret-access-key-of-40-letters",
							   .region = "us-east-1",
							   .service = "bedrock",
							   .amz_date = date};

	pgl_buf_init(&authorization, 4096);
	pgl_sigv4_format_date(time(NULL), date);
	if (!pgl_sigv4_sign(&request, &authorization, NULL))
		die("could not sign");
	add_header(slot, "x-amz-date", date);
	add_header(slot, "x-amz-security-token", token);
	add_header(slot, "authorization", authorization.data);
	pgl_buf_free(&authorization);
}

static void
prepare_headers(Slot *slot)
{
	curl_slist_free_all(slot->headers);
	slot->headers = curl_slist_append(NULL, "Expect:");
	add_header(slot, "content-type", "application/json");
	add_header(slot, "accept", "application/json");
	if (options.sign)
		add_signature(slot);
	curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers);
}

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	Slot *slot = arg;

	return pgl_buf_append(&slot->reply, data, size * count) ? size * count : 0;
}

static void
open_slot(Slot *slot)
{
	slot->easy = curl_easy_init();
	pgl_buf_init(&slot->reply, MAX_REPLY);
	pgl_buf_init(&slot->answer, MAX_REPLY);
	curl_easy_setopt(slot->easy, CURLOPT_URL, url);
	curl_easy_setopt(slot->easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, body.data);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long) body.len);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot);
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(slot->easy, CURLOPT_TIMEOUT_MS, 60000L);
	curl_easy_setopt(slot->easy, CURLOPT_HTTP_VERSION,
					 (long) (options.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(slot->easy, CURLOPT_PIPEWAIT, options.http2 ? 1L : 0L);
	if (options.ca_file)
		curl_easy_setopt(slot->easy, CURLOPT_CAINFO, options.ca_file);
	if (!options.capath)
		curl_easy_setopt(slot->easy, CURLOPT_CAPATH, NULL);
}

/* ---- reply ---- */

/* Every member is visited, strings on the way to the answer are decoded. */
static void
scan_value(PglJsonScan *scan, PglBuf *answer, int *texts)
{
	PglJsonKey key;
	int64_t number;

	while (pgl_json_next_key(scan, &key))
	{
		if (pgl_json_key_is(&key, "output") || pgl_json_key_is(&key, "message") ||
			pgl_json_key_is(&key, "usage"))
		{
			if (pgl_json_begin_object(scan))
				scan_value(scan, answer, texts);
		}
		else if (pgl_json_key_is(&key, "content"))
		{
			if (pgl_json_begin_array(scan))
				while (pgl_json_next_element(scan))
					if (pgl_json_begin_object(scan))
						scan_value(scan, answer, texts);
		}
		else if (pgl_json_key_is(&key, "text"))
			*texts += pgl_json_get_string(scan, answer);
		else if (pgl_json_key_is(&key, "inputTokens") || pgl_json_key_is(&key, "outputTokens"))
			pgl_json_get_int(scan, &number);
		else
			pgl_json_skip(scan);
	}
}

static bool
read_reply(Slot *slot)
{
	PglJsonScan scan;
	int texts = 0;

	pgl_buf_reset(&slot->answer);
	pgl_json_scan_init(&scan, pgl_buf_str(&slot->reply), slot->reply.len);
	if (pgl_json_begin_object(&scan))
		scan_value(&scan, &slot->answer, &texts);
	return pgl_json_finish(&scan) && texts > 0;
}

static void
finish(Slot *slot, CURLcode code, int first_measured)
{
	long status = 0;

	curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK || status != 200 || (options.scan && !read_reply(slot)))
		failed++;
	if (finished >= first_measured)
		latencies_us[finished - first_measured] = (double) (now_ns() - slot->started_ns) / 1000;
	finished++;
}

/* ---- one at a time ---- */

static void
run_serial(Slot *slot, int calls, int first_measured)
{
	for (int i = 0; i < calls; i++)
	{
		slot->started_ns = now_ns();
		prepare_headers(slot);
		pgl_buf_reset(&slot->reply);
		finish(slot, curl_easy_perform(slot->easy), first_measured);
	}
}

/* ---- many at a time ---- */

static int
set_timer(CURLM *unused, long timeout_ms, void *arg)
{
	(void) unused;
	(void) arg;
	multi_timer_ns = timeout_ms < 0 ? -1 : now_ns() + timeout_ms * INT64_C(1000000);
	return 0;
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *per_socket)
{
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	(void) arg;
	(void) per_socket;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
	return 0;
}

static void
start(Slot *slot)
{
	started++;
	slot->started_ns = now_ns();
	prepare_headers(slot);
	pgl_buf_reset(&slot->reply);
	curl_multi_add_handle(multi, slot->easy);
}

static void
collect(int goal, int first_measured)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURLcode code = message->data.result;
		Slot *slot;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &slot);
		curl_multi_remove_handle(multi, slot->easy);
		finish(slot, code, first_measured);
		if (started < goal)
			start(slot);
	}
}

static void
turn(void)
{
	struct epoll_event ready[EVENTS];
	int timeout_ms = 1000;
	int running;
	int n;

	if (multi_timer_ns >= 0)
	{
		int64_t left = multi_timer_ns - now_ns();

		timeout_ms = left <= 0 ? 0 : (int) ((left + 999999) / 1000000);
	}
	n = epoll_wait(epoll_fd, ready, EVENTS, timeout_ms);
	for (int i = 0; i < n; i++)
	{
		int mask = (ready[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
				   (ready[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
				   (ready[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		curl_multi_socket_action(multi, ready[i].data.fd, mask, &running);
	}
	if (multi_timer_ns >= 0 && multi_timer_ns <= now_ns())
	{
		multi_timer_ns = -1;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
}

static void
run_multi(Slot *slots, int calls, int first_measured)
{
	int goal = started + calls;

	for (int i = 0; i < options.inflight && started < goal; i++)
		start(&slots[i]);
	while (finished < goal)
	{
		turn();
		collect(goal, first_measured);
	}
}

/* ---- main ---- */

static void
run(Slot *slots, int calls, int first_measured)
{
	if (options.inflight == 1)
		run_serial(slots, calls, first_measured);
	else
		run_multi(slots, calls, first_measured);
}

static int
compare_doubles(const void *a, const void *b)
{
	double left = *(const double *) a;
	double right = *(const double *) b;

	return left < right ? -1 : left > right;
}

static void
spin(long rounds)
{
	volatile uint64_t x = 88172645463325252u;
	int64_t began = now_ns();
	int64_t cpu = cpu_us();

	for (long i = 0; i < rounds; i++)
	{
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	printf("{\"wall_us\":%lld,\"cpu_us\":%lld}\n", (long long) (now_ns() - began) / 1000,
		   (long long) (cpu_us() - cpu));
}

static void
read_options(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "--sign") == 0)
			options.sign = true;
		else if (strcmp(argv[i], "--scan") == 0)
			options.scan = true;
		else if (strcmp(argv[i], "--http2") == 0)
			options.http2 = true;
		else if (strcmp(argv[i], "--capath") == 0)
			options.capath = true;
		else if (strcmp(argv[i], "--url") == 0)
			options.base = value, i++;
		else if (strcmp(argv[i], "--ca") == 0)
			options.ca_file = value, i++;
		else if (strcmp(argv[i], "--calls") == 0)
			options.calls = atoi(value), i++;
		else if (strcmp(argv[i], "--warm") == 0)
			options.warm = atoi(value), i++;
		else if (strcmp(argv[i], "--inflight") == 0)
			options.inflight = atoi(value), i++;
		else if (strcmp(argv[i], "--prompt") == 0)
			options.prompt_bytes = atoi(value), i++;
		else if (strcmp(argv[i], "--token") == 0)
			options.token_bytes = atoi(value), i++;
		else if (strcmp(argv[i], "--spin") == 0)
		{
			spin(atol(value));
			exit(0);
		}
		else
			die("unknown option");
	}
	if (options.base == NULL || strstr(options.base, "://") == NULL || options.inflight < 1)
		die("--url scheme://host:port is needed");
	options.authority = strstr(options.base, "://") + 3;
}

int
main(int argc, char **argv)
{
	Slot *slots;
	int64_t began;
	int64_t cpu;

	read_options(argc, argv);
	began = now_ns();
	cpu = cpu_us();
	snprintf(url, sizeof(url), "%s%s", options.base, MODEL_PATH);
	token = malloc((size_t) options.token_bytes + 1);
	memset(token, 't', (size_t) options.token_bytes);
	token[options.token_bytes] = '\0';
	make_body();
	curl_global_init(CURL_GLOBAL_DEFAULT);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 4096L);
	curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, 2000L);
	slots = calloc((size_t) options.inflight, sizeof(Slot));
	for (int i = 0; i < options.inflight; i++)
		open_slot(&slots[i]);
	latencies_us = calloc((size_t) options.calls + 1, sizeof(double));

	/* Without a warm-up the set-up above counts as well: that is the cold start. */
	if (options.warm > 0)
	{
		run(slots, options.warm, options.warm + options.calls);
		began = now_ns();
		cpu = cpu_us();
	}
	run(slots, options.calls, options.warm);
	printf("{\"calls\":%d,\"failed\":%d,\"wall_us\":%lld,\"cpu_us\":%lld,", options.calls, failed,
		   (long long) (now_ns() - began) / 1000, (long long) (cpu_us() - cpu));
	qsort(latencies_us, (size_t) options.calls, sizeof(double), compare_doubles);
	printf("\"p50_us\":%.2f,\"p99_us\":%.2f}\n", latencies_us[options.calls / 2],
		   latencies_us[options.calls * 99 / 100]);
	return failed > 0;
}
