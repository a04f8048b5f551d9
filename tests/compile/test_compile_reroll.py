"""A plain Python loop of like turns becomes one loop of C, with the results of the turns."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile import reroll
from tinygrad_kr.compile.ir.program import Program
from tinygrad_kr.compile.passes.periods import Turns, periods
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.ops.indexing import index_add

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="loops of C need a compiler")
LENGTHS = [1, 2, 3, 17, 100]
ROWS = ["axis0x1 all", "axis0x2 all", "axis0x2 some", "axis1x1 some", "axis1x2 all"]
X = np.linspace(0.1, 0.9, 4)
XS = np.random.default_rng(0).random((100, 4))
W = np.random.default_rng(1).normal(size=(4, 4)) / 2


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short loops are rolled up too."""
    monkeypatch.setattr(reroll, "MIN_OPS", 20)
    monkeypatch.setattr(reroll, "MIN_OPS_BESIDE", 12)


def leaves(result: Any) -> list[np.ndarray]:
    """The arrays of a result."""
    if isinstance(result, tuple | list):
        return [leaf for part in result for leaf in leaves(part)]
    return [np.asarray(getattr(result, "data", result))]


def compiled(f: Callable[..., Any], *args: Any) -> Any:
    """The function compiled, whose results equal those of the function."""
    step = tk.compile(f)
    for _ in range(3):
        for found, expected in zip(leaves(step(*args)), leaves(f(*args)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert step.programs, step.explain()
    # The memory of a loop is new at each call.
    other = [a + 0.01 for a in args]
    for found, expected in zip(leaves(step(*other)), leaves(f(*other)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    return step


def loops_of(step: Any) -> list[int]:
    """The turns of each loop."""
    program: Program = step.programs[0]
    return [s.params["n"] for s in program.instructions if s.op.__name__ == "scan"]


# ------------------------------------------------------------------ what is carried, read, stacked


def newton(x: Any, n: int) -> Any:
    for _ in range(n):
        x = 0.5 * (x + 2.0 / x) + 0.01 * tk.sin(x)
    return x


def two_carries(x: Any, n: int) -> Any:
    a, b = x, tk.cos(x)
    for _ in range(n):
        a, b = 0.5 * a + 0.1 * b, tk.sin(a) * b
    return a, b


def three_turns_back(x: Any, n: int) -> Any:
    history = [x, 2 * x, 3 * x]
    for _ in range(n):
        history.append(0.5 * tk.sin(history[-1]) + 0.3 * history[-2] - 0.1 * history[-3])
    return history[-1] + history[-2]


def stacked_results(x: Any, n: int) -> Any:
    rows, sums = [], []
    for _ in range(n):
        x = tk.sin(1.5 * x) + 0.1
        rows.append(x)
        sums.append((x * x).sum())
    return tk.stack(rows), tk.cat([row.reshape(1, 4) for row in rows]), tk.stack(sums)


def some_results(x: Any, n: int) -> Any:
    rows = [x]
    for _ in range(n):
        rows.append(tk.sin(1.5 * rows[-1]) + 0.1)
    return rows[n // 2], rows[-1] * rows[n // 3], rows[0], sum(rows[1::2], rows[-1])


def numbers(x: Any, n: int) -> Any:
    for i in range(n):
        x = tk.sin(x * (i + 1)) + 1.0 / (i + 2) - i
    return x


def invariants(x: Any, n: int) -> Any:
    y = x
    for _ in range(n):
        scale = tk.exp(-x)
        y = tk.sin(y) * scale + (x * x).sum() / 10
    return y, scale


def made_in_the_first_turn(x: Any, n: int) -> Any:
    y, cache = x, None
    for _ in range(n):
        if cache is None:
            cache = tk.tanh(x)
        y = tk.sin(y) * cache + 0.1
        y = y - 0.5 * cache
    return y


def branch_in_the_middle(x: Any, n: int) -> Any:
    for i in range(n):
        x = tk.sin(x) + 0.3
        x = x * x + 0.1 * x
        if i == n // 2:
            x = tk.exp(-x)
    return x


def last_turn_differs(x: Any, n: int) -> Any:
    for i in range(n):
        x = tk.sin(x) + 0.3
        x = tk.exp(-x) if i == n - 1 else x * x
    return x


def early_exit(x: Any, n: int) -> Any:
    for i in range(n):
        x = tk.sin(x) + 0.3
        x = tk.cos(x) - 0.1
        if i == 40:
            break
    return x


def nested(x: Any, n: int) -> Any:
    for _ in range(n):
        for _ in range(3):
            x = tk.sin(x) + 0.2
        x = x / (1 + (x * x).sum())
        for _ in range(5):
            x = 0.5 * (x + 1 / (x + 2))
    return x


def masked(x: Any, n: int) -> Any:
    for _ in range(n):
        x = tk.where(x > 0.4, 0.5 * x, tk.relu(x) + 0.3)
    return x


def products(x: Any, n: int) -> Any:
    w = Tensor(W)
    for _ in range(n):
        x = tk.tanh(w @ x) + 0.1
    return x / (x * x).sum()


def transposed(x: Any, n: int) -> Any:
    y, rows = x * tk.ones(3, 4, dtype=np.float64), []
    for i in range(n):
        turned = tk.sin(y.T * (0.1 * i)) + 0.2
        y = 0.5 * turned.T + tk.cos(y)
        rows.append(turned * turned)
    return y, sum(rows, turned)


def swapped(x: Any, n: int) -> Any:
    a, b = x, 2 * x
    for i in range(n):
        a, b = b, tk.sin(a) + 0.01 * i
    return a - b


def of_float32(x: Any, n: int) -> Any:
    x = x.to(np.float32)
    for i in range(n):
        x = tk.sin(x) * (0.1 * i) + 0.3
    return x.to(np.float64)


FUNCTIONS = [
    newton, two_carries, three_turns_back, stacked_results, some_results, numbers, invariants,
    made_in_the_first_turn, branch_in_the_middle, last_turn_differs, early_exit, nested, masked,
    products, transposed, swapped,
]  # fmt: skip


def total(f: Any, n: int) -> Any:
    def loss(x: Any) -> Any:
        result = f(x, n)
        parts = result if isinstance(result, tuple) else (result,)
        return sum(((part * part).sum() for part in parts), Tensor(0.0))

    return loss


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_loops(f: Any, n: int) -> None:
    step = compiled(lambda x: f(x, n), Tensor(X))
    assert bool(loops_of(step)) == (n >= 17)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("n", [2, 17, 100])
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradients_of_loops(f: Any, n: int) -> None:
    step = compiled(tk.value_and_grad(total(f, n)), Tensor(X))
    # Of few turns whose results are read here and there, the backward pass is not regular.
    fewest = 1 if f is some_results and n == 17 else 2
    assert len(loops_of(step)) >= (fewest if n >= 17 else 0)


def test_a_loop_of_float32(short: None) -> None:
    step = tk.compile(lambda x: of_float32(x, 50))
    x = Tensor(X)
    for _ in range(3):
        np.testing.assert_allclose(step(x).data, of_float32(x, 50).data, rtol=1e-5)
    assert loops_of(step)


# ------------------------------------------------------------------ rows of arrays


def rnn(xs: Any, n: int) -> Any:
    w, h, states = Tensor(W), tk.zeros(4, dtype=np.float64), []
    for i in range(n):
        h = tk.tanh(w @ h + xs[i])
        states.append(h)
    return (tk.stack(states) * xs[:n]).sum()


def columns(xs: Any, n: int) -> Any:
    h = tk.zeros(4, dtype=np.float64)
    turned = xs.T
    for i in range(n):
        h = tk.tanh(0.5 * h + turned[:, i]) + turned[1, i]
    return (h * h).sum()


def from_the_end(xs: Any, n: int) -> Any:
    h = xs[0]
    for i in range(n):
        h = tk.sin(h) * xs[-1 - i] + xs[i, 2:].sum() + xs[i // 2, 1]
    return (h * h).sum()


def in_no_order(xs: Any, n: int) -> Any:
    h = xs[0]
    for i in range(n):
        h = tk.sin(h) * xs[7 * i % 10] + xs[i % 3]
    return (h * h).sum()


def one_after_another(xs: Any, n: int) -> Any:
    outs = [(tk.tanh(xs[i]) * xs[i] + 0.1).sum() for i in range(n)]
    return tk.stack(outs).sum()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("n", [17, 100])
@pytest.mark.parametrize("f", [rnn, columns, from_the_end, in_no_order, one_after_another])
def test_rows_of_an_array(f: Any, n: int) -> None:
    assert loops_of(compiled(lambda xs: f(xs, n), Tensor(XS)))
    compiled(tk.value_and_grad(lambda xs: f(xs, n)), Tensor(XS))


@pytest.mark.usefixtures("short")
def test_rows_of_an_array_in_fortran_order() -> None:
    xs = Tensor(np.asfortranarray(XS))
    assert loops_of(compiled(lambda xs: rnn(xs, 50), xs))
    deep = Tensor(np.asfortranarray(np.random.default_rng(0).random((30, 4, 3))))

    def f(xs: Any) -> Any:
        h = xs[0]
        for i in range(30):
            h = tk.sin(h) + xs[i] * h
        return h

    assert loops_of(compiled(f, deep)) == [30]


@pytest.mark.usefixtures("short")
def test_training_by_an_unrolled_net() -> None:
    def build() -> Any:
        tk.manual_seed(0)
        cell = tk.nn.Linear(8, 4, dtype=np.float64)
        return cell, tk.optim.Adam(cell.parameters(), lr=0.01)

    def training(cell: Any, optimizer: Any) -> Any:
        def step(xs: Any) -> Any:
            optimizer.zero_grad()
            h = tk.zeros(2, 4, dtype=np.float64)
            for i in range(32):
                h = tk.tanh(cell(tk.cat([xs[i], h], axis=1)))
            loss = (h * h).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    xs = Tensor(np.random.default_rng(0).random((32, 2, 4)))
    plain, fast = build(), build()
    step, eager = tk.compile(training(*fast)), training(*plain)
    for _ in range(6):
        assert step(xs).item() == pytest.approx(eager(xs).item(), rel=1e-10)
    for p, q in zip(plain[0].parameters(), fast[0].parameters(), strict=True):
        np.testing.assert_allclose(q.data, p.data, rtol=1e-9)
    assert len(loops_of(step)) >= 2


def of_a_cell(kind: str, batch: int, hidden: int) -> tuple[Any, Any]:
    """A function of a sequence with a cell in a plain loop, and the Tensors that it trains."""
    tk.manual_seed(0)
    cells = {"rnn": tk.nn.RNNCell, "lstm": tk.nn.LSTMCell, "gru": tk.nn.GRUCell}
    cells["relu"] = lambda *sizes, **options: tk.nn.RNNCell(*sizes, nonlinearity="relu", **options)
    cell = cells[kind](4, hidden, dtype=np.float64)

    def loss_of(xs: Any) -> Any:
        state: Any = None
        for i in range(xs.shape[0]):
            state = cell(xs[i], state)
        h = state[0] if kind == "lstm" else state
        return (h * h).sum()

    return loss_of, list(cell.parameters())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", ["rnn", "relu", "lstm", "gru"])
def test_a_cell_in_a_loop(kind: str) -> None:
    """Forward and backward are a loop of C each, with no NumPy call; by `xs` and by the weights."""
    loss_of, parameters = of_a_cell(kind, 3, 5)

    def gradients(xs: Any) -> Any:
        xs = xs.detach().requires_grad_()
        loss = loss_of(xs)
        return [loss.detach(), *tk.autograd.grad(loss, [xs, *parameters])]

    step = compiled(gradients, Tensor(np.random.default_rng(2).normal(size=(40, 3, 4))))
    assert len(loops_of(step)) >= 2
    assert "1 C function of" in str(step) and " 0 NumPy calls" in str(step)


@pytest.mark.usefixtures("short")
def test_gradients_of_weights_are_one_product_for_all_turns() -> None:
    """Those of the first turn and the last one are apart. Tiled products are in C too."""
    loss_of, parameters = of_a_cell("lstm", 16, 64)

    def gradients(xs: Any) -> Any:
        return tk.autograd.grad(loss_of(xs), parameters)

    step = tk.compile(gradients)
    xs = Tensor(np.random.default_rng(2).normal(size=(50, 16, 4)))
    for _ in range(3):
        for found, expected in zip(step(xs), gradients(xs), strict=True):
            np.testing.assert_allclose(found.data, expected.data, rtol=1e-9, atol=1e-11)
    shapes = [s.output.shape for s in step.programs[0].instructions if s.op is tk.matmul]
    assert shapes.count((256, 64)) <= 3 and shapes.count((256, 4)) <= 3
    assert len(loops_of(step)) == 2
    assert "1 C function of" in str(step) and " 0 NumPy calls" in str(step)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("read", ROWS, ids=str)
def test_gradients_of_rows_lie_side_by_side(read: str) -> None:
    """Of rows of each axis, read once or twice, all or some: no array of the whole for each."""
    axis, times, missing = int(read[4]), int(read[6]), read.endswith("some")

    def f(xs: Any) -> Any:
        h = tk.zeros(4, dtype=np.float64)
        for i in range(30):
            row = xs[i] if axis == 0 else xs[:, i]
            h = tk.tanh(h + row) * 0.9
            if times == 2:
                h = h + tk.sin(xs[i - 30] if axis == 0 else xs[:, i - 30])
        return (h * h).sum() + (0.0 if missing else (xs * xs).sum())

    rows = 33 if missing else 30
    xs = np.random.default_rng(3).random((rows, 4) if axis == 0 else (4, rows))
    step = compiled(tk.grad(f), Tensor(xs))
    made = [s.output.shape for s in step.programs[0].instructions if s.op is index_add]
    assert made.count(xs.shape) == 0
    assert len(loops_of(step)) >= 2


def test_rows_that_are_added_to_themselves_count_twice() -> None:
    def f(xs: Any) -> Any:
        total = sum(xs[i] * float(i + 1) for i in range(6))
        return (total * total).sum()

    xs = np.random.default_rng(3).random((6, 3))
    compiled(tk.grad(lambda xs: f(xs) + f(xs)), Tensor(xs))
    compiled(tk.grad(lambda xs: f(xs + xs)), Tensor(xs))


@pytest.mark.usefixtures("short")
def test_gradient_descent_unrolled() -> None:
    def fitted(b: Any) -> Any:
        x = tk.zeros(4, dtype=np.float64)
        for _ in range(20):
            x = x - 0.1 * tk.grad(lambda x: ((Tensor(W) @ x - b) ** 2).sum())(x)
        return (x * x).sum()

    step = compiled(tk.value_and_grad(fitted), Tensor(X))
    assert len(loops_of(step)) >= 2


def filtered(x: Any, n: int) -> Any:
    mean, spread, terms = x, Tensor(np.eye(4)), []
    for i in range(n):
        spread = Tensor(W) @ spread @ Tensor(W.T) + 0.1 * Tensor(np.eye(4))
        gain = tk.linalg.solve(spread + Tensor(np.eye(4)), spread)
        mean = mean + gain @ (Tensor(XS)[i] - mean)
        spread = spread - gain @ spread
        terms.append((mean * mean).sum())
    return tk.stack(terms).sum()


@pytest.mark.usefixtures("short")
def test_a_linear_system_in_each_turn() -> None:
    step = compiled(tk.value_and_grad(lambda x: filtered(x, 40)), Tensor(X))
    assert len(loops_of(step)) >= 2


@pytest.mark.usefixtures("short")
def test_a_singular_system_of_one_turn_raises() -> None:
    def f(a: Any) -> Any:
        for _ in range(20):
            a = tk.linalg.inv(a - 1.0 * Tensor(np.eye(2))) + 1.5 * Tensor(np.eye(2))
        return a

    good = Tensor(np.array([[3.0, 0.5], [0.25, 4.0]]))
    step = compiled(f, good)
    assert loops_of(step) == [20]
    with pytest.raises(np.linalg.LinAlgError):
        f(Tensor(np.eye(2)))
    with pytest.raises(np.linalg.LinAlgError):
        step(Tensor(np.eye(2)))
    np.testing.assert_allclose(step(good).data, f(good).data, rtol=1e-12)


@pytest.mark.usefixtures("short")
def test_rows_of_a_jacobian_are_batched_as_before() -> None:
    def f(x: Any) -> Any:
        return tk.sin(Tensor(W) @ tk.cos(x)) * x.sum()

    x = Tensor(np.linspace(0, 1, 4))
    step = compiled(tk.jacobian(lambda x: tk.cat([f(x), f(2 * x), f(3 * x)])), x)
    assert not loops_of(step)


# ------------------------------------------------------------------ any loop

OPS: list[Callable[[Any, Any, int], Any]] = [
    lambda a, b, i: tk.sin(a) + b,
    lambda a, b, i: a * b * 0.5,
    lambda a, b, i: a - 0.3 * b,
    lambda a, b, i: a / (1 + b * b),
    lambda a, b, i: tk.tanh(a * (0.1 * i)) + b,
    lambda a, b, i: a + Tensor(XS)[i % 100],
    lambda a, b, i: tk.maximum(a, b) - (a * b).sum() / 9,
    lambda a, b, i: tk.stack([a[1], b[0], a[2] * b[3], b[1]]),
    lambda a, b, i: tk.tanh((a.reshape(1, 4) @ WEIGHT.T).reshape(4)) + b,
    lambda a, b, i: a * 0.5 + TABLE[i % 24],
    lambda a, b, i: tk.sin(b + TABLE[:, i % 4][:4]) - a,
]
WEIGHT = Tensor(W, requires_grad=True)
TABLE = Tensor(XS[:24], requires_grad=True)


@st.composite
def loop_functions(draw: Any) -> Any:
    """A loop over three carries, with some turns that differ, and what it returns."""
    registers = st.integers(0, 3)
    body = draw(
        st.lists(st.tuples(st.sampled_from(range(len(OPS))), registers, registers, registers),
                 min_size=2, max_size=6)
    )  # fmt: skip
    n = draw(st.integers(5, 24))
    odd = draw(st.sets(st.integers(0, 23), max_size=2))
    kept = draw(st.sets(st.integers(0, 23), max_size=4))

    def f(x: Any) -> Any:
        r, found = [x, 0.5 * x, tk.cos(x), x * x], []
        for i in range(n):
            for op, a, b, out in body:
                r[out] = OPS[op](r[a], r[b], i)
            if i in odd:
                r[1] = tk.exp(-r[1] * r[1])
            if i in kept:
                found.append(r[i % 4])
        return (tk.stack([*found, *r]) ** 2).sum(), tk.stack(r)

    return f


def gradients_of(f: Any) -> Any:
    """By the argument, the weight and the rows."""

    def g(x: Any) -> Any:
        x = x.detach().requires_grad_()
        given = [x, WEIGHT, TABLE]
        return tk.autograd.grad(f(x)[0], given, materialize_grads=True)

    return g


@settings(max_examples=25, deadline=None)
@given(f=loop_functions(), differentiated=st.booleans())
def test_any_loop(f: Any, differentiated: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reroll, "MIN_OPS", 20)
        patch.setattr(reroll, "MIN_OPS_BESIDE", 12)
        g = gradients_of(f) if differentiated else lambda x: [y.detach() for y in f(x)]
        step = tk.compile(g)
        with np.errstate(all="ignore"):
            for x in (Tensor(X), Tensor(X), Tensor(X), Tensor(X[::-1].copy())):
                for found, expected in zip(leaves(step(x)), leaves(g(x)), strict=True):
                    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------ what it costs


def field(p: Any, u: Any) -> Any:
    x, y = u[0], u[1]
    return tk.stack([p[0] * x - p[1] * x * y, p[2] * x * y - p[3] * y])


def rk4(n: int) -> Any:
    h = 0.01

    def loss(p: Any, u: Any) -> Any:
        states = []
        for _ in range(n):
            k1 = field(p, u)
            k2 = field(p, u + h / 2 * k1)
            k3 = field(p, u + h / 2 * k2)
            k4 = field(p, u + h * k3)
            u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            states.append(u)
        return (tk.stack(states) ** 2).sum()

    return tk.value_and_grad(loss, (0, 1))


P, U = np.array([1.5, 1.0, 1.0, 3.0]), np.array([1.0, 1.0])


@pytest.mark.slow
def test_generated_code_does_not_grow_with_the_number_of_turns() -> None:
    sizes = []
    for n in (50, 200):
        step = tk.compile(rk4(n))
        for _ in range(3):
            found = step(P, U)
        for a, b in zip(leaves(found), leaves(rk4(n)(P, U)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        assert len(loops_of(step)) == 2
        sizes.append(len(step.source))
    assert sizes[1] < 1.05 * sizes[0]


def test_a_row_that_an_earlier_op_reads_a_turn_later() -> None:
    """The first turn differs, so turns begin in the middle of those that are written."""

    def f(x: Any, w: Any, xs: Any) -> Any:
        s, u, out = x * 0.666, x * 0.768, []
        for i in range(14):
            picked, summed = xs[i], u + w
            s = 0.5 * s + 0.3 * tk.tanh(picked)
            if i == 0:
                u = u * 0.9
            u = 0.5 * u + 0.3 * tk.tanh(picked)
            out.append(summed)
        return s.sum() + u.sum() + tk.stack(out).square().sum()

    random = np.random.default_rng(0).standard_normal
    args = [Tensor(random(shape)) for shape in (3, 3, (14, 3))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reroll, "MIN_OPS", 30)
        patch.setattr(reroll, "MIN_OPS_BESIDE", 15)
        step = compiled(f, *args)
    np.testing.assert_allclose(step(*args).data, f(*args).data, rtol=1e-12)


@pytest.mark.slow
def test_rk4_of_100_steps_is_built_soon() -> None:
    """In 2 s of processor time where an eager run takes 0.03: 67 runs. Unrolled it took 160."""

    def seconds() -> float:
        return sum(os.times()[:4])  # of this process and of the compiler

    ratios = []
    for steps in (100, 101, 102):  # another text for the compiler each time
        f = rk4(steps)
        f(P, U)
        start = seconds()
        for _ in range(5):
            f(P, U)
        once = (seconds() - start) / 5
        step, start = tk.compile(f), seconds()
        step(P, U)
        step(P, U)
        ratios.append((seconds() - start - 2 * once) / once)
        assert step.programs
    assert min(ratios) < 67


def test_a_program_of_few_ops_stays_as_it_is() -> None:
    step = compiled(lambda x: newton(x, 10), Tensor(X))
    assert not loops_of(step)


def test_large_carries_that_nothing_reads_are_not_kept() -> None:
    x = Tensor(np.linspace(0, 1, 20_000))
    step = tk.compile(lambda x: newton(x, 200))
    for _ in range(3):
        np.testing.assert_allclose(step(x + 1).data, newton(x + 1, 200).data, rtol=1e-12)
    assert not loops_of(step)


# ------------------------------------------------------------------ periods


def test_periods() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 20, 50), random.integers(0, 20, 30)
    noise = random.integers(100, 999, 40)
    symbols = np.concatenate([noise[:25], np.tile(a, 20), noise[25:], np.tile(b, 30)])
    assert periods(symbols, 300) == [Turns(25, 50, 20), Turns(1040, 30, 30)]
    assert periods(symbols, 950) == [Turns(25, 50, 20)]
    assert periods(noise, 20) == []
    assert periods(np.zeros(0, np.int64), 20) == []
    assert periods(np.zeros(100, np.int64), 20) == [Turns(0, 1, 100)]
