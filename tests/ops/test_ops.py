"""Every op of the table: its value, its gradients of first and second order, dtypes and layouts.

The ops are collected from the modules, so that one without samples fails here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from op_samples import REFERENCES, SAMPLES, Sample
from package_modules import package_modules

from tinygrad_kr import Tensor
from tinygrad_kr.ops.op import numpy_table
from tinygrad_kr.random import manual_seed
from tinygrad_kr.testing import check_grads, layouts


def collected() -> dict[str, Any]:
    """Every op that is a global of a module of the package, by name."""
    found: dict[str, Any] = {}
    for module in package_modules():
        for name, value in vars(module).items():
            if isinstance(value, type):
                continue
            if callable(value) and hasattr(value, "rules") and hasattr(value, "forward"):
                private = name.startswith("_") and not value.rules
                if private or value in found.values():
                    continue
                assert name not in found, f"two ops are called {name}"
                found[name] = value
    return found


OPS = collected()
ALIASES = {"_alias"}
"""Ops that do nothing but be another node; tested with the transformations that need them."""
EXCHANGES = {"all_reduce", "average_gradients"}
"""Ops between ranks, here if that package was imported; tested in `tests/distributed`."""

CASES = [(name, i) for name in SAMPLES for i in range(len(SAMPLES[name])) if name in OPS]
DIFFERENTIABLE = [case for case in CASES if OPS[case[0]].rules]


def every_sample(cases: list[tuple[str, int]]) -> Callable[[Callable[..., None]], Any]:
    """A test of (op, number of a sample) as one test an op, which goes through its samples.

    The failure of a sample names it. Called with a number the test takes that sample alone.
    """
    numbers: dict[str, list[int]] = {}
    for name, i in cases:
        numbers.setdefault(name, []).append(i)

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def over_samples(name: str, i: int | None = None, **given: Any) -> None:
            for number in numbers[name] if i is None else [i]:
                manual_seed(0)
                try:
                    test(name, number, **given)
                except BaseException as error:
                    error.add_note(f"in sample {number} of {name}")
                    raise

        parameters = inspect.signature(test).parameters.values()
        kept = inspect.Signature([p for p in parameters if p.name != "i"])
        over_samples.__signature__ = kept  # type: ignore[attr-defined]
        return pytest.mark.parametrize("name", list(numbers))(over_samples)

    return decorate


every_case = every_sample(CASES)
every_differentiable_case = every_sample(DIFFERENTIABLE)
every_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def is_float_array(x: Any) -> bool:
    return isinstance(x, ndarray) and x.dtype.kind == "f"


def cast(case: Sample, dtype: Any) -> list[Any]:
    return [x.astype(dtype) if is_float_array(x) else x for x in case.inputs]


def params_in(case: Sample, dtype: Any) -> dict[str, Any]:
    return {k: np.dtype(dtype) if k == "dtype" else v for k, v in case.params.items()}


def differentiable(name: str, inputs: Any) -> list[int]:
    """The places of the inputs that a gradient can be asked for."""
    rules, every = OPS[name].rules, OPS[name].variadic or OPS[name].one_rule_for_all
    return [
        j
        for j, x in enumerate(inputs)
        if is_float_array(x) and (every or (j < len(rules) and rules[j] is not None))
    ]


def tensors(name: str, inputs: Any) -> list[Any]:
    """The arrays as Tensors, those that have a rule requiring grad."""
    wanted = differentiable(name, inputs)
    return [
        Tensor(x, requires_grad=j in wanted) if isinstance(x, ndarray) else x
        for j, x in enumerate(inputs)
    ]


def leaves_of(inputs: list[Any]) -> list[Any]:
    return [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]


def cotangent(like: ndarray) -> ndarray:
    return np.random.default_rng(3).uniform(-1, 1, like.shape).astype(like.dtype)


def gradients(
    name: str, inputs: Any, params: dict[str, Any], g: Callable[[ndarray], ndarray] = cotangent
) -> tuple[ndarray, list[ndarray]]:
    """The op's value and the gradient of every float input, from the cotangent `g(value)`."""
    given = tensors(name, inputs)
    with np.errstate(all="ignore"):
        y = OPS[name](*given, **params)
    if not y.requires_grad:
        return y.data, []
    y.backward(g(y.data))
    return y.data, [x.grad.data for x in leaves_of(given)]


def test_every_op_has_samples_and_a_reference() -> None:
    assert OPS.keys() - SAMPLES.keys() - ALIASES - EXCHANGES == set(), (
        "ops without samples in op_samples.py"
    )
    assert SAMPLES.keys() - OPS.keys() == set(), "samples of ops that are no more"
    assert REFERENCES.keys() - OPS.keys() == set(), "references of ops that are no more"
    ours = {n for n, f in OPS.items() if "numpy" not in type(f.forward).__module__}
    ours = {n for n in ours if not OPS[n].forward.__module__.startswith("numpy")}
    assert ours - REFERENCES.keys() - ALIASES - EXCHANGES == set(), (
        "ops without a reference in op_samples.py"
    )


@pytest.mark.parametrize("name", [name for name in OPS if name in SAMPLES])
def test_samples_reach_every_differentiable_input(name: str) -> None:
    for j, rule in enumerate(OPS[name].rules):
        if rule is not None:
            assert any(j in differentiable(name, case.inputs) for case in SAMPLES[name])


# ------------------------------------------------------------------ values


@every_float
@every_case
def test_value(name: str, i: int, dtype: Any) -> None:
    case = SAMPLES[name][i]
    inputs, params = cast(case, dtype), params_in(case, dtype)
    reference = REFERENCES.get(name, OPS[name].forward)
    with np.errstate(all="ignore"):
        expected = np.asarray(reference(*inputs, **params))
        y = OPS[name](*tensors(name, inputs), **params)
    assert isinstance(y, Tensor)
    assert y.shape == expected.shape
    kind = dtype if expected.dtype.kind == "f" else expected.dtype
    assert y.dtype == kind
    tolerance = (1e-12, 1e-13) if dtype == np.float64 else (3e-5, 1e-5)
    np.testing.assert_allclose(y.data, expected.astype(kind), *tolerance)
    assert y.requires_grad == bool(differentiable(name, inputs))


BESIDE_INTEGERS = {"heaviside", "power"}
"""Ops with samples of integer arrays beside floats, of which NumPy makes float64."""


@every_case
def test_a_raw_call_keeps_float32(name: str, i: int) -> None:
    """A Tensor's result would be converted; rules call ops without Tensors."""
    case = SAMPLES[name][i]
    inputs, params = cast(case, np.float32), params_in(case, np.float32)
    with np.errstate(all="ignore"):
        y = OPS[name](*tensors(name, inputs), **params)
        raw = np.asarray(OPS[name](*inputs, **params))
    mixed = any(isinstance(x, ndarray) and x.dtype.kind in "iu" for x in inputs)
    if not (mixed and name in BESIDE_INTEGERS):
        assert raw.dtype == y.dtype


def test_a_raw_sum_keeps_float16() -> None:
    for axis in (None, 0, (0, 1)):
        assert OPS["sum_"](np.ones((3, 4), np.float16), axis=axis).dtype == np.float16


@every_case
def test_raw_call_gives_what_tensors_hold(name: str, i: int) -> None:
    """Without a Tensor an op is its forward function: rules rely on it."""
    case = SAMPLES[name][i]
    with np.errstate(all="ignore"):
        raw = OPS[name](*case.inputs, **case.params)
        y = OPS[name](*tensors(name, case.inputs), **case.params)
    assert not isinstance(raw, Tensor)
    np.testing.assert_array_equal(np.asarray(raw), y.data)


UFUNCS = [
    (name, i)
    for name, i in CASES
    if isinstance(OPS[name].forward, np.ufunc) and not SAMPLES[name][i].params
]


@every_sample(UFUNCS)
def test_numpys_own_name_serves_tensors(name: str, i: int) -> None:
    inputs = tensors(name, SAMPLES[name][i].inputs)
    function = OPS[name].forward
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(function(*inputs).data, OPS[name](*inputs).data, strict=True)
    assert numpy_table[function] is OPS[name]


# ------------------------------------------------------------------ gradients


SMALL = 12
"""Most elements whose derivatives are compared one by one in the ordinary suite."""


def check_derivatives(name: str, i: int, large: bool, fast: bool | None) -> None:
    """To second order, where the sample's inputs are as large as that."""
    case = SAMPLES[name][i]
    where = differentiable(name, case.inputs)
    size = sum(case.inputs[j].size for j in where)
    if not case.smooth or not where or large != (size > SMALL):
        return

    def f(*floats: Any) -> Any:
        inputs = list(case.inputs)
        for j, x in zip(where, floats, strict=True):
            inputs[j] = x
        return OPS[name](*inputs, **case.params)

    check_grads(f, tuple(case.inputs[j] for j in where), order=2, fast=fast)


@pytest.mark.one_in(3)
@every_differentiable_case
def test_derivatives_of_first_and_second_order(name: str, i: int) -> None:
    """Of large inputs along random directions, which see a wrong element but do not name it."""
    check_derivatives(name, i, large=False, fast=None)
    check_derivatives(name, i, large=True, fast=True)


@pytest.mark.slow
@every_differentiable_case
def test_derivatives_by_each_element_of_large_inputs(name: str, i: int) -> None:
    check_derivatives(name, i, large=True, fast=None)


def check_each_input_beside_plain_arrays(name: str, i: int) -> None:
    case = SAMPLES[name][i]
    where = differentiable(name, case.inputs)
    if not case.smooth or len(where) < 2:
        return
    for j in where:

        def f(x: Any, j: int = j) -> Any:
            return OPS[name](*case.inputs[:j], x, *case.inputs[j + 1 :], **case.params)

        check_grads(f, (case.inputs[j],), order=2)


@pytest.mark.one_in(3)
@every_sample([(name, i) for name, i in DIFFERENTIABLE if i < 2])
def test_derivatives_of_one_input_beside_plain_arrays(name: str, i: int) -> None:
    """Data are arrays, weights Tensors: at second order a rule meets both at once."""
    check_each_input_beside_plain_arrays(name, i)


@pytest.mark.slow
@every_sample([(name, i) for name, i in DIFFERENTIABLE if i >= 2])
def test_derivatives_of_one_input_beside_plain_arrays_of_other_samples(name: str, i: int) -> None:
    check_each_input_beside_plain_arrays(name, i)


@every_float
@every_differentiable_case
def test_gradient_has_the_shape_and_dtype_of_its_input(name: str, i: int, dtype: Any) -> None:
    case = SAMPLES[name][i]
    given = tensors(name, cast(case, dtype))
    y = OPS[name](*given, **params_in(case, dtype))
    if not y.requires_grad:
        return
    y.backward(cotangent(y.data))
    for x in leaves_of(given):
        assert x.grad is not None
        assert x.grad.dtype == x.dtype == dtype
        assert x.grad.shape == x.shape


@every_differentiable_case
def test_rules_compute_in_float32(name: str, i: int) -> None:
    """The walk would hide a rule that drifts to float64; it is slow and half in vain."""
    case = SAMPLES[name][i]
    record, params = OPS[name], params_in(case, np.float32)
    inputs = cast(case, np.float32)
    with np.errstate(all="ignore"):
        y = record(*tensors(name, inputs), **params)
        g = cotangent(y.data)
        for j in differentiable(name, inputs):
            rule, more = record.rules[0 if record.shared else j], {}
            if record.variadic:
                more = {"index": j}
            elif record.one_rule_for_all:
                more = {"needs": (True,) * len(inputs)}
            found = rule(g, y.data, *y._values, **more, **params)
            assert (found[j] if record.one_rule_for_all else found).dtype == np.float32


@every_differentiable_case
def test_gradient_only_where_it_is_required(name: str, i: int) -> None:
    """One input at a time, the others plain arrays: the same gradient."""
    case = SAMPLES[name][i]
    inputs = list(case.inputs)
    _, expected = gradients(name, inputs, case.params)
    for j, g in zip(differentiable(name, inputs), expected, strict=True):
        leaf = Tensor(inputs[j], requires_grad=True)
        y = OPS[name](*inputs[:j], leaf, *inputs[j + 1 :], **case.params)
        y.backward(cotangent(y.data))
        assert leaf.grad is not None
        np.testing.assert_array_equal(leaf.grad.data, g, strict=True)


# ------------------------------------------------------------------ layouts


def close(found: ndarray, expected: ndarray) -> None:
    """Equal up to the order in which a sum was taken."""
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12, strict=True)


def in_layout(layout: str, x: Any) -> Any:
    return layouts(x).get(layout, x) if isinstance(x, ndarray) else x


def every_way(inputs: list[Any], layout: str) -> Iterator[list[Any]]:
    """All inputs in a layout, then each one alone."""
    yield [in_layout(layout, x) for x in inputs]
    if len(inputs) > 1:
        for j, x in enumerate(inputs):
            if isinstance(x, ndarray):
                yield [*inputs[:j], in_layout(layout, x), *inputs[j + 1 :]]


def contiguous(x: Any) -> Any:
    return np.array(x, order="C") if isinstance(x, ndarray) else x


LAYOUTS = ("fortran", "backward", "stepped", "read-only", "offset", "broadcast")


@pytest.mark.one_in(3)
@every_case
def test_every_layout_gives_the_same(name: str, i: int) -> None:
    case = SAMPLES[name][i]
    for layout in LAYOUTS if case.repeatable else LAYOUTS[:-1]:

        def laid_out(y: ndarray, layout: str = layout) -> ndarray:
            return np.asarray(in_layout(layout, cotangent(y)))

        for inputs in every_way(list(case.inputs), layout):
            plain = [contiguous(x) for x in inputs]
            y, grads = gradients(name, plain, case.params, lambda y: contiguous(laid_out(y)))
            z, other = gradients(name, inputs, case.params, laid_out)
            close(z, y)
            for g, h in zip(grads, other, strict=True):
                close(h, g)


def stretched_ones(y: ndarray) -> ndarray:
    return np.broadcast_to(np.ones((), y.dtype), y.shape)


@every_differentiable_case
def test_a_constant_cotangent_may_be_broadcast_to_its_shape(name: str, i: int) -> None:
    """`y.sum().backward()`: the cotangent of y is one number repeated with strides 0."""
    case = SAMPLES[name][i]
    _, expected = gradients(name, case.inputs, case.params, np.ones_like)
    _, found = gradients(name, case.inputs, case.params, stretched_ones)
    for g, h in zip(expected, found, strict=True):
        close(h, g)


# ------------------------------------------------------------------ purity


def locked(x: Any) -> Any:
    return in_layout("read-only", x)


@every_case
def test_twice_the_same_and_nothing_written(name: str, i: int) -> None:
    case = SAMPLES[name][i]
    inputs = [locked(x) for x in case.inputs]
    y, grads = gradients(name, inputs, case.params, lambda y: np.asarray(locked(cotangent(y))))
    z, again = gradients(name, inputs, case.params, lambda y: np.asarray(locked(cotangent(y))))
    for first, second in zip([y, *grads], [z, *again], strict=True):
        np.testing.assert_array_equal(first, second, strict=True)
    for x, old in zip(inputs, case.inputs, strict=True):
        np.testing.assert_array_equal(x, old)


@every_differentiable_case
def test_gradients_share_no_memory(name: str, i: int) -> None:
    """What lands in `.grad` belongs to that leaf alone."""
    case = SAMPLES[name][i]
    given = tensors(name, case.inputs)
    y = OPS[name](*given, **case.params)
    if not y.requires_grad:
        return
    g = cotangent(y.data)
    y.backward(g)
    leaves = leaves_of(given)
    owned = [x.grad.data for x in leaves]
    others = [g, y.data, *(x.data for x in given if isinstance(x, Tensor))]
    for k, grad in enumerate(owned):
        assert not any(np.shares_memory(grad, other) for other in [*owned[:k], *others])
        assert grad.flags.writeable != leaves[k].grad.is_sparse  # of a sparse one, read-only
