"""What a notebook shows of a Tensor, a module, a compiled step, a sweep and a history."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import html, nn
from tinygrad_kr.language import cells as columns


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_KR_LANG", "en")


def parsed(text: str) -> ElementTree.Element:
    """The HTML as a tree; it raises where a text is not escaped or an element is not closed."""
    return ElementTree.fromstring(f"<body>{text}</body>")


def words(text: str) -> str:
    return " ".join(" ".join(parsed(text).itertext()).split())


def pictures(text: str) -> list[ElementTree.Element]:
    return [e for e in parsed(text).iter() if e.tag.endswith("svg")]


HOSTILE = '<script>alert("1")</script> & \'\x00\x1b\ud800'

# ------------------------------------------------------------------ the ground: html.py


@pytest.mark.parametrize(
    "made",
    [
        html.block(HOSTILE, html.line(HOSTILE), html.plain(HOSTILE)),
        html.table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        html.heat_map(np.eye(2), HOSTILE),
        html.curves({HOSTILE: [1.0, 2.0], "val_" + HOSTILE: [2.0, 3.0]}, title=HOSTILE),
        html.folded(HOSTILE, ""),
        html.interval(0.1, 0.2, 0.3, HOSTILE),
    ],
    ids=["block", "table", "heat_map", "curves", "folded", "interval"],
)
def test_every_text_is_escaped(made: str) -> None:
    assert "<script" not in made
    assert "<script>" in words(made)
    assert not re.search("[\x00\x1b\ud800]", made)
    made.encode("utf-8")


def test_every_picture_has_a_text() -> None:
    made = html.heat_map(np.eye(2), "eye") + html.curves({"loss": [3.0, None, np.inf, 1.0]})
    heat, curve = pictures(made)
    assert heat.get("role") == curve.get("role") == "img"
    assert "".join(heat[0].itertext()) == "eye"
    assert "".join(curve[0].itertext()) == "loss: loss 3 → 1 (1 … 3, NaN/inf 2; n = 4)"


def test_letters_have_the_notebooks_own_colour() -> None:
    """On a light and on a dark ground: no colour is fixed but those of cells and curves."""
    made = html.block("t", html.line("x"), html.plain("x"), html.table(["a"], [["b"]]))
    made += html.curves({"loss": [1.0, 2.0], "val_loss": [1.0, 3.0]})
    assert not re.findall(r"(?<![-\w])color:(?!inherit)", made)
    fills = set(re.findall(r'(?:fill|stroke)="([^"]*)"', made))
    assert fills <= {"none", "currentColor", *html.COLOURS}
    for colour in html.COLOURS:
        assert contrast(colour, "#ffffff") >= 3 and contrast(colour, "#111111") >= 3


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances, as WCAG defines it."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def cells(picture: ElementTree.Element) -> dict[str, int]:
    """The number of cells of each colour."""
    return {p.get("fill", ""): p.get("d", "").count("M") for p in picture.iter() if p.get("d")}


def test_the_cells_of_a_heat_map() -> None:
    (picture,) = pictures(html.heat_map(np.array([[-2.0, 0.0], [2.0, np.nan]]), ""))
    assert cells(picture) == {"#2166ac": 1, "#f7f7f7": 1, "#b2182b": 1, "#000": 1}
    paths = {p.get("fill"): p.get("d") for p in picture.iter() if p.get("d")}
    assert paths["#b2182b"] == "M0 1h1v1h-1z"  # the second row, the first column


def test_a_large_matrix_is_shown_as_means_of_blocks() -> None:
    matrix = np.zeros((640, 64))
    matrix[:, 62:] = [1.0, 3.0]  # the last column of blocks has the mean 2
    matrix[0, 0] = np.nan
    (picture,) = pictures(html.heat_map(matrix, ""))
    assert cells(picture) == {"#000": 1, "#b2182b": 32, "#f7f7f7": 32 * 31 - 1}


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 3)),
        np.full((2, 2), 1e308),
        np.full((2, 2), np.nan),
        np.array([[True, False]]),
        np.array([[2**62, -(2**62)]]),
        np.array([[6e4, -6e4]], np.float16),
        np.full((40, 40), -1e308),
    ],
    ids=["zeros", "large", "nan", "bool", "int64", "float16", "sums overflow"],
)
def test_heat_maps_of_odd_matrices(array: np.ndarray) -> None:
    (picture,) = pictures(html.heat_map(array, ""))
    assert sum(cells(picture).values()) == min(array.size, 1024)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (), (2, 2, 2)])
def test_what_is_no_matrix_has_no_heat_map(shape: tuple[int, ...]) -> None:
    assert html.heat_map(np.zeros(shape), "") == ""


def test_facts_read_all_elements_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
    array[0, 0, 1], array[2, 4, 6] = np.nan, -np.inf
    numbers = array[np.isfinite(array)]
    want = (0.0, 103.0, pytest.approx(numbers.mean(dtype=np.float64)), 1, 1, 103)
    for chunk in (1 << 20, 20, 4, 1):
        monkeypatch.setattr(html, "CHUNK", chunk)
        assert tuple(html.facts(array)) == want
        assert tuple(html.facts(array[:, ::-1].T)) == want


def test_facts_of_an_array_that_repeats_one_number() -> None:
    """10^12 elements by strides of 0: nothing is copied, nothing counted one by one."""
    found = html.facts(np.broadcast_to(np.float32(2.0), (10**6, 10**6)))
    assert found == (2.0, 2.0, 2.0, 0, 0, 10**12)
    assert html.facts(np.full((3, 3), 1e308)).mean == 1e308
    empty = html.facts(np.zeros((0, 3)))
    assert empty.finite == 0 and np.isnan(empty.low) and np.isnan(empty.mean)


# ------------------------------------------------------------------ curves


def test_validation_is_drawn_beside_training() -> None:
    made = html.curves({"loss": [1, 2], "val_loss": [1, 3], "accuracy": [0, 1]}, title="History")
    titles = [picture[0].text for picture in pictures(made)]
    assert [title.split(":")[0] for title in titles] == ["loss", "accuracy"]  # type: ignore[union-attr]
    assert "val_loss 1 → 3" in titles[0]  # type: ignore[operator]
    assert words(made).startswith("History")


def test_curves_together_share_an_axis() -> None:
    made = html.curves({"sigmoid": [1, 2], "ReLU": [1, 3]}, together=True)
    (picture,) = pictures(made)
    assert picture[0].text == "sigmoid 1 → 2 (1 … 2; n = 2); ReLU 1 → 3 (1 … 3; n = 2)"
    assert len(lines(made)) == 4  # two curves and two in the legend


def test_numbers_at_an_axis_differ() -> None:
    made = html.curves({"loss": [0.69312, 0.69314, 0.69317]})
    numbers = [e.text for e in parsed(made).iter() if e.get("text-anchor") == "end"]
    assert len(numbers) == len(set(numbers)) > 1


def lines(made: str) -> list[str]:
    """The path of each curve: a stroke of its own colour."""
    found = [p for p in parsed(made).iter() if p.get("stroke") in html.COLOURS]
    return [p.get("d", "") for p in found]


def test_a_number_that_is_not_finite_breaks_the_curve() -> None:
    (line,) = lines(html.curves({"loss": [1.0, 2.0, float("nan"), 3.0, None, 5.0, 6.0]}))
    assert line.count("M") == 3 and line.count("L") == 2
    made = html.curves({"loss": [1.0, None, 2.0]})
    assert len([e for e in parsed(made).iter() if e.tag.endswith("circle")]) == 2


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [0.0, 0.0],
        [float("nan")],
        [1e-320, 1.0],
        [1.0, 1e30, float("inf")],
        [-1e308, 1e308],
        [-1e-310, 1e-310],
        [5, np.float16(3.0)],
        [1e300, 1e301],
    ],
    ids=str,
)
def test_curves_of_odd_numbers(values: list[Any]) -> None:
    made = html.curves({"loss": values})
    numbers = re.findall(r"[ML](-?[\d.]+|nan|inf) (-?[\d.]+|nan|inf)", made)
    for x, y in numbers:
        assert 0 <= float(x) <= 330 and 0 <= float(y) <= 200
    assert len(pictures(made)) == (1 if values else 0)


def test_a_loss_of_many_orders_of_magnitude_stands_on_a_logarithmic_axis() -> None:
    (line,) = lines(html.curves({"loss": [1.0, 0.1, 0.01, 0.001]}))
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    assert np.ptp(np.diff(heights)) < 0.2  # equal steps, but for the rounding to a tenth


def test_many_points_keep_their_extremes() -> None:
    values = np.zeros(50_000)
    values[31_234] = 1.0
    (line,) = lines(html.curves({"loss": values}))
    assert line.count("L") < 400
    assert "26.0" in line  # the top of the picture


# ------------------------------------------------------------------ Tensor


def test_a_matrix() -> None:
    made = tk.tensor([[1.0, -2.0], [0.0, 3.0]], requires_grad=True)._repr_html_()
    assert words(made) == (
        "Tensor (2, 2), float32, requires_grad=True from -2 to 3, mean 0.5 "
        "heat map of (2, 2): from -2 to 3, mean 0.5 [[ 1., -2.], [ 0., 3.]]"
    )


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (2.5, "Tensor (), float32 2.5"),
        (np.zeros((0, 3), np.float32), "Tensor (0, 3), float32 empty"),
        ([True, False], "Tensor (2,), bool from 0 to 1, mean 0.5 [ True, False]"),
        (float("nan"), "Tensor (), float32 NaN: 1, inf: 0 nan"),
        (
            [[1.0, float("inf")], [float("nan"), -1.0]],
            "Tensor (2, 2), float32 from -1 to 1, mean 0; NaN: 1, inf: 1 heat map of (2, 2): "
            "from -1 to 1, mean 0; NaN: 1, inf: 1 [[ 1., inf], [nan, -1.]]",
        ),
        (np.array([[7]]), "Tensor (1, 1), int64 [[7]]"),
    ],
    ids=["0-d", "empty", "bool", "0-d NaN", "not finite", "one element"],
)
def test_other_tensors(data: Any, want: str) -> None:
    assert words(tk.Tensor(data)._repr_html_()) == want


def test_a_large_tensor_shows_no_more_than_a_small_one() -> None:
    made = tk.Tensor(np.broadcast_to(np.float32(1), (10**5, 10**6)))._repr_html_()
    assert len(made) < 20_000
    assert words(made).startswith("Tensor (100000, 1000000), float32 from 1 to 1, mean 1 heat map")
    assert "<details>" in made and words(made).count("values") == 1


def test_looking_changes_nothing() -> None:
    x = tk.tensor([[1.0, 2.0]], requires_grad=True)
    y = x * x
    before = (y._op, y._inputs, y._made, x._grad, x.data.tobytes())
    assert "op=multiply" in words(y._repr_html_())
    x._repr_html_()
    assert (y._op, y._inputs, y._made, x._grad, x.data.tobytes()) == before
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[2.0, 4.0]]


def test_in_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_KR_LANG", "ko")
    assert "평균" in words(tk.tensor([1.0, 2.0])._repr_html_())


def test_a_display_while_tracing_is_refused_as_print_is() -> None:
    def step(x: Any) -> Any:
        x._repr_html_()
        return x * 2

    with pytest.raises(tk.compile.CaptureError, match="a display"):
        tk.compile(step)(tk.ones(2))


# ------------------------------------------------------------------ Module


def test_a_module_is_its_table() -> None:
    made = nn.Sequential(nn.Linear(2, 3), nn.ReLU())._repr_html_()
    assert words(made) == (
        "Sequential layer type parameters bytes 0 Linear 9 36 1 ReLU - - "
        "parameters: 9 (9 trained, 0 frozen), float32 buffers: 0; all together 36 bytes "
        "Sequential(...) Sequential( (0): Linear(in_features=2, out_features=3, bias=True) "
        "(1): ReLU() )"
    )


def test_a_summary_is_a_table_with_shapes_and_multiply_adds() -> None:
    made = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).summary((4, 2))._repr_html_()
    assert words(made) == (
        "Sequential layer type output parameters bytes multiply-adds 0 Linear (4, 3) 9 36 24 "
        "1 ReLU (4, 3) - - - parameters: 9 (9 trained, 0 frozen), float32 "
        "buffers: 0; all together 36 bytes multiply-adds of products and convolutions: 24"
    )
    head = [cell for cell in parsed(made).iter("th") if cell.get("scope") == "col"]
    assert [(cell.text, "right" in cell.get("style", "")) for cell in head[2:4]] == [
        ("output", False),
        ("parameters", True),
    ]


def test_a_module_without_parts_and_one_with_hostile_names() -> None:
    assert "<table" not in nn.ReLU()._repr_html_()
    hostile = type(HOSTILE.replace("\x00", "").replace("\ud800", ""), (nn.Module,), {})()
    hostile.add_module("<b>", nn.Linear(1, 1))
    made = hostile._repr_html_()
    assert "<script" not in made and "<b>" not in made
    assert "<script>" in words(made)


def test_a_module_in_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_KR_LANG", "ko")
    net = nn.Linear(2, 3)
    assert "파라미터: 9 (학습 9, 고정 0)" in words(net._repr_html_())
    assert "층" in words(net.summary((1, 2))._repr_html_())
    text = net.summary((1, 2))
    assert text.startswith("Linear\n") and text.endswith("행렬 곱과 합성곱의 곱셈-덧셈: 6")
    assert text.header[0] == "layer" and text.rows[0][0] == "(itself)"
    rule, names, _, row, *_ = text.splitlines()[1:]
    assert names.split() == ["층", "종류", "출력", "파라미터", "바이트", "곱셈-덧셈"]
    assert row.split()[0] == "(자신)"
    assert len(rule) == columns(names) == columns(row)
    assert net.summary().splitlines()[-2:] == [
        "파라미터: 9 (학습 9, 고정 0), float32",
        "버퍼: 0, 모두 36바이트",
    ]
    assert "파라미터: 0 (학습 0, 고정 0), 없음" in nn.Sequential(nn.ReLU()).summary()


# ------------------------------------------------------------------ a compiled step, a sweep


def test_a_compiled_step() -> None:
    @tk.compile
    def doubled(x: Any) -> Any:
        return x * 2 + x * 2

    shown = words(doubled._repr_html_())
    assert shown == (
        "compiled doubled nothing is compiled yet: no two calls have ended and done the same"
    )
    for _ in range(3):
        doubled(tk.ones(4))
    made = doubled._repr_html_()
    (row,) = [row for row in parsed(made).iter("tr") if row[0].get("scope") == "row"]
    assert [row[0].text, row[1].text] == ["3", "2"]
    assert "every call is compiled" in words(made)
    assert doubled.source.strip()[:40] in "".join(parsed(made).itertext())
    assert doubled(tk.ones(4)).tolist() == [4.0] * 4


def test_a_step_that_runs_as_written_says_why() -> None:
    step = tk.compile(lambda x: x * x.data.sum())
    for _ in range(3):
        step(tk.ones(2))
    made = step._repr_html_()
    assert "<table" not in made and step.explain() in words(made)
    assert "compiled &lt;lambda&gt;" in made


def test_a_compiled_method_shows_itself() -> None:
    class Net:
        @tk.compile
        def step(self, x: Any) -> Any:
            return x + 1

    assert words(Net().step._repr_html_()).startswith("compiled step")


def test_a_sweep_with_its_intervals() -> None:
    results = {
        "loss": np.array([0.1, 0.2, np.nan, 0.6], np.float32),
        "solved": np.array([True, True, False, True]),
        "<weights>": np.zeros((4, 2)),
        "diverged": np.full(4, np.nan),
        "epochs": np.array([3, 1, 2, 2]),
    }
    sweep = tk.sweep.Sweep(np.arange(4), results, 4, True)
    made = sweep._repr_html_()
    rows = [[cell.text or "" for cell in row] for row in parsed(made).iter("tr")]
    assert rows[1:] == [
        ["loss", "0.2", "0.1", "0.6", "1"],
        ["<weights>", "float64(4, 2)", "", "", ""],
        ["diverged", "nan", "nan", "nan", "4"],
        ["epochs", "2", "1", "3", "0"],
    ]
    assert words(made).startswith("Sweep of 4, trained together")
    rate = sweep.rate(results["solved"])
    (picture,) = pictures(made)
    assert picture[0].text == str(rate)
    bar = next(path for path in picture.iter() if path.get("stroke-width") == "6")
    assert bar.get("d") == f"M{10 + 200 * rate.low:.1f} 8H{10 + 200 * rate.high:.1f}"
    assert f"solved 3 / 4: {rate}" in words(made)


def test_a_sweep_a_compiled_step_and_a_history_in_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_KR_LANG", "ko")
    results = {"loss": np.array([0.5, np.nan]), "solved": np.array([True, False])}
    sweep = tk.sweep.Sweep(np.arange(2), results, 3, True)
    rate = sweep.rate(results["solved"])
    assert str(rate) == f"50% ({rate.low:.0%}에서 {rate.high:.0%})"
    title = "스윕, 신경망 3개 중 2개에서 중단, 함께 학습"
    assert words(sweep._repr_html_()).startswith(title)
    assert repr(sweep).splitlines()[:2] == [
        title,
        "  loss: 중앙값 0.5 (0.5에서 0.5), 2개 중 1개가 NaN",
    ]
    assert words(tk.training.History(loss=[1.0, 0.5])._repr_html_()).startswith("학습 기록")
    step = tk.compile(lambda x: 2 * x)
    assert "아직 컴파일한 것이 없습니다" in words(step._repr_html_())
    for _ in range(3):
        step(tk.ones(4))
    shown = words(step._repr_html_())
    assert "모든 호출이 컴파일되었습니다" in shown and "NumPy 호출 " in shown
    assert " NumPy calls" in repr(step)


def test_a_sweep_without_results() -> None:
    empty = tk.sweep.Sweep(
        np.arange(0), {"loss": np.zeros(0), "solved": np.zeros(0, bool)}, 5, False
    )
    assert "0 of 5 nets, interrupted" in words(empty._repr_html_())


def test_no_display_is_imported_before_it_is_used() -> None:
    code = "import sys, tinygrad_kr as tk; tk.nn.Linear(1, 1); "
    code += "print('tinygrad_kr.html' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "False"
