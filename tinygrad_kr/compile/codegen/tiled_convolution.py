"""The C of a convolution: of each piece of the samples, columns, products
and what surrounds these, one after the other in the cache of the core that took it."""

from __future__ import annotations

from textwrap import indent

from tinygrad_kr.compile.codegen.convolution import kernels
from tinygrad_kr.compile.codegen.pooling import TYPES
from tinygrad_kr.compile.codegen.text import Function, Line, plain
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import TiledConvolution, panels
from tinygrad_kr.native.kernels import F64, tile

_OWN = ("filters", "columns", "rows", "whole", "total")
"""The arrays of a step, in the order in which its functions find them."""


def tiled_convolution(plan: Plan, step: TiledConvolution, name: str) -> list[Function]:
    """`name(void **memory)`, and the functions that it calls."""
    return _Writer(plan, step, name).functions()


class _Writer:
    def __init__(self, plan: Plan, step: TiledConvolution, name: str) -> None:
        self.name, self.root = name, plan.views[step.scratch].root
        self.s, self.arrays, self.forward = step.geometry, step.arrays, step.is_forward
        self.pieces, self.samples, self.lines = step.division
        self.kernels = kernels(plan, step, name)
        self.parts = {kernel.name.removeprefix(f"{name}_") for kernel in self.kernels}
        self.instructions = tuple(step.instructions)
        self.width, self.real = step.dtype.itemsize // 4, TYPES[step.dtype]
        self.suffix = F64 if self.width == 2 else ""
        _, self.columns = tile(step.dtype.itemsize)

    def functions(self) -> list[Function]:
        """The functions of the parts, of pieces, and of the step."""
        first, *more = plain(self._of_pieces())
        lines = [first._replace(origins=self.instructions, above=True), *more]
        return [
            *(kernel.functions() for kernel in self.kernels),
            Function([*lines, *plain(self._of_all()), Line("")], numbered=False),
        ]

    def _of_pieces(self) -> str:
        samples, work = self.s.samples, self._forward() if self.forward else self._backward()
        body = [
            *self._found("piece"),
            *self._zeros(),
            f"int64_t end = (piece + 1) * {samples} / {self.pieces};",
            f"for (int64_t n = piece * {samples} / {self.pieces}; n < end; n += {self.samples}) {{",
            f"  int64_t count = tk_min_i64({self.samples}, end - n);",
            *(f"  {line}" for line in work),
            "}",
        ]
        return (
            f"static TK_WIDE void {self.name}_pieces("
            "void **memory, int64_t start, int64_t stop) {\n"
            "  for (int64_t piece = start; piece < stop; piece++) {\n"
            f"{_indented(body, 4)}\n"
            "  }\n}\n"
        )

    def _of_all(self) -> str:
        body = [*self._found("0"), *self._packed()]
        if self.pieces > 1:
            body.append(f"tk_parallel_for({self.name}_pieces, memory, {self.pieces}, 1);")
        else:
            body.append(f"{self.name}_pieces(memory, 0, 1);")
        if "finish" in self.parts:
            body += [*self._added(), self._call("finish", "0", "0")]
        return f"static void {self.name}(void **memory) {{\n{_indented(body, 2)}\n}}\n"

    def _found(self, piece: str) -> list[str]:
        """Where a thread finds the arrays of a piece."""
        kinds = dict.fromkeys(self.arrays, self.real) | {"total": "double"}
        at = {
            name: f"{start} + {piece if each == 'piece' else each} * {apart}"
            for name, (start, apart, each) in self.arrays.items()
        }
        return [
            f"float *scratch = memory[{self.root}];",
            *(f"{kinds[name]} *{name} = (void *)(scratch + {at[name]});" for name in at),
            f"void *own[] = {{{', '.join(name if name in at else '0' for name in _OWN)}}};",
        ]

    def _packed(self) -> list[str]:
        """The filters in panels."""
        if "filters" not in self.parts:
            return []
        depth, across = panels(self.s, self.forward)
        down, side = (1, depth) if self.forward else (across, 1)
        return [
            self._call("filters", "0", "0"),
            f"tk_gemm_args{self.suffix} factors = {{.depth = {depth}, .columns = {across}, "
            f".b = filters, .copy = panels, .b_down = {down}, .b_across = {side}}};",
            f"tk_pack_b{self.suffix}((void *[]){{&factors}}, 0, {-(-across // self.columns)});",
        ]

    def _zeros(self) -> list[str]:
        """What a piece sums up begins with nothing."""
        zeros = {
            "whole": "int accumulate = 0;",
            "total": f"memset(total, 0, sizeof(double) * {self.s.outputs});",
        }
        return [line for name, line in zeros.items() if name in self.arrays]

    def _added(self) -> list[str]:
        """The sums of all pieces, in order."""
        sizes = {
            "whole": (self.s.features * self.s.outputs, self.width),
            "total": (self.s.outputs, 2),
        }
        return [
            f"for (int64_t piece = 1; piece < {self.pieces}; piece++) "
            f"for (int64_t i = 0; i < {size}; i++) "
            f"{name}[i] += {name}[piece * {self.arrays[name].apart // width} + i];"
            for name, (size, width) in sizes.items()
            if name in self.arrays
        ]

    def _forward(self) -> list[str]:
        """The products of some samples, and what becomes of them."""
        s = self.s
        factors = f"columns, {s.features}, 1, panels, {self.columns}, {self.columns * s.features}"
        return [
            *self._by_lines(
                self._call("columns", "line", "lines"),
                f"tk_gemm_panel{self.suffix}(lines * {s.counts[1]}, {s.features}, {s.outputs}, "
                f"{factors}, "
                f"products, {s.outputs}, 0);",
            ),
            self._call("epilogue", "n", "count"),
        ]

    def _backward(self) -> list[str]:
        """The cotangent of some samples, and both products with it."""
        s, body = self.s, []
        if "columns" in self.parts:
            body += [
                self._call("columns", "line", "lines"),
                f"tk_gemm_panel{self.suffix}({s.features}, lines * {s.counts[1]}, {s.outputs}, "
                f"columns, 1, {s.features}, products, {s.outputs}, {self.columns}, "
                f"whole, {s.outputs}, accumulate);",
                "accumulate = 1;",
            ]
        if "spread" in self.parts:
            factors = (
                f"products, {s.outputs}, 1, panels, {self.columns}, {self.columns * s.outputs}"
            )
            body += [
                f"tk_gemm_panel{self.suffix}(lines * {s.counts[1]}, {s.outputs}, {s.features}, "
                f"{factors}, columns, {s.features}, 0);",
                self._call("spread", "line", "lines"),
            ]
        return [self._call("rows", "n", "count"), *self._by_lines(*body)]

    def _by_lines(self, *body: str) -> list[str]:
        """A loop over the windows of `count` samples from `n` on, some lines at a time."""
        height, width = self.s.counts
        return [
            f"int64_t last = (n + count) * {height};",
            f"for (int64_t line = n * {height}; line < last; line += {self.lines}) {{",
            f"  int64_t lines = tk_min_i64({self.lines}, last - line);",
            f"  float *products = rows + (line - n * {height}) * {width * self.s.outputs};",
            *(f"  {line}" for line in body),
            "}",
        ]

    def _call(self, part: str, start: str, count: str) -> str:
        return f"{self.name}_{part}(memory, own, {start}, {count});"


def _indented(lines: list[str], columns: int) -> str:
    return indent("\n".join(lines), " " * columns)
