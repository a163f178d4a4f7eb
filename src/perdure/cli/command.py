"""From a function to a command: what goes wrong becomes a message and an exit code, never a traceback."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import typer

from perdure.cli.exits import ExitCode, code_for
from perdure.cli.output import complain, complain_about
from perdure.codec.payload import DecodeError
from perdure.errors import ExecutionExists, InternalError, PerdureError

P = ParamSpec("P")
KEYS = "PERDURE_KEYS"


def command(fn: Callable[P, Any]) -> Callable[P, None]:
    """Wrap a function, `async` or not, that does the work and gives an exit code (None is 0)."""

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(_exit_code(functools.partial(_call, fn, *args, **kwargs)))

    return run


def _call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    result = asyncio.run(fn(*args, **kwargs)) if inspect.iscoroutinefunction(fn) else fn(*args, **kwargs)
    if sys.stdout is not None:
        sys.stdout.flush()
    return result or ExitCode.OK


def _exit_code(call: Callable[[], int]) -> int:
    try:
        return call()
    except InternalError:
        raise  # a bug of ours: its traceback is what a report needs
    except PerdureError as error:
        if isinstance(error, DecodeError) and KEYS not in os.environ:
            error.hint = f"if the payloads are encrypted, set {KEYS} to `id:base64`"
        if isinstance(error, ExecutionExists):  # its hint names the argument; here it is an option
            error.hint = re.sub(r'on_conflict="(\w+)"', r"--on-conflict \1", error.hint)
        complain_about(error)
        return code_for(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except RecursionError:
        complain("a value is nested too deeply to be read or written")
        return ExitCode.FAILED
    except OSError as error:
        complain(str(error))
        return ExitCode.STORE
