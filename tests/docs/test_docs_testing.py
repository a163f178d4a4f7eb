"""The page on `perdure.testing` names every public name, signature, method and option, as they are."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
from docs_page import code, sections, table
from test_docs_api import methods, signature, without_spaces

from perdure import testing
from perdure.blocking import BlockingExecution
from perdure.testing import (
    ActivityCall,
    Effect,
    Environment,
    Fault,
    Outcome,
    audit,
    check_replay,
    explore,
    save_histories,
)
from perdure.testing.clock import START
from perdure.testing.execution import SimulatedExecution

PAGE = sections("testing.md")
EXPLORED = {"workflow", "args", "kwargs"}
REPORTS = {"ExploreReport", "ReplayReport"}
"""Results, described where they are given."""


def test_every_public_name_has_a_section() -> None:
    assert set(PAGE) >= set(testing.__all__) - REPORTS


@pytest.mark.parametrize(
    "thing", [Environment, Fault, explore, check_replay, save_histories, audit], ids=lambda thing: thing.__name__
)
def test_the_signature_is_the_real_one(thing: object) -> None:
    name = thing.__name__  # type: ignore[attr-defined]
    real = signature(thing).replace(repr(START), "…")
    assert without_spaces(f"{name}{real}") in without_spaces(PAGE[name])


@pytest.mark.parametrize("thing", [Environment, explore, check_replay], ids=lambda thing: thing.__name__)
def test_every_option_is_described(thing: object) -> None:
    name = thing.__name__  # type: ignore[attr-defined]
    described = {code(part) for row in table(PAGE[name]) for part in row[0].split(", ")}
    options = {parameter.name for parameter in inspect.signature(thing).parameters.values()}  # type: ignore[arg-type]
    assert described == options - (EXPLORED if thing is explore else set())


def test_every_method_is_described_with_its_signature() -> None:
    text = without_spaces(PAGE["Environment"])
    for name in methods(Environment):
        member = inspect.getattr_static(Environment, name)
        call = "" if isinstance(member, property) else signature(getattr(Environment, name))
        assert f"`{name}{call}`" in text, f"{name}{call}"


def test_the_methods_of_a_handle_are_named() -> None:
    text = without_spaces(PAGE["SimulatedExecution"])
    for name in methods(SimulatedExecution):
        member = inspect.getattr_static(SimulatedExecution, name)
        own = name in vars(SimulatedExecution) and not isinstance(member, property)
        assert f"`{name}{signature(member) if own else ''}`" in text, name
    assert set(methods(BlockingExecution)) <= set(methods(SimulatedExecution))


def test_every_field_of_a_call_is_described() -> None:
    described = [code(part) for row in table(PAGE["ActivityCall"]) for part in row[0].split(", ")]
    assert sorted(described) == sorted(field.name for field in fields(ActivityCall))


def test_every_part_of_an_outcome_is_described() -> None:
    text = without_spaces(PAGE["Outcome"])
    assert [code(row[0]) for row in table(PAGE["Outcome"])] == [field.name for field in fields(Outcome)]
    for name in methods(Outcome):
        member = inspect.getattr_static(Outcome, name)
        assert f"`{name}{'' if isinstance(member, property) else signature(member)}`" in text, name
    for field in fields(Effect):
        assert f"`{field.name}`" in PAGE["Effect"], field.name
