"""Convolution, pooling, windows, padding: known figures, adjoints, layouts, what is refused."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from harness import compare
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.ops import window
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(0)


def draw(*shape: int) -> ndarray:
    return np.asarray(RANDOM.standard_normal(shape))


def channels_last(x: ndarray) -> ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


# ------------------------------------------------------------------ convolution


def by_hand(
    x: ndarray, w: ndarray, stride: int, padding: int, dilation: int, groups: int
) -> ndarray:
    """The definition: one number at a time."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    n, _, height, width = x.shape
    outputs, per_group, kh, kw = w.shape
    rows = (height - dilation * (kh - 1) - 1) // stride + 1
    columns = (width - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, outputs, rows, columns))
    for i, o, r, c in product(range(n), range(outputs), range(rows), range(columns)):
        first = o // (outputs // groups) * per_group
        for k, a, b in product(range(per_group), range(kh), range(kw)):
            at = (i, first + k, r * stride + a * dilation, c * stride + b * dilation)
            y[i, o, r, c] += x[at] * w[o, k, a, b]
    return y


@st.composite
def convolutions(draw_: Any) -> tuple[ndarray, ndarray, tuple[int, int, int, int]]:
    """An input, a weight, and (stride, padding, dilation, groups)."""
    numbers = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    sizes = st.tuples(st.integers(3, 6), st.integers(3, 6))
    kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, per_group = draw_(st.integers(1, 3)), draw_(st.integers(1, 2))
    x = numbers.standard_normal((2, groups * per_group, *draw_(sizes)))
    w = numbers.standard_normal((groups * 2, per_group, *draw_(kernels)))
    small = st.integers(1, 3)
    how = (draw_(small), draw_(st.integers(0, 2)), draw_(st.integers(1, 2)), groups)
    return (channels_last(x) if draw_(st.booleans()) else x), w, how


@given(convolutions())
def test_conv2d_equals_its_definition(case: Any) -> None:
    x, w, how = case
    _, padding, dilation, _ = how
    reach = zip(x.shape[2:], w.shape[2:], strict=True)
    if any(n + 2 * padding < dilation * (k - 1) + 1 for n, k in reach):
        with pytest.raises(
            ValueError, match="expected a padded input of at least the kernel's extent"
        ):
            F.conv2d(Tensor(x), Tensor(w), None, *how)
        return
    found = F.conv2d(Tensor(x), Tensor(w), None, *how)
    np.testing.assert_allclose(found.data, by_hand(x, w, *how), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_depthwise_convolutions_differentiate(padding: int, multiplier: int) -> None:
    """NumPy's path in float64, whose adjoint may be a convolution itself."""

    def function(x: Any, w: Any) -> Any:
        return F.conv2d(x, w, padding=padding, groups=3)

    check_grads(function, (draw(2, 3, 5, 4), draw(3 * multiplier, 1, 3, 2)))


def test_the_adjoint_of_filters_that_are_not_finite() -> None:
    """Zeros around the cotangent meet no infinity."""
    weight = np.ones((2, 1, 3, 3))
    weight[1, 0, 0, 0] = np.inf
    x = Tensor(draw(1, 2, 4, 4), requires_grad=True)
    with np.errstate(invalid="ignore"):
        (F.conv2d(x, Tensor(weight), padding=1, groups=2) * np.ones((4, 4))).sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad.data[0, 0]).all() and not np.isnan(x.grad.data[0, 1]).any()
    assert np.isfinite(x.grad.data[0, 1, 3]).all()


def test_the_labs_convolution_and_pooling() -> None:
    """lab-11-0: a 3 x 3 image of 1 to 9 and a 2 x 2 filter of ones; the maxima of an image."""
    image = tk.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
    ones = tk.ones(1, 1, 2, 2)
    found = F.conv2d(image, ones, padding="same").data[0, 0]
    np.testing.assert_array_equal(found, [[12, 16, 9], [24, 28, 15], [15, 17, 9]])
    np.testing.assert_array_equal(F.conv2d(image, ones).data[0, 0], [[12, 16], [24, 28]])
    corner = Tensor([[[[4.0, 3.0], [2.0, 1.0]]]])
    same = F.max_pool2d(F.pad(corner, (0, 1, 0, 1), value=-math.inf), 2, 1)
    np.testing.assert_array_equal(same.data[0, 0], [[4, 3], [2, 1]])


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), [
    (8, 3, 2, 1), (10, 2, 3, 2), (7, 3, 5, 1), (10, 3, 4, 2),
])  # fmt: skip
def test_what_no_window_reaches_gets_gradient_0(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    """(size - dilation (kernel - 1) - 1) mod stride is not 0: no window has the last elements."""
    assert (size - dilation * (kernel - 1) - 1) % stride
    x, w = draw(1, 2, size, size), draw(3, 2, kernel, kernel)
    how = {"stride": stride, "dilation": dilation}
    check_grads(lambda x, w: F.conv2d(x, w, **how), (x, w))
    check_grads(lambda x: F.avg_pool2d(x, kernel, stride), (x,))
    t = Tensor(x, requires_grad=True)
    F.conv2d(t, Tensor(w), **how).sum().backward()
    assert t.grad is not None and not t.grad.data[..., -1, :].any()


@pytest.mark.parametrize("transposed", [False, True])
def test_conv_transpose_is_the_adjoint(transposed: bool) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>."""
    x, w = draw(2, 4, 9, 8), draw(6, 2, 3, 2)
    how = {"stride": (2, 3), "padding": (1, 0), "groups": 2, "dilation": (1, 2)}
    forward = F.conv2d(x, w, **how)
    y = draw(*forward.shape)
    back = F.conv_transpose2d(
        channels_last(y) if transposed else y, w, output_padding=(0, 2), **how
    )
    assert back.shape == x.shape
    assert np.sum(forward * y) == pytest.approx(np.sum(x * back), rel=1e-12)


def test_channels_stay_side_by_side_in_memory() -> None:
    """What makes a network fast: no step has to gather channels from all over."""
    x = tk.randn(4, 1, 12, 12, requires_grad=True)
    y = F.conv2d(x, tk.randn(8, 1, 3, 3), tk.randn(8), padding=1)
    h = F.max_pool2d(F.relu(y), 2)
    z = F.conv2d(h, tk.randn(16, 8, 3, 3), padding=1)
    for t in (y, h, z):
        assert t.data.strides[1] == t.data.itemsize
    assert F.max_pool2d(tk.randn(2, 3, 8, 8), 2).data.strides[-1] == 4


def test_columns_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, b = draw(7, 2, 6, 5), draw(4, 2, 3, 3), draw(4)
    g = draw(7, 4, 4, 3)

    def run() -> list[ndarray]:
        tensors = [Tensor(a, requires_grad=True) for a in (x, w, b)]
        y = F.conv2d(*tensors)
        y.backward(Tensor(g))
        return [y.data, *(t.grad.data for t in tensors if t.grad is not None)]

    whole = run()
    for limit in (1, 4000):
        monkeypatch.setattr(window, "_PART_BYTES", limit)
        for one, other in zip(run(), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_first_layers_input_costs_no_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = window.convolve.rules[0]
    record = (lambda *a, **k: calls.append("dx") or original(*a, **k), *window.convolve.rules[1:])
    monkeypatch.setattr(window.convolve, "rules", record)
    for needed in (False, True):
        x = tk.randn(2, 1, 5, 5, requires_grad=needed)
        F.conv2d(x, tk.randn(3, 1, 3, 3, requires_grad=True)).sum().backward()
    assert calls == ["dx"]


@pytest.mark.parametrize(
    ("x", "w", "more", "message"),
    [
        ((2, 3, 5, 5), (4, 2, 3, 3), {}, r"outputs, got input \(2, 3, 5, 5\) with 3 channels\."),
        ((2, 4, 5, 5), (3, 2, 3, 3), {"groups": 2}, "a multiple of 2 outputs"),
        ((2, 4, 5, 5), (4, 4, 3, 3), {"groups": 2}, r"input \(2, 4, 5, 5\) with 4 channels\."),
        ((2, 4, 5, 5), (4, 4, 3, 3), {"groups": 0}, "groups=0"),
        ((2, 2, 5, 5), (4, 2, 3), {}, r"weight of 4 axes, got \(2, 2, 5, 5\) and \(4, 2, 3\)\."),
        ((5, 5), (4, 2, 3, 3), {}, r"input \(N, C, H, W\)"),
        ((2, 2, 5, 2), (4, 2, 3, 3), {}, r"least the kernel's extent \(3, 3\), got \(5, 2\)\."),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"dilation": 3}, r"extent \(7, 7\), got \(5, 5\)\."),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"padding": "full"}, '"same", "valid".*\'full\''),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"padding": "same", "stride": 2}, "expected stride 1"),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"padding": -1}, r"or 2 of them, at least 0, got -1\."),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"stride": 0}, r"integer or 2 of them, at least 1, got 0\."),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"stride": (1, 2, 3)}, r"at least 1, got \(1, 2, 3\)\."),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"dilation": 1.5}, r"or 2 of them, at least 1, got 1\.5\."),
        ((2, 2, 5, 5), (4, 2, 3, 3), {"bias": tk.zeros(3)}, r"of shape \(4,\), got \(3,\)\."),
    ],
)  # fmt: skip
def test_conv2d_says_what_it_wanted(x: Any, w: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^((conv2d|[a-z_]+): .*)?{message}"):
        F.conv2d(tk.zeros(*x), tk.zeros(*w), **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"output_padding": 2, "stride": 2},
            r"output_padding below stride \(2, 2\) or dilation \(1, 1\), got \(2, 2\)\.",
        ),
        ({"padding": 9}, r"got \(-12, -12\) from input \(2, 2, 4, 4\) and padding \(9, 9\)\."),
        ({"groups": 3}, "a multiple of the groups"),
        ({"bias": tk.zeros(4)}, r"conv_transpose2d: expected bias of shape \(3,\), got \(4,\)\."),
    ],
)
def test_conv_transpose2d_says_what_it_wanted(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.conv_transpose2d(tk.zeros(2, 2, 4, 4), tk.zeros(2, 3, 3, 3), **more)


# ------------------------------------------------------------------ pooling


def gradient_of(function: Any, x: ndarray) -> ndarray:
    t = Tensor(x, requires_grad=True)
    function(t).sum().backward()
    assert t.grad is not None
    return t.grad.data


def test_the_first_of_equal_maxima_has_the_gradient() -> None:
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, :, 2:] = [[1, 2], [2, 2]]
    for given_ in (x, channels_last(x)):
        found = gradient_of(lambda t: F.max_pool2d(t, 2), given_)
        np.testing.assert_array_equal(found[0, 0], [[1, 0, 0, 1], [0, 0, 0, 0]])


def test_overlapping_windows_add_their_gradients() -> None:
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    found = gradient_of(lambda t: F.max_pool2d(t, 2, 1), x)
    np.testing.assert_array_equal(found[0, 0], [[0, 0, 0], [0, 4, 0], [0, 0, 0]])


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_wins_and_has_the_gradient(place: tuple[int, int]) -> None:
    x = np.float64([[[[1, 2], [3, 4]]]])
    x[(0, 0, *place)] = np.nan
    y, index = F.max_pool2d(Tensor(x), 2, return_indices=True)
    assert np.isnan(y.data).all() and index.item() == 2 * place[0] + place[1]
    found = gradient_of(lambda t: F.max_pool2d(t, 2), x)
    assert found[(0, 0, *place)] == 1 and found.sum() == 1


def test_infinite_gradients_do_not_spill_over() -> None:
    x = Tensor(draw(1, 2, 4, 4), requires_grad=True)
    F.max_pool2d(x, 2).backward(Tensor(np.full((1, 2, 2, 2), np.inf)))
    assert x.grad is not None
    assert np.isinf(x.grad.data).sum() == 8 and not np.isnan(x.grad.data).any()


def test_all_minus_infinity_is_pooled_to_it() -> None:
    x = np.full((1, 1, 4, 4), -np.inf)
    y, index = F.max_pool2d(Tensor(x), 2, padding=1, return_indices=True)
    assert np.isneginf(y.data).all() and (index.data >= 0).all()


def test_indices_point_at_the_maxima() -> None:
    x = draw(2, 3, 7, 8)
    y, index = F.max_pool2d(Tensor(x), 3, 2, padding=1, dilation=2, return_indices=True)
    assert index.dtype == np.int64 and not index.requires_grad
    flat = x.reshape(2, 3, -1)
    found = np.take_along_axis(flat, index.data.reshape(2, 3, -1), -1)
    np.testing.assert_array_equal(found.reshape(y.shape), y.data)


def test_windows_of_more_than_127_elements() -> None:
    x = np.zeros((1, 1, 12, 12))
    x[0, 0, 11, 10] = 1
    _, index = F.max_pool2d(Tensor(x), 12, return_indices=True)
    assert index.item() == 142
    np.testing.assert_array_equal(gradient_of(lambda t: F.max_pool2d(t, 12), x), x)


def test_padding_never_wins_a_maximum() -> None:
    y = F.max_pool2d(Tensor(np.full((1, 1, 2, 2), -5.0)), 2, padding=1)
    np.testing.assert_array_equal(y.data, np.full((1, 1, 2, 2), -5.0))


ROW = np.array([[[1.0, 2.0, 4.0, 8.0, 16.0]]])


@pytest.mark.parametrize(
    ("args", "words", "wanted"),
    [
        ((2,), {}, [1.5, 6]),
        ((2,), {"ceil_mode": True}, [1.5, 6, 16]),
        ((3, 2, 1), {}, [1, 14 / 3, 8]),
        ((3, 2, 1), {"count_include_pad": False}, [1.5, 14 / 3, 12]),
        ((2, 3, 1), {"ceil_mode": True}, [0.5, 6]),
        ((2, 2, 1), {"ceil_mode": True}, [0.5, 3, 12]),
        ((2, 4, 1), {"ceil_mode": True}, [0.5, 12]),
        ((4, 4, 2), {"ceil_mode": True, "count_include_pad": False}, [1.5, 28 / 3]),
        ((4, 3, 1), {"ceil_mode": True}, [7 / 4, 28 / 4]),
        ((5, 3, 2), {"ceil_mode": True}, [7 / 5, 30 / 5, 16 / 3]),
    ],
)
def test_averages_count_what_they_should(args: Any, words: Any, wanted: list[float]) -> None:
    np.testing.assert_allclose(F.avg_pool1d(ROW, *args, **words)[0, 0], wanted)


@pytest.mark.parametrize(
    ("args", "ceil_mode", "wanted"),
    [
        ((2,), False, [2, 8]),
        ((2,), True, [2, 8, 16]),
        ((2, 3), True, [2, 16]),
        ((3, 3, 1), True, [2, 16]),
        ((2, 2, 1), True, [1, 4, 16]),
        ((1, 6), True, [1]),
        ((2, 4, 1), True, [1, 16]),
        ((2, 5, 1), True, [1, 16]),
        ((2, 6, 1), True, [1]),
    ],
)
def test_a_last_window_counts_only_if_it_starts_inside(
    args: Any, ceil_mode: bool, wanted: list[float]
) -> None:
    np.testing.assert_array_equal(F.max_pool1d(ROW, *args, ceil_mode=ceil_mode)[0, 0], wanted)


def pooled_by_hand(x: ndarray, k: int, s: int, p: int, mean: Any) -> list[float]:
    """Windows of a vector by PyTorch's rule of `ceil_mode`: the last starts before the end."""
    n = len(x)
    count = -(-(n + 2 * p - k) // s) + 1
    count -= (count - 1) * s >= n + p
    starts = [i * s - p for i in range(count)]
    inside = [x[max(a, 0) : min(a + k, n)] for a in starts]
    if mean is None:
        return [float(w.max()) for w in inside]
    counts = [
        min(a + k, n + p) - a if mean else len(w) for a, w in zip(starts, inside, strict=True)
    ]
    return [float(w.sum()) / c for w, c in zip(inside, counts, strict=True)]


CEILED = [
    (n, k, s, p)
    for n in (1, 2, 3, 5)
    for k in (1, 2, 3, 4)
    for s in (1, 2, 3, 5)
    for p in range(k // 2 + 1)
    if -(-(n + 2 * p - k) // s) + 1 > 0
]


@pytest.mark.parametrize("mean", [None, True, False])
def test_windows_larger_than_the_input_are_allowed_by_ceil_mode(mean: bool | None) -> None:
    """Values by the definition, in one and two axes; gradients by differences."""
    words = {} if mean is None else {"count_include_pad": mean}
    one, two = (F.max_pool1d, F.max_pool2d) if mean is None else (F.avg_pool1d, F.avg_pool2d)
    for n, k, s, p in CEILED:
        row = draw(n)
        expected = pooled_by_hand(row, k, s, p, mean)
        found = one(Tensor(row.reshape(1, 1, n)), k, s, p, ceil_mode=True, **words)
        np.testing.assert_allclose(found[0, 0].data, expected, rtol=1e-14)
        tall = two(Tensor(row.reshape(1, n, 1)), (k, 1), (s, 1), (p, 0), ceil_mode=True, **words)
        np.testing.assert_allclose(tall[0, :, 0].data, expected, rtol=1e-14)
    for n, k, s, p in CEILED[::7]:
        pooled = partial(one, kernel_size=k, stride=s, padding=p, ceil_mode=True, **words)
        check_grads(pooled, (draw(1, n),))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_windows_larger_than_the_input_compile(name: str) -> None:
    pool = getattr(F, name)

    def step(x: Any) -> Any:
        return tk.value_and_grad(lambda x: pool(x, 3, 2, ceil_mode=True).sum())(x)

    for shape in ((1, 1, 2, 2), (2, 3, 4, 5)):
        compare(step, draw(*shape))


@pytest.mark.parametrize("name", ["max_pool1d", "avg_pool1d"])
def test_a_window_that_starts_nowhere_is_refused(name: str) -> None:
    for shape, kernel, stride in (((1, 1, 1), 4, 2), ((1, 1, 0), 2, 2), ((1, 1, 3), 4, 1)):
        ceiled = kernel != 4 or stride != 1
        with pytest.raises(ValueError, match=rf"{name}: expected an input of at least"):
            getattr(F, name)(tk.zeros(*shape), kernel, stride, ceil_mode=ceiled)


def test_an_empty_stride_is_the_kernel_as_in_pytorch() -> None:
    x = tk.arange(16.0).reshape(1, 4, 4)
    for function in (F.max_pool2d, F.avg_pool2d):
        assert function(x, 2, ()).tolist() == function(x, 2, 2).tolist()


def test_indices_of_windows_larger_than_the_input() -> None:
    x = tk.arange(4.0).reshape(1, 2, 2)
    y, index = F.max_pool2d(x, 3, 2, ceil_mode=True, return_indices=True)
    assert (y.tolist(), index.tolist()) == ([[[3.0]]], [[[3]]])


def test_adaptive_bins_overlap_where_they_must() -> None:
    found = F.adaptive_avg_pool1d(ROW, 3)[0, 0]
    np.testing.assert_allclose(found, [1.5, (2 + 4 + 8) / 3, 12])


def test_global_average() -> None:
    x = draw(2, 3, 5, 4)
    found = F.adaptive_avg_pool2d(Tensor(x), 1).data
    np.testing.assert_allclose(found[..., 0, 0], x.mean(axis=(2, 3)), rtol=1e-12)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    ("shape", "args", "message"),
    [
        ((2, 2, 5, 5), (0,), r"expected an integer or 2 of them, at least 1, got 0\."),
        ((2, 2, 5, 5), (2, 0), r"stride: expected an integer or 2 of them, at least 1, got 0\."),
        ((2, 2, 5, 5), (2, 1, 2), r"padding of at most half the kernel \(2, 2\), got \(2, 2\)\."),
        ((2, 2, 5, 5), (6,), r"_pool2d: expected an input of at least \(6, 6\), got \(5, 5\)\."),
        ((5, 5), (2,), r"_pool2d: expected input \(N, C, H, W\) or \(C, H, W\), got \(5, 5\)\."),
    ],
)
def test_pooling_says_what_it_wanted(name: str, shape: Any, args: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(F, name)(tk.zeros(*shape), *args)


def test_other_pooling_errors() -> None:
    with pytest.raises(ValueError, match=r"avg_pool2d: expected divisor_override != 0, got 0\."):
        F.avg_pool2d(tk.zeros(1, 1, 2, 2), 2, divisor_override=0)
    with pytest.raises(ValueError, match=r"and two sizes, got \(1, 1, 2, 2\) and \(1, 2, 3\)\."):
        F.adaptive_avg_pool2d(tk.zeros(1, 1, 2, 2), (1, 2, 3))
    with pytest.raises(ValueError, match=r"an integer or 2 of them, at least 1, got \(0, 0\)\."):
        F.adaptive_avg_pool2d(tk.zeros(1, 1, 2, 2), 0)


# ------------------------------------------------------------------ unfold, fold, pad


def test_fold_adds_what_unfold_read() -> None:
    """fold(unfold(x)) is x times how many windows each element is in."""
    x, how = draw(2, 3, 6, 7), {"dilation": 2, "padding": 1, "stride": 2}
    columns = F.unfold(x, (2, 3), **how)
    counts = F.fold(F.unfold(np.ones_like(x), (2, 3), **how), (6, 7), (2, 3), **how)
    np.testing.assert_allclose(F.fold(columns, (6, 7), (2, 3), **how), x * counts)
    assert counts.max() > 1


def test_a_convolution_is_a_product_with_unfolded_windows() -> None:
    x, w = draw(2, 3, 6, 7), draw(4, 3, 2, 3)
    product_ = w.reshape(4, -1) @ F.unfold(x, (2, 3))
    np.testing.assert_allclose(product_.reshape(2, 4, 5, 5), F.conv2d(x, w), atol=1e-12)


def test_fold_refuses_what_unfold_would_not_give() -> None:
    with pytest.raises(ValueError, match=r"of a multiple of 4 rows, got input \(2, 12, 29\)\."):
        F.fold(tk.zeros(2, 12, 29), (6, 7), 2)
    with pytest.raises(ValueError, match=r"of a multiple of 4 rows, got input \(2, 13, 30\)\."):
        F.fold(tk.zeros(2, 13, 30), (6, 7), 2)
    with pytest.raises(ValueError, match=r"input \(N, C, H, W\) or \(C, H, W\), got \(2, 2\)\."):
        F.unfold(tk.zeros(2, 2), 2)


# torch.nn.functional.pad of [0, 1, 2, 3]
@pytest.mark.parametrize(
    ("pad", "mode", "expected"),
    [
        ((-1, 1), "circular", [1, 2, 3, 1]),
        ((1, -1), "circular", [2, 0, 1, 2]),
        ((-2, 2), "circular", [2, 3, 2, 3]),
        ((-1, -1), "circular", [1, 2]),
        ((3, -1), "circular", [0, 1, 2, 0, 1, 2]),
        ((-1, 1), "reflect", [1, 2, 3, 2]),
        ((2, -2), "reflect", [2, 1, 0, 1]),
        ((-1, 2), "replicate", [1, 2, 3, 3, 3]),
        ((2, -3), "replicate", [0, 0, 0]),
        ((-1, 2), "constant", [1, 2, 3, 0, 0]),
        ((1, -4), "constant", [0]),
    ],
)
def test_negative_widths_remove(pad: Any, mode: str, expected: list[float]) -> None:
    x = np.arange(4.0)
    leaf = Tensor(x.reshape(1, 1, 4), requires_grad=True)
    y = F.pad(leaf, pad, mode)
    assert y.reshape(-1).tolist() == expected
    y.sum().backward()
    assert leaf.grad is not None
    if mode != "constant":
        assert leaf.grad.reshape(-1).tolist() == [expected.count(i) for i in x]
    compare(lambda x: F.pad(x, pad, mode), leaf.detach())


@pytest.mark.parametrize(
    ("pad", "mode"),
    [
        ((0, -5), "constant"),
        ((1, -5), "constant"),
        ((-5, 2), "constant"),
        ((0, -5), "reflect"),
        ((-3, -2), "replicate"),
        ((-2, 3), "circular"),
        ((-4, 1), "circular"),
        ((1, -5), "circular"),
    ],
)
def test_more_than_there_is_is_neither_removed_nor_repeated(pad: Any, mode: str) -> None:
    with pytest.raises(ValueError, match=r"pad: expected (to remove at most|widths up to)"):
        F.pad(tk.arange(4.0), pad, mode)


def test_pad_counts_axes_from_the_last() -> None:
    x = tk.ones(2, 3)
    assert F.pad(x, (1, 2)).shape == (2, 6)
    assert F.pad(x, (0, 0, 1, 2)).shape == (5, 3)
    np.testing.assert_array_equal(F.pad(Tensor([1, 2]), (1, 0), value=7).data, [7, 1, 2])


@pytest.mark.parametrize(
    ("pad", "mode", "value", "message"),
    [
        ((1,), "constant", None, "pairs for at most 2 axes"),
        ((1, 1) * 3, "constant", None, "pairs for at most 2 axes"),
        ((-2, -2), "constant", None, r"shape \(2, 3\), got widths \[\(0, 0\), \(-2, -2\)\]\."),
        (
            (1, 1),
            "mirror",
            None,
            r"expected mode .constant., .reflect., .replicate. or .circular., got 'mirror'\.",
        ),
        ((3, 0), "reflect", None, r"mode 'reflect' on axis 1 of shape \(2, 3\), got \(3, 0\)\."),
        ((0, 4), "circular", None, "circular"),
        ((1, 1), "reflect", 1.0, r"pad: expected mode .constant. with a value, got 'reflect'\."),
    ],
)
def test_pad_says_what_it_wanted(pad: Any, mode: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.pad(tk.zeros(2, 3), pad, mode, value)
