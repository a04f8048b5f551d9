"""Derivatives checked against central differences.

A check must not pass by comparing nothing. This one compares in float64 only, at tight tolerances,
and is itself tested with wrong rules (`tests/autodiff/test_testing.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.ops.op import refuse_masked
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.testing.layouts import _backward, _fortran, _locked, _stepped
from tinygrad_kr.transformations import jvp, vjp

Function = Callable[..., Any]
Flat: TypeAlias = Callable[..., tuple[Any, ...]]
"""A function of arrays with a tuple of arrays as its result."""
Mode = Literal["rev", "fwd"]

FULL_LIMIT = 2_500
"""Threshold: `check_grads` compares every element of a Jacobian of at most this size; elements."""


class GradientError(AssertionError):
    """A derivative is wrong.

    order: of the derivative, from 1. mode: "rev" or "fwd". argument: its name.
    index: of the worst element, (*output index, *argument index); None along a random direction.
    found: the engine's derivative. expected: that of central differences.
    A subclass of AssertionError.

    >>> raise tk.testing.GradientError("order 1, backward: ...", argument="argument 0")
    Traceback (most recent call last):
        ...
    tinygrad_kr.testing.grads.GradientError: order 1, backward: ...
    """

    def __init__(
        self,
        message: str,
        *,
        order: int = 1,
        mode: str = "rev",
        argument: str = "",
        index: tuple[int, ...] | None = None,
        found: float = math.nan,
        expected: float = math.nan,
    ) -> None:
        super().__init__(message)
        self.order, self.mode, self.argument = order, mode, argument
        self.index, self.found, self.expected = index, found, expected


# ------------------------------------------------------------------ central differences


def check_grads(
    f: Function,
    args: Any,
    order: int = 2,
    *,
    modes: Sequence[Mode] = ("rev", "fwd"),
    eps: float = 1e-5,
    atol: float = 1e-8,
    rtol: float = 1e-6,
    fast: bool | None = None,
    seed: int = 0,
) -> None:
    """Raise GradientError unless the derivatives of `f` at `args` are right up to `order`.

        d f / d x_i is compared with (f(x + eps e_i) - f(x - eps e_i)) / (2 eps)

    Then the backward pass itself, F(x, v) = v^T J, is checked in the same way, and so on for every
    order. Also checked:
    - `f` gives the same result twice;
    - neither `f` nor its derivatives write into their arguments or depend on the memory layout;
    - v^T J is linear in v to float64's precision, which a rule that rounds to float32 is not;
    - gradients have their argument's shape and dtype.

    f: takes `*args`, returns a Tensor or a nested container of Tensors; smooth at `args`.
    args: a tuple of arrays, Tensors, numbers or nested containers of them; a single argument needs
        no tuple. Floats must be float64; integers and booleans are passed on as they are.
    modes: "rev" for the backward pass, "fwd" for `jvp`.
    eps: the step. atol, rtol: the tolerances.
    fast: compare along random directions instead of every element of the Jacobian (default: for
        more than 2,500 elements). A wrong element is then found, but not named.
    seed: of the random directions.

    Raises ValueError for nothing to check, TypeError for dtypes other than float64.
    Source: autograd's `test_util.check_grads`; PyTorch's `gradcheck` for the fast mode.

    >>> tk.testing.check_grads(lambda x: (x**3).sum(), np.array([1.0, 2.0]))
    """
    if order < 1 or not modes or set(modes) - {"rev", "fwd"}:
        raise ValueError(
            f'check_grads: expected order >= 1 and modes among "rev" and "fwd", got order {order} '
            f"and modes {tuple(modes)}."
        )
    problem = _Problem(f, args)
    settings = _Settings(tuple(modes), eps, atol, rtol, fast, np.random.default_rng(seed))
    _check(problem.flat, problem.values, problem.names, settings, 1, order)


class _Settings:
    def __init__(
        self,
        modes: tuple[str, ...],
        eps: float,
        atol: float,
        rtol: float,
        fast: bool | None,
        random: np.random.Generator,
    ) -> None:
        self.modes, self.eps, self.atol, self.rtol = modes, eps, atol, rtol
        self.fast, self.random = fast, random

    def agree(self, found: Any, expected: Any, size: float) -> Any:
        """Elementwise comparison; a NaN or infinity agrees with nothing.

        size: the largest value whose difference was taken. Its rounding error, divided by the step,
            bounds the precision of a difference quotient.
        """
        rounding = 8 * np.finfo(float).eps * size / self.eps
        with np.errstate(invalid="ignore"):
            scale = np.maximum(np.abs(found), np.abs(expected))
            return np.abs(found - expected) <= self.atol + rounding + self.rtol * scale


def _size(y: ndarray) -> float:
    return float(np.abs(y).max()) if y.size else 0.0


class _Problem:
    """`f` as a function of its float64 leaves alone, with tuples of float Tensors as results."""

    def __init__(self, f: Function, args: Any) -> None:
        self.f = f
        args = args if isinstance(args, tuple) else (args,)
        self.values: list[ndarray] = []
        self.names: list[str] = []
        self._positions: list[int] = []
        self._leaves, self._rebuild = tree.flatten(args)
        for name, position in zip(_names(args), range(len(self._leaves)), strict=True):
            value = _float64(self._leaves[position], name)
            if value is not None:
                self.values.append(value)
                self.names.append(name)
                self._positions.append(position)
        if not self.values:
            raise ValueError("check_grads: expected an argument of floats, got none.")

    def flat(self, *values: Any) -> tuple[Any, ...]:
        leaves = list(self._leaves)
        for position, value in zip(self._positions, values, strict=True):
            leaves[position] = value
        return _float_results(self.f(*self._rebuild(leaves)))


def _names(args: tuple[Any, ...]) -> Iterator[str]:
    for i, arg in enumerate(args):
        count = len(tree.flatten(arg)[0])
        bare = not isinstance(arg, tuple | list | dict)
        for j in range(count):
            yield f"argument {i}" if bare else f"argument {i}, leaf {j}"


def _float64(leaf: Any, name: str) -> ndarray | None:
    refuse_masked(leaf, "check_grads")
    value = np.asarray(leaf.detach().numpy() if isinstance(leaf, Tensor) else leaf)
    if value.dtype.kind in "iub":
        return None
    if value.dtype != np.float64:
        raise TypeError(
            f"check_grads: expected float64 for {name}, got {value.dtype}, in which differences "
            "are rounding only. Use x.astype(np.float64), model.to(np.float64)"
        )
    return value.copy()


def _float_results(result: Any) -> tuple[Any, ...]:
    found = []
    for leaf in tree.flatten(result)[0]:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"check_grads: expected f to return a Tensor, got {type(leaf).__name__}, which has "
                "no history."
            )
        if leaf.dtype.kind == "f":
            if leaf.dtype != np.float64:
                raise TypeError(
                    f"check_grads: expected float64 results of float64 arguments, got {leaf.dtype}."
                    " A parameter or a constant inside f is not float64"
                )
            found.append(leaf)
    if not found:
        raise TypeError("check_grads: expected f to return a floating-point Tensor, got none.")
    return tuple(found)


def _check(
    f: Flat, values: list[ndarray], names: list[str], settings: _Settings, order: int, last: int
) -> None:
    outputs = _evaluate(f, values)
    _check_pure(f, values, outputs, order)
    cotangents = [_direction(y.shape, settings.random) for y in outputs]
    _check_pull_back(f, values, cotangents, names, order)
    for i in range(len(values)):
        columns = values[i].size * sum(y.size for y in outputs)
        fast = settings.fast if settings.fast is not None else columns > FULL_LIMIT
        if "rev" in settings.modes:
            compare = _compare_direction if fast else _compare_jacobian
            compare(f, values, i, names[i], outputs, cotangents, settings, order)
        if "fwd" in settings.modes:
            _compare_tangent(f, values, i, names[i], outputs, settings, order)
    if order < last:
        _check(
            _pulled_back(f, len(values)),
            [*values, *cotangents],
            [*names, *(f"the cotangent of result {k}" for k in range(len(cotangents)))],
            settings,
            order + 1,
            last,
        )


def _evaluate(f: Flat, values: Sequence[ndarray]) -> list[ndarray]:
    """The results at copies of `values`, in memory of their own that `f` may keep."""
    results = f(*[Tensor(value.copy()) for value in values])
    return [np.array(y.detach().numpy() if isinstance(y, Tensor) else y) for y in results]


def _pulled_back(f: Flat, count: int) -> Flat:
    """F(*x, *v) = v^T J(x)."""

    def pulled(*arguments: Any) -> tuple[Any, ...]:
        _, pull_back = vjp(f, *arguments[:count])
        return tuple(
            g if isinstance(g, Tensor) else Tensor(g) for g in pull_back(tuple(arguments[count:]))
        )

    return pulled


def _direction(shape: tuple[int, ...], random: np.random.Generator) -> ndarray:
    """Elements of either sign between 1/2 and 3/2: none is so small that it hides an error."""
    return np.asarray(random.choice([-1.0, 1.0], shape) * random.uniform(0.5, 1.5, shape))


def _shifted(values: list[ndarray], i: int, step: ndarray) -> list[ndarray]:
    return [*values[:i], values[i] + step, *values[i + 1 :]]


def _difference(f: Flat, values: list[ndarray], i: int, direction: ndarray, eps: float) -> Any:
    """(f(x + eps u) - f(x - eps u)) / (2 eps) for every result."""
    ahead = _evaluate(f, _shifted(values, i, eps * direction))
    behind = _evaluate(f, _shifted(values, i, -eps * direction))
    return [(a - b) / (2 * eps) for a, b in zip(ahead, behind, strict=True)]


def _compare_jacobian(
    f: Flat,
    values: list[ndarray],
    i: int,
    name: str,
    outputs: list[ndarray],
    cotangents: list[ndarray],
    settings: _Settings,
    order: int,
) -> None:
    expected = _numeric_jacobian(f, values, i, outputs, settings.eps)
    _, pull_back = vjp(f, *values)
    for k, y in enumerate(outputs):
        for row in range(y.size):
            starts = [np.zeros_like(c) for c in cotangents]
            starts[k].flat[row] = 1.0
            found = np.asarray(pull_back(tuple(starts))[i])
            agree = settings.agree(found, expected[k][row], _size(y.flat[row]))
            if not agree.all():
                _raise(
                    found, expected[k][row], agree, order, name, k, np.unravel_index(row, y.shape)
                )


def _numeric_jacobian(
    f: Flat, values: list[ndarray], i: int, outputs: list[ndarray], eps: float
) -> list[ndarray]:
    """d result_k / d x_i for every k, of shape (size of the result, *shape of x_i)."""
    x = values[i]
    jacobian = [np.empty((y.size, *x.shape)) for y in outputs]
    for index in np.ndindex(x.shape):
        unit = np.zeros(x.shape)
        unit[index] = 1.0
        for block, column in zip(jacobian, _difference(f, values, i, unit, eps), strict=True):
            block[(slice(None), *index)] = column.ravel()
    return jacobian


def _raise(
    found: ndarray,
    expected: ndarray,
    agree: ndarray,
    order: int,
    name: str,
    result: int,
    row: tuple[Any, ...],
) -> None:
    with np.errstate(invalid="ignore"):
        error = np.where(agree, -1.0, np.abs(found - expected))
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
    element = tuple(int(j) for j in worst)
    at = tuple(int(j) for j in row)
    raise GradientError(
        f"order {order}, backward: d result {result}{list(at)} / d {name}{list(element)} is "
        f"{found[worst]!r}, but central differences give {expected[worst]!r} "
        f"({int((~agree).sum())} of {agree.size} elements differ)",
        order=order,
        mode="rev",
        argument=name,
        index=at + element,
        found=float(found[worst]),
        expected=float(expected[worst]),
    )


def _compare_direction(
    f: Flat,
    values: list[ndarray],
    i: int,
    name: str,
    outputs: list[ndarray],
    cotangents: list[ndarray],
    settings: _Settings,
    order: int,
) -> None:
    """v^T J u for random u and v, by the backward pass and by one central difference."""
    direction = _direction(values[i].shape, settings.random)
    _, pull_back = vjp(f, *values)
    found = float(np.sum(np.asarray(pull_back(tuple(cotangents))[i]) * direction))
    difference = _difference(f, values, i, direction, settings.eps)
    expected = float(sum(np.sum(v * d) for v, d in zip(cotangents, difference, strict=True)))
    size = sum(float(np.abs(v * y).sum()) for v, y in zip(cotangents, outputs, strict=True))
    if not settings.agree(found, expected, size):
        raise GradientError(
            f"order {order}, backward: along a random direction the derivative with respect to "
            f"{name} (shape {values[i].shape}) is {found!r}, but central differences give "
            f"{expected!r}; pass fast=False to have the element named",
            order=order,
            mode="rev",
            argument=name,
            found=found,
            expected=expected,
        )


def _compare_tangent(
    f: Flat,
    values: list[ndarray],
    i: int,
    name: str,
    outputs: list[ndarray],
    settings: _Settings,
    order: int,
) -> None:
    """J u for a random u, by `jvp` and by one central difference."""
    tangents = [np.zeros_like(value) for value in values]
    tangents[i] = _direction(values[i].shape, settings.random)
    _, pushed = jvp(f, tuple(values), tuple(tangents))
    difference = _difference(f, values, i, tangents[i], settings.eps)
    for k, (found, expected) in enumerate(zip(pushed, difference, strict=True)):
        found = np.asarray(found)
        if found.shape != expected.shape:
            raise GradientError(
                f"order {order}, jvp: the tangent of result {k} has shape {found.shape}, not "
                f"{expected.shape}",
                order=order,
                mode="fwd",
                argument=name,
            )
        agree = settings.agree(found, expected, _size(outputs[k]))
        if not np.all(agree):
            element = tuple(int(j) for j in np.argwhere(~np.asarray(agree))[0])
            raise GradientError(
                f"order {order}, jvp: along a random direction of {name} the tangent of result "
                f"{k}{list(element)} is {found[element]!r}, but central differences give "
                f"{expected[element]!r}",
                order=order,
                mode="fwd",
                argument=name,
                index=element,
                found=float(found[element]),
                expected=float(expected[element]),
            )


# ------------------------------------------------------------------ checks without differences


def _check_pure(f: Flat, values: list[ndarray], outputs: list[ndarray], order: int) -> None:
    """The same result twice, and from read-only memory."""
    locked = [_locked(value) for value in values]
    try:
        again = f(*[Tensor(value) for value in locked])
    except ValueError as error:
        if "read-only" in str(error):
            raise GradientError(
                f"order {order}: f writes into its arguments: {error}", order=order
            ) from error
        raise
    for k, (y, z) in enumerate(zip(outputs, again, strict=True)):
        if not np.array_equal(y, np.asarray(z.detach().numpy()), equal_nan=True):
            raise GradientError(
                f"order {order}: result {k} differs when computed twice from the same arguments. "
                "Make the random generator inside the function",
                order=order,
            )


def _check_pull_back(
    f: Flat, values: list[ndarray], cotangents: list[ndarray], names: list[str], order: int
) -> None:
    """Shapes, dtypes, read-only memory, linearity in the cotangent, independence of layout."""
    _, pull_back = vjp(f, *[_locked(value) for value in values])
    try:
        found = [np.asarray(g) for g in pull_back(tuple(map(_locked, cotangents)))]
        scaled = [np.asarray(g) for g in pull_back(tuple(c / 3 for c in cotangents))]
    except ValueError as error:
        if "read-only" in str(error):
            raise GradientError(
                f"order {order}, backward: a rule writes into its arguments: {error}",
                order=order,
            ) from error
        raise
    scale = max((float(np.abs(c).max()) for c in cotangents if c.size), default=0.0)
    for value, g, third, name in zip(values, found, scaled, names, strict=True):
        if g.shape != value.shape or g.dtype != value.dtype:
            raise GradientError(
                f"order {order}, backward: the gradient for {name} is {g.dtype}{g.shape}, not "
                f"{value.dtype}{value.shape}",
                order=order,
                argument=name,
            )
        message = f"v^T J is not linear in v for {name}, to rounding"
        _demand_equal(3 * third, g, message, order, name, scale)
    for layout in (_fortran, _backward, _stepped):
        _, pull_back = vjp(f, *map(layout, values))
        again = pull_back(tuple(map(layout, cotangents)))
        for g, h, name in zip(found, again, names, strict=True):
            message = (
                f"the gradient for {name} depends on the memory layout ({layout.__name__[1:]})"
            )
            _demand_equal(np.asarray(h), g, message, order, name, scale)


def _demand_equal(
    found: ndarray, expected: ndarray, message: str, order: int, name: str, scale: float
) -> None:
    """Equal up to the rounding of float64, relative to the largest element or `scale`."""
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(scale, float(finite.max()) if finite.size else 0.0)
    close = np.isclose(found, expected, rtol=0.0, atol=1e-11 * scale, equal_nan=True)
    if not close.all():
        worst = tuple(int(j) for j in np.argwhere(~close)[0])
        raise GradientError(
            f"order {order}, backward: {message}: {found[worst]!r} for {expected[worst]!r} at "
            f"{list(worst)}",
            order=order,
            argument=name,
            index=worst,
            found=float(found[worst]),
            expected=float(expected[worst]),
        )
