#!/usr/bin/python3
"""A client of a space directory that makes ProtoDB's system calls, one by one, on any filesystem.

ProtoDB (`proto_db`, FileBlockProvider) keeps its log in files named by a UUID and one root pointer in
`space_root`. What it calls `transaction_id` is what protofs calls a segment. Here each of its system calls
is one os.* call, counted, so that a test can end the client, or make it wait, between any two of them.

Modes, by when the bytes of a commit are written (--mode):

    seed     as ProtoDB does: the root first; the segment's bytes when 1 MiB is buffered, or at the end, without
             fsync. On an ordinary filesystem a crash leaves a root that points at nothing. protofs holds such a root
             until its bytes have come.
    flushed  write(2) and close before the root, no fsync: the rename onto space_root is the barrier
    shim     write(2) and fdatasync before the root, the segment stays open: the way that we recommend, because it is
             safe on any filesystem

A commit appends a few atoms (JSON, MessagePack, bytes) and a root atom that points at them and at the root before
it, then publishes a pointer to the root atom under the lock. walk() follows that chain and checks every atom.

    protodb_client.py SPACE --commits 10 --mode shim --ack acknowledged.log
"""
import argparse
import errno
import fcntl
import hashlib
import json
import os
import random
import signal
import struct
import sys
import threading
import time
import uuid

try:
    import msgpack
except ImportError:
    os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B", *sys.argv])

RAW, JSON, MSGPACK = 0, 1, 2
HEADER = struct.Struct("<QB")
PAGE_SIZE = 1 << 20
BUFFER_MAX = 1 << 20
SEGMENT_REUSE_MAX = 8 << 20
LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.01


class Broken(Exception):
    """What the root refers to is not whole."""


class Steps:
    """Counts system calls, and stops the process at one of them."""

    def __init__(self, crash_at=None, pause_at=None, trace=None):
        self.crash_at = crash_at
        self.pause_at = pause_at
        self.trace = trace
        self.count = 0

    def __call__(self, function, *args, **kwargs):
        self.count += 1
        if self.trace:
            print(f"{self.count} {function.__name__} {args}", file=self.trace, flush=True)
        if self.count == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == self.pause_at:
            # The test now does what it wants, and then says that we may go on.
            print(f"at {self.count} {function.__name__}", flush=True)
            sys.stdin.readline()
        return function(*args, **kwargs)


class Space:
    """The directory: segments, the root and the lock."""

    def __init__(self, path, steps=None):
        self.path = path
        self.sys = steps or Steps()

    def at(self, name):
        return f"{self.path}/{name}"

    def open(self):
        """What ProtoDB does first. Returns {name: size} of the segments."""
        sys = self.sys
        try:
            sys(os.stat, self.path)
        except FileNotFoundError:
            sys(os.mkdir, self.path, 0o777)
        try:
            os.close(sys(os.open, self.at("space.config"), os.O_RDONLY))
        except FileNotFoundError:
            pass
        sizes = {}
        for n, name in enumerate(sys(os.listdir, self.path)):
            # The first ones are steps; the directory grows, and a sweep over all steps has to end.
            info = (sys if n < 3 else Steps())(os.stat, self.at(name))
            if len(name) == 36:
                sizes[name] = info.st_size
        return sizes

    def read_root(self):
        """The root pointer (segment, offset), or None."""
        sys = self.sys
        try:
            fd = sys(os.open, self.at("space_root"), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            text = b""
            while piece := sys(os.read, fd, 8192):
                text += piece
        finally:
            os.close(fd)
        try:
            value = json.loads(text)
            return value["transaction_id"], value["offset"]
        except (ValueError, KeyError) as error:
            raise Broken(f"space_root holds {text!r}: {error}") from None

    def publish(self, pointer):
        sys = self.sys
        text = json.dumps({"transaction_id": pointer[0], "offset": pointer[1]}).encode()
        tmp = self.at(f"space_root.{threading.get_native_id()}.{uuid.uuid4().hex}.tmp")
        fd = sys(os.open, tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        sys(os.write, fd, text)
        sys(os.fsync, fd)
        sys(os.close, fd)
        sys(os.rename, tmp, self.at("space_root"))
        fd = sys(os.open, self.path, os.O_RDONLY | os.O_DIRECTORY)
        sys(os.fsync, fd)
        sys(os.close, fd)

    def lock(self):
        """Returns the locked descriptor. ProtoDB goes on without the lock after 5 s; we raise TimeoutError."""
        sys = self.sys
        fd = sys(os.open, self.at("space_root.lock"), os.O_RDWR | os.O_CREAT, 0o777)
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                sys(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(fd)
                    raise TimeoutError("space_root.lock") from None
                time.sleep(LOCK_POLL_S)

    def unlock(self, fd):
        self.sys(fcntl.flock, fd, fcntl.LOCK_UN)
        self.sys(os.close, fd)


class Segment:
    """An 'ab+' file, opened as Python opens it."""

    def __init__(self, space, name):
        self.space = space
        self.name = name
        self.fd = None
        self.end = 0      # of the file
        self.buffer = []  # frames that are not written
        self.buffered = 0

    def open(self):
        sys = self.space.sys
        self.fd = sys(os.open, self.space.at(self.name), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        info = sys(os.fstat, self.fd)
        self.block = info.st_blksize
        sys(os.isatty, self.fd)
        self.end = sys(os.lseek, self.fd, 0, os.SEEK_END)
        sys(os.lseek, self.fd, 0, os.SEEK_CUR)

    def push(self, payload, format):
        """Returns the pointer, predicted by us, as ProtoDB does."""
        pointer = (self.name, self.end + self.buffered)
        data = HEADER.pack(len(payload), format) + payload
        self.buffer.append(data)
        self.buffered += len(data)
        return pointer

    def flush(self, sync, close):
        sys = self.space.sys
        if self.buffer:
            if self.fd is None:
                self.open()
            # O_APPEND makes this a formality, but ProtoDB does it.
            sys(os.lseek, self.fd, self.end, os.SEEK_SET)
            view = memoryview(b"".join(self.buffer))
            while view:
                written = sys(os.write, self.fd, view[:self.block])
                view = view[written:]
                self.end += written
            self.buffer, self.buffered = [], 0
        if sync and self.fd is not None:
            sys(os.fdatasync, self.fd)
        if close and self.fd is not None:
            sys(os.close, self.fd)
            self.fd = None


class Reader:
    """Reads segments by pages of 1 MiB, as ProtoDB does; a short page is read again later."""

    def __init__(self, space, cache=True):
        self.space = space
        self.pages = {} if cache else None

    def page(self, name, number, need):
        data = self.pages.get((name, number), b"") if self.pages is not None else b""
        if len(data) >= need:
            return data
        sys = self.space.sys
        try:
            fd = sys(os.open, self.space.at(name), os.O_RDONLY)
        except FileNotFoundError:
            raise Broken(f"segment {name} does not exist") from None
        try:
            sys(os.lseek, fd, number * PAGE_SIZE, os.SEEK_SET)
            data = sys(os.read, fd, PAGE_SIZE)
            if len(data) < PAGE_SIZE:
                data += sys(os.read, fd, PAGE_SIZE - len(data))
        finally:
            os.close(fd)
        if self.pages is not None:
            self.pages[name, number] = data
        return data

    def bytes(self, name, offset, size):
        out = b""
        while len(out) < size:
            number, skip = divmod(offset + len(out), PAGE_SIZE)
            want = min(size - len(out), PAGE_SIZE - skip)
            piece = self.page(name, number, skip + want)[skip:skip + want]
            if len(piece) < want:
                raise Broken(f"segment {name} ends before byte {offset + size}")
            out += piece
        return out

    def atom(self, pointer):
        name, offset = pointer
        size, format = HEADER.unpack(self.bytes(name, offset, HEADER.size))
        if size > 1 << 32 or format > 2:
            raise Broken(f"{name}/{offset} is no frame: size {size}, format {format}")
        return format, self.bytes(name, offset + HEADER.size, size)


def digest(payload):
    return hashlib.blake2b(payload, digest_size=12).hexdigest()


def some_atom(rng, client, n):
    """An atom as applications have them: JSON, MessagePack or bytes."""
    kind = rng.randrange(4)
    record = {
        "client": client, "n": n, "id": rng.getrandbits(60), "price": rng.random() * 1e6,
        "name": "".join(rng.choice("abcdeé漢😀 \"\\\n") for _ in range(rng.randrange(40))),
        "tags": [rng.choice(["x", "yy", None, True, -1]) for _ in range(rng.randrange(6))],
        "nested": {"a": {"b": {"c": []}}},
    }
    if kind == 0:
        return JSON, json.dumps(record, ensure_ascii=rng.random() < 0.5).encode()
    if kind == 1:
        return MSGPACK, msgpack.packb({**record, "blob": rng.randbytes(rng.randrange(300))})
    if kind == 2:
        return RAW, rng.randbytes(rng.randrange(1, 3000))
    return RAW, rng.randbytes(rng.randrange(1, 200_000 if rng.random() < 0.1 else 200))


class Client:
    def __init__(self, path, mode, name="c", seed=0, steps=None, ack=None, lock=True):
        self.space = Space(path, steps)
        self.mode = mode
        self.name = name
        self.rng = random.Random(f"{seed}/{name}")
        self.ack_fd = os.open(ack, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if ack else None
        self.use_lock = lock
        self.commits = 0
        self.unacknowledged = []
        self.sizes = self.space.open()
        self.segment = Segment(self.space, str(uuid.uuid4()))
        self.segment.open()

    def acknowledge(self, line):
        """Outside, and only what the filesystem has promised to keep."""
        if self.ack_fd is not None:
            os.write(self.ack_fd, (json.dumps(line) + "\n").encode())

    def commit(self, atoms=3):
        fd = self.space.lock() if self.use_lock else None
        try:
            before = self.read_current()
            pointers = []
            for _ in range(atoms):
                format, payload = some_atom(self.rng, self.name, self.commits)
                pointers.append([*self.segment.push(payload, format), format, digest(payload)])
            body = {"client": self.name, "n": self.commits, "previous": before, "atoms": pointers}
            root = self.segment.push(json.dumps(body).encode(), JSON)
            self.flush_before_root()
            self.space.publish(root)
        finally:
            if fd is not None:
                self.space.unlock(fd)
        line = {"client": self.name, "n": self.commits, "root": root}
        self.commits += 1
        if self.mode == "seed" and self.segment.buffered:
            self.unacknowledged.append(line)
            if self.segment.buffered >= BUFFER_MAX:
                self.flush_wal()
        else:
            self.acknowledge(line)
        return root

    def read_current(self):
        """The newest root. Its atom is read too, unless it is still in our own buffer: nobody builds on nothing."""
        root = self.space.read_root()
        if root and not (root[0] == self.segment.name and root[1] >= self.segment.end):
            Reader(self.space).atom(root)
        return root

    def flush_before_root(self):
        if self.mode == "shim":
            self.segment.flush(sync=True, close=False)
        elif self.mode == "flushed":
            self.segment.flush(sync=False, close=True)
        if self.segment.end > SEGMENT_REUSE_MAX and not self.segment.buffered:
            self.segment.flush(sync=False, close=True)
            self.segment = Segment(self.space, str(uuid.uuid4()))

    def flush_wal(self):
        """After this the filesystem has the bytes; how long until they are durable is its own affair."""
        self.segment.flush(sync=self.mode == "shim", close=True)
        for line in self.unacknowledged:
            self.acknowledge({**line, "later": True})
        self.unacknowledged = []

    def close(self):
        self.flush_wal()


def walk(path, start=None, limit=None):
    """
    Checks everything that the newest root (or START) refers to. Returns the commits of the chain, newest first,
    as (client, n, root pointer). Raises Broken.
    """
    space = Space(path)
    reader = Reader(space)
    pointer = tuple(start) if start else space.read_root()
    chain = []
    while pointer and (limit is None or len(chain) < limit):
        format, payload = reader.atom(pointer)
        try:
            body = json.loads(payload)
        except ValueError as error:
            raise Broken(f"root atom {pointer}: {error}") from None
        if format != JSON:
            raise Broken(f"root atom {pointer} has format {format}")
        for name, offset, atom_format, atom_digest in body["atoms"]:
            got_format, atom = reader.atom((name, offset))
            if got_format != atom_format or digest(atom) != atom_digest:
                raise Broken(f"atom {name}/{offset} is not what was written")
        chain.append((body["client"], body["n"], pointer))
        pointer = tuple(body["previous"]) if body["previous"] else None
    return chain


def acknowledged(path):
    """The lines of an acknowledgement log; a last line cut by a kill -9 was no acknowledgement."""
    lines = []
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                if line.endswith("\n"):
                    lines.append(json.loads(line))
    return lines


def arguments():
    parser = argparse.ArgumentParser(description="Make ProtoDB's system calls on a directory.")
    parser.add_argument("space", help="the space directory, such as MNT/space")
    parser.add_argument("--mode", choices=["seed", "flushed", "shim"], default="shim")
    parser.add_argument("--commits", type=int, default=10, help="0: until killed")
    parser.add_argument("--atoms", type=int, default=3, help="per commit, beside the root atom")
    parser.add_argument("--name", default="c")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--ack", help="append a line here for each commit that is acknowledged")
    parser.add_argument("--crash-at", type=int, help="kill -9 itself before its Nth system call")
    parser.add_argument("--crash-after", type=int, metavar="COMMITS", help="kill -9 itself, nothing flushed")
    parser.add_argument("--pause-at", type=int, help="before the Nth system call, wait for a line on stdin")
    parser.add_argument("--trace", action="store_true", help="print each system call to stderr")
    parser.add_argument("--count", action="store_true", help="print the number of system calls at the end")
    parser.add_argument("--no-lock", action="store_true")
    parser.add_argument("--walk", action="store_true", help="only check what the newest root refers to")
    return parser.parse_args()


def main():
    args = arguments()
    if args.walk:
        try:
            print(f"{len(walk(args.space))} commits, all whole")
        except Broken as error:
            sys.exit(f"broken: {error}")
        return 0
    steps = Steps(args.crash_at, args.pause_at, sys.stderr if args.trace else None)
    try:
        client = Client(args.space, args.mode, args.name, args.seed, steps, args.ack, not args.no_lock)
        while args.commits == 0 or client.commits < args.commits:
            client.commit(args.atoms)
            if args.crash_after and client.commits == args.crash_after:
                os.kill(os.getpid(), signal.SIGKILL)
        client.close()
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV):
            print(f"the filesystem is gone: {error}", file=sys.stderr)
            return 3
        raise
    except Broken as error:
        print(f"broken: {error}", file=sys.stderr)
        return 4
    if args.count:
        print(steps.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
