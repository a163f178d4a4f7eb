"""What must be so at the end of a seed: every execution has the outcome that its program must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from perdure.codec import decode_failure
from perdure.events import Event, Kind
from simulation import oracle
from simulation.auditor import Auditor
from simulation.shadow import Shadow
from simulation.workflows import COLLECTOR

if TYPE_CHECKING:
    from simulation.world import World


def check_outcomes(world: World) -> None:
    """Check the outcome of every execution, the collector's values, and the file as a whole."""
    auditor = world.auditor
    for shadow in auditor.shadows.values():
        problem = _problem(world, shadow)
        auditor.demand(not problem, f"{shadow} {problem}", 5)
    collector = auditor.newest.get(COLLECTOR)
    if collector is not None and collector.closing is not None:
        received = msgspec.json.decode(collector.closing.data or "[]")
        told = [value for stream in world.caretaker.streams for value in stream.told]
        maybe = [value for stream in world.caretaker.streams for value in stream.maybe]
        problem = oracle.collected(received, told, [*maybe, *_sent(auditor)])
        auditor.demand(not problem, f"the collector: {problem}", 7)
    with world.reading() as connection:
        auditor.compare(connection)
        sound = connection.pragma("integrity_check")
        auditor.demand(sound == "ok", f"the file is damaged: {sound}", 0)


def _sent(auditor: Auditor) -> list[str]:
    """Give what workflows sent to the collector: it may have been too early or too late."""
    found = []
    for shadow in auditor.shadows.values():
        for event in shadow.events:
            if event.kind is Kind.SIGNAL_SENT:
                sent = msgspec.json.decode(event.data or "{}")
                if sent["to"] == COLLECTOR:
                    found.append(sent["value"])
    return found


def _problem(world: World, shadow: Shadow) -> str:
    if shadow.parked:
        return f"has ended and left requests {shadow.parked}"
    closing = shadow.closing
    if closing is None:
        return "has not ended"
    match closing.kind:
        case Kind.TERMINATED:
            return "" if shadow.id in world.caretaker.terminated else "was terminated, and nobody had asked for it"
        case Kind.CANCELLED:
            return "" if shadow.count(Kind.CANCEL_REQUESTED) else "was cancelled, and nobody had asked for it"
        case Kind.FAILED:
            return _problem_of_failure(shadow, closing)
        case Kind.CONTINUED:
            return _problem_of_next(world.auditor, shadow, closing)
    if shadow.workflow in ("collect", "tell"):
        return ""
    result = msgspec.json.decode(closing.data or "null")
    right = oracle.accepts(shadow.program, result)
    return "" if right else f"has the result {result}; its program: {shadow.program}"


def _problem_of_failure(shadow: Shadow, closing: Event) -> str:
    failure = decode_failure(closing.data or "{}")
    if failure.type.endswith(":ExecutionTimedOut"):
        return "" if shadow.count(Kind.TIMED_OUT) else "timed out without a time limit"
    if failure.type.endswith(":Broken") and shadow.workflow in ("play", "plain"):
        return "" if oracle.ends_with(shadow.program, "break") else "failed, and its program does not"
    return f"failed with {failure.type}: {failure.message}"


def _problem_of_next(auditor: Auditor, shadow: Shadow, closing: Event) -> str:
    following = [s for s in auditor.shadows.values() if s.id == shadow.id and s.number == shadow.number + 1]
    if not following:
        return "continued as nothing"
    arguments = following[0].arguments
    if arguments != msgspec.json.decode(closing.data or "{}"):
        return f"continued with {closing.data}, and the next run has {arguments}"
    if shadow.workflow in ("play", "plain") and shadow.program[-1] != ["again", arguments["program"]]:
        return f"continued with {arguments}, and its program is {shadow.program}"
    return ""
