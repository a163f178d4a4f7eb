"""Judges what a power cut left: it must be what was in the file after one of the commits, and one that is new enough.

The state after each commit is made from the record: everything applied up to the end of its last page. So an image
is judged by one digest: it is that of a commit, and with it everything that was true then is true.
"""

from __future__ import annotations

import bisect
import random
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from power_disk import ALL_LEFT, Create, Disk, Image, Sync, Write
from power_recorder import Mark, Phase
from power_session import NAME, Recording
from power_state import State, digest, open_and_check

FRAME_HEADER_BYTES = 24
FRESH_COMMITS = 2
"""The migrations: a file that has less is brought there when it is opened."""


class Judge:
    """Knows what one recording may leave, at each of its steps. `folder` is for images; it is emptied each time."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self.steps = recording.steps
        self.folder = folder
        self.commits = _commits(recording)
        self.flaky = recording.setting.flaky
        self.states: list[State] = [self._state(image) for image in self._images(recording)]
        """After so many commits."""
        self.known: dict[str, list[int]] = {}
        for number, state in enumerate(self.states):
            self.known.setdefault(state.digest, []).append(number)
        self.least = self._least()
        self.judged = 0

    # --- what may be left -------------------------------------------------------------------------------------------

    def _images(self, recording: Recording) -> Iterator[Image]:
        disk = Disk(recording.image)
        yield disk.cut(ALL_LEFT, random.Random(0))
        for begin, end in pairwise([-1, *self.commits.written]):
            disk.apply_all(step for step in self.steps[begin + 1 : end + 1] if not isinstance(step, Mark | Phase))
            yield disk.cut(ALL_LEFT, random.Random(0))

    def _state(self, image: Image) -> State:
        store = open_and_check(self._lay_out(image))
        try:
            return State(store)
        finally:
            store.close()

    def _lay_out(self, image: Image) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name, content in image.items():
            (self.folder / name).write_bytes(content)
        return self.folder / NAME

    def _least(self) -> list[tuple[int, int, Any]]:
        """Give (step, commits, claim): from that step on there must be at least so many commits."""
        least: list[tuple[int, int, Any]] = []
        most = (0, None)
        commits = [-1, *self.commits.written]
        for number, step in enumerate(self.steps):
            if isinstance(step, Mark) and step.claim[0]:
                there = bisect.bisect_left(commits, number) - 1
                most = max(most, (self._since(step.claim[1:], there), step.claim[1:]), key=lambda found: found[0])
                least.append((number, *most))
        return least

    def _since(self, claim: Any, there: int) -> int:
        """Give after how many commits, of those `there`, a claim became true."""
        id = claim[1]
        seen = next((number for number, state in enumerate(self.states) if id in state.statuses), len(self.states))
        number = there + 1
        while number and self._true(claim, number - 1, seen):
            number -= 1
        assert number <= there, f"{claim} was said, and was not in the file"
        return number

    def _true(self, claim: Any, number: int, seen: int) -> bool:
        what, id, *rest = claim
        state = self.states[number]
        if what == "gone":
            return number > seen and id not in state.statuses
        return state.agrees(what, id, *rest) or (number > seen and id not in state.statuses)

    # --- judging ----------------------------------------------------------------------------------------------------

    def bounds(self, cut: int) -> tuple[int, int, Any]:
        """Give the least and the most commits that may be left when the power goes before step `cut`, and what asks
        for the least."""
        found = bisect.bisect_left(self.least, cut, key=lambda entry: entry[0])
        _, least, claim = self.least[found - 1] if found else (0, 0, None)
        written, begun, synced = self.commits
        syncs = bisect.bisect_left(synced, cut)
        in_log = bisect.bisect_left(written, synced[syncs - 1]) if syncs else 0
        if in_log > least and not self.flaky:  # where a sync fails, SQLite takes the commit back
            least, claim = in_log, "the log was synced"
        return least, bisect.bisect_left(begun, cut), claim

    def judge(self, cut: int, image: Image) -> int:
        """Check an image; give how many commits it has. Raises `AssertionError`."""
        self.judged += 1
        path = self._lay_out(image)
        store = open_and_check(path)
        try:
            found = digest(store)
        finally:
            store.close()
        least, most, claim = self.bounds(cut)
        commits = self.known.get(found)
        assert commits, "what is left was never in the file: it is not the state after any commit"
        first, last = commits[0], max(number for number in commits if number <= max(most, FRESH_COMMITS, commits[0]))
        assert first <= max(most, FRESH_COMMITS), f"{first} commits are left, and only {most} had begun"
        assert last >= least, f"{last} commits are left, of at least {least}: lost is {claim}"
        return last


class Commits(NamedTuple):
    """Steps: those that wrote the last page of each commit into the log, those that began to write that page's frame,
    and those that synced the log."""

    written: list[int]
    begun: list[int]
    synced: list[int]


def _commits(recording: Recording) -> Commits:
    logs = {number for number, name in enumerate(recording.image) if name.endswith("-wal")}
    written: list[int] = []
    begun: list[int] = []
    synced: list[int] = []
    for number, step in enumerate(recording.steps):
        if isinstance(step, Create) and step.name.endswith("-wal"):
            logs.add(step.file)
        elif isinstance(step, Write) and step.file in logs:
            if begun and len(written) < len(begun):
                written.append(number)
            elif len(step.data) == FRAME_HEADER_BYTES and int.from_bytes(step.data[4:8]):
                begun.append(number)
        elif isinstance(step, Sync) and step.file in logs and not step.failed:
            synced.append(number)
    return Commits(written, begun, synced)
