"""What `diagnose` works on: copies of a model and its optimizer, and a few batches of its data."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import optim
from tinygrad_kr.autodiff import gradients
from tinygrad_kr.grad_mode import enable_grad, no_grad
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import tick
from tinygrad_kr.random import default_generator
from tinygrad_kr.saving.generators import generators_in
from tinygrad_kr.tensor import Tensor

Batch = tuple[Any, Any]
ROWS = 256
"""Limit: rows of a batch that is cut from arrays."""
SAMPLE = 2000
"""Limit: rows from which the scale of inputs is computed."""
PROBES = 3
"""Number of batches on which losses are compared."""


class StepError(Exception):
    """A step raised. phase: "model", "loss" or "backward". output: of the model, if there is one.

    cause: the error itself.
    """

    def __init__(self, phase: str, cause: Exception, output: Any = None) -> None:
        super().__init__(phase)
        self.phase, self.cause, self.output = phase, cause, output


# ------------------------------------------------------------------ data


def is_array(x: Any) -> bool:
    """Whether `x` is an array or a Tensor, with at least one axis."""
    return isinstance(x, ndarray | Tensor) and x.ndim > 0


def is_pair_of_arrays(data: Any) -> bool:
    """Whether `data` is `(inputs, targets)`, and not an iterable of such pairs."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        return False
    return not all(isinstance(part, tuple | list) and len(part) == 2 for part in data)


def tensor_of(x: Any) -> Any:
    """Arrays and lists as Tensors; tuples and dicts of arrays member by member."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, tuple):
        return tuple(map(tensor_of, x))
    if isinstance(x, dict):
        return {name: tensor_of(value) for name, value in x.items()}
    if isinstance(x, ndarray | np.generic | list | int | float):
        return Tensor(np.asarray(x))
    return x


def values_of(x: Any) -> ndarray | None:
    """The array of an array or Tensor; of a tuple or dict, of its first one; None for others."""
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, tuple | list | dict):
        members: Iterable[Any] = x.values() if isinstance(x, dict) else x
        return next((found for m in members if (found := values_of(m)) is not None), None)
    return x if isinstance(x, ndarray) else None


class Data:
    """Some batches of the data, and what is known of all targets.

    given: "arrays" for a pair of arrays, else "batches". inputs, targets: all that was read, as
    arrays, or None where they are no arrays of floats or integers that fit together.
    """

    def __init__(self, data: Any, steps: int, name: str = "data") -> None:
        self.given = "arrays" if is_pair_of_arrays(data) else "batches"
        if self.given == "arrays":
            pair = (tensor_of(data[0]), tensor_of(data[1]))
            self.batches = list(_cut(*pair, steps))
            pairs: list[Batch] = [pair]
        else:
            pairs = self.batches = [
                _pair(item, name) for item in islice(_iterated(data, name), steps)
            ]
        if not self.batches:
            raise ValueError(f"diagnose: expected at least one batch in {name}, got none.")
        self.inputs = _joined([values_of(x) for x, _ in pairs])
        self.targets = _joined([values_of(y) for _, y in pairs])

    @property
    def sample(self) -> ndarray | None:
        """Inputs of at most `SAMPLE` rows, from the first to the last."""
        return None if self.inputs is None else self.inputs[:: -(-len(self.inputs) // SAMPLE)]

    def standardized(self) -> list[Batch]:
        """The batches with inputs of mean 0 and standard deviation 1."""
        assert self.sample is not None
        mean, std = moments(self.sample)
        return [(Tensor(((x.data - mean) / std).astype(_float(x))), y) for x, y in self.batches]


def moments(inputs: ndarray) -> tuple[Any, Any]:
    """Mean and standard deviation: of each column of a table, else of all elements.

    A standard deviation of 0 comes as 1.
    """
    x = inputs.astype(np.float64)
    if x.ndim != 2:
        return float(x.mean()), float(x.std()) or 1.0
    std = x.std(axis=0)
    return x.mean(axis=0), np.where(std == 0, 1.0, std)


def _float(x: Tensor) -> Any:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)


def _iterated(data: Any, name: str) -> Iterator[Any]:
    if not isinstance(data, Iterable) or isinstance(data, ndarray | Tensor | str):
        raise TypeError(
            f"diagnose: expected {name} as (inputs, targets) or an iterable of such pairs, got "
            f"{type(data).__name__}."
        )
    return iter(data)


def _pair(item: Any, name: str) -> Batch:
    if not isinstance(item, tuple | list) or len(item) != 2:
        length = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise TypeError(
            f"diagnose: expected pairs (inputs, targets) in {name}, got a "
            f"{type(item).__name__}{length}."
        )
    return tensor_of(item[0]), tensor_of(item[1])


def _cut(inputs: Any, targets: Any, steps: int) -> Iterator[Batch]:
    """The arrays as one batch; long ones as batches of `ROWS` rows, in a fixed random order."""
    x, y = values_of(inputs), values_of(targets)
    cut = isinstance(inputs, Tensor) and isinstance(targets, Tensor)
    if (
        not cut
        or x is None
        or y is None
        or not x.ndim
        or len(x) <= 2 * ROWS
        or x.shape[:1] != y.shape[:1]
    ):
        yield inputs, targets
        return
    order = np.random.default_rng(0).permutation(len(x))
    for start in range(0, min(len(x) - ROWS, ROWS * steps) + 1, ROWS):
        rows = order[start : start + ROWS]
        yield Tensor(x[rows]), Tensor(y[rows])


def _joined(arrays: list[ndarray | None]) -> ndarray | None:
    known = [a for a in arrays if a is not None and a.ndim]
    if len(known) < len(arrays) or not known or len({a.shape[1:] for a in known}) > 1:
        return None
    joined = np.concatenate(known) if len(known) > 1 else known[0]
    return joined if joined.size and joined.dtype.kind in "fiub" else None


# ------------------------------------------------------------------ copies


def _unshare_activations(model: Module) -> None:
    """Put a module of its own at each path of a shared one, such as one ReLU for all layers.

    So a path tells which call it was. Modules with parameters, buffers or a generator stay shared.
    """
    seen = set()
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in seen and type(module).__module__.startswith("tinygrad_kr.nn."):
            alone = not list(module.children()) and not generators_in(module)
            if alone and not [*module.parameters(), *module.buffers()]:
                holder, _, name = path.rpartition(".")
                setattr(model.get_submodule(holder), name, copy.deepcopy(module))
        seen.add(id(module))


class Copy:
    """Deep copies of a model, a loss and an optimizer, that are trained in their place.

    Gradients are not added to `.grad` by `backward`, which would also reach Tensors of the caller
    that a loss refers to: they are computed for the copied parameters alone.
    """

    def __init__(self, model: Module, loss_function: Any, optimizer: Any) -> None:
        self.model, self.loss_function, self.optimizer = copy.deepcopy(
            (model, loss_function, optimizer)
        )
        _unshare_activations(self.model)
        self.names = dict(self.model.named_parameters())
        self._at_first: list[Any] = []

    def trained(self) -> list[Tensor]:
        """The parameters that require a gradient, of the model and the optimizer."""
        groups = self.optimizer.param_groups if self.optimizer is not None else ()
        known = [*self.names.values(), *(p for group in groups for p in group["params"])]
        return [p for p in dict.fromkeys(known) if p.requires_grad]

    def forward(self, batch: Batch) -> tuple[Any, Any]:
        """The output and the loss. Raises StepError."""
        inputs, targets = batch
        try:
            output = self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs)
        except Exception as error:
            raise StepError("model", error) from error
        self.loss_began = tick()
        try:
            return output, self.loss_function(output, targets)
        except Exception as error:
            raise StepError("loss", error, output) from error

    def gradients(self, loss: Any, output: Any, keep: bool = False) -> list[Any]:
        """The gradients of the trained parameters, None where there is none. Raises StepError."""
        try:
            return list(gradients(loss, self.trained(), retain_graph=keep, allow_unused=True))
        except Exception as error:
            raise StepError("backward", error, output) from error

    def step(self, batch: Batch) -> float:
        """One step of training; the loss before it."""
        output, loss = self.forward(batch)
        for p, g in zip(self.trained(), self.gradients(loss, output), strict=True):
            p.grad = g
        self.optimizer.step()
        return float(loss.data)

    def train(self, batches: list[Batch], steps: int) -> list[float]:
        """The losses of `steps` steps; it stops at one that is not finite."""
        losses: list[float] = []
        for i in range(steps):
            losses.append(self.step(batches[i % len(batches)]))
            if not math.isfinite(losses[-1]):
                break
        return losses

    def loss_on(self, batches: list[Batch]) -> float:
        """The mean loss of batches, in the present mode. Dropout drops the same each time."""
        held = [default_generator(), *generators_in(self.model).values()]
        states = [generator.bit_generator.state for generator in held]
        self._at_first = self._at_first or states
        _restore(held, self._at_first)
        try:
            with no_grad():
                return float(np.mean([np.mean(self.forward(batch)[1].data) for batch in batches]))
        finally:
            _restore(held, states)

    def scale_rates(self, factor: float) -> None:
        """Multiply the learning rate of every group."""
        for group in self.optimizer.param_groups:
            group["lr"] *= factor


class Case:
    """What `diagnose` was given; it makes copies, and trains them from the same start."""

    def __init__(
        self, model: Module, loss_function: Any, data: Data, optimizer: Any,
        validation: Data | None, steps: int,
    ) -> None:  # fmt: skip
        self.model, self.loss_function, self.optimizer = model, loss_function, optimizer
        self.data, self.validation, self.steps = data, validation, steps
        self.batches = data.batches
        self.probes = data.batches[:PROBES]
        self.names = dict(model.named_parameters())
        self._state = default_generator().bit_generator.state

    def copy(self) -> Copy:
        """Copies, with the random generators as they were at the start."""
        default_generator().bit_generator.state = self._state
        return Copy(self.model, self.loss_function, self.optimizer)

    def trainable(self) -> Copy:
        """Copies with an optimizer: Adam where none was given."""
        made = self.copy()
        if made.optimizer is None:
            made.optimizer = optim.Adam(made.trained(), lr=1e-3)
        return made


@contextmanager
def undisturbed(*parts: Any) -> Iterator[None]:
    """Restore the random generators that parts hold, and the default one. No warning comes out."""
    held = [default_generator(), *(g for part in parts for g in generators_in(part).values())]
    states = [generator.bit_generator.state for generator in held]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), enable_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        _restore(held, states)


def _restore(generators: list[Any], states: list[Any]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
