"""Convolution and pooling in compiled programs: sizes, and what runs as one step.

Between two matrix products of a convolution lie its columns, its bias, an activation and a maximum
of windows, forward; the way back of each, backward. `grouped` finds such neighbours. A
`TiledConvolution` does all of them for a few samples at a time, so that what passes between them
stays in the cache, and what only they read is never stored whole.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from tinygrad_kr.compile.ir.layout import FLOAT_DTYPES, Shape, dense_strides
from tinygrad_kr.compile.ir.ops import _window_first
from tinygrad_kr.compile.ir.program import Instruction, Program, Value, readers_of
from tinygrad_kr.compile.plan.steps import ConvolutionGroup, Geometry
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import window as w
from tinygrad_kr.ops.convolutions import pair
from tinygrad_kr.ops.reduction import sum_

_INDICES = (np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64))
_MANY_ELEMENTS = 32
"""Elements of a window up to which each is a line of the generated code."""


def geometry(instruction: Instruction) -> Geometry | None:
    """The sizes of one of the three convolution ops; None for what stays a NumPy call."""
    params = instruction.params
    if instruction.op is w.convolve:
        x, weight, y = *instruction.inputs[:2], instruction.output
    elif instruction.op is w.convolve_transposed:
        y, weight, x = *instruction.inputs, instruction.output
    elif instruction.op is w.convolve_weight:
        x, y, weight = *instruction.inputs, instruction.output
    else:
        return None
    arrays = (*instruction.inputs, instruction.output)
    if not all(isinstance(v, Value) and v.dtype == x.dtype and v.size for v in arrays):
        return None
    if x.dtype not in FLOAT_DTYPES or params["groups"] != 1 or len(x.shape) not in (3, 4):
        return None
    return Geometry(
        x.shape[0],
        x.shape[1],
        y.shape[1],
        pair(x.shape[2:]),
        pair(weight.shape[2:]),
        pair(y.shape[2:]),
        pair(params["stride"]),
        pair([before for before, _ in params["padding"]], 0),
        pair(params["dilation"]),
    )


def is_pooling(instruction: Instruction) -> bool:
    """Whether pooling has loops in C, for inputs of this kind."""
    if instruction.op not in (w.max_pool, _window_first, w.max_unpool):
        return False
    x, output = instruction.inputs[0], instruction.output
    if not isinstance(x, Value) or x.dtype not in FLOAT_DTYPES or not x.size or not output.size:
        return False
    if math.prod(instruction.params["kernel"]) > _MANY_ELEMENTS:
        return False
    if instruction.op is _window_first:
        return output.dtype in _INDICES
    index = instruction.params.get("index")
    indexed = isinstance(index, Value) and index.dtype in _INDICES
    return output.dtype == x.dtype and (instruction.op is w.max_pool or indexed)


def pooled_like(instruction: Instruction) -> Value:
    """Of pooling in C, the value in whose layout the result is written."""
    like: Value = instruction.params.get("index", instruction.inputs[0])
    return like


def channels_last(shape: Shape) -> Shape:
    """Strides of an array (samples, channels, ...) whose channels lie side by side."""
    order = (len(shape), 0, *range(len(shape) - 1, 1, -1))
    return dense_strides(shape, order)


# ------------------------------------------------------------------ groups


def grouped(
    program: Program, sizes: Mapping[Value, Geometry], pooling: Collection[Value]
) -> list[ConvolutionGroup]:
    """The convolutions, each with the neighbours that run along with it.

    sizes: by output, of each convolution op that C knows. pooling: the outputs of pooling in C.
    """
    return _Grouping(program, sizes, pooling).groups()


class _Grouping:
    """Finds the groups of a program."""

    def __init__(
        self, program: Program, sizes: Mapping[Value, Geometry], pooling: Collection[Value]
    ) -> None:
        self.program, self.sizes, self.pooling = program, sizes, pooling
        self.readers = readers_of(program)
        self.kept = program.kept() | {check.value for check in program.checks}
        self.makers = {instruction.output: instruction for instruction in program.instructions}
        self.position = {s.output: i for i, s in enumerate(program.instructions)}

    def groups(self) -> list[ConvolutionGroup]:
        """All of them, in order."""
        steps: list[ConvolutionGroup] = []
        taken: set[Value] = set()
        for instruction in self.program.instructions:
            if instruction.output in taken or instruction.output not in self.sizes:
                continue
            forward = instruction.op is w.convolve
            members = self._forward(instruction) if forward else self._backward(instruction)
            members.sort(key=lambda member: self.position[member.output])
            if taken & {member.output for member in members} or not self._free(members):
                members = [instruction]
            made = {member.output for member in members}
            inside = {
                value
                for value in made
                if value not in self.kept
                and all(s.output in made for s in self.readers.get(value, []))
            }
            steps.append(ConvolutionGroup(members, inside, self.sizes[instruction.output]))
            taken |= made
        return steps

    def _forward(self, convolve: Instruction) -> list[Instruction]:
        """A convolution, the maxima of windows that alone read it, and the relu of these."""
        members = [convolve]
        pooled = self._pooled(convolve.output)
        members += pooled
        last = pooled[0].output if pooled else convolve.output
        after = [s for s in self.readers.get(last, []) if s not in pooled]
        if last not in self.kept and [s.op for s in after] == [e.relu]:
            members += after
        return members

    def _pooled(self, y: Value) -> list[Instruction]:
        found = self.readers.get(y, [])
        by_op = {s.op: s for s in found}
        maximum, first = by_op.get(w.max_pool), by_op.get(_window_first)
        pooled = [s for s in (maximum, first) if s is not None]
        if y in self.kept or maximum is None or len(pooled) != len(found):
            return []
        if len(maximum.params["kernel"]) != len(y.shape) - 2:
            return []
        if any(s.output not in self.pooling for s in pooled):
            return []
        if first is not None and first.inputs != (y, maximum.output):
            return []
        return pooled

    def _backward(self, instruction: Instruction) -> list[Instruction]:
        """Both products with one cotangent, how it came about, and its sum for the bias."""
        g, readers = cotangent(instruction), self.readers
        sizes = self.sizes[instruction.output]
        found = readers[g]
        products = [
            s
            for s in found
            if s.op in (w.convolve_weight, w.convolve_transposed)
            and cotangent(s) is g
            and list(s.inputs).count(g) == 1
            and self.sizes.get(s.output) == sizes
        ]
        products = list({s.op: s for s in reversed(products)}.values())
        if instruction not in products:
            return [instruction]
        maker = self.makers.get(g)
        head: list[Instruction] = []
        sums = [s for s in found if _sums_over_places(s, g)][:1]
        if maker is not None and g not in self.kept and len(products) + len(sums) == len(found):
            if maker.op is w.max_unpool and maker.output in self.pooling:
                head = [maker]
                (x,) = maker.inputs
                before = self.makers.get(x)
                if before is not None and x not in self.kept and readers[x] == [maker]:
                    head += [before] if _is_mask(before) else []
            elif _is_mask(maker):
                head = [maker]
        return [*head, *products, *sums]

    def _free(self, members: list[Instruction]) -> bool:
        """Whether all that is read from outside is there before the first product: nothing of it
        can then depend on the group itself."""
        position, made = self.position, {member.output for member in members}
        first = min(
            position[s.output]
            for s in members
            if s.op in (w.convolve, w.convolve_weight, w.convolve_transposed)
        )
        outside = {value for s in members for value in s.reads() if value not in made}
        return all(position.get(value, -1) < first for value in outside)


def cotangent(instruction: Instruction) -> Value:
    """Of a product in the backward pass, the gradient of the convolution's result."""
    g: Value = instruction.inputs[instruction.op is w.convolve_weight]
    return g


def _is_mask(instruction: Instruction) -> bool:
    if instruction.op is not e.where_or_zero:
        return False
    x, mask = instruction.inputs
    return (
        isinstance(x, Value)
        and isinstance(mask, Value)
        and x.shape == mask.shape == instruction.output.shape
        and x.dtype == instruction.output.dtype
        and (mask.dtype == x.dtype or mask.dtype.kind == "b")
    )


def _sums_over_places(instruction: Instruction, g: Value) -> bool:
    if (
        instruction.op is not sum_
        or instruction.inputs != (g,)
        or instruction.output.dtype != g.dtype
    ):
        return False
    axis = instruction.params.get("axis")
    axes = {a % len(g.shape) for a in axis} if isinstance(axis, tuple) else set()
    return axes == set(range(len(g.shape))) - {1}
