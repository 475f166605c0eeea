#include "cmd/print.h"

#include <inttypes.h>
#include <stdio.h>

#include "cmd/root_text.h"
#include "cmd/text.h"
#include "cmd/where.h"
#include "engine/engine.h"

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

static void next_object(struct print *print)
{
	(void)fputs(print->any ? ",\n" : "\n", stdout);
	print->any = true;
}

void print_segment(struct print *print, const struct where_segment *segment)
{
	char uuid[UUID_TEXT_LENGTH + 1], time[TEXT_TIME_LENGTH];

	(void)uuid_format(&segment->uuid, uuid);
	(void)text_time(segment->modified_ns, time);
	if (!print->json) {
		(void)printf("%s  %-8s %14" PRIu64 "  %14" PRIu64 "  %s\n", uuid, segment->state,
			     segment->length, segment->durable, time);
		return;
	}
	next_object(print);
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
	next_object(print);
	(void)printf("{\"pointer\": \"%s\", \"offset\": %" PRIu64 ", \"size\": %" PRIu64 "}", text,
		     offset, size);
}

void print_root(struct print *print, const struct engine_root *root)
{
	char time[TEXT_TIME_LENGTH], pointer[TEXT_POINTER_LENGTH], text[ROOT_TEXT_SIZE_MAX];

	if (print->json) {
		next_object(print);
		size_t length = root_text_format(root, text, sizeof(text));
		(void)printf("%.*s", (int)length - 1, text); /* without its newline */
		return;
	}
	(void)printf("%8" PRIu64 "  %s  %-50s  node %" PRIu32 "\n", root->seq,
		     text_time(root->time_ns, time), text_pointer(&root->pointer, pointer),
		     root->node);
}

void print_root_alone(const struct engine_root *root, bool json)
{
	char time[TEXT_TIME_LENGTH], pointer[TEXT_POINTER_LENGTH], text[ROOT_TEXT_SIZE_MAX];

	if (json) {
		(void)root_text_format(root, text, sizeof(text));
		(void)fputs(text, stdout);
		return;
	}
	(void)printf("root     %" PRIu64 "\npointer  %s\ntime     %s\nnode     %" PRIu32 "\n",
		     root->seq, text_pointer(&root->pointer, pointer),
		     text_time(root->time_ns, time), root->node);
}
