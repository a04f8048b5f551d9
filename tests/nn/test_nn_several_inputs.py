"""Layers of several inputs, and transformers: derivatives, copies, compiled calls, masks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from layer_samples import SEVERAL

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(20)


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """Each test draws the same numbers, whichever run before it."""
    RANDOM.bit_generator.state = np.random.default_rng(30).bit_generator.state
    tk.manual_seed(0)


def made(name: str, dtype: Any = np.float64) -> tuple[nn.Module, list[Any]]:
    """A layer and inputs for it."""
    make, shapes = SEVERAL[name]
    return make(nn).to(dtype), [RANDOM.standard_normal(shape).astype(dtype) for shape in shapes]


def first(y: Any) -> Any:
    """The result itself, without the weights."""
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", SEVERAL)
def test_derivatives(name: str) -> None:
    """To second order, but of stacks, whose layers have rows of their own."""
    layer, inputs = made(name)
    start = {key: p.data + 0.1 for key, p in layer.named_parameters()}

    def run(inputs: Any, parameters: dict[str, Any]) -> Any:
        return first(nn.functional_call(layer, parameters, tuple(inputs)))

    order = 1 if name in ("TransformerEncoder", "TransformerDecoder", "Transformer") else 2
    check_grads(run, (inputs, start), order=order, eps=3e-6, fast=True)


@pytest.mark.parametrize("name", SEVERAL)
def test_dtype_is_kept_and_copies_behave_alike(name: str) -> None:
    layer, inputs = made(name, np.float32)
    y = first(layer(*map(Tensor, inputs)))
    assert y.dtype == np.float32
    loaded = SEVERAL[name][0](nn)
    loaded.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert repr(twin) == repr(layer)
        np.testing.assert_array_equal(first(twin(*map(Tensor, inputs))).data, y.data)


def stepped(layer: nn.Module, inputs: list[Tensor]) -> list[Any]:
    """The result and all gradients."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    parameters = list(layer.parameters())
    y = first(layer(*leaves))
    weights = np.linspace(0.5, 1.5, y.size, dtype=y.dtype).reshape(y.shape)
    return [y.detach(), *tk.autograd.grad((y * weights).sum(), [*leaves, *parameters])]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", SEVERAL)
def test_compiled_as_eager(name: str) -> None:
    layer, inputs = made(name)
    compiled = tk.compile(lambda *inputs: stepped(layer, list(inputs)))
    for i in (0, 0, 0, 1):
        given = [Tensor(x + i * 0.1) for x in inputs]
        for found, expected in zip(compiled(*given), stepped(layer, given), strict=True):
            np.testing.assert_allclose(found.data, expected.data, rtol=1e-10, atol=1e-12)
    assert compiled.explain() == "every call is compiled"


# ------------------------------------------------------------------ attention

X = RANDOM.standard_normal((2, 3, 4))
FUTURE = np.triu(np.ones((3, 3), bool), 1)
ADDED = np.where(FUTURE, -np.inf, 0.0)
ENDS = np.array([[False, False, True], [False, False, False]])


def attention() -> nn.MultiheadAttention:
    return nn.MultiheadAttention(4, 2, batch_first=True).double()


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "masks",
    [
        {"attn_mask": FUTURE},
        {"attn_mask": ADDED},
        {"attn_mask": np.stack([FUTURE] * 4)},
        {"attn_mask": FUTURE, "is_causal": True},
        {"attn_mask": ADDED, "key_padding_mask": np.zeros((2, 3), bool), "is_causal": True},
    ],
    ids=["booleans", "floats", "of each head", "hint", "hint and padding"],
)
def test_masks_hide_the_future(masks: dict[str, Any], need_weights: bool) -> None:
    layer, later = attention(), X + np.array([0, 0, 1.0])[:, None]
    y, weights = layer(*[Tensor(X)] * 3, need_weights=need_weights, **masks)
    changed, _ = layer(*[Tensor(later)] * 3, need_weights=need_weights, **masks)
    np.testing.assert_allclose(y.data[:, :2], changed.data[:, :2], rtol=1e-12)
    assert np.abs(y.data[:, 2] - changed.data[:, 2]).min() > 1e-3
    assert (weights is None) == (not need_weights)
    if need_weights:
        assert not weights.data[:, FUTURE].any()
        np.testing.assert_allclose(weights.data.sum(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("mask", [ENDS, np.where(ENDS, -np.inf, 0.0)], ids=["booleans", "floats"])
def test_padded_keys_are_not_seen(mask: Any) -> None:
    layer = attention()
    whole, _ = layer(*[Tensor(X)] * 3, key_padding_mask=mask)
    short, _ = layer(*[Tensor(X[:1, :2])] * 3)
    np.testing.assert_allclose(whole.data[0, :2], short.data[0], rtol=1e-12)
    _, weights = layer(*[Tensor(X)] * 3, key_padding_mask=mask, average_attn_weights=False)
    assert weights.shape == (2, 2, 3, 3) and not weights.data[0, :, :, 2].any()


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_query_that_sees_no_key_has_no_nan(need_weights: bool) -> None:
    layer, x = attention(), Tensor(X, requires_grad=True)
    hidden = np.array([[True] * 3, [False] * 3])
    y, _ = layer(x, x, x, key_padding_mask=hidden, need_weights=need_weights)
    (y * y).sum().backward()
    assert not y.data[0].any(), "all but the bias, which is 0"
    assert y.data[1].all() and not x.grad.data[0].any()
    assert all(np.isfinite(p.grad.data).all() for p in layer.parameters())


def test_equal_arguments_are_projected_in_one_product() -> None:
    layer = attention()
    same, keys_and_values = (layer(*map(Tensor, (X, X, X)))[0] for _ in range(2))
    x = Tensor(X)
    np.testing.assert_allclose(layer(x, x, x)[0].data, same.data, rtol=1e-12)
    np.testing.assert_allclose(layer(Tensor(X), x, x)[0].data, keys_and_values.data, rtol=1e-12)
    time_first = nn.MultiheadAttention(4, 2).double()
    time_first.load_state_dict(layer.state_dict())
    x = x.swapaxes(0, 1)
    np.testing.assert_allclose(time_first(x, x, x)[0].data.swapaxes(0, 1), same.data, rtol=1e-12)


def test_dropout_of_weights_is_in_training_alone() -> None:
    layer, x = nn.MultiheadAttention(4, 2, dropout=0.5), tk.ones(3, 1, 4)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert not weights.data.all() and set(np.unique(weights.data.round(5))) <= {
        np.float32(0), np.float32(0.66667),
    }  # fmt: skip
    _, weights = layer.eval()(x, x, x)
    np.testing.assert_allclose(weights.data, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MultiheadAttention(5, 2), "embed_dim, a multiple of 2 heads, got 5"),
        (lambda: nn.MultiheadAttention(4, 2, dropout=2), r"dropout in \[0, 1\], got 2"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="tan"), '"gelu" or a function, got'),
        (lambda: nn.GroupNorm(2, 3), "num_channels, a multiple of 2 groups, got 3"),
        (lambda: nn.EmbeddingBag(2, 3, mode="median"), "mode sum, mean, max, got 'median'"),
        (lambda: nn.ZeroPad2d((1, 2)), r"an integer or 4 of them, got \(1, 2\)"),
        (lambda: nn.RMSNorm(()), "at least one axis in normalized_shape, got none"),
        (lambda: nn.Dropout2d(2), r"Dropout2d: expected p, the share dropped, in \[0, 1\], got 2"),
    ],
)
def test_settings_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"attn_mask": np.ones((2, 3), bool)}, r"attn_mask of shape \(3, 3\) or \(4, 3, 3\), got"),
        ({"key_padding_mask": np.ones((3, 3), bool)}, r"key_padding_mask of shape \(2, 3\), got"),
        ({"is_causal": True}, "an attn_mask with is_causal, got None"),
        ({"value": Tensor(X[:, :2])}, r"as many values as keys, .* \(2, 2\) values"),
        ({"query": Tensor(X[..., :3])}, "queries of 4 features, .* got 3"),
        ({"key": Tensor(X[0])}, "3 axes, or of 2 without a batch"),
        ({"key": Tensor(X[..., :3])}, "keys and values of 4 features, got 3 and 4"),
    ],
)
def test_calls_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    arguments = {"query": Tensor(X), "key": Tensor(X), "value": Tensor(X)} | given
    with pytest.raises(ValueError, match=message):
        attention()(**arguments)
    with pytest.raises(TypeError, match="attn_mask of booleans or floats, got int64"):
        attention()(*[Tensor(X)] * 3, attn_mask=np.ones((3, 3), int))


# ------------------------------------------------------------------ transformers


def test_an_encoder_is_its_layers_in_sequence() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 3, 0.0, batch_first=True).double()
    encoder, x = nn.TransformerEncoder(layer, 2, nn.LayerNorm(4)).double(), Tensor(X)
    assert encoder.layers[0] is not layer and encoder.num_layers == 2
    expected = encoder.norm(encoder.layers[1](encoder.layers[0](x, FUTURE), FUTURE))
    np.testing.assert_array_equal(encoder(x, FUTURE).data, expected.data)
    np.testing.assert_array_equal(layer(x).data, encoder.layers[0](x).data)


def test_a_decoder_sees_no_future_and_all_memory() -> None:
    net = nn.Transformer(4, 2, 1, 1, 3, 0.0, batch_first=True).double()
    mask = net.generate_square_subsequent_mask(3, np.float64)
    assert mask.tolist() == ADDED.tolist()
    source, target = X[:, ::-1].copy(), X
    y = net(Tensor(source), Tensor(target), tgt_mask=mask, tgt_is_causal=True)
    later = target + np.array([0, 0, 1.0])[:, None]
    changed = net(Tensor(source), Tensor(later), tgt_mask=mask)
    np.testing.assert_allclose(y.data[:, :2], changed.data[:, :2], rtol=1e-10)
    other = net(Tensor(source + np.array([0, 0, 1.0])[:, None]), Tensor(target), tgt_mask=mask)
    assert np.abs(other.data - y.data).max(axis=(0, 2)).min() > 1e-6
    hidden = {"memory_key_padding_mask": ENDS, "src_key_padding_mask": ENDS}
    assert net(Tensor(source), Tensor(target), **hidden).shape == X.shape


def test_every_matrix_of_a_transformer_starts_as_xaviers() -> None:
    net = nn.Transformer(32, 2, 1, 1, 48, generator=np.random.default_rng(0))
    for name, p in net.named_parameters():
        if p.ndim > 1:
            bound = np.sqrt(6 / sum(p.shape))
            assert 0.9 * bound < np.abs(p.data).max() <= np.float32(bound), name
    again = nn.Transformer(32, 2, 1, 1, 48, generator=np.random.default_rng(0))
    np.testing.assert_equal(again.state_dict(), net.state_dict())
    twin = nn.Transformer(4, 2, custom_encoder=net.encoder, custom_decoder=net.decoder)
    assert twin.encoder is net.encoder and twin.decoder is net.decoder


def test_attention_learns_to_look_back() -> None:
    """Which of two earlier tokens came first: only attention with positions can say."""
    random = np.random.default_rng(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, generator=random)
    head, table = nn.Linear(8, 2, generator=random), nn.Embedding(6, 8, generator=random)
    parameters = [*layer.parameters(), *head.parameters(), *table.parameters()]
    optimizer = tk.optim.Adam(parameters, lr=0.01)
    tokens = np.array([[0, 1, 2], [1, 0, 2]] * 4)

    def loss() -> Any:
        x = layer(table(tokens) + table(np.array([3, 4, 5])))
        return F.cross_entropy(head(x[:, -1]), np.array([0, 1] * 4))

    start = loss().item()
    for _ in range(40):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert value.item() < 0.2 * start
