"""What the names of a Python function that is being written stand for."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.escape import identifier


class Globals:
    """What the names of a Python function that is being written stand for."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self._known = {id(thing): name for name, thing in names.items()}

    def name(self, thing: Any, hint: str) -> str:
        """A name for an object."""
        known = self._known.get(id(thing))
        if known is None:
            known = identifier(hint, len(self.names))
            self.names[known] = thing
            self._known[id(thing)] = known
        return known
