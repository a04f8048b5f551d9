"""Tables by identity that keep nothing alive: what a recording knows of the arrays that exist.

No reference has a callback: Python drops an interrupt that comes within one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

from numpy import ndarray

from tinygrad_kr.ops.writes import owner

_MANY = 64
"""Threshold: views of one owner from which those that are gone are dropped."""


class Living:
    """A note on each of some things, for as long as the thing lives."""

    __slots__ = ("_notes",)

    def __init__(self) -> None:
        self._notes: dict[int, tuple[Any, Any]] = {}
        """By identity: a reference to the thing, and the note."""

    def put(self, thing: Any, note: Any) -> None:
        """Note this of a thing, in place of what was noted before."""
        self._notes[id(thing)] = ref(thing), note

    def get(self, thing: Any) -> Any:
        """The note on a thing; None if there is none."""
        reference, note = self._notes.get(id(thing), _NOTHING)
        return note if reference() is thing else None

    def pop(self, thing: Any) -> Any:
        """Drop the note on a thing, and return it; None if there is none."""
        reference, note = self._notes.pop(id(thing), _NOTHING)
        return note if reference() is thing else None

    def __contains__(self, thing: Any) -> bool:
        return self._notes.get(id(thing), _NOTHING)[0]() is thing

    def __len__(self) -> int:
        return sum(reference() is not None for reference, _ in self._notes.values())

    def clear(self) -> None:
        """Drop every note."""
        self._notes.clear()


_NOTHING: tuple[Any, Any] = (object, None)
"""In place of a note: `object()` is no thing."""


class Views:
    """The arrays that lie in the memory of one owner, for as long as each lives."""

    def __init__(self) -> None:
        self._by_owner: dict[int, dict[int, Any]] = {}

    def add(self, array: ndarray) -> None:
        """A view keeps its owner alive, so that no other array has the owner's id."""
        key = id(owner(array))
        views = self._by_owner.setdefault(key, {})
        views[id(array)] = ref(array)
        if len(views) >= _MANY and not len(views) & (len(views) - 1):
            living = {
                view: reference for view, reference in views.items() if reference() is not None
            }
            self._by_owner[key] = living

    def of(self, array: ndarray) -> Iterator[ndarray]:
        """The living arrays in the memory of this one's owner."""
        for reference in [*self._by_owner.get(id(owner(array)), {}).values()]:
            view = reference()
            if view is not None:
                yield view

    def clear(self) -> None:
        """Drop them."""
        self._by_owner.clear()


__all__ = ["Living", "Views"]
