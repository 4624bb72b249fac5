"""The curriculum: endless clean material in simple English, each document a function of its seed.

`document(seed)` gives the segments that training reads; `Lexicon(rng, "eval")` with the same functions
gives the evaluation's held-out cases. Needs nothing beyond the standard library.
"""

import random
from collections.abc import Callable

from .chat import Chat, Segment, render
from .drills import drill_chat
from .lexicon import Lexicon
from .passages import continue_chat, json_chat, json_list_chat, question_chat, story_chat, summary_chat
from .stories import tell
from .talk import add_system, exercise_chat, memory_chat, mixed_chat, naming_chat
from .tools import call_chat, no_call_chat

END_OF_TEXT = "<|endoftext|>"

# Each kind of chat and its share of the documents.
CHATS: list[tuple[Callable[[random.Random, Lexicon], Chat], int]] = [
    (question_chat, 28), (exercise_chat, 26), (call_chat, 26), (no_call_chat, 6), (json_chat, 16),
    (json_list_chat, 3), (story_chat, 8), (continue_chat, 2), (summary_chat, 4), (memory_chat, 6),
    (mixed_chat, 4), (naming_chat, 1)]
_FUNCTIONS, _SHARES = zip(*CHATS)
# Chats whose values have to be copied: most are told with odd words and names in some places, so that copying is
# the only way. Stories stay as they are.
_COPYING = {question_chat, call_chat, no_call_chat, json_chat, json_list_chat, memory_chat, drill_chat}
STORY_SHARE = 0.08  # documents that are a plain story instead of a chat
DRILL_SHARE = 0.15  # documents that are drills of copying


def rng_for(split: str, seed: int) -> random.Random:
    """The random numbers of one document; the splits never share a stream."""
    return random.Random(f"{split}/{seed}")


def document(seed: int, drill_share: float = DRILL_SHARE) -> list[Segment]:
    """The training document number `seed`: a chat or a plain story, closed by the end token."""
    rng = rng_for("train", seed)
    lexicon = Lexicon(rng, "train")
    drills = rng.random() < drill_share
    if not drills and rng.random() < STORY_SHARE:
        story = tell(rng, lexicon)
        lead = story.title + "\n\n" if rng.random() < 0.3 else ""
        return [(lead + story.text + END_OF_TEXT, True)]
    draw = drill_chat if drills else rng.choices(_FUNCTIONS, _SHARES)[0]
    if draw in _COPYING and rng.random() < 0.6:
        lexicon.wild = rng.choice((0.05, 0.2, 0.5, 0.75))
    chat = draw(rng, lexicon)
    if not chat.tools:
        add_system(rng, chat)
    return render(chat) + [(END_OF_TEXT, True)]
