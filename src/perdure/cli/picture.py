"""All that `perdure show` tells about one execution, and the two ways of writing it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.cli.failure import hint_of, report
from perdure.cli.moments import brief, clock, iso, relative
from perdure.cli.output import STYLES, Output, clean, shorten, styled
from perdure.cli.standing import Open, Trouble
from perdure.codec.failure import Failure
from perdure.types import ExecutionInfo, Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

WIDE = 400


class Child(msgspec.Struct, omit_defaults=True):
    """A child with its own children. Without `info` it stands for older ones that were left out."""

    info: ExecutionInfo | None
    children: list[Child] = []


class Picture(msgspec.Struct, kw_only=True):
    info: ExecutionInfo
    deadline_at: datetime | None = None
    input: msgspec.Raw | None = None
    result: msgspec.Raw | None = None
    failure: Failure | None = None
    reason: str | None = None
    """Why it was cancelled or terminated."""
    state: dict[str, Any] = {}
    activities_done: int = 0
    pending: list[Open] = []
    requests: list[str] = []
    """What was asked of it and not taken yet: it is paused or blocked, or nobody runs it."""
    errors: list[Trouble] = []
    errors_total: int = 0
    children: list[Child] = []
    children_total: int = 0


def waits_for(picture: Picture) -> str:
    """Say what an execution waits for that is not in the list of what is open."""
    waiting = picture.info.status is Status.WAITING and not picture.pending
    return "a signal" if waiting else ""


# --- for a pipe: one line per fact, the kind of fact first ----------------------------------------------------------


def write_lines(picture: Picture, out: Output) -> None:
    info = picture.info
    facts = {
        "id": info.id, "run": info.run, "workflow": info.workflow, "status": info.status,
        "created": iso(info.created_at), "ended": iso(info.ended_at), "deadline": iso(picture.deadline_at),
        "parent": info.parent_id, "deployment": info.deployment, "events": info.events, "problem": info.problem,
        "reason": picture.reason, "input": _text(picture.input), "result": _text(picture.result),
        "error": info.error, "waits for": waits_for(picture), "activities done": picture.activities_done,
    }  # fmt: skip
    for name, value in facts.items():
        if value not in (None, ""):
            out.line(name, value)
    for key, value in picture.state.items():
        out.line("state", key, _json(value))
    for item in picture.pending:
        out.line(item.what, item.seq, item.name, item.attempt or "", iso(item.due_at), item.error)
    for request in picture.requests:
        out.line("request", request)
    for error in picture.errors:
        out.line("failure", error.seq, iso(error.at), error.what, error.name, error.attempt, error.error)
    _child_lines(picture.children, 1, out)


def _child_lines(children: list[Child], level: int, out: Output) -> None:
    for child in children:
        if child.info is None:
            out.line("child", level, "…")
        else:
            what = child.info.error or child.info.problem
            out.line("child", level, child.info.id, child.info.run, child.info.workflow, child.info.status, what)
            _child_lines(child.children, level + 1, out)


# --- for a terminal: a tree -----------------------------------------------------------------------------------------


def write_tree(picture: Picture, now: datetime) -> Tree:
    from rich.tree import Tree

    tree = Tree(_title(picture.info, now), guide_style="dim")
    for name, text in _facts(picture, now):
        tree.add(_fact(name, text))
    _branch(tree, "state", [_fact(key, shorten(_json(value), WIDE)) for key, value in picture.state.items()])
    _branch(tree, _with_count("open", len(picture.pending)), [_pending(item, now) for item in picture.pending])
    _branch(tree, "not taken yet", [styled(request, "yellow") for request in picture.requests])
    errors = [_trouble(error, now) for error in picture.errors]
    _branch(tree, _with_count("errors", picture.errors_total), errors)
    if picture.children:
        branch = tree.add(styled(_with_count("children", picture.children_total), "bold"))
        _add_children(branch, picture.children, now)
    if picture.failure is not None:
        branch = tree.add(styled("failed with", "bold red"))
        branch.add(styled(report(picture.failure)))
        if hint_of(picture.failure):
            branch.add(_fact("hint", hint_of(picture.failure)))
    return tree


def _title(info: ExecutionInfo, now: datetime) -> Text:
    from rich.text import Text

    run = f" run {info.run}" if info.run > 1 else ""
    end = info.ended_at or now
    return Text.assemble(
        (clean(info.workflow), "bold"), " ", (clean(info.id), "cyan"), (run, "dim"), "  ",
        (info.status.value, STYLES[info.status]), (f"  {brief(end - info.created_at)}", "dim"),
    )  # fmt: skip


def _facts(picture: Picture, now: datetime) -> list[tuple[str, str]]:
    info = picture.info
    found = [("created", f"{clock(info.created_at, now)}, {relative(info.created_at, now)}")]
    if info.ended_at is not None:
        found.append(("ended", f"{clock(info.ended_at, now)}, {relative(info.ended_at, now)}"))
    if picture.deadline_at is not None:
        found.append(("deadline", f"{clock(picture.deadline_at, now)}, {relative(picture.deadline_at, now)}"))
    for name, value in (("parent", info.parent_id), ("deployment", info.deployment), ("problem", info.problem)):
        if value:
            found.append((name, value))
    found.append(("history", f"{info.events:,} events, {picture.activities_done:,} activities done"))
    for name, raw in (("input", picture.input), ("result", picture.result)):
        if raw is not None:
            found.append((name, shorten(_text(raw), WIDE)))
    if waits_for(picture):
        found.append(("waits for", waits_for(picture)))
    if picture.reason:
        found.append(("reason", picture.reason))
    return found


def _pending(item: Open, now: datetime) -> Text:
    from rich.text import Text

    line = Text.assemble((f"#{item.seq} ", "dim"), clean(item.name or item.what))
    if item.what == "activity":
        line.append(_phase(item, now), "dim")
    elif item.due_at is not None:
        line.append(f"  fires {relative(item.due_at, now)} ({clock(item.due_at, now)})", "dim")
    if item.error:
        line.append(f"  {clean(item.error)}", "red")
    return line


def _phase(item: Open, now: datetime) -> str:
    if item.deferred:
        return f"  attempt {item.attempt}, waits for a completion from outside"
    if item.due_at is not None and item.due_at > now:
        return f"  attempt {item.attempt} {relative(item.due_at, now)}"
    since = "" if item.since is None else f", scheduled {relative(item.since, now)}"
    return f"  attempt {item.attempt}{since}"


def _trouble(error: Trouble, now: datetime) -> Text:
    from rich.text import Text

    number = f" {error.attempt}" if error.attempt else ""
    of = f" of {clean(error.name)}" if error.name else ""
    when = f"{relative(error.at, now)}, {error.what}{number}{of}: "
    return Text.assemble((f"#{error.seq} ", "dim"), (when, "dim"), (clean(error.error), "red"))


def _add_children(branch: Tree, children: list[Child], now: datetime) -> None:
    for child in children:
        if child.info is None:
            branch.add(styled("… older ones: raise --children", "dim"))
            continue
        title = _title(child.info, now)
        what = child.info.error or child.info.problem
        if what:
            title.append(f"  {clean(what.partition(chr(10))[0])}", "red")
        _add_children(branch.add(title), child.children, now)


def _branch(tree: Tree, name: str, lines: list[Any]) -> None:
    if lines:
        branch = tree.add(styled(name, "bold"))
        for line in lines:
            branch.add(line)


def _fact(name: str, text: str) -> RenderableType:
    from rich.text import Text

    return Text.assemble((f"{clean(name)} ", "dim"), clean(text, lines=True))


def _with_count(name: str, count: int) -> str:
    return f"{name} ({count:,})" if count else name


def _text(raw: msgspec.Raw | None) -> str:
    return "" if raw is None else bytes(raw).decode()


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
