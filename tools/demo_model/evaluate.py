"""Measures a checkpoint folder: exercises, FairytaleQA, bits per byte, and the draft's agreement.

    python3 evaluate.py --model DIR [--draft DIR] [--eval DIR] [--count 300] [--out figures.json]

Greedy decoding through `transformers`, which knows nothing of this project. Exercises come from seeds that
training never draws: once with names, cities and operands that it never draws either ("unseen"), once with
those it does ("known"), once with odd words of all kinds in every place ("odd words"). --eval is a folder
with the test files of FairytaleQA and held-out TinyStories. Prints a table and, with --out, adds the figures
to a JSON file after each part, so that a run cut short keeps what it has.
"""

import argparse
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

import sources
from curriculum import exercises, passages, rng_for, tools
from curriculum.catalogue import CATALOGUE
from curriculum.chat import Chat, prompt_text, reply_text
from curriculum.lexicon import Lexicon
from tasks import FLOORS, IN_ALL_SPLITS, SPLITS, TASKS, Task, exercise

CONTEXT = 2048
BATCH_TOKENS = 2**18  # of the prompts of a batch, padded
TASKS_PER_PART = 7


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
        self.batch = 512 if self.device == "cuda" else 16
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(self.device)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.stops = [self.tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]

    def _batches(self, order: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Runs of `order` that fit: at most `batch` rows, and not too many tokens with their padding."""
        batch: list[int] = []
        width = 0
        for index in order:
            width = max(width, lengths[index])
            if batch and (len(batch) == self.batch or (len(batch) + 1) * width > BATCH_TOKENS):
                yield batch
                batch, width = [], lengths[index]
            batch.append(index)
        if batch:
            yield batch

    @torch.no_grad()
    def replies(self, cases: list[Case]) -> list[Reply]:
        """Greedy replies, in the order of the cases."""
        ids = [self.tokenizer.encode(case.prompt).ids for case in cases]
        order = sorted(range(len(cases)), key=lambda index: (cases[index].max_tokens, len(ids[index])))
        found: dict[int, Reply] = {}
        for chosen in self._batches(order, [len(one) for one in ids]):
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


def exercise_figures(subject: Subject, tasks: list[Task], split: str, count: int, failures: int) -> dict[str, Any]:
    """Share of right replies of each task, and of replies that end by themselves."""
    cases: list[Case] = []
    for name, draw, _ in tasks:
        for seed in range(count):
            rng = rng_for(f"eval/{name}", seed)
            cases.append(chat_case(draw(rng, Lexicon(rng, *SPLITS[split]))))
    replies = subject.replies(cases)  # of all tasks together: the batches are fuller
    figures: dict[str, float] = {}
    for index, (name, _, accepts) in enumerate(tasks):
        pairs = list(zip(cases, replies))[index * count : (index + 1) * count]
        wrong = [(case, reply) for case, reply in pairs if not accepts(reply.text, case.expected)]
        figures[name] = 1 - len(wrong) / count
        print(f"{name + ', ' + split:55s} {100 * figures[name]:6.1f} %", flush=True)
        for case, reply in wrong[:failures]:
            print(f"    {case.prompt[-160:]!r}\n      wanted {case.expected!r}\n      got    {reply.text!r}")
    ended = sum(reply.stopped for reply in replies) / max(1, len(replies))
    print(f"{'stopped by itself':55s} {100 * ended:6.1f} %", flush=True)
    return {"cases": count, "floors": FLOORS, "exact": {split: figures}, "stopped": {split: ended}}


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles, as question answering scores it."""
    return [word for word in re.sub(r"[^\w\s]", "", text.lower()).split() if word not in ("a", "an", "the")]


def f1(reply: str, answer: str) -> float:
    got, wanted = _words(reply), _words(answer)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 2 * common / (len(got) + len(wanted)) if common else 0.0


def fairytale_f1(subject: Subject, path: Path, limit: int) -> dict[str, float]:
    """Mean token F1 of at most `limit` questions, spread over the file, whose passages fit the context.

    Against the nearer of two answers.
    """
    cases, wanted = [], []
    for passage, questions in sources.passage_questions(path):
        for question, answers in questions:
            chat = Chat().user(f"Read the story and answer the question.\n\n{passage}\n\nQuestion: {question}")
            prompt = prompt_text(chat.assistant(""))
            if len(subject.tokenizer.encode(prompt).ids) < CONTEXT - 48:
                cases.append(Case(prompt, "", 48))
                wanted.append(answers)
    stride = max(1, math.ceil(len(cases) / limit))
    cases, wanted = cases[::stride], wanted[::stride]
    total = sum(max(f1(reply.text, answer) for answer in answers)
                for reply, answers in zip(subject.replies(cases), wanted))
    return {"f1": total / len(cases), "questions": len(cases)}


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
             "tool calls": tools.call_chat, "copying": exercise(exercises.copy)}
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


def samples(subject: Subject) -> dict[str, Any]:
    """Greedy replies to fixed requests, and the continuation of a story's first words."""
    beginning = "Once upon a time"
    asked = {beginning: Case(beginning, "", 120)}
    for request in ("Hello!", "Who are you?", "Tell me a story about a dragon.", "What is 47 + 38?",
                    "Extract name, age and city as JSON.\n\nOliver is 34 years old and lives in Paris."):
        asked[request.replace("\n\n", " ")] = Case(prompt_text(Chat().user(request).assistant("")), "", 320)
    request = "Start a timer for 12 minutes."
    timer = next(tool.schema() for tool in CATALOGUE if tool.name == "set_timer")
    asked[f"{request} (with the tool set_timer)"] = Case(prompt_text(Chat(tools=[timer]).user(request).assistant("")), "", 64)
    replies = subject.replies(list(asked.values()))
    return {"samples": [{"asked": request, "answered": reply.text + ("" if reply.stopped else " [...]")}
                        for request, reply in zip(asked, replies)]}


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds `more` to `into`, tables within tables too."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def parts(arguments: argparse.Namespace, subject: Subject) -> list[Callable[[], dict[str, Any]]]:
    """The measurements, those that matter most first."""
    chosen = [task for task in TASKS if re.search(arguments.tasks, task[0])]
    floors = [task for task in chosen if task[0] in FLOORS]
    both = [task for task in chosen if task[0] in IN_ALL_SPLITS]
    others = [task for task in chosen if task[0] not in FLOORS]
    found: list[Callable[[], dict[str, Any]]] = []

    def exercises_of(tasks: list[Task], split: str) -> None:
        if tasks and split in arguments.splits:
            found.append(lambda: exercise_figures(subject, tasks, split, arguments.count, arguments.failures))

    exercises_of(floors, "unseen")
    exercises_of(both, "known")
    if arguments.eval:
        found.append(lambda: samples(subject))
        tales, stories = arguments.eval / sources.EVALUATION[0], arguments.eval / sources.EVALUATION[2]
        found.append(lambda: {"bits_per_byte": {"held-out tales": bits_per_byte(subject, tales),
                                                "held-out simple stories": bits_per_byte(subject, stories)}})
    for first in range(0, len(others), TASKS_PER_PART):
        exercises_of(others[first : first + TASKS_PER_PART], "unseen")
    exercises_of(both, "odd words")
    if arguments.eval:
        found.append(lambda: {"fairytaleqa": fairytale_f1(
            subject, arguments.eval / sources.EVALUATION[1], arguments.questions)})
    if arguments.draft:
        found.append(lambda: {"draft_agreement": draft_agreement(
            subject, Subject(arguments.draft), min(arguments.count, 60))})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--count", type=int, default=300, help="cases of each task")
    parser.add_argument("--tasks", default="", help="only tasks whose name this pattern matches")
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS))
    parser.add_argument("--questions", type=int, default=10_000, help="FairytaleQA questions at most")
    parser.add_argument("--failures", type=int, default=0, help="wrong replies to show of each task")
    parser.add_argument("--out", type=Path, help="JSON file that the figures are added to")
    arguments = parser.parse_args()
    start = time.monotonic()
    figures: dict[str, Any] = {}
    if arguments.out and arguments.out.exists():
        figures = json.loads(arguments.out.read_text())
    for part in parts(arguments, Subject(arguments.model)):
        more = part()
        for name in more.keys() - {"exact", "floors", "stopped", "cases", "samples"}:
            print(name, json.dumps(more[name]), flush=True)
        merge(figures, more)
        if arguments.out:
            whole = arguments.out.with_suffix(".new")  # renamed, so that a reader never finds half a file
            whole.write_text(json.dumps(figures, indent=2) + "\n")
            whole.replace(arguments.out)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
