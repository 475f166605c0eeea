#!/usr/bin/python3
"""Writers and readers in parallel: nothing torn, nothing lost, nothing read that was not written."""
import hashlib
import multiprocessing

from lib import *

SCALE = int(os.environ.get("SCALE") or 1)
spawn = multiprocessing.get_context("fork")


def sum_of(data):
    return hashlib.blake2b(data, digest_size=8).digest()


def record(writer, n, size):
    """A frame that says who wrote it, which one it is, and whether it is whole."""
    body = struct.pack("<II", writer, n) + (b"%d/%d." % (writer, n) * (size // 4 + 1))[:size]
    return frame(body + sum_of(body))



def check_record(payload):
    body = payload[:-8]
    check_eq(sum_of(body), payload[-8:], "the checksum of a record: it is torn")
    return struct.unpack_from("<II", body)


def in_processes(*jobs):
    """Runs functions in processes of their own; fails if one of them does."""
    def guarded(job):
        try:
            job()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [spawn.Process(target=guarded, args=(job,)) for job in jobs]
    for process in processes:
        process.start()
    return processes


def join(processes, timeout=90):
    deadline = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            fail(f"a process is not done after {timeout} s")
        check_eq(process.exitcode, 0, "exit code of a process (its trace is above)")


@test
def two_processes_append_to_one_file():
    count = 3000 * SCALE
    with Store() as store, store.mount() as mnt:
        path = mnt / "space" + f"/{new_uuid()}"
        seeds = [rng.getrandbits(32) for _ in range(2)]

        def writer(me):
            r = random.Random(seeds[me])
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            for n in range(count):
                data = record(me, n, r.choice([10, 100, 1000, r.randrange(20_000)]))
                check_eq(os.write(fd, data), len(data), "bytes of one write")
                if n % 100 == 0:
                    os.fsync(fd)
            os.close(fd)

        def reader():
            """Follows the file while it grows: whole records only, in each writer's order."""
            wal = path.replace("/space/", "/wal/")
            seen, at, buffer, next_n = 0, 0, b"", [0, 0]
            deadline = time.monotonic() + 80
            while seen < 2 * count and time.monotonic() < deadline:
                source = path if rng.random() < 0.5 or not os.path.exists(wal) else wal
                if not os.path.exists(source):
                    continue
                with open(source, "rb", buffering=0) as file:
                    file.seek(at)
                    piece = file.read(MIB)
                buffer += piece
                at += len(piece)
                frames, used = parse_frames(buffer)
                buffer = buffer[used:]
                for one in frames:
                    who, n = check_record(one.payload)
                    check_eq(n, next_n[who], f"the next record of writer {who}")
                    next_n[who] += 1
                seen += len(frames)
            check_eq(seen, 2 * count, "records that a reader saw")

        join(in_processes(lambda: writer(0), lambda: writer(1), reader))
        mnt.kill9()
        mnt.start()
        # Not all was fsynced, but a clean reader had it all; kill -9 of the daemon may only cut a tail.
        frames, used = parse_frames(read(path))
        size = os.stat(path).st_size
        counts = [0, 0]
        for one in frames:
            who, n = check_record(one.payload)
            check_eq(n, counts[who], f"record of writer {who} after kill -9")
            counts[who] += 1
        last_synced = (count - 1) // 100 * 100
        check(min(counts) > last_synced, f"records after kill -9: {counts}, fsynced: {last_synced + 1} of each")
        print(f"      2 x {count} records, {size >> 20} MiB, after kill -9 {counts}")


@test
def many_writers_each_with_fsync_and_readers():
    writers, count = 6, 150 * SCALE
    with Store() as store, store.mount() as mnt:
        names = [new_uuid() for _ in range(writers)]
        acks = [spawn.Value("i", 0) for _ in range(writers)]
        done = spawn.Event()

        def writer(me):
            fd = os.open(f"{mnt}/space/{names[me]}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
            for n in range(count):
                os.write(fd, record(me, n, (n * 37) % 5000))
                os.fsync(fd)
                acks[me].value = n + 1
            os.close(fd)

        def reader():
            while not done.is_set():
                me = random.randrange(writers)
                before = acks[me].value
                with contextlib.suppress(FileNotFoundError):
                    frames, _ = parse_frames(read(f"{mnt}/space/{names[me]}"))
                    for n, one in enumerate(frames):
                        check_eq(check_record(one.payload), (me, n), "a record")
                    check(len(frames) >= before, f"a reader saw {len(frames)} of {before} fsynced records")

        readers = in_processes(reader, reader)
        join(in_processes(*(lambda me=me: writer(me) for me in range(writers))))
        done.set()
        join(readers)
        mnt.kill9()
        mnt.start()
        for me in range(writers):
            frames, _ = parse_frames(read(f"{mnt}/wal/{names[me]}"))
            check_eq([check_record(f.payload) for f in frames], [(me, n) for n in range(count)], "all records")


@test
def group_commit_serves_many_waiters():
    with Store() as store, store.mount() as mnt:
        def writer(name):
            for _ in range(100):
                fd = os.open(f"{mnt}/space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
                os.write(fd, frame(b"x" * 500))
                os.fsync(fd)
                os.close(fd)
        name = new_uuid()
        join(in_processes(*(lambda: writer(name) for _ in range(8))))
        frames, _ = parse_frames(read(f"{mnt}/space/{name}"))
        check_eq(len(frames), 800, "records in the one file")


@test
def atoms_in_from_many_processes():
    writers, count = 4, 100 * SCALE
    with Store() as store, store.mount() as mnt:
        def writer(me):
            for n in range(count):
                payload = check_payload(me, n)
                name = f"{mnt}/atoms/in/{me}-{n}"
                with open(name, "wb") as file:
                    file.write(payload)
                check_eq(read(name), payload, "what a writer reads back through its link")

        def check_payload(me, n):
            return b"%d:%d:" % (me, n) * (1 + n * 7 % 300)

        join(in_processes(*(lambda me=me: writer(me) for me in range(writers))))
        targets = set()
        for me in range(writers):
            for n in range(count):
                name = f"{mnt}/atoms/in/{me}-{n}"
                targets.add(os.readlink(name))
                check_eq(read(name), check_payload(me, n), f"atoms/in/{me}-{n}")
        check_eq(len(targets), writers * count, "different atoms")


@test
def readers_follow_the_root():
    count = 150 * SCALE
    with Store() as store, store.mount() as mnt:
        done = spawn.Event()

        def publisher():
            name = new_uuid()
            fd = os.open(f"{mnt}/space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
            at = 0
            for n in range(count):
                data = json_frame({"n": n, "fill": "x" * (n * 91 % 3000)})
                os.write(fd, data)
                publish(mnt, Pointer(name, at))
                at += len(data)
            os.close(fd)
            done.set()

        def reader(path):
            last = -1
            while not done.is_set():
                try:
                    pointer = Pointer.of_json(read(path))
                except FileNotFoundError:
                    continue
                n = json.loads(read(f"{mnt}/atoms/{pointer}"))["n"]
                check(n >= last, f"{path} went back from {last} to {n}")
                last = n

        join(in_processes(publisher, lambda: reader(f"{mnt}/space/space_root"), lambda: reader(f"{mnt}/roots/current")))
        check_eq(len([n for n in os.listdir(mnt / "roots") if n.isdigit()]), count, "roots")


@test
def processes_race_for_the_root():
    """Compare-and-swap through roots/current: of all that start from one root, one wins."""
    count = 60
    with Store() as store, store.mount() as mnt:
        pointers = [put(mnt, b"root %d" % n) for n in range(2)]
        os.symlink(f"../atoms/{pointers[0]}", mnt / "roots/new")
        os.rename(mnt / "roots/new", mnt / "roots/current")
        wins = spawn.Value("i", 0)
        losses = spawn.Value("i", 0)

        def racer(me):
            for n in range(count):
                name = f"{mnt}/roots/new-{me}"
                os.symlink(f"../atoms/{pointers[n % 2]}", name)
                try:
                    os.rename(name, f"{mnt}/roots/current")
                    counter = wins
                except OSError as error:
                    check_eq(error.errno, errno.EBUSY, "errno of a lost race")
                    os.unlink(name)
                    counter = losses
                with counter.get_lock():
                    counter.value += 1

        join(in_processes(*(lambda me=me: racer(me) for me in range(3))))
        check_eq(wins.value + losses.value, 3 * count, "attempts")
        check_eq(json.loads(read(mnt / "roots/current"))["seq"], 1 + wins.value, "the newest root's number")
        print(f"      {wins.value} published, {losses.value} told EBUSY")


main()
