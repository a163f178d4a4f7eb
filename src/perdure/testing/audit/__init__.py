"""Checking the content of a database: whether its projections are what its histories say.

`standing.py` reads off one history where its execution stands; `grammar.py` says what every history looks like,
`projections.py` compares the other tables with it, `relations.py` parents with children and runs with the runs before,
`audit.py` is the whole.
"""

from __future__ import annotations

from perdure.testing.audit.audit import audit, audit_entry
from perdure.testing.audit.violation import Violation

__all__ = ["Violation", "audit", "audit_entry"]
