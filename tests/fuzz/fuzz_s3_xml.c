/*
 * S3's XML: an error document and a page of a listing. However a document is cut into pieces, it means
 * the same; what is taken has its bounds.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/hash.h"
#include "base/invariant.h"
#include "cloud/s3_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	unsigned count;
	uint64_t sum;
};

static int on_entry(void *arg, const char *key, uint64_t size)
{
	struct seen *seen = arg;
	invariant(strlen(key) <= 3 * 1024);
	seen->count++;
	seen->sum = seen->sum * 31 + hash64_of(key, strlen(key)) + size;
	return 0;
}

static int parse(const uint8_t *data, size_t size, size_t piece, struct seen *seen,
		 struct s3_xml_page *page)
{
	struct s3_xml_list *list = NULL;
	int r = s3_xml_list_new(on_entry, seen, &list);
	invariant(r == 0);
	for (size_t done = 0; done < size && r == 0; done += piece)
		r = s3_xml_list_feed(list, data + done, size - done < piece ? size - done : piece);
	if (r == 0)
		r = s3_xml_list_end(list, page);
	s3_xml_list_free(list);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3_xml_error error;
	int r = s3_xml_error_parse(data, size, &error);
	invariant(r == 0 || r == -EBADMSG);
	if (r == 0)
		invariant(error.code[0] && (!error.region[0] || s3_region_valid(error.region)));

	struct seen whole = {0}, cut = {0};
	struct s3_xml_page page = {0}, cut_page = {0};
	r = parse(data, size, size ? size : 1, &whole, &page);
	invariant(r == 0 || r == -EBADMSG);
	invariant(whole.count <= S3_PAGE_MAX);
	invariant(parse(data, size, 7, &cut, &cut_page) == r);
	if (r == 0) {
		invariant(whole.count == cut.count && whole.sum == cut.sum);
		invariant(page.truncated == cut_page.truncated);
		invariant(strcmp(page.token, cut_page.token) == 0);
	}
	return 0;
}
