"""Whatever stands in a file, reading it gives a value or an error that somebody is prepared for."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fuzz_decoders import DECODERS
from fuzz_samples import SAMPLES, WORDS
from fuzz_settings import tries
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=20))
NUMBERS = st.one_of(st.integers(), st.integers(-(2**200), 2**200), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=5)),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Signals whose value does not fit are told of in the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@st.composite
def documents(draw: Any) -> bytes:
    """JSON in the words that perdure uses, now and then cut or with a byte changed."""
    return damaged(draw, msgspec.json.encode(draw(JSON)))


@st.composite
def samples(draw: Any, name: str) -> bytes:
    """Genuine input of one decoder, damaged."""
    return damaged(draw, draw(st.sampled_from(SAMPLES[name])))


def damaged(draw: Any, data: bytes) -> bytes:
    content = bytearray(data)
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 3)))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        act = draw(st.sampled_from(("change", "cut", "insert", "repeat")))
        if act == "change":
            content[at] = draw(st.integers(0, 255))
        elif act == "cut":
            del content[at : at + draw(st.integers(1, 8))]
        elif act == "insert":
            content[at:at] = draw(st.sampled_from([word.encode() for word in WORDS]))
        else:
            content[at:at] = content[at : at + 20] * draw(st.integers(1, 50))
    return bytes(content)


@pytest.mark.parametrize("name", DECODERS)
def test_input_to_begin_with_is_read_or_refused(name: str):
    for sample in SAMPLES[name]:
        DECODERS[name](sample)


@pytest.mark.parametrize("name", DECODERS)
def test_any_input_gives_a_value_or_an_error_that_is_expected(name: str):
    @given(st.one_of(samples(name), documents(), st.binary(max_size=200)))
    @tries(250)
    def check(data: bytes) -> None:
        DECODERS[name](data)

    check()


@pytest.mark.parametrize("name", DECODERS)
def test_input_that_is_nested_deeply_is_refused(name: str):
    for opening, closing in ((b"[", b"]"), (b'{"cause":', b"}"), (b'{"a":', b"}"), (b'{"exceptions":[', b"]}")):
        for depth in (100, 900, 5_000, 200_000):
            DECODERS[name](opening * depth)
            DECODERS[name](b'{"type":"builtins:ValueError","args":' + opening * depth + b"1" + closing * depth + b"}")


@pytest.mark.parametrize("name", DECODERS)
def test_large_input_of_one_kind_is_read_or_refused(name: str):
    draw = random.Random(1)
    for data in (
        b"9" * 100_000,
        b'"' + b"x" * 1_000_000 + b'"',
        b"[" + b"1," * 200_000 + b"1]",
        draw.randbytes(100_000),
    ):
        DECODERS[name](data)


GUIDED_S = 8
WHEELS = sys.platform == "linux" and platform.machine() == "x86_64" and (3, 11) <= sys.version_info < (3, 15)


def test_input_that_takes_new_paths_is_looked_for(tmp_path: Path):
    """A short run of `make fuzz`: atheris sees which lines an input reaches, and goes on from what reaches new ones."""
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("PERDURE_CI") and WHEELS:
            pytest.fail("atheris is not installed, and there is a wheel of it for this platform: see `make setup`")
        pytest.skip("needs atheris: CPython 3.11 to 3.14 on Linux with x86_64, and `make setup`")
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    program = [sys.executable, str(Path(__file__).parent), "decoders", "--corpus", str(tmp_path / "corpus")]
    options = ["--seconds", str(GUIDED_S), "--seed", str(seed)]
    done = subprocess.run([*program, *options], capture_output=True, text=True, cwd=tmp_path, check=False)
    print(done.stderr[-5_000:])
    assert done.returncode == 0, f"found something: {sorted(path.name for path in tmp_path.glob('crash-*'))}"
    counts = {name: int(count) for name, count in re.findall(r"stat::(\w+): +(\d+)", done.stderr)}
    assert counts["number_of_executed_units"] > 1_000
    assert counts["new_units_added"] > 10
