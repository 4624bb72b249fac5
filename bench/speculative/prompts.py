#!/usr/bin/env python3
"""Prompts to measure speculation with, from texts that the bundled model was not trained on.

Usage: prompts.py STORIES [--count N] > prompts.jsonl

STORIES: plain text, stories apart by lines of "<|endoftext|>" (TinyStories' held-out part). Each kind
is drawn N times with a fixed seed: "copy" a story, "edit" one word of it, "summarize" it, go on with
its first sentences ("continue"), or "talk" about what is in none of them. One JSON line for each:
{"kind": ..., "chat": true | false, "prompt": ...}.
"""

import argparse
import json
import pathlib
import random
import re

COPY = ("Please copy this text exactly:\n\n{}", "Copy the following text.\n\n{}", "Say this again:\n{}")
EDIT = ('Replace the word "{}" with "{}" in this text.\n\n{}', "Change {} to {} in the following text:\n\n{}")
SUMMARIZE = ("Summarize this story in one sentence.\n\n{}", "Please summarize:\n\n{}")
TALK = ("Tell me a story about a {}.", "Tell me a story with a {} in it.", "Write a short story about a {}.")
WORDS = ("kettle", "lantern", "otter", "bridge", "violin", "snail", "window", "pumpkin", "sailor", "mitten",
         "acorn", "ladder", "beetle", "harbour", "pillow", "shepherd", "candle", "raven", "orchard", "wagon")


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(text.split()))


def draw(kind: str, story: str, rng: random.Random) -> tuple[bool, str]:
    """Whether it is a user's message, and the text."""
    whole = sentences(story)
    part = " ".join(whole[: rng.randint(3, 8)])
    if kind == "copy":
        return True, rng.choice(COPY).format(part)
    if kind == "edit":
        old = rng.choice(sorted(set(re.findall(r"[A-Za-z]{3,}", part))))
        return True, rng.choice(EDIT).format(old, rng.choice(WORDS), part)
    if kind == "summarize":
        return True, rng.choice(SUMMARIZE).format(story.strip())
    if kind == "continue":
        return False, " ".join(whole[:2])
    return True, rng.choice(TALK).format(rng.choice(WORDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stories", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=40)
    arguments = parser.parse_args()
    stories = [s for s in arguments.stories.read_text().split("<|endoftext|>") if 40 < len(s.split()) < 250]
    rng = random.Random(20)
    for kind in ("copy", "edit", "summarize", "continue", "talk"):
        for _ in range(arguments.count):
            chat, prompt = draw(kind, rng.choice(stories), rng)
            print(json.dumps({"kind": kind, "chat": chat, "prompt": prompt}))


if __name__ == "__main__":
    main()
