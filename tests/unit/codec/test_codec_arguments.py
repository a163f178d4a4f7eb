from __future__ import annotations

import datetime as dt
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypedDict, Unpack

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import Arguments
from perdure.errors import InvalidValue


def call(arguments: Arguments, /, *args: Any, **kwargs: Any) -> Any:
    """Send arguments through JSON and call the function with what comes back."""
    again_args, again_kwargs = arguments.call_args(arguments.check(args, kwargs))
    return arguments.fn(*again_args, **again_kwargs)


def simple(a: int, b: str = "b") -> tuple[int, str]:
    return a, b


def keyword_only(a: int, *, b: dt.date, c: int = 3) -> tuple[Any, ...]:
    return a, b, c


def positional_only(a: int, b: int = 2, /, c: int = 3) -> tuple[Any, ...]:
    return a, b, c


def everything(a: int, /, b: int = 2, *args: dt.date, c: int, d: str = "d", **rest: float) -> tuple[Any, ...]:
    return a, b, args, c, d, rest


def odd_names(self: int, cls: int, _x: int, __y: int = 4, __init__: int = 5, fn: int = 6) -> tuple[int, ...]:
    return self, cls, _x, __y, __init__, fn


def nothing() -> None: ...


DAY = dt.date(2024, 1, 1)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (nothing, (), {}),
        (simple, (1,), {}),
        (simple, (1, "x"), {}),
        (simple, (), {"b": "x", "a": 1}),
        (keyword_only, (1,), {"b": DAY}),
        (keyword_only, (), {"a": 1, "b": DAY, "c": 4}),
        (positional_only, (1,), {}),
        (positional_only, (1, 5), {"c": 6}),
        (everything, (1,), {"c": 3}),
        (everything, (1, 2, DAY, DAY), {"c": 3, "d": "x", "a": 1.5, "args": 2.5, "rest": 3.5}),
        (odd_names, (1, 2, 3), {}),
        (odd_names, (), {"self": 1, "cls": 2, "_x": 3, "__y": 7, "__init__": 8}),
    ],
)
def test_a_call_through_json_is_the_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert call(Arguments(fn, "f"), *args, **kwargs) == fn(*args, **kwargs)


@given(st.integers(), st.lists(st.dates()), st.integers(), st.dictionaries(st.text(min_size=1), st.floats(-1e9, 1e9)))
def test_any_values_bind_and_come_back(a: int, days: list[dt.date], c: int, rest: dict[str, float]) -> None:
    rest = {key: value for key, value in rest.items() if key not in ("a", "b", "c", "d")}
    assert call(Arguments(everything, "f"), a, 2, *days, c=c, **rest) == (a, 2, tuple(days), c, "d", rest)


def test_the_record_is_an_object_by_parameter_name() -> None:
    assert Arguments(simple, "f").encode((1,), {}) == '{"a":1,"b":"b"}'
    assert msgspec.json.decode(Arguments(odd_names, "f").encode((1, 2, 3), {})).keys() == {
        *inspect.signature(odd_names).parameters
    }


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "message"),
    [
        (simple, (), {}, r"simple\(\) missing a required argument: 'a'"),
        (simple, (1, "b", 3), {}, r"simple\(\) too many positional arguments"),
        (simple, (1,), {"z": 1}, r"simple\(\) got an unexpected keyword argument 'z'"),
        (simple, (1,), {"a": 1}, r"simple\(\) multiple values for argument 'a'"),
        (positional_only, (), {"a": 1}, r"positional_only\(\) .*'a'"),
        (keyword_only, (1, DAY), {}, r"keyword_only\(\) "),
        (nothing, (1,), {}, r"nothing\(\) too many positional arguments"),
    ],
)
def test_arguments_that_do_not_bind_read_like_a_type_error(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        Arguments(fn, "f").encode(args, kwargs)
    assert isinstance(caught.value, TypeError)
    assert f"{fn.__name__}(" in caught.value.hint


def test_check_names_the_parameter_and_the_path_in_it() -> None:
    def ship(days: list[dt.date], n: int = 1) -> None: ...

    arguments = Arguments(ship, "activity ship")
    with pytest.raises(InvalidValue, match=r"activity ship: parameter `days`: Invalid RFC3339 .* at `\$\[1\]`"):
        arguments.check(([DAY, "x"],), {})
    with pytest.raises(InvalidValue, match="activity ship: parameter `n`: Expected `int`, got `str`"):
        arguments.check(([],), {"n": "x"})


@pytest.mark.parametrize("value", [math.nan, {1: 2}, dt.date(2024, 1, 1), object()])
def test_an_unannotated_parameter_refuses_what_json_changes(value: object) -> None:
    def f(ok: int, x, y=None) -> None: ...  # type: ignore[no-untyped-def]  # the point of the test

    arguments = Arguments(f, "f")
    assert arguments.unannotated == ["x", "y"]
    assert call(arguments, 1, [2], None) is None
    with pytest.raises(InvalidValue, match="parameter `x` of f"):
        arguments.encode((1, value), {})


def test_a_typed_parameter_refuses_a_float_that_json_turns_into_null() -> None:
    def f(x: float | None, y: int = 1) -> None: ...

    with pytest.raises(InvalidValue, match="parameter `x` of f: the float nan"):
        Arguments(f, "f").encode((math.nan,), {})


def test_an_argument_that_cannot_be_written_is_named() -> None:
    with pytest.raises(InvalidValue, match="parameter `b` of f"):
        Arguments(simple, "f").encode((1, object()), {})


def test_a_parameter_added_later_takes_its_default() -> None:
    assert Arguments(simple, "f").call_args('{"a":1}') == ((1, "b"), {})


def test_defaults_are_the_same_objects_as_in_a_plain_call() -> None:
    shared = [1]

    def f(a: list[int] = shared, b: dt.date = DAY) -> None: ...

    (a, b), _ = Arguments(f, "f").call_args("{}")
    assert a is shared
    assert b is DAY


def test_a_default_of_none_makes_a_parameter_optional() -> None:
    def f(a: int = None) -> int: ...  # type: ignore[assignment]  # noqa: RUF013  # people write this

    assert Arguments(f, "f").call_args(Arguments(f, "f").check((), {})) == ((None,), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":1,"old":2}', "unknown parameter `old`"),
        ("{}", "lacks the parameter `a`"),
        ('{"a":"x"}', "parameter `a`: Expected `int`"),
        ("[1]", "does not fit"),
        ("{", "does not fit"),
    ],
)
def test_a_record_that_does_not_fit_the_code_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        Arguments(simple, "workflow simple").call_args(text)
    assert "default" in caught.value.hint


def test_decode_names_its_parts() -> None:
    bound = Arguments(keyword_only, "f").decode('{"a":1,"b":"2024-01-01"}')
    assert bound.args == (1,)
    assert bound.kwargs == {"b": DAY, "c": 3}


def test_skip_first_leaves_the_injected_parameter_out() -> None:
    class Connection: ...

    def transfer(tx: Connection, amount: int) -> int:
        return amount

    arguments = Arguments(transfer, "f", skip_first=True)
    arguments.prepare()
    assert arguments.encode((3,), {}) == '{"amount":3}'
    assert arguments.call_args('{"amount":3}') == ((3,), {})
    with pytest.raises(InvalidValue, match="first parameter"):
        Arguments(nothing, "f", skip_first=True).prepare()


def test_annotations_may_refer_to_what_is_defined_later() -> None:
    arguments = Arguments(uses_later, "f")
    assert call(arguments, Later(3)) == 3
    assert arguments.result.annotation is int


def uses_later(later: Later) -> int:
    return later.n


@dataclass
class Later:
    n: int


def test_annotations_of_an_enclosing_function_are_found_when_the_body_uses_them() -> None:
    @dataclass
    class Local:
        n: int

    def f(local: Local) -> Local:
        return Local(local.n + 1)

    assert call(Arguments(f, "f"), Local(1)) == Local(2)


def test_an_annotation_that_cannot_be_resolved_is_refused() -> None:
    def f(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # the point of the test

    arguments = Arguments(f, "activity f")
    with pytest.raises(InvalidValue, match=r"activity f: .*'Missing'") as caught:
        arguments.prepare()
    assert "TYPE_CHECKING" in caught.value.hint


def test_a_type_without_a_json_form_is_named_with_its_parameter() -> None:
    def f(x: int, lock: type) -> None: ...

    def g() -> Callable[[], int]: ...

    with pytest.raises(InvalidValue, match="parameter `lock` of f: `type` has no JSON form"):
        Arguments(f, "f").prepare()
    with pytest.raises(InvalidValue, match="the result of g"):
        Arguments(g, "g").prepare()


def test_wrapped_functions_keep_their_signature() -> None:
    @wraps(simple)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return simple(*args, **kwargs)

    assert Arguments(wrapper, "f").encode((1,), {}) == '{"a":1,"b":"b"}'


class Options(TypedDict, total=False):
    colour: str
    size: int


def test_keyword_arguments_may_be_a_typed_dict() -> None:
    def f(**options: Unpack[Options]) -> Options:
        return options

    arguments = Arguments(f, "f")
    assert call(arguments, size=3) == {"size": 3}
    with pytest.raises(InvalidValue, match="parameter `options`"):
        arguments.check((), {"size": "x"})


@dataclass
class Parcel:
    id: int
    note: str = ""


class Basket(pydantic.BaseModel):
    skus: set[str]
    n: float = 1


def send(
    parcel: Parcel, tags: set[str], basket: Basket | None = None, extra: Any = None, fast: bool = False
) -> None: ...


@pytest.mark.parametrize(
    ("recorded", "new", "same"),
    [
        ('{"parcel":{"id":1},"tags":[]}', '{"parcel":{"id":1},"tags":[]}', True),
        ('{"tags":[],"parcel":{"id":1}}', '{"parcel":{"id":1},"tags":[]}', True),
        ('{"parcel":{"id":1},"tags":[]}', '{"parcel":{"id":1},"tags":[],"fast":false}', True),
        ('{"parcel":{"id":1},"tags":[]}', '{"parcel":{"id":1},"tags":[],"fast":true}', False),
        ('{"parcel":{"id":1},"tags":[]}', '{"parcel":{"id":1,"note":""},"tags":[]}', True),
        ('{"parcel":{"id":1},"tags":[]}', '{"parcel":{"id":1,"note":"x"},"tags":[]}', False),
        ('{"parcel":{"id":1},"tags":["a","b"]}', '{"parcel":{"id":1},"tags":["b","a"]}', True),
        ('{"parcel":{"id":1},"tags":["a","b"]}', '{"parcel":{"id":1},"tags":["b"]}', False),
        (
            '{"parcel":{"id":1},"tags":[],"basket":{"skus":["a","b"]}}',
            '{"parcel":{"id":1},"tags":[],"basket":{"skus":["b","a"],"n":1.0}}',
            True,
        ),
        (
            '{"parcel":{"id":1},"tags":[],"basket":{"skus":["a"],"n":2}}',
            '{"parcel":{"id":1},"tags":[],"basket":{"skus":["a"]}}',
            False,
        ),
        ('{"parcel":{"id":1},"tags":[],"extra":1}', '{"parcel":{"id":1},"tags":[],"extra":true}', False),
        ('{"parcel":{"id":1},"tags":[],"extra":[1,2]}', '{"parcel":{"id":1},"tags":[],"extra":[2,1]}', False),
        ('{"parcel":{"id":1},"tags":[],"gone":1}', '{"parcel":{"id":1},"tags":[]}', False),
        ('{"parcel":{"id":1}}', '{"parcel":{"id":1},"tags":[]}', False),
        ("broken", '{"parcel":{"id":1},"tags":[]}', False),
    ],
)
def test_inputs_are_the_same_when_the_code_cannot_tell_them_apart(recorded: str, new: str, same: bool) -> None:
    assert Arguments(send, "f").same(recorded, new) is same


def test_an_int_default_of_a_float_parameter_is_the_float() -> None:
    def f(x: float = 1, on: Any = None) -> None: ...

    assert Arguments(f, "f").same("{}", Arguments(f, "f").encode((), {}))
    assert not Arguments(f, "f").same('{"on":1}', '{"on":true}')
