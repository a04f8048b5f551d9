"""RNN, LSTM, GRU and their cells against PyTorch's, from its state_dict as NumPy arrays."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn, optim

torch = pytest.importorskip("torch")
pack = torch.nn.utils.rnn.pack_padded_sequence
unpack = torch.nn.utils.rnn.pad_packed_sequence

RANDOM = np.random.default_rng(50)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
TORCH_DTYPE = {np.float32: torch.float32, np.float64: torch.float64}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
SETTINGS = [
    dict(zip(("num_layers", "bias", "batch_first", "bidirectional"), values, strict=True))
    for values in product((1, 3), (True, False), (False, True), (False, True))
]
every_kind = pytest.mark.parametrize(("kind", "own"), KINDS, ids=["RNN", "relu", "LSTM", "GRU"])
every_setting = pytest.mark.parametrize(
    "settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values()))
)


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """Each test draws the same numbers, whichever run before it."""
    RANDOM.bit_generator.state = np.random.default_rng(50).bit_generator.state


def draw(dtype: Any, *shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def close(found: Any, expected: Any, dtype: Any) -> None:
    """Equal up to the tolerance, relative to the norm."""
    found = found.data if isinstance(found, tk.Tensor) else found
    expected = expected.detach().numpy()
    assert found.shape == expected.shape and found.dtype == expected.dtype
    difference = np.linalg.norm(np.float64(found) - expected)
    assert difference <= TOLERANCE[dtype] * max(float(np.linalg.norm(expected)), 1e-30)


def pair(name: str, dtype: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Our module and PyTorch's with its parameters."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).to(TORCH_DTYPE[dtype])
    ours = getattr(nn, name)(*args, **kwargs, dtype=dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def both(array: np.ndarray) -> tuple[Any, Any]:
    """A leaf of ours and one of PyTorch's."""
    leaf = torch.from_numpy(array.copy()).requires_grad_()
    return tk.Tensor(array.copy(), requires_grad=True), leaf


def listed(states: Any) -> list[Any]:
    return list(states) if isinstance(states, tuple) else [states]


def compare(
    ours: Any, theirs: Any, results: list[Any], wanted: list[Any], leaves: list[Any], dtype: Any
) -> None:
    """Outputs, and the gradients of leaves and parameters from one random cotangent."""
    for one, other in zip(results, wanted, strict=True):
        close(one, other, dtype)
    cotangents = [draw(dtype, *one.shape) for one in results]
    sum((y * g).sum() for y, g in zip(results, cotangents, strict=True)).backward()
    total = sum((y * torch.from_numpy(g)).sum() for y, g in zip(wanted, cotangents, strict=True))
    total.backward()
    for one, other in leaves:
        close(one.grad, other.grad, dtype)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, dtype)


@DTYPES
@every_setting
@every_kind
def test_layer(kind: str, own: dict[str, Any], settings: dict[str, Any], dtype: Any) -> None:
    ours, theirs = pair(kind, dtype, 5, 4, **own, **settings)
    count = settings["num_layers"] * (2 if settings["bidirectional"] else 1)
    x = both(draw(dtype, *((3, 6, 5) if settings["batch_first"] else (6, 3, 5))))
    states = [both(draw(dtype, count, 3, 4)) for _ in range(2 if kind == "LSTM" else 1)]
    hx, their_hx = ([state[i] for state in states] for i in (0, 1))
    output, last = ours(x[0], tuple(hx) if kind == "LSTM" else hx[0])
    their_output, their_last = theirs(x[1], tuple(their_hx) if kind == "LSTM" else their_hx[0])
    compare(
        ours,
        theirs,
        [output, *listed(last)],
        [their_output, *listed(their_last)],
        [x, *states],
        dtype,
    )


@DTYPES
@every_setting
@every_kind
def test_lengths_are_a_packed_sequence(
    kind: str, own: dict[str, Any], settings: dict[str, Any], dtype: Any
) -> None:
    ours, theirs = pair(kind, dtype, 5, 4, **own, **settings)
    lengths, first = np.array([3, 6, 1, 5]), settings["batch_first"]
    x = both(draw(dtype, *((4, 6, 5) if first else (6, 4, 5))))
    output, last = ours(x[0], lengths=lengths)
    packed = pack(x[1], torch.from_numpy(lengths), batch_first=first, enforce_sorted=False)
    their_packed, their_last = theirs(packed)
    their_output, _ = unpack(their_packed, batch_first=first)
    compare(ours, theirs, [output, *listed(last)], [their_output, *listed(their_last)], [x], dtype)


@DTYPES
@every_setting
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("lengths", [None, [3, 6, 1]], ids=["whole", "lengths"])
def test_projected_states(lengths: Any, settings: dict[str, Any], dtype: Any) -> None:
    """`proj_size`: h has fewer features than c, and each layer a parameter more."""
    ours, theirs = pair("LSTM", dtype, 5, 4, proj_size=2, **settings)
    assert repr(ours) == repr(theirs)
    count = settings["num_layers"] * (2 if settings["bidirectional"] else 1)
    first = settings["batch_first"]
    x = both(draw(dtype, *((3, 6, 5) if first else (6, 3, 5))))
    h, c = both(draw(dtype, count, 3, 2)), both(draw(dtype, count, 3, 4))
    output, last = ours(x[0], (h[0], c[0]), lengths=lengths)
    given = x[1]
    if lengths:
        given = pack(given, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
    their_output, their_last = theirs(given, (h[1], c[1]))
    if lengths:
        their_output, _ = unpack(their_output, batch_first=first)
    compare(ours, theirs, [output, *last], [their_output, *their_last], [x, h, c], dtype)


@DTYPES
@every_kind
def test_a_single_sequence(kind: str, own: dict[str, Any], dtype: Any) -> None:
    ours, theirs = pair(kind, dtype, 5, 4, 2, bidirectional=True, **own)
    x = both(draw(dtype, 6, 5))
    output, last = ours(x[0])
    their_output, their_last = theirs(x[1])
    compare(ours, theirs, [output, *listed(last)], [their_output, *listed(their_last)], [x], dtype)


@DTYPES
@pytest.mark.parametrize("batch", [(), (3,)], ids=["single", "batch"])
@pytest.mark.parametrize("bias", [True, False])
@every_kind
def test_cell(
    kind: str, own: dict[str, Any], bias: bool, batch: tuple[int, ...], dtype: Any
) -> None:
    ours, theirs = pair(f"{kind}Cell", dtype, 5, 4, bias=bias, **own)
    x = both(draw(dtype, *batch, 5))
    states = [both(draw(dtype, *batch, 4)) for _ in range(2 if kind == "LSTM" else 1)]
    hx, their_hx = ([state[i] for state in states] for i in (0, 1))
    found = ours(x[0], tuple(hx) if kind == "LSTM" else hx[0])
    wanted = theirs(x[1], tuple(their_hx) if kind == "LSTM" else their_hx[0])
    compare(ours, theirs, listed(found), listed(wanted), [x, *states], dtype)
    close(listed(ours(x[0]))[0], listed(theirs(x[1]))[0], dtype)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_positional_arguments_are_in_pytorchs_order(name: str) -> None:
    nonlinearity = ("relu",) if name == "RNN" else ()
    args = (5, 4, 2, *nonlinearity, False, True, 0.3, True)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    assert repr(ours) == repr(theirs)
    assert [p.shape for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]
    for key in ("num_layers", "bias", "batch_first", "dropout", "bidirectional"):
        assert getattr(ours, key) == getattr(theirs, key)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_the_start_has_pytorchs_distribution(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(40, 60), getattr(torch.nn, name)(40, 60)
    found = np.concatenate([p.data.ravel() for p in ours.parameters()])
    wanted = np.concatenate([q.detach().numpy().ravel() for q in theirs.parameters()])
    assert found.shape == wanted.shape
    np.testing.assert_allclose(
        np.quantile(found, [0, 0.25, 0.5, 0.75, 1]),
        np.quantile(wanted, [0, 0.25, 0.5, 0.75, 1]),
        atol=0.006,
    )


@every_kind
def test_second_derivatives(kind: str, own: dict[str, Any]) -> None:
    """The gradient of a squared gradient's norm, through two layers and both directions."""
    ours, theirs = pair(kind, np.float64, 3, 4, 2, bidirectional=True, **own)
    x = both(draw(np.float64, 4, 2, 3))
    (g,) = tk.autograd.grad((ours(x[0])[0] ** 2).sum(), [x[0]], create_graph=True)
    (h,) = torch.autograd.grad((theirs(x[1])[0] ** 2).sum(), [x[1]], create_graph=True)
    (g * g).sum().backward()
    (h * h).sum().backward()
    close(x[0].grad, x[1].grad, np.float64)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        if q.grad is not None:
            close(p.grad, q.grad, np.float64)
    for parameter in ours.parameters():
        parameter.grad = None
    x[0].grad = None


def test_sequence_loss_is_a_cross_entropy_that_ignores_padding() -> None:
    logits, lengths = draw(np.float64, 3, 4, 5), np.array([4, 1, 3])
    labels = RANDOM.integers(0, 5, (3, 4))
    padded = np.where(np.arange(4) < lengths[:, None], labels, -100)
    x, their_x = both(logits)
    found = F.sequence_loss(x, labels, lengths=lengths)
    wanted = torch.nn.functional.cross_entropy(their_x.swapaxes(1, 2), torch.from_numpy(padded))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    found.backward()
    wanted.backward()
    close(x.grad, their_x.grad, np.float64)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_training_takes_pytorchs_steps(kind: str) -> None:
    ours, theirs = pair(kind, np.float64, 3, 6, 2)
    head, their_head = pair("Linear", np.float64, 6, 4)
    x, labels = draw(np.float64, 7, 5, 3), RANDOM.integers(0, 4, (7, 5))
    optimizer = optim.Adam([*ours.parameters(), *head.parameters()], lr=0.02)
    their_optimizer = torch.optim.Adam([*theirs.parameters(), *their_head.parameters()], lr=0.02)
    for _ in range(12):
        loss = F.sequence_loss(head(ours(tk.Tensor(x))[0]), labels, batch_first=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        their_scores = their_head(theirs(torch.from_numpy(x))[0])
        their_loss = torch.nn.functional.cross_entropy(
            their_scores.reshape(35, 4), torch.from_numpy(labels.ravel())
        )
        their_optimizer.zero_grad()
        their_loss.backward()
        their_optimizer.step()
        assert loss.item() == pytest.approx(their_loss.item(), rel=1e-9)
