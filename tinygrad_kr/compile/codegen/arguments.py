"""How generated C finds its arrays: in the tuple that it is called with."""

from __future__ import annotations

from tinygrad_kr.compile.ir.calling import ELEMENTS, ITEMS
from tinygrad_kr.compile.plan.steps import Segment

LOOK_UP = f"""
/* The elements of array i of the tuple that a function is called with. */
static inline void *tk_elements(const void *call, int64_t i) {{
  const char *array = *(char **)((const char *)call + {ITEMS} + i * (int64_t)sizeof(void *));
  return *(void **)(array + {ELEMENTS});
}}
"""


def found(segment: Segment, size: int) -> str:
    """C that makes the table `memory` of `size` addresses, from the tuple `call`.

    The arena is the last item, where anything lies in it.
    """
    if size > MANY_ROOTS:
        return _found_by_table(segment, size)
    lines = [f"void *memory[{max(size, 1)}];"]
    lines += [f"memory[{r}] = tk_elements(call, {i});" for i, r in enumerate(segment.roots)]
    if segment.in_arena:
        lines.append(f"char *arena = tk_elements(call, {len(segment.roots)});")
        lines += [f"memory[{r}] = arena + {start};" for r, start in segment.in_arena.items()]
    return "".join(f"  {line}\n" for line in lines)


MANY_ROOTS = 200
"""Most addresses that are written out: a compiler's time grows with the square of their number."""


def _found_by_table(segment: Segment, size: int) -> str:
    """The same by loops over tables of numbers."""
    roots = ", ".join(map(str, segment.roots)) or "0"
    starts = ", ".join(f"{{{r}, {start}}}" for r, start in segment.in_arena.items()) or "{0, 0}"
    given, inside = len(segment.roots), len(segment.in_arena)
    lines = [
        f"void *memory[{size}];",
        f"static const int64_t given[] = {{{roots}}}, inside[][2] = {{{starts}}};",
        f"for (int64_t i = 0; i < {given}; i++) memory[given[i]] = tk_elements(call, i);",
    ]
    if inside:
        lines += [
            f"char *arena = tk_elements(call, {given});",
            f"for (int64_t i = 0; i < {inside}; i++) memory[inside[i][0]] = arena + inside[i][1];",
        ]
    return "".join(f"  {line}\n" for line in lines)


def entry(segment: Segment, size: int) -> str:
    """The exported C function that calls `name_(memory)`."""
    name = segment.name
    return (
        f"EXPORT void {name}(const void *call) {{\n{found(segment, size)}  {name}_(memory);\n}}\n"
    )


__all__ = ["LOOK_UP", "entry", "found"]
