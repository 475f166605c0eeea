#include "cloud/s3_secret.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { STACK_WIPED = 32 << 10 };

void *s3_secret_alloc(size_t size)
{
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return NULL;
	(void)madvise(data, size, MADV_DONTDUMP);
	(void)mlock(data, size);
	return data;
}

void s3_secret_free(void *data, size_t size)
{
	if (!data)
		return;
	explicit_bzero(data, size);
	(void)munmap(data, size);
}

__attribute__((noinline)) void s3_secret_wipe_stack(void)
{
	uint8_t stack[STACK_WIPED];
	explicit_bzero(stack, sizeof(stack));
}
