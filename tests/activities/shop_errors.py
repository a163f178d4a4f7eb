"""Errors of a user's own, in a module that other processes may not have."""

from __future__ import annotations


class CardDeclined(Exception):
    """One that keeps more than its message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code
        self.fields = {"card": "1234", "tries": [1, 2]}

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"
