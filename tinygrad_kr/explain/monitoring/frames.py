"""The frames of a film: what a Monitor keeps of a step to show it, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.explain.monitoring.activity import Activity, Histogram, Layer, histogram
from tinygrad_kr.explain.monitoring.copies import State
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node
from tinygrad_kr.random import default_generator
from tinygrad_kr.saving.generators import generators_in
from tinygrad_kr.tensor import Tensor

MOST_FRAMES = 64
"""Limit: frames; beyond it every second one is dropped."""
MOST_POINTS = 2000
"""Limit: points of a curve; beyond it neighbours are averaged."""
MOST_LAYERS = 24
"""Limit: layers with a histogram; of more, the first ones."""
MOST_PICTURES = 6
"""Limit: layers whose weights are shown."""
TILES, SIDE = 16, 64
"""Limits: units of a picture, and rows and columns of a matrix that is no image."""
GRID = 48
"""Points along an axis at which the decision boundary is computed."""
MOST_EXAMPLES = 400
"""Limit: examples shown on the plane."""


class Curve:
    """The mean of a number over equal stretches of steps, at most `MOST_POINTS` of them."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._values: list[float] = []
        self._width = 1
        self._sum, self._count, self._first = 0.0, 0, 0

    def add(self, step: int, value: float) -> None:
        """The number at one more step."""
        if not self._count:
            self._first = step
        self._sum += value
        self._count += 1
        if self._count >= self._width:
            self._steps.append(self._first)
            self._values.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
            if len(self._steps) >= MOST_POINTS:
                self._merge()

    def _merge(self) -> None:
        pairs = zip(self._values[0::2], self._values[1::2], strict=False)
        self._values = [(a + b) / 2 for a, b in pairs]
        self._steps = self._steps[0 : 2 * len(self._values) : 2]
        self._width *= 2

    def points(self) -> dict[str, list[Any]]:
        """The first step of each stretch and the mean over it, None where it is not finite."""
        steps, values = [*self._steps], [*self._values]
        if self._count:
            steps.append(self._first)
            values.append(self._sum / self._count)
        return {"step": steps, "value": [x if math.isfinite(x) else None for x in values]}


# ------------------------------------------------------------------ a call of the model


class Call(NamedTuple):
    """A call of the model: its inputs and its output, and what the loss compares that with.

    targets: classes, one for each example, or None. cut: where one output divides two classes.
    """

    args: tuple[Any, ...]
    output: Node
    targets: ndarray | None = None
    cut: float = 0.5

    def with_targets(self, order: Sequence[Node]) -> Call:
        """The call with the targets that an op between the output and the loss reads."""
        output, found = self.output._data, None
        cut = 0.5
        for node in order:
            if node._made <= self.output._made:
                continue
            for x, value in zip(node._inputs or (), node._values, strict=False):
                if not isinstance(x, Node) or x._op is None:
                    found = _classes(np.asarray(value), output) if found is None else found
            if "logits" in node._op.__name__ or node._op.__name__ == "softplus":
                cut = 0.0
        return self._replace(targets=found, cut=cut)

    def accuracy(self) -> float | None:
        """The share of examples whose class is right; None where the targets are not classes."""
        if self.targets is None:
            return None
        output = self.output._data
        if output.ndim == 2 and output.shape[1] > 1:
            guesses = output.argmax(axis=1)
        else:
            guesses = (output.reshape(-1) > self.cut).astype(int)
        return float((guesses == self.targets).mean())

    def plane(self) -> ndarray | None:
        """The inputs, if they are pairs of numbers."""
        x = self.args[0] if len(self.args) == 1 else None
        array = x._data if isinstance(x, Node) else x
        if not isinstance(array, ndarray) or array.ndim != 2 or array.shape[1] != 2:
            return None
        return array if array.dtype.kind == "f" and len(array) else None


def _classes(value: ndarray, output: ndarray) -> ndarray | None:
    """`value` as a class for each row of `output`; None if it cannot be one."""
    if not output.ndim or not len(output) or value.shape[:1] != output.shape[:1]:
        return None
    columns = output.shape[1] if output.ndim == 2 else 1
    if output.ndim > 2:
        return None
    if columns > 1 and value.shape == output.shape and _is_one_hot(value):
        return np.asarray(value.argmax(axis=1))
    if value.size != len(output):
        return None
    flat = value.reshape(-1)
    if columns > 1:
        return flat if flat.dtype.kind in "iu" else None
    return flat.astype(int) if np.isin(flat, (0, 1)).all() else None


def _is_one_hot(value: ndarray) -> bool:
    return bool(((value == 0) | (value == 1)).all() and (value.sum(axis=1) == 1).all())


# ------------------------------------------------------------------ frames


class Picture(NamedTuple):
    """Weights as an image: whole numbers from -127 to 127, and what 127 stands for."""

    pixels: ndarray
    scale: float


class Frame(NamedTuple):
    """What a film shows of one step."""

    step: int
    norms: dict[str, Any]
    histograms: dict[str, Histogram]
    pictures: dict[str, Picture]
    plane: ndarray | None


class Frames:
    """The frames of one training, in about 7 MB at most.

    A frame has up to 24 histograms, 6 pictures of at most 17,200 pixels, and 2,304 points of the
    plane.
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.frames: list[Frame] = []
        self.layers: list[str] = []
        """The layers that the loss depends on, in the order in which they ran."""
        self.function = ""
        """The most frequent activation function."""
        self.box: list[float] | None = None
        """The part of the plane that is shown: x from, x to, y from, y to."""
        self._points: dict[tuple[float, ...], None] = {}
        self.is_class = False
        """Whether the plane shows numbers of classes, not one output."""
        self._met = 0
        self._stride = 1
        self._refused = False

    def take(
        self, step: int, activity: Activity, layers: list[Layer], call: Call | None, norms: Any
    ) -> None:
        """A frame of this step, or none: where there are many, only every so many are kept."""
        self._met += 1
        if (self._met - 1) % self._stride:
            return
        kinds = [one.kind for one in activity.activations]
        self.function = max(kinds, key=kinds.count, default=self.function)
        self.layers = self.layers or activity.layers
        shown = activity.activations[:MOST_LAYERS]
        matrices = {layer.path: layer.matrix for layer in layers}
        paths = [path for path in self.layers if matrices.get(path) is not None][:MOST_PICTURES]
        pictures = {path: picture_of(matrices[path]._data) for path in paths}  # type: ignore[union-attr]
        histograms = {one.layer: histogram(one.values) for one in shown}
        plane = None if call is None else self._plane(call)
        self.frames.append(Frame(step, dict(norms), histograms, pictures, plane))
        if len(self.frames) > MOST_FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2

    def _plane(self, call: Call) -> ndarray | None:
        """The output of the model over the plane, (GRID, GRID)."""
        inputs = call.plane()
        if inputs is None or self._refused:
            return None
        if self.box is None:
            low, high = inputs.min(axis=0), inputs.max(axis=0)
            room = 0.15 * np.maximum(high - low, 1e-3)
            self.box = [*map(float, np.stack([low - room, high + room]).T.reshape(-1))]
        self._add_points(inputs, call.targets)
        left, right, bottom, top = self.box
        x, y = np.linspace(left, right, GRID), np.linspace(bottom, top, GRID)
        grid = np.stack([*np.meshgrid(x, y)], axis=-1).reshape(-1, 2).astype(inputs.dtype)
        try:
            with _undisturbed(self.model), no_grad():
                output = np.asarray(self.model(Tensor(grid))._data, np.float64)
            if output.ndim == 2 and output.shape[1] > 1:
                self.is_class = True
                return np.asarray(output.argmax(axis=1), np.uint8).reshape(GRID, GRID)
            return self._one_output(output.reshape(GRID, GRID), call)
        except Exception:  # a model that takes no other batch
            self._refused = True
            return None

    def _add_points(self, inputs: ndarray, classes: ndarray | None) -> None:
        """Keep examples that are not among the points yet."""
        known = inputs if classes is None else np.column_stack([inputs, classes])
        for row in known[:MOST_EXAMPLES].tolist():
            if len(self._points) < MOST_EXAMPLES:
                self._points[tuple(row)] = None

    @property
    def points(self) -> ndarray:
        """Examples on the plane, (n, 2); with their classes, (n, 3)."""
        return np.array(list(self._points))

    def _one_output(self, output: ndarray, call: Call) -> ndarray:
        """A probability; the output itself where there are no classes."""
        if call.targets is None:
            return np.asarray(output, np.float32)
        if call.cut == 0:
            output = 1 / (1 + np.exp(-output))
        return np.where(np.isfinite(output), output.clip(0, 1), 0).astype(np.float32)


@contextmanager
def _undisturbed(model: Module) -> Iterator[None]:
    """Run a model in eval mode without a trace: modes, buffers and generators stay as they are."""
    generators = [default_generator(), *generators_in(model).values()]
    with State([*model.buffers(), *model.modules(), *generators]).in_force():
        for module in model.modules():
            vars(module)["training"] = False
        yield


def picture_of(weight: ndarray) -> Picture:
    """The weights of units side by side, where they are images, else the matrix."""
    side = math.isqrt(weight[0].size) if len(weight) else 0
    if weight.ndim == 4 and min(weight.shape[2:]) > 1:
        tiled = _tiles(weight[:TILES, 0])
    elif weight.ndim == 2 and side * side == weight.shape[1] and 4 <= side <= 32:
        tiled = _tiles(weight[:TILES].reshape(-1, side, side))
    else:
        tiled = weight.reshape(len(weight), -1)[:SIDE, :SIDE]
    shown = np.where(np.isfinite(tiled), tiled, 0)
    largest = float(np.abs(shown).max(initial=0))
    return Picture(np.round(shown * (127 / (largest or 1.0))).astype(np.int8), largest)


def _tiles(images: ndarray) -> ndarray:
    """Images in rows of equal length, with a line of zeros between them."""
    n, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), images.dtype)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet
