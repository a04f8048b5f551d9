"""What the causes look at: the case, its first step, and the kind of error that ended the step."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import nn
from tinygrad_kr.explain.diagnosis.evidence import Case, Copy, StepError, values_of
from tinygrad_kr.explain.diagnosis.step_graph import StepGraph, tensors_in
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.tensor import Tensor

ACTIVATIONS = {
    "ReLU": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax",
    "Softplus": "softplus", "ReLU6": "relu6", "Hardsigmoid": "hardsigmoid", "Hardtanh": "hardtanh",
    "Softsign": "softsign",
}  # fmt: skip
ORDERED = 0.7
"""Threshold: correlation of the distance of classes with the difference of their numbers."""
UNEVEN = 5.0
"""Threshold: chi-square of the frequencies above that of even ones, in standard deviations."""
IGNORED = -100
"""The label that losses ignore by default."""


class Look:
    """The case and its first step: `graph`, or the `error` that ended it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model, self.data = case.model, case.data
        self.copied: Copy = case.copy()
        self.graph: StepGraph | None = None
        self.error: StepError | None = None
        self.broken: set[str] = set()
        """The kinds found so far."""
        self.given: Any = None
        """The trial of the training as it was given, once there was one."""
        self.number = 0
        """The index of the batch whose step raised."""
        try:
            self.graph = StepGraph(self.copied, case.batches[0])
            other = case.copy()
            with no_grad():
                for batch in case.batches[1:]:
                    self.number += 1
                    other.forward(batch)
        except StepError as error:
            self.error, self.graph = error, None

    def stopped(self, error: StepError) -> Look:
        """The case as it is when a later step raises."""
        later = copy.copy(self)
        for name in ("output", "target", "last_op", "error_kind"):
            vars(later).pop(name, None)
        later.graph, later.error, later.number = None, error, 0
        return later

    @property
    def step(self) -> StepGraph:
        """The first step, which there is."""
        assert self.graph is not None
        return self.graph

    @cached_property
    def output(self) -> ndarray | None:
        """The model's output in the first step, as an array."""
        output = self.graph.output if self.graph else self.error.output if self.error else None
        main = next(tensors_in(output), None)
        data: ndarray | None = None if main is None else main.data
        return data

    @cached_property
    def target(self) -> ndarray | None:
        """The targets of the first batch, or of the one that raised."""
        return values_of(self.case.batches[self.number if self.error else 0][1])

    @cached_property
    def counted_targets(self) -> ndarray | None:
        """All targets that were read, without labels that are ignored."""
        targets = self.data.targets
        if targets is None or targets.dtype.kind not in "iu":
            return targets
        ignored = getattr(self.case.loss_function, "ignore_index", IGNORED)
        counted: ndarray = targets[targets != ignored]
        return counted

    @cached_property
    def class_indices(self) -> int | None:
        """The number of classes, if the targets are class indices: 0, 1, ..., C - 1 with C > 2."""
        targets = self.counted_targets
        if targets is None or not targets.size or targets.dtype.kind == "b":
            return None
        if targets.ndim > 1 and targets.shape[1:] != (1,):
            return None
        found = np.unique(targets)
        count = len(found)
        contiguous = found[0] == 0 and found[-1] == count - 1 and (found == np.arange(count)).all()
        return count if contiguous and 2 < count <= max(targets.size // 3, 3) else None

    @cached_property
    def are_counts(self) -> bool:
        """Whether targets 0, 1, ..., C - 1 are quantities, such as counts, and no class indices.

        Both are integers. Classes are seldom numbered by size: the frequencies of counts rise to a
        maximum and fall, and inputs of near counts are near. Targets of even frequencies, as data
        sets of classes have them, are taken for class indices, and so are three values.
        """
        targets, inputs = self.counted_targets, self.data.inputs
        if targets is None:
            return False
        labels = targets.reshape(-1).astype(np.int64)
        found = np.bincount(labels)
        if len(found) < 4:
            return False
        expected = labels.size / len(found)
        chi_square = float(((found - expected) ** 2).sum() / expected)
        free = len(found) - 1
        if chi_square < free + UNEVEN * (2 * free) ** 0.5:
            return False
        turns = np.sign(np.diff(found))
        one_maximum = len(found) > 4 and bool((np.diff(turns[turns != 0]) <= 0).all())
        return one_maximum or (inputs is not None and _in_order(inputs, labels))

    @cached_property
    def last_op(self) -> tuple[str, str]:
        """The op at the end of the net, and the path of the module that computed it."""
        graph = self.graph
        if graph is not None and graph.last is not None:
            clips = graph.last._op.__name__ == "clip"
            name = "clip" if clips else graph.meaning(graph.last)
            path = graph.path_of(graph.last)
            if not is_layer(self.model, path):
                return name, ""
            return self._op_of(path, name), path
        path = [path for path, _ in self.model.named_modules(remove_duplicate=False)][-1]
        return self._op_of(path), path

    def _op_of(self, path: str, default: str = "") -> str:
        """The op of an activation module, such as "relu" of a ReLU."""
        return ACTIVATIONS.get(type(self.model.get_submodule(path)).__name__, default)

    @cached_property
    def error_kind(self) -> str:
        """The kind that the error of the step belongs to; empty without one."""
        if self.error is None:
            return ""
        phase, cause, text = self.error.phase, self.error.cause, str(self.error.cause)
        if isinstance(cause, FloatingPointError | OverflowError | ZeroDivisionError):
            return "nan_or_infinity"
        if phase == "backward":
            return self._backward_error(text)
        return self._loss_error(cause, text) if phase == "loss" else "shape_broadcast"

    def _backward_error(self, text: str) -> str:
        if "gradient=" in text:
            return "loss_does_not_fit"
        return "nan_or_infinity" if "NaN" in text else "parameter_without_gradient"

    def _loss_error(self, cause: Exception, text: str) -> str:
        output, target = self.output, self.target
        if isinstance(cause, IndexError):
            one = output is not None and output.ndim > 1 and output.shape[1] == 1
            return "constant_output" if one else "labels_out_of_range"
        if "probabilities in [0, 1]" in text:
            return "output_range" if self.last_op[0] in ("relu", "tanh") else "loss_does_not_fit"
        if not isinstance(cause, ValueError) or "empty" in text:
            return "loss_does_not_fit"
        if output is None or target is None or output.shape == target.shape:
            return "loss_does_not_fit"
        classes = output.shape[1] if output.ndim > 1 else 1
        quantities = "labels" not in text and target.size == len(output)
        return (
            "loss_does_not_fit"
            if self.class_indices and classes > 2 and quantities
            else "shape_broadcast"
        )

    def on_batch(self, code: str) -> str:
        """Code that uses `inputs` and `targets`, behind a line that takes them from the data."""
        pair = "data" if self.data.given == "arrays" else "next(iter(data))"
        tensors = all(isinstance(x, Tensor) for x in self.case.batches[0])
        return f"inputs, targets = {f'map(tk.tensor, {pair})' if tensors else pair}\n{code}"

    def shown_error(self) -> str:
        """The error of the step, as one line."""
        assert self.error is not None
        cause = self.error.cause
        return f"{type(cause).__name__}: {' '.join(str(cause).split())}"


def _in_order(inputs: ndarray, labels: ndarray) -> bool:
    """Whether the mean inputs of classes are the further apart, the more their numbers differ."""
    if inputs.dtype.kind != "f" or len(inputs) != len(labels):
        return False
    x = inputs.reshape(len(inputs), -1).astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    counts = np.bincount(labels)
    means = np.stack([x[labels == i].mean(axis=0) for i in range(len(counts))])
    a, b = np.triu_indices(len(counts), 1)
    noise = x.shape[1] * (1 / counts[a] + 1 / counts[b])
    apart = np.sqrt(np.maximum(((means[a] - means[b]) ** 2).sum(axis=1) - noise, 0))
    weights = counts[a] * counts[b] / (counts[a] + counts[b])
    covariance = np.cov(apart, b - a, aweights=weights)
    return bool(covariance[0, 1] > ORDERED * np.sqrt(covariance[0, 0] * covariance[1, 1]))


def is_layer(model: nn.Module, path: str) -> bool:
    """Whether the module at a path has no modules inside."""
    return bool(path) and not list(model.get_submodule(path).children())
