#!/usr/bin/env python3
"""Checks that every include respects the layers, and a few limits on the tree.

Usage: tools/check_layers.py [ROOT]        prints each violation as file:line: message
       tools/check_layers.py --self-test   checks the checker

The table below is the architecture: a folder may include itself, base/, include/gale/ and the
folders named in its row; its unit tests also tests/support/. The control column (request, kv_cache,
scheduler) and the compute column (tensor ... models) do not see each other; they meet in runner/.
Frontends see include/gale/ only.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

COMPUTE_LOW = {"tensor", "backend"}
COMPUTE = COMPUTE_LOW | {"quant", "weights", "nn", "models"}
CONTROL = {"request", "kv_cache", "scheduler"}

# folder of src/ -> folders whose headers it may include, beside itself, base/ and include/gale/
MAY_INCLUDE = {
    "base": set(),
    # control column: host-only bookkeeping
    "request": set(),
    "kv_cache": {"request"},
    "scheduler": {"request", "kv_cache"},
    # compute column: tensors and devices
    "tensor": set(),
    "backend": {"tensor"},
    "backend/cpu": COMPUTE_LOW,
    "backend/cuda": COMPUTE_LOW,
    "quant": COMPUTE_LOW | {"weights"},
    "weights": COMPUTE_LOW,
    "nn": COMPUTE_LOW | {"quant", "weights"},
    "models": COMPUTE,
    "hub": {"weights"},
    # the seam
    "runner": CONTROL | COMPUTE,
    # above it
    "text": set(),
    "grammar": {"text"},
    "eval": COMPUTE,
    "quantize": COMPUTE | {"text"},
    "engine": CONTROL | COMPUTE | {"runner", "text", "grammar"},
    # frontends: the public API only; the command line starts the server
    "cli": None,
    "server": None,
}

CUDA_HEADER = re.compile(r"^(cuda|cublas|cudnn|nccl|nvtx|cutlass|cute|flashinfer|mma\.h|cub/|thrust/)")
JSON_HEADER = re.compile(r"^(simdjson|boost/json)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCE_SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc"}

MAX_SOURCE_LINES = 800
MAX_TEST_DATA_BYTES = 12 << 20


def folder_of(path):
    """The row of MAY_INCLUDE for a path relative to src/: "backend/cpu" or the first component."""
    parts = pathlib.PurePosixPath(path).parts
    if len(parts) > 2 and parts[0] == "backend":
        return "/".join(parts[:2])
    return parts[0] if len(parts) > 1 else ""


def check_include(folder, is_test, kind, header):
    """What is wrong with `#include header` in a file of src/<folder>, or None."""
    if CUDA_HEADER.match(header) and folder != "backend/cuda":
        return f"<{header}>: CUDA headers belong in src/backend/cuda/ only"
    if kind == "<" or header.startswith("gale/"):
        return None
    target = folder_of(header)
    if not target:
        return f'"{header}": write the path from src/ ("folder/file.h")'
    if target == folder:
        return None
    allowed = MAY_INCLUDE[folder]
    if allowed is None:
        if (folder, target) == ("cli", "server"):
            return None
        return f'"{header}": {folder}/ is a frontend and sees only include/gale/'
    if target.startswith("backend/"):
        if is_test and target in allowed:
            return None
        return f'"{header}": a device is reached only through backend/registry.h'
    if target == "base" or target in allowed or (is_test and target == "support"):
        return None
    return f'"{header}": {folder}/ may include only {sorted(allowed | {"base", folder})}'


def includes_of(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def source_files(root, *folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCE_SUFFIXES and path.is_file():
                yield path


def check_src(root):
    for path in source_files(root, "src"):
        relative = path.relative_to(root / "src").as_posix()
        folder = folder_of(relative)
        if folder not in MAY_INCLUDE:
            yield path, 1, f"src/{folder}/ has no row in the table of tools/check_layers.py"
            continue
        for number, kind, header in includes_of(path):
            error = check_include(folder, path.stem.endswith("_test"), kind, header)
            if error:
                yield path, number, error


def check_public_headers(root):
    for path in source_files(root, "include"):
        for number, kind, header in includes_of(path):
            if kind == '"' and not header.startswith("gale/"):
                yield path, number, f'"{header}": a public header may include only gale/ and libraries'
            elif CUDA_HEADER.match(header) or JSON_HEADER.match(header):
                yield path, number, f"<{header}>: no CUDA and no JSON types in public headers"


def check_sizes(root):
    for path in source_files(root, "src", "include", "tests", "bench"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_SOURCE_LINES:
            yield path, lines, f"{lines} lines, the limit is {MAX_SOURCE_LINES}: split the file"
    data = root / "tests" / "data"
    data_bytes = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    if data_bytes > MAX_TEST_DATA_BYTES:
        yield data, 1, f"{data_bytes} bytes of test data, the limit is {MAX_TEST_DATA_BYTES}"


def violations(root):
    for check in (check_src, check_public_headers, check_sizes):
        for path, line, message in check(root):
            yield f"{path.relative_to(root)}:{line}: {message}"


def self_test():
    """Plants one violation of each kind in a scratch tree; each must be found, and nothing else."""
    files = {
        "include/gale/good.h": "#include <string>\n#include \"gale/status.h\"\n",
        "include/gale/bad.h": "#include <boost/json.hpp>\n",
        "src/scheduler/good.cc": '#include "kv_cache/block_pool.h"\n#include "base/check.h"\n',
        "src/scheduler/bad.cc": '#include <vector>\n#include "tensor/tensor_view.h"\n',
        "src/nn/bad.cc": '#include "models/model.h"\n',
        "src/nn/cuda.cc": "#include <cuda_runtime.h>\n",
        "src/backend/cuda/good.cu": '#include <cuda_runtime.h>\n#include "backend/backend.h"\n',
        "src/runner/bad.cc": '#include "backend/cpu/gemm.h"\n',
        "src/runner/good_test.cc": '#include "support/chi_square.h"\n',
        "src/engine/bad.cc": '#include "support/chi_square.h"\n',
        "src/models/bad.cc": '#include "nn/linear.h"\n#include "kv_cache/kv_cache_spec.h"\n',
        "src/cli/good.cc": '#include "gale/llm_engine.h"\n#include "server/api_server.h"\n',
        "src/server/bad.cc": '#include "cli/figures.h"\n',
        "src/cli/bad.cc": '#include "base/json.h"\n',
        "src/attic/bad.cc": "",
        "src/base/long.cc": "\n" * (MAX_SOURCE_LINES + 1),
        "tests/data/.keep": "",
    }
    expected = {
        "include/gale/bad.h:1", "src/scheduler/bad.cc:2", "src/nn/bad.cc:1", "src/nn/cuda.cc:1",
        "src/models/bad.cc:2", "src/runner/bad.cc:1", "src/cli/bad.cc:1", "src/server/bad.cc:1", "src/attic/bad.cc:1",
        "src/engine/bad.cc:1",
        f"src/base/long.cc:{MAX_SOURCE_LINES + 1}",
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in files.items():
            path = pathlib.Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        run = subprocess.run([sys.executable, __file__, scratch], capture_output=True, text=True)
    found = {":".join(line.split(":")[:2]) for line in run.stdout.splitlines()}
    if found != expected or run.returncode != 1:
        sys.exit(f"self-test failed:\n missed {sorted(expected - found)}\n"
                 f" false {sorted(found - expected)}\n exit code {run.returncode}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]
    found = list(violations(root.resolve()))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
