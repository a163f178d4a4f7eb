"""What a start under an id that is taken does."""

from __future__ import annotations

from perdure.errors import ExecutionExists
from perdure.store import ExecutionRow
from perdure.types import Conflict


def next_run(existing: ExecutionRow | None, same: bool, id: str, conflict: Conflict) -> int | None:
    """Give the number of the new run to make, or None to join the existing one.

    `same` tells whether workflow and input are those of the existing one. Raises `ExecutionExists` where the policy
    says so.
    """
    if existing is None:
        return 1
    if conflict is Conflict.REPLACE and existing.status.closed:
        return existing.run + 1
    if conflict is Conflict.REJECT:
        raise ExecutionExists(
            f"execution {id} exists already", hint='choose another id, or start with on_conflict="join"'
        )
    if not same:
        raise ExecutionExists(
            f"execution {id} exists already with another workflow or input (it is {existing.status})",
            hint='the same id means the same work: choose another id, or on_conflict="replace" once it has ended',
        )
    return None
