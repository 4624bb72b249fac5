#!/usr/bin/env python3
"""Checks that the documentation's links hold: each relative link leads to a file, and a link whose
text is an identifier in code marks leads to a file that contains it.

Usage: tools/check_docs.py [ROOT]        prints each dead link as file:line: message
"""

import pathlib
import re
import sys

LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(?:#[^)]*)?\)")
IDENTIFIER = re.compile(r"^`(?:\w+::)*(\w+)`$")


def dead_links(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for text, target in LINK.findall(line):
            if "://" in target:
                continue
            file = path.parent / target
            if not file.exists():
                yield number, f"{target} does not exist"
                continue
            identifier = IDENTIFIER.match(text)
            if identifier and file.is_file() and file.suffix in {".h", ".cc"}:
                if not re.search(rf"\b{identifier[1]}\b", file.read_text(encoding="utf-8")):
                    yield number, f"{target} does not mention {identifier[1]}"


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]
    pages = [root / "README.md", *root.glob("docs/**/*.md"), *root.glob("src/**/*.md")]
    found = False
    for page in pages:
        for number, message in dead_links(page):
            found = True
            print(f"{page.relative_to(root)}:{number}: {message}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
