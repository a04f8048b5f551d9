"""`Monitor`: watches a training, and warns at the first step at which something goes wrong.

Every step costs a microsecond: the loss is noted, and that it is finite. Only sampled steps are
looked at. In those the graph of the loss is walked before `backward` frees it, and gradients and
updates are measured around `optimizer.step()`. A compiled step runs no Python, so the function as
written runs on copies instead, with the arguments of that call.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import autodiff
from tinygrad_kr.arrays.operands import warn_user
from tinygrad_kr.explain.monitoring.activity import Activity, activity_of, layers_of
from tinygrad_kr.explain.monitoring.frames import Call, Curve, Frames
from tinygrad_kr.explain.monitoring.observing import nothing, observe, observe_calls
from tinygrad_kr.explain.monitoring.verdicts import (
    INFINITY,
    QUANTITIES,
    SINCE,
    Judge,
    MonitorWarning,
    Verdict,
    cause_of_nan,
    number,
)
from tinygrad_kr.explain.monitoring.watched import Watched
from tinygrad_kr.language import Text, language
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim.optimizer import Optimizer

__all__ = ["Monitor", "MonitorWarning"]

SHORT = 12e-6
"""Allowance for a step that is shorter than 0.4 ms, of which 3 % are less; seconds."""
MOST_SAMPLES = 1000
"""Limit: samples in the history; beyond it every second one is dropped."""
RESERVED = {"step", "loss", *QUANTITIES}
"""Names that a metric cannot have."""


class Monitor:
    """Watches a training: gradients, updates, dead and saturated units by layer, and NaN.

    model, optimizer: those that are trained. Nothing of them changes: parameters, buffers,
        optimizer state, generators and modes are the same with a Monitor and without one.
    every: look at every so many steps; default as many as `budget` allows.
    budget: share of the time that looking may take; with what each step costs, the default stays
        below 5 % for nets like MNIST's. Of steps below 0.4 ms it is 12 microseconds.
    name: of the run, in a film; default the activation function.

    There are three ways to use it. A `with` block watches the loop inside it, which stays as it is.
    `monitor.step(loss)` is a line in the loop. `step = monitor.watch(step)` wraps a step that is
    compiled.

    It warns (`MonitorWarning`, once for each kind and layer) of a loss that is not finite, with the
    op and the line from which the NaN comes, of vanishing, exploding and zero gradients, of dead
    and saturated units, of updates larger than the weights, and of gradients that are never
    cleared. `history` holds the numbers, `warnings` what it warned of, `save_html` makes a film.

    A step is a call of `optimizer.step()`, with `watch` a call of the function. `update_ratio` is
    norm(update) / norm(weights). `dead` is the share of ReLU units that are 0 for the last 200
    examples that were looked at, `saturated` that of values at which a sigmoid or tanh has less
    than 1 % of its steepest slope.

    Raises TypeError for another model or optimizer, ValueError for `every` below 1 or a budget
    outside (0, 1].

    >>> net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> optimizer = optim.SGD(net.parameters(), lr=0.1)
    >>> x, y = tk.rand(16, 2), tk.rand(16, 1)
    >>> with tk.Monitor(net, optimizer, every=10) as monitor:
    ...     for _ in range(25):
    ...         loss = F.mse_loss(net(x), y)
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> monitor.history["step"], list(monitor.history["gradient_norm"])
    ([0, 10, 20], ['0', '2'])
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        every: int | None = None,
        budget: float = 0.03,
        name: str | None = None,
    ) -> None:
        _check(model, optimizer, every, budget)
        self.model, self.optimizer, self.name = model, optimizer, name
        self.every, self.budget = every, budget
        self.warnings: list[dict[str, Any]] = []
        """What it warned of: dicts with step, kind, layers and message."""
        self._texts: list[Text] = []
        self.steps = 0
        """How many steps it has seen."""
        self.spent = 0.0
        """Seconds that looking took."""
        self._layers = layers_of(model)
        self._probe = min(optimizer._parameters(), key=lambda p: p._data.size)
        self._curves = {"loss": Curve()}
        self._samples: list[dict[str, Any]] = []
        self._stride = 1
        """Every so many samples one is kept."""
        self._taken = 0
        self.frames = Frames(model)
        """What a film shows, of at most 64 steps."""
        self._judge = Judge(self._layers)
        self._told: set[tuple[str, str]] = set()
        self._pace = Pace(budget)
        self._detach: Callable[[], None] | None = None
        self._in_call = False
        self._pending = self._unseen = 0
        self._finding = False
        self._cause: Text | None = None
        self._loss: float | None = None
        self._last_loss: Callable[[], Any] = nothing
        self._stepped_gradient: Callable[[], Any] = nothing
        self._given: set[str] = set()
        """Metrics that `step` was given."""
        self._unhook: Callable[[], None] | None = None
        self._armed = self._looked = False
        self._forget_step()

    def __repr__(self) -> str:
        name = type(self.model).__name__
        return f"<Monitor of {name}: {self.steps} steps, {len(self.warnings)} warnings>"

    # -------------------------------------------------------------- the three ways

    def __enter__(self) -> Monitor:
        self._attach()
        return self

    def __exit__(self, kind: Any, *exception: Any) -> None:
        self.close()
        if kind is None and not self._taken:
            self._warn(Verdict("nothing_seen", "", {}))

    def close(self) -> None:
        """Stop watching; the history stays. The end of a `with` block does it.

        >>> net = nn.Linear(1, 1)
        >>> tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1)).close()
        """
        if self._detach is not None:
            self._detach()
            self._detach = None
        self._disarm()

    def step(self, loss: Any = None, **metrics: float) -> None:
        """One line of a training loop: `monitor.step(loss)`, best before `loss.backward()`.

        The first call begins to watch. After `backward()` a NaN of this first loss is still
        noticed, but its op is not found.

        loss: of this step. metrics: further numbers for the curves, such as `accuracy=0.9`.

        >>> net = nn.Linear(1, 1)
        >>> monitor = tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1))
        >>> monitor.step(net(tk.ones(1, 1)).sum(), accuracy=0.5)
        >>> monitor.history["accuracy"]
        {'step': [0], 'value': [0.5]}
        """
        if tracing() is not None:
            return
        first = self._detach is None
        self._attach()
        if self._pending:  # nothing stepped the optimizer since
            self._end_step()
            self._unseen += 1
            if self._unseen == 3 and not self._taken:
                self._warn(Verdict("nothing_seen", "", {}))
        self._pending = 1
        for name, value in metrics.items():
            if name in RESERVED:
                raise ValueError(f"Monitor.step: expected a new name, got {name!r}.")
            self._given.add(name)
            self._curves.setdefault(name, Curve()).add(self.steps, number(value))
        if loss is not None:
            self._see(loss)
            if first and _is_freed(loss) and self.optimizer._stepped:
                self._end_step()

    def watch(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """`step`, watched: a function of a training step, compiled or not.

        A compiled step is called as before. Every so many calls the function as written runs
        too, on copies of all that it reads and of the arguments. The loss is the first single
        number that it returns.

        >>> net = nn.Linear(2, 1)
        >>> optimizer = optim.SGD(net.parameters(), lr=0.1)
        >>> @tk.compile
        ... def step(x, y):
        ...     loss = F.mse_loss(net(x), y)
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss.detach()
        >>> monitor = tk.Monitor(net, optimizer)
        >>> step = monitor.watch(step)
        >>> for _ in range(5):
        ...     loss = step(tk.ones(4, 2), tk.ones(4, 1))
        >>> monitor.steps
        5
        """
        if not callable(step):
            raise TypeError(f"Monitor.watch: expected a function, got {type(step).__name__}.")
        return Watched(self, step)

    # -------------------------------------------------------------- results

    @property
    def history(self) -> dict[str, Any]:
        """The numbers, as plain lists and dicts: `json.dumps` takes them.

        step: of each sample. gradient_norm, update_ratio, dead, saturated: a list by layer, one
        number for each sample, None where there is none. loss, accuracy (where the targets are
        classes) and other metrics: {"step": [...], "value": [...]}.

        >>> net = nn.Linear(1, 1)
        >>> tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1)).history["step"]
        []
        """
        found: dict[str, Any] = {"step": [sample["step"] for sample in self._samples]}
        for quantity in ("gradient_norm", "update_ratio", "dead", "saturated"):
            names = dict.fromkeys(name for sample in self._samples for name in sample[quantity])
            found[quantity] = {
                name: [sample[quantity].get(name) for sample in self._samples] for name in names
            }
        return found | {name: curve.points() for name, curve in self._curves.items()}

    def save_html(
        self,
        path: str | os.PathLike[str],
        beside: Monitor | None = None,
        *,
        lang: str | None = None,
    ) -> None:
        """Write a film of the training: one HTML file of 2 to 4 MB that needs no network.

        It shows loss and accuracy, gradient norms and histograms of activations by layer, weights
        as images and, for inputs of two numbers, the decision boundary, over the steps.

        path: of the file. beside: another Monitor, shown on the right. lang: "en" or "ko", by
            default the language of `tk.set_language`.

        Raises ImportError without plotly (`pip install "tinygrad_kr[film]"`), ValueError before the
        first sample.

        >>> net = nn.Linear(1, 1)
        >>> tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1)).save_html("film.html")
        Traceback (most recent call last):
        ...
        ValueError: Monitor.save_html: expected a step that was looked at, got none. Train first
        """
        from tinygrad_kr.explain.monitoring.film import save_film

        save_film(path, [self] if beside is None else [self, beside], language(lang))

    # -------------------------------------------------------------- attaching

    def _attach(self) -> None:
        """Observe `backward` and `optimizer.step()` from now on."""
        if self._detach is None:
            self._detach = observe(self)
            self._pace.begin()
            if self._is_due():
                self._arm()

    @contextmanager
    def attached(self, armed: bool) -> Iterator[None]:
        """Observe during a block: one step, which is looked at if `armed`."""
        detach = observe(self)
        before, self._in_call = self._in_call, True
        try:
            if armed:
                self._arm()
            yield
        except BaseException:
            self._disarm()
            raise
        finally:
            self._in_call = before
            self._unhooked()
            detach()

    def _is_due(self) -> bool:
        if self.every is not None:
            return self.steps % self.every == 0
        return not self._taken or self._pace.allows(self.spent)

    def _arm(self) -> None:
        """Look at the step that begins."""
        if not self._armed:
            self._armed = True
            self._unhook = observe_calls(self)

    def _disarm(self) -> None:
        self._unhooked()
        self._forget_step()

    def _unhooked(self) -> None:
        if self._unhook is not None:
            self._unhook()
            self._unhook = None

    def _forget_step(self) -> None:
        self._armed = self._looked = False
        self._call: Call | None = None
        self._activity: Activity | None = None
        self._seconds = 0.0

    # -------------------------------------------------------------- what happens in a step

    def _called(self, args: tuple[Any, ...], output: Any) -> None:
        """The model was called, in a step that is looked at."""
        recorded = isinstance(output, Node) and output._op is not None
        if recorded and self._activity is None and tracing() is None:
            self._call = Call(args, output)

    def _see(self, loss: Any) -> None:
        """The loss of a step, before `backward` or after it; one loss counts once."""
        if tracing() is not None or self._last_loss() is loss:
            return
        if isinstance(loss, Node) and loss._data.size != 1:
            return
        self._loss = number(loss)
        whole = isinstance(loss, Node) and loss._op is not None and loss._inputs is not None
        if whole:
            self._last_loss = weakref.ref(loss)
        if not math.isfinite(self._loss):
            self._tell_nan(loss if whole else None)
        if whole and self._armed and not self._looked and self._activity is None:
            self._look(loss)

    def _backward(self, loss: Any) -> None:
        """`backward` begins: the gradient of the step before is still there, or it is not."""
        if tracing() is not None:
            return
        g = self._probe._grad
        if g is not None and g is self._stepped_gradient() and g._data.any():
            read = (x for node in _order(loss) for x in node._inputs or ())
            if any(x is self._probe for x in read):
                self._warn(Verdict("gradients_not_cleared", "", {}))
        self._see(loss)

    def _look(self, loss: Any) -> None:
        """Walk the graph of a loss, if it depends on the model."""
        start = perf_counter()
        order = _order(loss)
        with np.errstate(all="ignore"):
            activity = activity_of(order, self._layers)
            if activity.layers:
                self._activity = activity
                self._call = None if self._call is None else self._call.with_targets(order)
        self._seconds += perf_counter() - start

    def _step_optimizer(self, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """`optimizer.step()`, and what a look at it shows."""
        if tracing() is not None or self._finding:
            return step(*args, **kwargs)
        looking, start = self._activity is not None, perf_counter()
        before = [[p._data.copy() for p in x.parameters] for x in self._layers] if looking else []
        self._seconds += perf_counter() - start
        result = step(*args, **kwargs)
        if looking:
            start = perf_counter()
            self._take_sample(before)
            self._seconds += perf_counter() - start
        g = self._probe._grad
        self._stepped_gradient = nothing if g is None else weakref.ref(g)
        self._pending = 0
        if not self._in_call:
            self._end_step()
        return result

    def _end_step(self) -> None:
        """Count a step, and decide whether to look at the next one."""
        if self._loss is not None:
            self._curves["loss"].add(self.steps, self._loss)
            self._loss = None
        self.spent += self._seconds
        self._pace.end_step(self._seconds, self._looked)
        self._disarm()
        self.steps += 1
        if self._detach is not None and self._is_due():
            self._arm()

    def _take_sample(self, before: list[list[ndarray]]) -> None:
        activity, call = self._activity, self._call
        assert activity is not None
        self._activity, self._looked = None, True
        with np.errstate(all="ignore"):
            sample = {"step": self.steps} | self._judge.measure(activity, before)
            if self._taken % self._stride == 0:
                self._samples.append(sample)
                if len(self._samples) > MOST_SAMPLES:
                    self._samples = self._samples[::2]
                    self._stride *= 2
            self._taken += 1
            accuracy = None if call is None else call.accuracy()
            if accuracy is not None and "accuracy" not in self._given:
                self._curves.setdefault("accuracy", Curve()).add(self.steps, accuracy)
            norms = sample["gradient_norm"]
            self.frames.take(self.steps, activity, self._layers, call, norms)
        self._warn(*self._judge.verdicts(sample, activity))

    # -------------------------------------------------------------- warnings

    def _warn(self, *verdicts: Verdict) -> None:
        """Tell of each kind and layer once; of all layers of a kind in one warning."""
        fresh = [x for x in verdicts if (x.kind, x.layer) not in self._told]
        for kind in dict.fromkeys(verdict.kind for verdict in fresh):
            alike = [verdict for verdict in fresh if verdict.kind == kind]
            layers = [verdict.layer for verdict in alike]
            self._tell(kind, layers, alike[0].text(self.steps, layers))

    def _tell(self, kind: str, layers: list[str], text: Text) -> None:
        message = text.say()
        self._told |= {(kind, layer) for layer in layers}
        told = {"step": self.steps, "kind": kind, "layers": layers, "message": message}
        self.warnings.append(told)
        self._texts.append(text)
        warn_user(message, MonitorWarning)

    def _tell_nan(self, loss: Any, cause: Text | None = None) -> None:
        """Say since when the loss is not finite, and from which op."""
        if ("nan_or_infinity", "") in self._told:
            return
        if loss is not None:
            order = _order(loss)
            if self._layers and order and not activity_of(order, self._layers).layers:
                return  # the loss of another model
            cause = cause_of_nan(order, self.model)
        if self._finding:
            self._cause = cause
            return
        self._tell("nan_or_infinity", [""], self._since_now(cause))

    def _since_now(self, cause: Text | None) -> Text:
        what = "NaN" if self._loss is None or math.isnan(self._loss) else INFINITY
        since = SINCE.filled(what=what, step=self.steps)
        return since if cause is None else Text(since.en + cause.en, since.ko + cause.ko)

    def warnings_in(self, lang: str | None = None) -> list[dict[str, Any]]:
        """`warnings`, with the messages in English ("en") or Korean ("ko")."""
        pairs = zip(self.warnings, self._texts, strict=False)
        return [{**told, "message": text.say(lang)} for told, text in pairs]


class Pace:
    """How often a Monitor may look.

    A step counts as long as the shortest one since the latest look. So it does not count as work
    where a step waits for a core or for data.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._last: float | None = None
        """When the latest step ended."""
        self._shortest = math.inf
        self._since = 0
        self._steps = 0
        self._worked = 0.0
        self._cost = 0.0
        """Seconds of the latest look."""

    def begin(self) -> None:
        """The first step begins, or one after a pause."""
        self._last = perf_counter()

    def end_step(self, seconds: float, looked: bool) -> None:
        """A step ends, in which looking took some seconds."""
        now = perf_counter()
        if self._last is not None:
            self._shortest = min(self._shortest, now - self._last - seconds)
        self._last = now
        self._since += 1
        self._steps += 1
        if looked:
            self._worked += self._since * self._shortest
            self._since, self._shortest, self._cost = 0, math.inf, seconds

    def allows(self, spent: float) -> bool:
        """Whether another look keeps to the budget, after those that took `spent` seconds."""
        worked = self._worked + (self._since * self._shortest if self._since else 0.0)
        return spent + self._cost <= max(self._budget * worked, SHORT * self._steps)


def _is_freed(loss: Any) -> bool:
    return isinstance(loss, Node) and loss._op is not None and loss._inputs is None


def _order(loss: Any) -> list[Node]:
    """The nodes of a loss in order of execution; none where a part of the graph was freed."""
    try:
        return autodiff.topological_order([loss])
    except RuntimeError:
        return []


def _check(model: Any, optimizer: Any, every: Any, budget: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"Monitor: expected a Module as model, got {type(model).__name__}.")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"Monitor: expected an Optimizer as optimizer, got {type(optimizer).__name__}."
        )
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f"Monitor: expected a number of steps from 1 as every, got {every!r}.")
    if not 0 < budget <= 1:
        raise ValueError(f"Monitor: expected a share of the time in (0, 1], got {budget!r}.")
