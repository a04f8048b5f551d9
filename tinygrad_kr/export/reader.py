"""`load_onnx`: an ONNX file as a Module of our ops."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.export.layers import (
    DECIDES_SHAPE,
    FLAT,
    LAYERS,
    SCALES,
    STATISTICS,
    counts_outputs,
)
from tinygrad_kr.export.protobuf import Description, Node, Reader, package_onnx, reads
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.tensor import Tensor


def load_onnx(path: str | os.PathLike[str]) -> OnnxModel:
    """Read an ONNX file as a Module: it runs, is trained, compiled and saved like any other.

    path: a file of opset 13 to 24, written by `export.onnx` or by `torch.onnx.export`. Tensors in a
        second file must lie in the same folder.

    `state_dict()` has the names of the initializers. Those of floats through which a gradient
    reaches the result are parameters. Buffers are: the statistics of batch norm, other
    initializers, those that hold inf or NaN, and of a file that is not ours single numbers with a
    generated name. Integers that say shapes and axes are constants. The graph stays as it was
    written: of a net exported in eval mode, batch norm uses its statistics and dropout is absent,
    also in training.

    Raises OnnxError, a ValueError, for a file that is damaged or no ONNX model, and for operators
    that are not read, all of them by name; FileNotFoundError; ImportError without the package onnx
    (`pip install "tinygrad_kr[onnx]"`). Source: the ONNX specification.

    >>> tk.export.onnx(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), tk.ones(1, 3), "net.onnx")
    >>> sorted(tk.load_onnx("net.onnx").state_dict())
    ['0.bias', '0.weight']
    """
    reader = Reader(package_onnx("load_onnx"), path)
    found = reader.description()
    try:
        return OnnxModel(found)
    except (KeyError, TypeError) as error:
        raise reader.error(
            "names of initializers that attributes can have", str(error.args[0])
        ) from error


class _Holder(Module):
    """The tensors whose names share a beginning."""


class OnnxModel(Module):
    """The graph of an ONNX file: what `load_onnx` returns.

    Called with the inputs of the graph, in their order, it returns its output, or a tuple of
    several. `input_names` and `output_names` are those of the file.

    Raises TypeError for another number of inputs. The extra `tinygrad_kr[onnx]` is needed.

    >>> tk.export.onnx(nn.ReLU(), tk.ones(1, 2), "relu.onnx", input_names=["features"])
    >>> tk.load_onnx("relu.onnx").input_names
    ['features']
    """

    def __init__(self, description: Description) -> None:
        self.input_names, self.output_names = description.inputs, description.outputs
        self._path, self._nodes = description.path, description.nodes
        self._numbers: dict[str, ndarray] = {}
        """The initializers that say shapes."""
        self._named: list[str] = []
        known = _known_numbers(description)
        trained = _trained(description)
        for name, array in description.initializers.items():
            if name in known:
                self._numbers[name] = array
                continue
            self._named.append(name)
            holder, last = self._holder(name)
            if name in trained:
                holder.register_parameter(last, Parameter(array))
            else:
                holder.register_buffer(last, Tensor(array))

    def _holder(self, name: str) -> tuple[Module, str]:
        """The module that holds a tensor, and the last part of the tensor's name."""
        *parts, last = name.split(".")
        holder: Module = self
        for part in parts:
            inner = vars(holder).get(part)
            if inner is None:
                inner = _Holder()
                holder.add_module(part, inner)
            if not isinstance(inner, Module):
                raise KeyError(f"{name!r}, which lies inside of another tensor")
            holder = inner
        if last in vars(holder):
            raise KeyError(f"{name!r}, which is a part of other names")
        return holder, last

    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self.input_names):
            raise TypeError(
                f"OnnxModel: expected {len(self.input_names)} inputs "
                f"({', '.join(self.input_names)}), got {len(inputs)}."
            )
        values: dict[str, Any] = dict(self._numbers)
        for name in self._named:
            holder, last = self._holder_of(name)
            values[name] = vars(holder)[last]
        for name, x in zip(self.input_names, inputs, strict=True):
            values[name] = _as_tensor(x)
        for node in self._nodes:
            self._compute(node, values)
        results = tuple(_as_tensor(values[name]) for name in self.output_names)
        return results[0] if len(results) == 1 else results

    def _holder_of(self, name: str) -> tuple[Module, str]:
        path, _, last = name.rpartition(".")
        return self.get_submodule(path), last

    def _compute(self, node: Node, values: dict[str, Any]) -> None:
        given = [values[name] if name else None for name in node.inputs]
        more = {"outputs": len(node.outputs)} if counts_outputs(node.kind) else {}
        try:
            found = LAYERS[node.kind](*given, **node.attributes, **more)
        except Exception as error:
            error.add_note(f"{self._path}: in {node.kind} {node.name!r}")
            raise
        outputs = found if isinstance(found, tuple) else (found,)
        values.update(zip(node.outputs, outputs, strict=False))

    def extra_repr(self) -> str:
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"


def _as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(as_array(x))


# ------------------------------------------------------------------ what an initializer is


def _known_numbers(found: Description) -> set[str]:
    """The values that decide a shape, and what they are computed from."""
    known: set[str] = set()
    for node, position, name in reads(found.nodes):
        decides = position in DECIDES_SHAPE.get(node.kind, ())
        inside = any(output in known for output in node.outputs) and node.kind != "Shape"
        if decides or (inside and node.kind != "Size"):
            known.add(name)
    floats = {name for node, at, name in reads(found.nodes) if at in SCALES.get(node.kind, ())}
    return {
        name
        for name in known
        if found.initializers.get(name, _NONE).dtype.kind in ("iubf" if name in floats else "iub")
    }


_NONE = np.zeros(0)


def _trained(found: Description) -> set[str]:
    """The initializers of floats that a gradient of the outputs reaches."""
    reached = set(found.outputs)
    for node, position, name in reads(found.nodes):
        passes = node.kind not in FLAT and any(output in reached for output in node.outputs)
        skipped = DECIDES_SHAPE.get(node.kind, ()), STATISTICS.get(node.kind, ())
        if passes and not any(position in places for places in skipped):
            reached.add(name)
    return {
        name
        for name, array in found.initializers.items()
        if name in reached
        and array.dtype.kind == "f"
        and np.isfinite(array).all()
        and not _is_fixed(name, array, found.buffers)
    }


def _is_fixed(name: str, array: ndarray, buffers: Iterable[str] | None) -> bool:
    """Whether the file, or a generated name of a single number, says that it is not trained."""
    if buffers is not None:
        return name in buffers
    return array.size == 1 and "." not in name
