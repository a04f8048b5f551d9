"""The table of `summary()`."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Sequential(nn.Linear(144, 10), nn.Dropout()),
    )


def test_the_whole_table() -> None:
    net = lenet()
    net[3][0].requires_grad_(False)
    assert net.summary((2, 1, 8, 8)) == (
        "Sequential\n"
        "------------------------------------------------------------------\n"
        "layer  type         output        parameters  bytes  multiply-adds\n"
        "------------------------------------------------------------------\n"
        "0      Conv2d       (2, 4, 6, 6)          40    160          2,592\n"
        "1      BatchNorm2d  (2, 4, 6, 6)           8     32              -\n"
        "2      Flatten      (2, 144)               -      -              -\n"
        "3      Sequential   (2, 10)                -      -              -\n"
        "3.0    Linear       (2, 10)            1,450  5,800          2,880\n"
        "3.1    Dropout      (2, 10)                -      -              -\n"
        "------------------------------------------------------------------\n"
        "parameters: 1,498 (48 trained, 1,450 frozen), float32\n"
        "buffers: 9; all together 6,032 bytes\n"
        "multiply-adds of products and convolutions: 5,472"
    )


def test_without_an_example_there_are_no_shapes() -> None:
    text = lenet().summary()
    assert "output" not in text
    assert "\n0      Conv2d               40    160\n" in text


def test_looking_changes_nothing() -> None:
    net = lenet()
    net[1].eval()
    before = net.state_dict()
    tk.manual_seed(1)
    untouched = tk.rand(1).item()
    tk.manual_seed(1)
    net.summary(tk.randn(4, 1, 8, 8, generator=np.random.default_rng(0)))
    assert tk.rand(1).item() == untouched
    pickle.dumps(net)  # no hook is left, which could not be pickled
    np.testing.assert_equal(net.state_dict(), before)
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True, True]
    net[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"^sequential\.3\.0: Linear.*got \(1, 100\)"):
        net.summary((1, 1, 7, 7))
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True, True]


def test_a_module_with_parameters_of_its_own_and_one_that_does_not_run() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.scale = nn.Parameter(np.ones(1))
            self.used, self.unused = nn.Identity(), nn.Linear(1, 1)

        def forward(self, x: Any, y: Any) -> Any:
            return {"sum": self.used(x) + y, "twice": (x * self.scale, 3)}

    lines = Net().summary((tk.ones(2), [1.0, 2.0])).splitlines()
    assert lines[4].split() == ["(itself)", "Net", "(2,),", "(2,),", "int", "1", "8", "-"]
    assert lines[5].split() == ["used", "Identity", "(2,)", "-", "-", "-"]
    assert lines[6].split() == ["unused", "Linear", "not", "run", "2", "8", "-"]
    assert lines[8].endswith("(3 trained, 0 frozen), float32, float64")


def test_nothing_is_recorded() -> None:
    class Recording(nn.Module):
        def forward(self, x: Any) -> Any:
            assert not tk.is_grad_enabled() and not self.training
            return x

    assert Recording().summary((2,))


def test_shared_parameters_are_counted_once() -> None:
    layer = nn.Linear(2, 2)
    twin = nn.Linear(2, 2, bias=False)
    twin.weight = layer.weight
    text = nn.Sequential(layer, twin, layer).summary((1, 2))
    assert "parameters: 6 (6 trained" in text
    assert [line.split()[-3] for line in text.splitlines()[4:6]] == ["6", "-"]


def test_an_example_of_integers_and_one_in_the_nets_dtype() -> None:
    assert "(2, 3, 4)" in nn.Embedding(5, 4).summary(tk.zeros(2, 3, dtype=np.int64))
    assert "float64" in nn.Linear(2, 1, dtype=np.float64).summary((1, 2))
    assert "parameters: 0 (0 trained, 0 frozen), none" in nn.Sequential(nn.ReLU()).summary([2, 3])


# ------------------------------------------------------------------ multiply-adds


def counted(layer: nn.Module, example: Any) -> int:
    """The total of the table's last column."""
    column = [row[-1] for row in layer.summary(example).rows]
    return sum(int(cell.replace(",", "")) for cell in column if cell != "-")


BATCH, STEPS = 3, 5
PRODUCTS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "linear": (nn.Linear(4, 7), (BATCH, STEPS, 4), BATCH * STEPS * 4 * 7),
    "a vector": (nn.Linear(4, 7), (4,), 4 * 7),
    "conv1d": (nn.Conv1d(2, 6, 3), (BATCH, 2, 10), BATCH * 6 * 8 * 2 * 3),
    "conv2d with groups": (
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        (BATCH, 4, 9, 9),
        BATCH * 6 * 16 * 2 * 9,
    ),
    "transposed": (nn.ConvTranspose2d(2, 6, 3), (BATCH, 2, 4, 4), BATCH * 2 * 16 * 6 * 9),
    "rnn": (nn.RNN(4, 7), (STEPS, BATCH, 4), STEPS * BATCH * 7 * (4 + 7)),
    "lstm": (nn.LSTM(4, 7), (STEPS, BATCH, 4), STEPS * BATCH * 28 * (4 + 7)),
    "gru": (nn.GRU(4, 7), (STEPS, BATCH, 4), STEPS * BATCH * 21 * (4 + 7)),
    "elementwise": (nn.Sequential(nn.ReLU(), nn.LayerNorm(4), nn.Softmax(-1)), (BATCH, 4), 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_multiply_adds(name: str) -> None:
    layer, shape, want = PRODUCTS[name]
    assert counted(layer, shape) == want
    assert layer.summary(shape).endswith(f"convolutions: {want:,}")


class Written(nn.Module):
    """Products that no layer does: the module's own, around those of a layer."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(np.ones((4, 6), np.float32))
        self.inner = nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        y = self.inner(x @ self.weight)
        return tk.einsum("bi,bj->bij", y, y)


def test_products_of_functions_belong_to_the_module_that_calls_them() -> None:
    rows = Written().summary((3, 4)).rows
    assert [row[-1] for row in rows] == [f"{3 * 4 * 6 + 3 * 2 * 2}", f"{3 * 6 * 2}"]
    shared = nn.Linear(4, 4)
    assert nn.Sequential(shared, shared).summary((2, 4)).rows[0][-1] == f"{2 * 2 * 4 * 4}"


def test_a_forward_that_looks_at_values_and_one_that_is_compiled() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 2)

        @tk.compile
        def inner(self, x: Any) -> Any:
            return self.layer(x)

        def forward(self, x: Any) -> Any:
            return self.inner(x) if x.sum().item() == 0 and bool((x == 0).all()) else None

    assert counted(Branching(), (3, 2)) == 12


def test_counting_inside_a_trace_leaves_the_trace_as_it_was() -> None:
    net, inputs = nn.Linear(2, 2), tk.ones(3, 2)
    said = []

    def step(x: Any) -> Any:
        said.append(net.summary((3, 2)).rows[0][-1])
        return net(x).sum()

    compiled = tk.compile(step)
    with tk.no_grad():
        results = [compiled(inputs).item() for _ in range(4)]
    assert said[0] == "12" and len(set(results)) == 1


def test_the_text_is_a_string_like_any_other() -> None:
    text = lenet().summary((2, 1, 8, 8))
    assert isinstance(text, str) and repr(text) == str(text)
    again = pickle.loads(pickle.dumps(text))
    assert again == text and again.rows == text.rows and again._repr_html_() == text._repr_html_()
