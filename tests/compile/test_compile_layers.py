"""Every layer, loss, optimizer and schedule, and random programs: compiled as eager, call by call.

The first three calls get the same batch, so that what was frozen while recording would show in the
fourth.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import close, needs_compiler, together, twins, without_compiler
from hypothesis import given, note, settings
from hypothesis import strategies as st
from layer_samples import LAYERS, LOSSES, Layer
from numpy import ndarray
from optimizer_samples import IDS
from optimizer_samples import OPTIMIZERS as SAMPLES
from test_compile_ops import groups_and_dtypes
from test_random_graphs import programs

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, compile, nn, optim
from tinygrad_kr.optim import lr_scheduler as schedules

BATCHES = [0, 0, 0, 1, 2, 0]


Step = Callable[..., Any]


def compare(
    make: Callable[[Any, dict[str, Any]], Step],
    nets: dict[str, nn.Module],
    optimizers_of: Callable[[Any], dict[str, Any]],
    batches: list[tuple[Any, ...]],
    between: Callable[[dict[str, Any]], None] = lambda optimizers: None,
) -> None:
    """The step that `make` gives of the nets leaves and returns the same, as it is and compiled."""

    def build() -> tuple[nn.Module, dict[str, Any]]:
        copied = nn.ModuleDict(copy.deepcopy(nets))
        return copied, optimizers_of(copied)

    a, b = twins(lambda learner: make(learner.net, learner.optimizer), build)
    together(a, b, batches, lambda learner, i: i and between(learner.optimizer), of_largest=True)
    assert b.step.programs, b.step.explain()
    assert b.step.explain() == "every call is compiled"


# ------------------------------------------------------------------ layers

TRAINED = LAYERS | {
    "Dropout": Layer("Dropout", (0.5,), {}, (3, 2)),
    "Dropout2d": Layer("Dropout2d", (0.5,), {}, (3, 2, 2, 1)),
    "Embedding, padding": Layer("Embedding", (5, 3, 1), {}, (2, 3)),
    "RNN": Layer("RNN", (3, 4), {"num_layers": 2, "nonlinearity": "relu"}, (5, 2, 3)),
    "RNN, both ways": Layer("RNN", (3, 2), {"bidirectional": True, "batch_first": True}, (2, 4, 3)),
    "LSTM": Layer("LSTM", (3, 4), {"num_layers": 2, "dropout": 0.3}, (5, 2, 3)),
    "LSTM, both ways": Layer("LSTM", (3, 2), {"bidirectional": True, "bias": False}, (4, 2, 3)),
    "GRU": Layer("GRU", (3, 4), {"num_layers": 2, "batch_first": True}, (2, 5, 3)),
    "RNNCell": Layer("RNNCell", (3, 2), {}, (4, 3)),
    "LSTMCell": Layer("LSTMCell", (3, 2), {}, (4, 3)),
    "GRUCell": Layer("GRUCell", (3, 2), {}, (4, 3)),
}
del TRAINED["BatchNorm1d, all batches"]  # its momentum is a number that is read from a buffer
NAMES = sorted(TRAINED)
GROUPS = [NAMES[start::7] for start in range(7)]


def leaves(result: Any) -> list[Any]:
    """The Tensors in a result."""
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves(part)]
    return [result]


def step_of_layers(nets: dict[str, nn.Module], optimizers: dict[str, Any]) -> Callable[..., Any]:
    (optimizer,) = optimizers.values()

    def step(*inputs: Tensor) -> Any:
        optimizer.zero_grad()
        outputs, slopes = {}, {}
        for (name, net), x in zip(nets.items(), inputs, strict=True):
            if x.dtype.kind == "f":
                x = x.detach().requires_grad_()
            total = 0.0
            for y in leaves(net(x)):
                weights = np.linspace(0.5, 1.5, y.size, dtype=y.dtype).reshape(y.shape)
                total = (y * weights).sum() + total
                outputs[f"{name} {len(outputs)}"] = y.detach()
            if total.requires_grad:  # type: ignore[attr-defined]
                total.backward()  # type: ignore[attr-defined]
            slopes[name] = x.grad
        optimizer.step()
        return outputs, slopes

    return step


def inputs_of(names: list[str], dtype: str, seed: int) -> tuple[Tensor, ...]:
    random = np.random.default_rng(seed)
    given = []
    for name in names:
        shape = TRAINED[name].shape
        whole = name.startswith("Embedding")
        x = random.integers(0, 5, shape) if whole else random.standard_normal(shape).astype(dtype)
        given.append(Tensor(x))
    return tuple(given)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("names", "dtype"), groups_and_dtypes(GROUPS))
def test_every_layer(names: list[str], dtype: str, backend: str) -> None:
    tk.manual_seed(1)
    nets: dict[str, Any] = {name: TRAINED[name].make().to(dtype) for name in names}
    for net in nets.values():
        if "running_mean" in dict(net.named_buffers()):
            with tk.no_grad():
                net.running_mean.fill_(0.1)

    def one(nets: dict[str, nn.Module]) -> dict[str, Any]:
        every = [p for net in nets.values() for p in net.parameters()]
        return {"SGD": optim.SGD(every, lr=0.01)}

    batches = [inputs_of(names, dtype, seed) for seed in BATCHES]
    compare(step_of_layers, nets, one, batches)


@pytest.mark.usefixtures("backend")
def test_statistics_over_all_batches_are_run_as_written() -> None:
    net, x = LAYERS["BatchNorm1d, all batches"].make(), tk.randn(3, 2, 3)
    twin = copy.deepcopy(net)
    compiled = compile(lambda x: twin(x).detach())
    for i in range(5):
        close(net(x * i).detach(), compiled(x * i))
        close(dict(net.named_buffers()), dict(twin.named_buffers()))
    assert not compiled.programs
    twin.eval()
    evaluated = compile(lambda x: twin(x).detach())
    for i in range(3):
        close(net.eval()(x * i).detach(), evaluated(x * i))
    assert evaluated.programs, "in eval mode it reads no number from a buffer"


@pytest.mark.usefixtures("backend")
def test_modes_of_layers_that_have_two() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    twin = copy.deepcopy(net)
    compiled = compile(lambda x: twin(x).detach())
    for i in range(12):
        training = i // 3 % 2 == 0
        (x,) = inputs_of(["BatchNorm1d"], "float32", i)
        tk.manual_seed(i)
        expected = net.train(training)(x).detach()
        tk.manual_seed(i)
        twin.train(training)
        close(expected, compiled(x))
        close(dict(net.named_buffers()), dict(twin.named_buffers()))
    assert len(compiled.programs) == 2


@pytest.mark.usefixtures("backend")
def test_lengths_of_sequences() -> None:
    net = nn.LSTM(3, 4, batch_first=True)
    x = Tensor(np.random.default_rng(0).standard_normal((3, 5, 3)).astype(np.float32))
    y = Tensor(np.random.default_rng(1).integers(0, 4, (3, 5)))
    for lengths in ([5, 2, 3], np.array([5, 2, 3])):

        def step(x: Tensor, y: Tensor, lengths: Any = lengths) -> Any:
            net.zero_grad()
            output, _ = net(x, lengths=lengths)
            loss = F.sequence_loss(output, y, lengths=lengths)
            loss.backward()
            return loss, net.weight_ih_l0.grad

        compiled = compile(step)
        for _ in range(4):
            expected = [v.detach() for v in step(x, y)]
            close(expected, list(compiled(x, y)))
        assert compiled.programs, compiled.explain()
    by_argument = compile(step)
    for lengths in ([5, 2, 3], [5, 2, 3], [5, 2, 3], [1, 4, 5]):
        given = Tensor(np.array(lengths))
        expected = [v.detach() for v in step(x, y, given)]
        close(expected, [v.detach() for v in by_argument(x, y, given)])


# ------------------------------------------------------------------ losses

MORE_LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "cross entropy, smooth": lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
    "cross entropy, none": lambda x, y: F.cross_entropy(x, y, reduction="none").mean(),
    "cross entropy, ignore": lambda x, y: F.cross_entropy(x, y, ignore_index=0),
    "nll, sum": lambda x, y: F.nll_loss(F.log_softmax(x, 1), y, reduction="sum"),
    "cosine": lambda x, y: F.cosine_similarity(x, x * 2 + 1).sum(),
    "sequence": lambda x, y: F.sequence_loss(x[None], y[None]),
    "one hot": lambda x, y: F.mse_loss(F.softmax(x, 1), F.one_hot(y, 3).astype(x.dtype)),
    "ctc": lambda x, y: F.ctc_loss(F.log_softmax(x, 1), y[:2] * 0 + 1, 5, 2),
    "accuracy": lambda x, y: (x.argmax(1) == y).astype(x.dtype).mean() + x.sum(),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_loss(dtype: str, backend: str) -> None:
    nets: dict[str, Any] = {"net": nn.Linear(3, 3).to(dtype)}
    samples = {name: loss for name, loss in LOSSES.items() if loss.input.shape == (5, 3)}
    losses = {name: loss.make().to(dtype) for name, loss in samples.items()}
    others = {name: loss.others(dtype) for name, loss in samples.items()}
    targets = {}
    for name, loss in samples.items():
        t = loss.target
        targets[name] = Tensor(t if t.dtype.kind == "i" else t.astype(dtype))

    def make(nets: dict[str, nn.Module], optimizers: dict[str, Any]) -> Callable[..., Any]:
        net, optimizer = nets["net"], optimizers["SGD"]

        def step(x: Tensor, y: Tensor, given: dict[str, Tensor]) -> Any:
            optimizer.zero_grad()
            values = {}
            z = net(x)
            for name, loss in losses.items():
                positive = samples[name].kind == "BCELoss" or name == "PoissonNLLLoss, mean"
                made = F.softmax(z, 1) if positive else F.log_softmax(z, 1)
                values[name] = loss(made, given[name], *others[name])
            for name, more in MORE_LOSSES.items():
                values[name] = more(z, y)
            sum(value.sum() for value in values.values()).backward()
            optimizer.step()
            return {name: value.detach() for name, value in values.items()}

        return step

    def one(nets: dict[str, nn.Module]) -> dict[str, Any]:
        return {"SGD": optim.SGD(nets["net"].parameters(), lr=1e-3)}

    batches = []
    for seed in BATCHES:
        random = np.random.default_rng(seed)
        x, y = random.standard_normal((5, 3)).astype(dtype), random.integers(0, 3, 5)
        moved = {name: Tensor(np.roll(t.numpy(), seed, 0)) for name, t in targets.items()}
        batches.append((Tensor(x), Tensor(y), moved))
    compare(make, nets, one, batches)


# ------------------------------------------------------------------ optimizers and schedules

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    **{
        sample.replace(".", "_"): partial(getattr(optim, name), **options)
        for sample, (name, options) in zip(IDS, SAMPLES, strict=True)
    },
    "groups": lambda p: optim.Adam(
        [{"params": [q], "lr": 0.01 * (i + 1), "betas": (0.5, 0.9)} for i, q in enumerate(p)]
    ),
}
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda epoch: 0.9**epoch),
    "StepLR": lambda o: schedules.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [1, 4]),
    "ConstantLR": lambda o: schedules.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: schedules.LinearLR(o, 0.25),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.7),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, 4, 2.0),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.2, total_steps=9),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda epoch: 1 - 0.1 * epoch),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.1, 0.2, 2, cycle_momentum=False),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.ConstantLR(o, 0.5, 2), schedules.ExponentialLR(o, 0.9)]
    ),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o, 0.1, 2), schedules.ExponentialLR(o, 0.5)], [3]
    ),
}


def test_every_optimizer_and_schedule_is_in_the_tables() -> None:
    made = {name for name in optim.__all__ if isinstance(getattr(optim, name), type)}
    assert {name for name, _ in SAMPLES} == made - {"LBFGS", "Muon", "Optimizer"}
    assert {*SCHEDULES, "LRScheduler", "ReduceLROnPlateau"} == set(schedules.__all__)


def step_of_optimizers(
    nets: dict[str, nn.Module], optimizers: dict[str, Any]
) -> Callable[..., Any]:
    def step(x: Tensor, y: Tensor) -> Any:
        losses = {}
        for name, net in nets.items():
            optimizers[name].zero_grad()
            loss = F.mse_loss(tk.tanh(net(x)), y)
            loss.backward()
            optimizers[name].step()
            losses[name] = loss.detach()
        return losses

    return step


def regression(dtype: str) -> list[tuple[Tensor, Tensor]]:
    batches = []
    for seed in [*BATCHES, 3, 4]:
        random = np.random.default_rng(seed)
        batches.append(tuple(Tensor(random.standard_normal((6, n)).astype(dtype)) for n in (3, 2)))
    return batches  # type: ignore[return-value]


@pytest.mark.one_in(6)
@pytest.mark.exact
@pytest.mark.trains
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_optimizer(dtype: str, backend: str) -> None:
    nets: dict[str, Any] = {name: nn.Linear(3, 2).to(dtype) for name in OPTIMIZERS}

    def every(nets: dict[str, nn.Module]) -> dict[str, Any]:
        return {name: OPTIMIZERS[name](net.parameters()) for name, net in nets.items()}

    compare(step_of_optimizers, nets, every, regression(dtype))


@pytest.mark.exact
@pytest.mark.trains
@pytest.mark.usefixtures("backend")
def test_every_schedule() -> None:
    nets: dict[str, Any] = {name: nn.Linear(3, 2) for name in SCHEDULES}
    made: dict[int, dict[str, Any]] = {}

    def every(nets: dict[str, nn.Module]) -> dict[str, Any]:
        optimizers = {n: optim.SGD(net.parameters(), 0.1, momentum=0.9) for n, net in nets.items()}
        made[id(optimizers)] = {name: SCHEDULES[name](o) for name, o in optimizers.items()}
        return optimizers

    def onward(optimizers: dict[str, Any]) -> None:
        for schedule in made[id(optimizers)].values():
            schedule.step()

    compare(step_of_optimizers, nets, every, regression("float32"), onward)


@pytest.mark.usefixtures("backend")
def test_a_plateau_is_noticed() -> None:
    nets: dict[str, Any] = {"net": nn.Linear(3, 2)}
    made: dict[int, Any] = {}

    def one(nets: dict[str, nn.Module]) -> dict[str, Any]:
        optimizers = {"net": optim.Adam(nets["net"].parameters(), lr=0.1)}
        made[id(optimizers)] = schedules.ReduceLROnPlateau(
            optimizers["net"], patience=1, factor=0.5
        )
        return optimizers

    def onward(optimizers: dict[str, Any]) -> None:
        made[id(optimizers)].step(1.0)

    compare(step_of_optimizers, nets, one, regression("float32"), onward)


# ------------------------------------------------------------------ random programs

SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-30, 3e30, 0.3]
SHAPES: list[tuple[int, ...]] = [(), (1,), (3,), (2, 3), (2, 1), (4, 2, 3)]

FIRST: dict[str, Callable[[Any], Any]] = {
    "log": np.log,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "reciprocal": lambda x: 1 / x,
    "floor": np.floor,
    "sign": np.sign,
    "square": np.square,
    "relu": tk.relu,
    "is nan": lambda x: np.isnan(x),
    "positive": lambda x: x > 0,
    "to whole": lambda x: (x > 0.5).astype(np.int64) + 1,
    "to double": lambda x: x.astype(np.float64),
    "argmax": lambda x: x.reshape(-1).argmax(),
    "cumsum": lambda x: np.cumsum(x, axis=-1) if x.ndim else x,
    "softmax": lambda x: F.softmax(x, -1) if x.ndim else x,
    "logsumexp": lambda x: tk.logsumexp(x, -1) if x.ndim else x,
    "log softmax": lambda x: F.log_softmax(x, -1) if x.ndim else x,
    "abs": np.abs,
    "sigmoid": tk.sigmoid,
    "softplus": tk.softplus,
    "clip": lambda x: np.clip(x, -1.0, 2.0),
    "power": lambda x: x**3,
    "root": lambda x: x**0.5,
}
"""On what is given alone: the errors of what was computed before could grow without bound."""

LATER: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "sin": lambda x: np.sin(np.tanh(x)),
    "negative": lambda x: -x,
    "halved": lambda x: x * 0.5 + 1,
    "flat": lambda x: x.reshape(-1),
    "transposed": lambda x: x.T,
    "new axis": lambda x: x[None],
    "backwards": lambda x: x[::-1] if x.ndim else x,
    "every second": lambda x: x[..., ::2] if x.ndim else x,
    "row": lambda x: x[0] if x.ndim else x,
    "sum": lambda x: x.sum(),
    "sum along": lambda x: x.sum(axis=0) if x.ndim else x,
    "mean kept": lambda x: x.mean(axis=-1, keepdims=True) if x.ndim else x,
    "max": lambda x: x.max(),
    "min along": lambda x: x.min(axis=-1) if x.ndim else x,
    "stacked": lambda x: np.stack([x, x * 2]),
    "joined": lambda x: np.concatenate([x.reshape(-1), x.reshape(-1)]),
    "repeated": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "gram": lambda x: x.reshape(-1)[:, None] @ x.reshape(-1)[None],
    "square": lambda x: x * x,
    "picked": lambda x: x.reshape(-1)[np.array([0, -1, 0])],
    "even": lambda x: np.where(np.arange(x.size).reshape(x.shape) % 2 == 0, x, 0.5),
}
OF_FLOATS = {"gram", "negative", "even"}
"""Not of truth values and whole numbers: NumPy refuses minus a truth value, and what becomes a
float32 among float64s would need another tolerance."""

TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: np.tanh(a) * b,
    "maximum": np.maximum,
    "where": lambda a, b: np.where(a > b, a, b),
    "difference": lambda a, b: a / (np.abs(b) + 1),
}


def fits(a: Any, b: Any) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(a.shape, b.shape))) <= 64
    except ValueError:
        return False


@st.composite
def functions(draw: st.DrawFn) -> tuple[list[ndarray], list[ndarray], Step]:
    """Two batches of arrays of the same shapes and dtypes, and a function of such a batch."""
    count = draw(st.integers(1, 3))
    shapes = [
        draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1), (4, 2, 3)])) for _ in range(count)
    ]
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    numbers = st.one_of(st.sampled_from(SPECIAL), st.floats(-3, 3, width=32))
    batches = [
        [
            np.array(draw(st.lists(numbers, min_size=n, max_size=n)), dtype).reshape(shape)
            for shape in shapes
            for n in [int(np.prod(shape))]
        ]
        for _ in range(2)
    ]
    firsts = draw(
        st.lists(st.tuples(st.sampled_from(sorted(FIRST)), st.integers(0, 2)), max_size=3)
    )
    laters = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*sorted(LATER), *sorted(TWO)]),
                st.integers(0, 9),
                st.integers(0, 9),
            ),
            max_size=6,
        )
    )

    def run(given: list[Any]) -> list[Any]:
        values = list(given)
        for name, i in firsts:
            values.append(FIRST[name](given[i % len(given)]))
        for name, i, j in laters:
            a, b = values[i % len(values)], values[j % len(values)]
            if name in LATER:
                if a.size <= 16 and (a.dtype.kind == "f" or name not in OF_FLOATS):
                    values.append(LATER[name](a))
            elif fits(a, b):
                values.append(TWO[name](a.astype(dtype), b.astype(dtype)))
        return values[len(given) :]

    note(f"{firsts}, then {laters}")
    return (*batches, run)


def gradients_and_values(run: Step) -> Callable[..., Any]:
    """What a function gives, the gradients of the sum of its floats, and a running total that it
    writes to."""
    total = Tensor(np.zeros(2, np.float32))

    def step(*given: Tensor) -> Any:
        leaves = [x.detach().requires_grad_() for x in given]
        values = run(leaves)
        floats = [v for v in values if v.dtype.kind == "f" and v.requires_grad]
        grads: Any = []
        if floats:
            objective = sum(v.sum() for v in floats)
            grads = tk.autograd.grad(objective, leaves, materialize_grads=True)
            with tk.no_grad():
                total.copy_(total * 0.5)
                total.copy_(total + objective.detach().astype(np.float32))
        return [v.detach() for v in values], list(grads), total * 1

    return step


def agrees(run: Step, batch: list[ndarray], other: list[ndarray]) -> None:
    eager, compiled = gradients_and_values(run), compile(gradients_and_values(run))
    with np.errstate(all="ignore"):
        for arrays in (batch, batch, batch, other, batch):
            given = [Tensor(x) for x in arrays]
            close(eager(*given), compiled(*given), of_largest=True)
    assert compiled.programs or "sorts" in compiled.explain(), compiled.explain()


@pytest.mark.slow
@given(functions())
def test_random_programs_by_numpy(drawn: Any) -> None:
    batch, other, run = drawn
    with pytest.MonkeyPatch.context() as patch:
        without_compiler(patch)
        agrees(run, batch, other)


@needs_compiler
@settings(max_examples=15)
@given(functions())
def test_random_programs_in_c(drawn: Any) -> None:
    batch, other, run = drawn
    agrees(run, batch, other)


@pytest.mark.slow
@given(programs())
def test_random_graphs_of_one_number(program: Any) -> None:
    """Smooth graphs with indices of every kind: gradients of gradients too."""
    arrays, f = program
    with pytest.MonkeyPatch.context() as patch:
        without_compiler(patch)
        every = tuple(range(len(arrays)))
        for made in (tk.value_and_grad(f, every), lambda *xs: tk.hvp(f, xs, xs)):
            compiled = compile(made)
            for i in (0, 0, 0, 1):
                given = [x + 0.1 * i for x in arrays]
                expected, found = made(*given), compiled(*given)
                tolerant(expected, found)


def tolerant(expected: Any, found: Any) -> None:
    """To 1e-11 of the largest: sums in another order, passed through a deep graph twice."""
    if isinstance(expected, tuple | list):
        for a, b in zip(expected, found, strict=True):
            tolerant(a, b)
        return
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    assert type(found) is type(expected)
    np.testing.assert_allclose(found, expected, 1e-11, 1e-11 * scale)
