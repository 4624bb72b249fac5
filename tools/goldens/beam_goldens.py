#!/usr/bin/env python3
"""Writes transformers' beam searches over checkpoints of tests/data/models.

    /tmp/goldens/bin/python tools/goldens/beam_goldens.py      (see model_goldens.py for the packages)

Only needed when a case is added: the tests read tests/data/decoding/beam_goldens.json. A search is
kept when it comes to the same in f32 and in f64: none of its decisions then hangs on rounding. The
end tokens are likely ones, so that beams end at all lengths.
"""

import itertools
import json
import pathlib

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/data/decoding/beam_goldens.json"
MODELS = ["qwen3_tied", "llama_gqa5"]
MAX_NEW_TOKENS = 14
NUM_PROMPTS = 4
SEARCHES = [
    dict(num_beams=beams, length_penalty=penalty, early_stopping=stopping)
    for beams, penalty, stopping in itertools.product(
        (2, 4), (1.0, 0.0, 2.5, -0.5), (False, True, "never"))
] + [dict(num_beams=6, length_penalty=1.0, early_stopping=False)]


def load(name, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(
        ROOT / "tests/data/models" / name, dtype=dtype, attn_implementation="eager").eval()


@torch.no_grad()
def likely_tokens(model, prompt, count):
    """The tokens that are on average likeliest after the prompt's prefixes."""
    logits = model(torch.tensor([prompt])).logits[0]
    return torch.topk(torch.softmax(logits.double(), -1).mean(0), count).indices.tolist()


@torch.no_grad()
def search(model, prompt, end_tokens, options):
    """(token ids, score) of every beam, best first; ids without padding."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=end_tokens, pad_token_id=end_tokens[0],
        num_return_sequences=options["num_beams"], return_dict_in_generate=True,
        output_scores=True, **options)
    beams = []
    for sequence, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        ids = sequence[len(prompt):]
        ends = [i for i, token in enumerate(ids) if token in end_tokens]
        beams.append((ids[:ends[0] + 1] if ends else ids, score))
    return beams


def main():
    goldens = []
    for name in MODELS:
        single, double = load(name, torch.float32), load(name, torch.float64)
        random = torch.Generator().manual_seed(7)
        vocab = single.config.vocab_size
        for number in range(NUM_PROMPTS):
            prompt = torch.randint(vocab, (3 + 9 * number,), generator=random).tolist()
            end_tokens = likely_tokens(double, prompt, 1 + number % 2)
            for options in SEARCHES:
                beams = search(single, prompt, end_tokens, options)
                exact = search(double, prompt, end_tokens, options)
                if [ids for ids, _ in beams] != [ids for ids, _ in exact]:
                    continue
                goldens.append({"model": name, "prompt": prompt, "end_tokens": end_tokens,
                                "max_tokens": MAX_NEW_TOKENS, **options,
                                "early_stopping": str(options["early_stopping"]).lower(),
                                "beams": [{"ids": ids, "score": score} for ids, score in exact]})
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("[\n" + ",\n".join(json.dumps(golden) for golden in goldens) + "\n]\n")
    lengths = [len(beam["ids"]) for golden in goldens for beam in golden["beams"]]
    print(f"{len(goldens)} searches; beams of {min(lengths)} to {max(lengths)} tokens, "
          f"{sum(length < MAX_NEW_TOKENS for length in lengths)} of {len(lengths)} ended early")


if __name__ == "__main__":
    main()
