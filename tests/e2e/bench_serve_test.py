"""gale bench serve against gale serve: closed loops, rates, traces, failures."""

import pathlib
import struct
import tempfile
import unittest
import xml.etree.ElementTree
import zlib

from gale_process import gale
from serve_process import Server

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,40,5
2023-11-16 18:15:46.7000000,30,4
2023-11-16 18:15:47.1805900,1000,400
"""
MOONCAKE = """{"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [7, 8]}
{"timestamp": 100, "input_length": 600, "output_length": 2, "hash_ids": [7, 9]}
"""


def read_png(data):
    """(width, height, rows of RGB) of a picture whose rows are differences to those above."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        checksum, = struct.unpack(">I", data[at + 8 + length:at + 12 + length])
        assert zlib.crc32(kind + body) == checksum
        chunks[kind] = body
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    flat = zlib.decompress(chunks[b"IDAT"])
    row, rows = bytes(3 * width), []
    for y in range(height):
        assert flat[y * (3 * width + 1)] == 2
        delta = flat[y * (3 * width + 1) + 1:(y + 1) * (3 * width + 1)]
        row = bytes((a + b) & 255 for a, b in zip(row, delta, strict=True))
        rows.append(row)
    return width, height, rows


class BenchServe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--no-access-log")

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def bench(self, *flags, server=None, code=0):
        url = f"http://127.0.0.1:{(server or self.server).port}"
        run = gale("bench", "serve", "--url", url, "--vocabulary", 250, *flags)
        self.assertEqual(run.code, code, run.err)
        return run

    def check_order(self, times):
        self.assertLessEqual(0, times["p50"])
        self.assertLessEqual(times["p50"], times["p90"])
        self.assertLessEqual(times["p90"], times["p99"])

    def test_closed_loop(self):
        record = self.bench("--concurrency", "1,4", "--requests", 8, "--prompt-tokens", 20,
                            "--output-tokens", 6, "--json", "--slo-e2e", 0.001).json()
        self.assertEqual(record["model"], "tiny-chat")
        self.assertEqual([run["load"] for run in record["runs"]], ["1 users", "4 users"])
        for run in record["runs"]:
            self.assertEqual((run["requests"], run["failed"]), (8, 0))
            tokens = run["output_tokens_per_s"] * run["duration_s"]
            self.assertAlmostEqual(tokens, 8 * 6, places=3)
            self.assertAlmostEqual(run["prompt_tokens_per_s"] * run["duration_s"], 8 * 20, places=3)
            for times in ("first_token_ms", "between_tokens_ms", "end_to_end_ms"):
                self.check_order(run[times])
            self.assertLessEqual(run["first_token_ms"]["p50"], run["end_to_end_ms"]["p50"])
            self.assertEqual(run["good_share"], 0)  # nobody answers within a microsecond

    def test_rates_chat_and_plot(self):
        with tempfile.TemporaryDirectory() as folder:
            svg, png = pathlib.Path(folder, "plot.svg"), pathlib.Path(folder, "plot.png")
            run = self.bench("--rate", "200,400", "--requests", 10, "--chat", "--output-tokens", 3,
                             "--plot", svg, "--plot", png)
            self.assertEqual(run.out.count("requests/s"), 2)
            self.assertEqual(run.out.count("100.0%"), 2)
            root = xml.etree.ElementTree.parse(svg).getroot()
            dots = [node for node in root if node.tag.endswith("circle")]
            self.assertEqual(len(dots), 3 * 3 * 2)  # panels, percentiles, runs
            width, height, rows = read_png(png.read_bytes())
            self.assertEqual([2 * int(size) for size in root.get("viewBox").split()[2:]],
                             [width, height])
            for dot in dots[-1:]:
                x, y = (int(2 * float(dot.get(name))) for name in ("cx", "cy"))
                self.assertEqual(rows[y][3 * x:3 * x + 3].hex(), dot.get("fill")[1:].lower())
            self.assertEqual(rows[0], b"\xff" * 3 * width)

    def test_shared_prompts_are_cached(self):
        def cached(*flags):
            with Server("--no-access-log") as server:
                run = self.bench("--concurrency", 2, "--requests", 4, "--prompt-tokens", 160,
                                 "--output-tokens", 2, *flags, "--json", server=server).json()
                self.assertEqual(run["runs"][0]["failed"], 0)
                stats = server.stats()
                return next(value for name, value in stats.items()
                            if name.startswith("gale_prefix_cache_hits_total"))
        self.assertEqual(cached("--shared-prompt-tokens", 128), 4 * 128)
        self.assertEqual(cached(), 0)

    def test_a_late_prompt_is_watched(self):
        run = self.bench("--concurrency", 4, "--prompt-tokens", 20, "--output-tokens", 150,
                         "--late-prompt-tokens", 300, "--json").json()
        late = run["late_prompt"]
        self.assertEqual(late["prompt_tokens"], 300)
        self.assertGreater(late["first_token_ms"], 0)
        self.assertGreater(late["first_token_alone_ms"], 0)
        self.check_order(late["between_tokens_meanwhile_ms"])
        self.assertEqual((run["runs"][0]["requests"], run["runs"][0]["failed"]), (4, 0))
        self.assertIn("--concurrency", gale("bench", "serve", "--rate", 1,
                                            "--late-prompt-tokens", 9).err)

    def test_traces(self):
        with tempfile.TemporaryDirectory() as folder:
            azure, mooncake = pathlib.Path(folder, "a.csv"), pathlib.Path(folder, "m.jsonl")
            azure.write_text(AZURE)
            mooncake.write_text(MOONCAKE)
            run = self.bench("--trace", azure, "--speed", 10, "--max-prompt-tokens", 50,
                             "--max-output-tokens", 6, "--json").json()["runs"][0]
            self.assertEqual((run["requests"], run["failed"]), (3, 0))
            self.assertAlmostEqual(run["prompt_tokens_per_s"] * run["duration_s"], 40 + 30 + 50, places=3)
            self.assertAlmostEqual(run["output_tokens_per_s"] * run["duration_s"], 5 + 4 + 6, places=3)
            self.assertGreaterEqual(run["duration_s"], 0.05)
            name = 'gale_prompt_tokens_cached_total{model_name="tiny-chat",engine="0"}'
            before = self.server.stats()[name]
            self.bench("--trace", mooncake)
            self.assertEqual(self.server.stats()[name] - before, 512)  # block 7, once again
            azure.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nnonsense\n")
            self.assertIn("a.csv:2", self.bench("--trace", azure, code=1).err)

    def test_failures_are_told(self):
        with Server("--api-key", "k") as server:
            run = self.bench("--concurrency", 1, "--requests", 2, "--model", "tiny-chat",
                             server=server)
            self.assertIn("the first failure: HTTP 401", run.out)
            run = self.bench("--concurrency", 1, "--requests", 2, "--api-key", "k", server=server)
            self.assertNotIn("failure", run.out)
            url = f"http://127.0.0.1:{server.port}"
        gone = gale("bench", "serve", "--url", url, "--rate", 1)
        self.assertEqual(gone.code, 1)
        self.assertIn("cannot be reached", gone.err)

    def test_one_kind_of_load(self):
        self.assertEqual(self.bench(code=2).out, "")
        self.assertEqual(self.bench("--rate", 1, "--concurrency", 1, code=2).out, "")


if __name__ == "__main__":
    unittest.main()
