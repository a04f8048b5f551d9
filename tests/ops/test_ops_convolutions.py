"""Convolutions of float32 in C: the same as NumPy's, at every edge and in every layout."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.native import choice, cpu, kernels
from tinygrad_kr.native.build import find_compiler, included
from tinygrad_kr.native.kernels import _PARAMETERS, has_kernels
from tinygrad_kr.ops import convolutions, products, window

pytestmark = pytest.mark.skipif(
    find_compiler() is None or not has_kernels(), reason="needs a C compiler and POSIX threads"
)


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the functions in C that were called; small convolutions are for these too."""
    found: list[str] = []
    monkeypatch.setattr(convolutions, "_MIN_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(convolutions, "_MIN_MULTIPLY_ADDS_OF_GROUPS", 1)
    kernels = products.kernels()

    def noting(name: str) -> Callable[..., None]:
        def call(*given: Any) -> None:
            found.append(name)
            getattr(kernels, name)(*given)

        return call

    noted = SimpleNamespace(**{name: noting(name) for name in _PARAMETERS})
    monkeypatch.setattr(products, "kernels", lambda dtype: noted if dtype == np.float32 else None)
    yield found


def normal(*shape: int) -> ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def misaligned(x: ndarray) -> ndarray:
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    made: ndarray = np.ndarray(x.shape, x.dtype, raw.data)
    made[...] = x
    return made


LAYOUTS: dict[str, Callable[[ndarray], ndarray]] = {
    "in order": lambda x: x,
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "some channels": lambda x: LAYOUTS["channels last"](np.repeat(x, 2, 1))[:, : x.shape[1]],
    "every other": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "a field": lambda x: np.rec.fromarrays([x.astype(np.int8), x], names="n,x")["x"],
    "misaligned": misaligned,
}


def close(found: ndarray, exact: ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    np.testing.assert_allclose(found, exact, 1e-5, 2e-6 * max(np.abs(exact).max(), 1e-3))


def all_three(x: ndarray, weight: ndarray, bias: ndarray | None, **how: Any) -> list[ndarray]:
    """The convolution, and from a cotangent the gradients of input and weight."""
    y = window._convolve(x, weight, bias, **how)
    g = normal(*y.shape).astype(y.dtype)
    return [
        y,
        window._convolve_transposed(g, weight, size=x.shape[2:], **how),
        window._convolve_weight(x, g, kernel=weight.shape[2:], **how),
    ]


def compare(x: ndarray, weight: ndarray, bias: ndarray | None, **how: Any) -> None:
    exact = [None if a is None else a.astype(np.float64) for a in (x, weight, bias)]
    for found, wanted in zip(
        all_three(x, weight, bias, **how), all_three(*exact, **how), strict=True
    ):
        close(found, wanted)


# ------------------------------------------------------------------ values


@given(st.data())
def test_sizes_strides_and_edges(data: st.DataObject) -> None:
    spatial = data.draw(st.integers(1, 2))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(least, most)) for _ in range(spatial))

    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 3)
    before, after = each(0, 4), each(0, 4)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [
        max(1, r - a - b) + data.draw(st.integers(0, 9))
        for r, a, b in zip(reach, before, after, strict=True)
    ]
    samples, channels = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 2, 3, 17]))
    outputs = data.draw(st.sampled_from([1, 7, 32, 33]))
    layout = LAYOUTS[data.draw(st.sampled_from([*LAYOUTS]))]
    bias = normal(outputs) if data.draw(st.booleans()) else None
    how = {"stride": stride, "dilation": dilation, "groups": 1}
    how["padding"] = tuple(zip(before, after, strict=True))
    x, weight = normal(samples, channels, *size), normal(outputs, channels, *kernel)
    compare(layout(x), layout(weight), bias, **how)


SAME: dict[str, Any] = {
    "stride": (1, 1), "dilation": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2])
def test_layouts(layout: str, channels: int) -> None:
    x, weight = normal(3, channels, 6, 7), normal(9, channels, 2, 3)
    compare(
        LAYOUTS[layout](x), LAYOUTS[layout](weight), LAYOUTS[layout](normal(9)[None])[0], **SAME
    )


@pytest.mark.parametrize(
    ("samples", "channels", "outputs", "size"),
    [(20, 1, 32, 28), (20, 32, 64, 14), (2, 256, 9, 6), (1, 3, 2304, 4), (3, 12, 40, 40)],
)
def test_many_windows_filters_and_outputs(
    samples: int, channels: int, outputs: int, size: int, done: list[str]
) -> None:
    compare(
        normal(samples, channels, size, size), normal(outputs, channels, 3, 3), normal(outputs),
        **SAME,
    )  # fmt: skip
    assert [name.replace("_groups", "") for name in done] == MANY


@pytest.mark.parametrize(
    ("channels", "name"), [(3, "convolve_groups_transposed"), (9, "convolve_transposed")]
)
def test_what_a_convolution_reaches_of_a_larger_result(
    channels: int, name: str, done: list[str]
) -> None:
    g, weight = normal(2, 9, 3, 4), normal(9, channels, 2, 2)
    how: dict[str, Any] = {**SAME, "stride": (3, 2), "padding": ((1, 0), (0, 0)), "size": (12, 7)}
    found = window._convolve_transposed(g, weight, **how)
    exact = window._convolve_transposed(g.astype(np.float64), weight.astype(np.float64), **how)
    close(found, exact)
    assert (found[:, :, 8:] == 0).all()
    assert done == [name]


def test_nan_and_infinity_come_out_where_they_do_in_numpy() -> None:
    x, weight = normal(3, 4, 9, 9), normal(33, 4, 3, 3)
    x[0, 1, 0, 0], x[1, 2, 5, 5], weight[7, 0, 1, 1] = np.nan, np.inf, np.nan
    exact = [np.isfinite(a) for a in all_three(x.astype(float), weight.astype(float), None, **SAME)]
    for found, finite in zip(all_three(x, weight, None, **SAME), exact, strict=True):
        np.testing.assert_array_equal(np.isfinite(found), finite)


@pytest.mark.parametrize("size", [2, 9])
def test_first_and_second_derivatives(size: int, done: list[str]) -> None:
    def bent(x: Any, weight: Any, bias: Any) -> Any:
        return tk.tanh(F.conv2d(x, weight, bias, stride=2, padding=1)).sum()

    arrays = normal(2, 3, size, size), normal(9, 3, 2, 2), normal(9)
    slope = tk.grad(bent, argnums=(0, 1, 2))
    bend = tk.grad(lambda *a: sum((g**2).sum() for g in slope(*a)), argnums=(0, 1, 2))
    exact = [a.astype(np.float64) for a in arrays]
    for derivative in (slope, bend):
        tensors = [Tensor(a) for a in arrays]
        for found, wanted in zip(derivative(*tensors), derivative(*exact), strict=True):
            np.testing.assert_allclose(found.numpy(), wanted, 2e-4, 2e-4)
    assert {name.replace("_groups", "") for name in done} == set(MANY)


# ------------------------------------------------------------------ in groups

MANY = ["convolve", "convolve_transposed", "convolve_weight"]
GROUPED = ["convolve_groups", "convolve_groups_transposed", "convolve_groups_weight"]
DEPTHWISE = [
    "convolve_depthwise",
    "convolve_depthwise_transposed",
    "convolve_depthwise_weight",
]


@given(st.data())
def test_sizes_strides_and_edges_of_groups(data: st.DataObject) -> None:
    """By the kernel that is for the sizes, and by products of matrices."""
    spatial = data.draw(st.integers(1, 2))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(least, most)) for _ in range(spatial))

    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 3)
    before, after = each(0, 4), each(0, 4)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [
        max(1, r - a - b) + data.draw(st.integers(0, 20))
        for r, a, b in zip(reach, before, after, strict=True)
    ]
    samples, groups = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([2, 3, 5, 17]))
    channels, outputs = data.draw(st.sampled_from([(1, 1), (1, 2), (3, 1), (2, 3), (5, 17)]))
    layout = LAYOUTS[data.draw(st.sampled_from([*LAYOUTS]))]
    bias = normal(groups * outputs) if data.draw(st.booleans()) else None
    how = {"stride": stride, "dilation": dilation, "groups": groups}
    how["padding"] = tuple(zip(before, after, strict=True))
    x, weight = (
        normal(samples, groups * channels, *size),
        normal(groups * outputs, channels, *kernel),
    )
    kind = data.draw(st.sampled_from([convolutions._kind, lambda *_, **__: convolutions._MANY]))
    with mock.patch.object(convolutions, "_kind", kind):
        compare(layout(x), layout(weight), bias, **how)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [6, 2])
def test_layouts_of_groups(layout: str, channels: int) -> None:
    x, weight, bias = normal(3, channels, 6, 17), normal(6, 1, 2, 3), normal(6)
    for stride in ((1, 1), (2, 3)):
        how = {**SAME, "groups": channels, "stride": stride}
        given = (LAYOUTS[layout](a) for a in (x, weight, bias[None]))
        first, second, third = given
        compare(first, second, third[0], **how)


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "size", "names", "strided"),
    [
        (4, 8, 2, 8, [*GROUPED[:2], MANY[2]], [*GROUPED[:2], MANY[2]]),
        (4, 8, 2, 24, GROUPED, [*GROUPED[:2], MANY[2]]),
        (16, 16, 2, 32, [GROUPED[0], GROUPED[0], MANY[2]], MANY),
        (16, 16, 2, 15, [MANY[0], MANY[0], MANY[2]], MANY),
        (18, 18, 2, 32, [MANY[0], MANY[0], MANY[2]], MANY),
        (5, 5, 5, 3, [DEPTHWISE[0], DEPTHWISE[0], DEPTHWISE[2]], DEPTHWISE),
        (64, 64, 64, 9, [DEPTHWISE[0], DEPTHWISE[0], DEPTHWISE[2]], DEPTHWISE),
    ],
)
def test_which_function_of_c_computes_groups(
    channels: int,
    outputs: int,
    groups: int,
    size: int,
    names: list[str],
    strided: list[str],
    done: list[str],
) -> None:
    """The adjoint for stride 1 is a convolution itself, but for fewer channels than outputs."""
    x, bias = normal(2, channels, size, size), normal(outputs)
    weight = normal(outputs, channels // groups, 3, 3)
    compare(x, weight, bias, **{**SAME, "groups": groups})
    assert done == names
    done.clear()
    compare(x, weight, bias, **{**SAME, "groups": groups, "stride": (2, 1)})
    assert done == strided


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "names"),
    [
        (3, 4, 3, [*GROUPED[:2], MANY[2]]),
        (40, 7, 3, [GROUPED[0], *MANY[1:]]),
        (40, 7, 1, [GROUPED[0], *MANY[1:]]),
        (40, 8, 3, MANY),
    ],
)
def test_few_channels_or_outputs_need_no_products(
    channels: int, outputs: int, kernel: int, names: list[str], done: list[str]
) -> None:
    weight = normal(outputs, channels, kernel, kernel)
    all_three(normal(2, channels, 9, 9), weight, None, **{**SAME, "stride": (2, 2)})
    assert done == names


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [3, 20])
def test_one_place_of_a_filter(layout: str, channels: int) -> None:
    """Windows are elements of the image, which vectors read where they lie."""
    x, weight = LAYOUTS[layout](normal(3, channels, 9, 13)), normal(5, channels, 1, 1)
    for how in (SAME, {**SAME, "padding": ((0, 0), (0, 0))}):
        compare(x, weight, normal(5), **how)


def test_filters_in_parts_of_the_channels(done: list[str]) -> None:
    compare(normal(2, 300, 6, 5), normal(9, 300, 3, 3), normal(9), **SAME)
    assert done == [name for name in MANY for _ in range(2)]


@pytest.mark.parametrize("outputs", [2, 40])
@pytest.mark.parametrize("stride", [1, 2])
def test_rows_of_filters_in_the_padding(outputs: int, stride: int) -> None:
    """They are left out, unless a product with zero is NaN."""
    x, weight = normal(5, 3, 7, 7), normal(outputs, 3, 7, 7)
    how: dict[str, Any] = {**SAME, "stride": (stride,) * 2, "padding": ((9, 6), (3, 8))}
    compare(x, weight, normal(outputs), **how)
    weight[1, 2, 0, 4], weight[0, 1, 6, 6] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        exact = window._convolve(x.astype(np.float64), weight.astype(np.float64), **how)
    np.testing.assert_array_equal(
        np.isfinite(window._convolve(x, weight, **how)), np.isfinite(exact)
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_and_infinity_in_groups_come_out_where_they_do_in_numpy(stride: int) -> None:
    x, weight = normal(3, 4, 19, 19), normal(4, 1, 3, 3)
    x[0, 1, 0, 18], x[1, 2, 5, 5], weight[3, 0, 1, 1] = np.nan, np.inf, np.nan
    how = {**SAME, "groups": 4, "stride": (stride, stride)}
    exact = [np.isfinite(a) for a in all_three(x.astype(float), weight.astype(float), None, **how)]
    for found, finite in zip(all_three(x, weight, None, **how), exact, strict=True):
        np.testing.assert_array_equal(np.isfinite(found), finite)


@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize(("groups", "names"), [(2, GROUPED), (4, DEPTHWISE)])
def test_first_and_second_derivatives_of_groups(
    function: str, groups: int, names: list[str], done: list[str]
) -> None:
    def bent(x: Any, weight: Any) -> Any:
        return tk.tanh(getattr(F, function)(x, weight, stride=2, padding=1, groups=groups)).sum()

    arrays = normal(2, 4, 5, 5), normal(4, 4 // groups, 3, 3)
    slope = tk.grad(bent, argnums=(0, 1))
    bend = tk.grad(lambda *a: sum((g**2).sum() for g in slope(*a)), argnums=(0, 1))
    exact = [a.astype(np.float64) for a in arrays]
    for derivative in (slope, bend):
        tensors = [Tensor(a) for a in arrays]
        for found, wanted in zip(derivative(*tensors), derivative(*exact), strict=True):
            np.testing.assert_allclose(found.numpy(), wanted, 2e-4, 2e-4)
    assert set(done) == set(names)


@pytest.mark.parametrize("helpers", [0, 1, 3])
@pytest.mark.parametrize("groups", [2, 16, 32])
def test_the_same_bits_of_groups_on_any_number_of_cores(
    helpers: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = normal(7, 32, 12, 12), normal(32, 32 // groups, 3, 3), normal(32)
    hows = [{**SAME, "groups": groups, "stride": (n, n)} for n in (1, 2)]
    before = [all_three(*arrays, **how) for how in hows]
    monkeypatch.setattr(cpu, "helpers", lambda: helpers)
    found = kernels.eager_kernels()
    assert found is not None
    monkeypatch.setattr(products, "kernels", lambda dtype: found)
    for how, wanted in zip(hows, before, strict=True):
        for result, expected in zip(all_three(*arrays, **how), wanted, strict=True):
            np.testing.assert_array_equal(result, expected)


def test_a_few_multiplications_in_groups_are_numpys(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = normal(2, 4, 8, 8), normal(4, 1, 3, 3), None
    for least, by in ((2 * 4 * 64 * 9, 3), (2 * 4 * 64 * 9 + 1, 0)):
        monkeypatch.setattr(convolutions, "_MIN_MULTIPLY_ADDS_OF_GROUPS", least)
        done.clear()
        all_three(*arrays, **{**SAME, "groups": 4})
        assert len([name for name in done if name.startswith("convolve")]) == by


@pytest.mark.parametrize(
    ("channels", "weight", "groups"),
    [(34, (34, 17, 3, 3), 2), (2, (34, 1, 3, 3), 2), (51, (60, 17, 2, 3), 3), (36, (40, 18, 4), 2)],
)
def test_groups_of_many_channels(
    channels: int, weight: tuple[int, ...], groups: int, done: list[str]
) -> None:
    axes = len(weight) - 2
    how: dict[str, Any] = {"stride": (2,) * axes, "dilation": (1,) * axes, "groups": groups}
    how["padding"] = ((1, 0),) * axes
    x = normal(2, channels, *(9, 8)[:axes])
    for each in (x, LAYOUTS["channels last"](x)):
        compare(each, normal(*weight), normal(weight[0]), **how)
    assert [name.replace("_groups", "") for name in done] == 2 * MANY


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 21, 40])
def test_vectors_of_channels(channels: int, stride: int, kernel: int, done: list[str]) -> None:
    """Whole and not, for any number of windows, and filters of all their tiles."""
    how: dict[str, Any] = {**SAME, "stride": (stride, stride), "groups": channels}
    how["padding"] = ((kernel // 2, kernel // 2), (kernel - 1, 0))
    weight = normal(channels, 1, kernel, kernel)
    with mock.patch.object(convolutions, "_kind", lambda *_: convolutions._DEPTHWISE):
        for size in ((2, 2), (7, 7), (3, 19)):
            x = normal(2, channels, *size)
            for each in (x, LAYOUTS["channels last"](x), LAYOUTS["every other"](x)):
                compare(each, weight, normal(channels), **how)
    assert set(done) >= {DEPTHWISE[0], DEPTHWISE[2]}


@pytest.mark.parametrize("shape", [(2, 12, 20, 200), (1, 40, 90, 70), (2, 3, 300, 40)], ids=str)
def test_planes_in_bands(shape: tuple[int, ...]) -> None:
    """What a line of windows reaches, where a sample is larger than the cache."""
    how: dict[str, Any] = {**SAME, "stride": (2, 1), "dilation": (2, 1)}
    compare(normal(*shape), normal(9, shape[1], 3, 3), normal(9), **how)


@pytest.mark.parametrize("size", [(3, 2), (4, 4), (7, 7), (9, 14), (3, 31)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_lines_of_a_few_windows_in_groups(size: tuple[int, int], stride: int) -> None:
    """Vectors that overlap, vectors that reach over the end, and lines too short for one."""
    how: dict[str, Any] = {**SAME, "stride": (stride, stride), "groups": 4}
    x, weight = normal(3, 4, *size), normal(8, 1, 3, 3)
    for each in (x, LAYOUTS["channels last"](x), LAYOUTS["every other"](x)):
        compare(each, weight, normal(8), **how)


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_in_groups_stays_where_numpy_has_it(stride: int) -> None:
    x, weight = normal(2, 4, 7, 9), normal(4, 1, 3, 3)
    x[0, 1, 3, 8], x[1, 2, 6, 0], x[1, 3, 0, 4] = np.nan, np.inf, -np.inf
    how: dict[str, Any] = {**SAME, "stride": (stride, stride), "groups": 4}
    exact = all_three(x.astype(np.float64), weight.astype(np.float64), None, **how)
    for found, wanted in zip(all_three(x, weight, None, **how), exact, strict=True):
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))


# ------------------------------------------------------------------ float64


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "size"),
    [(3, 20, 1, 9), (20, 3, 1, 9), (20, 33, 1, 6), (6, 12, 3, 30), (12, 12, 12, 9), (300, 9, 1, 5)],
)
def test_float64(
    channels: int,
    outputs: int,
    groups: int,
    size: int,
    stride: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the same text, built for it; NumPy computes what is compared."""
    x, weight = normal(3, channels, size, size), normal(outputs, channels // groups, 3, 3)
    arrays = [a.astype(np.float64) for a in (x, weight, normal(outputs))]
    how: dict[str, Any] = {**SAME, "stride": (stride,) * 2, "groups": groups}
    exact = all_three(*arrays, **how)
    library, called = kernels.eager_convolutions_f64(), []

    def built(dtype: Any) -> Any:
        called.append(dtype)
        return library

    monkeypatch.setattr(products, "kernels", built)
    for found, wanted in zip(all_three(*arrays, **how), exact, strict=True):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted, 1e-12, 1e-12 * np.abs(wanted).max())
    assert len(called) >= 3 and set(called) == {np.dtype(np.float64)}


@pytest.mark.parametrize("kernels_of", [products._library, products._convolutions_f64])
def test_c_computes_unless_all_is_left_to_numpy(
    kernels_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where BLAS multiplies matrices faster: a choice that is pinned changes nothing."""
    both = "float32=numpy/numpy,float64=numpy/numpy"
    for pinned, is_c in (("numpy", False), (both, True), ("c", True), ("", True)):
        monkeypatch.setenv("TINYGRAD_KR_PRODUCTS", pinned)
        assert (kernels_of.__wrapped__() is not None) == is_c
    for adopted, asked, is_c in (("c", "numpy", True), ("numpy", "c", False)):
        monkeypatch.setattr(choice, "_adopted", adopted)
        monkeypatch.setenv("TINYGRAD_KR_PRODUCTS", asked)
        assert (kernels_of.__wrapped__() is not None) == is_c


# ------------------------------------------------------------------ what NumPy does


@pytest.mark.parametrize(
    ("shape", "weight", "dtype", "groups"),
    [
        ((2, 4, 5, 5), (4, 4, 3, 3), np.longdouble, 1),
        ((2, 4, 5, 5), (4, 1, 3, 3), np.longdouble, 4),
        ((1, 8, 5, 5, 5), (8, 1, 3, 3, 3), np.float32, 8),
        ((1, 20, 3, 3), (2305, 20, 1, 1), np.float32, 1),
        ((2, 514, 3, 3), (520, 257, 3, 3), np.float32, 2),
        ((2, 3, 4, 4, 4), (2, 3, 2, 2, 2), np.float32, 1),
    ],
)
def test_what_is_not_for_c(
    shape: tuple[int, ...], weight: tuple[int, ...], dtype: Any, groups: int, done: list[str]
) -> None:
    axes = len(shape) - 2
    how: dict[str, Any] = {"stride": (1,) * axes, "dilation": (1,) * axes, "groups": groups}
    how["padding"] = ((1, 0),) * axes
    all_three(normal(*shape).astype(dtype), normal(*weight).astype(dtype), None, **how)
    assert not [name for name in done if name.startswith("convolve")]


@pytest.mark.parametrize("wide", range(3))
def test_an_array_of_float64_among_those_of_float32(wide: int, done: list[str]) -> None:
    arrays = [normal(2, 3, 5, 5), normal(4, 3, 2, 2), normal(4)]
    exact = window._convolve(*(a.astype(np.float64) for a in arrays), **SAME)
    arrays[wide] = arrays[wide].astype(np.float64)
    found = window._convolve(*arrays, **SAME)
    np.testing.assert_allclose(found, exact, 1e-4, 1e-5)
    assert found.dtype == (np.float32 if wide == 2 else np.float64)
    assert "convolve" not in done


@pytest.mark.parametrize(("more", "by"), [(0, ["C"] * 3), (1, [])])
def test_limits_below_which_numpy_is_faster(
    more: int, by: list[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, windows, features, outputs = 3, 4 * 5, 2 * 3 * 2, 8
    least = samples * windows * features * outputs
    monkeypatch.setattr(convolutions, "_MIN_MULTIPLY_ADDS", least + more)
    how: dict[str, Any] = {**SAME, "padding": ((0, 0), (0, 0))}
    all_three(normal(samples, 2, 6, 6), normal(outputs, 2, 3, 2), None, **how)
    assert ["C" for name in done if name.startswith("convolve")] == by


def test_without_the_c_numpy_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = normal(4, 3, 8, 8), normal(8, 3, 3, 3), normal(8)
    in_c = all_three(*arrays, **SAME)
    monkeypatch.setattr(products, "kernels", lambda dtype: None)
    for found, wanted in zip(in_c, all_three(*arrays, **SAME), strict=True):
        close(found, wanted)


# ------------------------------------------------------------------ threads


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_the_same_bits_on_any_number_of_cores(
    helpers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = normal(23, 5, 12, 12), normal(40, 5, 3, 3), normal(40)
    before = all_three(*arrays, **SAME)
    monkeypatch.setattr(cpu, "helpers", lambda: helpers)
    found = kernels.eager_kernels()
    assert found is not None
    monkeypatch.setattr(products, "kernels", lambda dtype: found)
    for _ in range(10):
        for result, wanted in zip(all_three(*arrays, **SAME), before, strict=True):
            np.testing.assert_array_equal(result, wanted)


def test_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "helpers", lambda: 1)
    found = kernels.eager_kernels()
    monkeypatch.setattr(products, "kernels", lambda dtype: found)
    cases = [(normal(9, c, 12, 12), normal(40, c, 3, 3), normal(40)) for c in (3, 8)]
    wanted = [all_three(*case, **SAME) for case in cases]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(40):
            found = all_three(*cases[i], **SAME)
            if not all(map(np.array_equal, found, wanted[i])):
                wrong.append(i)

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(2)))
    assert not wrong


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for its memory")
def test_memory_of_threads_that_ended_is_given_back() -> None:
    arrays = normal(2, 16, 20, 20), normal(64, 16, 3, 3), None
    square = normal(400, 400)

    def work() -> None:
        all_three(*arrays, **SAME)
        products.gemm(square, square)

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])

    def run(count: int) -> int:
        for _ in range(count):
            worker = threading.Thread(target=work)
            worker.start()
            worker.join()
        return pages()

    before = run(10)
    assert (run(60) - before) * os.sysconf("SC_PAGE_SIZE") < 20e6


def test_sizes_beyond_which_there_is_no_room() -> None:
    assert convolutions._MAX_FEATURES == 2304
    header = included('#include "convolution.h"')["convolution.h"]
    assert f"#define TK_MOST {convolutions._MAX_FEATURES} " in header
