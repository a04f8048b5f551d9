"""The gradients of an optimizer, averaged over the ranks while backward still runs.

As backward begins the ranks agree on the exchange. Then the sums of buckets begin in one order, as
they become complete. Compiled and eager steps make the same exchange, so ranks may differ in it.
A parameter without a gradient on one rank counts as 0 there; without one on all it keeps none.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy import ndarray

from tinygrad_kr import autodiff
from tinygrad_kr.arrays.joining import concatenate
from tinygrad_kr.autodiff import RowGradient
from tinygrad_kr.distributed.alike import options_of, values_of
from tinygrad_kr.distributed.buckets import (
    PRESENT,
    Bucket,
    Layout,
    dense,
    has_nan,
    touched_rows,
)
from tinygrad_kr.distributed.collectives import average_gradients
from tinygrad_kr.distributed.failure import RankError, described
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.tracing import Tracer, tracing
from tinygrad_kr.optim.optimizer import Optimizer
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_kr.distributed.group import Group


class GradientExchange:
    """Averages the gradients of an optimizer's parameters in each backward pass that reaches them.

    A copy of the optimizer, by `copy` or pickle, has an exchange of its own with the same group.
    """

    def __init__(self, group: Group, optimizer: Optimizer, bucket_bytes: int, number: int) -> None:
        assert group._link is not None
        self.link, self._group, self._bucket_bytes = group._link, group, bucket_bytes
        self._optimizer = weakref.ref(optimizer)
        self._kind = type(optimizer).__name__
        self._number = f"number of the optimizer: {number}"
        """Among those of the group: two optimizers may be alike, and their steps are not."""
        self._arguments = bucket_bytes, number
        self._layout = Layout(self.link, self._kind, (), bucket_bytes)
        self._is_averaged = False
        """Whether the last backward pass before the next step was averaged."""
        self._has_like_values = False
        """Whether all ranks have the same parameters and state, as far as is known."""
        self._recorded: list[_Averaged] = []
        """Those that were recorded since the last step."""

    def __reduce__(self) -> Any:
        return _joined, (self._group, self._optimizer(), *self._arguments, self._is_averaged)

    def lay_out(self) -> None:
        """Put the parameters into buckets, once all ranks have agreed on them."""
        self._follow(_trained(self._optimizer()))
        self.link.agree(self._layout.description.replace("gradients", "parameters", 1))

    def _follow(self, parameters: list[Any]) -> None:
        """Lay out anew where a parameter was added, frozen or thawed."""
        if not self._layout.is_of(parameters):
            self._layout = Layout(self.link, self._kind, parameters, self._bucket_bytes)

    def compare_values(self) -> None:
        """Before the next exchange: a state was loaded, which may be another on each rank."""
        self._has_like_values = False

    # -------------------------------------------------------------- in a backward pass

    def begins(self, leaves: Collection[Node]) -> bool:
        """Whether a backward pass reaches a parameter, and gradients are exchanged now."""
        optimizer = self._optimizer()
        if optimizer is None:
            autodiff.exchanges.remove(self)
            return False
        parameters = _trained(optimizer)
        if set(parameters).isdisjoint(leaves):
            return False
        if not self._group._exchanges_gradients(tracing() is not None):
            self._is_averaged = False
            return False
        self._follow(parameters)
        return True

    def propose(self) -> None:
        """Tell the others that this exchange comes, and line its buckets up."""
        for alike in self._layout.buckets:
            self._propose(self._layout, alike)

    def _propose(self, layout: Layout, alike: Sequence[Bucket]) -> None:
        optimizer = self._optimizer()
        if not self._has_like_values:
            values = values_of(optimizer, self._group._name_of)
            self.link.agree(f"the values of {self._kind}\n{self._number}\n{values}")
            self._has_like_values = True
        agreement = self.link.propose(
            f"{layout.description}\n{self._number}\n{options_of(optimizer)}"
        )
        for bucket in alike:
            bucket.reset(agreement)
        self.link.queue.extend(alike)

    def complete(self, leaf: Node, g: Any) -> None:
        """The gradient of a leaf is known: begin the sums of buckets that are complete."""
        slot = self._layout.slots.get(leaf)
        if slot is None:
            return
        slot[0].put(slot[1], g)
        self.link.start_sums()
        self.link.poll(self._layout.all)

    def gather(self, gradients: dict[Node, Any]) -> None:
        """The gradients that were not known before the end of the walk."""
        for bucket in self._layout.all:
            for i, p in enumerate(bucket.parameters):
                if not bucket.known[i]:
                    bucket.put(i, gradients.get(p))
        self.link.start_sums()

    def finish(self, gradients: dict[Node, Any]) -> dict[Node, Any]:
        """The averages, which become the `.grad`s. Raises RankError for a NaN on any rank."""
        totals: dict[Node, Any] = {}
        for alike in self._layout.buckets:
            rows = self._summed(alike, lambda p: _sum_of(gradients.get(p), p._grad))
            for bucket in alike:
                for p, part, present in zip(
                    bucket.parameters, bucket.parts, bucket.flags[PRESENT], strict=True
                ):
                    if present:
                        totals[p] = self._mean(part, gradients.get(p), p, rows.get(p))
        self._is_averaged = True
        return totals

    def _summed(self, alike: Sequence[Bucket], local: Callable[[Any], Any]) -> dict[Any, ndarray]:
        """Wait for the sums of buckets that were proposed. Returns the rows of sparse gradients.

        local: this rank's gradient of a parameter, for a message.
        """
        assert alike[0].agreement is not None
        self.link.settle(alike[0].agreement)
        self.link.start_sums()
        self.link.finish_sums(alike)
        if any(has_nan(bucket.flat) for bucket in alike):
            self._raise_nan(alike, local)
        return touched_rows(self.link, alike)

    def _mean(self, part: ndarray, g: Any, p: Any, rows: ndarray | None) -> Any:
        """A part divided by the number of ranks; in the memory of `g` where that is possible."""
        dtype = p._data.dtype
        own = type(g) is ndarray and g.dtype == dtype and g.shape == part.shape
        out = g if own and g.flags.writeable else np.empty(part.shape, dtype)
        with np.errstate(all="ignore"):
            np.divide(part, self.link.size, out=out, casting="same_kind")
        return out if rows is None else RowGradient(rows, out[rows], out.shape)

    def abandon(self) -> None:
        """Backward has raised: the exchange that the others wait for does not come."""
        error = sys.exc_info()[1]
        self.link.queue.clear()
        if error is not None:
            self.link.peers.announce(RankError(self.link.rank, described(error)))

    def check_step(self) -> None:
        """Before a step. Raises RuntimeError for gradients of this rank alone."""
        optimizer = self._optimizer()
        is_averaged, self._is_averaged = self._is_averaged, False
        for one in self._recorded:
            one.is_stepped |= one.tracer is not None and one.tracer() is tracing()
        self._recorded = []
        if is_averaged or optimizer is None:
            return
        if any(p._grad is not None for p in optimizer._parameters()):
            self.refuse_step()

    def refuse_step(self) -> NoReturn:
        """Raise RuntimeError for a step by gradients of this rank alone."""
        raise RuntimeError(
            f"{self._kind}.step: expected gradients that backward() has averaged over the "
            "ranks since the last step, got this rank's own. They came from backward() under "
            "no_sync, from tk.autograd.grad or tk.grad, or from the step before. Call "
            "loss.backward() outside no_sync before each step. To average them yourself by "
            "group.all_reduce, use an optimizer that was not given to group.optimizer"
        )

    def mean_loss(self, loss: Any) -> Any:
        """The mean of the ranks' losses, on which all must agree where it decides the next step."""
        value = np.asarray(loss._data if isinstance(loss, Node) else loss)
        mean = self.link.reduced(value, "mean", f"the loss of {self._kind}")
        return Tensor(mean) if isinstance(loss, Node) else mean.item()

    # -------------------------------------------------------------- as ops

    def replace(self) -> None:
        """The same by ops on Tensors, for a backward pass that is recorded."""
        tracer = tracing()
        if tracer is not None:
            for p in self._layout.parameters:
                tracer.read_gradient(p)
        with no_grad() if tracer is not None else nullcontext():
            for alike in self._layout.buckets:
                self._replace(alike, tracer)
        if tracer is not None:
            tracer.remark(
                "the gradients are averaged over the ranks between two programs: that of forward "
                "and backward, and that of the optimizer"
            )

    def _replace(self, alike: list[Bucket], tracer: Tracer | None) -> None:
        parameters = [p for bucket in alike for p in bucket.parameters]
        flags = np.array([p._grad is not None for p in parameters], parameters[0]._data.dtype)
        parts = [
            np.zeros(p._data.size, flags.dtype) if p._grad is None else p._grad.reshape(-1)
            for p in parameters
        ]
        flat = concatenate([*parts, flags])
        one = _Averaged(self, self._layout, alike, tracer)
        if tracer is not None:
            self._recorded.append(one)
        averaged = average_gradients(flat, gradients=one)
        present = averaged._data[-len(parameters) :] > 0
        end = 0
        for p, is_present in zip(parameters, present, strict=True):
            start, end = end, end + p._data.size
            if not is_present:
                continue
            if tracer is not None:
                tracer.touch_gradient(p)
            p._grad = averaged[start:end].reshape(p._data.shape)
            if tracer is not None:
                tracer.gives_tensor(p._grad)

    def average(self, flat: ndarray, layout: Layout, alike: Sequence[Bucket]) -> ndarray | None:
        """The mean over the ranks of gradients and, at the end, flags; None under `no_sync`."""
        if not self._group._exchanges_gradients(False):
            return None
        pieces: dict[Any, ndarray] = {}
        parameters = [p for bucket in alike for p in bucket.parameters]
        flags = flat[-len(parameters) :]
        end = 0
        for p in parameters:
            start, end = end, end + p._data.size
            pieces[p] = flat[start:end]
        with self.link.exchange():
            self._propose(layout, alike)
            present = iter(flags.tolist())
            for bucket in alike:
                for i, p in enumerate(bucket.parameters):
                    bucket.put_array(i, pieces[p], next(present) > 0)
            self._summed(alike, lambda p: pieces[p].reshape(p._data.shape))
        means = [*(part for bucket in alike for part in bucket.parts)]
        counts = [bucket.flags[PRESENT] for bucket in alike]
        joined: ndarray = np.concatenate([part.reshape(-1) for part in (*means, *counts)])
        joined /= self.link.size
        self._is_averaged = True
        return joined.astype(flat.dtype, copy=False)

    # -------------------------------------------------------------- what goes wrong

    def _raise_nan(self, alike: Sequence[Bucket], local: Callable[[Any], Any]) -> None:
        """Raise RankError for the first parameter whose sum is a NaN, with the rank it is from."""
        sums = [
            (p, part)
            for bucket in alike
            for p, part in zip(bucket.parameters, bucket.parts, strict=True)
        ]
        p, total = next((p, part) for p, part in reversed(sums) if has_nan(part))
        name = self._group._name_of(p)
        kinds = self.link.texts(_cause(local(p), np.isnan(total)))
        for rank, kind in enumerate(kinds):
            if kind == "a NaN":
                self.link.fail(rank, f"a NaN in the gradient of {name}")
        infinite = [rank for rank, kind in enumerate(kinds) if kind]
        if infinite:
            others = ", ".join(map(str, infinite[1:]))
            self.link.fail(
                infinite[0],
                f"an infinity in the gradient of {name}, whose mean with the opposite one of rank "
                f"{others} is a NaN",
            )
        self.link.fail(0, f"the sum over the ranks of the gradient of {name} overflows")


class _Averaged:
    """The parameter of `average_gradients`: an exchange, and some of its buckets.

    tracer: of `tk.compile`, which records it. A replay must find gradients where the recorded run
        did: its program has decided which parameters get one.
    """

    def __init__(
        self, exchange: GradientExchange, layout: Layout, alike: list[Bucket], tracer: Any
    ) -> None:
        self.link, self._exchange = exchange.link, exchange
        self._layout, self._alike = layout, alike
        self.tracer = None if tracer is None else weakref.ref(tracer)
        self.is_stepped = False
        """Whether the recorded program goes on with a step of the optimizer."""
        self._present = b""
        """Which parameters had a gradient on any rank, in the recorded run."""

    def averaged(self, flat: ndarray) -> ndarray:
        """See `GradientExchange.average`."""
        averaged = self._exchange.average(flat, self._layout, self._alike)
        is_exchanged = averaged is not None
        averaged = flat.copy() if averaged is None else averaged
        count = sum(len(bucket.parameters) for bucket in self._alike)
        present = (averaged[-count:] > 0).tobytes()
        if self.tracer is None:
            return averaged
        if tracing() is not None:
            self._present = present
        elif self.is_stepped and not is_exchanged:
            self._exchange.refuse_step()
        elif is_exchanged and present != self._present:
            self.link.fail(
                self.link.rank,
                "in a compiled step, other parameters have a gradient on some rank than when it "
                "was recorded. Let every rank use the same parameters, or do not compile the step",
            )
        return averaged

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Averaged)
            and (other._exchange is self._exchange)
            and (other.tracer is None) == (self.tracer is None)
            and other._alike is self._alike
            and other._present == self._present
        )

    def __hash__(self) -> int:
        return hash((id(self._exchange), len(self._alike)))


def _joined(
    group: Group, optimizer: Optimizer, bucket_bytes: int, number: int, is_averaged: bool
) -> GradientExchange | None:
    """The exchange of a copied optimizer, laid out by its first backward; None on one process."""
    if group._link is None:
        return None
    exchange = GradientExchange(group, optimizer, bucket_bytes, number)
    exchange._is_averaged = is_averaged
    autodiff.exchanges.append(exchange)
    return exchange


def _trained(optimizer: Optimizer | None) -> list[Any]:
    """The parameters that require grad, in the optimizer's order."""
    assert optimizer is not None
    return [p for p in optimizer._parameters() if p._requires_grad]


def _sum_of(g: Any, before: Any) -> Any:
    return dense(g) if before is None else before._data if g is None else before._data + dense(g)


def _cause(local: Any, where: ndarray) -> str:
    """What of this rank made some elements of a sum NaNs."""
    if local is None or np.isfinite(local[where]).all():
        return ""
    return "a NaN" if np.isnan(local[where]).any() else "an infinity"
