"""Durations and instants as people write and read them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from perdure.cli.exits import UsageError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|[smhdw])\s*)+")
_LONGEST_S = 100 * 365 * 86_400


def seconds(text: str) -> float:
    """Read a duration: `90`, `90s`, `1h30m`, `7d`, `500ms`. Raises `UsageError`."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        total = float(text)
    elif _WHOLE.fullmatch(text):
        total = math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        raise UsageError(f"{text!r} is not a duration", hint="write it like 90s, 5m, 1h30m, 7d or 2w")
    if total > _LONGEST_S:
        raise UsageError(f"{text!r} is longer than 100 years")
    return total


def positive_seconds(text: str | None) -> float | None:
    """Read a duration that is more than 0; None stays None."""
    if text is None:
        return None
    value = seconds(text)
    if value <= 0:
        raise UsageError("the duration must be more than 0")
    return value


def moment(text: str, now: datetime) -> datetime:
    """Read an instant: ISO 8601 (local time unless it says otherwise), or a duration that counts back from now."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - timedelta(seconds=seconds(text))
        except UsageError:
            raise UsageError(
                f"{text!r} is neither an instant nor a duration", hint="write 2026-01-31, 2026-01-31T10:00Z, 2h or 7d"
            ) from None
    try:
        return at.astimezone(UTC)
    except (OverflowError, ValueError, OSError):
        raise UsageError(f"{text!r} is out of range") from None


def iso(at: datetime | None) -> str:
    """Write an instant for machines; empty for none."""
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at: datetime, now: datetime) -> str:
    """Write an instant for people: local time, with the date unless it is today."""
    local = at.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == now.astimezone().date() else "%Y-%m-%d %H:%M:%S")


def brief(duration: timedelta | float) -> str:
    """Write a duration for people, in at most two units: `1.2s`, `4m 03s`, `3d 4h`."""
    total = duration.total_seconds() if isinstance(duration, timedelta) else duration
    total = max(total, 0.0)
    if total < 10:
        return f"{total:.1f}s" if total >= 0.1 else f"{total * 1000:.0f}ms"
    whole = round(total)
    for size, unit, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit} {rest:02}{small}" if small != "h" else f"{whole // size}{unit} {rest}{small}"
    return f"{whole}s"


def relative(at: datetime, now: datetime) -> str:
    """Say how far away an instant is: `3m 10s ago`, `in 2d 4h`."""
    return f"in {brief(at - now)}" if at > now else f"{brief(now - at)} ago"
