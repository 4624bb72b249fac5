"""Small exercises with one right answer: sums, copying, editing, sorting, counting, word knowledge.

Each function draws one question and its answer. About one in eight pairs of operands is kept for the
evaluation (`is_held_out`), so a right sum there was not learned by heart.
"""

import random
import re

from . import lexicon as lex
from .lexicon import Lexicon, is_held_out
from .stories import tell
from .text import capitalized, counted, listed, plural, with_article

Exercise = tuple[str, str]  # question, answer

_SIGNS = {"+": "plus", "-": "minus", "*": "times"}


def _operands(rng: random.Random, lexicon: Lexicon, sign: str, low: int, high: int) -> tuple[int, int, int]:
    """Two numbers of this split, and the result."""
    while True:
        a, b = rng.randint(low, high), rng.randint(low, high)
        if sign == "-" and a < b:
            a, b = b, a
        if is_held_out(f"{a}{sign}{b}") == lexicon.held_out:
            return a, b, {"+": a + b, "-": a - b, "*": a * b}[sign]


def _calculation(rng: random.Random, a: int, b: int, result: int, sign: str) -> Exercise:
    spoken = f"{a} {sign} {b}" if rng.random() < 0.7 else f"{a} {_SIGNS[sign]} {b}"
    question = rng.choice(("What is {}?", "{} = ?", "Calculate {}.", "How much is {}?", "{}", "Work out {}.",
                           "Please calculate {}.", "Tell me what {} is.")).format(spoken)
    return question, f"{a} {sign} {b} = {result}"


def two_digit_sum(rng: random.Random, lexicon: Lexicon) -> Exercise:
    a, b, result = _operands(rng, lexicon, "+", 10, 99)
    return _calculation(rng, a, b, result, "+")


def calculation(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Sums and differences up to 999, products up to 12 by 12."""
    sign = rng.choice("++--*")
    low, high = (2, 12) if sign == "*" else rng.choice(((0, 20), (10, 99), (10, 99), (100, 499)))
    if sign == "*" and not lexicon.held_out:
        a, b = rng.randint(low, high), rng.randint(low, high)
        return _calculation(rng, a, b, a * b, sign)
    return _calculation(rng, *_operands(rng, lexicon, sign, low, high), sign)


def word_problem(rng: random.Random, lexicon: Lexicon) -> Exercise:
    feminine = rng.random() < 0.5
    he = "she" if feminine else "he"
    name, other = lexicon.name(feminine), lexicon.person()
    noun = rng.choice(lex.COUNTABLES)
    sign = rng.choice("+-")
    a, b, result = _operands(rng, lexicon, sign, 2, 60)
    many = plural(noun)
    if sign == "+":
        question = rng.choice((
            f"{name} has {counted(a, noun)} and gets {b} more. How many {many} does {he} have now?",
            f"{name} found {counted(a, noun)} in the morning and {b} in the evening. How many is that in all?",
            f"There are {counted(a, noun)} in one box and {b} in another. How many {many} are there together?",
            f"{name} has {counted(a, noun)}. {other} gives {'her' if feminine else 'him'} {b} more. "
            f"How many {many} does {name} have?"))
    else:
        question = rng.choice((
            f"{name} has {counted(a, noun)} and gives {b} to {other}. How many {many} are left?",
            f"There were {counted(a, noun)} on the table. {name} took {b}. How many are left?",
            f"{name} had {counted(a, noun)} and lost {b} of them. How many {many} does {he} still have?",
            f"{name} needs {counted(a, noun)} and already has {b}. How many more does {he} need?"))
    return question, f"{a} {sign} {b} = {result}. The answer is {result}."


def comparison(rng: random.Random, lexicon: Lexicon) -> Exercise:
    numbers = rng.sample(range(1, 1000 if rng.random() < 0.5 else 100), rng.randint(2, 5))
    shown = listed([str(number) for number in numbers], "or" if len(numbers) == 2 else "and")
    if rng.random() < 0.5:
        return rng.choice((f"Which is larger, {shown}?" if len(numbers) == 2
                           else f"Which is the largest number: {shown}?",
                           f"Find the biggest of {shown}.")), str(max(numbers))
    return rng.choice((f"Which is smaller, {shown}?" if len(numbers) == 2
                       else f"Which is the smallest number: {shown}?",
                       f"Find the least of {shown}.")), str(min(numbers))


def _sentences(rng: random.Random, lexicon: Lexicon, count: int) -> str:
    """Some sentences of a new story."""
    text = rng.choice(tell(rng, lexicon).paragraphs)
    return " ".join(re.split(r"(?<=[.!?]) (?=[A-Z])", text)[:count])


def _jumble(rng: random.Random, lexicon: Lexicon) -> str:
    """A line that makes no sense, so that only copying can reproduce it."""
    kind = rng.random()
    if kind < 0.4:
        return " ".join(lexicon.wild_word() for _ in range(rng.randint(1, 20)))
    if kind < 0.6:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789-_.ABCDEFGHJKLMN")
                       for _ in range(rng.randint(4, 16)))
    if kind < 0.8:
        return ", ".join(str(rng.randint(0, 9999)) for _ in range(rng.randint(3, 10)))
    return " ".join(lexicon.person() for _ in range(rng.randint(2, 7)))


def copy(rng: random.Random, lexicon: Lexicon) -> Exercise:
    kind = rng.random()
    if kind < 0.5:
        text = _jumble(rng, lexicon)
    elif kind < 0.8:
        text = _sentences(rng, lexicon, rng.randint(1, 4))
    else:
        text = tell(rng, lexicon).text
    return rng.choice(("Repeat this exactly: {}", "Copy the following text.\n\n{}", "Say this again:\n{}",
                       "Write this down word for word: {}", "Repeat after me: {}",
                       "Please copy this text exactly:\n\n{}")).format(text), text


def replace_word(rng: random.Random, lexicon: Lexicon) -> Exercise:
    text = _sentences(rng, lexicon, rng.randint(1, 5))
    found = sorted(set(re.findall(r"[A-Za-z]{3,}", text)))
    old = rng.choice(found)
    new = lexicon.person() if old[0].isupper() else lexicon.wild_word()
    ask = rng.choice((f'Replace "{old}" with "{new}":', f'Replace the word "{old}" with "{new}" in this text.',
                      f"Change {old} to {new} in the following text:"))
    return f"{ask}\n\n{text}", re.sub(rf"\b{old}\b", new, text)


def upper_case(rng: random.Random, lexicon: Lexicon) -> Exercise:
    pool = lex.THINGS + lex.ANIMALS + lex.PLACES + lex.COLOURS + lex.FOODS
    text = " ".join(rng.choice(pool) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.5:
        return rng.choice((f"Write in capital letters: {text}", f"Make this upper case: {text}")), text.upper()
    return rng.choice((f"Write in small letters: {text.upper()}",
                       f"Make this lower case: {text.upper()}")), text


def punctuate(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Puts the capital and the full stop back."""
    right = _sentences(rng, lexicon, 1)
    while right[0] == '"' or not right[-1] == ".":
        right = _sentences(rng, lexicon, 1)
    wrong = right[0].lower() + right[1:-1]
    return rng.choice(("Correct this sentence: {}", "Fix the capital letter and the full stop: {}",
                       "Write this sentence properly: {}")).format(wrong), right


def _some_words(rng: random.Random) -> list[str]:
    pool = rng.choice((lex.THINGS, lex.ANIMALS, lex.FOODS, lex.COLOURS, lex.JOBS, lex.CLOTHES,
                       lex.INSTRUMENTS))
    return rng.sample(pool, rng.randint(2, 7))


def listing(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """A line of words as a list, or a list as a line."""
    items = _some_words(rng)
    bullets = "\n".join(f"- {item}" for item in items)
    numbered = "\n".join(f"{index}. {item}" for index, item in enumerate(items, 1))
    kind = rng.randrange(4)
    if kind == 0:
        return f"Make a bullet list: {listed(items)}", bullets
    if kind == 1:
        return f"Make a numbered list of {listed(items)}.", numbered
    if kind == 2:
        return f"Write these in one line, with commas:\n\n{bullets}", ", ".join(items)
    things = [with_article(item) for item in items] if items[0] in lex.THINGS + lex.ANIMALS else items
    name = lexicon.person()
    return (f"List what {name} saw, one a line. {name} saw {listed(things)}.",
            "\n".join(f"- {thing}" for thing in things))


def counting(rng: random.Random, lexicon: Lexicon) -> Exercise:
    first = rng.choice((1, 1, rng.randint(0, 200)))
    numbers = range(first, first + rng.randint(3, 40))
    if rng.random() < 0.2:
        numbers = numbers[::-1]
    return (rng.choice(("Count from {} to {}.", "Please count from {} to {}.", "Write the numbers from {} to {}."))
            .format(numbers[0], numbers[-1]), ", ".join(map(str, numbers)))


def sorting(rng: random.Random, lexicon: Lexicon) -> Exercise:
    if rng.random() < 0.5:
        numbers = rng.sample(range(1, 100), rng.randint(3, 6))
        down = rng.random() < 0.3
        ask = "from largest to smallest" if down else "from smallest to largest"
        return (f"Sort these numbers {ask}: {', '.join(map(str, numbers))}",
                ", ".join(map(str, sorted(numbers, reverse=down))))
    items = _some_words(rng)[:4]
    return (rng.choice(("Sort these words by the alphabet: {}", "Put in alphabetical order: {}"))
            .format(", ".join(items)), ", ".join(sorted(items)))


def picking(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Counts, reverses or picks from a list."""
    items = _some_words(rng)
    line = ", ".join(items)
    kind = rng.randrange(5)
    if kind == 0:
        return f"How many words are in this list? {line}", str(len(items))
    if kind == 1:
        return f"Write this list backwards: {line}", ", ".join(reversed(items))
    if kind == 2:
        return f"What is the first word of this list? {line}", items[0]
    if kind == 3:
        return f"What is the last word of this list? {line}", items[-1]
    index = rng.randrange(min(5, len(items)))
    place = ("first", "second", "third", "fourth", "fifth")[index]
    return f"What is the {place} word of this list? {line}", items[index]


def word_knowledge(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Opposites, young animals, past tenses, plurals, days, months and capitals."""
    kind = rng.randrange(7)
    if kind == 6:
        country = rng.choice(list(lex.CAPITALS))
        return (rng.choice((f"What is the capital of {country}?", f"Name the capital of {country}.")),
                f"The capital of {country} is {lex.CAPITALS[country]}.")
    if kind == 0:
        word = rng.choice(list(lex.OPPOSITES))
        return (rng.choice((f"What is the opposite of {word}?", f"Name the opposite of {word}.")),
                f"The opposite of {word} is {lex.OPPOSITES[word]}.")
    if kind == 1:
        word = rng.choice(list(lex.BABIES))
        return (rng.choice((f"What is a young {word} called?", f"What do you call a baby {word}?")),
                f"A young {word} is called {with_article(lex.BABIES[word])}.")
    if kind == 2:
        word = rng.choice(list(lex.PAST_TENSES))
        return f"What is the past tense of {word}?", f"The past tense of {word} is {lex.PAST_TENSES[word]}."
    if kind == 3:
        word = rng.choice(lex.COUNTABLES + lex.ANIMALS + lex.THINGS)
        return f"What is the plural of {word}?", f"The plural of {word} is {plural(word)}."
    cycle, noun = rng.choice(((lex.DAYS, "day"), (lex.MONTHS, "month")))
    index = rng.randrange(len(cycle))
    if kind == 4:
        return f"Which {noun} comes after {cycle[index]}?", f"{cycle[(index + 1) % len(cycle)]}."
    return f"Which {noun} comes before {cycle[index]}?", f"{cycle[index - 1]}."


# Each exercise and its share.
EXERCISES = [(two_digit_sum, 6), (calculation, 5), (word_problem, 3), (comparison, 1), (copy, 6),
             (replace_word, 3), (upper_case, 2), (punctuate, 1), (listing, 2), (counting, 1), (sorting, 2), (picking, 2),
             (word_knowledge, 2)]
_FUNCTIONS, _SHARES = zip(*EXERCISES)


def draw(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """Any exercise, by its share."""
    return rng.choices(_FUNCTIONS, _SHARES)[0](rng, lexicon)
