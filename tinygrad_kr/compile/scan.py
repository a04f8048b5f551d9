"""`scan`: a loop whose body is recorded once and runs in C, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.batching import Refused, keeps_tensors
from tinygrad_kr.compile.body import Body, Recording
from tinygrad_kr.ops.node import Node, is_anomaly_on
from tinygrad_kr.ops.reduction import concatenate
from tinygrad_kr.ops.shape import reshape, stack
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor

__all__ = ["scan"]

Function = Callable[[Any, Any], tuple[Any, Any]]


def scan(
    f: Function,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    *,
    checkpoint_every: int | None = None,
) -> tuple[Any, Any]:
    """A loop with a carry: (carry, y) = f(carry, x) for each x along the first axis of `xs`.

    f: its carry has the structure, shapes and dtypes of `init` at each step.
    init: the first carry. xs: arrays with one element for each step; None with a `length`.
    init, xs and the y of `f` are arrays, Tensors, and nested tuples, lists and dicts of them.
    length: number of steps. reverse: go from the last element to the first.
    checkpoint_every: keep the carry after so many steps only, and compute those between again in
        backward. About the square root of the number of steps needs least memory.

    Returns (the last carry, every y stacked along a new first axis, that of step i at i): arrays
    where all arguments are, else Tensors. Gradients of every order flow to `init`, `xs` and to
    Tensors that `f` reads.
    `f` is recorded on the first step. A long loop runs in C, if there is a compiler and `f` can be
    one function of C; else by NumPy. A function that looks at elements of Tensors runs as written.
    Raises ValueError for `xs` of several lengths, TypeError for a carry of another structure, shape
    or dtype, RuntimeError where `f` draws random numbers or has side effects.
    Source: jax.lax.scan.

    >>> total, sums = tk.scan(lambda total, x: (total + x, total + x), 0.0, np.array([1.0, 2.0]))
    >>> total, sums
    (np.float64(3.0), array([1., 3.]))
    """
    loop = _Loop(f, init, xs, length, reverse)
    if checkpoint_every is not None:
        return _in_blocks(loop, checkpoint_every)
    return loop.run()


class _Loop:
    """The arguments of a scan, flat."""

    def __init__(self, f: Function, init: Any, xs: Any, length: Any, reverse: bool) -> None:
        self.f, self.reverse = f, bool(reverse)
        given, self.with_carry = tree.flatten(init)
        rows, self.with_rows = tree.flatten(xs)
        self.is_weak = [type(x) in (int, float) for x in given]
        self.rows = [_tensor(x, "xs") for x in rows]
        beside = {_array(x).dtype for x in (*self.rows, *given) if _is_float(x)}
        number = np.result_type(*beside) if beside else np.dtype(np.float64)
        self.carry = [_tensor(x, "init", number) for x in given]
        self.plain = not any(isinstance(x, Node) for x in (*given, *rows))
        self.n = _length([x.shape for x in self.rows], length)

    def run(self) -> tuple[Any, Any]:
        """The results, nested as the function's."""
        as_arrays = self.plain and not keeps_tensors()
        carry, ys, with_ys = self.flat()
        return (
            self.with_carry([_outward(x, as_arrays) for x in carry]),
            with_ys([_outward(y, as_arrays) for y in ys]),
        )

    def flat(self) -> tuple[list[Any], list[Any], Any]:
        """The last carry and the stacked results, flat, and how these are nested."""
        if is_anomaly_on():
            return self._as_written()
        recording = Recording("scan", (self.carry, self._first(), []))
        try:
            result = recording.run(self._call, *recording.parts[:2])
        except Refused:
            return self._as_written()
        carry, ys, with_ys = result
        if recording.recorder.reason is not None:
            return self._as_written()
        if self._widened(carry):
            return self.flat()
        recording.finish(carry, ys, [])
        if tracer := tracing():
            for node in recording.recorder.constants.values():
                tracer.created(node)
        carry, ys = run(
            recording.body, [*self.carry, *self.rows, *recording.constants], self.n, self.reverse
        )
        return carry, ys, with_ys

    def _first(self) -> list[ndarray]:
        at = -1 if self.reverse else 0
        return [x._data[at, ...] if self.n else np.zeros(x.shape[1:], x.dtype) for x in self.rows]

    def _call(self, carry: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], list[Any], Any]:
        """One step, flat."""
        result = self.f(self.with_carry(list(carry)), self.with_rows(list(x)))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(
                "scan: expected a function that returns (carry, y), got "
                f"{type(result).__name__}. Return (carry, None) where there is nothing to stack"
            )
        try:
            after = tree.leaves_like(self.with_carry(self.carry), result[0], "scan: carry")
        except ValueError as error:
            raise TypeError(str(error)) from None
        ys, with_ys = tree.flatten(result[1])
        after = [_tensor(x, "the carry", b.dtype) for x, b in zip(after, self.carry, strict=True)]
        for new, old, weak in zip(after, self.carry, self.is_weak, strict=True):
            same = new.shape == old.shape and (new.dtype == old.dtype or weak)
            if not same:
                raise TypeError(
                    f"scan: expected a carry of {old.dtype}{old.shape}, as that of init, got "
                    f"{new.dtype}{new.shape}. Convert it in the function"
                )
        return after, [_tensor(y, "the results") for y in ys], with_ys

    def _widened(self, after: Sequence[Any]) -> bool:
        """Whether a Python number among `init` has taken the dtype that the step gives it."""
        changed = False
        for i, (old, new) in enumerate(zip(self.carry, after, strict=True)):
            if old.dtype != new.dtype:
                self.carry[i] = old.to(new.dtype)
                self.is_weak[i] = False
                changed = True
        return changed

    def _as_written(self) -> tuple[list[Any], list[Any], Any]:
        """The function called for each step."""
        if not self.n:
            raise ValueError(
                "scan: expected at least one step of a function that cannot be recorded."
            )
        carry: Sequence[Any] = self.carry
        found = []
        for t in range(self.n)[:: -1 if self.reverse else 1]:
            carry, ys, with_ys = self._call(carry, [x[t] for x in self.rows])
            found.append(ys)
        found = found[:: -1 if self.reverse else 1]
        return list(carry), [stack(*column) for column in zip(*found, strict=True)], with_ys


def run(body: Body, arguments: Sequence[Any], n: int, reverse: bool) -> tuple[list[Any], list[Any]]:
    """The last carry and the stacked results of a body, as Tensors."""
    flat = {
        dtype: record(*arguments, n=n, reverse=reverse) for dtype, record in body.records.items()
    }
    carries, last = body.counts.carries, 0 if reverse else n
    carry = [body.row(flat[kind.dtype], i, n, last) for i, kind in enumerate(body.carries)]
    ys = [body.block(flat[k.dtype], carries + i, n) for i, k in enumerate(body.stacked)]
    return carry, ys


def _in_blocks(loop: _Loop, size: int) -> tuple[Any, Any]:
    """A scan over blocks of steps, each a scan: only the carries between blocks are kept."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"scan: expected checkpoint_every of at least 1, got {size!r}.")
    if size >= loop.n:
        return loop.run()
    n, size = loop.n, int(size)
    whole = n - n % size
    ends = slice(n - whole, n) if loop.reverse else slice(0, whole)
    rest = slice(0, n - whole) if loop.reverse else slice(whole, n)
    blocks = [reshape(x[ends], shape=(whole // size, size, *x.shape[1:])) for x in loop.rows]
    nesting: list[Any] = []

    def block(carry: Any, rows: Any) -> Any:
        inner = _Loop(loop.f, loop.with_carry(carry), loop.with_rows(rows), size, loop.reverse)
        carry, ys, with_ys = inner.flat()
        nesting[:] = [with_ys]
        return carry, ys

    carry, ys = _Loop(block, loop.carry, blocks, whole // size, loop.reverse).flat()[:2]
    ys = [reshape(y, shape=(whole, *y.shape[2:])) for y in ys]
    if n > whole:
        left = _Loop(
            loop.f, loop.with_carry(carry), loop.with_rows([x[rest] for x in loop.rows]),
            n - whole, loop.reverse,
        )  # fmt: skip
        carry, more, _ = left.flat()
        pairs = zip(more, ys, strict=True) if loop.reverse else zip(ys, more, strict=True)
        ys = [concatenate(*pair) for pair in pairs]
    as_arrays = loop.plain and not keeps_tensors()
    return (
        loop.with_carry([_outward(x, as_arrays) for x in carry]),
        nesting[0]([_outward(y, as_arrays) for y in ys]),
    )


def _tensor(x: Any, what: str, dtype: Any = None) -> Any:
    if isinstance(x, Node):
        return x
    if type(x) is float and dtype is not None and dtype.kind == "f":
        return Tensor(np.asarray(x, dtype))
    if isinstance(x, ndarray | np.generic | int | float):
        return Tensor(x)
    raise TypeError(f"scan: expected arrays in {what}, got a {type(x).__name__}.")


def _is_float(x: Any) -> bool:
    return isinstance(_array(x), ndarray | np.generic) and _array(x).dtype.kind == "f"


def _array(x: Any) -> Any:
    return x._data if isinstance(x, Node) else x


def _length(shapes: Sequence[tuple[int, ...]], length: Any) -> int:
    if any(not shape for shape in shapes):
        raise ValueError("scan: expected xs with an axis for the steps, got a number.")
    sizes = {shape[0] for shape in shapes} | ({int(length)} if length is not None else set())
    if len(sizes) != 1:
        found = f"{sorted(sizes)}" if sizes else "neither xs nor a length"
        raise ValueError(f"scan: expected one number of steps, got {found}.")
    (n,) = sizes
    if n < 0:
        raise ValueError(f"scan: expected a length of at least 0, got {n}.")
    return n


def _outward(x: Any, as_arrays: bool) -> Any:
    if not as_arrays or x._requires_grad:
        return x
    return x._data if x._data.ndim else x._data[()]


def __dir__() -> list[str]:
    return __all__
