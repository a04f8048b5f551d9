"""Matrix products and linear algebra; matrices are the last two axes."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, pairwise, permutations, product
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import solving
from tinygrad_kr.ops.elementwise import (
    absolute,
    kink,
    undefined,
    where,
)
from tinygrad_kr.ops.indexing import tril, triu
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import Op, in_float32, op
from tinygrad_kr.ops.products import MIN_MULTIPLY_ADDS, gemm
from tinygrad_kr.ops.reduction import concatenate

# ------------------------------------------------------------------ products


def _matmul(a: Any, b: Any) -> Any:
    """Matrix product: y[..., i, j] = sum_k a[..., i, k] b[..., k, j].

    a, b: (..., n, k) and (..., k, m). The axes before broadcast. A 1-D `a` is a row and a 1-D `b` a
        column, whose axis the result lacks. Of two vectors it is the inner product, a number.
    Dtype: the common one.
    Gradient: g b^T for `a`, a^T g for `b`.
    Raises ValueError if the shapes do not fit, or one of them is ().
    Source: np.matmul.

    >>> tk.matmul(tk.tensor([[1.0, 2.0], [3.0, 4.0]]), [1.0, 1.0])
    Tensor([3., 7.])
    """
    try:
        if b.ndim == 1 <= a.ndim <= 2:
            return rows_by_vector(a, b) if _wakes_threads(a) else a.dot(b)
        small = 1 <= a.ndim <= 2 == b.ndim and a.size * b.shape[1] < MIN_MULTIPLY_ADDS
        return a.dot(b) if small else gemm(a, b)
    except ValueError as error:
        if not a.ndim or not b.ndim:
            raise ValueError("expected at least 1 axis, got a number. Use *") from error
        if a.shape[-1] != b.shape[-min(2, b.ndim)]:
            axis = "last axis" if b.ndim == 1 else "last axis but one"
            raise ValueError(
                f"expected {a.shape[-1]} entries, as on the last axis of {a.shape}, got "
                f"{b.shape[-min(2, b.ndim)]} on the {axis} of {b.shape}."
            ) from error
        raise


def rows_of(x: Any) -> Any:
    """All axes but the last as one. A size of -1 is ambiguous where there are no elements."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _matmul_left(g: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g[..., None] * b
    if a.ndim == 1:
        return b @ g if b.ndim == 2 else (g[..., None, :] @ b.mT)[..., 0, :]
    if type(g) is ndarray is type(b) and g.ndim == 2 == b.ndim:
        return g.dot(b.T) if g.size * len(b) < MIN_MULTIPLY_ADDS else gemm(g, b.T)
    return gemm(g, b.mT)


def _matmul_right(g: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return a * g if b.ndim == 1 else a[:, None] * g[..., None, :]
    if b.ndim == 1:
        if type(g) is ndarray and a.ndim == 2 and _wakes_threads(a):
            return vector_by_rows(g, a)
        return a.mT @ g if a.ndim == 2 else (a.mT @ g[..., None])[..., 0]
    if b.ndim == 2 and a.ndim > 2:
        return gemm(rows_of(a).mT, rows_of(g))
    if type(g) is ndarray and g.ndim == 2 == a.ndim:
        return a.T.dot(g) if a.size * g.shape[1] < MIN_MULTIPLY_ADDS else gemm(a.T, g)
    return a.mT @ g  # `a.mT.dot(g)` would not defer to a Tensor `g`


def _linear(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> Any:
    """x W^T + b: features on the last axis of `x`, weight (..., out, in), bias (..., out)."""
    if x.ndim == 2 == weight.ndim and bias is not None and bias.ndim == 1:
        try:
            small = x.size * len(weight) < MIN_MULTIPLY_ADDS
            y: ndarray = x.dot(weight.T) if small else gemm(x, weight.T)
            y += bias
            return y
        except ValueError:
            pass
    if weight.ndim < 2 or x.shape[-1:] != weight.shape[-1:]:
        flat = weight.ndim == 2 < x.ndim and math.prod(x.shape[1:]) == weight.shape[-1]
        if weight.ndim < 2:
            raise ValueError(f"expected a weight with axes (out, in), got {weight.shape}.")
        raise ValueError(
            f"expected {weight.shape[-1]} features for the weight {weight.shape}, got "
            f"{x.shape[-1] if x.ndim else 'none'} in the input {x.shape}"
            + (". Flatten it first: x.flatten(1), or nn.Flatten() before the layer" * flat)
        )
    if bias is not None and bias.size != 1 and bias.shape[-1] != weight.shape[-2]:
        raise ValueError(
            f"expected a bias of {weight.shape[-2]} output features, got {bias.shape}."
        )
    if bias is not None and bias.ndim > 1 and x.ndim < 2:
        raise ValueError(
            f"expected rows for biases {bias.shape}, got a single vector. Give x a row axis"
        )
    y = gemm(x, weight.mT)
    if bias is None:
        return y
    return y + (bias if bias.ndim < 2 else bias[..., None, :])


def _linear_weight(g: Any, x: Any, weight: Any) -> Any:
    if weight.ndim == 2 and x.ndim > 2:
        return gemm(rows_of(g).mT, rows_of(x))
    if x.ndim == 1:
        return g[..., :, None] * x
    return gemm(g.mT, x)


@lru_cache(maxsize=64)
def ones(n: int, dtype: np.dtype[Any]) -> ndarray:
    """A vector of ones, for sums as products; read-only by convention."""
    return np.ones(n, dtype)


_UNTHREADED = 9215
"""Threshold: largest matrix that OpenBLAS multiplies by a vector on one core; elements."""


_ALONE = 2**17
"""Threshold: matrix that one core multiplies by a vector sooner than threads wake; elements."""


def _wakes_threads(rows: Any) -> bool:
    """Whether BLAS would, for a product with a vector, wake threads that it does not need."""
    return (
        type(rows) is ndarray
        and rows.ndim == 2
        and _UNTHREADED < rows.size <= _ALONE
        and 4 <= rows.shape[1] <= _UNTHREADED // 8
        and rows.flags.c_contiguous
    )


def rows_by_vector(rows: ndarray, vector: ndarray) -> ndarray:
    """The product of a matrix and a vector, in blocks on one core."""
    y: ndarray
    if vector.shape != rows.shape[1:] or vector.dtype != rows.dtype:
        y = rows.dot(vector)
        return y
    blocks, rest = _blocks(rows)
    y = np.empty(len(rows), rows.dtype)
    whole = len(rows) - len(rest)
    np.matmul(blocks, vector, out=y[:whole].reshape(blocks.shape[:2]))
    np.dot(rest, vector, out=y[whole:])
    return y


def vector_by_rows(vector: ndarray, rows: ndarray) -> ndarray:
    """The product of a vector and a matrix, in blocks on one core."""
    blocks, rest = _blocks(rows)
    count, size, _ = blocks.shape
    parts = np.matmul(vector[: count * size].reshape(count, 1, size), blocks)
    y: ndarray = np.add.reduce(parts, axis=(0, 1))
    y += vector[count * size :].dot(rest)
    return y


def column_sums(rows: ndarray) -> ndarray:
    """The sums over the first of two axes, as products with ones: five times as fast as `sum`.

    Each product is too small for BLAS to wake its threads, which would spin for milliseconds.
    """
    sums: ndarray
    if rows.size <= _UNTHREADED:
        sums = ones(len(rows), rows.dtype).dot(rows)
        return sums
    if rows.shape[1] * 8 > _UNTHREADED:
        sums = np.add.reduce(rows, axis=0)
        return sums
    blocks, rest = _blocks(rows)
    sums = np.add.reduce(np.matmul(ones(blocks.shape[1], rows.dtype), blocks), axis=0)
    sums += ones(len(rest), rows.dtype).dot(rest)
    return sums


def _blocks(rows: ndarray) -> tuple[ndarray, ndarray]:
    """Blocks of at most _UNTHREADED elements, and the rows that are left."""
    columns = rows.shape[1]
    block = _UNTHREADED // columns
    whole = len(rows) // block * block
    return rows[:whole].reshape(-1, block, columns), rows[whole:]


def _linear_bias(g: Any, bias: Any) -> Any:
    """Sums of the columns of `g`; as a product with ones, three times as fast as `sum`."""
    if bias.ndim > 1:
        if type(g) is not ndarray or g.shape[-2] > 4096:
            return g.sum(axis=-2)
        return ones(g.shape[-2], g.dtype) @ g
    if type(g) is not ndarray or g.ndim < 2:
        return g
    if g.ndim > 2:
        return column_sums(rows_of(g))
    return ones(len(g), g.dtype).dot(g) if g.size <= _UNTHREADED else column_sums(g)


# fmt: off
matmul = op(_matmul, lambda g, y, a, b: _matmul_left(g, a, b),
                     lambda g, y, a, b: _matmul_right(g, a, b), numpy=[np.matmul])
linear = op(_linear, lambda g, y, x, weight, *bias:
                     g.dot(weight)
                     if type(g) is type(weight) and weight.ndim == 2
                     and g.size * weight.shape[1] < MIN_MULTIPLY_ADDS
                     else gemm(g, weight),
                     lambda g, y, x, weight, *bias:
                     g.T.dot(x)
                     if type(g) is type(x) and g.ndim == 2 == weight.ndim
                     and x.size * g.shape[1] < MIN_MULTIPLY_ADDS
                     else _linear_weight(g, x, weight),
                     lambda g, y, x, weight, bias: _linear_bias(g, bias))
# fmt: on

# ------------------------------------------------------------------ einsum


@in_float32
def _einsum(*operands: ndarray, subscripts: str) -> Any:
    """Sums of products by explicit `subscripts` (see `arrays.einsum`)."""
    return np.einsum(subscripts, *operands, optimize=len(operands) > 1)


def _einsum_vjp(g: Any, operands: tuple[Any, ...], index: int, subscripts: str) -> Any:
    """The transposed contraction: `g` and the other operands, summed to this one's labels.

    A label that occurs twice in this operand (a diagonal) becomes an identity matrix. A label that
    occurs nowhere else becomes a vector of ones.
    """
    inputs, output = subscripts.split("->")
    labels = inputs.split(",")
    mine = labels.pop(index)
    x = operands[index]
    others = [operand for i, operand in enumerate(operands) if i != index]
    known = set(output).union(*labels)
    fresh = iter(sorted(set(map(chr, range(65, 123))) - set(subscripts) - set("[\\]^_`")))
    target = ""
    for axis, label in enumerate(mine):
        size = x.shape[axis]
        if label in target:
            renamed = next(fresh)
            labels.append(label + renamed)
            others.append(np.eye(size, dtype=x.dtype))
            target += renamed
            continue
        if label not in known:
            labels.append(label)
            others.append(np.ones(size, x.dtype))
        target += label
    return einsum(g, *others, subscripts=",".join([output, *labels]) + "->" + target)


einsum = op(
    _einsum,
    lambda g, y, *operands, index, subscripts: _einsum_vjp(g, operands, index, subscripts),
    variadic=True,
)

# ------------------------------------------------------------------ inverses


def _rounding(x: Any, n: int) -> float:
    """The relative size up to which a value of a decomposition counts as 0."""
    return float(n * np.finfo(x.dtype).eps)


def _inv(a: ndarray) -> ndarray:
    """The inverse of square matrices.

    a: (..., n, n). Result: the same shape, in a floating dtype.
    Gradient: -y^T g y^T for the inverse y.
    Raises LinAlgError for a singular matrix. Source: np.linalg.inv.

    >>> tk.linalg.inv(tk.tensor([[2.0, 0.0], [0.0, 4.0]]))
    Tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    return np.linalg.inv(a)


def _solve(a: ndarray, b: ndarray) -> ndarray:
    """The x with a x = b; a 1-D `b` is one vector, else its columns are."""
    return np.linalg.solve(a, b)


def _solve_transposed(g: Any, a: Any, b: Any) -> Any:
    """a^-T g; where `b` is one vector and `a` a batch, the rows of `g` are vectors too."""
    return solve(a.mT, g[..., None])[..., 0] if b.ndim == 1 else solve(a.mT, g)


def _solve_vjp(g: Any, y: Any, a: Any, b: Any, needs: tuple[bool, ...]) -> Any:
    """-z y^T and z = a^-T g, solved once."""
    z = _solve_transposed(g, a, b)
    if not needs[0]:
        return None, z
    return -z[..., :, None] * y[..., None, :] if b.ndim == 1 else -(z @ y.mT), z


def _pinv(a: ndarray, *, rtol: Any = None, atol: Any = 0.0) -> ndarray:
    """The Moore-Penrose inverse.

    Singular values up to `atol`, or `rtol` times the largest, count as 0.
    """
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    zero = np.logical_not(above(s, a, rtol, atol))
    inverse = np.where(zero, 0, 1 / np.where(zero, 1, s)).astype(s.dtype)
    y: ndarray = (vt.mT * inverse[..., None, :]) @ u.mT
    return y


def above(s: ndarray, a: ndarray, rtol: Any = None, atol: Any = 0.0) -> Any:
    """Which singular values of `a` are above `atol` and `rtol` times the largest."""
    rtol = _rounding(a, max(a.shape[-2:])) if rtol is None else np.asarray(rtol)[..., None]
    largest = s.max(axis=-1, keepdims=True, initial=0)
    return s > np.maximum(np.asarray(atol)[..., None], rtol * largest)


def _pinv_vjp(g: Any, y: Any, a: Any) -> Any:
    """Source: Golub and Pereyra, The differentiation of pseudo-inverses (1973), theorem 4.3."""
    t = g.mT
    outside_rows = t - a @ (y @ t)
    outside_columns = t - (t @ y) @ a
    return y.mT @ (y @ outside_columns) + (outside_rows @ y) @ y.mT - y.mT @ g @ y.mT


def _solve_triangular(a: ndarray, b: ndarray, *, upper: bool, unit: bool) -> ndarray:
    """The x with t x = b for the triangle t of `a`; with 1 on its diagonal if `unit`."""
    t = _triangle(a, upper, unit)
    if upper:
        return np.linalg.solve(t, b)
    # The LU decomposition of an upper triangle exchanges no rows: this is back substitution.
    return np.linalg.solve(t[..., ::-1, ::-1], b[..., ::-1, :])[..., ::-1, :]


def _triangle(a: Any, upper: bool, unit: bool) -> Any:
    offset = int(unit) if upper else -int(unit)
    t = (triu if upper else tril)(a, k=offset)
    return t + np.eye(a.shape[-1], dtype=a.dtype) if unit else t


def _solve_triangle_vjp(
    g: Any, y: Any, a: Any, needs: tuple[bool, ...], upper: bool, unit: bool
) -> Any:
    """The triangle of -z y^T, and z = t^-T g, solved once."""
    offset = int(unit) if upper else -int(unit)
    z = solve_triangular(a.mT, g, upper=not upper, unit=unit)
    return (triu if upper else tril)(-(z @ y.mT), k=offset) if needs[0] else None, z


def _lstsq(a: ndarray, b: ndarray, *, rtol: float | None = None) -> ndarray:
    """The shortest x with the least |a x - b|; singular values up to rtol times the largest are 0.

    NumPy's function knows no batches.
    """
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = np.empty((*batch, a.shape[-1], b.shape[-1]), np.result_type(a, b))
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    for i in np.ndindex(batch):
        y[i] = np.linalg.lstsq(a[i], b[i], rtol)[0]
    return y


def _lstsq_vjp(g: Any, y: Any, a: Any, b: Any, rtol: float | None) -> Any:
    """r w^T - z y^T + t (P g)^T, where z = a^+T g, w = a^+ z, t = a^+T y and r = b - a y.

    P projects on the null space of `a`; it is 0 where the columns are independent.
    Source: Golub and Pereyra, The differentiation of pseudo-inverses (1973).
    """
    z = lstsq(a.mT, g, rtol=rtol)
    w, t = lstsq(a, z, rtol=rtol), lstsq(a.mT, y, rtol=rtol)
    return (b - a @ y) @ w.mT - z @ y.mT + t @ null_projection(a, g, rtol=rtol).mT


def _null_projection(a: ndarray, x: ndarray, *, rtol: float | None = None) -> ndarray:
    """The columns of `x`, projected on the null space of `a`; exactly 0 if that is empty."""
    _, s, vt = np.linalg.svd(a, full_matrices=False)
    kept = above(s, a, rtol)
    rows = vt * kept[..., None]
    some = (kept.sum(axis=-1) < a.shape[-1])[..., None, None]
    return np.where(some, x - rows.mT @ (rows @ x), np.zeros((), x.dtype))


def _null_projection_vjp(g: Any, y: Any, a: Any, x: Any, rtol: float | None) -> Any:
    right = lstsq(a.mT, g, rtol=rtol) @ y.mT
    return -right - lstsq(a.mT, x, rtol=rtol) @ null_projection(a, g, rtol=rtol).mT


def _det(a: ndarray) -> Any:
    """Determinants of square matrices.

    a: (..., n, n). Result: (...), in a floating dtype.
    Gradient: the matrix of cofactors, which exists for singular matrices too.
    Raises LinAlgError for matrices that are not square. Source: np.linalg.det.

    >>> tk.linalg.det(tk.tensor([[2.0, 0.0], [0.0, 4.0]])).item()
    8.0
    """
    return np.linalg.det(a)


def _product_of_others(s: ndarray) -> ndarray:
    """For each element the product of all others along the last axis, without dividing."""
    one = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([one, s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([one, s[..., :0:-1]], -1), -1)[..., ::-1]
    return before * after


def _signed_svd(a: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """U, s and V^T with det(U) det(V) = 1: the last singular value carries the sign of det(a)."""
    u, s, vt = np.linalg.svd(a)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))[..., None]
    s[..., -1:] *= sign
    u[..., -1:] *= sign[..., None]
    return u, s, vt


def _cofactor(a: ndarray, *directions: ndarray) -> Any:
    """The derivative of det(a) along all `directions`, as a matrix: of one order more than these.

    Without directions it is the matrix of cofactors. Exact for singular matrices too.

    The singular value decomposition makes every matrix diagonal. There det(S + X) is the sum, over
    sets I of indices, of det(X_I) times the product of all other s. Only sets with one index more
    than there are directions have a derivative of that order at X = 0.
    """
    u, s, vt = _signed_svd(a)
    turned = [u.mT @ h @ vt.mT for h in directions]
    if not turned:
        return (u * _product_of_others(s)[..., None, :]) @ vt
    shape = np.broadcast_shapes(a.shape, *(h.shape for h in turned))
    middle = np.zeros(shape, s.dtype)
    if len(turned) == 1:
        _add_pairs(middle, s, turned[0])
    else:
        _add_sets(middle, s, turned)
    return u @ middle @ vt


def _add_pairs(middle: ndarray, s: ndarray, h: ndarray) -> None:
    """One direction: dC_ii = sum_j p_ij h_jj and dC_ij = -p_ij h_ji, p_ij without s_i and s_j."""
    n = s.shape[-1]
    p = np.zeros((*s.shape, n), s.dtype)
    for i in range(n):
        rest = s.copy()
        rest[..., i] = 1
        p[..., i, :] = _product_of_others(rest)
        p[..., i, i] = 0
    middle -= p * h.mT
    diagonal = np.arange(n)
    along = np.matmul(p, np.diagonal(h, axis1=-2, axis2=-1)[..., None])
    middle[..., diagonal, diagonal] = along[..., 0]


def _add_sets(middle: ndarray, s: ndarray, directions: list[ndarray]) -> None:
    """k directions: over the sets I of k + 1 indices, the mixed minors of X_I."""
    n, k = s.shape[-1], len(directions)
    sets = np.array(list(combinations(range(n), k + 1)), np.intp).reshape(-1, k + 1)
    inside = np.zeros((len(sets), n), bool)
    np.put_along_axis(inside, sets, True, axis=-1)
    others = np.where(inside, 1, s[..., None, :]).prod(axis=-1)
    for row, column in product(range(k + 1), repeat=2):
        rows, columns = np.delete(sets, row, axis=1), np.delete(sets, column, axis=1)
        blocks = [h[..., rows[:, :, None], columns[:, None, :]] for h in directions]
        minor = (-1) ** (row + column) * others * _mixed_determinant(blocks)
        place: Any = (..., sets[:, row], sets[:, column])
        np.add.at(middle, place, minor)


def _mixed_determinant(blocks: list[ndarray]) -> Any:
    """The sum of the determinants whose rows come from the blocks, in every order of these."""
    k = len(blocks)
    total: Any = 0.0
    for columns in permutations(range(k)):
        sign = (-1) ** sum(a > b for a, b in combinations(columns, 2))
        for order in permutations(blocks):
            terms = [block[..., i, columns[i]] for i, block in enumerate(order)]
            total = total + sign * math.prod(terms[1:], start=terms[0])
    return total


def _cofactor_vjp(g: Any, inputs: tuple[Any, ...], index: int) -> Any:
    """The form is symmetric: `g` takes the place of a direction, or is one more."""
    a, *directions = inputs
    if index:
        del directions[index - 1]
    return cofactor(a, *directions, g)


def _logabsdet(a: ndarray) -> Any:
    """log |det(a)| without overflow; -inf for a singular matrix."""
    return np.linalg.slogdet(a)[1]


def _signdet(a: ndarray) -> Any:
    """The sign of det(a)."""
    return np.linalg.slogdet(a)[0]


def _logabsdet_slope(a: ndarray) -> ndarray:
    """a^-T = cofactor(a) / det(a): for a singular matrix infinite, NaN for cofactors of 0."""
    try:
        return np.linalg.inv(a).mT
    except np.linalg.LinAlgError:
        pass
    cofactors = np.asarray(_cofactor(a))
    n, largest = a.shape[-1], np.linalg.svd(a, compute_uv=False)[..., :1, None]
    rounding = n * np.finfo(a.dtype).eps * largest ** (n - 1)
    singular = np.linalg.slogdet(a)[0][..., None, None] == 0
    with np.errstate(all="ignore"):
        infinite = np.where(np.abs(cofactors) > rounding, cofactors, 0) / np.zeros((), a.dtype)
    return np.where(singular, infinite, np.linalg.inv(np.where(singular, _eye(a), a)).mT)


def _cholesky(a: ndarray) -> ndarray:
    """The lower-triangular L with L L^T = (a + a^T) / 2, which must be positive definite."""
    return np.linalg.cholesky((a + a.mT) * 0.5)


def _cholesky_vjp(g: Any, y: Any) -> Any:
    """L^-T phi(L^T g) L^-1, symmetrised; phi is the lower triangle with half its diagonal.

    Source: Murray, Differentiation of the Cholesky decomposition (2016).
    """
    if (found := solving.cholesky_vjp(g, y)) is not None:
        return found
    middle = _half_lower(y.mT @ tril(g))
    half = solve_triangular(y.mT, middle.mT, upper=True, unit=False)
    s = solve_triangular(y.mT, half.mT, upper=True, unit=False)
    return (s + s.mT) * 0.5


def _half_lower(x: Any) -> Any:
    return tril(x) - x * (np.eye(x.shape[-1], dtype=x.dtype) * 0.5)


# fmt: off
inv       = op(_inv,       lambda g, y, a: -(y.mT @ g @ y.mT), kernel=solving.inv)
solve     = op(_solve,     lambda g, y, a, b, needs: _solve_vjp(g, y, a, b, needs),
               one_rule_for_all=True, kernel=solving.solve)
pinv      = op(_pinv,      lambda g, y, a, rtol=None, atol=0.0: _pinv_vjp(g, y, a))
solve_triangular: Op = op(_solve_triangular,
               lambda g, y, a, b, needs, upper, unit:
               _solve_triangle_vjp(g, y, a, needs, upper, unit),
               one_rule_for_all=True, kernel=solving.solve_triangular)
lstsq: Op = op(_lstsq,     lambda g, y, a, b, rtol=None: _lstsq_vjp(g, y, a, b, rtol),
                           lambda g, y, a, b, rtol=None: lstsq(a.mT, g, rtol=rtol))
null_projection: Op = op(_null_projection,
               lambda g, y, a, x, rtol=None: _null_projection_vjp(g, y, a, x, rtol),
               lambda g, y, a, x, rtol=None: null_projection(a, g, rtol=rtol))
det       = op(_det,       lambda g, y, a: g[..., None, None] * cofactor(a))
cofactor: Op = op(_cofactor, lambda g, y, *inputs, index: _cofactor_vjp(g, inputs, index),
                  variadic=True)
logabsdet = op(_logabsdet, lambda g, y, a: g[..., None, None] * logabsdet_slope(a),
               kernel=solving.logabsdet)
logabsdet_slope: Op = op(_logabsdet_slope, lambda g, y, a: -(y @ g.mT @ y),
               kernel=solving.logabsdet_slope)
signdet   = op(_signdet,   kernel=solving.signdet)
cholesky  = op(_cholesky,  lambda g, y, a: _cholesky_vjp(g, y), kernel=solving.cholesky)
# fmt: on

# ------------------------------------------------------------------ decompositions
# An op has one output, so several results are packed into one array. Vectors are taken out by ops
# that mark the cotangent: where values are equal or 0 it matters whether vectors were used at all.
#
# The derivative at `a` in one direction (the tangent) and its adjoint (the slope) are ops too. What
# both give, paired with a matrix, is one bilinear form: its derivative by `a` is written out in
# terms that equal values leave defined. Differentiating the formulas would meet their vectors.


def _eigh(a: ndarray, *, generic: bool = False) -> ndarray:
    """Eigenvalues (first row), eigenvectors (columns below) and a row of 0 for the mark.

    They are those of the symmetric (a + a^T) / 2. generic: see `_turn_ties`.
    """
    values, vectors = np.linalg.eigh((a + a.mT) * 0.5)
    if generic and a.size:
        _turn_ties(values, vectors)
    values = values[..., None, :]
    return np.concatenate([values, vectors, np.zeros_like(values)], axis=-2)


def _turn_ties(values: ndarray, *vectors: ndarray) -> None:
    """Vectors of equal values, whose choice is free, turned so that no entry is 0 by chance.

    A function of matrices V diag(g(w)) V^T has a derivative between two such vectors that the
    factors do not give. Where g(w) is 0 the vectors have no cotangent. So that of w has to tell,
    and with coordinate axes as vectors it could be 0.
    """
    tied = np.abs(np.diff(values)) <= 4 * np.finfo(values.dtype).eps * _largest(values)
    for matrix in np.argwhere(tied.any(axis=-1)):
        edges = np.flatnonzero(~np.concatenate([[False], tied[tuple(matrix)], [False]]))
        for start, stop in pairwise(edges):
            for v in vectors:
                v[(*matrix, slice(None), slice(start, stop))] @= _generic(stop - start, v.dtype)


@lru_cache(maxsize=64)
def _generic(n: int, dtype: np.dtype[Any]) -> ndarray:
    """A reflection without zeros; 1 for n = 1."""
    u = np.cos(np.arange(1.0, n + 1)) + 2
    return np.asarray(np.eye(n) - (n > 1) * 2 * np.outer(u, u) / (u @ u), dtype)


def _eigenvectors(packed: ndarray) -> ndarray:
    """The eigenvectors of `eigh_packed`."""
    return packed[..., 1:-1, :]


def _eigenvectors_vjp(g: Any) -> Any:
    row = np.zeros((*g.shape[:-2], 1, g.shape[-1]), g.dtype)
    return concatenate(row, g, row + 1, axis=-2)


def _eye(values: Any) -> ndarray:
    return np.eye(values.shape[-1], dtype=values.dtype)


def _gaps(values: Any) -> Any:
    """w_j - w_i in row i and column j."""
    return values[..., None, :] - values[..., :, None]


def _largest(values: Any) -> Any:
    return absolute(values).max(axis=-1, keepdims=True)


def _close(values: Any, n: int) -> Any:
    """Which pairs of values are too close for vectors of their own.

    The bound, 8 n eps max|w|, is a few times the rounding error of a decomposition.
    """
    bound = _largest(values)[..., None] * (8 * n * np.finfo(values.dtype).eps)
    return (absolute(_gaps(values)) <= bound) & (_eye(values) == 0)


def _inverse_gaps(values: Any, close: Any) -> Any:
    """1 / (w_j - w_i) in row i and column j; 0 where these are close, and on the diagonal."""
    skipped = close | (_eye(values) == 1)
    return where(skipped, 0.0, 1 / where(skipped, 1.0, _gaps(values)))


def _unusable(x: Any, columns: Any, like: Any) -> Any:
    """0, or NaN in a whole matrix where `x` is not 0 in one of `columns`. like: has the shape."""
    total = undefined(x, columns[..., None, :]).sum(axis=(-2, -1), keepdims=True)
    total = total + np.zeros(like.shape, like.dtype)
    return undefined(total, columns.any(axis=-1, keepdims=True)[..., None])


def _any(x: ndarray) -> ndarray:
    """Of each matrix whether an element is not 0."""
    return np.asarray(np.any(x != 0, axis=(-2, -1), keepdims=True))


def _nan_where(mask: ndarray, x: ndarray) -> ndarray:
    return np.where(mask, np.full((), np.nan, x.dtype), x)


def _along(x: Any, y: Any) -> Any:
    """The inner products of columns."""
    return (x * y).sum(axis=-2, keepdims=True)


def _symmetric(x: Any) -> Any:
    return (x + x.mT) * 0.5


def _second_factors(times: Any, resolvent: Any, z: Any, c: Any, g: Any) -> Any:
    """Pairs (l, r) whose products l r^T add up to the derivative by `a` of a bilinear form.

    The form is the sum over vectors z_k, with values w_k, of s z_k . R_k c_k + g_k z_k . s z_k: the
    derivative in the direction s of a function whose cotangents are c and g. R_k is the inverse of
    w_k - a but for z_k: where another value is double it does not depend on the choice of vectors.
    d R = R da R - dw R^2 - R^2 da z z^T - z z^T da R^2, dw = z . da z and dz = R da z.
    times: x -> s x. resolvent: x -> R_k x_k in column k.
    """
    sz = times(z)
    p, q = resolvent(sz), resolvent(c)
    last = resolvent(times(q)) - resolvent(p) * _along(z, c) - z * _along(p, q) + 2.0 * (p * g)
    return (p, q), (-z * _along(z, sz), resolvent(q)), (last, z)


def _second_gate(s: Any, c: Any, g: Any, bad: Any) -> Any:
    """0, but NaN where a direction s meets cotangents c or g of values that are close.

    Nor are there derivatives by such cotangents, in any order.
    """
    touched = (bad[..., None, :] & ((c != 0) | (g != 0))).any(axis=(-2, -1), keepdims=True)
    every = bad[..., None, :]
    links = kink(c, every).sum(axis=(-2, -1), keepdims=True)
    links = links + kink(g, every).sum(axis=(-2, -1), keepdims=True)
    total = undefined(s, touched).sum(axis=(-2, -1), keepdims=True)
    return undefined(total, touched) + links


def _eigh_slope(a: ndarray, y: ndarray, g: ndarray, used: ndarray) -> ndarray:
    """V (diag(gw) + F * V^T gV) V^T, symmetrised; F_ij = 1 / (w_j - w_i).

    NaN where an eigenvector that is used has an eigenvalue close to another. Its cotangent may be
    0 there, if it was multiplied by 0; then the eigenvalue has one.
    Source: Giles, Collected matrix derivative results (2008), 3.1.
    """
    values, vectors = y[..., 0, :], y[..., 1:-1, :]
    n = values.shape[-1]
    if not n:
        return np.zeros_like(vectors)
    g_values, g_vectors = g[..., :1, :], g[..., 1:, :]
    pairs = _close(values, n)
    middle = g_values * _eye(values) + _inverse_gaps(values, pairs) * (vectors.mT @ g_vectors)
    met = (g_vectors != 0).any(axis=-2, keepdims=True) | ((used > 0) & (g_values != 0))
    s = vectors @ middle @ vectors.mT
    return _nan_where(
        (met & pairs.any(axis=-2, keepdims=True)).any(-1, keepdims=True), _symmetric(s)
    )


def _eigh_tangent(a: ndarray, y: ndarray, h: ndarray, used: ndarray) -> ndarray:
    """The derivative of values (first row) and vectors in the direction h; NaN as `eigh_slope`.

    It is the adjoint of that.
    """
    values, vectors = y[..., 0, :], y[..., 1:-1, :]
    n = values.shape[-1]
    if not n:
        return np.zeros_like(y[..., :-1, :])
    pairs = _close(values, n)
    turned = vectors.mT @ _symmetric(h) @ vectors
    along = np.diagonal(turned, axis1=-2, axis2=-1)[..., None, :]
    across = vectors @ (_inverse_gaps(values, pairs) * turned)
    bad = pairs.any(axis=-2, keepdims=True) & _any(h)
    parts = _nan_where(bad & (used > 0), along), _nan_where(bad, across)
    return np.concatenate(parts, axis=-2)


def _eigh_second(s: Any, a: Any, y: Any, g: Any) -> Any:
    """The derivative by `a` of the sum of s * eigh_slope(a, y, g)."""
    values, z = y[..., 0, :], eigenvectors(y)
    n = values.shape[-1]
    if not n:
        return z
    pairs = _close(values, n)
    s, c, along, inverse = _symmetric(s), g[..., 1:, :], g[..., :1, :], _inverse_gaps(values, pairs)

    def resolvent(x: Any) -> Any:
        return z @ (inverse * (z.mT @ x))

    factors = _second_factors(lambda x: s @ x, resolvent, z, c, along)
    slope = sum((left @ right.mT for left, right in factors[1:]), factors[0][0] @ factors[0][1].mT)
    return _symmetric(slope) + _second_gate(s, c, along, pairs.any(axis=-1))


def _used_row(y: Any) -> Any:
    """A cotangent of packed values and vectors that is nothing but the mark."""
    mark = np.zeros(y.shape, y.dtype)
    mark[..., -1, :] = 1
    return constant(mark) if isinstance(y, Node) else mark


def _used_column(h: Any, a: Any, y: Any, used: Any) -> Any:
    """The mark; NaN where a direction h meets a value of 0 that was used without vectors."""
    m, n = a.shape[-2:]
    s = y[..., m]
    alone = (_zeros(s, m, n) if s.shape[-1] else s == s) & (used[..., 0] == 0)
    total = undefined(h, alone.any(axis=-1, keepdims=True)[..., None]).sum(axis=(-2, -1))
    values = undefined(total[..., None] + s * 0.0, alone)[..., None]
    before, after = np.zeros((*s.shape, m), y.dtype), np.zeros((*s.shape, n + 1), y.dtype)
    after[..., -1] = 1
    return concatenate(before, values, after, axis=-1)


def _svd(a: ndarray, *, generic: bool = False) -> ndarray:
    """The thin decomposition a = U diag(s) V^T as rows [u_i, s_i, v_i, 0]; 0 is for the mark.

    generic: see `_turn_ties`. Vectors of values that are 0 are turned among all that complete
    the others.
    """
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    if generic and s.size:
        _turn_ties(s, u, vt.mT)
        _turn_null_vectors(a, u, s, vt)
    s = s[..., None]
    return np.concatenate([u.mT, s, vt, np.zeros_like(s)], axis=-1)


def _turn_null_vectors(a: ndarray, u: ndarray, s: ndarray, vt: ndarray) -> None:
    zeros = _zeros(s, *a.shape[-2:]).sum(axis=-1)
    for matrix in map(tuple, np.argwhere(zeros)):
        kept, r = s.shape[-1] - zeros[matrix], s.shape[-1]
        left, _, right = np.linalg.svd(a[matrix])
        u[matrix][:, kept:] = (left[:, kept:] @ _generic(len(left) - kept, s.dtype))[:, : r - kept]
        vt[matrix][kept:] = (_generic(len(right) - kept, s.dtype) @ right[kept:])[: r - kept]


def _left_vectors(packed: ndarray, *, m: int) -> ndarray:
    """U of `svd_packed` of matrices with `m` rows."""
    return packed[..., :m].mT


def _right_vectors(packed: ndarray, *, m: int) -> ndarray:
    """V^T of `svd_packed` of matrices with `m` rows."""
    return packed[..., m + 1 : -1]


def _svd_vectors_vjp(g: Any, before: int, after: int) -> Any:
    def zeros(columns: int) -> ndarray:
        return np.zeros((*g.shape[:-1], columns), g.dtype)

    return concatenate(zeros(before), g, zeros(after), zeros(1) + 1, axis=-1)


def _zeros(s: Any, m: int, n: int) -> Any:
    """Which singular values of m x n matrices count as 0."""
    return s <= _largest(s) * _rounding(s, max(m, n))


def _without_vectors(s: Any, pairs: Any, m: int, n: int) -> tuple[Any, Any]:
    """Which left and right vectors have no derivative: of values that are close, or 0 if m != n."""
    close, zero = pairs.any(axis=-1), _zeros(s, m, n)
    return (close | zero if m > n else close), (close | zero if n > m else close)


def _inverse_sums(s: Any) -> Any:
    """1 / (s_j + s_i) in row i and column j; 0 where both are 0."""
    sums = s[..., None, :] + s[..., :, None]
    return where(sums == 0, 0.0, 1 / where(sums == 0, 1.0, sums))


def _shares(s: ndarray, pairs: ndarray) -> tuple[ndarray, ndarray]:
    """s_j / (s_j^2 - s_i^2) and s_i / (s_j^2 - s_i^2) in row i and column j; 0 for close pairs.

    Without squares, which over- and underflow.
    """
    sums, inverse = _inverse_sums(s), _inverse_gaps(s, pairs)
    return s[..., None, :] * sums * inverse, s[..., :, None] * sums * inverse


def _svd_slope(a: ndarray, y: ndarray, g: ndarray, used: ndarray) -> ndarray:
    """U (L + R + diag(gs)) V^T, with L and R from the cotangents of U and V.

    L_ij = (U^T gU - gU^T U)_ij s_j / (s_j^2 - s_i^2), R likewise with V and s_i. Where a singular
    value is close to another, NaN as in `_eigh_slope`. One that is 0 has the gradient 0, the least
    subgradient, if no vectors are used. If they are, its derivative is that with their signs.
    Source: Townsend, Differentiating the singular value decomposition (2016).
    """
    m, n = a.shape[-2:]
    u, s, v = y[..., :m].mT, y[..., m], y[..., m + 1 : -1].mT
    if not s.shape[-1]:
        return np.zeros_like(a)
    gu, gs, gv, vectors = g[..., :m].mT, g[..., m], g[..., m + 1 :].mT, used[..., 0] > 0
    pairs, zero = _close(s, max(m, n)), _zeros(s, m, n)
    bad_left, bad_right = _without_vectors(s, pairs, m, n)
    row, column = _shares(s, pairs)
    left, right = u.mT @ gu, v.mT @ gv
    middle = (left - left.mT) * row + (right - right.mT) * column
    middle += (gs * ~(zero & ~vectors))[..., None, :] * _eye(s)
    slope = u @ middle @ v.mT
    over = np.where(zero, np.inf, s).astype(s.dtype)[..., None, :]
    if m > n:
        slope += (gu - u @ left) / over @ v.mT
    if n > m:
        slope += u @ ((gv - v @ right) / over).mT
    met = bad_left & (gu != 0).any(axis=-2) | bad_right & (gv != 0).any(axis=-2)
    met |= (bad_left | bad_right) & vectors & (gs != 0)
    return _nan_where(met.any(axis=-1)[..., None, None], slope)


def _svd_tangent(a: ndarray, y: ndarray, h: ndarray, used: ndarray) -> ndarray:
    """The derivative of [u_i, s_i, v_i] in the direction h: of `svd_slope` the adjoint."""
    m, n = a.shape[-2:]
    u, s, v = y[..., :m].mT, y[..., m], y[..., m + 1 : -1].mT
    if not s.shape[-1]:
        return np.zeros_like(y[..., :-1])
    pairs, zero, vectors = _close(s, max(m, n)), _zeros(s, m, n), used[..., 0] > 0
    bad_left, bad_right = _without_vectors(s, pairs, m, n)
    row, column = _shares(s, pairs)
    turned = u.mT @ h @ v
    left, right = turned * row, turned * column
    du, dv = u @ (left - left.mT), v @ (right - right.mT)
    over = np.where(zero, np.inf, s).astype(s.dtype)[..., None, :]
    if m > n:
        du += (h @ v - u @ turned) / over
    if n > m:
        dv += (h.mT @ u - v @ turned.mT) / over
    ds = np.diagonal(turned, axis1=-2, axis2=-1) * ~(zero & ~vectors)
    some = _any(h)[..., 0]
    ds = _nan_where(some & vectors & (bad_left | bad_right), ds)[..., None]
    du = _nan_where((some & bad_left)[..., None, :], du)
    dv = _nan_where((some & bad_right)[..., None, :], dv)
    return np.concatenate([du.mT, ds, dv.mT], axis=-1)


def _svd_second(h: Any, a: Any, y: Any, g: Any) -> Any:
    """The derivative by `a` of the sum of h * svd_slope(a, y, g).

    It is that of `_eigh_second` for the symmetric [[0, a], [a^T, 0]]. This has the eigenvectors
    (u, v) / sqrt(2) with eigenvalues s, and (u, -v) / sqrt(2) with -s; the others have 0.
    """
    m, n = a.shape[-2:]
    u, s, v = left_vectors(y, m=m), y[..., m], right_vectors(y, m=m).mT
    if not s.shape[-1]:
        return u @ v.mT
    pairs, zero, half = _close(s, max(m, n)), _zeros(s, m, n), math.sqrt(0.5)
    z, mirrored = concatenate(u, v, axis=-2) * half, concatenate(u, -v, axis=-2) * half
    c = concatenate(g[..., :m].mT, g[..., m + 1 :].mT, axis=-2) / half
    gs, gaps, sums = g[..., None, :, m], _inverse_gaps(s, pairs), _inverse_sums(s)
    over = where(zero, 0.0, 1 / where(zero, 1.0, s))[..., None, :]

    def resolvent(x: Any) -> Any:
        inside, across = z.mT @ x, mirrored.mT @ x
        y = z @ (gaps * inside) + mirrored @ (sums * across)
        return y if m == n else y + (x - z @ inside - mirrored @ across) * over

    def times(x: Any) -> Any:
        return concatenate(h @ x[..., m:, :], h.mT @ x[..., :m, :], axis=-2)

    slope = h * 0.0
    for left, right in _second_factors(times, resolvent, z, c, gs):
        slope = slope + left[..., :m, :] @ right[..., m:, :].mT
        slope = slope + right[..., :m, :] @ left[..., m:, :].mT
    return slope + _second_gate(h, c, gs, pairs.any(axis=-1) | zero)


def _qr(a: ndarray) -> ndarray:
    """Q and R below it, of matrices with at least as many rows as columns."""
    return np.concatenate(np.linalg.qr(a), axis=-2)


def _qr_vjp(g: Any, y: Any, a: Any) -> Any:
    """(gQ + Q S) R^-T; S is symmetric, with the lower triangle of R gR^T - gQ^T Q.

    NaN where R is singular. Source: Seeger et al., Auto-differentiating linear algebra (2017).
    """
    m, n = a.shape[-2:]
    if not n:
        return a
    q, r, gq, gr = y[..., :m, :], y[..., m:, :], g[..., :m, :], g[..., m:, :]
    sizes = absolute((r * _eye(r)).sum(axis=-1))
    singular = (sizes <= _largest(sizes) * _rounding(r, 8 * m)).any(axis=-1, keepdims=True)
    lower = r @ gr.mT - gq.mT @ q
    s = tril(lower) + tril(lower, k=-1).mT
    r = where(singular[..., None], _eye(r), r)
    slope = solve_triangular(r, (gq + q @ s).mT, upper=True, unit=False).mT
    every = singular & (sizes == sizes)  # of all columns or of none
    return slope + _unusable(gq, every, a) + _unusable(gr, every, a)


# fmt: off
eigh_packed   = op(_eigh, lambda g, y, a, generic=False:
                   eigh_slope(a, y, g[..., :-1, :], g[..., -1:, :]), variable="eigh_packed")
eigenvectors: Op = op(_eigenvectors,  lambda g, y, packed: _eigenvectors_vjp(g))
eigh_slope: Op = op(_eigh_slope,
                   lambda h, out, a, y, g, used: _eigh_second(h, a, y, g),
                   lambda h, out, a, y, g, used: _used_row(y),
                   lambda h, out, a, y, g, used: eigh_tangent(a, y, h, used))
eigh_tangent: Op = op(_eigh_tangent,
                   lambda g, out, a, y, h, used: _eigh_second(h, a, y, g),
                   lambda g, out, a, y, h, used: _used_row(y),
                   lambda g, out, a, y, h, used: eigh_slope(a, y, g, used))
svd_packed    = op(_svd,  lambda g, y, a, generic=False:
                   svd_slope(a, y, g[..., :-1], g[..., -1:]), variable="svd_packed")
left_vectors: Op = op(_left_vectors,  lambda g, y, packed, m:
                   _svd_vectors_vjp(g.mT, 0, packed.shape[-1] - m - 1))
right_vectors: Op = op(_right_vectors, lambda g, y, packed, m: _svd_vectors_vjp(g, m + 1, 0))
svd_slope: Op = op(_svd_slope,
                   lambda h, out, a, y, g, used: _svd_second(h, a, y, g),
                   lambda h, out, a, y, g, used: _used_column(h, a, y, used),
                   lambda h, out, a, y, g, used: svd_tangent(a, y, h, used))
svd_tangent: Op = op(_svd_tangent,
                   lambda g, out, a, y, h, used: _svd_second(h, a, y, g),
                   lambda g, out, a, y, h, used: _used_column(h, a, y, used),
                   lambda g, out, a, y, h, used: svd_slope(a, y, g, used))
qr_packed     = op(_qr,   lambda g, y, a: _qr_vjp(g, y, a), variable="qr_packed")
# fmt: on
