"""The part of a history that counts, and the data of events that only the engine and replay read."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.codec.payload import DecodeError
from perdure.events import Event, Kind


class Inherited(msgspec.Struct):
    """The data of an `INHERITED` event."""

    state: dict[str, msgspec.Raw] = {}
    signals: list[tuple[str, msgspec.Raw]] = []


class Reopened(msgspec.Struct):
    """The data of a `REOPENED` event."""

    from_seq: int


def effective(events: Iterable[Event]) -> list[Event]:
    """Leave out what a `REOPENED` event superseded: that is the history which replay follows."""
    kept: list[Event] = []
    for event in events:
        if event.kind is Kind.REOPENED:
            start = _from_seq(event)
            while kept and kept[-1].seq >= start:
                kept.pop()
        kept.append(event)
    return kept


def _from_seq(event: Event) -> int:
    try:
        return msgspec.json.decode(event.data or "", type=Reopened).from_seq
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"event #{event.seq} reopens nothing that there is: {error}") from error
