#!/usr/bin/env python3
"""Stores what each normalizer, pre-tokenizer and decoder of `tokenizers` makes of many texts.

Usage: tools/goldens/text_component_goldens.py

Writes tests/data/text/component_goldens.json. Needs tokenizers 0.23.
"""

import json
import random
import unicodedata

from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from text_goldens import DATA, TEXTS, random_texts

MORE = [
    "İstanbul ÀÉÎ ΑΣ Ǆ", "a\u0300\u0301b\u093f\u0947", "ａｂｃ　１２３ ｶﾞ ㍿ ™ … ﷺ", "e\u0301\u0301 한\u200d글", "\r\n\x0b\x0c \x85",
    "文a文,b。", "x-y--z  --", "a.b!c?d", "\u00a1\u00bf\u2014\u3001", "12a3४", "ーカナかな漢字latin кириллица, x", " 。leading common",
]


def config(part):
    return json.loads(part.__getstate__())


def small_charsmap():
    """Four rules, one of them for a string that begins with another, as a double array by hand."""
    rules = {b"a": b"1", b"ab": b"22", "é".encode(): b"e", "ﬁ".encode(): "fi".encode(), b"\t": b" "}
    text, offsets = b"", {}
    for key, value in rules.items():
        offsets[key] = len(text)
        text += value + b"\0"
    units = [0] * 4096
    taken = {0}
    next_base = 256

    def place(node, prefix):
        nonlocal next_base
        labels = sorted({key[len(prefix)] for key in rules if key.startswith(prefix) and len(key) > len(prefix)})
        has_leaf = prefix in rules
        base = next_base
        next_base += 256
        units[node] |= (node ^ base) << 10 | (1 << 8 if has_leaf else 0)
        if has_leaf:
            units[base] = offsets[prefix] | 1 << 31
        for label in labels:
            child = base ^ label
            assert child not in taken
            taken.add(child)
            units[child] = label
            place(child, prefix + bytes([label]))
    place(0, b"")
    trie = b"".join(unit.to_bytes(4, "little") for unit in units[:next_base])
    return len(trie).to_bytes(4, "little") + trie + text


def main():
    # Characters as old as `tokenizers`' tables, without U+180E, which patterns take for U+200B.
    known = unicodedata.ucd_3_2_0
    texts = TEXTS + MORE + ["".join(c for c in t if known.category(c) != "Cn") for t in random_texts(30)]
    texts = [t.replace("\u180e", "") for t in texts]
    pre = pre_tokenizers
    parts = {
        "normalizer": [
            normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
            normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.Replace(Regex(r" {2,}|\n+"), "_"),
            normalizers.Strip(), normalizers.Strip(True, False), normalizers.Strip(False, True),
            normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]), normalizers.ByteLevel(),
            normalizers.BertNormalizer(), normalizers.BertNormalizer(True, False, False, False),
            normalizers.BertNormalizer(False, True, True, False), normalizers.Precompiled(small_charsmap()),
        ],
        "pre_tokenizer": [
            pre.ByteLevel(True), pre.ByteLevel(False, use_regex=False),
            *(pre.Split(Regex(r"[\s\p{P}]"), b) for b in
              ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")),
            *(pre.Split("a", b, invert=True) for b in
              ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")),
            pre.Digits(), pre.Digits(individual_digits=True),
            *(pre.Metaspace(prepend_scheme=s) for s in ("always", "first", "never")),
            pre.Metaspace(replacement="_", split=False),
            *(pre.Punctuation(b) for b in
              ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")),
            pre.Whitespace(), pre.WhitespaceSplit(), pre.BertPreTokenizer(), pre.UnicodeScripts(),
            pre.CharDelimiterSplit("a"), pre.CharDelimiterSplit("文"), pre.FixedLength(3),
            pre.Sequence([pre.WhitespaceSplit(), pre.Digits(True), pre.Metaspace(prepend_scheme="first")]),
        ],
        "decoder": [
            decoders.BPEDecoder(), decoders.BPEDecoder("!"), decoders.ByteLevel(), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip("_", 1, 0), decoders.Strip("b", 0, 1), decoders.Replace("▁", " "), decoders.Replace(Regex("[ab]+"), "x"),
            *(decoders.Metaspace(prepend_scheme=s) for s in ("always", "first", "never")),
            decoders.WordPiece(), decoders.WordPiece("_", cleanup=False), decoders.CTC(), decoders.CTC("a", " ", False),
            decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("a.b"), "?"), decoders.Fuse(), decoders.Strip("_", 2, 0)]),
            decoders.Sequence([decoders.ByteFallback(), decoders.WordPiece("a"), decoders.BPEDecoder("b")]),
        ],
    }
    rng = random.Random(3)
    tokens = ["a", "b", "ab", "ba", "##a", "_a", "__", "_", "▁", "▁a", "a▁b", "</w>", "a</w>", "!", "a!", ".", "'s", "n't", "do not", "<pad>", "|",
              "a|", "<0x41>", "<0xE4>", "<0xBD>", "<0xA0>", "<0xe4>", "Ġ", "ĠÃ", "©", "文", "'", "x ' y", " ", "Ċ"]
    sequences = [[rng.choice(tokens) for _ in range(rng.randint(1, 8))] for _ in range(150)]
    goldens = {"texts": texts, "sequences": sequences, "parts": []}
    for kind, members in parts.items():
        for part in members:
            if kind == "normalizer":
                results = [part.normalize_str(t) for t in texts]
            elif kind == "pre_tokenizer":
                results = [[p for p, _ in part.pre_tokenize_str(t)] for t in texts]
            else:
                results = [part.decode(s) for s in sequences]
            goldens["parts"].append({"kind": kind, "config": config(part), "results": results})
    text = json.dumps(goldens, ensure_ascii=False, separators=(",", ":")) + "\n"
    (DATA / "component_goldens.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
