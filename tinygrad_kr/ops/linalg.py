"""Matrix products and linear algebra; matrices are the last two axes."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.elementwise import (
    absolute,
    times_subgradient,
    undefined,
    where,
)
from tinygrad_kr.ops.indexing import tril, triu
from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.products import MAX_DOT_SIZE, gemm
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
        return a.dot(b) if a.ndim == 2 == b.ndim and b.size < MAX_DOT_SIZE else gemm(a, b)
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
        return (g[..., None, :] @ b.mT)[..., 0, :]
    return g.dot(b.mT) if g.ndim == 2 == b.ndim and b.size < MAX_DOT_SIZE else gemm(g, b.mT)


def _matmul_right(g: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return a * g if b.ndim == 1 else a[:, None] * g[..., None, :]
    if b.ndim == 1:
        return (a.mT @ g[..., None])[..., 0]
    if b.ndim == 2 and a.ndim > 2:
        return gemm(rows_of(a).mT, rows_of(g))
    if type(g) is ndarray and g.ndim == 2 == a.ndim:
        return a.mT.dot(g) if a.size < MAX_DOT_SIZE else gemm(a.mT, g)
    return a.mT @ g  # `a.mT.dot(g)` would not defer to a Tensor `g`


def _linear(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> Any:
    """x W^T + b: features on the last axis of `x`, weight (..., out, in), bias (..., out)."""
    if x.ndim == 2 == weight.ndim and bias is not None and bias.ndim == 1:
        try:
            y: ndarray = x.dot(weight.T) if weight.size < MAX_DOT_SIZE else gemm(x, weight.T)
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


def column_sums(rows: ndarray) -> ndarray:
    """The sums over the first of two axes, as products with ones: five times as fast as `sum`.

    Each product is too small for BLAS to wake its threads, which would spin for milliseconds.
    """
    columns = rows.shape[1]
    sums: ndarray
    if rows.size <= _UNTHREADED:
        sums = ones(len(rows), rows.dtype).dot(rows)
        return sums
    block = _UNTHREADED // columns
    if block < 8:
        sums = np.add.reduce(rows, axis=0)
        return sums
    whole = len(rows) // block * block
    parts = np.matmul(ones(block, rows.dtype), rows[:whole].reshape(-1, block, columns))
    sums = np.add.reduce(parts, axis=0)
    sums += ones(len(rows) - whole, rows.dtype).dot(rows[whole:])
    return sums


def _linear_bias(g: Any, bias: Any) -> Any:
    """Sums of the columns of `g`; as a product with ones, three times as fast as `sum`."""
    if bias.ndim > 1:
        if type(g) is not ndarray or g.shape[-2] > 4096:
            return g.sum(axis=-2)
        return ones(g.shape[-2], g.dtype) @ g
    if type(g) is not ndarray or g.ndim != 2:
        return g
    return ones(len(g), g.dtype).dot(g) if g.size <= _UNTHREADED else column_sums(g)


# fmt: off
matmul = op(_matmul, lambda g, y, a, b: _matmul_left(g, a, b),
                     lambda g, y, a, b: _matmul_right(g, a, b), numpy=[np.matmul], finite=True)
linear = op(_linear, lambda g, y, x, weight, *bias:
                     g.dot(weight) if weight.size < MAX_DOT_SIZE and weight.ndim == 2
                     else gemm(g, weight),
                     lambda g, y, x, weight, *bias:
                     g.mT.dot(x) if x.size < MAX_DOT_SIZE and g.ndim == 2 == weight.ndim
                     else _linear_weight(g, x, weight),
                     lambda g, y, x, weight, bias: _linear_bias(g, bias), finite=True)
# fmt: on

# ------------------------------------------------------------------ einsum


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


def _solve_matrix(g: Any, y: Any, a: Any, b: Any) -> Any:
    z = _solve_transposed(g, a, b)
    if b.ndim == 1:
        return -z[..., :, None] * y[..., None, :]
    return -(z @ y.mT)


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


def _solve_triangle_vjp(g: Any, y: Any, a: Any, b: Any, upper: bool, unit: bool) -> Any:
    offset = int(unit) if upper else -int(unit)
    full = -(solve_triangular(a.mT, g, upper=not upper, unit=unit) @ y.mT)
    return (triu if upper else tril)(full, k=offset)


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


def _cholesky(a: ndarray) -> ndarray:
    """The lower-triangular L with L L^T = (a + a^T) / 2, which must be positive definite."""
    return np.linalg.cholesky((a + a.mT) * 0.5)


def _cholesky_vjp(g: Any, y: Any) -> Any:
    """L^-T phi(L^T g) L^-1, symmetrised; phi is the lower triangle with half its diagonal.

    Source: Murray, Differentiation of the Cholesky decomposition (2016).
    """
    middle = _half_lower(y.mT @ tril(g))
    s = solve(y.mT, solve(y.mT, middle.mT).mT)
    return (s + s.mT) * 0.5


def _half_lower(x: Any) -> Any:
    return tril(x) - x * (np.eye(x.shape[-1], dtype=x.dtype) * 0.5)


# fmt: off
inv       = op(_inv,       lambda g, y, a: -(y.mT @ g @ y.mT))
solve     = op(_solve,     lambda g, y, a, b: _solve_matrix(g, y, a, b),
                           lambda g, y, a, b: _solve_transposed(g, a, b))
pinv      = op(_pinv,      lambda g, y, a, rtol=None, atol=0.0: _pinv_vjp(g, y, a))
solve_triangular: Op = op(_solve_triangular,
               lambda g, y, a, b, upper, unit: _solve_triangle_vjp(g, y, a, b, upper, unit),
               lambda g, y, a, b, upper, unit:
               solve_triangular(a.mT, g, upper=not upper, unit=unit))
lstsq: Op = op(_lstsq,     lambda g, y, a, b, rtol=None: _lstsq_vjp(g, y, a, b, rtol),
                           lambda g, y, a, b, rtol=None: lstsq(a.mT, g, rtol=rtol))
null_projection: Op = op(_null_projection,
               lambda g, y, a, x, rtol=None: _null_projection_vjp(g, y, a, x, rtol),
               lambda g, y, a, x, rtol=None: null_projection(a, g, rtol=rtol))
det       = op(_det,       lambda g, y, a: g[..., None, None] * cofactor(a))
cofactor: Op = op(_cofactor, lambda g, y, *inputs, index: _cofactor_vjp(g, inputs, index),
                  variadic=True)
logabsdet = op(_logabsdet, lambda g, y, a: g[..., None, None] * inv(a).mT)
signdet   = op(_signdet)
cholesky  = op(_cholesky,  lambda g, y, a: _cholesky_vjp(g, y))
# fmt: on

# ------------------------------------------------------------------ decompositions
# An op has one output, so several results are packed into one array. Vectors are taken out by ops
# that mark the cotangent: where values are equal or 0 it matters whether vectors were used at all.


def _eigh(a: ndarray) -> ndarray:
    """Eigenvalues (first row), eigenvectors (columns below) and a row of 0 for the mark.

    They are those of the symmetric (a + a^T) / 2.
    """
    values, vectors = np.linalg.eigh((a + a.mT) * 0.5)
    values = values[..., None, :]
    return np.concatenate([values, vectors, np.zeros_like(values)], axis=-2)


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


def _eigh_vjp(g: Any, y: Any) -> Any:
    """V (diag(gw) + F * V^T gV) V^T, symmetrised; F_ij = 1 / (w_j - w_i).

    NaN where an eigenvector that is used has an eigenvalue close to another. Its cotangent is 0
    there too if it was multiplied by an eigenvalue of 0.
    Source: Giles, Collected matrix derivative results (2008), 3.1.
    """
    values, vectors = y[..., 0, :], eigenvectors(y)
    n = values.shape[-1]
    if not n:
        return vectors
    g_values, g_vectors, used = g[..., 0, None, :], g[..., 1:-1, :], g[..., -1, :] > 0
    pairs = _close(values, n)
    close, zero = pairs.any(axis=-1), absolute(values) <= _largest(values) * _rounding(y, n)
    middle = g_values * _eye(values) + _inverse_gaps(values, pairs) * (vectors.mT @ g_vectors)
    s = vectors @ middle @ vectors.mT
    s = s + _unusable(g_vectors, close, vectors)
    s = s + _unusable(g_values, close & zero & used, vectors)
    return (s + s.mT) * 0.5


def _svd(a: ndarray) -> ndarray:
    """The thin decomposition a = U diag(s) V^T as rows [u_i, s_i, v_i, 0]; 0 is for the mark."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    s = s[..., None]
    return np.concatenate([u.mT, s, vt, np.zeros_like(s)], axis=-1)


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


def _svd_vjp(g: Any, y: Any, a: Any) -> Any:
    """U (L + R + diag(gs)) V^T, with L and R from the cotangents of U and V.

    L_ij = (U^T gU - gU^T U)_ij s_j / (s_j^2 - s_i^2), R likewise with V and s_i. Where a singular
    value is close to another, NaN as in `_eigh_vjp`. One that is 0 has the gradient 0, the least
    subgradient, if no vectors are used. If they are, its derivative is that with their signs.
    Source: Townsend, Differentiating the singular value decomposition (2016).
    """
    m, n = a.shape[-2:]
    u, s, v = left_vectors(y, m=m), y[..., m], right_vectors(y, m=m).mT
    if not s.shape[-1]:
        return u @ v.mT
    gu, gs, gv, used = g[..., :m].mT, g[..., m], g[..., m + 1 : -1].mT, g[..., -1] > 0
    pairs = _close(s, max(m, n))
    close, zero = pairs.any(axis=-1), s <= _largest(s) * _rounding(s, max(m, n))
    alone = zero & (used == 0)
    g_values = times_subgradient(gs, (alone == 0).astype(s.dtype), alone, s)
    left, right = u.mT @ gu, v.mT @ gv
    row, column = s[..., None, :], s[..., :, None]
    both, inverse = row + column, _inverse_gaps(s, pairs)
    both = where(both == 0, 1.0, both)
    middle = (left - left.mT) * (row / both * inverse)  # no squares, which over- and underflow
    middle = middle + (right - right.mT) * (column / both * inverse)
    slope = u @ (middle + g_values[..., None, :] * _eye(s)) @ v.mT
    over = where(zero, 1.0, s)[..., None, :]
    if m > n:
        slope = slope + where(zero[..., None, :], 0.0, (gu - u @ left) / over) @ v.mT
    if n > m:
        slope = slope + u @ where(zero[..., None, :], 0.0, (gv - v @ right) / over).mT
    slope = slope + _unusable(gu, close | zero if m > n else close, a)
    slope = slope + _unusable(gv, close | zero if n > m else close, a)
    outside = zero & used if m != n else zero & used & close
    return slope + _unusable(gs[..., None, :], outside, a)


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
eigh_packed   = op(_eigh, lambda g, y, a: _eigh_vjp(g, y), variable="eigh_packed")
eigenvectors: Op = op(_eigenvectors,  lambda g, y, packed: _eigenvectors_vjp(g))
svd_packed    = op(_svd,  lambda g, y, a: _svd_vjp(g, y, a), variable="svd_packed")
left_vectors: Op = op(_left_vectors,  lambda g, y, packed, m:
                   _svd_vectors_vjp(g.mT, 0, packed.shape[-1] - m - 1))
qr_packed     = op(_qr,   lambda g, y, a: _qr_vjp(g, y, a), variable="qr_packed")
right_vectors: Op = op(_right_vectors, lambda g, y, packed, m: _svd_vectors_vjp(g, m + 1, 0))
# fmt: on
