"""The whole engine in one process, on one seeded scheduler and one virtual clock, under every fault we can think of.

Several simulated processes run the real `Engine`, `Client` and SQLite store on one file. Nothing but the seed decides
who runs next, how long a commit takes and what goes wrong, so a seed repeats exactly.

- `scheduler.py`   who runs next, and when time passes; `process.py` is what it runs, `process_loop.py` its event loop
- `disk.py`        the file that they share; in every transaction others run and faults strike, then it is checked
- `stations.py`    the real engine and client with the world's lock, bells, threads and dice (`bells.py`, `pool.py`)
- `options.py`     what one seed draws: how many processes, which faults, how often; `faults.py` makes them happen
- `programs.py`    random workflow programs as JSON; `workflows.py` and `plain_workflow.py` run them on `activities.py`
- `oracle.py`      what must come out of a program
- `errands.py`     what callers ask for: starts, signals, cancels, …; `desk.py` has them done
- `caretaker.py`   plans the work, and sees to it that nothing waits for the world for ever
- `ledger.py`      what happened outside the file: attempts that ran
- `auditor.py`     checks the invariants after every commit, with a `shadow.py` of every execution
- `witness.py`     checks what callers were told; `outcomes.py` the outcomes at the end
- `world.py`       one seed from its start to its end: a safety phase with faults, then a liveness phase without
- `timeline.py`    what happened, for people and as a hash
- `plants.py`      bugs put into the engine on purpose: the simulation must find each of them
- `__main__.py`    `make sim`
"""
