"""Damaged, foreign and hostile files: a typed error that names the file, and no memory for lies."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_checks import arrays_of, assert_close

import tinygrad_kr as tk
from tinygrad_kr import nn
from tinygrad_kr.export import OnnxError, layers, protobuf

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")

X = np.ones((2, 3), np.float32)


def a_file(path: Path) -> Any:
    """A small net's file, and its protobuf."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    tk.export.onnx(net, X, path)
    return onnx.load(path)


def made(path: Path, *nodes: Any, opset: int = 18, initializers: Any = (), **more: Any) -> Path:
    """A file of a graph x -> y."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", 1, ["n", 3])], [info("y", 1, None)], initializers
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, match: str) -> None:
    with pytest.raises(OnnxError, match=match) as caught:
        tk.load_onnx(path)
    assert str(caught.value).startswith(f"load_onnx: {path}: expected ")


# ------------------------------------------------------------------ damage


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    a_file(path)
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(OnnxError, match=r"net\.onnx"):
            tk.load_onnx(path)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_are_an_error_or_a_model(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    a_file(path)
    data = path.read_bytes()
    random = np.random.default_rng(seed)
    kinds = {"refused": 0, "read": 0}
    for _ in range(400):
        changed = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            changed[place] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        try:
            model = tk.load_onnx(path)
        except OnnxError as error:
            assert str(path) in str(error)
            kinds["refused"] += 1
            continue
        kinds["read"] += 1
        assert all(array.size < 100 for array in model.state_dict().values())
    assert min(kinds.values()) > 20


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"PK\x03\x04 not ONNX", "글".encode() * 50, b"\x08\x08"]
)
def test_other_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    refused(tmp_path / "x.onnx", "an ONNX model")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        tk.load_onnx(tmp_path / "none.onnx")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        refused(path, "an ordinary file")


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_file(tmp_path / "net.onnx")
    monkeypatch.setattr(protobuf, "MOST_BYTES", 100)
    refused(tmp_path / "net.onnx", "a file of at most 100 bytes")


def changed(change: Callable[[Any], None], path: Path) -> Path:
    proto = a_file(path)
    change(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def _of(tensor: Any, **fields: Any) -> None:
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "too long": (lambda p: _of(p.graph.initializer[0], dims=[2**40, 2**20]), "bytes for the init"),
    "too short": (lambda p: _of(p.graph.initializer[0], dims=[1, 1]), r"4 bytes for .* got 48"),
    "negative": (lambda p: _of(p.graph.initializer[0], dims=[-4, -3]), "sizes of at least 0"),
    "no bytes": (lambda p: p.graph.initializer[0].ClearField("raw_data"), "12 numbers"),
    "numbers of another type": (
        lambda p: _of(p.graph.initializer[0], data_type=8),
        r"floats, integers or truth values .* as the initializer '0\.weight', got STRING",
    ),
    "bfloat16": (
        lambda p: _of(p.graph.initializer[0], data_type=16),
        "got BFLOAT16. Export the net in float32",
    ),
    "a type of none": (lambda p: _of(p.graph.initializer[0], data_type=99), "data type 99"),
    "twice": (
        lambda p: _of(p.graph.initializer[1], name=p.graph.initializer[0].name),
        "names of their own",
    ),
    "a part of a name": (
        lambda p: (
            _of(p.graph.initializer[0], name="0"),
            p.graph.node[0].input.__setitem__(1, "0"),
        ),
        "names of initializers",
    ),
    "a method's name": (
        lambda p: (
            _of(p.graph.initializer[0], name="forward"),
            p.graph.node[0].input.__setitem__(1, "forward"),
        ),
        "names of initializers",
    ),
    "an unknown input": (
        lambda p: p.graph.node[0].input.__setitem__(0, "nowhere"),
        "inputs of Gemm 'gemm' that come before it, got 'nowhere'",
    ),
    "a loop": (
        lambda p: p.graph.node[0].input.__setitem__(0, p.graph.output[0].name),
        "come before it",
    ),
    "a value twice": (
        lambda p: p.graph.node[1].output.__setitem__(0, p.graph.node[0].output[0]),
        "each value once",
    ),
    "an input twice": (lambda p: p.graph.input.extend([*p.graph.input]), "inputs with names of"),
    "an unknown output": (lambda p: _of(p.graph.output[0], name="z"), "outputs that nodes compute"),
    "no nodes": (lambda p: p.graph.ClearField("node"), "nodes and outputs"),
    "an unknown attribute": (
        lambda p: _of(p.graph.node[0].attribute[0], name="transC"),
        "inputs and attributes that Gemm 'gemm' has, got .*'transC'",
    ),
    "too many inputs": (
        lambda p: p.graph.node[0].input.extend(["", "", ""]),
        "inputs and attributes",
    ),
    "an old opset": (lambda p: _of(p.opset_import[0], version=9), "opset 13 to 24, got 9"),
    "an opset to come": (lambda p: _of(p.opset_import[0], version=99), "got 99"),
    "metadata": (lambda p: _of(p.metadata_props[0], value="{"), "a list of names"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    change, message = CHANGES[name]
    refused(changed(change, tmp_path / "net.onnx"), message)


def test_a_lying_length_allocates_nothing(tmp_path: Path) -> None:
    path = changed(CHANGES["too long"][0], tmp_path / "net.onnx")
    tracemalloc.start()
    refused(path, "bytes for the initializer")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize("kind", ["Range", "Tile", "Pad", "Expand", "ConstantOfShape"])
def test_a_size_in_a_node_allocates_nothing_absurd(kind: str, tmp_path: Path) -> None:
    number = onnx.numpy_helper.from_array
    far = np.array(2**40)
    given = {
        "Range": [np.array(0), far, np.array(1)],
        "Tile": [np.array([2**20, 2**20])],
        "Pad": [np.array([0, 0, 2**40, 0])],
        "Expand": [np.array([2**40, 1, 1])],
        "ConstantOfShape": [np.array([2**40])],
    }[kind]
    names = [f"n{i}" for i in range(len(given))]
    inputs = names if kind in ("Range", "ConstantOfShape") else ["x", *names]
    initializers = [number(array, name) for array, name in zip(given, names, strict=True)]
    path = made(
        tmp_path / "a.onnx", helper.make_node(kind, inputs, ["y"]), initializers=initializers
    )
    with pytest.raises(ValueError, match="at most 2147483648 elements"):
        tk.load_onnx(path)(X)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_windows_allocate_nothing_absurd(kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"strides": [2**40]} if kind == "ConvTranspose" else {}
    options = options or {"pads": [2**40, 2**40]}
    weights = [] if "Pool" in kind else ["w"]
    node = helper.make_node(kind, ["x", *weights], ["y"], kernel_shape=[2], **options)
    weight = onnx.numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "w")
    path = made(tmp_path / "a.onnx", node, initializers=[weight])
    with pytest.raises(ValueError, match="at most 2147483648 elements"):
        tk.load_onnx(path)(np.ones((1, 1, 4), np.float32))


# ------------------------------------------------------------------ operators


def test_other_operators_are_listed_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "x"], ["a"]),
        helper.make_node("FusedMatMul", ["x", "x"], ["b"], domain="com.microsoft"),
        helper.make_node("If", ["x"], ["c"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    refused(
        made(tmp_path / "a.onnx", *nodes),
        r"ai\.onnx\.If \(version 18\), ai\.onnx\.NonMaxSuppression \(version 18\), "
        r"com\.microsoft\.FusedMatMul \(version unknown\)",
    )


OPTIONS = {
    "training": helper.make_node(
        "BatchNormalization", ["x", "s", "s", "s", "s"], ["y"], training_mode=1
    ),
    "GRU": helper.make_node("GRU", ["r", "w", "w"], ["y"], hidden_size=1),
    "activations": helper.make_node(
        "LSTM", ["r", "w", "w"], ["y"], hidden_size=1, activations=["Relu", "Tanh", "Tanh"]
    ),
    "layout": helper.make_node("LSTM", ["r", "w", "w"], ["y"], hidden_size=1, layout=1),
    "pad": helper.make_node("Pad", ["x", "p"], ["y"], mode="mirror"),
    "dropout": helper.make_node("Dropout", ["x", "", "on"], ["y"]),
    "a kernel of another size": helper.make_node("Conv", ["r", "r"], ["y"], kernel_shape=[2]),
    "auto_pad": helper.make_node("Conv", ["r", "r"], ["y"], auto_pad="MOST"),
    "few pads": helper.make_node("Conv", ["r", "r"], ["y"], pads=[1]),
    "pads below 0": helper.make_node("Conv", ["r", "r"], ["y"], pads=[-1, 0]),
    "fewer parts": helper.make_node("Split", ["x", "two"], ["y"], axis=1),
    "other parts": helper.make_node("Split", ["x"], ["y", "z"], axis=1, num_outputs=3),
    "an endless range": helper.make_node("Range", ["zero", "inf", "one"], ["y"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_not_read_are_named_when_they_run(name: str, tmp_path: Path) -> None:
    tensors = {"s": np.ones(3), "w": np.ones((1, 4, 1)), "r": np.ones((1, 1, 1))}
    arrays = [onnx.numpy_helper.from_array(a.astype("f"), n) for n, a in tensors.items()]
    plain = {
        "p": np.zeros(4, np.int64), "on": np.array(True), "two": np.array([1, 2]),
        "zero": np.float32(0), "inf": np.float32(np.inf), "one": np.float32(1),
    }  # fmt: skip
    arrays += [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in plain.items()]
    path = made(tmp_path / "a.onnx", OPTIONS[name], initializers=arrays)
    with pytest.raises(ValueError, match="load_onnx: expected") as caught:
        tk.load_onnx(path)(X)
    assert str(path) in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Dropout", ["x"], ["kept", "mask"]),
        helper.make_node("MaxPool", ["x"], ["kept", "mask"], kernel_shape=[1]),
        helper.make_node("Relu", ["x"], ["kept", "mask"]),
    ],
    ids=lambda node: node.op_type,
)
def test_an_output_that_is_not_computed_may_not_be_read(node: Any, tmp_path: Path) -> None:
    used = helper.make_node("Identity", ["mask"], ["y"])
    refused(made(tmp_path / "a.onnx", node, used), f"outputs of {node.op_type} .* a use of 'mask'")
    unused = helper.make_node("Identity", ["kept"], ["y"])
    tk.load_onnx(made(tmp_path / "a.onnx", node, unused))


@pytest.mark.parametrize("value", [1.0, -np.inf, np.nan])
def test_what_holds_no_finite_number_is_a_buffer(value: float, tmp_path: Path) -> None:
    mask = onnx.numpy_helper.from_array(np.array([0.0, 0.0, value], np.float32), "net.mask")
    path = made(
        tmp_path / "a.onnx", helper.make_node("Add", ["x", "net.mask"], ["y"]), initializers=[mask]
    )
    net = tk.load_onnx(path)
    is_trained = bool(np.isfinite(value))
    assert [name for name, _ in net.named_parameters()] == ["net.mask"] * is_trained
    assert [name for name, _ in net.named_buffers()] == ["net.mask"] * (not is_trained)


def test_integers_whose_shape_alone_is_read_are_a_buffer(tmp_path: Path) -> None:
    places = onnx.numpy_helper.from_array(np.arange(3), "net.places")
    nodes = [
        helper.make_node("Add", ["net.places", "net.places"], ["twice"]),
        helper.make_node("Shape", ["twice"], ["sizes"]),
        helper.make_node("Expand", ["x", "sizes"], ["y"]),
    ]
    net = tk.load_onnx(made(tmp_path / "a.onnx", *nodes, initializers=[places]))
    assert [*net.state_dict()] == ["net.places"]
    assert net(X).shape == X.shape


def test_a_result_that_depends_on_no_input_is_a_tensor(tmp_path: Path) -> None:
    tk.export.onnx(lambda x: (x, tk.ones(2)), X, tmp_path / "a.onnx")
    result = tk.load_onnx(tmp_path / "a.onnx")(X)[1]
    assert isinstance(result, tk.Tensor)
    assert result.tolist() == [1, 1]


# ------------------------------------------------------------------ data in a second file


def external(folder: Path, **changes: Any) -> Path:
    """A net whose weights lie in `net.data`; `changes` are made to the entries of the first."""
    path = folder / "net.onnx"
    proto = a_file(path)
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key in changes:
            entry.value = changes.pop(entry.key)
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_second_file_in_the_folder_is_read(tmp_path: Path) -> None:
    path = external(tmp_path)
    inside = tk.load_onnx(path).state_dict()
    whole = onnx.load(path)
    for tensor in whole.graph.initializer:
        assert np.array_equal(inside[tensor.name], onnx.numpy_helper.to_array(tensor))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": "../outside.data"}, "a file in the same folder"),
        ({"location": "/etc/hostname"}, "a file in the same folder"),
        ({"location": "a/../../outside.data"}, "a file in the same folder"),
        ({"location": "..\\outside.data"}, "a file in the same folder"),
        ({"location": "C:outside.data"}, "a file in the same folder"),
        ({"location": ""}, "a file in the same folder"),
        ({"location": "link.data"}, "a file in the same folder .* got a link"),
        ({"location": "missing.data"}, "Copy it beside the model"),
        ({"location": "folder"}, "an ordinary file"),
        ({"location": "pipe"}, "an ordinary file"),
        ({"offset": str(2**60)}, r"48 bytes in 'net\.data'"),
        ({"offset": "-1"}, "48 bytes"),
        ({"offset": "many"}, "numbers as offset and length"),
        ({"length": str(2**60)}, "48 bytes"),
        ({"length": "1"}, "48 bytes"),
    ],
)
def test_nothing_else_is_opened(changes: Any, message: str, tmp_path: Path) -> None:
    inner = tmp_path / "models"
    (inner / "folder").mkdir(parents=True)
    (tmp_path / "outside.data").write_bytes(b"\0" * 1000)
    (inner / "link.data").symlink_to(tmp_path / "outside.data")
    os.mkfifo(inner / "pipe")
    refused(external(inner, **changes), message)


# ------------------------------------------------------------------ the model


def test_the_numbers_of_other_fields_are_read(tmp_path: Path) -> None:
    """Tensors whose numbers are fields of the protobuf instead of bytes."""
    tensors = [
        helper.make_tensor("f", 1, [3], [0.5, 1.5, -2.0]),
        helper.make_tensor("h", 10, [3], [1.5, -2.0, 0.25]),
        helper.make_tensor("b", 9, [3], [True, False, True]),
        helper.make_tensor("i", 7, [1], [-1]),
        helper.make_tensor("u", 13, [1], [7]),
    ]
    path = made(
        tmp_path / "a.onnx",
        helper.make_node("Cast", ["h"], ["h32"], to=1),
        helper.make_node("Cast", ["u"], ["u32"], to=1),
        helper.make_node("Where", ["b", "f", "h32"], ["w"]),
        helper.make_node("Add", ["x", "w"], ["s"]),
        helper.make_node("Add", ["s", "u32"], ["t"]),
        helper.make_node("Unsqueeze", ["t", "i"], ["y"]),
        initializers=tensors,
    )
    found = tk.load_onnx(path)(np.zeros((1, 3), np.float32))
    assert found.tolist() == [[[7.5], [5.0], [5.0]]]


def test_it_is_copied_and_pickled(tmp_path: Path) -> None:
    a_file(tmp_path / "net.onnx")
    model = tk.load_onnx(tmp_path / "net.onnx")
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(arrays_of(copy(X)), arrays_of(model(X)), 0)
        assert copy.get_parameter("0.weight") is not model.get_parameter("0.weight")


def test_another_number_of_inputs_is_an_error(tmp_path: Path) -> None:
    a_file(tmp_path / "net.onnx")
    with pytest.raises(TypeError, match=r"expected 1 inputs \(x\), got 2"):
        tk.load_onnx(tmp_path / "net.onnx")(X, X)


def test_every_operator_of_the_table_exists_in_onnx() -> None:
    kinds = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert {*layers.LAYERS} <= kinds
    assert {*layers.DECIDES_SHAPE, *layers.STATISTICS, *layers.FLAT} <= {*layers.LAYERS}
