"""Options that come from a file: `perdure.toml`, or `[tool.perdure]` in `pyproject.toml`.

    db = "shop.db"              # for all commands that have this option
    [worker]                    # for this command
    replicate = "s3://bucket/prefix/shop"

1. The command line wins over the environment, and that over the file.
2. A mistake in the file is an error that names the place: nothing is passed over. No value is shown, it may be a
   secret.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perdure.cli.exits import UsageError

FILE = "PERDURE_CONFIG"
NAMES = ("perdure.toml", "pyproject.toml")
Commands = Mapping[str, Mapping[str, str]]
"""The options of each command: from the name in the file to that of the parameter."""
_KEYS_HINT = "keys do not belong here: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or ~/.aws"


def load(commands: Commands, folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Read the file of a folder, by default the working one, or the one that PERDURE_CONFIG names; give the values by
    command and parameter. Raises `UsageError`."""
    named = os.environ.get(FILE)
    here = folder or Path()
    path = Path(named) if named else next((here / name for name in NAMES if (here / name).is_file()), None)
    if path is None:
        return {}
    content = _read(path)
    if path.name == "pyproject.toml":
        content = content.get("tool", {}).get("perdure", {})
    return _sorted_out(path, content, commands)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if path.name == "pyproject.toml":
            return {}  # that of another tool, and its own matter
        raise UsageError(f"{path} is not TOML: {error}") from None


def _sorted_out(path: Path, content: Mapping[str, Any], commands: Commands) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {command: {} for command in commands}
    for name, value in content.items():
        if isinstance(value, dict):
            continue
        having = [command for command, options in commands.items() if name in options]
        if not having:
            raise UsageError(f"{path}: no command has an option {name}", hint=_KEYS_HINT if "key" in name else "")
        for command in having:
            found[command][commands[command][name]] = _plain(path, name, value)
    for command, table in content.items():
        if not isinstance(table, dict):
            continue
        if command not in commands:
            raise UsageError(f"{path}: there is no command {command}", hint=f"there are {', '.join(commands)}")
        for name, value in table.items():
            if name not in commands[command]:
                known = ", ".join(commands[command])
                hint = _KEYS_HINT if "key" in name else f"it has {known}"
                raise UsageError(f"{path}: {command} has no option {name}", hint=hint)
            found[command][commands[command][name]] = _plain(path, f"{command}.{name}", value)
    return {command: values for command, values in found.items() if values}


def _plain(path: Path, name: str, value: Any) -> str | int | float | bool:
    if not isinstance(value, str | int | float | bool):
        raise UsageError(f"{path}: {name} must be a text, a number, true or false")
    return value
