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

_NAMES = re.compile(r"\b([mtv])(\d+)\b")


class Snippet(NamedTuple):
    """A step in C, and the roots of memory that it uses: True where it stores something.

    length: of the outermost loop where that goes from `start` to `stop`; else 0.
    """

    lines: list[Line]
    roots: dict[int, bool]
    length: int = 0


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


def _call(name: str, given: list[str], snippet: Snippet) -> Snippet:
    origins = tuple(origin for line in snippet.lines for origin in line.origins)
    return Snippet([Line(f"  {name}({', '.join(given)});", origins)], snippet.roots)


def _form(plan: Plan, snippet: Snippet) -> tuple[CanonicalForm, list[str]]:
    """The form of a step, and the memory to call it with."""
    deadline.check()
    numbers: dict[str, dict[str, str]] = {"m": {}, "t": {}, "v": {}}

    def renamed(found: re.Match[str]) -> str:
        kind, number = found.groups()
        return numbers[kind].setdefault(number, f"{kind}{len(numbers[kind])}")

    code = tuple(_NAMES.sub(renamed, line.code) for line in snippet.lines)
    kinds = {root: _kind(plan, int(root), snippet.roots[int(root)]) for root in numbers["m"]}
    listed = ", ".join(f"{kinds[root]} *restrict {new}" for root, new in numbers["m"].items())
    return CanonicalForm(listed, code), [f"m{root}" for root in numbers["m"]]


def _kind(plan: Plan, root: int, stored: bool) -> str:
    return f"{'' if stored else 'const '}{TYPES[plan.roots[root].dtype]}"
