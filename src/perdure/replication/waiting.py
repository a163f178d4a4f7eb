"""What Litestream has made of a database and not uploaded: it lies beside the file, a small file for each upload."""

from __future__ import annotations

from collections import deque
from pathlib import Path


class Waiting:
    """Adds it up. `folder` is where Litestream keeps what it makes. Each file is looked at once: there may be many."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ltx" / "0"
        self._sizes: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def bytes(self, replicated_txid: int) -> int:
        """Give the size of all that comes after what is in the bucket. Litestream is not asked: it may not answer."""
        last = self._sizes[-1][0] if self._sizes else 0
        if last < replicated_txid or (self._sizes and self._sizes[0][0] > replicated_txid + 1):  # it counts anew
            self._sizes.clear()
            self._bytes, last = 0, replicated_txid
        while self._sizes and self._sizes[0][0] <= replicated_txid:
            self._bytes -= self._sizes.popleft()[1]
        while True:
            last += 1
            try:
                size = (self.folder / f"{last:016x}-{last:016x}.ltx").stat().st_size
            except OSError:
                return self._bytes
            self._sizes.append((last, size))
            self._bytes += size
