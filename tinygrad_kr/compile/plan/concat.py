"""Concatenations: `concatenate`, `stack`, `pad` and the adjoint of a slice.

Their parts are written straight into the whole array.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.program import Instruction, Value, is_basic_key
from tinygrad_kr.compile.plan.steps import Concat, Key, Range
from tinygrad_kr.ops import shape
from tinygrad_kr.ops.indexing import index_add

_OPS = (index_add, shape.pad, shape.stack, shape.concatenate)


def part_keys(instruction: Instruction) -> list[Key] | None:
    """Where each input lies in the output, as an index of it; None for other ops.

    No two inputs overlap.
    """
    output, inputs = instruction.output, instruction.inputs
    if instruction.op not in _OPS or output.dtype not in C_TYPES:
        return None
    if not all(isinstance(x, Value) and x.dtype in C_TYPES for x in inputs):
        return None
    if len(inputs) != sum(True for _ in instruction.reads()):
        return None
    keys = _keys(instruction)
    if keys is None:
        return None
    keys = [with_ellipsis(key) for key in keys]
    array = np.broadcast_to(np.zeros((), bool), output.shape)
    fits = all(array[key].shape == x.shape for key, x in zip(keys, inputs, strict=True))
    return keys if fits else None


def _keys(instruction: Instruction) -> list[Key] | None:
    op, inputs, params = instruction.op, instruction.inputs, instruction.params
    axes = len(instruction.output.shape)
    if op is index_add:
        return [params["key"]] if is_basic_key(params["key"]) else None
    if op is shape.pad:
        inner = zip(params["widths"], inputs[0].shape, strict=True)
        return [tuple(slice(before, before + n) for (before, _), n in inner)]
    axis = params.get("axis", 0)
    if axis is None:
        return None
    whole = (slice(None),) * (axis % axes)
    if op is shape.stack:
        return [(*whole, i) for i in range(len(inputs))]
    ends = np.cumsum([0, *(x.shape[axis] for x in inputs)]).tolist()
    return [(*whole, slice(a, b)) for a, b in pairwise(ends)]


def with_ellipsis(key: Any) -> Key:
    """The same index, which gives a view even of a single element."""
    parts = key if isinstance(key, tuple) else (key,)
    return parts if any(part is ... for part in parts) else (*parts, ...)


def concat(instruction: Instruction, keys: list[Key]) -> Concat:
    """The step that completes a concatenation. Only that of a single part has gaps."""
    left_out = list(gaps(keys[0], instruction.output.shape)) if len(keys) == 1 else []
    return Concat(instruction, left_out, instruction.params.get("value", 0))


def gaps(key: Key, sizes: tuple[int, ...]) -> Iterator[list[Range]]:
    """The elements that an index leaves out, in boxes of ranges along each axis."""
    chosen = _ranges(key, sizes)
    for axis, (range_, n) in enumerate(zip(chosen, sizes, strict=True)):
        before = [(min(r, default=0), [(len(r), abs(r.step))]) for r in chosen[:axis]]
        after: list[Range] = [(0, [(size, 1)]) for size in sizes[axis + 1 :]]
        for left_out in _complement(range_, n):
            box = [*before, left_out, *after]
            if all(size for _, steps in box for size, _ in steps):
                yield box


def _ranges(key: Key, sizes: tuple[int, ...]) -> list[range]:
    parts = [part for part in key if part is not None]
    at = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    missing = len(sizes) - sum(part is not ... for part in parts)
    parts[at : at + 1] = [slice(None)] * missing
    return [
        range(n)[part] if isinstance(part, slice) else range(part % n, part % n + 1)
        for part, n in zip(parts, sizes, strict=True)
    ]


def _complement(chosen: range, n: int) -> list[Range]:
    """What a range leaves out of range(n): before it, after it, and between its numbers."""
    if not chosen:
        return [(0, [(n, 1)])]
    first, last, step = min(chosen), max(chosen), abs(chosen.step)
    return [
        (0, [(first, 1)]),
        (last + 1, [(n - last - 1, 1)]),
        (first + 1, [(len(chosen) - 1, step), (step - 1, 1)]),
    ]
