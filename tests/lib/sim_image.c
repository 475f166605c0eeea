#include "tests/lib/sim_image.h"

#include <string.h>

#include "base/invariant.h"
#include "tests/lib/sim_alloc.h"

/* Stands for a page that is allocated and all zero. */
static uint8_t zero_page[SIM_PAGE_SIZE];

static void page_free(struct sim_image *image, size_t index)
{
	uint8_t *page = image->pages[index];
	if (!page)
		return;
	if (page != zero_page)
		sim_free(page);
	image->pages[index] = NULL;
	image->allocated -= SIM_PAGE_SIZE;
}

void sim_image_done(struct sim_image *image)
{
	for (size_t i = 0; i < image->page_count; i++)
		page_free(image, i);
	sim_free((void *)image->pages);
	*image = (struct sim_image){0};
}

static void pages_extend(struct sim_image *image, size_t count)
{
	if (count <= image->page_count)
		return;
	size_t more = image->page_count * 2 > count ? image->page_count * 2 : count;
	image->pages = sim_realloc((void *)image->pages, more * sizeof(uint8_t *));
	memset((void *)(image->pages + image->page_count), 0,
	       (more - image->page_count) * sizeof(uint8_t *));
	image->page_count = more;
}

static uint8_t *page_copy(const uint8_t *from)
{
	uint8_t *page = sim_malloc(SIM_PAGE_SIZE);
	memcpy(page, from, SIM_PAGE_SIZE);
	return page;
}

void sim_image_copy(struct sim_image *to, const struct sim_image *from)
{
	*to = (struct sim_image){.allocated = from->allocated, .size = from->size};
	pages_extend(to, from->page_count);
	for (size_t i = 0; i < from->page_count; i++) {
		uint8_t *page = from->pages[i];
		to->pages[i] = page && page != zero_page ? page_copy(page) : page;
	}
}

void sim_image_read(const struct sim_image *image, void *data, size_t size, uint64_t offset)
{
	uint8_t *out = data;
	while (size) {
		size_t index = (size_t)(offset / SIM_PAGE_SIZE);
		size_t within = (size_t)(offset % SIM_PAGE_SIZE);
		size_t piece = SIM_PAGE_SIZE - within < size ? SIM_PAGE_SIZE - within : size;
		const uint8_t *page = index < image->page_count ? image->pages[index] : NULL;
		if (page)
			memcpy(out, page + within, piece);
		else
			memset(out, 0, piece);
		out += piece;
		offset += piece;
		size -= piece;
	}
}

static void page_write(struct sim_image *image, size_t index, const uint8_t *data, size_t size,
		       size_t within)
{
	uint8_t *page = image->pages[index];
	if (!data && page == zero_page)
		return;
	if (page == zero_page)
		page = image->pages[index] = page_copy(zero_page);
	if (data)
		memcpy(page + within, data, size);
	else
		memset(page + within, 0, size);
}

void sim_image_write(struct sim_image *image, const void *data, size_t size, uint64_t offset)
{
	const uint8_t *in = data;
	sim_image_reserve(image, offset, size);
	while (size) {
		size_t within = (size_t)(offset % SIM_PAGE_SIZE);
		size_t piece = SIM_PAGE_SIZE - within < size ? SIM_PAGE_SIZE - within : size;
		page_write(image, (size_t)(offset / SIM_PAGE_SIZE), in, piece, within);
		in = in ? in + piece : NULL;
		offset += piece;
		size -= piece;
	}
}

void sim_image_reserve(struct sim_image *image, uint64_t offset, uint64_t size)
{
	size_t end = (size_t)((offset + size + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE);
	pages_extend(image, end);
	for (size_t i = (size_t)(offset / SIM_PAGE_SIZE); i < end; i++) {
		if (image->pages[i])
			continue;
		image->pages[i] = zero_page;
		image->allocated += SIM_PAGE_SIZE;
	}
}

uint64_t sim_image_growth(const struct sim_image *image, uint64_t offset, uint64_t size)
{
	uint64_t growth = 0;
	uint64_t end = (offset + size + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE;
	for (uint64_t i = offset / SIM_PAGE_SIZE; i < end; i++) {
		if (i >= image->page_count || !image->pages[i])
			growth += SIM_PAGE_SIZE;
	}
	return growth;
}

void sim_image_resize(struct sim_image *image, uint64_t size)
{
	image->size = size;
	size_t within = (size_t)(size % SIM_PAGE_SIZE);
	size_t index = (size_t)(size / SIM_PAGE_SIZE);
	if (within && index < image->page_count && image->pages[index])
		page_write(image, index, NULL, SIM_PAGE_SIZE - within, within);
	for (size_t i = index + (within ? 1 : 0); i < image->page_count; i++)
		page_free(image, i);
	invariant(image->allocated % SIM_PAGE_SIZE == 0);
}
