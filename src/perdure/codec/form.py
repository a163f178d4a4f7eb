"""A function's signature, compiled into a msgspec Struct with one field per parameter.

The fields stand in this order: positional parameters, `*args` as one tuple, `**kwargs` as one dict, then keyword-only
parameters (which msgspec puts last).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from types import GenericAlias, SimpleNamespace
from typing import Any, NamedTuple, Unpack, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple

from perdure.codec import model
from perdure.codec.annotation import Traits, examine, normalise
from perdure.codec.loss import ATOMS
from perdure.errors import InvalidValue

_VARIADIC = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


class Form(NamedTuple):
    """A compiled signature."""

    struct: type[msgspec.Struct]
    decode: Callable[[str], Any]
    signature: inspect.Signature
    names: Mapping[str, str]
    """Field name to parameter name."""
    traits: Mapping[str, Traits]
    """By field name, only of the parameters that could lose something in JSON."""
    direct: bool
    """The Struct's own constructor binds positional arguments as a call does."""
    direct_keywords: bool
    """And keyword arguments too."""
    plain: bool
    """All fields are positional arguments."""


def signature_of(fn: Callable[..., Any], where: str, skip_first: bool) -> inspect.Signature:
    """Return the signature, without its first parameter if the engine injects that one."""
    signature = inspect.signature(fn)
    if not skip_first:
        return signature
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
        raise InvalidValue(f"{where} takes no first parameter", hint="add the parameter that is passed to it first")
    return signature.replace(parameters=parameters[1:])


def resolve_hints(fn: Callable[..., Any], where: str, names: Collection[str]) -> dict[str, Any]:
    """Resolve the annotations of these parameters (or `return`); the others need not resolve.

    Names of an enclosing function are found when the body uses them too. Raises `InvalidValue` when one is not found.
    """
    inner = inspect.unwrap(fn)
    try:
        wanted = SimpleNamespace(
            __annotations__={name: hint for name, hint in fn.__annotations__.items() if name in names},
            __type_params__=getattr(inner, "__type_params__", ()),
        )
        globals_ = getattr(inner, "__globals__", {})
        return get_type_hints(wanted, globals_, {**globals_, **_enclosing(inner)}, include_extras=True)
    except Exception as error:
        hint = "define the type at module level, and import it outside `if TYPE_CHECKING:`"
        raise InvalidValue(f"{where}: an annotation cannot be resolved: {error}", hint=hint) from error


def compile_form(fn: Callable[..., Any], where: str, skip_first: bool) -> Form:
    """Compile a signature. Raises `InvalidValue` for a type without a JSON form."""
    signature = signature_of(fn, where, skip_first)
    hints = resolve_hints(fn, where, signature.parameters)
    parameters = {_field_name(p, i): p for i, p in enumerate(signature.parameters.values())}
    names = {field: parameter.name for field, parameter in parameters.items()}
    types = {field: _field_type(parameter, hints) for field, parameter in parameters.items()}
    traits = {field: examine(types[field], f"parameter `{names[field]}` of {where}") for field in types}
    struct = _make_struct(getattr(fn, "__name__", "arguments"), parameters, types)
    kinds = {parameter.kind for parameter in parameters.values()}
    return Form(
        struct=struct,
        decode=msgspec.json.Decoder(struct, dec_hook=model.read).decode,
        signature=signature,
        names=names,
        traits={field: found for field, found in traits.items() if found.untyped or found.floats},
        direct=not kinds & _VARIADIC,
        direct_keywords=Parameter.POSITIONAL_ONLY not in kinds and all(field == names[field] for field in names),
        plain=not kinds & {*_VARIADIC, Parameter.KEYWORD_ONLY},
    )


def spread(form: Form, bound: msgspec.Struct) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Sort the field values into positional and keyword arguments."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for field, value in zip(form.struct.__struct_fields__, astuple(bound), strict=True):
        parameter = form.signature.parameters[form.names[field]]
        if parameter.kind is Parameter.VAR_POSITIONAL:
            args.extend(value)
        elif parameter.kind is Parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif parameter.kind is Parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def _enclosing(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return the variables of enclosing functions that `fn` uses."""
    found = {}
    names = getattr(getattr(fn, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(fn, "__closure__", None) or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _make_struct(name: str, parameters: Mapping[str, Parameter], types: Mapping[str, Any]) -> type[msgspec.Struct]:
    renamed = {field: parameter.name for field, parameter in parameters.items() if field != parameter.name}
    positional: list[Any] = []
    keyword_only: list[Any] = []
    for field, parameter in parameters.items():
        group = keyword_only if parameter.kind is Parameter.KEYWORD_ONLY else positional
        group.append((field, types[field], *_default(parameter)))
    base = msgspec.defstruct("KeywordOnly", keyword_only, kw_only=True, forbid_unknown_fields=True, rename=renamed)
    return msgspec.defstruct(name, positional, bases=(base,), forbid_unknown_fields=True, rename=renamed)


def _field_name(parameter: Parameter, position: int) -> str:
    """Return the parameter's name, or another one where it is a dunder: msgspec cannot have all of those."""
    return f"parameter{position}_" if parameter.name.startswith("__") else parameter.name


def _field_type(parameter: Parameter, hints: dict[str, Any]) -> Any:
    annotation = normalise(hints.get(parameter.name, Parameter.empty))
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return GenericAlias(tuple, (annotation, ...))
    if parameter.kind is Parameter.VAR_KEYWORD:
        return get_args(annotation)[0] if get_origin(annotation) is Unpack else GenericAlias(dict, (str, annotation))
    # `x: int = None` means Optional to everybody but the type checker
    return annotation | None if parameter.default is None and annotation not in (Any, None) else annotation


def _default(parameter: Parameter) -> tuple[Any, ...]:
    """Return the default as the end of a field definition: nothing, the value, or a factory that shares it."""
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return ((),)
    if parameter.kind is Parameter.VAR_KEYWORD:
        return (msgspec.field(default_factory=dict),)
    default = parameter.default
    if default is Parameter.empty:
        return ()
    return (default,) if type(default) in ATOMS else (msgspec.field(default_factory=lambda: default),)
