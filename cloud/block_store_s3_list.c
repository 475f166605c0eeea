/*
 * Listing S3: ListObjectsV2, page by page. What a page tells is kept until it is whole, so that no
 * connection is held while the caller's function runs. Names that are no keys of blocks are passed
 * over. S3 promises order of bytes, which callers rely on: a server that breaks it is refused, as is
 * one that gives the same continuation again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/block_key.h"
#include "cloud/block_store_s3.h"
#include "cloud/s3_xml.h"

enum { PAGES_MAX = 1 << 20 }; /* a billion names */

struct entry {
	char key[BLOCK_KEY_MAX + 1];
	uint64_t size;
};

struct listing {
	struct s3_store *store;
	const char *prefix, *after;
	char object_prefix[S3_OBJECT_SIZE], start_after[S3_OBJECT_SIZE];
	char what[S3_BUCKET_SIZE + S3_OBJECT_SIZE]; /* to be shown: bucket/prefix */
	char token[S3_TOKEN_SIZE];                  /* of the page to come */
	/* The page that is being read */
	struct s3_xml_list *xml;
	struct s3_xml_page page;
	size_t count;
	bool unordered;
	char last[BLOCK_KEY_MAX + 1]; /* the last key that was taken, of this page or before */
	struct entry entries[S3_PAGE_MAX];
};

/*
 * TEXT behind PREFIX, or NULL if that is not how it begins. Servers write a space of the prefix as a
 * plus when they encode.
 */
static const char *behind_prefix(const char *text, const char *prefix)
{
	for (; *prefix; prefix++, text++) {
		if (*text != *prefix && !(*text == '+' && *prefix == ' '))
			return NULL;
	}
	return text;
}

static int on_entry(void *arg, const char *name, uint64_t size)
{
	struct listing *listing = arg;
	const char *key = behind_prefix(name, listing->store->client.settings.prefix);
	if (!key || strlen(key) > BLOCK_KEY_MAX || block_key_parse(key, NULL) < 0 ||
	    strncmp(key, listing->prefix, strlen(listing->prefix)) != 0 ||
	    strcmp(key, listing->after) <= 0)
		return 0;
	if (strcmp(key, listing->last) <= 0) {
		listing->unordered = true;
		return -EIO;
	}
	struct entry *entry = &listing->entries[listing->count++];
	(void)snprintf(entry->key, sizeof(entry->key), "%s", key);
	(void)snprintf(listing->last, sizeof(listing->last), "%s", key);
	entry->size = size;
	return 0;
}

static int take_page(void *arg, const struct s3_headers *headers, const void *data, size_t size)
{
	struct listing *listing = arg;
	(void)headers;
	return s3_xml_list_feed(listing->xml, data, size);
}

static int request_page(struct listing *listing, struct reterr *err)
{
	const struct sigv4_pair query[] = {
		{"list-type", "2"},
		{"encoding-type", "url"},
		{"max-keys", "1000"},
		{"prefix", listing->object_prefix},
		listing->token[0] ? (struct sigv4_pair){"continuation-token", listing->token}
				  : (struct sigv4_pair){"start-after", listing->start_after},
	};
	const struct s3_call call = {
		.kind = BLOCK_REQUEST_LIST,
		.method = "GET",
		.object = "",
		.verb = "LIST",
		.what = listing->what,
		.query = query,
		.query_count = listing->token[0] || listing->start_after[0] ? 5 : 4,
		.take = take_page,
		.arg = listing,
	};
	struct s3_headers headers;
	struct s3_error error;
	int r = s3_client_call(&listing->store->client, &call, &headers, &error, err);
	/* A bucket answers; there is no object that could be missing. */
	if (r == -ENOENT)
		return reterr_set(err, -EACCES,
				  "LIST %.160s: no such bucket: create it, or correct its name",
				  listing->what);
	return r;
}

static int refuse(const struct listing *listing, int r, const char *why, struct reterr *err)
{
	return reterr_set(err, r, "LIST %.160s: %s", listing->what, why);
}

/* One page into the entries. */
static int read_page(struct listing *listing, struct reterr *err)
{
	listing->count = 0;
	int r = s3_xml_list_new(on_entry, listing, &listing->xml);
	if (r < 0)
		return refuse(listing, r, strerror(-r), err);
	r = request_page(listing, err);
	if (r == 0)
		r = s3_xml_list_end(listing->xml, &listing->page);
	s3_xml_list_free(listing->xml);
	listing->xml = NULL;
	if (listing->unordered)
		return refuse(listing, -EIO, "the names do not come in order", err);
	if (r == -EBADMSG)
		return refuse(listing, -EIO, "this is no listing of S3: check the endpoint", err);
	return r;
}

static int next_page(struct listing *listing, struct reterr *err)
{
	if (!listing->page.token[0])
		return refuse(listing, -EIO,
			      "there is more, but the server does not say how to get it", err);
	if (strcmp(listing->page.token, listing->token) == 0)
		return refuse(listing, -EIO, "the server goes round in circles", err);
	memcpy(listing->token, listing->page.token, sizeof(listing->token));
	return 1;
}

/* 1 there is another page, 0 that was the last one. */
static int list_page(struct listing *listing, block_store_list_fn *fn, void *arg,
		     struct reterr *err)
{
	int r = read_page(listing, err);
	for (size_t i = 0; i < listing->count && r >= 0; i++)
		r = fn(arg, listing->entries[i].key, listing->entries[i].size);
	if (r < 0)
		return r;
	return listing->page.truncated ? next_page(listing, err) : 0;
}

int s3_store_list(struct block_store *base, const char *prefix, const char *after,
		  block_store_list_fn *fn, void *arg, struct reterr *err)
{
	struct s3_store *store = s3_store_of(base);
	const char *ours = store->client.settings.prefix;
	/* No key is longer than that, so none begins with it, or comes behind it with such a start. */
	if (strlen(prefix) > BLOCK_KEY_MAX || strlen(after) > BLOCK_KEY_MAX)
		return reterr_set(err, -EINVAL, "LIST %.100s: longer than a key", prefix);

	struct listing *listing = calloc(1, sizeof(*listing));
	if (!listing)
		return reterr_set(err, -ENOMEM, "LIST %s: %s", prefix, strerror(ENOMEM));
	listing->store = store;
	listing->prefix = prefix;
	listing->after = after;
	(void)snprintf(listing->object_prefix, sizeof(listing->object_prefix), "%s%s", ours,
		       prefix);
	(void)snprintf(listing->what, sizeof(listing->what), "%s/%s", store->client.settings.bucket,
		       listing->object_prefix);
	if (*after)
		(void)snprintf(listing->start_after, sizeof(listing->start_after), "%s%s", ours,
			       after);
	int r = 1;
	for (unsigned pages = 0; r == 1; pages++)
		r = pages < PAGES_MAX ? list_page(listing, fn, arg, err)
				      : refuse(listing, -E2BIG, "more names than can be", err);
	free(listing);
	return r;
}
