"""From what a user names a database by to the file it is."""

from __future__ import annotations

from pathlib import Path

from perdure.errors import StoreError
from perdure.types import storable


def database_path(target: str | Path) -> Path:
    """Give the path of `shop.db`, `sqlite:shop.db` or `sqlite:///abs/shop.db`. Raises `StoreError` for what is not
    a SQLite file."""
    text = str(target)
    if text.startswith("sqlite:"):
        text = text.removeprefix("sqlite:")
        text = text[2:] if text.startswith("///") else text
    elif "://" in text:
        scheme = text.partition("://")[0]
        raise StoreError(
            f"{scheme}:// is not a store that this version knows", hint="name a SQLite file, such as shop.db"
        )
    if not storable(text):
        raise StoreError(f"{text!r} cannot be the name of a file", hint="name it in UTF-8")
    if not text:
        raise StoreError("the name of the database is empty", hint="name a SQLite file, such as shop.db")
    if text == ":memory:":
        raise StoreError("':memory:' is not a file", hint="state must outlive the process: name a file")
    path = Path(text)
    if path.is_dir():
        raise StoreError(f"{path} is a folder", hint="name a file in it, such as shop.db")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} does not exist", hint="create it first")
    return path.resolve()
