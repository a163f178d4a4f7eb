"""Does what a reader of one page would do, block by block, in the current folder. A program: `play.py PAGE REPORT`.

All `python` blocks share one namespace and, as in `python -m asyncio`, may `await` at the top level. What each block
printed goes into the report, a JSON list.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import types
import warnings
from pathlib import Path

from docs_page import CONSOLE, Block, blocks, commands

RUN = {"perdure", "sqlite3", "python", "cp", "ls"}
"""What a console block may run; the rest (`pip`, `make`, `git`) is for the reader's machine."""
READERS = {"pip", "make", "git", "cd", "uv", "litestream"}

LIMIT_S = 30.0
"""For one block."""


class Player:
    def __init__(self, page: Path) -> None:
        self.page = page
        self.report: list[dict[str, object]] = []
        self.runner = asyncio.Runner()
        self.background: list[subprocess.Popen[str]] = []
        self.main = types.ModuleType("__main__")
        sys.modules["__main__"] = self.main

    def play(self) -> None:
        found = blocks(self.page)
        source = Path(self.page.stem.replace("-", "_") + "_page.py")
        source.write_text(_padded([block for block in found if block.language == "python"]))
        self.main.__dict__["__file__"] = str(source)
        for block in found:
            if block.mark == "skip":
                continue
            if block.mark == "file":
                Path(block.detail).write_text(block.code)
            elif block.language == "python":
                self._python(block, str(source.resolve()))
            elif block.language in CONSOLE:
                self._console(block)
            if self.report and self.report[-1]["error"]:
                return

    def close(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        self.runner.close()

    def _python(self, block: Block, file: str) -> None:
        tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
        code = compile(tree, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        printed, error = io.StringIO(), ""
        with contextlib.redirect_stdout(printed):
            try:
                result = eval(code, self.main.__dict__)
                if result is not None:
                    self.runner.run(asyncio.wait_for(result, LIMIT_S))
            except BaseException:
                error = traceback.format_exc()
        self._note(block, "", printed.getvalue(), error)

    def _console(self, block: Block) -> None:
        for command, _ in commands(block):
            first = {line.split()[0] for line in command.splitlines() if line and not line.startswith(("#", " "))}
            if first & READERS:
                continue
            if "=" in next(iter(first)):  # VARIABLE=value python …
                first = {command.split()[1]}
            if not first <= RUN:
                self._note(block, command, "", f"a console block that runs {first - RUN}: not one of {sorted(RUN)}")
            elif block.mark == "background":
                self.background.append(subprocess.Popen(["bash", "-c", f"exec {command}"], text=True))
                self._await_file(block.detail)
            else:
                self._run(block, command)

    def _run(self, block: Block, command: str) -> None:
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
        )
        killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        wrong = done.returncode != 0 and not killed and block.mark != "fails"
        error = f"exit status {done.returncode}\n{done.stderr}" if wrong else ""
        shown = done.stdout + (done.stderr if block.mark == "fails" else "") + ("Killed\n" if killed else "")
        self._note(block, command, shown, error)

    def _await_file(self, name: str) -> None:
        for _ in range(3_000):
            if not name or Path(name).exists():
                return
            time.sleep(0.01)
        raise TimeoutError(f"{name} did not appear")

    def _note(self, block: Block, command: str, printed: str, error: str) -> None:
        self.report.append({"line": block.line, "command": command, "printed": printed, "error": error})


def _padded(found: list[Block]) -> str:
    """Give a source file with each block on the lines that it has on the page, so that line numbers agree."""
    lines: list[str] = []
    for block in found:
        lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def main(page: str, report: str) -> None:
    sys.path.insert(0, os.getcwd())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    from perdure.errors import DeterminismWarning

    warnings.simplefilter("error", DeterminismWarning)
    player = Player(Path(page))
    try:
        player.play()
    finally:
        player.close()
        Path(report).write_text(json.dumps(player.report))


if __name__ == "__main__":
    main(*sys.argv[1:])
