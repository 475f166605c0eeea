#!/usr/bin/python3
"""atoms/: every frame a file, as payload, JSON and frame; extended attributes; what may be cached and what not."""
import base64

from lib import *

VALUES = [
    {"name": "é", "list": [1, -2, 3.5, None, True, "\n\"\\"], "empty": {}, "big": 2**64 - 1},
    [],
    "text",
    -(2**63),
]


def write_segment(mnt, frames):
    """A foreign segment of FRAMES, durable. Returns its UUID and the offsets."""
    segment = new_uuid()
    offsets, at = [], 0
    for bytes_ in frames:
        offsets.append(at)
        at += len(bytes_)
    append(mnt / f"space/{segment}", b"".join(frames))
    return segment, offsets


def atoms_of(mnt, segment):
    return sorted(int(n) for n in os.listdir(mnt / f"atoms/{segment}"))


def seal(mnt):
    write(mnt / ".ctl/seal", b"1")


def xattr(path, name):
    return os.getxattr(path, f"user.protofs.{name}").decode()


@test
def frames_are_files():
    with Store() as store, store.mount() as mnt:
        payloads = [b"", b"x", random_bytes(1000), random_bytes(3 * MIB + 7), b"last"]
        frames = [frame(p) for p in payloads]
        segment, offsets = write_segment(mnt, frames)
        for _ in range(2):  # open, then sealed
            check_eq(atoms_of(mnt, segment), offsets, "the listed atoms")
            for offset, payload, whole in zip(offsets, payloads, frames):
                path = mnt / f"atoms/{segment}/{offset}"
                check_eq(os.stat(path).st_size, len(payload), f"size of {offset}")
                check_eq(stat.filemode(os.stat(path).st_mode), "-r--r--r--", "mode")
                check_eq(read(path), payload, f"payload at {offset}")
                check_eq(read(path + ".frame"), whole, f"frame at {offset}")
                check_eq(os.stat(path + ".frame").st_size, len(whole), "size of the frame")
            seal(mnt)
        mnt.remount()
        check_eq(atoms_of(mnt, segment), offsets, "the atoms after a remount")
        check_eq(read(mnt / f"atoms/{segment}/{offsets[3]}"), payloads[3], "payload after a remount")


@test
def names_that_are_no_atoms():
    with Store() as store, store.mount() as mnt:
        segment, offsets = write_segment(mnt, [frame(b"abc"), frame(b"defg")])
        top = mnt / f"atoms/{segment}"
        for sealed in (False, True):
            for name in ("1", "00", "01", "+0", "-1", "0.", "0.jso", "0.JSON", ".json", "0.json.json", " 0", "0x0",
                         "25", "99999999999999999999", "68719476736", "18446744073709551616", "in"):
                check_errno(errno.ENOENT, f"{name} (sealed: {sealed})", os.stat, f"{top}/{name}")
            check_eq(read(f"{top}/{offsets[1]}"), b"defg", "the atom beside them")
            seal(mnt)
        for name in ("nothing", segment.upper(), segment.replace("-", ""), new_uuid()):
            check_errno(errno.ENOENT, f"atoms/{name}", os.stat, mnt / f"atoms/{name}")


@test
def atoms_appear_as_they_are_written():
    """No negative entry and no stale size hides what a client appends."""
    with Store() as store, store.mount() as mnt:
        segment = new_uuid()
        check_errno(errno.ENOENT, "before the first byte", os.stat, mnt / f"atoms/{segment}")
        offset = 0
        for i in range(50):
            path = mnt / f"atoms/{segment}/{offset}"
            check_errno(errno.ENOENT, f"atom {i} before it is written", os.stat, path)
            payload = words(i * 37)
            whole = frame(payload)
            append(mnt / f"space/{segment}", whole[:5], sync=False)
            check_errno(errno.ENOENT, f"atom {i}, half written", os.stat, path)
            append(mnt / f"space/{segment}", whole[5:], sync=False)
            check_eq(read(path), payload, f"atom {i}")
            check_eq(len(atoms_of(mnt, segment)), i + 1, "listed atoms")
            offset += len(whole)
            if i % 20 == 10:
                seal(mnt)


@test
def only_whole_frames_are_atoms():
    with Store() as store, store.mount() as mnt:
        segment, _ = write_segment(mnt, [frame(b"good"), b"\xff" * 40])
        check_eq(atoms_of(mnt, segment), [0], "atoms before a bad header")
        check_errno(errno.ENOENT, "the bad header", os.stat, mnt / f"atoms/{segment}/13")
        check_eq(len(read(mnt / f"wal/{segment}")), 53, "all bytes are there nevertheless")


@test
def json_views():
    with Store() as store, store.mount() as mnt:
        frames = [json_frame(v) for v in VALUES] + [msgpack_frame(v) for v in VALUES]
        segment, offsets = write_segment(mnt, frames)
        for offset, value in zip(offsets, VALUES + VALUES):
            path = mnt / f"atoms/{segment}/{offset}.json"
            check_eq(os.stat(path).st_size, 0, "st_size of a rendered file")
            text = read_text(path)
            check_eq(json.loads(text), value, f"the value at {offset}")
            check(text.endswith("\n") and not text.endswith("\n\n"), "ends with one newline")
            check_eq(shell(f"cat {path}").out, text, "cat")
            if have("jq"):
                check_eq(json.loads(run(["jq", "-c", ".", path]).out) is not None, value is not None, "jq")
        check_eq(len(os.listdir(mnt / f"atoms/{segment}")), len(frames), "only payloads are listed")


@test
def numbers_are_verbatim():
    text = b'[1.10, 1E400, -0.0, 123456789012345678901234567890, 0.1e-7, "\\u00e9\\/"]'
    with Store() as store, store.mount() as mnt:
        segment, _ = write_segment(mnt, [frame(text, JSON)])
        shown = read_text(mnt / f"atoms/{segment}/0.json")
        check_eq(shown.split(), text.decode().replace("[", "[ ").replace("]", " ]").split(), "tokens")


@test
def what_json_cannot_say():
    value = {"bin": b"\x00\xff", 5: "int key", True: float("inf"), "nan": float("nan"),
             "ext": msgpack.ExtType(7, b"data"), "float": 1.0}
    packed = msgpack.packb(value, strict_types=False)
    with Store() as store, store.mount() as mnt:
        segment, offsets = write_segment(mnt, [frame(packed, MSGPACK), frame(b"\x00raw"), frame(b"x", 0x87)])
        got = json.loads(read(mnt / f"atoms/{segment}/0.json"))
        check_eq(got, {"bin": base64.b64encode(b"\x00\xff").decode(), "5": "int key", "true": "Infinity", "nan": "NaN",
                       "ext": {"ext": 7, "data": base64.b64encode(b"data").decode()}, "float": 1.0}, "MessagePack")
        check_eq(json.loads(read(mnt / f"atoms/{segment}/{offsets[1]}.json")),
                 {"raw": base64.b64encode(b"\x00raw").decode()}, "raw")
        check_eq(json.loads(read(mnt / f"atoms/{segment}/{offsets[2]}.json")),
                 {"format": 0x87, "data": base64.b64encode(b"x").decode()}, "a format of ours")


@test
def json_that_is_none():
    cases = [(b'{"a": [1,', JSON), (b"", JSON), (b"\xc1", MSGPACK), (b"\xdd\xff\xff\xff\xff", MSGPACK),
             (b"\x93\x01", MSGPACK), (b"nul", JSON), (b'"\xff"', JSON)]
    with Store() as store, store.mount() as mnt:
        segment, offsets = write_segment(mnt, [frame(p, f) for p, f in cases])
        for offset, (payload, _) in zip(offsets, cases):
            check_errno(errno.EIO, f"{payload} as JSON", read, mnt / f"atoms/{segment}/{offset}.json")
            check_in(f"atoms/{segment}/{offset} cannot be shown as JSON: byte ", errors_text(mnt), ".ctl/errors")
            check_eq(read(mnt / f"atoms/{segment}/{offset}"), payload, "the payload is there all the same")


@test
def limits_of_the_json_view():
    deep = b"[" * 129 + b"]" * 129
    wide = b"\x91" * 60 + b"\xdd\x00\xc0\x00\x00" + b"\x00" * 0xC00000
    big = b'"' + b"a" * (16 * MIB - 2) + b'"'
    with Store() as store, store.mount() as mnt:
        segment, offsets = write_segment(mnt, [
            frame(deep, JSON), frame(wide, MSGPACK), frame(big + b" ", JSON), frame(big, JSON), frame(deep[1:-1], JSON)])
        for offset, what in zip(offsets, ("depth 129", "a text of more than 64 MiB", "more than 16 MiB")):
            check_errno(errno.EFBIG, what, read, mnt / f"atoms/{segment}/{offset}.json")
        check_eq(read(mnt / f"atoms/{segment}/{offsets[3]}.json"), big + b"\n", "16 MiB")
        check_eq(json.loads(read(mnt / f"atoms/{segment}/{offsets[4]}.json")), json.loads(deep[1:-1]), "depth 128")


@test
def writes_are_refused():
    with Store() as store, store.mount() as mnt:
        segment, _ = write_segment(mnt, [frame(b"abc")])
        top = mnt / f"atoms/{segment}"
        for sealed in (False, True):
            for name in ("0", "0.json", "0.frame"):
                path = f"{top}/{name}"
                for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
                    check_errno(errno.EROFS, f"open {name} with {flags:#x}", os.open, path, flags)
                check_errno(errno.EROFS, "truncate", os.truncate, path, 0)
                check_errno(errno.EROFS, "chmod", os.chmod, path, 0o666)
                check_errno(errno.EROFS, "utime", os.utime, path)
            check_errno(errno.EROFS, "create", os.open, f"{top}/new", os.O_CREAT | os.O_WRONLY)
            check_errno(errno.EROFS, "unlink", os.unlink, f"{top}/0")
            check_errno(errno.EROFS, "rename", os.rename, f"{top}/0", f"{top}/1")
            check_errno(errno.EROFS, "mkdir", os.mkdir, f"{top}/d")
            check_errno(errno.EROFS, "mkdir", os.mkdir, mnt / "atoms/d")
            check_errno(errno.EROFS, "rmdir", os.rmdir, top)
            check_errno(errno.EROFS, "symlink", os.symlink, "0", f"{top}/link")
            seal(mnt)
        check_eq(read(f"{top}/0"), b"abc", "the atom")


@test
def extended_attributes():
    payloads = [(b"raw", RAW), (b'{"a":1}', JSON), (msgpack.packb([1]), MSGPACK), (b"?", 0x42)]
    with Store() as store, store.mount() as mnt:
        segment, offsets = write_segment(mnt, [frame(p, f) for p, f in payloads])
        data = read(mnt / f"wal/{segment}")
        for state in ("open", "sealed"):
            for offset, (payload, _), name in zip(offsets, payloads, ("raw", "json", "msgpack", "unknown")):
                for suffix in ("", ".json", ".frame"):
                    path = mnt / f"atoms/{segment}/{offset}{suffix}"
                    check_eq(xattr(path, "format"), name, "format")
                    check_eq(xattr(path, "pointer"), f"{segment}/{offset}", "pointer")
                    check_eq(xattr(path, "xxh3"), xxh3(payload), "xxh3")
                    check_eq(xattr(path, "durable"), f"local={len(payload) + 9} quorum=0 cloud=0", "durable")
                    check_eq(xattr(path, "state"), state, "state of the atom")
            for path in (f"atoms/{segment}",):
                check_eq(xattr(mnt / path, "pointer"), segment, "pointer of a segment")
                check_eq(xattr(mnt / path, "durable"), f"local={len(data)} quorum=0 cloud=0", "durable")
                check_eq(xattr(mnt / path, "state"), state, "state of the segment")
                check_eq(xattr(mnt / path, "xxh3"), xxh3(bytes.fromhex(xxh3(data))), "sum of the sums")
            seal(mnt)
        path = mnt / f"atoms/{segment}/0"
        check_eq(sorted(os.listxattr(path)),
                 sorted(f"user.protofs.{n}" for n in ("format", "pointer", "xxh3", "durable", "state")), "listxattr")
        for name in ("user.protofs.other", "user.comment", "security.capability", "user.protofs.", "user.protofs.formats"):
            check_errno((errno.ENODATA, errno.ENOTSUP), name, os.getxattr, path, name)
        check_errno((errno.EROFS, errno.ENOTSUP, errno.EPERM), "setxattr", os.setxattr, path, "user.x", b"y")
        if have("getfattr"):
            check_in('user.protofs.format="raw"', run(["getfattr", "-d", path]).out, "getfattr -d")


@test
def durable_grows_with_the_commit():
    with Store() as store, store.mount("flush_interval=60000") as mnt:
        segment = new_uuid()
        append(mnt / f"space/{segment}", frame(b"one"))
        append(mnt / f"space/{segment}", frame(b"two"), sync=False)
        check_eq(xattr(mnt / f"atoms/{segment}/12", "durable"), "local=0 quorum=0 cloud=0", "before the commit")
        write(mnt / ".ctl/sync", b"1")
        check_eq(xattr(mnt / f"atoms/{segment}/12", "durable"), "local=12 quorum=0 cloud=0", "after it")


@test
def standard_tools():
    with Store() as store, store.mount() as mnt, temporary_dir() as out:
        payloads = [words(rng.randrange(5000)) for _ in range(300)]
        segment, offsets = write_segment(mnt, [frame(p) for p in payloads])
        top = mnt / f"atoms/{segment}"
        found = run(["find", top, "-type", "f", "-printf", "%f %s\n"]).out.split("\n")[:-1]
        check_eq(sorted(found), sorted(f"{o} {len(p)}" for o, p in zip(offsets, payloads)), "find")
        run(["cp", "-r", top, f"{out}/cp"])
        shell(f"tar -C {top} -cf - . | (mkdir {out}/tar && tar -C {out}/tar -xf -)")
        if have("rsync"):
            run(["rsync", "-a", f"{top}/", f"{out}/rsync/"])
        for copy in os.listdir(out):
            for offset, payload in zip(offsets, payloads):
                check_eq(read(f"{out}/{copy}/{offset}"), payload, f"{copy} of {offset}")
        check_eq(run(["grep", "-c", "", f"{top}/{offsets[0]}"], ok=(0, 1)).out.strip(),
                 str(payloads[0].count(b"\n") + (payloads[0][-1:] not in (b"", b"\n"))), "grep -c")


@test
def concurrent_listing_and_growth():
    """A listing that goes on while atoms come shows each atom once, and none is missing that was there."""
    with Store() as store, store.mount() as mnt:
        segment, offsets = write_segment(mnt, [frame(b"x" * 20) for _ in range(20000)])
        fd_names = []
        with os.scandir(mnt / f"atoms/{segment}") as entries:
            for i, entry in enumerate(entries):
                fd_names.append(int(entry.name))
                if i % 5000 == 0:
                    append(mnt / f"space/{segment}", frame(b"y" * 20) * 10)
        check_eq(len(fd_names), len(set(fd_names)), "no atom twice")
        check(set(offsets) <= set(fd_names), "an atom was left out")
        check_eq(fd_names, sorted(fd_names), "in the order of the stream")


@test
def a_million_atoms_cost_no_memory():
    count = 1_000_000
    with Store() as store, store.mount() as mnt:
        segment = new_uuid()
        piece = frame(b"p") * 10000
        for _ in range(count // 10000):
            append(mnt / f"space/{segment}", piece, sync=False)
        seal(mnt)
        run(["ls", "-U", mnt / f"atoms/{segment}/0"])
        before = mnt.daemon.memory()[0]
        started = time.monotonic()
        lines = int(shell(f"ls -U {mnt}/atoms/{segment} | wc -l").out)
        seconds = time.monotonic() - started
        check_eq(lines, count, "listed atoms")
        grown = mnt.daemon.memory()[1] - before
        print(f"  ls -U of {count} atoms: {seconds:.2f} s, the daemon grew by {grown >> 10} KiB")
        if not re.search("asan|tsan", PROTOFS):
            check(grown < 32 * MIB, f"the daemon grew by {grown} bytes")


main()
