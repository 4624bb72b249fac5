#!/usr/bin/env python3
"""Makes tests/data/e2e/tiny-chat: a tiny random Qwen3 checkpoint with its own tokenizer and chat
template, and what transformers says about it, in golden.json.

    python3 -m venv /tmp/goldens
    /tmp/goldens/bin/pip install torch transformers tokenizers jinja2 \
        --extra-index-url https://download.pytorch.org/whl/cpu
    /tmp/goldens/bin/python tools/goldens/e2e_goldens.py

Only needed to change the goldens: the tests read the committed files. Weights of deviation 0.3 and
perturbed norms give clear, varied logits. The context is long, so that a reply can be interrupted.
"""

import json
import math
import pathlib
import shutil

import tokenizers
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/data/e2e/tiny-chat"
TEXT = ROOT / "tests/data/e2e/text.txt"

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
PROMPTS = ["Once upon a time", "The fox ran", "h\u00e9llo \u4f60\u597d \U0001f98a!", "1 + 2 ="]
GREEDY_TOKENS = 24
# A greedy id must not hang on rounding.
MIN_MARGIN = 2e-3
WINDOWS = [(64, 64), (64, 16), (512, 512)]
TOP = 5


def make_tokenizer():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=384, special_tokens=SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train([str(TEXT)], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"], chat_template=CHAT_TEMPLATE)


def make_model(tokenizer, seed):
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=32768,
        tie_word_embeddings=True, initializer_range=0.3,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"))
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.25 * torch.randn_like(parameter))
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=config.eos_token_id, do_sample=True, temperature=0.7, top_k=20, top_p=0.9)
    return model.to(torch.bfloat16)


@torch.no_grad()
def greedy(model, ids):
    """(greedy ids, smallest lead of one over the next best)."""
    ids, begin, margin = list(ids), len(ids), math.inf
    while len(ids) < begin + GREEDY_TOKENS:
        best = torch.topk(model(torch.tensor([ids])).logits[0, -1], 2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[begin:], margin


@torch.no_grad()
def perplexity(model, ids, window, stride):
    """Mean negative log likelihood as in the documentation of transformers."""
    nll, count, scored_end = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        piece = torch.tensor([ids[begin:end]])
        logprobs = torch.log_softmax(model(piece).logits[0].double(), -1)
        for i in range(max(scored_end, begin + 1), end):
            nll -= logprobs[i - begin - 1, ids[i]].item()
            count += 1
        scored_end = end
        if end == len(ids):
            break
    return {"window": window, "stride": stride, "scored_tokens": count, "nll_per_token": nll / count}


@torch.no_grad()
def logprobs(model, ids):
    rows = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    top = torch.topk(rows, TOP)
    positions = [None] + [rows[i - 1, ids[i]].item() for i in range(1, len(ids))]
    return {"tokens": ids, "logprobs": positions,
            "top_ids": top.indices.tolist(), "top_logprobs": top.values.tolist()}


@torch.no_grad()
def embedding(model, ids):
    """Unit vectors of the states behind the final norm: the last token's, and the mean's."""
    states = model.model(torch.tensor([ids])).last_hidden_state[0].double()
    vectors = {"last": states[-1], "mean": states.mean(0)}
    return {name: [round(value, 6) for value in (vector / vector.norm()).tolist()]
            for name, vector in vectors.items()}


def main():
    tokenizer = make_tokenizer()
    prompts = [tokenizer(prompt).input_ids for prompt in PROMPTS]
    messages = [{"role": "system", "content": "Be <|im_end|> kind."},
                {"role": "user", "content": "Hello"}]
    for seed in range(100):
        shutil.rmtree(FOLDER, ignore_errors=True)
        make_model(tokenizer, seed).save_pretrained(FOLDER)
        tokenizer.save_pretrained(FOLDER)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            FOLDER, dtype=torch.float32, attn_implementation="eager").eval()
        answers = [greedy(model, ids) for ids in prompts]
        if min(margin for _, margin in answers) >= MIN_MARGIN:
            break
    ids = tokenizer(TEXT.read_text(encoding="utf-8")).input_ids
    golden = {
        "prompts": [
            {"prompt": prompt, "ids": prompt_ids, "greedy_ids": answer,
             "greedy_text": tokenizer.decode(answer, skip_special_tokens=True)}
            for prompt, prompt_ids, (answer, _) in zip(PROMPTS, prompts, answers)],
        "chat": {"messages": messages,
                 "text": tokenizer.apply_chat_template(messages, tokenize=False,
                                                       add_generation_prompt=True)},
        "text_tokens": len(ids),
        "perplexity": [perplexity(model, ids, *window) for window in WINDOWS],
        "logprobs": logprobs(model, ids[:40]),
        "embedding": embedding(model, ids[:40]),
    }
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(f"seed {seed}, {len(ids)} tokens of text, answers:")
    for prompt, (answer, margin) in zip(PROMPTS, answers):
        print(repr(prompt), repr(tokenizer.decode(answer)), f"margin {margin:.3f}")


if __name__ == "__main__":
    main()
