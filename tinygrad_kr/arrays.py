"""Functions on arrays beyond the primitives: joining, padding, products, norms, differences.

They take Tensors, and arrays, lists and numbers beside them; a result is a Tensor where an argument
is. Names and signatures are PyTorch's where it has the function, else NumPy's; `axis` may be called
`dim`. NumPy's own signatures work through NumPy: `np.repeat(t, 2)`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_kr.ops import arrangement, linalg, reduction, selection, shape
from tinygrad_kr.ops.elementwise import absolute, isnan, where
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import common_dtype
from tinygrad_kr.ops.reduction import euclidean_norm
from tinygrad_kr.ops.window import unfold
from tinygrad_kr.tensor import Tensor, as_array

__all__ = [
    "argsort",
    "broadcast_tensors",
    "broadcast_to",
    "cat",
    "chunk",
    "clip",
    "concatenate",
    "convolve",
    "cross",
    "diag",
    "diagonal",
    "diff",
    "dot",
    "einsum",
    "expand_dims",
    "flatten",
    "flip",
    "gather",
    "gradient",
    "index_select",
    "inner",
    "kron",
    "masked_fill",
    "max",
    "meshgrid",
    "min",
    "moveaxis",
    "movedim",
    "nan_to_num",
    "nonzero",
    "norm",
    "outer",
    "pad",
    "permute",
    "ravel",
    "repeat",
    "repeat_interleave",
    "reshape",
    "roll",
    "scatter_add",
    "sort",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "take",
    "take_along_axis",
    "tensordot",
    "tile",
    "topk",
    "trace",
    "transpose",
    "trapezoid",
    "tril",
    "triu",
    "unbind",
    "unsqueeze",
    "vdot",
]


def operands(*values: Any) -> list[Any]:
    """Tensors and ndarrays as they are; lists and numbers as arrays in the dtype of those."""
    given = [x for x in values if isinstance(x, Node | ndarray)]
    dtype = common_dtype(given) if given else None
    return [x if isinstance(x, Node | ndarray) else _as_operand(x, dtype) for x in values]


def _as_operand(x: Any, dtype: Any) -> ndarray:
    array = as_array(x)
    return as_array(x, dtype) if dtype is not None and array.dtype.kind == "f" else array


def _list_of(tensors: Any, name: str) -> list[Any]:
    parts = list(tensors)
    if not parts:
        raise ValueError(f"{name} needs at least one Tensor")
    return operands(*parts)


def _on_operand(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of Tensor as a function that takes a list or a number as well."""

    @wraps(function)
    def on_operand(x: Any, *args: Any, **kwargs: Any) -> Any:
        return function(operands(x)[0], *args, **kwargs)

    return on_operand


reshape, flatten = _on_operand(Tensor.reshape), _on_operand(Tensor.flatten)
ravel = _on_operand(Tensor.ravel)
squeeze, unsqueeze = _on_operand(Tensor.squeeze), _on_operand(Tensor.unsqueeze)
expand_dims = unsqueeze
permute, transpose = _on_operand(Tensor.permute), _on_operand(Tensor.transpose)
swapaxes, broadcast_to = _on_operand(Tensor.swapaxes), _on_operand(Tensor.broadcast_to)
flip, roll = _on_operand(Tensor.flip), _on_operand(Tensor.roll)
clip, masked_fill = _on_operand(Tensor.clip), _on_operand(Tensor.masked_fill)
diagonal, trace = _on_operand(Tensor.diagonal), _on_operand(Tensor.trace)

split, chunk = _on_operand(arrangement.split), _on_operand(arrangement.chunk)
unbind = _on_operand(arrangement.unbind)
tile, repeat = _on_operand(arrangement.tile), _on_operand(arrangement.repeat)
repeat_interleave = _on_operand(arrangement.repeat_interleave)
moveaxis = movedim = _on_operand(arrangement.moveaxis)

take, gather = _on_operand(selection.take), _on_operand(selection.gather)
take_along_axis = _on_operand(selection.take_along_axis)
index_select = _on_operand(selection.index_select)
scatter_add = _on_operand(selection.scatter_add)
sort, argsort = _on_operand(selection.sort), _on_operand(selection.argsort)
topk, nonzero = _on_operand(selection.topk), _on_operand(selection.nonzero)
triu, tril = _on_operand(selection.triu), _on_operand(selection.tril)
diag = _on_operand(selection.diag)
max, min = _on_operand(selection.max), _on_operand(selection.min)

# ------------------------------------------------------------------ joining


def concatenate(tensors: Iterable[Any], axis: int | None = 0, *, dim: int | None = None) -> Any:
    """The Tensors one after the other along `axis` (flattened first for None).

    ValueError where other axes differ, or there is nothing to join.
    """
    axis = axis if dim is None else dim
    return shape.concatenate(*_list_of(tensors, "concatenate"), axis=axis)


cat = concatenate


def stack(tensors: Iterable[Any], axis: int = 0, *, dim: int | None = None) -> Any:
    """Tensors of one shape side by side along a new axis."""
    return shape.stack(*_list_of(tensors, "stack"), axis=axis if dim is None else dim)


def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """Each Tensor broadcast, without copying, to the shape they have together."""
    parts = operands(*tensors)
    together = np.broadcast_shapes(*(part.shape for part in parts))
    return tuple(shape.broadcast_to(part, shape=together) for part in parts)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Each vector spread over a grid with one axis for each: y_i[a, b, ...] = x_i[(a, b, ...)_i].

    indexing: "ij" (PyTorch's default), or "xy" with the first two axes exchanged (NumPy's).
    """
    if indexing not in {"ij", "xy"}:
        raise ValueError(f'meshgrid: indexing is "ij" or "xy", not {indexing!r}')
    parts = operands(*tensors)
    order = list(range(len(parts)))
    if indexing == "xy":
        order[:2] = order[1::-1]
    grids = []
    for part, place in zip(parts, order, strict=True):
        if part.ndim > 1:
            raise ValueError(f"meshgrid takes vectors, not shape {part.shape}")
        grids.append(part.reshape([-1 if i == place else 1 for i in range(len(parts))]))
    return broadcast_tensors(*grids)


# ------------------------------------------------------------------ padding


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    """`x` with elements around it (NumPy's `pad`; PyTorch's is `functional.pad`).

    pad_width: one number, (before, after) for every axis, or such a pair for each axis.
    mode: "constant" with `constant_values` (in the same forms), "edge" (the outermost element),
        "reflect" and "symmetric" (mirrored without and with it), "wrap" (from the other end).
    """
    x = operands(x)[0]
    widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(pad_width, (x.ndim, 2)))
    if mode == "constant":
        return _constant_pad(x, widths, constant_values)
    if mode not in {"edge", "reflect", "symmetric", "wrap"}:
        raise ValueError(
            f'pad: mode is "constant", "edge", "reflect", "symmetric" or "wrap", not {mode!r}'
        )
    for axis, width in enumerate(widths):
        if any(width):
            index = np.pad(np.arange(x.shape[axis]), width, mode)  # type: ignore[call-overload]
            x = selection.take(x, index, axis)
    return x


def _constant_pad(x: Any, widths: tuple[tuple[int, int], ...], values: Any) -> Any:
    if np.ndim(values) == 0:
        return shape.pad(x, widths=widths, value=float(values))
    border = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=values)
    return shape.pad(x, widths=widths) + border


# ------------------------------------------------------------------ products


def dot(a: Any, b: Any) -> Any:
    """sum_k a[..., k] b[..., k, j]: of vectors the inner, of matrices the matrix product.

    A number multiplies. More than 2 axes of `b` are not a batch but come after those of `a`.
    """
    a, b = operands(a, b)
    if not a.ndim or not b.ndim:
        return a * b
    return linalg.matmul(a, b) if b.ndim <= 2 else tensordot(a, b, ([-1], [-2]))


def inner(a: Any, b: Any) -> Any:
    """sum_k a[..., k] b[..., k], the other axes of `a` coming before those of `b`."""
    a, b = operands(a, b)
    return a * b if not a.ndim or not b.ndim else tensordot(a, b, ([-1], [-1]))


def outer(a: Any, b: Any) -> Any:
    """y[i, j] = a[i] b[j], of the flattened arrays."""
    a, b = operands(a, b)
    return a.reshape(-1, 1) * b.reshape(1, -1)


def vdot(a: Any, b: Any) -> Any:
    """The sum of products of corresponding elements, of the flattened arrays."""
    a, b = operands(a, b)
    return linalg.matmul(a.reshape(-1), b.reshape(-1))


def tensordot(a: Any, b: Any, axes: Any = 2, *, dims: Any = None) -> Any:
    """Sum of products over pairs of axes; the others of `a` come before those of `b`.

    axes: how many last axes of `a` meet the first of `b`, or (axes of a, axes of b).
    """
    a, b = operands(a, b)
    axes = axes if dims is None else dims
    if isinstance(axes, int | np.integer):
        axes = range(-axes, 0), range(axes)
    mine = normalize_axis_tuple(axes[0], a.ndim, "tensordot")
    others = normalize_axis_tuple(axes[1], b.ndim, "tensordot")
    sizes = tuple(a.shape[i] for i in mine)
    if sizes != tuple(b.shape[i] for i in others):
        raise ValueError(f"tensordot: {a.shape} and {b.shape} do not match over axes={axes}")
    kept = tuple(i for i in range(a.ndim) if i not in mine)
    added = tuple(i for i in range(b.ndim) if i not in others)
    summed = int(np.prod(sizes))
    rows, columns = [a.shape[i] for i in kept], [b.shape[i] for i in added]
    left = a.transpose(kept + mine).reshape(int(np.prod(rows)), summed)
    right = b.transpose(others + added).reshape(summed, int(np.prod(columns)))
    return linalg.matmul(left, right).reshape(tuple(rows + columns))


def kron(a: Any, b: Any) -> Any:
    """Kronecker product: every element of `a` times the whole of `b`, in blocks."""
    a, b = operands(a, b)
    ndim = builtins.max(a.ndim, b.ndim)
    big, small = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    apart = a.reshape([n for size in big for n in (size, 1)])
    blocks = apart * b.reshape([n for size in small for n in (1, size)])
    return blocks.reshape(tuple(m * n for m, n in zip(big, small, strict=True)))


def cross(a: Any, b: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """a x b, y_i = a_(i+1) b_(i+2) - a_(i+2) b_(i+1), of 3-vectors along `axis`.

    A 2-vector has third component 0; of two of them the result is the third component alone.
    """
    axis = axis if dim is None else dim
    a, b = (moveaxis(x, axis, -1) for x in operands(a, b))
    sizes = {a.shape[-1], b.shape[-1]}
    if not sizes <= {2, 3}:
        raise ValueError(f"cross takes vectors of 3 (or 2) elements, not {a.shape} and {b.shape}")
    a, b = (shape.pad(x, widths=((0, 0),) * (x.ndim - 1) + ((0, 3 - x.shape[-1]),)) for x in (a, b))
    y = roll(a, -1, -1) * roll(b, -2, -1) - roll(a, -2, -1) * roll(b, -1, -1)
    return y[..., 2] if sizes == {2} else moveaxis(y, -1, axis)


# ------------------------------------------------------------------ einsum


def einsum(subscripts: Any, *tensors: Any) -> Any:
    """Sums of products over labelled axes: "ij,jk->ik" is the matrix product.

    A label left out of the result is summed over; one met twice in an operand takes its diagonal;
    `...` stands for axes that broadcast; without "->" the result has the labels met once, in
    alphabetical order. Also NumPy's other form: einsum(a, [0, 1], b, [1, 2], [0, 2]).

    ValueError, naming subscripts and shapes, where they do not fit.
    """
    if not isinstance(subscripts, str):
        subscripts, tensors = _written_out(subscripts, *tensors)
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple) and "," in subscripts:
        tensors = tuple(tensors[0])
    parts = operands(*tensors)
    try:
        explicit = explicit_subscripts(subscripts, tuple(part.ndim for part in parts))
        for part, term in zip(parts, explicit.split("->")[0].split(","), strict=True):
            _demand_square(part, term)
    except ValueError as error:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ValueError(f"einsum({subscripts!r}) of {shapes}: {error}") from None
    return linalg.einsum(*parts, subscripts=explicit)


def _written_out(*arguments: Any) -> tuple[str, tuple[Any, ...]]:
    """NumPy's other form of `einsum`, labels as lists of numbers, brought into the first."""
    terms = ",".join(_written(labels) for labels in arguments[1::2])
    if len(arguments) % 2:
        return f"{terms}->{_written(arguments[-1])}", arguments[:-1:2]
    return terms, arguments[::2]


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LETTERS: dict[Any, str] = {...: "...", **dict(enumerate(_ALPHABET))}


def _written(labels: Iterable[Any]) -> str:
    try:
        return "".join(_LETTERS[label] for label in labels)
    except (KeyError, TypeError):
        raise ValueError(
            f"einsum: labels are letters in a string, or lists of numbers 0 ... 51, not {labels!r}"
        ) from None


@lru_cache(maxsize=256)
def explicit_subscripts(subscripts: str, ranks: tuple[int, ...]) -> str:
    """`subscripts` for operands of these ranks with every label and the result written out."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"{len(terms)} terms for {len(ranks)} operands")
    named = [term.replace("...", "", 1) for term in (*terms, result)]
    if not set("".join(named)) <= set(_ALPHABET):
        raise ValueError("labels are letters, with at most one '...' in a term")
    spread = [rank - len(name) for rank, name in zip(ranks, named, strict=False)]
    for term, rank, room in zip(terms, ranks, spread, strict=True):
        if room < 0 or (room and "..." not in term):
            raise ValueError(f"{term!r} does not name the {rank} axes of its operand")
    widest = builtins.max(spread)
    unused = "".join(c for c in _ALPHABET if c not in subscripts)[:widest]
    terms = [
        term.replace("...", unused[widest - room :])
        for term, room in zip(terms, spread, strict=True)
    ]
    met = "".join(terms)
    if not arrow:
        result = "..." + "".join(c for c in sorted(set("".join(named))) if met.count(c) == 1)
    result = result.replace("...", unused)
    if len(set(result)) < len(result) or not set(result) <= set(met):
        raise ValueError(f"the result {result!r} repeats a label, or has one that no operand has")
    return ",".join(terms) + "->" + result


def _demand_square(x: Any, term: str) -> None:
    for label, size in zip(term, x.shape, strict=True):
        other = x.shape[term.index(label)]
        if other != size:
            raise ValueError(f"{label!r} names axes of {other} and {size} in {x.shape}")


# ------------------------------------------------------------------ norms


def vector_norm(
    x: Any,
    ord: Any = 2,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
) -> Any:
    """(sum |x|^ord)^(1/ord) over `axis` (all axes for None).

    ord: 2 Euclidean, 1 the sum, inf and -inf the largest and smallest of |x|, 0 how many are not 0.

    Kinks get the least subgradient: 0 where x is 0; elements tied for the largest share evenly.
    """
    x = floating(operands(x)[0])
    axis, keepdims = axis if dim is None else dim, keepdims or keepdim
    if ord == 2:
        return euclidean_norm(x, axis, keepdims)
    if ord == 1:
        return reduction.sum(absolute(x), axis, keepdims)
    if ord == 0:
        return reduction.count_nonzero(x, axis, keepdims).astype(x.dtype)
    if ord in (math.inf, -math.inf):
        return (reduction.amax if ord > 0 else reduction.amin)(absolute(x), axis, keepdims)
    if not isinstance(ord, int | float | np.number):
        raise ValueError(f"vector_norm: ord is a number, not {ord!r}")
    zero = x == 0
    powers = where(zero, 0.0 if ord > 0 else math.inf, where(zero, 1.0, absolute(x)) ** ord)
    total = reduction.sum(powers, axis, keepdims)
    return where(total == 0, 0.0, where(total == 0, 1.0, total) ** (1 / ord))


def floating(x: Any) -> Any:
    """Integers as float32."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def norm(
    x: Any,
    p: Any = "fro",
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
) -> Any:
    """PyTorch's `norm`: of all elements, or over `axis`, as one vector.

    p: as the `ord` of `vector_norm`; "fro" is 2; "nuc" the sum of a matrix's singular values.
    """
    axis, keepdims = axis if dim is None else dim, keepdims or keepdim
    if p == "nuc":
        from tinygrad_kr.linalg import matrix_norm

        return matrix_norm(x, "nuc", (-2, -1) if axis is None else axis, keepdims)
    return vector_norm(x, 2 if p in ("fro", None) else p, axis, keepdims)


# ------------------------------------------------------------------ differences and sums


def diff(
    x: Any,
    n: int = 1,
    axis: int = -1,
    *,
    dim: int | None = None,
    prepend: Any = None,
    append: Any = None,
) -> Any:
    """The differences of neighbours along `axis`, `n` times over.

    prepend, append: what to put before and after first, of the size of `x` off the axis.
    """
    axis = axis if dim is None else dim
    x = operands(x)[0]
    if not x.ndim:
        raise ValueError("diff needs at least 1 axis, not a number")
    if n < 0:
        raise ValueError(f"diff: n = {n} is negative")
    ends = [part for part in (prepend, x, append) if part is not None]
    if len(ends) > 1:
        ends = [_widened(part, x.shape, axis) for part in operands(*ends)]
        x = shape.concatenate(*ends, axis=axis)
    x = moveaxis(x, axis, -1)
    for _ in range(n):
        x = x[..., 1:] != x[..., :-1] if x.dtype == bool else x[..., 1:] - x[..., :-1]
    return moveaxis(x, -1, axis)


def _widened(part: Any, size: tuple[int, ...], axis: int) -> Any:
    """A number as a slice of size 1 along the axis."""
    if part.ndim:
        return part
    thin = list(size)
    thin[axis] = 1
    return shape.broadcast_to(part, shape=tuple(thin))


def gradient(
    x: Any, *, spacing: Any = 1.0, axis: Any = None, dim: Any = None, edge_order: int = 1
) -> tuple[Any, ...]:
    """The slopes of sampled values along each axis: central differences, one-sided at the ends.

    spacing: the distance of samples, or a vector of their positions, for all axes or a list with
        one for each.
    axis: the axes (default: all).
    edge_order: 1 or 2, the accuracy of the differences at the ends.

    Exact for a quadratic inside (Fornberg 1988); needs edge_order + 1 samples.
    """
    x = floating(operands(x)[0])
    axis = axis if dim is None else dim
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim, "gradient")
    spacings = spacing if isinstance(spacing, list | tuple) else [spacing] * len(axes)
    if len(spacings) != len(axes):
        raise ValueError(f"gradient: {len(spacings)} spacings for {len(axes)} axes")
    if edge_order not in {1, 2}:
        raise ValueError(f"gradient: edge_order is 1 or 2, not {edge_order}")
    return tuple(_slopes(x, a, h, edge_order) for a, h in zip(axes, spacings, strict=True))


def _slopes(x: Any, axis: int, spacing: Any, edge_order: int) -> Any:
    f = moveaxis(x, axis, -1)
    n = f.shape[-1]
    if n <= edge_order:
        raise ValueError(f"gradient: {n} samples along axis {axis}; it takes {edge_order + 1}")
    spacing = operands(f, spacing)[1]
    if spacing.ndim and spacing.shape != (n,):
        raise ValueError(f"gradient: positions of shape {spacing.shape} for {n} samples")
    steps = diff(spacing) if spacing.ndim else shape.broadcast_to(spacing, shape=(n - 1,))
    steps = floating(steps)
    before, after = steps[:-1], steps[1:]
    chords = (f[..., 1:] - f[..., :-1]) / steps
    weight = before / (before + after)
    inside = (1 - weight) * chords[..., :-1] + weight * chords[..., 1:]
    first, last = chords[..., :1], chords[..., -1:]
    if edge_order == 2:
        bend = (chords[..., 1:] - chords[..., :-1]) / (before + after)
        first = first - bend[..., :1] * before[:1]
        last = last + bend[..., -1:] * after[-1:]
    return moveaxis(shape.concatenate(first, inside, last, axis=-1), -1, axis)


def trapezoid(
    y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, *, dim: int | None = None
) -> Any:
    """The integral of samples by the trapezoidal rule: sum (y_i + y_(i+1)) / 2 (x_(i+1) - x_i).

    x: the positions, along the axis or of the shape of `y`; without them `dx` lies between two.
    """
    axis = axis if dim is None else dim
    y = operands(y)[0]
    if x is not None:
        x = operands(y, x)[1]
        dx = diff(x) if x.ndim == 1 else moveaxis(diff(x, axis=axis), axis, -1)
    y = moveaxis(y, axis, -1)
    return (dx * (y[..., 1:] + y[..., :-1]) * 0.5).sum(axis=-1)


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """y_k = sum_i a_i v_(k - i) of two vectors.

    mode: "full" every k with a product, "same" the middle of it in the longer one's size, "valid"
        where they overlap completely.
    """
    a, v = operands(a, v)
    if a.ndim > 1 or v.ndim > 1 or not a.size or not v.size:
        raise ValueError(f"convolve takes two vectors that are not empty, not {a.shape}, {v.shape}")
    a, v = a.reshape(-1), v.reshape(-1)
    if len(v) > len(a):
        a, v = v, a
    m = len(v)
    modes = {"full": (m - 1, m - 1), "same": (m // 2, (m - 1) // 2), "valid": (0, 0)}
    if mode not in modes:
        raise ValueError(f'convolve: mode is "full", "same" or "valid", not {mode!r}')
    padded = shape.pad(a, widths=(modes[mode],))
    windows = unfold(padded, kernel=(m,), stride=(1,), dilation=(1,))
    return linalg.matmul(windows, shape.flip(v))


def nan_to_num(
    x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """`x` with NaN and infinities replaced by finite numbers (the largest of the dtype by default).

    The gradient is 0 where something was replaced.
    """
    x = operands(x)[0]
    if x.dtype.kind != "f":
        return x
    largest = float(np.finfo(x.dtype).max)
    x = where(x == math.inf, largest if posinf is None else posinf, x)
    x = where(x == -math.inf, -largest if neginf is None else neginf, x)
    return where(isnan(x), nan, x)
