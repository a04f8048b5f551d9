"""An error begins with the name of the function that was called, not with that of a helper."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, linalg, nn, optim
from tinygrad_kr.optim import lr_scheduler

AXES = ("axis", "dim", "axis1", "dim1", "source", "start_dim")
ONES = np.ones((2, 3), np.float32)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "chunk": (2,),
    "cosine_similarity": (ONES,),
    "cross": (ONES,),
    "gather": (7, [[0]]),
    "index_select": (7, [0]),
    "kthvalue": (1,),
    "maxout": (1,),
    "moveaxis": (7, 0),
    "repeat_interleave": (2,),
    "roll": (1,),
    "quantile": (0.5,),
    "scatter": (7, [[0]], np.ones((1, 1))),
    "scatter_reduce": (7, [[0]], np.ones((1, 1)), "sum"),
    "scatter_add": (7, [[0]], np.ones((1, 1))),
    "split": (1,),
    "swapaxes": (7, 0),
    "take": ([0],),
    "take_along_axis": ([[0]],),
    "topk": (1,),
    "transpose": (7, 0),
    "unflatten": (7, (1, 1)),
    "vecdot": (ONES,),
}
"""What a function is given after its first array. An axis is 7, by keyword where it is not here."""


def with_an_axis() -> list[Any]:
    """Every public function with an axis: name, function, name of the axis, first argument."""
    found = []
    for owner in (tk, linalg, F, Tensor):
        for name in dir(Tensor) if owner is Tensor else owner.__all__:
            function = getattr(owner, name)
            if name.startswith("_") or inspect.isclass(function) or not callable(function):
                continue
            axis = next((a for a in AXES if a in inspect.signature(function).parameters), None)
            if axis is None or name == "copy_":  # its source is a Tensor
                continue
            for x in (Tensor(ONES), ONES)[: 1 if owner is Tensor else 2]:
                case = f"{owner.__name__}.{name}-{type(x).__name__}"
                found.append(pytest.param(name, function, axis, x, id=case))
    return found


@pytest.mark.parametrize(("name", "function", "axis", "x"), with_an_axis())
def test_an_axis_out_of_range(name: str, function: Any, axis: str, x: Any) -> None:
    inner = inspect.unwrap(function).__name__  # of an alias
    arguments = ARGUMENTS.get(function.__name__, ARGUMENTS.get(inner, ()))
    keywords = {axis: 7} if 7 not in [a for a in arguments if isinstance(a, int)] else {}
    with pytest.raises(IndexError) as raised:
        function(
            [x] if name in ("cat", "concat", "concatenate", "stack") else x, *arguments, **keywords
        )
    message = str(raised.value)
    assert re.match(rf"{name}\b", message), message
    assert re.search(r"expected axis in \[-\d, \d\), got 7\.", message), message


LOSSES = [
    name for name in F.__all__ if "reduction" in inspect.signature(getattr(F, name)).parameters
]


def operands(loss: str, count: int) -> tuple[Any, ...]:
    """An input and a target for `count` samples, and what else it takes."""
    x = tk.full((count, 3), 0.5)
    if loss == "ctc_loss":
        return tk.ones(4, count, 3), np.ones((count, 2), int), [4] * count, [2] * count
    if loss in ("gaussian_nll_loss", "margin_ranking_loss", "triplet_margin_loss"):
        return x, x, x
    if loss == "cosine_embedding_loss":
        return x, x, tk.ones(count)
    if loss == "sequence_loss":
        return tk.ones(count, 2, 3), np.zeros((count, 2), int)
    labels = loss in ("cross_entropy", "nll_loss")
    return x, np.zeros(count, int) if labels else x


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss(loss: str) -> None:
    function = getattr(F, loss)
    with pytest.raises(ValueError, match=rf'^{loss}: expected reduction "mean", .*, got .sum2.\.'):
        function(*operands(loss, 2), reduction="sum2")
    with pytest.raises(ValueError, match=rf"^{loss}\b.*: expected .* for (a|the) mean, got"):
        function(*operands(loss, 0))
    with pytest.raises((ValueError, TypeError), match=rf"^{loss}: "):
        function(operands(loss, 2)[0], tk.ones(5, 7), *operands(loss, 2)[2:])


def test_every_loss_is_tried() -> None:
    assert len(LOSSES) > 8


SCHEDULES: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": [abs, abs]},
    "StepLR": {"step_size": 0},
    "LinearLR": {"total_iters": 0},
    "PolynomialLR": {"total_iters": True},
    "CosineAnnealingLR": {"T_max": 0},
    "CosineAnnealingWarmRestarts": {"T_0": 0},
    "MultiplicativeLR": {"lr_lambda": [abs, abs]},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 0},
    "OneCycleLR": {"max_lr": 1.0, "total_steps": 0},
    "ReduceLROnPlateau": {"min_lr": [0.1, 0.1]},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule(name: str) -> None:
    schedule = getattr(lr_scheduler, name)
    optimizer = optim.SGD([tk.tensor([1.0], requires_grad=True)], lr=0.1, momentum=0.5)
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got "):
        schedule(optimizer, **SCHEDULES[name])
    with pytest.raises(TypeError, match=f"^{name}: expected an Optimizer, got list"):
        schedule([1.0], **dict.fromkeys(SCHEDULES[name], 1))


VECTOR = Tensor(np.ones(3, np.float32), requires_grad=True)
IMAGE = tk.ones(1, 1, 4, 4)
CALLS: dict[str, Callable[[], Any]] = {
    "dot": lambda: tk.dot(VECTOR, tk.ones(2)),
    "inner": lambda: tk.inner(VECTOR, tk.ones(2)),
    "vdot": lambda: tk.vdot(VECTOR, tk.ones(2)),
    "tensordot": lambda: tk.tensordot(VECTOR, tk.ones(2), 1),
    "linear": lambda: F.linear(np.ones((2, 3)), np.ones(3)),
    "add": lambda: tk.add(np.ones(2), np.ones(3)),
    ".numpy()": lambda: VECTOR.numpy(),
    "np.asarray": lambda: np.asarray(VECTOR),
    "log_softmax": lambda: F.log_softmax(VECTOR, 0, dtype=int),
    "softmin": lambda: F.softmin(VECTOR, 0, dtype=int),
    "binary_cross_entropy": lambda: F.binary_cross_entropy(2 * VECTOR, tk.ones(3)),
    "norm": lambda: linalg.norm(tk.ones(2, 3), "x"),
    "slogdet": lambda: linalg.slogdet(tk.ones(2, 3)),
    "eigvalsh": lambda: linalg.eigvalsh(tk.ones(2, 3)),
    "conv2d": lambda: F.conv2d(IMAGE, IMAGE, stride=0),
    "max_pool2d": lambda: F.max_pool2d(IMAGE, 0),
    "adaptive_avg_pool1d": lambda: F.adaptive_avg_pool1d(VECTOR, 0),
    "unfold": lambda: F.unfold(IMAGE, 2, padding=-1),
    "fold": lambda: F.fold(tk.ones(4, 9), 4, 2, stride=0),
    "rand": lambda: tk.rand(2, dtype=int),
    "randn": lambda: tk.randn(2, generator=0),  # type: ignore[arg-type]
    "randint": lambda: tk.randint(2, generator=0),  # type: ignore[arg-type]
    "dropout": lambda: F.dropout(VECTOR, generator=0),  # type: ignore[arg-type]
    "grad": lambda: tk.grad(tk.exp)(np.ones(2)),
    "value_and_grad": lambda: tk.value_and_grad(tk.exp)(np.ones(2)),
    "jacobian": lambda: tk.jacobian(tk.exp)(np.ones(2, int)),
    "hessian": lambda: tk.hessian(tk.exp)(np.ones(2)),
    "vjp": lambda: tk.vjp(tk.exp, np.ones(2))[1](np.ones(3)),
    "jvp": lambda: tk.jvp(tk.exp, (np.ones(2, int),), (np.ones(2),)),
    "hvp": lambda: tk.hvp(tk.exp, (np.ones(2),), (np.ones(2),)),
    "kaiming_normal_": lambda: nn.init.kaiming_normal_(tk.ones(2, 2), nonlinearity="none"),
    "xavier_uniform_": lambda: nn.init.xavier_uniform_(VECTOR),
    "lecun_normal_": lambda: nn.init.lecun_normal_(tk.ones(2, 2), generator=0),  # type: ignore[arg-type]
    "he_2015": lambda: nn.init.he_2015(2)((2, 2), 0),  # type: ignore[arg-type]
    "zeros_": lambda: nn.init.zeros_(np.ones(2)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_the_function_that_was_called(name: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=rf"^{re.escape(name)}[:(]"):
        CALLS[name]()
