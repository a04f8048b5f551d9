"""Every layer: its formula on small numbers, its start, its modes, and its derivatives."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from layer_samples import LAYERS, SEVERAL

import tinygrad_kr as tk
from tinygrad_kr import nn
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(20)

RECURRENT = {"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"}
"""They return pairs; test_nn_recurrent.py checks their derivatives."""
CONTAINERS = {
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterList",
    "ParameterDict",
    "Sequential",
}
MACHINES = {"RBM", "DBN"}
"""Whose inputs are probabilities, and whose derivatives test_nn_rbm.py checks."""


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """Each test draws the same numbers, whichever run before it."""
    RANDOM.bit_generator.state = np.random.default_rng(30).bit_generator.state


def test_every_layer_is_in_the_table() -> None:
    classes = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    losses = {name for name in classes if name.endswith("Loss")}
    elsewhere = losses | CONTAINERS | RECURRENT | MACHINES
    elsewhere |= {name.partition(",")[0] for name in SEVERAL}  # test_nn_several_inputs.py
    assert {layer.kind for layer in LAYERS.values()} == classes - elsewhere


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_derivatives(name: str, fast: bool) -> None:
    layer = LAYERS[name].make().double()
    x = LAYERS[name].example(RANDOM)
    start = {key: RANDOM.standard_normal(p.shape) for key, p in layer.named_parameters()}

    def run(x: Any, parameters: dict[str, Any]) -> Any:
        return nn.functional_call(copy.deepcopy(layer), parameters, (x,))

    check_grads(run, (x, start), order=2, fast=fast)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(name: str, dtype: Any) -> None:
    layer = LAYERS[name].make().to(dtype)
    x = LAYERS[name].example(RANDOM)
    y = layer(tk.Tensor(x if x.dtype.kind == "i" else x.astype(dtype), requires_grad=False))
    assert y.dtype == dtype
    assert {t.dtype for t in (*layer.parameters(), *layer.buffers())} <= {
        np.dtype(dtype), np.dtype(np.int64)
    }  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_copies_behave_alike(name: str) -> None:
    layer = LAYERS[name].make().double()
    x = tk.Tensor(LAYERS[name].example(RANDOM))
    loaded = LAYERS[name].make().double()
    loaded.load_state_dict(layer.state_dict())
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded]
    assert {repr(twin) for twin in twins} == {repr(layer)}
    y = layer(x).data
    for twin in twins:
        np.testing.assert_array_equal(twin(x).data, y)


@pytest.mark.parametrize("name", [name for name in LAYERS if "no batch" not in name])
def test_an_empty_batch(name: str) -> None:
    layer = LAYERS[name].make().double().eval()
    x = LAYERS[name].example(RANDOM)
    whole, empty = layer(tk.Tensor(x)), layer(tk.Tensor(x[:0]))
    assert empty.shape[1:] == whole.shape[1:]
    assert empty.size == 0


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_of_the_summary(name: str) -> None:
    layer = LAYERS[name].make()
    x = LAYERS[name].example(RANDOM)
    x = tk.Tensor(x if x.dtype.kind == "i" else x.astype(np.float32))
    row = next(
        line for line in nn.Sequential(layer).summary(x).splitlines() if line.startswith("0 ")
    )
    assert row.split()[1] == LAYERS[name].kind
    assert f" {layer(x).shape} " in row
    sizes = [p.size for p in layer.parameters()]
    assert re.search(rf" {sum(sizes) or '-'} +{4 * sum(sizes) or '-'} +(-|[0-9]+)$", row)


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if layer.text])
def test_settings_are_shown(name: str) -> None:
    assert repr(LAYERS[name].make()) == LAYERS[name].text


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if layer.function])
def test_settings_reach_the_function(name: str) -> None:
    layer, function = LAYERS[name].make().double(), LAYERS[name].function
    assert function is not None
    x = tk.Tensor(LAYERS[name].example(RANDOM))
    np.testing.assert_array_equal(layer(x).data, function(x, *layer.parameters()).data)


# ------------------------------------------------------------------ how layers start


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda g: nn.Linear(300, 200, generator=g), 300),
        (lambda g: nn.Conv1d(20, 40, 5, groups=2, generator=g), 50),
        (lambda g: nn.Conv2d(16, 64, (3, 5), generator=g), 240),
        (lambda g: nn.ConvTranspose2d(64, 16, (3, 5), generator=g), 240),
    ],
)
def test_weights_and_biases_start_uniform_by_fan_in(make: Any, fan_in: int) -> None:
    layer = make(np.random.default_rng(0))
    bound = 1 / math.sqrt(fan_in)
    weight = layer.weight.data.ravel().astype(np.float64)
    for values in (weight, layer.bias.data):
        assert np.abs(values).max() <= np.float32(bound)
    assert np.abs(weight).max() > 0.999 * bound
    # The standard error of a uniform's mean and variance.
    n, std = weight.size, bound / math.sqrt(3)
    assert abs(weight.mean()) < 4 * std / math.sqrt(n)
    assert abs(weight.var() / std**2 - 1) < 4 * math.sqrt(0.8 / n)
    assert layer.bias.data.std() > 0.4 * bound


def test_embeddings_start_normal_with_a_zero_row() -> None:
    weight = nn.Embedding(200, 100, padding_idx=3, generator=np.random.default_rng(1)).weight.data
    assert not weight[3].any()
    rest = np.delete(weight, 3, axis=0)
    assert abs(rest.mean()) < 4 / math.sqrt(rest.size)
    assert abs(rest.std() - 1) < 4 / math.sqrt(2 * rest.size)


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: nn.Linear(2, 3, **k),
        lambda **k: nn.Conv1d(2, 3, 2, **k),
        lambda **k: nn.Conv2d(2, 3, 2, **k),
        lambda **k: nn.ConvTranspose2d(2, 3, 2, **k),
        lambda **k: nn.Embedding(2, 3, **k),
    ],
)
def test_a_seed_determines_the_start_in_both_dtypes(make: Any) -> None:
    first, again, fine = (
        make(generator=np.random.default_rng(5), dtype=dtype)
        for dtype in (None, np.float32, np.float64)
    )
    other = make(generator=np.random.default_rng(6))
    for key, value in first.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[key])
        np.testing.assert_array_equal(value, fine.state_dict()[key].astype(np.float32))
        assert fine.state_dict()[key].dtype == np.float64
        assert not np.array_equal(value, other.state_dict()[key])
    tk.manual_seed(3)
    by_default = make().state_dict()
    tk.manual_seed(3)
    np.testing.assert_equal(make().state_dict(), by_default)
    first.reset_parameters(np.random.default_rng(6))
    np.testing.assert_equal(first.state_dict(), other.state_dict())


def test_norms_start_as_standardisation() -> None:
    x = tk.randn(50, 4)
    for layer in (nn.BatchNorm1d(4), nn.LayerNorm(4)):
        assert layer.weight is not None and layer.bias is not None
        assert layer.weight.tolist() == [1] * 4 and layer.bias.tolist() == [0] * 4
        axis = 0 if isinstance(layer, nn.BatchNorm1d) else 1
        y = layer(x).data
        np.testing.assert_allclose(y.mean(axis), 0, atol=1e-6)
        np.testing.assert_allclose(y.var(axis), 1, rtol=1e-2)
        layer.weight.data[...] = layer.bias.data[...] = 3
        layer.reset_parameters()
        assert layer.weight.tolist() == [1] * 4 and layer.bias.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 1), r"in_features: expected at least 1, got 0\."),
        (lambda: nn.Linear(2, -1), r"out_features: expected at least 1, got -1\."),
        (lambda: nn.Conv2d(1, 0, 3), r"out_channels: expected at least 1, got 0\."),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), r"2 groups, got 3 input and 4 output channels\."),
        (lambda: nn.Conv2d(1, 1, 0), r"expected an integer or 2 of them, at least 1, got 0\."),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), r"or 2 of them, at least 1, got \(3, 3, 3\)\."),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "padding"),
        (lambda: nn.Conv2d(1, 1, 3, padding="full"), '"same", "valid"'),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(1, 1, 3, 2, padding="same"), r'1 with padding="same", got \(2, 2\)\.'),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="mirror"), r"or .circular., got 'mirror'\."),  # type: ignore[arg-type]
        (lambda: nn.Embedding(5, 2, padding_idx=5), r"padding_idx in a table of 5 rows, got 5\."),
        (lambda: nn.Embedding.from_pretrained(np.zeros(3)), r"features\), got shape \(3,\)\."),
        (lambda: nn.LayerNorm(()), r"expected at least one axis in normalized_shape, got none\."),
        (lambda: nn.Hardtanh(1, -1), r"Hardtanh: expected min_val <= max_val, got 1 and -1\."),
        (lambda: nn.GELU("fast"), r"GELU: expected approximate .none. or .tanh., got 'fast'\."),
        (lambda: nn.Maxout(0), r"Maxout: expected pieces >= 1, got 0\."),
    ],
)
def test_settings_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_sizes_and_dtypes_of_the_wrong_kind() -> None:
    with pytest.raises(TypeError, match=r"^Linear: in_features: expected an integer, got float\."):
        nn.Linear(2.0, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Linear: expected a floating dtype, got int64\."):
        nn.Linear(2, 1, dtype=np.int64)
    with pytest.raises(TypeError, match=r"^Linear: expected a np\.random\.Generator, got int"):
        nn.Linear(2, 1, generator=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"np\.random\.Generator, got int"):
        nn.Dropout(generator=3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ formulas


def test_linear_is_x_w_transposed_plus_b() -> None:
    layer = nn.Linear(2, 2)
    layer.load_state_dict({"weight": np.float32([[1, 2], [3, 4]]), "bias": np.float32([10, 20])})
    assert layer(tk.tensor([[1.0, 1.0], [0.0, 1.0]])).tolist() == [[13, 27], [12, 24]]


def test_the_lectures_same_padding() -> None:
    """CNN basics: 3x3 of 1 ... 9, a 2x2 filter of ones, zeros added on the right and below."""
    image = tk.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
    layer = nn.Conv2d(1, 1, 2, padding="same", bias=False)
    layer.load_state_dict({"weight": np.ones((1, 1, 2, 2), np.float32)})
    assert layer(image)[0, 0].tolist() == [[12, 16, 9], [24, 28, 15], [15, 17, 9]]


def test_pools() -> None:
    x = tk.arange(16.0).reshape(1, 1, 4, 4)
    assert nn.MaxPool2d(2)(x)[0, 0].tolist() == [[5, 7], [13, 15]]
    assert nn.AvgPool2d(2)(x)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    largest, places = nn.MaxPool2d(2, return_indices=True)(x)
    assert largest[0, 0].tolist() == places[0, 0].tolist() == [[5, 7], [13, 15]]
    row = x.reshape(1, 1, 16)
    assert nn.MaxPool1d(8)(row).tolist() == [[[7, 15]]]
    assert nn.AvgPool1d(8)(row).tolist() == [[[3.5, 11.5]]]


def test_flatten_and_back() -> None:
    x = tk.randn(2, 3, 4, 5)
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    np.testing.assert_array_equal(nn.Unflatten(1, (3, 4, 5))(nn.Flatten()(x)).data, x.data)


def test_maxout_of_linear_pieces() -> None:
    x = tk.tensor([[3.0, 1.0, -2.0, -5.0]])
    assert nn.Maxout(2)(x).tolist() == [[3, -2]]
    with pytest.raises(ValueError, match=r"of pieces=3 on axis -1, got shape \(1, 4\)\."):
        nn.Maxout(3)(x)


def test_embedding_rows_and_padding() -> None:
    assert repr(nn.Embedding(3, 2, padding_idx=-1)) == "Embedding(3, 2, padding_idx=2)"
    table = nn.Embedding(3, 2, padding_idx=0)
    y = table(tk.tensor([[1, 0, 1]]))
    assert y.shape == (1, 3, 2)
    y.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[0, 0], [2, 2], [0, 0]]


def test_pretrained_embeddings_are_copied_and_frozen() -> None:
    array = np.arange(6.0).reshape(3, 2)
    table = nn.Embedding.from_pretrained(array)
    assert not table.weight.requires_grad and table.weight.dtype == np.float64
    assert table(tk.tensor(2)).tolist() == [4, 5]
    array[...] = 0
    assert table(tk.tensor(2)).tolist() == [4, 5]
    assert nn.Embedding.from_pretrained(array, freeze=False).weight.requires_grad


# ------------------------------------------------------------------ dropout


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), nn.Dropout(p=0.3), nn.Dropout(keep=0.7)])
def test_dropout_drops_p_and_keeps_the_mean(layer: nn.Dropout) -> None:
    y = layer(tk.ones(100_000)).data
    dropped = (y == 0).mean()
    assert abs(dropped - 0.3) < 4 * math.sqrt(0.21 / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-6)


def test_dropout_in_eval_and_at_the_ends() -> None:
    x = tk.randn(50)
    assert nn.Dropout(0.9).eval()(x) is x
    np.testing.assert_array_equal(nn.Dropout(0.0)(x).data, x.data)
    np.testing.assert_array_equal(nn.Dropout(keep=1)(x).data, x.data)
    assert not nn.Dropout(1.0)(x).data.any()
    assert nn.Dropout().p == 0.5


def test_dropout_keeps_its_mask_for_backward_and_draws_anew_forward() -> None:
    layer = nn.Dropout(0.5, generator=np.random.default_rng(0))
    x = tk.ones(100, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, y.data)
    again = layer(x).data
    assert not np.array_equal(again, y.data)
    np.testing.assert_array_equal(
        nn.Dropout(0.5, generator=np.random.default_rng(0))(x).data, y.data
    )


@pytest.mark.parametrize("kwargs", [{"p": 1.5}, {"p": -0.1}, {"keep": 2}, {"p": math.nan}])
def test_dropout_rates_are_probabilities(kwargs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected (p|keep), .* in \[0, 1\], got"):
        nn.Dropout(**kwargs)  # type: ignore[arg-type]


def test_dropout_takes_one_spelling() -> None:
    with pytest.raises(ValueError, match=r"keep \(the share kept\), got p=0\.3 and keep=0\.7\."):
        nn.Dropout(0.3, keep=0.7)


# ------------------------------------------------------------------ batch norm


def test_running_statistics_move_by_the_momentum() -> None:
    layer = nn.BatchNorm1d(2, momentum=0.25)
    assert layer.running_mean is not None and layer.running_var is not None
    x = np.float32([[1, 10], [3, 20], [5, 60]])
    layer(tk.Tensor(x))
    np.testing.assert_allclose(layer.running_mean.data, 0.25 * x.mean(0))
    np.testing.assert_allclose(layer.running_var.data, 0.75 + 0.25 * x.var(0, ddof=1))
    assert layer.num_batches_tracked is not None and layer.num_batches_tracked.item() == 1
    state = layer.state_dict()
    layer.eval()(tk.Tensor(x))
    np.testing.assert_equal(layer.state_dict(), state)
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0] and layer.running_var.tolist() == [1, 1]
    assert layer.num_batches_tracked.item() == 0


def test_without_momentum_the_average_is_over_all_batches() -> None:
    layer = nn.BatchNorm2d(3, momentum=None)
    batches = [tk.randn(4, 3, 2, 2) for _ in range(5)]
    for batch in batches:
        layer(batch)
    assert layer.running_mean is not None
    mean = np.mean([batch.data.mean((0, 2, 3)) for batch in batches], axis=0)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-5)


def test_eval_uses_the_running_statistics() -> None:
    layer = nn.BatchNorm1d(1, affine=False, eps=0.0).eval()
    layer.load_state_dict(
        {
            "running_mean": np.float32([2]),
            "running_var": np.float32([4]),
            "num_batches_tracked": np.array(7),
        }
    )
    assert layer(tk.tensor([[4.0]])).tolist() == [[1]]


def test_without_running_statistics_the_batch_is_used_always() -> None:
    layer = nn.BatchNorm1d(2, track_running_stats=False)
    assert list(layer.state_dict()) == ["weight", "bias"]
    x = tk.randn(5, 2)
    np.testing.assert_array_equal(layer(x).data, layer.eval()(x).data)
    with pytest.raises(ValueError, match="one value per channel"):
        layer(x[:1])


def test_a_refused_batch_leaves_the_statistics_alone() -> None:
    layer = nn.BatchNorm1d(2)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=r"one value per channel .*eval\(\)"):
        layer(tk.ones(1, 2))
    np.testing.assert_equal(layer.state_dict(), before)
    assert layer.eval()(tk.ones(1, 2)).shape == (1, 2)


def test_a_graph_through_running_statistics_keeps_those_it_was_made_with() -> None:
    layer = nn.BatchNorm1d(2, eps=0.0).double().eval()
    x = tk.randn(3, 2, dtype=np.float64, requires_grad=True)
    loss = layer(x).sum()
    layer.train()(x * 5)
    loss.backward()
    assert x.grad is not None and x.grad.tolist() == [[1, 1]] * 3
