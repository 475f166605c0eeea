"""What is measured. Each function makes what it needs, measures a group of rows and returns results."""

import contextlib
import os
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import mounts
import report
from mounts import BenchError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY_S = 86400
HOT_ATOMS = 64
NULL_FILES = "atoms/00000000-0000-0000-0000-000000000000"


@dataclass
class Bench:
    """How this run measures, and where."""
    bin: Path       # programs of bench/
    protofs: Path
    dir: Path       # scratch
    rounds: int
    batch_ms: int
    scale: str      # "quick", "default", "long"

    def program(self, name, verb, *args, rounds=None, pinned=False, env=None):
        text = mounts.run(self.bin / name, verb, "--rounds", rounds or self.rounds,
                          "--batch-ms", self.batch_ms, *args, env=env,
                          preexec_fn=mounts.pin_self if pinned else None)
        return report.parse_samples(text)

    def need(self, size):
        """Room for SIZE bytes, and as much again for others, or no measurement."""
        free = shutil.disk_usage(self.dir).free
        if free < 2 * size:
            raise BenchError(f"{free >> 30} GiB free in {self.dir}, {2 * size >> 30} needed")

    def pick(self, quick, default, long):
        return {"quick": quick, "default": default, "long": long}[self.scale]

    @contextlib.contextmanager
    def store(self, fill=None):
        """A new store, mounted: (mountpoint, its directory, the daemon's pid)."""
        with mounts.scratch(self.dir) as top:
            where, mountpoint = top / "store", top / "mnt"
            if fill:
                where.mkdir()
                fill(where)
            else:
                mounts.run(self.protofs, "init", where)
            with self.mount(where, mountpoint) as pid:
                yield mountpoint, where, pid

    def mount(self, where, mountpoint):
        return mounts.mounted([self.protofs, "mount", where, mountpoint, "-f"], mountpoint)

    @contextlib.contextmanager
    def null(self, like, *args, pinned=False):
        """A nullfs that reads ahead as far as the mount LIKE does."""
        with mounts.scratch(self.dir) as top:
            point = top / "null"
            with mounts.mounted([self.bin / "nullfs", *args, point], point) as pid:
                if like:
                    mounts.copy_readahead(like, point)
                if pinned:
                    mounts.pin(pid)
                yield point / NULL_FILES


# ---- The disk, and the noise ----------------------------------------------------------------------

def self_check(b):
    with mounts.scratch(b.dir) as top:
        rates, _ = b.program("bench_disk", "self", "--dir", top)
    results = [report.ratio("self-append", "noise: append+fdatasync against itself",
                            rates["self-append"], "self", ["append"]),
               report.ratio("self-limit", "noise: the device's limit against itself",
                            rates["self-limit"], "self", ["limit"])]
    args = ["--files", HOT_ATOMS, "--size", 4096, "--direct", "--timeout", 0]
    with b.null(None, *args, pinned=True) as one, b.null(None, *args, pinned=True) as other:
        rates, _ = b.program("bench_mount", "hot", "--ours", one, "--base", other, pinned=True)
    return results + [report.ratio(f"self-{op}", f"noise: {op} on nullfs against another nullfs",
                                   rates[op], "mount", ["nullfs"]) for op in ("cat", "stat")]


def paths(b):
    with mounts.scratch(b.dir) as top:
        rates, _ = b.program("bench_paths", "commit", "--dir", top)
    sides = rates["paths"]
    return [report.ratio(f"path-{path}", f"data and both table copies by {path}, device limit", sides,
                         path, ["limit"]) for path in ("io_uring", "threads", "buffered")]


# ---- The engine -----------------------------------------------------------------------------------

def commits(b, threads):
    b.need(8 * GIB)
    with mounts.scratch(b.dir) as top:
        rates, _ = b.program("bench_engine", "commit", "--dir", top, "--threads", threads)
    name, appends = f"commit-{threads}", ["one file", "own files"]
    sides = rates[name]
    who = "1 committer" if threads == 1 else f"{threads} committers"
    if threads == 1:
        return [report.ratio(name, f"durable commits of 4 KiB, {who}, device limit", sides, "engine",
                             ["limit"], 0.85),
                report.ratio(name + "-append", "the same, append+fdatasync", sides, "engine",
                             appends, choose=max),
                report.ratio(name + "-atoms", "4 KiB atoms (4,105 bytes), device limit", sides,
                             "engine atoms", ["limit"])]
    return [report.ratio(name, f"durable commits of 4 KiB, {who}, append+fdatasync", sides,
                         "engine", appends, 1.3, choose=max),
            report.ratio(name + "-limit", "the same, device limit by as many threads", sides,
                         "engine", ["limit"]),
            report.ratio(name + "-atoms", "4 KiB atoms (4,105 bytes), append+fdatasync", sides,
                         "engine atoms", appends, choose=max)]


def atoms(b):
    count = b.pick(1_000_000, 3_000_000, 10_000_000)
    rounds = b.pick(3, 5, 5)
    b.need(2 * (rounds + 1) * count * 109)
    with mounts.scratch(b.dir) as top:
        rates, _ = b.program("bench_engine", "atoms", "--dir", top, "--count", count, rounds=rounds)
    sides = rates["atoms"]
    return [report.figure("atoms", "atoms of 100 B appended, 1 thread, one wait", "/s",
                          list(sides["engine"].values()), 3e6, at_most=False,
                          note=f"{count:,} at a time"),
            report.ratio("atoms-loop", "the same, a bare loop of write(2)", sides, "engine",
                         ["bare loop"])]


def opening(b):
    size = b.pick(GIB // 4, GIB, GIB)
    b.need(3 * size)
    with mounts.scratch(b.dir) as top:
        _, values = b.program("bench_engine", "open", "--dir", top, "--size", size,
                              rounds=b.pick(2, 3, 5))

    def of(row):
        return [1000 * value["value"] for value in values if value["row"] == row]
    note = f"{size >> 20} MiB, cold"
    return [report.figure("open-clean", "open after a clean stop", "ms", of("open-clean"), 10,
                          note=note),
            report.figure("open-crash", "open after kill -9", "ms", of("open-crash"), 1000,
                          note=note)]


# ---- The mount: small operations ------------------------------------------------------------------

def against_disk(b, verb, what, limit):
    with b.store() as (mnt, _, _), mounts.scratch(b.dir) as plain:
        rates, _ = b.program("bench_mount", verb, "--ours", mnt / "space", "--base", plain)
    name = "mount-" + verb
    return [report.ratio(name, what, rates[name], "mount", ["ext4"], limit)]


def hot(b):
    """
    On one CPU: where client and daemon run decides (4 us on the same CPU, 50 us and more when the other one must
    be woken), and the scheduler's choice is the same toss for every FUSE file system. The rows "-free" leave it to it.
    """
    with b.store() as (mnt, _, pid):
        segment = mounts.run(b.bin / "bench_mount", "atoms", "--ours", mnt / "space", "--count",
                             HOT_ATOMS, "--size", 4096).strip()
        where = mnt / "atoms" / segment
        null = ["--files", HOT_ATOMS, "--size", 4096]
        opened, sealed = [*null, "--direct", "--timeout", 0], [*null, "--timeout", DAY_S]
        results = hot_rows(b, mnt, where, "open-free", opened)
        mounts.pin(pid)
        results += hot_rows(b, mnt, where, "open", opened, pinned=True)
        seal(mnt, segment)
        results += hot_rows(b, mnt, where, "sealed", sealed, pinned=True)
    return results


def hot_rows(b, mnt, where, state, null_args, pinned=False):
    texts = {"cat": "open, read, close of a hot atom", "read": "read of a hot atom, open file",
             "stat": "stat of a hot atom"}
    with b.null(mnt, *null_args, pinned=pinned) as null:
        rates, _ = b.program("bench_mount", "hot", "--ours", where, "--base", null, pinned=pinned)
    return [report.ratio(f"hot-{op}-{state}", f"{texts[op]}, {state} segment", rates[op], "mount",
                         ["nullfs"], 0.9 if pinned else None) for op in texts]


# ---- The mount: streams ---------------------------------------------------------------------------

def seal(mnt, segment):
    """Returns when all parts of SEGMENT are sealed: until then the sealer reads it, too."""
    (mnt / ".ctl" / "seal").write_text("1\n")
    path = mnt / "wal" / segment
    mounts.wait_for(lambda: os.getxattr(path, "user.protofs.state") == b"sealed", "sealing", 120)


def stream(b):
    rounds = b.pick(8, 16, 32)      # of 128 MiB
    b.need(2 * rounds * 128 * MIB)
    segment = str(uuid.uuid4())
    with b.store() as (mnt, where, _), mounts.scratch(b.dir) as plain:
        null_size = ["--size", rounds * 128 * MIB]
        with b.null(mnt, *null_size, "--direct") as null:
            rates, _ = b.program("bench_stream", "write", "--ours", mnt / "space" / segment,
                                 "--base", null / "0", "--dir", plain, rounds=rounds)
        seal(mnt, segment)
        with b.null(mnt, *null_size, "--timeout", DAY_S) as null:
            more, _ = b.program("bench_stream", "read", "--ours", mnt / "wal" / segment,
                                "--base", null / "0", "--dir", plain, "--store", where,
                                rounds=rounds)
    note = "1 MiB calls, the slower of nullfs and O_DIRECT"
    return [report.ratio("stream-write", "sequential write, " + note, rates["stream-write"],
                         "mount", ["nullfs", "direct"], 0.7, choose=min),
            report.ratio("stream-read", "cold read, " + note, more["stream-read"], "mount",
                         ["nullfs", "direct"], 0.7, choose=min)]


# ---- The mount: a million names, memory, start ----------------------------------------------------

def time_listing(path):
    environment = {**os.environ, "LC_ALL": "C"}
    start = time.monotonic()
    subprocess.run(["ls", "-U", str(path)], stdout=subprocess.DEVNULL, check=True, env=environment,
                   timeout=600)
    return time.monotonic() - start


def listing(b):
    count = b.pick(1_000_000, 10_000_000, 10_000_000)
    limit_s = 3 * count / 10_000_000
    b.need(GIB)

    def fill(where):
        mounts.run(b.bin / "bench_engine", "fill", "--dir", where, "--count", count, "--size", 32)

    with b.store(fill) as (mnt, _, pid):
        segment = next((mnt / "atoms").glob("*-*-*-*-*"))
        names = sum(1 for _ in os.scandir(segment))
        if names != count:
            raise BenchError(f"{segment.name} lists {names} atoms of {count}")
        with b.null(mnt, "--files", count, "--timeout", DAY_S) as null:
            times = [(time_listing(segment), time_listing(null)) for _ in range(b.pick(3, 5, 9))]
        high = mounts.memory_mib(pid, "VmHWM")
    ours, theirs = zip(*times)
    return [report.figure("list", f"ls -U of {count:,} atoms", "s", ours, limit_s,
                          note=f"nullfs {min(theirs):.2f}-{max(theirs):.2f} s"),
            report.figure("list-memory", "memory of the daemon that lists them (VmHWM)", "MiB",
                          [high], 64)]


def memory(b):
    size = b.pick(GIB // 2, GIB, 10 * GIB)
    b.need(size + GIB)
    with b.store() as (mnt, _, pid):
        fresh = mounts.memory_mib(pid, "VmRSS")
        mounts.run(b.bin / "bench_stream", "through", "--ours", mnt / "space" / str(uuid.uuid4()),
                   "--size", size, timeout_s=1800)
        high = mounts.memory_mib(pid, "VmHWM")
        time.sleep(3)
        after = mounts.memory_mib(pid, "VmRSS")
    return [report.figure("memory-stream", f"daemon memory, {size / GIB:g} GiB written and read (VmHWM)",
                          "MiB", [high], 64),
            report.figure("memory-idle", "daemon memory, just mounted (VmRSS)", "MiB", [fresh], 16),
            report.figure("memory-after", "daemon memory, idle after the stream (VmRSS)", "MiB",
                          [after], 16)]


def start(b):
    times = []
    with mounts.scratch(b.dir) as top:
        where, point = top / "store", top / "mnt"
        point.mkdir()
        mounts.run(b.protofs, "init", where)
        for _ in range(b.pick(5, 10, 20)):
            begin = time.monotonic()
            mounts.run(b.protofs, "mount", where, point)
            times.append(1000 * (time.monotonic() - begin))
            if not mounts.is_mounted(point):
                raise BenchError("protofs mount returned before the mount was there")
            mounts.run(b.protofs, "umount", point)
            mounts.wait_for(lambda: not mounts.is_mounted(point), "umount", 20)
    return [report.figure("start", "protofs mount, until it is mounted", "ms", times, 50)]


def size(b):
    with mounts.scratch(b.dir) as top:
        stripped = top / "protofs"
        mounts.run("strip", "-o", stripped, b.protofs)
        kib = stripped.stat().st_size / KIB
    return [report.figure("size", "the program, stripped", "KiB", [kib], 1024)]


GROUPS = {
    "self": self_check,
    "paths": paths,
    "commit-1": lambda b: commits(b, 1),
    "commit-8": lambda b: commits(b, 8),
    "commit-64": lambda b: commits(b, 64),
    "atoms": atoms,
    "open": opening,
    "mount-append": lambda b: against_disk(b, "append", "append 4 KiB + fsync", 1.1),
    "mount-publish": lambda b: against_disk(b, "publish", "ProtoDB's publish sequence", 1.0),
    "mount-publish-pages": lambda b: against_disk(
        b, "publish-pages", "the same, no page of the segment kept", None),
    "mount-write-publish": lambda b: against_disk(
        b, "write-publish", "the same with an atom appended before", None),
    "hot": hot,
    "stream": stream,
    "list": listing,
    "memory": memory,
    "start": start,
    "size": size,
}
