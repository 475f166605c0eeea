/*
 * What a store is told about its cloud. `protofs init` and `protofs clone` take it as flags and the
 * store remembers it in its file cloud.conf; a mount's options count before what is remembered.
 * Never a secret: credentials come from the environment, ~/.aws, or a file that is only named here.
 */
#ifndef PROTOFS_CMD_SETTINGS_H
#define PROTOFS_CMD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/reterr.h"
#include "base/slice.h"

struct buf;

#define SETTINGS_FILE "cloud.conf"

enum { SETTINGS_TEXT_MAX = 180 }; /* bytes of a value; lines of the file are bounded, too */

enum durability {
	DURABILITY_UNSET, /* local */
	DURABILITY_LOCAL,
	DURABILITY_CLOUD,
};

/* A zeroed one: nothing is set. 0 and NULL are "not set" everywhere. */
struct settings {
	char *cloud; /* URL; owned, as are all strings */
	char *endpoint;
	char *region;
	char *profile;
	char *credentials; /* path of a file, absolute */
	char *ca_bundle;   /* the same */
	bool virtual_host;
	enum durability durability;
	uint64_t upload_interval_ms;
	uint64_t transfers;
	uint64_t bandwidth; /* bytes a second */
	uint64_t disk_max;
	uint64_t cache_max;
	uint64_t server_id;
};

void settings_done(struct settings *settings);

/*
 * Sets NAME, with '_' between words; VALUE is NULL if none was given. 1: it is none of these.
 * -EINVAL not with such a value: ERR says which it takes. -ENOMEM.
 */
MUST_CHECK int settings_set(struct settings *settings, const char *name, const char *value,
			    struct reterr *err);

/* What --help shows: setting I, false beyond the last. ARGUMENT is NULL for those without. */
bool settings_describe(size_t i, const char **ret_name, const char **ret_argument,
		       const char **ret_help);

/* What OVER sets takes the place of what SETTINGS has. -ENOMEM. */
MUST_CHECK int settings_override(struct settings *settings, const struct settings *over);

/* Whether anything is set. */
bool settings_any(const struct settings *settings);

/* Whether they go together. -EINVAL: ERR says what is missing. */
MUST_CHECK int settings_check(const struct settings *settings, struct reterr *err);

/* TEXT is the file's. -EINVAL it holds what is no setting: ERR names the line. -ENOMEM. */
MUST_CHECK int settings_parse(struct slice text, struct settings *ret, struct reterr *err);

/*
 * What the store in the directory STORE remembers. A store without the file has nothing set.
 * -EINVAL it holds what is no setting: ERR names the line.
 */
MUST_CHECK int settings_load(const char *store, struct settings *ret, struct reterr *err);
/*
 * What a mount of STORE works with: what it remembers, and before that GIVEN, which it replaces.
 * -EINVAL they do not go together, or GIVEN names another cloud than the store's: nothing would be
 * where the store knows it to be. STORE is NULL for a mem: store.
 */
MUST_CHECK int settings_resolve(const char *store, struct settings *given, struct reterr *err);
/*
 * Lets a store that remembers no cloud remember that of SETTINGS and how it is reached; else
 * changes nothing.
 */
MUST_CHECK int settings_remember(const char *store, const struct settings *settings,
				 struct reterr *err);
/* Appends what the file is to hold: what settings_parse reads back. -ENOMEM; -EFBIG. */
MUST_CHECK int settings_print(const struct settings *settings, struct buf *text);
/* Replaces the file, durably. */
MUST_CHECK int settings_save(const char *store, const struct settings *settings,
			     struct reterr *err);

#endif
