"""The ledger: a text file outside the database that says which files were really examined, and how often.

An activity appends a line before it returns. So what the log claims can be checked against what happened.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


def append(ledger: Path, path: str) -> None:
    """Add one line, whole also when several processes write: one `write` to a file opened for appending."""
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{path}\n".encode())
    finally:
        os.close(descriptor)


class Ledger:
    """Reads a ledger while others write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        """How many there were at the last look."""
        self._offset = 0

    def look(self) -> int:
        """Count the lines; reads only what is new."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            self._offset += len(new)
            self.lines += new.count(b"\n")
        return self.lines

    def counts(self) -> Counter[str]:
        """Say how often each path was written."""
        return Counter(self.path.read_text().splitlines() if self.path.exists() else ())
