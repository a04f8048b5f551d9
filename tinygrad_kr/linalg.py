"""Linear algebra on matrices in the last two axes, with batches before them (`tk.linalg`).

Names and results are those of `torch.linalg`. NumPy's own signatures work through NumPy
(`np.linalg.inv(t)`). Everything differentiates to any order, except where its docstring says so.
All have a floating dtype. A problem without a solution raises `np.linalg.LinAlgError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.indexing import peek
from tinygrad_kr.arrays.operands import floating, operands
from tinygrad_kr.arrays.products import cross as cross
from tinygrad_kr.arrays.reduction import euclidean_norm
from tinygrad_kr.arrays.shape import moveaxis
from tinygrad_kr.ops import indexing, linalg
from tinygrad_kr.ops.elementwise import absolute, where
from tinygrad_kr.ops.linalg import det as det
from tinygrad_kr.ops.linalg import inv as inv
from tinygrad_kr.ops.linalg import matmul as matmul
from tinygrad_kr.ops.node import OFF, Node, constant, current_mode

__all__ = [
    "EigenDecomposition",
    "LeastSquares",
    "SignAndLogabsdet",
    "SingularValueDecomposition",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "vecdot",
    "vector_norm",
]


def __dir__() -> list[str]:
    return __all__


# ------------------------------------------------------------------ norms


def norm(
    x: Any,
    ord: Any = None,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
) -> Any:
    """The norm of a vector or a matrix, as `axis` or the number of axes says.

    ord: None is the Euclidean norm of all elements over `axis`. Otherwise `vector_norm` for one
        axis, `matrix_norm` for two.
    axis, keepdims: as in NumPy; `dim` and `keepdim` are other names.

    Kinks: see `vector_norm` and `matrix_norm`. Raises ValueError for an `ord` over more than two
        axes.

    >>> tk.linalg.norm(tk.tensor([[3.0, 4.0]]))
    Tensor(5.)
    """
    x = operands(x)[0]
    axis, keepdims = axis if dim is None else dim, keepdims or keepdim
    if ord is None:
        return vector_norm(x, 2, axis, keepdims)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim, "norm")
    if len(axes) == 1:
        return vector_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        return matrix_norm(x, ord, axes, keepdims)
    raise ValueError(
        f"norm: expected one or two axes with ord={ord!r}, got {len(axes)}. Give axis="
    )


def matrix_norm(
    x: Any,
    ord: Any = "fro",
    axis: Any = (-2, -1),
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
) -> Any:
    """The norm of matrices in two axes.

    ord: "fro" sqrt(sum x^2); "nuc" the sum, 2 the largest and -2 the smallest of the singular
        values; 1 and -1 the largest and smallest column sum of |x|, inf and -inf those of rows.
    axis: the two axes. keepdims: keep them with size 1.

    The gradient is 0 at 0, and along singular values that are 0 (the minimum-norm subgradient).
    Raises ValueError for another `ord` or number of axes.

    >>> tk.linalg.matrix_norm(tk.tensor([[1.0, -2.0], [3.0, 4.0]]), 1)
    Tensor(6.)
    """
    x = floating(operands(x)[0])
    axes = normalize_axis_tuple(axis if dim is None else dim, x.ndim, "matrix_norm")
    if len(axes) != 2:
        raise ValueError(f"matrix_norm: expected two axes, got {axes}.")
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    shape = kept if keepdims or keepdim else tuple(np.delete(x.shape, axes).tolist())
    return _matrix_norm(x, ord, *axes).reshape(shape)


def _matrix_norm(x: Any, ord: Any, row: int, column: int) -> Any:
    if ord == "fro":
        return reduction.euclidean_norm(x, (row, column))
    if ord in ("nuc", 2, -2):
        return _singular_norm(moveaxis(x, (row, column), (-2, -1)), ord)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(
            f'matrix_norm: expected ord "fro", "nuc", 1, -1, 2, -2, inf or -inf, got {ord!r}.'
        )
    summed, compared = (row, column) if abs(ord) == 1 else (column, row)
    sums = reduction.sum(absolute(x), summed, True)
    return (reduction.amax if ord > 0 else reduction.amin)(sums, compared)


def _singular_norm(x: Any, ord: Any) -> Any:
    values = svdvals(x)
    if ord == -2:
        return reduction.amin(values, -1)
    clear = peek(values) > _rounding(x) * np.max(peek(values), -1, keepdims=True, initial=0)
    values = where(clear, values, 0.0)
    return reduction.sum(values, -1) if ord == "nuc" else reduction.amax(values, -1)


def _rounding(x: Any) -> float:
    """The relative size up to which a singular value counts as 0, as in NumPy."""
    return float(max(x.shape[-2:]) * np.finfo(x.dtype).eps)


def cond(x: Any, p: Any = None) -> Any:
    """The condition number: the norm of `x` times that of its inverse.

    It bounds how much solving with `x` magnifies an error.
    p: the norm, as the `ord` of `matrix_norm`. None is 2: largest over smallest singular value.
    x: (..., n, n), or (..., m, n) for p None, 2 or -2. Result: (...).

    >>> tk.linalg.cond(tk.tensor([[2.0, 0.0], [0.0, 1.0]])).item()
    2.0...
    """
    if p in (None, 2, -2):
        values = svdvals(x)
        ratio = values[..., 0] / values[..., -1]
        return ratio if p != -2 else 1 / ratio
    return matrix_norm(x, p) * matrix_norm(inv(x), p)


def matrix_rank(x: Any, tol: Any = None, *, rtol: Any = None) -> Any:
    """The number of singular values larger than `tol`, or than `rtol` times the largest.

    x: (..., m, n). Result: (...), integers, without a gradient. rtol: default max(m, n) eps.

    >>> tk.linalg.matrix_rank(tk.tensor([[1.0, 2.0], [2.0, 4.0]])).item()
    1
    """
    x = operands(x)[0]
    threshold = {"tol": peek(tol)} if rtol is None else {"rtol": peek(rtol)}
    rank = np.asarray(np.linalg.matrix_rank(peek(x), **threshold))
    return constant(rank) if isinstance(x, Node) else rank


# ------------------------------------------------------------------ determinants and solutions


class SignAndLogabsdet(NamedTuple):
    """The result of `slogdet`: det(a) = sign exp(logabsdet).

    >>> sign, logabsdet = tk.linalg.slogdet(tk.tensor([[-1.0, 0.0], [0.0, 1.0]]))
    >>> sign
    Tensor(-1.)
    """

    sign: Any
    logabsdet: Any


def slogdet(a: Any) -> SignAndLogabsdet:
    """The sign and the logarithm of the absolute determinant, which cannot overflow.

    a: (..., n, n). Results: (...). The gradient of logabsdet is a^-T: backward raises LinAlgError
    for a singular `a`.

    >>> tk.linalg.slogdet(tk.tensor([[2.0, 0.0], [0.0, 0.5]])).logabsdet.item()
    0.0
    """
    a = operands(a)[0]
    return SignAndLogabsdet(linalg.signdet(a), linalg.logabsdet(a))


def solve(a: Any, b: Any) -> Any:
    """The x with a x = b.

    a: (..., n, n). b: (n,), one vector, or (..., n, k), columns; batches broadcast. With the shape
    of `a` but for its last axis, `b` is one vector for each matrix.
    Raises LinAlgError for a singular `a`. Source: torch.linalg.solve.

    >>> tk.linalg.solve(tk.tensor([[2.0, 0.0], [0.0, 4.0]]), tk.tensor([2.0, 2.0]))
    Tensor([1. , 0.5])
    """
    a, b = operands(a, b)
    if b.ndim > 1 and b.shape == a.shape[:-1]:
        return linalg.solve(a, b[..., None])[..., 0]
    return linalg.solve(a, b)


def cholesky(a: Any, *, upper: bool = False) -> Any:
    """The lower-triangular L with L L^T = a (or the upper L^T) of symmetric positive definite `a`.

    a: (..., n, n). Its symmetric part (a + a^T) / 2 is read, and the gradient is symmetric.
    Raises LinAlgError where it is not positive definite.

    >>> tk.linalg.cholesky(tk.tensor([[4.0, 0.0], [0.0, 9.0]]))
    Tensor([[2., 0.],
            [0., 3.]])
    """
    lower = linalg.cholesky(operands(a)[0])
    return lower.mT if upper else lower


def pinv(a: Any, rtol: float | None = None) -> Any:
    """The Moore-Penrose inverse: (a^T a)^-1 a^T where the columns are independent.

    a: (..., m, n). Result: (..., n, m).
    rtol: singular values up to `rtol` times the largest count as 0; default max(m, n) eps.

    The derivative is that at constant rank. There is none where a small change of `a` changes the
    rank.
    Source: Golub and Pereyra, The differentiation of pseudo-inverses and nonlinear least squares
    problems (1973).

    >>> tk.linalg.pinv(tk.tensor([[2.0, 0.0], [0.0, 0.0]])).numpy().round(4)
    array([[0.5, 0. ],
           [0. , 0. ]], dtype=float32)
    """
    a = floating(operands(a)[0])
    return linalg.pinv(a, rcond=_rounding(a) if rtol is None else rtol)


class LeastSquares(NamedTuple):
    """The result of `lstsq`: the solution, the residuals, and the rank and singular values of `a`.

    >>> tk.linalg.lstsq(tk.tensor([[2.0]]), tk.tensor([4.0])).rank.item()
    1
    """

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


def lstsq(a: Any, b: Any, rtol: float | None = None) -> LeastSquares:
    """x = pinv(a) b: the shortest x with the least |a x - b|.

    a: (..., m, n). b: (m,), or (..., m, k) with separate columns.
    residuals: sum (a x - b)^2 for each column; empty unless m > n and `a` has full rank, as in
        NumPy.
    rank: without a gradient. rtol: as in `pinv`.

    >>> a, b = tk.tensor([[1.0], [1.0]]), tk.tensor([1.0, 3.0])
    >>> tk.linalg.lstsq(a, b).solution.numpy().round(4)
    array([2.], dtype=float32)
    """
    a, b = operands(a, b)
    columns = b[..., None] if b.ndim == 1 else b
    solution = matmul(pinv(a, rtol), columns)
    values = svdvals(a)
    rank = matrix_rank(a, rtol=rtol)
    rows, unknowns = a.shape[-2:]
    residuals: Any = ((matmul(a, solution) - columns) ** 2).sum(axis=-2)
    if rows <= unknowns or (peek(rank) < unknowns).any():
        residuals = residuals.reshape(-1)[:0]
    return LeastSquares(solution[..., 0] if b.ndim == 1 else solution, residuals, rank, values)


# ------------------------------------------------------------------ products


def matrix_power(a: Any, n: int) -> Any:
    """a a ... a, `n` times; the identity for 0, powers of the inverse for n < 0.

    a: (..., m, m). Raises ValueError for matrices that are not square, LinAlgError for the inverse
    of a singular one.

    >>> tk.linalg.matrix_power(tk.tensor([[1.0, 1.0], [0.0, 1.0]]), 3)
    Tensor([[1., 3.],
            [0., 1.]])
    """
    a = operands(a)[0]
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"matrix_power: expected square matrices, got shape {a.shape}.")
    if n == 0:
        identity = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return constant(identity) if isinstance(a, Node) else identity
    a, n = (inv(a), -n) if n < 0 else (a, n)
    if n == 1:
        return a
    half = matrix_power(a, n // 2)
    square = matmul(half, half)
    return matmul(square, a) if n % 2 else square


def multi_dot(tensors: Sequence[Any]) -> Any:
    """The product of several matrices, in the cheapest order.

    tensors: two or more matrices; the first and the last may be vectors (else ValueError).
    Source: Cormen et al., Introduction to Algorithms, 15.2.

    >>> tk.linalg.multi_dot([tk.ones(2, 100), tk.ones(100, 2), tk.ones(2)])
    Tensor([200., 200.])
    """
    parts = operands(*tensors)
    if len(parts) < 2 or any(part.ndim != 2 for part in parts[1:-1]):
        shapes = [part.shape for part in parts]
        raise ValueError(
            f"multi_dot: expected two matrices or more (vectors at the ends), got {shapes}."
        )
    row, column = parts[0].ndim == 1, parts[-1].ndim == 1
    if row:
        parts[0] = parts[0].reshape(1, -1)
    if column:
        parts[-1] = parts[-1].reshape(-1, 1)
    product = _cheapest(parts)
    if row or column:
        shape = ([] if row else [product.shape[0]]) + ([] if column else [product.shape[1]])
        return product.reshape(tuple(shape))
    return product


def _cheapest(parts: list[Any]) -> Any:
    """The product in the cheapest order, by dynamic programming."""
    count = len(parts)
    sizes = [part.shape[0] for part in parts] + [parts[-1].shape[1]]
    cost = np.zeros((count, count))
    cut = np.zeros((count, count), int)
    for length in range(1, count):
        for first in range(count - length):
            last = first + length
            costs = [
                cost[first, k] + cost[k + 1, last] + sizes[first] * sizes[k + 1] * sizes[last + 1]
                for k in range(first, last)
            ]
            cut[first, last] = first + int(np.argmin(costs))
            cost[first, last] = min(costs)

    def product(first: int, last: int) -> Any:
        if first == last:
            return parts[first]
        k = cut[first, last]
        return matmul(product(first, k), product(k + 1, last))

    return product(0, count - 1)


def vecdot(a: Any, b: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """sum a b over one axis; the others broadcast.

    axis: of both, default the last; `dim` is another name.

    >>> tk.linalg.vecdot(tk.tensor([[1.0, 2.0], [3.0, 4.0]]), tk.tensor([1.0, 1.0]))
    Tensor([3., 7.])
    """
    a, b = operands(a, b)
    return reduction.sum(a * b, axis if dim is None else dim)


def diagonal(a: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonal of matrices, as the last axis.

    offset: above (positive) or below the main diagonal. dim1, dim2: the axes of the matrices.

    >>> tk.linalg.diagonal(tk.tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([1., 4.])
    """
    return indexing.diagonal(operands(a)[0], offset=offset, axis1=dim1, axis2=dim2)


# ------------------------------------------------------------------ decompositions


class EigenDecomposition(NamedTuple):
    """The result of `eigh`: a = V diag(w) V^T, w ascending, the eigenvectors the columns of V.

    >>> values, vectors = tk.linalg.eigh(tk.tensor([[2.0, 0.0], [0.0, 1.0]]))
    >>> values
    Tensor([1., 2.])
    """

    eigenvalues: Any
    eigenvectors: Any


def eigh(a: Any, UPLO: str = "L") -> EigenDecomposition:
    """Eigenvalues and eigenvectors of symmetric matrices.

    a: (..., n, n). Its symmetric part (a + a^T) / 2 is read, so UPLO "L" and "U" give the same. The
    gradient is symmetric.

    An eigenvector has a derivative only if its eigenvalue is unlike all others. Even then only its
    span
    has a meaning: a function of it must not depend on its sign. Between equal eigenvalues the
    derivative is taken as 0.

    Raises ValueError for another UPLO.
    Source: Giles, Collected matrix derivative results for forward and reverse mode (2008), 3.1.

    >>> tk.linalg.eigh(tk.tensor([[3.0, 0.0], [0.0, 1.0]])).eigenvalues
    Tensor([1., 3.])
    """
    if UPLO not in ("L", "U"):
        raise ValueError(f'eigh: expected UPLO "L" or "U", got {UPLO!r}.')
    packed = linalg.eigh_packed(floating(operands(a)[0]))
    return EigenDecomposition(packed[..., 0, :], packed[..., 1:, :])


def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of symmetric matrices, ascending.

    a: (..., n, n). Result: (..., n). Reads `a` as `eigh` does.
    The second derivative exists where no two are equal. A sum over equal ones has all derivatives.

    >>> tk.linalg.eigvalsh(tk.tensor([[3.0, 0.0], [0.0, 1.0]]))
    Tensor([1., 3.])
    """
    return eigh(a, UPLO).eigenvalues


class SingularValueDecomposition(NamedTuple):
    """The result of `svd`: a = U diag(S) Vh, S descending.

    >>> U, S, Vh = tk.linalg.svd(tk.tensor([[2.0, 0.0], [0.0, 3.0]]))
    >>> S
    Tensor([3., 2.])
    """

    U: Any
    S: Any
    Vh: Any


def svd(a: Any, full_matrices: bool = True) -> SingularValueDecomposition:
    """The singular value decomposition of matrices (..., m, n), with k = min(m, n) singular values.

    full_matrices: U (m, m) and Vh (n, n) rather than U (m, k) and Vh (k, n). The further columns
        complete a basis in any way: for m != n a ValueError where gradients are recorded.

    Singular vectors have a derivative only where their singular values are unlike all others and
    (for m != n) not 0. A function of them must not depend on their common sign. Between equal
    singular values the derivative is taken as 0.

    Source: Townsend, Differentiating the singular value decomposition (2016).

    >>> tk.linalg.svd(tk.ones(3, 2), full_matrices=False).U.shape
    (3, 2)
    """
    a = floating(operands(a)[0])
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        return _full_svd(a)
    packed = linalg.svd_packed(a)
    return SingularValueDecomposition(packed[..., :m].mT, packed[..., m], packed[..., m + 1 :])


def _full_svd(a: Any) -> SingularValueDecomposition:
    if isinstance(a, Node) and a._requires_grad and current_mode() != OFF:
        raise ValueError(
            f"svd: expected a square matrix for the derivative of full matrices, got shape "
            f"{a._data.shape}. Pass full_matrices=False"
        )
    parts = np.linalg.svd(peek(a))
    return SingularValueDecomposition(*(map(constant, parts) if isinstance(a, Node) else parts))


def svdvals(a: Any) -> Any:
    """The singular values of matrices, descending.

    a: (..., m, n). Result: (..., min(m, n)).
    The second derivative exists where no two are equal and (for m != n) none is 0.

    >>> tk.linalg.svdvals(tk.tensor([[2.0, 0.0], [0.0, 3.0]]))
    Tensor([3., 2.])
    """
    a = floating(operands(a)[0])
    return linalg.svd_packed(a)[..., a.shape[-2]]


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

    ord: 2 Euclidean, 1 the sum, inf and -inf the largest and smallest of |x|, 0 the number of
        nonzeros.
    axis, keepdims: as in NumPy; `dim` and `keepdim` are other names.

    Kinks get the minimum-norm subgradient: 0 where x is 0. Ties for the largest share the gradient
    evenly. Raises ValueError for an `ord` that is no number.

    >>> tk.linalg.vector_norm(tk.tensor([3.0, -4.0]))
    Tensor(5.)
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
        raise ValueError(f"vector_norm: expected a number as ord, got {ord!r}.")
    zero = x == 0
    powers = where(zero, 0.0 if ord > 0 else math.inf, where(zero, 1.0, absolute(x)) ** ord)
    total = reduction.sum(powers, axis, keepdims)
    return where(total == 0, 0.0, where(total == 0, 1.0, total) ** (1 / ord))


def p_norm(
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
    axis, keepdims: as in NumPy; `dim` and `keepdim` are other names.

    >>> tk.norm(tk.tensor([[3.0, -4.0]]), 1)
    Tensor(7.)
    """
    axis, keepdims = axis if dim is None else dim, keepdims or keepdim
    if p == "nuc":
        return matrix_norm(x, "nuc", (-2, -1) if axis is None else axis, keepdims)
    return vector_norm(x, 2 if p in ("fro", None) else p, axis, keepdims)
