#!/usr/bin/python3
"""space/: ordinary small files, the rules of segments, and the root file."""
from lib import *

FILE_MAX = MIB
FILES_MAX = 1000


# ---- Ordinary small files ----


@test
def small_files_survive_kill9():
    with Store() as store, store.mount() as mnt:
        space = mnt / "space"
        want = {"space.config": b"[space]\nname = x\n", "empty": b"", "with space é": b"\0\xff" * 1000,
                "x" * 255: b"long name", "big": random_bytes(FILE_MAX)}
        for name, data in want.items():
            write(f"{space}/{name}", data, sync=True)
        # The way of careful programs: a temporary file, fsync, rename.
        for n in range(5):
            write(f"{space}/config.tmp", b"version %d" % n, sync=True)
            os.rename(f"{space}/config.tmp", f"{space}/config")
        want["config"] = b"version 4"
        write(f"{space}/gone", b"x", sync=True)
        os.unlink(f"{space}/gone")
        append(f"{space}/empty", b"now not", sync=True)
        want["empty"] = b"now not"
        os.chmod(f"{space}/big", 0o600)
        os.utime(f"{space}/config", ns=(10**18, 10**18 + 1))
        fd = os.open(space, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)
        for restart in ("before", "kill -9", "clean stop", "kill -9 again"):
            for name, data in want.items():
                check_eq(read(f"{space}/{name}"), data, f"{name} ({restart})")
            listed = {n for n in os.listdir(space) if not n.startswith("space_root")}
            check_eq(listed, set(want), f"names in space/ ({restart})")
            check_eq(stat.S_IMODE(os.stat(f"{space}/big").st_mode), 0o600, f"mode ({restart})")
            check_eq(os.stat(f"{space}/config").st_mtime_ns, 10**18 + 1, f"mtime ({restart})")
            if restart == "clean stop":
                mnt.umount()
                mnt.start()
            elif restart != "kill -9 again":
                mnt.kill9()
                mnt.start()
        mnt.umount()
        store.fsck("--deep")


@test
def small_files_edit_in_place():
    with Store() as store, store.mount() as mnt:
        path = mnt / "space/notes"
        model = bytearray()
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        for _ in range(300):
            what = rng.randrange(3)
            at, data = rng.randrange(20_000), random_bytes(rng.randrange(1, 3000))
            if what == 0:
                os.ftruncate(fd, at)
                model[at:] = b""
                model.extend(bytes(at - len(model)))
            else:
                os.pwrite(fd, data, at)
                model.extend(bytes(max(0, at - len(model))))
                model[at:at + len(data)] = data
            if rng.random() < 0.1:
                os.fsync(fd)
            check_eq(os.fstat(fd).st_size, len(model), "st_size")
        check_eq(os.pread(fd, 100_000, 0), bytes(model), "the file")
        os.fsync(fd)
        os.close(fd)
        mnt.kill9()
        mnt.start()
        check_eq(read(path), bytes(model), "the file after kill -9")


@test
def limits_of_small_files():
    with Store() as store, store.mount() as mnt:
        space = mnt / "space"
        write(f"{space}/full", bytes(FILE_MAX), sync=True)
        check_errno((errno.EFBIG, errno.ENOSPC), "a small file of 1 MiB and a byte", append, f"{space}/full", b"x")
        check_errno((errno.EFBIG, errno.ENOSPC), "truncate beyond 1 MiB", os.truncate, f"{space}/full", FILE_MAX + 1)
        check_eq(read(f"{space}/full"), bytes(FILE_MAX), "the full file")
        made = 1
        try:
            for made in range(1, FILES_MAX + 10):
                write(f"{space}/f{made}", b"%d" % made)
        except OSError as error:
            check_in(error.errno, (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE), "errno of one file too many")
        check(FILES_MAX - 2 <= made <= FILES_MAX + 2, f"file number {made} was refused, want about {FILES_MAX}")
        os.unlink(f"{space}/f1")
        write(f"{space}/again", b"room after an unlink")
        # Segments are not counted.
        append(f"{space}/{new_uuid()}", frame(b"x"))
        publish(mnt, put(mnt, b"root"))
        mnt.kill9()
        mnt.start()
        check_eq(read(f"{space}/f{FILES_MAX - 5}"), b"%d" % (FILES_MAX - 5), "one of many")
        check(not os.path.exists(f"{space}/f1"), "an unlinked file is back")


@test
def many_rewrites_are_compacted():
    with Store() as store, store.mount() as mnt:
        for n in range(300):
            write(mnt / "space/counter", b"%d " % n * 5000, sync=n % 50 == 0)
        mnt.umount()
        used = sum(os.stat(os.path.join(folder, name)).st_size
                   for folder, _, names in os.walk(store.dir) for name in names)
        mnt.start()
        check_eq(read(mnt / "space/counter"), b"299 " * 5000, "the last version")
        # 300 versions of some 19 KB are 6 MB; 4 times the live size and the store's own files are less.
        print(f"      {used >> 10} KiB on the disk after 300 rewrites of 20 KB")


@test
def an_unlinked_open_file_stays_usable():
    with Store() as store, store.mount() as mnt:
        path = mnt / "space/tmpfile"
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"before ")
        os.unlink(path)
        check_eq(small_names(mnt), [], "names: no hidden file appears")
        os.write(fd, b"after")
        check_eq(os.pread(fd, 100, 0), b"before after", "the unlinked file")
        check_eq(os.fstat(fd).st_nlink, 0, "st_nlink")
        os.fsync(fd)
        # A new one of that name is another file.
        write(path, b"new")
        check_eq(os.pread(fd, 100, 0), b"before after", "the unlinked file beside a new one")
        os.close(fd)
        check_eq(read(path), b"new", "the new file")
        # The same when it is renamed over.
        fd = os.open(path, os.O_RDONLY)
        write(f"{path}2", b"newer")
        os.rename(f"{path}2", path)
        check_eq(os.pread(fd, 100, 0), b"new", "the file that was renamed over")
        check_eq(read(path), b"newer", "the file that was renamed onto it")
        os.close(fd)
        check_eq(small_names(mnt), ["tmpfile"], "names")


@test
def names_that_are_refused():
    with Store() as store, store.mount() as mnt:
        space = mnt / "space"
        # ProtoDB takes 32 characters for a segment that it may reuse.
        check_errno((errno.EPERM, errno.EINVAL), "a name of 32 hex digits", write, f"{space}/{uuid.uuid4().hex}", b"x")
        check_errno(errno.ENAMETOOLONG, "a name of 256 bytes", write, f"{space}/{'x' * 256}", b"x")
        check_errno((errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS), "mkdir in space/", os.mkdir, f"{space}/d")
        write(f"{space}/ok", b"x")
        for name in (uuid.uuid4().hex, str(uuid.uuid4())):
            check_errno((errno.EPERM, errno.EINVAL, errno.EXDEV), f"rename of a small file to {name}",
                        os.rename, f"{space}/ok", f"{space}/{name}")
        check_errno((errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK), "a hard link", os.link, f"{space}/ok",
                    f"{space}/link")
        check_eq(small_names(mnt), ["ok"], "names in space/")


@test
def set_id_bits_are_dropped():
    with Store() as store, store.mount() as mnt:
        path = mnt / "space/prog"
        write(path, b"x", mode=0o755)
        with contextlib.suppress(OSError):
            os.chmod(path, 0o6755)
        check_eq(stat.S_IMODE(os.stat(path).st_mode) & 0o6000, 0, "set-id bits")


# ---- Segments ----


@test
def a_segment_only_grows_at_its_end():
    with Store() as store, store.mount() as mnt:
        path = mnt / f"space/{new_uuid()}"
        data = frame(random_bytes(5000)) + frame(b"two")
        append(path, data)
        fd = os.open(path, os.O_RDWR)
        check_errno(errno.EPERM, "a write below the end", os.pwrite, fd, b"x", 0)
        check_errno(errno.EPERM, "a write just below the end", os.pwrite, fd, b"x", len(data) - 1)
        check_errno(errno.EPERM, "a write beyond the end", os.pwrite, fd, b"x", len(data) + 1)
        check_eq(os.pwrite(fd, b"more", len(data)), 4, "a write at the end without O_APPEND")
        data += b"more"
        check_errno(errno.EPERM, "ftruncate", os.ftruncate, fd, 10)
        os.close(fd)
        check_errno(errno.EPERM, "truncate", os.truncate, path, 0)
        check_errno(errno.EPERM, "truncate that would grow it", os.truncate, path, 1 << 20)
        check_errno(errno.EPERM, "O_TRUNC", os.open, path, os.O_WRONLY | os.O_TRUNC)
        check_eq(read(path), data, "the segment after all that")
        check_eq(os.stat(path).st_size, len(data), "st_size")
        check_eq(os.stat(path).st_blksize, MIB, "st_blksize")
        # With O_APPEND the position does not matter.
        fd = os.open(path, os.O_RDWR | os.O_APPEND)
        os.lseek(fd, 3, os.SEEK_SET)
        os.write(fd, b"appended")
        os.close(fd)
        check_eq(read(path), data + b"appended", "the segment after an append from another position")


@test
def a_segment_cannot_be_mapped_writable():
    import mmap
    with Store() as store, store.mount() as mnt:
        path = mnt / f"space/{new_uuid()}"
        append(path, frame(b"x" * 10_000))
        fd = os.open(path, os.O_RDWR)
        check_errno((errno.ENODEV, errno.EACCES, errno.EPERM), "a shared writable mmap", mmap.mmap, fd, 4096)
        os.close(fd)


@test
def o_sync_writes_are_durable():
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_SYNC)
        data = b"".join(frame(b"%d" % n) for n in range(50))
        for one in parse_frames(data)[0]:
            os.write(fd, frame(one.payload))
        mnt.kill9()
        close_dead(fd)
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), data, "what was written O_SYNC")


@test
def a_segment_that_a_root_needs_stays():
    with Store() as store, store.mount() as mnt:
        space = mnt / "space"
        free = new_uuid()
        append(f"{space}/{free}", frame(b"nobody needs it"))
        os.unlink(f"{space}/{free}")
        check(not os.path.exists(mnt / f"wal/{free}"), "an unlinked segment is in wal/")
        needed = new_uuid()
        append(f"{space}/{needed}", frame(b"needed"))
        publish(mnt, Pointer(needed, 0))
        check_errno(errno.EPERM, "unlink of a segment older than a kept root", os.unlink, f"{space}/{needed}")
        later = new_uuid()
        append(f"{space}/{later}", frame(b"younger than all roots"))
        os.unlink(f"{space}/{later}")
        check_errno((errno.EPERM, errno.EEXIST), "a small file renamed over a segment", rename_over, space, needed)
        check_eq(read(f"{space}/{needed}"), frame(b"needed"), "the segment that is needed")
        mnt.kill9()
        mnt.start()
        check_eq(sorted(n for n in os.listdir(space) if len(n) == 36), [needed], "segments")
        check_errno(errno.EPERM, "unlink after a restart", os.unlink, f"{space}/{needed}")
        mnt.remount("noprotect")
        os.unlink(f"{space}/{needed}")
        check(not os.path.exists(f"{space}/{needed}"), "a segment unlinked with noprotect is still there")
        mnt.kill9()
        mnt.start()
        check(not os.path.exists(f"{space}/{needed}"), "a segment unlinked with noprotect is back")


def rename_over(space, name):
    write(f"{space}/victor", b"x")
    try:
        os.rename(f"{space}/victor", f"{space}/{name}")
    finally:
        os.unlink(f"{space}/victor")


@test
def an_unlinked_segment_stays_usable_while_open():
    with Store() as store, store.mount() as mnt:
        path = mnt / f"space/{new_uuid()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.write(fd, frame(b"x"))
        try:
            os.unlink(path)
        except OSError as error:
            check_in(error.errno, (errno.EBUSY, errno.EPERM), "errno of unlink of an open segment")
        else:
            check_eq([n for n in os.listdir(mnt / "space") if len(n) > 30], [], "hidden files")
        os.close(fd)


@test
def foreign_bytes_may_be_no_frames():
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        good = frame(b"one") + frame(b"two")
        append(mnt / f"space/{name}", good)
        append(mnt / f"space/{name}", struct.pack("<QB", 1 << 60, 0) + b"garbage" * 100)
        append(mnt / f"space/{name}", frame(b"behind it"))
        check_eq(os.stat(mnt / f"space/{name}").st_size, len(good) + 9 + 700 + 18, "st_size")
        check_eq(sorted(os.listdir(mnt / f"atoms/{name}"), key=int), ["0", "12"], "atoms as far as frames parse")
        mnt.kill9()
        mnt.start()
        check_eq(read(mnt / f"space/{name}")[:len(good)], good, "the bytes after kill -9")
        check_eq(sorted(os.listdir(mnt / f"atoms/{name}"), key=int), ["0", "12"], "atoms after kill -9")


@test
def our_own_segments_open_but_are_not_listed():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"an atom of ours")
        path = mnt / f"space/{pointer.segment}"
        check_in(frame(b"an atom of ours"), read(path), "our own segment through space/")
        check(pointer.segment not in os.listdir(mnt / "space"), "our own segment is listed in space/")
        check(pointer.segment in os.listdir(mnt / "wal"), "our own segment is not in wal/")
        check_errno((errno.EACCES, errno.EPERM, errno.EROFS), "writing to our own segment", os.open, path,
                    os.O_RDWR | os.O_APPEND)


@test
def a_sparse_segment_of_several_parts():
    """A segment that spans parts: with 64 KiB blocks a part holds 4 MiB."""
    with Store("--block-size", "64K") as store, store.mount() as mnt:
        name = new_uuid()
        data = b"".join(frame(random_bytes(60_000)) for _ in range(350))
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        for at in range(0, len(data), 300_000):
            os.write(fd, data[at:at + 300_000])
            if at % 900_000 == 0:
                os.fsync(fd)
        os.fsync(fd)
        check_eq(read(mnt / f"space/{name}"), data, "a segment of several parts")
        mnt.kill9()
        close_dead(fd)
        mnt.start()
        check_eq(read(mnt / f"wal/{name}"), data, "the same after kill -9")
        frames, _ = parse_frames(data)
        for one in frames[::37]:
            check_eq(read(mnt / f"atoms/{name}/{one.offset}"), one.payload, "an atom of it")
        mnt.umount()
        parts = store.parts(name)
        check(len(parts) >= 4, f"{len(parts)} parts")
        check_eq(b"".join(read(p) for p in parts), data, "cat segments/<uuid>/* of a stopped store")
        store.fsck("--deep")


# ---- The root ----


@test
def the_root_reads_back_as_it_was_given():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"root")
        text = b'{ "offset" : %d,\n\t"transaction_id": "%s", "more": [1, 2.50, "x"] }\n' % (
            pointer.offset, pointer.segment.encode())
        publish(mnt, text)
        check_eq(read(mnt / "space/space_root"), text, "space_root")
        check_eq(os.stat(mnt / "space/space_root").st_size, len(text), "st_size of space_root")
        mnt.kill9()
        mnt.start()
        check_eq(read(mnt / "space/space_root"), text, "space_root after kill -9")
        check_errno(errno.EPERM, "opening space_root for writing", os.open, mnt / "space/space_root", os.O_WRONLY)
        check_errno(errno.EPERM, "truncating space_root", os.truncate, mnt / "space/space_root", 0)
        check_errno((errno.EPERM, errno.EBUSY), "unlinking space_root", os.unlink, mnt / "space/space_root")


@test
def a_root_that_is_no_pointer_is_refused():
    with Store() as store, store.mount() as mnt:
        good = put(mnt, b"root")
        publish(mnt, good)
        bad = {
            "empty": b"", "no JSON": b"hello", "half": good.json()[:-10], "a list": b"[1, 2]", "no offset":
            b'{"transaction_id": "%s"}' % good.segment.encode(), "no segment": b'{"offset": 0}',
            "no UUID": b'{"transaction_id": "zzz", "offset": 0}', "a negative offset":
            b'{"transaction_id": "%s", "offset": -1}' % good.segment.encode(), "a fraction":
            b'{"transaction_id": "%s", "offset": 1.5}' % good.segment.encode(), "2^70":
            b'{"transaction_id": "%s", "offset": 1180591620717411303424}' % good.segment.encode(),
            "a string": b'{"transaction_id": "%s", "offset": "0"}' % good.segment.encode(), "two values":
            good.json() + good.json(), "NUL": b"\0" * 77, "deep": b"[" * 10_000 + b"]" * 10_000,
            "a megabyte": b'{"transaction_id": "%s", "offset": 0, "x": "%s"}' % (good.segment.encode(), b"y" * 900_000),
            "bad UTF-8": b'{"transaction_id": "%s", "offset": 0, "x": "\xff"}' % good.segment.encode(),
        }
        for what, text in bad.items():
            check_errno((errno.EINVAL, errno.EFBIG), f"a root that is {what}", publish, mnt, text, f"space_root.{what}.tmp")
            check_eq(Pointer.of_json(read(mnt / "space/space_root")), good, f"space_root after {what}")
        check_eq(sorted(n for n in os.listdir(mnt / "roots") if n.isdigit()), ["1"], "roots")
        publish(mnt, good)
        check(os.path.exists(mnt / "roots/2"), "a good root after all these")


@test
def a_kept_file_becomes_the_root():
    with Store() as store, store.mount() as mnt:
        first = put(mnt, b"first")
        write(mnt / "space/kept", first.json(), sync=True)
        os.rename(mnt / "space/kept", mnt / "space/space_root")
        fd = os.open(mnt / "space/space_root", os.O_RDONLY)
        for _ in range(2):
            check_eq(read(mnt / "space/space_root"), first.json(), "space_root")
        check_eq(small_names(mnt), [], "names behind the rename")
        publish(mnt, put(mnt, b"second"))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        check_eq(os.pread(fd, 1000, 0), first.json(), "the first root, open")
        os.close(fd)
        mnt.remount()
        check_eq(small_names(mnt), [], "names after a remount")


@test
def temporary_roots_live_in_memory():
    with Store() as store, store.mount() as mnt:
        write(mnt / "space/space_root.1.abc.tmp", b"{}", sync=True)
        check_eq(read(mnt / "space/space_root.1.abc.tmp"), b"{}", "a temporary root")
        mnt.kill9()
        mnt.start()
        check_eq(small_names(mnt), [], "names after kill -9")


@test
def a_dangling_root_is_held():
    with Store() as store, store.mount() as mnt:
        first = put(mnt, b"first")
        publish(mnt, first)
        name = new_uuid()
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        data = frame(b"early") + frame(b"late")
        os.write(fd, data[:14])
        publish(mnt, Pointer(name, 14))
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), Pointer(name, 14), "space_root while dangling")
        check(not os.path.lexists(mnt / "roots/2"), "a dangling root has a number")
        os.write(fd, data[14:20])  # half of the frame
        check(not os.path.lexists(mnt / "roots/2"), "a root of half a frame has a number")
        os.write(fd, data[20:])
        wait_for(lambda: os.path.lexists(mnt / "roots/2"), "the root to be published", 5)
        check_eq(Pointer.of_json(read(mnt / "roots/2")), Pointer(name, 14), "roots/2")
        os.close(fd)
        # A newer root replaces a dangling one.
        publish(mnt, Pointer(name, 1_000_000))
        publish(mnt, first)
        check_eq(Pointer.of_json(read(mnt / "roots/3")), first, "roots/3")
        # And of a segment that does not exist; a restart forgets it.
        publish(mnt, Pointer(new_uuid(), 0))
        mnt.kill9()
        mnt.start()
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), first, "space_root after a restart")


@test
def strict_root_refuses_it():
    with Store() as store, store.mount("strict_root") as mnt:
        first = put(mnt, b"first")
        publish(mnt, first)
        for pointer in (Pointer(first.segment, 1_000_000), Pointer(new_uuid(), 0)):
            check_errno(errno.ENODATA, f"a root that points at {pointer}", publish, mnt, pointer)
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), first, "space_root")
        publish(mnt, put(mnt, b"second"))
        check_eq(json.loads(read(mnt / "roots/current"))["seq"], 2, "roots/current")


@test
def publishing_is_a_barrier_for_everything_before():
    with Store() as store, store.mount("flush_interval=60s") as mnt:
        names = [new_uuid() for _ in range(20)]  # more than a root record can name
        want = {}
        for name in names:
            want[name] = frame(random_bytes(rng.randrange(10, 50_000)))
            append(mnt / f"space/{name}", want[name], sync=False)
        write(mnt / "space/note", b"no fsync")
        publish(mnt, Pointer(names[7], 0))
        mnt.kill9()
        mnt.start()
        for name in names:
            check_eq(read(mnt / f"space/{name}"), want[name], "a segment that was written before the root")
        check_eq(read(mnt / "space/note"), b"no fsync", "a small file that was written before the root")


@test
def bytes_that_nobody_waits_for_are_durable_soon():
    with Store() as store, store.mount() as mnt:
        name, data = new_uuid(), frame(b"no fsync at all")
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.write(fd, data)
        time.sleep(1.6)
        mnt.kill9()
        close_dead(fd)
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), data, "what was written 1.6 s before the kill -9")


main()
