#include "tests/lib/sim_disk.h"

#include <errno.h>
#include <string.h>

#include "base/invariant.h"
#include "engine/disk_path.h"
#include "tests/lib/sim_alloc.h"
#include "tests/lib/sim_disk_internal.h"

/* What an inode takes of the disk's space, besides its bytes. */
enum { INODE_COST = 4096 };

struct sim_file {
	struct disk_file base;
	struct sim_inode *inode;
	char *path; /* for the trace: the name it was opened by */
	bool writable;
	bool direct;
};

static struct sim_file *file_of(struct disk_file *file)
{
	return (struct sim_file *)file;
}

static void lock_disk(struct sim_disk *disk)
{
	(void)pthread_mutex_lock(&disk->mutex);
}

static void unlock_disk(struct sim_disk *disk)
{
	(void)pthread_mutex_unlock(&disk->mutex);
}

const char *sim_kind_name(enum sim_kind kind)
{
	static const char *const names[SIM_KINDS] = {
		[SIM_OPEN] = "open",       [SIM_CREATE] = "create", [SIM_READ] = "read",
		[SIM_WRITE] = "write",     [SIM_FLUSH] = "flush",   [SIM_TRUNCATE] = "truncate",
		[SIM_RESERVE] = "reserve", [SIM_MKDIR] = "mkdir",   [SIM_RMDIR] = "rmdir",
		[SIM_UNLINK] = "unlink",   [SIM_RENAME] = "rename", [SIM_SYNC_DIR] = "sync_dir",
		[SIM_LIST] = "list",       [SIM_LOCK] = "lock",
	};
	return names[kind];
}

/* ---- Counting and faults; all with the mutex held ---- */

static void trace(struct sim_disk *disk, enum sim_kind kind, const char *path, uint64_t offset,
		  uint64_t size, int result)
{
	if (disk->trace)
		(void)fprintf(disk->trace, "%6llu %-8s %s %llu+%llu = %d\n",
			      (unsigned long long)disk->operations, sim_kind_name(kind), path,
			      (unsigned long long)offset, (unsigned long long)size, result);
}

/* Counts a call of KIND. -errno if a fault is due. */
static int call_enter(struct sim_disk *disk, enum sim_kind kind)
{
	disk->calls[kind]++;
	struct sim_fault *fault = &disk->faults[kind];
	if (fault->countdown == 0)
		return 0;
	if (fault->countdown > 1) {
		fault->countdown--;
		return 0;
	}
	if (!fault->forever)
		fault->countdown = 0;
	disk->failures++;
	return fault->code;
}

/* Counts an operation. -EIO once the power is off. */
static int operation_enter(struct sim_disk *disk)
{
	if (disk->operations >= disk->cut_at)
		disk->off = true;
	if (disk->off)
		return -EIO;
	disk->operations++;
	return 0;
}

/* The beginning of every call that changes something. */
static int change_enter(struct sim_disk *disk, enum sim_kind kind)
{
	int r = operation_enter(disk);
	return r < 0 ? r : call_enter(disk, kind);
}

static int read_enter(struct sim_disk *disk, enum sim_kind kind)
{
	return disk->off ? -EIO : call_enter(disk, kind);
}

static int space_check(const struct sim_disk *disk, uint64_t size)
{
	uint64_t left = disk->used < disk->space ? disk->space - disk->used : 0;
	return size > left ? -ENOSPC : 0;
}

/* ---- Names ---- */

/* An inode whose last name or open file went gives its space back. */
static void release_if_unused(struct sim_disk *disk, struct sim_inode *inode)
{
	if (inode && inode->links == 0)
		disk->used -= inode->live.allocated + INODE_COST;
}

static int create(struct sim_disk *disk, struct sim_place *place, bool is_dir)
{
	int r = space_check(disk, INODE_COST);
	if (r < 0)
		return r;
	disk->used += INODE_COST;
	place->inode = sim_inode_new(disk, is_dir);
	sim_change_make(disk, place->dir, place->name, place->inode, NULL, NULL);
	return 0;
}

static int sim_mkdir(struct disk *base, const char *path)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct sim_place place;

	lock_disk(disk);
	int r = change_enter(disk, SIM_MKDIR);
	if (r == 0)
		r = sim_place_find(disk, path, &place);
	if (r == 0)
		r = place.inode ? -EEXIST : create(disk, &place, true);
	trace(disk, SIM_MKDIR, path, 0, 0, r);
	unlock_disk(disk);
	return r;
}

static int remove_check(const struct sim_place *place, bool is_dir)
{
	if (!place->inode)
		return -ENOENT;
	if (!place->dir)
		return -EBUSY;
	if (place->inode->is_dir != is_dir)
		return is_dir ? -ENOTDIR : -EISDIR;
	return place->inode->names.count ? -ENOTEMPTY : 0;
}

static int remove_name(struct disk *base, enum sim_kind kind, const char *path)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct sim_place place;

	lock_disk(disk);
	int r = change_enter(disk, kind);
	if (r == 0)
		r = sim_place_find(disk, path, &place);
	if (r == 0)
		r = remove_check(&place, kind == SIM_RMDIR);
	if (r == 0) {
		sim_change_make(disk, place.dir, place.name, NULL, NULL, NULL);
		release_if_unused(disk, place.inode);
	}
	trace(disk, kind, path, 0, 0, r);
	unlock_disk(disk);
	return r;
}

static int sim_unlink(struct disk *disk, const char *path)
{
	return remove_name(disk, SIM_UNLINK, path);
}

static int sim_rmdir(struct disk *disk, const char *path)
{
	return remove_name(disk, SIM_RMDIR, path);
}

static int rename_locked(struct sim_disk *disk, const char *from, const char *to)
{
	struct sim_place source;
	struct sim_place target;
	int r = change_enter(disk, SIM_RENAME);
	if (r == 0)
		r = sim_place_find(disk, from, &source);
	if (r == 0)
		r = sim_place_find(disk, to, &target);
	if (r < 0)
		return r;
	if (!source.inode)
		return -ENOENT;
	if (source.inode->is_dir || (target.inode && target.inode->is_dir))
		return -EISDIR;
	if (source.inode == target.inode)
		return 0;
	sim_change_make(disk, target.dir, target.name, source.inode, source.dir, source.name);
	release_if_unused(disk, target.inode);
	return 0;
}

static int sim_rename(struct disk *base, const char *from, const char *to)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	int r = rename_locked(disk, from, to);
	trace(disk, SIM_RENAME, to, 0, 0, r);
	unlock_disk(disk);
	return r;
}

static int sim_sync_dir(struct disk *base, const char *path)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct sim_place place;

	lock_disk(disk);
	int r = change_enter(disk, SIM_SYNC_DIR);
	if (r == 0)
		r = sim_place_find(disk, path, &place);
	if (r == 0 && !place.inode)
		r = -ENOENT;
	else if (r == 0 && !place.inode->is_dir)
		r = -ENOTDIR;
	if (r == 0)
		sim_changes_sync(disk, place.inode);
	trace(disk, SIM_SYNC_DIR, path, 0, 0, r);
	unlock_disk(disk);
	return r;
}

/* FN may call back, so it is called on a copy, without the mutex. */
static int sim_list(struct disk *base, const char *path, disk_list_fn *fn, void *arg)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct sim_place place;
	struct sim_names names = {0};

	lock_disk(disk);
	int r = read_enter(disk, SIM_LIST);
	if (r == 0)
		r = sim_place_find(disk, path, &place);
	if (r == 0 && !place.inode)
		r = -ENOENT;
	else if (r == 0 && !place.inode->is_dir)
		r = -ENOTDIR;
	if (r == 0)
		sim_names_copy(&names, &place.inode->names);
	unlock_disk(disk);

	for (size_t i = 0; i < names.count && r >= 0; i++)
		r = fn(arg, names.entries[i].name, names.entries[i].inode->is_dir);
	sim_names_done(&names);
	return r < 0 ? r : 0;
}

/* ---- Files ---- */

static void resize(struct sim_disk *disk, struct sim_inode *inode, uint64_t size)
{
	uint64_t old_size = inode->live.size;
	uint64_t old_allocated = inode->live.allocated;
	if (size == old_size)
		return;
	sim_image_resize(&inode->live, size);
	disk->used -= old_allocated - inode->live.allocated;
	sim_inode_note_size(inode, old_size);
}

static int open_locked(struct sim_disk *disk, const char *path, unsigned flags,
		       struct sim_inode **ret)
{
	struct sim_place place;
	int r = disk->off ? -EIO : sim_place_find(disk, path, &place);
	if (r < 0)
		return r;
	bool creates = flags & DISK_CREATE && (!place.inode || flags & DISK_REPLACE);
	r = creates ? change_enter(disk, SIM_CREATE) : read_enter(disk, SIM_OPEN);
	if (r < 0)
		return r;
	if (place.inode && place.inode->is_dir)
		return -EISDIR;
	if (place.inode && flags & DISK_CREATE && !(flags & DISK_REPLACE))
		return -EEXIST;
	if (!place.inode && !(flags & DISK_CREATE))
		return -ENOENT;
	if (place.inode && creates)
		resize(disk, place.inode, 0);
	if (!place.inode)
		r = create(disk, &place, false);
	if (r < 0)
		return r;
	place.inode->links++;
	*ret = place.inode;
	return 0;
}

static int sim_open(struct disk *base, const char *path, unsigned flags, struct disk_file **ret)
{
	struct sim_disk *disk = sim_disk_of(base);
	struct sim_inode *inode = NULL;

	lock_disk(disk);
	int r = open_locked(disk, path, flags, &inode);
	trace(disk, flags & DISK_CREATE ? SIM_CREATE : SIM_OPEN, path, 0, 0, r);
	unlock_disk(disk);
	if (r < 0)
		return r;
	struct sim_file *file = sim_calloc(sizeof(*file));
	file->base.disk = base;
	file->inode = inode;
	file->path = sim_strdup(path);
	file->writable = flags & DISK_WRITE;
	file->direct = flags & DISK_DIRECT;
	*ret = &file->base;
	return 0;
}

static void sim_close(struct disk_file *base)
{
	struct sim_disk *disk = sim_disk_of(base->disk);
	struct sim_file *file = file_of(base);

	lock_disk(disk);
	file->inode->links--;
	release_if_unused(disk, file->inode);
	unlock_disk(disk);
	sim_free(file->path);
	sim_free(file);
}

static int sim_read(struct disk_file *base, void *data, size_t size, uint64_t offset, size_t *ret)
{
	struct sim_disk *disk = sim_disk_of(base->disk);
	struct sim_file *file = file_of(base);
	const struct sim_image *live = &file->inode->live;

	lock_disk(disk);
	int r = read_enter(disk, SIM_READ);
	if (r == 0) {
		uint64_t left = offset < live->size ? live->size - offset : 0;
		*ret = size < left ? size : (size_t)left;
		sim_image_read(live, data, *ret, offset);
	}
	unlock_disk(disk);
	return r;
}

/* One contiguous piece. */
static void write_piece(struct sim_disk *disk, struct sim_inode *inode, const void *data,
			size_t size, uint64_t offset)
{
	uint64_t allocated = inode->live.allocated;
	sim_image_write(&inode->live, data, size, offset);
	disk->used += inode->live.allocated - allocated;
	if (offset + size > inode->live.size)
		inode->live.size = offset + size;
	sim_inode_note_write(inode, data, size, offset);
}

/* A failed write has written some of its sectors. */
static void write_scattered(struct sim_disk *disk, struct sim_inode *inode, const char *data,
			    size_t size, uint64_t offset)
{
	for (size_t done = 0; done < size;) {
		size_t piece = DISK_SECTOR_SIZE - (size_t)((offset + done) % DISK_SECTOR_SIZE);
		if (piece > size - done)
			piece = size - done;
		if (space_check(disk, SIM_PAGE_SIZE) == 0 && sim_random_chance(&disk->random, 50))
			write_piece(disk, inode, data + done, piece, offset + done);
		done += piece;
	}
}

static int write_one(struct sim_disk *disk, const struct sim_file *file,
		     const struct disk_write *write)
{
	uint64_t offset = write->offset;
	size_t size = disk_write_size(write);
	int r = call_enter(disk, SIM_WRITE);
	if (r == 0 && file->direct && !disk_write_is_aligned(write))
		r = -EINVAL;
	else if (r == 0)
		r = space_check(disk, sim_image_growth(&file->inode->live, offset, size));

	for (int i = 0; i < write->iov_count && r != -EINVAL; i++) {
		const struct iovec *iov = &write->iov[i];
		if (r == 0)
			write_piece(disk, file->inode, iov->iov_base, iov->iov_len, offset);
		else
			write_scattered(disk, file->inode, iov->iov_base, iov->iov_len, offset);
		offset += iov->iov_len;
	}
	trace(disk, SIM_WRITE, file->path, write->offset, size, r);
	return r;
}

static int flush_one(struct sim_disk *disk, const struct sim_file *file)
{
	int r = change_enter(disk, SIM_FLUSH);
	if (r == 0)
		sim_inode_flush(file->inode);
	else if (!disk->off)
		sim_inode_flush_failed(file->inode, &disk->random);
	trace(disk, SIM_FLUSH, file->path, 0, 0, r);
	return r;
}

static void run_writes(struct sim_disk *disk, struct disk_job *job)
{
	const struct sim_file *file = file_of(job->file);
	job->result = file->writable ? 0 : -EBADF;
	for (unsigned w = 0; w < job->write_count && job->result == 0; w++)
		job->result = write_one(disk, file, &job->writes[w]);
}

/*
 * All writes are one operation, then come the flushes, beginning with any of them: a power cut between two flushes
 * finds each file in turn flushed alone.
 */
static int sim_commit(struct disk *base, struct disk_job *jobs, size_t count)
{
	struct sim_disk *disk = sim_disk_of(base);

	lock_disk(disk);
	int r = operation_enter(disk);
	for (size_t i = 0; i < count; i++) {
		jobs[i].result = r;
		if (r == 0)
			run_writes(disk, &jobs[i]);
	}
	size_t first = sim_random_below(&disk->random, count);
	for (size_t i = 0; i < count; i++) {
		struct disk_job *job = &jobs[(first + i) % count];
		if (job->result == 0 && !job->no_flush)
			job->result = flush_one(disk, file_of(job->file));
	}
	unlock_disk(disk);
	for (size_t i = 0; i < count; i++) {
		if (jobs[i].result < 0)
			return jobs[i].result;
	}
	return 0;
}

static int sim_flush(struct disk_file *file)
{
	struct sim_disk *disk = sim_disk_of(file->disk);
	lock_disk(disk);
	int r = flush_one(disk, file_of(file));
	unlock_disk(disk);
	return r;
}

static int sim_size(struct disk_file *base, uint64_t *ret)
{
	struct sim_disk *disk = sim_disk_of(base->disk);
	lock_disk(disk);
	*ret = file_of(base)->inode->live.size;
	int r = disk->off ? -EIO : 0;
	unlock_disk(disk);
	return r;
}

static int sim_truncate(struct disk_file *base, uint64_t size)
{
	struct sim_disk *disk = sim_disk_of(base->disk);
	const struct sim_file *file = file_of(base);

	lock_disk(disk);
	int r = change_enter(disk, SIM_TRUNCATE);
	if (r == 0 && !file->writable)
		r = -EINVAL;
	if (r == 0)
		resize(disk, file->inode, size);
	trace(disk, SIM_TRUNCATE, file->path, size, 0, r);
	unlock_disk(disk);
	return r;
}

static int sim_reserve(struct disk_file *base, uint64_t offset, uint64_t size)
{
	struct sim_disk *disk = sim_disk_of(base->disk);
	const struct sim_file *file = file_of(base);
	struct sim_image *live = &file->inode->live;

	lock_disk(disk);
	int r = change_enter(disk, SIM_RESERVE);
	if (r == 0 && !file->writable)
		r = -EBADF;
	uint64_t growth = sim_image_growth(live, offset, size);
	if (r == 0)
		r = space_check(disk, growth);
	if (r == 0) {
		sim_image_reserve(live, offset, size);
		disk->used += growth;
		if (offset + size > live->size)
			resize(disk, file->inode, offset + size);
	}
	trace(disk, SIM_RESERVE, file->path, offset, size, r);
	unlock_disk(disk);
	return r;
}

/* ---- The rest ---- */

static int sim_space(struct disk *base, struct disk_space *ret)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	uint64_t left = disk->used < disk->space ? disk->space - disk->used : 0;
	*ret = (struct disk_space){.total = disk->space, .available = left};
	int r = disk->off ? -EIO : 0;
	unlock_disk(disk);
	return r;
}

static int sim_identity(struct disk *disk, struct disk_identity *ret)
{
	(void)disk;
	*ret = (struct disk_identity){.inode = 1};
	return 0;
}

static int sim_lock(struct disk *base, bool exclusive, struct reterr *err)
{
	struct sim_disk *disk = sim_disk_of(base);
	(void)exclusive;
	lock_disk(disk);
	int r = read_enter(disk, SIM_LOCK);
	unlock_disk(disk);
	return r < 0 ? reterr_set(err, r, "the simulated disk refuses the lock") : 0;
}

static void sim_free_disk(struct disk *base)
{
	struct sim_disk *disk = sim_disk_of(base);
	for (size_t i = 0; i < disk->change_count; i++) {
		sim_free(disk->changes[i].name);
		sim_free(disk->changes[i].from_name);
	}
	sim_free(disk->changes);
	while (disk->inodes) {
		struct sim_inode *inode = disk->inodes;
		disk->inodes = inode->next;
		sim_inode_free(inode);
	}
	(void)pthread_mutex_destroy(&disk->mutex);
	sim_free(disk);
}

static const struct disk_ops sim_ops = {
	.name = "simulated",
	.open = sim_open,
	.close = sim_close,
	.read = sim_read,
	.commit = sim_commit,
	.flush = sim_flush,
	.size = sim_size,
	.truncate = sim_truncate,
	.reserve = sim_reserve,
	.mkdir = sim_mkdir,
	.rmdir = sim_rmdir,
	.unlink = sim_unlink,
	.rename = sim_rename,
	.sync_dir = sim_sync_dir,
	.list = sim_list,
	.space = sim_space,
	.identity = sim_identity,
	.lock = sim_lock,
	.free = sim_free_disk,
};

struct disk *sim_disk_new(uint64_t seed)
{
	struct sim_disk *disk = sim_calloc(sizeof(*disk));
	disk->base.ops = &sim_ops;
	(void)pthread_mutex_init(&disk->mutex, NULL);
	disk->random.state = seed;
	disk->cut_at = UINT64_MAX;
	disk->space = (uint64_t)1 << 40;
	disk->root = sim_inode_new(disk, true);
	disk->root->links = 1;
	return &disk->base;
}

/* ---- What tests set and ask ---- */

uint64_t sim_disk_operations(struct disk *base)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	uint64_t operations = disk->operations;
	unlock_disk(disk);
	return operations;
}

void sim_disk_cut_after(struct disk *base, uint64_t n)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	disk->cut_at = disk->operations + n;
	disk->off = n == 0;
	unlock_disk(disk);
}

bool sim_disk_is_off(struct disk *base)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	bool off = disk->off;
	unlock_disk(disk);
	return off;
}

uint64_t sim_disk_calls(struct disk *base, enum sim_kind kind)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	uint64_t calls = disk->calls[kind];
	unlock_disk(disk);
	return calls;
}

void sim_disk_fail(struct disk *base, enum sim_kind kind, uint64_t nth, int code, bool forever)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	disk->faults[kind] = (struct sim_fault){.countdown = nth, .code = code, .forever = forever};
	unlock_disk(disk);
}

uint64_t sim_disk_failures(struct disk *base)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	uint64_t failures = disk->failures;
	unlock_disk(disk);
	return failures;
}

void sim_disk_set_space(struct disk *base, uint64_t size)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	disk->space = size;
	unlock_disk(disk);
}

void sim_disk_set_trace(struct disk *base, FILE *out)
{
	struct sim_disk *disk = sim_disk_of(base);
	lock_disk(disk);
	disk->trace = out;
	unlock_disk(disk);
}
