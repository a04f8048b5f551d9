"""The film of a training: one HTML file, drawn by plotly.js, whose source lies in it.

Library and data are compressed. The page may load nothing: its Content-Security-Policy forbids it.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import os
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_kr.explain.monitoring.frames import Frame, Frames
from tinygrad_kr.files import replacing
from tinygrad_kr.language import Text

if TYPE_CHECKING:
    from tinygrad_kr.explain.monitoring.monitor import Monitor

LOWEST = -12
"""Limit: the exponent of ten of the smallest gradient that is drawn."""

TEXTS: dict[str, Text] = {
    "title": Text("A training, step by step", "한 스텝씩 보는 학습 과정"),
    "play": Text("Play", "재생"),
    "pause": Text("Pause", "멈춤"),
    "step": Text("step", "스텝"),
    "layer": Text("layer", "층"),
    "layers": Text("layer, from the input to the output", "층 (입력층 쪽에서 출력층 쪽으로)"),
    "value": Text("value", "값"),
    "loss": Text("loss", "손실"),
    "accuracy": Text("accuracy", "정확도"),
    "fine": Text("The Monitor warned of nothing.", "경고 없음"),
    "curves": Text("Loss and accuracy", "손실과 정확도"),
    "curves_says": Text(
        "The dotted line is the step that the pictures below show.",
        "점선은 아래 그림이 보여 주는 스텝입니다.",
    ),
    "plane": Text("Decision boundary", "결정 경계"),
    "plane_says": Text(
        "The output of the net for every point of the plane, and the examples.",
        "평면의 각 점에 대한 신경망의 출력과 학습 데이터입니다.",
    ),
    "gradients": Text("Gradient by layer", "층별 기울기"),
    "gradients_says": Text(
        "Each bar is the norm of one layer's gradient. The scale is logarithmic: one line down is "
        "at least ten times less. A layer with a tiny gradient hardly learns.",
        "막대 하나가 한 층의 기울기 크기(노름)입니다. 로그 눈금이라 한 칸 내려가면 10분의 1 이하가 "
        "됩니다. 기울기가 아주 작은 층은 거의 학습하지 못합니다.",
    ),
    "activations": Text("Activations by layer", "층별 활성화 값의 분포"),
    "activations_says": Text(
        "How often each value leaves the activation function, layer by layer. The first layer is "
        "on top.",
        "활성화 함수의 출력 값이 얼마나 자주 나오는지 층마다 그렸습니다. 맨 위가 첫째 층입니다.",
    ),
    "weights": Text("Weights", "가중치"),
    "weights_says": Text(
        "Blue is positive, red is negative, white is 0. A row is a unit; of images, each tile is "
        "one unit.",
        "파랑은 양수, 빨강은 음수, 하양은 0입니다. 한 행이 유닛 하나이고, 이미지를 받는 층에서는 "
        "조각 하나가 유닛 하나입니다.",
    ),
}


def save_film(path: str | os.PathLike[str], monitors: Sequence[Monitor], lang: str) -> None:
    """Write the film of one training, or of two side by side."""
    for monitor in monitors:
        if not monitor.frames.frames:
            raise ValueError(
                "Monitor.save_html: expected a step that was looked at, got none. Train first"
            )
    page = (
        resources.files("tinygrad_kr.explain.monitoring").joinpath("film.html").read_text("utf-8")
    )
    filled = {
        "LANG": lang,
        "TITLE": html.escape(TEXTS["title"].say(lang)),
        "LIBRARY": _packed(_library()),
        "DATA": _packed(json.dumps(data_of(monitors, lang), allow_nan=False)),
    }
    for name, value in filled.items():
        page = page.replace(f"@{name}@", value)
    with replacing(path) as stream:
        stream.write(page.encode("utf-8"))


def _library() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            "Monitor.save_html: expected the package plotly, got none. Install it: pip install "
            '"tinygrad_kr[film]"'
        ) from error
    source: str = get_plotlyjs()
    return source


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode("ascii")


# ------------------------------------------------------------------ the data of the page


def data_of(monitors: Sequence[Monitor], lang: str) -> dict[str, Any]:
    """What the page shows, as JSON holds it."""
    names = _names(monitors)
    runs = [_run(monitor, name, lang) for monitor, name in zip(monitors, names, strict=True)]
    norms = [x for run in runs for frame in run["frames"] for x in frame["norms"].values() if x]
    exponents = [max(LOWEST, math.log10(x)) for x in norms] or [0.0]
    return {
        "texts": {name: text.say(lang) for name, text in TEXTS.items()},
        "runs": runs,
        "norms": [math.floor(min(exponents)) - 0.3, math.ceil(max(exponents) + 0.1)],
    }


def _names(monitors: Sequence[Monitor]) -> list[str]:
    names = [one.name or one.frames.function or type(one.model).__name__ for one in monitors]
    if len(set(names)) < len(names):
        names = [f"{name} ({i})" for i, name in enumerate(names, 1)]
    return names


def _run(monitor: Monitor, name: str, lang: str) -> dict[str, Any]:
    history, frames = monitor.history, monitor.frames
    shown = list(dict.fromkeys(x for frame in frames.frames for x in frame.histograms))
    pictured = list(dict.fromkeys(x for frame in frames.frames for x in frame.pictures))
    bounds = [h[:2] for frame in frames.frames for h in frame.histograms.values()]
    low, high = min((b[0] for b in bounds), default=0.0), max((b[1] for b in bounds), default=1.0)
    room = 0.04 * ((high - low) or 1.0)
    return {
        "name": name,
        "metrics": {key: curve for key, curve in history.items() if "value" in curve},
        "warnings": [
            {key: one[key] for key in ("step", "message")} for one in monitor.warnings_in(lang)
        ],
        "layers": frames.layers,
        "activations": shown,
        "values": [low - room, high + room],
        "pictured": pictured,
        "scales": [
            max(frame.pictures[path].scale for frame in frames.frames if path in frame.pictures)
            for path in pictured
        ],
        "frames": [_frame(frame, pictured) for frame in frames.frames],
        **_plane(frames),
    }


def _frame(frame: Frame, pictured: list[str]) -> dict[str, Any]:
    pictures = (frame.pictures.get(path) for path in pictured)
    return {
        "step": frame.step,
        "norms": frame.norms,
        "histograms": {k: [h.low, h.high, h.counts.tolist()] for k, h in frame.histograms.items()},
        "pictures": [
            picture and {"scale": picture.scale, "pixels": picture.pixels.tolist()}
            for picture in pictures
        ],
        "plane": None if frame.plane is None else _rounded(frame.plane),
    }


def _rounded(plane: np.ndarray) -> list[list[Any]]:
    """Three digits are more than the eye sees; a value that is not finite is left out."""
    if plane.dtype.kind != "f":
        rows: list[list[Any]] = plane.tolist()
        return rows
    return [[float(f"{x:.3g}") if math.isfinite(x) else None for x in row] for row in plane]


def _plane(frames: Frames) -> dict[str, Any]:
    """What is the same in each frame of the plane."""
    planes = [frame.plane for frame in frames.frames if frame.plane is not None]
    points = frames.points
    classes = points[:, 2].astype(int) if points.ndim == 2 and points.shape[1] == 3 else None
    finite = [x[np.isfinite(x)] for x in planes if x.dtype.kind == "f"]
    kind = "class" if frames.is_class else "probability" if classes is not None else "value"
    most = max((int(x.max(initial=0)) for x in planes if frames.is_class), default=0)
    if classes is not None:
        most = max(most, int(classes.max(initial=0)))
    return {
        "kind": kind,
        "box": frames.box if planes else None,
        "classes": most + 1,
        "range": [
            float(min((x.min(initial=np.inf) for x in finite), default=0.0)),
            float(max((x.max(initial=-np.inf) for x in finite), default=1.0)),
        ],
        "points": None
        if points.ndim != 2
        else {
            "x": points[:, 0].tolist(),
            "y": points[:, 1].tolist(),
            "classes": None if classes is None else classes.tolist(),
        },
    }
