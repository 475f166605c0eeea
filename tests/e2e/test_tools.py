#!/usr/bin/python3
"""The tools that people have, over every view, with real files: JSON, MessagePack, text and binaries.

SIZE_MB=N sets how much is put in (300).
"""
import hashlib
import mmap

from lib import *

SIZE = int(os.environ.get("SIZE_MB") or 300) * MIB


def real_files(size):
    """Real files of this machine until SIZE bytes are found, small and large ones mixed."""
    found, total = [], 0
    roots = [p for p in ("/usr/lib/python3", "/usr/share", "/usr/include", "/usr/bin", "/usr/lib") if os.path.isdir(p)]
    walks = [os.walk(root) for root in roots]
    while walks and total < size:
        for walk in list(walks):
            try:
                folder, _, names = next(walk)
            except StopIteration:
                walks.remove(walk)
                continue
            for name in sorted(names)[:40]:
                path = os.path.join(folder, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                length = os.path.getsize(path)
                if 0 < length < 64 * MIB and total + length <= size + MIB:
                    found.append(path)
                    total += length
    check(total > size // 3, f"this machine has only {total >> 20} MiB of files to try with")
    return found, total


def json_documents():
    """Real JSON: Debian's package database."""
    packages, entry = [], {}
    with open("/var/lib/dpkg/status", errors="replace") as file:
        for line in file:
            if not line.strip():
                packages.append(entry)
                entry = {}
            elif ":" in line and not line.startswith(" "):
                key, value = line.split(":", 1)
                entry[key] = value.strip()
    check(len(packages) > 20, "the package database is empty")
    return [{**p, "number": n, "big": 2**63 + n, "exact": "0.10", "list": [None, True, 1.5, "é😀"]}
            for n, p in enumerate(packages)]


def put_files(mnt, paths, format="raw"):
    """One call with many files prints a pointer a line, in order."""
    pointers = []
    for at in range(0, len(paths), 500):
        lines = protofs("put", mnt, "--format", format, *paths[at:at + 500], timeout=120).out.split()
        pointers += [Pointer.parse(line) for line in lines]
    check_eq(len(pointers), len(paths), "pointers that put printed")
    return pointers


def sha(path):
    return run(["sha256sum", path]).out.split()[0]


class Filled:
    """A mount with real input in it, made once for all tests of this file."""

    instance = None

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.store = self.stack.enter_context(Store())
        self.mnt = self.stack.enter_context(self.store.mount())
        try:
            self.fill()
        except BaseException as error:
            error.add_note(self.mnt.tail())
            self.stack.__exit__(*sys.exc_info())
            raise

    def fill(self):
        mnt, base = self.mnt, self.store.base
        start = time.monotonic()
        self.files, total = real_files(SIZE)
        self.pointers = put_files(mnt, self.files)
        print(f"      put {len(self.files)} files, {total >> 20} MiB, in {time.monotonic() - start:.1f} s")
        self.documents = json_documents()[:400]
        os.mkdir(f"{base}/json")
        os.mkdir(f"{base}/msgpack")
        names = []
        for n, document in enumerate(self.documents):
            write(f"{base}/json/{n}", json.dumps(document).encode())
            write(f"{base}/msgpack/{n}", msgpack.packb(document))
            names.append(str(n))
        self.json = put_files(mnt, [f"{base}/json/{n}" for n in names], "json")
        self.msgpack = put_files(mnt, [f"{base}/msgpack/{n}" for n in names], "msgpack")
        # A foreign segment of the same atoms, and roots.
        self.foreign = new_uuid()
        self.foreign_data = b"".join(json_frame(d) + msgpack_frame(d) for d in self.documents)
        append(mnt / f"space/{self.foreign}", self.foreign_data)
        for pointer in self.json[:5]:
            publish(mnt, pointer)
        write(mnt / "space/space.config", b"[space]\n", sync=True)

    @classmethod
    def get(cls):
        if cls.instance is None:
            cls.instance = False
            cls.instance = cls()
        check(cls.instance, "the mount could not be filled (see the first failure)")
        return cls.instance


@test
def cat_cmp_and_hashes():
    it = Filled.get()
    for path, pointer in list(zip(it.files, it.pointers))[::7]:
        run(["cmp", path, it.mnt / f"atoms/{pointer}"])
    for path, pointer in list(zip(it.files, it.pointers))[::31]:
        check_eq(sha(it.mnt / f"atoms/{pointer}"), sha(path), f"sha256sum of the atom of {path}")
        check_eq(run(["wc", "-c", it.mnt / f"atoms/{pointer}"]).out.split()[0], str(os.path.getsize(path)), "wc -c")
        check_eq(protofs("cat", it.mnt, str(pointer), text=False).out, read(path), f"protofs cat of {path}")


@test
def jq():
    need("jq")
    it = Filled.get()
    for pointers, what in ((it.json, "JSON"), (it.msgpack, "MessagePack")):
        for n in range(0, len(pointers), 23):
            out = run(["jq", "-r", ".Package, .number", it.mnt / f"atoms/{pointers[n]}.json"]).out.split("\n")
            check_eq(out[:2], [it.documents[n]["Package"], str(n)], f"jq on a {what} atom's .json")
            value = json.loads(read(it.mnt / f"atoms/{pointers[n]}.json"))
            check_eq(value, it.documents[n], f"the {what} atom's .json: numbers survive")
    check_eq(run(["jq", "-r", ".Package", it.mnt / f"atoms/{it.json[3]}"]).out.strip(), it.documents[3]["Package"], "jq")
    run(["jq", ".", it.mnt / ".ctl/stats.json", it.mnt / "roots/1", it.mnt / "roots/current"])


@test
def find_and_ls():
    it = Filled.get()
    out = run(["find", it.mnt, "-not", "-type", "d"], timeout=120)
    check_eq(out.err, "", "what find complains about")
    paths = out.out.split("\n")
    atoms = [p for p in paths if re.search(r"/atoms/[0-9a-f-]{36}/\d+$", p)]
    want = len(it.files) + 2 * len(it.documents) + 2 * len(it.documents)
    check(len(atoms) >= want, f"find lists {len(atoms)} atoms of {want}")
    check(not [p for p in paths if p.endswith((".frame", ".json")) and "/atoms/" in p], "renderings are listed")
    large = run(["find", it.mnt / "atoms", "-type", "f", "-size", "+1000k"], timeout=120).out.split()
    check_eq(len(large), len([f for f in it.files if os.path.getsize(f) > 1000 * 1024]), "find -size +1000k")
    out = run(["ls", "-lR", it.mnt], timeout=120)
    check_eq(out.err, "", "what ls -lR complains about")


@test
def every_file_of_every_view():
    """What stat says, what read gives and what readdir lists agree; everything can be read to its end."""
    it = Filled.get()
    counted = {}
    for folder, folders, names in os.walk(it.mnt.path, onerror=lambda e: fail(f"walk: {e}")):
        view = os.path.relpath(folder, it.mnt.path).split("/")[0]
        for name in names if len(names) < 2000 else names[::9]:
            path = os.path.join(folder, name)
            info = os.stat(path)
            if view == ".ctl" and not info.st_mode & 0o444:
                continue  # a command
            data = read(path)
            if info.st_size or view not in (".ctl",):
                check_eq(len(data), info.st_size, f"bytes of {path}, whose st_size is {info.st_size}")
            counted[view] = counted.get(view, 0) + 1
    for view in ("atoms", "roots", "space", "wal", ".ctl"):
        check(counted.get(view), f"nothing was read in {view}: {counted}")
    print(f"      read to the end: {counted}")


@test
def copies_by_cp_and_diff():
    it = Filled.get()
    with temporary_dir() as out:
        run(["cp", "-r", it.mnt / f"atoms/{it.foreign}", f"{out}/atoms"], timeout=120)
        run(["diff", "-r", it.mnt / f"atoms/{it.foreign}", f"{out}/atoms"], timeout=120)
        frames, _ = parse_frames(it.foreign_data)
        check_eq({int(n) for n in os.listdir(f"{out}/atoms")}, {f.offset for f in frames}, "atoms that were copied")
        run(["cp", "-a", it.mnt / f"wal/{it.foreign}", f"{out}/segment"])
        check_eq(read(f"{out}/segment"), it.foreign_data, "a segment copied by cp")
        run(["cp", "-L", it.mnt / "roots/current", f"{out}/root"])
        check_eq(Pointer.of_json(read(f"{out}/root")), it.json[4], "the root copied by cp -L")


@test
def rsync_twice():
    need("rsync")
    it = Filled.get()
    with temporary_dir() as out:
        run(["rsync", "-a", "--exclude=/in", it.mnt.path + "/wal/", f"{out}/"], timeout=120)
        for name in os.listdir(it.mnt / "wal"):
            if name != "in":
                run(["cmp", it.mnt / f"wal/{name}", f"{out}/{name}"])
        again = run(["rsync", "-ai", "--exclude=/in", it.mnt.path + "/wal/", f"{out}/"], timeout=120).out
        check_eq([line for line in again.split("\n") if line.startswith(">f")], [], "files that rsync sends again")


@test
def tar_and_back():
    it = Filled.get()
    with temporary_dir() as out:
        out_text = shell(f"set -o pipefail; tar -C {it.mnt} --exclude=in -cf - wal roots | tar -C {out} -xf -", timeout=120)
        check(not re.search("shrank|changed|Cannot", out_text.err), f"tar says: {out_text.err}")
        for name in os.listdir(it.mnt / "wal"):
            if name != "in":
                run(["cmp", it.mnt / f"wal/{name}", f"{out}/wal/{name}"])
        check_eq(os.readlink(f"{out}/roots/current"), os.readlink(it.mnt / "roots/current"), "the symlink in the archive")
        check_eq(read(f"{out}/roots/3"), read(it.mnt / "roots/3"), "a root in the archive")


@test
def grep_r():
    it = Filled.get()
    needle = it.documents[11]["Package"]
    out = run(["grep", "-rlF", f'"Package": "{needle}"', it.mnt / f"atoms/{it.json[11].segment}"], timeout=120).out
    check_in(it.mnt / f"atoms/{it.json[11]}", out.split(), "what grep -r finds")


@test
def dd_in_odd_pieces():
    it = Filled.get()
    path = it.mnt / f"wal/{it.foreign}"
    for size, skip_blocks, count in ((1, 12345, 100), (777, 33, 50), (4096, 3, 20), (1 << 20, 0, 3), (65536, 1, 2)):
        out = run(["dd", f"if={path}", f"bs={size}", f"skip={skip_blocks}", f"count={count}", "status=none"], text=False).out
        at = size * skip_blocks
        check_eq(out, it.foreign_data[at:at + size * count], f"dd bs={size} skip={skip_blocks} count={count}")
    out = run(["tail", "-c", "5000", path], text=False).out
    check_eq(out, it.foreign_data[-5000:], "tail -c 5000")
    check_eq(shell(f"dd if={path} bs=1M iflag=direct status=none | sha256sum").out.split()[0],
             hashlib.sha256(it.foreign_data).hexdigest(), "dd with O_DIRECT")


@test
def git_hash_object():
    need("git")
    it = Filled.get()
    pairs = list(zip(it.files, it.pointers))[::11]
    of_files = run(["git", "hash-object", "--no-filters", *[f for f, _ in pairs]], timeout=120).out
    of_atoms = run(["git", "hash-object", "--no-filters", *[it.mnt / f"atoms/{p}" for _, p in pairs]], timeout=120).out
    check_eq(of_atoms, of_files, "git hash-object over atoms")


@test
def python_maps_and_seeks():
    it = Filled.get()
    with open(it.mnt / f"wal/{it.foreign}", "rb") as file:
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
            check_eq(view[1000:5000], it.foreign_data[1000:5000], "a private mapping of a segment")
    with open(it.mnt / f"atoms/{it.json[0]}") as file:
        check_eq(json.load(file), it.documents[0], "json.load of an atom")
    with open(it.mnt / f"wal/{it.foreign}", "rb") as file:
        for _ in range(200):
            at, size = rng.randrange(len(it.foreign_data)), rng.randrange(20_000)
            file.seek(at)
            check_eq(file.read(size), it.foreign_data[at:at + size], f"{size} bytes at {at}")
        file.seek(0, os.SEEK_END)
        check_eq(file.tell(), len(it.foreign_data), "the end of the segment")
    with temporary_dir() as out:
        shutil.copyfile(it.mnt / f"wal/{it.foreign}", f"{out}/x")  # copy_file_range or sendfile
        check_eq(read(f"{out}/x"), it.foreign_data, "shutil.copyfile")


@test
def sums_are_what_they_say():
    it = Filled.get()
    for name in os.listdir(it.mnt / "wal"):
        if not name.endswith(".sum"):
            continue
        data, at = read(it.mnt / f"wal/{name.removesuffix('.sum')}"), 0
        for line in read_text(it.mnt / f"wal/{name}").splitlines():
            offset, length, digest = line.split()
            check_eq(int(offset), at, f"the offset of a line of {name}")
            check_eq(digest, xxh3(data[at:at + int(length)]), f"the sum of {length} bytes at {at} of {name}")
            at += int(length)
        check_eq(at, len(data), f"bytes that {name} covers")


@test
def extended_attributes():
    it = Filled.get()
    path = it.mnt / f"atoms/{it.json[2]}"
    get = lambda p, name: os.getxattr(p, f"user.protofs.{name}").decode()
    check_eq(get(path, "pointer"), str(it.json[2]), "user.protofs.pointer")
    check_in(get(path, "format").lower(), ("1", "json"), "user.protofs.format")
    check_in(xxh3(read(path)), get(path, "xxh3"), "user.protofs.xxh3")
    check_in("local", get(path, "durable"), "user.protofs.durable")
    check_in(get(it.mnt / f"wal/{it.foreign}", "state"), ("open", "sealed"), "user.protofs.state of a segment")
    for name in ("format", "pointer", "xxh3", "durable", "state"):
        check_in(f"user.protofs.{name}", os.listxattr(path), "listxattr of an atom")
    check_errno(errno.ENODATA, "an attribute that there is not", os.getxattr, path, "user.other")
    check_errno((errno.EPERM, errno.EROFS, errno.ENOTSUP), "setxattr", os.setxattr, path, "user.protofs.format", b"2")


@test
def the_same_after_kill9_and_a_clean_stop():
    it = Filled.get()
    for how in ("kill -9", "a clean stop"):
        it.mnt.kill9() if how == "kill -9" else it.mnt.umount()
        it.mnt.start()
        check_eq(read(it.mnt / f"wal/{it.foreign}"), it.foreign_data, f"the segment after {how}")
        for path, pointer in list(zip(it.files, it.pointers))[::13]:
            run(["cmp", path, it.mnt / f"atoms/{pointer}"])
        cat = it.mnt / "wal"
        for name in os.listdir(cat):
            if name.endswith(".sum"):
                check(read(f"{cat}/{name}"), f"{name} is empty after {how}")
    for function in (every_file_of_every_view, rsync_twice, sums_are_what_they_say):
        function()  # sealed files go other ways than open ones
    peak = it.mnt.daemon.memory()[1]
    print(f"      the daemon's memory never exceeded {peak >> 20} MiB")
    if not re.search("asan|tsan", PROTOFS):
        check(peak < 64 * MIB, f"the daemon took {peak >> 20} MiB")
    it.mnt.umount()
    for name in it.store.segments():
        shell(f"cat {it.store.dir}/segments/{name}/* > /dev/null")
    check_eq(b"".join(read(p) for p in it.store.parts(it.foreign)), it.foreign_data, "cat segments/<uuid>/*")
    it.store.fsck("--deep")
    it.stack.close()
    Filled.instance = None


@test
def cp_and_rsync_into_atoms_in():
    with Store() as store, store.mount() as mnt:
        files = real_files(8 * MIB)[0][:60]
        with temporary_dir() as source:
            for n, path in enumerate(files):
                shutil.copyfile(path, f"{source}/{n}")
            run(["cp", *[f"{source}/{n}" for n in range(len(files))], mnt / "atoms/in/"])
            for n, path in enumerate(files):
                check_eq(read(mnt / f"atoms/in/{n}"), read(path), f"{path} through atoms/in")
        mnt.umount()
        store.fsck("--deep")


atexit.register(lambda: Filled.instance and Filled.instance.stack.close())
main()
