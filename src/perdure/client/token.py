"""Completion tokens: what they are made of, and whether one can still be good as far as the file tells."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import msgspec

from perdure.codec.payload import DecodeError
from perdure.errors import StaleToken
from perdure.events import Event, Kind
from perdure.replay.history import effective

_ENDED = frozenset({Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED, Kind.ACTIVITY_CANCELLED})


def digest(secret: str) -> str:
    """Hash a token's secret: the file keeps only this."""
    return hashlib.sha256(secret.encode()).hexdigest()


def seal(token: str) -> str:
    """Put the digest of a token's secret in its place: a sealed token can be checked, but not used by who reads it."""
    front, _, secret = token.rpartition(".")
    return f"{front}.{digest(secret)}"


class Token(msgspec.Struct, frozen=True):
    """The parts of a sealed completion token; `proof` is the digest of its secret."""

    execution: int
    seq: int
    number: int
    proof: str

    @classmethod
    def parse(cls, sealed: str) -> Token | None:
        parts = sealed.split(".")
        if len(parts) != 4 or not all(part.isdecimal() and len(part) < 19 for part in parts[:3]):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]), parts[3])


class Note(msgspec.Struct):
    """What this reads of the data of `ATTEMPT_FAILED` and `ATTEMPT_DEFERRED` events."""

    attempt: int
    secret: str = ""


def refuse_stale(sealed: str, execution: int, history: Iterable[Event]) -> None:
    """Raise `StaleToken` for a sealed token that the runner would certainly refuse.

    One whose attempt still runs is let through: its secret is recorded when the attempt is left open.
    """
    token = Token.parse(sealed)
    if token is None or token.execution != execution:
        raise StaleToken("this is not a completion token of this execution", hint="copy all of it")
    scheduled = ended = replaced = False
    for event in effective(history):
        if event.seq == token.seq:
            scheduled = event.kind is Kind.ACTIVITY_SCHEDULED
        elif event.kind is Kind.REOPENED:
            replaced = False  # what was open is attempted anew, with a secret that is not recorded yet
        elif event.ref == token.seq:
            ended = ended or event.kind in _ENDED
            replaced = _is_replaced(event, token, replaced)
    if not scheduled or ended or replaced:
        hint = "the activity was completed already, timed out, or has a newer attempt with a token of its own"
        raise StaleToken("this token belongs to no open attempt", hint=hint)


def _is_replaced(event: Event, token: Token, before: bool) -> bool:
    """Say whether the token is of another attempt than the one which this event leaves; the newest event decides."""
    if event.kind not in (Kind.ATTEMPT_FAILED, Kind.ATTEMPT_DEFERRED):
        return before
    try:
        note = msgspec.json.decode(event.data or "", type=Note)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"event #{event.seq} cannot be read: {error}") from error
    if event.kind is Kind.ATTEMPT_FAILED:
        return note.attempt >= token.number
    return note.attempt != token.number or not hmac.compare_digest(note.secret, token.proof)
