"""Optimizers, schedules and clipping beside PyTorch's: the same numbers over 50 steps and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from optimizer_samples import IDS, OPTIMIZERS

from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.optim import blocks, lr_scheduler, swa_utils

torch = pytest.importorskip("torch")

from optimizer_peers import peer_named  # noqa: E402

SHAPES = [(), (3,), (4, 5), (0, 2), (2, 3, 4), (40, 30)]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """PyTorch keeps the numbers of NAdam and ASGD in its default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pair(shapes: list[tuple[int, ...]], dtype: Any = np.float64) -> tuple[list[Tensor], list[Any]]:
    """The same parameters for us and for PyTorch."""
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(shape).astype(dtype) for shape in shapes]
    ours = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    return ours, [torch.nn.Parameter(torch.tensor(array.copy())) for array in arrays]


def give_gradients(
    ours: list[Tensor], theirs: list[Any], generator: np.random.Generator, largest: int = 2
) -> None:
    """Gradients that follow the parameter, with noise of sizes from 1e-6 to 10^largest."""
    for p, q in zip(ours, theirs, strict=True):
        noise = generator.standard_normal(p.shape) * 10.0 ** generator.integers(-6, largest + 1)
        g = np.asarray(p.data + noise, dtype=p.dtype)
        p.grad = Tensor(g)
        q.grad = torch.tensor(g.copy())


def differences(ours: list[Tensor], theirs: list[Any]) -> float:
    """The largest difference, relative to the larger of 1 and the value."""
    return max(
        float(
            np.max(np.abs(p.data - q.detach().numpy()) / np.maximum(1, np.abs(p.data)), initial=0)
        )
        for p, q in zip(ours, theirs, strict=True)
    )


def optimizers(name: str, ours: Any, theirs: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    return getattr(optim, name)(ours, **options), peer_named(name)(theirs, **options)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
@pytest.mark.parametrize("chunk", [1 << 17, 1 << 9], ids=["whole", "cut"])
def test_same_numbers_as_pytorch(
    name: str, options: dict[str, Any], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CHUNK", chunk)
    monkeypatch.setattr(blocks, "SMALL", chunk // 8)
    ours, theirs = pair(SHAPES)
    mine, peer = optimizers(name, ours, theirs, options)
    generator = np.random.default_rng(1)
    for step in range(50):
        give_gradients(ours, theirs, generator)
        mine.step()
        peer.step()
        assert differences(ours, theirs) < 1e-10, step


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_same_numbers_in_float32(name: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(SHAPES, np.float32)
    mine, peer = optimizers(name, ours, theirs, options)
    generator = np.random.default_rng(1)
    for _ in range(50):
        give_gradients(ours, theirs, generator, largest=0)
        mine.step()
        peer.step()
    assert {p.dtype for p in ours} == {np.dtype(np.float32)}
    assert differences(ours, theirs) < 1e-5


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_missing_gradients_and_groups(name: str, options: dict[str, Any]) -> None:
    ours, theirs = pair([(3,), (2, 2), (4,), (5,)])
    arranged = [
        [{"params": p[:2]}, {"params": p[2:3], "lr": 0.03, "weight_decay": 0.02}, {"params": p[3:]}]
        for p in (ours, theirs)
    ]
    mine, peer = optimizers(name, *arranged, options)
    generator = np.random.default_rng(2)
    for step in range(50):
        give_gradients(ours, theirs, generator)
        for i in range(4):
            if i and (step % (i + 2) == 1 or (i == 3 and step < 20)):
                ours[i].grad = theirs[i].grad = None
        if step == 30:
            for optimizer in (mine, peer):
                optimizer.param_groups[0]["lr"] = 0.007
        mine.step()
        peer.step()
        assert differences(ours, theirs) < 1e-10, step


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_state_from_pytorch_and_back(name: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(SHAPES)
    mine, peer = optimizers(name, ours, theirs, options)
    generator = np.random.default_rng(3)
    for _ in range(5):
        give_gradients(ours, theirs, generator)
        mine.step()
        peer.step()
    of_mine, of_peer = mine.state_dict(), peer.state_dict()
    assert {i: set(entries) for i, entries in of_mine["state"].items()} == {
        i: set(entries) for i, entries in of_peer["state"].items()
    }
    for group, other in zip(of_mine["param_groups"], of_peer["param_groups"], strict=True):
        assert set(group) <= set(other)
        assert all(group[key] == other[key] for key in group)

    def array(value: Any) -> Any:
        return value.numpy() if isinstance(value, torch.Tensor) else value

    state = {
        i: {key: array(value) for key, value in entries.items()}
        for i, entries in of_peer["state"].items()
    }
    resumed = getattr(optim, name)(ours)
    resumed.load_state_dict({"state": state, "param_groups": of_peer["param_groups"]})
    for _ in range(10):
        give_gradients(ours, theirs, generator)
        resumed.step()
        peer.step()
    assert differences(ours, theirs) < 1e-10


@pytest.mark.parametrize(
    ("name", "signature"),
    [(name, peer_named(name)) for name in dict(OPTIMIZERS)],
    ids=list(dict(OPTIMIZERS)),
)
def test_defaults_are_pytorchs(name: str, signature: Any) -> None:
    ours, theirs = pair([(2,)])
    defaults = getattr(optim, name)(ours).defaults
    theirs_defaults = signature(theirs).defaults
    assert {key: theirs_defaults[key] for key in defaults} == defaults
    backends = {"foreach", "fused", "capturable", "differentiable"}
    assert set(theirs_defaults) - backends == set(defaults)


# ------------------------------------------------------------------ schedules

Make = Callable[[Any, Any], Any]

SCHEDULES: dict[str, Make] = {
    "LambdaLR": lambda m, o: m.LambdaLR(o, lambda t: 0.95**t),
    "LambdaLR-each": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "StepLR": lambda m, o: m.StepLR(o, 7, gamma=0.5),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [3, 10, 10, 30], gamma=0.3),
    "MultiStepLR-0": lambda m, o: m.MultiStepLR(o, [0, 4], gamma=0.3),
    "ConstantLR": lambda m, o: m.ConstantLR(o, factor=0.3, total_iters=6),
    "LinearLR": lambda m, o: m.LinearLR(o),
    "LinearLR-down": lambda m, o: m.LinearLR(o, 0.9, 0.1, 33),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.93),
    "PolynomialLR": lambda m, o: m.PolynomialLR(o, 40, power=1.7),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 9, eta_min=0.01),
    "CosineAnnealingLR-1": lambda m, o: m.CosineAnnealingLR(o, 1),
    "CosineAnnealingWarmRestarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 5),
    "CosineAnnealingWarmRestarts-2": lambda m, o: m.CosineAnnealingWarmRestarts(o, 4, 2, 0.01),
    "OneCycleLR": lambda m, o: m.OneCycleLR(o, 0.7, total_steps=60),
    "OneCycleLR-linear": lambda m, o: m.OneCycleLR(
        o, [0.7, 0.2], epochs=6, steps_per_epoch=10, anneal_strategy="linear", pct_start=0.45
    ),
    "OneCycleLR-three": lambda m, o: m.OneCycleLR(
        o, 0.7, total_steps=60, three_phase=True, base_momentum=[0.7, 0.8], div_factor=5.0
    ),
    "OneCycleLR-steep": lambda m, o: m.OneCycleLR(
        o, 0.7, total_steps=60, three_phase=True, pct_start=0.6, cycle_momentum=False
    ),
    "MultiplicativeLR": lambda m, o: m.MultiplicativeLR(
        o, [lambda t: 0.99, lambda t: 1 - 1 / (2 + t)]
    ),
    "CyclicLR": lambda m, o: m.CyclicLR(o, 0.1, [0.5, 0.7], 7),
    "CyclicLR-2": lambda m, o: m.CyclicLR(
        o, [0.1, 0.2], 0.5, 3, 5, "triangular2", base_momentum=[0.5, 0.7], max_momentum=0.8
    ),
    "CyclicLR-range": lambda m, o: m.CyclicLR(
        o, 0.1, 0.5, 4, mode="exp_range", gamma=0.97, cycle_momentum=False
    ),
    "CyclicLR-cycle": lambda m, o: m.CyclicLR(o, 0.1, 0.5, 4, scale_fn=lambda c: 1 / (1 + c)),
    "CyclicLR-step": lambda m, o: m.CyclicLR(
        o, 0.1, 0.5, 4, 1, scale_fn=lambda t: 0.9**t, scale_mode="iterations"
    ),
    "ChainedScheduler": lambda m, o: m.ChainedScheduler(
        [m.ConstantLR(o, 0.1, 20), m.ExponentialLR(o, 0.9), m.StepLR(o, 9)]
    ),
    "SequentialLR": lambda m, o: m.SequentialLR(
        o,
        [m.LinearLR(o, 0.1, 1.0, 5), m.ExponentialLR(o, 0.9), m.CosineAnnealingLR(o, 20)],
        [5, 25],
    ),
    "SequentialLR-others": lambda m, o: m.SequentialLR(
        o,
        [
            m.ConstantLR(o, 0.2, 3),
            m.StepLR(o, 4),
            m.MultiStepLR(o, [0, 2]),
            m.LambdaLR(o, lambda t: 0.8**t),
            m.PolynomialLR(o, 9),
            m.CosineAnnealingWarmRestarts(o, 3),
        ],
        [4, 10, 20, 30, 40],
    ),
    "SequentialLR-again": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o), m.ConstantLR(o, 0.5, 4), m.LinearLR(o, 0.2)], [3, 9]
    ),
}


def both_optimizers(name: str = "SGD", **options: Any) -> tuple[Any, Any]:
    """Optimizers of two groups, theirs in PyTorch."""
    ours, theirs = pair([(2,), (3,)])
    made = []
    for params, module in ((ours, optim), (theirs, torch.optim)):
        for p in params:
            p.grad = (Tensor if module is optim else torch.tensor)(np.ones(p.shape))
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.4}]
        made.append(getattr(module, name)(groups, lr=0.1, **options))
    return made[0], made[1]


def momenta(optimizer: Any) -> list[float]:
    return [g["betas"][0] if "betas" in g else g["momentum"] for g in optimizer.param_groups]


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.filterwarnings("ignore:.*applied the gradients of the step before:UserWarning")
def test_same_learning_rates_as_pytorch(make: Make, name: str) -> None:
    options = {"momentum": 0.6} if name == "SGD" else {}
    mine, peer = both_optimizers(name, **options)
    schedule, other = make(lr_scheduler, mine), make(torch.optim.lr_scheduler, peer)
    for t in range(60):
        rates = [group["lr"] for group in mine.param_groups]
        assert rates == pytest.approx([group["lr"] for group in peer.param_groups], rel=1e-13), t
        assert schedule.get_last_lr() == pytest.approx(other.get_last_lr(), rel=1e-13)
        assert momenta(mine) == pytest.approx(momenta(peer), rel=1e-13)
        mine.step()
        peer.step()
        schedule.step()
        other.step()
    for p, q in zip(
        mine._parameters(), (q for g in peer.param_groups for q in g["params"]), strict=True
    ):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize(
    "names",
    [
        ("ConstantLR", "StepLR"),
        ("LinearLR-down", "MultiStepLR", "ExponentialLR"),
        ("PolynomialLR", "LinearLR"),
        ("ExponentialLR", "MultiStepLR-0"),
        ("SequentialLR", "StepLR"),
        ("LambdaLR", "LinearLR"),
    ],
    ids="+".join,
)
def test_schedules_of_one_optimizer_beside_pytorch(names: tuple[str, ...]) -> None:
    """Several at once, with a rate that is set by hand at step 12.

    Not beside `CosineAnnealingLR`: PyTorch's leaves 0 for the first rate, whatever others did.
    """
    mine, peer = both_optimizers(momentum=0.5)
    mine._stepped = peer._opt_called = True
    ours = [SCHEDULES[name](lr_scheduler, mine) for name in names]
    theirs = [SCHEDULES[name](torch.optim.lr_scheduler, peer) for name in names]
    for t in range(24):
        rates = [group["lr"] for group in mine.param_groups]
        expected = [group["lr"] for group in peer.param_groups]
        assert rates == pytest.approx(expected, rel=1e-12, abs=1e-16), t
        if t == 12:
            mine.param_groups[1]["lr"] = peer.param_groups[1]["lr"] = 0.07
        for schedule in (*ours, *theirs):
            schedule.step()


def test_fractional_epochs() -> None:
    mine, peer = both_optimizers()
    for multiple in (1, 2):
        schedule = lr_scheduler.CosineAnnealingWarmRestarts(mine, 3, multiple)
        other = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(peer, 3, multiple)
        mine._stepped = True
        for epoch in (0, 0.5, 2.9, 3, 3.1, 8.9, 9.1, 21.5, 1.5):
            schedule.step(epoch)
            other.step(epoch)
            assert schedule.get_last_lr() == pytest.approx(other.get_last_lr(), rel=1e-12), epoch


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"mode": "max", "factor": 0.5, "patience": 0, "cooldown": 2},
        {"patience": 1, "threshold": 0.05, "threshold_mode": "abs", "min_lr": 1e-3},
        {"mode": "max", "patience": 1, "threshold_mode": "abs", "min_lr": [0.02, 0.05]},
        {"factor": 0.9, "patience": 1, "eps": 0.02},
    ],
)
def test_reduce_on_plateau(options: dict[str, Any]) -> None:
    mine, peer = both_optimizers()
    schedule = lr_scheduler.ReduceLROnPlateau(mine, **options)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, **options)
    generator = np.random.default_rng(0)
    for t in range(80):
        metric = float(generator.normal(1 / (1 + t), 0.05))
        metric = float("nan") if t in (0, 20) else metric
        schedule.step(Tensor(metric))
        other.step(metric)
        assert schedule.get_last_lr() == other.get_last_lr(), t
    assert mine.param_groups[1]["lr"] < 0.4


# ------------------------------------------------------------------ Muon


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "nesterov": False, "momentum": 0.5, "ns_steps": 3},
        {"lr": 0.1, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.0},
    ],
)
def test_muon(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's with its iteration in float64 instead of bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    ours, theirs = pair([(4, 5), (5, 3), (40, 30)])
    mine, peer = optim.Muon(ours, **options), torch.optim.Muon(theirs, **options)
    generator = np.random.default_rng(1)
    for step in range(10):
        give_gradients(ours, theirs, generator, largest=0)
        mine.step()
        peer.step()
        assert differences(ours, theirs) < 1e-9, step
    assert {*mine.state_dict()["state"][0]} == {*peer.state_dict()["state"][0]}
    assert {**mine.defaults} == {**peer.defaults}
    resumed = optim.Muon(ours)
    state = peer.state_dict()
    arrays = {i: {k: v.numpy() for k, v in one.items()} for i, one in state["state"].items()}
    resumed.load_state_dict({"state": arrays, "param_groups": state["param_groups"]})


# ------------------------------------------------------------------ L-BFGS


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.001},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 7, "lr": 0.5},
        {"line_search_fn": "strong_wolfe", "max_eval": 4, "tolerance_change": 1e-4},
    ],
)
def test_lbfgs(options: dict[str, Any]) -> None:
    """As many evaluations, and the same parameters, on Rosenbrock's valley."""

    def rosenbrock(x: Any, y: Any) -> Any:
        return (100 * (y - x**2) ** 2 + (1 - x) ** 2).sum()

    x, y = np.array([-1.2, 0.7, 2.0]), np.array([1.0, 1.5, -0.3])
    ours = [Tensor(array.copy(), requires_grad=True) for array in (x, y)]
    theirs = [torch.tensor(array, requires_grad=True) for array in (x, y)]
    mine, peer = optim.LBFGS(ours, **options), torch.optim.LBFGS(theirs, **options)

    def closure(optimizer: Any, params: list[Any]) -> Any:
        def evaluate() -> Any:
            optimizer.zero_grad()
            loss = rosenbrock(*params)
            loss.backward()
            return loss

        return evaluate

    for step in range(4):
        found = mine.step(closure(mine, ours)).item()
        assert found == pytest.approx(peer.step(closure(peer, theirs)).item(), rel=1e-6)
        own, other = mine.state[ours[0]], peer.state[theirs[0]]
        assert own["func_evals"] == other["func_evals"] and own["n_iter"] == other["n_iter"], step
    assert set(own) == set(other) - {"al"}
    assert differences(ours, theirs) < 1e-6
    state = peer.state_dict()
    resumed = optim.LBFGS(ours, **options)
    resumed.load_state_dict({"state": state["state"], "param_groups": state["param_groups"]})
    assert resumed.state[ours[0]]["n_iter"] == other["n_iter"]


# ------------------------------------------------------------------ averaged weights


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 7])
def test_swa_learning_rates(epochs: int, strategy: Any) -> None:
    """Beside another schedule, which acts first, as in PyTorch's example."""
    mine, peer = both_optimizers(momentum=0.5)
    mine._stepped = peer._opt_called = True
    schedules = []
    for home, utils, one in (
        (lr_scheduler, swa_utils, mine),
        (torch.optim.lr_scheduler, torch.optim.swa_utils, peer),
    ):
        first = home.StepLR(one, 2, 0.5)
        schedules.append((first, utils.SWALR(one, [0.03, 0.05], epochs, strategy)))
    for t in range(16):
        for first, swa in schedules:
            (first if t < 5 else swa).step()
        expected = [group["lr"] for group in peer.param_groups]
        assert [group["lr"] for group in mine.param_groups] == pytest.approx(expected, rel=1e-9), t


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("average", ["", "get_ema_avg_fn", "get_ema_multi_avg_fn"])
def test_averaged_models(average: str, use_buffers: bool) -> None:
    def net(module: Any) -> Any:
        return module.Sequential(module.Linear(3, 4), module.BatchNorm1d(4), module.Linear(4, 2))

    def made(utils: Any, model: Any) -> Any:
        name = "multi_avg_fn" if "multi" in average else "avg_fn"
        function = getattr(utils, average)(0.8) if average else None
        return utils.AveragedModel(model, **{name: function}, use_buffers=use_buffers)

    ours, theirs = net(nn).double(), net(torch.nn).double()
    mine, peer = made(swa_utils, ours), made(torch.optim.swa_utils, theirs)
    generator = np.random.default_rng(0)
    for _ in range(4):
        state = {
            key: generator.random(np.shape(value)) if "num" not in key else np.array(3)
            for key, value in ours.state_dict().items()
        }
        ours.load_state_dict(state)
        theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
        mine.update_parameters(ours)
        peer.update_parameters(theirs)
    assert set(mine.state_dict()) == set(peer.state_dict())
    batches = generator.standard_normal((3, 5, 3))
    for update in (False, True):
        if update:
            swa_utils.update_bn([(Tensor(x),) for x in batches], mine)
            torch.optim.swa_utils.update_bn([[torch.tensor(x)] for x in batches], peer)
        for key, value in peer.state_dict().items():
            np.testing.assert_allclose(mine.state_dict()[key], value.numpy(), rtol=1e-12)


# ------------------------------------------------------------------ clipping


@pytest.mark.parametrize("order", [2.0, 1.0, 3.5, float("inf")])
@pytest.mark.parametrize("limit", [0.0, 0.5, 1e3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_norm(order: float, limit: float, dtype: Any) -> None:
    empty = [(0, 3)] if order < float("inf") else []  # PyTorch has no largest of none
    ours, theirs = pair([(3, 4), (), (5,), (2,), *empty], dtype)
    give_gradients(ours, theirs, np.random.default_rng(0))
    ours[3].grad = theirs[3].grad = None
    norm = optim.clip_grad_norm_(iter(ours), limit, order)
    other = torch.nn.utils.clip_grad_norm_(theirs, limit, order)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert norm.shape == () and norm.dtype == dtype
    assert norm.item() == pytest.approx(other.item(), rel=tolerance)
    for p, q in zip(ours, theirs, strict=True):
        if q.grad is None:
            assert p.grad is None
        else:
            np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=tolerance)


def test_clip_value() -> None:
    ours, theirs = pair([(3, 4), (), (5,)])
    give_gradients(ours, theirs, np.random.default_rng(0))
    optim.clip_grad_value_(ours, 0.25)
    torch.nn.utils.clip_grad_value_(theirs, 0.25)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.grad.data, q.grad.numpy())


# ------------------------------------------------------------------ sparse gradients


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
        ("SparseAdam", {"lr": 0.1, "betas": (0.5, 0.9)}),
    ],
)
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_sparse_embeddings(padding_idx: int | None, name: str, options: dict[str, Any]) -> None:
    theirs = torch.nn.Embedding(7, 3, padding_idx=padding_idx, sparse=True, dtype=torch.float64)
    ours = nn.Embedding(7, 3, padding_idx, sparse=True, dtype=np.float64)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    optimizers = [getattr(optim, name)(ours.parameters(), **options)]
    optimizers.append(getattr(torch.optim, name)(theirs.parameters(), **options))
    random = np.random.default_rng(1)
    for _ in range(5):
        rows, factor = random.integers(0, 7, (2, 3)), random.integers(0, 2, (2, 3, 3)) * 1.5
        for net, tensor, optimizer in zip(
            (ours, theirs), (Tensor, torch.tensor), optimizers, strict=True
        ):
            optimizer.zero_grad()
            (net(tensor(rows)) ** 2 * tensor(factor)).sum().backward()
            assert net.weight.grad.is_sparse
            optimizer.step()
        mine, other = ours.weight.grad.coalesce(), theirs.weight.grad.coalesce()
        assert np.array_equal(mine.indices(), other.indices().numpy())
        np.testing.assert_allclose(mine.values(), other.values().numpy(), rtol=1e-12)
        expected = theirs.weight.detach().numpy()
        np.testing.assert_allclose(ours.weight.data, expected, rtol=1e-12)
