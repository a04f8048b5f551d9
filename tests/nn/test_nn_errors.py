"""An exception inside a net says where it came up, and is otherwise the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn


def deep() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Sequential(nn.Identity(), nn.Linear(6, 3)))


def test_path_module_input_wish_and_cause() -> None:
    with pytest.raises(ValueError) as raised:
        deep()(tk.zeros(7, 4))
    assert str(raised.value).startswith(
        "sequential.2.1: Linear(in_features=6, out_features=3, bias=True): "
        "expected (..., 6), got (7, 5): linear"
    )
    assert type(raised.value) is ValueError
    assert isinstance(raised.value.__cause__, ValueError)
    assert "linear" not in str(raised.value.__cause__)


def test_the_root_alone() -> None:
    with pytest.raises(ValueError, match=r"nn.Flatten\(\) before the layer"):
        nn.Linear(12, 5)(tk.ones(2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"^linear: Linear\(in_features=2, .* got \(3,\)"):
        nn.Linear(2, 2)(tk.zeros(3))


class Net(nn.Module):
    def __init__(self) -> None:
        self.body = nn.ModuleDict({"left": nn.Linear(2, 2), "right": nn.Linear(3, 2)})

    def forward(self, x: Any, *, side: Any = "left", error: Any = None) -> Any:
        if error is not None:
            raise error
        return self.body[side](x)


def test_containers_that_are_not_called_are_in_the_path() -> None:
    with pytest.raises(ValueError, match=r"^net\.body\.right: Linear\(in_features=3"):
        Net()(tk.zeros(1, 2), side="right")


def test_a_module_that_is_not_a_part_is_named_by_its_class() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            self.layers = [nn.Linear(2, 2)]

        def forward(self, x: Any) -> Any:
            return self.layers[0](x)

    with pytest.raises(ValueError, match=r"^hidden\.<Linear>: Linear"):
        Hidden()(tk.zeros(3))


def test_a_shared_module_is_named_by_its_first_path() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"^sequential\.0: Linear.*got \(1, 3\)"):
        nn.Sequential(layer, layer)(tk.zeros(1, 2))


def test_keyword_inputs_and_what_is_no_array() -> None:
    with pytest.raises(ValueError) as raised:
        Net()(np.zeros(3), side=tk.zeros(2, 2), error=ValueError("no"))
    assert str(raised.value) == "net: Net(): got (3,), side=(2, 2), error=ValueError: no"


@pytest.mark.parametrize(
    "error", [KeyError("k"), OSError(2, "no file"), RuntimeError("a", 1), RuntimeError(3)]
)
def test_what_has_no_message_to_extend_gets_a_note(error: Exception) -> None:
    before = error.args
    with pytest.raises(type(error)) as raised:
        nn.Sequential(nn.Identity(), nn.Sequential(Raising(error)))(tk.zeros(2))
    assert raised.value is error and error.args == before
    assert error.__notes__ == ["sequential.1.0: Raising(): got (2,)"]


class Raising(nn.Module):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def forward(self, x: Any) -> Any:
        raise self.error


def test_a_type_of_the_users_own_is_kept() -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop, match=r"^sequential\.0: Raising\(\): got \(2,\): enough$"):
        nn.Sequential(Raising(Stop("enough")))(tk.zeros(2))


def test_an_error_that_is_caught_inside_leaves_no_trace() -> None:
    class Fallback(nn.Module):
        def __init__(self) -> None:
            self.first, self.second = nn.Linear(2, 2), nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            try:
                return self.first(x)
            except ValueError:
                return self.second(x)

    net = Fallback()
    assert net(tk.zeros(1, 3)).shape == (1, 2)
    with pytest.raises(ValueError, match=r"^fallback\.second: .*expected \(\.\.\., 3\), got"):
        net(tk.zeros(1, 4))


def test_errors_in_hooks_are_located_too() -> None:
    net = nn.Sequential(nn.Identity())

    def hook(*_: Any) -> None:
        raise ValueError("hooked")

    net[0].register_forward_hook(hook)
    with pytest.raises(ValueError, match=r"^sequential\.0: Identity\(\): got \(1,\): hooked"):
        net(tk.zeros(1))


def test_infinite_recursion_is_still_a_recursion_error() -> None:
    class Loop(nn.Module):
        def forward(self, x: Any) -> Any:
            return self(x)

    with pytest.raises(RecursionError):
        Loop()(1)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(3, 4, 3), (2, 1, 8, 8), "(N, 3, H, W) or (3, H, W)"),
        (nn.Conv1d(3, 4, 3), (2, 1, 8), "(N, 3, L) or (3, L)"),
        (nn.ConvTranspose2d(3, 4, 3), (2, 1, 8, 8), "(N, 3, H, W) or (3, H, W)"),
        (nn.BatchNorm1d(3), (4, 5), "(N, 3) or (N, 3, L)"),
        (nn.BatchNorm1d(3), (4, 3, 2, 2), "(N, 3) or (N, 3, L)"),
        (nn.BatchNorm2d(3), (4, 3), "(N, 3, H, W)"),
        (nn.LayerNorm((2, 3)), (4, 3, 2), "(..., 2, 3)"),
        (nn.Unflatten(1, (2, 3)), (4, 5), "6 elements on axis 1"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_layers_say_what_they_expect(
    module: nn.Module, shape: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(ValueError) as raised:
        nn.Sequential(module)(tk.zeros(shape))
    assert str(raised.value).startswith(
        f"sequential.0: {module!r}: expected {expected}, got {shape}: "
    )


def test_embedding_and_losses_say_what_they_expect() -> None:
    table = nn.Embedding(5, 2)
    with pytest.raises(
        IndexError, match=r"^embedding: .*expected integers in \[0, 5\), got .*got 7 "
    ):
        table(tk.tensor([1, 7]))
    with pytest.raises(TypeError, match=r"expected integers in \[0, 5\), got"):
        table(tk.tensor([1.0]))
    with pytest.raises(ValueError, match=r"^mseloss: .* got \(4, 1\), \(4,\): .*reshape"):
        nn.MSELoss()(tk.zeros(4, 1), tk.zeros(4))
    with pytest.raises(ValueError, match="expected more than one value per channel"):
        nn.BatchNorm1d(3)(tk.zeros(1, 3))
