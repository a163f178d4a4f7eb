"""What importing perdure and its testing kit brings along."""

from __future__ import annotations

import subprocess
import sys


def loaded(statement: str) -> set[str]:
    """Give the modules that are loaded after `statement` in a fresh interpreter."""
    program = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_perdure_does_not_import_its_testing_kit():
    assert not any(name.startswith("perdure.testing") for name in loaded("import perdure, perdure.engine.engine"))


def test_the_testing_kit_does_not_import_pytest():
    assert {"pytest", "_pytest", "hypothesis"}.isdisjoint(loaded("import perdure.testing"))
