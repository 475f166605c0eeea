#!/usr/bin/python3
"""wal/in/: segments restored by copying them in, checked against their .sum; damage stays out."""
from lib import *


def sums_of(data):
    """The .sum of DATA as protofs writes it, made here without it."""
    lines = []
    for at in range(0, len(data), MIB):
        piece = data[at:at + MIB]
        lines.append(b"%011d %07d %s\n" % (at, len(piece), xxh3(piece).encode()))
    return b"".join(lines)


def sample(size):
    """A stream of frames of about SIZE bytes."""
    data = b""
    while len(data) < size:
        data += frame(random_bytes(rng.randrange(1, 200_000)))
    return data


def waiting(mnt):
    return sorted(os.listdir(mnt / "wal/in"))


def is_there(mnt, segment):
    return os.path.exists(mnt / f"wal/{segment}")


def accept(mnt, segment):
    fd = os.open(mnt / ".ctl/accept", os.O_WRONLY)
    try:
        os.write(fd, segment.encode())
    finally:
        os.close(fd)


@test
def sums_are_as_documented():
    """What wal/<uuid>.sum holds is what this test computes by itself."""
    with Store() as store, store.mount() as mnt:
        segment = new_uuid()
        data = sample(3 * MIB)
        append(mnt / f"space/{segment}", data)
        check_eq(read(mnt / f"wal/{segment}.sum"), sums_of(data), "the .sum of an open segment")
        write(mnt / ".ctl/seal", b"1")
        check_eq(read(mnt / f"wal/{segment}.sum"), sums_of(data), "the .sum of a sealed segment")


@test
def either_order():
    with Store() as store, store.mount() as mnt:
        for order in (("", ".sum"), (".sum", "")):
            segment, data = new_uuid(), sample(3 * MIB)
            files = {"": data, ".sum": sums_of(data)}
            write(mnt / f"wal/in/{segment}{order[0]}", files[order[0]])
            check_eq(waiting(mnt), [segment + order[0]], "staged until both are there")
            check(not is_there(mnt, segment), "not yet")
            write(mnt / f"wal/in/{segment}{order[1]}", files[order[1]])
            check_eq(waiting(mnt), [], "nothing waits")
            check_eq(read(mnt / f"wal/{segment}"), data, "the segment")
            check_eq(read(mnt / f"wal/{segment}.sum"), files[".sum"], "its sums")
            frames, _ = parse_frames(data)
            check_eq(sorted(map(int, os.listdir(mnt / f"atoms/{segment}"))), [f.offset for f in frames], "its atoms")
            check_eq(read(mnt / f"atoms/{segment}/{frames[-1].offset}"), frames[-1].payload, "an atom")
            check_eq(os.getxattr(mnt / f"wal/{segment}", "user.protofs.state"), b"sealed", "state")
        check_eq(errors_text(mnt), "", "nothing to report")
        texts = {s: read(mnt / f"wal/{s}") for s in os.listdir(mnt / "wal") if len(s) == 36}
        mnt.kill9()
        mnt.start()
        for name, text in texts.items():
            check_eq(read(mnt / f"wal/{name}"), text, "after kill -9: what close(2) answered is durable")


@test
def tools():
    with Store() as store, store.mount() as mnt, temporary_dir() as tmp:
        ways = {
            "cp": "cp {0} {1} {in_}",
            "cp -p, sum first": "cp -p {1} {in_}; cp -p {0} {in_}",
            "cat": "cat {0} > {in_}{uuid}; cat {1} > {in_}{uuid}.sum",
            "dd": "dd if={0} of={in_}{uuid} bs=77777 status=none && dd if={1} of={in_}{uuid}.sum status=none",
            "cat in a subshell": "(head -c 1000000 {0}; tail -c +1000001 {0}) > {in_}{uuid}; cp {1} {in_}",
            "sum first, cat in a subshell": "cp {1} {in_}; (head -c 1000000 {0}; tail -c +1000001 {0}; true) > {in_}{uuid}",
            "tar": "tar -C \"$(dirname {0})\" -cf - {uuid} {uuid}.sum | tar -C {in_} -xf -",
            "rsync": "rsync {0} {1} {in_}",
            "rsync -a": 'rsync -a "$(dirname {0})/" {in_}',
            "mv": "mv {0} {1} {in_}",
        }
        for way, script in ways.items():
            if "rsync" in way and not have("rsync"):
                continue
            segment, data = new_uuid(), sample(2 * MIB)
            os.makedirs(f"{tmp}/{way}")
            source = f"{tmp}/{way}".replace(" ", "\\ ").replace(",", "\\,") + f"/{segment}"
            write(f"{tmp}/{way}/{segment}", data)
            write(f"{tmp}/{way}/{segment}.sum", sums_of(data))
            shell(script.format(source, source + ".sum", in_=f"{mnt}/wal/in/", uuid=segment))
            check(is_there(mnt, segment), f"{way}: it did not enter; {waiting(mnt)}; {errors_text(mnt)}")
            check_eq(read(mnt / f"wal/{segment}"), data, way)
            check_eq(waiting(mnt), [], f"{way}: names that are left")


@test
def damage_stays_out():
    with Store() as store, store.mount() as mnt:
        data = sample(5 * MIB)
        for where in (0, MIB + 12345, 4 * MIB, len(data) - 1):
            segment = new_uuid()
            bad = bytearray(data)
            bad[where] ^= 1
            write(mnt / f"wal/in/{segment}.sum", sums_of(data))
            check_errno(errno.EIO, f"a flipped byte at {where}", write, mnt / f"wal/in/{segment}", bad)
            check(not is_there(mnt, segment), "it is in")
            line = where // MIB
            end = min((line + 1) * MIB, len(data)) - 1
            check_in(f"wal/in/{segment}: bytes {line * MIB} to {end} are not those of line {line + 1}", errors_text(mnt),
                     ".ctl/errors names the bytes")
            check_in("EBADMSG", errors_text(mnt), "the code")
            check_eq(waiting(mnt), [segment, segment + ".sum"], "both are still staged")
            check_errno(errno.EIO, "accepting it", accept, mnt, segment)
            check(not is_there(mnt, segment), "it is in by accept")
            write(mnt / f"wal/in/{segment}", data)  # copied again
            check_eq(read(mnt / f"wal/{segment}"), data, "the good copy")


@test
def a_bad_sum():
    with Store() as store, store.mount() as mnt:
        segment, data = new_uuid(), sample(2 * MIB)
        good = sums_of(data)
        for bad in (good[:-1], b"x" + good[1:], good + good, b"\n" + good, good[53:], b"hello"):
            check_errno(errno.EIO, f"a .sum like {bad[:20]}", write, mnt / f"wal/in/{segment}.sum", bad)
            check_in("wal/in/%s.sum: line " % segment, errors_text(mnt), ".ctl/errors")
        write(mnt / f"wal/in/{segment}.sum", good)
        write(mnt / f"wal/in/{segment}", data)
        check_eq(read(mnt / f"wal/{segment}"), data, "with a good one")
        # One of another segment: well-formed, and wrong.
        other = new_uuid()
        write(mnt / f"wal/in/{other}", data)
        check_errno(errno.EIO, "another's sums", write, mnt / f"wal/in/{other}.sum", sums_of(sample(2 * MIB)))
        check(not is_there(mnt, other), "it is in")


@test
def without_sum_by_accept():
    with Store() as store, store.mount() as mnt:
        segment, data = new_uuid(), sample(MIB)
        check_errno(errno.ENOENT, "nothing to accept", accept, mnt, segment)
        fd = os.open(mnt / f"wal/in/{segment}", os.O_WRONLY | os.O_CREAT)
        write_all(fd, data)
        check_errno(errno.EBUSY, "still open", accept, mnt, segment)
        os.close(fd)
        check(not is_there(mnt, segment), "without .sum it waits")
        shell(f"echo {segment} > {mnt}/.ctl/accept")
        check_eq(read(mnt / f"wal/{segment}"), data, "accepted")
        check_eq(waiting(mnt), [], "names")
        check_errno((errno.ENOENT, errno.EEXIST), "accepting it again", accept, mnt, segment)


@test
def a_torn_last_frame_is_kept():
    """A copy shorter than its .sum enters, its torn frame verbatim; what could not be checked is reported."""
    with Store() as store, store.mount() as mnt:
        segment, data = new_uuid(), sample(3 * MIB)
        torn = data[:-3]
        write(mnt / f"wal/in/{segment}.sum", sums_of(data))
        write(mnt / f"wal/in/{segment}", torn)
        check_eq(read(mnt / f"wal/{segment}"), torn, "verbatim")
        frames, end = parse_frames(torn)
        check(end < len(torn), "the last frame is torn")
        check_eq(len(os.listdir(mnt / f"atoms/{segment}")), len(frames), "whole atoms")
        check_in("1 lines reach beyond and were not checked", errors_text(mnt), ".ctl/errors")
        mnt.remount()
        check_eq(read(mnt / f"wal/{segment}"), torn, "after a remount")


@test
def a_copy_that_grew():
    """A segment that grew after its .sum was copied: the lines are checked, the rest is reported."""
    with Store() as store, store.mount() as mnt:
        segment, data = new_uuid(), sample(2 * MIB)
        more = data + frame(b"more") * 1000
        write(mnt / f"wal/in/{segment}.sum", sums_of(data))
        write(mnt / f"wal/in/{segment}", more)
        check_eq(read(mnt / f"wal/{segment}"), more, "all of it")
        check_in(f"its .sum covers {len(data)} bytes, the {len(more) - len(data)} behind them were not checked",
                 errors_text(mnt), ".ctl/errors")


@test
def eexist():
    with Store() as store, store.mount() as mnt:
        own, data = new_uuid(), sample(MIB)
        append(mnt / f"space/{own}", data)
        check_errno(errno.EEXIST, "a segment of this store", write, mnt / f"wal/in/{own}", data)
        check_errno(errno.EEXIST, "its .sum", write, mnt / f"wal/in/{own}.sum", sums_of(data))
        write(mnt / "wal/in/.tmp", data)
        check_errno(errno.EEXIST, "by renaming", os.rename, mnt / "wal/in/.tmp", mnt / f"wal/in/{own}")
        check_eq(read(mnt / f"wal/{own}"), data, "untouched")
        check_eq(waiting(mnt), [".tmp"], "names")


@test
def restored_segments_are_read_only():
    with Store() as store, store.mount() as mnt:
        segment, data = new_uuid(), sample(MIB)
        write(mnt / f"wal/in/{segment}", data)
        write(mnt / f"wal/in/{segment}.sum", sums_of(data))
        for path in (f"wal/{segment}", f"atoms/{segment}/0"):
            check_errno((errno.EROFS, errno.EPERM, errno.EACCES), path, append, mnt / path, b"x")
        if os.path.exists(mnt / f"space/{segment}"):
            check_errno((errno.EROFS, errno.EPERM, errno.EACCES), "space/", append, mnt / f"space/{segment}", frame(b"x"))
        check_eq(read(mnt / f"wal/{segment}"), data, "unchanged")


@test
def an_interrupted_copy():
    """What a killed process closes is not what it wanted to write."""
    with Store() as store, store.mount() as mnt:
        segment, data = new_uuid(), sample(4 * MIB)
        write(mnt / f"wal/in/{segment}.sum", sums_of(data))
        process = subprocess.Popen(["/usr/bin/python3", "-c",
                                    "import os,sys; fd=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT);"
                                    "os.write(fd,sys.stdin.buffer.read(2000000)); print('x',flush=True); import time; time.sleep(60)",
                                    mnt / f"wal/in/{segment}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(data[:2000000])
        process.stdin.close()
        process.stdout.read(1)
        process.send_signal(signal.SIGTERM)
        process.wait()
        time.sleep(0.2)
        check(not is_there(mnt, segment), "half a copy entered")
        check_in(segment, waiting(mnt), "it is still staged")
        write(mnt / f"wal/in/{segment}", data)
        check_eq(read(mnt / f"wal/{segment}"), data, "copied again")


@test
def the_directory():
    with Store() as store, store.mount() as mnt:
        check_eq(oct(stat.S_IMODE(os.stat(mnt / "wal/in").st_mode)), oct(0o700), "mode")
        check_in("in", os.listdir(mnt / "wal"), "listed")
        write(mnt / "wal/in/note", b"other names are only staged")
        check_eq(read(mnt / "wal/in/note"), b"other names are only staged", "read back")
        os.unlink(mnt / "wal/in/note")
        check_errno(errno.EPERM, "mkdir", os.mkdir, mnt / "wal/in/d")
        check_errno((errno.EROFS, errno.EXDEV, errno.EPERM), "out of it", os.rename, mnt / "wal/in", mnt / "wal/out")
        segment = new_uuid()
        write(mnt / f"wal/in/{segment}", b"")
        write(mnt / f"wal/in/{segment}.sum", b"")
        check(not is_there(mnt, segment), "an empty segment")
        os.unlink(mnt / f"wal/in/{segment}")
        os.unlink(mnt / f"wal/in/{segment}.sum")
        check_eq(waiting(mnt), [], "removed")


@test
def large_segments():
    """In pieces, in little memory."""
    with Store() as store, store.mount() as mnt, temporary_dir() as tmp:
        segment = new_uuid()
        piece = frame(random_bytes(8 * MIB - 9))
        with open(f"{tmp}/data", "wb") as file:
            for _ in range(50):
                file.write(piece)
        sums = b"".join(b"%011d %07d %s\n" % (i * MIB, MIB, xxh3(piece[i % 8 * MIB:(i % 8 + 1) * MIB]).encode()) for i in range(400))
        write(mnt / f"wal/in/{segment}.sum", sums)
        run(["cp", f"{tmp}/data", mnt / f"wal/in/{segment}"])
        run(["cmp", f"{tmp}/data", mnt / f"wal/{segment}"])
        check_eq(len(os.listdir(mnt / f"atoms/{segment}")), 50, "atoms")
        print(f"  memory: {mnt.daemon.memory()[1] >> 20} MiB at most")
        if not re.search("asan|tsan", PROTOFS):
            check(mnt.daemon.memory()[1] < 96 * MIB, f"memory {mnt.daemon.memory()}")


main()
