"""Durations and instants; where an execution stands after its history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perdure.cli.exits import ExitCode, UsageError, code_for
from perdure.cli.moments import brief, moment, relative, seconds
from perdure.cli.output import clean, counted
from perdure.cli.standing import Standing
from perdure.errors import EngineClosed, StoreBusy, UnknownWorkflow
from perdure.types import HistoryEvent

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("1h30m", 5400), ("1h 30m", 5400), ("7d", 604_800), ("2W", 1_209_600),
     ("500ms", 0.5), ("0", 0)],
)  # fmt: skip
def test_durations_as_people_write_them(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "1x", "-5s", "1h30", "soon", "99999d", "1e3"])
def test_what_is_not_a_duration(text):
    with pytest.raises(UsageError):
        seconds(text)


def test_moments():
    assert moment("2h", NOW) == NOW - timedelta(hours=2)
    assert moment("2026-01-31T10:00Z", NOW) == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert moment("2026-01-31T10:00+02:00", NOW) == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert moment("2026-01-31", NOW) == datetime(2026, 1, 31).astimezone()
    for wrong in ("yesterday", "2026-13-01", "0001-01-01"):
        if wrong != "0001-01-01":
            with pytest.raises(UsageError):
                moment(wrong, NOW)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(0, "0ms"), (0.0123, "12ms"), (1.25, "1.2s"), (59.4, "59s"), (59.6, "1m 00s"), (3599.7, "1h 00m"),
     (90_000, "1d 1h"), (-1, "0ms")],
)  # fmt: skip
def test_durations_for_people(duration, expected):
    assert brief(duration) == expected


def test_relative_instants():
    assert relative(NOW + timedelta(minutes=3), NOW) == "in 3m 00s"
    assert relative(NOW - timedelta(days=2), NOW) == "2d 0h ago"


def test_text_from_a_stranger_cannot_steer_the_terminal():
    assert clean("a\x1b]0;evil\x07\tb\n\x9b") == "a\\x1b]0;evil\\x07\\tb\\n\\x9b"
    assert clean("a\n\x1bb", lines=True) == "a\n\\x1bb"
    assert clean("\ud800") == "\\ud800"
    assert clean(None) == ""
    assert (counted(1, "execution"), counted(2000, "execution")) == ("1 execution", "2,000 executions")


def test_errors_have_their_exit_codes():
    assert code_for(StoreBusy("x")) is ExitCode.STORE
    assert code_for(UnknownWorkflow("x")) is ExitCode.NOT_FOUND
    assert code_for(EngineClosed("x")) is ExitCode.FAILED


def standing_after(*events):
    standing = Standing()
    for seq, (kind, ref, name, data) in enumerate(events, 1):
        standing.feed(HistoryEvent(seq, kind, NOW + timedelta(seconds=seq), ref, name, data))
    return standing


FAILURE = '{"type": "shop:Declined", "message": "no money\\nat all"}'


def test_what_is_open_and_what_went_wrong():
    standing = standing_after(
        ("started", None, "fulfil", '{"n": 1}'),
        ("activity_scheduled", None, "charge", "{}"),
        ("timer_started", None, None, "1772445600000000"),
        ("child_started", None, "ship", '{"id": "s-1", "args": {}}'),
        ("attempt_failed", 2, None, f'{{"attempt": 1, "error": {FAILURE}, "retry_at": 1772445600000000}}'),
        ("child_completed", 4, "ship", "null"),
    )
    assert [(item.what, item.name) for item in standing.open.values()] == [("activity", "charge"), ("timer", None)]
    assert standing.open[2].attempt == 2
    assert standing.open[2].error == "Declined: no money"
    assert standing.open[3].due_at == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert (standing.done("child"), standing.done("activity")) == (1, 0)
    assert [(t.what, t.attempt, t.name) for t in standing.troubles] == [("attempt", 1, "charge")]


def test_an_attempt_that_was_interrupted_is_no_error():
    standing = standing_after(
        ("started", None, "fulfil", "{}"),
        ("activity_scheduled", None, "charge", "{}"),
        ("attempt_failed", 2, None, '{"attempt": 1, "error": null, "retry_at": null, "reason": "stopped"}'),
    )
    assert (standing.open[2].attempt, standing.open[2].error, standing.troubles) == (2, "stopped", [])


def test_reopening_takes_back_what_followed():
    standing = standing_after(
        ("started", None, "fulfil", "{}"),
        ("activity_scheduled", None, "charge", "{}"),
        ("activity_failed", 2, None, FAILURE),
        ("activity_scheduled", None, "refund", "{}"),
        ("failed", None, None, FAILURE),
        ("reopened", None, None, '{"from_seq": 3}'),
    )
    assert [item.name for item in standing.open.values()] == ["charge"]
    assert standing.closing is None
    assert [trouble.what for trouble in standing.troubles] == ["activity", "execution"]
    standing.feed(HistoryEvent(7, "activity_completed", NOW, 2, None, "1"))
    assert (standing.open, standing.done("activity")) == ({}, 1)
