"""Which completion tokens are refused from the history alone."""

from __future__ import annotations

import pytest

from perdure.client.token import digest, refuse_stale, seal
from perdure.errors import StaleToken
from perdure.events import Event, Kind

TOKEN = "9.2.1.secret"


def history(*events: tuple[Kind, int | None, str | None]) -> list[Event]:
    first = [(Kind.STARTED, None, "{}"), (Kind.ACTIVITY_SCHEDULED, None, "{}")]
    return [Event(seq, kind, seq, ref, "a", data) for seq, (kind, ref, data) in enumerate([*first, *events], 1)]


def deferred(attempt: int, secret: str) -> tuple[Kind, int, str]:
    return (Kind.ATTEMPT_DEFERRED, 2, f'{{"attempt": {attempt}, "secret": "{digest(secret)}"}}')


def failed(attempt: int) -> tuple[Kind, int, str]:
    return (Kind.ATTEMPT_FAILED, 2, f'{{"attempt": {attempt}, "error": {{}}, "retry_at": 5}}')


@pytest.mark.parametrize(
    ("token", "events"),
    [
        (TOKEN, []),  # it still runs: the secret is recorded when it is left open
        (TOKEN, [deferred(1, "secret")]),
        ("9.2.2.new", [deferred(1, "secret"), failed(1)]),
        ("9.2.1.new", [deferred(1, "secret"), (Kind.REOPENED, None, '{"from_seq": 4}')]),
        (TOKEN, [deferred(1, "secret"), (Kind.ACTIVITY_COMPLETED, 2, "1"), (Kind.REOPENED, None, '{"from_seq": 4}')]),
    ],
)
def test_a_token_that_may_be_good_is_let_through(token, events):
    refuse_stale(seal(token), 9, history(*events))


@pytest.mark.parametrize(
    ("token", "events"),
    [
        ("nonsense", []),
        ("8.2.1.secret", []),
        ("9.1.1.secret", []),
        ("9.7.1.secret", []),
        (TOKEN, [failed(1)]),
        ("9.2.1.other", [deferred(1, "secret")]),
        ("9.2.7.secret", [deferred(1, "secret")]),
        *[(TOKEN, [deferred(1, "secret"), (kind, 2, None)]) for kind in
          (Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED, Kind.ACTIVITY_CANCELLED)],
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_good_is_refused(token, events):
    with pytest.raises(StaleToken):
        refuse_stale(seal(token), 9, history(*events))
