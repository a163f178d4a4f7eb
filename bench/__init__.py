"""How fast perdure is, in figures that mean the same on every machine. Run `python -m bench`; see README.md."""
