"""Importing the user's code: a file such as `shop.py`, or a module such as `shop.orders`."""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from perdure.cli.exits import UsageError
from perdure.cli.output import clean
from perdure.workflow import Workflow

AnyWorkflow = Workflow[..., Any, Any]


def load_module(target: str) -> ModuleType:
    """Import a file or module, with the working folder on the path. Raises `UsageError`."""
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    if target.endswith(".py") or os.sep in target:
        return _load_file(Path(target))
    if not all(part.isidentifier() for part in target.split(".")):
        raise UsageError(f"{target!r} is neither a file nor a module", hint="name it like shop.py or shop.orders")
    return _import(target, target)


def load_workflows(target: str) -> ModuleType:
    """Import a file or module that must hold a workflow."""
    module = load_module(target)
    if not workflows_of(module):
        raise UsageError(f"{target} has no workflow", hint="decorate a function at module level with @perdure.workflow")
    return module


def load_workflow(spec: str) -> tuple[ModuleType, AnyWorkflow]:
    """Import `MODULE:workflow`, or `MODULE` with one workflow. Raises `UsageError`."""
    target, _, name = spec.rpartition(":") if ":" in spec else (spec, "", "")
    module = load_workflows(target)
    known = workflows_of(module)
    if not name:
        if len(known) == 1:
            return module, next(iter(known.values()))
        raise UsageError(f"{target} has {len(known)} workflows: {', '.join(known)}", hint=f"name one: {target}:NAME")
    found: Any
    try:
        found = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        found = next((workflow for workflow in known.values() if workflow.name == name), None)
    if isinstance(found, Workflow):
        return module, found
    if found is not None:
        raise UsageError(f"{spec} is not a workflow", hint="decorate it with @perdure.workflow")
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {target}:{close[0]}?" if close else f"it has {', '.join(known)}"
    raise UsageError(f"{target} has no workflow {name}", hint=hint)


def workflows_of(module: ModuleType) -> dict[str, AnyWorkflow]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Workflow)}


def _load_file(path: Path) -> ModuleType:
    """Import a file under the name that its own package gives it, as `import` would."""
    if not path.is_file():
        hint = "check the path" if path.suffix else f"write {path}.py, or {'.'.join(path.parts)} for a module"
        raise UsageError(f"there is no file {path}", hint=hint)
    shown, path = str(path), path.resolve()
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    if not all(part.isidentifier() for part in parts):
        raise UsageError(f"{path.name} cannot be imported: its name is not a Python name", hint="rename the file")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    name = ".".join(parts)
    module = _import(name, shown)
    if module.__file__ is None or not os.path.samefile(module.__file__, path):
        hint = "rename the file" if len(parts) == 1 else "run the command in the folder that holds its package"
        raise UsageError(
            f"the module name {name} of {path} is taken by {module.__file__ or 'Python itself'}", hint=hint
        )
    return module


def _import(name: str, shown: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            hint = f"modules are looked for in {os.getcwd()} and in Python's own path; a file is named like shop.py"
            raise UsageError(f"there is no module {error.name}", hint=hint) from None
        raise _failed(shown, error) from error
    except KeyboardInterrupt:
        raise
    except SystemExit as error:
        hint = 'put what the script runs under `if __name__ == "__main__":`'
        raise UsageError(
            f"{shown} ended the process while it was imported (exit code {error.code})", hint=hint
        ) from None
    except BaseException as error:
        raise _failed(shown, error) from error


def _failed(shown: str, error: BaseException) -> UsageError:
    """Print the user's part of the traceback and give what to raise."""
    stack = error.__traceback__
    while stack is not None and _is_machinery(stack.tb_frame.f_code.co_filename):
        stack = stack.tb_next
    printed = traceback.TracebackException(type(error), error, stack)
    sys.stderr.write(clean("".join(printed.format()), lines=True))
    return UsageError(f"{shown} cannot be imported: {type(error).__name__}: {error}", hint="fix the error above")


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename in (__file__, importlib.__file__)
