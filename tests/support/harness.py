"""One harness for "compiled equals eager": results, and all that a step leaves, call by call.

`compare` is for functions of arrays, `twins` and `together` are for steps with a net and an
optimizer. With the fixture `backend` a test runs in C, where there is a compiler, and in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn
from tinygrad_kr.compile import Compiled, function
from tinygrad_kr.compile.run.c_runner import CRunner
from tinygrad_kr.native.build import find_compiler

BACKENDS = ["numpy", *(["c"] if find_compiler() is not None else [])]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


def without_compiler(patch: pytest.MonkeyPatch) -> None:
    """What is compiled from now on is NumPy calls."""
    patch.setattr(function, "likely", lambda: None)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        without_compiler(monkeypatch)
    return str(request.param)


# ------------------------------------------------------------------ results


def close(
    expected: Any,
    found: Any,
    name: str = "",
    rtol: float | None = None,
    atol: float | None = None,
    *,
    of_largest: bool = False,
) -> None:
    """The same structure, kinds, shapes, dtypes and places of NaN and infinity; close numbers.

    rtol: default: by dtype, `TOLERANCE`. atol: default: rtol. of_largest: atol is a share of the
    largest finite number of the array, where that is above 1.
    """
    options: dict[str, Any] = {"rtol": rtol, "atol": atol, "of_largest": of_largest}
    if isinstance(expected, dict):
        assert expected.keys() == found.keys(), name
        for key, value in expected.items():
            close(value, found[key], f"{name} {key}", **options)
        return
    if isinstance(expected, tuple | list):
        assert type(expected) is type(found), name
        assert len(expected) == len(found), name
        for i, (a, b) in enumerate(zip(expected, found, strict=True)):
            close(a, b, f"{name} {i}", **options)
        return
    if expected is None or isinstance(expected, str | bool | int):
        assert type(expected) is type(found) and expected == found, name
        return
    assert isinstance(expected, Tensor) == isinstance(found, Tensor), name
    a, b = (
        v.detach().numpy() if isinstance(v, Tensor) else np.asarray(v) for v in (expected, found)
    )
    assert (a.shape, a.dtype) == (b.shape, b.dtype), name
    rtol = TOLERANCE.get(str(a.dtype), 0.0) if rtol is None else rtol
    atol = rtol if atol is None else atol
    if of_largest:
        finite = np.abs(a[np.isfinite(a)], dtype=float)
        atol *= max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(b, a, rtol, atol, err_msg=name)


def scaled(x: Any, scale: float) -> Any:
    """A Tensor or array, `scale` times; once: itself, as it lies in memory."""
    if scale == 1:
        return x
    if isinstance(x, Tensor):
        return Tensor(scaled(x.data, scale))
    return (scale * x).astype(x.dtype)


def compare(
    f: Callable[..., Any], *given: Any, scales: Sequence[float] = (1, 1, 2, -1), **tolerance: Any
) -> Compiled:
    """Calls of f and of f compiled, with the arrays or Tensors at each scale, give the same."""
    compiled = Compiled(f)
    for i, scale in enumerate(scales):
        args = [scaled(x, scale) for x in given]
        with np.errstate(all="ignore"):
            close(f(*args), compiled(*args), f"call {i}", **tolerance)
    assert compiled.programs, compiled.explain()
    return compiled


# ------------------------------------------------------------------ steps


class Learner:
    """A net, its optimizer or optimizers by name, and a step of them, compiled or as it is."""

    def __init__(self, net: nn.Module, optimizer: Any, make: Make, compiled: bool) -> None:
        self.net: Any = net
        self.optimizer: Any = optimizer
        step = make(self)
        self.step: Any = Compiled(step) if compiled else step

    @property
    def state(self) -> dict[str, Any]:
        """Everything that a step may change."""
        several = self.optimizer if isinstance(self.optimizer, dict) else {"": self.optimizer}
        return {
            "parameters": {name: (p, p.grad) for name, p in self.net.named_parameters()},
            "buffers": dict(self.net.named_buffers()),
            "optimizers": {name: made.state_dict() for name, made in several.items()},
        }


Make = Callable[[Learner], Callable[..., Any]]


def twins(make: Make, build: Callable[[], tuple[nn.Module, Any]]) -> tuple[Learner, Learner]:
    """Two learners of one start: as it is, and compiled. build: their net and optimizer."""
    found = []
    for compiled in (False, True):
        tk.manual_seed(3)
        found.append(Learner(*build(), make, compiled))
    return found[0], found[1]


def alike(a: Learner, b: Learner, name: str = "", **tolerance: Any) -> None:
    """Parameters, gradients, buffers and optimizer state are the same in both."""
    close(a.state, b.state, name, **tolerance)


def together(
    a: Learner,
    b: Learner,
    batches: Iterable[tuple[Any, ...]],
    before: Callable[[Learner, int], None] = lambda learner, i: None,
    **tolerance: Any,
) -> None:
    """Both make the same steps and come to the same. before: of each call of each learner."""
    for i, batch in enumerate(batches):
        results = []
        for learner in (a, b):
            before(learner, i)
            tk.manual_seed(i)
            results.append(learner.step(*batch))
        close(*results, f"call {i}", **tolerance)
        alike(a, b, f"after call {i}", **tolerance)


# ------------------------------------------------------------------ replays


def replayed(compiled: Any, *args: Any) -> Any:
    """A call that ran no Python line of the function."""
    before = sum(one.replays for one in compiled._signatures.values())
    result = compiled(*args)
    assert sum(one.replays for one in compiled._signatures.values()) == before + 1, (
        compiled.explain()
    )
    return result


def settled(compiled: Any, *args: Any) -> Any:
    """The result once the function is recorded."""
    for _ in range(2):
        compiled(*args)
    return replayed(compiled, *args)


def native_of(compiled: Any) -> CRunner:
    """The C of the latest call's program."""
    native = compiled.last_runner
    assert isinstance(native, CRunner)
    return native
