"""Gradient clipping: limits the step that one bad batch can cause."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import RowGradient
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.ops.elementwise import clip, where
from tinygrad_kr.ops.node import constant, replace_gradient
from tinygrad_kr.ops.op import op
from tinygrad_kr.ops.shape import stack
from tinygrad_kr.ops.tracing import Tracer, tracing
from tinygrad_kr.tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients so that together, as one vector, they are no longer than `max_norm`.

        g <- g min(1, max_norm / (|g| + 1e-6))

    parameters: a Tensor, or Tensors; those without a gradient are skipped.
    max_norm: the largest norm, at least 0.
    norm_type: p of the norm (sum |g|^p)^(1/p), above 0; `inf` for the largest |g|.
    error_if_nonfinite: raise for a norm of inf or NaN. Otherwise the formula is applied: with inf
        finite gradients become 0 and infinite ones NaN, with NaN all become NaN.

    Returns the norm before clipping, a Tensor of shape (). `.grad` is replaced, never written into.
    Raises ValueError for max_norm < 0 or norm_type <= 0, RuntimeError for a norm that is not
    finite.
    Source: Pascanu et al., On the difficulty of training recurrent neural networks (2013).

    >>> w = tk.tensor([0.0, 0.0], requires_grad=True)
    >>> (w * np.array([3.0, 4.0], np.float32)).sum().backward()
    >>> optim.clip_grad_norm_([w], max_norm=1.0)
    Tensor(5.)
    >>> w.grad.numpy().round(4)
    array([0.6, 0.8], dtype=float32)
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: expected max_norm >= 0, got {max_norm}.")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: expected norm_type > 0 or inf, got {norm_type}.")
    owners = _with_gradients(parameters)
    if tracer := tracing():
        return _scaled_while_traced(tracer, owners, max_norm, norm_type, error_if_nonfinite)
    with np.errstate(all="ignore"):
        gradients = [g for p in owners if (g := p._grad) is not None]
        total = _norm([_norm_of(_elements(g), order=norm_type) for g in gradients], norm_type)
        if error_if_nonfinite:
            _check_finite(total, max_norm)
        factor = max_norm / (total + 1e-6)
        if not factor >= 1:
            _replace(owners, lambda g: g * factor)
    dtype = owners[0].dtype if owners else np.float32
    return Tensor(np.asarray(total, dtype))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value].

    parameters: a Tensor, or Tensors; those without a gradient are skipped.

    `.grad` is replaced, never written into. Raises ValueError for clip_value < 0.

    >>> w = tk.tensor([1.0, 1.0], requires_grad=True)
    >>> (w * np.array([3.0, 0.5], np.float32)).sum().backward()
    >>> optim.clip_grad_value_([w], 1.0)
    >>> w.grad
    Tensor([1. , 0.5])
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: expected clip_value >= 0, got {clip_value}.")
    owners = _with_gradients(parameters)
    if tracer := tracing():
        with no_grad():
            _rewrite(tracer, owners, lambda g: clip(g, low=-clip_value, high=clip_value))
    else:
        _replace(owners, lambda g: np.clip(g, -clip_value, clip_value))


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    given: list[Any] = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if tracer := tracing():
        for p in given:
            tracer.read_gradient(p)
    return [p for p in given if p._grad is not None]


def _replace(owners: list[Any], change: Callable[[ndarray], Any]) -> None:
    """Replace every gradient; where another thread has added to one meanwhile, compute it again."""
    for p in owners:
        stored = False
        while not stored and (before := p._grad) is not None:
            if type(before) is RowGradient:
                after: Any = before.mapped(change)
            else:
                after = constant(np.asarray(change(before._data)))
            stored = replace_gradient(p, before, after)


def _elements(g: Any) -> Any:
    """A gradient's elements; of a sparse one those of its rows."""
    return g.summed()[1] if type(g) is RowGradient else g._data


def _check_finite(total: Any, max_norm: float) -> None:
    if not math.isfinite(total):
        raise RuntimeError(
            f"clip_grad_norm_: expected a finite norm to scale to {max_norm}, got {total}. Find "
            "its source with tk.detect_anomaly()"
        )


# ------------------------------------------------------------------ under `compile`


def _scaled_while_traced(
    tracer: Tracer, owners: list[Any], max_norm: float, norm_type: float, error_if_nonfinite: bool
) -> Tensor:
    """`clip_grad_norm_` in ops on Tensors."""
    dtype = owners[0].dtype if owners else np.float32
    if not owners:
        return Tensor(np.zeros((), dtype))
    with no_grad():
        sizes = [_gradient_norm(p._grad, order=norm_type) for p in owners]
        total = _gradient_norm(stack(*sizes), order=norm_type)
        if error_if_nonfinite:
            tracer.check(_check_finite, total, max_norm)
            _check_finite(total._data, max_norm)
        factor = max_norm / (total + 1e-6)
        factor = where(factor >= 1, 1.0, factor)
        _rewrite(tracer, owners, lambda g: g * factor)
        norm: Tensor = total.astype(dtype)
    return norm


def _rewrite(tracer: Tracer, owners: list[Any], change: Callable[[Any], Any]) -> None:
    for p in owners:
        tracer.touch_gradient(p)
        p._grad = change(p._grad)


# ------------------------------------------------------------------ norms of arrays


def _norm_of(g: ndarray, *, order: float) -> float:
    """The norm of an array, in plain arithmetic where that neither overflows nor vanishes."""
    if order == 2 and g.dtype.itemsize >= 4:
        flat = g.ravel()
        square = float(flat @ flat)
        if 1e-30 < square < math.inf:
            return math.sqrt(square)
    return _norm(np.abs(g, dtype=np.float64).ravel(), order)


def _norm(sizes: Any, order: float) -> float:
    """(sum s^p)^(1/p) of numbers s >= 0, in units of the largest."""
    sizes = np.asarray(sizes, np.float64)
    largest = float(sizes.max(initial=0.0))
    if order == math.inf or largest in (0.0, math.inf) or math.isnan(largest):
        return largest
    return float(largest * ((sizes / largest) ** order).sum() ** (1 / order))


_gradient_norm = op(_norm_of, promote=False, variable="_gradient_norm")
