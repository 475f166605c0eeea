#!/usr/bin/python3
"""flock on space/space_root.lock: one lock for all processes, waits that end, and the fence."""
from lib import *


def opened(mnt, flags=os.O_RDWR | os.O_CREAT):
    return os.open(mnt / "space/space_root.lock", flags, 0o777)


class Other:
    """A process that runs one of our small programs; `said` is its next line."""

    PROGRAM = """
import fcntl, os, sys, signal
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o777)
def say(text): print(text, flush=True)
for line in sys.stdin:
    try:
        exec(line)
        say("done")
    except OSError as error:
        say(os.strerror(error.errno))
    except KeyboardInterrupt:
        say("interrupted")
"""

    def __init__(self, mnt):
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", self.PROGRAM, mnt / "space/space_root.lock"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=die_with_parent)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.tell(line)
        return self.said()

    def said(self):
        return self.process.stdout.readline().strip()

    def state(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def waits(self):
        with open(f"/proc/{self.process.pid}/wchan") as file:
            return "fuse" in file.read() or self.state() in "SD"

    def kill9(self):
        self.process.kill()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            fail("a process that waits for the lock survives kill -9")

    def __enter__(self):
        check_eq(self.ask("pass"), "done", "the other process")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


LOCK = "fcntl.flock(fd, fcntl.LOCK_EX)"
TRY = "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)"
UNLOCK = "fcntl.flock(fd, fcntl.LOCK_UN)"
BUSY = os.strerror(errno.EAGAIN)


@test
def nonblocking_answers_at_once():
    with Store() as store, store.mount() as mnt, Other(mnt) as a, Other(mnt) as b:
        check_eq(a.ask(TRY), "done", "the first lock")
        start = time.monotonic()
        check_eq(b.ask(TRY), BUSY, "LOCK_NB while another process holds it")
        check(time.monotonic() - start < 0.5, "LOCK_NB waited")
        check_eq(a.ask(TRY), "done", "the holder locks again")
        check_eq(a.ask(UNLOCK), "done", "unlock")
        check_eq(b.ask(TRY), "done", "LOCK_NB once it is free")


@test
def shared_locks_share():
    with Store() as store, store.mount() as mnt, Other(mnt) as a, Other(mnt) as b, Other(mnt) as c:
        shared = "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)"
        check_eq(a.ask(shared), "done", "the first shared lock")
        check_eq(b.ask(shared), "done", "the second shared lock")
        check_eq(c.ask(TRY), BUSY, "an exclusive lock beside shared ones")
        check_eq(a.ask(UNLOCK), "done", "unlock")
        check_eq(c.ask(TRY), BUSY, "an exclusive lock beside one shared one")
        check_eq(b.ask(UNLOCK), "done", "unlock")
        check_eq(c.ask(TRY), "done", "an exclusive lock alone")
        check_eq(a.ask(shared), BUSY, "a shared lock beside an exclusive one")


@test
def a_waiter_gets_it_when_it_is_freed():
    with Store() as store, store.mount() as mnt, Other(mnt) as a, Other(mnt) as b:
        check_eq(a.ask(LOCK), "done", "lock")
        b.tell(LOCK)
        time.sleep(0.2)
        check(b.waits(), "the second process does not wait")
        start = time.monotonic()
        check_eq(a.ask(UNLOCK), "done", "unlock")
        check_eq(b.said(), "done", "the waiter")
        check(time.monotonic() - start < 1, "the waiter got it late")
        check_eq(a.ask(TRY), BUSY, "the first process now")


@test
def waiters_each_get_it_once():
    with Store() as store, store.mount() as mnt, contextlib.ExitStack() as stack:
        others = [stack.enter_context(Other(mnt)) for _ in range(6)]
        path = f"{store.base}/counter"
        write(path, b"0")
        body = f"fcntl.flock(fd, fcntl.LOCK_EX); n = int(open({path!r}).read()); " \
               f"import time; time.sleep(0.005); open({path!r}, 'w').write(str(n + 1)); fcntl.flock(fd, fcntl.LOCK_UN)"
        for _ in range(5):
            for other in others:
                other.tell(body)
        for _ in range(5):
            for other in others:
                check_eq(other.said(), "done", "a turn")
        check_eq(read(path), b"30", "the counter that the lock protects")


@test
def a_waiter_can_be_interrupted():
    with Store() as store, store.mount() as mnt, Other(mnt) as a, Other(mnt) as b:
        check_eq(a.ask(LOCK), "done", "lock")
        b.tell(LOCK)
        time.sleep(0.2)
        b.process.send_signal(signal.SIGINT)
        check_eq(b.said(), "interrupted", "a waiter after SIGINT")
        check_eq(a.ask(UNLOCK), "done", "unlock")
        # The interrupted wait did not leave a lock behind.
        check_eq(a.ask(TRY), "done", "lock after the interrupted waiter")


@test
def a_waiter_can_be_killed():
    with Store() as store, store.mount() as mnt, Other(mnt) as a, Other(mnt) as b, Other(mnt) as c:
        check_eq(a.ask(LOCK), "done", "lock")
        b.tell(LOCK)
        c.tell(LOCK)
        time.sleep(0.2)
        b.kill9()
        check_eq(a.ask(UNLOCK), "done", "unlock")
        check_eq(c.said(), "done", "the waiter behind the killed one")
        check_eq(a.ask(TRY), BUSY, "the first process now")


@test
def kill9_of_the_holder_frees_it():
    with Store() as store, store.mount() as mnt, Other(mnt) as a, Other(mnt) as b:
        check_eq(a.ask(LOCK), "done", "lock")
        b.tell(LOCK)
        time.sleep(0.1)
        a.kill9()
        check_eq(b.said(), "done", "the waiter after the holder's death")


@test
def it_belongs_to_the_open_file_and_its_duplicates():
    with Store() as store, store.mount() as mnt, Other(mnt) as other:
        fd = opened(mnt)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        second = os.dup(fd)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the same lock
        os.close(fd)
        check_eq(other.ask(TRY), BUSY, "after one of two duplicates was closed")
        # A child inherits it; it lasts until the last copy is closed.
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        os.close(second)
        check_eq(other.ask(TRY), BUSY, "while a child holds the inherited descriptor")
        os.close(writer)
        os.waitpid(child, 0)
        wait_for(lambda: other.ask(TRY) == "done", "the lock after the last descriptor was closed", 5)
        # Two opens of one process are two owners.
        check_eq(other.ask(UNLOCK), "done", "unlock")
        first, second = opened(mnt), opened(mnt)
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        check_errno(errno.EAGAIN, "a second open of the same process", fcntl.flock, second,
                    fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(first)
        os.close(second)


@test
def fence_root_refuses_without_the_lock():
    with Store() as store, store.mount("fence_root") as mnt, Other(mnt) as other:
        pointers = [put(mnt, b"root %d" % n) for n in range(4)]
        check_errno(errno.EPERM, "publishing without the lock", publish, mnt, pointers[0])
        check(not os.path.lexists(mnt / "roots/1"), "a refused root is in roots/")
        check_eq(other.ask(LOCK), "done", "lock")
        check_errno(errno.EPERM, "publishing while another process holds the lock", publish, mnt, pointers[0])
        check_eq(other.ask(UNLOCK), "done", "unlock")
        fd = opened(mnt)
        fcntl.flock(fd, fcntl.LOCK_EX)
        publish(mnt, pointers[0])
        # Another thread of the same process: the thread group counts.
        failures = []
        thread = threading.Thread(target=lambda: failures.extend(attempt(lambda: publish(mnt, pointers[1]))))
        thread.start()
        thread.join(20)
        check_eq(failures, [], "publishing from another thread of the holder")
        fcntl.flock(fd, fcntl.LOCK_SH)
        check_errno(errno.EPERM, "publishing with a shared lock", publish, mnt, pointers[2])
        os.close(fd)
        check_errno(errno.EPERM, "publishing after the lock's file was closed", publish, mnt, pointers[2])
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), pointers[1], "space_root")


def attempt(function):
    try:
        function()
        return []
    except OSError as error:
        return [error]


@test
def without_the_fence_the_lock_is_advice():
    with Store() as store, store.mount() as mnt, Other(mnt) as other:
        check_eq(other.ask(LOCK), "done", "lock")
        pointer = put(mnt, b"root")
        publish(mnt, pointer)
        check_eq(Pointer.of_json(read(mnt / "space/space_root")), pointer, "space_root")


@test
def the_lock_file_is_an_empty_regular_file():
    with Store() as store, store.mount() as mnt, Other(mnt) as other:
        check_eq(other.ask(LOCK), "done", "lock")
        check_eq(read(mnt / "space/space_root.lock"), b"", "the lock file's bytes")
        mnt_stat = os.stat(mnt / "space/space_root.lock")
        check(stat.S_ISREG(mnt_stat.st_mode), "the lock is a regular file")


main()
