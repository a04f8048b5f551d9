"""Every op of the table under vmap: values and gradients are those of a loop over the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from harness import TOLERANCE, compare
from numpy import ndarray
from op_samples import SAMPLES, Sample
from test_compile_ops import GROUPS
from test_ops import CASES, OPS, every_sample

import tinygrad_kr as tk
from tinygrad_kr import Tensor

N = 3
DRAWS = {"dropout_mask"}
OUTSIDE = {"_table_rows_op"}
"""Ops that are recorded outside of transformations alone: `F.embedding` chooses."""
RECOMPUTED = {"max_pool_vjp": 2}
"""Ops of an input that another one decides: its number."""
_GROUPS = [[name for name in names if name not in OUTSIDE] for names in GROUPS]
HALVES = [half for names in _GROUPS for half in (names[:6], names[6:]) if half]
"""Ops that are compiled together."""
BATCHED = [case for case in CASES if case[0] not in DRAWS | OUTSIDE]
every_case = every_sample(BATCHED)


def varied(x: Any, i: int) -> Any:
    """Row `i` of a batch: other numbers of the same kind, for an op as good as those of `x`."""
    if x.dtype.kind == "f":
        return x * (1 + 0.01 * i) + np.where(x < 0, -0.003, 0.003) * i * (x != 0)
    return np.roll(x, i)


def stacked(x: Any) -> Any:
    return np.stack([varied(x, i) for i in range(N)])


class Array(NamedTuple):
    """Stands for an array of a sample."""


ARRAY = Array()


class Batch:
    """A sample with rows for some of its arrays, of the inputs and then of the parameters."""

    def __init__(self, name: str, case: Sample, mapped: list[bool], axis: int) -> None:
        self.op, self.given = OPS[name], arrays_of(case)
        self.inputs = [ARRAY if type(x) is ndarray else x for x in case.inputs]
        self.params = {key: replaced(param, lambda: ARRAY) for key, param in case.params.items()}
        self.axes = [axis if one else None for one in mapped]
        self.args = [
            np.moveaxis(stacked(x), 0, axis) if one else x
            for x, one in zip(self.given, mapped, strict=True)
        ]

    def of_row(self, *arrays: Any) -> Any:
        """The op on one row."""
        left = iter(arrays)
        inputs = [next(left) if x is ARRAY else x for x in self.inputs]
        params = {
            name: replaced(param, lambda: next(left)._data, kind=type(ARRAY))
            for name, param in self.params.items()
        }
        return self.op(*inputs, **params)

    def by_loop(self, *args: Any) -> Any:
        """The op on each row, stacked."""
        rows = [
            self.of_row(
                *(
                    x if axis is None else row(x, i, axis)
                    for x, axis in zip(args, self.axes, strict=True)
                )
            )
            for i in range(N)
        ]
        return tk.stack(rows)

    def at_once(self, *args: Any) -> Any:
        return tk.vmap(self.of_row, tuple(self.axes))(*args)


def row(x: Any, i: int, axis: int) -> Any:
    return x[(*(slice(None),) * (axis % x.ndim), i)]


def arrays_of(case: Sample) -> list[ndarray]:
    found = [x for x in case.inputs if type(x) is ndarray]
    for param in case.params.values():
        replaced(param, lambda: None, found)
    return found


def replaced(
    param: Any, make: Callable[[], Any], found: list[Any] | None = None, kind: type = ndarray
) -> Any:
    if type(param) is kind:
        if found is not None:
            found.append(param)
        return make()
    if type(param) is tuple:
        return tuple(replaced(part, make, found, kind) for part in param)
    return param


def choices(name: str, case: Sample) -> list[list[bool]]:
    """Which of the arrays are mapped: all of them, and each alone.

    Truth values among the parameters are not: an index, and masks of sequences, which `peek` finds.
    """
    arrays = arrays_of(case)
    params = len(arrays) - sum(type(x) is ndarray for x in case.inputs)
    behind = [False] * (len(arrays) - params) + [True] * params
    fixed = [one and x.dtype == np.bool_ for x, one in zip(arrays, behind, strict=True)]
    every = [not one for one in fixed]
    alone = [[i == j for j in range(len(arrays))] for i in range(len(arrays)) if not fixed[i]]
    return [every, *alone] if len(arrays) > 1 and name not in RECOMPUTED else [every]


def batches(name: str, case: Sample) -> list[Batch]:
    return [
        Batch(name, case, mapped, axis)
        for number, mapped in enumerate(choices(name, case))
        for axis in [-1 if number else 0]
        if any(mapped)
    ]


def gradients(function: Callable[..., Any], args: list[Any]) -> list[Any]:
    """The gradients of a weighted sum by the floats among the arguments."""
    tensors = [Tensor(x.copy(), requires_grad=x.dtype.kind == "f") for x in args]
    y = function(*tensors)
    if not y.requires_grad:
        return []
    leaves = [t for t in tensors if t.requires_grad]
    g = tk.ones_like(y) * np.linspace(0.5, 1.5, y.size).reshape(y.shape)
    return list(tk.autograd.grad(y, leaves, g, materialize_grads=True))


def same(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.one_in(2)
@every_case
def test_values_and_gradients_are_those_of_a_loop(name: str, i: int) -> None:
    for batch in batches(name, SAMPLES[name][i]):
        same(
            batch.at_once(*map(Tensor, batch.args)),
            batch.by_loop(*map(Tensor, batch.args)),
        )
        found = gradients(batch.at_once, batch.args)
        for one, expected in zip(found, gradients(batch.by_loop, batch.args), strict=True):
            same(one, expected)


@pytest.mark.one_in(2)
@every_case
def test_gradients_of_each_row_are_those_of_a_loop(name: str, i: int) -> None:
    batch = batches(name, SAMPLES[name][i])[0]
    floats = [j for j, x in enumerate(batch.args) if x.dtype.kind == "f"]
    if not floats or not OPS[name].rules:
        return

    def total(*arrays: Any) -> Any:
        y = batch.of_row(*arrays)
        return (y * np.linspace(0.5, 1.5, y.size).reshape(y.shape)).sum()

    if Tensor(batch.of_row(*map(Tensor, batch.given))).dtype.kind != "f":
        return
    grad = tk.grad(total, floats)
    found = tk.vmap(grad, tuple(batch.axes))(*map(Tensor, batch.args))
    rows = [
        grad(
            *(
                Tensor(row(x, i, a) if a is not None else x)
                for x, a in zip(batch.args, batch.axes, strict=True)
            )
        )
        for i in range(N)
    ]
    for one, *expected in zip(found, *rows, strict=True):
        same(one, tk.stack(expected))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id=names[0], marks=[pytest.mark.slow] if number % 3 else [])
        for number, names in enumerate(HALVES)
    ],
)
def test_compiled_ops_of_a_batch_give_what_eager_ones_do(names: list[str]) -> None:
    every = [batches(name, SAMPLES[name][0])[0] for name in names if SAMPLES[name][0].inputs]
    sizes = np.cumsum([len(batch.args) for batch in every])[:-1]

    def results(*arrays: Any) -> list[Any]:
        parts = np.split(np.arange(len(arrays)), sizes)
        return [
            (batch.at_once(*given).detach(), gradients_of(batch, given))
            for batch, part in zip(every, parts, strict=True)
            for given in [[arrays[i] for i in part]]
        ]

    arrays = [Tensor(x) for batch in every for x in batch.args]
    compare(results, *arrays, scales=[1] * 4, rtol=TOLERANCE["float64"], of_largest=True)


def gradients_of(batch: Batch, given: list[Any]) -> list[Any]:
    tensors = [t.detach().requires_grad_(t.dtype.kind == "f") for t in given]
    y = batch.at_once(*tensors)
    if not y.requires_grad:
        return []
    leaves = [t for t in tensors if t.requires_grad]
    return list(tk.autograd.grad(y.sum(), leaves, materialize_grads=True))
