"""Operators of the loader's table beside ONNX Runtime, one node each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_checks import arrays_of, assert_close, run_onnx

import tinygrad_kr as tk
from tinygrad_kr.export.layers import LAYERS

onnx = pytest.importorskip("onnx")

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((2, 4, 7, 6)).astype(np.float32)
ROWS = X[:, :, 0, 0].copy()
W = RANDOM.standard_normal((6, 2, 3, 2)).astype(np.float32)
T = RANDOM.standard_normal((4, 3, 3, 2)).astype(np.float32)
INTS, OTHERS = np.array([7, -7, 8, -8]), np.array([2, 2, -3, -3])


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


DEEP = RANDOM.standard_normal((2, 12, 3, 4)).astype(np.float32)
COLUMNS = RANDOM.standard_normal((2, 8, 12)).astype(np.float32)
POOL = {"kernel_shape": [3, 2], "strides": [2, 2]}
Case = tuple[str, list[Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "Div of integers": ("Div", [INTS, OTHERS], {}),
    "Mod": ("Mod", [INTS, OTHERS], {}),
    "fmod": ("Mod", [X, X[::-1].copy()], {"fmod": 1}),
    "Clip": ("Clip", [X, np.float32(-0.5), np.float32(0.7)], {}),
    "Clip above": ("Clip", [X, None, np.float32(0.7)], {}),
    "HardSigmoid": ("HardSigmoid", [X], {"alpha": 0.3}),
    "HardSwish": ("HardSwish", [X], {}),
    "Selu": ("Selu", [X], {"alpha": 1.5, "gamma": 1.1}),
    "Celu": ("Celu", [X], {"alpha": 0.7}),
    "Elu": ("Elu", [X], {"alpha": 0.7}),
    "LeakyRelu": ("LeakyRelu", [X], {"alpha": 0.3}),
    "PRelu": ("PRelu", [X, floats(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)], {}),
    "Softsign": ("Softsign", [X], {}),
    "Mish": ("Mish", [X], {}),
    "Gelu": ("Gelu", [X], {"approximate": "tanh"}),
    "IsInf": ("IsInf", [floats(np.inf, -np.inf, 1)], {"detect_negative": 0}),
    "IsInf below": ("IsInf", [floats(np.inf, -np.inf, 1)], {"detect_positive": 0}),
    "Cast": ("Cast", [X], {"to": 7}),
    "CastLike": ("CastLike", [X, ints(1)], {}),
    "Sum": ("Sum", [X, X, X[:1]], {}),
    "Mean": ("Mean", [X, X[:1]], {}),
    "Max": ("Max", [X, X[::-1].copy(), X[:1]], {}),
    "Gemm": ("Gemm", [ROWS, ROWS, np.eye(4, dtype="f")], {"alpha": 2.0, "beta": 0.5, "transA": 1}),
    "Gemm, b transposed": ("Gemm", [ROWS, ROWS], {"transB": 1}),
    "Conv": ("Conv", [X, W, W[:, 0, 0, 0].copy()], {"group": 2, "pads": [1, 0, 2, 1]}),
    "Conv, upper": ("Conv", [X, W], {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "Conv, lower": ("Conv", [X, W], {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    "Conv, valid": ("Conv", [X, W], {"group": 2, "auto_pad": "VALID", "dilations": [2, 3]}),
    "Conv of rows": ("Conv", [X[..., 0].copy(), W[:, :, 0].copy()], {"group": 2}),
    "ConvTranspose": (
        "ConvTranspose",
        [X, T, floats(1, 2, 3)],
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]},
    ),
    "MaxPool": ("MaxPool", [X], {**POOL, "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    "MaxPool, dilated": ("MaxPool", [X], {**POOL, "dilations": [2, 1]}),
    "AveragePool": ("AveragePool", [X], {**POOL, "pads": [1, 0, 1, 1]}),
    "AveragePool, ceil": (
        "AveragePool",
        [X],
        {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
    ),
    "AveragePool with padding": (
        "AveragePool",
        [X],
        {**POOL, "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ),
    "GlobalAveragePool": ("GlobalAveragePool", [X], {}),
    "GlobalMaxPool": ("GlobalMaxPool", [X], {}),
    "BatchNormalization": (
        "BatchNormalization",
        [X, *(np.abs(ROWS[0]) + i for i in range(4))],
        {"epsilon": 0.01},
    ),
    "InstanceNormalization": ("InstanceNormalization", [X, ROWS[0], ROWS[1]], {}),
    "LayerNormalization": ("LayerNormalization", [X, X[0, 0], X[1, 0]], {"axis": -2}),
    "Flatten": ("Flatten", [X], {"axis": -1}),
    "Reshape": ("Reshape", [X, ints(0, -1, 3)], {}),
    "Squeeze": ("Squeeze", [X[:1]], {}),
    "Squeeze, axes": ("Squeeze", [X[:1, :1].copy(), ints(-3)], {}),
    "Unsqueeze": ("Unsqueeze", [X, ints(0, -1)], {}),
    "Expand": ("Expand", [X[:1], ints(3, 1, 4, 1, 6)[[0, 2, 1, 4]]], {}),
    "Tile": ("Tile", [ROWS, ints(2, 3)], {}),
    "Slice, from before the start": ("Slice", [X, ints(-9), ints(-99), ints(3), ints(-1)], {}),
    "Slice": ("Slice", [X, ints(-2, 5), ints(2**40, -100), ints(1, 2), ints(1, -2)], {}),
    "Gather": ("Gather", [X, ints(-1, 0)], {"axis": -2}),
    "Gather a number": ("Gather", [X, np.array(-1)], {"axis": 1}),
    "GatherElements": ("GatherElements", [ROWS, np.array([[1, 0]])], {"axis": 1}),
    "GatherND": ("GatherND", [X, np.array([[0, 1], [1, 3]])], {}),
    "ScatterElements": (
        "ScatterElements",
        [ROWS, np.array([[1, 0]]), np.array([[5.0, 6.0]], np.float32)],
        {"axis": 1},
    ),
    "ScatterElements, add": (
        "ScatterElements",
        [ROWS, np.array([[1, 1]]), np.array([[5.0, 6.0]], np.float32)],
        {"axis": 1, "reduction": "add"},
    ),
    "Pad": ("Pad", [X, ints(0, 1, 0, 2, 0, 0, 3, 1), np.float32(7)], {}),
    "Pad some axes": ("Pad", [X, ints(1, 2), None, ints(-2)], {}),
    "Pad, edge": ("Pad", [X, ints(0, 0, 0, 2, 0, 0, 0, 1)], {"mode": "edge"}),
    "Pad, reflect": ("Pad", [X, ints(0, 0, 1, 2, 0, 0, 0, 1)], {"mode": "reflect"}),
    "Trilu": ("Trilu", [X, np.array(1)], {"upper": 0}),
    "CumSum": ("CumSum", [X, np.array(1)], {"exclusive": 1, "reverse": 1}),
    "DepthToSpace": ("DepthToSpace", [DEEP], {"blocksize": 2}),
    "DepthToSpace, as PixelShuffle": ("DepthToSpace", [DEEP], {"blocksize": 2, "mode": "CRD"}),
    "SpaceToDepth": ("SpaceToDepth", [X[:, :, :6].copy()], {"blocksize": 3}),
    "Col2Im": ("Col2Im", [COLUMNS, ints(4, 5), ints(2, 2)], {}),
    "Col2Im, all": (
        "Col2Im",
        [COLUMNS[:, :, :4].copy(), ints(4, 5), ints(2, 2)],
        {"strides": [3, 2], "pads": [1, 0, 1, 0], "dilations": [2, 1]},
    ),
    "ArgMax": ("ArgMax", [X], {"axis": -1, "keepdims": 0}),
    "Size": ("Size", [X], {}),
    "Range": ("Range", [np.array(7), np.array(-2), np.array(-3)], {}),
    "ReduceL1": ("ReduceL1", [X, ints(1, -1)], {"keepdims": 0}),
    "ReduceL2": ("ReduceL2", [X, ints(1, -1)], {}),
    "ReduceLogSum": ("ReduceLogSum", [np.abs(X), ints(1)], {}),
    "ReduceLogSumExp": ("ReduceLogSumExp", [X], {}),
    "ReduceSumSquare": ("ReduceSumSquare", [X, ints(0)], {}),
    "ReduceProd": ("ReduceProd", [X, ints(2, 3)], {"keepdims": 0}),
    "ReduceSum of nothing": ("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    "Softmax": ("Softmax", [X], {"axis": 1}),
    "Einsum": ("Einsum", [X, X], {"equation": "nchw,nchv->nwv"}),
    "LSTM, reverse": (
        "LSTM",
        [
            X[0],
            RANDOM.standard_normal((1, 12, 6)).astype("f"),
            RANDOM.standard_normal((1, 12, 3)).astype("f"),
        ],
        {"hidden_size": 3, "direction": "reverse"},
    ),
    "RNN, relu": (
        "RNN",
        [X[0], RANDOM.standard_normal((1, 3, 6)).astype("f"), np.full((1, 3, 3), 0.2, "f")],
        {"hidden_size": 3, "activations": ["Relu"]},
    ),
}


PLACES = ["half_pixel", "pytorch_half_pixel", "align_corners"]
IMAGES = {3: X[..., 0].copy(), 4: X, 5: X.reshape(2, 4, 7, 2, 3)}
FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CENTRE = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}


def resized(rank: int, by: str, *, some: bool = False, **attributes: Any) -> Case:
    """A case of Resize: the last axes by a scale or to a size; `some` names only these."""
    last = {"scales": [2.0, 1.5, 0.5][: rank - 2], "sizes": [9, 1, 5][: rank - 2]}[by]
    kept = {"scales": [1.0, 1.0], "sizes": [2, 4]}[by]
    numbers = np.array(last if some else kept + last, "f" if by == "scales" else "i8")
    more = {"axes": list(range(2, rank))} if some else {}
    given = [None, numbers] if by == "scales" else [None, None, numbers]
    return "Resize", [IMAGES[rank], *given], {**attributes, **more}


RESIZED = {
    **{f"{by}, floor": resized(4, by, mode="nearest", **FLOOR) for by in ("scales", "sizes")},
    "centre": resized(4, "scales", mode="nearest", **CENTRE),
    "some axes": resized(4, "scales", some=True, mode="linear"),
    "sizes of some axes": resized(4, "sizes", some=True, mode="linear"),
    **{
        f"{mode} of {rank}, {by}, {places}": resized(
            rank, by, mode=mode, coordinate_transformation_mode=places
        )
        for mode, rank in (("linear", 3), ("linear", 4), ("linear", 5), ("cubic", 4))
        for by in ("scales", "sizes")
        for places in PLACES
    },
}
CASES |= {f"Resize, {name}": case for name, case in RESIZED.items()}


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    kind, arrays, attributes = CASES[name]
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    given = {n: np.asarray(a) for n, a in zip(names, arrays, strict=True) if n}
    first, *rest = given
    helper = onnx.helper
    info = helper.make_tensor_value_info
    number = helper.np_dtype_to_tensor_dtype
    node = helper.make_node(kind, names, ["y"], **attributes)
    kinds = {"IsInf": 9, "ArgMax": 7, "Size": 7, "Cast": 7, "CastLike": 7}
    kept = [onnx.numpy_helper.from_array(given[n], n) for n in rest]
    inputs = [info(first, number(given[first].dtype), given[first].shape)]
    outputs = [info("y", kinds.get(kind, number(given[first].dtype)), None)]
    graph = helper.make_graph([node], "g", inputs, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    expected = run_onnx(tmp_path / "a.onnx", given[first])
    assert_close(arrays_of(tk.load_onnx(tmp_path / "a.onnx")(given[first])), expected)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (resized(4, "scales", mode="nearest"), "as torch.onnx.export writes it, got nearest, half"),
        (resized(3, "scales", mode="cubic"), "as torch.onnx.export writes it, got cubic, half_pix"),
        (resized(4, "scales", mode="linear", antialias=1), "Resize without other options"),
        (resized(4, "scales", mode="cubic", cubic_coeff_a=-0.5), "Resize without other options"),
        (("Resize", [X, None, floats(1, 2, 1, 1)], {"mode": "linear"}), "keeps batch and channel"),
        (("Resize", [X, None, None, ints(2, 4, 2**20, 2**20)], {"mode": "linear"}), "at most 21"),
        (("Col2Im", [COLUMNS, ints(4, 5), ints(2, 2)], {"pads": [1, 0, 0, 0]}), "equal pads"),
        (("Col2Im", [COLUMNS, ints(2**20, 2**20), ints(2, 2)], {}), "at most 2147483648 elements"),
    ],
)
def test_what_pytorch_does_not_write_is_refused(case: Case, said: str) -> None:
    kind, (first, *rest), attributes = case
    with pytest.raises(ValueError, match=f"^load_onnx: expected .*{said}"):
        LAYERS[kind](tk.tensor(first), *rest, **attributes)


@pytest.mark.parametrize(
    "more",
    [{"value_float": 1.5}, {"value_floats": [1.5, 2.0]}, {"value_int": 3}, {"value_ints": [3]}],
)
def test_constants_in_every_form(more: Any, tmp_path: Path) -> None:
    helper = onnx.helper
    nodes = [
        helper.make_node("Constant", [], ["c"], **more),
        helper.make_node("Cast", ["c"], ["f"], to=1),
        helper.make_node("Shape", ["x"], ["s"], start=1),
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("Add", ["x", "f"], ["t"]),
        helper.make_node("Sub", ["t", "z"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [info("x", 1, ["n", 2])], [info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    x = np.ones((3, 2), np.float32)
    expected = run_onnx(tmp_path / "a.onnx", x)
    assert_close(arrays_of(tk.load_onnx(tmp_path / "a.onnx")(x)), expected)
