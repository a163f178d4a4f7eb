"""Running `executor="process"` activities: both ends of a worker process, which runs one at a time.

1. Only JSON text crosses, in both directions.
2. Each worker has one pipe and one thread of ours that listens to it. When the process dies, only the attempt that it
   ran is interrupted.
3. Cancelling an attempt ends its process; the next attempt gets a new one. A process is used again otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from perdure.activity import Activity, attempt_var
from perdure.codec import encode_failure
from perdure.errors import AttemptInterrupted, FinishLater, PerdureError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_GUARD = 'each worker imports your program: keep what that runs under `if __name__ == "__main__":`'
START_S = 60.0
"""How long a new process may take to import the program."""


class Order(msgspec.Struct, frozen=True):
    """What a worker is asked to do: the function, its arguments as JSON, and what the attempt can say of itself."""

    module: str
    qualname: str
    data: str
    execution_id: str
    activity: str
    number: int
    idempotency_key: str
    token: str
    last: str | None = None


class Message(msgspec.Struct, frozen=True):
    """What a worker says: `beat` with details as JSON, or how it ended: `ok`, `failed` or `later`, with the result or
    failure as JSON."""

    what: str
    text: str = ""


# --- in the worker --------------------------------------------------------------------------------------------------


def refuse_in_import() -> None:
    """Raise `PerdureError` when a worker is only just importing the program, which then must not open an engine."""
    started_by = sys.modules.get("multiprocessing.process")  # imported long ago in a worker
    if started_by is not None and getattr(started_by.current_process(), "_inheriting", False):  # as it looks itself
        raise PerdureError("a worker process imported this program, and that opened an engine", hint=_GUARD)


class WorkerAttempt:
    """The attempt as user code in the worker sees it; implements `activity.Attempt`."""

    cancelled = False  # a cancelled one is gone with its process

    def __init__(self, order: Order, connection: Connection) -> None:
        self.execution_id = order.execution_id
        self.activity = order.activity
        self.number = order.number
        self.idempotency_key = order.idempotency_key
        self.token = order.token
        self.last_details: Any = None if order.last is None else msgspec.json.decode(order.last)
        self._connection = connection
        self._lock = threading.Lock()

    def heartbeat(self, details: Any = None) -> None:
        message = Message("beat", msgspec.json.encode(details).decode())
        with self._lock:  # the activity may have threads
            self._connection.send_bytes(msgspec.json.encode(message))

    def finish_later(self) -> NoReturn:
        raise FinishLater


def serve(connection: Connection) -> None:
    """Run one activity after the other until the engine's end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too, but the engine decides when we end
    _end_with_parent()
    with contextlib.suppress(EOFError, OSError):  # the engine is gone, and so are we
        connection.send_bytes(b"ready")
        while True:
            order = msgspec.json.decode(connection.recv_bytes(), type=Order)
            connection.send_bytes(msgspec.json.encode(_obey(order, connection)))


def _end_with_parent() -> None:
    """Have this process end as soon as the engine's does, also after a `kill -9`: what it does nobody waits for."""
    import multiprocessing  # here and below: most programs never need it, and it takes milliseconds

    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, name="perdure-parent", daemon=True).start()


def _obey(order: Order, connection: Connection) -> Message:
    token = attempt_var.set(WorkerAttempt(order, connection))
    try:
        activity = _find(order.module, order.qualname)
        args, kwargs = activity.arguments.call_args(order.data)
        return Message("ok", activity.returns.check(activity.fn(*args, **kwargs)))
    except FinishLater:
        return Message("later")
    except BaseException as error:
        return Message("failed", encode_failure(error))
    finally:
        attempt_var.reset(token)


def _find(module: str, qualname: str) -> Activity[..., Any, Any]:
    where = "__mp_main__" if module == "__main__" and "__mp_main__" in sys.modules else module
    found = functools.reduce(getattr, qualname.split("."), importlib.import_module(where))
    if not isinstance(found, Activity):
        raise TypeError(f"{module}.{qualname} is not an activity at module level")
    return found


# --- in the engine --------------------------------------------------------------------------------------------------


class Worker:
    """One process. `start` and `run` block, so they belong on a thread; `end` comes from any."""

    def __init__(self) -> None:
        import multiprocessing

        # spawn, not fork: a forked child would inherit our threads' locks and our database connections
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self._theirs,), name="perdure-worker")
        self._ended = False

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises `PerdureError` when it does not come up."""
        self._process.start()
        self._theirs.close()
        try:
            if not self._pipe.poll(START_S):
                raise EOFError
            self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self.end()
            raise PerdureError("a worker process could not start", hint=_GUARD) from error

    def run(self, order: Order, on_beat: Callable[[str], None]) -> Message:
        """Run one activity. Raises `AttemptInterrupted` when the process dies."""
        try:
            self._pipe.send_bytes(msgspec.json.encode(order))
            while (message := msgspec.json.decode(self._pipe.recv_bytes(), type=Message)).what == "beat":
                on_beat(message.text)
        except (EOFError, OSError) as error:
            self.end()
            raise AttemptInterrupted(f"the process that ran {order.activity} died") from error
        except BaseException:  # a heartbeat was refused: what the activity still says belongs to nobody
            self.end()
            raise
        return message

    @property
    def usable(self) -> bool:
        return not self._ended and self._process.is_alive()

    def end(self) -> None:
        """Kill the process, if it runs, and wait for its end."""
        self._ended = True
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


class ProcessRun:
    """One attempt's stay in a worker process; what its `handle` is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._cancelled = False

    def enter(self, worker: Worker) -> bool:
        """Take the worker; false when the attempt was cancelled before."""
        with self._lock:
            self._worker = worker
            return not self._cancelled

    def leave(self) -> None:
        """Give the worker back: cancelling does not reach it any more."""
        with self._lock:
            self._worker = None

    def cancel(self) -> bool:
        with self._lock:
            self._cancelled = True
            if self._worker is not None:
                self._worker.end()
        return True
