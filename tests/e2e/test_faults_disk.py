#!/usr/bin/python3
"""Disks that fill up and disks that fail: a clear error, and nothing that was acknowledged is lost.

A failing disk is a loop device over failfs (failfs.c), with ext4 on it: reads, writes and flushes fail with EIO below the
block layer, so that io_uring, threads and buffered commits all see it as they would on a dying disk.
"""
import mmap

from lib import *

PATHS = ("io_uring", "threads", "buffered")
READ, WRITE, FLUSH = range(3)
GEOMETRY = ("--block-size", "64K")  # parts of 4 MiB: their space fits a small disk


def as_root():
    if os.geteuid() != 0:
        skip("loop devices and tmpfs mounts need root")
    need("losetup", "mkfs.ext4")


def failfs_binary():
    built = os.environ.get("FAILFS")
    if built:
        return built
    need("cc", "pkg-config")
    path = os.path.join(tempfile.gettempdir(), f"failfs-{os.getpid()}")
    if not os.path.exists(path):
        shell(f"cc -std=c17 -D_GNU_SOURCE -O1 $(pkg-config --cflags fuse3) {HERE}/failfs.c -o {path} "
              "$(pkg-config --libs fuse3)")
        atexit.register(os.unlink, path)
    return path


class FailingDisk:
    """A mounted ext4 without a journal, on a disk that fails when told to. `path` is where it is mounted."""

    def __init__(self, size=192 * MIB):
        as_root()
        self.size = size

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:
            self.stack.close()
            raise
        return self

    def _open(self):
        base = self.stack.enter_context(temporary_dir())
        backing, control, fuse, self.path = (f"{base}/{n}" for n in ("backing", "control", "fuse", "disk"))
        os.mkdir(fuse)
        os.mkdir(self.path)
        with open(backing, "wb") as file:
            file.truncate(self.size)
        with open(control, "wb") as file:
            file.write(bytes(48))
        # Without a journal an EIO reaches who caused it, and no one else; the disk is well again afterwards.
        run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0", backing])
        with open(control, "r+b") as file:
            self.words = mmap.mmap(file.fileno(), 48)
        process = subprocess.Popen([failfs_binary(), backing, control, fuse], preexec_fn=die_with_parent)
        self.stack.callback(self._end, process, fuse)
        wait_for(lambda: is_mounted(fuse) or process.poll() is not None, "failfs to be mounted")
        check(process.poll() is None, "failfs ended at once")
        self.loop = run(["losetup", "--find", "--show", f"{fuse}/image"]).out.strip()
        self.stack.callback(lambda: run(["losetup", "-d", self.loop], ok=None))
        run(["mount", "-o", "errors=continue", self.loop, self.path])
        self.stack.callback(lambda: run(["umount", "-l", self.path], ok=None))
        self.stack.callback(self.heal)

    @staticmethod
    def _end(process, fuse):
        run(["fusermount3", "-uz", fuse], ok=None)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __exit__(self, *_):
        self.stack.close()

    def word(self, index, value=None):
        if value is not None:
            struct.pack_into("<i", self.words, index * 4, value)
        return struct.unpack_from("<i", self.words, index * 4)[0]

    def fail(self, operation, skip=0, times=0, error=errno.EIO):
        self.word(3 + operation, skip)
        self.word(9 + operation, times)
        self.word(operation, error)

    def heal(self):
        for operation in (READ, WRITE, FLUSH):
            self.word(operation, 0)

    def count(self, operation):
        return self.word(6 + operation)


def forget_pages(store):
    """Drops the kernel's cached pages of the store's files, so that reads reach the disk."""
    for folder, _, names in os.walk(store.dir):
        for name in names:
            fd = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


class Log:
    """A segment that is appended to, with what is acknowledged."""

    def __init__(self, mnt, name=None):
        self.name = name or new_uuid()
        self.path = mnt / f"space/{self.name}"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.sent = bytearray()
        self.acknowledged = 0

    def append(self, size=3000):
        data = frame(random_bytes(size))
        os.write(self.fd, data)  # an error: nothing of it was accepted
        self.sent += data
        os.fsync(self.fd)
        self.acknowledged = len(self.sent)

    def close(self):
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def check_after_crash(self, mnt):
        got = read(mnt / f"space/{self.name}")
        check(len(got) >= self.acknowledged, f"{len(got)} bytes are left of {self.acknowledged} acknowledged ones")
        check_eq(got[:len(self.sent)], bytes(self.sent[:len(got)]), "the bytes of the segment")
        return len(got)


# ---- A failing disk ----


def one_failure(path, operation):
    """One EIO: what was not yet acknowledged goes on in a new part, and nobody notices but .ctl/errors."""
    with FailingDisk() as disk, Store(*GEOMETRY, at=f"{disk.path}/store") as store, \
            store.mount(env={"PROTOFS_DISK_PATH": path}) as mnt:
        log = Log(mnt)
        for _ in range(10):
            log.append()
        poisoned = 0
        for attempt in range(6):
            disk.fail(operation, skip=rng.randrange(3) if attempt else 0, times=1)
            outcomes = []
            for _ in range(6):
                try:
                    log.append(rng.randrange(1, 20_000))
                    outcomes.append("ok")
                except OSError as error:
                    outcomes.append(errno.errorcode[error.errno])
            disk.heal()
            check("ok" == outcomes[0] or attempt, f"fsync after one failed {('read', 'write', 'flush')[operation]}: "
                  f"{outcomes}; want: it goes on in a new part\n{errors_text(mnt)}")
            if set(outcomes) != {"ok"}:
                fail(f"one EIO reached the application: {outcomes}\n{errors_text(mnt)}")
        poisoned = stats(mnt)
        check_eq(read(log.path), bytes(log.sent), "the segment while mounted")
        text = errors_text(mnt)
        check_in(log.name, text, ".ctl/errors names the segment")
        log.close()
        mnt.kill9()
        mnt.start()
        check_eq(log.check_after_crash(mnt), len(log.sent), "bytes after kill -9")
        log.fd = os.open(log.path, os.O_RDWR | os.O_APPEND)
        log.append()
        log.close()
        mnt.umount()
        store.fsck("--deep")
        check(len(store.parts(log.name)) >= 2, "no part was poisoned: did the failure happen at all?")


def lasting_failure(path, operation):
    """The disk stays away: EIO to who waits, then read-only, and the reason is one cat away."""
    with FailingDisk() as disk, Store(*GEOMETRY, at=f"{disk.path}/store") as store, \
            store.mount(env={"PROTOFS_DISK_PATH": path}) as mnt:
        log = Log(mnt)
        for _ in range(20):
            log.append()
        publish(mnt, Pointer(log.name, 0))
        disk.fail(operation)
        check_errno((errno.EIO, errno.EROFS), "append + fsync on a dead disk", lambda: [log.append() for _ in range(3)])
        acknowledged = log.acknowledged
        check_errno((errno.EIO, errno.EROFS), "a root on a dead disk", publish, mnt, Pointer(log.name, 3009))
        check_errno((errno.EIO, errno.EROFS), "a write to a mount that is read-only", append, log.path, frame(b"x"))
        check_eq(read(log.path)[:acknowledged], bytes(log.sent[:acknowledged]), "what was acknowledged")
        check_eq(Pointer.of_json(read(mnt / "roots/current")), Pointer(log.name, 0), "roots/current")
        check_in(log.name, errors_text(mnt), ".ctl/errors names the segment")
        check(is_read_only(mnt), f"stats.json does not say read-only: {stats(mnt)}")
        log.close()
        disk.heal()
        mnt.kill9()
        mnt.start()
        log.check_after_crash(mnt)
        check_eq(Pointer.of_json(read(mnt / "roots/current")), Pointer(log.name, 0), "roots/current after a restart")
        again = Log(mnt)
        again.append()
        again.close()
        mnt.umount()
        store.fsck("--deep")


def each_path(function, operation):
    for path in PATHS:
        function(path, operation)
        print(f"      {path}: ok")


@test
def one_failed_write():
    each_path(one_failure, WRITE)


@test
def one_failed_flush():
    each_path(one_failure, FLUSH)


@test
def writes_fail_from_now_on():
    each_path(lasting_failure, WRITE)


@test
def flushes_fail_from_now_on():
    each_path(lasting_failure, FLUSH)


@test
def a_failed_read_says_where():
    with FailingDisk() as disk, Store(*GEOMETRY, at=f"{disk.path}/store") as store, store.mount() as mnt:
        name = new_uuid()
        data = b"".join(frame(random_bytes(30_000)) for _ in range(100))
        append(mnt / f"space/{name}", data)
        mnt.umount()
        mnt.start()
        forget_pages(store)
        disk.fail(READ)
        check_errno(errno.EIO, "a read from a dead disk", read, mnt / f"wal/{name}")
        disk.heal()
        check_in(name, errors_text(mnt), ".ctl/errors names the segment")
        check_eq(read(mnt / f"wal/{name}"), data, "the segment once the disk is well again")


@test
def every_nth_write_of_a_session_fails_once():
    """Whichever write or flush of a whole session fails: acknowledged bytes and roots are there."""
    operations = [(WRITE, n) for n in range(0, 60, 7)] + [(FLUSH, n) for n in range(0, 40, 5)]
    with FailingDisk() as disk:
        for operation, skip_count in operations:
            with Store(*GEOMETRY, at=f"{disk.path}/store{next_number()}") as store:
                session_with_failure(disk, store, operation, skip_count)
            shutil.rmtree(store.dir)


def session_with_failure(disk, store, operation, skip_count):
    mnt = store.mount()
    disk.fail(operation, skip=skip_count, times=1)
    log = root = small = None
    try:
        mnt.start()
        log = Log(mnt)
        for n in range(8):
            log.append(rng.randrange(1, 40_000))
            if n % 3 == 2:
                publish(mnt, Pointer(log.name, 0))
                root = Pointer(log.name, 0)
        write(mnt / "space/small", b"one", sync=True)
        small = b"one"
        log.append()
    except (OSError, MountFailed) as error:
        if isinstance(error, OSError):
            check_in(error.errno, (errno.EIO, errno.EROFS), "errno")
    finally:
        disk.heal()
        if log:
            log.close()
    if mnt.daemon is not None:
        mnt.kill9()
    try:
        mnt.start()
        if log and log.acknowledged:
            log.check_after_crash(mnt)
        if root:
            check_eq(Pointer.of_json(read(mnt / "roots/current")), root, "roots/current")
        if small:
            check_eq(read(mnt / "space/small"), small, "the small file")
        mnt.umount()
    except Failure as failure:
        fail(f"{('read', 'write', 'flush')[operation]} number {skip_count} of the session failed: {failure}")
    finally:
        mnt.abandon()


@test
def injected_failures_on_the_paths_of_threads():
    """The same faults seen by system calls: `strace` injects them into fdatasync and pwrite."""
    need("strace")
    for call in ("fdatasync", "pwritev", "pwrite64"):
        with Store(*GEOMETRY) as store:
            wrapper = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                       f"inject={call}:error=EIO:when=9")
            with store.mount(env={"PROTOFS_DISK_PATH": "threads"}, wrapper=wrapper) as mnt:
                log = Log(mnt)
                failures = 0
                for _ in range(30):
                    try:
                        log.append(rng.randrange(1, 9000))
                    except OSError as error:
                        failures += 1
                        check_in(error.errno, (errno.EIO, errno.EROFS), f"errno after a failed {call}")
                log.close()
                os.kill(mnt.pid, signal.SIGKILL)
                mnt.daemon.wait()
                mnt.clean()
                mnt.ended()
                mnt.daemon_args = {}
                mnt.start()
                log.check_after_crash(mnt)
                mnt.umount()
                store.fsck("--deep")
                print(f"      {call} number 9 fails: {failures} fsyncs failed, nothing acknowledged is lost")


# ---- What a sandbox or a filesystem refuses ----


def works_on(mnt, path):
    """A mount that went another way to the disk does all the same things."""
    check_eq(stats(mnt)["disk_path"], path, "the way to the disk in stats.json")
    log = Log(mnt)
    for _ in range(20):
        log.append(rng.randrange(1, 30_000))
    publish(mnt, Pointer(log.name, 0))
    log.close()
    return log


@test
def io_uring_is_refused():
    """As a container's seccomp profile does."""
    need("strace")
    with Store(*GEOMETRY) as store:
        wrapper = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e",
                   "inject=io_uring_setup:error=EPERM")
        with store.mount(wrapper=wrapper) as mnt:
            log = works_on(mnt, "threads")
            os.kill(mnt.pid, signal.SIGKILL)
            mnt.daemon.wait()
            mnt.clean()
            mnt.ended()
            mnt.daemon_args = {}
            mnt.start()
            check_eq(log.check_after_crash(mnt), len(log.sent), "bytes after kill -9")
            mnt.umount()
            store.fsck("--deep")


NO_DIRECT = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
static int refuse(int fd, const char *path, int flags, unsigned mode)
{
	if (flags & O_DIRECT) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_openat, fd, path, flags, mode);
}
int openat(int fd, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	unsigned mode = va_arg(args, unsigned);
	va_end(args);
	return refuse(fd, path, flags, mode);
}
int openat64(int fd, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	unsigned mode = va_arg(args, unsigned);
	va_end(args);
	return refuse(fd, path, flags, mode);
}
"""


@test
def o_direct_is_refused():
    """As some filesystems do: commits are buffered, and as durable."""
    need("cc")
    if re.search("asan|tsan", PROTOFS):
        skip("a sanitizer's runtime and a preload both want to be loaded first")
    with Store(*GEOMETRY) as store:
        write(f"{store.base}/refuse.c", NO_DIRECT.encode())
        run(["cc", "-O1", "-shared", "-fPIC", "-o", f"{store.base}/refuse.so", f"{store.base}/refuse.c"])
        with store.mount(env={"LD_PRELOAD": f"{store.base}/refuse.so"}) as mnt:
            log = works_on(mnt, "io_uring, buffered (O_DIRECT refused)")
            parts = [os.readlink(f"/proc/{mnt.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{mnt.pid}/fd")]
            check(any("/segments/" in p for p in parts), f"no part is open: {parts}")
            for fd in os.listdir(f"/proc/{mnt.pid}/fdinfo"):
                with contextlib.suppress(OSError):
                    flags = int(re.search(r"flags:\s+(\d+)", read_text(f"/proc/{mnt.pid}/fdinfo/{fd}"))[1], 8)
                    check(not flags & os.O_DIRECT, f"descriptor {fd} is open with O_DIRECT")
            mnt.kill9()
            mnt.start()
            check_eq(log.check_after_crash(mnt), len(log.sent), "bytes after kill -9")
            mnt.umount()
            store.fsck("--deep")


# ---- A full disk ----


@contextlib.contextmanager
def small_disk(kind, size_mib):
    as_root()
    with temporary_dir() as base:
        path = f"{base}/disk"
        os.mkdir(path)
        if kind == "tmpfs":
            run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}M", "protofs-test", path])
        else:
            with open(f"{base}/image", "wb") as file:
                file.truncate(size_mib * MIB)
            run(["mkfs.ext4", "-q", "-F", "-m", "0", f"{base}/image"])
            run(["mount", "-o", "loop", f"{base}/image", path])
        try:
            yield path
        finally:
            run(["umount", path], ok=None)


def fill_until_full(kind):
    with small_disk(kind, 64) as disk, Store(*GEOMETRY, at=f"{disk}/store") as store, store.mount() as mnt:
        log = Log(mnt)
        fault = None
        publish(mnt, put(mnt, b"first root"))
        while fault is None:
            try:
                log.append(rng.choice([1000, 50_000, 400_000]))
            except OSError as error:
                fault = error
            check(len(log.sent) < 80 * MIB, "a disk of 64 MiB never gets full")
        check_eq(fault.errno, errno.ENOSPC, f"errno of a full disk after {len(log.sent)} bytes ({errors_text(mnt)})")
        check(log.acknowledged > 8 * MIB, f"only {log.acknowledged >> 20} MiB of 64 could be used")
        check_eq(read(log.path)[:log.acknowledged], bytes(log.sent[:log.acknowledged]), "what was acknowledged")
        # The reserve: a root can always be published.
        publish(mnt, Pointer(log.name, 0))
        check_eq(Pointer.of_json(read(mnt / "roots/current")), Pointer(log.name, 0), "roots/current on a full disk")
        check_errno(errno.ENOSPC, "still full", lambda: [log.append(400_000) for _ in range(30)])
        log.close()
        # Stop, crash, start: nothing is lost, and it still starts.
        mnt.kill9()
        mnt.start()
        log.check_after_crash(mnt)
        check_eq(Pointer.of_json(read(mnt / "roots/current")), Pointer(log.name, 0), "roots/current after kill -9")
        # An append may take what a seal has given up of the reserve: then a part stays unsealed, which costs nothing.
        mnt.umount(code=None)
        check(mnt.stopped_with == 0 or "No space left" in mnt.tail(), f"not stopped cleanly: {mnt.tail()}")
        store.fsck("--deep")
        mnt.start()
        log.check_after_crash(mnt)
        if kind == "tmpfs":  # room again, without a restart
            run(["mount", "-o", "remount,size=96M", disk])
            log2 = Log(mnt)
            log2.append(100_000)
            log2.close()
        print(f"      {kind}: full after {log.acknowledged >> 10} KiB")


@test
def a_full_tmpfs():
    fill_until_full("tmpfs")


@test
def a_full_ext4():
    fill_until_full("ext4")


@test
def no_space_at_each_step():
    """Every step with ever less room: each works, or says ENOSPC; what worked is there afterwards."""
    as_root()
    outcomes = []
    for free_kib in (0, 4, 16, 64, 200, 500, 1000, 2000, 4000, 9000, 16_000):
        with small_disk("tmpfs", 48) as disk, Store(*GEOMETRY, at=f"{disk}/store") as store:
            store_mount = store.mount()
            try:
                outcomes.append(f"{free_kib}K:{steps_with_little_room(disk, store, store_mount, free_kib)}")
            finally:
                store_mount.abandon()
    print(f"      steps done: {' '.join(outcomes)}")


def steps_with_little_room(disk, store, mnt, free_kib):
    mnt.start()
    first = put(mnt, b"first")
    publish(mnt, first)
    mnt.umount()
    room = os.statvfs(disk)
    ballast = max(0, room.f_bavail * room.f_frsize - free_kib * 1024)
    fd = os.open(f"{disk}/ballast", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(fd, 0, ballast) if ballast else None
    os.close(fd)
    done = []
    try:
        mnt.start()
    except MountFailed as failed:
        check_in("space", failed.output.lower(), "the message of a mount on a full disk")
        done.append("mount-")
    else:
        small_steps(mnt, done)
        try:
            publish(mnt, first)  # there is a reserve for it
        except OSError as error:
            fail(f"a root could not be published with {free_kib} KiB free: {error}\n{errors_text(mnt)}")
        mnt.kill9()
    os.unlink(f"{disk}/ballast")
    mnt.start()
    check_eq(read(mnt / f"atoms/{first}"), b"first", "the first atom")
    if "mount-" not in done:
        check_eq(len([n for n in os.listdir(mnt / "roots") if n.isdigit()]), 3 if "root" in done else 2, "roots")
    for name in ("segment", "small"):
        if name in done:
            check_eq(read(mnt / f"space/{SEGMENT if name == 'segment' else 'small'}"), PAYLOAD, f"the {name}")
    mnt.umount()
    store.fsck("--deep")
    return "+".join(done) or "none"


SEGMENT = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
PAYLOAD = frame(b"p" * 20_000)


def small_steps(mnt, done):
    steps = {
        "small": lambda: write(mnt / "space/small", PAYLOAD, sync=True),
        "segment": lambda: append(mnt / f"space/{SEGMENT}", PAYLOAD),
        "in": lambda: write(mnt / "atoms/in/x", PAYLOAD, sync=True),
        "root": lambda: publish(mnt, put_or_enospc(mnt)),
    }
    for name, step in steps.items():
        try:
            step()
            done.append(name)
        except OSError as error:
            check_eq(error.errno, errno.ENOSPC, f"errno of step {name} on a full disk ({error})\n{errors_text(mnt)}")


def put_or_enospc(mnt):
    result = None
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"second")
        file.flush()
        result = protofs("put", mnt, file.name, ok=(0, 1))
    if result.code == 1:
        check_in("space", result.err.lower(), "the message of put on a full disk")
        raise OSError(errno.ENOSPC, "put")
    return Pointer.parse(result.out)


@test
def init_on_a_full_disk():
    for kind, free_kib in (("tmpfs", 16), ("tmpfs", 600), ("ext4", 0), ("ext4", 40), ("ext4", 2000)):
        with small_disk(kind, 64) as disk:
            room = os.statvfs(disk)
            with contextlib.suppress(OSError):  # the last bytes of a disk are not always to be had
                write(f"{disk}/ballast", bytes(room.f_bavail * room.f_frsize - free_kib * 1024))
            done = protofs("init", f"{disk}/store", ok=(0, 1))
            os.unlink(f"{disk}/ballast")
            if done.code == 1:
                check_in("space", done.err.lower(), "the message")
                protofs("init", f"{disk}/store")  # what the failed one left is no obstacle
            put(f"{disk}/store", b"x")


main()
