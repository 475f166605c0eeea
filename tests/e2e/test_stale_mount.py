#!/usr/bin/python3
"""Daemons in the background, signals, dead mounts, and processes that are stuck when a daemon dies."""
from lib import *


def start_background(store, mountpoint, *options, ok=0):
    args = ["mount", store, mountpoint] + (["-o", ",".join(options)] if options else [])
    return protofs(*args, ok=ok)


def end(mountpoint):
    pid = daemon_pid(mountpoint)
    if pid:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}") or exe_of(pid) is None, "the daemon to end")
    run(["umount", "-l", mountpoint], ok=None)


@test
def in_the_background():
    with Store() as store:
        mountpoint = f"{store.base}/m"
        os.mkdir(mountpoint)
        try:
            start_background(store, mountpoint)
            # When the command returns it is mounted.
            check(is_mounted(mountpoint), "not mounted when `protofs mount` has returned")
            pid = daemon_pid(mountpoint)
            check(pid, "no daemon")
            check_eq(os.readlink(f"/proc/{pid}/cwd"), "/", "the daemon's working directory")
            for fd in (0, 1, 2):
                check_eq(os.readlink(f"/proc/{pid}/fd/{fd}"), "/dev/null", f"descriptor {fd} of the daemon")
            name = new_uuid()
            append(f"{mountpoint}/space/{name}", frame(b"x"), sync=False)
            protofs("umount", mountpoint)
            check(not is_mounted(mountpoint), "mounted after umount")
            # When umount returns the store is free and everything is committed.
            check_eq(protofs("ls", store, "segments").out.count(name), 1, "the segment after umount")
            store.fsck("--deep")
        finally:
            end(mountpoint)


@test
def errors_of_a_start_in_the_background_are_seen():
    with Store() as store:
        mountpoint = f"{store.base}/m"
        os.mkdir(mountpoint)
        with store.mount():
            done = start_background(store, mountpoint, ok=1)
            check_in(store.dir, done.err, "the message")
            check(not is_mounted(mountpoint), "it is mounted")


@test
def signals_commit_and_unmount():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Store() as store, store.mount() as mnt:
            name = new_uuid()
            data = b""
            fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
            for _ in range(50):
                os.write(fd, frame(b"x" * 1000))
                data += frame(b"x" * 1000)
            os.close(fd)
            write(mnt / "space/small", b"small")
            mnt.terminate(number)
            mnt.start()
            check_eq(read(mnt / f"space/{name}"), data, f"the segment after {number}")
            check_eq(read(mnt / "space/small"), b"small", f"the small file after {number}")
            mnt.umount()
            store.fsck("--deep")


@test
def a_signal_with_files_open():
    """Open files keep no daemon alive for ever: what was asked is finished and committed."""
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.write(fd, frame(b"x"))
        os.kill(mnt.pid, signal.SIGTERM)
        try:
            mnt.daemon.process.wait(5)
        except subprocess.TimeoutExpired:
            os.close(fd)
            fd = None
            mnt.daemon.wait(20)
        finally:
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)
        mnt.ended()
        mnt.clean()
        mnt.start()
        check_eq(read(mnt / f"space/{name}"), frame(b"x"), "the segment")


@test
def a_dead_mount_is_cleaned_by_the_next():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"before")
        mnt.kill9(clean=False)
        check(is_mounted(mnt.path), "the mount of a dead daemon is gone by itself")
        check_errno((errno.ENOTCONN, errno.ECONNABORTED), "a dead mount", os.listdir, mnt.path)
        done = start_background(store, mnt.path)
        try:
            check_eq(read(mnt / f"atoms/{pointer}"), b"before", "the atom in the new mount")
            check_eq(len(mounted_below(mnt.path)), 1, "mounts at that place")
            print(f"      it said: {done.err.strip() or 'nothing'}")
        finally:
            end(mnt.path)
        check(not is_mounted(mnt.path), "still mounted")


@test
def a_dead_mount_of_another_store_or_with_users():
    with Store() as store, store.mount() as mnt:
        path = mnt / f"space/{new_uuid()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.write(fd, frame(b"x"))
        os.fsync(fd)
        mnt.kill9(clean=False)
        # Somebody still holds a file of the dead mount open.
        start_background(store, mnt.path)
        try:
            check_errno((errno.ENOTCONN, errno.ECONNABORTED), "a write to the dead mount's file", os.write, fd, b"x")
            close_dead(fd)
            check_eq(read(path), frame(b"x"), "the segment in the new mount")
        finally:
            end(mnt.path)


@test
def umount_of_a_dead_mount():
    with Store() as store, store.mount() as mnt:
        put(mnt, b"x")
        mnt.kill9(clean=False)
        protofs("umount", mnt.path)
        check(not is_mounted(mnt.path), "a dead mount is still there after umount")


@test
def umount_of_a_busy_mount_says_so():
    with Store() as store, store.mount() as mnt:
        write(mnt / "space/small", b"x")
        fd = os.open(mnt / "space/small", os.O_RDONLY)
        done = protofs("umount", mnt.path, ok=1)
        check_in("busy", done.err.lower(), "the message")
        check(is_mounted(mnt.path), "a busy mount is gone")
        os.close(fd)


@test
def umount_flush_is_refused():
    with Store() as store, store.mount() as mnt:
        done = protofs("umount", mnt.path, "--flush", ok=2)
        check_in("cloud", done.err.lower(), "the message names what is missing")
        check(is_mounted(mnt.path), "unmounted nevertheless")


@test
def a_stopped_daemon_does_not_hold_its_callers_for_ever():
    """Processes parked in fsync, flock or read die of SIGKILL, also when the daemon does not answer."""
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        path = mnt / f"space/{name}"
        append(path, frame(b"x"))
        holder = os.open(mnt / "space/space_root.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(holder, fcntl.LOCK_EX)
        children = []
        jobs = {
            "flock": lambda: fcntl.flock(os.open(mnt / "space/space_root.lock", os.O_RDWR), fcntl.LOCK_EX),
        }
        for job in jobs.values():
            child = os.fork()
            if child == 0:
                with contextlib.suppress(OSError):
                    job()
                os._exit(0)
            children.append(child)
        time.sleep(0.3)
        for child in children:
            os.kill(child, signal.SIGKILL)
            wait_for(lambda c=child: os.waitpid(c, os.WNOHANG)[0] == c, "a parked process to die", 5)
        os.close(holder)
        append(path, frame(b"y"))  # the daemon serves on


@test
def kill9_while_parked_in_fsync():
    """A disk that takes its time: the process in fsync dies at once, the commit goes on."""
    need("strace")
    with Store() as store:
        # Every fdatasync of the daemon takes 0.7 s more.
        wrapper = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e",
                   "inject=fdatasync,fsync:delay_enter=700000")
        with store.mount(env={"PROTOFS_DISK_PATH": "threads"}, wrapper=wrapper, timeout=60) as mnt:
            name = new_uuid()
            child = os.fork()
            if child == 0:
                with contextlib.suppress(OSError):
                    append(mnt / f"space/{name}", frame(b"parked"))
                os._exit(0)
            wait_for(lambda: os.path.exists(mnt / f"space/{name}") and os.stat(mnt / f"space/{name}").st_size,
                     "the bytes", 20)
            time.sleep(0.3)  # it is in fsync now
            start = time.monotonic()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            took = time.monotonic() - start
            check(took < 0.5, f"a process parked in fsync died {took:.1f} s after kill -9")
            check_eq(read(mnt / f"space/{name}"), frame(b"parked"), "its bytes")
            # Interrupted by a signal, fsync answers EINTR.
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
                signal.siginterrupt(signal.SIGALRM, True)
                fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_APPEND)
                os.write(fd, frame(b"second"))
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                os.fsync(fd)
                os._exit(0)
            start = time.monotonic()
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(f"      killed after {took * 1000:.0f} ms; interrupted one ended with {code} "
                  f"after {time.monotonic() - start:.1f} s")
            mnt.daemon_args = {}
            os.kill(mnt.pid, signal.SIGKILL)
            mnt.daemon.wait()
            mnt.clean()
            mnt.ended()
            mnt.start()
            check_eq(read(mnt / f"space/{name}")[:15], frame(b"parked"), "its bytes after a restart")


@test
def many_starts_and_stops():
    with Store() as store, store.mount() as mnt:
        pointers = []
        for n in range(15):
            pointers.append(put(mnt, b"%d" % n))
            publish(mnt, pointers[-1])
            if n % 3 == 2:
                mnt.kill9()
                mnt.start()
            else:
                mnt.remount()
        for n, pointer in enumerate(pointers):
            check_eq(read(mnt / f"atoms/{pointer}"), b"%d" % n, f"atom {n}")
            check_eq(Pointer.of_json(read(mnt / f"roots/{n + 1}")), pointer, f"roots/{n + 1}")


main()
