"""C kernels for eager mode and compiled programs: a faster body of the same record.

`op(forward, rule, kernel=function)` names one. `function` takes what `forward` takes. It returns
the result, or None for what NumPy computes: other dtypes, small arrays, no compiler. Kernels of
one header are built for one dtype, when the first array comes that is large enough.
`$TINYGRAD_KR_PRODUCTS=numpy` turns them off.
"""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import products
from tinygrad_kr.ops.node import OFF, Node, current_mode
from tinygrad_kr.ops.tracing import tracers, tracing
from tinygrad_kr.ops.writes import address

_OF_EAGER_MODE = {
    *("activations", "channels", "composed", "orders", "pooling", "resample", "rows", "selection"),
}
"""Headers of ops for which a compiled program has loops of its own."""
MIN_SHARED_WORK = 2**18
"""Threshold: multiply-adds, or as costly steps, from which cores share the work."""

_DTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_built: dict[tuple[str, np.dtype[Any]], Any] = {}
_building: set[tuple[str, np.dtype[Any]]] = set()


def kernels(header: str, *arrays: Any) -> Any:
    """The C functions of `header` for arrays of one dtype; None if NumPy computes.

    A trace for `tk.compile`, whose ops run once, is NumPy's, so its bits do not depend on what the
    process has built before. It begins the build, if the program may call the kernel.
    """
    dtype = arrays[0].dtype
    for x in arrays:
        if type(x) is not ndarray or (x.dtype is not dtype and x.dtype != dtype) or not x.size:
            return None
    key = header, dtype
    if tracers and tracing() is not None:
        if dtype in _DTYPES and header not in _OF_EAGER_MODE and key not in _built:
            begin(key)
        return None
    if key in _built:
        return _built[key]
    return of_header(*key) if dtype in _DTYPES else None


def of_header(header: str, dtype: np.dtype[Any]) -> Any:
    """The C functions of `header` for a dtype, built or found built; None if that fails."""
    key = header, dtype
    if key not in _built:
        _built[key] = _build(*key)
    return _built[key]


def begin(key: tuple[str, np.dtype[Any]]) -> None:
    """Build in another thread, beside the trace and the build of the program."""
    if key not in _building:
        _building.add(key)
        with suppress(RuntimeError):  # no new thread: the first call builds it
            name = f"kernel of {key[0]}"
            threading.Thread(target=_build, args=key, name=name, daemon=True).start()


@cache
def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next op, once per process."""
    from tinygrad_kr.native.memory import keep_freed_memory

    keep_freed_memory()


def _build(header: str, dtype: np.dtype[Any]) -> Any:
    if os.environ.get("TINYGRAD_KR_PRODUCTS") == "numpy":
        return None
    keep_freed_memory()
    from tinygrad_kr.native.blocks import block_kernels

    return block_kernels(header, _DTYPES[dtype])


class _Packed(dict[int, Callable[..., bytes]]):
    """For a number of integers, the function that packs them for C."""

    def __missing__(self, size: int) -> Callable[..., bytes]:
        self[size] = pack = struct.Struct(f"{size}q").pack
        return pack


_packed = _Packed()


def run(
    function: Callable[..., int], given: Sequence[int], pieces: int, work: int, *more: float
) -> bool:
    """Call a kernel with its numbers and addresses; whether it has computed the result.

    pieces: into which the work can be cut. work: multiply-adds of all. more: further numbers.
    Raises MemoryError if the kernel gets no memory.
    """
    shared = work >= MIN_SHARED_WORK and pieces > 1
    packed = _packed[len(given)](*given)
    code = function(packed, _share() if shared else None, *more)
    if code == 1:
        raise MemoryError("no memory for the kernel")
    return not code


MIN_ELEMENTS = 2**11
"""Threshold: elements from which a kernel of activations is built and called."""
MIN_COMPOSED = 2**9
"""Threshold: elements from which a kernel replaces a composition of several ops."""
_PIECE = 2**13
"""Elements that a thread takes at once, as in `block.h`."""
MIN_SELECTED = 2**16
"""Threshold: elements from which a kernel computes relu and `where`."""


def elementwise(
    name: str, *arrays: Any, header: str = "activations", numbers: Sequence[float] = ()
) -> ndarray | None:
    """A function of a header, of arrays of one shape; None for NumPy.

    numbers: what the function takes besides. The result has the memory order of the last array,
    whatever that is.
    """
    found = _activations(header, arrays)
    if found is None:
        return None
    y: ndarray = np.empty_like(arrays[-1])
    placed = [in_order_of(y, x) for x in arrays]
    _run(getattr(found, name), y.size, *placed, y, numbers=numbers)
    return y


def is_composed_in_c(x: ndarray) -> bool:
    """Whether functions of `composed.h` compute an array."""
    if x.size < MIN_COMPOSED or x.dtype not in _DTYPES or tracing() is not None:
        return False
    return of_header("composed", x.dtype) is not None


def sum_of(name: str, *arrays: Any) -> Any:
    """The sum of a function of `activations.h`, in float64; None for NumPy."""
    found = _activations("activations", arrays)
    if found is None:
        return None
    sums = np.empty(-(-arrays[0].size // _PIECE))
    _run(getattr(found, name), arrays[0].size, *map(dense, arrays), sums)
    return sums.sum()


def _activations(header: str, arrays: tuple[Any, ...]) -> Any:
    """The functions of a header, where arrays are large and of one shape; None for NumPy."""
    like = arrays[-1]
    least = MIN_COMPOSED if header == "composed" else MIN_ELEMENTS
    if type(like) is not ndarray or like.size < least:
        return None
    shape = like.shape
    for x in arrays:
        if x.shape != shape:
            return None
    return kernels(header, *arrays)


def _run(function: Any, size: int, *arrays: ndarray, numbers: Sequence[float] = ()) -> None:
    """Call a function of one or two arrays and the result."""
    given = [size, *map(address, arrays), 0][:4]
    run(function, given, -(-size // _PIECE), 16 * size, *numbers)


def choose(mask: ndarray, a: Any, b: Any) -> ndarray | None:
    """`a` where a mask of booleans holds, else `b`, in the mask's order; None for NumPy.

    a, b: arrays of one shape and dtype; one of them may be a number.
    """
    like = a if type(a) is ndarray else b
    if type(like) is not ndarray or like.size < MIN_SELECTED or mask.dtype != np.bool_:
        return None
    given = [x for x in (a, b) if type(x) is not float and type(x) is not int]
    if any(type(x) is not ndarray for x in given):
        return None
    if (found := kernels("selection", *given)) is None:
        return None
    y, order = np.empty_like(mask, like.dtype), np.empty_like(mask)
    if order.strides != mask.strides or any(x.shape != y.shape for x in given):
        return None
    arrays = [in_order_of(y, x) if type(x) is ndarray else None for x in (a, b)]
    numbers = [0.0 if type(x) is ndarray else float(x) for x in (a, b)]
    places = (address(mask), *map(place, arrays), address(y))
    run(found.choose, (y.size, *places), -(-y.size // _PIECE), 16 * y.size, *numbers)
    return y


def in_order_of(y: ndarray, x: ndarray) -> ndarray:
    """`x`, or a copy of it, whose elements lie in memory as those of `y`, which is dense."""
    if x.strides == y.strides and x.flags.aligned:
        return x
    if y.ndim > 2 and y.flags.c_contiguous:
        return with_channels(x, last=False)
    if y.ndim > 2 and channels_last(y).flags.c_contiguous:
        return channels_first(with_channels(x, last=True))
    copy = np.empty_like(y)
    copy[...] = x
    return copy


def channels_last(x: ndarray) -> ndarray:
    """A view (N, ..., C) of an array (N, C, ...)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: ndarray) -> ndarray:
    """A view (N, C, ...) of an array (N, ..., C)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def with_channels(x: ndarray, last: bool) -> ndarray:
    """The array (N, C, ...) in order and aligned, or as (N, ..., C); a copy where it must be."""
    moved = channels_last(x)
    to, other = (moved, x) if last else (x, moved)
    if to.flags.c_contiguous or x.size < MIN_TRANSPOSED or not other.flags.c_contiguous:
        return dense(to)
    if (built := kernels("orders", x)) is None or not x.flags.aligned:
        return dense(to)
    y = np.empty(to.shape, x.dtype)
    n, channels = x.shape[:2]
    sides = (channels, x.size // (n * channels))
    rows, columns = sides if last else sides[::-1]
    step = max(_PIECE // (rows * columns), 1)
    given = (n, rows, columns, step, address(x), address(y))
    run(built.transpose, given, -(-n // step), 4 * x.size)
    return y


MIN_TRANSPOSED = 2**14
"""Threshold: elements from which a kernel moves the axis of channels."""


def rows(
    name: str, rows: int, size: int, step: int, arrays: dict[str, ndarray], *more: float
) -> bool:
    """Call a function of `rows.h`; False for NumPy.

    step: the rows that a thread takes at once. arrays: dense ones, by their names in C.
    """
    floats = [x for x in arrays.values() if x.dtype.kind == "f"]
    if rows * size < MIN_ELEMENTS or (found := kernels("rows", *floats)) is None:
        return False
    names = ("x", "weight", "bias", "g", "labels", "y", "dweight", "dbias")
    given = [rows, size, step, *(place(arrays.get(name)) for name in names)]
    return run(getattr(found, name), given, -(-rows // step), 8 * rows * size, *more)


def resample(
    name: str, x: ndarray, indices: ndarray, weights: ndarray, axis: int, size: int
) -> ndarray | None:
    """A function of `resample.h`, whose result has `size` elements along `axis`; None for NumPy."""
    if x.size < MIN_ELEMENTS or (found := kernels("resample", x, weights)) is None:
        return None
    shape = x.shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    y = np.empty((*shape[:axis], size, *shape[axis + 1 :]), x.dtype)
    x = dense(x)
    step = max(_PIECE // (max(size, shape[axis]) * inner), 1)
    given = [outer, shape[axis], size, inner, len(indices), step]
    given += map(address, (x, indices, weights, y))
    work = 4 * len(indices) * max(x.size, y.size)
    return y if run(getattr(found, name), given, -(-outer // step), work) else None


def row_step(rows: int) -> int:
    """The rows that a thread takes at once."""
    return max(_MIN_ROWS, -(-rows // 16))


_MIN_ROWS = 8


def _share() -> Any:
    """The address of `share`, which cuts work in pieces for a pool of threads."""
    if getattr(_caller, "is_alone", False):
        return None
    if getattr(_caller, "is_program", False):
        return _share_of_programs()
    found = products._library() if products._library.cache_info().currsize else None
    return _share_of_programs() if found is None else _address_of(found)


@cache
def _address_of(library: Any) -> Any:
    from tinygrad_kr.native.foreign import ctypes

    return ctypes.cast(library["share"], ctypes.c_void_p).value


@cache
def _share_of_programs() -> Any:
    """`share` of the library to which compiled programs are connected, or None."""
    from tinygrad_kr.native.kernels import library

    try:
        found = library()
    except (OSError, RuntimeError):
        return None
    _kept.append(found)
    return _address_of(found)


_kept: list[Any] = []
_caller = threading.local()
"""Of each thread, `is_program`: whether a compiled program has called the kernel. `is_alone`:
whether kernels run on one core."""


@contextmanager
def on_one_core() -> Iterator[None]:
    """Kernels share no work in this thread within the block: no pool of threads is built."""
    _caller.is_alone = True
    try:
        yield
    finally:
        _caller.is_alone = False


def in_program(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` for a compiled program, whose threads its kernel shares.

    Those of eager products spin longer, and would keep cores from the program's own loops.
    """

    @wraps(forward)
    def computed(*inputs: Any, **params: Any) -> Any:
        _caller.is_program = True
        try:
            return forward(*inputs, **params)
        finally:
            _caller.is_program = False

    return computed


@cache
def threads() -> int:
    """How many threads share work."""
    from tinygrad_kr.native.cpu import helpers

    return helpers() + 1


def dense(x: ndarray) -> ndarray:
    """The array, or a copy of it, in order and aligned."""
    flags = x.flags
    if flags.c_contiguous and flags.aligned:
        return x
    array: ndarray = np.require(x, requirements=["C", "A"])
    return array


def place(x: ndarray | None) -> int:
    """The address of an array's first element; 0 for None."""
    return 0 if x is None else address(x)


def is_composed(*values: Any) -> bool:
    """Whether a rule must be made of ops that have rules: its result will be differentiated.

    Elsewhere one op without rules computes all cotangents.
    """
    return current_mode() != OFF and any(isinstance(x, Node) and x._requires_grad for x in values)


def split(flat: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """The arrays that lie one after the other in `flat`."""
    found, start = [], 0
    for shape in shapes:
        size = 1
        for n in shape:
            size *= n
        found.append(flat[start : start + size].reshape(shape))
        start += size
    return found


def flattened(arrays: Sequence[ndarray]) -> ndarray:
    """The elements of all arrays, one after the other."""
    return np.concatenate([x.ravel() for x in arrays])
