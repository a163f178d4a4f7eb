"""Replay: turns a history into commands, and touches nothing else.

`run.py` is one execution's deterministic state: inputs in, commands out; `history.py` says which events of a log count.
`loop.py` is the event loop that its asyncio code runs on, `call.py` what a durable call returns, `mailbox.py` where
signals wait, `bridge.py` the greenlet that lets a `def` workflow wait, `ordered.py` the one place where asyncio itself
is made deterministic. No clock, no I/O, no randomness, no threads: live running is replay at the tip.
"""

from perdure.replay.call import Call
from perdure.replay.loop import WorkflowLoop, current_run
from perdure.replay.run import Run

__all__ = ["Call", "Run", "WorkflowLoop", "current_run"]
