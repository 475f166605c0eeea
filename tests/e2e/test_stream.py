#!/usr/bin/python3
"""Much goes through and little stays: the daemon's memory has a limit, whatever the size of the input.

STREAM_MB=N sets how much is streamed (768), ATOMS=N how many small atoms are made and listed (400,000).
"""
import hashlib

from lib import *

STREAM = int(os.environ.get("STREAM_MB") or 768) * MIB
ATOMS = int(os.environ.get("ATOMS") or 400_000)
SANITIZED = re.search("asan|tsan", PROTOFS or "")
BUSY_MAX, IDLE_MAX = 64 * MIB, 16 * MIB


def check_memory(mnt, most, what):
    now, peak = mnt.daemon.memory()
    print(f"      {what}: {now >> 20} MiB resident, {peak >> 20} MiB at most")
    if not SANITIZED:
        check(peak < most, f"{what}: the daemon took {peak >> 20} MiB, the limit is {most >> 20}")


def pieces(seed, size):
    """The same random megabytes again, to write and to compare."""
    r = random.Random(seed)
    base = r.randbytes(MIB)
    for n in range(size // MIB):
        yield n.to_bytes(8, "little") + base[8:]


@test
def an_idle_mount_is_small():
    with Store() as store, store.mount() as mnt:
        time.sleep(0.3)
        check_memory(mnt, IDLE_MAX, "idle")


@test
def a_segment_of_several_parts_streams_through():
    with Store() as store, store.mount() as mnt:
        name, seed = new_uuid(), rng.getrandbits(32)
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        written = hashlib.blake2b()
        start = time.monotonic()
        for piece in pieces(seed, STREAM):
            write_all(fd, piece)
            written.update(piece)
        os.fsync(fd)
        os.close(fd)
        took = time.monotonic() - start
        print(f"      written: {STREAM / MIB / took:.0f} MiB/s with hashing")
        check_memory(mnt, BUSY_MAX, "after writing")
        for how in ("at once", "after kill -9", "after a clean stop"):
            if how == "after kill -9":
                mnt.kill9()
                mnt.start()
            elif how == "after a clean stop":
                mnt.remount()
            got = hashlib.blake2b()
            with open(mnt / f"wal/{name}", "rb", buffering=0) as file:
                while piece := file.read(MIB):
                    got.update(piece)
            check_eq(got.hexdigest(), written.hexdigest(), f"the segment, read {how}")
            check_memory(mnt, BUSY_MAX, f"after reading {how}")
        mnt.umount()
        check(len(store.parts(name)) == -(-STREAM // (320 * MIB)) or len(store.parts(name)) >= 2,
              f"parts: {len(store.parts(name))}")
        check_eq(sum(os.path.getsize(p) for p in store.parts(name)), STREAM, "bytes of its parts after a clean stop")


@test
def one_large_atom_through_atoms_in():
    with Store() as store, store.mount() as mnt:
        size = min(STREAM, 400 * MIB)
        seed = rng.getrandbits(32)
        written = hashlib.blake2b()
        with open(mnt / "atoms/in/large", "wb", buffering=0) as file:
            for piece in pieces(seed, size):
                write_all(file.fileno(), piece)
                written.update(piece)
        check_memory(mnt, BUSY_MAX, "after an atom of 400 MiB")
        got = hashlib.blake2b()
        with open(mnt / "atoms/in/large", "rb", buffering=0) as file:
            while piece := file.read(MIB):
                got.update(piece)
        check_eq(got.hexdigest(), written.hexdigest(), "the atom")
        check_memory(mnt, BUSY_MAX, "after reading it")
        mnt.umount()
        check_eq(os.listdir(store / "staging"), [], "what is left in staging/ after a clean stop")


@test
def many_small_atoms_are_listed():
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        one = frame(b"x" * 20)
        fd = os.open(mnt / f"space/{name}", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        block = one * (MIB // len(one))
        per_block = MIB // len(one)
        left = ATOMS
        while left:
            count = min(left, per_block)
            write_all(fd, block[:count * len(one)])
            left -= count
        os.fsync(fd)
        os.close(fd)
        for how in ("open", "sealed"):
            if how == "sealed":
                mnt.remount()
            start = time.monotonic()
            out = shell(f"ls -U {mnt}/atoms/{name} | wc -l", timeout=120).out
            print(f"      ls -U of {ATOMS} atoms, {how}: {time.monotonic() - start:.1f} s")
            check_eq(int(out), ATOMS, f"atoms that ls lists ({how})")
            check_memory(mnt, BUSY_MAX, f"after ls ({how})")
            for n in (0, 1, ATOMS // 2, ATOMS - 1):
                check_eq(read(mnt / f"atoms/{name}/{n * len(one)}"), b"x" * 20, f"atom {n} ({how})")


@test
def threads_and_descriptors_do_not_grow():
    with Store() as store, store.mount() as mnt:
        def counts():
            return len(os.listdir(f"/proc/{mnt.pid}/fd")), mnt.daemon.threads()

        def work():
            for n in range(40):
                append(mnt / f"space/{new_uuid()}", frame(b"x" * 100), sync=n % 10 == 0)
                publish(mnt, put_quickly(mnt, n))
            write(mnt / ".ctl/seal", b"1", os.O_WRONLY)

        work()
        before = counts()
        for _ in range(3):
            work()
        after = counts()
        print(f"      descriptors and threads: {before}, then {after}")
        check(after[0] <= before[0] + 64 and after[1] <= before[1] + 8, f"grew from {before} to {after}")
        check_memory(mnt, BUSY_MAX, "after 160 segments and roots")


def put_quickly(mnt, n):
    name = mnt / f"atoms/in/{n}"
    write(name, b"%d" % n, sync=True)
    pointer = Pointer.parse(os.readlink(name).removeprefix("../"))
    os.unlink(name)
    return pointer


main()
