"""A convolution whose products BLAS computes, with C before, between and after them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.plan.steps import Convolution
from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.ops.writes import address

PART_BYTES = 2**20
"""Most bytes of columns in one product: about a core's own cache."""


def _aligned(size: int, dtype: Any) -> ndarray:
    """An array that begins where a cache line does."""
    raw = np.empty(size * dtype.itemsize + 64, np.uint8)
    start = -address(raw) % 64
    array: ndarray = raw[start : start + size * dtype.itemsize].view(dtype)
    return array


class ConvolutionRunner:
    """`runner.run(arrays)`: one run of a `Convolution`, part of the samples by part."""

    def __init__(self, step: Convolution, name: str, parts: Sequence[str], library: Any) -> None:
        s = step.geometry
        self._functions = {}
        for part in parts:
            function = library[f"{part}_of"]
            function.restype = None
            number = ctypes.c_int64
            function.argtypes = [ctypes.py_object, ctypes.c_void_p, number, number]
            self._functions[part.removeprefix(f"{name}_")] = function
        dtype = step.instructions[0].output.dtype
        samples = max(PART_BYTES // (s.n_windows * s.features * dtype.itemsize), 1)
        samples = math.ceil(s.samples / math.ceil(s.samples / samples))
        windows = samples * s.n_windows
        self._arrays = [
            _aligned(s.features * s.outputs, dtype),
            _aligned(windows * s.features, dtype),
            _aligned(windows * s.outputs, dtype),
            _aligned(s.features * s.outputs, dtype),
            _aligned(s.features * s.outputs, dtype),
            _aligned(s.outputs, np.dtype(np.float64)),
        ]
        self.bytes = sum(array.nbytes for array in self._arrays)
        table = list(map(address, self._arrays))
        self._table = (ctypes.c_void_p * len(table))(*table)
        self._own = ctypes.addressof(self._table)
        self._lines = s.counts[0]
        self._filters = self._arrays[0].reshape(s.features, s.outputs)
        self._product = self._arrays[3].reshape(s.features, s.outputs)
        columns = self._arrays[1].reshape(windows, s.features)
        rows = self._arrays[2].reshape(windows, s.outputs)
        self._parts = []
        for start in range(0, s.samples, samples):
            count = min(samples, s.samples - start)
            n = count * s.n_windows
            self._parts.append((start, count, columns[:n], rows[:n]))
        self._is_forward = step.is_forward

    @property
    def run(self) -> Callable[[tuple[ndarray, ...]], None]:
        """The products of all samples, and what surrounds them."""
        return self._forward if self._is_forward else self._backward

    def _call(self, name: str, arrays: tuple[ndarray, ...]) -> None:
        self._functions[name](arrays, self._own, 0, 0)

    def _forward(self, arrays: tuple[ndarray, ...]) -> None:
        columns_of, epilogue = self._functions["columns"], self._functions["epilogue"]
        own, filters, lines = self._own, self._filters, self._lines
        self._call("filters", arrays)
        for start, count, columns, rows in self._parts:
            columns_of(arrays, own, start * lines, count * lines)
            np.matmul(columns, filters, out=rows)
            epilogue(arrays, own, start, count)

    def _backward(self, arrays: tuple[ndarray, ...]) -> None:
        functions = self._functions
        rows_of = functions["rows"]
        columns_of, added = functions.get("columns"), functions.get("added")
        spread = functions.get("spread")
        own, product, lines = self._own, self._product, self._lines
        self._arrays[5].fill(0)
        if spread:
            self._call("filters", arrays)
            filters = self._filters.T
        for start, count, columns, rows in self._parts:
            rows_of(arrays, own, start, count)
            if columns_of and added:
                columns_of(arrays, own, start * lines, count * lines)
                np.matmul(columns.T, rows, out=product)
                added(arrays, own, start, count)
            if spread:
                np.matmul(rows, filters, out=columns)
                spread(arrays, own, start * lines, count * lines)
        if "finish" in functions:
            self._call("finish", arrays)
