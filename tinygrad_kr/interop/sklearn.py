"""Nets as estimators of scikit-learn, for its pipelines, searches and scores.

Needs scikit-learn 1.6 or newer: `pip install "tinygrad_kr[sklearn]"`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy import ndarray

from tinygrad_kr import functional as F
from tinygrad_kr import nn, optim
from tinygrad_kr.grad_mode import enable_grad, no_grad
from tinygrad_kr.nn.parameter import size
from tinygrad_kr.random import default_generator, manual_seed
from tinygrad_kr.tensor import Tensor

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'interop.sklearn: needs scikit-learn >= 1.6. pip install "tinygrad_kr[sklearn]"'
    ) from error

__all__ = ["NetClassifier", "NetRegressor"]


def __dir__() -> list[str]:
    return __all__


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    name.lower(): getattr(optim, name)
    for name in ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "NAdam")
}

_TURN = threading.RLock()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Restart the default generator from `seed`; afterwards its state is restored."""
    with _TURN:
        generator = default_generator().bit_generator
        state = generator.state
        try:
            manual_seed(seed)
            yield
        finally:
            generator.state = state


class _NetEstimator(BaseEstimator):
    """What both estimators share: the net, its training, the validation of parameters."""

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        *,
        activation: Any = "relu",
        module: Callable[[int, int], nn.Module] | None = None,
        optimizer: Any = "adam",
        lr: float = 0.01,
        weight_decay: float = 0.0,
        max_epochs: int = 200,
        batch_size: int = 200,
        shuffle: bool = True,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        dtype: Any = "float64",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.module = module
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.dtype = dtype

    # -------------------------------------------------------------- what differs

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[ndarray, ndarray]:
        raise NotImplementedError

    def _note_labels(self, y: ndarray) -> None:
        """Keep what the targets of `fit` say of all targets."""

    def _targets(self, y: ndarray) -> ndarray:
        """`y` as the loss takes it."""
        raise NotImplementedError

    def _outputs(self) -> int:
        raise NotImplementedError

    def _losses(self, output: Any, target: Tensor) -> Any:
        """The loss of each sample, (n,)."""
        raise NotImplementedError

    # -------------------------------------------------------------- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new net.

        X: (n_samples, n_features). y: (n_samples,); of a regressor also (n_samples, n_outputs).
        sample_weight: (n_samples,), a factor on each sample's loss; a loss is divided by the sum of
            the factors in its batch.
        Raises ValueError for parameters and data out of their range, and for a loss that is not
            finite.
        """
        self._check_parameters()
        X, y = self._validated(X, y, reset=True)
        weights = self._weights(sample_weight, X)
        self._note_labels(y)
        self._start(y)
        with _seeded(self._draw_seed()):
            self._train(X, self._targets(y), weights)
        return self

    def _fit_more(self, X: Any, y: Any, sample_weight: Any, first: bool) -> Self:
        """One epoch on the samples, with the net there is."""
        self._check_parameters()
        X, y = self._validated(X, y, reset=first)
        weights = self._weights(sample_weight, X)
        if first:
            self._start(y)
        with _seeded(self._draw_seed()):
            self._build()
            kept = weights > 0
            self._run_epoch(X[kept], self._targets(y)[kept], weights[kept])
        return self

    def _check_parameters(self) -> None:
        name = type(self).__name__
        for parameter in ("max_epochs", "batch_size", "n_iter_no_change"):
            size(f"{name}: {parameter}", getattr(self, parameter))
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"{name}: expected validation_fraction in (0, 1), got {self.validation_fraction}."
            )
        for parameter in ("module", "activation"):
            if isinstance(getattr(self, parameter), nn.Module):
                raise TypeError(
                    f"{name}: expected {parameter} to make a new net at each fit, got an instance. "
                    "Give its class, or a function that returns it."
                )
        for parameter, table in (("activation", ACTIVATIONS), ("optimizer", OPTIMIZERS)):
            value = getattr(self, parameter)
            if not callable(value) and value not in table:
                raise ValueError(
                    f"{name}: expected {parameter} to be callable or one of {', '.join(table)}, "
                    f"got {value!r}."
                )

    def _weights(self, sample_weight: Any, X: ndarray) -> ndarray:
        weights: ndarray = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        if (weights < 0).any() or not weights.any():
            raise ValueError(
                f"{type(self).__name__}: expected a sample_weight >= 0, and one above 0, got "
                f"{'only zeros' if not weights.any() else weights.min()}."
            )
        return weights

    def _start(self, y: ndarray) -> None:
        """Forget the net of an earlier fit."""
        self._n_outputs = 1 if y.ndim == 1 else y.shape[1]
        self._is_vector = y.ndim == 1
        self._random = check_random_state(self.random_state)
        self.n_iter_, self.loss_curve_ = 0, list[float]()
        for name in ("module_", "_optimizer", "validation_scores_"):
            self.__dict__.pop(name, None)

    def _draw_seed(self) -> int:
        return int(self._random.randint(2**31 - 1))

    def _build(self) -> None:
        """The net and its optimizer, unless they are there."""
        if hasattr(self, "module_"):
            return
        inputs, outputs = self.n_features_in_, self._outputs()
        make = self._hidden_layers if self.module is None else self.module
        net = make(inputs, outputs)
        if not isinstance(net, nn.Module):
            raise TypeError(
                f"{type(self).__name__}: expected module to return an nn.Module, got "
                f"{type(net).__name__}."
            )
        self.module_ = net.to(self.dtype)
        optimizer = self.optimizer
        make_optimizer = optimizer if callable(optimizer) else OPTIMIZERS[optimizer]
        options = {"weight_decay": self.weight_decay} if self.weight_decay else {}
        self._optimizer = make_optimizer(self.module_.parameters(), lr=self.lr, **options)

    def _hidden_layers(self, inputs: int, outputs: int) -> nn.Module:
        activation = self.activation
        make = activation if callable(activation) else ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        given: Any = self.hidden_layer_sizes
        hidden = (given,) if isinstance(given, Integral) else given
        for width, following in pairwise((inputs, *hidden, outputs)):
            layers += [nn.Linear(width, following, dtype=self.dtype), make()]
        return nn.Sequential(*layers[:-1])

    def _train(self, X: ndarray, target: ndarray, weights: ndarray) -> None:
        """Epochs until nothing improves."""
        kept = weights > 0
        X, target, weights = X[kept], target[kept], weights[kept]
        held_out = None
        if self.early_stopping:
            X, target, weights, held_out = self._split(X, target, weights)
        self._build()
        best, best_state, since = -np.inf, None, 0
        for _ in range(self.max_epochs):
            loss = self._run_epoch(X, target, weights)
            merit = -loss
            if held_out is not None:
                merit = self._merit(*held_out)
                self.validation_scores_.append(merit)
            since = 0 if merit > best + (self.tol or 0.0) else since + 1
            if merit > best:
                best = merit
                best_state = self.module_.state_dict() if self.early_stopping else None
            if self.tol is not None and since >= self.n_iter_no_change:
                break
        if best_state is not None:
            self.module_.load_state_dict(best_state)

    def _split(
        self, X: ndarray, target: ndarray, weights: ndarray
    ) -> tuple[ndarray, ndarray, ndarray, tuple[ndarray, ...]]:
        """The samples to train on, and those to judge by."""
        self.validation_scores_: list[float] = []
        parts = train_test_split(
            X, target, weights, test_size=self.validation_fraction, random_state=self._random
        )
        return parts[0], parts[2], parts[4], (parts[1], parts[3], parts[5])

    def _merit(self, X: ndarray, target: ndarray, weights: ndarray) -> float:
        """The score of the net as it is; the higher the better."""
        raise NotImplementedError

    def _run_epoch(self, X: ndarray, target: ndarray, weights: ndarray) -> float:
        """One pass over the samples; returns and keeps their mean loss."""
        order = np.arange(len(X))
        if self.shuffle:
            default_generator().shuffle(order)
        self.module_.train()
        total = 0.0
        for start in range(0, len(X), self.batch_size):
            rows = order[start : start + self.batch_size]
            total += self._step(X[rows], target[rows], weights[rows])
        self.module_.eval()
        loss = total / float(weights.sum())
        self.n_iter_ += 1
        self.loss_curve_.append(loss)
        if not np.isfinite(loss):
            raise ValueError(
                f"{type(self).__name__}: expected a finite loss, got {loss} in epoch "
                f"{self.n_iter_}. Scale X and y, or use a smaller lr"
            )
        return loss

    def _step(self, X: ndarray, target: ndarray, weights: ndarray) -> float:
        """One step of the optimizer; the summed loss of the batch before it."""
        share = float(weights.sum())
        with enable_grad():
            self._optimizer.zero_grad()
            losses = self._losses(self._outputs_for(X), Tensor(target))
            loss = (losses * Tensor(weights)).sum() / share
            loss.backward()
            self._optimizer.step()
        return float(loss.item()) * share

    def _outputs_for(self, X: ndarray) -> Tensor:
        """The outputs of the net, checked: others would be broadcast against the targets."""
        output: Tensor = self.module_(Tensor(X))
        expected = (len(X), self._outputs())
        if output.shape != expected:
            raise ValueError(
                f"{type(self).__name__}: expected outputs of shape {expected} from module, got "
                f"{output.shape}. module(n_features, n_outputs) is given the number of outputs."
            )
        return output

    def _forward(self, X: ndarray) -> ndarray:
        """The outputs of the net for validated inputs, without its history."""
        with no_grad():
            output: Tensor = self.module_(Tensor(X))
        return output.data

    def _inputs(self, X: Any) -> ndarray:
        """Validated inputs of a net that is fitted."""
        check_is_fitted(self, "module_")
        found: ndarray = validate_data(self, X, dtype=self.dtype, reset=False)
        return found


class NetClassifier(ClassifierMixin, _NetEstimator):
    """A net that classifies, by cross-entropy; an estimator of scikit-learn.

    hidden_layer_sizes: the widths of the hidden layers; a number for one layer.
    activation: of the hidden layers: "relu", "tanh", "logistic", "identity", or a class of `nn`.
    module: `module(n_features, n_outputs)` returns the net, an `nn.Module`, in place of hidden
        layers. A function with a name at the top of a file can be pickled, a lambda cannot.
    optimizer: "adam", "adamw", "sgd", "rmsprop", "adagrad", "adadelta", "nadam"; or a callable like
        `partial(optim.SGD, momentum=0.9)`, which is given the parameters and `lr`.
    lr, weight_decay: the optimizer's learning rate and L2 penalty.
    max_epochs: the most passes over the data. batch_size: samples per step.
    shuffle: draw a new order for each pass.
    tol, n_iter_no_change: training ends after `n_iter_no_change` epochs in which the loss has not
        improved by `tol`. `tol=None` trains for `max_epochs`.
    early_stopping: hold out the share `validation_fraction` of the samples, judge by the net's
        accuracy on them in place of the loss, and keep the parameters of the best epoch.
    random_state: seeds the initial values, the order, the split and dropout. The generator of
        `tk.manual_seed` is left as it was.
    dtype: of the net and of the inputs.

    Attributes after fitting:
    classes_: the labels, sorted. They may be strings.
    module_: the net. n_iter_: the number of epochs. loss_curve_: the loss of each epoch.
    validation_scores_: with `early_stopping`, the accuracy of each epoch.
    n_features_in_, feature_names_in_: as in scikit-learn.

    Source: the names of sklearn.neural_network.MLPClassifier and of skorch.

    >>> from tinygrad_kr.interop.sklearn import NetClassifier
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["same", "other", "other", "same"]
    >>> net = NetClassifier((8,), activation="tanh", lr=0.1, random_state=0).fit(X, y)
    >>> print(*net.predict(X))
    same other other same
    """

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[ndarray, ndarray]:
        X, y = validate_data(self, X, y, dtype=self.dtype, reset=reset)
        check_classification_targets(y)
        return X, y

    def _note_labels(self, y: ndarray) -> None:
        self.classes_ = np.unique(y)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new net on `y`, one label per sample. All else as in `NetRegressor.fit`."""
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train the net there is for one epoch, or a new one.

        classes: all labels there will be; needed at the first call alone.
        Raises ValueError without classes at the first call, and for a label that is not among them.
        """
        first = not hasattr(self, "module_")
        if first and classes is None:
            raise ValueError("NetClassifier.partial_fit: expected classes at the first call.")
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(
                f"NetClassifier.partial_fit: expected the classes {self.classes_} of the first "
                f"call, got {np.unique(classes)}."
            )
        return self._fit_more(X, y, sample_weight, first)

    def _outputs(self) -> int:
        return len(self.classes_)

    def _targets(self, y: ndarray) -> ndarray:
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(
                f"{type(self).__name__}: expected labels among {self.classes_}, got {unknown}."
            )
        return np.searchsorted(self.classes_, y)

    def _losses(self, output: Any, target: Tensor) -> Any:
        return F.cross_entropy(output, target, reduction="none")

    def _merit(self, X: ndarray, target: ndarray, weights: ndarray) -> float:
        right = self._forward(X).argmax(axis=1) == target
        return float(np.average(right, weights=weights))

    def predict_proba(self, X: Any) -> ndarray:
        """The probability of each class, (n_samples, n_classes), in the order of `classes_`."""
        probability: Tensor = F.softmax(Tensor(self._forward(self._inputs(X))), 1)
        return probability.data

    def predict(self, X: Any) -> ndarray:
        """The most probable label of each sample, (n_samples,)."""
        best = self._forward(self._inputs(X)).argmax(axis=1)
        found: ndarray = self.classes_[best]
        return found


class NetRegressor(RegressorMixin, _NetEstimator):
    """A net that predicts numbers, by the mean squared error; an estimator of scikit-learn.

    The parameters and attributes are those of `NetClassifier`, without `classes_`. Scale `y` to
    about 1, as with TransformedTargetRegressor: the net starts near 0.
    early_stopping: judges by minus the mean squared error on the samples held out.

    Source: the names of sklearn.neural_network.MLPRegressor and of skorch.

    >>> from tinygrad_kr.interop.sklearn import NetRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> net = NetRegressor((20,), activation="tanh", random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(net.score(X, X[:, 0] ** 2) > 0.9)
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[ndarray, ndarray]:
        X, y = validate_data(
            self, X, y, dtype=self.dtype, reset=reset, y_numeric=True, multi_output=True
        )
        return X, y

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the net there is for one epoch, or a new one."""
        return self._fit_more(X, y, sample_weight, not hasattr(self, "module_"))

    def _outputs(self) -> int:
        return self._n_outputs

    def _targets(self, y: ndarray) -> ndarray:
        if (y.ndim == 1) != self._is_vector or (y.ndim > 1 and y.shape[1] != self._n_outputs):
            raise ValueError(
                f"{type(self).__name__}: expected {self._n_outputs} targets per sample, as in the "
                f"first call, got y of shape {y.shape}."
            )
        return y.reshape(len(y), -1).astype(self.dtype)

    def _losses(self, output: Any, target: Tensor) -> Any:
        return ((output - target) ** 2).mean(1)

    def _merit(self, X: ndarray, target: ndarray, weights: ndarray) -> float:
        errors = ((self._forward(X) - target) ** 2).mean(axis=1)
        return -float(np.average(errors, weights=weights))

    def predict(self, X: Any) -> ndarray:
        """The predictions, (n_samples,) or (n_samples, n_outputs), as `y` was."""
        found = self._forward(self._inputs(X))
        return found[:, 0] if self._is_vector else found
