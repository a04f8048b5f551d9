"""What follows the batch becomes symbolic or is refused; an export is whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_checks import arrays_of, assert_close, run_onnx

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn
from tinygrad_kr.export import writer
from tinygrad_kr.ops.recurrent import lstm_scan

onnx = pytest.importorskip("onnx")

X = np.random.default_rng(3).standard_normal((2, 3, 4, 6)).astype(np.float32)
ROWS = X[:, 0, 0]


class Applied(nn.Module):
    """A module of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


FOLLOWS: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    "reshape": (lambda x: x.reshape(-1, 3), ROWS),
    "a size in a shape": (lambda x: x.reshape(x.shape[0] * 2, 3), ROWS),
    "a size as a factor": (lambda x: x * x.shape[0] + len(x) + 1, ROWS),
    "a size as a divisor": (lambda x: x.sum() / len(x) + x * (1 / len(x)), ROWS),
    "zeros for each row": (lambda x: tk.concatenate([tk.zeros(len(x), 2), x], 1), ROWS),
    "each row's number": (lambda x: x[np.arange(len(x)), np.ones(len(x), int)], ROWS),
    "counting": (lambda x: x * (2 * np.arange(len(x)) + 5)[:, None], ROWS),
    "counting from a size": (lambda x: x * np.arange(3, len(x) + 3)[:, None], ROWS),
    "a size in a slice": (lambda x: tk.concatenate([x, x])[len(x) - 1 : len(x) + 1], ROWS),
    "statistics of the batch": (
        lambda x: (x - x.mean(0)) / (x.var(0, correction=0) + 1) + x.std(1).sum(),
        ROWS,
    ),
    "pairs of rows": (lambda x: x @ x.T, ROWS),
    "two indices apart": (lambda x: x[:, [0, 1], :, [1, 2]], X),
    "two indices": (lambda x: x[:, [0, 1], [[1], [2]]], X),
    "an index and a number": (lambda x: x[:, 0, [1, 2]], X),
    "slices": (lambda x: x[:, None, 1:, ::-1, 1:-1:2][..., 0], X),
    "moved": (lambda x: x.roll((1, -1), (2, 3)).flip(1).transpose(0, 2), X),
    "einsum": (lambda x: tk.einsum("nchw,nchv->nwv", x, x), X),
    "interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), X),
    "windows": (lambda x: F.unfold(x, 2, stride=2), X),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (1, 2)), X),
    "norms": (lambda x: F.normalize(x) + F.group_norm(x, 3) + tk.norm(x, dim=1, keepdim=True), X),
    "logsumexp": (lambda x: tk.logsumexp(x, 1) + tk.log1p(x * x).cumsum(1)[:, -1], X),
    "extremes": (lambda x: x.max(1).values + x.argmax(1) + x.min(3)[0].sum(), X),
    "integers": (lambda x: (x * 9).astype(np.int64) // 2 % 3, ROWS),
    "quotients": (lambda x: x // 0.7 + x % 0.7 + tk.fmod(x, 0.7), ROWS),
    "exact quotients": (lambda x: (x * 0 + 1) // 0.1 + (x * 0 + 7) // -3, ROWS),
    "large remainders": (lambda x: (x * 1e6) % 0.3 + (x * 1e6) % -0.3, ROWS),
    "large integers": (
        lambda x: ((x.astype(np.int64) + 2**60 + 1) // -3, x.astype(np.int8) // 2),
        ROWS,
    ),
    "infinite logarithms": (
        lambda x: tk.stack([np.logaddexp(x - np.inf, -np.inf), np.logaddexp(x + np.inf, x)]),
        ROWS,
    ),
    "large lengths": (lambda x: np.hypot(x * 1e20, 3e20) / 1e20 + np.hypot(x * 0, 0.0), ROWS),
    "truth": (lambda x: (x > 0) & ~(x < 0.5) | tk.isnan(x), ROWS),
    "triangles": (lambda x: tk.tril(x.mT @ x, -1) + tk.triu(x.mT @ x), X),
    "the diagonal": (lambda x: (x.mT @ x).diagonal(1, 2, 3), X),
    "choices": (lambda x: tk.where(x > 0, x.clip(-0.5, 0.5), -1), ROWS),
    "one_hot": (lambda x: F.one_hot(x.argmax(1), 6), ROWS),
    "steps": (lambda x: x.round() + x.floor() * tk.sign(x) + tk.trunc(x), ROWS),
    "powers": (lambda x: (x * x) ** 0.7 + tk.exp2(x) + tk.expm1(x) + 2**x, ROWS),
    "bits": (lambda x: (lambda n: (n & 6) | (n ^ 3) + ~n)((x * 9).astype(np.int64)), ROWS),
    "finite": (lambda x: np.isfinite(x / 0.5) & (np.isinf(x) ^ (x > 0)), ROWS),
    "roots": (lambda x: np.cbrt(x) + np.hypot(x, 2.0) + np.logaddexp(x, 0.5), ROWS),
    "logarithms": (lambda x: tk.log2(x * x + 1) + tk.log10(x * x + 1) + np.deg2rad(x), ROWS),
    "decimals": (lambda x: tk.round(x, decimals=1), ROWS),
    "any and all": (lambda x: (x > 0).any(1) | (x < 9).all(1), ROWS),
    "counts": (lambda x: tk.count_nonzero(x > 0, axis=1) + (x > 0).sum(), ROWS),
    "the largest of all": (lambda x: x.argmax() + 0 * x[:, 0].astype(np.int64), ROWS),
    "p-norms": (lambda x: tk.norm(x, 3, dim=1) + F.normalize(x, 1.5, 1)[:, 0], ROWS),
    "flat": (lambda x: tk.concatenate([x, x + 1], axis=None) + x.roll(3).sum(), ROWS),
    "along an axis": (lambda x: np.take_along_axis(x, np.array([[0, 2], [1, 1]])[:1], 1), ROWS),
    "written along an axis": (lambda x: x.scatter(0, np.array([[0, 0, 0]]), x[:1] * 2), ROWS),
    "a variance": (lambda x: x.var(1) + np.var(x, 1) + x.prod(1), ROWS),
    "an input of float64": (lambda x: x.astype(np.float64) * 2 + x, ROWS),
    "the input itself": (lambda x: (x, x * 2), ROWS),
    "stack": (lambda x: {"a": tk.stack([x, -x], 1), "b": [x.T]}, ROWS),
}


@pytest.mark.parametrize("name", FOLLOWS)
def test_it_follows_the_batch(name: str, tmp_path: Path) -> None:
    function, x = FOLLOWS[name]
    tk.export.onnx(Applied(function), x, tmp_path / "net.onnx")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    for batch in (1, 4, 7):
        rows = np.resize(x, (batch, *x.shape[1:])) * np.float32(0.97)
        expected = arrays_of(function(Tensor(rows)))
        assert_close(run_onnx(tmp_path / "net.onnx", rows), expected)
        assert_close(arrays_of(tk.load_onnx(tmp_path / "net.onnx")(rows)), expected)


def test_a_quotient_by_0_is_numpys(tmp_path: Path) -> None:
    with np.errstate(divide="ignore"):
        tk.export.onnx(lambda x: x // 0.0, ROWS, tmp_path / "net.onnx")
        expected = ROWS // np.float32(0)
    assert_close(run_onnx(tmp_path / "net.onnx", ROWS), [expected])


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a square": (lambda x: (x @ x.T).reshape(-1), r"in reshape in the model .*4, 9, 25"),
    "a factor squared": (lambda x: x * len(x) ** 2, r"in multiply in .*the numbers 4, 9, 25"),
    "half": (lambda x: x[: len(x) // 2], r"in getitem in .*the numbers 1, 1, 2"),
    "a constant": (lambda x: x + np.sin(np.arange(len(x)))[:, None], r"other elements at batch"),
    "a branch with a constant": (
        lambda x: x * np.ones((2, 6), "f") if len(x) < 3 else x,
        r"other ops at batch sizes 2, 3, 5: multiply",
    ),
    "nothing": (lambda x: None, r"expected a model that returns Tensors, got none"),
    "a branch": (lambda x: x * 2 if len(x) > 2 else x + 1, r"other ops at batch sizes 2, 3, 5"),
    "a longer loop": (lambda x: sum([x] * len(x), x), r"other ops at batch sizes"),
    "a size as an option": (lambda x: F.one_hot(x.argmax(1), len(x) + 5), r"options that do not"),
    "a whole number over a size": (lambda x: x[: 30 // len(x)], r"the numbers 15, 10, 6"),
    "an element": (lambda x: x * x.sum().item(), r"\.item\(\) needs the elements"),
    "rows by truth": (lambda x: x[x > 0], r"an index of truth values"),
    "dropout": (lambda x: F.dropout(x), r"dropout_mask in .*training=self\.training"),
    "random numbers of NumPy's": (
        lambda x: x + np.random.default_rng().random(6),
        r"a constant of shape \(6,\), got other elements at batch sizes",
    ),
    "random numbers": (lambda x: x + tk.randn(6), r"randn in"),
    "several at once": (
        lambda x: (
            tk.linalg.inv(x[:, :4].reshape(-1, 2, 2)) @ tk.linalg.cholesky(tk.eye(2) + x[0, 0] ** 2)
        ),
        r"ops that ONNX has, got inv in .*; cholesky in ",
    ),
    "uint64": (
        lambda x: x.astype(np.uint8).sum(1),
        r"integers but uint64, got uint64 from sum in .*\.astype",
    ),
    "a number": (lambda x: 3.0, r"Tensors that the model computes"),
    "an array": (lambda x: np.ones(3), r"."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    function, message = REFUSED[name]
    with pytest.raises(tk.export.ExportError, match=message) as caught:
        tk.export.onnx(Applied(function), ROWS, tmp_path / "net.onnx")
    assert str(caught.value).startswith("export.onnx: ")
    assert not [*tmp_path.iterdir()]


def test_the_module_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.ReLU(), Applied(tk.linalg.svdvals)))
    with pytest.raises(tk.export.ExportError, match=r"svd in 1\.1 \(.*test_export_refused"):
        tk.export.onnx(net, ROWS, tmp_path / "net.onnx")


def test_a_forward_that_writes_is_refused(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            self.register_buffer("count", tk.zeros(1))

        def forward(self, x: Any) -> Any:
            self.count.copy_(self.count + 1)
            return x * self.count

    with pytest.raises(
        tk.export.ExportError, match=r"changes no Tensor, got one that writes count"
    ):
        tk.export.onnx(Counting(), ROWS, tmp_path / "net.onnx")
    counted = tk.zeros(1)
    net = Applied(lambda x: (counted.copy_(counted + 1), x * counted)[1])
    with pytest.raises(tk.export.ExportError, match="writes a Tensor that it captures"):
        tk.export.onnx(net, ROWS, tmp_path / "net.onnx")
    norm = nn.BatchNorm1d(6)
    with pytest.raises(tk.export.ExportError, match=r"call net\.eval\(\) first"):
        tk.export.onnx(lambda x: norm(x), ROWS, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("function", "kind", "batch"),
    [
        (lambda x: (x * nn.Parameter(tk.ones(6))).sum().backward(), RuntimeError, 2),
        (lambda x: x[2], IndexError, 2),
        (lambda x: 1 / (5 - len(x)) * x, ZeroDivisionError, 5),
    ],
    ids=["backward", "a third row", "division"],
)
def test_an_error_of_the_model_says_how_it_was_run(
    function: Any, kind: type[Exception], batch: int, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        tk.export.onnx(function, ROWS, tmp_path / "net.onnx")
    note = f"the model ran under no_grad(), with a batch of {batch}"
    assert any(note in line for line in caught.value.__notes__)
    assert not [*tmp_path.iterdir()]


def test_lengths_and_inner_gates_are_refused(tmp_path: Path) -> None:
    net, x = nn.LSTM(6, 5), X[:, 0]
    short = Applied(lambda x: net(x, lengths=np.arange(1, x.shape[1] + 1) % 2 + 1)[0])
    with pytest.raises(tk.export.ExportError, match="lengths given to LSTM"):
        tk.export.onnx(short, x[:, :2], tmp_path / "net.onnx", batch_axis=None)


def test_projected_states_are_refused(tmp_path: Path) -> None:
    net = nn.LSTM(6, 5, proj_size=2)
    with pytest.raises(tk.export.ExportError, match="proj_size in "):
        tk.export.onnx(Applied(lambda x: net(x)[0]), X[:, 0], tmp_path / "net.onnx")


def test_a_scan_of_any_input_is_exported_but_not_its_gates(tmp_path: Path) -> None:
    z, weight = np.tile(X[:, 0], 2), np.full((12, 3), 0.3, np.float32)
    state = np.zeros((4, 3), np.float32)

    def planes(z: Any) -> Any:
        return lstm_scan(tk.tanh(z), state, state, weight)

    example = {"example": z, "path": tmp_path / "net.onnx", "batch_axis": None}
    tk.export.onnx(Applied(lambda z: planes(z)[0]), **example)
    assert_close(run_onnx(tmp_path / "net.onnx", z), arrays_of(planes(Tensor(z))[0]))
    for part in (2, (1, 0)):
        with pytest.raises(tk.export.ExportError, match="recurrent net's gates in the model"):
            tk.export.onnx(Applied(lambda z, part=part: planes(z)[part]), **example)


@pytest.mark.parametrize(
    ("example", "axis", "message"),
    [
        (3.0, 0, "arrays as the example"),
        (ROWS.astype(np.float16), 0, "float32, float64, booleans or integers"),
        (ROWS[:0], 0, "rows on axis 0"),
        (ROWS, 2, "rows on axis 2"),
        (ROWS, (0, 1), "batch_axis as an int"),
        (ROWS, "0", "batch_axis as an int"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(
    example: Any, axis: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(tk.export.ExportError, match=message):
        tk.export.onnx(nn.ReLU(), example, tmp_path / "net.onnx", batch_axis=axis)


def test_modes_are_restored_after_an_error(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Dropout(), Applied(lambda x: x[x > 0]))
    with pytest.raises(tk.export.ExportError):
        tk.export.onnx(net, ROWS, tmp_path / "net.onnx")
    assert all(module.training for module in net.modules())


def test_names_are_chosen_and_several_inputs_have_their_axes(tmp_path: Path) -> None:
    net = Applied(lambda x, pair: (x @ pair[0], pair[1]["bias"] + x.sum(1, keepdims=True)))
    example = (ROWS, (tk.ones(6, 4), {"bias": np.ones((1, 2), np.float32)}))
    path = tmp_path / "net.onnx"
    names = {"input_names": ["x", "w", "b"], "output_names": ["product", "total"]}
    tk.export.onnx(net, example, path, batch_axis=(0, None, None), **names)
    graph = onnx.load(path).graph
    shapes = {
        info.name: [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]
        for info in [*graph.input, *graph.output]
    }
    assert shapes == {
        "x": ["batch", 6], "w": [6, 4], "b": [1, 2], "product": ["batch", 4],
        "total": ["batch", 2],
    }  # fmt: skip
    with pytest.raises(tk.export.ExportError, match="3 input_names"):
        tk.export.onnx(net, example, path, batch_axis=(0, None, None), input_names=["x"])
    with pytest.raises(tk.export.ExportError, match="2 output_names"):
        tk.export.onnx(net, example, path, batch_axis=(0, None, None), output_names=["x"])


def names_in(path: Path) -> tuple[list[str], ...]:
    """The names of the initializers, inputs and outputs."""
    graph = onnx.load(path).graph
    return tuple([x.name for x in part] for part in (graph.initializer, graph.input, graph.output))


def test_names_are_kept_or_refused(tmp_path: Path) -> None:
    net, path = nn.Sequential(nn.Linear(6, 2), nn.Softmax(1)), tmp_path / "net.onnx"
    tk.export.onnx(net, ROWS, path, input_names=["gemm"], output_names=["softmax"])
    assert names_in(path) == (["0.weight", "0.bias"], ["gemm"], ["softmax"])
    assert_close(run_onnx(path, ROWS), arrays_of(net(Tensor(ROWS))))
    for inputs, outputs in (
        (["0.weight"], ["y"]), (["x"], ["x"]), ([""], ["y"]), ("x", ["y"]), (["x"], [3]),
    ):  # fmt: skip
        with pytest.raises(tk.export.ExportError, match=r"1 (in|out)put_names that differ"):
            tk.export.onnx(net, ROWS, path, input_names=inputs, output_names=outputs)


def test_parameters_keep_their_names_before_arguments(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.x, self.output = nn.Parameter(tk.ones(6)), nn.Parameter(tk.ones(6))

        def forward(self, x: Any) -> Any:
            return x * self.x + self.output

    path = tmp_path / "net.onnx"
    tk.export.onnx(Scaled(), ROWS, path)
    assert names_in(path) == (["x", "output"], ["x_1"], ["output_1"])
    assert [*tk.load_onnx(path).state_dict()] == ["x", "output"]


def test_a_dimension_names_what_follows_the_batch(tmp_path: Path) -> None:
    tk.export.onnx(lambda x: (x[1:], tk.concatenate([x, x, x[:1]])), ROWS, tmp_path / "net.onnx")
    outputs = onnx.load(tmp_path / "net.onnx").graph.output
    found = [info.type.tensor_type.shape.dim[0].dim_param for info in outputs]
    assert found == ["batch-1", "2*batch+1"]


@pytest.mark.parametrize("model", ["net", nn.Linear, None], ids=str)
def test_what_is_no_model_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(tk.export.ExportError, match="a Module or a function"):
        tk.export.onnx(model, ROWS, tmp_path / "net.onnx")


def test_tied_and_captured_tensors(tmp_path: Path) -> None:
    weight, scale = nn.Parameter(tk.ones(6, 6)), tk.full((6,), 2.0)
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    net[0].weight = net[1].weight = weight
    model = nn.Sequential(net, Applied(lambda x: x * scale + weight[0]))
    path = tmp_path / "net.onnx"
    tk.export.onnx(model, ROWS, path)
    assert [*tk.load_onnx(path).state_dict()] == ["0.0.weight"]
    assert_close(run_onnx(path, ROWS), arrays_of(model(Tensor(ROWS))), 1e-4)


def test_a_function_is_exported_with_its_parameters(tmp_path: Path) -> None:
    weight = tk.ones(6, 2, requires_grad=True)
    tk.export.onnx(lambda rows: rows @ weight, ROWS, tmp_path / "net.onnx")
    loaded = tk.load_onnx(tmp_path / "net.onnx")
    assert [name for name, _ in loaded.named_parameters()] == ["parameter"]
    assert loaded.input_names == ["rows"]


def test_an_old_file_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    tk.export.onnx(nn.ReLU(), ROWS, path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tk.export.onnx(nn.Tanh(), ROWS, path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_a_graph_that_the_checker_refuses_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "IR_VERSION", -1)
    with pytest.raises(tk.export.ExportError, match="a graph that onnx accepts"):
        tk.export.onnx(nn.ReLU(), ROWS, tmp_path / "net.onnx")
    assert not [*tmp_path.iterdir()]


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'export\.onnx: .*pip install "tinygrad_kr\[onnx\]"'):
        tk.export.onnx(nn.ReLU(), ROWS, tmp_path / "net.onnx")
    with pytest.raises(ImportError, match=r'load_onnx: .*pip install "tinygrad_kr\[onnx\]"'):
        tk.load_onnx(tmp_path / "net.onnx")
