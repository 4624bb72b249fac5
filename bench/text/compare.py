"""Times Gale's tokenizer beside PyPI `tokenizers` and `tiktoken`, interleaved, on cold caches.

Each sample is a fresh process that loads the tokenizer, encodes one file as one input on one thread
and reports the time of encoding alone. The samples of the programs take turns, so that a busy
machine slows all of them alike; processor time is given beside wall time for the same reason.

    compare.py --bench-text build/bench/text/bench_text --tokenizer FOLDER --file en=english.txt \
        --file zh=chinese.txt [--runs 5] [--max-mb 24] [--tiktoken] [--json OUT]

FOLDER holds tokenizer.json. --tiktoken also times a tiktoken encoding built from the vocabulary of
FOLDER (byte-level BPE only) with its pattern. The ids of all programs are compared too.
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

PY_TOKENIZERS = """
import hashlib, json, sys, time
import numpy, tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
text = open(sys.argv[2], encoding="utf-8", newline="").read()
wall, cpu = time.perf_counter(), time.process_time()
ids = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
digest = hashlib.sha256(numpy.array(ids, dtype="<i4").tobytes()).hexdigest()
print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "tokens": len(ids), "sha256": digest}))
"""

PY_TIKTOKEN = """
import hashlib, json, sys, time
import numpy, tiktoken
file = json.load(open(sys.argv[1] + "/tokenizer.json", encoding="utf-8"))
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = [b for b in range(256) if b not in printable]
byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
ranks = {bytes(byte_of[c] for c in token): i for token, i in file["model"]["vocab"].items()
         if all(c in byte_of for c in token)}
parts = file["pre_tokenizer"].get("pretokenizers", [])
pattern = next((p["pattern"]["Regex"] for p in parts if p["type"] == "Split"),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")
encoding = tiktoken.Encoding("compared", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
text = open(sys.argv[2], encoding="utf-8", newline="").read()
wall, cpu = time.perf_counter(), time.process_time()
ids = encoding.encode_ordinary(text)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
digest = hashlib.sha256(numpy.array(ids, dtype="<i4").tobytes()).hexdigest()
print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "tokens": len(ids), "sha256": digest}))
"""


def run(command: list[str]) -> dict:
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


def cut(path: str, max_bytes: int, folder: str) -> str:
    """A copy of the file's beginning that ends at a character."""
    text = pathlib.Path(path).read_bytes()[:max_bytes].decode("utf-8", errors="ignore")
    copy = pathlib.Path(folder) / (hashlib.sha256(path.encode()).hexdigest()[:16] + ".txt")
    copy.write_bytes(text.encode())
    return str(copy)


def measure(programs: dict[str, list[str]], path: str, runs: int) -> dict:
    samples: dict[str, list[dict]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, command in programs.items():
            samples[name].append(run([*command, path]))
    size = os.path.getsize(path) / 1e6
    result = {}
    for name, taken in samples.items():
        wall = sorted(size / s["seconds"] for s in taken)
        cpu = sorted(size / s["cpu_seconds"] for s in taken)
        result[name] = {
            "mb_per_s": statistics.median(wall), "low": wall[0], "high": wall[-1],
            "mb_per_cpu_s": statistics.median(cpu), "cpu_low": cpu[0], "cpu_high": cpu[-1],
            "tokens": taken[0]["tokens"],
        }
        if "sha256" in taken[0]:
            result[name]["sha256"] = taken[0]["sha256"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench-text", required=True)
    parser.add_argument("--tokenizer", action="append", required=True)
    parser.add_argument("--file", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--max-mb", type=float, default=24)
    parser.add_argument("--tiktoken", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_args()

    report = {"command": sys.argv, "machine": platform.processor() or platform.machine(),
              "cpus": os.cpu_count(), "load": os.getloadavg(), "results": []}
    print("MB/s of processor time: median [low-high]; in brackets wall time")
    with tempfile.TemporaryDirectory() as folder:
        for tokenizer in arguments.tokenizer:
            programs = {
                "gale": [arguments.bench_text, "encode", tokenizer],
                "tokenizers": [sys.executable, "-c", PY_TOKENIZERS, tokenizer],
            }
            if arguments.tiktoken:
                programs["tiktoken"] = [sys.executable, "-c", PY_TIKTOKEN, tokenizer]
            for entry in arguments.file:
                name, path = entry.split("=", 1)
                copy = cut(path, int(arguments.max_mb * 1e6), folder)
                result = measure(programs, copy, arguments.runs)
                ids = subprocess.run([arguments.bench_text, "ids", tokenizer, copy],
                                     capture_output=True, check=True).stdout
                equal = hashlib.sha256(ids).hexdigest() == result["tokenizers"]["sha256"]
                row = {"tokenizer": pathlib.Path(tokenizer).name, "text": name,
                       "mb": os.path.getsize(copy) / 1e6, "ids_equal": equal, "programs": result}
                report["results"].append(row)
                ours = result["gale"]["mb_per_cpu_s"]
                cells = [f"{row['tokenizer']:8} {name:6} {row['mb']:5.1f} MB"]
                for program, r in result.items():
                    cells.append(f"{program} {r['mb_per_cpu_s']:.2f} [{r['cpu_low']:.2f}-"
                                 f"{r['cpu_high']:.2f}] ({r['mb_per_s']:.2f})")
                    if program != "gale":
                        cells.append(f"{ours / r['mb_per_cpu_s']:.1f}x")
                cells.append("ids equal" if equal else "IDS DIFFER")
                print("  ".join(cells), flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
