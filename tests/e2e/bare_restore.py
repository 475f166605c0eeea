#!/usr/bin/env python3
"""Rebuilds a store's segments from what was uploaded, with nothing of protofs: list, get, concatenate.

    bare_restore.py SOURCE DIR               writes each segment to DIR/<uuid>, and what the newest manifest says to DIR/manifest.json
    bare_restore.py --compare SOURCE STORE   compares every object with the segments of STORE, which no daemon may hold

SOURCE is a directory, file:///DIR, or s3://BUCKET/PREFIX with AWS_ENDPOINT_URL and the usual variables. Exit code: 0 done, 1 it
cannot be done or differs, 2 wrong use.

The rule is short. Below wal/<uuid>/ lie blocks, <position>, and deltas, <position>+<from>-<to>, which hold the bytes
[position+from, position+to) of the segment. A segment is what they cover from 0 on without a gap; where two hold the same
bytes they are equal. Below roots/ lie manifests, JSON, numbered from 1 without a gap.
"""
import json
import os
import re
import sys
from collections import namedtuple

import s3_wire

KEY = re.compile(r"wal/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(\d{20})(?:\+(\d{10})-(\d{10}))?")
MANIFEST = re.compile(r"roots/(\d{20})")

Piece = namedtuple("Piece", "start end key")  # an object that holds these bytes of a segment


class RestoreError(Exception):
    pass


# ---- Where it comes from -------------------------------------------------------------------------

class Directory:
    def __init__(self, path):
        self.path = path

    def list(self):
        for top, _, names in os.walk(self.path):
            for name in names:
                path = os.path.join(top, name)
                yield os.path.relpath(path, self.path), os.path.getsize(path)

    def get(self, key):
        with open(os.path.join(self.path, key), "rb") as file:
            return file.read()


class Bucket:
    def __init__(self, client, bucket, prefix=""):
        self.client, self.bucket = client, bucket
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    def list(self):
        for entry in self.client.list(self.bucket, self.prefix):
            yield entry.key.removeprefix(self.prefix), entry.size

    def get(self, key):
        return self.client.get(self.bucket, self.prefix + key)


def open_source(text):
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return Bucket(s3_wire.from_environment(), bucket, prefix)
    return Directory(text.removeprefix("file://"))


# ---- What is there -------------------------------------------------------------------------------

class Place:
    """What a listing of SOURCE says: .segments (uuid -> pieces by start), .manifests (numbers), .others (keys)."""

    def __init__(self, source):
        self.source = source
        self.segments, self.manifests, self.others = {}, [], []
        for key, size in source.list():
            if found := KEY.fullmatch(key):
                uuid, position, start, end = found[1], int(found[2]), int(found[3] or 0), found[4]
                if end is not None and size != int(end) - start:
                    raise RestoreError(f"{key} has {size} bytes")
                self.segments.setdefault(uuid, []).append(Piece(position + start, position + start + size, key))
            elif found := MANIFEST.fullmatch(key):
                self.manifests.append(int(found[1]))
            else:
                self.others.append(key)
        for pieces in self.segments.values():
            pieces.sort(key=lambda piece: (piece.start, -piece.end))
        self.manifests.sort()

    def manifest(self, number):
        return json.loads(self.source.get(f"roots/{number:020d}"))

    def length(self, uuid):
        """How far the pieces go without a gap."""
        end = 0
        for piece in self.segments.get(uuid, ()):
            if piece.start > end:
                break
            end = max(end, piece.end)
        return end

    def copy(self, uuid, write):
        """Gives WRITE the segment's bytes in order; returns their number."""
        end = 0
        for piece in self.segments[uuid]:
            if piece.start > end:
                break
            if piece.end > end:
                write(self.source.get(piece.key)[end - piece.start:])
                end = piece.end
        return end

    def known_lengths(self):
        """What the manifests, read one after the other, say that each segment has at least."""
        lengths = {}
        for number in self.manifests:
            for segment in self.manifest(number)["segments"]:
                lengths[segment["uuid"]] = segment["length"]
        return lengths


def restore(source, directory):
    place = Place(source)
    os.makedirs(directory, exist_ok=True)
    lengths = {}
    for uuid in place.segments:
        with open(os.path.join(directory, uuid), "wb") as file:
            lengths[uuid] = place.copy(uuid, file.write)
    if place.manifests:
        with open(os.path.join(directory, "manifest.json"), "w") as file:
            json.dump(place.manifest(place.manifests[-1]), file)
    return lengths


# ---- Comparing with a store ----------------------------------------------------------------------

class Segment:
    """A segment of a store that no daemon holds: parts named by their first byte; each ends where the next begins."""

    def __init__(self, directory):
        self.parts = []
        names = sorted(name for name in os.listdir(directory) if name.isdigit())
        for name, following in zip(names, [*names[1:], None]):
            path, start = os.path.join(directory, name), int(name)
            self.parts.append((start, int(following) if following else start + os.path.getsize(path), path))

    def read(self, start, end):
        """The bytes [START, END), as far as they are on this disk."""
        found = b""
        for first, last, path in self.parts:
            if first < end and last > start:
                with open(path, "rb") as file:
                    file.seek(max(start, first) - first)
                    found += file.read(min(end, last) - max(start, first))
        return found

    @property
    def length(self):
        return self.parts[-1][1] if self.parts else 0


def compare(source, store, complete=True):
    """
    What differs, as a list of texts. COMPLETE: the segments are there to their ends; otherwise the store may be ahead. An open
    part is longer than what is valid in it, so COMPLETE wants a store that was stopped cleanly.
    """
    place, problems = Place(source), []
    directory = os.path.join(store, "segments")
    local = {uuid: Segment(os.path.join(directory, uuid)) for uuid in os.listdir(directory)}
    for uuid, pieces in place.segments.items():
        if uuid not in local:
            problems.append(f"{uuid} is up there, and not in the store")
            continue
        for piece in pieces:
            theirs, ours = source.get(piece.key), local[uuid].read(piece.start, piece.end)
            if theirs != ours:
                at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
                problems.append(f"{piece.key}: differs from byte {piece.start + at} on ({len(theirs)} bytes there, {len(ours)} here)")
    if place.manifests != list(range(1, len(place.manifests) + 1)):
        problems.append(f"manifests are not numbered without a gap: {place.manifests[:5]}...{place.manifests[-5:]}")
    for uuid, length in place.known_lengths().items():
        if place.length(uuid) < length:
            problems.append(f"{uuid}: a manifest counts {length} bytes, and {place.length(uuid)} are there")
    if complete:
        for uuid, segment in local.items():
            if place.length(uuid) != segment.length:
                problems.append(f"{uuid}: {place.length(uuid)} of {segment.length} bytes are there")
    return problems


def main(arguments):
    if len(arguments) == 2 and not arguments[0].startswith("-"):
        for uuid, length in sorted(restore(open_source(arguments[0]), arguments[1]).items()):
            print(f"{uuid} {length}")
        return 0
    if len(arguments) == 3 and arguments[0] == "--compare":
        problems = compare(open_source(arguments[1]), arguments[2])
        print("\n".join(problems) or "equal")
        return 1 if problems else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (RestoreError, OSError, s3_wire.S3Error) as problem:
        print(f"bare_restore: {problem}", file=sys.stderr)
        sys.exit(1)
