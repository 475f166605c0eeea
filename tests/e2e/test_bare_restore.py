#!/usr/bin/python3
"""What was uploaded is not hostage: list, get and cat give every segment back, and a fresh store takes them in."""
import bare_restore
from lib import *
from s3_lib import *

BLOCK = 64 << 10


def fill(mnt):
    """Segments of clients and atoms of ours, a root, a small file. Returns the pointer of the root and its payload."""
    segment = new_uuid()
    for size in (10, 3 * BLOCK, 100, BLOCK, 7):
        append(f"{mnt}/space/{segment}", frame(random_bytes(size)))
    append(f"{mnt}/space/{new_uuid()}", frame(random_bytes(5 * BLOCK - 9)))  # ends where a block does
    write(f"{mnt}/space/notes.txt", b"a small file", sync=True)
    payload = random_bytes(2 * BLOCK + 1)
    pointer = put(mnt, payload)
    publish(mnt, pointer)
    return pointer, payload


def uploaded(store, env=None):
    """Fills STORE, unmounts it with all uploaded; what fill() returns."""
    mount = store.mount("upload_interval=20ms", env=env)
    mount.start()
    found = fill(mount)
    time.sleep(0.1)  # deltas, too
    append(f"{mount}/space/{new_uuid()}", frame(b"the last one"))
    protofs("umount", mount, "--flush", timeout=60)
    mount.daemon.wait()
    mount.ended()
    return found


def check_restored(store, directory, pointer, payload):
    """The files that bare_restore wrote are the segments, and a fresh store made of them has the root."""
    for uuid in store.segments():
        whole = b"".join(read(path) for path in store.parts(uuid))
        check_eq(read(os.path.join(directory, uuid)), whole, f"segment {uuid}")
    with open(os.path.join(directory, "manifest.json")) as file:
        root = json.load(file)["root"]
    check_eq((root["transaction_id"], root["offset"]), tuple(pointer), "the root of the newest manifest")
    with Store() as fresh, fresh.mount() as mnt:
        for uuid in store.segments():
            shutil.copy(os.path.join(directory, uuid), f"{mnt}/wal/in/{uuid}")
            write(f"{mnt}/.ctl/accept", uuid.encode() + b"\n", flags=os.O_WRONLY)
        protofs("root", mnt, "set", pointer)
        check_eq(read(f"{mnt}/atoms/{pointer}"), payload, "the atom of the root")
        check_eq(read(f"{mnt}/space/notes.txt"), b"a small file", "a small file")


@test
def a_directory_gives_everything_back():
    with temporary_dir() as top:
        place, out = f"{top}/place", f"{top}/out"
        os.mkdir(place)
        with Store("--block-size", str(BLOCK), "--cloud", f"file://{place}") as store:
            pointer, payload = uploaded(store)
            done = run([sys.executable, "-B", f"{HERE}/bare_restore.py", f"file://{place}", out])
            check_eq(sorted(line.split()[0] for line in done.out.splitlines()), store.segments(), "segments that were restored")
            check_restored(store, out, pointer, payload)
            run([sys.executable, "-B", f"{HERE}/bare_restore.py", "--compare", place, store.dir])


@test
def cat_alone_gives_back_what_has_no_deltas():
    with temporary_dir() as place, Store("--block-size", str(BLOCK), "--cloud", f"file://{place}") as store:
        pointer, _ = uploaded(store)
        whole = b"".join(read(path) for path in store.parts(pointer.segment))
        # Ours has ended: its last block is there, short, and its deltas are gone.
        done = run(["bash", "-c", f"cat {place}/wal/{pointer.segment}/*"], text=False)
        check_eq(done.out, whole, "cat of the blocks of a segment that has ended")


@test
def a_bucket_gives_everything_back():
    server = rgw()
    bucket = new_bucket(server)
    env = clean_environment(**server.environment())
    with temporary_dir() as out, Store("--block-size", str(BLOCK), "--cloud", f"s3://{bucket}/a/b") as store:
        pointer, payload = uploaded(store, env)
        run([sys.executable, "-B", f"{HERE}/bare_restore.py", f"s3://{bucket}/a/b", out], env=env)
        check_restored(store, out, pointer, payload)


@test
def the_comparison_finds_what_is_wrong():
    with temporary_dir() as place, Store("--block-size", str(BLOCK), "--cloud", f"file://{place}") as store:
        uploaded(store)
        source = bare_restore.Directory(place)
        check_eq(bare_restore.compare(source, store.dir), [], "problems")
        keys = [key for key, size in source.list() if bare_restore.KEY.fullmatch(key) and size > 10]
        key = rng.choice(keys)
        flip(f"{place}/{key}", 5)
        check_in(key, "\n".join(bare_restore.compare(source, store.dir)), "problems with a flipped bit")
        flip(f"{place}/{key}", 5)
        os.unlink(f"{place}/{key}")
        check(bare_restore.compare(source, store.dir), "a missing block is no problem")
        write(f"{place}/{key}", b"short")
        check(bare_restore.compare(source, store.dir) if "+" not in key else True, "a short block is no problem")


main()
