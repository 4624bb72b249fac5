#!/usr/bin/env python3
"""Trains small tokenizers of the field's kinds and stores what `tokenizers` encodes and decodes.

Usage: tools/goldens/text_goldens.py [--train NAME...]

Writes tests/data/text/tokenizer_goldens.json from the tokenizers in tests/data/text/tokenizers;
--train makes those named anew (training breaks some ties at random, so they change a little). Needs
tokenizers 0.23. Texts are written below, random ones have a fixed seed.
"""

import argparse
import json
import pathlib
import random

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "text"

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

TEXTS = [
    "", " ", "  ", "\n", "\t\n \r\n", "a", "Hello, world!", "Hello  world   twice\n\n\nand again. ",
    "I'm sure they'll say it's WE'RE or DON'T; we'd've known.", "ſ'ſ 'S K", "1 12 123 1234 12345.678e-9",
    "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox runs away again.",
    "Once upon a time there was a little girl who lived near the forest with her grandmother.",
    "In einem Bächlein helle, da schoß in froher Eil die launische Forelle vorüber wie ein Pfeil.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Широкая электрификация.",
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.",
    "我能吞下玻璃而不伤身体。今天的天气很好,我们去公园吧!", "いろはにほへと ちりぬるを。カタカナとひらがな。",
    "다람쥐 헌 쳇바퀴에 타고파", "نص حكيم له سر قاطع وذو شأن عظيم", "दुनिया में हर जगह लोग", "ก็เป็นมนุษย์สุดประเสริฐ",
    "שלום עולם", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", "e\u0301 é o\u0308\u0323 \u1100\u1161\u11a8 각 \u212b Å ﬁ ²",
    "🙂🙃 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 ☃️", "\u180e\u200b\u00a0\u3000\u2028\u0085x \u2003 y", "▁under ▁▁ score _ __",
    "def f(x):\n    if x == 1:\n\treturn {'a': [1, 2]}  # note\n", "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2.5f; }",
    "https://example.org/path?q=1&r=%20#frag user@mail.net", "<div class=\"x\">&amp;</div>", "...!!!???---===+++",
    "a" * 300, "ab" * 150, " " * 100 + "x", "\n" * 50, "<s>hi</s>", "<|im_start|>user\nhello<|im_end|>\n",
    "text<|im_end|>more <|end|>  spaced  <|end|> x", "wordy word keyword word. word", "  <mask>  next <mask>",
    "pad<pad>PAD<PAD> <pad>", "<0x41><0xE4> <unk>", "nul\x00 and \x7f bell\x07", "ⅧⅨ ½ ٣٤ ৪", "\ufeffbom \ufffd",
]
INVALID = [b"\xff", b"ok\xc3", b"\xe4\xbd", b"\xf0\x9f\x99x", b"a\xed\xa0\x80b", b"\xc0\xaf\xf5\x80", b"\xe4\xbd\xa0\x80\xe5"]


def random_texts(count):
    rng = random.Random(1)
    parts = [p for t in TEXTS[6:] for p in t.split(" ")] + [" ", "  ", "\n", "\t", "e", "\u0301", "9", "'s", "é"]
    ranges = [(1, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x1FFF), (0x2000, 0x33FF),
              (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFD), (0x1F300, 0x1FAFF)]
    for i in range(count):
        if i % 2:
            yield "".join(rng.choice(parts)[:12] + rng.choice(["", " "]) for _ in range(rng.randint(1, 8)))
        else:
            yield "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 20)))


def byte_level(pattern, size, **bpe):
    t = Tokenizer(models.BPE(**bpe))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return t


def train(t, size, latin_only=False, **options):
    # A part of the texts leaves unknown characters.
    corpus = [x for x in TEXTS for _ in range(3) if not latin_only or max(x, default="") < "\u0250"]
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, show_progress=False, **options))


def special(*contents, **flags):
    return [AddedToken(c, special=True, normalized=flags.pop("normalized", False), **flags) for c in contents]


def qwen2():
    t = byte_level(QWEN2, 700)
    t.normalizer = normalizers.NFC()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    t.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return t


def llama3():
    t = byte_level(LLAMA3, 700, ignore_merges=True)
    t.add_special_tokens(special("<|begin|>", "<|end|>", "<|im_end|>"))
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B",
                                      special_tokens=[("<|begin|>", t.token_to_id("<|begin|>"))])])
    return t


def gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    train(t, 500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.add_special_tokens(special("<|endoftext|>", normalized=True))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, special=True, normalized=False)])
    t.add_tokens([AddedToken("word", single_word=True), AddedToken("<pad>", lstrip=True), AddedToken("<|end|>", rstrip=True)])
    return t


def sentencepiece():
    """As converted Llama 2 tokenizers: no pre-tokenizer, bytes for unknown characters."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    train(t, 600, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)], latin_only=True)
    t.pre_tokenizer = None
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A $B", special_tokens=[("<s>", 1), ("</s>", 2)])
    # Training makes the bytes special; in the field they are plain tokens.
    data = json.loads(t.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(data))


def metaspace():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=True)])
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    train(t, 400, special_tokens=["<unk>", "<s>"], latin_only=True)
    return t


def splits():
    """The other behaviors of Split, affixes, unk without fusing, no decoder."""
    t = Tokenizer(models.BPE(unk_token="?", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("-", "merged_with_previous"), pre_tokenizers.Split(Regex("[.,;]+"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[!?=]"), "contiguous"), pre_tokenizers.Split(Regex(r"\s"), "removed"),
        pre_tokenizers.Split(Regex(r"\w+"), "isolated", invert=True), pre_tokenizers.Digits()])
    train(t, 400, special_tokens=["?"], latin_only=True, continuing_subword_prefix="##", end_of_word_suffix="</w>")
    t.add_special_tokens(special("<|end|>"))
    return t


def unigram():
    """As converted XLM-R or T5 tokenizers, with bytes for unknown characters."""
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    corpus = [x for x in TEXTS for _ in range(3) if max(x, default="") < "\u0250"]
    t.train_from_iterator(corpus, trainers.UnigramTrainer(
        vocab_size=400, show_progress=False, unk_token="<unk>", special_tokens=["<s>", "<blank>", "</s>", "<unk>"]))
    data = json.loads(t.to_str())
    data["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    data["model"]["byte_fallback"] = True
    t = Tokenizer.from_str(json.dumps(data))
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return t


def wordpiece():
    """As BERT, uncased."""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    corpus = [x for x in TEXTS for _ in range(3) if max(x, default="") < "\u0450"]
    t.train_from_iterator(corpus, trainers.WordPieceTrainer(
        vocab_size=500, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<mask>"]))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return t


def wordlevel():
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Strip()])
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.train_from_iterator(TEXTS, trainers.WordLevelTrainer(vocab_size=400, show_progress=False, special_tokens=["<unk>", "<s>", "<|end|>"]))
    t.add_tokens([f"<{i}>" for i in range(160)])
    return t


def without_special(path):
    """The tokenizer with special tokens that no text spells: in Gale, plain text never becomes one."""
    data = json.loads(path.read_text(encoding="utf-8"))
    names = {token["content"] for token in data["added_tokens"] if token["special"]}
    model = data["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [[f"\U0010FFFE{i}" if token in names else token, score] for i, (token, score) in enumerate(model["vocab"])]
    elif model["type"] == "WordLevel":
        model["vocab"] = {f"\U0010FFFE{i}" if token in names else token: i for token, i in model["vocab"].items()}
        model["unk_token"] = f"\U0010FFFE{next(t['id'] for t in data['added_tokens'] if t['content'] == model['unk_token'])}"
    else:
        return Tokenizer.from_file(str(path))
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["special"]]
    return Tokenizer.from_str(json.dumps(data))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", nargs="+", default=[], metavar="NAME")
    arguments = parser.parse_args()
    texts = [t.encode("utf-8") for t in TEXTS + list(random_texts(80))] + INVALID
    goldens = {"texts": [t.hex() for t in texts], "tokenizers": {}}
    (DATA / "tokenizers").mkdir(parents=True, exist_ok=True)
    for make in (qwen2, llama3, gpt2, sentencepiece, metaspace, splits, unigram, wordpiece, wordlevel):
        name = make.__name__
        path = DATA / "tokenizers" / f"{name}.json"
        if name in arguments.train:
            file = json.loads(make().to_str())
            path.write_text(json.dumps(file, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        parsing, plain = Tokenizer.from_file(str(path)), without_special(path)
        plain.encode_special_tokens = True
        encoded = []
        for i, text in enumerate(texts):
            # Special tokens are parsed in every other text, and added in two of three.
            t = parsing if i % 2 == 0 else plain
            encoded.append(t.encode(text.decode("utf-8", errors="replace"), add_special_tokens=i % 3 != 0).ids)
        rng = random.Random(2)
        size = parsing.get_vocab_size(True)
        few = [i for i in range(size) if (parsing.id_to_token(i) or "").startswith("<0x")] or list(range(260))
        decoded = []
        for i in range(120):
            ids = encoded[i] if i < len(TEXTS) else [
                rng.choice(few) if rng.random() < 0.6 else rng.randrange(size + 3) for _ in range(rng.randint(1, 12))]
            decoded.append([ids, parsing.decode(ids, skip_special_tokens=i % 3 == 0)])
        goldens["tokenizers"][name] = {"encode": encoded, "decode": decoded}
    text = json.dumps(goldens, ensure_ascii=False, separators=(",", ":")) + "\n"
    (DATA / "tokenizer_goldens.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
