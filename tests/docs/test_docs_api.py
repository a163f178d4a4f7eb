"""The API page names every public name, signature, method and option, as they are."""

from __future__ import annotations

import inspect
import re

import pytest
from docs_page import code, sections, table

import perdure
from perdure import Client, Engine, Retry, Signal
from perdure.blocking import Blocking, BlockingExecution
from perdure.codec.encryption import AesGcmCodec
from perdure.saga import Saga
from perdure.tenants import Tenants

SIGNATURES = {
    "Engine": perdure.Engine,
    "Client": Client,
    "Retry": Retry,
    "Signal": Signal,
    "Saga": Saga,
    "Filter": perdure.Filter,
    "activity": perdure.activity,
    "workflow": perdure.workflow,
    "Blocking": Blocking,
    "Tenants": Tenants,
    "AesGcmCodec": AesGcmCodec,
    **{name: getattr(perdure, name) for name in "sleep now random uuid4 patched execution_id current_attempt".split()},
    "continue_as_new": perdure.continue_as_new,
}
CLASSES = [getattr(perdure, name) for name in "Activity Attempt Call Execution Transaction Workflow".split()]
CLASSES += [Client, Engine, Saga, Signal, AesGcmCodec]
FIELDS = [perdure.ExecutionInfo, Retry, perdure.Filter]
INTERNAL = """
    Activity.fn Activity.is_async Activity.defaults Activity.arguments Activity.returns
    Workflow.fn Workflow.is_async Workflow.arguments Workflow.returns Workflow.strict Workflow.reported
    Call.cancelled_by_end Client.store Client.doorbell Engine.store Engine.doorbell
    Engine.busy Engine.next_due_at Engine.newest_request
    AesGcmCodec.encode AesGcmCodec.decode
""".split()
"""Of use to the engine only: not part of the API."""


def signature(function: object) -> str:
    """Write a signature as the page does: names and defaults, no annotations, no spaces."""
    parts = []
    star = False
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or parameter.kind is parameter.VAR_POSITIONAL
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        parts.append(f"{prefix}{parameter.name}{default(parameter)}")
    return f"({','.join(parts)})"


def default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return ""
    if parameter.default == Retry():
        return "=Retry()"
    if inspect.isfunction(parameter.default):  # the clock
        return "=…"
    if isinstance(parameter.default, str):  # also enums of strings
        return f'="{parameter.default}"'
    return f"={parameter.default!r}".replace("'", '"').replace("typing.Any", "Any")


def without_spaces(text: str) -> str:
    return re.sub(r",(?=\))", "", re.sub(r"\s+|_(?=\d{3})", "", text))


def test_every_public_name_has_a_section() -> None:
    described = set(sections("api.md"))
    assert described >= set(perdure.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signature_is_the_real_one(name: str) -> None:
    assert without_spaces(f"{name}{signature(SIGNATURES[name])}") in without_spaces(sections("api.md")[name])


def methods(cls: type) -> list[str]:
    """Give the public methods and properties that a class itself defines or inherits from ours."""
    own = [vars(part) for part in cls.__mro__ if part.__module__.startswith("perdure")]
    names = dict.fromkeys(name for members in own for name, value in members.items() if _is_member(name, value))
    return [name for name in names if not name.startswith("_") and f"{cls.__name__}.{name}" not in INTERNAL]


def _is_member(name: str, value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | staticmethod | classmethod)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_method_is_described_with_its_signature(cls: type) -> None:
    text = without_spaces(sections("api.md")[cls.__name__])
    if cls is Engine:  # also a Client
        text += without_spaces(sections("api.md")["Client"])
    for name in methods(cls):
        member = inspect.getattr_static(cls, name)
        call = "" if isinstance(member, property) else signature(getattr(cls, name))
        assert f"`{name}{call}`" in text or f"`await{name}{call}`" in text or f".{name}{call}`" in text, f"{name}{call}"


def test_blocking_has_the_methods_that_the_page_says() -> None:
    text = sections("api.md")["Blocking"]
    for cls in (Blocking, BlockingExecution):
        for name in methods(cls):
            assert f"`{name}`" in text, name


@pytest.mark.parametrize("cls", FIELDS, ids=lambda cls: cls.__name__)
def test_every_field_is_described(cls: type) -> None:
    described = [code(row[0]) for row in table(sections("api.md")[cls.__name__])]
    assert described == list(cls.__struct_fields__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", [perdure.activity, Engine], ids=["activity", "Engine"])
def test_every_option_is_described(function: object) -> None:
    name = function.__name__  # type: ignore[attr-defined]
    described = {code(row[0]) for row in table(sections("api.md")[name])}
    options = {parameter.name for parameter in inspect.signature(function).parameters.values()}  # type: ignore[arg-type]
    assert described == options - {"fn"}
