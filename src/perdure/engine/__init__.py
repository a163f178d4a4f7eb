"""The engine: the one runner that advances the executions of a file.

- `engine.py`      what the user opens: leads or stands by; `local.py` is the way to a runner in the same process
- `runner.py`      takes `inputs.py`, makes a batch (`work.py`), commits it, then lets its `effects.py` out
- `faults.py`      what happens when a batch cannot be written
- `arrivals.py`    what comes by itself: timers, requests of other processes, heartbeats
- `memory.py`      which executions are in memory; `live.py` is one, `loading.py` brings it there
- `commands.py`    carries out what workflow code asked for, `requests.py` what people ask for; `reopening.py` retries
- `outcomes.py`    what follows from the end of an attempt
- `executor.py`    runs an `attempt.py`, within its `limits.py`; `process.py` and `program.py` run it elsewhere
- `registry.py`    knows the workflows
- `watchdog.py`    keeps going while user code blocks the loop
"""
