"""Gradient clipping: norms that do not overflow, and gradients that belong to their leaves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tinygrad_kr import Tensor
from tinygrad_kr.optim import clip_grad_norm_, clip_grad_value_


def leaves(*gradients: Any, dtype: Any = np.float64) -> list[Any]:
    """Leaves of zeros with these gradients; None for none."""
    made = []
    for gradient in gradients:
        g = None if gradient is None else np.asarray(gradient, dtype)
        p = Tensor(np.zeros(() if g is None else g.shape, dtype), requires_grad=True)
        p.grad = None if g is None else Tensor(g)
        made.append(p)
    return made


@pytest.mark.parametrize(
    ("order", "norm"), [(2, 13.0), (1, 19.0), (math.inf, 12.0), (3, (27 + 64 + 1728) ** (1 / 3))]
)
def test_the_norm_is_that_of_all_gradients_together(order: float, norm: float) -> None:
    a, b, c = leaves([[3.0, -4.0]], None, -12.0)
    total = clip_grad_norm_((p for p in (a, b, c)), norm / 2, order)
    assert isinstance(total, Tensor)
    assert total.shape == ()
    assert total.item() == pytest.approx(norm, rel=1e-12)
    assert b.grad is None
    np.testing.assert_allclose(a.grad.data, [[1.5, -2.0]], rtol=1e-6)
    np.testing.assert_allclose(c.grad.data, -6.0, rtol=1e-6)


def test_short_gradients_stay_as_they_are() -> None:
    (a,) = leaves([3.0, 4.0])
    before = a.grad
    assert clip_grad_norm_(a, 5.1).item() == 5.0
    assert a.grad is before
    assert clip_grad_norm_(a, math.inf).item() == 5.0
    assert a.grad is before


def test_no_gradients() -> None:
    assert clip_grad_norm_(leaves(None), 1.0).item() == 0.0
    assert clip_grad_norm_([], 1.0).item() == 0.0
    assert clip_grad_norm_(leaves(np.zeros((0, 3))), 1.0, math.inf).item() == 0.0
    clip_grad_value_(leaves(None), 1.0)


def test_clip_to_zero() -> None:
    (a,) = leaves([3.0, 4.0])
    clip_grad_norm_(a, 0.0)
    assert a.grad.data.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", [2.0, 3.0])
def test_neither_overflow_nor_underflow(dtype: Any, order: float) -> None:
    for size in (np.finfo(dtype).max / 8, np.finfo(dtype).tiny * 8):
        a, b = leaves([3 * size / 4], [size], dtype=dtype)
        norm = clip_grad_norm_([a, b], float(size), order)
        expected = float(size) * (0.75**order + 1) ** (1 / order)
        assert norm.dtype == dtype
        assert norm.item() == pytest.approx(expected, rel=2e-3 if dtype == np.float16 else 1e-6)
        assert np.isfinite([a.grad.data, b.grad.data]).all()


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("order", [2, 1, math.inf])
def test_nonfinite_gradients(bad: float, order: float) -> None:
    a, b = leaves([1.0, bad], [2.0])
    message = r"expected a finite norm to scale to 1\.0, got (inf|nan)\. .*detect_anomaly"
    with pytest.raises(RuntimeError, match=message):
        clip_grad_norm_([a, b], 1.0, order, error_if_nonfinite=True)
    assert b.grad.data.tolist() == [2.0]
    total = clip_grad_norm_([a, b], 1.0, order)
    assert not math.isfinite(total.item())
    assert math.isnan(a.grad.data[1])
    if math.isnan(bad):
        assert math.isnan(b.grad.data[0])
    else:
        assert b.grad.data[0] == 0


def test_dtypes_are_kept() -> None:
    (a,) = leaves([3.0, 4.0], dtype=np.float32)
    (b,) = leaves([12.0])
    norm = clip_grad_norm_([a, b], 1.0)
    assert norm.dtype == np.float32
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    clip_grad_value_([a, b], 0.1)
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize(
    "clip", [lambda p: clip_grad_norm_(p, 1.0), lambda p: clip_grad_value_(p, 1.0)]
)
def test_arrays_of_others_are_not_written_to(clip: Any) -> None:
    mine = np.array([3.0, 4.0])
    a, b = leaves(0.0, 0.0)
    a, b = (Tensor(np.zeros(2), requires_grad=True) for _ in range(2))
    a.grad = Tensor(mine)
    b.grad = a.grad
    clip([a, b])
    assert mine.tolist() == [3.0, 4.0]
    assert a.grad.data.tolist() == b.grad.data.tolist()
    a.grad.data[:] = 7.0
    assert b.grad.data.max() <= 1.0


def test_a_gradient_with_a_graph_of_its_own() -> None:
    x = Tensor(np.array([3.0]), requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    assert first is not None
    clip_grad_norm_([x], 1.0)
    assert x.grad is not None
    assert x.grad.data == pytest.approx(1.0)
    x.grad = None
    first.sum().backward()
    np.testing.assert_allclose(x.grad.data, [18.0])  # type: ignore[attr-defined]


def test_clip_value() -> None:
    a, b = leaves([[3.0, -4.0], [0.5, math.nan]], -2.0)
    clip_grad_value_(iter([a, b]), 1.5)
    np.testing.assert_array_equal(a.grad.data, [[1.5, -1.5], [0.5, math.nan]])
    assert b.grad.data.tolist() == -1.5
    assert b.grad.shape == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: clip_grad_norm_(p, -1.0), r"expected max_norm >= 0, got -1\.0\."),
        (lambda p: clip_grad_norm_(p, math.nan), r"expected max_norm >= 0, got nan\."),
        (lambda p: clip_grad_norm_(p, 1.0, 0), r"expected norm_type > 0 or inf, got 0\."),
        (lambda p: clip_grad_value_(p, -1.0), r"expected clip_value >= 0, got -1\.0\."),
    ],
)
def test_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(leaves([1.0]))
