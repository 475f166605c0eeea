#!/usr/bin/python3
"""Everything in space/ at once: small files, locks, fsyncs and publications, with signals into the waits."""
import multiprocessing

from lib import *

SECONDS = 5 * int(os.environ.get("SCALE") or 1)
NAMES = [f"file{i}" for i in range(20)]
spawn = multiprocessing.get_context("fork")


class Interrupted(Exception):
    pass


armed = False


def on_alarm(number, stack):
    if armed:
        raise Interrupted


def impatiently(seconds, function, *args):
    """Calls FUNCTION and sends a signal into it after SECONDS. False if that ended it."""
    global armed
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)
        function(*args)
        armed = False
    except Interrupted:
        armed = False
        return False
    signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def change_small_file(space, r):
    a, b = f"{space}/{r.choice(NAMES)}", f"{space}/{r.choice(NAMES)}"
    kind = r.randrange(6)
    if kind == 0:
        os.rename(a, b)
    elif kind == 1:
        os.unlink(a)
    elif kind == 2:
        os.chmod(a, r.choice([0o600, 0o644]))
        os.utime(a)
    else:
        flags = r.choice([0, os.O_TRUNC, os.O_APPEND])
        fd = os.open(a, os.O_RDWR | os.O_CREAT | flags, 0o644)
        try:
            for _ in range(r.randrange(4)):
                os.write(fd, bytes([r.randrange(256)]) * r.randrange(20_000))
            if r.random() < 0.2:
                os.unlink(a)  # it stays usable
                os.write(fd, b"still")
            if r.random() < 0.3:
                os.ftruncate(fd, r.randrange(5000))
                check(os.fstat(fd).st_size < 5000 or not flags & os.O_TRUNC, "the size after ftruncate")
            if r.random() < 0.3:
                os.fsync(fd)
        finally:
            os.close(fd)


def segment_of(r):
    """A name that only this process has: forked ones share lib's generator."""
    return str(uuid.UUID(int=r.getrandbits(128), version=4))


def small_files(space, r, until):
    while time.monotonic() < until:
        try:
            change_small_file(space, r)
        except OSError as error:
            # Another process was faster with that name.
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise


def locks(space, r, until):
    """Takes the root lock, impatiently. Nobody holds it beside an exclusive holder."""
    taken = 0
    while time.monotonic() < until:
        fd = os.open(f"{space}/space_root.lock", os.O_RDWR | os.O_CREAT)
        if impatiently(r.uniform(0.0001, 0.004), fcntl.flock, fd, fcntl.LOCK_EX):
            taken += 1
            owner = f"{space}/owner"
            os.close(os.open(owner, os.O_RDWR | os.O_CREAT | os.O_EXCL))  # EEXIST: two hold it
            time.sleep(r.random() * 0.001)
            os.unlink(owner)
        os.close(fd)
    check(taken > 0, "nobody ever got the lock")


def fsyncs(space, r, until):
    """An interrupted fsync is no failed one, and a write is never interrupted half way."""
    fd = os.open(f"{space}/{segment_of(r)}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    size = 0
    while time.monotonic() < until:
        size += os.write(fd, frame(b"x" * r.randrange(5000)))
        impatiently(r.uniform(0.00002, 0.002), os.fsync, fd)
        check_eq(os.fstat(fd).st_size, size, "bytes in the segment")
    os.close(fd)


def roots(space, r, until):
    name = segment_of(r)
    fd = os.open(f"{space}/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    offset = n = 0
    while time.monotonic() < until:
        os.write(fd, frame(b"root"))
        temporary = f"{space}/space_root.{os.getpid()}.{n}.tmp"
        write(temporary, json.dumps({"transaction_id": name, "offset": offset}).encode(), sync=True)
        os.rename(temporary, f"{space}/space_root")
        json.loads(read(f"{space}/space_root"))
        offset += len(frame(b"root"))
        n += 1


def small_files_of(mnt):
    return {name: (read(f"{mnt}/space/{name}"), os.stat(f"{mnt}/space/{name}").st_mode)
            for name in os.listdir(mnt / "space") if name.startswith("file")}


def run(job, space, seed):
    try:
        job(space, random.Random(seed), time.monotonic() + SECONDS)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@test
def everything_at_once():
    with Store() as store, store.mount("noprotect") as mnt:
        jobs = [small_files] * 3 + [locks] * 3 + [fsyncs] * 2 + [roots] * 2
        processes = [spawn.Process(target=run, args=(job, mnt / "space", rng.getrandbits(32)))
                     for job in jobs]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS + 60)
            if process.is_alive():
                process.kill()
                fail("a process hangs")
            check_eq(process.exitcode, 0, "exit code of a process (its trace is above)")

        before = small_files_of(mnt)
        check_eq(read(mnt / ".ctl/errors"), b"", ".ctl/errors")
        mnt.remount()
        check_eq(small_files_of(mnt), before, "the small files after a clean stop")
        os.sync()
        write(mnt / "space/last", b"synced", sync=True)
        mnt.kill9()
        mnt.start()
        check_eq(small_files_of(mnt), before, "the small files after kill -9")
        check_eq(read(mnt / "space/last"), b"synced", "the one that was synced")
        mnt.umount()
        store.fsck("--deep")


main()
