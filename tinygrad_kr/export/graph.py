"""An ONNX graph under construction: nodes, names and constants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.export.recording import Call, Counted, Repeated, Share, Size, refuse

BOOL, INT64 = np.dtype(bool), np.dtype(np.int64)
DTYPES = {np.dtype(name) for name in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "f4", "f8")}
"""The dtypes that a graph may have."""


class Graph:
    """Nodes in order, and a name for every value."""

    def __init__(self, onnx: Any, shapes: dict[Value, tuple[int | Size, ...]]) -> None:
        """onnx: the package. shapes: of the values, with the sizes that follow the batch."""
        self.onnx, self.shapes = onnx, shapes
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.names: dict[Value, str] = {}
        self.states: dict[Value, dict[Any, str]] = {}
        """Of a recurrent net's planes, the parts that ONNX has, by the key that reads them."""
        self.batch: tuple[str, int] | None = None
        """The input and the axis that tell the batch."""
        self.taken: set[str] = set()
        """The names that no further value gets."""
        self._constants: dict[Any, str] = {}
        self._sizes: dict[Size, str] = {}

    # -------------------------------------------------------------- names and nodes

    def unique(self, name: str) -> str:
        """`name`, with a number if it is taken."""
        found, number = name, 1
        while found in self.taken:
            found, number = f"{name}_{number}", number + 1
        self.taken.add(found)
        return found

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of the output of a new node; an input "" is left out."""
        return self.node_of(kind, inputs, 1, **attributes)[0]

    def node_of(
        self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """The names of the outputs of a new node."""
        names = [self.unique(kind.lower()) for _ in range(outputs)]
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(
            self.onnx.helper.make_node(kind, list(inputs), names, name=names[0], **given)
        )
        return names

    def initializer(self, name: str, array: ndarray) -> None:
        """A tensor that the graph starts with, under a name of its own."""
        stored = np.ascontiguousarray(array).reshape(array.shape)
        self.initializers.append(self.onnx.numpy_helper.from_array(stored, name))

    def constant(self, array: Any, dtype: Any = None) -> str:
        """A constant, the same one for the same elements."""
        held = np.array(array, dtype, order="C")
        key = (held.dtype, held.shape, held.tobytes())
        if key not in self._constants:
            tensor = self.onnx.numpy_helper.from_array(held)
            self._constants[key] = self.node("Constant", value=tensor)
        return self._constants[key]

    # -------------------------------------------------------------- values

    def dtype_of(self, x: Any) -> np.dtype[Any]:
        """The dtype of an operand."""
        return x.dtype if isinstance(x, Value) else np.asarray(x).dtype

    def cast(self, name: str, before: Any, dtype: Any) -> str:
        """The same in another dtype."""
        before, dtype = np.dtype(before), np.dtype(dtype)
        if before == dtype:
            return name
        number = self.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self.node("Cast", name, to=number)

    def operand(self, x: Any, dtype: Any = None) -> str:
        """The name of a value or a number, in `dtype` if given."""
        if isinstance(x, Value):
            return self.cast(self.names[x], x.dtype, x.dtype if dtype is None else dtype)
        if isinstance(x, Size):
            scalar = self.node("Squeeze", self.size(x), self.constant([0], INT64))
            return self.cast(scalar, INT64, INT64 if dtype is None else dtype)
        if isinstance(x, Share):
            wanted = np.float32 if dtype is None else dtype
            total = self.constant(x.total, wanted)
            return self.node("Div", total, self.operand(Size(1, 0), wanted))
        return self.constant(x, dtype)

    def define(self, value: Value, name: str) -> None:
        """Let `value` have this name."""
        self.names[value] = name

    def start(self, value: Value, source: Any) -> None:
        """Define a constant of the recording."""
        if isinstance(source, Repeated):
            small = self.constant(source.array)
            self.define(value, self.node("Expand", small, self.shape(source.shape)))
        elif isinstance(source, Counted):
            end = Size(source.length.factor * source.step, 0)
            shift = source.start + source.length.offset * source.step
            limit = self.operand(Size(end.factor, shift))
            start, step = self.constant(source.start, INT64), self.constant(source.step, INT64)
            counted = self.node("Range", start, limit, step)
            if len(source.shape) > 1:
                counted = self.node("Reshape", counted, self.shape(source.shape))
            self.define(value, self.cast(counted, INT64, source.dtype))
        elif isinstance(source, Size | Share):
            scalar = self.operand(source, value.dtype)
            self.define(value, self.node("Reshape", scalar, self.constant(value.shape, INT64)))
        else:
            self.define(value, self.constant(source))

    # -------------------------------------------------------------- sizes

    def size(self, size: int | Size) -> str:
        """A number as an int64 array of one element."""
        if not isinstance(size, Size):
            return self.constant([size], INT64)
        if size not in self._sizes:
            assert self.batch is not None
            name, axis = self.batch
            batch = self.node("Shape", name, start=axis, end=axis + 1)
            if size.factor != 1:
                batch = self.node("Mul", batch, self.constant([size.factor], INT64))
            if size.offset:
                batch = self.node("Add", batch, self.constant([size.offset], INT64))
            self._sizes[size] = batch
        return self._sizes[size]

    def sizes(self, sizes: Iterable[int | Size]) -> str:
        """Numbers as an int64 array."""
        sizes = list(sizes)
        if not any(isinstance(size, Size) for size in sizes):
            return self.constant(sizes, INT64)
        parts = [self.size(size) for size in sizes]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def shape(self, shape: Sequence[int | Size]) -> str:
        """A shape for Expand or Reshape."""
        return self.sizes(shape)

    def reshape(self, name: str, shape: Sequence[int | Size]) -> str:
        """`name` in another shape. One size that follows the batch is left to ONNX: -1."""
        following = [size for size in shape if isinstance(size, Size)]
        if 0 in shape:
            return self.node("Reshape", name, self.shape(shape), allowzero=1)
        if len(following) == 1:
            shape = [-1 if isinstance(size, Size) else size for size in shape]
        return self.node("Reshape", name, self.shape(shape))

    def fixed(self, call: Call, value: Value, axis: int) -> int:
        """The length of an axis that may not follow the batch."""
        size = self.shapes[value][axis]
        if isinstance(size, Size):
            raise refuse(
                f"{call.op.__name__} along another axis than the batch's in {call.source_line}",
                f"axis {axis} of {tuple(map(str, self.shapes[value]))}",
                "Give batch_axis=None for a graph of the example's shape alone.",
            )
        return size

    def count(self, value: Value, axes: Sequence[int], dtype: Any) -> str:
        """The number of elements over some axes, as a number of `dtype`."""
        sizes = [self.shapes[value][axis] for axis in axes]
        fixed = math.prod(size for size in sizes if not isinstance(size, Size))
        name = self.constant(fixed, dtype)
        for size in sizes:
            if isinstance(size, Size):
                name = self.node("Mul", name, self.operand(size, dtype))
        return name
