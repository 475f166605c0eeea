#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || end == text || *end != '\0' || value < min || value > max)
		return -EINVAL;
	*ret = value;
	return 0;
}

static int take_number(struct options *options, int c, const char *text)
{
	uint64_t value;

	if (parse_number(text, c == 'n' ? 0 : 1, (uint64_t)1 << 48, &value) < 0)
		return -EINVAL;
	switch (c) {
	case 'n':
		options->count = value;
		return 0;
	case 's':
		options->size = value;
		return 0;
	case 'R':
		options->rate = value;
		return 0;
	default:
		break;
	}
	if (value > 1000000 || (c == 'j' && value > BATCH_THREADS_MAX))
		return -EINVAL;
	if (c == 'r')
		options->rounds = (unsigned)value;
	else if (c == 'b')
		options->batch_ms = (unsigned)value;
	else
		options->threads = (unsigned)value;
	return 0;
}

static int take(struct options *options, int c, const char *text)
{
	switch (c) {
	case 'd':
		options->dir = text;
		return 0;
	case 'm':
		options->mount = text;
		return 0;
	case 'z':
		options->null = text;
		return 0;
	case 'S':
		options->store = text;
		return 0;
	case 'o':
		options->path_ours = text;
		return 0;
	case 'e':
		options->path_base = text;
		return 0;
	case 'B':
		options->bucket = text;
		return 0;
	case '?':
		return -EINVAL;
	default:
		return take_number(options, c, text);
	}
}

static int parse(int argc, char **argv, struct options *ret)
{
	static const struct option known[] = {
		{"dir", required_argument, NULL, 'd'},
		{"mount", required_argument, NULL, 'm'},
		{"null", required_argument, NULL, 'z'},
		{"store", required_argument, NULL, 'S'},
		{"ours", required_argument, NULL, 'o'},
		{"base", required_argument, NULL, 'e'},
		{"rounds", required_argument, NULL, 'r'},
		{"batch-ms", required_argument, NULL, 'b'},
		{"threads", required_argument, NULL, 'j'},
		{"count", required_argument, NULL, 'n'},
		{"size", required_argument, NULL, 's'},
		{"bucket", required_argument, NULL, 'B'},
		{"rate", required_argument, NULL, 'R'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (take(ret, c, optarg) < 0)
			return -EINVAL;
	}
	return optind == argc ? 0 : -EINVAL;
}

static int usage(const char *program, const struct verb *verbs, size_t count)
{
	(void)fprintf(stderr,
		      "usage: %s VERB [--dir DIR] [--rounds N] [--batch-ms N] [--threads N] "
		      "[--count N] [--size BYTES]\n"
		      "       [--mount DIR] [--null DIR] [--store DIR] [--ours PATH] "
		      "[--base PATH] [--bucket NAME] [--rate BYTES]\nVERB:",
		      program);
	for (size_t i = 0; i < count; i++)
		(void)fprintf(stderr, " %s", verbs[i].name);
	(void)fprintf(stderr, "\n(./dev bench runs it with the right ones.)\n");
	return 2;
}

int options_main(int argc, char **argv, const struct verb *verbs, size_t count)
{
	struct options options = {.rounds = 20, .batch_ms = 300, .threads = 1};

	if (argc < 2 || parse(argc - 1, argv + 1, &options) < 0)
		return usage(argv[0], verbs, count);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		int r = verbs[i].run(&options);
		if (r < 0)
			(void)fprintf(stderr, "%s %s: %s\n", argv[0], argv[1], strerror(-r));
		return r < 0 ? 1 : 0;
	}
	return usage(argv[0], verbs, count);
}
