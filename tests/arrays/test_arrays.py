"""Functions on arrays and the methods beside them: values, derivatives, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor, arrays, detect_anomaly, no_grad
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(11)


def apart(*sizes: int) -> ndarray:
    """Elements at least 0.1 apart and from 0: no ties or kinks within reach of a difference."""
    return (RANDOM.permutation(int(np.prod(sizes))) * 0.1 - 0.43).reshape(sizes)


def leaf(values: Any) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


def gradient_of(t: Tensor) -> Any:
    assert t.grad is not None
    return t.grad.tolist()


A23, A33, A234, V3 = apart(2, 3), apart(3, 3), apart(2, 3, 4), apart(3)
STEPS = np.array([0.0, 0.5, 2.0])
MASK = np.array([[True, False, True], [False, False, True]])
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[ndarray, ...]]

WITH_NAN = np.where(A23 > 0.03, np.nan, A23)
SHARES = np.array([0.0, 0.3, 0.5, 1.0])
INDEX = np.array([[2, 0, 2], [1, 1, 0]])
REPEATED = np.array([[0, 0, 2, 0], [1, 1, 1, 0]])


def lerped(a: Any, b: Any, w: Any) -> Any:
    return a + w * (b - a)


def scattered(start: Any, index: ndarray, src: Any, reduce: str, include_self: bool) -> Any:
    """`scatter_reduce` along axis 1, element by element."""
    y = np.array(start)
    for i, k in np.ndindex(y.shape):
        found = [src[i, j] for j in range(index.shape[1]) if index[i, j] == k]
        if found:
            found += [start[i, k]] * include_self
            y[i, k] = getattr(np, reduce)(found)
    return y


CASES: dict[str, list[Case]] = {
    "matrices": [
        (arrays.mm, np.matmul, (A23, A33)),
        (arrays.bmm, np.matmul, (A234, apart(2, 4, 2))),
        (arrays.mv, np.matmul, (A23, V3)),
        (lambda a, b: a.mm(b), np.matmul, (apart(2, 0), apart(0, 3))),
        (arrays.addmm, lambda x, a, b: x + a @ b, (V3, A23, A33)),
        (
            lambda x, a, b: x.addmm(a, b, beta=0.5, alpha=-2.0),
            lambda x, a, b: 0.5 * x - 2.0 * (a @ b),
            (apart(2, 1), A23, A33),
        ),
        (
            lambda a, b: arrays.addmm(Tensor(np.nan), a, b, beta=0),
            np.matmul,
            (A23, A33),
        ),
    ],
    "combined": [
        (arrays.addcmul, lambda x, a, b: x + a * b, (A23, V3, apart(2, 1))),
        (
            lambda x, a: x.addcmul(a, 2.0, value=0.5),
            lambda x, a: x + a,
            (apart(), A23),
        ),
        (arrays.addcdiv, lambda x, a, b: x + a / b, (A23, V3, apart(2, 1) + 2)),
        (
            lambda x, a, b: x.addcdiv(a, b, value=-3),
            lambda x, a, b: x - 3 * a / b,
            (V3, apart(), A23 + 2),
        ),
        (arrays.lerp, lerped, (A23, V3, apart(2, 1) + 0.52)),
        (arrays.lerp, lerped, (A23, apart(), apart(2, 3))),
        (lambda a, b: a.lerp(b, 0.75), lambda a, b: lerped(a, b, 0.75), (A23, V3)),
        (lambda a, b: a.lerp(b, 0.25), lambda a, b: lerped(a, b, 0.25), (A23, V3)),
        (lambda b: arrays.lerp([1.0, 2.0, 3.0], b, 1), lambda b: b, (V3,)),
    ],
    "rot90": [
        *(
            (lambda a, k=k: arrays.rot90(a, k), lambda a, k=k: np.rot90(a, k), (A23,))
            for k in range(-1, 5)
        ),
        (lambda a: a.rot90(dims=(2, 0)), lambda a: np.rot90(a, axes=(2, 0)), (A234,)),
        (lambda a: arrays.swapdims(a, 0, 2), lambda a: a.swapaxes(0, 2), (A234,)),
        (lambda a: arrays.concat([a, a]), lambda a: np.concatenate([a, a]), (A23,)),
    ],
    "scatter": [
        (
            lambda a, b: a.scatter(1, [[2], [0]], b),
            lambda a, b: np.array([[a[0, 0], a[0, 1], b[0, 0]], [b[1, 0], a[1, 1], a[1, 2]]]),
            (A23, apart(2, 2)),
        ),
        (
            lambda a: arrays.scatter(a, 0, Tensor([[1, 0]]), 7.0),
            lambda a: np.array([[a[0, 0], 7.0, a[0, 2]], [7.0, a[1, 1], a[1, 2]]]),
            (A23,),
        ),
        (
            lambda a, b: arrays.scatter(a, axis=0, index=[1, 1, 1], src=b),
            lambda a, b: np.array([a[0], b[2], a[2]]),
            (V3, apart(4)),
        ),
        (lambda a, b: a.scatter(0, 0, b), lambda a, b: b + 0 * a, (apart(), apart())),
        (
            lambda a, b: a.scatter(1, [[2], [0]], b, reduce="add"),
            lambda a, b: np.add(a, [[0, 0, b[0, 0]], [b[1, 0], 0, 0]]),
            (A23, apart(2, 1)),
        ),
        (
            lambda a: a.scatter(1, [[2], [0]], value=3.0, reduce="multiply"),
            lambda a: a * [[1, 1, 3], [3, 1, 1]],
            (A23,),
        ),
        *(
            (
                lambda a, b, r=r, s=s: arrays.scatter_reduce(a, 1, REPEATED, b, r, include_self=s),
                lambda a, b, r=r, s=s: scattered(a, REPEATED, b, r, s),
                (apart(2, 4) + 0.02, apart(2, 4)),
            )
            for r in ("sum", "prod", "mean", "amax", "amin")
            for s in (True, False)
        ),
        (
            lambda a, b: a.scatter_reduce(0, 0, b, "amax"),
            np.maximum,
            (apart(), apart() + 1),
        ),
        (
            lambda a, b: a.scatter_reduce(0, np.zeros(0, int), b, "prod"),
            lambda a, b: a + b.sum(),
            (V3, apart(0)),
        ),
    ],
    "statistics": [
        (arrays.nansum, np.nansum, (WITH_NAN,)),
        (lambda a: a.nansum(dim=1, keepdim=True), lambda a: np.nansum(a, 1, keepdims=True), (A23,)),
        (arrays.nanmean, np.nanmean, (WITH_NAN,)),
        (lambda a: a.nanmean(axis=(0, 2)), lambda a: np.nanmean(a, (0, 2)), (A234,)),
        (arrays.var_mean, lambda a: [a.var(ddof=1), a.mean()], (A23,)),
        (
            lambda a: arrays.std_mean(a, dim=0, keepdim=True, correction=0),
            lambda a: [a.std(0, keepdims=True), a.mean(0, keepdims=True)],
            (A23,),
        ),
        (arrays.cov, np.cov, (apart(3, 5),)),
        (arrays.cov, np.cov, (V3,)),
        (
            lambda a: a.cov(correction=0, fweights=[1, 2, 1, 0, 3]),
            lambda a: np.cov(a, ddof=0, fweights=[1, 2, 1, 0, 3]),
            (apart(2, 5),),
        ),
        (
            lambda a, w: arrays.cov(a, fweights=Tensor([1, 2, 1]), aweights=w),
            lambda a, w: np.cov(a, fweights=[1, 2, 1], aweights=w),
            (A23, np.array([0.5, 1.0, 0.25])),
        ),
        (arrays.corrcoef, np.corrcoef, (apart(3, 5),)),
    ],
    "quantile": [
        (lambda a: arrays.quantile(a, 0.3), lambda a: np.quantile(a, 0.3), (A234,)),
        (
            lambda a: a.quantile(SHARES, dim=1),
            lambda a: np.quantile(a, SHARES, axis=1),
            (A234,),
        ),
        (
            lambda a: a.quantile([0.2, 0.9], axis=(0, 2), keepdims=True),
            lambda a: np.quantile(a, [0.2, 0.9], axis=(0, 2), keepdims=True),
            (A234,),
        ),
        (
            lambda a, q: arrays.quantile(a, q, -1),
            lambda a, q: np.quantile(a, q, -1),
            (
                A234,
                np.array([0.3, 0.45]),
            ),
        ),
        *(
            (
                lambda a, m=m: arrays.quantile(a, [0.2, 0.6, 1.0], 0, interpolation=m),
                lambda a, m=m: np.quantile(a, [0.2, 0.6, 1.0], 0, method=m),
                (apart(4, 3),),
            )
            for m in ("linear", "lower", "higher", "midpoint", "nearest")
        ),
        (lambda a: a.quantile(0.7), lambda a: a, (apart(),)),
        (lambda a: arrays.quantile(a, 0.5, dim=1), lambda a: np.median(a, 1), (apart(0, 2),)),
    ],
    "concatenate": [
        (lambda a, b: arrays.concatenate([a, b]), lambda a, b: np.concatenate([a, b]), (A23, A33)),
        (
            lambda a, b: arrays.cat((a, b), dim=-1),
            lambda a, b: np.concatenate([a, b], -1),
            (A23, apart(2, 1)),
        ),
        (lambda a: arrays.cat([a, [[1, 2, 3]]]), lambda a: np.append(a, [[1, 2, 3]], 0), (A23,)),
        (lambda a: arrays.cat([a, a], axis=None), lambda a: np.append(a, a), (A23,)),
    ],
    "stack": [
        (
            lambda a, b: arrays.stack([a, b], dim=1),
            lambda a, b: np.stack([a, b], 1),
            (A23, A23 + 1),
        ),
        (lambda a: arrays.stack([a[0], 2.0]), lambda a: np.stack([a[0], 2.0]), (V3,)),
    ],
    "broadcast_tensors": [
        (arrays.broadcast_tensors, np.broadcast_arrays, (A23, V3, apart(2, 1))),
    ],
    "meshgrid": [
        (arrays.meshgrid, lambda a, b: np.meshgrid(a, b, indexing="ij"), (V3, apart(2))),
        (lambda a, b: arrays.meshgrid(a, b, indexing="xy"), np.meshgrid, (V3, apart(2))),
    ],
    "pad": [
        (lambda a: arrays.pad(a, 2), lambda a: np.pad(a, 2), (A23,)),
        (
            lambda a: arrays.pad(a, ((1, 0), (0, 2)), constant_values=-1.5),
            lambda a: np.pad(a, ((1, 0), (0, 2)), constant_values=-1.5),
            (A23,),
        ),
        (
            lambda a: arrays.pad(a, 1, constant_values=((1, 2), (3, 4))),
            lambda a: np.pad(a, 1, constant_values=((1, 2), (3, 4))),
            (A23,),
        ),
        *(
            (
                lambda a, mode=mode: arrays.pad(a, ((3, 1), (0, 7)), mode),
                lambda a, mode=mode: np.pad(a, ((3, 1), (0, 7)), mode),
                (A23,),
            )
            for mode in ("edge", "reflect", "symmetric", "wrap")
        ),
    ],
    "split": [
        (lambda a: arrays.split(a, 2, dim=1), lambda a: [a[:, :2], a[:, 2:]], (A23,)),
        (lambda a: a.split([1, 0, 2], -1), lambda a: [a[:, :1], a[:, 1:1], a[:, 1:]], (A23,)),
        (lambda a: a.split(5), lambda a: [a], (A23,)),
    ],
    "chunk": [
        (lambda a: a.chunk(2, dim=1), lambda a: [a[:, :2], a[:, 2:]], (A23,)),
        (lambda a: a.chunk(4, 2), lambda a: np.array_split(a, 4, 2), (A234,)),
        (lambda a: a.chunk(7), lambda a: [a[:1], a[1:]], (A23,)),
    ],
    "unbind": [(lambda a: a.unbind(1), lambda a: [a[:, 0], a[:, 1], a[:, 2]], (A23,))],
    "tile": [
        (lambda a: a.tile(2), lambda a: np.tile(a, 2), (A23,)),
        (lambda a: arrays.tile(a, (2, 1, 3)), lambda a: np.tile(a, (2, 1, 3)), (A23,)),
    ],
    "repeat": [
        (lambda a: a.repeat(2, 3), lambda a: np.tile(a, (2, 3)), (A23,)),
        (lambda a: a.repeat([2, 1, 2]), lambda a: np.tile(a, (2, 1, 2)), (A23,)),
        (lambda a: a.repeat(0, 1), lambda a: a[:0], (A23,)),
    ],
    "repeat_interleave": [
        (lambda a: a.repeat_interleave(2), lambda a: np.repeat(a, 2), (A23,)),
        (lambda a: a.repeat_interleave(3, dim=0), lambda a: np.repeat(a, 3, 0), (A23,)),
        (
            lambda a: a.repeat_interleave(Tensor([2, 0, 1]), 1),
            lambda a: np.repeat(a, [2, 0, 1], 1),
            (A23,),
        ),
    ],
    "moveaxis": [
        (lambda a: a.moveaxis(0, 2), lambda a: np.moveaxis(a, 0, 2), (A234,)),
        (lambda a: a.movedim((0, 1), (-1, 0)), lambda a: np.moveaxis(a, (0, 1), (-1, 0)), (A234,)),
    ],
    "reshape and relatives": [
        (lambda a: arrays.reshape(a, (3, 2)), lambda a: a.reshape(3, 2), (A23,)),
        (lambda a: arrays.flatten(a, 1), lambda a: a.reshape(2, 12), (A234,)),
        (lambda a: arrays.unsqueeze(a, -1), lambda a: a[..., None], (A23,)),
        (lambda a: arrays.squeeze(a), lambda a: a[0], (apart(1, 3),)),
        (lambda a: arrays.permute(a, (2, 0, 1)), lambda a: a.transpose(2, 0, 1), (A234,)),
        (lambda a: arrays.swapaxes(a, 0, 1), lambda a: a.T, (A23,)),
        (lambda a: arrays.flip(a, (1,)), lambda a: a[:, ::-1], (A23,)),
        (lambda a: arrays.roll(a, 1, 0), lambda a: np.roll(a, 1, 0), (A23,)),
        (lambda a: arrays.broadcast_to(a, (2, 3)), lambda a: np.broadcast_to(a, (2, 3)), (V3,)),
    ],
    "take": [
        (lambda a: a.take([0, 0, 5, -1]), lambda a: a.ravel()[[0, 0, 5, -1]], (A23,)),
        (lambda a: a.take([[2, 2]], dim=1), lambda a: a[:, [[2, 2]]], (A23,)),
        (lambda a: a.take(1, 0), lambda a: a[1], (A23,)),
        (lambda a: a.take([], 0), lambda a: a[:0], (A23,)),
        (lambda a: a.index_select(1, Tensor([2, 0])), lambda a: a[:, [2, 0]], (A23,)),
    ],
    "gather": [
        (
            lambda a: a.gather(1, [[0, 0, 2, 2], [1, 0, 1, 1]]),
            lambda a: np.take_along_axis(a, np.array([[0, 0, 2, 2], [1, 0, 1, 1]]), 1),
            (A23,),
        ),
        (lambda a: a.gather(-2, Tensor([[1]])), lambda a: a[1:, :1], (A23,)),
    ],
    "take_along_axis": [
        (
            lambda a: a.take_along_axis(np.array([[1]]), 1),
            lambda a: np.take_along_axis(a, np.array([[1]]), 1),
            (A23,),
        ),
        (
            lambda a: a.take_along_axis(np.array([[0, 2], [1, 1]]), 1),
            lambda a: np.take_along_axis(a, np.array([[0, 2], [1, 1]]), 1),
            (apart(1, 3),),
        ),
    ],
    "scatter_add": [
        (
            lambda a, b: a.scatter_add(1, [[0, 0], [2, 1]], b),
            lambda a, b: np.add(a, [[b[0, 0] + b[0, 1], 0, 0], [0, b[1, 1], b[1, 0]]]),
            (A23, apart(2, 2)),
        ),
        (
            lambda a, b: a.scatter_add(0, [[1]], b),
            lambda a, b: np.add(a, [[0, 0, 0], [b[0, 0], 0, 0]]),
            (A23, A33),
        ),
    ],
    "sort": [
        (lambda a: a.sort(0).values, lambda a: np.sort(a, 0), (A33,)),
        (lambda a: a.sort(descending=True).values, lambda a: -np.sort(-a), (A23,)),
        (lambda a: a.topk(2).values, lambda a: -np.sort(-a)[:, :2], (A23,)),
        (lambda a: a.topk(1, dim=0, largest=False)[0], lambda a: a.min(0, keepdims=True), (A23,)),
        (lambda a: a.max(1)[0], lambda a: a.max(1), (A23,)),
        (lambda a: a.min(-1, True).values, lambda a: a.min(-1, keepdims=True), (A23,)),
        (lambda a: a.sort(axis=1), lambda a: np.sort(a, 1), (A23,)),
        (lambda a: a.sort(axis=None, descending=True), lambda a: -np.sort(-a, None), (A23,)),
        (lambda a: a.max(axis=(0, 2)), lambda a: a.max((0, 2)), (A234,)),
        (lambda a, b: arrays.max(a, b), np.maximum, (A23, A23[:, ::-1] + 0.05)),
        (lambda a, b: a.min(other=b), np.minimum, (A23, V3 + 0.05)),
    ],
    "median and mode": [
        (lambda a: a.median(), lambda a: np.sort(a, None)[2], (A23,)),
        (lambda a: a.median(0).values, lambda a: np.sort(a, 0)[1], (apart(4, 3),)),
        (lambda a: a.median(1, True)[0], lambda a: np.sort(a, 1)[:, 1:2], (A33,)),
        (lambda a: a.median(axis=1), lambda a: np.median(a, 1), (apart(3, 4),)),
        (
            lambda a: a.median(axis=None, keepdims=True),
            lambda a: np.median(a, keepdims=True),
            (A23,),
        ),
        (lambda a: a.median(axis=(0, 2)), lambda a: np.median(a, (0, 2)), (A234,)),
        (lambda a: arrays.mode(a).values, lambda a: a.min(-1), (A23,)),
        (
            lambda a: arrays.mode(a, axis=0, keepdims=True),
            lambda a: a.min(0, keepdims=True),
            (A33,),
        ),
        (lambda a: a.kthvalue(2).values, lambda a: np.sort(a)[:, 1], (A23,)),
        (lambda a: arrays.kthvalue(a, 3, axis=1), lambda a: np.sort(a, 1)[:, 2], (A234,)),
        (lambda a: a.cummax(1).values, lambda a: np.maximum.accumulate(a, 1), (A234,)),
        (lambda a: a.cummin(axis=-1), lambda a: np.minimum.accumulate(a, -1), (A23,)),
    ],
    "diagonals": [
        (lambda a: a.diag(), np.diag, (V3,)),
        (lambda a: arrays.diag(a, -1), lambda a: np.diag(a, -1), (V3,)),
        (lambda a: a.diag(1), lambda a: np.diag(a, 1), (A23,)),
        (lambda a: a.triu(1), lambda a: np.triu(a, 1), (A234,)),
        (lambda a: arrays.tril(a, k=-1), lambda a: np.tril(a, -1), (A234,)),
        (lambda a: arrays.trace(a), np.trace, (A33,)),
    ],
    "products": [
        (lambda a, b: a.dot(b), np.dot, (A23, A33)),
        (lambda a, b: a.dot(b), np.dot, (apart(), A33)),
        (lambda a, b: arrays.dot(a, b), np.dot, (A234, apart(3, 4, 2))),
        (lambda a: arrays.dot([1.0, 2.0], a), lambda a: np.dot([1.0, 2.0], a), (A23,)),
        (arrays.inner, np.inner, (A23, A234.transpose(0, 2, 1))),
        (lambda a, b: a.outer(b), np.outer, (V3, A23)),
        (arrays.vdot, np.vdot, (A23, A23 + 1)),
        (arrays.tensordot, np.tensordot, (A234, apart(3, 4, 2))),
        (
            lambda a, b: arrays.tensordot(a, b, dims=((0, -1), (1, 0))),
            lambda a, b: np.tensordot(a, b, ((0, -1), (1, 0))),
            (A234, apart(4, 2, 2)),
        ),
        (lambda a, b: arrays.tensordot(a, b, 0), lambda a, b: np.tensordot(a, b, 0), (V3, A23)),
        (arrays.kron, np.kron, (A23, apart(3, 1))),
        (arrays.kron, np.kron, (V3, A234)),
        (arrays.cross, np.cross, (A23, V3)),
        (
            lambda a, b: arrays.cross(a, b, dim=0),
            lambda a, b: np.cross(a, b, axis=0),
            (A33, A33 + 1),
        ),
    ],
    "norm": [
        (lambda a: a.norm(), np.linalg.norm, (A23,)),
        (lambda a: a.norm(dim=1), lambda a: np.linalg.norm(a, axis=1), (A23,)),
        (lambda a: a.norm(1, 0, True), lambda a: np.linalg.norm(a, 1, 0, True), (A23,)),
        (lambda a: a.norm(3), lambda a: (np.abs(a) ** 3).sum() ** (1 / 3), (A23,)),
        (lambda a: a.norm(np.inf), lambda a: np.abs(a).max(), (A23,)),
        (lambda a: a.norm(-np.inf, -1), lambda a: np.abs(a).min(-1), (A23,)),
        (lambda a: a.norm(0.5, 1), lambda a: np.linalg.norm(a, 0.5, 1), (A23,)),
        (lambda a: a.norm(-1, 1), lambda a: np.linalg.norm(a, -1, 1), (A23,)),
        (lambda a: a.norm("nuc"), lambda a: np.linalg.norm(a, "nuc"), (A23,)),
        (lambda a: a.norm("fro", (0, 1)), np.linalg.norm, (A23,)),
    ],
    "differences": [
        (lambda a: arrays.diff(a, 2, dim=0), lambda a: np.diff(a, 2, 0), (A33,)),
        (lambda a: arrays.diff(a, 0), lambda a: a, (A33,)),
        (
            lambda a, b: arrays.diff(a, prepend=b, append=0.0),
            lambda a, b: np.diff(a, prepend=b, append=0.0),
            (A23, apart(2, 2)),
        ),
        (arrays.gradient, np.gradient, (A23,)),
        (
            lambda a: arrays.gradient(a, spacing=[0.5, STEPS], edge_order=2),
            lambda a: np.gradient(a, 0.5, STEPS, edge_order=2),
            (A33,),
        ),
        (
            lambda a, x: arrays.gradient(a, spacing=x, dim=1)[0],
            lambda a, x: np.gradient(a, x, axis=1),
            (A23, STEPS),
        ),
        (arrays.trapezoid, np.trapezoid, (A23, STEPS)),
        (
            lambda a: arrays.trapezoid(a, dx=2.0, dim=0),
            lambda a: np.trapezoid(a, dx=2.0, axis=0),
            (A23,),
        ),
        (arrays.convolve, np.convolve, (apart(5), V3)),
        *(
            (
                lambda a, v, m=mode: arrays.convolve(a, v, m),
                lambda a, v, m=mode: np.convolve(a, v, m),
                (apart(5), apart(2)),
            )
            for mode in ("full", "same", "valid")
        ),
    ],
    "shapes": [
        (arrays.ravel, np.ravel, (A234,)),
        (arrays.transpose, np.transpose, (A234,)),
        (lambda a: arrays.transpose(a, 0, 2), lambda a: a.swapaxes(0, 2), (A234,)),
        (lambda a: arrays.expand_dims(a, 1), lambda a: np.expand_dims(a, 1), (A23,)),
        (
            lambda a: arrays.diagonal(a, 1, 0, 2),
            lambda a: np.diagonal(a, 1, 0, 2),
            (A234,),
        ),
    ],
    "einsum": [
        (lambda a, b: arrays.einsum("ij,jk->ik", a, b), np.matmul, (A23, A33)),
        (
            lambda a: arrays.einsum(a, [0, 1], [1]),
            lambda a: np.einsum(a, [0, 1], [1]),
            (A23,),
        ),
    ],
    "sums and quotients": [
        (lambda a, b: arrays.add(a, b, alpha=3), lambda a, b: a + 3 * b, (A23, V3)),
        (lambda a, b: a.subtract(b, alpha=-0.5), lambda a, b: a + b / 2, (A23, A23 + 1)),
        (lambda a, b: a.sub(b), np.subtract, (A23, V3)),
        (lambda a, b: arrays.div(a, b), np.divide, (A23, V3)),
        (lambda a, b: a.divide(b), np.divide, (V3, A23)),
    ],
    "limits": [
        (lambda a: arrays.clamp(a, max=0.2), lambda a: np.minimum(a, 0.2), (A23,)),
        (
            lambda a: arrays.masked_fill(a, MASK, 7.0),
            lambda a: np.where(MASK, 7.0, a),
            (A23,),
        ),
        (lambda a: a.clip(-0.2, 0.31), lambda a: a.clip(-0.2, 0.31), (A23,)),
        (lambda a, b, c: a.clip(b, c), lambda a, b, c: a.clip(b, c), (A23, V3 - 0.31, V3 + 0.22)),
        (lambda a, b: a.clip(min=-0.1, max=b), lambda a, b: a.clip(-0.1, b), (A23, V3 + 0.03)),
        (arrays.nan_to_num, np.nan_to_num, (A23,)),
    ],
}
ALL_CASES = [
    pytest.param(mine, theirs, args, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, (mine, theirs, args) in enumerate(cases)
]


INDICES: list[Case] = [
    (arrays.argsort, lambda a: np.argsort(a, kind="stable"), (A33,)),
    (lambda a: arrays.argsort(a, 0, descending=True), lambda a: np.argsort(-a, 0), (A33,)),
    (lambda a: arrays.nonzero(a > 0.3), lambda a: np.argwhere(a > 0.3), (A33,)),
    (lambda a: arrays.nonzero(a > 0.3, as_tuple=True), lambda a: np.nonzero(a > 0.3), (A33,)),
    (arrays.unique, lambda a: np.unique(a), (INDEX,)),
    (
        lambda a: a.unique(return_inverse=True, return_counts=True),
        lambda a: (np.unique(a), np.array([[2, 0, 2], [1, 1, 0]]), np.array([2, 2, 2])),
        (INDEX,),
    ),
    (
        lambda a: arrays.unique(a, return_inverse=True, dim=1),
        lambda a: (a[:, [1, 0, 2]][:, :2], np.array([1, 0, 1])),
        (np.array([[3.0, 1.0, 3.0], [2.0, 0.0, 2.0]]),),
    ),
    (arrays.unique, lambda a: np.sort(a), (np.array([np.nan, 1.0, np.nan]),)),
    (arrays.searchsorted, np.searchsorted, (STEPS, np.array([[0.5, 0.6], [-1.0, 3.0]]))),
    (
        lambda a: arrays.searchsorted(a, [[0.2, 0.9], [0.5, 3.0]], right=True),
        lambda a: np.array([[1, 1], [1, 3]]),
        (np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]),),
    ),
    (
        lambda a: arrays.searchsorted(a, 2.0, side="right", sorter=[2, 0, 1], out_int32=True),
        lambda a: np.array(2, np.int32),
        (np.array([2.0, 3.0, 1.0]),),
    ),
    (lambda a: arrays.bucketize(a, STEPS), lambda a: np.searchsorted(STEPS, a), (A23,)),
    (
        lambda a: arrays.bucketize(a, [0.0, 0.5], right=True),
        lambda a: np.searchsorted([0.0, 0.5], a, "right"),
        (np.array([0.0, 0.5]),),
    ),
    (
        lambda a: a.histc(4, -1, 1),
        lambda a: np.histogram(a, 4, (-1, 1))[0].astype(float),
        (np.array([-1.0, -0.4, 0.0, 0.9, 1.0, 1.1, np.nan]),),
    ),
    (lambda a: arrays.histc(a, bins=3), lambda a: np.array([2.0, 2.0, 2.0]), (A23,)),
    (lambda a: arrays.histc(a, 2), lambda a: np.array([0.0, 3.0]), (np.full(3, 2.0),)),
    (lambda a: arrays.histc(a, 2), lambda a: np.zeros(2), (np.zeros(0),)),
    (
        lambda a: arrays.histogram(a, 3, range=(-1.0, 1.0), weight=A23),
        lambda a: np.histogram(a, 3, (-1, 1), weights=A23),
        (A23,),
    ),
    (
        lambda a: arrays.histogram(a, [-0.5, 0.0, 0.5], density=True),
        lambda a: np.histogram(a, [-0.5, 0.0, 0.5], density=True),
        (A23,),
    ),
    (
        lambda a: arrays.isclose(a, [1.0, np.nan, np.inf, 2.1], rtol=0.1, equal_nan=True),
        lambda a: np.array([True, True, True, False]),
        (np.array([1.05, np.nan, np.inf, 1.8]),),
    ),
    (
        lambda a: Tensor([arrays.allclose(a, a), arrays.allclose(a, a + 1), a.allclose(a, 0, 0)]),
        lambda a: np.array([True, False, True]),
        (A23,),
    ),
]
"""What gives indices, counts or truth values, which no gradient flows through."""


@pytest.mark.parametrize(("mine", "theirs", "args"), INDICES)
def test_indices(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    found, expected = mine(*map(Tensor, args)), theirs(*args)
    for a, b in zip(parts_of(found), parts_of(expected), strict=True):
        assert isinstance(a, Tensor) and not a.requires_grad
        np.testing.assert_array_equal(a.data, b, strict=True)


def names_in(code: CodeType) -> set[str]:
    """The names of functions and methods that code calls, also in functions inside it."""
    inner = [names_in(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)


def test_every_function_of_arrays_has_samples() -> None:
    """Reductions have theirs among the ops'."""
    functions: list[Any] = [mine for cases in [*CASES.values(), INDICES] for mine, *_ in cases]
    sampled = {function.__name__ for function in functions}
    sampled.update(*(names_in(f.__code__) for f in functions if f.__name__ == "<lambda>"))
    assert set(arrays.__all__) - set(arrays.reduction.__all__) - sampled == set()


def parts_of(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


@pytest.mark.parametrize(("mine", "theirs", "args"), ALL_CASES)
def test_values(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    found = parts_of(mine(*[Tensor(x, requires_grad=True) for x in args]))
    expected = parts_of(theirs(*args))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a, Tensor) and a.requires_grad and a.dtype == np.float64
        assert a.shape == np.shape(b)
        np.testing.assert_allclose(a.data, b, rtol=1e-12, atol=1e-12)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("mine", "theirs", "args"), ALL_CASES)
def test_derivatives_of_first_and_second_order(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    check_grads(mine, args, order=2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("mine", "theirs", "args"), ALL_CASES)
def test_float32_stays_float32(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    if any("STEPS" in f.__code__.co_names for f in (mine, theirs) if hasattr(f, "__code__")):
        return  # positions in float64 are arrays, which do widen the result
    tensors = [Tensor(x.astype(np.float32), requires_grad=True) for x in args]
    for part in parts_of(mine(*tensors)):
        assert part.dtype == np.float32


def test_arrays_alone_give_arrays() -> None:
    assert isinstance(arrays.concatenate([A23, A23]), ndarray)
    assert isinstance(arrays.einsum("ij->j", A23), ndarray)
    assert isinstance(arrays.sort(A23).indices, ndarray)
    assert isinstance(tk.norm([3.0, 4.0]), np.floating)


def test_a_list_beside_a_float64_tensor_is_not_rounded_to_float32() -> None:
    assert arrays.concatenate([leaf([1.0]), [0.1]])[1].item() == 0.1
    assert arrays.dot(leaf([1.0]), [0.1]).item() == 0.1


def test_a_list_is_an_array_to_operators_and_to_rules() -> None:
    t = leaf([1.0, 2.0])
    assert (t - [0.1, 0.2]).tolist() == [1.0 - 0.1, 2.0 - 0.2]
    assert t.matmul([[1.0, 0.0], [0.0, 2.0]]).tolist() == [1.0, 4.0]
    assert (t.float() - [0.1, 0.2]).dtype == np.float32
    check_grads(lambda x: [2.0, 0.5] ** x + x * [3.0, 4.0] - x.matmul([1.0, 2.0]), (t.data,))
    ([0.0, 1.0] ** t).sum().backward()
    assert gradient_of(t) == [0.0, 0.0]
    for call in (lambda: t - [1j, 2], lambda: t * ["a", "b"]):
        with pytest.raises(TypeError, match=r"subtract|multiply"):
            call()


# ------------------------------------------------------------------ einsum

EINSUMS = [
    ("ii->", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("iij->ij", [(3, 3, 2)]),
    ("iji->j", [(3, 2, 3)]),
    ("iii->i", [(2, 2, 2)]),
    ("ii", [(3, 3)]),
    ("ij->", [(2, 3)]),
    ("ij->j", [(2, 3)]),
    ("ba", [(2, 3)]),
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    (" i j , j k -> k i ", [(2, 3), (3, 4)]),
    ("ij,ij->ij", [(1, 3), (2, 3)]),
    ("ij,ij->i", [(2, 1), (2, 3)]),
    ("bij,bjk->bik", [(1, 2, 3), (4, 3, 2)]),
    ("i,i->", [(1,), (3,)]),
    ("i,j,k->", [(2,), (3,), (2,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
    ("ii,i->i", [(3, 3), (3,)]),
    ("ii,ij->j", [(3, 3), (3, 2)]),
    ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)]),
    ("...ij,...jk", [(2, 1, 2, 3), (4, 3, 2)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("i...->...", [(2, 3)]),
    ("...", [(2, 3)]),
    ("a...,a...->...", [(2, 1, 3), (2, 4, 1)]),
    ("...,", [(2, 3), ()]),
    (",->", [(), ()]),
    ("Ab,bA->Ab", [(2, 3), (3, 2)]),
    ("ij,kj->ijk", [(0, 3), (2, 3)]),
]


@pytest.mark.parametrize(("subscripts", "sizes"), EINSUMS)
def test_einsum(subscripts: str, sizes: list[tuple[int, ...]]) -> None:
    args = tuple(np.asarray(RANDOM.normal(size=size)) for size in sizes)
    found = arrays.einsum(subscripts, *map(leaf, args))
    expected = np.einsum(subscripts.replace(" ", ""), *args)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.data, expected, rtol=1e-12, atol=1e-12)
    if all(x.size for x in args):
        check_grads(lambda *xs: arrays.einsum(subscripts, *xs), args, order=2)
    else:
        found.sum().backward()


@given(st.data())
def test_einsum_of_random_subscripts_is_numpys(data: st.DataObject) -> None:
    sizes = {"i": 2, "j": 3, "k": 1, "l": 2}
    terms = data.draw(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3))
    met = sorted(set("".join(terms)))
    result = data.draw(st.permutations(met).map("".join))[: data.draw(st.integers(0, 3))]
    args = [np.asarray(RANDOM.normal(size=[sizes[c] for c in term])) for term in terms]
    subscripts = ",".join(terms) + "->" + result
    leaves = [leaf(x) for x in args]
    found = arrays.einsum(subscripts, *leaves)
    np.testing.assert_allclose(found.data, np.einsum(subscripts, *args), rtol=1e-10, atol=1e-10)
    found.backward(np.ones(found.shape))
    for i, (x, t) in enumerate(zip(args, leaves, strict=True)):
        # The sum is linear in each operand: its derivative along the operand is the sum itself.
        assert t.grad is not None and t.grad.shape == x.shape
        along = float((t.grad.data * x).sum())
        assert along == pytest.approx(float(found.data.sum()), abs=1e-9), i


def test_einsum_with_lists_of_labels() -> None:
    a, b = leaf(A23), leaf(A33)
    for found in (
        arrays.einsum(a, [0, 1], b, [1, 2], [0, 2]),
        arrays.einsum(a, [0, 1], b, [1, 2]),
        arrays.einsum(a, [..., 1], b, [1, 2], [..., 2]),
        arrays.einsum("ij,jk", [a, b]),
    ):
        np.testing.assert_allclose(found.data, A23 @ A33)


def test_einsum_sums_over_an_ellipsis_left_out_of_the_result() -> None:
    """PyTorch's meaning; NumPy refuses it."""
    np.testing.assert_allclose(arrays.einsum("...i->i", leaf(A23)).data, A23.sum(0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ij,jk", A23), "expected 1 terms, one for each operand, got 2"),
        (("ijk->", A23), "expected a term for 2 axes, got 'ijk'"),
        (("i->", A23), "expected a term for 2 axes, got 'i'"),
        (("ij->ik", A23), "expected each label of the result once, and in an operand, got 'ik'"),
        (("ij->ii", A23), "expected each label of the result once, and in an operand, got 'ii'"),
        (("i1->", A23), "expected letters"),
        (("i->j->k", V3), "expected letters"),
        (("......i", A23), "expected letters"),
        (("ii->i", A23), "expected one size for 'i' in (2, 3), got 2 and 3"),
        (("ij,jk->ik", A23, A23), "ij,jk->ik"),
        ((A23, [0, -1]), "expected letters in a string or lists of numbers"),
        ((A23, [0, 52]), "lists of numbers"),
    ],
)
def test_einsum_refuses_what_does_not_fit(arguments: tuple[Any, ...], said: str) -> None:
    tensors = [leaf(x) if isinstance(x, ndarray) else x for x in arguments]
    with pytest.raises(ValueError, match="einsum") as raised:
        arrays.einsum(*tensors)
    assert said in str(raised.value)


# ------------------------------------------------------------------ choosing: who gets the gradient


def test_duplicate_indices_accumulate() -> None:
    for pick in (
        lambda t: t[[0, 0, 2]],
        lambda t: t.take([0, 0, 2]),
        lambda t: t.gather(0, [0, 0, 2]),
        lambda t: t.index_select(0, [0, 0, 2]),
        lambda t: t.take_along_axis(np.array([0, 0, 2]), 0),
    ):
        t = leaf([1.0, 2.0, 3.0])
        (pick(t) * Tensor([1.0, 10.0, 100.0])).sum().backward()
        assert gradient_of(t) == [11.0, 0.0, 100.0]
    t = leaf(A23)
    t[[0, 0], [1, 1]].sum().backward()
    assert gradient_of(t) == [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]


def test_an_index_that_changes_after_the_forward_pass_does_not_change_the_gradient() -> None:
    for pick in (
        lambda t, i: t[i],
        lambda t, i: t.take(i),
        lambda t, i: t.gather(0, i),
        lambda t, i: t.scatter_add(0, i, t),
    ):
        for kind in (np.asarray, Tensor):
            t, index = leaf([1.0, 2.0]), np.array([0, 0])
            y = (pick(t, kind(index)) * Tensor([1.0, 10.0])).sum()
            index[:] = 1
            y.backward()
            assert gradient_of(t) in ([11.0, 0.0], [2.0, 11.0])
            t.grad = None


def test_equal_elements_are_sorted_stably_both_ways() -> None:
    t = leaf([2.0, 1.0, 2.0, 1.0])
    assert t.sort().indices.tolist() == [1, 3, 0, 2]
    values, indices = t.sort(descending=True)
    assert indices.tolist() == [0, 2, 1, 3]
    assert t.argsort(descending=True).tolist() == [0, 2, 1, 3]
    assert t.topk(1).indices.tolist() == [0]
    assert t.topk(1, largest=False).indices.tolist() == [1]
    (values * Tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert gradient_of(t) == [1.0, 3.0, 2.0, 4.0]


def test_nan_is_the_largest() -> None:
    t = leaf([1.0, np.nan, 3.0])
    assert t.argsort().tolist() == [0, 2, 1]
    assert t.sort(descending=True).indices.tolist() == [1, 2, 0]
    assert t.topk(1).indices.tolist() == [1]


def test_ties_of_max_are_split_and_the_index_returning_max_takes_one() -> None:
    t = leaf([[3.0, 3.0, 1.0]])
    t.max(axis=1).sum().backward()
    assert gradient_of(t) == [[0.5, 0.5, 0.0]]
    t.grad = None
    values, indices = t.max(dim=1)
    assert (values.tolist(), indices.tolist()) == ([3.0], [0])
    values.sum().backward()
    assert gradient_of(t) == [[1.0, 0.0, 0.0]]


# ------------------------------------------------------------------ PyTorch's pairs


TIES = np.array([[2.0, 1.0, 2.0, 1.0], [5.0, np.nan, 3.0, 4.0], [1.0, 3.0, 3.0, 2.0]])
PAIRS: dict[str, tuple[Callable[..., Any], list[float], list[int]]] = {
    "max": (lambda t, **axis: t.max(**axis), [2.0, np.nan, 3.0], [0, 1, 1]),
    "min": (lambda t, **axis: t.min(**axis), [1.0, np.nan, 1.0], [1, 1, 0]),
    "median": (lambda t, **axis: t.median(**axis), [1.0, np.nan, 2.0], [3, 1, 3]),
    "mode": (lambda t, **axis: t.mode(**axis), [1.0, 3.0, 3.0], [3, 2, 2]),
    "kthvalue": (lambda t, **axis: t.kthvalue(3, **axis), [2.0, 5.0, 3.0], [0, 0, 1]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_dim_gives_pytorchs_pair_and_axis_its_values(name: str) -> None:
    call, values, indices = PAIRS[name]
    pair = call(Tensor(TIES), dim=1)
    np.testing.assert_array_equal(pair.values.data, values)
    assert (pair.indices.tolist(), pair.indices.dtype) == (indices, np.int64)
    assert call(Tensor(TIES), dim=-1, keepdim=True).indices.shape == (3, 1)
    alone = call(Tensor(TIES), axis=1)
    expected = [1.5, np.nan, 2.5] if name == "median" else values
    np.testing.assert_array_equal(alone.data, expected)
    assert call(Tensor(TIES), axis=1, keepdims=True).shape == (3, 1)
    as_function = getattr(tk, name)(TIES, *([3] if name == "kthvalue" else []), 1)
    assert isinstance(as_function.values, ndarray)
    np.testing.assert_array_equal(as_function.indices, indices)


def test_running_extremes_give_the_index_of_the_last_of_equal_elements() -> None:
    t = leaf([2.0, 2.0, 1.0, 2.0, np.nan, 3.0, np.nan])
    assert t.cummax(0).indices.tolist() == [0, 1, 1, 3, 4, 4, 6]
    assert t.cummin(0).indices.tolist() == [0, 1, 2, 2, 4, 4, 6]
    t.cummax(0).values.backward(np.arange(7.0))
    assert gradient_of(t) == [0.0, 3.0, 0.0, 3.0, 9.0, 0.0, 6.0]


def test_the_median_of_all_shares_its_gradient_and_that_along_an_axis_does_not() -> None:
    t = leaf([1.0, 2.0, 2.0, 3.0])
    t.median().backward()
    assert gradient_of(t) == [0.0, 0.5, 0.5, 0.0]
    t.grad = None
    t.median(dim=0).values.backward()
    assert gradient_of(t) == [0.0, 1.0, 0.0, 0.0]
    t.grad = None
    leaf_of_pairs = leaf([4.0, 1.0, 2.0, 3.0])
    leaf_of_pairs.median(axis=0).backward()
    assert gradient_of(leaf_of_pairs) == [0.0, 0.0, 0.5, 0.5]
    assert np.isnan(Tensor(np.zeros(0)).median().item())
    assert np.isnan(leaf([1.0, np.nan]).median().item())
    assert np.isnan(leaf(np.zeros((2, 0))).median(axis=1).data).all()
    assert leaf([np.inf, -1.0, np.inf]).median(axis=0).item() == np.inf
    assert leaf([np.inf, np.inf]).median(axis=0).item() == np.inf
    assert Tensor([1, 2]).median().item() == 1
    assert Tensor([1, 2]).median(axis=0).dtype == np.float32


@pytest.mark.parametrize("name", ["max", "min", "median", "mode", "sort", "cummax", "cummin"])
@pytest.mark.parametrize("dim", [0, -1])
def test_a_number_is_a_vector_of_one_element(name: str, dim: int) -> None:
    t = leaf(3.0)
    values, index = getattr(t, name)(dim)
    assert (values.shape, index.shape, index.item()) == ((), (), 0)
    values.backward()
    assert gradient_of(t) == 1.0
    assert t.kthvalue(1, dim).values.shape == t.topk(1, dim).indices.shape == ()


def test_the_elementwise_max_and_min() -> None:
    t = leaf([1.0, 3.0])
    t.max(Tensor([2.0, 2.0])).sum().backward()
    assert gradient_of(t) == [0.0, 1.0]
    assert tk.max(t, np.array([2.0, 2.0])).tolist() == [2.0, 3.0]
    assert t.min(other=2.0).tolist() == [1.0, 2.0]
    assert t.max().item() == 3.0


ARITHMETIC: list[Callable[[Any, Any], Any]] = [
    lambda pair, t: pair + 1,
    lambda pair, t: 1 - pair,
    lambda pair, t: t * pair,
    lambda pair, t: pair / t,
    lambda pair, t: t @ pair,
    lambda pair, t: -pair,
    lambda pair, t: np.ones(3) * pair,
    lambda pair, t: np.float64(2.0) - pair,
    lambda pair, t: pair > 0,
    lambda pair, t: pair == 1.0,
    lambda pair, t: pair != t,
    lambda pair, t: t == pair,
    lambda pair, t: float(pair),
    lambda pair, t: np.sum(pair),
    lambda pair, t: tk.exp(pair),
    lambda pair, t: tk.where(t > 0, pair, t),
    lambda pair, t: pair.sum(),
    lambda pair, t: pair.shape,
]


@pytest.mark.parametrize("compute", ARITHMETIC)
def test_arithmetic_on_a_pair_says_axis(compute: Callable[[Any, Any], Any]) -> None:
    t = leaf(A23)
    with pytest.raises((TypeError, AttributeError), match="Write axis= for the values alone"):
        compute(t.max(0), t)


def test_transformations_of_a_pair() -> None:
    """The indices are integers: their derivative is 0."""
    x, v = np.array([[1.0, 5.0], [3.0, 2.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    y, along = tk.jvp(lambda t: t.max(1), (x,), (v,))
    assert (y.values.tolist(), y.indices.tolist()) == ([5.0, 3.0], [1, 0])
    assert (along.values.tolist(), along.indices.tolist()) == ([2.0, 3.0], [0, 0])
    _, pull_back = tk.vjp(lambda t: t.max(1), x)
    (g,) = pull_back((np.array([10.0, 100.0]), np.zeros(2, np.int64)))
    assert g.tolist() == [[0.0, 10.0], [100.0, 0.0]]
    assert tk.jacobian(lambda t: t.max(1))(x).values[1].tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_a_pair_is_still_a_tuple() -> None:
    pair = leaf(A23).max(dim=1)
    values, indices = pair
    assert pair == (values, indices)
    assert pair != (values,)
    assert pair == copy.copy(pair) and hash(pair) == hash((values, indices))
    found = pickle.loads(pickle.dumps(Tensor(A23).max(dim=1)))
    assert found.indices.tolist() == indices.tolist()
    assert not hasattr(pair, "__array_interface__")


@pytest.mark.parametrize("name", ["max", "min"])
def test_return_indices_works_for_this_release(name: str) -> None:
    largest = getattr(leaf(TIES[::2]), name)
    with pytest.warns(DeprecationWarning, match=f"{name}: return_indices= is for one rel") as found:
        pair = largest(axis=1, return_indices=True)
    assert found[0].filename == __file__
    assert pair.indices.tolist() == largest(1).indices.tolist()
    with pytest.warns(DeprecationWarning):
        assert largest(1, return_indices=False).tolist() == largest(axis=1).tolist()
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(TypeError, match=f"{name}: expected one axis, got None"),
    ):
        largest(return_indices=True)


def test_norm_at_zero_has_gradient_zero_also_where_only_some_elements_are_zero() -> None:
    for p in ("fro", 0, 1, 2, 3, 1.5, 0.5, -1, np.inf, -np.inf):
        t = leaf([0.0, 0.0])
        t.norm(p).backward() if p != 0 else (t.norm(p) + t.sum() * 0).backward()
        assert gradient_of(t) == [0.0, 0.0]
    for p in (1, 1.5, 3, 0.5):
        t = leaf([0.0, 2.0])
        t.norm(p).backward()
        assert gradient_of(t) == pytest.approx([0.0, 1.0], abs=1e-14)
        assert gradient_of(t)[0] == 0


@pytest.mark.parametrize("p", ["fro", 1, 3, 0.5, -1, np.inf])
def test_norm_at_zero_makes_no_nan_on_the_way(p: Any) -> None:
    t = leaf([[0.0, 0.0], [1.0, 2.0]])
    with detect_anomaly():
        (t.norm(p, dim=1) * Tensor([0.0, 1.0])).sum().backward()
    assert gradient_of(t)[0] == [0.0, 0.0]


def test_nonzero_is_detached() -> None:
    t = leaf([[0.0, 2.0], [3.0, 0.0]])
    assert t.nonzero().tolist() == [[0, 1], [1, 0]]
    assert [i.tolist() for i in t.nonzero(as_tuple=True)] == [[0, 1], [1, 0]]
    assert Tensor(5.0).nonzero().shape == (1, 0)
    assert not t.nonzero().requires_grad


def test_clip_between_tensors_without_a_graph() -> None:
    with no_grad():
        assert Tensor([1.0, 5.0]).clip(min=Tensor(2.0)).tolist() == [2.0, 5.0]
    with pytest.raises(ValueError, match="clip"):
        leaf([1.0]).clip()


def test_nan_to_num_stops_the_gradient_where_it_replaces() -> None:
    t = leaf([np.nan, np.inf, -np.inf, 2.0])
    y = arrays.nan_to_num(t, nan=7.0, posinf=8.0)
    assert y.tolist() == [7.0, 8.0, float(np.finfo(np.float64).min), 2.0]
    y.backward(np.ones(4))
    assert gradient_of(t) == [0.0, 0.0, 0.0, 1.0]


def test_of_equal_indices_scatter_takes_the_last_and_its_gradient() -> None:
    t, src = leaf([1.0, 2.0, 3.0]), leaf([10.0, 20.0, 30.0])
    y = t.scatter(0, [2, 0, 2], src)
    assert y.tolist() == [20.0, 2.0, 30.0]
    (y * Tensor([1.0, 10.0, 100.0])).sum().backward()
    assert gradient_of(t) == [0.0, 10.0, 0.0] and gradient_of(src) == [0.0, 1.0, 100.0]


def test_equal_extremes_share_a_scattered_gradient() -> None:
    for start, expected in (([5.0, 0.0], [1 / 3, 1.0]), ([-np.inf, np.nan], [0.0, 1.0])):
        t, src = leaf(start), leaf([5.0, 5.0, 1.0])
        t.scatter_reduce(0, [0, 0, 0], src, "amax").sum().backward()
        assert gradient_of(t) == expected
        share = 1 / 3 if start[0] == 5 else 0.5
        assert gradient_of(src) == [share, share, 0.0]


def test_a_quantile_of_nan_is_nan_and_one_of_equal_infinities_is_not() -> None:
    t = leaf([[1.0, np.nan, 0.0], [np.inf, np.inf, 0.0], [1.0, 2.0, -np.inf]])
    y = t.quantile([0.25, 0.75, 1.0], dim=1)
    expected = [[np.nan, np.inf, -np.inf], [np.nan, np.inf, 1.5], [np.nan, np.inf, 2.0]]
    np.testing.assert_array_equal(y.data, expected)
    y[1, 2].backward()
    assert gradient_of(t)[2] == [0.5, 0.5, 0.0]


def test_means_and_sums_without_nan() -> None:
    t = leaf([[np.nan, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(t.nanmean(1).data, [np.nan, 1.0])
    assert t.nansum(1).tolist() == [0.0, 1.0]
    with detect_anomaly():
        t.nansum().backward()
    assert gradient_of(t) == [[0.0, 0.0], [1.0, 0.0]]
    assert Tensor([1, 2]).nanmean().item() == 1.5
    assert Tensor([1, 2]).nansum(dtype=np.float64).dtype == np.float64


def test_covariances_without_degrees_of_freedom_are_nan() -> None:
    assert np.isnan(leaf([[1.0], [2.0]]).cov().data).all()
    assert np.isnan(leaf([1.0, 2.0]).cov(fweights=[0, 1]).item())
    assert leaf([1.0, 2.0]).corrcoef().item() == 1.0


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: arrays.concatenate([]), ValueError, "concatenate: expected at least one"),
        (lambda t: arrays.stack([]), ValueError, "stack: expected at least one"),
        (lambda t: arrays.concatenate([t, t[0]]), ValueError, "concatenate(float64(2, 3)"),
        (lambda t: arrays.stack([t, t[0]]), ValueError, "stack(float64(2, 3)"),
        (lambda t: arrays.concatenate([t, t], 2), IndexError, "concatenate"),
        (lambda t: arrays.concatenate([t, "ab"]), TypeError, "real numbers"),
        (lambda t: t.take([6]), IndexError, "take: expected indices from -6 to 5, got 6"),
        (lambda t: t.take([-7]), IndexError, "take: expected indices from -6 to 5, got -7"),
        (
            lambda t: t.gather(0, [[-3]]),
            IndexError,
            "gather: expected indices from -2 to 1, got -3",
        ),
        (lambda t: t.take([0], 2), IndexError, "take: expected axis in [-2, 2), got 2"),
        (lambda t: t.take([0.5]), TypeError, "take: expected integer indices, got float64"),
        (lambda t: t.take([True]), TypeError, "take: expected integer indices, got bool"),
        (
            lambda t: t.gather(1, [[3], [0]]),
            IndexError,
            "gather: expected indices from -3 to 2, got 3",
        ),
        (lambda t: t.gather(1, [0]), ValueError, "none but axis 1 larger, got (1,)"),
        (lambda t: t.gather(1, [[0]] * 3), ValueError, "none but axis 1 larger, got (3, 1)"),
        (lambda t: t.gather(0, [[0.0]]), TypeError, "gather: expected integer indices"),
        (
            lambda t: t.scatter_add(1, [[0, 1]], t[:, :1]),
            ValueError,
            "expected src to cover index (1, 2)",
        ),
        (lambda t: t.scatter_add(1, [[9]], t), IndexError, "from -3 to 2, got 9"),
        (lambda t: t.index_select(0, [[0]]), IndexError, "index_select: expected a vector"),
        (lambda t: t.take_along_axis([0], 0), ValueError, "expected indices with 2 axes, got (1,)"),
        (lambda t: t.topk(4), ValueError, "topk: expected k from 0 to 3, got 4"),
        (lambda t: t.sort(2), IndexError, "sort: expected axis in [-2, 2), got 2"),
        (lambda t: t.max((0, 0)), TypeError, "max: expected one axis, got (0, 0). Write axis="),
        (lambda t: t[:0].max(0), ValueError, "max: expected an element along axis 0"),
        (lambda t: t[:0].mode(0), ValueError, "mode: expected an element along axis 0"),
        (lambda t: t.kthvalue(0), ValueError, "kthvalue: expected k from 1 to 3, got 0"),
        (lambda t: t.kthvalue(4), ValueError, "kthvalue: expected k from 1 to 3, got 4"),
        (
            lambda t: t.split([1, 1], 1),
            ValueError,
            "split: expected sizes that add up to 3, got [1, 1]",
        ),
        (lambda t: t.split(0), ValueError, "split: expected a size of at least 1, got 0"),
        (lambda t: t.chunk(0), ValueError, "chunk: expected at least 1 chunk, got 0"),
        (lambda t: t.repeat(2), ValueError, "repeat: expected a count for each axis of (2, 3)"),
        (lambda t: t.tile(-1), ValueError, "tile: expected counts"),
        (
            lambda t: t.repeat_interleave([1, 2], 1),
            ValueError,
            "repeat_interleave: expected repeats",
        ),
        (lambda t: t[None].diag(), ValueError, "diag: expected a vector or a matrix"),
        (lambda t: arrays.pad(t, 1, "mean"), ValueError, "pad: expected mode"),
        (lambda t: arrays.pad(t, -1), ValueError, "pad"),
        (lambda t: arrays.tensordot(t, t, 1), ValueError, "tensordot: expected equal sizes"),
        (lambda t: arrays.tensordot(t, t, 3), IndexError, "tensordot"),
        (lambda t: arrays.dot(t, t), ValueError, "dot: expected axis -1 of the first and axis -2"),
        (lambda t: arrays.cross(t, t[:, :1]), ValueError, "cross: expected vectors of 3"),
        (lambda t: arrays.meshgrid(t, t), ValueError, "meshgrid: expected vectors"),
        (lambda t: arrays.meshgrid(t[0], indexing="yx"), ValueError, "meshgrid: expected indexing"),
        (
            lambda t: arrays.gradient(t, edge_order=2),
            ValueError,
            "gradient: expected at least 3 samples",
        ),
        (
            lambda t: arrays.gradient(t, spacing=[1.0]),
            ValueError,
            "gradient: expected 2 spacings, got 1",
        ),
        (lambda t: arrays.diff(t, -1), ValueError, "diff: expected n of at least 0, got -1"),
        (lambda t: arrays.convolve(t, t), ValueError, "convolve: expected two vectors"),
        (lambda t: arrays.convolve(t[0], t[0], "half"), ValueError, "convolve: expected mode"),
        (lambda t: t.norm("l2"), ValueError, "norm: expected a number as ord, got 'l2'"),
        (lambda t: arrays.concatenate([t, [1j]]), TypeError, "complex"),
        (lambda t: t.moveaxis(5, 0), IndexError, "moveaxis: expected axis in [-2, 2), got 5"),
        (lambda t: t.mm(t), ValueError, "mm: expected a matrix and a matrix that fit, got (2, 3)"),
        (lambda t: t.mm(t[0]), ValueError, "mm: expected a matrix and a matrix that fit"),
        (lambda t: t.mv(t), ValueError, "mv: expected a matrix and a vector that fit"),
        (lambda t: t.bmm(t), ValueError, "bmm: expected a batch of matrices"),
        (
            lambda t: arrays.bmm(t[None], arrays.stack([t.T, t.T])),
            ValueError,
            "bmm: expected batches of one size, got (1, 2, 3) and (2, 3, 2)",
        ),
        (lambda t: t.addmm(t, t), ValueError, "addmm: expected a matrix and a matrix that fit"),
        (lambda t: t.addmm(t, t.T), ValueError, "broadcast_to"),
        (lambda t: t.lerp(t[:, :2], 0.5), ValueError, "subtract"),
        (lambda t: t.rot90(1, (0, 0)), ValueError, "rot90: expected two different axes"),
        (lambda t: t.rot90(1, (0, 2)), IndexError, "rot90: expected axis in [-2, 2), got 2"),
        (lambda t: t.scatter(1, [[0]]), TypeError, "scatter: expected src or value, got neither"),
        (lambda t: t.scatter(1, [[3]], 1.0), IndexError, "scatter: expected indices from -3 to 2"),
        (lambda t: t.scatter(1, [[0.5]], 1.0), TypeError, "scatter: expected integer indices"),
        (lambda t: t.scatter(1, [[0]], 1.0, reduce="max"), ValueError, "scatter: expected reduce"),
        (
            lambda t: t.scatter_reduce(1, [[0]], t, "max"),
            ValueError,
            'scatter_reduce: expected reduce "sum"',
        ),
        (
            lambda t: t.scatter_reduce(0, [[0, 1], [0, 1]], t[:, :1], "sum"),
            ValueError,
            "scatter_reduce: expected src to cover index (2, 2), got (2, 1)",
        ),
        (lambda t: t.quantile(1.5), ValueError, "quantile: expected q in [0, 1], got"),
        (lambda t: t.quantile(0.5, interpolation="x"), ValueError, "quantile: expected interpol"),
        (lambda t: t[:0].quantile(0.5), ValueError, "quantile: expected at least one element"),
        (lambda t: t[None].cov(), ValueError, "cov: expected at most 2 axes"),
        (lambda t: t.cov(aweights=[1.0]), ValueError, "cov: expected aweights of shape (3,)"),
        (lambda t: t.histc(0), ValueError, "histc: expected bins >= 1 and min <= max"),
        (lambda t: t.histc(2, 3, 1), ValueError, "histc: expected bins >= 1 and min <= max"),
        (
            lambda t: (t + np.inf).histc(2),
            ValueError,
            "expected finite elements, or a min and a max",
        ),
        (lambda t: t.isclose(t, -1), ValueError, "isclose: expected tolerances of at least 0"),
        (lambda t: arrays.bucketize(t, t), ValueError, "bucketize: expected a vector of bound"),
        (lambda t: arrays.searchsorted(t, t[0]), ValueError, "searchsorted: expected a vector, or"),
        (
            lambda t: arrays.searchsorted(t, t, side="top"),
            ValueError,
            "searchsorted: expected side",
        ),
        (
            lambda t: arrays.searchsorted(t, t, side="left", right=True),
            ValueError,
            "searchsorted: expected side",
        ),
        (
            lambda t: arrays.searchsorted(t[0], t[0], sorter=[0]),
            ValueError,
            "searchsorted: expected a sorter of shape (3,), got (1,)",
        ),
    ],
)
def test_bad_input_names_the_operation(
    call: Callable[[Tensor], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        call(leaf(A23))
    assert said in str(raised.value)


def test_diff_takes_its_ends_by_position_as_numpy_and_pytorch_do() -> None:
    x = np.arange(6.0).reshape(2, 3) ** 2
    found = tk.diff(Tensor(x), 1, 1, np.ones((2, 1)), np.zeros((2, 2)))
    assert np.array_equal(found.data, np.diff(x, 1, 1, np.ones((2, 1)), np.zeros((2, 2))))


@pytest.mark.parametrize("ends", [{}, {"prepend": np.ones((1, 3))}, {"append": 2.0}])
def test_no_differences_are_the_input(ends: dict[str, Any]) -> None:
    x = np.arange(6.0).reshape(2, 3)
    for found in (
        tk.diff(Tensor(x), n=0, axis=0, **ends),
        np.diff(Tensor(x), n=0, axis=0, **ends),  # type: ignore[arg-type, call-overload]
        tk.diff(x, n=0, axis=0, **ends),
    ):
        assert np.array_equal(np.asarray(found), np.diff(x, n=0, axis=0, **ends))


def test_a_mean_without_nan_takes_its_dtype() -> None:
    assert tk.nanmean(tk.tensor([1, 2, 3])).dtype == np.float32
    assert tk.nanmean(tk.tensor([1.0, np.nan]), dtype=np.float64).dtype == np.float64


def test_histograms_count_in_float64_and_have_edges_of_the_elements_dtype() -> None:
    """0.7 is below 7 / 10 in float32; times 10 it would be rounded up to 7."""
    x = tk.tensor([0.7], np.float32)
    assert tk.histc(x, bins=10, min=0, max=1).tolist() == [0.0] * 6 + [1.0] + [0.0] * 3
    counts, edges = tk.histogram(x.data, bins=3)
    assert np.asarray(edges).dtype == np.float32 and np.asarray(counts).sum() == 1


def test_numpy_writes_two_results_into_arrays() -> None:
    fractions, wholes = np.zeros(2, np.float32), np.zeros(2, np.float32)
    np.modf(tk.tensor([1.5, -2.25]), out=(fractions, wholes))
    assert fractions.tolist() == [0.5, -0.25] and wholes.tolist() == [1.0, -2.0]


def test_norms_of_the_least_integer_and_without_keepdim() -> None:
    assert tk.linalg.vector_norm(np.array([-128, 0], np.int8), 3) == 128
    assert tk.tensor([3.0, 4.0]).norm(dim=0).shape == ()


def test_the_third_derivative_of_a_power_at_base_0_is_the_limit_from_above() -> None:
    """d^3 a^b / da^2 db = (2 b - 1) a^(b - 2) + ..., which is 1 / a at b = 1."""
    a = tk.tensor(0.0, np.float64, requires_grad=True)
    b = tk.tensor(1.0, np.float64, requires_grad=True)
    found = a**b
    for x in (a, a, b):
        (found,) = tk.autograd.grad(found, x, create_graph=True)
    assert found.item() == np.inf
