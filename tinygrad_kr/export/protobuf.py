"""An ONNX file as plain nodes and arrays, checked before anything of its size is allocated."""

from __future__ import annotations

import importlib
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.export.layers import bound, computed, is_known

OPSETS = range(13, 25)
"""The versions of the operators that are read."""
MOST_BYTES = 2**31
"""The limit of a protobuf message; bytes."""
BUFFERS = "tinygrad_kr.buffers"
"""The metadata key of the initializers that are not trained; a JSON list of names."""

PRODUCER = "tinygrad_kr"
"""The name of the program in files of ours."""


class OnnxError(ValueError):
    """A file that is not an ONNX model, is damaged, or needs what is not read; a ValueError.

    The message names the file and what is wrong.

    >>> issubclass(tk.export.OnnxError, ValueError)
    True
    """


def package_onnx(name: str) -> Any:
    """The package onnx; ImportError that says how to install it."""
    try:
        package = importlib.import_module("onnx")
        for part in ("checker", "helper", "numpy_helper"):
            importlib.import_module(f"onnx.{part}")
    except ImportError as error:
        raise ImportError(
            f'{name}: expected the package onnx. Install it: pip install "tinygrad_kr[onnx]"'
        ) from error
    return package


class Node(NamedTuple):
    """An operator of the graph."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass
class Description:
    """A graph: its nodes in order, and what they start from."""

    nodes: list[Node]
    initializers: dict[str, ndarray]
    inputs: list[str]
    outputs: list[str]
    buffers: set[str] | None = None
    """The initializers that are not trained; None where the file does not say."""
    path: str = ""


class Reader:
    """Reads one file; each error names it."""

    def __init__(self, onnx: Any, path: str | os.PathLike[str]) -> None:
        self.onnx, self.path = onnx, Path(path)

    def error(self, expected: str, got: str, fix: str = "") -> OnnxError:
        """The error of this file."""
        return OnnxError(f"load_onnx: {self.path}: expected {expected}, got {got}. {fix}".rstrip())

    def description(self) -> Description:
        """The graph of the file."""
        proto = self._parsed()
        graph = proto.graph
        if not graph.output or not graph.node:
            raise self.error("an ONNX model with nodes and outputs", "none", "Is it an ONNX file?")
        self._check_versions(proto)
        if graph.sparse_initializer:
            raise self.error("dense tensors", "a sparse initializer", "Make it dense.")
        initializers: dict[str, ndarray] = {}
        for tensor in graph.initializer:
            if not tensor.name or tensor.name in initializers:
                raise self.error("initializers with names of their own", repr(tensor.name))
            initializers[tensor.name] = self._array(tensor, f"the initializer {tensor.name!r}")
        nodes = [self._node(node) for node in graph.node]
        inputs = [info.name for info in graph.input if info.name not in initializers]
        if len({*inputs}) < len(inputs):
            raise self.error("inputs with names of their own", repr(inputs))
        outputs = [info.name for info in graph.output]
        self._check_order(nodes, {*inputs, *initializers}, outputs)
        buffers = self._buffers(proto)
        if buffers is None:
            nodes = _untied(nodes, initializers, set(outputs))
        return Description(nodes, initializers, inputs, outputs, buffers, str(self.path))

    # -------------------------------------------------------------- the file

    def _parsed(self) -> Any:
        status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise self.error("an ordinary file", "a folder or a device")
        if status.st_size > MOST_BYTES:
            raise self.error(f"a file of at most {MOST_BYTES} bytes", f"{status.st_size}")
        proto = self.onnx.ModelProto()
        try:
            proto.ParseFromString(self.path.read_bytes())
        except Exception as error:  # a DecodeError of the protobuf package
            raise self.error("an ONNX model", f"bytes that are none ({error})") from error
        return proto

    def _check_versions(self, proto: Any) -> None:
        """All operators that are not read, at once."""
        versions = {opset.domain or "ai.onnx": opset.version for opset in proto.opset_import}
        version = versions.get("ai.onnx")
        unknown = {
            f"{node.domain or 'ai.onnx'}.{node.op_type} "
            f"(version {versions.get(node.domain or 'ai.onnx', 'unknown')})"
            for node in proto.graph.node
            if node.domain not in ("", "ai.onnx") or not is_known(node.op_type)
        }
        if unknown:
            raise self.error(
                "the operators that docs/onnx.md lists",
                ", ".join(sorted(unknown)),
                "Export the net without them.",
            )
        if version not in OPSETS:
            raise self.error(
                f"opset {OPSETS[0]} to {OPSETS[-1]}",
                f"{version}",
                "Export with opset_version=18.",
            )

    def _check_order(self, nodes: list[Node], known: set[str], outputs: list[str]) -> None:
        for node in nodes:
            for name in node.inputs:
                if name and name not in known:
                    raise self.error(
                        f"inputs of {node.kind} {node.name!r} that come before it", repr(name)
                    )
            for name in filter(None, node.outputs):
                if name in known:
                    raise self.error("each value once", f"{name!r} twice")
                known.add(name)
        missing = [name for name in outputs if name not in known]
        if missing:
            raise self.error("outputs that nodes compute", ", ".join(map(repr, missing)))
        self._check_outputs(nodes, {*outputs, *(name for _, _, name in reads(nodes))})

    def _check_outputs(self, nodes: list[Node], read: set[str]) -> None:
        """Outputs that are not computed here, as the mask of Dropout, must not be read."""
        for node in nodes:
            for name in {*node.outputs} - {*computed(node.kind, node.outputs), ""}:
                if name in read:
                    raise self.error(
                        f"outputs of {node.kind} {node.name!r} that are computed",
                        f"a use of {name!r}",
                        "Export the net in eval mode, and without that output.",
                    )

    def _buffers(self, proto: Any) -> set[str] | None:
        for prop in proto.metadata_props:
            if prop.key == BUFFERS:
                try:
                    names = json.loads(prop.value)
                except ValueError:
                    names = None
                if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                    raise self.error(f"a list of names in {BUFFERS}", repr(prop.value))
                return set(names)
        if proto.producer_name == PRODUCER:
            raise self.error(
                f"the entry {BUFFERS} at the end of the file", "none", "It is cut off."
            )
        return None

    # -------------------------------------------------------------- nodes

    def _node(self, proto: Any) -> Node:
        name = proto.name or (proto.output[0] if proto.output else "")
        where = f"{proto.op_type} {name!r}"
        attributes = {one.name: self._attribute(one, where) for one in proto.attribute}
        node = Node(proto.op_type, name, tuple(proto.input), tuple(proto.output), attributes)
        try:
            bound(node.kind, node.inputs, attributes)
        except TypeError as error:
            raise self.error(f"inputs and attributes that {where} has", str(error)) from error
        return node

    def _attribute(self, proto: Any, where: str) -> Any:
        kinds = self.onnx.AttributeProto
        where = f"the attribute {proto.name!r} of {where}"
        if proto.ref_attr_name:
            raise self.error(f"a value for {where}", "a reference", "Inline the functions.")
        if proto.type == kinds.TENSOR:
            return self._array(proto.t, where)
        plain = {kinds.FLOAT: "f", kinds.INT: "i", kinds.FLOATS: "floats", kinds.INTS: "ints"}
        if proto.type in plain:
            value = getattr(proto, plain[proto.type])
            return value if isinstance(value, int | float) else tuple(value)
        try:
            if proto.type == kinds.STRING:
                return proto.s.decode()
            if proto.type == kinds.STRINGS:
                return tuple(s.decode() for s in proto.strings)
        except UnicodeDecodeError as error:
            raise self.error(f"text for {where}", "other bytes") from error
        raise self.error(f"numbers, text or a tensor for {where}", f"attribute type {proto.type}")

    # -------------------------------------------------------------- tensors

    def _array(self, tensor: Any, where: str) -> ndarray:
        """The array of a tensor, whose bytes must be there before it is made."""
        if tensor.data_type not in self._dtypes():
            names = self.onnx.TensorProto.DataType
            known = tensor.data_type in names.values()
            kind = names.Name(tensor.data_type) if known else f"data type {tensor.data_type}"
            raise self.error(
                f"floats, integers or truth values that NumPy has as {where}",
                kind,
                "Export the net in float32.",
            )
        dtype, shape = self._dtypes()[tensor.data_type], tuple(tensor.dims)
        if any(n < 0 for n in shape):
            raise self.error(f"sizes of at least 0 for {where}", f"{shape}")
        count = math.prod(shape)
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            return self._external(tensor, dtype, count, where).reshape(shape)
        if tensor.HasField("raw_data"):
            found, there = count * dtype.itemsize, len(tensor.raw_data)
            if found != there:
                raise self.error(f"{found} bytes for {where} of shape {shape}", f"{there}")
            stored = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
            return stored.astype(dtype).reshape(shape)
        numbers = getattr(tensor, self._field(dtype))
        if len(numbers) != count:
            raise self.error(f"{count} numbers for {where} of shape {shape}", f"{len(numbers)}")
        if dtype == np.float16:
            return np.array(numbers, np.uint16).view(dtype).reshape(shape)
        try:
            return np.array(numbers).astype(dtype).reshape(shape)
        except (ValueError, OverflowError) as error:
            raise self.error(f"numbers of {dtype} for {where}", str(error)) from error

    def _dtypes(self) -> dict[int, np.dtype[Any]]:
        names = (
            *("FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT8", "INT16", "INT32", "INT64"),
            *("UINT8", "UINT16", "UINT32", "UINT64"),
        )
        spelled = {"FLOAT": "float32", "DOUBLE": "float64"}
        return {
            getattr(self.onnx.TensorProto, name): np.dtype(spelled.get(name, name.lower()))
            for name in names
        }

    @staticmethod
    def _field(dtype: np.dtype[Any]) -> str:
        fields = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}
        unsigned = {"uint32": "uint64_data", "uint64": "uint64_data"}
        return {**fields, **unsigned}.get(dtype.name, "int32_data")

    def _external(self, tensor: Any, dtype: np.dtype[Any], count: int, where: str) -> ndarray:
        """A tensor in another file of the same folder; nothing outside of it is opened."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        target = self._inside_folder(location, where)
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", count * dtype.itemsize))
        except ValueError as error:
            raise self.error(f"numbers as offset and length of {where}", str(entries)) from error
        size, needs = target.stat().st_size, count * dtype.itemsize
        if length != needs or offset < 0 or offset + needs > size:
            raise self.error(
                f"{needs} bytes in {location!r} for {where}",
                f"offset {offset} and length {length} in a file of {size}",
            )
        with target.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(needs)
        if len(data) != needs:
            raise self.error(f"{needs} bytes in {location!r} for {where}", f"{len(data)}")
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)

    def _inside_folder(self, location: str, where: str) -> Path:
        plain = PurePosixPath(location)
        odd = any(sign in location for sign in ("\\", "\0", ":"))
        if not location or odd or plain.is_absolute() or ".." in plain.parts:
            raise self.error(f"a file in the same folder for {where}", repr(location))
        folder = os.path.realpath(self.path.parent)
        target = Path(os.path.realpath(os.path.join(folder, location)))
        if not target.is_relative_to(folder):
            raise self.error(f"a file in the same folder for {where}", f"a link, {location!r}")
        if not target.exists():
            raise self.error(
                f"the file {location!r} in the same folder for {where}",
                "none there",
                "Copy it beside the model.",
            )
        if not stat.S_ISREG(target.stat().st_mode):
            raise self.error(f"an ordinary file for {where}", repr(location))
        return target


def _untied(nodes: list[Node], initializers: dict[str, ndarray], outputs: set[str]) -> list[Node]:
    """The nodes, with a tensor of its own for each copy of an initializer.

    PyTorch's exporter writes tensors of equal elements once, and an Identity for each other name.
    """
    kept = []
    for node in nodes:
        copied = node.kind == "Identity" and node.inputs[0] in initializers
        if copied and len(node.outputs) == 1 and node.outputs[0] not in outputs:
            initializers[node.outputs[0]] = initializers[node.inputs[0]].copy()
        else:
            kept.append(node)
    return kept


def reads(nodes: list[Node]) -> Iterator[tuple[Node, int, str]]:
    """Each input of each node, from the last node to the first."""
    for node in reversed(nodes):
        for position, name in enumerate(node.inputs):
            if name:
                yield node, position, name
