"""vmap: axes, nesting, derivatives in and around it, compilation, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import close, compare

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, transformations
from tinygrad_kr.functional import recurrent
from tinygrad_kr.ops import elementwise
from tinygrad_kr.ops.tracing import tracers

RANDOM = np.random.default_rng(3)
X, Y = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 3))
W = RANDOM.normal(size=(2, 3))


def loss(w: Any, x: Any) -> Any:
    return tk.tanh(w @ x).square().sum()


def by_loop(f: Callable[..., Any], *batches: Any) -> Any:
    return np.stack([np.asarray(f(*rows)) for rows in zip(*batches, strict=True)])


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------ axes


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("out", [0, 1, -1])
def test_rows_are_on_the_axes_that_are_named(axis: int, out: int) -> None:
    batch = np.moveaxis(X, 0, axis)
    found = tk.vmap(lambda x: x * x[0], axis, out)(batch)
    same(found, np.moveaxis(X * X[:, :1], 0, out))


def test_axes_are_nested_as_the_arguments_are() -> None:
    def f(pair: Any, more: Any, scale: Any) -> Any:
        return {"sum": pair[0] + more["x"], "same": scale * 2, "rest": (pair[1], more["y"])}

    found = tk.vmap(
        f,
        in_axes=((0, None), {"x": 1, "y": None}, None),
        out_axes={"sum": 1, "same": None, "rest": (0, None)},
    )((X, W), {"y": Y, "x": Y.T}, 3.0)
    same(found["sum"], (X + Y).T)
    same(found["same"], 6.0)
    same(found["rest"][0], np.broadcast_to(W, (4, 2, 3)))
    same(found["rest"][1], Y)


def test_keyword_arguments_have_their_rows_first() -> None:
    same(tk.vmap(lambda x, y: x * y, in_axes=1)(X.T, y=Y), X * Y)


def test_results_that_are_the_same_for_each_row_are_repeated() -> None:
    found = tk.vmap(lambda x: (x.sum(), W, 1.5))(X)
    same(found[0], X.sum(1))
    same(found[1], np.broadcast_to(W, (4, 2, 3)))
    same(found[2], np.full(4, 1.5))


def test_arrays_give_arrays_and_tensors_give_tensors() -> None:
    double = tk.vmap(lambda x: 2 * x)
    assert type(double(X)) is np.ndarray
    assert type(double(Tensor(X))) is Tensor
    assert type(tk.vmap(lambda x: x.sum(), out_axes=0)(X)) is np.ndarray


def test_no_rows() -> None:
    empty = np.zeros((0, 3))
    same(tk.vmap(lambda x: tk.exp(x) @ W.T)(empty), np.zeros((0, 2)))
    same(tk.vmap(tk.grad(loss), (None, 0))(W, empty), np.zeros((0, 2, 3)))


@pytest.mark.parametrize(
    ("in_axes", "out_axes", "args", "message"),
    [
        (0, 0, (X, Y[:2]), r"one size along the mapped axes, got sizes \[2, 4\]"),
        ((0,), 0, (X, Y), "in_axes for 2 positional arguments, got 1"),
        (2, 0, (X, X), r"in_axes that the arguments have, got 2 for the shape \(4, 3\)"),
        (None, 0, (X, X), "got no argument that is mapped"),
        ((0, {"a": 0}), 0, (X, X), "in_axes of ints and None, nested as the values are"),
        (0, (0, 0), (X, Y), "out_axes of ints and None"),
        (0, 3, (X, Y), r"out_axes in \[-2, 2\) for results of 1 axes, got 3"),
        (0, None, (X, Y), "the same for each row where out_axes is None"),
    ],
)
def test_axes_that_are_not_there_are_refused(
    in_axes: Any, out_axes: Any, args: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^vmap: expected .*{message}"):
        tk.vmap(lambda x, y: x + y, in_axes, out_axes)(*args)


@pytest.mark.parametrize("argument", [1.5, "text"])
def test_only_arrays_have_rows(argument: Any) -> None:
    with pytest.raises(TypeError, match=r"^vmap: expected arrays to map over, got a"):
        tk.vmap(lambda x, y: x)(X, argument)


def test_only_arrays_are_results() -> None:
    with pytest.raises(
        TypeError, match=r"^vmap: expected a function that returns arrays, got a str"
    ):
        tk.vmap(lambda x: "text")(X)


# ------------------------------------------------------------------ nests and derivatives

TRANSFORMED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "grad": (tk.grad(loss, argnums=1), (0, 0)),
    "gradient of what is shared": (tk.grad(loss), (None, 0)),
    "value_and_grad": (lambda w, x: tk.value_and_grad(loss)(w, x)[1], (None, 0)),
    "second": (tk.grad(lambda w, x: tk.grad(loss)(w, x).square().sum()), (0, 0)),
    "hessian": (lambda w, x: tk.hessian(lambda x: loss(w, x))(x), (None, 0)),
    "jacobian": (tk.jacobian(lambda w, x: tk.sin(w @ x)), (0, 0)),
    "jacfwd": (tk.jacfwd(lambda w, x: tk.sin(w @ x), argnums=1), (0, 0)),
    "jvp": (lambda w, x: tk.jvp(lambda x: tk.sin(w @ x), (x,), (x * x,))[1], (0, 0)),
    "vjp": (lambda w, x: tk.vjp(lambda x: tk.sin(w @ x), x)[1](w[:, 0])[0], (0, 0)),
    "hvp": (lambda w, x: tk.hvp(lambda x: loss(w, x), (x,), (x * x,))[0], (0, 0)),
    "vmap": (tk.vmap(loss, (None, 0)), (0, None)),
    "vmap of grad": (tk.vmap(tk.grad(loss), (0, None)), (None, 0)),
    "backward": (lambda w, x: _by_backward(w, x), (None, 0)),
    "autograd": (lambda w, x: _by_autograd(w, x), (None, 0)),
}
MANY = RANDOM.normal(size=(4, 2, 3))


def _by_backward(w: Any, x: Any) -> Any:
    leaf = x.detach().requires_grad_()
    loss(w, leaf).backward()
    return leaf.grad


def _by_autograd(w: Any, x: Any) -> Any:
    leaf = x.detach().requires_grad_()
    return tk.autograd.grad(loss(w, leaf), leaf)[0]


def _given(name: str) -> list[Any]:
    _, axes = TRANSFORMED[name]
    wide = {"vmap": (MANY, X), "vmap of grad": (MANY, X)}
    w, x = wide.get(name, (MANY if axes[0] == 0 else W, X))
    return [Tensor(w), Tensor(x)]


def _rows(name: str, w: Any, x: Any) -> Any:
    f, axes = TRANSFORMED[name]
    rows = [f(w[i] if axes[0] == 0 else w, x[i] if axes[1] == 0 else x) for i in range(len(MANY))]
    return tk.stack(rows)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations_of_each_row_are_those_of_a_loop(name: str) -> None:
    f, axes = TRANSFORMED[name]
    w, x = _given(name)
    same(tk.vmap(f, axes)(w, x), _rows(name, w, x))


@pytest.mark.parametrize(
    "name", [name for name in TRANSFORMED if name not in ("backward", "autograd")]
)
def test_gradients_flow_through_a_batch(name: str) -> None:
    f, axes = TRANSFORMED[name]
    w, x = _given(name)

    def total(one: Any) -> Any:
        return lambda w, x: tk.sin(one(w, x)).sum()

    found = tk.grad(total(tk.vmap(f, axes)), (0, 1))(w, x)
    expected = tk.grad(total(lambda w, x: _rows(name, w, x)), (0, 1))(w, x)
    for a, b in zip(found, expected, strict=True):
        same(a, b)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_batch_is_compiled(name: str) -> None:
    f, axes = TRANSFORMED[name]
    compiled = compare(tk.vmap(f, axes), *_given(name))
    assert compiled.explain() == "every call is compiled"


def test_a_batch_of_arrays_is_compiled() -> None:
    compare(tk.vmap(tk.grad(loss), (None, 0)), W, X)


def test_a_gradient_through_a_batch_is_compiled() -> None:
    compare(tk.grad(lambda w, x: tk.vmap(loss, (None, 0))(w, x).sum()), W, X)


def test_a_function_that_makes_constants_is_compiled() -> None:
    compare(tk.vmap(lambda x: x * tk.arange(3) + tk.ones(3)), Tensor(X))


def test_each_order_of_axes_of_two_batches() -> None:
    outer = tk.vmap(tk.vmap(lambda x, y: x @ y, (None, 0)), (0, None))
    same(outer(X, Y), X @ Y.T)
    turned = tk.vmap(tk.vmap(lambda x, y: x @ y, (0, None)), (None, 0), out_axes=1)
    same(turned(X, Y), X @ Y.T)


def test_a_tensor_from_outside_has_its_gradient() -> None:
    w = Tensor(W, requires_grad=True)
    tk.vmap(lambda x: loss(w, x))(X).sum().backward()
    same(w.grad, sum(tk.grad(loss)(W, x) for x in X))


def test_history_ends_where_the_function_ends_it() -> None:
    def f(x: Any) -> Any:
        with tk.no_grad():
            a = x * 2
        return x * x.detach() + a + Tensor(x) * x

    same(tk.grad(lambda x: tk.vmap(f)(x).sum())(X), 2 * X)


def test_derivatives_by_constants_of_the_function() -> None:
    same(tk.vmap(lambda x: tk.grad(lambda w, x: w * x)(2.0, x) * 2)(X[:, 0]), 2 * X[:, 0])
    same(tk.vmap(lambda x: tk.grad(lambda w, x: (w * x).sum())(W[0], x) * 2)(X), 2 * X)


# ------------------------------------------------------------------ what nets do


def test_the_gradients_of_each_sample_of_a_net() -> None:
    net = tk.nn.Sequential(tk.nn.Linear(3, 5), tk.nn.Tanh(), tk.nn.Linear(5, 2))
    params = dict(net.named_parameters())
    labels = np.array([0, 1, 1, 0])

    def one(params: Any, x: Any, label: Any) -> Any:
        return F.cross_entropy(tk.nn.functional_call(net, params, (x[None],)), label[None])

    x = X.astype(np.float32)
    found = tk.vmap(tk.grad(one), (None, 0, 0))(params, x, labels)
    for i in range(4):
        expected = tk.grad(one)(params, Tensor(x[i]), Tensor(labels[i]))
        for name in params:
            close(found[name][i], expected[name], rtol=1e-5, atol=1e-6)


def test_a_wrong_label_of_any_row_is_refused() -> None:
    f = tk.vmap(lambda x, label: F.cross_entropy(x[None], label[None]))
    with pytest.raises(IndexError, match=r"cross_entropy: label: expected one in \[0, 3\), got 3"):
        f(X, np.array([0, 1, 2, 3]))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: tk.sort(x, axis=0),
        lambda x: x * float(x[0]),
        lambda x: Tensor(np.exp(x.data)),
        lambda x: tk.stack([x[int(np.argmax(x.numpy()))], x[0]]),
    ],
)
def test_a_function_that_looks_at_elements_runs_for_each_row(f: Callable[..., Any]) -> None:
    same(tk.vmap(f)(X), by_loop(lambda x: f(Tensor(x)).numpy(), X))


def test_a_loop_over_the_rows_has_gradients_and_axes() -> None:
    f = tk.vmap(lambda x: x * x if x.sum() > 0 else -x, 1, 1)
    same(f(X.T), by_loop(lambda x: x * x if x.sum() > 0 else -x, X).T)
    found = tk.grad(lambda x: f(x).sum())(X.T)
    same(found, np.where(X.sum(1, keepdims=True) > 0, 2 * X, -1).T)


def test_anomaly_detection_sees_each_row() -> None:
    bad = X.copy()
    bad[2, 1] = -1.0
    with (
        tk.detect_anomaly(),
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=r"^log: expected no new NaN"),
    ):
        tk.grad(lambda x: tk.vmap(lambda x: tk.log(x).sum())(x).sum())(
            np.where(X < 0, 1.0, bad) + (bad == -1) * -2
        )


def test_what_ran_row_by_row_is_said() -> None:
    compiled = compare(tk.vmap(lambda x: x.median()), Tensor(X))
    first, second = compiled.explain().splitlines()
    assert first == "every call is compiled"
    assert second.startswith("vmap: median runs row by row, at ")


# ------------------------------------------------------------------ what is refused

OUTSIDE = Tensor(W, requires_grad=True)
OPTIMIZER = tk.optim.SGD([OUTSIDE], 0.1)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x + tk.rand(3), "without random numbers"),
        (lambda x: F.dropout(x), "without random numbers"),
        (lambda x: loss(OUTSIDE, x).backward(), "without side effects, got a change of the .grad"),
        (lambda x: OPTIMIZER.zero_grad(), "without side effects, got a change of the .grad"),
        (lambda x: OUTSIDE.detach().zero_(), "that writes to no Tensor"),
        (lambda x: OPTIMIZER.step(), "without side effects, got a step of an optimizer"),
    ],
)
def test_side_effects_are_refused(f: Callable[..., Any], message: str) -> None:
    before, OUTSIDE.grad = OUTSIDE.detach().numpy().copy(), tk.ones_like(OUTSIDE)
    with pytest.raises(RuntimeError, match=f"^vmap: expected a function {message}"):
        tk.vmap(f)(X)
    same(OUTSIDE.detach(), before)
    same(OUTSIDE.grad, np.ones((2, 3)))


def test_an_error_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError):
        tk.vmap(lambda x: 1 / 0)(X)
    same(tk.vmap(lambda x: 2 * x)(X), 2 * X)
    assert not tracers


# ------------------------------------------------------------------ jacfwd, jacrev


def nested(x: Any, y: Any) -> Any:
    return {"a": tk.sin(x @ y), "b": (x * x.sum() * y, 2.0 * y.sum())}


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), -1])
@pytest.mark.parametrize("mode", [tk.jacfwd, tk.jacrev])
def test_jacobians_of_containers(mode: Any, argnums: Any) -> None:
    found, expected = (one(nested, argnums)(W, Y[0]) for one in (mode, tk.jacobian))
    a, b = (tk.tree.flatten(one)[0] for one in (found, expected))
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert type(one) is np.ndarray
        same(one, other)


@pytest.mark.parametrize("second", [tk.jacfwd, tk.jacrev])
@pytest.mark.parametrize("first", [tk.jacfwd, tk.jacrev])
def test_second_derivatives_in_each_order_of_modes(first: Any, second: Any) -> None:
    f = second(first(lambda x: tk.sin(x).prod()))
    same(f(Y[0]), tk.hessian(lambda x: tk.sin(x).prod())(Y[0]))
    compare(f, Y[0])


@pytest.mark.parametrize("mode", [tk.jacfwd, tk.jacrev])
def test_jacobians_with_more_results(mode: Any) -> None:
    found, aux = mode(lambda x: (x**3, {"sum": x.sum(), "text": "b"}), has_aux=True)(Y[0])
    same(found, np.diag(3 * Y[0] ** 2))
    same(aux["sum"], Y[0].sum())
    assert aux["text"] == "b"


def test_jacfwd_of_numbers_and_of_nothing() -> None:
    same(tk.jacfwd(lambda x: x * x)(3.0), 6.0)
    assert tk.jacfwd(lambda x: x * 2)(np.zeros(0)).shape == (0, 0)
    same(tk.jacfwd(lambda x: tk.ones(2, dtype=np.float64))(Y[0]), np.zeros((2, 3)))


@pytest.mark.parametrize(("rows", "limit"), [(2, 1 << 28), (2, 20_000), (2, 1), (99, 1)])
@pytest.mark.parametrize("inside", [False, True])
def test_jacobians_in_blocks(
    monkeypatch: pytest.MonkeyPatch, rows: int, limit: int, inside: bool
) -> None:
    monkeypatch.setattr(transformations, "_MIN_ROWS", rows)
    monkeypatch.setattr(transformations, "_MOST_BYTES", limit)
    x = RANDOM.normal(size=(3, 7))
    f = lambda x: tk.outer(x[0], tk.sin(x[1])) * x[2].sum()  # noqa: E731
    value = (lambda x: f(x * x)) if inside else f
    found = tk.jacobian(value)(x)
    assert found.shape == (7, 7, 3, 7)
    same(found, tk.jacfwd(value)(x))


# ------------------------------------------------------------------ layers

IMAGES = RANDOM.normal(size=(3, 2, 2, 6, 6))
KERNELS = RANDOM.normal(size=(3, 4, 1, 3, 3))
SEQUENCES = RANDOM.normal(size=(3, 4, 2, 5))
FILTERS = Tensor(KERNELS[0])

LAYERS: dict[str, tuple[Callable[..., Any], Any]] = {
    "conv2d": (lambda x: F.conv2d(x, FILTERS, groups=2, padding=1), (IMAGES,)),
    "conv2d of each": (lambda x, w: F.conv2d(x, w, groups=2, stride=2), (IMAGES, KERNELS)),
    "filters of each": (lambda w: F.conv2d(IMAGES[0], w, groups=2), (KERNELS,)),
    "transposed": (lambda x: F.conv_transpose2d(x, FILTERS[:2], stride=2), (IMAGES,)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (IMAGES,)),
    "overlapping": (lambda x: F.max_pool2d(x, 3, stride=2), (IMAGES,)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, stride=1, padding=1), (IMAGES,)),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), (IMAGES,)),
    "layer_norm": (lambda x: F.layer_norm(x, (5,)), (SEQUENCES,)),
    "softmax": (lambda x: F.softmax(x, -1) * F.log_softmax(x, 0), (SEQUENCES,)),
    "gelu": (lambda x: F.gelu(x) + F.silu(x) + F.elu(x), (SEQUENCES,)),
    "embedding": (
        lambda w, i: F.embedding(i, w) * w[0, 0],
        (SEQUENCES[:, :, 0], RANDOM.integers(0, 4, (3, 6))),
    ),
    "one embedding": (
        lambda i: F.embedding(i, Tensor(SEQUENCES[0, :, 0])),
        (RANDOM.integers(0, 4, (3, 6)),),
    ),
    "cross_entropy": (
        lambda x, t: F.cross_entropy(x, t),
        (SEQUENCES[:, :, 0], RANDOM.integers(0, 5, (3, 4))),
    ),
    "nll of some": (
        lambda x, t: F.cross_entropy(x, t, ignore_index=2, label_smoothing=0.1),
        (SEQUENCES[:, :, 0], RANDOM.integers(0, 5, (3, 4))),
    ),
    "bce": (
        lambda x: F.binary_cross_entropy_with_logits(x, (x.detach() > 0).astype(np.float64)),
        (SEQUENCES,),
    ),
    "norm": (lambda x: tk.norm(x, dim=-1) / tk.norm(x), (SEQUENCES,)),
    "solve": (lambda a: tk.linalg.solve(a @ a.mT + tk.eye(5, dtype=np.float64), a[:, 0]),
              (RANDOM.normal(size=(3, 5, 5)),)),
    "determinant": (lambda a: tk.linalg.slogdet(a @ a.mT)[1], (RANDOM.normal(size=(3, 5, 5)),)),
    "cumsum": (lambda x: tk.cumsum(x, 0) * tk.cumprod(x, -1), (SEQUENCES,)),
    "gather": (lambda x, i: tk.take_along_axis(x, i, 0),
               (SEQUENCES[:, :, 0], RANDOM.integers(0, 4, (3, 2, 5)))),
    "an index": (lambda x, i: x[i] * x[:, i], (RANDOM.normal(size=(3, 4, 4)), np.array([0, 3, 1]))),
    "indices": (lambda x, i: x[:, i] + x[i, :, 0][..., None], (RANDOM.normal(size=(3, 4, 4, 2)),
                RANDOM.integers(0, 4, (3, 4)))),
}  # fmt: skip


def layer(name: str) -> tuple[Callable[..., Any], list[Any]]:
    f, arrays = LAYERS[name]
    return f, [Tensor(x) for x in arrays]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_on_each_row_are_those_of_a_loop(name: str) -> None:
    f, args = layer(name)
    rows = [[x[i] for x in args] for i in range(3)]
    same(tk.vmap(f)(*args), tk.stack([f(*row) for row in rows]))
    floats = [i for i, x in enumerate(args) if x.dtype.kind == "f"]
    if not floats:
        return
    first = tk.grad(lambda *x: tk.sin(f(*x)).sum(), floats)
    second = tk.grad(lambda *x: sum(tk.sin(g).sum() for g in first(*x)), floats)
    for order in (first, second):
        for found, *expected in zip(
            tk.vmap(order)(*args), *[order(*row) for row in rows], strict=True
        ):
            same(found, tk.stack(expected))


@pytest.mark.parametrize("name", list(LAYERS)[::4])
def test_layers_of_a_batch_are_compiled(name: str) -> None:
    f, args = layer(name)
    floats = [i for i, x in enumerate(args) if x.dtype.kind == "f"]
    compare(
        tk.vmap(tk.grad(lambda *x: tk.sin(f(*x)).sum(), floats) if floats else f),
        *args,
        scales=[1] * 4,
        rtol=1e-9,
    )


@pytest.mark.parametrize("mapped", [(0, 0, 0), (0, None, None), (None, 0, None)])
def test_attention_runs_for_all_rows_at_once(mapped: tuple[Any, ...]) -> None:
    """Forward and backward, with heads and without, masks that are the same for all rows."""
    random = np.random.default_rng(0)
    for heads in ((), (2,)):
        q, k, v = (random.standard_normal((3,) * (axis == 0) + heads + (4, 5)) for axis in mapped)

        def loss(q: Any, k: Any, v: Any) -> Any:
            return (F.scaled_dot_product_attention(q, k, v, is_causal=True) ** 2).sum()

        function = tk.vmap(tk.grad(loss, (0, 1, 2)), in_axes=mapped)
        found = function(q, k, v)
        for i in range(3):
            own = [x if axis is None else x[i] for x, axis in zip((q, k, v), mapped, strict=True)]
            for one, other in zip(found, tk.grad(loss, (0, 1, 2))(*own), strict=True):
                np.testing.assert_allclose(one[i], other, rtol=1e-9, atol=1e-12)
        compiled = tk.compile(function)
        compiled(q, k, v)
        assert "row by row" not in str(compiled.explain())


RECURRENT: dict[str, tuple[int, int]] = {"rnn": (1, 1), "gru": (3, 1), "lstm": (4, 2)}
"""Gates and states."""


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("weights", [None, 0])
def test_whole_sequences_run_for_all_rows_at_once(name: str, weights: Any) -> None:
    """Gradients of each row, by its states and by weights that are the same for all, or are not."""
    gates, count = RECURRENT[name]
    random = np.random.default_rng(4)
    x = random.standard_normal((3, 5, 2, 4))
    states = [random.standard_normal((3, 2, 6)) for _ in range(count)]
    rows = () if weights is None else (3,)
    sizes = ((gates * 6, 4), (gates * 6, 6), (gates * 6,), (gates * 6,))
    parameters = [random.standard_normal((*rows, *size)) / 3 for size in sizes]

    net = getattr(recurrent, name)

    def loss(x: Any, states: Any, parameters: Any) -> Any:
        y, *_ = net(x, *states, *parameters)
        return (y**2).sum()

    slope = tk.grad(loss, (0, 1, 2))
    function = tk.vmap(slope, in_axes=(0, 0, weights))
    found = function(x, states, parameters)
    for i in range(3):
        own = parameters if weights is None else [w[i] for w in parameters]
        expected = slope(x[i], [s[i] for s in states], own)
        flat = [(found[0], expected[0]), *zip(found[1], expected[1], strict=True)]
        for one, other in [*flat, *zip(found[2], expected[2], strict=True)]:
            same(one[i], other)
    total = tk.grad(lambda p: tk.vmap(loss, in_axes=(0, 0, weights))(x, states, p).sum())
    for one, each in zip(total(parameters), found[2], strict=True):
        same(one, each.sum(0) if weights is None else each)
    compiled = tk.compile(function)
    for _ in range(3):
        compiled(x, states, parameters)
    assert ("row by row" in str(compiled.explain())) == (weights is not None)


# ------------------------------------------------------------------ one op of a formula


@pytest.mark.parametrize("order", [1, 2])
def test_a_derivative_that_is_one_op_stays_one_outside_compiled_functions(
    monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    """Generated code needs the ops that it is made of. For `vmap` these take longer."""
    asked: list[str] = []

    def noting(name: str) -> None:
        known = getattr(elementwise, name)
        monkeypatch.setattr(
            elementwise, name, lambda *values: (asked.append(name), known(*values))[1]
        )

    noting("_careful_share")
    slope = tk.grad(lambda x: tk.logaddexp(x, 0.5).sum())
    function = slope if order == 1 else tk.jacobian(slope)
    batched = tk.vmap(function)
    same(batched(X), by_loop(function, X))
    same(tk.vmap(tk.vmap(tk.grad(lambda x: tk.logaddexp(x, 0.5))))(X), by_loop(slope, X))
    assert not asked
    compiled = tk.compile(batched)
    for _ in range(3):
        same(compiled(X), by_loop(function, X))
    assert asked and compiled.explain() == "every call is compiled"
