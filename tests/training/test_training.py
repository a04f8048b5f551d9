"""`tk.fit`, `tk.evaluate` and `tk.predict`: the loop, its data, its metrics, and how it ends."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, optim, training

ROWS, CLASSES = 50, 3


def samples(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(rows, 4)).astype(np.float32)
    return inputs, inputs[:, :CLASSES].argmax(1)


def make_net(*more: nn.Module) -> nn.Sequential:
    tk.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), *more, nn.Linear(8, CLASSES))


def quiet_fit(net: nn.Module, pairs: Any, epochs: int = 2, **options: Any) -> training.History:
    optimizer = options.pop("optimizer", None) or optim.SGD(net.parameters(), lr=0.1)
    loss = options.pop("loss", F.cross_entropy)
    return tk.fit(net, pairs, loss, optimizer, epochs, progress=False, **options)


def arrays_of(net: nn.Module) -> list[np.ndarray]:
    return [value.copy() for value in net.state_dict().values()]


# ------------------------------------------------------------------ the loop


@pytest.mark.parametrize("compile", [False, True])
def test_it_does_what_the_loop_written_by_hand_does(compile: bool) -> None:
    """Batches of 16, 16, 16 and 2 rows, with dropout: means are weighted by the rows."""
    inputs, labels = samples()
    net = make_net(nn.Dropout(0.3))
    tk.manual_seed(7)
    history = quiet_fit(
        net, (inputs, labels), 3, batch_size=16, metrics=["accuracy"], compile=compile
    )
    other = make_net(nn.Dropout(0.3))
    optimizer = optim.SGD(other.parameters(), lr=0.1)
    tk.manual_seed(7)
    loader = data.DataLoader((inputs, labels), 16, shuffle=True)
    losses, shares = [], []
    for _ in range(3):
        total, right = 0.0, 0
        for x, t in loader:
            logits = other(x)
            loss = F.cross_entropy(logits, t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(t)
            right += int((logits.data.argmax(1) == t.data).sum())
        losses.append(total / ROWS)
        shares.append(right / ROWS)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    np.testing.assert_allclose(history["accuracy"], shares)
    for ours, by_hand in zip(arrays_of(net), arrays_of(other), strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=1e-4, atol=1e-6)


def test_the_loop_is_readable_in_one_screen() -> None:
    source = inspect.getsource(training.fit)
    body = source.partition('"""')[2].partition('"""')[2]
    assert 20 < len([line for line in body.splitlines() if line.strip()]) <= 60


def test_validation_is_what_evaluate_gives_after_the_epoch() -> None:
    pair, held_out = samples(), samples(33)
    net = make_net(nn.Dropout(0.5))
    history = quiet_fit(net, pair, 3, validation=held_out, metrics="accuracy")
    found = tk.evaluate(net, held_out, F.cross_entropy, metrics="accuracy")
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert {name: history[f"val_{name}"][-1] for name in found} == pytest.approx(found, rel=1e-6)
    assert {len(values) for values in history.values()} == {3}


@pytest.mark.parametrize("compile", [False, True])
def test_evaluate_is_the_mean_over_all_rows_without_dropout(compile: bool) -> None:
    inputs, labels = samples(70)  # batches of 32, 32 and 6
    net = make_net(nn.Dropout(0.9))
    found = tk.evaluate(
        net, (inputs, labels), F.cross_entropy, metrics=["accuracy"], compile=compile
    )
    net.eval()
    logits = net(Tensor(inputs))
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((logits.data.argmax(1) == labels).mean())


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("form", ["array", "Tensor", "pair", "loader", "batches"])
def test_predict_gives_all_rows_in_order(form: str, compile: bool) -> None:
    inputs, labels = samples(70)
    given = {
        "array": inputs,
        "Tensor": Tensor(inputs),
        "pair": (inputs, labels),
        "loader": data.DataLoader((inputs, labels), 9),
        "batches": [inputs[:50], inputs[50:]],
    }[form]
    net = make_net(nn.Dropout(0.9))
    found = tk.predict(net, given, compile=compile)
    assert isinstance(found, Tensor)
    assert not found.requires_grad
    assert net.training
    np.testing.assert_allclose(found.data, net.eval()(Tensor(inputs)).data, rtol=1e-5, atol=1e-6)


def test_predict_joins_every_part_of_a_structure() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"a": x * 2, "b": (x.sum(1),)}

    inputs = samples(70)[0]
    found = tk.predict(Two(), inputs)
    np.testing.assert_array_equal(found["a"].data, inputs * 2)
    assert found["b"][0].shape == (70,)


def test_inputs_may_be_a_structure() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(4, CLASSES)

        def forward(self, pair: Any) -> Any:
            return self.linear(pair["a"] + pair["b"])

    inputs, labels = samples()
    batches = [({"a": inputs, "b": inputs}, labels)]
    net = Sum()
    assert len(quiet_fit(net, batches, 2)["loss"]) == 2
    assert tk.predict(net, batches).shape == (ROWS, CLASSES)
    history = quiet_fit(net, ({"a": inputs, "b": inputs}, labels), 2, batch_size=16)
    assert history["loss"][1] < history["loss"][0]
    right = net({"a": Tensor(inputs), "b": Tensor(inputs)}).detach().data
    found = tk.predict(net, {"a": inputs, "b": inputs}, batch_size=16)
    np.testing.assert_allclose(found.data, right, rtol=1e-5, atol=1e-6)
    given = ({"a": inputs, "b": inputs}, labels)
    loss = tk.evaluate(net, given, F.cross_entropy, batch_size=16)["loss"]
    assert loss == pytest.approx(F.cross_entropy(Tensor(right), Tensor(labels)).item(), rel=1e-5)


def test_two_inputs_are_shuffled_alike() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            self.scale = nn.Parameter(tk.zeros(1))

        def forward(self, pair: Any) -> Any:
            return pair[0] * pair[1] + 0 * self.scale

    inputs = samples()[0]
    net = Product()
    history = quiet_fit(net, ((inputs, inputs), inputs**2), 1, loss=F.mse_loss, batch_size=7)
    assert history["loss"][0] < 1e-12
    rows = ((0.0, 0.0), (1.0, 1.0), (2.0, 2.0))  # numbers are rows, not inputs
    line = nn.Linear(2, 1)
    assert quiet_fit(line, (rows, ((0.0,), (1.0,), (2.0,))), 1, loss=F.mse_loss)["loss"]


# ------------------------------------------------------------------ data


class Again:
    """Yields batches in each pass; it has no length."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches


@pytest.mark.parametrize(
    "form",
    [
        lambda x, t: data.DataLoader((x, t), ROWS),
        lambda x, t: data.DataLoader(data.TensorDataset(x, t), ROWS),
        lambda x, t: [(x, t)],
        lambda x, t: [[x, t]],
        lambda x, t: [(x.tolist(), t.tolist())],
        lambda x, t: Again([(Tensor(x), Tensor(t))]),
    ],
)
def test_every_form_of_data_trains_alike(form: Callable[..., Any]) -> None:
    inputs, labels = samples()
    net, other = make_net(), make_net()
    quiet_fit(net, form(inputs, labels), compile=False)
    quiet_fit(other, [(inputs, labels)], compile=False)
    for ours, theirs in zip(arrays_of(net), arrays_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("wrap", [tuple, lambda pair: data.TensorDataset(*pair)])
def test_arrays_and_data_sets_are_shuffled_into_batches_of_32(wrap: Callable[..., Any]) -> None:
    inputs = np.arange(70, dtype=np.float32).reshape(70, 1)
    seen: list[np.ndarray] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Any:
            seen.append(x.data.copy())
            return self.linear(x)

    pair = wrap((inputs, inputs))
    quiet_fit(Watched(), pair, 1, loss=F.mse_loss, compile=False, validation=pair)
    assert [len(batch) for batch in seen] == [32, 32, 6] * 2
    assert not np.array_equal(np.concatenate(seen[:3]), inputs)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen[:3]), 0), inputs)
    np.testing.assert_array_equal(np.concatenate(seen[3:]), inputs)


@pytest.mark.parametrize("which", ["data", "validation"])
def test_an_iterator_is_refused_before_training(which: str) -> None:
    net, pair = make_net(), samples()
    before = arrays_of(net)
    given = {"data": pair, "validation": None, which: (batch for batch in [pair])}
    with pytest.raises(TypeError, match=r"once per epoch, got generator.*list\(batches\)"):
        quiet_fit(net, given["data"], validation=given["validation"])
    for array, kept in zip(arrays_of(net), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_an_iterator_is_enough_for_one_pass() -> None:
    pair = samples()
    assert len(quiet_fit(make_net(), iter([pair]), 1)["loss"]) == 1
    assert tk.evaluate(make_net(), iter([pair]), F.cross_entropy)["loss"] > 0


def test_data_that_are_used_up_are_an_error_with_the_history() -> None:
    class Once:
        def __init__(self) -> None:
            self.rest = iter([samples()])

        def __iter__(self) -> Any:
            yield from self.rest

    with pytest.raises(ValueError, match="batches in every pass") as caught:
        quiet_fit(make_net(), Once())
    assert len(caught.value.history["loss"]) == 1  # type: ignore[attr-defined]


X, T = samples()


@pytest.mark.parametrize(
    ("pairs", "options", "error", "said"),
    [
        ((X, T, T), {}, ValueError, r"\(inputs, targets\), got 3 items"),
        (X, {}, TypeError, "got ndarray"),
        ("mnist", {}, TypeError, "got str"),
        (7, {}, TypeError, "got int"),
        ([X], {}, ValueError, r"batches that are \(inputs, targets\), got ndarray"),
        ([(X, T, T)], {}, ValueError, "got 3 items"),
        ([], {}, ValueError, "batches in every pass"),
        ([(X, np.float32(1))], {}, ValueError, r"at least one row, got shape \(\)"),
        ([(X[:0], T[:0])], {}, ValueError, r"at least one row, got shape \(0,\)"),
        ([(X, T)], {"batch_size": 8}, ValueError, "batch_size with arrays alone"),
        ((X, T), {"metrics": ["f1"]}, ValueError, "a metric of accuracy, mse, mae, got 'f1'"),
        ((X, T), {"metrics": [7]}, TypeError, "name or a function, got int"),
        ((X, T), {"metrics": {"loss": F.mse_loss}}, ValueError, "another name than 'loss'"),
        ((X, T), {"metrics": ["mse", "mse"]}, ValueError, "with different names"),
        ((X, T), {"loss": "cross_entropy"}, TypeError, "as loss, got str"),
        ((X, T), {"loss": lambda y, t: 0.5}, TypeError, "returns a Tensor, got float"),
        (
            (X, T),
            {"loss": nn.CrossEntropyLoss(reduction="none")},
            ValueError,
            r"one number, got shape \(32,\).*mean",
        ),
        ((X, T), {"epochs": 0}, ValueError, "epochs >= 1, got 0"),
        ((X, T), {"epochs": 1.5}, TypeError, "an integer epochs, got float"),
        ((X, T), {"callbacks": [training.TerminateOnNaN]}, TypeError, "the class TerminateOnNaN"),
        ((X, T), {"callbacks": training.TerminateOnNaN}, TypeError, "the class TerminateOnNaN"),
        ((X, T), {"callbacks": [3]}, TypeError, "got 3"),
        ((X, T), {"metrics": {"m": lambda y, t: y}}, ValueError, "one number for 'm'"),
    ],
)
def test_what_cannot_be_trained_is_an_error(
    pairs: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        quiet_fit(make_net(), pairs, **options)


def test_other_models_and_optimizers_are_refused() -> None:
    net = make_net()
    with pytest.raises(TypeError, match=r"an nn\.Module, got function"):
        tk.fit(lambda x: x, (X, T), F.cross_entropy, None, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"an Optimizer, got list.*optim\.Adam"):
        tk.fit(net, (X, T), F.cross_entropy, list(net.parameters()), 1)  # type: ignore[arg-type]
    for call in (tk.evaluate, tk.predict):
        with pytest.raises(TypeError, match=r"an nn\.Module, got int"):
            call(3, (X, T), F.cross_entropy) if call is tk.evaluate else call(3, X)  # type: ignore
    with pytest.raises(ValueError, match="shuffle=True"):
        tk.predict(net, data.DataLoader((X, T), shuffle=True))
    with pytest.raises(ValueError, match="at least one batch"):
        tk.predict(net, [])


# ------------------------------------------------------------------ compiled


def test_a_model_that_reads_elements_runs_as_written_and_says_so() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            self.dropout, self.linear = nn.Dropout(0.2), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Any:
            x = self.dropout(x)
            return self.linear(x if x.sum().item() > 0 else -x)

    def trained(**options: Any) -> list[np.ndarray]:
        tk.manual_seed(1)
        net = Reads()
        quiet_fit(net, samples(), 3, **options)
        return arrays_of(net)

    with pytest.warns(UserWarning, match=r"runs as written.*compile=False.*item") as caught:
        ours = trained()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = trained(compile=False)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam, optim.RMSprop])
def test_compiled_or_not_is_the_same(rule: type[optim.Optimizer]) -> None:
    """In float64, with dropout, batch norm, a schedule, and a last batch of 6 rows."""
    inputs, labels = samples(70)

    def trained(compile: bool) -> tuple[training.History, list[np.ndarray], Any]:
        net = make_net(nn.BatchNorm1d(8), nn.Dropout(0.3)).to(np.float64)
        optimizer = rule(net.parameters(), lr=0.01)
        halving = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        history = quiet_fit(
            net, (inputs.astype(np.float64), labels), 4, optimizer=optimizer, batch_size=16,
            validation=(inputs[:33], labels[:33]), metrics=["accuracy"], compile=compile,
            callbacks=[training.LearningRateScheduler(halving)],
        )  # fmt: skip
        return history, arrays_of(net), tk.random.default_generator().bit_generator.state

    (ours, arrays, state), (theirs, expected, other) = trained(True), trained(False)
    assert list(ours) == list(theirs)
    assert state == other
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-6, err_msg=name)
    for one, array in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(one, array, rtol=1e-6, atol=1e-9)


def test_the_step_and_the_evaluation_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    compile = training.compiled
    monkeypatch.setattr(training, "compiled", lambda f: made.append(compile(f)) or made[-1])
    pair = np.tile(X, (4, 1)), np.tile(T, 4)
    quiet_fit(make_net(), pair, 5, validation=pair, batch_size=40)
    assert len(made) == 2
    for step in made:
        assert "compiled" in step.explain()


# ------------------------------------------------------------------ modes, interrupts


class Failing(training.Callback):
    def __init__(self, error: type[BaseException], epoch: int) -> None:
        self.error, self.epoch = error, epoch

    def on_batch_end(self, now: training.Training) -> None:
        if now.epoch == self.epoch:
            raise self.error


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_modes_are_as_before(error: type[BaseException] | None) -> None:
    net = make_net(nn.Dropout(0.5))
    net[2].eval()
    before = modes(net)
    callbacks = [Failing(error, 2)] if error else []
    try:
        quiet_fit(net, samples(), validation=samples(), callbacks=callbacks)
    except RuntimeError:
        assert error is RuntimeError
    assert modes(net) == before
    tk.evaluate(net.eval(), samples(), F.cross_entropy)
    assert not any(modes(net))


def test_training_and_validation_have_their_modes() -> None:
    seen: list[tuple[bool, bool]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Any:
            seen.append((self.training, tk.is_grad_enabled()))
            return self.linear(x)

    quiet_fit(Watched().eval(), samples(), 2, batch_size=50, validation=samples(), compile=False)
    assert seen == [(True, True), (False, False)] * 2


def test_ctrl_c_keeps_the_history_so_far() -> None:
    ended: list[int] = []

    class Ends(training.Callback):
        def on_train_end(self, now: training.Training) -> None:
            ended.append(now.epoch)

    history = quiet_fit(make_net(), samples(), 9, callbacks=[Ends(), Failing(KeyboardInterrupt, 3)])
    assert history.interrupted
    assert len(history["loss"]) == 2
    assert ended == [3]
    assert not quiet_fit(make_net(), samples()).interrupted


def test_ctrl_c_in_the_first_epoch_is_raised() -> None:
    with pytest.raises(KeyboardInterrupt):
        quiet_fit(make_net(), samples(), callbacks=[Failing(KeyboardInterrupt, 1)])


def test_an_error_has_the_history_so_far() -> None:
    with pytest.raises(RuntimeError) as caught:
        quiet_fit(make_net(), samples(), 5, callbacks=[Failing(RuntimeError, 4)])
    assert len(caught.value.history["loss"]) == 3  # type: ignore[attr-defined]


# ------------------------------------------------------------------ metrics


def accuracy(outputs: Any, targets: Any, loss: Any) -> float:
    """By `evaluate`, in one batch."""
    pair = [(np.asarray(outputs, np.float32), np.asarray(targets))]
    net = nn.Sequential(nn.Identity())
    return tk.evaluate(net, pair, loss, metrics="accuracy", compile=False)["accuracy"]


def any_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.mean()


ROW3 = [[0.1, 0.7, 0.2], [0.6, 0.3, 0.1], [0.2, 0.3, 0.6], [0.9, 0.0, 0.1]]
ONE_HOT = np.eye(3, dtype=np.float32)[[1, 0, 2, 1]]


@pytest.mark.parametrize(
    ("outputs", "targets", "loss", "share"),
    [
        (ROW3, [1, 0, 2, 1], F.cross_entropy, 0.75),
        (ROW3, [1, 0, 2, 1], any_loss, 0.75),
        (ROW3, ONE_HOT, nn.CrossEntropyLoss(), 0.75),
        (ROW3, ONE_HOT, nn.BCELoss(), 10 / 12),
        ([[0.4], [-0.4], [0.4]], np.float32([[1], [0], [0]]), nn.BCEWithLogitsLoss(), 2 / 3),
        ([[0.4], [0.4], [0.6]], np.float32([[1], [0], [1]]), F.binary_cross_entropy, 2 / 3),
        ([[0.4], [0.4], [0.6]], np.float32([[1], [0], [1]]), F.mse_loss, 2 / 3),
        ([0.4, 0.6], np.float32([0, 1]), F.mse_loss, 1.0),
        (np.moveaxis([ROW3, ROW3], 2, 1), [[1, 0, 2, 0], [0, 0, 0, 1]], F.cross_entropy, 0.625),
    ],
)
def test_accuracy(outputs: Any, targets: Any, loss: Any, share: float) -> None:
    assert accuracy(outputs, targets, loss) == pytest.approx(share)


@pytest.mark.parametrize(
    ("outputs", "targets", "loss", "said"),
    [
        ([[0.4], [0.6]], np.float32([[0], [1]]), any_loss, "whether outputs are logits"),
        ([[0.4], [0.6]], np.float32([[-1], [1]]), F.mse_loss, "targets 0 and 1"),
        ([[0.4], [0.6]], [0, 1], any_loss, r"got \(2, 1\) and \(2,\)"),
        (ROW3, [1, 0], any_loss, r"got \(4, 3\) and \(2,\)"),
    ],
)
def test_an_accuracy_that_is_not_known_is_an_error(
    outputs: Any, targets: Any, loss: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        accuracy(outputs, targets, loss)


def test_metrics_are_functions_by_name_and_weighted_by_rows() -> None:
    inputs = np.arange(10, dtype=np.float32).reshape(10, 1)
    net = nn.Sequential(nn.Identity())

    def largest(outputs: Tensor, targets: Tensor) -> float:
        return float(outputs.numpy().max())  # not differentiable, not compiled

    found = tk.evaluate(
        net, [(inputs[:8], inputs[:8] + 1), (inputs[8:], inputs[8:] - 3)], F.mse_loss,
        metrics=["mse", "mae", largest],
    )  # fmt: skip
    assert found == pytest.approx(
        {"loss": 2.6, "mse": 2.6, "mae": 1.4, "largest": (8 * 7 + 2 * 9) / 10}
    )
    named = tk.evaluate(net, (inputs, inputs), F.mse_loss, metrics={"absolute": "mae"})
    assert named == {"loss": 0, "absolute": 0}


# ------------------------------------------------------------------ the history


def test_the_history_is_plain_data() -> None:
    history = quiet_fit(make_net(), samples(), validation=samples(), metrics="accuracy")
    assert json.loads(json.dumps(history)) == history
    assert isinstance(history, dict)
    best = history.best
    assert best["val_loss"] == min(history["val_loss"])
    assert best["loss"] == history["loss"][int(best["epoch"]) - 1]


def test_the_best_epoch_ignores_nan() -> None:
    history = training.History(loss=[float("nan"), 2.0, 3.0])
    assert history.best == {"epoch": 2, "loss": 2.0}
    assert training.History(loss=[float("nan")]).best["epoch"] == 1
    with pytest.raises(ValueError, match="at least one epoch"):
        _ = training.History(loss=[]).best
