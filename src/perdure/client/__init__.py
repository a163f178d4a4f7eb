"""Starting, signalling, reading and awaiting executions, from any process.

`client.py` is what the user opens, `execution.py` the handle of one execution, `remote.py` speaks to the runner
through the file, `waiting.py` knows who waits for which execution to end.
"""

from perdure.client.client import Client
from perdure.client.execution import Execution

__all__ = ["Client", "Execution"]
