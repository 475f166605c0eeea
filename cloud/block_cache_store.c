/*
 * What the cache has on the disk: its directory, what is kept, what goes.
 *
 * The limit holds at every moment: USED counts a file until it is unlinked, RESERVED one from before
 * it is made. So `used + reserved <= size_max`, whatever races with whatever.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/invariant.h"
#include "cloud/block_cache.h"

/* ---- Going and coming ---- */

/* With the lock, which it gives up. ENTRY is busy and not pinned: nobody else touches it. */
static void unlink_entry(struct block_cache *cache, struct cache_entry *entry, bool remember)
{
	char name[CACHE_FILE_NAME_SIZE];
	(void)cache_file_name(entry->file.key, name);
	pthread_mutex_unlock(&cache->lock);
	(void)unlinkat(cache->dir_fd, name, 0);
	pthread_mutex_lock(&cache->lock);
	invariant(cache->used >= entry->disk);
	cache->used -= entry->disk;
	cache_table_remove(&cache->table, entry, remember);
	cache->dirty = true;
	free(entry);
	(void)pthread_cond_broadcast(&cache->changed);
}

void cache_drop(struct block_cache *cache, struct cache_entry *entry)
{
	entry->busy = true;
	while (entry->pins > 0)
		(void)pthread_cond_wait(&cache->changed, &cache->lock);
	unlink_entry(cache, entry, false);
}

/* With the lock, which it gives up. Reserves NEED bytes. False: they cannot be had. */
static bool make_room(struct block_cache *cache, uint64_t need)
{
	if (need > cache->table.size_max)
		return false;
	while (cache->table.size_max - need < cache->used + cache->reserved ||
	       cache->table.count >= CACHE_ENTRIES_MAX) {
		struct cache_entry *victim = cache_table_victim(&cache->table);
		if (!victim)
			return false;
		victim->busy = true;
		cache->evictions++;
		unlink_entry(cache, victim, true);
	}
	cache->reserved += need;
	return true;
}

/* With the lock. */
static void add_entry(struct block_cache *cache, struct cache_entry *entry)
{
	invariant(!cache_table_find(&cache->table, &entry->id));
	cache->used += entry->disk;
	cache_table_insert(&cache->table, entry, cache->clock->now_ms(cache->clock));
	cache->dirty = true;
}

static struct cache_entry *entry_new(const struct cache_file *file, bool verified)
{
	struct cache_entry *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->id = hash_of(file->key, strlen(file->key));
	entry->file = *file;
	entry->disk = cache_file_disk(file->head.size);
	entry->verified = verified;
	return entry;
}

bool cache_keep(struct block_cache *cache, const struct flight *flight)
{
	struct cache_entry *entry = entry_new(&flight->file, true);
	if (!entry)
		return false;
	if (cache->stopped || !make_room(cache, entry->disk)) {
		free(entry);
		return false;
	}
	uint64_t number = cache->files++;
	pthread_mutex_unlock(&cache->lock);
	int r = cache_file_write(cache->dir_fd, number, &flight->file, flight->buffer,
				 (size_t)cache->block_size);
	pthread_mutex_lock(&cache->lock);
	cache->reserved -= entry->disk;
	if (r < 0) { /* a full disk, most likely */
		free(entry);
		return false;
	}
	add_entry(cache, entry);
	cache_wake(cache);
	return true;
}

/* ---- The directory ---- */

/* Opens NAME below PARENT_FD, and makes it if it is not there. What is no directory makes way. */
static int enter(int parent_fd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(parent_fd, name, flags);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		(void)unlinkat(parent_fd, name, 0);
	if (fd < 0 && mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (fd < 0)
		fd = openat(parent_fd, name, flags);
	return fd < 0 ? -errno : fd;
}

static int open_dir(const char *dir, uint32_t server)
{
	char name[32];
	int store_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store_fd < 0)
		return -errno;
	int all_fd = enter(store_fd, "cloud_page_cache");
	(void)close(store_fd);
	if (all_fd < 0)
		return all_fd;
	(void)snprintf(name, sizeof(name), "server_%u", server);
	int fd = enter(all_fd, name);
	(void)close(all_fd);
	return fd;
}

/* ---- What an earlier process left ---- */

struct found {
	struct cache_entry *entry;
	uint64_t used_ns;
};

struct findings {
	struct found *found;
	size_t count, capacity;
};

static void findings_done(struct findings *findings)
{
	for (size_t i = 0; i < findings->count; i++)
		free(findings->found[i].entry);
	free(findings->found);
}

static int add_finding(struct findings *findings, const struct cache_file *file, uint64_t used_ns)
{
	if (findings->count == findings->capacity) {
		size_t capacity = findings->capacity ? findings->capacity * 2 : 64;
		struct found *found = realloc(findings->found, capacity * sizeof(*found));
		if (!found)
			return -ENOMEM;
		findings->found = found;
		findings->capacity = capacity;
	}
	struct cache_entry *entry = entry_new(file, false);
	if (!entry)
		return -ENOMEM;
	findings->found[findings->count++] = (struct found){.entry = entry, .used_ns = used_ns};
	return 0;
}

/* One name of the directory. What is not ours stays where it is. */
static int look_at(struct block_cache *cache, struct findings *findings, const char *name)
{
	struct hash id;
	struct cache_file file;
	uint64_t used_ns;
	if (strncmp(name, CACHE_FILE_TEMPORARY, strlen(CACHE_FILE_TEMPORARY)) == 0) {
		(void)unlinkat(cache->dir_fd, name, 0);
		return 0;
	}
	if (strlen(name) != HASH_TEXT_LENGTH || hash_parse(name, &id) < 0)
		return 0;
	int r = cache_file_load(cache->dir_fd, name, &file, &used_ns);
	if (r == -EINVAL || r == -ENOENT)
		return 0;
	if (r == 0 && findings->count < CACHE_ENTRIES_MAX)
		return add_finding(findings, &file, used_ns);
	cache->damaged += r < 0;
	(void)unlinkat(cache->dir_fd, name, 0);
	return 0;
}

static int look_around(struct block_cache *cache, struct findings *findings)
{
	int fd = openat(cache->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		int r = -errno;
		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	int r = 0;
	const struct dirent *entry;
	while (r == 0 && (entry = readdir(dir)) != NULL)
		r = look_at(cache, findings, entry->d_name);
	(void)closedir(dir);
	return r;
}

static int compare_age(const void *a, const void *b)
{
	const struct found *left = a, *right = b;
	return left->used_ns < right->used_ns ? -1 : left->used_ns > right->used_ns;
}

/* Back to the limit, which may have been another one then. Only tidies, but for memory. */
static void fill_table(struct block_cache *cache, struct findings *findings)
{
	if (findings->count)
		qsort(findings->found, findings->count, sizeof(*findings->found), compare_age);
	pthread_mutex_lock(&cache->lock);
	for (size_t i = 0; i < findings->count; i++)
		add_entry(cache, findings->found[i].entry);
	findings->count = 0;
	(void)make_room(cache, 0);
	cache->evictions = 0;
	pthread_mutex_unlock(&cache->lock);
}

int cache_load(struct block_cache *cache, const char *dir, struct reterr *err)
{
	CLEANUP(findings_done) struct findings findings = {0};
	int fd = open_dir(dir, cache->server);
	if (fd < 0)
		return reterr_set(err, fd,
				  "cannot open the cache %s/cloud_page_cache/server_%u: %s", dir,
				  cache->server, strerror(-fd));
	cache->dir_fd = fd;
	int r = look_around(cache, &findings);
	if (r < 0)
		return reterr_set(err, r, "cannot read the cache %s/cloud_page_cache/server_%u: %s",
				  dir, cache->server, strerror(-r));
	fill_table(cache, &findings);
	return 0;
}
