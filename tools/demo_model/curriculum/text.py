"""Small English: template expansion, articles, plurals, lists and numbers in words.

A template holds choices `<a|b|c>`, slots `{name}` and the article `a(n)`, which agrees with the word
behind it. Used by every module that writes sentences.
"""

import random
import re
from collections.abc import Mapping

_CHOICE = re.compile(r"<([^<>]*)>")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (\W*)(\w+)")
_SENTENCE_START = re.compile(r"((?:[.!?] |\n)\"?)([a-z])")
_CONSONANT_SOUND = ("uni", "use", "one", "eu")
_VOWEL_SOUND = ("hour", "honest", "heir")
_IRREGULAR_PLURALS = {
    "sheep": "sheep", "goose": "geese", "mouse": "mice", "child": "children", "man": "men",
    "woman": "women", "foot": "feet", "tooth": "teeth", "fish": "fish", "leaf": "leaves",
    "wolf": "wolves", "shelf": "shelves", "deer": "deer", "knife": "knives", "loaf": "loaves",
    "scarf": "scarves", "thief": "thieves",
}


def article(word: str) -> str:
    """`a` or `an`, as `word` sounds."""
    lower = word.lower()
    vowel = lower.startswith(_VOWEL_SOUND) or (
        lower[0] in "aeiou" and not lower.startswith(_CONSONANT_SOUND))
    return "an" if vowel else "a"


def with_article(phrase: str) -> str:
    return f"{article(phrase)} {phrase}"


def plural(noun: str) -> str:
    """The plural of `noun`; of a phrase, that of its last word."""
    head, _, last = noun.rpartition(" ")
    if last in _IRREGULAR_PLURALS:
        many = _IRREGULAR_PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")) or last in ("potato", "tomato"):
        many = last + "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return f"{head} {many}" if head else many


def counted(count: int, noun: str) -> str:
    """`1 apple`, `3 apples`."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def listed(items: list[str], conjunction: str = "and") -> str:
    """`a, b and c`."""
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _agree(match: re.Match[str]) -> str:
    first, gap, word = match.groups()
    chosen = article(word)
    return f"{chosen.capitalize() if first == 'A' else chosen} {gap}{word}"


def agree(text: str) -> str:
    """Every `a(n)` as `a` or `an`."""
    return _ARTICLE.sub(_agree, text) if "(n)" in text else text


def expand(template: str, rng: random.Random, slots: Mapping[str, object]) -> str:
    """Writes `template` out: choices drawn from `rng`, slots filled, articles and later capitals right."""
    text = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
    if "{" in text:
        text = text.format_map(slots)
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), agree(text))
