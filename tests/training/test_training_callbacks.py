"""The callbacks of `tk.fit`: stopping, keeping the best, schedules, and what is shown."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim, training
from tinygrad_kr.optim import lr_scheduler


class Constant(nn.Module):
    """Its loss in epoch n is the n-th of the values; `at` counts the epochs."""

    def __init__(self) -> None:
        self.at = nn.Parameter(tk.zeros(1))

    def forward(self, x: Tensor) -> Any:
        return self.at + 0 * x


def losses_of(values: list[float]) -> Any:
    """A loss with the given values by epoch; its gradient moves `at` by 1 with a rate of 1."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        at = outputs.mean()
        value = values[int(at.detach().numpy().round())]
        return tk.where(tk.tensor(True), value - (at - at.detach()), at)

    return loss


ROW = np.zeros((1, 1), np.float32)


def run(values: list[float], *callbacks: Any, epochs: int | None = None, **options: Any) -> Any:
    """Train `Constant` through the values; the model and the history."""
    net = Constant()
    optimizer = options.pop("optimizer", None) or optim.SGD(net.parameters(), lr=1.0)
    history = tk.fit(
        net, [(ROW, ROW)], losses_of(values), optimizer, epochs or len(values),
        callbacks=callbacks, progress=False, compile=False, **options,
    )  # fmt: skip
    return net, history


def test_the_losses_are_those_of_the_test() -> None:
    net, history = run([3.0, 1.0, 2.0])
    assert history["loss"] == [3.0, 1.0, 2.0]
    assert net.at.item() == 3


# ------------------------------------------------------------------ what is called


def test_callbacks_are_called_in_order() -> None:
    said: list[Any] = []

    class Tells(training.Callback):
        def on_train_begin(self, now: training.Training) -> None:
            said.append(("begin", now.epoch, now.batches, repr(now.history)))

        def on_batch_end(self, now: training.Training) -> None:
            said.append(("batch", now.epoch, now.batch))

        def on_epoch_end(self, now: training.Training) -> None:
            said.append(("epoch", now.epoch, list(now.history["loss"])))

        def on_train_end(self, now: training.Training) -> None:
            said.append(("end", now.epoch))

    run([3.0, 2.0], Tells(), lambda now: said.append(("function", now.epoch, now.epochs)))
    assert said == [
        ("begin", 0, 1, "{'loss': []}"),
        ("batch", 1, 1), ("epoch", 1, [3.0]), ("function", 1, 2),
        ("batch", 2, 1), ("epoch", 2, [3.0, 2.0]), ("function", 2, 2),
        ("end", 2),
    ]  # fmt: skip


def test_one_callback_needs_no_list() -> None:
    epochs: list[int] = []
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    loss = losses_of([2.0, 1.0])
    for callbacks in (lambda now: epochs.append(now.epoch), training.TerminateOnNaN()):
        with tk.no_grad():
            net.at.fill_(0)
        tk.fit(
            net, [(ROW, ROW)], loss, optimizer, 2, callbacks=callbacks, progress=False,
            compile=False,
        )  # fmt: skip
    assert epochs == [1, 2]


def test_a_function_may_stop() -> None:
    def stop(now: training.Training) -> None:
        now.stop = now.epoch == 2

    assert len(run([3.0, 2.0, 1.0, 0.0], stop)[1]["loss"]) == 2


def test_a_callback_may_keep_a_list_in_the_history() -> None:
    class Own(training.Callback):
        def on_train_begin(self, now: training.Training) -> None:
            now.history["weight"] = []

        def on_epoch_end(self, now: training.Training) -> None:
            now.history["weight"].append(now.model.at.item())  # type: ignore[union-attr, operator]

    stopping = training.EarlyStopping("weight", mode="max", patience=1)
    history = run([3.0, 2.0, 1.0], Own(), stopping)[1]
    assert history["weight"] == [1, 2, 3]
    assert stopping.best_epoch == 3


# ------------------------------------------------------------------ EarlyStopping


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([3, 2, 1, 0], {}, 4, 4),
        ([3, 2, 2, 0], {}, 3, 2),
        ([3, 1, 2, 0.5], {"patience": 1}, 3, 2),
        ([3, 1, 2, 0.5], {"patience": 2}, 4, 4),
        ([3, 1, 2, 1.5, 0], {"patience": 2}, 4, 2),
        ([3, 1, 0.95, 0.9], {"min_delta": 0.2}, 3, 2),
        ([1, 2, 1, 3], {"mode": "max"}, 3, 2),
        ([3, float("nan"), 2, 1], {"patience": 2}, 4, 4),
        ([3, float("nan"), float("nan"), 1], {"patience": 2}, 3, 1),
    ],
)
def test_early_stopping_has_patience(
    values: list[float], options: dict[str, Any], epochs: int, best: int
) -> None:
    stopping = training.EarlyStopping("loss", **options)
    history = run(values, stopping)[1]
    assert len(history["loss"]) == epochs
    assert stopping.best_epoch == best
    assert stopping.stopped_epoch == (epochs if epochs < len(values) else 0)


@pytest.mark.parametrize(("restore", "at"), [(True, 2), (False, 4)])
def test_the_best_weights_are_restored(restore: bool, at: int) -> None:
    stopping = training.EarlyStopping("loss", patience=2, restore_best_weights=restore)
    assert run([3, 1, 2, 2, 0], stopping)[0].at.item() == at
    assert run([3, 1, 2, 2, 0], stopping)[0].at.item() == at  # and in a second training


def test_the_best_weights_are_copies() -> None:
    def write(now: training.Training) -> None:
        if now.epoch == 2:
            now.model.at.data[...] += 0.25  # into the array that was best

    stopping = training.EarlyStopping("loss", patience=2, restore_best_weights=True)
    assert run([3, 1, 2, 2, 0], stopping, write)[0].at.item() == 2


def test_they_are_restored_after_ctrl_c() -> None:
    def interrupt(now: training.Training) -> None:
        if now.epoch == 3:
            raise KeyboardInterrupt

    stopping = training.EarlyStopping("loss", patience=9, restore_best_weights=True)
    net, history = run([3, 1, 2, 2], stopping, interrupt)
    assert history.interrupted
    assert net.at.item() == 2


@pytest.mark.parametrize(
    "make",
    [training.EarlyStopping, lambda: training.ModelCheckpoint("best.npz")],
)
def test_a_name_that_is_not_in_the_history_is_an_error_before_training(make: Any) -> None:
    trained: list[int] = []
    with pytest.raises(ValueError, match=r"a monitor of loss, got 'val_loss'.*validation="):
        run([1.0], make(), lambda now: trained.append(now.epoch))
    assert not trained


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="'auto', 'min' or 'max', got 'least'"):
        training.EarlyStopping(mode="least")
    with pytest.raises(TypeError):
        training.EarlyStopping(patience=1.5)  # type: ignore[arg-type]


def test_accuracy_is_better_when_it_rises() -> None:
    assert training.EarlyStopping("val_accuracy").sign == -1
    assert training.EarlyStopping("val_loss").sign == 1
    assert training.EarlyStopping("accuracy", mode="min").sign == 1


# ------------------------------------------------------------------ ModelCheckpoint


def test_the_best_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "best.npz"
    _, history = run([3, 1, 2], training.ModelCheckpoint(path, "loss"))
    other = Constant()
    assert tk.load(path, model=other) == {"epoch": 2, "loss": 1.0} == history.best
    assert other.at.item() == 2


def test_every_epoch_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "epoch{epoch}.npz"
    run([3, 1, 2], training.ModelCheckpoint(path, "loss", save_best_only=False))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "epoch1.npz", "epoch2.npz", "epoch3.npz",
    ]  # fmt: skip


# ------------------------------------------------------------------ schedules


class Rates(training.Callback):
    """The rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_batch_end(self, now: training.Training) -> None:
        self.rates.append(now.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("compile", [False, True])
def test_schedules_step_by_epoch_or_by_batch(compile: bool) -> None:
    x = np.ones((4, 1), np.float32)

    def rates(make: Any, **options: Any) -> tuple[list[float], list[float], float]:
        tk.manual_seed(0)
        net = nn.Linear(1, 1)
        optimizer = optim.SGD(net.parameters(), lr=0.8)
        seen = Rates()
        schedule = training.LearningRateScheduler(make(optimizer), **options)
        history = tk.fit(
            net, (x, x), F.mse_loss, optimizer, 3, batch_size=2, callbacks=[seen, schedule],
            progress=False, compile=compile,
        )  # fmt: skip
        return seen.rates, history["lr"], net.weight.item()

    def halving(optimizer: optim.Optimizer) -> Any:
        return lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    by_epoch, noted, weight = rates(halving)
    assert by_epoch == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
    assert noted == [0.8, 0.4, 0.2]
    by_batch, noted, other = rates(halving, interval="batch")
    assert by_batch == [0.8, 0.4, 0.2, 0.1, 0.05, 0.025]
    assert noted == [0.4, 0.1, 0.025]
    assert weight != other


def test_a_plateau_reduces_the_rate() -> None:
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    schedule = training.LearningRateScheduler(plateau, monitor="loss")
    history = tk.fit(
        net, [(ROW, ROW)], lambda y, t: y.sum() * 0 + 1.0, optimizer, 4, callbacks=[schedule],
        progress=False,
    )  # fmt: skip
    assert history["lr"] == [1.0, 1.0, 0.5, 0.25]


def test_a_plateau_gets_the_value_that_it_monitors() -> None:
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    schedule = training.LearningRateScheduler(plateau, monitor="flat")
    history = tk.fit(
        net, [(ROW, ROW)], lambda y, t: y.sum() * 0 + 1.0 / (1 + schedule.scheduler.last_epoch),
        optimizer, 4, callbacks=[schedule], metrics={"flat": lambda y, t: 1.0}, progress=False,
        compile=False,
    )  # fmt: skip
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert history["lr"] == [1.0, 1.0, 0.5, 0.25]


def test_every_callback_sees_the_rate_of_its_epoch(tmp_path: Path) -> None:
    path = tmp_path / "best.npz"
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    halving = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    callbacks = training.ModelCheckpoint(path, "loss"), training.LearningRateScheduler(halving)
    history = tk.fit(
        net, [(ROW, ROW)], lambda y, t: (y * 0).sum() - 1 / optimizer.param_groups[0]["lr"],
        optimizer, 3, callbacks=callbacks, progress=False, compile=False,
    )  # fmt: skip
    assert tk.load(path, model=net) == history.best == {"epoch": 3, "loss": -4.0, "lr": 0.25}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_lists_are_of_one_length_after_an_interrupt(error: type[BaseException]) -> None:
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    rates = training.LearningRateScheduler(lr_scheduler.StepLR(optimizer, 1))

    class Stops(training.Callback):
        def on_batch_end(self, now: training.Training) -> None:
            if now.epoch == 3:
                raise error

    try:
        history = tk.fit(
            net, [(ROW, ROW)], losses_of([3.0, 2.0, 1.0]), optimizer, 3,
            callbacks=[rates, Stops()], progress=False, compile=False,
        )  # fmt: skip
    except RuntimeError as raised:
        history = raised.history  # type: ignore[attr-defined]
    assert {name: len(values) for name, values in history.items()} == {"loss": 2, "lr": 2}


def test_a_schedule_that_does_not_fit_is_refused() -> None:
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(TypeError, match=r"a schedule of optim\.lr_scheduler, got SGD"):
        training.LearningRateScheduler(optimizer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'epoch' or 'batch', got 'step'"):
        training.LearningRateScheduler(plateau, interval="step")
    with pytest.raises(ValueError, match="'epoch' for ReduceLROnPlateau"):
        training.LearningRateScheduler(plateau, interval="batch")
    with pytest.raises(TypeError, match=r"Write LearningRateScheduler\(scheduler\)"):
        run([1.0], plateau)
    with pytest.raises(ValueError, match="got one of another"):
        run([1.0], training.LearningRateScheduler(plateau, monitor="loss"))
    with pytest.raises(ValueError, match="a monitor of loss, got 'val_loss'"):
        run([1.0], training.LearningRateScheduler(plateau), optimizer=optimizer)


def test_training_ends_at_nan() -> None:
    values = [1.0, float("inf"), 1.0]
    assert len(run(values, training.TerminateOnNaN())[1]["loss"]) == 2
    assert len(run(values)[1]["loss"]) == 3


# ------------------------------------------------------------------ what is shown


class FakeBar:
    """What is asked of tqdm's bar."""

    made: list[FakeBar]

    def __init__(self, total: int | None = None, unit: str = "") -> None:
        self.total, self.done, self.closed = total, 0, False
        self.descriptions: list[str] = []
        self.lines: list[str] = []
        self.made.append(self)

    def update(self) -> None:
        self.done += 1

    def set_description(self, text: str, refresh: bool) -> None:
        self.descriptions.append(text)

    def write(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.closed = True


class Notebook(FakeBar):
    """As in a notebook: its class is tqdm.notebook's."""


Notebook.__module__ = "tqdm.notebook"


def with_tqdm(monkeypatch: pytest.MonkeyPatch, bar: type[FakeBar] | None, terminal: bool) -> None:
    FakeBar.made = []
    module: Any = types.ModuleType("tqdm.auto")
    if bar is not None:
        module.tqdm = bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module if bar else None)  # type: ignore[arg-type]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)


def shown(values: list[float], **options: Any) -> None:
    net = Constant()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    tk.fit(net, [(ROW, ROW)], losses_of(values), optimizer, len(values), compile=False, **options)


@pytest.mark.parametrize(("bar", "terminal"), [(FakeBar, True), (Notebook, False)])
def test_a_bar_on_a_terminal_and_in_a_notebook(
    bar: type[FakeBar], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tqdm(monkeypatch, bar, terminal)
    shown([3.0, 2.0], callbacks=[training.ProgressBar(seconds=0)], progress=False)
    (made,) = FakeBar.made
    assert (made.total, made.done, made.closed) == (2, 2, True)
    assert made.descriptions == ["epoch 1/2", "epoch 2/2"]
    assert [line.partition("   (")[0] for line in made.lines] == [
        "epoch 1/2   loss 3", "epoch 2/2   loss 2",
    ]  # fmt: skip


def test_what_tqdm_misses_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Complaining(FakeBar):
        def __init__(self, **options: Any) -> None:
            warnings.warn("IProgress not found", stacklevel=1)
            super().__init__(**options)

    with_tqdm(monkeypatch, Complaining, True)
    run([2.0, 1.0], training.ProgressBar())
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


@pytest.mark.parametrize(("bar", "terminal"), [(FakeBar, False), (None, True)])
def test_lines_without_tqdm_and_in_a_pipe(
    bar: type[FakeBar] | None,
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_tqdm(monkeypatch, bar, terminal)
    shown([float(value) for value in range(12)])
    lines = capsys.readouterr().out.splitlines()
    assert FakeBar.made == []
    assert lines[-1].startswith("epoch 12/12   loss 11   (")
    assert len(lines) <= 2, "at most one a second"
    every = training.ProgressBar(seconds=0)
    shown([float(value) for value in range(12)], callbacks=[every], progress=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in lines] == [f"epoch {n:>2}/12 " for n in range(1, 13)]
    with pytest.raises(ValueError, match="seconds >= 0, got -1"):
        training.ProgressBar(-1)


def test_nothing_is_shown_if_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    shown([1.0], progress=False)
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_closed_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(now: training.Training) -> None:
        raise RuntimeError

    with_tqdm(monkeypatch, FakeBar, True)
    with pytest.raises(RuntimeError):
        shown([1.0, 2.0], callbacks=[fail])
    assert FakeBar.made[0].closed


def test_lines_and_the_warning_in_korean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_LANG", "ko")
    shown([3.0, 2.0], callbacks=[training.ProgressBar(seconds=0)], progress=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("에포크 1/2   loss 3") and second.endswith("초)")

    class Reads(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x) if float(x.sum()) else x

    net, x = Reads(1, 1), np.ones((4, 1), np.float32)
    with pytest.warns(UserWarning, match="쓰인 그대로 실행합니다"):
        tk.fit(net, (x, x), F.mse_loss, optim.SGD(net.parameters(), lr=0.1), 1, progress=False)
