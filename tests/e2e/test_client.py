#!/usr/bin/python3
"""A client that makes ProtoDB's system calls works on space/ unchanged, and every view agrees on what it wrote."""
from lib import *
import protodb_client as pdb

CLIENT = ["/usr/bin/python3", "-B", os.path.join(HERE, "protodb_client.py")]
COMMITS = int(os.environ.get("COMMITS") or 40)


def client(space, *args, ok=0, **kwargs):
    return run([*CLIENT, space, "--seed", str(rng.getrandbits(32)), *args], ok=ok, **kwargs)


def start_client(space, *args):
    return subprocess.Popen([*CLIENT, space, "--seed", str(rng.getrandbits(32)), *map(str, args)],
                            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)


def check_acknowledged(chain, log):
    """Every acknowledged commit must be in the chain."""
    there = {(client, n, tuple(pointer)) for client, n, pointer in chain}
    for line in pdb.acknowledged(log):
        check((line["client"], line["n"], tuple(line["root"])) in there,
              f"the acknowledged commit {line['n']} of {line['client']} is lost: {line['root']}")


def check_views(mnt, chain):
    """The same history through wal/, atoms/ and roots/."""
    check_eq(pdb.walk(f"{mnt}/wal", start=chain[0][2]), chain, "the chain through wal/")
    # Atoms: the payload alone, for each root atom and what it refers to.
    for _, _, (segment, offset) in chain:
        payload = read(f"{mnt}/atoms/{segment}/{offset}")
        body = json.loads(payload)
        check_eq(read(f"{mnt}/atoms/{segment}/{offset}.frame"), frame(payload, JSON), "the frame of a root atom")
        for name, at, format, digest in body["atoms"]:
            atom = read(f"{mnt}/atoms/{name}/{at}")
            check_eq(pdb.digest(atom), digest, f"digest of atoms/{name}/{at}")
            check_eq(os.stat(f"{mnt}/atoms/{name}/{at}").st_size, len(atom), f"st_size of atoms/{name}/{at}")
            if format == JSON:
                check_eq(json.loads(read(f"{mnt}/atoms/{name}/{at}.json")), json.loads(atom), "the JSON of an atom")
    # Roots: dense, and in the order of the chain.
    seqs = sorted(int(n) for n in os.listdir(f"{mnt}/roots") if n.isdigit())
    check_eq(seqs, list(range(1, len(chain) + 1)), "the roots' numbers")
    for seq, (_, _, pointer) in zip(seqs, reversed(chain)):
        root = json.loads(read(f"{mnt}/roots/{seq}"))
        check_eq((root["transaction_id"], root["offset"]), tuple(pointer), f"roots/{seq}")
        check_eq(root["seq"], seq, f"seq of roots/{seq}")
    check_eq(json.loads(read(f"{mnt}/roots/current"))["seq"], seqs[-1], "roots/current")
    check_eq(os.readlink(f"{mnt}/roots/current"), str(seqs[-1]), "where roots/current points")


def check_space_names(mnt):
    for name in os.listdir(f"{mnt}/space"):
        check(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|space_root|space_root\.lock", name),
              f"space/ lists {name}")


def history_survives(mode):
    with Store() as store, store.mount() as mnt:
        log = f"{store.base}/ack"
        client(mnt / "space", "--mode", mode, "--commits", COMMITS, "--ack", log)
        chain = pdb.walk(mnt / "space")
        check_eq(len(chain), COMMITS, "commits in the chain")
        check_acknowledged(chain, log)
        check_space_names(mnt)
        if mode != "seed":  # there several dangling roots become one published root
            check_views(mnt, chain)
        mnt.remount()
        check_eq(pdb.walk(mnt / "space"), chain, "the chain after a clean stop")
        client(mnt / "space", "--mode", mode, "--commits", 5, "--name", "second", "--ack", log)
        longer = pdb.walk(mnt / "space")
        check_eq(longer[5:], chain, "the old chain below the new commits")
        mnt.kill9()
        mnt.start()
        again = pdb.walk(mnt / "space")
        if mode == "seed":  # never fsynced: all that was published is there, whole
            check_eq(again[-len(chain):], chain, "the chain from before the kill -9")
        else:
            check_eq(again, longer, "the chain after kill -9")
            check_acknowledged(again, log)
            check_views(mnt, again)
        mnt.umount()
        store.fsck("--deep")


@test
def history_of_a_client_that_flushes_and_syncs_before_the_root():
    history_survives("shim")


@test
def history_of_a_client_that_flushes_before_the_root():
    history_survives("flushed")


@test
def history_of_a_client_as_protodb_is():
    history_survives("seed")


@test
def two_processes_contend_for_the_lock():
    with Store() as store, store.mount("fence_root") as mnt:
        log = f"{store.base}/ack"
        clients = [start_client(mnt / "space", "--mode", mode, "--commits", COMMITS, "--name", mode, "--ack", log)
                   for mode in ("shim", "flushed")]
        for process in clients:
            check_eq(process.wait(60), 0, "exit code of a client")
        chain = pdb.walk(mnt / "space")
        check_eq(len(chain), 2 * COMMITS, "commits of both: none overwrote the other's root")
        check_acknowledged(chain, log)
        for mode in ("shim", "flushed"):
            check_eq([n for client, n, _ in chain if client == mode], list(range(COMMITS))[::-1], f"commits of {mode}")
        check_views(mnt, chain)
        mnt.remount()
        check_views(mnt, pdb.walk(mnt / "space"))


@test
def a_root_before_its_bytes_is_held_and_not_published():
    with Store() as store, store.mount() as mnt:
        log = f"{store.base}/ack"
        client(mnt / "space", "--commits", 3, "--ack", log)
        published = pdb.walk(mnt / "space")
        client(mnt / "space", "--mode", "seed", "--commits", 0, "--crash-after", 5, "--atoms", 1, "--ack", log,
               "--name", "killed", ok=-signal.SIGKILL)
        # Nothing reverts under living clients: the root reads back as it was written.
        held = pdb.Space(mnt / "space").read_root()
        check(held != tuple(published[0][2]), "space_root does not show the root that was written last")
        check_eq(json.loads(read(mnt / "roots/current"))["seq"], 3, "roots/current while a root is dangling")
        check_eq(sorted(n for n in os.listdir(mnt / "roots") if n.isdigit()), ["1", "2", "3"], "roots/")
        mnt.kill9()
        mnt.start()
        check_eq(pdb.walk(mnt / "space"), published, "what is there after a restart: the newest published root")
        check_acknowledged(published, log)
        # On an ordinary filesystem the same client leaves a store that does not open.
        client(f"{store.base}/plain", "--mode", "seed", "--commits", 0, "--crash-after", 5, "--atoms", 1,
               ok=-signal.SIGKILL)
        try:
            pdb.walk(f"{store.base}/plain")
            fail("the client left a whole store on a plain directory: it does not do what ProtoDB does")
        except pdb.Broken as broken:
            print(f"      on a plain directory: {broken}")


@test
def a_dangling_root_is_published_when_its_bytes_come():
    with Store() as store, store.mount() as mnt:
        session = pdb.Client(mnt / "space", "seed")
        root = session.commit()
        check(not os.path.lexists(mnt / "roots/1"), "a dangling root is in roots/")
        check_eq(pdb.Space(mnt / "space").read_root(), root, "space_root while dangling")
        session.close()
        wait_for(lambda: os.path.exists(mnt / "roots/1"), "the root to be published", 5)
        mnt.kill9()
        mnt.start()
        check_eq(pdb.walk(mnt / "space"), [("c", 0, root)], "the chain after kill -9")


@test
def sessions_that_write_nothing_cost_nothing():
    with Store() as store, store.mount() as mnt:
        for _ in range(50):
            pdb.Client(mnt / "space", "seed").close()
        mnt.umount()
        check_eq(store.segments(), [], "segments on the disk")
        mnt.start()
        check_eq([n for n in os.listdir(mnt / "space") if len(n) == 36], [], "segments in space/")


@test
def a_large_commit_is_flushed_in_one_go():
    with Store() as store, store.mount() as mnt:
        space = mnt / "space"
        session = pdb.Client(space, "shim")
        payload = random_bytes(20 * MIB)
        check_eq(os.fstat(session.segment.fd).st_blksize, MIB, "st_blksize")
        pointer = session.segment.push(payload, RAW)
        start = time.monotonic()
        session.commit(0)
        print(f"      20 MiB and a root in {time.monotonic() - start:.2f} s")
        session.close()
        mnt.kill9()
        mnt.start()
        check_eq(pdb.Reader(pdb.Space(space)).atom(pointer), (RAW, payload), "the atom after kill -9")
        check_eq(read(f"{mnt}/atoms/{pointer[0]}/{pointer[1]}"), payload, "the same in atoms/")


@test
def the_client_itself_works_on_a_plain_directory():
    with temporary_dir() as base:
        for mode in ("seed", "flushed", "shim"):
            client(f"{base}/{mode}", "--mode", mode, "--commits", 10, "--ack", f"{base}/ack")
            chain = pdb.walk(f"{base}/{mode}")
            check_eq(len(chain), 10, f"commits of {mode}")
        os.truncate(f"{base}/shim/{chain[0][2][0]}", 1000)
        try:
            pdb.walk(f"{base}/shim")
            fail("walk() does not notice a lost tail")
        except pdb.Broken:
            pass


main()
