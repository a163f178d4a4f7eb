"""The demo: a real job on real input, killed with `kill -9` in the middle, and none of it lost.

It indexes the Python standard library of this machine: one child workflow per package, one activity per file. `main`
runs it, and so does `python -m perdure.demo`. `source.py` knows files and what to count in them, `index.py` is the job
as workflows, `ledger.py` the witness outside the database, `worker.py` the process that is killed, `act.py` the play
itself, `display.py` what the audience sees.
"""

from perdure.demo.act import main

__all__ = ["main"]
