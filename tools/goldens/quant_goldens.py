#!/usr/bin/env python3
"""Makes tests/data/quant: linear layers as published quantized checkpoints store them, and the hash of
what the packages that define the formats dequantize them to, in f32.

    /tmp/goldens/bin/python tools/goldens/quant_goldens.py [--packages FOLDER]

Needs torch, safetensors, transformers 5.23, compressed-tensors 0.20 and bitsandbytes 0.50, and of autoawq 0.2.9 the file
awq/utils/packing_utils.py (its package does not import without a GPU), which is looked for in FOLDER.
GPTQ's packages need one too: its layers are dequantized here, by the definition in GPTQModel 7.7
(nn_modules/qlinear/__init__.py, dequantize_weight, and utils/model.py for version 1's zeros).
"""

import argparse
import importlib.util
import json
import pathlib

import numpy
import torch
from bitsandbytes import functional as bnb
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from gguf_goldens import fnv1a

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "quant"

generator = torch.Generator().manual_seed(11)


def words(*shape):
    """Random 32-bit words."""
    return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)


def scales(*shape, dtype=torch.float16):
    return (torch.rand(shape, generator=generator) * 0.02 + 0.001).to(dtype)


def fp8(*shape):
    """Random numbers of e4m3, none of them NaN."""
    bits = torch.randint(0, 127, shape, generator=generator)
    signs = torch.randint(0, 2, shape, generator=generator) * 128
    return (bits + signs).to(torch.uint8).view(torch.float8_e4m3fn)


def signed_bytes(*shape):
    return torch.randint(-128, 128, shape, generator=generator).to(torch.int8)


def awq_module(folder):
    path = next(pathlib.Path(folder).rglob("awq/utils/packing_utils.py"))
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def awq(packing, in_features, out_features, group):
    rows = in_features if group == -1 else group
    groups = in_features // rows
    tensors = {"qweight": words(in_features, out_features // 8),
               "qzeros": words(groups, out_features // 8),
               "scales": scales(groups, out_features)}
    weight = packing.dequantize_gemm(tensors["qweight"], tensors["qzeros"],
                                     tensors["scales"].float(), 4, rows)
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm",
              "zero_point": True, "modules_to_not_convert": None}
    return config, tensors, weight.T


def unpack_rows(packed, bits):
    """Codes along the first dimension, from the low bits up."""
    packed = packed.numpy().view(numpy.uint32)
    codes = [packed >> (bits * i) & (2**bits - 1) for i in range(32 // bits)]
    return numpy.stack(codes, 1).reshape(-1, packed.shape[1]).astype(numpy.float32)


def gptq(in_features, out_features, group, bits=4, sym=True, desc_act=False, version="gptq",
         has_g_idx=True):
    rows = in_features if group == -1 else group
    groups = -(-in_features // rows)
    in_word = 32 // bits
    ones = 0x11111111 if bits == 4 else 0x01010101
    middle = numpy.uint32(ones * 2 ** (bits - 1) - (ones if version == "gptq" else 0))
    if sym:
        zeros = torch.full((groups, out_features // in_word), int(middle.astype(numpy.int32)),
                           dtype=torch.int32)
    else:
        zeros = words(groups, out_features // in_word)
    g_idx = torch.arange(in_features) // rows
    if desc_act:
        g_idx = g_idx[torch.randperm(in_features, generator=generator)]
    tensors = {"qweight": words(in_features // in_word, out_features), "qzeros": zeros,
               "scales": scales(groups, out_features), "g_idx": g_idx.to(torch.int32)}
    codes = unpack_rows(tensors["qweight"], bits)
    stored = zeros.numpy().view(numpy.uint32) + numpy.uint32(ones if version == "gptq" else 0)
    zero = unpack_rows(torch.from_numpy(stored.view(numpy.int32)).T.contiguous(), bits).T
    weight = tensors["scales"].float().numpy()[g_idx] * (codes - zero[g_idx])
    if not has_g_idx:
        del tensors["g_idx"]
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": sym,
              "desc_act": desc_act, "checkpoint_format": version, "lm_head": False}
    return config, tensors, torch.from_numpy(weight.T.copy())


def fp8_tensor(in_features, out_features, activation):
    tensors = {"weight": fp8(out_features, in_features),
               "weight_scale": scales(1, dtype=torch.float32).reshape(())}
    if activation == "static":
        tensors["input_scale"] = torch.tensor(0.25)
    weight = tensors["weight"].float() * tensors["weight_scale"]
    return {"quant_method": "fp8", "activation_scheme": activation}, tensors, weight


def fp8_block(in_features, out_features, block):
    shape = (-(-out_features // block[0]), -(-in_features // block[1]))
    tensors = {"weight": fp8(out_features, in_features),
               "weight_scale_inv": scales(*shape, dtype=torch.bfloat16)}
    spread = tensors["weight_scale_inv"].float()
    spread = spread.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    weight = tensors["weight"].float() * spread[:out_features, :in_features]
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
              "weight_block_size": block}
    return config, tensors, weight


def compressed(tensors, weights, activations=None, form="pack-quantized"):
    """A layer in the container, dequantized by the container's package."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
    compressor = (PackedQuantizationCompressor if form == "pack-quantized"
                  else NaiveQuantizationCompressor)
    state = {name: tensor.float() if name == "weight_scale" else tensor
             for name, tensor in tensors.items()}
    weight = compressor.decompress(state, scheme)["weight"]
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    config = {"quant_method": "compressed-tensors", "format": form, "ignore": ["lm_head"],
              "quantization_status": "compressed", "config_groups": {"group_0": group}}
    return config, tensors, weight


def ct_packed(in_features, out_features, bits, group, symmetric=True, actorder=None):
    groups = 1 if group is None else in_features // group
    codes = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (out_features, in_features),
                          generator=generator).to(torch.int8)
    tensors = {"weight_packed": pack_to_int32(codes, bits),
               "weight_scale": scales(out_features, groups, dtype=torch.bfloat16),
               "weight_shape": torch.tensor([out_features, in_features])}
    if not symmetric:
        zeros = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (out_features, groups),
                              generator=generator).to(torch.int8)
        tensors["weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0)
    if actorder == "group":
        order = torch.randperm(in_features, generator=generator)
        tensors["weight_g_idx"] = (torch.arange(in_features) // group)[order].to(torch.int32)
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric,
               "strategy": "channel" if group is None else "group", "group_size": group}
    config, tensors, weight = compressed(tensors, weights)
    weights["actorder"] = actorder
    if actorder == "group":  # which the package knows no more
        spread = tensors["weight_scale"].float()[:, tensors["weight_g_idx"].long()]
        weight = codes.float() * spread
    return config, tensors, weight


def ct_int8(in_features, out_features, strategy, activations, symmetric=True):
    shape = (1,) if strategy == "tensor" else (out_features, 1)
    tensors = {"weight": signed_bytes(out_features, in_features),
               "weight_scale": scales(*shape, dtype=torch.float32)}
    if not symmetric:
        tensors["weight_zero_point"] = signed_bytes(*shape)
    if not activations["dynamic"]:
        tensors["input_scale"] = torch.tensor([0.125])
    weights = {"num_bits": 8, "type": "int", "symmetric": symmetric, "strategy": strategy}
    return compressed(tensors, weights, activations, "int-quantized")


def ct_fp8(in_features, out_features, strategy, activations, block=None):
    shapes = {"tensor": (1,), "channel": (out_features, 1)}
    shape = shapes.get(strategy) or (-(-out_features // block[0]), -(-in_features // block[1]))
    tensors = {"weight": fp8(out_features, in_features),
               "weight_scale": scales(*shape, dtype=torch.bfloat16)}
    if not activations["dynamic"]:
        tensors["input_scale"] = torch.tensor([0.5])
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy,
               "block_structure": block}
    return compressed(tensors, weights, activations, "float-quantized")


def nf4(in_features, out_features, nested):
    weight = torch.randn(out_features, in_features, generator=generator) * 0.05
    packed, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=nested,
                                      quant_type="nf4")
    tensors = {"weight": packed}
    tensors.update({f"weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()})
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
              "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": nested,
              "bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": ["lm_head"]}
    return config, tensors, bnb.dequantize_4bit(packed, state)


def llm_int8(in_features, out_features):
    """The package multiplies codes by SCB and that by 1 / 127; here SCB / 127 is one scale."""
    tensors = {"weight": signed_bytes(out_features, in_features),
               "SCB": scales(out_features, dtype=torch.float32) * 100,
               "weight_format": torch.tensor(0, dtype=torch.uint8)}
    weight = tensors["weight"].float() * (tensors["SCB"] / 127)[:, None]
    theirs = bnb.int8_vectorwise_dequant(tensors["weight"], tensors["SCB"])
    assert (weight - theirs).abs().max() <= 2**-22 * theirs.abs().max()
    config = {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}
    return config, tensors, weight


def mxfp4(experts, in_features, out_features):
    shape = (experts, out_features, in_features // 32)
    tensors = {"blocks": torch.randint(0, 256, (*shape, 16), generator=generator).to(torch.uint8),
               "scales": torch.randint(100, 140, shape, generator=generator).to(torch.uint8)}
    weight = convert_moe_packed_tensors(tensors["blocks"], tensors["scales"], dtype=torch.float32)
    return {"quant_method": "mxfp4"}, tensors, weight.transpose(1, 2).reshape(-1, in_features)


def cases(packing):
    token = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    static = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor",
              "dynamic": False}
    return {
        "awq_g32": awq(packing, 64, 16, 32),
        "awq_whole": awq(packing, 32, 24, -1),
        "gptq_sym_g32": gptq(64, 16, 32),
        "gptq_asym_g32": gptq(64, 16, 32, sym=False, has_g_idx=False),
        "gptq_v2_asym": gptq(64, 16, 32, sym=False, version="gptq_v2"),
        "gptq_ragged": gptq(72, 8, 32, sym=False),
        "gptq_order": gptq(96, 16, 32, desc_act=True),
        "gptq_order_asym": gptq(64, 16, 32, sym=False, desc_act=True),
        "gptq_whole": gptq(64, 16, -1, desc_act=True),
        "gptq_8_g64": gptq(128, 8, 64, bits=8),
        "gptq_8_asym_order": gptq(64, 8, 32, bits=8, sym=False, desc_act=True),
        "fp8_static": fp8_tensor(40, 12, "static"),
        "fp8_dynamic": fp8_tensor(40, 12, "dynamic"),
        "fp8_block": fp8_block(40, 20, [8, 16]),
        "ct_w4_g32": ct_packed(64, 12, 4, 32),
        "ct_w4_asym": ct_packed(64, 12, 4, 32, symmetric=False),
        "ct_w4_order": ct_packed(64, 12, 4, 32, actorder="group"),
        "ct_w4_channel": ct_packed(64, 12, 4, None, actorder="weight"),
        "ct_w8_g32": ct_packed(64, 8, 8, 32),
        "ct_w8_asym": ct_packed(64, 10, 8, None, symmetric=False),
        "ct_int8": ct_int8(40, 12, "channel", token),
        "ct_int8_static": ct_int8(40, 12, "tensor", {**token, "dynamic": False,
                                                     "strategy": "tensor"}),
        "ct_int8_asym": ct_int8(40, 12, "channel", token, symmetric=False),
        "ct_fp8_static": ct_fp8(40, 12, "tensor", static),
        "ct_fp8_channel": ct_fp8(40, 12, "channel", {**token, "type": "float"}),
        "ct_fp8_block": ct_fp8(32, 16, "block", {**token, "type": "float", "strategy": "group",
                                                 "group_size": 16}, block=[8, 16]),
        "bnb_nf4": nf4(64, 16, False),
        "bnb_nf4_nested": nf4(128, 10, True),
        "bnb_int8": llm_int8(40, 12),
        "mxfp4": mxfp4(2, 64, 6),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packages", default=".")
    arguments = parser.parse_args()
    tensors = {}
    index = {}
    for name, (config, parts, weight) in cases(awq_module(arguments.packages)).items():
        assert weight.dtype == torch.float32, name
        joint = "_" if name == "mxfp4" else "."
        tensors.update({f"{name}{joint}{part}": t.contiguous() for part, t in parts.items()})
        index[name] = {"out": weight.shape[0], "in": weight.shape[1],
                       "hash": f"{fnv1a(weight.contiguous().numpy()):016x}",
                       "config": {"quantization_config": config}}
        if name == "mxfp4":
            index[name]["groups"] = parts["blocks"].shape[0]
    DATA.mkdir(exist_ok=True)
    save_file(tensors, DATA / "model.safetensors")
    lines = [f" {json.dumps(name)}: {json.dumps(case)}" for name, case in index.items()]
    (DATA / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
