/* The sparse bytes of a simulated file. Out of memory ends the test. */
#ifndef PROTOFS_TESTS_LIB_SIM_IMAGE_H
#define PROTOFS_TESTS_LIB_SIM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum { SIM_PAGE_SIZE = 4096 };

/* Zeroed: empty. Pages are NULL where nothing was written; those read as zeros. */
struct sim_image {
	uint8_t **pages;
	size_t page_count;
	uint64_t allocated; /* bytes of pages that were written or reserved */
	uint64_t size;
};

void sim_image_done(struct sim_image *image);
void sim_image_copy(struct sim_image *to, const struct sim_image *from);

/* Zeros where nothing was written, also beyond the size. */
void sim_image_read(const struct sim_image *image, void *data, size_t size, uint64_t offset);
/* DATA NULL: zeros. Does not change the size. */
void sim_image_write(struct sim_image *image, const void *data, size_t size, uint64_t offset);
/* Counts the pages of a range as allocated. */
void sim_image_reserve(struct sim_image *image, uint64_t offset, uint64_t size);
/* By how much such a reservation would make the image grow. */
uint64_t sim_image_growth(const struct sim_image *image, uint64_t offset, uint64_t size);
/* Sets the size; bytes beyond it are forgotten. */
void sim_image_resize(struct sim_image *image, uint64_t size);

#endif
