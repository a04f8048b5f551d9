"""Update rules of large parameters in C: one loop over all arrays, which cores share.

The loop computes what NumPy does, operator for operator, so the results are the same bits (but for
the sign of NaN). Another thread builds it while NumPy makes the first steps.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.writes import address

if TYPE_CHECKING:
    from tinygrad_kr.optim.lowering import Statement

MIN_SIZE = 2**15
"""Threshold: elements of a parameter from which a loop in C is built and called."""
PIECE = 2**14
"""Elements that a thread takes at once."""
WORK = 2
"""Multiply-adds that an element counts for: cores share 131,072 elements, 30 us of Adam."""
_EXPRESSIONS: dict[str, str] = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "square": "{0} * {0}",
    "negative": "-{0}",
    "positive": "{0}",
    "sqrt": "TK_FUNCTION(sqrt)({0})",
    "absolute": "TK_FUNCTION(abs)({0})",
    "maximum": "TK_FUNCTION(max)({0}, {1})",
    "sign": "TK_FUNCTION(sign)({0})",
}
"""Ufuncs that give the same bits in C."""


def loop_of(
    statements: Sequence[Statement], results: dict[str, str], arrays: Sequence[str], constants: int
) -> str | None:
    """The body of the loop over element i; None for a rule with another ufunc.

    results: by array, the name of its new value. arrays: `p`, `g` and those of the state.
    """
    if any(function not in _EXPRESSIONS for function, _, _ in statements):
        return None
    read = {name for _, operands, _ in statements for name in operands} | set(results.values())
    known = {f"c{k}": f"c{k}" for k in range(constants)}
    lines = []
    for k, name in enumerate(arrays):
        if name in read:
            known[name] = f"x{k}"
            lines.append(f"TK_REAL x{k} = m{k}[i];")
    for k, (function, operands, name) in enumerate(statements):
        made = _EXPRESSIONS[function].format(*(known[x] for x in operands))
        known[name] = f"y{k}"
        lines.append(f"TK_REAL y{k} = {made};")
    lines += [
        f"m{arrays.index(target)}[i] = {known[name]};"
        for target, name in results.items()
        if name != target
    ]
    return "\n".join(f"    {line}" for line in lines)


class Loop:
    """The C of one rule for one dtype: None of `function` until it is built."""

    def __init__(self, body: str, arrays: int, constants: int, real: str) -> None:
        self.source = _source(body, arrays, constants, real)
        self.function: Any = None
        self.is_begun = False

    def begin(self) -> None:
        """Build it in another thread."""
        self.is_begun = True
        with suppress(RuntimeError):  # no new thread: NumPy makes all steps
            threading.Thread(target=self.build, name="update rule", daemon=True).start()

    def build(self) -> None:
        """Build it, or find it built. A failure leaves the rule to NumPy."""
        from tinygrad_kr.native.blocks import with_parameters
        from tinygrad_kr.native.build import build, included
        from tinygrad_kr.native.cache import trusted_cache

        with suppress(OSError, RuntimeError):
            trusted_cache()
            self.library = build(self.source, included(self.source))
            self.function = with_parameters(self.library, "update")


_loops: dict[tuple[str, int, int, str], Loop] = {}


def loop_for(program: Any, p: ndarray) -> Callable[..., bool] | None:
    """A function that updates parameters like `p`; None where NumPy does."""
    real = {"float32": "float", "float64": "double"}.get(p.dtype.name)
    if program.loop is None or real is None or p.size < MIN_SIZE:
        return None
    if os.environ.get("TINYGRAD_KR_PRODUCTS") == "numpy":
        return None
    arrays = 2 + len(program.array_state)
    key = program.loop, arrays, program.constants, real
    return _Update(_loops.setdefault(key, Loop(*key)))


class _Update:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def __call__(
        self, p: ndarray, g: ndarray, state: Sequence[ndarray], constants: Sequence[ndarray]
    ) -> bool:
        """Update flat arrays; False, with nothing done, for NumPy."""
        function = self.loop.function
        if function is None:
            if not self.loop.is_begun:
                self.loop.begin()
            return False
        if g.dtype != p.dtype or not (g.flags.c_contiguous and g.flags.aligned and p.flags.aligned):
            return False
        given = [p.size, *map(address, (p, g, *state, *constants))]
        return kernels.run(function, given, -(-p.size // PIECE), WORK * p.size)


def _source(body: str, arrays: int, constants: int, real: str) -> str:
    from tinygrad_kr.native.kernels import PRELUDE

    function = "tk_##name##f" if real == "float" else "tk_##name"
    of_arrays = [f"TK_REAL *restrict m{k}" for k in range(arrays)]
    of_constants = [f"TK_REAL c{k}" for k in range(constants)]
    given = [f"(TK_REAL *)memory[{k}] + start" for k in range(arrays)]
    given += [f"*(TK_REAL *)memory[{arrays + k}]" for k in range(constants)]
    return f"""{PRELUDE}
#define TK_REAL {real}
#define TK_FUNCTION(name) {function}

typedef void (*tk_work_piece)(void **memory, int64_t start, int64_t stop);
typedef void (*tk_share_work)(tk_work_piece work, void **memory, int64_t size, int64_t step);

static void tk_update(int64_t n, {", ".join([*of_arrays, *of_constants])}) {{
  for (int64_t i = 0; i < n; i++) {{
{body}
  }}
}}

static void tk_update_piece(void **memory, int64_t start, int64_t stop) {{
  tk_update(stop - start, {", ".join(given)});
}}

/* given: the number of elements, then the addresses of arrays and constants. */
EXPORT int64_t update(const int64_t *given, tk_share_work share) {{
  void *memory[{arrays + constants}];
  for (int k = 0; k < {arrays + constants}; k++) memory[k] = (void *)(intptr_t)given[1 + k];
  if (share)
    share(tk_update_piece, memory, given[0], {PIECE});
  else
    tk_update_piece(memory, 0, given[0]);
  return 0;
}}
"""
