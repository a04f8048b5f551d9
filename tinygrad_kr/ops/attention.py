"""Scaled dot-product attention: one record for all queries, so that their scores need no memory.

The composition below is what NumPy computes, and what derivatives of derivatives are made of. In C
the scores of some queries at a time stay in the cache, and backward computes them again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.elementwise import equal, where
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.network import softmax
from tinygrad_kr.ops.op import Op, in_float32, op
from tinygrad_kr.ops.reduction import max_

# ------------------------------------------------------------------ composed


def probabilities(q: Any, k: Any, mask: Any, scale: float, is_causal: bool) -> Any:
    """softmax(q k^T scale + mask) along the keys; 0 for a query whose scores are all -inf."""
    scores = matmul(q, k.mT) * scale
    if is_causal:
        past = np.arange(q.shape[-2])[:, None] >= np.arange(k.shape[-2])
        scores = where(past, scores, -math.inf)
    if mask is not None:
        added = mask.dtype.kind == "f"
        scores = scores + mask if added else where(mask, scores, -math.inf)
    if not math.prod(scores.shape):
        return scores
    blind = equal(max_(scores, axis=-1, keepdims=True), -math.inf)
    return where(blind, 0.0, softmax(where(blind, 0.0, scores), axis=-1))


def _masks(masks: tuple[Any, ...], dropped: bool) -> tuple[Any, Any]:
    """What is added to or chosen of the scores, and by what the probabilities are multiplied."""
    keep = masks[-1] if dropped else None
    rest = masks[:-1] if dropped else masks
    return (rest[0] if rest else None), keep


@in_float32
def _attention(
    q: ndarray,
    k: ndarray,
    v: ndarray,
    *masks: ndarray,
    scale: float,
    is_causal: bool = False,
    dropped: bool = False,
) -> ndarray:
    """(softmax(q k^T scale + mask) * keep) v.

    q (..., queries, features), k (..., keys, features), v (..., keys, outputs). masks: the mask, if
    there is one, of booleans (True: the query sees the key) or of floats that are added; then, if
    `dropped`, `keep`. Both broadcast to (..., queries, keys).
    """
    mask, keep = _masks(masks, dropped)
    p = probabilities(q, k, mask, scale, is_causal)
    y = matmul(p if keep is None else p * keep, v)
    out = _result(q, y.shape, y.dtype)
    out[...] = y
    return out


def _result(q: ndarray, shape: tuple[int, ...], dtype: Any) -> ndarray:
    """Memory for a result: heads beside each other where those of the queries are."""
    if q.ndim == len(shape) == 4 and 0 < q.strides[1] < q.strides[2]:
        batch, heads, queries, outputs = shape
        return np.empty((batch, queries, heads, outputs), dtype).swapaxes(1, 2)
    return np.empty(shape, dtype)


def _slopes(
    g: Any,
    q: Any,
    k: Any,
    v: Any,
    *masks: Any,
    scale: float,
    is_causal: bool = False,
    dropped: bool = False,
) -> list[Any]:
    """The cotangents of q, k, v and the masks, each with all first axes of `g`."""
    mask, keep = _masks(masks, dropped)
    p, kept_p = probabilities(q, k, mask, scale, is_causal), matmul(g, v.mT)
    kept = p if keep is None else p * keep
    dp = kept_p if keep is None else kept_p * keep
    scores = p * (dp - (p * dp).sum(axis=-1, keepdims=True))
    found = [matmul(scores * scale, k), matmul(scores.mT * scale, q), matmul(kept.mT, g)]
    found += [] if mask is None else [scores]
    return found if keep is None else [*found, kept_p * p]


def _flat_slopes(g: ndarray, *inputs: Any, **params: Any) -> ndarray:
    """The cotangents of q, k and v, one after the other."""
    return kernels.flattened(_slopes(g, *inputs, **params)[:3])


def _attention_vjp(
    g: Any, y: Any, q: Any, k: Any, v: Any, *masks: Any, needs: tuple[bool, ...], **params: Any
) -> list[Any]:
    if any(needs[3:]) or kernels.is_differentiated(g, q, k, v, *masks):
        return _slopes(g, q, k, v, *masks, **params)
    shapes = [(*g.shape[:-2], *x.shape[-2:]) for x in (q, k, v)]
    found = kernels.split(attention_vjp(g, q, k, v, *masks, **params), shapes)
    return [*found, *[None] * len(masks)]


# ------------------------------------------------------------------ in C

_MIN_WORK = 2**16
"""Threshold: multiply-adds from which the kernel is built and called."""


def _attention_in_c(
    q: Any,
    k: Any,
    v: Any,
    *masks: Any,
    scale: float,
    is_causal: bool = False,
    dropped: bool = False,
) -> ndarray | None:
    """The result, or None for NumPy."""
    call = _call_of((q, k, v), masks, dropped, is_causal)
    if call is None:
        return None
    y = _result(q, (*call.batch, q.shape[-2], v.shape[-1]), q.dtype)
    call.run("attention", scale, y=y)
    return y


def _attention_vjp_in_c(
    g: Any,
    q: Any,
    k: Any,
    v: Any,
    *masks: Any,
    scale: float,
    is_causal: bool = False,
    dropped: bool = False,
) -> ndarray | None:
    """The cotangents, one after the other, or None for NumPy."""
    call = _call_of((q, k, v, g), masks, dropped, is_causal)
    if call is None or g.shape != (*call.batch, q.shape[-2], v.shape[-1]):
        return None
    sizes = [math.prod((*call.batch, *x.shape[-2:])) for x in (q, k, v)]
    flat = np.empty(sum(sizes), q.dtype)
    starts = [kernels.place(flat)]
    for size in sizes[:2]:
        starts.append(starts[-1] + size * flat.itemsize)
    call.run("attention_vjp", scale, g=g, results=starts)
    return flat


def _call_of(
    arrays: tuple[Any, ...], masks: tuple[Any, ...], dropped: bool, is_causal: bool
) -> _Call | None:
    """The call of a kernel; None for arrays that NumPy computes."""
    mask, keep = _masks(masks, dropped)
    q, k, v, *_ = arrays
    floats = [*arrays, *([] if keep is None else [keep])]
    if mask is not None:
        if type(mask) is not ndarray or mask.dtype.kind not in "bf":
            return None
        floats += [mask] * (mask.dtype.kind == "f")
    if min(x.ndim for x in arrays) < 2:
        return None
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        return None
    given = [x for x in (q, k, v, mask, keep) if x is not None]
    batch = np.broadcast_shapes(*(x.shape[:-2] for x in given))
    work = math.prod(batch) * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    if work < _MIN_WORK or (found := kernels.kernels("attention", *floats)) is None:
        return None
    return _Call(found, q, k, v, mask, keep, batch, is_causal, work)


class _Call:
    """The numbers and addresses that a kernel of `attention.h` takes."""

    def __init__(
        self,
        library: Any,
        q: ndarray,
        k: ndarray,
        v: ndarray,
        mask: ndarray | None,
        keep: ndarray | None,
        batch: tuple[int, ...],
        is_causal: bool,
        work: int,
    ) -> None:
        self.library, self.batch, self.work = library, batch, work
        self.pair = (1, 1, *batch)[-2:] if len(batch) < 3 else (math.prod(batch[:-1]), batch[-1])
        queries, keys = q.shape[-2], k.shape[-2]
        self.sizes = [*self.pair, queries, keys, q.shape[-1], v.shape[-1], int(is_causal)]
        scores = (queries, keys)
        self.rows = {
            name: self.dense_rows(x, x.shape[-2:]) for name, x in zip("qkv", (q, k, v), strict=True)
        }
        if keep is not None:
            self.rows["keep"] = self.dense_rows(keep, scores)
        self.mask = None if mask is None else self.spread(mask, scores)

    def spread(self, x: ndarray, shape: tuple[int, ...]) -> ndarray:
        """An array with two first axes, (batches, heads, *shape), without a copy if that can be."""
        x = np.broadcast_to(x, (*self.batch, *shape)).reshape(*self.pair, *shape)
        whole = x.flags.aligned and not any(step % x.itemsize for step in x.strides)
        return x if whole else x.copy()

    def dense_rows(self, x: ndarray, shape: tuple[int, ...]) -> ndarray:
        """The same with rows whose elements lie side by side."""
        x = self.spread(x, shape)
        return x if x.strides[-1] == x.itemsize else x.copy("C")

    def run(
        self, name: str, scale: float, y: Any = None, g: Any = None, results: Any = (0, 0, 0)
    ) -> None:
        """Call the kernel. y: the result. results: the addresses of the cotangents."""
        rows: dict[str, Any] = dict(self.rows)
        if g is not None:
            rows["g"] = self.dense_rows(g, g.shape[-2:])
        if y is not None:
            rows["y"] = y.reshape(*self.pair, *y.shape[-2:])
        added = self.mask is not None and self.mask.dtype.kind == "f"
        if added:
            rows["bias"] = self.mask
        given = list(self.sizes)
        for each in ("q", "k", "v", "g", "bias", "keep", "y"):
            given += _strides(rows.get(each), 3)
        given += _strides(None if added else self.mask, 4)
        given.append(self.mask.strides[3] // self.mask.itemsize if added else 0)  # type: ignore[union-attr]
        pairs = self.pair[0] * self.pair[1]
        kernels.run(getattr(self.library, name), [*given, *results], pairs, self.work, scale)


def _strides(x: ndarray | None, axes: int) -> list[int]:
    """The address of an array and its first strides, in elements."""
    if x is None:
        return [0] * (axes + 1)
    return [kernels.place(x), *(step // x.itemsize for step in x.strides[:axes])]


attention: Op = op(
    _attention,
    _attention_vjp,
    one_rule_for_all=True,
    name="scaled_dot_product_attention",
    variable="attention",
    kernel=_attention_in_c,
)
attention_vjp: Op = op(_flat_slopes, name="attention_vjp", kernel=_attention_vjp_in_c)
