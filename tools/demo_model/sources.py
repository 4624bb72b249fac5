"""The texts that training reads: which files, which are left out, and how a file becomes documents.

Run `python3 sources.py --corpus DIR` to list what is used, with `--eval DIR --pack FILE` to put it all
into one file. Used by `train_tokenizer.py`, `data.py` and `evaluate.py`.
"""

import argparse
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"

# Left out: first published after 1922, or a translation that may be, or a story collection of doubtful
# date. What remains was published before 1923 and is in the public domain in the United States.
EXCLUDED_BOOKS = {
    "Agatha_Christie_Poirot_Investigates", "Agatha_Christie_The_Man_in_the_Brown_Suit",
    "Agatha_Christie_The_Murder_on_the_Links", "Carlo_Collodi_The_Adventures_of_Pinocchio",
    "Gertrude_Chandler_Warner_The_Boxcar_Children", "H_G_Wells_Men_Like_Gods",
    "Herman_Hesse_Siddhartha", "Johnston_McCulley_The_Mark_of_Zorro",
    "Lucy_Maud_Montgomery_Christmas_Stories", "Lucy_Maud_Montgomery_Emily_of_New_Moon",
    "P_G_Wodehouse_Right_Ho_Jeeves", "P_G_Wodehouse_The_Inimitable_Jeeves", "Willa_Cather_A_Lost_Lady",
}


@dataclass(frozen=True)
class Group:
    """Files of one kind; `weight` is how often a document is read, relative to the other groups."""

    name: str
    pattern: str
    weight: float
    short_documents: bool  # a row of text holds several, in any order; else it is a window of a long one


GROUPS = [
    Group("children's books", "classic_books_children/*.txt", 1.3, False),
    Group("detective stories", "classic_books_plain/*.txt", 1.0, False),
    Group("novels", "classic_books_more/*.txt", 0.8, False),
    Group("fairy tales", "fairytaleqa/stories_train.txt", 1.5, False),
    Group("simple stories", "tinystories/*.txt", 2.0, True),
]
QUESTIONS = "fairytaleqa/qa_train.jsonl"
EVALUATION = ["fairytaleqa/stories_test.txt", "fairytaleqa/qa_test.jsonl",
              "tinystories_heldout/tinystories_heldout_cased.txt"]


def files(corpus: Path, group: Group) -> list[Path]:
    return [path for path in sorted(corpus.glob(group.pattern)) if path.stem not in EXCLUDED_BOOKS]


def documents(corpus: Path, group: Group) -> Iterator[str]:
    """The documents of a group, without the end token."""
    for path in files(corpus, group):
        for text in path.read_text(encoding="utf-8").split(END_OF_TEXT):
            if text.strip():
                yield text.strip()


def passage_questions(path: Path) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """FairytaleQA: a passage and its questions, each with one answer or two."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield record["section"], [
            (qa["question"], [qa[key] for key in ("answer", "answer_alt") if qa.get(key)])
            for qa in record["qas"]]


def pack(corpus: Path, evaluation: Path, names: list[str], out: Path) -> None:
    """Writes what is read of the named groups (none: of all), and nothing else, as `corpus/...` and `eval/...`.

    `out` becomes one .tar.xz file.
    """
    groups = [group for group in GROUPS if not names or group.name in names]
    with tarfile.open(out, "w:xz", preset=6) as archive:
        for path in [path for group in groups for path in files(corpus, group)] + [corpus / QUESTIONS]:
            archive.add(path, f"corpus/{path.relative_to(corpus)}")
        for name in EVALUATION:
            archive.add(evaluation / name, f"eval/{name}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--eval", type=Path, help="with --pack: the folder of the held-out texts")
    parser.add_argument("--pack", type=Path, help="write all texts into this .tar.xz file")
    parser.add_argument("--groups", nargs="*", choices=[group.name for group in GROUPS], default=[],
                        help="with --pack: only these groups' texts")
    arguments = parser.parse_args()
    if arguments.pack:
        return pack(arguments.corpus, arguments.eval, arguments.groups, arguments.pack)
    for group in GROUPS:
        texts = list(documents(arguments.corpus, group))
        print(f"{group.name}: {len(files(arguments.corpus, group))} files, {len(texts)} documents, "
              f"{sum(map(len, texts)) / 1e6:.1f} M characters, weight {group.weight}")
        for path in files(arguments.corpus, group):
            print(f"    {path.name}")


if __name__ == "__main__":
    main()
