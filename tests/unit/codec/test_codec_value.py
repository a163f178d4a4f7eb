from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import Value
from perdure.errors import InvalidValue

T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Point(NamedTuple):
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Total(pydantic.BaseModel):
    amount: decimal.Decimal
    at: dt.datetime
    tags: set[str] = set()
    ratio: float = 1.0


class Aliased(pydantic.BaseModel):
    number: int = pydantic.Field(alias="theNumber")
    read: int = pydantic.Field(validation_alias="in")
    written: int = pydantic.Field(serialization_alias="out", default=0)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    on: dt.date
    pair: tuple[int, int]


@pydantic.dataclasses.dataclass
class Checked:
    n: Annotated[int, pydantic.Field(gt=0)]


@dataclass
class Item:
    sku: str
    price: decimal.Decimal
    total: Total | None = None


@dataclass(frozen=True, slots=True)
class Order:
    id: uuid.UUID
    items: list[Item]
    colours: set[Colour] = field(default_factory=set)


@dataclass
class Box(Generic[T]):
    content: T


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Card(msgspec.Struct, tag=True):
    number: str


class Cash(msgspec.Struct, tag=True):
    coins: int


class Plain:
    def __init__(self) -> None:
        self.x = 1


@dataclass
class HoldsPlain:
    parts: list[Plain]


@dataclass
class Reading:
    value: float | None


class Text(str):
    pass


TOTAL = Total(amount=decimal.Decimal("1.10"), at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC), tags={"a", "b"})
ORDER = Order(uuid.UUID(int=7), [Item("a", decimal.Decimal("2.50"), TOTAL)], {Colour.RED, Colour.BLUE})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 2**70),
        (int, -(2**64) - 1),
        (Any, 2**70),
        (float, 0.1),
        (bytes, b"\x00\xff"),
        (Order, ORDER),
        (list[Order], [ORDER]),
        (dict[str, Total], {"a": TOTAL}),
        (Total, TOTAL),
        (Total | None, None),
        (list[Total | None], [TOTAL, None]),
        (Aliased, Aliased.model_validate({"theNumber": 1, "in": 2, "written": 3})),
        (Strict, Strict(on=dt.date(2024, 2, 29), pair=(1, 2))),
        (Checked, Checked(n=3)),
        (Box[int], Box(3)),
        (Box[Total], Box(TOTAL)),
        (Tree, Tree("a", [Tree("b")])),
        (Card | Cash, Cash(3)),
        (Point, Point(1)),
        (Movie, {"title": "x"}),
        (Colour, Colour.RED),
        (Level, Level.LOW),
        (Rights, Rights.READ | Rights.WRITE),
        (Literal["a", 1], 1),
        (UserId, UserId(4)),
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2)),
        (frozenset[int], frozenset({1, 2})),
        (dict[int, str], {1: "a"}),
        (dict[uuid.UUID, int], {uuid.UUID(int=1): 1}),
        (dict[dt.date, int], {dt.date(2024, 1, 1): 1}),
        (dict[Colour, int], {Colour.RED: 1}),
        (int | str | None, "x"),
        (decimal.Decimal, decimal.Decimal("1E+5")),
        (dt.timedelta, dt.timedelta(days=-3, microseconds=1)),
        (dt.time, dt.time(1, 2, 3, 4)),
        (None, None),
        (Any, {"a": [1, 2.5, None, True, "x"]}),
    ],
)
def test_a_value_comes_back_as_it_was(annotation: Any, value: Any) -> None:
    codec = Value(annotation, "the result")
    codec.prepare()
    again = codec.decode(codec.check(value))
    assert again == value
    assert type(again) is type(value)


def test_naive_and_aware_datetimes_stay_what_they_are() -> None:
    codec = Value(dt.datetime, "the result")
    naive = dt.datetime(2024, 5, 5, 1, 2, 3, 4)
    aware = naive.replace(tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert codec.decode(codec.encode(naive)).tzinfo is None
    assert codec.decode(codec.encode(aware)).utcoffset() == dt.timedelta(hours=2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_plain_json_comes_back_without_an_annotation(value: Any) -> None:
    codec = Value(Any, "the result")
    assert codec.decode(codec.encode(value)) == value


@given(
    st.builds(
        Order,
        st.uuids(),
        st.lists(st.builds(Item, st.text(), st.decimals(allow_nan=False, allow_infinity=False), st.none()), max_size=3),
        st.sets(st.sampled_from(Colour)),
    )
)
def test_a_dataclass_comes_back(order: Order) -> None:
    codec = Value(Order, "the result")
    assert codec.decode(codec.encode(order)) == order


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, -math.inf], {"a": {"b": math.nan}}, [None, (math.nan,)]])
def test_untyped_values_refuse_floats_that_json_turns_into_null(value: Any) -> None:
    with pytest.raises(InvalidValue, match="would come back as None"):
        Value(Any, "the result").encode(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, math.nan),
        (float | None, math.inf),
        (Reading, Reading(math.nan)),
        (list[Reading], [Reading(None), Reading(math.nan)]),
        (dict[str, Reading], {"a": Reading(math.nan)}),
        (Box[float | None], Box(math.inf)),
        (Total, TOTAL.model_copy(update={"ratio": math.inf})),
        (Item, Item("a", decimal.Decimal(1), TOTAL.model_copy(update={"ratio": math.nan}))),
    ],
)
def test_typed_values_refuse_floats_that_json_turns_into_null(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidValue, match="would come back as None"):
        Value(annotation, "the result").encode(value)


def test_the_message_says_where_the_lost_float_is() -> None:
    with pytest.raises(InvalidValue, match=r"the result of f: the float nan .* at `\$\.a\[1\]\.value`"):
        Value(dict[str, list[Reading]], "the result of f").encode({"a": [Reading(None), Reading(math.nan)]})


@pytest.mark.parametrize("value", [{1: "a"}, [{None: 1}], {"a": {1.5: 2}}])
def test_untyped_values_refuse_keys_that_json_turns_into_text(value: Any) -> None:
    with pytest.raises(InvalidValue):
        Value(Any, "the result").encode(value)


@pytest.mark.parametrize("value", [ORDER, TOTAL, {1, 2}, b"x", dt.date(2024, 1, 1), Point(1), [uuid.UUID(int=1)]])
def test_untyped_values_refuse_objects_that_would_come_back_as_plain_json(value: Any) -> None:
    with pytest.raises(InvalidValue, match="would come back as plain JSON") as caught:
        Value(Any, "the result").encode(value)
    assert "annotate" in caught.value.hint


@pytest.mark.parametrize("annotation", [Any, dict, dict[str, Any], list, list[Any], object])
def test_annotations_that_say_no_more_than_json_are_untyped(annotation: Any) -> None:
    value = [{1: 2}] if annotation in (list, list[Any]) else {"a": {1: 2}}
    with pytest.raises(InvalidValue, match="would come back as a str"):
        Value(annotation, "the result").encode(value)


def test_an_untyped_tuple_comes_back_as_a_list() -> None:
    codec = Value(Any, "the result")
    assert codec.decode(codec.encode((1, (2, 3)))) == [1, [2, 3]]


@pytest.mark.parametrize("value", [Text("x"), Plain(), 1j, "\ud800", {"k": "\ud800"}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="the result of f") as caught:
        Value(Any, "the result of f").encode(value)
    assert caught.value.hint


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidValue, match="recursion"):
        Value(Any, "the result").encode(loop)


@pytest.mark.parametrize(
    "annotation",
    [
        Plain,
        Plain | None,
        list[Plain],
        HoldsPlain,
        Mixed,
        dt.datetime | str,
        Item | Reading,
        int | Plain,
        complex,
        dict[tuple[int, int], int],
        Exception,
        "Order",
    ],
)
def test_a_type_without_a_json_form_is_refused_when_prepared(annotation: Any) -> None:
    with pytest.raises(InvalidValue, match="parameter `x` of f") as caught:
        Value(annotation, "parameter `x` of f").prepare()
    assert caught.value.hint


def test_the_refusal_names_the_class_the_field_and_the_way_out() -> None:
    with pytest.raises(InvalidValue, match=r"`Plain` has no JSON form \(in `HoldsPlain.parts`\)") as caught:
        Value(HoldsPlain, "the result").prepare()
    assert "dataclass" in caught.value.hint


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "x", "the result of f: expected `int`, got `str`"),
        (Order, {"id": 1}, r"expected `Order`, got `dict`.*\$\.id"),
        (list[int], [1, "x"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (Annotated[int, msgspec.Meta(gt=3)], 1, ">= 4"),
        (Colour, "green", "Invalid enum value"),
        (list[Total], [{"amount": "x", "at": "2024-01-01"}], "Total: amount: Input should be a valid decimal"),
    ],
)
def test_check_says_what_was_expected_and_what_came(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        Value(annotation, "the result of f").check(value)
    assert caught.value.hint


def test_encode_trusts_the_value() -> None:
    assert Value(int, "the result").encode("x") == '"x"'


@pytest.mark.parametrize("text", ['"x"', "[", "", "null"])
def test_recorded_text_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="not a `int`"):
        Value(int, "the result").decode(text)


def test_attrs_classes_come_back() -> None:
    cls = attrs.make_class("Pair", {"left": attrs.field(type=int), "right": attrs.field(type=float, default=0.5)})
    codec = Value(cls, "the result")
    assert codec.decode(codec.encode(cls(1))) == cls(1)
    with pytest.raises(InvalidValue, match="would come back as None"):
        codec.encode(cls(1, math.nan))
