#!/usr/bin/python3
"""Every option of a mount does what it says, as -o and as a flag; what cannot be had is refused with a reason."""
from lib import *


def mount_refused(store, options=(), flags=(), code=2, says=()):
    mount = store.mount(*options, flags=flags)
    try:
        mount.start()
    except MountFailed as failed:
        check_eq(failed.code, code, f"exit code with {options or flags}: {failed.output}")
        for word in says:
            check_in(word.lower(), failed.output.lower(), f"the message with {options or flags}")
        return
    finally:
        mount.abandon()
    fail(f"a mount with {options or flags} was not refused")


@test
def durability_that_cannot_be_had():
    with Store() as store:
        for level, missing in (("quorum", "peer"), ("cloud", "bucket")):
            mount_refused(store, [f"durability={level}"], says=[level, missing])
            mount_refused(store, flags=["--durability", level], says=[level, missing])
        mount_refused(store, ["durability=none"], says=["none"])
        with store.mount("durability=local") as mnt:
            put(mnt, b"x")
        protofs("init", f"{store.base}/other", "--durability", "cloud", ok=2)


@test
def unknown_options_are_refused():
    with Store() as store:
        for option in ("nosuchoption", "flush_interval", "flush_interval=x", "flush_interval=-1", "uid=nobody-here",
                       "noprotect=1", "cache_size=1z", "flush_interval=0s5"):
            mount_refused(store, [option], says=[option.split("=")[0]])
        mount_refused(store, flags=["--nosuchflag"])
        protofs("mount", ok=2)
        protofs("mount", store, ok=2)


@test
def options_and_flags_are_the_same():
    with Store() as store:
        for mount in (store.mount("strict_root", "flush_interval=50ms"),
                      store.mount(flags=["--strict-root", "--flush-interval", "50ms"]),
                      store.mount(flags=["--strict_root", "--flush_interval=50ms"])):
            with mount as mnt:
                check_errno(errno.ENODATA, "a dangling root with strict_root", publish, mnt, Pointer(new_uuid(), 0))


@test
def a_read_only_mount_writes_nothing():
    with Store("--block-size", "64K") as store, store.mount() as mnt:
        pointer = put(mnt, b"x")
        publish(mnt, pointer)
        name = new_uuid()
        append(mnt / f"space/{name}", frame(b"y"))
        write(mnt / "space/small", b"z", sync=True)
        mnt.kill9()  # so that there is something to recover, in memory only
        before = {path: (read(path), os.stat(path).st_mtime_ns) for path in all_files(store)}
        mnt.options = ("ro",)
        mnt.start()
        check_eq(read(mnt / f"atoms/{pointer}"), b"x", "an atom")
        check_eq(read(mnt / f"space/{name}"), frame(b"y"), "a segment")
        check_eq(read(mnt / "space/small"), b"z", "a small file")
        writes = {
            "a segment": lambda: append(mnt / f"space/{name}", b"x"),
            "a new segment": lambda: append(mnt / f"space/{new_uuid()}", b"x"),
            "a small file": lambda: write(mnt / "space/other", b"x"),
            "unlink": lambda: os.unlink(mnt / "space/small"),
            "chmod": lambda: os.chmod(mnt / "space/small", 0o600),
            "a root": lambda: publish(mnt, pointer),
            "atoms/in": lambda: write(mnt / "atoms/in/x", b"x"),
            "wal/in": lambda: write(mnt / f"wal/in/{new_uuid()}", b"x"),
            "roots": lambda: os.symlink("1", mnt / "roots/new"),
        }
        for what, function in writes.items():
            check_errno(errno.EROFS, f"{what} on a read-only mount", function)
        protofs("put", mnt, __file__, ok=1)
        mnt.umount()
        after = {path: (read(path), os.stat(path).st_mtime_ns) for path in all_files(store)}
        for path in before:
            if not path.endswith("/lock"):
                check_eq(after.get(path), before[path], f"{path} after a read-only mount")
        check_eq(set(after), set(before), "the store's files after a read-only mount")
        mnt.options = ()
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), frame(b"y"), "the segment after a writable mount")


def all_files(store):
    return [os.path.join(folder, name) for folder, _, names in os.walk(store.dir) for name in names]


@test
def views_that_are_read_only_answer_erofs():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"x")
        publish(mnt, pointer)
        for path in (f"wal/{pointer.segment}", f"atoms/{pointer}", "roots/1"):
            check_errno(errno.EROFS, f"opening {path} for writing", os.open, mnt / path, os.O_WRONLY)
            check_errno((errno.EROFS, errno.EPERM), f"unlink of {path}", os.unlink, mnt / path)
            check_errno((errno.EROFS, errno.EPERM), f"chmod of {path}", os.chmod, mnt / path, 0o777)
            check_errno((errno.EROFS, errno.EPERM), f"truncate of {path}", os.truncate, mnt / path, 0)
        for folder in ("wal", "atoms", f"atoms/{pointer.segment}", "roots/by-time"):
            check_errno((errno.EROFS, errno.EPERM), f"a new file in {folder}", write, mnt / f"{folder}/new", b"x")
            check_errno((errno.EROFS, errno.EPERM), f"mkdir in {folder}", os.mkdir, mnt / f"{folder}/new")


@test
def owner_and_group():
    with Store() as store, store.mount("uid=12345", "gid=54321") as mnt:
        pointer = put(mnt, b"x")
        publish(mnt, pointer)
        write(mnt / "space/small", b"x")
        for path in ("", "space", "space/small", "space/space_root", f"wal/{pointer.segment}", f"atoms/{pointer}",
                     "roots/1", "roots/current", ".ctl", ".ctl/status", "atoms/in"):
            info = os.lstat(mnt / path)
            check_eq((info.st_uid, info.st_gid), (12345, 54321), f"owner of {path or 'the root'}")


@test
def modes_are_as_documented():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"x")
        publish(mnt, pointer)
        name = new_uuid()
        append(mnt / f"space/{name}", frame(b"x"))
        os.close(os.open(mnt / "space/space_root.lock", os.O_CREAT | os.O_RDWR, 0o777))
        want = {"space": 0o755, f"space/{name}": 0o644, "space/space_root": 0o644, "space/space_root.lock": 0o644,
                f"wal/{name}": 0o444, f"wal/{name}.sum": 0o444, "wal/in": 0o700, f"atoms/{pointer}": 0o444,
                "atoms/in": 0o1733, "roots/1": 0o444, ".ctl": 0o700}
        for path, mode in want.items():
            check_eq(oct(stat.S_IMODE(os.stat(mnt / path).st_mode)), oct(mode), f"mode of {path}")
        flags = next(line.split()[5] for line in open("/proc/self/mountinfo") if line.split()[4] == mnt.path)
        for flag in ("nosuid", "nodev"):
            check_in(flag, flags.split(","), "mount flags")
        full = next(line for line in open("/proc/self/mountinfo") if line.split()[4] == mnt.path)
        check_in("default_permissions", full, "mount options")
        check_in(FUSE_TYPE, full, "type")


@test
def other_users_come_in_with_allow_other_only():
    if os.geteuid() != 0:
        skip("needs root to become another user")
    with Store() as store:
        os.chmod(store.base, 0o755)
        for options, want in (((), errno.EACCES), (("allow_other",), None)):
            with store.mount(*options) as mnt:
                write(mnt / "space/public", b"x", mode=0o644)
                write(mnt / "space/private", b"x", mode=0o600)
                check_eq(as_user(65534, lambda: read(mnt / "space/public")), want, f"public, options {options}")
                check_eq(as_user(65534, lambda: read(mnt / "space/private")), errno.EACCES, f"private, {options}")
                check_eq(as_user(65534, lambda: write(mnt / "space/new", b"x")), errno.EACCES, f"new file, {options}")
                check_eq(as_user(65534, lambda: os.listdir(mnt / ".ctl")), errno.EACCES, f".ctl, {options}")


def as_user(uid, function):
    """The errno with which FUNCTION fails for another user, None if it does not."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            function()
        except OSError as error:
            code = error.errno
        except BaseException:
            code = 255
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or None


@test
def flush_interval_bounds_what_is_lost():
    with Store() as store, store.mount("flush_interval=20ms") as mnt:
        name = new_uuid()
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.write(fd, frame(b"x" * 1000))
        time.sleep(0.4)
        mnt.kill9()
        close_dead(fd)
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), frame(b"x" * 1000), "what was written 0.4 s before the kill -9")


@test
def blob_max_bounds_atoms():
    with Store() as store, store.mount("blob_max=1M") as mnt:
        write(mnt / "atoms/in/fits", bytes(MIB))
        check_errno(errno.EFBIG, "an atom of 1 MiB and a byte", write, mnt / "atoms/in/large", bytes(MIB + 1))
        check_eq(os.stat(mnt / "atoms/in/fits").st_size, MIB, "the atom that fits")


@test
def segment_size_rolls_our_segments():
    with Store("--block-size", "64K") as store, store.mount("segment_size=1M") as mnt:
        pointers = [put(mnt, random_bytes(300_000)) for _ in range(12)]
        check(len({p.segment for p in pointers}) >= 3, "atoms of 3.6 MB are in less than three segments of 1 MiB")
        large = put(mnt, bytes(3 * MIB))
        check_eq(os.stat(mnt / f"atoms/{large}").st_size, 3 * MIB, "an atom larger than a segment")


@test
def a_store_in_memory():
    with temporary_dir() as base:
        os.mkdir(f"{base}/mnt")
        log = f"{base}/log"
        daemon = Daemon("mem:", f"{base}/mnt", ["size=64M"], log=log)
        try:
            name = new_uuid()
            append(f"{base}/mnt/space/{name}", frame(b"x" * 100_000))
            publish(f"{base}/mnt", Pointer(name, 0))
            check_eq(read(f"{base}/mnt/space/{name}"), frame(b"x" * 100_000), "a segment in memory")
            fd = os.open(f"{base}/mnt/space/{name}", os.O_RDWR | os.O_APPEND)

            def fill():
                for _ in range(100):
                    os.write(fd, frame(bytes(MIB)))
                    os.fsync(fd)
            check_errno(errno.ENOSPC, "100 MiB into 64", fill)
            os.close(fd)
            check_eq(read(f"{base}/mnt/space/{name}")[:9], frame(b"x" * 100_000)[:9], "the segment in a full memory")
            os.kill(daemon.pid, signal.SIGTERM)
            check_eq(daemon.wait(), 0, "exit code")
        finally:
            if daemon.alive():
                daemon.process.kill()
                daemon.process.wait()
            run(["umount", "-l", f"{base}/mnt"], ok=None)
        check_output(read_text(log), "the daemon")


@test
def mount_and_helper_options_are_taken():
    """What mount(8) and fstab add means nothing to us, and is no error."""
    with Store() as store, store.mount("rw", "noatime", "nodev", "nosuid", "noauto", "user", "_netdev",
                                       "x-systemd.automount", "defaults") as mnt:
        put(mnt, b"x")


@test
def the_limit_of_open_files_is_raised():
    """A shell's limit would be met by a few hundred segments; what is hard stays."""
    with Store() as store:
        os.mkdir(f"{store.base}/mnt")
        run(["prlimit", "--nofile=256:2000", PROTOFS, "mount", store, f"{store.base}/mnt"])
        try:
            limits = read_text(f"/proc/{daemon_pid(f'{store.base}/mnt')}/limits")
            check(re.search(r"Max open files +2000 +2000", limits), f"the daemon's limits:\n{limits}")
        finally:
            protofs("umount", f"{store.base}/mnt")


@test
def starts_in_time_and_small():
    """Informative with sanitizers; the benchmark judges the figures."""
    with Store() as store:
        best, memory = 1e9, 0
        for _ in range(5):
            start = time.monotonic()
            with store.mount() as mnt:
                best = min(best, time.monotonic() - start)
                time.sleep(0.1)
                memory = mnt.daemon.memory()[0]
        print(f"      started and mounted in {best * 1000:.0f} ms, {memory >> 10} KiB resident when idle")
        check(best < 5, "it takes more than 5 s to mount an empty store")


main()
