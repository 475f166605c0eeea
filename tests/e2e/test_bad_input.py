#!/usr/bin/python3
"""Bad input and wrong use: a clear message with the name of the thing and what to do, and nothing lost."""
from lib import *


def refused(*args, code=1, says=()):
    """A verb that must fail with CODE and a message that holds all of SAYS."""
    done = protofs(*args, ok=code)
    text = done.err.lower()
    check(done.err.strip(), f"protofs {' '.join(map(str, args))} failed without a word")
    for word in says:
        check_in(word.lower(), text, f"the message of protofs {' '.join(map(str, args))}")
    return done


# ---- Stores ----


@test
def what_is_not_a_store():
    with temporary_dir() as base:
        os.mkdir(f"{base}/mnt")
        os.mkdir(f"{base}/empty")
        os.mkdir(f"{base}/full")
        write(f"{base}/full/file", b"x")
        write(f"{base}/file", b"not a directory")
        for store in ("none", "empty", "full", "file"):
            for verb in (["mount", f"{base}/{store}", f"{base}/mnt", "-f"], ["fsck", f"{base}/{store}"],
                         ["status", f"{base}/{store}"], ["ls", f"{base}/{store}", "segments"],
                         ["root", f"{base}/{store}", "show"], ["put", f"{base}/{store}", f"{base}/file"]):
                refused(*verb, code=(1, 2), says=[f"{base}/{store}"])
        check(not is_mounted(f"{base}/mnt"), "something is mounted")
        check_eq(os.listdir(f"{base}/full"), ["file"], "a directory that is no store")
        check_eq(os.listdir(f"{base}/empty"), [], "an empty directory")


@test
def init_spares_what_is_there():
    with temporary_dir() as base:
        os.mkdir(f"{base}/full")
        write(f"{base}/full/file", b"x")
        refused("init", f"{base}/full", code=(1, 2), says=[f"{base}/full"])
        check_eq(os.listdir(f"{base}/full"), ["file"], "a directory that holds something else")
        protofs("init", f"{base}/store")
        pointer = put(f"{base}/store", b"x")
        refused("init", f"{base}/store", code=(1, 2), says=[f"{base}/store"])
        check_eq(protofs("cat", f"{base}/store", str(pointer)).out, "x", "the atom after a second init")
        for size in ("1", "5M1", "-5M", "1K", "1T", "", "65537"):
            refused("init", f"{base}/other", "--block-size", size, code=(1, 2))
            check(not os.path.exists(f"{base}/other/superblock"), f"a store of block size {size!r}")


def superblock_with(good, offset, value):
    """Both copies with the bytes VALUE at OFFSET, and a sum that says that it is meant."""
    copies = b""
    for at in range(0, len(good), 4096):
        body = bytearray(good[at:at + 4080])
        body[offset:offset + len(value)] = value
        copies += bytes(body) + bytes.fromhex(xxh3(body))
    return copies


@test
def a_store_of_a_newer_format():
    with Store() as store:
        pointer = put(store, b"x")
        good = read(store / "superblock")
        check_eq(superblock_with(good, 0, b""), good, "the superblock as the test writes it")
        cases = {
            "version 2": (8, struct.pack("<I", 2), True), "version 2^32-1": (8, b"\xff" * 4, True),
            "version 0": (8, bytes(4), True), "an unknown incompat bit": (32, struct.pack("<Q", 1 << 40), True),
            "an unknown ro_compat bit": (24, struct.pack("<Q", 2), False),
            "an unknown compat bit": (16, struct.pack("<Q", 2), False),
            "a block size of 0": (56, bytes(8), True), "a block size of 2^63": (56, struct.pack("<Q", 1 << 63), True),
            "a block size of 65537": (56, struct.pack("<Q", 65537), True),
        }
        for what, (offset, value, refuse) in cases.items():
            write(store / "superblock", superblock_with(good, offset, value))
            mount = store.mount()
            try:
                mount.start()
                check(not refuse, f"a superblock with {what} was mounted")
                check_eq(read(mount / f"atoms/{pointer}"), b"x", f"the atom of a store with {what}")
                if "ro_compat" in what:
                    check_errno(errno.EROFS, f"a write to a store with {what}", append, mount / f"space/{new_uuid()}", b"x")
                mount.umount()
            except MountFailed as failed:
                check(refuse, f"a superblock with {what} is refused: {failed.output}")
                check_in(store.dir, failed.output, "the message of the mount")
                check_eq(failed.code, 1, "its exit code")
                protofs("fsck", store, "--repair", ok=1)
            finally:
                mount.abandon()
        write(store / "superblock", good)
        store.fsck("--deep")
        check_eq(protofs("cat", store, str(pointer)).out, "x", "the atom after all that")


@test
def a_superblock_that_is_damaged():
    with Store() as store:
        pointer = put(store, b"x")
        superblock = store / "superblock"
        good = read(superblock)
        # One copy is enough.
        for copy in (0, 4096):
            flip(superblock, copy + 50)
            with store.mount() as mnt:
                check_eq(read(mnt / f"atoms/{pointer}"), b"x", f"the atom with a bad copy at {copy}")
            write(superblock, good)
        for bad in (b"", good[:100], bytes(len(good)), random_bytes(len(good)), bytes([good[0] ^ 1]) + good[1:4096] +
                    bytes([good[0] ^ 1]) + good[4097:]):
            write(superblock, bad)
            mount = store.mount()
            try:
                mount.start()
                fail(f"a superblock {short(bad, 40)} was mounted")
            except MountFailed as failed:
                check_in(store.dir, failed.output, "the message of the mount")
                check_eq(failed.code, 1, "its exit code")
            finally:
                mount.abandon()
            done = protofs("init", store, ok=(1, 2))
            check(done.err.strip(), "init onto a damaged store says nothing")
        write(superblock, good)
        store.fsck("--deep")


@test
def a_store_that_is_in_use():
    with Store() as store, store.mount() as mnt:
        os.mkdir(f"{store.base}/second")
        done = refused("mount", store, f"{store.base}/second", "-f", says=[store.dir])
        check_in(str(mnt.pid), done.err, "the message names the process that holds it")
        check(not is_mounted(f"{store.base}/second"), "a store is mounted twice")
        refused("fsck", store, "--repair")
        write(f"{store.base}/file", b"x")
        refused("mount", store, mnt, "-f")
        # What reads or writes goes through the mount, or says that it cannot.
        done = protofs("put", store, f"{store.base}/file", ok=(0, 1))
        if done.code == 1:
            check_in(store.dir, done.err, "the message of put on a store in use")
        check_eq(put(mnt, b"y").offset >= 0, True, "put through the mount")


@test
def a_mountpoint_that_is_none():
    with Store() as store:
        write(f"{store.base}/file", b"x")
        for mountpoint in ("none", "file"):
            refused("mount", store, f"{store.base}/{mountpoint}", "-f", code=(1, 2), says=[mountpoint])
        with store.mount() as mnt:  # and it is not locked by the failed ones
            put(mnt, b"x")
        refused("umount", f"{store.base}/file", code=(1, 2))
        refused("umount", store.base, code=(1, 2), says=[store.base])


@test
def a_part_that_may_not_be_read():
    """As root permissions do not count: a directory in place of the part is as unreadable."""
    with Store() as store, store.mount() as mnt:
        name, other = new_uuid(), new_uuid()
        append(mnt / f"space/{name}", frame(b"x" * 100_000))
        append(mnt / f"space/{other}", frame(b"y" * 1000))
        mnt.umount()
        part = store.parts(name)[0]
        os.rename(part, f"{store.base}/part")
        os.mkdir(part)
        done = store.fsck("--deep", ok=1)
        check_in(name, done.err + done.out, "fsck names the segment")
        mnt.start()
        check_eq(read(mnt / f"wal/{other}"), frame(b"y" * 1000), "the other segment")
        check_errno((errno.EIO, errno.EISDIR), "the unreadable segment", read, mnt / f"wal/{name}")
        check_in(name, mnt.output() + errors_text(mnt), "the mount names the segment")
        mnt.umount(code=None)
        os.rmdir(part)
        os.rename(f"{store.base}/part", part)
        store.fsck("--deep")


# ---- Frames ----


@test
def frames_that_are_absurd():
    with Store() as store, store.mount() as mnt:
        cases = {
            "size 2^60": struct.pack("<QB", 1 << 60, 0) + b"x" * 50,
            "size 2^64-1": struct.pack("<QB", (1 << 64) - 1, 1) + b"x" * 50,
            "size 2^63": struct.pack("<QB", 1 << 63, 2) + b"x" * 50,
            "size 64 GiB and 1": struct.pack("<QB", (64 << 30) + 1, 0) + b"x" * 50,
            "zeros": bytes(4096), "text": b"hello world, this is no frame at all\n" * 50,
            "a header cut": struct.pack("<QB", 100, 0)[:5], "a payload cut": frame(b"x" * 100)[:50],
            "one byte": b"\0",
        }
        good = frame(b"good")
        for what, bad in cases.items():
            name = new_uuid()
            append(mnt / f"space/{name}", good + bad)
            atoms = sorted(map(int, os.listdir(mnt / f"atoms/{name}")))
            # Zeros are empty frames of format 0, one after the other.
            if what != "zeros":
                check_eq(atoms, [0], f"atoms of a segment with {what}")
            check_eq(read(mnt / f"atoms/{name}/0"), b"good", f"the atom before {what}")
            check_errno((errno.ENOENT, errno.EBADMSG, errno.EIO), f"the atom that is {what}", read,
                        mnt / f"atoms/{name}/1")
            if what != "zeros":
                check_errno((errno.ENOENT, errno.EBADMSG, errno.EIO), f"{what} as an atom", read,
                            mnt / f"atoms/{name}/{len(good)}")
            check_eq(read(mnt / f"wal/{name}"), good + bad, f"the bytes of {what}")
        mnt.kill9()
        mnt.start()
        for name in os.listdir(mnt / "atoms"):
            if name != "in":
                check_in("0", os.listdir(mnt / f"atoms/{name}"), "atoms after kill -9")
        mnt.umount()
        store.fsck("--deep", ok=(0, 1))


@test
def frames_of_size_0_and_unknown_formats():
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        kinds = [(b"", RAW), (b"", JSON), (b"", MSGPACK), (b"x", 3), (b"yy", 0x7f), (b"zzz", 0x80), (b"last", 0xff),
                 (b"{", JSON), (b"\xc1", MSGPACK), (b"\xff\xfe", JSON), (b"[1, 2", JSON), (b"", RAW)]
        data = b"".join(frame(payload, format) for payload, format in kinds)
        append(mnt / f"space/{name}", data)
        frames, used = parse_frames(data)
        check_eq(used, len(data), "the test's own frames")
        listed = sorted(map(int, os.listdir(mnt / f"atoms/{name}")))
        # ProtoDB's own formats are 0 to 2, and ours begin at 0x80: 3 to 0x7f are nobody's, and end what can be parsed
        # or are listed all the same; what is listed must be true.
        for one in frames:
            if one.offset in listed:
                check_eq(read(mnt / f"atoms/{name}/{one.offset}"), one.payload, f"the atom at {one.offset}")
                check_eq(read(mnt / f"atoms/{name}/{one.offset}.frame"), frame(one.payload, one.format), "its frame")
        check(listed[:3] == [0, 9, 18], f"empty atoms are listed: {listed}")
        for one in frames:
            if one.payload in (b"{", b"\xc1", b"\xff\xfe", b"[1, 2") and one.offset in listed:
                check_errno((errno.EINVAL, errno.EBADMSG, errno.EIO, errno.EILSEQ, errno.ENOENT),
                            f"{one.payload} as JSON", read, mnt / f"atoms/{name}/{one.offset}.json")


@test
def names_in_atoms_that_are_none():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b'{"a": 1}', "json")
        folder = mnt / f"atoms/{pointer.segment}"
        check_eq(read(f"{folder}/{pointer.offset}"), b'{"a": 1}', "the atom")
        for name in ("-1", "+0", "00", f"0{pointer.offset}", " 0", "0 ", "0x0", "1e0", "18446744073709551616",
                     "99999999999999999999999", "68719476736", "0.JSON", "0.json.json", ".json", "0.", "1", "2", "3",
                     str(pointer.offset + 1), "9" * 200, "é", "0.frame.json"):
            if name == str(pointer.offset):
                continue
            check_errno(errno.ENOENT, f"atoms/<segment>/{name}", os.stat, f"{folder}/{name}")
        for name in ("x", str(uuid.uuid4()), pointer.segment.upper(), pointer.segment.replace("-", ""),
                     f"{pointer.segment}x", "{" + pointer.segment + "}"):
            if name == pointer.segment:
                continue
            check_errno(errno.ENOENT, f"atoms/{name}", os.stat, mnt / f"atoms/{name}")
            check_errno(errno.ENOENT, f"wal/{name}", os.stat, mnt / f"wal/{name}")
        for name in ("0", "-1", "01", "2", "x", "18446744073709551616"):
            check_errno(errno.ENOENT, f"roots/{name}", os.stat, mnt / f"roots/{name}")


@test
def names_in_wal_in_that_are_no_uuid():
    """Copying tools use names of their own and rename: such names are staged, and never enter wal/."""
    with Store() as store, store.mount() as mnt:
        for name in ("x", "x.sum", uuid.uuid4().hex, f"{uuid.uuid4()}.txt", str(uuid.uuid4()).upper(), ".hidden",
                     f"{uuid.uuid4()}.sum.sum"):
            with contextlib.suppress(OSError):
                write(mnt / f"wal/in/{name}", b"x")
        check_eq(os.listdir(mnt / "wal"), ["in"], "names in wal/")
        for text in (b"", b"x", b"\0" * 36, str(uuid.uuid4()).encode(), b"y" * 100_000):
            check_errno((errno.EINVAL, errno.ENOENT, errno.EFBIG, errno.E2BIG), f"accept of {short(text, 50)}", write,
                        mnt / ".ctl/accept", text or b"\n", os.O_WRONLY)
        mnt.umount()
        check_eq(store.segments(), [], "segments on the disk")


@test
def sums_that_are_malformed():
    with Store() as store, store.mount() as mnt:
        data = b"".join(frame(random_bytes(1000)) for _ in range(5))
        cases = [b"garbage\n", b"0 10\n", b"0 5045 zz\n", b"\0" * 100, b"-1 5045 " + b"0" * 32 + b"\n",
                 b"0 99999999999999999999999 " + b"0" * 32 + b"\n", b"0 5045 " + b"0" * 32 + b"\n", b"x" * 2_000_000]
        for text in cases:
            name = new_uuid()
            write(mnt / f"wal/in/{name}", data)
            with contextlib.suppress(OSError):  # it may be refused at once
                write(mnt / f"wal/in/{name}.sum", text)
            wait_for(lambda: name in errors_text(mnt), f".ctl/errors to name the segment with sums {short(text, 60)}", 5)
            check(not os.path.exists(mnt / f"wal/{name}"), f"a segment with sums {short(text, 60)} entered")


# ---- Pointers and roots through the program ----


@test
def pointers_that_point_nowhere():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"0123456789")
        for where in (mnt, None):
            if where is None:
                mnt.umount()
                where = store
            for text in (f"{pointer.segment}/1000000", f"{pointer.segment}/{pointer.offset + 1}", f"{uuid.uuid4()}/0",
                         f"{pointer.segment}/68719476735"):
                refused("cat", where, text, says=[text.split("/")[0]])
            for text in ("x", "", f"{pointer.segment}", f"{pointer.segment}/", f"{pointer.segment}/-1", "/0",
                         f"{pointer.segment}/1x", f"{pointer.segment}/99999999999999999999"):
                refused("cat", where, text, code=(1, 2))
                refused("root", where, "set", text, code=(1, 2))
            refused("root", where, "rollback", "99", code=(1, 2), says=["99"])


@test
def json_and_msgpack_are_checked_by_put():
    with Store() as store:
        for format, text in (("json", b"{"), ("json", b"\xff"), ("json", b"[1,]"), ("json", b"1 2"),
                             ("json", b"[" * 100_000), ("msgpack", b"\xc1"), ("msgpack", b"\xdb\xff\xff\xff\xffx"),
                             ("msgpack", b"\x01\x02")):
            write(f"{store.base}/file", text)
            done = protofs("put", store, "--format", format, f"{store.base}/file", ok=(1, 2))
            check_in(f"{store.base}/file", done.err, f"the message about {short(text, 40)} as {format}")
        refused("put", store, "--format", "xml", f"{store.base}/file", code=2)
        refused("put", store, f"{store.base}/none", says=[f"{store.base}/none"])
        check_eq(protofs("ls", store, "segments").out.strip(), "", "segments after only refused atoms")


# ---- The clock ----


@test
def the_clock_goes_backwards():
    """A store from the future: roots' times never go back, by-time stays sorted, and nothing is refused."""
    library = next((path for path in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
                                      "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")
                    if os.path.exists(path)), None)
    if not library:
        skip("libfaketime is not installed (apt install faketime)")
    if re.search("asan|tsan", PROTOFS):
        skip("a sanitizer's runtime and libfaketime both want to be loaded first")
    with Store() as store:
        env = {"LD_PRELOAD": library, "FAKETIME": "+400d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with store.mount(env=env) as mnt:
            publish(mnt, put(mnt, b"from the future"))
            ahead = json.loads(read(mnt / "roots/1"))
            check(str(ahead["time"]) > time.strftime("%Y-%m-%d", time.gmtime(time.time() + 300 * 86400)),
                  f"the clock of the daemon was not faked: {ahead}")
        with store.mount() as mnt:
            publish(mnt, put(mnt, b"from now"))
            now = json.loads(read(mnt / "roots/2"))
            names = sorted(os.listdir(mnt / "roots/by-time"))
            check_eq([n.rsplit("-", 1)[1] for n in names], ["1", "2"], "roots by time")
            check(str(now["time"]) >= str(ahead["time"]), f"a root's time went back from {ahead} to {now}")
            mnt.kill9()
            mnt.start()
            check_eq(json.loads(read(mnt / "roots/current"))["seq"], 2, "roots/current")
            mnt.umount()
        store.fsck("--deep")


main()
