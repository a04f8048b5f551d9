"""The harness sees every way in which a compiled call may differ from the eager one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import close, compare, together, twins
from training import training_step

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim

ONE = np.array([1.0, np.nan, np.inf])


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (ONE, ONE.astype(np.float32)), (ONE, ONE[None]), (ONE, Tensor(ONE)),
        (ONE, np.array([1.0 + 1e-11, np.nan, np.inf])), (ONE, np.array([1.0, 0.0, np.inf])),
        (ONE, np.array([1.0, np.nan, -np.inf])), ([ONE], (ONE,)), ([ONE], [ONE, ONE]),
        ({"a": ONE}, {"b": ONE}), (None, ONE), (3, 4), (np.array([1]), np.array([2])),
        (np.float32([1]), np.float32([1.0001])), (np.array([1e9, 1.0]), np.array([1e9, 1 + 1e-6])),
    ],
)  # fmt: skip
def test_what_differs_is_not_close(expected: Any, found: Any) -> None:
    close(expected, expected)
    with pytest.raises(AssertionError):
        close(expected, found)


def test_a_tolerance_may_grow_with_the_array() -> None:
    close(np.array([1e9, 1.0]), np.array([1e9, 1 + 1e-6]), of_largest=True)
    close(ONE, ONE + 1e-6, rtol=1e-5)


def test_calls_that_differ_or_are_not_compiled_are_found() -> None:
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(1)
        return x * float(len(calls))

    with pytest.raises(AssertionError, match="call"):
        compare(counted, Tensor([1.0]))
    with pytest.raises(AssertionError):
        compare(lambda x: Tensor(np.sort(x.data)), Tensor([2.0, 1.0]))


@pytest.mark.parametrize("part", ["weight", "grad", "state", "buffer", "result"])
def test_whatever_a_step_leaves_is_compared(part: str) -> None:
    def build() -> tuple[nn.Module, optim.Optimizer]:
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        return net, optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    a, b = twins(lambda learner: training_step(learner.net, learner.optimizer), build)
    batches = [(tk.randn(4, 2), Tensor([0, 1, 2, 0]))] * 4
    together(a, b, batches)
    linear, norm = b.net
    step = b.step

    def spoiled(*batch: Any) -> Any:
        result = step(*batch)
        with tk.no_grad():
            if part == "weight":
                linear.weight[0, 0] += 0.01
            elif part == "grad":
                linear.bias.grad = None
            elif part == "state":
                b.optimizer.param_groups[0]["lr"] = 0.2
            elif part == "buffer":
                norm.running_mean[0] += 0.01
        return result + 0.01 if part == "result" else result

    b.step = spoiled
    with pytest.raises(AssertionError):
        together(a, b, batches)
