"""The training loop: `tk.fit`, `tk.evaluate` and `tk.predict`, and the callbacks of a training.

Keras's habits on PyTorch's parts. The loop is `fit`; the rest prepares its data and metrics.
"""

from __future__ import annotations

import copy
import functools
import importlib
import math
import operator
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import numpy as np

from tinygrad_kr import functional as F
from tinygrad_kr import nn, tree
from tinygrad_kr.arrays import concatenate
from tinygrad_kr.compile.function import compile as compiled
from tinygrad_kr.compile.trace.tracer import CaptureError
from tinygrad_kr.data import DataLoader, Dataset
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.language import Text
from tinygrad_kr.nn import Module
from tinygrad_kr.optim import Optimizer
from tinygrad_kr.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tinygrad_kr.saving import save
from tinygrad_kr.tensor import Tensor

__all__ = [
    "Callback", "EarlyStopping", "History", "LearningRateScheduler", "ModelCheckpoint",
    "ProgressBar", "TerminateOnNaN", "Training", "evaluate", "fit", "predict",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__


Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], Any]
Metrics = str | Metric | Sequence[str | Metric] | Mapping[str, str | Metric]
Callbacks: TypeAlias = "Told | Sequence[Told]"
Told: TypeAlias = "Callback | Callable[[Training], Any]"
BATCH_SIZE = 32
_EPOCH = Text("epoch {epoch}/{epochs}", "에포크 {epoch}/{epochs}")
_SECONDS, _BATCHES = Text("({seconds:.1f} s)", "({seconds:.1f}초)"), Text("batch", "배치")
_CURVES = Text("History", "학습 기록")
_AS_WRITTEN = Text(
    "the step runs as written, not compiled (as with compile=False): {error}",
    "스텝을 컴파일하지 않고 쓰인 그대로 실행합니다(compile=False와 같음): {error}",
)


# ------------------------------------------------------------------ the loop


def fit(
    model: Module,
    data: Any,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    *,
    validation: Any = None,
    metrics: Metrics = (),
    callbacks: Callbacks = (),
    batch_size: int | None = None,
    progress: bool = True,
    compile: bool = True,
) -> History:
    """Train a model: one step of the optimizer for each batch, `epochs` times through the data.

    data: a `DataLoader`, or `(inputs, targets)`, arrays that are shuffled into batches. Otherwise
        anything that yields batches `(inputs, targets)` and can be iterated once per epoch. The
        model is called as `model(inputs)`; inputs and targets may be tuples or dicts of arrays.
    loss: `loss(outputs, targets)`, a mean over the batch: `F.cross_entropy`, `nn.MSELoss()`.
    validation: data in the same forms, evaluated after each epoch, in order.
    metrics: names ("accuracy", "mse", "mae") or functions `metric(outputs, targets)`, means over
        the batch; or a dict of them by name. See `evaluate`.
    callbacks: `Callback` objects, or functions that are called with the `Training` after each
        epoch.
    batch_size: of data and validation given as arrays; 32 by default.
    progress: show a bar by tqdm, or lines. See `ProgressBar`.
    compile: compile the step and the evaluation by `tk.compile`. A model that cannot be compiled
        runs as written; if it reads elements of a Tensor, a warning says so.

    Returns the `History`: for each epoch the means over all rows, of training while the weights
    changed and, as `val_loss`, of validation after it. The model is in training mode during
    training and in evaluation mode during validation. Afterwards each module has its mode from
    before, also after an error.

    With an optimizer of `tk.distributed` the history has the means over the rows of all ranks, so
    that callbacks decide alike, and rank 0 alone shows progress.

    Ctrl-C ends the training with the history so far, and `history.interrupted` is True; in the
    first epoch, and on one of several ranks, it raises KeyboardInterrupt. Another exception has the
    history as `error.history`.

    Raises TypeError for another type of argument, or for an iterator, which is used up after one
    epoch; ValueError for batches that are no pairs, for an epoch without batches, a name that no
    metric has, or a metric that cannot be computed of these outputs and targets.
    Source: Keras, Model.fit.

    >>> x = tk.linspace(-1, 1, 64).reshape(64, 1)
    >>> net = nn.Linear(1, 1)
    >>> optimizer = optim.SGD(net.parameters(), lr=0.5)
    >>> history = tk.fit(net, (x, 3 * x + 1), F.mse_loss, optimizer, epochs=20, progress=False)
    >>> len(history["loss"]), round(net.weight.item(), 3), round(net.bias.item(), 3)
    (20, 3.0, 1.0)
    """
    _check(model, optimizer, epochs)
    named = _named_metrics("fit", metrics, loss)
    batches = _as_batches("fit", data, batch_size, epochs, shuffle=True)
    checked = None if validation is None else _as_batches("fit", validation, batch_size, epochs)
    names = ["loss", *named]
    if validation is not None:
        names += [f"val_{name}" for name in names]
    training = Training(model, optimizer, epochs, _length(batches))
    history = training.history
    history.update({name: [] for name in names})
    told = _as_callbacks(callbacks)
    if progress and training.is_first:
        told.append(ProgressBar())

    def step(inputs: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        outputs = model(inputs)
        value = _value("fit", loss, outputs, targets)
        value.backward()
        optimizer.step()
        return value.detach(), _detached(outputs)

    train, test = (
        _runner(step, compile),
        _runner(_evaluation_step(model, loss), compile),
    )

    def after_batch() -> None:
        training.batch += 1
        for callback in told:
            callback.on_batch_end(training)

    try:
        with ExitStack() as ending:
            ending.enter_context(modes_kept(model))
            for callback in told:
                callback.on_train_begin(training)
                ending.callback(callback.on_train_end, training)
            for epoch in range(1, epochs + 1):
                training.epoch, training.batch = epoch, 0
                model.train()
                record = _means("fit", batches, train, named, after_batch, optimizer)
                if checked is not None:
                    model.eval()
                    means = _means("fit", checked, test, named, ranks=optimizer)
                    record |= {f"val_{name}": mean for name, mean in means.items()}
                for name, mean in record.items():
                    history[name].append(mean)
                for callback in told:
                    callback.on_epoch_end(training)
                if training.stop:
                    break
    except KeyboardInterrupt:
        if not history["loss"] or optimizer.exchange is not None:  # other ranks would wait
            raise
        history.interrupted = True
    except Exception as error:
        error.history = history  # type: ignore[attr-defined]
        raise
    finally:
        ended = min(len(history[name]) for name in names)
        for values in history.values():
            del values[ended:]
    return history


def evaluate(
    model: Module,
    data: Any,
    loss: Loss,
    *,
    metrics: Metrics = (),
    batch_size: int | None = None,
    compile: bool = True,
) -> dict[str, float]:
    """The loss and the metrics of a model on data, as means over all rows.

    The model is in evaluation mode meanwhile, and nothing is recorded. Arguments as for `fit`;
    arrays are not shuffled. Metrics by name, for outputs and targets of a batch:

    - "accuracy": the share of right answers. For targets (N, ...) of class indices and outputs (N,
      C, ...), and for one-hot targets (N, C), the largest output is the answer. For targets 0 and
      1 of the outputs' shape it is an output above 0.5, or above 0 if `loss` is
      `binary_cross_entropy_with_logits`.
    - "mse", "mae": the mean of the squared and the absolute differences.

    Returns a dict that begins with "loss". Raises what `fit` raises.
    Source: Keras, Model.evaluate.

    >>> net = nn.Sequential(nn.Identity())
    >>> logits, labels = tk.tensor([[2.0, 0.0], [1.0, 3.0], [0.0, 1.0]]), tk.tensor([0, 1, 0])
    >>> found = tk.evaluate(net, (logits, labels), F.cross_entropy, metrics=["accuracy"])
    >>> {name: round(value, 4) for name, value in found.items()}
    {'loss': 0.5224, 'accuracy': 0.6667}
    """
    _check_model("evaluate", model)
    named = _named_metrics("evaluate", metrics, loss)
    batches = _as_batches("evaluate", data, batch_size)
    with modes_kept(model):
        model.eval()
        step = _evaluation_step(model, loss)
        return _means("evaluate", batches, _runner(step, compile), named)


def predict(
    model: Module, data: Any, *, batch_size: int | None = None, compile: bool = True
) -> Any:
    """The outputs of a model for all rows of the data, in evaluation mode, without a graph.

    data: an array or dict of inputs, or data as for `fit`, whose targets are left out.
    batch_size: of data given as arrays; 32 by default.

    Returns a Tensor (rows, ...), or a structure of Tensors if the model returns one. Raises what
    `fit` raises, and ValueError for a loader that shuffles, whose order would be lost.
    Source: Keras, Model.predict.

    >>> net = nn.Sequential(nn.Linear(2, 5), nn.Dropout(0.5))
    >>> tk.predict(net, np.zeros((100, 2), np.float32)).shape
    (100, 5)
    """
    _check_model("predict", model)
    if isinstance(data, DataLoader) and not data._keeps_order():
        raise ValueError(
            "predict: expected batches in order, got a DataLoader with shuffle=True or a "
            "sampler. Pass the arrays, or a loader with shuffle=False"
        )
    if isinstance(data, Tensor | np.ndarray):
        data = DataLoader((data,), BATCH_SIZE if batch_size is None else batch_size)
        batch_size = None
    if isinstance(data, dict):
        data = _Structured(data, BATCH_SIZE if batch_size is None else batch_size)
        batch_size = None

    def outputs_of(inputs: Any) -> Any:
        with no_grad():
            return _detached(model(inputs))

    run = _runner(outputs_of, compile)
    found: list[list[Any]] = []
    rebuild: Callable[[Sequence[Any]], Any] | None = None
    with modes_kept(model):
        model.eval()
        for batch in _as_batches("predict", data, batch_size):
            inputs = batch[0] if isinstance(batch, tuple | list) else batch
            leaves, rebuild = tree.flatten(run(_tensors(inputs)))
            found.append(leaves)
    if rebuild is None:
        raise ValueError("predict: expected data with at least one batch, got none.")
    return rebuild([concatenate(parts) for parts in zip(*found, strict=True)])


def _value(function: str, loss: Loss, outputs: Any, targets: Any) -> Tensor:
    """The loss of a batch, which must be one number."""
    value = loss(outputs, targets)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{function}: expected a loss that returns a Tensor, got {type(value).__name__}. "
            "Compute it with tk's functions"
        )
    if value.size != 1:
        raise ValueError(
            f"{function}: expected a loss that is one number, got shape {value.shape}. Take the "
            'mean: reduction="mean"'
        )
    return value


def _evaluation_step(model: Module, loss: Loss) -> Callable[[Any, Any], Any]:
    def step(inputs: Any, targets: Any) -> Any:
        with no_grad():
            outputs = model(inputs)
            return _value("evaluate", loss, outputs, targets).detach(), _detached(outputs)

    return step


def _runner(step: Callable[..., Any], compile: bool) -> Callable[..., Any]:
    """The step, compiled. One that reads elements of a Tensor runs as written from then on."""
    if not compile:
        return step
    run: Callable[..., Any] = compiled(step)

    def call(*args: Any) -> Any:
        nonlocal run
        try:
            return run(*args)
        except CaptureError as error:
            warnings.warn(_AS_WRITTEN.say(error=error), stacklevel=4)
            run = step
            return run(*args)

    return call


def _means(
    function: str,
    batches: Iterable[Any],
    step: Callable[[Any, Any], Any],
    metrics: Mapping[str, Metric],
    after_batch: Callable[[], None] = lambda: None,
    ranks: Optimizer | None = None,
) -> dict[str, float]:
    """The loss and the metrics of one pass through the data: means over all rows.

    ranks: an optimizer; the rows of all ranks that it trains with.
    """
    sums, rows = dict.fromkeys(["loss", *metrics], 0.0), 0
    for batch in batches:
        inputs, targets = _pair(function, batch)
        count = _rows(function, targets)
        value, outputs = step(inputs, targets)
        sums["loss"] += count * _number(function, "loss", value)
        for name, metric in metrics.items():
            sums[name] += count * _number(function, name, metric(outputs, targets))
        rows += count
        after_batch()
    if not rows:
        raise ValueError(
            f"{function}: expected batches in every pass through the data, got none. Pass a "
            "DataLoader, arrays or a list"
        )
    totals = [*sums.values(), rows]
    if ranks is not None and ranks.exchange is not None:
        given = np.array(totals, np.float64)
        totals = ranks.exchange.link.reduced(given, "sum", "the means of an epoch").tolist()
    return {name: total / totals[-1] for name, total in zip(sums, totals[:-1], strict=True)}


@contextmanager
def modes_kept(model: Module) -> Iterator[None]:
    """Afterwards every module is in the mode of before."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


# ------------------------------------------------------------------ data


def _as_batches(
    function: str, data: Any, batch_size: int | None, epochs: int = 1, shuffle: bool = False
) -> Iterable[Any]:
    """Data as an iterable of batches, which can be iterated `epochs` times."""
    if isinstance(data, tuple) and len(data) != 2:
        raise ValueError(f"{function}: expected (inputs, targets), got {len(data)} items.")
    is_dataset = not hasattr(data, "__iter__") and isinstance(data, Dataset)
    size = BATCH_SIZE if batch_size is None else batch_size
    if isinstance(data, tuple) and any(map(_holds_arrays, data)):
        return _Structured(data, size, shuffle)
    if isinstance(data, tuple) or is_dataset:
        return DataLoader(data, size, shuffle)
    if isinstance(data, Tensor | np.ndarray | str | Mapping) or not hasattr(data, "__iter__"):
        raise TypeError(
            f"{function}: expected a DataLoader, (inputs, targets) or batches of them, got "
            f"{type(data).__name__}."
        )
    if batch_size is not None:
        raise ValueError(
            f"{function}: expected batch_size with arrays alone, got it with "
            f"{type(data).__name__}, which has batches already."
        )
    if epochs > 1 and isinstance(data, Iterator):
        raise TypeError(
            f"{function}: expected data that can be iterated once per epoch, got "
            f"{type(data).__name__}, which is used up after one. Pass a DataLoader, arrays, or "
            "list(batches)"
        )
    return data  # type: ignore[no-any-return]


def _holds_arrays(part: Any) -> bool:
    """Whether it is a dict or tuple of arrays, not a row of numbers."""
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, tuple) else ()
    return any(isinstance(x, Tensor | np.ndarray) or _holds_arrays(x) for x in parts)


class _Structured:
    """Batches of arrays in tuples and dicts: the inputs of a model that takes several."""

    def __init__(self, data: Any, batch_size: int, shuffle: bool = False) -> None:
        arrays, self._rebuild = tree.flatten(_tensors(data))
        self._loader = DataLoader(tuple(arrays), batch_size, shuffle)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return (self._rebuild(list(batch)) for batch in self._loader)


def _length(batches: Any) -> int | None:
    return len(batches) if hasattr(batches, "__len__") else None


def _pair(function: str, batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = f"{len(batch)} items" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"{function}: expected batches that are (inputs, targets), got {got}.")
    return _tensors(batch[0]), _tensors(batch[1])


def _tensors(item: Any) -> Any:
    """Arrays, lists and numbers as Tensors; tuples and dicts of them stay what they are."""
    if isinstance(item, Tensor) or item is None:
        return item
    if isinstance(item, dict):
        return {key: _tensors(value) for key, value in item.items()}
    if isinstance(item, tuple):
        parts = [_tensors(value) for value in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    return Tensor(item)


def _detached(outputs: Any) -> Any:
    return tree.tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, outputs)


def _rows(function: str, targets: Any) -> int:
    first = targets if isinstance(targets, Tensor) else next(iter(tree.flatten(targets)[0]), None)
    if first is None or not first.ndim or not len(first):
        shape = "none" if first is None else f"shape {first.shape}"
        raise ValueError(f"{function}: expected targets with at least one row, got {shape}.")
    return len(first)


def _number(function: str, name: str, value: Any) -> float:
    size = getattr(value, "size", 1)
    if size != 1:
        raise ValueError(
            f"{function}: expected one number for {name!r}, got shape {value.shape}. Return the "
            "mean over the batch"
        )
    return float(value.item() if hasattr(value, "item") else value)


def _check_model(function: str, model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"{function}: expected an nn.Module, got {type(model).__name__}.")


def _check(model: Any, optimizer: Any, epochs: Any) -> None:
    _check_model("fit", model)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"fit: expected an Optimizer, got {type(optimizer).__name__}. Write "
            "optim.Adam(model.parameters())"
        )
    if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer):
        raise TypeError(f"fit: expected an integer epochs, got {type(epochs).__name__}.")
    if epochs < 1:
        raise ValueError(f"fit: expected epochs >= 1, got {epochs}.")


# ------------------------------------------------------------------ metrics


def _named_metrics(function: str, metrics: Metrics, loss: Loss) -> dict[str, Metric]:
    if not callable(loss):
        raise TypeError(
            f"{function}: expected a function (outputs, targets) as loss, got "
            f"{type(loss).__name__}. Write F.cross_entropy or nn.MSELoss()"
        )
    if isinstance(metrics, Mapping):
        given = dict(metrics)
    else:
        listed = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
        given = {_metric_name(metric): metric for metric in listed}
        if len(given) < len(listed):
            raise ValueError(
                f"{function}: expected metrics with different names, got "
                f"{', '.join(map(_metric_name, listed))}. Pass a dict of them by name"
            )
    if "loss" in given:
        raise ValueError(f"{function}: expected another name than 'loss' for a metric, got it.")
    return {name: _metric(function, metric, loss) for name, metric in given.items()}


def _metric_name(metric: Any) -> str:
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", None)
    return name or type(metric).__name__


def _metric(function: str, metric: Any, loss: Loss) -> Metric:
    known: dict[str, Metric] = {
        "accuracy": functools.partial(_accuracy, loss=loss),
        "mse": F.mse_loss,
        "mae": F.l1_loss,
    }
    if isinstance(metric, str):
        if metric not in known:
            raise ValueError(
                f"{function}: expected a metric of {', '.join(known)}, got {metric!r}. Pass a "
                "function of outputs and targets"
            )
        return known[metric]
    if not callable(metric):
        raise TypeError(
            f"{function}: expected a metric's name or a function, got {type(metric).__name__}."
        )
    return metric  # type: ignore[no-any-return]


def _accuracy(outputs: Any, targets: Any, loss: Loss) -> float:
    """The share of right answers; see `evaluate`."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        raise ValueError(
            f"accuracy: expected one Tensor of outputs and one of targets, got "
            f"{type(outputs).__name__} and {type(targets).__name__}. Pass a function as metric"
        )
    found, truth = outputs.data, targets.data
    if found.ndim > 1 and found.shape[:1] + found.shape[2:] == truth.shape and found.shape[1] > 1:
        return float((found.argmax(1) == truth).mean())
    if found.shape != truth.shape:
        raise ValueError(
            f"accuracy: expected class indices (N, ...) for outputs (N, C, ...), or targets of the "
            f"outputs' shape, got {found.shape} and {truth.shape}."
        )
    binary = _is_binary(loss)
    if found.ndim > 1 and found.shape[1] > 1 and not binary:
        return float((found.argmax(1) == truth.argmax(1)).mean())
    if not ((truth == 0) | (truth == 1)).all():
        raise ValueError("accuracy: expected targets 0 and 1, got others. Pass a function")
    if binary is None:
        raise ValueError(
            f"accuracy: expected a loss that says whether outputs are logits, got "
            f"{_metric_name(loss)}. Pass a function: lambda outputs, targets: "
            "((outputs > 0.5) == (targets > 0.5)).mean()"
        )
    threshold = 0.0 if _takes_logits(loss) else 0.5
    return float(((found > threshold) == (truth > 0.5)).mean())


_BINARY_LOSSES = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits)


def _unwrapped(loss: Any) -> Any:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return loss


def _is_binary(loss: Any) -> bool | None:
    """Whether each output is an answer of its own; None for a function that is not known."""
    loss = _unwrapped(loss)
    if loss in _BINARY_LOSSES or isinstance(loss, nn.BCELoss | nn.BCEWithLogitsLoss):
        return True
    module = getattr(loss, "__module__", None) or type(loss).__module__
    return False if module.startswith("tinygrad_kr.") else None


def _takes_logits(loss: Any) -> bool:
    loss = _unwrapped(loss)
    return loss is F.binary_cross_entropy_with_logits or isinstance(loss, nn.BCEWithLogitsLoss)


# ------------------------------------------------------------------ what a training gives


class History(dict[str, list[float]]):
    """What `fit` returns: for each name, "loss" or "val_accuracy", a list with one value per epoch.

    A dict, so `json.dumps(history)` saves it.

    interrupted: Ctrl-C ended the training.

    >>> history = tk.training.History(loss=[0.9, 0.4, 0.3], val_loss=[0.8, 0.5, 0.6])
    >>> history.best
    {'epoch': 2, 'loss': 0.4, 'val_loss': 0.5}
    """

    def __init__(self, **values: list[float]) -> None:
        super().__init__(values)
        self.interrupted = False

    @property
    def best(self) -> dict[str, float]:
        """The epoch with the lowest "val_loss", or "loss" without validation, and its values.

        Epochs count from 1. Raises ValueError before the first epoch has ended.
        """
        losses = self.get("val_loss") or self.get("loss")
        if not losses:
            raise ValueError("History.best: expected at least one epoch, got none.")
        numbers = [math.inf if math.isnan(value) else value for value in losses]
        return self.at(numbers.index(min(numbers)) + 1)

    def _repr_html_(self) -> str:
        """In a notebook: the curves, training and validation in one picture."""
        from tinygrad_kr import html

        return html.curves(self, title=_CURVES.say())

    def at(self, epoch: int) -> dict[str, float]:
        """The values of an epoch, counted from 1, with its number as "epoch"."""
        known = {name: values[epoch - 1] for name, values in self.items() if len(values) >= epoch}
        return {"epoch": epoch, **known}


class Training:
    """The state of a training, which `fit` gives to its callbacks.

    model, optimizer: what is trained. epochs: the number asked for. batches: the number of batches
        in an epoch, or None if the data have no length.
    epoch: the current one, from 1. batch: the batches of it that are done.
    history: the `History` so far. A callback may keep a list of its own in it.
    stop: set it to True, and the training ends after this epoch.
    is_first: whether this is rank 0 of a `tk.distributed` group, or there is none. A callback that
        prints or writes a file does so there alone.

    >>> net = nn.Linear(1, 1)
    >>> training = tk.training.Training(net, optim.SGD(net.parameters(), lr=0.1), 5, 10)
    >>> training.epoch, training.stop
    (0, False)
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, epochs: int, batches: int | None
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.epochs, self.batches = epochs, batches
        self.epoch = self.batch = 0
        self.history = History()
        self.stop = False
        self.is_first = optimizer.exchange is None or optimizer.exchange.link.rank == 0


# ------------------------------------------------------------------ callbacks


class Callback:
    """Base class of what `fit` calls: override the methods of the moments that matter.

    Source: keras.callbacks.Callback.

    >>> class Halves(tk.training.Callback):
    ...     def on_epoch_end(self, training):
    ...         training.stop = training.history["loss"][-1] < training.history["loss"][0] / 2
    >>> isinstance(Halves(), tk.training.Callback)
    True
    """

    def on_train_begin(self, training: Training) -> None:
        """Called before the first epoch; the history has its names, and no values."""

    def on_batch_end(self, training: Training) -> None:
        """Called after each step."""

    def on_epoch_end(self, training: Training) -> None:
        """Called after each epoch and its validation; the history has its values."""

    def on_train_end(self, training: Training) -> None:
        """Called at the end, also after an error or Ctrl-C."""


class _AfterEpoch(Callback):
    """A function as a callback."""

    def __init__(self, function: Callable[[Training], Any]) -> None:
        self.function = function

    def on_epoch_end(self, training: Training) -> None:
        self.function(training)


def _as_callbacks(callbacks: Any) -> list[Callback]:
    single = isinstance(callbacks, Callback) or callable(callbacks)
    return [_as_callback(callback) for callback in ([callbacks] if single else callbacks)]


def _as_callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if callable(callback) and not isinstance(callback, type):
        return _AfterEpoch(callback)
    got = f"the class {callback.__name__}" if isinstance(callback, type) else f"{callback!r:.60}"
    is_schedule = isinstance(callback, LRScheduler | ReduceLROnPlateau)
    fix = "LearningRateScheduler(scheduler)" if is_schedule else "EarlyStopping()"
    raise TypeError(
        f"fit: expected a Callback or a function of the training, got {got}. Write {fix}"
    )


class _Watching(Callback):
    """Knows in which epoch a value of the history was best."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(
                f"{type(self).__name__}: expected mode 'auto', 'min' or 'max', got {mode!r}."
            )
        self.monitor, self.min_delta = monitor, min_delta
        rises = mode == "max" or (mode == "auto" and monitor.endswith(("accuracy", "acc")))
        self.sign = -1.0 if rises else 1.0

    def on_train_begin(self, training: Training) -> None:
        _check_monitor(self, self.monitor, training)
        self.best = math.inf
        self.best_epoch = 0

    def improves(self, training: Training) -> bool:
        """Note the value of this epoch; whether it is better than every one before."""
        value = self.sign * training.history[self.monitor][-1]
        better = value < self.best - self.min_delta
        if better:
            self.best, self.best_epoch = value, training.epoch
        return better


def _check_monitor(callback: Callback, monitor: str, training: Training) -> None:
    if monitor not in training.history:
        names = ", ".join(training.history)
        raise ValueError(
            f"{type(callback).__name__}: expected a monitor of {names}, got {monitor!r}. Pass "
            "validation= or metrics= to fit, or another monitor="
        )


class EarlyStopping(_Watching):
    """Ends the training when a value has not improved for `patience` epochs.

    monitor: its name in the history. min_delta: the least improvement that counts.
    patience: epochs without improvement until the end; 0 is the same as 1.
    mode: "min" or "max", the better direction; "auto" is "max" for names that end with "accuracy".
    restore_best_weights: at the end, give the model the parameters and buffers of the best epoch.

    `best_epoch` is the best one, and `stopped_epoch` the last, or 0 if the training was not ended.

    Raises ValueError at the start for a name that is not in the history.
    Source: keras.callbacks.EarlyStopping.

    >>> stopping = tk.training.EarlyStopping("loss")
    >>> x, net = tk.ones(4, 1), nn.Linear(1, 1)
    >>> frozen = optim.SGD(net.parameters(), lr=0.0)
    >>> history = tk.fit(net, (x, x), F.mse_loss, frozen, 9, callbacks=[stopping], progress=False)
    >>> len(history["loss"]), stopping.stopped_epoch
    (2, 2)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best_weights = operator.index(patience), restore_best_weights
        self.stopped_epoch = 0
        self._state: dict[str, Any] | None = None

    def on_train_begin(self, training: Training) -> None:
        """Forget an earlier training."""
        super().on_train_begin(training)
        self.stopped_epoch, self._state = 0, None

    def on_epoch_end(self, training: Training) -> None:
        """Set `training.stop` when the patience is at its end."""
        if self.improves(training):
            if self.restore_best_weights:
                self._state = copy.deepcopy(training.model.state_dict())
        elif training.epoch - self.best_epoch >= max(self.patience, 1):
            self.stopped_epoch, training.stop = training.epoch, True

    def on_train_end(self, training: Training) -> None:
        """Restore the best parameters, if they are asked for."""
        if self._state is not None:
            training.model.load_state_dict(self._state)


class ModelCheckpoint(_Watching):
    """Saves the model by `tk.save` whenever a value is better than ever: the best is kept.

    path: ends with `.npz` or `.safetensors`, and may contain `{epoch}`. Missing folders are made.
    monitor, mode: as for `EarlyStopping`. save_best_only: if False, save after every epoch.

    Of the ranks of `tk.distributed` rank 0 alone saves.
    `tk.load(path, model=model)` restores the model, and returns the epoch and its values.

    Raises ValueError at the start for a name that is not in the history.
    Source: keras.callbacks.ModelCheckpoint.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "best.npz")
    >>> keep = tk.training.ModelCheckpoint(path, "loss")
    >>> x, net = tk.ones(4, 1), nn.Linear(1, 1)
    >>> sgd = optim.SGD(net.parameters(), lr=0.1)
    >>> history = tk.fit(net, (x, x), F.mse_loss, sgd, 3, callbacks=[keep], progress=False)
    >>> tk.load(path, model=net) == history.best
    True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        save_best_only: bool = True,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode)
        self.path, self.save_best_only = os.fspath(path), save_best_only

    def on_epoch_end(self, training: Training) -> None:
        """Save the model if this epoch is the best so far."""
        if not self.improves(training) and self.save_best_only:
            return
        if not training.is_first:
            return
        path = self.path.replace("{epoch}", str(training.epoch))
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save(path, model=training.model, extra=training.history.at(training.epoch))


class LearningRateScheduler(Callback):
    """Steps a schedule of `optim.lr_scheduler`, and keeps the rates in the history as "lr".

    interval: "epoch", or "batch" for a schedule such as `OneCycleLR`, which counts batches.
    monitor: the value of the history that a `ReduceLROnPlateau` gets.

    "lr" is the rate of the first parameter group in the last step of each epoch.

    Raises TypeError for something other than a schedule, ValueError for another interval, and at
    the start for a name that is not in the history or a schedule of another optimizer.

    >>> x, net = tk.ones(4, 1), nn.Linear(1, 1)
    >>> sgd = optim.SGD(net.parameters(), lr=0.4)
    >>> halving = tk.training.LearningRateScheduler(optim.lr_scheduler.StepLR(sgd, 1, gamma=0.5))
    >>> tk.fit(net, (x, x), F.mse_loss, sgd, 3, callbacks=[halving], progress=False)["lr"]
    [0.4, 0.2, 0.1]
    """

    def __init__(
        self,
        scheduler: LRScheduler | ReduceLROnPlateau,
        *,
        interval: str = "epoch",
        monitor: str = "val_loss",
    ) -> None:
        if not isinstance(scheduler, LRScheduler | ReduceLROnPlateau):
            raise TypeError(
                f"LearningRateScheduler: expected a schedule of optim.lr_scheduler, got "
                f"{type(scheduler).__name__}."
            )
        if interval not in ("epoch", "batch"):
            raise ValueError(
                f"LearningRateScheduler: expected interval 'epoch' or 'batch', got {interval!r}."
            )
        self.scheduler, self.interval, self.monitor = scheduler, interval, monitor
        if isinstance(scheduler, ReduceLROnPlateau) and interval == "batch":
            raise ValueError(
                "LearningRateScheduler: expected interval 'epoch' for ReduceLROnPlateau, got "
                "'batch'."
            )

    def on_train_begin(self, training: Training) -> None:
        """Check that the schedule belongs to the training."""
        if self.scheduler.optimizer is not training.optimizer:
            raise ValueError(
                "LearningRateScheduler: expected a schedule of the optimizer that fit was given, "
                "got one of another."
            )
        if isinstance(self.scheduler, ReduceLROnPlateau):
            _check_monitor(self, self.monitor, training)
        training.history["lr"] = []

    def on_batch_end(self, training: Training) -> None:
        """Note the rate of this step, and step a schedule that counts batches."""
        if training.batch == 1:
            training.history["lr"].append(0.0)
        training.history["lr"][-1] = float(training.optimizer.param_groups[0]["lr"])
        if self.interval == "batch":
            self.scheduler.step()  # type: ignore[call-arg]

    def on_epoch_end(self, training: Training) -> None:
        """Step a schedule that counts epochs."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(training.history[self.monitor][-1])
        elif self.interval == "epoch":
            self.scheduler.step()


class TerminateOnNaN(Callback):
    """Ends the training after an epoch whose loss is NaN or infinite.

    Source: keras.callbacks.TerminateOnNaN.

    >>> x, net = tk.full((4, 1), float("inf")), nn.Linear(1, 1)
    >>> sgd = optim.SGD(net.parameters(), lr=0.1)
    >>> ending = tk.training.TerminateOnNaN()
    >>> with np.errstate(invalid="ignore"):
    ...     history = tk.fit(net, (x, x), F.mse_loss, sgd, 9, callbacks=[ending], progress=False)
    >>> len(history["loss"])
    1
    """

    def on_epoch_end(self, training: Training) -> None:
        """Set `training.stop` if the loss is no finite number."""
        if not math.isfinite(training.history["loss"][-1]):
            training.stop = True


class ProgressBar(Callback):
    """Shows how far a training is: the callback that `fit(progress=True)` adds.

    With tqdm installed it is a bar, on a terminal (stderr) and in a notebook. Elsewhere, and above
    the bar, there are lines with the values of an epoch: that of the last epoch, and of others if
    `seconds` have passed since a line was shown. 0 shows one for each epoch. In Korean where that
    is the language in force; see `tk.set_language`.

    Raises ValueError for less than 0 seconds.

    >>> bar = tk.training.ProgressBar()
    >>> x, net = tk.ones(4, 1), nn.Linear(1, 1)
    >>> sgd = optim.SGD(net.parameters(), lr=0.0)
    >>> history = tk.fit(net, (x, x), F.mse_loss, sgd, 2, callbacks=[bar], progress=False)
    epoch 2/2   loss ...   (... s)
    """

    def __init__(self, seconds: float = 1.0) -> None:
        if not seconds >= 0:
            raise ValueError(f"ProgressBar: expected seconds >= 0, got {seconds}.")
        self.seconds = seconds

    def on_train_begin(self, training: Training) -> None:
        """Open the bar."""
        self._start = self._shown_at = time.perf_counter()
        self._shown = 0
        batches = training.batches
        self._bar = _bar(None if batches is None else batches * training.epochs)

    def on_batch_end(self, training: Training) -> None:
        """Move the bar."""
        if self._bar is not None:
            if training.batch == 1:
                shown = _EPOCH.say(epoch=training.epoch, epochs=training.epochs)
                self._bar.set_description(shown, False)
            self._bar.update()

    def on_epoch_end(self, training: Training) -> None:
        """Show the values of the epoch, unless a line was shown just now."""
        if time.perf_counter() - self._shown_at >= self.seconds:
            self._show(training)

    def on_train_end(self, training: Training) -> None:
        """Show the last line, and close the bar."""
        self._show(training)
        if self._bar is not None:
            self._bar.close()

    def _show(self, training: Training) -> None:
        """A line for the latest epoch that has ended, if it has none yet."""
        epoch = len(training.history["loss"])
        if epoch == self._shown:
            return
        now = time.perf_counter()
        number = f"{epoch:>{len(str(training.epochs))}}"
        parts = [_EPOCH.say(epoch=number, epochs=training.epochs)]
        parts += [f"{name} {kept[-1]:.4g}" for name, kept in training.history.items() if kept]
        line = "   ".join([*parts, _SECONDS.say(seconds=now - self._start)])
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line, flush=True)
        self._shown, self._shown_at = epoch, now


def _bar(total: int | None) -> Any:
    """A bar of tqdm's on a terminal or in a notebook; else None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of widgets or threads that are not there
        return _quiet_bar(total)


def _quiet_bar(total: int | None) -> Any:
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return None
    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    if not in_notebook and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    return tqdm(total=total, unit=_BATCHES.say())
