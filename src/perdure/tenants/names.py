"""Names of tenants. They become names of files, and parts of keys in a bucket, so they are plain."""

from __future__ import annotations

import re

from perdure.errors import PerdureError

SUFFIX = ".db"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=@-]{0,99}", re.ASCII)


class InvalidTenant(PerdureError, ValueError):
    """This cannot be the name of a tenant."""

    hint = "a name has up to 100 letters, digits and - . _ = @, and begins with a letter or digit"


def valid(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def checked(name: str) -> str:
    """Give the name back. Raises `InvalidTenant`."""
    if not valid(name):
        raise InvalidTenant(f"{name!r} is not the name of a tenant")
    return name
