#!/usr/bin/env python3
"""mdBook's preprocessor for links to files of the repository: in the book they are text, because the book is read without the files.

mdBook hands the book over as JSON. A link whose file is not in the repository ends the build.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)\s#]*)(?:#[^)]*)?\)")


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def rewrite(chapter):
    folder = (DOCS / chapter["path"]).parent

    def replace(found):
        target = (folder / found[2]).resolve()
        if target.is_relative_to(DOCS):
            return found[0]
        if not target.is_relative_to(ROOT) or not target.exists():
            sys.exit(f"docs/{chapter['path']}: {found[2]} is not there")
        return found[1]

    chapter["content"] = LINK.sub(replace, chapter["content"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    for chapter in chapters(book.get("items") or book.get("sections")):
        if chapter.get("path"):
            rewrite(chapter)
    json.dump(book, sys.stdout)


main()
