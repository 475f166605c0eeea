"""S3 as the tests speak it: a signer and a client of their own, which share no code with protofs.

It looks into buckets behind the program's back, and is a second opinion on how requests are signed: the real servers and
s3_fault_server.py must accept both. Python's standard library and nothing else.
"""
import base64
import datetime
import hashlib
import hmac
import http.client
import os
import ssl
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections import namedtuple

EMPTY_HASH = hashlib.sha256(b"").hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"

Reply = namedtuple("Reply", "status headers body")
Entry = namedtuple("Entry", "key size etag")


class S3Error(Exception):
    def __init__(self, what, reply):
        text = reply.body[:500].decode("utf-8", "replace")
        super().__init__(f"{what}: HTTP {reply.status} {text}")
        self.status = reply.status
        self.code = error_code(reply.body)


def error_code(body):
    """What is in <Code> of an error, or None."""
    try:
        return ElementTree.fromstring(body).findtext("{*}Code")
    except ElementTree.ParseError:
        return None


# ---- Signing -------------------------------------------------------------------------------------

def quote(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def canonical_path(path):
    """The path of a request as it is signed: each byte escaped once, slashes kept."""
    return urllib.parse.quote(urllib.parse.unquote_to_bytes(path), safe="-_.~/")


def canonical_query(query):
    pairs = []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        pairs.append(tuple(urllib.parse.quote(urllib.parse.unquote_to_bytes(text), safe="-_.~")
                           for text in (name, value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def signature(secret, scope, date, method, path, query, headers, signed, payload_hash):
    """SCOPE is (day, region, service); HEADERS a dict with lower-case names; SIGNED sorted names."""
    canonical = "\n".join([
        method, canonical_path(path), canonical_query(query),
        *(f"{name}:{' '.join(headers[name].split())}" for name in signed), "",
        ";".join(signed), payload_hash])
    to_sign = "\n".join([ALGORITHM, date, "/".join([*scope, "aws4_request"]),
                         hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (*scope, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


# ---- A client ------------------------------------------------------------------------------------

class S3:
    """One bucket's worth of requests over one connection. Not for several threads."""

    def __init__(self, endpoint, access_key, secret_key, region="us-east-1", token=None, ca=None):
        self.endpoint = endpoint
        self.access_key, self.secret_key, self.token = access_key, secret_key, token
        self.region = region
        url = urllib.parse.urlsplit(endpoint)
        self.host = url.netloc
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            self.connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=60, context=context)
        else:
            self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)

    def close(self):
        self.connection.close()

    def request(self, method, path, query="", headers=None, body=b""):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        payload_hash = hashlib.sha256(body).hexdigest()
        headers = {name.lower(): value for name, value in (headers or {}).items()}
        headers |= {"host": self.host, "x-amz-date": now, "x-amz-content-sha256": payload_hash}
        if self.token:
            headers["x-amz-security-token"] = self.token
        signed = sorted(headers)
        scope = (now[:8], self.region, "s3")
        path = quote(path, safe="-_.~/")
        sign = signature(self.secret_key, scope, now, method, path, query, headers, signed, payload_hash)
        headers["authorization"] = (f"{ALGORITHM} Credential={self.access_key}/{'/'.join(scope)}/aws4_request, "
                                    f"SignedHeaders={';'.join(signed)}, Signature={sign}")
        headers["content-length"] = str(len(body))
        target = path + ("?" + query if query else "")
        for last in (False, True):
            try:
                self.connection.request(method, target, body=body, headers=headers)
                answer = self.connection.getresponse()
                return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # A connection that was kept may be gone by now; a new one is not.
                self.connection.close()
                if last:
                    raise
            except BaseException:
                self.connection.close()
                raise

    def must(self, method, path, *args, want=(200,), **kwargs):
        reply = self.request(method, path, *args, **kwargs)
        if reply.status not in want:
            raise S3Error(f"{method} {path}", reply)
        return reply

    def make_bucket(self, bucket, acl=None):
        self.must("PUT", f"/{bucket}", headers={"x-amz-acl": acl} if acl else None)

    def put(self, bucket, key, body, headers=None):
        return self.must("PUT", f"/{bucket}/{key}", headers=headers, body=body)

    def get(self, bucket, key):
        return self.must("GET", f"/{bucket}/{key}").body

    def head(self, bucket, key):
        """The headers, or None where there is no such object."""
        reply = self.must("HEAD", f"/{bucket}/{key}", want=(200, 404))
        return reply.headers if reply.status == 200 else None

    def delete(self, bucket, key):
        self.must("DELETE", f"/{bucket}/{key}", want=(200, 204))

    def list(self, bucket, prefix=""):
        """All entries below PREFIX, in the server's order."""
        token, entries = None, []
        while True:
            query = f"encoding-type=url&list-type=2&prefix={quote(prefix)}"
            if token:
                query += f"&continuation-token={quote(token)}"
            top = ElementTree.fromstring(self.must("GET", f"/{bucket}", query).body)
            for item in top.findall("{*}Contents"):
                entries.append(Entry(urllib.parse.unquote_plus(item.findtext("{*}Key")),
                                     int(item.findtext("{*}Size")), item.findtext("{*}ETag").strip('"')))
            if top.findtext("{*}IsTruncated") != "true":
                return entries
            token = top.findtext("{*}NextContinuationToken")

    def clear(self, bucket, prefix=""):
        for entry in self.list(bucket, prefix):
            self.delete(bucket, entry.key)


def from_environment(endpoint=None):
    """As every AWS tool takes them."""
    get = os.environ.get
    region = get("AWS_REGION") or get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = endpoint or get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    return S3(endpoint, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], region,
              get("AWS_SESSION_TOKEN"), get("AWS_CA_BUNDLE"))


def md5_base64(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


if __name__ == "__main__":
    print(__doc__, file=sys.stderr)
    sys.exit(2)
