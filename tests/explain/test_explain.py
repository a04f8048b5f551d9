"""tk.explain: names, formulas, numbers and paths, in both languages; and that nothing changes."""

from __future__ import annotations

import doctest
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_samples import SAMPLES
from test_ops import DIFFERENTIABLE, OPS

import tinygrad_kr as tk
from tinygrad_kr import Tensor, explain, nn
from tinygrad_kr import functional as F
from tinygrad_kr.explain.formula import Call, Symbol, Writer
from tinygrad_kr.ops import elementwise


def lecture() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f = wx + b of the lectures."""
    w = tk.tensor(-2.0, requires_grad=True)
    x = tk.tensor(5.0, requires_grad=True)
    b = tk.tensor(3.0, requires_grad=True)
    return w * x + b, w, x, b


# ------------------------------------------------------------------ the lectures' picture


def test_the_lectures_picture_as_data() -> None:
    f, w, x, b = lecture()
    found = tk.explain(f, w)
    assert found.gradient == 5 and found.gradient.shape == ()
    assert [node.name for node in found.nodes] == ["w", "x", "b", "g", "f"]
    assert {node.name: node.value.item() for node in found.nodes}["g"] == -10
    edges = {(edge.target.name, edge.source.name): edge.derivative for edge in found.edges}
    assert edges == {("f", "g"): 1, ("g", "w"): 5}
    (path,) = found.paths
    assert [node.name for node in path.nodes] == ["f", "g", "w"]
    assert path.factors == [1, 5] and path.product == 5
    every = tk.explain(f)
    assert every.gradient == [5, -2, 1] and [len(paths) for paths in every.paths] == [1, 1, 1]
    assert tk.explain(f, [b, x]).gradient == [1, -2]


def test_the_lectures_notation_in_both_languages() -> None:
    f, w, x, b = lecture()
    assert b.requires_grad and x.requires_grad
    text = tk.explain(f, w).text("en")
    assert "  g = w * x = -2 * 5 = -10\n  f = g + b = -10 + 3 = -7\n" in text
    assert "df/dw = df/dg * dg/dw = 1 * x = 1 * 5 = 5\n" in text
    assert "central difference: 5, error" in text
    korean = tk.explain(f, w).text("ko")
    assert (
        "연쇄 법칙\n  df/dw = df/dg * dg/dw = 1 * x = 1 * 5 = 5\n    중심 차분: 5, 오차" in korean
    )
    assert str(tk.explain(f, w)) == tk.explain(f, w).text()
    assert str(tk.explain(f, w, lang="ko")) == korean
    assert "연쇄 법칙" in tk.explain(f, w, lang="ko")._repr_html_()
    with pytest.raises(ValueError, match=r'lang: expected "en" or "ko", got \'fr\''):
        tk.explain(f, w, lang="fr")
    latex = r"\frac{\partial f}{\partial g} \cdot \frac{\partial g}{\partial w} = 1 \cdot x"
    assert latex in tk.explain(f, w).markdown("en")
    assert "df/dg * dg/dw" in tk.explain(f, w)._repr_html_()


def test_the_docstrings_example_runs() -> None:
    test = doctest.DocTestFinder().find(type(explain).__call__, "explain", globs={"tk": tk})[0]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(test).failed == 0 and test.examples


def test_several_paths_are_added() -> None:
    x = tk.tensor(3.0, requires_grad=True)
    b = tk.tensor(2.0)
    y = x * x + tk.sigmoid(x) * b
    found = tk.explain(y, x)
    assert [path.factors for path in found.paths][:2] == [[1.0, 3.0], [1.0, 3.0]]
    assert sum(path.product for path in found.paths) == pytest.approx(float(found.gradient))
    text = found.text("en")
    assert "dy/dx: 3 paths, added:" in text
    assert "dh/dx = h * (1 - h) = 0.95257 * (1 - 0.95257) = 0.045177" in text


def test_more_than_1000_paths_are_added_by_nodes() -> None:
    x = tk.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(12):
        y = y + y
    found = tk.explain(y, x)
    assert found.path_counts == [4096] and found.paths == [] and found.gradient == 4096
    assert "4096 paths, more than 1000" in found.text("en")


def test_an_input_that_is_not_used() -> None:
    f, _w, _x, _b = lecture()
    other = tk.tensor([1.0, 2.0], requires_grad=True, name="other")
    found = tk.explain(f, other)
    assert np.array_equal(found.gradient, [0, 0]) and found.paths == []
    assert "f does not depend on other: no path, gradient 0" in found.text("en")
    assert "경로가 없습니다" in found.text("ko")


def test_the_output_itself() -> None:
    f, *_ = lecture()
    found = tk.explain(f, f)
    assert found.gradient == 1 and found.paths[0].factors == [] and found.paths[0].product == 1


# ------------------------------------------------------------------ any graph

VALUES = st.floats(0.5, 2.0).map(lambda value: round(value, 3))
UNARY = [tk.sigmoid, tk.tanh, tk.exp, tk.log, tk.sqrt, tk.cos, tk.relu, tk.square]
BINARY = [tk.add, tk.subtract, tk.multiply, tk.divide, tk.maximum, tk.hypot]


@st.composite
def graphs(draw: Any) -> tuple[Tensor, list[Tensor]]:
    """A random graph of numbers, with sharing."""
    leaves = [tk.tensor(draw(VALUES), np.float64, requires_grad=True) for _ in range(3)]
    made = list(leaves)
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            made.append(draw(st.sampled_from(UNARY))(draw(st.sampled_from(made)).abs() + 0.1))
        else:
            pair = draw(st.sampled_from(made)), draw(st.sampled_from(made)).abs() + 0.1
            made.append(draw(st.sampled_from(BINARY))(*pair))
    return sum(made[3:], start=tk.tensor(0.0, np.float64)), leaves


@given(graphs())
def test_paths_add_up_to_the_gradient_of_backward(drawn: tuple[Tensor, list[Tensor]]) -> None:
    y, leaves = drawn
    found = tk.explain(y, leaves)
    y.backward()
    for leaf, gradient, paths, count in zip(
        leaves, found.gradient, found.paths, found.path_counts, strict=True
    ):
        right = 0.0 if leaf.grad is None else leaf.grad.item()
        assert gradient == right
        if 0 < count <= 1000:
            assert len(paths) == count
            products = [path.product for path in paths]
            size = sum(map(abs, products))  # huge ones may cancel
            assert sum(products) == pytest.approx(right, rel=1e-9, abs=1e-9 + 1e-12 * size)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in DIFFERENTIABLE))
def test_every_op_explains_itself(name: str) -> None:
    """The gradient is that of backward, and each edge has a formula or op' and its numbers."""
    for sample in SAMPLES[name]:
        leaves = [
            tk.tensor(x, requires_grad=True)
            if isinstance(x, np.ndarray) and x.dtype == np.float64
            else x
            for x in sample.inputs
        ]
        y = OPS[name](*leaves, **sample.params)
        if not y.requires_grad:
            continue
        y = (y * y).sum()
        asked = [x for x in leaves if isinstance(x, Tensor)]
        found = tk.explain(y, asked)
        text = found.text("en")
        y.backward()
        for leaf, gradient in zip(asked, found.gradient, strict=True):
            right = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.data
            np.testing.assert_allclose(gradient, right, rtol=1e-12, atol=1e-12, err_msg=text)


def test_differences_agree() -> None:
    draw = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(np.float64)
    loss = F.cross_entropy(net(tk.tensor(draw.normal(size=(5, 3)))), np.array([0, 1, 0, 1, 1]))
    found = tk.explain(loss)
    for node in found.wanted:
        for index in np.ndindex(node.shape):
            difference = found.difference(node, index)
            assert difference.error is not None and difference.error < 1e-8
    together = found.difference_of_all()
    assert together.error is not None and together.error < 1e-8
    length = np.sqrt(sum(float((gradient**2).sum()) for gradient in found.gradient))
    assert together.gradient == pytest.approx(length)


# ------------------------------------------------------------------ ops of users


def test_an_op_of_the_users_has_formulas() -> None:
    cube = tk.op(lambda x: x**3, lambda g, y, x: g * 3 * x**2, name="cube")
    x = tk.tensor(2.0, requires_grad=True)
    y = cube(x)
    text = tk.explain(y, x).text("en")
    assert "y = cube(x) = cube(2) = 8" in text
    assert "dy/dx = 3 * x**2 = 3 * 2**2 = 12" in text


def test_a_rule_that_looks_at_numbers_is_written_as_a_derivative() -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        return g * (2.0 if float(x) > 0 else -2.0)

    odd = tk.op(lambda x: 2 * np.abs(x), rule, name="odd")
    x = tk.tensor(-3.0, requires_grad=True)
    y = odd(x)
    found = tk.explain(y, x)
    assert found.gradient == -2 and found.edges[0].formula is None
    assert "dy/dx = odd'(x) = -2" in found.text("en")


# ------------------------------------------------------------------ arrays


def test_vector_jacobian_products_and_their_shapes() -> None:
    X, W = tk.ones((5, 3)), tk.randn((3, 4))
    W.requires_grad = True
    Z = X @ W
    L = (Z * Z).sum()
    text = tk.explain(L, W).text("en")
    assert "dL/dW = X^T @ dL/dZ" in text
    assert "(3, 5) @ (5, 4) -> (3, 4)" in text


def test_a_bias_is_summed() -> None:
    x, b = tk.ones((5, 4)), tk.zeros(4, requires_grad=True)
    z = x + b
    L = tk.sigmoid(z).sum()
    text = tk.explain(L, b).text("en")
    assert "dL/db = sum(dL/dz, axis=0)" in text
    assert "dL/dz = dL/dg * g * (1 - g)" in text


def test_one_element_is_followed_in_numbers() -> None:
    draw = np.random.default_rng(1)
    X = tk.tensor(draw.normal(size=(3, 2)))
    W = tk.tensor(draw.normal(size=(2, 2)), requires_grad=True)
    Z = X @ W
    L = tk.tanh(Z).sum()
    found = tk.explain(L, W, element=(0, 1))
    text = found.text("en")
    assert "One element: W[0, 1]" in text
    total = found.gradient[0, 1]
    assert f"= {total:.5g}" in text
    terms = (1 - np.tanh(Z.data[:, 1]) ** 2) * X.data[:, 0]
    largest = int(np.argmax(np.abs(terms)))
    assert f"dL/dW[0, 1] = dL/dZ[{largest}, 1] * dZ[{largest}, 1]/dW[0, 1] +" in text
    with pytest.raises(IndexError, match=r"explain: expected the index of one element of shape"):
        tk.explain(L, W, element=(0, 2))
    with pytest.raises(ValueError, match=r"expected one Tensor as wrt with element=, got 2"):
        tk.explain(L, [W, X * 1], element=(0, 1))


# ------------------------------------------------------------------ names and modules


class Block(nn.Module):
    def __init__(self) -> None:
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        with tk.name_scope("skip"):
            return self.body(x) + x  # type: ignore[no-any-return]


def test_modules_and_scopes_are_paths() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Block(), Block(), nn.Linear(4, 2))
    x = tk.ones((5, 3))
    with tk.name_scope("train"):
        loss = F.cross_entropy(net(x), np.array([0, 1, 0, 1, 1]))
    graph = explain.graph_of([loss])
    found = [(node.op, node.group.path if node.group else "") for node in graph.nodes if node.op]
    expected = [
        ("linear", "train/sequential.0"),
        ("tanh", "train/sequential.1"),
        ("linear", "train/sequential.2/skip/body.0"),
        ("relu", "train/sequential.2/skip/body.1"),
        ("add", "train/sequential.2/skip"),
        ("linear", "train/sequential.3/skip/body.0"),
        ("relu", "train/sequential.3/skip/body.1"),
        ("add", "train/sequential.3/skip"),
        ("linear", "train/sequential.4"),
        ("cross_entropy", "train"),
        ("mean", "train"),
    ]
    assert found == expected
    names = {node.name for node in tk.explain(loss).wanted}
    assert {"net.0.weight", "net.2.body.0.bias", "net.4.bias"} <= names


def test_a_module_that_is_called_twice_has_two_groups() -> None:
    layer = nn.Linear(2, 2)
    loss = layer(tk.tanh(layer(tk.ones((1, 2))))).sum()
    graph = explain.graph_of([loss])
    paths = [node.group.path for node in graph.nodes if node.group is not None]
    assert paths == ["linear", "linear#2"]


class Held(nn.Module):
    def __init__(self) -> None:
        self.weight = nn.Parameter(np.ones(2))

    def forward(self) -> Tensor:
        return self.weight


def test_calls_that_compute_nothing_note_nothing() -> None:
    """Else what a module returns at each step would hold a longer and longer list of calls."""
    held, x = Held(), tk.ones(2, requires_grad=True)
    for _ in range(3):
        assert held() is held.weight and nn.Sequential(nn.Identity())(x) is x
    assert not hasattr(held.weight, "_call") and not hasattr(x, "_call")
    loss = nn.Sequential()(x * 2).sum()
    assert tk.explain(loss, x).gradient.tolist() == [2, 2]


def make_hidden() -> Tensor:
    x = tk.tensor(2.0, requires_grad=True, name="weight")
    hidden = x * x
    return tk.sqrt(hidden) + 1


def test_names_come_from_variables_items_and_lines_that_are_over() -> None:
    out = make_hidden()
    params = {"w": tk.tensor(1.0, requires_grad=True)}
    loss = out * params["w"]
    names = [node.name for node in tk.explain(loss).nodes]
    assert names == ["weight", "params['w']", "hidden", "g", "out", "loss"]


def mean_of_squares(x: Tensor) -> Tensor:
    error = F.mse_loss(x, tk.zeros(3))
    return error * 2


def test_ops_inside_of_a_call_do_not_take_the_name_of_its_result() -> None:
    x = tk.ones(3, requires_grad=True)
    y = mean_of_squares(x)
    assert not [node.name for node in tk.explain(y).nodes if node.name.startswith("error")]


def test_a_name_is_a_string() -> None:
    x = tk.tensor(1.0)
    assert x.name is None
    x.name = "x1"
    assert x.name == "x1"
    with pytest.raises(TypeError, match=r"name: expected a name, got 3\. Assign a string"):
        x.name = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match="name_scope: expected a name, got ''"):
        tk.name_scope("")


def test_scopes_belong_to_their_thread() -> None:
    entered, leave = threading.Event(), threading.Event()

    def scoped() -> None:
        with tk.name_scope("elsewhere"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=scoped)
    thread.start()
    entered.wait(10)
    x = tk.tensor(1.0, requires_grad=True)
    y = x * x
    leave.set()
    thread.join()
    assert explain.graph_of([y]).groups == []


@tk.name_scope("square")
def squared(x: Tensor) -> Tensor:
    return x * x


def test_a_scope_is_a_decorator_and_does_not_stop_compiling() -> None:
    x = tk.tensor(3.0, requires_grad=True)
    assert [group.path for group in explain.graph_of([squared(x)]).groups] == ["square"]
    step = tk.compile(squared)
    with tk.name_scope("outer"):
        for value in (2.0, 3.0):
            assert step(tk.tensor(value)).item() == value**2
    assert "eager" not in step.explain().lower()


def test_a_long_graph_is_folded_and_opened() -> None:
    net = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(16)])
    loss = net(tk.ones((2, 4))).sum()
    folded = tk.explain(loss).text("en")
    assert "net.2 (Sequential), 6 ops" in folded and "linear(" not in folded
    assert folded.count("|dloss/d") > 16
    opened = tk.explain(loss, open="net.2").text("en")
    assert "net.2 (Sequential)" not in opened and "net.3 (Sequential)" in opened
    assert opened.count("linear(") == 1 and "net.2.1 (LayerNorm), 5 ops" in opened


# ------------------------------------------------------------------ nothing changes; errors


def test_a_long_graph_without_modules_is_cut_in_the_middle() -> None:
    x = tk.tensor([0.5, 1.0], requires_grad=True)
    y = x
    for _ in range(500):
        y = tk.sin(y)
    text = tk.explain(y.sum(), x).text("en")
    assert "... (382 more)" in text and len(text.splitlines()) < 300
    assert "382개" in tk.explain(y.sum(), x).text("ko")


def test_nothing_changes_and_no_hook_is_called() -> None:
    f, w, x, b = lecture()
    calls: list[Any] = []
    w.register_hook(calls.append)
    f.register_hook(calls.append)
    tk.explain(f).text()
    assert not calls and all(leaf.grad is None for leaf in (w, x, b))
    f.backward()
    assert [call.item() for call in calls] == [1, 5] and w.grad is not None


def test_a_compiled_function_that_explains_runs_as_written() -> None:
    w = tk.tensor(2.0, requires_grad=True)
    said: list[str] = []

    @tk.compile
    def step(x: Tensor) -> Tensor:
        y = w * x
        said.append(tk.explain(y, w).text("en"))
        return y

    for value in (1.0, 2.0, 3.0):
        assert step(tk.tensor(value)).item() == 2 * value
    assert [f"dy/dw = x = {n}\n" in text for n, text in zip((1, 2, 3), said, strict=True)] == [
        True
    ] * 3
    assert "explain shows numbers" in step.explain()


@pytest.mark.parametrize("mode", [tk.no_grad, tk.detect_anomaly])
def test_modes_do_not_matter(mode: Any) -> None:
    f, w, *_ = lecture()
    with mode():
        assert tk.explain(f, w).gradient == 5
    assert tk.is_grad_enabled()


def test_a_recomputed_part_is_explained() -> None:
    x = tk.tensor([1.0, 2.0], requires_grad=True)
    y = tk.checkpoint(lambda x: (x * x).sum(), x)
    found = tk.explain(y, x)
    assert np.array_equal(found.gradient, [2, 4])
    assert "dy/dx = x + x " in found.text("en")
    difference = found.difference(found.wanted[0], (1,))
    assert difference.numeric == pytest.approx(4)
    state = tk.random.default_generator().bit_generator.state
    used = tk.tensor([3.0, 1.0], requires_grad=True)
    y = tk.checkpoint(lambda x: (F.dropout(x, 0.5) * used).sum(), x)
    found = tk.explain(y, [x, used])
    inner, outer = (found.difference(node) for node in found.wanted)
    assert inner.error is not None and inner.error < 1e-6
    assert outer.numeric is None  # what only the function knows
    tk.random.default_generator().bit_generator.state = state
    assert np.array_equal(F.dropout(x, 0.5).data != 0, found.gradient[0] != 0)


def test_a_second_derivative() -> None:
    x = tk.tensor(3.0, requires_grad=True)
    y = x**3
    (slope,) = tk.autograd.grad(y, x, create_graph=True)
    found = tk.explain(slope, x)
    assert found.gradient == 18
    assert found.difference(found.wanted[0]).error < 1e-6  # type: ignore[operator]


def test_a_freed_graph_names_the_remedy() -> None:
    f, w, *_ = lecture()
    f.backward()
    with pytest.raises(RuntimeError, match=r"explain: expected the graph .* retain_graph=True"):
        tk.explain(f, w)


def test_what_cannot_be_explained() -> None:
    f, w, *_ = lecture()
    with pytest.raises(TypeError, match="explain: expected a Tensor, got float"):
        tk.explain(3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected one number, got shape \(2,\)"):
        tk.explain(tk.stack([f, f]))
    with pytest.raises(ValueError, match=r"got a constant\. Set requires_grad=True"):
        tk.explain(tk.tensor(1.0))
    with pytest.raises(TypeError, match="expected a Tensor or a list of Tensors as wrt, got str"):
        tk.explain(f, [w, "x"])  # type: ignore[list-item]
    constant = tk.tensor(2.0)
    with pytest.raises(ValueError, match="expected constant to require grad, got a constant"):
        tk.explain(w * constant, constant)


def test_float16_nan_and_empty_inputs() -> None:
    x = tk.tensor([1.0, 2.0], np.float16, requires_grad=True)
    y = (x * x).sum()
    assert np.array_equal(tk.explain(y, x).gradient, np.array([2, 4], np.float16))
    with np.errstate(all="ignore"):
        z = tk.tensor(-1.0, requires_grad=True)
        text = tk.explain(tk.log(z), z).text("en")
    assert "nan" in text
    empty = tk.zeros((0, 3), requires_grad=True)
    assert tk.explain(empty.sum(), empty).text("en")


# ------------------------------------------------------------------ found by users


def test_an_unused_input_among_others_is_named_by_its_variable() -> None:
    used = tk.tensor(1.5, requires_grad=True)
    spare = tk.tensor([[1.0, 2.0]], requires_grad=True)
    found = tk.explain(used * used, [spare, used])
    assert [paths and len(paths) for paths in found.paths] == [[], 2]
    assert [type(g) for g in found.gradient] == [np.ndarray, np.ndarray]
    assert "does not depend on spare: no path" in found.text("en")
    assert "spare까지 경로가 없습니다" in tk.explain(used * used, spare).text("ko")


def test_a_rule_for_arrays_alone_explains_itself() -> None:
    sine = tk.op(lambda x: np.sin(x), lambda g, y, x: g * np.cos(np.asarray(x)), name="sine")
    x = tk.tensor(2.0, requires_grad=True)
    found = tk.explain(sine(x) * x)
    assert "= sine'(x) = -0.41615" in found.text("en")
    np.testing.assert_allclose(found.gradient, np.sin(2) + 2 * np.cos(2), rtol=1e-6)
    v = tk.tensor([1.0, -2.0, 3.0], requires_grad=True)
    text = tk.explain((sine(v) * v).sum(), element=1).text("en")
    assert "du/dv = du/dh * g + sine'(v)^T @ du/dg " in text
    assert "= 1 * (-0.9093) + (-2) * (-0.41615) = -0.077004" in text


def test_powers_and_conditions_are_written_as_people_write_them() -> None:
    a = tk.tensor(1.5, requires_grad=True)
    c = tk.tensor(0.5, requires_grad=True)
    found = tk.explain(tk.maximum(a, c) * a**c + tk.clip(a, 0, 2))
    text, latex = found.text("en"), found.markdown("en")
    for formula in (
        "c * a**(c - 1) = 0.5 * 1.5**(0.5 - 1) = 0.40825",
        "a**c * log(a) = 1.5**0.5 * log(1.5) = 0.49659",
        "where(a > c or isnan(a), 1, 1 / 2 * (a == c))",
        "a == a and (a >= 0) and (a <= 2)",
    ):
        assert formula in text
    for formula in (
        r"c \cdot a^{c - 1} = 0.5 \cdot 1.5^{0.5 - 1} = 0.40825",
        r"\max\left(1.5, 0.5\right)",
        r"a > c \lor \operatorname{isnan}\left(a\right)",
        r"\operatorname{clip}\left(a, \mathrm{low}=0, \mathrm{high}=2\right)",
    ):
        assert formula in latex
    bits = Call(elementwise.bitwise_or, (Symbol("i"), Symbol("j")), (), ())  # no conditions
    assert Writer().write(bits) == "bitwise_or(i, j)"


def test_latex_has_no_signs_of_python() -> None:
    x, w = tk.tensor(-2.0, requires_grad=True), tk.tensor(3.0, requires_grad=True)
    for line in tk.explain((w * x) ** 2 / (1 + x**2), [w, x]).markdown("en").splitlines():
        if "$" in line:
            assert "*" not in line and "==" not in line
    assert r"w \cdot x = 3 \cdot (-2) = -6" in tk.explain(w * x).markdown("en")


def test_an_index_is_written_in_brackets() -> None:
    x = tk.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert "index_add(dy/dg, key=[1:, 0], shape=(2, 2))" in _y_of(x[1:, 0])


def _y_of(g: Tensor) -> str:
    y = (g * g).sum()
    return tk.explain(y).text("en").replace("dy/dh * g + dy/dh * g", "")


def test_a_module_and_a_letter_have_two_names() -> None:
    g = nn.Linear(2, 3)
    y = tk.tanh(g(tk.ones(4, 2)) ** 2).sum()
    names = [node.name for node in tk.explain(y).nodes]
    assert "g.weight" in names and "g" not in names and "h" in names


def test_a_path_that_open_does_not_find_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    y = net(tk.ones(4, 2)).sum()
    with pytest.raises(ValueError, match=r"explain: expected open= .* net.0, net.1, got 'net.9'"):
        tk.explain(y, open="net.9")


def test_a_path_of_thousands_is_shown_without_its_middle() -> None:
    x = tk.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(3000):
        y = y * 1.0001
    text = tk.explain(y).text("en")
    assert "1.0001 * ... * 1.0001" in text and max(map(len, text.splitlines())) < 2000


def test_one_factor_has_no_brackets_and_inputs_are_numbered_in_korean() -> None:
    a, b = tk.tensor(3.0, requires_grad=True), tk.tensor(2.0)
    assert "dy/da = 1 / b = 1 / 2 = 0.5\n" in tk.explain(_named(a / b), a).text("en")
    assert "입력 2" in tk.explain(a * a).text("ko")


def _named(y: Tensor) -> Tensor:
    y.name = "y"
    return y


# ------------------------------------------------------------------ what mutants survived


def test_the_difference_is_taken_where_the_gradient_is_largest() -> None:
    x = tk.tensor([1.0, -5.0, 2.0], requires_grad=True)
    found = tk.explain((x * x).sum(), x)
    assert found.difference(found.wanted[0]).index == (1,)
    z = tk.tensor([9.0, -1.0], requires_grad=True)
    with np.errstate(invalid="ignore"):
        found = tk.explain((tk.log(z) * tk.tensor([1.0, 0.0])).sum() + (z * tk.sqrt(z)).sum(), z)
    assert found.difference(found.wanted[0]).index == (1,)  # NaN before all


def test_conversions_do_not_round_the_difference() -> None:
    x = tk.tensor(1.234567891234, dtype=tk.float64, requires_grad=True)
    found = tk.explain(x.to(tk.float32) ** 2, x)
    difference = found.difference(found.wanted[0])
    assert difference.numeric == pytest.approx(2 * 1.234567891234, rel=1e-9)


def test_values_are_those_that_were_read() -> None:
    w, x = tk.tensor(2.0, requires_grad=True), tk.tensor(3.0)
    y = w + x
    w.data = np.float32(7)
    assert "y = w + x = 2 + 3 = 5\n" in tk.explain(y).text("en")
    assert "w = 2\\n" in tk.draw(y).dot


def test_terms_that_are_not_shown_are_counted() -> None:
    X = tk.tensor(np.arange(1.0, 8.0).reshape(7, 1))
    w = tk.tensor([[2.0]], requires_grad=True)
    text = tk.explain((X @ w).sum(), element=(0, 0)).text("en")
    assert "= 1 * 7 + 1 * 6 + 1 * 5 + 1 * 4 + ... (3 more) = 28\n" in text


RATE = tk.tensor(0.5, requires_grad=True)
RATES = [tk.tensor(0.25, requires_grad=True)]


def test_globals_have_names_too() -> None:
    y = RATE * RATES[0]
    assert [node.name for node in tk.explain(y).nodes] == ["RATE", "RATES[0]", "y"]


def test_the_op_of_a_kernel_is_no_formula() -> None:
    """All cotangents in one array say nothing to a person."""
    q = tk.tensor(np.array([[[0.5, 1.0], [2.0, -1.0]]]), requires_grad=True)
    said = tk.explain(F.scaled_dot_product_attention(q, q, q).sum()).text("en")
    assert "dh/dq = scaled_dot_product_attention'(q, q, q)" in said
