"""Composed activations that C computes in one pass give what their compositions give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from numpy_alone import leave_all_to_numpy

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr.autodiff import topological_order
from tinygrad_kr.explain.monitoring.activity import _activations
from tinygrad_kr.functional import activations
from tinygrad_kr.native.blocks import _PARAMETERS
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.ops import kernels

needs_c = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
every_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])

CASES: dict[str, Callable[[Any], Any]] = {
    "celu": lambda x: F.celu(x, alpha=0.7),
    "elu": lambda x: F.elu(x, 1.5),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": lambda x: F.hardtanh(x, -1, max_val=2.0),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "silu": F.silu,
    "softplus": lambda x: F.softplus(x, threshold=3.0, beta=2),
}
every_case = pytest.mark.parametrize("name", sorted(CASES))
SPECIAL = [0.0, -0.0, -1.0, 2.0, -3.0, 3.0, 6.0, 1e-30, -1e-30, 80.0, -80.0, 1e30, -1e30]


def points(dtype: Any) -> ndarray:
    generator = np.random.default_rng(5)
    x = np.concatenate([3 * generator.standard_normal(4995), SPECIAL]).astype(dtype)
    return x.reshape(16, -1)


def both_ways(function: Callable[[Any], Any], x: ndarray) -> tuple[Any, ndarray, ndarray]:
    """The op that computed it, values, and the cotangent of the input for one in [1, 2]."""
    leaf = tk.tensor(x, requires_grad=True)
    y = function(leaf)
    y.backward(tk.tensor(np.linspace(1, 2, x.size, dtype=x.dtype).reshape(x.shape)))
    return y._op, y.detach().numpy(), leaf.grad.numpy()


def close(found: ndarray, expected: ndarray) -> None:
    assert found.dtype == expected.dtype
    tolerance = 64 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`both_ways` without the kernels."""

    def run(*given: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "is_composed_in_c", lambda x: False)
            return both_ways(*given)

    return run


def test_every_function_of_the_header_is_here() -> None:
    assert set(_PARAMETERS["composed"]) == {
        f"{name}{vjp}" for name in CASES for vjp in ("", "_vjp")
    }


@needs_c
@every_case
@every_float
def test_values_and_cotangents(name: str, dtype: Any, composed: Callable[..., Any]) -> None:
    x = points(dtype)
    with np.errstate(all="ignore"):
        record, y, dx = both_ways(CASES[name], x)
        other, expected, slope = composed(CASES[name], x)
    assert record.__name__ == name
    assert other.__name__ != name
    close(y, expected)
    close(dx, slope)


@needs_c
@every_case
def test_arrays_in_any_order(name: str, composed: Callable[..., Any]) -> None:
    x = points(np.float64)
    for view in (x.T, x[:, ::-1], x[::2], np.moveaxis(x.reshape(4, 4, -1), -1, 1)):
        _, y, dx = both_ways(CASES[name], view)
        _, expected, slope = composed(CASES[name], view)
        close(y, expected)
        close(dx, slope)


@needs_c
@every_case
def test_nan_stays_nan(name: str, composed: Callable[..., Any]) -> None:
    x = np.full(600, np.nan)
    with np.errstate(all="ignore"):
        _, y, dx = both_ways(CASES[name], x)
        _, _, slope = composed(CASES[name], x)
    assert np.isnan(y).all()
    assert np.array_equal(np.isnan(dx), np.isnan(slope))


@needs_c
@every_case
def test_second_derivatives(name: str, composed: Callable[..., Any]) -> None:
    """Along a direction, of a smooth function of the slopes, by the rules of the composition."""
    x = points(np.float64)[:, :-13]

    def curvature(x: Any) -> Any:
        return tk.hvp(lambda x: (CASES[name](x) * x).sum(), (x,), (np.ones(x.shape),))[0]

    found = curvature(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "is_composed_in_c", lambda x: False)
        expected = curvature(x)
    close(found, expected)


@needs_c
def test_graph_that_is_walked_while_a_step_is_recorded() -> None:
    """The forward pass ran before: its op gets Tensors that record nothing."""
    x = points(np.float32)
    leaf = tk.tensor(x, requires_grad=True)

    @tk.compile
    def slopes(given: Any) -> Any:
        (g,) = tk.autograd.grad(F.hardswish(given).sum(), given)
        return g

    F.hardswish(leaf).sum().backward()
    expected, leaf.grad = leaf.grad.numpy(), None
    for _ in range(4):
        np.testing.assert_allclose(slopes(leaf).numpy(), expected, rtol=1e-5, atol=1e-6)
    y = F.hardswish(leaf).sum()
    outside = tk.compile(lambda: tk.autograd.grad(y, leaf, retain_graph=True)[0])
    for _ in range(4):
        np.testing.assert_allclose(outside().numpy(), expected, rtol=1e-5, atol=1e-6)


@needs_c
def test_what_is_left_to_the_composition() -> None:
    x = points(np.float32)
    few = tk.tensor(x[0, :100], requires_grad=True)
    assert F.silu(few)._op.__name__ == "multiply"
    slope = tk.tensor(0.5, requires_grad=True)
    y = F.leaky_relu(tk.tensor(x), slope)  # a slope with a gradient
    y.sum().backward()
    np.testing.assert_allclose(slope.grad.item(), x[x <= 0].sum(dtype=np.float64), rtol=1e-4)
    assert F.silu(tk.tensor(x[:, :100].astype(np.float16))).dtype == np.float16
    assert isinstance(F.silu(x), ndarray)
    batched = tk.vmap(F.hardswish)(x)
    close(batched, F.hardswish(tk.tensor(x)).numpy())
    for wrong in (lambda: F.silu(tk.tensor(x), 1.0), lambda: F.elu(tk.tensor(x), beta=1.0)):
        with pytest.raises(TypeError):
            wrong()


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_all_to_numpy(monkeypatch)
    leaf = tk.tensor(points(np.float32), requires_grad=True)
    assert activations.hardswish(leaf)._op.__name__ != "hardswish"


@needs_c
def test_the_kernel_fails_after_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward then takes the composition, on arrays."""
    x = points(np.float64)
    leaf = tk.tensor(x, requires_grad=True)
    y = F.mish(leaf)
    monkeypatch.setattr(activations, "_in_c", lambda *_, **__: None)
    y.sum().backward()
    found = leaf.grad.numpy().copy()
    leaf.grad = None
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "is_composed_in_c", lambda x: False)
        F.mish(leaf).sum().backward()
    assert np.array_equal(found, leaf.grad.numpy())


@needs_c
@pytest.mark.parametrize("name", ["silu", "mish", "elu", "leaky_relu"])
def test_a_monitor_shows_them_by_name_in_every_size(name: str) -> None:
    x = tk.tensor(points(np.float32), requires_grad=True)
    for given in (x, x[:2, :5]):
        y = getattr(F, name)(given * 1.0)
        assert [kind for _, kind in _activations(topological_order([y]))] == [name]
