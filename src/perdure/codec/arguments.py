"""All arguments of a function as one JSON object, keyed by parameter name: `{"order": {...}, "n": 1}`.

The signature is compiled once into a `Form` (`form.py`), with which binding, defaults, encoding and decoding all run
at C speed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from perdure.codec.fields import canonical
from perdure.codec.form import Form, compile_form, resolve_hints, signature_of, spread
from perdure.codec.loss import ATOMS
from perdure.codec.value import Deferred, Value, encode_json, refuse_loss, unwritable
from perdure.errors import InvalidValue


class Bound(NamedTuple):
    """Arguments ready for the call: `fn(*bound.args, **bound.kwargs)`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Arguments:
    """Write and read the arguments of `fn`. `where` names the function in errors: `activity charge`.

    Annotations are resolved at first use or by `prepare`, so they may refer to what is defined later. `skip_first`
    leaves out the first parameter, which the engine injects.
    """

    __slots__ = ("_form", "fn", "result", "skip_first", "where")

    def __init__(self, fn: Callable[..., Any], where: str, skip_first: bool = False) -> None:
        self.fn = fn
        self.where = where
        self.skip_first = skip_first
        self.result = Value(Deferred(self._returns), f"the result of {where}")
        self._form: Form | None = None

    @property
    def unannotated(self) -> list[str]:
        """The names of the parameters without an annotation."""
        parameters = signature_of(self.fn, self.where, self.skip_first).parameters.values()
        return [parameter.name for parameter in parameters if parameter.annotation is inspect.Parameter.empty]

    def prepare(self) -> None:
        """Compile the signature and the result's annotation. Raises `InvalidValue` for a type without a JSON form."""
        self._compiled()
        self.result.prepare()

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Bind and write as JSON text, without validating. Raises `InvalidValue` when the arguments do not bind."""
        form = self._form or self._compiled()
        if form.direct and (not kwargs or form.direct_keywords):
            try:
                bound = form.struct(*args, **kwargs)
            except TypeError:
                bound = self._bind(form, args, kwargs)
        else:
            bound = self._bind(form, args, kwargs)
        try:
            raw = encode_json(bound)
        except Exception:
            raise self._unwritable(form, bound) from None
        if form.traits:
            self._refuse_loss(form, bound, raw)
        return raw.decode()

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Bind, write as JSON text and validate. Raises `InvalidValue` with what was expected and what came."""
        text = self.encode(args, kwargs)
        try:
            (self._form or self._compiled()).decode(text)
        except Exception as error:
            hint = f"it is defined as {self._definition()}"
            raise InvalidValue(f"{self.where}: {_at_parameter(error)}", hint=hint) from error
        return text

    def call_args(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read recorded arguments, for `fn(*args, **kwargs)`. Parameters added since then take their defaults.

        Raises `InvalidValue` when the record does not fit today's signature.
        """
        form = self._form or self._compiled()
        try:
            bound = form.decode(text)
        except Exception as error:
            message = f"{self.where}: the recorded input does not fit {self._definition()}: {_at_parameter(error)}"
            hint = "give a new parameter a default, keep a removed one, or run the version that recorded it"
            raise InvalidValue(message, hint=hint) from error
        return (astuple(bound), {}) if form.plain else spread(form, bound)

    def decode(self, text: str) -> Bound:
        """Read recorded arguments as a `Bound`; `call_args` without the name."""
        return Bound(*self.call_args(text))

    def same(self, recorded: str, new: str) -> bool:
        """Tell whether today's code could not tell the two recorded inputs apart.

        The order of keys and of sets does not count, nor does a parameter or field with a default that one of them
        lacks, nor a field (of a nested type) that the code no longer reads. An unknown parameter does count.
        """
        if recorded == new:
            return True
        form = self._form or self._compiled()
        try:
            return canonical(form.decode(recorded)) == canonical(form.decode(new))
        except Exception:
            return False

    def _bind(self, form: Form, args: tuple[Any, ...], kwargs: dict[str, Any]) -> msgspec.Struct:
        """Bind the way a call does, for signatures that the Struct cannot bind and for the message when it fails."""
        try:
            bound = form.signature.bind(*args, **kwargs)
        except TypeError as error:
            name = getattr(self.fn, "__qualname__", self.where)
            raise InvalidValue(f"{name}() {error}", hint=f"it is defined as {self._definition()}") from None
        bound.apply_defaults()
        fields = {name: field for field, name in form.names.items()}
        return form.struct(**{fields[name]: value for name, value in bound.arguments.items()})

    def _refuse_loss(self, form: Form, bound: msgspec.Struct, raw: bytes) -> None:
        for field, traits in form.traits.items():
            value = getattr(bound, field)
            if type(value) not in ATOMS:
                text = encode_json(value) if traits.untyped else raw
                refuse_loss(f"parameter `{form.names[field]}` of {self.where}", value, text, traits)

    def _unwritable(self, form: Form, bound: msgspec.Struct) -> InvalidValue:
        """Find the argument that could not be written."""
        for field, name in form.names.items():
            value = getattr(bound, field)
            try:
                encode_json(value)
            except Exception as error:
                return unwritable(f"parameter `{name}` of {self.where}", value, error)
        return InvalidValue(f"{self.where}: the arguments cannot be written as JSON together")

    def _definition(self) -> str:
        return f"{getattr(self.fn, '__name__', self.where)}{signature_of(self.fn, self.where, self.skip_first)}"

    def _returns(self) -> Any:
        return resolve_hints(self.fn, self.where, ("return",)).get("return", Any)

    def _compiled(self) -> Form:
        if self._form is None:
            self._form = compile_form(self.fn, self.where, self.skip_first)
        return self._form


def _at_parameter(error: Exception) -> str:
    """Turn msgspec's words into ours: `$.order.items[0]` is `$.items[0]` of parameter `order`."""
    message = str(error)
    if " - at " not in message:  # about the object of all parameters
        message = message.replace("Object missing required field", "it lacks the parameter")
        return message.replace("Object contains unknown field", "it has the unknown parameter")
    found = re.fullmatch(r"(.*) - at `(key in )?\$\.([^.\[`]+)([^`]*)`", message, flags=re.DOTALL)
    if found is None:
        return message
    said, key, parameter, path = found.groups()
    return f"parameter `{parameter}`: {said}" + (f" - at `{key or ''}${path}`" if path or key else "")
