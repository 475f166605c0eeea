/*
 * Runs a fuzz target over files instead of under libFuzzer, so that every input that was ever
 * interesting is tried by every build: usage: fuzz_NAME PATH..., a directory standing for the files in
 * it. The empty input always comes first.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned inputs;

static void fail(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	exit(1);
}

static void run(const uint8_t *data, size_t size)
{
	inputs++;
	(void)LLVMFuzzerTestOneInput(data, size);
}

static void run_file(const char *path, size_t size)
{
	/* Exactly as large as the input, so that AddressSanitizer sees a read beyond it. */
	uint8_t *data = malloc(size > 0 ? size : 1);
	FILE *file = fopen(path, "rb");
	if (data == NULL || file == NULL)
		fail(path);
	if (fread(data, 1, size, file) != size) {
		errno = EIO;
		fail(path);
	}
	(void)fclose(file);

	printf("%s (%zu bytes)\n", path, size);
	(void)fflush(stdout); /* names the input that kills us */
	run(data, size);
	free(data);
}

static void run_path(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		fail(path);
	if (!S_ISDIR(st.st_mode)) {
		run_file(path, (size_t)st.st_size);
		return;
	}

	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);
	if (count < 0)
		fail(path);
	for (int i = 0; i < count; i++) {
		char *name;
		if (asprintf(&name, "%s/%s", path, names[i]->d_name) < 0)
			fail(path);
		if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
			run_file(name, (size_t)st.st_size);
		free(name);
		free(names[i]);
	}
	free(names);
}

int main(int argc, char **argv)
{
	if (LLVMFuzzerInitialize != NULL)
		(void)LLVMFuzzerInitialize(&argc, &argv);

	run((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		run_path(argv[i]);
	printf("%u inputs\n", inputs);
	return 0;
}
