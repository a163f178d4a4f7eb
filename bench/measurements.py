"""The measurements that the figures are made of: which job, on how much, how often."""

from __future__ import annotations

from dataclasses import dataclass

JOBS, TENANTS, REPLICATION = "bench.jobs", "bench.tenants", "bench.replication"
DBOS, RESTATE = "bench.peers.dbos_jobs", "bench.peers.restate_jobs"


@dataclass(frozen=True)
class Measurement:
    """One job, run `runs` times, each in a process of its own on a new database; the median counts. With `over_r`, R
    is taken right before and after each run."""

    name: str
    module: str
    arguments: tuple[str, ...]
    runs: int
    unit: str = "steps/s"
    over_r: bool = False


RAW = Measurement("raw", "bench.raw", ("--seconds", "0.4", "--rounds", "1"), 1, "commits/s")


def measurements(*, quick: bool) -> tuple[Measurement, ...]:
    """All jobs, in the order that they run in. `quick` is smaller, and so less exact."""
    return (*_throughput(quick), *_other(quick), *_replication(quick), *_peers(quick))


def _throughput(quick: bool) -> tuple[Measurement, ...]:
    """What is divided by R."""
    runs, few = (1, 1) if quick else (5, 3)
    steps = f"steps={500 if quick else 2000}"
    many = (f"workflows={200 if quick else 1000}", f"steps={10 if quick else 20}")
    normal = "synchronous=normal"

    def job(name: str, *arguments: str, runs: int = few, job: str = "", unit: str = "steps/s") -> Measurement:
        return Measurement(name, JOBS, (job or name, *arguments), runs, unit, over_r=True)

    return (
        job("seq", steps, runs=runs),
        job("conc", *many, runs=runs),
        job("workflows", f"count={1000 if quick else 5000}", unit="workflows/s"),
        job("start_result", f"count={300 if quick else 2000}", unit="ms"),
        job("signals", f"count={1000 if quick else 5000}", unit="signals/s"),
        job("children", f"count={1000 if quick else 10000}", unit="children/s"),
        job("sync_def", *many),
        job("seq_normal", steps, normal, job="seq"),
        job("conc_normal", *many, normal, job="conc"),
    )


def _other(quick: bool) -> tuple[Measurement, ...]:
    def job(name: str, *arguments: str, runs: int = 1, unit: str = "") -> Measurement:
        return Measurement(name, JOBS, (name, *arguments), runs, unit)

    return (
        job("cross", f"count={100 if quick else 1000}", runs=1 if quick else 3, unit="ms"),
        job("idle", f"seconds={3 if quick else 10}", unit="%"),
        job("def_threads", f"workflows={1000 if quick else 10000}", unit="threads"),
        job("cold", "steps=100", f"rounds={3 if quick else 9}", unit="ms"),
        job("import", f"rounds={5 if quick else 15}", unit="ms"),
        job("long", f"steps={20_000 if quick else 100_000}", runs=1 if quick else 2),
        Measurement("tenants", TENANTS, (f"count={100 if quick else 1000}", f"seconds={3 if quick else 10}"), 1, "KiB"),
        job("sleepers", f"count={20_000 if quick else 1_000_000}", f"due={100 if quick else 1000}"),
    )


def _replication(quick: bool) -> tuple[Measurement, ...]:
    def job(name: str, *arguments: str, unit: str = "ms") -> Measurement:
        return Measurement(f"repl.{name}", REPLICATION, (name, *arguments), 1, unit)

    many = f"workflows={200 if quick else 1000}"
    return (
        job("overhead", many, f"steps={10 if quick else 80}", f"pairs={1 if quick else 3}", unit="x"),
        job("lag", f"seconds={3 if quick else 8}", many, f"steps={10 if quick else 60}"),
        job("barrier", f"count={20 if quick else 80}"),
        job("barrier_conc", many, f"steps={10 if quick else 20}", unit="steps/s"),
        job("takeover", f"size_mb={10 if quick else 50}", f"rounds={1 if quick else 3}", unit="s"),
    )


def _peers(quick: bool) -> tuple[Measurement, ...]:
    """Fewer steps for DBOS than perdure gets: only rates are compared (see peers/dbos_jobs.py)."""
    runs = 1 if quick else 3
    many = "200" if quick else "1000"
    return (
        Measurement("dbos.seq", DBOS, ("seq", "--steps", "200" if quick else "1000"), runs),
        Measurement("dbos.conc", DBOS, ("conc", "--workflows", "20" if quick else "100", "--steps", "20"), runs),
        Measurement("restate.seq", RESTATE, ("seq", "--steps", "200" if quick else "1000"), runs),
        Measurement("restate.conc", RESTATE, ("conc", "--workflows", many, "--steps", "20"), runs),
    )


CONCURRENCY = {1: 2000, 10: 500, 100: 100, 1000: 20, 5000: 10}
"""How many workflows at once, and the steps of each."""
PAYLOADS = {10: 2000, 1_000: 2000, 10_000: 1000, 100_000: 300, 1_000_000: 50}
"""Characters of an argument and of a result, and how many steps."""


PROFILED = {"seq": 5000, "conc": 20_000, "start_result": 1000, "workflows": 5000, "children": 10_000}
"""The jobs whose time is taken apart, and how many units of each."""


def curves() -> tuple[Measurement, ...]:
    """What the plots show beside the figures; only `make bench-record` runs them. With R beside each run, so that what
    was disturbed is repeated."""
    made = []
    for synchronous in ("full", "normal"):
        for workflows, steps in CONCURRENCY.items():
            options = (f"workflows={workflows}", f"steps={steps}", f"synchronous={synchronous}")
            made.append(Measurement(f"curve.{synchronous}.{workflows}", JOBS, ("conc", *options), 3, over_r=True))
    for size, steps in PAYLOADS.items():
        arguments = ("payload", f"size={size}", f"steps={steps}")
        made.append(Measurement(f"curve.payload.{size}", JOBS, arguments, 3, over_r=True))
    for job, count in PROFILED.items():
        for synchronous in ("full", "normal"):
            profiled = ("profile", f"of={job}", f"count={count}", f"synchronous={synchronous}")
            made.append(Measurement(f"profile.{job}.{synchronous}", JOBS, profiled, 3, "µs", over_r=True))
    return tuple(made)
