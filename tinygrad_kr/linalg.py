"""Linear algebra on matrices in the last two axes, with batches before them (`tk.linalg`).

Names and results are those of `torch.linalg`. NumPy's own signatures work through NumPy
(`np.linalg.inv(t)`). Everything differentiates to any order, except where its docstring says so.
All have a floating dtype. A problem without a solution raises `np.linalg.LinAlgError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_kr.arrays import joining, reduction
from tinygrad_kr.arrays.indexing import peek
from tinygrad_kr.arrays.operands import either_name, floating, operands
from tinygrad_kr.arrays.products import cross as cross
from tinygrad_kr.arrays.reduction import euclidean_norm
from tinygrad_kr.arrays.shape import moveaxis
from tinygrad_kr.ops import indexing, linalg
from tinygrad_kr.ops.axes import axis_index, axis_indices
from tinygrad_kr.ops.elementwise import absolute, kink
from tinygrad_kr.ops.linalg import det as det
from tinygrad_kr.ops.linalg import inv as inv
from tinygrad_kr.ops.linalg import matmul as matmul
from tinygrad_kr.ops.node import OFF, Node, constant, current_mode

__all__ = [
    "EigenDecomposition",
    "LeastSquares",
    "QRDecomposition",
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
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vecdot",
    "vector_norm",
]


def __dir__() -> list[str]:
    return __all__


# ------------------------------------------------------------------ norms


@either_name
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
    if ord is None:
        return _vector_norm("norm", x, 2, axis, keepdims)
    if axis in (0, -1) and not x.ndim:
        return _vector_norm("norm", x, ord, axis, False)
    axes = axis_indices(range(x.ndim) if axis is None else axis, x.ndim, "norm")
    if len(axes) == 1:
        return _vector_norm("norm", x, ord, axes[0], keepdims)
    if len(axes) == 2:
        return _matrix_norm("norm", floating(x), ord, axes, keepdims)
    raise ValueError(
        f"norm: expected one or two axes with ord={ord!r}, got {len(axes)}. Give axis="
    )


@either_name
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

    The gradient is 0 at 0, and along singular values that are 0 (the minimum-norm subgradient). The
    second derivative is NaN there, and with "nuc", 2 and -2 where singular values are equal.
    Raises ValueError for another `ord` or number of axes.

    >>> tk.linalg.matrix_norm(tk.tensor([[1.0, -2.0], [3.0, 4.0]]), 1)
    Tensor(6.)
    """
    x = floating(operands(x)[0])
    return _matrix_norm("matrix_norm", x, ord, axis, keepdims)


def _matrix_norm(name: str, x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    axes = axis_indices(axis, x.ndim, name)
    if len(axes) != 2:
        raise ValueError(f"{name}: expected two axes, got {axes}.")
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(np.delete(x.shape, axes).tolist())
    return _norm_of_matrices(name, x, ord, *axes).reshape(shape)


def _norm_of_matrices(name: str, x: Any, ord: Any, row: int, column: int) -> Any:
    if ord == "fro":
        return reduction.euclidean_norm(x, (row, column))
    if ord in ("nuc", 2, -2):
        return _singular_norm(moveaxis(x, (row, column), (-2, -1)), ord)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(
            f'{name}: expected ord "fro", "nuc", 1, -1, 2, -2, inf or -inf, got {ord!r}.'
        )
    summed, compared = (row, column) if abs(ord) == 1 else (column, row)
    sums = reduction.sum(absolute(x), summed, True)
    return (reduction.amax if ord > 0 else reduction.amin)(sums, compared)


def _singular_norm(x: Any, ord: Any) -> Any:
    values = svdvals(x)
    if ord == "nuc":
        return reduction.sum(values, -1)
    return (reduction.amax if ord == 2 else reduction.amin)(values, -1)


def _demand_square(name: str, a: Any) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"{name}: expected square matrices, got shape {a.shape}.")


def _rounding(x: Any) -> float:
    """The relative size up to which a singular value counts as 0, as in NumPy."""
    return float(max(x.shape[-2:]) * np.finfo(x.dtype).eps)


def cond(x: Any, p: Any = None) -> Any:
    """The condition number: the norm of `x` times that of its inverse.

    It bounds how much solving with `x` magnifies an error.
    p: the norm, as the `ord` of `matrix_norm`. None is 2: largest over smallest singular value.
    x: (..., n, n), or (..., m, n) for p None, 2 or -2. Result: (...).
    The gradient is NaN where `x` is singular.

    >>> tk.linalg.cond(tk.tensor([[2.0, 0.0], [0.0, 1.0]])).item()
    2.0...
    """
    x = floating(operands(x)[0])
    if p in (None, 2, -2):
        values = svdvals(x)
        least = values[..., -1]
        singular = least <= _rounding(x) * values[..., 0]
        ratio = values[..., 0] / (least + kink(least, singular))
        return ratio if p != -2 else 1 / ratio
    x = floating(operands(x)[0])
    _demand_square("cond", x)
    size, size_of_inverse = (_matrix_norm("cond", m, p, (-2, -1), False) for m in (x, inv(x)))
    return size * size_of_inverse


def matrix_rank(
    x: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Any:
    """The number of singular values above `atol` and above `rtol` times the largest.

    x: (..., m, n). Result: (...), integers, without a gradient.
    atol, rtol: numbers, or (...). rtol: default max(m, n) eps, but 0 where `atol` is positive.
        `tol` is NumPy's name for `atol`.
    hermitian: read (x + x^T) / 2, as `eigh` does.

    >>> tk.linalg.matrix_rank(tk.tensor([[1.0, 2.0], [2.0, 4.0]])).item()
    1
    """
    x = operands(x)[0]
    values = np.asarray(peek(floating(_symmetric_part(x, "matrix_rank") if hermitian else x)))
    s = np.linalg.svd(values, compute_uv=False)
    atol, rtol = _tolerances(values, tol if atol is None else atol, rtol)
    rank = np.asarray(linalg.above(s, values, rtol, atol).sum(axis=-1))
    return constant(rank) if isinstance(x, Node) else rank


def _tolerances(x: Any, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """atol and rtol, with PyTorch's defaults."""
    atol, rtol = 0.0 if atol is None else peek(atol), peek(rtol)
    if rtol is None:
        rtol = np.where(np.asarray(atol) > 0, 0.0, _rounding(x))[()]
    return atol, rtol


def _symmetric_part(x: Any, name: str) -> Any:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name}: expected square matrices with hermitian=True, got {x.shape}.")
    return (x + x.mT) * 0.5


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

    a: (..., n, n). Results: (...). The gradient of logabsdet is a^-T = cofactor(a) / det(a): for
    a singular `a` infinite, or NaN for cofactors of 0.

    >>> tk.linalg.slogdet(tk.tensor([[2.0, 0.0], [0.0, 0.5]])).logabsdet.item()
    0.0
    """
    a = operands(a)[0]
    _demand_square("slogdet", a)
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


def solve_triangular(
    a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """The x with a x = b for a triangular `a`, by substitution.

    a: (..., n, n). Only its upper triangle is read, or its lower one if `upper` is False.
    b: (..., n, k), columns; batches broadcast.
    left: False solves x a = b, with `b` (..., k, n).
    unitriangular: take the diagonal of `a` as 1, without reading it.

    The gradient of `a` has the same triangle.
    Raises LinAlgError where a diagonal element is 0. Source: torch.linalg.solve_triangular.

    >>> a, b = tk.tensor([[2.0, 9.0], [1.0, 4.0]]), tk.tensor([[2.0], [5.0]])
    >>> tk.linalg.solve_triangular(a, b, upper=False)
    Tensor([[1.],
            [1.]])
    """
    a, b = map(floating, operands(a, b))
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(
            f"solve_triangular: expected square matrices and matrices of columns, got {a.shape} "
            f"and {b.shape}. Give one vector as b[:, None]"
        )
    if left:
        return linalg.solve_triangular(a, b, upper=upper, unit=unitriangular)
    return linalg.solve_triangular(a.mT, b.mT, upper=not upper, unit=unitriangular).mT


def pinv(
    a: Any, rtol: Any = None, hermitian: bool = False, *, atol: Any = None, rcond: Any = None
) -> Any:
    """The Moore-Penrose inverse: (a^T a)^-1 a^T where the columns are independent.

    a: (..., m, n). Result: (..., n, m).
    atol, rtol: singular values up to `atol`, or up to `rtol` times the largest, count as 0. rtol:
        default max(m, n) eps, but 0 where `atol` is positive. `rcond` is another name.
    hermitian: read (a + a^T) / 2, as `eigh` does.

    The derivative is that at constant rank. There is none where a small change of `a` changes the
    rank.
    Source: Golub and Pereyra, The differentiation of pseudo-inverses and nonlinear least squares
    problems (1973).

    >>> tk.linalg.pinv(tk.tensor([[2.0, 0.0], [0.0, 0.0]])).numpy().round(4)
    array([[0.5, 0. ],
           [0. , 0. ]], dtype=float32)
    """
    a = floating(operands(a)[0])
    a = _symmetric_part(a, "pinv") if hermitian else a
    atol, rtol = _tolerances(a, atol, rcond if rtol is None else rtol)
    return linalg.pinv(a, rtol=rtol, atol=atol)


class LeastSquares(NamedTuple):
    """The result of `lstsq`: the solution, the residuals, and the rank and singular values of `a`.

    >>> tk.linalg.lstsq(tk.tensor([[2.0]]), tk.tensor([4.0])).rank.item()
    1
    """

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


def lstsq(
    a: Any,
    b: Any,
    rcond: float | None = None,
    *,
    driver: str | None = None,
    rtol: float | None = None,
) -> LeastSquares:
    """The shortest x with the least |a x - b|, as accurate as NumPy's.

    a: (..., m, n). b: (m,), or (..., m, k) with separate columns; batches broadcast.
    rcond: singular values up to `rcond` times the largest count as 0; default max(m, n) eps. `rtol`
        is another name.
    driver: "gels", "gelsy", "gelsd" or "gelss", as in PyTorch; LAPACK's gelsd computes all of them.

    residuals: sum (a x - b)^2 for each column; empty unless m > n and `a` has full rank, as in
        NumPy, and with "gelsy".
    rank: without a gradient; empty with "gels".
    singular_values: of `a`; empty with "gels" and "gelsy", as in PyTorch.

    The derivative is that at constant rank. Raises ValueError for another driver.
    Source: torch.linalg.lstsq; Golub and Pereyra, The differentiation of pseudo-inverses (1973).

    >>> a, b = tk.tensor([[1.0], [1.0]]), tk.tensor([1.0, 3.0])
    >>> tk.linalg.lstsq(a, b).solution.numpy().round(4)
    array([2.], dtype=float32)
    """
    _check_driver("lstsq", driver, ("gels", "gelsy", "gelsd", "gelss"))
    rtol = rcond if rtol is None else rtol
    a, b = map(floating, operands(a, b))
    columns = b[..., None] if b.ndim == 1 else b
    solution = linalg.lstsq(a, columns, rtol=rtol)
    values = svdvals(a)
    rank = matrix_rank(a, rtol=rtol)
    rows, unknowns = a.shape[-2:]
    residuals: Any = ((matmul(a, solution) - columns) ** 2).sum(axis=-2)
    if driver == "gelsy" or rows <= unknowns or (peek(rank) < unknowns).any():
        residuals = residuals.reshape(-1)[:0]
    if driver in ("gels", "gelsy"):
        values = values.reshape(-1)[:0]
    if driver == "gels":
        rank = rank.reshape(-1)[:0]
    return LeastSquares(solution[..., 0] if b.ndim == 1 else solution, residuals, rank, values)


def _check_driver(name: str, driver: str | None, known: tuple[str, ...]) -> None:
    if driver is not None and driver not in known:
        raise ValueError(f"{name}: expected a driver among {', '.join(known)}, got {driver!r}.")


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
    _demand_square("matrix_power", a)
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


@either_name
def vecdot(a: Any, b: Any, axis: int = -1, *, dim: int | None = None) -> Any:
    """sum a b over one axis; the others broadcast.

    axis: of both, default the last; `dim` is another name.

    >>> tk.linalg.vecdot(tk.tensor([[1.0, 2.0], [3.0, 4.0]]), tk.tensor([1.0, 1.0]))
    Tensor([3., 7.])
    """
    a, b = operands(a, b)
    product = a * b
    if product.ndim:
        axis = axis_index(axis, product.ndim, "vecdot")
    return reduction.sum(product, axis)


@either_name
def diagonal(
    a: Any,
    offset: int = 0,
    dim1: int = -2,
    dim2: int = -1,
    *,
    axis1: int | None = None,
    axis2: int | None = None,
) -> Any:
    """The diagonal of matrices, as the last axis.

    offset: above (positive) or below the main diagonal. dim1, dim2: the axes of the matrices;
        axis1 and axis2 are NumPy's names.

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
    span has a meaning: a function of it must not depend on its sign. Eigenvalues w count as equal
    if they differ by less than 8 n eps max|w|. The gradient is NaN where one of their vectors is
    used, and where vectors are used and one of these eigenvalues is. All others have derivatives
    of the first two orders. Recorded, vectors of equal eigenvalues are turned in their span.

    Raises ValueError for another UPLO.
    Source: Giles, Collected matrix derivative results for forward and reverse mode (2008), 3.1.

    >>> tk.linalg.eigh(tk.tensor([[3.0, 0.0], [0.0, 1.0]])).eigenvalues
    Tensor([1., 3.])
    """
    _check_triangle("eigh", UPLO)
    a = floating(operands(a)[0])
    packed = linalg.eigh_packed(a, generic=_is_recorded(a))
    return EigenDecomposition(packed[..., 0, :], linalg.eigenvectors(packed))


def _check_triangle(name: str, triangle: str) -> None:
    if triangle not in ("L", "U"):
        raise ValueError(f'{name}: expected UPLO "L" or "U", got {triangle!r}.')


def _is_recorded(a: Any) -> bool:
    return isinstance(a, Node) and a._requires_grad and current_mode() != OFF


def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of symmetric matrices, ascending.

    a: (..., n, n). Result: (..., n). Reads `a` as `eigh` does.
    The gradient is V diag(g) V^T. The second derivative of those that are equal is NaN, see `eigh`.

    >>> tk.linalg.eigvalsh(tk.tensor([[3.0, 0.0], [0.0, 1.0]]))
    Tensor([1., 3.])
    """
    a = operands(a)[0]
    _demand_square("eigvalsh", a)
    _check_triangle("eigvalsh", UPLO)
    return linalg.eigh_packed(floating(a))[..., 0, :]


class SingularValueDecomposition(NamedTuple):
    """The result of `svd`: a = U diag(S) Vh, S descending.

    >>> U, S, Vh = tk.linalg.svd(tk.tensor([[2.0, 0.0], [0.0, 3.0]]))
    >>> S
    Tensor([3., 2.])
    """

    U: Any
    S: Any
    Vh: Any


def svd(
    a: Any, full_matrices: bool = True, *, driver: str | None = None
) -> SingularValueDecomposition:
    """The singular value decomposition of matrices (..., m, n), with k = min(m, n) singular values.

    full_matrices: U (m, m) and Vh (n, n) rather than U (m, k) and Vh (k, n). The further columns
        complete a basis in any way: for m != n a ValueError where gradients are recorded.
    driver: "gesvd", "gesvdj" or "gesvda", as in PyTorch; LAPACK's gesdd computes all of them.

    Singular vectors have a derivative only where their singular values are unlike all others and
    (for m != n) not 0. A function of them must not depend on their common sign. The gradient is NaN
    where others are used. Singular values s count as equal if they differ by less than
    8 max(m, n) eps max(s), and as 0 up to max(m, n) eps max(s).
    If S alone is used, its gradient is that of `svdvals`.

    Source: Townsend, Differentiating the singular value decomposition (2016).

    >>> tk.linalg.svd(tk.ones(3, 2), full_matrices=False).U.shape
    (3, 2)
    """
    _check_driver("svd", driver, _SVD_DRIVERS)
    a = floating(operands(a)[0])
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        parts = _complete("svd", "full_matrices=False", np.linalg.svd, a)
        return SingularValueDecomposition(*parts)
    packed = linalg.svd_packed(a, generic=_is_recorded(a))
    return SingularValueDecomposition(
        linalg.left_vectors(packed, m=m), packed[..., m], linalg.right_vectors(packed, m=m)
    )


_SVD_DRIVERS = ("gesvd", "gesvdj", "gesvda")


def _complete(name: str, fix: str, decompose: Any, a: Any) -> list[Any]:
    """Factors with further columns that complete a basis in any way: without a derivative."""
    if _is_recorded(a):
        raise ValueError(
            f"{name}: expected a square matrix for the derivative of full matrices, got shape "
            f"{a._data.shape}. Pass {fix}"
        )
    parts = decompose(peek(a))
    return [constant(x) for x in parts] if isinstance(a, Node) else list(parts)


def svdvals(a: Any, *, driver: str | None = None) -> Any:
    """The singular values of matrices, descending.

    a: (..., m, n). Result: (..., min(m, n)). driver: as in `svd`.
    The gradient of one that is 0 is 0, the least subgradient. The second derivative is NaN for
    those that are equal, and where one is 0.

    >>> tk.linalg.svdvals(tk.tensor([[2.0, 0.0], [0.0, 3.0]]))
    Tensor([3., 2.])
    """
    _check_driver("svdvals", driver, _SVD_DRIVERS)
    a = floating(operands(a)[0])
    return linalg.svd_packed(a)[..., a.shape[-2]]


class QRDecomposition(NamedTuple):
    """The result of `qr`: a = Q R, the columns of Q orthonormal and R upper triangular.

    >>> Q, R = tk.linalg.qr(tk.tensor([[2.0, 0.0], [0.0, 3.0]]))
    >>> abs(R)
    Tensor([[2., 0.],
            [0., 3.]])
    """

    Q: Any
    R: Any


def qr(a: Any, mode: str = "reduced") -> QRDecomposition:
    """The QR decomposition of matrices (..., m, n), with k = min(m, n).

    mode: "reduced" gives Q (..., m, k) and R (..., k, n). "complete" gives Q (..., m, m) and R
        (..., m, n). "r" gives an empty Q and the R of "reduced".

    The gradient is NaN where the first k columns are dependent. "complete" has none for m > n, as
    further columns complete a basis in any way: a ValueError where gradients are recorded.
    Raises ValueError for another mode.
    Source: torch.linalg.qr; Seeger et al., Auto-differentiating linear algebra (2017).

    >>> tk.linalg.qr(tk.ones(3, 2)).Q.shape
    (3, 2)
    """
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f'qr: expected mode "reduced", "complete" or "r", got {mode!r}.')
    a = floating(operands(a)[0])
    m, n = a.shape[-2:]
    if mode == "complete" and m > n:
        complete = partial(np.linalg.qr, mode="complete")
        return QRDecomposition(*_complete("qr", 'mode="reduced"', complete, a))
    packed = linalg.qr_packed(a[..., :m])
    q, r = packed[..., :m, :], packed[..., m:, :]
    if n > m:
        r = joining.concatenate([r, matmul(q.mT, a[..., m:])], -1)
    return QRDecomposition(q.reshape(-1)[:0] if mode == "r" else q, r)


@either_name
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
    evenly. Where the norm is 0, its second derivative is NaN (but 0 for 1 and inf). Nothing over-
    or underflows on the way. Raises ValueError for an `ord` that is no number.

    >>> tk.linalg.vector_norm(tk.tensor([3.0, -4.0]))
    Tensor(5.)
    """
    return _vector_norm("vector_norm", x, ord, axis, keepdims)


def _vector_norm(name: str, x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    x = floating(operands(x)[0])
    if axis is not None and x.ndim:
        axis = axis_indices(axis, x.ndim, name)
    if ord == 2:
        return euclidean_norm(x, axis, keepdims)
    if ord == 1:
        return reduction.sum(absolute(x), axis, keepdims)
    if ord == 0:
        return reduction.count_nonzero(x, axis, keepdims).astype(x.dtype)
    if ord in (math.inf, -math.inf):
        return (reduction.amax if ord > 0 else reduction.amin)(absolute(x), axis, keepdims)
    if not isinstance(ord, int | float | np.number):
        raise ValueError(f"{name}: expected a number as ord, got {ord!r}.")
    return reduction.power_norm(x, ord, axis, keepdims)


@either_name
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
    if p == "nuc":
        x = floating(operands(x)[0])
        return _matrix_norm("norm", x, "nuc", (-2, -1) if axis is None else axis, keepdims)
    return _vector_norm("norm", x, 2 if p in ("fro", None) else p, axis, keepdims)


def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str | None = None) -> Any:
    """The distance of each row of `x1` from each row of `x2`: |x1[..., i, :] - x2[..., j, :]|_p.

    x1: (..., M, K). x2: (..., N, K). Axes before the last two broadcast. Result: (..., M, N).
    p: of the norm, at least 0: see `vector_norm`.
    compute_mode: for PyTorch's sake. The norms are always those of the differences, so that near
        rows are as accurate as far ones; these take memory for M N K numbers.
    Gradient: that of the norm of the difference, 0 where the distance is 0.
    Raises ValueError for less than two axes, other sizes of rows, or a negative p.
    Source: torch.cdist.

    >>> tk.cdist(tk.tensor([[0.0, 0.0]]), tk.tensor([[3.0, 4.0], [0.0, 1.0]]))
    Tensor([[5., 1.]])
    """
    x1, x2 = (floating(x) for x in operands(x1, x2))
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1] or p < 0:
        raise ValueError(
            f"cdist: expected rows of one size and p of at least 0, got {x1.shape}, {x2.shape} and "
            f"p={p}."
        )
    apart = x1[..., :, None, :] - x2[..., None, :, :]
    return vector_norm(apart, p, -1) if apart.shape[-1] else reduction.sum(apart, -1)
