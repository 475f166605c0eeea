"""An S3 server in memory that fails on demand, for what no real server does when asked.

    with FaultServer() as server:
        server.make_bucket("bucket")
        server.fault("status", status=503, code="SlowDown", retry_after=1, method="PUT", key="wal/*", times=3)
        ...
        check_eq(server.count("PUT"), 4, "attempts")
        check_eq(server.complaints, [], "what no good client does")

It checks signatures with code of its own (s3_wire), payload hashes, clocks, tokens, regions and If-None-Match, and counts
requests and bytes of bodies by kind: PUT, GET, HEAD, LIST, DELETE, OTHER.

A fault strikes the requests of METHOD (a kind; None: any) whose key matches KEY (a shell pattern): SKIP of them pass first,
then it strikes TIMES (None: for ever), each with CHANCE (by the server's seed). EFFECT: the request takes effect before the
fault strikes, as with an answer that got lost. One fault a request, the oldest that matches. Kinds and their arguments:

    status    status, code, message, retry_after, headers, body   an error, or any other answer
    hang      seconds, answer    nothing for so long; then the answer, or the connection ends
    reset                        the connection is reset without an answer
    close                        the connection ends without an answer
    late      seconds            the connection is reset; a PUT takes effect so much later
    stall     at, seconds        stops reading a request's body behind AT bytes, then resets
    cut       at, reset          of a body, AT bytes come, then the connection ends, or is reset
    drip      at, rate           from AT on, a body comes with RATE bytes a second
    shorter   by                 BY bytes fewer, in the length too: nothing but the sums can tell
    corrupt   at                 one bit of byte AT is another
    header    set, drop          headers of the answer replaced or dropped
    rival     data, headers      another writer's object is there just before this request
    listing   body               BODY (bytes, or a function of the query's dict) is the answer to LIST
    garbage   data               DATA is the answer, then the connection ends
    unkeep                       answers, and ends the connection although it said it would keep it
"""
import contextlib
import datetime
import email.utils
import fnmatch
import hashlib
import json
import random
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
from collections import namedtuple
from xml.sax.saxutils import escape

import s3_wire

KINDS = ("PUT", "GET", "HEAD", "LIST", "DELETE", "OTHER")
HEADER_MAX = 64 << 10
BODY_MAX = 128 << 20
SKEW_MAX_S = 900
SENT_AT_ONCE = 64 << 10

Request = namedtuple("Request", "method path query params headers body bucket key kind")


class Seen:
    """A request, from the moment that its header was read. STATUS is 0 until, and unless, it is answered."""

    def __init__(self, number, connection, request, fault):
        self.number, self.connection, self.time = number, connection, time.monotonic()
        self.kind, self.bucket, self.key, self.headers = request.kind, request.bucket, request.key, request.headers
        self.fault = fault.kind if fault else None
        self.received = self.sent = self.status = 0  # bytes of bodies


class Object:
    def __init__(self, data, headers=None, like=None):
        self.data = like.data if like else data
        self.headers = dict(headers or {})  # content-type, x-amz-meta-*
        self.etag = like.etag if like else hashlib.md5(data).hexdigest()
        self.modified = time.time()


class Fault:
    def __init__(self, kind, method=None, key="*", skip=0, times=1, chance=None, effect=False, **args):
        self.kind, self.method, self.key, self.skip, self.times, self.chance = kind, method, key, skip, times, chance
        self.effect, self.args = effect, args
        self.hits = 0

    def strikes(self, request, rng):
        if self.method not in (None, request.kind) or not fnmatch.fnmatchcase(request.key, self.key):
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.chance is not None and rng.random() >= self.chance:
            return False
        self.hits += 1
        return True


class Answer:
    def __init__(self, status, body=b"", headers=None):
        self.status, self.body = status, body
        self.headers = {"content-type": "application/xml"} | (headers or {})


class Refused(Exception):
    def __init__(self, status, code, message="", headers=None, more=""):
        super().__init__(code)
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(code)}</Code>'
                f"<Message>{escape(message)}</Message>{more}</Error>")
        self.answer = Answer(status, body.encode(), headers)


class Gone(Exception):
    """This connection is over. RESET: with an RST."""

    def __init__(self, reset=False):
        super().__init__()
        self.reset = reset


class FaultServer:
    def __init__(self, tls=None, seed=0, access_key="fault-access", secret_key="fault-secret/with+signs=",
                 region="us-east-1", share=False):
        self.access_key, self.secret_key, self.region = access_key, secret_key, region
        self.tokens = {access_key: (secret_key, None)}  # access key -> (secret, session token or None)
        self.expired = set()      # access keys, or session tokens
        self.buckets = {}         # name -> {key: Object}
        self.conditional = True   # False: 501 to If-None-Match
        self.clock_offset_s = 0   # of this server's clock
        self.page_max = 1000      # entries of a listing
        self.shared = {} if share else None  # payload hash -> Object: equal bodies take memory once
        self.seen = []
        self.complaints = []
        self.connections = 0
        self._faults = []
        self._rng = random.Random(seed)
        self._lock = threading.RLock()  # of all above
        self._tls = tls                 # (certificate, key)
        self._stopping = threading.Event()
        self._listener = None
        self._open = set()
        self.port = 0

    # ---- What tests use

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self, port=0):
        self._stopping.clear()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self._listener.getsockname()[1]
        context = None
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
        threading.Thread(target=self._accept, args=(self._listener, context), daemon=True).start()
        return self

    def stop(self):
        """Ends all connections. start(server.port) goes on with the same objects."""
        self._stopping.set()
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    @property
    def endpoint(self):
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def environment(self, **more):
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "AWS_REGION": self.region, "AWS_ENDPOINT_URL": self.endpoint} | more

    def client(self):
        return s3_wire.S3(self.endpoint, self.access_key, self.secret_key, self.region)

    def make_bucket(self, name):
        with self._lock:
            self.buckets[name] = {}

    def put(self, bucket, key, data, headers=None):
        """Stores an object behind the protocol's back."""
        with self._lock:
            self.buckets[bucket][key] = Object(data, headers)

    def fault(self, kind, **args):
        known = getattr(Connection, f"fault_{kind}", None)
        if known is None:
            raise ValueError(f"no such fault: {kind}")
        fault = Fault(kind, **args)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self):
        """No faults any more, and nothing counted."""
        with self._lock:
            self._faults.clear()
            self.seen = []
            self.complaints = []
            self.connections = 0
            self.expired.clear()
            self.conditional, self.clock_offset_s, self.page_max = True, 0, 1000
            self.tokens = {self.access_key: (self.secret_key, None)}

    def log(self, kind=None, key="*", since=0):
        with self._lock:
            return [s for s in self.seen if kind in (None, s.kind) and fnmatch.fnmatchcase(s.key, key) and s.number >= since]

    def count(self, kind=None, key="*", since=0):
        """Requests of KIND since the request number SINCE (mark() tells)."""
        return len(self.log(kind, key, since))

    def received(self, kind=None, key="*", since=0):
        """Bytes of their bodies."""
        return sum(s.received for s in self.log(kind, key, since))

    def sent(self, kind=None, key="*", since=0):
        return sum(s.sent for s in self.log(kind, key, since))

    def mark(self):
        with self._lock:
            return len(self.seen)

    # ---- Inside

    def _accept(self, listener, context):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                number = self.connections
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, context, number), daemon=True).start()

    def _serve(self, sock, context, number):
        raw, reset = sock, False
        try:
            if context:
                sock = context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.discard(raw)
                    self._open.add(sock)
            Connection(self, sock, number).serve()
        except Gone as gone:
            reset = gone.reset
        except (OSError, ValueError):
            pass  # the client went away
        finally:
            with self._lock:
                self._open.discard(raw)
                self._open.discard(sock)
            if reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                sock.close()

    def now(self):
        return time.time() + self.clock_offset_s

    def complain(self, text):
        with self._lock:
            self.complaints.append(text)

    def pick(self, request):
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(request, self._rng)), None)

    def note(self, connection, request, fault):
        with self._lock:
            seen = Seen(len(self.seen), connection, request, fault)
            self.seen.append(seen)
            return seen

    def wait(self, seconds):
        """Sleeps, but not beyond the server's end."""
        if self._stopping.wait(seconds):
            raise Gone()


class Connection:
    """One connection, one thread."""

    def __init__(self, server, sock, number):
        self.server, self.sock, self.number = server, sock, number
        self.file = sock.makefile("rb")
        self.request = self.fault = self.seen = None

    # ---- HTTP

    def serve(self):
        while True:
            self.request = self.fault = None
            if not self.read_request():
                return
            try:
                answer = self.answer()
            except Refused as refused:
                answer = refused.answer
            self.reply(answer)
            if self.fault and self.fault.kind == "unkeep":
                raise Gone()
            if self.request.headers.get("connection", "").lower() == "close":
                return

    def read_request(self):
        line = self.file.readline(HEADER_MAX)
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split()
        headers, size = {}, 0
        while (line := self.file.readline(HEADER_MAX)) not in (b"\r\n", b"\n", b""):
            size += len(line)
            if size > HEADER_MAX:
                raise Gone()
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() in headers:
                self.server.complain(f"header {name} twice")
            headers[name.lower()] = value.strip()
        self.request = self.parse(method, target, headers)
        self.fault = self.server.pick(self.request)
        self.seen = self.server.note(self.number, self.request, self.fault)
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.request = self.request._replace(body=self.read_body(headers))
        self.seen.received = len(self.request.body)
        return True

    def parse(self, method, target, headers):
        path, _, query = target.partition("?")
        params = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        host = headers.get("host", "").rsplit(":", 1)[0]
        parts = urllib.parse.unquote(path, errors="surrogateescape").lstrip("/").split("/", 1)
        if host.endswith(".localhost"):
            bucket, key = host.removesuffix(".localhost"), "/".join(parts)
        else:
            bucket, key = parts[0], parts[1] if len(parts) > 1 else ""
        kind = method if method in KINDS and key else "OTHER"
        if method == "GET" and not key:
            kind = "LIST"
        return Request(method, path, query, params, headers, b"", bucket, key, kind)

    def read_body(self, headers):
        if "transfer-encoding" in headers:
            self.server.complain("a chunked request")
            raise Gone()
        size = int(headers.get("content-length", 0))
        if size > BODY_MAX:
            raise Gone(reset=True)
        if self.fault and self.fault.kind == "stall":
            self.file.read(min(size, self.fault.args.get("at", 0)))
            self.server.wait(self.fault.args["seconds"])
            raise Gone(reset=True)
        body = self.file.read(size)
        if len(body) < size:
            raise Gone()
        return body

    def reply(self, answer):
        fault = self.fault
        headers = {"date": email.utils.formatdate(self.server.now(), usegmt=True), "server": "faults",
                   "x-amz-request-id": f"request-{self.seen.number}", "content-length": str(len(answer.body))}
        headers |= answer.headers
        status = {200: "OK", 204: "No Content", 206: "Partial Content"}.get(answer.status, "Whatever")
        head = f"HTTP/1.1 {answer.status} {status}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        body = b"" if self.request.method == "HEAD" or answer.status == 204 else answer.body
        kind = fault.kind if fault else None
        end = min(len(body), fault.args["at"]) if kind == "cut" else len(body)
        self.seen.status, self.seen.sent = answer.status, end
        self.sock.sendall(head.encode("latin-1"))
        if kind == "drip":
            self.send_slowly(body, fault.args.get("at", 0), fault.args["rate"])
        else:
            self.sock.sendall(body[:end])
        if kind == "cut":
            raise Gone(reset=fault.args.get("reset", False))

    def send_slowly(self, body, at, rate):
        self.sock.sendall(body[:at])
        step = max(1, rate // 20)
        while at < len(body):
            self.sock.sendall(body[at:at + step])
            at += step
            self.server.wait(step / rate)

    # ---- Faults

    def answer(self):
        self.authorize()
        if self.fault is None:
            return self.perform()
        return getattr(self, f"fault_{self.fault.kind}")(**self.fault.args)

    def maybe_perform(self):
        """A refusal is as good as any answer that gets lost."""
        if self.fault.effect:
            with contextlib.suppress(Refused):
                self.perform()

    def fault_status(self, status, code="", message="on demand", retry_after=None, headers=None, body=None):
        self.maybe_perform()
        more = dict(headers or {})
        if retry_after is not None:
            more["retry-after"] = str(retry_after)
        if body is not None:
            return Answer(status, body, more)
        raise Refused(status, code, message, more)

    def fault_hang(self, seconds, answer=False):
        if not self.fault.effect or not answer:
            self.maybe_perform()
            self.server.wait(seconds)
            if not answer:
                raise Gone()
            return self.perform()
        result = self.perform()
        self.server.wait(seconds)
        return result

    def fault_reset(self):
        self.maybe_perform()
        raise Gone(reset=True)

    def fault_close(self):
        self.maybe_perform()
        raise Gone()

    def fault_late(self, seconds):
        def later():
            with contextlib.suppress(Gone, Refused):
                self.server.wait(seconds)
                perform(self.server, self.request)
        threading.Thread(target=later, daemon=True).start()
        raise Gone(reset=True)

    def fault_stall(self, **_):
        raise AssertionError("strikes while the body is read")

    def fault_cut(self, **_):
        return self.perform()

    def fault_drip(self, **_):
        return self.perform()

    def fault_unkeep(self):
        return self.perform()

    def fault_shorter(self, by):
        answer = self.perform()
        answer.body = answer.body[:-by]
        answer.headers.pop("content-length", None)
        return answer

    def fault_corrupt(self, at=0):
        answer = self.perform()
        body = bytearray(answer.body)
        body[at % len(body)] ^= 1
        answer.body = bytes(body)
        return answer

    def fault_header(self, set=None, drop=()):
        answer = self.perform()
        answer.headers |= set or {}
        for name in drop:
            answer.headers.pop(name, None)
        return answer

    def fault_rival(self, data, headers=None):
        self.server.put(self.request.bucket, self.request.key, data, headers)
        return self.perform()

    def fault_listing(self, body):
        return Answer(200, body(self.request.params) if callable(body) else body)

    def fault_garbage(self, data):
        self.sock.sendall(data)
        raise Gone()

    # ---- Who asks

    def authorize(self):
        request, server = self.request, self.server
        fields = self.authorization_fields()
        access, *scope, ending = fields["Credential"].split("/")
        if len(scope) != 3 or ending != "aws4_request" or scope[2] != "s3":
            raise Refused(400, "AuthorizationHeaderMalformed", "the scope is no good")
        if access not in server.tokens:
            raise Refused(403, "InvalidAccessKeyId", "nobody has this access key")
        secret, token = server.tokens[access]
        self.check_signature(fields, scope, secret)
        self.check_clock(request.headers["x-amz-date"])
        if {access, token} & server.expired:
            raise Refused(400, "ExpiredToken", "the provided token has expired")
        if request.headers.get("x-amz-security-token") != token:
            raise Refused(403, "InvalidToken", "the provided token is malformed or otherwise invalid")
        if scope[1] != server.region:
            raise Refused(400, "AuthorizationHeaderMalformed", f"the region '{scope[1]}' is wrong; expecting '{server.region}'",
                          {"x-amz-bucket-region": server.region}, f"<Region>{server.region}</Region>")

    def authorization_fields(self):
        algorithm, _, rest = self.request.headers.get("authorization", "").partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if algorithm != s3_wire.ALGORITHM or set(fields) != {"Credential", "SignedHeaders", "Signature"}:
            self.server.complain(f"Authorization: {algorithm} with {sorted(fields)}")
            raise Refused(403, "AccessDenied", "no signature")
        return fields

    def check_signature(self, fields, scope, secret):
        request = self.request
        signed = fields["SignedHeaders"].split(";")
        must = {"host", "x-amz-date", "x-amz-content-sha256"} | {h for h in request.headers if h.startswith("x-amz-")}
        missing = must - set(signed) | set(signed) - set(request.headers)
        if missing or signed != sorted(signed):
            self.server.complain(f"signed headers: {fields['SignedHeaders']}, but {sorted(missing)}")
            raise Refused(403, "SignatureDoesNotMatch", "headers that must be signed are not")
        if request.query != s3_wire.canonical_query(request.query) and "=" not in request.query:
            self.server.complain(f"query: {request.query}")
        payload_hash = request.headers["x-amz-content-sha256"]
        want = s3_wire.signature(secret, scope, request.headers["x-amz-date"], request.method, request.path, request.query,
                                 request.headers, signed, payload_hash)
        if want != fields["Signature"] or scope[0] != request.headers["x-amz-date"][:8]:
            raise Refused(403, "SignatureDoesNotMatch", "the signature is another")
        if payload_hash != hashlib.sha256(request.body).hexdigest():
            self.server.complain(f"payload hash {payload_hash}")
            raise Refused(400, "XAmzContentSHA256Mismatch", "the body has another hash")
        if request.headers.get("content-md5", s3_wire.md5_base64(request.body)) != s3_wire.md5_base64(request.body):
            raise Refused(400, "BadDigest", "the body has another MD5")

    def check_clock(self, text):
        date = datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if abs(date.timestamp() - self.server.now()) > SKEW_MAX_S:
            raise Refused(403, "RequestTimeTooSkewed", "the difference between the clocks is too large")

    def perform(self):
        return perform(self.server, self.request)


# ---- What S3 does --------------------------------------------------------------------------------

def perform(server, request):
    with server._lock:
        if request.method == "PUT" and not request.key:
            server.buckets.setdefault(request.bucket, {})
            return Answer(200)
        objects = server.buckets.get(request.bucket)
        if objects is None:
            if not request.bucket:
                return Answer(200, b"<ListAllMyBucketsResult/>")
            raise Refused(404, "NoSuchBucket", "the specified bucket does not exist")
        if request.kind == "LIST":
            return list_objects(server, request, objects)
        if request.kind == "PUT":
            return put_object(server, request, objects)
        if request.kind in ("GET", "HEAD"):
            return get_object(request, objects)
        if request.kind == "DELETE":
            objects.pop(request.key, None)
            return Answer(204)
        raise Refused(501, "NotImplemented", f"{request.method} {request.path}")


def put_object(server, request, objects):
    if request.query:
        raise Refused(501, "NotImplemented", request.query)
    condition = request.headers.get("if-none-match")
    if condition is not None:
        if not server.conditional or condition != "*":
            raise Refused(501, "NotImplemented", "If-None-Match")
        if request.key in objects:
            raise Refused(412, "PreconditionFailed", "there is one")
    kept = {k: v for k, v in request.headers.items() if k.startswith("x-amz-meta-") or k == "content-type"}
    payload_hash = request.headers["x-amz-content-sha256"]  # it is right, or we would not be here
    made = Object(request.body, kept, server.shared.get(payload_hash) if server.shared is not None else None)
    objects[request.key] = made
    if server.shared is not None:
        server.shared.setdefault(payload_hash, made)
    return Answer(200, b"", {"etag": f'"{made.etag}"'})


def get_object(request, objects):
    found = objects.get(request.key)
    if found is None:
        raise Refused(404, "NoSuchKey", "the specified key does not exist")
    headers = {"content-type": "binary/octet-stream"} | found.headers
    headers |= {"etag": f'"{found.etag}"', "accept-ranges": "bytes",
                "last-modified": email.utils.formatdate(found.modified, usegmt=True)}
    wanted = request.headers.get("range")
    if not wanted:
        headers["content-length"] = str(len(found.data))
        return Answer(200, found.data, headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    first, last = int(first), int(last) if last else len(found.data) - 1
    if first >= len(found.data) or last < first:
        raise Refused(416, "InvalidRange", wanted)
    data = found.data[first:last + 1]
    headers["content-range"] = f"bytes {first}-{first + len(data) - 1}/{len(found.data)}"
    return Answer(206, data, headers)


def list_objects(server, request, objects):
    params = request.params
    if params.get("list-type") != "2":
        raise Refused(501, "NotImplemented", "only version 2 of listings")
    prefix, after = params.get("prefix", ""), params.get("continuation-token", params.get("start-after", ""))
    names = sorted((k for k in objects if k.startswith(prefix) and k > after),
                   key=lambda k: k.encode("utf-8", "surrogateescape"))
    most = min(server.page_max, int(params.get("max-keys", 1000)))
    page, more = names[:most], len(names) > most
    return Answer(200, listing([(n, len(objects[n].data), objects[n].etag) for n in page], prefix,
                               page[-1] if more and page else None, params.get("encoding-type") == "url").encode())


def listing(entries, prefix="", next_token=None, encoded=True, truncated=None):
    """A ListBucketResult of ENTRIES (key, size, etag). Any of it may be nonsense."""
    def name(key):
        return escape(s3_wire.quote(key, safe="-_.~/") if encoded else key)
    text = "".join(f"<Contents><Key>{name(key)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
                   f"<ETag>&quot;{escape(etag)}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass>"
                   "</Contents>" for key, size, etag in entries)
    truncated = next_token is not None if truncated is None else truncated
    return ('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>bucket</Name><Prefix>{name(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount><MaxKeys>1000</MaxKeys>"
            + ("<EncodingType>url</EncodingType>" if encoded else "")
            + f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{text}"
            + (f"<NextContinuationToken>{escape(next_token)}</NextContinuationToken>" if next_token is not None else "")
            + "</ListBucketResult>")


def main():
    """Runs one for a look by hand: s3_fault_server.py BUCKET [FAULT]..., each '{"kind": "status", "status": 503, ...}'"""
    if len(sys.argv) < 2:
        print(f"usage: {main.__doc__.split(': ', 1)[1]}", file=sys.stderr)
        sys.exit(2)
    with FaultServer() as server:
        server.make_bucket(sys.argv[1])
        for text in sys.argv[2:]:
            server.fault(**json.loads(text))
        for name, value in server.environment().items():
            print(f"export {name}='{value}'")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
