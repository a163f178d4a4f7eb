"""Keep workflow code deterministic: check its source before it runs, refuse side effects while it runs."""
