"""Tables by identity that keep nothing alive: what a recording knows of the arrays that exist."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import ref

from numpy import ndarray

from tinygrad_kr.ops.writes import owner


class Living:
    """A note on each of some things, for as long as the thing lives."""

    __slots__ = ("_notes", "_references")

    def __init__(self) -> None:
        self._notes: dict[int, Any] = {}
        self._references: dict[int, Any] = {}

    def put(self, thing: Any, note: Any) -> None:
        """Note this of a thing, in place of what was noted before."""
        key = id(thing)
        self._notes[key] = note
        if key not in self._references:
            self._references[key] = ref(thing, partial(_forget, self._notes, self._references, key))

    def get(self, thing: Any) -> Any:
        """The note on a thing; None if there is none."""
        return self._notes.get(id(thing))

    def pop(self, thing: Any) -> Any:
        """Drop the note on a thing, and return it; None if there is none."""
        return self._notes.pop(id(thing), None)

    def __contains__(self, thing: Any) -> bool:
        return id(thing) in self._notes

    def __len__(self) -> int:
        return len(self._notes)

    def clear(self) -> None:
        """Drop every note."""
        self._notes.clear()
        self._references.clear()


def _forget(notes: dict[int, Any], references: dict[int, Any], key: int, gone: Any) -> None:
    """A thing is gone: another one may get its id."""
    notes.pop(key, None)
    references.pop(key, None)


class Views:
    """The arrays that lie in the memory of one owner, for as long as each lives."""

    def __init__(self) -> None:
        self._by_owner: dict[int, dict[int, Any]] = {}

    def add(self, array: ndarray) -> None:
        """A view keeps its owner alive, so that no other array has the owner's id."""
        key = id(owner(array))
        views = self._by_owner.setdefault(key, {})
        views[id(array)] = ref(array, partial(self._forget, self._by_owner, key, id(array)))

    def of(self, array: ndarray) -> Iterator[ndarray]:
        """The living arrays in the memory of this one's owner."""
        for reference in [*self._by_owner.get(id(owner(array)), {}).values()]:
            view = reference()
            if view is not None:
                yield view

    def clear(self) -> None:
        """Drop them."""
        self._by_owner.clear()

    @staticmethod
    def _forget(by_owner: dict[int, dict[int, Any]], key: int, view: int, gone: Any) -> None:
        views = by_owner.get(key)
        if views is not None:
            views.pop(view, None)
            if not views:
                by_owner.pop(key, None)


__all__ = ["Living", "Views"]
