"""Measures a checkpoint folder: held-out exercises, fairytaleqa, bits per byte, and the draft's agreement.

    python3 evaluate.py --model DIR [--draft DIR] [--eval DIR] [--count 400] [--out figures.json]

Greedy decoding through `transformers`, which knows nothing of this project. Exercises come from seeds,
names, cities and operands that training never draws; --eval is a folder with the test files of
FairytaleQA and held-out TinyStories. Prints a table and, with --out, writes JSON.
"""

import argparse
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

import sources
from curriculum import exercises, passages, rng_for, talk, tools
from curriculum.chat import Chat, prompt_text, reply_text
from curriculum.lexicon import Lexicon

CONTEXT = 2048


@dataclass
class Case:
    prompt: str
    expected: str
    max_tokens: int


@dataclass
class Reply:
    text: str
    ids: list[int]
    stopped: bool


class Subject:
    """A checkpoint and its tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        self.batch = 512 if self.device == "cuda" else 16
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(self.device)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.stops = [self.tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]

    @torch.no_grad()
    def replies(self, cases: list[Case]) -> list[Reply]:
        """Greedy replies, in the order of the cases."""
        ids = [self.tokenizer.encode(case.prompt).ids for case in cases]
        order = sorted(range(len(cases)), key=lambda index: (cases[index].max_tokens, len(ids[index])))
        found: dict[int, Reply] = {}
        for first in range(0, len(order), self.batch):
            chosen = order[first : first + self.batch]
            width = max(len(ids[index]) for index in chosen)
            padded = [[self.stops[1]] * (width - len(ids[index])) + ids[index] for index in chosen]
            mask = [[0] * (width - len(ids[index])) + [1] * len(ids[index]) for index in chosen]
            output = self.model.generate(
                input_ids=torch.tensor(padded, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device), do_sample=False,
                temperature=None, top_p=None, top_k=None, eos_token_id=self.stops, pad_token_id=self.stops[1],
                max_new_tokens=min(max(cases[index].max_tokens for index in chosen), CONTEXT - width))
            for index, row in zip(chosen, output[:, width:].tolist()):
                end = next((at for at, token in enumerate(row) if token in self.stops), None)
                written = row if end is None else row[:end]
                text = self.tokenizer.decode(written, skip_special_tokens=False)
                found[index] = Reply(text, written, end is not None)
        return [found[index] for index in range(len(cases))]

    @torch.no_grad()
    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([ids], device=self.device)).logits[0].float()


def chat_case(chat: Chat) -> Case:
    """The last reply of a chat as a case; the limit leaves room for a wrong, longer one."""
    expected = reply_text(chat.messages[-1])
    return Case(prompt_text(chat), expected, min(32 + len(expected) // 2, 64 + len(expected) // 3))


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


def _exercise(draw: Callable[..., exercises.Exercise]) -> Callable[..., Chat]:
    """A chat of one exercise."""
    def chat(rng: Any, lexicon: Lexicon) -> Chat:
        question, answer = draw(rng, lexicon)
        return Chat().user(question).assistant(answer)
    return chat


# Figure, how a case is drawn, and when a reply counts.
TASKS: list[tuple[str, Callable[..., Chat], Callable[[str, str], bool]]] = [
    ("passage questions", lambda r, x: passages.question_chat(r, x, turns=1), same_text),
    ("passage questions, fourth of a chat", lambda r, x: passages.question_chat(r, x, turns=4), same_text),
    ("two-digit sums", _exercise(exercises.two_digit_sum), same_text),
    ("calculations", _exercise(exercises.calculation), same_text),
    ("word problems", _exercise(exercises.word_problem), same_text),
    ("tool calls", lambda r, x: tools.call_chat(r, x, turns=0, source=tools.catalogue_tool), same_call),
    ("tool calls, renamed and invented tools", lambda r, x: tools.call_chat(r, x, turns=0), same_call),
    ("tool calls, tools and requests never seen",
     lambda r, x: tools.call_chat(r, x, turns=0, source=tools.held_out_tool), same_call),
    ("replies to a tool's result", lambda r, x: tools.call_chat(r, x, turns=1), same_text),
    ("no tool fits", tools.no_call_chat, same_text),
    ("JSON extraction", passages.json_chat, same_json),
    ("JSON lists", passages.json_list_chat, same_json),
    ("copying", _exercise(exercises.copy), same_text),
    ("replacing a word", _exercise(exercises.replace_word), same_text),
    ("counting", _exercise(exercises.counting), same_text),
    ("listing", _exercise(exercises.listing), same_text),
    ("sorting", _exercise(exercises.sorting), same_text),
    ("picking and counting", _exercise(exercises.picking), same_text),
    ("comparing numbers", _exercise(exercises.comparison), same_text),
    ("capitals", _exercise(exercises.upper_case), same_text),
    ("word knowledge", _exercise(exercises.word_knowledge), same_text),
    ("summaries", passages.summary_chat, same_text),
    ("memory of a chat", talk.memory_chat, same_text),
]


def exercise_figures(subject: Subject, count: int, failures: int, only: str, split: str) -> dict[str, float]:
    """Share of right replies of each task, and of replies that end by themselves."""
    chosen = [task for task in TASKS if re.search(only, task[0])]
    cases: list[Case] = []
    for name, draw, _ in chosen:
        for seed in range(count):
            rng = rng_for(f"eval/{name}", seed)
            cases.append(chat_case(draw(rng, Lexicon(rng, split))))
    replies = subject.replies(cases)  # of all tasks together: the batches are fuller
    figures: dict[str, float] = {}
    for index, (name, _, accepts) in enumerate(chosen):
        pairs = list(zip(cases, replies))[index * count : (index + 1) * count]
        wrong = [(case, reply) for case, reply in pairs if not accepts(reply.text, case.expected)]
        figures[name] = 1 - len(wrong) / count
        print(f"{name:42s} {100 * figures[name]:6.1f} %", flush=True)
        for case, reply in wrong[:failures]:
            print(f"    {case.prompt[-160:]!r}\n      wanted {case.expected!r}\n      got    {reply.text!r}")
    figures["stopped by itself"] = sum(reply.stopped for reply in replies) / max(1, len(replies))
    print(f"{'stopped by itself':42s} {100 * figures['stopped by itself']:6.1f} %", flush=True)
    return figures


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles, as question answering scores it."""
    return [word for word in re.sub(r"[^\w\s]", "", text.lower()).split() if word not in ("a", "an", "the")]


def f1(reply: str, answer: str) -> float:
    got, wanted = _words(reply), _words(answer)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 2 * common / (len(got) + len(wanted)) if common else 0.0


def fairytale_f1(subject: Subject, path: Path, limit: int) -> float:
    """Mean token F1, against the nearer of the answers, where the passage fits the context."""
    cases, wanted = [], []
    for passage, questions in sources.passage_questions(path):
        for question, answers in questions:
            chat = Chat().user(f"Read the story and answer the question.\n\n{passage}\n\nQuestion: {question}")
            prompt = prompt_text(chat.assistant(""))
            if len(subject.tokenizer.encode(prompt).ids) < CONTEXT - 48:
                cases.append(Case(prompt, "", 48))
                wanted.append(answers)
    cases, wanted = cases[:limit], wanted[:limit]
    replies = subject.replies(cases)
    return sum(max(f1(reply.text, answer) for answer in answers)
               for reply, answers in zip(replies, wanted)) / len(cases)


def bits_per_byte(subject: Subject, path: Path) -> float:
    """Over all documents of a file, in windows of the context's length, each from its own start."""
    nats = num_bytes = 0.0
    for text in path.read_text(encoding="utf-8").split(sources.END_OF_TEXT):
        text = text.strip()
        if not text:
            continue
        ids = [subject.stops[1]] + subject.tokenizer.encode(text).ids
        num_bytes += len(text.encode())
        for first in range(0, len(ids) - 1, CONTEXT):
            window = ids[first : first + CONTEXT + 1]
            logits = subject.logits(window[:-1])
            target = torch.tensor(window[1:], device=logits.device)
            nats += torch.nn.functional.cross_entropy(logits, target, reduction="sum").item()
    return nats / math.log(2) / num_bytes


def draft_agreement(subject: Subject, draft: Subject, count: int) -> dict[str, float]:
    """How often the draft's first choice is the model's, along the model's own greedy replies."""
    kinds = {"stories": passages.story_chat, "passage questions": passages.question_chat,
             "tool calls": tools.call_chat, "copying": _exercise(exercises.copy)}
    cases, names = [], []
    for name, draw in kinds.items():
        for seed in range(count):
            rng = rng_for(f"eval/draft/{name}", seed)
            chat = draw(rng, Lexicon(rng, "eval"))
            first = next(at for at, message in enumerate(chat.messages) if message["role"] == "assistant")
            cases.append(Case(prompt_text(Chat(chat.messages[: first + 1], chat.tools)), "", 256))
            names.append(name)
    same, total = Counter[str](), Counter[str]()
    for name, case, reply in zip(names, cases, subject.replies(cases)):
        before = subject.tokenizer.encode(case.prompt).ids
        written = reply.ids + ([subject.stops[0]] if reply.stopped else [])
        guesses = draft.logits(before + written[:-1])[len(before) - 1 :].argmax(-1).tolist()
        same[name] += sum(guess == token for guess, token in zip(guesses, written))
        total[name] += len(written)
    return {name: same[name] / total[name] for name in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--count", type=int, default=400, help="cases of each task")
    parser.add_argument("--tasks", default="", help="only tasks whose name this pattern matches")
    parser.add_argument("--known-values", action="store_true",
                        help="new seeds, but names, cities and operands that training draws too")
    parser.add_argument("--questions", type=int, default=10_000, help="FairytaleQA questions at most")
    parser.add_argument("--failures", type=int, default=0, help="wrong replies to show of each task")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    start = time.monotonic()
    subject = Subject(arguments.model)
    figures: dict[str, Any] = {"count": arguments.count, "exact": exercise_figures(
        subject, arguments.count, arguments.failures, arguments.tasks,
        "train" if arguments.known_values else "eval")}
    if arguments.eval:
        figures["bits_per_byte"] = {
            "held-out tales (fairytaleqa test)": bits_per_byte(
                subject, arguments.eval / "fairytaleqa" / "stories_test.txt"),
            "held-out simple stories": bits_per_byte(
                subject, arguments.eval / "tinystories_heldout" / "tinystories_heldout_cased.txt")}
        figures["fairytaleqa_f1"] = fairytale_f1(subject, arguments.eval / "fairytaleqa" / "qa_test.jsonl", arguments.questions)
    if arguments.draft:
        figures["draft_agreement"] = draft_agreement(subject, Subject(arguments.draft), min(arguments.count, 60))
    for name in ("bits_per_byte", "fairytaleqa_f1", "draft_agreement"):
        print(name, json.dumps(figures.get(name)))
    print(f"{time.monotonic() - start:.0f} s")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
