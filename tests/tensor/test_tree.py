"""Nested containers: taken apart, put together, and matched by name rather than by luck."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_kr as tk
from tinygrad_kr.tree import flatten, leaves_like, tree_map


class Layer(NamedTuple):
    weight: Any
    bias: Any


trees = st.recursive(
    st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(Layer, inner, inner)
    ),
)


@given(trees)
def test_flatten_and_rebuild_are_inverse(tree: Any) -> None:
    leaves, rebuild = flatten(tree)
    again = rebuild(leaves)
    assert again == tree
    assert type(again) is type(tree)
    assert all(isinstance(leaf, int) for leaf in leaves)


@given(trees)
def test_tree_map_touches_every_leaf_once(tree: Any) -> None:
    leaves, _ = flatten(tree)
    doubled = tree_map(lambda x: 2 * x, tree)
    assert flatten(doubled)[0] == [2 * leaf for leaf in leaves]
    assert tree_map(lambda x, y: y - x, tree, doubled) == tree


def test_containers_keep_their_kind_and_order() -> None:
    tree = {"b": [1, (2, None)], "a": Layer(3, {"x": 4})}
    leaves, rebuild = flatten(tree)
    assert sorted(leaves) == [1, 2, 3, 4]
    found = rebuild(leaves)
    assert list(found) == ["b", "a"]
    assert isinstance(found["a"], Layer)
    assert found == tree


def test_leaves_are_matched_by_key_and_not_by_order() -> None:
    tree, other = {"a": 1, "b": [2, 3]}, {"b": [20, 30], "a": 10}
    assert leaves_like(tree, other) == [10, 20, 30]
    assert tree_map(lambda x, y: x + y, tree, other) == {"a": 11, "b": [22, 33]}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": 1}, r"expected keys \['a', 'b'\], got \['a'\]"),
        ({"a": 1, "c": [1, 2]}, "keys"),
        ({"a": 1, "b": [1]}, r"expected 2 items at \['b'\], got 1"),
        ({"a": 1, "b": 2}, r"expected list at \['b'\], got int"),
        ({"a": [1], "b": [1, 2]}, r"expected a leaf at \['a'\], got list"),
        ([1, [1, 2]], "expected dict, got list"),
        ({"a": None, "b": [1, 2]}, r"expected a leaf at \['a'\], got None"),
    ],
)
def test_another_structure_is_refused_with_its_place(other: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        leaves_like({"a": 1, "b": [2, 3]}, other)


def test_a_list_may_stand_for_a_tuple() -> None:
    assert leaves_like((1, [2]), [10, (20,)]) == [10, 20]


def test_tangents_and_cotangents_are_matched_by_key() -> None:
    def f(weights: Any) -> Any:
        return {"p": weights["a"] * 2, "q": weights["b"] * 3}

    at = {"a": np.array(1.0), "b": np.array(1.0)}
    _, tangent = tk.jvp(f, (at,), ({"b": np.array(10.0), "a": np.array(1.0)},))
    assert tangent == {"p": 2.0, "q": 30.0}
    _, pull_back = tk.vjp(f, at)
    assert pull_back({"q": 10.0, "p": 1.0}) == ({"a": 2.0, "b": 30.0},)
    with pytest.raises(ValueError, match="keys"):
        tk.jvp(f, (at,), ({"a": np.array(1.0), "c": np.array(1.0)},))
    with pytest.raises(ValueError, match="keys"):
        pull_back({"p": 1.0, "r": 1.0})
