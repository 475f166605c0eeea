"""What is measured of the cloud, on real S3 servers on this machine. Each function returns results, as in rows.py."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import mounts
import report
from mounts import BenchError

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))
import s3_servers  # noqa: E402
from s3_fault_server import FaultServer  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK = 5 * MIB
CONNECTIONS = 8
BUCKET = "bench-bucket"
CALL = bytearray(MIB)


# ---- Servers and stores ---------------------------------------------------------------------------

@contextlib.contextmanager
def real_server(b, room):
    """Ceph's RADOS gateway with a bucket. It keeps everything in memory: ROOM bytes of it."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        free = next(int(line.split()[1]) * KIB for line in lines if line.startswith("MemAvailable:"))
    if free < room + GIB:
        raise BenchError(f"{free >> 20} MiB of memory are free, {(room + GIB) >> 20} needed by the S3 server")
    try:
        with s3_servers.Rgw(size=room) as server:
            client = server.client()
            client.make_bucket(BUCKET)
            yield server, client
    except (s3_servers.NotInstalled, s3_servers.ServerFailed) as error:
        raise BenchError(str(error)) from error


@contextlib.contextmanager
def counting_server(**options):
    """A server of ours that counts what it is sent, and can hang."""
    with FaultServer(**options) as server:
        server.make_bucket(BUCKET)
        yield server


def environment(server):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return kept | {"HOME": "/nonexistent"} | server.environment()


class Segment:
    """A client's segment in a mount, as frames of 1 MiB."""

    frame = (MIB - 9).to_bytes(8, "little") + b"\0" + os.urandom(MIB - 9)

    def __init__(self, mnt):
        self.name = str(uuid.uuid4())
        self.path = mnt / "space" / self.name

    def write(self, size):
        with open(self.path, "ab", buffering=0) as file:
            for _ in range(size // MIB):
                file.write(self.frame)
            os.fsync(file.fileno())


def url(name):
    return f"s3://{BUCKET}/{name}"


@contextlib.contextmanager
def filled(b, sizes, *init):
    """An unmounted store with segments of SIZES: (directory, their names)."""
    b.need(sum(sizes))
    with mounts.scratch(b.dir) as top:
        where, mountpoint = top / "store", top / "mnt"
        mounts.run(b.protofs, "init", *init, where)
        with b.mount(where, mountpoint):
            names = []
            for size in sizes:
                segment = Segment(mountpoint)
                segment.write(size)
                names.append(segment.name)
        yield where, names


@contextlib.contextmanager
def mounted(b, server, where, *options):
    """STORE, mounted with the cloud: (mountpoint, pid)."""
    point = where.parent / f"mnt-{uuid.uuid4().hex[:8]}"
    with mounts.mounted([b.protofs, "mount", where, point, "-f", *(["-o", ",".join(options)] if options else [])],
                        point, environment(server)) as pid:
        yield point, pid


def stats(point):
    """What the mount says of its cloud."""
    return json.loads((point / ".ctl" / "stats.json").read_text(encoding="utf-8"))["cloud"]


def await_upload(point, timeout_s=600):
    """Returns when all is up there."""
    def done():
        cloud = stats(point)
        if cloud["state"] in ("fenced", "failed", "paused"):
            raise BenchError(f"the upload is {cloud['state']}: {(cloud['error'] or {}).get('text')}")
        return cloud["state"] == "idle" and int(cloud["bytes_behind"]) == 0 and int(cloud["manifest"]) > 0
    mounts.wait_for(done, "the upload", timeout_s, 0.01)


def bare(b, server, verb, *args):
    """bench_s3's loop without protofs: (seconds, bytes)."""
    text = mounts.run(b.bin / "bench_s3", verb, "--bucket", BUCKET, "--threads", CONNECTIONS, "--size", BLOCK, *args,
                      env=environment(server))
    samples = [json.loads(line) for line in text.splitlines()]
    return (next(sample["seconds"] for sample in samples if sample["row"] == verb),
            next(sample["value"] for sample in samples if sample["row"] == "bytes"))


# ---- Transfers ------------------------------------------------------------------------------------

def client(b):
    """The S3 client alone against the bare loop: what the uploader and the cache add is not in it."""
    blocks = b.pick(32, 64, 64)
    rounds = b.pick(3, 6, 12)
    with real_server(b, 8 * GIB) as (server, _):
        args = ["--bucket", BUCKET, "--threads", CONNECTIONS, "--size", BLOCK, "--count", blocks]
        put, _ = b.program("bench_s3", "put", *args, rounds=rounds, env=environment(server))
        get, _ = b.program("bench_s3", "get", *args, rounds=rounds, env=environment(server))
    note = f"5 MiB blocks, {CONNECTIONS} connections"
    return [report.ratio("cloud-client-put", f"the S3 client's PUTs, {note}, bare loop", put["s3-put"], "client", ["bare"]),
            report.ratio("cloud-client-get", f"the S3 client's GETs, {note}, bare loop", get["s3-get"], "client", ["bare"])]


def upload(b):
    size = b.pick(320, 960, 960) * MIB
    sides = {"uploader": {}, "bare": {}}
    with real_server(b, 10 * GIB) as (server, s3):
        for number in range(b.pick(2, 5, 9)):
            turns = [upload_ours, upload_bare] if number % 2 else [upload_bare, upload_ours]
            for turn in turns:
                side, seconds = turn(b, server, number, size)
                sides[side][number] = size / seconds / MIB
                s3.clear(BUCKET)
    return [report.ratio("cloud-upload", f"upload of {size >> 20} MiB in 5 MiB blocks, {CONNECTIONS} connections, bare loop",
                         sides, "uploader", ["bare"], 0.9)]


def upload_ours(b, server, number, size):
    with filled(b, [size]) as (where, _):
        start = time.monotonic()
        with mounted(b, server, where, f"cloud={url(f'upload-{number}')}", f"transfers={CONNECTIONS}") as (point, _):
            await_upload(point)
            return "uploader", time.monotonic() - start


def upload_bare(b, server, _, size):
    return "bare", bare(b, server, "load", "--count", size // BLOCK)[0]


def read(b):
    size = b.pick(320, 1020, 1020) * MIB
    sides = {"mount": {}, "bare": {}}
    with real_server(b, 4 * GIB) as (server, s3), mounts.scratch(b.dir) as top:
        with filled(b, [size]) as (where, (segment,)), mounted(b, server, where, f"cloud={url('read')}") as (point, _):
            await_upload(point)
        keys = [entry.key for entry in s3.list(BUCKET, f"read/wal/{segment}/")]
        (top / "keys").write_text("".join(f"{key}\n" for key in keys), encoding="ascii")
        for number in range(b.pick(2, 5, 9)):
            turns = ["mount", "bare"] if number % 2 else ["bare", "mount"]
            for side in turns:
                if side == "bare":
                    seconds, moved = bare(b, server, "fetch", "--ours", top / "keys")
                else:
                    seconds, moved = read_clone(b, server, top / f"clone-{number}", segment, url("read"))
                if moved != size:
                    raise BenchError(f"{side} read {moved} of {size} bytes")
                sides[side][number] = size / seconds / MIB
    return [report.ratio("cloud-read", f"cold sequential read of {size >> 20} MiB from S3 through the mount, bare loop of GETs",
                         sides, "mount", ["bare"], 0.7)]


def read_clone(b, server, top, segment, where_from):
    top.mkdir()
    store = top / "store"
    mounts.run(b.protofs, "clone", where_from, store, env=environment(server))
    with mounted(b, server, store) as (point, _):
        start, moved = time.monotonic(), 0
        with open(point / "wal" / segment, "rb", buffering=0) as file:
            while n := file.readinto(CALL):
                moved += n
        seconds = time.monotonic() - start
    mounts.run("rm", "-rf", top)
    return seconds, moved


def commits(b):
    """
    Two daemons, each with commits in its turn: on the one the uploader runs flat out, while the other, which has no cloud,
    commits the bare loop uploads as fast. Whoever has not its turn is stopped, so that turns can be short.
    """
    size, batch_ms = b.pick(1, 2, 2) * GIB, 300
    sides = {"uploader": {}, "bare": {}}
    rates = []
    with real_server(b, 10 * GIB) as (server, s3):
        for number in range(b.pick(1, 3, 6)):
            with filled(b, [size]) as (where, _), b.store() as (plain, _, _):
                with mounted(b, server, where, f"cloud={url(f'commits-{number}')}") as (point, pid):
                    commit_turns(b, server, point, pid, plain, batch_ms, sides, rates)
            s3.clear(BUCKET)
    result = report.ratio("cloud-commits", "durable commits of 4 KiB during an upload at full speed, during the bare loop's as fast",
                          sides, "uploader", ["bare"], 0.8)
    result.note += f"; uploads at {sorted(rates)[len(rates) // 2] / MIB:.0f} MiB/s"
    return [result]


def commit_turns(b, server, point, pid, plain, batch_ms, sides, rates):
    """Until the uploader has next to nothing left."""
    before, start = stats(point), time.monotonic()
    commit_rate(b, point, 1000)
    rates.append((int(stats(point)["bytes_sent"]) - int(before["bytes_sent"])) / (time.monotonic() - start))
    load = [b.bin / "bench_s3", "load", "--bucket", BUCKET, "--threads", CONNECTIONS, "--size", BLOCK, "--count", 1 << 20,
            "--rate", max(1, int(rates[-1]))]
    with background(load, environment(server)) as bare_pid:
        turns = [("uploader", pid, point), ("bare", bare_pid, plain)]
        commit_rate(b, plain, 1000)
        while True:
            pair = {}
            turns.reverse()
            for side, runs, where in turns:
                with stopped(bare_pid if runs == pid else pid):
                    time.sleep(0.05)
                    pair[side] = commit_rate(b, where, batch_ms)
            if int(stats(point)["bytes_behind"]) < 2 * BLOCK * CONNECTIONS:
                return
            for side, rate in pair.items():
                sides[side][len(sides[side])] = rate


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


COMMITS = "space/" + str(uuid.uuid4())


def commit_rate(b, point, batch_ms):
    """Always in one segment: a new one begins with tens of MiB of zeros."""
    text = mounts.run(b.bin / "bench_mount", "commits", "--ours", point / COMMITS, "--rounds", 1, "--batch-ms", batch_ms)
    rates, _ = report.parse_samples(text)
    return rates["commits"]["mount"][0]


@contextlib.contextmanager
def background(command, env):
    with subprocess.Popen([str(word) for word in command], env=env, stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.kill()


# ---- What is sent ---------------------------------------------------------------------------------

def amplification(b):
    return [amplification_of_stream(b), amplification_of_commits(b), amplification_of_trickle(b)]


def amplified(b, server, where, write, *options):
    """Bytes of bodies that were sent for each byte of segments."""
    mark = server.mark()
    with mounted(b, server, where, *options) as (point, _):
        write(point)
        await_upload(point)
    segments = sum(part.stat().st_size for part in (where / "segments").rglob("*") if part.is_file())
    return server.received("PUT", since=mark) / segments


def amplification_of_stream(b):
    size = b.pick(256, 512, 2048) * MIB
    with counting_server(share=True) as server, mounts.scratch(b.dir) as top:
        mounts.run(b.protofs, "init", "--cloud", url("stream"), top / "store")
        value = amplified(b, server, top / "store", lambda point: Segment(point).write(size))
    return report.figure("cloud-amplify", f"bytes uploaded for each written, {size >> 20} MiB at full speed", "ratio", [value], 1.05)


def amplification_of_commits(b):
    def write(point):
        commit_rate(b, point, b.pick(6_000, 20_000, 60_000))
    with counting_server() as server, mounts.scratch(b.dir) as top:
        mounts.run(b.protofs, "init", "--cloud", url("commits"), top / "store")
        value = amplified(b, server, top / "store", write)
    return report.figure("cloud-amplify-commits", "the same, commits of 4 KiB one after the other, an interval of 5 s", "ratio",
                         [value])


def amplification_of_trickle(b):
    """1 KiB/s at the default interval of 5 s, both 250 times as fast: 5 KiB an interval in either case."""
    block, speed = b.pick(1, 5, 5) * MIB, 250

    def write(point):
        segment, start = Segment(point), time.monotonic()
        frame = (KIB - 9).to_bytes(8, "little") + b"\0" + os.urandom(KIB - 9)
        fd = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for second in range(2 * block // KIB):
            time.sleep(max(0, start + second / speed - time.monotonic()))
            os.write(fd, frame)
            os.fsync(fd)
        os.close(fd)
    with counting_server() as server, mounts.scratch(b.dir) as top:
        mounts.run(b.protofs, "init", "--block-size", block, "--cloud", url("trickle"), top / "store")
        value = amplified(b, server, top / "store", write, f"upload_interval={5000 // speed}ms")
    return report.figure("cloud-amplify-trickle", f"the same, a trickle of 5 KiB an interval over two blocks of {block >> 20} MiB",
                         "ratio", [value], 2.1)


def idle(b):
    seconds = b.pick(10, 60, 60)
    with counting_server() as server, mounts.scratch(b.dir) as top:
        mounts.run(b.protofs, "init", "--cloud", url("idle"), top / "store")
        with mounted(b, server, top / "store", "upload_interval=100ms") as (point, _):
            Segment(point).write(MIB)
            await_upload(point)
            time.sleep(0.5)
            mark = server.mark()
            time.sleep(seconds)
            count = server.count(since=mark)
    return [report.figure("cloud-idle", f"requests of an idle mount in {seconds} s, an interval of 100 ms", "requests", [count], 0)]


# ---- A store from nothing, and memory -------------------------------------------------------------

def clone(b):
    count = b.pick(1, 10, 10)
    times = []
    with counting_server(share=True) as server, mounts.scratch(b.dir) as top:
        with filled(b, [GIB] * count) as (where, names), mounted(b, server, where, f"cloud={url('clone')}") as (point, _):
            mounts.run(b.protofs, "root", point, "set", f"{names[-1]}/{100 * MIB}")
            await_upload(point, 1800)
        for number in range(b.pick(3, 5, 9)):
            store, point = top / f"clone-{number}", top / f"mnt-{number}"
            point.mkdir()
            start = time.monotonic()
            mounts.run(b.protofs, "clone", url("clone"), store, env=environment(server))
            with mounts.mounted([b.protofs, "mount", store, point, "-f"], point, environment(server)):
                data = (point / "atoms" / names[-1] / str(100 * MIB)).read_bytes()
                times.append(time.monotonic() - start)
            if data != Segment.frame[9:]:
                raise BenchError("the atom that was read is another")
            mounts.run("rm", "-rf", store)
    return [report.figure("cloud-clone", f"clone and mount of {count} GiB, until the first atom is read", "s", times, 2)]


def memory(b):
    size = b.pick(1, 5, 5) * GIB
    b.need(size)
    with counting_server() as server, mounts.scratch(b.dir) as top:
        server.fault("stall", at=0, seconds=3600, times=None, method="PUT")
        server.fault("hang", seconds=3600, times=None)
        mounts.run(b.protofs, "init", "--cloud", url("memory"), top / "store")
        with mounted(b, server, top / "store", "upload_interval=100ms") as (point, pid):
            Segment(point).write(size)
            time.sleep(2)
            high = mounts.memory_mib(pid, "VmHWM")
            behind = int(stats(point)["bytes_behind"])
    if behind < size:
        raise BenchError(f"only {behind} bytes of {size} are behind: the server did not hang")
    return [report.figure("cloud-memory", f"daemon memory, {size / GIB:g} GiB written while S3 hangs (VmHWM)", "MiB", [high], 128)]


GROUPS = {
    "cloud-client": client,
    "cloud-upload": upload,
    "cloud-read": read,
    "cloud-commits": commits,
    "cloud-amplify": amplification,
    "cloud-idle": idle,
    "cloud-clone": clone,
    "cloud-memory": memory,
}
