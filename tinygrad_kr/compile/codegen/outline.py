"""Outlining: steps that are equal but for their memory become calls of one function.

The layers of a deep net are written once, wherever they stand in the user's code. The time that a
C compiler needs grows faster than the length of the text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from tinygrad_kr.compile.codegen.pooling import TYPES
from tinygrad_kr.compile.codegen.text import Function, Line
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.native import deadline

MIN_REPEATS = 3
"""Fewest equal steps that become a function. A small program stays in one piece."""

_NAMES = re.compile(r"\b([mtv])(\d+)\b(?:\[(\d+)( \+ |\]))?")
"""A name, and the number with which its index begins, if that is a sum or this number alone."""


Piece = tuple[str, int, int]
"""The type, the root and the first element of a piece of memory."""


class Snippet(NamedTuple):
    """A step in C, and the roots of memory that it uses: True where it stores something.

    length: of the outermost loop where that goes from `start` to `stop`; else 0. called: the
    function of which the step is a call with nothing but memory, if it is one; given: the type,
    the root and the first element of each piece of this memory.
    """

    lines: list[Line]
    roots: dict[int, bool]
    length: int = 0
    called: str = ""
    given: tuple[Piece, ...] = ()


class CanonicalForm(NamedTuple):
    """A step in which memory and values are numbered in the order of their use."""

    parameters: str
    code: tuple[str, ...]


def parameters(plan: Plan, roots: dict[int, bool]) -> str:
    """The parameters of a function that uses these roots. GCC honours `restrict` on parameters
    alone; without it loops test whether memory overlaps."""
    return ", ".join(f"{_kind(plan, root, roots[root])} *restrict m{root}" for root in roots)


def outline(plan: Plan, snippets: list[Snippet], name: str) -> tuple[list[Function], list[Snippet]]:
    """Functions of steps that come several times, and the steps, with calls of these."""
    forms = [_form(plan, snippet) for snippet in snippets]
    found: defaultdict[CanonicalForm, list[Snippet]] = defaultdict(list)
    for (form, given), snippet in zip(forms, snippets, strict=True):
        if given:
            found[form].append(snippet)
    often = {form: alike for form, alike in found.items() if len(alike) >= MIN_REPEATS}
    called = {form: f"{name}_repeated{k}" for k, form in enumerate(often)}
    functions = [_function(called[form], form, alike) for form, alike in often.items()]
    calls = [
        _call(called[form], given, snippet) if form in called else snippet
        for (form, given), snippet in zip(forms, snippets, strict=True)
    ]
    return functions, calls


def _function(name: str, form: CanonicalForm, alike: list[Snippet]) -> Function:
    """The function of equal steps: each of its lines computes what theirs do."""
    lines = [Line(f"static APART void {name}({form.parameters}) {{")]
    for i, code in enumerate(form.code):
        origins = tuple(origin for snippet in alike for origin in snippet.lines[i].origins)
        lines.append(Line(code, origins, alike[0].lines[i].above))
    return Function([*lines, Line("}"), Line("")], numbered=False)


def _call(name: str, given: tuple[Piece, ...], snippet: Snippet) -> Snippet:
    origins = tuple(origin for line in snippet.lines for origin in line.origins)
    terms = [f"m{root}" + (f" + {start}" if start else "") for _, root, start in given]
    line = Line(f"  {name}({', '.join(terms)});", origins)
    return Snippet([line], snippet.roots, called=name, given=given)


MIN_TABLE = 200
"""Fewest calls of a function that are listed in a table: a compiler takes 1 ms for a call."""


def by_number(snippets: list[Snippet]) -> list[Function]:
    """Of each function that a snippet calls, one that takes its memory by numbers."""
    found = {text.called: text.given for text in snippets if text.called}
    functions = []
    for name, given in found.items():
        terms = ", ".join(
            f"({kind} *)memory[at[{2 * i}]] + at[{2 * i + 1}]"
            for i, (kind, _, _) in enumerate(given)
        )
        head = f"static void {name}_at(void **memory, const int64_t *at) {{"
        functions.append(Function([Line(head), Line(f"  {name}({terms});"), Line("}")], False))
    return functions


def table(name: str, calls: list[Snippet]) -> Function:
    """`name(void **memory)`: the calls in turn, from a table of numbers.

    So a loop of the user's that goes round often makes data, which cost a compiler little.
    """
    most = max(len(call.given) for call in calls)
    kind = f"struct {{ void (*call)(void **, const int64_t *); int64_t at[{2 * most}]; }}"
    lines = [Line(f"static const {kind} {name}_steps[] = {{")]
    for call in calls:
        row = ", ".join(f"{root}, {start}" for _, root, start in call.given)
        lines.append(Line(f"  {{{call.called}_at, {{{row}}}}},", call.lines[0].origins))
    body = f"  for (int64_t i = 0; i < {len(calls)}; i++)"
    body += f" {name}_steps[i].call(memory, {name}_steps[i].at);"
    end = ["};", f"static APART void {name}(void **memory) {{", body, "}", ""]
    return Function([*lines, *map(Line, end)], numbered=False)


def _form(plan: Plan, snippet: Snippet) -> tuple[CanonicalForm, tuple[Piece, ...]]:
    """The form of a step, and the memory to call it with.

    What is only read may begin anywhere: rows of an array that are read in turn have one form.
    """
    deadline.check()
    pieces: dict[tuple[str, str], str] = {}
    numbers: dict[str, dict[str, str]] = {"t": {}, "v": {}}

    def renamed(found: re.Match[str]) -> str:
        kind, number, start, after = found.groups()
        if kind != "m":
            name = numbers[kind].setdefault(number, f"{kind}{len(numbers[kind])}")
            return name + found[0][len(kind + number) :]
        moves = start is not None and not snippet.roots[int(number)]
        name = pieces.setdefault((number, start if moves else "0"), f"m{len(pieces)}")
        if not moves:
            return name + found[0][len(kind + number) :]
        return f"{name}[" + ("0]" if after == "]" else "")

    code = tuple(_NAMES.sub(renamed, line.code) for line in snippet.lines)
    given = tuple(
        (_kind(plan, int(root), snippet.roots[int(root)]), int(root), int(start))
        for root, start in pieces
    )
    listed = ", ".join(
        f"{kind} *restrict {name}"
        for (kind, _, _), name in zip(given, pieces.values(), strict=True)
    )
    return CanonicalForm(listed, code), given


def _kind(plan: Plan, root: int, stored: bool) -> str:
    return f"{'' if stored else 'const '}{TYPES[plan.roots[root].dtype]}"
