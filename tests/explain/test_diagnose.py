"""`tk.diagnose`: each kind by a net with that fault, silence on sound nets, nothing changed."""

from __future__ import annotations

import copy
import pickle
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import layer_samples
import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn, optim
from tinygrad_kr.explain.diagnosis.evidence import Copy
from tinygrad_kr.explain.diagnosis.mending import counted
from tinygrad_kr.explain.diagnosis.report import CERTAIN, LEFT_OVER, Finding

NAMES = {
    "vanishing_gradient", "exploding_gradient", "dead_units", "saturated_units",
    "zero_initialization", "symmetric_initialization", "learning_rate_too_high",
    "learning_rate_too_low", "unscaled_inputs", "no_nonlinearity", "shape_broadcast",
    "softmax_before_cross_entropy", "sigmoid_before_bce_with_logits", "labels_constant",
    "labels_out_of_range", "parameter_without_gradient", "parameter_not_in_optimizer", "wrong_mode",
    "output_range", "constant_output", "loss_does_not_fit", "overfitting", "nan_or_infinity",
}  # fmt: skip
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
CLASSES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
BITS = (X[:, :1] * X[:, 1:2] > 0).astype(np.float32)
VALUES = np.sin(X[:, :1]) + 0.5 * X[:, 1:2]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    tk.manual_seed(3)


def net(*ends: nn.Module, outputs: int = 3, depth: int = 2, act: Any = nn.ReLU) -> nn.Sequential:
    """6 inputs, hidden layers 16 wide."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(16 if i else 6, 16), act()]
    return nn.Sequential(*layers, nn.Linear(16, outputs), *ends)


def sgd(model: nn.Module, lr: float = 0.1) -> optim.SGD:
    return optim.SGD(model.parameters(), lr=lr)


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


class Given(NamedTuple):
    """The arguments of `diagnose`."""

    model: Any
    loss: Any = F.cross_entropy
    data: Any = (X, CLASSES)
    optimizer: Any = None
    validation: Any = None


@pytest.fixture(autouse=True)
def _without_the_warning_of_lists(recwarn: pytest.WarningsRecorder) -> None:
    """`parameters()` warns of a list already."""
    warnings.filterwarnings("ignore", "InAList.layers is a plain list")


def diagnosed(given: Given) -> Any:
    return tk.diagnose(*given[:4], validation=given.validation)


# ------------------------------------------------------------------ one net for each kind


def filled(model: nn.Module, fill: Callable[[Any], Any]) -> nn.Module:
    for layer in linears(model):
        fill(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def dead(model: nn.Sequential) -> nn.Sequential:
    nn.init.constant_(model[2].bias, -100.0)
    return model


def without(model: nn.Module, name: str) -> optim.SGD:
    return optim.SGD([p for n, p in model.named_parameters() if not n.startswith(name)], lr=0.1)


def dropping(model: nn.Sequential) -> nn.Sequential:
    model.insert(2, nn.Dropout(0.3))
    return model.eval()


class Held(nn.Module):
    """A Sequential inside a module."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        self.body = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.body(x)


class WithUnused(nn.Module):
    def __init__(self) -> None:
        self.net, self.unused = net(), nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        return self.net(x)


class InAList(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(6, 16), nn.Linear(16, 16)]
        self.last = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.last(x)


class Functional(nn.Module):
    """Activations are calls in forward()."""

    def __init__(self, activation: Any, depth: int, end: Any = None) -> None:
        sizes = [6, *[16] * depth, 3]
        self.layers = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.activation, self.end = activation, end

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        x = self.layers[-1](x)
        return x if self.end is None else self.end(x)


class DroppedSigmoid(nn.Module):
    def forward(self, x: Any) -> Any:
        return F.dropout(F.sigmoid(x), 0.2, self.training)


class RaisesLater(nn.Module):
    def __init__(self) -> None:
        self.calls = 0

    def forward(self, output: Any, target: Any) -> Any:
        self.calls += 1
        if self.calls > 8:
            raise TypeError("enough")
        return F.cross_entropy(output, target)


class AlwaysDropping(nn.Module):
    def __init__(self) -> None:
        self.net = net()

    def forward(self, x: Any) -> Any:
        return self.net(F.dropout(x, 0.4))


def by_hand(z: Any) -> Any:
    return 1 / (1 + (-z).exp())


def shares(z: Any) -> Any:
    e = (z - z.max(axis=1, keepdims=True)).exp()
    return e / e.sum(1, keepdims=True)


class Ended(nn.Module):
    """A net whose output goes through a call."""

    def __init__(self, net: nn.Module, end: Any) -> None:
        self.net, self.end = net, end

    def forward(self, x: Any) -> Any:
        return self.end(self.net(x))


def dead_maximum(relu: Any) -> Functional:
    model = Functional(relu, 1)
    nn.init.constant_(model.layers[0].bias, -20.0)
    return model


def counts() -> Given:
    """Poisson counts, cut at 5, of a rate that depends on the input."""
    rate = np.exp(0.6 * X[:, :1] - 0.4 * X[:, 1:2])
    values = np.minimum(np.random.default_rng(2).poisson(rate), 5).astype(np.float32)
    return Given(net(outputs=1), F.mse_loss, (X, values))


class LowRank(nn.Module):
    """A frozen layer with a trained change of low rank, which starts at 0."""

    def __init__(self) -> None:
        self.base, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.down = nn.Parameter(RNG.normal(size=(2, 6)).astype(np.float32))
        self.up = nn.Parameter(np.zeros((16, 2), np.float32))
        for p in self.base.parameters():
            p.requires_grad = False

    def forward(self, x: Any) -> Any:
        return self.last(F.relu(self.base(x) + x @ self.down.T @ self.up.T))


class Embedded(nn.Module):
    """A linear layer before an LSTM."""

    def __init__(self) -> None:
        self.first, self.recurrent = nn.Linear(2, 8), nn.LSTM(8, 8, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.last(self.recurrent(self.first(x.reshape(-1, 3, 2)))[0][:, -1])


class Scaled(nn.Module):
    """Divides inputs itself."""

    def __init__(self) -> None:
        self.net = net()

    def forward(self, x: Any) -> Any:
        return self.net(x / 255)


def deep_one() -> Given:
    """Linear regression from a weight near 0: its gradient is large beside it."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 0.001)
    nn.init.zeros_(model.bias)
    x = np.array([[1], [2], [3]], np.float32)
    return Given(model, F.mse_loss, (x, 10 * x), sgd(model, 0.05))


def indexed(output: Any, target: Any) -> Any:
    """A loss of distances to the centres that the classes have."""
    return ((output - tk.tensor(np.eye(3, dtype=np.float32))[target]) ** 2).mean()


def deep(model: nn.Module) -> Given:
    return Given(model, optimizer=sgd(model))


def with_rate(lr: float) -> Given:
    model = net()
    return Given(model, optimizer=sgd(model, lr))


def with_missing(make: Any, missing: str) -> Given:
    model = make()
    return Given(model, optimizer=without(model, missing))


def with_nan() -> Given:
    x = X.copy()
    x[5, 2] = np.nan
    return Given(net(), data=(x, CLASSES))


def few_rows() -> Given:
    """Labels by chance: what is learned of 12 rows is worth nothing elsewhere."""
    model = net(depth=2)
    labels = np.random.default_rng(5).integers(0, 3, 96)
    return Given(
        model, F.cross_entropy, (X[:12], labels[:12]), optim.Adam(model.parameters(), lr=0.01),
        (X[12:], labels[12:]),
    )  # fmt: skip


def squares(output: Any, target: Any) -> Any:
    return ((output - target) ** 2).mean()


CASES: dict[str, tuple[str, str | None, Callable[[], Given]]] = {
    "sigmoid 10 deep, by hand": (
        "vanishing_gradient", "layers.0", lambda: deep(Functional(by_hand, 10))),
    "dead maximum": (
        "dead_units", "layers.0", lambda: deep(dead_maximum(lambda z: tk.maximum(z, 0)))),
    "dead where": (
        "dead_units", "layers.0", lambda: deep(dead_maximum(lambda z: tk.where(z > 0, z, 0.0)))),
    "dead ReLU6": ("dead_units", "layers.0", lambda: deep(dead_maximum(F.relu6))),
    "softmax by hand": (
        "softmax_before_cross_entropy", None, lambda: Given(Ended(net(), shares))),
    "softmax in the loss": (
        "softmax_before_cross_entropy", None,
        lambda: Given(net(), lambda output, target: F.cross_entropy(F.softmax(output, 1), target))),
    "sigmoid by hand": (
        "sigmoid_before_bce_with_logits", None,
        lambda: Given(
            Ended(net(outputs=1), by_hand), F.binary_cross_entropy_with_logits, (X, BITS))),
    "sigmoid as tanh": (
        "sigmoid_before_bce_with_logits", None,
        lambda: Given(
            Ended(net(outputs=1), lambda z: 0.5 * (1 + (z / 2).tanh())),
            F.binary_cross_entropy_with_logits, (X, BITS))),
    "sigmoid by hand for values": (
        "output_range", None,
        lambda: Given(Ended(net(outputs=1), by_hand), F.mse_loss, (X, 3 * VALUES))),
    "clipped to 0 and 1": (
        "output_range", None,
        lambda: Given(
            Ended(net(outputs=1), lambda z: z.clip(0, 1)), F.mse_loss, (X, 5 + VALUES))),
    "rate of 1e-12": ("learning_rate_too_low", "", lambda: with_rate(1e-12)),
    "sigmoid 9 deep": ("vanishing_gradient", "0", lambda: deep(net(depth=9, act=nn.Sigmoid))),
    "sigmoid 9 deep, written": (
        "vanishing_gradient", "layers.0", lambda: deep(Functional(F.sigmoid, 9))),
    "tanh, tiny weights": (
        "vanishing_gradient", "0",
        lambda: deep(filled(net(depth=6, act=nn.Tanh), lambda w: nn.init.normal_(w, std=0.01)))),
    "large weights": (
        "exploding_gradient", None,
        lambda: deep(filled(net(depth=6), lambda w: nn.init.normal_(w, std=1.5)))),
    "bias -100": ("dead_units", "2", lambda: deep(dead(net()))),
    "tanh, large weights": (
        "saturated_units", "0",
        lambda: deep(filled(net(act=nn.Tanh), lambda w: nn.init.normal_(w, std=10.0)))),
    "zeros": ("zero_initialization", "0", lambda: deep(filled(net(), nn.init.zeros_))),
    "zeros and dropout": (
        "zero_initialization", "0",
        lambda: deep(filled(net(depth=1, act=DroppedSigmoid), nn.init.zeros_))),
    "all 0.5": (
        "symmetric_initialization", "0",
        lambda: deep(filled(net(), lambda w: nn.init.constant_(w, 0.5)))),
    "rate 100": ("learning_rate_too_high", "", lambda: with_rate(100.0)),
    "rate 1e-6": ("learning_rate_too_low", "", lambda: with_rate(1e-6)),
    "inputs to 255": (
        "unscaled_inputs", "",
        lambda: deep(net())._replace(data=(255 * (X > 0), CLASSES))),
    "linear layers alone": (
        "no_nonlinearity", "0", lambda: Given(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)))),
    "a column and a row": (
        "shape_broadcast", "", lambda: Given(net(outputs=1), squares, (X, VALUES[:, 0]))),
    "five outputs for one target": (
        "shape_broadcast", "", lambda: Given(net(outputs=5), squares, (X, VALUES))),
    "wrong number of inputs": (
        "shape_broadcast", "0", lambda: Given(net(), data=(X[:, :5], CLASSES))),
    "softmax": ("softmax_before_cross_entropy", "5", lambda: Given(net(nn.Softmax(1)))),
    "softmax, written": (
        "softmax_before_cross_entropy", "",
        lambda: Given(Functional(F.relu, 2, lambda x: F.softmax(x, 1)))),
    "sigmoid": (
        "sigmoid_before_bce_with_logits", "5",
        lambda: Given(net(nn.Sigmoid(), outputs=1), nn.BCEWithLogitsLoss(), (X, BITS))),
    "equal labels": ("labels_constant", "", lambda: Given(net(), data=(X, 0 * CLASSES + 1))),
    "labels from 1": ("labels_out_of_range", "", lambda: Given(net(), data=(X, CLASSES + 1))),
    "a label of a later batch": (
        "labels_out_of_range", "",
        lambda: Given(net(), data=[(X, CLASSES), (X, CLASSES), (X, 2 * CLASSES)])),
    "targets -1 and 1": (
        "labels_out_of_range", "",
        lambda: Given(net(outputs=1), F.binary_cross_entropy_with_logits, (X, 2 * BITS - 1))),
    "unused": ("parameter_without_gradient", "unused", lambda: Given(WithUnused())),
    "detached": (
        "parameter_without_gradient", "",
        lambda: Given(Functional(F.relu, 1, lambda x: x.detach()))),
    "optimizer without a layer": (
        "parameter_not_in_optimizer", "0", lambda: with_missing(net, "0")),
    "layers in a list": (
        "parameter_not_in_optimizer", "layers", lambda: deep(InAList())),
    "eval": ("wrong_mode", "", lambda: deep(dropping(net()))),
    "F.dropout that is always on": ("wrong_mode", "", lambda: deep(AlwaysDropping())),
    "a loss that raises": (
        "loss_does_not_fit", "", lambda: Given(net(), lambda output, target: {}[target])),
    "sigmoid for targets to 5": (
        "output_range", "5",
        lambda: Given(net(nn.Sigmoid(), outputs=1), F.mse_loss, (X, 5 * VALUES))),
    "tanh into a BCE": (
        "output_range", "5",
        lambda: Given(net(nn.Tanh(), outputs=1), F.binary_cross_entropy, (X, BITS))),
    "ReLU for logits": (
        "output_range", "5",
        lambda: Given(net(nn.ReLU(), outputs=1), F.binary_cross_entropy_with_logits, (X, BITS))),
    "softmax of one unit": (
        "constant_output", "5",
        lambda: Given(net(nn.Softmax(1), outputs=1), F.binary_cross_entropy, (X, BITS))),
    "one logit for two classes": (
        "constant_output", "",
        lambda: Given(net(outputs=1), F.cross_entropy, (X, BITS[:, 0].astype(np.int64)))),
    "squares of class indices": (
        "loss_does_not_fit", "", lambda: Given(net(outputs=1), squares, (X, CLASSES[:, None]))),
    "squares of ten outputs and indices": (
        "loss_does_not_fit", "", lambda: Given(net(), F.mse_loss, (X, CLASSES))),
    "one-hot integers": (
        "loss_does_not_fit", "", lambda: Given(net(), data=(X, np.eye(3, dtype=int)[CLASSES]))),
    "labels that are floats": (
        "loss_does_not_fit", "", lambda: Given(net(), data=(X, CLASSES.astype(np.float32)))),
    "logits for probabilities": (
        "loss_does_not_fit", "", lambda: Given(net(outputs=1), F.binary_cross_entropy, (X, BITS))),
    "validation data of another width": (
        "shape_broadcast", "0", lambda: deep(net())._replace(validation=(X[:, :4], CLASSES))),
    "a loss that raises in a later step": (
        "loss_does_not_fit", "", lambda: Given(net(), RaisesLater())),
    "logits for log-probabilities": ("loss_does_not_fit", "", lambda: Given(net(), F.nll_loss)),
    "a loss for each row": (
        "loss_does_not_fit", "",
        lambda: Given(net(), lambda y, t: F.cross_entropy(y, t, reduction="none"))),
    "few rows": ("overfitting", "", few_rows),
    "a NaN in the data": ("nan_or_infinity", "", with_nan),
    "log of negative numbers": (
        "nan_or_infinity", "",
        lambda: Given(net(outputs=1), lambda y, t: (y.log() - t).abs().mean(), (X, VALUES))),
    "slope of a root at 0": (
        "nan_or_infinity", None,
        lambda: Given(net(outputs=1), lambda y, t: (0 * y).sqrt().sum(), (X, VALUES))),
}  # fmt: skip


def test_the_kinds_are_the_documented_ones() -> None:
    assert {kind.name for kind in CERTAIN + LEFT_OVER} == NAMES
    assert {kind for kind, _, _ in CASES.values()} == NAMES


@pytest.mark.parametrize("name", CASES)
def test_each_kind_is_named_alone(name: str) -> None:
    kind, layer, make = CASES[name]
    report = diagnosed(make())
    assert report.kinds == {kind}, report.text("en")
    finding = report.findings[0]
    assert layer is None or finding.layer == layer
    assert finding.evidence
    for lang, other in (("en", "ko"), ("ko", "en")):
        assert finding.message(lang) != finding.message(other)
        assert "{" not in finding.message(lang)
        compile(finding.remedy(lang), name, "exec")
        assert finding.message(lang) in report.text(lang)
    assert str(report) == report.text()


def code_names(given: Given) -> dict[str, Any]:
    """What a remedy may use."""
    return {
        "tk": tk, "np": np, "nn": nn, "F": F, "model": given.model, "data": given.data,
        "loss_function": given.loss, "optimizer": given.optimizer,
        "inputs": tk.tensor(X), "targets": tk.tensor(CLASSES),
    }  # fmt: skip


MENDED_BY_CODE = [
    name
    for name, (kind, _, _) in CASES.items()
    if kind
    not in {"nan_or_infinity", "labels_constant", "overfitting", "parameter_without_gradient"}
    and name not in {"wrong number of inputs", "validation data of another width"}
    and name not in {"five outputs for one target", "F.dropout that is always on"}
    and not name.startswith("a loss that raises")
]


@pytest.mark.parametrize("name", MENDED_BY_CODE)
def test_after_the_pasted_remedy_the_kind_is_gone(name: str) -> None:
    kind, _, make = CASES[name]
    given = make()
    names = code_names(given)
    for finding in diagnosed(given).findings:
        exec(finding.remedy("ko"), names)
    again = tk.diagnose(names["model"], names["loss_function"], names["data"], names["optimizer"])
    assert kind not in again.kinds, again.text("en")


@pytest.mark.parametrize("name", CASES)
def test_apply_does_what_the_code_does(name: str) -> None:
    """Weights that are drawn anew differ; the modules and the options are the same."""
    _, _, make = CASES[name]
    given = make()
    tk.manual_seed(3)
    other = make()
    finding = diagnosed(given).findings[0]
    if not finding.can_apply:
        with pytest.raises(ValueError, match=r"\.apply: expected a remedy of the model"):
            finding.apply(given.model)
        return
    assert finding.apply(given.model, given.optimizer) is given.model
    exec(finding.remedy(), code_names(other))
    assert repr(given.model) == repr(other.model)
    assert repr(given.optimizer) == repr(other.optimizer)
    modes = [[m.training for m in one.model.modules()] for one in (given, other)]
    assert modes[0] == modes[1]


def test_a_remedy_of_rates_says_that_it_needs_the_optimizer() -> None:
    given = with_rate(100.0)
    finding = diagnosed(given).findings[0]
    with pytest.raises(ValueError, match=r"apply\(model, optimizer\)"):
        finding.apply(given.model)
    finding.apply(given.model, given.optimizer)
    assert given.optimizer.param_groups[0]["lr"] < 100
    assert finding.evidence["lower"] == pytest.approx(given.optimizer.param_groups[0]["lr"])


# ------------------------------------------------------------------ sound nets


class Block(nn.Module):
    """Pre-norm residual block with dropout."""

    def __init__(self) -> None:
        self.norm, self.inner, self.outer = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.drop = nn.Dropout(0.1)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Any) -> Any:
        return x + self.drop(self.outer(F.gelu(self.inner(self.norm(x)))))


def frozen() -> nn.Sequential:
    model = net()
    model[0].requires_grad_(False)
    return model


def picture_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 10),
    )  # fmt: skip


def digit_pictures() -> Any:
    images, labels = tk.data.digits("train")
    return images[:200].reshape(-1, 1, 8, 8).astype(np.float32), labels[:200].astype(np.int64)


class Words(nn.Module):
    def __init__(self) -> None:
        self.embedding, self.recurrent = nn.Embedding(9, 8), nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.recurrent(self.embedding(x))[0][:, -1])


def weighted(output: Any, target: Any) -> Any:
    """A vector of weights broadcasts to every row, as is meant."""
    spread = (F.softmax(output, 1) * np.array([1.0, 2.0, 1.0], np.float32)).square().mean()
    return F.cross_entropy(output, target) + 0.1 * spread


LETTERS = RNG.integers(0, 9, (96, 5))

SOUND: dict[str, Callable[[], Given]] = {
    "counts": counts,
    "low rank": lambda: Given(LowRank()),
    "a linear layer before an LSTM": lambda: Given(Embedded()),
    "targets as indices": lambda: Given(net(), indexed),
    "scaled in forward()": lambda: Given(
        Scaled(), F.cross_entropy, (255 * X, CLASSES)),
    "one small weight": deep_one,
    "ReLU": lambda: deep(net()),
    "written tanh": lambda: deep(Functional(F.tanh, 3)),
    "batch norm": lambda: deep(
        nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3))),
    "residual": lambda: deep(nn.Sequential(nn.Linear(6, 16), Block(), Block(), nn.Linear(16, 3))),
    "one layer from zeros": lambda: deep(filled(nn.Sequential(nn.Linear(6, 3)), nn.init.zeros_)),
    "frozen first layer": lambda: deep(frozen()),
    "log-softmax": lambda: Given(net(nn.LogSoftmax(1)), F.nll_loss),
    "soft labels": lambda: Given(net(), data=(X, np.eye(3, dtype=np.float32)[CLASSES])),
    "ignored labels": lambda: Given(net(), data=(X, np.where(X[:, 2] > 1, -100, CLASSES))),
    "values": lambda: Given(net(outputs=1), F.mse_loss, (X, VALUES)),
    "probabilities": lambda: Given(net(nn.Sigmoid(), outputs=1), F.binary_cross_entropy, (X, BITS)),
    "autoencoder": lambda: Given(
        nn.Sequential(
            nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2), nn.Linear(2, 9), nn.Tanh(),
            nn.Linear(9, 6)),
        F.mse_loss, (X, X)),
    "squares of two classes": lambda: Given(net(nn.Sigmoid(), outputs=1), F.mse_loss, (X, BITS)),
    "weights of classes": lambda: Given(net(), weighted),
    "pictures": lambda: Given(picture_net(), F.cross_entropy, digit_pictures()),
    "letters": lambda: Given(Words(), F.cross_entropy, (LETTERS, LETTERS[:, 0] // 3)),
    "eval without dropout": lambda: deep(net().eval()),
    "validation": lambda: deep(net())._replace(
        data=(X[:64], CLASSES[:64]), validation=(X[64:], CLASSES[64:])),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_it_is_silent_on_a_sound_net(name: str) -> None:
    report = diagnosed(SOUND[name]())
    assert report.findings == [] and report.kinds == set(), report.text("en")
    assert len(report) == 0
    assert report.text("en") == "Nothing wrong was found in the first 20 steps."
    assert report.text("ko") == "처음 20스텝에서 이상을 찾지 못했습니다."


# ------------------------------------------------------------------ nothing changes


def everything(given: Given, generators: list[Any]) -> bytes:
    """All that `diagnose` could change, in bytes."""
    model, optimizer = given.model, given.optimizer
    state = [
        {name: (p.data.tobytes(), p.grad is not None and p.grad.data.tobytes(), p.requires_grad)
         for name, p in model.named_parameters()},
        {name: b.data.tobytes() for name, b in model.named_buffers()},
        [(path, module.training, sorted(vars(module)), module._hooks and len(module._hooks.before))
         for path, module in model.named_modules()],
        None if optimizer is None else optimizer.state_dict(),
        [generator.bit_generator.state for generator in (tk.default_generator(), *generators)],
    ]  # fmt: skip
    return pickle.dumps(copy.deepcopy(state))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_nothing_of_the_users_changes(mode: bool, with_gradients: bool) -> None:
    own = np.random.default_rng(1)
    model = nn.Sequential(
        nn.Linear(6, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2, generator=own),
        nn.Linear(8, 3),
    )
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    F.cross_entropy(model(tk.tensor(X)), CLASSES).backward()
    optimizer.step()
    if not with_gradients:
        optimizer.zero_grad()
    model.train(mode)
    shuffled = np.random.default_rng(2)
    loader = tk.data.DataLoader(
        tk.data.TensorDataset(X, CLASSES), batch_size=32, shuffle=True, generator=shuffled
    )

    def loss(output: Any, target: Any) -> Any:
        """Refers to the model itself: no gradient may come to it."""
        return F.cross_entropy(output, target) + 0.01 * sum(
            p.square().sum() for p in model.parameters()
        )

    given = Given(model, loss, loader, optimizer, (X, CLASSES))
    x, labels = X.copy(), CLASSES.copy()
    before = everything(given, [own, shuffled])
    diagnosed(given)
    assert everything(given, [own, shuffled]) == before
    np.testing.assert_array_equal(X, x)
    np.testing.assert_array_equal(CLASSES, labels)


def test_nothing_changes_where_it_is_interrupted() -> None:
    model = net(nn.Dropout(0.5))
    calls = []

    def loss(output: Any, target: Any) -> Any:
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return F.cross_entropy(output, target)

    given = Given(model, loss, optimizer=sgd(model))
    before = everything(given, [])
    with pytest.raises(KeyboardInterrupt):
        diagnosed(given)
    assert everything(given, []) == before
    assert tk.is_grad_enabled()


def test_it_is_the_same_twice_and_under_no_grad() -> None:
    given = deep(net(depth=9, act=nn.Sigmoid))
    with tk.no_grad():
        first = diagnosed(given)
    assert first.text() == diagnosed(given).text()


def test_in_a_compiled_function_it_runs_as_written() -> None:
    model = net(nn.Softmax(1))
    kinds = []

    @tk.compile
    def step(x: Any) -> Any:
        kinds.append(tk.diagnose(model, F.cross_entropy, (X, CLASSES)).kinds)
        return model(x).sum()

    for _ in range(3):
        step(tk.tensor(X))
    assert kinds == [{"softmax_before_cross_entropy"}] * 3


# ------------------------------------------------------------------ data


def test_data_may_come_in_batches() -> None:
    batches = [(X[i : i + 32], CLASSES[i : i + 32]) for i in range(0, 96, 32)]
    as_tensors = [(tk.tensor(x), tk.tensor(y)) for x, y in batches]
    loader = tk.data.DataLoader(tk.data.TensorDataset(X, CLASSES), batch_size=16)
    for data in (batches, tuple(batches), as_tensors, loader, [[x, y] for x, y in batches]):
        model = net(nn.Softmax(1))
        assert tk.diagnose(model, F.cross_entropy, data).kinds == {"softmax_before_cross_entropy"}


def test_of_an_iterator_no_more_is_read_than_steps() -> None:
    endless = iter(lambda: (X, CLASSES), None)
    assert not tk.diagnose(net(), F.cross_entropy, endless, steps=4).findings
    counted = iter([(X, CLASSES)] * 9)
    tk.diagnose(net(), F.cross_entropy, counted, steps=4)
    assert len(list(counted)) == 5


@pytest.mark.parametrize(
    ("model", "data", "more", "error", "said"),
    [
        (lambda x: x, (X, CLASSES), {}, TypeError, "expected an nn.Module, got function"),
        (net, X, {}, TypeError, "expected data as"),
        (net, [X], {}, TypeError, r"expected pairs \(inputs, targets\) in data, got a ndarray"),
        (net, [], {}, ValueError, "expected at least one batch in data, got none"),
        (net, (X, CLASSES), {"steps": 0}, ValueError, "expected steps from 1 up, got 0"),
        (net, (X, CLASSES), {"validation": 3}, TypeError, "expected validation as"),
    ],
)
def test_what_is_no_case_is_refused(
    model: Any, data: Any, more: dict[str, Any], error: type[Exception], said: str
) -> None:
    made = model() if model is net else model
    with pytest.raises(error, match=said):
        tk.diagnose(made, F.cross_entropy, data, **more)


def test_without_an_optimizer_rates_are_not_judged() -> None:
    given = with_rate(100.0)
    assert not diagnosed(given._replace(optimizer=None)).findings


class Around(nn.Module):
    """A layer, and a factor that trains."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.factor = layer, nn.Parameter(tk.ones(1))

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return (y[0] if isinstance(y, tuple) else y) * self.factor


@pytest.mark.parametrize("name", layer_samples.LAYERS)
def test_every_layer_can_be_diagnosed(name: str) -> None:
    sample = layer_samples.LAYERS[name]
    x = sample.example(np.random.default_rng(0))
    model = Around(sample.make())
    report = tk.diagnose(
        model, lambda y, t: (y - 0.3).square().mean(), [(x, None)], sgd(model), steps=3
    )
    assert report.kinds <= {"wrong_mode", "vanishing_gradient", "constant_output"}
    assert report.text("en") and report.text("ko")


def test_a_step_of_ten_layers_takes_under_five_seconds() -> None:
    layers: list[nn.Module] = []
    for i in range(9):
        layers += [nn.Linear(256 if i else 784, 256), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    x = np.random.default_rng(0).random((100, 784)).astype(np.float32)
    labels = np.arange(100) % 10
    start = time.process_time()
    tk.diagnose(model, F.cross_entropy, (x, labels), optim.Adam(model.parameters()))
    assert time.process_time() - start < 5


# ------------------------------------------------------------------ the report


def test_the_report_and_its_html() -> None:
    report = diagnosed(Given(net(nn.Softmax(1))))
    assert repr(report) == "Diagnosis(softmax_before_cross_entropy)"
    assert [type(finding) for finding in report] == [Finding]
    tk.set_language("ko")
    try:
        shown = report._repr_html_()
        assert report.findings[0].message("ko") in shown and "<pre>" in shown
        assert diagnosed(Given(net()))._repr_html_().startswith("<p>처음")
    finally:
        tk.set_language(None)
    with pytest.raises(ValueError, match='expected "en" or "ko"'):
        report.text("fr")


def test_the_remedy_can_be_read() -> None:
    finding = diagnosed(CASES["zeros"][2]()).findings[0]
    assert finding.remedy("en") == (
        "# Initialise the weights at random: He before a ReLU, Xavier otherwise.\n"
        "for weight in (model[0].weight, model[2].weight):\n"
        '    nn.init.kaiming_normal_(weight, nonlinearity="relu")\n'
        "nn.init.xavier_uniform_(model[4].weight)\n"
        "for i in range(0, 5, 2):\n"
        "    nn.init.zeros_(model[i].bias)"
    )


LONG_REMEDIES = {
    "sigmoid": (
        Given(net(act=nn.Sigmoid, depth=12)),
        "for i in range(1, 24, 2):\n    model[i] = nn.Tanh()\n",
    ),
    "linear": (
        Given(nn.Sequential(*[nn.Linear(6, 6) for _ in range(5)])),
        "for i in range(3, -1, -1):\n    model.insert(i + 1, nn.ReLU())",
    ),
    "in a module": (
        Given(Held([nn.Linear(6, 6) for _ in range(5)])),
        "for i in range(3, -1, -1):\n    model.body.insert(i + 1, nn.ReLU())",
    ),
}


@pytest.mark.parametrize(
    "places",
    [
        ["model[0].bias", "model[2].bias"],
        ["model[0].bias", "model[2].bias", "model[5].bias"],
        ["model[0].bias", "model[2].bias", "other[4].bias"],
        ["model[0].bias", "model[2].bias", "model.last.bias"],
        ["model[1].bias", "model[1].bias", "model[1].bias"],
    ],
)
def test_other_places_are_no_loop(places: list[str]) -> None:
    assert counted(places) is None


@pytest.mark.parametrize("name", LONG_REMEDIES)
def test_the_remedy_of_a_deep_net_is_a_loop(name: str) -> None:
    given, loop = LONG_REMEDIES[name]
    applied = copy.deepcopy(given.model)
    finding = diagnosed(given).findings[0]
    assert loop in finding.remedy("en")
    exec(finding.remedy(), code_names(given))
    assert repr(finding.apply(applied)) == repr(given.model)


def test_the_first_op_with_a_nan_is_named_with_its_line() -> None:
    finding = diagnosed(CASES["log of negative numbers"][2]()).findings[0]
    assert finding.evidence["op"] == "log"
    assert "test_diagnose.py" in finding.evidence["line"] and "log" in finding.message("en")


# ------------------------------------------------------------------ one activation, many calls


class Reused(nn.Module):
    """One activation in an attribute, called behind both layers."""

    def __init__(self, act: nn.Module) -> None:
        self.first, self.second, self.act = nn.Linear(6, 16), nn.Linear(16, 1), act

    def forward(self, x: Any) -> Any:
        return self.act(self.second(self.act(self.first(x))))


def with_one(act: nn.Module, depth: int, *ends: nn.Module, outputs: int = 1) -> nn.Sequential:
    """A net with the same module behind each hidden layer."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(16 if i else 6, 16), act]
    return nn.Sequential(*layers, nn.Linear(16, outputs), *ends)


def test_a_sigmoid_that_all_layers_share_is_replaced_in_each_of_its_places() -> None:
    model = filled(with_one(nn.Sigmoid(), 10), nn.init.xavier_normal_)
    finding = diagnosed(Given(model, F.binary_cross_entropy_with_logits, (X, BITS))).findings[0]
    assert finding.kind == "vanishing_gradient"
    assert "for i in range(1, 20, 2):\n    model[i] = nn.Tanh()" in finding.remedy()
    assert len({id(layer) for layer in model[1::2]}) == 1  # the model is as it was
    finding.apply(model)
    assert {type(layer) for layer in model[1::2]} == {nn.Tanh}


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.ReLU])
def test_of_a_shared_activation_only_the_one_at_the_end_is_taken_out(act: Any) -> None:
    shared = act()
    loss = F.binary_cross_entropy_with_logits
    model = with_one(shared, 2, shared)
    report = diagnosed(Given(model, loss, (X, BITS)))
    assert report.kinds == {
        "sigmoid_before_bce_with_logits" if act is nn.Sigmoid else "output_range"
    }
    assert report.findings[0].remedy().endswith("model[5] = nn.Identity()")
    report.findings[0].apply(model)
    assert not diagnosed(Given(model, loss, (X, BITS))).findings


def test_an_activation_that_forward_calls_twice_stays() -> None:
    loss = F.binary_cross_entropy_with_logits
    (finding,) = diagnosed(Given(Reused(nn.Sigmoid()), loss, (X, BITS)))
    assert finding.kind == "sigmoid_before_bce_with_logits"
    assert "Identity" not in finding.remedy() and "BCELoss" in finding.remedy()
    (finding,) = diagnosed(Given(Reused(nn.Sigmoid()), F.mse_loss, (X, 5 * VALUES)))
    assert finding.kind == "output_range" and "Identity" not in finding.remedy()


def test_what_is_shared_with_parameters_stays_shared_in_copies() -> None:
    both = nn.Linear(16, 16)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), both, nn.ReLU(), both, nn.ReLU(),
                          nn.Linear(16, 3))  # fmt: skip
    copied = Copy(model, F.cross_entropy, None)
    assert copied.model[2] is copied.model[4] and copied.model[1] is not copied.model[3]
    assert list(copied.names) == [name for name, _ in model.named_parameters()]


# ------------------------------------------------------------------ the lectures' nets

POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
ANSWERS = np.array([[0], [1], [1], [0]], np.float64)


def xor_net(hidden: int, width: int, act: Any, start: Callable[[nn.Linear], Any]) -> Given:
    sizes = [2, *[width] * hidden, 1]
    layers: list[nn.Module] = []
    for i in range(hidden + 1):
        layer = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.zeros_(layer.bias)
        start(layer)
        layers += [layer, act() if i < hidden else nn.Sigmoid()]
    model = nn.Sequential(*layers).double()
    return Given(model, F.binary_cross_entropy, (POINTS, ANSWERS), sgd(model))


def uniform(layer: nn.Linear) -> None:
    nn.init.uniform_(layer.weight, -1, 1)


def normal(layer: nn.Linear) -> None:
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)


def he(layer: nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def xavier(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)


def zeros(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kinds", "hidden", "width", "act", "start"),
    [
        ({"vanishing_gradient"}, 10, 5, nn.Sigmoid, uniform),
        ({"vanishing_gradient"}, 9, 5, nn.Sigmoid, uniform),
        ({"zero_initialization"}, 10, 5, nn.ReLU, zeros),
        ({"zero_initialization"}, 1, 2, nn.Sigmoid, zeros),
        (set(), 10, 5, nn.Tanh, xavier),
        (set(), 10, 32, nn.ReLU, he),
        (set(), 3, 10, nn.Sigmoid, normal),
        (set(), 1, 2, nn.Sigmoid, normal),
    ],
)
def test_the_lectures_table(
    kinds: set[str], hidden: int, width: int, act: Any, start: Any, seed: int
) -> None:
    tk.manual_seed(seed)
    assert diagnosed(xor_net(hidden, width, act, start)).kinds == kinds


def test_starts_that_are_dead_at_once_are_named() -> None:
    """Ten ReLU layers, 5 wide, U(-1, 1): about 15 % of the starts."""
    found = 0
    for seed in range(40):
        tk.manual_seed(seed)
        given = xor_net(10, 5, nn.ReLU, uniform)
        weights = [layer.weight for layer in linears(given.model)]
        loss = given.loss(given.model(tk.tensor(POINTS)), tk.tensor(ANSWERS))
        if not any(g.data.any() for g in tk.autograd.grad(loss, weights)):
            found += 1
            assert diagnosed(given).kinds == {"dead_units"}
    assert found > 1
