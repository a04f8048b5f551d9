"""Names for the values of a generated program: the user's own where there are any."""

from __future__ import annotations

import inspect
import linecache
import os
import re
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any

from tinygrad_kr.compile.ir.bindings import Argument, Gradient, GradientWrite, Leaf
from tinygrad_kr.compile.ir.program import Program, Value
from tinygrad_kr.escape import identifier
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node

__all__ = ["SymbolNames", "assigned_name", "leaf_names"]

_ASSIGNED = re.compile(r"\s*([A-Za-z_]\w*)\s*(?::[^=]*)?=[^=]", re.ASCII)
_NUMBERED = re.compile(r"\b([mv])(\d+)\b")
"""Memory `m8` and numbers `v17` of generated C, which holds no text of the user's."""
_IN_PYTHON = re.compile(
    r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\#.*|\b([aht])(\d+)\b""", re.ASCII
)
"""Arrays `a17`, but in strings and comments."""
_KINDS = {"a": "{}_array", "h": "{}_array_before", "t": "{}_tensor"}


class SymbolNames:
    """`names(c)`: C with readable names: `sigmoid_17` for an array, `sigmoid_17_i` for one element.

    The number at the end is the value's own, so no two names meet.
    """

    def __init__(self, program: Program, tracer: Any, roots: Sequence[Value]) -> None:
        leaves = leaf_names(tracer.function)
        hints = {
            value: _hint_of(source, tracer.argument_names, leaves)
            for value, source in program.inputs.items()
        }
        last = {instruction.source_line: instruction.output for instruction in program.instructions}
        for instruction in program.instructions:
            output = instruction.output
            assigned = (
                assigned_name(instruction.source_line)
                if last[instruction.source_line] is output
                else None
            )
            hints[output] = assigned or instruction.op.__name__
        for binding in program.outputs:
            if isinstance(binding, GradientWrite) and binding.value is not None:
                hints[binding.value] = f"grad_of_{leaves.get(id(binding.leaf), 'tensor')}"
        self.by_number = {v.number: identifier(hint, v.number) for v, hint in hints.items()}
        self._roots = [value.number for value in roots]

    def __call__(self, text: str) -> str:
        """The C with names."""
        return _NUMBERED.sub(self._named, text)

    def in_python(self, text: str) -> str:
        """Python with names for `a17`, an array, `h17`, the one before, and `t17`, its Tensor."""
        return _IN_PYTHON.sub(self._named_in_python, text)

    def _named_in_python(self, found: re.Match[str]) -> str:
        kind, number = found[1], found[2]
        if kind is None:
            return found[0]
        return _KINDS[kind].format(self.by_number.get(int(number), found[0]))

    def _named(self, found: re.Match[str]) -> str:
        kind, number = found.groups()
        if kind == "m":
            return self.by_number.get(self._roots[int(number)], found[0])
        name = self.by_number.get(int(number))
        return found[0] if name is None else f"{name}_i"


def _hint_of(source: Any, arguments: Sequence[str], leaves: dict[int, str]) -> str:
    if isinstance(source, Argument):
        return arguments[source.index]
    if isinstance(source, Leaf):
        return leaves.get(id(source.node), "tensor")
    if isinstance(source, Gradient):
        return f"grad_of_{leaves.get(id(source.leaf), 'tensor')}"
    name: str = getattr(source, "name", type(source).__name__.lower())
    return name


def leaf_names(function: Callable[..., Any]) -> dict[int, str]:
    """What a function calls the Tensors, parameters and buffers that it reads, by their ids."""
    names: dict[int, str] = {}
    for name, thing in _named_things(function):
        if not isinstance(name, str):  # as a key of `vars(self)` may be
            continue
        if isinstance(thing, Node):
            names.setdefault(id(thing), name)
        elif isinstance(thing, Module):
            for key, tensor in (*thing.named_parameters(), *thing.named_buffers()):
                names.setdefault(id(tensor), f"{name}_{key}")
    return names


def _named_things(function: Any) -> Iterator[tuple[str, Any]]:
    function = inspect.unwrap(function)
    if isinstance(function, MethodType):
        yield "self", function.__self__
        yield from getattr(function.__self__, "__dict__", {}).items()
        function = function.__func__
    if isinstance(function, Module):
        yield "self", function
    if isinstance(function, FunctionType):
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:
                continue
        for name in code.co_names:
            if name in function.__globals__:
                yield name, function.__globals__[name]


def assigned_name(source_line: str) -> str | None:
    """The variable that the user's line at `file:line` assigns to, if it is a single one."""
    file, _, line = source_line.rpartition(":")
    if not (line.isdecimal() and (file in linecache.cache or os.path.isfile(file))):
        return None
    found = _ASSIGNED.match(linecache.getline(file, int(line)))
    return found[1] if found else None
