"""Whether a completion token can still be good, as far as the file tells. The runner has the last word."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import msgspec

from perdure.engine.attempt import Token, digest
from perdure.engine.loading import AttemptNote, DeferredNote
from perdure.errors import StaleToken
from perdure.events import Event, Kind
from perdure.replay.run import effective

_ENDED = frozenset({Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED, Kind.ACTIVITY_CANCELLED})


def refuse_stale(text: str, execution: int, history: Iterable[Event]) -> None:
    """Raise `StaleToken` for a token that the runner would certainly refuse.

    One whose attempt still runs is let through: its secret is recorded when the attempt is left open.
    """
    token = Token.parse(text)
    if token is None or token.execution != execution:
        raise StaleToken("this is not a completion token of this execution", hint="copy all of it")
    known = False
    for event in effective(history):
        if event.seq == token.seq:
            known = event.kind is Kind.ACTIVITY_SCHEDULED
        elif event.ref == token.seq and _makes_stale(event, token):
            known = False
    if not known:
        hint = "the activity was completed already, timed out, or has a newer attempt with a token of its own"
        raise StaleToken("this token belongs to no open attempt", hint=hint)


def _makes_stale(event: Event, token: Token) -> bool:
    if event.kind is Kind.ATTEMPT_FAILED:
        return msgspec.json.decode(event.data or "", type=AttemptNote).attempt >= token.number
    if event.kind is Kind.ATTEMPT_DEFERRED:
        note = msgspec.json.decode(event.data or "", type=DeferredNote)
        return note.attempt != token.number or not hmac.compare_digest(note.secret, digest(token.secret))
    return event.kind in _ENDED
