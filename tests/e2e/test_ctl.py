#!/usr/bin/python3
""".ctl/: what the store says about itself and what it can be told."""
from lib import *

TEXTS = ["status", "stats.json", "metrics", "errors"]
COMMANDS = ["sync", "prune", "seal", "accept"]


def command(mnt, name, data):
    """One write(2), as a shell's echo."""
    fd = os.open(mnt / f".ctl/{name}", os.O_WRONLY | os.O_TRUNC)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


@test
def the_directory():
    with Store() as store, store.mount() as mnt:
        st = os.stat(mnt / ".ctl")
        check_eq(oct(stat.S_IMODE(st.st_mode)), oct(0o700), "mode of .ctl")
        check_eq(sorted(os.listdir(mnt / ".ctl")), sorted(TEXTS + COMMANDS), "names: no upload, no peers")
        for name in TEXTS + COMMANDS:
            st = os.stat(mnt / f".ctl/{name}")
            check_eq(st.st_size, 0, f"size of {name}")
            check_eq(oct(stat.S_IMODE(st.st_mode)), oct(0o400 if name in TEXTS else 0o200), f"mode of {name}")
        for name in ("upload", "peers", "x"):
            check_errno(errno.ENOENT, name, os.stat, mnt / f".ctl/{name}")
        for name in TEXTS:
            check_errno(errno.EACCES, f"writing {name}", os.open, mnt / f".ctl/{name}", os.O_WRONLY)
        for name in COMMANDS:
            check_errno(errno.EACCES, f"reading {name}", os.open, mnt / f".ctl/{name}", os.O_RDONLY)
        check_errno(errno.EPERM, "unlink", os.unlink, mnt / ".ctl/status")
        check_errno(errno.EPERM, "create", os.open, mnt / ".ctl/new", os.O_CREAT | os.O_WRONLY)


@test
def texts():
    with Store() as store, store.mount() as mnt:
        segment = new_uuid()
        append(mnt / f"space/{segment}", frame(b"x" * 1000))
        publish(mnt, Pointer(segment, 0))
        value = stats(mnt)
        for key, want in (("roots_last", 1), ("roots_first", 1), ("read_only", False), ("damaged", False),
                          ("recovered", False), ("node", 1), ("parts_poisoned", 0)):
            check_eq(value[key], want, f"stats.json: {key}")
        check(value["bytes_stored"] >= 1009, f"bytes_stored {value['bytes_stored']}")
        check(value["segments"] >= 1 and value["open_parts"] >= 1, "segments")
        check(value["disk_total_bytes"] > value["disk_available_bytes"] > 0, "disk")
        uuid.UUID(value["store"])
        text = read_text(mnt / ".ctl/status")
        for word in (value["store"], "read-write", "roots", "disk", value["disk_path"]):
            check_in(word, text, "status")
        check_eq(read_text(mnt / ".ctl/errors"), "", "errors of a healthy store")
        if have("jq"):
            check_eq(run(["jq", "-r", ".store", mnt / ".ctl/stats.json"]).out.strip(), value["store"], "jq")
        check_in(value["store"], shell(f"cat {mnt}/.ctl/status").out, "cat")
        check_in(value["store"], shell(f"grep store {mnt}/.ctl/status").out, "grep")
        with temporary_dir() as tmp:
            run(["cp", mnt / ".ctl/status", f"{tmp}/status"])
            check_in(value["store"], read_text(f"{tmp}/status"), "cp")


@test
def metrics_are_prometheus():
    """Every sample has HELP and TYPE before it, and counters end with _total."""
    with Store() as store, store.mount() as mnt:
        write(mnt / "atoms/in/x", b"x")
        seen = {}
        kinds = {}
        for line in read_text(mnt / ".ctl/metrics").splitlines():
            if line.startswith("# HELP "):
                name = line.split()[2]
                check(len(line.split()) > 3, f"no help: {line}")
            elif line.startswith("# TYPE "):
                _, _, typed, kind = line.split()
                check_eq(typed, name, "TYPE follows HELP")
                check_in(kind, ("counter", "gauge"), line)
                kinds[typed] = kind
            else:
                sample, value = line.split()
                check_eq(sample, name, "the sample follows its TYPE")
                check(re.fullmatch(r"protofs_[a-z_]+", sample), sample)
                check_eq(sample.endswith("_total"), kinds[sample] == "counter", f"suffix of {sample}")
                check(sample not in seen, f"{sample} twice")
                seen[sample] = float(value)
        check(seen["protofs_appends_total"] >= 1 and len(seen) > 15, f"samples: {seen}")


@test
def a_snapshot_at_open():
    with Store() as store, store.mount() as mnt:
        with open(mnt / ".ctl/stats.json", "rb", buffering=0) as file:
            before = json.loads(file.read(1 << 16))
            for i in range(10):
                write(mnt / f"atoms/in/{i}", b"x")
            file.seek(0)
            check_eq(json.loads(file.read(1 << 16)), before, "the text of an open file")
            file.seek(0)
            pieces = b"".join(iter(lambda: file.read(7), b""))
            check_eq(json.loads(pieces), before, "in small pieces")
        check_eq(stats(mnt)["appends"], before["appends"] + 10, "opened again")


@test
def sync_makes_durable():
    with Store() as store, store.mount("flush_interval=600000") as mnt:
        segment = new_uuid()
        data = frame(b"waits")
        append(mnt / f"space/{segment}", data, sync=False)
        check(stats(mnt)["bytes_pending"] >= len(data), "pending before sync")
        shell(f"echo 1 > {mnt}/.ctl/sync")
        check_eq(stats(mnt)["bytes_pending"], 0, "pending after sync")
        mnt.kill9()
        mnt.start()
        check_eq(read(mnt / f"wal/{segment}"), data, "after kill -9")


@test
def seal_ends_parts():
    with Store() as store, store.mount() as mnt:
        segment = new_uuid()
        append(mnt / f"space/{segment}", frame(b"one"))
        check_eq(stats(mnt)["open_parts"], 1, "open parts")
        command(mnt, "seal", b"1\n")
        check_eq(stats(mnt)["open_parts"], 0, "open parts after seal")
        check_eq(read(store.parts(segment)[0]), frame(b"one"), "a sealed part is byte-exact")
        append(mnt / f"space/{segment}", frame(b"two"))
        check_eq(len(store.parts(segment)), 2, "parts")
        command(mnt, "seal", b"1")
        check_eq(read(mnt / f"wal/{segment}"), frame(b"one") + frame(b"two"), "the segment")


@test
def commands_that_are_none():
    with Store() as store, store.mount() as mnt:
        for name in COMMANDS:
            for data in (b"0", b"11", b"yes", b"\n", b" ", b"1\0", b"1 1", b"x" * 5000, random_bytes(36)):
                check_errno(errno.EINVAL, f"{data[:20]!r} to {name}", command, mnt, name, data)
        check_errno(errno.EINVAL, "1 to accept", command, mnt, "accept", b"1")
        check_errno(errno.EINVAL, "a UUID to sync", command, mnt, "sync", new_uuid().encode())
        check_errno(errno.ENOENT, "no such copy", command, mnt, "accept", new_uuid().encode())
        check_errno(errno.EINVAL, "upper case", command, mnt, "accept", new_uuid().upper().encode())
        for data in (b"1", b"1\n", b" 1 \n", b"\t1\r\n"):
            check_eq(command(mnt, "sync", data), len(data), f"{data!r} to sync")


@test
def errors_say_why():
    with Store() as store, store.mount() as mnt:
        check_errno(errno.EINVAL, "a bad root link", os.symlink, "nowhere", mnt / "roots/x")
        lines = errors_text(mnt).splitlines()
        check_eq(len(lines), 1, "lines")
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z EINVAL: a link in roots/ leads to .* not to 'nowhere'", lines[0]),
              f"the line: {lines[0]}")
        for _ in range(5):
            check_errno(errno.EINVAL, "again", os.symlink, "nowhere", mnt / "roots/x")
        check_in("(6 times)", errors_text(mnt), "repetitions are counted")
        for i in range(200):
            check_errno(errno.EINVAL, "others", os.symlink, f"nowhere{i}", mnt / "roots/x")
        lines = errors_text(mnt).splitlines()
        check(10 < len(lines) < 200, f"{len(lines)} lines: bounded")
        check_in("nowhere199", lines[-1], "the newest is the last")


@test
def only_the_owner():
    if os.getuid() != 0:
        skip("not root")
    with Store() as store, store.mount("allow_other") as mnt:
        os.chmod(store.base, 0o755)
        for path in (".ctl/status", "wal/in"):
            got = run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", mnt / path], ok=None)
            check(got.code != 0 and "Permission denied" in got.err, f"{path}: {got}")


@test
def the_program_prints_the_same():
    with Store() as store, store.mount() as mnt:
        write(mnt / "atoms/in/x", b"x")
        check_eq(json.loads(protofs("status", mnt, "--json").out)["store"], stats(mnt)["store"], "status --json")


main()
