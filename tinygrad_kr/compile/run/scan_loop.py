"""The loop of a `scan` as one C function, which advances the addresses of its rows."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.codegen.arguments import found
from tinygrad_kr.compile.codegen.naming import SymbolNames
from tinygrad_kr.compile.codegen.program import CProgram
from tinygrad_kr.compile.ir.body import Code
from tinygrad_kr.compile.ir.calling import are_found
from tinygrad_kr.compile.run.arena import Arena
from tinygrad_kr.compile.run.c_runner import _built
from tinygrad_kr.compile.run.scan_body import BodyPlan
from tinygrad_kr.native import deadline
from tinygrad_kr.native.compiler import BuildError, likely
from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.ops.writes import address

CHUNK = 20_000
"""Steps after which Python may interrupt."""


class CLoop:
    """The loop over all steps as one C function; None in `function` where it cannot be."""

    def __init__(self, body: Code) -> None:
        self._lock = Lock()
        self.function: Any = None
        self.body = body
        if likely() is None or not are_found():
            return
        try:
            deadline.within(deadline.SECONDS, self._build)
        except (BuildError, deadline.TooLongError):
            self.function = None

    def _build(self) -> None:
        body, counts = self.body, self.body.counts
        made = BodyPlan(body)
        if not made.is_one_function:
            return
        plan, segment, results = made.plan, made.segment, made.results
        self._constants, self._given, self._out = made.constants, made.given, made.out
        self._roots, self._arena = segment.roots, Arena(plan).memory
        self.in_arena = bool(segment.in_arena)
        first = counts.carries + counts.stacked
        at = {index: root for root, index in self._given.items()}
        self._sums = [
            (plan.views[results[i]].root, at[body.arguments + i - first], i)
            for i in range(first, len(results))
        ]
        if not set(segment.roots).issuperset(root for pair in self._sums for root in pair[:2]):
            return
        code = CProgram(
            plan, SymbolNames(made.program, _Unnamed(body.arguments + counts.summed), plan.roots)
        )
        code.text += _LOOP.format(found=found(segment, len(plan.roots)), name=segment.name)
        function = _built(code)["scan_loop"]
        function.restype = None
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        function.argtypes = [
            ctypes.py_object, *[number] * 3, *[pointer] * 2, number, *[pointer] * 3,
        ]  # fmt: skip
        self.function = function

    def run(self, given: list[ndarray], out: list[ndarray], n: int, reverse: bool) -> bool:
        """Run all steps, if there is a function in C."""
        if self.function is None:
            return False
        counts, rows = self.body.counts, {}
        bases: dict[int, ndarray] = dict(self._constants)
        partial = [np.zeros_like(x) for x in out[counts.carries + counts.stacked :]]
        last = counts.carries + counts.elements
        for root, index in self._given.items():
            if index < counts.carries:
                bases[root], rows[root] = _from(out[index], n if reverse else 0, reverse)
            elif index < last:
                bases[root], rows[root] = _from(given[index], n - 1 if reverse else 0, reverse)
            elif index < self.body.arguments:
                bases[root] = given[index]
            else:
                bases[root] = out[index - self.body.arguments + counts.carries + counts.stacked]
        for root, i in self._out.items():
            if i < counts.carries:
                bases[root], rows[root] = _from(out[i], n - 1 if reverse else 1, reverse)
            elif i < counts.carries + counts.stacked:
                bases[root], rows[root] = _from(out[i], n - 1 if reverse else 0, reverse)
            else:
                bases[root] = partial[i - counts.carries - counts.stacked]
        advancing = {root: step for root, step in rows.items() if root in self._roots}
        numbers = [np.array(x, np.int64) for x in (
            [*advancing], [*advancing.values()], *zip(*self._sums_with(out), strict=True),
        )]  # fmt: skip
        numbers += [np.zeros(0, np.int64)] * (5 - len(numbers))
        roots, steps, sources, targets, sizes = numbers
        call = tuple(bases[root] for root in self._roots)
        with self._lock:
            call = (*call, self._arena) if self.in_arena else call
            for start in range(0, n, CHUNK):
                self.function(
                    call, start, min(start + CHUNK, n), len(roots), address(roots), address(steps),
                    len(sources), address(sources), address(targets), address(sizes),
                )  # fmt: skip
        return True

    def _sums_with(self, out: list[ndarray]) -> list[tuple[int, int, int]]:
        return [(source, target, out[i].nbytes) for source, target, i in self._sums]


def _from(array: ndarray, row: int, reverse: bool) -> tuple[ndarray, int]:
    """The rows of an array from one on, and the bytes to the next."""
    step = array.strides[0] if len(array) > 1 else array.nbytes
    return array[row:], -step if reverse else step


class _Unnamed:
    """A body has no names of the user's."""

    def __init__(self, arguments: int) -> None:
        self.argument_names = [f"argument_{i}" for i in range(arguments)]

    @staticmethod
    def function() -> None:
        """Nothing."""


_LOOP = """
EXPORT void scan_loop(const void *call, int64_t start, int64_t stop, int64_t advancing,
                      const int64_t *roots, const int64_t *steps, int64_t copied,
                      const int64_t *sources, const int64_t *targets, const int64_t *sizes) {{
{found}  for (int64_t k = 0; k < advancing; k++)
    memory[roots[k]] = (char *)memory[roots[k]] + start * steps[k];
  for (int64_t i = start; i < stop; i++) {{
    {name}_(memory);
    for (int64_t k = 0; k < copied; k++)
      __builtin_memcpy(memory[targets[k]], memory[sources[k]], sizes[k]);
    for (int64_t k = 0; k < advancing; k++)
      memory[roots[k]] = (char *)memory[roots[k]] + steps[k];
  }}
}}
"""
