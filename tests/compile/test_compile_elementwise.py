"""Which elementwise ops are loops of C in a compiled program; which are NumPy calls, and why."""

from __future__ import annotations

import platform
from itertools import product
from typing import Any

import numpy as np
import pytest
from op_samples import SAMPLES
from test_ops import OPS, cast, params_in

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.plan.classify import lowering_of
from tinygrad_kr.compile.plan.steps import Loop
from tinygrad_kr.ops import elementwise

NAMES = sorted(
    name
    for name, record in OPS.items()
    if vars(elementwise).get(name) is record and name in SAMPLES
)
INTEGERS = ["int32", "int64"]
FLOATS = ["float32", "float64"]
X86 = platform.machine().lower() in ("x86_64", "amd64")

NUMPY_CALLS: dict[tuple[str, str], str] = {
    ("power_derivative", "floats"): "more than one derivative is a sum with limits at base 0",
    ("subgradient_product", "integers"): "derivatives are floats",
    ("power", "integers"): "a negative exponent raises",
    ("round", "integers"): "a negative number of decimals divides integers",
    ("tanh_vjp", "floats"): "a trace records what it is made of",
    ("tanh_vjp", "integers"): "derivatives are floats",
    ("exp_share", "floats"): "a trace records what it is made of",
    ("exp_share_slope", "floats"): "a trace records what it is made of",
}
"""By op and kind of its inputs, why some samples are calls of NumPy."""


def program_of(op: Any, inputs: list[Any], params: dict[str, Any]) -> Program:
    """The program of one op."""
    values = [
        Value(i, x.shape, x.dtype, x.strides) if isinstance(x, np.ndarray) else x
        for i, x in enumerate(inputs)
    ]
    with np.errstate(all="ignore"):
        y = np.asarray(op.forward(*inputs, **params))
    output = Value(len(values), y.shape, y.dtype, y.strides)
    given = {value: None for value in values if isinstance(value, Value)}
    instruction = Instruction(op, tuple(values), params, output, "here")
    return Program(inputs=given, instructions=[instruction], results=[output])  # type: ignore[arg-type]


def is_all_loops(program: Program) -> bool:
    """Whether C computes each op of a program in a loop."""
    return all(lowering_of(s).kind is Loop for s in expanded(program).instructions)


@pytest.mark.parametrize("dtype", FLOATS)
def test_elementwise_ops_of_floats_are_loops(dtype: str) -> None:
    """All samples of all elementwise ops, but those of the closed list."""
    kind, calls = np.dtype(dtype).type, set()
    for name in NAMES:
        for case in SAMPLES[name]:
            inputs = cast(case, kind)
            arrays = [x for x in inputs if isinstance(x, np.ndarray)]
            if any(x.dtype.kind in "iu" or not x.size for x in arrays):
                continue
            if not is_all_loops(program_of(OPS[name], inputs, params_in(case, kind))):
                calls.add((name, "floats"))
    assert calls == {key for key in NUMPY_CALLS if key[1] == "floats"}


def of_integers(name: str) -> bool:
    """Whether an op takes arrays of integers alone, and gives integers or bools."""
    given = [np.array([3, 1])] * len(SAMPLES[name][0].inputs)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(OPS[name].forward(*given)).dtype.kind in "ib"
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize("dtype", INTEGERS)
def test_elementwise_ops_of_integers_are_loops(dtype: str) -> None:
    """All elementwise ops that give integers or bools, but those of the closed list."""
    x, calls = np.array([[3, 1, -2]], dtype), set()
    for name in filter(of_integers, NAMES):
        inputs = [abs(x) if name == "power" else x] * len(SAMPLES[name][0].inputs)
        if not is_all_loops(program_of(OPS[name], inputs, {})):
            calls.add((name, "integers"))
    assert calls == {key for key in NUMPY_CALLS if key[1] == "integers"}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_numpys(dtype: str) -> None:
    """Wrapping around, divisors 0 and -1, the least integer."""
    ends = np.iinfo(dtype)
    values = [ends.min, ends.min + 1, -7, -1, 0, 1, 2, 3, 7, ends.max]
    a, b = np.array(list(product(values, repeat=2)), dtype).T
    names = [name for name in NAMES if of_integers(name) and (name, "integers") not in NUMPY_CALLS]

    ops = [(OPS[name], len(SAMPLES[name][0].inputs)) for name in names]

    def every(a: Tensor, b: Tensor) -> list[Any]:
        return [op(*[a, b, a][:count]) for op, count in ops]

    compiled = tk.compile(every)
    with np.errstate(all="ignore"):
        for _ in range(3):
            found = compiled(Tensor(a), Tensor(b))
        expected = every(Tensor(a), Tensor(b))
    assert " 0 NumPy calls" in str(compiled)
    for name, x, y in zip(names, found, expected, strict=True):
        np.testing.assert_array_equal(x.data, y.data, strict=True, err_msg=name)


def test_comparisons_of_two_dtypes_are_numpys() -> None:
    """int64 and float32 are compared as float64."""
    a = np.array([2**24 + 1, 2**53 + 1, -1, 3], np.int64)
    b = np.array([2**24, 2**53, -1, 3.5], np.float32)
    compiled = tk.compile(lambda a, b: (a == b, a > b, b <= a, (a == a) == (b > 0)))
    for _ in range(3):
        found = compiled(Tensor(a), Tensor(b))
    assert " 0 NumPy calls" in str(compiled)
    for x, y in zip(found, (a == b, a > b, b <= a, (a == a) == (b > 0)), strict=True):
        np.testing.assert_array_equal(x.data, y, strict=True)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("bounds", [(-1, 2), (None, 2), (-1, None), (2, -1), (0, 0)])
def test_clip_is_numpys(dtype: str, bounds: tuple[Any, Any]) -> None:
    """With one bound or both, crossed ones too; zeros keep their sign as NumPy's do."""
    x = np.array([-5, -1, 0, 1, 2, 7], dtype)
    if x.dtype.kind == "f":
        x = np.concatenate([x, np.array([-0.0, np.nan, np.inf, -np.inf, 1.5], dtype)])
    compiled = tk.compile(lambda x: x.clip(*bounds))
    for _ in range(3):
        found = compiled(Tensor(x))
    assert " 0 NumPy calls" in str(compiled)
    np.testing.assert_array_equal(found.data, np.clip(x, *bounds), strict=True)
    if x.dtype.kind == "f" and X86:
        np.testing.assert_array_equal(np.signbit(found.data), np.signbit(np.clip(x, *bounds)))
