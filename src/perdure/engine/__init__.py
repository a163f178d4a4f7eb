"""The engine: the one runner that advances the executions of a file.

`engine.py` is what the user opens; `runner.py` takes inputs, runs workflow code, commits and lets effects out;
`live.py` is an execution in memory and `loading.py` brings it there; `commands.py` carries out what the code asked
for, `requests.py` what people ask for; `attempt.py` and `executor.py` run activities; `registry.py` knows the
workflows; `watchdog.py` keeps going while user code blocks the loop.
"""
