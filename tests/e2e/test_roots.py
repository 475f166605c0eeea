#!/usr/bin/python3
"""roots/: what was published, by number and by time; publishing and going back by symlink and rename."""
import datetime

from lib import *


def put_atoms(mnt, count):
    """Atoms of our own, durable: their pointers."""
    pointers = []
    for i in range(count):
        fd = os.open(mnt / f"atoms/in/put-{new_uuid()}", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"atom %d" % i)
        os.fsync(fd)
        name = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        target = os.readlink(name.removesuffix(" (deleted)"))
        pointers.append(Pointer.parse(target[3:]))
    return pointers


def publish_by_link(mnt, target, name="next"):
    os.symlink(target, mnt / f"roots/{name}")
    os.rename(mnt / f"roots/{name}", mnt / "roots/current")


def current(mnt):
    return int(os.readlink(mnt / "roots/current"))


def seqs(mnt):
    return sorted(int(n) for n in os.listdir(mnt / "roots") if n.isdigit())


@test
def a_store_without_a_root():
    with Store() as store, store.mount() as mnt:
        check_eq(os.listdir(mnt / "roots"), ["by-time"], "roots/")
        check_eq(os.listdir(mnt / "roots/by-time"), [], "roots/by-time/")
        check_errno(errno.ENOENT, "current", os.readlink, mnt / "roots/current")
        check_errno(errno.ENOENT, "current", os.lstat, mnt / "roots/current")
        for name in ("0", "1", "01", "x", "-1"):
            check_errno(errno.ENOENT, name, os.stat, mnt / f"roots/{name}")


@test
def what_a_root_says():
    with Store() as store, store.mount() as mnt:
        pointers = put_atoms(mnt, 5)
        before = time.time_ns()
        for pointer in pointers:
            publish(mnt, pointer)
        after = time.time_ns()
        check_eq(seqs(mnt), [1, 2, 3, 4, 5], "kept roots")
        check_eq(current(mnt), 5, "current")
        check_eq(read(mnt / "roots/current"), read(mnt / "roots/5"), "current is the newest")
        last = 0
        for seq, pointer in enumerate(pointers, 1):
            path = mnt / f"roots/{seq}"
            text = read(path)
            check_eq(os.stat(path).st_size, len(text), "st_size is exact")
            check_eq(stat.filemode(os.stat(path).st_mode), "-r--r--r--", "mode")
            value = json.loads(text)
            check_eq(sorted(value), ["node", "offset", "seq", "time", "transaction_id"], "members")
            check_eq((value["transaction_id"], value["offset"]), tuple(pointer), "pointer")
            check_eq((value["seq"], value["node"]), (seq, 1), "seq and node")
            seconds, _, fraction = value["time"].rstrip("Z").partition(".")
            ns = int(datetime.datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(fraction)
            check(max(last, before) <= ns <= after, f"time {value['time']}")
            check_eq(os.stat(path).st_mtime_ns, ns, "mtime")
            name = f"{ns}-{seq}"
            check_eq(os.readlink(mnt / f"roots/by-time/{name}"), f"../{seq}", "link by time")
            check_eq(read(mnt / f"roots/by-time/{name}"), text, "through the link")
            check_in(name, os.listdir(mnt / "roots/by-time"), "by-time/")
            last = ns
        names = os.listdir(mnt / "roots/by-time")
        check_eq([int(n.split("-")[1]) for n in sorted(names)], [1, 2, 3, 4, 5], "names by time sort as the roots")
        for name in (f"{last}-4", f"{last + 1}-5", f"0{last}-5", f"{last}-05", f"{last}-", "-5", f"{last}"):
            check_errno(errno.ENOENT, name, os.lstat, mnt / f"roots/by-time/{name}")
        text = read(mnt / "roots/3")
        mnt.kill9()
        mnt.start()
        check_eq(read(mnt / "roots/3"), text, "after kill -9")
        check_eq(current(mnt), 5, "current after kill -9")


@test
def publish_an_atom_by_link():
    with Store() as store, store.mount() as mnt:
        a, b = put_atoms(mnt, 2)
        publish_by_link(mnt, f"../atoms/{a}")
        check_eq(current(mnt), 1, "the first root")
        check_eq(Pointer.of_json(read(mnt / "roots/current")), a, "its pointer")
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), a, "space_root follows")
        run(["ln", "-sfn", f"../atoms/{b}", mnt / "roots/current"])
        check_eq(Pointer.of_json(read(mnt / "roots/2")), b, "ln -sfn")
        check_eq(current(mnt), 2, "current")
        check_eq(sorted(os.listdir(mnt / "roots")), ["1", "2", "by-time", "current"], "names")
        run(["ln", "-s", f"../atoms/{a}", mnt / "roots/x"])
        run(["mv", "-T", mnt / "roots/x", mnt / "roots/current"])
        check_eq(Pointer.of_json(read(mnt / "roots/3")), a, "ln and mv -T")


@test
def current_is_never_stale():
    """Whoever publishes, and however often somebody looked before."""
    with Store() as store, store.mount() as mnt:
        pointers = put_atoms(mnt, 30)
        for seq, pointer in enumerate(pointers, 1):
            publish(mnt, pointer)  # through space/
            check_eq(current(mnt), seq, "readlink")
            check_eq(json.loads(read(mnt / "roots/current"))["seq"], seq, "read through the link")
            check_eq(os.lstat(mnt / "roots/current").st_size, len(str(seq)), "st_size of the link")


@test
def the_first_root_by_a_plain_link():
    with Store() as store, store.mount() as mnt:
        a, b = put_atoms(mnt, 2)
        os.symlink(f"../atoms/{a}", mnt / "roots/current")
        check_eq(current(mnt), 1, "current")
        check_errno(errno.EEXIST, "there is one now", os.symlink, f"../atoms/{b}", mnt / "roots/current")


@test
def rollback():
    """An old root published again is a new root with the old pointer and what its publisher said."""
    with Store() as store, store.mount() as mnt:
        pointers = put_atoms(mnt, 3)
        odd = b'{"offset":   %d,  "transaction_id": "%s", "extra": [1]}' % (pointers[0].offset, pointers[0].segment.encode())
        publish(mnt, odd)
        publish(mnt, pointers[1])
        publish(mnt, pointers[2])
        publish_by_link(mnt, "1")
        check_eq(current(mnt), 4, "a new root")
        check_eq(Pointer.of_json(read(mnt / "roots/4")), pointers[0], "the old pointer")
        check_eq(read(mnt / "space/space_root"), odd, "space_root, as it was given")
        check_eq(seqs(mnt), [1, 2, 3, 4], "nothing was lost")
        run(["ln", "-sfn", "3", mnt / "roots/current"])
        check_eq(Pointer.of_json(read(mnt / "roots/current")), pointers[2], "and forward again")
        mnt.remount()
        check_eq((current(mnt), Pointer.of_json(read(mnt / "roots/current"))), (5, pointers[2]), "after a remount")


@test
def compare_and_swap():
    """The base is the root when the link was made: EBUSY if it moved, and the link stays."""
    with Store() as store, store.mount() as mnt:
        a, b, c = put_atoms(mnt, 3)
        os.symlink(f"../atoms/{a}", mnt / "roots/mine")
        publish(mnt, b)
        check_errno(errno.EBUSY, "a root came between", os.rename, mnt / "roots/mine", mnt / "roots/current")
        check_eq(Pointer.of_json(read(mnt / "roots/current")), b, "the root of the other")
        check_in("roots/current was made when root 0 was the newest; now it is 1", errors_text(mnt), ".ctl/errors")
        check_eq(os.readlink(mnt / "roots/mine"), f"../atoms/{a}", "the link is still there")
        check_errno(errno.EBUSY, "again", os.rename, mnt / "roots/mine", mnt / "roots/current")
        os.unlink(mnt / "roots/mine")
        publish_by_link(mnt, f"../atoms/{c}", "mine")
        check_eq(Pointer.of_json(read(mnt / "roots/current")), c, "made again")


@test
def races_of_publishers():
    """Of all who made their link at the same root exactly one wins."""
    with Store() as store, store.mount() as mnt:
        pointers = put_atoms(mnt, 8)
        publish(mnt, pointers[0])
        for turn in range(20):
            before = current(mnt)
            for i in range(8):
                os.symlink(f"../atoms/{pointers[i]}", mnt / f"roots/w{i}")
            barrier = threading.Barrier(8)
            results = []

            def race(i):
                barrier.wait()
                try:
                    os.rename(mnt / f"roots/w{i}", mnt / "roots/current")
                    results.append(i)
                except OSError as error:
                    check_eq(error.errno, errno.EBUSY, "who lost")

            threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            check_eq(len(results), 1, f"winners of turn {turn}")
            check_eq(current(mnt), before + 1, "one root more")
            check_eq(Pointer.of_json(read(mnt / "roots/current")), pointers[results[0]], "the winner's")
            for i in range(8):
                if i != results[0]:
                    os.unlink(mnt / f"roots/w{i}")


@test
def bad_targets():
    with Store() as store, store.mount() as mnt:
        (a,) = put_atoms(mnt, 1)
        publish(mnt, a)
        bad = ["", "x", "0", "01", "-1", "+1", "1/", "./1", "../1", "by-time/1", "/1", "current", f"../atoms/{a.segment}",
               f"../atoms/{a.segment}/", f"../atoms/{a}.json", f"../atoms/{a.segment}/01", f"../atoms/{a.segment.upper()}/0",
               f"atoms/{a}", f"../../atoms/{a}", f"{mnt}/atoms/{a}", f"../atoms/{a.segment}/68719476736",
               "99999999999999999999999", "9" * 400]
        for target in bad:
            check_errno((errno.EINVAL, errno.ENOENT) if not target else errno.EINVAL, f"target {target[:60]!r}",
                        os.symlink, target, mnt / "roots/new")
        for target, why in (("2", "is not kept"), (f"../atoms/{a.segment}/1", "is no atom"),
                            (f"../atoms/{new_uuid()}/0", "is no atom"), (f"../atoms/{a.segment}/99999", "is no atom")):
            os.symlink(target, mnt / "roots/new")
            check_errno(errno.ENOENT, f"publishing {target}", os.rename, mnt / "roots/new", mnt / "roots/current")
            check_in(why, errors_text(mnt), ".ctl/errors")
            os.unlink(mnt / "roots/new")
        check_eq(current(mnt), 1, "the root stands")


@test
def what_cannot_be_changed():
    with Store() as store, store.mount() as mnt:
        (a,) = put_atoms(mnt, 1)
        publish(mnt, a)
        top = mnt / "roots"
        readonly = (errno.EROFS, errno.EPERM)
        check_errno(readonly, "unlink a root", os.unlink, f"{top}/1")
        check_errno(readonly, "unlink current", os.unlink, f"{top}/current")
        check_errno(readonly, "rename a root", os.rename, f"{top}/1", f"{top}/2")
        check_errno(readonly, "rename current", os.rename, f"{top}/current", f"{top}/old")
        check_errno(readonly, "write a root", os.open, f"{top}/1", os.O_WRONLY)
        check_errno(readonly, "truncate a root", os.truncate, f"{top}/1", 0)
        check_errno(readonly, "chmod", os.chmod, f"{top}/1", 0o666)
        check_errno(readonly, "create a file", os.open, f"{top}/f", os.O_CREAT | os.O_WRONLY)
        check_errno(readonly, "mkdir", os.mkdir, f"{top}/d")
        check_errno(readonly, "rmdir by-time", os.rmdir, f"{top}/by-time")
        check_errno(errno.EEXIST, "a link over a root", os.symlink, "1", f"{top}/1")
        check_errno(readonly, "a link named like a root to come", os.symlink, "1", f"{top}/2")
        check_errno(errno.EEXIST, "a link named by-time", os.symlink, "1", f"{top}/by-time")
        check_errno(readonly, "in by-time", os.symlink, "1", f"{top}/by-time/x")
        os.symlink("1", f"{top}/x")
        check_errno((errno.EEXIST, *readonly), "a link renamed over a root", os.rename, f"{top}/x", f"{top}/1")
        check_eq(current(mnt), 1, "current")


@test
def links_that_wait():
    with Store() as store, store.mount() as mnt:
        (a,) = put_atoms(mnt, 1)
        publish(mnt, a)
        top = mnt / "roots"
        os.symlink("1", f"{top}/a")
        check_errno(errno.EEXIST, "the name is taken", os.symlink, "1", f"{top}/a")
        check_in("a", os.listdir(top), "listed")
        os.rename(f"{top}/a", f"{top}/b")
        check_errno(errno.ENOENT, "old name", os.lstat, f"{top}/a")
        os.symlink("1", f"{top}/c")
        os.rename(f"{top}/c", f"{top}/b")
        check_eq(sorted(os.listdir(top)), ["1", "b", "by-time", "current"], "names")
        check_errno(errno.ENAMETOOLONG, "a long name", os.symlink, "1", f"{top}/{'n' * 256}")

        def fill():
            for i in range(1000):
                os.symlink("1", f"{top}/many{i}")
        check_errno(errno.ENOSPC, "too many", fill)
        mnt.remount()
        check_eq(sorted(os.listdir(top)), ["1", "by-time", "current"], "they are in memory only")


@test
def attributes_of_a_root():
    with Store() as store, store.mount() as mnt:
        (a,) = put_atoms(mnt, 1)
        publish(mnt, a)
        got = {n: os.getxattr(mnt / "roots/current", f"user.protofs.{n}").decode()
               for n in ("format", "pointer", "xxh3", "durable", "state")}
        want = {"format": "json", "pointer": str(a), "xxh3": xxh3(read(mnt / "roots/1")),
                "durable": f"local={9 + len(read(mnt / f'atoms/{a}'))} quorum=0 cloud=0", "state": "published"}
        check_eq(got, want, "extended attributes")
        check_eq(len(os.listxattr(mnt / "roots/1")), 5, "listxattr")


@test
def a_dangling_root_says_so():
    """It is held in space/space_root only, until its bytes come."""
    with Store() as store, store.mount() as mnt:
        segment = new_uuid()
        append(mnt / f"space/{segment}", frame(b"abc"))
        publish(mnt, Pointer(segment, 12))
        root = mnt / "space/space_root"
        check_eq(os.getxattr(root, "user.protofs.state"), b"dangling", "state")
        check_eq(os.getxattr(root, "user.protofs.durable"), b"local=0 quorum=0 cloud=0", "durable")
        check_eq(os.listdir(mnt / "roots"), ["by-time"], "roots/")
        append(mnt / f"space/{segment}", frame(b"def"))
        wait_for(lambda: os.getxattr(root, "user.protofs.state") == b"published", "the root to be published")
        check_eq(os.getxattr(root, "user.protofs.durable"), b"local=12 quorum=0 cloud=0", "durable")
        check_eq(Pointer.of_json(read(mnt / "roots/1")), Pointer(segment, 12), "roots/1")


@test
def a_long_history():
    count = 3000
    with Store() as store, store.mount() as mnt:
        (a,) = put_atoms(mnt, 1)
        publish(mnt, a)
        for _ in range(count - 1):
            publish_by_link(mnt, "1")
        check_eq(seqs(mnt), list(range(1, count + 1)), "roots/")
        names = os.listdir(mnt / "roots/by-time")
        check_eq([int(n.split("-")[1]) for n in sorted(names)], list(range(1, count + 1)), "by-time/")
        found = run(["find", mnt / "roots", "-type", "f", "-size", "+0"]).out.count("\n")
        check_eq(found, count, "find")


@test
def backup_copies_the_root():
    with Store() as store, store.mount() as mnt, temporary_dir() as tmp:
        (a,) = put_atoms(mnt, 1)
        publish(mnt, a)
        run(["cp", "-L", mnt / "roots/current", f"{tmp}/root"])
        check_eq(Pointer.of_json(read(f"{tmp}/root")), a, "cp -L roots/current")
        publish(mnt, read(f"{tmp}/root"))
        check_eq(Pointer.of_json(read(mnt / "roots/2")), a, "the copy can be given back as it is")


main()
