"""Nested tuples, lists and dicts of values, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(tree: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of a nested container (dicts in their order), and what rebuilds it from others.

    None is an empty container. Anything that is no tuple, list, dict or None is a leaf.
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
    if isinstance(tree, tuple | list):
        parts = [_flatten(value, leaves) for value in tree]
        if hasattr(tree, "_fields"):
            return lambda values: type(tree)(*[build(values) for build in parts])
        return lambda values: type(tree)([build(values) for build in parts])
    leaves.append(tree)
    return next


def leaves_like(tree: Any, other: Any, name: str = "tree") -> list[Any]:
    """The leaves of `other`, in the order of those of `tree`, whose structure it must have.

    Dicts are matched by key; a list may stand for a tuple. Raises ValueError with the place where
    the structures differ.
    """
    leaves: list[Any] = []
    _collect(tree, other, leaves, name, "")
    return leaves


def _collect(tree: Any, other: Any, leaves: list[Any], name: str, place: str) -> None:
    where = f", at {place}" if place else ""
    if isinstance(tree, dict):
        if not isinstance(other, dict):
            raise ValueError(f"{name}: {type(other).__name__}, not dict{where}")
        if tree.keys() != other.keys():
            raise ValueError(f"{name}: keys {list(other)}, not {list(tree)}{where}")
        for key, value in tree.items():
            _collect(value, other[key], leaves, name, f"{place}[{key!r}]")
    elif isinstance(tree, tuple | list):
        if not isinstance(other, tuple | list):
            raise ValueError(f"{name}: {type(other).__name__}, not {type(tree).__name__}{where}")
        if len(tree) != len(other):
            raise ValueError(f"{name}: {len(other)} items, not {len(tree)}{where}")
        for i, (value, match) in enumerate(zip(tree, other, strict=True)):
            _collect(value, match, leaves, name, f"{place}[{i}]")
    elif tree is None:
        if other is not None:
            raise ValueError(f"{name}: {type(other).__name__}, not None{where}")
    elif other is None or isinstance(other, dict | tuple | list):
        given = "None" if other is None else type(other).__name__
        raise ValueError(f"{name}: {given}, not a leaf{where}")
    else:
        leaves.append(other)


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """`function` applied to the leaves of trees of the same structure."""
    leaves, rebuild = flatten(tree)
    more = [leaves_like(tree, other) for other in others]
    return rebuild([function(*values) for values in zip(leaves, *more, strict=True)])
