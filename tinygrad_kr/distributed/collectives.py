"""Exchanges between ranks as differentiable ops: in eager mode, in backward and when compiled.

Every rank has a loss of its own; the gradient is that of their sum. So the cotangent of a sum over
the ranks is the sum of the ranks' cotangents.
"""

from __future__ import annotations

from typing import Any

from numpy import ndarray

from tinygrad_kr.distributed.link import Link
from tinygrad_kr.ops.op import op


def _reduce(x: ndarray, *, link: Link, reduction: str, what: str) -> ndarray:
    return link.reduced(x, reduction, what)


def _reduced_cotangent(g: Any, y: Any, x: Any, *, link: Link, reduction: str, what: str) -> Any:
    if reduction not in ("mean", "sum"):
        raise NotImplementedError(
            f"all_reduce: expected 'mean' or 'sum' where a gradient flows, got {reduction!r}. Call "
            "it under tk.no_grad()"
        )
    return all_reduce(g, link=link, reduction=reduction, what=f"backward of {what}")


all_reduce = op(
    _reduce, _reduced_cotangent, name="all_reduce", variable="all_reduce", promote=False
)
all_reduce.has_effect = True
"""The mean, sum, max or min of a Tensor over the ranks."""


def _average(flat: ndarray, *, gradients: Any) -> ndarray:
    averaged: ndarray = gradients.averaged(flat)
    return averaged


def _averaged_cotangent(g: Any, y: Any, flat: Any, *, gradients: Any) -> Any:
    return all_reduce(g, link=gradients.link, reduction="mean", what="backward of a gradient")


average_gradients = op(
    _average, _averaged_cotangent, name="average_gradients", variable="average_gradients",
    promote=False,
)  # fmt: skip
average_gradients.has_effect = True
"""The mean over the ranks of all gradients of an optimizer, in one vector."""
