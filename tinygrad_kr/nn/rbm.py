"""Restricted Boltzmann machines, and deep belief nets of them.

They are trained without labels, by ordinary `backward()` and `optim.SGD`: the gradient of
contrastive divergence is that of a difference of two free energies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import tinygrad_kr.functional as F
from tinygrad_kr.arrays.joining import concatenate, stack
from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn import init
from tinygrad_kr.nn.activation import Sigmoid
from tinygrad_kr.nn.containers import ModuleList, Sequential
from tinygrad_kr.nn.linear import Linear
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import parameter, size
from tinygrad_kr.random import Generator, bernoulli
from tinygrad_kr.tensor import Tensor

START_STD = 0.01
"""Standard deviation of the initial weights: Hinton (2010), section 8."""
MOST_UNITS_TO_ENUMERATE = 20
"""Threshold: `log_partition` enumerates the states of at most this many units."""
ROWS_AT_ONCE = 4096
"""Block size: rows that are computed at a time."""


class Progress(NamedTuple):
    """The state of a training run, passed to `progress` after every step."""

    layer: int
    """The machine that is trained, from 0; in fine-tuning, the number of machines."""
    epoch: int
    """The epoch, from 1."""
    step: int
    """The step of this layer, from 1."""
    steps: int
    """The number of steps of this layer."""


Report = Callable[[Progress], Any]


class RBM(Module):
    """A restricted Boltzmann machine: a model of binary vectors v with hidden units h.

        energy            E(v, h) = -a'v - b'h - h'Wv,   p(v, h) = exp(-E(v, h)) / Z
        free energy       F(v) = -log sum_h exp(-E(v, h)) = -a'v - sum_j softplus(b_j + W_j v)
        given a layer     p(h_j = 1 | v) = sigmoid(b_j + W_j v),   p(v_i = 1 | h) = sigmoid(a +
        W'h)_i

    Parameters: `weight` W (n_hidden, n_visible) starts as N(0, 0.01^2), `visible_bias` a and
    `hidden_bias` b as 0. Called, it is a layer: v (..., n_visible) -> p(h = 1 | v) (..., n_hidden).
    Values of v between 0 and 1 stand for probabilities.

    chains: the number of Markov chains to keep from step to step, in the buffer `chains`
        (chains, n_visible), for persistent contrastive divergence; 0 is plain CD-k.
    dtype: of the parameters, default float32. generator: for the initial values.

    Every method raises ValueError for another shape, NaN, or a value outside [0, 1].
    Sources: Hinton, Training products of experts by minimizing contrastive divergence (2002);
    Hinton, A practical guide to training restricted Boltzmann machines (2010).

    >>> rbm = nn.RBM(6, 2)
    >>> v = tk.bernoulli(tk.full((20, 6), 0.5))
    >>> errors = rbm.fit(v, epochs=2, batch_size=10)
    >>> rbm.transform(v).shape
    (20, 2)
    """

    chains: Tensor | None

    def __init__(
        self,
        n_visible: int,
        n_hidden: int,
        *,
        chains: int = 0,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.n_visible = size("n_visible", n_visible)
        self.n_hidden = size("n_hidden", n_hidden)
        self.weight = parameter((n_hidden, n_visible), dtype)
        self.visible_bias = parameter((n_visible,), dtype)
        self.hidden_bias = parameter((n_hidden,), dtype)
        count = chains if chains == 0 else size("chains", chains)
        shape = (count, n_visible)
        self.register_buffer(
            "chains", Tensor(np.zeros(shape, self.weight.dtype)) if count else None
        )
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial weights and the states of the chains again."""
        init.normal_(self.weight, std=START_STD, generator=generator)
        init.zeros_(self.visible_bias)
        init.zeros_(self.hidden_bias)
        if self.chains is not None:
            self.chains.copy_(self._noise(len(self.chains), generator))

    def _noise(self, count: int, generator: Generator | None) -> Tensor:
        half = np.full((count, self.n_visible), 0.5, self.weight.dtype)
        return bernoulli(half, generator=generator)

    # -------------------------------------------------------------- one layer given the other

    def forward(self, visible: Any) -> Any:
        return self.transform(visible)

    def transform(self, visible: Any) -> Any:
        """p(h = 1 | v): (..., n_visible) -> (..., n_hidden)."""
        return self._hidden_given(self._visible(visible))

    def visible_probabilities(self, hidden: Any) -> Any:
        """p(v = 1 | h): (..., n_hidden) -> (..., n_visible)."""
        return self._visible_given(self._states(hidden, self.n_hidden, "hidden units"))

    def reconstruct(self, visible: Any) -> Any:
        """Up and down once with probabilities, without sampling: v's shape."""
        return self._visible_given(self.transform(visible))

    def reconstruction_error(self, visible: Any) -> float:
        """The mean over samples and units of (v - reconstruct(v))^2.

        Easy to follow, but not the quantity that is minimised (Hinton 2010, section 5): see
        `log_likelihood`.
        """
        states, total = self._samples(visible), 0.0
        with no_grad():
            for rows in _in_blocks(states):
                error = rows - self._visible_given(self._hidden_given(rows))
                total += float((error * error).sum())
        return total / states.size

    def _hidden_given(self, visible: Tensor) -> Any:
        return F.sigmoid(F.linear(visible, self.weight, self.hidden_bias))

    def _visible_given(self, hidden: Tensor) -> Any:
        return F.sigmoid(F.linear(hidden, self.weight.mT, self.visible_bias))

    # -------------------------------------------------------------- energies

    def energy(self, visible: Any, hidden: Any) -> Any:
        """E(v, h) = -a'v - b'h - h'Wv: (..., n_visible), (..., n_hidden) -> (...)."""
        v, h = self._visible(visible), self._states(hidden, self.n_hidden, "hidden units")
        interaction = (F.linear(v, self.weight) * h).sum(axis=-1)
        return -(v @ self.visible_bias) - h @ self.hidden_bias - interaction

    def free_energy(self, visible: Any) -> Any:
        """F(v) = -a'v - sum_j softplus(b_j + W_j v), so p(v) = exp(-F(v)) / Z.

        (..., n_visible) -> (...).
        """
        v = self._visible(visible)
        return _free_energy(v, self.visible_bias, self.weight, self.hidden_bias)

    def log_partition(self) -> Any:
        """log Z = log sum_v exp(-F(v)), exactly, by enumerating all states of the smaller layer.

        Raises ValueError where both layers have more than 20 units: the time doubles with each
        unit.
        """
        layers: tuple[Tensor, ...] = (self.visible_bias, self.weight, self.hidden_bias)
        if self.n_hidden < self.n_visible:
            layers = (self.hidden_bias, self.weight.mT, self.visible_bias)
        units = layers[0].size
        if units > MOST_UNITS_TO_ENUMERATE:
            raise ValueError(
                f"log_partition: expected a layer of at most {MOST_UNITS_TO_ENUMERATE} units to "
                f"enumerate, got {units}."
            )
        states = np.arange(2**units)[:, None] >> np.arange(units) & 1
        blocks = _in_blocks(Tensor(states.astype(self.weight.dtype)))
        return stack([(-_free_energy(rows, *layers)).logsumexp() for rows in blocks]).logsumexp()

    def log_likelihood(self, visible: Any) -> Any:
        """log p(v) = -F(v) - log Z, exactly: (..., n_visible) -> (...), in nats.

        Differentiable, so a small machine can be trained by its likelihood. Raises as
        `log_partition`.
        """
        return -self.free_energy(visible) - self.log_partition()

    # -------------------------------------------------------------- samples

    def gibbs(self, visible: Any, steps: int = 1, *, generator: Generator | None = None) -> Tensor:
        """`steps` times h ~ p(h | v), then v ~ p(v | h): the last v, 0s and 1s of v's shape."""
        v = self._visible(visible)
        with no_grad():
            for _ in range(size("steps", steps)):
                h = bernoulli(self._hidden_given(v), generator=generator)
                v = bernoulli(self._visible_given(h), generator=generator)
        return v

    def sample(
        self,
        count: int,
        steps: int = 1000,
        *,
        start: Any = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Draw v ~ p(v), approximately: the ends of `count` chains of `steps` Gibbs steps.

        start: the first states of the chains, (count, n_visible); default: fair coins.
        Returns (count, n_visible), 0s and 1s.
        """
        size("count", count)
        begin = self._noise(count, generator) if start is None else self._samples(start)
        if len(begin) != count:
            raise ValueError(
                f"sample: expected start ({count}, {self.n_visible}), got {begin.shape}."
            )
        return self.gibbs(begin, steps, generator=generator)

    # -------------------------------------------------------------- learning

    def contrastive_divergence(
        self, visible: Any, k: int = 1, *, generator: Generator | None = None
    ) -> Any:
        """mean F(v) - mean F(v~), the loss whose `backward()` gives the gradient of CD-k.

        v~ is the end of `k` Gibbs steps from v, or from the machine's `chains`, which then move on.
        It is a constant of the loss. As v~ approaches a sample of p, the gradient approaches that
        of -log p(v). The value of the loss has no meaning.

        visible: (N, n_visible). Sources: Hinton (2002); for the chains Tieleman, Training
            restricted
        Boltzmann machines using approximations to the likelihood gradient (2008).
        """
        v = self._samples(visible)
        sampled = self.gibbs(v if self.chains is None else self.chains, k, generator=generator)
        if self.chains is not None:
            self.chains.copy_(sampled)
        return self.free_energy(v).mean() - self.free_energy(sampled).mean()

    def fit(
        self,
        data: Any,
        epochs: int = 10,
        *,
        lr: float = 0.1,
        momentum: float = 0.5,
        weight_decay: float = 1e-4,
        k: int = 1,
        batch_size: int = 100,
        generator: Generator | None = None,
        progress: Report | None = None,
    ) -> list[float]:
        """Learn the distribution of `data` (N, n_visible), with CD-k or the machine's chains.

        SGD on shuffled batches. `weight_decay` applies to the weights, not to the biases (Hinton
        2010, section 10).
        k: Gibbs steps per update. progress: called with a `Progress` after every step.

        Returns the reconstruction error after each epoch.
        """
        from tinygrad_kr.optim import SGD

        states = self._samples(data)
        groups: list[dict[str, Any]] = [
            {"params": [self.weight], "weight_decay": weight_decay},
            {"params": [self.visible_bias, self.hidden_bias]},
        ]
        optimizer = SGD(groups, lr=lr, momentum=momentum)
        training = _train(
            lambda rows: self.contrastive_divergence(rows, k, generator=generator),
            (states,), optimizer, epochs, batch_size, generator, progress,
        )  # fmt: skip
        return [self.reconstruction_error(states) for _ in training]

    # -------------------------------------------------------------- checks

    def _visible(self, states: Any) -> Tensor:
        return self._states(states, self.n_visible, "visible units")

    def _samples(self, states: Any) -> Tensor:
        visible = self._visible(states)
        if visible.ndim != 2 or not len(visible):
            raise ValueError(
                f"RBM: expected samples in rows, (N, {self.n_visible}), N > 0, got {visible.shape}."
            )
        return visible

    def _states(self, states: Any, units: int, what: str) -> Tensor:
        """The states as a Tensor of the parameters' dtype, after a check of shape and range."""
        tensor = states if isinstance(states, Tensor) else Tensor(as_array(states))
        if not tensor.ndim or tensor.shape[-1] != units:
            raise ValueError(
                f"RBM: expected (..., {units}), a value for each of the {what}, got {tensor.shape}."
            )
        low, high = (tensor.data.min(), tensor.data.max()) if tensor.size else (0, 0)
        if not (low >= 0 and high <= 1):
            found = "NaN" if low != low else f"values from {low:g} to {high:g}"
            raise ValueError(
                f"RBM: expected {what} in [0, 1], got {found}. Divide pixels from 0 to 255 by 255"
            )
        dtype = self.weight.dtype
        return tensor if tensor.dtype == dtype else tensor.astype(dtype)

    def extra_repr(self) -> str:
        chains = "" if self.chains is None else f", chains={len(self.chains)}"
        return f"n_visible={self.n_visible}, n_hidden={self.n_hidden}{chains}"

    def wanted_input(self) -> str:
        return f"(..., {self.n_visible})"


class DBN(Module):
    """A deep belief net: a stack of `RBM`s, each trained on the hidden layer of the one below.

    A deep net of sigmoid units hardly learns by gradient descent from a random start. It does from
    layers that were trained without labels, one by one, to model their input.

    sizes: of the layers, the visible one first: (784, 256, 256) is two machines.
    n_classes: adds `output`, a Linear layer for logits; `fine_tune` adds it where it is missing.
    chains, dtype, generator: as for `RBM`; `output` starts as N(0, 0.01^2) too, with bias 0.

    Called, it is an ordinary net: (..., sizes[0]) -> logits (..., n_classes), or, without `output`,
    the last layer's p(h = 1 | below).
    Raises ValueError for fewer than two sizes.
    Source: Hinton, Osindero and Teh, A fast learning algorithm for deep belief nets (2006).

    >>> net = nn.DBN((6, 4, 3))
    >>> images, labels = tk.bernoulli(tk.full((20, 6), 0.5)), np.arange(20) % 2
    >>> errors = net.pretrain(images, epochs=1)
    >>> losses = net.fine_tune(images, labels, epochs=1)
    >>> net(images).shape
    (20, 2)
    """

    output: Linear | None

    def __init__(
        self,
        sizes: Sequence[int],
        n_classes: int | None = None,
        *,
        chains: int = 0,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.sizes = tuple(size("sizes", units) for units in sizes)
        if len(self.sizes) < 2:
            raise ValueError(f"DBN: expected sizes of at least two layers, got {self.sizes}.")
        self.rbms = ModuleList(
            RBM(below, above, chains=chains, dtype=dtype, generator=generator)
            for below, above in pairwise(self.sizes)
        )
        self.output = None
        if n_classes is not None:
            self._add_output(n_classes, generator)

    def _add_output(self, n_classes: int, generator: Generator | None) -> None:
        dtype = self.rbms[0].weight.dtype
        self.output = Linear(self.sizes[-1], n_classes, dtype=dtype, generator=generator)
        weight, bias = self.output.parameters()
        init.normal_(weight, std=START_STD, generator=generator)
        init.zeros_(bias)

    def forward(self, input: Any) -> Any:
        for rbm in self.rbms:
            input = rbm.transform(input)
        return input if self.output is None else self.output(input)

    def network(self) -> Sequential:
        """The equivalent ordinary net: Linear, Sigmoid, Linear, Sigmoid, ..., `output`.

        It shares the parameters: to train one is to train the other.
        """
        layers: list[Module] = []
        for rbm in self.rbms:
            layer = Linear(rbm.n_visible, rbm.n_hidden, generator=np.random.default_rng(0))
            layer.weight, layer.bias = rbm.weight, rbm.hidden_bias
            layers += [layer, Sigmoid()]
        return Sequential(*layers, *([] if self.output is None else [self.output]))

    def pretrain(
        self,
        data: Any,
        epochs: int = 10,
        *,
        progress: Report | None = None,
        **settings: Any,
    ) -> list[list[float]]:
        """Train the machines on `data` (N, sizes[0]), from the lowest up, without labels.

        Each machine learns with `RBM.fit`, which takes `settings`, from the p(h = 1 | v) of the one
        below.
        Returns the reconstruction error of each machine and epoch.
        """
        states = self.rbms[0]._samples(data)
        errors = []
        for layer, rbm in enumerate(self.rbms):
            report = progress and _of_layer(progress, layer)
            errors.append(rbm.fit(states, epochs, progress=report, **settings))
            with no_grad():
                states = concatenate([rbm.transform(rows) for rows in _in_blocks(states)])
        return errors

    def fine_tune(
        self,
        data: Any,
        labels: Any,
        epochs: int = 10,
        *,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        batch_size: int = 100,
        generator: Generator | None = None,
        progress: Report | None = None,
    ) -> list[float]:
        """Train all layers together as a classifier, by backpropagation and SGD.

        data: (N, sizes[0]). labels: integers (N,) from 0. Without `output`, one is added for as
        many classes as the labels have.

        Returns the mean cross-entropy of each epoch. Raises TypeError for labels that are not
        integers, ValueError for another number of them, IndexError for a label out of range.
        """
        from tinygrad_kr.optim import SGD

        states, classes = self.rbms[0]._samples(data), integers(labels, "fine_tune: labels")
        if classes.shape != (len(states),):
            raise ValueError(
                f"fine_tune: expected labels ({len(states)},) for data {states.shape}, got "
                f"{classes.shape}."
            )
        named = max(1, int(classes.max()) + 1)
        count = named if self.output is None else self.output.out_features
        refuse_outside(classes, count, "fine_tune: label")
        if self.output is None:
            self._add_output(count, generator)
        net = self.network()
        optimizer = SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
        report = progress and _of_layer(progress, len(self.rbms))
        training = _train(
            lambda rows, targets: F.cross_entropy(net(rows), targets),
            (states, Tensor(classes)), optimizer, epochs, batch_size, generator, report,
        )  # fmt: skip
        return list(training)

    def sample(
        self,
        count: int,
        steps: int = 1000,
        *,
        start: Any = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Draw samples of the net: Gibbs steps in the top machine, then down, sampling.

        start: data (count, sizes[0]) whose top-layer states start the chains; default: fair coins.
        Returns (count, sizes[0]), 0s and 1s.
        """
        *lower, top = self.rbms
        with no_grad():
            for rbm in lower if start is not None else ():
                start = rbm.transform(start)
            states: Tensor = top.sample(count, steps, start=start, generator=generator)
            for rbm in reversed(lower):
                states = bernoulli(rbm.visible_probabilities(states), generator=generator)
        return states


def _free_energy(states: Any, bias: Any, weight: Any, other_bias: Any) -> Any:
    """-bias'x - sum softplus(other_bias + weight x): the other layer summed out.

    log sigmoid(-z) = -softplus(z) is the log-probability of a 0 in the other layer.
    """
    return F.logsigmoid(-F.linear(states, weight, other_bias)).sum(axis=-1) - states @ bias


def _in_blocks(states: Tensor) -> Iterator[Tensor]:
    """`ROWS_AT_ONCE` rows at a time, to bound the memory."""
    for start in range(0, len(states), ROWS_AT_ONCE):
        yield states[start : start + ROWS_AT_ONCE]


def _of_layer(progress: Report, layer: int) -> Report:
    return lambda done: progress(done._replace(layer=layer))


def _train(
    loss: Callable[..., Any],
    arrays: tuple[Tensor, ...],
    optimizer: Any,
    epochs: int,
    batch_size: int,
    generator: Generator | None,
    progress: Report | None,
) -> Iterator[float]:
    """SGD on shuffled batches; yields the mean loss after each epoch."""
    from tinygrad_kr.data import DataLoader

    loader = DataLoader(arrays, batch_size, shuffle=True, generator=generator)
    steps = size("epochs", epochs) * len(loader)
    step = 0
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in loader:
            value = loss(*batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item() * len(batch[0])
            step += 1
            if progress is not None:
                progress(Progress(0, epoch, step, steps))
        yield total / len(arrays[0])
