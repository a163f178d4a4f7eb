"""`perdure complete` and `fail`: ending an activity that waits for the outside world."""

from __future__ import annotations

from typing import Annotated

import typer

Token = Annotated[
    str, typer.Argument(metavar="TOKEN", help="The attempt's token, a secret; - reads it from stdin.", show_default=False)
]
