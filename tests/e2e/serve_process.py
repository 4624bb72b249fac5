"""A running `gale serve` for the end-to-end tests, and HTTP by hand where a test looks at bytes."""

import http.client
import json
import re
import signal
import socket
import subprocess
import threading

from gale_process import GALE, TINY, TIMEOUT_S


class Server:
    """Starts on a free port; use as a context manager."""

    def __init__(self, *flags, model=TINY, exact=True):
        command = [GALE, "serve", str(model), "--port", "0", "--device", "cpu"]
        command += ["--dtype", "f32"] if exact else []
        self.process = subprocess.Popen([*command, *map(str, flags)], stderr=subprocess.PIPE,
                                        text=True, errors="replace")
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            found = re.match(r"serving (\S+) on (https?)://[^ ]*:(\d+)$", line)
            if found:
                self.name, self.scheme, self.port = found[1], found[2], int(found[3])
                break
        else:
            self.process.wait(TIMEOUT_S)
            self.process.stderr.close()
            raise RuntimeError("gale serve ended: " + "".join(self.log))
        self.reader = threading.Thread(target=self._read_log)
        self.reader.start()

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self):
        """The exit code, once it has ended."""
        code = self.process.wait(TIMEOUT_S)
        self.reader.join()
        self.process.stderr.close()
        return code

    def request(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(response, response.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers.items())

    def post(self, path, body, **headers):
        return self.request("POST", path, body, headers.items())

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S)

    def stats(self):
        """Metrics by their whole names."""
        lines = self.get("/metrics").text().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def text(self):
        return self.body.decode("utf-8")

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]

    def events(self):
        """The data of a stream's events, up to [DONE], which must be the last."""
        events = self.text().split("\n\n")
        assert events[-1] == "" and events[-2] == "data: [DONE]", events[-2:]
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]
                if not event.startswith(":")]


def raw_post(path, body, *headers):
    """The bytes of a request."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def read_all(connection):
    """Everything until the server closes."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def user(text):
    return [{"role": "user", "content": text}]
