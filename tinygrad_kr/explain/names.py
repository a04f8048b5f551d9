"""What explanations call a Tensor or a module: its name, its variable, its path, or a letter."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from functools import cache
from itertools import count
from types import CodeType, FrameType
from typing import Any

from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import PACKAGE, Node, notes_of

LETTERS = "ghuvpqrsmntkl"
"""For what has no name: f, w, x, y and b are those of users."""
_LARGEST = 64
"""Items of a list or dict among which Tensors are looked for."""


class Names:
    """The names that frames know.

    A Tensor is called, in this order: by its own `name`; by a variable; by its path in a module
    that a variable holds; as an item of a list or dict; by the variable to which its line
    assigned it, if its op was an operator.
    """

    def __init__(self, frame: FrameType | None) -> None:
        self._tensors: dict[int, str] = {}
        self._modules: dict[int, str] = {}
        self._kept: list[Any] = []
        items: list[tuple[str, Any]] = []
        for name, value in _variables(frame):
            self._meet(name, value)
            if isinstance(value, list | tuple | dict) and len(value) <= _LARGEST:
                items.append((name, value))
        for name, value in items:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in pairs:
                self._meet(f"{name}[{key!r:.20}]", item)

    def _meet(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self.know(value, self._modules.setdefault(id(value), name))
        elif isinstance(value, Node) or type(value).__name__ == "ndarray":
            self._kept.append(value)
            self._tensors.setdefault(id(value), name)

    def know(self, module: Module, path: str) -> None:
        """Take in the parameters and buffers of a module."""
        self._kept.append(module)
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._tensors.setdefault(id(tensor), f"{path}.{name}")

    def of_module(self, module: Module) -> str:
        """The variable of a module; its class if no variable holds it."""
        return self._modules.get(id(module), type(module).__name__.lower())

    def of_tensor(self, tensor: Any) -> str | None:
        """The name of a Tensor or array; None if nothing tells one."""
        if isinstance(tensor, Node) and (name := notes_of(tensor).name):
            return name
        return self._tensors.get(id(tensor))

    @staticmethod
    def assigned(tensor: Any) -> str | None:
        """The variable to which the line of its op assigned a Tensor."""
        if not isinstance(tensor, Node) or tensor._op is None:
            return None
        return _assigned(tensor._code).get(tensor._instruction)

    def next_letter(self, taken: dict[str, int]) -> str:
        """The next letter that is not taken: g, h, u, v, ..., g1, h1, ..."""
        for round_ in count():
            for letter in LETTERS:
                name = f"{letter}{round_ or ''}"
                if name not in taken:
                    taken[name] = 1
                    return name
        raise AssertionError


def _variables(frame: FrameType | None) -> Iterator[tuple[str, Any]]:
    """The variables of a frame and of its callers, then the globals of each."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < 50:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            frames.append(frame)
        frame = frame.f_back
    for one in frames:
        yield from _named(dict(one.f_locals))
    for one in frames:
        if one.f_globals is not one.f_locals:
            yield from _named(dict(one.f_globals))


def _named(variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in variables.items() if not name.startswith("_"))


@cache
def _assigned(code: CodeType) -> dict[int, str]:
    """The variable to which each operator's result is assigned at once, by its offset.

    Not those of calls: a function of the package may call several ops.
    """
    if code.co_filename.startswith(PACKAGE):
        return {}
    found: dict[int, str] = {}
    before: int | None = None
    for instruction in dis.get_instructions(code):
        if before is not None and instruction.opname.startswith("STORE_"):
            target = instruction.argval
            name = target[0] if isinstance(target, tuple) else target
            if isinstance(name, str) and instruction.opname != "STORE_ATTR":
                found[before] = name
        is_operator = instruction.opname.startswith(("BINARY_", "UNARY_"))
        before = instruction.offset if is_operator else None
    return found
