"""Batches for training: windows of text and packed curriculum documents, made by worker processes.

A block is a number of rows of 2,049 token ids with the mask of those to be learned. Which rows a worker
makes depends on its number alone, and blocks are taken in turn, so a run's data is reproducible. Used
by `train.py`.
"""

import multiprocessing
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import curriculum
import sources
from curriculum.chat import Chat, Segment, render
from curriculum.lexicon import add_wild_words
from curriculum.passages import as_reply
from curriculum.talk import add_system

ROW_TOKENS = 2049  # 2,048 inputs and the target of the last
TEXT_SHARE = 0.3  # rows that are windows of text
PASSAGE_SHARE = 0.06  # curriculum documents taken from FairytaleQA instead

_WHOLE_WORD = re.compile("Ġ[A-Za-z]{3,}")  # a token that is a word with its space


@dataclass
class TextGroup:
    """All documents of a group as one stream of ids, and where each begins."""

    ids: np.ndarray
    starts: np.ndarray
    whole_documents: bool

    def window(self, rng: random.Random) -> np.ndarray:
        last = len(self.ids) - ROW_TOKENS
        start = rng.randrange(last)
        if self.whole_documents:
            start = min(int(self.starts[rng.randrange(len(self.starts))]), last)
        return self.ids[start : start + ROW_TOKENS]


def write_ids(corpus: Path, tokenizer_file: Path, cache: Path) -> None:
    """Tokenizes the text groups once, for all workers to map into memory."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    end = tokenizer.token_to_id(sources.END_OF_TEXT)
    cache.mkdir(parents=True, exist_ok=True)
    for index, group in enumerate(sources.GROUPS):
        encoded = tokenizer.encode_batch_fast(list(sources.documents(corpus, group)))
        parts = [np.array(one.ids + [end], dtype=np.uint16) for one in encoded]
        np.save(cache / f"ids{index}.npy", np.concatenate(parts))
        np.save(cache / f"starts{index}.npy", np.cumsum([0] + [len(part) for part in parts[:-1]]))


def read_groups(cache: Path) -> tuple[list[TextGroup], list[float]]:
    """The text groups as ids, and the chance of each to give a row."""
    groups = [TextGroup(np.load(cache / f"ids{index}.npy", mmap_mode="r"),
                        np.load(cache / f"starts{index}.npy"), group.whole_documents)
              for index, group in enumerate(sources.GROUPS)]
    return groups, [len(text.ids) * group.weight for text, group in zip(groups, sources.GROUPS)]


def passage_document(rng: random.Random, passages: list[tuple[str, list[tuple[str, list[str]]]]]) -> list[Segment]:
    """A FairytaleQA passage with one to four of its questions, as a chat."""
    passage, questions = rng.choice(passages)
    chat = Chat()
    for question, answers in rng.sample(questions, min(len(questions), rng.randint(1, 4))):
        reply = as_reply(answers[0].rstrip(" ."))
        chat.user(question if chat.messages else
                  f"Read the story and answer the question.\n\n{passage}\n\nQuestion: {question}")
        chat.assistant(reply)
    return render(add_system(rng, chat)) + [(sources.END_OF_TEXT, True)]


class RowMaker:
    """Makes rows for one worker."""

    def __init__(self, corpus: Path, tokenizer_file: Path, cache: Path, worker: int, workers: int,
                 first_seed: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer_file))
        add_wild_words([token[1:] for token in self.tokenizer.get_vocab() if _WHOLE_WORD.fullmatch(token)])
        self.end = self.tokenizer.token_to_id(sources.END_OF_TEXT)
        self.groups, self.weights = read_groups(cache)
        self.passages = list(sources.passage_questions(corpus / "fairytaleqa" / "qa_train.jsonl"))
        self.rng = random.Random(f"rows/{first_seed}/{worker}")
        self.seed, self.seed_step = first_seed + worker, workers
        self.pending: tuple[list[int], list[bool]] = ([], [])

    def _document(self) -> tuple[list[int], list[bool]]:
        """The ids of the next document and which of them are learned."""
        if self.rng.random() < PASSAGE_SHARE:
            segments = passage_document(self.rng, self.passages)
        else:
            segments = curriculum.document(self.seed)
            self.seed += self.seed_step
        ids: list[int] = []
        learned: list[bool] = []
        for (_, learn), part in zip(segments, self.tokenizer.encode_batch_fast([text for text, _ in segments])):
            ids += part.ids
            learned += [learn] * len(part.ids)
        return ids[:ROW_TOKENS], learned[:ROW_TOKENS]

    def _packed(self) -> tuple[list[int], list[bool]]:
        """Whole documents, as many as fit; what is left over is padding."""
        ids, learned = self.pending
        while True:
            more = self._document()
            if len(ids) + len(more[0]) > ROW_TOKENS:
                self.pending = more
                rest = ROW_TOKENS - len(ids)
                return ids + [self.end] * rest, learned + [False] * rest
            ids, learned = ids + more[0], learned + more[1]

    def block(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask, both [rows, ROW_TOKENS]."""
        ids = np.empty((rows, ROW_TOKENS), dtype=np.uint16)
        learned = np.ones((rows, ROW_TOKENS), dtype=bool)
        for row in range(rows):
            if self.rng.random() < TEXT_SHARE:
                ids[row] = self.rng.choices(self.groups, self.weights)[0].window(self.rng)
            else:
                ids[row], learned[row] = self._packed()
        return ids, learned


def _work(queue: "multiprocessing.Queue[tuple[np.ndarray, np.ndarray]]", rows: int, *maker: object) -> None:
    rows_maker = RowMaker(*maker)  # type: ignore[arg-type]
    while True:
        queue.put(rows_maker.block(rows))


def blocks(corpus: Path, tokenizer_file: Path, cache: Path, rows: int, workers: int,
           first_seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless blocks of `rows` rows from `workers` processes, each in turn."""
    write_ids(corpus, tokenizer_file, cache)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # inherited: a worker tokenizes on its own core
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=6) for _ in range(workers)]
    for worker, queue in enumerate(queues):
        context.Process(target=_work, daemon=True, args=(
            queue, rows, corpus, tokenizer_file, cache, worker, workers, first_seed)).start()
    while True:
        for queue in queues:
            yield queue.get(timeout=300)  # a worker that died must end the run, not stall it
