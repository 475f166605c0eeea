#!/usr/bin/python3
"""Backup by copying files while a client writes, and restore by copying them into a fresh mount."""
from lib import *
import protodb_client as pdb

CLIENT = ["/usr/bin/python3", "-B", os.path.join(HERE, "protodb_client.py")]


@contextlib.contextmanager
def writing_client(mnt, log, *args):
    """A client that commits until the block ends."""
    process = subprocess.Popen([*CLIENT, mnt / "space", "--commits", "0", "--ack", log, "--seed",
                                str(rng.getrandbits(32)), *args], preexec_fn=die_with_parent)
    try:
        wait_for(lambda: len(pdb.acknowledged(log)) >= 20, "the client to commit", 20)
        yield process
        check(process.poll() is None, f"the client ended by itself with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def backup_root(mnt, target):
    """cp looks first and opens then; when the root moves in between it says so and copies nothing: again, then."""
    os.makedirs(target, exist_ok=True)
    wait_for(lambda: run(["cp", "-L", mnt / "roots/current", f"{target}/root"], ok=(0, 1)).code == 0, "cp -L", 20, 0)


def copy_with_cp(mnt, target):
    """The order matters: root, sums, segments. Segments only grow, so the copy has what the root needs."""
    backup_root(mnt, target)
    os.makedirs(f"{target}/wal", exist_ok=True)
    shell(f"cp {mnt}/wal/*.sum {target}/wal/")
    shell(f"for f in {mnt}/wal/*; do case $f in *.sum) ;; */in) ;; *) cp $f {target}/wal/ ;; esac; done")


def copy_with_rsync(mnt, target, *flags):
    backup_root(mnt, target)
    os.makedirs(f"{target}/wal", exist_ok=True)
    run(["rsync", "-a", "--include=*.sum", "--exclude=*", f"{mnt}/wal/", f"{target}/wal/"])
    run(["rsync", "-a", *flags, "--exclude=*.sum", "--exclude=/in", f"{mnt}/wal/", f"{target}/wal/"])


def segments_in(directory):
    """Those with bytes: one that a client has only opened is nothing yet."""
    return sorted(n for n in os.listdir(directory) if len(n) == 36 and os.path.getsize(f"{directory}/{n}"))


def copy_in(target, mnt, order):
    """Copies a backup into wal/in/, sums first or last."""
    data = segments_in(f"{target}/wal")
    sums = sorted(n for n in os.listdir(f"{target}/wal") if n.endswith(".sum") and n.removesuffix(".sum") in data)
    for name in {"sums first": sums + data, "sums last": data + sums}[order]:
        run(["cp", f"{target}/wal/{name}", f"{mnt}/wal/in/{name}"])
    # One that began after the sums were copied: no root of the backup needs it, but it is welcome.
    for name in set(data) - {name.removesuffix(".sum") for name in sums}:
        write(f"{mnt}/.ctl/accept", name.encode(), os.O_WRONLY)
    wait_for(lambda: set(data) <= set(segments_in(f"{mnt}/wal")), "the copied segments to appear in wal/", 20)


def check_restored(target, mnt):
    """Byte-identical, and the root is the backed-up one, whole."""
    for name in segments_in(f"{target}/wal"):
        check_eq(read(f"{mnt}/wal/{name}"), read(f"{target}/wal/{name}"), f"the restored segment {name}")
    want = Pointer.of_json(read(f"{target}/root"))
    protofs("root", mnt, "set", str(want))
    check_eq(Pointer.of_json(read(mnt / "roots/current")), want, "roots/current")
    check_eq(Pointer.of_json(read(mnt / "space/space_root")), want, "space_root")
    return pdb.walk(mnt / "space")


def up_to(log, chain):
    """The commits of CHAIN are a prefix of history: the newest one and everything before it."""
    check_eq([n for _, n, _ in chain], list(range(len(chain)))[::-1], "the commits of the chain")


def restore_and_check(target, order="sums first", options=()):
    with Store() as store, store.mount(*options) as mnt:
        copy_in(target, mnt, order)
        chain = check_restored(target, mnt)
        up_to(None, chain)
        # A restored segment is read-only.
        name = segments_in(f"{mnt}/wal")[0]
        if os.path.exists(mnt / f"space/{name}"):
            check_errno((errno.EROFS, errno.EPERM, errno.EACCES), "append to a restored segment", append,
                        mnt / f"space/{name}", frame(b"x"))
        mnt.kill9()
        mnt.start()
        check_eq(pdb.walk(mnt / "space"), chain, "the chain after kill -9 of the restored store")
        # And life goes on.
        run([*CLIENT, mnt / "space", "--commits", "3", "--name", "after"])
        check_eq(pdb.walk(mnt / "space")[3:], chain, "the restored chain below new commits")
        mnt.umount()
        store.fsck("--deep")
        return chain


@test
def cp_while_a_client_writes():
    with Store() as store, store.mount() as mnt:
        log, target = f"{store.base}/ack", f"{store.base}/backup"
        write(mnt / "space/notes.txt", b"small files are in a segment too\n", sync=True)
        with writing_client(mnt, log):
            before = len(pdb.acknowledged(log))
            copy_with_cp(mnt, target)
        chain = restore_and_check(target)
        check(len(chain) >= before, f"{len(chain)} commits were restored, {before} were acknowledged before the backup")
        restore_and_check(target, "sums last")
        print(f"      {len(chain)} commits restored of {len(pdb.acknowledged(log))} that the client made")


@test
def small_files_come_back():
    with Store() as store, store.mount() as mnt:
        target = f"{store.base}/backup"
        write(mnt / "space/notes.txt", b"small files are in a segment too\n", sync=True)
        append(mnt / f"space/{new_uuid()}", frame(b"data"))
        publish(mnt, put(mnt, b"root"))
        protofs("backup", mnt, target)
        with Store(init=False) as other:
            protofs("restore", target, other.dir)
            with other.mount() as again:
                check_eq(read(again / "space/notes.txt"), b"small files are in a segment too\n", "the small file")


@test
def rsync_append_is_incremental():
    need("rsync")
    with Store() as store, store.mount() as mnt:
        log, target = f"{store.base}/ack", f"{store.base}/backup"
        lengths = []
        with writing_client(mnt, log):
            for _ in range(3):
                copy_with_rsync(mnt, target, "--append")
                chain = pdb.walk(f"{target}/wal", Pointer.of_json(read(f"{target}/root")))
                lengths.append(len(chain))
                time.sleep(0.3)
        check(lengths == sorted(lengths) and lengths[0] < lengths[-1], f"commits in the three backups: {lengths}")
        check_eq(len(restore_and_check(target)), lengths[-1], "restored commits")
        print(f"      commits in the backups: {lengths}")


@test
def rsync_into_wal_in():
    need("rsync")
    with Store() as store, store.mount() as mnt:
        log, target = f"{store.base}/ack", f"{store.base}/backup"
        with writing_client(mnt, log):
            copy_with_rsync(mnt, target)
        with Store() as other, other.mount() as again:
            # --inplace: wal/in/ takes no temporary names.
            run(["rsync", "--inplace", "-r", f"{target}/wal/", again / "wal/in/"], ok=(0, 23, 24))
            names = segments_in(f"{target}/wal")
            wait_for(lambda: set(names) <= set(segments_in(again / "wal")), "the segments", 20)
            check_restored(target, again)


@test
def damage_in_the_copy_is_detected():
    with Store() as store, store.mount() as mnt:
        target = f"{store.base}/backup"
        name = new_uuid()
        data = b"".join(frame(random_bytes(50_000)) for _ in range(60))
        append(mnt / f"space/{name}", data)
        publish(mnt, Pointer(name, 0))
        copy_with_cp(mnt, target)
        for spot in (0, 9, MIB - 1, MIB, 2 * MIB + 17, len(data) - 1):
            with Store() as other, other.mount() as again:
                copy = f"{target}/wal/{name}"
                flip(copy, spot)
                for file in (f"{name}.sum", name):
                    with contextlib.suppress(OSError):  # the last close may say it already
                        shutil.copyfile(f"{target}/wal/{file}", again / f"wal/in/{file}")
                text = wait_for(lambda: errors_text(again).strip(), "a line in .ctl/errors", 10)
                check_in(name, text, ".ctl/errors names the segment")
                check(not os.path.exists(again / f"wal/{name}"), f"byte {spot} is flipped, and the segment entered")
                flip(copy, spot)
                # A good copy may follow a bad one.
                shutil.copyfile(f"{target}/wal/{name}", again / f"wal/in/{name}")
                wait_for(lambda: os.path.exists(again / f"wal/{name}"), "the good copy", 10)
                check_eq(read(again / f"wal/{name}"), data, "the good copy")


@test
def a_torn_end_of_the_copy_is_kept():
    """A copy that was cut, or that is longer than its sums, enters with what the sums prove."""
    with Store() as store, store.mount() as mnt:
        name = new_uuid()
        data = b"".join(frame(random_bytes(30_000)) for _ in range(100))
        append(mnt / f"space/{name}", data)
        sums = read(mnt / f"wal/{name}.sum")
        lines = sums.decode().split("\n")
        check(len(lines) >= 3, f"wal/{name}.sum has a line per MiB: {short(sums)}")
        offset, length, digest = lines[0].split()
        check_eq((int(offset), int(length)), (0, MIB), "the first line of the .sum")
        check(re.fullmatch(r"[0-9a-f]{32}", digest), f"{digest} is no XXH3-128 in hex")
        for cut in (len(data) - 5, MIB, 2 * MIB + 12345):
            with Store() as other, other.mount() as again:
                write(again / f"wal/in/{name}", data[:cut])
                write(again / f"wal/in/{name}.sum", sums)
                wait_for(lambda: os.path.exists(again / f"wal/{name}"), f"a copy cut at {cut}", 10)
                check_eq(read(again / f"wal/{name}"), data[:cut], f"the copy that was cut at {cut}")


@test
def without_sums_it_enters_when_accepted():
    with Store() as store, store.mount() as mnt:
        name, data = new_uuid(), b"".join(frame(random_bytes(1000)) for _ in range(30))
        write(mnt / f"wal/in/{name}", data)
        time.sleep(0.2)
        check(not os.path.exists(mnt / f"wal/{name}"), "a segment without .sum entered by itself")
        write(mnt / ".ctl/accept", name.encode() + b"\n", os.O_WRONLY)
        wait_for(lambda: os.path.exists(mnt / f"wal/{name}"), "the accepted segment", 10)
        check_eq(read(mnt / f"wal/{name}"), data, "the accepted segment")
        check_errno(errno.EEXIST, "copy in a segment that is there", write, mnt / f"wal/in/{name}", data)
        mnt.kill9()
        mnt.start()
        check_eq(read(mnt / f"wal/{name}"), data, "the accepted segment after kill -9")


@test
def backup_and_restore_verbs():
    with Store() as store, store.mount() as mnt:
        log, target = f"{store.base}/ack", f"{store.base}/backup"
        with writing_client(mnt, log):
            before = len(pdb.acknowledged(log))
            protofs("backup", mnt, target)
            again = len(pdb.acknowledged(log))
            protofs("backup", mnt, target)  # incremental
        with Store(init=False) as other:
            protofs("restore", target, other.dir)
            other.fsck("--deep")
            with other.mount() as restored:
                chain = pdb.walk(restored / "space")
                check(len(chain) >= max(before, again), f"{len(chain)} commits, {again} acknowledged before the backup")
                up_to(log, chain)
        # Of a store that nobody holds, too.
        final = pdb.walk(mnt / "space")
        mnt.umount()
        protofs("backup", store.dir, f"{store.base}/offline")
        with Store(init=False) as other:
            protofs("restore", f"{store.base}/offline", other.dir)
            with other.mount() as restored:
                check_eq(pdb.walk(restored / "space"), final, "the chain of the offline backup")


@test
def restore_refuses_a_damaged_backup():
    with Store() as store, store.mount() as mnt:
        target = f"{store.base}/backup"
        name = new_uuid()
        append(mnt / f"space/{name}", b"".join(frame(random_bytes(50_000)) for _ in range(30)))
        publish(mnt, Pointer(name, 0))
        protofs("backup", mnt, target)
        victims = [os.path.join(folder, file) for folder, _, files in os.walk(target) for file in files
                   if file.startswith(name) and not file.endswith(".sum")]
        check_eq(len(victims), 1, f"files of segment {name} in the backup")
        flip(victims[0], 777_777)
        with Store(init=False) as other:
            done = protofs("restore", target, other.dir, ok=1)
            check_in(name, done.err + done.out, "the message names the segment")


main()
