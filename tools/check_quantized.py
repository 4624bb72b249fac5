#!/usr/bin/env python3
"""Reads a checkpoint that `gale quantize` made with the packages that define its format.

Usage: tools/check_quantized.py --gale build/src/cli/gale OUT... [--autoawq FOLDER]

Opt-in: needs torch, transformers, safetensors and compressed-tensors, and of autoawq the file
awq/utils/packing_utils.py, looked for in FOLDER (its package does not import without a GPU; nor do
GPTQ's, whose definition is followed here). Every weight is dequantized by its package, transformers
runs the model in f32, and its log-probabilities are held against `gale eval logprobs` in f32. Kernels that round
activations to 8 bits may be further off: --tolerance.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy
import torch
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = [1, 5, 9, 17, 33, 65, 129, 257, 200, 100, 50, 25]


def read_layers(folder):
    """{layer: {suffix: tensor}} of all files."""
    layers = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                layer, suffix = name.rsplit(".", 1)
                layers.setdefault(layer, {})[suffix] = file.get_tensor(name)
    return layers


def awq(tensors, config, packing):
    weight = packing.dequantize_gemm(tensors["qweight"], tensors["qzeros"],
                                     tensors["scales"].float(), config["bits"],
                                     config["group_size"])
    return weight.T


def unpack(words, bits):
    """Codes along the first dimension, from the low bits up."""
    words = words.numpy().view(numpy.uint32)
    codes = [words >> (bits * i) & (2**bits - 1) for i in range(32 // bits)]
    return numpy.stack(codes, 1).reshape(-1, words.shape[1])


def gptq(tensors, config):
    bits = config["bits"]
    groups = tensors["g_idx"].long()
    codes = unpack(tensors["qweight"], bits).astype(numpy.float32)
    zeros = (unpack(tensors["qzeros"].T.contiguous(), bits).T + 1) & (2**bits - 1)
    scales = tensors["scales"].float().numpy()
    return torch.from_numpy((scales[groups] * (codes - zeros.astype(numpy.float32)[groups])).T.copy())


def compressed(tensors, config):
    scheme = QuantizationScheme(**config["config_groups"]["group_0"])
    packed = config["format"] == "pack-quantized"
    compressor = PackedQuantizationCompressor if packed else NaiveQuantizationCompressor
    state = {name: tensor.float() if name == "weight_scale" else tensor
             for name, tensor in tensors.items()}
    return compressor.decompress(state, scheme)["weight"]


def fp8(tensors, config):
    weight = tensors["weight"].float()
    if "weight_scale" in tensors:
        return weight * tensors["weight_scale"]
    rows, columns = config["weight_block_size"]
    scales = tensors["weight_scale_inv"].repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return weight * scales[:weight.shape[0], :weight.shape[1]]


def dequantized(layers, config, packing):
    """A plain state dict, and how many layers were quantized."""
    readers = {"awq": lambda tensors: awq(tensors, config, packing),
               "gptq": lambda tensors: gptq(tensors, config),
               "compressed-tensors": lambda tensors: compressed(tensors, config),
               "fp8": lambda tensors: fp8(tensors, config)}
    read = readers[config["quant_method"]]
    state = {}
    count = 0
    for layer, tensors in layers.items():
        bias = tensors.pop("bias", None)
        if bias is not None:
            state[f"{layer}.bias"] = bias
        if set(tensors) == {"weight"}:
            state[f"{layer}.weight"] = tensors["weight"]
        else:
            state[f"{layer}.weight"] = read(tensors)
            count += 1
    return state, count


def load_packing(folder):
    if folder is None:
        return None
    path = next(folder.rglob("awq/utils/packing_utils.py"))
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(arguments, folder, packing):
    config = AutoConfig.from_pretrained(folder)
    quantization = json.loads((folder / "config.json").read_text())["quantization_config"]
    state, count = dequantized(read_layers(folder), quantization, packing)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        return f"missing {missing}, unexpected {unexpected}"
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS])).logits[0]
    theirs = torch.log_softmax(logits, -1)[range(len(TOKENS) - 1), TOKENS[1:]]
    run = subprocess.run([arguments.gale, "eval", "logprobs", "--json", "--dtype", "f32",
                          "--device", "cpu", "--tokens", ",".join(map(str, TOKENS)), "--model", folder],
                         capture_output=True, text=True, check=True)
    ours = torch.tensor([p["logprob"] for p in json.loads(run.stdout)["positions"][1:]])
    error = (ours - theirs).abs().max().item()
    print(f"{folder}: {quantization['quant_method']}, {count} layers, log-probabilities at most "
          f"{error:.2g} apart")
    if "gale: warning" in run.stderr:
        return run.stderr
    return None if error <= arguments.tolerance else f"expected at most {arguments.tolerance}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gale", type=pathlib.Path, required=True)
    parser.add_argument("--autoawq", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("out", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    packing = load_packing(arguments.autoawq)
    faults = [f"{folder}: {fault}" for folder in arguments.out
              if (fault := check(arguments, folder, packing))]
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
