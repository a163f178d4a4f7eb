"""Refuse side effects while workflow code runs, through CPython's audit events.

The events are process-wide and come from everywhere, so:

1. An event that is not in the table costs one dict lookup; one that is, outside workflow code, one call more.
2. Code that a workflow triggers without asking for it may do what it needs: imports, logging, tracebacks, warnings, the
   debugger, time zone data, finalizers, and perdure itself.
3. What raises no event is out of reach: `time.time`, `random`, `os.environ`, `os.stat`; before 3.12 new threads. The
   static check (`static.py`) looks for these. `time.sleep` has its event from 3.13; `install` adds it before.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

from perdure.errors import InternalError, NonDeterminismError
from perdure.guard.origin import Origin, origin
from perdure.guard.rules import ACTIVITY, CONCURRENT, SLEEP

_REFUSED: dict[str, str] = {
    "_thread.start_joinable_thread": CONCURRENT,
    "_thread.start_new_thread": CONCURRENT,
    "time.sleep": SLEEP,
}
_REFUSED |= dict.fromkeys(
    """builtins.input ftplib.connect ftplib.sendcmd glob.glob http.client.connect http.client.send imaplib.open
    imaplib.send mmap.__new__ nntplib.connect nntplib.putline open os.chdir os.chflags os.chmod os.chown os.exec os.fork
    os.forkpty os.fwalk os.getxattr os.kill os.killpg os.link os.listdir os.listxattr os.lockf os.mkdir os.posix_spawn
    os.putenv os.remove os.removexattr os.rename os.rmdir os.scandir os.setxattr os.spawn os.startfile os.symlink
    os.system os.truncate os.unsetenv os.utime os.walk pathlib.Path.glob pathlib.Path.rglob poplib.connect
    poplib.putline pty.spawn shutil.chown shutil.copyfile shutil.copymode shutil.copystat shutil.copytree
    shutil.make_archive shutil.move shutil.rmtree shutil.unpack_archive signal.pthread_kill smtplib.connect smtplib.send
    socket.__new__ socket.bind socket.connect socket.getaddrinfo socket.gethostbyaddr socket.gethostbyname
    socket.gethostname socket.getnameinfo socket.getservbyname socket.getservbyport socket.sendmsg socket.sendto
    socket.sethostname sqlite3.connect subprocess.Popen syslog.openlog syslog.syslog telnetlib.Telnet.open
    telnetlib.Telnet.write tempfile.mkdtemp tempfile.mkstemp urllib.Request webbrowser.open""".split(),
    ACTIVITY,
)

# Modules that act on nobody's request, or for the programmer. With an import comes all that module level code does.
_UNASKED = frozenset(
    """importlib _frozen_importlib _frozen_importlib_external zipimport logging warnings traceback linecache tokenize
    inspect weakref zoneinfo gettext pdb bdb code codeop rlcompleter pydevd debugpy _pydevd_bundle coverage""".split()
)

_TERMINAL = frozenset({os.devnull, "/dev/tty", "/dev/stdin", "/dev/stdout", "/dev/stderr", "CON", "CONIN$", "CONOUT$"})


class Refusing(Protocol):
    """A workflow that runs."""

    def refused(self, error: NonDeterminismError) -> NonDeterminismError:
        """Take note of a refusal, whatever the code does with it; give what to raise."""


class AuditHook:
    """The hook itself: `current()` gives the workflow whose code runs in this thread now, if any."""

    installed: AuditHook | None = None  # hooks cannot be removed, so there is one per process

    def __init__(self, current: Callable[[], Refusing | None]) -> None:
        self.current = current

    def hook(self) -> Callable[[str, tuple[object, ...]], None]:
        """Return the function to give to `sys.addaudithook`."""
        current = self.current
        refused = _REFUSED

        def audit(event: str, args: tuple[object, ...]) -> None:
            if event in refused and (workflow := current()) is not None:
                _refuse(workflow, event, args, sys._getframe(1))

        return audit


def install(current: Callable[[], Refusing | None]) -> None:
    """Refuse side effects in this process wherever `current()` gives a workflow. Again with the same function: no
    effect.

    A refused call raises NonDeterminismError before it does anything. Raises InternalError for a second function.
    """
    if AuditHook.installed is None:
        AuditHook.installed = AuditHook(current)
        sys.addaudithook(AuditHook.installed.hook())
        if sys.version_info < (3, 13):
            time.sleep = announced(time.sleep)  # type: ignore[assignment]
    elif AuditHook.installed.current != current:
        raise InternalError("the audit hook is already installed, with another function")


def announced(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """Give `time.sleep` the audit event that Python 3.13 has."""

    @functools.wraps(sleep)
    def announced(seconds: float) -> None:
        sys.audit("time.sleep", seconds)
        sleep(seconds)

    return announced


def _refuse(workflow: Refusing, event: str, args: tuple[object, ...], frame: FrameType | None) -> None:
    if event == "open" and _is_harmless(args[0]):
        return
    frames = list(_workflow_frames(frame))
    if not frames or any(map(_is_unasked, frames)):
        return
    place = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}"
    advice = _REFUSED[event]
    hint = "write an @activity that does it and call that" if advice == ACTIVITY else advice
    raise workflow.refused(NonDeterminismError(f"{_call(event, args)} in workflow code, at {place}", hint=hint))


def _is_harmless(path: object) -> bool:
    """Say whether `path` is a terminal, a descriptor (opened already, with permission) or time zone data."""
    if not isinstance(path, str | bytes):
        return isinstance(path, int)
    name = os.fsdecode(path)
    zones = getattr(sys.modules.get("zoneinfo"), "TZPATH", ())  # `ZoneInfo` is written in C and leaves no frame
    return name in _TERMINAL or any(name.startswith(folder + os.sep) for folder in zones)


def _workflow_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames that belong to the workflow, the one to blame first; none if perdure acts for itself.

    They end where perdure's frames begin that drive the workflow. The standard library's frames are left out, except
    those that `_is_unasked` looks for.
    """
    unasked: list[FrameType] = []
    blamed = False
    if frame is not None and frame.f_code.co_filename == __file__:  # the `time.sleep` of `announced`
        frame = frame.f_back
    while frame is not None:
        match origin(frame.f_code.co_filename):
            case Origin.PERDURE:
                break
            case Origin.STDLIB:
                if _is_unasked(frame):
                    unasked.append(frame)
            case _:
                blamed = True
                yield frame
        frame = frame.f_back
    if blamed:
        yield from unasked


def _is_unasked(frame: FrameType) -> bool:
    if frame.f_code.co_name == "__del__":
        return True
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return module in _UNASKED and origin(frame.f_code.co_filename) is not Origin.USER


def _call(event: str, args: tuple[object, ...]) -> str:
    """Write the call as the user may have written it: with its first textual argument, without a URL's query."""
    for arg in args:
        match arg:
            case str() | bytes() | os.PathLike():
                return f"{event}({os.fsdecode(arg).partition('?')[0][:100]!r})"
    return f"{event}()"
