"""JSON from the command line, and a workflow's arguments out of it."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import msgspec

from perdure.cli.exits import UsageError
from perdure.workflow import Workflow


def read_json(text: str, what: str) -> Any:
    """Parse JSON; `@FILE` reads a file and `-` stdin. Raises `UsageError`."""
    source = what
    if text == "-":
        text, source = read_stdin(what), f"{what} on stdin"
    elif text.startswith("@"):
        source = f"{what} in {text[1:]}"
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{source} cannot be read: {error}") from None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        hint = "quote it for the shell: '{\"n\": 1}', and text as '\"text\"'"
        raise UsageError(f"{source} is not JSON: {error}", hint=hint) from None


def read_stdin(what: str, *, line: bool = False) -> str:
    """Read stdin, or one line of it. Raises `UsageError` when it is closed or not text."""
    if sys.stdin is None:
        raise UsageError(f"{what} on stdin cannot be read: it is closed")
    try:
        return sys.stdin.readline() if line else sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} on stdin cannot be read: {error}") from None


def named(text: str) -> dict[str, Any]:
    """Read arguments by name, for a workflow whose code is not here."""
    value = read_json(text, "--input")
    if not isinstance(value, dict):
        hint = "name the workflow as MODULE:workflow to give arguments by position"
        raise UsageError("--input must be a JSON object of arguments by name", hint=hint)
    return value


def bind(workflow: Workflow[..., Any, Any], text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read arguments and check them against the workflow's signature. Raises `UsageError` or `InvalidValue`."""
    value = read_json(text, "--input")
    if not isinstance(value, dict | list):
        raise UsageError("--input must be a JSON object (by name) or array (by position)", hint="write '[42]' for 42")
    args, kwargs = ((), value) if isinstance(value, dict) else (tuple(value), {})
    workflow.arguments.check(args, kwargs)
    # By position as far as that goes: a parameter may have the name of an option of `start`.
    bound = inspect.signature(workflow.fn).bind(*args, **kwargs)
    bound.apply_defaults()
    taken = bound.kwargs.keys() & {"id", "on_conflict", "timeout_s"}
    if taken:
        hint = "rename it, or make it an ordinary parameter"
        raise UsageError(f"the keyword-only parameter {min(taken)} has the name of an option of `start`", hint=hint)
    return bound.args, bound.kwargs
