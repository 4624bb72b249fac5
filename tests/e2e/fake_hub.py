"""A server that speaks the Hugging Face hub's protocol, as far as downloads need it: listings,
file metadata, ranges, and big files elsewhere (on a second port, as the hub's are on a CDN)."""

import hashlib
import http.server
import json
import re
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def blob_name(data, is_lfs):
    if is_lfs:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    """`files`: name to bytes; those that end in .safetensors or .gguf are in LFS."""

    def __init__(self, repository, files, revisions=("main",)):
        self.repository = repository
        self.files = files
        self.revisions = set(revisions) | {COMMIT}
        self.token = None      # that must be sent
        self.answers = {}      # path's ending -> (status, headers) given in place of the true answer
        self.break_after = []  # bytes after which transfers from the CDN break off, one after another
        self.ignore_range = False
        self.sizes = {}        # claimed in place of the true ones
        self.log = []          # (port name, method, path, Authorization)
        self.fetched = []      # (name, first byte) of each body that was sent
        self.hub = self._serve("hub")
        self.cdn = self._serve("cdn")
        self.url = f"http://127.0.0.1:{self.hub.server_port}"

    def _serve(self, name):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            fake = self
            port_name = name

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.fake.answer(self)

            do_HEAD = do_GET

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that went away

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        return server

    def close(self):
        for server in (self.hub, self.cdn):
            server.shutdown()
            server.server_close()

    def answer(self, handler):
        path = handler.path
        span = handler.headers.get("Range")
        token = handler.headers.get("Authorization")
        self.log.append((handler.port_name, handler.command, path, token))
        if handler.port_name == "cdn":
            return self.send_file(handler, path[len("/cdn/"):], span, {})
        for ending, (status, headers) in self.answers.items():
            if path.endswith(ending):
                return self.send(handler, status, headers, b"{}")
        if self.token and token != f"Bearer {self.token}":
            return self.send(handler, 401, {"X-Error-Code": "RepoNotFound"}, b"{}")
        listing = re.fullmatch(r"/api/models/(.+)/revision/([^/]+)", path)
        if listing and listing[1] == self.repository:
            revision = listing[2].replace("%2F", "/")
            if revision not in self.revisions:
                return self.send(handler, 404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
            siblings = [{"rfilename": name} for name in self.files]
            body = json.dumps({"id": self.repository, "sha": COMMIT, "siblings": siblings})
            return self.send(handler, 200, {}, body.encode())
        resolve = re.fullmatch(rf"/{self.repository}/resolve/{COMMIT}/(.+)", path)
        if not resolve or resolve[1] not in self.files:
            return self.send(handler, 404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        name = resolve[1]
        data = self.files[name]
        is_lfs = name.endswith((".safetensors", ".gguf"))
        headers = {"X-Repo-Commit": COMMIT}
        if not is_lfs:
            headers["ETag"] = f'W/"{blob_name(data, False)}"'
            return self.send_file(handler, name, span, headers)
        headers |= {"X-Linked-Etag": f'"{blob_name(data, True)}"',
                    "X-Linked-Size": str(self.sizes.get(name, len(data))),
                    "ETag": '"of the redirect"',
                    "Location": f"http://127.0.0.1:{self.cdn.server_port}/cdn/{name}"}
        return self.send(handler, 302, headers, b"")

    def send(self, handler, status, headers, body):
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)

    def send_file(self, handler, name, span, headers):
        data = self.files[name]
        first = int(span[6:-1]) if span and not self.ignore_range else 0
        if first >= len(data) > 0:
            return self.send(handler, 416, headers, b"")
        if handler.command == "GET":
            self.fetched.append((name, first))
        body = data[first:]
        if first:
            headers = headers | {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        if handler.command != "GET" or handler.port_name != "cdn" or not self.break_after:
            return self.send(handler, 206 if first else 200, headers, body)
        handler.send_response(206 if first else 200)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:self.break_after.pop(0)])
        handler.close_connection = True
