"""A Google Cloud Storage of one process, for programs that open `gs://` by TensorFlow.

TensorFlow's client cannot be sent to another address, but it heeds `HTTPS_PROXY`: this
proxy answers instead of passing requests on. What it speaks is the JSON API's part that
the client uses: objects are whole or not there, have no rename and no folders.
"""

import collections
import contextlib
import http.server
import json
import re
import ssl
import threading
import time
import urllib.parse

import trustme

_HOSTS = ("www.googleapis.com", "storage.googleapis.com")


class ObjectStore:
    """Objects by name, each a bucket and a path.

    Args:
        delay: Seconds until each answer.

    Attributes:
        objects: Their bytes.
        requests: Numbers of requests, by method and kind.
    """

    def __init__(self, delay: float = 0.0):
        self.objects: dict[str, bytes] = {}
        self.requests = collections.Counter()
        self.delay = delay
        self._uploads: dict[str, tuple[str, bytearray]] = {}
        self._generation = collections.Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def serve(self, directory):
        """Yields the environment of processes that shall use it.

        Args:
            directory: For the certificates; a `pathlib.Path`.
        """
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*_HOSTS).configure_cert(context)
        authority.cert_pem.write_to_path(directory / "authority.pem")
        handler = type("Handler", (_Handler,), {"store": self, "context": context})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield {
                "HTTPS_PROXY": f"http://127.0.0.1:{server.server_port}",
                "CURL_CA_BUNDLE": str(directory / "authority.pem"),
                "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
                "NO_GCE_CHECK": "true",
            }
        finally:
            server.shutdown()
            server.server_close()

    def put(self, name: str, content: bytes) -> None:
        with self._lock:
            self.objects[name] = content
            self._generation[name] += 1

    def start_upload(self, name: str) -> str:
        with self._lock:
            key = f"upload-{len(self._uploads)}"
            self._uploads[key] = (name, bytearray())
        return key

    def go_on_with_upload(self, key: str, content: bytes, last: bool) -> int:
        """Returns the number of bytes there are."""
        name, so_far = self._uploads[key]
        so_far += content
        if last:
            self.put(name, bytes(so_far))
        return len(so_far)

    def metadata(self, name: str) -> dict:
        bucket, _, path = name.partition("/")
        return {
            "name": path,
            "bucket": bucket,
            "size": str(len(self.objects[name])),
            "generation": str(self._generation[name]),
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        }

    def delete(self, name: str) -> None:
        with self._lock:
            del self.objects[name]

    def listing(self, bucket: str, prefix: str, delimiter: str, most: int) -> dict:
        with self._lock:
            names = sorted(n for n in self.objects if n.startswith(f"{bucket}/{prefix}"))
        items, folders = [], []
        for name in names:
            path = name.partition("/")[2]
            folder, found, _ = path[len(prefix) :].partition(delimiter or "\0")
            if found:
                folders.append(prefix + folder + delimiter)
            else:
                items.append({"name": path})
        return {"items": items[:most], "prefixes": sorted(set(folders))[:most]}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore
    context: ssl.SSLContext

    def do_CONNECT(self):
        self.send_response(200, "Connection established")
        self.end_headers()
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def _request(self):
        time.sleep(self.store.delay)
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        path = url.path
        content = self._body()
        for kind, pattern, answer in _ROUTES:
            if match := re.fullmatch(pattern, path):
                self.store.requests[f"{self.command} {kind}"] += 1
                parts = [urllib.parse.unquote(part) for part in match.groups()]
                try:
                    answer(self, content, *parts)
                except KeyError:
                    self._answer(404)
                return
        self._answer(501, f"{self.command} {self.path}".encode())

    do_GET = do_POST = do_PUT = do_DELETE = _request

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: bytes = b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _json(self, value):
        self._answer(
            200, json.dumps(value).encode(), **{"Content-Type": "application/json"}
        )

    def _object(self, content, bucket, path):
        name = f"{bucket}/{path}"
        if self.command == "DELETE":
            self.store.delete(name)
            self._answer(204)
        else:
            self._json(self.store.metadata(name))

    def _bucket(self, content, bucket):
        self._json({"name": bucket, "location": "EARTH"})

    def _objects(self, content, bucket):
        most = int(self.query.get("maxResults", 10**9))
        query = self.query.get
        self._json(
            self.store.listing(bucket, query("prefix", ""), query("delimiter", ""), most)
        )

    def _upload(self, content, bucket):
        if self.command == "POST":
            key = self.store.start_upload(f"{bucket}/{self.query['name']}")
            url = f"https://www.googleapis.com/upload/storage/v1/b/{bucket}/o?key={key}"
            self._answer(200, Location=url)
            return
        # Of a file without content it is not said.
        span = self.headers.get("Content-Range", "bytes */0").removeprefix("bytes ")
        there, total = span.split("/")
        last = total != "*" and (there == "*" or int(there.split("-")[1]) + 1 == int(total))
        size = self.store.go_on_with_upload(self.query["key"], content, last)
        if last:
            self._answer(200, b"{}")
        else:
            self._answer(308, Range=f"bytes=0-{size - 1}")

    def _rewrite(self, content, bucket, path, target_bucket, target):
        self.store.put(f"{target_bucket}/{target}", self.store.objects[f"{bucket}/{path}"])
        self._json({"done": True})

    def _content(self, _, bucket, path):
        content, status = self.store.objects[f"{bucket}/{path}"], 200
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = map(int, span.groups())
            if first >= len(content):
                self._answer(416)
                return
            content, status = content[first : last + 1], 206
        self._answer(status, content)

    def log_message(self, *args):
        pass


_ROUTES = (
    (
        "rewrite",
        r"/storage/v1/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)",
        _Handler._rewrite,
    ),
    ("metadata", r"/storage/v1/b/([^/]+)/o/([^/]+)", _Handler._object),
    ("list", r"/storage/v1/b/([^/]+)/o/?", _Handler._objects),
    ("bucket", r"/storage/v1/b/([^/]+)/?", _Handler._bucket),
    ("upload", r"/upload/storage/v1/b/([^/]+)/o/?", _Handler._upload),
    ("content", r"/([^/]+)/(.+)", _Handler._content),
)
