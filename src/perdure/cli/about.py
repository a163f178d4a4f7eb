"""`perdure demo` and `perdure version`."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import typer

import perdure
from perdure.cli.command import command
from perdure.cli.output import Output
from perdure.store.sqlite.checkup import sqlite_version


@command
def demo(
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Work in this folder, not in a temporary one.")
    ] = None,
    with_tests: Annotated[bool, typer.Option("--all", help="Index the library's own tests, too.")] = False,
    library: Annotated[
        Path | None, typer.Option("--library", metavar="DIR", help="Index the Python files of this folder instead.")
    ] = None,
) -> int:
    """Watch a real job survive `kill -9`: an index of this machine's Python standard library."""
    from perdure.demo import main  # the rest of the command line does not need it

    return main(keep, with_tests=with_tests, library=library)


@command
def version(json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False) -> None:
    """Print the versions of perdure, SQLite and Python."""
    versions = {"perdure": perdure.__version__, "sqlite": sqlite_version(), "python": platform.python_version()}
    out = Output(json)
    if json:
        out.object(versions)
        return
    for name, number in versions.items():
        print(name, number)
