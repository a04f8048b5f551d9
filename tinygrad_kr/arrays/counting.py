"""The multiply-adds of matrix products and convolutions, counted while a function runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import copy_context
from threading import get_ident
from typing import Any

from tinygrad_kr.ops.attention import attention
from tinygrad_kr.ops.linalg import einsum, linear, matmul
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.recurrent import gru_scan, lstm_scan, rnn_scan
from tinygrad_kr.ops.tracing import current_tracer, tracers
from tinygrad_kr.ops.window import convolve, convolve_transposed

__all__: list[str] = []


def _labels(inputs: Sequence[Any], subscripts: str) -> int:
    """The product of the sizes of all labels of an einsum."""
    labels = subscripts.split("->")[0].split(",")
    sizes = {
        label: size
        for names, x in zip(labels, inputs, strict=True)
        for label, size in zip(names, x.shape, strict=True)
    }
    return math.prod(sizes.values())


_COUNTS: dict[Any, Callable[..., int]] = {
    matmul: lambda out, a, b, **_: out.size * a.shape[-1],
    linear: lambda out, x, weight, *_, **__: out.size * weight.shape[-1],
    einsum: lambda out, *inputs, subscripts: _labels(inputs, subscripts),
    convolve: lambda out, x, weight, *_, **__: out.size * math.prod(weight.shape[1:]),
    convolve_transposed: lambda out, x, weight, **_: x.size * math.prod(weight.shape[1:]),
    attention: lambda out, q, k, v, *_, **__: (
        out.size * k.shape[-2] * (v.shape[-1] + q.shape[-1]) // max(v.shape[-1], 1)
    ),
    rnn_scan: lambda out, z, h, weight, *_, **__: z.size * weight.shape[-1],
    gru_scan: lambda out, z, h, weight, *_, **__: z.size * weight.shape[-1],
    lstm_scan: lambda out, z, h, c, weight, *projection, **__: (
        z.size * weight.shape[-1] + sum(math.prod(z.shape[:-1]) * w.size for w in projection)
    ),
}
"""The multiply-adds of a call, of its result, its inputs and its parameters."""


class MultiplyAdds:
    """A tracer that counts, and lets the function run as it is written.

    Every op outside this table counts as 0: elementwise ones are cheap beside products.
    """

    def __init__(self) -> None:
        self.total = 0

    def of(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result. Ops that are recorded for a gradient are not counted."""
        context, thread = copy_context(), get_ident()
        outer = tracers.get(thread)
        context.run(current_tracer.set, self)  # type: ignore[arg-type]
        tracers[thread] = self  # type: ignore[assignment]
        try:
            return context.run(function, *args)
        finally:
            if outer is None:
                tracers.pop(thread, None)
            else:
                tracers[thread] = outer

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Node) -> None:
        """An op has computed `out`."""
        count = _COUNTS.get(record)
        if count is not None:
            self.total += count(out._data, *inputs, **params)

    def read(self, x: Any) -> Any:
        """An array's elements stay as they are."""
        return x

    def __getattr__(self, report: str) -> Callable[..., None]:
        """The engine's other reports: nothing of them is counted."""
        return _ignored


def _ignored(*_: Any, **__: Any) -> None: ...
