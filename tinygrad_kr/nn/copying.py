"""Copies of modules. The attribute that cannot be copied or pickled is named."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy import ndarray

from tinygrad_kr.tensor import Tensor

_PLAIN = {type(None), bool, int, float, str, bytes}
_KINDS: tuple[type[Exception], ...] = (RuntimeError, AttributeError, pickle.PicklingError)
_DONE = {"copy": "copied", "pickle": "pickled"}
_RICHER = {"cloudpickle", "dill"}
"""Picklers that take more than `pickle`, such as local functions."""


class _Checked(threading.local):
    """The modules whose attributes a thread is looking at, by id: one may hold itself."""

    def __init__(self) -> None:
        self.ids: set[int] = set()


_checked = _Checked()


def rebuilt(module: Any, copied: Callable[[Any], Any], memo: dict[int, Any]) -> Any:
    """A module of the same class and state, each attribute as `copied` gives it.

    This is what `copy` does. An attribute that `copied` refuses is named.
    """
    with _checking(module):
        reduced = module.__reduce_ex__(4)
    if isinstance(reduced, str):  # the name of a global variable
        return module
    make, args, state = (*reduced, None)[:3]
    made = memo[id(module)] = make(*map(copied, args))
    if isinstance(state, dict):
        state = {name: _named(module, name, "copy", copied, x) for name, x in state.items()}
    elif state is not None:
        state = copied(state)
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return made
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    vars(made).update(attributes or {})
    for name, value in (slots or {}).items():
        setattr(made, name, value)
    return made


def deepcopied(module: Any, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy` of a module."""
    return rebuilt(module, lambda x: copy.deepcopy(x, memo), memo)


@contextmanager
def _checking(module: Any) -> Iterator[None]:
    _checked.ids.add(id(module))
    try:
        yield
    finally:
        _checked.ids.discard(id(module))


def refuse_unpicklable(module: Any, reduced: Any, protocol: Any) -> None:
    """Raise an error that names the first attribute that `pickle` refuses.

    reduced: what `module.__reduce_ex__(protocol)` returns.

    Modules within are asked themselves. Picklers that take more decide themselves.
    """
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if id(module) in _checked.ids or not _RICHER.isdisjoint(caller.split(".")):
        return
    state = (*reduced, None)[:3][2] if isinstance(reduced, tuple) else None
    attributes = state[0] if isinstance(state, tuple) else state
    if not isinstance(attributes, dict):
        return
    with _checking(module):
        for name, value in attributes.items():
            if not _is_plain(value):
                _named(module, name, "pickle", lambda x: pickle.dumps(x, protocol), value)


def _is_plain(value: Any) -> bool:
    """Whether a value is certain to be picklable, or a module, which is asked itself."""
    if isinstance(value, Tensor):
        return value._op is None
    if isinstance(value, ndarray):
        return not value.dtype.hasobject
    return type(value) in _PLAIN or callable(getattr(value, "named_parameters", None))


def _named(module: Any, name: str, verb: str, function: Callable[[Any], Any], value: Any) -> Any:
    """`function(value)`; an error names the attribute that `value` is."""
    try:
        return function(value)
    except Exception as error:
        if hasattr(error, "attribute"):
            raise
        reason = str(error).rstrip(".")
        kind = next((kind for kind in _KINDS if isinstance(error, kind)), TypeError)
        known: Any = kind(
            f"{verb}: expected attributes that can be {_DONE[verb]}, got "
            f"{type(module).__name__}.{name}, a {type(value).__name__}: {reason}. Make it where it "
            "is used, or leave it out in __getstate__"
        )
        known.attribute = name
        raise known from error
