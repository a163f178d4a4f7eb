"""The values of one signal that an execution's code has not received yet, or the receivers that wait for one."""

from __future__ import annotations

from collections import deque
from typing import Any

from perdure.errors import InvalidValue
from perdure.replay.call import Call
from perdure.replay.loop import logger


class Mailbox:
    """Values wait, or receivers do; never both."""

    __slots__ = ("receivers", "values")

    def __init__(self) -> None:
        self.values: deque[str] = deque()
        self.receivers: deque[Call[Any]] = deque()

    def receive(self, call: Call[Any]) -> None:
        """Give `call` the oldest value, or have it wait for the next."""
        while self.values:
            if _give(call, self.values.popleft()):
                return
        self.receivers.append(call)

    def deliver(self, data: str) -> None:
        """Give a value to the oldest receiver, or keep it for the next."""
        while self.receivers and self.receivers[0].done():
            self.receivers.popleft()
        if not self.receivers:
            self.values.append(data)
        elif _give(self.receivers[0], data):
            self.receivers.popleft()


def _give(call: Call[Any], data: str) -> bool:
    """Hand a value to its receiver.

    One that does not fit its type is put aside: a typo in an approval must not end the order that waits for it. A
    sender that has the type is told before; this is for those without.
    """
    try:
        call.set_result(call.decode(data))
    except InvalidValue as error:
        if call.run.recorded is None:
            logger.warning("%s put aside a value that does not fit: %s", call.run.execution_id, error)
        return False
    return True
