"""The globals of generated Python functions."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.escape import identifier


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
