"""Replication: the state lives in a bucket, compute is disposable."""
