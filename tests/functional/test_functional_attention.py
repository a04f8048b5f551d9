"""Attention: what masks hide, and what is refused. Its derivatives are in test_functional.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

RANDOM = np.random.default_rng(0)
Q, K, V = (RANDOM.standard_normal(shape) for shape in ((4, 5), (3, 5), (3, 2)))


def test_the_formula() -> None:
    scores = np.exp(Q @ K.T / np.sqrt(5))
    expected = scores / scores.sum(1, keepdims=True) @ V
    found = F.scaled_dot_product_attention(*map(Tensor, (Q, K, V)))
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)


@pytest.mark.parametrize("hidden", [False, -np.inf], ids=["booleans", "floats"])
def test_a_query_that_sees_no_key_gets_0_and_no_gradient(hidden: Any) -> None:
    mask = np.full((4, 3), True if hidden is False else 0.0)
    mask[1], mask[:, 2] = hidden, hidden
    q, k, v = (Tensor(x, requires_grad=True) for x in (Q, K, V))
    y = F.scaled_dot_product_attention(q, k, v, mask)
    (y * y).sum().backward()
    assert not y.data[1].any() and not q.grad.data[1].any()
    assert not k.grad.data[2].any() and not v.grad.data[2].any()
    for tensor in (y, q.grad, k.grad, v.grad):
        assert np.isfinite(tensor.data).all() and tensor.data[0].any()
    kept = F.scaled_dot_product_attention(*map(Tensor, (Q[[0, 2, 3]], K[:2], V[:2])))
    np.testing.assert_allclose(y.data[[0, 2, 3]], kept.data, rtol=1e-12)


def test_large_scores_do_not_overflow_and_are_hidden_all_the_same() -> None:
    q, k, v = (tk.tensor(x) for x in ([[1e18]], [[1e18], [-1e18]], [[1.0], [2.0]]))
    assert F.scaled_dot_product_attention(q, k, v).tolist() == [[1]]
    assert F.scaled_dot_product_attention(q, k, v, np.array([[False, True]])).tolist() == [[2]]


def test_causal_queries_see_the_keys_so_far() -> None:
    past = np.tril(np.ones((4, 3), bool))
    expected = F.scaled_dot_product_attention(*map(Tensor, (Q, K, V)), past)
    found = F.scaled_dot_product_attention(*map(Tensor, (Q, K, V)), is_causal=True)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)


def test_dropout_drops_weights() -> None:
    q, k, v = tk.zeros(1, 1), tk.zeros(1000, 1), tk.ones(1000, 1)
    tk.manual_seed(0)
    values = {F.scaled_dot_product_attention(q, k, v, dropout_p=0.5).item() for _ in range(5)}
    assert len(values) == 5 and all(0.8 < value < 1.2 for value in values)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"attn_mask": np.ones((4, 3), bool), "is_causal": True}, ValueError, "got both"),
        ({"attn_mask": np.ones((4, 3), int)}, TypeError, "booleans or floats, got int64"),
        ({"key": K[:, :4]}, ValueError, r"key \(\.\.\., S, E\) .* got \(4, 5\), \(3, 4\)"),
        ({"query": Q[0]}, ValueError, r"got \(5,\)"),
        ({"query": np.ones((3, 4, 5)), "key": np.ones((2, 3, 5)), "value": np.ones((2, 3, 1)),
          "enable_gqa": True}, ValueError, "multiple of 2 query heads, got 3"),
    ],
)  # fmt: skip
def test_what_is_refused(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^scaled_dot_product_attention: expected .*{message}"):
        F.scaled_dot_product_attention(**{"query": Q, "key": K, "value": V} | change)
