"""The table of `Module.summary()`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_kr.nn.module import Handle, Module


def summary(module: Module, example: Any = None) -> str:
    """See `Module.summary`."""
    outputs = None if example is None else _output_shapes(module, _inputs(module, example))
    seen: set[int] = set()
    rows = [["layer", "type", "output", "parameters", "bytes"]]
    for path, part in module.named_modules():
        fresh = [p for p in part.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, fresh))
        if part is module and not fresh:
            continue
        shape = "" if outputs is None else outputs.get(id(part), "not run")
        rows.append([path or "(itself)", type(part).__name__, shape, *_sizes(fresh)])
    if outputs is None:
        rows = [row[:2] + row[3:] for row in rows]
    return "\n".join([type(module).__name__, *_aligned(rows, numeric=2), *_totals(module)])


def _sizes(tensors: Sequence[Tensor]) -> list[str]:
    if not tensors:
        return ["-", "-"]
    return [f"{sum(t.size for t in tensors):,}", f"{sum(t.data.nbytes for t in tensors):,}"]


def _totals(module: Module) -> list[str]:
    parameters, buffers = list(module.parameters()), list(module.buffers())
    trained = sum(p.size for p in parameters if p.requires_grad)
    total = sum(p.size for p in parameters)
    size = sum(t.data.nbytes for t in (*parameters, *buffers))
    dtypes = ", ".join(sorted({str(p.dtype) for p in parameters})) or "none"
    return [
        f"parameters: {total:,} ({trained:,} trained, {total - trained:,} frozen), {dtypes}",
        f"buffers: {sum(b.size for b in buffers):,}; all together {size:,} bytes",
    ]


def _aligned(rows: Sequence[Sequence[str]], numeric: int) -> list[str]:
    """The rows as lines of equally wide columns, the last `numeric` aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(widths) - numeric
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return [rule, lines[0], rule, *lines[1:], rule]


def _inputs(module: Module, example: Any) -> tuple[Any, ...]:
    """Zeros of the given shape in the module's dtype, or the example itself."""
    if _is_shape(example):
        dtype = next((p.dtype for p in module.parameters()), np.dtype(np.float32))
        return (Tensor(np.zeros(example, dtype)),)
    given = example if isinstance(example, tuple) else (example,)
    return tuple(Tensor(x) if isinstance(x, np.ndarray | list) else x for x in given)


def _is_shape(example: Any) -> bool:
    return (
        isinstance(example, tuple | list)
        and bool(example)
        and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in example)
    )


def _output_shapes(module: Module, inputs: tuple[Any, ...]) -> dict[int, str]:
    """The output shape of every module that runs, by `id`. Modes and hooks are restored."""
    shapes: dict[int, str] = {}

    def note(part: Module, _: Any, output: Any) -> None:
        shapes[id(part)] = _shape_text(output)

    modes = [(part, part.training) for part in module.modules()]
    handles: list[Handle] = []
    try:
        handles += [part.register_forward_hook(note) for part, _ in modes]
        with no_grad():
            module.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes:
            part.training = mode
    return shapes


def _shape_text(output: Any) -> str:
    if isinstance(output, tuple | list):
        return ", ".join(_shape_text(part) for part in output)
    if isinstance(output, dict):
        return _shape_text(list(output.values()))
    return str(output.shape) if hasattr(output, "shape") else type(output).__name__
