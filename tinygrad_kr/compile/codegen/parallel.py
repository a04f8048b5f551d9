"""Loops so long that several cores share them: `threads.h` hands out their pieces."""

from __future__ import annotations

from tinygrad_kr.compile.codegen.outline import Text, parameters
from tinygrad_kr.compile.plan.plan import Plan

PIECE = 16_384
"""Elements that a thread takes at a time."""


def handed_out(
    plan: Plan, texts: list[tuple[Text, int]], name: str
) -> tuple[list[str], list[Text]]:
    """Functions of the long loops, and the steps with calls in their places.

    texts: with the length of their first axis those that go from its `start` to its `stop`; the
    others with 0.
    """
    functions, calls = [], []
    for k, (text, size) in enumerate(texts):
        if not size:
            calls.append(text)
            continue
        loop, given = f"{name}_long{k}", [f"m{root}" for root in text.roots]
        passed = ", ".join(f"memory[{i}]" for i in range(len(given)))
        functions.append(
            f"static APART void {loop}_piece({parameters(plan, text.roots)}, "
            f"int64_t start, int64_t stop) {{\n{text.code}\n}}\n\n"
            f"static void {loop}(void **memory, int64_t start, int64_t stop) {{\n"
            f"  {loop}_piece({passed}, start, stop);\n}}\n\n"
        )
        pointers = ", ".join(f"(void *){memory}" for memory in given)
        step = max(1, PIECE * size // _elements(plan, text))
        call = f"  tk_share({loop}, (void *[]){{{pointers}}}, {size}, {step});"
        calls.append(Text(call, text.roots))
    return functions, calls


def _elements(plan: Plan, text: Text) -> int:
    return max(plan.roots[root].size for root in text.roots)
