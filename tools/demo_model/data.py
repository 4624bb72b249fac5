"""Batches for training: windows of text and packed curriculum documents, made by worker processes.

A block is a number of rows of 2,049 token ids with the mask of those to be learned. Used by `build.py`.
"""

import multiprocessing
import os
import queue
import random
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

import curriculum
import sources
from curriculum.chat import Chat, Segment, render
from curriculum.lexicon import learn_vocabulary
from curriculum.passages import as_reply
from curriculum.talk import add_system

ROW_TOKENS = 2049  # 2,048 inputs and the target of the last
TEXT_SHARE = 0.1  # rows that are text: at 1 B tokens, most texts are read five to eight times
PASSAGE_SHARE = 0.02  # curriculum documents taken from FairytaleQA instead
EARLY_DRILLS, EARLY_ROWS = 0.4, 64_000  # share of drills at the start, and the rows over which it falls to normal
KEPT_BLOCKS = 512  # blocks that may be read again while the workers are behind

Block = tuple[np.ndarray, np.ndarray]  # ids and mask, both [rows, ROW_TOKENS]


@dataclass
class TextGroup:
    """All documents of a group as one stream of ids, and where each begins."""

    ids: np.ndarray
    starts: np.ndarray
    short_documents: bool

    def row(self, rng: random.Random) -> np.ndarray:
        """A window from anywhere, or short documents one after another, the last one cut."""
        if not self.short_documents:
            start = rng.randrange(len(self.ids) - ROW_TOKENS)
            return self.ids[start : start + ROW_TOKENS]
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < ROW_TOKENS:
            index = rng.randrange(len(self.starts) - 1)
            parts.append(self.ids[self.starts[index] : self.starts[index + 1]])
        return np.concatenate(parts)[:ROW_TOKENS]


def write_ids(corpus: Path, tokenizer_file: Path, cache: Path) -> None:
    """Tokenizes the text groups once, for all workers to map into memory."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    end = tokenizer.token_to_id(sources.END_OF_TEXT)
    cache.mkdir(parents=True, exist_ok=True)
    for index, group in enumerate(sources.GROUPS):
        encoded = tokenizer.encode_batch_fast(list(sources.documents(corpus, group)))
        if not encoded:
            continue  # a pack without this group
        parts = [np.array(one.ids + [end], dtype=np.uint16) for one in encoded]
        np.save(cache / f"ids{index}.npy", np.concatenate(parts))
        np.save(cache / f"starts{index}.npy", np.cumsum([0] + [len(part) for part in parts]))


def read_groups(cache: Path) -> tuple[list[TextGroup], list[float]]:
    """The text groups as ids, and the chance of each to give a row."""
    present = [(index, group) for index, group in enumerate(sources.GROUPS) if (cache / f"ids{index}.npy").exists()]
    groups = [TextGroup(np.load(cache / f"ids{index}.npy", mmap_mode="r"),
                        np.load(cache / f"starts{index}.npy"), group.short_documents)
              for index, group in present]
    return groups, [len(text.ids) * group.weight for text, (_, group) in zip(groups, present)]


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
    """Makes rows for one worker of `workers`."""

    def __init__(self, corpus: Path, tokenizer_file: Path, cache: Path, worker: int, workers: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer_file))
        learn_vocabulary(self.tokenizer.get_vocab())
        self.end = self.tokenizer.token_to_id(sources.END_OF_TEXT)
        self.groups, self.weights = read_groups(cache)
        self.passages = list(sources.passage_questions(corpus / sources.QUESTIONS))
        self.rng = random.Random(f"rows/{worker}")
        self.seed, self.workers, self.rows = worker, workers, 0
        self.pending: tuple[list[int], list[bool]] = ([], [])

    def _document(self) -> tuple[list[int], list[bool]]:
        """The ids of the next document and which of them are learned."""
        if self.rng.random() < PASSAGE_SHARE:
            segments = passage_document(self.rng, self.passages)
        else:
            early = max(0.0, 1 - self.rows * self.workers / EARLY_ROWS)
            drills = curriculum.DRILL_SHARE + early * (EARLY_DRILLS - curriculum.DRILL_SHARE)
            segments = curriculum.document(self.seed, drills)
            self.seed += self.workers
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

    def block(self, rows: int) -> Block:
        ids = np.empty((rows, ROW_TOKENS), dtype=np.uint16)
        learned = np.ones((rows, ROW_TOKENS), dtype=bool)
        for row in range(rows):
            if self.rng.random() < TEXT_SHARE:
                ids[row] = self.rng.choices(self.groups, self.weights)[0].row(self.rng)
            else:
                ids[row], learned[row] = self._packed()
            self.rows += 1
        return ids, learned


def _work(made: "multiprocessing.Queue[Block]", failed: "multiprocessing.Queue[str]", rows: int, *maker: Any) -> None:
    try:
        row_maker = RowMaker(*maker)
        while True:
            made.put(row_maker.block(rows))
    except Exception:
        failed.put(f"worker {maker[-2]}:\n{traceback.format_exc()}")


class Feed(Iterator[Block]):
    """Endless blocks of `rows` rows from `workers` processes; one that fails ends the run with its traceback.

    When the workers are behind, an earlier block is read again rather than keeping the device waiting.
    """

    def __init__(self, corpus: Path, tokenizer_file: Path, cache: Path, rows: int, workers: int) -> None:
        write_ids(corpus, tokenizer_file, cache)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # inherited: a worker tokenizes on its own core
        context = multiprocessing.get_context("spawn")
        self.made, self.failed = context.Queue(maxsize=6 * workers), context.Queue()
        self.processes = [context.Process(target=_work, daemon=True, args=(
            self.made, self.failed, rows, corpus, tokenizer_file, cache, worker, workers)) for worker in range(workers)]
        for process in self.processes:
            process.start()
        self.rng = random.Random(1)
        self.kept: list[Block] = []
        self.fresh = self.repeated = 0

    def check(self) -> None:
        """Raises when a worker has failed or is gone."""
        gone = [process for process in self.processes if process.exitcode is not None]
        try:
            report = self.failed.get(timeout=1) if gone else self.failed.get_nowait()
        except queue.Empty:
            if not gone:
                return
            report = f"{gone[0].name} ended with exit code {gone[0].exitcode}"
        self.close()
        raise RuntimeError(f"a data worker failed: {report}")

    def __next__(self) -> Block:
        start = time.monotonic()
        while True:
            self.check()
            try:
                block = self.made.get(timeout=0.02)
            except queue.Empty:
                if time.monotonic() - start > 300:
                    raise RuntimeError("no data for 300 s") from None
                if self.fresh < 100:  # at the start there is nothing worth repeating
                    continue
                self.repeated += 1
                return self.rng.choice(self.kept)
            self.fresh += 1
            if len(self.kept) < KEPT_BLOCKS:
                self.kept.append(block)
            else:
                self.kept[self.fresh % KEPT_BLOCKS] = block
            return block

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
