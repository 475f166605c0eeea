"""Scratch directories, stores and mounts that always go away again."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 30


class BenchError(Exception):
    """A row could not be measured; the text says why."""


def run(*command, timeout_s=900, **options):
    """Runs a program to its end and returns its standard output."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, **options)
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"{Path(command[0]).name} {' '.join(command[1:3])}: "
                         f"exit {done.returncode}: {text[-1] if text else 'no message'}")
    return done.stdout


def is_mounted(path):
    """True when a FUSE file system is mounted on PATH. Does not touch the mount itself."""
    wanted = str(path).replace(" ", "\\040")
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return any(line.split()[4] == wanted for line in lines)


def wait_for(condition, what, timeout_s, interval_s=0.002):
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {timeout_s} s")
        time.sleep(interval_s)


@contextlib.contextmanager
def scratch(parent):
    """A new directory in PARENT, removed at the end with all that is in it."""
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=parent)).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def mounted(command, mountpoint, env=None):
    """
    Starts COMMAND, a FUSE daemon in the foreground, waits for its mount, and unmounts it at the end.
    Yields its process id. ENV is its environment (None: ours).
    """
    mountpoint.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+") as log:
        daemon = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log, env=env)
        try:
            wait_for(lambda: is_mounted(mountpoint) or daemon.poll() is not None,
                     f"mount of {mountpoint}", START_TIMEOUT_S)
            if daemon.poll() is not None:
                log.seek(0)
                raise BenchError(f"{Path(command[0]).name}: exit {daemon.returncode}: "
                                 f"{log.read().strip()}")
            yield daemon.pid
        finally:
            stop(daemon, mountpoint)


def stop(daemon, mountpoint):
    """Unmounts; lazily, and with a kill of this one daemon, if that does not help."""
    if is_mounted(mountpoint):
        subprocess.run(["fusermount3", "-u", str(mountpoint)], capture_output=True, check=False)
    with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.wait(STOP_TIMEOUT_S if not is_mounted(mountpoint) else 1)
        return
    subprocess.run(["fusermount3", "-uz", str(mountpoint)], capture_output=True, check=False)
    daemon.kill()
    daemon.wait()


def memory_mib(pid, field):
    """VmRSS (now) or VmHWM (the most so far) of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise BenchError(f"no {field} in the status of process {pid}")


def pin(pid):
    """Keeps all threads of a process on one CPU, the first that it may use."""
    cpu = min(os.sched_getaffinity(0))
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), {cpu})


def pin_self():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def readahead_file(mountpoint):
    device = os.stat(mountpoint).st_dev
    return Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")


def copy_readahead(source, target):
    """The null file system reads ahead as far as ours does: it is the limit, not a straw man."""
    with contextlib.suppress(OSError):
        readahead_file(target).write_text(readahead_file(source).read_text())
