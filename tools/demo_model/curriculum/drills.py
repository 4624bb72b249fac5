"""Drills of copying: arbitrary words, names and numbers put where they belong.

What is copied is drawn from an open set (any token, made-up words, codes, numbers), so no drill can be
learned by heart; the frames are many, so that copying becomes a skill and not a habit of one of them.
Used by `__init__.py` and `evaluate.py`.
"""

import random
from collections.abc import Callable
from typing import Any

from . import lexicon as lex
from .chat import Chat, to_json
from .exercises import Exercise
from .lexicon import Lexicon

_LABELS = lex.words("""
    name city code colour title owner street country number key password topic place animal customer
    author teacher brand address guest day price weight size word product order department""")
_LETTERS, _DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "0123456789"


def _code(rng: random.Random, lexicon: Lexicon) -> str:
    shape = rng.choice(("AA-99", "A999", "99-99-99", "AAA99", "9A9A9A", "aaaaaa", "a9a9", "999.999"))
    drawn = {"A": _LETTERS, "9": _DIGITS, "a": _LETTERS.lower()}
    return "".join(rng.choice(drawn.get(sign, sign)) for sign in shape)


# Kinds of value and their shares.
_VALUES: list[tuple[Callable[[random.Random, Lexicon], str], int]] = [
    (lambda rng, x: x.wild_word(), 6), (lambda rng, x: x.wild_name(), 4), (lambda rng, x: x.invented_name(), 3),
    (lambda rng, x: x.person(), 2), (lambda rng, x: x.place_name(), 2),
    (lambda rng, x: f"{x.wild_name()} {x.wild_name()}", 2),
    (lambda rng, x: " ".join(x.wild_word() for _ in range(rng.randint(2, 5))), 2),
    (lambda rng, x: str(rng.randint(0, 10 ** rng.randint(1, 5))), 2), (_code, 2)]
_DRAWS, _SHARES = zip(*_VALUES)


def value(rng: random.Random, lexicon: Lexicon) -> str:
    """Something to copy."""
    return rng.choices(_DRAWS, _SHARES)[0](rng, lexicon)


def _values(rng: random.Random, lexicon: Lexicon, count: int) -> list[str]:
    """Different values, none of which is part of another."""
    found: list[str] = []
    while len(found) < count:
        new = value(rng, lexicon)
        if not any(new in old or old in new for old in found):
            found.append(new)
    return found


def _labels(rng: random.Random, lexicon: Lexicon, count: int) -> list[str]:
    """Different names of fields, some of them any word."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[lexicon.wild_word().lower() if rng.random() < 0.4 else rng.choice(_LABELS)] = None
    return list(found)


def _fields(rng: random.Random, lexicon: Lexicon) -> dict[str, str]:
    count = rng.randint(1, 7)
    return dict(zip(_labels(rng, lexicon, count), _values(rng, lexicon, count)))


def _lines(rng: random.Random, fields: dict[str, str]) -> str:
    """The fields as text, one way or another."""
    between, after = rng.choice(((": ", "\n"), (" = ", "\n"), (" is ", ". "), (": ", ", "), (": ", "; ")))
    return after.join(f"{label}{between}{value}" for label, value in fields.items())


def _typed(text: str) -> Any:
    """A whole number as such, anything else as text."""
    return int(text) if text.isdecimal() and str(int(text)) == text else text


def say(rng: random.Random, lexicon: Lexicon) -> Exercise:
    it = value(rng, lexicon)
    ask, answer = rng.choice((
        ("Say {}.", "{}"), ('Repeat "{}".', "{}"), ("Say {} twice.", "{0} {0}"), ("Write {} three times.", "{0} {0} {0}"),
        ("Put {} in quotation marks.", '"{}"'), ("Put {} in brackets.", "({})"), ("Greet {}.", "Hello, {}!"),
        ("Say goodbye to {}.", "Goodbye, {}!"), ("My name is {}.", "Nice to meet you, {}!"),
        ("Answer with this and nothing else: {}", "{}"), ("Introduce {} to me.", "This is {}."),
        ("Wish {} a good day.", "Have a good day, {}!"), ("Spell it as I do: {}", "{}")))
    return ask.format(it), answer.format(it)


def spell(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """A word letter by letter, or put together from its letters."""
    word = lexicon.wild_word() if rng.random() < 0.7 else lexicon.person()
    letters = rng.choice(("-", " ", ", ")).join(word)
    if rng.random() < 0.7:
        return rng.choice(("Spell {}.", "How do you spell {}?", "Write {} letter by letter.")).format(word), letters
    return rng.choice(("Which word is {}?", "Put these letters together: {}")).format(letters), word


def field(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """One field's value, or the field that has a value."""
    fields = _fields(rng, lexicon)
    label = rng.choice(list(fields))
    ask, answer = rng.choice(((f"What is the {label}?", fields[label]), (f"Give me the {label}.", fields[label]),
                              (f"Extract the {label}.", fields[label]), (f"{label}?", fields[label]),
                              (f"Which field says {fields[label]}?", label)))
    text = _lines(rng, fields)
    return rng.choice((f"{text}\n\n{ask}", f"{ask}\n\n{text}")), answer


def make_json(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """All fields, or those asked for, as JSON."""
    fields = _fields(rng, lexicon)
    text = _lines(rng, fields)
    if rng.random() < 0.5:
        ask = rng.choice(("Write this as JSON.", "Turn this into a JSON object.", "As JSON, please."))
        keys = list(fields)
    else:
        keys = rng.sample(list(fields), rng.randint(1, len(fields)))
        ask = rng.choice(("Extract {} as JSON.", "Return a JSON object with the keys {}.",
                          "Write JSON with {}.")).format(", ".join(keys))
    answer = to_json({key: _typed(fields[key]) for key in keys})
    return rng.choice((f"{ask}\n\n{text}", f"{text}\n\n{ask}")), answer


def edit_json(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """One change to a JSON object, or one of its values."""
    record = {label: _typed(text) for label, text in _fields(rng, lexicon).items()}
    before = to_json(record)
    label, it = rng.choice(list(record)), value(rng, lexicon)
    kind = rng.randrange(5)
    if kind == 0:
        ask = rng.choice((f"Set {label} to {it}.", f"Change {label} to {it}."))
        record[label] = _typed(it)
    elif kind == 1:
        ask = rng.choice((f"Remove {label}.", f"Delete the key {label}."))
        del record[label]
    elif kind == 2:
        new = next(new for new in iter(lambda: _labels(rng, lexicon, 1)[0], None) if new not in record)
        ask = rng.choice((f"Add {new} with the value {it}.", f"Add the key {new}: {it}."))
        record[new] = _typed(it)
    elif kind == 3:
        new = next(new for new in iter(lambda: _labels(rng, lexicon, 1)[0], None) if new not in record)
        ask = f"Rename {label} to {new}."
        record = {new if key == label else key: old for key, old in record.items()}
    else:
        return f"{before}\n\nWhat is the value of {label}?", str(record[label])
    return rng.choice((f"{ask}\n\n{before}", f"{before}\n\n{ask}")), to_json(record)


# Statement, question for the second, question for the first.
_RELATIONS = [
    ("{} lives in {}.", "Where does {} live?", "Who lives in {}?"),
    ("{} comes from {}.", "Where does {} come from?", "Who comes from {}?"),
    ("{} works with {}.", "With whom does {} work?", "Who works with {}?"),
    ("{} has a book about {}.", "What is the book of {} about?", "Who has a book about {}?"),
    ("{} is the teacher of {}.", "Whose teacher is {}?", "Who is the teacher of {}?"),
    ("{} went to {}.", "Where did {} go?", "Who went to {}?"),
    ("{} found {}.", "What did {} find?", "Who found {}?"),
    ("{} likes {}.", "What does {} like?", "Who likes {}?"),
    ("{} saw {} yesterday.", "What did {} see yesterday?", "Who saw {} yesterday?"),
    ("{} means {}.", "What does {} mean?", "Which word means {}?"),
    ("The code of {} is {}.", "What is the code of {}?", "Whose code is {}?"),
    ("{} stands for {}.", "What does {} stand for?", "What stands for {}?")]


def relation(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Who lives where, what means what: one of several like facts."""
    count = rng.randint(1, 6)
    drawn = _values(rng, lexicon, 2 * count)
    pairs = list(zip(drawn[::2], drawn[1::2]))
    same = rng.choice(_RELATIONS)
    told = [same if rng.random() < 0.7 else rng.choice(_RELATIONS) for _ in pairs]
    text = " ".join(statement.format(*pair) for (statement, _, _), pair in zip(told, pairs))
    index = rng.randrange(count)
    first, second = pairs[index]
    _, for_second, for_first = told[index]
    question, answer = (for_second.format(first), second) if rng.random() < 0.6 else (for_first.format(second), first)
    return rng.choice((f"{text} {question}", f"{text}\n\n{question}", f"{question}\n\n{text}")), f"{answer}."


def neighbour(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """An entry of a list by its place, or the whole list."""
    items = _values(rng, lexicon, rng.randint(3, 9))
    line = rng.choice((", ", " | ", "; ", "\n")).join(items)
    index = rng.randrange(len(items) - 1)
    ask, answer = rng.choice((
        (f"Which entry comes after {items[index]}?", items[index + 1]),
        (f"Which entry comes before {items[index + 1]}?", items[index]),
        ("Which entry is the first?", items[0]), ("Which entry is the last?", items[-1]),
        ("Say the list again.", line), ("Write the entries one a line.", "\n".join(items)),
        ("Write them as a JSON list.", to_json([_typed(item) for item in items]))))
    return rng.choice((f"{line}\n\n{ask}", f"{ask}\n\n{line}")), answer


def fill_in(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """A letter or notice with blanks, and what to put there."""
    letter = rng.choice((
        "Dear [A], greetings from [B]. Yours, [C]", "[A] and [B] meet in [C].", "To [A]: please bring [B] to [C].",
        "Name: [A]\nFrom: [B]\nTo: [C]", "The train from [A] to [B] has the number [C].",
        "[A] has left. [B] will come instead of [A]. Ask [C].", "Hello [A]! Your order of [B] is ready. [C]"))
    fields = dict(zip("ABC", _values(rng, lexicon, 3)))
    told = ", ".join(f"{sign} = {text}" for sign, text in fields.items())
    answer = letter
    for sign, text in fields.items():
        answer = answer.replace(f"[{sign}]", text)
    return rng.choice((f"Fill in {told}:\n\n{letter}", f"{letter}\n\nFill in: {told}")), answer


# Each drill and its share.
DRILLS = [(say, 3), (spell, 2), (field, 3), (make_json, 5), (edit_json, 3), (relation, 4), (neighbour, 2), (fill_in, 2)]
_FUNCTIONS, _DRILL_SHARES = zip(*DRILLS)


def drill(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Any drill, by its share."""
    return rng.choices(_FUNCTIONS, _DRILL_SHARES)[0](rng, lexicon)


def drill_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """One to six drills, one a turn."""
    chat = Chat()
    for _ in range(rng.choice((1, 2, 3, 4, 6))):
        question, answer = drill(rng, lexicon)
        chat.user(question).assistant(answer)
    return chat
