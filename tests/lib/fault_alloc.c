#include "tests/lib/fault_alloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WEAK __attribute__((weak))

/* What --wrap calls the originals; absent from a program that was linked without it. */
WEAK void *__real_malloc(size_t size);
WEAK void *__real_calloc(size_t count, size_t size);
WEAK void *__real_realloc(void *data, size_t size);
WEAK void *__real_aligned_alloc(size_t alignment, size_t size);
WEAK int __real_posix_memalign(void **ret, size_t alignment, size_t size);

/* What it makes our objects call. */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *data, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size_max);

static _Atomic uint64_t countdown; /* 0: off */
static atomic_bool failed;
static _Thread_local unsigned paused;

void fault_alloc_fail(uint64_t n)
{
	atomic_store(&failed, false);
	atomic_store(&countdown, n);
}

bool fault_alloc_stop(void)
{
	atomic_store(&countdown, 0);
	return atomic_load(&failed);
}

void fault_alloc_pause(void)
{
	paused++;
}

void fault_alloc_resume(void)
{
	paused--;
}

static bool must_fail(void)
{
	if (paused)
		return false;
	uint64_t left = atomic_load(&countdown);
	do {
		if (left == 0)
			return false;
	} while (!atomic_compare_exchange_weak(&countdown, &left, left - 1));
	if (left != 1)
		return false;
	atomic_store(&failed, true);
	errno = ENOMEM;
	return true;
}

bool fault_alloc_available(void)
{
	/* Atomic, so that the compiler keeps the allocation. */
	static _Atomic(void *) probe;

	fault_alloc_fail(1);
	atomic_store(&probe, malloc(1));
	free(atomic_load(&probe));
	return fault_alloc_stop();
}

void *__wrap_malloc(size_t size)
{
	return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return must_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *data, size_t size)
{
	return must_fail() ? NULL : __real_realloc(data, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return must_fail() ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size)
{
	return must_fail() ? ENOMEM : __real_posix_memalign(ret, alignment, size);
}

char *__wrap_strndup(const char *text, size_t size_max)
{
	size_t length = strnlen(text, size_max);
	char *copy = must_fail() ? NULL : __real_malloc(length + 1);
	if (!copy)
		return NULL;
	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

char *__wrap_strdup(const char *text)
{
	return __wrap_strndup(text, strlen(text));
}
