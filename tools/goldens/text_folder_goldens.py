#!/usr/bin/env python3
"""Trains small SentencePiece, tiktoken and GPT-2 files and stores what their packages make of texts.

Usage: tools/goldens/text_folder_goldens.py [--train]

Writes tests/data/text/folder_goldens.json from the folders in tests/data/text/folders; --train
makes these anew. Needs sentencepiece 0.2, tiktoken 0.14, tokenizers 0.23.
"""

import argparse
import base64
import json
import tempfile

import sentencepiece
import tiktoken
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from text_goldens import DATA, INVALID, LLAMA3, TEXTS, random_texts

FOLDERS = DATA / "folders"
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
          r"|\s*[\r\n]|\s+(?!\S)|\s")


def train_sentencepiece(name, **options):
    (FOLDERS / name).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        # Rules of two lengths that begin alike, one that removes and one that makes a space.
        rules.write("".join(f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}\n" for a, b in [
            ("\ufb01", "fi"), ("\u00c5", "A"), ("\u00b2", "2"), ("e\u0301", "\u00e9"), ("\t", " "), ("\u3000", " "), ("\u200b", ""),
            ("\u2026", "..."), ("\u00e9", "e")]))
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([t for t in TEXTS for _ in range(5) if "\0" not in t and max(t, default="") < "\u0450"]),
            model_prefix=str(FOLDERS / name / "tokenizer"), vocab_size=600, hard_vocab_limit=False, minloglevel=2,
            normalization_rule_tsv=rules.name, character_coverage=1.0, **options)
    (FOLDERS / name / "tokenizer.vocab").unlink()


def train_byte_level():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=600, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(t.to_str())["model"]
    (FOLDERS / "gpt2").mkdir(exist_ok=True)
    (FOLDERS / "gpt2" / "vocab.json").write_text(json.dumps({**model["vocab"], "<|endoftext|>": len(model["vocab"])}))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (FOLDERS / "gpt2" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    for name in ("cl100k_base", "llama3"):
        (FOLDERS / name).mkdir(exist_ok=True)
        decoder = {c: b for b, c in byte_spellings().items()}
        ranks = sorted(((i, bytes(decoder[c] for c in token)) for token, i in model["vocab"].items()),
                       key=lambda pair: (len(pair[1]) > 1, pair[0]))
        lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, (_, token) in enumerate(ranks)]
        (FOLDERS / name / f"{name}.tiktoken").write_text("".join(lines))


def byte_spellings():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def encoders():
    for name in ("sp_bpe", "sp_unigram", "sp_suffix"):
        sp = sentencepiece.SentencePieceProcessor(str(FOLDERS / name / "tokenizer.model"))
        yield name, sp.encode, lambda ids, sp=sp: sp.decode([i for i in ids if not sp.is_unknown(i)])
    for name, pattern in (("cl100k_base", CL100K), ("llama3", LLAMA3)):
        lines = (FOLDERS / name / f"{name}.tiktoken").read_text().splitlines()
        ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines}
        t = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        yield name, t.encode_ordinary, t.decode
    t = Tokenizer(models.BPE.from_file(str(FOLDERS / "gpt2" / "vocab.json"), str(FOLDERS / "gpt2" / "merges.txt")))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    t.decoder = decoders.ByteLevel()
    yield "gpt2", lambda text: t.encode(text).ids, lambda ids: t.decode(ids, skip_special_tokens=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true")
    if parser.parse_args().train:
        train_sentencepiece("sp_bpe", model_type="bpe", byte_fallback=True, user_defined_symbols=["<mask>", "▁▁"],
                            control_symbols=["<|im_end|>"], remove_extra_whitespaces=False)
        train_sentencepiece("sp_unigram", model_type="unigram", user_defined_symbols=["<mask>"], bos_id=-1, pad_id=3)
        train_sentencepiece("sp_suffix", model_type="bpe", treat_whitespace_as_suffix=True)
        train_byte_level()
    texts = [t.encode("utf-8") for t in TEXTS + list(random_texts(80))] + INVALID
    goldens = {"texts": [t.hex() for t in texts], "folders": {}}
    for name, encode, decode in encoders():
        ids = [encode(t.decode("utf-8", errors="replace")) for t in texts]
        goldens["folders"][name] = {"encode": ids, "decode": [decode(i) for i in ids]}
    text = json.dumps(goldens, ensure_ascii=False, separators=(",", ":")) + "\n"
    (DATA / "folder_goldens.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
