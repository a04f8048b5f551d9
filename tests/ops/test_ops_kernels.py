"""Kernels of whole blocks and sequences give what NumPy gives, on every kind of array."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from numpy_alone import leave_all_to_numpy

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn
from tinygrad_kr.compile.ir.builder import sample_result
from tinygrad_kr.native import compiler
from tinygrad_kr.native.blocks import _PARAMETERS, block_source, declared
from tinygrad_kr.native.build import find_compiler, included
from tinygrad_kr.native.compiler import SOURCE, Compiler, compiled
from tinygrad_kr.ops import attention, indexing, kernels, network, recurrent
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.testing import check_grads

needs_c = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
every_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels compute small arrays too, and threads share them."""
    for module, name in (
        (recurrent, "_MIN_WORK"),
        (attention, "_MIN_WORK"),
        (kernels, "MIN_ELEMENTS"),
        (kernels, "MIN_SHARED_WORK"),
    ):
        monkeypatch.setattr(module, name, 0)


@pytest.fixture
def numpy_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No kernel is found."""
    leave_all_to_numpy(monkeypatch)
    yield


RANDOM = np.random.default_rng(3)


def draw(*shape: int, dtype: Any = np.float64) -> ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def in_both(record: Any, *inputs: Any, **params: Any) -> tuple[Any, Any]:
    """What the kernel gives, and what NumPy gives."""
    with np.errstate(all="ignore"):
        found = record.forward(*inputs, **params)
        if find_compiler() is not None:
            found = record.kernel(*inputs, **params)
        return found, record.forward.__wrapped__(*inputs, **params)


def same(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    tolerance = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-14}[expected.dtype]
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=40 * tolerance)


# ------------------------------------------------------------------ each kernel


@needs_c
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("header", sorted(_PARAMETERS))
def test_every_header_is_built_here(header: str, real: str) -> None:
    """A kernel whose C does not compile would be left to NumPy without a word."""
    dtype = np.dtype(np.float32 if real == "float" else np.float64)
    assert kernels.kernels(header, np.ones(1, dtype)) is not None


SIZES = [(5, 7, 33), (3, 32, 16), (1, 1, 3), (9, 2, 61)]


@pytest.mark.one_in(3)
@pytest.mark.usefixtures("early")
@every_float
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["tanh", "relu", "lstm", "lstm, projected", "gru", "gru, no bias"])
def test_sequences(
    kind: str, size: tuple[int, int, int], masked: bool, reverse: bool, dtype: Any
) -> None:
    steps, batch, hidden = size
    gates = {"lstm": 4, "gru": 3}.get(kind[:4].strip(","), 1) * hidden
    state = (2 * hidden) // 3 if kind == "lstm, projected" else hidden
    z, h, c = draw(steps, batch, gates), draw(batch, state), draw(batch, hidden)
    weight, bias = draw(gates, state) / hidden**0.5, draw(gates)
    z, h, c, weight, bias = (x.astype(dtype) for x in (z, h, c, weight, bias))
    params: dict[str, Any] = {"reverse": reverse}
    if masked:
        params["mask"] = RANDOM.random((steps, batch, 1)) < 0.7
    if kind == "lstm, projected":
        projection = (draw(state, hidden) / hidden**0.5).astype(dtype)
        inputs, seen = (z, h, c, weight, projection), (c, weight, projection)
        forward, backward = recurrent.lstm_scan, recurrent.lstm_vjp
    elif kind == "lstm":
        inputs, seen = (z, h, c, weight), (c, weight)
        forward, backward = recurrent.lstm_scan, recurrent.lstm_vjp
    elif kind.startswith("gru"):
        inputs, seen = (z, h, weight, bias)[: 4 if kind == "gru" else 3], (h, weight)
        forward, backward = recurrent.gru_scan, recurrent.gru_vjp
    else:
        inputs, seen, params["nonlinearity"] = (z, h, weight), (weight,), kind
        forward, backward = recurrent.rnn_scan, recurrent.rnn_vjp
    y, expected = in_both(forward, *inputs, **params)
    same(y, expected)
    g = draw(*y.shape).astype(dtype)
    same(*in_both(backward, g, expected, *seen, **params))


BATCHES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "two axes": ((2, 3), (2, 3), (37, 41, 16, 16)),
    "shared keys": ((2, 3), (3,), (5, 65, 7, 9)),
    "one axis": ((4,), (4,), (33, 33, 32, 5)),
    "none": ((), (), (64, 70, 16, 16)),
    "three axes": ((2, 1, 3), (1, 2, 3), (9, 40, 8, 8)),
}


def masks_of(kind: str, batch: tuple[int, ...], queries: int, keys: int, dtype: Any) -> Any:
    """The masks of an attention, and its parameters."""
    seen = RANDOM.random((queries, keys)) < 0.6
    seen[3] = False
    if kind == "booleans":
        return [seen], {}
    if kind == "a row":
        return [RANDOM.random((1, keys)) < 0.6], {}
    if kind == "floats":
        return [draw(*batch, queries, keys).astype(dtype)], {}
    if kind == "infinities":
        return [np.where(seen, 0, -np.inf).astype(dtype)], {}
    if kind == "dropout":
        keep = 2 * (RANDOM.random((*batch, queries, keys)) < 0.5).astype(dtype)
        return [seen, keep], {"dropped": True}
    return [], {"is_causal": kind == "causal"}


KINDS = ["none", "causal", "booleans", "a row", "floats", "infinities", "dropout"]


@pytest.mark.usefixtures("early")
@every_float
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BATCHES)
def test_attention(case: str, kind: str, dtype: Any) -> None:
    of_q, of_k, (queries, keys, features, outputs) = BATCHES[case]
    q, k = draw(*of_q, queries, features), draw(*of_k, keys, features)
    v = draw(*of_k, keys, outputs)
    batch = np.broadcast_shapes(of_q, of_k)
    masks, params = masks_of(kind, batch, queries, keys, dtype)
    inputs = [x.astype(dtype) for x in (q, k, v)] + masks
    y, expected = in_both(attention.attention, *inputs, scale=0.3, **params)
    same(y, expected)
    g = draw(*y.shape).astype(dtype)
    same(*in_both(attention.attention_vjp, g, *inputs, scale=0.3, **params))


@pytest.mark.usefixtures("early")
def test_attention_of_arrays_in_any_layout() -> None:
    qkv = draw(2, 9, 3, 4, 6)
    q, k, v = (qkv[:, :, i].swapaxes(1, 2) for i in range(3))
    y, expected = in_both(attention.attention, q, k, v, scale=0.5, is_causal=True)
    same(y, expected)
    assert y.strides == expected.strides
    assert y.swapaxes(1, 2).flags.c_contiguous  # heads lie side by side, as the next layer reads
    g = draw(2, 9, 4, 6).swapaxes(1, 2)
    same(*in_both(attention.attention_vjp, g, q[..., ::-1], k[:, ::-1], v, scale=0.5))
    same(*in_both(attention.attention, q[:, :, ::2], np.asfortranarray(k), v, scale=0.5))


@pytest.mark.usefixtures("early")
def test_scores_that_are_not_finite() -> None:
    q, k, v = draw(1, 40, 8), draw(1, 40, 8), draw(1, 40, 8)
    q[0, 3] = np.nan
    q[0, 5] = 1e200
    k[0, 7] = np.abs(k[0, 7]) * -np.inf
    found, expected = in_both(attention.attention, q, k, v, scale=1e200)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[0, 3]).all()
    same(np.nan_to_num(found), np.nan_to_num(expected))


@pytest.mark.usefixtures("early")
@every_float
@pytest.mark.parametrize("shape", [(5, 65), (2, 3, 16), (1, 7), (40, 129)])
def test_layer_norm(shape: tuple[int, ...], dtype: Any) -> None:
    axes = len(shape) - 1
    x, weight, bias = draw(*shape), draw(*shape[-axes:]), draw(*shape[-axes:])
    x, weight, bias = (each.astype(dtype) for each in (x, weight, bias))
    given = (x, weight, bias)
    same(*in_both(network.layer_norm, *given, axes=axes, eps=1e-5))
    g = draw(*shape).astype(dtype)
    found = network._layer_norm_vjp_in_c(g, *given, axes, 1e-5)
    leaves = [tk.tensor(each, requires_grad=True) for each in given]
    y = network.normalize(leaves[0], axis=tuple(range(-axes, 0)), eps=1e-5) * leaves[1] + leaves[2]
    y.backward(g)
    if find_compiler() is not None:
        assert found is not None
        for each, leaf in zip(found, leaves, strict=True):
            assert leaf.grad is not None
            same(each, leaf.grad.numpy())


@pytest.mark.usefixtures("early")
@every_float
def test_cross_entropy(dtype: Any) -> None:
    x, labels = (9 * draw(33, 65)).astype(dtype), RANDOM.integers(0, 65, 33)
    x[4, 7] = -np.inf
    x[5, 1] = np.nan
    x[6] = -np.inf
    found, expected = in_both(network.cross_entropy, x, labels, axis=1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    same(np.nan_to_num(found), np.nan_to_num(expected))
    x, g = np.nan_to_num(x, neginf=-50), draw(33).astype(dtype)
    slope = network._cross_entropy_vjp(g, x, labels, axis=1)
    soft = np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True))
    same(slope, (g[:, None] * (soft - np.eye(65, dtype=dtype)[labels])).astype(dtype))


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("label", [-1, 65, 2**40])
def test_a_label_outside_is_numpys_own_case(label: int) -> None:
    x, labels = draw(3, 65), np.array([1, label, 2])
    if label < 0:
        expected = network.cross_entropy(x, labels % 65, axis=1)
        same(network.cross_entropy(x, labels, axis=1), expected)
    else:
        with pytest.raises(IndexError, match=f"{label} is out of bounds"):
            network.cross_entropy(x, labels, axis=1)


@pytest.mark.usefixtures("early")
@every_float
def test_rows_added_at_repeated_indices(dtype: Any) -> None:
    rows, g = np.array([[3, 0, 3], [-1, 3, 1]]), draw(2, 3, 2, 5).astype(dtype)
    found = indexing.index_add(g, key=rows, shape=(6, 2, 5))
    expected = np.zeros((6, 2, 5), dtype)
    np.add.at(expected, rows, g)
    same(found, expected)
    with pytest.raises(IndexError):
        indexing.index_add(g, key=rows + 4, shape=(6, 2, 5))


@pytest.mark.usefixtures("early")
@every_float
def test_erf_and_gelu(dtype: Any) -> None:
    x = np.concatenate([draw(20_000) * 3, [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 40.0]])
    x = x.astype(dtype)
    found, expected = in_both(e.erf, x)
    same(found[np.isfinite(x)], expected[np.isfinite(x)])
    np.testing.assert_array_equal(found[~np.isfinite(x)], [1, -1, np.nan])
    found, expected = in_both(e.gelu, x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    same(np.nan_to_num(found), np.nan_to_num(expected))
    x, g = x[np.isfinite(x)], draw(np.isfinite(x).sum()).astype(dtype)
    with np.errstate(all="ignore"):
        same(e._gelu_rule(g, e.gelu(x), x), g * e._gelu_vjp(x, e.gelu.forward.__wrapped__(x)))


@needs_c
@pytest.mark.usefixtures("early")
@every_float
@pytest.mark.parametrize("size", [7, 8_192, 20_001])
def test_logistic_loss(size: int, dtype: Any) -> None:
    """Sum, mean and derivative; large and infinite scores, and weights of 0 for them."""
    x, a = (draw(size) * 20).astype(dtype), (draw(size) > 0).astype(dtype)
    a[::3] = 0.25
    g = np.asarray(1.5, dtype)
    for scores in (x, np.where(a == 1, np.inf, np.where(a == 0, -np.inf, x)).astype(dtype)):
        for reduction in ("sum", "mean"):
            total = kernels.sum_of("logistic_sum", scores, a)
            share = total / size if reduction == "mean" else total
            found = network._bce_with_logits(scores, a, reduction=reduction)
            assert found == dtype(share)
            with np.errstate(all="ignore"):
                terms = network._bce_with_logits(scores, a).astype(float)
            expected = terms.mean() if reduction == "mean" else terms.sum()
            np.testing.assert_allclose(found, expected, 1e-6 if dtype is np.float32 else 1e-13)
        slope = kernels.elementwise("logistic_slope", scores, a)
        assert slope is not None
        wide = scores.astype(np.longdouble)
        chance = 1 / (1 + np.exp(-wide))
        tolerance = 1e-6 if dtype is np.float32 else 1e-14
        np.testing.assert_allclose(slope, (chance - a).astype(dtype), tolerance, tolerance)
        np.testing.assert_array_equal(slope, network._bce_with_logits_vjp(scores, a))
    x[0] = np.nan
    assert np.isnan(network._bce_with_logits(x, a, reduction="sum"))
    assert np.isnan(network._bce_with_logits_vjp(x, a)[0])
    leaf = tk.tensor(draw(size).astype(dtype), requires_grad=True)
    F.binary_cross_entropy_with_logits(leaf, tk.tensor(a), reduction="sum").backward(g)
    assert leaf.grad is not None
    expected = g * (1 / (1 + np.exp(-leaf.data.astype(float))) - a)
    np.testing.assert_allclose(leaf.grad.numpy(), expected, 1e-5, 1e-6)


# ------------------------------------------------------------------ who computes


def net(x: Any, *leaves: Any) -> Any:
    """A little of everything: attention, norm, gelu, a recurrence and a loss."""
    wq, wk, wv, scale, shift, w_ih, w_hh, table = leaves
    x = F.embedding(x, table)
    y = F.scaled_dot_product_attention(x @ wq, x @ wk, x @ wv, is_causal=True)
    y = F.gelu(F.layer_norm(x + y, 6, scale, shift))
    z = y @ w_ih.mT
    h = np.zeros((y.shape[1], 6), y.dtype)
    planes = recurrent.lstm_scan(z, h, h, w_hh)
    return F.cross_entropy(planes[0].reshape(-1, 6), np.arange(planes[0].size // 6) % 6)


def leaves_of(dtype: Any) -> list[ndarray]:
    rng = np.random.default_rng(8)
    shapes = [(6, 6), (6, 6), (6, 6), (6,), (6,), (24, 6), (24, 6), (11, 6)]
    return [(rng.standard_normal(shape) / 2).astype(dtype) for shape in shapes]


TOKENS = np.random.default_rng(9).integers(0, 11, (4, 3))


def loss_and_gradients(dtype: Any, compile: bool = False) -> list[ndarray]:
    leaves = [tk.tensor(x, requires_grad=True) for x in leaves_of(dtype)]

    def step() -> Any:
        for leaf in leaves:
            leaf.grad = None
        loss = net(TOKENS, *leaves)
        loss.backward()
        return loss.detach()

    run: Callable[[], Any] = tk.compile(step) if compile else step
    for _ in range(3 if compile else 1):
        loss = run()
    grads = [leaf.grad for leaf in leaves]
    return [loss.numpy(), *(g.numpy() for g in grads if g is not None)]


@every_float
def test_eager_compiled_and_numpy_agree(
    dtype: Any, early: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager, replayed = loss_and_gradients(dtype), loss_and_gradients(dtype, compile=True)
    leave_all_to_numpy(monkeypatch)
    plain = loss_and_gradients(dtype)
    assert len(eager) == len(replayed) == len(plain) == 9
    for a, b, c in zip(eager, replayed, plain, strict=True):
        same(a, c)
        same(b, c)


@pytest.mark.usefixtures("early")
def test_derivatives_of_all_orders() -> None:
    leaves = leaves_of(np.float64)
    check_grads(lambda *given: net(TOKENS[:, :1], *given), tuple(leaves), order=2, fast=True)


def test_a_float_mask_is_differentiated(early: None) -> None:
    q, k, v, mask = draw(2, 3, 2), draw(2, 4, 2), draw(2, 4, 3), draw(3, 4)
    check_grads(F.scaled_dot_product_attention, (q, k, v, mask))


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_other_dtypes_are_numpys(dtype: Any) -> None:
    q = draw(2, 9, 8).astype(dtype)
    before = dict(kernels._built)
    found = attention.attention(q, q, q, scale=0.5)
    assert kernels._built == before
    assert found.dtype == dtype
    wide = q.astype(np.float64)
    np.testing.assert_allclose(found, attention.attention(wide, wide, wide, scale=0.5), atol=4e-3)


@pytest.mark.usefixtures("early", "numpy_only")
def test_the_switch() -> None:
    q = draw(2, 9, 8)
    assert attention._attention_in_c(q, q, q, scale=0.5) is None
    assert kernels._built == {("attention", np.dtype(np.float64)): None}


@pytest.mark.usefixtures("early")
def test_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor:
        attention = staticmethod(lambda *given: 1)

    monkeypatch.setattr(kernels, "kernels", lambda *given: Poor)
    q = tk.tensor(draw(2, 9, 8))
    with pytest.raises(MemoryError, match=r"^scaled_dot_product_attention\(.*no memory"):
        F.scaled_dot_product_attention(q, q, q)


@pytest.mark.usefixtures("early")
def test_threads_at_once() -> None:
    """Each caller gets its own result, whoever has the helpers."""
    z, h, weight = draw(6, 12, 64), draw(12, 16), draw(64, 16) / 4
    q = draw(3, 4, 20, 8)

    def work(_: int) -> tuple[ndarray, ndarray]:
        found = recurrent.lstm_scan(z, h, h, weight)
        return found, attention.attention(q, q, q, scale=0.5, is_causal=True)

    expected = work(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(40)):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)


@needs_c
def test_a_program_shares_its_own_threads(early: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The helpers of eager products spin for a millisecond: a program's loops would wait."""
    seen: list[bool] = []
    share = kernels._share

    def noted() -> Any:
        seen.append(getattr(kernels._caller, "is_program", False))
        return share()

    monkeypatch.setattr(kernels, "_share", noted)
    x = tk.tensor(draw(4, 9, 8))
    step = tk.compile(lambda x: F.scaled_dot_product_attention(x, x, x))
    eager = F.scaled_dot_product_attention(x, x, x)
    for _ in range(3):
        same(step(x).numpy(), eager.numpy())
    assert seen[0] is False
    assert seen[-1] is True
    assert not kernels._caller.is_program


@needs_c
def test_a_trace_does_not_wait_for_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ops of a trace run once, in NumPy; meanwhile another thread builds."""
    asked: list[Any] = []
    monkeypatch.setattr(kernels, "_built", {})
    monkeypatch.setattr(kernels, "_building", set())
    monkeypatch.setattr(kernels, "tracers", {0: object()})
    monkeypatch.setattr(kernels, "tracing", lambda: object())
    monkeypatch.setattr(kernels, "_build", lambda *key: asked.append(key))
    q = draw(2, 9, 8)
    assert kernels.kernels("attention", q) is None
    assert kernels.kernels("attention", q) is None
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("kernel of"):
            thread.join()
    assert asked == [("attention", np.dtype(np.float64))]
    assert kernels._built == {}


def test_small_arrays_build_nothing() -> None:
    code = (
        "import numpy as np, sys, tinygrad_kr as tk\n"
        "import tinygrad_kr.functional as F\n"
        "from tinygrad_kr import nn\n"
        "x = tk.ones(3, 2, 4)\n"
        "F.scaled_dot_product_attention(x, x, x).sum(); F.gelu(x)\n"
        "nn.LSTM(4, 4)(x)[0].sum().backward()\n"
        "F.cross_entropy(nn.LayerNorm(4)(x)[0], np.array([1, 2])).backward()\n"
        "print('tinygrad_kr.native' in sys.modules)"
    )
    made = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=made, capture_output=True, encoding="utf-8"
    )
    assert ran.stdout.split() == ["False"], ran.stderr


# ------------------------------------------------------------------ every processor


OLDER = ["-mno-avx512f", "-mno-avx"]


@pytest.mark.one_in(2)
@needs_c
@pytest.mark.skipif(
    "x86" not in os.uname().machine if hasattr(os, "uname") else True, reason="needs x86"
)
@pytest.mark.parametrize("flag", OLDER)
def test_with_shorter_vectors(
    flag: str, early: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tiles of 8 and of 4 floats, which this processor's own code may not use."""
    found = find_compiler()
    assert found is not None
    other = Compiler(found.command, (*found.flags, flag))
    made: dict[Any, Any] = {}
    for header in ("attention", "recurrent", "rows"):
        source = block_source(header, "float")
        work = tmp_path / header
        work.mkdir()
        library = compiler.load(compiled({SOURCE: source, **included(source)}, other, work))
        made[header, np.dtype(np.float32)] = declared(header, library)
    monkeypatch.setattr(kernels, "_built", made)
    test_attention("shared keys", "dropout", np.float32)
    test_attention("two axes", "causal", np.float32)
    test_sequences("lstm", (5, 7, 33), True, False, np.float32)
    test_sequences("gru", (5, 7, 33), False, True, np.float32)
    test_layer_norm((5, 65), np.float32)


def test_nets_of_layers(early: None) -> None:
    """The layers themselves, both ways and with lengths, as without kernels."""
    x, lengths = draw(5, 3, 4, dtype=np.float32), np.array([5, 2, 3])
    tk.manual_seed(1)
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        layer = kind(4, 6, 2, bidirectional=True)
        y, _ = layer(tk.tensor(x), lengths=lengths)
        y.square().sum().backward()
        grads = [p.grad.numpy().copy() for p in layer.parameters()]
        layer.double().zero_grad()
        again, _ = layer(tk.tensor(x.astype(np.float64)), lengths=lengths)
        again.square().sum().backward()
        np.testing.assert_allclose(y.detach().numpy(), again.detach().numpy(), atol=2e-6)
        for a, p in zip(grads, layer.parameters(), strict=True):
            np.testing.assert_allclose(a, p.grad.numpy(), atol=5e-5)


@needs_c
def test_inferring_a_shape_shares_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool of threads would be built before the program, not beside it."""
    shared: list[bool] = []
    for name in ("_address_of", "_share_of_programs"):
        monkeypatch.setattr(kernels, name, lambda *_: shared.append(True))
    x = np.ones(2**17, np.float32)
    found = sample_result(e.gelu, (x,), {})
    assert not shared
    np.testing.assert_array_equal(e.gelu.forward(x), found)
    assert shared
