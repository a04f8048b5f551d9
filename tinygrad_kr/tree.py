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


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """`function` applied to the leaves of trees of the same structure."""
    leaves, rebuild = flatten(tree)
    more = [flatten(other)[0] for other in others]
    return rebuild([function(*values) for values in zip(leaves, *more, strict=True)])
