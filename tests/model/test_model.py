"""The protocol of the runner, as a model of which spin explores every order of all steps; and each of its rules is
needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from spin import BROKEN, SETTINGS, Setting, explore, missing_tools

pytestmark = pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}")


def name_of(setting: Setting) -> str:
    return setting.name


@pytest.mark.parametrize("setting", SETTINGS, ids=name_of)
def test_whatever_happens_the_protocol_keeps_its_promises(setting: Setting, tmp_path: Path) -> None:
    found = explore(setting, tmp_path)
    print(found)
    assert found.violation == ""


@pytest.mark.parametrize("setting", BROKEN, ids=name_of)
def test_a_rule_that_is_left_out_is_missed(setting: Setting, tmp_path: Path) -> None:
    assert explore(setting, tmp_path).violation
