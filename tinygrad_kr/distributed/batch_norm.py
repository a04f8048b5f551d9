"""Batch normalisation by the mean and variance of the batches of all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_kr.arrays.joining import concatenate
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor


def synchronised_batch_norm(
    total: Callable[[Any], Any],
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    momentum: float,
    eps: float,
) -> Any:
    """`F.batch_norm` in training, with the statistics of the whole batch; and its gradient.

        mean = total(sum x) / n      var = total(sum (x - mean)^2) / n      n = total(count)

    total: the sum of an array over the ranks, through which gradients flow. Batches may differ in
    size between ranks, and have one value per channel. float16 is summed and counted in float32.

    Raises ValueError for shapes that do not fit, and for one value per channel in all batches.
    """
    if input.ndim < 2 or (weight is not None and weight.shape != input.shape[1:2]):
        wanted = "(N, C, ...)" if weight is None else f"(N, {weight.shape[0]}, ...)"
        raise ValueError(f"batch_norm: expected input {wanted}, got shape {input.shape}.")
    shape, axes = (input.shape[1], *[1] * (input.ndim - 2)), (0, *range(2, input.ndim))
    given = [x.dtype for x in (input, weight, bias) if x is not None]
    x = input.astype(np.float32) if input.dtype == np.float16 else input
    count = np.array([math.prod(x.shape) // max(x.shape[1], 1)], x.dtype)
    sums = total(concatenate([x.sum(axis=axes), count]))
    n = sums[-1]
    _refuse_one_value(_values(n))
    mean = sums[:-1] / n
    centred = x - mean.reshape(shape)
    squares = total((centred * centred).sum(axis=axes))
    with no_grad():
        _move(running_mean, _values(mean), momentum)
        _move(running_var, _values(squares) / (_values(n) - 1), momentum)
    y = centred * ((squares / n).reshape(shape) + eps) ** -0.5
    y = y if weight is None else y * weight.reshape(shape)
    y = y if bias is None else y + bias.reshape(shape)
    return y.astype(np.result_type(*given)) if x is not input else y


def _refuse_one_value(n: Any) -> None:
    """Raise ValueError unless there are two values: the running variance divides by n - 1."""
    if tracer := tracing():
        tracer.check(_refuse_one_value, n)
    if (count := int(np.asarray(n._data if isinstance(n, Tensor) else n))) < 2:
        raise ValueError(
            "batch_norm: expected more than one value per channel in the batches of all ranks, got "
            f"{count}. Use drop_last=True in the loader, or call eval() on the module"
        )


def _values(x: Any) -> Any:
    """Without a graph. Of arrays alone, the statistics are arrays."""
    return x.detach() if isinstance(x, Tensor) else x


def _move(running: Any, batch: Any, momentum: float) -> None:
    """running += momentum (batch - running), in place."""
    if running is not None:
        running.copy_((running + momentum * (batch - running)).astype(running.dtype))
