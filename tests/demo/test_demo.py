"""The demo, run as a user runs it, on a small folder of source files of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.demo.source import combine, examine, packages_in, standard_library

PACKAGES = 6
FILES_EACH = 20
SOURCE = (standard_library() / "argparse.py").read_text(encoding="utf-8")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Files that take a while to index: long, and no two alike."""
    root = tmp_path / "library"
    for package in range(PACKAGES):
        folder = root / f"package{package}"
        folder.mkdir(parents=True)
        for number in range(FILES_EACH):
            text = f"# {package} {number}\n{SOURCE}"
            (folder / f"module{number}.py").write_text(text, encoding="utf-8")
    (root / "broken.py").write_text("def :\n", encoding="utf-8")
    (root / "package0" / "tests").mkdir()
    (root / "package0" / "tests" / "test_it.py").write_text("assert True\n", encoding="utf-8")
    return root


def run_demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perdure.demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90)


@pytest.mark.slow
def test_the_demo_survives_its_kill_and_repeats_nothing(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run_demo(folder, "--library", library)
    print(done.stdout, done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exit status -9" in done.stdout
    assert "0 of them ran again" in done.stdout
    assert "NO " not in done.stdout
    ledger = (folder / "ledger.txt").read_text().splitlines()
    files = [path for paths in packages_in(library).values() for path in paths]
    assert set(ledger) == set(files)
    assert len(files) == PACKAGES * FILES_EACH + 1
    assert (folder / "report.json").read_text() == (folder / "plain.json").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert [package["files"] for package in report["packages"]] == [1] + [FILES_EACH] * PACKAGES


def test_a_folder_with_a_demo_in_it_is_left_alone(library: Path, tmp_path: Path) -> None:
    (tmp_path / "demo.db").write_text("mine")
    done = run_demo(tmp_path, "--library", library)
    assert done.returncode == 2
    assert "there already" in done.stdout
    assert (tmp_path / "demo.db").read_text() == "mine"


def test_a_folder_without_source_files_is_said_to_be_so(tmp_path: Path) -> None:
    done = run_demo(tmp_path / "demo", "--library", tmp_path)
    assert done.returncode == 2
    assert "no Python files" in done.stdout


def test_the_facts_about_files_add_up(library: Path) -> None:
    (library / "small.py").write_text("# one\nclass A:\n    async def f(self): ...\n    def g(self): ...  # two\n")
    small, broken = examine(library, "small.py"), examine(library, "broken.py")
    assert (small.lines, small.comments, small.functions, small.classes, small.parses) == (4, 2, 2, 1, True)
    assert (broken.lines, broken.functions, broken.parses) == (1, 0, False)
    both = combine("both", [small, broken])
    assert both == combine("both", [broken, small])
    assert (both.files, both.lines, both.functions) == (2, 5, 2)


def test_tests_of_the_library_are_left_out_unless_asked_for(library: Path) -> None:
    assert "package0/tests/test_it.py" not in packages_in(library)["package0"]
    assert "package0/tests/test_it.py" in packages_in(library, with_tests=True)["package0"]
