"""What is done several times is written once: the layers of a deep net are one text in C.

The time that a C compiler needs grows with what is written, and faster than that.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from tinygrad_kr.compile.codegen.pooling import TYPES
from tinygrad_kr.compile.plan.plan import Plan

TIMES = 3
"""How often a text must come to be a function: small programs are read in one piece."""

_NAMES = re.compile(r"/\*.*?\*/|\b([mtv])(\d+)\b")


class Text(NamedTuple):
    """A step in C, and the roots of memory that it uses: True where it stores something."""

    code: str
    roots: dict[int, bool]


def parameters(plan: Plan, roots: dict[int, bool]) -> str:
    """Of a function that uses these roots: GCC believes `restrict` of parameters alone, without it
    loops test whether memory overlaps."""
    return ", ".join(f"{_kind(plan, root, roots[root])} *restrict m{root}" for root in roots)


def shared(plan: Plan, texts: list[Text], name: str) -> tuple[list[str], list[Text]]:
    """Functions of what comes several times, and the steps with calls in its places."""
    forms = [_form(plan, text) for text in texts]
    often = [form for form, times in Counter(form for form, _ in forms).items() if times >= TIMES]
    called = {form: f"{name}_repeated{k}" for k, form in enumerate(often)}
    functions = [
        f"static APART void {called[form]}({form.parameters}) {{\n{form.code}\n}}\n\n"
        for form in often
    ]
    calls = [
        Text(f"  {called[form]}({', '.join(given)});", text.roots) if form in called else text
        for (form, given), text in zip(forms, texts, strict=True)
    ]
    return functions, calls


class _Form(NamedTuple):
    """A step with names that do not say which memory and values it uses."""

    parameters: str
    code: str


def _form(plan: Plan, text: Text) -> tuple[_Form, list[str]]:
    """The form of a step, and the memory that makes the step of it."""
    numbers: dict[str, dict[str, str]] = {"m": {}, "t": {}, "v": {}}

    def renamed(found: re.Match[str]) -> str:
        kind, number = found.groups()
        if kind is None:
            return found[0]
        return numbers[kind].setdefault(number, f"{kind}{len(numbers[kind])}")

    code = _NAMES.sub(renamed, text.code)
    kinds = {root: _kind(plan, int(root), text.roots[int(root)]) for root in numbers["m"]}
    listed = ", ".join(f"{kinds[root]} *restrict {new}" for root, new in numbers["m"].items())
    return _Form(listed, code), [f"m{root}" for root in numbers["m"]]


def _kind(plan: Plan, root: int, stored: bool) -> str:
    return f"{'' if stored else 'const '}{TYPES[plan.roots[root].dtype]}"
