"""A page of the documentation: its sections and tables, its fenced blocks, and what a reader would do with each.

A comment in the lines right before a block says how it is tested; without one, `python` blocks and console blocks run:

    <!-- test: skip because … -->     not run
    <!-- test: file shop.py -->       written to that file
    <!-- test: background a.db -->    a console block that runs until the page ends; go on once the file a.db is there
    <!-- test: fails -->              a console block whose last command ends with a status other than 0

A `text` block right after a `python` block is what that one prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)(```+|~~~+) *([\w-]*)")
_MARKER = re.compile(r"<!-- *test: *(\w+) *(.*?) *-->")
CONSOLE = ("console", "sh", "bash", "shell")


@dataclass
class Block:
    """One fenced block. `line` is that of its first line of code, counted from 1."""

    language: str
    code: str
    line: int
    mark: str = ""
    """`skip`, `file`, `background` or `fails`."""
    detail: str = ""
    follows: bool = False
    """Nothing but empty lines stands between the block before and this one."""


def blocks(page: Path) -> list[Block]:
    """Give the fenced blocks of `page` in order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number, between = 0, [""]
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            between.append(lines[number])
            number += 1
            continue
        indent, ticks, language = fence.groups()
        end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == ticks)
        code = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end]) + "\n"
        block = Block(language, code, number + 2, follows=bool(found) and not any(map(str.strip, between)))
        marker = _MARKER.search(_text_before(between))
        if marker:
            block.mark, block.detail = marker.groups()
        found.append(block)
        number, between = end + 1, []
    return found


def _text_before(between: list[str]) -> str:
    """Give the last paragraph before a block: where its marker stands."""
    text = "\n".join(between).rstrip()
    return text[text.rfind("\n\n") + 1 :]


def commands(block: Block) -> list[tuple[str, str]]:
    """Give the commands of a console block, each with the output that the page shows; `sh` without `$` has none."""
    if not any(line.startswith("$ ") for line in block.code.splitlines()):
        return [(block.code, "")]
    found: list[tuple[str, str]] = []
    continued = False
    for line in block.code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif continued:
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
        continued = line.endswith("\\") and not found[-1][1]
    return found


_INSTANT = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LOOSE = re.compile(rf"(?P<any>…)|(?P<instant>{_INSTANT})|(?P<micros>\b1\d{{15}}\b)|(?P<uuid>{_UUID})|(?P<space>\s+)")


def like(expected: str, got: str) -> bool:
    """Compare shown output with real output: `…` stands for anything, instants and UUIDs for any other, spaces for
    any."""
    pattern, position = "", 0
    expected = expected.strip()
    for match in _LOOSE.finditer(expected):
        pattern += re.escape(expected[position : match.start()])
        pattern += {"any": r".*?", "instant": _INSTANT, "micros": r"1\d{15}", "uuid": _UUID, "space": r"\s+"}[
            match.lastgroup or ""
        ]
        position = match.end()
    pattern += re.escape(expected[position:])
    return re.fullmatch(pattern, got.strip(), re.DOTALL) is not None


def sections(page: str, level: str = "###") -> dict[str, str]:
    """Give the text below each heading of a level, up to the next heading of that level or above."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    found = re.split(rf"^{level} (.*)$", text, flags=re.MULTILINE)
    bodies = [re.split(rf"^#{{2,{len(level)}}} ", body, flags=re.MULTILINE)[0] for body in found[2::2]]
    return {title.strip("` "): body for title, body in zip(found[1::2], bodies, strict=True)}


def table(text: str) -> list[list[str]]:
    """Give the cells of the rows of the first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def code(cell: str) -> str:
    return cell.strip("`")
