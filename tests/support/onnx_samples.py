"""Layers and inputs that are exported as ONNX: every layer and loss of `nn`, some in more settings.

The table in docs/onnx.md is made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from layer_samples import LAYERS, LOSSES, SEVERAL

from tinygrad_kr import nn

RANDOM = np.random.default_rng(11)


class Sample(NamedTuple):
    """A layer, an example for it, and where the batch is."""

    kind: str
    make: Callable[[], Any]
    example: tuple[Any, ...]
    batch_axis: int | None = 0


def _floats(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype.kind == "f" else x


def _normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


NO_BATCH = {"Identity", "Flatten, axes", "Softmax, first axis", "Maxout, first axis"}
"""Rows whose first axis is no batch; also those that say so."""


REFUSED = {
    "RBM": (lambda: nn.RBM(4, 3), (np.abs(_normal(2, 4)) % 1,)),
    "Fold": (lambda: nn.Fold(3, 2), (_normal(1, 4, 4),)),
    "DBN": (lambda: nn.DBN([4, 3, 2]), (np.abs(_normal(2, 4)) % 1,)),
}
"""Layers that are not exported."""


def _layers() -> dict[str, Sample]:
    found = {}
    for name, layer in LAYERS.items():
        if layer.kind in REFUSED:
            continue
        axis = None if name in NO_BATCH or "no batch" in name else 0
        found[name] = Sample(layer.kind, layer.make, (_floats(layer.example(RANDOM)),), axis)
    for name, loss in LOSSES.items():
        if loss.kind in REFUSED:
            continue
        axis = None if "no batch" in name or loss.kind == "CTCLoss" else 0
        given = (_floats(loss.input), _floats(loss.target), *map(_floats, loss.more))
        found[name] = Sample(loss.kind, lambda loss=loss: loss.make().float(), given, axis)
    return found


def _recurrent() -> dict[str, Sample]:
    found = {}
    settings: dict[str, dict[str, Any]] = {
        "": {},
        ", two layers both ways": {"bidirectional": True, "num_layers": 2},
        ", no bias, batch first": {"bias": False, "batch_first": True},
    }
    for kind in ("RNN", "LSTM", "GRU"):
        for text, setting in settings.items():
            axis = 0 if setting.get("batch_first") else 1
            x = _normal(2, 4, 3) if axis == 0 else _normal(4, 2, 3)
            make = lambda kind=kind, setting=setting: getattr(nn, kind)(3, 5, **setting)  # noqa: E731
            found[f"{kind}{text}"] = Sample(kind, make, (x,), axis)
        cell = f"{kind}Cell"
        found[cell] = Sample(cell, lambda cell=cell: getattr(nn, cell)(3, 5), (_normal(2, 3),))
    states = (_normal(1, 2, 5), _normal(1, 2, 5))
    found["LSTM, states"] = Sample("LSTM", lambda: nn.LSTM(3, 5), (_normal(4, 2, 3), states), 1)
    relu = Sample("RNN", lambda: nn.RNN(3, 5, nonlinearity="relu"), (_normal(4, 2, 3),), 1)
    return {**found, "RNN, relu": relu}


def _several() -> dict[str, Sample]:
    """Layers of several inputs. The batch is on axis 0 of those whose name says so, else on 1."""
    found = {}
    for name, (make, shapes) in SEVERAL.items():
        first = shapes[0][0] == shapes[-1][0] == 2
        given = tuple(_normal(*shape) for shape in shapes)
        kind = name.partition(",")[0]
        found[name] = Sample(kind, lambda make=make: make(nn), given, 0 if first else 1)
    return found


SAMPLES: dict[str, Sample] = {
    **_layers(),
    **_several(),
    **_recurrent(),
    "Sequential": Sample(
        "Sequential", lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh()), (_normal(2, 3),)
    ),
}
"""Samples by name."""
CONTAINERS = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"}
"""Classes without a forward of their own."""


def layers() -> list[str]:
    """The layers and losses of `nn`, containers left out."""
    return [
        name
        for name in nn.__all__
        if isinstance(getattr(nn, name), type)
        and issubclass(getattr(nn, name), nn.Module)
        and name not in CONTAINERS
    ]
