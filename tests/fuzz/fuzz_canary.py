"""Canaries: what code from a file would wake.

`Boom` is loaded, so a recorded failure may name it; none of its special methods may run. The module named `CANARY` lies
on the path and may not be imported. While `watching`, the interpreter itself tells of programs that are started.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CANARY = "perdure_canary"
FORBIDDEN = frozenset(
    "os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.startfile subprocess.Popen pickle.find_class"
    " ctypes.dlopen webbrowser.open socket.connect shutil.rmtree".split()
)
woken: list[str] = []


class Boom(Exception):
    """An exception of which every special method tells."""

    def __init__(self, *args: Any) -> None:
        woken.append("__init__")

    def __new__(cls, *args: Any) -> Boom:
        woken.append("__new__")
        return super().__new__(cls, *args)

    def __setattr__(self, name: str, value: Any) -> None:
        woken.append("__setattr__")

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__dict__"):
            woken.append(f"__getattribute__ {name}")
        return super().__getattribute__(name)

    def __reduce__(self) -> Any:
        woken.append("__reduce__")
        return super().__reduce__()

    def __setstate__(self, state: Any) -> None:
        woken.append("__setstate__")

    def __init_subclass__(cls) -> None:
        woken.append("__init_subclass__")

    def __del__(self) -> None:
        woken.append("__del__")


class Quiet(Exception):
    """One that perdure could make again, but for its last word."""

    def __del__(self) -> None:
        woken.append("Quiet.__del__")


class _Watch:
    on = False


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if _Watch.on and event in FORBIDDEN:
        woken.append(f"{event} {args!r}"[:200])


sys.addaudithook(_hear)  # for good: it cannot be taken away again


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[None]:
    """Fail if anything in the block wakes a canary. `folder` gets the module that must not be imported."""
    (folder / f"{CANARY}.py").write_text("import fuzz_canary\nfuzz_canary.woken.append('imported')\n")
    sys.path.insert(0, str(folder))
    woken.clear()
    _Watch.on = True
    try:
        yield
    finally:
        _Watch.on = False
        sys.path.remove(str(folder))
    loaded = {CANARY, f"{CANARY}.inner", "antigravity"} & sys.modules.keys()
    assert not woken, f"woken: {woken[:10]}"
    assert not loaded, f"imported: {loaded}"
