"""Inputs for every op of the table, and what NumPy (or three plain lines) says each should give.

`SAMPLES[name]` are inputs and parameters: float64 arrays are differentiated where the op has a rule
for them. `REFERENCES[name]` is an independent definition for an op whose forward is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray

RANDOM = np.random.default_rng(20)


@dataclass(frozen=True)
class Sample:
    """One call of an op.

    repeatable: whether rows of the inputs may be repeated (not those of an invertible matrix).
    smooth: whether derivatives can be compared with differences here (not at a kink).
    """

    inputs: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)
    repeatable: bool = True
    smooth: bool = True


def sample(*inputs: Any, **params: Any) -> Sample:
    return Sample(inputs, params)


def draw(*shape: int, low: float = -2.0, high: float = 2.0) -> ndarray:
    """Floats in [low, high], none within 1/20 of 0, so that no kink at 0 is met by accident."""
    x = np.asarray(RANDOM.uniform(low, high, shape))
    return np.where(np.abs(x) < 0.05, x + 0.1, x)


def distinct(*shape: int) -> ndarray:
    """Elements at least 0.1 apart: no ties within a difference quotient's reach."""
    return (RANDOM.permutation(math.prod(shape)) * 0.1 - 0.43).reshape(shape)


SHAPES = [(2, 3), (), (0, 3), (2, 2, 3)]
TAPS = np.array([[0, 0, 1, 2], [1, 0, 2, 2]])
SHARES = np.array([[0.75, 1.0, 0.5, 0.25], [0.25, -0.5, 0.5, 0.75]])


def unary(low: float = -2.0, high: float = 2.0, **params: Any) -> list[Sample]:
    return [sample(draw(*shape, low=low, high=high), **params) for shape in SHAPES]


def binary(
    first: tuple[float, float] = (-2.0, 2.0), second: tuple[float, float] = (-2.0, 2.0)
) -> list[Sample]:
    """Equal shapes, every way of broadcasting, 0-d, empty, and Python numbers on either side."""
    pairs = [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((2, 1), (1, 3)),
        ((1,), (2, 2, 3)),
        ((2, 3), ()),
        ((), ()),
        ((0, 3), (1, 3)),
        ((1, 3), (0, 1)),
    ]
    low, high = zip(first, second, strict=True)
    found = [
        sample(draw(*a, low=low[0], high=high[0]), draw(*b, low=low[1], high=high[1]))
        for a, b in pairs
    ]
    found.append(sample(draw(2, 3, low=low[0], high=high[0]), float(high[1])))
    found.append(sample(float(high[0]), draw(2, 3, low=low[1], high=high[1])))
    return found


def choices(*shape: int) -> ndarray:
    return RANDOM.random(shape) < 0.5


def selections() -> list[Sample]:
    found = [sample(choices(*s.inputs[0].shape), *s.inputs) for s in binary()[:2]]
    found.append(sample(choices(2, 1), draw(2, 3), draw(3)))
    found.append(sample(choices(3), draw(2, 1), 1.5))
    found.append(sample(True, draw(), draw()))
    found.append(sample(choices(0, 3), draw(0, 3), draw(3)))
    return found


def reductions(
    shape: tuple[int, ...] = (2, 3, 2), values: Callable[..., ndarray] = draw, **params: Any
) -> list[Sample]:
    axes: list[Any] = [None, 0, -1, (0, 2), (0, 1, 2), (-1, 0)]
    found = [sample(values(*shape), axis=axis, **params) for axis in axes]
    found += [
        sample(values(*shape), axis=axis, keepdims=True, **params) for axis in (None, 1, (0, 2))
    ]
    found.append(sample(values(3), axis=0, **params))
    return found


SCALAR, EMPTY = (
    [sample(draw(), axis=None), sample(draw(), axis=())],
    [
        sample(draw(0, 3), axis=0),
        sample(draw(0, 3), axis=None),
        sample(draw(2, 0), axis=0),
        sample(draw(3, 0), axis=1, keepdims=True),
    ],
)


def invertible(*batch: int, n: int = 3) -> ndarray:
    return RANDOM.uniform(-1, 1, (*batch, n, n)) + 3 * np.eye(n) * np.arange(1, n + 1)


def positive_definite(*batch: int, n: int = 3) -> ndarray:
    """Its symmetric part is; it is not symmetric itself."""
    a = invertible(*batch, n=n)
    return np.asarray(a @ a.mT / n + 0.1 * np.triu(draw(n, n), 1))


def separated(m: int, n: int) -> ndarray:
    """A matrix whose singular values are 1, 2, ...: well away from each other."""
    u, _, vt = np.linalg.svd(draw(m, n), full_matrices=False)
    return np.asarray(u * np.arange(1.0, min(m, n) + 1) @ vt)


def matrices(make: Callable[..., ndarray] = invertible) -> list[Sample]:
    return [Sample((make(),), repeatable=False), sample(make(2)), sample(make(n=1))]


def cumulatives() -> list[Sample]:
    found = [sample(draw(2, 3), axis=axis) for axis in (0, 1, -1)]
    found += [sample(draw(2, 3, 2), axis=1, reverse=True), sample(draw(1), axis=0)]
    found += [sample(draw(0), axis=0), sample(draw(2, 0, 3), axis=1, reverse=True)]
    return found


def indexings(to_inputs: Callable[..., Sample]) -> list[Sample]:
    rows = np.array([2, 0, -1, 2])
    keys: list[Any] = [
        1,
        -1,
        slice(None, None, -2),
        (slice(None), None, 1),
        (..., slice(0, 2)),
        (1, 2, 0),
        None,
        (),
        rows,
        np.array([[0, 2], [2, 2]]),
        np.array([], dtype=np.int64),
        (rows, np.array([0, 1, 1, 0])),
        (rows[:, None], np.array([1, 0])),
        (slice(None), np.array([0, 0, 2])),
        (rows, slice(None), np.array([1, 0, 1, 1])),
        (slice(None), 1, np.array([1, 1])),
        choices(3, 4, 2),
        choices(3),
        (slice(None), choices(4)),
        (choices(3, 4), 0),
        np.bool_(True),
        (np.int64(1), ...),
    ]
    found = [to_inputs((3, 4, 2), key) for key in keys]
    found += [to_inputs((4,), 2), to_inputs((4,), np.array([1, 1, -1])), to_inputs((), ())]
    found += [to_inputs((), None), to_inputs((0, 3), slice(None)), to_inputs((0, 3), choices(0, 3))]
    found += [to_inputs((9, 2), RANDOM.integers(-9, 9, 40)), to_inputs((2, 3), choices(2, 3))]
    return found


def reduce_loss(y: ndarray, reduction: str) -> Any:
    return y if reduction == "none" else getattr(y, reduction)()


def selected(shape: tuple[int, ...], key: Any) -> Any:
    """What `x[key]` would be shaped as."""
    return np.broadcast_to(np.float64(0), shape)[key]


def along(shape: tuple[int, ...], axis: int, n: int) -> ndarray:
    """Indices into `axis`, `n` of them, with repeats and negative ones."""
    size = shape[axis]
    target = list(shape)
    target[axis] = n
    return RANDOM.integers(-size, size, target)


WINDOWS: list[tuple[tuple[int, ...], dict[str, tuple[int, ...]]]] = [
    ((2, 2, 5, 6), {"kernel": (2, 3), "stride": (1, 1), "dilation": (1, 1)}),
    ((2, 5, 6), {"kernel": (2, 2), "stride": (2, 3), "dilation": (1, 1)}),
    ((1, 6, 7), {"kernel": (2, 2), "stride": (3, 2), "dilation": (2, 3)}),
    ((2, 7), {"kernel": (3,), "stride": (2,), "dilation": (2,)}),
    ((6,), {"kernel": (2,), "stride": (4,), "dilation": (1,)}),
    ((4, 3, 4), {"kernel": (2, 2, 2), "stride": (2, 1, 1), "dilation": (1, 1, 1)}),
    ((0, 3, 3), {"kernel": (2, 2), "stride": (1, 1), "dilation": (1, 1)}),
]


def counts(shape: tuple[int, ...], window: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """How many windows there are along each of the last axes, by trying every start."""
    sizes = shape[len(shape) - len(window["kernel"]) :]
    return tuple(
        sum(1 for start in range(0, n, s) if start + d * (k - 1) < n)
        for n, k, s, d in zip(
            sizes, window["kernel"], window["stride"], window["dilation"], strict=True
        )
    )


def batch_shape(shape: tuple[int, ...], window: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    return shape[: len(shape) - len(window["kernel"])]


def folds() -> Iterable[Sample]:
    for shape, window in WINDOWS:
        positions = (*batch_shape(shape, window), *counts(shape, window), *window["kernel"])
        yield sample(draw(*positions), shape=shape, **window)


def picks(put: bool) -> Iterable[Sample]:
    for shape, window in WINDOWS:
        positions = (*batch_shape(shape, window), *counts(shape, window))
        index = RANDOM.integers(0, math.prod(window["kernel"]), positions).astype(np.int32)
        if put:
            yield sample(draw(*positions), index=index, shape=shape, **window)
        else:
            yield sample(draw(*shape), index=index, **window)


def _places(shape: tuple[int, ...], window: dict[str, tuple[int, ...]]) -> Iterable[Any]:
    """Every window's position, offset inside it, and the element of the array it lies on."""
    for position in product(*map(range, counts(shape, window))):
        for offset in product(*map(range, window["kernel"])):
            at = tuple(
                p * s + o * d
                for p, o, s, d in zip(
                    position, offset, window["stride"], window["dilation"], strict=True
                )
            )
            yield (..., *position), (..., *position, *offset), (..., *at), offset


def _unfold(x: ndarray, **window: Any) -> ndarray:
    y = np.empty(
        (*batch_shape(x.shape, window), *counts(x.shape, window), *window["kernel"]), x.dtype
    )
    for _, element, at, _ in _places(x.shape, window):
        y[element] = x[at]
    return y


def _max_pool(x: ndarray, **window: Any) -> ndarray:
    spatial = len(window["kernel"])
    return np.asarray(_unfold(x, **window).max(axis=tuple(range(-spatial, 0))))


def firsts() -> Iterable[Sample]:
    for shape, window in WINDOWS:
        for x in (distinct(*shape), np.zeros(shape)):
            y = _max_pool(x, **window)
            yield sample(draw(*y.shape), x, y, **window)


def convolution(stride: Any, padding: Any, dilation: Any, groups: int = 1) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def _convolve(
    x: ndarray,
    weight: ndarray,
    bias: ndarray | None = None,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> ndarray:
    """A product of all windows with all filters, group by group."""
    kernel = weight.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    windows = _unfold(x, kernel=kernel, stride=stride, dilation=dilation)
    over = range(-len(kernel), 0)
    parts = [
        np.tensordot(part, filters, axes=([1, *over], [1, *over]))
        for part, filters in zip(
            np.split(windows, groups, axis=1), np.split(weight, groups), strict=True
        )
    ]
    y = np.concatenate(parts, axis=-1)
    return np.moveaxis(y if bias is None else y + bias, -1, 1)


def _adjoint(linear: Callable[[ndarray], ndarray], shape: tuple[int, ...], g: ndarray) -> ndarray:
    """The transpose of a linear function, by what it does to each unit array."""
    found = np.zeros(shape, g.dtype)
    for place in np.ndindex(shape):
        unit = np.zeros(shape, g.dtype)
        unit[place] = 1
        found[place] = np.sum(linear(unit) * g)
    return found


def _convolve_transposed(g: ndarray, weight: ndarray, size: Any, **params: Any) -> ndarray:
    shape = (len(g), weight.shape[1] * params["groups"], *size)
    return _adjoint(lambda x: _convolve(x, weight, **params), shape, g)


def _convolve_weight(x: ndarray, g: ndarray, kernel: Any, **params: Any) -> ndarray:
    shape = (g.shape[1], x.shape[1] // params["groups"], *kernel)
    return _adjoint(lambda weight: _convolve(x, weight, **params), shape, g)


PADDINGS: list[tuple[tuple[int, ...], tuple[tuple[int, int], ...], float]] = [
    ((2, 3), ((1, 0), (2, 1)), 0.0),
    ((2, 3), ((0, 0), (0, 3)), -1.5),
    ((), (), 0.0),
    ((0, 2), ((1, 1), (0, 0)), 1.0),
]

EINSUMS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij,jk->ik", [(2, 3), (3, 2)]),
    ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
    ("ii->", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("iij->ij", [(2, 2, 3)]),
    ("iij->j", [(2, 2, 3)]),
    ("ij->", [(2, 3)]),
    ("ij->j", [(2, 3)]),
    ("ij->ji", [(2, 3)]),
    ("i,j->ij", [(2,), (3,)]),
    ("ij,ij->", [(2, 3), (2, 3)]),
    ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)]),
    ("i,i,i->i", [(3,), (3,), (3,)]),
    ("ijk,ilk->jl", [(2, 3, 2), (2, 2, 2)]),
    ("iij,jk->k", [(2, 2, 3), (3, 2)]),
    (",ij->ij", [(), (2, 3)]),
    ("ij,k->i", [(2, 3), (4,)]),
]

MATMULS = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((2, 2), (2, 2)),
    ((2, 2, 3), (3, 2)),
    ((2, 3), (2, 3, 2)),
    ((2, 2, 3), (3,)),
    ((3,), (2, 3, 2)),
    ((2, 2, 3), (2, 3, 2)),
    ((1, 2, 3), (2, 3, 2)),
    ((2, 1, 2, 3), (3, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
]

LINEARS: list[list[tuple[int, ...]]] = [
    [(2, 3), (4, 3), (4,)],
    [(2, 3), (4, 3)],
    [(3,), (4, 3), (4,)],
    [(3,), (4, 3)],
    [(2, 2, 3), (4, 3), (4,)],
    [(2, 3), (4, 3), (1,)],
    [(2, 3), (4, 3), ()],
    [(2, 2, 3), (2, 4, 3), (2, 4)],
    [(2, 3), (2, 4, 3), (2, 4)],
    [(2, 2, 3), (2, 4, 3)],
    [(0, 3), (4, 3), (4,)],
]

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 2, 4, 5), (3, 2, 2, 3), convolution((1, 1), ((0, 0), (0, 0)), (1, 1))),
    ((1, 2, 5, 6), (2, 1, 2, 2), convolution((2, 3), ((1, 0), (0, 1)), (1, 1), groups=2)),
    ((2, 4, 6), (4, 2, 3), convolution((2,), ((1, 1),), (2,), groups=2)),
    ((1, 1, 6, 4), (2, 1, 2, 2), convolution((3, 2), ((0, 0), (1, 2)), (1, 2))),
    ((1, 3, 4, 3), (6, 1, 2, 2), convolution((1, 1), ((1, 1), (1, 1)), (1, 1), groups=3)),
    ((0, 2, 4), (3, 2, 3), convolution((1,), ((0, 0),), (1,))),
]


def convolutions(op: str) -> Iterable[Sample]:
    """Of a convolution: itself, with a bias, and its two adjoints."""
    for shape, weight, params in CONVOLUTIONS:
        y = _convolve(np.zeros(shape), np.zeros(weight), **params).shape
        if op == "convolve":
            yield sample(draw(*shape), draw(*weight), **params)
            yield sample(draw(*shape), draw(*weight), draw(weight[0]), **params)
        elif op == "convolve_transposed":
            yield sample(draw(*y), draw(*weight), size=shape[2:], **params)
        else:
            yield sample(draw(*shape), draw(*y), kernel=weight[2:], **params)


positive = (0.3, 2.0)
fractions = {"low": 0.1, "high": 0.9}

ENDED = np.array([[[True], [True]], [[True], [False]], [[True], [False]]])
"""The mask of two sequences, of three steps and of one."""


def sequences(gates: int, states: int, **params: Any) -> Iterable[Sample]:
    """Forward and back, with and without an end, one step, and no sequence at all."""
    for more in ({}, {"reverse": True}, {"mask": ENDED}, {"mask": ENDED, "reverse": True}):
        first = [draw(2, 2) for _ in range(states)]
        yield sample(draw(3, 2, 2 * gates), *first, draw(2 * gates, 2), **more, **params)
    for steps, batch in ((1, 2), (2, 0)):
        first = [draw(batch, 3) for _ in range(states)]
        yield sample(draw(steps, batch, 3 * gates), *first, draw(3 * gates, 3), **params)


def projected_sequences() -> Iterable[Sample]:
    """An LSTM of 3 units whose states have 2 features."""
    for more in ({}, {"reverse": True}, {"mask": ENDED}, {"mask": ENDED, "reverse": True}):
        z, h, c = draw(3, 2, 12), draw(2, 2), draw(2, 3)
        yield sample(z, h, c, draw(12, 2), draw(2, 3), **more)


def attentions() -> Iterable[Sample]:
    """Each kind of mask, axes that broadcast, a query that sees nothing, and no keys."""
    q, k, v = draw(2, 3, 2), draw(2, 4, 2), draw(2, 4, 3)
    seen = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]], bool)
    keep = np.array([0.0, 2.0, 2.0, 2.0]) * np.ones((2, 3, 1))
    yield sample(q, k, v, scale=0.7)
    yield sample(q, k, v, scale=0.7, is_causal=True)
    yield sample(q, k, v, seen, scale=0.7)
    yield sample(q, k, v, draw(1, 4), scale=0.7)
    yield sample(q, k, v, keep, scale=0.7, dropped=True)
    yield sample(q, k, v, seen, keep, scale=0.7, dropped=True)
    yield sample(draw(2, 1, 3, 2), k, draw(4, 1), scale=1.5)
    yield sample(draw(3, 2), draw(0, 2), draw(0, 3), scale=0.7)


def alignments() -> Iterable[Sample]:
    """Equal labels, other blanks, sequences that end before others, and none."""
    labels = np.array([[1, 1], [2, 1], [0, 0]])
    yield sample(draw(4, 3, 3), labels, np.array([4, 3, 1]), np.array([2, 2, 0]), blank=0)
    yield sample(draw(3, 2, 3), labels[:2] - 1, np.array([3, 2]), np.array([1, 2]), blank=2)
    yield sample(draw(2, 2, 2), np.zeros((2, 0), int), np.array([2, 0]), np.zeros(2, int), blank=1)
    yield sample(draw(2, 0, 2), np.ones((0, 1), int), np.ones(0, int), np.ones(0, int), blank=0)


SAMPLES: dict[str, list[Sample]] = {
    # elementwise: arithmetic
    "add": binary(),
    "subtract": binary(),
    "multiply": binary(),
    "divide": binary(second=(0.5, 2.0)),
    "remainder": [
        sample(np.array([5.3, -5.3, 0.7]), np.array([2.0, 2.0, -0.5])),
        sample(draw(), 0.7),
    ],
    "fmod": [
        sample(np.array([5.3, -5.3, 0.7]), np.array([2.0, 2.0, -0.5])),
        sample(draw(2, 1), np.array([0.3, 7.0])),
        sample(draw(), 0.7),
    ],
    "copysign": [*binary(), Sample((np.zeros(2), np.array([0.0, -0.0])), smooth=False)],
    "heaviside": [*binary(), sample(np.array([0, 1, -1]), draw(3))],
    "negative": unary(),
    "positive": unary(),
    "absolute": unary(),
    "square": unary(),
    "reciprocal": unary(*positive),
    "sqrt": unary(*positive),
    "cbrt": unary(*positive),
    "power": [
        *binary(first=positive),
        *[sample(draw(2, 3), n) for n in (2, 3.0, 0, 1, -1)],
        *[sample(draw(2, 3), np.array([2, 0, 3]))],
    ],
    "power_derivative": [
        sample(*case.inputs, by_base=m, by_exponent=n)
        for case in binary(first=positive)[:2]
        for m, n in [(1, 0), (0, 1), (1, 1), (2, 1)]
    ],
    "hypot": binary(),
    "arctan2": binary(),
    "logaddexp": binary(),
    "logaddexp2": binary(),
    **{
        name: [sample(*case.inputs, scale=scale) for scale in (1.0, 0.5) for case in binary()]
        for name in ("exp_share", "exp_share_slope")
    },
    "tanh_vjp": [sample(draw(*shape), draw(*shape)) for shape in SHAPES],
    # elementwise: exponentials, logarithms, trigonometry
    "exp": unary(),
    "exp2": unary(),
    "expm1": unary(),
    "log": unary(*positive),
    "log1p": unary(-0.7, 2.0),
    "log2": unary(*positive),
    "log10": unary(*positive),
    "sin": unary(),
    "cos": unary(),
    "tan": unary(-1.2, 1.2),
    "arcsin": unary(-0.8, 0.8),
    "arccos": unary(-0.8, 0.8),
    "arctan": unary(),
    "sinh": unary(),
    "cosh": unary(),
    "tanh": unary(),
    "arcsinh": unary(),
    "arccosh": unary(1.3, 3.0),
    "arctanh": unary(-0.8, 0.8),
    "deg2rad": unary(),
    "rad2deg": unary(),
    "sinc": [*unary(), sample(np.array([0.0, 1e-4, 9e-3, -0.011, 1.0]))],
    "sigmoid": [*unary(), Sample((np.array([-800.0, -40.0, 0.0, 40.0, 800.0]),), smooth=False)],
    "logistic": [*unary(), Sample((np.array([-800.0, -40.0, 0.0, 40.0, 800.0]),), smooth=False)],
    "softplus": [*unary(), Sample((np.array([-800.0, -40.0, 0.0, 40.0, 800.0]),), smooth=False)],
    "gelu": unary(),
    "relu": [*unary(), Sample((draw(70, 70),), smooth=False), Sample((np.zeros(3),), smooth=False)],
    "erf": unary(),
    # elementwise: selection
    "where": [*selections(), Sample((choices(70, 70), draw(70, 70), draw(70)), smooth=False)],
    "where_or_zero": [
        sample(draw(2, 3), choices(2, 3)),
        sample(draw(2, 3), choices(3)),
        sample(draw(2, 3), np.array([0.0, 2.0, -1.0])),
        sample(draw(), True),
        sample(draw(0, 3), choices(0, 3)),
        Sample((draw(70, 70), choices(70, 70)), smooth=False),
        Sample((draw(70, 70), choices(70)), smooth=False),
    ],
    "kink": [sample(draw(2, 3), np.zeros((2, 3), bool)), sample(draw(0, 3), choices(0, 3))],
    "subgradient_product": [
        Sample((draw(2, 3), draw(2, 3), np.zeros((2, 3))), {"transposed": transposed}, smooth=False)
        for transposed in (False, True)
    ],
    "undefined": [
        sample(draw(2, 3), np.zeros((2, 3), bool)),
        sample(draw(2, 3), np.zeros(3, bool)),
        sample(draw(), False),
        sample(draw(0, 3), choices(0, 3)),
        Sample((np.array([0.0, 2.0, 0.0]), np.array([True, True, False])), smooth=False),
    ],
    "maximum": binary(),
    "minimum": binary(),
    "fmax": binary(),
    "fmin": binary(),
    "clip": [
        *[sample(draw(*shape), low=-1.03, high=0.52) for shape in SHAPES],
        sample(draw(2, 3), low=0.1),
        sample(draw(2, 3), high=0.1),
    ],
    # elementwise: without a derivative
    **{
        name: [
            sample(x) for x in (draw(2, 3), draw(), draw(0, 3), np.array([2.5, -0.5, 0.0, -0.0]))
        ]
        for name in ("sign", "floor", "ceil", "trunc", "rint", "round", "signbit", "logical_not")
    },
    **{
        name: [*binary(), sample(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))]
        for name in (
            "equal",
            "not_equal",
            "less",
            "less_equal",
            "greater",
            "greater_equal",
            "logical_and",
            "logical_or",
            "logical_xor",
        )
    },
    "floor_divide": binary(second=(0.5, 2.0)),
    **{
        name: [sample(choices(2, 3), choices(3)), sample(np.arange(6), np.arange(6)[::-1])]
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
    },
    "invert": [sample(choices(2, 3)), sample(np.arange(6))],
    **{
        name: [sample(np.array([[1.0, np.nan], [np.inf, -np.inf]])), *unary()]
        for name in ("isnan", "isinf", "isfinite")
    },
    "astype": [
        sample(draw(2, 3), dtype=np.dtype(np.float64)),
        sample(draw(), dtype=np.dtype(np.float64)),
        sample(draw(0, 3), dtype=np.dtype(np.float64)),
    ],
    # reductions
    "sum_": [*reductions(), *SCALAR, *EMPTY],
    "mean_": [*reductions(), *SCALAR, sample(draw(3, 0), axis=0)],
    "var_": [
        *reductions(),
        *reductions(ddof=1),
        sample(draw(), axis=None),
        sample(draw(3, 0), axis=0),
    ],
    "std_": [*reductions(), *reductions(ddof=1), sample(draw(3, 0), axis=0)],
    "max_": [*reductions(values=distinct), *SCALAR, sample(draw(3, 0), axis=0)],
    "min_": [*reductions(values=distinct), *SCALAR, sample(draw(3, 0), axis=0)],
    "prod_": [*reductions(), *SCALAR, *EMPTY, sample(np.array([[0.0, 2.0], [0.0, 0.0]]), axis=1)],
    "shares": [sample(draw(2, 3, 4), axis=axis) for axis in (None, 0, -1, (0, 2))],
    "logsumexp_": [*reductions(), sample(draw(), axis=None), sample(draw(3, 0), axis=0)],
    "norm_": [*reductions(), *reductions(least=0.01), sample(draw(3, 0), axis=0)],
    "p_norm_": [
        *(case for p in (3.0, 1.5, 0.5, -1.0) for case in reductions(p=p)[2:7]),
        *reductions(p=2.5, least=0.01)[2:7],
        sample(draw(3, 0), p=3.0, axis=0),
    ],
    "median_": [sample(distinct(*shape)) for shape in ((2, 3), (5,), (1,), ())],
    "argmax_": [sample(distinct(2, 3), axis=axis) for axis in (None, 0, -1)],
    "argmin_": [sample(distinct(2, 3), axis=axis) for axis in (None, 0, -1)],
    "any_": [*reductions(values=choices), *EMPTY],
    "all_": [*reductions(values=choices), *EMPTY],
    "count_nonzero_": [*reductions(values=choices), *EMPTY],
    "cumsum_": cumulatives(),
    "cumprod_": [*cumulatives(), sample(np.array([2.0, 0.0, 3.0, 0.0, 1.5]), axis=0)],
    "recurrence": [
        sample(draw(2, 4), draw(2, 4), axis=1),
        sample(draw(4, 2), draw(4, 2), axis=0, reverse=True),
        sample(draw(1), draw(1), axis=0),
        sample(draw(2, 0), draw(2, 0), axis=1),
    ],
    # shape
    "reshape": [
        sample(draw(2, 3), shape=shape) for shape in ((3, 2), (-1,), (6,), (1, 2, 3, 1), (2, 3))
    ]
    + [sample(draw(), shape=(1, 1)), sample(draw(0, 3), shape=(3, 0)), sample(draw(1), shape=())],
    "transpose": [
        sample(draw(2, 3), axes=None),
        sample(draw(2, 3, 4), axes=(2, 0, 1)),
        sample(draw(2, 3, 4), axes=(-2, 0, -1)),
        sample(draw(), axes=()),
        sample(draw(0, 3), axes=(1, 0)),
    ],
    "swapaxes": [sample(draw(2, 3, 4), axis1=0, axis2=-1), sample(draw(0, 3), axis1=1, axis2=0)],
    "broadcast_to": [
        sample(draw(), shape=(2, 3)),
        sample(draw(3), shape=(2, 3)),
        sample(draw(2, 1), shape=(4, 2, 3)),
        sample(draw(1, 3), shape=(0, 3)),
        sample(draw(2), shape=(2,)),
    ],
    "flip": [sample(draw(2, 3), axis=axis) for axis in (None, 0, -1, (0, 1))]
    + [sample(draw(), axis=None), sample(draw(0, 3), axis=1)],
    "roll": [
        sample(draw(2, 3), shift=1, axis=None),
        sample(draw(2, 3), shift=-2, axis=1),
        sample(draw(2, 3), shift=(1, 2), axis=(0, 1)),
        sample(draw(0, 3), shift=1, axis=0),
        sample(draw(), shift=1, axis=None),
    ],
    "stack": [sample(draw(2, 3), draw(2, 3), draw(2, 3), axis=axis) for axis in (0, 1, 2, -1)]
    + [sample(draw(), draw(), axis=0), sample(draw(0, 3), axis=1)],
    "concatenate": [
        sample(draw(2, 3), draw(1, 3), axis=0),
        sample(draw(2, 3), draw(2, 1), draw(2, 2), axis=-1),
        sample(draw(2, 3), draw(2), axis=None),
        sample(draw(0, 3), draw(2, 3), axis=0),
        sample(draw(3), axis=0),
    ],
    "pad": [sample(draw(*shape), widths=w, value=v) for shape, w, v in PADDINGS],
    # indexing
    "getitem": indexings(lambda shape, key: sample(draw(*shape), key=key)),
    "index_add": indexings(
        lambda shape, key: sample(draw(*selected(shape, key).shape), key=key, shape=shape)
    ),
    "take_along_axis": [
        sample(draw(3, 4), indices=along((3, 4), axis, n), axis=axis)
        for axis, n in ((0, 2), (1, 5), (-1, 1))
    ]
    + [sample(draw(3, 4), indices=along((2, 4), 1, 3), axis=1)],
    "take_weighted": [
        sample(draw(*shape), indices=TAPS, weights=SHARES, axis=axis, size=3)
        for shape, axis in (((3,), 0), ((2, 3), 1), ((3, 2), 0), ((2, 3, 2), 1))
    ],
    "add_weighted": [
        sample(draw(*shape), indices=TAPS, weights=SHARES, axis=axis, size=3)
        for shape, axis in (((4,), 0), ((2, 4), 1), ((4, 2), 0), ((2, 4, 2), 1))
    ],
    "add_along_axis": [
        sample(draw(2, 4), indices=along((3, 4), 0, 2), axis=0, shape=(3, 4)),
        sample(draw(3, 5), indices=along((3, 4), 1, 5), axis=-1, shape=(3, 4)),
        sample(draw(2, 3), indices=along((2, 4), 1, 3), axis=1, shape=(3, 4)),
    ],
    **{
        name: [
            sample(draw(3, 4), *[draw(*index.shape)] * (name == "put_along_axis"), **at)
            for index in (along((3, 4), 1, 6), along((2, 4), 1, 3), np.zeros((3, 0), np.int64))
            for at in [{"indices": index, "axis": 1}]
        ]
        for name in ("put_along_axis", "clear_along_axis", "take_winners")
    },
    "extreme_along_axis": [
        sample(distinct(3, 4), distinct(3, 6) + 0.05, indices=along((3, 4), 1, 6), axis=1, **mode)
        for mode in (
            {"largest": largest, "include_self": include_self}
            for largest in (True, False)
            for include_self in (True, False)
        )
    ],
    "searchsorted": [
        sample(np.array([-1.0, 0.0, 0.5, 2.0]), draw(2, 3), side="left"),
        sample(
            np.array([[-1.0, 0.5], [0.0, 1.0]]), np.array([[0.5, 0.0], [1.0, 2.0]]), side="right"
        ),
    ],
    **{
        name: [sample(draw(3, 4), k=k) for k in (0, 1, -2)]
        + [sample(draw(2, 2, 3), k=0), sample(draw(0, 3), k=0)]
        for name in ("triu", "tril")
    },
    "diagonal": [
        sample(draw(3, 4), offset=0, axis1=0, axis2=1),
        sample(draw(3, 4), offset=-1, axis1=0, axis2=1),
        sample(draw(2, 3, 4), offset=1, axis1=-2, axis2=-1),
        sample(draw(0, 3), offset=0, axis1=0, axis2=1),
    ],
    "put_diagonal": [
        sample(draw(3), offset=0, axis1=0, axis2=1, shape=(3, 4)),
        sample(draw(2), offset=-1, axis1=0, axis2=1, shape=(3, 4)),
        sample(draw(2, 3), offset=1, axis1=-2, axis2=-1, shape=(2, 3, 4)),
        sample(draw(0), offset=0, axis1=0, axis2=1, shape=(0, 3)),
    ],
    # linear algebra
    "matmul": [sample(draw(*a), draw(*b)) for a, b in MATMULS],
    "linear": [sample(*(draw(*shape) for shape in shapes)) for shapes in LINEARS],
    "einsum": [sample(*(draw(*s) for s in shapes), subscripts=names) for names, shapes in EINSUMS],
    "inv": matrices(),
    "solve": [
        Sample((invertible(), draw(3)), repeatable=False),
        Sample((invertible(), draw(3, 2)), repeatable=False),
        sample(invertible(2), draw(2, 3, 2)),
        Sample((invertible(2), draw(3, 2)), repeatable=False),
        Sample((invertible(), draw(2, 3, 2)), repeatable=False),
    ],
    "solve_triangular": [
        Sample((invertible(), draw(3, 2)), {"upper": True, "unit": False}, repeatable=False),
        Sample((invertible(), draw(3, 2)), {"upper": False, "unit": False}, repeatable=False),
        sample(invertible(2), draw(2, 3, 2), upper=True, unit=True),
        Sample((invertible(), draw(2, 3, 1)), {"upper": False, "unit": True}, repeatable=False),
    ],
    "lstsq": [
        Sample((separated(*a), draw(*b)), repeatable=False)
        for a, b in (((4, 2), (4, 3)), ((2, 4), (2, 1)), ((3, 3), (2, 3, 2)))
    ],
    "null_projection": [
        Sample((separated(*a), draw(*b)), repeatable=False)
        for a, b in (((2, 4), (4, 3)), ((3, 4), (2, 4, 1)), ((4, 2), (2, 2)))
    ],
    "qr_packed": [
        *matrices(),
        Sample((separated(4, 2),), repeatable=False),
        Sample((draw(2, 3, 2),), repeatable=False),
    ],
    "det": matrices(),
    "cofactor": [
        *matrices(),
        Sample((invertible(), draw(3, 3)), repeatable=False),
        sample(invertible(2), draw(2, 3, 3)),
        sample(invertible(n=1), draw(1, 1)),
        Sample((invertible(), draw(3, 3), draw(3, 3)), repeatable=False),
    ],
    "pinv": [*matrices(), *(Sample((separated(*s),), repeatable=False) for s in ((4, 2), (2, 4)))],
    "logabsdet": matrices(),
    "logabsdet_slope": matrices(),
    "signdet": [*matrices(), sample(-invertible(2))],
    "cholesky": matrices(positive_definite),
    "eigh_packed": matrices(positive_definite),
    **{  # not smooth: their rules also mark the cotangent, which is not linear
        name: [Sample((draw(*shape),), params, smooth=False) for shape, params in shapes]
        for name, shapes in {
            "eigenvectors": [((5, 3), {}), ((2, 4, 2), {}), ((2, 0), {})],
            "left_vectors": [((2, 8), {"m": 4}), ((2, 3, 6), {"m": 3})],
            "right_vectors": [((2, 8), {"m": 4}), ((2, 3, 6), {"m": 3})],
        }.items()
    },
    "svd_packed": [
        *matrices(),
        Sample((separated(4, 2),), repeatable=False),
        Sample((separated(2, 4),), repeatable=False),
    ],
    # networks
    **{
        name: [sample(draw(2, 3), axis=axis) for axis in (0, 1, -1)]
        + [sample(draw(2, 3, 2), axis=1), sample(draw(1), axis=0), sample(draw(0, 3), axis=1)]
        + [Sample((np.array([-1e3, 0.0, 1e3, 999.0]),), {"axis": 0}, smooth=False)]
        for name in ("softmax", "log_softmax")
    },
    **{
        name: [
            sample(draw(4, 3), np.array([2, 0, 2, 1]), axis=1),
            sample(draw(3), np.array(1), axis=0),
            sample(draw(2, 3, 2), RANDOM.integers(0, 3, (2, 2)), axis=1),
            sample(draw(0, 3), np.zeros(0, np.int64), axis=1),
        ]
        for name in ("cross_entropy", "gather_labels")
    },
    "scatter_labels": [
        sample(draw(4), np.array([2, 0, 2, 1]), axis=1, classes=3),
        sample(draw(), np.array(1), axis=0, classes=3),
        sample(draw(2, 2), RANDOM.integers(0, 3, (2, 2)), axis=1, classes=4),
        sample(draw(0), np.zeros(0, np.int64), axis=1, classes=3),
    ],
    "bce": binary(first=(0.1, 0.9), second=(0.1, 0.9))[:8],
    "bce_with_logits": [
        sample(draw(2, 3), draw(2, 3, **fractions), reduction="mean"),
        sample(draw(2, 3), draw(2, 3, **fractions), reduction="sum"),
        sample(draw(2, 3), draw(2, 3, **fractions)),
        sample(draw(2, 3), draw(2, 3, **fractions), draw(2, 3, **fractions)),
        sample(draw(2, 3), draw(3, **fractions), draw(2, 1, **fractions)),
        sample(draw(), draw(**fractions), draw(**fractions)),
        sample(draw(0, 3), draw(3, **fractions), draw(3, **fractions)),
    ],
    "bce_with_logits_vjp": [
        sample(draw(2, 3), draw(2, 3, **fractions)),
        sample(draw(2, 3), draw(2, 3, **fractions), draw(2, 3, **fractions)),
        sample(draw(2, 3), draw(3, **fractions), draw(2, 1, **fractions)),
        sample(draw(0, 3), draw(3, **fractions), draw(3, **fractions)),
    ],
    "normalize": [
        sample(draw(2, 4), axis=(1,), eps=1e-5),
        sample(draw(3, 2, 2), axis=(0, 2), eps=0.1),
        sample(draw(2, 2, 3), axis=(1, 2), eps=1e-5),
        sample(draw(0, 3), axis=(1,), eps=1e-5),
    ],
    "layer_norm": [
        sample(draw(2, 4), draw(4), draw(4), axes=1, eps=1e-5),
        sample(draw(3, 2, 3), draw(2, 3), draw(2, 3), axes=2, eps=0.1),
        sample(draw(4), draw(4), draw(4), axes=1, eps=0.1),
        sample(draw(0, 3), draw(3), draw(3), axes=1, eps=1e-5),
    ],
    "channel_norm": [
        sample(draw(3, 2), draw(2), draw(2), groups=0, eps=1e-5),
        sample(draw(2, 3, 2), draw(3), draw(3), groups=0, eps=0.1),
        sample(draw(2, 4, 2, 2), draw(4), draw(4), groups=2, eps=1e-5),
        sample(draw(2, 4, 3), groups=1, eps=0.1),
        sample(draw(2, 2, 3), draw(2), groups=2, eps=1e-5),
        sample(draw(0, 4, 3), draw(4), draw(4), groups=2, eps=1e-5),
    ],
    "attention": list(attentions()),
    "dropout_mask": [
        sample(draw(*shape), p=p, generator=np.random.default_rng(0))
        for shape in ((2, 3), (), (0, 3))
        for p in (0.0, 1.0)
    ],
    # windows
    "unfold": [sample(draw(*shape), **window) for shape, window in WINDOWS],
    "fold": list(folds()),
    "convolve": list(convolutions("convolve")),
    "convolve_transposed": list(convolutions("convolve_transposed")),
    "convolve_weight": list(convolutions("convolve_weight")),
    "sum_pool": [sample(draw(*shape), **window) for shape, window in WINDOWS],
    "max_pool": [sample(distinct(*shape), **window) for shape, window in WINDOWS],
    "max_pool_gather": list(picks(put=False)),
    "max_unpool": list(picks(put=True)),
    "max_pool_vjp": list(firsts()),
    # sequences
    "ctc": list(alignments()),
    # recurrent nets
    "rnn_scan": [*sequences(1, 1), *sequences(1, 1, nonlinearity="relu")],
    "lstm_scan": [*sequences(4, 2), *projected_sequences()],
    "_table_rows_op": [
        sample(draw(4, 3), rows=np.array([[1, 2], [1, 0]]), padding_idx=None),
        sample(draw(4, 2), rows=np.array([], int), padding_idx=None),
    ],
    "gru_scan": [
        *sequences(3, 1),
        sample(draw(3, 2, 6), draw(2, 2), draw(6, 2), draw(6), mask=ENDED, reverse=True),
    ],
}


# ------------------------------------------------------------------ what they should give


def _recurrence(b: ndarray, a: ndarray, axis: int, reverse: bool = False) -> ndarray:
    b, a = np.moveaxis(b, axis, 0), np.moveaxis(a, axis, 0)
    r = b.copy()
    for i in range(len(b))[:: -1 if reverse else 1]:
        before = i + 1 if reverse else i - 1
        if 0 <= before < len(b):
            r[i] = b[i] + a[i] * r[before]
    return np.moveaxis(r, 0, axis)


def _cumulative(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: ndarray, axis: int, reverse: bool = False) -> Any:
        return np.flip(function(np.flip(x, axis), axis), axis) if reverse else function(x, axis)

    return reference


def _fold(g: ndarray, shape: tuple[int, ...], **window: Any) -> ndarray:
    x = np.zeros(shape, g.dtype)
    for _, element, at, _ in _places(shape, window):
        x[at] += g[element]
    return x


def _window_pick(x: ndarray, index: ndarray, **window: Any) -> ndarray:
    flat = _unfold(x, **window).reshape(*index.shape, math.prod(window["kernel"]))
    return np.take_along_axis(flat, index[..., None], -1)[..., 0]


def _max_unpool(g: ndarray, index: ndarray, shape: tuple[int, ...], **window: Any) -> ndarray:
    x = np.zeros(shape, g.dtype)
    for position, _, at, offset in _places(shape, window):
        number = np.ravel_multi_index(offset, window["kernel"])
        x[at] += np.where(index[position] == number, g[position], 0)
    return x


def _max_pool_vjp(g: ndarray, x: ndarray, y: ndarray, **window: Any) -> ndarray:
    windows = _unfold(x, **window)
    index = windows.reshape(*y.shape, math.prod(window["kernel"])).argmax(-1)
    return _max_unpool(g, index, x.shape, **window)


def _window_sum(x: ndarray, **window: Any) -> Any:
    spatial = len(window["kernel"])
    return _unfold(x, **window).sum(axis=tuple(range(-spatial, 0)))


def _log_softmax(x: ndarray, axis: int) -> Any:
    x = x - np.max(x, axis=axis, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True))


def _label_pick(x: ndarray, labels: ndarray, axis: int) -> ndarray:
    classes_last = np.moveaxis(x, axis, -1)
    return np.asarray(np.take_along_axis(classes_last, labels[..., None], -1)[..., 0])


def _label_put(g: ndarray, labels: ndarray, axis: int, classes: int) -> ndarray:
    one_hot = np.moveaxis(np.eye(classes, dtype=g.dtype)[labels], -1, axis)
    return np.asarray(one_hot * np.expand_dims(g, axis))


def _normalize(x: ndarray, axis: Any, eps: float) -> Any:
    mean, var = np.mean(x, axis=axis, keepdims=True), np.var(x, axis=axis, keepdims=True)
    return (x - mean) / np.sqrt(var + eps)


def _cofactor(a: ndarray, *directions: ndarray) -> Any:
    """From det(a) a^-T by differences, exact for matrices up to 3 x 3: cofactors are quadratic."""
    if directions:
        *others, h = directions
        return (_cofactor(a + h, *others) - _cofactor(a - h, *others)) / 2
    return np.linalg.det(a)[..., None, None] * np.linalg.inv(a).mT


def _index_add(g: ndarray, key: Any, shape: tuple[int, ...]) -> ndarray:
    x = np.zeros(shape, g.dtype)
    np.add.at(x, key, g)
    return x


def _add_along_axis(g: ndarray, indices: ndarray, axis: int, shape: tuple[int, ...]) -> ndarray:
    x = np.zeros(shape, g.dtype)
    for place in np.ndindex(indices.shape):
        at = list(place)
        at[axis] = indices[place]
        x[tuple(at)] += g[place]
    return x


def _put_along_axis(x: ndarray, src: ndarray, indices: ndarray, axis: int) -> ndarray:
    y = x.copy()
    for at in np.ndindex(indices.shape):
        y[(*at[:axis], indices[at], *at[axis + 1 :])] = src[at]
    return y


def _take_winners(x: ndarray, indices: ndarray, axis: int) -> ndarray:
    """The adjoint of what `src` is to `put_along_axis`."""
    return _adjoint(
        lambda src: _put_along_axis(np.zeros_like(x), src, indices, axis), indices.shape, x
    )


def _extreme_along_axis(
    x: ndarray, src: ndarray, indices: ndarray, axis: int, largest: bool, include_self: bool
) -> ndarray:
    y, better = x.copy(), max if largest else min
    met = set()
    for at in np.ndindex(indices.shape):
        place = (*at[:axis], indices[at] % x.shape[axis], *at[axis + 1 :])
        y[place] = better(y[place], src[at]) if include_self or place in met else src[at]
        met.add(place)
    return y


def _searchsorted(ordered: ndarray, values: ndarray, side: str) -> ndarray:
    below = np.less if side == "left" else np.less_equal
    return np.asarray(below(ordered[..., None, :], values[..., None]).sum(-1))


def _resampling(indices: ndarray, weights: ndarray, size: int) -> ndarray:
    """The matrix of weighted reads, one row for each."""
    matrix = np.zeros((indices.shape[1], size))
    for index, weight in zip(indices, weights, strict=True):
        matrix[np.arange(len(index)), index] += weight
    return matrix


def _take_along_axis(x: ndarray, indices: ndarray, axis: int) -> ndarray:
    y = np.empty(indices.shape, x.dtype)
    for place in np.ndindex(indices.shape):
        at = list(place)
        at[axis] = indices[place]
        y[place] = x[tuple(at)]
    return y


def _put_diagonal(
    g: ndarray, offset: int, axis1: int, axis2: int, shape: tuple[int, ...]
) -> ndarray:
    x = np.zeros(shape, g.dtype)
    moved = np.moveaxis(x, (axis1, axis2), (-2, -1))
    for i in range(g.shape[-1]):
        moved[..., i - min(offset, 0), i + max(offset, 0)] = g[..., i]
    return x


def _pad(x: ndarray, widths: Any, value: float = 0.0) -> ndarray:
    return np.pad(x, widths, constant_values=value) if x.ndim else x


def _linear(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> Any:
    y = (
        np.einsum("...i,...oi->...o", x, weight)
        if x.ndim < 2 or weight.ndim == 2
        else x @ weight.mT
    )
    if bias is None:
        return y
    return y + (bias[..., None, :] if bias.ndim > 1 else bias)


def _svd_packed(a: ndarray) -> ndarray:
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return np.concatenate([u.mT, s[..., None], vt, 0 * s[..., None]], axis=-1)


def _eigh_packed(a: ndarray) -> ndarray:
    values, vectors = np.linalg.eigh((a + a.mT) / 2)
    return np.concatenate([values[..., None, :], vectors, 0 * values[..., None, :]], axis=-2)


def _squash(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _steps(z: ndarray, mask: Any, reverse: bool) -> Iterable[tuple[int, ndarray]]:
    """Each step taken, with what says for each sequence whether it goes on."""
    going = np.ones((*z.shape[:2], 1), bool) if mask is None else mask
    for t in reversed(range(len(z))) if reverse else range(len(z)):
        yield t, going[t]


def _rnn_scan(
    z: ndarray,
    h: ndarray,
    w: ndarray,
    nonlinearity: str = "tanh",
    mask: Any = None,
    reverse: bool = False,
) -> ndarray:
    y = np.zeros((*z.shape[:2], w.shape[1]), z.dtype)
    for t, goes in _steps(z, mask, reverse):
        new = z[t] + h @ w.T
        new = np.tanh(new) if nonlinearity == "tanh" else new * (new > 0)
        y[t] = h = np.where(goes, new, h)
    return y


def _lstm_scan(
    z: ndarray, h: ndarray, c: ndarray, w: ndarray, p: Any = None, mask: Any = None,
    reverse: bool = False,
) -> ndarray:  # fmt: skip
    p = np.eye(c.shape[1]) if p is None else p
    y = np.zeros((6, *z.shape[:2], c.shape[1]), z.dtype)
    for t, goes in _steps(z, mask, reverse):
        i, f, a, o = np.split(z[t] + h @ w.T, 4, axis=1)
        i, f, a, o = _squash(i), _squash(f), np.tanh(a), _squash(o)
        h, c = (
            np.where(goes, o * np.tanh(f * c + i * a) @ p.T, h),
            np.where(goes, f * c + i * a, c),
        )
        y[0, t, :, : len(p)] = h
        y[1:, t] = c, i, f, a, o
    return y


def _gru_scan(
    z: ndarray, h: ndarray, w: ndarray, b: Any = 0.0, mask: Any = None, reverse: bool = False
) -> ndarray:
    y = np.zeros((5, *z.shape[:2], w.shape[1]), z.dtype)
    for t, goes in _steps(z, mask, reverse):
        zr, zu, zn = np.split(z[t], 3, axis=1)
        mr, mu, mn = np.split(h @ w.T + b, 3, axis=1)
        r, u = _squash(zr + mr), _squash(zu + mu)
        n = np.tanh(zn + r * mn)
        h = np.where(goes, (1 - u) * n + u * h, h)
        y[:, t] = h, r, u, n, mn
    return y


def _steps_back(steps: int, mask: Any, reverse: bool) -> Iterable[tuple[int, int, Any]]:
    """The steps, the last taken first, each with the one before it and 1 where a sequence goes."""
    order = list(range(steps))[:: -1 if reverse else 1]
    for k in reversed(range(steps)):
        yield order[k], order[k - 1] if k else -1, 1 if mask is None else mask[order[k]] * 1


def _flat(*arrays: ndarray) -> ndarray:
    return np.concatenate([x.ravel() for x in arrays])


def _rnn_vjp(
    g: ndarray, y: ndarray, w: ndarray, nonlinearity: str = "tanh", mask: Any = None,
    reverse: bool = False,
) -> ndarray:  # fmt: skip
    dz, dh = np.zeros_like(y), np.zeros_like(y[0])
    for t, _, goes in _steps_back(len(y), mask, reverse):
        dh = dh + g[t]
        dz[t] = dh * goes * (1 - y[t] ** 2 if nonlinearity == "tanh" else y[t] > 0)
        dh = dz[t] @ w + dh * (1 - goes)
    return _flat(dz, dh)


def _lstm_vjp(
    g: ndarray, y: ndarray, c0: ndarray, w: ndarray, p: Any = None, mask: Any = None,
    reverse: bool = False,
) -> ndarray:  # fmt: skip
    dz, dc = np.zeros((*y.shape[1:3], len(w)), y.dtype), np.zeros_like(c0)
    dh, projected = np.zeros((len(c0), w.shape[1])), np.zeros((*y.shape[1:3], w.shape[1]))
    for t, before, goes in _steps_back(y.shape[1], mask, reverse):
        _, c, i, f, a, o = y[:, t]
        dh, dc = dh + g[0, t, :, : w.shape[1]], dc + g[1, t]
        projected[t] = dh * goes
        through = projected[t] if p is None else projected[t] @ p
        into = dc * goes + through * o * (1 - np.tanh(c) ** 2)
        of_f = into * (y[1, before] if before >= 0 else c0)
        slopes = [into * a, of_f, into * i, through * np.tanh(c)] + g[2:, t]
        slopes *= [i * (1 - i), f * (1 - f), 1 - a**2, o * (1 - o)]
        dz[t] = np.concatenate(list(slopes), 1)
        dh, dc = dz[t] @ w + dh * (1 - goes), into * f + dc * (1 - goes)
    return _flat(dz, dh, dc, *(() if p is None else (projected,)))


def _gru_vjp(
    g: ndarray, y: ndarray, h0: ndarray, w: ndarray, mask: Any = None, reverse: bool = False
) -> ndarray:
    dz, dh = np.zeros((*y.shape[1:3], len(w)), y.dtype), np.zeros_like(h0)
    dm = dz.copy()
    for t, before, goes in _steps_back(y.shape[1], mask, reverse):
        _, r, u, n, m = y[:, t]
        h = y[0, before] if before >= 0 else h0
        dh = dh + g[0, t]
        dn = (dh * goes * (1 - u) + g[3, t]) * (1 - n**2)
        du = (dh * goes * (h - n) + g[2, t]) * u * (1 - u)
        dr = (dn * m + g[1, t]) * r * (1 - r)
        dz[t] = np.concatenate([dr, du, dn], 1)
        dm[t] = np.concatenate([dr, du, dn * r + g[4, t]], 1)
        dh = dh * goes * u + dm[t] @ w + dh * (1 - goes)
    return _flat(dz, dm, dh)


def _sequences_back(name: str, state: int) -> list[Sample]:
    """Cotangents and results of `SAMPLES[name]`. state: the input that the rule reads, if any."""
    found = []
    for case in SAMPLES[name]:
        y = REFERENCES[name](*case.inputs, **case.params)
        weights = case.inputs[3:] if name == "lstm_scan" else case.inputs[2:3]
        states = (case.inputs[state],) if state else ()
        found.append(sample(draw(*y.shape), y, *states, *weights, **case.params))
    return found


def _ctc(x: ndarray, labels: ndarray, steps: ndarray, counts: ndarray, blank: int) -> ndarray:
    """The probabilities of all ways to a state, step by step, sequence by sequence."""
    loss = np.zeros(x.shape[1], x.dtype)
    for n in range(x.shape[1]):
        spaced = [blank]
        for label in labels[n, : counts[n]]:
            spaced += [int(label), blank]
        ways = {-1: np.ones((), x.dtype)}  # before the first state
        for t in range(steps[n]):
            new: dict[int, Any] = {}
            for state, label in enumerate(spaced):
                before = [state, state - 1] if t else [-1] * (state < 2)
                if t and state > 1 and label != blank and label != spaced[state - 2]:
                    before.append(state - 2)
                total = sum(ways.get(s, 0) for s in before if t == 0 or s >= 0)
                new[state] = total * np.exp(x[t, n, label])
            ways = new
        ends = [-1] * (not counts[n]) if not steps[n] else [len(spaced) - 1, len(spaced) - 2]
        total = sum(ways.get(s, 0) for s in ends)
        loss[n] = -np.log(total) if total else np.inf
    return loss


def _ctc_vjp(g: ndarray, x: ndarray, *sequences: ndarray, blank: int) -> ndarray:
    """By the step 1e-30 i of each log-probability."""
    found = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[at] += 1e-30j
        loss = _ctc(moved, *sequences, blank=blank)[at[1]]
        found[at] = g[at[1]] * (0 if np.isinf(loss) else loss.imag / 1e-30)
    return found.astype(x.dtype)


def _ctc_back() -> list[Sample]:
    return [
        sample(draw(case.inputs[0].shape[1]), *case.inputs, **case.params)
        for case in SAMPLES["ctc"]
    ]


def _attention(
    q: ndarray, k: ndarray, v: ndarray, *masks: ndarray, scale: float, is_causal: bool = False,
    dropped: bool = False,
) -> ndarray:  # fmt: skip
    """Query by query, over the keys that it sees."""
    keep, masks = (masks[-1], masks[:-1]) if dropped else (np.ones(()), masks)
    mask = masks[0] if masks else np.zeros(())
    axes = [x.shape[:-2] for x in (q, k, v, mask, keep)]
    batch, scores = np.broadcast_shapes(*axes), (q.shape[-2], k.shape[-2])
    q, k, v = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (q, k, v))
    mask, keep = (np.broadcast_to(x, (*batch, *scores)) for x in (mask, keep))
    y = np.zeros((*batch, q.shape[-2], v.shape[-1]), np.result_type(q, k, v, keep))
    for *at, i in np.ndindex(*batch, q.shape[-2]):
        b = tuple(at)
        sees = mask[b][i] if mask.dtype == bool else np.ones(k.shape[-2], bool)
        sees = sees & (np.arange(k.shape[-2]) <= i) if is_causal else sees
        s = scale * (k[b] @ q[b][i]) + (0 if mask.dtype == bool else mask[b][i])
        e = np.exp(s[sees])
        y[b][i] = (e / e.sum() * keep[b][i][sees]) @ v[b][sees] if len(e) else 0
    return y


def _attention_vjp(g: ndarray, *inputs: ndarray, **params: Any) -> ndarray:
    """By the step 1e-30 i, which is exact to the last digit, of each element of q, k and v."""
    slopes = []
    for which in range(3):
        x = inputs[which]
        whole = np.broadcast_to(x, (*g.shape[:-2], *x.shape[-2:])).astype(complex)
        for at in np.ndindex(whole.shape):
            moved = whole.copy()
            moved[at] += 1e-30j
            y = _attention(*inputs[:which], moved, *inputs[which + 1 :], **params)
            slopes.append((g * y.imag).sum() / 1e-30)
    return np.array(slopes, g.dtype)


def _attentions_back() -> list[Sample]:
    found = []
    for case in SAMPLES["attention"]:
        y = _attention(*case.inputs, **case.params)
        found.append(sample(draw(*y.shape), *case.inputs, **case.params))
    return found


def _layer_norm(x: ndarray, weight: ndarray, bias: ndarray, axes: int, eps: float) -> Any:
    return _normalize(x, tuple(range(-axes, 0)), eps) * weight + bias


def _channel_norm(
    x: ndarray, weight: Any = None, bias: Any = None, *, groups: int, eps: float
) -> Any:
    shape = (-1, *[1] * (x.ndim - 2))
    grouped = x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:]) if groups else x
    axis = tuple(range(2, x.ndim + 1)) if groups else (0, *range(2, x.ndim))
    y = _normalize(grouped, axis, eps).reshape(x.shape)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _power_derivative(a: Any, b: Any, by_base: int, by_exponent: int) -> Any:
    return {
        (1, 0): b * a ** (b - 1),
        (0, 1): a**b * np.log(a),
        (1, 1): a ** (b - 1) * (1 + b * np.log(a)),
        (2, 1): a ** (b - 2) * (2 * b - 1 + b * (b - 1) * np.log(a)),
    }[by_base, by_exponent]


REFERENCES: dict[str, Callable[..., Any]] = {
    "power": np.power,
    "power_derivative": _power_derivative,
    "sign": np.sign,
    "heaviside": np.heaviside,
    "reciprocal": lambda x: 1 / x,
    "gelu": lambda x: x * (0.5 + 0.5 * np.vectorize(math.erf, otypes=[float])(x * 0.5**0.5)),
    "sigmoid": lambda x: 0.5 * np.tanh(x / 2) + 0.5,
    "logistic": lambda x: 0.5 * np.tanh(x / 2) + 0.5,
    "exp_share": lambda a, b, scale: 0.5 * np.tanh(scale * (a - b) / 2) + 0.5,
    "exp_share_slope": lambda a, b, scale: 0.25 - 0.25 * np.tanh(scale * (a - b) / 2) ** 2,
    "tanh_vjp": lambda g, y: g * (1 - y**2),
    "softplus": lambda x: np.logaddexp(x, 0),
    "relu": lambda x: np.where(x > 0, x, 0),
    "erf": lambda x: np.vectorize(math.erf, otypes=[float])(x),
    "clip": lambda x, low=-math.inf, high=math.inf: np.minimum(np.maximum(x, low), high),
    "where": np.where,
    "where_or_zero": lambda x, mask: np.where(mask, x, 0),
    "kink": lambda x, mask: np.zeros_like(x),
    "solve_triangular": lambda a, b, upper, unit: np.linalg.solve(
        np.triu(a, 1) * upper
        + np.tril(a, -1) * (not upper)
        + np.eye(a.shape[-1]) * (1 if unit else a),
        b,
    ),
    "lstsq": lambda a, b, **params: np.linalg.pinv(a) @ b,
    "null_projection": lambda a, x: x - np.linalg.pinv(a) @ (a @ x),
    "qr_packed": lambda a: np.concatenate(np.linalg.qr(a), axis=-2),
    "pinv": lambda a, **params: np.linalg.pinv(a),
    "eigenvectors": lambda packed: packed[..., 1:-1, :],
    "left_vectors": lambda packed, m: np.swapaxes(packed[..., :m], -1, -2),
    "right_vectors": lambda packed, m: packed[..., m + 1 : packed.shape[-1] - 1],
    "subgradient_product": lambda g, slope, link, transposed=False: g * slope,
    "undefined": lambda x, mask: np.where(np.logical_and(mask, x), np.nan, 0.0),
    "astype": lambda x, dtype: x.astype(dtype),
    "sum_": np.sum,
    "mean_": lambda x, **params: np.mean(x, **params),
    "var_": np.var,
    "std_": np.std,
    "max_": np.max,
    "min_": np.min,
    "prod_": np.prod,
    "shares": lambda x, axis: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True),
    "logsumexp_": lambda x, **params: np.log(np.sum(np.exp(x), **params)),
    "norm_": lambda x, least=0.0, **params: np.maximum(np.sqrt(np.sum(x * x, **params)), least),
    "p_norm_": lambda x, p, least=0.0, **params: np.maximum(
        np.sum(np.abs(x) ** p, **params) ** (1 / p), least
    ),
    "median_": lambda x: np.asarray(np.sort(x, None)[(x.size - 1) // 2]),
    "argmax_": np.argmax,
    "argmin_": np.argmin,
    "any_": np.any,
    "all_": np.all,
    "count_nonzero_": np.count_nonzero,
    "cumsum_": _cumulative(np.cumsum),
    "cumprod_": _cumulative(np.cumprod),
    "recurrence": _recurrence,
    "reshape": lambda x, shape: np.reshape(x, shape),
    "transpose": np.transpose,
    "swapaxes": np.swapaxes,
    "broadcast_to": np.broadcast_to,
    "flip": np.flip,
    "roll": np.roll,
    "stack": lambda *parts, axis: np.stack(parts, axis),
    "concatenate": lambda *parts, axis: np.concatenate(parts, axis),
    "pad": _pad,
    "getitem": lambda x, key: x[key],
    "index_add": _index_add,
    "take_along_axis": _take_along_axis,
    "take_weighted": lambda x, indices, weights, axis, size: np.moveaxis(
        np.tensordot(_resampling(indices, weights, size), x, (1, axis)), 0, axis
    ),
    "add_weighted": lambda g, indices, weights, axis, size: np.moveaxis(
        np.tensordot(_resampling(indices, weights, size).T, g, (1, axis)), 0, axis
    ),
    "add_along_axis": _add_along_axis,
    "put_along_axis": _put_along_axis,
    "clear_along_axis": lambda x, indices, axis: _put_along_axis(
        x, np.zeros(indices.shape), indices, axis
    ),
    "take_winners": _take_winners,
    "extreme_along_axis": _extreme_along_axis,
    "searchsorted": _searchsorted,
    "triu": np.triu,
    "tril": np.tril,
    "diagonal": np.diagonal,
    "put_diagonal": _put_diagonal,
    "matmul": np.matmul,
    "linear": _linear,
    "einsum": lambda *operands, subscripts: np.einsum(subscripts, *operands),
    "inv": np.linalg.inv,
    "solve": np.linalg.solve,
    "det": np.linalg.det,
    "cofactor": _cofactor,
    "logabsdet": lambda a: np.log(np.abs(np.linalg.det(a))),
    "logabsdet_slope": lambda a: np.linalg.inv(a).mT,
    "signdet": lambda a: np.sign(np.linalg.det(a)),
    "cholesky": lambda a: np.linalg.cholesky((a + a.mT) / 2),
    "eigh_packed": _eigh_packed,
    "svd_packed": _svd_packed,
    "unfold": _unfold,
    "fold": _fold,
    "max_pool": _max_pool,
    "sum_pool": _window_sum,
    "convolve": _convolve,
    "convolve_transposed": _convolve_transposed,
    "convolve_weight": _convolve_weight,
    "softmax": lambda x, axis: np.exp(_log_softmax(x, axis)),
    "log_softmax": _log_softmax,
    "cross_entropy": lambda x, labels, axis: -_label_pick(_log_softmax(x, axis), labels, axis),
    "gather_labels": _label_pick,
    "scatter_labels": _label_put,
    "bce": lambda p, t: -t * np.log(p) - (1 - t) * np.log(1 - p),
    "bce_with_logits": lambda x, a, *b, reduction="none": reduce_loss(
        a * np.logaddexp(0, -x) + (b[0] if b else 1 - a) * np.logaddexp(0, x), reduction
    ),
    "bce_with_logits_vjp": lambda x, a, *b: (
        (b[0] if b else 1 - a) / (1 + np.exp(-x)) - a / (1 + np.exp(x))
    ),
    "normalize": _normalize,
    "channel_norm": _channel_norm,
    "dropout_mask": lambda x, p, generator: np.full(x.shape, 1 - p, x.dtype),
    "max_pool_gather": _window_pick,
    "max_unpool": _max_unpool,
    "max_pool_vjp": _max_pool_vjp,
    "rnn_scan": _rnn_scan,
    "lstm_scan": _lstm_scan,
    "_table_rows_op": lambda x, rows, padding_idx: x[rows],
    "gru_scan": _gru_scan,
    "layer_norm": _layer_norm,
    "attention": _attention,
    "attention_vjp": _attention_vjp,
    "ctc": _ctc,
    "ctc_vjp": _ctc_vjp,
    "rnn_vjp": _rnn_vjp,
    "lstm_vjp": _lstm_vjp,
    "gru_vjp": _gru_vjp,
}
SAMPLES |= {
    "rnn_vjp": _sequences_back("rnn_scan", 0),
    "lstm_vjp": _sequences_back("lstm_scan", 2),
    "gru_vjp": _sequences_back("gru_scan", 1),
    "attention_vjp": _attentions_back(),
    "ctc_vjp": _ctc_back(),
}


# ------------------------------------------------------------------ derivatives of decompositions


def _of_each(change: Callable[..., ndarray]) -> Callable[..., ndarray]:
    """A function of matrices, applied to each of a batch."""

    def all_changes(a: ndarray, y: ndarray, x: ndarray, used: ndarray) -> ndarray:
        if a.ndim == 2:
            return change(a, y, x)
        return np.stack([all_changes(*each) for each in zip(a, y, x, used, strict=True)])

    return all_changes


def _vector_change(a: ndarray, change: ndarray, value: float, vector: ndarray) -> ndarray:
    """Of an eigenvector of a symmetric matrix: (w - a)^+ da v."""
    inverse = np.linalg.pinv(value * np.eye(len(a)) - a, rcond=1e-3)
    return np.asarray(inverse @ change @ vector)


def _eigh_change(a: ndarray, y: ndarray, h: ndarray) -> ndarray:
    a, h = (a + a.T) / 2, (h + h.T) / 2
    found = [
        [y[1:-1, k] @ h @ y[1:-1, k], *_vector_change(a, h, w, y[1:-1, k])]
        for k, w in enumerate(y[0])
    ]
    return np.array(found).T


def _svd_change(a: ndarray, y: ndarray, h: ndarray) -> ndarray:
    m = len(a)
    left, right = h @ a.T + a @ h.T, h.T @ a + a.T @ h
    return np.array(
        [
            [
                *_vector_change(a @ a.T, left, row[m] ** 2, row[:m]),
                row[:m] @ h @ row[m + 1 : -1],
                *_vector_change(a.T @ a, right, row[m] ** 2, row[m + 1 : -1]),
            ]
            for row in y
        ]
    )


def _slope_of(change: Callable[..., ndarray]) -> Callable[..., ndarray]:
    """From the changes along every unit matrix."""

    def slope(a: ndarray, y: ndarray, g: ndarray) -> ndarray:
        units = np.eye(a.size).reshape(-1, *a.shape)
        return np.array([(change(a, y, unit) * g).sum() for unit in units]).reshape(a.shape)

    return slope


def _samples_of(packed: Any, column: bool, adjoint: bool, matrices: list[ndarray]) -> list[Sample]:
    """A matrix, its factors, a cotangent or a direction, and the mark of used vectors."""
    found = []
    for a in matrices:
        y = packed(a)
        rest, mark = (y[..., :-1], y[..., -1:]) if column else (y[..., :-1, :], y[..., -1:, :])
        found += [
            Sample((a, y, draw(*(rest if adjoint else a).shape), mark + used), smooth=False)
            for used in (0.0, 1.0)
        ]  # not smooth: the factors count as functions of the matrix
    return found


_SYMMETRIC = [positive_definite(), positive_definite(2)]
_RECTANGULAR = [separated(4, 2), separated(2, 4), np.stack([separated(3, 3), separated(3, 3)])]
SAMPLES |= {
    "eigh_slope": _samples_of(_eigh_packed, False, True, _SYMMETRIC),
    "eigh_tangent": _samples_of(_eigh_packed, False, False, _SYMMETRIC),
    "svd_slope": _samples_of(_svd_packed, True, True, _RECTANGULAR),
    "svd_tangent": _samples_of(_svd_packed, True, False, _RECTANGULAR),
}
REFERENCES |= {
    "eigh_slope": _of_each(_slope_of(_eigh_change)),
    "eigh_tangent": _of_each(_eigh_change),
    "svd_slope": _of_each(_slope_of(_svd_change)),
    "svd_tangent": _of_each(_svd_change),
}
