"""Loops over few units with broadcast biases run as one loop over copies, with the same results."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import compare, needs_compiler

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile import Compiled

pytestmark = needs_compiler
RANDOM = np.random.default_rng(11)


def draw(*shape: int, dtype: str = "float64") -> Tensor:
    return Tensor(RANDOM.standard_normal(shape).astype(dtype))


def copies(function: Compiled) -> set[str]:
    """The memory of the C functions that is for copies."""
    return set(re.findall(r"\w+ t\d+\[\d+\];", re.sub(r" t\d+", " t0", function.source)))


def compiled(function: Callable[..., Any], *inputs: Tensor) -> Compiled:
    """The function, compiled and called, after its results were compared with its own."""
    return compare(function, *inputs, scales=[1] * 4, atol=1e-300)


def biased(x: Any, bias: Any) -> Any:
    return (x + bias).tanh()


@pytest.mark.parametrize(("dtype", "kind"), [("float64", "double"), ("float32", "float")])
def test_a_bias_of_each_net_is_copied_for_each_of_its_points(dtype: str, kind: str) -> None:
    function = compiled(biased, draw(100, 4, 5, dtype=dtype), draw(100, 1, 5, dtype=dtype))
    assert copies(function) == {f"{kind} t0[2000];"}


def test_truth_values_are_copied_and_numbers_are_not() -> None:
    def chosen(mask: Any, x: Any, number: Any) -> Any:
        return tk.where(mask, x, number).exp()

    mask = Tensor(RANDOM.random((100, 1, 5)) < 0.5)
    function = compiled(chosen, mask, draw(100, 4, 5), draw())
    assert copies(function) == {"uint8_t t0[2000];"}


@pytest.mark.parametrize(
    ("shape", "bias"),
    [((9, 7, 5), (5,)), ((9, 7, 5), (7, 1)), ((9, 7, 5), (9, 1, 5)), ((3, 10, 2, 5), (10, 1, 5))],
)
def test_wherever_it_is_broadcast(shape: tuple[int, ...], bias: tuple[int, ...]) -> None:
    assert copies(compiled(biased, draw(*shape), draw(*bias)))


def test_what_is_transposed_or_a_part_is_copied_too() -> None:
    def shifted(x: Any, y: Any, z: Any) -> Any:
        return ((x + y.swapaxes(0, 2)) * z[1:, :, 2:7]).exp()

    function = compiled(shifted, draw(20, 4, 5), draw(5, 4, 20), draw(21, 4, 8))
    assert copies(function) == {"double t0[400];"}


@pytest.mark.parametrize(
    ("shape", "bias"),
    [
        pytest.param((4, 5), (5,), id="few"),
        pytest.param((100, 16), (16,), id="rows that fill registers"),
        pytest.param((1000, 5), (5,), id="more than the stack is to hold"),
        pytest.param((100, 4, 5), (100, 4, 5), id="nothing to copy"),
    ],
)
def test_other_loops_stay_as_they_are(shape: tuple[int, ...], bias: tuple[int, ...]) -> None:
    assert not copies(compiled(biased, draw(*shape), draw(*bias)))


def test_copies_of_several_share_the_bound() -> None:
    def affine(x: Any, scale: Any, shift: Any) -> Any:
        return (x * scale + shift).tanh()

    assert copies(compiled(affine, draw(100, 4, 5), draw(100, 1, 5), draw(5)))
    assert not copies(compiled(affine, draw(600, 5), draw(600, 1), draw(5)))


@pytest.mark.exact
@pytest.mark.trains
def test_many_nets_are_trained_as_they_are_without_compiling() -> None:
    x, target = draw(4, 2), draw(100, 4, 3)
    start = [draw(100, 2, 3), draw(100, 1, 3)]

    def trained(by: Callable[..., Any]) -> list[Any]:
        weight, bias = (Tensor(t.data.copy(), requires_grad=True) for t in start)

        def step() -> Any:
            weight.grad = bias.grad = None
            loss = (((x @ weight + bias).sigmoid() - target) ** 2).sum()
            loss.backward()
            with tk.no_grad():
                weight.data -= 0.1 * weight.grad.data
                bias.data -= 0.1 * bias.grad.data
            return loss

        taken = by(step)
        return [[taken().item() for _ in range(6)], weight.data, bias.data]

    for mine, other in zip(trained(tk.compile), trained(lambda step: step), strict=True):
        np.testing.assert_allclose(mine, other, 1e-11)


def test_a_part_of_what_is_put_together_is_written_where_it_belongs() -> None:
    def joined(x: Any, bias: Any, y: Any) -> Any:
        return tk.cat([(x + bias).tanh(), y * 2], -1)

    compiled(joined, draw(100, 4, 5), draw(100, 1, 5), draw(100, 4, 3))
