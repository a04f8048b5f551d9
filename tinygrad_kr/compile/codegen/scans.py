"""The C of a `scan`: a loop that calls the function of its body and advances the addresses of its
rows."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.compile.codegen.pooling import TYPES
from tinygrad_kr.compile.codegen.text import Writer
from tinygrad_kr.compile.ir.body import Kind
from tinygrad_kr.compile.ir.c_ops import literal
from tinygrad_kr.compile.ir.layout import dense_strides, extent, loops
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import Scan


def scan(plan: Plan, writer: Writer, step: Scan, name: str) -> None:
    """All steps. name: of the function of the body."""
    writer.computes(step.instruction)
    writer.open("")
    _Scan(plan, writer, step).write(name)
    writer.close()


class _Scan:
    """A step and the memory that it uses."""

    def __init__(self, plan: Plan, writer: Writer, step: Scan) -> None:
        self.plan, self.writer, self.step, self.body = plan, writer, step, step.body
        self.counts, self.kinds = step.body.code.counts, step.body.code.result_kinds()
        params = step.instruction.params
        self.n, self.reverse = params["n"], params["reverse"]

    def write(self, name: str) -> None:
        """Copies of what lies apart, the first carries, and the loop."""
        for i in self.step.copied:
            self._copy(i, self._scratch(self.step.copied[i]))
        for i in range(self.counts.carries):
            self._copy(i, self._row(i, self.n if self.reverse else 0))
        roots = self.body.plan.roots
        self.writer(f"void *memory[{len(roots)}];")
        steps: dict[int, int] = {}
        for root, (start, step) in self._addresses().items():
            self.writer(f"memory[{root}] = (void *)({start});")
            if step:
                steps[root] = step
        self.writer.loop("i", self.n)
        self.writer(f"{name}_(memory);")
        for root, step in steps.items():
            self.writer(f"memory[{root}] = (char *)memory[{root}] + ({step});")
        self.writer.close()

    def _addresses(self) -> dict[int, tuple[str, int]]:
        """By root of the body, the address for the first step, and the bytes to the next."""
        body, found = self.body, dict[int, tuple[str, int]]()
        for k, (root, array) in enumerate(body.constants.items()):
            numbers = ", ".join(literal(x, array.dtype) for x in array.ravel("K").tolist())
            kind = TYPES[array.dtype]
            self.writer(f"static const {kind} c{k}[] = {{{numbers}}};")
            found[root] = f"c{k}", 0
        for root, start in body.segment.in_arena.items():
            found[root] = self._scratch(self.step.arena + start), 0
        if self.step.status is not None:
            noted = self.plan.views[self.step.status].root
            found[body.plan.views[body.plan.status].root] = f"m{noted}", 0
        carries, last = self.counts.carries, self.n - 1 if self.reverse else 0
        for root, i in body.given.items():
            if i < carries:
                found[root] = self._row(i, self.n if self.reverse else 0), self._ahead(i)
            else:
                found[root] = self._argument(i, i < carries + self.counts.elements)
        for root, i in body.out.items():
            row = last + (not self.reverse) if i < carries else last
            found[root] = self._row(i, row), self._ahead(i)
        return {root: found[root] for root in sorted(found)}

    def _argument(self, i: int, is_element: bool) -> tuple[str, int]:
        value = self.step.instruction.inputs[i]
        view = self.plan.views[value]
        if i in self.step.copied:
            base, strides = self._scratch(self.step.copied[i]), dense_strides(value.shape)
        else:
            base, strides = f"(char *)(m{view.root} + {view.offset})", view.strides
        if not is_element:
            return base, 0
        step = strides[0] * value.dtype.itemsize
        return (f"{base} + {(self.n - 1) * step}", -step) if self.reverse else (base, step)

    def _scratch(self, start: int) -> str:
        return f"(char *)(m{self.plan.views[self.step.scratch].root}) + {start}"

    def _nbytes(self, i: int) -> int:
        """Bytes of a row of a result."""
        kind: Kind = self.kinds[i]
        return extent(kind.shape) * kind.dtype.itemsize

    def _ahead(self, i: int) -> int:
        return -self._nbytes(i) if self.reverse else self._nbytes(i)

    def _row(self, i: int, row: int) -> str:
        """The address of a row of result `i`."""
        output = self.step.instruction.output
        if i in self.step.other:
            return self._scratch(self.step.other[i] + row * self._nbytes(i))
        before = sum(
            (self.n + (k < self.counts.carries)) * self._nbytes(k)
            for k in range(i)
            if k not in self.step.other
        )
        return f"(char *)(m{self.plan.views[output].root}) + {before + row * self._nbytes(i)}"

    def _copy(self, i: int, target: str) -> None:
        """Copy an argument to where it lies in C order."""
        value: Value = self.step.instruction.inputs[i]
        writer = self.writer
        view, kind = self.plan.views[value], TYPES[value.dtype]
        sizes, (there, here) = loops(value.shape, dense_strides(value.shape), view.strides)
        names = [f"j{k}" for k in range(len(sizes))]
        writer.open("")
        writer(f"{kind} *copy = ({kind} *)({target});")
        for name, size in zip(names, sizes, strict=True):
            writer.loop(name, size)
        source = _sum(view.offset, names, here)
        writer(f"copy[{_sum(0, names, there)}] = m{view.root}[{source}];")
        writer.close(len(sizes) + 1)


def _sum(first: int, names: list[str], steps: Any) -> str:
    terms = [f"{name} * {step}" for name, step in zip(names, steps, strict=True)]
    return " + ".join([str(first), *terms])


__all__ = ["scan"]
