from __future__ import annotations

import asyncio
import importlib.util
import json
import sqlite3
import subprocess
import sys
import types
import urllib.error
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import Failure, decode_failure, encode_failure, rebuild_failure
from perdure.errors import (
    ActivityTimeout,
    ContinueAsNew,
    ExecFailed,
    ExecutionCancelled,
    InternalError,
    InvalidValue,
    PerdureError,
    RemoteError,
)


def again(exc: BaseException) -> BaseException:
    return rebuild_failure(decode_failure(encode_failure(exc)))


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


ran: list[str] = []


class CardDeclined(Exception):
    def __init__(self, order_id: uuid.UUID, reason: str = "funds") -> None:
        ran.append("init")
        super().__init__(f"{order_id} declined")
        self.order_id = order_id
        self.reason = reason

    def __setattr__(self, name: str, value: Any) -> None:
        ran.append("setattr")
        super().__setattr__(name, value)

    class Nested(Exception):
        pass


class OwnNew(Exception):
    def __new__(cls, *args: Any) -> OwnNew:
        ran.append("new")
        return super().__new__(cls, *args)


class ApiError(OSError):
    def __init__(self, code: int) -> None:
        super().__init__(code, "api")
        self.code = code


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


@dataclass
class DataError(Exception):
    code: int
    detail: str = ""


class NeedsConnection(Exception):
    def __init__(self, connection: object) -> None:
        super().__init__("lost")
        self.connection = connection

    def __str__(self) -> str:
        return f"lost {self.connection}"


class Several(ExceptionGroup[Exception]):
    pass


class Hides(Exception):
    """Hides everything behind properties that raise."""

    def _broken(self) -> Any:
        raise KeyboardInterrupt

    args = property(_broken)  # type: ignore[assignment]
    __cause__ = property(_broken)  # type: ignore[assignment]
    __notes__ = property(_broken)  # type: ignore[assignment]

    def __str__(self) -> str:
        raise SystemExit

    def __repr__(self) -> str:
        raise RecursionError


def undecodable() -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"ab\xff".decode()
    return caught.value


def unencodable() -> UnicodeEncodeError:
    with pytest.raises(UnicodeEncodeError) as caught:
        "aé".encode("ascii")
    return caught.value


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("x"),
        KeyError("x"),
        KeyError(("a", 1)),
        FileNotFoundError(2, "No such file", "a.txt"),
        OSError(28, "No space left"),
        PermissionError(13, "denied", "a", None, "b"),
        undecodable(),
        unencodable(),
        ImportError("no", name="x", path="y"),
        SyntaxError("bad", ("f.py", 1, 2, "x =", 1, 3)),
        StopIteration(3),
        TimeoutError(),
        ZeroDivisionError("division by zero"),
        CardDeclined(uuid.UUID(int=3)),
        CardDeclined.Nested(1, b"x", None),
        ApiError(7),
        Slotted(4),
        DataError(code=3),
        subprocess.CalledProcessError(3, ["ls", "-l"], b"out", b"err"),
        json.JSONDecodeError("bad", "doc", 1),
        sqlite3.OperationalError("locked"),
        ActivityTimeout("late", limit="total_timeout_s", hint="wait"),
        ExecFailed("failed", returncode=3, stderr="oops"),
        InternalError("broken"),
        RemoteError("far", type_name="a:B"),
        ExceptionGroup("several", [ValueError("a"), CardDeclined.Nested("b")]),
        Several("own", [ValueError("a")]),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_an_exception_comes_back_as_its_own_class(exc: Exception) -> None:
    rebuilt = again(raised(exc))
    assert type(rebuilt) is type(exc)
    assert str(rebuilt) == str(exc)
    if not isinstance(exc, ExceptionGroup):
        assert rebuilt.args == exc.args
        assert {k: v for k, v in vars(rebuilt).items() if k != "__notes__"} == vars(exc)


def test_members_of_c_structs_and_slots_come_back() -> None:
    missing: Any = again(FileNotFoundError(2, "No such file", "a.txt"))
    assert (missing.errno, missing.strerror, missing.filename) == (2, "No such file", "a.txt")
    api: Any = again(ApiError(7))
    assert (api.errno, api.strerror, api.code) == (7, "api", 7)
    slotted: Any = again(Slotted(4))
    assert slotted.code == 4
    unicode_error: Any = again(undecodable())
    assert (unicode_error.object, unicode_error.start) == (b"ab\xff", 2)


def test_no_code_of_the_class_runs() -> None:
    text, other = encode_failure(CardDeclined(uuid.UUID(int=1))), encode_failure(OwnNew("x"))
    ran.clear()
    assert type(rebuild_failure(decode_failure(text))) is CardDeclined
    rebuilt = rebuild_failure(decode_failure(other))
    assert ran == []
    assert isinstance(rebuilt, RemoteError)
    assert (str(rebuilt), rebuilt.type_name) == ("x", f"{__name__}:OwnNew")


def test_the_traceback_becomes_a_note_and_does_not_pile_up() -> None:
    first = again(raised(ValueError("x")))
    assert first.__notes__[-1].startswith("recorded traceback:\nTraceback")
    assert "in raised" in first.__notes__[-1]
    first.add_note("mine")
    second = again(raised(first))
    assert [note.partition("\n")[0] for note in second.__notes__] == ["mine", "recorded traceback:"]


def test_the_cause_comes_back() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as caught:
        rebuilt = again(caught)
    assert isinstance(rebuilt.__cause__, KeyError)
    assert rebuilt.__cause__.__notes__


def test_the_context_counts_as_cause_unless_suppressed() -> None:
    outer = ValueError("outer")
    outer.__context__ = KeyError("inner")
    assert isinstance(again(outer).__cause__, KeyError)
    outer.__suppress_context__ = True
    assert again(outer).__cause__ is None


def test_causes_that_form_a_cycle_end() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert again(first).__cause__.__cause__ is None  # type: ignore[union-attr]


def test_a_long_chain_of_causes_is_cut() -> None:
    exc: Exception = ValueError(0)
    for number in range(5000):
        outer = ValueError(number)
        outer.__cause__ = exc
        exc = outer
    assert len(encode_failure(exc)) < 100_000


def test_a_group_keeps_its_structure_and_subclass() -> None:
    group = again(ExceptionGroup("top", [ValueError("a"), ExceptionGroup("inner", [OSError(2, "b")])]))
    assert isinstance(group, ExceptionGroup)
    assert group.message == "top"
    assert isinstance(group.exceptions[1].exceptions[0], FileNotFoundError)  # type: ignore[union-attr]
    assert group.exceptions[0].__notes__ if group.exceptions[0].__traceback__ else True


def test_a_large_group_is_cut_and_says_so() -> None:
    group = again(ExceptionGroup("many", [ValueError(n) for n in range(10_000)]))
    assert isinstance(group, ExceptionGroup)
    assert "more exceptions" in str(group.exceptions[-1])


def test_a_group_with_an_interrupt_comes_back_as_a_group_of_errors() -> None:
    group = again(BaseExceptionGroup("mixed", [KeyboardInterrupt(), ValueError("a")]))
    assert type(group) is ExceptionGroup
    assert [type(part) for part in group.exceptions] == [RemoteError, ValueError]


def test_cancellation_comes_back_as_a_cancelled_execution() -> None:
    assert type(again(asyncio.CancelledError())) is ExecutionCancelled


def test_hints_survive_and_are_not_repeated() -> None:
    failure = decode_failure(encode_failure(PerdureError("what", hint="do this")))
    assert failure.message == "what"
    assert str(rebuild_failure(failure)) == "what\n  hint: do this"


def test_a_class_of_the_main_program_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = type("MainError", (Exception,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "MainError", cls, raising=False)
    assert type(again(cls("x"))) is cls


def test_a_class_that_cannot_be_found_becomes_a_remote_error() -> None:
    class Local(Exception):
        pass

    rebuilt = again(Local("why"))
    assert isinstance(rebuilt, RemoteError)
    assert str(rebuilt) == "why"
    assert rebuilt.type_name.endswith("<locals>.Local")


def test_a_class_whose_text_needs_what_was_lost_becomes_a_remote_error() -> None:
    failure = decode_failure(encode_failure(NeedsConnection(object())))
    assert not failure.exact
    rebuilt = rebuild_failure(failure)
    assert isinstance(rebuilt, RemoteError)
    assert str(rebuilt).startswith("lost <object")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:SystemExit",
        "builtins:KeyboardInterrupt",
        "builtins:BaseException",
        "builtins:GeneratorExit",
        "builtins:eval",
        "builtins:object",
        "builtins:type",
        "builtins:Exception.__subclasses__",
        "builtins:Exception.__class__",
        "perdure.errors:ContinueAsNew",
        "perdure.errors:annotations",
        "perdure.errors:PerdureError.hint",
        "os:path.sep",
        "os",
        "os:",
        ":",
        "",
        "no.such.module:Error",
        "__main__:__builtins__.SystemExit",
    ],
)
def test_names_of_a_hostile_file_give_a_remote_error(name: str) -> None:
    rebuilt = rebuild_failure(Failure(type=name, message="m", args=["echo hacked"]))
    assert type(rebuilt) is RemoteError
    assert rebuilt.type_name == name


@pytest.mark.parametrize("exc", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ContinueAsNew()])
def test_exceptions_that_are_not_errors_give_a_remote_error(exc: BaseException) -> None:
    assert type(again(exc)) is RemoteError


def test_no_module_is_imported_and_no_lazy_one_is_loaded() -> None:
    before = set(sys.modules)
    rebuild_failure(Failure(type="antigravity:Error"))
    spec = importlib.util.find_spec("antigravity")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = sys.modules["lazy_antigravity"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(lazy)
        rebuild_failure(Failure(type="lazy_antigravity:Error"))
        assert type(lazy) is not types.ModuleType  # it becomes one when it is loaded
    finally:
        del sys.modules["lazy_antigravity"]
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "args",
    [
        ["utf-8", {"$bytes": "YQ=="}, -(2**60), -(2**60) + 1, "x"],
        ["utf-8", {"$bytes": "YQ=="}, 2**40, 2**40 + 1, "x"],
        ["utf-8", 5, 0, 1, "x"],
        ["utf-8"],
        [],
    ],
)
def test_hostile_positions_in_a_unicode_error_are_not_followed(args: list[Any]) -> None:
    failure = Failure(type="builtins:UnicodeDecodeError", message="m", args=args, attributes={"object": 5, "start": -9})
    assert type(rebuild_failure(failure)) is RemoteError


def test_hostile_attributes_do_not_reach_special_names() -> None:
    attributes = {"__class__": "x", "__notes__": 5, "__traceback__": 1, "args": [1], "add_note": "x", "fine": 1}
    rebuilt = rebuild_failure(Failure(type="builtins:ValueError", args=["m"], attributes=attributes, traceback="t"))
    assert type(rebuilt) is ValueError
    assert rebuilt.args == ("m",)
    assert rebuilt.__notes__ == ["recorded traceback:\nt"]


def test_a_deeply_nested_hostile_failure_ends() -> None:
    failure = Failure(type="builtins:ValueError")
    for _ in range(500):
        failure = msgspec.structs.replace(failure, cause=failure)
    assert type(rebuild_failure(failure)) is ValueError
    depth = 100_000
    with pytest.raises(InvalidValue):
        decode_failure('{"type":"x","cause":' * depth + "null" + "}" * depth)


@pytest.mark.parametrize("text", ["", "null", "{}", "[", '{"type":1}'])
def test_text_that_is_not_a_failure_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="not a recorded failure"):
        decode_failure(text)


class BadMeta(type):
    def __repr__(cls) -> str:
        raise ValueError

    __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]


class BadClass(Exception, metaclass=BadMeta):
    __module__ = property(lambda self: 1 / 0)  # type: ignore[assignment]


def hostile() -> list[BaseException]:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    notes = ValueError("x")
    notes.__notes__ = [1, "\ud800", "n" * 10**6, *["x"] * 1000]
    odd_notes = ValueError("x")
    odd_notes.__notes__ = 5  # type: ignore[assignment]
    attributes = ValueError("x")
    attributes.__dict__.update({"\ud800": 1, "big": "x" * 10**6, "loop": loop, "f": print, "many": [0] * 10**6})
    return [
        Hides("x"),
        BadClass("x"),
        ValueError("m" * 10**7),
        ValueError("\ud800" * 100),
        ValueError(loop, deep, object(), 10**5000, float("nan"), {1: 2}, {"$bytes": "x"}),
        ValueError(*range(10_000)),
        ValueError(b"x" * 10**7, "y" * 10**7),
        notes,
        odd_notes,
        attributes,
        urllib.error.HTTPError("http://x", 500, "broken", None, None),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("exc", hostile(), ids=lambda exc: "hostile")
def test_recording_never_raises_and_stays_small(exc: BaseException) -> None:
    text = encode_failure(raised(exc))
    assert len(text.encode()) < 1_000_000
    assert isinstance(rebuild_failure(decode_failure(text)), Exception)


def test_infinite_recursion_is_recorded() -> None:
    def forever() -> None:
        forever()

    with pytest.raises(RecursionError) as caught:
        forever()
    rebuilt = again(caught.value)
    assert isinstance(rebuilt, RecursionError)
    assert len(rebuilt.__notes__[0]) < 20_000


def test_a_long_traceback_keeps_head_and_tail() -> None:
    failure = decode_failure(encode_failure(raised(ValueError("m" * 50_000 + "end"))))
    assert failure.traceback.startswith("Traceback")
    assert failure.traceback.endswith("end\n")
    assert len(failure.traceback) < 17_000


def test_inexact_arguments_are_kept_as_text_and_flagged() -> None:
    failure = decode_failure(encode_failure(ValueError("x", 1j, "a\ud800")))
    assert failure.args == ["x", "1j", "a\\ud800"]
    assert not failure.exact
    assert decode_failure(encode_failure(ValueError("x", (1, b"y")))).exact


LITERALS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.dates()
    | st.timedeltas(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(LITERALS))
def test_plain_arguments_come_back_exactly_or_are_flagged(args: list[Any]) -> None:
    failure = decode_failure(encode_failure(ValueError(*args)))
    rebuilt = rebuild_failure(failure)
    assert len(rebuilt.args) == len(args)
    assert not failure.exact or rebuilt.args == tuple(args)
