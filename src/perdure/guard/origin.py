"""Whose code is this file: the standard library's, an installed package's, perdure's own, or the user's."""

from __future__ import annotations

import os
import sysconfig
from enum import Enum
from functools import lru_cache


class Origin(Enum):
    """The four owners of a source file."""

    STDLIB = "stdlib"
    INSTALLED = "installed"
    PERDURE = "perdure"
    USER = "user"


def _folders(*paths: str) -> tuple[str, ...]:
    return tuple({spelling + os.sep for path in paths for spelling in (os.path.abspath(path), os.path.realpath(path))})


_PERDURE = _folders(os.path.dirname(os.path.dirname(__file__)))
_STDLIB = _folders(os.path.dirname(os.__file__), sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
_INSTALLED = _folders(sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


@lru_cache(maxsize=4096)
def origin(filename: str) -> Origin:
    """Say who owns the code compiled from `filename` (a code object's `co_filename`)."""
    if filename.startswith("<frozen "):
        return Origin.STDLIB
    if filename.startswith("<"):  # typed in, or generated
        return Origin.USER
    path = os.path.abspath(filename)
    if path.startswith(_PERDURE):
        return Origin.PERDURE
    if path.startswith(_INSTALLED) or "site-packages" in path or "dist-packages" in path:
        return Origin.INSTALLED
    return Origin.STDLIB if path.startswith(_STDLIB) else Origin.USER
