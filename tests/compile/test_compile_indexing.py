"""Slices and what is put together, compiled: in C, and as eager mode has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import pytest
from harness import backend as backend

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile import Compiled
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.ops.shape import pad

IN_C = find_compiler() is not None

KEYS: dict[str, Any] = {
    "after the first": np.s_[1:],
    "before the last": np.s_[:-1],
    "one": np.s_[2],
    "a NumPy integer": np.int64(-1),
    "every second": np.s_[::2],
    "every third from the second": np.s_[1::3],
    "backwards": np.s_[::-1],
    "backwards in steps": np.s_[-2:0:-2],
    "none": np.s_[3:3],
    "a new axis": np.s_[None, 1:4],
    "all": np.s_[...],
    "the last axis": np.s_[..., 1:-1],
    "a column": np.s_[:, 0],
    "both axes": np.s_[1:4, ::2],
    "both axes backwards": np.s_[::-2, ::-1],
    "an element": np.s_[1, -1],
    "an element and a new axis": np.s_[1, None, 2],
    "none of the last axis": np.s_[..., 2:2],
}


def compare(f: Callable[..., Any], *arrays: np.ndarray, calls: int = 0) -> Compiled:
    """`harness.compare`; calls: of NumPy, in the C program."""
    found = harness.compare(f, *map(Tensor, arrays))
    if "NumPy calls" in str(found) and "C function" in str(found):
        assert f" {calls} NumPy calls" in str(found)
    return found


def layouts(shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    """The same elements, NaN and infinity among them, in several layouts."""
    size = int(np.prod(shape))
    flat = np.linspace(-2, 2, size).astype(dtype)
    flat[: size // 2 : 3] = np.nan
    flat[1 : size // 2 : 4] = np.inf
    rows = flat.reshape(shape)
    wide = np.repeat(rows, 2, axis=-1)
    return {"C": rows, "Fortran": np.asfortranarray(rows), "gaps": wide[..., ::2]}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_a_slice_and_its_adjoint(key: Any, dtype: str, backend: str) -> None:
    def f(x: Tensor, y: Tensor) -> list[Tensor]:
        x, y = (t.detach().requires_grad_() for t in (x, y))
        part = x[key]
        loss = (part * part * 3).sum() + (y[key] * 2).sum() + (x * y).sum()
        return [part.detach(), *tk.autograd.grad(loss, [x, y])]

    given = layouts((5, 4), dtype)
    for array in given.values():
        compare(f, array, given["C"])


@pytest.mark.parametrize("key", [np.s_[1:], np.s_[::-2], np.s_[2], np.s_[1:1]], ids=str)
def test_the_adjoint_alone_is_a_result_of_its_own(key: Any, backend: str) -> None:
    def f(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        return list(tk.autograd.grad((x[key] ** 2).sum(), [x]))

    compiled = compare(f, np.arange(6.0))
    kept = compiled(Tensor(np.arange(6.0)))[0]
    before = kept.numpy().copy()
    compiled(Tensor(np.ones(6)))
    np.testing.assert_array_equal(kept.numpy(), before)


def test_the_adjoint_of_the_adjoint(backend: str) -> None:
    def f(x: Tensor, v: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        y = (x[1:] ** 3 * x[:-1]).sum()
        (g,) = tk.autograd.grad(y, [x], create_graph=True)
        return [g.detach(), *tk.autograd.grad((g * v).sum(), [x])]

    compare(f, np.linspace(-1, 2, 7), np.linspace(3, 1, 7))


def test_one_cotangent_for_two_slices(backend: str) -> None:
    def f(x: Tensor, y: Tensor) -> list[Tensor]:
        x, y = (t.detach().requires_grad_() for t in (x, y))
        loss = (x[1:] + x[:-1] + y[::2] + 1).square().sum()
        return list(tk.autograd.grad(loss, [x, y]))

    compare(f, np.linspace(-1, 2, 5), np.linspace(3, 1, 8))


def test_a_cotangent_that_numpy_reads_too(backend: str) -> None:
    def f(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        (g,) = tk.autograd.grad((x[1:] ** 2).sum() + (x**3).sum(), [x])
        return [g, tk.cumsum(g[:3] * 2, 0), tk.cumsum(g, 0)]

    compare(f, np.linspace(-1, 2, 6), calls=2)
    compare(lambda x: [tk.cumsum(y := x * 2, 0), tk.cat([y, x])], np.arange(3.0), calls=1)


def test_a_cotangent_that_is_a_result_too(backend: str) -> None:
    def f(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        part = x[1:]
        return [g * 1 for g in tk.autograd.grad((part**2).sum(), [x, part])]

    compare(f, np.linspace(-1, 2, 6))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_joined_arrays(dtype: str, axis: int, backend: str) -> None:
    def f(x: Tensor, y: Tensor) -> list[Tensor]:
        z = tk.where(x == y, x, y)
        rows = tk.cat([x, z, y, x], axis)
        return [rows, tk.stack([x, z, z], axis), rows.flip(0)[1:]]

    first = np.arange(12).reshape(3, 4) % 5
    compare(f, (first % 2).astype(dtype), np.asfortranarray(first).astype(dtype))


def test_joined_arrays_of_several_dtypes_and_sizes(backend: str) -> None:
    def f(x: Tensor, y: Tensor) -> list[Tensor]:
        return [tk.cat([x, y * 2, x[:0], y]) * 2, tk.stack([x[:2].sum(), y[0], y[1] * 2])]

    compare(f, np.arange(3, dtype=np.float32), np.linspace(0, 1, 4))


def test_gradients_of_joined_arrays(backend: str) -> None:
    def f(x: Tensor, y: Tensor) -> list[Tensor]:
        x, y = (t.detach().requires_grad_() for t in (x, y))
        rows = tk.cat([x, y, x * y], 1)
        planes = tk.stack([x, x + y], 0)
        loss = (rows**2).sum() + (planes[1] * planes[0]).sum()
        return [rows.detach(), *tk.autograd.grad(loss, [x, y])]

    rows = layouts((2, 3), "float64")
    compare(f, rows["Fortran"], rows["C"])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("value", [0.0, -1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("widths", [((1, 2), (0, 3)), ((0, 0), (0, 0)), ((2, 0), (1, 0))])
def test_padding(widths: Any, value: float, backend: str) -> None:
    def f(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        y = np.pad(x, widths, constant_values=value)
        weights = np.arange(y.size, dtype=float).reshape(y.shape)
        return [y.detach() * 2, *tk.autograd.grad((tk.where(y == y, y, 0) * weights).sum(), [x])]

    compare(f, layouts((2, 3), "float64")["Fortran"])


def test_padding_of_one_number(backend: str) -> None:
    compare(lambda x: [pad(x * 2, widths=()) + 1, pad(x, widths=())], np.array(1.5))


def test_truth_values_as_indices_stay_with_numpy(backend: str) -> None:
    rows = np.array([2, 0, 2])

    def f(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        return list(tk.autograd.grad((x[rows] ** 2).sum() + (x[True] ** 3).sum(), [x]))

    compare(f, np.linspace(-1, 2, 4), calls=2)


@pytest.mark.skipif(not IN_C, reason="there is no C compiler")
def test_the_gradient_of_a_chain_is_one_c_function() -> None:
    def rosenbrock(x: Tensor) -> Tensor:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    compiled = tk.compile(tk.grad(rosenbrock))
    point = np.linspace(-1.5, 1.5, 100)
    for _ in range(3):
        np.testing.assert_allclose(compiled(point), tk.grad(rosenbrock)(point), 1e-12)
    assert "1 C function of 5 loops, 0 NumPy calls" in str(compiled)
