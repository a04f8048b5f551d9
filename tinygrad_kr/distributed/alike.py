"""What ranks must have alike for one step to be the same on each: values, options and state.

Averaged gradients keep parameters alike only where they were alike before, and are moved alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_kr.optim.optimizer import Optimizer

_PLAIN = (type(None), bool, int, float, str)


def options_of(optimizer: Optimizer | None) -> str:
    """The options of each group, in lines: a learning rate, say."""
    lines = [
        f"group {i}, {name}: {_plain(group[name])!r}"
        for i, group in enumerate(() if optimizer is None else optimizer.param_groups)
        for name in optimizer.defaults  # type: ignore[union-attr]
        if name in group and _is_plain(_plain(group[name]))
    ]
    return "\n".join(lines)


def values_of(optimizer: Optimizer | None, name_of: Callable[[Any], str]) -> str:
    """Digests of the parameters and of the optimizer's state, in lines."""
    return "\n".join([] if optimizer is None else _value_lines(optimizer, name_of))


def _value_lines(optimizer: Optimizer, name_of: Callable[[Any], str]) -> Iterator[str]:
    state = optimizer.state
    for i, p in enumerate(optimizer._parameters()):
        yield f"parameter {i}, {name_of(p)}: {_shown(p._data)}"
        for key, value in state.get(p, {}).items():
            yield f"state {i}, {key} of {name_of(p)}: {_shown(value)}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    value = getattr(value, "_data", value)
    return value.item() if isinstance(value, np.generic | np.ndarray) and not value.shape else value


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, _PLAIN)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if not isinstance(value, np.ndarray):
        return repr(_plain(value)) if _is_plain(_plain(value)) else type(value).__name__
    held = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return f"values with the digest {hashlib.blake2b(held.data, digest_size=4).hexdigest()}"
