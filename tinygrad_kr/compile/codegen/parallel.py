"""Loops so long that several cores share them: `threads.h` hands out their pieces."""

from __future__ import annotations

from tinygrad_kr.compile.codegen.outline import Snippet, parameters
from tinygrad_kr.compile.codegen.text import Function, Line
from tinygrad_kr.compile.plan.plan import Plan

PIECE = 16_384
"""Elements that a thread takes at a time."""


def parallel_for(
    plan: Plan, snippets: list[Snippet], name: str
) -> tuple[list[Function], list[Snippet]]:
    """Functions of the loops for several threads, and the steps with calls in their places."""
    functions, calls = [], []
    for k, snippet in enumerate(snippets):
        if not snippet.length:
            calls.append(snippet)
            continue
        loop, given = f"{name}_long{k}", [f"m{root}" for root in snippet.roots]
        passed = ", ".join(f"memory[{i}]" for i in range(len(given)))
        head = (
            f"static APART void {loop}_piece({parameters(plan, snippet.roots)}, "
            "int64_t start, int64_t stop) {"
        )
        after = [
            *("}", "", f"static void {loop}(void **memory, int64_t start, int64_t stop) {{"),
            *(f"  {loop}_piece({passed}, start, stop);", "}", ""),
        ]
        functions.append(Function([Line(head), *snippet.lines, *map(Line, after)]))
        pointers = ", ".join(f"(void *){memory}" for memory in given)
        step = max(1, PIECE * snippet.length // _elements(plan, snippet))
        call = f"  tk_parallel_for({loop}, (void *[]){{{pointers}}}, {snippet.length}, {step});"
        calls.append(Snippet([Line(call)], snippet.roots))
    return functions, calls


def _elements(plan: Plan, snippet: Snippet) -> int:
    return max(plan.roots[root].size for root in snippet.roots)
