"""Deleting closed executions, and giving the room back, in small transactions."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.store.sqlite.queries import queries
from perdure.store.sqlite.reader import Reader
from perdure.store.sqlite.writer import Writer
from perdure.types import Status

FOREVER = 2**62


class Retention:
    def __init__(self, reader: Reader, writer: Writer) -> None:
        self.reader = reader
        self.writer = writer

    def expired(
        self, statuses: tuple[Status, ...], ended_before: int | None, keep: int | None, limit: int
    ) -> list[tuple[int, str]]:
        closed = [status for status in statuses or tuple(Status) if status.closed]
        names = ", ".join(f"'{status.value}'" for status in closed)  # our own words, not user text
        before = FOREVER if ended_before is None else ended_before
        kept_from = (FOREVER, 0)
        if keep:
            rows = self.reader.rows("keep_boundary", (keep - 1,), statuses=names)
            if not rows:
                return []
            kept_from = rows[0]
        return [(num, id) for num, id in self.reader.rows("expired", (before, *kept_from, limit), statuses=names)]

    def delete(self, nums: Sequence[int]) -> int:
        deleted = 0
        connection, sql = self.writer.connection, queries()
        with self.writer._transaction():
            connection.execute(sql["note_last_num"])
            for num in nums:
                connection.execute(sql["delete_execution"], (num,))
                if not connection.changes():
                    continue  # open again since it was listed
                deleted += 1
                connection.execute(sql["release_blobs"], (num,))
                for name in ("delete_events", "delete_state", "delete_inbox", "delete_heartbeats"):
                    connection.execute(sql[name], (num,))
            connection.execute(sql["drop_blobs"])
        return deleted

    def vacuum(self, pages: int) -> int:
        return self.writer.vacuum(pages)
