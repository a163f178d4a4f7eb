"""The objects below one prefix of a bucket: read, written, and compared-and-swapped.

1. Every call ends within its timeout, with an error of ours.
2. A call that cannot do harm twice (read, list, delete, plain write) is tried again when the store does not answer. A
   conditional write never is: it may have been done, and only the caller can tell (see `lease.py`).
3. What a store says is shown to people and decided on by nobody: errors are told apart by type.

Folders (`file://`) have conditional writes too, through an OS lock in the folder. That is as good as the lock: fine on
one machine, and over NFS if the mount's locks are shared (not with `nolock` or `local_lock`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from perdure.replication.folder import LOCK_NAME, swap
from perdure.replication.refusal import BucketConflict, BucketError, BucketUnreachable, translated

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ObjectStore

    from perdure.replication.target import Target

__all__ = ["Bucket", "Entry", "Found"]

TIMEOUT_S = 10.0
TRIES = 3
PAUSE_S = 0.2
"""Before a second try; twice as long before a third."""
T = TypeVar("T")


class Found(NamedTuple):
    """The content of an object, and what `replace` needs to change exactly this version."""

    data: bytes
    etag: str


class Entry(NamedTuple):
    """An object in a listing. `key` is relative to the bucket's prefix, `modified_at` is the store's time, UTC."""

    key: str
    size_bytes: int
    modified_at: datetime


class Bucket:
    """A prefix of a bucket. Keys are relative to it. All calls are coroutines; the loop is never blocked.

    Every call raises `BucketError`: `BucketUnreachable` (no answer: it may have been done or not), `BucketDenied`,
    `BucketConflict` (a condition did not hold), or itself. `timeout_s` bounds one try.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str = "",
        *,
        name: str,
        timeout_s: float = TIMEOUT_S,
        folder: Path | None = None,
    ) -> None:
        self.store = store
        self.prefix = f"{prefix}/" if prefix else ""
        self.name = name
        """What errors call it."""
        self.timeout_s = timeout_s
        self.folder = folder
        """Where `store` is a folder: its path."""
        self._conditions = _Conditions()

    @classmethod
    def open(cls, target: Target, *, timeout_s: float = TIMEOUT_S) -> Bucket:
        """Open a target. Connects to nothing yet. Raises as `Target.store` does."""
        folder = Path(target.prefix) if target.scheme == "file" else None
        prefix = "" if folder else target.prefix
        return cls(target.store(timeout_s), prefix, name=str(target), timeout_s=timeout_s, folder=folder)

    def child(self, prefix: str) -> Bucket:
        """Give a prefix below this one: the same connections, and nothing is probed again."""
        name = f"{self.name}/{prefix}"
        child = Bucket(self.store, self.prefix + prefix, name=name, timeout_s=self.timeout_s, folder=self.folder)
        child._conditions = self._conditions
        return child

    # --- one object -------------------------------------------------------------------------------------------------

    async def get(self, key: str, *, timeout_s: float | None = None) -> Found | None:
        """Read an object; None when there is none (or no such bucket, which a write will say)."""
        import obstore

        async def read() -> Found | None:
            try:
                result = await obstore.get_async(self.store, self.prefix + key)
                return Found(bytes(await result.bytes_async()), result.meta["e_tag"] or "")
            except FileNotFoundError:
                return None

        return await self._patiently(f"read {key}", read, timeout_s)

    async def put(self, key: str, data: bytes | Path, *, timeout_s: float | None = None) -> str:
        """Write an object, whatever was there before: bytes, or the content of a file. Give its etag."""
        return await self._patiently(f"write {key}", lambda: self._put(key, data, "overwrite"), timeout_s)

    async def create(self, key: str, data: bytes, *, timeout_s: float | None = None) -> str:
        """Write an object that must not be there yet; give its etag. Raises `BucketConflict` when it is.

        A store may also report a conflict when two creations meet and neither has won: read before you believe it.
        """
        return await self._once(f"create {key}", lambda: self._put(key, data, "create"), timeout_s)

    async def replace(self, key: str, data: bytes, etag: str, *, timeout_s: float | None = None) -> str:
        """Write an object that must still be the version `etag`; give the new one. Raises `BucketConflict` when it is
        not. An etag may be a hash: content that is never written twice is needed for it to name a version."""
        if not etag:
            raise BucketError(f"{self.name}: {key} has no etag", hint="this store cannot be used for leases")
        if self.folder is not None:
            path, limit_s = self.prefix + key, self.timeout_s if timeout_s is None else timeout_s
            arguments = (self.store, self.folder, path, data, etag, limit_s)
            return await self._once(f"replace {key}", lambda: asyncio.to_thread(swap, *arguments), timeout_s)
        return await self._once(f"replace {key}", lambda: self._put(key, data, {"e_tag": etag}), timeout_s)

    async def delete(self, key: str, *, timeout_s: float | None = None) -> None:
        """Delete an object. Fine when it is not there."""
        import obstore

        async def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self.store, self.prefix + key)

        await self._patiently(f"delete {key}", delete, timeout_s)

    # --- many -------------------------------------------------------------------------------------------------------

    async def entries(self, prefix: str = "", *, timeout_s: float | None = None) -> list[Entry]:
        """List all objects below a folder, sorted by key. One request per 1,000; the timeout is for all of them."""
        import obstore

        async def read() -> list[Entry]:
            found = await obstore.list(self.store, (self.prefix + prefix) or None).collect_async()
            skip = len(self.prefix)
            listed = (Entry(meta["path"][skip:], meta["size"], meta["last_modified"]) for meta in found)
            return sorted(entry for entry in listed if entry.key != LOCK_NAME)

        return await self._patiently(f"list {prefix or 'its objects'}", read, timeout_s)

    async def folders(self, prefix: str = "", *, timeout_s: float | None = None) -> list[str]:
        """Give the names of the folders right below a folder, sorted. One request per 1,000 of what is in it."""
        import obstore

        async def read() -> list[str]:
            found = await obstore.list_with_delimiter_async(self.store, (self.prefix + prefix) or None)
            return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

        return await self._patiently(f"list {prefix or 'its folders'}", read, timeout_s)

    # --- conditions -------------------------------------------------------------------------------------------------

    async def honours_conditions(self) -> bool:
        """Say whether the store keeps to conditional writes; some take them and ignore the condition.

        Found out with a small object, once for a bucket and all its children: four writes and a delete.
        """
        if self._conditions.honoured is None:
            self._conditions.honoured = await self._probe()
        return self._conditions.honoured

    async def _probe(self) -> bool:
        key = f".perdure-probe-{secrets.token_hex(8)}"
        try:
            try:
                etag = await self.create(key, b"1")
            except BucketUnreachable:
                await self.put(key, b"1")  # it takes plain writes: then it is the condition that it cannot do
                return False
            if not await _refused(self.create(key, b"2")):
                return False
            if not await _refused(self.replace(key, b"3", '"00000000000000000000000000000000"')):
                return False
            return not await _refused(self.replace(key, b"4", etag))
        finally:
            with contextlib.suppress(BucketError):  # the answer is worth more than a byte that stays behind
                await self.delete(key)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _put(self, key: str, data: bytes | Path, mode: PutMode) -> str:
        import obstore

        return (await obstore.put_async(self.store, self.prefix + key, data, mode=mode))["e_tag"] or ""

    async def _once(self, doing: str, call: Callable[[], Awaitable[T]], timeout_s: float | None) -> T:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await call()
        except BucketError:
            raise
        except TimeoutError as error:
            raise BucketUnreachable(f"{self.name}: could not {doing}: no answer within {limit_s:g} s") from error
        except Exception as error:
            raise translated(error, f"{self.name}: could not {doing}") from None  # its text is longer than a page

    async def _patiently(self, doing: str, call: Callable[[], Awaitable[T]], timeout_s: float | None) -> T:
        for tries in range(1, TRIES):
            try:
                return await self._once(doing, call, timeout_s)
            except BucketUnreachable:
                await asyncio.sleep(PAUSE_S * tries)
        return await self._once(doing, call, timeout_s)


class _Conditions:
    """What is known of a store's conditional writes, shared by all prefixes of it."""

    def __init__(self) -> None:
        self.honoured: bool | None = None


async def _refused(write: Awaitable[str]) -> bool:
    try:
        await write
    except BucketConflict:
        return True
    return False
