"""When a failed attempt is tried again. Pure: the random draw is passed in."""

from __future__ import annotations

import msgspec


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon an activity is tried again after it raised.

    `attempts` counts attempts that failed, the first included; None means no limit. The wait before the next one
    grows from `initial_s` by `multiplier` up to `max_s`; with `jitter` it is drawn evenly between 0 and that (full
    jitter). Errors of a type in `never` (subclasses too) are final at once. After `total_s` seconds since it was
    scheduled no new attempt starts.

    An attempt that died with its process is not a failure of the activity: it does not count for `attempts`. After
    `interruptions` of them in one activity it fails with `AttemptInterrupted`, so that code which kills its process
    does not do so forever; 0 gives at-most-once.
    """

    attempts: int | None = 5
    initial_s: float = 1.0
    max_s: float = 60.0
    multiplier: float = 2.0
    jitter: bool = True
    never: tuple[type[BaseException], ...] = ()
    total_s: float | None = None
    interruptions: int = 20

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts must be at least 1 (the first try counts), not {self.attempts}")
        if self.initial_s < 0 or self.max_s < 0 or self.multiplier < 1 or self.interruptions < 0:
            raise ValueError("initial_s, max_s and interruptions must not be negative, multiplier not below 1")
        if not isinstance(self.never, tuple):
            raise TypeError(
                f"never must be a tuple of exception types, such as never=(ValueError,), not {self.never!r}"
            )

    def wait_s(self, failed: int, draw: float) -> float:
        """Give the seconds to wait after `failed` failed attempts (1 or more); `draw` is evenly in [0, 1)."""
        exponent = min(failed - 1, 1_000)
        try:
            ceiling = min(self.initial_s * self.multiplier**exponent, self.max_s)
        except OverflowError:
            ceiling = self.max_s
        return ceiling * draw if self.jitter else ceiling

    def gives_up(self, error: BaseException, failed: int) -> bool:
        """Say whether `error`, the `failed`-th failure, is final. Decides on type and count, never on text."""
        return isinstance(error, self.never) or (self.attempts is not None and failed >= self.attempts)


NO_RETRY = Retry(attempts=1)
