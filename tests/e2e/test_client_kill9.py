#!/usr/bin/python3
"""kill -9 of the client, and of the daemon, between any two of the client's system calls."""
from lib import *
import protodb_client as pdb

CLIENT = ["/usr/bin/python3", "-B", os.path.join(HERE, "protodb_client.py")]
STRIDE = int(os.environ.get("STRIDE") or 1)  # every Nth call only


def calls_of(session):
    """How many system calls SESSION makes: measured on a plain directory."""
    with temporary_dir() as base:
        out = run([*CLIENT, f"{base}/space", *session, "--count"]).out
    return int(out)


def check_whole(mnt, log, held_ok=False):
    """What the newest root refers to is whole, and every acknowledged commit is in it."""
    space = mnt / "space"
    try:
        chain = pdb.walk(space)
    except pdb.Broken:
        check(held_ok, "the root is not whole")
        # A dangling root, held for clients that live on; a restart shows the newest published one.
        root = json.loads(read(mnt / "roots/current"))
        mnt.kill9()
        mnt.start()
        chain = pdb.walk(space)
        check_eq(chain[0][2], (root["transaction_id"], root["offset"]), "the root after a restart")
    there = {(client, n, tuple(pointer)) for client, n, pointer in chain}
    for line in pdb.acknowledged(log):
        key = (line["client"], line["n"], tuple(line["root"]))
        if not line.get("later"):
            check(key in there, f"lost: commit {line['n']} of {line['client']}, root {line['root']}")
    return chain


def sweep_client(mode):
    session = ["--mode", mode, "--commits", "2", "--atoms", "2"]
    calls = calls_of(session)
    with Store() as store, store.mount("fence_root") as mnt:
        space, log = mnt / "space", f"{store.base}/ack"
        # A first root, so that the kill can only ever leave that one or a newer one.
        run([*CLIENT, space, "--commits", "1", "--name", "first", "--ack", log])
        for step in range(1, calls + 20, STRIDE):  # here there is more to list than in the plain directory
            done = run([*CLIENT, space, *session, "--name", f"c{step}", "--ack", log, "--crash-at", step], ok=None)
            check(done.code in (-signal.SIGKILL, 0), f"call {step}: exit code {done.code}: {done.err}")
            check_whole(mnt, log, held_ok=mode == "seed")
            # The lock died with its holder.
            fd = os.open(space + "/space_root.lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)
            if done.code == 0:
                break
        else:
            fail(f"{step} calls were not enough to end a session")
        for name in os.listdir(space):
            check(name.startswith("space_root") or len(name) == 36, f"space/ lists {name}")
        mnt.kill9()
        mnt.start()
        check_whole(mnt, log)
        left = [n for n in os.listdir(space) if n.endswith(".tmp")]
        check_eq(left, [], "temporary roots of killed clients after a restart")
        mnt.umount()
        store.fsck("--deep")
        print(f"      {mode}: killed at each of {step} calls")


def sweep_daemon(mode):
    session = ["--mode", mode, "--commits", "2", "--atoms", "2"]
    calls = calls_of(session)
    with Store() as store, store.mount() as mnt:
        space, log = mnt / "space", f"{store.base}/ack"
        run([*CLIENT, space, "--commits", "1", "--name", "first", "--ack", log])
        before = pdb.walk(space)
        step = 1
        while True:
            client = subprocess.Popen([*CLIENT, space, *session, "--name", f"d{step}", "--ack", log,
                                       "--pause-at", str(step)], text=True, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            said = client.stdout.readline()
            if not said:  # it ended before it made so many calls
                out, err = client.communicate(timeout=20)
                check_eq(client.returncode, 0, f"exit code of the client ({err})")
                break
            mnt.kill9(clean=False)
            out, err = client.communicate("go\n", timeout=20)
            check(client.returncode in (0, 3), f"{said.strip()}: the client ended with {client.returncode}: {err}")
            mnt.clean()
            mnt.start()
            chain = check_whole(mnt, log)
            check_eq(chain[-len(before):], before, f"{said.strip()}: the history from before")
            before = chain
            step += STRIDE
            check(step < calls + 40, "a session does not end")
        mnt.umount()
        store.fsck("--deep")
        print(f"      {mode}: killed at each of {step - 1} calls of about {calls}")


@test
def the_client_that_syncs_is_killed():
    sweep_client("shim")


@test
def the_client_that_flushes_is_killed():
    sweep_client("flushed")


@test
def the_client_as_protodb_is_killed():
    sweep_client("seed")


@test
def the_daemon_is_killed_under_a_client_that_syncs():
    sweep_daemon("shim")


@test
def the_daemon_is_killed_under_a_client_as_protodb_is():
    sweep_daemon("seed")


@test
def the_daemon_is_killed_under_a_client_that_flushes():
    sweep_daemon("flushed")


main()
