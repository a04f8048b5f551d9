"""The globals of generated Python functions."""

from __future__ import annotations

import math
from typing import Any

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.escape import identifier, string


class Globals:
    """The globals of a generated Python function, by name."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self._known = {id(thing): name for name, thing in names.items()}

    def name(self, thing: Any, hint: str) -> str:
        """The name of an object, made from `hint` if it is new."""
        known = self._known.get(id(thing))
        if known is None:
            known = identifier(hint, len(self.names))
            self.names[known] = thing
            self._known[id(thing)] = known
        return known

    def array(self, value: Value) -> str:
        """The expression for a value's array, which each runner writes in its own way."""
        raise NotImplementedError

    def term(self, x: Any) -> str:
        """An input or parameter of an op as the function writes it."""
        if isinstance(x, Value):
            return self.array(x)
        if type(x) is tuple:
            return f"({''.join(self.term(part) + ', ' for part in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self.term, x))}]"
        if type(x) is str:
            return string(x)
        if x is ...:
            return "..."
        if x is None or type(x) in (bool, int) or (type(x) is float and math.isfinite(x)):
            return repr(x)
        return self.name(x, "given")
