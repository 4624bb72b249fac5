"""Trains the byte-level BPE of the demo models and writes the tokenizer's files.

Same pre-tokenizer and normalizer as Qwen2 and Qwen3 (each digit stands alone), 8,192 tokens with the
control tokens last. Run: `python3 train_tokenizer.py --corpus DIR --out DIR`. Needs `tokenizers`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import curriculum
import sources

VOCAB_SIZE = 8192
CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # hidden from readable output
MARKUP_TOKENS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]  # shown
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CURRICULUM_DOCUMENTS = 12_000


def texts(corpus: Path) -> Iterator[str]:
    """The text groups, and curriculum documents that training does not repeat (negative seeds)."""
    for group in sources.GROUPS:
        yield from sources.documents(corpus, group)
    for seed in range(-CURRICULUM_DOCUMENTS, 0):
        for text, _ in curriculum.document(seed):
            for token in CONTROL_TOKENS + MARKUP_TOKENS:
                text = text.replace(token, " ")
            yield text


def train(corpus: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(CONTROL_TOKENS) - len(MARKUP_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator(texts(corpus), trainer)
    tokenizer.add_special_tokens(CONTROL_TOKENS)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKUP_TOKENS])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    return tokenizer


def save(tokenizer: Tokenizer, out: Path) -> None:
    """Writes `tokenizer.json` without white space and with merges as `a b`, and its configuration."""
    out.mkdir(parents=True, exist_ok=True)
    content = json.loads(tokenizer.to_str())
    merges = content["model"]["merges"]
    content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    (out / "tokenizer.json").write_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    ids = {token: tokenizer.token_to_id(token) for token in CONTROL_TOKENS + MARKUP_TOKENS}
    config = {
        "tokenizer_class": "Qwen2Tokenizer", "model_max_length": 2048, "add_prefix_space": False,
        "add_bos_token": False, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": None, "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(number): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                          "single_word": False, "special": token in CONTROL_TOKENS}
            for token, number in ids.items()},
        "chat_template": (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8"),
    }
    (out / "tokenizer_config.json").write_text(
        json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    save(train(arguments.corpus), arguments.out)


if __name__ == "__main__":
    main()
