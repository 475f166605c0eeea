#!/usr/bin/python3
"""Every verb of the program, on a store that is not mounted and through the mount: results, exit codes, messages."""
from lib import *

VERBS = ("init", "mount", "umount", "put", "cat", "ls", "root", "status", "fsck", "scrub", "backup", "restore",
         "clone", "prune", "bench", "version")


def refused(*args, code=1, says=(), **kwargs):
    """A command that must fail with CODE, say why on stderr (all of SAYS), and print nothing."""
    done = protofs(*args, ok=code, **kwargs)
    for word in says:
        check_in(str(word), done.err, f"the message of protofs {' '.join(map(str, args))}")
    check(done.err.startswith("protofs"), f"the message does not begin with the program's name: {done.err!r}")
    return done


@contextlib.contextmanager
def both(*init_args, **mount_args):
    """Yields a function that names the same store twice: first itself, later its mount."""
    with Store(*init_args) as store:

        def places():
            yield store
            with store.mount(**mount_args) as mnt:
                yield mnt

        yield places


def ls(where, *what):
    return json.loads(protofs("ls", where, *what, "--json").out)


def root(where):
    return json.loads(protofs("root", where, "show", "--json").out)


def background(store, mountpoint, *flags, ok=0):
    return protofs("mount", store, mountpoint, *flags, ok=ok)


# ---- The program itself --------------------------------------------------------------------------


@test
def help_is_everywhere():
    text = protofs("--help").out
    for verb in VERBS:
        check(re.search(rf"^  {verb} ", text, re.M), f"--help does not name {verb}")
        own = protofs(verb, "--help").out
        check_in(f"Usage: protofs {verb}", own, f"{verb} --help")
        check_in("--verbose", own, f"{verb} --help")
        check_eq(protofs("help", verb).out, own, f"protofs help {verb}")
    check_eq(protofs("help").out, text, "protofs help")


@test
def wrong_use_is_2():
    refused(code=2, says=["a verb is missing"])
    refused("frobnicate", code=2, says=["frobnicate"])
    refused("help", "frobnicate", code=2, says=["frobnicate"])
    for verb in VERBS:
        refused(verb, "--no-such-option", code=2)
        if verb not in ("bench", "version"):
            refused(verb, code=2)
    for args in (["init", "a", "b"], ["version", "x"], ["ls", "a", "files"], ["ls", "a", "atoms"],
                 ["ls", "a", "atoms", "x"], ["ls", "a", "roots", "x"], ["root", "a"], ["root", "a", "drop"],
                 ["root", "a", "set"], ["root", "a", "rollback"], ["root", "a", "rollback", "0"],
                 ["root", "a", "rollback", "x"], ["root", "a", "log", "x"], ["root", "a", "log", "-n", "0"],
                 ["root", "a", "set", "x"], ["cat", "a"], ["cat", "a", "x"],
                 ["cat", "a", f"{new_uuid()}/0", "--json", "--frame"], ["put", "a"], ["put", "a", "-f", "xml", "b"],
                 ["prune", "a"], ["prune", "a", "-k", "0"], ["prune", "a", "-k", "soon"], ["prune", "a", "-k", "3y"],
                 ["status", "a", "--watch", "-n", "x"], ["bench", "-t", "0"], ["umount", "a", "-w", "never"]):
        refused(*args, code=2)


@test
def version_names_its_parts():
    text = protofs("version").out
    for pattern in (r"^protofs \d+\.\d+\.\d+$", r"^libfuse 3\.\d+", r"^liburing \d+\.\d+", r"^kernel Linux "):
        check(re.search(pattern, text, re.M), f"no {pattern} in {text!r}")
    check_eq(protofs("--version").out, text, "--version")


@test
def output_that_cannot_be_written_is_an_error():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([PROTOFS, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    check_eq(done.returncode, 1, f"exit code with a full disk behind stdout: {done.stderr}")
    with Store() as store:
        pointer = put(store, b"x" * 100_000)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROTOFS, "cat", store.dir, str(pointer)], stdout=full, stderr=subprocess.PIPE,
                                  text=True, check=False)
        check_eq(done.returncode, 1, "exit code of cat")
        check_in("No space left", done.stderr, "the message of cat")


# ---- init ----------------------------------------------------------------------------------------


@test
def init_makes_a_store_once():
    with temporary_dir() as base:
        protofs("init", f"{base}/a", "--block-size", "64K", "--node", "7", "--durability", "local")
        stats = json.loads(protofs("status", f"{base}/a", "--json").out)
        check_eq((stats["block_size"], stats["node"]), (65536, 7), "geometry")
        refused("init", f"{base}/a", says=[f"{base}/a", "holds a store already"])
        os.mkdir(f"{base}/b")
        protofs("init", f"{base}/b/")
        refused("init", f"{base}/c/d", says=["No such file"])
        refused("init", "mem:", code=2, says=["mem:"])
        refused("init", f"{base}/e", "--durability", "quorum", code=2, says=["quorum", "peers"])
        refused("init", f"{base}/e", "--durability", "cloud", code=2, says=["cloud", "bucket"])
        refused("init", f"{base}/e", "--cloud", "bucket", code=2, says=["s3://"])
        refused("init", f"{base}/e", "--cloud", "s3://key:secret@bucket", code=2, says=["no name and password"])
        refused("init", f"{base}/e", "--cloud", "mem:", code=2, says=["mem:"])
        refused("init", f"{base}/e", "--disk-max", "1G", code=2, says=["bucket"])
        refused("init", f"{base}/e", "--node", "0", code=2)
        check_eq(sorted(os.listdir(base)), ["a", "b"], "what the refused ones have left")


# ---- put and cat ---------------------------------------------------------------------------------


@test
def put_and_cat():
    with both() as places:
        for where in places():
            with temporary_dir() as base:
                contents = {"small": b"x", "page": random_bytes(4096), "large": random_bytes(5 * MIB + 3)}
                for name, data in contents.items():
                    write(f"{base}/{name}", data)
                lines = protofs("put", where, *(f"{base}/{name}" for name in contents)).out.splitlines()
                check_eq(len(lines), len(contents), "lines of put")
                for line, data in zip(lines, contents.values()):
                    got = protofs("cat", where, line, text=False).out
                    check_eq(got, data, f"cat of {line} in {where}")
                    framed = protofs("cat", where, line, "--frame", text=False).out
                    check_eq(framed, frame(data), f"cat --frame of {line} in {where}")


@test
def put_from_standard_input():
    data = random_bytes(3 * MIB + 1)
    with both() as places:
        for where in places():
            pointer = protofs("put", where, "-", input=data, text=False).out.decode().strip()
            check_eq(protofs("cat", where, pointer, text=False).out, data, f"what came through a pipe into {where}")
            pointer = protofs("put", where, "--format", "json", "-", input='{"a": 1}').out.strip()
            check_eq(json.loads(protofs("cat", where, pointer, "--json").out), {"a": 1}, "JSON from a pipe")
            packed = msgpack.packb({"a": [1, -2, 3.5, None, "ä"]})
            pointer = protofs("put", where, "--format", "msgpack", "-", input=packed, text=False).out.decode().strip()
            check_eq(json.loads(protofs("cat", where, pointer, "--json").out), {"a": [1, -2, 3.5, None, "ä"]},
                     "MessagePack from a pipe")
            frame_ = protofs("cat", where, pointer, "--frame", text=False).out
            check_eq(frame_, frame(packed, MSGPACK), "the frame of MessagePack")


@test
def numbers_survive():
    text = '{"big": 123456789012345678901234567890, "precise": 0.1000000000000000055511151231257827}'
    with both() as places:
        for where in places():
            pointer = protofs("put", where, "-f", "json", "-", input=text).out.strip()
            shown = protofs("cat", where, pointer, "--json").out
            for number in ("123456789012345678901234567890", "0.1000000000000000055511151231257827"):
                check_in(number, shown, f"cat --json of {where}")
            check_eq(protofs("cat", where, pointer).out, text, "the payload itself")


@test
def put_says_which_byte_is_wrong():
    cases = {"json": ((b'{"a": 1', "byte 7"), (b'{"a": 1}}', "byte 8"), (b"[1,]", "byte"), (b"\xff", "byte 0")),
             "msgpack": ((b"\xc1", "byte 0"), (b"\x92\x01", "byte"), (b"\x01\x02", "byte 1"))}
    with both() as places, temporary_dir() as base:
        for where in places():
            before = ls(where, "segments")
            for format, bad in cases.items():
                for data, says in bad:
                    write(f"{base}/bad", data)
                    refused("put", where, "-f", format, f"{base}/bad", says=[f"{base}/bad", "invalid", says])
                    done = protofs("put", where, "-f", format, "-", input=data, text=False, ok=1)
                    check_in(says, done.err.decode(), "the message about standard input")
            check_eq(ls(where, "segments"), before, f"segments of {where} after what was refused")


@test
def put_stops_at_the_first_failure():
    with both() as places, temporary_dir() as base:
        for name in ("a", "b", "c"):
            write(f"{base}/{name}", name.encode())
        os.mkdir(f"{base}/directory")
        write(f"{base}/empty", b"")
        for where in places():
            for bad, says in (("none", "No such file"), ("directory", "directory"), ("empty", "empty")):
                done = protofs("put", where, *(f"{base}/{n}" for n in ("a", "b", bad, "c")), ok=1)
                check_in(f"{base}/{bad}", done.err, "the message")
                check_in(says, done.err, "the message")
                lines = done.out.splitlines()
                check_eq(len(lines), 2, f"lines of put before {bad}")
                check_eq([protofs("cat", where, line).out for line in lines], ["a", "b"], "what was put before it")


@test
def put_is_durable_when_it_returns():
    with Store() as store, store.mount() as mnt:
        pointers = [put(mnt, b"%d" % n) for n in range(5)]
        mnt.kill9()
        for n, pointer in enumerate(pointers):
            check_eq(protofs("cat", store, str(pointer)).out, str(n), "an atom after kill -9")


@test
def json_of_more_than_a_mount_checks():
    """A mount takes JSON up to 16 MiB; a store that is not mounted any."""
    data = b'{"a": "' + b"x" * (17 * MIB) + b'"}'
    with both() as places, temporary_dir() as base:
        write(f"{base}/large.json", data)
        for where in places():
            if isinstance(where, Store):
                pointer = Pointer.parse(protofs("put", where, "-f", "json", f"{base}/large.json").out)
                got = protofs("cat", where, str(pointer), "--frame", text=False).out
                check_eq(got, frame(data, JSON), "the frame")
                refused("cat", where, str(pointer), "--json", says=["too large"])
            else:
                refused("put", where, "-f", "json", f"{base}/large.json", says=["16 MiB"])
                refused("cat", where, str(pointer), "--json", says=["too large"])


@test
def pointers_that_lead_nowhere():
    with both() as places:
        for where in places():
            pointer = put(where, b"0123456789")
            refused("cat", where, f"{pointer.segment}/1000000", says=["past the end", pointer.segment])
            refused("cat", where, f"{pointer.segment}/{pointer.offset + 1}", says=["no atom begins there"])
            other = new_uuid()
            refused("cat", where, f"{other}/0", says=[f"there is no segment {other}"])
            refused("ls", where, "atoms", other, says=[f"there is no segment {other}"])
            refused("root", where, "set", f"{pointer.segment}/{pointer.offset + 1}", says=["cannot set the root"])
            refused("root", where, "set", f"{other}/0", says=["cannot set the root"])
            refused("root", where, "show", says=["no root"])
            refused("root", where, "show", "3", says=["3"])
            refused("root", where, "rollback", "3", says=["3"])
            check_eq(ls(where, "roots"), [], "roots after what was refused")
            for name in (pointer.segment.upper(), pointer.segment.replace("-", ""), "..", "in"):
                refused("cat", where, f"{name}/0", code=2, says=["is no pointer"])
                refused("ls", where, "atoms", name, code=2, says=["is no segment"])


# ---- ls and root ---------------------------------------------------------------------------------


@test
def ls_lists_what_there_is():
    with both() as places:
        for where in places():
            pointers = [put(where, b"x" * size) for size in (1, 100, 10_000)]
            segments = {s["segment"]: s for s in ls(where, "segments")}
            for pointer in pointers:
                found = segments[pointer.segment]
                check(found["length"] > pointer.offset, f"length of {found}")
                check_eq(found["durable"], found["length"], f"durable bytes of {found}")
                check_in(found["state"], ("open", "sealed"), "state")
                check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", found["modified"]), f"time of {found}")
                atoms = {a["pointer"]: a for a in ls(where, "atoms", pointer.segment)}
                check_in(str(pointer), atoms, "atoms")
            sizes = [next(a["size"] for a in ls(where, "atoms", p.segment) if a["offset"] == p.offset)
                     for p in pointers]
            check_eq(sizes, [1, 100, 10_000], "sizes of atoms")
            # In words: as many lines, the same names.
            lines = protofs("ls", where).out.splitlines()
            check_eq(sorted(line.split()[0] for line in lines), sorted(segments), "ls in words")
            lines = protofs("ls", where, "atoms", pointers[0].segment).out.splitlines()
            check_in(str(pointers[0]), [line.split()[0] for line in lines], "ls atoms in words")


@test
def roots_are_published_and_rolled_back():
    with both() as places:
        seq = 0
        for where in places():
            first, second = put(where, b"first"), put(where, b"second")
            for pointer in (first, second):
                published = json.loads(protofs("root", where, "set", str(pointer), "--json").out)
                seq += 1
                check_eq(published["seq"], seq, f"seq in {where}")
                check_eq((published["transaction_id"], published["offset"]), tuple(pointer), "the new root")
                check_eq(root(where), published, "root show after set")
            protofs("root", where, "rollback", str(seq - 1))
            seq += 1
            check_eq(root(where)["seq"], seq, "seq after a rollback")
            check_eq(Pointer.of_json(json.dumps(root(where))), first, "the root after a rollback")
            log = json.loads(protofs("root", where, "log", "--json").out)
            check_eq([r["seq"] for r in log], list(range(seq, 0, -1)), "root log, the newest first")
            check_eq(ls(where, "roots"), log[::-1], "ls roots")
            check_eq(len(protofs("root", where, "log", "-n", "2").out.splitlines()), 2, "root log -n 2")
            check_eq(json.loads(protofs("root", where, "show", "1", "--json").out), log[-1], "root show 1")
            for key in ("transaction_id", "offset", "seq", "time", "node"):
                check_in(key, log[0], "members of a root")


@test
def roots_as_the_mount_shows_them():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"x")
        protofs("root", mnt, "set", str(pointer))
        shown = read_text(mnt / "roots/1")
        check_eq(protofs("root", mnt, "show", "--json").out, shown, "root show --json and roots/1")
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), pointer, "space_root after root set")
        mnt.umount()
        check_eq(protofs("root", store, "show", "--json").out, shown, "root show --json of the store itself")


@test
def expect_is_a_compare_and_swap():
    with both() as places:
        seq = 0
        for where in places():
            pointer = put(where, b"x")
            refused("root", where, "set", str(pointer), "--expect", str(seq + 1), says=[f"newest root is {seq}"])
            protofs("root", where, "set", str(pointer), "--expect", str(seq))
            refused("root", where, "set", str(pointer), "--expect", str(seq), says=[f"newest root is {seq + 1}"])
            protofs("root", where, "rollback", str(seq + 1), "--expect", str(seq + 1))
            seq += 2
            check_eq(root(where)["seq"], seq, "the newest root")


@test
def publishers_race():
    """Many at once with --expect: one of each round wins."""
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"x")
        for seq in range(3):
            racers = [subprocess.Popen([PROTOFS, "root", mnt.path, "set", str(pointer), "--expect", str(seq)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                      for _ in range(6)]
            codes = sorted(racer.wait(30) for racer in racers)
            for racer in racers:
                racer.stderr.close()
            check_eq(codes, [0] + [1] * 5, f"exit codes of racers for root {seq + 1}")
        # Without --expect all get through.
        racers = [subprocess.Popen([PROTOFS, "root", mnt.path, "set", str(pointer)], stdout=subprocess.DEVNULL)
                  for _ in range(6)]
        check_eq([racer.wait(60) for racer in racers], [0] * 6, "exit codes without --expect")
        check_eq(root(mnt)["seq"], 9, "roots after all races")


# ---- status --------------------------------------------------------------------------------------


@test
def status_in_words_and_json():
    with both() as places:
        for where in places():
            put(where, b"x" * 1000)
            stats = json.loads(protofs("status", where, "--json").out)
            check(stats["bytes_stored"] >= 1000, f"bytes stored: {stats}")
            check_eq((stats["read_only"], stats["damaged"]), (False, False), "state")
            text = protofs("status", where).out
            check_in(stats["store"], text, "status in words")
            many = protofs("status", where, "--json", "--watch", "--count", "2").out
            decoder, values = json.JSONDecoder(), []
            while many.strip():
                value, end = decoder.raw_decode(many.lstrip())
                many = many.lstrip()[end:]
                values.append(value["store"])
            check_eq(values, [stats["store"]] * 2, "two snapshots")
    refused("status", "/", says=["not a store"])


# ---- fsck, scrub, prune --------------------------------------------------------------------------


@test
def fsck_and_scrub_of_a_sound_store():
    with both() as places:
        for where in places():
            put(where, random_bytes(3 * MIB))
            put(where, b"x")
            scrub = json.loads(protofs("scrub", where, "--json").out)
            check(scrub["bytes"] >= 3 * MIB and scrub["problems"] == 0, f"scrub of {where}: {scrub}")
            check_in("0 problems", protofs("scrub", where).out, "scrub in words")
            if isinstance(where, Store):
                deep = json.loads(protofs("fsck", where, "--deep", "--json").out)
                check(deep["bytes_verified"] >= 3 * MIB and deep["problems"] == 0, f"fsck --deep: {deep}")
                check_in("clean", protofs("fsck", where).out, "fsck in words")
            else:
                refused("fsck", where, code=2, says=["mountpoint"])


@test
def damage_is_found_and_named():
    with Store() as store:
        pointer = put(store, random_bytes(3 * MIB))
        flip(store.parts(pointer.segment)[0], 2 * MIB + 5)
        for args in (["scrub", store], ["fsck", store, "--deep"]):
            done = protofs(*args, ok=1)
            check_in(pointer.segment, done.err + done.out, f"{args[0]} names the segment")
        done = protofs("scrub", store, "--json", ok=1)
        check(json.loads(done.out)["problems"] >= 1, f"problems of {done.out}")
        with store.mount() as mnt:
            done = protofs("scrub", mnt, ok=1)
            check_in(pointer.segment, done.err, "scrub through the mount names the segment")
            done = protofs("cat", mnt, str(pointer), ok=1, text=False)
            check_in(pointer.segment.encode(), done.err, "cat through the mount names the segment")
            refused("backup", mnt, f"{store.base}/backup", says=[pointer.segment])
            mnt.umount(code=None)
        done = protofs("cat", store, str(pointer), ok=1, text=False)
        check_in(pointer.segment.encode(), done.err, "cat names the segment")
        refused("backup", store, f"{store.base}/backup", says=[pointer.segment])


@test
def prune_drops_old_roots():
    with both() as places:
        for where in places():
            first = 1 + (root(where)["seq"] if ls(where, "roots") else 0)
            for n in range(10):
                protofs("root", where, "set", str(put(where, b"%d" % n)))
            kept = [r["seq"] for r in ls(where, "roots")]
            keep = len(kept) - 6
            check_in(f"6 roots would be dropped, {keep} kept", protofs("prune", where, "-k", str(keep)).out, "a dry run")
            check_eq([r["seq"] for r in ls(where, "roots")], kept, "roots after a dry run")
            check_eq(json.loads(protofs("prune", where, "-k", "4", "--yes", "--json").out),
                     {"dropped": len(kept) - 4, "kept": 4, "done": True}, "prune --json")
            check_eq([r["seq"] for r in ls(where, "roots")], kept[-4:], "roots that are kept")
            refused("root", where, "show", str(kept[-5]), says=["not kept"])
            refused("root", where, "rollback", str(kept[-5]), says=["not kept"])
            check_in("0 roots dropped, 4 kept", protofs("prune", where, "-k", "30d", "--yes").out, "by age")
            check_in("3 roots dropped, 1 kept", protofs("prune", where, "-k", "0s", "--yes").out, "the newest stays")
            check_eq(root(where)["seq"], first + 9, "the newest root")
            protofs("prune", where, "-k", "1000", "--yes")


@test
def the_kernel_forgets_pruned_roots():
    with Store() as store, store.mount() as mnt:
        for n in range(5):
            protofs("root", mnt, "set", str(put(mnt, b"%d" % n)))
        names = [mnt / f"roots/{n}" for n in range(1, 6)] + [
            mnt / f"roots/by-time/{n}" for n in os.listdir(mnt / "roots/by-time")]
        for name in names:
            os.lstat(name)  # it is known for a day from now on
        fd = os.open(names[0], os.O_RDONLY)
        write(mnt / ".ctl/prune", b"keep 2\n", flags=os.O_WRONLY)
        check_eq([os.path.basename(n) for n in names[:5] if os.path.lexists(n)], ["4", "5"], "roots that are kept")
        check_eq(sum(os.path.lexists(n) for n in names[5:]), 2, "links by time")
        os.close(fd)
        for bad in (b"", b"keep", b"keep 0", b"0", b"-1", b"keep all", b"4 5"):
            check_errno(errno.EINVAL, f"prune {bad}", write, mnt / ".ctl/prune", bad + b"\n", flags=os.O_WRONLY)
        write(mnt / ".ctl/prune", b"5", flags=os.O_WRONLY)
        write(mnt / ".ctl/prune", b"1", flags=os.O_WRONLY)  # it is gone: nothing to do
        check_eq(sorted(os.listdir(mnt / "roots")), ["5", "by-time", "current"], "what is left")
        mnt.remount("ro")
        check_errno(errno.EROFS, "prune of a read-only mount", write, mnt / ".ctl/prune", b"keep 1", flags=os.O_WRONLY)


# ---- backup and restore --------------------------------------------------------------------------


def same_atoms(where, pointers):
    for pointer, data in pointers.items():
        check_eq(protofs("cat", where, str(pointer), text=False).out, data, f"atom {pointer} in {where}")


@test
def backup_grows_and_restore_brings_it_back():
    with both() as places, temporary_dir() as base:
        atoms = {}
        for where in places():
            for _ in range(2):
                data = random_bytes(1_700_000)
                pointer = put(where, data)
                atoms[pointer] = data
                protofs("root", where, "set", str(pointer))
                summary = json.loads(protofs("backup", where, f"{base}/backup", "--json").out)
                check(summary["copied"] < 3 * MIB, f"an incremental backup copies too much: {summary}")
            again = json.loads(protofs("backup", where, f"{base}/backup", "--json", "--verify").out)
            check_eq(again["copied"], 0, "bytes that a backup of nothing new copies")
            check_eq(again["root"], root(where)["seq"], "the root of the backup")
        protofs("restore", f"{base}/backup", f"{base}/restored")
        same_atoms(f"{base}/restored", atoms)
        check_eq(Pointer.of_json(json.dumps(root(f"{base}/restored"))), pointer, "the restored root")
        protofs("fsck", f"{base}/restored", "--deep")
        check_eq(sorted(os.listdir(base)), ["backup", "restored"], "what restore leaves")


@test
def restore_of_a_plain_copy():
    """`cp` of a mount, of some of its folders, and of a client's own space directory."""
    with Store() as store, store.mount() as mnt, temporary_dir() as base:
        name = new_uuid()
        data = b"".join(frame(random_bytes(20_000)) for _ in range(100))
        append(mnt / f"space/{name}", data)
        publish(mnt, Pointer(name, 0))
        os.makedirs(f"{base}/copy/roots")
        shell(f"cp -L {mnt}/roots/current {base}/copy/roots/ && cp {mnt}/wal/*.sum {base}/copy/ &&"
              f" mkdir {base}/copy/wal && mv {base}/copy/*.sum {base}/copy/wal/ && cp {mnt}/wal/*-* {base}/copy/wal/")
        protofs("restore", f"{base}/copy", f"{base}/one")
        check_eq(protofs("cat", f"{base}/one", f"{name}/0", "--frame", text=False).out, data[:20_009], "the first atom")
        os.mkdir(f"{base}/flat")
        shell(f"cp -L {mnt}/roots/current {mnt}/wal/{name} {mnt}/wal/{name}.sum {base}/flat/")
        protofs("restore", f"{base}/flat", f"{base}/two")
        check_eq(Pointer.of_json(json.dumps(root(f"{base}/two"))), Pointer(name, 0), "the root of a flat copy")
        shell(f"cp -r {mnt}/space {base}/space")
        refused("restore", f"{base}/space", f"{base}/three", says=[name, "--accept"])
        check(not os.path.exists(f"{base}/three"), "a refused restore has left a store")
        shutil.rmtree(f"{base}/three.partial")
        done = protofs("restore", f"{base}/space", f"{base}/three", "--accept", "--json")
        check_eq(json.loads(done.out)["unverified"] >= len(data), True, f"what nobody can verify: {done.out}")
        check_eq(Pointer.of_json(json.dumps(root(f"{base}/three"))), Pointer(name, 0), "the root of a space directory")


@test
def restore_refuses_what_is_not_whole():
    with Store() as store, temporary_dir() as base:
        pointer = put(store, random_bytes(3_000_000))
        protofs("root", store, "set", str(pointer))
        protofs("backup", store, f"{base}/good")
        segment, sums = f"wal/{pointer.segment}", f"wal/{pointer.segment}.sum"

        def cut(path, size):
            os.truncate(path, size)

        cases = {
            "a flipped byte": (lambda b: flip(f"{b}/{segment}", 1_500_000), ["damaged", pointer.segment, 1048576]),
            "a short copy": (lambda b: cut(f"{b}/{segment}", 2_000_000), [pointer.segment, 2000000, "--accept"]),
            "no sums": (lambda b: os.unlink(f"{b}/{sums}"), [pointer.segment, "--accept"]),
            "sums that are none": (lambda b: write(f"{b}/{sums}", b"nonsense\n"), [pointer.segment]),
            "sums cut short": (lambda b: cut(f"{b}/{sums}", 70), [pointer.segment]),
            "no segment": (lambda b: (os.unlink(f"{b}/{segment}"), os.unlink(f"{b}/{sums}")), ["no segment"]),
            "a root that is none": (lambda b: write(f"{b}/roots/current", b"{}"), ["roots/current"]),
            "a root past the end": (lambda b: write(f"{b}/roots/current", Pointer(pointer.segment, 1 << 30).json()),
                                    ["root"]),
            "a root elsewhere": (lambda b: write(f"{b}/roots/current", Pointer(new_uuid(), 0).json()), ["root"]),
        }
        for what, (harm, says) in cases.items():
            shutil.copytree(f"{base}/good", f"{base}/bad")
            harm(f"{base}/bad")
            done = protofs("restore", f"{base}/bad", f"{base}/new", ok=1)
            for word in says:
                check_in(str(word), done.err, f"the message about {what}")
            check(not os.path.exists(f"{base}/new"), f"a restore of {what} has left a store")
            shutil.rmtree(f"{base}/bad")
            shutil.rmtree(f"{base}/new.partial", ignore_errors=True)
        refused("restore", f"{base}/none", f"{base}/new", says=["No such file"])
        refused("restore", store, f"{base}/new", says=["it is a store"])
        refused("restore", f"{base}/good", store, says=["the place is taken"])
        os.mkdir(f"{base}/new.partial")
        refused("restore", f"{base}/good", f"{base}/new", says=["new.partial"])
        os.rmdir(f"{base}/new.partial")
        os.mkdir(f"{base}/new")
        protofs("restore", f"{base}/good", f"{base}/new")
        same_atoms(f"{base}/new", {pointer: protofs("cat", store, str(pointer), text=False).out})


@test
def backup_spares_what_it_does_not_know():
    with Store() as store, Store() as other, temporary_dir() as base:
        pointer = put(store, random_bytes(100_000))
        write(f"{base}/file", b"mine")
        refused("backup", store, base, says=["file", "empty"])
        check_eq(os.listdir(base), ["file"], "a directory that is no backup")
        # A copy that is not an earlier state of the segment is not overwritten.
        protofs("backup", store, f"{base}/backup")
        path = f"{base}/backup/wal/{pointer.segment}"
        text = read_text(f"{path}.sum").split()
        write(f"{path}.sum", f"{text[0]} {text[1]} {'0' * 32}\n".encode())
        refused("backup", store, f"{base}/backup", says=[pointer.segment, "earlier state"])
        # What an interrupted backup has left is completed, rot in a part that is copied anyway is mended.
        protofs("backup", store, f"{base}/second")
        os.truncate(f"{base}/second/wal/{pointer.segment}", 50)
        protofs("backup", store, f"{base}/second")
        flip(f"{base}/second/wal/{pointer.segment}", 70)
        refused("backup", store, f"{base}/second", "--verify", says=[pointer.segment])
        put(other, b"x")
        refused("backup", store, f"{base}/none/deeper", says=["No such file"])


# ---- mount, umount, and what lies between --------------------------------------------------------


@test
def a_mounted_store_is_reached_by_its_directory():
    with Store() as store, store.mount() as mnt:
        pointer = put(mnt, b"through the mount")
        done = protofs("cat", store, str(pointer), "-v")
        check_eq(done.out, "through the mount", "cat of the store's directory")
        check_in(f"going through '{mnt}'", done.err, "-v says which way it went")
        check_eq(protofs("cat", store, str(pointer)).err, "", "stderr without -v")
        second = put(store, b"second")
        check_eq(read(mnt / f"atoms/{second}"), b"second", "what was put into the directory")
        protofs("root", store, "set", str(second))
        check_eq(root(mnt)["seq"], 1, "the root that was set")
        refused("fsck", store, "--repair", says=[str(mnt.pid)])
        refused("cat", mnt / "space", str(pointer), code=2, says=[f"name '{mnt}' instead"])
        mnt.umount()
        done = protofs("cat", store, str(pointer), "-v")
        check_in("opening the store itself", done.err, "-v says which way it went")


@test
def a_held_store_that_is_not_mounted_here():
    """The lock is held, but by no mount that can be found: the message names the process."""
    if run(["unshare", "-m", "true"], ok=None).code != 0:
        skip("no mount namespace of our own can be had: not root, or in a bare chroot")
    with Store() as store:
        put(store, b"x")
        holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"mkdir {store.base}/m; {PROTOFS} mount {store} {store.base}/m -f & echo $!;"
             " wait"], stdout=subprocess.PIPE, text=True)
        try:
            pid = int(holder.stdout.readline())
            wait_for(lambda: protofs("ls", store, ok=None).code == 1, "the store to be held")
            done = refused("ls", store, says=[str(pid), store.dir])
            check_in("unmount", done.err, "the message says what to do")
            refused("put", store, __file__, says=[str(pid)])
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            holder.wait(30)
            holder.stdout.close()
        check_eq(len(ls(store, "segments")), 1, "segments afterwards")


@test
def mount_and_umount_again_and_again():
    with Store() as store:
        mountpoint = f"{store.base}/mnt with space"
        os.mkdir(mountpoint)
        for n in range(8):
            background(store, mountpoint)
            try:
                check(is_mounted(mountpoint), "not mounted when mount returns")
                append(f"{mountpoint}/space/{new_uuid()}", frame(b"x" * 1000), sync=False)
            finally:
                # By the mountpoint and by the store's directory.
                protofs("umount", store if n % 2 else mountpoint)
            check(not is_mounted(mountpoint), "mounted when umount returns")
            check_eq(len(ls(store, "segments")), n + 1, "segments when umount has returned")


@test
def mount_waits_for_a_daemon_that_is_closing():
    """fusermount3 -u returns before the daemon has closed the store; the next mount must not care."""
    with Store() as store:
        mountpoint = f"{store.base}/m"
        os.mkdir(mountpoint)
        for _ in range(5):
            background(store, mountpoint)
            append(f"{mountpoint}/space/{new_uuid()}", random_bytes(4 * MIB), sync=False)
            run(["fusermount3", "-u", mountpoint])
        background(store, mountpoint)
        protofs("umount", mountpoint)


@test
def mountpoints_that_cannot_be():
    with Store() as store, temporary_dir() as base:
        write(f"{base}/file", b"x")
        os.mkdir(f"{store.base}/outer")
        for mountpoint, says in ((f"{base}/none", "does not exist"), (f"{base}/file", "not a directory"),
                                 (store.dir, "hide"), (store.base, "hide"), (store / "segments", "inside the store")):
            code = 2 if says in ("hide", "inside the store") else 1
            refused("mount", store, mountpoint, code=code, says=[store.dir, says])
            refused("mount", store, mountpoint, "-f", code=code, says=[store.dir, says])
        refused("mount", f"{base}/none", store.base, says=["protofs init"])
        refused("mount", base, f"{store.base}/outer", says=[base, "not a store"])
        refused("mount", store, f"{store.base}/outer", "-o", "size=1G", code=2, says=["mem:"])
        refused("umount", base, says=["no store is mounted there"])
        refused("umount", "/", says=["no store is mounted there"])
        with store.mount() as mnt:
            done = refused("mount", store, f"{store.base}/outer", says=[store.dir, str(mnt.pid)])
            check_in(mnt.path, done.err, "the message names the mountpoint")
            refused("mount", store, mnt.path, says=[mnt.path, "already"])
            with Store() as second:
                refused("mount", second, mnt.path, says=[mnt.path, "already"])


@test
def mounting_over_files_hides_them():
    with Store() as store:
        mountpoint = f"{store.base}/m"
        os.mkdir(mountpoint)
        write(f"{mountpoint}/hidden", b"x")
        background(store, mountpoint)
        check("hidden" not in os.listdir(mountpoint), "the file below shows through")
        protofs("umount", mountpoint)
        check_eq(os.listdir(mountpoint), ["hidden"], "the directory after umount")


@test
def as_mount_fuse3_calls_it():
    """protofs STORE MNT -o OPTIONS, without a verb."""
    need("mount.fuse3")
    with Store() as store:
        mountpoint = f"{store.base}/m"
        os.mkdir(mountpoint)
        for command in ([PROTOFS, store.dir, mountpoint, "-o", "rw,dev,suid,flush_interval=5s"],
                        ["mount.fuse3", store.dir, mountpoint, "-t", "fuse.protofs", "-o", "strict_root"]):
            path = f"{os.path.dirname(PROTOFS)}:{os.environ['PATH']}:/usr/sbin:/sbin"
            run(command, env={**os.environ, "PATH": path})
            try:
                check(is_mounted(mountpoint), f"{command[0]} did not mount")
                put(mountpoint, b"x")
            finally:
                protofs("umount", mountpoint)
        refused("no-such-store", mountpoint, code=2, says=["no verb 'no-such-store'"])
        refused(f"{store.base}/none", mountpoint, says=["protofs init"])


@test
def a_log_file():
    with Store() as store:
        mountpoint, log = f"{store.base}/m", f"{store.base}/log"
        os.mkdir(mountpoint)
        background(store, mountpoint, "--log", log, "-v")
        protofs("umount", mountpoint)
        text = read_text(log)
        check(re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ .*is mounted at", text, re.M), f"the log: {text!r}")
        check_in("is unmounted and closed", text, "the log")
        refused("mount", store, mountpoint, "--log", f"{store.base}/none/log", says=["cannot write the log"])
        check(not is_mounted(mountpoint), "mounted without its log")
        protofs("ls", store)


@test
def memory_stores_have_no_directory():
    with temporary_dir() as base:
        os.mkdir(f"{base}/m")
        refused("ls", "mem:", code=2, says=["mountpoint"])
        refused("fsck", "mem:", code=2)
        background("mem:", f"{base}/m", "--size", "32M")
        try:
            pointer = put(f"{base}/m", b"in memory")
            check_eq(protofs("cat", f"{base}/m", str(pointer)).out, "in memory", "an atom of a mem: store")
            protofs("backup", f"{base}/m", f"{base}/backup")
        finally:
            protofs("umount", f"{base}/m")
        protofs("restore", f"{base}/backup", f"{base}/store")
        check_eq(protofs("cat", f"{base}/store", str(pointer)).out, "in memory", "the atom from the backup")


@test
def umount_that_cannot_wait():
    with Store() as store:
        mountpoint = f"{store.base}/m"
        os.mkdir(mountpoint)
        background(store, mountpoint)
        holder = os.open(f"{mountpoint}/space", os.O_RDONLY)
        try:
            refused("umount", mountpoint, says=["busy", "fuser"])
            # Detached, but served until the last close: umount says that the store is still held.
            refused("umount", mountpoint, "--lazy", "--wait", "300ms", says=["not closed"])
        finally:
            os.close(holder)
        wait_for(lambda: protofs("ls", store, ok=None).code == 0, "the daemon to close the store")


# ---- The rest ------------------------------------------------------------------------------------


@test
def bench_measures_and_cleans_up():
    with temporary_dir() as base:
        result = json.loads(protofs("bench", base, "--time", "300ms", "--json").out)
        for key in ("limit_us", "file_us", "engine_us", "engine_to_limit", "engine_to_file"):
            check(result[key] > 0, f"{key} of {result}")
        check_in("of limit", protofs("bench", base, "-t", "200ms").out, "bench in words")
        check_eq(os.listdir(base), [], "what bench leaves")
        refused("bench", f"{base}/none", says=["No such file"])


@test
def every_path_to_the_disk_can_be_forced():
    for path in ("io_uring", "threads", "buffered"):
        env = {**os.environ, "PROTOFS_DISK_PATH": path}
        with Store() as store:
            write(f"{store.base}/file", b"x" * 10_000)
            done = protofs("put", store, f"{store.base}/file", env=env, ok=None)
            if path == "io_uring" and done.code == 1 and "io_uring" in done.err:
                print(f"      io_uring is refused here: {done.err.strip()}")
                continue
            check_eq(done.code, 0, f"put by {path}: {done.err}")
            check_eq(protofs("cat", store, done.out.strip()).out, "x" * 10_000, f"the atom written by {path}")
            used = json.loads(protofs("status", store, "--json", env=env).out)["disk_path"]
            check_in(path, used, "the path that status names")
    with Store() as store:
        refused("ls", store, env={**os.environ, "PROTOFS_DISK_PATH": "pigeons"}, code=2, says=["PROTOFS_DISK_PATH"])


@test
def progress_is_for_terminals():
    """On a terminal a bar comes and goes; elsewhere nothing is printed."""
    with Store() as store, temporary_dir() as base:
        put(store, random_bytes(MIB))
        check_eq(protofs("scrub", store).err, "", "stderr of scrub without a terminal")
        with open(f"{base}/large", "wb") as large:
            large.truncate(1536 * MIB)  # a bar appears after 0.3 s: no disk is that fast
        terminal = ["script", "-qec"]
        if run([*terminal, "true", "/dev/null"], ok=None).code != 0:
            skip("no pseudo-terminals here: is /dev/pts mounted?")
        out = run([*terminal, f"{PROTOFS} put {store} {base}/large", "/dev/null"], text=False, timeout=120).out
        check_in(b"\r\x1b[K", out, "a bar on a terminal")
        check(re.search(rb"\d+ % [#.]+", out), f"a bar on a terminal: {out[:300]!r}")
        check(re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f-]{27}/0\s*", out.split(b"\x1b[K")[-1]), f"the end: {out[-200:]!r}")
        os.truncate(f"{base}/large", 512 * MIB)
        out = run([*terminal, f"{PROTOFS} put -q {store} {base}/large", "/dev/null"], text=False, timeout=120).out
        check(b"\x1b" not in out, "a bar under -q")


@test
def completion_knows_every_verb_and_option():
    script = os.path.join(HERE, "../../packaging/protofs.bash")
    text = read_text(script)
    complete = ('source "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=();'
                '_protofs protofs "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}";'
                'printf "%s\\n" "${COMPREPLY[@]}"')

    def completed(*words):
        return run(["bash", "-c", complete, "bash", script, "protofs", *words]).out.split()

    check_eq(sorted(completed("")), sorted([*VERBS, "help"]), "completion of the verb")
    check_eq(completed("um"), ["umount"], "completion of um")
    check_eq(sorted(completed("root", "/x", "")), ["log", "rollback", "set", "show"], "completion of root")
    for verb in VERBS:
        offered = completed(verb, "--")
        for option in re.findall(r"(--[a-z-]+)", "\n".join(
                line for line in protofs(verb, "--help").out.splitlines() if line.startswith(("  -", "      --")))):
            if option not in ("--usage",):
                check_in(option, offered, f"completion of protofs {verb} --")
    check("TODO" not in text, "unfinished")


main()
