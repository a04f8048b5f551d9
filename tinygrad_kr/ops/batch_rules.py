"""One op on a batch of rows, for `vmap`: the batch is the first axis of what differs by row.

There is no rule for each op. What broadcasts, broadcasts; axes, shapes and indices in parameters
move by one place; products have one rule each. Any other op runs for each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import CodeType
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels, linalg, network, reduction, shape, window
from tinygrad_kr.ops.elementwise import add, multiply, subgradient_product
from tinygrad_kr.ops.indexing import (
    add_weighted,
    diagonal,
    getitem,
    index_add,
    put_diagonal,
    take_weighted,
    tril,
    triu,
)
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import Op, astype
from tinygrad_kr.ops.tracing import tracing

_SEQUENCES = (tuple, list)


class Rows:
    """A Tensor with one row of its first axis for each element of the batch."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def ndim(self) -> int:
        """Number of axes of a row."""
        return len(self.tensor._data.shape) - 1


class Call(NamedTuple):
    """An op to do for all rows: its inputs and parameters, some of them `Rows`.

    n: number of rows. out: the result for one row.
    """

    record: Op
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    n: int
    out: ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return (self.n, *self.out.shape)

    def replaced(self, inputs: Sequence[Any], **params: Any) -> Any:
        """The op on other inputs, with some other parameters."""
        return self.record(*inputs, **{**self.params, **params})


Rule = Callable[[Call], Any]


def batched(call: Call) -> tuple[Any, bool]:
    """The result of an op for all rows, and whether it was done at once."""
    rule = _rule(call)
    y: Any = None if rule is None else rule(call)
    at_once = y is not None
    if not at_once:
        y = _by_rows(call)
    found, wanted = y._data.shape, call.shape
    if found == wanted[1:]:  # it ignores the input that differs by row
        y = shape.broadcast_to(y, shape=wanted)
    elif found != wanted:
        y = shape.reshape(y, shape=wanted)
    if y._data.dtype != call.out.dtype:  # a row that is a number counts for less in promotion
        y = astype(y, dtype=call.out.dtype)
    return y, at_once


def rows_in(items: Any) -> Iterator[Rows]:
    """The `Rows` among inputs or parameters."""
    for item in items.values() if isinstance(items, dict) else items:
        if isinstance(item, Rows):
            yield item
        elif isinstance(item, _SEQUENCES):
            yield from rows_in(item)


def holds_rows(items: Iterable[Any]) -> bool:
    """Whether `Rows` are among inputs or parameters."""
    for item in items:
        if type(item) is Rows or (isinstance(item, _SEQUENCES) and holds_rows(item)):
            return True
    return False


def _rule(call: Call) -> Rule | None:
    record = call.record
    if record in _found:
        return _found[record]
    rule = _rule_of(record)
    if record.__module__.startswith("tinygrad_kr.ops."):  # others may be of one call
        _found[record] = rule
    return rule


def _rule_of(record: Op) -> Rule | None:
    own: Rule | None = getattr(record, "batch_rule", None)  # a scan's
    if own is not None or record in _RULES:
        return own or _RULES[record]
    if isinstance(record.forward, np.ufunc) and record.forward.signature is None:
        return _elementwise
    kind = _KINDS.get(record.__module__.removeprefix("tinygrad_kr."))
    if kind is not None or not record.__module__.startswith("tinygrad_kr.ops."):
        return kind
    return _along_axes if "axis" in _names(record) else None


def _names(record: Op) -> tuple[str, ...]:
    """The names of an op's inputs and parameters."""
    code: CodeType | None = getattr(unwrap(record.forward), "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def unwrap(function: Any) -> Any:
    """The function inside decorators."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


# ------------------------------------------------------------------ any op


def row(item: Any, i: int) -> Any:
    """What row `i` has in the place of an input or a parameter."""
    if isinstance(item, Rows):
        return getitem(item.tensor, key=i)
    if isinstance(item, tuple | list):
        return type(item)([row(part, i) for part in item])
    return item


def _by_rows(call: Call) -> Any:
    if not call.n:
        return constant(np.zeros(call.shape, call.out.dtype))
    results = []
    for i in range(call.n):
        params = {name: plain(row(param, i)) for name, param in call.params.items()}
        results.append(call.record(*(row(x, i) for x in call.inputs), **params))
    return shape.stack(*results, axis=0)


# ------------------------------------------------------------------ operands


def is_array(x: Any) -> bool:
    """Whether it has axes."""
    return isinstance(x, Rows | Node | ndarray | np.generic)


def ndim_of(x: Any) -> int:
    """Number of axes of a row of `x`."""
    return x.ndim if isinstance(x, Rows) else np.ndim(x._data if isinstance(x, Node) else x)


def node_of(x: Any, dtype: Any = None) -> Any:
    """`x`, an array or a number, as a Tensor."""
    return x if isinstance(x, Node) else constant(np.asarray(x, dtype))


def expanded(x: Any, call: Call) -> Any:
    """A Tensor with the axis of the batch, also of what is the same for all rows."""
    if isinstance(x, Rows):
        return x.tensor
    x = node_of(x, None if is_array(x) else call.out.dtype)
    return shape.broadcast_to(x, shape=(call.n, *x._data.shape))


def aligned(x: Any, axes: int) -> Any:
    """An operand that broadcasts: with `axes` axes behind that of the batch, if it has that."""
    if not isinstance(x, Rows):
        return x
    data = x.tensor._data
    if data.ndim > axes:
        return x.tensor
    n, *rest = data.shape
    return shape.reshape(x.tensor, shape=(n, *(1,) * (axes - len(rest)), *rest))


def plain(param: Any) -> Any:
    """A parameter as an op takes it: the array of a Tensor."""
    if isinstance(param, _SEQUENCES):
        return type(param)([plain(part) for part in param])
    return param._data if isinstance(param, Node) else param


# ------------------------------------------------------------------ by what axes mean


def _elementwise(call: Call) -> Any:
    axes = call.out.ndim
    if not call.params:
        inputs = [aligned(x, axes) for x in call.inputs]
        if call.record is multiply and axes == 2 and _is_outer(*inputs) and tracing() is None:
            return linalg.matmul(*inputs)
        return call.record(*inputs)
    params = {name: plain(aligned(param, axes)) for name, param in call.params.items()}
    return call.record(*(aligned(x, axes) for x in call.inputs), **params)


def _is_outer(a: Any, b: Any) -> bool:
    """Whether a product is that of a column and a row, for each row of the batch.

    NumPy multiplies those of many short rows more slowly than matrices of one column.
    """
    if not (isinstance(a, Node) and isinstance(b, Node) and a._data.ndim == 3 == b._data.ndim):
        return False
    (_, m, one), (_, same, n) = a._data.shape, b._data.shape
    return bool(one == 1 == same and m * n > 1)


def _along_axes(call: Call) -> Any:
    """An op whose axes are the last ones, or named by its parameters."""
    code = unwrap(call.record.forward)
    params = {**(code.__kwdefaults__ or {}), **call.params}
    number = ndim_of(call.inputs[0]) == 0 and params.get("axis") in (0, -1)
    if "axis" in params and (params["axis"] is None or (number and call.record is not shape.stack)):
        return _along_one_axis(call)
    named = {name: _moved(name, param, call) for name, param in params.items()}
    given = {name: param for name, param in named.items() if name in call.params or name in _AXES}
    return call.record(*(expanded(x, call) for x in call.inputs), **given)


def _along_one_axis(call: Call) -> Any:
    """An op on all elements of a row, whatever its shape."""

    def flat(x: Any) -> Any:
        x = expanded(x, call)
        return shape.reshape(x, shape=(call.n, math.prod(x._data.shape[1:])))

    params = {
        name: plain(flat(param)) if is_array(param) else param
        for name, param in call.params.items()
    }
    return call.record(*map(flat, call.inputs), **{**params, "axis": 1})


_AXES = ("axis", "axes", "axis1", "axis2")


def _moved(name: str, param: Any, call: Call) -> Any:
    """A parameter of the op for one row, as it is for all."""
    if name == "axes":
        axes = range(ndim_of(call.inputs[0]))[::-1] if param is None else param
        return (0, *map(_behind, axes))
    if name in _AXES:
        return tuple(map(_behind, param)) if isinstance(param, tuple) else _behind(param)
    if name == "shape":
        return call.shape
    if name == "widths":
        return ((0, 0), *param)
    if isinstance(param, Rows | Node | ndarray):
        return plain(expanded(param, call))
    return param


def _behind(axis: int) -> int:
    return axis + 1 if axis >= 0 else axis


def _broadcast_to(call: Call) -> Any:
    return shape.broadcast_to(aligned(call.inputs[0], call.out.ndim), shape=call.shape)


def _matrices(call: Call) -> Any:
    """An op on the last two axes of its inputs, which broadcasts those before."""
    if len(call.inputs) > 1:
        return call.replaced(_of_one_rank(call)[0])
    return call.replaced([x.tensor for x in call.inputs])


def _of_one_rank(call: Call) -> tuple[list[Any], int]:
    """The inputs with the axis of the batch and equally many behind it, and this number."""
    axes = max(map(ndim_of, call.inputs))
    return [
        None if x is None else aligned(Rows(expanded(x, call)), axes) for x in call.inputs
    ], axes


def _loss(call: Call) -> Any:
    """The loss of each element; then its sum or mean over each row."""
    inputs, axes = _of_one_rank(call)
    reduce = _REDUCTIONS.get(call.params.get("reduction"))
    if reduce is None:
        return call.replaced(inputs)
    return reduce(call.replaced(inputs, reduction="none"), axis=tuple(range(1, axes + 1)))


_REDUCTIONS: dict[Any, Op] = {"sum": reduction.sum_, "mean": reduction.mean_}


# ------------------------------------------------------------------ products


def _matmul(call: Call) -> Any:
    a, b = call.inputs
    a_axes, b_axes = ndim_of(a), ndim_of(b)
    if a_axes == b_axes == 1:
        return reduction.sum_(multiply(expanded(a, call), expanded(b, call)), axis=-1)
    if b_axes == 2 and not isinstance(b, Rows):  # all rows in one product
        inner = a.tensor._data.shape[-1]
        rows = a.tensor._data.size // inner if inner else call.n * math.prod(call.out.shape[:-1])
        return linalg.matmul(shape.reshape(a.tensor, shape=(rows, inner)), b)
    if a_axes == 2 and b_axes == 1 and not isinstance(a, Rows):
        return linalg.matmul(b.tensor, shape.swapaxes(node_of(a), axis1=0, axis2=1))
    axes = max(a_axes, b_axes, 2)
    a, b = _matrix(a, a_axes, -2), _matrix(b, b_axes, -1)
    return linalg.matmul(aligned(a, axes), aligned(b, axes))


def _matrix(x: Any, axes: int, new_axis: int) -> Any:
    """A vector as a matrix of one row or column."""
    if axes != 1:
        return x
    given = x.tensor if isinstance(x, Rows) else node_of(x)
    sizes = list(given._data.shape)
    sizes.insert(len(sizes) + 1 + new_axis, 1)
    made = shape.reshape(given, shape=tuple(sizes))
    return Rows(made) if isinstance(x, Rows) else made


def _linear(call: Call) -> Any:
    x, weight, *bias = call.inputs
    if not any(isinstance(part, Rows) for part in (weight, *bias)) and ndim_of(weight) == 2:
        return call.record(x.tensor, *call.inputs[1:])
    turned = shape.swapaxes(
        weight.tensor if isinstance(weight, Rows) else node_of(weight), axis1=-1, axis2=-2
    )
    factors = x, Rows(turned) if isinstance(weight, Rows) else turned
    if any(isinstance(factor, Rows) for factor in factors):
        y, _ = batched(Call(linalg.matmul, factors, {}, call.n, call.out))
    else:
        y = expanded(linalg.matmul(*factors), call)
    if not bias or bias[0] is None:
        return y
    (b,) = bias
    if ndim_of(b) > 1:
        b = expanded(b, call)
        *before, features = b._data.shape
        b = Rows(shape.reshape(b, shape=(*before, 1, features)))
    return add(y, aligned(b, call.out.ndim))


def _einsum(call: Call) -> Any:
    names, _, result = call.params["subscripts"].partition("->")
    label = next(
        letter for letter in map(chr, (*range(65, 91), *range(97, 123))) if letter not in names
    )
    labels = [
        label + own if isinstance(x, Rows) else own
        for x, own in zip(call.inputs, names.split(","), strict=True)
    ]
    inputs = [x.tensor if isinstance(x, Rows) else x for x in call.inputs]
    return call.replaced(inputs, subscripts=f"{','.join(labels)}->{label}{result}")


def _solve(call: Call) -> Any:
    a, b = call.inputs
    b = _matrix(b, ndim_of(b), -1)
    return _matrices(call._replace(inputs=(a, b)))


def _attention(call: Call) -> Any:
    """Attention; or the cotangents of q, k and v, those of one row after those of the other."""
    inputs, _ = _of_one_rank(call)
    if call.record.__name__ != "attention_vjp":
        return call.replaced(inputs)
    g, *of_what = (x._data.shape for x in inputs[:4])
    shapes = [(*g[:-2], *own[-2:]) for own in of_what]
    found = kernels.split(call.replaced(inputs), shapes)
    rows = [x.reshape(call.n, math.prod(x.shape[1:])) for x in found]
    return reduction.concatenate(*rows, axis=1)


# ------------------------------------------------------------------ sequences


def _sequences(call: Call) -> Any:
    """The batch as more sequences, whose axis is the last but one; None if weights differ by row.

    Of an op that gives cotangents one after the other, those of one row after those of the other.
    """
    inputs = dict(zip(_names(call.record), call.inputs, strict=False))
    if any(isinstance(inputs.get(name), Rows) for name in _WEIGHTS):
        return None
    joined = [
        x if name in _WEIGHTS or x is None else _joined(x, call) for name, x in inputs.items()
    ]
    mask = call.params.get("mask")
    params = {} if mask is None else {"mask": plain(_joined(mask, call))}
    y = call.replaced(joined, **params)
    if call.record.__name__ not in _SLOPES:
        return _apart(y, call.n)
    from tinygrad_kr.ops import recurrent

    parts = [
        _apart(part, call.n)
        for part in kernels.split(y, recurrent.slope_shapes(call.record, *joined))
    ]
    rows = [x.reshape(call.n, math.prod(x.shape[1:])) for x in parts]
    return reduction.concatenate(*rows, axis=1)


_WEIGHTS = ("weight", "projection", "bias")
_SLOPES = ("rnn_vjp", "lstm_vjp", "gru_vjp")


def _joined(x: Any, call: Call) -> Any:
    """The axis of the batch and that of a row's sequences as one."""
    x = expanded(x, call)
    at = max(x._data.ndim - 3, 0)  # the axis of the sequences, without that of the batch
    axes = (*range(1, at + 1), 0, *range(at + 1, x._data.ndim))
    x = shape.transpose(x, axes=axes) if at else x
    sizes = x._data.shape
    return shape.reshape(x, shape=(*sizes[:at], sizes[at] * sizes[at + 1], *sizes[at + 2 :]))


def _apart(y: Any, n: int) -> Any:
    """The inverse: the axis of the batch first."""
    at = max(y._data.ndim - 2, 0)
    before, size, after = y._data.shape[:at], y._data.shape[at], y._data.shape[at + 1 :]
    y = shape.reshape(y, shape=(*before, n, size // n if n else 0, *after))
    order = (at, *range(at), *range(at + 1, y._data.ndim))
    return shape.transpose(y, axes=order) if at else y


# ------------------------------------------------------------------ images


def _convolution(call: Call) -> Any:
    """The batch as more images; or, if the filters differ by row, as more groups of channels."""
    x, weight, *bias = call.inputs
    if not any(isinstance(part, Rows) for part in (weight, *bias)):
        n, images, *rest = x.tensor._data.shape
        merged = shape.reshape(x.tensor, shape=(n * images, *rest))
        return call.replaced([merged, *call.inputs[1:]])
    filters = [_merged(expanded(part, call), 0) for part in (weight, *bias) if part is not None]
    inputs = [_merged(expanded(x, call), 1), *filters]
    y = call.replaced(inputs, groups=call.n * call.params["groups"])
    images, channels, *sizes = call.out.shape
    y = shape.reshape(y, shape=(images, call.n, channels, *sizes))
    return shape.swapaxes(y, axis1=0, axis2=1)


def _convolution_weight(call: Call) -> Any:
    inputs = [_merged(expanded(x, call), 1) for x in call.inputs]
    return call.replaced(inputs, groups=call.n * call.params["groups"])


def _merged(x: Any, axis: int) -> Any:
    """The axis of the batch, and `axis` of a row, as one."""
    if axis:
        x = shape.swapaxes(x, axis1=0, axis2=1)
    sizes = x._data.shape
    return shape.reshape(
        x, shape=(*sizes[:axis], sizes[axis] * sizes[axis + 1], *sizes[axis + 2 :])
    )


# ------------------------------------------------------------------ indices


def _getitem(call: Call) -> Any:
    (x,), axes = call.inputs, ndim_of(call.inputs[0])
    key = call.params["key"]
    if isinstance(x, Rows) and _names_axes(key):
        return getitem(x.tensor, key=(slice(None), *(key if type(key) is tuple else (key,))))
    key = _parts(key)
    if key is None:
        return None
    if isinstance(x, Rows) and not _differs(key):
        return getitem(x.tensor, key=(slice(None), *_arrays(key)))
    before = _before(key, axes)
    if isinstance(x, Rows):
        y = getitem(x.tensor, key=_with_rows(key, call.n))
        order = _rows_first(key, before, call.out.ndim)
    else:
        y = getitem(x, key=tuple(plain(aligned(part, _index_axes(key))) for part in key))
        order = (before, *(axis for axis in range(call.out.ndim + 1) if axis != before))
    return shape.transpose(y, axes=order) if before else y


def _index_add(call: Call) -> Any:
    key = _parts(call.params["key"])
    if key is None:
        return None
    g = expanded(call.inputs[0], call)
    if not _differs(key):
        return index_add(g, key=(slice(None), *_arrays(key)), shape=call.shape)
    before = _before(key, call.out.ndim)
    if before:
        order = _rows_first(key, before, ndim_of(call.inputs[0]))
        g = shape.transpose(g, axes=shape.inverse_permutation(order))
    return index_add(g, key=_with_rows(key, call.n), shape=call.shape)


def _weighted(call: Call) -> Any:
    """A weighted read with the same neighbours in each row."""
    if holds_rows(call.params.values()):
        return None
    return call.replaced([expanded(call.inputs[0], call)], axis=call.params["axis"] + 1)


def _names_axes(key: Any) -> bool:
    """Whether an index has slices, None and `...` alone."""
    for part in key if type(key) is tuple else (key,):
        if type(part) is not slice and part is not None and part is not ...:
            return False
    return True


def _is_index(part: Any) -> bool:
    return isinstance(part, (Rows, Node, ndarray))


def _parts(key: Any) -> list[Any] | None:
    """The parts of an index; None if truth values in it give each row a shape of its own."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(part, bool | np.bool_) for part in parts):
        return None
    indices = [part.tensor if isinstance(part, Rows) else part for part in parts if _is_index(part)]
    truths = any(plain(index).dtype == np.bool_ for index in indices)
    return None if truths and _differs(parts) else parts


def _differs(parts: list[Any]) -> bool:
    """Whether some index differs by row, or two lie apart, whose axes NumPy puts first."""
    return any(True for _ in rows_in(parts)) or len(_runs(parts)) > 1


def _runs(parts: list[Any]) -> list[int]:
    """Where runs of indices begin. Beside an array, NumPy counts integers among them."""
    if not any(map(_is_index, parts)):
        return []
    indices = [_is_index(part) or isinstance(part, int | np.integer) for part in parts]
    pairs = enumerate(pairwise([False, *indices]))
    return [i for i, (before, now) in pairs if now and not before]


def _arrays(parts: list[Any]) -> list[Any]:
    return [plain(part) for part in parts]


def _index_axes(parts: list[Any]) -> int:
    """Number of axes that the indices have together."""
    return max(ndim_of(part) for part in parts if _is_index(part))


def _with_rows(parts: list[Any], n: int) -> tuple[Any, ...]:
    """An index of all rows: the numbers of the rows before the parts."""
    axes = _index_axes(parts)
    rows = np.arange(n).reshape(n, *(1,) * axes)
    return (rows, *(plain(aligned(part, axes)) for part in parts))


def _before(parts: list[Any], axes: int) -> int:
    """Number of axes of the result that come before those of the indices.

    axes: number of axes of what is indexed.
    """
    runs = _runs(parts)
    if len(runs) > 1:
        return 0
    named = sum(1 for part in parts if part is not None and part is not ...)
    return sum(axes - named if part is ... else 1 for part in parts[: runs[0]])


def _rows_first(parts: list[Any], before: int, axes: int) -> tuple[int, ...]:
    """The order that puts the axes of the indices, which come first, behind `before` others."""
    indices = range(1, 1 + _index_axes(parts))
    others = range(1 + len(indices), 1 + axes)
    return (0, *others[:before], *indices, *others[before:])


_found: dict[Op, Rule | None] = {}
"""The rules of the package's ops that were asked for."""
_KINDS: dict[str, Rule] = {
    "ops.elementwise": _elementwise,
    "ops.op": _elementwise,
    "transformations": _elementwise,
    "arrays.comparison": _elementwise,
    "ops.linalg": _matrices,
    "ops.attention": _attention,
    "ops.ctc": _sequences,
    "ops.recurrent": _sequences,
    "ops.window": _along_axes,
    "functional.linear": _along_axes,
}
"""By module: what the axes of its ops mean."""
_RULES: dict[Any, Rule] = {
    shape.broadcast_to: _broadcast_to,
    shape.reshape: _along_axes,
    shape.pad: _along_axes,
    shape.transpose: _along_axes,
    shape.swapaxes: _along_axes,
    diagonal: _along_axes,
    put_diagonal: _along_axes,
    subgradient_product: _matrices,
    triu: _along_axes,
    tril: _along_axes,
    getitem: _getitem,
    index_add: _index_add,
    take_weighted: _weighted,
    add_weighted: _weighted,
    linalg.matmul: _matmul,
    linalg.linear: _linear,
    linalg.einsum: _einsum,
    linalg.solve: _solve,
    network.bce: _loss,
    network.bce_with_logits: _loss,
    network.bce_with_logits_vjp: _loss,
    window.convolve: _convolution,
    window.convolve_transposed: _convolution,
    window.convolve_weight: _convolution_weight,
}
"""Ops for which parameters of that name do not say it."""
