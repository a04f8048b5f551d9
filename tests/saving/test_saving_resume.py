"""A run that is saved and resumed goes on bit for bit as one that was never interrupted."""

from __future__ import annotations

import collections
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optimizer_samples import IDS, OPTIMIZERS
from saved_runs import INPUTS, LABELS, SUFFIXES, Run, cosine, same

import tinygrad_kr as tk
from tinygrad_kr import nn, optim
from tinygrad_kr.optim import lr_scheduler

STEPS = 11
"""Steps of a run: almost three epochs of four batches."""


def check_resumes(
    path: Path, make: Any, at: int, steps: int = STEPS, compiled: bool = False
) -> None:
    """Save after step `at`, resume with other objects, and compare the losses and all state."""
    first = make(seed=1)
    first.train(steps, compiled, {at: lambda: tk.save(path, **first.parts, extra={"step": at})})
    ended = first.state()
    second = make(seed=2)
    assert tk.load(path, **second.parts) == {"step": at}
    second.train(steps - at, compiled)
    assert second.losses == first.losses[at:]
    assert same(second.state(), ended)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(1, STEPS - 1), own_generators=st.booleans())
def test_at_any_step_of_any_epoch(
    tmp_path: Path, suffix: str, at: int, own_generators: bool
) -> None:
    make = functools.partial(Run, own_generators=own_generators)
    check_resumes(tmp_path / f"run{suffix}", make, at)


@pytest.mark.parametrize("at", [3, 4])
def test_compiled_as_one_that_is_compiled_anew(tmp_path: Path, at: int) -> None:
    check_resumes(tmp_path / "run.npz", Run, at, compiled=True)


def test_a_compiled_function_goes_on_with_what_is_loaded(tmp_path: Path) -> None:
    """Loading writes into the parameters that a compiled step already knows."""
    path, run = tmp_path / "run.npz", Run(own_generators=False)
    x, y = tk.tensor(INPUTS[:6]), tk.tensor(LABELS[:6])
    step = tk.compile(run.batch)
    step(x, y)
    tk.save(path, **run.parts)
    losses = [step(x, y).item() for _ in range(3)]
    tk.load(path, **run.parts)
    np.testing.assert_allclose([step(x, y).item() for _ in range(3)], losses, rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_each_optimizer(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    make = functools.partial(
        Run, optimizer=lambda p: getattr(optim, name)(p, **options), own_generators=False
    )
    check_resumes(tmp_path / "run.npz", make, at=3, steps=6)


SCHEDULES: dict[str, Any] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.25, 0.75, 7),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 9, 2.0),
    "CosineAnnealingLR": cosine,
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 1 - 0.1 * epoch),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2, 3, "triangular2"),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 4), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.5, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
}


def test_no_schedule_is_left_out() -> None:
    assert set(SCHEDULES) == set(lr_scheduler.__all__) - {"LRScheduler"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule(tmp_path: Path, name: str) -> None:
    make = functools.partial(Run, scheduler=SCHEDULES[name], own_generators=False)
    check_resumes(tmp_path / "run.npz", make, at=3, steps=6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_in_a_new_process(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    first = Run(seed=1)
    first.train(9, after={5: lambda: tk.save(path, **first.parts)})
    code = (
        "import json, sys; from saved_runs import Run; import tinygrad_kr as tk\n"
        "run = Run(seed=7); tk.load(sys.argv[1], **run.parts)\n"
        "print(json.dumps([run.train(4), run.state()]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True,
        encoding="utf-8", env=environment(),
    )  # fmt: skip
    losses, state = json.loads(result.stdout)
    assert losses == first.losses[5:]
    assert same(state, first.state())


def environment() -> dict[str, str]:
    import os

    support = str(Path(__file__).parents[1] / "support")
    root = str(Path(tk.__file__).parents[1])
    kept = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, support, kept])}


# ------------------------------------------------------------------ the loader's position


def test_the_position_is_the_last_batch_that_was_yielded(tmp_path: Path) -> None:
    path = tmp_path / "loader.npz"
    loader = tk.data.DataLoader((np.arange(10),), 3, True, generator=np.random.default_rng(1))
    batches = iter(loader)
    seen = [next(batches)[0].data.tolist()]
    tk.save(path, loader=loader)
    rest = [batch.data.tolist() for (batch,) in batches]
    assert len(seen + rest) == 4
    later = [batch.data.tolist() for (batch,) in loader]
    other = tk.data.DataLoader((np.arange(10),), 3, True, generator=np.random.default_rng(2))
    tk.load(path, loader=other)
    assert [batch.data.tolist() for (batch,) in other] == rest
    assert [batch.data.tolist() for (batch,) in other] == later


def test_saved_after_the_last_batch_an_epoch_has_no_more(tmp_path: Path) -> None:
    path = tmp_path / "loader.npz"
    loader = tk.data.DataLoader((np.arange(6),), 3)
    for i, _ in enumerate(loader):
        if i == 1:
            tk.save(path, loader=loader)
    other = tk.data.DataLoader((np.arange(6),), 3)
    tk.load(path, loader=other)
    assert [len(list(other)), len(list(other))] == [0, 2]


# ------------------------------------------------------------------ generators


class Noise(nn.Module):
    """Generators in a list and in a function's variables."""

    def __init__(self, seed: int) -> None:
        rngs = [np.random.Generator(kind(seed)) for kind in (np.random.PCG64DXSM, np.random.SFC64)]
        inner = np.random.default_rng(seed)
        self.rngs = rngs
        self.draw = lambda: inner.random()
        self.weight = nn.Parameter([1.0])

    def forward(self, x: Any) -> Any:
        return x + sum(rng.random() for rng in self.rngs) + self.draw()


class Noisy:
    """A data set that draws."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> float:
        if index >= 5:
            raise IndexError(index)
        return index + float(self.rng.random())


def drawing(seed: int) -> tuple[dict[str, Any], Any]:
    tk.manual_seed(seed)
    net = Noise(seed)
    own = np.random.default_rng(seed)
    loader = tk.data.DataLoader(
        tk.data.Subset(Noisy(seed), [0, 1, 2]), 2, collate_fn=lambda x: [*x, float(own.random())]
    )

    def draw() -> Any:
        return [net(0.0), tk.rand(3).tolist(), list(loader)]

    optimizer = optim.SGD(net.parameters())
    return {"model": net, "optimizer": optimizer, "loader": loader}, draw


class InSlots:
    __slots__ = ("__rng", "later")

    def __init__(self) -> None:
        self.__rng = np.random.default_rng(0)

    def __call__(self) -> float:
        return self.__rng.random()


class OfBase:
    rngs = (np.random.default_rng(0),)

    def __call__(self) -> float:
        return self.rngs[0].random()


class OfClass(OfBase):
    """Its own generator hides that of its base, and is hidden by that of an instance."""

    rng = np.random.default_rng(0)

    def __init__(self, own: bool) -> None:
        if own:
            self.rng = np.random.default_rng(0)

    def __call__(self) -> float:
        return self.rng.random() + super().__call__()


def by_default(rng: Any = np.random.default_rng(0)) -> float:  # noqa: B008
    return float(rng.random())


def by_keyword(*, rng: Any = np.random.default_rng(0)) -> float:  # noqa: B008
    return float(rng.random())


def from_queue() -> Callable[[], float]:
    queue = collections.deque([np.random.default_rng(0)])
    return lambda: queue[0].random()


def from_table() -> Callable[[], float]:
    table = {(1, 2): np.random.default_rng(0), None: np.random.default_rng(1)}
    return lambda: table[1, 2].random() + table[None].random()


PLACES: dict[str, Callable[[], float]] = {
    "slots": InSlots(),
    "a base's list": OfBase(),
    "class": OfClass(own=False),
    "class and instance": OfClass(own=True),
    "default": by_default,
    "keyword": by_keyword,
    "deque": from_queue(),
    "keys that are no text": from_table(),
    "bound method": InSlots().__call__,
    "partial": functools.partial(lambda rng: rng.random(), np.random.default_rng(0)),
}


@pytest.mark.parametrize("draw", PLACES.values(), ids=PLACES)
def test_where_a_generator_may_be(tmp_path: Path, draw: Callable[[], float]) -> None:
    path, loader = tmp_path / "run.npz", tk.data.DataLoader([0], collate_fn=lambda _: draw())
    tk.save(path, loader=loader)
    expected = [list(loader) for _ in range(3)]
    tk.load(path, loader=loader)
    assert [list(loader) for _ in range(3)] == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_generator_is_restored(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    parts, draw = drawing(1)
    draw()
    tk.save(path, **parts)
    expected = draw()
    parts, draw = drawing(2)
    tk.load(path, **parts)
    assert draw() == expected


def test_a_model_alone_leaves_the_generators(tmp_path: Path) -> None:
    """Neither its file nor one of a whole run restores them with the model alone."""
    run = Run()
    tk.save(tmp_path / "net.npz", model=run.model)
    tk.save(tmp_path / "run.npz", **run.parts)
    tk.rand(1)
    before = run.state()["default"], run.state()["dropout"]
    tk.load(tmp_path / "net.npz", model=run.model)
    tk.load(tmp_path / "run.npz", model=run.model)
    assert before == (run.state()["default"], run.state()["dropout"])
    with np.load(tmp_path / "net.npz") as file:
        assert list(file) == list(run.model.state_dict())


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "loader"])
def test_one_part_restores_the_default_generator(tmp_path: Path, part: str) -> None:
    run = Run()
    tk.save(tmp_path / "part.npz", **{part: run.parts[part]})
    expected = tk.rand(4).tolist()
    tk.load(tmp_path / "part.npz", **{part: run.parts[part]})
    assert tk.rand(4).tolist() == expected


def test_a_generator_of_another_kind_is_refused(tmp_path: Path) -> None:
    path, run = tmp_path / "run.npz", Run()
    tk.save(path, **run.parts)
    other = Run()
    other.model[2].generator = np.random.default_rng(0)
    before = other.state()
    with pytest.raises(ValueError, match=r"of model: 2\.generator: expected a state of"):
        tk.load(path, **other.parts)
    other.model[2].generator = None
    with pytest.raises(ValueError, match=r"generators of model: expected none, got 2\.generator"):
        tk.load(path, **other.parts)
    assert same({**other.state(), "dropout": 0}, {**before, "dropout": 0})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (np.random.MT19937, {"state": {"key": [0] * 624, "pos": 625}}),
        (np.random.MT19937, {"state": {"key": [0] * 623, "pos": 0}}),
        (np.random.MT19937, {"state": {"key": [2**32] * 624, "pos": 0}}),
        (np.random.Philox, {"buffer_pos": 5}),
        (np.random.Philox, {"buffer_pos": -1}),
        (np.random.PCG64, {"has_uint32": 2**40}),
        (np.random.PCG64, {"state": {"state": 2**128, "inc": 1}}),
        (np.random.PCG64, {"state": {"state": "1", "inc": 1}}),
        (np.random.PCG64, {"bit_generator": "MT19937"}),
        (np.random.SFC64, {"state": 3}),
        (np.random.SFC64, {"uinteger": True}),
    ],
)
def test_a_state_that_numpy_would_take_and_fall_over_is_refused(kind: Any, change: Any) -> None:
    generator = np.random.Generator(kind(0))
    state = tk.random.generator_state(generator)
    tk.random.fitting_state(generator, state, "test")
    with pytest.raises(ValueError, match="test: expected a state of a"):
        tk.random.fitting_state(generator, {**state, **change}, "test")
