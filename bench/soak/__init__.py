"""The long run: a mixed load for minutes, with what must stay flat sampled every few seconds.

`python -m bench.soak --minutes 30`. `worker.py` is the process with the engine and `asker.py` another one that asks;
both run the customers of `load.py`. `run.py` starts them and samples them (`samples.py`); `trend.py` has the rule that
says what counts as growth, `picture.py` draws the lines.
"""
