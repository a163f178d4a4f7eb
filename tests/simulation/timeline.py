"""What happened in one seed, line by line: for people to read, and as a hash that two runs of a seed must share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from perdure.events import Event, Kind
from simulation.scheduler import Scheduler

_SECRET = (Kind.ATTEMPT_DEFERRED,)
LAST = 400


class Timeline:
    """See the module. Lines are kept as they come and written out only when someone asks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.entries: list[tuple[float, object, str, object]] = []

    def note(self, who: object, what: str, detail: object = "") -> None:
        self.entries.append((self.scheduler.now, who, what, detail))

    def lines(self) -> Iterator[str]:
        for at, who, what, detail in self.entries:
            text = detail if isinstance(detail, str) else _text(detail)
            yield f"{at:12.6f}  {who!s:<12} {what:<10} {text}"

    def hash(self, *hidden: str) -> str:
        """Give a digest of all lines; `hidden` are texts that differ from run to run, such as a path."""
        digest = hashlib.blake2b(digest_size=16)
        for line in self.lines():
            for text in hidden:
                line = line.replace(text, "")
            digest.update(line.encode())
        return digest.hexdigest()

    def tail(self) -> str:
        """Give the newest lines."""
        lines = list(self.lines())
        left = [f"… {len(lines) - LAST} lines before"] if len(lines) > LAST else []
        return "\n".join([*left, *lines[-LAST:]])


def _text(detail: object) -> str:
    if isinstance(detail, Event):
        data = None if detail.kind in _SECRET else detail.data
        return str(Event(detail.seq, detail.kind, detail.at, detail.ref, detail.name, data))
    if isinstance(detail, tuple):
        return " ".join(map(_text, detail))
    return str(detail)
