#!/usr/bin/python3
"""atoms/in/: what shells and tools really do to a file becomes atoms, each close with what it closed."""
from lib import *


def link(path):
    """The pointer that a name in atoms/in shows."""
    target = os.readlink(path)
    check(target.startswith("../"), f"{path} -> {target}")
    return Pointer.parse(target[3:])


def content(path):
    return read(path)


def atom_count(mnt):
    """Atoms in all segments."""
    return sum(len(os.listdir(mnt / f"atoms/{s}")) for s in os.listdir(mnt / "atoms") if s != "in")


def is_link(path):
    return stat.S_ISLNK(os.lstat(path).st_mode)


def format_of(path):
    return os.getxattr(path, "user.protofs.format").decode()


@test
def echo_makes_one_atom():
    with Store() as store, store.mount() as mnt:
        for sh in ("bash", "dash"):
            if not have(sh):
                continue
            before = atom_count(mnt)
            run([sh, "-c", f"echo hello > {mnt}/atoms/in/{sh}"])
            check(is_link(mnt / f"atoms/in/{sh}"), "a link")
            check_eq(content(mnt / f"atoms/in/{sh}"), b"hello\n", sh)
            check_eq(atom_count(mnt), before + 1, f"atoms after {sh}'s echo")
            pointer = link(mnt / f"atoms/in/{sh}")
            check_eq(read(mnt / f"atoms/{pointer}"), b"hello\n", "the atom by its address")


@test
def two_writers_of_one_descriptor():
    """(a; b) > f: a's exit flushes, then b's. Each flush with new content is an atom, the name shows the last one."""
    with Store() as store, store.mount() as mnt:
        shell(f"(echo one; /bin/echo two; /bin/echo three) > {mnt}/atoms/in/f")
        check_eq(content(mnt / "atoms/in/f"), b"one\ntwo\nthree\n", "the last atom")
        count = atom_count(mnt)
        check(1 <= count <= 3, f"{count} atoms")
        frames = parse_frames(read(mnt / f"wal/{link(mnt / 'atoms/in/f').segment}"))[0]
        for f in frames:
            check(b"one\ntwo\nthree\n".startswith(f.payload), f"an atom that is no prefix: {f.payload}")


@test
def appending_shell_redirections():
    with Store() as store, store.mount() as mnt:
        shell(f"exec 5> {mnt}/atoms/in/f; echo a >&5; cat /dev/null; echo b >&5; exec 5>&-")
        check_eq(content(mnt / "atoms/in/f"), b"a\nb\n", "exec 5>")
        shell(f"echo x >> {mnt}/atoms/in/g")
        check_eq(content(mnt / "atoms/in/g"), b"x\n", ">> on a new name")


@test
def an_atom_is_not_written_again_by_its_name():
    """The name shows an immutable atom: opening it for writing is refused, removing and writing again is the way."""
    with Store() as store, store.mount() as mnt:
        write(mnt / "atoms/in/f", b"1")
        check_errno(errno.EROFS, "open for writing", os.open, mnt / "atoms/in/f", os.O_WRONLY)
        check(shell(f"echo 2 > {mnt}/atoms/in/f", ok=None).code != 0, "echo over it")
        check_eq(content(mnt / "atoms/in/f"), b"1", "still")
        first = link(mnt / "atoms/in/f")
        os.unlink(mnt / "atoms/in/f")
        write(mnt / "atoms/in/f", b"2")
        check_eq(content(mnt / "atoms/in/f"), b"2", "a new file of the same name")
        check_eq(read(mnt / f"atoms/{first}"), b"1", "the old atom")


@test
def flush_after_flush_without_changes():
    with Store() as store, store.mount() as mnt:
        fd = os.open(mnt / "atoms/in/f", os.O_RDWR | os.O_CREAT, 0o600)
        os.close(os.dup(fd))  # FLUSH of nothing
        check(not is_link(mnt / "atoms/in/f"), "empty content is no atom")
        os.write(fd, b"abc")
        for _ in range(5):
            os.close(os.dup(fd))
        os.fsync(fd)
        check_eq(atom_count(mnt), 1, "atoms")
        first = link(mnt / "atoms/in/f")
        os.write(fd, b"def")  # the descriptor survived its link
        check_eq(link(mnt / "atoms/in/f"), first, "the link before the next flush")
        os.close(os.dup(fd))
        second = link(mnt / "atoms/in/f")
        check(second != first, "the link moved")
        check_eq(content(mnt / "atoms/in/f"), b"abcdef", "the second atom has all of it")
        check_eq(os.pread(fd, 100, 0), b"abcdef", "what the descriptor reads")
        os.pwrite(fd, b"X", 0)
        os.fsync(fd)
        check_eq(content(mnt / "atoms/in/f"), b"Xbcdef", "after fsync")
        os.close(fd)
        check_eq(atom_count(mnt), 3, "atoms")
        check_eq(read(mnt / f"atoms/{first}"), b"abc", "the first atom did not change")


@test
def a_dup_that_writes_after_the_close():
    with Store() as store, store.mount() as mnt:
        script = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b'parent,')
if os.fork() == 0:
    os.read(0, 1)
    os.write(fd, b'child')
    os._exit(0)
os.close(fd)
print(os.readlink(sys.argv[1]), flush=True)
os.write(1, b'')
os.wait()
"""
        r, w = os.pipe()
        process = subprocess.Popen(["/usr/bin/python3", "-c", script, mnt / "atoms/in/f"], stdin=r,
                                   stdout=subprocess.PIPE, text=True)
        first = process.stdout.readline().strip()
        check_eq(read(mnt / f"atoms/in/{first}"), b"parent,", "the atom of the close")
        os.write(w, b"!")
        process.wait()
        check_eq(content(mnt / "atoms/in/f"), b"parent,child", "the atom of the dup'd descriptor")


@test
def empty_files_make_no_atom():
    with Store() as store, store.mount() as mnt:
        run(["touch", mnt / "atoms/in/empty"])
        shell(f": > {mnt}/atoms/in/colon")
        with open(mnt / "atoms/in/python", "x"):
            pass
        for name in ("empty", "colon", "python"):
            st = os.lstat(mnt / f"atoms/in/{name}")
            check(stat.S_ISREG(st.st_mode) and st.st_size == 0, f"{name} is an empty file")
        check_eq(atom_count(mnt), 0, "atoms")
        shell(f"echo now > {mnt}/atoms/in/empty")
        check_eq(content(mnt / "atoms/in/empty"), b"now\n", "an empty file that is filled")
        # Filled and emptied again before the close.
        fd = os.open(mnt / "atoms/in/taken-back", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"partial")
        os.ftruncate(fd, 0)
        os.close(fd)
        check_eq(atom_count(mnt), 1, "atoms after taking one back")


@test
def tools_that_write_files():
    data = random_bytes(3 * MIB + 12345)
    with Store() as store, store.mount() as mnt, temporary_dir() as tmp:
        source = f"{tmp}/source"
        write(source, data)
        os.chmod(source, 0o640)
        top = mnt / "atoms/in"
        run(["cp", source, f"{top}/cp"])
        run(["cp", "-p", source, f"{top}/cp-p"])
        run(["install", "-m", "600", source, f"{top}/install"])
        run(["dd", f"if={source}", f"of={top}/dd", "bs=4321"])
        run(["dd", f"if={source}", f"of={top}/dd-sync", "bs=1M", "conv=fsync"])
        shell(f"cat {source} > {top}/cat")
        shell(f"cat {source} | tee {top}/tee > /dev/null")
        run(["tar", "-C", top, "-xf", "-"], input=run(["tar", "-C", tmp, "--transform", "s/source/tar/", "-cf", "-", "source"],
                                                      text=False).out, text=False)
        with open(f"{top}/python", "xb") as file:
            file.write(data)
        shutil.copyfile(source, f"{top}/copyfile")
        shutil.copy2(source, f"{top}/copy2")
        run(["truncate", "-s", str(len(data)), f"{top}/zeros"])
        if have("rsync"):
            run(["rsync", source, f"{top}/rsync"])
            run(["rsync", "-a", source, f"{top}/rsync-a"])
            run(["rsync", "-tp", "--chmod=600", source, f"{top}/rsync-tp"])
        for name in sorted(os.listdir(top)):
            want = bytes(len(data)) if name == "zeros" else data
            check(is_link(f"{top}/{name}"), f"{name} is no link")
            check_eq(content(f"{top}/{name}"), want, name)
        check(all(not n.startswith(".") for n in os.listdir(top)), "temporary names are left")
        check_eq(len(os.listdir(top)), 15 if have("rsync") else 12, "names")


@test
def rsync_of_json():
    """The format is that of the final name; mode and times of the source are the link's."""
    need("rsync")
    with Store() as store, store.mount() as mnt, temporary_dir() as tmp:
        for i in range(20):
            write(f"{tmp}/{i}.json", b'{"number": %d}' % i)
            os.utime(f"{tmp}/{i}.json", (10**9 + i, 10**9 + i))
        run(["rsync", "-a", f"{tmp}/", f"{mnt}/atoms/in/"])
        for i in range(20):
            path = mnt / f"atoms/in/{i}.json"
            check(is_link(path), "a link")
            check_eq(format_of(path), "json", "format")
            check_eq(os.lstat(path).st_mtime, 10**9 + i, "mtime of the link")
            check_eq(json.loads(read(mnt / f"atoms/{link(path)}.json")), {"number": i}, "as JSON")
        check_eq(atom_count(mnt), 20, "atoms")
        fd = os.open(mnt / "atoms/in/.x.ABC123", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"one")
        os.fsync(fd)
        check(not is_link(mnt / "atoms/in/.x.ABC123"), "a temporary name")
        os.rename(mnt / "atoms/in/.x.ABC123", mnt / "atoms/in/x")
        check_eq(content(mnt / "atoms/in/x"), b"one", "renamed")
        os.write(fd, b" two")
        os.close(fd)
        check_eq(content(mnt / "atoms/in/x"), b"one two", "the descriptor survived the renaming")


@test
def dd_with_seek_leaves_zeros():
    with Store() as store, store.mount() as mnt:
        shell(f"printf tail | dd of={mnt}/atoms/in/f bs=1 seek=100000 status=none")
        check_eq(content(mnt / "atoms/in/f"), bytes(100000) + b"tail", "a gap")
        fd = os.open(mnt / "atoms/in/g", os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, b"z" * 200000, 0)
        os.ftruncate(fd, 10)
        os.pwrite(fd, b"end", 70000)
        os.close(fd)
        check_eq(content(mnt / "atoms/in/g"), b"z" * 10 + bytes(69990) + b"end", "shrunk, then a gap")


@test
def rename_and_unlink():
    with Store() as store, store.mount() as mnt:
        top = mnt / "atoms/in"
        write(f"{top}/a", b"A")
        write(f"{top}/b", b"B")
        os.rename(f"{top}/a", f"{top}/c")
        check_errno(errno.ENOENT, "the old name", os.lstat, f"{top}/a")
        check_eq(content(f"{top}/c"), b"A", "the new name")
        os.rename(f"{top}/c", f"{top}/b")
        check_eq(content(f"{top}/b"), b"A", "renamed over another")
        check_eq(os.listdir(top), ["b"], "names")
        os.unlink(f"{top}/b")
        check_errno(errno.ENOENT, "after unlink", os.lstat, f"{top}/b")
        check_errno(errno.ENOENT, "unlink again", os.unlink, f"{top}/b")
        check_errno(errno.ENOENT, "rename of nothing", os.rename, f"{top}/b", f"{top}/x")
        # A file that is still written follows its name, and without a name makes no atom.
        fd = os.open(f"{top}/w", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"moved")
        os.rename(f"{top}/w", f"{top}/v")
        os.close(fd)
        check_eq(content(f"{top}/v"), b"moved", "renamed while it was written")
        before = atom_count(mnt)
        fd = os.open(f"{top}/gone", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"gone")
        os.unlink(f"{top}/gone")
        os.fsync(fd)
        check_eq(os.pread(fd, 10, 0), b"gone", "an unlinked file stays usable")
        os.close(fd)
        check_eq(atom_count(mnt), before, "atoms after an unlinked file")
        # RENAME_NOREPLACE and RENAME_EXCHANGE
        write(f"{top}/x", b"X")
        if have("mv"):
            run(["mv", "-n", f"{top}/x", f"{top}/v"], ok=None)
        check_eq(content(f"{top}/v"), b"moved", "mv -n")


@test
def the_format_follows_the_name():
    document = b'{"a": [1.50, 2]}'
    cases = [("a.json", document, "json"), ("b.json", b"not json", "raw"), ("c.json", b'{"torn": ', "raw"),
             ("d.msgpack", msgpack.packb({"k": 1}), "msgpack"), ("e.msgpack", b"\xc1", "raw"), ("f.txt", document, "raw"),
             ("json", document, "raw"), ("g.json", b"\n" + document + b"\n", "json")]
    with Store() as store, store.mount() as mnt:
        for name, data, want in cases:
            write(mnt / f"atoms/in/{name}", data)
            check_eq(format_of(mnt / f"atoms/in/{name}"), want, f"format of {name}")
            check_eq(content(mnt / f"atoms/in/{name}"), data, name)
        check_eq(read(mnt / f"atoms/{link(mnt / 'atoms/in/a.json')}.json"), b'{\n  "a": [\n    1.50,\n    2\n  ]\n}\n', ".json")


@test
def large_documents_have_their_format_too():
    """More than the .json view shows, checked in little memory."""
    text = b'{"rows": [' + b",".join(b'"%0100d"' % i for i in range(200_000)) + b"]}"
    packed = msgpack.packb([b"x" * 1000] * 25_000)
    with Store() as store, store.mount() as mnt:
        for name, data, want in (("a.json", text, "json"), ("b.json", text[:-1], "raw"), ("c.msgpack", packed, "msgpack"),
                                 ("d.msgpack", packed[:-1], "raw")):
            write(mnt / f"atoms/in/{name}", data)
            check_eq(format_of(mnt / f"atoms/in/{name}"), want, name)
        check_errno(errno.EFBIG, "as JSON", read, mnt / f"atoms/{link(mnt / 'atoms/in/a.json')}.json")
        if not re.search("asan|tsan", PROTOFS):
            check(mnt.daemon.memory()[1] < 48 * MIB, f"memory: {mnt.daemon.memory()}")


@test
def fsync_is_durable():
    with Store() as store, store.mount("flush_interval=600000") as mnt:
        fd = os.open(mnt / "atoms/in/f", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"durable")
        os.fsync(fd)
        pointer = link(mnt / "atoms/in/f")
        os.write(fd, b", and this is not")
        mnt.kill9()
        close_dead(fd)
        mnt.start()
        check_eq(read(mnt / f"atoms/{pointer}"), b"durable", "after kill -9")
        check_eq(os.listdir(mnt / "atoms/in"), [], "names live until the unmount")


@test
def close_is_durable_after_a_clean_stop():
    with Store() as store, store.mount() as mnt:
        pointers = {}
        for i in range(200):
            data = words(i * 10 + 1)
            write(mnt / f"atoms/in/{i}", data)
            pointers[link(mnt / f"atoms/in/{i}")] = data
        mnt.remount()
        for pointer, data in pointers.items():
            check_eq(read(mnt / f"atoms/{pointer}"), data, str(pointer))


@test
def limits():
    with Store() as store, store.mount("blob_max=1M") as mnt:
        write(mnt / "atoms/in/fits", bytes(MIB))
        fd = os.open(mnt / "atoms/in/large", os.O_WRONLY | os.O_CREAT)
        check_errno(errno.EFBIG, "a byte more", os.pwrite, fd, b"x", MIB)
        check_errno(errno.EFBIG, "truncate beyond", os.ftruncate, fd, MIB + 1)
        os.close(fd)
        check(not is_link(mnt / "atoms/in/large"), "no atom came of it")
        check_errno(errno.ENAMETOOLONG, "a long name", write, mnt / f"atoms/in/{'n' * 256}", b"x")
        write(mnt / f"atoms/in/{'n' * 255}", b"x")
        check_eq(content(mnt / f"atoms/in/{'n' * 255}"), b"x", "a name of 255 bytes")


@test
def the_default_limit_is_2_gib():
    with Store() as store, store.mount() as mnt:
        fd = os.open(mnt / "atoms/in/f", os.O_WRONLY | os.O_CREAT)
        check_errno(errno.EFBIG, "beyond 2 GiB", os.pwrite, fd, b"x", 2 << 30)
        check_errno(errno.EFBIG, "truncate", os.ftruncate, fd, (2 << 30) + 1)
        os.close(fd)
        check_in("2147483648", errors_text(mnt), ".ctl/errors")


@test
def names_are_bounded():
    with Store() as store, store.mount() as mnt:
        def fill():
            for i in range(40000):
                os.close(os.open(mnt / f"atoms/in/{i}", os.O_WRONLY | os.O_CREAT))
        check_errno(errno.ENOSPC, "more names than there may be", fill)
        check_in("names already: remove some", errors_text(mnt), ".ctl/errors")
        names = os.listdir(mnt / "atoms/in")
        check_eq(len(names), len(set(names)), "names listed twice")
        for name in names[:1000]:
            os.unlink(mnt / f"atoms/in/{name}")
        write(mnt / "atoms/in/again", b"x")
        check_eq(content(mnt / "atoms/in/again"), b"x", "after removing some")


@test
def the_directory():
    with Store() as store, store.mount("allow_other") as mnt:
        st = os.stat(mnt / "atoms/in")
        check_eq(oct(stat.S_IMODE(st.st_mode)), oct(0o1733), "mode")
        check_errno(errno.EPERM, "mkdir", os.mkdir, mnt / "atoms/in/d")
        check_errno(errno.EPERM, "symlink", os.symlink, "x", mnt / "atoms/in/l")
        check_errno((errno.EXDEV, errno.EROFS, errno.EPERM), "rename elsewhere", os.rename, mnt / "atoms/in", mnt / "atoms/out")
        write(mnt / "atoms/in/f", b"x")
        check_errno((errno.EXDEV, errno.EROFS), "rename into a segment", os.rename, mnt / "atoms/in/f", mnt / "atoms/f")
        nobody = 65534
        if os.getuid() == 0:
            os.chmod(store.base, 0o755)
            script = (f"cd {mnt}/atoms/in && echo mine > n && cat n && mv n m && rm m && echo two > o; "
                      f"ls . 2>/dev/null && echo listed; rm f 2>/dev/null && echo removed; true")
            got = run(["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", "sh", "-c", script])
            check_eq(got.out, "mine\n", "what another user can do")
            check_eq(content(mnt / "atoms/in/f"), b"x", "another's name")
            check_eq(os.lstat(mnt / "atoms/in/o").st_uid, nobody, "owner of the link")


@test
def many_writers():
    """Threads that write, rename, unlink and read names at the same time; every atom is whole."""
    with Store() as store, store.mount() as mnt:
        top = mnt / "atoms/in"
        failures = []

        def work(number):
            random_ = random.Random(SEED + number)
            try:
                for i in range(120):
                    name = f"{top}/{random_.randrange(6)}"
                    data = bytes([number]) * random_.randrange(1, 100000)
                    mine = f"{top}/.{number}.{i}"
                    write(mine, data)
                    if content(mine) != data:
                        failures.append(f"{mine} differs")
                    os.rename(mine, name)
                    with contextlib.suppress(FileNotFoundError):
                        got = content(name)
                        if got != got[:1] * len(got) or not got:
                            failures.append(f"{name} is a mixture")
                    if random_.random() < 0.2:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name)
            except OSError as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_eq(failures, [], "failures")
        check_eq(atom_count(mnt), 6 * 120, "atoms")


@test
def our_own_segment_grows_after_it_was_sealed():
    """What the kernel remembers of a sealed segment must not hide what comes later."""
    with Store() as store, store.mount() as mnt:
        for i in range(5):
            write(mnt / f"atoms/in/{i}", b"atom %d" % i)
            segment = link(mnt / f"atoms/in/{i}").segment
            write(mnt / ".ctl/seal", b"1")
            data = read(mnt / f"wal/{segment}")
            check_eq(os.stat(mnt / f"wal/{segment}").st_size, len(data), "st_size in wal/")
            check_eq(parse_frames(data)[0][-1].payload, b"atom %d" % i, "the last frame in wal/")
            offsets = [f.offset for f in parse_frames(data)[0]]
            check_eq(sorted(int(n) for n in os.listdir(mnt / f"atoms/{segment}")), offsets, "atoms/")


@test
def nothing_stays_staged():
    """Neither memory nor scratch files grow with what was written and closed."""
    with Store() as store, store.mount() as mnt:
        for i in range(100):
            write(mnt / f"atoms/in/{i}", random_bytes(200_000))
        fds = len(os.listdir(f"/proc/{mnt.pid}/fd"))
        for i in range(100, 300):
            write(mnt / f"atoms/in/{i}", random_bytes(200_000))
        check(len(os.listdir(f"/proc/{mnt.pid}/fd")) <= fds + 5, "descriptors of the daemon grow")
        if not re.search("asan|tsan", PROTOFS):
            check(mnt.daemon.memory()[1] < 64 * MIB, f"memory: {mnt.daemon.memory()}")


main()
