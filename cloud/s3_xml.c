#include "cloud/s3_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <expat.h>

#include "base/invariant.h"

enum {
	DEPTH_MAX = 16,
	DEPTH_NAMED = 3, /* elements further in are of no interest */
	NAME_SIZE = 40,
	/* A key of 1,024 bytes, each of them escaped, with its NUL; and a token */
	TEXT_SIZE = 3 * 1024 + 1,
	CHUNK_SIZE = 64 << 10,
};

/* Expat's allocations pass through our own calls, so that a test can make each of them fail. */
static void *xml_malloc(size_t size)
{
	return malloc(size);
}

static void *xml_realloc(void *data, size_t size)
{
	return realloc(data, size);
}

static void xml_free(void *data)
{
	free(data);
}

static const XML_Memory_Handling_Suite memory = {xml_malloc, xml_realloc, xml_free};

/* ---- The part that both documents share: where we are, and the text of the innermost element ---- */

struct reader {
	XML_Parser parser;
	/* Called with the text of each element at its end; 0 or -errno. */
	int (*element)(struct reader *reader, const char *text);
	int error;                          /* the first one; then nothing more is parsed */
	unsigned depth;                     /* open elements */
	char names[DEPTH_NAMED][NAME_SIZE]; /* of the outermost ones; "" one too long for us */
	size_t size, size_max;              /* of the document so far */
	size_t text_size;
	char text[TEXT_SIZE];
};

static void fail(struct reader *reader, int error)
{
	if (reader->error == 0)
		reader->error = error;
	(void)XML_StopParser(reader->parser, XML_FALSE);
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct reader *reader = arg;
	(void)attributes;
	if (reader->depth >= DEPTH_MAX) {
		fail(reader, -EBADMSG);
		return;
	}
	if (reader->depth < DEPTH_NAMED) {
		size_t length = strlen(name);
		if (length >= NAME_SIZE)
			length = 0;
		memcpy(reader->names[reader->depth], name, length);
		reader->names[reader->depth][length] = '\0';
	}
	reader->depth++;
	reader->text_size = 0;
}

/* Too much text is cut: it is a message to be shown, or else its meaning is checked. */
static void on_text(void *arg, const XML_Char *text, int length)
{
	struct reader *reader = arg;
	size_t room = sizeof(reader->text) - 1 - reader->text_size;
	size_t taken = (size_t)length < room ? (size_t)length : room;
	memcpy(reader->text + reader->text_size, text, taken);
	reader->text_size += taken;
}

static void on_end(void *arg, const XML_Char *name)
{
	struct reader *reader = arg;
	(void)name;
	invariant(reader->depth > 0);
	if (reader->error)
		return;
	reader->text[reader->text_size] = '\0';
	int r = reader->depth <= DEPTH_NAMED ? reader->element(reader, reader->text) : 0;
	reader->depth--;
	reader->text_size = 0;
	if (r < 0)
		fail(reader, r);
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
		       const XML_Char *public_id, int has_internal_subset)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)has_internal_subset;
	fail(arg, -EBADMSG);
}

static int reader_init(struct reader *reader, size_t size_max)
{
	*reader = (struct reader){.size_max = size_max};
	reader->parser = XML_ParserCreate_MM(NULL, &memory, NULL);
	if (!reader->parser)
		return -ENOMEM;
	XML_SetUserData(reader->parser, reader);
	XML_SetElementHandler(reader->parser, on_start, on_end);
	XML_SetCharacterDataHandler(reader->parser, on_text);
	XML_SetStartDoctypeDeclHandler(reader->parser, on_doctype);
	return 0;
}

static void reader_done(struct reader *reader)
{
	if (reader->parser)
		XML_ParserFree(reader->parser);
}

static int parse_piece(struct reader *reader, const void *data, size_t size, bool last)
{
	if (reader->error)
		return reader->error;
	if (XML_Parse(reader->parser, data, (int)size, last) != XML_STATUS_OK && reader->error == 0)
		reader->error = XML_GetErrorCode(reader->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM
											: -EBADMSG;
	return reader->error;
}

static int reader_feed(struct reader *reader, const void *data, size_t size)
{
	if (reader->error == 0 && size > reader->size_max - reader->size)
		reader->error = -EBADMSG;
	int r = reader->error;
	for (size_t done = 0; done < size && r == 0;) {
		size_t piece = size - done < CHUNK_SIZE ? size - done : CHUNK_SIZE;
		r = parse_piece(reader, (const char *)data + done, piece, false);
		done += piece;
	}
	if (r == 0)
		reader->size += size;
	return r;
}

static bool is_name(const struct reader *reader, unsigned depth, const char *name)
{
	return strcmp(reader->names[depth - 1], name) == 0;
}

/* ---- An error ---- */

struct error_reader {
	struct reader reader;
	struct s3_xml_error *ret;
};

static void copy_text(char *to, size_t size, const char *text)
{
	size_t length = strnlen(text, size - 1);
	memcpy(to, text, length);
	to[length] = '\0';
}

static int error_element(struct reader *reader, const char *text)
{
	struct s3_xml_error *ret = ((struct error_reader *)reader)->ret;
	if (!is_name(reader, 1, "Error"))
		return -EBADMSG;
	if (reader->depth != 2)
		return 0;
	if (is_name(reader, 2, "Code"))
		copy_text(ret->code, sizeof(ret->code), text);
	else if (is_name(reader, 2, "Message"))
		copy_text(ret->message, sizeof(ret->message), text);
	else if (is_name(reader, 2, "RequestId"))
		copy_text(ret->request_id, sizeof(ret->request_id), text);
	else if (is_name(reader, 2, "Region") && s3_region_valid(text))
		copy_text(ret->region, sizeof(ret->region), text);
	else if (is_name(reader, 2, "Endpoint"))
		copy_text(ret->endpoint, sizeof(ret->endpoint), text);
	return 0;
}

int s3_xml_error_parse(const void *data, size_t size, struct s3_xml_error *ret)
{
	struct s3_xml_error error = {0};
	struct error_reader reader = {.ret = &error};
	int r = reader_init(&reader.reader, S3_ERROR_SIZE_MAX);
	if (r < 0)
		return r;
	reader.reader.element = error_element;
	r = reader_feed(&reader.reader, data, size);
	if (r == 0)
		r = parse_piece(&reader.reader, NULL, 0, true);
	reader_done(&reader.reader);
	if (r == 0 && error.code[0] == '\0')
		r = -EBADMSG;
	if (r == 0)
		*ret = error;
	return r;
}

/* ---- A page of a listing ---- */

struct s3_xml_list {
	struct reader reader;
	s3_xml_entry_fn *fn;
	void *arg;
	struct s3_xml_page page;
	unsigned entries;
	/* The entry that is being read */
	bool has_key, has_size;
	char key[TEXT_SIZE];
	uint64_t size;
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place. False: a percent sign without its two digits, or an encoded NUL. */
static bool decode(char *text)
{
	char *to = text;
	while (*text) {
		if (*text != '%') {
			*to++ = *text++;
			continue;
		}
		int high = hex_digit(text[1]);
		int low = high < 0 ? -1 : hex_digit(text[2]);
		if (low < 0 || (high == 0 && low == 0))
			return false;
		*to++ = (char)(high * 16 + low);
		text += 3;
	}
	*to = '\0';
	return true;
}

static bool parse_size(const char *text, uint64_t *ret)
{
	uint64_t value = 0;
	if (*text == '\0')
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || value > (UINT64_MAX - 9) / 10)
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
	}
	*ret = value;
	return true;
}

/* The end of <Contents>. */
static int list_entry(struct s3_xml_list *list)
{
	bool whole = list->has_key && list->has_size;
	list->has_key = list->has_size = false;
	if (!whole || ++list->entries > S3_PAGE_MAX)
		return -EBADMSG;
	/* A server that does not encode, and somebody else's key: ours have no percent sign. */
	if (!decode(list->key))
		return 0;
	return list->fn(list->arg, list->key, list->size);
}

static int entry_element(struct s3_xml_list *list, const char *text)
{
	if (is_name(&list->reader, 3, "Key")) {
		/* One that was cut is some other key: too long to be S3's. */
		if (list->reader.text_size == TEXT_SIZE - 1)
			return -EBADMSG;
		copy_text(list->key, sizeof(list->key), text);
		list->has_key = true;
	} else if (is_name(&list->reader, 3, "Size")) {
		list->has_size = parse_size(text, &list->size);
	}
	return 0;
}

static int page_element(struct s3_xml_list *list, const char *text)
{
	if (is_name(&list->reader, 2, "Contents"))
		return list_entry(list);
	if (is_name(&list->reader, 2, "IsTruncated")) {
		list->page.truncated = strcmp(text, "true") == 0;
	} else if (is_name(&list->reader, 2, "NextContinuationToken")) {
		if (list->reader.text_size >= S3_TOKEN_SIZE)
			return -EBADMSG;
		copy_text(list->page.token, sizeof(list->page.token), text);
	}
	return 0;
}

static int list_element(struct reader *reader, const char *text)
{
	struct s3_xml_list *list = (struct s3_xml_list *)reader;
	if (!is_name(reader, 1, "ListBucketResult"))
		return -EBADMSG;
	if (reader->depth == 3)
		return is_name(reader, 2, "Contents") ? entry_element(list, text) : 0;
	return reader->depth == 2 ? page_element(list, text) : 0;
}

int s3_xml_list_new(s3_xml_entry_fn *fn, void *arg, struct s3_xml_list **ret)
{
	struct s3_xml_list *list = calloc(1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	int r = reader_init(&list->reader, S3_PAGE_SIZE_MAX);
	if (r < 0) {
		free(list);
		return r;
	}
	list->reader.element = list_element;
	list->fn = fn;
	list->arg = arg;
	*ret = list;
	return 0;
}

void s3_xml_list_free(struct s3_xml_list *list)
{
	if (!list)
		return;
	reader_done(&list->reader);
	free(list);
}

int s3_xml_list_feed(struct s3_xml_list *list, const void *data, size_t size)
{
	return reader_feed(&list->reader, data, size);
}

int s3_xml_list_end(struct s3_xml_list *list, struct s3_xml_page *ret)
{
	int r = parse_piece(&list->reader, NULL, 0, true);
	if (r == 0)
		*ret = list->page;
	return r;
}
