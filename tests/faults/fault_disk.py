"""A disk of a few megabytes that really gets full."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

PAGE_BYTES = 4096


class SmallDisk:
    """A tmpfs; `fill` and `free` a ballast on it."""

    SIZE = 8 * 1024**2

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def mount(self) -> str | None:
        """Give what speaks against it, if anything does."""
        if sys.platform != "linux":
            return "not on Linux"
        self.path.mkdir()
        return _run("mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", str(self.path))

    def unmount(self) -> None:
        _run("umount", "--lazy", str(self.path))

    def remount(self, options: str) -> None:
        problem = _run("mount", "-o", f"remount,{options}", str(self.path))
        assert problem is None, problem

    def fill(self, room: int = 0) -> None:
        """Leave `room` bytes, rounded up to pages."""
        with self.ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65_536))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            file.truncate(max(0, file.tell() // PAGE_BYTES * PAGE_BYTES - room))

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything."""
        for file in self.path.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or "refused"
