"""Options that a command and a flow share, declared once as the fields of a dataclass.

    @dataclass(frozen=True, kw_only=True)
    class Options:
        shard_clips: Annotated[int, Ge(1), typer.Option(help="Clips in a shard.")] = 256

Typer shows and parses them, pydantic validates them where a flow gets them as JSON. They are no pydantic models because
`cpfd --help` looks at all of them, and would take twice as long with pydantic imported.
"""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, fields
from functools import wraps
from typing import Annotated, Any, TypeVar, get_args

from annotated_types import Ge, Le
from typer.models import ParameterInfo

Result = TypeVar("Result")


def with_options_of(model: type[Any]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate a function whose first parameter is a `model`: it takes the options of `model` by name instead.

    Options are the fields of the dataclass that have Typer's metadata. Typer and Prefect read them off the signature,
    in which they stand before the other parameters, those without a default first.
    """
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=annotation)
        for field in fields(model)
        if (annotation := _with_limits(field.type)) is not None
    ]

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        _, *others = inspect.signature(function).parameters.values()

        @wraps(function)
        def with_options(**given: Any) -> Result:
            chosen = {option.name: given.pop(option.name) for option in options if option.name in given}
            return function(model(**chosen), **given)

        others = [other.replace(kind=inspect.Parameter.KEYWORD_ONLY) for other in others]
        parameters = sorted([*options, *others], key=lambda parameter: parameter.default is not parameter.empty)
        signature = inspect.signature(function).replace(parameters=parameters)
        with_options.__signature__ = signature  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def help_texts(model: type[Any]) -> dict[str, str]:
    """What each option of `model` means."""
    shown = {field.name: _shown(field.type) for field in fields(model)}
    return {name: info.help or "" for name, info in shown.items() if info is not None}


def _shown(annotation: Any) -> ParameterInfo | None:
    """How Typer shows a field; None for a field that is no option."""
    return next((each for each in get_args(annotation) if isinstance(each, ParameterInfo)), None)


def _with_limits(annotation: Any) -> Any:
    """The annotation of an option, with its limits told to Typer as well; None for a field that is no option."""
    if (info := _shown(annotation)) is None:
        return None
    info = copy(info)
    base, *metadata = get_args(annotation)
    others = [each for each in metadata if not isinstance(each, ParameterInfo)]
    for limit in others:
        if isinstance(limit, Ge):
            info.min = limit.ge  # type: ignore[assignment]
        if isinstance(limit, Le):
            info.max = limit.le  # type: ignore[assignment]
    annotated: Any = Annotated
    return annotated[base, *others, info]


def _default(field: "Field[Any]") -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default
