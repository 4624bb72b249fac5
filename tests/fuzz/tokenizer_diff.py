#!/usr/bin/env python3
"""Compares Gale's tokenizers with PyPI tokenizers, sentencepiece or tiktoken on made-up texts.

    tokenizer_diff.py --pipe build/fuzz/tests/fuzz/tokenizer_pipe --family tokenizers --seconds 600

Takes the small tokenizers of tests/data/text and, every few seconds, one made up anew: parts of
tokenizer.json put together at random, SentencePiece models trained with options at random, tiktoken
files under each known name. --folder adds a model folder. Texts are spliced from texts of many
scripts, code, white space, special tokens, random characters and bytes. Prints each difference with
what repeats it, at most one per tokenizer; exits with 1 when there was one. Needs tokenizers 0.23,
sentencepiece 0.2, tiktoken 0.14. The pipe is built by the fuzz preset, so sanitizers watch too.

Left out, because the versions of Unicode differ: characters younger than Unicode 10, and U+180E.
"""

import argparse
import base64
import copy
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "text"
sys.path.insert(0, str(ROOT / "tools" / "goldens"))
from text_goldens import INVALID, TEXTS, without_special  # noqa: E402

ROUND_SECONDS = 4
RANGES = [(0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x7FF), (0x900, 0xE7F), (0x1100, 0x11FF),
          (0x1E00, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFD), (0x1F100, 0x1F5FF)]
BITS = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "▁", "'s", "'LL", "\u0301", "\u200d", "\ufe0f", "\0",
        "12345", "...", "!?", "é", "e\u0301", "한글", "Ġ", "<0x41>", "ſ", "İ", "##a", "_", "-"]


class Pipe:
    """One tokenizer_pipe on one folder."""

    def __init__(self, program, folder):
        self.process = subprocess.Popen([program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def ask(self, verb, payload):
        self.process.stdin.write(verb.encode() + struct.pack("<I", len(payload)) + payload)
        self.process.stdin.flush()
        head = self.process.stdout.read(4)
        if len(head) < 4:
            raise RuntimeError(self.process.stderr.read().decode(errors="replace"))
        return self.process.stdout.read(struct.unpack("<I", head)[0])

    def encode(self, text, parse_special=False):
        answer = self.ask("p" if parse_special else "e", text)
        return list(struct.unpack(f"<{len(answer) // 4}i", answer))

    def decode(self, ids, skip_special=True):
        return self.ask("d" if skip_special else "D", struct.pack(f"<{len(ids)}i", *ids)).decode()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        return self.process.stderr.read().decode(errors="replace")


class Texts:
    """Made-up texts, as bytes; what is decoded from them with "replace" is what the packages get."""

    def __init__(self, rng, special):
        self.rng = rng
        self.parts = [t.encode() for t in TEXTS + BITS * 2 + list(special) * 2] + INVALID

    def character(self):
        while True:
            c = chr(self.rng.randint(*self.rng.choice(RANGES)))
            if unicodedata.category(c) != "Cn" and unicodedata.ucd_3_2_0.category(c) != "Cn" and c != "\u180e":
                return c

    def piece(self):
        rng = self.rng
        part = rng.choice(self.parts)
        kind = rng.randrange(6)
        if kind == 0:
            return part[:40]
        if kind == 1:  # cut anywhere, also inside a character
            begin = rng.randrange(len(part) + 1)
            return part[begin:begin + rng.randint(1, 20)]
        if kind == 2:
            return "".join(self.character() for _ in range(rng.randint(1, 8))).encode()
        if kind == 3:
            return rng.choice(self.parts)[:12] * rng.randint(1, 12)
        if kind == 4:
            return rng.randbytes(rng.randint(1, 12))
        return rng.choice(BITS).encode()

    def next(self):
        text = b"".join(self.piece() for _ in range(self.rng.choice((1, 2, 3, 4, 8, 40))))
        # Random bytes may make characters that the packages know and Gale's Unicode does not.
        kept = (c for c in text.decode("utf-8", "surrogateescape")
                if "\ud800" <= c <= "\udfff" or (unicodedata.ucd_3_2_0.category(c) != "Cn" and c != "\u180e")
                or c in "".join(TEXTS))
        return "".join(kept).encode("utf-8", "surrogateescape")


class TokenizersSubject:
    """A tokenizer.json. Plain text cannot be asked of every kind: see without_special."""

    def __init__(self, folder):
        from tokenizers import Tokenizer
        path = folder / "tokenizer.json"
        self.parsing, self.plain = Tokenizer.from_file(str(path)), without_special(path)
        self.plain.encode_special_tokens = True
        self.special = [t["content"] for t in json.loads(path.read_text(encoding="utf-8"))["added_tokens"]]
        self.size = self.parsing.get_vocab_size(True)

    def encodings(self, pipe, text):
        read = text.decode("utf-8", "replace")
        yield "parse special", self.parsing.encode(read, add_special_tokens=False).ids, pipe.encode(text, True)
        yield "plain", self.plain.encode(read, add_special_tokens=False).ids, pipe.encode(text)

    def decodings(self, pipe, ids):
        yield "skip special", self.parsing.decode(ids), pipe.decode(ids)
        yield "keep special", self.parsing.decode(ids, skip_special_tokens=False), pipe.decode(ids, False)


class SentencePieceSubject:
    def __init__(self, folder):
        import sentencepiece
        self.processor = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
        self.size = self.processor.get_piece_size()
        self.special = [self.processor.id_to_piece(i) for i in range(min(self.size, 30))]

    def encodings(self, pipe, text):
        yield "plain", self.processor.encode(text.decode("utf-8", "replace")), pipe.encode(text)

    def decodings(self, pipe, ids):
        ids = [i for i in ids if not self.processor.is_unknown(i) and not self.processor.is_control(i)]
        yield "", self.processor.decode(ids), pipe.decode(ids)


class TiktokenSubject:
    def __init__(self, folder):
        import tiktoken
        import tiktoken_ext.openai_public as public
        (path,) = folder.glob("*.tiktoken")
        lines = [line.split() for line in path.read_text().splitlines()]
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        public.load_tiktoken_bpe = lambda *args, **kwargs: dict(ranks)
        from text_goldens import LLAMA3
        known = public.ENCODING_CONSTRUCTORS.get(path.stem)
        pattern = known()["pat_str"] if known else LLAMA3
        self.encoding = tiktoken.Encoding(path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self.size = len(ranks)
        self.special = ["<|endoftext|>", "<|begin_of_text|>"]

    def encodings(self, pipe, text):
        yield "plain", self.encoding.encode_ordinary(text.decode("utf-8", "replace")), pipe.encode(text)

    def decodings(self, pipe, ids):
        yield "", self.encoding.decode(ids), pipe.decode(ids)


def remix_tokenizers(rng, folder):
    """One of the small tokenizers with some of its parts made up anew."""
    files = sorted((DATA / "tokenizers").glob("*.json"))
    file = json.loads(rng.choice(files).read_text(encoding="utf-8"))
    parts = json.loads((DATA / "component_goldens.json").read_text(encoding="utf-8"))["parts"]
    parts = [p for p in parts if p["config"]["type"] != "UnicodeScripts"]  # older than Gale's

    def some(kind, key):
        members = [copy.deepcopy(p["config"]) for p in rng.choices([p for p in parts if p["kind"] == kind], k=rng.randint(1, 3))]
        return members[0] if len(members) == 1 else {"type": "Sequence", key: members}

    for kind, key in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")):
        if rng.random() < 0.5:
            file[kind] = some(kind, key)
    # Where characters come or go at the start, `tokenizers` counts as first what came of the first one.
    if "'first'" in str(file["pre_tokenizer"]):
        file["normalizer"] = None
        if "'add_prefix_space': True" in str(file["pre_tokenizer"]):
            file["pre_tokenizer"] = None
    model = file["model"]
    for flag in ("fuse_unk", "byte_fallback", "ignore_merges"):
        if model["type"] == "BPE" and rng.random() < 0.3:
            model[flag] = not model.get(flag)
    for token in file["added_tokens"]:
        # `tokenizers` loses special tokens that a normalizer changes, and lets its models make special
        # tokens of text that single_word has refused; Gale does neither.
        for flag in ("lstrip", "rstrip") if token["special"] else ("lstrip", "rstrip", "single_word", "normalized"):
            if rng.random() < 0.2:
                token[flag] = not token[flag]
    (folder / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")


def remix_sentencepiece(rng, folder):
    import sentencepiece
    sentencepiece.set_random_generator_seed(1)
    corpus = [t for t in rng.choices(TEXTS, k=60) if "\0" not in t]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_prefix=str(folder / "tokenizer"), minloglevel=4, num_threads=1,
        vocab_size=rng.randint(330, 700), hard_vocab_limit=False,
        model_type=rng.choice(("bpe", "unigram")), byte_fallback=rng.random() < 0.5,
        normalization_rule_name=rng.choice(("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity")),
        add_dummy_prefix=rng.random() < 0.6, remove_extra_whitespaces=rng.random() < 0.5,
        treat_whitespace_as_suffix=rng.random() < 0.2, split_digits=rng.random() < 0.5,
        split_by_whitespace=rng.random() < 0.7, allow_whitespace_only_pieces=rng.random() < 0.5,
        character_coverage=rng.choice((1.0, 0.98)), user_defined_symbols=rng.choice(([], ["<mask>", "ab"], ["▁▁", "\n"])),
        control_symbols=rng.choice(([], ["<|im_end|>"])), bos_id=rng.choice((1, -1)))


def remix_tiktoken(rng, folder):
    text = (DATA / "folders" / "llama3" / "llama3.tiktoken").read_text()
    lines = text.splitlines()
    keep = rng.randint(256, len(lines))
    name = rng.choice(("r50k_base", "cl100k_base", "o200k_base", "llama3"))
    (folder / f"{name}.tiktoken").write_text("\n".join(lines[:keep]) + "\n")


FAMILIES = {
    "tokenizers": (TokenizersSubject, remix_tokenizers),
    "sentencepiece": (SentencePieceSubject, remix_sentencepiece),
    "tiktoken": (TiktokenSubject, remix_tiktoken),
}


def starting_folders(family, folder):
    """The committed tokenizers, as model folders."""
    if family == "tokenizers":
        for path in sorted((DATA / "tokenizers").glob("*.json")):
            copy_to = folder / path.stem
            copy_to.mkdir()
            (copy_to / "tokenizer.json").write_bytes(path.read_bytes())
            yield copy_to
    else:
        pattern = "tokenizer.model" if family == "sentencepiece" else "*.tiktoken"
        yield from sorted(path.parent for path in (DATA / "folders").glob(f"*/{pattern}"))


def difference(results):
    """What differs between the package and Gale, or None."""
    try:
        for name, expected, got in results:
            if expected != got:
                return f"({name})\n  package {expected!r}\n  gale    {got!r}"
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a crash inside of `tokenizers`
            raise
    return None


def shrink(value, differs):
    """The value without what the difference does not need: parts of half its length, then shorter."""
    size = len(value) // 2
    while size > 0:
        for begin in range(0, len(value), size):
            shorter = value[:begin] + value[begin + size:]
            if differs(shorter):
                value = shorter
                break
        else:
            size //= 2
    return value


def compare(subject, pipe, texts, rng):
    """Compares one text and one list of ids; what differs with what, or None."""
    text = texts.next()
    encode = lambda t: difference(subject.encodings(pipe, t))
    if encode(text):
        text = shrink(text, encode)
        return f"encode {text!r} {encode(text)}"
    ids = pipe.encode(text)
    if rng.random() < 0.5:
        ids = [rng.randrange(subject.size) for _ in range(rng.randint(1, 12))]
    decode = lambda i: difference(subject.decodings(pipe, i))
    if decode(ids):
        ids = shrink(ids, decode)
        return f"decode {ids} {decode(ids)}"
    return None


def run_round(family, program, folder, rng, until):
    """Compares until the time is over or something differs; returns the number of comparisons."""
    try:
        subject = FAMILIES[family][0](folder)
    except Exception as error:  # the packages raise plain Exception for what they do not load
        print(f"{folder.name}: the package refuses it: {str(error)[:100]}", flush=True)
        return 0, None
    pipe = Pipe(program, folder)
    texts = Texts(rng, subject.special)
    count, found = 0, None
    try:
        while time.monotonic() < until and found is None:
            found = compare(subject, pipe, texts, rng)
            count += 1
    except (RuntimeError, BrokenPipeError) as error:
        found = f"gale stopped: {error}"
    errors = pipe.close()
    return count, found or errors or None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pipe", required=True)
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--folder", action="append", default=[], type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path, help="where to keep the folders that differ")
    arguments = parser.parse_args()

    end = time.monotonic() + arguments.seconds
    total = differences = rounds = 0
    with tempfile.TemporaryDirectory() as temporary:
        folders = [*arguments.folder, *starting_folders(arguments.family, pathlib.Path(temporary))]
        while time.monotonic() < end:
            rng = random.Random(arguments.seed * 1_000_000 + rounds)
            folder = folders[rounds] if rounds < len(folders) else None
            if folder is None:
                folder = pathlib.Path(temporary) / f"remix{rounds}"
                folder.mkdir()
                try:
                    FAMILIES[arguments.family][1](rng, folder)
                except RuntimeError:  # SentencePiece cannot train with every mix of options
                    rounds += 1
                    continue
            until = min(end, time.monotonic() + ROUND_SECONDS)
            count, found = run_round(arguments.family, arguments.pipe, folder, rng, until)
            total += count
            rounds += 1
            if found is not None:
                differences += 1
                print(f"{folder.name} (--seed {arguments.seed}): {found}", flush=True)
                if arguments.keep:
                    subprocess.run(["cp", "-r", str(folder), str(arguments.keep)], check=True)
    print(f"{arguments.family}: {total} texts over {rounds} tokenizers, {differences} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
