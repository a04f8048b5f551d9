"""Loops so long that several cores share them: `threads.h` hands out their pieces."""

from __future__ import annotations

from tinygrad_kr.compile import threads
from tinygrad_kr.compile.layout import extent
from tinygrad_kr.compile.plan import Loop, Plan, Step, TiledProduct
from tinygrad_kr.compile.repeated import Text, parameters
from tinygrad_kr.compile.window_pieces import TiledConvolution

LONG = 500_000
"""Elements from which on a helper's waking up, some 30 microseconds, is won back: measured with
Adam's update, of which 200,704 elements take 43 microseconds on one core and on two, and 1,048,576
take 283 on one and 143 on two."""
LONG_BESIDE_PRODUCTS = 50_000
"""The same where helpers are awake, for large products have them as well: the longest loop of an
MNIST step, 77 microseconds on one core, let them fall asleep in half of its runs."""
PIECE = 16_384
"""Elements that a thread takes at a time."""


def is_long(plan: Plan, step: Step) -> bool:
    """Whether a step is a loop for several threads."""
    size = extent(step.shape) if isinstance(step, Loop) else 0
    enough = size >= LONG or (
        size >= LONG_BESIDE_PRODUCTS
        and any(isinstance(other, TiledProduct | TiledConvolution) for other in plan.steps)
    )
    return enough and threads.helpers() > 0


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
