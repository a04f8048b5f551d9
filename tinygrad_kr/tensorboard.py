"""Event files for TensorBoard: curves, histograms, images, text, hyperparameters and the graph.

The names and signatures are those of `torch.utils.tensorboard`. tensorboardX writes the records;
what they hold is made here.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from typing import Any, Self

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Argument, Leaf
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.trace.tracer import CaptureError, Tracer, argument_names
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn import Module
from tinygrad_kr.ops.node import current_mode
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.random import default_generator
from tinygrad_kr.saving.generators import generators_in
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.training import Callback, Training, modes_kept

__all__ = ["SummaryWriter", "TensorBoard"]


def __dir__() -> list[str]:
    return __all__


_files = count()
"""Numbers the event files of this process: two writers never share one."""


def _tensorboardx() -> Any:
    try:
        import tensorboardX  # type: ignore[import-untyped]
    except ImportError as error:
        raise ModuleNotFoundError(
            "SummaryWriter: expected tensorboardX, got none. Write pip install "
            '"tinygrad_kr[tensorboard]"'
        ) from error
    return tensorboardX


class SummaryWriter:
    """Writes event files into a folder, for TensorBoard to show.

    log_dir: the folder, which is made; by default `runs/` and the time and host, then `comment`.
    purge_step: TensorBoard hides what an earlier run wrote from this step on.
    max_queue, flush_secs: events wait in memory, at most so many and so long; seconds.
    filename_suffix: the end of the names of the files.

    Values may be Tensors, arrays or numbers of any dtype; gradients are left out. `global_step`
    is the step at which a value is shown, `walltime` its time in seconds (now by default). It is a
    context manager: at the end of the block it is closed. Call it outside of compiled functions: in
    one it would write only while the function is traced, so such a function runs as written.

    Raises ModuleNotFoundError, with what to install, without tensorboardX.
    Source: torch.utils.tensorboard.SummaryWriter.

    >>> import os, tempfile  # pip install "tinygrad_kr[tensorboard]"
    >>> folder = tempfile.mkdtemp()
    >>> with tk.SummaryWriter(folder) as writer:
    ...     for step in range(100):
    ...         writer.add_scalar("loss", 1 / (step + 1), step)
    >>> len(os.listdir(folder))
    1
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
    ) -> None:
        self._x = _tensorboardx()
        if log_dir is None:
            now = datetime.now().strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = os.fspath(log_dir)
        self._options = max_queue, flush_secs, filename_suffix
        self._writers: dict[str, Any] = {}
        self._open("")
        if purge_step is not None:
            session = self._proto("event").SessionLog
            log = session(status=session.SessionStatus.START)
            event = self._proto("event").Event(session_log=log)
            self._open("").add_event(event, purge_step, None)

    # -------------------------------------------------------------- files

    def _open(self, run: str) -> Any:
        """The writer of the folder, or of a run below it; opened again after `close`."""
        if run not in self._writers:
            queue, seconds, suffix = self._options
            suffix = f".{os.getpid()}.{next(_files)}{suffix}"
            folder = os.path.join(self.log_dir, run) if run else self.log_dir
            self._writers[run] = self._x.writer.FileWriter(folder, queue, seconds, suffix)
        return self._writers[run]

    def _proto(self, name: str) -> Any:
        from importlib import import_module

        return import_module(f"tensorboardX.proto.{name}_pb2")

    def _add(
        self, tag: str, step: Any, walltime: float | None, run: str = "", **value: Any
    ) -> None:
        """Write one value of a summary."""
        summary = self._proto("summary").Summary
        self._write(summary(value=[summary.Value(tag=tag, **value)]), step, walltime, run)

    def _write(self, summary: Any, step: Any, walltime: float | None, run: str) -> None:
        _outside()
        number = None if step is None else int(_number("global_step", step))
        self._open(run).add_summary(summary, number, walltime)

    def _plugin(self, name: str, content: bytes = b"") -> Any:
        metadata = self._proto("summary").SummaryMetadata
        return metadata(plugin_data=metadata.PluginData(plugin_name=name, content=content))

    def get_logdir(self) -> str:
        """The folder of the event files."""
        return self.log_dir

    def flush(self) -> None:
        """Write what waits in memory."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Write what waits, and close the files. A later value opens a new one."""
        while self._writers:
            self._writers.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -------------------------------------------------------------- values

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """A point of a curve: one number, NaN and infinity included, kept as float32.

        new_style: write a tensor of the plugin "scalars"; with double_precision as float64.

        Raises ValueError for more than one element.
        """
        value = _number("add_scalar", scalar_value)
        if not new_style:
            self._add(_tag(tag), global_step, walltime, simple_value=value)
            return
        kind = {"double_val": [value]} if double_precision else {"float_val": [value]}
        tensor = self._proto("tensor").TensorProto(
            dtype="DT_DOUBLE" if double_precision else "DT_FLOAT", **kind
        )
        plugin = self._plugin("scalars")
        self._add(_tag(tag), global_step, walltime, tensor=tensor, metadata=plugin)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Points of several curves in one picture: each key is a run of its own, in a folder."""
        main = _tag(main_tag)
        values = {tag: _number("add_scalars", x) for tag, x in tag_scalar_dict.items()}
        for tag, value in values.items():
            run = f"{main.replace('/', '_')}_{_tag(tag).replace('/', '_')}"
            self._add(main, global_step, walltime, run, simple_value=value)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """The distribution of values, of any shape.

        bins: "tensorflow" for edges that grow by a tenth, on both sides of 0; or what
            `np.histogram` takes. max_bins: neighbours are joined until there are at most so many.

        Raises ValueError for an empty array, NaN and infinity.
        """
        array = _array("add_histogram", values).astype(np.float64).ravel()
        if not array.size:
            raise ValueError(
                f"add_histogram: expected values for {tag!r}, got an empty array. Leave it out"
            )
        if not np.isfinite(array).all():
            nans, others = int(np.isnan(array).sum()), int(np.isinf(array).sum())
            raise ValueError(
                f"add_histogram: expected finite values for {tag!r}, got {nans} NaN and {others} "
                f"infinite of {array.size}. Write values[np.isfinite(values)]"
            )
        edges = _EDGES if isinstance(bins, str) and bins == "tensorflow" else bins
        counts, limits = _buckets(array, edges, max_bins)
        histogram = self._proto("summary").HistogramProto(
            min=array.min(), max=array.max(), num=array.size, sum=array.sum(),
            sum_squares=array.dot(array), bucket_limit=limits.tolist(), bucket=counts.tolist(),
        )  # fmt: skip
        self._add(_tag(tag), global_step, walltime, histo=histogram)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """An image: uint8 from 0 to 255, floats from 0 to 1 (others are cut off), or booleans.

        dataformats: the meaning of the axes: C channels (1 grey, 3 colours, 4 with opacity), H
            height, W width: "CHW", "HWC", "HW", or another order.

        Raises ValueError for another number of axes or channels, an empty image, other integers,
        and NaN.
        """
        pixels = _pixels("add_image", _array("add_image", img_tensor), dataformats)
        self._add_pixels(tag, pixels, global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Images as one, in rows: as `add_image`, with an axis N of images."""
        array = _array("add_images", img_tensor)
        if "N" not in dataformats or len(dataformats) != array.ndim or not array.size:
            raise ValueError(
                f"add_images: expected images with the axes {dataformats!r}, one of them N, got "
                f"shape {array.shape}. Pass dataformats="
            )
        images = np.moveaxis(array, dataformats.index("N"), 0)
        axes = dataformats.replace("N", "")
        found = np.stack([_pixels("add_images", image, axes) for image in images])
        columns = int(np.ceil(len(found) ** 0.5))
        rows = -(-len(found) // columns)
        height, width, channels = found.shape[1:]
        grid = np.zeros((rows * columns, height, width, channels), np.uint8)
        grid[: len(found)] = found
        grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
        pixels = grid.reshape(rows * height, columns * width, channels)
        self._add_pixels(tag, pixels, global_step, walltime)

    def _add_pixels(self, tag: str, pixels: ndarray, step: Any, walltime: float | None) -> None:
        height, width, channels = pixels.shape
        image = self._proto("summary").Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=_png(pixels)
        )
        self._add(_tag(tag), step, walltime, image=image)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A text, which TensorBoard shows as Markdown."""
        if not isinstance(text_string, str):
            raise TypeError(f"add_text: expected a string, got {type(text_string).__name__}.")
        shape = self._proto("tensor_shape").TensorShapeProto
        tensor = self._proto("tensor").TensorProto(
            dtype="DT_STRING",
            string_val=[text_string.encode()],
            tensor_shape=shape(dim=[shape.Dim(size=1)]),
        )
        content = self._proto("plugin_text").TextPluginData(version=0).SerializeToString()
        plugin = self._plugin("text", content)
        tag = f"{_tag(tag)}/text_summary"
        self._add(tag, global_step, walltime, tensor=tensor, metadata=plugin)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Mapping[str, Sequence[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """The hyperparameters of a run and what came of it: a row of TensorBoard's table.

        hparam_dict: numbers, strings, booleans or None by name. metric_dict: numbers by name.
        hparam_domain_discrete: all values that a hyperparameter takes in the runs.
        run_name: the folder of the run; the time by default.

        Raises TypeError for other values.
        """
        api, plugin_data = self._proto("api"), self._proto("plugin_hparams")
        started = plugin_data.SessionStartInfo()
        infos = []
        for name, given in hparam_dict.items():
            if given is None:
                continue
            kind, field, value = _hyperparameter(name, given)
            setattr(started.hparams[name], field, value)
            info = api.HParamInfo(name=name, type=api.DataType.Value(kind))
            for choice in (hparam_domain_discrete or {}).get(name, ()):
                setattr(info.domain_discrete.values.add(), field, _hyperparameter(name, choice)[2])
            infos.append(info)
        values = {name: _number("add_hparams", value) for name, value in metric_dict.items()}
        metrics = [api.MetricInfo(name=api.MetricName(tag=name)) for name in values]
        experiment = api.Experiment(hparam_infos=infos, metric_infos=metrics)
        ended = plugin_data.SessionEndInfo(status=api.Status.Value("STATUS_SUCCESS"))
        run = run_name or str(time.time())
        for tag, content in (
            ("experiment", {"experiment": experiment}),
            ("session_start_info", {"session_start_info": started}),
            ("session_end_info", {"session_end_info": ended}),
        ):
            data = plugin_data.HParamsPluginData(version=0, **content).SerializeToString()
            plugin = self._plugin("hparams", data)
            self._add(f"_hparams_/{tag}", global_step, None, run, metadata=plugin)
        for name, value in values.items():
            self._add(name, global_step, None, run, simple_value=value)

    # -------------------------------------------------------------- the graph

    def add_graph(self, model: Module, input_to_model: Any = None, verbose: bool = False) -> None:
        """The ops of a model, folded by modules and name scopes.

        Each op stands in the scope of the module that called it, as `Net/Sequential[layer1]/
        Linear[0]/linear`, and of the blocks of `tk.name_scope` in that module. Parameters stand in
        the scope of their module. A node has the shape of its result, its dtype and the line that
        called the op.

        input_to_model: what the model is called with: a Tensor or array, or a tuple of arguments.
            An argument may be a list or dict of Tensors.
        verbose: print the nodes.

        The model runs once, in evaluation mode; modes and random generators are as before.
        Raises TypeError for something other than a module, ValueError for a model that reads
        elements of a Tensor.
        """
        if not isinstance(model, Module):
            raise TypeError(f"add_graph: expected an nn.Module, got {type(model).__name__}.")
        _outside()
        inputs = input_to_model if isinstance(input_to_model, tuple) else (input_to_model,)
        nodes = _nodes_of(model, () if input_to_model is None else inputs)
        graph = self._proto("graph").GraphDef(
            node=[self._node_def(node) for node in nodes],
            versions=self._proto("versions").VersionDef(producer=22),
        )
        if verbose:
            print(*nodes, sep="\n")
        event = self._proto("event").Event(graph_def=graph.SerializeToString())
        self._open("").add_event(event, None, None)

    def _node_def(self, node: _Node) -> Any:
        attribute = self._proto("attr_value").AttrValue
        shape = self._proto("tensor_shape").TensorShapeProto
        dims = shape(dim=[shape.Dim(size=size) for size in node.shape])
        attributes = {"_output_shapes": attribute(list=attribute.ListValue(shape=[dims]))}
        for name, text in node.attributes.items():
            attributes[name] = attribute(s=text.encode())
        return self._proto("node_def").NodeDef(
            name=node.name, op=node.op, input=node.inputs, attr=attributes
        )


# ------------------------------------------------------------------ values


def _outside() -> None:
    """In a function that is being compiled: it runs as written."""
    if tracer := tracing():
        tracer.give_up("SummaryWriter writes: call it outside, after the function")


def _array(function: str, value: Any) -> ndarray:
    """The value as an array of booleans or numbers."""
    array = np.asarray(value.data if isinstance(value, Tensor) else value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{function}: expected numbers, got {type(value).__name__} of dtype {array.dtype}."
        )
    return array


def _number(function: str, value: Any) -> float:
    array = _array(function, value)
    if array.size != 1:
        raise ValueError(f"{function}: expected one number, got shape {array.shape}.")
    return float(array.item())


def _tag(tag: Any) -> str:
    if not isinstance(tag, str) or not tag:
        raise TypeError(f"SummaryWriter: expected a name as tag, got {tag!r}.")
    return tag


def _hyperparameter(name: str, value: Any) -> tuple[str, str, Any]:
    """The type of a hyperparameter in TensorBoard, the field for it, and its value."""
    if isinstance(value, str):
        return "DATA_TYPE_STRING", "string_value", value
    if isinstance(value, Tensor | np.generic | ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool):
        return "DATA_TYPE_BOOL", "bool_value", value
    if isinstance(value, int | float):
        return "DATA_TYPE_FLOAT64", "number_value", float(value)
    raise TypeError(
        f"add_hparams: expected a number, string or bool for {name!r}, got {type(value).__name__}. "
        "Write str(...)"
    )


def _edges() -> ndarray:
    """TensorFlow's edges: from 1e-12 to 1e20, each a tenth larger, on both sides of 0."""
    positive = 1e-12 * 1.1 ** np.arange(773)
    positive = np.append(positive[positive < 1e20], np.finfo(np.float64).max)
    return np.concatenate([-positive[::-1], [0.0], positive])


_EDGES = _edges()


def _buckets(values: ndarray, bins: Any, max_bins: int | None) -> tuple[ndarray, ndarray]:
    """The counts and right edges of the buckets, from an empty one on the left to the last."""
    counts, edges = np.histogram(values, bins=bins)
    if max_bins is not None and len(counts) > max_bins:
        joined = -(-len(counts) // max_bins)
        starts = np.arange(0, len(counts), joined)
        counts, edges = np.add.reduceat(counts, starts), np.append(edges[starts], edges[-1])
    (filled,) = counts.nonzero()
    if not len(filled):
        raise ValueError("add_histogram: expected bins that hold some values, got others.")
    first, last = filled[0], filled[-1]
    return np.append(0, counts[first : last + 1]), edges[first : last + 2]


def _pixels(function: str, array: ndarray, dataformats: str) -> ndarray:
    """The image as uint8 (height, width, channels)."""
    if sorted(dataformats) not in (sorted("CHW"), sorted("HW")) or len(dataformats) != array.ndim:
        raise ValueError(
            f"{function}: expected an image with the axes {dataformats!r}, got shape "
            f"{array.shape}. Pass dataformats= of C, H and W, one letter for each axis"
        )
    image = array.transpose([dataformats.index(axis) for axis in "HWC" if axis in dataformats])
    image = image if image.ndim == 3 else image[..., None]
    if image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(
            f"{function}: expected 1, 3 or 4 channels of an image that is not empty, got "
            f"{image.shape[2]} of {image.shape[0]} x {image.shape[1]} in {dataformats!r}."
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if image.dtype.kind != "f":
        raise ValueError(
            f"{function}: expected uint8 from 0 to 255 or floats from 0 to 1, got {image.dtype}. "
            "Write image.astype(np.uint8)"
        )
    if np.isnan(image).any():
        raise ValueError(f"{function}: expected floats from 0 to 1, got NaN.")
    return (image.astype(np.float32).clip(0, 1) * np.float32(255)).astype(np.uint8)


def _png(pixels: ndarray) -> bytes:
    """A PNG file of uint8 (height, width, 1, 3 or 4 channels)."""
    height, width, channels = pixels.shape
    colour = {1: 0, 3: 2, 4: 6}[channels]
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter, 0
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = (
        chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


# ------------------------------------------------------------------ the graph


class _Node:
    """A node of the graph: its name with its scopes, and what TensorBoard shows beside it."""

    def __init__(
        self, name: str, op: str, inputs: list[str], value: Value, attributes: dict[str, str]
    ) -> None:
        self.name, self.op, self.inputs, self.shape = name, op, inputs, value.shape
        self.attributes = {"dtype": str(value.dtype), **attributes}

    def __str__(self) -> str:
        return f"{self.name} = {self.op}({', '.join(self.inputs)})  {self.shape}"


class _ScopeTracer(Tracer):
    """A tracer that notes in which module calls and name scopes each op ran."""

    def __init__(self, model: Module) -> None:
        super().__init__([*model.parameters(), *model.buffers()])
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.kinds = {path: type(module).__name__ for path, module in model.named_modules()}
        self.calls: list[tuple[str, int]] = []
        """The calls of modules that run: the path of each, and how many name scopes are around."""
        self.scopes: list[tuple[str, ...]] = []
        self.first: dict[str, tuple[str, ...]] = {}
        """The scope of the first call of each module, by path."""

    def enter(self, module: Module, args: Any) -> None:
        """A hook: the module's forward begins."""
        path = self.paths[id(module)]
        self.calls.append((path, len(_names())))
        self.first.setdefault(path, self._scope())

    def leave(self, module: Module, args: Any, output: Any) -> None:
        """A hook: it has ended."""
        self.calls.pop()

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Any) -> None:
        """An op has computed `out`."""
        super().note(record, inputs, params, out)
        self.scopes += [self._scope()] * (len(self.program.instructions) - len(self.scopes))

    def _scope(self) -> tuple[str, ...]:
        names, parts, done, around = _names(), [], 0, None
        for path, inside in self.calls:
            parts += [*names[done:inside], *self.labels(path, around)]
            done, around = inside, path
        return (*parts, *names[done:])

    def labels(self, path: str, around: str | None) -> list[str]:
        """The scopes of a module within those of the module `around`: `Linear[0]`."""
        if around is None:
            return [self.kinds[""], *(self.labels(path, "") if path else ())]
        inner = path.removeprefix(f"{around}.") if around else path
        parts, before = inner.split("."), path[: len(path) - len(inner)]
        ends = [f"{before}{'.'.join(parts[: i + 1])}" for i in range(len(parts))]
        return [f"{self.kinds[end]}[{part}]" for end, part in zip(ends, parts, strict=True)]


def _names() -> tuple[str, ...]:
    """The name scopes around the code that runs."""
    names: tuple[str, ...] = getattr(current_mode(), "names", ())
    return names


@contextmanager
def _hooks(model: Module, tracer: _ScopeTracer) -> Iterator[None]:
    """The tracer is told of each call of a module; afterwards no module has a hook more."""
    with ExitStack() as stack:
        for module in list(model.modules()):
            if module._hooks is None:
                stack.callback(delattr, module, "_hooks")
            stack.enter_context(module.register_forward_pre_hook(tracer.enter))
            stack.enter_context(module.register_forward_hook(tracer.leave))
        yield


def _nodes_of(model: Module, arguments: tuple[Any, ...]) -> list[_Node]:
    tracer = _ScopeTracer(model)
    generators = [default_generator(), *generators_in(model).values()]
    states = [generator.bit_generator.state for generator in generators]
    try:
        with modes_kept(model), no_grad(), _hooks(model, tracer):
            model.eval()
            tracer.run(model, arguments, {})
    except CaptureError as error:
        raise ValueError(f"add_graph: {error}") from error
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state
    if tracer.reason is not None:
        raise ValueError(
            f"add_graph: expected a model that can be recorded, got one where {tracer.reason}. "
            "Compute it with tk's ops"
        )
    missing = len(tracer.program.instructions) - len(tracer.scopes)
    tracer.scopes += [(tracer.kinds[""],)] * missing
    return _Naming(tracer, model, argument_names(model.forward, arguments, {})).nodes


class _Naming:
    """The nodes of a program, each with a name of its own."""

    def __init__(self, tracer: _ScopeTracer, model: Module, arguments: Sequence[str]) -> None:
        self.nodes: list[_Node] = []
        self._taken: set[str] = set()
        self._names: dict[Value, str] = {}
        program: Program = tracer.program
        held = {
            id(tensor): (path, kind)
            for kind, tensors in (
                ("Parameter", model.named_parameters()),
                ("Buffer", model.named_buffers()),
            )
            for path, tensor in tensors
        }
        used = {value for instruction in program.instructions for value in instruction.reads()}
        used.update(value for value in program.results if isinstance(value, Value))
        for value, source in program.inputs.items():
            if isinstance(source, Argument):
                inner = [arguments[source.index]] if len(arguments) > 1 else []
                self._add(("input", *inner), "Placeholder", [], value)
            elif value in used and isinstance(source, Leaf) and id(source.node) in held:
                path, kind = held[id(source.node)]
                owner, _, name = path.rpartition(".")
                scope = tracer.first.get(owner) or tracer.labels(owner, None)
                self._add((*scope, name), kind, [], value)
            elif value in used:
                self._add((tracer.kinds[""], "constant"), "Const", [], value)
        for instruction, scope in zip(program.instructions, tracer.scopes, strict=True):
            self._add_op(instruction, scope)
        for result in program.results:
            if isinstance(result, Value):
                self._add(("output",), "Output", [self._names[result]], result)

    def _add_op(self, instruction: Instruction, scope: tuple[str, ...]) -> None:
        name = instruction.op.__name__.strip("_")
        inputs = [self._names[value] for value in instruction.reads()]
        numbers = {
            f"input_{i}": repr(x)
            for i, x in enumerate(instruction.inputs)
            if not isinstance(x, Value)
        }
        params = {key: repr(value) for key, value in instruction.params.items()}
        attributes = numbers | params | {"line": instruction.source_line}
        self._add((*scope, name), name, inputs, instruction.output, attributes)

    def _add(
        self,
        parts: Iterable[str],
        op: str,
        inputs: list[str],
        value: Value,
        attributes: dict[str, str] | None = None,
    ) -> None:
        wanted = "/".join(_cleaned(part) for part in parts)
        name, number = wanted, count(1)
        while name in self._taken:
            name = f"{wanted}_{next(number)}"
        self._taken.add(name)
        self._names.setdefault(value, name)
        self.nodes.append(_Node(name, op, inputs, value, attributes or {}))


def _cleaned(part: str) -> str:
    """A part of a name without what TensorBoard reads otherwise: spaces, `:` and `^`."""
    return re.sub(r"[\s:^]", "_", part)


# ------------------------------------------------------------------ in `tk.fit`


class TensorBoard(Callback):
    """Writes the values of each epoch of `tk.fit`, and histograms, for TensorBoard.

    log_dir: the folder of the event files. histogram_freq: after every so many epochs write the
    distributions of parameters and of their gradients in the last step; 0: never.

    The tags of parameters are their paths, `layer1/0/weight`. `writer` is the `SummaryWriter`.

    Raises ValueError for a frequency below 0, ModuleNotFoundError without tensorboardX.
    Source: keras.callbacks.TensorBoard.

    >>> import os, tempfile  # pip install "tinygrad_kr[tensorboard]"
    >>> board = tk.tensorboard.TensorBoard(tempfile.mkdtemp(), histogram_freq=1)
    >>> x, net = tk.ones(4, 1), nn.Linear(1, 1)
    >>> sgd = optim.SGD(net.parameters(), lr=0.1)
    >>> history = tk.fit(net, (x, x), F.mse_loss, sgd, 3, callbacks=[board], progress=False)
    >>> len(os.listdir(board.writer.log_dir))
    1
    """

    def __init__(self, log_dir: str | os.PathLike[str] = "logs", histogram_freq: int = 0) -> None:
        if histogram_freq < 0:
            raise ValueError(f"TensorBoard: expected histogram_freq >= 0, got {histogram_freq}.")
        self.histogram_freq = histogram_freq
        self.writer = SummaryWriter(log_dir)

    def on_epoch_end(self, training: Training) -> None:
        """Write the values of the epoch."""
        for name, values in training.history.items():
            if values:
                self.writer.add_scalar(name, values[-1], training.epoch)
        if self.histogram_freq and training.epoch % self.histogram_freq == 0:
            for path, parameter in training.model.named_parameters():
                tag = path.replace(".", "/")
                self._histogram(tag, parameter, training.epoch)
                if parameter.grad is not None:
                    self._histogram(f"{tag}/gradient", parameter.grad, training.epoch)

    def _histogram(self, tag: str, values: Tensor, epoch: int) -> None:
        """Write a distribution; a diverged training has none, and goes on."""
        array = values.data
        if array.size and np.isfinite(array).all():
            self.writer.add_histogram(tag, array, epoch)

    def on_train_end(self, training: Training) -> None:
        """Write what waits in memory."""
        self.writer.close()
