"""C text: lines with the ops that they compute.

The text that is built is canonical. It has numbers for names and no comments, so it does not depend
on the user's files, lines and names. Names and comments are added when `source` is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tinygrad_kr.compile.ir.program import Instruction
from tinygrad_kr.escape import comment

MOST_SHOWN = 3
"""Most ops, and most places, in one comment."""


class Line(NamedTuple):
    """A line of C. origins: the ops that it computes; above: they are shown on a line of its own,
    for the lines from here on."""

    code: str
    origins: tuple[Instruction, ...] = ()
    above: bool = False


class Function(NamedTuple):
    """A function of C. numbered: its `m3` and `v5` are the plan's roots and values; those of an
    outlined function are its own."""

    lines: Sequence[Line]
    numbered: bool = True


class Writer:
    """Lines of C with their indentation."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[Line] = []
        self.depth = depth
        self._above: tuple[Instruction, ...] = ()

    def __call__(self, code: str, origin: Instruction | None = None) -> None:
        """A line, and the op that it computes."""
        above = self._above
        origins = above or (() if origin is None else (origin,))
        self.lines.append(Line("  " * self.depth + code, origins, bool(above)))
        self._above = ()

    def computes(self, *origins: Instruction) -> None:
        """The next lines compute these ops."""
        self._above = origins

    def finish(self) -> list[Line]:
        """All lines."""
        if self._above:
            self("")
        return self.lines

    def open(self, line: str = "") -> None:
        """A line that opens a block."""
        self(f"{line} {{")
        self.depth += 1

    def close(self, blocks: int = 1) -> None:
        """Close blocks."""
        for _ in range(blocks):
            self.depth -= 1
            self("}")

    def loop(self, name: str, stop: object, start: object = 0, step: int = 1) -> None:
        """A counted loop."""
        ahead = f"{name}++" if step == 1 else f"{name} += {step}"
        self.open(f"for (int64_t {name} = {start}; {name} < {stop}; {ahead})")


def plain(text: str) -> list[Line]:
    """Lines that compute no op of the program."""
    return [Line(code) for code in text.split("\n")]


def written(functions: Iterable[Function]) -> str:
    """The text that is built."""
    return "\n".join(line.code for function in functions for line in function.lines)


def shown(functions: Iterable[Function], named: Callable[[str], str]) -> str:
    """The text with comments, and with `named` applied to code whose numbers are the plan's."""
    lines: list[str] = []
    for function in functions:
        for line in function.lines:
            code = named(line.code) if function.numbered else line.code
            said = described(line.origins)
            if said and line.above:
                depth = (len(code) - len(code.lstrip())) // 2
                lines.append("  " * depth + said)
                lines += [code] if code.strip() else []
            else:
                lines.append(f"{code}  {said}" if said else code)
    return "\n".join(lines)


def described(origins: Sequence[Instruction]) -> str:
    """The ops and places of these instructions as a comment."""
    if not origins:
        return ""
    ops = _listed(instruction.op.__name__ for instruction in origins)
    return f"/* {ops}, {_listed(instruction.source_line for instruction in origins)} */"


def _listed(texts: Iterable[str]) -> str:
    found = list(dict.fromkeys(texts))
    more = [f"{len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
    return ", ".join([*map(comment, found[:MOST_SHOWN]), *more])


__all__ = ["Function", "Line", "Writer", "described", "plain", "shown", "written"]
