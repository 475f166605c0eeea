#!/usr/bin/python3
"""Rounds of kill -9 at random instants: every acknowledged byte is there after each of them.

ROUNDS=N sets how many (500), half of them with small parts. The writers of a round, each a thread or a process of its own:

    foreign  appends frames to a segment of space/, fsync after each
    batch    appends frames to another one, no fsync, then publishes a root: the barrier covers both
    in       writes atoms/in/<name>, fsync, reads the link
    put      `protofs put MNT`, every eighth round

What they were told is durable is noted in this process, outside. After the remount the segments must begin with
what was acknowledged and hold nothing that was not sent; links' atoms and roots must be as they were.
"""
from lib import *

ROUNDS = int(os.environ.get("ROUNDS") or 500)
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EIO, errno.EINTR)


class Stream:
    """A segment that one writer appends to over several rounds: what was sent, and how much is acknowledged."""

    def __init__(self, name):
        self.name = name
        self.sent = bytearray()
        self.acknowledged = 0

    def check(self, mnt, final=False):
        path = f"{mnt}/space/{self.name}"
        if not os.path.exists(path):
            check(self.acknowledged == 0, f"segment {self.name} is lost: {self.acknowledged} bytes were acknowledged")
            self.sent.clear()
            return
        got = read(path)
        check(len(got) >= self.acknowledged,
              f"segment {self.name}: {len(got)} bytes are left of {self.acknowledged} acknowledged ones")
        check_eq(got, bytes(self.sent[:len(got)]), f"the bytes of segment {self.name}")
        if final:
            check_eq(read(f"{mnt}/wal/{self.name}"), got, f"wal/{self.name}")
        # What lives on is now durable: the next round appends behind it.
        del self.sent[len(got):]
        self.acknowledged = len(got)


class Writers:
    def __init__(self):
        self.foreign = Stream(new_uuid())
        self.batch = Stream(new_uuid())
        self.old = []      # streams that are complete
        self.atoms = {}    # pointer -> payload, acknowledged
        self.sent = set()  # payloads that were sent to atoms/in or put
        self.roots = []    # (pointer, payload) acknowledged, in order
        self.offered = []  # roots whose publication was begun
        self.put = None
        self.failure = None
        self.mnt = None

    def roll(self):
        for name in ("foreign", "batch"):
            stream = getattr(self, name)
            if len(stream.sent) > 4 * MIB:
                self.old.append(stream)
                setattr(self, name, Stream(new_uuid()))

    def guard(self, function, random_state):
        def body():
            try:
                function(random.Random(random_state))
            except OSError as error:
                if error.errno not in GONE or not self.killed:
                    self.failure = (function.__name__, error)
            except BaseException as error:
                self.failure = (function.__name__, error)
        return body

    def some_frame(self, r):
        # Mostly small ones; some that cross blocks, tables and the daemon's buffers.
        size = r.choice([r.randrange(1, 200), r.randrange(1, 5000), r.randrange(1, 60_000), 4096 - 9,
                         r.randrange(1, 900_000) if r.random() < 0.1 else 10])
        return frame(r.randbytes(size), RAW)

    def write_foreign(self, r):
        stream = self.foreign
        fd = os.open(f"{self.mnt}/space/{stream.name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                data = self.some_frame(r)
                stream.sent += data
                write_all(fd, data)
                os.fsync(fd)
                stream.acknowledged = len(stream.sent)
        finally:
            os.close(fd)

    def write_batch(self, r):
        stream = self.batch
        fd = os.open(f"{self.mnt}/space/{stream.name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                for _ in range(r.randrange(1, 20)):
                    pointer = Pointer(stream.name, len(stream.sent))
                    data = self.some_frame(r)
                    stream.sent += data
                    write_all(fd, data)
                root = (pointer, data[HEADER.size:])
                length = len(stream.sent)
                self.offered.append(root)
                publish(self.mnt, pointer)
                stream.acknowledged = length
                self.roots.append(root)
        finally:
            os.close(fd)

    def write_in(self, r):
        for n in range(1_000_000):
            payload = r.randbytes(r.randrange(16, 20_000))
            self.sent.add(payload)
            name = f"{self.mnt}/atoms/in/{r.getrandbits(64):x}"
            fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                write_all(fd, payload)
                os.fsync(fd)
            finally:
                os.close(fd)
            target = os.readlink(name)
            self.atoms[target.removeprefix("../")] = payload

    def start_put(self, base):
        self.put_payload = random_bytes(rng.randrange(16, 100_000))
        self.sent.add(self.put_payload)
        write(f"{base}/put", self.put_payload)
        self.put = subprocess.Popen([PROTOFS, "put", self.mnt, f"{base}/put"], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end_put(self):
        if self.put is None:
            return
        out, err = self.put.communicate(timeout=30)
        check_output(err, "protofs put")
        check(self.put.returncode >= 0, f"protofs put died of signal {-self.put.returncode}: {err}")
        if self.put.returncode == 0:
            self.atoms[str(Pointer.parse(out))] = self.put_payload
        self.put = None

    def round(self, mnt, base, with_put):
        self.mnt, self.killed, self.failure = str(mnt), False, None
        threads = [threading.Thread(target=self.guard(f, rng.getrandbits(64)))
                   for f in (self.write_foreign, self.write_batch, self.write_in)]
        for thread in threads:
            thread.start()
        if with_put:
            self.start_put(base)
        time.sleep(rng.choice([0.002, 0.01, 0.03]) * rng.random() * 2)
        self.killed = True
        mnt.kill9(clean=False)
        for thread in threads:
            thread.join(30)
            check(not thread.is_alive(), "a writer hangs after the daemon's death")
        self.end_put()
        mnt.clean()
        if self.failure:
            raise self.failure[1]

    def check(self, mnt, everything):
        for stream in (self.foreign, self.batch, *(self.old if everything else ())):
            stream.check(mnt, everything)
        pointers = list(self.atoms)
        for pointer in pointers if everything else pointers[-20:]:
            check_eq(read(f"{mnt}/atoms/{pointer}"), self.atoms[pointer], f"atoms/{pointer}")
        self.check_root(mnt)

    def check_root(self, mnt):
        if not self.roots and not os.path.exists(mnt / "roots/current"):
            return
        current = Pointer.of_json(read(mnt / "roots/current"))
        newest = self.roots[-1][0] if self.roots else None
        allowed = [newest, *(p for p, _ in self.offered[-1:])]
        check(current in allowed, f"roots/current is {current}, want one of {', '.join(map(str, allowed))}")
        payload = next(data for pointer, data in reversed(self.offered) if pointer == current)
        check_eq(read(f"{mnt}/atoms/{current}"), payload, "the atom of roots/current")
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), current, "space_root")
        # One that was begun and is there counts from now on.
        if current != newest:
            self.roots.append((current, payload))


def rounds(count, *init):
    """Each start takes another way to the disk."""
    with Store(*init) as store, store.mount() as mnt:
        writers = Writers()
        for number in range(1, count + 1):
            writers.round(mnt, store.base, number % 8 == 0)
            mnt.daemon_args = {"env": {"PROTOFS_DISK_PATH": rng.choice(("io_uring", "io_uring", "threads", "buffered"))}}
            mnt.start()
            writers.check(mnt, everything=number % 50 == 0)
            writers.roll()
            if number % 100 == 0:
                mnt.umount()
                store.fsck("--deep")
                mnt.start()
                writers.check(mnt, everything=True)
            if number % 25 == 0 and len(writers.atoms) > 3000:
                writers.atoms = dict(list(writers.atoms.items())[-1500:])
        writers.check(mnt, everything=True)
        roots = [int(n) for n in os.listdir(mnt / "roots") if n.isdigit()]
        check(len(roots) >= len(writers.roots), f"{len(roots)} roots are kept, {len(writers.roots)} were published")
        total = sum(s.acknowledged for s in (writers.foreign, writers.batch, *writers.old))
        print(f"      {count} rounds, {total >> 20} MiB, {len(writers.roots)} roots, "
              f"{len(writers.atoms)} atoms acknowledged, 0 lost")
        mnt.umount()
        store.fsck("--deep")


@test
def acknowledged_bytes_survive():
    rounds(ROUNDS - ROUNDS // 2)


@test
def acknowledged_bytes_survive_in_small_parts():
    """Parts of 4 MiB, whose tables fill up: they end, are sealed and follow each other all the time."""
    rounds(ROUNDS // 2, "--block-size", "64K")


main(timeout=240 + ROUNDS)
