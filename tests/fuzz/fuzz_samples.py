"""Genuine input of each decoder, and the words that stand in it: where fuzzing begins."""

from __future__ import annotations

import asyncio
import datetime as dt

import msgspec
from fuzz_decoders import CODEC, ENCRYPTED, PLAIN, bytes_of

from perdure.codec import encode_failure
from perdure.events import Event, Kind


def _failures() -> list[bytes]:
    errors: tuple[BaseException, ...] = (
        ValueError("x", 1, b"y", dt.date(2026, 1, 2)), OSError(2, "gone", "file"), KeyError("k"),
        UnicodeDecodeError("utf-8", b"ab", 0, 1, "bad"), ExceptionGroup("g", [ValueError(1), TypeError()]),
        StopIteration(3), ImportError("m", name="n"), asyncio.CancelledError("c"),
    )  # fmt: skip
    named = [
        msgspec.json.encode({"type": name, "args": ["touch owned"], "attributes": {"hint": 5, "__class__": "x"}})
        for name in ("os:system", "subprocess:Popen", "builtins:eval", "fuzz_canary:Boom", "fuzz_canary:Quiet",
                     "fuzz_canary:Boom.__init__", "perdure.errors:ContinueAsNew", "urllib.error:HTTPError")
    ]  # fmt: skip
    return [*(encode_failure(error).encode() for error in errors), *named]


def _histories() -> list[bytes]:
    wrong = encode_failure(ValueError("no"))[:250]
    beginning = [
        Event(1, Kind.STARTED, 0, None, "steps", '{"name":"x"}'), Event(2, Kind.STATE_SET, 0, None, "phase", '"x"'),
        Event(3, Kind.ACTIVITY_SCHEDULED, 0, None, "step", '{"text":"x"}'),
    ]  # fmt: skip
    note = Event(4, Kind.ATTEMPT_FAILED, 0, 3, None, '{"attempt":1,"error":{"type":"a:B"},"retry_at":5}')
    done = Event(4, Kind.ACTIVITY_COMPLETED, 0, 3, None, '"x"')
    told = [
        Event(5, Kind.SIGNAL_RECEIVED, 0, None, "approved", '"yes"'),
        Event(6, Kind.TIMER_STARTED, 0, None, None, "5"),
    ]
    inherited = '{"state":{"phase":1},"signals":[["approved","y"]]}'
    return [
        bytes_of(events)
        for events in (
            beginning, [*beginning, note], [*beginning, done], [*beginning, done, *told],
            [*beginning, Event(4, Kind.ACTIVITY_FAILED, 0, 3, None, '{"type":"builtins:StopIteration"}')],
            [*beginning, Event(4, Kind.ACTIVITY_FAILED, 0, 3, None, wrong)],
            [*beginning, Event(4, Kind.CANCEL_REQUESTED, 0, None, None, '"why"')],
            [*beginning, Event(4, Kind.ATTEMPT_DEFERRED, 0, 3, None, '{"attempt":1,"secret":"00"}')],
            [Event(1, Kind.INHERITED, 0, None, None, inherited), *beginning],
            [*beginning, done, Event(5, Kind.REOPENED, 0, None, None, '{"from_seq":4}'), done],
            [*beginning, Event(4, Kind.TIMED_OUT, 0), Event(5, Kind.FAILED, 0, None, None, wrong)],
            [*beginning, Event(4, Kind.CANCEL_REQUESTED, 0, None, None, "{")],
            [*beginning, Event(4, Kind.ACTIVITY_FAILED, 0, 3, None, "[]")],
            [*beginning, Event(4, Kind.ATTEMPT_FAILED, 0, 3, None, '{"attempt":"x"}')],
            [*beginning, done, Event(5, Kind.REOPENED, 0, None, None, "[]")],
            [Event(1, Kind.INHERITED, 0, None, None, '{"state":5}'), *beginning],
        )
    ]  # fmt: skip


def _values() -> list[bytes]:
    texts = (
        "null", "true", "-1", "1e3", "1e400", "9" * 30, '"x"', '"2026-01-31T10:00:00Z"', '"PT5S"', "[]", "{}",
        '{"x":1,"y":2.5}', '{"id":"a","total":"1.5","items":["t"],"at":"2026-01-31T10:00:00"}', '"AAEC"',
        '{"order":{"id":"a"},"n":2,"rest":[{"x":1}],"key":"00000000-0000-0000-0000-000000000000"}', '{"a":[1],"b":{}}',
        '{"$tuple":[1,{"$bytes":"YQ=="}]}', '{"$datetime":"2026-01-31"}', '{"$decimal":"1e400"}', '{"$uuid":"x"}',
        '{"street":"s","number":1}', '"red"', "[" * 200, '"\\ud800"', "90s", "1h30m", "2026-01-31", "7d", "1.5.2.x",
    )  # fmt: skip
    return [text.encode() for text in texts]


SAMPLES: dict[str, list[bytes]] = {
    "payload": [PLAIN.store("x" * 300_000).body, ENCRYPTED.store("plain"), b"text", b"\x28\xb5\x2f\xfd"],  # type: ignore[union-attr, list-item]
    "envelope": [CODEC.encode(b"sealed"), CODEC.encode(b""), b"\x01\x03old" + bytes(40)],
    "failure": _failures(),
    "history": _histories(),
    "standing": _histories(),
    "token": [b"1.3.1.secret", "1.²3.1.secret".encode(), b"1.3.1.", *_histories()],
} | dict.fromkeys(("literal", "arguments", "value", "command_line"), _values())

WORDS = (
    "type message args attributes exact notes traceback cause exceptions state signals from_seq attempt error retry_at"
    " details reason stopped interrupted secret id on_parent_end to value name order n rest key x y a b street number"
    " total items at $bytes $tuple $datetime $date $time $timedelta $uuid $decimal builtins:ValueError os:system"
    " builtins: builtins:OSError builtins:UnicodeDecodeError builtins:ExceptionGroup perdure.errors: fuzz_canary:Boom"
    " null true"
).split()
