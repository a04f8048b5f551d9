"""Linear systems in C give what LAPACK gives, and its errors; compiled programs call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.ops import indexing, kernels, linalg, solving
from tinygrad_kr.testing import check_grads

needs_c = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
every_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])
RANDOM = np.random.default_rng(5)
START = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels compute small matrices too, of the same numbers in every order of the tests."""
    RANDOM.bit_generator.state = START
    monkeypatch.setattr(solving, "MIN_WORK", 0)


def draw(*shape: int) -> ndarray:
    return RANDOM.standard_normal(shape)


def definite(*shape: int) -> ndarray:
    """Symmetric positive definite matrices; substitution in their triangles does not overflow."""
    x = draw(*shape)
    return x @ x.mT / shape[-1] + np.eye(shape[-1])


def lower(a: Any, b: Any) -> Any:
    return linalg.solve_triangular(a, b, upper=False, unit=False)


def unit_upper(a: Any, b: Any) -> Any:
    return linalg.solve_triangular(a, b, upper=True, unit=True)


FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "solve": (linalg.solve, 2),
    "lower": (lower, 2),
    "unit upper": (unit_upper, 2),
    "inv": (linalg.inv, 1),
    "logabsdet": (linalg.logabsdet, 1),
    "signdet": (linalg.signdet, 1),
    "logabsdet_slope": (linalg.logabsdet_slope, 1),
    "cholesky": (linalg.cholesky, 1),
}
"""The functions of matrices, and how many they take."""
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def in_numpy(function: Callable[..., Any], *inputs: ndarray) -> Any:
    """What NumPy computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "MIN_WORK", 2**62)
        return function(*inputs)


def close(found: Any, expected: Any, factor: float = 400) -> None:
    """Equal up to some rounding errors of the largest element."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = max(1, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    rounding = factor * float(np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=rounding)


# ------------------------------------------------------------------ as NumPy


SHAPES = [
    ((1, 1), (1, 1)), ((2, 2), (2, 3)), ((5, 5), (5, 1)), ((16, 16), (16, 4)), ((33, 33), (33, 33)),
    ((3, 4, 4), (3, 4, 2)), ((2, 3, 4, 4), (3, 4, 2)), ((4, 4), (2, 3, 4, 2)),
    ((3, 1, 2, 2), (4, 2, 5)),
]  # fmt: skip


@needs_c
@every_float
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@every_function
def test_kernels_give_what_numpy_gives(name: str, shapes: Any, dtype: Any) -> None:
    function, count = FUNCTIONS[name]
    a, b = definite(*shapes[0]).astype(dtype), draw(*shapes[1]).astype(dtype)
    if name != "cholesky":
        a = a + np.triu(a, 1) / 2
    inputs = (a, b)[:count]
    close(function(*inputs), in_numpy(function, *inputs))


@needs_c
@every_function
def test_kernels_read_any_strides(name: str) -> None:
    function, count = FUNCTIONS[name]
    a, b = definite(6, 6), draw(6, 6)
    expected = in_numpy(function, *(a, b)[:count])
    wide = np.zeros((12, 18))
    wide[::2, ::3] = a
    layouts = [
        (np.asfortranarray(a), b.T.copy().T),
        (wide[::2, ::3], np.repeat(b, 2, axis=1)[:, ::2]),
        (a[::-1, ::-1].copy()[::-1, ::-1], b[:, ::-1].copy()[:, ::-1]),
        (np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float64).reshape(6, 6), b),
    ]
    for inputs in layouts:
        close(function(*inputs[:count]), expected)


@needs_c
def test_a_vector_is_one_column() -> None:
    for shape in ((5, 5), (3, 5, 5)):
        a, b = definite(*shape), draw(5)
        close(linalg.solve(a, b), in_numpy(linalg.solve, a, b))


@needs_c
@every_function
def test_the_kernels_are_what_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that always returned None would pass every comparison."""
    function, count = FUNCTIONS[name]
    called = []
    run = kernels.run
    monkeypatch.setattr(kernels, "run", lambda *given: called.append(1) or run(*given))
    function(*(definite(4, 4), draw(4, 2))[:count])
    assert called


@pytest.mark.parametrize("shape", [(0, 0), (3, 0, 0), (0, 4, 4)])
@every_function
def test_empty_matrices(name: str, shape: Any) -> None:
    function, count = FUNCTIONS[name]
    inputs = (np.zeros(shape), np.zeros((*shape[:-1], 2)))[:count]
    close(function(*inputs), in_numpy(function, *inputs))


# ------------------------------------------------------------------ accuracy


@needs_c
@every_float
@pytest.mark.parametrize("condition", [1e0, 1e4, 1e8, 1e12])
def test_backward_errors_are_lapacks(condition: float, dtype: Any) -> None:
    """|a x - b| is a few roundings of |a| |x|, whatever the condition; of L L^T too."""
    n = 40
    left, right = np.linalg.qr(draw(n, n))[0], np.linalg.qr(draw(n, n))[0]
    s = np.geomspace(1, 1 / condition, n)
    a, b = ((left * s) @ right).astype(dtype), draw(n, 3).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    wide, size = a.astype(float), float(np.linalg.norm(a, 2))
    x = linalg.solve(a, b).astype(float)
    assert np.linalg.norm(wide @ x - b) <= 20 * n * eps * size * np.linalg.norm(x)
    for t, unit in ((np.tril(a), False), (np.tril(a, -1) + np.eye(n, dtype=dtype), True)):
        z = linalg.solve_triangular(a, b, upper=False, unit=unit).astype(float)
        ours = np.linalg.norm(t.astype(float) @ z - b)
        assert ours <= n * eps * np.linalg.norm(t) * np.linalg.norm(z)
    spread = max(1 / condition, 100 * n * eps)
    p = ((left * np.geomspace(1, spread, n)) @ left.T).astype(dtype)
    root = linalg.cholesky(p).astype(float)
    assert np.linalg.norm(root @ root.T - (p + p.T) / 2) <= n * eps * np.linalg.norm(p)


@needs_c
@every_float
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 3, 5, 5), (40, 40)], ids=str)
def test_the_cotangent_of_a_root(shape: Any, dtype: Any) -> None:
    root = linalg.cholesky(definite(*shape).astype(dtype))
    g = draw(*shape).astype(dtype)
    found = linalg.cholesky.rules[0](g, root, None)
    assert solving.cholesky_vjp(g, root) is not None
    close(found, in_numpy(lambda: linalg.cholesky.rules[0](g, root, None)), 4000)
    close(linalg.cholesky.rules[0](g.mT.copy().mT, root.mT.copy().mT, None), found)


@needs_c
def test_rows_are_exchanged() -> None:
    a = np.array([[0.0, 1.0, 2.0], [1e-20, 1.0, 0.0], [3.0, 0.0, 1.0]])
    close(linalg.solve(a, np.eye(3)), np.linalg.inv(a))
    close(linalg.signdet(a), np.asarray(np.linalg.slogdet(a)[0]))
    close(linalg.signdet(a[[1, 0, 2]]), -np.asarray(np.linalg.slogdet(a)[0]))


# ------------------------------------------------------------------ no solution


SINGULAR = {
    "solve": np.ones((3, 3)), "inv": np.zeros((3, 3)), "lower": np.diag([1.0, 0, 1]),
    "cholesky": -np.eye(3),
}  # fmt: skip


@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
@pytest.mark.parametrize("name", SINGULAR)
def test_no_solution_is_an_error(name: str, batch: tuple[int, ...]) -> None:
    function, count = FUNCTIONS[name]
    a = np.broadcast_to(np.eye(3), (*batch, 3, 3)).copy()
    a[(*[-1] * len(batch),)] = SINGULAR[name]
    inputs = (a, np.ones((*batch, 3, 1)))[:count]
    with pytest.raises(np.linalg.LinAlgError):
        function(*inputs)
    tensors = [tk.tensor(x) for x in inputs]
    compiled = tk.compile(lambda *given: function(*given))
    regular = [tk.tensor(np.broadcast_to(np.eye(3), (*batch, 3, 3)).copy()), *tensors[1:]]
    for _ in range(4):
        expected = compiled(*regular)
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError, match=r"[Ss]ingular|positive definite"):
            compiled(*tensors)
    close(compiled(*regular).numpy(), expected.numpy())


def test_a_singular_matrix_has_a_logarithm() -> None:
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    assert linalg.logabsdet(a) == -np.inf
    assert linalg.signdet(a) == 0
    slope = in_numpy(linalg.logabsdet_slope, a)
    np.testing.assert_array_equal(linalg.logabsdet_slope(a), slope)
    compiled = tk.compile(tk.grad(lambda x: tk.linalg.slogdet(x).logabsdet))
    for _ in range(4):
        compiled(tk.eye(2, dtype=np.float64))
    np.testing.assert_array_equal(compiled(tk.tensor(a)).numpy(), slope)


@pytest.mark.filterwarnings("ignore:invalid value")
@every_function
def test_nan_comes_through(name: str) -> None:
    function, count = FUNCTIONS[name]
    a, b = definite(4, 4), draw(4, 2)
    place = (3, 0) if name == "lower" else (0, 3)
    a[place] = np.nan
    found, expected = function(*(a, b)[:count]), in_numpy(function, *(a, b)[:count])
    if name in ("lower", "unit upper"):  # by substitution only the row itself
        assert np.isnan(found[place[0]]).all() and np.isfinite(found[1:3]).all()
    elif name != "signdet":
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    b[1, 1] = np.nan
    if count == 2:
        first, last = {"lower": (1, 4), "unit upper": (0, 2)}.get(name, (0, 4))
        reached = np.zeros(b.shape, bool)
        reached[first:last, 1] = True
        np.testing.assert_array_equal(np.isnan(function(definite(4, 4), b)), reached)


def test_nothing_is_overwritten_before_an_error() -> None:
    """A step whose system has no solution leaves parameters as they were."""
    weight = tk.nn.Parameter(np.eye(3))
    optimizer = tk.optim.SGD([weight], lr=0.1)

    @tk.compile
    def step(shift: Any) -> Any:
        optimizer.zero_grad()
        loss = (tk.linalg.solve(weight * shift, tk.ones(3, dtype=np.float64)) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(5):
        step(tk.tensor(1.0, dtype=np.float64))
    before = weight.detach().numpy().copy()
    with pytest.raises(np.linalg.LinAlgError):
        step(tk.tensor(0.0, dtype=np.float64))
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    step(tk.tensor(1.0, dtype=np.float64))
    assert (weight.detach().numpy() != before).any()


# ------------------------------------------------------------------ derivatives, compiled programs


@every_function
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_derivatives_of_both_orders(name: str, batch: tuple[int, ...]) -> None:
    function, count = FUNCTIONS[name]
    a = definite(*batch, 3, 3)
    if name != "signdet":
        inputs = (a, draw(*batch, 3, 2))[:count]
        check_grads(function, inputs, order=2, rtol=1e-5, atol=1e-7)


@every_float
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@every_function
def test_compiled_as_eager(name: str, shapes: Any, dtype: Any) -> None:
    function, count = FUNCTIONS[name]

    def total(*given: Any) -> Any:
        y = function(*given)
        return (y * y).sum()

    inputs = [
        tk.tensor(definite(*shapes[0]).astype(dtype)),
        tk.tensor(draw(*shapes[1]).astype(dtype)),
    ]
    inputs = inputs[:count]
    derivative = tk.value_and_grad(total, argnums=tuple(range(count)))
    compiled = tk.compile(derivative)
    for _ in range(4):
        found = compiled(*inputs)
    value, slopes = derivative(*inputs)
    close(found[0].numpy(), value.numpy(), 4000)
    for mine, theirs in zip(found[1], slopes, strict=True):
        close(mine.numpy(), theirs.numpy(), 4000)


@needs_c
def test_a_program_of_small_systems_is_one_function_of_c() -> None:
    def loss(a: Any, b: Any) -> Any:
        root = tk.linalg.cholesky(a)
        x = tk.linalg.solve(a, b) + tk.linalg.solve_triangular(root, b, upper=False)
        return (x * x).sum() + tk.linalg.slogdet(a).logabsdet + tk.linalg.inv(a).sum()

    compiled = tk.compile(tk.value_and_grad(loss))
    for _ in range(3):
        compiled(tk.tensor(definite(4, 4)), tk.tensor(draw(4, 2)))
    runner: Any = compiled.last_runner
    assert len(runner.parts) == 1
    assert runner.calls == 0


@every_float
@pytest.mark.parametrize("k", [-2, 0, 1])
def test_triangles_and_diagonals_compiled(k: int, dtype: Any) -> None:
    x = tk.tensor(draw(2, 4, 5).astype(dtype))

    def parts(x: Any) -> Any:
        row = indexing.diagonal(x, offset=k, axis1=-2, axis2=-1)
        made = indexing.put_diagonal(row, offset=k, axis1=-2, axis2=-1, shape=(2, 4, 5))
        return indexing.tril(x, k=k), indexing.triu(x.mT, k=k), row * 2, made + 1

    compiled = tk.compile(parts)
    for _ in range(3):
        found = compiled(x)
    for mine, theirs in zip(found, parts(x), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


# ------------------------------------------------------------------ many like steps


@needs_c
def test_code_does_not_grow_with_like_iterations() -> None:
    """Like steps become rows of a table, which read their rows of an array."""

    def filtered(x: Any, rows: Any) -> Any:
        total = 0.0
        for row in rows:
            spread = x @ x.mT + tk.eye(2, dtype=np.float64)
            x = 0.5 * x + 0.1 * tk.linalg.solve(spread, x + row)
            total = total + tk.linalg.slogdet(spread)[1] + x.sum()
        return total

    lines = []
    for count in (20, 40):  # longer ones become a loop of C
        x, rows = tk.tensor(definite(2, 2)), tk.tensor(draw(count, 2))
        derivative = tk.value_and_grad(filtered)
        compiled = tk.compile(derivative)
        for _ in range(3):
            found = compiled(x, rows)
        value, slope = derivative(x, rows)
        close(found[0].numpy(), value.numpy())
        close(found[1].numpy(), slope.numpy())
        runner: Any = compiled.last_runner
        text = runner.code.text
        lines.append(sum("_at, {" not in line for line in text.split("\n")))
    assert lines[1] - lines[0] < 40
