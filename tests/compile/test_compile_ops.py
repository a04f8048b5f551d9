"""Every op of the table, compiled: its value and gradients are those of the eager run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from harness import TOLERANCE, compare
from harness import backend as backend
from op_samples import SAMPLES
from test_ops import OPS, cast, differentiable, params_in

import tinygrad_kr as tk
from tinygrad_kr import Tensor

NAMES = sorted(name for name in SAMPLES if name in OPS and name != "dropout_mask")
GROUPS = [NAMES[start : start + 12] for start in range(0, len(NAMES), 12)]
DTYPES = ["float32", "float64"]
FEW = 2
"""Samples of an op in the ordinary suite."""


def groups_and_dtypes(groups: list[list[str]]) -> list[Any]:
    """Each group of names in one dtype for the ordinary suite, the next group in the other."""
    return [
        pytest.param(
            names,
            dtype,
            id=f"{names[0]}..{names[-1]}-{dtype}",
            marks=[pytest.mark.slow] if (number + which) % 2 else [],
        )
        for number, names in enumerate(groups)
        for which, dtype in enumerate(DTYPES)
    ]


class Case(NamedTuple):
    """A sample without its arrays, which the compiled function takes as arguments."""

    title: str
    op: Any
    inputs: list[Any]
    params: dict[str, Any]
    wanted: list[int]


ARRAY = "an array"


def cases_of(names: list[str], dtype: Any, most: int | None) -> list[Case]:
    """The first samples of these ops."""
    return [
        Case(
            f"{name} {i}",
            OPS[name],
            [ARRAY if isinstance(x, np.ndarray) else x for x in case.inputs],
            params_in(case, dtype),
            differentiable(name, cast(case, dtype)),
        )
        for name in names
        for i, case in enumerate(SAMPLES[name][:most])
    ]


def results_of(cases: list[Case], dtype: Any, arrays: list[Any]) -> dict[str, Any]:
    """Value and gradients of every sample of the ops, the samples' arrays in order in `arrays`."""
    given = iter(arrays)
    results: dict[str, Any] = {}
    for case in cases:
        inputs = [next(given) if x is ARRAY else x for x in case.inputs]
        for j in case.wanted:
            inputs[j] = inputs[j].detach().requires_grad_()
        y = case.op(*inputs, **case.params)
        results[case.title] = y.detach()
        if y.requires_grad:
            leaves = [inputs[j] for j in case.wanted]
            g = tk.ones_like(y) * np.linspace(0.5, 1.5, y.size, dtype=dtype).reshape(y.shape)
            found = tk.autograd.grad(y, leaves, g, materialize_grads=True)
            results |= {f"{case.title} d{j}": x for j, x in zip(case.wanted, found, strict=True)}
    return results


def tensors_of(names: list[str], dtype: Any, most: int | None) -> list[Tensor]:
    """The arrays of the samples, in order."""
    return [
        Tensor(x)
        for name in names
        for case in SAMPLES[name][:most]
        for x in cast(case, dtype)
        if isinstance(x, np.ndarray)
    ]


def check(names: list[str], dtype: str, most: int | None = None) -> None:
    """One compiled function of the first samples of these ops."""
    kind = np.dtype(dtype).type
    arrays, cases = tensors_of(names, kind, most), cases_of(names, kind, most)
    compare(
        lambda *given: results_of(cases, kind, list(given)),
        *arrays,
        scales=[1] * 4,
        rtol=TOLERANCE[dtype],
        of_largest=True,
    )


@pytest.mark.one_in(2)
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(("names", "dtype"), groups_and_dtypes(GROUPS))
def test_compiled_ops_give_what_eager_ones_do(names: list[str], dtype: str) -> None:
    check(names, dtype, FEW)


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: f"{names[0]}..{names[-1]}")
def test_every_sample(names: list[str], dtype: str) -> None:
    check(names, dtype)
