#!/usr/bin/env python3
"""Measures every quantization scheme on one model and prints docs/quantization.md's table.

Usage: tools/quantization_table.py --gale build/src/cli/gale --model models/gale-tales-10m
           --calibration TRAIN_TEXT --text HELD_OUT_TEXT [--seeds 0 1 2] [--json FILE]

Each scheme is made once, those that calibrate once for each seed (other samples of the text), and
held against the model with `gale eval compare`. Figures are means over the seeds with their spread.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile

CALIBRATED = {"awq", "gptq", "gptq-int8", "int8-smooth"}
# Name in the table, and the flags of gale quantize.
QUANTIZED = [
    ("fp8", ["--scheme", "fp8"]),
    ("fp8-tensor", ["--scheme", "fp8-tensor"]),
    ("fp8-block", ["--scheme", "fp8-block"]),
    ("int8", ["--scheme", "int8"]),
    ("int8-smooth", ["--scheme", "int8-smooth"]),
    ("gptq-int8 g128", ["--scheme", "gptq-int8", "--group-size", "128"]),
] + [(f"{label} g{group}", [*flags, "--group-size", str(group)])
     for group in (128, 32)
     for label, flags in [("int4", ["--scheme", "int4"]),
                          ("int4 asymmetric", ["--scheme", "int4", "--asymmetric"]),
                          ("gptq", ["--scheme", "gptq"]),
                          ("gptq asymmetric", ["--scheme", "gptq", "--asymmetric"]),
                          ("awq", ["--scheme", "awq"])]
] + [(name, ["--scheme", name]) for name in ("q8_0", "q6_k", "q4_k", "q4_0")
] + [("gptq act-order g128", ["--scheme", "gptq", "--act-order"])]
# The model's own checkpoint under flags of gale eval compare.
SETTINGS = [("KV cache fp8", ["--kv-cache-dtype", "fp8"]),
            ("KV cache int8", ["--kv-cache-dtype", "int8"]),
            ("KV cache int4", ["--kv-cache-dtype", "int4"])]


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True,
                          text=True).stdout


def compare(arguments, other, flags=()):
    return json.loads(run(arguments.gale, "eval", "compare", arguments.model, other, "--text",
                          arguments.text, "--window", 512, "--device", "cpu", "--json", *flags))


def measure(arguments, flags, seeds):
    """The figures of each seed."""
    results = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            is_gguf = flags[1].startswith("q")
            out = pathlib.Path(folder, "out.gguf" if is_gguf else "out")
            calibration = ["--calibration", arguments.calibration, "--seed", seed,
                           "--samples", arguments.samples]
            line = run(arguments.gale, "quantize", arguments.model, out, *flags,
                       *(calibration if flags[1] in CALIBRATED else []))
            figures = compare(arguments, out)
            figures["bits"] = float(re.search(r"of ([\d.]+) bits", line).group(1))
            files = [out] if is_gguf else out.glob("*.safetensors")
            figures["bytes"] = sum(path.stat().st_size for path in files)
            results.append(figures)
    return results


def spread(values, form):
    text = form.format(statistics.mean(values))
    return text if len(values) == 1 else f"{text} ± {form.format(statistics.stdev(values))}"


def row(name, results, bits, size):
    change = [100 * (r["perplexity_ratio"] - 1) for r in results]
    return "| " + " | ".join([
        name, bits, size,
        spread([r["quant"]["perplexity"] for r in results], "{:.3f}"),
        spread(change, "{:.2f}") + " %",
        spread([1000 * r["kl"]["mean"] for r in results], "{:.2f}"),
        spread([1000 * r["kl"]["p99"] for r in results], "{:.1f}"),
        spread([100 * r["top1_agreement"] for r in results], "{:.2f}") + " %"]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gale", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--calibration", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=32, help="of 512 tokens each")
    parser.add_argument("--only", nargs="+", help="rows of the table")
    parser.add_argument("--json", type=pathlib.Path, help="write every figure there")
    arguments = parser.parse_args()
    plain = sum(path.stat().st_size for path in arguments.model.glob("*.safetensors"))
    print("| scheme | bits a weight | MB | perplexity | change | KL mean, 1/1000 nat | KL p99 | "
          "top-1 |\n| --- " + "| --- " * 7 + "|")
    all_figures = {}
    for name, flags in QUANTIZED:
        if arguments.only and name not in arguments.only:
            continue
        seeds = arguments.seeds if flags[1] in CALIBRATED else arguments.seeds[:1]
        results = all_figures[name] = measure(arguments, flags, seeds)
        if len(all_figures) == 1:
            base = results[0]["base"]["perplexity"]
            print(f"| as it is | 16 | {plain / 1e6:.2f} | {base:.3f} | | | | |")
        print(row(name, results, f"{results[0]['bits']:.2f}", f"{results[0]['bytes'] / 1e6:.2f}"),
              flush=True)
    for name, flags in SETTINGS:
        if arguments.only and name not in arguments.only:
            continue
        results = all_figures[name] = [compare(arguments, arguments.model, flags)]
        print(row(name, results, "16", f"{plain / 1e6:.2f}"), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(all_figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
