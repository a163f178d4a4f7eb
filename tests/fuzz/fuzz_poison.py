"""Poison: what a stranger, another program or a bad disk may leave in the rows of one execution.

Every poison is drawn from a seeded generator and touches rows of the victim only, so that all other executions must
come to their ends as if nothing were wrong. SQLite's own checks hold (the tables are STRICT): what they refuse is
drawn again.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import apsw
import msgspec
import zstandard
from fuzz_canary import CANARY

from perdure.events import Kind

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n\u202e"
DEEP = "[" * 100_000
BOMB = zstandard.ZstdCompressor().compress(b"[" + b"0," * 8_000_000 + b"0]")
"""16 MB out of a few hundred bytes."""

INTEGERS = (0, 1, -1, 2, 3, 7, 99, 2**31, 2**53, 10**18, 2**62, 2**63 - 1, -(2**63), *(kind.value for kind in Kind))
CLASSES = (
    "os:system", "builtins:eval", "subprocess:Popen", "builtins:SystemExit", "builtins:StopIteration",
    "builtins:KeyboardInterrupt", "builtins:UnicodeDecodeError", "builtins:ExceptionGroup", "builtins:OSError",
    "perdure.errors:NonDeterminismError", "perdure.errors:StoreError", "perdure.errors:ContinueAsNew",
    "perdure.errors:Evicted", "asyncio.exceptions:CancelledError", "asyncio.exceptions:TimeoutError",
    "concurrent.futures._base:CancelledError", "urllib.error:HTTPError", "fuzz_canary:Boom", "fuzz_canary:Quiet",
    f"{CANARY}:Boom", f"{CANARY}.inner:Boom", "antigravity:Error", "", ":", "a" * 10_000, ESCAPES,
)  # fmt: skip
TEXTS = (
    "", "null", "true", "0", "-1", "1e400", "9" * 5_000, "9" * 30, '""', "[]", "{}", "[[]]", '{"a":', '"\\ud800"',
    '"\x7f\x9b31m"', "nul\x00inside", ESCAPES, f'"{ESCAPES}"', DEEP, '{"a":' * 50_000, "x" * 200_000, "not json",
    '{"state":5,"signals":{}}', '{"state":{"a":[1'
    '2]},"signals":[["approved","no"],["approved",7]]}', '{"from_seq":0}', '{"from_seq":-5}', '{"from_seq":"x"}',
    '{"from_seq":1e30}', '{"from_seq":9223372036854775808}', '{"attempt":1}', '{"attempt":-1,"retry_at":-5}',
    '{"attempt":9223372036854775808,"retry_at":99999999999999999999999}', '{"attempt":0,"reason":"stopped"}',
    '{"attempt":1,"reason":"interrupted","retry_at":9223372036854775807}', '{"attempt":1,"error":5,"details":[[[]]]}',
    '{"attempt":1,"secret":"00"}', '{"id":"","args":{}}', '{"id":5}', '{"id":"x","args":[1,2],"on_parent_end":3}',
    '{"to":"nobody","value":1}', '{"name":"x"}', '{"name":5}', '["yes"]', '"yes"', "os.system", "../../etc/passwd",
)  # fmt: skip
STATUSES = (
    "", "pending", "running", "waiting", "paused", "blocked", "completed", "failed", "cancelled", "terminated",
    "continued", "RUNNING", "unheard of", ESCAPES,
)  # fmt: skip
REQUESTS = (
    "signal", "event", "cancel", "terminate", "pause", "resume", "retry", "complete", "fail", "", "unheard of", ESCAPES,
)  # fmt: skip
NAMES = ("", "approved", "echo", "ask", "sleeper", "keeper", "phase", "left", "unheard of", ESCAPES, "n" * 100_000)
BLOBS = (b"", b"\x00", b"\xff\xfe", BOMB, BOMB[:20], b"\x01\x01k" + b"x" * 40, b"\x28\xb5\x2f\xfd", b"\x80\x04.")
NOT_TEXT = object()
"""Stands for text that is not UTF-8."""

COLUMNS: dict[str, dict[str, str]] = {
    "perdure_execution": {
        "num": "owner", "id": "name", "run": "int", "workflow": "name", "status": "status", "created_at": "int",
        "ended_at": "int?", "parent": "int?", "parent_seq": "int?", "deadline_at": "int?", "deployment": "name?",
        "problem": "text?",
    },
    "perdure_event": {
        "n": "event", "kind": "int", "at": "int", "ref": "int?", "name": "name?", "data": "any?", "blob": "blob?",
    },
    "perdure_timer": {"due_at": "int", "execution": "owner", "seq": "int", "purpose": "int"},
    "perdure_state": {"execution": "owner", "key": "name", "data": "any"},
    "perdure_inbox": {
        "n": "serial", "execution": "owner", "what": "request", "kind": "int?", "ref": "int?", "name": "name?",
        "data": "any?", "at": "int",
    },
    "perdure_heartbeat": {"execution": "owner", "seq": "int", "attempt": "int", "at": "int", "details": "any?"},
}  # fmt: skip
WEIGHTS = {
    "perdure_execution": 5, "perdure_event": 12, "perdure_timer": 4, "perdure_state": 1, "perdure_inbox": 6,
    "perdure_heartbeat": 1,
}  # fmt: skip


class Poisoner:
    """Poisons rows in the database at `path`. `notes` says what was done, as SQL with its values."""

    def __init__(self, path: Path, draw: random.Random) -> None:
        self.connection = apsw.Connection(str(path))
        self.draw = draw
        self.notes: list[str] = []

    def close(self) -> None:
        self.connection.close()

    def poison(self, id: str, doses: int) -> None:
        """Poison the rows of the execution `id`."""
        num = int(self.connection.execute("SELECT max(num) FROM perdure_execution WHERE id = ?", (id,)).get)
        for _ in range(doses):
            while not self._dose(num):
                pass

    def _dose(self, num: int) -> bool:
        """Try one change; say whether SQLite took it."""
        table = self.draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        act = self.draw.choices([self._change, self._insert, self._delete, self._fail_with], [12, 6, 2, 2])[0]
        before = self.connection.total_changes()
        try:
            act(table, num)
        except (apsw.ConstraintError, apsw.MismatchError, OverflowError):
            return False
        return self.connection.total_changes() > before

    def _key(self, table: str) -> str:
        return "num" if table == "perdure_execution" else "execution"

    def _rows(self, table: str, num: int) -> list[dict[str, Any]]:
        names = list(COLUMNS[table])
        parts = ", ".join(f"iif(typeof({n}) = 'text', CAST({n} AS BLOB), {n})" for n in names)
        kinds = ", ".join(f"typeof({name})" for name in names)
        found = []
        for row in self.connection.execute(
            f"SELECT {kinds}, {parts} FROM {table} WHERE {self._key(table)} = ?", (num,)
        ):
            columns = zip(names, row[: len(names)], row[len(names) :], strict=True)
            found.append({name: _Text(value) if kind == "text" else value for name, kind, value in columns})
        return found

    def _change(self, table: str, num: int) -> None:
        """Change one or two columns of one row."""
        rows = self._rows(table, num)
        if not rows:
            return
        row = self.draw.choice(rows)
        names = self.draw.sample(list(COLUMNS[table]), self.draw.choice((1, 1, 1, 2)))
        changed = {name: self._value(table, name) for name in names}
        if "n" in changed and table == "perdure_event" and self.draw.random() < 0.7:
            changed["n"] = num << 24 | self.draw.choice((0, 1, 2, 3, 4, 5, 6, 9, 0xFFFFFF))
        keys = [name for name in ("num", "execution", "seq", "due_at", "purpose", "key", "n") if name in row]
        where = " AND ".join(f"{name} = ?{index + 1 + len(names)}" for index, name in enumerate(keys))
        places = ", ".join(f"{name} = {_place(value, index)}" for index, (name, value) in enumerate(changed.items()))
        self._run(f"UPDATE {table} SET {places} WHERE {where}", [*changed.values(), *(row[key] for key in keys)])

    def _insert(self, table: str, num: int) -> None:
        """Insert a row: a copy with changes, or one made up."""
        rows = self._rows(table, num)
        row = dict(self.draw.choice(rows)) if rows and self.draw.random() < 0.5 else {}
        for name in COLUMNS[table]:
            if name not in row or self.draw.random() < 0.4:
                row[name] = self._value(table, name)
        if table == "perdure_execution":
            row["num"] = None
            if rows and self.draw.random() < 0.5:  # another open run of the same id
                row["id"] = rows[0]["id"]
        elif table == "perdure_event":
            row["n"] = num << 24 | self.draw.choice((0, 1, 2, 3, 4, 5, 6, 9, 0xFFFFFF))
        else:
            row["execution"] = num
        if table == "perdure_timer" and self.draw.random() < 0.7:
            row["due_at"] = 5
        if table == "perdure_inbox":
            row["n"] = None
        places = ", ".join(_place(value, index) for index, value in enumerate(row.values()))
        self._run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))

    def _delete(self, table: str, num: int) -> None:
        names = [name for name in ("seq", "n", "due_at", "key") if name in COLUMNS[table]]
        rows = self._rows(table, num)
        if table != "perdure_execution" and rows:
            value = self.draw.choice(rows)[names[0]]
            self._run(f"DELETE FROM {table} WHERE execution = ?1 AND {names[0]} = ?2", [num, value])

    def _fail_with(self, table: str, num: int) -> None:
        """Let an activity or a child fail with a class that is not to be touched, or lead to itself by its parent."""
        if self.draw.random() < 0.2:
            self._run("UPDATE perdure_execution SET parent = num, parent_seq = ?2 WHERE num = ?1", [num, 2])
            return
        kind = self.draw.choice([Kind.ACTIVITY_FAILED, Kind.CHILD_FAILED]).value
        text = failure(self.draw)
        if self.draw.random() < 0.5:
            sql = "UPDATE perdure_event SET kind = ?2, data = ?3 WHERE execution = ?1 AND kind IN (3, 4, 6, 7)"
            self._run(sql, [num, kind, text])
        else:
            sql = "INSERT INTO perdure_inbox (execution, what, kind, ref, data, at) VALUES (?1, 'event', ?2, ?3, ?4, 0)"
            self._run(sql, [num, kind, self.draw.choice((2, 3, 4, 5)), text])

    def _value(self, table: str, name: str) -> Any:
        kind = COLUMNS[table][name]
        if kind.endswith("?") and self.draw.random() < 0.15:
            return None
        kind = kind.removesuffix("?")
        if kind == "any":
            kind = self.draw.choices(["text", "blob", "int", "float"], [8, 2, 1, 1])[0]
        if kind == "owner":  # nobody's, or nobody's yet
            return self.draw.choice((-5, 0, 10**6, 2**38))
        if kind == "serial":
            return self.draw.choice((-1, 0, 2, 7, 99, 2**62))
        if kind == "event":  # nobody's, or nobody's yet
            return self.draw.choice((-5, 0, 10**6, 2**38)) << 24 | self.draw.choice((0, 1, 3, 0xFFFFFF))
        if kind == "int":
            return self.draw.choice(INTEGERS)
        if kind == "float":
            return self.draw.choice((0.5, float("inf"), -1e300))
        if kind == "blob":
            return self._blob()
        if self.draw.random() < 0.08:
            return NOT_TEXT
        if kind == "text" and self.draw.random() < 0.15:
            return failure(self.draw)
        return self.draw.choice({"text": TEXTS, "name": NAMES, "status": STATUSES, "request": REQUESTS}[kind])

    def _blob(self) -> bytes:
        """Give bytes, or the digest of a blob that is in the file."""
        body = self.draw.choice(BLOBS)
        if self.draw.random() < 0.5:
            return body
        digest = self.draw.randbytes(32)
        self.connection.execute("INSERT INTO perdure_blob (digest, refs, body) VALUES (?, 1, ?)", (digest, body))
        return digest

    def _run(self, sql: str, values: list[Any]) -> None:
        plain = [b"\x41\xff\xfe\x42" if value is NOT_TEXT else value for value in values]
        shown = [repr(value)[:80] for value in plain]
        self.notes.append(f"{sql}  -- {', '.join(shown)}")
        try:
            self.connection.execute(sql, [bytes(value) if isinstance(value, _Text) else value for value in plain])
        except BaseException:
            self.notes.pop()
            raise


class _Text(bytes):
    """The bytes of a TEXT value, which need not be UTF-8."""


def _place(value: Any, index: int) -> str:
    is_text = value is NOT_TEXT or isinstance(value, _Text)
    return f"CAST(?{index + 1} AS TEXT)" if is_text else f"?{index + 1}"


def failure(draw: random.Random) -> str:
    """Make a recorded failure that names a class which it should not."""
    record: dict[str, Any] = {"type": draw.choice(CLASSES), "message": draw.choice(("m", ESCAPES, "touch owned"))}
    if draw.random() < 0.6:
        record["args"] = draw.choice((["touch owned"], [], [1, {"$bytes": "YQ=="}], [[[[5]]]], ["a", "b", 5, 9, "z"]))
    if draw.random() < 0.4:
        record["attributes"] = {"hint": 5, "__class__": "x", "file": "x", "__reduce__": ["os.system"], "args": 3}
    if draw.random() < 0.3:
        record["exceptions"] = [{"type": draw.choice(CLASSES)}]
    if draw.random() < 0.3:
        record["cause"] = {"type": draw.choice(CLASSES), "traceback": ESCAPES, "notes": [ESCAPES]}
    return msgspec.json.encode(record).decode()
