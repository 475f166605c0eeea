/*
 * What users and other programs hand to the program, the first byte choosing the parser: pointers,
 * sizes, options, mountinfo, roots, and content that calls itself JSON or MessagePack.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/invariant.h"
#include "cmd/content_check.h"
#include "cmd/mountinfo.h"
#include "cmd/options.h"
#include "cmd/root_parse.h"
#include "cmd/text.h"
#include "engine/engine.h"
#include "fs/render.h"
#include "fs/root_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What parses is written again and parses to the same. */
static void try_pointer(const char *text)
{
	struct engine_pointer pointer, again;
	char written[TEXT_POINTER_LENGTH];

	if (text_parse_pointer(text, &pointer) < 0)
		return;
	invariant(text_parse_pointer(text_pointer(&pointer, written), &again) == 0);
	invariant(uuid_equal(&again.segment, &pointer.segment) && again.offset == pointer.offset);
}

static void try_numbers(const char *text)
{
	uint64_t value, plain;

	if (text_parse_u64(text, &plain) == 0) {
		invariant(text_parse_size(text, &value) == 0 && value == plain);
		invariant(text_parse_duration(text, 1, &value) == 0 && value == plain);
		invariant(text_parse_duration(text, 0, &value) < 0);
	}
	int r = text_parse_time(text, &value);
	invariant(r <= 0);
}

static void try_options(const char *text)
{
	struct options options;
	struct reterr err = {0};

	options_init(&options);
	int r = options_parse(&options, text, &err);
	invariant(r == err.code);
	invariant(options.fuse.size == 0 || options.fuse.data[options.fuse.size - 1] == '\0');
	options_done(&options);
}

static void try_mountinfo(char *text, size_t size)
{
	struct mountinfo mount;
	if (mountinfo_parse_line(text, &mount) < 0)
		return;
	invariant(mount.mountpoint >= text && mount.mountpoint <= text + size);
	invariant(mount.source >= text && mount.source <= text + size);
}

static void try_root(struct slice text)
{
	struct buf written = {.max = ROOT_TEXT_MAX};
	struct engine_root root, again;

	/* Beyond that years have five digits, which no root that we publish has. */
	if (root_parse(text, &root) < 0 || root.time_ns > (uint64_t)250000000000 * 1000000)
		return;
	invariant(root_text_print(&root, &written) == 0);
	invariant(root_parse((struct slice){.data = written.data, .size = written.size}, &again) ==
		  0);
	invariant(uuid_equal(&again.pointer.segment, &root.pointer.segment));
	invariant(again.pointer.offset == root.pointer.offset && again.seq == root.seq);
	invariant(again.time_ns == root.time_ns && again.node == root.node);
	buf_done(&written);
}

static int check_json(struct slice text, size_t piece)
{
	struct json_check *check;
	int r = json_check_new(&check);

	invariant(r == 0);
	for (size_t at = 0; r == 0 && at < text.size; at += piece)
		r = json_check_feed(check, text.data + at,
				    text.size - at < piece ? text.size - at : piece, NULL);
	if (r == 0)
		r = json_check_end(check, NULL);
	json_check_free(check);
	return r;
}

/* Pieces change nothing, and what the mount can show is never refused. */
static void try_content(struct slice text)
{
	int whole = check_json(text, text.size + 1);
	invariant(check_json(text, 1) == whole);
	if (text.size && render_atom(ENGINE_FORMAT_JSON, text, NULL, NULL) == 0)
		invariant(whole == 0);
	if (text.size && render_atom(ENGINE_FORMAT_MSGPACK, text, NULL, NULL) == 0)
		invariant(msgpack_check(text, NULL) == 0);
	int r = msgpack_check(text, NULL);
	invariant(r <= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > 65536)
		return 0;
	struct slice rest = {.data = data + 1, .size = size - 1};
	char *text = malloc(size);
	invariant(text != NULL);
	memcpy(text, rest.data, rest.size);
	text[rest.size] = '\0';

	switch (data[0] % 6) {
	case 0:
		try_pointer(text);
		break;
	case 1:
		try_numbers(text);
		break;
	case 2:
		try_options(text);
		break;
	case 3:
		try_mountinfo(text, rest.size);
		break;
	case 4:
		try_root(rest);
		break;
	default:
		try_content(rest);
		break;
	}
	free(text);
	return 0;
}
