"""The store of one SQLite file.

`connection.py` opens it and translates errors, `schema.py` checks and migrates it, `queries.sql` holds every
statement. `writer.py`, `reader.py`, `listing.py`, `retention.py` and `checkup.py` are its verbs, `store.py` the
whole; `recordings.py` reads a file that nobody may change. Beside the file lie `<file>-lock` (`lock.py`: who is the
runner) and `<file>-wake/` (`doorbell.py`: waking other processes).
"""

from perdure.store.sqlite.doorbell import Doorbell
from perdure.store.sqlite.lock import RunnerLock
from perdure.store.sqlite.store import SqliteStore

__all__ = ["Doorbell", "RunnerLock", "SqliteStore"]
