/*
 * s3_probe: a block store in the hands of a script.
 *
 *   s3_probe [--OPTION VALUE]... URL COMMAND [ARGUMENT]...      one call
 *   s3_probe [--OPTION VALUE]... URL -                          a command a line from standard input
 *
 * Options: --bare 1 (the S3 client alone: no retries), --endpoint, --region, --profile, --credentials, --ca,
 * --virtual-host 1, --connect-ms, --stall-ms, --deadline-ms, --delay-ms (the longest between two attempts).
 *
 * Commands:
 *   put KEY FILE [FIRST_FRAME]   replace KEY FILE    get KEY FILE    range KEY OFFSET SIZE FILE
 *   head KEY   list PREFIX|- [AFTER]   delete KEY   status
 *   many UUID COUNT SIZE THREADS           puts COUNT blocks of SIZE bytes of a segment, THREADS at a time
 *   sleep MS   stop MS                      in so much time from now, whatever runs then
 *
 * Each answers with one line of JSON: {"code": 0 or -errno, "error": "...", "retry_after_ms": N, ...}. Exit code: 0 the last
 * one succeeded, 1 it failed, 2 wrong use.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "cloud/cloud.h"

enum { WORDS_MAX = 8, LINE_SIZE = 1024, NAME_SIZE = 512, THREADS_MAX = 64 };

struct probe {
	struct block_store *store;
	struct reterr err;
	char *words[WORDS_MAX];
	int count;
};

static void print_text(const char *name, const char *text)
{
	(void)printf(", \"%s\": \"", name);
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		if (*at < 0x20 || *at == '"' || *at == '\\' || *at >= 0x7f)
			(void)printf("\\u%04x", *at);
		else
			(void)putchar(*at);
	}
	(void)putchar('"');
}

static void print_number(const char *name, uint64_t value)
{
	(void)printf(", \"%s\": %" PRIu64, name, value);
}

static void print_head(const struct block_head *head)
{
	char text[HASH_TEXT_LENGTH + 1];

	print_number("size", head->size);
	print_number("modified_ns", head->modified_ns);
	print_number("recorded", head->recorded);
	if (head->first_frame != BLOCK_NO_FRAME)
		print_number("first_frame", head->first_frame);
	print_text("hash", hash_format(&head->hash, text));
	print_text("etag", head->etag);
}

static int number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || end == text || *end)
		return -EINVAL;
	*ret = value;
	return 0;
}

/* ---- Files ---------------------------------------------------------------------------------- */

static int load(const char *path, void **ret, size_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	size_t size = (size_t)st.st_size;
	void *data = malloc(size + 1);
	ssize_t n = data ? read(fd, data, size + 1) : 0;
	(void)close(fd);
	if (!data || n != (ssize_t)size) {
		free(data);
		return data ? -EIO : -ENOMEM;
	}
	*ret = data;
	*ret_size = size;
	return 0;
}

static int save(const char *path, const void *data, size_t size)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return -errno;
	size_t n = fwrite(data, 1, size, file);
	return fclose(file) == 0 && n == size ? 0 : -EIO;
}

/* ---- Commands: 0 or -errno; they print members of the answer ---------------------------------- */

static int do_put(struct probe *p)
{
	void *data = NULL;
	size_t size = 0;
	uint64_t first_frame = BLOCK_NO_FRAME;

	int r = p->count > 3 ? number(p->words[3], &first_frame) : 0;
	if (r == 0)
		r = load(p->words[2], &data, &size);
	if (r < 0)
		return r;
	if (strcmp(p->words[0], "put") == 0)
		r = block_store_put(p->store, p->words[1], data, size, first_frame, &p->err);
	else
		r = block_store_replace(p->store, p->words[1], data, size, &p->err);
	free(data);
	return r;
}

static int do_get(struct probe *p)
{
	struct block_head head = {.size = 0};
	void *data = malloc(BLOCK_STORE_SIZE_MAX);

	if (!data)
		return -ENOMEM;
	int r = block_store_get(p->store, p->words[1], data, BLOCK_STORE_SIZE_MAX, &head, &p->err);
	if (r == 0) {
		print_head(&head);
		r = save(p->words[2], data, (size_t)head.size);
	}
	free(data);
	return r;
}

static int do_range(struct probe *p)
{
	uint64_t offset, size;
	size_t got = 0;

	if (p->count < 5 || number(p->words[2], &offset) < 0 || number(p->words[3], &size) < 0 ||
	    size > BLOCK_STORE_SIZE_MAX)
		return -EINVAL;
	void *data = malloc(size + 1);
	if (!data)
		return -ENOMEM;
	int r = block_store_get_range(p->store, p->words[1], data, size, offset, &got, &p->err);
	if (r == 0) {
		print_number("got", got);
		r = save(p->words[4], data, got);
	}
	free(data);
	return r;
}

static int do_head(struct probe *p)
{
	struct block_head head;
	int r = block_store_head(p->store, p->words[1], &head, &p->err);

	if (r == 0)
		print_head(&head);
	return r;
}

static int list_one(void *arg, const char *key, uint64_t size)
{
	bool *first = arg;

	(void)printf("%s[\"%s\", %" PRIu64 "]", *first ? "" : ", ", key, size);
	*first = false;
	return 0;
}

static int do_list(struct probe *p)
{
	bool first = true;
	const char *prefix = strcmp(p->words[1], "-") == 0 ? "" : p->words[1];

	(void)printf(", \"keys\": [");
	int r = block_store_list(p->store, prefix, p->count > 2 ? p->words[2] : "", list_one,
				 &first, &p->err);
	(void)printf("]");
	return r;
}

static int do_delete(struct probe *p)
{
	return block_store_delete(p->store, p->words[1], &p->err);
}

static int do_status(struct probe *p)
{
	static const char *const names[BLOCK_REQUESTS] = {"PUT", "GET", "HEAD", "LIST", "DELETE"};
	struct block_store_status s;

	block_store_status(p->store, &s);
	print_text("place", s.place);
	print_number("conditional", s.conditional);
	for (unsigned i = 0; i < BLOCK_REQUESTS; i++)
		print_number(names[i], s.requests[i]);
	print_number("bytes_sent", s.bytes_sent);
	print_number("bytes_received", s.bytes_received);
	print_number("retries", s.retries);
	print_number("failures", s.failures);
	print_text("last_error", s.last_error.text);
	return 0;
}

static int do_sleep(struct probe *p)
{
	uint64_t ms;

	if (number(p->words[1], &ms) < 0)
		return -EINVAL;
	struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
	(void)nanosleep(&t, NULL);
	return 0;
}

struct stop {
	struct block_store *store;
	uint64_t ms;
};

static void *stop_later(void *arg)
{
	const struct stop *stop = arg;
	struct timespec t = {.tv_sec = (time_t)(stop->ms / 1000),
			     .tv_nsec = (long)(stop->ms % 1000) * 1000000};

	(void)nanosleep(&t, NULL);
	block_store_stop(stop->store);
	return NULL;
}

/* The store must live until then. */
static int do_stop(struct probe *p)
{
	static struct stop stop;
	pthread_t thread;

	if (number(p->words[1], &stop.ms) < 0)
		return -EINVAL;
	stop.store = p->store;
	int r = pthread_create(&thread, NULL, stop_later, &stop);
	return r == 0 ? -pthread_detach(thread) : -r;
}

/* ---- Many blocks at once ---------------------------------------------------------------------- */

struct many {
	struct probe *probe;
	const char *uuid;
	uint64_t count, size;
	atomic_uint_fast64_t next;
	pthread_mutex_t lock; /* of what follows */
	int first_error;
	struct reterr err; /* of it */
	uint64_t failed;
};

static void many_failed(struct many *m, int code, const struct reterr *err)
{
	(void)pthread_mutex_lock(&m->lock);
	if (m->failed++ == 0) {
		m->first_error = code;
		m->err = *err;
	}
	(void)pthread_mutex_unlock(&m->lock);
}

static void *many_work(void *arg)
{
	struct many *m = arg;
	uint8_t *data = malloc(m->size);
	uint64_t i;

	if (!data) {
		many_failed(m, -ENOMEM, &(struct reterr){.code = -ENOMEM});
		return NULL;
	}
	while ((i = atomic_fetch_add(&m->next, 1)) < m->count) {
		struct reterr err = {.code = 0};
		char key[BLOCK_KEY_MAX + 1];

		/* Whoever looks at the bucket knows what must be there. */
		memset(data, (int)(i % 251), m->size);
		(void)snprintf(key, sizeof(key), "wal/%s/%020" PRIu64, m->uuid, i * m->size);
		int r = block_store_put(m->probe->store, key, data, m->size, BLOCK_NO_FRAME, &err);
		if (r < 0)
			many_failed(m, r, &err);
	}
	free(data);
	return NULL;
}

static int do_many(struct probe *p)
{
	struct many m = {.probe = p, .uuid = p->words[1], .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t threads[THREADS_MAX];
	uint64_t count, started = 0;

	if (p->count < 5 || number(p->words[2], &m.count) < 0 || number(p->words[3], &m.size) < 0 ||
	    number(p->words[4], &count) < 0 || count > THREADS_MAX || m.size == 0)
		return -EINVAL;
	while (started < count && pthread_create(&threads[started], NULL, many_work, &m) == 0)
		started++;
	for (uint64_t i = 0; i < started; i++)
		(void)pthread_join(threads[i], NULL);
	print_number("failed", m.failed);
	p->err = m.err;
	return started ? m.first_error : -EAGAIN;
}

/* ---- The command line ----------------------------------------------------------------------- */

static const struct command {
	const char *name;
	int words; /* at least */
	int (*run)(struct probe *probe);
} commands[] = {
	{"put", 3, do_put},       {"replace", 3, do_put},   {"get", 3, do_get},
	{"range", 5, do_range},   {"head", 2, do_head},     {"list", 2, do_list},
	{"delete", 2, do_delete}, {"status", 1, do_status}, {"many", 5, do_many},
	{"sleep", 2, do_sleep},   {"stop", 2, do_stop},
};

static int run_command(struct probe *p)
{
	int r = -EINVAL;

	p->err = (struct reterr){.code = 0};
	(void)printf("{\"command\": \"%s\"", p->words[0]);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(p->words[0], commands[i].name) == 0 && p->count >= commands[i].words)
			r = commands[i].run(p);
	}
	(void)printf(", \"code\": %d", r);
	print_text("error", r < 0 ? p->err.text : "");
	print_number("retry_after_ms", r < 0 ? p->err.retry_after_ms : 0);
	(void)printf("}\n");
	(void)fflush(stdout);
	return r;
}

static int run_lines(struct probe *p)
{
	char line[LINE_SIZE];
	int r = 0;

	while (fgets(line, sizeof(line), stdin)) {
		char *rest = line;

		p->count = 0;
		for (char *word; p->count < WORDS_MAX && (word = strtok_r(rest, " \n", &rest));)
			p->words[p->count++] = word;
		if (p->count > 0)
			r = run_command(p);
	}
	return r;
}

/* s3://bucket/prefix for the client alone, which takes them apart. */
static int open_bare(const char *url, struct s3_options *options, struct reterr *err,
		     struct block_store **ret)
{
	static char name[NAME_SIZE];

	if (strncmp(url, "s3://", 5) != 0 || strlen(url) >= sizeof(name))
		return reterr_set(err, -EINVAL, "%s is no s3://bucket/prefix", url);
	(void)snprintf(name, sizeof(name), "%s", url + 5);
	char *slash = strchr(name, '/');
	options->bucket = name;
	if (slash) {
		*slash = '\0';
		options->prefix = slash + 1;
	}
	return block_store_s3_open(options, err, ret);
}

struct arguments {
	struct cloud_options cloud;
	bool bare;
};

static int take_option(struct arguments *a, int c, char *text)
{
	struct s3_options *s3 = &a->cloud.s3;
	uint64_t value = 0;

	switch (c) {
	case 'e':
		s3->endpoint = text;
		return 0;
	case 'r':
		s3->region = text;
		return 0;
	case 'p':
		s3->profile = text;
		return 0;
	case 'c':
		s3->credentials_file = text;
		return 0;
	case 'a':
		s3->ca_bundle = text;
		return 0;
	default:
		break;
	}
	if (c == '?' || number(text, &value) < 0)
		return -EINVAL;
	if (c == 'b')
		a->bare = value != 0;
	else if (c == 'v')
		s3->virtual_host = value != 0;
	else if (c == 'C')
		s3->connect_timeout_ms = value;
	else if (c == 'S')
		s3->stall_timeout_ms = value;
	else if (c == 'D')
		a->cloud.retry.deadline_ms = value;
	else
		a->cloud.retry.delay_max_ms = value;
	return 0;
}

static int take_options(int argc, char **argv, struct arguments *ret)
{
	static const struct option known[] = {
		{"bare", required_argument, NULL, 'b'},
		{"endpoint", required_argument, NULL, 'e'},
		{"region", required_argument, NULL, 'r'},
		{"profile", required_argument, NULL, 'p'},
		{"credentials", required_argument, NULL, 'c'},
		{"ca", required_argument, NULL, 'a'},
		{"virtual-host", required_argument, NULL, 'v'},
		{"connect-ms", required_argument, NULL, 'C'},
		{"stall-ms", required_argument, NULL, 'S'},
		{"deadline-ms", required_argument, NULL, 'D'},
		{"delay-ms", required_argument, NULL, 'd'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1) {
		if (take_option(ret, c, optarg) < 0)
			return -EINVAL;
	}
	return argc - optind >= 2 && argc - optind - 1 <= WORDS_MAX ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {.bare = false};
	struct probe probe = {.store = NULL};

	if (take_options(argc, argv, &arguments) < 0) {
		(void)fprintf(stderr, "usage: s3_probe [--OPTION VALUE]... URL COMMAND...|-\n");
		return 2;
	}
	const char *url = argv[optind++];
	int r = arguments.bare ? open_bare(url, &arguments.cloud.s3, &probe.err, &probe.store)
			       : cloud_open(url, &arguments.cloud, &probe.err, &probe.store);
	if (r < 0) {
		(void)printf("{\"command\": \"open\", \"code\": %d", r);
		print_text("error", probe.err.text);
		(void)printf("}\n");
		return 1;
	}
	if (strcmp(argv[optind], "-") == 0) {
		r = run_lines(&probe);
	} else {
		while (optind < argc)
			probe.words[probe.count++] = argv[optind++];
		r = run_command(&probe);
	}
	block_store_free(probe.store);
	return r < 0 ? 1 : 0;
}
