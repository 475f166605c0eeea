/* Requests on their way to views: what the dispatch files share. */
#ifndef PROTOFS_FS_DISPATCH_H
#define PROTOFS_FS_DISPATCH_H

#include "fs/core.h"

/*
 * Begins a call for node ID and finds its view. False: there is no such node; the request has been
 * answered ESTALE. Otherwise it ends with a reply_*().
 */
MUST_CHECK bool dispatch_begin(struct call *call, fuse_req_t req, fuse_ino_t id,
			       const struct view **ret);

/* What a change without an operation is answered. */
int dispatch_refusal(const struct call *call, const struct view *view);

/* What read-only mounts and views refuse before the view is asked: 0 or -EROFS. */
MUST_CHECK int dispatch_may_change(const struct call *call, const struct view *view);

/* dispatch_dir.c */
void dispatch_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void dispatch_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info);
void dispatch_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
		      struct fuse_file_info *info);
void dispatch_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
			  struct fuse_file_info *info);
void dispatch_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info);
void dispatch_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *info);
void dispatch_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     struct fuse_file_info *info);
void dispatch_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void dispatch_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void dispatch_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void dispatch_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void dispatch_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void dispatch_rename(fuse_req_t req, fuse_ino_t from_parent, const char *from, fuse_ino_t to_parent,
		     const char *to, unsigned flags);
void dispatch_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name);

/* dispatch_file.c */
void dispatch_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info);
void dispatch_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
		   struct fuse_file_info *info);
void dispatch_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
		    struct fuse_file_info *info);
void dispatch_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info);
void dispatch_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *info);
void dispatch_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info);
void dispatch_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *info, int op);

#endif
