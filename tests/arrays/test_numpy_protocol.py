"""NumPy's functions on Tensors: each function that HIPS autograd differentiates or calls constant.

The names are written out, so that this runs without autograd; `test_parity_numpy.py` compares them
with autograd's own tables where it is installed.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.numpy_protocol
from tinygrad_kr import Tensor
from tinygrad_kr.ops.op import numpy_table
from tinygrad_kr.testing import check_grads

SINCE_2_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"
"""That NumPy has what came after 2.0, the oldest."""
RANDOM = np.random.default_rng(7)
Case = tuple[Callable[..., Any], tuple[Any, ...]]


def words(text: str) -> list[str]:
    return text.split()


def apart(*sizes: int) -> ndarray:
    """Elements at least 0.1 apart and from 0: no ties or kinks within reach of a difference."""
    return (RANDOM.permutation(int(np.prod(sizes))) * 0.1 - 0.43).reshape(sizes)


def inside(*sizes: int) -> ndarray:
    """In (-0.9, 0.9), away from 0."""
    return np.asarray(RANDOM.uniform(0.1, 0.9, sizes) * RANDOM.choice([-1, 1], sizes))


def positive(*sizes: int) -> ndarray:
    return np.asarray(RANDOM.uniform(0.5, 2.0, sizes))


def regular(*sizes: int) -> ndarray:
    """Square matrices that are well invertible."""
    return np.asarray(RANDOM.normal(size=sizes) + 3 * np.eye(sizes[-1]))


def definite(*sizes: int) -> ndarray:
    """Symmetric positive definite matrices with eigenvalues apart."""
    x = RANDOM.normal(size=sizes)
    return np.asarray(x @ x.swapaxes(-1, -2) + np.diag(np.arange(1, sizes[-1] + 1)))


def unary(name: str, values: Callable[..., ndarray]) -> list[Case]:
    function = getattr(np, name)
    return [(function, (values(2, 3),)), (function, (values(),))]


def binary(name: str) -> list[Case]:
    function = getattr(np, name)
    return [
        (function, (positive(2, 3), positive(3))),
        (lambda a: function(a, 0.7), (positive(2, 1, 2),)),
        (lambda b: function([1.5, 2.5], b), (positive(2, 2),)),
    ]


A23, A33, A234, V3, V4 = apart(2, 3), apart(3, 3), apart(2, 3, 4), apart(3), apart(4)

WITH_NAN = np.where(A23 > 0.03, np.nan, A23)
KNOTS = [0.0, 0.5, 2.0]

DIFFERENTIABLE: dict[str, list[Case]] = {
    **{
        name: binary(name)
        for name in words(
            "add multiply subtract divide true_divide maximum minimum fmax fmin logaddexp "
            "logaddexp2 mod remainder fmod power arctan2 hypot copysign heaviside"
        )
    },
    **{
        name: unary(name, apart)
        for name in words(
            "negative abs absolute fabs exp exp2 expm1 sin cos arctan sinh cosh tanh arcsinh "
            "rad2deg degrees deg2rad radians square sinc real real_if_close conj conjugate"
        )
    },
    **{name: unary(name, positive) for name in words("reciprocal log log2 log10 log1p sqrt")},
    **{name: unary(name, inside) for name in words("tan arcsin arccos arctanh")},
    "arccosh": [(np.arccosh, (positive(2, 3) + 1,))],
    "nan_to_num": [(np.nan_to_num, (A23,)), (lambda a: np.nan_to_num(a / 0.1, nan=1.0), (A23,))],
    "clip": [
        (lambda a: np.clip(a, -0.2, 0.3), (A23 * 3 + 0.01,)),
        (lambda a, b: np.clip(a, b, 5.0), (A23, V3 * 3)),
        (lambda a: np.clip(a, a_min=0.02, a_max=None), (A23,)),
        *SINCE_2_1 * [(lambda a: np.clip(a, min=-0.2, max=0.31), (A23,))],
    ],
    "where": [
        (lambda a, b: np.where(np.array([True, False, True]), a, b), (A23, V3)),
        (lambda a: np.where(a > 0.05, a, 2.0 * a), (A23,)),
        (lambda a: np.where(a > 0.05, 0.0, a), (A23,)),
    ],
    "select": [
        (lambda a: np.select([a > 0.3, a > 0], [a**2, a**3], -a), (A33,)),
        (lambda a, b: np.select([np.array([True, False, True])], [a], b), (V3, A23)),
    ],
    "full_like": [(lambda a: np.full_like(a, a[0], shape=(2, 2, 3)), (A23,))],
    # shape
    "reshape": [
        (lambda a: np.reshape(a, (3, 2)), (A23,)),
        (lambda a: np.reshape(a, -1, order="F"), (A23,)),
        *SINCE_2_1 * [(lambda a: np.reshape(a, shape=(4, -1), order="F"), (A234,))],
    ],
    "ravel": [(np.ravel, (A23,)), (lambda a: np.ravel(a, order="F"), (A234,))],
    "expand_dims": [
        (lambda a: np.expand_dims(a, (0, 2)), (A23,)),
        (lambda a: np.expand_dims(a, -1), (V3,)),
    ],
    "squeeze": [
        (np.squeeze, (apart(1, 3, 1),)),
        (lambda a: np.squeeze(a, axis=0), (apart(1, 3, 1),)),
    ],
    "transpose": [
        (np.transpose, (A234,)),
        (lambda a: np.transpose(a, (2, 0, 1)), (A234,)),
        (lambda a: np.transpose(a, axes=[1, 0]), (A23,)),
    ],
    "swapaxes": [(lambda a: np.swapaxes(a, 0, -1), (A234,))],
    "moveaxis": [
        (lambda a: np.moveaxis(a, 0, -1), (A234,)),
        (lambda a: np.moveaxis(a, [0, 1], [2, 0]), (A234,)),
    ],
    "rollaxis": [
        (lambda a: np.rollaxis(a, 2), (A234,)),
        (lambda a: np.rollaxis(a, 0, 3), (A234,)),
        (lambda a: np.rollaxis(a, -1, 1), (A234,)),
        (lambda a: np.rollaxis(a, 1, -1), (A234,)),
    ],
    "broadcast_to": [
        (lambda a: np.broadcast_to(a, (2, 3)), (V3,)),
        (lambda a: np.broadcast_to(a, (2, 3)), (apart(1, 3),)),
        (lambda a: np.broadcast_to(a, 3), (apart(1),)),
    ],
    "flipud": [(np.flipud, (A23,))],
    "fliplr": [(np.fliplr, (A23,))],
    "flip": [(np.flip, (A23,)), (lambda a: np.flip(a, axis=(0, 2)), (A234,))],
    "rot90": [(lambda a, k=k: np.rot90(a, k), (A234,)) for k in range(-1, 4)]
    + [(lambda a: np.rot90(a, axes=(1, 2)), (A234,))],
    "roll": [
        (lambda a: np.roll(a, 2), (A23,)),
        (lambda a: np.roll(a, (1, -1), axis=(0, 1)), (A23,)),
    ],
    "repeat": [
        (lambda a: np.repeat(a, 2), (A23,)),
        (lambda a: np.repeat(a, 3, axis=1), (A23,)),
        (lambda a: np.repeat(a, [1, 0, 2], axis=1), (A23,)),
    ],
    "tile": [(lambda a: np.tile(a, 2), (A23,)), (lambda a: np.tile(a, (2, 1, 2)), (A23,))],
    "pad": [
        (lambda a: np.pad(a, 1), (A23,)),
        (lambda a: np.pad(a, ((1, 0), (0, 2)), "constant", constant_values=3.0), (A23,)),
        (lambda a: np.pad(a, 1, constant_values=((1, 2), (3, 4))), (A23,)),
        *(
            (lambda a, m=mode: np.pad(a, ((1, 2), (3, 1)), mode=m), (A23,))
            for mode in ("edge", "reflect", "symmetric", "wrap")
        ),
    ],
    "atleast_1d": [(np.atleast_1d, (apart(),)), (np.atleast_1d, (apart(), V3))],
    "atleast_2d": [(np.atleast_2d, (V3,)), (np.atleast_2d, (A23, apart()))],
    "atleast_3d": [(np.atleast_3d, (apart(), V3, A23, A234)), (np.atleast_3d, (V3,))],
    "split": [
        (lambda a: np.split(a, 3, axis=1), (A23,)),
        (lambda a: np.split(a, [1, 2], axis=-1), (A234,)),
    ],
    "array_split": [
        (lambda a: np.array_split(a, 3), (V4,)),
        (lambda a: np.array_split(a, [1, 5], 1), (A23,)),
    ],
    "vsplit": [(lambda a: np.vsplit(a, 2), (A23,))],
    "hsplit": [(lambda a: np.hsplit(a, 3), (A23,)), (lambda a: np.hsplit(a, [1]), (V3,))],
    "dsplit": [(lambda a: np.dsplit(a, 2), (A234,))],
    "concatenate": [
        (lambda a, b: np.concatenate([a, b, np.ones((1, 3), np.float32)]), (A23, A33)),
        (lambda a, b: np.concatenate((a, b), axis=-1), (A23, apart(2, 1))),
        (lambda a, b: np.concatenate([a, b], axis=None), (A23, V3)),
    ],
    "stack": [
        (lambda a, b: np.stack([a, b]), (A23, apart(2, 3))),
        (lambda a: np.stack([a, a], axis=-1), (A23,)),
    ],
    "vstack": [(lambda a, b: np.vstack([a, b]), (A23, V3))],
    "hstack": [
        (lambda a, b: np.hstack([a, b]), (A23, apart(2, 1))),
        (lambda a, b: np.hstack((a, b)), (V3, V4)),
    ],
    "dstack": [
        (lambda a, b: np.dstack([a, b]), (A23, A23 + 1)),
        (lambda a, b: np.dstack([a, b]), (V3, V3 + 1)),
    ],
    "column_stack": [(lambda a, b: np.column_stack([a, b]), (V3, A33))],
    "append": [
        (lambda a, b: np.append(a, b), (A23, V3)),
        (lambda a, b: np.append(a, b, axis=0), (A23, A33)),
        (lambda a: np.append(a, [1.0, 2.0]), (V3,)),
    ],
    "block": [
        (
            lambda a, b, c: np.block([[a, b], [c, np.eye(2, dtype=np.float32)]]),
            (A33, apart(3, 2), A23),
        ),
        (lambda a: np.block([a, a]), (V3,)),
        (lambda a: np.block([[a], [a]]), (V3,)),
    ],
    "meshgrid": [
        (lambda a, b: np.meshgrid(a, b), (V3, V4)),
        (lambda a, b, c: np.meshgrid(a, b, c, indexing="ij"), (V3, V4, apart(2))),
        (lambda a, b, c: np.meshgrid(a, b, c, sparse=True), (V3, V4, apart(2))),
    ],
    "geomspace": [
        (lambda a, b: np.geomspace(a, b, 4), (positive(), positive() + 1)),
        (lambda a: np.geomspace(a, 1.0, 3, endpoint=False, axis=-1), (positive(3),)),
    ],
    "vander": [(np.vander, (V3,)), (lambda a: np.vander(a, 4, increasing=True), (V3,))],
    "broadcast_arrays": [(lambda a, b: np.broadcast_arrays(a, b), (A23, V3))],
    "logspace": [
        (lambda a, b: np.logspace(a, b, 4), (apart(), apart() + 1)),
        (lambda a: np.logspace(a, 1.0, 3, endpoint=False, base=2.0), (V3,)),
    ],
    "linspace": [
        (lambda a, b: np.linspace(a, b, 5), (apart(), apart() + 2)),
        (lambda a, b: np.linspace(a, b, num=4, endpoint=False, axis=-1), (V3, V3 + 2)),
        (lambda a: np.linspace(0.0, a, 1), (apart(),)),
        (lambda a, b: np.linspace(a, b, 4, retstep=True), (V3, V3 + 2)),
    ],
    # reductions
    "sum": [
        (np.sum, (A23,)),
        (lambda a: np.sum(a, axis=0), (A23,)),
        (lambda a: np.sum(a=a, axis=(0, -1)), (A234,)),
        (lambda a: np.sum(a, 1, keepdims=True), (A23,)),
        (lambda a: np.sum(a, 0, None, None, True), (A23,)),
        (lambda a: np.sum(a, 1, where=np.array([True, False, True]), initial=2.0), (A23,)),
        (lambda a: np.sum(a, where=a > 0.03), (A23,)),
    ],
    "mean": [
        (np.mean, (A23,)),
        (lambda a: np.mean(a, axis=(0, 2), keepdims=True), (A234,)),
        (lambda a: np.mean(a, 1, where=np.array([True, False, True])), (A23,)),
    ],
    "prod": [
        (np.prod, (A23,)),
        (lambda a: np.prod(a, axis=1), (A23,)),
        (np.prod, (np.array([2.0, 0.0, 3.0]),)),
        (lambda a: np.prod(a, 0, where=np.array([[True], [False]]), initial=-1.5), (A23,)),
    ],
    "var": [
        (np.var, (A23,)),
        (lambda a: np.var(a, axis=0, ddof=1), (A33,)),
        (lambda a: np.var(a, 1, keepdims=True), (A23,)),
        (lambda a: np.var(a, correction=1), (A23,)),
        (lambda a: np.var(a, 1, where=np.array([True, False, True])), (A23,)),
        (lambda a: np.var(a, where=a > 0.03, ddof=1), (A33,)),
        (lambda a, m: np.var(a, 0, mean=m, keepdims=True), (A23, apart(1, 3))),
    ],
    "std": [
        (np.std, (A23,)),
        (lambda a: np.std(a, axis=0, ddof=1), (A33,)),
        (lambda a: np.std(a, 1, where=[[True, False, True], [True] * 3], keepdims=True), (A23,)),
        (lambda a: np.std(a, where=A23 > -9, mean=np.mean(a, keepdims=True)), (A23,)),
    ],
    "nanvar": [
        (np.nanvar, (WITH_NAN,)),
        (lambda a: np.nanvar(a, 0, ddof=1, keepdims=True), (np.where(A33 > 0.3, np.nan, A33),)),
        (lambda a: np.nanvar(a, 1, where=np.array([True, False, True])), (A23,)),
    ],
    "nanstd": [(np.nanstd, (WITH_NAN,)), (lambda a: np.nanstd(a, axis=1), (A23,))],
    "nanprod": [(np.nanprod, (WITH_NAN,)), (lambda a: np.nanprod(a, 1, initial=2.0), (A23,))],
    "nanmax": [
        (np.nanmax, (WITH_NAN,)),
        (lambda a: np.nanmax(a, axis=1, keepdims=True), (A23,)),
        (lambda a: np.nanmax(a, initial=-2.0, where=np.array([True, False, True])), (WITH_NAN,)),
    ],
    "nanmin": [(np.nanmin, (WITH_NAN,)), (lambda a: np.nanmin(a, axis=0), (A23,))],
    "nancumsum": [(np.nancumsum, (WITH_NAN,)), (lambda a: np.nancumsum(a, 1), (A23,))],
    "nancumprod": [(np.nancumprod, (WITH_NAN,)), (lambda a: np.nancumprod(a, 0), (A23,))],
    "corrcoef": [
        (np.corrcoef, (apart(3, 4),)),
        (lambda a, b: np.corrcoef(a, b), (V4, apart(4))),
        (lambda a, b: np.corrcoef(a, b, rowvar=False), (apart(4, 2), V4)),
    ],
    "max": [
        (np.max, (A23,)),
        (lambda a: np.max(a, axis=0), (A23,)),
        (lambda a: np.max(a, (0, 1), keepdims=True), (A23,)),
        (lambda a: np.max(a, 0, initial=0.005), (A23,)),
        (lambda a: np.max(a, 1, initial=-1.0, where=np.array([True, False, True])), (A23,)),
        (lambda a: np.max(a[:0], initial=3.0) + a, (A23,)),
    ],
    "min": [
        (np.min, (A23,)),
        (lambda a: np.min(a, axis=-1), (A23,)),
        (lambda a: np.min(a, initial=1.0, where=np.array([True, False, True])), (A23,)),
    ],
    "amax": [(np.amax, (A23,)), (lambda a: np.amax(a, 1), (A23,))],
    "amin": [(np.amin, (A23,)), (lambda a: np.amin(a, 1), (A23,))],
    "ptp": [(np.ptp, (A23,)), (lambda a: np.ptp(a, axis=1), (A23,))],
    "average": [
        (np.average, (A23,)),
        (lambda a, w: np.average(a, axis=1, weights=w), (A23, positive(3))),
        (lambda a, w: np.average(a, weights=w), (A23, positive(2, 3))),
        (lambda a, w: np.average(a, 1, w, returned=True), (A23, positive(3))),
        (lambda a: np.average(a * 1.5, 0, returned=True)[0], (A23,)),
    ],
    "cumsum": [(np.cumsum, (A23,)), (lambda a: np.cumsum(a, axis=1), (A23,))],
    "cumprod": [(np.cumprod, (A23,)), (lambda a: np.cumprod(a, axis=0), (A23,))],
    "trapezoid": [
        (np.trapezoid, (A23,)),
        (lambda y, x: np.trapezoid(y, x), (A23, np.cumsum(positive(3)))),
        (lambda y, x: np.trapezoid(y, x, axis=0), (A23, A23 + 1)),
        (lambda y: np.trapezoid(y, dx=0.5, axis=0), (A23,)),
    ],
    "nansum": [(np.nansum, (WITH_NAN,)), (lambda a: np.nansum(a, 0, keepdims=True), (A23,))],
    "nanmean": [(np.nanmean, (WITH_NAN,)), (lambda a: np.nanmean(a, axis=1), (A23,))],
    "cov": [
        (np.cov, (apart(3, 4),)),
        (lambda a, b: np.cov(a, b, rowvar=False, bias=True), (apart(4, 2), V4)),
        (lambda a: np.cov(a, ddof=0, fweights=[1, 2, 3], aweights=[0.5, 1.0, 0.2]), (A23,)),
    ],
    "maximum.accumulate": [
        (np.maximum.accumulate, (A33,)),
        (lambda a: np.maximum.accumulate(a, -1), (A234,)),
        (np.minimum.accumulate, (A33,)),
        (lambda a: np.minimum.accumulate(a, axis=1), (A234,)),
    ],
    # order
    "median": [
        (np.median, (A33,)),
        (np.median, (A234,)),
        (lambda a: np.median(a, axis=(0, -1), keepdims=True), (A234,)),
        (lambda a: np.median(a, 1), (A23,)),
    ],
    "percentile": [
        (lambda a: np.percentile(a, 30), (A234,)),
        (lambda a: np.percentile(a, [10.0, 50.0, 100.0], axis=1), (A234,)),
        (lambda a: np.percentile(a, 40, 0, method="lower", keepdims=True), (A33,)),
        (lambda a, q: np.percentile(a, q, axis=1), (A33, np.array([10.0, 70.0]))),
    ],
    "quantile": [
        (lambda a: np.quantile(a, np.array([[0.1, 0.5], [0.9, 0.0]]), axis=0), (A33,)),
        (lambda a: np.quantile(a, 0.3, method="midpoint"), (A33,)),
    ],
    # functions of samples
    "interp": [
        (np.interp, (np.array([[-1.0, 0.3], [0.7, 1.9]]), np.array(KNOTS), V3)),
        (lambda f: np.interp([-1.0, 0.0, 0.5, 1.0, 2.0, 9.0], KNOTS, f, left=7.0), (V3,)),
        (lambda x: np.interp(x, KNOTS, [1.0, 2.0, 5.0], right=-1.0), (apart(2, 3),)),
        (lambda x: np.interp(x, [0.5], [3.0]) + x, (V3,)),
        (lambda x, f: np.interp(x, [0.0, 1.0, 1.0, 2.0], f), (np.array([0.3, 1.2, 1.6]), V4)),
        (lambda x, f: np.interp(x, KNOTS, f, period=2.5), (np.array([-0.7, 1.1, 2.2, 8.9]), V3)),
    ],
    "polyval": [
        (np.polyval, (V4, A23)),
        (lambda x: np.polyval([2.0, 0.0, -1.0], x), (A23,)),
        (lambda p: np.polyval([p[0], 3.0, p[1]], p[2]), (V3,)),
        (lambda p: np.polyval(p, [1.0, 2.0]), (V3,)),
    ],
    "sort": [
        (np.sort, (V4,)),
        (lambda a: np.sort(a, axis=0), (A23,)),
        (lambda a: np.sort(a, axis=None), (A23,)),
    ],
    "partition": [
        (lambda a: np.partition(a, 1), (V4,)),
        (lambda a: np.partition(a, 1, axis=0), (A23,)),
    ],
    "take": [
        (lambda a: np.take(a, [0, 0, 5]), (A23,)),
        (lambda a: np.take(a, [[2, 1]], axis=1), (A23,)),
        (lambda a: np.take(a, [4, -7], axis=1, mode="wrap"), (A23,)),
        (lambda a: np.take(a, [9], mode="clip"), (A23,)),
    ],
    "delete": [
        (lambda a: np.delete(a, 1, axis=1), (A23,)),
        (lambda a: np.delete(a, [0, -1]), (A23,)),
        (lambda a: np.delete(a, slice(0, 2), 0), (A33,)),
    ],
    "insert": [
        (lambda a, b: np.insert(a, 1, b, axis=1), (A23, apart(2))),
        (lambda a, b: np.insert(a, [0, 3], b), (A23, apart(2))),
        (lambda a: np.insert(a, 1, 2.0, axis=0), (A23,)),
    ],
    "compress": [
        (lambda a: np.compress([True, False, True], a, axis=1), (A23,)),
        (lambda a: np.compress(np.array([0, 1, 1]), a), (A23,)),
    ],
    "extract": [(lambda a: np.extract(a > 0.03, a), (A23,))],
    "choose": [
        (lambda a, b: np.choose([[0, 1, 0], [1, 1, 0]], [a, b]), (A23, V3)),
        (lambda a: np.choose(np.array([5, 1]), (a, 2.0 * a), mode="clip"), (apart(2),)),
    ],
    "resize": [(lambda a: np.resize(a, (3, 4)), (A23,)), (lambda a: np.resize(a, 2), (A23,))],
    "ediff1d": [
        (np.ediff1d, (A23,)),
        (lambda a, b: np.ediff1d(a, to_end=b, to_begin=[1.0, 2.0]), (V4, apart(2))),
    ],
    "take_along_axis": [
        (lambda a: np.take_along_axis(a, np.array([[0], [2]]), 1), (A23,)),
        (lambda a: np.take_along_axis(a, np.array([[0, 0, 1]]), axis=1), (A23,)),
        (lambda a: np.take_along_axis(a, np.array([3, 3]), None), (A23,)),
    ],
    "diag": [
        (np.diag, (V3,)),
        (np.diag, (A23,)),
        (lambda a: np.diag(a, k=-1), (V3,)),
        (lambda a: np.diag(a, 1), (A23,)),
    ],
    "diagflat": [(lambda a: np.diagflat(a, 1), (A23,))],
    "diagonal": [
        (np.diagonal, (A23,)),
        (lambda a: np.diagonal(a, 1, axis1=2, axis2=0), (A234,)),
        (lambda a: np.diagonal(a, axis1=-1, axis2=-2), (A33,)),
    ],
    "trace": [
        (np.trace, (A33,)),
        (lambda a: np.trace(a, offset=1), (A23,)),
        (lambda a: np.trace(a, 0, 1, 2), (A234,)),
    ],
    "triu": [(np.triu, (A234,)), (lambda a: np.triu(a, 1), (A33,)), (np.triu, (V3,))],
    "tril": [(np.tril, (A234,)), (lambda a: np.tril(a, k=-1), (A33,))],
    "diff": [
        (np.diff, (A23,)),
        (lambda a: np.diff(a, n=2), (A234,)),
        (lambda a: np.diff(a, axis=0), (A23,)),
        (lambda a, b: np.diff(a, prepend=b, append=1.0), (A23, apart(2, 2))),
    ],
    "gradient": [
        (np.gradient, (A33,)),
        (np.gradient, (V4,)),
        (lambda a: np.gradient(a, 0.5), (A33,)),
        (lambda a: np.gradient(a, 2.0, axis=1), (A234,)),
        (lambda a: np.gradient(a, 2.0, [0.0, 1.0, 3.0]), (A33,)),
        (lambda a: np.gradient(a, edge_order=2), (A33,)),
        (lambda a, x: np.gradient(a, x, edge_order=2), (V4, np.cumsum(positive(4)))),
    ],
    # products
    "matmul": [
        (np.matmul, (A23, A33)),
        (np.matmul, (A234, apart(4, 2))),
        (np.matmul, (V3, A33)),
        (np.matmul, (V3, V3 + 1)),
    ],
    "dot": [
        (np.dot, (A23, A33)),
        (np.dot, (V3, V3 + 1)),
        (np.dot, (A23, apart())),
        (np.dot, (A234, apart(2, 4, 2))),
        (lambda b: np.dot([1.0, 2.0], b), (A23,)),
        (np.dot, (A234, V4)),
    ],
    "inner": [(np.inner, (A23, A33)), (np.inner, (V3, V3 + 1)), (np.inner, (apart(), V3))],
    "outer": [(np.outer, (A23, V4)), (np.outer, (V3, V4))],
    "vdot": [(np.vdot, (A23, apart(2, 3)))],
    "tensordot": [
        (np.tensordot, (A234, apart(3, 4, 2))),
        (lambda a, b: np.tensordot(a, b, axes=0), (V3, A23)),
        (lambda a, b: np.tensordot(a, b, axes=([2, 0], [0, 1])), (A234, apart(4, 2))),
        (lambda a, b: np.tensordot(a, b, axes=(1, 1)), (A23, A33)),
    ],
    "kron": [(np.kron, (A23, A33)), (np.kron, (V3, A23)), (np.kron, (apart(), V3))],
    "cross": [
        (np.cross, (A23, V3)),
        (lambda a, b: np.cross(a, b, axis=0), (A33, apart(3, 3))),
        (lambda a, b: np.cross(a, b, axisa=0, axisb=1, axisc=0), (apart(3, 2), A23)),
    ],
    "einsum": [
        (lambda a, b: np.einsum("ij,jk->ik", a, b), (A23, A33)),
        (lambda a: np.einsum("ii", a), (A33,)),
        (lambda a: np.einsum("...ij->...ji", a), (A234,)),
        (lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]), (A23, A33)),
        (lambda a, b: np.einsum("i,i", a, b, optimize=True), (V3, V3 + 1)),
    ],
    "convolve": [
        (lambda a, v, m=mode: np.convolve(a, v, m), args)
        for mode in ("full", "same", "valid")
        for args in ((V4, V3), (V3, V4))
    ],
    "correlate": [
        (lambda a, v, m=mode: np.correlate(a, v, mode=m), args)
        for mode in ("full", "same", "valid")
        for args in ((V4, V3), (V3, V4))
    ],
    "copy": [(np.copy, (A23,))],
    # linear algebra
    "linalg.det": [(np.linalg.det, (A33,)), (np.linalg.det, (apart(2, 2, 2),))],
    "linalg.slogdet": [
        (lambda a: np.linalg.slogdet(a)[1], (regular(3, 3),)),
        (lambda a: np.linalg.slogdet(-a).logabsdet, (regular(2, 3, 3),)),
    ],
    "linalg.inv": [(np.linalg.inv, (regular(3, 3),)), (np.linalg.inv, (regular(2, 2, 2),))],
    "linalg.pinv": [(np.linalg.pinv, (apart(3, 2),)), (np.linalg.pinv, (apart(2, 2, 3),))],
    "linalg.solve": [
        (np.linalg.solve, (regular(3, 3), V3)),
        (np.linalg.solve, (regular(2, 3, 3), apart(3, 2))),
    ],
    "linalg.norm": [
        (np.linalg.norm, (A23,)),
        (np.linalg.norm, (V3,)),
        (lambda a: np.linalg.norm(a, axis=0), (A23,)),
        *(
            (lambda a, o=o: np.linalg.norm(a, o), (V3,))
            for o in (1, 2, 3, 0.5, -1, np.inf, -np.inf)
        ),
        *(
            (lambda a, o=o: np.linalg.norm(a, o, axis=(2, 0), keepdims=True), (apart(3, 2, 3),))
            for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
        ),
    ],
    "linalg.eigh": [
        (lambda a: tuple(np.linalg.eigh(a)), (definite(3, 3),)),
        (lambda a: np.linalg.eigh(a, UPLO="U").eigenvalues, (A33,)),
    ],
    "linalg.eigvalsh": [
        (np.linalg.eigvalsh, (A33,)),
        (lambda a: np.linalg.eigvalsh(a, "U"), (apart(2, 2, 2),)),
    ],
    "linalg.cholesky": [
        (np.linalg.cholesky, (definite(3, 3),)),
        (lambda a: np.linalg.cholesky(a, upper=True), (definite(2, 2, 2),)),
    ],
    "linalg.svd": [
        (lambda a: tuple(np.linalg.svd(a, full_matrices=False)), (apart(3, 2),)),
        (lambda a: np.linalg.svd(a, compute_uv=False), (A23,)),
        (lambda a: np.linalg.svd(a).S, (A33,)),
    ],
    "linalg.cond": [
        (np.linalg.cond, (regular(3, 3),)),
        (lambda a: np.linalg.cond(a, 1), (regular(2, 2),)),
        (lambda a: np.linalg.cond(a, -2), (regular(2, 2),)),
    ],
    "linalg.matrix_power": [
        (lambda a, n=n: np.linalg.matrix_power(a, n), (regular(2, 2),)) for n in (1, 2, 5, -3)
    ],
    "linalg.multi_dot": [(lambda *abc: np.linalg.multi_dot(abc), (V3, A33, apart(3, 2), apart(2)))],
    "linalg.lstsq": [
        (lambda a, b: np.linalg.lstsq(a, b)[0], (apart(4, 2), V4)),
        (lambda a, b: np.linalg.lstsq(a, b)[1], (apart(4, 2), apart(4, 2))),
        (lambda a, b: np.linalg.lstsq(a, b)[3], (apart(2, 4), apart(2))),
    ],
    "linalg.tensorinv": [(np.linalg.tensorinv, (regular(6, 6).reshape(2, 3, 3, 2),))],
    "linalg.tensorsolve": [
        (np.linalg.tensorsolve, (regular(6, 6).reshape(2, 3, 6), apart(2, 3))),
        (
            lambda a, b: np.linalg.tensorsolve(a, b, axes=(0,)),
            (regular(6, 6).reshape(6, 2, 3), apart(2, 3)),
        ),
    ],
    "linalg.svdvals": [(np.linalg.svdvals, (A23,))],
    "linalg.outer": [(np.linalg.outer, (V3, V4))],
    "linalg.cross": [(np.linalg.cross, (V3, A23))],
    "linalg.matmul": [(np.linalg.matmul, (A23, A33))],
    "linalg.vecdot": [(np.linalg.vecdot, (A23, V3))],
    "linalg.tensordot": [(lambda a, b: np.linalg.tensordot(a, b, axes=1), (A23, A33))],
    "linalg.diagonal": [(lambda a: np.linalg.diagonal(a, offset=1), (A234,))],
    "linalg.trace": [(np.linalg.trace, (A234,))],
    "linalg.matrix_transpose": [(np.linalg.matrix_transpose, (A234,))],
    "linalg.vector_norm": [
        (np.linalg.vector_norm, (A23,)),
        (lambda a: np.linalg.vector_norm(a, axis=1, ord=3), (A23,)),
    ],
    "linalg.matrix_norm": [
        (np.linalg.matrix_norm, (A234,)),
        (lambda a: np.linalg.matrix_norm(a, ord="nuc"), (A234,)),
    ],
    # ufuncs' methods
    "add.reduce": [
        (np.add.reduce, (A23,)),
        (lambda a: np.add.reduce(a, axis=(0, 1), keepdims=True), (A23,)),
    ],
    "multiply.reduce": [
        (np.multiply.reduce, (A23,)),
        (lambda a: np.multiply.reduce(a, axis=None), (A23,)),
    ],
    "maximum.reduce": [(lambda a: np.maximum.reduce(a, 1), (A23,))],
    "minimum.reduce": [(np.minimum.reduce, (A23,))],
    "logaddexp.reduce": [(np.logaddexp.reduce, (A23,))],
    "add.accumulate": [(np.add.accumulate, (A23,))],
    "multiply.accumulate": [(lambda a: np.multiply.accumulate(a, axis=1), (A23,))],
    "add.outer": [(np.add.outer, (A23, V3))],
    "multiply.outer": [(np.multiply.outer, (V3, V4))],
    "subtract.outer": [(lambda a: np.subtract.outer(a, [1.0, 2.0]), (V3,))],
}

HIPS_DIFFERENTIABLE = words(
    "nan_to_num add multiply subtract divide maximum minimum fmax fmin logaddexp logaddexp2 "
    "true_divide mod remainder power arctan2 hypot negative abs absolute fabs reciprocal exp "
    "exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh "
    "arccosh arctanh rad2deg degrees deg2rad radians square sqrt sinc reshape roll array_split "
    "split vsplit hsplit dsplit ravel expand_dims squeeze diag flipud fliplr rot90 trace triu "
    "tril clip swapaxes moveaxis real_if_close real conj conjugate where cross linspace "
    "rollaxis diff gradient repeat tile kron transpose broadcast_to sum mean prod var std max "
    "min amax amin cumsum inner matmul dot tensordot outer concatenate vstack hstack "
    "column_stack stack append select sort partition atleast_1d atleast_2d atleast_3d einsum "
    "diagonal pad linalg.det linalg.slogdet linalg.inv linalg.pinv linalg.solve linalg.norm "
    "linalg.eigh linalg.cholesky linalg.svd"
)

NOT_REAL = ["imag", "angle", "linalg.eig"]
"""Differentiated by HIPS for complex arrays; of a real one they are constant (or complex)."""

HIPS_CONSTANT = words(
    "floor ceil round rint around fix trunc all any argmax argmin argpartition argsort argwhere "
    "nonzero flatnonzero count_nonzero searchsorted sign ndim shape floor_divide logical_and "
    "logical_or logical_not logical_xor isfinite isinf isnan isneginf isposinf allclose isclose "
    "array_equal array_equiv greater greater_equal less less_equal equal not_equal iscomplexobj "
    "iscomplex size isscalar isreal zeros_like ones_like empty_like full_like result_type"
)


def function_named(name: str) -> Any:
    found: Any = np
    for part in name.split("."):
        found = getattr(found, part)
    return found


def plain(result: Any) -> Any:
    """A result with arrays for Tensors, all of which must be real ones."""
    if isinstance(result, tuple | list):
        return [plain(part) for part in result]
    return result.detach().numpy() if isinstance(result, Tensor) else result


def demand_same(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            demand_same(a, b)
        return
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


ALL_CASES = [
    pytest.param(function, args, id=f"{name}-{i}")
    for name, cases in DIFFERENTIABLE.items()
    for i, (function, args) in enumerate(cases)
]


def test_an_op_that_a_user_defined_before_the_first_call_is_kept() -> None:
    """The table fills on first use, which must not undo `op(np.sinc, ...)`."""
    code = (
        "import numpy as np, tinygrad_kr as tk\n"
        "tk.op(np.sinc, lambda g, y, x: 7 * g)\n"
        "tk.op(np.nanmedian, lambda g, y, x: 5 * g)\n"
        "x = tk.Tensor([0.0], requires_grad=True)\n"
        "(np.sum(np.sinc(x)) + np.nanmedian(x)).backward()\n"
        "assert x.grad.tolist() == [12.0]\n"
        "assert np.round(x).tolist() == [0.0]\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_every_function_that_hips_differentiates_has_a_case_and_is_in_the_table() -> None:
    assert len(HIPS_DIFFERENTIABLE) > 100
    assert set(HIPS_DIFFERENTIABLE) <= set(DIFFERENTIABLE)
    missing = [n for n in DIFFERENTIABLE if function_named(n) not in numpy_table]
    assert not missing


@pytest.mark.parametrize(("function", "args"), ALL_CASES)
def test_value_is_numpys(function: Callable[..., Any], args: tuple[ndarray, ...]) -> None:
    found = function(*[Tensor(x, requires_grad=True) for x in args])
    parts = found if isinstance(found, tuple | list) else [found]
    assert all(isinstance(part, Tensor) and part.requires_grad for part in parts)
    demand_same(plain(found), function(*args))


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("function", "args"), ALL_CASES)
def test_derivatives_of_first_and_second_order(
    function: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    check_grads(function, args, order=2, rtol=1e-5, atol=1e-7)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("function", "args"), ALL_CASES)
def test_float32_stays_float32(function: Callable[..., Any], args: tuple[ndarray, ...]) -> None:
    tensors = [Tensor(x.astype(np.float32), requires_grad=True) for x in args]
    found = function(*tensors)
    for part in found if isinstance(found, tuple | list) else [found]:
        assert part.dtype == np.float32
        part.sum().backward(retain_graph=True)
    assert all(t.grad is None or t.grad.dtype == np.float32 for t in tensors)


# ------------------------------------------------------------------ what has no derivative

X = np.array([[1.5, -2.0, 0.0], [np.inf, np.nan, 3.0]])
PAIRS = words(
    "floor_divide logical_and logical_or logical_xor greater greater_equal less less_equal equal "
    "not_equal isclose array_equal array_equiv allclose result_type"
)
CONSTANT: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(HIPS_CONSTANT, (X,)),
    **dict.fromkeys(PAIRS, (X, X[0])),
    "floor_divide": (A23, V3),
    "argpartition": (A23, 1),
    "searchsorted": (np.sort(V4), V3),
    "full_like": (X, 7),
    "imag": (X,),
    "angle": (A23,),
    "isrealobj": (X,),
    "can_cast": (np.float32(1), np.float64),
    "digitize": (A23, np.array([0.0, 0.3])),
}


def test_every_function_that_hips_calls_constant_has_a_case() -> None:
    assert set(HIPS_CONSTANT) <= set(CONSTANT)


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")  # by NumPy 2.5
@pytest.mark.parametrize("name", sorted(set(CONSTANT) - {"empty_like", "can_cast"}))
def test_constant_functions_give_numpys_value_and_no_gradient(name: str) -> None:
    function, args = function_named(name), CONSTANT[name]
    tensors = [Tensor(x, requires_grad=True) if isinstance(x, ndarray) else x for x in args]
    found, expected = function(*tensors), function(*args)
    for part in found if isinstance(found, tuple) else (found,):
        assert not (isinstance(part, Tensor) and part.requires_grad)
    if name == "isscalar":
        assert found is False  # NumPy asks no one
    elif name == "result_type":
        assert found == expected
    else:
        assert isinstance(found, Tensor) or not isinstance(expected, ndarray)
        np.testing.assert_array_equal(plain(found), expected)


def test_empty_like_has_the_shape_and_dtype() -> None:
    made = np.empty_like(Tensor(A23.astype(np.float32), requires_grad=True))
    assert isinstance(made, Tensor)
    assert (made.shape, made.dtype, made.requires_grad) == ((2, 3), np.float32, False)


def test_keyword_names_are_numpys() -> None:
    a, b = Tensor(A33, requires_grad=True), Tensor(V3)
    demand_same(plain(np.sum(a=a, axis=0, keepdims=True)), np.sum(A33, axis=0, keepdims=True))
    demand_same(plain(np.linalg.inv(a=a)), np.linalg.inv(A33))
    demand_same(plain(np.take(a=a, indices=[1], axis=0)), A33[[1]])
    demand_same(plain(np.round(a=a, decimals=1)), np.round(A33, 1))
    demand_same(plain(np.linalg.norm(x=a, ord=1)), np.linalg.norm(A33, 1))
    demand_same(plain(np.linalg.solve(a=a, b=b)), np.linalg.solve(A33, V3))


def names_of(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]


def test_signatures_are_numpys() -> None:
    """Argument names in NumPy's order, for every function whose signature NumPy can tell."""
    compared = 0
    for function, served in numpy_table.items():
        if isinstance(function, np.ufunc) or not hasattr(function, "__wrapped__"):
            continue
        try:
            mine, theirs = names_of(served), names_of(function)
        except ValueError:  # NumPy 2.0 cannot tell those of its functions in C
            assert not SINCE_2_1
            continue
        if mine in (["args"], ["inputs"]):
            continue
        theirs = ["shape" if name == "newshape" else name for name in theirs]  # until NumPy 2.1
        if function is np.corrcoef:  # which have had no effect since NumPy 1.10
            theirs = [name for name in theirs if name not in ("bias", "ddof")]
        common = min(len(mine), len(theirs))
        assert mine[:common] == theirs[:common], function.__name__
        if np.lib.NumpyVersion(np.__version__) < "2.5.0":
            assert set(theirs) <= set(mine), function.__name__
        compared += 1
    assert compared > 100


# ------------------------------------------------------------------ where NumPy and PyTorch differ


def test_numpy_functions_keep_numpys_meaning() -> None:
    t = Tensor(A33, requires_grad=True)
    assert np.var(t).item() == pytest.approx(A33.var())
    assert t.var().item() == pytest.approx(A33.var(ddof=1))
    assert np.std(t, 0).tolist() == pytest.approx(A33.std(0).tolist())
    demand_same(plain(np.repeat(t, 2, axis=0)), np.repeat(A33, 2, axis=0))
    assert np.transpose(t[None]).shape == (3, 3, 1)


def test_interp_at_its_points_and_at_a_jump_is_numpys() -> None:
    for knots in (KNOTS, [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.5]):
        x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.nan])
        values = [0.1, 0.7, -0.3][: len(knots)]
        found = np.interp(Tensor(x, requires_grad=True), knots, values)
        np.testing.assert_allclose(found.detach(), np.interp(x, knots, values), rtol=1e-15)
    with pytest.raises(ValueError, match=r"np.interp: expected points in vectors"):
        np.interp(Tensor(x), [0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match=r"np.interp: expected a period other than 0"):
        np.interp(Tensor(x), [0.0, 1.0], [1.0, 2.0], period=0)


def test_a_running_maximum_keeps_nan_and_gives_a_tie_to_the_last() -> None:
    t = Tensor([1.0, 3.0, 3.0, 2.0, np.nan, 9.0], requires_grad=True)
    np.testing.assert_array_equal(
        np.maximum.accumulate(t).detach(), np.maximum.accumulate(t.detach().numpy())
    )
    np.maximum.accumulate(t)[:4].sum().backward()
    assert t.grad is not None and t.grad.tolist() == [1.0, 1.0, 2.0, 0.0, 0.0, 0.0]


def test_a_maximum_over_a_mask_needs_an_initial_value_as_in_numpy() -> None:
    with pytest.raises(ValueError, match=r"np.max: expected initial= with where="):
        np.max(Tensor(A23), where=A23 > 0)
    assert np.isnan(np.mean(Tensor(A23), where=False).item())


def test_ties_of_max_are_split_evenly() -> None:
    t = Tensor([1.0, 3.0, 3.0], requires_grad=True)
    np.max(t).backward()
    assert t.grad is not None and t.grad.tolist() == [0.0, 0.5, 0.5]


def test_equal_elements_are_sorted_stably() -> None:
    t = Tensor([2.0, 1.0, 2.0, 1.0], requires_grad=True)
    (np.sort(t) * Tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert t.grad is not None and t.grad.tolist() == [3.0, 1.0, 4.0, 2.0]


def test_where_with_a_condition_alone_is_nonzero() -> None:
    t = Tensor([[0.0, 2.0], [3.0, 0.0]], requires_grad=True)
    for found, expected in zip(np.where(t > 0), np.where(t.data > 0), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_norm_at_zero_has_gradient_zero() -> None:
    for order in (None, 1, 2, 3, np.inf):
        t = Tensor([0.0, 0.0], requires_grad=True)
        np.linalg.norm(t, order).backward()
        assert t.grad is not None and t.grad.tolist() == [0.0, 0.0]
    for matrix_order in ("fro", "nuc", 1, 2, np.inf):
        m = Tensor(np.zeros((3, 2)), requires_grad=True)
        np.linalg.norm(m, matrix_order).backward()
        assert m.grad is not None and not m.grad.data.any()


def test_a_matrix_is_read_by_one_triangle_as_in_numpy() -> None:
    t = Tensor(A33, requires_grad=True)
    demand_same(plain(np.linalg.eigvalsh(t)), np.linalg.eigvalsh(A33))
    demand_same(plain(np.linalg.eigvalsh(t, UPLO="U")), np.linalg.eigvalsh(A33, UPLO="U"))
    np.linalg.eigvalsh(t).sum().backward()
    assert t.grad is not None
    np.testing.assert_allclose(t.grad.data, np.eye(3), atol=1e-12)


# ------------------------------------------------------------------ refused, never ignored


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: np.sum(t, out=np.zeros(())), "np.sum"),
        (lambda t: np.dot(t, t, np.zeros(())), "np.dot(out=...)"),
        (lambda t: np.concatenate([t, t], 0, np.zeros(6)), "np.concatenate(out=...)"),
        (lambda t: np.add(t, 1.0, where=np.array(True)), "np.add with where"),
        (lambda t: np.add(t, 1.0, dtype=np.float64), "np.add with dtype"),
        (lambda t: np.add(t, 1.0, out=np.zeros(3)), "np.add: expected no `out=`"),
        (lambda t: np.add.reduce(t, initial=2.0), "np.add.reduce with initial"),
        (lambda t: np.add.reduceat(t, [0, 1]), "np.add.reduceat"),
        (lambda t: np.subtract.reduce(t), "np.subtract.reduce"),
        (lambda t: np.pad(t, 1, mode="mean"), "np.pad(mode='mean')"),
        (lambda t: np.pad(t, 1, mode="reflect", reflect_type="odd"), "reflect_type"),
        (lambda t: np.ravel(t, order="A"), "order='A'"),
        (lambda t: np.linalg.eig(np.outer(t, t)), "np.linalg.eig is not supported"),
        (lambda t: np.percentile(t, 5, method="hazen"), "np.quantile(method='hazen')"),
        (lambda t: np.percentile(t, 5, weights=[1, 1, 1]), "np.percentile(weights=...)"),
        (lambda t: np.polyval(np.poly1d([1.0]), t), "np.polyval of a poly1d"),
        (lambda t: np.nanmedian(t), "np.nanmedian is not supported"),
        (lambda t: np.fft.fft(t), "np.fft.fft is not supported"),
        (lambda t: np.copyto(np.zeros(3), t), "np.copyto is not supported"),
        (lambda t: np.modf(t), "np.modf is not supported"),
    ],
)
def test_what_is_not_served_names_the_function_and_the_argument(
    call: Callable[[Tensor], Any], said: str
) -> None:
    with pytest.raises(TypeError) as raised:
        call(Tensor(V3, requires_grad=True))
    assert said in str(raised.value)


def test_neutral_values_of_refused_arguments_pass() -> None:
    t = Tensor(V3, requires_grad=True)
    assert np.sum(t, out=None, where=True).item() == pytest.approx(V3.sum())
    assert np.average(t, returned=False).item() == pytest.approx(V3.mean())


def test_dtype_casts_and_keeps_the_gradient() -> None:
    t = Tensor(V3.astype(np.float32), requires_grad=True)
    y = np.sum(t, dtype=np.float64)
    assert y.dtype == np.float64
    y.backward()
    assert t.grad is not None and t.grad.dtype == np.float32
    assert np.concatenate([t, t], dtype=np.float64).dtype == np.float64
    assert not np.sum(t, dtype=np.int64).requires_grad


# ------------------------------------------------------------------ NumPy on the left


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_on_the_left(dtype: Any) -> None:
    t = Tensor(V3.astype(dtype), requires_grad=True)
    array = A23.astype(dtype)
    for found, expected in [
        (array + t, array + t.data),
        (array - t, array - t.data),
        (array / t, array / t.data),
        (array @ t, array @ t.data),
        (np.float64(2) * t, dtype(2) * t.data),
        (np.float32(2) ** t, dtype(2) ** t.data),
        (np.int64(3) - t, dtype(3) - t.data),
        (np.array(2.0) * t, dtype(2) * t.data),
    ]:
        assert isinstance(found, Tensor) and found.requires_grad and found.dtype == dtype
        np.testing.assert_allclose(found.data, expected, rtol=1e-6)
    compared = array > t
    assert isinstance(compared, Tensor) and compared.dtype == bool


def test_an_augmented_assignment_to_an_ndarray_explains_itself() -> None:
    array, t = np.ones(3), Tensor(V3, requires_grad=True)
    with pytest.raises(TypeError, match=r"np.add: expected no `out=` \(or `a \+= t`\)"):
        array += t
    assert array.tolist() == [1.0, 1.0, 1.0]


def test_assigning_a_tensor_with_history_into_an_ndarray_explains_itself() -> None:
    array, t = np.ones(3), Tensor(V3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"requires grad.*\.detach\(\)"):
        array[:] = t
    for number in (t[0], 2 * t.sum()):
        with pytest.raises((RuntimeError, ValueError)) as raised:
            array[0] = number
        said = str(raised.value.__cause__ or raised.value)  # NumPy may put its own error on top
        assert "requires grad" in said and ".detach()" in said
    assert array.tolist() == [1.0, 1.0, 1.0]
    array[0] = t.detach()[0]
    array[1] = float(t[1])
    assert array[:2].tolist() == V3[:2].tolist()


def test_what_numpy_cannot_ask_about_says_what_to_use() -> None:
    t = Tensor(V3, requires_grad=True)
    for call in (
        lambda: np.array(t),
        lambda: np.asarray(t),
        lambda: np.array([t, t]),
        lambda: np.array([t[0], t[1]]),
        lambda: np.full(3, t[0]),
        lambda: np.mean([t, t]),
    ):
        with pytest.raises(RuntimeError, match=r"\.detach\(\).*stack"):
            call()
    with pytest.raises(TypeError, match="list of Tensors"):
        Tensor([t, t])
    assert np.asarray(t.detach()).tolist() == V3.tolist()


def test_stack_has_no_path_through_an_object_array() -> None:
    parts = [Tensor(x, requires_grad=True) for x in V3]
    together = np.stack(parts)
    assert isinstance(together, Tensor) and together.dtype == np.float64
    (together * Tensor(V3)).sum().backward()
    assert [p.grad.item() for p in parts if p.grad is not None] == V3.tolist()


def test_complex_numbers_are_refused() -> None:
    t = Tensor(V3, requires_grad=True)
    for call in (
        lambda: t * 1j,
        lambda: 1j + t,
        lambda: np.array([1j, 2, 3]) * t,
        lambda: np.complex128(1j) * t,
        lambda: np.concatenate([t, np.array([1j])]),
        lambda: np.astype(t, np.complex128),
        lambda: t.astype(complex),
        lambda: Tensor([1j]),
        lambda: complex(t[0]),
    ):
        with pytest.raises(TypeError, match=r"complex|real numbers"):
            call()


# ------------------------------------------------------------------ integers and booleans

FLOATING_INSIDE = {"nan_to_num-1", "where-1", "choose-1", "average-4", "std-3"}
"""Cases with floats from a call before: `a / 0.1` is ours, and so float32."""
DTYPES = [np.bool_, np.int8, np.uint8, np.int32, np.int64]


def leaves_of(result: Any) -> list[Any]:
    if isinstance(result, tuple | list):
        return [leaf for part in result for leaf in leaves_of(part)]
    return [result]


def demand_numpys(function: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Whether NumPy takes these arguments; then values and dtypes are its own."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = leaves_of(function(*args))
    except (TypeError, ValueError, OverflowError, np.linalg.LinAlgError):
        return False
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = leaves_of(function(*[Tensor(x) if isinstance(x, ndarray) else x for x in args]))
    for a, b in zip(found, expected, strict=True):
        assert np.asarray(plain(a)).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(plain(a), b, rtol=1e-9, atol=1e-9)
    return True


def in_dtype(x: Any, dtype: Any) -> Any:
    if not isinstance(x, ndarray):
        return x
    return np.abs(np.round(np.nan_to_num(x) * 3)).astype(dtype)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_integers_have_numpys_dtype_in_numpys_functions(name: str) -> None:
    taken = [
        demand_numpys(function, [in_dtype(x, dtype) for x in args])
        for i, (function, args) in enumerate(DIFFERENTIABLE[name])
        for dtype in DTYPES
        if f"{name}-{i}" not in FLOATING_INSIDE
    ]
    assert any(taken)


OPERATORS = words("add subtract multiply divide floor_divide remainder power matmul")
"""What a NumPy number or array on the left of an operator calls: as with the Tensor on the left."""
UFUNCS = sorted(
    {f.__name__ for f in vars(np).values() if isinstance(f, np.ufunc) and f.nout == 1 and f.nin < 3}
    - (set() if SINCE_2_1 else {"ceil", "floor", "trunc"})  # floats of several sizes in NumPy 2.0
)


@pytest.mark.parametrize("name", UFUNCS)
def test_integers_have_numpys_dtype_in_every_ufunc(name: str) -> None:
    ufunc = getattr(np, name)
    for dtype in DTYPES:
        x = (np.arange(4).reshape(2, 2) % 3 + 1).astype(dtype)
        if ufunc.nin == 1:
            demand_numpys(ufunc, [x])
            continue
        for other in (x, 2, 2.5, np.float32(2.5), x.astype(np.int16)):
            demand_numpys(ufunc, [x, other])
            if not (isinstance(other, np.generic) and name in OPERATORS):
                demand_numpys(ufunc, [other, x])
        if not ufunc.signature:
            for method in (ufunc.reduce, ufunc.accumulate):
                demand_numpys(method, [x])
                demand_numpys(lambda x: method(x, axis=1), [x])  # noqa: B023
            demand_numpys(ufunc.outer, [x, x])


def test_our_functions_and_methods_keep_pytorchs_dtype() -> None:
    whole, truth = Tensor(np.array([2, 3], np.int32)), Tensor(np.array([True, False]))
    assert np.reciprocal(whole).dtype == np.int32
    assert tk.reciprocal(whole).dtype == whole.reciprocal().dtype == np.float32
    assert np.square(truth).dtype == np.int8
    assert tk.square(truth).dtype == truth.square().dtype == np.int64
    assert np.heaviside(whole, whole).dtype == np.float64
    assert tk.heaviside(whole, whole).dtype == np.int32
    assert np.sin(whole).dtype == np.mean(truth).dtype == np.linalg.norm(whole).dtype == np.float64
    assert tk.sin(whole).dtype == (whole / whole).dtype == (whole * 0.5).dtype == np.float32
    floats = Tensor(np.array([2.0, 3.0], np.float32), requires_grad=True)
    for beside in (np.add(floats, whole), np.divide(whole, floats), np.where(truth, whole, floats)):
        assert beside.dtype == np.float32 and beside.requires_grad
    assert np.gcd(whole, 4).tolist() == [2, 1]
    with pytest.raises(TypeError, match=r"np\.gcd is not supported on Tensors"):
        np.gcd(floats, 4)


def test_numpys_functions_of_integers_compile(backend: str) -> None:
    def accuracy(scores: Any, labels: Any) -> Any:
        right = np.equal(scores.argmax(axis=1), labels)
        return (
            np.mean(right),
            np.sum(right),
            np.reciprocal(labels),
            np.divide(labels, 2),
            scores * 2,
        )

    scores = Tensor(RANDOM.normal(size=(4, 3)).astype(np.float32))
    compare(accuracy, scores, Tensor(np.array([1, 2, 1, 2])))


def test_an_op_of_the_users_gets_integers_too() -> None:
    code = (
        "import numpy as np, tinygrad_kr as tk\n"
        "tk.op(np.sinc, lambda g, y, x: 7 * g)\n"
        "assert np.sinc(tk.tensor([1, 2])).dtype == np.float32\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
