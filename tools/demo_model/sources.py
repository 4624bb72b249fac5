"""The texts that training reads: which files, which are left out, and how a file becomes documents.

Run `python3 sources.py --corpus DIR` to list what is used. Called by `train_tokenizer.py` and `train.py`.
"""

import argparse
import json
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
    whole_documents: bool  # windows begin at a document's start (short texts), not anywhere (books)


GROUPS = [
    Group("children's books", "classic_books_children/*.txt", 2.0, False),
    Group("detective stories", "classic_books_plain/*.txt", 1.5, False),
    Group("novels", "classic_books_more/*.txt", 1.0, False),
    Group("fairy tales", "fairytaleqa/stories_train.txt", 2.0, True),
    Group("simple stories", "tinystories/*.txt", 2.5, True),
]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    corpus = parser.parse_args().corpus
    for group in GROUPS:
        texts = list(documents(corpus, group))
        print(f"{group.name}: {len(files(corpus, group))} files, {len(texts)} documents, "
              f"{sum(map(len, texts)) / 1e6:.1f} M characters, weight {group.weight}")
        for path in files(corpus, group):
            print(f"    {path.name}")


if __name__ == "__main__":
    main()
