"""Templates, and what all of them can call."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from cpfd.pages.formatting import decimal, duration, plain, share, signed, span
from cpfd.pages.names import accuracy_name, model_name, rule_name


def templates(
    package: str, functions: Mapping[str, Callable[..., Any]] | None = None, *, html: bool = True
) -> Environment:
    """The templates of a package, beside the frame of all pages; values are escaped where they are `html`.

    As filters and as functions they have those of cpfd.pages.formatting and cpfd.pages.names, `data_uri`, and
    `functions`.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("cpfd.pages", ".")]),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = (decimal, duration, plain, share, signed, span, accuracy_name, model_name, rule_name, data_uri)
    callables = {each.__name__: each for each in shared} | dict(functions or {})
    environment.filters |= callables
    environment.globals |= callables
    return environment


def data_uri(image: bytes, kind: str = "png") -> str:
    """The content of an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
