"""Reading for people: lists, descriptions and histories with names and dates in place of codes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.codec import decode_failure
from perdure.codec.payload import DecodeError
from perdure.errors import InvalidValue
from perdure.events import Kind
from perdure.store.protocol import Filter
from perdure.store.rows import Backlog, Backoff
from perdure.store.sqlite.reader import Large, Reader, shown, status_of, whole
from perdure.types import ExecutionInfo, HistoryEvent, Status, instant, microseconds

_KIND_NAMES = {kind.value: kind.name.lower() for kind in Kind}


class Listing:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def list(self, filter: Filter) -> list[ExecutionInfo]:
        where, values = self._conditions(filter)
        rows = self.reader.rows(
            "describe", (*values, filter.limit), where=" AND ".join(where) or "1", order="x.num DESC"
        )
        return [self._info(row) for row in rows]

    def describe(self, id: str, run: int | None = None) -> ExecutionInfo | None:
        where, values = ("x.id = ?", (id,)) if run is None else ("x.id = ? AND x.run = ?", (id, run))
        rows = self.reader.rows("describe", (*values, 1), where=where, order="x.run DESC")
        return self._info(rows[0]) if rows else None

    def events(self, id: str, run: int | None, after: int, limit: int) -> Sequence[HistoryEvent]:
        num = self._num(id, run)
        if num is None:
            return []
        large = Large()
        return [self._event(row, large) for row in self.reader.rows("events", (num, after, limit))]

    def counts(self) -> dict[Status, int]:
        found: dict[Status, int] = {}
        for text, count in self.reader.rows("counts"):
            status = status_of(text)
            found[status] = found.get(status, 0) + count
        return found

    def backlog(self, now: int, backoff_after: int) -> Backlog:
        pending, running, requests, overdue, oldest_at = self.reader.rows("backlog", (now,))[0]
        outside = self.reader.rows("stuck_waiting")[0][0]
        rows = self.reader.rows("backoffs", (backoff_after,))
        backoffs = [Backoff(shown(id), run, seq, shown(activity), due_at) for id, run, seq, activity, due_at in rows]
        return Backlog(pending, running, requests, overdue, oldest_at, outside, backoffs)

    def _num(self, id: str, run: int | None) -> int | None:
        if run is None:
            row = self.reader.find(id)
            return row.num if row else None
        rows = self.reader.rows("execution_run", (id, run))
        return rows[0][0] if rows else None

    def _conditions(self, f: Filter) -> tuple[Sequence[str], Sequence[Any]]:
        where, values = [], []  # type: ignore[var-annotated]  # `list` is a method here

        def add(condition: str, *value: Any) -> None:
            where.append(condition)
            values.extend(value)

        if f.workflow is not None:
            add("x.workflow = ?", f.workflow)
        if f.status:
            add(f"x.status IN ({', '.join('?' * len(f.status))})", *(status.value for status in f.status))
        if f.id_prefix:
            add("substr(x.id, 1, ?) = ? AND x.id >= ?", len(f.id_prefix), f.id_prefix, f.id_prefix)
        if f.created_after is not None:
            add("x.created_at >= ?", microseconds(f.created_after))
        if f.created_before is not None:
            add("x.created_at < ?", microseconds(f.created_before))
        if f.parent_id is not None:
            add("x.parent IN (SELECT num FROM perdure_execution WHERE id = ?)", f.parent_id)
        if f.after is not None:
            add("x.num < ?", self._num(*f.after) or 0)
        return where, values

    def _info(self, row: tuple[Any, ...]) -> ExecutionInfo:
        id, run, workflow, status, created_at, ended_at, parent_id, events, deployment, problem, num = row
        if status_of(status) != status:
            problem = f"its status in the file is {shown(status)!r}, which there is not"
        return ExecutionInfo(
            id=shown(id),
            run=whole(run),
            workflow=shown(workflow),
            status=status_of(status),
            created_at=instant(whole(created_at)),
            ended_at=None if ended_at is None else instant(whole(ended_at)),
            parent_id=shown(parent_id),
            events=events or 0,
            deployment=shown(deployment),
            problem=shown(problem),
            error=self._error(num) if status == Status.FAILED else None,
        )

    def _error(self, num: int) -> str | None:
        try:
            event = self.reader.last_event(num)
            if event is None or event.kind is not Kind.FAILED or event.data is None:
                return None
            failure = decode_failure(event.data)
        except DecodeError:  # encrypted, and no key here: the list is of use all the same
            return "(not readable without its key)"
        except InvalidValue:
            return "(what is recorded is not a failure)"
        return f"{failure.type.partition(':')[2] or failure.type}: {failure.message}".partition("\n")[0]

    def _event(self, row: tuple[Any, ...], large: Large) -> HistoryEvent:
        seq, kind, at, ref, name, data, blob = row
        text = self.reader.load(data, blob, large)
        return HistoryEvent(seq, _KIND_NAMES.get(kind, f"unknown {kind}"), instant(whole(at)), ref, shown(name), text)
