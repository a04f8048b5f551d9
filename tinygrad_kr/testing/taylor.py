"""Derivatives checked by the order of their Taylor remainder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import Node
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.testing.grads import Function, GradientError, _direction, _evaluate, _Problem
from tinygrad_kr.transformations import hvp, vjp


def taylor_slope(f: Function, args: Any, order: int = 1, *, seed: int = 0) -> float:
    """How fast the Taylor remainder of `f` falls: the slope of log |R| against log h.

    For a random direction u and cotangent v, phi(h) = v . f(x + h u) and
    R(h) = phi(h) - phi(0) - h phi'(0), minus h^2 phi''(0) / 2 for order 2. With the right
    derivatives R falls as h^(order + 1); with a wrong first one as h, with a wrong second one as
    h^2.

    No step size and no tolerance has to be chosen. The result is inf where R is rounding error at
    every h. `f` and `args` are as in `check_grads`.

    Raises ValueError for another order.
    Source: the Taylor test of dolfin-adjoint (Farrell et al., Automated derivation of the adjoint
    of high-level transient finite element programs, 2013).

    >>> tk.testing.taylor_slope(lambda x: x.exp().sum(), np.array([0.5])) > 1.8
    True
    """
    if order not in (1, 2):
        raise ValueError(f"taylor_slope: expected order 1 or 2, got {order}.")
    problem = _Problem(f, args)
    random = np.random.default_rng(seed)
    values = problem.values
    start = _evaluate(problem.flat, values)
    cotangents = [_direction(y.shape, random) for y in start]
    directions = [_direction(value.shape, random) for value in values]

    def contracted(*xs: Any) -> Any:
        results = problem.flat(*xs)
        terms = [(v * y).sum() for v, y in zip(cotangents, results, strict=True)]
        return sum(terms[1:], terms[0])

    phi = float(_number(contracted(*map(Tensor, values))))
    _, gradients = _value_and_vjp(contracted, values)
    first = _inner(gradients, directions)
    second = _inner(hvp(contracted, values, directions), directions) if order == 2 else 0.0
    points = []
    for h in 10.0 ** -np.arange(1.0, 8.01, 0.25):
        ahead = float(
            _number(contracted(*(Tensor(x + h * u) for x, u in _pairs(values, directions))))
        )
        remainder = abs(ahead - phi - h * first - h * h / 2 * second)
        rounding = np.finfo(float).eps * (abs(phi) + abs(ahead) + h * abs(first))
        if not remainder <= 100 * rounding:
            points.append((math.log(h), math.log(remainder)))
    if len(points) < 3:
        return math.inf
    smallest = np.array(points[-5:])
    return float(np.polyfit(smallest[:, 0], smallest[:, 1], 1)[0])


def check_taylor(f: Function, args: Any, order: int = 1, *, seed: int = 0) -> None:
    """Raise GradientError unless the Taylor remainder falls as h^(order + 1): see `taylor_slope`.

    >>> tk.testing.check_taylor(lambda x: x.exp().sum(), np.array([0.5]), order=2)
    """
    slope = taylor_slope(f, args, order, seed=seed)
    if not slope >= order + 0.8:
        raise GradientError(
            f"order {order}: the Taylor remainder falls as h^{slope:.2f}, not as h^{order + 1}: a "
            "derivative of this order or below is wrong, or f is not smooth at args",
            order=order,
            found=slope,
            expected=order + 1.0,
        )


def _pairs(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return zip(a, b, strict=True)


def _number(x: Any) -> float:
    return float(x._data if isinstance(x, Node) else x)


def _inner(a: Sequence[Any], b: Sequence[ndarray]) -> float:
    return float(sum(np.sum(np.asarray(x) * y) for x, y in _pairs(a, b)))


def _value_and_vjp(f: Function, values: list[ndarray]) -> tuple[Any, Any]:
    value, pull_back = vjp(f, *values)
    return value, pull_back(np.ones(()))
