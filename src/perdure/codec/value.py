"""One annotated value as JSON text, and back.

The annotation decides: msgspec compiles it once into a decoder. `encode` trusts the value, because what it writes is
read back by the same annotation; `check` is for values that come from outside and reads its own text to be sure.

1. Whatever `encode` returns is JSON text without surrogates; what JSON would silently change is refused.
2. No code of the value's class runs on decoding except what its own model (pydantic, `__post_init__`) defines.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.codec import model
from perdure.codec.annotation import Traits, describe, examine, normalise
from perdure.codec.loss import ATOMS, lost_float, lost_type
from perdure.errors import InvalidValue

encode_json = msgspec.json.Encoder(enc_hook=model.write).encode


class Deferred:
    """An annotation that is looked up when it is first needed, after all modules are loaded."""

    __slots__ = ("resolve",)

    def __init__(self, resolve: Callable[[], Any]) -> None:
        self.resolve = resolve


class Value:
    """Write and read values of one annotation. `where` names the place in errors: `the result of activity charge`."""

    __slots__ = ("_annotation", "_decode", "_traits", "where")

    def __init__(self, annotation: Any, where: str) -> None:
        self.where = where
        self._annotation = annotation
        self._decode: Callable[[str], Any] | None = None
        self._traits = Traits(untyped=True, floats=True)

    @property
    def annotation(self) -> Any:
        """The resolved annotation; `Any` when there is none."""
        if isinstance(self._annotation, Deferred):
            self._annotation = self._annotation.resolve()
        self._annotation = normalise(self._annotation)
        return self._annotation

    def prepare(self) -> Callable[[str], Any]:
        """Resolve the annotation and compile it, once. Raises `InvalidValue` when its values have no JSON form."""
        if self._decode is None:
            self._traits = examine(self.annotation, self.where)
            self._decode = msgspec.json.Decoder(self.annotation, dec_hook=model.read).decode
        return self._decode

    def encode(self, obj: Any) -> str:
        """Write a value as JSON text, without validating it. Raises `InvalidValue` when JSON cannot hold it."""
        if self._decode is None:
            self.prepare()
        try:
            raw = encode_json(obj)
        except Exception as error:
            raise unwritable(self.where, obj, error) from error
        if self._traits.floats and type(obj) not in ATOMS:
            refuse_loss(self.where, obj, raw, self._traits)
        return raw.decode()

    def decode(self, text: str) -> Any:
        """Read a value back. Raises `InvalidValue` when the text does not fit the annotation."""
        try:
            return (self._decode or self.prepare())(text)
        except InvalidValue:
            raise
        except Exception as error:
            hint = "the type changed since this was recorded: give a new field a default, or migrate the old value"
            message = f"{self.where}: the recorded value is not a `{describe(self.annotation)}`: {error}"
            raise InvalidValue(message, hint=hint) from error

    def check(self, obj: Any) -> str:
        """Write a value as JSON text and validate it. Raises `InvalidValue` with what was expected and what came."""
        text = self.encode(obj)
        try:
            (self._decode or self.prepare())(text)
        except Exception as error:
            expected = describe(self.annotation)
            message = f"{self.where}: expected `{expected}`, got `{type(obj).__qualname__}`: {error}"
            raise InvalidValue(message, hint=f"pass a `{expected}`, or change the annotation") from error
        return text


def refuse_loss(where: str, obj: Any, raw: bytes, traits: Traits) -> None:
    """Raise `InvalidValue` when JSON text `raw` no longer says what `obj` said. Cheap checks come first."""
    if traits.untyped:
        loss = lost_type(obj) if _changed(obj, raw) else None
        hint = "annotate it with its type, or convert it to plain JSON first"
    else:
        loss = lost_float(obj) if b"null" in raw else None
        hint = "use None for a missing number, or a Decimal or str to keep it"
    if loss:
        raise InvalidValue(f"{where}: {loss}", hint=hint)


def unwritable(where: str, obj: Any, error: Exception) -> InvalidValue:
    """Say that a value could not be written as JSON at all, and why."""
    hint = "use a dataclass, a msgspec.Struct, a TypedDict or a pydantic model"
    if inspect.isawaitable(obj):
        hint = "it is the call, not its result: forgot `await`?"
    elif isinstance(error, RecursionError):
        hint = "the value contains itself or is nested too deeply: pass ids instead of objects"
    elif isinstance(error, UnicodeEncodeError):
        hint = "the text has lone surrogates: decode its bytes as UTF-8, or pass the bytes"
    elif isinstance(obj, str | int | float | bytes):
        hint = f"a subclass would not survive: pass a plain `{_plain(obj)}`, or use an enum.StrEnum or enum.IntEnum"
    return InvalidValue(f"{where}: this `{type(obj).__qualname__}` cannot be written as JSON: {error}", hint=hint)


def _changed(obj: Any, raw: bytes) -> bool:
    """Tell whether plain JSON reads back as something else; in doubt, yes."""
    try:
        return bool(msgspec.json.decode(raw) != obj)
    except Exception:
        return True


def _plain(obj: Any) -> str:
    return next(cls.__name__ for cls in (str, int, float, bytes) if isinstance(obj, cls))
