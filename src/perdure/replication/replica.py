"""A database's replica: where it is, and how closely it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from perdure.engine.replicator import Site
from perdure.replication.lease import Lease
from perdure.replication.litestream import Settings
from perdure.replication.progress import Lag
from perdure.replication.records import EVERY_S
from perdure.replication.shared import Share
from perdure.replication.snapshots import KEPT
from perdure.replication.stream import LitestreamStream
from perdure.replication.target import Target


@dataclass(frozen=True, slots=True)
class Replica:
    """Where an engine's database is streamed to, and what to do when that takes long.

        Engine("shop.db", workflows=[fulfil], replicate=Replica("s3://bucket/prefix/shop"))

    `url` is `s3://bucket/prefix`, with `?endpoint=…&region=…` for stores other than AWS, or `file:///folder`.
    Credentials come from the usual AWS environment, profile or file. `interval_s` is the time from a commit to its
    upload, at the most; `wait_s` is how long something with `durability="replicated"` waits, and `late` what happens
    then: `fail` it, or `go_on` and say so in the log. `on_lag` is called, on the engine's loop, when the replica is
    more than `lag_alarm_s` behind, and once more when it has caught up.
    """

    url: str
    interval_s: float = 0.1
    wait_s: float = 30.0
    late: Literal["fail", "go_on"] = "fail"
    lag_alarm_s: float = 60.0
    on_lag: Callable[[Lag], None] | None = None
    log_limit_bytes: int = 64 * 1024 * 1024
    """How large the local log may get while Litestream is away. In an outage so much, or as much as the file has, may
    wait on this disk."""
    lease: Lease | None = None
    """Held by whoever opened it, for as long as this engine runs."""
    share: Share | None = None
    """What it has in common with other replicas, where somebody runs many."""
    settings: Settings = field(default_factory=Settings)
    record_every_s: float = EVERY_S
    """How often digests of the content are put beside the replica, for drills; for a large file less often."""
    snapshot_every_s: float | None = None
    """How often a whole copy is put beside the replica, made without Litestream; None: never."""
    snapshots_keep: int = KEPT
    """The newest so many are kept, as far as they are not older than `snapshots_days`."""
    snapshots_days: float | None = None
    drill_every_s: float | None = None
    """How often the replica is restored, in a process of its own, to see that it can be; None: never."""
    drill_code: tuple[str, ...] = ()
    """Files or modules whose workflows a drill replays, as for `perdure verify`."""
    target: Target = field(init=False)
    streams: list[LitestreamStream] = field(default_factory=list, init=False, repr=False, compare=False)
    """Those that were begun, one for each time that the engine became the runner."""

    def __post_init__(self) -> None:
        if self.late not in ("fail", "go_on"):
            raise ValueError(f'late is "fail" or "go_on", not {self.late!r}')
        for name in ("interval_s", "wait_s", "lag_alarm_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {getattr(self, name)!r}")
        for name in ("record_every_s", "snapshot_every_s", "snapshots_days", "drill_every_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")
        object.__setattr__(self, "target", Target.parse(self.url))

    def begin(self, site: Site) -> LitestreamStream:
        """Start streaming the database of an engine that has just become its runner."""
        stream = LitestreamStream(self, site)
        self.streams.append(stream)
        return stream
