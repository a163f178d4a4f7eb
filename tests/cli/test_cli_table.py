"""The table of `perdure list`, on terminals of all widths."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from perdure.cli.listing import table
from perdure.types import ExecutionInfo, Status

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
UUID = "01997f3a-6b0e-7c11-9d53-0f3c8a1e2b4d"


def info(id, status=Status.COMPLETED, error=None):
    return ExecutionInfo(id, 1, "fulfil", status, NOW, NOW, events=12, error=error)


def written(found, width):
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False)
    console.print(table(found, NOW, width), crop=False)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("id", ["d", "order-42", UUID])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_a_long_error_never_costs_the_id(id, width):
    lines = written([info(id, Status.FAILED, "ValueError: " + "long " * 100), info("other")], width)
    assert len(lines) == 3
    assert lines[1].split()[0] == id
    assert lines[2].split()[0] == "other"
    assert max(map(len, lines)) <= max(width, len(id) + len("  completed"))


def test_the_error_is_shortened_before_anything_is_left_out():
    header, row = written([info("order-42", Status.FAILED, "ValueError: " + "long " * 100)], 80)
    assert header.split()[:6] == ["id", "workflow", "status", "created", "took", "events"]
    assert "ValueError: long" in row
    assert row.endswith("…")


def test_an_id_wider_than_the_terminal_is_whole():
    assert "x" * 300 in written([info("x" * 300)], 80)[1]
