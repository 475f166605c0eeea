/*
 * The two XML documents of S3 that we read: an error, and a page of a listing. They come from whoever
 * answers: a document type is refused (so no entity is ever defined, let alone expanded), and depth,
 * texts, entries and the bytes of a document are bounded. A document is parsed as it arrives and never
 * kept.
 */
#ifndef PROTOFS_CLOUD_S3_XML_H
#define PROTOFS_CLOUD_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "cloud/s3_headers.h"

enum {
	S3_CODE_SIZE = 64,
	S3_MESSAGE_SIZE = 256,
	S3_TOKEN_SIZE = 2048,
	S3_KEY_SIZE = 1024 + 1,       /* the longest that S3 allows */
	S3_PAGE_MAX = 1000,           /* entries */
	S3_PAGE_SIZE_MAX = 8 << 20,   /* bytes of XML */
	S3_ERROR_SIZE_MAX = 64 << 10, /* the same */
};

/* Of an error document; texts are cut to fit, "" if missing. */
struct s3_xml_error {
	char code[S3_CODE_SIZE];
	char message[S3_MESSAGE_SIZE];
	char request_id[S3_REQUEST_ID_SIZE];
	char region[S3_REGION_SIZE];
	char endpoint[S3_LOCATION_SIZE];
};

/* -EBADMSG: it is no error document; -ENOMEM. */
MUST_CHECK int s3_xml_error_parse(const void *data, size_t size, struct s3_xml_error *ret);

struct s3_xml_page {
	bool truncated;
	char token[S3_TOKEN_SIZE]; /* of the next page; "" none */
};

/*
 * Told of each entry as it is read. KEY is URL-decoded, whether or not the server says that it encoded
 * (what it says may come behind the keys), except that a plus stays one: it may stand for a space. A
 * negative return ends the parse with it.
 */
typedef int s3_xml_entry_fn(void *arg, const char *key, uint64_t size);

struct s3_xml_list;

MUST_CHECK int s3_xml_list_new(s3_xml_entry_fn *fn, void *arg, struct s3_xml_list **ret);
void s3_xml_list_free(struct s3_xml_list *list); /* accepts NULL */
/*
 * The next bytes. -EBADMSG: it is no listing, or one beyond the bounds; -ENOMEM; what FN returned.
 * After an error, nothing more is parsed and the same error comes again.
 */
MUST_CHECK int s3_xml_list_feed(struct s3_xml_list *list, const void *data, size_t size);
/* Behind the last byte. Errors as above. */
MUST_CHECK int s3_xml_list_end(struct s3_xml_list *list, struct s3_xml_page *ret);

#endif
