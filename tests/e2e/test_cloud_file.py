#!/usr/bin/python3
"""A store whose cloud is a directory: uploads, the lag, kill -9, clones, fencing, eviction, settings, wrong use."""
from lib import *

BLOCK = 64 << 10
QUICK = "upload_interval=100ms"


class Cloud:
    """The directory of a bucket, and what protofs makes of it."""

    def __init__(self, base):
        self.dir = os.path.join(base, "bucket")
        self.url = f"file://{self.dir}"

    def keys(self):
        found = []
        for folder, _, names in os.walk(self.dir):
            found += [os.path.relpath(os.path.join(folder, n), self.dir) for n in names]
        return sorted(k for k in found if not os.path.basename(k).startswith("."))

    def manifests(self):
        return [k for k in self.keys() if k.startswith("roots/")]

    def segments(self):
        wal = os.path.join(self.dir, "wal")
        return sorted(os.listdir(wal)) if os.path.isdir(wal) else []

    def assemble(self, segment):
        """The bytes of a segment as a bare script would: blocks, then deltas, put at their offsets."""
        folder = os.path.join(self.dir, "wal", segment)
        out = bytearray()
        for name in sorted(os.listdir(folder)):
            match = re.fullmatch(r"(\d{20})(?:\+(\d{10})-(\d{10}))?", name)
            check(match, f"{name} is no block and no delta")
            position, start = int(match[1]), int(match[2] or 0)
            data = read(os.path.join(folder, name))
            if match[3]:
                check_eq(len(data), int(match[3]) - start, f"the size of {name}")
            at = position + start
            check(at <= len(out), f"{segment} has a gap at byte {len(out)}, before {name}")
            overlap = out[at:at + len(data)]
            check_eq(bytes(overlap), data[:len(overlap)], f"what {name} says again")
            out[at:] = data if at + len(data) >= len(out) else data + out[at + len(data):]
        return bytes(out)


@contextlib.contextmanager
def clouded(*init, block="64K"):
    """A store with a cloud beside it."""
    with Store(init=False) as store:
        store.cloud = Cloud(store.base)
        protofs("init", store.dir, "--block-size", block, "--cloud", store.cloud.url, "--upload-interval", "100ms",
                *init)
        yield store


def upload(mnt):
    return read_text(f"{mnt}/.ctl/upload")


def cloud_of(mnt):
    return stats(mnt)["cloud"]


def flush(mnt):
    write(f"{mnt}/.ctl/flush", b"1", flags=os.O_WRONLY)


def put_json(mnt, value):
    return put(mnt, json.dumps(value).encode(), "json")


def set_root(mnt, pointer):
    return json.loads(protofs("root", mnt, "set", str(pointer), "--json").out)


def wal(mnt):
    """Every segment that the mount shows, byte for byte."""
    return {n: read(f"{mnt}/wal/{n}") for n in os.listdir(f"{mnt}/wal") if len(n) == 36}


def check_bucket(mnt, cloud):
    """All that is in the mount is in the bucket, byte for byte."""
    flush(mnt)
    for segment, data in wal(mnt).items():
        if data:
            check_eq(cloud.assemble(segment), data, f"segment {segment} in the bucket")


def durable(path):
    text = os.getxattr(path, "user.protofs.durable").decode()
    return {k: int(v) for k, v in (item.split("=") for item in text.split())}


def refused(*args, code=1, says=(), **kwargs):
    done = protofs(*args, ok=code, **kwargs)
    for word in says:
        check_in(str(word), done.err, f"the message of protofs {' '.join(map(str, args))}")
    return done


# ---- The life of a store -------------------------------------------------------------------------


@test
def what_is_written_is_uploaded():
    with clouded() as store, store.mount() as mnt:
        pointers = [put(mnt, random_bytes(n)) for n in (10, BLOCK, 3 * BLOCK + 17, 100)]
        root = set_root(mnt, pointers[-1])
        append(mnt / f"space/{new_uuid()}", frame(random_bytes(5 * BLOCK)))
        check_bucket(mnt, store.cloud)
        check(store.cloud.manifests(), "no manifest was uploaded")
        wait_for(lambda: cloud_of(mnt)["state"] == "idle", "an idle uploader")  # deltas go behind the flush
        text = upload(mnt)
        for part in (store.cloud.url, "state      idle", "behind     0 B", f"root {root['seq']}", "error      none"):
            check_in(part, text, ".ctl/upload")
        cloud = cloud_of(mnt)
        check_eq((cloud["state"], cloud["bytes_behind"], cloud["root_seq"]), ("idle", 0, root["seq"]), "stats.json")
        check(cloud["requests"]["put"] >= 6, f"requests: {cloud['requests']}")
        metrics = read_text(mnt / ".ctl/metrics")
        check_in('protofs_cloud_requests_total{kind="put"}', metrics, "metrics")
        check_in("protofs_cloud_bytes_behind 0", metrics, "metrics")
        check_in("cloud      file://", protofs("status", mnt).out, "protofs status")
        mnt.umount()
        check_in(f"cloud      {store.cloud.url}, unmounted\n", protofs("status", store).out, "status without a mount")
        check_eq(json.loads(protofs("status", store, "--json").out)["cloud"]["state"], "unmounted", "the same as JSON")


@test
def nothing_to_upload_means_no_request():
    with clouded() as store, store.mount() as mnt:
        set_root(mnt, put(mnt, b"x" * 1000))
        flush(mnt)
        wait_for(lambda: cloud_of(mnt)["state"] == "idle", "an idle uploader")
        before = cloud_of(mnt)["requests"]
        time.sleep(1.5)
        check_eq(cloud_of(mnt)["requests"], before, "requests of an idle mount")


@test
def a_store_without_a_cloud_says_nothing_of_one():
    with Store() as store, store.mount() as mnt:
        names = os.listdir(mnt / ".ctl")
        for name in ("upload", "flush"):
            check(name not in names, f".ctl lists {name}")
            check_errno(errno.ENOENT, name, os.stat, mnt / f".ctl/{name}")
        check_eq(stats(mnt)["cloud"], None, "the cloud in stats.json")
        check("protofs_cloud" not in read_text(mnt / ".ctl/metrics"), "metrics speak of a cloud")
        pointer = put(mnt, b"x")
        check_eq(durable(mnt / f"wal/{pointer.segment}")["cloud"], 0, "bytes in the cloud")
        refused("umount", mnt, "--flush", code=2, says=["no cloud"])
        check(is_mounted(str(mnt)), "umount --flush has unmounted it nevertheless")


@test
def xattrs_tell_what_is_where():
    with clouded() as store, store.mount() as mnt:
        pointer = put(mnt, random_bytes(2 * BLOCK))
        root = set_root(mnt, pointer)
        flush(mnt)
        size = os.stat(mnt / f"wal/{pointer.segment}").st_size
        check_eq(durable(mnt / f"wal/{pointer.segment}"), {"local": size, "quorum": 0, "cloud": size}, "the segment")
        check_eq(durable(mnt / f"atoms/{pointer}")["cloud"], 2 * BLOCK + 9, "the atom")
        check_eq(durable(mnt / f"roots/{root['seq']}")["cloud"], 2 * BLOCK + 9, "the root")


@test
def umount_flush_leaves_nothing_behind():
    with clouded() as store:
        protofs("mount", store.dir, make_dir(store, "m"), "-o", "upload_interval=1h")
        mnt = os.path.join(store.base, "m")
        try:
            pointer = put(mnt, random_bytes(7 * BLOCK + 5))
            data = read(f"{mnt}/wal/{pointer.segment}")
        finally:
            done = protofs("umount", mnt, "--flush", "-v")
        check_in("in its cloud", done.err, "what umount --flush -v says")
        check("yet" not in done.err, f"something was left: {done.err}")
        check_eq(store.cloud.assemble(pointer.segment), data, "the segment in the bucket")


@test
def umount_flush_shows_how_far_it_is():
    terminal = ["script", "-qec"]
    if run([*terminal, "true", "/dev/null"], ok=None).code != 0:
        skip("no pseudo-terminals here: is /dev/pts mounted?")
    with clouded("--bandwidth", "1M") as store:
        mnt = make_dir(store, "m")
        protofs("mount", store.dir, mnt)
        try:
            put(mnt, random_bytes(3 * MIB))
        finally:
            out = run([*terminal, f"{PROTOFS} umount --flush {mnt}", "/dev/null"], text=False, timeout=60).out
        check(re.search(rb"uploading +\d+ % [#.]+", out), f"no bar: {out[:300]!r}")
        check(not is_mounted(mnt), "it is still mounted")


@test
def a_clone_is_quick_whatever_the_size():
    with clouded(block="1M") as store, store.mount() as mnt:
        for _ in range(3):
            pointer = put(mnt, random_bytes(40 * MIB))
        set_root(mnt, pointer)
        flush(mnt)
        start = time.monotonic()
        with cloned(store) as other, other.mount() as there:
            check_eq(len(read(there / f"atoms/{pointer}")), 40 * MIB, "the newest atom")
            received = cloud_of(there)["bytes_received"]
            check(received < 60 * MIB, f"{received} bytes were fetched for an atom of 40 MiB")
            print(f"      cloned, mounted and read 40 MiB in {time.monotonic() - start:.1f} s")


@test
def reads_of_one_object_share_its_fetch():
    with clouded(block="1M") as store, store.mount() as mnt:
        pointer = put(mnt, random_bytes(8 * MIB))
        flush(mnt)
        want = read(mnt / f"atoms/{pointer}")
        with cloned(store) as other, other.mount() as there:
            got = []
            readers = [threading.Thread(target=lambda: got.append(read(there / f"atoms/{pointer}"))) for _ in range(8)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            check(all(data == want for data in got) and len(got) == 8, "what they read")
            check(cloud_of(there)["bytes_received"] < 11 * MIB, f"fetched {cloud_of(there)['bytes_received']} bytes")


@test
def a_damaged_cache_is_fetched_again():
    with clouded() as store, store.mount() as mnt:
        segments, _ = fill(mnt)
        mnt.umount()
        with cloned(store) as other, other.mount() as there:
            check_eq(wal(there), segments, "the segments")
            there.umount()
            cache = other / "cloud_page_cache/server_1"
            for name in os.listdir(cache):
                if len(name) == 32:
                    flip(os.path.join(cache, name), 4096)
            write(os.path.join(cache, "cache_mappings.json"), b"{ no json")
            there.start()
            check_eq(wal(there), segments, "the segments after damage of the cache")
            check(cloud_of(there)["cache_damaged"] > 0, "nobody noticed")


def make_dir(store, name):
    path = os.path.join(store.base, name)
    os.mkdir(path)
    return path


@test
def kill9_of_the_daemon_loses_nothing_and_uploads_nothing_twice():
    with clouded() as store, store.mount() as mnt:
        for i in range(8):
            pointer = put(mnt, random_bytes(rng.randrange(1, 4 * BLOCK)))
            root = set_root(mnt, pointer)
            time.sleep(rng.random() * 0.3)
            before = {k: os.stat(os.path.join(store.cloud.dir, k)).st_mtime_ns for k in store.cloud.keys()}
            mnt.kill9()
            mnt.start()
            check_bucket(mnt, store.cloud)
            for key, mtime in before.items():
                path = os.path.join(store.cloud.dir, key)
                if os.path.exists(path):
                    check_eq(os.stat(path).st_mtime_ns, mtime, f"{key} was written again in round {i}")
            check_eq(cloud_of(mnt)["root_seq"], root["seq"], "the root in the cloud")


@test
def durability_cloud_waits_for_the_cloud():
    with clouded("--durability", "cloud") as store, store.mount() as mnt:
        check_in("waits for the cloud", upload(mnt), ".ctl/upload")
        pointer = put(mnt, random_bytes(1000))
        length = os.stat(mnt / f"wal/{pointer.segment}").st_size
        check(len(store.cloud.assemble(pointer.segment)) >= length, "put returned before the bytes were there")
        root = set_root(mnt, pointer)
        check_eq(cloud_of(mnt)["root_seq"], root["seq"], "the root in the cloud right after its publication")
        name = new_uuid()
        append(mnt / f"space/{name}", frame(b"y" * 500), sync=True)
        check_eq(store.cloud.assemble(name), frame(b"y" * 500), "the foreign segment right after its fsync")
        mnt.umount()
        # Nor does a store that is not mounted say so too early.
        pointer = put(store, b"offline")
        check_in(frame(b"offline"), store.cloud.assemble(pointer.segment), "the atom that was put without a mount")


# ---- Clones --------------------------------------------------------------------------------------


@contextlib.contextmanager
def cloned(store, *flags):
    with Store(base=store.base, init=False) as other:
        protofs("clone", store.cloud.url, other.dir, *flags)
        yield other


def fill(mnt):
    """Some of everything; returns the segments as they are then, all of it in the cloud."""
    for n in (10, BLOCK, 5 * BLOCK + 3):
        pointer = put(mnt, random_bytes(n))
    append(mnt / f"space/{new_uuid()}", frame(random_bytes(3 * BLOCK)))
    write(mnt / "space/notes", b"a small file", sync=True)
    set_root(mnt, pointer)
    flush(mnt)
    return wal(mnt), pointer


@test
def a_clone_holds_the_newest_root_and_all_bytes():
    with clouded() as store, store.mount() as mnt:
        segments, pointer = fill(mnt)
        mnt.umount()
        shutil.rmtree(store.dir)  # the machine burns
        with cloned(store) as other, other.mount() as there:
            check_eq(wal(there), segments, "the segments of the clone")
            check_eq(read(there / "space/notes"), b"a small file", "the small file of the clone")
            check_eq(Pointer.of_json(read(there / "space/space_root")), pointer, "the root of the clone")
            check_errno(errno.EROFS, "an append to a clone", write, there / "atoms/in/x", b"x")
            check(is_read_only(there), "stats.json does not say that the clone is read-only")
            check_in("take_over", there.output(), "what the daemon says of a clone")
            there.umount()
            refused("put", other.dir, __file__, says=["read-only", "clone"])
            there.start()
            check_eq(durable(there / f"wal/{pointer.segment}")["cloud"], len(segments[pointer.segment]), "in the cloud")
            check(stats(there)["bytes_remote"] > 0, "nothing is elsewhere?")


@test
def a_clone_that_takes_over_goes_on():
    with clouded() as store, store.mount() as mnt:
        segments, _ = fill(mnt)
        mnt.umount()
        with cloned(store, "--take-over", "--upload-interval", "100ms") as other, other.mount() as there:
            before = len(store.cloud.manifests())
            pointer = put(there, b"after the fire")
            root = set_root(there, pointer)
            check_bucket(there, store.cloud)
            check(len(store.cloud.manifests()) > before, "no manifest since it was taken over")
            for segment, data in segments.items():
                check_eq(read(there / f"wal/{segment}"), data, "an inherited segment")
            check_errno((errno.EROFS, errno.EPERM, errno.EACCES), "an append to an inherited segment", append,
                        there / f"space/{next(iter(segments))}", b"x")
            with cloned(store) as third, third.mount() as last:
                check_eq(read(last / f"atoms/{pointer}"), b"after the fire", "the atom in a clone of the clone")
                got = json.loads(protofs("root", last, "show", "--json").out)
                check_eq(got["seq"], root["seq"], "the root in a clone of the clone")


@test
def a_mount_takes_over_too():
    with clouded() as store, store.mount() as mnt:
        fill(mnt)
        mnt.umount()
        with cloned(store) as other:
            with other.mount("take_over", QUICK) as there:
                check(not is_read_only(there), "the clone is still read-only")
                pointer = put(there, b"mine")
                check_bucket(there, store.cloud)
            with other.mount() as there:  # once is enough
                check(not is_read_only(there), "taken over only until the next mount")
                check_eq(read(there / f"atoms/{pointer}"), b"mine", "the atom")


@test
def a_full_clone_fetches_nothing_more():
    with clouded() as store, store.mount() as mnt:
        segments, _ = fill(mnt)
        mnt.umount()
        with cloned(store, "--full") as other, other.mount() as there:
            before = cloud_of(there)["requests"]
            check_eq(wal(there), segments, "the segments of the clone")
            # It only asks whether a block has taken the place of the last deltas of a segment.
            check_eq(cloud_of(there)["bytes_received"], 0, "bytes that a full clone fetched")
            asked = cloud_of(there)["requests"]["get"] - before["get"]
            check(asked <= 4 * len(segments), f"{asked} GETs of a full clone")
            check(cloud_of(there)["cache_hits"] > 0, "the cache was not asked")
            there.umount()
            protofs("clone", store.cloud.url, other.dir, "--full")  # once more: nothing to do


@test
def clone_refuses_what_it_cannot_do():
    with clouded() as store, store.mount() as mnt:
        refused("clone", f"file://{store.base}/nothing", f"{store.base}/x", says=["nothing"])
        os.mkdir(f"{store.base}/empty")
        refused("clone", f"file://{store.base}/empty", f"{store.base}/x", says=["empty"])
        refused("clone", "ftp://x/y", f"{store.base}/x", code=2, says=["s3://"])
        refused("clone", store.cloud.url, code=2)
        refused("clone", store.cloud.url, "mem:", code=2, says=["mem:"])
        fill(mnt)
        refused("clone", store.cloud.url, store.dir, says=["taken"])
        # A hostile bucket: what it lists as its newest manifest is none.
        newest = os.path.join(store.cloud.dir, store.cloud.manifests()[-1])
        data = read(newest)
        mnt.umount()
        os.unlink(newest)
        write(newest, data[:len(data) // 2])
        refused("clone", store.cloud.url, f"{store.base}/x", says=["roots/"])
        check_eq(sorted(n for n in os.listdir(store.base) if n.startswith("x")), [], "what failed clones have left")


@test
def a_missing_block_is_damage_not_zeros():
    with clouded() as store, store.mount() as mnt:
        segments, pointer = fill(mnt)
        mnt.umount()
        with cloned(store) as other:
            block = next(k for k in store.cloud.keys() if k.endswith(f"{pointer.segment}/{BLOCK:020}"))
            os.unlink(os.path.join(store.cloud.dir, block))
            with other.mount() as there:
                check_errno(errno.EIO, "reading the missing block", read, there / f"wal/{pointer.segment}")
                check_in(pointer.segment, errors_text(there), ".ctl/errors")
            refused("clone", store.cloud.url, f"{store.base}/y", says=[pointer.segment])


@test
def a_damaged_block_is_never_returned():
    with clouded() as store, store.mount() as mnt:
        segments, pointer = fill(mnt)
        mnt.umount()
        with cloned(store) as other:
            flip(os.path.join(store.cloud.dir, f"wal/{pointer.segment}/{BLOCK:020}"), 1000)
            with other.mount() as there:
                check_errno(errno.EIO, "reading the damaged block", read, there / f"wal/{pointer.segment}")
                check_in(pointer.segment, errors_text(there), ".ctl/errors")


# ---- Tails that the disk lost --------------------------------------------------------------------


def uploaded_tail(store, mnt, frames=5):
    """A foreign segment of FRAMES commits, all in the bucket; the daemon is dead then. Its name and bytes."""
    name = new_uuid()
    for i in range(frames):
        append(mnt / f"space/{name}", frame(bytes([65 + i]) * 8000), sync=True)
        flush(mnt)
    data = store.cloud.assemble(name)
    check_eq(len(data), frames * 8009, "bytes in the bucket")
    wait_for(lambda: cloud_of(mnt)["state"] == "idle", "the end of the upload")
    mnt.kill9()
    return name, data


def tear(store, name, at, part=0):
    """What a disk does that lost a write which it had called durable."""
    with open(store / f"segments/{name}/{part:020}", "r+b") as file:
        file.seek(at)
        file.write(b"\xff\xff\xff\xff")


@test
def an_uploaded_tail_that_the_disk_lost_comes_back():
    with clouded() as store, store.mount() as mnt:
        for frames, at in ((5, 35000), (1, 100), (12, 90000)):
            name, data = uploaded_tail(store, mnt, frames)
            tear(store, name, at)
            keys = store.cloud.keys()
            mnt.start()
            check_eq(read(mnt / f"space/{name}"), data, "the segment after the tail was torn")
            lost = 8009
            check_in(f"segment {name}: {lost} bytes from byte {len(data) - lost}", mnt.output(), "what the daemon says")
            check_eq(stats(mnt)["read_only"], False, "whether the store is read-only")
            check(set(keys) <= set(store.cloud.keys()), "an object is gone")
            append(mnt / f"space/{name}", frame(b"z" * 1000), sync=True)
            check_bucket(mnt, store.cloud)
            check_eq(store.cloud.assemble(name), data + frame(b"z" * 1000), "what follows it in the bucket")
            mnt.umount()
            protofs("fsck", store.dir, "--deep", "--cloud")
            mnt.start()
            check_eq(read(mnt / f"space/{name}"), data + frame(b"z" * 1000), "the segment after a clean stop")


@test
def a_lost_tail_that_cannot_be_had_leaves_the_mount_read_only():
    with clouded() as store, store.mount() as mnt:
        name, data = uploaded_tail(store, mnt)
        tear(store, name, 35000)
        delta = next(k for k in store.cloud.keys() if k.endswith(f"{name}/{0:020}+{32036:010}-{40045:010}"))
        away = os.path.join(store.base, "away")
        os.rename(os.path.join(store.cloud.dir, delta), away)
        keys = store.cloud.keys()
        for _ in range(2):
            mnt.start()
            state = stats(mnt)
            check_eq(state["read_only"], True, "whether the store is read-only")
            for word in (name, "32036", "40045", "fsck --repair"):
                check_in(word, state["read_only_reason"], "why it is read-only")
            check_eq(read(mnt / f"space/{name}"), data[:32036], "what is left of the segment")
            check_errno(errno.EROFS, "appending", append, mnt / f"space/{name}", frame(b"z"))
            mnt.umount(code=None)
        refused("put", store.dir, "-", says=["ead-only"], input="x")
        check_eq(store.cloud.keys(), keys, "what lies in the bucket")
        refused("fsck", store.dir, says=[name, "32036", "40045", "the next mount"])
        # When it is there again, the store is whole.
        os.rename(away, os.path.join(store.cloud.dir, delta))
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), data, "the segment when the object was back")
        append(mnt / f"space/{name}", frame(b"z"), sync=True)
        check_bucket(mnt, store.cloud)


@test
def a_root_that_went_out_with_the_lost_tail_comes_back():
    with clouded() as store, store.mount() as mnt:
        name = new_uuid()
        # Closing it would make the bytes durable before the root: so they go out together.
        with open(mnt / f"space/{name}", "ab", buffering=0) as file:
            for i in range(4):
                file.write(frame(bytes([65 + i]) * 8000))
                root = json.loads(protofs("root", mnt, "set", f"{name}/{8009 * i}", "--json").out)
        flush(mnt)
        data = store.cloud.assemble(name)
        check_eq(cloud_of(mnt)["root_seq"], root["seq"], "the root in the cloud")
        mnt.kill9()
        tear(store, name, 30000)
        mnt.start()
        check_eq(stats(mnt)["read_only"], False, "whether the store is read-only")
        check_eq(read(mnt / f"space/{name}"), data, "the segment after the tail was torn")
        check_eq(json.loads(protofs("root", mnt, "show", "--json").out), root, "the root")
        check_in(f"root {root['seq']}", mnt.output(), "what the daemon says")
        put_json(mnt, 1)
        again = set_root(mnt, f"{name}/0")
        check_eq(again["seq"], root["seq"] + 1, "the next root's number")
        check_bucket(mnt, store.cloud)
        check_eq(cloud_of(mnt)["root_seq"], again["seq"], "the root in the cloud")
        mnt.umount()
        protofs("fsck", store.dir, "--deep", "--cloud")


@test
def fsck_brings_a_lost_tail_back_or_gives_it_up():
    with clouded() as store, store.mount() as mnt:
        name, data = uploaded_tail(store, mnt)
        tear(store, name, 35000)
        check_in("brought back", protofs("fsck", store.dir, "--repair").err, "what fsck --repair says")
        protofs("fsck", store.dir, "--deep", "--cloud")
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), data, "the segment after fsck --repair")
        append(mnt / f"space/{name}", frame(b"z" * 500), sync=True)
        flush(mnt)
        data = read(mnt / f"space/{name}")
        mnt.kill9()
        tear(store, name, 100, part=len(data) - 509)

        # While the cloud is away nothing is given up.
        os.rename(store.cloud.dir, f"{store.base}/away")
        write(store.cloud.dir, b"no directory")
        refused("fsck", store.dir, "--repair", says=["the cloud"])
        os.unlink(store.cloud.dir)
        os.rename(f"{store.base}/away", store.cloud.dir)
        for key in [k for k in store.cloud.keys() if k.startswith(f"wal/{name}/")]:
            os.unlink(os.path.join(store.cloud.dir, key))
        keys = store.cloud.keys()
        mnt.start()
        check_eq(stats(mnt)["read_only"], True, "whether the store is read-only")
        mnt.umount(code=None)
        check_in("nothing of it is uploaded", protofs("fsck", store.dir, "--repair").err, "what fsck --repair says")
        protofs("fsck", store.dir, "--deep")

        # The store goes on without them, and says what it does not upload.
        for _ in range(2):
            mnt.start()
            check_eq(stats(mnt)["read_only"], False, "whether the store is read-only")
            append(mnt / f"space/{name}", frame(b"y" * 2000), sync=True)
            wait_for(lambda: cloud_of(mnt)["state"] == "failed", "what the uploader says")
            check_in(name, cloud_of(mnt)["error"]["text"], "what the uploader says")
            pointer = put(mnt, b"more")
            path = mnt / f"atoms/{pointer}"
            wait_for(lambda: durable(path)["cloud"] >= os.stat(path).st_size, "the upload of another segment")
            mnt.umount(code=None)
        new = [k for k in store.cloud.keys() if k not in keys]
        check(not [k for k in new if name in k], "something of the given up segment was uploaded")
        mnt.start()
        os.unlink(mnt / f"space/{name}")
        flush(mnt)
        wait_for(lambda: cloud_of(mnt)["state"] == "idle", "the end of the trouble")


# ---- Two owners ----------------------------------------------------------------------------------


@test
def of_two_daemons_on_one_bucket_one_is_fenced_and_says_who():
    with clouded() as store, store.mount() as mnt:
        segments, _ = fill(mnt)
        with cloned(store) as other, other.mount("take_over", QUICK) as there:
            pointer = put(there, b"the new owner's")
            set_root(there, pointer)
            flush(there)
            # The old one goes on writing, finds somebody else there, and stops.
            with contextlib.suppress(Failure, OSError):
                set_root(mnt, put(mnt, random_bytes(BLOCK)))
            wait_for(lambda: cloud_of(mnt)["state"] == "fenced", "the old owner to be fenced", timeout=20)
            check(is_read_only(mnt), "the fenced store is not read-only")
            error = cloud_of(mnt)["error"]
            check(error and (os.uname().nodename in error["text"] or "store" in error["text"]),
                  f"it does not say who: {error}")
            check_in("FENCED", upload(mnt), ".ctl/upload")
            check_errno(errno.EROFS, "a write to the fenced store", write, mnt / "atoms/in/x", b"x")
            for segment, data in segments.items():
                check_eq(read(mnt / f"wal/{segment}")[:len(data)], data, "what the fenced store still reads")
            refused("umount", mnt, "--flush", says=["flush"])
            check_bucket(there, store.cloud)


@test
def a_copied_store_is_read_only():
    with clouded() as store, store.mount() as mnt:
        fill(mnt)
        mnt.umount()
        with Store(base=store.base, init=False) as copy:
            shutil.copytree(store.dir, copy.dir)
            with copy.mount() as there:
                check(is_read_only(there), "a copy is writable")
                check_in("take_over", there.output(), "what the daemon says of a copy")
            with store.mount() as again:
                check(not is_read_only(again), "the original is read-only")


# ---- Space ---------------------------------------------------------------------------------------


@test
def disk_max_evicts_and_reads_come_back():
    with clouded("--disk-max", "16M") as store, store.mount("segment_size=4M") as mnt:
        contents = {}
        for _ in range(10):
            data = random_bytes(4 * MIB)
            contents[put(mnt, data)] = data
        write(mnt / ".ctl/seal", b"1", flags=os.O_WRONLY)
        flush(mnt)
        wait_for(lambda: stats(mnt)["parts_evicted"] > 0, "an evicted part", timeout=30)
        check(stats(mnt)["bytes_remote"] > 0, "nothing is elsewhere")
        for pointer, data in contents.items():
            check_eq(read(mnt / f"atoms/{pointer}"), data, f"atom {pointer} after eviction")
        check(cloud_of(mnt)["requests"]["get"] > 0, "nothing was fetched")
        mnt.remount()
        for pointer, data in contents.items():
            check_eq(read(mnt / f"atoms/{pointer}"), data, f"atom {pointer} after a new mount")
        mnt.umount()
        pointer, data = next(iter(contents.items()))
        check_eq(protofs("cat", store, str(pointer), text=False).out, data, "protofs cat of a store that is not mounted")
        store.fsck("--deep")


@test
def at_disk_max_writes_end_with_enospc_and_recover_by_themselves():
    with clouded("--disk-max", "16M") as store, small_filesystem(store.cloud.dir, MIB), store.mount() as mnt:
        write(f"{store.cloud.dir}/.filler", b"x" * (MIB - 128 * 1024))
        contents, data = {}, b""

        def fill_up():
            nonlocal data
            for _ in range(60):
                data = random_bytes(MIB)
                contents[put(mnt, data)] = data

        try:
            fill_up()
        except Failure as error:
            check_in("No space left", str(error), "the message of put at disk_max")
        else:
            fail("60 MiB went into a store whose disk_max is 16 MiB while its cloud is full")
        used = sum(os.stat(os.path.join(d, n)).st_blocks * 512 for d, _, names in os.walk(store.dir) for n in names
                   if n != "reserve")
        check(used < 24 * MIB, f"the store takes {used} bytes")
        check_in("may take", errors_text(mnt), ".ctl/errors")
        for pointer, want in contents.items():
            check_eq(read(mnt / f"atoms/{pointer}"), want, "an atom of the full store")
        run(["mount", "-o", "remount,size=256m", store.cloud.dir])

        def accepted():
            return protofs("put", mnt, "-", input="again", ok=None).code == 0

        wait_for(accepted, "a write after the cloud is back", timeout=60, interval=0.5)
        for pointer, want in contents.items():
            check_eq(read(mnt / f"atoms/{pointer}"), want, "an atom after eviction")


# ---- A place that is away ------------------------------------------------------------------------


@contextlib.contextmanager
def small_filesystem(path, size):
    """A filesystem of so many bytes at PATH."""
    os.makedirs(path, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)


@test
def while_the_place_refuses_the_mount_goes_on_and_all_recovers():
    with clouded() as store, small_filesystem(store.cloud.dir, 4 * MIB), store.mount() as mnt:
        write(f"{store.cloud.dir}/.filler", b"x" * (4 * MIB - 512 * 1024))
        contents = [random_bytes(MIB) for _ in range(4)]
        pointers = [put(mnt, data) for data in contents]
        wait_for(lambda: cloud_of(mnt)["error"], "an error of the full cloud", timeout=20)
        cloud = cloud_of(mnt)
        check(cloud["state"] in ("waiting", "paused"), f"the state is {cloud['state']}")
        check(cloud["bytes_behind"] > 0 and cloud["seconds_behind"] > 0, f"it is not behind: {cloud}")
        check_in("next attempt in", upload(mnt), ".ctl/upload")
        check_in("now, cloud", errors_text(mnt), ".ctl/errors")
        set_root(mnt, pointers[-1])
        for pointer, data in zip(pointers, contents):
            check_eq(read(mnt / f"atoms/{pointer}"), data, "an atom while the cloud is full")
        # A flush that waits can be interrupted, and a stop waits for nothing.
        waiting = subprocess.Popen([PROTOFS, "umount", str(mnt), "--flush"], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        check(waiting.poll() is None, "umount --flush has ended while the cloud is full")
        waiting.send_signal(signal.SIGINT)
        check(waiting.wait(5) != 0, "an interrupted umount --flush succeeded")
        start = time.monotonic()
        mnt.umount()
        check(time.monotonic() - start < 5, f"umount took {time.monotonic() - start:.1f} s")
        check_in("not in its cloud yet", mnt.output(), "what the daemon says at its end")
        run(["mount", "-o", "remount,size=64m", store.cloud.dir])
        mnt.start()
        check_bucket(mnt, store.cloud)
        check_eq(cloud_of(mnt)["error"], None, "the error after it recovered")


@test
def fsync_at_durability_cloud_can_be_killed():
    with clouded("--durability", "cloud") as store, small_filesystem(store.cloud.dir, MIB), store.mount() as mnt:
        write(f"{store.cloud.dir}/.filler", b"x" * (MIB - 64 * 1024))
        script = ("import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
                  "os.write(fd, os.urandom(1 << 20))\nprint('written', flush=True)\nos.fsync(fd)\n")
        writers = [subprocess.Popen([sys.executable, "-c", script, mnt / f"space/{new_uuid()}"],
                                    stdout=subprocess.PIPE) for _ in range(12)]
        for writer in writers:
            check_eq(writer.stdout.readline(), b"written\n", "the writer")
        time.sleep(0.5)
        check(all(w.poll() is None for w in writers), "an fsync returned while the cloud is full")
        upload(mnt)  # the mount still answers
        put_started = time.monotonic()
        os.listdir(mnt / "wal")
        check(time.monotonic() - put_started < 2, "a listing waited for the cloud")
        for writer in writers:
            writer.kill()
            check(writer.wait(5) != 0, "the writer")
            writer.stdout.close()
        start = time.monotonic()
        mnt.umount()
        check(time.monotonic() - start < 10, f"umount took {time.monotonic() - start:.1f} s")


# ---- Checking, listing, restoring ----------------------------------------------------------------


@test
def fsck_cloud_finds_and_mends():
    with clouded() as store, store.mount() as mnt:
        segments, pointer = fill(mnt)
        mnt.umount()
        done = store.fsck("--cloud", "--deep")
        check_in("cloud: clean", done.out, "fsck --cloud")
        path = os.path.join(store.cloud.dir, f"wal/{pointer.segment}/{0:020}")
        os.unlink(path)
        done = store.fsck("--cloud", ok=1)
        check_in(pointer.segment, done.err, "fsck --cloud of a missing block")
        store.fsck("--cloud", "--repair")
        check_eq(store.cloud.assemble(pointer.segment), segments[pointer.segment], "the mended segment")
        store.fsck("--cloud", "--deep")
        flip(path, 5)
        done = store.fsck("--cloud", "--deep", ok=1)
        check_in(pointer.segment, done.err, "fsck --cloud --deep of a damaged block")
    with Store() as store:
        check_in("no cloud", store.fsck("--cloud", ok=2).err, "fsck --cloud without a cloud")


@test
def scrub_cloud_reads_every_object_also_while_mounted():
    with clouded() as store, store.mount() as mnt:
        segments, pointer = fill(mnt)
        for where in (mnt, store):
            if where is store:
                mnt.umount()
            done = protofs("scrub", where, "--cloud")
            check_in("cloud: clean", done.out, f"scrub --cloud of {where}")
            check_in("all read and compared", done.out, f"scrub --cloud of {where}")
        mnt.start()
        flip(os.path.join(store.cloud.dir, f"wal/{pointer.segment}/{BLOCK:020}"), 77)
        done = refused("scrub", mnt, "--cloud", says=[pointer.segment, f"{BLOCK:020}"])
        check_in("1 problems", done.out, "scrub --cloud of a damaged object")
    with Store() as store:
        refused("scrub", store.dir, "--cloud", code=2, says=["no cloud"])


@test
def ls_cloud_shows_the_objects():
    with clouded() as store, store.mount() as mnt:
        fill(mnt)
        for where in (mnt, store):
            if where is store:
                mnt.umount()
            found = json.loads(protofs("ls", where, "cloud", "--json").out)
            check_eq(sorted(o["key"] for o in found), store.cloud.keys(), f"the keys that ls {where} cloud lists")
            for entry in found:
                check_eq(entry["size"], os.stat(os.path.join(store.cloud.dir, entry["key"])).st_size, entry["key"])
                check_eq((entry["cached"], entry["cache_path"]), (False, None), entry["key"])
                check(entry["last_modified"], f"{entry['key']} has no time")
        check_in(store.cloud.keys()[0], protofs("ls", store, "cloud").out, "ls as text")
        with cloned(store) as other, other.mount() as there:
            wal(there)
            cached = [o for o in json.loads(protofs("ls", there, "cloud", "--json").out) if o["cached"]]
            check(cached, "nothing is in the cache of a clone that was read")
            for entry in cached:
                check(os.path.exists(entry["cache_path"]), f"{entry['cache_path']} is not there")
    with Store() as store:
        refused("ls", store.dir, "cloud", code=2, says=["no cloud"])


@test
def a_bucket_directory_is_restored():
    with clouded() as store, store.mount() as mnt:
        segments, pointer = fill(mnt)
        mnt.umount()
        # As an S3 tool has downloaded it: without extended attributes.
        shutil.copytree(store.cloud.dir, f"{store.base}/download", copy_function=shutil.copyfile)
        with Store(base=store.base, init=False) as other:
            protofs("restore", f"{store.base}/download", other.dir)
            with other.mount() as there:
                check_eq({n: d for n, d in wal(there).items() if n in segments}, segments, "the restored segments")
                check_eq(Pointer.of_json(read(there / "space/space_root")), pointer, "the restored root")
                check_eq(stats(there)["cloud"], None, "the cloud of a restored store")
                put(there, b"and it can be written to")


@test
def the_manual_restores_by_hand():
    """The script of docs/OPERATIONS.md, as it stands there."""
    with open(os.path.join(HERE, "../../docs/OPERATIONS.md")) as file:
        script = re.search(r"```bash\n(# restore-segments.*?)```", file.read(), re.S)[1]
    with clouded() as store, store.mount() as mnt:
        fill(mnt)
        append(mnt / f"space/{new_uuid()}", frame(random_bytes(2 * BLOCK + 100)))
        flush(mnt)
        append(mnt / f"space/{new_uuid()}", frame(b"x" * 100))
        flush(mnt)
        want = {n: d for n, d in wal(mnt).items() if d}
        run(["bash", "-euc", script, "restore-segments", store.cloud.dir, f"{store.base}/out"])
        got = {n: read(f"{store.base}/out/{n}") for n in os.listdir(f"{store.base}/out")}
        check_eq(got, want, "the segments")


# ---- Settings and wrong use ----------------------------------------------------------------------


@test
def settings_are_remembered_and_overridden():
    with clouded("--transfers", "3", "--bandwidth", "100M") as store:
        text = read_text(store / "cloud.conf")
        for line in (f"cloud = {store.cloud.url}", "upload_interval = 100ms", "transfers = 3", "bandwidth = 104857600"):
            check_in(line, text, "cloud.conf")
        check_eq(stat.S_IMODE(os.stat(store / "cloud.conf").st_mode), 0o600, "the mode of cloud.conf")
        with store.mount("durability=cloud", "transfers=1") as mnt:
            check_eq(cloud_of(mnt)["durability"], "cloud", "durability by option")
        check_eq(read_text(store / "cloud.conf"), text, "cloud.conf after a mount with other options")
        with store.mount() as mnt:
            check_eq(cloud_of(mnt)["durability"], "local", "durability as remembered")
        store.fsck()


@test
def the_first_mount_with_a_cloud_is_remembered():
    with Store("--block-size", "64K") as store:
        cloud = Cloud(store.base)
        with store.mount(f"cloud={cloud.url}", QUICK) as mnt:
            put(mnt, b"x")
            check_bucket(mnt, cloud)
        with store.mount() as mnt:
            check_eq(cloud_of(mnt)["url"], cloud.url, "the cloud of the next mount")
        refused("mount", store.dir, make_dir(store, "m"), "-o", f"cloud=file://{store.base}/other", code=2,
                says=[cloud.url, "other"])


@test
def wrong_use_is_told():
    with Store() as store:
        mnt = make_dir(store, "m")

        def no_mount(option, *says):
            refused("mount", store.dir, mnt, "-o", option, code=2, says=says)

        no_mount("durability=cloud", "bucket")
        no_mount("durability=quorum", "peers")
        no_mount("disk_max=1G", "bucket")
        no_mount("cloud=mem:", "mem:")
        no_mount("cloud=s3://key:secret@bucket", "no name and password")
        no_mount("cloud=ftp://x", "s3://")
        no_mount(f"cloud=file://{store.base}/b,take_over,ro", "take_over")
        write(store / "cloud.conf", b"colour = red\n")
        refused("mount", store.dir, mnt, code=2, says=["cloud.conf", "colour"])
        refused("status", store.dir, code=2, says=["cloud.conf", "colour"])
        os.unlink(store / "cloud.conf")
        check(not is_mounted(mnt), "it is mounted")
        check(not os.path.exists(f"{store.base}/b"), "a refused mount has made the bucket")


@test
def a_store_in_memory_has_a_cloud_in_memory():
    with temporary_dir() as base:
        mnt = f"{base}/m"
        os.mkdir(mnt)
        protofs("mount", "mem:", mnt, "-o", f"cloud=mem:,{QUICK}")
        try:
            pointer = put(mnt, random_bytes(100_000))
            flush(mnt)
            check_eq(durable(f"{mnt}/atoms/{pointer}")["cloud"], 100_009, "bytes in the cloud")
        finally:
            protofs("umount", mnt)


@test
def a_bucket_with_other_blocks_or_another_owner_is_refused():
    with clouded() as store, store.mount() as mnt:
        fill(mnt)
        mnt.umount()
        keys = store.cloud.keys()
        with Store("--block-size", "128K", base=store.base) as other, other.mount(f"cloud={store.cloud.url}", QUICK) as there:
            with contextlib.suppress(Failure, OSError):
                put(there, b"x" * 1000)
            wait_for(lambda: cloud_of(there)["state"] in ("fenced", "failed"), "a refusal", timeout=20)
            check(cloud_of(there)["error"], "it does not say why")
        check_eq(store.cloud.keys(), keys, "what lies in the bucket")


main()
