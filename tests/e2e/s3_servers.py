"""Real S3 servers on loopback, for tests and benchmarks: Debian's Ceph RADOS gateway and OpenStack Swift.

    with s3_servers.Rgw() as server:
        client = server.client()                    # s3_wire.S3
        client.make_bucket("bucket")
        subprocess.run([...], env={**os.environ, **server.environment()})

Ports are chosen free, data live in a directory that goes away, processes are children of this one and die with it.
Nobody else is spoken to. Nothing here needs root, and nothing but Python's standard library.
"""
import contextlib
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import s3_wire

START_TIMEOUT_S = 60
TRIES = 3  # somebody else may take a port that was free
PR_SET_PDEATHSIG = 1
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_libc = ctypes.CDLL(None, use_errno=True)


class ServerFailed(Exception):
    """A server did not start; the text holds the ends of its logs."""


class NotInstalled(Exception):
    """The programs are not there; the text names the packages."""


def _die_with_parent():
    os.setsid()  # Ctrl-C is for us, who stop them in order
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count):
    """COUNT different ports that nobody listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def tail(path, size=3000):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - size))
        return file.read().decode("utf-8", "replace")
    return ""


# ---- Certificates --------------------------------------------------------------------------------

class Authority:
    """A certificate authority made on the spot: .ca is its bundle."""

    def __init__(self, directory, name="protofs tests"):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        self.ca, self._key = os.path.join(directory, "ca.pem"), os.path.join(directory, "ca.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.ca)

    def _openssl(self, *args):
        done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerFailed(f"openssl {args[0]}: {done.stderr.strip()}")

    def certificate(self, name, hosts=("DNS:localhost", "DNS:*.localhost", "IP:127.0.0.1")):
        """Files (certificate, key) of a server that is known as HOSTS."""
        base = os.path.join(self.dir, name)
        crt, key, csr, ext = (f"{base}.{kind}" for kind in ("pem", "key", "csr", "ext"))
        with open(ext, "w") as file:
            file.write(f"subjectAltName={','.join(hosts)}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", key, "-out", csr)
        self._openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "2",
                      "-extfile", ext, "-out", crt)
        return crt, key


# ---- What both servers share ---------------------------------------------------------------------

class Server:
    """Starts once; .endpoint, .endpoint_tls (None: it has none), .access_key, .secret_key, .ca."""

    name = packages = ""
    programs = ()
    conditional = False  # whether it knows If-None-Match
    endpoint = endpoint_tls = ca = None
    access_key, secret_key, region = "ciaccess", "cisecret", "us-east-1"

    def __init__(self, parent=None):
        missing = [p for p in self.programs if not shutil.which(p, path=SEARCH)]
        if missing:
            raise NotInstalled(f"{', '.join(missing)} not installed (Debian: {self.packages})")
        self.parent = parent
        self.dir = None
        self.processes = {}  # name -> Popen

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        for last in range(TRIES, 0, -1):
            self.dir = tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.parent)
            try:
                self._start()
                return self
            except ServerFailed:
                self.stop()
                if last == 1:
                    raise
            except BaseException:
                self.stop()
                raise
        return None

    def stop(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes = {}
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None

    def log(self):
        """The ends of all logs, for a message."""
        names = sorted(n for n in os.listdir(self.dir) if n.endswith(".log")) if self.dir else []
        return "\n".join(f"-- {name}:\n{tail(os.path.join(self.dir, name))}" for name in names)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def environment(self, tls=False, **more):
        """What a client of this server needs in its environment; others' settings are taken away by ''."""
        found = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
                 "AWS_REGION": self.region, "AWS_ENDPOINT_URL": self.endpoint_tls if tls else self.endpoint}
        if tls:
            found["AWS_CA_BUNDLE"] = self.ca
        return found | more

    def client(self, tls=False):
        return s3_wire.S3(self.endpoint_tls if tls else self.endpoint, self.access_key, self.secret_key, self.region,
                          ca=self.ca)

    # -- for the classes below

    def _spawn(self, name, *command):
        with open(self.path(f"{name}.out.log"), "ab") as out:
            self.processes[name] = subprocess.Popen(
                [str(c) for c in command], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=_die_with_parent, env=self._environ())

    def _environ(self):
        kept = {k: v for k, v in os.environ.items() if not re.match(r"AWS_|LD_PRELOAD|.SAN_OPTIONS|CEPH_", k)}
        return kept | {"PATH": SEARCH, "HOME": self.dir, "LC_ALL": "C.UTF-8", "NO_PROXY": "*"}

    def _run(self, *command, timeout=START_TIMEOUT_S):
        try:
            done = subprocess.run([str(c) for c in command], cwd=self.dir, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=timeout, env=self._environ(), check=False)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{command[0]}: not done after {timeout} s\n{self.log()}") from None
        if done.returncode != 0:
            raise ServerFailed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}\n{self.log()}")
        return done.stdout

    def _await_port(self, port, name):
        """Until somebody listens at PORT."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self.processes[name].poll() is not None:
                raise ServerFailed(f"{name} ended with {self.processes[name].returncode}\n{self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"{name} does not listen at port {port} after {START_TIMEOUT_S} s\n{self.log()}")
            time.sleep(0.02)

    def _await_service(self):
        """Until it answers a signed request as it should."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            why = ""
            client = self.client()
            try:
                reply = client.request("GET", "/")
                if reply.status == 200:
                    return
                why = f"HTTP {reply.status} {reply.body[:300]}"
            except OSError as error:
                why = str(error)
            finally:
                client.close()
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} does not work ({why}; ended: {dead or 'none'})\n{self.log()}")
            time.sleep(0.05)


# ---- Ceph's RADOS gateway ------------------------------------------------------------------------

class Rgw(Server):
    """Ceph's RADOS gateway over one OSD in memory of at most SIZE bytes. Ready in about 3 s."""

    name = "rgw"
    packages = "radosgw ceph-mon ceph-osd ceph-common"
    programs = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "openssl")
    conditional = True

    def __init__(self, parent=None, size=4 << 30):
        super().__init__(parent)
        self.size = size
        self._ports = None
        self.authority = None

    def _conf(self, port, port_tls, port_mon, fsid, certificate, key):
        # Without tcp_nodelay a GET of 4 KiB takes 45 ms instead of 2.
        return f"""[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port_mon}
public addr = 127.0.0.1
keyring = {self.dir}/keyring
run dir = {self.dir}
admin socket = {self.dir}/$name.asok
pid file =
log file = {self.dir}/$name.log
crash dir = {self.dir}
mon data = {self.dir}/mon
osd data = {self.dir}/osd
osd objectstore = memstore
memstore device bytes = {self.size}
osd pool default size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01
rgw frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{port_tls} ssl_certificate={certificate} ssl_private_key={key} tcp_nodelay=1
rgw dns name = localhost
"""

    def _ceph(self, program, *args, **kwargs):
        return self._run(program, "-c", self.path("ceph.conf"), *args, **kwargs)

    def _start(self):
        port, port_tls, port_mon = self._ports = free_ports(3)
        self.endpoint, self.endpoint_tls = f"http://127.0.0.1:{port}", f"https://localhost:{port_tls}"
        self.authority = Authority(self.path("tls"))
        self.ca = self.authority.ca
        certificate, key = self.authority.certificate("rgw")
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd"):
            os.mkdir(self.path(name))
        with open(self.path("ceph.conf"), "w") as file:
            file.write(self._conf(port, port_tls, port_mon, fsid, certificate, key))
        keyring, monmap = self.path("keyring"), self.path("monmap")
        self._run("ceph-authtool", "-C", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for entity in ("client.admin", "client.rgw", "osd.0"):
            self._run("ceph-authtool", keyring, "--gen-key", "-n", entity, "--cap", "mon", "allow *", "--cap", "osd",
                      "allow *")
        self._run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{port_mon}]", "--fsid", fsid, monmap)
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._daemon("mon", "ceph-mon", "-i", "a")
        self._await_port(port_mon, "mon")
        self._ceph("ceph", "osd", "create", fsid)
        self._ceph("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=h")
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", fsid)
        self._daemon("osd", "ceph-osd", "-i", "0")
        self.add_user("ci", self.access_key, self.secret_key)
        self.start_gateway()

    def _daemon(self, name, program, *args):
        self._spawn(name, program, "-c", self.path("ceph.conf"), "-f", *args)

    def add_user(self, uid, access_key, secret_key):
        self._ceph("radosgw-admin", "user", "create", f"--uid={uid}", f"--display-name={uid}",
                   f"--access-key={access_key}", f"--secret-key={secret_key}")

    def start_gateway(self):
        self._daemon("rgw", "radosgw", "-n", "client.rgw")
        for port in self._ports[:2]:
            self._await_port(port, "rgw")
        self._await_service()

    def stop_gateway(self):
        """Nobody listens any more; what is stored stays."""
        process = self.processes.pop("rgw")
        # Not by a kill: whatever changes buckets would wait 30 s for what the dead one had watched.
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def brown_out(self):
        """Requests are taken and not answered. Those that wait take effect when it is over."""
        osd = self.processes["osd"]
        osd.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            osd.send_signal(signal.SIGCONT)


# ---- OpenStack Swift -----------------------------------------------------------------------------

class Swift(Server):
    """OpenStack Swift with s3api: answers 501 to conditional PUTs. Ready in about 6 s."""

    name = "swift"
    packages = "swift-proxy swift-account swift-container swift-object memcached"
    programs = ("memcached", "swift-proxy-server", "swift-account-server", "swift-container-server", "swift-object-server",
                "swift-ring-builder")
    access_key = "ci:s3"
    filters = ("catch_errors", "gatekeeper", "memcache", "listing_formats", "bulk", "s3api", "tempauth", "slo", "dlo",
               "versioned_writes", "symlink")

    def _common(self, port):
        return (f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nuser = {self.user}\nswift_dir = {self.dir}\n"
                f"workers = 0\nlog_address = {self.dir}/no-syslog\n")

    def _write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def _start(self):
        names = ("account", "container", "object")
        port, port_cache, *ports = free_ports(2 + len(names))
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.endpoint = f"http://127.0.0.1:{port}"
        os.makedirs(self.path("srv", "d1"))
        self._write("swift.conf", "[swift-hash]\nswift_hash_path_suffix = ci\n")
        for name, where in zip(names, ports):
            builder = self.path(f"{name}.builder")
            self._run("swift-ring-builder", builder, "create", "4", "1", "0")
            self._run("swift-ring-builder", builder, "add", f"r1z1-127.0.0.1:{where}/d1", "1")
            self._run("swift-ring-builder", builder, "rebalance")
            self._write(f"{name}-server.conf", self._common(where) +
                        f"devices = {self.dir}/srv\nmount_check = false\n[pipeline:main]\npipeline = {name}-server\n"
                        f"[app:{name}-server]\nuse = egg:swift#{name}\n")
        self._write("proxy-server.conf", self._common(port) + self._pipeline(port_cache))
        self._spawn("memcached", "memcached", "-l", "127.0.0.1", "-p", port_cache, "-U", 0, "-m", 32, "-u", self.user)
        self._await_port(port_cache, "memcached")
        for name in (*names, "proxy"):
            self._spawn(name, f"swift-{name}-server", self.path(f"{name}-server.conf"))
        for name, where in zip((*names, "proxy"), (*ports, port)):
            self._await_port(where, name)
        self._await_service()

    def _pipeline(self, port_cache):
        special = {"memcache": f"memcache_servers = 127.0.0.1:{port_cache}\n", "s3api": "location = us-east-1\n",
                   "tempauth": f"user_ci_s3 = {self.secret_key} .admin\n",
                   "versioned_writes": "allow_object_versioning = true\n"}
        text = (f"[pipeline:main]\npipeline = {' '.join(self.filters)} proxy-server\n[app:proxy-server]\n"
                "use = egg:swift#proxy\naccount_autocreate = true\n")
        return text + "".join(f"[filter:{f}]\nuse = egg:swift#{f}\n{special.get(f, '')}" for f in self.filters)


SERVERS = {"rgw": Rgw, "swift": Swift}


def main():
    """Runs a server until Ctrl-C, for a look by hand: s3_servers.py rgw|swift"""
    if len(sys.argv) != 2 or sys.argv[1] not in SERVERS:
        print(f"usage: s3_servers.py {'|'.join(SERVERS)}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.monotonic()
    with SERVERS[sys.argv[1]]() as server:
        print(f"# ready after {time.monotonic() - start:.1f} s; Ctrl-C ends it", file=sys.stderr)
        for name, value in server.environment().items():
            print(f"export {name}={value}")
        if server.endpoint_tls:
            print(f"# TLS: AWS_ENDPOINT_URL={server.endpoint_tls} AWS_CA_BUNDLE={server.ca}")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
