/* Between inbox.c, which has the names, and inbox_file.c, which has the files. */
#ifndef PROTOFS_FS_INBOX_IMPL_H
#define PROTOFS_FS_INBOX_IMPL_H

#include "fs/inbox.h"

enum { INBOX_CHAINS = 1024 };

/* Fields: the inbox's lock. */
struct inbox_name {
	char text[INBOX_NAME_SIZE];
	uint64_t position; /* in listings: grows, so the list is sorted by it */
	struct node *node; /* what it shows; one reference */
	/* Whose name it is: NODE, or what NODE was made of. The file clears this when it goes. */
	struct inbox_file *file;
	struct inbox_name *chain;           /* of the same hash */
	struct inbox_name *before, *behind; /* in the order of positions */
};

struct inbox {
	struct fs *fs;
	atomic_size_t refs; /* its owner's, and one for each file */
	struct inbox_options options;
	atomic_uint mode;
	atomic_uint_least64_t mtime_ns;

	pthread_mutex_t lock; /* a leaf, but for the node table's */
	struct inbox_name *chains[INBOX_CHAINS];
	struct inbox_name *first, *last;
	size_t count;
	uint64_t next_position;
};

/* From now on NAME is the name of FILE, which may be NULL. With the lock held. */
void inbox_name_set_file(struct inbox_name *name, struct inbox_file *file);

/* A file without a name, with one reference. -ENOMEM, -ENOSPC too many nodes. */
MUST_CHECK int inbox_file_new(struct call *call, struct inbox *box, mode_t mode,
			      struct inbox_file **ret);
void inbox_unref(struct inbox *box);

/* A time before 1970 is 1970. */
uint64_t inbox_ns_of(const struct timespec *time);

/* Counts a descriptor in. */
void inbox_file_opened(struct call *call, struct inbox_file *file, int flags);
MUST_CHECK int inbox_file_truncate(struct call *call, struct inbox_file *file, uint64_t size);

#endif
