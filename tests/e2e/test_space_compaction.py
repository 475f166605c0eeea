#!/usr/bin/python3
"""space/: small files that are rewritten for long neither fill the disk of a running mount nor lose anything."""
import threading

from lib import *

FLOOR = MIB  # less than this is never compacted while mounted
FACTOR = 4


def kept(mnt):
    """Bytes in segments of small files: all, in a store that holds nothing else."""
    size = 0
    for name in os.listdir(mnt / "wal"):
        if len(name) != 36:
            continue
        try:
            size += os.stat(mnt / f"wal/{name}").st_size
        except FileNotFoundError:
            pass  # removed meanwhile
    return size


def replace(path, data, sync=False):
    write(f"{path}.new", data, sync=sync)
    os.rename(f"{path}.new", path)


def read_cold(fd):
    """What the daemon says, not what the kernel remembers."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(fd, 2 * MIB, 0)


def check_files(mnt, want, when):
    check_eq(set(small_names(mnt)), set(want), f"names ({when})")
    for name, data in want.items():
        check_eq(read(mnt / f"space/{name}"), data, f"{name} ({when})")


@test
def a_running_mount_stays_small():
    with Store() as store, store.mount() as mnt:
        space = mnt / "space"
        want = {"quiet": random_bytes(5000), "empty": b""}
        for name, data in want.items():
            write(f"{space}/{name}", data)
        os.chmod(f"{space}/quiet", 0o640)
        os.utime(f"{space}/quiet", ns=(10**18, 10**18 + 1))
        gone, gone_data = os.open(f"{space}/gone", os.O_RDWR | os.O_CREAT), random_bytes(3000)
        os.write(gone, gone_data)
        os.fsync(gone)
        os.unlink(f"{space}/gone")
        quiet = os.open(f"{space}/quiet", os.O_RDONLY)
        replace(f"{space}/old", b"of old" * 100)
        old = os.open(f"{space}/old", os.O_RDONLY)
        replace(f"{space}/old", b"new")
        want["old"] = b"new"
        write(f"{space}/brief", b"x")

        body, written, most = random_bytes(6000), 0, 0
        segments = set()
        grown = os.open(f"{space}/grown", os.O_RDWR | os.O_CREAT)
        begin, n = time.monotonic(), 0
        while written < 60 * MIB or time.monotonic() - begin < 4:
            n += 1
            data = b"%d " % n + body[:rng.randrange(6000)]
            name = rng.choice(("a", "b", "c", "old"))
            (replace if n % 2 else write)(f"{space}/{name}", data)
            want[name] = data
            written += len(data)
            if n % 50 == 0:
                os.unlink(f"{space}/brief")
                write(f"{space}/brief", b"brief %d" % n)
                want["brief"] = b"brief %d" % n
                os.pwrite(grown, b"%d" % n, 0)
                os.fsync(grown)
                want["grown"] = read(f"{space}/grown")
            if n % 500 == 0:
                most = max(most, kept(mnt))
                segments |= {name for name in os.listdir(mnt / "wal") if len(name) == 36}
                check_eq(read_cold(quiet), want["quiet"], "an open file that nobody changes")
                check_eq(read_cold(gone), gone_data, "an unlinked open file")
                check_eq(read_cold(old), b"of old" * 100, "a replaced open file")
        live = sum(map(len, want.values())) + 200 * len(want)
        print(f"      {written >> 20} MiB in {n} rewrites: at most {most >> 10} KiB kept, {len(segments)} segments seen")
        check(len(segments) > 1, "it was never compacted")
        check(most < written // 2, f"{most} of {written} bytes were kept")
        bound = max(FLOOR, FACTOR * live)
        wait_for(lambda: kept(mnt) <= bound, f"at most {bound} bytes kept, not {kept(mnt)}", 10, 0.2)
        check_files(mnt, want, "while mounted")
        check_eq(read_cold(gone), gone_data, "an unlinked open file")
        check_eq(read_cold(old), b"of old" * 100, "a replaced open file")
        check_eq(stat.S_IMODE(os.stat(f"{space}/quiet").st_mode), 0o640, "the mode of a file that was only copied")
        for name in segments - set(os.listdir(mnt / "wal")):
            check(not os.path.exists(mnt / f"wal/{name}"), f"the removed segment {name} is still found in wal/")
            check(not os.path.exists(mnt / f"wal/{name}.sum"), f"the sums of {name} are still found in wal/")
            check(not os.path.exists(mnt / f"atoms/{name}"), f"the atoms of {name} are still found")

        fd = os.open(space, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)
        mnt.kill9()
        for fd in (gone, quiet, old, grown):
            close_dead(fd)
        mnt.start()
        check_files(mnt, want, "after kill -9")
        mnt.umount()
        mnt.start()
        check_files(mnt, want, "after a clean stop")
        check_eq(os.stat(f"{space}/quiet").st_mtime_ns, 10**18 + 1, "the time of a file that was only copied")
        mnt.umount()
        store.fsck("--deep")


@test
def a_crash_during_it_loses_nothing():
    """Several write, replace and sync; each knows what it was told is durable."""
    with Store() as store, store.mount() as mnt:
        want = {f"quiet{n}": random_bytes(rng.randrange(50_000)) for n in range(8)}
        for name, data in want.items():
            write(mnt / f"space/{name}", data, sync=True)
        body = random_bytes(60_000)
        done = [0, 0, 0]

        def churn(who):
            n = done[who]
            try:
                while True:
                    n += 1
                    data = b"%d %d " % (who, n) + body
                    path = mnt / f"space/busy{who}"
                    (replace if n % 3 else write)(path, data, sync=n % 2 == 0)
                    if n % 3:  # the rename comes behind the fsync
                        fd = os.open(path, os.O_RDWR)
                        os.fsync(fd)
                        os.close(fd)
                        done[who] = n
            except OSError:
                pass  # the daemon was killed

        for n in range(6):
            threads = [threading.Thread(target=churn, args=(who,)) for who in range(len(done))]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.9, 2.2))
            mnt.kill9()
            for thread in threads:
                thread.join()
            mnt.start()
            for name, data in want.items():
                check_eq(read(mnt / f"space/{name}"), data, f"{name} after crash {n}")
            for who in range(len(done)):
                data = read(mnt / f"space/busy{who}")
                if not data:
                    continue  # it was just truncated
                head = data.split(b" ", 2)
                check_eq((int(head[0]), head[2]), (who, body), f"busy{who} after crash {n}")
                check(int(head[1]) >= done[who], f"busy{who} is {int(head[1])} after crash {n}, {done[who]} was durable")
                done[who] = int(head[1])
        mnt.umount()
        store.fsck("--deep")


main()
