"""The public names as mkdocstrings shows them: signatures and docstrings of the running package.

Many functions are made by a call, such as `op(...)`, and no reader of the source alone sees their
docstrings. So each public name is described here by `inspect`, and given to griffe.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))

import site_pages

KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


def _text(value: Any) -> str:
    """An annotation or a default as source."""
    if isinstance(value, str):
        return value
    return str(getattr(value, "__name__", value))


def _parameters(value: Any) -> Iterator[griffe.Parameter]:
    for name, parameter in inspect.signature(value).parameters.items():
        default, empty = parameter.default, inspect.Parameter.empty
        if default is empty:
            default = None
        else:
            default = repr(default) if not callable(default) else _text(default)
        annotation = None if parameter.annotation is empty else _text(parameter.annotation)
        yield griffe.Parameter(
            name, annotation=annotation, kind=KINDS[parameter.kind], default=default
        )


def _function(name: str, value: Any) -> griffe.Function:
    returns = inspect.signature(value).return_annotation
    return griffe.Function(
        name,
        parameters=griffe.Parameters(*_parameters(value)),
        returns=None if returns is inspect.Signature.empty else _text(returns),
    )


def _class(name: str, value: type) -> griffe.Class:
    made = griffe.Class(name)
    for member, inner in site_pages.members(value).items():
        if member == "__init__":
            made.set_member(member, _function(member, inner))
        elif not member.startswith("_") and (described := describe(member, getattr(value, member))):
            made.set_member(member, described)
    return made


def describe(name: str, value: Any) -> griffe.Function | griffe.Class | griffe.Attribute | None:
    """What griffe knows of a function, class or property; None for one without a docstring."""
    if not isinstance(value.__doc__, str):
        return None
    made: griffe.Function | griffe.Class | griffe.Attribute
    if isinstance(value, type):
        made = _class(name, value)
    elif callable(value):
        made = _function(name, value)
    elif isinstance(value, property):
        made = griffe.Attribute(name)
        made.labels.add("property")
    else:
        return None
    made.docstring = griffe.Docstring(site_pages.as_markdown(value.__doc__), parent=made)
    return made


class RunningPackage(griffe.Extension):
    """Puts the public names of the running package in place of what griffe read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """griffe's call when it has read a package."""
        for path in site_pages.public_modules():
            module = importlib.import_module(path)
            inner = path.partition(".")[2]
            target = pkg[inner] if inner else pkg
            for name in site_pages.public_names(path):
                described = describe(name, getattr(module, name))
                if described is not None:
                    target.set_member(name, described)
