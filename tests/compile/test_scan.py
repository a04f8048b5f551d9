"""scan: values and derivatives of a loop in Python, by NumPy and in C, eager and compiled."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import compare, needs_compiler

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.compile import body
from tinygrad_kr.compile.run import scan_loop

RANDOM = np.random.default_rng(4)
W = RANDOM.normal(size=(3, 3)) * 0.5
X = RANDOM.normal(size=(5, 3))
H = RANDOM.normal(size=3)


@pytest.fixture(params=["numpy", pytest.param("c", marks=needs_compiler)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the loop runs."""
    monkeypatch.setattr(body, "MIN_WORK", 0 if request.param == "c" else 1 << 60)
    monkeypatch.setattr(body, "_bodies", {})
    return str(request.param)


def by_loop(f: Any, init: Any, xs: Any = None, length: Any = None, reverse: bool = False) -> Any:
    """What `scan` stands for."""
    leaves, nest = tk.tree.flatten(xs)
    n = len(leaves[0]) if leaves else length
    carry, found = tk.tree.tree_map(_tensor, init), []
    for t in range(n)[:: -1 if reverse else 1]:
        carry, y = f(carry, nest([x[t] if isinstance(x, Tensor) else Tensor(x[t]) for x in leaves]))
        flat, with_y = tk.tree.flatten(y)
        found.append(flat)
    found = found[:: -1 if reverse else 1]
    columns = zip(*found, strict=True)
    return carry, with_y([tk.stack([_tensor(y) for y in column]) for column in columns])


def _tensor(x: Any) -> Any:
    return x if isinstance(x, Tensor) else Tensor(x)


def same(found: Any, expected: Any) -> None:
    a, b = tk.tree.flatten(found)[0], tk.tree.flatten(expected)[0]
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        one, other = (x.detach().numpy() if isinstance(x, Tensor) else x for x in (one, other))
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def rnn(h: Any, x: Any) -> Any:
    h = tk.tanh(W @ h + x)
    return h, h * x


def nested(carry: Any, x: Any) -> Any:
    a, rest = carry["a"], carry["rest"]
    a = tk.sin(a) + x["u"] * rest[0]
    return {"a": a, "rest": (rest[0] * 0.9, rest[1] + a.sum())}, (a, {"v": x["v"] * rest[1]})


U = {"u": X, "v": RANDOM.normal(size=(5, 2))}
START = {"a": H, "rest": (np.array(0.7), np.array(0.1))}
CASES: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "a net": (rnn, H, X),
    "containers": (nested, START, U),
    "nothing stacked": (lambda h, x: (h * x, None), H, X),
    "carries exchanged": (lambda c, x: ((c[1], c[0] * x), c[0] + c[1]), (H, H * 2), X),
    "the carry itself": (lambda h, x: (h, h * x), H, X),
    "the element itself": (lambda h, x: (h + x, (x, x, h)), H, X),
    "one thing twice": (lambda h, x: ((y := h * x), (y, y)), H, X),
    "a constant": (lambda h, x: (h * x, W), H, X),
    "a number": (lambda h, x: (h * x, 2.5), H, X),
    "transposed": (lambda h, x: (h.T @ W, (h.T, x.mT)), W, RANDOM.normal(size=(4, 2, 3))),
    "broadcast": (lambda h, x: (h * x[:, None], h[0]), W, X),
    "an inner loop": (lambda h, x: tk.scan(rnn, h, tk.stack([x, 2 * x])), H, X),
    "a derivative": (
        lambda h, x: (h - 0.1 * tk.grad(lambda h: (rnn(h, x)[0] ** 2).sum())(h), h), H, X,
    ),
    "a batch": (lambda h, x: (tk.vmap(lambda r: tk.tanh(r * x))(h), h.sum()), W, X),
    "an index": (lambda h, i: (h * h[i], h[i]), H, np.array([0, 2, 1, 1])),
    "a solution": (lambda h, x: (tk.linalg.solve(W + 2 * np.eye(3), h) + x, h.sum()), H, X),
    "a maximum": (lambda h, x: (tk.maximum(h * 0.9, x), tk.where(h > x, h, 2 * x)), H, X),
    "random access": (lambda h, x: (tk.concatenate([h[1:], x[:1]]), h[-1]), H, X),
}  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_a_loop(name: str, reverse: bool, way: str) -> None:
    f, init, xs = CASES[name]
    same(tk.scan(f, init, xs, reverse=reverse), by_loop(f, init, xs, reverse=reverse))


def totals(run: Callable[..., Any], name: str, reverse: bool) -> Callable[..., Any]:
    """A number of all results, as a function of a factor of W and of the floats."""
    f, init, xs = CASES[name]
    starts, with_init = tk.tree.flatten(init)
    rows, with_xs = tk.tree.flatten(xs)

    def total(scale: Any, *leaves: Any) -> Any:
        first, second = leaves[: len(starts)], leaves[len(starts) :]
        if rows[0].dtype.kind != "f":
            second = rows
        step = lambda carry, x: tk.tree.tree_map(  # noqa: E731
            lambda y: y * scale if isinstance(y, Tensor) else y, f(carry, x)
        )
        found = run(step, with_init(list(first)), with_xs(list(second)), reverse=reverse)
        return sum(tk.sin(leaf).sum() for leaf in tk.tree.flatten(found)[0])

    return total


def floats(name: str) -> list[Any]:
    _, init, xs = CASES[name]
    return [np.array(0.8), *(x for x in tk.tree.flatten((init, xs))[0] if x.dtype.kind == "f")]


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_a_loop(name: str, way: str) -> None:
    args = floats(name)
    numbers = tuple(range(len(args)))
    for reverse in (False, True):
        found = tk.grad(totals(tk.scan, name, reverse), numbers)(*args)
        same(found, tk.grad(totals(by_loop, name, reverse), numbers)(*args))


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_are_those_of_a_loop(name: str, way: str) -> None:
    args = floats(name)
    numbers = tuple(range(len(args)))

    def second(run: Any) -> Any:
        first = tk.grad(totals(run, name, False), numbers)
        return tk.grad(lambda *x: sum(tk.sin(g).sum() for g in first(*x)), numbers)

    same(second(tk.scan)(*args), second(by_loop)(*args))


@pytest.mark.parametrize("name", list(CASES)[::4])
def test_third_derivatives_and_forward_mode(name: str) -> None:
    args = floats(name)

    def third(run: Any) -> Any:
        total = totals(run, name, False)
        first = tk.grad(lambda s: total(s, *args[1:]))
        return tk.grad(tk.grad(first))(0.8), tk.jvp(lambda s: total(s, *args[1:]), (0.8,), (1.0,))

    same(third(tk.scan), third(by_loop))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("a derivative",)])
def test_a_scan_is_compiled(name: str) -> None:
    args = [Tensor(x) for x in floats(name)]
    compare(tk.value_and_grad(totals(tk.scan, name, False), tuple(range(len(args)))), *args,
            rtol=1e-9)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["a net", "containers", "nothing stacked"])
def test_blocks_change_nothing(name: str, reverse: bool, size: int) -> None:
    def run(*args: Any, **kwargs: Any) -> Any:
        return tk.scan(*args, **kwargs, checkpoint_every=size)

    f, init, xs = CASES[name]
    same(run(f, init, xs, reverse=reverse), tk.scan(f, init, xs, reverse=reverse))
    args = floats(name)
    numbers = tuple(range(len(args)))
    found = tk.grad(totals(run, name, reverse), numbers)(*args)
    same(found, tk.grad(totals(tk.scan, name, reverse), numbers)(*args))


def test_blocks_bound_the_memory() -> None:
    n, start = 1000, np.ones(200)

    def loss(x: Any, every: int | None) -> Any:
        step = lambda h, _: (tk.sin(h) * x, None)  # noqa: E731
        return tk.scan(step, start, None, n, checkpoint_every=every)[0].sum()

    def peak(every: int | None) -> int:
        tracemalloc.start()
        tk.grad(loss)(np.full(200, 0.99), every)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(None) > n * start.nbytes
    assert peak(32) < n * start.nbytes / 3


# ------------------------------------------------------------------ steps and dtypes


def test_steps_without_elements(way: str) -> None:
    last, seen = tk.scan(lambda c, _: (c + 1, c), 0, None, 4)
    assert (last, seen.tolist(), seen.dtype) == (4, [0, 1, 2, 3], np.int64)


def test_no_steps() -> None:
    last, seen = tk.scan(rnn, H, X[:0])
    same((last, seen), (H, np.zeros((0, 3))))
    gradient = tk.grad(lambda h: (tk.scan(rnn, h, X[:0])[0] ** 2).sum())(H)
    same(gradient, 2 * H)


def test_carries_of_several_dtypes(way: str) -> None:
    def f(carry: Any, x: Any) -> Any:
        n, a, b, odd = carry
        a = a * x + n
        after = (n + 1, a, (b + a.sum()).astype(np.float32), ~odd)
        return after, (tk.where(odd, a, 2 * a), n, odd)

    init = (np.int64(2), H, np.float32(1.5), np.bool_(True))
    same(tk.scan(f, init, X), by_loop(f, init, X))

    def total(run: Any) -> Any:
        def one(h: Any, b: Any, x: Any) -> Any:
            carry, ys = run(f, (np.int64(2), h, b, np.bool_(True)), x)
            return carry[1].sum() + carry[2] ** 2 + (ys[0] ** 2).sum()

        return tk.grad(one, (0, 1, 2))

    args = (H, np.array(1.5, np.float32), X)
    for a, b in zip(total(tk.scan)(*args), total(by_loop)(*map(Tensor, args)), strict=True):
        np.testing.assert_allclose(np.asarray(a), b.numpy(), rtol=1e-5)


def test_a_python_number_takes_the_dtype_of_the_carry() -> None:
    last, seen = tk.scan(lambda c, x: (c + x, c), 0.0, X[:, 0].astype(np.float32))
    assert last.dtype == seen.dtype == np.float32
    last, _ = tk.scan(lambda c, x: (c + x, c), 0, X[:, 0])
    assert last.dtype == np.float64


def test_arrays_give_arrays_and_tensors_give_tensors() -> None:
    assert all(type(x) is np.ndarray for x in tk.scan(rnn, H, X))
    assert all(type(x) is Tensor for x in tk.scan(rnn, Tensor(H), X))
    assert type(tk.scan(lambda c, x: (c + x, None), 0.0, X[:, 0])[0]) is np.float64


@pytest.mark.parametrize("which", ["init", "xs", "both", "what is read"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_batch_of_scans(which: str, reverse: bool) -> None:
    starts, rows, factors = (RANDOM.normal(size=(4, *x.shape)) for x in (H, X, W))

    def f(h: Any, x: Any, w: Any) -> Any:
        step = lambda h, x: ((y := tk.tanh(w @ h + x)), (y * x, h.sum()))  # noqa: E731
        return tk.scan(step, h, x, reverse=reverse)

    args = [Tensor(H), Tensor(X), Tensor(W)]
    axes: list[int | None] = [None, None, None]
    mapped = {"init": [0], "xs": [1], "both": [0, 1], "what is read": [2]}[which]
    for i in mapped:
        args[i], axes[i] = Tensor((starts, rows, factors)[i]), 0

    def each(*args: Any) -> Any:
        found = [f(*(x if a is None else x[i] for x, a in zip(args, axes, strict=True)))
                 for i in range(4)]  # fmt: skip
        flat = [tk.tree.flatten(one)[0] for one in found]
        return [tk.stack(column) for column in zip(*flat, strict=True)]

    batch = tk.vmap(f, tuple(axes))
    same(batch(*args), each(*args))

    def total(run: Any) -> Any:
        return tk.grad(lambda *x: sum(tk.sin(y).sum() for y in tk.tree.flatten(run(*x))[0]), mapped)

    same(total(batch)(*args), total(each)(*args))
    gradient = tk.grad(lambda *x: (f(*x)[1][0] ** 2).sum(), mapped)
    found = tk.vmap(gradient, tuple(axes))(*args)
    expected = [
        gradient(*(x if a is None else x[i] for x, a in zip(args, axes, strict=True)))
        for i in range(4)
    ]
    same(found, tuple(tk.stack(column) for column in zip(*expected, strict=True)))
    compiled = compare(batch, *args)
    assert compiled.explain() == "every call is compiled"


def test_a_net_learns_through_a_scan() -> None:
    cell = tk.nn.Linear(4, 4)
    optimizer = tk.optim.SGD(cell.parameters(), 0.1)
    drawn = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    inputs, target = tk.tensor(drawn), tk.zeros(4)

    def step() -> Any:
        optimizer.zero_grad()
        h, _ = tk.scan(lambda h, x: (tk.tanh(cell(h) + x), None), tk.zeros(4), inputs)
        loss = F.mse_loss(h, target)
        loss.backward()
        optimizer.step()
        return loss

    compiled = tk.compile(step)
    losses = [compiled().item() for _ in range(100)]
    assert compiled.explain() == "every call is compiled"
    assert losses[-1] < 0.5 * losses[0]


def test_the_body_is_recorded_and_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MIN_WORK", 1 << 60)
    monkeypatch.setattr(body, "_bodies", {})
    calls = []

    def f(h: Any, x: Any) -> Any:
        calls.append(0)
        return rnn(h, x)

    for scale in range(3):
        tk.grad(lambda h: tk.scan(f, h, X)[0].sum())(H * scale)
    assert len(calls) == 3
    assert len(body._bodies) == 2


@needs_compiler
def test_a_long_loop_is_one_function_of_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_bodies", {})
    monkeypatch.setattr(scan_loop, "CHUNK", 700)
    monkeypatch.setattr(body, "MIN_WORK", 0)
    rows = np.ones((3000, 3)) * 0.1
    total = lambda h, rows: (tk.scan(rnn, h, rows)[1] ** 2).sum()  # noqa: E731
    found = tk.grad(total, (0, 1))(H, rows)
    loops = [one._loop for one in body._bodies.values()]
    assert len(loops) == 2
    assert all(loop is not None and loop.function is not None for loop in loops)
    monkeypatch.setattr(body, "_bodies", {})
    monkeypatch.setattr(body, "MIN_WORK", 1 << 60)
    same(found, tk.grad(total, (0, 1))(H, rows))


# ------------------------------------------------------------------ as written, refused


@pytest.mark.parametrize("reverse", [False, True])
def test_a_function_that_looks_at_elements_runs_as_written(reverse: bool) -> None:
    def f(h: Any, x: Any) -> Any:
        return (h + x if x.sum() > 0 else h * x), h

    same(tk.scan(f, H, X, reverse=reverse), by_loop(f, H, X, reverse=reverse))
    same(
        tk.grad(lambda h: tk.scan(f, h, X, reverse=reverse)[0].sum())(H),
        tk.grad(lambda h: by_loop(f, h, X, reverse=reverse)[0].sum())(H),
    )


def test_anomaly_detection_sees_each_step() -> None:
    with (
        tk.detect_anomaly(),
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=r"^log: expected no new NaN"),
    ):
        tk.grad(lambda h: tk.scan(lambda h, _: (tk.log(h), h), h, None, 3)[0].sum())(H * 0 + 2)


def test_labels_of_each_step_are_checked() -> None:
    def f(total: Any, x: Any) -> Any:
        return total + F.cross_entropy(x[0][None], x[1][None]), None

    with pytest.raises(IndexError, match="label: expected one in"):
        tk.scan(f, 0.0, (X, np.array([0, 1, 3, 0, 0])))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tk.scan(rnn, H, (X, X[:2])), ValueError, r"one number of steps, got \[2, 5\]"),
        (lambda: tk.scan(rnn, H, X, 4), ValueError, r"one number of steps, got \[4, 5\]"),
        (lambda: tk.scan(rnn, H), ValueError, "got neither xs nor a length"),
        (lambda: tk.scan(rnn, H, np.array(1.0)), ValueError, "an axis for the steps"),
        (lambda: tk.scan(rnn, H, None, -1), ValueError, "length of at least 0, got -1"),
        (lambda: tk.scan(rnn, "text", X), TypeError, "arrays in init, got a str"),
        (lambda: tk.scan(lambda h, x: h, H, X), TypeError, r"a function that returns \(carry, y\)"),
        (lambda: tk.scan(lambda h, x: (h[:2], x), H, X), TypeError, r"a carry of float64\(3,\)"),
        (
            lambda: tk.scan(lambda h, x: (h.astype(np.float32), x), H, X),
            TypeError,
            r"float64\(3,\), as that of init, got float32",
        ),
        (lambda: tk.scan(lambda h, x: ((h, h), x), H, X), TypeError, "carry: expected"),
        (lambda: tk.scan(lambda h, x: (h + tk.rand(3), x), H, X), RuntimeError, "random numbers"),
        (
            lambda: tk.scan(rnn, H, X, checkpoint_every=0),
            ValueError,
            "checkpoint_every of at least",
        ),
    ],
)
def test_what_is_refused(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^scan: .*{message}|^scan: {message}"):
        call()
