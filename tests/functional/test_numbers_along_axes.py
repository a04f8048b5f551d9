"""Axis 0 and -1 of a number: PyTorch's answers, forward, backward and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import compare

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

Case = tuple[Callable[..., Any], float, float]

# function of (x, axis), its value and its derivative at 2.0
CASES: dict[str, Case] = {
    "sum": (lambda x, d: x.sum(d), 2.0, 1.0),
    "sum of a tuple": (lambda x, d: x.sum((d,)), 2.0, 1.0),
    "sum of a list": (lambda x, d: tk.sum(x, [d]), 2.0, 1.0),
    "sum, keepdim": (lambda x, d: x.sum(dim=d, keepdim=True), 2.0, 1.0),
    "mean": (lambda x, d: x.mean(dim=d), 2.0, 1.0),
    "prod": (lambda x, d: x.prod(axis=d), 2.0, 1.0),
    "amax": (lambda x, d: x.amax(d), 2.0, 1.0),
    "amin": (lambda x, d: x.amin(d), 2.0, 1.0),
    "max": (lambda x, d: tk.max(x, axis=d), 2.0, 1.0),
    "min": (lambda x, d: tk.min(x, axis=d), 2.0, 1.0),
    "logsumexp": (lambda x, d: x.logsumexp(d), 2.0, 1.0),
    "var": (lambda x, d: x.var(axis=d, correction=0), 0.0, 0.0),
    "std": (lambda x, d: x.std(axis=d, correction=0), 0.0, 0.0),
    "norm": (lambda x, d: x.norm(dim=d), 2.0, 1.0),
    "norm 1": (lambda x, d: x.norm(1, dim=d), 2.0, 1.0),
    "norm 3": (lambda x, d: tk.linalg.vector_norm(x, 3, axis=d), 2.0, 1.0),
    "norm inf": (lambda x, d: tk.linalg.norm(x, np.inf, axis=d), 2.0, 1.0),
    "cumsum": (lambda x, d: x.cumsum(d), 2.0, 1.0),
    "cumprod": (lambda x, d: x.cumprod(dim=d), 2.0, 1.0),
    "softmax": (lambda x, d: F.softmax(x, d), 1.0, 0.0),
    "log_softmax": (lambda x, d: F.log_softmax(x, d), 0.0, 0.0),
    "softmin": (lambda x, d: F.softmin(x, d), 1.0, 0.0),
    "Tensor.softmax": (lambda x, d: x.softmax(d), 1.0, 0.0),
    "Tensor.log_softmax": (lambda x, d: x.log_softmax(d), 0.0, 0.0),
    "normalize": (lambda x, d: F.normalize(x, dim=d), 1.0, 0.0),
    "normalize 1": (lambda x, d: F.normalize(x, 1.0, dim=d), 1.0, 0.0),
    "normalize 3": (lambda x, d: F.normalize(x, 3.0, dim=d), 1.0, 0.0),
    "normalize inf": (lambda x, d: F.normalize(x, np.inf, dim=d), 1.0, 0.0),
    "cosine_similarity": (lambda x, d: F.cosine_similarity(x, 3 * x, d), 1.0, 0.0),
    "vecdot": (lambda x, d: tk.linalg.vecdot(x, 3 * x, d), 12.0, 12.0),
    "sort": (lambda x, d: tk.sort(x, d).values, 2.0, 1.0),
    "sort, default": (lambda x, d: x.sort().values, 2.0, 1.0),
    "sort, descending": (lambda x, d: x.sort(dim=d, descending=True).values, 2.0, 1.0),
    "topk": (lambda x, d: x.topk(1, d).values, 2.0, 1.0),
    "flip": (lambda x, d: x.flip(d), 2.0, 1.0),
    "squeeze": (lambda x, d: x.squeeze(d), 2.0, 1.0),
    "transpose": (lambda x, d: x.transpose(0, d), 2.0, 1.0),
    "swapaxes": (lambda x, d: tk.swapaxes(x, d, d), 2.0, 1.0),
    "moveaxis": (lambda x, d: x.moveaxis(d, 0), 2.0, 1.0),
    "gather": (lambda x, d: x.gather(d, 0), 2.0, 1.0),
    "take": (lambda x, d: x.take(0, axis=d), 2.0, 1.0),
    "index_select": (lambda x, d: x.index_select(d, [0]), 2.0, 1.0),
    "scatter_add": (lambda x, d: x.scatter_add(d, 0, 3 * x), 8.0, 4.0),
}


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("name", CASES)
def test_a_number_has_axis_0(name: str, axis: int) -> None:
    function, value, slope = CASES[name]
    x = Tensor(np.array(2.0), requires_grad=True)
    y = function(x, axis)
    assert y.shape == ()
    assert y.item() == pytest.approx(value, abs=1e-12)
    y.backward()
    assert x.grad is not None and x.grad.shape == ()
    assert x.grad.item() == pytest.approx(slope, abs=1e-12)


# Sorting decides by values, so it runs as written
@pytest.mark.parametrize("name", [name for name in CASES if "sort" not in name and name != "topk"])
def test_a_number_has_axis_0_compiled(name: str) -> None:
    function = CASES[name][0]
    compare(tk.value_and_grad(lambda x: function(x, 0)), Tensor(np.array(2.0)))


@pytest.mark.parametrize("axis", [1, -2])
@pytest.mark.parametrize("name", [name for name in CASES if "default" not in name])
def test_a_number_has_no_other_axis(name: str, axis: int) -> None:
    with pytest.raises(IndexError):
        CASES[name][0](Tensor(np.array(2.0)), axis)


def test_indices_along_the_axis_of_a_number() -> None:
    x = Tensor(np.array(2.0))
    assert (tk.argmax(x, 0).item(), tk.argmin(x, -1).item()) == (0, 0)
    assert (tk.argsort(x, 0).shape, tk.sort(x).indices.shape) == ((), ())
    assert tk.sort(x).indices.item() == tk.topk(x, 1, 0).indices.item() == 0
    assert tk.count_nonzero(x, 0).item() == 1
    assert bool(tk.any(x, 0)) and bool(tk.all(x, -1))


@pytest.mark.parametrize("index", [0, [0], [0, 0], np.array(0), Tensor(0)])
def test_gather_has_the_shape_of_its_index(index: Any) -> None:
    x = Tensor(np.array(2.0), requires_grad=True)
    y = tk.gather(x, 0, index)
    assert y.shape == np.shape(getattr(index, "data", index))
    y.sum().backward()
    assert x.grad is not None and x.grad.item() == y.size


def test_gather_takes_a_number_of_a_vector_too() -> None:
    assert tk.gather(Tensor([1.0, 2.0]), 0, 1).tolist() == 2.0


def test_an_axis_is_named_once() -> None:
    with pytest.raises(ValueError, match="once"):
        Tensor(2.0).sum((0, -1))


def test_numpy_names_keep_numpys_shapes() -> None:
    x = Tensor(np.array(2.0))
    for function in (np.cumsum, np.cumprod):
        assert function(x, axis=0).shape == function(x.numpy(), axis=0).shape == (1,)
    assert np.sum(x, axis=0).shape == np.max(x, axis=-1).shape == ()
