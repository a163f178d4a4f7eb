"""Whatever is typed after `perdure`: an answer or an error, and a documented exit code."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from fuzz_command_line import perdure
from fuzz_poison import DEEP, ESCAPES
from fuzz_settings import tries
from fuzz_workload import prepare
from hypothesis import given
from hypothesis import strategies as st

from perdure.cli.exits import ExitCode

WORDS = st.one_of(
    # what a shell passes on: anything but NUL; bytes that are no UTF-8 come as surrogates
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["", "-", "--", "@", "@/", "@/dev/null", "@/nowhere", "\udcff", "a\udcffb", ESCAPES, "x" * 5_000]),
)
IDS = st.one_of(st.sampled_from(["sleeper-0", "keeper-0", "outsider-0", "failing-0", "quick-0", "nobody"]), WORDS)
NUMBERS = st.one_of(
    st.integers(-3, 200).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["²", "٣", "1e9", "0x1", ""]),
    WORDS,
)
JSON = st.one_of(
    st.sampled_from(
        ["null", '"x"', "{}", "[]", '{"name":"x"}', DEEP, '{"a":' * 9_000, "9" * 5_000, "1e400", '"\\ud800"']
    ),
    WORDS,
)
WHEN = st.one_of(
    st.sampled_from(
        ["1d", "2h30m", "0001-01-01", "9999-12-31T23:59:59+14:00", "9" * 400, "99999999w", "٣s", "²d", "-1s"]
    ),
    WORDS,
)
TOKENS = st.one_of(st.sampled_from(["1.2.3.x", "1.².3.x", "٣.1.1.x", "9" * 30 + ".1.1.x", "8.2.1."]), WORDS)
STATUS = st.one_of(st.sampled_from(["failed", "open", "blocked"]), WORDS)

COMMANDS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "list": ([], {"--workflow": WORDS, "--status": STATUS, "--since": WHEN, "--until": WHEN, "--prefix": WORDS,
                  "--parent": IDS, "--limit": NUMBERS, "--after": st.one_of(IDS, NUMBERS.map("quick-0#{}".format))}),
    "show": ([IDS], {"--run": NUMBERS, "--depth": NUMBERS, "--children": NUMBERS, "--errors": NUMBERS}),
    "history": ([IDS], {"--run": NUMBERS, "--after": NUMBERS}),
    "signal": ([IDS, WORDS, JSON], {}),
    "cancel": ([IDS], {"--reason": WORDS}),
    "terminate": ([IDS], {"--reason": WORDS}),
    "pause": ([IDS], {"--reason": WORDS}),
    "resume": ([IDS], {}),
    "retry": ([IDS], {}),
    "complete": ([TOKENS, JSON], {}),
    "fail": ([TOKENS, WORDS], {"--type": WORDS}),
    "start": ([WORDS], {"--input": JSON, "--id": IDS, "--on-conflict": WORDS, "--time-limit": WHEN}),
    "doctor": ([], {}),
    "gc": ([], {"--older-than": WHEN, "--keep": NUMBERS, "--status": STATUS}),
    "version": ([], {}),
}  # fmt: skip
FLAGS = st.sampled_from(["--json", "--quick", "--dry-run", "--yes", "--full", "--help", "--verbose"])


@st.composite
def lines(draw: Any) -> list[str]:
    """A command line: mostly of the right form, with anything in it."""
    name = draw(st.sampled_from(list(COMMANDS)))
    places, options = COMMANDS[name]
    words = [draw(place) for place in places]
    for option in draw(st.lists(st.sampled_from(list(options)), max_size=3, unique=True)) if options else []:
        words += [option, draw(options[option])]
    words += draw(st.lists(FLAGS, max_size=1))
    if draw(st.integers(0, 9)) == 0:
        words = draw(st.permutations(words))
    if draw(st.integers(0, 9)) == 0:
        words = words[:-1]
    return [name, *words]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("line") / "base.db"
    asyncio.run(prepare(path, sets=1))
    return path


@given(line=lines(), stdin=st.sampled_from([b"", b"null", b"\xff\xfe", b"\x00", b"1.2.3.x\n"]), terminal=st.booleans())
@tries(400)
def test_whatever_is_typed_gets_an_answer(database: Path, line: list[str], stdin: bytes, terminal: bool):
    before = database.stat().st_ino
    perdure(database, *line, terminal=terminal, stdin=stdin)
    assert database.stat().st_ino == before


@given(line=st.lists(st.one_of(WORDS, st.sampled_from(list(COMMANDS))), max_size=5))
@tries(60)
def test_whatever_the_words_are_they_get_an_answer(database: Path, line: list[str]):
    if not {"run", "worker", "demo", "verify"} & set(line):
        perdure(database, *line)


@given(name=st.one_of(WORDS, st.sampled_from(["sqlite:", "sqlite:///", "postgres://x/y", ":memory:", "~", "a" * 300])))
@tries(60)
def test_whatever_the_database_is_called_there_is_an_answer(tmp_path_factory: pytest.TempPathFactory, name: str):
    folder = tmp_path_factory.mktemp("called")
    said = perdure(folder / "none.db", "list", "--db", f"{folder}/{name}")
    assert said.code in (ExitCode.OK, ExitCode.USAGE, ExitCode.STORE)
    shutil.rmtree(folder)


WRONG = {
    "a text for nobody": (["show", "\udcff"], ExitCode.NOT_FOUND),
    "a run that no number is": (["show", "quick-0", "--run", "99999999999999999999"], ExitCode.NOT_FOUND),
    "an event that no number is": (["history", "quick-0", "--after", "99999999999999999999"], ExitCode.OK),
    "a page after no run": (["list", "--after", "quick-0#²"], ExitCode.NOT_FOUND),
    "a token of digits that are none": (["complete", "1.².1.x", "1"], ExitCode.CONFLICT),
    "a token for no execution": (["complete", "².1.1.x", "1"], ExitCode.CONFLICT),
    "a token that is no text": (["complete", "1.1.1.\udcff", "1"], ExitCode.CONFLICT),
    "a reason that is no text": (["cancel", "sleeper-0", "--reason", "\udcff"], ExitCode.USAGE),
    "a signal that is no text": (["signal", "sleeper-0", "\udcff"], ExitCode.USAGE),
    "a workflow that is no text": (["start", "\udcff"], ExitCode.USAGE),
    "arguments nested deeply": (["start", "quick", "--input", DEEP], ExitCode.USAGE),
    "arguments that are no text": (["start", "quick", "--input", "-"], ExitCode.USAGE),
    "a database that is no text": (["list", "--db", "\udcff"], ExitCode.STORE),
    "more to keep than there is": (["gc", "--keep", "99999999999999999999", "--yes"], ExitCode.OK),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_was_found_to_be_typed_wrong_says_so(database: Path, what: str):
    line, code = WRONG[what]
    assert perdure(database, *line, stdin=b"\xff\xfe").code == code
