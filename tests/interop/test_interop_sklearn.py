"""Nets as estimators: scikit-learn's own checks, pipelines, searches, and each parameter."""

from __future__ import annotations

import doctest
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.multioutput import ClassifierChain  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import tinygrad_kr as tk  # noqa: E402
from tinygrad_kr import nn, optim  # noqa: E402

NetClassifier, NetRegressor = tk.interop.sklearn.NetClassifier, tk.interop.sklearn.NetRegressor
BOTH = pytest.mark.parametrize("estimator", [NetClassifier, NetRegressor])
RANDOM = np.random.default_rng(8)
X = RANDOM.standard_normal((120, 3))
LABELS = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
NUMBERS = X[:, 0] - 2 * X[:, 1] + 1


def targets(estimator: Any) -> np.ndarray:
    return LABELS if estimator is NetClassifier else NUMBERS


def outputs(fitted: Any) -> np.ndarray:
    found = fitted.predict_proba(X) if hasattr(fitted, "predict_proba") else fitted.predict(X)
    return np.asarray(found)


@BOTH
def test_all_checks_of_scikit_learn_pass(estimator: Any) -> None:
    results = check_estimator(estimator(), on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 40


def test_the_examples_in_docstrings_run() -> None:
    module = tk.interop.sklearn
    assert set(dir(module)) == set(module.__all__)
    with np.printoptions(legacy=False):
        done = doctest.testmod(module, extraglobs={"np": np})
    assert (done.failed, done.attempted) == (0, 8)


@pytest.mark.trains
def test_in_a_pipeline_and_a_grid_search() -> None:
    pipeline = make_pipeline(StandardScaler(), NetClassifier(max_epochs=30, random_state=0))
    grid = {
        "netclassifier__hidden_layer_sizes": [(), (10,), (5, 5)],
        "netclassifier__activation": ["tanh", "relu"],
    }
    search = GridSearchCV(pipeline, grid, cv=3, scoring="roc_auc").fit(100 * X + 7, LABELS)
    assert search.best_score_ > 0.9
    regressor = make_pipeline(StandardScaler(), NetRegressor((), lr=0.1, random_state=0))
    assert np.median(cross_val_score(regressor, 100 * X + 7, NUMBERS, cv=3)) > 0.95


@BOTH
def test_one_seed_gives_one_net_and_leaves_the_generator_alone(estimator: Any) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "batch_size": 30}
    tk.manual_seed(3)
    expected = tk.rand(3).tolist()
    tk.manual_seed(3)
    found = [
        outputs(estimator((4,), **options, random_state=seed).fit(X, targets(estimator)))
        for seed in (5, 5, 6)
    ]
    assert tk.rand(3).tolist() == expected
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@BOTH
def test_clone_and_pickle(estimator: Any) -> None:
    made = estimator((4,), max_epochs=2, random_state=1).fit(X, targets(estimator))
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(outputs(again), outputs(made))
    again.partial_fit(X, targets(estimator))
    fresh = clone(made)
    assert fresh.get_params() == made.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_classes_and_probabilities() -> None:
    net = NetClassifier((4,), max_epochs=5, random_state=0).fit(X, LABELS)
    assert list(net.classes_) == ["no", "yes"]
    assert (net.n_features_in_, net.n_iter_, len(net.loss_curve_)) == (3, 5, 5)
    probability = net.predict_proba(X)
    assert probability.dtype == np.float64 and probability.shape == (120, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    np.testing.assert_array_equal(net.predict(X), net.classes_[probability.argmax(axis=1)])
    assert net.loss_curve_[-1] < net.loss_curve_[0]


def test_several_targets_of_a_regressor() -> None:
    y = np.stack([NUMBERS, -NUMBERS], axis=1)
    net = NetRegressor((4,), max_epochs=2, random_state=0).fit(X, y)
    assert net.predict(X).shape == (120, 2)
    assert NetRegressor((4,), max_epochs=2).fit(X, y[:, :1]).predict(X).shape == (120, 1)
    with pytest.raises(ValueError, match="expected 2 targets per sample"):
        net.partial_fit(X, NUMBERS)
    chain = ClassifierChain(NetClassifier((), max_epochs=2)).fit(X, y > 0)
    assert chain.predict(X).shape == (120, 2)


def dropping(n_features: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features, 6), nn.Dropout(0.5), nn.Linear(6, n_outputs))


@BOTH
def test_a_module_of_ones_own(estimator: Any) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "random_state": 0, "dtype": "float32"}
    made = [estimator(module=dropping, **options).fit(X, targets(estimator)) for _ in range(2)]
    net = made[0].module_
    assert isinstance(net[1], nn.Dropout) and not net.training
    assert net[0].weight.dtype == np.float32 and outputs(made[0]).dtype == np.float32
    np.testing.assert_array_equal(outputs(made[0]), outputs(made[1]))
    np.testing.assert_array_equal(outputs(made[0]), outputs(pickle.loads(pickle.dumps(made[0]))))
    with pytest.raises(TypeError, match=r"expected module to return an nn\.Module, got int"):
        estimator(module=lambda n, k: 7).fit(X, targets(estimator))


@BOTH
def test_outputs_of_another_shape_are_refused_before_they_are_broadcast(estimator: Any) -> None:
    def flat(n_features: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_features, n_outputs), nn.Flatten(0))

    for module in (lambda n, k: nn.Linear(n, k + 3), flat):
        with pytest.raises(ValueError, match=r"expected outputs of shape \(.* from module, got"):
            estimator(module=module).fit(X, targets(estimator))


@pytest.mark.parametrize(
    "options", [{"module": nn.Linear(3, 2)}, {"activation": nn.GELU()}], ids=str
)
def test_an_instance_in_place_of_a_class_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="to make a new net at each fit, got an instance"):
        NetClassifier(**options).fit(X, LABELS)


@pytest.mark.parametrize("width", [5, np.int64(5)])
def test_a_number_is_one_hidden_layer(width: Any) -> None:
    net = NetClassifier(width, max_epochs=1).fit(X, LABELS)
    assert net.module_[0].weight.shape == (5, 3)


def test_the_default_net_has_one_hidden_layer_in_float64() -> None:
    net = NetRegressor(max_epochs=1).fit(X, NUMBERS).module_
    assert [type(layer) for layer in net] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [p.shape for p in net.parameters()] == [(100, 3), (100,), (1, 100), (1,)]
    assert {p.dtype for p in net.parameters()} == {np.dtype("f8")}


@pytest.mark.parametrize(
    ("optimizer", "made"),
    [("sgd", optim.SGD), ("adamw", optim.AdamW), (partial(optim.SGD, momentum=0.9), optim.SGD)],
    ids=["sgd", "adamw", "callable"],
)
def test_optimizers(optimizer: Any, made: type) -> None:
    net = NetRegressor((), optimizer=optimizer, lr=0.05, weight_decay=0.25, max_epochs=1)
    net.fit(X, NUMBERS)
    group = net._optimizer.param_groups[0]
    assert type(net._optimizer) is made
    assert (group["lr"], group["weight_decay"]) == (0.05, 0.25)
    assert group.get("momentum", 0.9) == (
        0.9 if callable(optimizer) or made is not optim.SGD else 0
    )


def test_sgd_on_a_whole_batch_is_gradient_descent() -> None:
    """With weights: one step along the gradient of sum(w (y - f)^2) / sum(w)."""
    weights = np.arange(120.0)
    net = NetRegressor((), optimizer="sgd", lr=0.1, max_epochs=1, shuffle=False, random_state=0)
    net.fit(X, NUMBERS, sample_weight=weights)
    after = net.module_[0].weight.data[0].copy(), net.module_[0].bias.item()
    net.set_params(lr=0.0).fit(X, NUMBERS, sample_weight=weights)
    before = net.module_[0].weight.data[0], net.module_[0].bias.item()
    residual = weights * (X @ before[0] + before[1] - NUMBERS) / weights.sum()
    np.testing.assert_allclose(after[0], before[0] - 0.1 * 2 * residual @ X, rtol=1e-12)
    assert after[1] == pytest.approx(before[1] - 0.1 * 2 * residual.sum(), rel=1e-12)
    loss = (weights * (X @ before[0] + before[1] - NUMBERS) ** 2).sum() / weights.sum()
    assert net.loss_curve_ == [pytest.approx(loss, rel=1e-12)]


@BOTH
def test_a_weight_of_0_leaves_a_sample_out_and_2_counts_it_twice(estimator: Any) -> None:
    y = targets(estimator)
    weights = np.resize([0.0, 1.0, 2.0], 120)
    options: dict[str, Any] = {"max_epochs": 4, "batch_size": 500, "random_state": 0}
    weighted = estimator((4,), **options).fit(X, y, sample_weight=weights)
    rows = np.repeat(np.arange(120), weights.astype(int))
    repeated = estimator((4,), **options).fit(X[rows], y[rows])
    np.testing.assert_allclose(outputs(weighted), outputs(repeated), rtol=1e-6)
    unweighted = estimator((4,), **options).fit(X, y)
    assert not np.allclose(outputs(weighted), outputs(unweighted), rtol=1e-6)


@pytest.mark.parametrize(
    ("weight", "got"), [(-1.0, "got -1.0"), (0.0, "got only zeros|at least one non-zero")]
)
def test_weights_below_0_or_all_0_are_refused(weight: float, got: str) -> None:
    with pytest.raises(ValueError, match=got):
        NetRegressor().fit(X, NUMBERS, sample_weight=np.full(120, weight))


def test_training_ends_when_nothing_improves() -> None:
    idle = NetRegressor((), lr=0.0, n_iter_no_change=3).fit(X, NUMBERS)
    assert idle.n_iter_ == 4
    assert NetRegressor((), lr=0.0, max_epochs=9, tol=None).fit(X, NUMBERS).n_iter_ == 9


class Forgetting(optim.Adam):
    """After 9 steps it sets all parameters to 0."""

    def step(self) -> None:  # type: ignore[override]
        super().step()
        self.taken = getattr(self, "taken", 0) + 1
        for group in self.param_groups:
            for parameter in group["params"]:
                with tk.no_grad():
                    parameter.mul_(float(self.taken < 10))


@BOTH
def test_early_stopping_keeps_the_best_epoch(estimator: Any) -> None:
    """An epoch is one step, so the last three epochs are worse."""
    net = estimator((), early_stopping=True, validation_fraction=0.25, lr=0.1, tol=None,
                    max_epochs=12, optimizer=Forgetting, random_state=0)  # fmt: skip
    net.fit(X, targets(estimator))
    assert len(net.validation_scores_) == 12
    assert net.validation_scores_[-1] < max(net.validation_scores_)
    parts = net._random  # it drew the seed, then the split
    random = np.random.RandomState(0)
    random.randint(2**31 - 1)
    _, held_X, _, held_y = sklearn.model_selection.train_test_split(
        X, targets(estimator), test_size=0.25, random_state=random
    )
    assert parts.get_state()[2] == random.get_state()[2]
    if estimator is NetClassifier:
        score = net.score(held_X, held_y)
    else:
        score = -np.mean((net.predict(held_X) - held_y) ** 2)
    assert score == pytest.approx(max(net.validation_scores_))
    assert not hasattr(net.set_params(early_stopping=False).fit(X, targets(estimator)),
                       "validation_scores_")  # fmt: skip


def test_partial_fit_is_one_epoch_of_the_same_net() -> None:
    net = NetClassifier((4,), random_state=0)
    with pytest.raises(ValueError, match="expected classes at the first call"):
        net.partial_fit(X, LABELS)
    net.partial_fit(X[:5], LABELS[:5], classes=["yes", "no", "maybe"])
    module = net.module_
    for _ in range(3):
        net.partial_fit(X, LABELS)
    assert net.module_ is module and net.n_iter_ == 4
    assert list(net.classes_) == ["maybe", "no", "yes"]
    with pytest.raises(ValueError, match=r"expected labels among \['maybe'"):
        net.partial_fit(X[:2], ["never", "yes"])
    with pytest.raises(ValueError, match="expected the classes"):
        net.partial_fit(X, LABELS, classes=["yes", "no"])
    assert list(net.fit(X, LABELS).classes_) == ["no", "yes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relo"}, "expected activation to be callable or one of identity, logistic"),
        ({"optimizer": "adm"}, "expected optimizer to be callable or one of sgd, adagrad"),
        ({"max_epochs": 0}, "max_epochs: expected at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"validation_fraction": 1.0}, r"expected validation_fraction in \(0, 1\), got 1.0"),
        ({"hidden_layer_sizes": (0,)}, "expected at least 1, got 0"),
    ],
)
def test_parameters_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetClassifier(**options).fit(X, LABELS)


def test_a_diverged_run_says_so() -> None:
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"finite loss, got .*epoch"):
        NetRegressor((), optimizer="sgd", lr=1e9, tol=None).fit(X, NUMBERS)
