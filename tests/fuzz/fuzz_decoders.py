"""Everything that perdure reads out of a file or a command line, each as a function of bytes.

`DECODERS` maps names to functions that raise nothing but on a broken promise: whatever the bytes are, what comes back
is a value or one of the errors that the caller is prepared for, and no code that the bytes name has run. The same
functions are driven by hypothesis in the tests and by atheris in `python tests/fuzz`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict

import fuzz_canary
import msgspec

from perdure import Signal, activity, state, workflow
from perdure.cli import arguments as cli_arguments
from perdure.cli.exits import UsageError
from perdure.cli.failure import hint_of, report
from perdure.cli.history import gist
from perdure.cli.moments import moment, seconds
from perdure.cli.output import clean, recorded
from perdure.cli.standing import Standing, one_line
from perdure.client.token import Token, refuse_stale, seal
from perdure.codec import Arguments, Value, decode_failure, encode_failure, rebuild_failure
from perdure.codec.encryption import AesGcmCodec
from perdure.codec.literal import NotLiteral, from_literal, to_literal
from perdure.codec.payload import Blob, DecodeError, Payloads
from perdure.engine import loading
from perdure.errors import InvalidValue, NonDeterminismError, StaleToken
from perdure.events import Event, Kind
from perdure.store import ExecutionRow
from perdure.types import HistoryEvent, Status, instant

CODEC = AesGcmCodec({"k": bytes(range(32)), "old": bytes(32)}, current="k")
PLAIN, ENCRYPTED = Payloads(), Payloads(CODEC)
MAX_BYTES = 1024 * 1024
NOW = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: float | None = None


@dataclass
class Order:
    id: str
    total: decimal.Decimal = decimal.Decimal(0)
    items: list[str] = field(default_factory=list)
    at: dt.datetime | None = None


class Address(TypedDict, total=False):
    street: str
    number: int


def wanted(order: Order, n: int = 1, *rest: Point, key: uuid.UUID | None = None, **more: bytes) -> None: ...


def loose(a: Any, b: Any = None) -> None: ...


ARGUMENTS = (Arguments(wanted, "activity wanted"), Arguments(loose, "activity loose"))
VALUES = tuple(
    Value(annotation, "the value")
    for annotation in (
        Any, int, float, str, bytes, bool, Order, Point, Address, Colour, dict[str, list[int | None]],
        tuple[int, str], set[dt.date], dt.timedelta, uuid.UUID | None, decimal.Decimal,
    )
)  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def payload(data: bytes) -> None:
    """What the storage boundary gives back, plain or encrypted, inline or apart."""
    for payloads in PLAIN, ENCRYPTED:
        for stored, blob in ((data, None), (None, data)):
            try:
                text = payloads.load(stored, blob)
            except DecodeError:
                continue
            assert text is None or isinstance(text, str)
    kept = ENCRYPTED.store(_text(data))
    loaded = ENCRYPTED.load(None, kept.body) if isinstance(kept, Blob) else ENCRYPTED.load(kept)
    assert loaded == _text(data)


def envelope(data: bytes) -> None:
    """What is not exactly what was sealed does not open."""
    try:
        opened = CODEC.decode(data)
    except DecodeError:
        return
    assert data.startswith(b"\x01\x01k") or data.startswith(b"\x01\x03old"), f"opened {data!r} to {opened!r}"


def failure(data: bytes) -> None:
    """A failure becomes an exception of a class that is loaded, or a `RemoteError`, and is recorded again."""
    try:
        decoded = decode_failure(_text(data))
    except InvalidValue:
        return
    fuzz_canary.woken.clear()
    error = rebuild_failure(decoded)
    assert isinstance(error, Exception)
    again = encode_failure(error)
    del error  # what wakes when it goes is to be heard too
    decode_failure(again)
    assert one_line(again) == one_line(again).partition("\n")[0]
    report(decoded)
    hint_of(decoded)
    made = [step for step in fuzz_canary.woken if not step.startswith("__getattribute__")]
    assert not made, f"woken: {made}"


def literal(data: bytes) -> None:
    """A plain value comes back as what was written, or as it stands."""
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return
    try:
        value = from_literal(plain)
    except RecursionError:
        return
    try:
        written = to_literal(value)
    except (NotLiteral, msgspec.EncodeError, RecursionError):
        return
    assert repr(from_literal(written)) == repr(value)


def arguments(data: bytes) -> None:
    """Recorded arguments bind, or are refused with words."""
    text = _text(data)
    for form in ARGUMENTS:
        try:
            args, kwargs = form.call_args(text)
        except InvalidValue:
            continue
        try:
            written = form.check(args, kwargs)
        except InvalidValue:
            continue
        assert form.same(text, written), f"{text} became {written}"


def value(data: bytes) -> None:
    """A recorded value is of its type, or is refused with words; written again it means the same."""
    text = _text(data)
    for kind in VALUES:
        try:
            found = kind.decode(text)
        except InvalidValue:
            continue
        try:
            written = kind.encode(found)
        except InvalidValue:
            continue
        assert repr(kind.decode(written)) == repr(found) or kind.annotation is Any


@activity
async def step(text: str) -> str:
    return text


approved = Signal("approved", str)


@workflow
async def child(name: str = "") -> str:
    return await step(name)


@workflow
async def steps(name: str = "x") -> list[Any]:
    state["phase"] = name
    first = await step(name)
    told = await approved.receive()
    try:
        async with asyncio.timeout(60):
            await child(first)
    except Exception as error:
        told = str(error)[:100]
    return [first, told, await asyncio.gather(step("a"), step("b"))]


class OneHistory:
    """As much of a store as loading one execution asks for."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def history(self, num: int) -> list[Event]:
        return self.events

    def heartbeat(self, num: int, seq: int) -> None:
        return None


NAMES = ("steps", "step", "child", "approved", "phase", "x", None, "\x1b[2J")


def events_of(data: bytes) -> list[Event]:
    """Read bytes as a history: kind, ref and name in a byte each, then the length of the data and the data."""
    found, at = [], 0
    while at + 4 <= len(data) and len(found) < 60:
        kind, ref, name, size = data[at : at + 4]
        text = _text(data[at + 4 : at + 4 + size]) if size else None
        kinds = list(Kind)
        instant_us = 1_800_000_000_000_000 + len(found)
        event = Event(len(found) + 1, kinds[kind % len(kinds)], instant_us, ref or None, NAMES[name % len(NAMES)], text)
        found.append(event)
        at += 4 + size
    return found


def bytes_of(events: list[Event]) -> bytes:
    """Write a history as `events_of` reads it."""
    kinds = list(Kind)
    parts = []
    for event in events:
        text = (event.data or "").encode()[:255]
        parts.append(bytes((kinds.index(event.kind), event.ref or 0, NAMES.index(event.name), len(text))) + text)
    return b"".join(parts)


def history(data: bytes) -> None:
    """A history replays, or its execution is set aside."""
    events = events_of(data)
    row = ExecutionRow("fuzz", "steps", 0, num=1, status=Status.RUNNING)
    try:
        live, _ = loading.load(OneHistory(events), row, steps, MAX_BYTES)
    except (NonDeterminismError, DecodeError):
        return
    assert live.run is not None
    live.run.evict()


def standing(data: bytes) -> None:
    """What a person is shown of a history."""
    folded = Standing()
    for event in events_of(data):
        shown = HistoryEvent(event.seq, event.kind.name.lower(), instant(event.at), event.ref, event.name, event.data)
        folded.feed(shown)
        clean(gist(shown))
        msgspec.json.encode(recorded(event.data or ""))
    assert folded.failure is None or folded.closing is not None
    assert folded.done("activity") >= 0


def token(data: bytes) -> None:
    """A completion token is one, or it is not."""
    text = _text(data)
    sealed = seal(text)
    found = Token.parse(sealed)
    assert found is None or found.execution >= 0
    try:
        refuse_stale(sealed, 1, events_of(data))
    except (StaleToken, DecodeError):
        return


def command_line(data: bytes) -> None:
    """JSON, durations and instants as they are typed."""
    text = _text(data)
    if not text.startswith(("@", "-")):
        with contextlib.suppress(UsageError):
            cli_arguments.read_json(text, "the value")
    for read in (seconds, lambda typed: moment(typed, NOW)):
        try:
            read(text)
        except UsageError:
            continue


DECODERS: dict[str, Callable[[bytes], None]] = {
    decoder.__name__: decoder
    for decoder in (
        payload, envelope, failure, literal, arguments, value, history, standing, token, command_line,
    )
}  # fmt: skip


def any_decoder(data: bytes) -> None:
    """Let the first byte choose."""
    if data:
        list(DECODERS.values())[data[0] % len(DECODERS)](data[1:])
