#!/usr/bin/python3
"""A byte that flips anywhere in a store is detected and named, or harmless; wrong bytes are never read as right.

FLIPS=N sets how many random places are tried beside the chosen ones (40).
"""
from lib import *

GEOMETRY = ("--block-size", "64K")
FLIPS = int(os.environ.get("FLIPS") or 40)


class Truth:
    """What a store holds: to compare with whatever it shows after damage."""

    def __init__(self, mnt):
        self.segments = {}
        self.order = []
        for n in range(2):
            name = new_uuid()
            data = b"".join(frame(random_bytes(rng.randrange(1, 60_000)), n % 3) for _ in range(90))
            # In several commits, so that the table has entries to lose.
            for at in range(0, len(data), 400_000):
                append(mnt / f"space/{name}", data[at:at + 400_000])
            self.segments[name] = data
            self.order.append(name)
        self.roots = []
        for n in range(12):
            name = self.order[n % 2]
            at = parse_frames(self.segments[name])[0][n * 5].offset
            publish(mnt, Pointer(name, at))
            self.roots.append(Pointer(name, at))
        # The last frames too: a root is a witness for everything below it.
        for name in self.order:
            last = Pointer(name, parse_frames(self.segments[name])[0][-1].offset)
            publish(mnt, last)
            self.roots.append(last)
        write(mnt / "space/small", b"a small file", sync=True)
        self.own = put(mnt, b"an atom of our own")

    def compare(self, mnt):
        """
        Whatever is readable is right. Returns what could not be had: [(thing, why)]. A thing that is missing
        without an error counts as well, so that the caller can insist on a message.
        """
        lost = []
        for name, data in self.segments.items():
            lost += self.compare_file(mnt / f"wal/{name}", data, f"segment {name}")
        lost += self.compare_file(mnt / f"atoms/{self.own}", b"an atom of our own", "own atom")
        lost += self.compare_file(mnt / "space/small", b"a small file", "small file")
        for seq, pointer in enumerate(self.roots, 1):
            try:
                got = Pointer.of_json(read(mnt / f"roots/{seq}"))
            except OSError as error:
                lost.append((f"root {seq}", errno.errorcode[error.errno]))
                continue
            check_eq(got, pointer, f"roots/{seq}")
        return lost

    def may_be_torn(self, lost):
        """What only the newest commit of a crashed store holds, with no witness: a flip there looks like a torn tail."""
        newest = {"own atom", "small file", f"root {len(self.roots)}"}
        return all(what.split(" at ")[0].split(" from ")[0] in newest for what, _ in lost)

    @staticmethod
    def compare_file(path, want, what):
        """Page by page: one bad page hides no other."""
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            return [(what, errno.errorcode[error.errno])]
        lost, at = [], 0
        try:
            while at < len(want):
                try:
                    got = os.pread(fd, 65536, at)
                except OSError as error:
                    lost.append((f"{what} at {at}", errno.errorcode[error.errno]))
                    at += 65536
                    continue
                if not got:
                    lost.append((f"{what} from {at} on", "it ends there"))
                    break
                check_eq(got, want[at:at + len(got)], f"bytes of the {what} at {at}: WRONG BYTES WERE READ")
                at += len(got)
        finally:
            os.close(fd)
        return lost


def files_of(store):
    """Every file of the store that is ever read."""
    found = []
    for folder, _, names in os.walk(store.dir):
        for name in names:
            path = os.path.join(folder, name)
            if name not in ("lock", "protofs.conf") and os.path.getsize(path):
                found.append(path)
    return sorted(found)


def interesting(path):
    """Offsets at which this file has something: never a byte of an unwritten tail only."""
    size = os.path.getsize(path)
    data = read(path)
    used = len(data.rstrip(b"\0"))
    spots = {0, 7, 8, used // 2, max(0, used - 1), rng.randrange(max(1, used)), min(size - 1, 4096)}
    return sorted(s for s in spots if s < size)


@contextlib.contextmanager
def flipped(path, offset):
    flip(path, offset)
    try:
        yield
    finally:
        flip(path, offset)


def try_flip(store, truth, path, offset, crashed):
    """One flip: what fsck says, what the mount says. Returns a word for the summary."""
    what = f"{os.path.relpath(path, store.dir)} byte {offset}"
    # Work on a copy: a mount may write (recovery, a clean stop), and the flip must be the only difference.
    with temporary_dir() as base:
        copy = f"{base}/store"
        run(["cp", "-a", "--sparse=always", store.dir, copy])
        flip(os.path.join(copy, os.path.relpath(path, store.dir)), offset)
        fsck = protofs("fsck", copy, "--deep", ok=(0, 1))
        with Store(init=False, at=copy) as other:
            mnt = other.mount()
            try:
                mnt.start()
            except MountFailed as failed:
                check(fsck.code == 1, f"{what}: the mount is refused, but fsck found nothing: {failed.output}")
                check(failed.output.strip(), f"{what}: the mount is refused without a word")
                return "refused"
            try:
                lost = truth.compare(mnt)
                said = mnt.output() + errors_text(mnt)
                read_only = is_read_only(mnt)
            except Failure as failure:
                fail(f"{what}: {failure}")
            finally:
                mnt.abandon()
    if lost and crashed and fsck.code == 0 and truth.may_be_torn(lost):
        return "torn tail"
    if lost:
        check(fsck.code == 1, f"{what}: lost {lost[:3]}, but fsck found nothing")
        name = next((n for n in truth.segments if n in what), None)
        silent = said + fsck.err
        check(silent.strip(), f"{what}: lost {lost[:3]}, and nobody said a word")
        if name:
            check(name in silent or any(n in silent for n in truth.segments),
                  f"{what}: lost {lost[:3]}; no message names the segment:\n{silent}")
        check(re.search(r"\d", fsck.err + fsck.out), f"{what}: fsck names no offset: {fsck.err}")
        return "named" if not read_only else "named, read-only"
    return "reported, nothing lost" if fsck.code == 1 else "harmless"


def sweep(store, truth, crashed):
    summary = {}
    places = [(path, spot) for path in files_of(store) for spot in interesting(path)]
    rng.shuffle(places)
    for path, offset in places[:FLIPS + 20]:
        outcome = try_flip(store, truth, path, offset, crashed)
        kind = os.path.relpath(path, store.dir).split("/")[0] + os.path.splitext(path)[1]
        summary.setdefault(kind, {}).setdefault(outcome, []).append(offset)
    for kind, outcomes in sorted(summary.items()):
        print(f"      {kind}: {', '.join(f'{len(v)} {k}' for k, v in sorted(outcomes.items()))}")
    return summary


@test
def a_flip_anywhere_after_a_clean_stop():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        truth = Truth(mnt)
        mnt.umount()
        sweep(store, truth, crashed=False)


@test
def a_flip_anywhere_after_a_crash():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        truth = Truth(mnt)
        mnt.kill9()
        sweep(store, truth, crashed=True)


@test
def a_flip_in_the_data_of_a_sealed_part_is_named():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        truth = Truth(mnt)
        mnt.umount()
        name = truth.order[0]
        part = store.parts(name)[0]
        for offset in (0, 70_000, os.path.getsize(part) - 1):
            with flipped(part, offset):
                page = offset // 65536 * 65536
                fsck = store.fsck("--deep", ok=1)
                check_in(name, fsck.err + fsck.out, "fsck names the segment")
                mnt.start()
                lost = truth.compare(mnt)
                check_eq([why for _, why in lost], ["EIO"], f"what is lost: {lost}")
                check_in(name, errors_text(mnt), ".ctl/errors names the segment")
                numbers = [int(n) for n in re.findall(r"\d+", errors_text(mnt).replace(name, ""))]
                check(any(page <= n <= offset for n in numbers), f".ctl/errors names the offset: {errors_text(mnt)}")
                scrub = protofs("scrub", mnt, ok=1)
                check_in(name, scrub.err + scrub.out, "scrub names the segment")
                mnt.umount(code=None)
        store.fsck("--deep")


@test
def a_file_of_space_whose_changes_are_damaged_is_an_error_until_that_is_accepted():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        write(mnt / "space/lost", words(40_000), sync=True)
        write(mnt / "space/filler", random_bytes(100_000), sync=True)
        write(mnt / "space/kept", b"whole", sync=True)
        mnt.umount()
        (meta,) = [p for p in files_of(store) if "/segments/" in p]
        flip(meta, 20_000)
        mnt.start()
        name = os.path.basename(os.path.dirname(meta))
        check_in(name, errors_text(mnt), ".ctl/errors names the segment")
        check_errno(errno.EIO, "opening a file that may be the damaged one", read, mnt / "space/lost")
        check_errno(errno.EIO, "making it anew", write, mnt / "space/lost", b"as if it had never been")
        check_eq(read(mnt / "space/kept"), b"whole", "a file whose changes can be read")
        publish(mnt, put(mnt, b"roots can be published meanwhile"))
        write(mnt / ".ctl/accept", b"space", flags=os.O_WRONLY)
        check_errno(errno.ENOENT, "the file that was given up", read, mnt / "space/lost")
        write(mnt / "space/lost", b"made anew", sync=True)
        check_errno(errno.EINVAL, "accepting again", write, mnt / ".ctl/accept", b"space", flags=os.O_WRONLY)
        mnt.umount()
        store.fsck("--deep")
        mnt.start()
        check_eq((read(mnt / "space/kept"), read(mnt / "space/lost")), (b"whole", b"made anew"), "files afterwards")
        check_eq(errors_text(mnt), "", ".ctl/errors after it")


@test
def damage_before_the_end_of_an_open_part_is_no_torn_tail():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        name = new_uuid()
        data = b""
        for _ in range(20):
            piece = frame(random_bytes(8000))
            append(mnt / f"space/{name}", piece)
            data += piece
        mnt.kill9()
        flip(store.parts(name)[-1], 50_000)
        before = {p: read(p) for p in files_of(store)}
        fsck = store.fsck("--deep", ok=1)
        check_in(name, fsck.err + fsck.out, "fsck names the segment")
        check_eq({p: read(p) for p in files_of(store)}, before, "fsck without --repair changed the store")
        mnt.start()
        said = mnt.output() + errors_text(mnt)
        check_in(name, said, "the mount names the segment")
        check_errno((errno.EROFS, errno.EIO), "a write to a damaged store", append, mnt / f"space/{new_uuid()}",
                    frame(b"x"))
        # A shell looks at no error of close(2): the open must fail.
        for inbox in ("atoms/in", "wal/in"):
            check_errno(errno.EROFS, f"a new name in {inbox}", os.open, mnt / f"{inbox}/{name}",
                        os.O_WRONLY | os.O_CREAT, 0o644)
        lost = Truth.compare_file(mnt / f"wal/{name}", data, "segment")
        check(lost, "the flipped byte went unnoticed")
        mnt.umount(code=None)
        # Repair keeps a copy of what it cuts.
        store.fsck("--repair", ok=(0, 1))
        store.fsck("--deep")
        check(os.path.isdir(store / "lost+found") and os.listdir(store / "lost+found"),
              "nothing was kept in lost+found/")
        mnt.start()
        got = read(mnt / f"wal/{name}")
        check_eq(got, data[:len(got)], "what is left after the repair")
        check(len(got) >= 40_000, f"only {len(got)} bytes before the damage are left")
        append(mnt / f"space/{new_uuid()}", frame(b"writable again"))
        mnt.umount()


@test
def a_torn_tail_is_dropped_silently():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        name = new_uuid()
        pieces = [frame(random_bytes(8000)) for _ in range(10)]
        for piece in pieces:
            append(mnt / f"space/{name}", piece)
        mnt.kill9()
        part = store.parts(name)[-1]
        flip(part, 9 * 8009 + 5000)  # of the last commit alone: as if it had never been finished
        store.fsck()
        mnt.start()
        check_eq(read(mnt / f"wal/{name}"), b"".join(pieces[:9]), "the segment without its torn tail")
        append(mnt / f"space/{name}", pieces[9])
        mnt.umount()
        store.fsck("--deep")
        mnt.start()
        check_eq(read(mnt / f"wal/{name}"), b"".join(pieces), "the segment that went on")


@test
def a_torn_tail_below_a_root_is_damage():
    """A root is a witness: bytes that it needs cannot be an unfinished commit."""
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        name = new_uuid()
        pieces = [frame(random_bytes(8000)) for _ in range(10)]
        for piece in pieces:
            append(mnt / f"space/{name}", piece)
        publish(mnt, Pointer(name, 9 * 8009))
        publish(mnt, Pointer(name, 0))
        mnt.kill9()
        flip(store.parts(name)[-1], 9 * 8009 + 5000)
        fsck = store.fsck(ok=1)
        check_in(name, fsck.err + fsck.out, "fsck names the segment")
        mnt.start()
        check_in(name, mnt.output() + errors_text(mnt), "the mount names the segment")
        check_errno((errno.EROFS, errno.EIO), "a write to a damaged store", append, mnt / f"space/{new_uuid()}",
                    frame(b"x"))
        mnt.umount(code=None)


def repair_one(store, truth, path, offset):
    """A flip, then fsck --repair: a store that can be written, or bytes that are gone and named. Returns a word."""
    what = f"{os.path.relpath(path, store.dir)} byte {offset}"
    with temporary_dir() as base:
        copy = f"{base}/store"
        run(["cp", "-a", "--sparse=always", store.dir, copy])
        flip(os.path.join(copy, os.path.relpath(path, store.dir)), offset)
        found = protofs("fsck", copy, "--deep", ok=(0, 1))
        if "superblock" in found.err and "cannot check" in found.err:
            return "refused"
        repaired = protofs("fsck", copy, "--deep", "--repair", ok=(0, 1))
        after = protofs("fsck", copy, "--deep", ok=(0, 1))
        check_eq(after.code, repaired.code, f"{what}: fsck after the repair\n{repaired.err}\n{after.err}")
        with Store(init=False, at=copy) as other:
            mnt = other.mount()
            try:
                mnt.start()
                lost = truth.compare(mnt)
                if after.code == 0:
                    check(not is_read_only(mnt), f"{what}: repaired, and still read-only: {mnt.output()}")
                    pointer = put(mnt, b"after the repair")
                    publish(mnt, pointer)
                    check_eq(Pointer.of_json(read(mnt / "roots/current")), pointer, f"{what}: a new root")
                    mnt.umount()
                    other.fsck("--deep")
            except Failure as failure:
                fail(f"{what}: {failure}\n{found.err}\n{repaired.err}")
            finally:
                mnt.abandon()
    if after.code == 1:
        check(lost, f"{what}: problems are left, but nothing is missing: {after.err}")
        return "named, cannot be mended"
    if not lost:
        return "mended" if found.code == 1 else "harmless"
    return "cut"


@test
def repair_after_a_flip_anywhere():
    for crashed in (False, True):
        with Store(*GEOMETRY) as store, store.mount() as mnt:
            truth = Truth(mnt)
            mnt.kill9() if crashed else mnt.umount()
            # One place of each kind at least: segments are many, the root log is one file.
            places, kinds = [(path, spot) for path in files_of(store) for spot in interesting(path)], {}
            rng.shuffle(places)
            for path, spot in places:
                kind = os.path.relpath(path, store.dir).split("/")[0] + os.path.splitext(path)[1]
                kinds.setdefault(kind, []).append((path, spot))
            print(f"      after {'a crash' if crashed else 'a clean stop'}:")
            for kind, chosen in sorted(kinds.items()):
                words = [repair_one(store, truth, path, spot) for path, spot in chosen[:max(3, FLIPS // 8)]]
                print(f"        {kind}: {', '.join(f'{words.count(w)} {w}' for w in sorted(set(words)))}")


@test
def repair_goes_back_to_the_newest_whole_root():
    """What a root needs is gone: the newest one that is whole is published on top, and the store can be written."""
    for torn in (False, True):
        with Store(*GEOMETRY) as store, store.mount() as mnt:
            name = new_uuid()
            pieces = [frame(random_bytes(8000)) for _ in range(10)]
            for n, piece in enumerate(pieces):
                append(mnt / f"space/{name}", piece)
                publish(mnt, Pointer(name, n * 8009))
            mnt.kill9()
            lost_from = 9 if torn else 5
            flip(store.parts(name)[-1], lost_from * 8009 + 5000)
            store.fsck(ok=1)
            mnt.start()
            check(is_read_only(mnt), "a store that lost what a root needs is writable")
            mnt.umount(code=None)
            done = store.fsck("--repair")
            store.fsck("--deep")
            check(os.listdir(store / "lost+found"), "nothing was kept in lost+found/")
            mnt.start()
            check(not is_read_only(mnt), f"read-only after the repair: {stats(mnt)}\n{done.err}")
            check_eq(read(mnt / f"wal/{name}"), b"".join(pieces[:lost_from]), "the segment after the repair")
            root = json.loads(read(mnt / "roots/current"))
            check_eq((root["seq"], root["offset"]), (11, (lost_from - 1) * 8009), "roots/current")
            check_eq(Pointer.of_json(read(mnt / "space/space_root")).offset, (lost_from - 1) * 8009, "space_root")
            append(mnt / f"space/{name}", pieces[lost_from])
            publish(mnt, Pointer(name, lost_from * 8009))
            mnt.kill9()
            mnt.start()
            check(not is_read_only(mnt), "read-only after the next crash")
            check_eq(json.loads(read(mnt / "roots/current"))["seq"], 12, "roots/current")
            mnt.umount()
            store.fsck("--deep")


@test
def one_copy_of_a_table_is_enough():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        name = new_uuid()
        data = b""
        for _ in range(30):
            piece = frame(random_bytes(3000))
            append(mnt / f"space/{name}", piece)
            data += piece
        mnt.kill9()
        part = store.parts(name)[-1]
        area = 64 * 65536
        for copy_at in (area, area + area // 4096 * 64):
            check(read(part)[copy_at:copy_at + 64].strip(b"\0"), f"there is no table at {copy_at} of the part")
            for entry in (0, 7):
                with temporary_dir() as base:
                    shutil.copytree(store.dir, f"{base}/store")
                    flip(f"{base}/store/segments/{name}/{os.path.basename(part)}", copy_at + entry * 64 + 20)
                    with Store(init=False, at=f"{base}/store") as other, other.mount() as again:
                        check_eq(read(again / f"wal/{name}"), data, "the segment with one bad table entry")


@test
def a_missing_segment_is_named():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        truth = Truth(mnt)
        mnt.umount()
        name = truth.order[1]
        os.rename(store / f"segments/{name}", f"{store.base}/away")
        fsck = store.fsck(ok=1)
        check_in(name, fsck.err + fsck.out, "fsck names the segment")
        mnt.start()
        lost = truth.compare(mnt)
        check(lost and all(name in what for what, _ in lost), f"lost: {lost[:5]}")
        check_in(name, mnt.output() + errors_text(mnt), "the mount names the segment")
        mnt.umount(code=None)
        os.rename(f"{store.base}/away", store / f"segments/{name}")
        store.fsck("--deep")


@test
def a_part_that_cannot_be_read_is_named():
    with Store(*GEOMETRY) as store, store.mount() as mnt:
        truth = Truth(mnt)
        mnt.umount()
        name = truth.order[0]
        for harm in ("truncated", "empty", "a directory"):
            with temporary_dir() as base:
                shutil.copytree(store.dir, f"{base}/store")
                part = f"{base}/store/segments/{name}/{os.path.basename(store.parts(name)[0])}"
                if harm == "truncated":
                    os.truncate(part, os.path.getsize(part) // 2)
                else:
                    os.unlink(part)
                    os.mkdir(part) if harm == "a directory" else write(part, b"")
                done = protofs("fsck", f"{base}/store", "--deep", ok=1)
                check_in(name, done.err + done.out, f"fsck names the segment whose part is {harm}")
                with Store(init=False, at=f"{base}/store") as other:
                    mount = other.mount()
                    try:
                        mount.start()
                        lost = truth.compare(mount)
                        check(lost, f"a part is {harm}, and nothing is missing")
                        check_in(name, mount.output() + errors_text(mount), "the mount names the segment")
                    except MountFailed as failed:
                        check_in(name, failed.output, "the refused mount names the segment")
                    finally:
                        mount.abandon()


main()
