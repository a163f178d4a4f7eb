"""Loads named statements from `queries.sql`."""

from __future__ import annotations

import pkgutil
import re
from functools import cache

from perdure.errors import InternalError

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def queries() -> dict[str, str]:
    """Give every statement by its name, without comments."""
    text = sql_file("queries.sql")
    parts = _NAME.split(text)
    return {name: _bare(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def sql_file(name: str) -> str:
    """Read an SQL file of this package."""
    data = pkgutil.get_data(__package__, name)  # importlib.resources takes 8 ms to import
    if data is None:
        raise InternalError(f"{name} is not in the package")
    return data.decode()


def _bare(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
