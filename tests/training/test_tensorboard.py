"""`tk.SummaryWriter`: what is written is read back from the records."""

from __future__ import annotations

import builtins
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_records import events_of, read_back
from layer_samples import LAYERS

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim, tensorboard

pytest.importorskip("tensorboardX")


def one(folder: Path, tag: str) -> Any:
    """The value of the only event of a tag."""
    ((_, value),) = read_back(folder)[tag]
    return value


# ------------------------------------------------------------------ scalars


@pytest.mark.parametrize(
    "value",
    [
        1.5, 3, True, np.float32(1.5), np.float16(1.5), np.int64(3), np.array([[1.5]]), [1.5],
        tk.tensor(1.5), tk.tensor([1.5], requires_grad=True), tk.tensor(3), tk.tensor(True),
        float("nan"), float("inf"), tk.tensor(float("-inf")),
    ],
)  # fmt: skip
def test_a_scalar_of_any_type(value: Any, tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_scalar("train/손실", value, np.int64(7), walltime=12.5)
    ((step, found),) = read_back(tmp_path)["train/손실"]
    expected = float(np.asarray(value.data if isinstance(value, Tensor) else value).item())
    assert step == 7
    np.testing.assert_array_equal(found, expected)
    (path,) = tmp_path.iterdir()
    assert list(events_of(path))[-1].wall_time == 12.5


@pytest.mark.parametrize(("double", "field"), [(False, "float_val"), (True, "double_val")])
def test_scalars_of_the_new_style(double: bool, field: str, tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", 0.1, 1, new_style=True, double_precision=double)
    (found,) = getattr(one(tmp_path, "loss"), field)
    assert found == (0.1 if double else np.float32(0.1))


def test_scalars_together_are_runs_of_their_own(tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalars("rate/of", {"a": step, "b/c": tk.tensor(2.0 * step)}, step)
    for run, factor in (("rate_of_a", 1), ("rate_of_b_c", 2)):
        assert read_back(tmp_path / run)["rate/of"] == [(n, factor * n) for n in range(3)]


@pytest.mark.parametrize(
    ("write", "error", "said"),
    [
        (lambda w: w.add_scalar("a", [1.0, 2.0]), ValueError, r"add_scalar: .*shape \(2,\)"),
        (lambda w: w.add_scalar("a", "1"), TypeError, "expected numbers, got str"),
        (lambda w: w.add_scalar("a", 1j), TypeError, "expected numbers, got complex"),
        (lambda w: w.add_scalar("", 1.0), TypeError, "a name as tag, got ''"),
        (lambda w: w.add_scalar(3, 1.0), TypeError, "a name as tag, got 3"),
        (lambda w: w.add_scalars("a", {"b": [1, 2]}), ValueError, "add_scalars"),
        (lambda w: w.add_histogram("h", []), ValueError, "got an empty array"),
        (lambda w: w.add_histogram("h", tk.zeros(0, 3)), ValueError, "got an empty array"),
        (
            lambda w: w.add_histogram("h", [1.0, np.nan, np.inf, -np.inf]),
            ValueError,
            r"finite values for 'h', got 1 NaN and 2 infinite of 4.*isfinite",
        ),
        (lambda w: w.add_histogram("h", [1.0], bins=[2.0, 3.0]), ValueError, "hold some values"),
        (lambda w: w.add_image("i", np.zeros((4, 5))), ValueError, r"axes 'CHW', got shape \(4, 5"),
        (lambda w: w.add_image("i", np.zeros((2, 4, 5))), ValueError, "1, 3 or 4 channels"),
        (lambda w: w.add_image("i", np.zeros((3, 0, 5))), ValueError, "not empty"),
        (lambda w: w.add_image("i", np.zeros((4, 5)), dataformats="HH"), ValueError, "axes 'HH'"),
        (
            lambda w: w.add_image("i", np.zeros((3, 4, 5), np.int64)),
            ValueError,
            r"uint8 from 0 to 255.*got int64.*astype\(np\.uint8\)",
        ),
        (lambda w: w.add_image("i", np.full((3, 4, 5), np.nan)), ValueError, "got NaN"),
        (lambda w: w.add_images("i", np.zeros((3, 4, 5))), ValueError, "one of them N"),
        (lambda w: w.add_images("i", np.zeros((0, 3, 4, 5))), ValueError, "one of them N"),
        (lambda w: w.add_text("t", 3), TypeError, "expected a string, got int"),
        (lambda w: w.add_hparams({"a": [1, 2]}, {}), TypeError, "for 'a', got list"),
        (lambda w: w.add_hparams({}, {"a": [1, 2]}), ValueError, "one number"),
        (lambda w: w.add_graph(lambda x: x, 1), TypeError, r"an nn\.Module, got function"),
    ],
)
def test_what_cannot_be_written_is_an_error(
    write: Any, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with tk.SummaryWriter(tmp_path) as writer, pytest.raises(error, match=said):
        write(writer)


# ------------------------------------------------------------------ histograms


@pytest.mark.parametrize("bins", ["tensorflow", "auto", 7, [-9.0, -1.0, 0.5, 9.0]])
def test_a_histogram_counts_each_value_in_its_bucket(bins: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 5))
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("h", Tensor(values), 3, bins)
    found = one(tmp_path, "h")
    assert (found.num, found.min, found.max) == (200, values.min(), values.max())
    assert found.sum == pytest.approx(values.sum())
    assert found.sum_squares == pytest.approx((values**2).sum())
    limits, counts = np.array(found.bucket_limit), np.array(found.bucket)
    assert len(limits) == len(counts)
    assert counts[0] == 0 < counts[1] and counts[-1] > 0
    np.testing.assert_array_equal(
        counts.cumsum(), [(values < limit).sum() for limit in limits[:-1]] + [200]
    )


@pytest.mark.parametrize(
    "values",
    [
        [0.0], [0.0] * 5, [1e30, -1e30], [5], [True, False, True], np.arange(9, dtype=np.uint8),
        np.float16([1, 2]), tk.tensor(2.5), [np.finfo(np.float64).max],
    ],
)  # fmt: skip
def test_a_histogram_of_any_numbers(values: Any, tmp_path: Path) -> None:
    with np.errstate(over="ignore"), tk.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("h", values)
    found = one(tmp_path, "h")
    assert sum(found.bucket) == found.num == np.size(getattr(values, "data", values))


@pytest.mark.parametrize("most", [1, 3, 10, 100])
def test_buckets_are_joined(most: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=500)
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("h", values, bins=50, max_bins=most)
    found = one(tmp_path, "h")
    assert sum(found.bucket) == 500
    assert 2 <= len(found.bucket) <= min(most, 50) + 1


# ------------------------------------------------------------------ images, text


def decoded(image: Any) -> np.ndarray:
    """The pixels of a PNG as `tensorboard` writes it: no filter, no interlacing."""
    stream = io.BytesIO(image.encoded_image_string)
    assert stream.read(8) == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    while head := stream.read(8):
        length, kind = struct.unpack(">I4s", head)
        chunks[kind] = stream.read(length)
        assert struct.unpack(">I", stream.read(4)) == (zlib.crc32(kind + chunks[kind]),)
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, list(chunks)) == (8, [b"IHDR", b"IDAT", b"IEND"])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    assert (image.width, image.height, image.colorspace) == (width, height, channels)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("axes", ["CHW", "HWC", "WHC", "CWH"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "float16", "Tensor"])
def test_an_image_in_any_layout(axes: str, channels: int, kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, channels), np.uint8)
    given: Any = pixels.transpose(["HWC".index(axis) for axis in axes])
    if kind == "Tensor":
        given = Tensor(given)
    elif kind != "uint8":
        given = ((given + np.float32(0.25)) / 255).astype(kind)
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_image("i", given, 2, dataformats=axes)
    np.testing.assert_array_equal(decoded(one(tmp_path, "i")), pixels)


def test_grey_booleans_and_values_outside(tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_image("grey", np.float32([[0, 0.5], [1, 2], [-1, np.inf]]), dataformats="HW")
        writer.add_image("bool", np.array([[True, False]]), dataformats="WH")
    grey = decoded(one(tmp_path, "grey"))[..., 0]
    np.testing.assert_array_equal(grey, [[0, 127], [255, 255], [0, 255]])
    np.testing.assert_array_equal(decoded(one(tmp_path, "bool"))[..., 0], [[255], [0]])


@pytest.mark.parametrize("axes", ["NCHW", "NHWC", "HWNC"])
def test_images_stand_in_rows(axes: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 1), np.uint8)
    with tk.SummaryWriter(tmp_path) as writer:
        given = images.transpose(["NHWC".index(axis) for axis in axes])
        writer.add_images("i", given, dataformats=axes)
    grid = decoded(one(tmp_path, "i"))
    assert grid.shape == (4, 9, 1)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        place = grid[2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        np.testing.assert_array_equal(place, image)
    assert not grid[2:, 6:].any()


def test_text(tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_text("note", "**은닉층** 5개", 4)
    assert one(tmp_path, "note/text_summary").string_val == ["**은닉층** 5개".encode()]


def test_hyperparameters(tmp_path: Path) -> None:
    from tensorboardX.proto.plugin_hparams_pb2 import (  # type: ignore[import-untyped]
        HParamsPluginData,
    )

    given = {"lr": np.float32(0.5), "n": np.int64(3), "bn": True, "act": "렐루", "none": None}
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_hparams(given, {"acc": tk.tensor(0.75)}, {"n": [3, 5]}, run_name="one")
    found = read_back(tmp_path / "one")
    contents = {
        tag: HParamsPluginData.FromString(values[0][1].plugin_data.content)
        for tag, values in found.items()
        if tag.startswith("_hparams_")
    }
    started = contents["_hparams_/session_start_info"].session_start_info.hparams
    assert set(started) == {"lr", "n", "bn", "act"}
    assert (started["lr"].number_value, started["n"].number_value) == (0.5, 3)
    assert (started["bn"].bool_value, started["act"].string_value) == (True, "렐루")
    experiment = contents["_hparams_/experiment"].experiment
    assert [info.name for info in experiment.hparam_infos] == ["lr", "n", "bn", "act"]
    domain = experiment.hparam_infos[1].domain_discrete.values
    assert [choice.number_value for choice in domain] == [3, 5]
    assert [info.name.tag for info in experiment.metric_infos] == ["acc"]
    assert contents["_hparams_/session_end_info"].session_end_info.status == 1
    assert found["acc"] == [(0, 0.75)]


# ------------------------------------------------------------------ files


def test_it_writes_again_after_close_and_two_writers_share_no_file(tmp_path: Path) -> None:
    first, second = tk.SummaryWriter(tmp_path), tk.SummaryWriter(tmp_path)
    first.add_scalar("a", 1, 1)
    second.add_scalar("a", 2, 2)
    first.flush()
    first.close()
    first.close()
    first.add_scalar("a", 3, 3)
    first.close()
    second.close()
    assert sorted(read_back(tmp_path)["a"]) == [(1, 1), (2, 2), (3, 3)]
    assert len(list(tmp_path.iterdir())) == 3


def test_the_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with tk.SummaryWriter(comment="_lr0.1", filename_suffix=".end") as writer:
        assert writer.get_logdir() == writer.log_dir
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("_lr0.1")
    (path,) = folder.iterdir()
    assert path.name.endswith(".end")


def test_steps_can_be_purged(tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path, purge_step=30):
        pass
    (path,) = tmp_path.iterdir()
    last = list(events_of(path))[-1]
    assert (last.step, last.session_log.status) == (30, 1)


def test_without_tensorboardx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tensorboardX":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"tinygrad_kr\[tensorboard\]\""):
        tk.SummaryWriter("unused")


def test_a_compiled_function_that_writes_runs_as_written(tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:

        @tk.compile
        def step(x: Tensor) -> Tensor:
            y = x * 2
            writer.add_histogram("y", y)
            return y

        for number in range(5):
            step(tk.full((3,), float(number)))
    maxima = [histogram.max for _, histogram in read_back(tmp_path)["y"]]
    assert maxima[-3:] == [4, 6, 8]


# ------------------------------------------------------------------ the graph


class Block(nn.Module):
    def __init__(self) -> None:
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Any:
        with tk.name_scope("mixing"):
            x = self.layers[0](x) * 2.0
        return self.norm(self.layers[1](F.relu(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        self.body = nn.Sequential(Block(), nn.Dropout(0.5))
        self.free = nn.Parameter(tk.ones(3))

    def forward(self, x: Tensor, y: Tensor) -> Any:
        with tk.name_scope("end"):
            return self.body(self.body(x)) + self.free * y


def graph_of(folder: Path, model: nn.Module, inputs: Any) -> dict[str, Any]:
    with tk.SummaryWriter(folder) as writer:
        writer.add_graph(model, inputs)
    return {node.name: node for node in one(folder, "").node}


def test_the_graph_has_the_scopes_of_modules_and_names(tmp_path: Path) -> None:
    nodes = graph_of(tmp_path, Net(), (tk.ones(2, 3), np.ones((2, 3), np.float32)))
    block = "Net/end/Sequential[body]/Block[0]"
    mixing = f"{block}/mixing/ModuleList[layers]/Linear[0]"
    second = f"{block}/ModuleList[layers]/Linear[1]"
    assert {name: list(node.input) for name, node in nodes.items() if "norm" not in name} == {
        "input/x": [], "input/y": [], "Net/free": [],
        f"{mixing}/weight": [], f"{mixing}/bias": [], f"{second}/weight": [], f"{second}/bias": [],
        f"{mixing}/linear": ["input/x", f"{mixing}/weight", f"{mixing}/bias"],
        f"{block}/mixing/multiply": [f"{mixing}/linear"],
        f"{block}/relu": [f"{block}/mixing/multiply"],
        f"{second}/linear": [f"{block}/relu", f"{second}/weight", f"{second}/bias"],
        f"{mixing}/linear_1": [
            f"{block}/BatchNorm1d[norm]/add_1", f"{mixing}/weight", f"{mixing}/bias",
        ],
        f"{block}/mixing/multiply_1": [f"{mixing}/linear_1"],
        f"{block}/relu_1": [f"{block}/mixing/multiply_1"],
        f"{second}/linear_1": [f"{block}/relu_1", f"{second}/weight", f"{second}/bias"],
        "Net/end/multiply": ["Net/free", "input/y"],
        "Net/end/add": [f"{block}/BatchNorm1d[norm]/add_3", "Net/end/multiply"],
        "output": ["Net/end/add"],
    }  # fmt: skip


def test_every_input_of_a_node_is_a_node_and_names_are_unique(tmp_path: Path) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_graph(Net(), (tk.ones(2, 3), tk.ones(2, 3)))
    nodes = one(tmp_path, "").node
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names) > 20
    for number, node in enumerate(nodes):
        assert set(node.input) <= set(names[:number])


def test_nodes_have_shape_dtype_line_and_parameters(tmp_path: Path) -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x + 1.5).sum(1, keepdims=True)

    nodes = graph_of(tmp_path, Sums(), np.ones((2, 3)))
    assert list(nodes) == ["input", "Sums/add", "Sums/sum", "output"]
    attributes = nodes["Sums/sum"].attr
    (shape,) = attributes["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [2, 1]
    assert attributes["dtype"].s == b"float64"
    assert b"test_tensorboard.py" in attributes["line"].s
    assert attributes["axis"].s in (b"1", b"(1,)")
    assert nodes["Sums/add"].attr["input_1"].s == b"1.5"


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_a_graph(name: str) -> None:
    sample = LAYERS[name]
    example = sample.example(np.random.default_rng(0))
    nodes = tensorboard._nodes_of(sample.make(), (example,))
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names)
    assert {name.partition("/")[0].partition("_")[0] for name in names} <= {
        "input", "output", sample.kind,
    }  # fmt: skip


def test_arguments_may_be_structures(tmp_path: Path) -> None:
    class Chooses(nn.Module):
        def forward(self, pair: Any, twice: bool) -> Any:
            return pair["a"] * 2.0 if twice else pair["b"][0]

    given = {"a": tk.ones(2), "b": [np.ones(3, np.float32)]}
    assert "Chooses/multiply" in graph_of(tmp_path / "twice", Chooses(), (given, True))
    nodes = graph_of(tmp_path / "once", Chooses(), (given, False))
    assert len(nodes) == 3
    assert [dim.size for dim in nodes["output"].attr["_output_shapes"].list.shape[0].dim] == [3]


def test_drawing_the_graph_changes_nothing() -> None:
    net = Net()
    net.body[1].eval()
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {name: tensor.data.copy() for name, tensor in tensors.items()}
    modes = [module.training for module in net.modules()]
    state = tk.random.default_generator().bit_generator.state
    tensorboard._nodes_of(net, (tk.ones(2, 3), tk.ones(2, 3)))
    assert [module.training for module in net.modules()] == modes
    assert tk.random.default_generator().bit_generator.state == state
    assert all(module._hooks is None for module in net.modules())
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.data, before[name])
        assert tensor.grad is None


def test_drawing_the_graph_draws_no_random_numbers() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + F.dropout(tk.ones(2), 0.5, training=True)

    tk.manual_seed(3)
    expected = tk.rand(2).data
    tk.manual_seed(3)
    assert len(tensorboard._nodes_of(Noisy(), (tk.ones(2),))) > 2
    np.testing.assert_array_equal(tk.rand(2).data, expected)


def test_parameters_of_a_module_called_twice_stand_where_it_is_called_first(
    tmp_path: Path,
) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            self.part = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            with tk.name_scope("first"):
                x = self.part(x)
            with tk.name_scope("second"):
                return self.part(x)

    nodes = graph_of(tmp_path, Twice(), tk.ones(1, 2))
    assert "Twice/first/Linear[part]/weight" in nodes
    assert list(nodes["Twice/second/Linear[part]/linear"].input)[1:] == [
        "Twice/first/Linear[part]/weight",
        "Twice/first/Linear[part]/bias",
    ]


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda x: x if x.sum() > 0 else -x, "add_graph: .*needs the elements of a Tensor"),
        (lambda x: Tensor(x.data * 2), r"can be recorded, got one where .*\.data"),
    ],
)
def test_a_model_that_cannot_be_recorded_is_an_error(
    forward: Any, said: str, tmp_path: Path
) -> None:
    class Other(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return forward(x)

    net = Other()
    with tk.SummaryWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match=said):
            writer.add_graph(net, tk.ones(2))
        with pytest.raises(ValueError, match=r"expected \(\.\.\., 3\), got \(2, 5\)"):
            writer.add_graph(nn.Linear(3, 2), tk.ones(2, 5))
    assert net.training
    assert net._hooks is None


def test_the_nodes_can_be_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_graph(nn.Sequential(nn.Linear(2, 1)), tk.ones(4, 2), verbose=True)
    layer = "Sequential/Linear[0]"
    assert capsys.readouterr().out.splitlines() == [
        "input = Placeholder()  (4, 2)",
        f"{layer}/weight = Parameter()  (1, 2)",
        f"{layer}/bias = Parameter()  (1,)",
        f"{layer}/linear = linear(input, {layer}/weight, {layer}/bias)  (4, 1)",
        f"output = Output({layer}/linear)  (4, 1)",
    ]


# ------------------------------------------------------------------ in a training


def test_as_a_callback_of_fit(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    pair = inputs, inputs[:, :3].argmax(1)
    net = nn.Sequential(nn.Linear(4, 3))
    history = tk.fit(
        net, pair, F.cross_entropy, optim.SGD(net.parameters(), lr=0.1), 4, validation=pair,
        metrics="accuracy", progress=False,
        callbacks=[tensorboard.TensorBoard(tmp_path, histogram_freq=2)],
    )  # fmt: skip
    found = read_back(tmp_path)
    for name, values in history.items():
        assert found[name] == [(n, np.float32(value)) for n, value in enumerate(values, 1)]
    assert [step for step, _ in found["0/weight"]] == [2, 4]
    assert [step for step, _ in found["0/bias/gradient"]] == [2, 4]
    assert found["0/weight"][-1][1].max == net[0].weight.data.max()
    with pytest.raises(ValueError, match="histogram_freq >= 0, got -1"):
        tensorboard.TensorBoard(tmp_path, histogram_freq=-1)


def test_a_training_that_diverges_has_no_histograms_and_goes_on(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, np.nan)
    board = tensorboard.TensorBoard(tmp_path, histogram_freq=1)
    x = np.ones((4, 1), np.float32)
    sgd = optim.SGD(net.parameters(), lr=0.1)
    tk.fit(net, (x, x), F.mse_loss, sgd, 2, callbacks=[board], progress=False, compile=False)
    found = read_back(tmp_path)
    assert [np.isnan(value) for _, value in found["loss"]] == [True, True]
    assert set(found) == {"loss"}
