"""The jobs in perdure. One process runs one job, on a new database: `python -m bench.jobs NAME key=value… --dir DIR`.

Every job checks its results. Those that measure a rate or a latency warm up first, on executions of their own, past
the first checkpoint: until then each commit also makes the WAL file longer, which would flatter what comes last.
"""
