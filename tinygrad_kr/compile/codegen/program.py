"""The whole C file of a plan, and what a person reads of it."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.compile.codegen.arguments import LOOK_UP, entry, found
from tinygrad_kr.compile.codegen.loops import functions_of
from tinygrad_kr.compile.codegen.naming import SymbolNames
from tinygrad_kr.compile.codegen.solutions import pointers_of
from tinygrad_kr.compile.codegen.text import Function, described, plain, shown, written
from tinygrad_kr.compile.ir.c_ops import C_TYPES, OF_TRIGONOMETRY
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import Segment, TiledConvolution, instructions_of
from tinygrad_kr.native.kernels import F64, PRELUDE, pointers


class CProgram:
    """A plan in C.

    text: what is built.
    """

    def __init__(self, plan: Plan, names: SymbolNames) -> None:
        self.names = names
        self._functions: list[Function] = [Function(plain(LOOK_UP), numbered=False)]
        for segment in plan.segments:
            self._add(plan, segment)
        self.is_empty = len(self._functions) == 1
        """Whether there is nothing to build."""
        if plan.looped is not None:
            self._functions.append(_loop(plan, plan.looped))
        body = written(self._functions)
        steps = plan.all_steps
        ops = {instruction.op for step in steps for instruction in instructions_of(step)}
        tiled = [step for step in steps if isinstance(step, TiledConvolution)]
        self.is_connected = "tk_parallel_for(" in body or "tk_gemm" in body or bool(tiled)
        """Whether it calls the shared libraries of products and threads."""
        self.products = [
            suffix
            for suffix in ("", F64)
            if f"tk_gemm{suffix}(" in body or f"tk_gemm_stack{suffix}(" in body
        ]
        """The types of the shared products that it calls, as `kernels.library` names them."""
        f64 = any(step.dtype == "float64" for step in tiled)
        lines = pointers(bool(tiled), f64, self.products) if self.is_connected else []
        solutions = pointers_of(plan.steps)
        self.solvers = {
            name: (step.instruction.output.dtype, step.function) for name, step in solutions.items()
        }
        """By pointer, the dtype and the name of the function of `solving.h` that it needs."""
        lines += [
            f"EXPORT int64_t (*{name})(const int64_t *given, const void *share);"
            for name in self.solvers
        ]
        lines += ['#include "dot.h"'] * ("tk_dot" in body)
        lines += ['#include "trigonometry.h"'] * bool(ops & OF_TRIGONOMETRY)
        self._head = "\n".join([PRELUDE, *lines, "", ""])
        self.text = self._head + body

    def _add(self, plan: Plan, segment: Segment) -> None:
        if segment.is_c:
            self._functions += functions_of(plan, segment)
            if plan.looped is None:
                text = entry(segment, len(plan.roots))
                self._functions.append(Function(plain(text), numbered=False))

    def shown(self) -> str:
        """The text with the user's names, and with the op and the line of each result."""
        return self._head + shown(self._functions, self.names)

    def origin(self, number: int) -> str:
        """The ops and places of line `number` of the text; of a line without any, those of the
        line before it in its function."""
        at = number - 1 - self._head.count("\n")
        for function in self._functions:
            if 0 <= at < len(function.lines):
                before = [line.origins for line in function.lines[: at + 1] if line.origins]
                return described(before[-1]) if before else ""
            at -= len(function.lines)
        return ""


def c_program(plan: Plan, tracer: Any) -> CProgram:
    """A plan in C, with the user's names for `shown`."""
    return CProgram(plan, SymbolNames(plan.program, tracer, plan.roots))


def _loop(plan: Plan, result: Value) -> Function:
    """The only segment again and again, or once; `steps` are the bytes by which `roots` advance.

    It returns the number of the step that a check refuses, else `stop`.
    """
    kind, root, segment = C_TYPES[result.dtype], plan.views[result].root, plan.segments[0]
    status = None if plan.status is None else plan.views[plan.status].root
    stop = "" if status is None else f"    if (*(int64_t *)memory[{status}]) return i;\n"
    text = (
        "EXPORT QUICK int64_t loop(const void *call, int64_t start, int64_t stop,\n"
        "                          int64_t advancing, const int64_t *roots,\n"
        f"                          const int64_t *steps, {kind} *results) {{\n"
        f"{found(segment, len(plan.roots))}"
        "  for (int64_t k = 0; k < advancing; k++)\n"
        "    memory[roots[k]] = (char *)memory[roots[k]] + start * steps[k];\n"
        "  for (int64_t i = start; i < stop; i++) {\n"
        "    part0_(memory);\n"
        f"{stop}"
        f"    results[i] = *({kind} *)memory[{root}];\n"
        "    for (int64_t k = 0; k < advancing; k++)\n"
        "      memory[roots[k]] = (char *)memory[roots[k]] + steps[k];\n"
        "  }\n"
        "  return stop;\n"
        "}\n\n"
        f"EXPORT void {segment.name}(const void *call) {{\n"
        f"  {kind} result;\n"
        "  loop(call, 0, 1, 0, 0, 0, &result);\n"
        "}\n"
    )
    return Function(plain(text), numbered=False)


__all__ = ["CProgram", "c_program"]
