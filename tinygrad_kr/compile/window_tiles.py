"""The C of a convolution whose products are C too: of each piece of the samples, columns, products
and what surrounds these, one after the other in the cache of the core that took it."""

from __future__ import annotations

from textwrap import indent

from tinygrad_kr.compile.plan import Plan
from tinygrad_kr.compile.products import COLUMNS
from tinygrad_kr.compile.window_code import kernels
from tinygrad_kr.compile.windows import Geometry, TiledConvolution, Tiling, geometry, tiling
from tinygrad_kr.ops import window as w

_OWN = ("filters", "columns", "rows", "part", "whole", "total")
"""The arrays of the step, in the order in which its functions find them."""


def tiled_convolution(plan: Plan, step: TiledConvolution, name: str) -> str:
    """`name(void **memory)`, and the functions that it calls."""
    parts = kernels(plan, step, name)
    known = {part.name.removeprefix(f"{name}_") for part in parts}
    s = next(found for found in map(geometry, step.statements) if found is not None)
    writer = _Writer(name, plan.places[step.scratch].root, s, tiling(step.statements), known)
    forward = step.statements[0].op is w.convolve
    work = writer.forward() if forward else writer.backward()
    functions = [part.source("static") for part in parts]
    comment = (
        f"/* {', '.join(s.op.__name__ for s in step.statements)}, {step.statements[0].place} */"
    )
    return "\n".join([*functions, comment, writer.piece(work), writer.whole(forward), ""])


class _Writer:
    """The functions around those of a convolution's parts."""

    def __init__(self, name: str, root: int, s: Geometry, t: Tiling, known: set[str]) -> None:
        self.name, self.root, self.s, self.t, self.known = name, root, s, t, known

    def forward(self) -> list[str]:
        """The products of some samples, and what becomes of them."""
        s = self.s
        factors = f"columns, {s.features}, 1, panels, {COLUMNS}, {COLUMNS * s.features}"
        return [
            *self._lines(
                f"{self._call('columns', 'line', 'lines')};",
                f"tk_multiply(lines * {s.counts[1]}, {s.features}, {s.outputs}, "
                f"{factors}, {self._products()}, 0);",
            ),
            f"{self._call('epilogue', 'n', 'count')};",
        ]

    def backward(self) -> list[str]:
        """The cotangent of some samples, and both products with it."""
        s, body = self.s, []
        if "columns" in self.known:
            body += [
                f"{self._call('columns', 'line', 'lines')};",
                f"tk_multiply({s.features}, lines * {s.counts[1]}, {s.outputs}, columns, 1, "
                f"{s.features}, {self._products()}, {s.outputs}, {COLUMNS}, whole, more);",
                "more = 1;",
            ]
        if "spread" in self.known:
            body += [
                f"tk_multiply(lines * {s.counts[1]}, {s.outputs}, {s.features}, "
                f"{self._products()}, {s.outputs}, 1, panels, {COLUMNS}, {COLUMNS * s.outputs}, "
                "columns, 0);",
                f"{self._call('spread', 'line', 'lines')};",
            ]
        return [f"{self._call('rows', 'n', 'count')};", *self._lines(*body)]

    def piece(self, work: list[str]) -> str:
        """A function of some pieces: `work` for some samples of one after the other."""
        samples, pieces, t = self.s.samples, self.t.pieces, self.t
        body = [
            *self._arrays("piece"),
            *self._zeros(),
            f"int64_t end = (piece + 1) * {samples} / {pieces};",
            f"for (int64_t n = piece * {samples} / {pieces}; n < end; n += {t.samples}) {{",
            f"  int64_t count = tk_smaller({t.samples}, end - n);",
            *(f"  {line}" for line in work),
            "}",
        ]
        inner = indent("\n".join(body), "    ")
        return (
            f"static TK_WIDE void {self.name}_pieces(void **memory, "
            "int64_t start, int64_t stop) {\n"
            f"  for (int64_t piece = start; piece < stop; piece++) {{\n{inner}\n  }}\n}}\n"
        )

    def _zeros(self) -> list[str]:
        """What a piece sums up begins with nothing."""
        size = self.s.outputs
        zeros = {
            "whole": "int more = 0;",
            "total": f"memset(total, 0, sizeof(double) * {size});",
        }
        return [line for name, line in zeros.items() if name in self.t.starts]

    def whole(self, forward: bool) -> str:
        """The function of the step."""
        s, t, body = self.s, self.t, self._arrays("0")
        if "filters" in self.known:
            sizes = (s.features, s.outputs) if forward else (s.outputs, s.features)
            strides = (s.outputs, 1) if forward else (1, s.outputs)
            body += [
                f"{self._call('filters', '0', '0')};",
                f"tk_factors factors = {{.depth = {sizes[0]}, .columns = {sizes[1]}, .b = filters, "
                f".copy = panels, .b_down = {strides[0]}, .b_across = {strides[1]}}};",
                f"tk_copy_panels((void *[]){{&factors}}, 0, {-(-sizes[1] // COLUMNS)});",
            ]
        pieces = f"{self.name}_pieces"
        if t.pieces > 1:
            body.append(f"tk_share({pieces}, memory, {t.pieces}, 1);")
        else:
            body.append(f"{pieces}(memory, 0, 1);")
        if "finish" in self.known:
            sums = {
                "whole": (s.features * s.outputs, t.sums),
                "total": (s.outputs, t.totals // 2),
            }
            body += [
                f"for (int64_t piece = 1; piece < {t.pieces}; piece++) "
                f"for (int64_t i = 0; i < {size}; i++) {array}[i] += {array}[piece * {apart} + i];"
                for array, (size, apart) in sums.items()
                if array in t.starts
            ]
            body.append(f"{self._call('finish', '0', '0')};")
        lines = indent("\n".join(body), "  ")
        return f"static void {self.name}(void **memory) {{\n{lines}\n}}\n"

    def _arrays(self, piece: str) -> list[str]:
        """Where a thread finds the arrays of a piece."""
        starts, t = self.t.starts, self.t
        shared = ("filters", "panels")
        at: dict[str, str] = {name: str(starts[name]) for name in shared if name in starts}
        at |= {
            "columns": f"{starts['own'] + starts['columns']} + tk_self * {t.own}",
            "rows": f"{starts['own'] + starts['rows']} + tk_self * {t.own}",
        }
        sums = {"whole": t.sums, "total": t.totals}
        at |= {name: f"{starts[name]} + {piece} * {sums[name]}" for name in sums if name in starts}
        own = ", ".join(name if name in at else "0" for name in _OWN)
        kinds = {"total": "double"}
        return [
            f"float *scratch = memory[{self.root}];",
            *(
                f"{kinds.get(name, 'float')} *{name} = (void *)(scratch + {place});"
                for name, place in at.items()
            ),
            f"void *own[] = {{{own}}};",
        ]

    def _lines(self, *body: str) -> list[str]:
        """A loop over the windows of `count` samples from `n` on, some lines at a time."""
        height = self.s.counts[0]
        return [
            f"int64_t last = (n + count) * {height};",
            f"for (int64_t line = n * {height}; line < last; line += {self.t.lines}) {{",
            f"  int64_t lines = tk_smaller({self.t.lines}, last - line);",
            *(f"  {line}" for line in body),
            "}",
        ]

    def _products(self) -> str:
        """Where the rows of a line's windows begin."""
        s = self.s
        return f"rows + (line - n * {s.counts[0]}) * {s.counts[1] * s.outputs}"

    def _call(self, part: str, start: str, count: str) -> str:
        return f"{self.name}_{part}(memory, own, {start}, {count})"
