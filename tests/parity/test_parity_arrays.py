"""Functions of arrays beside PyTorch's: values, dtypes, shapes and gradients of both orders."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(4)


def normal(*sizes: int) -> ndarray:
    return np.asarray(RANDOM.normal(size=sizes))


A, B, C = normal(3, 4), normal(3, 4), normal(2, 3, 4)
EMPTY, NUMBER = normal(0, 4), normal()
WITH_NAN = np.where(A > 0.7, np.nan, A)
INDEX = np.array([[0, 1, 1, 2], [2, 0, 0, 1], [3, 3, 3, 3]])
APART = np.array([[0, 2], [3, 1], [1, 0]])
TIED = np.array([[1.0, 1.0, 0.0, 3.0], [2.0, 2.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
Case = tuple[Callable[..., Any], tuple[Any, ...]]

CASES: dict[str, list[Case]] = {
    # functions of (tk or torch, tensors); float arrays are differentiated
    "products": [
        (lambda lib, a, b: lib.mm(a, b.T), (A, B)),
        (lambda lib, a, b: lib.bmm(a, b.mT), (C, normal(2, 5, 4))),
        (lambda lib, a, b: a.mv(b), (A, normal(4))),
        (lambda lib, x, a: x.addmm(a.T, a, beta=0.5, alpha=-2), (normal(4), A)),
        (lambda lib, x, a: lib.addmm(x, a.T, a, beta=0), (normal(1), A)),
        *(
            (lambda lib, a, b, p=p: lib.cdist(a, b, p), (normal(2, 3, 2), normal(4, 2)))
            for p in (0.5, 1.0, 2.0, 3.0, float("inf"))
        ),
    ],
    "combined": [
        (lambda lib, x, a, b: lib.addcmul(x, a, b, value=0.5), (A, normal(4), NUMBER)),
        (lambda lib, x, a, b: x.addcdiv(a, b, value=-3), (NUMBER, A, B)),
        (lambda lib, a, b, w: lib.lerp(a, b, w), (A, B, normal(3, 1))),
        (lambda lib, a, b: a.lerp(b, 0.7), (EMPTY, normal(4))),
    ],
    "elementwise": [
        (lambda lib, a, b: lib.fmod(a, b), (A, B)),
        (lambda lib, a, b: a.copysign(b) * a, (A, np.array([0.0, -0.0, 1.0, -2.0]))),
        (lambda lib, a, b: lib.atan2(a, b), (A, NUMBER)),
        (lambda lib, a: lib.asinh(a) + a.acosh().nan_to_num(0.0) + lib.atanh(a / 9), (A + 4,)),
    ],
    "rot90": [(lambda lib, x, k=k: lib.rot90(x, k, (2, 0)), (C,)) for k in range(-1, 4)],
    "scatter": [
        (
            lambda lib, x, i, s: x.scatter(1, i, s),
            (A, np.array([[0, 2], [3, 1], [1, 0]]), B[:, :2]),
        ),
        (lambda lib, x, i: lib.scatter(x, 1, i, 2.5), (A, INDEX)),
        (lambda lib, x, i: x.scatter(1, i, 2.5, reduce="multiply").detach() * x, (A, INDEX)),
        *(
            (
                lambda lib, x, i, s, r=r, k=k: lib.scatter_reduce(x, 1, i, s, r, include_self=k),
                (x, INDEX, s),
            )
            for r, k in product(("sum", "prod", "mean", "amax", "amin"), (True, False))
            for x, s in ((A, B), (TIED, TIED[::-1]))
            # PyTorch's gradient of "prod" is NaN at zeros, and where x is left out its tie counts.
            if x is A or (r != "prod" and k)
        ),
    ],
    "statistics": [
        (lambda lib, x: x.nansum(1, keepdim=True) + lib.nansum(x), (WITH_NAN,)),
        (lambda lib, x: lib.nanmean(x, dim=(0, 2)), (C,)),
        (lambda lib, x: x.nanmean(), (WITH_NAN,)),
        (lambda lib, x: lib.var_mean(x, (0, 1), keepdim=True), (C,)),
        (lambda lib, x: lib.std_mean(x, 1, correction=0), (C,)),
        (lambda lib, x: lib.cov(x), (A,)),
        (lambda lib, x: lib.cov(x[0], correction=0), (A,)),
        (
            lambda lib, x, f, w: lib.cov(x, fweights=f, aweights=w),
            (A, np.array([1, 2, 0, 3]), np.abs(normal(4))),
        ),
        (lambda lib, x: lib.corrcoef(x), (A,)),
        *(
            (lambda lib, x, q, m=m: lib.quantile(x, q, 1, interpolation=m), (C, np.array(q)))
            for m in ("linear", "lower", "higher", "midpoint", "nearest")
            for q in ([0.0, 0.3, 1.0], 0.6)
        ),
        (lambda lib, x: x.quantile(0.4, dim=-1, keepdim=True), (WITH_NAN,)),
        (lambda lib, x: x.quantile(0.4), (NUMBER,)),
    ],
    "constants": [
        (lambda lib, x: lib.histc(x, 6, -1, 1), (A,)),
        (lambda lib, x: x.histc(4), (TIED,)),
        (lambda lib, x: tuple(lib.histogram(x, 5, range=(-1.0, 2.0))), (A,)),
        (lambda lib, x: tuple(lib.histogram(x, 3, density=True)), (A,)),
        (lambda lib, x, e: lib.histogram(x, e, weight=x.detach()).hist, (A, np.arange(3.0))),
        (lambda lib, x: lib.unique(x, return_inverse=True, return_counts=True), (TIED,)),
        (lambda lib, x: lib.unique(x, dim=1), (TIED,)),
        (lambda lib, x, v: lib.searchsorted(x.sort()[0], v, right=True), (A, TIED)),
        (lambda lib, x, b: lib.bucketize(x, b, out_int32=True), (TIED, np.array([0.0, 1.0]))),
        (lambda lib, a, b: lib.isclose(a, b, rtol=0.3, atol=0.1), (A, B)),
        (lambda lib, x: lib.heaviside(x.detach(), x.detach() * 0 + 2), (TIED,)),
    ],
}
ALL_CASES = [
    pytest.param(function, args, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, (function, args) in enumerate(cases)
]


def parts_of(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple) else [found]


def tensors(lib: Any, args: tuple[Any, ...], dtype: Any) -> list[Any]:
    """Tensors of either library. Floats require grad, unless they are shares, edges or weights."""
    make = Tensor if lib is tk else torch.tensor
    arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in map(np.asarray, args)]
    return [make(x.copy(), requires_grad=True) if x.dtype.kind == "f" else make(x) for x in arrays]


def weighted(parts: list[Any], make: Callable[[ndarray], Any]) -> Any:
    """A sum of the parts that have a gradient, with fixed weights."""
    random = np.random.default_rng(0)
    weights = [random.uniform(0.5, 1.5, tuple(part.shape)) for part in parts]
    return sum(
        (part * make(np.asarray(w, part.detach().numpy().dtype))).sum()
        for part, w in zip(parts, weights, strict=True)
        if part.requires_grad
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("function", "args"), ALL_CASES)
def test_values_and_gradients_are_those_of_pytorch(
    function: Callable[..., Any], args: tuple[Any, ...], dtype: Any
) -> None:
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-11} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-5}
    )
    mine, theirs = tensors(tk, args, dtype), tensors(torch, args, dtype)
    found, expected = parts_of(function(tk, *mine)), parts_of(function(torch, *theirs))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        array = b.detach().numpy()
        assert (a.shape, a.dtype) == (array.shape, array.dtype)
        np.testing.assert_allclose(a.detach().numpy(), array, **tolerance)
    if not any(part.requires_grad for part in found):
        return
    leaves = [x for x in mine if x.requires_grad]
    wanted = [x for x in theirs if x.requires_grad]
    mine_total, their_total = weighted(found, Tensor), weighted(expected, torch.tensor)
    for _ in range(2):
        mine_first = tk.autograd.grad(mine_total, leaves, create_graph=True, materialize_grads=True)
        try:
            their_first = torch.autograd.grad(
                their_total, wanted, create_graph=True, allow_unused=True, materialize_grads=True
            )
        except NotImplementedError:  # the second derivative of cdist
            return
        for a, b in zip(mine_first, their_first, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **tolerance)
        if dtype == np.float32 or not any(g.requires_grad for g in their_first):
            return
        mine_total = weighted(list(mine_first), Tensor)
        their_total = weighted(list(their_first), torch.tensor)
        if isinstance(mine_total, int):
            return


def test_methods_in_place_have_pytorchs_names() -> None:
    """Every method in place is one of PyTorch's."""
    ours = {name for name in dir(Tensor) if name.endswith("_") and not name.startswith("_")}
    assert ours <= set(dir(torch.Tensor))


def test_multinomial_takes_what_pytorch_takes() -> None:
    for lib in (tk, torch):
        p = lib.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0]])
        assert tuple(lib.multinomial(p, 4, replacement=True).shape) == (2, 4)
        assert sorted(lib.multinomial(p[0], 2).tolist()) == [1, 2]
        with pytest.raises((ValueError, RuntimeError)):
            lib.multinomial(lib.tensor([-1.0, 2.0]), 1)
