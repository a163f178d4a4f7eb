"""The jobs with a replica: real Litestream, and a bucket on loopback. `python -m bench.replication JOB … --dir DIR`."""
