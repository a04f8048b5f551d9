"""The error function of arrays, which NumPy lacks. `native/include/mathematics.h` has it in C.

In blocks that stay in the cache. Largest error found, in units in the last place: float32 1.3,
float64 1.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

_BLOCK = 16384
"""Elements of a block: its six arrays of float32 fit into a cache of 512 KiB."""
_MIN_SIZE = 400
"""Threshold: below it one call of `math.erf` per element is faster."""


def _constants(numbers: Sequence[float], dtype: Any) -> list[ndarray]:
    """0-d arrays: a ufunc takes them faster than Python's floats."""
    return [np.array(number, dtype) for number in numbers]


def _hex(numbers: str) -> list[ndarray]:
    return _constants(list(map(float.fromhex, numbers.split())), np.float32)


# As tk_erff: erf(a) = a + a P(a^2) for a < 1, else 1 - exp(-a Q(a)).
_P = _hex(
    "0x1.496a44p-14 -0x1.a3f708p-11 0x1.5405b2p-8 -0x1.b7f90ep-6 0x1.ce2cf8p-4 -0x1.81273ep-2 "
    "0x1.06eba8p-3"
)
_Q = _hex("-0x1.b9d8bcp-13 0x1.a1c54ep-9 -0x1.758d2ap-6 0x1.ae907ep-4 0x1.458b7cp-1 0x1.20e41ap+0")
# For a < 0.84375 a + a R(a^2) / S(a^2): Sun Microsystems, fdlibm, s_erf.c (1993).
_R = (
    -2.37630166566501626084e-05, -5.77027029648944159157e-03, -2.84817495755985104766e-02,
    -3.25042107247001499370e-01, 1.28379167095512558561e-01,
)  # fmt: skip
_S = (
    -3.96022827877536812320e-06, 1.32494738004321644526e-04, 5.08130628187576562776e-03,
    6.50222499887672944485e-02, 3.97917223959155352819e-01, 1.0,
)  # fmt: skip
# Else 1 - exp(-a^2) C(a) / D(a): W. J. Cody, Rational Chebyshev approximations for the error
# function, Mathematics of Computation 23 (1969), with the coefficients of his CALERF (netlib).
_C = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)  # fmt: skip
_D = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
    1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
    1.23033935480374942e3,
)  # fmt: skip
_NUMERATOR, _DIVISOR, _FAR_NUMERATOR, _FAR_DIVISOR = (
    _constants(numbers, np.float64) for numbers in (_R, _S, _C, _D)
)


def erf(x: Any) -> ndarray:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x; integers give float64."""
    x = np.asarray(x)
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    if x.size < _MIN_SIZE:
        return np.fromiter(map(math.erf, x.ravel().tolist()), dtype, x.size).reshape(x.shape)
    return _in_blocks(x.astype(np.float32 if dtype.itemsize <= 4 else np.float64)).astype(
        dtype, copy=False
    )


@np.errstate(all="ignore")
def _in_blocks(x: ndarray) -> ndarray:
    flat, y = x.ravel(), np.empty(x.shape, x.dtype)
    out = y.ravel()
    compute, bits = (_of_floats, np.int32) if x.dtype == np.float32 else (_of_doubles, np.int64)
    scratch = np.empty((5, min(_BLOCK, x.size)), x.dtype)
    for start in range(0, x.size, _BLOCK):
        given, found = flat[start : start + _BLOCK], out[start : start + _BLOCK]
        compute(given, found, *scratch[:, : len(given)])
        np.bitwise_and(given.view(bits), _SIGN[bits], out=scratch[0, : len(given)].view(bits))
        np.bitwise_or(found.view(bits), scratch[0, : len(given)].view(bits), out=found.view(bits))
    return y


_SIGN: dict[Any, ndarray] = {kind: np.array(np.iinfo(kind).min) for kind in (np.int32, np.int64)}


def _horner(coefficients: Sequence[ndarray], x: ndarray, out: ndarray) -> None:
    """The polynomial with these coefficients, that of the highest power first."""
    np.multiply(x, coefficients[0], out)
    for coefficient in coefficients[1:-1]:
        np.add(out, coefficient, out)
        np.multiply(out, x, out)
    np.add(out, coefficients[-1], out)


def _select(near: ndarray, found: ndarray, a: ndarray, limit: Any, bits: Any) -> None:
    """`near` into `found` where 0 <= a < limit, by bits: `np.where` mispredicts branches."""
    mask, near_bits, found_bits = a.view(bits), near.view(bits), found.view(bits)
    np.subtract(mask, np.asarray(limit, a.dtype).view(bits), mask)
    np.right_shift(mask, np.array(8 * a.itemsize - 1, bits), mask)
    np.bitwise_xor(near_bits, found_bits, near_bits)
    np.bitwise_and(near_bits, mask, near_bits)
    np.bitwise_xor(found_bits, near_bits, found_bits)


_ONE, _LIMIT = _constants((1.0, 3.95), np.float32)


def _of_floats(
    x: ndarray, out: ndarray, a: ndarray, z: ndarray, p: ndarray, q: ndarray, _: ndarray
) -> None:
    np.absolute(x, a)
    np.multiply(a, a, z)
    _horner(_P, z, p)
    np.multiply(p, a, p)
    np.add(p, a, p)
    np.minimum(a, _LIMIT, out=z)
    _horner(_Q, z, q)
    np.multiply(q, z, q)
    np.negative(q, q)
    np.exp(q, q)
    np.subtract(_ONE, q, out)
    _select(p, out, a, 1.0, np.int32)


def _of_doubles(
    x: ndarray, out: ndarray, a: ndarray, z: ndarray, p: ndarray, q: ndarray, r: ndarray
) -> None:
    np.absolute(x, a)
    np.minimum(a, 6.0, out=a)
    _horner(_FAR_NUMERATOR, a, p)
    _horner(_FAR_DIVISOR, a, q)
    np.divide(p, q, p)
    np.multiply(a, a, z)
    np.negative(z, q)
    np.exp(q, q)
    np.multiply(p, q, p)
    np.subtract(1.0, p, out)
    _horner(_NUMERATOR, z, p)
    _horner(_DIVISOR, z, r)
    np.divide(p, r, p)
    np.multiply(p, a, p)
    np.add(p, a, p)
    _select(p, out, a, 0.84375, np.int64)
