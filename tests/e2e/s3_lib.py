"""What tests against S3 share: servers that are started once, and the program's S3 client in a test's hands."""
import atexit
import contextlib
import json
import os
import select
import subprocess
import tempfile
import threading

import s3_servers
from lib import (MIB, Failure, check, check_eq, check_output, die_with_parent, fail, need, random_bytes, remove_tree,
                 skip, temporary)
from s3_fault_server import FaultServer

S3_PROBE = os.environ.get("S3_PROBE")
UUID = "0190aaaa-0000-4000-8000-00000000cafe"

_servers = {}  # kind -> running Server


def shared(kind):
    """The server of this kind that all tests of this process use."""
    if kind not in _servers:
        try:
            server = s3_servers.SERVERS[kind]()
        except s3_servers.NotInstalled as error:
            skip(str(error))
        try:
            _servers[kind] = server.start()
        except s3_servers.ServerFailed as error:
            fail(str(error))
        atexit.register(server.stop)
    return _servers[kind]


def rgw():
    return shared("rgw")


def swift():
    return shared("swift")


_buckets = 0


def new_bucket(server, acl=None):
    """The name of a new bucket."""
    global _buckets
    _buckets += 1
    name = f"bucket-{os.getpid()}-{_buckets}"
    with contextlib.closing(server.client()) as client:
        client.make_bucket(name, acl)
    return name


def clean_environment(**more):
    """Nothing of the user's own credentials or settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and not k.lower().endswith("_proxy")}
    return kept | {"HOME": "/nonexistent"} | more


def block(position, uuid=UUID):
    """The key of a block."""
    return f"wal/{uuid}/{position:020d}"


def delta(position, start, end, uuid=UUID):
    return f"wal/{uuid}/{position:020d}+{start:010d}-{end:010d}"


def manifest(number):
    return f"roots/{number:020d}"


class Probe:
    """The program's own S3 client, driven call by call: s3_probe. No secret may ever be in what it says."""

    def __init__(self, url, *options, env=None, secrets=(), wrapper=()):
        if not S3_PROBE or not os.access(S3_PROBE, os.X_OK):
            fail("S3_PROBE is not set or not a program")
        env = clean_environment(**(env or {}))
        self.secrets = [s for s in (*secrets, env.get("AWS_SECRET_ACCESS_KEY"), env.get("AWS_SESSION_TOKEN")) if s]
        self.dir = temporary("s3-probe-")
        self.url = url
        self.log = open(os.path.join(self.dir, "stderr"), "w+b")
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [str(c) for c in (*wrapper, S3_PROBE, *options, url, "-")], env=env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, preexec_fn=die_with_parent)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                if kind is None:
                    fail("s3_probe does not end")
        self.process.stdout.close()
        text = self.stderr()
        self.log.close()
        remove_tree(self.dir)
        if kind is None:
            check(self.process.returncode in (0, 1), f"s3_probe ended with {self.process.returncode}: {text}")
            check_output(text, "s3_probe")
            self._check_secrets(text)

    def stderr(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def _check_secrets(self, text):
        for secret in self.secrets:
            check(secret not in text, f"a secret is in what the client says: {text}")

    def _line(self, timeout):
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], timeout)
            if not ready:
                fail(f"s3_probe does not answer within {timeout} s\n{self.stderr()}")
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                self.process.wait(30)
                fail(f"s3_probe ended with {self.process.returncode}: {self._buffer.decode()}{self.stderr()}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def start(self, *words):
        """Sends a command; finish() takes its answer."""
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def finish(self, timeout=90):
        line = self._line(timeout)
        self._check_secrets(line)
        try:
            return json.loads(line)
        except ValueError:
            raise Failure(f"s3_probe said {line!r}") from None

    def call(self, *words, timeout=90):
        """The answer as a dict: code is 0 or -errno."""
        self.start(*words)
        return self.finish(timeout)

    def file(self, data=b""):
        fd, path = tempfile.mkstemp(dir=self.dir)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        return path

    # -- short forms: the answer, whose code the caller judges

    def put(self, key, data, first_frame=None, **kwargs):
        more = () if first_frame is None else (first_frame,)
        return self.call("put", key, self.file(data), *more, **kwargs)

    def get(self, key, **kwargs):
        """The answer, with "data" when it succeeded."""
        path = self.file()
        answer = self.call("get", key, path, **kwargs)
        if answer["code"] == 0:
            with open(path, "rb") as file:
                answer["data"] = file.read()
        os.unlink(path)
        return answer

    def range(self, key, offset, size, **kwargs):
        path = self.file()
        answer = self.call("range", key, offset, size, path, **kwargs)
        if answer["code"] == 0:
            with open(path, "rb") as file:
                answer["data"] = file.read()
        return answer

    def head(self, key):
        return self.call("head", key)

    def list(self, prefix="-", after=None, **kwargs):
        return self.call("list", prefix, *([after] if after else []), **kwargs)

    def delete(self, key):
        return self.call("delete", key)

    def status(self):
        return self.call("status")

    def memory(self):
        """The most bytes that it ever had in memory."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))


def must(answer, code=0, text=()):
    """The answer's code is CODE (one or several), and its error says each of TEXT."""
    codes = code if isinstance(code, tuple) else (code,)
    if answer["code"] not in codes:
        fail(f"{answer['command']}: code {answer['code']}, want {codes}: {answer.get('error')}")
    for word in (text,) if isinstance(text, str) else text:
        check(word.lower() in answer["error"].lower(), f"{answer['command']}: {answer['error']!r} does not say {word!r}")
    if answer["code"] != 0:
        check(answer["error"], f"{answer['command']}: code {answer['code']} without a word")
    return answer


def check_get(probe, key, data):
    check_eq(must(probe.get(key))["data"], data, f"bytes of {key}")


__all__ = ["MIB", "UUID", "FaultServer", "Probe", "block", "check_get", "clean_environment", "delta", "manifest", "must",
           "need", "new_bucket", "random_bytes", "rgw", "shared", "swift"]
