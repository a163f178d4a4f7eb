"""A folder with a program and no database yet, and `perdure` in it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import PATIENCE_S, SHOP, Cli, read_until


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    for name in ("PERDURE_DB", "PERDURE_KEYS", "PERDURE_DEPLOYMENT", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "shop.py").write_text(SHOP.read_text())
    made = Cli(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe: whoever reads it waits for whoever writes."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def waiting_order(cli: Cli) -> Callable[[str], None]:
    """Bring an order to where it waits for its approval, without a worker left behind."""

    def make(id: str) -> None:
        order = {"order": {"id": id, "items": ["tea", "mug"]}}
        run = cli.begin("run", "shop.py:fulfil", "--input", json.dumps(order), "--id", id)
        read_until(run.stderr, "please approve")
        run.send_signal(signal.SIGINT)
        assert run.wait(PATIENCE_S) == 130

    return make
