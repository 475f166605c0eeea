#!/usr/bin/python3
"""The S3 client against Ceph's RADOS gateway (plain and TLS), OpenStack Swift, and a server that fails on demand.

What the client must do in each case is in include/protofs/block_store.h: codes, and that nothing wrong is ever taken for data.
"""
import errno

from lib import *
from s3_fault_server import listing
from s3_lib import *
from s3_servers import Authority, free_ports

AGAIN, ACCESS, NOENT, EXIST, BADMSG, TIMEDOUT, IO, INVAL = (
    -errno.EAGAIN, -errno.EACCES, -errno.ENOENT, -errno.EEXIST, -errno.EBADMSG, -errno.ETIMEDOUT, -errno.EIO, -errno.EINVAL)
BARE = ("--bare", 1)
QUICK = ("--delay-ms", 50)           # between two attempts
SHORT = (*QUICK, "--deadline-ms", 3000)  # gives up soon


@contextlib.contextmanager
def faults(*options, **server):
    """A fault server with a bucket, and a client of it."""
    with FaultServer(seed=SEED, **server) as s:
        s.make_bucket("bucket")
        with Probe("s3://bucket/some/prefix", *(options or QUICK), env=s.environment()) as probe:
            yield s, probe
        check_eq(s.complaints, [], "what a good client does not do")


def stored(server, key):
    return server.buckets["bucket"]["some/prefix/" + key].data


# ---- What works ----------------------------------------------------------------------------------

def round_trip(server, *options, tls=False, env=None):
    bucket = new_bucket(server)
    data, small = random_bytes(5 * MIB + 17), b"{}"
    with Probe(f"s3://{bucket}/a/b", *options, env=server.environment(tls) | (env or {})) as probe:
        must(probe.put(block(0), data, first_frame=9))
        must(probe.put(delta(5 * MIB, 0, 2), small))
        must(probe.put(manifest(1), b""))
        check_get(probe, block(0), data)
        check_get(probe, delta(5 * MIB, 0, 2), small)
        check_get(probe, manifest(1), b"")
        head = must(probe.head(block(0)))
        check_eq((head["size"], head["recorded"], head["hash"], head["first_frame"]), (len(data), 1, xxh3(data), 9),
                 "what HEAD says")
        check_eq(must(probe.range(block(0), 4 * MIB, 100))["data"], data[4 * MIB:][:100], "a range")
        check_eq(must(probe.range(block(0), len(data) - 3, 100))["data"], data[-3:], "a range over the end")
        check_eq(must(probe.range(block(0), len(data) + 5, 100))["data"], b"", "a range behind the end")
        must(probe.put(block(0), b"other bytes"), EXIST)
        check_eq(must(probe.list())["keys"], [[manifest(1), 0], [block(0), len(data)], [delta(5 * MIB, 0, 2), 2]], "all keys")
        check_eq(must(probe.list("wal/"))["keys"], [[block(0), len(data)], [delta(5 * MIB, 0, 2), 2]], "keys of wal/")
        check_eq(must(probe.list("wal/", block(0)))["keys"], [[delta(5 * MIB, 0, 2), 2]], "keys behind the first")
        must(probe.delete(block(0)))
        must(probe.delete(block(0)))
        must(probe.get(block(0)), NOENT)
        must(probe.head(block(0)), NOENT)
        must(probe.range(block(0), 0, 1), NOENT)
        must(probe.call("replace", "owner", probe.file(b"first")))
        must(probe.call("replace", "owner", probe.file(b"second")))
        check_get(probe, "owner", b"second")
        for key in ("wal/../../etc/passwd", "roots/1", "/owner", "OWNER"):
            must(probe.get(key), INVAL)
        with contextlib.closing(server.client()) as client:
            names = [entry.key for entry in client.list(bucket)]
            check_eq(sorted(names), sorted("a/b/" + k for k in ("owner", manifest(1), delta(5 * MIB, 0, 2))), "the bucket")
        return must(probe.status())


@test
def rgw_stores_and_returns_blocks():
    status = round_trip(rgw())
    check_eq(status["conditional"], 1, "RGW knows If-None-Match")
    check_eq(status["failures"], 0, "failures")


@test
def rgw_over_tls():
    server = rgw()
    round_trip(server, tls=True)
    round_trip(server, "--ca", server.ca, tls=True, env={"AWS_CA_BUNDLE": ""})


@test
def rgw_by_virtual_host():
    server = rgw()
    endpoint = server.endpoint.replace("127.0.0.1", "localhost")
    round_trip(server, "--virtual-host", 1, env={"AWS_ENDPOINT_URL": endpoint})


@test
def swift_stores_and_returns_blocks_without_conditions():
    status = round_trip(swift())
    check_eq(status["conditional"], 0, "Swift answers 501 to If-None-Match")


@test
def fault_server_stores_and_returns_blocks():
    with FaultServer() as server:
        round_trip(server_like(server))
        check_eq(server.complaints, [], "what a good client does not do")


def server_like(fault_server):
    """The fault server, as round_trip sees servers."""
    class Like:
        environment = staticmethod(lambda tls=False: fault_server.environment())
        client = staticmethod(fault_server.client)
    return Like()


@test
def a_thousand_and_more_keys_list_in_order():
    server, uuid = rgw(), new_uuid()
    with Probe(f"s3://{new_bucket(server)}", env=server.environment()) as probe:
        must(probe.call("many", uuid, 1105, 16, 8))
        keys = must(probe.list(f"wal/{uuid}/"))["keys"]
        check_eq(keys, [[block(16 * i, uuid), 16] for i in range(1105)], "1105 keys")
        check_eq(len(must(probe.list("-", block(16 * 1000, uuid)))["keys"]), 104, "keys behind the 1001st")


@test
def of_many_writers_of_one_key_one_wins():
    server, uuid = rgw(), new_uuid()
    bucket = new_bucket(server)
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(Probe(f"s3://{bucket}", env=server.environment())) for _ in range(4)]
        for number in range(10):
            for i, probe in enumerate(probes):
                probe.start("put", block(number, uuid), probe.file(b"writer %d" % i))
            codes = [probe.finish()["code"] for probe in probes]
            check_eq(sorted(codes), [EXIST, EXIST, EXIST, 0], "codes of four writers")
            check_get(probes[0], block(number, uuid), b"writer %d" % codes.index(0))


@test
def connections_are_kept_and_nothing_is_asked_twice():
    with faults() as (server, probe):
        for i in range(40):
            must(probe.put(block(i * 1000), b"x" * 1000))
        for i in range(40):
            must(probe.get(block(i * 1000)))
        check_eq(server.connections, 1, "connections of one thread")
        check_eq((server.count("PUT"), server.count("GET"), server.count()), (40, 40, 80), "requests")
        check_eq(server.received("PUT"), 40_000, "bytes of bodies")
        status = must(probe.status())
        check_eq((status["PUT"], status["GET"], status["bytes_sent"], status["bytes_received"]), (40, 40, 40_000, 40_000),
                 "what the client counts")
        mark = server.mark()
        must(probe.call("sleep", 1000))
        check_eq(server.count(since=mark), 0, "requests of an idle client")


@test
def a_kept_connection_that_ended_is_no_failure():
    with faults(*BARE) as (server, probe):
        must(probe.put(block(0), b"1"))
        server.fault("unkeep", times=1)
        check_get(probe, block(0), b"1")
        time.sleep(0.1)
        check_get(probe, block(0), b"1")
        server.stop()
        server.start(server.port)
        check_get(probe, block(0), b"1")
        server.stop()
        server.start(server.port)
        must(probe.put(block(1), b"2"))


@test
def the_gateway_restarts():
    server = rgw()
    with Probe(f"s3://{new_bucket(server)}", *QUICK, env=server.environment()) as probe:
        must(probe.put(block(0), b"before"))
        server.stop_gateway()
        probe.start("put", block(1), probe.file(b"meanwhile"))
        time.sleep(0.5)
        server.start_gateway()
        must(probe.finish())
        check_get(probe, block(0), b"before")
        check_get(probe, block(1), b"meanwhile")


# ---- Who may -------------------------------------------------------------------------------------

def both_servers():
    return (rgw(), swift())


@test
def a_wrong_key_or_secret_is_refused_at_once():
    for server in both_servers():
        bucket = new_bucket(server)
        # Swift does not say which of them is wrong.
        code_key = "InvalidAccessKeyId" if server.conditional else "SignatureDoesNotMatch"
        for wrong, code in (({"AWS_ACCESS_KEY_ID": "nobody"}, code_key),
                            ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, "SignatureDoesNotMatch")):
            with Probe(f"s3://{bucket}", *QUICK, env=server.environment(**wrong)) as probe:
                start = time.monotonic()
                for answer in (probe.get(block(0)), probe.list(), probe.delete(block(0))):
                    must(answer, ACCESS, code)
                # An answer to HEAD has no body that could say why, and Swift is asked by HEAD before it is written to.
                must(probe.put(block(0), b"1"), ACCESS, code if server.conditional else "403")
                must(probe.head(block(0)), ACCESS, "403")
                check(time.monotonic() - start < 5, "a refusal is retried")


@test
def no_such_bucket():
    for server in both_servers():
        with Probe("s3://nobody-made-this-one", *QUICK, env=server.environment()) as probe:
            for answer in (probe.put(block(0), b"1"), probe.get(block(0)), probe.list(), probe.range(block(0), 0, 1)):
                must(answer, (ACCESS, IO, -errno.ENODEV, -errno.ENXIO), "NoSuchBucket")
                check("nobody-made-this-one" in answer["error"], f"{answer['error']} names the bucket")


@test
def no_permission_to_list_or_put():
    server = rgw()
    server.add_user("other", "otheraccess", "othersecret")
    env = server.environment(AWS_ACCESS_KEY_ID="otheraccess", AWS_SECRET_ACCESS_KEY="othersecret")
    closed, readable = new_bucket(server), new_bucket(server, acl="public-read")
    with Probe(f"s3://{closed}", *QUICK, env=env) as probe:
        must(probe.list(), ACCESS, "AccessDenied")
        must(probe.put(block(0), b"1"), ACCESS, "AccessDenied")
    with Probe(f"s3://{readable}", *QUICK, env=env) as probe:
        check_eq(must(probe.list())["keys"], [], "a listing that is allowed")
        must(probe.put(block(0), b"1"), ACCESS, ("AccessDenied", block(0)))


@test
def no_credentials_or_open_to_others():
    with FaultServer() as server:
        server.make_bucket("bucket")
        env = {"AWS_ENDPOINT_URL": server.endpoint}
        with Probe("s3://bucket", env=env) as probe:
            answer = must(probe.finish(), ACCESS)
            check("AWS_ACCESS_KEY_ID" in answer["error"], f"{answer['error']} says what to do")
        with temporary_dir() as top:
            path = os.path.join(top, "credentials")
            write(path, credentials(server.access_key, server.secret_key), mode=0o644)
            os.chmod(path, 0o644)
            with Probe("s3://bucket", "--credentials", path, env=env, secrets=[server.secret_key]) as probe:
                must(probe.finish(), ACCESS, (path, "chmod 600"))
            os.chmod(path, 0o600)
            with Probe("s3://bucket", "--credentials", path, env=env, secrets=[server.secret_key]) as probe:
                must(probe.put(block(0), b"1"))
        check_eq(server.count(), 1, "requests")


def credentials(access_key, secret_key, token=None, profile="default"):
    return (f"[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
            + (f"aws_session_token = {token}\n" if token else "")).encode()


@test
def profiles_of_the_home_directory():
    with FaultServer(region="eu-north-1") as server, temporary_dir() as home:
        server.make_bucket("bucket")
        os.mkdir(f"{home}/.aws")
        write(f"{home}/.aws/credentials", credentials("x", "y") + credentials(server.access_key, server.secret_key,
                                                                               profile="work"), mode=0o600)
        write(f"{home}/.aws/config", b"[default]\nregion = nowhere\n[profile work]\nregion = eu-north-1\n"
              b"endpoint_url = " + server.endpoint.encode() + b"\n", mode=0o600)
        for options, env in ((("--profile", "work"), {}), ((), {"AWS_PROFILE": "work"})):
            with Probe("s3://bucket", *options, env=env | {"HOME": home}, secrets=[server.secret_key]) as probe:
                must(probe.list())


@test
def an_expired_token_is_read_anew():
    with FaultServer() as server, temporary_dir() as top:
        server.make_bucket("bucket")
        path = os.path.join(top, "credentials")
        server.tokens = {"old": ("old-secret", "old-token"), "new": ("new-secret", "new-token")}
        write(path, credentials("old", "old-secret", "old-token"), mode=0o600)
        env = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": server.region}
        with Probe("s3://bucket", *SHORT, "--credentials", path, env=env,
                   secrets=["old-secret", "new-secret", "old-token", "new-token"]) as probe:
            must(probe.put(block(0), b"0"))
            server.expired.add("old-token")
            must(probe.put(block(1), b"1"), (ACCESS, TIMEDOUT), "ExpiredToken")
            write(f"{path}.new", credentials("new", "new-secret", "new-token"), mode=0o600)
            os.rename(f"{path}.new", path)
            must(probe.put(block(1), b"1"))
            check_get(probe, block(1), b"1")
        check_eq(server.complaints, [], "what a good client does not do")


@test
def an_expired_token_of_the_environment_is_refused():
    with FaultServer() as server:
        server.make_bucket("bucket")
        server.tokens = {"key": ("secret-text", "token-text")}
        env = server.environment(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret-text", AWS_SESSION_TOKEN="token-text")
        with Probe("s3://bucket", *SHORT, env=env) as probe:
            must(probe.put(block(0), b"0"))
            server.expired.add("token-text")
            must(probe.put(block(1), b"1"), (ACCESS, TIMEDOUT), "ExpiredToken")


@test
def a_wrong_region_is_named_or_mended():
    with FaultServer(region="eu-central-1") as server:
        server.make_bucket("bucket")
        with Probe("s3://bucket", *QUICK, env=server.environment(AWS_REGION="us-west-2")) as probe:
            for answer in (probe.put(block(0), b"1"), probe.list(), probe.head(block(0)), probe.get(block(0))):
                if answer["code"] != 0:
                    must(answer, ACCESS, "eu-central-1")
    # A redirect for ever: the region that it names is no help.
    with FaultServer(region="ap-south-1") as server:
        server.make_bucket("bucket")
        server.fault("status", times=None, status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "ap-south-1"})
        for region in ("ap-south-1", "us-west-2"):
            mark = server.mark()
            with Probe("s3://bucket", *QUICK, env=server.environment(AWS_REGION=region)) as probe:
                for answer in (probe.put(block(0), b"1"), probe.get(block(0)), probe.head(block(0)), probe.list()):
                    must(answer, ACCESS, "ap-south-1")
            check(server.count(since=mark) <= 8, f"{server.count(since=mark)} requests for 4 calls that cannot succeed")


@test
def a_clock_that_is_an_hour_off_is_corrected():
    need("faketime")
    for server in both_servers():
        bucket = new_bucket(server)
        for shift in ("+1h", "-1h"):
            with Probe(f"s3://{bucket}", *QUICK, env=server.environment(), wrapper=("faketime", "-f", shift)) as probe:
                must(probe.put(manifest(1 if shift == "+1h" else 2), b"1"))
                must(probe.list())
    with faults() as (server, probe):
        server.clock_offset_s = 3600
        must(probe.put(block(0), b"1"))
        refused = server.count()
        check(refused <= 3, f"{refused} requests until the clock was corrected")
        for i in range(1, 10):
            must(probe.put(block(i), b"1"))
        check_eq(server.count("PUT"), refused + 9, "requests, once the clock is corrected")
        server.clock_offset_s = -7200
        must(probe.put(block(10), b"1"))
        check_get(probe, block(10), b"1")


# ---- How to get there ----------------------------------------------------------------------------

@test
def nobody_listens():
    port = free_ports(1)[0]
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "bbbbbbbb", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with Probe("s3://bucket", *BARE, env=env) as probe:
        must(probe.put(block(0), b"1"), AGAIN, str(port))
        must(probe.list(), AGAIN, str(port))
    with Probe("s3://bucket", "--deadline-ms", 1000, *QUICK, env=env) as probe:
        start = time.monotonic()
        must(probe.get(block(0)), TIMEDOUT, str(port))
        check(time.monotonic() - start < 10, "it does not give up at its deadline")
        status = must(probe.status())
        check(status["retries"] > 1, f"{status['retries']} retries within a second")
        check("127.0.0.1" in status["last_error"], f"the last error: {status['last_error']}")


@test
def a_name_that_nobody_knows():
    need("unshare")
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "bbbbbbbb", "AWS_ENDPOINT_URL": "https://s3.nowhere.invalid:9"}
    wrapper = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    if run([*wrapper, "true"], ok=None).code != 0:
        skip("no network namespaces here")
    with Probe("s3://bucket", *BARE, env=env, wrapper=wrapper) as probe:
        must(probe.put(block(0), b"1"), AGAIN, "s3.nowhere.invalid")
    with Probe("s3://bucket", *QUICK, "--deadline-ms", 500, env=env, wrapper=wrapper) as probe:
        must(probe.list(), TIMEDOUT, "s3.nowhere.invalid")


@test
def certificates_are_checked():
    server = rgw()
    bucket = new_bucket(server)
    with Probe(f"s3://{bucket}", *BARE, env=server.environment(True, AWS_CA_BUNDLE="")) as probe:
        for answer in (probe.put(block(0), b"1"), probe.list()):
            must(answer, (ACCESS, AGAIN, IO), "certificate")
    with temporary_dir() as top:
        authority = Authority(os.path.join(top, "tls"))
        with FaultServer(tls=authority.certificate("wrong", ("DNS:elsewhere.example",))) as wrong:
            wrong.make_bucket("bucket")
            with Probe("s3://bucket", *BARE, "--ca", authority.ca, env=wrong.environment()) as probe:
                must(probe.put(block(0), b"1"), (ACCESS, AGAIN, IO), "certificate")
            check_eq(wrong.count(), 0, "requests to a stranger")
        with FaultServer(tls=authority.certificate("right")) as right:
            right.make_bucket("bucket")
            with Probe("s3://bucket", *BARE, "--ca", authority.ca, env=right.environment()) as probe:
                must(probe.put(block(0), b"1"))
            with Probe("s3://bucket", *BARE, "--ca", os.path.join(top, "nothing"), env=right.environment()) as probe:
                answer = probe.finish(1) if probe.process.poll() is not None else probe.put(block(0), b"1")
                check(answer["code"] < 0, "a CA bundle that is not there")
            plain = right.endpoint.replace("https", "http")
            with Probe("s3://bucket", *BARE, env=right.environment(AWS_ENDPOINT_URL=plain)) as probe:
                must(probe.put(block(0), b"1"), (AGAIN, IO, ACCESS))


@test
def tls_hides_nothing_when_the_middle_of_a_body_is_missing():
    with temporary_dir() as top:
        authority = Authority(os.path.join(top, "tls"))
        data = random_bytes(300_000)
        with FaultServer(tls=authority.certificate("s3")) as server:
            server.make_bucket("bucket")
            with Probe("s3://bucket", *QUICK, "--ca", authority.ca, env=server.environment()) as probe:
                must(probe.put(block(0), data))
                for reset in (False, True):
                    server.fault("cut", method="GET", at=100_000, reset=reset)
                    check_get(probe, block(0), data)
                check_eq(server.count("GET"), 4, "attempts")


# ---- Errors that pass ----------------------------------------------------------------------------

PASSING = {
    "500 InternalError": {"kind": "status", "status": 500, "code": "InternalError"},
    "503 SlowDown": {"kind": "status", "status": 503, "code": "SlowDown"},
    "503 without a word": {"kind": "status", "status": 503, "body": b""},
    "502 of a proxy": {"kind": "status", "status": 502, "body": b"<html><body>Bad gateway</body></html>"},
    "504 of a proxy": {"kind": "status", "status": 504, "body": b"<html>" + b"x" * 100_000},
    "429": {"kind": "status", "status": 429, "code": "TooManyRequests"},
    "400 RequestTimeout": {"kind": "status", "status": 400, "code": "RequestTimeout"},
    "a reset": {"kind": "reset"},
    "an end without an answer": {"kind": "close"},
}


@test
def errors_that_pass_are_tried_again():
    with faults() as (server, probe):
        for number, (what, fault) in enumerate(PASSING.items()):
            key, data = block(number * 10), what.encode()
            server.fault(**fault, method="PUT", times=2)
            must(probe.put(key, data))
            check_eq(stored(server, key), data, f"after {what}")
            server.fault(**fault, method="GET", times=2)
            check_get(probe, key, data)
            if fault.get("status") != 400:  # without a body it says nothing
                server.fault(**fault, method="HEAD", times=2)
                must(probe.head(key))
            server.fault(**fault, method="LIST", times=2)
            check_eq(len(must(probe.list())["keys"]), number + 1, f"keys after {what}")
            server.fault(**fault, method="DELETE", times=1)
            must(probe.delete(block(5)))
        server.fault("status", status=409, code="ConditionalRequestConflict", method="PUT", times=2)
        must(probe.put(block(7), b"seven"))


@test
def a_bare_client_tries_once_and_says_what_happened():
    with faults(*BARE) as (server, probe):
        server.fault("status", status=503, code="SlowDown", message="please reduce your rate", retry_after=7)
        answer = must(probe.put(block(0), b"1"), AGAIN, ("SlowDown", "503", block(0), "request-0"))
        check_eq(answer["retry_after_ms"], 7000, "what Retry-After says")
        check_eq(server.count(), 1, "requests")
        server.fault("status", status=500, code="InternalError", message="<b> & \x7f\x9b ü".encode().decode("latin-1"))
        must(probe.get(block(0)), AGAIN, "InternalError")
        for status, code in ((403, "AccessDenied"), (403, "RequestExpired"), (401, "Whatever"), (405, "MethodNotAllowed")):
            server.fault("status", status=status, code=code)
            must(probe.put(block(0), b"1"), (ACCESS, IO), code)
        server.fault("status", status=404, code="NoSuchKey")
        must(probe.get(block(0)), NOENT)


@test
def retry_after_is_kept():
    with faults("--delay-ms", 100) as (server, probe):
        server.fault("status", status=503, code="SlowDown", retry_after=1, times=2)
        start = time.monotonic()
        must(probe.put(block(0), b"1"))
        took = time.monotonic() - start
        check(1.9 < took < 6, f"two waits of a second took {took:.1f} s")


@test
def a_storm_that_does_not_end_is_given_up():
    with faults(*SHORT) as (server, probe):
        server.fault("status", status=503, code="SlowDown", times=None)
        start = time.monotonic()
        must(probe.put(block(0), b"1"), TIMEDOUT, "SlowDown")
        took = time.monotonic() - start
        check(took < 10, f"gave up after {took:.1f} s instead of 3")
        check(4 <= server.count() <= 400, f"{server.count()} requests within 3 s, at most 50 ms apart")
        server.heal()
        must(probe.put(block(0), b"1"))


@test
def a_storm_over_many_blocks_loses_nothing():
    storms = [{"kind": "status", "status": 503, "code": "SlowDown"}, {"kind": "status", "status": 500, "code": "InternalError"},
              {"kind": "reset"}, {"kind": "reset", "effect": True}, {"kind": "close", "effect": True},
              {"kind": "hang", "seconds": 0.2, "answer": True}, {"kind": "late", "seconds": 0.1, "method": "PUT"}]
    uuid = new_uuid()
    with faults("--delay-ms", 20) as (server, probe):
        for storm in storms:
            server.fault(**storm, times=None, chance=0.04)
        must(probe.call("many", uuid, 300, 20_000, 8))
        for i in range(300):
            check_eq(stored(server, block(i * 20_000, uuid)), bytes([i % 251]) * 20_000, f"block {i}")
        check(server.count("PUT") > 300, "no storm at all")
        check_eq(len(must(probe.list(f"wal/{uuid}/"))["keys"]), 300, "keys")


@test
def a_hang_ends():
    options = (*QUICK, "--stall-ms", 700)
    with faults(*options) as (server, probe):
        start = time.monotonic()
        server.fault("hang", method="PUT", seconds=60)
        must(probe.put(block(0), b"1"))
        server.fault("hang", method="GET", seconds=60)
        check_get(probe, block(0), b"1")
        server.fault("stall", method="PUT", at=1000, seconds=60)
        data = random_bytes(30 * MIB)
        must(probe.put(block(1), data))
        check_eq(stored(server, block(1)), data, "a body that hung")
        server.fault("hang", method="LIST", seconds=60)
        must(probe.list())
        took = time.monotonic() - start
        check(took < 20, f"four hangs took {took:.1f} s")


@test
def a_slow_body_is_no_hang():
    with faults(*BARE, "--stall-ms", 1500) as (server, probe):
        data = random_bytes(3000)
        must(probe.put(block(0), data))
        server.fault("drip", method="GET", rate=1000)
        check_get(probe, block(0), data)


@test
def a_connection_that_is_never_made_ends():
    # A full backlog: connections wait.
    with contextlib.closing(socket_that_takes_nobody()) as (port, _):
        env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "bbbbbbbb", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        with Probe("s3://bucket", *BARE, "--connect-ms", 500, "--stall-ms", 700, env=env) as probe:
            start = time.monotonic()
            must(probe.list(), AGAIN)
            check(time.monotonic() - start < 6, "a connection that is never made")


class socket_that_takes_nobody:
    def __init__(self):
        import socket
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.others = []
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", self.port))
            self.others.append(other)

    def __iter__(self):
        return iter((self.port, self.listener))

    def close(self):
        for one in (self.listener, *self.others):
            one.close()


@test
def a_brown_out_of_a_real_server():
    server = rgw()
    data = b"so few bytes that their average rate is soon that of a stall"
    with Probe(f"s3://{new_bucket(server)}", *QUICK, "--stall-ms", 600, env=server.environment()) as probe:
        must(probe.put(block(0), data))
        for command in (("put", block(1), probe.file(data)), ("get", block(0), probe.file())):
            before = must(probe.status())["retries"]
            with server.brown_out():
                probe.start(*command)
                time.sleep(4)
            must(probe.finish())
            check(must(probe.status())["retries"] > before, "the brown-out was not seen")
        check_get(probe, block(1), data)


@test
def stop_ends_what_waits():
    waits = ({"kind": "hang", "seconds": 60}, {"kind": "status", "status": 503, "code": "SlowDown", "retry_after": 600})
    for fault in waits:
        with faults("--stall-ms", 60_000, "--deadline-ms", 600_000) as (server, probe):
            server.fault(**fault, times=None)
            must(probe.call("stop", 300))
            start = time.monotonic()
            must(probe.put(block(0), b"1"), -errno.ECANCELED)
            check(time.monotonic() - start < 5, "stop does not end a put")
            must(probe.get(block(0)), -errno.ECANCELED)
            check_eq(server.count(), 1, "requests")


# ---- A PUT that nobody knows the end of ----------------------------------------------------------

@test
def a_put_that_took_effect_and_timed_out_is_done():
    lost = ({"kind": "reset"}, {"kind": "close"}, {"kind": "hang", "seconds": 30},
            {"kind": "status", "status": 500, "code": "InternalError"}, {"kind": "status", "status": 503, "body": b""})
    with faults(*QUICK, "--stall-ms", 600) as (server, probe):
        for i, fault in enumerate(lost):
            data = random_bytes(1000)
            server.fault(**fault, effect=True, method="PUT")
            must(probe.put(block(i), data))
            check_eq(stored(server, block(i)), data, "the block")


@test
def a_put_that_takes_effect_later_is_done():
    with faults(*QUICK) as (server, probe):
        for i in range(12):
            data = random_bytes(1000)
            server.fault("late", seconds=0.01 * i, method="PUT")
            must(probe.put(block(i), data))
            check_eq(stored(server, block(i)), data, "the block")


@test
def another_writers_block_is_never_taken_for_ours():
    with faults(*QUICK) as (server, probe):
        server.fault("rival", data=b"theirs", method="PUT")
        must(probe.put(block(0), b"ours"), EXIST)
        check_eq(stored(server, block(0)), b"theirs", "the block")
        # Our own attempt was lost, and another's is there since.
        server.fault("reset", method="PUT")
        server.fault("rival", data=b"theirs", method="PUT")
        must(probe.put(block(1), b"ours"), EXIST)
        check_eq(stored(server, block(1)), b"theirs", "the block")


@test
def a_server_without_conditions_is_asked_first():
    with faults(*QUICK) as (server, probe):
        server.conditional = False
        must(probe.put(block(0), b"1"))
        must(probe.put(block(0), b"2"), EXIST)
        check_eq(stored(server, block(0)), b"1", "the block")
        check_eq(must(probe.status())["conditional"], 0, "conditional")
        server.fault("reset", effect=True, method="PUT")
        must(probe.put(block(1), b"1"))
        check_eq(stored(server, block(1)), b"1", "the block")


# ---- Data that are not what they should be -------------------------------------------------------

@test
def damaged_bodies_are_tried_again_and_never_returned():
    data = random_bytes(200_000)
    once = ({"kind": "cut", "at": 0}, {"kind": "cut", "at": 1000}, {"kind": "cut", "at": 199_999, "reset": True},
            {"kind": "reset"}, {"kind": "close"})
    with faults(*SHORT) as (server, probe):
        must(probe.put(block(0), data))
        for fault in once:
            server.fault(**fault, method="GET")
            check_get(probe, block(0), data)
            server.fault(**fault, method="GET")
            check_eq(must(probe.range(block(0), 1000, 150_000))["data"], data[1000:151_000], "a range")
        wrong = ({"kind": "corrupt", "at": 77}, {"kind": "shorter", "by": 1}, {"kind": "shorter", "by": 200_000},
                 {"kind": "cut", "at": 5})
        for fault in wrong:
            found = server.fault(**fault, method="GET", times=None)
            must(probe.get(block(0)), (BADMSG, TIMEDOUT))
            found.times = 0
            check_get(probe, block(0), data)


@test
def a_wrong_etag_is_damage():
    with faults(*SHORT) as (server, probe):
        must(probe.put(block(0), b"data"))
        for etag in ('"00000000000000000000000000000000"', '"' + "f" * 32 + '"'):
            # What the block's writer recorded is the better witness; the ETag is one where that got lost.
            found = server.fault("header", set={"etag": etag}, drop=["x-amz-meta-xxh3"], method="GET", times=None)
            must(probe.get(block(0)), (BADMSG, TIMEDOUT), "ETag")
            found.times = 0
            server.fault("header", set={"etag": etag}, method="GET")
            check_get(probe, block(0), b"data")
        # Those of multipart uploads and of encrypted buckets are no MD5.
        for etag in ('"0123456789abcdef0123456789abcdef-3"', '"opaque"'):
            server.fault("header", set={"etag": etag}, drop=["x-amz-meta-xxh3"], method="GET")
            check_get(probe, block(0), b"data")


@test
def what_speaks_no_s3_is_no_s3():
    pages = (("nonsense", {"kind": "garbage", "data": b"\x16\x03\x01 what?\r\n\r\n"}),
             ("a web page", {"kind": "status", "status": 200, "body": b"<html>Welcome</html>", "headers": {"content-type": "text/html"}}),
             ("a web page that is not found", {"kind": "status", "status": 404, "body": b"<html>Not found</html>"}))
    with faults(*SHORT) as (server, probe):
        must(probe.put(block(0), b"1"))
        for what, page_of in pages:
            server.heal()
            server.fault(**page_of, times=None)
            for answer in (probe.put(block(1), b"2"), probe.get(block(0)), probe.list()):
                must(answer, (IO, BADMSG, TIMEDOUT, ACCESS))
        server.heal()
        must(probe.get(block(1)), NOENT)


@test
def lost_metadata_are_said_to_be_lost():
    with faults(*QUICK) as (server, probe):
        server.put("bucket", "some/prefix/" + block(0), b"by hand")
        head = must(probe.head(block(0)))
        check_eq((head["size"], head["recorded"]), (7, 0), "a head without metadata")
        check_get(probe, block(0), b"by hand")
        must(probe.put(block(1), b"data"))
        meta = {k: v for k, v in server.buckets["bucket"]["some/prefix/" + block(1)].headers.items() if k.startswith("x-amz-meta-")}
        check(meta, "a block has no metadata")
        for name in meta:
            for nonsense in ("", "zz", "0" * 1000, "-1", "99999999999999999999999", "\xff\xfe"):
                server.fault("header", set={name: nonsense}, method="GET")
                must(probe.get(block(1)), (0, BADMSG, TIMEDOUT, IO))


@test
def answers_without_bounds_are_bounded():
    huge = b"x" * (80 * MIB)
    with faults(*SHORT) as (server, probe):
        must(probe.put(block(0), b"1"))
        server.fault("status", status=500, body=huge, times=2)
        check_get(probe, block(0), b"1")
        server.put("bucket", "some/prefix/" + block(1), huge)
        must(probe.get(block(1)), (-errno.EFBIG, BADMSG, TIMEDOUT))
        server.fault("header", set={f"x-amz-meta-{i}": "y" * 1000 for i in range(90)}, method="GET")
        must(probe.get(block(0)), (0, BADMSG, TIMEDOUT, IO))
        server.fault("garbage", data=b"HTTP/1.1 200 OK\r\n" + b"a: " + b"b" * (1 << 20), times=None)
        # libcurl calls a header that is too long a lack of memory.
        must(probe.get(block(0)), (AGAIN, TIMEDOUT, IO, BADMSG, -errno.ENOMEM))
        server.heal()
        for size in ("-1", "18446744073709551616", "9223372036854775807", "x"):
            server.fault("header", set={"content-length": size}, method="HEAD", times=1)
            answer = probe.head(block(0))
            check(answer["code"] != 0 or answer["size"] <= 1 << 63, f"a head of {size} bytes")
        most = probe.memory()
        check(most < 300 * MIB, f"the client took {most >> 20} MiB")


@test
def a_404_for_what_was_there_is_not_invented_data():
    with faults(*QUICK) as (server, probe):
        must(probe.put(block(0), b"1"))
        server.fault("status", status=404, code="NoSuchKey", times=3)
        must(probe.get(block(0)), NOENT)
        must(probe.head(block(0)), NOENT)
        must(probe.range(block(0), 0, 1), NOENT)
        check_eq(server.count("GET") + server.count("HEAD"), 3, "a 404 is an answer, not to be tried again")


# ---- Listings that lie ---------------------------------------------------------------------------

@test
def pages_are_followed():
    with faults() as (server, probe):
        keys = [block(i * 7) for i in range(50)] + [delta(700, 0, i + 1) for i in range(20)]
        for key in keys:
            server.put("bucket", "some/prefix/" + key, b"123")
        for size in (1, 3, 7, 70, 71):
            server.page_max = size
            check_eq(must(probe.list())["keys"], [[k, 3] for k in sorted(keys)], f"keys by pages of {size}")
        server.page_max = 10
        mark = server.mark()
        check_eq(len(must(probe.list("wal/", sorted(keys)[39]))["keys"]), 30, "keys behind the 40th")
        check(server.count("LIST", since=mark) <= 4, "pages that nobody asked for")


ODD = ("wal/", "wal", "roots/x", "owner2", "../owner", "wal/%2e%2e/x", "a b", "ü", "\U0001f4be", "x" * 900, "wal//", "roots/+1",
       f"wal/{UUID}/1", f"wal/{UUID}/{0:020d}/", f"wal/{UUID}/{0:020d}+1-2", f"wal/{UUID.upper()}/{0:020d}", "<&>\"'", "tab\there",
       f"wal/{UUID}/{10**20 - 1}", f"roots/{10**20 - 1}")


@test
def odd_keys_are_passed_over():
    with faults() as (server, probe):
        for key in ODD:
            server.put("bucket", "some/prefix/" + key, b"odd")
        server.put("bucket", "some/prefixx/" + block(1), b"not below ours")
        server.put("bucket", block(2), b"not below ours")
        must(probe.put(block(0), b"1"))
        check_eq(must(probe.list())["keys"], [[block(0), 1]], "keys")
    server = rgw()
    bucket = new_bucket(server)
    with contextlib.closing(server.client()) as client, Probe(f"s3://{bucket}/p", env=server.environment()) as probe:
        for key in ODD:
            if "\t" not in key:
                client.put(bucket, "p/" + key, b"odd")
        must(probe.put(block(0), b"1"))
        check_eq(must(probe.list())["keys"], [[block(0), 1]], "keys in RGW")


def bomb():
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "lol" * 10}">' for i in range(10))
    return f'<?xml version="1.0"?><!DOCTYPE x [{entities}]><ListBucketResult><Name>&e9;</Name></ListBucketResult>'.encode()


def page(keys, **more):
    return listing([("some/prefix/" + key, size, "0" * 32) for key, size in keys], "some/prefix/", **more).encode()


ENDLESS = page([(block(0), 1)], next_token="again")
HOSTILE = {
    "the same page for ever": ENDLESS,
    "truncated without a token": page([(block(0), 1)], truncated=True),
    "an empty page for ever": page([], next_token="more"),
    "descending keys": page([(block(9), 1), (block(8), 1), (block(7), 1)]),
    "a key twice": page([(block(1), 1), (block(1), 1)]),
    "a key outside the prefix": listing([("other/" + block(0), 1, "x")]).encode(),
    "a negative size": page([(block(0), -1)]),
    "a size beyond 2^64": page([(block(0), 1 << 70)]),
    "a size that is none": page([(block(0), "many")]),
    "an XML bomb": bomb(),
    "an external entity": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
                          b"<ListBucketResult><Contents><Key>&e;</Key><Size>1</Size></Contents></ListBucketResult>",
    "no XML": b"surprise",
    "nothing": b"",
    "XML that ends in the middle": page([(block(i), 1) for i in range(100)])[:-300],
    "another document": b"<html><body>Welcome to the hotel's network</body></html>",
    "XML without an end": b"<ListBucketResult>" + b"<a>" * 100_000,
    "a key of a megabyte": page([("x" * MIB, 1)]),
    "more keys than a page has": page([(block(i), 1) for i in range(20_000)]),
    "zero bytes": b"\0" * 1000,
    "UTF-16": "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".encode("utf-16"),
}


@test
def hostile_listings_end_and_never_lie():
    with faults(*SHORT) as (server, probe):
        for what, body in HOSTILE.items():
            server.heal()
            server.fault("listing", method="LIST", body=body, times=None)
            start = time.monotonic()
            answer = probe.list(timeout=60)
            took = time.monotonic() - start
            check(took < 30, f"{what}: took {took:.1f} s")
            keys = [key for key, _ in answer["keys"]]
            if answer["code"] == 0:
                check_eq(keys, sorted(set(keys)), f"{what}: the keys of a listing that succeeded")
            check(all(re.fullmatch(r"wal/[0-9a-f-]{36}/\d{20}(\+\d{10}-\d{10})?|roots/\d{20}|owner", key) for key in keys),
                  f"{what}: keys {keys[:3]}")
            check(server.count("LIST") < 10_000, f"{what}: {server.count('LIST')} requests")
            if what in ("the same page for ever", "truncated without a token", "descending keys", "an XML bomb", "no XML", "nothing",
                        "XML that ends in the middle", "another document", "XML without an end", "zero bytes"):
                check(answer["code"] < 0, f"{what}: taken for a listing of {len(keys)} keys")
        most = probe.memory()
        check(most < 200 * MIB, f"hostile listings took {most >> 20} MiB")


main(timeout=280)
