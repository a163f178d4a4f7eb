"""Fuzzing for as long as one likes: `make fuzz SECONDS=600`, or `python tests/fuzz --help`.

`decoders` lets atheris look for input that takes new paths through the code that reads (`fuzz_decoders.py`). `rounds`
and `damage` poison and damage files by one seed after the other (`fuzz_round.py`, `fuzz_damage.py`). Each stops at the
first finding and prints what repeats it.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SUPPORTED = "There are wheels for CPython 3.11 to 3.14 on Linux with x86_64"
READS = (
    "perdure.codec", "perdure.replay.run", "perdure.replay.mismatch", "perdure.engine.loading", "perdure.client.token",
    "perdure.cli.standing", "perdure.cli.failure", "perdure.cli.history", "perdure.cli.moments",
    "perdure.cli.arguments",
)  # fmt: skip
"""What is watched for new paths. The workflow loop is not: it runs the test's own workflow."""
CLOSELY = 20
"""One damaged file in so many is looked at with the command line too."""


def fuzz_decoders(seconds: float, seed: int, corpus: Path) -> None:
    """Let atheris run; it ends the process, with status 0 when it found nothing."""
    try:
        import atheris
    except ImportError:
        sys.exit(f"fuzz decoders: not run, atheris is not installed (make setup does it). {SUPPORTED}.")
    with atheris.instrument_imports(include=list(READS)):
        import fuzz_decoders
    import fuzz_samples

    logging.disable(logging.CRITICAL)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(fuzz_decoders.DECODERS):
        for index, sample in enumerate(fuzz_samples.SAMPLES[name]):
            (corpus / f"sample-{name}-{index}").write_bytes(bytes((number,)) + sample)
    words = corpus.parent / "words"
    words.write_text("".join(f'"{word}"\n' for word in fuzz_samples.WORDS))
    options = [
        f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", f"-dict={words}",
        f"-artifact_prefix={corpus.parent}/", "-max_len=4096", "-timeout=20", "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]  # fmt: skip
    print(f"fuzz decoders: seed {seed}, {seconds:g} s; a finding lies in {corpus.parent}/crash-…", flush=True)
    atheris.Setup([sys.argv[0], *options, str(corpus)], fuzz_decoders.any_decoder)
    atheris.Fuzz()


def repeat(path: Path) -> None:
    """Run one input that was found, with its traceback."""
    import fuzz_decoders

    fuzz_decoders.any_decoder(path.read_bytes())
    print("nothing is wrong with this input any more")


def fuzz_rounds(seconds: float, seed: int, look: bool) -> None:
    import fuzz_round

    folder = Path(tempfile.mkdtemp(prefix="perdure-fuzz-"))
    bases = [fuzz_round.make_base(folder, encrypted) for encrypted in (False, True)]
    played, poisoned, began = 0, 0, time.monotonic()
    while time.monotonic() - began < seconds:
        round = fuzz_round.Round(bases[played % 2], folder, seed + played)
        try:
            round.play(look)
        except BaseException:
            print(
                f"fuzz rounds: seed {round.seed}, {bases[played % 2].path.parent.name}",
                *round.notes,
                sep="\n",
                flush=True,
            )
            raise
        played += 1
        poisoned += len(round.notes)
    shutil.rmtree(folder)
    print(f"fuzz rounds: {played} from seed {seed}, {poisoned} rows poisoned, {time.monotonic() - began:.0f} s")


def fuzz_damage(seconds: float, seed: int) -> None:
    import fuzz_damage

    folder = Path(tempfile.mkdtemp(prefix="perdure-fuzz-"))
    base = fuzz_damage.make_crashed(folder)
    how: Counter[str] = Counter()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        trial = fuzz_damage.Trial(base, folder, seed + how.total())
        try:
            how[trial.run(closely=trial.seed % CLOSELY == 0)] += 1
        except BaseException:
            print(f"fuzz damage: seed {trial.seed}", *trial.notes, sep="\n", flush=True)
            raise
    shutil.rmtree(folder)
    print(f"fuzz damage: {how.total()} from seed {seed}: {dict(how)}, {time.monotonic() - began:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "decoders", "rounds", "damage"), default="all")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--look", action="store_true", help="rounds: ask the command line too, which takes longer")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz/corpus"), help="decoders: kept from run to run")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="decoders: run one input that was found")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if given.repeat is not None:
        repeat(given.repeat)
        return
    seconds = given.seconds / 3 if given.what == "all" else given.seconds
    if given.what in ("rounds", "all"):
        fuzz_rounds(seconds, given.seed, given.look)
    if given.what in ("damage", "all"):
        fuzz_damage(seconds, given.seed)
    if given.what == "decoders":
        fuzz_decoders(seconds, given.seed, given.corpus)
    if given.what == "all":  # atheris watches only what is imported after it, and by now all is
        options = ["--seconds", str(seconds), "--seed", str(given.seed), "--corpus", str(given.corpus)]
        sys.exit(subprocess.run([sys.executable, *sys.argv[:1], "decoders", *options], check=False).returncode)


if __name__ == "__main__":
    main()
