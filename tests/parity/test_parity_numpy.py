"""Gradients beside those of HIPS autograd (NumPy's functions) and PyTorch (arrays and `linalg`)."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from test_numpy_protocol import DIFFERENTIABLE, HIPS_CONSTANT, HIPS_DIFFERENTIABLE, NOT_REAL

from tinygrad_kr import Tensor, arrays, linalg

autograd = pytest.importorskip("autograd")

RANDOM = np.random.default_rng(3)

# ------------------------------------------------------------------ HIPS autograd

HIPS_DIFFERS = {
    "tile-0": "a wrong gradient where NumPy adds axes (ours agrees with central differences)",
    "var-3": "ignores correction=",
    **dict.fromkeys(
        ("sum-5", "sum-6", "mean-2", "prod-3", "var-4", "var-5", "std-2"), "ignores where="
    ),
    **dict.fromkeys(("var-6", "std-3"), "ignores mean="),
    "linalg.cholesky-0": "a symmetric gradient, though NumPy reads the lower triangle alone",
}


def on_autograd(function: Any, anp: Any) -> Callable[..., Any]:
    """A case written with `np` as one with `autograd.numpy`."""
    if isinstance(function, types.LambdaType) and function.__name__ == "<lambda>":
        names = {**function.__globals__, "np": anp}
        copy = types.FunctionType(
            function.__code__, names, "case", function.__defaults__, function.__closure__
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        return copy
    module = anp.linalg if getattr(function, "__module__", "") == "numpy.linalg" else anp
    return getattr(module, function.__name__)  # type: ignore[no-any-return]


def parts_of(result: Any) -> list[Any]:
    several = isinstance(result, tuple | list) or type(result).__name__ == "SequenceBox"
    return list(result) if several else [result]


def weights_like(parts: list[Any]) -> list[ndarray]:
    random = np.random.default_rng(0)
    return [np.asarray(random.uniform(0.5, 1.5, np.shape(part))) for part in parts]


def gradients_here(function: Callable[..., Any], args: tuple[ndarray, ...]) -> list[ndarray]:
    leaves = [Tensor(x, requires_grad=True) for x in args]
    parts = parts_of(function(*leaves))
    total: Any = sum((p * w).sum() for p, w in zip(parts, weights_like(parts), strict=True))
    total.backward()
    return [t.grad.data for t in leaves if t.grad is not None]


def gradients_of_autograd(
    function: Callable[..., Any], args: tuple[ndarray, ...]
) -> list[ndarray] | None:
    """HIPS autograd's gradients; None where it has none, or one not of its argument's shape."""
    theirs = on_autograd(function, autograd.numpy)
    weights = weights_like(parts_of(function(*args)))

    def total(*xs: Any) -> Any:
        parts = parts_of(theirs(*xs))
        return sum(autograd.numpy.sum(p * w) for p, w in zip(parts, weights, strict=True))

    try:
        found = [autograd.grad(total, i)(*args) for i in range(len(args))]
    except Exception:  # of any kind: it refuses much, and stumbles over more
        return None
    fits = all(np.shape(g) == x.shape for g, x in zip(found, args, strict=True))
    return found if fits else None


@pytest.mark.parametrize("name", HIPS_DIFFERENTIABLE)
def test_gradients_are_those_of_hips_autograd(name: str) -> None:
    compared = 0
    for i, (function, args) in enumerate(DIFFERENTIABLE[name]):
        expected = gradients_of_autograd(function, args)
        if expected is None or f"{name}-{i}" in HIPS_DIFFERS:
            continue
        for mine, theirs in zip(gradients_here(function, args), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)
        compared += 1
    assert compared or name in {"linalg.cholesky"}, "no case of this function could be compared"


def test_cholesky_of_a_symmetric_function_has_hips_autograds_gradient() -> None:
    x = np.asarray(RANDOM.normal(size=(3, 3)))
    weights = np.asarray(RANDOM.normal(size=(3, 3)))

    def loss(x: Any, cholesky: Callable[..., Any]) -> Any:
        return (cholesky(x @ x.T + 2 * np.eye(3)) * weights).sum()

    expected = autograd.grad(loss)(x, autograd.numpy.linalg.cholesky)
    t = Tensor(x, requires_grad=True)
    loss(t, np.linalg.cholesky).backward()
    assert t.grad is not None
    np.testing.assert_allclose(t.grad.data, expected, rtol=1e-9, atol=1e-11)


def test_the_names_are_those_of_autograds_tables() -> None:
    """Every function that has a derivative in autograd's table is in ours, if it is of reals."""
    core = pytest.importorskip("autograd.core")
    anp = pytest.importorskip("autograd.numpy")
    tracer = pytest.importorskip("autograd.tracer")
    names = {
        prefix + name
        for prefix, module in (("", anp), ("linalg.", anp.linalg))
        for name, function in vars(module).items()
        if getattr(function, "fun", None) is not None
        and function in core.primitive_vjps
        and getattr(np if not prefix else np.linalg, name, None) is function.fun
    }
    aliases = {
        name
        for name in names - set(DIFFERENTIABLE)
        if "." not in name and any(getattr(np, name) is getattr(np, n, 0) for n in DIFFERENTIABLE)
    }
    not_asked = {"full"}  # NumPy does not ask a Tensor about it
    assert names - aliases - set(DIFFERENTIABLE) == {*NOT_REAL, *not_asked, "astype"}
    constants = {f.__name__ for f in tracer.notrace_primitives[core.VJPNode]}
    assert {name for name in constants if hasattr(np, name)} <= {*HIPS_CONSTANT, "ndarray"}


# ------------------------------------------------------------------ PyTorch


def normal(*sizes: int) -> ndarray:
    return np.asarray(RANDOM.normal(size=sizes))


def definite(*sizes: int) -> ndarray:
    x = normal(*sizes)
    return np.asarray(x @ x.swapaxes(-1, -2) + np.diag(np.arange(1, sizes[-1] + 1)))


INDEX = np.array([[0, 2, 2], [1, 0, 1]])
TIED = np.array([[1.0, 3.0, 3.0, 2.0], [2.0, 2.0, 0.0, 2.0]])


class Torch:
    """Our functions by PyTorch's names."""

    linalg = linalg
    einsum, kron, cat, stack = arrays.einsum, arrays.kron, arrays.cat, arrays.stack
    diag, diff, outer, trapezoid = arrays.diag, arrays.diff, arrays.outer, arrays.trapezoid
    gradient, roll = arrays.gradient, arrays.roll
    add, sub, div = arrays.add, arrays.sub, arrays.div
    max, min = arrays.max, arrays.min
    tensor = staticmethod(Tensor)


TORCH_CASES: dict[str, tuple[Callable[..., Any], tuple[int, ...] | ndarray]] = {
    # each a function of (torch or Torch, a tensor of it)
    "gather": (lambda lib, t: t.gather(1, lib.tensor(INDEX)), (2, 4)),
    "scatter_add": (lambda lib, t: t.scatter_add(1, lib.tensor(INDEX), t[:, :3] ** 2), (2, 4)),
    "index_select": (lambda lib, t: t.index_select(1, lib.tensor(INDEX[0])), (2, 4)),
    "take": (lambda lib, t: t.take(lib.tensor(INDEX)), (2, 4)),
    "sort": (lambda lib, t: tuple(t.sort(dim=0, descending=True, stable=True)), TIED),
    "sort along the last": (lambda lib, t: tuple(t.sort(stable=True)), TIED),
    "argsort": (lambda lib, t: (t.argsort(dim=1, stable=True) * t).sum(), TIED),
    "topk": (lambda lib, t: tuple(t.topk(2, dim=1)), (3, 4)),
    "topk smallest": (lambda lib, t: tuple(t.topk(2, 0, largest=False)), (3, 4)),
    **{
        f"{name} {options}": (
            lambda lib, t, name=name, options=options: tuple(getattr(t, name)(**options)),
            given,
        )
        for name in ("max", "min", "median", "mode")
        for options in ({"dim": 1}, {"dim": -2, "keepdim": True})
        for given in ((4, 5) if name != "mode" else np.round(normal(4, 5)),)
    },
    **{
        f"{name} of ties": (lambda lib, t, name=name: tuple(getattr(t, name)(1)), TIED)
        for name in ("max", "min", "mode", "cummax", "cummin")
    },
    **{
        f"{name} with NaN": (
            lambda lib, t, name=name: tuple(getattr(t, name)(1)),
            np.array([[1.0, np.nan, 3.0], [np.nan, 1.0, 0.0]]),
        )
        for name in ("max", "min", "median", "cummax", "cummin")
    },
    "median of all": (lambda lib, t: t.median(), TIED),
    "kthvalue": (lambda lib, t: tuple(t.kthvalue(2, 1)), (3, 4)),
    "kthvalue kept": (lambda lib, t: tuple(t.kthvalue(1, keepdim=True)), (3, 4)),
    "pairs of a number": (
        lambda lib, t: (*t.max(0), *t.median(0), *t.mode(), *t.cummax(-1), *t.kthvalue(1)),
        (),
    ),
    "max of two": (lambda lib, t: (lib.max(t, t[0]), t.min(t**2)), (3, 4)),
    "max of all": (lambda lib, t: (t.max(), lib.min(t)), TIED),
    "alpha": (lambda lib, t: (lib.add(t, t**2, alpha=3), t.sub(t**2, alpha=0.5)), (3, 4)),
    "div": (lambda lib, t: lib.div(t, t[0] ** 2 + 1), (3, 4)),
    "div rounded": (
        lambda lib, t: (
            lib.div(t * 5, 2, rounding_mode="floor") * t,
            lib.div(t * 5, 2, rounding_mode="trunc") * t,
        ),
        (3, 4),
    ),
    "unbiased": (
        lambda lib, t: (t.var(0, unbiased=False), t.std(unbiased=True), t.std(False)),
        (3, 4),
    ),
    "dtype": (
        lambda lib, t: (
            t.sum(0, dtype=t.dtype),
            t.mean(dtype=t.dtype),
            t.cumprod(1, dtype=t.dtype),
        ),
        (3, 4),
    ),
    "flip": (lambda lib, t: t.flip(dims=(0, 2)), (2, 3, 4)),
    "diagonal of two": (lambda lib, t: t.diagonal(1, dim1=2, dim2=0), (2, 3, 4)),
    "transpose": (lambda lib, t: t.transpose(dim0=0, dim1=2), (2, 3, 4)),
    "repeat": (lambda lib, t: t.repeat(2, 1, 3), (2, 4)),
    "tile": (lambda lib, t: t.tile((2, 3)), (2, 4)),
    "repeat_interleave": (lambda lib, t: t.repeat_interleave(3, dim=1), (2, 4)),
    "split": (lambda lib, t: t.split(3, dim=1), (2, 4)),
    "split in sizes": (lambda lib, t: t.split([1, 3], 1), (2, 4)),
    "chunk": (lambda lib, t: t.chunk(3, dim=1), (2, 7)),
    "chunk into too many": (lambda lib, t: t.chunk(5, dim=1), (2, 7)),
    "unbind": (lambda lib, t: t.unbind(1), (2, 3)),
    "movedim": (lambda lib, t: t.movedim((0, 1), (2, 0)), (2, 3, 4)),
    "diag": (lambda lib, t: lib.diag(t, 1), (3, 4)),
    "triu": (lambda lib, t: t.triu(1), (2, 3, 4)),
    "nonzero": (lambda lib, t: (t > 0).nonzero() * t.sum(), (3, 4)),
    "max": (lambda lib, t: t.amax(1), TIED),
    "norm": (lambda lib, t: t.norm(), (2, 4)),
    **{
        f"norm {p}": (lambda lib, t, p=p: t.norm(p=p, dim=1, keepdim=True), (2, 4))
        for p in (1, 3, 0.5, float("inf"), -float("inf"))
    },
    "norm of zeros": (lambda lib, t: t.norm(dim=1) + t.norm(p=3, dim=1), np.zeros((2, 3))),
    "einsum": (lambda lib, t: lib.einsum("bij,bkj,...->bi...", t, t, t[0, 0]), (2, 3, 3)),
    "einsum of a diagonal": (lambda lib, t: lib.einsum("...ii->...i", t), (2, 3, 3)),
    "diff": (lambda lib, t: lib.diff(t, n=2, dim=0), (4, 3)),
    "gradient": (lambda lib, t: lib.gradient(t, spacing=0.5, dim=1, edge_order=2), (2, 4)),
    "trapezoid": (lambda lib, t: lib.trapezoid(t, dx=0.5, dim=0), (4, 3)),
    "det": (lambda lib, t: lib.linalg.det(t), (2, 3, 3)),
    "slogdet": (lambda lib, t: lib.linalg.slogdet(t).logabsdet, (2, 3, 3)),
    "inv": (lambda lib, t: lib.linalg.inv(t), definite(2, 3, 3)),
    "pinv": (lambda lib, t: lib.linalg.pinv(t), (2, 4, 3)),
    "solve": (lambda lib, t: lib.linalg.solve(t, t[:, :, :2]), definite(2, 3, 3)),
    "cholesky": (lambda lib, t: lib.linalg.cholesky(t), definite(2, 3, 3)),
    "cholesky upper": (lambda lib, t: lib.linalg.cholesky(t, upper=True), definite(3, 3)),
    "eigvalsh": (lambda lib, t: lib.linalg.eigvalsh(t), definite(2, 3, 3)),
    "eigh": (lambda lib, t: tuple(x**2 for x in lib.linalg.eigh(t)), definite(2, 3, 3)),
    "svdvals": (lambda lib, t: lib.linalg.svdvals(t), (2, 4, 3)),
    **{
        f"svd {sizes}": (
            lambda lib, t: tuple(x**2 for x in lib.linalg.svd(t, full_matrices=False)),
            sizes,
        )
        for sizes in ((4, 2), (2, 4), (2, 3, 3))
    },
    **{
        f"matrix_norm {p}": (lambda lib, t, p=p: lib.linalg.matrix_norm(t, p), (2, 4, 3))
        for p in ("fro", "nuc", 1, -1, 2, -2, float("inf"))
    },
    "linalg.norm": (lambda lib, t: lib.linalg.norm(t, dim=(0, 1)), (4, 3)),
    "vector_norm": (lambda lib, t: lib.linalg.vector_norm(t, 3, dim=(0, 2)), (2, 4, 3)),
    "cond": (lambda lib, t: lib.linalg.cond(t), (3, 3)),
    "matrix_power": (lambda lib, t: lib.linalg.matrix_power(t, -3), definite(2, 3, 3)),
    "multi_dot": (lambda lib, t: lib.linalg.multi_dot([t, t.T, t, t[0]]), (4, 3)),
    "lstsq": (lambda lib, t: lib.linalg.lstsq(t, t[:, :2] ** 2).solution, (5, 3)),
    "cross": (lambda lib, t: lib.linalg.cross(t, t**2, dim=0), (3, 2)),
    "vecdot": (lambda lib, t: lib.linalg.vecdot(t, t**2), (3, 2)),
    "diagonal": (lambda lib, t: lib.linalg.diagonal(t, offset=-1), (2, 4, 3)),
}


def as_numpy(x: Any) -> ndarray:
    return np.asarray(x.detach().numpy())


@pytest.mark.parametrize("name", TORCH_CASES)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, given = TORCH_CASES[name]
    x = (
        np.array(given)
        if isinstance(given, ndarray)
        else np.random.default_rng(1).normal(size=given)
    )
    mine, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    found, expected = parts_of(function(Torch, mine)), parts_of(function(torch, theirs))
    assert len(found) == len(expected)
    weights = weights_like(found)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(as_numpy(a), as_numpy(b), rtol=1e-9, atol=1e-11)
    mine_total: Any = sum((a * w).sum() for a, w in zip(found, weights, strict=True))
    their_total: Any = sum(
        (b * torch.tensor(w)).sum() for b, w in zip(expected, weights, strict=True)
    )
    mine_total.backward()
    their_total.backward()
    assert mine.grad is not None
    np.testing.assert_allclose(mine.grad.data, theirs.grad.numpy(), rtol=1e-8, atol=1e-10)
