#!/usr/bin/env python3
"""Checks the links of the book in target/book, and of the Markdown files beside it: files and anchors. Links to other sites are not fetched.

Wants `mdbook build docs` to have run. Ends with 1, and a line on each, where one leads nowhere.
"""

import re
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "target/book"
DOCS = ROOT / "docs"
# Pages of the repository that are no part of the book.
BESIDE = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
# Written by mdBook itself: a page that may stand at any address.
IGNORED = ["404.html"]


class Page(HTMLParser):
    """What a page of the book links to, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append((self.getpos()[0], value))


def is_external(link):
    return bool(urllib.parse.urlsplit(link).scheme) or link.startswith("//")


def check_book(faults):
    pages = {path: Page(path) for path in sorted(BOOK.rglob("*.html")) if path.name not in IGNORED}
    count = 0
    for path, page in pages.items():
        for line, link in page.links:
            if is_external(link):
                continue
            count += 1
            parts = urllib.parse.urlsplit(link)
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            where = f"{path.relative_to(BOOK)}:{line}"
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(BOOK):
                faults.append(f"{where}: {link} leads out of the book; name the file without a link")
            elif not target.exists():
                faults.append(f"{where}: {link} is not there")
            elif parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].ids:
                faults.append(f"{where}: {link}: no such anchor")
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"SUMMARY.md"}
    summary = set(re.findall(r"\]\(([^)]+\.md)\)", (DOCS / "SUMMARY.md").read_text(encoding="utf-8")))
    faults.extend(f"docs/{name} is not in docs/SUMMARY.md" for name in sorted(written - summary))
    return len(pages), count


def without_code(text):
    """The text with code blanked out, line by line."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```\s*$", lambda found: "\n" * found[0].count("\n"), text)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """The anchors of a Markdown file's headings."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```\s*$", "", path.read_text(encoding="utf-8"))
    slugs = set()
    for heading in re.findall(r"(?m)^#+ (.*)$", text):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slugs.add(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-"))
    return slugs


def check_beside(faults):
    count = 0
    for path in [ROOT / name for name in BESIDE if (ROOT / name).exists()]:
        for number, line in enumerate(without_code(path.read_text(encoding="utf-8")).split("\n"), 1):
            for link in re.findall(r"\]\(([^)\s]+)\)", line):
                if is_external(link):
                    continue
                count += 1
                name, _, fragment = link.partition("#")
                target = path.parent / name if name else path
                if not target.exists():
                    faults.append(f"{path.name}:{number}: {link} is not there")
                elif fragment and target.suffix == ".md" and fragment not in anchors(target):
                    faults.append(f"{path.name}:{number}: {link}: no such anchor")
    return count


def main():
    if not (BOOK / "index.html").exists():
        sys.exit("target/book is not there: make docs builds it")
    faults = []
    pages, of_book = check_book(faults)
    beside = check_beside(faults)
    print(f"{pages} pages, {of_book} links of the book and {beside} beside it: {len(faults)} lead nowhere")
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


main()
