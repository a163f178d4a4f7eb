"""`docs/reference/cli.md` knows every command, option and exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from perdure.cli.app import app
from perdure.cli.exits import ExitCode

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands


def section(name):
    """Give the part of the page that is about a command."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    found = [text for title, text in zip(parts[1::2], parts[2::2], strict=True) if name in title.split(", ")]
    assert len(found) == 1, f"{name} has {len(found)} sections"
    return found[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_there(name):
    text = section(name)
    options = [option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)]
    wanted = [option for option in options if option.startswith("-") and option not in ("--help", "-h")]
    assert [option for option in wanted if f"`{option}" not in text and f"[{option}" not in text] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_there_that_a_command_does_not_have(name):
    known = {option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"`(--[a-z-]+)", section(name)))
    assert named - known <= {"--version", "--help"}


def test_every_exit_code_is_there():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    command = COMMANDS[name]
    assert command.help
    assert f"$ perdure {name}" in command.epilog
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
