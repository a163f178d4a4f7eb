"""The other end of `executor="process"`: runs one activity in a worker process. Only JSON text crosses."""

from __future__ import annotations

import functools
import importlib
import sys

from perdure.activity import Activity
from perdure.codec import encode_failure


def run_in_process(module: str, qualname: str, data: str) -> tuple[bool, str]:
    """Call the activity `module:qualname` with JSON arguments; give (true, result) or (false, failure), as JSON."""
    try:
        where = "__mp_main__" if module == "__main__" and "__mp_main__" in sys.modules else module
        activity = functools.reduce(getattr, qualname.split("."), importlib.import_module(where))
        if not isinstance(activity, Activity):
            raise TypeError(f"{module}.{qualname} is not an activity at module level")
        args, kwargs = activity.arguments.call_args(data)
        return True, activity.returns.check(activity.fn(*args, **kwargs))
    except BaseException as error:
        return False, encode_failure(error)
