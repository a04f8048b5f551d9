"""How often `tk.diagnose` names the fault of a broken net, and is silent on a sound one.

Each broken net is a sound one with one fault planted. The sound ones vary in task, depth, width,
activation, normalisation, dropout, initialisation, optimizer and batches. Those are kept that
train. Of two halves, with other seeds, the first served to choose the thresholds of the package
(explain/causes_*.py and trials.py). The figures are those of the second. A finding is right if it
has the kind of the planted fault. The code of the remedies of right findings is run, and the nets
are trained. "Trains" is a loss under 0.8 times that of the best constant answer.

    python benchmarks/diagnose.py                 # both halves, some minutes on one core
    python benchmarks/diagnose.py --nets 20       # fewer of each
    python benchmarks/diagnose.py --misses        # also what was missed or said in vain

Precision is right findings by all findings, recall right findings by planted faults. The table goes
to out/diagnose.json too.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn, optim

KINDS = (
    "vanishing_gradient", "exploding_gradient", "dead_units", "saturated_units",
    "zero_initialization", "symmetric_initialization", "learning_rate_too_high",
    "learning_rate_too_low", "unscaled_inputs", "no_nonlinearity", "shape_broadcast",
    "softmax_before_cross_entropy", "sigmoid_before_bce_with_logits", "labels_constant",
    "labels_out_of_range", "parameter_without_gradient", "parameter_not_in_optimizer", "wrong_mode",
    "output_range", "constant_output", "loss_does_not_fit", "overfitting", "nan_or_infinity",
)  # fmt: skip
NO_CURE = {"labels_constant", "parameter_without_gradient", "overfitting", "nan_or_infinity"}
"""Kinds whose remedy is not code that makes the net train."""
TRAINED = 0.8
"""Threshold: loss after training by that of the best constant answer."""
STEPS = 400

# ------------------------------------------------------------------ tasks


class Task(NamedTuple):
    """Inputs, targets, and what a net for them ends in."""

    name: str
    x: np.ndarray
    y: np.ndarray
    outputs: int
    loss: str
    """"classes", "logits", "probability" or "values"."""
    constant: float
    """The loss of the best constant answer."""


def entropy(y: np.ndarray) -> float:
    p = np.bincount(y.reshape(-1)) / y.size
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def blobs(rng: np.random.Generator) -> Task:
    classes, features = int(rng.integers(3, 7)), int(rng.integers(4, 20))
    centres = rng.normal(size=(classes, features)) * 1.5
    y = rng.integers(0, classes, 240)
    x = (centres[y] + rng.normal(size=(240, features))).astype(np.float32)
    return Task("blobs", x / x.std(), y, classes, "classes", entropy(y))


def moons(rng: np.random.Generator) -> Task:
    angle, y = rng.uniform(0, np.pi, 200), rng.integers(0, 2, 200)
    x = np.stack([np.cos(angle) + y, np.sin(angle) * (1 - 2 * y) + 0.5 * y], 1)
    x = ((x + rng.normal(size=x.shape) * 0.1 - x.mean(0)) / x.std(0)).astype(np.float32)
    kind = "logits" if rng.random() < 0.5 else "probability"
    return Task("moons", x, y[:, None].astype(np.float32), 1, kind, entropy(y))


def xor(rng: np.random.Generator) -> Task:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.array([[0], [1], [1], [0]], np.float32)
    return Task("xor", x, y, 1, "logits" if rng.random() < 0.5 else "probability", math.log(2))


def waves(rng: np.random.Generator) -> Task:
    features = int(rng.integers(2, 8))
    x = rng.uniform(-2, 2, (220, features)).astype(np.float32)
    y = np.sin(x[:, :1] * 1.5) + 0.5 * x[:, 1:2] + rng.normal(size=(220, 1)) * 0.05
    return Task("waves", x, y.astype(np.float32), 1, "values", float(y.var()))


def digits(rng: np.random.Generator) -> Task:
    images, labels = tk.data.digits("train")
    rows = rng.permutation(len(images))[:300]
    x = images[rows].reshape(300, -1).astype(np.float32)
    return Task("digits", x, labels[rows].astype(np.int64), 10, "classes", math.log(10))


def pictures(rng: np.random.Generator) -> Task:
    task = digits(rng)
    return task._replace(name="pictures", x=task.x.reshape(-1, 1, 8, 8)[:120], y=task.y[:120])


def words(rng: np.random.Generator) -> Task:
    """Whether a sequence has more of the first half of the letters."""
    x = rng.integers(0, 10, (160, 8))
    y = ((x < 5).sum(1) > 4).astype(np.int64)
    return Task("words", x, y, 2, "classes", entropy(y))


def copying(rng: np.random.Generator) -> Task:
    """An autoencoder's: the targets are the inputs."""
    hidden = rng.normal(size=(200, 3))
    x = np.tanh(hidden @ rng.normal(size=(3, 10))).astype(np.float32)
    return Task("copying", x, x, 10, "values", float(x.var(0).mean()))


def counts(rng: np.random.Generator) -> Task:
    """Poisson counts, whose rate depends on the inputs: integers that are no class indices."""
    x = rng.normal(size=(240, 5)).astype(np.float32)
    y = rng.poisson(np.exp(rng.uniform(0, 1.5) + 0.6 * x[:, :1] - 0.4 * x[:, 1:2]))
    y = np.minimum(y, int(rng.integers(4, 12))).astype(np.float32)
    return Task("counts", x, y, 1, "values", float(y.var()))


TASKS = (blobs, moons, waves, digits, blobs, waves, pictures, words, copying, moons, xor, counts)

# ------------------------------------------------------------------ nets

ACTIVATIONS: dict[str, Any] = {
    "relu": (nn.ReLU, F.relu), "tanh": (nn.Tanh, F.tanh), "sigmoid": (nn.Sigmoid, F.sigmoid),
    "leaky": (nn.LeakyReLU, F.leaky_relu), "gelu": (nn.GELU, F.gelu), "elu": (nn.ELU, F.elu),
}  # fmt: skip


class Written(nn.Module):
    """A net whose activations are calls in forward()."""

    def __init__(self, layers: Sequence[nn.Module], activation: Any, dropout: float) -> None:
        self.layers = nn.ModuleList(layers)
        self.activation, self.dropout = activation, dropout

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
            if self.dropout:
                x = F.dropout(x, self.dropout, self.training)
        return self.layers[-1](x)


class Residual(nn.Module):
    """x + W2 act(W1 norm(x))."""

    def __init__(self, width: int, activation: Any) -> None:
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.activation = activation()

    def forward(self, x: Any) -> Any:
        return x + self.outer(self.activation(self.inner(self.norm(x))))


class Sequence_(nn.Module):
    """Embedding, LSTM or GRU, and the last state."""

    def __init__(self, width: int, outputs: int, kind: Any) -> None:
        self.embedding = nn.Embedding(10, 8)
        self.recurrent = kind(8, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Any) -> Any:
        return self.head(self.recurrent(self.embedding(x))[0][:, -1])


class Case:
    """A net with everything that `diagnose` takes."""

    def __init__(self, task: Task, model: Any, loss: Any, optimizer: Any, data: Any) -> None:
        self.task, self.model, self.loss_function = task, model, loss
        self.optimizer, self.data, self.validation = optimizer, data, None
        self.said = f"{task.name}"

    def diagnosis(self) -> Any:
        more = {} if self.validation is None else {"validation": self.validation}
        return tk.diagnose(self.model, self.loss_function, self.data, self.optimizer, **more)

    def names(self) -> dict[str, Any]:
        """What code of a remedy may use."""
        return {
            "tk": tk, "np": np, "nn": nn, "F": F, "optim": optim, "model": self.model,
            "loss_function": self.loss_function, "data": self.data, "optimizer": self.optimizer,
        }  # fmt: skip


LOSSES: dict[str, Any] = {
    "classes": (nn.CrossEntropyLoss, lambda: F.cross_entropy),
    "logits": (nn.BCEWithLogitsLoss, lambda: F.binary_cross_entropy_with_logits),
    "probability": (nn.BCELoss, lambda: F.binary_cross_entropy),
    "values": (nn.MSELoss, lambda: F.mse_loss),
}


def layers_of(
    rng: np.random.Generator, task: Task, depth: int, width: int, activation: str, norm: str,
    dropout: float,
) -> list[nn.Module]:  # fmt: skip
    sizes = [task.x.shape[1], *[width] * depth]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(a, b))
        if norm == "batch":
            layers.append(nn.BatchNorm1d(b))
        elif norm == "layer":
            layers.append(nn.LayerNorm(b))
        layers.append(ACTIVATIONS[activation][0]())
        if dropout and i < depth - 1:
            layers.append(nn.Dropout(dropout))
    return [*layers, nn.Linear(sizes[-1], task.outputs)]


def initialise(model: nn.Module, activation: str, how: str) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear) and how != "default":
            if activation in ("relu", "leaky", "gelu", "elu"):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def net_for(rng: np.random.Generator, task: Task, wish: dict[str, Any]) -> tuple[Any, str]:
    """A net for a task; wish: settings that are not drawn."""
    width = wish.get("width", int(rng.choice([8, 16, 32, 48])))
    if task.name == "words":
        kind = nn.LSTM if rng.random() < 0.5 else nn.GRU
        return Sequence_(width, task.outputs, kind), f"{kind.__name__} {width}"
    activation = wish.get("activation", str(rng.choice(list(ACTIVATIONS))))
    if task.name == "pictures":
        make = ACTIVATIONS[activation][0]
        norm = [nn.BatchNorm2d(6)] if rng.random() < 0.5 else []
        model: Any = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), *norm, make(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), make(), nn.Flatten(), nn.Linear(128, task.outputs),
        )  # fmt: skip
        return model, f"cnn {activation}"
    deepest = 3 if activation == "sigmoid" else 6
    depth = wish.get("depth", int(rng.integers(1, deepest)))
    norm = wish.get("norm", str(rng.choice(["", "", "", "batch", "layer"])))
    if task.name == "xor":
        norm, width = "", max(width, 8)
        depth = min(depth, 2)
    dropout = wish.get("dropout", 0.2 if rng.random() < 0.2 and task.name != "xor" else 0.0)
    style = wish.get("style", str(rng.choice(["modules", "modules", "written", "residual"])))
    how = wish.get("init", str(rng.choice(["default", "matching"])))
    if style == "written" and not norm:
        layers = [
            layer
            for layer in layers_of(rng, task, depth, width, activation, "", 0.0)
            if isinstance(layer, nn.Linear)
        ]
        model = Written(layers, ACTIVATIONS[activation][1], dropout)
    elif style == "residual" and task.x.ndim == 2 and not norm:
        make = ACTIVATIONS[activation][0]
        blocks = [Residual(width, make) for _ in range(max(depth - 1, 1))]
        model = nn.Sequential(
            nn.Linear(task.x.shape[1], width), *blocks, nn.Linear(width, task.outputs)
        )
    else:
        style = "modules"
        model = nn.Sequential(*layers_of(rng, task, depth, width, activation, norm, dropout))
    initialise(model, activation, how)
    return model, f"{style} {depth} x {width} {activation} {norm} {how} drop {dropout}"


def ended(model: Any, task: Task) -> Any:
    """With a sigmoid where the loss takes probabilities."""
    return nn.Sequential(model, nn.Sigmoid()) if task.loss == "probability" else model


def optimizer_for(rng: np.random.Generator, model: Any, kind: str | None = None) -> Any:
    kind = kind or str(rng.choice(["SGD", "momentum", "Adam", "Adam", "RMSprop", "AdamW"]))
    if kind == "SGD":
        return optim.SGD(model.parameters(), lr=float(rng.choice([0.05, 0.1, 0.2])))
    if kind == "momentum":
        return optim.SGD(model.parameters(), lr=float(rng.choice([0.01, 0.02, 0.05])), momentum=0.9)
    rate = float(rng.choice([0.001, 0.003, 0.01]))
    return getattr(optim, kind)(model.parameters(), lr=rate)


def given(rng: np.random.Generator, task: Task, batches: bool | None = None) -> Any:
    """The data as arrays or as batches."""
    if len(task.x) > 8 and (rng.random() < 0.4 if batches is None else batches):
        size = int(rng.choice([16, 32, 64]))
        if rng.random() < 0.5:
            dataset = tk.data.TensorDataset(task.x, task.y)
            return tk.data.DataLoader(dataset, batch_size=size, shuffle=True)
        return [(task.x[i : i + size], task.y[i : i + size]) for i in range(0, len(task.x), size)]
    return task.x, task.y


def draw(seed: int, tasks: Sequence[Any] = TASKS, **wish: Any) -> Case:
    """A net that should train."""
    rng = np.random.default_rng([seed, 7])
    tk.manual_seed(seed)
    task = tasks[int(rng.integers(len(tasks)))](rng)
    model, said = net_for(rng, task, wish)
    model = ended(model, task)
    loss = LOSSES[task.loss][int(rng.random() < 0.5)]()
    optimizer = optimizer_for(rng, model, wish.get("optimizer"))
    case = Case(task, model, loss, optimizer, given(rng, task, wish.get("batches")))
    group = optimizer.param_groups[0]
    case.said = f"{task.name} {task.loss}, {said}, {type(optimizer).__name__} {group['lr']}"
    return case


def trains(case: Case, steps: int = STEPS) -> bool:
    """Whether a copy of a net comes under `TRAINED` of the loss of the best constant answer."""
    names = case.names()
    names["model"], names["optimizer"], names["loss_function"] = copy.deepcopy(
        (case.model, case.optimizer, case.loss_function)
    )
    return final_loss(names, steps) < TRAINED * case.task.constant


def final_loss(names: dict[str, Any], steps: int) -> float:
    model, loss_function, optimizer = names["model"], names["loss_function"], names["optimizer"]
    data = names["data"]
    pair = isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], tuple)
    batches = [data] if pair else list(data)
    with np.errstate(all="ignore"):
        for step in range(steps):
            x, y = batches[step % len(batches)]
            loss = loss_function(model(tk.tensor(x)), tk.tensor(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        losses = [
            float(loss_function(model(tk.tensor(x)), tk.tensor(y)).item()) for x, y in batches
        ]
        model.train()
    mean = float(np.mean(losses))
    return mean if math.isfinite(mean) else math.inf


# ------------------------------------------------------------------ faults


def base(seed: int, tasks: Sequence[Any] = TASKS, **wish: Any) -> Case:
    """A net that does train, to plant a fault in."""
    for attempt in range(20):
        case = draw(seed + 1_000_000 * attempt, tasks, **wish)
        if trains(case):
            return case
    raise RuntimeError("no net that trains")


class Ended(nn.Module):
    """A net whose output goes through a call in forward()."""

    def __init__(self, net: nn.Module, end: Callable[[Any], Any]) -> None:
        self.net, self.end = net, end

    def forward(self, x: Any) -> Any:
        return self.end(self.net(x))


def shares(z: Any) -> Any:
    """A softmax that is written by hand."""
    e = (z - z.max(axis=1, keepdims=True)).exp()
    return e / e.sum(1, keepdims=True)


def squashed(z: Any) -> Any:
    """A sigmoid that is written by hand."""
    return 1 / (1 + (-z).exp())


Plant = Callable[[np.random.Generator, int], Case]
DENSE = (blobs, waves, digits, moons, copying)


def linears(case: Case) -> list[Any]:
    return [module for module in case.model.modules() if isinstance(module, nn.Linear)]


def remade(case: Case, rate: float | None = None) -> Case:
    """With an optimizer of the same kind for the model as it is now."""
    kind, options = type(case.optimizer), dict(case.optimizer.param_groups[0])
    del options["params"]
    options.pop("decoupled_weight_decay", None)
    if rate is not None:
        options["lr"] = rate
    case.optimizer = kind(case.model.parameters(), **options)
    return case


def vanishing_gradient(rng: np.random.Generator, seed: int) -> Case:
    wish: dict[str, Any] = {"norm": "", "dropout": 0.0, "optimizer": "SGD"}
    wish["style"] = str(rng.choice(["modules", "written"]))
    if rng.random() < 0.6:
        return draw(
            seed, DENSE, depth=int(rng.integers(8, 12)), activation="sigmoid", width=16,
            init=str(rng.choice(["default", "matching"])), **wish,
        )  # fmt: skip
    case = draw(seed, DENSE, depth=int(rng.integers(5, 8)), activation="tanh", width=32, **wish)
    for layer in linears(case):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return case


def exploding_gradient(rng: np.random.Generator, seed: int) -> Case:
    case = draw(
        seed, DENSE, depth=int(rng.integers(3, 8)), width=int(rng.choice([32, 64])), norm="",
        activation=str(rng.choice(["relu", "leaky", "gelu"])), dropout=0.0,
        style=str(rng.choice(["modules", "written"])),
    )  # fmt: skip
    std = float(rng.choice([0.7, 1.0, 1.5]))
    for layer in linears(case):
        nn.init.normal_(layer.weight, std=std)
    return case


def dead_units(rng: np.random.Generator, seed: int) -> Case:
    case = base(
        seed, (blobs, waves, digits), depth=int(rng.integers(1, 5)), activation="relu", norm="",
        style=str(rng.choice(["modules", "written"])),
    )  # fmt: skip
    layers = linears(case)[:-1]
    layer = layers[int(rng.integers(len(layers)))]
    with tk.no_grad():
        layer.bias[:] = -float(rng.choice([20, 50, 200]))
    return case


def saturated_units(rng: np.random.Generator, seed: int) -> Case:
    case = base(
        seed, DENSE, depth=int(rng.integers(1, 4)), norm="", dropout=0.0,
        activation=str(rng.choice(["sigmoid", "tanh"])),
        style=str(rng.choice(["modules", "written"])),
    )  # fmt: skip
    for layer in linears(case)[:-1]:
        nn.init.normal_(layer.weight, std=float(rng.choice([5, 10, 20])))
    return case


def zero_initialization(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (*DENSE, xor), norm="", style=str(rng.choice(["modules", "written"])))
    for layer in linears(case):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return case


def symmetric_initialization(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (*DENSE, xor), norm="", style=str(rng.choice(["modules", "written"])))
    for layer in linears(case):
        nn.init.constant_(layer.weight, float(rng.choice([0.01, 0.1, 0.5, 1.0])))
        nn.init.zeros_(layer.bias)
    return case


def learning_rate_too_high(rng: np.random.Generator, seed: int) -> Case:
    """The lowest of some rates at which the net no longer trains."""
    for attempt in range(20):
        case = base(seed + 100_000 * attempt, dropout=0.0)
        kind = type(case.optimizer).__name__
        for rate in (5, 10, 30, 100) if kind == "SGD" else (0.3, 1, 3, 10):
            if not trains(remade(case, float(rate))):
                return case
    raise RuntimeError("nets that train at any rate")


def learning_rate_too_low(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed)
    kind = type(case.optimizer).__name__
    rate = rng.choice([1e-8, 1e-7, 1e-6, 1e-5]) if kind == "SGD" else rng.choice([1e-9, 1e-8, 1e-7])
    return remade(case, float(rate))


def unscaled_inputs(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (blobs, digits, waves, pictures), norm="", dropout=0.0, batches=False,
                style=str(rng.choice(["modules", "written"])))  # fmt: skip
    x = case.task.x
    how = int(rng.integers(3))
    if how == 0:
        x = (x - x.min()) * (255 / np.ptp(x))
    elif how == 1:
        x = x * 1000 + 500
    elif x.ndim == 2:
        x = x * np.where(np.arange(x.shape[1]) == x.std(0).argmax(), 3000, 1)
    else:
        x = x * 200
    case.data = x.astype(np.float32), case.task.y
    return case


def no_nonlinearity(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (moons, waves, digits, xor), style="modules", norm="", depth=2)
    model = case.model
    inside = model[0] if isinstance(model[0], nn.Sequential) else model
    kept = [m for m in inside if isinstance(m, nn.Linear | nn.Dropout)]
    end = [nn.Sigmoid()] if case.task.loss == "probability" else []
    case.model = nn.Sequential(*kept, *end)
    return remade(case)


def shape_broadcast(rng: np.random.Generator, seed: int) -> Case:
    how = int(rng.integers(3))
    case = base(seed, (waves,) if how < 2 else (moons,), batches=False)
    x, y = case.task.x, case.task.y
    case.data = x, y.reshape(-1)
    if how == 0:
        case.loss_function = lambda output, target: ((output - target) ** 2).mean()
    elif how == 1:
        case.loss_function = lambda output, target: (output - target).abs().mean()
    return case


def softmax_before_cross_entropy(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (blobs, digits, pictures, words))
    how = int(rng.integers(4))
    if how == 0:
        case.model = Ended(case.model, lambda z: F.softmax(z, 1))
    elif how == 1:
        case.model = Ended(case.model, shares)
    elif how == 2:
        loss = case.loss_function
        case.loss_function = lambda output, targets: loss(F.softmax(output, 1), targets)
    else:
        case.model = nn.Sequential(case.model, nn.Softmax(1))
    return case


def sigmoid_before_bce_with_logits(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (moons, xor))
    if case.task.loss == "logits" and rng.random() < 0.5:
        case.model = Ended(case.model, squashed)
    elif case.task.loss == "logits":
        case.model = nn.Sequential(case.model, nn.Sigmoid())
    case.loss_function = LOSSES["logits"][int(rng.random() < 0.5)]()
    return case


def labels_constant(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (blobs, digits, moons, waves), batches=False)
    y = np.broadcast_to(case.task.y[:1], case.task.y.shape).copy()
    case.data = case.task.x, y
    return case


def labels_out_of_range(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (blobs, digits, moons, words), batches=False)
    x, y = case.task.x, case.task.y
    if case.task.loss == "classes":
        y = y + 1 if rng.random() < 0.7 else y * 2
    else:
        y = 2 * y - 1 if rng.random() < 0.5 else y + 1
    case.data = x, y
    return case


def parameter_without_gradient(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, DENSE)
    if rng.random() < 0.5:
        case.model.unused = nn.Linear(8, 4)
        if isinstance(case.model, nn.Sequential):
            del case.model.unused
            case.model = Beside(case.model)
    else:
        case.model = Detached(case.model, case.task)
    return remade(case)


class Beside(nn.Module):
    """A net with a layer that forward() leaves out."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.unused = net, nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.net(x)


class Detached(nn.Module):
    """A net whose first layer is cut off."""

    def __init__(self, net: nn.Module, task: Task) -> None:
        self.first = nn.Linear(task.x.shape[1], task.x.shape[1])
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(F.tanh(self.first(x)).detach())


def parameter_not_in_optimizer(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, DENSE, norm="")
    kind, options = type(case.optimizer), dict(case.optimizer.param_groups[0])
    del options["params"]
    options.pop("decoupled_weight_decay", None)
    layers = linears(case)
    missing = {id(p) for p in layers[0 if rng.random() < 0.7 else -1].parameters()}
    kept = [p for p in case.model.parameters() if id(p) not in missing]
    if rng.random() < 0.3:
        kept = list(copy.deepcopy(case.model).parameters())
    case.optimizer = kind(kept, **options)
    return case


def wrong_mode(rng: np.random.Generator, seed: int) -> Case:
    norm = str(rng.choice(["batch", ""]))
    case = base(seed, (blobs, digits, waves), norm=norm, dropout=0.3, depth=2, style="modules")
    if rng.random() < 0.8:
        case.model.eval()
    else:
        next(m for m in case.model.modules() if isinstance(m, nn.Dropout)).eval()
    return case


def output_range(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (waves, copying), batches=False)
    x, y = case.task.x, case.task.y
    end, scale = [(nn.Sigmoid, 3), (nn.Tanh, 4), (nn.ReLU, 1), (nn.Softplus, 1)][
        int(rng.integers(4))
    ]
    written = {nn.Sigmoid: squashed, nn.ReLU: lambda z: tk.maximum(z, 0)}
    if end in written and rng.random() < 0.5:
        case.model = Ended(case.model, written[end])
    else:
        case.model = nn.Sequential(case.model, end())
    case.data = x, (y * scale).astype(np.float32)
    case.task = case.task._replace(constant=case.task.constant * scale**2)
    return case


def constant_output(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (moons, xor), batches=False)
    net = case.model[0] if case.task.loss == "probability" else case.model
    case.model = nn.Sequential(net, nn.Softmax(1))
    case.loss_function = nn.BCELoss() if rng.random() < 0.6 else nn.MSELoss()
    if isinstance(case.loss_function, nn.MSELoss):
        case.task = case.task._replace(constant=float(case.task.y.var()))
    return case


def loss_does_not_fit(rng: np.random.Generator, seed: int) -> Case:
    how = int(rng.integers(5))
    if how == 4:
        case = base(seed, (moons,), batches=False)
        case.model = case.model[0] if case.task.loss == "probability" else case.model
        case.loss_function = nn.BCELoss()
        return case
    case = base(seed, (blobs, digits), batches=False, optimizer="Adam")
    task = case.task
    if how == 0:
        case.loss_function = nn.MSELoss()
    elif how == 1:
        model, _ = net_for(rng, task._replace(outputs=1), {})
        case.model, case.loss_function = model, nn.MSELoss()
        case.data = task.x, task.y[:, None].astype(np.float32)
        remade(case)
    elif how == 2:
        case.data = task.x, np.eye(task.outputs, dtype=np.int64)[task.y]
    else:
        case.loss_function = nn.NLLLoss()
    return case


def overfitting(rng: np.random.Generator, seed: int) -> Case:
    case = base(seed, (blobs, digits), dropout=0.0, batches=False, optimizer="Adam", norm="",
                width=48, style="modules", activation="relu")  # fmt: skip
    task = case.task
    few = int(rng.choice([15, 25, 40]))
    y = np.where(rng.random(len(task.y)) < 0.4, rng.integers(0, task.outputs, len(task.y)), task.y)
    case.data, case.validation = (task.x[:few], y[:few]), (task.x[few:], y[few:])
    remade(case, 0.01)
    if rng.random() < 0.5:
        names = case.names()
        final_loss(names, 100)
    return case


def nan_or_infinity(rng: np.random.Generator, seed: int) -> Case:
    how = int(rng.integers(4))
    case = base(seed, (waves, copying) if how else DENSE, batches=False)
    x, y = case.task.x, case.task.y
    if how == 0:
        x = x.copy()
        x[int(rng.integers(len(x))), 0] = np.nan
        case.data = x, y
    elif how == 1:
        case.loss_function = lambda output, target: (((-1 - output**2).log() - target) ** 2).mean()
    elif how == 2:
        case.loss_function = lambda output, target: ((output - target) ** 2).sum().sqrt() / 0.0
    else:
        case.loss_function = lambda output, target: (output * 0 / (target * 0)).mean()
    return case


PLANTS: dict[str, Plant] = {kind: globals()[kind] for kind in KINDS}


def sound(seed: int) -> Case:
    """A sound net; some with validation data, which it does not overfit."""
    case = base(seed)
    x, y = case.task.x, case.task.y
    if seed % 8 == 0 and len(x) > 100 and case.task.name != "words":
        cut = len(x) * 3 // 4
        case.data, case.validation = (x[:cut], y[:cut]), (x[cut:], y[cut:])
    return case


# ------------------------------------------------------------------ judging


class Judged(NamedTuple):
    """What was said of one net. fault: the planted kind, None for a sound net."""

    fault: str | None
    said: list[str]
    trains: bool | None
    """Whether the net trains after the remedy; None where that is not asked."""
    net: str
    seconds: float


def judge(fault: str | None, seed: int, cure: bool = True) -> Judged:
    """Diagnose one net; make the remedy of a right finding, and train."""
    rng = np.random.default_rng([seed, 3])
    case = sound(seed) if fault is None else PLANTS[fault](rng, seed)
    start = time.perf_counter()
    report = case.diagnosis()
    seconds = time.perf_counter() - start
    cured = None
    if fault in report.kinds and cure and fault not in NO_CURE:
        names = case.names()
        for finding in report.findings:
            if finding.kind == fault:
                exec(finding.remedy(), names)
        cured = final_loss(names, STEPS) < TRAINED * case.task.constant
    return Judged(fault, sorted(report.kinds), cured, case.said, seconds)


def judge_half(
    half: int, nets: int, cure: bool = True, kinds: Sequence[str] = KINDS
) -> list[Judged]:
    """Sound and broken nets, `nets` of each or more, of one half."""
    each, first = -(-nets // len(kinds)), 6 * 10**9 * half
    broken = [
        judge(kind, first + 1000 * i + j, cure) for i, kind in enumerate(kinds) for j in range(each)
    ]
    return broken + [judge(None, first + 500_000 + j) for j in range(nets)]


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Precision and recall, for each kind and together; and how many nets train when remedied."""
    table: dict[str, Any] = {}
    for kind in KINDS:
        planted = [one for one in judged if one.fault == kind]
        right = sum(kind in one.said for one in planted)
        said = sum(kind in one.said for one in judged)
        cured = [one.trains for one in planted if one.trains is not None]
        table[kind] = {
            "nets": len(planted), "right": right, "in_vain": said - right,
            "cured": sum(cured), "remedied": len(cured),
        }  # fmt: skip
    right, planted_faults, in_vain, cured_nets, remedied = (
        sum(row[name] for row in table.values())
        for name in ("right", "nets", "in_vain", "cured", "remedied")
    )
    healthy = [one for one in judged if one.fault is None]
    together = {
        "broken": planted_faults, "sound": len(healthy),
        "precision": right / max(right + in_vain, 1), "recall": right / max(planted_faults, 1),
        "silent_on_sound": sum(not one.said for one in healthy),
        "remedied_nets_that_train": cured_nets / max(remedied, 1),
        "seconds_each": sum(one.seconds for one in judged) / max(len(judged), 1),
    }  # fmt: skip
    return {"together": together, "kinds": table}


def shown(title: str, result: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [title, f"{'kind':32} nets right in vain  trains"]
    for kind, row in result["kinds"].items():
        cured = f"{row['cured']}/{row['remedied']}" if row["remedied"] else "-"
        lines.append(f"{kind:32} {row['nets']:4} {row['right']:5} {row['in_vain']:7} {cured:>7}")
    both = result["together"]
    lines.append(
        f"{both['broken']} broken and {both['sound']} sound nets: precision "
        f"{both['precision']:.3f}, recall {both['recall']:.3f}; silent on "
        f"{both['silent_on_sound']} sound ones; remedied nets that train: "
        f"{both['remedied_nets_that_train']:.3f}; {both['seconds_each']:.2f} s each"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", type=int, default=115, help="of each sort in each half")
    parser.add_argument("--misses", action="store_true", help="list what was missed or in vain")
    parser.add_argument("--half", type=int, choices=(0, 1), help="one half alone")
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args(argv)
    results = {}
    for half, title in enumerate(("thresholds were chosen on", "figures")):
        if args.half not in (None, half):
            continue
        judged = judge_half(half, args.nets)
        results[title] = figures(judged)
        print(shown(f"\n{title}", results[title]), flush=True)
        for one in judged if args.misses else ():
            if one.said != [one.fault] and (one.fault or one.said):
                print(f"{one.fault or 'sound'}: {', '.join(one.said) or 'silent'}; {one.net}")
            elif one.trains is False:
                print(f"{one.fault}: does not train when remedied; {one.net}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "diagnose.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
