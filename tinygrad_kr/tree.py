"""Nested tuples, lists and dicts, flattened and rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["flatten", "leaves_like", "tree_map"]

Rebuild = Callable[[Sequence[Any]], Any]
_SEQUENCES = (tuple, list)


def flatten(tree: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of a nested container, and a function that rebuilds it from other leaves.

    Tuples, lists and dicts (in their order) are containers. None is an empty one. All else is a
    leaf.

    >>> leaves, rebuild = tk.tree.flatten({"w": 1, "b": (2, 3)})
    >>> leaves, rebuild([10, 20, 30])
    ([1, 2, 3], {'w': 10, 'b': (20, 30)})
    """
    leaves: list[Any] = []
    build = _flatten(tree, leaves)
    return leaves, lambda values: build(iter(values))


def _flatten(tree: Any, leaves: list[Any]) -> Callable[[Any], Any]:
    if tree is None:
        return lambda values: None
    if isinstance(tree, dict):
        builders = {key: _flatten(value, leaves) for key, value in tree.items()}
        return lambda values: {key: build(values) for key, build in builders.items()}
    if isinstance(tree, _SEQUENCES):
        parts = [_flatten(value, leaves) for value in tree]
        if hasattr(tree, "_fields"):
            return lambda values: type(tree)(*[build(values) for build in parts])
        return lambda values: type(tree)([build(values) for build in parts])
    leaves.append(tree)
    return next


def holds(tree: Any, kind: type) -> bool:
    """Whether a leaf of a nested container is of a class."""
    if isinstance(tree, dict):
        return any(holds(part, kind) for part in tree.values())
    if isinstance(tree, _SEQUENCES):
        return any(holds(part, kind) for part in tree)
    return isinstance(tree, kind)


def leaves_like(tree: Any, other: Any, name: str = "tree") -> list[Any]:
    """The leaves of `other`, in the order of those of `tree`, whose structure it must have.

    Dicts are matched by key. A list matches a tuple. `name` stands for `other` in messages.
    Raises ValueError, with the path to it, where the structures differ.

    >>> tk.tree.leaves_like({"a": 1, "b": 2}, {"b": 20, "a": 10})
    [10, 20]
    """
    leaves: list[Any] = []
    _collect(tree, other, leaves, name, "")
    return leaves


def _collect(tree: Any, other: Any, leaves: list[Any], name: str, path: str) -> None:
    where = f" at {path}" if path else ""
    if isinstance(tree, dict):
        if not isinstance(other, dict):
            raise ValueError(f"{name}: expected dict{where}, got {type(other).__name__}.")
        if tree.keys() != other.keys():
            raise ValueError(f"{name}: expected keys {list(tree)}{where}, got {list(other)}.")
        for key, value in tree.items():
            _collect(value, other[key], leaves, name, f"{path}[{key!r}]")
    elif isinstance(tree, tuple | list):
        if not isinstance(other, tuple | list):
            raise ValueError(
                f"{name}: expected {type(tree).__name__}{where}, got {type(other).__name__}."
            )
        if len(tree) != len(other):
            raise ValueError(f"{name}: expected {len(tree)} items{where}, got {len(other)}.")
        for i, (value, match) in enumerate(zip(tree, other, strict=True)):
            _collect(value, match, leaves, name, f"{path}[{i}]")
    elif tree is None:
        if other is not None:
            raise ValueError(f"{name}: expected None{where}, got {type(other).__name__}.")
    elif other is None or isinstance(other, dict | tuple | list):
        given = "None" if other is None else type(other).__name__
        raise ValueError(f"{name}: expected a leaf{where}, got {given}.")
    else:
        leaves.append(other)


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """`function` applied to the leaves of trees of the same structure.

    Raises ValueError, with the path to it, where the structures differ.

    >>> tk.tree.tree_map(lambda a, b: a + b, {"x": 1}, {"x": 10})
    {'x': 11}
    """
    leaves, rebuild = flatten(tree)
    more = [leaves_like(tree, other) for other in others]
    return rebuild([function(*values) for values in zip(leaves, *more, strict=True)])


def __dir__() -> list[str]:
    return __all__
