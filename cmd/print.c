#include "cmd/print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cmd/text.h"
#include "cmd/where.h"
#include "engine/engine.h"
#include "fs/json_writer.h"
#include "fs/root_text.h"
#include "fs/utc.h"

enum { MEMBER_SIZE_MAX = 64 << 10 };

void print_begin(struct print *print)
{
	if (print->json)
		(void)fputs("[", stdout);
}

void print_end(struct print *print)
{
	if (print->json)
		(void)fputs(print->any ? "\n]\n" : "]\n", stdout);
}

void print_next(struct print *print)
{
	(void)fputs(print->any ? ",\n" : "\n", stdout);
	print->any = true;
}

void print_member(const char *name, const char *value)
{
	CLEANUP(buf_done) struct buf text = {.max = MEMBER_SIZE_MAX};
	struct json_writer w = {.out = &text};

	(void)printf(", \"%s\": ", name);
	if (!value ||
	    json_string(&w, (struct slice){(const uint8_t *)value, strlen(value)}, false) < 0)
		(void)fputs("null", stdout);
	else
		(void)fwrite(text.data, 1, text.size, stdout);
}

void print_segment(struct print *print, const struct where_segment *segment)
{
	char uuid[UUID_TEXT_LENGTH + 1], time[UTC_TEXT_SIZE];

	(void)uuid_format(&segment->uuid, uuid);
	(void)utc_format(segment->modified_ns, time);
	if (!print->json) {
		(void)printf("%s  %-8s %14" PRIu64 "  %14" PRIu64 "  %s\n", uuid, segment->state,
			     segment->length, segment->durable, time);
		return;
	}
	print_next(print);
	(void)printf("{\"segment\": \"%s\", \"state\": \"%s\", \"length\": %" PRIu64
		     ", \"durable\": %" PRIu64 ", \"modified\": \"%s\"}",
		     uuid, segment->state, segment->length, segment->durable, time);
}

void print_atom(struct print *print, const struct uuid *segment, uint64_t offset, uint64_t size)
{
	const struct engine_pointer pointer = {.segment = *segment, .offset = offset};
	char text[TEXT_POINTER_LENGTH];

	(void)text_pointer(&pointer, text);
	if (!print->json) {
		(void)printf("%-50s %" PRIu64 "\n", text, size);
		return;
	}
	print_next(print);
	(void)printf("{\"pointer\": \"%s\", \"offset\": %" PRIu64 ", \"size\": %" PRIu64 "}", text,
		     offset, size);
}

/* As roots/<seq> of a mount, but for the newline. */
static void print_root_object(const struct engine_root *root)
{
	CLEANUP(buf_done) struct buf text = {.max = ROOT_TEXT_MAX};
	if (root_text_print(root, &text) < 0)
		(void)fputs("null", stdout);
	else
		(void)fwrite(text.data, 1, text.size - 1, stdout);
}

void print_root(struct print *print, const struct engine_root *root)
{
	char time[UTC_TEXT_SIZE], pointer[TEXT_POINTER_LENGTH];

	if (print->json) {
		print_next(print);
		print_root_object(root);
		return;
	}
	(void)printf("%8" PRIu64 "  %s  %-50s  node %" PRIu32 "\n", root->seq,
		     utc_format(root->time_ns, time), text_pointer(&root->pointer, pointer),
		     root->node);
}

void print_root_alone(const struct engine_root *root, bool json)
{
	char time[UTC_TEXT_SIZE], pointer[TEXT_POINTER_LENGTH];

	if (json) {
		print_root_object(root);
		(void)putchar('\n');
		return;
	}
	(void)printf("root     %" PRIu64 "\npointer  %s\ntime     %s\nnode     %" PRIu32 "\n",
		     root->seq, text_pointer(&root->pointer, pointer),
		     utc_format(root->time_ns, time), root->node);
}
