#!/usr/bin/env python3
"""Writes some checkpoints and tokenizers of tests/data as GGUF files into tests/data/gguf.

    python3 tools/goldens/gguf_goldens.py

Needs numpy and gguf, llama.cpp's own package, whose codecs write the quantized files and the values
that their blocks stand for. Follows what llama.cpp's converter does to these architectures: its
names, f32 for tensors of one dimension and routers, the rows of q and k of llama interleaved, rope
factors as tensors, 1 added to Gemma's norms, experts stacked, DeepSeek's kv_b_proj in two, gpt-oss's
gates and ups apart and its experts' matrices turned to [out, in]. The tests compare the files with
what they come from.
"""

import json
import math
import pathlib
import re
import struct

import numpy
from gguf import GGMLQuantizationType, quants

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # types of tokens
TENSOR_TYPES = {"F32": 0, "F16": 1, "BF16": 30, "Q4_0": 2, "Q8_0": 8, "MXFP4": 39}
BLOCK_ELEMENTS = 32

# checkpoint: number of files
CASES = {
    "llama_bias": 1, "llama_gqa5": 1, "qwen2_gqa3": 1, "qwen3_tied": 1, "qwen3_gqa5": 2,
    "gemma2": 1, "gemma3": 1, "phi3_longrope": 1, "glm4": 1,
    "mixtral": 1, "qwen3_moe": 1, "gpt_oss": 1, "deepseek_v2": 1, "deepseek_v3": 1,
}

# file: checkpoint, type of its matrices; with MXFP4 that of experts, but in layer 1, and Q8_0 of others,
# as in the files of gpt-oss
QUANTIZED = {
    "gpt_oss_mxfp4": ("models/gpt_oss", "MXFP4"),
    "qwen2_tied_q8_0": ("models/qwen2_tied", "Q8_0"),
    "qwen2_tied_q4_0": ("models/qwen2_tied", "Q4_0"),
    "qwen2_moe_q8_0": ("models/qwen2_moe", "Q8_0"),
}

MODEL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
GPT_OSS_NAMES = {"post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp"}
EXPERT_NAMES = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
                "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}
# model_type: general.architecture, where they differ
ARCHITECTURES = {"mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
                 "gemma3_text": "gemma3", "deepseek_v2": "deepseek2",
                 "deepseek_v3": "deepseek2", "gpt_oss": "gpt-oss"}


def read_tensors(folder):
    """(name, dtype, shape, bytes) of all tensors of a checkpoint."""
    for path in sorted(folder.glob("model*.safetensors")):
        file = path.read_bytes()
        (length,) = struct.unpack_from("<Q", file)
        for name, info in json.loads(file[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in info["data_offsets"])
                yield name, info["dtype"], info["shape"], file[begin:end]


def gguf_name(name, model_type):
    if name.endswith("mlp.gate.e_score_correction_bias"):
        return f"blk.{name.split('.')[2]}.exp_probs_b.bias"
    if name.endswith("self_attn.sinks"):
        return f"blk.{name.split('.')[2]}.attn_sinks.weight"
    stem, kind = name.rsplit(".", 1)
    if stem in MODEL_NAMES:
        return f"{MODEL_NAMES[stem]}.{kind}"
    layer, part = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem).groups()
    if ".experts." in part:
        return f"blk.{layer}.{EXPERT_NAMES[part.rsplit('.', 1)[1]]}.{kind}"
    names = LAYER_NAMES | {"gemma": GEMMA_NAMES, "gpt_o": GPT_OSS_NAMES}.get(model_type[:5], {})
    return f"blk.{layer}.{names[part]}.{kind}"


def to_f32(dtype, data):
    if dtype == "BF16":
        return b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
    if dtype == "F16":
        return b"".join(struct.pack("<f", value) for (value,) in struct.iter_unpack("<e", data))
    return data


def interleave(data, rows, head_dim):
    """Row i of a head's first half is followed by row i of its second."""
    size = len(data) // rows
    row = [data[i * size : (i + 1) * size] for i in range(rows)]
    half = head_dim // 2
    heads = range(0, rows, head_dim)
    return b"".join(row[head + i + j * half] for head in heads for i in range(half) for j in (0, 1))


def rope_factors(rope, head_dim):
    """What llama 3 divides each frequency by."""
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        turns = rope["original_max_position_embeddings"] / wavelength
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = min(max((turns - low) / (high - low), 0), 1)
        yield 1 / ((1 - kept) / rope["factor"] + kept)


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def array(values):
    if isinstance(values[0], str):
        return STRING, b"".join(map(text, values))
    if isinstance(values[0], float):
        return FLOAT32, struct.pack(f"<{len(values)}f", *values)
    return INT32, struct.pack(f"<{len(values)}i", *values)


def pair(key, value):
    if isinstance(value, str):
        return text(key) + struct.pack("<I", STRING) + text(value)
    if isinstance(value, list):
        kind, items = array(value)
        return text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + items
    if isinstance(value, bool):
        return text(key) + struct.pack("<IB", BOOL, value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", FLOAT32, value)
    return text(key) + struct.pack("<II", UINT32, value)


def pad(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def gguf_file(metadata, tensors):
    infos = data = b""
    for name, dtype, shape, values in tensors:
        infos += text(name) + struct.pack("<I", len(shape))
        infos += b"".join(struct.pack("<Q", dim) for dim in reversed(shape))
        infos += struct.pack("<IQ", TENSOR_TYPES[dtype], len(data))
        data += pad(values)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    return pad(header + b"".join(pair(*item) for item in metadata.items()) + infos) + data


def head_dim_of(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def add_one(data):
    values = numpy.frombuffer(data, numpy.float32) + numpy.float32(1)
    return values.tobytes()


def latent_attention(name, config, rope):
    """As of one head whose keys are [latent | rotated] and whose values are the latent."""
    latent, rotated = config["kv_lora_rank"], config["qk_rope_head_dim"]
    metadata = {
        f"{name}.attention.head_count_kv": 1,
        f"{name}.attention.kv_lora_rank": latent,
        f"{name}.attention.key_length": latent + rotated,
        f"{name}.attention.value_length": latent,
        f"{name}.attention.key_length_mla": config["qk_nope_head_dim"] + rotated,
        f"{name}.attention.value_length_mla": config["v_head_dim"],
        f"{name}.rope.dimension_count": rotated,
        **yarn(name, rope),
        f"{name}.rope.scaling.yarn_log_multiplier": 0.1 * rope["mscale_all_dim"],
        f"{name}.expert_count": config["n_routed_experts"],
        f"{name}.expert_used_count": config["num_experts_per_tok"],
        f"{name}.expert_feed_forward_length": config["moe_intermediate_size"],
        f"{name}.expert_shared_count": config["n_shared_experts"],
        f"{name}.expert_weights_scale": config["routed_scaling_factor"],
        f"{name}.expert_weights_norm": config["norm_topk_prob"],
        f"{name}.expert_gating_func": 2 if config["model_type"] == "deepseek_v3" else 1,
        f"{name}.expert_group_count": config["n_group"],
        f"{name}.expert_group_used_count": config["topk_group"],
    }
    if config["q_lora_rank"]:
        metadata[f"{name}.attention.q_lora_rank"] = config["q_lora_rank"]
    return metadata


def split_latent_heads(data, config):
    """The rows for keys, transposed, and those for values, of 2-byte elements."""
    heads, rank = config["num_attention_heads"], config["kv_lora_rank"]
    keys, values = config["qk_nope_head_dim"], config["v_head_dim"]
    rows = numpy.frombuffer(data, numpy.uint16).reshape(heads, keys + values, rank)
    key_rows = rows[:, :keys].transpose(0, 2, 1)
    return [("attn_k_b", [heads, rank, keys], key_rows.tobytes()),
            ("attn_v_b", [heads, values, rank], rows[:, keys:].tobytes())]


def stacked_experts(name, shape, data):
    """gpt-oss: [experts, in, out] as [experts, out, in], gates and ups, which take turns, apart."""
    layer, part, bias = re.fullmatch(
        r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up|down)_proj(_bias)?", name).groups()
    kind = "bias" if bias else "weight"
    values = numpy.frombuffer(data, numpy.uint16).reshape(shape)
    if not bias:
        values = values.transpose(0, 2, 1)
    parts = {"down": values} if part == "down" else {"gate": values[:, ::2], "up": values[:, 1::2]}
    for which, part_values in parts.items():
        yield (f"blk.{layer}.ffn_{which}_exps.{kind}", list(part_values.shape),
               part_values.tobytes())


def yarn(name, rope):
    return {
        f"{name}.rope.scaling.type": "yarn",
        f"{name}.rope.scaling.factor": rope["factor"],
        f"{name}.rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        f"{name}.rope.scaling.yarn_beta_fast": rope["beta_fast"],
        f"{name}.rope.scaling.yarn_beta_slow": rope["beta_slow"],
    }


def metadata_of(config):
    name = ARCHITECTURES.get(config["model_type"], config["model_type"])
    rope = config["rope_parameters"]
    local_rope = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    metadata = {
        "general.architecture": name,
        f"{name}.context_length": config["max_position_embeddings"],
        f"{name}.embedding_length": config["hidden_size"],
        f"{name}.block_count": config["num_hidden_layers"],
        f"{name}.feed_forward_length": config["intermediate_size"],
        f"{name}.attention.head_count": config["num_attention_heads"],
        f"{name}.attention.head_count_kv": config["num_key_value_heads"],
        f"{name}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{name}.rope.freq_base": rope["rope_theta"],
    }
    if config.get("head_dim") and "kv_lora_rank" not in config:
        metadata[f"{name}.attention.key_length"] = config["head_dim"]
        metadata[f"{name}.attention.value_length"] = config["head_dim"]
    head_dim = head_dim_of(config)
    if "partial_rotary_factor" in rope:
        metadata[f"{name}.rope.dimension_count"] = int(head_dim * rope["partial_rotary_factor"])
    if rope["rope_type"] == "linear":
        metadata[f"{name}.rope.scaling.type"] = "linear"
        metadata[f"{name}.rope.scaling.factor"] = rope["factor"]
    if rope["rope_type"] == "longrope":
        metadata[f"{name}.rope.scaling.original_context_length"] = config[
            "original_max_position_embeddings"]
    if local_rope:
        metadata[f"{name}.rope.freq_base_swa"] = local_rope["rope_theta"]
        metadata[f"{name}.attention.sliding_window_pattern"] = config["sliding_window_pattern"]
    if config["model_type"] == "gpt_oss":
        metadata[f"{name}.attention.sliding_window"] = config["sliding_window"]
        metadata[f"{name}.expert_feed_forward_length"] = config["intermediate_size"]
        metadata |= yarn(name, rope)
    if config["model_type"].startswith("gemma"):
        metadata[f"{name}.attention.sliding_window"] = config["sliding_window"]
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if config[key]:
                metadata[f"{name}.{key}"] = config[key]
    if "kv_lora_rank" in config:
        metadata |= latent_attention(name, config, rope)
    experts = config.get("num_local_experts") or config.get("num_experts")
    if experts and "kv_lora_rank" not in config:
        metadata[f"{name}.expert_count"] = experts
        metadata[f"{name}.expert_used_count"] = config["num_experts_per_tok"]
        for key, word in (("moe", "expert"), ("shared_expert", "expert_shared")):
            if f"{key}_intermediate_size" in config:
                metadata[f"{name}.{word}_feed_forward_length"] = config[f"{key}_intermediate_size"]
    eos = config["eos_token_id"]
    for key, token in zip(("eos", "eot"), eos if isinstance(eos, list) else [eos]):
        if token is not None:
            metadata[f"tokenizer.ggml.{key}_token_id"] = token
    return metadata


def tensors_of(folder, config):
    model_type = config["model_type"]
    head_dim = head_dim_of(config)
    tensors = []
    stacks = {}
    for name, dtype, shape, data in read_tensors(folder):
        if name.endswith("kv_b_proj.weight"):
            layer = name.split(".")[2]
            for part, part_shape, part_data in split_latent_heads(data, config):
                tensors.append((f"blk.{layer}.{part}.weight", dtype, part_shape, part_data))
            continue
        if ".mlp.experts." in name and model_type == "gpt_oss":
            for part, part_shape, part_data in stacked_experts(name, shape, data):
                tensors.append((part, dtype, part_shape, part_data))
            continue
        if model_type in ("llama", "mixtral") and re.search(r"[qk]_proj\.", name):
            data = interleave(data, shape[0], head_dim)
        if len(shape) == 1 or gguf_name(name, model_type).endswith("ffn_gate_inp.weight"):
            dtype, data = "F32", to_f32(dtype, data)
        if model_type.startswith("gemma") and name.endswith("norm.weight"):
            data = add_one(data)
        if ".experts." in name:
            expert = int(re.search(r"experts\.(\d+)", name)[1])
            stack = stacks.setdefault(gguf_name(name, model_type), {})
            stack[expert] = (dtype, shape, data)
            continue
        tensors.append((gguf_name(name, model_type), dtype, shape, data))
    for name, stack in stacks.items():
        dtype, shape, _ = stack[0]
        data = b"".join(stack[expert][2] for expert in range(len(stack)))
        tensors.append((name, dtype, [len(stack), *shape], data))
    rope = config["rope_parameters"]
    if rope.get("rope_type") == "longrope":
        for kind in ("short", "long"):
            factors = rope[f"{kind}_factor"]
            data = struct.pack(f"<{len(factors)}f", *factors)
            tensors.append((f"rope_factors_{kind}.weight", "F32", [len(factors)], data))
    if rope.get("rope_type") == "llama3":
        factors = list(rope_factors(rope, head_dim))
        data = b"".join(struct.pack("<f", factor) for factor in factors)
        tensors.append(("rope_freqs.weight", "F32", [len(factors)], data))
    return tensors


def quantize(tensors, kind):
    """Matrices whose rows are whole blocks, as llama.cpp's quantizer does; others stay."""
    for name, dtype, shape, data in tensors:
        is_matrix = name.endswith(".weight") and len(shape) > 1 and "ffn_gate_inp" not in name
        if is_matrix and shape[-1] % BLOCK_ELEMENTS == 0:
            values = numpy.frombuffer(to_f32(dtype, data), numpy.float32).reshape(shape)
            dtype = kind
            if kind == "MXFP4" and ("_exps" not in name or name.startswith("blk.1.")):
                dtype = "Q8_0"
            data = quants.quantize(values, GGMLQuantizationType[dtype]).tobytes()
        yield name, dtype, shape, data


def write_quantized(folder):
    for name, (source, kind) in QUANTIZED.items():
        checkpoint = DATA / source
        config = json.loads((checkpoint / "config.json").read_text())
        tensors = list(quantize(tensors_of(checkpoint, config), kind))
        (folder / f"{name}.gguf").write_bytes(gguf_file(metadata_of(config), tensors))


def fnv1a(values):
    """Of the numbers' bits in f32; a zero has no sign."""
    values = values.astype(numpy.float32) + numpy.float32(0)
    hash = 0xCBF29CE484222325
    for byte in values.tobytes():
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


# Of each type the bytes of a block, and where among them its numbers in f16 begin.
BLOCKS = {
    "Q4_0": (18, [0]), "Q8_0": (34, [0]), "Q4_1": (20, [0, 2]), "Q5_0": (22, [0]),
    "Q5_1": (24, [0, 2]), "IQ4_NL": (18, [0]), "Q2_K": (84, [80, 82]), "Q3_K": (110, [108]),
    "Q4_K": (144, [0, 2]), "Q5_K": (176, [0, 2]), "Q6_K": (210, [208]), "IQ4_XS": (136, [0]),
    "MXFP4": (17, []),
}


def write_blocks(path):
    """Lines of a type, a block of random bytes with telling scales, and the hash of its values."""
    random = numpy.random.default_rng(5)
    scales = numpy.array([1, -0.37, 0, 65504, 6e-8, -3e-5, 0.011, 2.5], numpy.float16)
    exponents = [0, 1, 2, 100, 127, 128, 200, 250]
    with open(path, "w") as file:
        for kind, (size, places) in BLOCKS.items():
            for i in range(8):
                block = random.integers(0, 256, size, numpy.uint8)
                for j, place in enumerate(places):
                    block[place : place + 2] = scales[[(i + 3 * j) % 8]].view(numpy.uint8)
                if kind == "MXFP4":
                    block[0] = exponents[i]
                values = quants.dequantize(block.reshape(1, -1), GGMLQuantizationType[kind])
                file.write(f"{kind} {block.tobytes().hex()} {fnv1a(values):016x}\n")


def byte_level_tokenizer(path, pre):
    """The metadata of a tokenizer.json."""
    tokenizer = json.loads(path.read_text())
    ids = dict(tokenizer["model"]["vocab"])
    types = {}
    for token in tokenizer["added_tokens"]:
        ids[token["content"]] = token["id"]
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    tokens = {id: token for token, id in ids.items()}
    merges = tokenizer["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [tokens[id] for id in range(len(tokens))],
        "tokenizer.ggml.token_type": [types.get(id, NORMAL) for id in range(len(tokens))],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in merges],
    }


def fields(message):
    """(number, value) of the fields of a protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        wire = tag & 7
        if wire == 0:
            yield tag >> 3, varint()
        else:
            size = {1: 8, 5: 4}[wire] if wire != 2 else varint()
            yield tag >> 3, message[at : at + size]
            at += size


def sentencepiece_tokenizer(path):
    """The metadata of a tokenizer.model."""
    model = list(fields(path.read_bytes()))
    pieces = [dict(fields(value)) for number, value in model if number == 1]
    scores = [struct.unpack("<f", piece.get(2, bytes(4)))[0] for piece in pieces]
    normalizer = dict(fields(dict(model).get(3, b"")))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece[1].decode() for piece in pieces],
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [piece.get(3, NORMAL) for piece in pieces],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": bool(normalizer.get(3, 1)),
        "tokenizer.ggml.remove_extra_whitespaces": bool(normalizer.get(4, 1)),
    }


def write_tokenizers(folder):
    """Files without tensors."""
    for name, pre in {"llama3": "llama-bpe", "qwen2": "qwen2"}.items():
        metadata = byte_level_tokenizer(DATA / "text" / "tokenizers" / f"{name}.json", pre)
        (folder / f"tokenizer_{name}.gguf").write_bytes(gguf_file(metadata, []))
    metadata = sentencepiece_tokenizer(DATA / "text" / "folders" / "sp_bpe" / "tokenizer.model")
    (folder / "tokenizer_sp_bpe.gguf").write_bytes(gguf_file(metadata, []))


def write_chat_model(folder):
    checkpoint = DATA / "e2e" / "tiny-chat"
    config = json.loads((checkpoint / "config.json").read_text())
    metadata = {
        **metadata_of(config),
        **byte_level_tokenizer(checkpoint / "tokenizer.json", "gpt-2"),
        "tokenizer.chat_template": (checkpoint / "chat_template.jinja").read_text(),
    }
    file = gguf_file(metadata, tensors_of(checkpoint, config))
    (folder / "tiny-chat.gguf").write_bytes(file)


def main():
    folder = DATA / "gguf"
    folder.mkdir(exist_ok=True)
    write_tokenizers(folder)
    write_chat_model(folder)
    write_quantized(folder)
    write_blocks(folder / "blocks.txt")
    for name, num_files in CASES.items():
        checkpoint = DATA / "models" / name
        config = json.loads((checkpoint / "config.json").read_text())
        metadata = metadata_of(config)
        tensors = tensors_of(checkpoint, config)
        if num_files == 1:
            (folder / f"{name}.gguf").write_bytes(gguf_file(metadata, tensors))
            continue
        share = -(-len(tensors) // num_files)
        for i in range(num_files):
            split = {"split.no": i, "split.count": num_files, "split.tensors.count": len(tensors)}
            path = folder / f"{name}-{i + 1:05}-of-{num_files:05}.gguf"
            part = tensors[i * share : (i + 1) * share]
            path.write_bytes(gguf_file({**(metadata if i == 0 else {}), **split}, part))


if __name__ == "__main__":
    main()
