"""Model cards: the texts in `card_templates/` filled with measured figures, so that none is typed by hand.

    python3 cards.py --figures figures.json --out DIR

Writes main.md and draft.md. What was not measured is said to be so. Used by `build.py`; standard library only.
"""

import argparse
import json
from pathlib import Path
from string import Template
from typing import Any

TEMPLATES = Path(__file__).with_name("card_templates")
NOT_MEASURED = "not measured"
Figures = dict[str, Any]


def percent(share: float | None) -> str:
    return NOT_MEASURED if share is None else f"{100 * share:.1f} %"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, or a word that there is none."""
    if not rows:
        return f"({NOT_MEASURED})"
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def training_text(training: Figures, model: str) -> str:
    run = training.get(model)
    if not run:
        return "(The run's figures are missing.)"
    return (f"{run['steps']:,} steps, {run['tokens'] / 1e6:,.0f} M tokens in {run['seconds']:.0f} s on one "
            f"{training['device']}; last training loss {run['last_loss']:.3f}; {percent(run['repeated_blocks'])} of the "
            "batches were repeats.")


def exact_table(figures: Figures) -> str:
    """Tasks by splits, the ones with an aim first."""
    exact, floors = figures.get("exact", {}), figures.get("floors", {})
    splits = list(exact)
    tasks = list(dict.fromkeys([*floors, *(task for split in splits for task in exact[split])]))
    rows = []
    for task in tasks:
        shares = [exact[split].get(task) for split in splits]
        if all(share is None for share in shares):
            continue
        aim = f"{100 * floors[task]:.0f} %" if task in floors else ""
        rows.append([task, *(percent(share) if share is not None else "" for share in shares), aim])
    return table(["task, exact", *splits, "aim (unseen)"], rows)


def missed(figures: Figures) -> list[str]:
    """The tasks whose aim is not reached, or not measured."""
    found = figures.get("exact", {}).get("unseen", {})
    return [task for task, floor in figures.get("floors", {}).items() if found.get(task, 0.0) < floor]


def texts_table(figures: Figures) -> str:
    rows = [[name, f"{value:.3f} bits per byte"] for name, value in figures.get("bits_per_byte", {}).items()]
    if "fairytaleqa" in figures:
        qa = figures["fairytaleqa"]
        rows.append([f"FairytaleQA test, {qa['questions']} questions", f"{100 * qa['f1']:.1f} F1"])
    return table(["held-out text", "figure"], rows)


def samples_text(figures: Figures) -> str:
    blocks = []
    for sample in figures.get("samples", []):
        answer = "\n".join(f"> {line}".rstrip() for line in sample["answered"].splitlines())
        blocks.append(f"`{sample['asked']}`\n\n{answer}")
    return "\n\n".join(blocks) or f"({NOT_MEASURED})"


def write(figures: Figures, out: Path) -> None:
    """Both cards into `out`."""
    training = figures.get("training", {})
    aims = missed(figures)
    slots = {
        "training": training_text(training, "main"),
        "cases": str(figures.get("cases", "some")),
        "exact": exact_table(figures) + (f"\n\nNot reached: {', '.join(aims)}." if aims else ""),
        "stopped": percent(figures.get("stopped", {}).get("unseen")),
        "texts": texts_table(figures), "samples": samples_text(figures)}
    agreement = table(["kind of text", "agreement"], [
        [name, percent(share)] for name, share in figures.get("draft_agreement", {}).items()])
    for name, values in (("main", slots), ("draft", {"training": training_text(training, "draft"),
                                                     "agreement": agreement})):
        template = Template((TEMPLATES / f"{name}.md").read_text(encoding="utf-8"))
        (out / f"{name}.md").write_text(template.substitute(values), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write(json.loads(arguments.figures.read_text()), arguments.out)


if __name__ == "__main__":
    main()
