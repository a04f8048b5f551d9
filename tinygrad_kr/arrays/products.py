"""Products of vectors, matrices and arrays of any rank: sums of products over axes."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import array_function, either_name, operands
from tinygrad_kr.arrays.shape import moveaxis, roll
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.axes import axis_index, axis_indices

__all__ = [
    "addmm", "bmm", "cross", "dot", "einsum", "inner", "kron", "mm", "mv", "outer", "tensordot",
    "vdot",
]  # fmt: skip


# ------------------------------------------------------------------ matrices


def _product(name: str, a: Any, b: Any, ranks: tuple[int, int]) -> Any:
    """The matrix product of operands with these numbers of axes."""
    a, b = operands(a, b)
    if (a.ndim, b.ndim) != ranks or a.shape[-1] != b.shape[1 if b.ndim == 3 else 0]:
        kinds = {1: "a vector", 2: "a matrix", 3: "a batch of matrices"}
        raise ValueError(
            f"{name}: expected {kinds[ranks[0]]} and {kinds[ranks[1]]} that fit, got {a.shape} "
            f"and {b.shape}. tk.matmul takes every rank"
        )
    return linalg.matmul(a, b)


@array_function
def mm(a: Any, b: Any) -> Any:
    """The product of two matrices: y[i, j] = sum_k a[i, k] b[k, j].

    Gradient: g b^T for `a`, a^T g for `b`.
    Raises ValueError for anything but two matrices that fit. Source: torch.mm.

    >>> tk.mm(tk.tensor([[1.0, 2.0]]), tk.tensor([[3.0], [4.0]]))
    Tensor([[11.]])
    """
    return _product("mm", a, b, (2, 2))


@array_function
def bmm(a: Any, b: Any) -> Any:
    """The products of two batches of matrices: y[n, i, j] = sum_k a[n, i, k] b[n, k, j].

    Gradient: g b^T for `a`, a^T g for `b`, in each matrix.
    Raises ValueError for anything but two batches of one size that fit. Source: torch.bmm.

    >>> tk.bmm(tk.ones(5, 2, 3), tk.ones(5, 3, 4)).shape
    (5, 2, 4)
    """
    a, b = operands(a, b)
    if a.shape[:1] != b.shape[:1]:
        raise ValueError(f"bmm: expected batches of one size, got {a.shape} and {b.shape}.")
    return _product("bmm", a, b, (3, 3))


@array_function
def mv(a: Any, b: Any) -> Any:
    """The product of a matrix and a vector: y[i] = sum_k a[i, k] b[k].

    Gradient: the outer product of g and b for `a`, a^T g for `b`.
    Raises ValueError for anything but a matrix and a vector that fit. Source: torch.mv.

    >>> tk.mv(tk.tensor([[1.0, 2.0], [3.0, 4.0]]), tk.tensor([1.0, 1.0]))
    Tensor([3., 7.])
    """
    return _product("mv", a, b, (2, 1))


@array_function
def addmm(x: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta x + alpha a b, with the product of two matrices.

    x: broadcasts to the shape of the product. With `beta` 0 it is not read.
    Gradient: beta g for `x`, alpha g b^T for `a`, alpha a^T g for `b`.
    Raises ValueError for anything but two matrices that fit, or an `x` that does not broadcast.
    Source: torch.addmm.

    >>> tk.addmm(tk.tensor([1.0]), tk.tensor([[1.0, 2.0]]), tk.tensor([[3.0], [4.0]]), alpha=10)
    Tensor([[111.]])
    """
    x, a, b = operands(x, a, b)
    y = _product("addmm", a, b, (2, 2))
    y = y if alpha == 1 else alpha * y
    x = shape.broadcast_to(x, shape=y.shape)
    return y if beta == 0 else (x if beta == 1 else beta * x) + y


# ------------------------------------------------------------------ products


def dot(a: Any, b: Any) -> Any:
    """NumPy's `dot`: sum_k a[..., k] b[..., k, j], the inner or the matrix product.

    A number multiplies. The axes of `b` beyond 2 are not a batch: they come after those of `a`.
    Gradient: through both. Raises ValueError if the sizes differ.
    Source: np.dot.

    >>> tk.dot(tk.tensor([1.0, 2.0]), tk.tensor([3.0, 4.0]))
    Tensor(11.)
    """
    a, b = operands(a, b)
    if not a.ndim or not b.ndim:
        return a * b
    _demand_equal("dot", a, b, -1, builtins.max(-2, -b.ndim))
    return linalg.matmul(a, b) if b.ndim <= 2 else tensordot(a, b, ([-1], [-2]))


def inner(a: Any, b: Any) -> Any:
    """The sum of products over the last axes: sum_k a[..., k] b[..., k].

    The other axes of `a` come before those of `b`. A number multiplies.
    Gradient: through both. Raises ValueError if the sizes differ.
    Source: np.inner.

    >>> tk.inner(tk.tensor([[1.0, 2.0], [3.0, 4.0]]), tk.tensor([1.0, 1.0]))
    Tensor([3., 7.])
    """
    a, b = operands(a, b)
    if not a.ndim or not b.ndim:
        return a * b
    _demand_equal("inner", a, b, -1, -1)
    return tensordot(a, b, ([-1], [-1]))


def _demand_equal(name: str, a: Any, b: Any, axis: int, other: int) -> None:
    if a.shape[axis] != b.shape[other]:
        raise ValueError(
            f"{name}: expected axis {axis} of the first and axis {other} of the second of one "
            f"size, got {a.shape} and {b.shape}."
        )


def outer(a: Any, b: Any) -> Any:
    """The outer product of the flattened arrays: y[i, j] = a[i] b[j].

    Gradient: g b for `a`, a g for `b`. Source: np.outer.

    >>> tk.outer(tk.tensor([1.0, 2.0]), tk.tensor([3.0, 4.0]))
    Tensor([[3., 4.],
            [6., 8.]])
    """
    a, b = operands(a, b)
    return a.reshape(-1, 1) * b.reshape(1, -1)


def vdot(a: Any, b: Any) -> Any:
    """The inner product of the flattened arrays: sum_i a[i] b[i].

    Gradient: g b for `a`, g a for `b`. Raises ValueError if the sizes differ.
    Source: np.vdot.

    >>> tk.vdot(tk.tensor([[1.0, 2.0]]), tk.tensor([[3.0, 4.0]]))
    Tensor(11.)
    """
    a, b = operands(a, b)
    if a.size != b.size:
        raise ValueError(f"vdot: expected as many elements, got {a.shape} and {b.shape}.")
    return linalg.matmul(a.reshape(-1), b.reshape(-1))


@either_name
def tensordot(a: Any, b: Any, axes: Any = 2, *, dims: Any = None) -> Any:
    """The sum of products over pairs of axes; the other axes of `a` come before those of `b`.

    axes, dims: how many last axes of `a` meet the first of `b`, or (axes of a, axes of b).
    Gradient: through both. Raises ValueError if the sizes of a pair differ.
    Source: np.tensordot, torch.tensordot.

    >>> tk.tensordot(tk.ones(2, 3), tk.ones(3, 4), 1).shape
    (2, 4)
    """
    a, b = operands(a, b)
    if isinstance(axes, int | np.integer):
        axes = range(-axes, 0), range(axes)
    mine = axis_indices(axes[0], a.ndim, "tensordot")
    others = axis_indices(axes[1], b.ndim, "tensordot")
    sizes = tuple(a.shape[i] for i in mine)
    if sizes != tuple(b.shape[i] for i in others):
        raise ValueError(
            f"tensordot: expected equal sizes over axes={axes}, got {a.shape} and {b.shape}."
        )
    kept = tuple(i for i in range(a.ndim) if i not in mine)
    added = tuple(i for i in range(b.ndim) if i not in others)
    summed = int(np.prod(sizes))
    rows, columns = [a.shape[i] for i in kept], [b.shape[i] for i in added]
    left = a.transpose(kept + mine).reshape(int(np.prod(rows)), summed)
    right = b.transpose(others + added).reshape(summed, int(np.prod(columns)))
    return linalg.matmul(left, right).reshape(tuple(rows + columns))


def kron(a: Any, b: Any) -> Any:
    """The Kronecker product: each element of `a` times the whole of `b`, in blocks.

    Gradient: through both. Source: np.kron.

    >>> tk.kron(tk.tensor([1.0, 10.0]), tk.tensor([1.0, 2.0]))
    Tensor([ 1.,  2., 10., 20.])
    """
    a, b = operands(a, b)
    ndim = builtins.max(a.ndim, b.ndim)
    big, small = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    apart = a.reshape([n for size in big for n in (size, 1)])
    blocks = apart * b.reshape([n for size in small for n in (1, size)])
    return blocks.reshape(tuple(m * n for m, n in zip(big, small, strict=True)))


@either_name
def cross(a: Any, b: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """The cross product of 3-vectors along `axis`: y_i = a_(i+1) b_(i+2) - a_(i+2) b_(i+1).

    A 2-vector has third component 0. The result of two 2-vectors is the third component alone.
    Gradient: through both. Raises ValueError for other sizes.
    Source: np.cross.

    >>> tk.cross(tk.tensor([1.0, 0.0, 0.0]), tk.tensor([0.0, 1.0, 0.0]))
    Tensor([0., 0., 1.])
    """
    a, b = (moveaxis(x, axis_index(axis, x.ndim, "cross"), -1) for x in operands(a, b))
    sizes = {a.shape[-1], b.shape[-1]}
    if not sizes <= {2, 3}:
        raise ValueError(
            f"cross: expected vectors of 3 or 2 elements, got {a.shape} and {b.shape}."
        )
    a, b = (shape.pad(x, widths=((0, 0),) * (x.ndim - 1) + ((0, 3 - x.shape[-1]),)) for x in (a, b))
    y = roll(a, -1, -1) * roll(b, -2, -1) - roll(a, -2, -1) * roll(b, -1, -1)
    return y[..., 2] if sizes == {2} else moveaxis(y, -1, axis)


# ------------------------------------------------------------------ einsum


def einsum(subscripts: Any, *tensors: Any) -> Any:
    """Sums of products over labelled axes: "ij,jk->ik" is the matrix product.

    A label that the result lacks is summed over. A label met twice in an operand takes its
    diagonal. `...` stands for axes that broadcast. Without "->" the result has the labels that are
    met once, in alphabetical order. NumPy's other form works too: einsum(a, [0, 1], b, [1, 2], [0,
    2]).

    Gradient: through every operand.
    Raises ValueError, with subscripts and shapes, if they do not fit.
    Source: np.einsum, torch.einsum.

    >>> tk.einsum("ii->", tk.tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor(5.)
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
        raise ValueError(f"einsum({subscripts!r}, {shapes}): {error}") from None
    return linalg.einsum(*parts, subscripts=explicit)


def _written_out(*arguments: Any) -> tuple[str, tuple[Any, ...]]:
    """NumPy's other form of `einsum`, labels as lists of numbers, in the form with letters."""
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
            f"einsum: expected letters in a string or lists of numbers 0 ... 51, got {labels!r}."
        ) from None


@lru_cache(maxsize=256)
def explicit_subscripts(subscripts: str, ranks: tuple[int, ...]) -> str:
    """`subscripts` for operands of these ranks with every label and the result written out."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"expected {len(ranks)} terms, one for each operand, got {len(terms)}.")
    named = [term.replace("...", "", 1) for term in (*terms, result)]
    if not set("".join(named)) <= set(_ALPHABET):
        raise ValueError(f"expected letters, and one '...' in a term at most, got {subscripts!r}.")
    spread = [rank - len(name) for rank, name in zip(ranks, named, strict=False)]
    for term, rank, room in zip(terms, ranks, spread, strict=True):
        if room < 0 or (room and "..." not in term):
            raise ValueError(f"expected a term for {rank} axes, got {term!r}.")
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
        raise ValueError(
            f"expected each label of the result once, and in an operand, got {result!r}."
        )
    return ",".join(terms) + "->" + result


def _demand_square(x: Any, term: str) -> None:
    for label, size in zip(term, x.shape, strict=True):
        other = x.shape[term.index(label)]
        if other != size:
            raise ValueError(
                f"expected one size for {label!r} in {x.shape}, got {other} and {size}."
            )
