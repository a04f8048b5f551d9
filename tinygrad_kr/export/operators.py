"""The table of the exporter: for each op, its ONNX nodes.

A writer gets the graph and the call and returns the name of a tensor of the output's dtype and
shape. An op that is not in `WRITERS` is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.ops import _assigned
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.export.graph import BOOL, INT64, Graph
from tinygrad_kr.export.recording import Call, refuse
from tinygrad_kr.functional.linear import _one_hot_op
from tinygrad_kr.ops import attention, linalg, network, recurrent, reduction, shape, window
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import indexing as ix
from tinygrad_kr.ops.op import astype

Writer = Callable[[Graph, Call], str]

# ------------------------------------------------------------------ elementwise


def _one(kind: str) -> Writer:
    """A node of one input, in the dtype of the output."""
    return lambda g, c: g.node(kind, g.operand(c.inputs[0], c.output.dtype))


def _two(kind: str, of_bools: str = "") -> Writer:
    """A node of two inputs, in the dtype of the output; on truth values another one."""

    def write(g: Graph, c: Call) -> str:
        a, b = (g.operand(x, c.output.dtype) for x in c.inputs)
        return g.node(of_bools if of_bools and c.output.dtype == BOOL else kind, a, b)

    return write


def _composed(compose: Callable[..., str]) -> Writer:
    """Nodes composed by `compose(graph, dtype, *names)`, in the dtype of the output."""
    return lambda g, c: compose(
        g, c.output.dtype, *(g.operand(x, c.output.dtype) for x in c.inputs)
    )


def _weak(x: Any) -> Any:
    return x.dtype if isinstance(x, Value) else x


def _compared(kind: str, negated: bool = False) -> Writer:
    """A comparison in the common dtype of its inputs."""

    def write(g: Graph, c: Call) -> str:
        dtype = np.result_type(*map(_weak, c.inputs))
        if dtype.kind != "f":
            small = dtype.itemsize < 4 and not (dtype == BOOL and kind == "Equal")
            dtype = np.dtype(np.int32) if small else dtype
        found = g.node(kind, *(g.operand(x, dtype) for x in c.inputs))
        return g.node("Not", found) if negated else found

    return write


def _truths(kind: str) -> Writer:
    return lambda g, c: g.node(kind, *(g.operand(x, BOOL) for x in c.inputs))


def _bits(kind: str, of_bools: str) -> Writer:
    def write(g: Graph, c: Call) -> str:
        chosen = of_bools if c.output.dtype == BOOL else kind
        return g.node(chosen, *(g.operand(x, c.output.dtype) for x in c.inputs))

    return write


def _of_floats(kind: str) -> Writer:
    """A test of floats; integers are tested as float32."""

    def write(g: Graph, c: Call) -> str:
        dtype = g.dtype_of(c.inputs[0])
        return g.node(kind, g.operand(c.inputs[0], dtype if dtype.kind == "f" else np.float32))

    return write


def _finite(g: Graph, c: Call) -> str:
    return g.node("Not", g.node("Or", _of_floats("IsNaN")(g, c), _of_floats("IsInf")(g, c)))


def _where(g: Graph, c: Call) -> str:
    condition, a, b = c.inputs
    chosen = (g.operand(x, c.output.dtype) for x in (a, b))
    return g.node("Where", g.operand(condition, BOOL), *chosen)


def _where_or_zero(g: Graph, c: Call) -> str:
    x, mask = c.inputs
    dtype = c.output.dtype
    return g.node("Where", g.operand(mask, BOOL), g.operand(x, dtype), g.constant(0, dtype))


def _clip(g: Graph, c: Call) -> str:
    name, dtype = g.operand(c.inputs[0], c.output.dtype), c.output.dtype
    if c.params.get("low") is not None:
        name = g.node("Max", name, g.operand(c.params["low"], dtype))
    if c.params.get("high") is not None:
        name = g.node("Min", name, g.operand(c.params["high"], dtype))
    return name


def _times(factor: float) -> Callable[..., str]:
    return lambda g, dtype, x: g.node("Mul", x, g.constant(factor, dtype))


def _log1p(g: Graph, dtype: Any, x: str) -> str:
    return g.node("Log", g.node("Add", x, g.constant(1, dtype)))


def _expm1(g: Graph, dtype: Any, x: str) -> str:
    return g.node("Sub", g.node("Exp", x), g.constant(1, dtype))


def _log_to_base(base: float) -> Callable[..., str]:
    return lambda g, dtype, x: g.node("Div", g.node("Log", x), g.constant(math.log(base), dtype))


def _trunc(g: Graph, dtype: Any, x: str) -> str:
    return g.node("Mul", g.node("Sign", x), g.node("Floor", g.node("Abs", x)))


def _cbrt(g: Graph, dtype: Any, x: str) -> str:
    root = g.node("Pow", g.node("Abs", x), g.constant(1 / 3, dtype))
    return g.node("Mul", g.node("Sign", x), root)


def _gelu(g: Graph, dtype: Any, x: str) -> str:
    """x (1 + erf(x / sqrt(2))) / 2."""
    tail = g.node("Erf", g.node("Div", x, g.constant(math.sqrt(2), dtype)))
    return g.node("Mul", _times(0.5)(g, dtype, x), g.node("Add", tail, g.constant(1, dtype)))


def _hypot(g: Graph, dtype: Any, a: str, b: str) -> str:
    """m sqrt(1 + (n / m)^2), where m >= n; equal lengths, as 0 and infinity, have the ratio 1."""
    a, b = g.node("Abs", a), g.node("Abs", b)
    most, least, one = g.node("Max", a, b), g.node("Min", a, b), g.constant(1, dtype)
    same = g.node("Equal", a, b)
    quotient = g.node("Div", least, g.node("Where", same, one, most))
    ratio = g.node("Where", same, one, quotient)
    return g.node("Mul", most, g.node("Sqrt", g.node("Add", one, g.node("Mul", ratio, ratio))))


def _logaddexp(g: Graph, dtype: Any, a: str, b: str) -> str:
    """max(a, b) + log(1 + exp(-|a - b|)); infinities of one sign have the gap 0."""
    same, zero = g.node("Equal", a, b), g.constant(0, dtype)
    ends = (g.node("Where", same, zero, each) for each in (a, b))
    gap = g.node("Neg", g.node("Abs", g.node("Sub", *ends)))
    return g.node("Add", g.node("Max", a, b), _log1p(g, dtype, g.node("Exp", gap)))


def _remainder(g: Graph, c: Call) -> str:
    a, b = (g.operand(x, c.output.dtype) for x in c.inputs)
    return _modulo(g, c.output.dtype, a, b)


def _modulo(g: Graph, dtype: np.dtype[Any], a: str, b: str) -> str:
    """The remainder with the sign of b. Of floats: C's fmod, plus b if the signs differ."""
    if dtype.kind != "f":
        return g.node("Mod", a, b)
    found = g.node("Mod", a, b, fmod=1)
    signs = g.node("Mul", g.node("Sign", found), g.node("Sign", b))
    differ = g.node("Less", signs, g.constant(0, dtype))
    return g.node("Where", differ, g.node("Add", found, b), found)


def _floor_divide(g: Graph, c: Call) -> str:
    """(a - a mod b) / b, which is whole; of floats a / b where b is 0."""
    is_float = c.output.dtype.kind == "f"
    dtype = c.output.dtype if is_float else INT64
    a, b = (g.operand(x, dtype) for x in c.inputs)
    whole = g.node("Div", g.node("Sub", a, _modulo(g, dtype, a, b)), b)
    if is_float:
        is_zero = g.node("Equal", b, g.constant(0, dtype))
        whole = g.node("Where", is_zero, g.node("Div", a, b), g.node("Round", whole))
    return g.cast(whole, dtype, c.output.dtype)


def _fmod(g: Graph, c: Call) -> str:
    return g.node("Mod", *(g.operand(x, c.output.dtype) for x in c.inputs), fmod=1)


def _round(g: Graph, c: Call) -> str:
    decimals = c.params.get("decimals", 0) if len(c.inputs) == 1 else c.inputs[1]
    dtype = c.output.dtype
    scale = g.constant(10.0**decimals, dtype)
    name = g.operand(c.inputs[0], dtype)
    if not decimals:
        return g.node("Round", name)
    return g.node("Div", g.node("Round", g.node("Mul", name, scale)), scale)


def _astype(g: Graph, c: Call) -> str:
    return g.operand(c.inputs[0], c.output.dtype)


def _assign(g: Graph, c: Call) -> str:
    name = g.operand(c.inputs[0], c.output.dtype)
    return g.node("Expand", name, g.shape(g.shapes[c.output]))


# ------------------------------------------------------------------ reductions


def _axes(c: Call, value: Value) -> tuple[int, ...]:
    axis = c.params.get("axis")
    axes = range(len(value.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(a % len(value.shape) for a in axes)) if value.shape else ()


def _reduced(g: Graph, c: Call, kind: str, name: str, dtype: Any) -> str:
    axes = _axes(c, c.inputs[0])
    if not axes:
        return name
    keepdims = int(bool(c.params.get("keepdims", False)))
    return g.node(kind, name, g.constant(axes, INT64), keepdims=keepdims)


def _reduction(kind: str, dtype: Any = None) -> Writer:
    """A reduction in `dtype`, by default that of the output."""

    def write(g: Graph, c: Call) -> str:
        inside = c.output.dtype if dtype is None else np.dtype(dtype)
        if inside == BOOL:
            inside = np.dtype(np.int32)
        x = g.operand(c.inputs[0], BOOL if c.output.dtype == BOOL else inside)
        x = g.cast(x, BOOL, inside) if c.output.dtype == BOOL else x
        return g.cast(_reduced(g, c, kind, x, inside), inside, c.output.dtype)

    return write


def _count_nonzero(g: Graph, c: Call) -> str:
    hits = g.cast(g.operand(c.inputs[0], BOOL), BOOL, INT64)
    return g.cast(_reduced(g, c, "ReduceSum", hits, INT64), INT64, c.output.dtype)


def _squared_deviations(g: Graph, c: Call) -> str:
    """The variance over the axes, with the divisor n - ddof."""
    x, dtype = g.operand(c.inputs[0], c.output.dtype), c.output.dtype
    axes = _axes(c, c.inputs[0])
    mean = g.node("ReduceMean", x, g.constant(axes, INT64), keepdims=1)
    gap = g.node("Sub", x, mean)
    total = _reduced(g, c, "ReduceSum", g.node("Mul", gap, gap), dtype)
    n = g.count(c.inputs[0], axes, dtype)
    ddof = g.constant(c.params.get("ddof", 0), dtype)
    return g.node("Div", total, g.node("Sub", n, ddof))


def _std(g: Graph, c: Call) -> str:
    return g.node("Sqrt", _squared_deviations(g, c))


def _arg(kind: str) -> Writer:
    def write(g: Graph, c: Call) -> str:
        x, axis = c.inputs[0], c.params.get("axis")
        dtype = np.int32 if x.dtype.kind == "b" or x.dtype.itemsize < 4 else x.dtype
        name = g.operand(x, dtype)
        keepdims = int(bool(c.params.get("keepdims", False)))
        if axis is not None:
            return g.cast(g.node(kind, name, axis=axis, keepdims=keepdims), INT64, c.output.dtype)
        flat = g.node(kind, g.reshape(name, [-1]), axis=0, keepdims=0)
        return g.reshape(g.cast(flat, INT64, c.output.dtype), g.shapes[c.output])

    return write


def _norm(g: Graph, c: Call) -> str:
    dtype = c.output.dtype
    found = _reduced(g, c, "ReduceL2", g.operand(c.inputs[0], dtype), dtype)
    return _at_least(g, c, found)


def _p_norm(g: Graph, c: Call) -> str:
    dtype, p = c.output.dtype, c.params["p"]
    powers = g.node("Pow", g.node("Abs", g.operand(c.inputs[0], dtype)), g.constant(p, dtype))
    total = _reduced(g, c, "ReduceSum", powers, dtype)
    return _at_least(g, c, g.node("Pow", total, g.constant(1 / p, dtype)))


def _at_least(g: Graph, c: Call, name: str) -> str:
    least = c.params.get("least", 0.0)
    return g.node("Max", name, g.constant(least, c.output.dtype)) if least else name


def _logsumexp(g: Graph, c: Call) -> str:
    dtype = c.output.dtype
    return _reduced(g, c, "ReduceLogSumExp", g.operand(c.inputs[0], dtype), dtype)


def _cumsum(g: Graph, c: Call) -> str:
    x = g.operand(c.inputs[0], c.output.dtype)
    axis = g.constant(c.params["axis"], INT64)
    return g.node("CumSum", x, axis, reverse=int(c.params.get("reverse", False)))


# ------------------------------------------------------------------ shapes


def _reshape(g: Graph, c: Call) -> str:
    return g.reshape(g.operand(c.inputs[0]), g.shapes[c.output])


def _permuted(g: Graph, name: str, axes: Sequence[int]) -> str:
    return name if list(axes) == sorted(axes) else g.node("Transpose", name, perm=list(axes))


def _transpose(g: Graph, c: Call) -> str:
    rank = len(c.output.shape)
    axes = c.params.get("axes")
    order = range(rank)[::-1] if axes is None else [a % rank for a in axes]
    return _permuted(g, g.operand(c.inputs[0]), list(order))


def _swapaxes(g: Graph, c: Call) -> str:
    order = list(range(len(c.output.shape)))
    a, b = c.params["axis1"], c.params["axis2"]
    order[a], order[b] = order[b], order[a]
    return _permuted(g, g.operand(c.inputs[0]), order)


def _expand(g: Graph, c: Call) -> str:
    return g.node("Expand", g.operand(c.inputs[0]), g.shape(g.shapes[c.output]))


def _slice(
    g: Graph, name: str, starts: list[Any], stops: list[Any], steps: list[int], axes: list[int]
) -> str:
    return g.node(
        "Slice", name, g.sizes(starts), g.sizes(stops), g.constant(axes, INT64),
        g.constant(steps, INT64),
    )  # fmt: skip


_FAR = np.iinfo(np.int64).max
"""An end beyond every axis."""


def _flip(g: Graph, c: Call) -> str:
    axes = list(_axes(c, c.inputs[0]))
    ends = [-_FAR] * len(axes)
    return _slice(g, g.operand(c.inputs[0]), [-1] * len(axes), ends, [-1] * len(axes), axes)


def _roll(g: Graph, c: Call) -> str:
    name, x = g.operand(c.inputs[0]), c.inputs[0]
    shift, axis = c.params["shift"], c.params.get("axis")
    if axis is None:
        whole = g.reshape(name, [-1])
        return g.reshape(_rolled(g, whole, shift, 0), g.shapes[c.output])
    axes = (axis,) if isinstance(axis, int) else axis
    shifts = (shift,) * len(axes) if isinstance(shift, int) else shift
    for one, a in zip(shifts, axes, strict=True):
        name = _rolled(g, name, one % g.fixed(c, x, a % len(x.shape)), a)
    return name


def _rolled(g: Graph, name: str, shift: int, axis: int) -> str:
    if not shift:
        return name
    last = _slice(g, name, [-shift], [_FAR], [1], [axis])
    return g.node("Concat", last, _slice(g, name, [0], [-shift], [1], [axis]), axis=axis)


def _stack(g: Graph, c: Call) -> str:
    axis = c.params.get("axis", 0)
    place = g.constant([axis % len(c.output.shape)], INT64)
    parts = [g.node("Unsqueeze", g.operand(x, c.output.dtype), place) for x in c.inputs]
    return g.node("Concat", *parts, axis=axis)


def _concatenate(g: Graph, c: Call) -> str:
    axis = c.params.get("axis", 0)
    parts = [g.operand(x, c.output.dtype) for x in c.inputs]
    if axis is None:
        axis, parts = 0, [g.reshape(part, [-1]) for part in parts]
    return g.node("Concat", *parts, axis=axis)


def _pad(g: Graph, c: Call) -> str:
    widths, dtype = c.params["widths"], c.output.dtype
    value = c.params.get("value", 0.0)
    return _padded(g, g.operand(c.inputs[0], dtype), widths, value, dtype)


def _padded(g: Graph, name: str, widths: Any, value: float, dtype: Any) -> str:
    pads = [a for a, _ in widths] + [b for _, b in widths]
    return g.node("Pad", name, g.sizes(pads), g.constant(value, dtype), mode="constant")


def _triangle(upper: bool) -> Writer:
    def write(g: Graph, c: Call) -> str:
        k = g.constant(c.params.get("k", 0), INT64)
        return g.node("Trilu", g.operand(c.inputs[0]), k, upper=int(upper))

    return write


def _diagonal(g: Graph, c: Call) -> str:
    x, rank = c.inputs[0], len(c.inputs[0].shape)
    axis1, axis2 = (c.params.get(f"axis{i}", i - 1) % rank for i in (1, 2))
    n, m = g.fixed(c, x, axis1), g.fixed(c, x, axis2)
    index = np.diagonal(np.arange(n * m).reshape(n, m), c.params.get("offset", 0))
    rest = [a for a in range(rank) if a not in (axis1, axis2)]
    moved = _permuted(g, g.operand(x), [*rest, axis1, axis2])
    flat = g.reshape(moved, [*(g.shapes[x][a] for a in rest), n * m])
    return g.node("Gather", flat, g.constant(index, INT64), axis=len(rest))


# ------------------------------------------------------------------ indices


def _getitem(g: Graph, c: Call) -> str:
    x, key = c.inputs[0], c.params["key"]
    if x in g.states:
        return _state(g, c)
    parts = _spelled_out(key, len(x.shape))
    if any(isinstance(part, Value) and part.dtype == BOOL for part in parts):
        raise refuse("integers as index", f"truth values in {c.source_line}", "Use tk.where.")
    name, arrays, squeezed, new, axis = g.operand(x), {}, [], [], 0
    bounds: list[tuple[int, Any, Any, int]] = []
    kept = 0
    for part in parts:
        if part is None:
            new.append(kept)
            kept += 1
            continue
        if isinstance(part, slice):
            if part != slice(None):
                bounds.append((axis, *_bounds(part)))
            kept += 1
        elif isinstance(part, Value) and part.shape:
            arrays[axis] = part
            kept += 1
        else:
            squeezed.append((axis, part))
        axis += 1
    if arrays and (len(arrays) > 1 or new or squeezed):
        return _gathered(g, c, name, parts)
    if bounds:
        axes, starts, stops, steps = (list(part) for part in zip(*bounds, strict=True))
        name = _slice(g, name, starts, stops, steps, axes)
    for place, index in squeezed[::-1]:
        name = g.node("Gather", name, g.operand(index, INT64), axis=place)
    for place, index in arrays.items():
        name = g.node("Gather", name, g.operand(index, INT64), axis=place)
    return g.node("Unsqueeze", name, g.constant(new, INT64)) if new else name


def _spelled_out(key: Any, rank: int) -> list[Any]:
    """The parts of a key, with a slice for every axis that it leaves out."""
    parts = list(key) if isinstance(key, tuple) else [key]
    used = sum(part is not None and part is not ... for part in parts)
    whole = [slice(None)] * (rank - used)
    if any(part is ... for part in parts):
        place = next(i for i, part in enumerate(parts) if part is ...)
        return [*parts[:place], *whole, *parts[place + 1 :]]
    return [*parts, *whole]


def _bounds(part: slice) -> tuple[Any, Any, int]:
    step = 1 if part.step is None else part.step
    start = (0 if step > 0 else -1) if part.start is None else part.start
    stop = (_FAR if step > 0 else -_FAR) if part.stop is None else part.stop
    return start, stop, step


def _gathered(g: Graph, c: Call, name: str, parts: list[Any]) -> str:
    """Several index arrays: the axes that they read come first, then GatherND."""
    indexed = [i for i, part in enumerate(parts) if not isinstance(part, slice)]
    adjacent = indexed == list(range(indexed[0], indexed[-1] + 1))
    if any(part is None for part in parts) or any(
        isinstance(part, slice) and part != slice(None) for part in parts
    ):
        raise refuse(
            "an index of arrays, or of slices and None",
            f"both in one index in {c.source_line}",
            "Index twice: x[:, 1:][index].",
        )
    rest = [i for i in range(len(parts)) if i not in indexed]
    moved = _permuted(g, name, [*indexed, *rest])
    common = g.shapes[c.output]
    rank = len(c.output.shape) - len(rest)
    first = indexed[0] if adjacent else 0
    shape = common[first : first + rank]
    columns = [
        g.node(
            "Unsqueeze",
            g.node("Expand", g.operand(parts[i], INT64), g.shape(shape)),
            g.constant([rank], INT64),
        )
        for i in indexed
    ]
    found = g.node("GatherND", moved, g.node("Concat", *columns, axis=rank))
    order = [*range(rank, rank + first), *range(rank), *range(rank + first, rank + len(rest))]
    return _permuted(g, found, order)


def _along(g: Graph, c: Call, indices: Value) -> str:
    """Indices with the length of the output on every axis."""
    name = g.operand(indices, INT64)
    if g.shapes[indices] == g.shapes[c.output]:
        return name
    return g.node("Expand", name, g.shape(g.shapes[c.output]))


def _take_along_axis(g: Graph, c: Call) -> str:
    x, indices, axis = c.inputs[0], c.params["indices"], c.params["axis"]
    name, own = g.operand(x), list(g.shapes[x])
    wanted = list(g.shapes[c.output])
    wanted[axis] = own[axis]
    if own != wanted:
        name = g.node("Expand", name, g.shape(wanted))
    return g.node("GatherElements", name, _along(g, c, indices), axis=axis)


def _put_along_axis(g: Graph, c: Call) -> str:
    x, source = (g.operand(x, c.output.dtype) for x in c.inputs)
    indices = g.operand(c.params["indices"], INT64)
    return g.node("ScatterElements", x, indices, source, axis=c.params["axis"])


# ------------------------------------------------------------------ products


def _matmul(g: Graph, c: Call) -> str:
    return g.node("MatMul", *(g.operand(x, c.output.dtype) for x in c.inputs))


def _linear(g: Graph, c: Call) -> str:
    dtype = c.output.dtype
    given = [x for x in c.inputs if x is not None]
    x, weight, *bias = (g.operand(x, dtype) for x in given)
    ranks = [len(value.shape) for value in given]
    if ranks[:2] == [2, 2] and ranks[2:] in ([], [1]):
        return g.node("Gemm", x, weight, *bias, transB=1)
    order = [*range(ranks[1] - 2), ranks[1] - 1, ranks[1] - 2]
    product = g.node("MatMul", x, g.node("Transpose", weight, perm=order))
    if not bias:
        return product
    if ranks[2] > 1:
        bias = [g.node("Unsqueeze", bias[0], g.constant([ranks[2] - 1], INT64))]
    return g.node("Add", product, bias[0])


def _einsum(g: Graph, c: Call) -> str:
    operands = (g.operand(x, c.output.dtype) for x in c.inputs)
    return g.node("Einsum", *operands, equation=c.params["subscripts"])


# ------------------------------------------------------------------ networks


def _softmax(kind: str) -> Writer:
    return lambda g, c: g.node(kind, g.operand(c.inputs[0], c.output.dtype), axis=c.params["axis"])


def _picked(g: Graph, c: Call, name: str) -> str:
    """name[label] along the axis of the classes."""
    labels, axis = c.inputs[1], c.params["axis"]
    place = g.constant([axis], INT64)
    index = g.node("Unsqueeze", g.operand(labels, INT64), place)
    return g.node("Squeeze", g.node("GatherElements", name, index, axis=axis), place)


def _gather_labels(g: Graph, c: Call) -> str:
    return _picked(g, c, g.operand(c.inputs[0]))


def _cross_entropy(g: Graph, c: Call) -> str:
    x = g.operand(c.inputs[0], c.output.dtype)
    return g.node("Neg", _picked(g, c, g.node("LogSoftmax", x, axis=c.params["axis"])))


def _one_hot(g: Graph, c: Call) -> str:
    classes = g.constant(np.arange(c.params["num_classes"]), INT64)
    last = g.constant([len(c.output.shape) - 1], INT64)
    given = g.node("Unsqueeze", g.operand(c.inputs[0], INT64), last)
    return g.cast(g.node("Equal", given, classes), BOOL, c.output.dtype)


def _bce(g: Graph, dtype: Any, p: str, t: str) -> str:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100."""
    one, least = g.constant(1, dtype), g.constant(-100, dtype)
    of_hit = g.node("Max", g.node("Log", p), least)
    of_miss = g.node("Max", g.node("Log", g.node("Sub", one, p)), least)
    return g.node("Sub", g.node("Mul", g.node("Sub", t, one), of_miss), g.node("Mul", t, of_hit))


def _bce_with_logits(g: Graph, c: Call) -> str:
    """max(x, 0) - x a + log(1 + exp(-|x|)); with b, (a + b) tail + (b if x > 0 else -a) x."""
    dtype = c.output.dtype
    x, a, *b = (g.operand(each, dtype) for each in c.inputs)
    tail = _log1p(g, dtype, g.node("Exp", g.node("Neg", g.node("Abs", x))))
    if b:
        negative = g.node("Less", x, g.constant(0, dtype))
        slope = g.node("Where", negative, g.node("Neg", a), b[0])
        weighted = g.node("Mul", g.node("Add", a, b[0]), tail)
        loss = g.node("Add", weighted, g.node("Mul", slope, x))
    else:
        hinge = g.node("Sub", g.node("Relu", x), g.node("Mul", x, a))
        loss = g.node("Add", hinge, tail)
    reduction = c.params.get("reduction", "none")
    if reduction == "none":
        return loss
    return g.node("ReduceMean" if reduction == "mean" else "ReduceSum", loss, keepdims=0)


def _normalize(g: Graph, c: Call) -> str:
    """(x - mean) / sqrt(var + eps)."""
    x, dtype, eps = c.inputs[0], c.output.dtype, c.params["eps"]
    axes = _axes(c, x)
    name = g.operand(x, dtype)
    over = g.constant(axes, INT64)
    gap = g.node("Sub", name, g.node("ReduceMean", name, over, keepdims=1))
    variance = g.node("ReduceMean", g.node("Mul", gap, gap), over, keepdims=1)
    return g.node("Div", gap, g.node("Sqrt", g.node("Add", variance, g.constant(eps, dtype))))


def _layer_norm(g: Graph, c: Call) -> str:
    """(x - mean) / sqrt(var + eps) weight + bias."""
    dtype, eps = c.output.dtype, c.params["eps"]
    x, weight, bias = (g.operand(each, dtype) for each in c.inputs)
    axes = list(range(-c.params["axes"], 0))
    over = g.constant(axes, INT64)
    gap = g.node("Sub", x, g.node("ReduceMean", x, over, keepdims=1))
    variance = g.node("ReduceMean", g.node("Mul", gap, gap), over, keepdims=1)
    normal = g.node("Div", gap, g.node("Sqrt", g.node("Add", variance, g.constant(eps, dtype))))
    return g.node("Add", g.node("Mul", normal, weight), bias)


def _attention(g: Graph, c: Call) -> str:
    """softmax(q k^T scale + mask) v, 0 for a query that sees no key."""
    dtype, (q, k, v, *masks) = c.output.dtype, c.inputs
    keep = g.operand(masks.pop(), dtype) if c.params.get("dropped") else None
    least, zero = g.constant(-np.inf, dtype), g.constant(0, dtype)
    rank = len(k.shape)
    order = [*range(rank - 2), rank - 1, rank - 2]
    product = g.node("MatMul", g.operand(q, dtype), _permuted(g, g.operand(k, dtype), order))
    scores = g.node("Mul", product, g.constant(c.params["scale"], dtype))
    if c.params.get("is_causal"):
        sizes = g.fixed(c, q, len(q.shape) - 2), g.fixed(c, k, rank - 2)
        scores = g.node("Where", g.constant(np.tri(*sizes, dtype=bool), BOOL), scores, least)
    for mask in masks:
        if mask.dtype == BOOL:
            scores = g.node("Where", g.operand(mask, BOOL), scores, least)
        else:
            scores = g.node("Add", scores, g.operand(mask, dtype))
    most = g.node("ReduceMax", scores, g.constant([-1], INT64), keepdims=1)
    blind = g.node("Equal", most, least)
    weights = g.node("Softmax", g.node("Where", blind, zero, scores), axis=-1)
    weights = g.node("Where", blind, zero, weights)
    weights = weights if keep is None else g.node("Mul", weights, keep)
    return g.node("MatMul", weights, g.operand(v, dtype))


# ------------------------------------------------------------------ windows


def _window(c: Call) -> dict[str, list[int]]:
    padding = c.params["padding"]
    return {
        "strides": list(c.params["stride"]),
        "dilations": list(c.params["dilation"]),
        "pads": [a for a, _ in padding] + [b for _, b in padding],
    }


def _convolve(g: Graph, c: Call) -> str:
    given = (g.operand(x, c.output.dtype) for x in c.inputs if x is not None)
    kernel = list(c.inputs[1].shape[2:])
    return g.node("Conv", *given, kernel_shape=kernel, group=c.params["groups"], **_window(c))


def _convolve_transposed(g: Graph, c: Call) -> str:
    given = [g.operand(x, c.output.dtype) for x in c.inputs]
    kernel, how, more = list(c.inputs[1].shape[2:]), _window(c), []
    for axis, k in enumerate(kernel):
        size, count = g.fixed(c, c.output, 2 + axis), g.fixed(c, c.inputs[0], 2 + axis)
        before, after = how["pads"][axis], how["pads"][axis + len(kernel)]
        reach = (count - 1) * how["strides"][axis] + how["dilations"][axis] * (k - 1) + 1
        more.append(size - (reach - before - after))
        if more[-1] < 0:
            how["pads"][axis + len(kernel)] -= more[-1]
            more[-1] = 0
    return g.node(
        "ConvTranspose", *given, kernel_shape=kernel, group=c.params["groups"],
        output_padding=more, **how,
    )  # fmt: skip


def _pooled(g: Graph, c: Call, kind: str, **more: Any) -> str:
    """A pooling of the last axes; ONNX wants two axes before them."""
    x, kernel = c.inputs[0], list(c.params["kernel"])
    name, spatial = g.operand(x, c.output.dtype), len(kernel)
    own, last = g.shapes[x], g.shapes[c.output]
    lead = len(own) - spatial
    if lead == 1:
        name = g.node("Unsqueeze", name, g.constant([0], INT64))
    elif lead != 2:
        name = g.reshape(name, [1, -1, *own[lead:]])
    name = g.node(kind, name, kernel_shape=kernel, strides=list(c.params["stride"]), **more)
    if lead == 1:
        return g.node("Squeeze", name, g.constant([0], INT64))
    return name if lead == 2 else g.reshape(name, last)


def _max_pool(g: Graph, c: Call) -> str:
    return _pooled(g, c, "MaxPool", dilations=list(c.params["dilation"]))


def _sum_pool(g: Graph, c: Call) -> str:
    if set(c.params["dilation"]) != {1}:
        raise refuse(
            "sum_pool without dilation", f"one with it in {c.source_line}", "Use dilation=1."
        )
    mean = _pooled(g, c, "AveragePool")
    return _times(math.prod(c.params["kernel"]))(g, c.output.dtype, mean)


def _unfold(g: Graph, c: Call) -> str:
    """Each spatial axis by its windows' positions and elements, then the elements last."""
    x, kernel = c.inputs[0], c.params["kernel"]
    spatial = len(kernel)
    lead = len(x.shape) - spatial
    name = g.operand(x)
    for i in range(spatial)[::-1]:
        k, s, d = kernel[i], c.params["stride"][i], c.params["dilation"][i]
        count = window.windows_along(g.fixed(c, x, lead + i), k, s, d)
        index = np.arange(count)[:, None] * s + np.arange(k) * d
        name = g.node("Gather", name, g.constant(index, INT64), axis=lead + i)
    order = [*range(lead), *range(lead, lead + 2 * spatial, 2)]
    return _permuted(g, name, [*order, *range(lead + 1, lead + 2 * spatial, 2)])


# ------------------------------------------------------------------ recurrent nets


def _rows(g: Graph, name: str, gates: int, order: Sequence[int]) -> str:
    """The rows of a weight or a bias with its gates in ONNX's order, as one direction."""
    if gates > 1:
        parts = g.node_of("Split", [name], gates, axis=0, num_outputs=gates)
        name = g.node("Concat", *(parts[i] for i in order), axis=0)
    return g.node("Unsqueeze", name, g.constant([0], INT64))


def _projection(g: Graph, c: Call, dtype: Any) -> tuple[str, str, str | None]:
    """The input of the net, its weight, and the bias; for a z without these, z and an identity."""
    found = c.params.get("projection")
    if found is None:
        identity = g.constant(np.eye(c.inputs[0].shape[2]), dtype)
        return g.operand(c.inputs[0], dtype), identity, None
    x, weight, *bias = (g.operand(each, dtype) for each in found if each is not None)
    return x, weight, bias[0] if bias else None


def projected(producers: dict[Value, Call], z: Any) -> tuple[Any, ...] | None:
    """(x, weight, bias) where z is `linear` of all steps of x in one product."""
    outer = producers.get(z)
    product = producers.get(outer.inputs[0]) if outer and outer.op is shape.reshape else None
    if product is None or product.op is not linalg.linear:
        return None
    inner = producers.get(product.inputs[0])
    if inner is None or inner.op is not shape.reshape or len(inner.inputs[0].shape) != 3:
        return None
    x = inner.inputs[0]
    same = x.shape[:2] == z.shape[:2] and x.shape[2] == product.inputs[0].shape[1]
    return (x, *product.inputs[1:]) if same and len(product.inputs[1].shape) == 2 else None


def _scan(g: Graph, c: Call, kind: str, order: Sequence[int], **attributes: Any) -> list[str]:
    """The outputs of a node for a whole sequence."""
    dtype, gates = c.output.dtype, len(order)
    if c.params.get("mask") is not None:
        raise refuse(
            "sequences of one length",
            f"lengths given to {kind} in {c.source_line}",
            "Call the net without lengths.",
        )
    states = 2 if kind == "LSTM" else 1
    if kind == "LSTM" and len(c.inputs) > 4:
        raise refuse(
            "LSTM whose states are not projected",
            f"proj_size in {c.source_line}",
            "ONNX has no such operator: use proj_size=0.",
        )
    weight, *own_bias = (x for x in c.inputs[1 + states :] if x is not None)
    x, into, bias = _projection(g, c, dtype)
    hidden = weight.shape[1]
    zeros = g.constant(np.zeros(gates * hidden), dtype)
    pair = [bias or zeros, g.operand(own_bias[0], dtype) if own_bias else zeros]
    given = [
        x, _rows(g, into, gates, order), _rows(g, g.operand(weight, dtype), gates, order),
        g.node("Concat", *(_rows(g, each, gates, order) for each in pair), axis=1), "",
    ]  # fmt: skip
    first = g.constant([0], INT64)
    given += [g.node("Unsqueeze", g.operand(h, dtype), first) for h in c.inputs[1 : 1 + states]]
    direction = "reverse" if c.params.get("reverse", False) else "forward"
    return g.node_of(kind, given, states + 1, hidden_size=hidden, direction=direction, **attributes)


def _rnn(g: Graph, c: Call) -> str:
    activation = "Tanh" if c.params.get("nonlinearity", "tanh") == "tanh" else "Relu"
    every = _scan(g, c, "RNN", (0,), activations=[activation])[0]
    return g.node("Squeeze", every, g.constant([1], INT64))


def _lstm(g: Graph, c: Call) -> str:
    every, _, cell = _scan(g, c, "LSTM", (0, 3, 1, 2))
    last = 0 if c.params.get("reverse", False) else -1
    states = g.node("Squeeze", every, g.constant([1], INT64))
    g.states[c.output] = {0: states, (1, last): g.node("Squeeze", cell, g.constant([0], INT64))}
    return states


def _gru(g: Graph, c: Call) -> str:
    every = _scan(g, c, "GRU", (1, 0, 2), linear_before_reset=1)[0]
    states = g.node("Squeeze", every, g.constant([1], INT64))
    g.states[c.output] = {0: states}
    return states


def _state(g: Graph, c: Call) -> str:
    """One of the states that ONNX has of a recurrent net."""
    key, held = c.params["key"], g.states[c.inputs[0]]
    if isinstance(key, int | tuple) and key in held:
        return held[key]
    raise refuse(
        "the states of every step, or the last cell state",
        f"the part {key} of a recurrent net's gates in {c.source_line}",
        "Use the outputs of nn.LSTM or nn.GRU.",
    )


# ------------------------------------------------------------------ the table

# fmt: off
_UNARY = {
    e.negative: "Neg", e.absolute: "Abs", e.reciprocal: "Reciprocal", e.sqrt: "Sqrt", e.exp: "Exp",
    e.log: "Log", e.sin: "Sin", e.cos: "Cos", e.tan: "Tan", e.arcsin: "Asin", e.arccos: "Acos",
    e.arctan: "Atan", e.sinh: "Sinh", e.cosh: "Cosh", e.tanh: "Tanh", e.arcsinh: "Asinh",
    e.arccosh: "Acosh", e.arctanh: "Atanh", e.floor: "Floor", e.ceil: "Ceil", e.rint: "Round",
    e.sign: "Sign", e.erf: "Erf", e.relu: "Relu", e.sigmoid: "Sigmoid", e.logistic: "Sigmoid",
    e.softplus: "Softplus", e.positive: "Identity",
}
_COMPOSED: dict[Any, Callable[..., str]] = {
    e.square: lambda g, dtype, x: g.node("Mul", x, x),
    e.exp2: lambda g, dtype, x: g.node("Pow", g.constant(2, dtype), x),
    e.expm1: _expm1, e.log1p: _log1p, e.log2: _log_to_base(2), e.log10: _log_to_base(10),
    e.trunc: _trunc, e.cbrt: _cbrt, e.gelu: _gelu, e.hypot: _hypot, e.logaddexp: _logaddexp,
    e.deg2rad: _times(math.pi / 180), e.rad2deg: _times(180 / math.pi), network.bce: _bce,
}
WRITERS: dict[Any, Writer] = {
    **{record: _one(kind) for record, kind in _UNARY.items()},
    **{record: _composed(compose) for record, compose in _COMPOSED.items()},
    e.add: _two("Add", "Or"), e.subtract: _two("Sub"), e.multiply: _two("Mul", "And"),
    e.divide: _two("Div"), e.power: _two("Pow"), e.maximum: _two("Max", "Or"),
    e.minimum: _two("Min", "And"), e.remainder: _remainder, e.fmod: _fmod,
    e.floor_divide: _floor_divide, e.round: _round,
    e.equal: _compared("Equal"), e.not_equal: _compared("Equal", negated=True),
    e.less: _compared("Less"), e.less_equal: _compared("LessOrEqual"),
    e.greater: _compared("Greater"), e.greater_equal: _compared("GreaterOrEqual"),
    e.logical_and: _truths("And"), e.logical_or: _truths("Or"), e.logical_xor: _truths("Xor"),
    e.logical_not: _truths("Not"), e.bitwise_and: _bits("BitwiseAnd", "And"),
    e.bitwise_or: _bits("BitwiseOr", "Or"), e.bitwise_xor: _bits("BitwiseXor", "Xor"),
    e.invert: _bits("BitwiseNot", "Not"), e.isnan: _of_floats("IsNaN"),
    e.isinf: _of_floats("IsInf"), e.isfinite: _finite,
    e.where: _where, e.where_or_zero: _where_or_zero, e.clip: _clip,
    astype: _astype, _assigned: _assign,
    reduction.sum_: _reduction("ReduceSum"), reduction.mean_: _reduction("ReduceMean"),
    reduction.max_: _reduction("ReduceMax"), reduction.min_: _reduction("ReduceMin"),
    reduction.prod_: _reduction("ReduceProd"), reduction.any_: _reduction("ReduceMax", bool),
    reduction.all_: _reduction("ReduceMin", bool), reduction.count_nonzero_: _count_nonzero,
    reduction.argmax_: _arg("ArgMax"), reduction.argmin_: _arg("ArgMin"),
    reduction.var_: _squared_deviations, reduction.std_: _std, reduction.norm_: _norm,
    reduction.p_norm_: _p_norm, reduction.logsumexp_: _logsumexp, reduction.cumsum_: _cumsum,
    reduction.concatenate: _concatenate,
    shape.reshape: _reshape, shape.transpose: _transpose, shape.swapaxes: _swapaxes,
    shape.broadcast_to: _expand, shape.flip: _flip, shape.roll: _roll, shape.stack: _stack,
    shape.pad: _pad, ix.triu: _triangle(True), ix.tril: _triangle(False), ix.diagonal: _diagonal,
    ix.getitem: _getitem, ix.take_along_axis: _take_along_axis,
    ix.put_along_axis: _put_along_axis,
    linalg.matmul: _matmul, linalg.linear: _linear, linalg.einsum: _einsum,
    network.softmax: _softmax("Softmax"), network.log_softmax: _softmax("LogSoftmax"),
    network.cross_entropy: _cross_entropy, network.gather_labels: _gather_labels,
    network.bce_with_logits: _bce_with_logits, network.normalize: _normalize,
    network.layer_norm: _layer_norm, attention.attention: _attention,
    _one_hot_op: _one_hot, window.convolve: _convolve,
    window.convolve_transposed: _convolve_transposed,
    window.max_pool: _max_pool, window.sum_pool: _sum_pool, window.unfold: _unfold,
    recurrent.rnn_scan: _rnn, recurrent.lstm_scan: _lstm, recurrent.gru_scan: _gru,
}
# fmt: on
"""What each op is in ONNX."""
