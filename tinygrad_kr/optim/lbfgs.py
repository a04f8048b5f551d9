"""L-BFGS: steps by the curvature that the last gradients show, with a line search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.changes import Change
from tinygrad_kr.files import refuse_torch_file
from tinygrad_kr.grad_mode import enable_grad, no_grad
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim.optimizer import Optimizer, Parameters
from tinygrad_kr.tensor import Tensor

_SUFFICIENT, _CURVATURE = 1e-4, 0.9
"""The constants c1 and c2 of the strong Wolfe conditions."""
_LISTS = ("old_dirs", "old_stps", "ro")
_VECTORS = ("d", "prev_flat_grad")
_NUMBERS = ("func_evals", "n_iter", "t", "H_diag", "prev_loss")


class Point(NamedTuple):
    """A place on the line x + t d: the loss, its gradient, and the slope along d."""

    t: float
    loss: float
    gradient: ndarray
    slope: float


class LBFGS(Optimizer):
    """Newton steps with an inverse Hessian of the last differences. For whole batches.

        d = -H g,  p <- p + t d,  y = g_new - g,  s = t d

    H is the BFGS inverse Hessian of the last `history_size` pairs (s, y), applied by two loops over
    them; it starts from (s . y) / (y . y) times the identity. Pairs with s . y <= 1e-10 are left
    out. One `step` makes up to `max_iter` such moves; it evaluates the closure each time.

    params: Tensors, in one group.
    lr: the step size t, at least 0, or the first one that the line search tries. The first move is
        shorter.
    max_iter: moves per step. max_eval: evaluations per step, 1.25 max_iter if None.
    tolerance_grad: end where no gradient is larger.
    tolerance_change: end where no parameter, or not the loss, changes by more.
    history_size: the number of pairs. line_search_fn: "strong_wolfe", or None for t = lr.

    State, under the first parameter: `func_evals`, `n_iter`, the last direction `d` and step `t`,
    `old_dirs` y, `old_stps` s, `ro` 1 / (s . y), `H_diag`, `prev_flat_grad`, `prev_loss`.
    Compile the closure, not the step: the loss decides how often the closure is called, and a
    compiled function that calls `step` raises CaptureError.
    Raises ValueError for an option out of range or a second group, TypeError without a closure.
    Source: Liu and Nocedal, On the limited memory BFGS method for large scale optimization (1989);
    Nocedal and Wright, Numerical Optimization, chapters 3 and 7.

    >>> w = tk.tensor([3.0, -1.0], requires_grad=True)
    >>> optimizer = optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w**2).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item()
    10.0
    >>> bool(closure().item() < 1e-8)
    True
    """

    intervals = dict.fromkeys(
        ["lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size"],
        "[0, inf)",
    )

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        self._memory: dict[str, Any] = {}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the one group of parameters. Raises ValueError for a second one."""
        if self.param_groups:
            raise ValueError("LBFGS: expected one group of parameters, got another one.")
        super().add_param_group(param_group)

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                "LBFGS: expected line_search_fn 'strong_wolfe' or None, got "
                f"{group['line_search_fn']!r}."
            )

    # -------------------------------------------------------------- steps

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the parameters, up to `max_iter` times. Returns the loss before the first move.

        closure: zeroes the gradients, computes the loss, calls `backward` and returns the loss.

        Raises TypeError without a closure.
        """
        if closure is None:
            raise TypeError("LBFGS.step: expected a closure that computes the loss, got none.")
        if tracer := tracing():
            tracer.refuse("LBFGS.step()")
        group = self.param_groups[0]
        self._check_options(group)
        first, loss, g = self._evaluated(closure)
        memory = {"func_evals": 0, "n_iter": 0} | self._memory
        memory["func_evals"] += 1
        if _largest(g) > group["tolerance_grad"]:
            with no_grad():
                memory = self._moved(closure, group, memory, loss, g)
        self._memory, self._stepped = memory, True
        return first

    def _moved(
        self,
        closure: Callable[[], Any],
        group: dict[str, Any],
        memory: dict[str, Any],
        loss: float,
        g: ndarray,
    ) -> dict[str, Any]:
        """The memory after the moves of one step, from a point with this loss and gradient."""
        evaluations = 1
        for i in range(1, group["max_iter"] + 1):
            memory = _remembered(memory, g, group["history_size"])
            memory |= {"n_iter": memory["n_iter"] + 1, "prev_flat_grad": g, "prev_loss": loss}
            d, t = memory["d"], group["lr"]
            if memory["n_iter"] == 1:
                t *= min(1.0, 1.0 / float(np.abs(g).sum()))
            memory["t"] = t
            slope = float(g.dot(d))
            if slope > -group["tolerance_change"]:
                break
            last = i == group["max_iter"]
            if group["line_search_fn"] is not None:
                line = self._line(closure, d)
                most = group["max_eval"] - evaluations
                start = Point(0.0, loss, g, slope)
                point, used = _strong_wolfe(line, start, t, d, group["tolerance_change"], most)
                loss, g, t = point.loss, point.gradient, point.t
                self._move(t * d)
            else:
                self._move(t * d)
                used = 0 if last else 1
                if not last:
                    _, loss, g = self._evaluated(closure)
            memory["t"] = t
            evaluations += used
            memory["func_evals"] += used
            still = _largest(t * d) <= group["tolerance_change"]
            settled = abs(loss - memory["prev_loss"]) < group["tolerance_change"]
            flat = _largest(g) <= group["tolerance_grad"]
            if last or evaluations >= group["max_eval"] or flat or still or settled:
                break
        return memory

    def _evaluated(self, closure: Callable[[], Any]) -> tuple[Any, float, ndarray]:
        """The loss as the closure gives it and as a number, and the gradient as one vector."""
        with enable_grad():
            given = closure()
        if self.exchange is not None:
            self.exchange.check_step()
            given = self.exchange.mean_loss(given)
        parts = [
            np.zeros(p._data.size, p.dtype) if p._grad is None else p._grad._data.ravel()
            for p in self._parameters()
        ]
        return given, float(given), np.concatenate(parts)

    def _line(self, closure: Callable[[], Any], d: ndarray) -> Callable[[float], Point]:
        """The loss along d as a function of t; the parameters are as before after each call."""
        start = [p._data.copy() for p in self._parameters()]

        def at(t: float) -> Point:
            try:
                self._move(t * d)
                _, loss, g = self._evaluated(closure)
            finally:
                for p, array in zip(self._parameters(), start, strict=True):
                    p._overwrite(..., array, self._writer)
            return Point(t, loss, g, float(g.dot(d)))

        return at

    def _move(self, difference: ndarray) -> None:
        end = 0
        for p in self._parameters():
            start, end = end, end + p._data.size
            piece = difference[start:end].reshape(p.shape).astype(p.dtype, copy=False)
            p._overwrite(..., p._data + piece, self._writer)

    # -------------------------------------------------------------- state

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """The history, under the first parameter."""
        return {self.param_groups[0]["params"][0]: dict(self._memory)} if self._memory else {}

    def _loading(self, state_dict: Mapping[str, Any]) -> Iterator[Change]:
        refuse_torch_file("LBFGS.load_state_dict", state_dict)
        if not {"state", "param_groups"} <= set(state_dict):
            raise ValueError(
                'LBFGS.load_state_dict: expected the keys "state" and "param_groups", got '
                f"{sorted(state_dict)}."
            )
        groups = self._loaded_groups(state_dict["param_groups"])
        memory = self._loaded_memory(state_dict["state"])
        before = [dict(group) for group in self.param_groups], self._memory
        return iter([(partial(self._turn, groups, memory), partial(self._turn, *before))])

    def _turn(self, groups: list[dict[str, Any]], memory: dict[str, Any]) -> None:
        self._memory = memory
        self._replace(None, None, self._param_states, groups)

    def _loaded_memory(self, saved: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
        states = {int(index): entries for index, entries in saved.items()}
        if not states:
            return {}
        if set(states) != {0}:
            raise ValueError(
                f"LBFGS.load_state_dict: expected the state of parameter 0, got {sorted(states)}."
            )
        given = {name: value for name, value in states[0].items() if name != "al"}
        known = {*_NUMBERS, *_VECTORS, *_LISTS}
        if not {"func_evals", "n_iter"} <= set(given) <= known or (
            len(given) != 2 and set(given) != known
        ):
            raise ValueError(
                f"LBFGS.load_state_dict: expected the entries {sorted(known)}, got {sorted(given)}."
            )
        size = sum(p._data.size for p in self._parameters())
        dtype = np.result_type(*(p.dtype for p in self._parameters()))
        return {name: _loaded(name, value, size, dtype) for name, value in given.items()}


def _loaded(name: str, value: Any, size: int, dtype: Any) -> Any:
    """A checked entry of a saved history."""
    if name in _LISTS:
        entry = "number" if name == "ro" else "d"
        return [_loaded(entry, one, size, dtype) for one in value or ()]
    array = np.asarray(value)
    expected = (size,) if name in _VECTORS else ()
    if array.shape != expected or array.dtype.kind not in "fiu":
        raise ValueError(
            f"LBFGS.load_state_dict: expected numbers of shape {expected} for {name}, got "
            f"{array.dtype}{array.shape}."
        )
    if name in _VECTORS:
        return array.astype(dtype)
    return int(array) if name in ("func_evals", "n_iter") else float(array)


def _largest(x: ndarray) -> float:
    return float(np.abs(x).max(initial=0.0))


def _remembered(memory: dict[str, Any], g: ndarray, most: int) -> dict[str, Any]:
    """The memory with the pair of the last move and the next direction. Lists are made anew."""
    if memory["n_iter"] == 0:
        return memory | {"d": -g, "old_dirs": [], "old_stps": [], "ro": [], "H_diag": 1.0}
    y, s = g - memory["prev_flat_grad"], memory["d"] * memory["t"]
    product = float(y.dot(s))
    if product > 1e-10:
        pairs = {"old_dirs": y, "old_stps": s, "ro": 1.0 / product}
        kept = {name: [*memory[name], new][-most:] if most else [] for name, new in pairs.items()}
        memory = memory | kept | {"H_diag": product / float(y.dot(y))}
    return memory | {"d": _direction(memory, g)}


def _direction(memory: dict[str, Any], g: ndarray) -> ndarray:
    """-H g, by two loops over the pairs."""
    pairs = list(zip(memory["old_dirs"], memory["old_stps"], memory["ro"], strict=True))
    d: Any = -g
    shares = []
    for y, s, rho in reversed(pairs):
        shares.append(float(s.dot(d)) * rho)
        d = d - shares[-1] * y
    d = d * memory["H_diag"]
    for (y, s, rho), share in zip(pairs, reversed(shares), strict=True):
        d = d + (share - float(y.dot(d)) * rho) * s
    return np.asarray(d)


# ------------------------------------------------------------------ line search


def _strong_wolfe(
    line: Callable[[float], Point], start: Point, t: float, d: ndarray, tolerance: float, most: int
) -> tuple[Point, int]:
    """A point where the loss and its slope have fallen enough, and how often the loss was computed.

    loss <= loss_0 + c1 t slope_0 and |slope| <= c2 |slope_0|.

    most: evaluations after the first; then the lowest point so far.
    Source: Nocedal and Wright, algorithms 3.5 and 3.6, with PyTorch's interpolation and bounds.
    """
    bracket, used = _bracket(line, start, t, most)
    if len(bracket) == 1:
        return bracket[0], used
    size, hesitated = _largest(d), False
    low = _lower(bracket)
    while used - 1 < most and abs(bracket[1].t - bracket[0].t) * size >= tolerance:
        ends = sorted(point.t for point in bracket)
        t = _cubic_minimum(bracket[0], bracket[1], ends[0], ends[1])
        t, hesitated = _inside(t, ends[0], ends[1], hesitated)
        point = line(t)
        used += 1
        if _too_high(point, start) or point.loss >= bracket[low].loss:
            bracket[1 - low] = point
            low = _lower(bracket)
            continue
        if abs(point.slope) <= -_CURVATURE * start.slope:
            return point, used
        if point.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
            bracket[1 - low] = bracket[low]
        bracket[low] = point
    return bracket[low], used


def _lower(bracket: list[Point]) -> int:
    return 0 if bracket[0].loss <= bracket[1].loss else 1


def _too_high(point: Point, start: Point) -> bool:
    return point.loss > start.loss + _SUFFICIENT * point.t * start.slope


def _bracket(
    line: Callable[[float], Point], start: Point, t: float, most: int
) -> tuple[list[Point], int]:
    """Two points with one that fits between them, or the one that fits; and the evaluations."""
    before, point = start, line(t)
    for i in range(most):
        if _too_high(point, start) or (i > 1 and point.loss >= before.loss):
            return [before, point], i + 1
        if abs(point.slope) <= -_CURVATURE * start.slope:
            return [point], i + 1
        if point.slope >= 0:
            return [before, point], i + 1
        nearest = point.t + 0.01 * (point.t - before.t)
        t = _cubic_minimum(before, point, nearest, 10 * point.t)
        before, point = point, line(t)
    return [start, point], max(most, 0) + 1


def _inside(t: float, low: float, high: float, hesitated: bool) -> tuple[float, bool]:
    """t away from both ends, if it was near one twice or is one; whether it was near one once."""
    room = 0.1 * (high - low)
    if min(high - t, t - low) >= room:
        return t, False
    if not hesitated and low < t < high:
        return t, True
    return (high - room if abs(t - high) < abs(t - low) else low + room), False


def _cubic_minimum(a: Point, b: Point, lowest: float, highest: float) -> float:
    """The minimum of the cubic with the losses and slopes of two points, within bounds."""
    if a.t == b.t:
        return (lowest + highest) / 2
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (lowest + highest) / 2
    if a.t > b.t:
        a, b = b, a
    root = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * root
    if not divisor:
        return (lowest + highest) / 2
    t = b.t - (b.t - a.t) * ((b.slope + root - d1) / divisor)
    return min(max(t, lowest), highest)
