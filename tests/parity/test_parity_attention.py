"""Attention against PyTorch's: values, gradients and refusals, with every kind of mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy_alone import leave_all_to_numpy

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr.ops import attention

torch = pytest.importorskip("torch")
theirs = torch.nn.functional.scaled_dot_product_attention

RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True, params=["kernel", "NumPy"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with the kernel, also for few elements, and without."""
    RANDOM.bit_generator.state = np.random.default_rng(5).bit_generator.state
    monkeypatch.setattr(attention, "_MIN_WORK", 0)
    if request.param == "NumPy":
        leave_all_to_numpy(monkeypatch)


def draw(dtype: Any, *shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def mask_of(kind: str, shape: tuple[int, ...], dtype: Any) -> Any:
    seen = RANDOM.random(shape) < 0.5
    seen[..., 1, :] = False
    kinds = {
        "booleans": seen,
        "one row": seen[..., :1, :],
        "one number": np.ones((1, 1), bool),
        "floats": draw(dtype, *shape),
        "a float row": draw(dtype, 1, shape[-1]),
        "infinities": np.where(seen, draw(dtype, *shape), -np.inf).astype(dtype),
        "all hidden": np.zeros(shape, bool),
    }
    return kinds.get(kind)


SHAPES = [((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 7)), ((4, 9), (5, 9), (5, 1)), ((2, 1, 3, 2),) * 3]
MASKS = ["", "booleans", "one row", "one number", "floats", "a float row", "infinities"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [*MASKS, "all hidden", "causal"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_values_and_gradients(shapes: Any, kind: str, dtype: Any) -> None:
    given = [draw(dtype, *shape) for shape in shapes]
    mask = mask_of(kind, (*shapes[0][:-1], shapes[1][-2]), dtype)
    options = {"is_causal": kind == "causal", "scale": 0.4 if kind == "floats" else None}
    ours = [tk.tensor(x, requires_grad=True) for x in given]
    expected = [torch.tensor(x, requires_grad=True) for x in given]
    y = F.scaled_dot_product_attention(*ours, mask, **options)
    z = theirs(*expected, None if mask is None else torch.tensor(mask), **options)
    g = draw(dtype, *z.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    grads = [(a.grad, b.grad) for a, b in zip(ours, expected, strict=True)]
    for found, wanted in [(y.detach(), z.detach()), *grads]:
        assert found.numpy().dtype == dtype
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), tolerance, tolerance)


def test_shared_heads() -> None:
    q, k, v = (draw(np.float64, 2, *sizes, 4) for sizes in ((8, 3), (2, 5), (2, 5)))
    found = F.scaled_dot_product_attention(*map(tk.tensor, (q, k, v)), enable_gqa=True)
    expected = theirs(*map(torch.tensor, (q, k, v)), enable_gqa=True)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), 1e-12, 1e-14)


@pytest.mark.parametrize(("keys", "features"), [(0, 4), (3, 0)])
def test_no_keys_and_no_features(keys: int, features: int) -> None:
    q, k, v = (draw(np.float32, 2, n, m) for n, m in ((3, features), (keys, features), (keys, 5)))
    found = F.scaled_dot_product_attention(tk.tensor(q), tk.tensor(k), tk.tensor(v))
    expected = theirs(torch.tensor(q), torch.tensor(k), torch.tensor(v))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), 1e-6)


def test_dropout_keeps_the_mean_and_its_gradients() -> None:
    q = k = np.zeros((1, 1, 1, 4))
    k = np.zeros((1, 1, 4000, 4))
    v = tk.tensor(np.ones((1, 1, 4000, 1)), requires_grad=True)
    tk.manual_seed(3)
    y = F.scaled_dot_product_attention(tk.tensor(q), tk.tensor(k), v, dropout_p=0.25)
    assert abs(y.item() - 1) < 0.05
    y.backward(np.ones((1, 1, 1, 1)))
    assert v.grad is not None
    np.testing.assert_allclose(np.unique(v.grad.numpy()), [0, 1 / 3000])
    none = F.scaled_dot_product_attention(tk.tensor(q), tk.tensor(k), v, dropout_p=1.0)
    assert none.item() == 0


REFUSED: list[tuple[Any, Any, type[Exception], str]] = [
    ([(3,), (4, 3), (4, 2)], {}, ValueError, "expected query"),
    ([(2, 3), (4, 5), (4, 2)], {}, ValueError, "expected query"),
    ([(2, 3), (4, 3), (5, 2)], {}, ValueError, "expected query"),
    ([(2, 3)] * 3, {"is_causal": True, "attn_mask": np.ones((2, 2), bool)}, ValueError, "got both"),
    ([(2, 3)] * 3, {"attn_mask": np.ones((2, 2), int)}, TypeError, "booleans or floats"),
    ([(2, 3)] * 3, {"attn_mask": np.ones((5, 2), bool)}, ValueError, "broadcast"),
    ([(2, 3)] * 3, {"dropout_p": 1.5}, ValueError, "dropout_p in"),
    ([(2, 8, 3, 4), (2, 3, 3, 4), (2, 3, 3, 4)], {"enable_gqa": True}, ValueError, "multiple of 3"),
]


@pytest.mark.parametrize(("shapes", "options", "error", "said"), REFUSED)
def test_what_pytorch_refuses(shapes: Any, options: Any, error: Any, said: str) -> None:
    given = [draw(np.float32, *shape) for shape in shapes]
    mask = options.get("attn_mask")
    more = {} if mask is None else {"attn_mask": torch.tensor(mask)}
    with pytest.raises(RuntimeError):
        theirs(*map(torch.tensor, given), **{**options, **more})
    with pytest.raises(error, match=rf"^scaled_dot_product_attention.*{said}"):
        F.scaled_dot_product_attention(*map(tk.tensor, given), **options)
