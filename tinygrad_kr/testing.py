"""Checking derivatives: against central differences, by the slope of the Taylor remainder, and
Hypothesis strategies for the arrays, shapes and indices to check them at.

A checker that never compares is worse than none, so this one compares in float64 only, at tight
tolerances, and is itself tested with wrong rules (`tests/test_testing.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.ops.node import Node
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.transformations import hvp, jvp, vjp

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Function = Callable[..., Any]
Flat: TypeAlias = Callable[..., tuple[Any, ...]]
"""A function of arrays with a tuple of arrays as its result."""
Mode = Literal["rev", "fwd"]

FULL_LIMIT = 2_500
"""Elements of a Jacobian up to which `check_grads` compares every one."""


class GradientError(AssertionError):
    """A derivative is wrong.

    order: of the derivative, from 1. mode: "rev" or "fwd". argument: its name. index: of the worst
    element, (*output index, *argument index), None along a random direction. found: what the engine
    gave there. expected: what central differences gave.
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

    d f / d x_i is compared with (f(x + eps e_i) - f(x - eps e_i)) / (2 eps). Then F(x, v) = v^T J,
    the backward pass itself, is checked in the same way, and so on for every order. Also checked:
    that `f` gives the same twice, that neither it nor its derivatives write into what they are
    given or depend on its layout in memory, that v^T J is linear in v to float64's precision (a
    rule that rounds to float32 is not), and that gradients have their argument's shape and dtype.

    f: takes `*args`, returns a Tensor or a nested container of Tensors; smooth at `args`.
    args: a tuple of arrays, Tensors, numbers or nested containers of them (one argument may come
        bare). Floats must be float64; integers and booleans are passed on as they are.
    modes: "rev" for the backward pass, "fwd" for `jvp`.
    fast: compare along random directions instead of every element of the Jacobian (default: where
        it has more than 2,500). A wrong element is then found, but not named.

    Source: autograd's `test_util.check_grads`; PyTorch's `gradcheck` for the fast mode.
    """
    if order < 1 or not modes or set(modes) - {"rev", "fwd"}:
        raise ValueError(f"nothing to check at order {order} in modes {tuple(modes)}")
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
        """Elementwise; a NaN or infinity agrees with nothing.

        size: the largest value whose difference was taken; its rounding error, divided by the step,
            is what a difference quotient cannot see.
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
        self._places: list[int] = []
        self._leaves, self._rebuild = tree.flatten(args)
        for name, place in zip(_names(args), range(len(self._leaves)), strict=True):
            value = _float64(self._leaves[place], name)
            if value is not None:
                self.values.append(value)
                self.names.append(name)
                self._places.append(place)
        if not self.values:
            raise ValueError("nothing to check: no argument holds floats")

    def flat(self, *values: Any) -> tuple[Any, ...]:
        leaves = list(self._leaves)
        for place, value in zip(self._places, values, strict=True):
            leaves[place] = value
        return _float_results(self.f(*self._rebuild(leaves)))


def _names(args: tuple[Any, ...]) -> Iterator[str]:
    for i, arg in enumerate(args):
        count = len(tree.flatten(arg)[0])
        bare = not isinstance(arg, tuple | list | dict)
        for j in range(count):
            yield f"argument {i}" if bare else f"argument {i}, leaf {j}"


def _float64(leaf: Any, name: str) -> ndarray | None:
    value = np.asarray(leaf.detach().numpy() if isinstance(leaf, Tensor) else leaf)
    if value.dtype.kind in "iub":
        return None
    if value.dtype != np.float64:
        raise TypeError(
            f"check_grads: {name} is {value.dtype}, where central differences see rounding only; "
            "give float64 (x.astype(np.float64), model.to(np.float64))"
        )
    return value.copy()


def _float_results(result: Any) -> tuple[Any, ...]:
    found = []
    for leaf in tree.flatten(result)[0]:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"check_grads: f returned a {type(leaf).__name__}, not a Tensor; it has no history"
            )
        if leaf.dtype.kind == "f":
            if leaf.dtype != np.float64:
                raise TypeError(
                    f"check_grads: a result is {leaf.dtype} although every argument is float64; "
                    "something inside f (a parameter, a constant) is not"
                )
            found.append(leaf)
    if not found:
        raise TypeError("check_grads: f returned no floating-point Tensor")
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
    """The results at copies of `values`: fresh memory, which `f` may keep."""
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
    """Elements of either sign between 1/2 and 3/2: none so small that it hides an error."""
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
    for place in np.ndindex(x.shape):
        unit = np.zeros(x.shape)
        unit[place] = 1.0
        for block, column in zip(jacobian, _difference(f, values, i, unit, eps), strict=True):
            block[(slice(None), *place)] = column.ravel()
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
    place = tuple(int(j) for j in worst)
    at = tuple(int(j) for j in row)
    raise GradientError(
        f"order {order}, backward: d result {result}{list(at)} / d {name}{list(place)} is "
        f"{found[worst]!r}, but central differences give {expected[worst]!r} "
        f"({int((~agree).sum())} of {agree.size} elements differ)",
        order=order,
        mode="rev",
        argument=name,
        index=at + place,
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
            place = tuple(int(j) for j in np.argwhere(~np.asarray(agree))[0])
            raise GradientError(
                f"order {order}, jvp: along a random direction of {name} the tangent of result "
                f"{k}{list(place)} is {found[place]!r}, but central differences give "
                f"{expected[place]!r}",
                order=order,
                mode="fwd",
                argument=name,
                index=place,
                found=float(found[place]),
                expected=float(expected[place]),
            )


# ------------------------------------------------------------------ what needs no differences


def _check_pure(f: Flat, values: list[ndarray], outputs: list[ndarray], order: int) -> None:
    """The same result twice, and from read-only memory."""
    locked = [_locked(value) for value in values]
    try:
        again = f(*[Tensor(value) for value in locked])
    except ValueError as error:
        if "read-only" in str(error):
            raise GradientError(
                f"order {order}: the function writes into its arguments: {error}", order=order
            ) from error
        raise
    for k, (y, z) in enumerate(zip(outputs, again, strict=True)):
        if not np.array_equal(y, np.asarray(z.detach().numpy()), equal_nan=True):
            raise GradientError(
                f"order {order}: result {k} differs when computed twice from the same arguments; "
                "give what is random a generator made inside the function",
                order=order,
            )


def _locked(value: ndarray) -> ndarray:
    value = value.copy()
    value.flags.writeable = False
    return value


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
                f"order {order}, backward: a rule writes into what it is given: {error}",
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


# ------------------------------------------------------------------ memory layouts


def _fortran(x: ndarray) -> ndarray:
    return x.copy(order="F")


def _backward(x: ndarray) -> ndarray:
    everywhere: Any = (..., *(slice(None, None, -1),) * x.ndim)
    return np.asarray(x[everywhere].copy()[everywhere])


def _stepped(x: ndarray) -> ndarray:
    wide = np.full([2 * n + 1 for n in x.shape], np.nan if x.dtype.kind == "f" else 1, x.dtype)
    every_other: Any = (..., *(slice(1, None, 2) for _ in x.shape))
    wide[every_other] = x
    return np.asarray(wide[every_other])


def layouts(x: ndarray) -> dict[str, ndarray]:
    """`x` in every memory layout that a Tensor's array may have.

    The same values: "fortran" (first axis fastest), "backward" (negative strides), "stepped"
    (sliced out of a larger array that holds NaN elsewhere), "read-only", "offset" (not at the
    start of its memory). Its first row repeated: "broadcast" (stride 0 on axis 0).
    """
    found = {"fortran": _fortran(x), "backward": _backward(x), "stepped": _stepped(x)}
    found["read-only"] = _locked(x)
    room = np.zeros(x.size + 3, x.dtype)
    room[3:] = x.ravel()
    found["offset"] = room[3:].reshape(x.shape)
    if x.ndim and len(x):
        found["broadcast"] = np.broadcast_to(x[:1].copy(), x.shape)
    return found


# ------------------------------------------------------------------ the Taylor remainder


def taylor_slope(f: Function, args: Any, order: int = 1, *, seed: int = 0) -> float:
    """How fast the Taylor remainder of `f` falls: the slope of log |R| against log h.

    For a random direction u and cotangent v, phi(h) = v . f(x + h u) and
    R(h) = phi(h) - phi(0) - h phi'(0), less h^2 phi''(0) / 2 for order 2. With the right
    derivatives R falls as h^(order + 1); with a wrong first one as h, with a wrong second one as
    h^2. No step size has to be chosen and no tolerance: inf is returned where R is rounding error
    at every h.

    Takes the same `f` and `args` as `check_grads`. Source: the Taylor test of dolfin-adjoint
    (Farrell et al., Automated derivation of the adjoint of high-level transient finite element
    programs, 2013).
    """
    if order not in (1, 2):
        raise ValueError(f"taylor_slope: order is 1 or 2, not {order}")
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
    """Raise GradientError unless the remainder falls as h^(order + 1): see `taylor_slope`."""
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


# ------------------------------------------------------------------ Hypothesis strategies


def shapes(
    min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> SearchStrategy[tuple[int, ...]]:
    """Shapes of arrays, empty and 0-d ones included."""
    from hypothesis.extra import numpy as hnp

    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def broadcastable_shapes(
    count: int = 2, max_dims: int = 3, min_side: int = 0, max_side: int = 3
) -> SearchStrategy[tuple[tuple[int, ...], ...]]:
    """`count` shapes that NumPy broadcasts with each other."""
    from hypothesis.extra import numpy as hnp

    return hnp.mutually_broadcastable_shapes(
        num_shapes=count, max_dims=max_dims, min_side=min_side, max_side=max_side
    ).map(lambda drawn: drawn.input_shapes)


def arrays(
    shape: Any, low: float = -2.0, high: float = 2.0, dtype: Any = np.float64
) -> SearchStrategy[ndarray]:
    """Float arrays of well-scaled elements in [low, high]: multiples of 1/64, which shrink to
    simple numbers and leave central differences their precision. `shape` may be a strategy too."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    steps = st.integers(math.ceil(low * 64), math.floor(high * 64))
    return hnp.arrays(dtype, shape, elements=steps.map(lambda n: n / 64))


def indices(shape: tuple[int, ...]) -> SearchStrategy[Any]:
    """Keys for an array of `shape`: basic (ints, slices of any step, `...`, None), integer arrays
    with repeats and negative entries, boolean masks, and mixtures."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    found: list[SearchStrategy[Any]] = [
        hnp.basic_indices(shape, allow_newaxis=True),
        hnp.arrays(bool, shape),
    ]
    if shape and 0 not in shape:
        found.append(hnp.integer_array_indices(shape, result_shape=shapes(max_dims=2, max_side=3)))
        whole = st.just(slice(None)) | st.just(slice(None, None, -1))
        parts = [
            st.integers(-n, n - 1)
            | whole
            | st.lists(st.integers(-n, n - 1), min_size=2, max_size=2)
            for n in shape
        ]
        found.append(st.tuples(*parts))
    return st.one_of(found)


def axes(ndim: int) -> SearchStrategy[int | tuple[int, ...] | None]:
    """What a reduction of `ndim` axes takes: None, one axis (negative too), or a tuple of them."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    if not ndim:
        return st.none() | st.just(())
    return st.one_of(
        st.none(), st.integers(-ndim, ndim - 1), hnp.valid_tuple_axes(ndim, min_size=0)
    )


__all__ = [
    "GradientError",
    "arrays",
    "axes",
    "broadcastable_shapes",
    "check_grads",
    "check_taylor",
    "indices",
    "layouts",
    "shapes",
    "taylor_slope",
]
