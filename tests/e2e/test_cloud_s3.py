#!/usr/bin/python3
"""A store whose cloud is S3: real servers, servers that fail, two owners on one bucket, a bucket that lies.

What S3 does wrong must never be felt by those who write, never be taken for data by those who read, and be told to whoever asks.
"""
import socket
from collections import Counter

import bare_restore
from lib import *
from s3_fault_server import listing
from s3_lib import *

BLOCK = 64 << 10
QUICK = "upload_interval=50ms"
PREFIX = "team/store"


class S3Store(Store):
    """A store with its cloud on SERVER, in a bucket of its own."""

    def __init__(self, server, *init_args, **kwargs):
        self.server = server
        self.bucket = new_bucket(server) if not isinstance(server, FaultServer) else "bucket"
        if isinstance(server, FaultServer):
            server.make_bucket(self.bucket)
        self.url = f"s3://{self.bucket}/{PREFIX}"
        super().__init__("--block-size", str(BLOCK), "--cloud", self.url, *init_args, **kwargs)
        self.env = clean_environment(**server.environment())

    def mount(self, *options, **daemon):
        return super().mount(QUICK, *options, **{"env": self.env} | daemon)

    def source(self):
        return bare_restore.Bucket(self.server.client(), self.bucket, PREFIX)

    def objects(self):
        """All that is up there, of a fault server."""
        return {key: bytes(thing.data) for key, thing in list(self.server.buckets[self.bucket].items())}

    @contextlib.contextmanager
    def clone(self, *args, env=None):
        with CloneOf(self) as other:
            protofs("clone", self.url, other.dir, *args, env=env or self.env)
            yield other


class CloneOf(Store):
    def __init__(self, store):
        super().__init__(base=store.base, init=False)
        self.env = store.env

    def mount(self, *options, **daemon):
        return super().mount(*options, **{"env": self.env} | daemon)


@contextlib.contextmanager
def faulty(*init_args, **server):
    with FaultServer(seed=SEED, **server) as s, S3Store(s, *init_args) as store:
        yield s, store
        check_eq(s.complaints, [], "what a good client does not do")


def cloud_of(mnt):
    return stats(mnt)["cloud"]


def upload_text(mnt):
    return read_text(f"{mnt}/.ctl/upload")


def flush(mnt):
    write(f"{mnt}/.ctl/flush", b"1", flags=os.O_WRONLY)


def set_root(mnt, pointer):
    return json.loads(protofs("root", mnt, "set", str(pointer), "--json").out)


def wal(mnt):
    return {n: read(f"{mnt}/wal/{n}") for n in os.listdir(f"{mnt}/wal") if len(n) == 36}


def fill(mnt, size=5 * BLOCK + 3):
    """Atoms, a client's segment, a root, all uploaded; the segments as they are then, and the root's atom."""
    for n in (10, BLOCK, size):
        pointer = put(mnt, random_bytes(n))
    append(f"{mnt}/space/{new_uuid()}", frame(random_bytes(3 * BLOCK)))
    set_root(mnt, pointer)
    flush(mnt)
    return wal(mnt), pointer


def check_uploaded(store, mnt):
    """All is there, byte for byte, by the word of a client that shares no code."""
    flush(mnt)
    segments, source = wal(mnt), store.source()
    place = bare_restore.Place(source)
    for uuid, data in segments.items():
        pieces = []
        if data:
            place.copy(uuid, pieces.append)
            check_eq(b"".join(pieces), data, f"segment {uuid} up there")


def state_is(mnt, *states):
    return lambda: cloud_of(mnt)["state"] in states


def whole_life(store, *options, says="idle", log_says=""):
    """Write, burn, clone, read, take over, go on."""
    with store.mount(*options) as mnt:
        segments, pointer = fill(mnt)
        check_uploaded(store, mnt)
        check_in(says, upload_text(mnt), ".ctl/upload")
        check_in(log_says, mnt.output(), "the log")
        mnt.umount()
    shutil.rmtree(store.dir)
    with store.clone(*clone_args(options)) as other, other.mount() as there:
        check_eq(wal(there), segments, "the segments of the clone")
        check_eq(Pointer.of_json(read(there / "space/space_root")), pointer, "the root of the clone")
        there.remount("take_over", QUICK)
        new = put(there, b"after the fire")
        set_root(there, new)
        check_uploaded(store, there)


def clone_args(options):
    return [word for option in options for word in ("--" + option.split("=")[0].replace("_", "-"), option.split("=")[1])]


# ---- Real servers --------------------------------------------------------------------------------

@test
def rgw_for_a_whole_life():
    with S3Store(rgw()) as store:
        whole_life(store)


@test
def rgw_over_tls():
    server = rgw()
    with S3Store(server) as store:
        store.env = clean_environment(**server.environment(True, AWS_CA_BUNDLE=""))
        whole_life(store, f"ca_bundle={server.ca}", f"endpoint={server.endpoint_tls}")


@test
def swift_for_a_whole_life_with_a_warning():
    with S3Store(swift()) as store:
        whole_life(store, says="noticed before each round, but not refused by the place", log_says="does not refuse a second writer")
        check_in(f"{PREFIX}/owner", [e.key for e in store.server.client().list(store.bucket)], "keys")


@test
def a_brown_out_and_a_restart_are_not_felt():
    server = rgw()
    with S3Store(server) as store, store.mount() as mnt:
        fill(mnt)
        with server.brown_out():
            slowest = longest_commit(mnt, 1.5)
        check(slowest < 1.0, f"a commit took {slowest:.2f} s while S3 hung")
        server.stop_gateway()
        slowest = longest_commit(mnt, 1.0)
        wait_for(state_is(mnt, "waiting", "busy"), "an uploader that waits")
        text = cloud_of(mnt)["error"]
        check(slowest < 1.0, f"a commit took {slowest:.2f} s while S3 was away")
        server.start_gateway()
        check_uploaded(store, mnt)
        check_eq(cloud_of(mnt)["state"], "idle", "the state once all is there")
        check(text is None or text["text"], f"error {text}")


def longest_commit(mnt, seconds):
    """Writes and commits for so long; what the slowest of them took."""
    name, slowest, end = f"{mnt}/space/{new_uuid()}", 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        append(name, frame(random_bytes(10_000)), sync=True)
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(0.005)
    return slowest


# ---- What S3 refuses -----------------------------------------------------------------------------

def check_no_secret(store, mount, *secrets):
    """Not in the store, the log, or what the mount says of itself."""
    texts = {"the log": mount.output(), "the command line": " ".join(mount.daemon.command) if mount.daemon else ""}
    for name in ("status", "stats.json", "metrics", "errors", "upload"):
        texts[name] = read_text(f"{mount}/.ctl/{name}")
    with open(f"/proc/{mount.pid}/cmdline", "rb") as file:
        texts["cmdline"] = file.read().decode()
    for secret in secrets:
        for where, text in texts.items():
            check(secret not in text, f"a secret is in {where}")
        found = run(["grep", "-rlF", "-e", secret, store.dir], ok=(0, 1)).out
        check(not found, f"a secret is in {found}")


@test
def a_server_that_is_not_there_is_waited_for_and_named():
    """At once, and not only when a minute of attempts is over; with its cause and the next attempt."""
    with socket.socket() as nobody, Store() as store:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "some-key", "AWS_SECRET_ACCESS_KEY": "some-secret"}
        with store.mount("cloud=s3://bucket/there", f"endpoint={endpoint}", "upload_interval=100ms",
                         env=os.environ | keys) as mnt:
            put(mnt, b"local all the same")
            wait_for(state_is(mnt, "waiting"), "an uploader that waits", timeout=20)
            check_in("connect", errors_text(mnt).lower(), "the cause in .ctl/errors")
            wait_for(lambda: "next attempt in" in upload_text(mnt), "the next attempt in .ctl/upload")
            check(cloud_of(mnt)["bytes_behind"] > 0, "nothing is behind, though nobody took it")
            start = time.monotonic()
            mnt.umount()
            check(time.monotonic() - start < 5, "the unmount waited for a server that is not there")


@test
def wrong_credentials_pause_the_upload_and_say_so():
    server = rgw()
    for wrong, code in (({"AWS_SECRET_ACCESS_KEY": "quite-another-secret"}, "SignatureDoesNotMatch"),
                        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId")):
        with S3Store(server) as store:
            with store.mount(env=store.env | wrong) as mnt:
                put(mnt, b"local all the same")
                wait_for(state_is(mnt, "paused"), "a paused upload")
                for text in (upload_text(mnt), cloud_of(mnt)["error"]["text"], errors_text(mnt)):
                    check_in(code, text, "what is said of it")
                before = sum(cloud_of(mnt)["requests"].values())
                time.sleep(1)
                more = sum(cloud_of(mnt)["requests"].values()) - before
                check(more <= 3, f"{more} requests a second to somebody who refuses")
                check_no_secret(store, mnt, "quite-another-secret", server.secret_key)
            with store.mount() as mnt:
                check_uploaded(store, mnt)


@test
def a_bucket_that_is_made_later():
    with FaultServer() as server, S3Store(server) as store:
        del server.buckets["bucket"]
        with store.mount() as mnt:
            put(mnt, b"x" * BLOCK)
            wait_for(state_is(mnt, "paused"), "a paused upload")
            check_in("NoSuchBucket", upload_text(mnt), ".ctl/upload")
            server.make_bucket("bucket")
            mnt.remount()  # by itself it looks again once a minute
            wait_for(state_is(mnt, "idle"), "an upload that goes on")
            check_uploaded(store, mnt)


@test
def credentials_from_a_file_that_is_renewed():
    with FaultServer() as server, S3Store(server) as store, temporary_dir() as top:
        path, secrets = os.path.join(top, "credentials"), ("first-secret-text", "second-secret-text", "first-token", "second-token")
        server.tokens = {"one": (secrets[0], secrets[2]), "two": (secrets[1], secrets[3])}

        def save(key, secret, token):
            write(f"{path}.new", f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n"
                  f"aws_session_token={token}\n".encode(), mode=0o600)
            os.rename(f"{path}.new", path)

        save("one", secrets[0], secrets[2])
        env = clean_environment(AWS_ENDPOINT_URL=server.endpoint, AWS_REGION=server.region)
        with store.mount(f"credentials={path}", env=env) as mnt:
            segments, _ = fill(mnt)
            server.expired.add(secrets[2])
            put(mnt, random_bytes(BLOCK))
            wait_for(lambda: "ExpiredToken" in upload_text(mnt), "an expired token", timeout=20)
            save("two", secrets[1], secrets[3])
            wait_for(lambda: cloud_of(mnt)["bytes_behind"] == 0, "the upload with new credentials", timeout=90)
            check_no_secret(store, mnt, *secrets)
        check_eq(server.complaints, [], "what a good client does not do")
        os.chmod(path, 0o644)
        try:
            with store.mount(f"credentials={path}", env=env) as mnt:
                wait_for(lambda: "chmod 600" in upload_text(mnt), "a complaint about the file's mode")
        except MountFailed as failed:
            check_in("chmod 600", failed.output, "why it does not mount")


# ---- What S3 does --------------------------------------------------------------------------------

STORM = ({"kind": "status", "status": 503, "code": "SlowDown"}, {"kind": "status", "status": 500, "code": "InternalError"},
         {"kind": "reset"}, {"kind": "reset", "effect": True}, {"kind": "close", "effect": True}, {"kind": "cut", "at": 100},
         {"kind": "hang", "seconds": 0.1, "answer": True}, {"kind": "late", "seconds": 0.2, "method": "PUT"},
         {"kind": "garbage", "data": b"what?\r\n"})


@test
def a_storm_is_not_felt_and_nothing_is_lost():
    with faulty() as (server, store), store.mount() as mnt:
        raging = [server.fault(**fault, times=None, chance=0.05) for fault in STORM]
        slowest = longest_commit(mnt, 3)
        set_root(mnt, put(mnt, random_bytes(7 * BLOCK)))
        check(slowest < 1.0, f"a commit took {slowest:.2f} s during the storm")
        for fault in raging:
            fault.times = 0
        wait_for(lambda: cloud_of(mnt)["bytes_behind"] == 0, "the end of the upload", timeout=60)
        check_uploaded(store, mnt)
        stored = Counter(seen.key for seen in server.log("PUT") if seen.status == 200)
        check_eq([k for k, n in stored.items() if n > 1], [], "keys that were stored twice")


@test
def a_server_that_hangs_takes_no_memory():
    with faulty() as (server, store), store.mount() as mnt:
        put(mnt, b"x")
        flush(mnt)
        hangs = [server.fault("stall", at=0, seconds=600, times=None, method="PUT"), server.fault("hang", seconds=600, times=None)]
        before = mnt.daemon.memory()[1]
        name = f"{mnt}/space/{new_uuid()}"
        for _ in range(200):
            append(name, b"y" * MIB)
        time.sleep(0.5)
        grown = mnt.daemon.memory()[1] - before
        check(grown < 64 * MIB, f"{grown >> 20} MiB of memory for 200 MiB that cannot leave")
        check(cloud_of(mnt)["bytes_behind"] >= 200 * MIB, "what is behind")
        for fault in hangs:
            fault.times = 0
        protofs("umount", mnt, timeout=20)  # and it does not wait for who hangs
        mnt.daemon.wait(20)
        mnt.ended()


@test
def who_reads_from_a_server_that_hangs_holds_up_nobody():
    with faulty() as (server, store), store.mount() as mnt:
        pointer = put(mnt, random_bytes(48 * MIB))
        flush(mnt)
        mnt.umount()
        with store.clone("--take-over") as other, other.mount() as there:
            hang = server.fault("hang", seconds=600, times=None, method="GET")
            path = f"{there}/wal/{pointer.segment}"
            readers = [subprocess.Popen(["dd", f"if={path}", "of=/dev/null", "bs=1M", "count=1", f"skip={n}", "iflag=direct"],
                                        stderr=subprocess.DEVNULL) for n in range(40)]
            time.sleep(1)
            check(all(r.poll() is None for r in readers), "a read returned while the server hangs")
            start = time.monotonic()
            data = random_bytes(3 * MIB)
            mine = put(there, data)
            check_eq(read(f"{there}/atoms/{mine}"), data, "what is on this disk")
            check_in("behind", upload_text(there), ".ctl/upload")
            check(time.monotonic() - start < 5, f"what is here took {time.monotonic() - start:.1f} s")
            start = time.monotonic()
            for reader in readers:
                reader.kill()
            for reader in readers:
                reader.wait(10)
            check(time.monotonic() - start < 5, f"killing readers took {time.monotonic() - start:.1f} s")
            start = time.monotonic()
            there.umount()
            check(time.monotonic() - start < 10, f"umount took {time.monotonic() - start:.1f} s")
            hang.times = 0


@test
def an_idle_mount_asks_nothing():
    with faulty() as (server, store), store.mount() as mnt:
        fill(mnt)
        wait_for(state_is(mnt, "idle"), "an idle uploader")
        time.sleep(0.3)
        mark = server.mark()
        time.sleep(3)
        check_eq(server.count(since=mark), 0, "requests within 60 intervals")
        wal(mnt)
        protofs("status", mnt)
        check_eq(server.count(since=mark), 0, "requests of reading what is here")


@test
def what_is_read_back_is_right_or_an_error():
    with faulty() as (server, store), store.mount() as mnt:
        segments, pointer = fill(mnt, 40 * BLOCK)
        mnt.umount()
        path = f"wal/{pointer.segment}"
        once = ({"kind": "cut", "at": 1000}, {"kind": "reset"}, {"kind": "status", "status": 503, "code": "SlowDown"},
                {"kind": "hang", "seconds": 0.2, "answer": True}, {"kind": "corrupt", "at": 5}, {"kind": "shorter", "by": 9})
        for fault in once:
            with store.clone() as other, other.mount() as there:
                server.fault(**fault, method="GET", key="*/wal/*", times=3)
                try:
                    check_eq(read(there / path), segments[pointer.segment], f"the segment after {fault}")
                except OSError as error:
                    check_eq(error.errno, errno.EIO, f"the error after {fault}")
                    check(fault["kind"] in ("corrupt", "shorter"), f"{fault} is an error that passes")
                    check(errors_text(there).strip(), ".ctl/errors is empty")
                server.heal()
                check_eq(read(there / path), segments[pointer.segment], "the segment once all is well")


@test
def what_is_gone_or_damaged_up_there_is_said_loudly():
    with faulty() as (server, store), store.mount() as mnt:
        segments, pointer = fill(mnt, 20 * BLOCK)
        mnt.umount()
        key = f"{PREFIX}/{block(3 * BLOCK, pointer.segment)}"
        good = server.buckets["bucket"][key]
        for what in ("gone", "damaged", "short"):
            with store.clone() as other, other.mount() as there:
                if what == "gone":
                    del server.buckets["bucket"][key]
                else:
                    data = b"\0" * BLOCK if what == "damaged" else good.data[:-1]
                    server.put("bucket", key, data, good.headers)
                check_errno(errno.EIO, f"reading a block that is {what}", read, there / f"wal/{pointer.segment}")
                check_in(block(3 * BLOCK, pointer.segment), errors_text(there), f".ctl/errors of what is {what}")
                # What does not need it is read all the same.
                check_eq(os.pread(fd := os.open(there / f"wal/{pointer.segment}", os.O_RDONLY), 100, 0),
                         segments[pointer.segment][:100], "the first bytes")
                os.close(fd)
                server.buckets["bucket"][key] = good
                check_eq(read(there / f"wal/{pointer.segment}"), segments[pointer.segment], "the segment once it is back")


# ---- Two owners ----------------------------------------------------------------------------------

def never_overwritten(server):
    """No object was ever stored over another."""
    stored = Counter(seen.key for seen in server.log("PUT") if seen.status == 200 and not seen.key.endswith("/owner"))
    check_eq([k for k, n in stored.items() if n > 1], [], "keys that were stored twice")


@test
def an_owner_whose_put_comes_late_overwrites_nothing():
    for conditional in (True, False):
        with FaultServer(seed=SEED) as server, S3Store(server) as store:
            server.conditional = conditional
            with store.mount() as mnt:
                fill(mnt)
                # The old owner's PUTs are lost on their way, and arrive when somebody else has taken over.
                late = server.fault("late", seconds=3, method="PUT", times=None)
                with contextlib.suppress(Failure, OSError):
                    put(mnt, random_bytes(3 * BLOCK))
                time.sleep(0.3)
                late.times = 0
                with store.clone() as other, other.mount("take_over", QUICK) as there:
                    set_root(there, put(there, b"the new owner's"))
                    flush(there)
                    before = store.objects()
                    with contextlib.suppress(Failure, OSError):
                        set_root(mnt, put(mnt, random_bytes(BLOCK)))
                    wait_for(state_is(mnt, "fenced"), "the old owner to be fenced", timeout=30)
                    time.sleep(3)
                    check(is_read_only(mnt), "the fenced store is not read-only")
                    if conditional:
                        after = store.objects()
                        changed = [k for k, data in before.items() if k in after and after[k] != data]
                        check_eq(changed, [], "objects that changed")
                    set_root(there, put(there, b"and goes on"))
                    flush(there)
                with store.clone() as third, third.mount() as last:
                    check_eq(read(f"{last}/atoms/{Pointer.of_json(read(last / 'space/space_root'))}"), b"and goes on",
                             "the newest root's atom")
            if conditional:
                never_overwritten(server)
                check_eq(server.complaints, [], "what a good client does not do")


@test
def of_two_that_take_over_at_once_one_goes_on():
    server = rgw()
    with S3Store(server) as store:
        with store.mount() as mnt:
            fill(mnt)
        with store.clone() as one, store.clone() as two:
            with contextlib.ExitStack() as stack:
                mounts = [stack.enter_context(other.mount("take_over", QUICK)) for other in (one, two)]
                for number, mnt in enumerate(mounts):
                    with contextlib.suppress(Failure, OSError):
                        set_root(mnt, put(mnt, b"of writer %d" % number))
                wait_for(lambda: any(cloud_of(m)["state"] == "fenced" for m in mounts), "one of them to be fenced", timeout=30)
                states = [cloud_of(m)["state"] for m in mounts]
                winner = next(m for m in mounts if cloud_of(m)["state"] != "fenced")
                check_eq(states.count("fenced"), 1, f"fenced owners ({states})")
                last = put(winner, b"the winner's last word")
                set_root(winner, last)
                flush(winner)
            with store.clone() as third, third.mount() as there:
                check_eq(read(there / f"atoms/{last}"), b"the winner's last word", "what is up there")


# ---- A bucket that lies --------------------------------------------------------------------------

def hostile_manifests(good):
    """Texts in the place of a manifest."""
    value = json.loads(good)
    yield from (b"", b"{}", b"[]", b"null", b"\0" * 100, b"{" * 100_000, good[:-10], good + b" trailing", b"\xff\xfe" + good)
    for name, wrong in (("n", 10**30), ("n", -1), ("block_size", 1), ("block_size", 1 << 60), ("owner", "../../etc"),
                        ("previous", "0" * 31), ("segments", [{"uuid": "../x", "length": 1}]), ("host", "h" * 5000),
                        ("segments", [{"uuid": value["owner"], "length": 1 << 63, "class": 0}] * 3), ("epoch", "1"),
                        ("root", {"seq": 1, "transaction_id": "x", "offset": 0, "time": 0, "node": 0})):
        yield json.dumps(value | {name: wrong}).encode()


@test
def a_hostile_bucket_makes_no_clone_and_no_harm():
    with faulty() as (server, store), store.mount() as mnt:
        fill(mnt)
        mnt.umount()
        objects = server.buckets["bucket"]
        newest = max(k for k in objects if "/roots/" in k)
        good = objects[newest]
        for data in hostile_manifests(good.data):
            server.put("bucket", newest, data)
            where = os.path.join(store.base, "hostile")
            done = protofs("clone", store.url, where, env=store.env, ok=(0, 1), timeout=60)
            if done.code == 0:
                fail(f"a clone of {short(data)} succeeded")
            check(done.err.strip(), f"no message for {short(data)}")
            check(not os.path.exists(where) or not os.listdir(where), f"{short(data)} leaves {os.path.exists(where)}")
        objects[newest] = good
        # Names and sizes that lie.
        lies = [f"{PREFIX}/{key}" for key in ("wal/../../../../tmp/x", "roots/99999999999999999999", "wal//", "owner/x", "x" * 500)]
        server.fault("listing", method="LIST", times=None, body=listing(
            [(key, 1 << 62, "0" * 32) for key in lies + sorted(objects)], f"{PREFIX}/").encode())
        protofs("clone", store.url, os.path.join(store.base, "hostile2"), env=store.env, ok=1, timeout=60)
        server.heal()
        with store.clone() as other, other.mount() as there:
            check(wal(there), "the clone once all is well")


@test
def a_bucket_of_somebody_else_is_left_alone():
    with faulty() as (server, store):
        server.put("bucket", f"{PREFIX}/photo.jpg", b"not ours")
        server.put("bucket", f"{PREFIX}/roots/readme.txt", b"not ours")
        with store.mount() as mnt:
            fill(mnt)
            check_uploaded(store, mnt)
        for name in ("photo.jpg", "roots/readme.txt"):
            check_eq(server.buckets["bucket"][f"{PREFIX}/{name}"].data, b"not ours", name)
    # A store that was never uploaded to this place, where another one's manifests are.
    with FaultServer() as server, S3Store(server) as store:
        with store.mount() as mnt:
            fill(mnt)
        before = store.objects()
        with Store("--block-size", str(BLOCK), "--cloud", store.url) as stranger:
            with stranger.mount(QUICK, env=store.env) as mnt:
                with contextlib.suppress(Failure, OSError):
                    put(mnt, b"a stranger's")
                wait_for(state_is(mnt, "fenced", "failed", "paused"), "a stranger that stops", timeout=20)
                check(upload_text(mnt), ".ctl/upload")
        check_eq(store.objects(), before, "the objects of the first")


main(timeout=280)
