"""The code on every page of the documentation runs, and prints what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_page import CONSOLE, PAGES, ROOT, Block, blocks, commands, like

PLAY = Path(__file__).with_name("play.py")
SKIPPED: dict[str, int] = {}
"""How many blocks of a page are not run: a number to be kept small."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def play(page: Path, folder: Path) -> list[dict[str, str]]:
    work, report = folder / "work", folder / "report.json"
    work.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", "COLUMNS": "120"}
    environment["PYTEST_ADDOPTS"] = "-p perdure.testing.plugin"  # as if installed; the same plugin where it is
    done = subprocess.run(
        [sys.executable, str(PLAY), str(page), str(report)],
        cwd=work, env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert report.exists(), done.stderr
    notes: list[dict[str, str]] = json.loads(report.read_text())
    for note in notes:
        assert not note["error"], f"{name_of(page)}:{note['line']} {note['command']}\n{note['error']}\n{done.stderr}"
    assert done.returncode == 0, done.stderr
    return notes


def expected_outputs(page: Path) -> list[tuple[Block, str, str]]:
    """Give (block, command, what the page shows) for all that is shown."""
    shown: list[tuple[Block, str, str]] = []
    before: Block | None = None
    for block in blocks(page):
        if block.mark in ("skip", "file", "background"):
            before = None
        elif block.language in CONSOLE:
            shown += [(block, command, output) for command, output in commands(block) if output.strip()]
            before = None
        else:
            if block.language == "text" and block.follows and before is not None and before.language == "python":
                shown.append((before, "", block.code))
            before = block
    return shown


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    notes = play(page, tmp_path)
    printed = {(note["line"], note["command"]): note["printed"] for note in notes}
    for block, command, output in expected_outputs(page):
        got = printed.get((block.line, command))
        if got is None:
            continue  # a command for the reader's machine
        where = f"{name_of(page)}:{block.line} {command}"
        assert like(output, got), f"{where}\n--- the page shows\n{output}\n--- it printed\n{got}"


def test_few_blocks_are_not_run() -> None:
    skipped = {name_of(page): sum(block.mark == "skip" for block in blocks(page)) for page in PAGES}
    assert {name: count for name, count in skipped.items() if count} == SKIPPED


def test_every_block_says_its_language() -> None:
    bare = [f"{name_of(page)}:{block.line}" for page in PAGES for block in blocks(page) if not block.language]
    assert bare == []


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            if not linked.exists() or (anchor and anchor not in anchors(linked)):
                broken.append(f"{name_of(page)}: {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Give the anchors that a page's headings get, the way GitHub makes them."""
    found: set[str] = set()
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for title in re.findall(r"^#+ +(.*)$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        numbered = (f"{anchor}-{n}" for n in range(1, 10))
        found.add(anchor if anchor not in found else next(name for name in numbered if name not in found))
    return found


def test_no_page_names_a_machine() -> None:
    wrong = [
        f"{name_of(page)}: {found.group()}"
        for page in PAGES
        for found in re.finditer(r"/(?:home|root|Users|tmp|mnt)/\w*", page.read_text(encoding="utf-8"))
    ]
    assert wrong == []
