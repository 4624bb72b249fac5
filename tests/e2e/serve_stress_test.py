"""gale serve under many clients, broken requests and clients that are killed. GALE_STRESS_REQUESTS
sets how many broken requests are sent."""

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import unittest

from gale_process import TIMEOUT_S, ROOT
from serve_process import Server, raw_post, user

MODEL = ROOT / "models/gale-tales-10m"
NUM_STREAMS = 1000
NUM_BROKEN = int(os.environ.get("GALE_STRESS_REQUESTS", "2000"))
GAUGES = ("gale_num_requests_running", "gale_num_requests_waiting", "gale_kv_cache_usage_perc")

SEEDS = [
    raw_post("/v1/chat/completions", {"messages": user("Hello"), "max_tokens": 2, "stream": True,
                                      "logit_bias": {"7": -1.5}, "stop": ["a", "b"]}),
    raw_post("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 1, "n": 2, "logprobs": 1}),
    raw_post("/tokenize", {"prompt": "Once", "add_special_tokens": False}),
    raw_post("/detokenize", {"tokens": [5, 6, 7]}),
    b"GET /v1/models/tiny-chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"d\r\n{\"prompt\":\"a\",\r\nf\r\n\"max_tokens\":1 }\r\n0\r\n\r\n",
]
PIECES = [b"\x00", b"\r\n", b"\r\n\r\n", b": ", b"HTTP/1.1", b"Content-Length: 5\r\n", b"-1", b"{", b"[",
          b"null", b"\"", b"\\u0000", b"1e999", b"\xff\xfe", b"%00", b"chunked", b"99999999999999999999"]


def broken(draw):
    """A request with a few things wrong."""
    data = bytearray(draw.choice(SEEDS))
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(4)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:at] = draw.choice(PIECES)
        elif kind == 2:
            del data[at:at + draw.randint(1, 20)]
        else:
            data = data[:at + 1]
    return bytes(data)


def gauges(server):
    stats = server.stats()
    return [value for name, value in stats.items() if name.partition("{")[0] in GAUGES]


class Stress(unittest.TestCase):
    def wait_until_idle(self, server):
        deadline = time.monotonic() + TIMEOUT_S
        while any(gauges(server)):
            self.assertLess(time.monotonic(), deadline, gauges(server))
            time.sleep(0.02)
        self.assertEqual(len(gauges(server)), len(GAUGES))

    def test_a_thousand_streams(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        tokens = 8

        async def stream(port, index):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            writer.write(raw_post("/v1/completions", {
                "prompt": f"Story {index}: once", "max_tokens": tokens, "ignore_eos": True,
                "return_token_ids": True, "stream": True}, "Connection: close"))
            data = await reader.read(-1)
            writer.close()
            return data

        async def run(port):
            return await asyncio.gather(*(stream(port, i) for i in range(NUM_STREAMS)))

        with Server("--no-access-log", model=MODEL, exact=False) as server:
            for data in asyncio.run(run(server.port)):
                self.assertTrue(data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), data[-200:])
                ids = [len(json.loads(line[6:])["choices"][0].get("token_ids", []))
                       for line in data.split(b"\n") if line.startswith(b"data: {")]
                self.assertEqual(sum(ids), tokens)
            self.wait_until_idle(server)

    def test_broken_requests(self):
        draw = random.Random(7)

        async def send(port, data):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(data)
                answer = await asyncio.wait_for(reader.read(65536), 0.25)
            except (ConnectionError, TimeoutError):  # the server waits for what is missing
                answer = b""
            writer.close()
            return answer

        async def run(port):
            answers = []
            for begin in range(0, NUM_BROKEN, 200):
                batch = [broken(draw) for _ in range(min(200, NUM_BROKEN - begin))]
                answers += await asyncio.gather(*(send(port, data) for data in batch))
            return answers

        with Server("--no-access-log") as server:
            answers = asyncio.run(run(server.port))
            statuses = {int(answer[9:12]) for answer in answers if answer}
            self.assertGreater(sum(map(bool, answers)), NUM_BROKEN / 2)
            self.assertLessEqual(statuses, {100, 200, 204, 400, 404, 405, 413, 431})
            self.assertEqual(server.get("/health").status, 200)
            self.wait_until_idle(server)

    def test_killed_clients(self):
        client = ("import socket, sys\n"
                  "connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
                  "connection.sendall(bytes.fromhex(sys.argv[2]))\n"
                  "print(len(connection.recv(100)), flush=True)\n"
                  "while connection.recv(65536): pass\n")
        request = raw_post("/v1/completions", {"prompt": "a", "max_tokens": 30000,
                                               "ignore_eos": True, "stream": True, "n": 2})
        with Server("--no-access-log") as server:
            clients = [subprocess.Popen([sys.executable, "-c", client, str(server.port),
                                         request.hex()], stdout=subprocess.PIPE)
                       for _ in range(8)]
            for process in clients:
                self.assertGreater(int(process.stdout.readline()), 0)
            self.assertGreater(max(gauges(server)), 0)
            for process in clients:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.stdout.close()
            self.wait_until_idle(server)


if __name__ == "__main__":
    unittest.main()
