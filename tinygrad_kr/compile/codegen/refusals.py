"""The C of a check: a function that looks at all elements and says whether one is refused."""

from __future__ import annotations

from tinygrad_kr.compile.codegen.text import Function, Line, Writer
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.layout import loops
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import Refusal


def refusal(plan: Plan, step: Refusal, name: str) -> Function:
    """`name(void **memory)`: 1 where an element is refused, with the number noted, else 0.

    Labels and indices are few: a loop that ends at the first one refused costs a compiler less
    than vectors do.
    """
    value = step.check.value
    view, status = plan.views[value], plan.views[step.status].root
    kind, few = C_TYPES[value.dtype], value.dtype.kind == "i"
    sizes, (steps,) = loops(value.shape, view.strides)
    names = [f"i{k}" for k in range(len(sizes))]
    terms = [f"{i} * {step}" for i, step in zip(names, steps, strict=True)]
    refused = step.condition.format("x")
    writer = Writer()
    writer(f"const {kind} *m{view.root} = memory[{view.root}];")
    writer(f"int64_t *m{status} = memory[{status}];")
    writer("int refused = 0;")
    for i, size in zip(names, sizes, strict=True):
        writer.loop(i, f"{size} && !refused" if few else size)
    writer(f"{kind} x = m{view.root}[{' + '.join([str(view.offset), *terms])}];")
    writer(f"refused {'=' if few else '|='} {refused};")
    writer.close(len(names))
    writer(f"if (refused && !m{status}[0]) m{status}[0] = {step.number};")
    writer("return refused;")
    head = Line(f"static APART {'QUICK ' * few}int {name}(void **memory) {{")
    return Function([head, *writer.finish(), Line("}"), Line("")])


__all__ = ["refusal"]
