"""`export.onnx`: a model as an ONNX file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr._version import __version__
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.export.graph import DTYPES, Graph
from tinygrad_kr.export.operators import WRITERS, projected
from tinygrad_kr.export.protobuf import BUFFERS, PRODUCER, package_onnx
from tinygrad_kr.export.recording import (
    Call,
    ExportError,
    Recording,
    Size,
    names_of,
    needed,
    record,
    refuse,
)
from tinygrad_kr.files import replacing
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.recurrent import gru_scan, lstm_scan, rnn_scan

OPSET, IR_VERSION = 18, 8
"""Of the files that are written: read by ONNX Runtime from 1.14 on."""
FIXES = {
    "dropout_mask": "Give F.dropout training=self.training: an export is of eval mode.",
    "fold": "Use nn.ConvTranspose2d.",
}
"""What to do instead of an op; for others, `_FIX`."""
_HELD = "float32, float64, booleans or integers but uint64"
_FIX = "Write it with ops of the table in docs/onnx.md, or leave that part out of the export."


def onnx(
    model: Any,
    example: Any,
    path: str | os.PathLike[str],
    *,
    batch_axis: int | Sequence[int | None] | None = 0,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a model as an ONNX file, for any size of the batch.

    model: a Module, or a function of arrays. A Module is exported as in eval mode: without dropout,
        with the running statistics of batch norm. Afterwards each module is in its mode again.
    example: an input, or a tuple of them; each an array, a Tensor, or a container of such. Its
        rows are repeated for batches of 2, 3 and 5, with which the model is run.
    path: the file, replaced as a whole or not at all.
    batch_axis: the axis of the batch: one for all inputs, or one for each array of the example.
        None: an input without a batch; for all of them, a graph of the example's shapes alone.
    input_names: default: those of the arguments. output_names: default: "output", or "output_0" ...
        Names given here are kept as they are, or refused where a parameter has one.

    Initializers are the parameters and buffers that the model reads, with the names of
    `state_dict()`. The graph has opset 18; inputs and outputs have the dimension "batch". A size
    that follows the batch must be a * batch + b. A branch that goes one way at all three sizes,
    such as `if len(x) == 1`, is written as it went. Checks of values, as of an index, are not
    written. Gradients are not written: the model runs under `no_grad()`, where `backward()` raises.

    Raises ExportError, a ValueError, for an op that ONNX has not and for what does not follow the
    batch so; ImportError without the package onnx (`pip install "tinygrad_kr[onnx]"`).
    Source: the ONNX specification, opset 18; the name is `torch.onnx.export`'s.

    >>> tk.export.onnx(nn.Linear(3, 2), tk.ones(1, 3), "linear.onnx")
    >>> tk.load_onnx("linear.onnx")(tk.ones(4, 3)).shape
    (4, 2)
    """
    package = package_onnx("export.onnx")
    if isinstance(model, type) or not callable(model):
        raise refuse("a Module or a function as the model", repr(model), "Make an instance.")
    arguments = example if isinstance(example, tuple) else (example,)
    leaves, rebuild = tree.flatten(arguments)
    arrays = [_array_of(leaf) for leaf in leaves]
    axes = _batch_axes(arrays, batch_axis)
    found = _recorded(model, rebuild(arrays), axes)
    calls = needed(_without_products(found), found.results)
    graph = Graph(package, found.shapes)
    proto = _Writer(graph, found, calls, model, axes).model(input_names, output_names)
    _write(package, proto, path)


def _array_of(leaf: Any) -> ndarray:
    array = leaf._data if isinstance(leaf, Node) else leaf
    if not isinstance(array, ndarray):
        raise refuse(
            "arrays as the example", f"a {type(leaf).__name__}", "Bind it: lambda x: model(x, ...)."
        )
    if array.dtype not in DTYPES:
        raise refuse(
            f"an example of {_HELD}",
            str(array.dtype),
            "Convert it with .astype(np.float32), and the model with model.float().",
        )
    return array


def _batch_axes(arrays: list[ndarray], given: Any) -> list[int | None]:
    """The batch axis of each array."""
    axes = list(given) if isinstance(given, tuple | list) else [given] * len(arrays)
    if len(axes) != len(arrays) or not all(isinstance(a, int | None) for a in axes):
        raise refuse(
            f"batch_axis as an int, None, or one of them for each of {len(arrays)} arrays",
            repr(given),
            "Give one axis for all.",
        )
    for number, (array, axis) in enumerate(zip(arrays, axes, strict=True)):
        if axis is None:
            continue
        if not -array.ndim <= axis < array.ndim or not array.shape[axis]:
            raise refuse(
                f"an example with rows on axis {axis}",
                f"the shape {array.shape}",
                "Give an example with a batch, or batch_axis=None.",
            )
        axes[number] = axis % array.ndim
    return axes


def _recorded(model: Any, arguments: tuple[Any, ...], axes: list[int | None]) -> Recording:
    """The recording in eval mode; afterwards each module is in its mode again."""
    if not isinstance(model, Module):
        return record(model, arguments, axes, _refuse_unknown)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return record(model, arguments, axes, _refuse_unknown)
    finally:
        for module, training in modes:
            module.training = training


SCANS = (rnn_scan, lstm_scan, gru_scan)


def _without_products(found: Recording) -> list[Call]:
    """The calls, with a recurrent net reading its input in place of the product with it."""
    producers = {call.output: call for call in found.calls}
    calls = []
    for call in found.calls:
        source = projected(producers, call.inputs[0]) if call.op in SCANS else None
        if source is not None:
            call = call._replace(params={**call.params, "projection": source})
            call = call._replace(inputs=(None, *call.inputs[1:]))
        calls.append(call)
    return calls


def _refuse_unknown(calls: Sequence[Call]) -> None:
    unknown = [call for call in calls if call.op not in WRITERS]
    if unknown:
        names = "; ".join(
            dict.fromkeys(f"{call.op.__name__} in {call.source_line}" for call in unknown)
        )
        fix = FIXES.get(unknown[0].op.__name__, _FIX)
        raise refuse("ops that ONNX has", names, fix)


class _Writer:
    """Writes a recording into a graph, and the graph into a model."""

    def __init__(
        self,
        graph: Graph,
        found: Recording,
        calls: list[Call],
        model: Any,
        axes: list[int | None],
    ) -> None:
        self.graph, self.found, self.calls, self.axes = graph, found, calls, axes
        self.onnx = graph.onnx
        self.buffers: list[str] = []
        self.names = names_of(model)
        graph.taken.update(self.names.values())

    def model(self, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> Any:
        """The model of the graph."""
        given, chosen = self._inputs(inputs), self._output_names(outputs)
        read = {value for call in self.calls for value in call.reads()} | {*self.found.results}
        for value, source in self.found.inputs.items():
            if value in read:
                self._start(value, source)
        for call in self.calls:
            _refuse_dtype(call)
            self.graph.define(call.output, self._written(call))
        returned = self._outputs(chosen)
        helper = self.onnx.helper
        graph = helper.make_graph(
            self.graph.nodes, "model", given, returned, self.graph.initializers
        )
        opsets = [helper.make_opsetid("", OPSET)]
        proto = helper.make_model(graph, opset_imports=opsets, producer_name=PRODUCER)
        proto.ir_version, proto.producer_version = IR_VERSION, __version__
        helper.set_model_props(proto, {BUFFERS: json.dumps(self.buffers)})
        return proto

    def _written(self, call: Call) -> str:
        try:
            return WRITERS[call.op](self.graph, call)
        except TypeError as error:  # a size where the writer wants a number
            raise refuse(
                "options that do not follow the batch",
                f"{call.params} of {call.op.__name__} in {call.source_line}",
                "Give batch_axis=None for a graph of the example's shapes alone.",
            ) from error

    def _inputs(self, names: Sequence[str] | None) -> list[Any]:
        if names is None:
            chosen = [self.graph.unique(name) for name in self.found.argument_names]
        else:
            chosen = self._claimed("input_names", names, len(self.axes))
        values = {source: v for v, source in self.found.inputs.items() if isinstance(source, int)}
        infos = []
        for number, (name, axis) in enumerate(zip(chosen, self.axes, strict=True)):
            value = values[number]
            self.graph.define(value, name)
            if axis is not None and self.graph.batch is None:
                self.graph.batch = (name, axis)
            infos.append(self._info(name, value))
        return infos

    def _output_names(self, names: Sequence[str] | None) -> list[str]:
        count = len(self.found.results)
        if names is not None:
            return self._claimed("output_names", names, count)
        usual = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
        return [self.graph.unique(name) for name in usual]

    def _claimed(self, what: str, names: Sequence[str], count: int) -> list[str]:
        """The caller's names, which the file has as they are."""
        chosen, taken = [*names], self.graph.taken
        are_names = not isinstance(names, str) and all(isinstance(n, str) and n for n in chosen)
        if not are_names or len(chosen) != count or len({*chosen} - taken) != count:
            raise refuse(
                f"{count} {what} that differ from each other and from names of parameters",
                repr(names),
                "Name each array.",
            )
        taken.update(chosen)
        return chosen

    def _outputs(self, names: list[str]) -> list[Any]:
        infos = []
        for name, value in zip(names, self.found.results, strict=True):
            given = [self.graph.names[value]]
            node = self.onnx.helper.make_node("Identity", given, [name], name=name)
            self.graph.nodes.append(node)
            infos.append(self._info(name, value))
        return infos

    def _info(self, name: str, value: Value) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        shape = [str(n) if isinstance(n, Size) else n for n in self.graph.shapes[value]]
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def _start(self, value: Value, source: Any) -> None:
        """Define a parameter, buffer or constant."""
        if isinstance(source, int):
            return
        if not isinstance(source, Node):
            self.graph.start(value, source)
            return
        trained = isinstance(source, Parameter) or source._requires_grad
        name = self.names.get(id(source)) or (self.graph.unique("parameter") if trained else None)
        if name is None:
            self.graph.start(value, source._data)
            return
        self.graph.initializer(name, source._data)
        self.graph.define(value, name)
        if not trained:
            self.buffers.append(name)


def _refuse_dtype(call: Call) -> None:
    if call.output.dtype not in DTYPES:
        raise refuse(
            f"arrays of {_HELD}",
            f"{call.output.dtype} from {call.op.__name__} in {call.source_line}",
            "Convert it with .astype(np.float32), or the model with model.float().",
        )


def _write(package: ModuleType, proto: Any, path: str | os.PathLike[str]) -> None:
    """Check the model and write the file at once."""
    try:
        package.checker.check_model(proto, full_check=True)
        data = proto.SerializeToString()
    except Exception as error:
        raise ExportError(
            f"export.onnx: expected a graph that onnx accepts, got: {error}"
        ) from error
    with replacing(path) as stream:
        stream.write(data)


__all__ = ["onnx"]
