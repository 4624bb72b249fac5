"""The tasks that the evaluation sets: how a case is drawn and which reply counts.

Used by `evaluate.py`, and by the tests, which need no packages.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from curriculum import drills, exercises, passages, talk, tools
from curriculum.chat import Chat
from curriculum.lexicon import Lexicon

SPLITS = {"unseen": ("eval", 0.0), "known": ("train", 0.0), "odd words": ("eval", 0.5)}  # split and share of odd words
FLOORS = {"passage questions": 0.9, "two-digit sums": 0.95, "tool calls": 0.95}  # what a release must reach
IN_ALL_SPLITS = (*FLOORS, "JSON extraction", "copying")


def same_text(reply: str, expected: str) -> bool:
    return reply == expected


def same_json(reply: str, expected: str) -> bool:
    try:
        return json.loads(reply) == json.loads(expected)
    except ValueError:
        return False


def same_call(reply: str, expected: str) -> bool:
    """Name and arguments equal as JSON; nothing beside the call."""
    def parsed(text: str) -> Any:
        match = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text, re.DOTALL)
        return json.loads(match.group(1)) if match else None
    try:
        return parsed(reply) is not None and parsed(reply) == parsed(expected)
    except ValueError:
        return False


def exercise(draw: Callable[..., exercises.Exercise]) -> Callable[..., Chat]:
    """A chat of one exercise."""
    def chat(rng: Any, lexicon: Lexicon) -> Chat:
        question, answer = draw(rng, lexicon)
        return Chat().user(question).assistant(answer)
    return chat


Task = tuple[str, Callable[..., Chat], Callable[[str, str], bool]]  # figure, how a case is drawn, which reply counts

TASKS: list[Task] = [
    ("passage questions", lambda r, x: passages.question_chat(r, x, turns=1), same_text),
    ("passage questions, fourth of a chat", lambda r, x: passages.question_chat(r, x, turns=4), same_text),
    ("two-digit sums", exercise(exercises.two_digit_sum), same_text),
    ("calculations", exercise(exercises.calculation), same_text),
    ("word problems", exercise(exercises.word_problem), same_text),
    ("tool calls", lambda r, x: tools.call_chat(r, x, turns=0, source=tools.catalogue_tool), same_call),
    ("tool calls, renamed and invented tools", lambda r, x: tools.call_chat(r, x, turns=0), same_call),
    ("tool calls, tools and requests never seen",
     lambda r, x: tools.call_chat(r, x, turns=0, source=tools.held_out_tool), same_call),
    ("replies to a tool's result", lambda r, x: tools.call_chat(r, x, turns=1), same_text),
    ("no tool fits", tools.no_call_chat, same_text),
    ("JSON extraction", passages.json_chat, same_json),
    ("JSON lists", passages.json_list_chat, same_json),
    ("copying", exercise(exercises.copy), same_text),
    ("replacing a word", exercise(exercises.replace_word), same_text),
    ("counting", exercise(exercises.counting), same_text),
    ("listing", exercise(exercises.listing), same_text),
    ("sorting", exercise(exercises.sorting), same_text),
    ("picking and counting", exercise(exercises.picking), same_text),
    ("comparing numbers", exercise(exercises.comparison), same_text),
    ("capitals", exercise(exercises.upper_case), same_text),
    ("word knowledge", exercise(exercises.word_knowledge), same_text),
    ("saying a value", exercise(drills.say), same_text),
    ("spelling", exercise(drills.spell), same_text),
    ("extracting a field", exercise(drills.field), same_text),
    ("fields to JSON", exercise(drills.make_json), same_json),
    ("editing JSON", exercise(drills.edit_json), same_text),
    ("who and where", exercise(drills.relation), same_text),
    ("entries of a list", exercise(drills.neighbour), same_text),
    ("filling in a letter", exercise(drills.fill_in), same_text),
    ("summaries", passages.summary_chat, same_text),
    ("memory of a chat", talk.memory_chat, same_text),
]
