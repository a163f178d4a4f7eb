"""What callers ask of executions. An errand is carried out by some process; refused or interrupted, it is asked again.

`ask` returns once its answer is final. After every answer the witness checks that what the caller was told is so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import Client, Execution
from perdure.client.token import seal
from perdure.errors import ExecutionClosed, ExecutionExists, PerdureError, StaleToken, StoreError
from perdure.events import Kind
from perdure.types import Status
from simulation.activities import Broken
from simulation.witness import Witness
from simulation.workflows import COLLECTOR, number

if TYPE_CHECKING:
    from perdure.workflow import Workflow


class Errand(ABC):
    """See the module. `interrupted` is called when the process died that had it: then nobody knows."""

    essential = True
    """Whether the world waits for its answer."""

    def __init__(self, witness: Witness, id: str) -> None:
        self.witness = witness
        self.id = id

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.id}"

    @abstractmethod
    async def ask(self, client: Client) -> object:
        """Ask, and check what was told."""

    def refused(self) -> None:
        """Take note that an error came back that says: not done."""
        return

    def interrupted(self) -> None:
        """Take note that nobody knows whether it was done."""
        return


class Start(Errand):
    """Start an execution, perhaps under an id that is taken."""

    def __init__(
        self, witness: Witness, id: str, workflow: Workflow[..., Any, Any], argument: Any, **options: Any
    ) -> None:
        super().__init__(witness, id)
        self.workflow = workflow
        self.argument = argument
        self.options = options

    async def ask(self, client: Client) -> object:
        try:
            await client.start(self.workflow, self.argument, id=self.id, **self.options)
        except ExecutionExists:
            self.witness.told_started(self.id)
            return "exists"
        self.witness.told_started(self.id)
        return "started"


class Send(Errand):
    """Send a signal, under another value each time that nobody knows whether the last one arrived."""

    def __init__(self, witness: Witness, id: str, name: str, serial: int) -> None:
        super().__init__(witness, id)
        self.name = name
        self.serial = serial
        self.tries = 0

    def __str__(self) -> str:
        return f"send {self.name} to {self.id}"

    @property
    def value(self) -> Any:
        return f"{self.name}#{self.serial}.{self.tries}"

    async def ask(self, client: Client) -> object:
        try:
            await client.execution(self.id).signal(self.name, self.value)
        except ExecutionClosed:
            return "closed"
        self.witness.told_signal(self.id, self.value)
        return "sent"

    def refused(self) -> None:
        self.witness.refused_signal(self.id, self.value)

    def interrupted(self) -> None:
        self.tries += 1


class Stream(Errand):
    """Send the collector a number of values, one after the other."""

    def __init__(self, witness: Witness, sender: str, count: int) -> None:
        super().__init__(witness, COLLECTOR)
        self.sender = sender
        self.count = count
        self.sent = 0
        self.stint = 0
        """One process at a time sends, and only what one sent is in order: another's may overtake it."""
        self.told: list[str] = []
        self.maybe: list[str] = []

    def __str__(self) -> str:
        return f"stream {self.sender}"

    @property
    def value(self) -> str:
        return f"{self.sender}.{self.stint}~{self.sent}"

    async def ask(self, client: Client) -> object:
        while self.sent < self.count:
            await client.execution(self.id).signal(number, self.value)
            self.witness.told_signal(self.id, self.value)
            self.told.append(self.value)
            self.sent += 1
        return "sent"

    def refused(self) -> None:
        self.witness.refused_signal(self.id, self.value)
        self.stint += 1

    def interrupted(self) -> None:
        self.maybe.append(self.value)
        self.sent += 1
        self.stint += 1


_TOLD = {
    "cancel": Kind.CANCEL_REQUESTED,
    "terminate": Kind.TERMINATED,
    "pause": Kind.PAUSED,
    "resume": Kind.RESUMED,
    "retry": Kind.REOPENED,
}


class Demand(Errand):
    """Cancel, terminate, pause, resume or retry an execution."""

    def __init__(self, witness: Witness, id: str, what: str) -> None:
        super().__init__(witness, id)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} {self.id}"

    async def ask(self, client: Client) -> object:
        execution: Execution[Any] = client.execution(self.id)
        resumes, since = self.what == "resume", self.witness.newest_run(self.id)
        try:
            await getattr(execution, self.what)()
        except StoreError:
            raise
        except PerdureError as error:  # has ended, or is not to be retried
            return type(error).__name__
        if not resumes:  # to resume what is not paused leaves no trace
            self.witness.told_request(self.id, since, self.what, _TOLD[self.what])
        return "done"


class Answer(Errand):
    """Complete an activity from outside, with the token that it gave away."""

    def __init__(self, witness: Witness, id: str, token: str, key: str) -> None:
        super().__init__(witness, id)
        self.token = token
        self.key = key

    def __str__(self) -> str:
        return f"answer {self.key}"

    async def ask(self, client: Client) -> object:
        try:
            await client.complete(self.token, f"answer {self.key}")
        except (StaleToken, ExecutionClosed):
            self.witness.told_stale(seal(self.token))
            return "stale"
        return "answered"


class Watch(Errand):
    """Wait for the end of an execution."""

    async def ask(self, client: Client) -> object:
        try:
            execution: Execution[Any] = client.execution(self.id)
            result = await execution.result()
        except (StoreError, Broken) as error:
            if isinstance(error, StoreError):
                raise
            return self._told(Status.FAILED)
        except PerdureError as error:
            return type(error).__name__
        return self._told(Status.COMPLETED, result)

    def _told(self, status: Status, result: Any = None) -> object:
        self.witness.told_end(self.id, status, msgspec.json.encode(result).decode())
        return status


class Read(Errand):
    """Read the state, which is that of the last commit."""

    essential = False

    async def ask(self, client: Client) -> object:
        state = await client.execution(self.id).state()
        self.witness.told_state(self.id, state)
        return state
