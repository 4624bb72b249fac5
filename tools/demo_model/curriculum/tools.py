"""Chats in which tools are listed: calls with their results, and requests that no tool fits.

Used by `__init__.py`, and by `evaluate.py` through it.
"""

import random
from collections.abc import Callable
from typing import Any

from .catalogue import CATALOGUE, HELD_OUT_CATALOGUE, KINDS, Tool
from .chat import Chat
from .exercises import draw as draw_exercise
from .invented import invented_tool, natural_tool, renamed
from .lexicon import Lexicon
from .text import agree, capitalized

ToolSource = Callable[[random.Random, Lexicon], Tool]


def catalogue_tool(rng: random.Random, lexicon: Lexicon) -> Tool:
    return rng.choice(CATALOGUE)


def held_out_tool(rng: random.Random, lexicon: Lexicon) -> Tool:
    return rng.choice(HELD_OUT_CATALOGUE)


def any_tool(rng: random.Random, lexicon: Lexicon) -> Tool:
    """A tool of the kinds that training sees: as in the catalogue, renamed, natural, or mechanical."""
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(CATALOGUE)
    if kind < 0.4:
        return renamed(rng, lexicon, rng.choice(CATALOGUE))
    return (natural_tool if kind < 0.75 else invented_tool)(rng, lexicon)


def _shown(rng: random.Random, lexicon: Lexicon, chosen: list[Tool], source: ToolSource) -> list[dict[str, Any]]:
    """The chosen tools among others, in any order, each name once."""
    tools = {tool.name: tool for tool in chosen}
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        other = (source if rng.random() < 0.5 else any_tool)(rng, lexicon)
        tools.setdefault(other.name, other)
    shown = list(tools.values())
    rng.shuffle(shown)
    return [tool.schema() for tool in shown]


_SYSTEMS = ("", "", "", "You are a helpful assistant.", "You are Gale. Use the tools when they help.",
            "You help in a house with many devices.", "Answer briefly.")


def _begin(rng: random.Random) -> Chat:
    chat, system = Chat(), rng.choice(_SYSTEMS)
    if system:
        chat.messages.append({"role": "system", "content": system})
    return chat


def _draw_values(rng: random.Random, lexicon: Lexicon, kinds: dict[str, str]) -> dict[str, Any]:
    return {name: KINDS[kind][1](rng, lexicon) for name, kind in kinds.items()}


def _result(rng: random.Random, lexicon: Lexicon, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the tool would answer: true where the truth can be known."""
    if tool.name == "calculate":
        left, sign, right = arguments["expression"].split()
        a, b = int(left), int(right)
        return {"value": {"+": a + b, "-": a - b, "*": a * b}[sign]}
    if tool.name == "random_number":
        return {"value": rng.randint(1, arguments["limit"])}
    return _draw_values(rng, lexicon, tool.result)


def call_chat(rng: random.Random, lexicon: Lexicon, turns: int | None = None,
              source: ToolSource = any_tool) -> Chat:
    """Requests that one of the listed tools fits: the call, its result, the reply.

    With `turns=0` the chat ends at its first call.
    """
    chat = _begin(rng)
    count = rng.choice((1, 1, 1, 2, 3)) if turns is None else max(turns, 1)
    chosen = [source(rng, lexicon) for _ in range(count)]
    by_name = {tool.name: tool for tool in chosen}
    chosen = [by_name[tool.name] for tool in chosen]
    chat.tools = _shown(rng, lexicon, chosen, source)
    for tool in chosen:
        arguments = _draw_values(rng, lexicon, tool.parameters)
        chat.user(agree(rng.choice(tool.requests).format(**arguments))).call(tool.name, arguments)
        if turns == 0:
            break
        result = _result(rng, lexicon, tool, arguments)
        chat.result(result).assistant(capitalized(agree(tool.reply.format(**{**arguments, **result}))))
    return chat


def no_call_chat(rng: random.Random, lexicon: Lexicon) -> Chat:
    """Tools are listed, but none fits: a plain answer, or a plain no."""
    chat = _begin(rng)
    offered = [any_tool(rng, lexicon) for _ in range(rng.randint(1, 3))]
    chat.tools = _shown(rng, lexicon, offered, any_tool)
    if rng.random() < 0.7:
        question, answer = draw_exercise(rng, lexicon)
        return chat.user(question).assistant(answer)
    names = {schema["function"]["name"] for schema in chat.tools}
    wanted = rng.choice([tool for tool in CATALOGUE if tool.name not in names])
    arguments = _draw_values(rng, lexicon, wanted.parameters)
    return (chat.user(agree(rng.choice(wanted.requests).format(**arguments)))
            .assistant("I am sorry, I have no tool for that."))
