"""Updates of large parameters in C: the bits of NumPy's, and NumPy where C cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import needs_compiler
from optimizer_samples import IDS, OPTIMIZERS

import tinygrad_kr as tk
from tinygrad_kr import Tensor, optim
from tinygrad_kr.optim import in_c

SIZES = (in_c.MIN_SIZE, 5, 2**17 + 1)
IN_C = {"SGD", "RMSprop", "Adagrad", "Adadelta", "Adam", "AdamW", "NAdam", "Adamax", "Lion"}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[in_c.Loop]:
    """The loops that are called for; each is built at once, not in another thread."""
    loops: list[in_c.Loop] = []

    def begin(self: in_c.Loop) -> None:
        self.is_begun = True
        self.build()
        loops.append(self)

    monkeypatch.setattr(in_c.Loop, "begin", begin)
    monkeypatch.setattr(in_c, "_loops", {})
    return loops


def trained(name: str, options: dict[str, Any], dtype: str, steps: int = 4) -> list[bytes]:
    """The bytes of parameters and state after some steps, with one NaN for all."""
    generator = np.random.default_rng(3)
    parameters = [
        Tensor(generator.standard_normal(n).astype(dtype), requires_grad=True) for n in SIZES
    ]
    optimizer = getattr(optim, name)(parameters, **{"lr": 0.01, **options})
    for step in range(steps):
        for p in parameters:
            g = generator.standard_normal(p.shape).astype(dtype)
            g[:3] = 0, -0.0, np.nan if step == 2 else 1e-30
            p.grad = Tensor(g)
        optimizer.step()
    state = optimizer.state_dict()["state"]
    arrays = [p.data for p in parameters]
    arrays += [np.asarray(x) for own in state.values() for x in own.values()]
    return [np.where(np.isnan(array), np.nan, array).tobytes() for array in arrays]


@needs_compiler
@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_c_gives_numpys_bits(
    name: str,
    options: dict[str, Any],
    dtype: str,
    built: list[in_c.Loop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = trained(name, options, dtype)
    assert name not in IN_C or built
    assert all(loop.function is not None for loop in built)
    monkeypatch.setenv("TINYGRAD_KR_PRODUCTS", "numpy")
    before = len(built)
    assert trained(name, options, dtype) == found
    assert len(built) == before


@needs_compiler
def test_small_parameters_and_other_dtypes_stay_with_numpy(built: list[in_c.Loop]) -> None:
    small = Tensor(np.ones(in_c.MIN_SIZE - 1, np.float32), requires_grad=True)
    half = Tensor(np.ones(2 * in_c.MIN_SIZE, np.float16), requires_grad=True)
    optimizer = optim.SGD([small, half], lr=0.5)
    for _ in range(3):
        for p in (small, half):
            p.grad = Tensor(np.ones(p.shape, p.dtype))
        optimizer.step()
    assert not built
    assert small.data[0] == half.data[0] == -0.5


@needs_compiler
def test_a_gradient_in_another_layout(built: list[in_c.Loop]) -> None:
    n = int(in_c.MIN_SIZE**0.5) + 1
    w = Tensor(np.zeros((n, n), np.float32), requires_grad=True)
    g = np.arange(n * n, dtype=np.float32).reshape(n, n)
    optimizer = optim.SGD([w], lr=1.0)
    for step in range(1, 4):
        w.grad = Tensor(g.T)
        optimizer.step()
        np.testing.assert_array_equal(w.data, -step * g.T)
    assert built


@needs_compiler
def test_a_changed_learning_rate_counts(built: list[in_c.Loop]) -> None:
    w = Tensor(np.zeros(in_c.MIN_SIZE), requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    for lr in (1.0, 2.0, 4.0):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = tk.ones_like(w)
        optimizer.step()
    assert built
    np.testing.assert_array_equal(w.data, -7.0)


def test_a_loop_that_cannot_be_built_leaves_the_steps_to_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_c.Loop, "begin", lambda self: setattr(self, "is_begun", True))
    monkeypatch.setattr(in_c, "_loops", {})
    w = Tensor(np.zeros(in_c.MIN_SIZE), requires_grad=True)
    optimizer = optim.Adam([w], lr=0.5)
    for _ in range(3):
        w.grad = tk.ones_like(w)
        optimizer.step()
    np.testing.assert_allclose(w.data, -1.5, 1e-6)
