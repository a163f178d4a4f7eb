"""A campaign: record a session, cut its power many times, judge what each cut left, go on from some of it, and cut
again."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from power_disk import Disk, Image, Loss, Truncate, Write
from power_judge import Judge
from power_recorder import Mark, Phase
from power_session import NAME, Past, Recording, Session, Setting
from power_state import State

FULL = Setting()
NORMAL = Setting("normal", "normal")
MIXED = Setting("normal", "full")
FLAKY = Setting(flaky=True)
RESUMED_OF = 20
"""One of so many images is not only judged: an engine goes on from it to the end of everything."""


@dataclass
class Figures:
    """What was tried."""

    cuts: Counter[str] = field(default_factory=Counter)
    """By what was under way."""
    depths: Counter[int] = field(default_factory=Counter)
    commits: int = 0
    claims: int = 0
    resumed: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __str__(self) -> str:
        phases = ", ".join(f"{name} {count}" for name, count in sorted(self.cuts.items()))
        nested = sum(count for depth, count in self.depths.items() if depth)
        return (
            f"{sum(self.cuts.values()):,} power cuts ({phases}; {nested:,} of them after an earlier one), "
            f"{self.commits:,} commits and {self.claims:,} acknowledgements in the records, "
            f"{self.resumed:,} files worked on to the end"
        )


class Campaign:
    """See the module. Everything follows from `seed`."""

    def __init__(self, seed: object, setting: Setting, kept: Path) -> None:
        self.seed = seed
        self.setting = setting
        self.kept = kept
        """Where an image goes that is not what it should be."""
        self.choose = random.Random(f"power {seed}")
        self.figures = Figures()

    def run(self, cuts: int, depth: int = 2) -> Figures:
        """Cut the power `cuts` times, over `depth` further generations."""
        with scratch() as folder:
            generation = Generation(self, folder, 0, Past())
            recording = generation.record({}, self._acts(0))
            for number in range(depth + 1):
                share = cuts // (depth + 1) if number else cuts - cuts // (depth + 1) * depth
                image, past = generation.cut(recording, share)
                if number < depth:
                    generation = Generation(self, folder, number + 1, past)
                    recording = generation.record(image, self._acts(number + 1))
        return self.figures

    def _acts(self, depth: int) -> list[str]:
        acts = ["work"] if depth == 0 else [self.choose.choice(["work", "finish"])]
        while self.choose.random() < 0.75 and len(acts) < 4:
            acts.append(self.choose.choice(["work", "work", "clean_up", "finish"]))
        return acts


class Generation:
    """A file's life between two power cuts. `past` is what happened in its lives before."""

    def __init__(self, campaign: Campaign, folder: Path, depth: int, past: Past) -> None:
        self.campaign = campaign
        self.figures = campaign.figures
        self.choose = campaign.choose
        self.folder = folder
        self.depth = depth
        self.past = past

    def record(self, image: Image, acts: list[str], prepare: Callable[[Session], None] | None = None) -> Recording:
        """Go on from an image."""
        folder = self.folder / f"life-{self.depth}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in image.items():
            (folder / name).write_bytes(content)
        session = Session(folder, self.choose, self.campaign.setting, self.depth, self.past)
        if prepare is not None:
            prepare(session)
        return session.record(*(getattr(session, act) for act in acts))

    def cut(self, recording: Recording, cuts: int) -> tuple[Image, Past]:
        """Cut the power `cuts` times; give one of the images, and what had happened until then."""
        judge = Judge(recording, self.folder / "image")
        self.figures.commits += len(judge.states)
        self.figures.claims += len(judge.least)
        disk, applied = Disk(recording.image, self.choose), 0
        chosen = recording.image, self.past
        for number, (cut, phase) in enumerate(self._moments(recording, cuts)):
            for step in recording.steps[applied:cut]:
                if not isinstance(step, Mark | Phase):
                    disk.apply(step)
            applied = cut
            past = self.past.then(recording.until(cut))
            loss = Loss.draw(self.choose)
            image = disk.cut(loss, self.choose)
            with self._explained(judge, number, cut, phase, loss):
                left = judge.judge(cut, self._with_rubbish(image))
                if number % RESUMED_OF == RESUMED_OF // 2:
                    self._resume(image, judge.states[left], past)
            self.figures.cuts[phase] += 1
            self.figures.depths[self.depth] += 1
            if self.choose.random() < 1 / (number + 1):
                chosen = image, past
        return chosen

    def _moments(self, recording: Recording, cuts: int) -> list[tuple[int, str]]:
        """Draw steps at which to cut, in order, each with what is under way there. All phases get their share."""
        phases = list(_phases(recording))
        by_phase: dict[str, list[int]] = {}
        for number, phase in enumerate(phases):
            by_phase.setdefault(phase, []).append(number)
        drawn = []
        for _ in range(cuts):
            if self.choose.random() < 0.5:
                drawn.append(self.choose.randrange(len(phases)))
            else:
                drawn.append(self.choose.choice(by_phase[self.choose.choice(sorted(by_phase))]))
        return [(number, phases[number]) for number in sorted(drawn)]

    def _with_rubbish(self, image: Image) -> Image:
        """Add, now and then, a log's index from before: it is worth nothing, and must not be believed."""
        if self.choose.random() < 0.1:
            return {**image, f"{NAME}-shm": self.choose.randbytes(32_768)}
        return image

    def _resume(self, image: Image, state: State, past: Past) -> None:
        """Bring everything to its end from here; nothing that is recorded as done may be done again."""
        self.figures.resumed += 1
        after = Generation(self.campaign, self.folder, self.depth + 1, past).record(image, ["finish"])
        ended = state.ended_activities()
        for effect in after.past.effects:
            assert effect[:3] not in ended, f"a completed activity ran again: {effect}"
            again = effect in past.effects and self.campaign.setting.engine == "full"
            assert not again, f"an attempt ran twice: {effect}"

    @contextmanager
    def _explained(self, judge: Judge, number: int, cut: int, phase: str, loss: Loss) -> Iterator[None]:
        """Say of a failure how to see it again, and keep the image."""
        try:
            yield
        except Exception as error:
            kept = self.campaign.kept / f"power-cut-{self.depth}-{number}"
            shutil.copytree(judge.folder, kept, dirs_exist_ok=True)
            raise AssertionError(
                f"seed {self.campaign.seed}, {self.campaign.setting}, after {self.depth} earlier cuts, cut {number} "
                f"before step {cut} of {len(judge.steps)} ({phase}) with {loss}: {error}\nthe files are in {kept}"
            ) from error


def _phases(recording: Recording) -> Iterator[str]:
    """Give what is under way at each step."""
    main = {number for number, name in enumerate(recording.image) if name == NAME}
    phase = "creating"
    for step in recording.steps:
        if isinstance(step, Phase):
            phase = step.name
        if isinstance(step, Write | Truncate) and step.file in main and phase != "creating":
            yield "checkpointing"
        else:
            yield phase


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for the time of a block, in memory where that is possible: nothing here needs a real disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="perdure-power-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
