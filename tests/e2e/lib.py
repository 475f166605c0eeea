"""What the end-to-end tests share: stores, mounts, daemons, frames, pointers and assertions.

A test script looks like this:

    #!/usr/bin/python3
    \"\"\"What is tested.\"\"\"
    from lib import *

    @test
    def a_root_is_there_after_kill9():
        with Store() as store, store.mount() as mnt:
            ...
            check_eq(got, want, "the bytes of the atom")

    main()

It runs with PROTOFS=<binary> in the environment; exit code 0, 1, or 77 after a line "SKIP: reason".
Arguments name the tests to run (all by default); -l lists them. Every other knob is in README.md.

Rules that this file keeps for all tests: nothing stays mounted, only processes that a test started are
killed (by pid), a daemon whose output holds a sanitizer report or a broken invariant fails the test, and no
test hangs: after TEST_TIMEOUT seconds the watchdog kills the daemons, which frees whoever waits for them.
"""
import atexit
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import namedtuple

try:
    import msgpack
except ImportError:
    # A python3 from elsewhere (pyenv, a venv) does not see Debian's packages.
    if sys.executable == "/usr/bin/python3" or not os.path.exists("/usr/bin/python3"):
        print("SKIP: python3-msgpack is not installed")
        sys.exit(77)
    os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B", *sys.argv])

sys.stdout.reconfigure(line_buffering=True)

HERE = os.path.dirname(os.path.abspath(__file__))
PROTOFS = os.path.abspath(os.environ["PROTOFS"]) if "PROTOFS" in os.environ else None
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
rng = random.Random(SEED)

MIB = 1 << 20
RAW, JSON, MSGPACK = 0, 1, 2
FUSE_TYPE = "fuse.protofs"


# ---- Assertions ----------------------------------------------------------------------------------


class Failure(AssertionError):
    pass


class Skip(Exception):
    pass


def skip(reason):
    raise Skip(reason)


def fail(message):
    raise Failure(message)


def short(value, size=300):
    """A value for a message: its head, and its length when that says more."""
    text = repr(value)
    if len(text) <= size:
        return text
    length = f" ({len(value)} long)" if hasattr(value, "__len__") else ""
    return text[:size] + "..." + length


def check(condition, message):
    if not condition:
        fail(message)


def check_eq(got, want, what):
    if got == want:
        return
    where = ""
    if isinstance(got, (bytes, bytearray)) and isinstance(want, (bytes, bytearray)):
        common = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        where = f"\n    lengths {len(got)} and {len(want)}, first difference at byte {common}:"
        got, want = bytes(got[common:common + 40]), bytes(want[common:common + 40])
    fail(f"{what}:{where}\n    got  {short(got)}\n    want {short(want)}")


def check_in(needle, haystack, what):
    if needle not in haystack:
        fail(f"{what}: {short(needle)} is not in\n    {short(haystack, 2000)}")


def check_errno(want, what, function, *args, **kwargs):
    """FUNCTION must fail with errno WANT, or one of them where WANT is a tuple."""
    wants = want if isinstance(want, tuple) else (want,)
    names = " or ".join(errno.errorcode[w] for w in wants)
    try:
        result = function(*args, **kwargs)
    except OSError as error:
        if error.errno not in wants:
            fail(f"{what}: got {errno.errorcode.get(error.errno, error.errno)} ({error}), want {names}")
        return error.errno
    fail(f"{what}: succeeded with {short(result)}, want {names}")


def wait_for(condition, what, timeout=10.0, interval=0.02):
    """Waits until CONDITION() is true and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            fail(f"waited {timeout:g} s in vain for: {what}")
        time.sleep(interval)


# ---- Programs ------------------------------------------------------------------------------------

Result = namedtuple("Result", "code out err")


def run(command, ok=0, timeout=60, input=None, text=True, **kwargs):
    """Runs COMMAND (a list); checks its exit code unless OK is None, which may also be a tuple of codes."""
    command = [str(c) for c in command]
    try:
        done = subprocess.run(command, timeout=timeout, input=input, capture_output=True, text=text,
                              errors="replace" if text else None, **kwargs)
    except subprocess.TimeoutExpired:
        fail(f"{' '.join(command)}: not done after {timeout} s")
    if ok is not None and done.returncode not in (ok if isinstance(ok, tuple) else (ok,)):
        fail(f"{short(' '.join(command), 500)}: exit code {done.returncode}, want {ok}\n"
             f"    stdout: {short(done.stdout, 2000)}\n    stderr: {short(done.stderr, 2000)}")
    if text:
        check_output(done.stderr, " ".join(command))
    return Result(done.returncode, done.stdout, done.stderr)


def shell(script, **kwargs):
    return run(["bash", "-c", script], **kwargs)


def protofs(*args, **kwargs):
    """Runs a verb of the program."""
    return run([PROTOFS, *args], **kwargs)


def have(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def need(*programs):
    missing = [p for p in programs if not have(p)]
    if missing:
        skip(f"not installed: {', '.join(missing)}")


BAD_OUTPUT = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|invariant broken|"
    r"SUMMARY: \w+Sanitizer|stack smashing detected|corrupted size|double free|free\(\): invalid")


def check_output(text, who):
    """Fails when TEXT, what a program of ours printed, holds a report that nobody may overlook."""
    found = BAD_OUTPUT.search(text)
    if found:
        start = max(0, found.start() - 500)
        fail(f"{who} reported:\n{text[start:start + 6000]}")


# ---- Temporary directories -----------------------------------------------------------------------

_mounts = []  # Mount objects that may be mounted, newest last


def temporary(prefix="protofs-test-"):
    return tempfile.mkdtemp(prefix=prefix, dir=os.environ.get("PROTOFS_TEST_DIR"))


@contextlib.contextmanager
def temporary_dir():
    path = temporary()
    try:
        yield path
    finally:
        remove_tree(path)


def mounted_below(path):
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            where = line.split()[4].encode().decode("unicode_escape")
            if where == path or where.startswith(path + "/"):
                found.append(where)
    return found


def is_mounted(path):
    """Reads mountinfo only: a hung or dead mount cannot hang the test."""
    return path in mounted_below(path)


def remove_tree(path):
    for where in reversed(mounted_below(path)):
        subprocess.run(["umount", "-l", where], capture_output=True, check=False)
    shutil.rmtree(path, ignore_errors=True)


# ---- Daemons -------------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Daemon:
    """`protofs mount STORE MNT -f`, whose pid is therefore known."""

    def __init__(self, store, mnt, options=(), flags=(), env=None, wrapper=(), timeout=20, log=None):
        self.mnt = mnt
        self.log = log or os.path.join(os.path.dirname(mnt), f"daemon-{time.monotonic_ns()}.log")
        command = [*wrapper, PROTOFS, "mount", store, mnt, "-f", *flags]
        if options:
            command += ["-o", ",".join(options)]
        self.command = [str(c) for c in command]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent, env={**os.environ, **(env or {})})
        self.wrapped = bool(wrapper)
        self._wait_mounted(timeout)

    def _wait_mounted(self, timeout):
        deadline = time.monotonic() + timeout
        while not is_mounted(self.mnt):
            if self.process.poll() is not None:
                raise MountFailed(self.process.returncode, self.output())
            if time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                fail(f"not mounted after {timeout} s: {' '.join(self.command)}\n{self.output()}")
            time.sleep(0.002)

    @property
    def pid(self):
        """The daemon's own pid, also below a wrapper such as strace."""
        if not self.wrapped:
            return self.process.pid
        for pid in children_of(self.process.pid):
            if exe_of(pid) == os.path.realpath(PROTOFS):
                return pid
        fail(f"{self.command[0]} has no child that is {PROTOFS}")

    def output(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def kill9(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(30)

    def wait(self, timeout=60):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            fail(f"the daemon (pid {self.process.pid}) still runs after {timeout} s\n{self.output()}")

    def alive(self):
        return self.process.poll() is None

    def memory(self):
        """Resident bytes: (now, the most so far)."""
        with open(f"/proc/{self.pid}/status") as file:
            text = file.read()
        return tuple(int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024 for name in ("VmRSS", "VmHWM"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


class MountFailed(Failure):
    """The daemon ended before it mounted; CODE and OUTPUT say why."""

    def __init__(self, code, output):
        super().__init__(f"protofs mount ended with exit code {code}:\n{output}")
        self.code = code
        self.output = output


def children_of(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(p) for p in file.read().split()]
    return found


def exe_of(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def daemon_pid(mnt):
    """The pid of a daemon in the background, by its binary and its mountpoint. None if there is none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if exe_of(pid) != os.path.realpath(PROTOFS):
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if os.fsencode(mnt) in file.read().split(b"\0"):
                return int(pid)
    return None


class Mount:
    """A mounted store. Use store.mount(...) as a context manager; str() and / give paths.

    umount(), kill9() and remount() may be called any number of times inside the block.
    """

    def __init__(self, store, *options, **daemon):
        self.store = store
        self.options = options
        self.daemon_args = daemon
        self.path = os.path.join(store.base, f"mnt{next_number()}")
        os.mkdir(self.path)
        self.daemon = None
        self.stopped_with = None  # the exit code of the last clean stop
        self.logs = []

    def __str__(self):
        return self.path

    def __fspath__(self):
        return self.path

    def __truediv__(self, name):
        return os.path.join(self.path, str(name))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.umount()
        else:
            self.abandon()
            value.add_note(self.tail()) if hasattr(value, "add_note") else None

    def start(self):
        _mounts.append(self)
        log = os.path.join(self.store.base, f"daemon{next_number()}.log")
        self.logs.append(log)
        self.daemon = Daemon(self.store.dir, self.path, self.options, log=log, **self.daemon_args)
        return self

    @property
    def pid(self):
        return self.daemon.pid

    def umount(self, code=0):
        """A clean stop: everything is committed, the daemon ends with exit code CODE."""
        if self.daemon is None:
            return
        # A reader that has just closed may still hold the mount busy for an instant.
        for _ in range(100):
            done = subprocess.run(["fusermount3", "-u", self.path], capture_output=True, text=True, check=False)
            if done.returncode == 0 or "busy" not in done.stderr:
                break
            time.sleep(0.05)
        if done.returncode != 0 and is_mounted(self.path):
            fail(f"fusermount3 -u {self.path}: {done.stderr.strip()}")
        got = self.stopped_with = self.daemon.wait()
        self.ended()
        if code is not None and got != code:
            fail(f"the daemon ended with exit code {got}, want {code}:\n{self.tail()}")

    def terminate(self, number=signal.SIGTERM, code=0):
        """A clean stop by a signal."""
        os.kill(self.pid, number)
        got = self.daemon.wait()
        self.ended()
        if code is not None and got != code:
            fail(f"the daemon ended with exit code {got} after signal {number}, want {code}:\n{self.tail()}")
        check(not is_mounted(self.path), f"still mounted after signal {number}")

    def kill9(self, clean=True):
        """Ends the daemon as a crash does. CLEAN also removes the dead mount."""
        self.daemon.kill9()
        if clean:
            self.clean()
        self.ended()

    def clean(self):
        """Removes a dead mount, also when somebody still has files open in it."""
        done = None
        for flag in ("-u", "-uz"):
            if not is_mounted(self.path):
                return
            done = subprocess.run(["fusermount3", flag, self.path], capture_output=True, text=True, check=False)
        if is_mounted(self.path):
            fail(f"fusermount3 -uz {self.path}: {done.stderr.strip()}")

    def remount(self, *options):
        """Mounts again, with OPTIONS if there are any. Umounts cleanly when it is mounted."""
        if self.daemon is not None:
            self.umount()
        if options:
            self.options = options
        return self.start()

    def ended(self):
        self.daemon = None
        if self in _mounts:
            _mounts.remove(self)
        with open(self.logs[-1], errors="replace") as file:
            check_output(file.read(), "the daemon")

    def output(self):
        """Everything that all daemons of this mount have printed."""
        text = ""
        for log in self.logs:
            with open(log, errors="replace") as file:
                text += file.read()
        return text

    def tail(self):
        return f"the daemon's last words:\n{self.output()[-4000:]}"

    def abandon(self):
        """Cleans up after a failure: no check, no wait without end."""
        if self in _mounts:
            _mounts.remove(self)
        daemon, self.daemon = self.daemon, None
        if daemon is not None and daemon.alive():
            for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
                with contextlib.suppress(OSError, Failure, subprocess.TimeoutExpired):
                    os.kill(daemon.pid, number)
                    daemon.process.wait(seconds)
                    break
        if is_mounted(self.path):
            subprocess.run(["umount", "-l", self.path], capture_output=True, check=False)


class Store:
    """A new store in a temporary directory: .dir is the store, .base what holds it and its mounts.

    AT puts the store elsewhere, on another filesystem for example.
    """

    def __init__(self, *init_args, base=None, init=True, at=None):
        self.parent = base
        self.at = at
        self.init_args = init_args
        self.init = init
        self.base = self.dir = None

    def __enter__(self):
        self.base = temporary() if self.parent is None else tempfile.mkdtemp(dir=self.parent)
        self.dir = self.at or os.path.join(self.base, "store")
        if self.init:
            try:
                protofs("init", self.dir, *self.init_args)
            except BaseException:
                remove_tree(self.base)
                raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and os.environ.get("KEEP"):
            print(f"  kept: {self.base}")
            return
        remove_tree(self.base)

    def __str__(self):
        return self.dir

    def __fspath__(self):
        return self.dir

    def __truediv__(self, name):
        return os.path.join(self.dir, str(name))

    def mount(self, *options, **daemon):
        return Mount(self, *options, **daemon)

    def fsck(self, *args, ok=0):
        """fsck of the store, which no daemon may hold. Returns the result."""
        return protofs("fsck", self.dir, *args, ok=ok, timeout=120)

    def segments(self):
        """UUIDs of the segments that are on the disk."""
        return sorted(os.listdir(self / "segments"))

    def parts(self, segment):
        """Paths of the segment's parts, in the order of the stream."""
        folder = os.path.join(self.dir, "segments", segment)
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


_number = 0


def next_number():
    global _number
    _number += 1
    return _number


# ---- Frames and pointers -------------------------------------------------------------------------

Frame = namedtuple("Frame", "offset format payload")
HEADER = struct.Struct("<QB")


class Pointer(namedtuple("Pointer", "segment offset")):
    __slots__ = ()

    @classmethod
    def parse(cls, text):
        found = re.fullmatch(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(\d+)", text.strip())
        if not found:
            fail(f"{short(text)} is no pointer")
        return cls(found[1], int(found[2]))

    @classmethod
    def of_json(cls, text):
        value = json.loads(text)
        return cls(value["transaction_id"], value["offset"])

    def __str__(self):
        return f"{self.segment}/{self.offset}"

    def json(self):
        """As ProtoDB writes it: `transaction_id` is our segment."""
        return json.dumps({"transaction_id": self.segment, "offset": self.offset}).encode()


def frame(payload, format=RAW):
    return HEADER.pack(len(payload), format) + payload


def json_frame(value):
    return frame(json.dumps(value).encode(), JSON)


def msgpack_frame(value):
    return frame(msgpack.packb(value), MSGPACK)


def parse_frames(data):
    """All whole frames of DATA, and the number of bytes that they cover."""
    frames, at = [], 0
    while at + HEADER.size <= len(data):
        size, format = HEADER.unpack_from(data, at)
        end = at + HEADER.size + size
        if end > len(data):
            break
        frames.append(Frame(at, format, bytes(data[at + HEADER.size:end])))
        at = end
    return frames, at


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3(data):
    """XXH3-128 in hex, as `xxh128sum` prints it. protofs itself needs the library, so it is there."""
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_128bits.restype = _Hash128
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    value = library.XXH3_128bits(bytes(data), len(data))
    return f"{value.high:016x}{value.low:016x}"


# ---- Files ---------------------------------------------------------------------------------------


def read(path):
    with open(path, "rb", buffering=0) as file:
        pieces = []
        while piece := file.read(MIB):
            pieces.append(piece)
    return b"".join(pieces)


def read_text(path):
    return read(path).decode()


def write(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o644, sync=False):
    fd = os.open(path, flags, mode)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def close_dead(fd):
    """Closes a file of a daemon that was killed: the FLUSH of its close fails, the descriptor is gone."""
    with contextlib.suppress(OSError):
        os.close(fd)


def small_names(mnt):
    """What space/ lists beside segments, the root and its lock."""
    return sorted(n for n in os.listdir(f"{mnt}/space") if len(n) != 36 and n not in ("space_root", "space_root.lock"))


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def append(path, data, sync=True):
    write(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND, sync=sync)


def publish(mnt, pointer, name=None):
    """Publishes a root as ProtoDB does, through space/space_root."""
    text = pointer if isinstance(pointer, bytes) else pointer.json()
    tmp = f"{mnt}/space/{name or f'space_root.{uuid.uuid4()}.{uuid.uuid4().hex}.tmp'}"
    write(tmp, text, sync=True)
    os.rename(tmp, f"{mnt}/space/space_root")
    fd = os.open(f"{mnt}/space", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put(where, data, format="raw"):
    """`protofs put` of one atom: returns its pointer once it is durable."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return Pointer.parse(protofs("put", where, "--format", format, file.name).out)


def flip(path, offset, mask=0x40):
    """Damages one byte."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        check(byte, f"{path} has no byte {offset}")
        file.seek(offset)
        file.write(bytes([byte[0] ^ mask]))
        file.flush()
        os.fsync(file.fileno())


def new_uuid():
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def random_bytes(size):
    return rng.randbytes(size)


def words(size):
    """SIZE bytes that look like text and compress like it."""
    out = b""
    while len(out) < size:
        out += b"%x the quick brown root %d\n" % (rng.getrandbits(32), len(out))
    return out[:size]


def errors_text(mnt):
    """What .ctl/errors says now."""
    return read_text(f"{mnt}/.ctl/errors")


def stats(mnt):
    return json.loads(read_text(f"{mnt}/.ctl/stats.json"))


def flat(value, prefix=""):
    """The leaves of nested objects as (dotted name, value)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), value


def is_read_only(mnt):
    return any(key.split(".")[-1] == "read_only" and value is True for key, value in flat(stats(mnt)))


# ---- The runner ----------------------------------------------------------------------------------

_tests = []


def test(function):
    _tests.append(function)
    return function


TIMEOUT = float(os.environ.get("TEST_TIMEOUT") or 240)


def _watchdog(seconds):
    """Frees whoever hangs: a dead daemon's mount answers ENOTCONN, so the test fails and says where."""

    def bite():
        sys.stderr.write(f"\nwatchdog: not done after {seconds:g} s; the threads are at:\n")
        for ident, stack in sys._current_frames().items():
            sys.stderr.write(f"-- thread {ident}\n{''.join(traceback.format_stack(stack))}")
        for mount in list(_mounts):
            if mount.daemon is not None:
                sys.stderr.write(f"-- {mount.tail()}\n")
                with contextlib.suppress(OSError, Failure):
                    os.kill(mount.daemon.pid, signal.SIGABRT)
        time.sleep(20)
        sys.stderr.write("watchdog: still not done, giving up\n")
        _clean_up()
        os._exit(1)

    timer = threading.Timer(seconds, bite)
    timer.daemon = True
    timer.start()


def _clean_up():
    for mount in list(_mounts):
        with contextlib.suppress(Exception):
            mount.abandon()


def main(timeout=None):
    """Runs the tests of this script and exits. TIMEOUT is in seconds, for all of them."""
    if PROTOFS is None or not os.access(PROTOFS, os.X_OK):
        print("PROTOFS is not set or not a program: run with PROTOFS=<binary>")
        sys.exit(2)
    wanted = sys.argv[1:]
    if wanted == ["-l"]:
        print("\n".join(t.__name__ for t in _tests))
        sys.exit(0)
    unknown = set(wanted) - {t.__name__ for t in _tests}
    if unknown:
        print(f"no such test: {', '.join(sorted(unknown))}")
        sys.exit(2)
    print(f"seed {SEED} (SEED={SEED} repeats it)")
    atexit.register(_clean_up)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _watchdog(max(TIMEOUT, timeout or 0))

    failed = skipped = 0
    chosen = [t for t in _tests if not wanted or t.__name__ in wanted]
    for function in chosen:
        # Each test has its own random numbers, so that one alone repeats what it did among all.
        rng.seed(f"{SEED} {function.__name__}")
        start = time.monotonic()
        name = function.__name__.replace("_", " ")
        try:
            function()
        except Skip as reason:
            skipped += 1
            print(f"SKIP: {name}: {reason}")
        except Exception as error:
            failed += 1
            print(f"FAIL  {name} ({time.monotonic() - start:.1f} s)")
            if isinstance(error, Failure):
                trace = traceback.extract_tb(error.__traceback__)
                spots = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in trace
                         if os.path.basename(f.filename) != "lib.py"]
                print(f"  at {' < '.join(reversed(spots))}\n  {error}")
                for note in getattr(error, "__notes__", ()):
                    print(f"  {note}")
            else:
                print(traceback.format_exc())
        else:
            print(f"ok    {name} ({time.monotonic() - start:.1f} s)")
    if failed:
        print(f"{failed} of {len(chosen)} failed (SEED={SEED})")
        sys.exit(1)
    sys.exit(77 if skipped == len(chosen) else 0)
